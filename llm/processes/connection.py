"""What connects the processes of a command, and what ends each of them: a request, another's failure, or its loss.

torch.distributed itself, not accelerate's ``PartialState``: its store hands out the shards, and waits that name who is
missing are made of it; PartialState does not give it. The store carries what is small (numbers, decisions, figures),
gloo and NCCL the tensors.
"""

from __future__ import annotations

import atexit
import os
import pickle
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from nashward.counted import counted
from nashward.errors import LostProcessError, NashwardError, OtherProcessError

from .place import WAIT, Place

CONNECTING = 60.0  # seconds, at least: the others may still be importing
GRACE = 10.0  # seconds that a process which is to stop waits for the others; torchrun kills after 30
SHORTEST = 2e-4  # seconds between two looks for a value, at first
LOOKS = 0.2  # seconds between two looks for what has become of the process that is waited for
PIECE = 1 << 22  # bytes: the store refuses values of more than 8 MiB

Result = TypeVar("Result")


class Interrupted(Exception):
    """A run stops because it was to stop, here or in another process; all that it has done is on disk."""


class Connection(Place):
    """The store that the processes have in common, and the word of each that has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = "start"  # what this process does, for the others' messages
        self.stop: threading.Event | None = None  # set where this process is to stop
        self._store: Any = None
        self._number = 0  # of the calls so far, the same in every process
        self._mine: list[str] = []  # keys that this process has set and that others may still read
        self._sharing = False  # this process works on an item of its own
        self._begun = False
        self._speaks: bool | None = None
        self._halted = False  # this process goes no further, and no call that waits for all is in step any more

    def start(self) -> None:
        """Connect to the others, and take this process's card; nothing where it is done, or where there are no others.

        Raises:
            NashwardError: there are more processes than cards on this machine, or the others cannot be reached.
        """
        if self.count == 1 or self._store is not None:
            return
        self._begun = True
        # torch logs each lost connection with a stack of its own; read where torch is loaded
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        import torch
        from torch import distributed

        cards, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
        if 0 < cards < self.here:
            raise NashwardError(
                f"{self.here} processes were started on a machine with {counted(cards, 'card')}; expected one a card: "
                f"torchrun --nproc-per-node {cards} (or CUDA_VISIBLE_DEVICES= for the CPU)"
            )
        if cards:
            torch.cuda.set_device(local)
        if distributed.is_initialized():
            raise NashwardError("torch.distributed is initialised already; leave that to nashward")
        wait = timedelta(seconds=max(self.patience, CONNECTING))
        try:
            store, rank, count = next(iter(distributed.rendezvous("env://", timeout=wait)))
            group = distributed.PrefixStore("group", store)
            # the adapters' gradients are on the device, everything else is on the CPU
            backend = "cpu:gloo,cuda:nccl" if cards else "gloo"
            distributed.init_process_group(backend, store=group, rank=rank, world_size=count, timeout=wait)
        except (RuntimeError, ValueError, OSError) as error:
            raise NashwardError(f"the other processes cannot be reached: {_line(error)}; start them anew") from None
        self._store = distributed.PrefixStore("nashward", store)
        atexit.register(self.leave)

    def leave(self) -> None:
        """Disconnect, at the latest when Python ends: where there is no torchrun the store is in the first process,
        which leaves last."""
        self.stop = None
        if self._store is None:
            return
        from torch import distributed

        lost = False
        try:
            self._store.add("left", 1)
            until = time.monotonic() + (GRACE if self.main else 0.0)
            while time.monotonic() < until and self._store.add("left", 0) < self.count:
                time.sleep(0.02)
        except RuntimeError:  # gone with its process
            lost = True
        if not lost and not self._halted:  # which waits for the others' operations
            distributed.destroy_process_group()
        self._store = None

    def _halt(self, error: BaseException) -> None:
        """Let the others know that this process goes no further."""
        stopped = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit)
        self._halted = True
        try:
            message = f"{type(error).__name__} {error}"
            first = self._store.compare_set("reported", "", f"{self.rank} {message}").decode()
            rank, _, reported = first.partition(" ")
            self._speaks = not isinstance(error, OtherProcessError) and (reported != message or int(rank) == self.rank)
            # first the cause, which is that of the first to halt: the others halt because it has
            self._store.set(f"halted/{self.rank}", pickle.dumps((stopped, self.stage)))
            self._store.compare_set("halted", "", str(self.rank))
        except RuntimeError:
            pass

    @property
    def speaks(self) -> bool:
        """Whether this process shows the error that it ends with: one that all of them find is shown once."""
        return (self.main or self._begun) if self._speaks is None else self._speaks

    @property
    def prefix(self) -> str:
        """Whose error it is, and where in the run, for its line; empty for one process, and before a run."""
        return "" if self.count == 1 or self.stage == "start" else f"rank {self.rank} ({self.stage}): "

    def raise_if_stopped(self) -> None:
        """Call between two parts of the work.

        Raises:
            Interrupted: this process or another one is to stop.
            OtherProcessError: another one has failed.
        """
        if self.stop is not None and self.stop.is_set():
            self._interrupt()
        if self._store is not None and self._call(lambda: self._store.check(["halted"])):
            self._raise_as_first()

    def _interrupt(self) -> None:
        error = Interrupted(f"{self.stage}: stopped as requested")
        if self._store is not None:
            self._halt(error)
        raise error

    def _raise_as_first(self) -> None:
        """Stop as the first process that has halted."""
        rank = int(self._call(lambda: self._store.get("halted")))
        stopped, stage = pickle.loads(self._call(lambda: self._store.get(f"halted/{rank}")))
        if stopped:
            if self.stop is not None:
                self.stop.set()
            self._interrupt()
        raise OtherProcessError(f"rank {rank} failed ({stage})")

    def at(self, stage: str) -> None:
        """Name what this process begins."""
        self.stage = stage
        if self._store is not None:
            self._call(lambda: self._store.set(f"at/{self.rank}", stage))

    def _key(self, kind: str) -> str:
        if self._sharing:  # a hang else
            raise RuntimeError(f"{kind} waits for all processes, and was called for an item that one of them has")
        self.start()
        self._number += 1
        return f"{kind}/{self._number}"

    def _set(self, key: str, value: Any) -> None:
        content = pickle.dumps(value)
        pieces = [content[k : k + PIECE] for k in range(0, len(content), PIECE)]
        for k, piece in enumerate(pieces[1:], 1):
            self._call(lambda k=k, piece=piece: self._store.set(f"{key}+{k}", piece))  # type: ignore[misc]
        head = len(pieces).to_bytes(4, "big") + pieces[0]  # last: who reads it finds the others
        self._call(lambda: self._store.set(key, head))
        self._mine += [key, *(f"{key}+{k}" for k in range(1, len(pieces)))]

    def _get(self, key: str, rank: int, idle: Callable[[], object] = lambda: None) -> Any:
        """The value that a rank sets at a key, once it is there."""
        self._wait(key, rank, idle)
        head = self._call(lambda: self._store.get(key))
        rest = [
            self._call(lambda k=k: self._store.get(f"{key}+{k}"))  # type: ignore[misc]
            for k in range(1, int.from_bytes(head[:4], "big"))
        ]
        return pickle.loads(b"".join([head[4:], *rest]))

    def _wait(self, key: str, rank: int, idle: Callable[[], object]) -> None:
        began, pause, looked = time.monotonic(), SHORTEST, 0.0
        while not self._call(lambda: self._store.check([key])):  # a wait of the store's own logs each of its timeouts
            time.sleep(pause)
            pause = min(1.5 * pause, LOOKS / 10)
            if time.monotonic() - looked < LOOKS:
                continue
            looked = time.monotonic()
            if self._call(lambda: self._store.check([f"halted/{rank}"])):
                self._raise_as_first()
            idle()
            waited = time.monotonic() - began
            if self.stop is not None and self.stop.is_set() and waited > GRACE:
                self._interrupt()
            if waited > self.patience:
                at = self._store.get(f"at/{rank}").decode() if self._store.check([f"at/{rank}"]) else "start"
                raise LostProcessError(
                    f"rank {rank} hangs ({at}): it was waited for {self.patience:.0f} s ({WAIT}); end it, and the same "
                    "command continues"
                )

    def _call(self, call: Callable[[], Result]) -> Result:
        """A call of the store or of a backend, which fail where a process has died."""
        try:
            return call()
        except RuntimeError as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> Exception:
        if self.stop is not None and self.stop.is_set():  # torchrun has found it too, and stops this one
            return Interrupted(f"{self.stage}: stopped as requested")
        return LostProcessError(f"another process died ({_line(error)}); the same command continues")


def _line(error: BaseException) -> str:
    """The beginning of what a library says, which may go on with its own stack."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
