"""Solvers: frozen dataclasses. ``play`` yields mirror Steps; those with ``iterate`` are for tables only."""

from typing import Any

from . import schedule as schedule
from .conformance import check_solver as check_solver
from .mirror_steps.extragradient import ExtraGradient as ExtraGradient
from .mirror_steps.fixed_opponents import FixedOpponents as FixedOpponents
from .mirror_steps.history_mixture import HistoryMixture as HistoryMixture
from .mirror_steps.inpo import INPO as INPO
from .mirror_steps.magnetic_mirror_descent import MagneticMirrorDescent as MagneticMirrorDescent
from .mirror_steps.momentum import Momentum as Momentum
from .mirror_steps.mwu import MWU as MWU
from .mirror_steps.nash_md import NashEMA as NashEMA
from .mirror_steps.nash_md import NashMD as NashMD
from .mirror_steps.optimistic_mwu import OptimisticMWU as OptimisticMWU
from .mirror_steps.proximal_point import MagnetReset as MagnetReset
from .mirror_steps.proximal_point import ProximalPoint as ProximalPoint
from .tables_only.base import TableSolver as TableSolver
from .tables_only.fictitious_play import FictitiousPlay as FictitiousPlay
from .tables_only.gradient import GDA as GDA
from .tables_only.gradient import OptimisticGDA as OptimisticGDA
from .tables_only.regret_matching import PredictiveRegretMatchingPlus as PredictiveRegretMatchingPlus
from .tables_only.regret_matching import RegretMatching as RegretMatching
from .tables_only.regret_matching import RegretMatchingPlus as RegretMatchingPlus
from .tables_only.replicator import Replicator as Replicator

MIRROR_STEPS = (
    MWU, OptimisticMWU, ExtraGradient, MagneticMirrorDescent, INPO, NashMD, NashEMA, Momentum, ProximalPoint,
    MagnetReset, HistoryMixture,
)  # fmt: skip
"""Solvers that yield Steps: for tables and for language models."""
TABLES_ONLY = (
    RegretMatching, RegretMatchingPlus, PredictiveRegretMatchingPlus, FictitiousPlay, Replicator, GDA, OptimisticGDA,
)  # fmt: skip
"""Solvers that make no mirror steps."""
SOLVERS: tuple[type[Any], ...] = (*MIRROR_STEPS, *TABLES_ONLY)
"""Both, in the order of the tables in docs/solvers.md."""
