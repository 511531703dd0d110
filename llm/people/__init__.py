"""People in the loop: votes on pairs of responses, which pairs are worth a vote, and a run that waits for them."""

from .agreement import Agreement as Agreement
from .agreement import agreement as agreement
from .agreement import krippendorff_alpha as krippendorff_alpha
from .oracle import PeopleOracle as PeopleOracle
from .store import CastVote as CastVote
from .store import VoteStore as VoteStore
