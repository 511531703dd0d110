"""Square tables of counts, and those that are square but for some names."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashward.errors import NashwardError
from nashward.games.analysis.leaderboard import read_battles


def _read(folder: Path, text: str) -> list[list[float]]:
    (folder / "counts.csv").write_text(text)
    return read_battles(folder / "counts.csv").total.tolist()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (",x,y,Total\nx,0,3,3\ny,1,0,1\n", "Total"),
        (",x,y\nx,0,3\ny,1,0\nTotal,1,3\n", "Total"),
        (",x,y,z\nx,0,3,1\ny,1,0,2\n", "z"),
    ],
)
def test_a_table_that_is_square_but_for_a_name_names_it(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(NashwardError, match=f"(?i){named}") as refused:
        _read(tmp_path, text)
    assert "square" in str(refused.value)


def test_counts_against_itself_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert _read(tmp_path, ",x,y\nx,0,3\ny,1,-\n") == [[0, 3], [1, 0]]
    assert not caplog.text
    assert _read(tmp_path, ",x,y\nx,7,3\ny,1,\n") == [[0, 3], [1, 0]]
    assert "of x" in caplog.text
