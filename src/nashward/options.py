"""The options of a run: declared once, read from the command line, a preset and the run folder, in that order."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.resources
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nashward.games import Solver
    from nashward.llm import SelfPlay

OPTIMISERS = ("adamw", "rmsprop", "adamw8bit", "rmsprop8bit", "paged-adamw", "paged-adamw8bit", "lbfgs")
DEFAULT_SOLVER, DEFAULT_STEP = "OptimisticMWU", 2.5


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting of a run: where ``run.json`` keeps it, its type on the command line, its help."""

    path: tuple[str, ...]
    kind: Any
    text: str
    choices: tuple[str, ...] | None = None


RUN: dict[str, Option] = {
    "adapter": Option(("adapter",), str, "LoRA folder or id to start from and to regress against"),
    "prompts": Option(("prompts",), str, "JSONL, JSON, CSV, Parquet or text file, or a dataset id (ID or ID:SPLIT)"),
    "prompt-field": Option(("column",), str, "the field with the prompt (default: prompt, messages, ...)"),
    "iterations": Option(("iterations",), int, "iterates to make (default: 3)"),
    "prompts-per-iteration": Option(("prompts_per_iteration",), int, "prompts of an iteration (default: all of them)"),
    "responses": Option(("responses",), int, "K, responses a prompt (default: 5)"),
    "temperature": Option(("sampling", "temperature"), float, "of the sampler (default: 1)"),
    "top-p": Option(("sampling", "top_p"), float, "of the sampler (default: 1)"),
    "max-new-tokens": Option(("sampling", "max_new_tokens"), int, "longer responses are cut (default: 512)"),
    "sampling-batch": Option(("sampling", "batch"), int, "responses sampled at once (default: 64)"),
    "max-prompt-tokens": Option(("max_prompt_tokens",), int, "longer prompts are dropped (default: 512)"),
    "selection": Option(("fit", "selection"), str, "responses that are fitted (default: all)", ("all", "best-worst")),
    "baseline": Option(("fit", "baseline"), str, "default: plug-in", ("plug-in", "centred", "constant")),
    "self-comparison": Option(("self_comparison",), bool, "compare a response with itself too (1/2), as SPPO does"),
    "optimiser": Option(("fit", "optimiser"), str, "default: adamw; 8-bit and paged ones take less", OPTIMISERS),
    "learning-rate": Option(("fit", "learning_rate"), float, "default: 2e-4"),
    "schedule": Option(("fit", "schedule"), str, "of the rate (default: linear)", ("linear", "cosine", "constant")),
    "warmup": Option(("fit", "warmup"), float, "share of the optimiser steps (default: 0.1)"),
    "epochs": Option(("fit", "epochs"), int, "passes over the responses of a step (default: 2)"),
    "batch": Option(("fit", "batch"), int, "prompts in an optimiser step (default: 16)"),
    "tokens": Option(("fit", "tokens"), int, "padded tokens in a forward pass of training (default: 4096)"),
    "max-grad-norm": Option(("fit", "max_grad_norm"), float, "default: 1"),
    "held-out": Option(("fit", "held_out"), float, "share of prompts kept to measure the fit (default: 0.1)"),
    "rank": Option(("lora", "rank"), int, "of a fresh adapter (default: 16)"),
    "alpha": Option(("lora", "alpha"), float, "of a fresh adapter (default: twice the rank)"),
    "chat-template": Option(("chat_template",), Path, "a Jinja file in place of the tokenizer's chat template"),
    "quantise": Option(("quantise",), bool, "keep the base in 4 bits (default), or in 16 (on a CPU 32)"),
    "checkpoints": Option(("placement", "checkpoints"), str, "each layer's input, for the backward pass (default: host "
                          "on a GPU)", ("none", "device", "host")),
    "embeddings": Option(("placement", "embeddings"), str, "the input embeddings (default: host on a GPU)",
                         ("device", "host")),
    "mlp-tokens": Option(("placement", "mlp_tokens"), int, "of an MLP at once (default: all): less memory, slower"),
    "seed": Option(("seed",), int, "of everything (default: 0)"),
}  # fmt: skip
PLACEMENT = tuple(name for name, option in RUN.items() if option.path[0] == "placement")
SOLVER = {
    "solver": Option(("solver", "name"), str, f"a mirror-step solver (default: {DEFAULT_SOLVER} for language models)"),
    "step": Option(("solver", "step"), float, f"the solver's step size (default: {DEFAULT_STEP} for language models)"),
    "tau": Option(("solver", "tau"), float, "the solver's pull to the reference, where it has one"),
}
MODELS = {
    "policy": Option(("policy",), str, "folder or hub id of a chat model"),
    "oracle": Option(("oracle",), str, "a PairRM, GPM or reward model (folder or hub id), votes (.jsonl), module:name"),
}
CACHE = {
    "cache": Option(("cache",), Path, "keep judgements in this file (default: judgements.sqlite in the run folder)")
}
ALL = {**MODELS, **RUN, **SOLVER, **CACHE}


def _add(parser: argparse.ArgumentParser, options: dict[str, Option], required: bool = False) -> None:
    for name, option in options.items():
        if option.kind is bool:
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=option.text)
        else:
            metavar = None if option.choices else name.upper().replace("-", "_")
            parser.add_argument(
                f"--{name}",
                type=option.kind,
                choices=option.choices,
                metavar=metavar,
                required=required,
                help=option.text,
            )


def add_solver(parser: argparse.ArgumentParser) -> None:
    from nashward.games import SOLVERS

    names = ", ".join(solver.__name__ for solver in SOLVERS)
    described = dataclasses.replace(SOLVER["solver"], text=f"{SOLVER['solver'].text}: {names}")
    _add(parser, {**SOLVER, "solver": described})


def add_models(parser: argparse.ArgumentParser, names: Sequence[str], *, required: bool) -> None:
    _add(parser, {name: MODELS[name] for name in names}, required)


def add_cache(parser: argparse.ArgumentParser) -> None:
    _add(parser, CACHE)


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the run folder; the same command continues it")
    presets = sorted(file.name.removesuffix(".toml") for file in _presets() if file.name.endswith(".toml"))
    parser.add_argument("--preset", choices=presets, help="settings as published; options given beside it win")
    add_solver(parser)
    _add(parser, RUN)
    _add(parser, CACHE)


def values(given: argparse.Namespace) -> dict[str, Any]:
    """What was asked for: the preset, and over it the options given."""
    chosen: dict[str, Any] = {}
    if getattr(given, "preset", None):
        file = next(file for file in _presets() if file.name == f"{given.preset}.toml")
        chosen.update(tomllib.loads(file.read_text(encoding="utf-8")))
        unknown = sorted(set(chosen) - set(ALL))
        if unknown:
            raise ValueError(f"preset {given.preset} has unknown settings: {', '.join(unknown)}")
    for name in ALL:
        value = getattr(given, name.replace("-", "_"), None)
        if value is not None:
            chosen[name] = value
    return chosen


def solver(chosen: dict[str, Any]) -> Solver:
    """The solver of that name with the settings given; a setting that it does not have is refused."""
    from nashward.games import SOLVERS

    def plain(name: str) -> str:
        return name.replace("-", "").replace("_", "").lower()

    wanted = chosen["solver"]
    found = [kind for kind in SOLVERS if plain(kind.__name__) == plain(wanted)]
    if not found:
        raise ValueError(f"no solver {wanted!r}; there are {', '.join(kind.__name__ for kind in SOLVERS)}")
    has = [field.name for field in dataclasses.fields(found[0])]
    settings = {name: chosen[name] for name in ("step", "tau") if chosen.get(name) is not None}
    foreign = [name for name in settings if name not in has]
    if foreign:
        raise ValueError(f"{found[0].__name__} has no {foreign[0]}; it has {', '.join(has)}")
    return found[0](**settings)


def self_play(chosen: dict[str, Any], folder: Path) -> SelfPlay:
    """A run from what was asked for; what was not is taken from the folder's run, if it holds one."""
    from nashward.llm import Fit, Lora, Sampling, SelfPlay
    from nashward.llm.journal import RunFolder

    held = RunFolder(folder).read().get("config", {})
    asked = dict(chosen)
    for name, option in ALL.items():
        value: Any = held
        for key in option.path:
            value = value.get(key) if isinstance(value, dict) else None
        if name != "prompts" and value is not None and (name not in SOLVER or "solver" not in asked):
            chosen.setdefault(name, value)
    if "chat-template" in asked:
        file = asked["chat-template"]
        if not file.is_file():
            raise FileNotFoundError(f"there is no chat template {file}")
        chosen["chat-template"] = file.read_text(encoding="utf-8")
    chosen = {"solver": DEFAULT_SOLVER, "step": DEFAULT_STEP, **chosen}

    def part(kind: Any, section: str) -> Any:
        names = {
            o.path[1]: chosen[n] for n, o in RUN.items() if len(o.path) == 2 and o.path[0] == section and n in chosen
        }
        return kind(**names)

    flat = {option.path[0]: chosen[name] for name, option in RUN.items() if len(option.path) == 1 and name in chosen}
    prompts = flat.pop("prompts", None)
    return SelfPlay(
        policy=chosen.get("policy"),
        oracle=chosen.get("oracle"),
        solver=solver(chosen),
        prompts=prompts,
        folder=folder,
        sampling=part(Sampling, "sampling"),
        fit=part(Fit, "fit"),
        lora=part(Lora, "lora"),
        cache=chosen.get("cache"),
        placement={ALL[name].path[1]: chosen[name] for name in PLACEMENT if name in chosen} or None,
        **flat,
    )


def _presets() -> list[Any]:
    return list(importlib.resources.files("nashward.configs").iterdir())
