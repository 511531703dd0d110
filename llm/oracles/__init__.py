"""Preference oracles: who wins when two responses to one prompt are compared."""

from .cache import Cache
from .embedding import EmbeddingOracle
from .matrices import PairwiseResult, curl, preference_matrices
from .pairrm import PairRM
from .pairwise import Function, Judge
from .protocol import PreferenceOracle
from .scalar import Length, RewardFunction, ScalarOracle

__all__ = [
    "Cache",
    "EmbeddingOracle",
    "Function",
    "Judge",
    "Length",
    "PairRM",
    "PairwiseResult",
    "PreferenceOracle",
    "RewardFunction",
    "ScalarOracle",
    "curl",
    "preference_matrices",
]
