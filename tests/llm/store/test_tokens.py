"""Token ids that wait in a file."""

from __future__ import annotations

import errno
import random
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from nashward.llm.store.tokens import Tokens


def test_what_is_added_is_read_in_any_order(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [[draw.randrange(2**31) for _ in range(draw.randrange(9))] for _ in range(200)]
    tokens = Tokens(tmp_path)
    kept = [(row, tokens.add(row)) for row in rows]
    draw.shuffle(kept)
    for row, stretch in kept:
        assert [*stretch] == row
        assert len(stretch) == len(row)
        assert bool(stretch) == bool(row)
        assert [*stretch[1:3]] == row[1:3]
        assert [*tokens.add([7, *stretch])] == [7, *row]
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_memory_does_not_grow_with_the_tokens(tmp_path: Path) -> None:
    grown = []
    for length in (10, 1000):
        tokens = Tokens(tmp_path)
        tracemalloc.start()
        kept = [tokens.add(range(length)) for _ in range(1000)]
        grown.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert sum(kept[-1]) == length * (length - 1) / 2
    assert grown[1] < 1.5 * grown[0]  # numbers above 256 are objects


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match="the disk is full: make room, and the same command continues"):
        Tokens(tmp_path)
