"""People in the loop: votes on pairs of responses, which pairs are worth a vote, and a run that waits for them."""

from .store import CastVote as CastVote
from .store import VoteStore as VoteStore
