"""A phase of a run: so many iterations with a step and a learning rate of their own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nashward.errors import NashwardError


@dataclass(frozen=True)
class Phase:
    """Some iterations; the last phase of a run goes on to its end.

    Attributes:
        iterations: how many.
        step: the solver's constant step in them; None: its own.
        learning_rate: that of their fits; None: that of ``Fit``.

    Raises:
        ValueError: iterations that are no whole number above 0, or a step or a rate that is no positive number.

    Example:
        >>> Phase.read({"iterations": 2, "learning_rate": 1e-4})
        Phase(iterations=2, step=None, learning_rate=0.0001)
    """

    iterations: int
    step: float | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            raise NashwardError(f"a phase has a whole number of iterations, at least 1, got {self.iterations!r}")
        for name in ("step", "learning_rate"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):
                raise NashwardError(f"the {name} of a phase must be a positive number, got {value!r}")

    @classmethod
    def read(cls, row: Any) -> Phase:
        """One of a file of settings.

        Raises:
            ValueError: no mapping with ``iterations``, a name that is none of a phase's, or what the class refuses.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(row, Mapping) or "iterations" not in row or set(row) - set(names):
            given = ", ".join(map(str, row)) if isinstance(row, Mapping) else repr(row)
            raise NashwardError(
                f"a phase has iterations, and may have a step and a learning_rate; this one has {given}"
            )
        return cls(**row)
