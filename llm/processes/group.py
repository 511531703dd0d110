"""The processes of a command that torchrun started act as one: what each decides, takes and waits for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from .connection import Connection, Interrupted
from .shared import Shared, Tally

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")


class Processes(Connection):
    """This process among those that were started together, by the environment that torchrun sets.

    Without a launcher there is one, and every method does at once what it does for one: nothing is connected. With
    several, every process calls the same methods in the same order. ``decided``, ``gather``, ``map`` and ``sum_`` wait
    for all: for one that has stopped no longer than its word takes, for one that hangs for ``patience`` seconds.

    Example:
        >>> alone = Processes()
        >>> alone.count, alone.main, alone.decided(lambda: 3), list(alone.share("ab")), alone.map(ord, "ab")
        (1, True, 3, ['a', 'b'], [97, 98])
    """

    def __init__(self) -> None:
        super().__init__()
        self._events = 0  # that the first process has received

    @contextmanager
    def session(self) -> Iterator[None]:
        """A block that the processes go through together: where one fails the others stop too.

        Raises:
            OtherProcessError: another one has failed, and says why.
        """
        if self.count == 1:
            yield
            return
        self.start()
        try:
            yield
            if not self._halted:
                with suppress(Interrupted):  # its own work is done
                    self.gather(None)
        except BaseException as error:
            self._halt(error)
            raise
        finally:
            self.leave()

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return flag if self.count == 1 else any(self.gather(flag))

    def decided(self, make: Callable[[], Result]) -> Result:
        """What ``make`` returns in the first process, which alone calls it, and is alone within it."""
        if self.count == 1:
            return make()
        key = self._key("decided")
        if self.main:
            self._alone = True
            try:
                value = make()
            finally:
                self._alone = False
            self._set(key, value)
            return value
        return self._get(key, 0)

    def gather(self, value: Result, idle: Callable[[], object] = lambda: None) -> list[Result]:
        """The values of all processes, in their order; each waits for all. ``idle`` is called while it waits."""
        if self.count == 1:
            return [value]
        key, read = self._key("gathered"), self._mine
        self._mine = []
        self._set(f"{key}/{self.rank}", value)
        values = [value if r == self.rank else self._get(f"{key}/{r}", r, idle) for r in range(self.count)]
        for old in read:  # all have come here, so nobody reads what was set before
            self._call(lambda old=old: self._store.delete_key(old))  # type: ignore[misc]
        return values

    def share(self, items: Sequence[Item]) -> Iterator[Item]:
        """The items that fall to this process: whichever is free takes the next, so that the longest should come first.

        Raises:
            Interrupted, OtherProcessError: as ``raise_if_stopped``, before an item.
        """
        if self.count == 1:
            yield from items
            return
        key = self._key("share")
        while (number := self._call(lambda: self._store.add(key, 1)) - 1) < len(items):
            self.raise_if_stopped()
            self._sharing = True
            try:
                yield items[number]
            finally:
                self._sharing = False

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``function`` of each item, computed in whichever process is free, in all of them. Tensors are on the CPU."""
        if self.count == 1:
            return [function(item) for item in items]
        from torch import distributed, empty, frombuffer, uint8

        own = {k: function(items[k]) for k in self.share(range(len(items)))}
        content = pickle.dumps(own)
        results: dict[int, Result] = {}
        for rank, size in enumerate(self.gather(len(content))):
            mine = rank == self.rank
            buffer = frombuffer(bytearray(content), dtype=uint8) if mine else empty(size, dtype=uint8)
            self._call(lambda buffer=buffer, rank=rank: distributed.broadcast(buffer, rank))  # type: ignore[misc]
            results |= own if mine else pickle.loads(buffer.numpy().tobytes())
        return [results[k] for k in range(len(items))]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by their sums over the processes, all in one reduction."""
        self._over(tensors, "all_reduce")

    def copy_(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by those of the first process: cards of different kinds round differently."""
        self._over(tensors, "broadcast", 0)

    def _over(self, tensors: Sequence[Tensor], name: str, *arguments: Any) -> None:
        if self.count == 1:
            return
        import torch
        from torch import distributed

        with torch.no_grad():
            flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
            self.gather(None)  # who is missing is found here, and named; a backend says only that somebody is
            self._call(lambda: getattr(distributed, name)(flat, *arguments))
            for tensor, value in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(value.reshape(tensor.shape))

    def tally(self) -> Tally:
        """A count over all processes."""
        return Tally(self, None if self.count == 1 else self._key("tally"))

    def shared(self, name: str, value: Value) -> Shared[Value]:
        """A value that all processes have in common.

        Args:
            name: the same in every process, and no other value's.
            value: what it is at first.
        """
        return Shared(self, name, value)

    def once(self, name: str) -> Callable[[], bool]:
        """A function whose first call, in whichever process, returns True, and every later one False.

        Args:
            name: see ``shared``.
        """
        called = self.shared(name, False)

        def first() -> bool:
            before: list[bool] = []

            def call(value: bool) -> bool:
                before.append(value)
                return True

            called.change(call)
            return not before[-1]

        return first

    def least(self, value: int | None) -> int | None:
        """The least value of all processes; None where one has none."""
        values = self.gather(value)
        return None if None in values else min(v for v in values if v is not None)

    def send(self, event: dict[str, Any]) -> None:
        """Hand an event to the first process, which owns the journal."""
        number = self._call(lambda: self._store.add("events", 1))
        self._call(lambda: self._store.set(f"event/{number}", pickle.dumps({**event, "rank": self.rank})))

    def received(self) -> list[dict[str, Any]]:
        """The events that were sent since the last call."""
        if self._store is None or not self.main:
            return []
        events = []
        while self._events < self._call(lambda: self._store.add("events", 0)):
            self._events += 1
            events.append(pickle.loads(self._call(lambda: self._store.get(f"event/{self._events}"))))
        return events


processes = Processes()
"""This process among those that were started together."""
