"""The von Neumann winner from duels alone: which pairs are compared, and the posterior after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..equilibria.nash import nash
from ..forms.game import PreferenceGame
from ..shapes import Float, Int

Lottery: TypeAlias = Float[np.ndarray, " n"]
Pairs: TypeAlias = Int[np.ndarray, "count 2"]


@dataclass(frozen=True)
class Tally:
    """The duels so far; the belief about P[i, j] is Beta(1 + wins, 1 + losses).

    Attributes:
        wins: [n, n], how often i beat j.

    Example:
        >>> Tally(np.array([[0.0, 3.0], [1.0, 0.0]])).mean[0].round(3).tolist()
        [0.5, 0.667]
    """

    wins: Float[np.ndarray, "n n"]

    @property
    def mean(self) -> Float[np.ndarray, "n n"]:
        """The mean of the belief, a preference table."""
        table = (self.wins + 1) / (self.wins + self.wins.T + 2)
        np.fill_diagonal(table, 0.5)
        return table

    def draw(self, random: np.random.Generator) -> Float[np.ndarray, "n n"]:
        """A preference table drawn from the belief."""
        upper = np.triu(random.beta(1 + self.wins, 1 + self.wins.T), 1)
        return upper + np.tril(1 - upper.T, -1) + np.eye(len(upper)) / 2


Choice: TypeAlias = Callable[[Tally, Lottery, int, np.random.Generator], Pairs]


def uniform_pairs(tally: Tally, policy: Lottery, count: int, random: np.random.Generator) -> Pairs:
    """Pairs of two different actions, drawn uniformly.

    Args:
        tally: the duels so far.
        policy: [n], the current policy.
        count: how many pairs.
        random: the generator of the draws.

    Returns:
        [count, 2], pairs (i, j) with i < j.

    Example:
        >>> uniform_pairs(Tally(np.zeros((2, 2))), np.ones(2) / 2, 3, np.random.default_rng(0)).tolist()
        [[0, 1], [0, 1], [0, 1]]
    """
    first, second = np.triu_indices(len(policy), 1)
    indices = random.integers(len(first), size=count)
    return np.stack([first[indices], second[indices]], 1)


def challengers(tally: Tally, policy: Lottery, count: int, random: np.random.Generator) -> Pairs:
    """Challengers of the current policy: a best response in a table drawn from the belief, and a draw of the policy.

    Thompson sampling of the duality gap: the played actions are compared with those that may still beat them.

    Args:
        tally: the duels so far.
        policy: [n], the current policy.
        count: how many pairs.
        random: the generator of the draws.

    Returns:
        [count, 2], pairs (challenger, defender) of different actions.

    Source: the project's own; Thompson 1933 for the draw from the belief.

    Example:
        >>> challengers(Tally(np.zeros((2, 2))), np.array([1.0, 0.0]), 2, np.random.default_rng(0)).tolist()
        [[1, 0], [1, 0]]
    """
    defenders = random.choice(len(policy), size=count, p=policy)
    pairs = []
    for defender in defenders:
        wins = tally.draw(random) @ policy
        wins[defender] = -np.inf
        pairs.append((int(wins.argmax()), defender))
    return np.array(pairs)


def winner_from_duels(
    duel: Callable[[Pairs], NDArray[Any]],
    n: int,
    seed: int,
    choose: Choice = challengers,
    block: int = 40,
) -> Iterator[tuple[int, Lottery]]:
    """Learn the maximal lottery of ``n`` actions from the outcomes of duels, without access to the probabilities.

    In each round ``block`` pairs are chosen and compared; the policy is the Nash equilibrium of the mean of
    the belief, exact.

    Args:
        duel: from [count, 2] pairs (i, j) to [count] outcomes, 1 where i won and 0 where j did.
        n: the number of actions.
        seed: of the choice of pairs.
        choose: ``challengers``, or ``uniform_pairs`` for comparison.
        block: duels between two updates of the policy.

    Yields:
        the number of duels, and the policy [n]; without end.

    Source: Thompson 1933; for what is sought, Dudik et al. 2015 (arXiv 1502.06362).

    Example:
        >>> from itertools import islice
        >>> P, outcomes = np.array([[0.5, 0.9], [0.1, 0.5]]), np.random.default_rng(0)
        >>> learn = winner_from_duels(lambda ij: outcomes.random(len(ij)) < P[ij[:, 0], ij[:, 1]], n=2, seed=1)
        >>> [(duels, policy.round(2).tolist()) for duels, policy in islice(learn, 1, 3)]
        [(40, [1.0, 0.0]), (80, [1.0, 0.0])]
    """
    random, wins, duels = np.random.default_rng(seed), np.zeros((n, n)), 0
    while True:
        tally = Tally(wins)
        policy = nash(PreferenceGame(tally.mean)).policy.numpy()
        yield duels, policy
        pairs = choose(tally, policy, block, random)
        won = np.asarray(duel(pairs), dtype=np.float64)
        wins = wins.copy()
        np.add.at(wins, (pairs[:, 0], pairs[:, 1]), won)
        np.add.at(wins, (pairs[:, 1], pairs[:, 0]), 1 - won)
        duels += block
