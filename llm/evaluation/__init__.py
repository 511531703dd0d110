"""Evaluation: win rates, length-controlled win rates, over-optimisation of an oracle, exploitability.

Names are loaded when they are first used, so that ``import nashward.llm.evaluation`` loads neither torch nor scipy.
"""

from typing import TYPE_CHECKING

from nashward.lazy import lazy_names

if TYPE_CHECKING:
    from .win_rates.length_control import LengthControlled as LengthControlled
    from .win_rates.length_control import NotComparable as NotComparable
    from .win_rates.length_control import Weights as Weights
    from .win_rates.length_control import length_controlled_win_rate as length_controlled_win_rate
    from .win_rates.length_control import predict as predict
    from .win_rates.win_rate import WinRate as WinRate
    from .win_rates.win_rate import win_rate as win_rate

_MODULES = {
    "LengthControlled": ".win_rates.length_control",
    "NotComparable": ".win_rates.length_control",
    "Weights": ".win_rates.length_control",
    "WinRate": ".win_rates.win_rate",
    "length_controlled_win_rate": ".win_rates.length_control",
    "predict": ".win_rates.length_control",
    "win_rate": ".win_rates.win_rate",
}
__all__ = list(_MODULES)

if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
