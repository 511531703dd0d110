"""Battles of models: their win table and what is read of it, with bands, style control and categories."""

from typing import TYPE_CHECKING

from nashward.lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from .bands import Bands as Bands
    from .battles import Battles as Battles
    from .categories import InCategory as InCategory
    from .categories import by_category as by_category
    from .settled_models import settled as settled
    from .sparse import FewBattles as FewBattles
    from .sparse import few_battles as few_battles
    from .sparse import without_models as without_models
    from .style_control import lengths_apart as lengths_apart

_PLACES = {
    "Bands": ".bands",
    "Battles": ".battles",
    "FewBattles": ".sparse",
    "InCategory": ".categories",
    "by_category": ".categories",
    "few_battles": ".sparse",
    "lengths_apart": ".style_control",
    "settled": ".settled_models",
    "without_models": ".sparse",
}
__all__ = [
    "Bands",
    "Battles",
    "FewBattles",
    "InCategory",
    "by_category",
    "few_battles",
    "lengths_apart",
    "settled",
    "without_models",
]

if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    __getattr__, __dir__ = _lazy_names(__name__, _PLACES)
