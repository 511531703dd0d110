"""Constant-sum preference games: tables, solvers, exact equilibria, measures, the zoo, plots.

Knows nothing of language models. A *game* is a payoff table (or a batch of them), a *solver* a frozen dataclass that
yields Steps, ``solve`` plays one on the other, ``nash`` finds the equilibrium exactly.
"""

if __name__ == "games":
    raise ImportError("import nashward.games, not games: this folder is a part of the package (pip install -e .)")

from . import plots as plots
from . import zoo as zoo
from .analysis import ratings as ratings
from .analysis import social_choice as social_choice
from .analysis.dueling import challengers as challengers
from .analysis.dueling import uniform_pairs as uniform_pairs
from .analysis.dueling import winner_from_duels as winner_from_duels
from .analysis.leaderboard import Battles as Battles
from .analysis.leaderboard import from_battles as from_battles
from .analysis.leaderboard import read_battles as read_battles
from .averaging import linear as linear
from .averaging import uniform as uniform
from .compiled.accelerator import ACCELERATED as ACCELERATED
from .compiled.fictitious_play import fictitious_play as fictitious_play
from .driver import check_solver as check_solver
from .driver import drive as drive
from .equilibria import Face as Face
from .equilibria import centre as centre
from .equilibria import maximum_entropy as maximum_entropy
from .equilibria import vertex as vertex
from .equilibria.nash import Equilibrium as Equilibrium
from .equilibria.nash import face as face
from .equilibria.nash import nash as nash
from .equilibria.nash import nash_fractions as nash_fractions
from .equilibria.regularized import RegularisedEquilibrium as RegularisedEquilibrium
from .equilibria.regularized import regularised_best_response as regularised_best_response
from .equilibria.regularized import regularised_gap as regularised_gap
from .equilibria.regularized import regularised_nash as regularised_nash
from .equilibria.regularized import regularised_path as regularised_path
from .executor import TableExecutor as TableExecutor
from .feedback import DuelingFeedback as DuelingFeedback
from .feedback import Feedback as Feedback
from .feedback import SampledFeedback as SampledFeedback
from .feedback import exact as exact
from .forms.contextual import ContextualGame as ContextualGame
from .forms.game import ConstantSumGame as ConstantSumGame
from .forms.game import Game as Game
from .forms.game import PreferenceGame as PreferenceGame
from .forms.game import Profile as Profile
from .forms.implicit import ImplicitGame as ImplicitGame
from .forms.io import load as load
from .forms.low_rank import LowRankGame as LowRankGame
from .forms.symmetrize import split as split
from .forms.symmetrize import symmetrised as symmetrised
from .measures import duality_gap as duality_gap
from .measures import exploitability as exploitability
from .measures import kl_divergence as kl_divergence
from .measures import total_variation as total_variation
from .opponents import member as member
from .opponents import resolved as resolved
from .policy import Blend as Blend
from .policy import Policy as Policy
from .solution import Solution as Solution
from .solution import SolverError as SolverError
from .solution import Status as Status
from .solve import solve as solve
from .solvers import INPO as INPO
from .solvers import MIRROR_STEPS as MIRROR_STEPS
from .solvers import MWU as MWU
from .solvers import SOLVERS as SOLVERS
from .solvers import TABLES_ONLY as TABLES_ONLY
from .solvers import ExtraGradient as ExtraGradient
from .solvers import FictitiousPlay as FictitiousPlay
from .solvers import FixedOpponents as FixedOpponents
from .solvers import HistoryMixture as HistoryMixture
from .solvers import MagneticMirrorDescent as MagneticMirrorDescent
from .solvers import MagnetReset as MagnetReset
from .solvers import Momentum as Momentum
from .solvers import NashEMA as NashEMA
from .solvers import NashMD as NashMD
from .solvers import OptimisticMWU as OptimisticMWU
from .solvers import PredictiveRegretMatchingPlus as PredictiveRegretMatchingPlus
from .solvers import ProximalPoint as ProximalPoint
from .solvers import RegretMatching as RegretMatching
from .solvers import RegretMatchingPlus as RegretMatchingPlus
from .solvers import Replicator as Replicator
from .solvers import schedule as schedule
from .solvers.tables_only.base import TableSolver as TableSolver
from .stability import StepWarning as StepWarning
from .stability import rotation_frequency as rotation_frequency
from .step import Solver as Solver
from .step import Step as Step
from .zoo import generators as generators
