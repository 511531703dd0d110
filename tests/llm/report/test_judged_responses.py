"""What a report and its metrics say where judgements are missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from nashward import games, llm
from nashward.games import Policy
from nashward.llm.policy.handles import Adapter
from nashward.llm.report.responses import JudgedResponses
from nashward.llm.run.rollouts import RolloutStore, table_name
from nashward.llm.run.stages.summary import _missing, unjudged_pairs
from nashward.llm.store.files import write_shard


def test_a_response_without_a_judgement_is_neither_preferred_nor_least_preferred() -> None:
    nan = math.nan
    judged = JudgedResponses("?", ["a", "b", "c"], [[0.5, nan, 0.4], [nan, 0.5, nan], [0.6, nan, 0.5]])
    assert (judged.win_rate(0), judged.win_rate(1), judged.extremes) == (0.4, None, (2, 0))
    alone = JudgedResponses("?", ["a", "b"], [[0.5, nan], [nan, 0.5]])
    assert alone.extremes is None


def test_the_pairs_without_a_judgement_are_counted_in_either_order_of_the_table(tmp_path: Path) -> None:
    prompts = [llm.Prompt(({"role": "user", "content": text},)) for text in ("a", "b")]
    store, numbers = RolloutStore(prompts), (0, 1)
    rated = [[0.5, 0.6, 0.1], [0.4, 0.5, 0.2], [0.9, 0.8, 0.5]]
    square: list[Any] = [[[0.5, None, 0.1], [None, 0.5, 0.2], [0.9, 0.8, 0.5]], rated]
    against: list[Any] = [[[None, 0.5]], [[0.5, 0.5]]]  # one response of new against two of old
    for first, second, tables in (("new", "new", square), ("new", "old", against)):
        step = store.tables_at(first, second, numbers, tmp_path)
        rows = [{"prompt": prompt.id, "P": P} for prompt, P in zip(prompts, tables, strict=True)]
        write_shard(step / "judgements", table_name(first, second), 0, rows)
    assert store.missing("new", "new", numbers) == (2, 12)
    assert store.missing("new", "old", numbers) == store.missing("old", "new", numbers) == (1, 4)
    new, old = (Policy(Adapter(name, tmp_path), name) for name in ("new", "old"))
    played = games.Step(new, opponent=0.5 * new + 0.5 * old, size=1.0)
    found = _missing(played, {new.value: []}, store, numbers)
    assert found == {"missing": pytest.approx(3 / 16)}
    assert "19%" in str(unjudged_pairs(found))
    assert _missing(games.Step(new), {new.value: []}, store, numbers) == {}
