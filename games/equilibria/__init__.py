"""Exact equilibria: what ``nash`` and ``regularised_nash`` return, the face of all equilibria, points chosen on it.

``games.nash(game, maximum_entropy)`` chooses among several equilibria. Each module holds one method; all take
margins, the skew matrix ``A = P - 1/2``, of which x is an equilibrium where ``max(A x) <= 0``.
"""

from .face import Face as Face
from .face import centre as centre
from .face import maximum_entropy as maximum_entropy
from .face import vertex as vertex
from .nash import Equilibrium as Equilibrium
from .rational import Rational as Rational
from .regularised import RegularisedEquilibrium as RegularisedEquilibrium
from .regularised import regularised_gap as regularised_gap
from .regularised import regularised_path as regularised_path
