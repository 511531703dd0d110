"""The processes of a command that torchrun started: which of them this is, on which device, and how they act as one.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nashward.counted import counted
from nashward.errors import LostProcessError, NashwardError, OtherProcessError

from .shared import Shared, Tally

if TYPE_CHECKING:
    from torch import Tensor

WAIT = "NASHWARD_WAIT"  # the environment variable of ``Processes.patience``
LONGEST = 7200.0  # seconds: a shard of a 7B model whose layers are streamed takes most of an hour
CONNECTING = 60.0  # seconds, at least: the others may still be importing
GRACE = 10.0  # seconds that a process which is to stop waits for the others; torchrun kills after 30
SHORTEST = 2e-4  # seconds between two looks for a value, at first
LOOKS = 0.2  # seconds between two looks for what has become of the process that is waited for
PIECE = 1 << 22  # bytes: the store refuses values of more than 8 MiB

Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")


class Interrupted(Exception):
    """A run stops because it was to stop, here or in another process; all that it has done is on disk."""


class Processes:
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
        self.stage = "start"  # what this process does, for the others' messages
        self.stop: threading.Event | None = None  # set where this process is to stop
        self._alone = False
        self._store: Any = None
        self._number = 0  # of the calls so far, the same in every process
        self._mine: list[str] = []  # keys that this process has set and that others may still read
        self._events = 0  # that the first process has received
        self._sharing = False  # this process works on an item of its own
        self._begun = False
        self._speaks: bool | None = None
        self._halted = False  # this process goes no further, and no call that waits for all is in step any more

    # Which it is.

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 if self._alone or "RANK" not in os.environ else int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def rank(self) -> int:
        """The number of this one, from 0 on."""
        return 0 if self.count == 1 else int(os.environ["RANK"])

    @property
    def main(self) -> bool:
        """Whether this is the first: it decides, owns the run's record and writes the messages."""
        return self.rank == 0

    @property
    def patience(self) -> float:
        """Seconds that the others may be waited for.

        Raises:
            NashwardError: the environment variable is no positive number.
        """
        given = os.environ.get(WAIT, "")
        try:
            seconds = float(given) if given else LONGEST
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < 1e7:
            raise NashwardError(f"{WAIT} is {given!r}; expected seconds to wait for other processes, as {LONGEST:.0f}")
        return seconds

    @property
    def here(self) -> int:
        """How many of them share this machine."""
        return 1 if self.count == 1 else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    @property
    def machine(self) -> int:
        """The number of this machine, from 0 on."""
        return 0 if self.count == 1 else int(os.environ.get("GROUP_RANK", "0"))

    @property
    def leads_machine(self) -> bool:
        """Whether this is the first process of its machine."""
        return self.count == 1 or os.environ.get("LOCAL_RANK", "0") == "0"

    def local(self, file: Path) -> Path:
        """The place of a file that processes of one machine share and machines cannot, as SQLite's: the first machine's
        is ``file``, the others' have the machine's number in their name."""
        machine = self.machine
        return file if machine == 0 else file.with_name(f"{file.stem}-machine-{machine}{file.suffix}")

    def alone(self) -> None:
        """Go on as if this process was the only one."""
        self._alone = True

    # Beginning and end.

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

    # Stopping.

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

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return flag if self.count == 1 else any(self.gather(flag))

    # Acting as one.

    def at(self, stage: str) -> None:
        """Name what this process begins."""
        self.stage = stage
        if self._store is not None:
            self._call(lambda: self._store.set(f"at/{self.rank}", stage))

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

    # Events of the others.

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

    # The store.

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


processes = Processes()
"""This process among those that were started together."""
