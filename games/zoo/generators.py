"""Families of preference games: random ones, mixtures, dice, discs, Blotto, votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import ArrayLike

from nashward.errors import NashwardError

from ..forms.game import PreferenceGame
from ..solvers.schedule import check_whole

MOST = 20_000  # layouts of Blotto, whose table is then of 3 GB
COUNTED = 10**15  # what is beyond is not counted


def three_cycle(a_beats_b: float, b_beats_c: float, c_beats_a: float) -> PreferenceGame:
    """Three actions, each beating the next with the given probability (each above 1/2).

    With margins e = P - 1/2 the Nash is pi_a : pi_b : pi_c = e_bc : e_ca : e_ab.

    Args:
        a_beats_b, b_beats_c, c_beats_a: probabilities.

    Raises:
        ValueError: as ``PreferenceGame``, for a value that is not a probability.

    Source: the project's own; solve A x = 0 for three actions.

    Example:
        >>> from nashward.games import nash
        >>> nash(three_cycle(0.6, 0.7, 0.8)).policy.round(decimals=4).tolist()  # as 2 : 3 : 1
        [0.3333, 0.5, 0.1667]
    """
    p, q, r = a_beats_b, b_beats_c, c_beats_a
    return PreferenceGame([[0.5, p, 1 - r], [1 - p, 0.5, q], [r, 1 - q, 0.5]], labels=["a", "b", "c"])


def from_scores(scores: ArrayLike) -> PreferenceGame:
    """Bradley-Terry: P(i beats j) = sigmoid(r_i - r_j).

    Args:
        scores: [n], r in nats.

    Source: Bradley & Terry 1952.

    Example:
        >>> from_scores([0.0, 1.0]).P[1].round(decimals=4).tolist()
        [0.7311, 0.5]
    """
    r = np.asarray(scores, dtype=np.float64)
    return PreferenceGame(1 / (1 + np.exp(r[None] - r[:, None])))


def from_margins(A: ArrayLike, labels: Sequence[str] | None = None) -> PreferenceGame:
    """``P = 1/2 + A / (2 max |A|)`` for any skew table A (a symmetric zero-sum game).

    Args:
        A: [n, n], skew.
        labels: the actions' names.

    Raises:
        ValueError: as ``PreferenceGame``, for a table that is not skew.

    Example:
        >>> from_margins([[0, 2], [-2, 0]], ["a", "b"]).P[0].tolist()
        [0.5, 1.0]
    """
    table = np.asarray(A, dtype=np.float64)
    return PreferenceGame(0.5 + table / (2 * max(np.abs(table).max(), 1e-300)), labels)


def beating(beats: Mapping[str, Sequence[str]]) -> PreferenceGame:
    """A table of sure wins; other pairs tie.

    Args:
        beats: by the name of an action, the actions that it beats.

    Example:
        >>> beating({"a": ["b"], "b": [], "c": []}).P[0].tolist()
        [0.5, 1.0, 0.5]
    """
    names = list(beats)
    return from_margins([[float(b in beats[a]) - float(a in beats[b]) for b in names] for a in names], names)


def circulant(margins: Sequence[float]) -> PreferenceGame:
    """n = 2 len(margins) + 1 actions in a circle: each has ``margins[k - 1]`` over the k-th next one. Nash uniform.

    Args:
        margins: P - 1/2 over the next one, the one after it, ...

    Raises:
        ValueError: a margin out of [-1/2, 1/2].

    Example:
        >>> circulant([0.5]).P.tolist()
        [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    """
    n = 2 * len(margins) + 1
    if any(abs(m) > 0.5 for m in margins):
        raise NashwardError(f"margins are P - 1/2, from -0.5 to 0.5, got {list(margins)}")
    row = np.array([0.0, *margins, *(-m for m in reversed(margins))])
    return PreferenceGame(0.5 + np.stack([np.roll(row, i) for i in range(n)]))


def tournament(n: int, seed: int) -> PreferenceGame:
    """Every pair has a sure winner, drawn by a fair coin: a unique Nash with an odd support (Fisher & Ryan 1992).

    Args:
        n: the number of actions.
        seed: the seed of the coin.

    Raises:
        ValueError: n is not a whole number >= 1.

    Example:
        >>> sorted(set(tournament(5, seed=0).P.flatten().tolist()))
        [0.0, 0.5, 1.0]
    """
    check_whole("n", n)
    upper = np.triu(np.random.default_rng(seed).integers(0, 2, size=(n, n)) - 0.5, 1)
    return PreferenceGame(0.5 + upper - upper.T)


def scores_and_cycles(n: int = 8, cycles: float = 0.5, seed: int = 0) -> PreferenceGame:
    """Bradley-Terry plus cycles of adjustable weight: log-odds (1 - c) (r_i - r_j) + c C_ij, C without a score part.

    Args:
        n: the number of actions.
        cycles: c from 0 (transitive) to 1 (purely cyclic: the curl fraction of the log-odds is 1).
        seed: the seed of the scores and the cycles.

    Raises:
        ValueError: c out of [0, 1].

    Source: the Hodge parts of Jiang, Lim, Yao & Ye 2011.

    Example:
        >>> from nashward.games.analysis.social_choice import curl_fraction
        >>> game = scores_and_cycles(cycles=1.0)
        >>> round(float(curl_fraction((game.P / (1 - game.P)).log())), 6)
        1.0
    """
    if not 0 <= cycles <= 1:
        raise NashwardError(f"cycles must be in [0, 1], got {cycles}")
    check_whole("n", n)
    rng = np.random.default_rng(seed)
    r, noise = rng.normal(size=n), rng.normal(size=(n, n))
    skew = noise - noise.T
    score = skew.mean(1)
    logits = (1 - cycles) * (r[:, None] - r) + cycles * (skew - (score[:, None] - score))
    return PreferenceGame(1 / (1 + np.exp(-logits)))


def mixture_of_judges(scores: ArrayLike, weights: Sequence[float] | None = None) -> PreferenceGame:
    """Judges with different scores, one drawn for each comparison: sum_k w_k sigmoid(r^k_i - r^k_j).

    Each judge is transitive; their mixture need not be.

    Args:
        scores: [judges, n].
        weights: the judges' weights (equal when not given).

    Source: the oracle of arXiv 2410.23223 is such a mixture; Condorcet 1785.

    Example:
        >>> game = mixture_of_judges([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 2.0]])
        >>> [round(float(game.P[i, j]), 4) for i, j in ((0, 1), (1, 2), (2, 0))]  # a ring
        [0.5271, 0.5271, 0.5271]
    """
    r = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    w = np.full(len(r), 1 / len(r)) if weights is None else np.asarray(weights) / np.sum(weights)
    return PreferenceGame(np.einsum("k,kij->ij", w, 1 / (1 + np.exp(r[:, None, :] - r[:, :, None]))))


def low_rank(n: int = 12, rank: int = 2, seed: int = 0) -> PreferenceGame:
    """Margins u_i' J u_j with vectors of ``rank`` (even) dimensions and J a quarter turn in each pair of dimensions.

    Args:
        n: the number of actions.
        rank: the rank of P - 1/2, even.
        seed: the seed of the vectors.

    Raises:
        ValueError: a rank that is odd or below 2, n not a whole number >= 1.

    Source: general preference embeddings, arXiv 2410.02197.

    Example:
        >>> import torch
        >>> int(torch.linalg.matrix_rank(low_rank(12, rank=4).P - 0.5))
        4
    """
    check_whole("n", n)
    if rank < 2 or rank % 2:
        raise NashwardError(f"the rank of a skew table is even and at least 2, got {rank}")
    left, right = np.random.default_rng(seed).normal(size=(2, n, rank // 2))
    return from_margins(left @ right.T - right @ left.T)


def disc(n: int = 7, seed: int | None = None) -> PreferenceGame:
    """Points of the unit disc; the margin is the area they span with the centre, x_i y_j - y_i x_j, scaled.

    n points evenly round the rim, or drawn in the disc if a seed is given. The rank is 2.

    Args:
        n: the number of points.
        seed: the seed of the points; None puts them on the rim.

    Raises:
        ValueError: n is not a whole number >= 1.

    Source: Balduzzi et al. 2019, "Open-ended learning in symmetric zero-sum games".

    Example:
        >>> disc(3).P[0].round(decimals=4).tolist()
        [0.5, 1.0, 0.0]
    """
    check_whole("n", n)
    angle, radius = 2 * np.pi * np.arange(n) / n, np.ones(n)
    if seed is not None:
        rng = np.random.default_rng(seed)
        angle, radius = 2 * np.pi * rng.random(n), np.sqrt(rng.random(n))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    area = np.outer(x, y) - np.outer(y, x)
    return from_margins(np.where(np.abs(area) > 1e-15, area, 0.0))  # opposite points tie, but for rounding


def blotto(troops: int = 5, fields: int = 3) -> PreferenceGame:
    """Colonel Blotto: troops are laid out on fields, the larger number wins a field, the player with more fields wins.

    Layouts that differ only in order are different actions. Source: Borel 1921.

    Args:
        troops: each side's number of troops.
        fields: the number of fields.

    Raises:
        ValueError: troops or fields not a whole number >= 1, or more than 20,000 layouts.

    Example:
        >>> game = blotto(troops=3, fields=3)
        >>> len(game.labels), float(game.P[game.labels.index("1-1-1"), game.labels.index("0-0-3")])
        (10, 1.0)
    """
    check_whole("troops", troops)
    check_whole("fields", fields)
    if (count := _layouts(troops, fields)) > MOST:
        shown = f"{count:,}" if count <= COUNTED else "over 10^15"
        raise NashwardError(
            f"troops={troops} on fields={fields} can be laid out in {shown} ways, each an action; at most {MOST:,} are "
            "played: give fewer troops or fields"
        )
    bars = combinations(range(troops + fields - 1), fields - 1)
    layouts = [tuple(b - a - 1 for a, b in zip((-1, *cut), (*cut, troops + fields - 1), strict=True)) for cut in bars]
    x = np.array(layouts)
    won = np.sign(np.sign(x[:, None] - x[None]).sum(-1))
    return from_margins(won, ["-".join(map(str, layout)) for layout in layouts])


def _layouts(troops: int, fields: int) -> int:
    """C(troops + fields - 1, fields - 1), or any number beyond ``COUNTED`` where it is.

    Example:
        >>> _layouts(60, 6), _layouts(10**6, 10**6) > COUNTED
        (8259888, True)
    """
    fewer, more = sorted((int(troops), int(fields) - 1))
    count = 1
    for k in range(1, fewer + 1):
        count = count * (more + k) // k
        if count > COUNTED:
            break
    return count


def dice(faces: Mapping[str, Sequence[int]]) -> PreferenceGame:
    """Dice thrown against each other; the higher number wins, a tie counts one half.

    Args:
        faces: the faces of each die, by its name; any number, all equally likely.

    Source: Efron's dice, after Gardner 1970.

    Example:
        >>> dice({"A": [1, 4], "B": [2, 3]}).P[0].tolist()
        [0.5, 0.5]
    """
    table = [
        [float(np.mean([(x > y) + (x == y) / 2 for x, y in product(faces[i], faces[j])])) for j in faces] for i in faces
    ]
    return PreferenceGame(table, labels=list(faces))


def from_rankings(rankings: Mapping[str, float] | Sequence[Sequence[str]]) -> PreferenceGame:
    """Votes read as pairs: P(a beats b) is the share of voters who rank a above b.

    Args:
        rankings: how many voters gave each ranking, as "ABC" (best first); or the rankings one by one.

    Raises:
        ValueError: rankings that do not hold the same names, each once.

    Example:
        >>> from_rankings({"ABC": 1, "BCA": 1, "CAB": 1}).P[0].round(decimals=3).tolist()
        [0.5, 0.667, 0.333]
    """
    counted = Counter(
        {tuple(k): v for k, v in rankings.items()} if isinstance(rankings, Mapping) else map(tuple, rankings)
    )
    names = sorted(next(iter(counted), ()))
    table = np.zeros((len(names), len(names)))
    for ranking, count in counted.items():
        if sorted(ranking) != names or len(set(ranking)) < len(ranking):
            raise NashwardError(f"every ranking must hold {', '.join(names)}, each once; got {', '.join(ranking)}")
        place = np.array([ranking.index(name) for name in names])
        table += count * ((place[:, None] < place) + (place[:, None] == place) / 2)
    return PreferenceGame(table / sum(counted.values()), names)


def embedded(U: ArrayLike, shift: float) -> PreferenceGame:
    """A zero-sum game of two players as a symmetric one: [[0, V, -1], [-V', 0, 1], [1, -1, 0]], V = U + shift, scaled.

    If V has value v > 0 and equilibrium policies p, q, the Nash is (p, q, v) / (2 + v).

    Args:
        U: [n, m], what the row player gets.
        shift: added to every payoff, so that the value is positive.

    Raises:
        ValueError: a shift that leaves V an entry that is not positive.

    Source: Gale, Kuhn & Tucker 1950.

    Example:
        >>> embedded([[1, -1], [-1, 1]], shift=2.0).P[0].tolist()
        [0.5, 0.5, 1.0, 0.6666666666666666, 0.33333333333333337]
    """
    V = np.asarray(U, dtype=np.float64) + shift
    if V.min() <= 0:
        raise NashwardError(f"the shifted payoffs must be positive, the least is {V.min():g}; raise the shift")
    n, m = V.shape
    A = np.zeros((n + m + 1, n + m + 1))
    A[:n, n:-1], A[:n, -1], A[n:-1, -1] = V, -1, 1
    return from_margins(A - A.T)
