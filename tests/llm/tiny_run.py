"""A short run of the tiny model, for tests of what a run does; its settings are given flat."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from nashward import games, llm
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.store.files import read_jsonl
from nashward.llm.store.run_folder import PROMPT_SELECTION

from . import tiny

PROMPTS = [f"Say {i} things{'!' * (i % 4)}" for i in range(10)]
QUICK: dict[str, Any] = {
    "sampling": llm.Sampling(max_new_tokens=6),
    "fit": llm.Fit(learning_rate=2e-3, epochs=1, batch=4, tokens=800, held_out=0.2, validation=0.0),
    "lora": llm.Lora(rank=2),
    "responses": 3,
}
IN_CONFIG = {field.name for field in dataclasses.fields(llm.RunConfig)}


def self_play(*inputs: Any, **settings: Any) -> llm.SelfPlay:
    """``SelfPlay`` from its arguments and the fields of its ``RunConfig``; ``sampling`` may be a source too."""
    config, others = _parted({"quantise": True, **settings})  # as on a card
    return llm.SelfPlay(*inputs, **{**others, "config": llm.RunConfig(**config)})


def changed(play: llm.SelfPlay, **settings: Any) -> llm.SelfPlay:
    """The run with some of its arguments, or of the fields of its ``RunConfig``, in place of its own."""
    config, others = _parted(settings)
    return dataclasses.replace(play, **others, config=dataclasses.replace(play.config, **config))


def _parted(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    if not isinstance(settings.get("sampling", llm.Sampling()), llm.Sampling):
        settings = {**settings, "source": settings["sampling"]}
        del settings["sampling"]
    config = {name: value for name, value in settings.items() if name in IN_CONFIG}
    return config, {name: value for name, value in settings.items() if name not in IN_CONFIG}


def short_run(source: Any, folder: Path, solver: Any = None, **settings: Any) -> llm.SelfPlay:
    return self_play(
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


def adapter_weights(folder: Path, stage: str = "iteration-01") -> torch.Tensor:
    """The weights of a step's adapter, one after another in the order of their names."""
    state = load_file(folder / stage / "adapter" / WEIGHTS)
    return torch.cat([state[name].flatten() for name in sorted(state)]).double()


def selected_prompts(step: Path) -> list[str]:
    """The ids of the prompts that a step plays on."""
    return [row["prompt"] for row in read_jsonl(step / PROMPT_SELECTION) if row["selected"]]


def quick_run(source: Any, folder: Path, **settings: Any) -> llm.SelfPlay:
    """A short run that passes over its responses once."""
    fit = llm.Fit(learning_rate=2e-3, epochs=1, batch=4, held_out=0.2, validation=0.0)
    return short_run(source, folder, **{"fit": fit, **settings})
