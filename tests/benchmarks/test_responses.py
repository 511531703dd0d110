"""Responses that a benchmark drew are read again only where they are these very draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import responses

from nashward.llm.data.rollouts import Response


def test_other_draws_are_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, play = [], cast(Any, None)

    def drawn(play: Any, adapter: Path, texts: list[str], number: int, seed: int) -> list[list[Response]]:
        calls.append((number, seed))
        return [[Response([seed, k], True, f"{text} {seed} {k}") for k in range(number)] for text in texts]

    monkeypatch.setattr(responses, "drawn", drawn)

    def texts(number: int, seed: int, *prompts: str) -> list[list[str]]:
        found = responses.drawn_once(tmp_path / "drawn.jsonl", play, tmp_path, prompts, number, seed)
        return [[one.text for one in row] for row in found]

    assert texts(2, 5, "a", "b") == texts(2, 5, "a", "b") == [["a 5 0", "a 5 1"], ["b 5 0", "b 5 1"]]
    assert calls == [(2, 5)]
    assert texts(2, 6, "a", "b") == [["a 6 0", "a 6 1"], ["b 6 0", "b 6 1"]]
    assert texts(1, 6, "a", "b") == [["a 6 0"], ["b 6 0"]]
    assert texts(1, 6, "b", "c") == [["b 6 0"], ["c 6 0"]]
    assert calls == [(2, 5), (2, 6), (1, 6), (1, 6)]
