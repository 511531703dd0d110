"""Oracles fitted to votes whose preferences are planted, over the styles of the pocket models."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from nashward.llm.oracles import (
    GPM,
    FitSettings,
    PairRM,
    RewardModel,
    Vote,
    as_oracle,
    fit_oracle,
    preference_matrices,
)
from nashward.llm.oracles.fitting.annotators import Reliability, reliabilities, slope
from nashward.llm.oracles.fitting.augment import (
    decorated,
    length_matched,
    near_duplicates,
    nearly,
    plain,
    style_swapped,
)
from nashward.llm.oracles.fitting.examples import VoteExamples
from nashward.llm.oracles.fitting.fit import fitted_to
from nashward.llm.oracles.fitting.settings import fold_key, folds
from nashward.llm.oracles.fitting.summary import by_length_alone, score
from nashward.llm.oracles.fitting.train import VoteTraining
from nashward.llm.oracles.models.checkpoint import use_member
from nashward.llm.pocket import PAIRRM, POLICY
from nashward.llm.pocket.styles import TOPICS, held_out_prompts, response
from tests.llm import tiny_words

# Another game than the pocket models were made for. Its kinds 0, 2, 1 and 0, 2, 3 are cycles.
CYCLIC = np.array([[0.5, 0.2, 0.8, 0.25], [0.8, 0.5, 0.2, 0.7], [0.2, 0.8, 0.5, 0.7], [0.75, 0.3, 0.3, 0.5]])
CYCLES = ((0, 2, 1), (0, 2, 3))
SCORES = np.array([1.0, 0.2, -0.3, -0.9])
TRANSITIVE = 1 / (1 + np.exp(SCORES - SCORES[:, None]))
QUIET: dict[str, Any] = {"progress": False, "device": "cpu"}
Write = Callable[[int, np.random.Generator], str]


def styled(kind: int, rng: np.random.Generator) -> str:
    """A response in one of the styles that the pocket PairRM's encoder knows."""
    return response(kind, TOPICS[int(rng.integers(len(TOPICS)))], rng)


def worded(kind: int, rng: np.random.Generator) -> str:
    """Three words, of which one tells the kind."""
    return " ".join(rng.permutation([tiny_words.KINDS[kind], *rng.choice(tiny_words.FILLERS, 2)]))


def asked(write: Write, count: int, seed: int) -> list[str]:
    """Prompts for such responses: in a bag of words a long one would drown the response."""
    if write is worded:
        return [f"question {seed + k}" for k in range(count)]
    return [text[:100] for text in held_out_prompts(count, seed=seed)]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return tiny_words.base(tmp_path_factory.mktemp("words"))


def planted(
    table: np.ndarray, prompts: int, write: Write = styled, *, seed: int = 0, annotators: Sequence[str] = ()
) -> tuple[list[Vote], list[tuple[int, int]]]:
    """Two votes a prompt on responses of two different kinds, and which kinds they were."""
    rng = np.random.default_rng(seed)
    votes, kinds = [], []
    for text in asked(write, prompts, 30_000 + seed):
        for _ in range(2):
            i, j = (int(k) for k in rng.choice(len(table), 2, replace=False))
            wins = float(rng.random() < table[i, j])
            annotator = annotators[int(rng.integers(len(annotators)))] if annotators else None
            votes.append(Vote(text, write(i, rng), write(j, rng), wins, 1.0, annotator))
            kinds.append((i, j))
    return votes, kinds


def unseen(write: Write, prompts: int = 60) -> tuple[list[str], list[list[str]]]:
    """Prompts that no fit has seen, and a response of each kind."""
    rng = np.random.default_rng(77)
    return asked(write, prompts, 99), [[write(kind, rng) for kind in range(4)] for _ in range(prompts)]


def best_bradley_terry(table: np.ndarray, votes: Sequence[Vote], styles: Sequence[tuple[int, int]]) -> float:
    """Log-loss on the votes of the scores that explain the planted table best: what no reward model can beat."""

    def loss(s: np.ndarray) -> float:
        return float(np.sum(table * np.logaddexp(0.0, s[None, :] - s[:, None])))

    s = minimize(loss, np.zeros(len(table))).x
    return float(
        np.mean([np.logaddexp(0.0, (s[j] - s[i]) * (2 * v.wins - 1)) for v, (i, j) in zip(votes, styles, strict=True)])
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write"), [("pairrm", styled), ("gpm", worded)])
def test_a_planted_cycle_is_learned_and_no_reward_model_does_as_well(tmp_path, words, kind, write):
    votes, kinds = planted(CYCLIC, 450, write)
    base, under_reward = (PAIRRM, POLICY) if kind == "pairrm" else (words, words)
    fit = fit_oracle(votes, base, kind, tmp_path / kind, **QUIET)
    reward = fit_oracle(votes, under_reward, "bt", tmp_path / "bt", **QUIET)
    best = best_bradley_terry(CYCLIC, votes, kinds)
    # nats a comparison, on prompts that were held out
    assert fit.log_loss < min(reward.log_loss, best, fit.chance, fit.length) - 0.05
    assert reward.log_loss > best - 0.01  # no reward model can do better than the planted table's best scores

    results = preference_matrices(as_oracle(fit.folder, device="cpu"), *unseen(write))
    A = np.mean([(result.logits - result.logits.T) / 2 for result in results], axis=0)
    upper = np.triu_indices(4, 1)
    assert (np.sign(A[upper]) == np.sign(CYCLIC[upper] - 0.5)).all()
    for i, j, k in CYCLES:
        truth = sum(np.log(CYCLIC[a, b] / CYCLIC[b, a]) for a, b in ((i, j), (j, k), (k, i)))
        assert abs(truth) > 3
        assert (A[i, j] + A[j, k] + A[k, i]) * truth > 0
    assert np.mean([result.meta["curl"] for result in results]) > 0.4
    assert np.abs(1 / (1 + np.exp(-A)) - CYCLIC).max() < 0.2

    transitive = preference_matrices(as_oracle(reward.folder, device="cpu"), *unseen(write))
    assert max(result.meta["curl"] for result in transitive) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write"), [("pairrm", styled), ("gpm", worded)])
def test_no_cycle_is_invented(tmp_path, words, kind, write):
    votes, _ = planted(TRANSITIVE, 300, write, seed=1)
    base = PAIRRM if kind == "pairrm" else words

    def cyclic_sums(labelled: Sequence[Vote], name: str) -> tuple[np.ndarray, np.ndarray]:
        settings = FitSettings(folds=3, epochs=12)
        fit = fit_oracle(labelled, base, kind, tmp_path / name, settings, **QUIET)
        results = preference_matrices(as_oracle(fit.folder, device="cpu"), *unseen(write))
        A = np.mean([(result.logits - result.logits.T) / 2 for result in results], axis=0)
        return A, np.array([A[i, j] + A[j, k] + A[k, i] for i, j, k in CYCLES])

    A, found = cyclic_sums(votes, "fit")
    # the same with prompts drawn again, with replacement: how far label noise alone moves these sums
    prompts = list(dict.fromkeys(vote.prompt for vote in votes))
    rng = np.random.default_rng(5)
    draws = []
    for draw in range(8):
        again = [
            vote
            for k in rng.integers(len(prompts), size=len(prompts))
            for vote in votes
            if vote.prompt == prompts[int(k)]
        ]
        draws.append(cyclic_sums(again, f"draw-{draw}")[1])
    error = np.std(draws, axis=0, ddof=1)
    bound = 2.5 * error + 0.05
    assert (np.abs(found) < bound).all()
    assert bound.max() < 1.5  # which is sharp: the planted cycles of the other test add up to more than 3
    upper = np.triu_indices(4, 1)
    assert (A[upper] > 0).all()  # and the order is that of the scores


@pytest.mark.parametrize(
    ("train", "kind"), [("head", "pairrm"), ("lora", "pairrm"), ("all", "pairrm"), ("lora", "gpm"), ("all", "bt")]
)
def test_the_folds_models_are_those_that_were_tested(tmp_path, words, train, kind):
    votes, _ = planted(CYCLIC, 24, styled if kind == "pairrm" else worded, seed=2)
    base = PAIRRM if kind == "pairrm" else words
    settings = FitSettings(
        train=train, layout="published", folds=3, epochs=1, near_duplicates=0.5, learning_rate=1e-3, rank=4
    )
    fit = fit_oracle(votes, base, kind, tmp_path / "fit", settings, **QUIET)
    oracle = as_oracle(tmp_path / "fit", device="cpu")
    assert isinstance(oracle, PairRM | GPM | RewardModel)
    assert len(oracle.members) == 3
    logits = oracle.raw_logits(
        [vote.prompt for vote in votes], [[vote.a, vote.b] for vote in votes], [[(0, 1), (1, 0)]] * len(votes)
    )
    fold = folds([vote.prompt for vote in votes], 3, 0)
    own = [(row[k, 0] - row[k, 1]) / 2 for row, k in zip(logits, fold, strict=True)]
    np.testing.assert_allclose(own, fit.held_out, atol=2e-4)
    assert np.ptp(fit.held_out) > 1e-3
    result = preference_matrices(oracle, [votes[0].prompt], [[votes[0].a, votes[0].b]])[0]
    assert result.std is not None
    assert result.std[0, 1] > 0
    report = json.loads((tmp_path / "fit" / "fit.json").read_text())
    prompts = list(dict.fromkeys(vote.prompt for vote in votes))
    assert fitted_to(fit.folder, [*prompts[:3], "another one"]) == {*prompts[:3]}
    assert fitted_to(PAIRRM, prompts) == set()
    assert report["log_loss"] == pytest.approx(fit.log_loss)
    assert report["settings"]["train"] == train


def test_the_model_beside_the_folds_is_one_that_other_tools_load(tmp_path):
    votes, _ = planted(CYCLIC, 20, seed=3)
    fit_oracle(votes, PAIRRM, "pairrm", tmp_path / "fit", FitSettings(folds=2, epochs=1), **QUIET)
    alone = PairRM.from_pretrained(tmp_path / "fit", device="cpu", ensemble=False)
    assert alone.members == []
    assert preference_matrices(alone, ["?"], [["a", "b"]])[0].std is None
    base = PairRM.from_pretrained(PAIRRM, device="cpu")
    with use_member(
        base.model, {name: p for name, p in alone.model.named_parameters() if name.startswith("head_layer")}
    ):
        expected = base.raw_logits(["?"], [["a", "b"]], [[(0, 1)]])
    np.testing.assert_allclose(alone.raw_logits(["?"], [["a", "b"]], [[(0, 1)]]), expected, atol=1e-6)


def test_the_same_seed_gives_the_same_oracle_and_leaves_the_global_generator_alone(tmp_path):
    import torch

    votes, _ = planted(CYCLIC, 20, seed=4)
    before = torch.random.get_rng_state()
    one, two = (
        fit_oracle(votes, PAIRRM, "pairrm", tmp_path / name, FitSettings(folds=2, epochs=2), **QUIET) for name in "ab"
    )
    np.testing.assert_array_equal(one.held_out, two.held_out)
    assert torch.equal(before, torch.random.get_rng_state())
    assert as_oracle(one.folder, device="cpu").fingerprint == as_oracle(two.folder, device="cpu").fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write"), [("pairrm", styled), ("gpm", worded)])
def test_a_voter_who_flips_half_his_labels_is_found(tmp_path, words, kind, write):
    base = PAIRRM if kind == "pairrm" else words
    votes, _ = planted(CYCLIC, 600, write, seed=5, annotators=("ann", "bob", "carol", "dan"))
    rng = np.random.default_rng(6)
    votes = [
        Vote(
            v.prompt,
            v.a,
            v.b,
            1 - v.wins if v.annotator == "carol" and rng.random() < 0.5 else v.wins,
            1.0,
            v.annotator,
        )
        for v in votes
    ]
    fit = fit_oracle(votes, base, kind, tmp_path / "fit", **QUIET)
    assert {name for name, found in fit.annotators.items() if found.suspect} == {"carol"}
    assert abs(fit.annotators["carol"].agreement - 0.5) < 0.1
    weighed = fit_oracle(votes, base, kind, tmp_path / "weighed", FitSettings(weigh_annotators=True), **QUIET)
    honest = np.array([v.annotator != "carol" for v in votes])
    wins = np.array([v.wins for v in votes])

    def loss(found):
        return float(np.logaddexp(0.0, -found.held_out * (2 * wins - 1))[honest].mean())

    assert loss(weighed) < loss(fit)


def test_who_weighs_nothing_weighs_nothing_in_added_pairs_either(tmp_path):
    votes, _ = planted(CYCLIC, 40, seed=11, annotators=("ann", "bob"))
    oracle = PairRM.from_pretrained(PAIRRM, device="cpu")
    settings = FitSettings(near_duplicates=0, length_matched=1.0, style_swapped=1.0)
    data = VoteExamples(oracle, votes, settings)
    data.annotator_weights = {"bob": 0.0}
    weight_of = {name: sum(data.weight(e) for e in data.examples if e.annotator == name) for name in ("ann", "bob")}
    assert weight_of["bob"] == 0.0
    assert weight_of["ann"] > sum(vote.annotator == "ann" for vote in votes)


def test_the_baseline_of_length_alone_is_the_same_from_either_side():
    rng = np.random.default_rng(13)
    lengths = rng.integers(10, 90, (60, 2)).tolist()
    votes = [Vote(f"question {k}", "x" * a, "x" * b, float(a > b), 1.0) for k, (a, b) in enumerate(lengths)]
    turned = [Vote(vote.prompt, vote.b, vote.a, 1 - vote.wins, 1.0) for vote in votes]
    halves, found = (np.arange(30), np.arange(30, 60)), []
    for own in (votes, turned):
        wins, n = np.array([vote.wins for vote in own]), np.ones(60)
        found.append(score(by_length_alone(own, halves, wins, n), wins, n).log_loss)
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] < 0.3  # they follow the length: next to the log 2 of chance


def test_the_report_is_as_heavy_as_the_votes(tmp_path):
    votes, _ = planted(CYCLIC, 60, seed=12)
    contrary = [Vote(v.prompt, v.a, v.b, 1 - v.wins, 1.0, weight=0.0) for v in votes]
    settings = FitSettings(folds=3, epochs=3, near_duplicates=0, length_matched=0, style_swapped=0)
    one = fit_oracle(votes, PAIRRM, "pairrm", tmp_path / "one", settings, **QUIET)
    two = fit_oracle(votes + contrary, PAIRRM, "pairrm", tmp_path / "two", settings, **QUIET)
    assert two.log_loss == pytest.approx(one.log_loss, rel=1e-6)
    assert two.accuracy == one.accuracy


@pytest.mark.slow
def test_on_random_labels_no_gain_is_reported(tmp_path):
    """An epoch that is chosen on the votes that it is reported on would gain a hundredth of a nat."""
    gains = []
    for seed in range(6):
        votes, _ = planted(np.full((4, 4), 0.5), 80, seed=100 + seed)
        fit = fit_oracle(votes, PAIRRM, "pairrm", tmp_path / str(seed), FitSettings(seed=seed), **QUIET)
        gains.append(fit.chance - fit.log_loss)
    assert np.mean(gains) < 2 * np.std(gains, ddof=1) / np.sqrt(6)


def test_a_fit_that_diverges_is_told_and_not_saved(tmp_path):
    votes, _ = planted(CYCLIC, 10, seed=13)
    for settings in (FitSettings(learning_rate=1e30), FitSettings(learning_rate=1e30, train="lora", rank=2)):
        with pytest.raises(ValueError, match=r"(nan|inf) after epoch \d.*1e\+30"):
            fit_oracle(votes, PAIRRM, "pairrm", tmp_path / "x", settings, **QUIET)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_was_filled_during_the_fit_is_left_alone(tmp_path, monkeypatch):
    votes, _ = planted(CYCLIC, 10, seed=14)
    whole = VoteTraining.cross_validate

    def meanwhile(self):
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "thesis.tex").write_text("years of work")
        return whole(self)

    monkeypatch.setattr(VoteTraining, "cross_validate", meanwhile)
    settings = FitSettings(folds=2, epochs=1)
    fit = fit_oracle(votes, PAIRRM, "pairrm", tmp_path / "x", settings, **QUIET)
    assert (tmp_path / "x" / "thesis.tex").read_text() == "years of work"
    assert fit.folder == tmp_path / "x-2"
    assert as_oracle(fit.folder, device="cpu").name.endswith("x-2")


def test_odd_names_of_annotators_do_not_cost_the_fit(tmp_path):
    votes, _ = planted(CYCLIC, 10, seed=15, annotators=("a\ud800", "b"))
    fit = fit_oracle(votes, PAIRRM, "pairrm", tmp_path / "x", FitSettings(folds=2, epochs=1), **QUIET)
    assert set(fit.annotators) == {"a\ud800", "b"}
    assert json.loads((tmp_path / "x" / "fit.json").read_text())["annotators"].keys() == {"a\ud800", "b"}


def test_reliability_recovers_planted_slopes():
    rng = np.random.default_rng(7)
    A = rng.normal(0.0, 2.0, 6000)
    names = np.array(["one", "noise", "half", "against"])[rng.integers(4, size=6000)]
    slopes = {"one": 1.0, "noise": 0.0, "half": 0.5, "against": -1.0}
    wins = (rng.random(6000) < 1 / (1 + np.exp(-A * [slopes[name] for name in names]))).astype(float)
    whole, _ = slope(A, wins, np.ones(6000))
    found = reliabilities(list(names), A, wins, np.ones(6000))
    for name, value in slopes.items():
        assert abs(found[name].slope * whole - value) < 3 * found[name].standard_error * whole
    assert found["noise"].suspect
    assert found["against"].suspect
    assert "coin" in found["noise"].verdict
    assert "against" in found["against"].verdict
    assert "less than half" in Reliability(100.0, 0.5, 0.2, 0.05).verdict  # above a coin, and below the others
    assert found["against"].weight == 0.0
    without = reliabilities(list(names), A, wins, (names != "half").astype(float))
    assert set(without) == {"one", "noise", "against"}  # of votes that do not count there is none
    # counts are as good as single votes
    doubled = slope(np.concatenate([A, A]), np.concatenate([wins, wins]), np.ones(12_000))
    np.testing.assert_allclose(doubled, slope(A, 2 * wins, np.full(6000, 2.0)), rtol=1e-9)


def test_no_prompt_is_in_two_folds():
    prompts = [f"prompt {k % 37}" for k in range(200)] + ["Prompt  3", "PROMPT 3 "]
    fold = folds(prompts, 5, seed=0)
    for key in {fold_key(prompt) for prompt in prompts}:
        assert len({int(f) for f, prompt in zip(fold, prompts, strict=True) if fold_key(prompt) == key}) == 1
    sizes = [len({fold_key(p) for f, p in zip(fold, prompts, strict=True) if f == k}) for k in range(5)]
    assert max(sizes) - min(sizes) <= 1
    assert (folds(prompts, 5, seed=1) != fold).any()
    assert folds(["a", "b"], 5, seed=0).max() == 1


def test_training_never_sees_a_held_out_prompt(tmp_path, monkeypatch):
    votes, _ = planted(CYCLIC, 20, seed=8)
    seen = []
    whole = VoteTraining.train

    def spy(self, chosen, held, epochs, name, penalty=None):
        trained = {fold_key(self.data.examples[k].prompt) for k in chosen}
        tested = {fold_key(self.votes[k].prompt) for k in held}
        seen.append((trained & tested, tested, len(chosen)))
        return whole(self, chosen, held, epochs, name, penalty)

    monkeypatch.setattr(VoteTraining, "train", spy)
    settings = FitSettings(folds=4, epochs=1, near_duplicates=1.0, length_matched=1.0, style_swapped=1.0)
    fit_oracle(votes, PAIRRM, "pairrm", tmp_path / "fit", settings, **QUIET)
    assert all(not both for both, _, _ in seen)
    assert set().union(*(tested for _, tested, _ in seen)) == {fold_key(vote.prompt) for vote in votes}
    assert len(seen) == 5
    assert seen[-1][2] >= 2 * 40 * 3  # the last is trained on everything


def test_added_pairs_are_what_they_say():
    rng = np.random.default_rng(9)
    votes, _ = planted(CYCLIC, 60, seed=9)
    for vote in near_duplicates(votes, 50, rng):
        assert vote.a != vote.b
        assert "".join(vote.a.casefold().split()).rstrip(".") == "".join(vote.b.casefold().split()).rstrip(".")
        assert vote.wins == vote.n / 2  # and it counts as much as the vote that it is of
    for vote in length_matched(votes, 50, rng):
        assert abs(len(vote.a) - len(vote.b)) <= 0.1 * max(len(vote.a), len(vote.b))
        assert vote in votes  # with its annotator, whose weight then applies here too
    for vote in style_swapped(votes, 50, rng):
        winner, loser = (vote.a, vote.b) if vote.wins > 0.5 else (vote.b, vote.a)
        assert winner == plain(winner)
        assert loser.startswith("- **")
        assert plain(loser) != loser
    assert style_swapped([Vote("p", "a", "b", 1.0, 2.0)], 5, rng) == []  # a tie has no winner
    assert nearly("", rng) != ""


def test_markdown_is_taken_off_and_put_on():
    text = "# Title\n\n1. **Bold** and *thin* `code`.\n- a * b * c\n> said"
    assert plain(text) == "Title\n\nBold and thin code.\na * b * c\nsaid"
    assert decorated("First of all. Then more!") == "- **First** of all.\n- **Then more!".replace("**Then", "Then")
    assert plain(decorated("One two. Three.")) == "One two.\nThree."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "some"}, "train is 'some'; expected one of head, lora, all"),
        ({"folds": 1}, "folds is 1; expected a whole number, at least 2"),
        ({"folds": 2.5}, r"folds is 2\.5; expected a whole number"),
        ({"seed": -1}, "seed is -1; expected a whole number, at least 0"),
        ({"near_duplicates": -1.0}, r"near_duplicates is -1\.0; expected 0 or more"),
        ({"learning_rate": 0.0}, "expected a positive number"),
        ({"dimensions": 3}, "expected an even number"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FitSettings(**settings)


def test_what_cannot_be_fitted_is_refused_before_anything_is_loaded(tmp_path):
    vote = Vote("p", "a", "b", 1.0, 1.0)
    with pytest.raises(ValueError, match=r"1 vote on 1 prompt .*at least 2 prompts"):
        fit_oracle([vote], "nobody/nothing", "pairrm", tmp_path / "x")
    other = Vote("q", "a", "b", 1.0, 1.0)
    with pytest.raises(ValueError, match="kind is 'llm'; expected one of pairrm, gpm, bt"):
        fit_oracle([vote, other], "nobody/nothing", "llm", tmp_path / "x")  # type: ignore[arg-type]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something already; name a new folder"):
        fit_oracle([vote, other], PAIRRM, "pairrm", tmp_path / "full")
    published = FitSettings(layout="published")
    with pytest.raises(ValueError, match=r"no \[CLS\] and \[SEP\]"):
        fit_oracle([vote, other], POLICY, "pairrm", tmp_path / "x", published, device="cpu")
    nothing = [vote, Vote("q", "a", "b", 1.0, 1.0, weight=0.0)]
    with pytest.raises(ValueError, match="1 vote on 1 prompt"):
        fit_oracle(nothing, PAIRRM, "pairrm", tmp_path / "x", FitSettings(near_duplicates=0), **QUIET)
    assert not (tmp_path / "x").exists()
