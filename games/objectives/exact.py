"""Exact compromises by one game: the weighted sum, the majority, the worst case."""

from __future__ import annotations

from typing import Any

from ..equilibria.nash import nash
from ..forms.game import PreferenceGame
from .compromise import Compromise
from .multi_objective import MultiObjectiveGame


def weights(game: MultiObjectiveGame, weights: Any) -> Compromise:
    """The Nash equilibrium of the weighted sum of the objectives.

    .. math::  \\pi^* = \\arg\\max_\\pi \\min_{\\pi'} \\sum_m w_m P_m(\\pi \\succ \\pi')

    The sum is a preference game, so its value is 1/2 and the policy is its own certificate.

    Args:
        game: the objectives.
        weights: one per objective, in order or by name; not negative, divided by their sum.

    Returns:
        The equilibrium; its multipliers are the weights, divided by their sum.

    Raises:
        ValueError: weights that are negative, all 0, or not one per objective.

    Source: linear scalarisation, Zadeh 1963.

    Example:
        >>> from nashward import games
        >>> ladder, opposed = [[0.5, 0.9], [0.1, 0.5]], [[0.5, 0.1], [0.9, 0.5]]
        >>> game = games.MultiObjectiveGame([ladder, opposed], ["a", "b"])
        >>> weights(game, {"a": 3, "b": 1}).policy
        tensor([1., 0.], dtype=torch.float64)
    """
    table = game.weighted(weights)
    given = [weights[name] for name in game.names] if hasattr(weights, "keys") else [*weights]
    total = sum(map(float, given))
    return _symmetric(table, {name: float(w) / total for name, w in zip(game.names, given, strict=True)})


def majority(game: MultiObjectiveGame) -> Compromise:
    """The Nash equilibrium of the majority of the objectives.

    .. math::
        P(i \\succ j) = \\Pr(S > m / 2) + \\tfrac12 \\Pr(S = m / 2), \\quad S = \\sum_k \\mathrm{Bernoulli}(P_{k,ij})

    Args:
        game: the objectives, each of which casts one vote, independently of the others.

    Returns:
        The equilibrium; the multipliers are 1 / m each.

    Source: Condorcet 1785.

    Example:
        >>> from nashward import games
        >>> first, second = [[0.5, 1, 1], [0, 0.5, 1], [0, 0, 0.5]], [[0.5, 0, 0], [1, 0.5, 1], [1, 0, 0.5]]
        >>> third = [[0.5, 1, 0], [0, 0.5, 0], [1, 1, 0.5]]  # 0 > 1 > 2, 1 > 2 > 0 and 2 > 0 > 1: Condorcet's cycle
        >>> majority(games.MultiObjectiveGame([first, second, third])).policy * 3
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    return _symmetric(game.majority(), {name: 1 / len(game.names) for name in game.names})


def _symmetric(table: PreferenceGame, multipliers: dict[str, float]) -> Compromise:
    policy = nash(table).policy
    best = float((table.win_rate(policy) - 0.5).max())
    return Compromise(policy, 0.5 - best, 0.5 + best, 0.0, multipliers)


def worst_case(game: MultiObjectiveGame) -> Compromise:
    """The Blackwell winner: the policy whose worst objective against its worst reply is best.

    .. math::  \\max_\\pi \\min_{m, y} P_m(\\pi \\succ y) \\le 1/2

    The minimum over objectives breaks the symmetry: the adversary chooses an objective and a reply, so the value is 1/2
    only where one policy is an equilibrium of every objective, and the certificate needs both players. The linear
    program is solved as the game of n actions against m n pairs.

    Args:
        game: the objectives.

    Returns:
        The policy, the value, and as ``bound`` the most that any policy wins against the adversary's mixture; the
        multipliers are the adversary's weights on the objectives.

    Source: arXiv 2105.01850 (the Blackwell winner for the target P_m >= 1/2 in the maximum norm).

    Example:
        >>> from nashward import games
        >>> ladder, opposed = [[0.5, 0.9], [0.1, 0.5]], [[0.5, 0.1], [0.9, 0.5]]
        >>> found = worst_case(games.MultiObjectiveGame([ladder, opposed], ["a", "b"]))
        >>> found.policy, round(found.value, 12), found.status
        (tensor([0.5000, 0.5000], dtype=torch.float64), 0.3, 'ok')
    """
    table = game.against_all()
    row, column = nash(table).policy
    shares = column.reshape(len(game.names), -1).sum(-1)
    value, bound = float((row @ table.payoff).min()), float((table.payoff @ column).max())
    return Compromise(row, value, bound, 0.0, dict(zip(game.names, shares.tolist(), strict=True)))
