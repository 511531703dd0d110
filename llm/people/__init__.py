"""People in the loop: votes on pairs of responses, which pairs are worth a vote, and a run that waits for them.

Names are loaded when they are first used: the page needs no transformers.
"""

from typing import TYPE_CHECKING

from nashward.lazy import lazy_names

if TYPE_CHECKING:
    from .agreement import krippendorff_alpha as krippendorff_alpha
    from .asking import Asker as Asker
    from .formats import read_cast_votes as read_cast_votes
    from .formats import write_votes as write_votes
    from .oracle import PeopleOracle as PeopleOracle
    from .records import CastVote as CastVote
    from .store import VoteStore as VoteStore

_MODULES = {
    "Asker": ".asking",
    "CastVote": ".records",
    "PeopleOracle": ".oracle",
    "VoteStore": ".store",
    "krippendorff_alpha": ".agreement",
    "read_cast_votes": ".formats",
    "write_votes": ".formats",
}
__all__ = list(_MODULES)

if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
