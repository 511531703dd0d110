"""Whether scores explain battles of all pairs on the same prompts: level, power, and the same number by another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from nashward.games.analysis.battles import Battles, misfit, prompt_misfit

Odds = Callable[[np.random.Generator], np.ndarray]


def _circles(rng: np.random.Generator) -> np.ndarray:
    """On each of 100 prompts three models go in a circle, this way round or that."""
    way = np.where(rng.random((100, 1)) < 0.5, 50.0, -50.0)
    return way * np.array([1.0, -1.0, 1.0])  # of 0 and 1, 0 and 2, 1 and 2


def _circles_one_way(rng: np.random.Generator) -> np.ndarray:
    """On each of 100 prompts two circles of three models go the same way, this or that."""
    i, j = np.triu_indices(6, 1)
    step = np.where(i // 3 == j // 3, np.where(j - i == 1, 50.0, -50.0), 0.0)
    return step * rng.choice([-1, 1], (100, 1))


def _rankings(rng: np.random.Generator) -> np.ndarray:
    """Each of 100 prompts ranks six models its own way."""
    own, (i, j) = rng.normal(0, 1000, (100, 6)), np.triu_indices(6, 1)
    return own[:, i] - own[:, j]


def _battles(odds: np.ndarray, rng: np.random.Generator, planted: float = 0.0) -> Battles:
    """On a share of the prompts the first three models go in one circle."""
    prompts, pairs = odds.shape
    n = round((1 + math.sqrt(1 + 8 * pairs)) / 2)
    i, j = np.triu_indices(n, 1)
    same = np.asarray(rng.random(prompts) < planted)
    for a, b, way in ((0, 1, 1), (1, 2, 1), (0, 2, -1)):
        odds[same[:, None] & np.logical_and(i == a, j == b)] = way * 1000.0
    won = (rng.random(odds.shape) < 1 / (1 + np.exp(-np.clip(odds, -99, 99)))).astype(float).ravel()
    prompt = np.repeat(np.arange(prompts), pairs)
    labels = tuple(map(str, range(n)))
    return Battles(labels, np.tile(i, prompts), np.tile(j, prompts), won, 1 - won, prompt, prompts, True)


def _as_independent(battles: Battles) -> float:
    alone = replace(battles, prompt=np.arange(len(battles.won)), prompts=len(battles.won))
    return alone.misfit_p_value


@pytest.mark.parametrize(("odds", "too_many"), [(_circles, True), (_circles_one_way, True), (_rankings, False)])
def test_a_prompts_own_circle_accuses_no_more_than_chance_and_a_planted_one_is_found(
    odds: Odds, too_many: bool
) -> None:
    """Taken as independent, battles of a prompt accuse 15% to 28% at 5% where it has circles, and find next to nothing
    where each has a ranking."""
    rng = np.random.default_rng(0)
    own = [_battles(odds(rng), rng) for _ in range(200)]
    accused = sum(one.misfit_p_value < 0.05 for one in own)
    assert 1 <= accused <= 18  # of 200 at 5%, in 99% of such counts
    alone = sum(_as_independent(one) < 0.05 for one in own)
    assert alone > 22 if too_many else alone == 0
    planted = [_battles(odds(rng), rng, 0.4) for _ in range(50)]
    assert sum(one.misfit_p_value < 0.05 for one in planted) >= 45


def test_of_battles_on_prompts_of_their_own_it_is_pearsons() -> None:
    """With one degree of freedom for three models, whose cycle is on the border of chance."""
    pair = np.repeat([0, 1, 2], 1000)
    won = (np.arange(3000) % 1000 < np.array([520, 520, 480])[pair]).astype(float)  # 0 beats 1, 1 beats 2, 2 beats 0
    players, one = np.array([[0, 1], [1, 2], [0, 2]])[pair], np.ones(3000)
    given = won, one, one / 2, players, np.arange(3000), np.zeros((3000, 0))
    found = prompt_misfit.prompt_misfit_p_value(*given)
    assert found == pytest.approx(chi2.sf(3 * 20**2 / 250, 1), rel=0.05)
    assert misfit.misfit_p_value(*given) == pytest.approx(found, rel=0.15)  # against drawn boards


def test_few_battles_of_a_pair_accuse_no_more_than_chance() -> None:
    """Where pairs meet twice the residuals are drawn to the fit: without their leverages 17% are accused."""
    rng, accused, n = np.random.default_rng(0), 0, 20
    for _ in range(100):
        own, (i, j) = rng.normal(0, 2, (100, n)), np.triu_indices(n, 1)
        full = _battles(own[:, i] - own[:, j], rng)
        accused += full.of_records(rng.random(len(full.won)) < 0.02).misfit_p_value < 0.05
    assert accused <= 11


def test_scores_that_decide_nearly_all_are_not_accused() -> None:
    """Nor a model that never lost, whose score would be infinite."""
    rng, accused = np.random.default_rng(0), 0
    for _ in range(200):
        scores = rng.normal(0, 2.5, 3)
        odds = np.tile([scores[0] - scores[1], scores[0] - scores[2], scores[1] - scores[2]], (20, 1))
        accused += _battles(odds, rng).misfit_p_value < 0.05
    assert accused <= 18
    assert _battles(np.full((20, 6), 1000.0), rng).misfit_p_value == 1.0


def test_style_needs_no_pairs_to_spare() -> None:
    """Three models have one pair beyond their scores, from which four features take nothing; a circle is found."""
    rng, accused, found = np.random.default_rng(0), 0, 0
    for _ in range(100):
        style = rng.normal(size=(90, 4))
        taste = np.repeat(rng.normal(0, 2, 30), 3) * style[:, 0]  # of each prompt
        odds = taste.reshape(30, 3)
        accused += replace(_battles(odds.copy(), rng), style=style).fit_p_value(style=True) < 0.05
        found += replace(_battles(odds, rng, 0.6), style=style).fit_p_value(style=True) < 0.05
    assert 1 <= accused <= 12  # of 100 at 5%, in 99.9% of such counts
    assert found > 70


def test_the_products_of_many_prompts_are_those_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    battles = _battles(_rankings(rng), rng)
    style = rng.normal(size=(len(battles.won), 4))
    styled = replace(battles, style=style).of_records(rng.random(len(style)) < 0.5)
    few = battles.misfit_p_value, styled.fit_p_value(style=True)
    monkeypatch.setattr(prompt_misfit, "LARGEST", 7)
    assert (replace(battles).misfit_p_value, styled.fit_p_value(style=True)) == pytest.approx(few, rel=1e-9)
    assert 0 < few[0] < 1
    assert 0 < few[1] < 1


def test_nine_prompts_are_too_few() -> None:
    rng = np.random.default_rng(0)
    assert math.isnan(_battles(_rankings(rng)[:9], rng).misfit_p_value)
    assert not math.isnan(_battles(_rankings(rng)[:10], rng).misfit_p_value)
