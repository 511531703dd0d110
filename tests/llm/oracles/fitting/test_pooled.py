"""Linear heads on pooled states: what is read of a response, what is solved, and what a fit says of the length."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from nashward.llm.oracles import (
    FitSettings,
    PooledOracle,
    Vote,
    as_oracle,
    check_oracle,
    fit_oracle,
    preference_matrices,
)
from nashward.llm.oracles.fitting.convex import logistic_ridge, regularised_path
from nashward.llm.oracles.fitting.init import kind_of, layout_of
from nashward.llm.oracles.fitting.summary import vote_cycles
from nashward.llm.oracles.models.segments import Segment, Segments, fitted
from nashward.llm.pocket import PAIRRM, POLICY
from tests.llm import tiny_words
from tests.llm.oracles.fitting.test_init import causal, encoder

QUIET: dict[str, Any] = {"progress": False, "device": "cpu"}
KINDS = ("bt", "gpm", "hrc", "pairrm")
FAST = FitSettings(folds=2)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_words.base(tmp_path_factory.mktemp("words"))


def by_word(count: int, seed: int = 0, *, padded: bool = False) -> list[Vote]:
    """Votes for the response with "warm" in it; where padded, that one is also the longer in four of five cases."""
    rng = np.random.default_rng(seed)
    votes = []
    for k in range(count):
        good, bad = (" ".join(rng.permutation([word, *rng.choice(tiny_words.FILLERS, 2)])) for word in ("warm", "dry"))
        if padded and rng.random() < 0.8:
            good += " w1" * int(rng.integers(1, 6))
        if rng.random() < 0.5:
            votes.append(Vote(f"question {k}", good, bad, float(rng.random() < 0.9), 1.0))
        else:
            votes.append(Vote(f"question {k}", bad, good, float(rng.random() < 0.1), 1.0))
    return votes


def going_round(prompts: int, p: float = 0.85) -> list[Vote]:
    """Votes on three models, of which each uses a word that beats the next one's."""
    rng = np.random.default_rng(3)
    votes = []
    for k in range(prompts):
        for one, other in (("warm", "dry"), ("dry", "crisp"), ("crisp", "warm")):
            a, b = (f"{word} {word} w{k % 7}" for word in (one, other))
            vote = Vote(f"question {k}", a, b, float(rng.random() < p), 1.0, models=(one, other))
            turned = replace(vote, a=b, b=a, wins=1 - vote.wins, models=(other, one))
            votes.append(turned if rng.random() < 0.5 else vote)
    return votes


def test_a_cycle_of_the_votes_is_named_and_which_pair_a_reward_has_the_other_way(tmp_path: Path, words: Path) -> None:
    votes = going_round(60)
    held = {}
    for kind in ("bt", "gpm", "hrc"):
        fit = fit_oracle(votes, words, kind, tmp_path / kind, FAST, progress=False)
        (cycle,) = fit.cycles
        assert cycle.names == ("crisp", "warm", "dry")
        assert cycle.p_value < 1e-3
        held[kind] = cycle.sides
        (written,) = json.loads((fit.folder / "fit.json").read_text())["cycles"]
        assert written["names"] == ["crisp", "warm", "dry"]
        assert written["leads"] == pytest.approx(cycle.leads)
    assert held["gpm"] == held["hrc"] == [1, 1, 1]
    assert min(held["bt"]) == -1  # the scores' differences around a cycle add up to 0


def test_what_may_be_chance_or_is_of_few_comparisons_is_no_cycle() -> None:
    nothing = np.zeros(3)
    ring = (("x", "y"), ("y", "z"), ("z", "x"))
    counts = [Vote("p", a, b, wins=17, n=20) for a, b in ring]  # no model is named: responses to one prompt
    (cycle,) = vote_cycles(counts, np.array([0.5, 0.25, -0.75]))
    assert (cycle.names, cycle.prompt, cycle.sides) == (("x", "y", "z"), "p", [1, 1, -1])
    assert cycle.leads == (0.5, 0.25, -0.75)
    assert vote_cycles([replace(vote, wins=11) for vote in counts], nothing) == []
    assert vote_cycles([replace(vote, wins=3, n=3) for vote in counts], nothing) == []
    assert vote_cycles([replace(vote, weight=0.0) for vote in counts], nothing) == []
    # the same comparisons of models on a single prompt say nothing of others
    assert vote_cycles([replace(vote, models=(vote.a, vote.b)) for vote in counts], nothing) == []
    fair = going_round(60, p=0.5)
    assert vote_cycles(fair, np.zeros(len(fair))) == []


def test_the_ridge_is_where_the_gradient_vanishes_and_another_solver_agrees() -> None:
    rng = np.random.default_rng(0)
    x, t, c = rng.normal(size=(60, 5)), rng.random(60), rng.random(60)
    penalty = np.array([0.0, 0.1, 0.1, 1.0, 1.0])

    def loss(w: np.ndarray) -> float:
        each = t * np.logaddexp(0, -x @ w) + (1 - t) * np.logaddexp(0, x @ w)
        return float(c @ each / c.sum() + 0.5 * penalty @ w**2)

    design, target, weight = (torch.as_tensor(values) for values in (x, t, c))
    found = logistic_ridge(design, target, weight, penalty)
    np.testing.assert_allclose(found, minimize(loss, np.zeros(5), tol=1e-12).x, atol=1e-3)
    path = regularised_path(design, target, weight, [10 * penalty, penalty])
    np.testing.assert_allclose(path[1], found, atol=1e-3)  # the start changes nothing
    assert np.linalg.norm(path[0][1:]) < np.linalg.norm(path[1][1:])


def test_a_text_that_is_too_long_keeps_both_of_its_ends() -> None:
    text = Segment([1, *range(100, 120), 2], 1, 21)
    kept = text.shortened(8)
    assert kept.ids == [1, 100, 101, 102, 117, 118, 119, 2]
    assert kept.ids[kept.start : kept.stop] == [100, 101, 102, 117, 118, 119]
    prompt, (one, two) = fitted(text, [text, Segment([5, 2], 0, 1)], 30)
    assert sum(len(part.ids) for part in (prompt, one, two)) == 30
    assert two.ids == [5, 2]  # a short response loses nothing to a long one
    assert one.ids[:2] == [1, 100]
    assert one.ids[-2:] == [119, 2]


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "distilbert"])
def test_the_segments_of_an_encoder_are_those_of_its_own_tokenizer(tmp_path: Path, name: str) -> None:
    oracle = fit_oracle(by_word(4), encoder(tmp_path / "base", name), "bt", tmp_path / "fit", FAST, **QUIET).folder
    tokenizer = PooledOracle.from_pretrained(oracle, device="cpu").tokenizer
    prompt, (response,) = Segments(tokenizer, "x").of("a b", ["c d e"])
    assert prompt.ids + response.ids == tokenizer("a b", "c d e")["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", ["bert", "roberta", "words", "gpt2"])
def test_every_kind_is_fitted_on_every_base_and_keeps_the_protocol(tmp_path: Path, kind: Any, base: str) -> None:
    made = {"words": tiny_words.base, "gpt2": causal}.get(base, lambda folder: encoder(folder, base))
    fit = fit_oracle(by_word(12), made(tmp_path / "base"), kind, tmp_path / "fit", FAST, **QUIET)
    oracle = as_oracle(fit.folder, device="cpu")
    assert isinstance(oracle, PooledOracle)
    assert (oracle.form.kind, oracle.transitive) == (kind, kind == "bt")
    check_oracle(oracle, tolerance=1e-3)
    again = PooledOracle.from_pretrained(fit.folder, device="cpu")
    assert again.fingerprint == oracle.fingerprint
    own = np.array([0.0] * 12)
    for k, vote in enumerate(by_word(12)):
        (result,) = preference_matrices(oracle, [vote.prompt], [[vote.a, vote.b]])
        assert (result.P + result.P.T == 1).all()
        own[k] = result.logits[0, 1]
    assert np.isfinite(own).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_at_its_defaults_learns_what_the_length_does_not_tell(tmp_path: Path, words: Path, kind: Any) -> None:
    fit = fit_oracle(by_word(120), words, kind, tmp_path / "fit", **QUIET)
    assert fit.log_loss < 0.45 < fit.length - 0.1  # the least is 0.33
    assert fit.accuracy > 0.85
    assert fit.gain == pytest.approx(fit.length - fit.log_loss)
    assert fit.gain > 3 * fit.gain_error
    report = json.loads((fit.folder / "fit.json").read_text())
    for name in ("length_accuracy", "majority", "majority_accuracy", "gain", "penalty", "cut", "texts"):
        assert report[name] == pytest.approx(getattr(fit, name))


def by_length(count: int) -> list[Vote]:
    """Votes for the longer response, whatever it says."""
    rng, votes = np.random.default_rng(3), []
    for k in range(count):
        a, b = (" ".join(rng.choice(tiny_words.FILLERS, int(size))) for size in rng.integers(1, 12, 2))
        p = 1 / (1 + ((1 + len(b)) / (1 + len(a))) ** 2)
        votes.append(Vote(f"question {k}", a, b, float(rng.random() < p), 1.0))
    return votes


def test_votes_for_the_longer_response_show_no_more_than_length(tmp_path: Path, words: Path) -> None:
    fit = fit_oracle(by_length(150), words, "gpm", tmp_path / "fit", **QUIET)
    assert fit.gain < 2 * fit.gain_error
    assert fit.length < fit.chance - 0.1
    assert fit.length_share > 0.8


def test_with_length_removed_nothing_is_left_of_votes_for_the_longer(tmp_path: Path, words: Path) -> None:
    votes = by_length(150)
    kept, removed = (
        fit_oracle(votes, words, "bt", tmp_path / effect, FitSettings(length=effect), **QUIET)
        for effect in ("keep", "remove")
    )
    assert kept.log_loss < kept.chance - 0.1
    assert removed.log_loss > removed.chance - 0.03
    oracle = as_oracle(removed.folder, device="cpu")
    assert isinstance(oracle, PooledOracle)
    assert float(oracle.model.head.weight[0, 0]) == 0.0
    assert all(float(member["head.weight"][0, 0]) == 0.0 for member in oracle.members)


def test_with_length_removed_the_content_still_counts(tmp_path: Path, words: Path) -> None:
    settings = FitSettings(length="remove")
    fit = fit_oracle(by_word(120, padded=True), words, "bt", tmp_path / "fit", settings, **QUIET)
    assert fit.log_loss < fit.chance - 0.15


@pytest.mark.parametrize("train", ["lora", "all"])
def test_training_that_begins_from_the_solved_head_is_not_worse(tmp_path: Path, words: Path, train: Any) -> None:
    votes = by_word(60)
    head = fit_oracle(votes, words, "gpm", tmp_path / "head", FAST, **QUIET)
    settings = FitSettings(train=train, folds=2, epochs=2)
    fit = fit_oracle(votes, words, "gpm", tmp_path / train, settings, **QUIET)
    assert fit.log_loss < head.log_loss + 0.02
    assert isinstance(as_oracle(fit.folder, device="cpu"), PooledOracle)


def test_what_was_cut_is_counted(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "base", "bert")
    long = [Vote(v.prompt, "a " * 400 + v.a, v.b, v.wins, v.n) for v in by_word(6)]
    fit = fit_oracle(long, folder, "bt", tmp_path / "fit", FAST, **QUIET)
    assert (fit.texts, fit.cut) == (18, 6)
    assert fit_oracle(by_word(6), folder, "bt", tmp_path / "short", FAST, **QUIET).cut == 0


def test_states_that_are_known_are_not_read_again(tmp_path: Path, words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    votes = by_word(10)
    known: dict[Any, Any] = {}
    first = fit_oracle(votes, words, "gpm", tmp_path / "one", FAST, known=known, **QUIET)
    assert len(known) == len({(v.prompt, text) for v in votes for text in (v.a, v.b)})
    monkeypatch.setattr("nashward.llm.oracles.models.pooled.PooledNetwork.states", None)
    again = fit_oracle(votes, words, "gpm", tmp_path / "two", FAST, known=known, **QUIET)
    np.testing.assert_array_equal(first.held_out, again.held_out)


def test_a_lone_annotator_has_no_slope(tmp_path: Path, words: Path) -> None:
    alone = [Vote(v.prompt, v.a, v.b, v.wins, v.n, "ann") for v in by_word(10)]
    assert fit_oracle(alone, words, "bt", tmp_path / "fit", FAST, **QUIET).annotators == {}


def test_a_file_that_names_the_winner_first_has_no_majority(tmp_path: Path, words: Path) -> None:
    votes = [Vote(f"question {k}", "warm w1", "dry w2", 1.0, 1.0) for k in range(8)]
    fit = fit_oracle(votes, words, "bt", tmp_path / "fit", FAST, **QUIET)
    assert fit.majority is None
    assert fit.majority_accuracy is None


def test_the_kind_and_the_layout_follow_the_base(tmp_path: Path, words: Path) -> None:
    assert (kind_of(PAIRRM), layout_of("pairrm", PAIRRM, None)) == ("pairrm", "published")
    assert (kind_of(POLICY), layout_of("gpm", POLICY, None)) == ("gpm", "pooled")
    fit = fit_oracle(by_word(6), words, "bt", tmp_path / "fit", FAST, **QUIET)
    assert (kind_of(fit.folder), layout_of("bt", fit.folder, None)) == ("bt", "pooled")
    further = fit_oracle(by_word(6, 1), fit.folder, None, tmp_path / "further", FAST, **QUIET)
    assert kind_of(further.folder) == "bt"
    with pytest.raises(ValueError, match="length 'remove' needs a pooled"):
        fit_oracle(by_word(6), PAIRRM, None, tmp_path / "x", FitSettings(length="remove"), **QUIET)


def test_a_form_that_is_none_is_told(tmp_path: Path, words: Path) -> None:
    fit = fit_oracle(by_word(6), words, "bt", tmp_path / "fit", FAST, **QUIET)
    file = fit.folder / "config.json"
    settings = json.loads(file.read_text())
    cases: tuple[dict[str, Any], ...] = ({"kind": "elo"}, {"layers": []}, {"components": "x"})
    for wrong in cases:
        file.write_text(json.dumps({**settings, "nashward_pooled": {**settings["nashward_pooled"], **wrong}}))
        with pytest.raises(ValueError, match="nashward_pooled"):
            as_oracle(fit.folder, device="cpu")


def _rings(count: int, seed: int, *, cycle: bool) -> list[Vote]:
    """Votes between three words, of which each beats the next or, where they do not cycle, the earlier the later."""
    rng = np.random.default_rng(seed)
    words, votes = ("warm", "dry", "crisp"), []
    for k in range(count):
        i, step = int(rng.integers(3)), int(rng.integers(1, 3))
        j = (i + step) % 3
        first = step == 1 if cycle else i < j
        one, two = (" ".join(rng.permutation([words[m], *rng.choice(tiny_words.FILLERS, 2)])) for m in (i, j))
        votes.append(Vote(f"question {k}", one, two, wins=float(first == (rng.random() < 0.95)), n=1))
    return votes


@pytest.mark.slow
def test_an_hrc_tells_a_score_from_a_cycle(words: Path, tmp_path: Path) -> None:
    shares = {}
    for cycle in (True, False):
        for kind in ("hrc", "bt"):
            out = tmp_path / f"{kind}-{cycle}"
            fit = fit_oracle(_rings(240, 0, cycle=cycle), words, kind, out, FitSettings(folds=3), **QUIET)
            shares[kind, cycle] = fit
    assert shares["hrc", True].accuracy > 0.85 > 0.65 > shares["bt", True].accuracy
    assert shares["hrc", False].accuracy == pytest.approx(shares["bt", False].accuracy, abs=0.05)
    assert (shares["hrc", True].cyclic or 0) > 0.8
    assert (shares["hrc", False].cyclic or 0) < 0.2
    assert shares["bt", True].cyclic is None
    oracle = as_oracle(tmp_path / "hrc-True")
    assert isinstance(oracle, PooledOracle)
    assert (kind_of(oracle), oracle.transitive, oracle.symmetric) == ("hrc", False, True)
    check_oracle(oracle)
    curls = [
        preference_matrices(as_oracle(tmp_path / f"{kind}-True"), ["question"], [["warm", "dry", "crisp"]])[0].meta[
            "curl"
        ]
        for kind in ("hrc", "bt")
    ]
    assert curls[0] > 0.8 > 1e-6 > curls[1]
