"""Several processes of one command, as torchrun starts them, for tests: forks of this one, which has loaded torch."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nashward.llm.processes import processes


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun sets on one machine, as strings."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return {name: str(value) for name, value in {**numbers, **address}.items()}


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


class Ranks:
    """``count`` forks that call ``function(rank)`` as the processes of one command.

    Args:
        home: an empty folder for what they return and print.
        more: environment variables besides those of the launcher.
    """

    def __init__(self, count: int, function: Callable[[int], Any], home: Path, **more: str):
        self.home, self.codes = home, dict[int, int]()
        home.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.pids = [self._fork(rank, count, port, function, more) for rank in range(count)]

    def _fork(self, rank: int, count: int, port: int, function: Callable[[int], Any], more: dict[str, str]) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.environ |= {**environment(rank, count, port), **more}
            for stream, name in ((1, "output"), (2, "errors")):
                os.dup2(os.open(self.home / f"{name}-{rank}", os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # pytest's go elsewhere
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            tqdm.set_lock(threading.RLock())  # forks share the one they inherit
            torch.set_num_threads(1)
            faulthandler.register(signal.SIGUSR1, open(2, "w", closefd=False), all_threads=True)  # noqa: SIM115
            value = function(rank)
            processes.leave()  # as when Python ends
            (self.home / f"value-{rank}").write_bytes(pickle.dumps(value))
            code = value if isinstance(value, int) and not isinstance(value, bool) else 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001  # a child must not go on as pytest
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def look(self) -> None:
        """Note which have ended."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.codes and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                self.codes[rank] = os.waitstatus_to_exitcode(ended[1])

    def wait_for(self, rank: int, seconds: float = 240.0) -> int:
        """The exit code of one of them."""
        until = time.monotonic() + seconds
        while rank not in self.codes:
            self.look()
            assert time.monotonic() < until, self.output()
            time.sleep(0.01)
        return self.codes[rank]

    def wait(self, seconds: float = 240.0, terminate: bool = False) -> list[int]:
        """The exit codes, of a killed one the negative signal; all are killed where they take longer.

        Args:
            terminate: when one has failed, the others get SIGTERM, as from torchrun.
        """
        until, told = time.monotonic() + seconds, False
        while len(self.codes) < len(self.pids):
            self.look()
            if terminate and not told and any(self.codes.values()):
                told = True
                for rank in range(len(self.pids)):
                    if rank not in self.codes:
                        self.kill(rank, signal.SIGTERM)
            if time.monotonic() > until:
                for rank, pid in enumerate(self.pids):
                    if rank not in self.codes:
                        os.kill(pid, signal.SIGUSR1)  # where it is
                        time.sleep(0.2)
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
                raise TimeoutError(f"ended: {self.codes} of {len(self.pids)}\n{self.output()}")
            time.sleep(0.01)
        return [self.codes[rank] for rank in range(len(self.pids))]

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to one of them."""
        os.kill(self.pids[rank], number)

    def output(self, rank: int | None = None) -> str:
        """What they have printed, or one of them, with its errors."""
        ranks = range(len(self.pids)) if rank is None else [rank]
        return "".join(self.printed(k) + (self.home / f"errors-{k}").read_text() for k in ranks)

    def printed(self, rank: int) -> str:
        """What one of them has written to stdout."""
        return (self.home / f"output-{rank}").read_text()

    def values(self, seconds: float = 240.0) -> list[Any]:
        """What they return; fails where one does not."""
        codes = self.wait(seconds)
        assert codes == [0] * len(self.pids), self.output()
        return [pickle.loads((self.home / f"value-{rank}").read_bytes()) for rank in range(len(self.pids))]
