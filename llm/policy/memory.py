"""Out of memory is survived: what did not fit is halved and tried again, and the run says so."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
OnEvent = Callable[[dict[str, Any]], None]  # is told what was halved


def ignore_event(event: dict[str, Any]) -> None:
    """Tells nobody."""


def split_in_half(items: Sequence[Item], what: str) -> tuple[Sequence[Item], Sequence[Item]]:
    """The two halves of what did not fit, with the memory given back that the attempt had taken.

    Call it after the ``except`` block: inside, the traceback still holds the attempt's tensors.

    Raises:
        MemoryError: if there is nothing to halve.
    """
    release_memory()
    if len(items) < 2:
        raise MemoryError(
            f"out of memory with a single {what}: take shorter texts (--max-new-tokens, --max-prompt-tokens), a "
            "smaller model or a larger card"
        )
    middle = len(items) // 2
    return items[:middle], items[middle:]


def release_memory() -> None:
    """Free what nobody holds, and what the allocator keeps of it. Call it after the ``except`` block."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run_in_parts(
    work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], what: str, on_event: OnEvent
) -> list[Result]:
    """``work(items)``, or where memory runs out that of the halves, one after the other.

    Args:
        work: gives a result for each item; an attempt that failed leaves nothing behind.
        what: one item, for the events: {"out_of_memory": what, "at_once": how many did not fit}.
    """
    try:
        return work(items)
    except torch.OutOfMemoryError:
        pass
    first, second = split_in_half(items, what)
    on_event({"out_of_memory": what, "at_once": len(items)})
    return run_in_parts(work, first, what, on_event) + run_in_parts(work, second, what, on_event)
