"""Preference oracles: who wins when two responses to one prompt are compared."""

from .pairrm import PairRM
from .protocol import PairwiseResult, PreferenceOracle, curl, preference_matrices

__all__ = ["PairRM", "PairwiseResult", "PreferenceOracle", "curl", "preference_matrices"]
