"""Preference oracles: judges of two responses to one prompt, and the tables of win probabilities that they give.

Names are loaded when they are first used, so that ``import nashward.llm.oracles`` loads neither torch nor transformers.
"""

from typing import TYPE_CHECKING

from nashward.lazy import lazy_names

if TYPE_CHECKING:
    from .best_of_n import select_best as select_best
    from .cache import Cache as Cache
    from .conformance.check_oracle import ConformanceError as ConformanceError
    from .conformance.check_oracle import check_oracle as check_oracle
    from .corrections.corrected import Calibrated as Calibrated
    from .corrections.corrected import StyleControl as StyleControl
    from .corrections.corrected import Unflipped as Unflipped
    from .corrections.corrected import WithTies as WithTies
    from .corrections.correction import CorrectedSource as CorrectedSource
    from .diversity import Diversity as Diversity
    from .diversity import SemanticDiversity as SemanticDiversity
    from .embedding import EmbeddingOracle as EmbeddingOracle
    from .ensembles.ensemble import Ensemble as Ensemble
    from .ensembles.objectives import Combination as Combination
    from .ensembles.objectives import Objectives as Objectives
    from .ensembles.source import EnsembleSource as EnsembleSource
    from .fitting.fit import OracleFit as OracleFit
    from .fitting.fit import fit_oracle as fit_oracle
    from .fitting.settings import FitSettings as FitSettings
    from .fitting.vote_table import VoteTable as VoteTable
    from .fitting.votes import Vote as Vote
    from .fitting.votes import read_votes as read_votes
    from .functions.pairwise import Function as Function
    from .functions.pairwise import Judge as Judge
    from .functions.reward_function import RewardFunction as RewardFunction
    from .judges.endpoint import EndpointJudge as EndpointJudge
    from .judges.everyday import EverydayMajority as EverydayMajority
    from .judges.local_judge import LocalJudge as LocalJudge
    from .judges.plain import Plain as Plain
    from .judges.to_the_point import ToThePoint as ToThePoint
    from .load import as_oracle as as_oracle
    from .load import check_source as check_source
    from .matrices import PairwiseResult as PairwiseResult
    from .matrices import curl as curl
    from .matrices import preference_matrices as preference_matrices
    from .models.gpm import GPM as GPM
    from .models.llm_blender import LLMBlenderOracle as LLMBlenderOracle
    from .models.pairrm import PairRM as PairRM
    from .models.pooled import PooledOracle as PooledOracle
    from .models.reward_model import RewardModel as RewardModel
    from .protocol import PreferenceOracle as PreferenceOracle
    from .scalar import Length as Length
    from .scalar import ScalarOracle as ScalarOracle

_MODULES = {
    "Cache": ".cache",
    "Calibrated": ".corrections.corrected",
    "Combination": ".ensembles.objectives",
    "ConformanceError": ".conformance.check_oracle",
    "CorrectedSource": ".corrections.correction",
    "Diversity": ".diversity",
    "EmbeddingOracle": ".embedding",
    "EndpointJudge": ".judges.endpoint",
    "Ensemble": ".ensembles.ensemble",
    "EnsembleSource": ".ensembles.source",
    "EverydayMajority": ".judges.everyday",
    "FitSettings": ".fitting.settings",
    "Function": ".functions.pairwise",
    "GPM": ".models.gpm",
    "Judge": ".functions.pairwise",
    "LLMBlenderOracle": ".models.llm_blender",
    "Length": ".scalar",
    "LocalJudge": ".judges.local_judge",
    "OracleFit": ".fitting.fit",
    "Objectives": ".ensembles.objectives",
    "PairRM": ".models.pairrm",
    "PairwiseResult": ".matrices",
    "Plain": ".judges.plain",
    "PooledOracle": ".models.pooled",
    "PreferenceOracle": ".protocol",
    "RewardFunction": ".functions.reward_function",
    "RewardModel": ".models.reward_model",
    "ScalarOracle": ".scalar",
    "SemanticDiversity": ".diversity",
    "StyleControl": ".corrections.corrected",
    "ToThePoint": ".judges.to_the_point",
    "Unflipped": ".corrections.corrected",
    "Vote": ".fitting.votes",
    "VoteTable": ".fitting.vote_table",
    "WithTies": ".corrections.corrected",
    "as_oracle": ".load",
    "check_oracle": ".conformance.check_oracle",
    "check_source": ".load",
    "curl": ".matrices",
    "fit_oracle": ".fitting.fit",
    "preference_matrices": ".matrices",
    "read_votes": ".fitting.votes",
    "select_best": ".best_of_n",
}
__all__ = list(_MODULES)

if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
