"""Every field of a run's metrics is documented."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nashward import games, llm
from nashward.llm.store.files import read_jsonl
from nashward.llm.store.run_folder import METRICS
from nashward.llm.training.metrics import FIELDS, STEP_FIELDS

from .. import tiny
from ..tiny_run import short_run

PROMPTS = [f"Say {k} things" for k in range(20)]
NAMED = {name.removesuffix(".NAME") for name in FIELDS if name.endswith(".NAME")}  # their keys are names of the run


def field_names(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The names of a row's fields as ``FIELDS`` and ``STEP_FIELDS`` have them: ``train.r2``, ``anchor.NAME``."""
    for key, value in row.items():
        name = f"{prefix}{key}"
        if name in NAMED:
            yield f"{name}.NAME"
        elif isinstance(value, Mapping):
            yield from field_names(value, f"{name}.")
        elif isinstance(value, list):
            for item in value:
                yield from field_names(item, f"{name}.")
        else:
            yield name


def test_every_field_of_a_run_is_documented(two_layers: Path, tmp_path: Path) -> None:
    """Of runs with what adds fields: several judges, opponents, labels, SFT texts, a refit, missing judgements, floors.
    Only float16 has a loss scale."""
    fit = llm.Fit(learning_rate=0.3, batch=4, held_out=0.2, validation=0.2, refits=1)
    rising = dataclasses.replace(fit, validation=0.0, learning_rate=1.0)
    settings: dict[str, Any] = {"iterations": 1, "prompts": PROMPTS, "oracle": tiny.noise(), "fit": fit}
    run = short_run(
        two_layers, tmp_path / "run", games.FixedOpponents(games.MWU(2.0), {"rival": 0.5}),
        opponents={"rival": [{"prompt": prompt, "response": "no"} for prompt in PROMPTS]},
        label=lambda text: "long" if len(text) > 4 else None,
        sft=[{"prompt": f"Say {k}", "output": "yes"} for k in range(4)],
        **{**settings, "oracle": llm.oracles.Ensemble([tiny.noise(), tiny.high_bytes()])},
    ).run()  # fmt: skip
    *steps, summary = read_jsonl(run.folder / "iteration-01" / METRICS)
    noise = tiny.noise()
    unsure = tiny.ScoreOracle("unsure", lambda text: math.nan if len(text) % 7 == 0 else noise.score(text))
    again = short_run(
        two_layers, tmp_path / "again", games.MWU(2.0), **{**settings, "fit": rising, "oracle": unsure}
    ).run()  # whose fit gains nothing
    combination = llm.oracles.Combination(("noise", "length"), "floors", floors={"length": 0.4})
    several = llm.oracles.Objectives([tiny.noise(), llm.oracles.Length()], combination)
    floors = short_run(two_layers, tmp_path / "floors", games.MWU(2.0), **{**settings, "oracle": several}).run()
    names = {name for row in (summary, again.metrics[0], floors.metrics[0]) for name in field_names(row)}
    assert names == set(FIELDS)
    assert {name for row in steps for name in field_names(row)} == set(STEP_FIELDS) - {"loss_scale"}
    assert all(math.isfinite(row["sft_nll"]) for row in steps)
