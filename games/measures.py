"""Measures of a policy: pure functions of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .forms.game import Game, Players, check_game
from .forms.payoff_numbers import as_floats
from .shapes import Float

TIED = 1e-9  # probabilities that differ by less count as equal


def shown_gap(gap: Any) -> str:
    """A duality gap in words; below 1e-12 it is rounding, and differs between machines.

    Args:
        gap: a number, or a tensor of one.

    Example:
        >>> shown_gap(2e-16), shown_gap(0.0213)
        ('below 1e-12', '2.1e-02')
    """
    return "below 1e-12" if float(gap) < 1e-12 else f"{float(gap):.1e}"


def shown_unique(unique: Any) -> str:
    """``Equilibrium.unique`` in words.

    Example:
        >>> shown_unique(True), shown_unique(False), shown_unique(None)
        ('unique', 'one of several', 'not known to be unique')
    """
    return "not known to be unique" if unique is None else "unique" if bool(unique) else "one of several"


def duality_gap(game: Game, policy: Any) -> Float[Tensor, "..."]:
    """The sum of what both players gain by best responses; 0 exactly at a Nash equilibrium.

    For a symmetric game whose two players both play pi

    .. math::  gap(\\pi) = \\max_p P(p \\succ \\pi) - \\min_p P(\\pi \\succ p) = 2 (\\max_y (P \\pi)_y - 1/2)

    and for an ``n x m`` game the gap of the pair (row, column). Exploitability is half of it.

    Args:
        game: a game or a batch of games.
        policy: [..., n] probabilities; for an ``n x m`` game a pair (row, column).

    Returns:
        [...], in units of the payoff.

    Raises:
        ValueError: a policy of another shape, or that is not a distribution.

    See also:
        ``exploitability``, half of it; ``games.equilibria.regularised_gap``, the gap of the regularised game.

    Source: arXiv 2405.00675, section 3 (the duality gap of SPPO).

    Example:
        >>> from nashward import games
        >>> games.duality_gap(games.zoo.rock_paper_scissors(), [1.0, 0.0, 0.0])
        tensor(1., dtype=torch.float64)
    """
    check_game(game)
    return gap_of(game, game.players(policy))


def gap_of(game: Game, players: Players) -> Float[Tensor, "..."]:
    """``duality_gap`` of valid policies, which are not checked."""
    paid = game.payoffs(players)
    if len(players) == 1:  # the two players of a symmetric game are alike; centred, so that rounding stays near 1e-17
        gap = 2 * (paid[0] - game.total / 2).amax(-1)
    else:
        gap = paid[0].amax(-1) + paid[1].amax(-1) - game.total
    largest = torch.stack([each.abs().amax(-1) for each in paid]).amax(0)
    return without_rounding_below_0(gap, largest + abs(game.total))


def without_rounding_below_0(gap: Float[Tensor, "..."], largest: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Gaps of which those that rounding put below 0, as of an equilibrium, are 0; one further below is shown as it is.

    Args:
        gap: duality gaps, [...].
        largest: the size of the numbers that they are sums of, broadcast to [...].

    Example:
        >>> without_rounding_below_0(torch.tensor([-1e-16, -0.1], dtype=torch.float64), torch.tensor(1.0)).tolist()
        [0.0, -0.1]
    """
    rounding = 16 * torch.finfo(gap.dtype).eps * largest
    return torch.where((gap < 0) & (gap >= -rounding), 0.0, gap)


def exploitability(game: Game, policy: Any) -> Float[Tensor, "..."]:
    """Half the duality gap, [...]: the players' mean gain from a best response to the other's policy.

    OpenSpiel calls the gap NashConv; this is NashConv divided by the number of players.

    Args:
        game: a game or a batch of games.
        policy: [..., n] probabilities; for an ``n x m`` game a pair (row, column).

    Raises:
        ValueError: as ``duality_gap``.

    Source: OpenSpiel, ``exploitability`` and ``nash_conv``.

    Example:
        >>> from nashward import games
        >>> games.exploitability(games.zoo.rock_paper_scissors(), [1.0, 0.0, 0.0])
        tensor(0.5000, dtype=torch.float64)
    """
    return duality_gap(game, policy) / 2


def total_variation(p: Any, q: Any) -> Float[Tensor, "*#batch"]:
    """Half the sum of absolute differences of two distributions, [...] in [0, 1].

    Args:
        p, q: [..., n] probabilities; of different numbers of dimensions they are broadcast.

    Raises:
        ValueError: not distributions over the same n.

    Source: Levin, Peres & Wilmer 2009, "Markov chains and mixing times".

    Example:
        >>> total_variation(torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1]))
        tensor(0.4000)
    """
    return variation_of(*_distributions(p, q))


def variation_of(p: Float[Tensor, "*#batch n"], q: Float[Tensor, "*#batch n"]) -> Float[Tensor, "*#batch"]:
    """``total_variation`` of valid distributions, which are not checked."""
    return (p - q).abs().sum(-1) / 2


def kl_divergence(p: Any, q: Any) -> Float[Tensor, "*#batch"]:
    """KL(p || q) in nats, [...]; 0 log 0 = 0, infinite where q misses mass that p has.

    Args:
        p, q: [..., n] probabilities; of different numbers of dimensions they are broadcast.

    Raises:
        ValueError: not distributions over the same n.

    Source: Kullback & Leibler 1951.

    Example:
        >>> kl_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
        tensor(0.6931)
    """
    p, q = _distributions(p, q)
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1)


def _distributions(p: Any, q: Any) -> tuple[Float[Tensor, "*#batch n"], Float[Tensor, "*#batch n"]]:
    both = as_floats(p), as_floats(q)
    for one in both:
        near = 1e-6 if one.dtype == torch.float64 else 1e-3
        wrong = (
            not one.ndim or not one.isfinite().all() or (one < -near).any() or ((one.sum(-1) - 1).abs() > near).any()
        )
        if wrong:
            raise NashwardError(f"expected probabilities [..., n] that sum to 1, got {quoted(one.tolist(), 80)}")
    try:
        torch.broadcast_shapes(*(one.shape[:-1] for one in both))
        fit = both[0].shape[-1] == both[1].shape[-1]
    except RuntimeError:
        fit = False
    if not fit:
        raise NashwardError(
            f"expected distributions over the same actions, got the shapes {list(both[0].shape)} and "
            f"{list(both[1].shape)}"
        )
    return both[0].clamp_min(0), both[1].clamp_min(0)


def most_played_first(policy: Float[Tensor, " n"]) -> list[int]:
    """The actions by their probabilities, the largest first; those that differ by rounding only keep their order.

    Args:
        policy: [n] probabilities.

    Example:
        >>> most_played_first(torch.tensor([0.25, 0.5 - 1e-16, 0.25 + 1e-16], dtype=torch.float64))
        [1, 0, 2]
    """
    ranked = policy.argsort(descending=True, stable=True).tolist()
    ties: list[list[int]] = []
    for action in ranked:
        if not ties or float(policy[ties[-1][-1]] - policy[action]) > TIED:
            ties.append([])
        ties[-1].append(action)
    return [action for tied in ties for action in sorted(tied)]
