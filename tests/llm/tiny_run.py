"""A short run of the tiny model, for tests of what a run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nashward import games, llm

from . import tiny

PROMPTS = [f"Say {i} things{'!' * (i % 4)}" for i in range(10)]
QUICK: dict[str, Any] = {
    "sampling": llm.Sampling(max_new_tokens=6),
    "fit": llm.Fit(learning_rate=2e-3, epochs=3, batch=4, tokens=800, held_out=0.2),
    "lora": llm.Lora(rank=2),
    "responses": 3,
}


def short_run(source: Any, folder: Path, solver: Any = None, **settings: Any) -> llm.SelfPlay:
    return llm.SelfPlay(
        folder=folder,
        **{
            "policy": source,
            "solver": solver or games.OptimisticMWU(step=2.0),
            "prompts": PROMPTS,
            "oracle": tiny.high_bytes(),
            "iterations": 2,
            **QUICK,
            **settings,
        },
    )


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in folder.rglob("*")
        if f.is_file() and f.name not in ("run.json", ".run.json", "timings.jsonl")
    }


def quick_run(source: Any, folder: Path, **settings: Any) -> llm.SelfPlay:
    """A short run that passes over its responses once."""
    fit = llm.Fit(learning_rate=2e-3, epochs=1, batch=4, held_out=0.2)
    return short_run(source, folder, **{"fit": fit, **settings})
