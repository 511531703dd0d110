"""The result of ``solve``: policies, gaps and a status."""

from __future__ import annotations

import enum
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import quoted

from .forms.game import Profile
from .shapes import Float, Int
from .solvers.schedule import check_whole
from .step import is_finite

if TYPE_CHECKING:
    from pandas import DataFrame


class Status(enum.Enum):
    """How a run ended; the value says what to do about it.

    Attributes:
        value: what happened, in words.

    Example:
        >>> Status.CONVERGED.ok, Status.NOT_FINITE.ok
        (True, False)
        >>> Status.DONE.value
        'All iterations were run.'
    """

    DONE = "All iterations were run."
    CONVERGED = "The duality gap of the last or of the average iterate fell to the tolerance in every game."
    NOT_CONVERGED = (
        "All iterations were run and the duality gap is still above the tolerance: raise iterations, lower the step, "
        "or take another solver (for example OptimisticMWU or ExtraGradient)."
    )
    NOT_FINITE = "The policy is not finite any more: the step is too large for this solver; lower it."

    @property
    def ok(self) -> bool:
        """Whether the run ran all iterations or reached the tolerance."""
        return self in (Status.DONE, Status.CONVERGED)


class SolverError(RuntimeError):
    """Raised by ``solve(..., throw=True)`` with the status as its message."""


@dataclass(frozen=True, repr=False)
class Solution:
    """The result of ``solve``.

    Attributes:
        last: pi_{T+1}, [..., n] probabilities (a ``Profile`` for an ``n x m`` game).
        average: the average of the played policies, pi_1 .. pi_T.
        gaps: ``{"last": [records, ...], "average": [records, ...]}``, duality gaps after ``iterations`` steps; further
            averages are there by their names.
        iterations: [records], the step counts at which ``gaps`` were taken.
        status: what happened; its value says what to do.
        policies: with ``keep_policies=True`` ``{"last": ..., "average": ...}``, each [records, ..., n]; else empty.
        axes: the first axes of a batch that have a name, with the number of each entry: for ``sweep`` with seeds
            ``{"seed": (0, 1, ...)}``; else empty.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 300, record=[100, 200])
        >>> solution.status.name, solution.iterations.tolist(), solution.gaps["average"].shape
        ('DONE', [100, 200, 300], torch.Size([3]))
    """

    last: Any
    average: Any
    gaps: dict[str, Float[Tensor, "records ..."]]
    iterations: Int[Tensor, " records"]
    status: Status
    policies: dict[str, Any] = field(default_factory=dict, repr=False)
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        """The status, the iterations and the gaps at the last record; for a batch the largest gaps."""
        shape = next(iter(self.gaps.values())).shape
        at = f"{self.status.name} after {int(self.iterations[-1])} iterations" if shape[0] else self.status.name
        largest = "largest " if len(shape) > 1 else ""
        reached = {name: float(gaps[-1].max()) for name, gaps in self.gaps.items() if shape[0]}
        gaps = [f"{largest}gap of {name} {gap:.3g}" for name, gap in reached.items()]
        batch = [f"batch {list(shape[1:])}"] if len(shape) > 1 else []
        return f"Solution({', '.join([at, *batch, *gaps])})"

    def to_frame(self, policies: str | None = None, labels: Sequence[str] | None = None) -> DataFrame:
        """The gaps as a pandas data frame, or the policies that were kept.

        Args:
            policies: None for the gaps, else whose policies: "last" or "average" (``keep_policies=True`` of ``solve``).
            labels: names of the actions, for the columns of policies; for an ``n x m`` game those of both players.

        Returns:
            One row per record, and per game, seed or start of a batch. The index has the iterations, then one level for
            each further axis: "seed" where ``sweep`` was given seeds, else "axis 0" and so on. The columns are the
            iterates ("last", "average", ...) or the actions; in an ``n x m`` game the actions are pairs
            ("row", action) and ("column", action).

        Raises:
            ValueError: policies that were not kept, labels that are too few or too many.
            ImportError: pandas is missing.

        Example:
            >>> from nashward import games
            >>> game = games.zoo.comal_cycle()
            >>> solution = games.solve(game, games.MWU(0.1), 100, record=[50, 100], start=[0.6, 0.3, 0.1])
            >>> print(solution.to_frame().round(3).to_csv().strip())
            iterations,last,average
            50,0.305,0.274
            100,0.381,0.239
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ImportError("to_frame makes a pandas data frame: pip install pandas") from error
        shape = next(iter(self.gaps.values())).shape
        rest = shape[1 + len(self.axes) :]
        levels = [self.iterations.tolist(), *self.axes.values(), *map(range, rest)]
        names = ["iterations", *self.axes, *(f"axis {k}" for k in range(len(self.axes), len(shape) - 1))]
        index = pandas.MultiIndex.from_product(levels, names=names) if len(levels) > 1 else None
        index = pandas.Index(levels[0], name=names[0]) if index is None else index
        if policies is None:
            return pandas.DataFrame({name: gaps.cpu().flatten().numpy() for name, gaps in self.gaps.items()}, index)
        if policies not in self.policies:
            kept = f"kept are those of {' and '.join(self.policies)}" if self.policies else "none were kept"
            raise NashwardError(f"no policies of {policies!r}: {kept}; solve(..., keep_policies=True) keeps them")
        sides = _sides(self.policies[policies])
        actions = [(side, i) for side, path in sides.items() for i in range(path.shape[-1])]
        if labels is not None and len(labels) != len(actions):
            raise NashwardError(f"expected {counted(len(actions), 'label')} of actions, got {len(labels)}")
        named = [(side, i if labels is None else labels[k]) for k, (side, i) in enumerate(actions)]
        table = np.concatenate([path.cpu().flatten(0, -2).numpy() for path in sides.values()], axis=-1)
        columns = pandas.Index([name for _, name in named]) if len(sides) == 1 else pandas.MultiIndex.from_tuples(named)
        return pandas.DataFrame(table, index, columns)

    def save(self, file: str | Path) -> None:
        """Write the solution to a file in numpy's .npz format, under exactly this name; ``load`` reads it.

        Args:
            file: the path; a missing folder is made, and an existing file is replaced once all is written.

        Raises:
            OSError: the file cannot be written.

        Example:
            >>> import tempfile; from nashward import games
            >>> solution = games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 100)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     solution.save(f"{folder}/mwu.npz")
            ...     again = Solution.load(f"{folder}/mwu.npz")
            >>> bool((again.last == solution.last).all()), again.status.name
            (True, 'DONE')
        """
        arrays = {"solution": np.array(_FORMAT), "status": np.array(self.status.name), "iterations": self.iterations}
        arrays |= {f"gaps/{name}": gaps for name, gaps in self.gaps.items()}
        policies = {"last": self.last, "average": self.average}
        policies |= {f"policies/{name}": path for name, path in self.policies.items()}
        arrays |= {f"axes/{name}": np.array(entries, dtype=np.int64) for name, entries in self.axes.items()}
        arrays |= {f"{name}/{side}": p for name, policy in policies.items() for side, p in _sides(policy).items()}
        plain: dict[str, Any] = {
            name: x.detach().cpu().numpy() if isinstance(x, Tensor) else x for name, x in arrays.items()
        }
        path = Path(file)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; expected the name of a file, as {path / 'solution.npz'}")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as opened:
                np.savez(opened, **plain)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: str | Path) -> Solution:
        """Read a solution that ``save`` wrote; its tensors are on the CPU.

        Args:
            file: the path.

        Returns:
            The solution, equal bit by bit.

        Raises:
            ValueError: the file holds no solution, or is damaged.
            OSError: the file cannot be read.
        """
        try:
            with Path(file).open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
                arrays = dict(stored.items())
            if arrays["solution"] != _FORMAT:
                raise NashwardError(f"{file} was saved by a later version of nashward: upgrade to read it")
            tensors = {name: torch.from_numpy(x) for name, x in arrays.items() if x.dtype.kind in "fi"}
            kept = dict.fromkeys(name.rpartition("/")[0] for name in tensors if name.startswith("policies/"))
            return cls(
                last=_joined(tensors, "last"),
                average=_joined(tensors, "average"),
                gaps={name[5:]: gaps for name, gaps in tensors.items() if name.startswith("gaps/")},
                iterations=tensors["iterations"],
                status=Status[str(arrays["status"])],
                policies={name.removeprefix("policies/"): _joined(tensors, name) for name in kept},
                axes={name[5:]: tuple(x.tolist()) for name, x in tensors.items() if name.startswith("axes/")},
            )
        except (KeyError, TypeError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
            if isinstance(error, NashwardError):
                raise
            raise NashwardError(f"{file} is no solution that Solution.save wrote ({type(error).__name__})") from None


_FORMAT = 1


def _sides(policy: Any) -> dict[str, Tensor]:
    """The players' probabilities by name; a preference game has one player, without a name."""
    return {"": policy} if isinstance(policy, Tensor) else {"row": policy.row, "column": policy.column}


def _joined(tensors: Mapping[str, Tensor], name: str) -> Any:
    if f"{name}/row" in tensors:
        return Profile(tensors[f"{name}/row"], tensors[f"{name}/column"])
    return tensors[f"{name}/"]


def default_record(iterations: int) -> list[int]:
    """The default records: every iteration up to 200, then in steps of 2%, and the last."""
    points, t = [], 1
    while t < iterations:
        points.append(t)
        t = max(t + 1, int(t * 1.02)) if t >= 200 else t + 1
    return [*points, iterations]


def record_points(record: Sequence[int] | None, iterations: int) -> list[int]:
    """The iterations to record, in rising order; the last one is always among them.

    Returns:
        Step counts from 1 to ``iterations``.

    Raises:
        ValueError: a record that is not a whole number, or no sequence of them.

    Warns:
        UserWarning: a record that is not one of these counts, which is left out.
    """
    given = default_record(iterations) if record is None else record
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise NashwardError(f"record is {quoted(given, 40)}; expected step counts, for example [1, 10, 100]")
    outside = [t for t in given if is_finite(t) and int(t) == t and not 0 < t <= iterations]
    within = [t for t in given if t not in outside]
    for t in within:
        check_whole("a record", t)
    if outside:
        run = f"the run has the iterations 1 to {int(iterations)}" + ", and no record of its start" * (0 in outside)
        left = ", ".join(str(int(t)) for t in outside[:3])
        warnings.warn(f"record {left} is left out: {run}", UserWarning, stacklevel=3)
    return sorted({int(iterations), *map(int, within)})
