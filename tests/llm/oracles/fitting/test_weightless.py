"""Votes that weigh nothing: they are predicted, and nothing is learned of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nashward.cli.main import main
from nashward.llm.oracles import FitSettings, PairRM, Vote, fit_oracle
from nashward.llm.oracles.fitting.examples import VoteExamples
from nashward.llm.oracles.fitting.summary import score
from nashward.llm.oracles.fitting.train import VoteTraining
from nashward.llm.pocket import PAIRRM, POLICY


def _votes(counted: int, others: int) -> list[Vote]:
    return [
        Vote(f"Prompt {k}", "Yes. " * k, "No.", 1, 1, weight=float(k <= counted))
        for k in range(1, counted + others + 1)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_each_fold_has_prompts_that_count(seed: int) -> None:
    votes = _votes(3, 9)
    data = VoteExamples(PairRM.from_pretrained(PAIRRM, device="cpu"), votes, FitSettings(folds=3, seed=seed))
    assert {int(data.fold[data.of_vote[k][0]]) for k in range(3)} == {0, 1, 2}
    every = VoteExamples(data.oracle, _votes(12, 0), FitSettings(folds=3, seed=seed))
    assert sorted(map(len, (every.fold[every.fold == k] for k in range(3)))) == [8, 8, 8]  # in both orders


def test_prompts_without_a_weight_take_no_part(tmp_path: Path) -> None:
    settings = FitSettings(folds=5, epochs=1)
    fit = fit_oracle(_votes(3, 6), PAIRRM, "pairrm", tmp_path / "judge", settings, progress=False, device="cpu")
    assert fit.held_out.shape == (9,)
    assert 0 < fit.log_loss < 2


def test_votes_between_equal_texts_tell_nothing_and_are_counted_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fit is that of the others, on the same share of added pairs; before they counted as half right."""
    votes = _votes(20, 0)
    equal = [Vote(vote.prompt, "Both.", "Both.", 1, 1) for vote in votes[:10]]
    fits = [
        fit_oracle(own, POLICY, "gpm", tmp_path / name, FitSettings(folds=4), progress=False, device="cpu")
        for name, own in (("without", votes), ("with", votes + equal))
    ]
    assert fits[1].pairs == fits[0].pairs
    # the features are centred over all texts
    assert fits[1].log_loss == pytest.approx(fits[0].log_loss, rel=0.01)
    assert (fits[1].accuracy, fits[1].length_accuracy) == (fits[0].accuracy, fits[0].length_accuracy)
    assert fits[1].held_out[20:] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="10 votes between equal texts"):
        fit_oracle(equal, POLICY, "gpm", tmp_path / "none", progress=False, device="cpu")

    rows = [{"prompt": v.prompt, "a": v.a, "b": v.b, "winner": "a"} for v in votes + equal]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = ["--out", str(tmp_path / "mine"), "--quiet"]
    assert main(["fit-oracle", str(tmp_path / "votes.jsonl"), "--base", "pocket:policy", *out]) == 0
    said = capsys.readouterr().out
    assert "20 votes on 20 prompts" in said
    assert "10 votes between equal texts" in said


def test_a_fold_of_annotators_who_count_nothing_stops_no_training() -> None:
    votes = [Vote(f"Prompt {k}", "Yes. " * k, "No.", 1, 1, annotator="ann" if k < 3 else "coin") for k in range(1, 5)]
    settings = FitSettings(folds=2, epochs=5, patience=1)
    with torch.random.fork_rng():
        training = VoteTraining(PairRM.from_pretrained(PAIRRM, device="cpu"), votes, settings, progress=False)
        training.weigh({"ann": 1.0, "coin": 0.0})
        chosen = [place for vote in (0, 1) for place in training.data.of_vote[vote]]
        found = training.train(chosen, [2, 3], None, "fold")
    assert (found.best, len(found.history)) == (5, 5)


def test_what_a_fit_is_worth_is_of_the_votes_that_it_counts(tmp_path: Path) -> None:
    """Who votes against all others weighs nothing in the fit, and nothing in what it says of itself."""
    votes = [
        Vote(f"Prompt {k}", "Yes. " * (1 + k % 5), "No, never.", float((k % 5 > 2) != (who == "dora")), 1, who)
        for k in range(24) for who in ("ann", "bob", "cem", "dora")
    ]  # fmt: skip
    settings = FitSettings(folds=2, epochs=2, weigh_annotators=True)
    fit = fit_oracle(votes, PAIRRM, "pairrm", tmp_path / "judge", settings, progress=False, device="cpu")
    assert fit.weights["dora"] == 0
    assert fit.annotators["dora"].votes == 24
    weight = np.array([fit.weights[str(vote.annotator)] for vote in votes])
    wins = np.array([vote.wins for vote in votes])
    assert fit.log_loss == pytest.approx(score(fit.held_out, weight * wins, weight).log_loss)
    assert fit.log_loss != pytest.approx(score(fit.held_out, wins, np.ones(len(votes))).log_loss, abs=1e-3)
    assert fit.accuracy == pytest.approx(score(fit.held_out, weight * wins, weight).accuracy)
