"""Battles as people write them: winners, models, prompts and files."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import betainc, ndtri

from nashward.games.analysis.leaderboard import Battles, from_battles, read_battles
from nashward.winners import RESPONSES


@pytest.mark.parametrize(
    ("winner", "wins"),
    [
        ("tie", 0.5), ("Tie", 0.5), ("TIE ", 0.5), ("both_bad", 0.5), ("tie (bothbad)", 0.5), ("Both Bad", 0.5),
        ("both-good", 0.5), ("draw", 0.5), ("neither", 0.5), ("model_a", 1.0), ("Model_A", 1.0), ("modela", 1.0),
        ("MODEL_B", 0.0), ("left", 1.0), ("Second", 0.0),
        ("x", 1.0), ("y", 0.0),
    ],
)  # fmt: skip
def test_winners_as_they_are_written(winner: str, wins: float) -> None:
    battles = from_battles([{"model_a": "x", "model_b": "y", "winner": winner}])
    assert battles.total.tolist() == [[0, wins], [1 - wins, 0]]


def test_votes_on_responses_are_no_battles() -> None:
    vote = {"prompt": "Hi", "a": "- one\n- two", "b": "One.", "winner": "a", "voter": "ann"}
    with pytest.raises(ValueError, match=r"row 2 has response texts.*fit-oracle.*the columns model_a and model_b"):
        from_battles([{"model_a": "x", "model_b": "y", "winner": "tie"}, vote])
    named = {"model_a": "x", "model_b": "y"} | vote  # LMArena's rows may have texts beside the models
    assert from_battles([named]).labels == ("x", "y")
    assert from_battles([{"a": "x", "b": "y", "winner": "a", "prompt": None}]).labels == ("x", "y")
    with pytest.raises(ValueError, match=r"row 1 has response texts left_response and right_response .*fit-oracle"):
        from_battles([{"left_response": "Hi.", "right_response": "Hey.", "winner": "left"}])


def test_skips_are_no_battles_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    row = {"model_a": "x", "model_b": "y"}
    skips = [{**row, "winner": winner} for winner in ("skip", "Skipped", "", None, math.nan)]
    assert from_battles([{**row, "winner": "x"}, *skips]).total.tolist() == [[0, 1], [0, 0]]
    assert "5 rows" in caplog.text
    counts = [{**row, "winner": None, "wins_a": 3, "wins_b": 1}, {**row, "winner": None, "winner_model_b": 1}]
    assert from_battles(counts).total.tolist() == [[0, 3], [2, 0]]
    assert from_battles([{"model_a": "skip", "model_b": "y", "winner": "skip"}]).total.tolist() == [[0, 1], [0, 0]]
    with pytest.raises(ValueError, match="no battles, but 5 skips"):
        from_battles(skips)


@pytest.mark.parametrize("fields", RESPONSES)
def test_the_style_is_that_of_the_responses_whatever_they_are_called(fields: tuple[str, str], tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    row = {"model_a": "x", "model_b": "y", "winner": "tie", fields[0]: "word " * 30, fields[1]: "word " * 10}
    (length, *_) = from_battles([row], style=True).style[0]  # type: ignore[index]
    assert length == pytest.approx(0.5)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "b.parquet")
    assert read_battles(tmp_path / "b.parquet", style=True).style[0, 0] == pytest.approx(0.5)  # type: ignore[index]


def test_a_model_may_be_called_tie_and_model_b_where_that_has_one_meaning() -> None:
    """What names one of the two is its name, unless it is also how the other side is called."""
    assert from_battles([{"model_a": "tie", "model_b": "y", "winner": "tie"}]).total.tolist() == [[0, 1], [0, 0]]
    assert from_battles([{"model_a": "model_b", "model_b": "y", "winner": "model_a"}]).total[0, 1] == 1
    with pytest.raises(ValueError, match=r"row 1 has the winner 'model_b'.*'y', or the model 'model_b'"):
        from_battles([{"model_a": "model_b", "model_b": "y", "winner": "model_b"}])
    with pytest.raises(ValueError, match="row 1 has the winner 'model_a'"):  # or is it model B's own name?
        from_battles([{"model_a": "x", "model_b": "Model A", "winner": "model_a"}])


def test_one_hot_winners() -> None:
    fields = ("winner_model_a", "winner_model_b", "winner_tie")
    for hot, wins in (((1, 0, 0), 1.0), (("0", "1", "0"), 0.0), ((0.0, 0.0, 1.0), 0.5), ((1, 0, None), 1.0)):
        row = {"model_a": "x", "model_b": "y", **dict(zip(fields, hot, strict=True))}
        assert from_battles([row]).total[0, 1] == wins
    for wrong in ((1, 1, 0), (0, 0, 0), (0.5, 0.5, 0), (2, -1, 0)):
        with pytest.raises(ValueError, match=r"row 1 has winner_model_[ab]"):
            from_battles([{"model_a": "x", "model_b": "y", **dict(zip(fields, wrong, strict=True))}])


def test_models_may_be_numbers() -> None:
    import pandas as pd

    rows = [{"model_a": 7, "model_b": 13, "winner": 7}, {"model_a": 13.0, "model_b": 7, "winner": "model_a"}]
    for given in (rows, pd.DataFrame(rows)):
        battles = from_battles(given)
        assert battles.labels == ("13", "7")
        assert battles.total.tolist() == [[0, 1], [1, 0]]
    wrong: list[Any] = [float("nan"), None, True, "", []]
    for bad in wrong:
        with pytest.raises(ValueError, match=r"row 1 has .+ as model_b; expected the model.s name"):
            from_battles([{"model_a": 7, "model_b": bad, "winner": "model_a"}])
    frame = pd.DataFrame(
        {"model_a": ["x", "x"], "model_b": ["y", "y"], "winner": ["x", None], "wins_a": [None, 3], "wins_b": [None, 0]}
    )
    assert from_battles(frame).total[0, 1] == 4  # a missing winner of a data frame is NaN


def test_prompts_may_be_lists_of_messages() -> None:
    chat = [{"role": "user", "content": "hi"}]
    rows = [
        {"model_a": "x", "model_b": "y", "winner": "x", "prompt": prompt}
        for prompt in (chat, [{"content": "hi", "role": "user"}], [*chat, *chat], None, float("nan"), "hi")
    ]
    assert len(from_battles(rows).wins) == 5  # one conversation twice, another one, text, and two without


def test_files_keep_line_breaks_and_other_separators(tmp_path: Path) -> None:
    names = ("a\nb", "ab", "a\r\nb", "a\u2028b", "a\x85b")
    rows = [
        {"model_a": a, "model_b": b, "winner": "model_a", "prompt": f"one\n{a}{b}"}
        for k, a in enumerate(names)
        for b in names[:k]
    ]
    with (tmp_path / "b.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "b.jsonl").write_text(text, encoding="utf-8", newline="")
    (tmp_path / "w.jsonl").write_text(text.replace("}\n", "}\r\n"), encoding="utf-8", newline="")
    (tmp_path / "b.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8", newline="")
    known = from_battles(rows)
    assert known.labels == tuple(sorted(names))
    for name in ("b.csv", "b.jsonl", "w.jsonl", "b.json"):
        read = read_battles(tmp_path / name)
        assert read.labels == known.labels, name
        np.testing.assert_array_equal(read.wins, known.wins)
    (tmp_path / "long.csv").write_text("model_a,model_b,winner\nx,y,x,z\n")
    with pytest.raises(ValueError, match=r"long.csv: row 1 has more cells than the header"):
        read_battles(tmp_path / "long.csv")


@pytest.mark.parametrize("own", [True, False])
def test_style_that_the_models_decide_is_not_taken_out(own: bool) -> None:
    random, wins = np.random.default_rng(0), {("x", "y"): 0.8, ("y", "z"): 0.7, ("x", "z"): 0.9}
    rows = []
    for k in range(240):
        pair = [*wins][k % 3]
        texts = ["w" * (40 * "xyz".index(name) + 20 if own else int(random.integers(20, 100))) for name in pair]
        winner = "model_a" if random.random() < wins[pair] else "model_b"
        rows.append({"model_a": pair[0], "model_b": pair[1], "winner": winner, "prompt": str(k // 3),
                     "response_a": texts[0], "response_b": texts[1]})  # fmt: skip
    battles = from_battles(rows, style=True)
    assert battles.style_of_models.tolist() == [own, False, False, False]
    fit = battles.without_style_of_models().style_controlled()[1]
    assert (fit.slopes[0] == 0) == own
    assert battles.compared[0, 1] == 80
    assert battles.winner_p_value(0) < 0.05
    assert battles.winner_p_value(2) == 1.0


@pytest.mark.parametrize("by_prompt", [True, False])
def test_bands_at_equal_style_have_the_error_of_the_slopes(by_prompt: bool) -> None:
    """They are as wide as those of fits to battles drawn again, where the models differ much in style."""
    random, lists, strength = np.random.default_rng(1), np.array([1.5, 0.3, -1.5]), np.array([0.0, 0.5, 1.0])
    pairs = np.array([random.permutation(3)[:2] for _ in range(300)])
    style = np.zeros((300, 4))
    style[:, 2] = -np.diff(lists[pairs] + random.normal(size=(300, 2)) * 0.5)[:, 0]
    won = (random.random(300) < 1 / (1 + np.exp(np.diff(strength[pairs])[:, 0] - 0.8 * style[:, 2]))) * 1.0
    group = np.arange(300) // 5 if by_prompt else np.arange(300)
    prompt = group if by_prompt else np.zeros(300, dtype=int)
    battles = Battles(
        tuple("xyz"), pairs[:, 0], pairs[:, 1], won, 1 - won, prompt, int(prompt.max()) + 1, by_prompt, style=style
    )
    controlled = battles.style_controlled()[0]
    bands, without = controlled.bands(), replace(controlled, fitted=None).bands()
    drawn = []
    for _ in range(100):
        at = np.concatenate([np.flatnonzero(group == k) for k in random.choice(group.max() + 1, group.max() + 1)])
        again = replace(
            battles, first=pairs[at, 0], second=pairs[at, 1], won=won[at], lost=1 - won[at], prompt=prompt[at],
            style=style[at],
        )  # fmt: skip
        drawn.append(again.style_controlled()[0].ratings.elo.numpy())
    width = np.diff(np.quantile(drawn, [0.05, 0.95], axis=0), axis=0)[0]
    np.testing.assert_allclose((bands.elo_high - bands.elo_low)[[0, 2]], width[[0, 2]], rtol=0.25)
    assert ((without.elo_high - without.elo_low)[[0, 2]].numpy() < 0.7 * width[[0, 2]]).all()
    # p-values are of the same errors: what a pair's win probability varies by from draw to draw
    wins, _ = controlled._drawn(400, np.random.default_rng(0))
    spread = (wins[:, 2, 0] / (wins[:, 2, 0] + wins[:, 0, 2])).std()
    p, too_small = (one._p_values(20_000, 0)[2, 0] for one in (controlled, replace(controlled, fitted=None)))
    i, j, margin = controlled._margins if by_prompt else controlled._each
    mean = -margin[(i == 0) & (j == 2)].mean()
    assert mean / -ndtri(p) == pytest.approx(spread, rel=0.15)
    assert mean / -ndtri(too_small) < 0.8 * spread
    assert controlled.winner_p_value(2) > replace(controlled, fitted=None).winner_p_value(2)


def test_the_share_of_the_draws_of_which_a_model_is_the_whole_lottery() -> None:
    """Of two models it is that of the Beta posterior above one half."""
    bands = Battles.of_tables(("x", "y"), np.array([[[0.0, 12.0], [6.0, 0.0]]])).bands(draws=4000)
    assert bands.whole[0] == pytest.approx(1 - float(betainc(12.5, 6.5, 0.5)), abs=0.02)
    assert float(bands.whole.sum()) == 1


def test_voters_are_left_out_by_name(tmp_path: Path) -> None:
    rows = [{"model_a": "x", "model_b": "y", "winner": "ab"[name == "len"], "annotator": name} for name in
            ("ann", "len", "ann", "bob")]  # fmt: skip
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_battles(tmp_path / "b.jsonl").total.tolist() == [[0, 3], [1, 0]]
    assert read_battles(tmp_path / "b.jsonl", without=["len", "bob"]).total.tolist() == [[0, 2], [0, 0]]
    blanks = [row | {"annotator": f" {row['annotator']}" + " " * (k % 2)} for k, row in enumerate(rows)]
    for given in (["len", "bob"], ["len ", " bob"]):
        assert from_battles(blanks, without=given).total.tolist() == [[0, 2], [0, 0]]
    with pytest.raises(ValueError, match="no annotator 'Len'"):  # their case counts
        from_battles(blanks, without=["Len"])
    numbered = [row | {"annotator": np.int64(len(row["annotator"]) + k)} for k, row in enumerate(rows)]
    assert from_battles(numbered, without=["4"]).total.sum() == 3
    with pytest.raises(ValueError, match=r"no annotator 'lenn'.*nearest is len"):
        from_battles(rows, without=["lenn"])
    with pytest.raises(ValueError, match="no row has an annotator"):
        from_battles([{"model_a": "x", "model_b": "y", "winner": "a"}], without=["len"])
    with pytest.raises(ValueError, match="no battles are left"):
        from_battles(rows, without=["ann", "bob", "len"])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 1, 0), (3, 1, 0, 2)])
def test_copies_have_the_same_band_wherever_they_stand(order: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    against = np.clip(0.48 + 0.3 * random.normal(size=24), 0, 1)  # of the copies 0 and 1, by player 2
    tables = np.full((24, 4, 4), 0.5)
    tables[:, 2, :2], tables[:, :2, 2] = against[:, None], 1 - against[:, None]
    tables[:, 3, :3], tables[:, :3, 3] = 0.1, 0.9
    bands = Battles.of_tables(tuple("wxyz"), tables[:, order][:, :, order], 1e-9).bands(draws=100)
    at = {player: place for place, player in enumerate(order)}
    ends = [(float(bands.low[at[k]]), float(bands.high[at[k]]), float(bands.whole[at[k]])) for k in range(4)]
    alone = Battles.of_tables(tuple("xyz"), tables[:, 1:, 1:], 1e-9).bands(draws=400)
    assert ends[0] == ends[1] == (0, 1, 0)
    assert ends[2] == (float(alone.low[1]), float(alone.high[1]), pytest.approx(float(alone.whole[1]), abs=0.1))
    assert ends[3] == (0, 0, 0)


def test_a_draw_with_several_lotteries_names_none_of_them_alone() -> None:
    tables = np.full((6, 3, 3), 0.5)  # the first two tie, and beat the third by different margins: no copies
    tables[:, :2, 2], tables[:, 2, :2] = (0.8, 0.9), (0.2, 0.1)
    bands = Battles.of_tables(tuple("xyz"), tables, 1e-9).bands(draws=4)
    assert bands.whole.tolist() == [0, 0, 0]
    np.testing.assert_allclose(torch.stack([bands.low, bands.high]), [[0, 0, 0], [1, 1, 0]], atol=2e-3)
