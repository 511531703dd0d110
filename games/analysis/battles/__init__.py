"""Battles of models: their win table and what is read of it, with bands, style control and categories."""

from typing import TYPE_CHECKING

from nashward.lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from .bands import Bands as Bands
    from .battles import Battles as Battles
    from .categories import InCategory as InCategory

__all__ = ["Bands", "Battles", "InCategory"]

if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    __getattr__, __dir__ = _lazy_names(
        __name__, {"Bands": ".bands", "Battles": ".battles", "InCategory": ".categories"}
    )
