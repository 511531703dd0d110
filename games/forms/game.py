"""Constant-sum games: a symmetric table of win probabilities, or any table of payoffs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nashward.errors import NashwardError
from nashward.shortened import quoted

from ..shapes import Float, Num
from ..step import is_finite
from .exact_sums import exact_sums, exact_sums_of, largest_size, plain
from .keyed import in_order
from .payoff_numbers import as_floats, labels_of, numbers, placed

_ROUNDED = 0.1  # a sum further from 1 is a mistake in the table
_PIECE = 2**18  # numbers checked at once
_COUNTED = 64  # up to so many actions the default labels are cached


class Profile(NamedTuple):
    """A policy for each player of an ``n x m`` game.

    Attributes:
        row: [..., n] probabilities.
        column: [..., m] probabilities.

    Example:
        >>> from nashward import games
        >>> game = ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
        >>> games.nash(game).policy.row.round(decimals=4).tolist()
        [0.3333, 0.6667]
    """

    row: Float[Tensor, "... n"]
    column: Float[Tensor, "... m"]


# One tensor per player whose policy is sought: (pi,) or (row, column).
Players: TypeAlias = tuple[Float[Tensor, "... _"], ...]


class Game(Protocol):
    """What solvers and measures need from a game; [...] is the batch."""

    total: float

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many actions each player whose policy is sought has: ``(n,)``, or ``(n, m)``."""
        ...

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape [...] of a batch of games; () for a single game."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of the payoffs and of policies."""
        ...

    def payoffs(self, opponents: Players) -> Players:
        """The payoff of each action against the opponents' policies, for each player: [..., n]."""
        ...

    def players(self, policy: Any) -> Players:
        """Check a policy that a user gives (for an ``n x m`` game a pair); returns one tensor a player."""
        ...

    def profile(self, players: Players) -> Any:
        """One tensor per player in the form that users see: [..., n], or a ``Profile``."""
        ...


class PreferenceGame:
    """A symmetric constant-sum game over ``n`` actions, or a batch of them.

    .. math::  P_{ij} = \\Pr(i \\succ j), \\qquad P + P^\\top = 1, \\qquad \\text{value } 1/2

    Args:
        P: [..., n, n] probabilities that the row action beats the column action; numpy or torch, held on the device
            it came from, in float64, or in float32 where it came in float32 (see ``precision``). Rounding in P + P^T
            below ``tolerance`` is removed, so that P - 1/2 is skew to the last bit. A data frame keeps its labels.
            The diagonal may be empty or NaN: it is 1/2.
        labels: ``n`` distinct names of the actions (default: those of a data frame, or "0", "1", ...).
        tolerance: how far P + P^T may be from 1, in [0, 1/2).

    Raises:
        ValueError: not square, an entry that is not finite or out of [0, 1], P + P^T != 1 (the entry is named),
            labels that are repeated or not ``n``, a data frame whose rows and columns name different actions or
            another order, a tolerance out of range.

    Example:
        >>> game = PreferenceGame([[0.5, 0.9], [0.1, 0.5]], labels=["a", "b"])
        >>> game.win_rate(torch.tensor([0.5, 0.5]))
        tensor([0.7000, 0.3000], dtype=torch.float64)
    """

    total = 1.0
    stake = 1.0  # what the winner of a duel gets; the loser gets total - stake

    def __init__(self, P: Any, labels: Sequence[str] | None = None, *, tolerance: float = 1e-6):
        if not (is_finite(tolerance) and 0 <= tolerance < 0.5):
            raise NashwardError(
                f"tolerance is {quoted(tolerance, 40)}; expected how far P + P^T may be from 1, in [0, 1/2)"
            )
        quick = exact_sums_of(P, tolerance) if plain(P) and P.shape[-1] == P.shape[-2] else None
        rows, columns = labels_of(P)
        known = rows or columns if labels is None else list(map(str, labels))
        table = _table(P, known, known, own=True) if quick is None else torch.from_numpy(quick)
        if table.shape[-1] != table.shape[-2]:
            raise NashwardError(f"a preference game needs a square table [..., n, n], got shape {_shape(table)}")
        if rows is not None and columns is not None and rows != columns:
            row, column = next((r, c) for r, c in zip(rows, columns, strict=True) if r != c)
            raise NashwardError(f"rows and columns must be the same actions in the same order, got {row} and {column}")
        self.labels = _labels(known, table.shape[-1], "action")
        self.P = self._without_rounding(table, tolerance) if quick is None else table
        if quick is not None and quick.ndim == 2:
            self.single_table = quick

    def _without_rounding(self, table: Tensor, tolerance: float) -> Tensor:
        """The table with P + P^T = 1 exactly; a large one is computed in pieces that fit the processor's cache."""
        if (small := exact_sums(table, tolerance)) is not None:
            return small
        lowest, highest = table.aminmax()
        if lowest < 0 or highest > 1:
            percents = lowest >= 0 and bool(((table + table.mT - 100).abs() <= 1e-4).all())
            advice = "; all pairs sum to 100, so these are percents: divide by 100" * percents
            wrong = (table < 0) | (table > 1)
            _refuse(wrong, table, "is not a probability in [0, 1]", self.labels, self.labels, advice)
        exact = torch.empty_like(table, memory_format=torch.contiguous_format)
        size = max(1, _PIECE // table[0].numel())
        for begin in range(0, len(table), size):
            piece = slice(begin, begin + size)  # rows of a game, or games of a batch
            upper, lower = table[piece], (table[:, piece] if table.ndim == 2 else table[piece]).mT.contiguous()
            lowest, highest = (upper + lower).aminmax()
            if 1 - lowest > tolerance or highest - 1 > tolerance:
                self._refuse_sums(table, tolerance)
            half = (upper - lower) / 2
            exact[piece] = torch.where(half < 0, 1 - (0.5 - half), 0.5 + half)  # 1 - p is exact for p >= 1/2
        return exact

    def _refuse_sums(self, table: Tensor, tolerance: float) -> None:
        off = table + table.mT - 1
        *batch, i, j = (off.abs() > tolerance).nonzero()[0].tolist()
        where = f" of game {tuple(batch)}" if batch else ""
        if i == j:
            raise NashwardError(
                f"P + P^T must be 1{where}: P[{self.labels[i]}, {self.labels[i]}] = {table[(*batch, i, i)]:g} on the "
                "diagonal, where an action meets itself; expected 1/2"
            )
        most = math.ceil(1000 * float(off.abs().max())) / 1000
        rounded = (
            f"; where that is rounding, tolerance={most:g} of games.PreferenceGame and games.load takes it, in the "
            f"shell --rounding {most:g}"
        ) * (most < _ROUNDED)
        raise NashwardError(
            f"P + P^T must be 1{where}: P[{self.labels[i]}, {self.labels[j]}] = {table[(*batch, i, j)]:g} and "
            f"P[{self.labels[j]}, {self.labels[i]}] = {table[(*batch, j, i)]:g} sum to "
            f"{1 + off[(*batch, i, j)]:g} (the diagonal is 1/2){rounded}"
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many actions each player whose policy is sought has: one entry, the game is symmetric."""
        return (self.P.shape[-1],)

    @property
    def batch_shape(self) -> torch.Size:
        return self.P.shape[:-2]

    @property
    def device(self) -> torch.device:
        return self.P.device

    @cached_property
    def single_table(self) -> NDArray[np.float64] | None:
        """The table of a single game on the CPU as float64, sharing P's memory if possible; None for any other game."""
        return _single_table(self.P)

    @property
    def precision(self) -> float:
        """The duality gap below which this dtype's payoffs are rounding only; ``nash`` computes in float64."""
        return 4 * torch.finfo(self.P.dtype).eps

    def win_rate(self, policy: Any) -> Float[Tensor, "... n"]:
        """P(y beats mu) for every action y: ``P mu``, [..., n]."""
        given = in_order("policy", policy, self.labels, "action")
        return _apply(self.P, (given if isinstance(given, Tensor) else as_floats(given)).to(self.device))

    def payoffs(self, opponents: Players) -> Players:
        """The payoff of each action against the opponents' policies, for each player: ``(P mu,)``."""
        return (self.win_rate(opponents[0]),)

    def players(self, policy: Any) -> Players:
        return (_policy(in_order("policy", policy, self.labels, "action"), self.P.shape[-1], self.device, "policy"),)

    def profile(self, players: Players) -> Float[Tensor, "... n"]:
        return players[0]

    def __repr__(self) -> str:
        suffix = "" if self.P.dtype == torch.float64 else f", float32: gaps below {self.precision:.0e} are rounding"
        return f"PreferenceGame({_shape(self.P)}{suffix})"


class ConstantSumGame:
    """A two-player game in which the payoffs always sum to ``total``, or a batch of them.

    Args:
        payoff: [..., n, m], what the row player gets; the column player gets ``total - payoff``. It is copied, and
            gradients flow to a tensor that requires them.
        total: the constant sum (0: a zero-sum game).
        row_labels, column_labels: distinct names of the actions (default: those of a data frame, or "0", "1", ...).

    Raises:
        ValueError: fewer than two dimensions, an entry that is not finite or too large to be doubled, labels
            that are repeated or too few.

    Example:
        >>> game = ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
        >>> game.payoffs((torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])))[0]
        tensor([1., 0.], dtype=torch.float64)
    """

    def __init__(
        self,
        payoff: Any,
        total: float = 1.0,
        row_labels: Sequence[str] | None = None,
        column_labels: Sequence[str] | None = None,
    ):
        if not is_finite(total):
            raise NashwardError(f"the total of the payoffs must be a finite number, got {quoted(total, 40)}")
        self.total = float(total)
        largest = largest_size(payoff) if plain(payoff) else math.nan
        quick = math.isfinite(largest)
        rows, columns = labels_of(payoff)
        of_rows = rows if row_labels is None else row_labels
        of_columns = columns if column_labels is None else column_labels
        if quick:
            own = payoff.copy()  # what the caller fills again is another game
            self.payoff = torch.from_numpy(own)
            if own.ndim == 2:
                self.single_table = own
        else:
            self.payoff = _table(payoff, of_rows, of_columns).clone()
            largest = float(self.payoff.detach().abs().amax())
        if not math.isfinite(2 * largest + abs(self.total)):
            raise NashwardError(
                f"the payoffs reach {largest:g}, and their differences are beyond the numbers of double precision; "
                "divide payoffs and total by a common factor, which changes no equilibrium"
            )
        self.row_labels = _labels(of_rows, self.payoff.shape[-2], "row")
        self.column_labels = _labels(of_columns, self.payoff.shape[-1], "column")

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.payoff.shape[-2], self.payoff.shape[-1])

    @property
    def batch_shape(self) -> torch.Size:
        return self.payoff.shape[:-2]

    @property
    def device(self) -> torch.device:
        return self.payoff.device

    @cached_property
    def single_table(self) -> NDArray[np.float64] | None:
        """The payoffs of a single game on the CPU as float64, in their memory if possible; None for any other game."""
        return _single_table(self.payoff)

    @cached_property
    def stake(self) -> Float[Tensor, "..."]:
        """What the winner of a duel gets, [...]; the loser gets ``total - stake``.

        A duel of a row and a column action is a lottery with the row's payoff as its mean. The stake is the least one,
        at least ``max(0, total)``, for which every payoff is such a mean: 1 for win probabilities, and the largest
        absolute payoff where the total is 0.

        Example:
            >>> ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0).stake
            tensor(3., dtype=torch.float64)
        """
        largest = torch.maximum(self.payoff.amax((-2, -1)), self.total - self.payoff.amin((-2, -1)))
        return largest.clamp_min(max(0.0, self.total))

    def payoffs(self, opponents: Players) -> Players:
        """The payoff of each row action against the column policy, and of each column action against the row policy."""
        row, column = opponents
        return _apply(self.payoff, column), self.total * row.sum(-1, keepdim=True) - _apply(self.payoff.mT, row)

    def players(self, policy: Any) -> Players:
        if not (isinstance(policy, tuple | list) and len(policy) == 2) or isinstance(policy[0], int | float):
            raise NashwardError(f"an n x m game needs a pair (row, column) of policies, got {quoted(policy, 60)}")
        return tuple(
            _policy(in_order(side, p, labels, "action"), len(labels), self.device, side)
            for p, labels, side in zip(
                policy, (self.row_labels, self.column_labels), ("row policy", "column policy"), strict=True
            )
        )

    def profile(self, players: Players) -> Profile:
        return Profile(*players)

    def __repr__(self) -> str:
        return f"ConstantSumGame({_shape(self.payoff)}, total={self.total:g})"


def check_game(game: Any) -> None:
    """Refuse an object that is not a game, before its payoffs are computed.

    Args:
        game: what a user gives as one.

    Raises:
        TypeError: the object lacks ``payoffs`` or ``sizes``; says how a table becomes a game.
    """
    if isinstance(game, type) or not (hasattr(game, "payoffs") and hasattr(game, "sizes")):
        what = game.__name__ if isinstance(game, type) else type(game).__name__
        raise TypeError(
            f"expected a game, got {what}; a table of win probabilities becomes one by games.PreferenceGame(table), "
            "one of payoffs by games.ConstantSumGame(table, total)"
        )


def check_table(game: Any) -> None:
    """Refuse an object that is not a game, and a game without a table.

    Args:
        game: what a user gives as a game with a table.

    Raises:
        TypeError: the object is not a game, or has no table.
    """
    check_game(game)
    if not any(hasattr(game, name) for name in ("P", "payoff", "game")):
        raise TypeError(f"expected a game with a table of payoffs, got {game!r}")


def _apply(table: Float[Tensor, "*games n m"], policy: Num[Tensor, "... m"]) -> Float[Tensor, "... n"]:
    policy = policy.to(table.dtype)
    if table.ndim == 2:  # one product for all policies against one table
        return table @ policy if policy.ndim == 1 else policy @ table.mT
    lead = policy.ndim + 1 - table.ndim
    if lead <= 0:
        return (table @ policy.unsqueeze(-1)).squeeze(-1)
    many = policy.flatten(0, lead - 1).movedim(0, -1)  # one product per game: broadcasting would copy the table
    return (table @ many).movedim(-1, 0).unflatten(0, policy.shape[:lead])


def _single_table(table: Float[Tensor, "... n m"]) -> NDArray[np.float64] | None:
    if table.ndim > 2 or table.device.type != "cpu":
        return None
    return np.ascontiguousarray(table.detach().numpy(), dtype=np.float64)


def _shape(table: Tensor) -> str:
    return "[" + ", ".join(map(str, table.shape)) + "]"


def _table(
    values: Any, rows: Sequence[str] | None, columns: Sequence[str] | None, own: bool = False
) -> Float[Tensor, "... n m"]:
    """Numbers as a table; labels are for errors, and with ``own`` an empty cell of the diagonal, or NaN, is 1/2."""
    # Through numpy, because torch would turn a list of Python numbers into float32; torch takes no reversed view and
    # warns about one that is read-only.
    table = (
        values if isinstance(values, Tensor) else torch.as_tensor(np.require(numbers(values, own), None, ["C", "W"]))
    )
    if table.is_complex() or table.dtype == torch.bool:
        raise NashwardError(f"a payoff table holds real numbers, got {table.dtype}")
    table = table if table.dtype == torch.float32 else table.to(torch.float64)
    if table.ndim < 2 or 0 in table.shape:
        raise NashwardError(f"a payoff table has shape [..., n, m] with n, m >= 1, got shape {_shape(table)}")
    if not math.isfinite(table.detach().sum()):  # the sum of finite numbers may still overflow
        n, m = table.shape[-2:]
        if own and n == m:
            table = table.where(~(table.isnan() & torch.eye(n, dtype=torch.bool, device=table.device)), 0.5)
        named = (
            rows if rows is None or len(rows) == n else None,
            columns if columns is None or len(columns) == m else None,
        )
        _refuse(~table.isfinite(), table, "is not a finite number", *named)
    return table


def _refuse(
    wrong: Tensor, table: Tensor, what: str, rows: Sequence[str] | None, columns: Sequence[str] | None, advice: str = ""
) -> None:
    if wrong.any():
        *batch, i, j = wrong.nonzero()[0].tolist()
        where, value = placed((*batch, i, j), rows, columns), table[(*batch, i, j)].item()
        raise NashwardError(f"entry [{where}] of the payoff table {what}: {value:g}{advice}")


def _labels(labels: Sequence[str] | None, n: int, what: str) -> tuple[str, ...]:
    if labels is None:
        return _counted(n) if n <= _COUNTED else tuple(map(str, range(n)))
    names = tuple(map(str, labels))
    if len(names) != n:
        raise NashwardError(f"expected {n} {what} labels, got {len(names)}")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < n else []
    if repeated:
        raise NashwardError(f"{what} labels must be distinct, repeated: {', '.join(repeated)}")
    return names


@lru_cache(maxsize=_COUNTED)
def _counted(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def _policy(policy: Any, n: int, device: torch.device, what: str) -> Float[Tensor, "... n"]:
    try:
        row = torch.as_tensor(policy, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError):  # torch's own error names neither the policy nor what it should be
        raise NashwardError(
            f"the {what} must be probabilities in a list, an array or a tensor of shape [..., {n}], got "
            f"{quoted(policy, 60)} (a start that is left out is uniform)"
        ) from None
    if row.ndim == 0 or row.shape[-1] != n:
        raise NashwardError(f"the {what} must have shape [..., {n}], got {_shape(row)}")
    if not row.isfinite().all() or (row < -1e-12).any() or ((row.sum(-1) - 1).abs() > 1e-6).any():
        raise NashwardError(f"the {what} must hold probabilities that sum to 1, got {row.tolist()}")
    row = row.clamp_min(0)
    return row / row.sum(-1, keepdim=True)
