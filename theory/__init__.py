"""Theorems as objects: each has its statement, its source and its bound, so that tests and plots can compare it
with the run of a solver. Imports ``nashward.games`` only."""

if __name__ == "theory":
    raise ImportError("import nashward.theory, not theory: this folder is a part of the package (pip install -e .)")

from .estimators import KSamples as KSamples
from .estimators import OracleError as OracleError
from .estimators import ScoresLoseCycles as ScoresLoseCycles
from .likelihood import LogPartition as LogPartition
from .likelihood import MeanWinRate as MeanWinRate
from .likelihood import OrderedLogPartition as OrderedLogPartition
from .likelihood import PairLoss as PairLoss
from .likelihood import TablesRaiseTheChosen as TablesRaiseTheChosen
from .likelihood import dpo_forces as dpo_forces
from .likelihood import ipo_forces as ipo_forces
from .likelihood import likelihood_change as likelihood_change
from .likelihood import sppo_forces as sppo_forces
from .mwu_average import MWUAverage as MWUAverage
from .mwu_average import MWULeaves as MWULeaves
from .mwu_average import SPPOTheorem as SPPOTheorem
from .mwu_average import complexity as complexity
from .mwu_average import explain_bound as explain_bound
from .objectives import EntropicAscent as EntropicAscent
from .objectives import FloorsAverage as FloorsAverage
from .objectives import LexicographicWeights as LexicographicWeights
from .optimistic import OptimisticAverage as OptimisticAverage
from .optimistic import PublishedRootFails as PublishedRootFails
from .regularised import Contraction as Contraction
from .regularised import ExactProximalPoint as ExactProximalPoint
from .regularised import FixedMagnet as FixedMagnet
from .regularised import MagneticIsINPO as MagneticIsINPO
from .regularised import MovingMagnet as MovingMagnet
from .regularised import NashMDBias as NashMDBias
from .regularised import NashMDRate as NashMDRate
from .regularised import ProximalMonotone as ProximalMonotone
from .regularised import RegularisedGap as RegularisedGap
from .stability import local_factor as local_factor
from .stability import stable_below as stable_below
from .step_threshold import LocalThreshold as LocalThreshold
from .table_solvers import FictitiousPlayRate as FictitiousPlayRate
from .table_solvers import GradientAverage as GradientAverage
from .table_solvers import OptimisticGradientAverage as OptimisticGradientAverage
from .table_solvers import RegretMatchingAverage as RegretMatchingAverage
from .table_solvers import ReplicatorInvariant as ReplicatorInvariant
from .theorem_table import CHECKS as CHECKS
from .theorem_table import Row as Row
from .theorem_table import table as table
from .verification import Check as Check
from .verification import Theorem as Theorem
