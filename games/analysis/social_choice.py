"""Social choice on tables of win probabilities [..., n, n]: winners, sets and scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError

from ..forms.game import PreferenceGame
from ..forms.payoff_numbers import as_floats
from ..shapes import Bool, Float, Int

TIE = 1e-9  # a win probability this close to 1/2 counts as a tie, where losing decides
TOLERANCE = 1e-6  # of P + P^T = 1, for tables rounded elsewhere


def _table(P: Any) -> Float[Tensor, "*batch n n"]:
    """Win probabilities, NaN where a pair was not compared.

    Raises:
        ValueError: something else, such as counts of wins.
    """
    try:
        table = as_floats(P.P if isinstance(P, PreferenceGame) else P)
    except ValueError as error:
        raise NashwardError(f"expected a table [..., n, n] of win probabilities, got {type(P).__name__}") from error
    if table.ndim < 2 or table.shape[-1] != table.shape[-2]:
        raise NashwardError(f"expected a table [..., n, n] of win probabilities, got the shape {list(table.shape)}")
    off = (table + table.mT - 1).abs().nan_to_num(0.0) > TOLERANCE
    if bool(off.any()):
        first = tuple(off.nonzero()[0].tolist())
        i, j = first[-2:]
        a, b = float(table[first]), float(table.mT[first])
        raise NashwardError(
            f"entries ({i}, {j}) and ({j}, {i}) are {a:g} and {b:g}; expected win probabilities, which sum to 1 "
            "(from counts W: W / (W + W.T), with 1/2 on the diagonal)"
        )
    outside = (table < -TOLERANCE) | (table > 1 + TOLERANCE)
    if bool(outside.any()):
        first = tuple(outside.nonzero()[0].tolist())
        raise NashwardError(
            f"entry ({first[-2]}, {first[-1]}) is {float(table[first]):g}; expected win probabilities, from 0 to 1"
        )
    return table


def _beats(P: Any) -> Bool[Tensor, "*batch n n"]:
    return _table(P) > 0.5


def condorcet_winner(P: Any) -> Int[Tensor, "*batch"]:
    """The action that beats every other one with more than 1/2, [...]; -1 if there is none.

    Args:
        P: [..., n, n] win probabilities, or a game; NaN where a pair was not compared, which nobody wins. The same
            holds for all functions here except ``hodge`` and ``curl_fraction``.

    Raises:
        ValueError: not such a table, for example counts of wins.

    Source: Condorcet 1785.

    Example:
        >>> from nashward import games
        >>> int(condorcet_winner(games.zoo.bradley_terry().P)), int(condorcet_winner(games.zoo.comal_cycle().P))
        (3, -1)
    """
    beats = _beats(P)
    return _only(beats.sum(-1) == beats.shape[-1] - 1)


def _only(flags: Bool[Tensor, "*batch n"]) -> Int[Tensor, "*batch"]:
    return torch.where(flags.any(-1), flags.int().argmax(-1), -1)


def is_cyclic(P: Any) -> Bool[Tensor, "*batch"]:
    """Whether every action loses to another one, bool [...]: no weak Condorcet winner, so no pure Nash equilibrium.

    Args:
        P: [..., n, n] win probabilities.

    Source: Condorcet 1785; a pure Nash is a weak Condorcet winner because the value is 1/2.

    Example:
        >>> from nashward import games
        >>> bool(is_cyclic(games.zoo.bradley_terry().P)), bool(is_cyclic(games.zoo.comal_cycle().P))
        (False, True)
    """
    return (_table(P) < 0.5 - TIE).any(-1).all(-1)


def smith_set(P: Any) -> Bool[Tensor, "*batch n"]:
    """The smallest set whose members beat all others, bool [..., n]: those that reach all others by "not beaten by".

    A tie keeps both actions in. Source: Smith 1973; Warshall's closure.

    Args:
        P: [..., n, n] win probabilities.

    Example:
        >>> from nashward import games
        >>> smith_set(games.zoo.intransitive_dice().P)
        tensor([True, True, True, True])
    """
    table = _table(P)
    reach = ~_beats(table).mT  # i is not beaten by j
    for k in range(table.shape[-1]):
        reach = reach | (reach[..., :, k : k + 1] & reach[..., k : k + 1, :])
    return reach.all(-1)


def copeland(P: Any) -> Int[Tensor, "*batch n"]:
    """Wins minus losses against the others, [..., n], a tie counting 0. Source: Copeland 1951.

    Args:
        P: [..., n, n] win probabilities.

    Example:
        >>> from nashward import games
        >>> copeland(games.zoo.bradley_terry().P).tolist()
        [-3, -1, 1, 3]
    """
    wins = _beats(P).to(torch.int64)
    return wins.sum(-1) - wins.sum(-2)


def borda(P: Any) -> Float[Tensor, "*batch n"]:
    """The mean win probability against the others, [..., n]: Borda's count of pairs, scaled to [0, 1].

    Args:
        P: [..., n, n] win probabilities.

    Source: Borda 1781; equal to the win rate against a uniform choice of the others.

    Example:
        >>> from nashward import games
        >>> borda(games.zoo.rock_paper_scissors().P).tolist()
        [0.5, 0.5, 0.5]
    """
    table = _table(P)
    n = table.shape[-1]
    diagonal = torch.diagonal(table, dim1=-2, dim2=-1)
    return (table.sum(-1) - diagonal) / max(n - 1, 1)


def cyclic_triples(P: Any) -> Int[Tensor, "*batch"]:
    """The number of the n (n - 1) (n - 2) / 6 triples that form a cycle, [...].

    The trace of the cubed win relation counts each cycle three times. Source: Kendall & Babington Smith 1940.

    Args:
        P: [..., n, n] win probabilities.

    Example:
        >>> from nashward import games
        >>> int(cyclic_triples(games.zoo.rock_paper_scissors().P))
        1
    """
    wins = _beats(P).to(torch.float64)
    return torch.diagonal(wins @ wins @ wins, dim1=-2, dim2=-1).sum(-1).round().to(torch.int64) // 3


_ROUNDED = 1e-3  # log-odds of probabilities near 1 carry much rounding; other tables are far above this


def _skew(A: Any) -> Float[Tensor, "*batch n n"]:
    table = as_floats(A)
    if table.ndim < 2 or table.shape[-1] != table.shape[-2]:
        raise NashwardError(f"expected a skew table [..., n, n], got shape {list(table.shape)}")
    off = (table + table.mT).abs()
    if (off > _ROUNDED * table.abs().amax((-2, -1), keepdim=True)).any():
        raise NashwardError(
            f"expected a skew table, A + A^T = 0, got entries of A + A^T up to {float(off.max()):.3g}; for win "
            "probabilities P give P - 0.5, or the log-odds log(P / (1 - P))"
        )
    return table


def hodge(A: Any) -> tuple[Float[Tensor, "*batch n n"], Float[Tensor, "*batch n n"]]:
    """The parts of a skew table: the part that a score per action explains, and the cyclic part.

    .. math::
        A = G + C, \\quad G_{ij} = s_i - s_j, \\quad s_i = \\frac1n \\sum_j A_{ij}, \\quad \\sum_j C_{ij} = 0, \\quad
        \\langle G, C \\rangle = 0

    Args:
        A: [..., n, n], skew: margins P - 1/2, or log-odds.

    Returns:
        G and C, [..., n, n].

    Raises:
        ValueError: A + A^T is not 0 within a thousandth of the largest entry, for example for win probabilities.

    Source: Jiang, Lim, Yao & Ye 2011 (HodgeRank), on the complete graph, where no harmonic part is left.

    Example:
        >>> from nashward import games
        >>> G, C = hodge(games.zoo.rock_paper_scissors().P - 0.5)
        >>> float(G.abs().max()), C[0].tolist()
        (0.0, [0.0, -0.5, 0.5])
    """
    table = _skew(A)
    score = table.mean(-1)
    gradient = score[..., :, None] - score[..., None, :]
    return gradient, table - gradient


def curl_fraction(A: Any) -> Float[Tensor, "*batch"]:
    """The share ``|C|^2 / |A|^2`` of a skew table that no score explains, [...]: 0 transitive, 1 purely cyclic.

    0 where the table is 0; NaN where an entry is not finite.

    Args:
        A: [..., n, n], skew: margins P - 1/2, or log-odds.

    Raises:
        ValueError: as ``hodge``.

    Source: Jiang, Lim, Yao & Ye 2011.

    Example:
        >>> from nashward import games
        >>> ring, ranked = games.zoo.rock_paper_scissors(), games.zoo.linear_scores()
        >>> float(curl_fraction(ring.P - 0.5)), float(curl_fraction(ranked.P - 0.5))
        (1.0, 0.0)
    """
    table = _skew(A)
    energy = (table**2).sum((-2, -1))
    share = (hodge(table)[1] ** 2).sum((-2, -1)) / torch.where(energy == 0, 1.0, energy)
    return torch.where(table.isfinite().all((-2, -1)) if table.ndim > 2 else table.isfinite().all(), share, torch.nan)
