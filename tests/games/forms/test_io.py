"""Tables from files in every format, and the errors for bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nashward import games

GOOD = ",a,b\na,0.5,0.9\nb,0.1,0.5\n"


def test_all_formats_hold_the_same_game(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    (tmp_path / "t.csv").write_text(GOOD)
    np.savez(tmp_path / "t.npz", P=np.array([[0.5, 0.9], [0.1, 0.5]]), labels=np.array(["a", "b"]))
    parquet.write_table(arrow.table({"": ["a", "b"], "a": [0.5, 0.1], "b": [0.9, 0.5]}), tmp_path / "t.parquet")
    for kind in ("csv", "npz", "parquet"):
        game = games.load(tmp_path / f"t.{kind}")
        assert isinstance(game, games.PreferenceGame)
        assert game.labels == ("a", "b")
        torch.testing.assert_close(
            game.P, torch.tensor([[0.5, 0.9], [0.1, 0.5]], dtype=torch.float64), atol=1e-15, rtol=0
        )
    (tmp_path / "plain.csv").write_text("0.5,0.9\n0.1,0.5\n")
    assert games.load(tmp_path / "plain.csv").sizes == (2,)
    (tmp_path / "header.csv").write_text("a,b\n0.5,0.9\n0.1,0.5\n")  # as pandas writes it without an index
    header = games.load(tmp_path / "header.csv")
    assert isinstance(header, games.PreferenceGame)
    assert (header.labels, float(header.P[0, 1])) == (("a", "b"), 0.9)


def test_a_table_of_two_different_players(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(",left,right\nup,3,-1\nmiddle,0,0\ndown,-1,1\n")
    game = games.load(file, total=0.0)
    assert isinstance(game, games.ConstantSumGame)
    assert (game.row_labels, game.column_labels) == (("up", "middle", "down"), ("left", "right"))
    with pytest.raises(ValueError, match=r"3 x 2; .* give the total"):
        games.load(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",a,b\na,0.5,0.9\nb,0.2,0.5\n", r"P\[a, b\] = 0.9 and P\[b, a\] = 0.2 sum to 1.1 \(the diagonal is 1/2\)$"),
        (",a,b\na,0.5,0.56\nb,0.48,0.5\n", r"sum to 1.04 .*tolerance=0.041"),
        (",a,b\na,0.5,nan\nb,0.2,0.5\n", r"entry \[a, b\] .* not a finite"),
        ("0.5,inf\n0.2,0.5\n", r"entry \[0, 1\] .* not a finite"),
        (",a,b\na,0.5,x\nb,0.2,0.5\n", r"entry \[a, b\] is not a number: 'x'$"),
        (",a,b\na,0.5,0_9\nb,0_1,0.5\n", r"entry \[a, b\] is not a number: '0_9'$"),  # 9 to Python
        (",a,b\na,50%,90%\nb,10%,50%\n", "'50%'; divide percents by 100"),
        (",a,b\na,50,90\nb,10,50\n", "from 10 to 90; .* divide by 100"),
        (",a,b\na,,90\nb,10,\n", "from 10 to 90; .* divide by 100; .*leaderboard"),
        (",a,b\na,0,90\nb,10,0\n", "from 10 to 90; .* divide by 100; .*leaderboard"),
        (",a,b\na,0.5,\nb,0.25,0.5\n", r"entry \[a, b\] is empty; .* 0.25, so this one would be 0.75$"),
        (",a,b\na,0,0.9\nb,0.1,0\n", r"P\[a, a\] = 0 on the diagonal.*1/2$"),
        (" a b\na 0.5 0.9\nb 0.1 0.5\n", "separated by blanks; expected commas"),
        (",a,a\na,0.5,0.9\na,0.1,0.5\n", "distinct, repeated: a"),
        (",a,b\na,0.5\nb,0.1,0.5\n", "row a has 1 numbers, expected 2"),
        (",a,b\nb,0.5,0.9\na,0.1,0.5\n", "same order, got b and a"),
        (",a,b\nb,0.1,0.5\na,0.5,0.9\n", "same order, got b and a"),  # not that P + P^T is wrong, which it is too
        ("", "is empty"),
        ("0.5,0.7x,0.2\n0.3,0.5,0.9\n0.8,0.1,0.5\n", "cell 2 of the first row .*'0.7x'"),
        ("0.5,0.9\n0.1\n", r"row 2 \(the first is 1\) has 1 numbers"),
        ("0,5;0,9\n0,1;0,5\n", "separated by ';'; expected commas"),
        (",a,b\na,0.5,3/4\nb,1/4,0.5\n", "'3/4'; write fractions as decimals"),
        (";a;b\na;0,5;0,9\nb;0,1;0,5\n", "separated by ';'; expected commas"),
        (
            ",a,b\na,0,7\nb,3,0\n",
            "probabilities, got numbers from 0 to 7; turn counts into shares.* leaderboard",
        ),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        games.load(file)
    assert str(file) in str(error.value)


def test_an_empty_diagonal_comments_and_rounded_pairs(tmp_path: Path) -> None:
    """Of a game between the same actions the diagonal is half of the total; another one there would be another game."""
    file = tmp_path / "t.csv"
    file.write_text("# of May,,\n,a,b\na,,0.7\nb,0.3,\n")
    empty = games.load(file)
    assert isinstance(empty, games.PreferenceGame)
    torch.testing.assert_close(empty.P, torch.tensor([[0.5, 0.7], [0.3, 0.5]], dtype=torch.float64))
    file.write_text(",a,b\na,,14\nb,6,\n")
    counts = games.load(file, total=20)
    assert isinstance(counts, games.ConstantSumGame)
    assert counts.payoff.tolist() == [[10, 14], [6, 10]]
    file.write_text(",a,b\na,0,14\nb,6,0\n")
    with pytest.raises(ValueError, match=r"\[a, a\] is 10, but it holds 0"):
        games.load(file, total=20)
    file.write_text(",c,d\na,0,14\nb,6,0\n")  # two different players
    two = games.load(file, total=20)
    assert isinstance(two, games.ConstantSumGame)
    assert two.payoff.tolist() == [[0, 14], [6, 0]]
    file.write_text(",a,b\na,2,0\nb,0,3\n")  # hide and seek
    assert isinstance(games.load(file, total=0), games.ConstantSumGame)
    file.write_text(",a,b\na,,14\nb,7,\n")
    with pytest.raises(ValueError, match=r"entry \[a, a\]"):
        games.load(file, total=20)
    file.write_text("0.5,0.71\n0.3,0.5\n")
    with pytest.raises(ValueError, match=r"tolerance=0.011 .*--rounding"):
        games.load(file)
    rounded = games.load(file, tolerance=0.011)
    assert isinstance(rounded, games.PreferenceGame)
    assert float(rounded.P[0, 1]) == pytest.approx(0.705)
    with pytest.raises(ValueError, match="total"):
        games.load(file, 1.0, tolerance=0.011)


def test_an_archive_without_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.zeros((0, 0)))
    with pytest.raises(ValueError, match=r"\[0, 0\]; expected at least one number"):
        games.load(tmp_path / "e.npy")
    np.savez(tmp_path / "e.npz")
    with pytest.raises(ValueError, match="no array"):
        games.load(tmp_path / "e.npz")


def test_missing_file_folder_and_unknown_type(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        games.load(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        games.load(tmp_path)
    (tmp_path / "t.xls").write_text("")
    with pytest.raises(ValueError, match="unknown type"):
        games.load(tmp_path / "t.xls")
