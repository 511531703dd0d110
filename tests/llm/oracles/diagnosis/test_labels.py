"""What labels say of a judge: certain verdicts, labels that it was fitted to, what they prefer themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from scipy.special import expit

from nashward.llm.config import DiagnosisLimits
from nashward.llm.oracles import Calibrated, Function, Length
from nashward.llm.oracles.diagnosis import biases
from nashward.llm.oracles.diagnosis.diagnose import cost, diagnose
from nashward.llm.oracles.diagnosis.finding import Finding
from nashward.llm.oracles.diagnosis.probe import Pair, judge_pairs, probe_pairs
from nashward.llm.oracles.diagnosis.style_fit import style_fit
from nashward.llm.oracles.fitting.votes import Vote

from .planted import Simulated, World


def _labelled(count: int, right: int) -> tuple[list[Pair], Function]:
    """Pairs whose label is the first, and a judge that is certain, on the right side in so many of them."""
    pairs = [Pair(f"p{k}", f"one {k}", f"two {k}", wins=1, n=1) for k in range(count)]
    sides = {f"p{k}": k < right for k in range(count)}
    return pairs, Function(lambda prompt, a, b: float(a.startswith("one") == sides[prompt]), symmetric=True)


def test_a_certain_judge_has_finite_figures_and_can_be_calibrated() -> None:
    pairs, certain = _labelled(60, right=48)
    diagnosis = diagnose(certain, pairs)
    (found,) = (finding for finding in diagnosis.named if finding.kind == "calibration")
    assert "60 of 60 pairs and wrong in 12" in found.text
    assert "0.200 (a coin 0.250)" in found.text  # Brier's score is the share of wrong verdicts
    # the likeliest slope gives four of five: 4 nats over log 4
    assert found.estimate == pytest.approx(4 / np.log(4), rel=1e-3)
    softened = Calibrated.fitted(certain, [Vote(pair.prompt, pair.a, pair.b, 1, 1) for pair in pairs])
    assert judge_pairs(softened, pairs).P[:48] == pytest.approx(0.8, abs=1e-3)
    (after,) = (finding for finding in diagnose(softened, pairs).findings if finding.kind == "calibration")
    assert after.estimate == pytest.approx(1, abs=1e-3)


def test_labels_that_a_judge_was_fitted_to_say_nothing_of_how_right_it_is() -> None:
    pairs, certain = _labelled(60, right=48)
    assert "calibration" in [finding.kind for finding in diagnose(certain, pairs).named]
    seen = {pair.prompt for pair in pairs}
    inside = diagnose(certain, pairs, fitted=seen)
    assert inside.named == []
    needs = {one.kind: one.needs for one in inside.not_measured}
    assert all("not fitted to, given: 0" in needs[kind] for kind in ("accuracy", "calibration", "favour"))
    partly = diagnose(certain, pairs, fitted={f"p{k}" for k in range(20)})
    (rate,) = (finding for finding in partly.findings if finding.kind == "accuracy")
    assert rate.estimate == pytest.approx(28 / 40)  # of the 40 others


def test_a_certain_judge_is_right_where_most_of_a_label_is() -> None:
    pairs, certain = _labelled(60, right=48)
    diagnosis = diagnose(certain, [replace(pair, wins=2, n=3) for pair in pairs])
    (found,) = (finding for finding in diagnosis.findings if finding.kind == "calibration")
    assert "60 of 60 pairs and wrong in 12" in found.text
    tied = diagnose(certain, [replace(pair, wins=1, n=2) if k < 6 else pair for k, pair in enumerate(pairs)])
    (rate,) = (finding for finding in tied.findings if finding.kind == "accuracy")
    assert rate.estimate == pytest.approx((42 + 6) / (54 + 12))  # of votes: six pairs that it had right are ties of two
    assert "6 ties" in rate.note


def test_log_odds_that_the_labels_contradict_have_a_finite_factor() -> None:
    """Right in 45 of 60 with P = .6, and wrong with certainty in the others."""
    pairs, _ = _labelled(60, right=45)
    sides = {pair.prompt: k < 45 for k, pair in enumerate(pairs)}
    odd = Function(
        lambda prompt, a, b: (
            (0.6 if sides[prompt] else 0.0) if a.startswith("one") else (0.4 if sides[prompt] else 1.0)
        ),
        symmetric=True,
    )
    diagnosis = diagnose(odd, pairs)
    (found,) = (finding for finding in diagnosis.named if finding.kind == "calibration")
    assert found.estimate == 20
    assert "15 of 60 pairs and wrong in 15" in found.text
    assert "temperature" not in found.advice


@pytest.mark.parametrize(
    ("right", "verdict"), [(10, "worse than a coin"), (33, "not told apart from a coin"), (50, "")]
)
def test_accuracy_is_worded_by_what_the_labels_tell_apart(right: int, verdict: str) -> None:
    pairs, certain = _labelled(60, right)
    (found,) = (finding for finding in diagnose(certain, pairs).findings if finding.kind == "accuracy")
    assert found.named == (right < 40)
    assert [word for word in ("worse than a coin", "not told apart from a coin") if word in found.text] == [verdict] * (
        verdict != ""
    )


def test_labels_too_few_to_say_whether_length_is_right_leave_it_undecided() -> None:
    """What they add by chance is no 0 either: a large effect is said, and whose fault it is stays open."""
    random = np.random.default_rng(3)
    pairs = [Pair(f"p{k}", "x" * int(a), "y" * int(b), wins=float(random.integers(2)), n=1) for k, (a, b) in
             enumerate(random.integers(10, 90, (60, 2)))]  # fmt: skip
    diagnosis = diagnose(Length(), pairs)
    assert "length" not in {finding.kind for finding in diagnosis.findings}
    (length,) = (one for one in diagnosis.not_measured if one.kind == "length")
    labels = re.search(r"of the labels is (\S+) ± (\S+), which may be chance", length.text)
    assert labels is not None
    assert abs(float(labels[1])) < 2.1 * float(labels[2])
    assert "more labels" in length.needs
    (alone,) = (one for one in diagnose(Length(), [replace(pair, n=0) for pair in pairs]).named if one.kind == "length")
    assert f"{alone.estimate:.2f} ± {alone.standard_error:.2f}" in length.text


@pytest.mark.parametrize(("beyond", "least", "most"), [(0.0, 0, 0), (2.5, 27, 30)])
def test_labels_drawn_from_the_judge_itself_accuse_it_of_no_length(beyond: float, least: int, most: int) -> None:
    """Quality goes with length; a judge of it alone is right to, and one that adds length is not."""
    random = np.random.default_rng(5)
    lengths = random.integers(10, 90, (300, 2))
    share = (lengths[:, 0] - lengths[:, 1]) / lengths.sum(1)
    quality = 1.0 * share + random.normal(0, 1.8, 300)
    pairs = [Pair(f"p{k}", "x" * int(a), "y" * int(b), n=1) for k, (a, b) in enumerate(lengths)]
    size = {(pair.prompt, pair.a): k for k, pair in enumerate(pairs)}

    def judge(prompt: str, a: str, b: str) -> float:
        sign, k = (1, size[prompt, a]) if (prompt, a) in size else (-1, size[prompt, b])
        return float(expit(sign * (quality[k] + beyond * share[k])))

    judged, named = judge_pairs(Function(judge, symmetric=True), pairs), 0
    for _ in range(30):
        won = random.random(300) < expit(quality)
        labelled = replace(judged, pairs=[replace(p, wins=float(w)) for p, w in zip(pairs, won, strict=True)])
        found = [one for one in biases.style(labelled, DiagnosisLimits()) if isinstance(one, Finding)]
        named += any(one.kind == "length" and one.beyond and one.p_value < 0.02 for one in found)
    assert least <= named <= most


def test_labels_on_other_responses_than_the_authors_leave_the_cost_measured() -> None:
    """A prompt's labelled texts were not judged beside the authors': each of the two is a table of its own."""
    world = World(1)
    votes = [Vote(prompt, f"one {k}", f"two {k}", 1, 1) for k, prompt in enumerate(world.prompts)]
    world.quality |= dict.fromkeys([text for vote in votes for text in (vote.a, vote.b)], 0.0)
    noisy = Simulated(world, "flips", 1, size=1.0)
    alone, both = (judge_pairs(noisy, probe_pairs(own, world.prompts, world.answers)) for own in ((), votes))
    found, beside = (cost(judged, judged) for judged in (alone, both))
    assert found is not None
    assert beside is not None
    assert beside.responses == found.responses == 4


@pytest.mark.parametrize("labelled", [False, True])
def test_a_judge_that_is_the_opposite_of_the_others_has_one_problem_and_one_advice(labelled: bool) -> None:
    rng = np.random.default_rng(0)
    pairs = [Pair(f"p{k}", f"one {k}", f"two {k}", wins=float(labelled), n=int(labelled)) for k in range(120)]

    def judge(right: float) -> Function:
        sides = {pair.prompt: bool(rng.random() < right) for pair in pairs}
        return Function(lambda prompt, a, b: float(a.startswith("one") == sides[prompt]), symmetric=True)

    (found,) = diagnose(judge(0.1), pairs, {"fair": judge(0.9), "biased": judge(0.8)}).named
    assert found.kind == ("accuracy" if labelled else "agreement")
    assert "exchange its verdicts" in found.advice
    assert "the other way round" in found.text + found.advice
    good = diagnose(judge(0.9), pairs, {"fair": judge(0.9), "biased": judge(0.8)})
    assert not {"accuracy", "agreement"} & {finding.kind for finding in good.named}


def test_agreement_accuses_no_judge_against_the_labels() -> None:
    """Two inverted judges beside a right one, and an inverted one beside two others: labels say which side is right."""
    rng = np.random.default_rng(0)
    pairs = [Pair(f"p{k}", f"one {k}", f"two {k}", wins=1.0, n=1) for k in range(120)]

    def judge(right: float) -> Function:
        sides = {pair.prompt: bool(rng.random() < right) for pair in pairs}
        return Function(lambda prompt, a, b: 0.9 if a.startswith("one") == sides[prompt] else 0.1, symmetric=True)

    for right, problems in ((0.9, set()), (0.1, {"accuracy"})):
        found = diagnose(judge(right), pairs, {"one": judge(0.1), "other": judge(0.15)})
        assert {one.kind for one in found.named} == problems
        (undecided,) = (one for one in found.not_measured if one.kind == "agreement")
        assert "by the labels: agreement does not tell which side is right" in undecided.text
        assert undecided.text in found.headline


def test_several_votes_on_a_pair_are_as_many_labels() -> None:
    world = World(3)
    pairs = probe_pairs(world.votes, world.prompts, world.answers)
    labelled = [pair for pair in pairs if pair.n]
    often = [replace(pair, wins=5 * pair.wins, n=5 * pair.n) if k < 60 else pair for k, pair in enumerate(labelled)]
    judge = Simulated(world, "favour")
    favours, by_labels = {}, {}
    for name, own in {"often": often, "copies": [*labelled, *labelled[:60] * 4]}.items():
        judged = judge_pairs(judge, own)
        found = biases.favours(judged, DiagnosisLimits())
        favours[name] = [one.estimate for one in found if isinstance(one, Finding)]
        fit = style_fit(judged, judged.labels, "wins")
        assert fit is not None
        by_labels[name] = [fit.fit.coefficients / fit.fit.scale, fit.fit.slope_errors]
    assert favours["often"] == pytest.approx(favours["copies"], rel=1e-3)
    np.testing.assert_allclose(by_labels["often"], by_labels["copies"], rtol=2e-2)


def test_two_pairs_of_the_same_authors_on_a_prompt_are_one_judgement() -> None:
    wins = {"x1": 0.9, "x2": 0.3}
    judge = Function(lambda prompt, a, b: wins[a] if a in wins else 1 - wins[b], symmetric=True)
    pairs = [Pair("p", f"x{k}", f"y{k}", "x", "y") for k in (1, 2)] + [Pair("p", "x1", "z", "x", "z")]
    with patch.object(biases, "significant_cycles", return_value=[]) as tested:
        _ = [*biases.cycles(judge_pairs(judge, pairs), DiagnosisLimits())]
    ((tables,), _) = tested.call_args
    assert tables[0, 0, 1] == pytest.approx(0.6)
    assert tables[0, 1, 0] == pytest.approx(0.4)
    assert tables[0, 0, 2] == pytest.approx(0.9)
    assert np.isnan(tables[0, 1, 2])


def test_of_two_authors_of_a_text_the_vote_says_whose_it_is() -> None:
    answers = {"ann": ["Hi."], "bob": ["Hello."], "cyd": ["Hello."]}
    votes = [Vote("p", "Hi.", "Hello.", wins=1, n=1, models=("", "bob"))]
    (pair,) = probe_pairs(votes, ["p"], answers)
    assert (pair.author_a, pair.author_b) == ("ann", "bob")
    (unknown,) = probe_pairs([replace(votes[0], models=("", ""))], ["p"], answers)
    assert (unknown.author_a, unknown.author_b) == ("ann", None)
