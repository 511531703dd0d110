"""Cycles of three beyond the noise of the prompts: how often tables without one are accused, and what is found."""

from __future__ import annotations

import numpy as np
import pytest

from nashward.games.analysis.significant_cycles import significant_cycles
from nashward.games.analysis.social_choice import cyclic_triples


def _table(upper: np.ndarray) -> np.ndarray:
    """[prompts, n, n] with P + P^T = 1 from what is above the diagonal."""
    above = np.triu(upper, 1)
    return above + np.tril(1 - above.swapaxes(-1, -2), -1) + np.eye(upper.shape[-1]) / 2


def _wins(random: np.random.Generator, n: int, prompts: int, P: np.ndarray | float = 0.5) -> np.ndarray:
    return _table((random.uniform(size=(prompts, n, n)) < P).astype(float))


def _uniform(random: np.random.Generator, n: int, prompts: int) -> np.ndarray:
    return _table(random.uniform(size=(prompts, n, n)))


def _ties(random: np.random.Generator, n: int, prompts: int) -> np.ndarray:
    return _table(random.choice([0, 0.5, 1], p=[0.2, 0.6, 0.2], size=(prompts, n, n)))


def _scores(random: np.random.Generator, n: int, prompts: int) -> np.ndarray:
    """Responses with a quality each: the pairs of a prompt depend on each other."""
    quality = 2 * random.normal(size=(prompts, n))
    return 1 / (1 + np.exp(quality[:, None, :] - quality[:, :, None]))


def _ladder(random: np.random.Generator, n: int, prompts: int) -> np.ndarray:
    """Each beats the next; all others are equal: a table without a cycle that one wrong pair makes one."""
    P = np.full((n, n), 0.5)
    P[np.arange(n - 1), np.arange(1, n)] = 0.95
    return _wins(random, n, prompts, P)


def _middle(random: np.random.Generator, n: int, prompts: int) -> np.ndarray:
    """Half of them beat one, which beats the others; those that are equal are two steps apart."""
    P, k = np.full((n, n), 0.5), n // 2
    P[:k, k] = P[k, k + 1 :] = 0.95
    return _wins(random, n, prompts, P)


def _turning(random: np.random.Generator, n: int, prompts: int) -> np.ndarray:
    """On each prompt one table or its reverse: all pairs are equal on average, and wrong together."""
    one = _wins(random, n, 1)
    return np.where(random.uniform(size=(prompts, 1, 1)) < 0.5, one, 1 - one)


NULLS = (_wins, _uniform, _ties, _scores, _ladder, _middle, _turning)


def _accused(kind, n: int, prompts: int, times: int, draws: int = 2000) -> float:
    random = np.random.default_rng([n, prompts, NULLS.index(kind)])
    return sum(bool(significant_cycles(kind(random, n, prompts), draws=draws)) for _ in range(times)) / times


@pytest.mark.parametrize("kind", NULLS)
def test_tables_without_a_cycle_are_hardly_ever_accused(kind) -> None:
    for n, prompts in ((3, 12), (6, 10), (6, 50), (10, 30)):
        assert _accused(kind, n, prompts, times=60) <= 0.05, (n, prompts)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NULLS)
@pytest.mark.parametrize("n", range(3, 11))
def test_at_most_one_in_twenty_is_accused(kind, n: int) -> None:
    for prompts in (1, 2, 3, 5, 8, 10, 11, 15, 20, 30, 40, 50, 60):
        assert _accused(kind, n, prompts, times=200) <= 0.05, prompts


def test_six_equal_players_on_one_prompt_are_not_accused() -> None:
    random, rings = np.random.default_rng(1), 0
    for _ in range(50):
        tables = _wins(random, 6, 1)
        rings += int(cyclic_triples(tables.mean(0))) > 0
        assert significant_cycles(tables) == []
    assert rings > 40  # though almost all of these tables have a cycle


def test_a_planted_cycle_is_found() -> None:
    P = np.full((5, 5), 0.5)
    P[0, 1] = P[1, 2] = 0.8
    P[0, 2] = 0.2
    random, found = np.random.default_rng(2), 0
    for _ in range(200):
        cycles = significant_cycles(_wins(random, 5, 50, P), draws=4000)
        found += [cycle.players for cycle in cycles] == [(0, 1, 2)]
    assert found >= 160


@pytest.mark.parametrize("prompts", [50, 51, 400])
def test_signs_and_student_agree(prompts: int) -> None:
    """A ring whose weakest pair is at the 2% level, by both tests; and missing judgements count for nothing."""
    random = np.random.default_rng(3)
    ring = np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
    noise = random.normal(size=prompts)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    tables = np.stack([ring] * prompts)
    tables[:, 0, 1] = 0.5 + 0.05 * (noise + 2.05 / prompts**0.5)
    tables[:, 1, 0] = 1 - tables[:, 0, 1]
    (cycle,) = significant_cycles(tables, level=0.5)
    assert cycle.players == (0, 1, 2)
    assert cycle.p_value == pytest.approx(3 * 0.022, abs=0.012)
    assert significant_cycles(tables, level=0.04) == []
    more = np.concatenate([tables, np.full((60, 3, 3), np.nan)])
    (again,) = significant_cycles(more, level=0.5)
    assert again.p_value == pytest.approx(cycle.p_value, abs=0.005)
    tables[9:, 0, 1] = tables[9:, 1, 0] = np.nan  # nine judgements of one pair are too few
    assert significant_cycles(tables, level=0.5) == []


def test_many_players_are_no_obstacle() -> None:
    n, prompts = 50, 40
    P = np.full((n, n), 0.5)
    P[0, 1] = P[1, 2] = 1.0
    P[0, 2] = 0.0
    assert [c.players for c in significant_cycles(_wins(np.random.default_rng(4), n, prompts, P))] == [(0, 1, 2)]
