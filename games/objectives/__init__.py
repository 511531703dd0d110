"""Several objectives at once: policies that serve all of them, exactly on a table and by mirror steps.

Exact, with a certificate: ``weights``, ``worst_case``, ``floors``, ``lexicographic``, ``majority``; each takes a
``games.MultiObjectiveGame`` and returns a ``Compromise``. As games that ``games.solve`` plays by mirror steps:
``MultiObjectiveGame.weighted`` and ``.majority``, ``EntropicGame`` for the worst case, ``FloorsGame`` for floors.
"""

from .compromise import Compromise as Compromise
from .entropic import EntropicGame as EntropicGame
from .exact import majority as majority
from .exact import weights as weights
from .exact import worst_case as worst_case
from .feasible import largest_slack as largest_slack
from .floors import FloorsGame as FloorsGame
from .floors import WithMultipliers as WithMultipliers
from .floors import floors as floors
from .lexicographic import lexicographic as lexicographic
from .multi_objective import MultiObjectiveGame as MultiObjectiveGame
