"""Is it better, than what, says who: win rates, length control, what a run gave up for its oracle, who beats it."""

from .win_rates.length_control import LengthControlled as LengthControlled
from .win_rates.length_control import NotComparable as NotComparable
from .win_rates.length_control import Weights as Weights
from .win_rates.length_control import length_controlled_win_rate as length_controlled_win_rate
from .win_rates.length_control import predict as predict
from .win_rates.win_rate import WinRate as WinRate
from .win_rates.win_rate import win_rate as win_rate
