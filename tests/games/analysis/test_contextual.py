"""Bradley-Terry with features: known coefficients, a second route, the standard error over clusters; style in texts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from nashward.errors import NashwardError
from nashward.games.analysis.contextual import contextual_bradley_terry
from nashward.games.analysis.ratings import bradley_terry
from nashward.games.analysis.style import STYLE, style_counts, style_differences


def _battles(seed: int, count: int, log_odds: bool = False):
    random = np.random.default_rng(seed)
    first = random.integers(0, 4, count)
    second = (first + random.integers(1, 4, count)) % 4
    x = random.normal(size=(count, 2)) * [1.0, 3.0]
    lead = np.array([0.0, 0.4, 0.8, 1.2])
    fitted = lead[first] - lead[second] + x @ [0.5, -0.1]
    y = fitted + random.normal(size=count) if log_odds else (random.random(count) < expit(fitted)).astype(float)
    return y, x, first, second


@pytest.mark.parametrize("scale", ["wins", "log-odds"])
def test_the_coefficients_are_found_with_their_error(scale) -> None:
    battles = [_battles(seed, 600, scale == "log-odds") for seed in range(100)]
    fits = [contextual_bradley_terry(y, x, one, two, scale=scale) for y, x, one, two in battles]
    found = np.array([fit.slopes for fit in fits])
    error = np.mean([fit.slope_errors for fit in fits], axis=0)
    assert found.mean(0) == pytest.approx([0.5, -0.1], abs=0.02)
    assert found.std(0) == pytest.approx(error, rel=0.2)
    scores = np.mean([fit.scores for fit in fits], axis=0)
    assert scores == pytest.approx(np.array([-0.6, -0.2, 0.2, 0.6]), abs=0.05)


def test_wins_are_fitted_by_maximum_likelihood() -> None:
    y, x, _, _ = _battles(5, 300)

    def loss(g: np.ndarray) -> float:
        return float(np.logaddexp(0, -(2 * y - 1) * (x @ g)).sum())

    fit = contextual_bradley_terry(y, x)
    assert fit.slopes == pytest.approx(minimize(loss, np.zeros(2)).x, abs=1e-3)


def test_without_features_the_scores_are_those_of_bradley_and_terry() -> None:
    y, _, first, second = _battles(2, 4000)
    wins = np.zeros((4, 4))
    np.add.at(wins, (first, second), y)
    np.add.at(wins, (second, first), 1 - y)
    fit = contextual_bradley_terry(y, np.zeros((len(y), 1)), first, second)
    assert fit.scores == pytest.approx(bradley_terry(wins).scores.numpy(), abs=1e-3)
    assert fit.coefficients.tolist() == [0.0]
    assert np.isnan(fit.standard_error).all()


def test_comparisons_of_one_cluster_count_once() -> None:
    y, x, _, _ = _battles(3, 200, log_odds=True)
    once = contextual_bradley_terry(y, x, scale="log-odds", clusters=np.arange(200))
    twice = contextual_bradley_terry(
        np.tile(y, 2), np.tile(x, (2, 1)), scale="log-odds", clusters=np.tile(np.arange(200), 2)
    )
    assert twice.standard_error == pytest.approx(once.standard_error, rel=1e-4)


def test_wrong_outcomes_are_refused() -> None:
    for outcomes in (np.array([2.0]), np.array([np.nan]), np.array([])):
        with pytest.raises(NashwardError):
            contextual_bradley_terry(outcomes, np.ones((len(outcomes), 1)))


def test_style_is_counted_outside_of_code() -> None:
    code = "```\n# no header\n- no item\n```\n"
    text = "# One\n\n1. first\n2) second\n* third\n\n**bold** and __bold__, 2 * 3 * 4\n\n" + code
    tokens, headers, lists, bold = style_counts(text)
    assert tokens == len(text) / 4
    assert [round(value * tokens) for value in (headers, lists, bold)] == [1, 3, 2]


def test_style_differences_are_opposite_for_exchanged_texts() -> None:
    first, second = ["- a\n- b", "", "# x"], ["plain words", "", "**b** " * 9]
    there, back = style_differences(first, second), style_differences(second, first)
    assert there.shape == (3, len(STYLE))
    assert (there == -back).all()
    assert there[1].tolist() == [0.0] * 4
    a, b = style_counts(first[0]), style_counts(second[0])
    assert there[0, 0] == pytest.approx((a[0] - b[0]) / (a[0] + b[0]))
    assert there[0, 2] == pytest.approx((a[2] - b[2]) / (a[2] + b[2] + 1))
