"""Several processes that go through one command together."""

from .group import Interrupted, Processes, processes
from .shared import Shared, Tally

__all__ = ["Interrupted", "Processes", "Shared", "Tally", "processes"]
