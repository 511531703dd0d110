"""The games of the zoo: each is a function; its decorator says what is known about it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from ..forms.game import PreferenceGame
from ..forms.io import load
from ..solvers.schedule import check_whole
from .generators import (
    beating,
    blotto,
    circulant,
    dice,
    disc,
    embedded,
    from_margins,
    from_rankings,
    from_scores,
    low_rank,
    mixture_of_judges,
    scores_and_cycles,
    three_cycle,
    tournament,
)
from .registry import GAMES, named


@named("folklore", "cyclic", nash=(1, 1, 1))
def rock_paper_scissors() -> PreferenceGame:
    """The classic: Nash (1, 1, 1) / 3."""
    return PreferenceGame([[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]], labels=["rock", "paper", "scissors"])


@named("OpenSpiel, regret_matching_test", "cyclic", "slow", nash=(1, 10, 5))
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


@named("arXiv 2410.23223 (COMAL)", "cyclic", nash=(4, 3, 4))
def comal_cycle() -> PreferenceGame:
    """b beats a with .9, c beats b with .9, a beats c with .8: Nash (4, 3, 4) / 11. Source: arXiv 2410.23223."""
    return PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]], labels=["a", "b", "c"])


@named("made here", "cyclic", "near-boundary", "slow", nash=(50, 50, 1))
def near_boundary_cycle() -> PreferenceGame:
    """A ring with one edge of .51: Nash (50, 50, 1) / 101, where optimistic MWU is slow."""
    return three_cycle(0.51, 1.0, 1.0)


@named("Sam Kass and Karen Bryla", "cyclic", "degenerate", nash=(1, 1, 1, 1, 1))
def rock_paper_scissors_lizard_spock() -> PreferenceGame:
    """Five actions, each beating two others: Nash uniform."""
    return beating(
        {"rock": ("scissors", "lizard"), "paper": ("rock", "spock"), "scissors": ("paper", "lizard"),
         "lizard": ("paper", "spock"), "spock": ("rock", "scissors")}
    )  # fmt: skip


@named("folklore", "cyclic", "degenerate", nash=(0, 1, 1, 1))
def rock_paper_scissors_well() -> PreferenceGame:
    """The well swallows rock and scissors and loses to paper: rock is useless, Nash (0, 1, 1, 1) / 3."""
    return beating(
        {"rock": ("scissors",), "paper": ("rock", "well"), "scissors": ("paper",), "well": ("rock", "scissors")}
    )


@named("made here", "cyclic", "degenerate", "several equilibria", "low rank", nash=(1, 0, 1, 1))
def cloned_rock() -> PreferenceGame:
    """Rock-paper-scissors with rock twice: the two share a third in any way."""
    return beating({"rock": ("scissors",), "stone": ("scissors",), "paper": ("rock", "stone"), "scissors": ("paper",)})


@named("made here: a top cycle, the Smith set", "cyclic", nash=(1, 1, 1, 0, 0, 0))
def two_tiers() -> PreferenceGame:
    """Two rings of three; every member of the first beats every member of the second with 3/4."""
    ring = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) / 2
    tier = np.full((3, 3), 0.25)
    return PreferenceGame(0.5 + np.block([[ring, tier], [-tier, ring]]))


@named("made here", "cyclic", "several equilibria", nash=(1, 1, 1, 0, 0, 0))
def two_rings() -> PreferenceGame:
    """Two rings of three that tie with each other: any mixture of the two uniform policies is a Nash."""
    ring = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) / 2
    return PreferenceGame(0.5 + np.kron(np.eye(2), ring))


@named("made here: a composition, as in Laffond, Laine & Laslier 1996", "cyclic", nash=(1,) * 9)
def ring_of_rings() -> PreferenceGame:
    """A ring of three rings: sure wins within a ring, 3/4 between them. Nash uniform on nine."""
    ring = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) / 2
    return PreferenceGame(0.5 + np.kron(ring, np.full((3, 3), 0.5)) + np.kron(np.eye(3), ring))


@named("the Paley tournament: quadratic residues modulo 7", "cyclic", "degenerate", nash=(1,) * 7)
def paley_seven() -> PreferenceGame:
    """i beats i + 1, i + 2, i + 4 (mod 7): for any two actions there is one that beats both."""
    return circulant((0.5, 0.5, -0.5))


@named("the regular tournament on a circle", "cyclic", "degenerate", nash=(1,) * 7)
def circular_seven() -> PreferenceGame:
    """i beats the next three of seven."""
    return circulant((0.5, 0.5, 0.5))


@named("made here", "cyclic", "several equilibria", nash=(1,) * 6)
def ring_of_six() -> PreferenceGame:
    """Each of six beats the next surely and ties with the rest: (1, 0, 1, 0, 1, 0) / 3 is a Nash too."""
    return beating({str(i): (str((i + 1) % 6),) for i in range(6)})


@named("made here, a check of ONPO's bound", "transitive", "Condorcet winner", "low rank", nash=(1, 0, 0, 0, 0))
def condorcet_winner(n: int = 5) -> PreferenceGame:
    """Action 0 beats every other one surely, the rest tie: the Nash is pure. Nearly tight for optimistic MWU's bound.

    Args:
        n: the number of actions.

    Raises:
        ValueError: n is not a whole number >= 1.
    """
    check_whole("n", n)
    table = np.full((n, n), 0.5)
    table[0, 1:], table[1:, 0] = 1.0, 0.0
    return PreferenceGame(table)


@named("made here", "cyclic", "Condorcet winner", nash=(1, 0, 0, 0))
def narrow_winner() -> PreferenceGame:
    """Action 0 beats each of a sure ring of three with .505."""
    table = np.full((4, 4), 0.5)
    table[0, 1:], table[1:, 0] = 0.505, 0.495
    table[1:, 1:] = rock_paper_scissors().P
    return PreferenceGame(table)


@named("Bradley & Terry 1952", "transitive", "Condorcet winner", nash=(0, 0, 0, 1))
def bradley_terry(strengths: tuple[float, ...] = (-1.0, 0.0, 0.5, 1.5)) -> PreferenceGame:
    """P(i beats j) = sigmoid(r_i - r_j): transitive, so the Nash is the strongest action.

    Args:
        strengths: r of each action, in nats.
    """
    return from_scores(strengths)


@named("made here", "transitive", "Condorcet winner", "low rank", nash=(0, 0, 0, 0, 1))
def linear_scores() -> PreferenceGame:
    """Margins that are differences of scores 0, 1, 2, 4, 8: transitive and of rank 2."""
    r = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    return from_margins(r[:, None] - r)


@named("arXiv 2503.08942 (EGPO), lower_win", "transitive", "degenerate", "Condorcet winner", nash=(0, 0, 0, 0, 1))
def higher_wins() -> PreferenceGame:
    """The higher of five numbers wins surely."""
    i = np.arange(5)
    return from_margins(np.sign(i[:, None] - i))


@named("arXiv 2503.08942 (EGPO), tie", "transitive", "degenerate", "several equilibria", "low rank", nash=(1, 1, 1, 1))
def indifference(n: int = 4) -> PreferenceGame:
    """All pairs tie: every policy is a Nash.

    Args:
        n: the number of actions.

    Raises:
        ValueError: n is not a whole number >= 1.
    """
    check_whole("n", n)
    return PreferenceGame(np.full((n, n), 0.5))


@named(
    "'A psychological game' (pleacher.com), by repute Mendelsohn's (not checked)",
    "cyclic",
    "degenerate",
    "slow",
    nash=(1, 5, 4, 5, 1),
)
def mendelsohn() -> PreferenceGame:
    """Name a number from 1 to 5: the higher wins 1, but a number higher by one loses 2. Nash (1, 5, 4, 5, 1) / 16.

    Other sources have the reverse: the lower wins 1, but loses 2 to a number higher by one.
    """
    i = np.arange(5)
    d = i[:, None] - i
    return from_margins(np.where(np.abs(d) == 1, -2 * d, np.sign(d)), ["1", "2", "3", "4", "5"])


@named("Condorcet's example of 60 voters, by repute (not checked)", "cyclic", "slow", nash=(12, 5, 3))
def condorcet_sixty() -> PreferenceGame:
    """A beats B 33 to 27, B beats C 42 to 18, C beats A 35 to 25."""
    return from_rankings({"ABC": 23, "BCA": 17, "BAC": 2, "CAB": 10, "CBA": 8})


@named("made here", "transitive", "Condorcet winner", nash=(1, 0, 0))
def borda_disagrees() -> PreferenceGame:
    """Three voters ABC and two BCA: A beats both others, and Borda's count elects B."""
    return from_rankings({"ABC": 3, "BCA": 2})


@named(
    "the textbook vote on the capital of Tennessee", "transitive", "degenerate", "Condorcet winner", nash=(0, 0, 0, 1)
)
def tennessee() -> PreferenceGame:
    """Nashville (N) beats Memphis (M), Chattanooga (C) and Knoxville (K)."""
    return from_rankings({"MNCK": 42, "NCKM": 26, "CKNM": 15, "KCNM": 17})


@named("Schulze 2011, example 1, 45 voters", "cyclic", "slow", nash=(3, 0, 1, 0, 7))
def schulze_vote() -> PreferenceGame:
    """45 voters on five candidates without a Condorcet winner."""
    return from_rankings(
        {"ACBED": 5, "ADECB": 5, "BEDAC": 8, "CABED": 3, "CAEBD": 7, "CBADE": 2, "DCEBA": 7, "EBADC": 8}
    )


@named(
    "Bradley Efron, in Gardner, Scientific American 1970",
    "cyclic",
    "slow",
    "several equilibria",
    "low rank",
    nash=(3, 1, 3, 0),
)
def intransitive_dice() -> PreferenceGame:
    """Efron's four dice: each beats the next with 2/3, and the last the first. Ties count one half."""
    return dice({"A": (4, 4, 4, 4, 0, 0), "B": (3,) * 6, "C": (6, 6, 2, 2, 2, 2), "D": (5, 5, 5, 1, 1, 1)})


@named("James Grime", "cyclic", "slow", nash=(15, 23, 15, 6, 6))
def grime_dice() -> PreferenceGame:
    """Grime's five dice, which beat each other in two rings."""
    return dice(
        {"red": (4, 4, 4, 4, 4, 9), "blue": (2, 2, 2, 7, 7, 7), "olive": (0, 5, 5, 5, 5, 5),
         "yellow": (3, 3, 3, 3, 8, 8), "magenta": (1, 1, 6, 6, 6, 6)}
    )  # fmt: skip


@named("Borel 1921", "cyclic", "degenerate", "several equilibria")
def colonel_blotto() -> PreferenceGame:
    """Five troops on three fields: 21 layouts."""
    return blotto(troops=5, fields=3)


@named("arXiv 1901.08106 (Balduzzi et al.)", "cyclic", "several equilibria", "low rank")
def disc_rim() -> PreferenceGame:
    """Seven points evenly round a disc: rank 2; triangles round the centre are Nash equilibria."""
    return disc(7)


@named("arXiv 1901.08106 (Balduzzi et al.)", "cyclic", "slow", "several equilibria", "low rank")
def disc_drawn() -> PreferenceGame:
    """Eleven points drawn in a disc."""
    return disc(11, seed=0)


@named("made here, of the form of arXiv 2410.02197 (GPM)", "cyclic", "slow", "several equilibria", "low rank")
def low_rank_preferences() -> PreferenceGame:
    """Twelve preference embeddings of four dimensions."""
    return low_rank(12, rank=4, seed=0)


@named("made here, by the parts of Jiang, Lim, Yao & Ye 2011", "cyclic", "slow")
def scores_with_cycles() -> PreferenceGame:
    """Eight Bradley-Terry scores with a cyclic part of equal weight."""
    return scores_and_cycles(8, cycles=0.5, seed=0)


@named("made here, by the parts of Jiang, Lim, Yao & Ye 2011", "cyclic", "slow")
def pure_cycles() -> PreferenceGame:
    """Log-odds on six actions without any Bradley-Terry part."""
    return scores_and_cycles(6, cycles=1.0, seed=1)


@named("made here: a mixture of judges, as in arXiv 2410.23223", "cyclic", "slow")
def three_judges() -> PreferenceGame:
    """Three judges with different favourites, each of them transitive."""
    return mixture_of_judges([[4.0, 2.0, 0.0, 1.0], [0.0, 4.0, 2.0, 1.0], [2.0, 0.0, 4.0, 1.5]], (0.4, 0.35, 0.25))


@named("folklore; embedded after Gale, Kuhn & Tucker 1950", "cyclic", "degenerate", "slow", nash=(1, 1, 1, 1, 4))
def embedded_pennies() -> PreferenceGame:
    """Matching pennies as a symmetric game on five actions."""
    return embedded([[1, -1], [-1, 1]], shift=2.0)


@named(
    "arXiv 2311.00676: where the last iterate of RM+ fails", "cyclic", "degenerate", "near-boundary", "slow",
    nash=(1, 1, 10, 4, 5, 3, 63),
)  # fmt: skip
def embedded_regret() -> PreferenceGame:
    """The 3 x 3 game [[3, 0, -3], [0, 3, -4], [0, 0, 1]] as a symmetric one."""
    return embedded([[3, 0, -3], [0, 3, -4], [0, 0, 1]], shift=5.0)


@named(
    "arXiv 2406.10631: where optimistic MWU forgets too slowly", "cyclic", "degenerate", "near-boundary", "slow",
    nash=(400, 4, 200, 204, 305),
)  # fmt: skip
def embedded_slow() -> PreferenceGame:
    """The 2 x 2 game [[1/2 + d, 1/2], [0, 1]] with d = 0.01 as a symmetric one."""
    return embedded([[0.51, 0.5], [0.0, 1.0]], shift=0.25)


@named("random", "cyclic", "slow")
def random_preferences(n: int = 10, seed: int = 0) -> PreferenceGame:
    """P_ij uniform on (0, 1) above the diagonal; about half of the actions are in the Nash's support.

    Args:
        n: the number of actions.
        seed: the seed of the probabilities.

    Raises:
        ValueError: n is not a whole number >= 1.
    """
    check_whole("n", n)
    upper = np.triu(np.random.default_rng(seed).uniform(size=(n, n)) - 0.5, 1)
    return PreferenceGame(0.5 + upper - upper.T)


@named("random; on such games Fisher & Ryan 1992", "cyclic", "degenerate", "slow", nash=(3, 3, 0, 1, 0, 0, 1, 1, 0))
def random_tournament(n: int = 9, seed: int = 0) -> PreferenceGame:
    """Every pair has a sure winner, drawn by a fair coin: a unique Nash with an odd support.

    Args:
        n: the number of actions.
        seed: the seed of the coin.

    Raises:
        ValueError: n is not a whole number >= 1.
    """
    return tournament(n, seed)


def _table(file: str) -> PreferenceGame:
    game = load(Path(__file__).parent / "tables" / file)
    assert isinstance(game, PreferenceGame)
    return game


@named("OpenSpiel, soccer.txt (Apache-2.0, see NOTICE)", "cyclic", "slow")
def mujoco_soccer() -> PreferenceGame:
    """Win rates of ten MuJoCo soccer agents against each other, no Condorcet winner: Nash .522 agent1, .331 agent8,
    .147 agent9. Source: OpenSpiel, ``data/paper_data/response_graph_ucb/soccer.txt`` (Apache-2.0; see NOTICE)."""
    return _table("mujoco_soccer_10.csv")


@named("arXiv 2405.00675 (SPPO), Figure 3", "transitive", "Condorcet winner", nash=(1, *[0] * 10))
def sppo_pairrm() -> PreferenceGame:
    """The SPPO paper's eleven models under PairRM, close to Bradley-Terry: IPO's third iterate beats every other.

    Source: arXiv 2405.00675, Figure 3, the figures as printed.
    """
    return _table("sppo_pairrm_11.csv")


EXACT: dict[str, tuple[Fraction, ...]] = {
    name: entry.nash
    for name, entry in GAMES.items()
    if entry.nash is not None and "several equilibria" not in entry.properties
}
"""The Nash of each game with a unique one that is known in fractions."""
