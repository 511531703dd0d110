"""Labels of a payoff table: told apart from payoffs, refused where that is impossible, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games


@pytest.mark.parametrize(
    ("text", "sizes", "rows", "columns", "first"),
    [
        ("0,1\n3,-1\n-2,4\n", (2, 2), "01", "01", 3),  # a data frame without labels: its header counts the columns
        ("0,1\n1,0\n", (2, 2), "01", "01", 0),  # matching pennies: with a header it would have one row
        (",0,1\n0,3,-1\n1,-2,4\n", (2, 2), "01", "01", 3),
        ("2,1\n3,-1\n0,5\n", (3, 2), "012", "01", 2),
        ("0.5,1.5\n3,-1\n0,2\n", (3, 2), "012", "01", 0.5),
        ("a,b\n3,-1\n-2,4\n0,0\n", (3, 2), "012", "ab", 3),  # labels of columns alone, in a table that is not square
        ("a,b\n0,5\n1,7\n", (2, 2), "01", "ab", 0),
        ("x,b,c\nu,3,-1\nv,-2,4\n", (2, 2), "uv", "bc", 3),
        ("u,3,-1\nv,-2,4\n", (2, 2), "uv", "01", 3),
        ("2\n5\n", (2, 1), "01", "0", 2),
        ("a\n5\n", (1, 1), "0", "a", 5),
    ],
)
def test_labels_are_told_from_payoffs(
    tmp_path: Path, text: str, sizes: tuple[int, int], rows: str, columns: str, first: float
) -> None:
    (tmp_path / "t.csv").write_text(text)
    game = games.load(tmp_path / "t.csv", total=0.0)
    assert isinstance(game, games.ConstantSumGame)
    assert (game.sizes, game.row_labels, game.column_labels) == (sizes, tuple(rows), tuple(columns))
    assert game.payoff[0, 0] == first


def test_the_value_of_a_data_frame_without_labels(tmp_path: Path) -> None:
    """Read as payoffs, the header would be a row of the game, and the best one."""
    (tmp_path / "t.csv").write_text("0,1\n1,-1\n-3,1\n")
    assert float(games.nash(games.load(tmp_path / "t.csv", total=0.0)).value) == pytest.approx(-1 / 3)
    plain = games.load(tmp_path / "t.csv", total=0.0, labels="none")
    assert float(games.nash(plain).value) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "named", "first", "plain"),
    [
        ("0,1,2\n1,2,3\n4,5,6\n", "columns", 1, 0),
        ("1,2\n3,4\n5,6\n", "columns", 3, 1),
        ("0,1,2\n3,-1,5\n-2,4,6\n7,7,8\n9,9,9\n", "columns", 3, 0),
        ("0,3,-1\n1,-2,4\n", "rows", 3, 0),
        ("2020,2021\n3.5,1.0\n2.0,4.5\n", "columns", 3.5, 2020),
    ],
)
def test_labels_that_may_be_payoffs_are_refused_and_an_option_decides(
    tmp_path: Path, text: str, named: Any, first: float, plain: float
) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"t.csv: .* may be labels or payoffs.* {named} or none .--labels") as error:
        games.load(file, total=0.0)
    assert "\n" not in str(error.value)
    options: tuple[tuple[Any, float], ...] = ((named, first), ("none", plain))
    for labels, value in options:
        game = games.load(file, total=0.0, labels=labels)
        assert isinstance(game, games.ConstantSumGame)
        assert game.payoff[0, 0] == value
    with pytest.raises(ValueError, match="labels is 'first'; expected both, columns, rows, none"):
        games.load(file, total=0.0, labels="first")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,-1x\n-1,0,1\n1,-1,0\n", r"cell 3 of the first row .*'-1x'"),
        ("0,n/a,-1\n-1,0,1\n1,-1,0\n", r"cell 2 of the first row .*'n/a'"),
        ("0,,-1\n-1,0,1\n1,-1,0\n", r"cell 2 of the first row is empty"),
        ("0x,1,-1\n-1,0,1\n1,-1,0\n", r"cell 1 of the first row and column .*'0x'"),
        ("0,1,-1\n-1O,0,1\n1,-1,0\n", r"cell 2 of the first column .*'-1O'"),
        ("0,1x\n-1,0\n", r"cell 2 of the first row .*'1x'"),
        ("0.5,O.7\nO.3,0.5\n", r"cell 2 of the first row .*'O.7'"),
        ("0,1x\n-1x,0\n", r"cell 2 of the first row .*'1x'"),
        ("0,1x,2x\n-1x,0,1\n-2x,-1,0\n", r"cell 2 of the first row .*'1x'"),
        (",1,2\n3,4,5\n", r"cell 1 .* is empty"),
        (",a,\nu,1,2\nv,3,4\n", r"cell 3 of the first row is empty"),
    ],
)
def test_a_bad_cell_in_the_first_row_or_column_is_no_label(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message + ".* give labels as .*--labels"):
        games.load(file, total=0.0)


def test_labels_some_of_which_are_numbers(tmp_path: Path) -> None:
    """They are labels where rows and columns have the same, or where only the other side could have none."""
    file = tmp_path / "t.csv"
    for text, labels in ((",7,base\n7,0,3\nbase,-3,0\n", ("7", "base")), (",7,b\nu,0,3\nv,-3,0\n", ("7", "b"))):
        file.write_text(text)
        game = games.load(file, total=0.0)
        assert isinstance(game, games.ConstantSumGame)
        assert game.column_labels == labels


def test_tables_without_labels(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(",0.7,0.2\n0.3,,0.9\n0.8,0.1,\n")
    empty = games.load(file)
    assert isinstance(empty, games.PreferenceGame)
    assert empty.P[0].tolist() == pytest.approx([0.5, 0.7, 0.2], abs=1e-15)
    file.write_text("0.1,0.2,0.3\n0.4,0.5,0.6\n")
    with pytest.raises(ValueError, match=r"2 x 3.* total"):
        games.load(file)


def test_an_index_under_a_named_corner(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("model,left,right\n0,3,-1\n1,-2,4\n")
    with pytest.raises(ValueError, match=r"first column \(0, 1\) may be labels or payoffs.* both or columns"):
        games.load(file, total=0.0)
    for labels, sizes in (("both", (2, 2)), ("columns", (2, 3))):
        assert games.load(file, total=0.0, labels=labels).sizes == sizes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0,1\n0.5,0.9\n0.1,0.5\n", ("0", "1")),
        ("7,13\n0.5,0.9\n0.1,0.5\n", ("7", "13")),
        (",7,13\n7,0.5,0.9\n13,0.1,0.5\n", ("7", "13")),
        ("size,7,13\n7,0.5,0.9\n13,0.1,0.5\n", ("7", "13")),
        ("a,0.5,0.9\nb,0.1,0.5\n", ("a", "b")),
        ("0.5,0.9\n0.1,0.5\n", ("0", "1")),
        ('"a\nb",ab\n0.5,0.9\n0.1,0.5\n', ("a\nb", "ab")),
        (',"a\nb","a\r\nb"\n"a\nb",0.5,0.9\n"a\r\nb",0.1,0.5\n', ("a\nb", "a\r\nb")),
    ],
)
def test_labels_of_a_preference_game(tmp_path: Path, text: str, labels: tuple[str, ...]) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    game = games.load(tmp_path / "t.csv")
    assert isinstance(game, games.PreferenceGame)
    assert game.labels == labels
    assert float(game.P[0, 1]) == 0.9


def test_data_frames_come_back_as_they_went(tmp_path: Path) -> None:
    import pandas as pd

    P = [[0.5, 0.9], [0.1, 0.5]]
    for frame, labels in (
        (pd.DataFrame(P), ("0", "1")),
        (pd.DataFrame(P, columns=["a", "b"]), ("a", "b")),
        (pd.DataFrame(P, columns=["a", "b"], index=["a", "b"]), ("a", "b")),
        (pd.DataFrame(P, columns=["a", "b"], index=pd.Index(["a", "b"], name="model")), ("a", "b")),
    ):
        assert games.PreferenceGame(frame).labels == labels
        files = [tmp_path / name for name in ("index.csv", "none.csv", "t.parquet")]
        frame.to_csv(files[0])
        frame.to_csv(files[1], index=False)
        frame.rename(columns=str).to_parquet(files[2])
        for file in files[1:] if frame.index[0] == 0 and labels[0] == "a" else files:  # an index that names other rows
            game = games.load(file)
            assert isinstance(game, games.PreferenceGame)
            assert (game.labels, float(game.P[0, 1])) == (labels, 0.9), file.name
    wide = pd.DataFrame([[3.0, -1.0, 2.0], [0.0, 1.0, -2.0]], columns=["x", "y", "z"], index=["u", "v"])
    wide.to_parquet(tmp_path / "wide.parquet")
    for game in (games.load(tmp_path / "wide.parquet", total=0.0), games.ConstantSumGame(wide, total=0.0)):
        assert isinstance(game, games.ConstantSumGame)
        assert (game.row_labels, game.column_labels) == (("u", "v"), ("x", "y", "z"))
        assert game.payoff[0, 2] == 2


def test_numpy_files(tmp_path: Path) -> None:
    P = np.array([[0.5, 0.9], [0.1, 0.5]])
    np.save(tmp_path / "t.npy", P)
    game = games.load(tmp_path / "t.npy")
    assert isinstance(game, games.PreferenceGame)
    assert float(game.P[0, 1]) == 0.9
    np.savez(tmp_path / "t.npz", U=np.ones((1, 2)), row_labels=["up"], column_labels=["left", "right"])
    wide = games.load(tmp_path / "t.npz", total=0.0)
    assert isinstance(wide, games.ConstantSumGame)
    assert (wide.row_labels, wide.column_labels) == (("up",), ("left", "right"))
    np.save(tmp_path / "o.npy", np.array([[None]]))
    (tmp_path / "b.npy").write_bytes(b"no array")
    np.save(tmp_path / "s.npy", np.array([["a"]]))
    for name, message in (
        ("o.npy", "no .npy file"),
        ("b.npy", "no .npy file"),
        ("s.npy", "holds <U1"),
    ):
        with pytest.raises(ValueError, match=message):
            games.load(tmp_path / name)
    with pytest.raises(ValueError, match="leave labels out"):
        games.load(tmp_path / "t.npy", labels="none")


def test_the_labels_of_a_frame_and_policies_by_label() -> None:
    import pandas as pd

    frame = pd.DataFrame([[0.5, 0.9], [0.1, 0.5]], index=["b", "a"], columns=["b", "a"])
    game = games.PreferenceGame(frame)
    assert game.labels == ("b", "a")
    assert games.PreferenceGame(frame, labels=["x", "y"]).labels == ("x", "y")
    with pytest.raises(ValueError, match="same order, got b and a"):
        games.PreferenceGame(frame[["a", "b"]])
    with pytest.raises(ValueError, match="same order, got c and b"):
        games.PreferenceGame(frame.set_axis(["c", "a"], axis=0))
    for policy in ({"a": 0.25, "b": 0.75}, pd.Series({"a": 0.25, "b": 0.75})):
        assert games.duality_gap(game, policy) == games.duality_gap(game, [0.75, 0.25])
        assert game.win_rate(policy).tolist() == game.win_rate([0.75, 0.25]).tolist()
        started = games.solve(game, games.MWU(0.1), 3, start=policy)
        assert torch.equal(started.last, games.solve(game, games.MWU(0.1), 3, start=[0.75, 0.25]).last)
    assert game.win_rate(pd.Series([0.75, 0.25])).tolist() == game.win_rate([0.75, 0.25]).tolist()  # names nothing
    with pytest.raises(ValueError, match="policy has nothing for the action 'b'"):
        games.duality_gap(game, {"a": 1.0})
    with pytest.raises(ValueError, match="policy names 'c', which is no action"):
        games.duality_gap(game, {"a": 0.5, "b": 0.25, "c": 0.25})
    with pytest.raises(ValueError, match="policy names 'z', which is no action"):  # before what is missing
        games.duality_gap(game, {"a": 0.5, "z": 0.5})
    pair = games.ConstantSumGame([[1.0, 2.0], [3.0, 0.0]], 0, ["u", "v"], ["l", "r"])
    assert games.duality_gap(pair, ({"v": 1, "u": 0}, {"r": 1, "l": 0})) == games.duality_gap(pair, ([0, 1], [0, 1]))
