"""Equilibria of symmetric games, exactly: one file a method, and the rule that chooses among them.

Everything here takes margins, the skew matrix ``A = P - 1/2``; x is an equilibrium where ``max(A x) <= 0``.
"""

from .double_oracle import double_oracle as double_oracle
from .face import Face as Face
from .face import centre as centre
from .face import face as face
from .face import maximum_entropy as maximum_entropy
from .face import vertex as vertex
from .linear_program import linear_program as linear_program
from .rational import Rational as Rational
from .selection import GAP as GAP
from .selection import STRICT as STRICT
from .selection import one as one
from .selection import solve as solve

__all__ = ["GAP", "STRICT", "Face", "Rational", "centre", "double_oracle", "face", "linear_program",
           "maximum_entropy", "one", "solve", "vertex"]  # fmt: skip
