"""What is known about each game of the zoo; finding games by name or by properties."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar, get_args

import torch

from nashward.errors import NashwardError

from ..equilibria.certificates.decision import Decision
from ..equilibria.nash import Equilibrium, nash
from ..forms.game import PreferenceGame
from ..measures import duality_gap

Make = TypeVar("Make", bound=Callable[..., PreferenceGame])

Property = Literal[
    "cyclic",
    "transitive",
    "degenerate",
    "near-boundary",
    "slow",
    "several equilibria",
    "Condorcet winner",
    "low rank",
]
"""A property that a game of the zoo may have."""
PROPERTIES: tuple[Property, ...] = get_args(Property)
"""All properties; ``names`` selects games by them."""
DEFINITIONS: dict[Property, str] = {
    "cyclic": "some actions form a cycle: each beats the next, the last one the first",
    "transitive": "i beats j and j beats k implies that i beats k",
    "degenerate": "some action has several best replies",
    "near-boundary": "the only Nash equilibrium plays an action with a probability below 0.05",
    "slow": "the last iterate of optimistic multiplicative weights (step 1/2, from uniform) has a duality gap above "
    "1e-3 after 2000 iterations",
    "several equilibria": "more than one policy is a Nash equilibrium",
    "Condorcet winner": "one action beats every other one",
    "low rank": "the rank of P - 1/2 is at most half the number of actions",
}
"""What each property means, in one line."""


@dataclass(frozen=True)
class Entry:
    """What is known about a named game.

    Attributes:
        make: builds the game with its default settings.
        source: where the game is from; "made here": the project's own, "not checked": a source that was not verified.
        nash: an exact equilibrium, where one is known in fractions.
        properties: those of ``PROPERTIES`` that the game has, and no others.

    Example:
        >>> entry = GAMES["comal_cycle"]
        >>> entry.source, [str(p) for p in entry.nash], sorted(entry.properties)
        ('arXiv 2410.23223 (COMAL)', ['4/11', '3/11', '4/11'], ['cyclic'])
    """

    make: Callable[[], PreferenceGame]
    source: str
    nash: tuple[Fraction, ...] | None
    properties: frozenset[Property]

    def equilibrium(self) -> Equilibrium:
        """The equilibrium to show: the exact one if known, else that of ``games.nash``.

        Of several equilibria ``games.nash`` may find another one. The zoo may know of several where double precision
        cannot tell; ``other`` is None there.

        Example:
            >>> equilibrium = GAMES["cloned_rock"].equilibrium()
            >>> equilibrium.policy, equilibrium.unique
            (tensor([0.3333, 0.0000, 0.3333, 0.3333], dtype=torch.float64), tensor(False))
        """
        game = self.make()
        found = nash(game)
        if self.nash is None:
            policy = found.policy
        else:
            policy = torch.tensor([float(weight) for weight in self.nash], dtype=torch.float64)

        def decisions() -> list[Decision]:
            if not torch.allclose(policy, found.policy):
                return [Decision(False, None, "games.nash finds another one", (found.numpy(), found.numpy()))]
            (known,) = found.decisions
            if known.unique is None and "several equilibria" in self.properties:
                return [known._replace(unique=False, reason="the zoo knows of several")]
            return [known]

        return Equilibrium(policy, found.value, duality_gap(game, policy), decisions)


GAMES: dict[str, Entry] = {}
"""What is known about each named game."""


def named(source: str, *has: Property, nash: tuple[int, ...] = ()) -> Callable[[Make], Make]:
    """Register a function in the zoo, with its Nash as integer weights if known."""

    def enter(function: Make) -> Make:
        exact = tuple(Fraction(weight, sum(nash)) for weight in nash) if nash else None
        GAMES[function.__name__] = Entry(function, source, exact, frozenset(has))
        return function

    return enter


def definitions(names: Iterable[str]) -> dict[Property, str]:
    """``DEFINITIONS`` of the properties that occur among these games.

    Args:
        names: names of games.

    Example:
        >>> list(definitions(["comal_cycle", "two_rings"]))
        ['cyclic', 'several equilibria']
    """
    found = frozenset[Property]().union(*(GAMES[name].properties for name in names))
    return {one: meaning for one, meaning in DEFINITIONS.items() if one in found}


def names(*properties: Property) -> list[str]:
    """The names of all games in the zoo, or of those that have all the given properties.

    Args:
        properties: some of ``PROPERTIES``; a game must have all of them.

    Raises:
        ValueError: an unknown property.

    Example:
        >>> names("cyclic", "near-boundary")[:2]
        ['embedded_regret', 'embedded_slow']
    """
    for given in properties:
        if given not in PROPERTIES:
            raise NashwardError(f"no property {given!r}; there are: {', '.join(PROPERTIES)}")
    return sorted(name for name, entry in GAMES.items() if entry.properties.issuperset(properties))


def get(name: str) -> PreferenceGame:
    """The game with this name, with its default settings.

    Args:
        name: one of ``names()``.

    Raises:
        ValueError: a name that is not in the zoo.

    Example:
        >>> get("comal_cycle").labels
        ('a', 'b', 'c')
    """
    if name not in GAMES:
        near = difflib.get_close_matches(name, names(), 1)
        others = f"the nearest is {near[0]}" if near else f"it has: {', '.join(names())}"
        raise NashwardError(f"no game {name!r} in the zoo; {others}")
    return GAMES[name].make()
