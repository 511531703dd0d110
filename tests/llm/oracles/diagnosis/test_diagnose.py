"""The examination of judges: planted errors are named, clean judges are not accused, measures are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nashward import games, theory
from nashward.errors import NashwardError
from nashward.games.analysis.style import STYLE
from nashward.llm.config import DiagnosisLimits
from nashward.llm.oracles import Ensemble, Function, Length, Plain
from nashward.llm.oracles.diagnosis.diagnose import cost, diagnose, noise
from nashward.llm.oracles.diagnosis.finding import clustered_mean
from nashward.llm.oracles.diagnosis.probe import Pair, judge_pairs, probe_pairs
from nashward.llm.oracles.fitting.votes import Vote
from nashward.llm.report import write_diagnosis
from nashward.llm.report.diagnosis import MEANING

from .planted import PLANTED, Simulated, World, examine

SEEDS = 20


@pytest.mark.parametrize("kind", ["order", "bold", "calibration", "cycles", "repeat"])
def test_a_planted_error_is_named(kind: str) -> None:
    assert kind in [finding.kind for finding in examine(kind, seed=0).named]


def test_a_clean_judge_is_not_accused() -> None:
    diagnosis = examine("clean", seed=0)
    assert diagnosis.named == []
    assert "no problem found on 200 prompts" in diagnosis.headline
    assert "agrees with the labels" in diagnosis.headline


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_error_is_named_in_18_of_20_seeds(kind: str) -> None:
    named = [[finding.kind for finding in examine(kind, seed).named] for seed in range(SEEDS)]
    assert sum(kind in kinds for kinds in named) >= 18


@pytest.mark.slow
def test_of_20_clean_judges_at_most_one_is_accused() -> None:
    assert sum(bool(examine("clean", seed).named) for seed in range(SEEDS)) <= 1


@pytest.mark.slow
def test_the_sizes_are_those_that_were_planted() -> None:
    world = World(3)
    pairs = probe_pairs(world.votes, world.prompts, world.answers)

    def found(kind: str, of: str) -> tuple[float, float]:
        diagnosis = diagnose(Simulated(world, kind, 3), pairs)
        (finding,) = (finding for finding in diagnosis.findings if finding.kind == of)
        return finding.estimate, finding.standard_error

    for kind in ("order", *STYLE):
        (clean, _), (planted, error) = found("clean", kind), found(kind, kind)
        assert planted - clean == pytest.approx(PLANTED[kind], abs=0.05)
        assert 0 < error < 0.1
    estimate, error = found("calibration", "calibration")
    assert estimate == pytest.approx(3 * found("clean", "calibration")[0], rel=0.1)
    assert found("missing", "missing")[0] == pytest.approx(0.1, abs=0.03)
    assert found("truncated", "truncated")[0] == pytest.approx(0.1 * 2 / 3, abs=0.03)


def test_the_errors_are_over_prompts() -> None:
    random = np.random.default_rng(0)
    means = []
    for _ in range(400):
        of_prompt = np.repeat(random.normal(size=30), 3)
        means.append(clustered_mean(of_prompt + 0.1 * random.normal(size=90), np.repeat(np.arange(30), 3)))
    spread = np.std([mean for mean, _, _ in means])
    assert np.mean([error for _, error, _ in means]) == pytest.approx(spread, rel=0.1)


def test_the_noise_is_that_of_an_averaged_judgement_and_its_cost_is_below_the_bound() -> None:
    world = World(1)
    pairs = probe_pairs((), world.prompts, world.answers)
    noisy = Simulated(world, "flips", 1, size=1.0)  # 1 nat of each order: 1 / sqrt 2 of their mean
    judged = judge_pairs(noisy, pairs)
    assert noise(judged, judged) == pytest.approx(2**-0.5, rel=0.05)
    found = cost(judged, judged)
    assert found is not None
    assert found.responses == 4
    assert 0 < found.gap < theory.OracleError(found.error).value()
    (first, *_), tables = pairs, judged.log_odds[:6]
    assert first.prompt == world.prompts[0]
    # a second route: the same draws on one prompt, by hand
    table = np.zeros((4, 4))
    table[np.triu_indices(4, 1)] = tables
    true = games.PreferenceGame(torch.from_numpy(1 / (1 + np.exp(-(table - table.T)))))
    assert float(games.duality_gap(true, games.nash(true).policy)) < 1e-9
    assert cost(judge_pairs(Length(), pairs[:6]), judge_pairs(Length(), pairs[:6])) is None


def test_pairs_have_their_labels_and_their_authors() -> None:
    votes = [Vote("p", "x", "y", 1, 1), Vote("p", "y", "x", 1, 3), Vote("q", "u", "v", 0, 1), Vote("q", "u", "u", 0, 1)]
    pairs = probe_pairs(votes, ["p"], {"ann": ["x"], "bob": ["y"], "cy": [None]})
    assert pairs == [Pair("p", "x", "y", "ann", "bob", 3.0, 4.0), Pair("q", "u", "v", None, None, 0.0, 1.0)]
    with pytest.raises(NashwardError, match="no pair"):
        probe_pairs([Vote("p", "x", "x", 1, 1)])


def test_of_an_ensemble_the_spread_is_noise() -> None:
    pairs = [Pair(f"p{k}", "Yes. " * (k + 1), "No, never at all.") for k in range(12)]
    ensemble = Ensemble([Length(), Length(3.0), Plain()])
    judged = judge_pairs(ensemble, pairs)
    assert judged.spread is not None
    assert noise(judged, judged) > 0.3


def test_labels_that_prefer_length_excuse_a_judge_that_does() -> None:
    random = np.random.default_rng(0)
    votes, texts = [], {}
    for k in range(300):
        a, b = ("word " * int(random.integers(1, 80)) + f"{k} {side}" for side in "ab")
        p = 1 / (1 + (len(b) / len(a)) ** 1.0)
        votes.append(Vote(f"p{k}", a, b, wins=float(random.random() < p), n=1))
        texts[f"p{k}"] = (a, b)
    unlabelled = [Pair(prompt, a, b) for prompt, (a, b) in texts.items()]
    assert [finding.kind for finding in diagnose(Length(), unlabelled).named] == ["length"]
    assert diagnose(Length(), probe_pairs(votes)).named == []


@pytest.mark.parametrize(
    ("kind", "labelled", "authors", "beside"),
    [("clean", 2, False, 0), ("clean", 29, False, 1), ("clean", 200, True, 2), ("accuracy", 200, False, 0)],
)
def test_each_measure_is_made_or_says_what_it_needs(kind: str, labelled: int, authors: bool, beside: int) -> None:
    world = World(0)
    answers = world.answers if authors else None
    pairs = probe_pairs(world.votes[:labelled], world.prompts if authors else (), answers)
    others = {f"judge {k}": Simulated(world, seed=k) for k in range(1, beside + 1)}
    for oracle in (Simulated(world, kind), Length()):
        diagnosis = diagnose(oracle, pairs, others)
        made, lacking = ({one.kind for one in row} for row in (diagnosis.findings, diagnosis.not_measured))
        assert made | lacking == set(MEANING)
        assert not made & lacking
        assert ("order" in lacking) == (labelled == 2 or oracle.symmetric)
        assert ("accuracy" in lacking) == (labelled < 30)
        assert ("cycles" in lacking) == (not authors)
        assert ("agreement" in lacking) == (beside < 2)


def test_two_pairs_accuse_nobody_and_say_what_they_lack(tmp_path: Path) -> None:
    """A judge that always prefers the first is not shown to do so by two prompts."""
    first = Function(lambda prompt, a, b: 0.9)
    pairs = [Pair(f"p{k}", f"one {k}", f"other {k}", wins=1, n=1) for k in range(2)]
    diagnosis = diagnose(first, pairs)
    assert diagnosis.named == []
    assert "3 of 14 measures" in diagnosis.headline
    needs = {one.kind: one.needs for one in diagnosis.not_measured}
    assert "30" in needs["accuracy"]
    assert "2" in needs["accuracy"]
    found = diagnosis.as_dict()
    assert {one["kind"] for one in found["not_measured"]} == set(needs)
    page = write_diagnosis(diagnosis, tmp_path / "judge.html").read_text(encoding="utf-8")
    assert "30 labelled pairs" in page


def test_a_judge_that_judges_nothing_is_named_and_nothing_else_is_measured() -> None:
    nothing = Function(lambda prompt, a, b: float("nan"))
    diagnosis = diagnose(nothing, [Pair(f"p{k}", f"one {k}", f"other {k}") for k in range(12)])
    assert [finding.kind for finding in diagnosis.named] == ["missing"]
    assert diagnosis.cost is None
    assert {one.kind for one in diagnosis.not_measured} == {*MEANING, "cost"} - {"missing", "truncated"}


def test_the_page_and_the_limits(tmp_path) -> None:
    world = World(0)
    pairs = probe_pairs(world.votes, world.prompts, world.answers)
    oracle = Simulated(world, "order")
    assert diagnose(oracle, pairs, limits=DiagnosisLimits(order=0.4)).named == []
    diagnosis = diagnose(oracle, pairs)
    page = write_diagnosis(diagnosis, tmp_path / "judge.html", bound=0.25).read_text(encoding="utf-8")
    assert "1 problem" in page
    assert "prefers what is shown first" in page
    assert "0.250" in page
    assert len(diagnosis.doubtful) == 5
    away = [abs(p - pair.wins / pair.n) for pair, p, _ in diagnosis.doubtful]
    assert away == sorted(away, reverse=True)
    assert diagnosis.as_dict()["problems"] == ["order"]
    with pytest.raises(NashwardError, match=r"order is -1"):
        DiagnosisLimits(order=-1)
