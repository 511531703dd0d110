"""Which pairs of players the prompts tell apart, and whether one of the players beats all others beyond noise."""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, ndtr, ndtri, stdtr

from ..shapes import Bool, Float, Int

MIN_PROMPTS = 10  # of each pair: fewer signs cannot be significant among ten players
FEW = 50  # judged prompts of a pair, up to which its signs are drawn; beyond, Student's t agrees with them
CHUNK = 1000  # draws at once
DRAWS = 20_000  # of the signs
MOST = 2 * 10**10  # signs drawn at most: seconds
SAME = 1e-12


def winner_p_value(p: Float[np.ndarray, "n n"], winner: int) -> float:
    """How likely, at most, a player seems to beat every other one as clearly where none of the players does.

    The winner has to beat each of the others, so the p-value is the largest of its n - 1 (an intersection-union test),
    by Bonferroni times the n players of which any could have seemed the winner.

    Args:
        p: [n, n], one-sided p-values of "i beats j on average", as ``pair_p_values``.
        winner: the player, as the Condorcet winner of the mean table.

    Returns:
        the p-value, at most 1.

    Source: Berger 1982 (intersection-union tests).

    Example:
        >>> winner_p_value(np.array([[1.0, 0.01], [0.99, 1.0]]), 0)
        0.02
    """
    others = np.delete(p[winner], winner)
    return float(min(1.0, len(p) * others.max())) if len(others) else 1.0


def with_further_variance(
    p: Float[np.ndarray, "n n"], mean: Float[np.ndarray, "n n"], variance: Float[np.ndarray, "n n"]
) -> Float[np.ndarray, "n n"]:
    """One-sided p-values of means that err by more than their tests know, as by what was estimated before.

    The test's own error is what a normal distribution would need for its p-value; both variances add.

    Args:
        p: [n, n], of the tests.
        mean: [n, n], what was tested; where it is not above 0, p stays.
        variance: [n, n], the further one.

    Example:
        >>> p, mean = np.array([[1.0, 0.025], [0.975, 1.0]]), np.array([[0.0, 0.196], [-0.196, 0.0]])
        >>> with_further_variance(p, mean, np.full((2, 2), 0.01)).round(3).tolist()
        [[1.0, 0.083], [0.975, 1.0]]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        own = (mean / ndtri(p)) ** 2
        wider = ndtr(-mean / np.sqrt(own + variance))
    return np.where((mean > 0) & (p < 0.5) & (variance > 0), wider, p)


def pair_p_values(tables: Float[np.ndarray, "N n n"], draws: int = DRAWS, seed: int = 0) -> Float[np.ndarray, "n n"]:
    """One-sided p-values of "i beats j on average", [n, n]; 1 on the diagonal and where too few prompts were judged.

    Args:
        tables: [prompts, n, n] win probabilities, NaN where a pair was not judged.
        draws, seed: of the signs, see ``margin_p_values``.

    Source: Fisher 1935 (randomisation of signs); Student 1908.

    Example:
        >>> better = np.array([[0.5, 0.8], [0.2, 0.5]])
        >>> pair_p_values(np.stack([better] * 12)).round(3).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    n = tables.shape[1]
    i, j, prompt = np.triu(~np.isnan(tables), 1).transpose(1, 2, 0).nonzero()
    return margin_p_values(n, i, j, tables[prompt, i, j] - 0.5, draws=draws, seed=seed)


def margin_p_values(
    n: int,
    i: Int[np.ndarray, " m"],
    j: Int[np.ndarray, " m"],
    margin: Float[np.ndarray, " m"],
    times: Float[np.ndarray, " m"] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Float[np.ndarray, "n n"]:
    """One-sided p-values of "i beats j on average", [n, n], from the margins of pairs on prompts.

    A pair is tested by flipping the signs of its margins, which is exact if those of equal players are as likely
    positive as negative: by the binomial distribution where all have one size, as wins and losses have; of up to 50
    others by draws, or, where those would be too many, by Hoeffding's bound; of more by Student's t, which agrees with
    them. Ten margins are the least.

    Args:
        n: players.
        i, j: [m], the pairs, i < j.
        margin: [m], of i over j.
        times: [m], how often each margin was seen; None: once.
        draws: of the signs.
        seed: of the draws.

    Source: Fisher 1935 (randomisation of signs); Student 1908; Hoeffding 1963.

    Example:
        >>> pair, margins = np.zeros(12, dtype=int), np.full(12, 0.5)
        >>> round(4096 * float(margin_p_values(2, pair, pair + 1, margins)[0, 1]), 9)  # 12 wins of 12
        1.0
    """
    seen = np.ones(len(margin)) if times is None else times
    pair, places = i * n + j, n * n
    count, total, squares = (np.bincount(pair, seen * margin**k, places).astype(np.float64) for k in range(3))
    tested = count >= MIN_PROMPTS
    alike = _of_one_size(pair, margin, seen, places)
    tail = np.ones(places)  # of the sign that the sum has
    tail[tested & alike] = _binomial(pair, margin, seen, places)[tested & alike]
    many = tested & ~alike & (count > FEW)
    tail[many] = _student(count[many], np.abs(total[many]), squares[many])
    few = np.flatnonzero(tested & ~alike & (count <= FEW))
    if draws * len(few) * FEW > MOST:
        tail[few] = np.exp(-(total[few] ** 2) / (2 * squares[few]))
    elif len(few):
        tail[few] = _flipped(few, pair, margin, seen, np.abs(total[few]), draws, seed)
    p = np.where(total > SAME, tail, np.where(many, 1 - tail, 1.0)).reshape(n, n)
    back = np.where(total < -SAME, tail, np.where(many, 1 - tail, 1.0)).reshape(n, n)
    upper = np.triu(np.ones((n, n), dtype=bool), 1)
    return np.where(upper, p, np.where(upper.T, back.T, 1.0))


def _of_one_size(
    pair: Int[np.ndarray, " m"], margin: Float[np.ndarray, " m"], seen: Float[np.ndarray, " m"], places: int
) -> Bool[np.ndarray, " p"]:
    """Whether the margins of a pair have one size, but for those that are 0."""
    size = np.zeros(places)
    np.maximum.at(size, pair, np.abs(margin))
    other = (np.abs(margin) > SAME) & (np.abs(np.abs(margin) - size[pair]) > 1e-9)
    return np.bincount(pair, seen * other, places) == 0


def _binomial(
    pair: Int[np.ndarray, " m"], margin: Float[np.ndarray, " m"], seen: Float[np.ndarray, " m"], places: int
) -> Float[np.ndarray, " p"]:
    """The p-values of as many equal signs or more, where each is as likely as the other."""
    up, down = (np.bincount(pair, seen * (sign * margin > SAME), places) for sign in (1, -1))
    most, least = np.maximum(up, down), np.minimum(up, down)
    return np.where(most > 0, betainc(np.maximum(most, 1), least + 1, 0.5), 1.0)


def _student(
    count: Float[np.ndarray, " k"], total: Float[np.ndarray, " k"], squares: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """The p-values of sums of margins, by Student's t."""
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 1e-300)  # by rounding it may be below 0
    return stdtr(count - 1, -mean / np.sqrt(variance / (count - 1)))


def _flipped(
    few: Int[np.ndarray, " k"], pair: Int[np.ndarray, " m"], margin: Float[np.ndarray, " m"],
    seen: Float[np.ndarray, " m"], observed: Float[np.ndarray, " k"], draws: int, seed: int,
) -> Float[np.ndarray, " k"]:  # fmt: skip
    """The p-values of sums of up to 50 margins, by draws of their signs."""
    here = np.isin(pair, few)
    times = seen[here].astype(np.int64)
    column, value = np.repeat(np.searchsorted(few, pair[here]), times), np.repeat(margin[here], times)
    order = np.argsort(column, kind="stable")
    row = np.arange(len(order)) - np.searchsorted(column[order], column[order])
    values = np.zeros((FEW, len(few)))
    values[row, column[order]] = value[order]
    rng, beyond = np.random.default_rng(seed), np.zeros(len(few))
    for begin in range(0, draws, CHUNK):
        signs = rng.integers(0, 2, (min(CHUNK, draws - begin), FEW)) * 2.0 - 1
        # one-sided: the flipped sums are symmetric, so those of both signs are counted, and halved
        beyond += (np.abs(signs @ values) >= observed - 1e-9).sum(0) / 2
    return (beyond + 1) / (draws + 1)
