"""The regression: against formulas by hand, against the mirror step in a table, and its estimators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games
from nashward.llm import Fit
from nashward.llm.training import diagnostics, regression
from nashward.llm.training.experience import Experience

GAME = games.zoo.comal_cycle()
PI = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
OTHER = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)


def _minimiser(
    payoffs: torch.Tensor,
    anchor: torch.Tensor,
    sampler: torch.Tensor,
    size: float,
    baseline: Any,
    precision: torch.Tensor | None = None,
) -> torch.Tensor:
    """The policy that minimises the loss over a response set that holds every action once, weighted by its sampler, and
    by a precision."""
    weights = sampler if precision is None else sampler * precision
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    drift = (anchor - sampler.log())[None]
    target = regression.targets(payoffs[None], size, sampler[None], baseline, drift)
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = regression.loss((logits.log_softmax(0) - anchor)[None], target, weights[None], baseline)
        value.backward()
        return value

    optimiser.step(closure)
    return logits.detach().softmax(0)


def _step(anchor: torch.Tensor, payoffs: torch.Tensor, size: float) -> torch.Tensor:
    return (anchor + size * payoffs).softmax(0)


@pytest.mark.parametrize("baseline", ["plug-in", "centred"])
@pytest.mark.parametrize("size", [0.5, 5.0])
def test_the_minimiser_is_the_mirror_step_for_any_anchor_opponent_and_sampler(baseline: Any, size: float) -> None:
    reference = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    anchor = 0.8 * PI.log() + 0.2 * reference.log()  # a geometric blend, which sums to less than 1
    payoffs = GAME.win_rate(2 * OTHER - PI)
    found = _minimiser(payoffs, anchor, OTHER, size, baseline)
    torch.testing.assert_close(found, _step(anchor, payoffs, size), atol=1e-7, rtol=0)


@pytest.mark.parametrize("baseline", ["plug-in", "centred"])
def test_the_minimiser_is_the_mirror_step_whatever_the_precisions(baseline: Any) -> None:
    payoffs = GAME.win_rate(OTHER)
    precision = torch.tensor([0.1, 2.5, 0.9], dtype=torch.float64)
    found = _minimiser(payoffs, PI.log(), OTHER, 3.0, baseline, precision)
    torch.testing.assert_close(found, _step(PI.log(), payoffs, 3.0), atol=1e-7, rtol=0)


def test_precisions_are_inverse_variances_by_hand() -> None:
    """Var(G) within prompts: 0.04, 0.01, weighted 1 and 3: 0.0175; the errors' mean square: (0.2^2 + 0.1^2 / 4) / 4."""
    payoffs = torch.tensor([[0.7, 0.3, torch.nan], [0.5, 0.7, 0.5]], dtype=torch.float64)
    weights = torch.tensor([[0.5, 0.5, 0.0], [1.5, 1.5, 0.0]], dtype=torch.float64)
    errors = torch.tensor([[0.0, 0.1, torch.nan], [0.0, 0.05, 9.0]], dtype=torch.float64)
    variance, noise = 0.04 / 4 + 3 * 0.01 / 4, (0.5 * 0.1**2 + 1.5 * 0.05**2) / 4
    assert regression.error_share(payoffs, errors, weights) == pytest.approx(noise / variance)
    rest = variance - noise
    inverse = [[1 / rest, 1 / (rest + 0.1**2)], [1 / rest, 1 / (rest + 0.05**2)]]
    mean = (0.5 * sum(inverse[0]) + 1.5 * sum(inverse[1])) / 4
    found = regression.precisions(payoffs, errors, weights)
    assert found[:, :2].tolist() == [pytest.approx([value / mean for value in row]) for row in inverse]
    assert found[:, 2].tolist() == [1, 1]  # they have no weight
    large = regression.precisions(payoffs, 10 * errors, weights)  # errors beyond the payoffs' own variance
    floor = regression.LEAST * variance
    assert float(large[0, 0] / large[0, 1]) == pytest.approx((floor + 1.0**2) / floor)


@pytest.mark.parametrize("error", [0.0, 0.03, 0.4])
def test_equal_errors_change_nothing(error: float) -> None:
    generator = torch.Generator().manual_seed(0)
    payoffs = torch.rand(7, 5, generator=generator, dtype=torch.float64)
    weights = torch.rand(7, 5, generator=generator, dtype=torch.float64)
    found = regression.precisions(payoffs, torch.full_like(payoffs, error), weights)
    assert found.float().tolist() == torch.ones(7, 5).tolist()
    flat = torch.full_like(payoffs, 0.5)
    assert regression.precisions(flat, torch.full_like(payoffs, error), weights).tolist() == torch.ones(7, 5).tolist()
    assert math.isnan(regression.error_share(flat, flat, weights))


def test_a_response_on_which_judges_differ_pulls_less() -> None:
    """Two responses with one parameter: least squares meets their targets in proportion to their precisions."""
    payoffs = torch.tensor([[0.8, 0.4, 0.3, 0.5]], dtype=torch.float64)
    errors = torch.tensor([[0.0, 0.2, 0.0, 0.0]], dtype=torch.float64)
    even = torch.full((1, 4), 0.25, dtype=torch.float64)
    precision = regression.precisions(payoffs, errors, even)
    target = regression.targets(payoffs, 2.0, even, "constant")
    direction = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    scale, _ = regression.line_minimum(direction, target, even * precision, "constant")
    variance, noise = float(payoffs.var(correction=0)), 0.2**2 / 4
    of_noisy = (variance - noise) / (variance - noise + 0.2**2)
    assert scale == pytest.approx((0.6 + of_noisy * -0.2) / (1 + of_noisy))
    assert scale > 0.2 + 1e-3  # the even mean


def test_the_constant_is_right_to_first_order_in_self_play_only() -> None:
    payoffs = GAME.win_rate(PI)
    errors = [
        float((_minimiser(payoffs, PI.log(), PI, size, "constant") - _step(PI.log(), payoffs, size)).abs().sum())
        for size in (0.2, 0.4)
    ]
    assert 0 < errors[0] < 2e-3
    assert errors[1] / errors[0] == pytest.approx(8, rel=0.5)  # the level is off by size^2, the policy one order less
    wrong = _minimiser(GAME.win_rate(OTHER), PI.log(), OTHER, 0.4, "constant")
    right = _minimiser(GAME.win_rate(OTHER), PI.log(), OTHER, 0.4, "plug-in")
    step = _step(PI.log(), GAME.win_rate(OTHER), 0.4)
    assert (wrong - step).abs().sum() > 1e-3 > 1e-6 > (right - step).abs().sum()


def test_plug_in_is_the_log_normaliser() -> None:
    payoffs = GAME.win_rate(PI)
    target = regression.targets(payoffs[None], 3.0, PI[None], "plug-in")
    expected = 3.0 * payoffs - torch.log((PI * torch.exp(3.0 * payoffs)).sum())
    torch.testing.assert_close(target[0], expected, atol=1e-14, rtol=0)
    assert float((PI * target[0].exp()).sum()) == pytest.approx(1.0)


def test_centred_loss_is_half_the_mean_squared_difference_over_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    ratio, payoffs = (torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    weights = torch.full((4, 5), 0.2, dtype=torch.float64)
    target = regression.targets(payoffs, 2.0, weights, "centred")
    pairs = (ratio[:, :, None] - ratio[:, None, :] - 2.0 * (payoffs[:, :, None] - payoffs[:, None, :])).square()
    assert float(regression.loss(ratio, target, weights, "centred")) == pytest.approx(
        float(pairs.mean((1, 2)).sum() / 2)
    )


def test_sppo_by_hand_and_its_step_zero_loss() -> None:
    """Best and worst with the constant 1/2: the mean of the two squares, as the official code's (w + l) / 2."""
    payoffs = torch.tensor([[0.9, 0.4, 0.1, 0.5, 0.6]], dtype=torch.float64)
    weights = regression.select(payoffs, torch.full_like(payoffs, 0.2), "best-worst")
    assert weights.tolist() == [[0.5, 0, 0.5, 0, 0]]
    target = regression.targets(payoffs, 1000.0, weights, "constant")
    ratio = torch.tensor([[3.0, 9.0, -2.0, 9.0, 9.0]], dtype=torch.float64)
    by_hand = ((3.0 - 1000 * (0.9 - 0.5)) ** 2 + (-2.0 - 1000 * (0.1 - 0.5)) ** 2) / 2
    assert float(regression.loss(ratio, target, weights, "constant")) == pytest.approx(by_hand)


def test_gradient_against_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    payoffs = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.0, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    for baseline in ("plug-in", "centred", "constant"):
        target = regression.targets(payoffs, 3.0, weights, baseline)
        ratio = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda r, t=target, b=baseline: regression.loss(r, t, weights, b), ratio)


def test_leaving_oneself_out_is_unbiased_and_including_oneself_shrinks_by_the_known_factor() -> None:
    rng = np.random.default_rng(0)
    P = games.zoo.random_preferences(5, seed=1).P
    ones = torch.ones(5, dtype=torch.float64)
    left_out = regression.win_rates(P, ones, torch.arange(5))
    included = regression.win_rates(P, ones)
    torch.testing.assert_close(included - 0.5, 0.8 * (left_out - 0.5), atol=1e-15, rtol=0)
    # Over many draws of 5 responses the estimate for a given action has the mean P(y beats pi).
    draws = torch.tensor(rng.choice(3, size=(20_000, 5), p=PI.numpy()))
    tables = GAME.P[draws[:, :, None], draws[:, None, :]]
    estimates = regression.win_rates(tables, torch.ones(20_000, 5, dtype=torch.float64), torch.arange(5))
    for action in range(3):
        found = estimates[draws == action]
        error = float(found.std()) / len(found) ** 0.5
        assert abs(float(found.mean()) - float(GAME.win_rate(PI)[action])) < 5 * error


def test_missing_judgements_are_left_out_and_never_a_coin_flip() -> None:
    P = torch.tensor(
        [[0.5, float("nan"), 0.9], [float("nan"), 0.5, float("nan")], [0.1, float("nan"), 0.5]], dtype=torch.float64
    )
    payoffs = regression.win_rates(P, torch.ones(3, dtype=torch.float64), torch.arange(3))
    assert payoffs[0] == 0.9
    assert payoffs[2] == pytest.approx(0.1)
    assert payoffs[1].isnan()
    weights = regression.select(payoffs[None], torch.full((1, 3), 1 / 3, dtype=torch.float64), "all")
    assert weights[0, 1] == 0
    for baseline in ("plug-in", "centred", "constant"):
        target = regression.targets(payoffs[None], 2.0, weights, baseline)
        assert torch.isfinite(target).all()
        assert torch.isfinite(regression.loss(torch.ones(1, 3, dtype=torch.float64), target, weights, baseline))


def test_equal_responses_give_no_pair() -> None:
    payoffs = torch.full((1, 4), 0.5)
    assert regression.select(payoffs, torch.full((1, 4), 0.25), "best-worst").sum() == 0


def test_achieved_knows_the_whole_step_none_of_it_and_half() -> None:
    payoffs = torch.tensor([[0.9, 0.1, 0.4]], dtype=torch.float64)
    weights = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    target = regression.targets(payoffs, 2.0, weights, "centred")
    for factor, r2 in ((1.0, 1.0), (0.0, 0.0), (0.5, 0.75)):
        found = regression.fit_metrics(factor * target + 7.0, target, weights, "centred")
        assert found["share"] == pytest.approx(factor)
        assert found["r2"] == pytest.approx(r2)


def _uneven_prompts(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-ratios and noisy targets of four responses to prompts, some of which differ more than others."""
    draw = torch.Generator().manual_seed(0)
    signal, noise, error = (torch.randn(count, 4, generator=draw, dtype=torch.float64) for _ in range(3))
    scale = (0.6 * torch.randn(count, 1, generator=draw, dtype=torch.float64)).exp()
    target, ratio = scale * (signal + 0.5 * error), scale * (0.6 * signal + 0.5 * noise)
    return ratio - ratio.mean(1, keepdim=True), target - target.mean(1, keepdim=True)


@pytest.mark.parametrize("prompts", [8, 16])
def test_two_errors_of_r2_cover_the_r2_of_all_prompts_though_prompts_are_few_and_uneven(prompts: int) -> None:
    ratio, target = _uneven_prompts(400_000)
    true = 1 - float((ratio - target).square().sum() / target.square().sum())
    even, covered, times = torch.full((prompts, 4), 0.25), 0, 2000
    for k in range(times):
        part = slice(k * prompts, (k + 1) * prompts)
        found = regression.fit_metrics(ratio[part], target[part], even, "centred")
        covered += abs(found["r2"] - true) <= 2 * found["r2_error"]
    assert covered / times > 0.85  # 95% of many prompts


def test_the_r2_of_a_handful_of_prompts_has_no_error() -> None:
    ratio, target = _uneven_prompts(8)
    for prompts, known in ((1, False), (2, False), (7, False), (8, True)):
        found = regression.fit_metrics(ratio[:prompts], target[:prompts], torch.full((prompts, 4), 0.25), "centred")
        assert np.isfinite(found["r2"])
        assert np.isfinite(found["r2_error"]) == known


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selection": "some"}, "selection is 'some'; expected one of all, best-worst"),
        ({"baseline": "none"}, "baseline is 'none'; expected one of plug-in"),
        ({"optimiser": "sgd"}, "optimiser is 'sgd'; expected one of adamw"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"held_out": 1.0}, "held_out"),
        ({"selection": "best-worst"}, "plug-in baseline needs all responses"),
    ],
)
def test_fit_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fit(**settings)


def test_the_variance_of_a_win_rate_is_that_of_a_mean_over_draws_and_weights_count_by_their_squares() -> None:
    rng = np.random.default_rng(0)
    row, shares = rng.random(5), np.array([0.1, 0.4, 0.2, 0.2, 0.1])
    drawn = torch.tensor(row[rng.choice(5, (40_000, 4), p=shares)])[:, None]
    truth = float(shares @ row**2 - (shares @ row) ** 2)
    for weights in ([1.0, 1.0, 1.0, 1.0], [0.4, 0.3, 0.2, 0.1]):
        w = torch.tensor(weights, dtype=torch.float64)
        estimates, found = (f(drawn, w) for f in (regression.win_rates, regression.win_rate_variances))
        expected = truth * float((w**2).sum() / w.sum() ** 2)
        assert float(found.mean()) == pytest.approx(expected, rel=0.02)
        assert float(estimates.var()) == pytest.approx(expected, rel=0.02)


def test_the_variance_of_a_single_comparison_is_not_known_and_what_was_not_judged_is_left_out() -> None:
    P = torch.tensor([[0.5, 0.9, torch.nan], [0.1, 0.5, 0.3], [torch.nan, 0.7, 0.5]], dtype=torch.float64)
    found = regression.win_rate_variances(P, torch.ones(3), torch.arange(3))
    assert found.isnan().tolist() == [True, False, True]
    assert float(found[1]) == pytest.approx(np.var([0.1, 0.3], ddof=1) / 2)


CYCLE = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]], dtype=torch.float64)


def _strengths(seed: int, cycles: float) -> torch.Tensor:
    """A table of 40 actions: strengths, and preferences that no strengths explain."""
    rng = np.random.default_rng(seed)
    strength, odd = rng.normal(size=40), rng.normal(size=(40, 40))
    logits = strength[:, None] - strength + cycles * (odd - odd.T)
    return torch.tensor(1 / (1 + np.exp(-logits)))


@pytest.mark.parametrize("size", [0.5, 2.5])
@pytest.mark.parametrize("baseline", ["plug-in", "centred", "constant"])
@pytest.mark.parametrize(
    ("table", "responses"),
    [(_strengths(0, 0.0), 4), (_strengths(1, 1.5), 4), (_strengths(2, 0.3), 3), (_strengths(3, 0.5), 8), (CYCLE, 4)],
    ids=["strengths", "strengths and cycles", "three responses", "eight responses", "only a cycle"],
)
def test_no_fit_explains_more_of_the_targets_than_the_ceiling_and_the_true_log_ratio_reaches_it(
    baseline: Any, table: torch.Tensor, responses: int, size: float
) -> None:
    prompts, actions = 6000, len(table)
    drawn = torch.tensor(np.random.default_rng(4).integers(actions, size=(prompts, responses)))
    P = table[drawn[:, :, None], drawn[:, None, :]]
    own, weights = torch.arange(responses), torch.full((prompts, responses), 1 / responses, dtype=torch.float64)
    payoffs = regression.win_rates(P, weights[0], own)
    variances = regression.win_rate_variances(P, weights[0], own)
    ceiling = regression.r2_ceiling(payoffs, variances, weights)
    target = regression.targets(payoffs, size, weights, baseline)
    known = size * table.mean(1)
    truth = (known - (known.logsumexp(0) - np.log(actions) if baseline == "plug-in" else 0.5 * size))[drawn]
    reached = 1 - float((target - truth).square().sum() / target.square().sum())
    assert ceiling == pytest.approx(reached, abs=0.02 if size < 1 else 0.05)  # first order in the size
    assert (ceiling < 0.05) == (actions == 3)  # nobody is better than anybody, and the targets are errors alone


def test_equal_payoffs_have_no_ceiling() -> None:
    equal = torch.full((2, 3), 0.5)
    assert np.isnan(regression.r2_ceiling(equal, equal, equal))


def test_a_promised_win_rate_is_without_the_errors_of_the_payoffs() -> None:
    table, size, prompts, responses = _strengths(5, 0.8), 1.0, 6000, 4
    drawn = torch.tensor(np.random.default_rng(6).integers(len(table), size=(prompts, responses)))
    P = table[drawn[:, :, None], drawn[:, None, :]]
    weights = torch.full((prompts, responses), 1 / responses, dtype=torch.float64)
    payoffs, variances = (
        of(P, weights[0], torch.arange(responses)) for of in (regression.win_rates, regression.win_rate_variances)
    )
    zero = torch.zeros_like(payoffs)
    target = regression.targets(payoffs, size, weights, "plug-in")
    batch = Experience(zero, zero, zero, payoffs, weights, zero + 1, target, "plug-in", size, start=zero)
    known = table.mean(1)
    after = (size * known).softmax(0)
    truth = float(after @ known)
    ceiling = regression.r2_ceiling(payoffs, variances, weights)
    assert diagnostics.promised_win_rate(batch, ceiling) == pytest.approx(truth, abs=0.002)
    assert diagnostics.promised_win_rate(batch) > truth + 0.005
