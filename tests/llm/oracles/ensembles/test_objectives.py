"""Objectives as one oracle, their tables beside it, and diversity as one of them."""

from __future__ import annotations

import numpy as np
import pytest

from nashward import games
from nashward.llm import oracles
from nashward.llm.oracles import Combination, Diversity, Length, Objectives, Plain, preference_matrices

PROMPTS, TEXTS = ["?"], [["a b", "a longer one, with commas", "the sky is blue", "a b"]]
NAMES = ("long", "plain")


def _tables(combine: str) -> tuple[np.ndarray, np.ndarray]:
    oracle = Objectives([Length(), Plain()], Combination.read(NAMES, combine))
    (result,) = preference_matrices(oracle, PROMPTS, TEXTS)
    assert result.members is not None
    return result.P, result.members


def test_the_members_tables_are_each_oracle_s_own() -> None:
    _, members = _tables("weights")
    for own, oracle in zip(members, (Length(), Plain()), strict=True):
        assert own == pytest.approx(preference_matrices(oracle, PROMPTS, TEXTS)[0].P, abs=1e-12)


@pytest.mark.parametrize(
    ("combine", "weights"),
    [
        ("weights:long=3:plain=1", [0.75, 0.25]),
        ("weights:plain=3", [0.25, 0.75]),
        ("lexicographic:epsilon=0.25", [0.8, 0.2]),
        ("worst-case", [0.5, 0.5]),
        ("floors:plain=0.4", [0.5, 0.5]),
    ],
)
def test_one_table_is_the_games_weighted_sum(combine: str, weights: list[float]) -> None:
    P, members = _tables(combine)
    assert pytest.approx(games.MultiObjectiveGame(members, NAMES).weighted(weights).P.numpy(), abs=1e-12) == P


def test_a_majority_is_the_games() -> None:
    P, members = _tables("majority")
    assert pytest.approx(games.MultiObjectiveGame(members).majority().P.numpy(), abs=1e-12) == P


def test_against_opponents_too() -> None:
    oracle = Objectives([Length(), Plain()], Combination(NAMES))
    (result,) = preference_matrices(oracle, PROMPTS, [["a b"]], [["one two three", "x"]])
    assert result.members is not None
    assert result.members.shape == (2, 1, 2)
    assert pytest.approx(result.members.mean(0)) == result.P


def test_diversity_counts_copies_and_prefers_what_is_rare() -> None:
    """Of four responses three say the same: theirs are in 2/3 of the others, the fourth's in none."""
    texts = ["a b c", "a b c", "a b c", "x y z"]
    (result,) = preference_matrices(Diversity(temperature=0.5), PROMPTS, [texts])
    win = 1 / (1 + np.exp(-(1 - 1 / 3) / 0.5))
    assert result.P[3] == pytest.approx([win, win, win, 0.5])
    assert result.P[:3, :3] == pytest.approx(np.full((3, 3), 0.5))
    (without,) = preference_matrices(Diversity(temperature=0.5), PROMPTS, [["a b c", "x y z"]])
    assert without.P[1, 0] == pytest.approx(0.5)


def test_diversity_by_hand() -> None:
    """Bigrams: the first shares one of its two with the second; the third, of one word, stands for itself."""
    texts = ["a b c", "b c d", "a"]
    scores = [(1 + 0.5) / 2, (0.5 + 1) / 2, 1.0]
    (result,) = preference_matrices(Diversity(n=2, temperature=1.0), PROMPTS, [texts])
    expected = 1 / (1 + np.exp(-np.subtract.outer(scores, scores)))
    assert pytest.approx(expected) == result.P
    assert pytest.approx(np.ones((3, 3))) == result.P + result.P.T


def test_diversity_beside_another_objective_sees_the_copies() -> None:
    oracle = Objectives([Length(), Diversity()], Combination(("long", "diverse")))
    assert oracle.sees_copies
    assert oracle.cache_key() is None
    (result,) = preference_matrices(oracle, PROMPTS, [["a b c", "a b c", "x y z w"]])
    assert result.members is not None
    assert result.members[1, 2, 0] > 0.9
    assert result.members[0, 0, 1] == 0.5


def test_diversity_passes_the_conformance_checks() -> None:
    oracles.check_oracle(Objectives([Length(), Plain()], Combination(NAMES)))
    with pytest.raises(ValueError, match="n >= 1"):
        Diversity(n=0)
