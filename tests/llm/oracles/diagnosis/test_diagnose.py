"""The examination of judges: planted errors are named, clean judges are not accused, measures are what they say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nashward import games, theory
from nashward.errors import NashwardError
from nashward.games.analysis.contextual import ContextualBradleyTerry
from nashward.games.analysis.style import STYLE, style_differences
from nashward.llm.config import DiagnosisLimits
from nashward.llm.oracles import Ensemble, Function, Length, PairRM, Plain, StyleControl
from nashward.llm.oracles.diagnosis import biases
from nashward.llm.oracles.diagnosis.diagnose import cost, diagnose, noise
from nashward.llm.oracles.diagnosis.finding import clustered_mean
from nashward.llm.oracles.diagnosis.probe import Pair, judge_pairs, probe_pairs
from nashward.llm.oracles.fitting.votes import Vote
from nashward.llm.pocket import PAIRRM
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
        # of style the judge's own effect: beyond labels it has their error too
        given = [replace(pair, n=0.0) for pair in pairs] if of in STYLE else pairs
        diagnosis = diagnose(Simulated(world, kind, 3), given)
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
    named = [Vote("p", "x", "w", 1, 1, models=("opt", "gpt")), Vote("q", "u", "v", 0, 1, models=("opt", ""))]
    authors = [(pair.author_a, pair.author_b) for pair in probe_pairs(named, ["p"], {"ann": ["x"]})]
    assert authors == [("ann", "gpt"), ("opt", None)]
    with pytest.raises(NashwardError, match="no pair"):
        probe_pairs([Vote("p", "x", "x", 1, 1)])


def test_judges_who_differ_are_no_noise_of_their_ensemble() -> None:
    """Near 0 and 1 their spread was 100 nats of noise of an oracle that always says the same."""
    pairs = [Pair(f"p{k}", "Yes. " * (k + 1), "No, never at all.") for k in range(12)]
    judged = judge_pairs(Ensemble([Length(50.0), Length(30.0), Plain()]), pairs)
    assert judged.error is None
    assert cost(judged, judged) is None


def test_what_the_folds_of_a_fit_differ_in_is_noise() -> None:
    pairs = [Pair(f"p{k}", "Yes. " * (k + 1), "No, never at all.") for k in range(12)]
    oracle = PairRM.from_pretrained(PAIRRM, device="cpu")
    heads = {name: value for name, value in oracle.model.named_parameters() if name.startswith(oracle.model.head_names)}
    oracle.members = [{name: factor * value.detach() for name, value in heads.items()} for factor in (1.0, 1.2)]
    judged = judge_pairs(oracle, pairs)
    assert judged.error is not None
    alike = replace(judged, forward=judged.log_odds, backward=-judged.log_odds)  # the orders differ in nothing
    delta = judged.error / (judged.P * (1 - judged.P))
    assert noise(alike, alike) == pytest.approx(float(np.sqrt((delta**2).mean())), rel=0.1)
    certain = replace(alike, log_odds=np.full(12, 9.0), error=np.full(12, 0.5))
    assert noise(certain, certain) < 10  # the log-odds of a judgement go no further


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


def _with_lists(words: tuple[int, int, int], spread: float) -> list[Pair]:
    """Pairs of three kinds of text, the middle one a list, with so many words each and as much more or less."""
    random, pairs = np.random.default_rng(0), []
    for k in range(100):
        lengths = [max(1, round(n * np.exp(spread * random.normal()))) for n in words]
        texts = [f"{k} {kind} " + ("\n- w" if kind == "list" else " word") * n for kind, n in zip(
            ("short", "list", "essay"), lengths, strict=True)]  # fmt: skip
        pairs += [Pair(f"p{k}", texts[i], texts[j]) for i, j in ((0, 1), (1, 2), (2, 0))]
    return pairs


def _of_characters(power: float) -> Function:
    """A judge of length alone, whose log-odds are no multiple of the relative difference."""
    return Function(
        lambda p, a, b: 1 / (1 + np.exp((len(a) ** power - len(b) ** power) / 100**power)), symmetric=True,
        name="characters",
    )  # fmt: skip


def _of_these_alone(pairs: list[Pair], judge: Function) -> Function:
    """The judge as one that knows these responses alone, so that none can be shown to it without its marks."""
    known = {text for pair in pairs for text in (pair.a, pair.b)}
    return Function(lambda p, a, b: judge.function(p, a, b) if {a, b} <= known else None, symmetric=True)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_layout_does_not_stand_for_what_length_adds_otherwise_than_in_proportion(power: float) -> None:
    """Three fixed kinds of text leave it open; texts of the same kinds at many lengths acquit the judge."""
    pairs = _with_lists((3, 9, 40), spread=0.02)
    open_ = diagnose(_of_these_alone(pairs, _of_characters(power)), pairs)
    assert [finding.kind for finding in open_.named] == ["length"]
    (lists,) = (one for one in open_.not_measured if one.kind == "lists")
    assert "lengths" in lists.needs
    pairs = _with_lists((20, 25, 30), spread=0.7)
    found = diagnose(_of_these_alone(pairs, _of_characters(power)), pairs)
    assert [finding.kind for finding in found.named] == ["length"]
    (lists_found,) = (finding for finding in found.findings if finding.kind == "lists")
    assert abs(lists_found.estimate) < 0.05


def test_what_is_undecided_is_no_problem() -> None:
    by_lists = Function(lambda p, a, b: 0.5 + 0.3 * (("- " in a) - ("- " in b)), symmetric=True, name="lists")
    pairs = _with_lists((3, 9, 40), spread=0.02)
    diagnosis = diagnose(_of_these_alone(pairs, by_lists), pairs)
    (lists,) = (one for one in diagnosis.not_measured if one.kind == "lists")
    problems, _, undecided = diagnosis.headline.partition("Undecided: ")
    assert "prefers lists" in lists.text
    assert lists.text in undecided
    assert "lists," not in problems


def test_a_mark_is_acquitted_by_an_interval_that_knows_how_few_prompts_there_are() -> None:
    """Up to 0.02 + 2.1 * 0.03 of many prompts, below the limit of 0.1; of four up to 0.02 + 3.5 * 0.03."""

    def fit(coefficient: float, error: float, clusters: int) -> ContextualBradleyTerry:
        of_lists = np.eye(4)[2]
        return ContextualBradleyTerry(
            np.zeros(0),
            np.zeros(0),
            coefficient * of_lists,
            error * of_lists,
            np.ones(4),
            clusters,
            np.zeros((0, 4)),
        )

    for prompts in (4, 100):
        found = SimpleNamespace(fit=fit(0.5, 0.01, prompts), beyond=fit(0.02, 0.03, prompts), beside_length=np.zeros(4))
        undecided = biases._by_length("lists", 2, found, DiagnosisLimits())  # type: ignore[arg-type]
        assert bool(undecided.text) == (prompts == 4)


def test_style_control_fits_nothing_that_lengths_decide(caplog: pytest.LogCaptureFixture) -> None:
    judge, pairs = _of_characters(1.0), _with_lists((3, 9, 40), spread=0.02)
    control = StyleControl.of(judge, judge_pairs(judge, pairs))
    length, headers, lists, bold = control.coefficients
    assert (headers, lists, bold) == (0, 0, 0)
    assert "lists" in caplog.text
    # what is left has nothing that goes with length
    x = style_differences([pair.a for pair in pairs], [pair.b for pair in pairs])[:, 0]
    assert length < 0
    assert abs(judge_pairs(control, pairs).log_odds @ x) < 1e-3 * np.abs(x).sum()
    caplog.clear()
    StyleControl.of(judge, judge_pairs(judge, _with_lists((20, 25, 30), spread=0.7)))
    assert caplog.text == ""


def _of_lengths(factors: dict[str, float], spread: float, prompts: int = 60) -> list[Pair]:
    """Authors who write so many words times a factor of the prompt's, and as much more or less at random."""
    random = np.random.default_rng(0)
    answers: dict[str, list[str]] = {name: [] for name in factors}
    for k in range(prompts):
        of_prompt = random.integers(10, 40)
        for name, factor in factors.items():
            words = round(of_prompt * factor * np.exp(spread * random.normal()))
            answers[name].append(f"{name[:1]}{k:03d} " + "word " * words)
    return probe_pairs((), [f"p{k}" for k in range(prompts)], answers)


def test_length_that_the_authors_decide_is_not_measured_and_no_clean_bill() -> None:
    """Each author writes at one length; a judge of length alone and one of authors alone look the same on them."""
    pairs = _of_lengths({"ann": 1.0, "bob": 3.0, "cy": 9.0}, spread=0.0)
    by_author = Function(lambda p, a, b: (0.2, 0.5, 0.8)[(a[0] > b[0]) - (a[0] < b[0]) + 1], symmetric=True)
    for judge in (Length(), by_author):
        diagnosis = diagnose(judge, pairs)
        assert "length" not in {finding.kind for finding in diagnosis.findings}
        (length,) = (one for one in diagnosis.not_measured if one.kind == "length")
        assert "author" in length.needs
        assert "longer" in length.text
        assert length.text in diagnosis.headline


@pytest.mark.parametrize("judge", ["length", "authors"])
def test_where_authors_lengths_vary_length_is_told_from_the_authors(judge: str) -> None:
    pairs = _of_lengths({"ann": 1.0, "bob": 3.0}, spread=0.5, prompts=200)
    by_author = Function(lambda p, a, b: (0.2, 0.5, 0.8)[(a[0] > b[0]) - (a[0] < b[0]) + 1], symmetric=True)
    diagnosis = diagnose(Length() if judge == "length" else by_author, pairs)
    (length,) = (finding for finding in diagnosis.findings if finding.kind == "length")
    assert length.named == (judge == "length")
    assert "within authors" in length.note
    if judge == "length":  # log-odds of the log of the length, over the relative difference at equal scores
        assert length.estimate > 10 * length.standard_error
    else:
        assert abs(length.estimate) < 2 * length.standard_error + 1e-5


def _with_authors(pairs: list[Pair]) -> list[Pair]:
    """The pairs of ``_with_lists``, each of whose kinds three authors write in turn."""
    kinds = ("short", "list", "essay")
    return [
        replace(pair, author_a=f"author {(k // 3 + kinds.index(pair.a.split()[1])) % 3}",
                author_b=f"author {(k // 3 + kinds.index(pair.b.split()[1])) % 3}")
        for k, pair in enumerate(pairs)
    ]  # fmt: skip


def test_the_effect_with_authors_is_measured_as_that_within_them() -> None:
    """Where authors write alike both are the same: of layout beside length, and beyond the labels."""
    random, pairs = np.random.default_rng(0), _with_authors(_with_lists((3, 9, 40), spread=0.5))
    probabilities = judge_pairs(Length(), pairs).P
    labelled = [
        replace(pair, wins=float(random.random() < p), n=1.0) for pair, p in zip(pairs, probabilities, strict=True)
    ]
    of_characters = _of_these_alone(pairs, _of_characters(1.0))
    for judge, given, kind in ((of_characters, pairs, "lists"), (Length(), labelled, "length")):
        (found,) = (finding for finding in diagnose(judge, given).findings if finding.kind == kind)
        with_authors = re.search(r"with them (\S+) ±", found.note)
        assert with_authors is not None
        assert float(with_authors[1]) == pytest.approx(found.estimate, abs=0.1)
        assert ("of the labels" in found.text) == (kind == "length")


def test_a_judge_that_goes_by_length_less_than_the_labels_is_not_to_be_controlled() -> None:
    random = np.random.default_rng(1)
    pairs = [Pair(f"p{k}", "x" * int(a), "y" * int(b), wins=float(a > b), n=1) for k, (a, b) in
             enumerate(random.integers(10, 90, (200, 2)))]  # fmt: skip
    pairs = [replace(pair, wins=pair.wins if random.random() < 0.8 else 1 - pair.wins) for pair in pairs]
    judge = Function(lambda prompt, a, b: 0.45 if (len(a) % 3 < len(b) % 3) else 0.55)
    diagnosis = diagnose(judge, pairs)
    (length,) = (finding for finding in diagnosis.findings if finding.kind == "length")
    assert length.estimate < -0.5  # its own effect is none, that of the labels is large
    assert "less than the labels" in length.text
    assert not length.named  # there is nothing to take out of the judge
    assert "its own is" in length.note
    assert "labels go by it" in length.note
    shorter = Function(lambda prompt, a, b: 0.9 if len(a) < len(b) else 0.1)
    (length,) = (finding for finding in diagnose(shorter, pairs).named if finding.kind == "length")
    assert "--correct style" in length.advice


def test_the_agreement_of_each_two_judges_is_shown_and_who_is_the_opposite_is_named() -> None:
    world = World(2)
    one, two, quality = Simulated(world, seed=1), Simulated(world, seed=2), world.quality
    mirror = Function(lambda prompt, a, b: float(quality[a.split(":")[0]] < quality[b.split(":")[0]]), symmetric=True)
    pairs = probe_pairs((), world.prompts, world.answers)
    (found,) = (each for each in diagnose(one, pairs, {"two": two, "mirror": mirror}).findings
                if each.kind == "agreement")  # fmt: skip
    assert re.search(r"mirror is right in \d+%, worse than a coin", found.note)
    assert re.search(r"two is right in \d+%; ", found.note)
    shares = {names: int(share) for names, share in re.findall(r"(\w+ and \w+) (\d+)% ±", found.note)}
    assert shares["it and two"] > 60
    assert max(shares["it and mirror"], shares["two and mirror"]) < 40


def test_a_judge_that_is_worse_than_a_coin_judges_the_other_way_round() -> None:
    pairs = [Pair(f"p{k}", f"one {k}", f"two {k}", wins=1, n=1) for k in range(60)]
    for right, said in ((10, True), (30, False)):
        sides = {pair.prompt: k < right for k, pair in enumerate(pairs)}

        def prefers(prompt: str, a: str, b: str, sides: dict[str, bool] = sides) -> float:
            return float(a.startswith("one") == sides[prompt])

        judge = Function(prefers, symmetric=True)
        (found,) = (one for one in diagnose(judge, pairs).named if one.kind == "accuracy")
        assert ("other way round" in found.advice) == said
        assert ("more labels" in found.advice) == (not said)


def test_a_correction_that_leaves_little_over_is_said(caplog: pytest.LogCaptureFixture) -> None:
    judged = judge_pairs(Length(), [Pair(f"p{k}", "x" * (k + 1), "y" * 30) for k in range(60)])
    StyleControl.of(Length(), judged)
    assert "takes 9" in caplog.text
    caplog.clear()
    StyleControl.of(Length(), replace(judged, log_odds=np.tile([1.0, -1.0], 30)))
    assert "takes" not in caplog.text


def test_style_control_leaves_in_what_the_authors_decide(caplog: pytest.LogCaptureFixture) -> None:
    pairs = _of_lengths({"ann": 1.0, "bob": 3.0, "cy": 9.0}, spread=0.0)
    control = StyleControl.of(Length(), judge_pairs(Length(), pairs))
    assert control.coefficients.tolist() == [0, 0, 0, 0]
    assert "longer responses" in caplog.text


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
