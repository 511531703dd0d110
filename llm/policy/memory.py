"""Recovery from running out of memory: a batch that does not fit is halved and run again, and an event is reported."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]
import torch

HOST_ALLOCATOR = "DefaultCPUAllocator"
OWN = 2 << 30  # bytes of a card that this process needs while another one draws, to score what that one draws
CONTAINERS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
Item = TypeVar("Item")
Result = TypeVar("Result")
OnEvent = Callable[[dict[str, Any]], None]  # is called with each batch that was halved


def ignore_event(event: dict[str, Any]) -> None:
    """The default ``OnEvent``: does nothing."""


@contextmanager
def one_memory_error() -> Iterator[None]:
    """Raise ``torch.OutOfMemoryError`` for host memory too, where torch raises a RuntimeError of its CPU allocator."""
    message = None
    try:
        yield
    except RuntimeError as error:
        if HOST_ALLOCATOR not in str(error):
            raise
        message = str(error)
    if message is not None:  # outside the except block, whose traceback holds the attempt's tensors
        raise torch.OutOfMemoryError(message.splitlines()[0])


def host_memory(free: bool = False) -> int:
    """Bytes of host memory that the process may use: those of the machine, or of its container where these are fewer.

    Args:
        free: only what is free now.
    """
    pages = psutil.virtual_memory()
    limits = [pages.available if free else pages.total]
    for limit, used in CONTAINERS:  # of Linux, version 2 and version 1
        with suppress(OSError, ValueError):
            limits.append(int(Path(limit).read_text()) - (int(Path(used).read_text()) if free else 0))
    return max(0, min(limits))


def split_in_half(items: Sequence[Item], what: str) -> tuple[Sequence[Item], Sequence[Item]]:
    """Free the memory of a failed attempt, and split its batch in two.

    Call it after the ``except`` block: inside, the traceback still holds the attempt's tensors.

    Raises:
        MemoryError: there are fewer than two items.
    """
    release_memory()
    check_divisible(len(items), what)
    middle = len(items) // 2
    return items[:middle], items[middle:]


def check_divisible(count: int, what: str) -> None:
    """Check that a batch that did not fit can be made smaller.

    Raises:
        MemoryError: it has fewer than two items.
    """
    if count < 2:
        raise MemoryError(
            f"out of memory with a single {what}: take shorter texts (--max-new-tokens, --max-prompt-tokens), a "
            "smaller model or a larger card"
        )


def release_memory() -> None:
    """Free unreferenced tensors and the allocator's cached blocks. Call it after the ``except`` block."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_share() -> float | None:
    """The share of the card's memory that another process can have now; None where there is no card."""
    if not torch.cuda.is_available():
        return None
    release_memory()
    free, total = torch.cuda.mem_get_info()
    return max(0, free - OWN) / total


def run_in_parts(
    work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], what: str, on_event: OnEvent
) -> list[Result]:
    """``work(items)``; where memory runs out, the results of the two halves in turn.

    Args:
        work: returns a result for each item; a failed call must have no effect.
        items: the batch.
        what: the name of one item, for messages and events.
        on_event: is called with {"out_of_memory": what, "at_once": the size of the batch that did not fit}.

    Returns:
        a result for each item, in order.

    Raises:
        MemoryError: a single item does not fit.
    """
    try:
        with one_memory_error():
            return work(items)
    except torch.OutOfMemoryError:
        pass
    first, second = split_in_half(items, what)
    on_event({"out_of_memory": what, "at_once": len(items)})
    return run_in_parts(work, first, what, on_event) + run_in_parts(work, second, what, on_event)
