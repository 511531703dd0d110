"""What a fit achieved, against exact sums over a small set of responses and against numbers by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nashward.llm.run.stages.fit_result import FitScores
from nashward.llm.training import diagnostics
from nashward.llm.training.experience import Experience

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
Q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
R = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
LENGTHS = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
PROMPTS = 40_000


def _scored(sampler: Tensor, drawn: Tensor | None = None, **given: Any) -> Experience:
    """All actions weighted by the sampler, or those that were drawn from it, [prompts, R]."""
    which = torch.arange(3)[None] if drawn is None else drawn
    weights = sampler[which] if drawn is None else torch.full(which.shape, 1 / which.shape[1]).double()
    fields = {name: P.log() for name in ("now", "start", "anchor", "reference")} | {"sampler": sampler.log(), **given}
    scores = {name: values[which] for name, values in fields.items()}
    none = torch.zeros(which.shape).double()
    return Experience(
        **{"target": none, "payoffs": none, **scores},
        weights=weights,
        lengths=LENGTHS[which],
        baseline="constant",
        size=10.0,
    )


def _start(batch: Experience) -> Tensor:
    assert batch.start is not None
    return batch.start


def _kl(a: Tensor, b: Tensor) -> float:
    return float((a * (a / b).log()).sum())


@pytest.mark.parametrize("sampler", [P, Q, (P + Q) / 2], ids=["itself", "another", "both"])
def test_over_the_whole_set_the_estimates_are_exact(sampler: Tensor) -> None:
    scored = _scored(sampler, reference=R.log(), now=Q.log())
    length = float((P * LENGTHS).sum())
    entropy = float(-(P * P.log()).sum())
    found = diagnostics.policy_metrics(_start(scored), scored)
    assert math.isnan(found.pop("kl_to_reference_error"))  # of one prompt nothing is known
    expected = {
        "tokens": length, "entropy": entropy, "entropy_per_token": entropy / length, "kl_to_reference": _kl(P, R),
        "kl_to_reference_per_token": _kl(P, R) / length, "relative_ess": 1 / float((P**2 / sampler).sum()),
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-12)
    fit = diagnostics.fit_metrics(scored)
    assert fit["kl"] == pytest.approx(_kl(P, Q))
    assert fit["kl_per_token"] == pytest.approx(_kl(P, Q) / length)
    assert fit["loss"] == pytest.approx(float((sampler * (Q / P).log() ** 2).sum()))


@pytest.mark.parametrize("policy", [P, Q], ids=["itself", "another"])
def test_from_samples_the_estimates_are_near(policy: Tensor) -> None:
    drawn = torch.multinomial(P, PROMPTS * 5, True, generator=torch.Generator().manual_seed(0)).reshape(PROMPTS, 5)
    scored = _scored(P, drawn, now=policy.log(), reference=R.log())
    found = diagnostics.policy_metrics(scored.now, scored)
    assert found["entropy"] == pytest.approx(float(-(policy * policy.log()).sum()), rel=0.01)
    assert found["kl_to_reference"] == pytest.approx(_kl(policy, R), rel=0.02)
    assert found["tokens"] == pytest.approx(float((policy * LENGTHS).sum()), rel=0.01)
    assert found["relative_ess"] == pytest.approx(1 / float((policy**2 / P).sum()), rel=0.02)


def test_the_error_of_a_divergence_is_its_spread() -> None:
    """The samples are drawn again and again: the estimates spread as far as each says."""
    found = []
    for seed in range(200):
        drawn = torch.multinomial(P, 400, True, generator=torch.Generator().manual_seed(seed)).reshape(100, 4)
        scored = _scored(P, drawn, reference=R.log())
        found.append(diagnostics.policy_metrics(Q.log()[drawn], scored))
    values, errors = (torch.tensor([one[f"kl_to_reference{end}"] for one in found]) for end in ("", "_error"))
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.15)
    plain = diagnostics.standard_error(P.log()[drawn], LENGTHS[drawn], scored)  # each prompt counts alike
    assert plain == pytest.approx(float(LENGTHS[drawn].mean(-1).std()) / 10)


def test_responses_without_a_judgement_count_nowhere() -> None:
    scored = _scored(P, reference=R.log())
    weights = scored.weights * torch.tensor([1.0, 0.0, 1.0])
    without = diagnostics.policy_metrics(_start(scored), replace(scored, weights=weights))
    two = (P * torch.tensor([1.0, 0.0, 1.0])) / 0.7
    assert without["tokens"] == pytest.approx(float((two * LENGTHS).sum()))


def test_no_divergence_is_negative_however_few_the_responses() -> None:
    for action in range(3):
        scored = _scored(P, torch.tensor([[action]]), now=Q.log())
        assert diagnostics.divergence(_start(scored), scored.now, scored) > 0
        assert diagnostics.divergence(_start(scored), _start(scored), scored) == 0


def test_a_divergence_of_policies_far_apart_is_no_more_than_their_log_ratios() -> None:
    """A response that the policy made likelier by 40 nats counted e^40, though it was drawn as rarely as it should."""
    far = P.log() - torch.tensor([50.0, 30.0, -40.0])
    scored = _scored(P, now=far)
    assert diagnostics.fit_metrics(scored)["kl"] == pytest.approx(0.5 * 50 + 0.3 * 30 - 0.2 * 40)
    assert diagnostics.divergence(_start(scored), _start(scored) + 2.0, scored) == pytest.approx(math.exp(2) - 3)


def test_what_the_responses_do_not_tell_of_a_policy_is_not_said() -> None:
    drawn = torch.arange(3).repeat(10, 10)
    near = torch.tensor([0.1, 0.1, 0.8]).double().log()
    rare = torch.zeros(drawn.shape).double()
    rare[0, 0] = 60.0  # one of 300 responses
    scored = _scored(P, drawn, reference=R.log(), now=near)
    assert diagnostics.policy_metrics(scored.now, scored)["kl_to_reference"] > 0
    ess = (found := diagnostics.policy_metrics(scored.now + rare, scored)).pop("relative_ess")
    assert ess == pytest.approx(1 / 300)
    assert all(math.isnan(value) for value in found.values())
    assert "138 nats" in str(diagnostics.went_too_far({**found, "relative_ess": ess}, 138.4))
    assert diagnostics.went_too_far(diagnostics.policy_metrics(scored.now, scored), 0.5) is None
    scores = FitScores(replace(scored, now=scored.now + rare))
    assert scores.win_rate is None
    assert FitScores(scored).win_rate == pytest.approx(0.5)  # the payoffs are all 0


def test_the_outlook_is_in_both_units() -> None:
    target = torch.tensor([[3.0, -1.0, 0.0]], dtype=torch.float64)
    known = diagnostics.initial_metrics(_scored(P, target=target[0]))
    assert known["loss"] == pytest.approx(0.5 * 9 + 0.3)
    assert known["loss_paper"] == pytest.approx(0.048)
    assert known["target_rms"] == pytest.approx(math.sqrt(4.8))
    assert known["log_ratio_rms"] == 0.0


@pytest.mark.parametrize("baseline", ["plug-in", "centred"])
def test_a_mixture_is_measured_by_how_far_the_fit_goes_to_it(baseline: Any) -> None:
    mixture = 0.75 * P.log() + 0.25 * R.log()  # the fit starts from P, and is to get from there to the blend
    level = torch.logsumexp(mixture, 0)
    half = P.log() + 0.5 * (mixture - level - P.log())
    for now, share, r2 in ((P.log(), 0.0, 0.0), (half, 0.5, 0.75), (mixture - level, 1.0, 1.0)):
        target = (-level).expand(3) if baseline == "plug-in" else torch.zeros(3).double()
        scored = replace(_scored(P, anchor=mixture, now=now, target=target), size=0.0, baseline=baseline)
        found = diagnostics.fit_metrics(scored)
        assert (found["share"], found["r2"]) == pytest.approx((share, r2), abs=1e-12)
        assert diagnostics.initial_metrics(replace(scored, now=P.log()[None]))["loss"] == pytest.approx(
            found["target_rms"] ** 2
        )
    assert diagnostics.unreachable_target(50.0, 0.0) is None


def test_fractions_of_steps_and_of_entries() -> None:
    assert diagnostics.clip_fraction([0.5, 1.0, 2.0, math.inf], 1.0) == 0.5
    assert diagnostics.clip_fraction([3.0], math.inf) == 0.0
    before = [torch.zeros(2, 3), torch.ones(2)]
    after = [before[0].clone(), torch.tensor([1.0, 2.0])]
    after[0][0] = 1.0
    assert diagnostics.changed_fraction(before, after) == 0.5


def test_warnings_appear_where_they_are_true() -> None:
    assert diagnostics.unreachable_target(19.0, 1.0) is None
    assert "policy gradient" in str(diagnostics.unreachable_target(21.0, 1.0))
    assert diagnostics.loss_mismatch(1.04, 1.0) is None
    assert diagnostics.loss_mismatch(0.0, 0.0) is None
    for first in (0.94, 1.06, math.nan):
        assert "where 1 was expected" in str(diagnostics.loss_mismatch(first, 1.0))
    assert [diagnostics.rose(after, 1.0) for after in (0.5, 1.0, 1.005, 1.02, math.nan)] == [False] * 3 + [True] * 2
