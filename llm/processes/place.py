"""Which of the processes of a command this is, by the environment that torchrun sets."""

from __future__ import annotations

import os
from pathlib import Path

from nashward.errors import NashwardError

WAIT = "NASHWARD_WAIT"  # the environment variable of ``Place.patience``
LONGEST = 7200.0  # seconds: a shard of a 7B model whose layers are streamed takes most of an hour


class Place:
    """The place of this process among those that were started together; without a launcher there is one."""

    def __init__(self) -> None:
        self._alone = False

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
