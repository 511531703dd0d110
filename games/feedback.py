"""What a step sees of the payoff: the exact payoff, K samples of the opponent, or single duels.

A feedback is a function of the game, the opponent and the number of the round; the draws of a round depend on the seed
and the round alone, so that a run can be repeated or replayed. It belongs to the table executor; solvers do not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .forms.game import ConstantSumGame, Game, Players, PreferenceGame
from .step import is_finite

Weight: TypeAlias = float | Tensor  # a tensor [solvers, 1, ...] of solvers that are played together
Opponent: TypeAlias = Sequence[tuple[Weight, Players]]  # a linear blend: (weight, probabilities of each player)
Feedback: TypeAlias = Callable[[Game, Opponent, int], Players]
"""What a step sees: (game, opponent, round) -> the payoff of each action, [..., n] per player; see the module."""


def blended(weights: Sequence[Weight], policies: Sequence[Players]) -> Players:
    """The linear blend ``sum_k w_k policies[k]``, player by player.

    Args:
        weights: w_k, of any sign.
        policies: for each k a tuple with one tensor [..., n] per player.

    Returns:
        One tensor [..., n] per player.

    Example:
        >>> blended([0.5, 0.5], [(torch.tensor([1.0, 0.0]),), (torch.tensor([0.0, 1.0]),)])
        (tensor([0.5000, 0.5000]),)
    """
    return tuple(_sum(weights, members) for members in zip(*policies, strict=True))


def _sum(weights: Sequence[Weight], members: Sequence[Tensor]) -> Tensor:
    first = weights[0]
    total = members[0] if not isinstance(first, Tensor) and first == 1 else first * members[0]
    for weight, member in zip(weights[1:], members[1:], strict=True):
        total = total + weight * member if isinstance(weight, Tensor) else torch.add(total, member, alpha=weight)
    return total


def exact(game: Game, opponent: Opponent, round: int = 0) -> Players:
    """The exact payoff of every action against a linear blend.

    Args:
        game: a game or a batch of games.
        opponent: (weight, policies) of each member; policies are a tuple with one tensor [..., n] per player.
        round: not used.

    Returns:
        What every action earns, [..., n] for each player.

    Example:
        >>> from nashward import games
        >>> rock = (torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64),)
        >>> exact(games.zoo.rock_paper_scissors(), [(1.0, rock)])
        (tensor([0.5000, 1.0000, 0.0000], dtype=torch.float64),)
    """
    return game.payoffs(blended([weight for weight, _ in opponent], [players for _, players in opponent]))


Seeds: TypeAlias = int | Sequence[int]
"""The seed of the draws; or one for each of the trajectories along the first axis of the policies."""


def _generator(seed: int, round: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, round]))


class _Draws:
    """The draws of one round, from one generator or from one per trajectory, each as if it were played alone."""

    def __init__(self, seed: Seeds, round: int):
        self.several = np.ndim(seed) > 0
        self.generators = [_generator(one, round) for one in np.atleast_1d(seed)]

    def multinomial(self, count: int, p: NDArray[np.float64]) -> NDArray[np.int64]:
        """How often each action is drawn in ``count`` draws, [..., n]."""
        if not self.several:
            return self.generators[0].multinomial(count, p)
        self._check(p.shape)
        return np.stack([rng.multinomial(count, q) for rng, q in zip(self.generators, p, strict=True)])

    def uniform(self, kinds: int, shape: Sequence[int]) -> NDArray[np.float64]:
        """Uniform numbers, [kinds, *shape]."""
        if not self.several:
            return self.generators[0].random((kinds, *shape))
        self._check(shape)
        return np.stack([rng.random((kinds, *shape[1:])) for rng in self.generators], axis=1)

    def _check(self, shape: Sequence[int]) -> None:
        if len(shape) < 2 or shape[0] != len(self.generators):
            count = len(self.generators)
            raise NashwardError(
                f"{count} seeds are for {count} trajectories, along the first axis of the start; the policies have "
                f"shape {list(shape)} (games.sweep(..., seeds=...) makes them)"
            )


def _check_seeds(seed: Seeds) -> None:
    for one in seed if isinstance(seed, Sequence | np.ndarray) else [seed]:
        if not (is_finite(one) and one == int(one) and one >= 0):
            raise NashwardError(f"a seed is a whole number >= 0, got {quoted(one, 80)}")


@dataclass(frozen=True)
class SampledFeedback:
    """Payoffs against ``k`` actions drawn from each member of the opponent.

    .. math::  G_y = \\sum_j c_j \\frac{1}{K} \\sum_{i=1}^{K} P(y \\succ y_{ji}), \\qquad y_{ji} \\sim \\rho_j

    which is unbiased. With ``self_comparison`` one of the K is the action itself, as in SPPO's code: its 1/2 shrinks
    ``E G - 1/2`` by exactly (K - 1) / K, a smaller step under another name.

    Args:
        k: samples of each member of the opponent.
        seed: the seed of the draws; or one for each trajectory along the first axis of the start.
        self_comparison: compare each action with itself and k - 1 samples.

    Raises:
        ValueError: k < 1 (< 2 with self_comparison); a seed below 0; not as many seeds as trajectories;
            self_comparison in an ``n x m`` game.

    Example:
        >>> from nashward import games
        >>> game, feedback = games.zoo.comal_cycle(), games.feedback.SampledFeedback(k=5, seed=1)
        >>> games.solve(game, games.MWU(0.1), iterations=1000, feedback=feedback).gaps["average"][-1] < 0.05
        tensor(True)
    """

    k: int
    seed: Seeds = 0
    self_comparison: bool = False

    def __post_init__(self) -> None:
        if not (is_finite(self.k) and self.k == int(self.k)):
            raise NashwardError(f"k must be a whole number, got {quoted(self.k, 40)}")
        if self.k < 1 + self.self_comparison:
            raise NashwardError(f"k must be at least {1 + self.self_comparison}, got {self.k}")
        _check_seeds(self.seed)

    def __call__(self, game: Game, opponent: Opponent, round: int) -> Players:
        if self.self_comparison and isinstance(game, ConstantSumGame):
            raise NashwardError(
                "an action is compared with itself in a preference game only; set self_comparison=False"
            )
        draws, count = _Draws(self.seed, round), self.k - self.self_comparison

        def drawn(p: Tensor) -> Tensor:
            shares = draws.multinomial(count, (p / p.sum(-1, keepdim=True)).cpu().numpy()) / count
            return torch.as_tensor(shares, dtype=p.dtype, device=p.device)

        payoffs = exact(game, [(weight, tuple(map(drawn, players))) for weight, players in opponent])
        share = count / self.k
        return tuple(share * payoff + (1 - share) / 2 for payoff in payoffs) if self.self_comparison else payoffs


@dataclass(frozen=True)
class DuelingFeedback:
    """Payoffs estimated from the winners of single duels, by default one per round.

    Both sides are drawn from the opponent's distribution rho, mixed with the uniform one,

    .. math::
        i, j \\sim q = (1 - \\gamma) \\frac{|\\rho|}{\\| \\rho \\|_1} + \\frac{\\gamma}{n}, \\qquad
        \\hat A = \\frac{w - 1/2}{2 q_i q_j} (e_i e_j^\\top - e_j e_i^\\top), \\qquad G = \\frac12 + \\hat A \\rho

    with w = 1 if i won and 0 if j did: E G = P rho, whatever q is. The noise is of the size of 1 / min q.

    In an ``n x m`` game with payoffs A and total c the row action i is drawn from the row player's rho and the column
    action j from the column player's sigma, each with its own gamma; the winner gets the stake s and the loser c - s
    (``ConstantSumGame.stake``), so that i wins with probability (A_ij - c + s) / (2 s - c), and

    .. math::
        \\hat A = \\frac{(w - 1/2) (2 s - c)}{q_i r_j} e_i e_j^\\top, \\qquad
        G = \\frac c2 + \\hat A \\sigma, \\qquad H = \\frac c2 - \\hat A^\\top \\rho

    which are unbiased as well: E G = A sigma and E H = c - A^T rho.

    Args:
        seed: the seed of the draws; or one for each trajectory along the first axis of the start.
        duels: the number of duels per round.
        explore: gamma in (0, 1], the share of uniform draws.

    Raises:
        ValueError: duels < 1, explore not in (0, 1], a seed below 0, not as many seeds as trajectories, a game
            without a table of payoffs.

    Example:
        >>> from nashward import games
        >>> game = games.zoo.comal_cycle()
        >>> duels = games.feedback.DuelingFeedback(seed=1)
        >>> solution = games.solve(game, games.MWU(0.01), iterations=5000, feedback=duels)
        >>> bool(solution.gaps["average"][-1] < 0.1)
        True
    """

    seed: Seeds = 0
    duels: int = 1
    explore: float = 0.2

    def __post_init__(self) -> None:
        if self.duels < 1:
            raise NashwardError(f"duels must be at least 1, got {self.duels}")
        if not 0 < self.explore <= 1:
            raise NashwardError(
                f"explore must be in (0, 1], so that every action has some probability, got {self.explore}"
            )
        _check_seeds(self.seed)

    def __call__(self, game: Game, opponent: Opponent, round: int) -> Players:
        if not isinstance(game, PreferenceGame | ConstantSumGame):
            raise NashwardError(
                "duels are won and lost in a table of win probabilities or payoffs; take "
                f"games.feedback.SampledFeedback for a {type(game).__name__}"
            )
        players = blended([weight for weight, _ in opponent], [players for _, players in opponent])
        row, column = players[0], players[-1]  # the same tensor in a symmetric game
        q, r = self._drawn_from(row), self._drawn_from(column)
        numbers = _Draws(self.seed, round).uniform(3, (*row.shape[:-1], self.duels))
        uniform = torch.as_tensor(numbers, device=row.device)
        i, j = (
            torch.searchsorted(edges, u * edges[..., -1:], right=True)
            for edges, u in zip((q.cumsum(-1), r.cumsum(-1)), uniform[:2], strict=True)
        )
        table = game.P if isinstance(game, PreferenceGame) else game.payoff
        table = table.expand(*row.shape[:-1], *table.shape[-2:])
        earned = table.gather(-2, i.unsqueeze(-1).expand(*i.shape, table.shape[-1])).gather(-1, j.unsqueeze(-1))
        stake = torch.as_tensor(game.stake, device=row.device).unsqueeze(-1)
        spread = 2 * stake - game.total  # the difference between winning and losing
        wins = (earned.squeeze(-1) - game.total + stake) / spread
        sides = 2 if len(players) == 1 else 1  # i against j is also j against i, in a symmetric game
        value = ((uniform[2] < wins).to(row.dtype) - 0.5) / (sides * q.gather(-1, i) * r.gather(-1, j) * self.duels)
        value = value * spread
        payoffs = [torch.full_like(player, game.total / 2) for player in players]
        payoffs[0] = payoffs[0].scatter_add(-1, i, value * column.gather(-1, j))
        payoffs[-1] = payoffs[-1].scatter_add(-1, j, -value * row.gather(-1, i))
        return tuple(payoffs)

    def _drawn_from(self, rho: Tensor) -> Tensor:
        """The distribution [..., n] that the actions of a duel are drawn from."""
        return (1 - self.explore) * rho.abs() / rho.abs().sum(-1, keepdim=True) + self.explore / rho.shape[-1]
