"""Solvers: frozen dataclasses whose ``play`` yields Steps. One file each."""

from .extragradient import ExtraGradient as ExtraGradient
from .magnetic_mirror_descent import MagneticMirrorDescent as MagneticMirrorDescent
from .mwu import MWU as MWU
from .optimistic_mwu import OptimisticMWU as OptimisticMWU

SOLVERS = (MWU, OptimisticMWU, ExtraGradient, MagneticMirrorDescent)
