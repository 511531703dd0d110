"""Solvers: frozen dataclasses. ``play`` yields mirror Steps; those with ``iterate`` are for tables only."""

from . import schedule as schedule
from .against_cast import AgainstCast as AgainstCast
from .extragradient import ExtraGradient as ExtraGradient
from .fictitious_play import FictitiousPlay as FictitiousPlay
from .history_mixture import HistoryMixture as HistoryMixture
from .inpo import INPO as INPO
from .magnetic_mirror_descent import MagneticMirrorDescent as MagneticMirrorDescent
from .momentum import Momentum as Momentum
from .mwu import MWU as MWU
from .nash_md import NashEMA as NashEMA
from .nash_md import NashMD as NashMD
from .optimistic_mwu import OptimisticMWU as OptimisticMWU
from .proximal_point import MagnetReset as MagnetReset
from .proximal_point import ProximalPoint as ProximalPoint
from .regret_matching import PredictiveRegretMatchingPlus as PredictiveRegretMatchingPlus
from .regret_matching import RegretMatching as RegretMatching
from .regret_matching import RegretMatchingPlus as RegretMatchingPlus
from .replicator import Replicator as Replicator

MIRROR_STEPS = (
    MWU, OptimisticMWU, ExtraGradient, MagneticMirrorDescent, INPO, NashMD, NashEMA, Momentum, ProximalPoint,
    MagnetReset, HistoryMixture,
)  # fmt: skip
"""Solvers that yield Steps: for tables and for language models."""
TABLES_ONLY = (RegretMatching, RegretMatchingPlus, PredictiveRegretMatchingPlus, FictitiousPlay, Replicator)
"""Solvers that are no mirror steps."""
SOLVERS = (*MIRROR_STEPS, *TABLES_ONLY)
"""Both, in the order of the tables in docs/solvers.md."""
