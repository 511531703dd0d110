"""Constant-sum preference games: tables, solvers, exact equilibria, measures, the zoo, plots.

Knows nothing of language models. In the order of use:

- a *game*: ``PreferenceGame``, ``ConstantSumGame``, ``LowRankGame``, ``ContextualGame``, ``ImplicitGame``; ``load``
  reads one from a file, ``zoo`` has named ones and the families that they are drawn from;
- its exact equilibrium: ``nash``, ``nash_fractions``, ``face`` (all equilibria), ``regularised_nash``; ``equilibria``
  has what they return and the choice among several;
- a *solver*, a frozen dataclass: ``MWU``, ``OptimisticMWU``, ``ExtraGradient``, ``MagneticMirrorDescent``, ``INPO``,
  ``NashMD``, ``NashEMA``, ``Momentum``, ``ProximalPoint``, ``MagnetReset``, ``HistoryMixture``, and
  ``FixedOpponents`` around any of them; for tables only ``RegretMatching``, ``RegretMatchingPlus``,
  ``PredictiveRegretMatchingPlus``, ``FictitiousPlay``, ``Replicator``, ``GDA``, ``OptimisticGDA``; ``schedule`` has
  step sizes, ``solvers`` the lists of solvers;
- ``solve`` plays a solver on a game and returns a ``Solution`` with a ``Status``, ``sweep`` plays many settings and
  seeds at once; ``StepWarning`` and ``SupportWarning`` tell of runs that miss the Nash; ``feedback`` is what a step
  sees of the payoff, ``averaging`` has weights of the played policies; ``fictitious_play`` is a fast loop of its own;
- several objectives: ``MultiObjectiveGame``; ``objectives`` has weights, worst case, floors, lexicographic, majority;
- measures: ``duality_gap``, ``exploitability``, ``total_variation``, ``kl_divergence``, ``rotation_frequency``;
- ``analysis`` of tables (ratings, social choice, cycles, leaderboards, dueling bandits) and ``plots``;
- to write a solver: ``Step``, ``Policy``, the protocol ``Solver``.

Executors, the driver and helpers are under their modules: ``games.executor.TableExecutor``, ``games.driver.drive``.
A name is loaded when it is first used.
"""

if __name__ == "games":
    raise ImportError("import nashward.games, not games: this folder is a part of the package (pip install -e .)")

from typing import TYPE_CHECKING

from nashward.lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from . import analysis as analysis
    from . import averaging as averaging
    from . import driver as driver
    from . import equilibria as equilibria
    from . import executor as executor
    from . import feedback as feedback
    from . import objectives as objectives
    from . import opponents as opponents
    from . import plots as plots
    from . import policy as policy
    from . import solvers as solvers
    from . import zoo as zoo
    from .compiled.fictitious_play import fictitious_play as fictitious_play
    from .equilibria.nash import face as face
    from .equilibria.nash import nash as nash
    from .equilibria.nash import nash_fractions as nash_fractions
    from .equilibria.regularised import regularised_nash as regularised_nash
    from .forms.contextual import ContextualGame as ContextualGame
    from .forms.game import ConstantSumGame as ConstantSumGame
    from .forms.game import PreferenceGame as PreferenceGame
    from .forms.implicit import ImplicitGame as ImplicitGame
    from .forms.io import load as load
    from .forms.low_rank import LowRankGame as LowRankGame
    from .measures import duality_gap as duality_gap
    from .measures import exploitability as exploitability
    from .measures import kl_divergence as kl_divergence
    from .measures import total_variation as total_variation
    from .objectives.multi_objective import MultiObjectiveGame as MultiObjectiveGame
    from .policy import Policy as Policy
    from .solution import Solution as Solution
    from .solution import Status as Status
    from .solvers import GDA as GDA
    from .solvers import INPO as INPO
    from .solvers import MWU as MWU
    from .solvers import ExtraGradient as ExtraGradient
    from .solvers import FictitiousPlay as FictitiousPlay
    from .solvers import FixedOpponents as FixedOpponents
    from .solvers import HistoryMixture as HistoryMixture
    from .solvers import MagneticMirrorDescent as MagneticMirrorDescent
    from .solvers import MagnetReset as MagnetReset
    from .solvers import Momentum as Momentum
    from .solvers import NashEMA as NashEMA
    from .solvers import NashMD as NashMD
    from .solvers import OptimisticGDA as OptimisticGDA
    from .solvers import OptimisticMWU as OptimisticMWU
    from .solvers import PredictiveRegretMatchingPlus as PredictiveRegretMatchingPlus
    from .solvers import ProximalPoint as ProximalPoint
    from .solvers import RegretMatching as RegretMatching
    from .solvers import RegretMatchingPlus as RegretMatchingPlus
    from .solvers import Replicator as Replicator
    from .solvers import schedule as schedule
    from .solvers.support import SupportWarning as SupportWarning
    from .solving import solve as solve
    from .stability import StepWarning as StepWarning
    from .stability import rotation_frequency as rotation_frequency
    from .step import Solver as Solver
    from .step import Step as Step
    from .sweeping import sweep as sweep

_MODULES = {
    "ConstantSumGame": ".forms.game",
    "ContextualGame": ".forms.contextual",
    "ExtraGradient": ".solvers",
    "FictitiousPlay": ".solvers",
    "FixedOpponents": ".solvers",
    "GDA": ".solvers",
    "HistoryMixture": ".solvers",
    "INPO": ".solvers",
    "ImplicitGame": ".forms.implicit",
    "LowRankGame": ".forms.low_rank",
    "MWU": ".solvers",
    "MagnetReset": ".solvers",
    "MagneticMirrorDescent": ".solvers",
    "Momentum": ".solvers",
    "MultiObjectiveGame": ".objectives.multi_objective",
    "NashEMA": ".solvers",
    "NashMD": ".solvers",
    "OptimisticGDA": ".solvers",
    "OptimisticMWU": ".solvers",
    "Policy": ".policy",
    "PredictiveRegretMatchingPlus": ".solvers",
    "PreferenceGame": ".forms.game",
    "ProximalPoint": ".solvers",
    "RegretMatching": ".solvers",
    "RegretMatchingPlus": ".solvers",
    "Replicator": ".solvers",
    "Solution": ".solution",
    "Solver": ".step",
    "Status": ".solution",
    "Step": ".step",
    "StepWarning": ".stability",
    "SupportWarning": ".solvers.support",
    "analysis": ".analysis",
    "averaging": ".averaging",
    "duality_gap": ".measures",
    "equilibria": ".equilibria",
    "exploitability": ".measures",
    "face": ".equilibria.nash",
    "feedback": ".feedback",
    "fictitious_play": ".compiled.fictitious_play",
    "kl_divergence": ".measures",
    "load": ".forms.io",
    "nash": ".equilibria.nash",
    "nash_fractions": ".equilibria.nash",
    "objectives": ".objectives",
    "plots": ".plots",
    "regularised_nash": ".equilibria.regularised",
    "rotation_frequency": ".stability",
    "schedule": ".solvers",
    "solve": ".solving",
    "solvers": ".solvers",
    "sweep": ".sweeping",
    "total_variation": ".measures",
    "zoo": ".zoo",
}
_BESIDE = ("driver", "executor", "opponents", "policy")  # modules that are reached by attribute, not public names
__all__ = [*_MODULES]

if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    __getattr__, __dir__ = _lazy_names(__name__, _MODULES | {name: f".{name}" for name in _BESIDE})
