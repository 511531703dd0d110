"""Several processes that go through one command together."""

from .connection import Interrupted
from .group import Processes, processes
from .shared import Shared, Tally

__all__ = ["Interrupted", "Processes", "Shared", "Tally", "processes"]
