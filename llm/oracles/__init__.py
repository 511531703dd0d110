"""Preference oracles: who wins when two responses to one prompt are compared."""

from .best_of_n import best_of_n, winner
from .blender import LLMBlenderOracle
from .cache import Cache
from .conformance import ConformanceError, check
from .embedding import EmbeddingOracle
from .fit import OracleFit, fit_oracle
from .fit_settings import FitSettings
from .gpm import GPM
from .load import as_oracle, check_source
from .matrices import PairwiseResult, curl, preference_matrices
from .pairrm import PairRM
from .pairwise import Function, Judge
from .protocol import PreferenceOracle
from .reward_model import RewardModel
from .scalar import Length, RewardFunction, ScalarOracle
from .vote_table import VoteTable
from .votes import Vote, read_votes

__all__ = [
    "GPM",
    "Cache",
    "ConformanceError",
    "EmbeddingOracle",
    "FitSettings",
    "Function",
    "Judge",
    "LLMBlenderOracle",
    "Length",
    "OracleFit",
    "PairRM",
    "PairwiseResult",
    "PreferenceOracle",
    "RewardFunction",
    "RewardModel",
    "ScalarOracle",
    "Vote",
    "VoteTable",
    "as_oracle",
    "best_of_n",
    "check",
    "check_source",
    "curl",
    "fit_oracle",
    "preference_matrices",
    "read_votes",
    "winner",
]
