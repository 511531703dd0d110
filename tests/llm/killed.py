"""A process that dies in the middle of a fit: an exception that nothing catches, at the n-th call of a method."""

from __future__ import annotations

from typing import Any

import pytest

from nashward.llm.training.batches import MicroBatch


class Killed(Exception):
    pass


def dies_at(patch: pytest.MonkeyPatch, call: int | None, name: str = "backward") -> list[int]:
    """Die at the n-th call of a micro-batch's method; None: never. The list has the number of calls so far."""
    calls, method = [0], getattr(MicroBatch, name)

    def counted(self: MicroBatch, *given: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return method(self, *given)

    patch.setattr(MicroBatch, name, counted)
    return calls
