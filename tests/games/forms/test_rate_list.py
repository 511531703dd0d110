"""Win rates in a list of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashward import games
from nashward.errors import NashwardError

ONE_WAY = "x,y,0.7\nz,x,0.6\ny,z,0.8\n"
P = [[0.5, 0.7, 0.4], [0.3, 0.5, 0.8], [0.6, 0.2, 0.5]]


def _load(folder: Path, text: str) -> games.PreferenceGame:
    (folder / "rates.csv").write_text(text)
    game = games.load(folder / "rates.csv")
    assert isinstance(game, games.PreferenceGame)
    return game


@pytest.mark.parametrize("head", ["model_a,model_b,win_rate\n", "player,opponent,p\n", ""])
@pytest.mark.parametrize("back", ["", "y,x,0.3\nx,z,0.4\nz,y,0.2\n", "x, x ,0.5\nz,y,0.2\n"])
def test_a_list_is_the_table_of_its_pairs(head: str, back: str, tmp_path: Path) -> None:
    game = _load(tmp_path, head + ONE_WAY + back)
    order = [game.labels.index(name) for name in "xyz"]
    assert game.P[order][:, order].tolist() == [pytest.approx(row) for row in P]
    from_csv = games.nash(game).policy[order]
    assert games.nash(games.PreferenceGame(P)).policy.tolist() == pytest.approx(from_csv.tolist())


def test_models_may_be_numbers_where_the_head_says_so_and_parquet_has_lists(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    assert _load(tmp_path, "Model A,Model B,rate\n7,13,0.75\n").P[0].tolist() == [0.5, 0.75]
    frame = pandas.DataFrame({"model_a": ["x", "z", "y"], "model_b": ["y", "x", "z"], "rate": [0.7, 0.6, 0.8]})
    frame.to_parquet(tmp_path / "rates.parquet", index=False)
    game = games.load(tmp_path / "rates.parquet")
    assert game.labels == ("x", "y", "z")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "model_b,model_a,win_rate\ny,x,0.7\nz,x,0.4\nz,y,0.8\n",  # as pandas' unstack() has them
        "win_rate,model_a,model_b\n0.7,x,y\n0.4,x,z\n0.8,y,z\n",
        ",player1,player2,p\n0,x,y,0.7\n1,x,z,0.4\n2,y,z,0.8\n",
        ",p,player right,player left\n7,0.7,y,x\n8,0.4,z,x\n9,0.8,z,y\n",
    ],
)
def test_columns_of_names_are_told_by_their_heads_and_an_index_is_left_out(text: str, tmp_path: Path) -> None:
    game = _load(tmp_path, text)
    order = [game.labels.index(name) for name in "xyz"]
    assert game.P[order][:, order].tolist() == [pytest.approx(row) for row in P]


def test_a_rate_of_the_second_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NashwardError, match="win_rate_b seems to be of model_b; expected how often model_a wins"):
        _load(tmp_path, "model_a,model_b,win_rate_b\nx,y,0.7\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y,0.7\ny,z,0.6\n", "no win rate of x and z"),
        ("x,y,0.7\nx,y,0.6\n", "x against y is there twice, 0.7 and 0.6"),
        ("x,y,0.7\ny,x,0.4\n", r"P\[x, y\] = 0.7 and P\[y, x\] = 0.4 sum to 1.1"),
        ("x,y,70\n", "x against y is 70.*percents by 100"),
        ("x,y,\nx,z,0.1\n", "x against y is empty"),
        ("x,y,maybe\n", "x against y is not a number: 'maybe'"),
        ("x,x,0.7\nx,y,0.2\n", r"P\[x, x\] = 0.7 on the diagonal"),
    ],
)
def test_what_is_no_list_of_each_pair_once_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(NashwardError, match=said):
        _load(tmp_path, "model_a,model_b,win_rate\n" + text)


def test_other_columns_and_totals_are_refused_and_tables_stay_tables(tmp_path: Path) -> None:
    with pytest.raises(NashwardError, match=r"model_a, model_b, win_rate, n.*leave out"):
        _load(tmp_path, "model_a,model_b,win_rate,n\nx,y,0.7,10\n")
    (tmp_path / "rates.csv").write_text("model_a,model_b,win_rate\nx,y,0.7\n")
    with pytest.raises(NashwardError, match="total"):
        games.load(tmp_path / "rates.csv", total=0.0)
    with pytest.raises(NashwardError, match=r"entry \[x, x\] is not a number: '\?'"):
        _load(tmp_path, ",x,y\nx,?,0.6\ny,?,0.5\n")
