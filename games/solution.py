"""The result of ``solve``: policies, gaps and a status."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .shapes import Float, Int
from .solvers.schedule import check_whole


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
        "or take a solver whose last iterate converges (OptimisticMWU, ExtraGradient)."
    )
    NOT_FINITE = "The policy is not finite any more: the step is too large for this solver; lower it."

    @property
    def ok(self) -> bool:
        """Whether the run ran all iterations or reached the tolerance."""
        return self in (Status.DONE, Status.CONVERGED)


class SolverError(RuntimeError):
    """Raised by ``solve(..., throw=True)`` with the status as its message."""


@dataclass(frozen=True)
class Solution:
    """The result of ``solve``.

    Attributes:
        last: pi_{T+1}, [..., n] probabilities (a ``Profile`` for an ``n x m`` game).
        average: the average of the played policies, pi_1 .. pi_T.
        gaps: ``{"last": [records, ...], "average": [records, ...]}``, duality gaps after ``iterations`` steps; further
            averages have theirs by name.
        iterations: [records], the step counts at which ``gaps`` were taken.
        status: what happened; its value says what to do.
        policies: with ``keep_policies=True`` ``{"last": ..., "average": ...}``, each [records, ..., n]; else empty.

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
        ValueError: a record that is not a whole number.
    """
    within = [t for t in (default_record(iterations) if record is None else record) if 0 < t < iterations]
    for t in within:
        check_whole("a record", t)
    return sorted({int(iterations), *map(int, within)})
