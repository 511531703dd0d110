"""The equilibrium from duels alone: which pairs are compared, and the posterior after.

Either one set of actions, whose maximal lottery (von Neumann winner) is sought, or two players with actions of their
own, whose equilibrium of an ``n x m`` game is sought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nashward.errors import NashwardError

from ..equilibria.nash import nash
from ..forms.game import ConstantSumGame, PreferenceGame
from ..shapes import Float, Int
from ..solvers.schedule import check_whole

Lottery: TypeAlias = Float[np.ndarray, " n"]
Lotteries: TypeAlias = tuple[Float[np.ndarray, " _"], ...]  # one per player: (policy,) or (row, column)
Pairs: TypeAlias = Int[np.ndarray, "count 2"]


@dataclass(frozen=True)
class Tally:
    """The duels so far; the belief about P[i, j] is Beta(1 + wins, 1 + losses).

    Attributes:
        wins: [n, m], how often i beat j.
        losses: [n, m], how often j beat i, if rows and columns are actions of two players. None: they are the same n
            actions, and losses are the other side's wins.

    Example:
        >>> Tally(np.array([[0.0, 3.0], [1.0, 0.0]])).mean[0].round(3).tolist()
        [0.5, 0.667]
        >>> Tally(np.array([[0.0, 3.0, 0.0]]), np.array([[0.0, 1.0, 2.0]])).mean.round(3).tolist()
        [[0.5, 0.667, 0.25]]
    """

    wins: Float[np.ndarray, "n m"]
    losses: Float[np.ndarray, "n m"] | None = None

    @property
    def mean(self) -> Float[np.ndarray, "n m"]:
        """The mean of the belief: a preference table, or the win probabilities of rows over columns."""
        losses = self.wins.T if self.losses is None else self.losses
        table = (self.wins + 1) / (self.wins + losses + 2)
        if self.losses is None:
            np.fill_diagonal(table, 0.5)
        return table

    def draw(self, rng: np.random.Generator) -> Float[np.ndarray, "n m"]:
        """A table drawn from the belief."""
        if self.losses is not None:
            return rng.beta(1 + self.wins, 1 + self.losses)
        upper = np.triu(rng.beta(1 + self.wins, 1 + self.wins.T), 1)
        return upper + np.tril(1 - upper.T, -1) + np.eye(len(upper)) / 2

    def after(self, pairs: Pairs, won: Float[np.ndarray, " count"]) -> Tally:
        """The tally with more duels, each of a pair (i, j): 1 if i won, 0 if j did."""
        wins = self.wins.copy()
        np.add.at(wins, (pairs[:, 0], pairs[:, 1]), won)
        if self.losses is None:
            np.add.at(wins, (pairs[:, 1], pairs[:, 0]), 1 - won)
            return Tally(wins)
        losses = self.losses.copy()
        np.add.at(losses, (pairs[:, 0], pairs[:, 1]), 1 - won)
        return Tally(wins, losses)

    def equilibrium(self) -> Lotteries:
        """The exact equilibrium of the belief's mean."""
        if self.losses is None:
            return (nash(PreferenceGame(self.mean)).numpy(),)
        return tuple(policy.numpy() for policy in nash(ConstantSumGame(self.mean)).policy)


Choice: TypeAlias = Callable[[Tally, Lotteries, int, np.random.Generator], Pairs]


def uniform_pairs(tally: Tally, policies: Lotteries, count: int, rng: np.random.Generator) -> Pairs:
    """Pairs drawn uniformly: two different actions, or one of the row player's and one of the column player's.

    Args:
        tally: the duels so far.
        policies: the current policy of each player, [n] and [m].
        count: how many pairs.
        rng: the generator of the draws.

    Returns:
        [count, 2], pairs (i, j); with i < j if there is one set of actions.

    Example:
        >>> uniform_pairs(Tally(np.zeros((2, 2))), (np.ones(2) / 2,), 3, np.random.default_rng(0)).tolist()
        [[0, 1], [0, 1], [0, 1]]
    """
    if tally.losses is not None:
        return rng.integers(tally.wins.shape, size=(count, 2))
    first, second = np.triu_indices(len(policies[0]), 1)
    indices = rng.integers(len(first), size=count)
    return np.stack([first[indices], second[indices]], 1)


def challengers(tally: Tally, policies: Lotteries, count: int, rng: np.random.Generator) -> Pairs:
    """Challengers of the current policy: a best response in a table drawn from the belief, and a draw of the policy.

    Thompson sampling of the duality gap: the played actions are compared with those that may still beat them. With two
    players, row and column challenge each other in turn.

    Args:
        tally: the duels so far.
        policies: the current policy of each player, [n] and [m].
        count: how many pairs.
        rng: the generator of the draws.

    Returns:
        [count, 2], pairs (challenger, defender) of different actions; with two players (row, column).

    Source: the project's own; Thompson 1933 for the draw from the belief.

    Example:
        >>> challengers(Tally(np.zeros((2, 2))), (np.array([1.0, 0.0]),), 2, np.random.default_rng(0)).tolist()
        [[1, 0], [1, 0]]
    """
    if tally.losses is not None:
        return _challengers_of_two(tally, policies, count, rng)
    (policy,) = policies
    defenders = rng.choice(len(policy), size=count, p=policy)
    pairs = []
    for defender in defenders:
        wins = tally.draw(rng) @ policy
        wins[defender] = -np.inf
        pairs.append((int(wins.argmax()), defender))
    return np.array(pairs)


def _challengers_of_two(tally: Tally, policies: Lotteries, count: int, rng: np.random.Generator) -> Pairs:
    row, column = policies
    defenders = [rng.choice(len(policy), size=count, p=policy) for policy in policies]
    pairs = []
    for k in range(count):
        table = tally.draw(rng)
        if k % 2:
            pairs.append((defenders[0][k], int((row @ table).argmin())))
        else:
            pairs.append((int((table @ column).argmax()), defenders[1][k]))
    return np.array(pairs)


def expected_change(
    tables: Float[np.ndarray, "draws n n"], policies: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, "n n"]:
    """By how much one more duel of each pair is expected to change the equilibrium, in total variation.

    With tables P_s drawn from the belief and their equilibria pi_s, the expected equilibrium is the mean of pi_s. A
    duel of (i, j) that i wins weighs each draw by its P_s[i, j], one that j wins by 1 - P_s[i, j]; the mean then moves
    by Cov(P[i, j], pi) / P(i wins), or by the opposite over P(j wins). The expectation of its total variation is

    .. math::  \\mathbb{E}\\, d_{TV}(\\pi', \\pi) = \\sum_k \\left| \\mathrm{Cov}_s(P_s[i, j], \\pi_s[k]) \\right|

    Args:
        tables: [draws, n, n], drawn from the belief.
        policies: [draws, n], the equilibria of the tables.

    Returns:
        [n, n], symmetric, with a diagonal of 0.

    See also:
        ``challengers``, which asks the same with one draw per duel.

    Source: the project's own; derived above.

    Example:
        >>> tables = np.array([[[0.5, p, 0.9], [1 - p, 0.5, 0.9], [0.1, 0.1, 0.5]] for p in (0.6, 0.4)])
        >>> expected_change(tables, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])).round(3).tolist()
        [[0.0, 0.1, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    covariance = np.einsum("sij,sk->ijk", tables - tables.mean(0), policies) / len(tables)
    return np.abs(covariance).sum(-1)


def winner_from_duels(
    duel: Callable[[Pairs], NDArray[Any]],
    n: int,
    seed: int,
    choose: Choice = challengers,
    block: int = 40,
) -> Iterator[tuple[int, Lottery]]:
    """Learn the maximal lottery of ``n`` actions from the outcomes of duels, without access to the probabilities.

    In each round ``block`` pairs are chosen and compared; the policy is the exact Nash equilibrium of the belief's
    mean.

    Args:
        duel: maps [count, 2] pairs (i, j) to [count] outcomes, 1 where i won and 0 where j did.
        n: the number of actions.
        seed: the seed of the choice of pairs.
        choose: ``challengers``, or ``uniform_pairs`` for comparison.
        block: duels between two updates of the policy.

    Yields:
        the number of duels so far, and the policy [n]; for ever.

    Raises:
        ValueError: fewer than two actions, a block below 1; outcomes of duels that are not from 0 to 1, one per pair.

    See also:
        ``equilibrium_from_duels``, for two players with actions of their own.

    Source: Thompson 1933; for the von Neumann winner Dudik et al. 2015 (arXiv 1502.06362).

    Example:
        >>> from itertools import islice
        >>> P, outcomes = np.array([[0.5, 0.9], [0.1, 0.5]]), np.random.default_rng(0)
        >>> learn = winner_from_duels(lambda ij: outcomes.random(len(ij)) < P[ij[:, 0], ij[:, 1]], n=2, seed=1)
        >>> [(duels, policy.round(2).tolist()) for duels, policy in islice(learn, 1, 3)]
        [(40, [1.0, 0.0]), (80, [1.0, 0.0])]
    """
    if n < 2:
        raise NashwardError(f"n is {n}; a duel is between two of at least 2 actions")
    for duels, (policy,) in _learn(duel, Tally(np.zeros((n, n))), seed, choose, block):
        yield duels, policy


def equilibrium_from_duels(
    duel: Callable[[Pairs], NDArray[Any]],
    sizes: tuple[int, int],
    seed: int,
    choose: Choice = challengers,
    block: int = 40,
) -> Iterator[tuple[int, Lotteries]]:
    """Learn the equilibrium of an ``n x m`` game from duels between a row and a column action.

    Payoffs other than win probabilities are means of lotteries, see ``ConstantSumGame.stake``: an increasing linear
    function of the win probabilities, with the same equilibria.

    Args:
        duel: maps [count, 2] pairs (row, column) to [count] outcomes, 1 where the row won and 0 where the column did.
        sizes: the numbers of actions (n, m).
        seed: the seed of the choice of pairs.
        choose: ``challengers``, or ``uniform_pairs`` for comparison.
        block: duels between two updates of the policies.

    Yields:
        the number of duels so far, and the policies ([n], [m]), the exact equilibrium of the belief's mean; for ever.

    Raises:
        ValueError: a player without actions, a block below 1; outcomes of duels that are not from 0 to 1, one per pair.

    Source: Thompson 1933 for the draw from the belief.

    Example:
        >>> from itertools import islice
        >>> P, outcomes = np.array([[0.9, 0.2, 0.6], [0.1, 0.8, 0.7]]), np.random.default_rng(0)
        >>> learn = equilibrium_from_duels(lambda ij: outcomes.random(len(ij)) < P[ij[:, 0], ij[:, 1]], (2, 3), seed=1)
        >>> duels, (row, column) = next(islice(learn, 100, None))
        >>> duels, row.round(1).tolist(), column.round(1).tolist()  # the equilibrium: 1/2, 1/2 and 3/7, 4/7, 0
        (4000, [0.5, 0.5], [0.4, 0.6, 0.0])
    """
    n, m = sizes
    if min(n, m) < 1:
        raise NashwardError(f"sizes is {sizes}; expected the numbers of actions of two players, at least 1 each")
    yield from _learn(duel, Tally(np.zeros((n, m)), np.zeros((n, m))), seed, choose, block)


def _learn(
    duel: Callable[[Pairs], NDArray[Any]], tally: Tally, seed: int, choose: Choice, block: int
) -> Iterator[tuple[int, Lotteries]]:
    check_whole("block", block)
    rng, duels = np.random.default_rng(seed), 0
    while True:
        policies = tally.equilibrium()
        yield duels, policies
        pairs = choose(tally, policies, block, rng)
        won = np.asarray(duel(pairs), dtype=np.float64)
        if won.shape != (len(pairs),) or not ((won >= 0) & (won <= 1)).all():
            found = " ".join(np.array2string(won, threshold=4).split())
            raise NashwardError(
                f"duel returned {found} of shape {won.shape} for {len(pairs)} pairs; expected one outcome per pair, 1 "
                "where the first won and 0 where the second did"
            )
        tally = tally.after(pairs, won)
        duels += block
