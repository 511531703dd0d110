"""Battles: the table, the bands around the lottery, what is missing, and what is said of bad rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nashward import games
from nashward.cli import main


def _fought(game: games.PreferenceGame, battles: int, rng: np.random.Generator) -> games.Battles:
    upper = np.triu(rng.binomial(battles, game.P.numpy()), 1).astype(float)
    return games.Battles(game.labels, (upper + np.triu(battles - upper, 1).T)[None])


def _coverage(name: str, battles: int, repeats: int) -> float:
    game, rng = games.zoo.get(name), np.random.default_rng(0)
    truth, inside = games.nash(game).policy, []
    for seed in range(repeats):
        bands = _fought(game, battles, rng).bands(draws=200, seed=seed)
        inside.append(((bands.low <= truth) & (truth <= bands.high)).double().mean())
    return float(torch.stack(inside).mean())


def test_the_true_lottery_lies_in_the_bands_as_often_as_they_say() -> None:
    assert _coverage("comal_cycle", 200, 200) == pytest.approx(0.9, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["condorcet_sixty", "mendelsohn", "biased_rock_paper_scissors"])
def test_the_bands_of_other_games(name: str) -> None:
    assert _coverage(name, 400, 200) == pytest.approx(0.9, abs=0.05)


def test_prompts_are_drawn_whole() -> None:
    """Each prompt decides all its battles: counted one by one the bands would be too narrow by about sqrt(10)."""
    rng = np.random.default_rng(1)
    rows = []
    for prompt in range(200):
        for i in range(3):
            winner = "model_a" if rng.random() < 0.7 else "model_b"
            row = {"model_a": str(i), "model_b": str((i + 1) % 3), "prompt": prompt, "winner": winner}
            rows += [row] * 10
    whole = games.from_battles(rows)
    alone = games.from_battles([{k: v for k, v in row.items() if k != "prompt"} for row in rows])
    assert (len(whole.wins), len(alone.wins)) == (200, 1)
    np.testing.assert_array_equal(whole.total, alone.total)
    wide, narrow = ((b.high - b.low).sum() for b in (whole.bands(), alone.bands()))
    assert 2.5 < wide / narrow < 4


def test_counts_winners_ties_and_the_prior() -> None:
    rows = [
        {"model_a": "x", "model_b": "y", "winner": "x"},
        {"model_a": "y", "model_b": "x", "winner": "model_b"},
        {"model_a": "x", "model_b": "y", "winner": "tie"},
        {"model_a": "y", "model_b": "z", "wins_a": 3, "wins_b": 1, "ties": 2},
    ]
    battles = games.from_battles(rows)
    assert battles.labels == ("x", "y", "z")
    assert battles.total.tolist() == [[0, 2.5, 0], [0.5, 0, 4], [0, 2, 0]]
    assert battles.missing == [("x", "z")]
    assert battles.game.P.tolist() == [[0.5, 0.75, 0.5], [0.25, 0.5, 4.5 / 7], [0.5, 1 - 4.5 / 7, 0.5]]
    assert int(battles.ratings.scores.argmax()) == 0
    first, again = battles.bands(seed=3), battles.bands(seed=3)
    assert torch.equal(first.low, again.low)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"model_b": "y", "winner": "tie"}, "row 1 has no model_a; it has model_b, winner"),
        ({"model_a": "x", "model_b": "x", "winner": "tie"}, "row 1 lets x play itself"),
        ({"model_a": "x", "model_b": "y", "winner": "z"}, "row 1 has the winner 'z'; expected model_a, model_b, x, y"),
        ({"model_a": "x", "model_b": "y"}, "row 1 has no winner and no counts"),
        ({"model_a": "x", "model_b": "y", "wins_a": -1}, "row 1 has no winner and no counts"),
        ({"model_a": "x", "model_b": "y", "wins_a": "many"}, "row 1 has counts that are no numbers"),
        (["x", "y"], "row 1 is of type list; expected a row with model_a"),
    ],
)
def test_bad_rows(row: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        games.from_battles([row])


def test_bad_settings_and_files(tmp_path: Path) -> None:
    battles = games.from_battles([{"model_a": "x", "model_b": "y", "winner": "x"}])
    for build, message in (
        (lambda: games.from_battles([]), "there are no battles"),
        (lambda: games.from_battles([], smoothing=0), "above 0, got 0"),
        (lambda: battles.bands(share=1), "between 0 and 1, got 1"),
        (lambda: battles.bands(draws=1), "at least 2, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    with pytest.raises(FileNotFoundError, match="there is no file of battles"):
        games.read_battles(tmp_path / "none.csv")
    for name, text, message in (
        ("a.txt", "x", "unknown type '.txt'"),
        ("a.json", "{", "cannot be read as json"),
        ("b.json", "{}", "holds no list of battles"),
        ("c.jsonl", "3\n", "c.jsonl: row 1 is of type int"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            games.read_battles(tmp_path / name)


def test_the_leaderboard_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    battles = _fought(games.zoo.comal_cycle(), 200, np.random.default_rng(0))
    rows = [
        {"model_a": a, "model_b": b, "wins_a": battles.total[i, j], "wins_b": battles.total[j, i]}
        for i, a in enumerate("abc")
        for j, b in enumerate("abc")
        if i < j
    ]
    rows.append({"model_a": "a", "model_b": "d", "wins_a": 3, "wins_b": 0})
    with (tmp_path / "battles.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["model_a", "model_b", "wins_a", "wins_b"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "battles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = []
    for name in ("battles.csv", "battles.jsonl"):
        assert main(["leaderboard", str(tmp_path / name), "--save", str(tmp_path / "table.csv")]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "4 models, 603 battles\n2 pairs never met (taken as 1/2): b and d, c and d\n" in said[0]
    assert "scores do not explain the battles" in said[0]
    table = games.load(tmp_path / "table.csv")
    assert isinstance(table, games.PreferenceGame)
    torch.testing.assert_close(table.P, games.read_battles(tmp_path / "battles.csv").game.P, atol=0, rtol=0)
