"""Named preference games. ``names()`` lists them, ``get(name)`` builds one, and each is a function of its own."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np

from .game import PreferenceGame
from .load import load

_GAMES: dict[str, Callable[[], PreferenceGame]] = {}

EXACT: dict[str, tuple[Fraction, ...]] = {}  # the Nash equilibria that are known in closed form


def _named(*exact: int) -> Callable:
    """Enter a function into the zoo, with its Nash as integer weights where that is known."""

    def enter(function: Callable) -> Callable:
        _GAMES[function.__name__] = function
        if exact:
            EXACT[function.__name__] = tuple(Fraction(weight, sum(exact)) for weight in exact)
        return function

    return enter


def names() -> list[str]:
    """The names of all games in the zoo."""
    return sorted(_GAMES)


def get(name: str) -> PreferenceGame:
    """The game of that name with its default settings; ValueError for a name that is not in the zoo."""
    if name not in _GAMES:
        raise ValueError(f"no game {name!r} in the zoo; it has: {', '.join(names())}")
    return _GAMES[name]()


def three_cycle(a_beats_b: float, b_beats_c: float, c_beats_a: float) -> PreferenceGame:
    """Three actions, each beating the next with the given probability (each above 1/2).

    With margins e = P - 1/2 the Nash is pi_a : pi_b : pi_c = e_bc : e_ca : e_ab.
    """
    p, q, r = a_beats_b, b_beats_c, c_beats_a
    return PreferenceGame([[0.5, p, 1 - r], [1 - p, 0.5, q], [r, 1 - q, 0.5]], labels=["a", "b", "c"])


@_named(1, 1, 1)
def rock_paper_scissors() -> PreferenceGame:
    """The classic: Nash (1, 1, 1) / 3."""
    return PreferenceGame([[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]], labels=["rock", "paper", "scissors"])


@_named(1, 10, 5)
def biased_rock_paper_scissors() -> PreferenceGame:
    """Rock-paper-scissors with unequal margins: Nash (1, 10, 5) / 16, that of OpenSpiel's regret-matching test."""
    rock_scissors, paper_rock, scissors_paper = 1.0, 0.75, 0.55
    return PreferenceGame(
        [
            [0.5, 1 - paper_rock, rock_scissors],
            [paper_rock, 0.5, 1 - scissors_paper],
            [1 - rock_scissors, scissors_paper, 0.5],
        ],
        labels=["rock", "paper", "scissors"],
    )


@_named(4, 3, 4)
def comal_cycle() -> PreferenceGame:
    """b beats a with .9, c beats b with .9, a beats c with .8: Nash (4, 3, 4) / 11. Source: arXiv 2410.23223."""
    return PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]], labels=["a", "b", "c"])


@_named(1, 1, 1, 1, 1)
def rock_paper_scissors_lizard_spock() -> PreferenceGame:
    """Five actions, each beating two others: Nash uniform."""
    beats = {"rock": ("scissors", "lizard"), "paper": ("rock", "spock"), "scissors": ("paper", "lizard"),
             "lizard": ("paper", "spock"), "spock": ("rock", "scissors")}  # fmt: skip
    labels = list(beats)
    table = [[0.5 if a == b else float(b in beats[a]) for b in labels] for a in labels]
    return PreferenceGame(table, labels=labels)


@_named(1, 0, 0, 0, 0)
def condorcet_winner(n: int = 5) -> PreferenceGame:
    """Action 0 beats every other one surely, the rest tie: Nash pure. Tight for optimistic MWU's bound."""
    table = np.full((n, n), 0.5)
    table[0, 1:], table[1:, 0] = 1.0, 0.0
    return PreferenceGame(table)


@_named(0, 0, 0, 1)
def bradley_terry(strengths: tuple[float, ...] = (-1.0, 0.0, 0.5, 1.5)) -> PreferenceGame:
    """P(i beats j) = sigmoid(r_i - r_j): transitive, so the Nash is the strongest action."""
    r = np.asarray(strengths, dtype=np.float64)
    return PreferenceGame(1 / (1 + np.exp(r[None] - r[:, None])))


@_named()
def random_preferences(n: int = 10, seed: int = 0) -> PreferenceGame:
    """P_ij uniform on (0, 1) above the diagonal; about half of the actions are in the Nash's support."""
    upper = np.triu(np.random.default_rng(seed).uniform(size=(n, n)) - 0.5, 1)
    return PreferenceGame(0.5 + upper - upper.T)


@_named()
def random_tournament(n: int = 9, seed: int = 0) -> PreferenceGame:
    """Every pair has a sure winner, drawn by a fair coin: a unique Nash with an odd support."""
    upper = np.triu(np.random.default_rng(seed).integers(0, 2, size=(n, n)) - 0.5, 1)
    return PreferenceGame(0.5 + upper - upper.T)


@_named()
def intransitive_dice() -> PreferenceGame:
    """Efron's four dice: each beats the next with 2/3, and the last the first. Ties count one half."""
    faces = {"A": (4, 4, 4, 4, 0, 0), "B": (3,) * 6, "C": (6, 6, 2, 2, 2, 2), "D": (5, 5, 5, 1, 1, 1)}
    table = [
        [float(np.mean([(x > y) + (x == y) / 2 for x, y in product(faces[i], faces[j])])) for j in faces] for i in faces
    ]
    return PreferenceGame(table, labels=list(faces))


@_named()
def mujoco_soccer() -> PreferenceGame:
    """Win rates of ten MuJoCo soccer agents against each other, no Condorcet winner: Nash .522 agent1, .331 agent8,
    .147 agent9. Source: OpenSpiel, ``data/paper_data/response_graph_ucb/soccer.txt`` (Apache-2.0; see NOTICE)."""
    game = load(Path(__file__).parent / "tables" / "mujoco_soccer_10.csv")
    assert isinstance(game, PreferenceGame)
    return game
