"""Theorems as objects: each knows its statement, its source and its bound, so that tests and plots can hold it
against what a solver did. Imports ``nashward.games`` only."""

if __name__ == "theory":
    raise ImportError("import nashward.theory, not theory: this folder is a part of the package (pip install -e .)")

from .mwu_average import MWUAverage as MWUAverage
from .mwu_average import complexity as complexity
from .stability import local_factor as local_factor
from .stability import stable_below as stable_below
