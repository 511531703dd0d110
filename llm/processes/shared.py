"""What several processes have in common and wait for nobody to change: a count, and any value."""

from __future__ import annotations

import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from nashward.errors import LostProcessError

Value = TypeVar("Value")


class Tally:
    """A count of things done, and of their tokens, over all processes."""

    def __init__(self, processes: Any, key: str | None) -> None:  # ``Processes``, whose parts these are
        self._processes, self._key, self._own = processes, key, (0, 0)

    def add(self, count: int, tokens: float = 0) -> None:
        """Count what this process has done."""
        self._own = self._change(count, round(tokens))

    @property
    def total(self) -> tuple[int, int]:
        """How many, and their tokens."""
        return self._change(0, 0)

    def wait(self, count: int) -> None:
        """Return when all processes together have counted so many.

        Raises:
            Interrupted, OtherProcessError: as ``Processes.raise_if_stopped``.
            LostProcessError: they have not in ``Processes.patience`` seconds.
        """
        until = time.monotonic() + self._processes.patience
        while self.total[0] < count:
            self._processes.raise_if_stopped()
            if time.monotonic() > until:
                raise LostProcessError(f"another process hangs ({self._processes.stage}); the same command continues")
            time.sleep(0.05)

    def _change(self, count: int, tokens: int) -> tuple[int, int]:
        if self._key is None:
            return self._own[0] + count, self._own[1] + tokens
        store, call = self._processes._store, self._processes._call
        done = call(lambda: store.add(self._key, count))
        return done, call(lambda: store.add(f"{self._key}/tokens", tokens))


class Shared(Generic[Value]):
    """A value that all processes have in common, changed by one thread of one of them at a time.

    Nobody waits for the others to come to the same call, so that it may be changed for an item of ``Processes.share``.
    """

    _numbers = itertools.count()  # of the changes that this process tries

    def __init__(self, processes: Any, name: str, value: Value) -> None:
        self._processes, self._key, self._value = processes, f"shared/{name}", value
        self._lock = threading.Lock()

    def change(self, function: Callable[[Value], Value]) -> Value:
        """Replace the value by ``function`` of it, and return that; it stays where ``function`` raises.

        ``function`` may be called again, with what another process has put in the value's place meanwhile.
        """
        with self._lock:
            store, call = self._processes._store, self._processes._call
            if store is None:
                self._value = function(self._value)
                return self._value
            now = call(lambda: store.compare_set(self._key, "", self._written(self._value))).decode()
            while True:
                value = pickle.loads(bytes.fromhex(now.partition(" ")[2]))
                self._value = function(value)
                if self._value == value:
                    return value
                new = self._written(self._value)
                found = call(lambda now=now, new=new: store.compare_set(self._key, now, new)).decode()  # type: ignore[misc]
                if found == new:
                    return self._value
                now = found

    def _written(self, value: Value) -> str:
        """No two are equal: what is found in the store tells whose change it was."""
        return f"{self._processes.rank}/{os.getpid()}/{next(self._numbers)} {pickle.dumps(value).hex()}"
