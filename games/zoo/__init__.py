"""Named preference games, and the families that they are drawn from.

``names()`` lists them, ``get(name)`` builds one, ``GAMES[name]`` says what is known about it, and each game is
also a function. ``generators`` has the families.
"""

import difflib
from typing import TYPE_CHECKING, NoReturn

from . import generators as generators
from .catalogue import EXACT as EXACT
from .catalogue import biased_rock_paper_scissors as biased_rock_paper_scissors
from .catalogue import borda_disagrees as borda_disagrees
from .catalogue import bradley_terry as bradley_terry
from .catalogue import circular_seven as circular_seven
from .catalogue import cloned_rock as cloned_rock
from .catalogue import colonel_blotto as colonel_blotto
from .catalogue import comal_cycle as comal_cycle
from .catalogue import condorcet_sixty as condorcet_sixty
from .catalogue import condorcet_winner as condorcet_winner
from .catalogue import disc_drawn as disc_drawn
from .catalogue import disc_rim as disc_rim
from .catalogue import embedded_pennies as embedded_pennies
from .catalogue import embedded_regret as embedded_regret
from .catalogue import embedded_slow as embedded_slow
from .catalogue import grime_dice as grime_dice
from .catalogue import higher_wins as higher_wins
from .catalogue import indifference as indifference
from .catalogue import intransitive_dice as intransitive_dice
from .catalogue import linear_scores as linear_scores
from .catalogue import low_rank_preferences as low_rank_preferences
from .catalogue import mendelsohn as mendelsohn
from .catalogue import mujoco_soccer as mujoco_soccer
from .catalogue import narrow_winner as narrow_winner
from .catalogue import near_boundary_cycle as near_boundary_cycle
from .catalogue import paley_seven as paley_seven
from .catalogue import pure_cycles as pure_cycles
from .catalogue import random_preferences as random_preferences
from .catalogue import random_tournament as random_tournament
from .catalogue import ring_of_rings as ring_of_rings
from .catalogue import ring_of_six as ring_of_six
from .catalogue import rock_paper_scissors as rock_paper_scissors
from .catalogue import rock_paper_scissors_lizard_spock as rock_paper_scissors_lizard_spock
from .catalogue import rock_paper_scissors_well as rock_paper_scissors_well
from .catalogue import schulze_vote as schulze_vote
from .catalogue import scores_with_cycles as scores_with_cycles
from .catalogue import sppo_pairrm as sppo_pairrm
from .catalogue import tennessee as tennessee
from .catalogue import three_judges as three_judges
from .catalogue import two_rings as two_rings
from .catalogue import two_tiers as two_tiers
from .generators import three_cycle as three_cycle
from .registry import DEFINITIONS as DEFINITIONS
from .registry import GAMES as GAMES
from .registry import PROPERTIES as PROPERTIES
from .registry import Entry as Entry
from .registry import Property as Property
from .registry import definitions as definitions
from .registry import get as get
from .registry import names as names

if not TYPE_CHECKING:  # for a type checker an unknown name stays an error

    def __getattr__(name: str) -> NoReturn:
        near = difflib.get_close_matches(name, names(), 1)
        meant = f"; the nearest game is {near[0]}" if near and not name.startswith("_") else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{meant}", name=name)
