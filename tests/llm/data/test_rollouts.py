"""The container of a prompt's responses: what is written is read again, in little memory."""

from __future__ import annotations

import dataclasses
import random
import sys
from pathlib import Path

import torch

from nashward.llm.data.rollouts import COLUMNS, Response, Rollout
from nashward.llm.store.files import read_shard, write_shard


def test_what_is_written_is_read(tmp_path: Path) -> None:
    draw = random.Random(0)
    responses = [
        Response([draw.randrange(2**31) for _ in range(k)], k % 2 == 0, f"text {k} \N{SNOWMAN}", k / 10)
        for k in range(1, 5)
    ]
    rollout = Rollout("prompt", [1, 2**31 - 1], responses)
    file = write_shard(tmp_path, "start", 0, rollout.rows("start", seeds=[7, 8]))
    assert [row["seed"] for row in read_shard(file)] == [7, 8, None, None]
    found = Rollout.from_rows(read_shard(file))
    assert [*found.prompt_ids] == [*rollout.prompt_ids]
    for one, expected in zip(found.responses, responses, strict=True):
        assert ([*one.ids], one.finished, one.text, one.weight) == (
            expected.ids, expected.finished, expected.text, expected.weight,
        )  # fmt: skip
    without = Rollout.from_rows(read_shard(file, COLUMNS))
    assert {one.text for one in without.responses} == {""}
    assert torch.equal(without.weights, rollout.weights)


def test_a_stored_token_takes_four_bytes() -> None:
    """As objects they take 36: a run holds all responses of a step while it trains."""
    row = {"prompt": "p", "prompt_ids": [1], "ids": list(range(1000, 11_000)), "finished": True, "weight": 0.5}
    rollout = Rollout.from_rows([row, row])
    held = [getattr(response, one.name) for response in rollout.responses for one in dataclasses.fields(response)]
    assert sum(map(sys.getsizeof, held)) < 4.4 * 20_000
