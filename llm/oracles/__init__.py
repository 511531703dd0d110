"""Preference oracles: who wins when two responses to one prompt are compared."""

from .best_of_n import best_of_n, winner
from .cache import Cache
from .conformance import ConformanceError, check
from .embedding import EmbeddingOracle
from .fitting.fit import OracleFit, fit_oracle
from .fitting.settings import FitSettings
from .fitting.vote_table import VoteTable
from .fitting.votes import Vote, read_votes
from .load import as_oracle, check_source
from .matrices import PairwiseResult, curl, preference_matrices
from .models.gpm import GPM
from .models.llm_blender import LLMBlenderOracle
from .models.pairrm import PairRM
from .models.reward_model import RewardModel
from .pairwise import Function, Judge
from .protocol import PreferenceOracle
from .scalar import Length, RewardFunction, ScalarOracle

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
