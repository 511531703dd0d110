"""The numbers of a verification against exact ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from nashward.llm.delivery.artefacts import Verdict
from nashward.llm.delivery.replay import Replay, mixed
from nashward.llm.delivery.replay_sample import ReplaySample
from nashward.llm.delivery.verify import Drift, Verification, WinRateChange, scale_of_update


def _replay(probabilities: np.ndarray) -> Replay:
    logprobs = torch.tensor(np.log(probabilities)).flatten()
    return Replay(logprobs, [torch.tensor([0])] * len(logprobs))


def _responses(weights: np.ndarray, payoffs: np.ndarray) -> ReplaySample:
    N, K = weights.shape
    return ReplaySample(
        "s", Path("s"), [str(n) for n in range(N) for _ in range(K)], [([1], [2])] * (N * K),
        torch.tensor(weights).flatten(), torch.tensor(payoffs).flatten(),
    )  # fmt: skip


def test_the_change_of_an_enumerated_policy_is_exact() -> None:
    """Where the responses are all that there are, weighted by their probability, reweighting is no estimate."""
    random = np.random.default_rng(0)
    s, p, q = random.dirichlet(np.ones(5), (3, 40)).reshape(3, 40, 5)
    payoffs = random.random((40, 5))
    found = WinRateChange.between(_replay(p), _replay(q), _replay(s), _responses(s, payoffs))
    exact = ((q - p) * payoffs).sum(1)
    assert found.value == pytest.approx(exact.mean(), abs=1e-12)
    assert found.standard_error == pytest.approx(exact.std(ddof=1) / math.sqrt(40), abs=1e-12)
    assert found.interval[1] - found.value == pytest.approx(2.0227 * found.standard_error, rel=1e-4)


def test_intervals_of_samples_cover_the_change() -> None:
    random = np.random.default_rng(1)
    s, p, q = (np.tile(random.dirichlet(np.full(6, 5.0)), (60, 1)) for _ in range(3))
    payoffs = random.random(6)
    exact = float(((q - p) * payoffs).sum(1)[0])
    covered = 0
    for _ in range(200):
        drawn = np.array([random.choice(6, 4, p=row) for row in s])
        at = np.arange(60)[:, None], drawn
        stored = _responses(np.full((60, 4), 0.25), payoffs[drawn])
        low, high = WinRateChange.between(_replay(p[at]), _replay(q[at]), _replay(s[at]), stored).interval
        covered += low <= exact <= high
    assert 180 <= covered <= 200


def test_the_effective_sample_size_is_all_of_it_where_nothing_moved() -> None:
    s = np.full((3, 4), 0.25)
    same = WinRateChange.between(_replay(s), _replay(s), _replay(s), _responses(s, np.full((3, 4), 0.7)))
    assert (same.value, same.effective) == (0, pytest.approx(12))
    tilted = np.array([[0.97, 0.01, 0.01, 0.01]] * 3)
    few = WinRateChange.between(_replay(s), _replay(tilted), _replay(s), _responses(s, np.full((3, 4), 0.7)))
    assert few.effective == pytest.approx(3, rel=0.1)


def test_the_drift_of_a_mixture_is_over_its_tokens_once() -> None:
    one, two = (Replay(torch.tensor([-x]).double(), [torch.tensor([7, 8])]) for x in (2, 3))
    assert Drift.between(mixed([one] * 3, [0.2, 0.3, 0.5]), mixed([two] * 3, [0.2, 0.3, 0.5])).per_token == (
        pytest.approx(Drift.between(one, two).per_token)
    )


def test_responses_that_nobody_judged_are_left_out() -> None:
    s = np.full((2, 2), 0.5)
    q = np.array([[0.8, 0.2], [0.8, 0.2]])
    payoffs = np.array([[1.0, 0.0], [np.nan, np.nan]])
    found = WinRateChange.between(_replay(s), _replay(q), _replay(s), _responses(s, payoffs))
    assert found.value == pytest.approx(0.3)
    assert math.isnan(found.standard_error)  # of one prompt
    one, other = (_replay(np.tile(of / 2, (1, 2))) for of in (s, q))
    half = _responses(np.full((2, 4), 0.25), np.array([[1.0, 0.0, np.nan, np.nan], [np.nan, np.nan, 1.0, 0.0]]))
    assert WinRateChange.between(one, other, one, half).value == pytest.approx(0.3)  # the other half says as much


@pytest.mark.parametrize(
    ("drift", "update", "error", "fails"),
    [
        (0.10, 1.0, 0.05, False),
        (0.17, 1.0, 0.05, True),  # above 1.5 x 0.1 + 0.01
        (math.nan, 1.0, 0.05, True),
        (0.10, 2.0, 0.05, True),
        (0.10, 0.0, 0.05, True),
        (0.10, 1.2, 0.01, False),
        (0.10, 2.0, 0.40, False),  # cannot be told; a note says so
        (0.10, None, None, False),
    ],
)
def test_what_passes(drift: float, update: float | None, error: float | None, fails: bool) -> None:
    base = Drift(0.1, 0.3, 0.01, 0.99)
    found = Verification(40, 10, "start", Drift(drift, 0.5, 0.01, 0.9), base, update, error, None, 1.5)
    assert bool(found.failures) == fails
    assert bool(found.notes) == (error is None or error > 0.3)


@pytest.mark.parametrize(
    ("stored", "rounding", "said"), [("float16", 0.124, True), ("float32", 0, False), (None, 1, False)]
)
def test_the_types_of_weights_and_proof_are_said_where_they_differ(
    stored: str | None, rounding: float, said: bool
) -> None:
    base, same = Drift(rounding, 0.3, 0.01, 0.99), Drift(0.0, 0.0, 0.0, 1.0)
    found = Verification(40, 10, "start", same, base, None, None, None, 1.5)
    lines = Verdict(found, "16-bit", None, stored).lines
    assert any("in float16" in line and "in float32" in line for line in lines) == said


def test_the_scale_of_an_update_is_found_in_noise() -> None:
    """Least squares would give about half of it: the regressor has noise too."""
    random = np.random.default_rng(2)
    true = random.normal(size=400)
    one, two, three = (torch.tensor(factor * true + random.normal(size=400)) for factor in (1, 1, 2))
    prompts = [str(k // 4) for k in range(400)]
    scale, error = scale_of_update(one, two, three, prompts)
    assert scale is not None
    assert error is not None
    assert abs(scale - 2) < 3 * error < 1
    assert float((two * three).sum() / two.square().sum()) < 1.3
    assert scale_of_update(1e-5 * one, 1e-5 * two, 1e-5 * three, prompts) == (None, None)
