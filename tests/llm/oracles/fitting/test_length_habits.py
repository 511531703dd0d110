"""Who votes by length, and whether a fit is right less often than the length: beyond chance, and not where it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nashward import games
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm.oracles import Vote, read_votes
from nashward.llm.oracles.fitting.summary import error_over_prompts, leads_over, length_habits


def _votes(by_length: float, prompts: int = 60, seed: int = 0, quality: float = 0.8) -> list[Vote]:
    """Three voters on the same pairs, whose better one is as often the shorter; one goes by length in a share."""
    rng, votes = np.random.default_rng(seed), []
    for k in range(prompts):
        words = rng.choice(20, 2, replace=False) + 1
        better = int(rng.integers(2))
        a, b = ("fine " * words[0], "poor " * words[1]) if better == 0 else ("poor " * words[0], "fine " * words[1])
        for name in ("ann", "bob", "len"):
            wins = float((better == 0) == (rng.random() < quality))
            if name == "len" and rng.random() < by_length:
                wins = float(words[0] > words[1])
            votes.append(Vote(f"prompt {k}", a, b, wins, 1.0, name))
    return votes


def test_who_goes_by_length_is_named_with_the_share_and_nobody_else() -> None:
    votes = _votes(by_length=0.9)
    habits = length_habits(votes)
    assert [*habits] == ["len"]
    own = [vote for vote in votes if vote.annotator == "len"]
    longer = np.mean([vote.wins == (len(vote.a) > len(vote.b)) for vote in own])
    assert habits["len"].share == pytest.approx(longer)
    assert habits["len"].share > 0.85
    assert abs(habits["len"].others - 0.5) < 0.15
    assert (habits["len"].side, habits["len"].followed) == ("longer", habits["len"].share)
    mirrored = [replace(v, wins=1 - v.wins) if v.annotator == "len" else v for v in votes]
    shorter = length_habits(mirrored)
    assert [*shorter] == ["len"]
    assert (shorter["len"].side, shorter["len"].followed) == ("shorter", pytest.approx(longer))
    assert length_habits(_votes(by_length=0.9, prompts=9)) == {}
    assert length_habits(own) == {}  # there are no others


def test_votes_that_all_go_by_length_leave_an_error() -> None:
    habit = length_habits(_votes(by_length=1.0, prompts=60))["len"]
    assert habit.share == 1
    assert habit.standard_error == pytest.approx(1 / 60, rel=0.02)  # by the rule of succession


def test_honest_voters_are_accused_as_seldom_as_the_level_says() -> None:
    named = sum(bool(length_habits(_votes(by_length=0.0, seed=seed))) for seed in range(100))
    assert named <= 10  # at a true rate of 5%, in 99% of such counts


def test_an_accuracy_is_compared_on_the_same_votes() -> None:
    votes = [Vote(f"p{k}", "a", "b", 1, 1) for k in range(4)]
    wins, n = np.array([1.0, 1.0, 0.0, 0.5]), np.ones(4)
    _, lead = leads_over(votes, np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, -1.0, -1.0, 0.0]), wins, n)
    assert lead.value == pytest.approx((0 + 1 - 1 + 0) / 4)
    assert lead.standard_error == pytest.approx(error_over_prompts(votes, np.array([0.0, 1.0, -1.0, 0.0]), n))


def test_the_output_explains_the_slope_names_who_goes_by_length_and_counts_ties(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = {1.0: "a", 0.5: "tie", 0.0: "b"}
    rows = [
        {"prompt": v.prompt, "a": v.a, "b": v.b, "winner": names[0.5 if k < 6 else v.wins], "voter": v.annotator}
        for k, v in enumerate(_votes(by_length=1.0, prompts=40))
    ]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = ["fit-oracle", str(tmp_path / "votes.jsonl"), "--base", "pocket:policy", "--out", str(tmp_path / "mine")]
    assert main([*fit, "--quiet", "--annotator-weights", "bob=0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["80 votes on 40 prompts by 2 annotators", "trained on 80 labelled"]
    (right,) = (line for line in lines if line.startswith("on the right side"))
    assert "4 ties" in right
    first = next(k for k, line in enumerate(lines) if line.startswith("annotator "))
    assert lines[first - 1].startswith("slope of an annotator: ")
    (named,) = (line for line in lines if "goes by length" in line)
    assert named.startswith("annotator len: ")
    assert "--annotator-weights len=0" in named
    written = json.loads((tmp_path / "mine" / "fit.json").read_text())
    assert written["votes"] == 80
    gain = written["accuracy"] - written["length_accuracy"]
    assert written["accuracy_gain"] == pytest.approx(gain)
    below = gain < -2.03 * written["accuracy_gain_error"]
    assert any("less often than the length" in line for line in lines) == below


def test_a_cycle_that_is_not_held_and_weights_of_few_pairs_are_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The texts say nothing of the models that wrote them; three voters decide the same eight pairs."""
    rng, rows = np.random.default_rng(0), []
    for k in range(24):
        for winner, loser in (("x", "y"), ("y", "z"), ("z", "x")):
            texts = ["".join(rng.choice([*"abcdefgh "], 12)) for _ in range(2)]
            row = {"prompt": f"prompt {k}", "response_a": texts[0], "response_b": texts[1], "winner": "model_a"}
            names = ("ann", "bob", "cleo") if winner == "x" and k < 8 else ("ann",)
            rows += [{**row, "model_a": winner, "model_b": loser, "annotator": name} for name in names]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = ["fit-oracle", str(tmp_path / "votes.jsonl"), "--base", "pocket:policy", "--out", str(tmp_path / "mine")]
    assert main([*fit, "--quiet", "--weigh-annotators"]) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    (cycle,) = [line for line in warnings if "cycle" in line]
    assert cycle.index("--kind hrc") < cycle.index("more votes")
    (weights,) = [line for line in warnings if "weights" in line]
    assert "bob, cleo" in weights


def test_who_votes_against_the_others_is_not_said_to_go_by_length(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The longer response wins with the others, and so the shorter one with whoever turns their votes round."""
    rng, rows = np.random.default_rng(1), []
    for k in range(40):
        texts = {side: "good " * int(rng.integers(1, 20)) for side in "ab"}
        for who in ("ann", "bob", "cem", "dora"):
            right = (texts["a"] > texts["b"]) != (rng.random() < 0.1)
            rows.append({"prompt": f"p{k}", **texts, "winner": "ba"[right != (who == "dora")], "annotator": who})
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = ["fit-oracle", str(tmp_path / "votes.jsonl"), "--base", "pocket:policy", "--out", str(tmp_path / "mine")]
    assert main([*fit, "--quiet"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("annotator dora")]
    assert any("against what the others" in line for line in lines)
    assert not any("goes by length" in line for line in lines)


@pytest.mark.parametrize(("prompts", "named"), [(40, True), (9, False)])
def test_the_careless_annotator_is_the_one_to_look_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, prompts: int, named: bool
) -> None:
    """Three people vote on the same pairs, one by a coin, whose name is written with a blank behind it at times."""
    rng, rows = np.random.default_rng(1), []
    for k in range(prompts):
        for who in ("ann", "bob", "Len"):
            right = rng.random() < (0.5 if who == "Len" else 0.95)
            spelt = who + " " * (who == "Len" and k % 2)
            rows.append({"prompt": f"p{k}", "a": f"good {k}", "b": f"bad {k}", "winner": "ba"[right], "voter": spelt})
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = ["fit-oracle", str(tmp_path / "votes.jsonl"), "--base", "pocket:policy", "--out", str(tmp_path / "mine")]
    assert main([*fit, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("by 3 annotators")
    own = [line for line in lines if line.startswith("annotator ")]
    assert len(own) == 3  # one line each, with both measures
    assert own[0].startswith(f"annotator Len: {prompts} votes")
    assert all("as predicted" in line and "right in" in line for line in own)
    last = lines[lines.index(own[-1]) + 1]
    assert "Len" in last
    assert ("Len first" in last) == named
    assert ("more votes" in last) != named


def test_annotators_and_winners_are_read_as_a_leaderboard_reads_them() -> None:
    row = {"prompt": "p", "a": "x", "b": "y", "winner": "a"}
    names = [vote.annotator for vote in read_votes([{**row, "voter": name} for name in ("Len", "Len ", " ", 7, None)])]
    assert names == ["Len", "Len", None, "7", None]
    models = {"model_a": "opt", "model_b": "a"}
    with pytest.raises(NashwardError) as of_votes:
        read_votes([{**row, **models, "winner": "A"}])
    with pytest.raises(NashwardError) as of_battles:
        games.analysis.leaderboard.from_battles([{**models, "winner": "A"}])
    said = [str(each.value)[str(each.value).index("may mean") :] for each in (of_votes, of_battles)]
    assert said[0] == said[1]
    assert "may mean A, the first model, 'opt', or the model 'a'" in said[0]
