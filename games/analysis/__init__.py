"""Readings of a table of win probabilities: ratings, social choice, cycles beyond noise, leaderboards, duels."""

from typing import TYPE_CHECKING

from nashward.lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from . import battles as battles
    from . import confidence as confidence
    from . import contextual as contextual
    from . import count_table as count_table
    from . import dawid_skene as dawid_skene
    from . import dueling as dueling
    from . import game_ratings as game_ratings
    from . import leaderboard as leaderboard
    from . import pair_tests as pair_tests
    from . import prediction_powered as prediction_powered
    from . import ratings as ratings
    from . import significant_cycles as significant_cycles
    from . import social_choice as social_choice
    from . import style as style

__all__ = [
    "battles",
    "confidence",
    "contextual",
    "count_table",
    "dawid_skene",
    "dueling",
    "game_ratings",
    "leaderboard",
    "pair_tests",
    "prediction_powered",
    "ratings",
    "significant_cycles",
    "social_choice",
    "style",
]

if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    __getattr__, __dir__ = _lazy_names(__name__, {name: f".{name}" for name in __all__})
