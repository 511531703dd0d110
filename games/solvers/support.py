"""A warning about a start whose zeros stay."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from .tables_only.base import TableSolver
from .together import Together

if TYPE_CHECKING:  # these import torch, which the solvers' names and settings do not need
    from nashward.games.forms.game import Game, Players


class SupportWarning(UserWarning):
    """A start that gives probability 0 to actions, under a solver that multiplies probabilities: they stay at 0."""


def warn_support(game: Game, solver: Any, start: Players) -> None:
    """Warn about actions at probability 0 in a given start, if the solver's iterates keep its support.

    Mirror steps keep it, as does a solver of tables only with ``keeps_support``.

    Warns:
        SupportWarning: one line that names the actions.
    """
    if not getattr(solver, "keeps_support", not isinstance(solver, TableSolver)):
        return
    zeros = []
    for policy, name in zip(start, ("labels",) if len(start) == 1 else ("row_labels", "column_labels"), strict=True):
        excluded = (policy == 0).reshape(-1, policy.shape[-1]).any(0).nonzero()[:, 0].tolist()
        labels = getattr(game, name, range(policy.shape[-1]))
        zeros += [str(labels[i]) for i in excluded]
    if zeros:
        named = ", ".join(zeros[:3]) + (f" and {len(zeros) - 3} more" if len(zeros) > 3 else "")
        name = type(solver.solvers[0] if isinstance(solver, Together) else solver).__name__
        warnings.warn(
            f"the start gives probability 0 to {named}, and {name}, which multiplies probabilities, leaves it at 0; "
            "start from a small probability to let it grow",
            SupportWarning,
            stacklevel=3,
        )
