"""Constant-sum preference games: tables, solvers, exact equilibria, measures, the zoo, plots.

Knows nothing of language models. A *game* is a payoff table (or a batch of them), a *solver* a frozen dataclass that
yields Steps, ``solve`` plays one on the other, ``nash`` finds the equilibrium exactly.
"""

if __name__ == "games":
    raise ImportError("import nashward.games, not games: this folder is a part of the package (pip install -e .)")

from . import generators as generators
from . import plots as plots
from . import ratings as ratings
from . import social_choice as social_choice
from . import zoo as zoo
from .accelerator import ACCELERATED as ACCELERATED
from .averaging import linear as linear
from .averaging import uniform as uniform
from .battles import Battles as Battles
from .battles import from_battles as from_battles
from .battles import read_battles as read_battles
from .cast import member as member
from .cast import resolved as resolved
from .contextual import ContextualGame as ContextualGame
from .driver import check_solver as check_solver
from .driver import drive as drive
from .duels import challengers as challengers
from .duels import uniform_pairs as uniform_pairs
from .duels import winner_from_duels as winner_from_duels
from .embedding import split as split
from .embedding import symmetrised as symmetrised
from .equilibria import Face as Face
from .equilibria import centre as centre
from .equilibria import maximum_entropy as maximum_entropy
from .equilibria import vertex as vertex
from .equilibrium import Equilibrium as Equilibrium
from .equilibrium import face as face
from .equilibrium import nash as nash
from .equilibrium import nash_fractions as nash_fractions
from .feedback import Duels as Duels
from .feedback import Feedback as Feedback
from .feedback import Samples as Samples
from .feedback import exact as exact
from .fictitious_play import fictitious_play as fictitious_play
from .game import ConstantSumGame as ConstantSumGame
from .game import Game as Game
from .game import PreferenceGame as PreferenceGame
from .game import Profile as Profile
from .implicit import ImplicitGame as ImplicitGame
from .load import load as load
from .low_rank import LowRankGame as LowRankGame
from .measures import duality_gap as duality_gap
from .measures import exploitability as exploitability
from .measures import kl_divergence as kl_divergence
from .measures import total_variation as total_variation
from .policy import Blend as Blend
from .policy import Policy as Policy
from .regularised import RegularisedEquilibrium as RegularisedEquilibrium
from .regularised import regularised_best_response as regularised_best_response
from .regularised import regularised_gap as regularised_gap
from .regularised import regularised_nash as regularised_nash
from .regularised import regularised_path as regularised_path
from .solution import Solution as Solution
from .solution import SolverError as SolverError
from .solution import Status as Status
from .solve import solve as solve
from .solvers import INPO as INPO
from .solvers import MIRROR_STEPS as MIRROR_STEPS
from .solvers import MWU as MWU
from .solvers import SOLVERS as SOLVERS
from .solvers import TABLES_ONLY as TABLES_ONLY
from .solvers import AgainstCast as AgainstCast
from .solvers import ExtraGradient as ExtraGradient
from .solvers import FictitiousPlay as FictitiousPlay
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
from .step import Solver as Solver
from .step import Step as Step
from .table_solver import TableSolver as TableSolver
from .tables import Tables as Tables
from .thresholds import StepWarning as StepWarning
from .thresholds import frequency as frequency
