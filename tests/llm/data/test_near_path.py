"""The nearest path to one that leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashward.llm.data.near_path import near_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("oracles/mine", "oracles/theirs", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("typed", ["oracles/mien", "oracels/mine", "oracels/mien"])
def test_each_part_of_a_path_may_be_mistyped(folder: Path, typed: str) -> None:
    assert near_path(folder / typed) == f" (the nearest is {folder / 'oracles/mine'})"


@pytest.mark.parametrize("typed", ["oracles/mine", "oracles/reward", "elsewhere/mine", "nobody/none", "x" * 300])
def test_where_none_is_near_there_is_nothing_to_say(folder: Path, typed: str) -> None:
    assert near_path(folder / typed) == ""
