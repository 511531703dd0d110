"""The settings of a run: each declared once, as a flag and as a key of a TOML file, beside the fields that it sets."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.resources
import math
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from nashward.errors import NashwardError
from nashward.games.solvers import MIRROR_STEPS, SOLVERS, TABLES_ONLY

OPTIMISERS = ("adamw", "rmsprop", "adamw8bit", "rmsprop8bit", "paged-adamw", "paged-adamw8bit", "lbfgs")
LOSSES = (
    "mirror",
    "sppo",
    "sppo-single",
    "sppo-hard",
    "dpo",
    "ipo",
    "kto",
    "simpo",
    "rebel",
    "online-ipo",
    "dno",
    "gpo",
)
DEFAULT_SOLVER, DEFAULT_STEP = "OptimisticMWU", 2.5
LARGEST = 2**63 - 1  # what torch takes as a seed or a size, and TOML as an integer

EXPECTED = {
    str: "a string",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "an array of tables",
}


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting: where it stands, its type, its help.

    Attributes:
        path: its place in ``SelfPlay``'s tree, and so in a TOML file and in ``run.json``: ("fit", "epochs") is the key
            ``epochs`` of the section ``[fit]``.
        kind: str, int, float, bool, or Path for a file or a folder that need not exist.
        text: what ``--help`` says.
        choices: the only values, where there are few.
        none: the word that stands for None, where the setting is a limit.
    """

    path: tuple[str, ...]
    kind: type
    text: str
    choices: tuple[str, ...] | None = None
    none: str | None = None

    @property
    def key(self) -> str:
        return ".".join(self.path)

    def read(self, value: Any) -> Any:
        """A value from TOML or JSON as the setting's own; ValueError where it is of another type."""
        expected = f"one of {', '.join(self.choices)}" if self.choices else EXPECTED[self.kind]
        if self.none is not None:
            if value == self.none:
                return None
            expected += f' or "{self.none}"'
        kinds = {int: (int,), float: (int, float), bool: (bool,), list: (list,)}.get(self.kind, (str,))
        wrong = (
            not isinstance(value, kinds)
            or (isinstance(value, bool) and self.kind is not bool)
            or (isinstance(value, str) and (not value.strip() or "\0" in value))
            or (isinstance(value, int) and abs(value) > LARGEST)
            or (isinstance(value, float) and math.isnan(value))
            or (self.choices is not None and value not in self.choices)
        )
        if wrong:
            raise NashwardError(f"expected {expected}, got {_described(value)}")
        if isinstance(value, str) and value.startswith("~/"):  # which the shell replaces, and a file's reader does not
            value = str(Path(value).expanduser())
        return self.kind(value)

    def parse(self, text: str) -> Any:
        """A value as it was typed."""
        value: Any = text
        if self.kind is list:
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text  # refused below
        if self.kind in (int, float) and text != self.none:
            try:
                value = self.kind(text)
            except ValueError:
                value = text  # refused below, with the words for it
        elif self.kind is bool:
            value = {"true": True, "false": False}.get(text, text)
        try:
            return self.read(value)
        except ValueError as error:  # of which argparse would keep nothing
            raise argparse.ArgumentTypeError(str(error)) from None


whole, number, path = (Option((), kind, "").parse for kind in (int, float, Path))  # types of other arguments


def _described(value: Any) -> str:
    """A value as an error shows it: with its type where that may be what is wrong, and not at length."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return "an array" if isinstance(value, list) else "a table"
    if value == "":
        return "nothing"
    kind = {int: "integer", float: "float", str: "string"}.get(type(value), type(value).__name__)
    return f"the {kind} {value!r:.60}"


MODELS = {
    "policy": Option(("policy",), str, "folder or hub id of a chat model"),
    "oracle": Option(("oracle",), str, "a PairRM, GPM or reward model (folder or hub id), votes (.jsonl), module:name"),
}
RUN_GROUPS = {  # what --help lists together
    "run": {
        "iterations": Option(("iterations",), int, "iterates to make (default: 3)"),
        "seed": Option(("seed",), int, "of everything (default: 0)"),
    },
    "models": {
        "adapter": Option(("adapter",), str, "LoRA folder or id to start from and to regress against"),
        "rank": Option(("lora", "rank"), int, "of a fresh adapter (default: 16)"),
        "alpha": Option(("lora", "alpha"), float, "of a fresh adapter (default: twice the rank)"),
        "chat-template": Option(("chat_template",), str, "a Jinja file (or the template itself) in place of the "
                                "tokenizer's chat template"),
        "quantise": Option(("quantise",), bool, "keep the base in 4 bits (default), or in 16 (on a CPU 32)"),
        "quantise-head": Option(("quantise_head",), bool, "the head in 4 bits too: another policy, in less memory"),
    },
    "prompts": {
        "prompts": Option(("prompts",), str, "JSONL, JSON, CSV, Parquet or text file, or a dataset id (ID or "
                          "ID:SPLIT)"),
        "prompt-field": Option(("column",), str, "the field with the prompt (default: prompt, messages, ...)"),
        "prompts-per-iteration": Option(("prompts_per_iteration",), int, "prompts of an iteration (default: all)",
                                        none="all"),
        "max-prompt-tokens": Option(("max_prompt_tokens",), int, "longer prompts are dropped (default: 512)"),
    },
    "solver": {
        "phases": Option(("phases",), list, "iterations with a step and a learning rate of their own, as in TOML: "
                         "[{iterations = 2, step = 2.5}, {iterations = 2, learning_rate = 1e-4}]"),
        "mixtures": Option(("mixtures",), str, "how NashMD's geometric mixture is made; token-level: no fit, an "
                           "approximation (default: fitted)", ("fitted", "token-level")),
        "opponents": Option(("opponents", "answers"), str, "another model's responses to the prompts, or a folder of "
                            "one file a model: opponents beside the policy's own"),
        "opponent-shares": Option(("opponents", "shares"), str, "of the opponents in what a step is played against: "
                                  "all together, or NAME=SHARE,... (default with --opponents: 0.25)"),
    },
    "sampling": {
        "responses": Option(("responses",), int, "K, responses a prompt (default: 5)"),
        "temperature": Option(("sampling", "temperature"), float, "of the sampler (default: 1)"),
        "top-p": Option(("sampling", "top_p"), float, "of the sampler (default: 1)"),
        "max-new-tokens": Option(("sampling", "max_new_tokens"), int, "longer responses are cut (default: 512)"),
        "sampling-batch": Option(("sampling", "batch"), int, "responses sampled at once (default: 64)"),
        "kv-cache": Option(("sampling", "kv_cache"), str, "the sampler's keys and values; int8: half of the memory, of "
                           "a policy that is nearly the one (default: full)", ("full", "int8")),
    },
    "judging": {
        "self-comparison": Option(("self_comparison",), bool, "compare a response with itself too (1/2), as SPPO does"),
        "cache": Option(("cache",), Path, "keep judgements in this file (default: judgements.sqlite in the run "
                        "folder)"),
    },
    "loss": {
        "loss": Option(("fit", "loss"), str, "what a fit lowers, with beta = 1 / step (default: mirror)", LOSSES),
        "margin": Option(("fit", "margin"), float, "gamma / beta of simpo, nats a token (default: 0.5)"),
        "selection": Option(("fit", "selection"), str, "responses that are fitted (default: all)", ("all",
                            "best-worst")),
        "baseline": Option(("fit", "baseline"), str, "default: plug-in", ("plug-in", "centred", "constant")),
    },
    "training": {
        "optimiser": Option(("fit", "optimiser"), str, "default: adamw; 8-bit and paged ones take less", OPTIMISERS),
        "learning-rate": Option(("fit", "learning_rate"), float, "default: 2e-4"),
        "schedule": Option(("fit", "schedule"), str, "of the rate (default: linear)", ("linear", "cosine", "constant")),
        "warmup": Option(("fit", "warmup"), float, "share of the optimiser steps (default: 0.1)"),
        "epochs": Option(("fit", "epochs"), int, "passes over the responses of a step (default: 2)"),
        "batch": Option(("fit", "batch"), int, "prompts in an optimiser step (default: 16)"),
        "tokens": Option(("fit", "tokens"), int, "padded tokens in a forward pass of training (default: 4096)"),
        "max-grad-norm": Option(("fit", "max_grad_norm"), float, "default: 1"),
        "target-kl": Option(("fit", "target_kl"), float, "the most nats a response that a step may move (default: "
                            "none)", none="none"),
        "refits": Option(("fit", "refits"), int, "fits again at half the rate where the held-out loss rose (default: "
                         "0)"),
        "held-out": Option(("fit", "held_out"), float, "share of prompts kept to measure the fit (default: 0.1)"),
        "checkpoint-seconds": Option(("fit", "checkpoint_seconds"), float, "between checkpoints of training; 0: after "
                                     "each step (default: 300)"),
    },
    "task and limits": {
        "task": Option(("task",), str, "prompts with responses (prompt and output, response or text) whose likelihood "
                       "is raised beside the step's loss, and measured"),
        "task-weight": Option(("fit", "task_weight"), float, "of the task's nats a token in the loss; 0: measured "
                              "alone (default: 1)"),
        "task-limit": Option(("limits", "task"), float, "nats a token that the held-out task may lose to the start "
                             "before later iterations go less far (default: none)", none="none"),
        "win-rate-floor": Option(("limits", "win_rate"), float, "the same below this win rate of a new iterate on "
                                 "held-out prompts, 1/2 where nothing is gained (default: none)", none="none"),
        "limit-factor": Option(("limits", "factor"), float, "what is lowered beyond a limit is multiplied by (default: "
                               "0.5)"),
        "limit-lowers": Option(("limits", "lowers"), str, "what is lowered beyond a limit (default: step)", ("step",
                               "learning-rate")),
    },
    "memory": {
        "plan": Option(("plan",), bool, "on a GPU find batches and a placement that fit; refuse what does not "
                       "(default)"),
        "layers": Option(("placement", "layers"), str, "the layers' frozen matrices; host: streamed, two at a time "
                         "(default: device)", ("device", "host")),
        "checkpoints": Option(("placement", "checkpoints"), str, "each layer's input, for the backward pass (default: "
                              "host on a GPU)", ("none", "device", "host")),
        "embeddings": Option(("placement", "embeddings"), str, "the input embeddings (default: host on a GPU)",
                             ("device", "host")),
        "adapters": Option(("placement", "adapters"), str, "what adapters are multiplied in (default: the input's "
                           "dtype on a GPU with bfloat16, else float32)", ("float32", "input")),
        "mlp-tokens": Option(("placement", "mlp_tokens"), int, "of an MLP at once (default: all): less memory, "
                             "slower", none="all"),
    },
}  # fmt: skip
RUN = {name: option for group in RUN_GROUPS.values() for name, option in group.items()}
OUT = {"out": Option(("folder",), Path, "the run folder; the same command continues it")}


def _of_solvers() -> dict[str, Option]:
    """One option for each field of a solver that a number or a word can set."""
    mirror, others = (", ".join(kind.__name__ for kind in kinds) for kinds in (MIRROR_STEPS, TABLES_ONLY))
    found = {
        "solver": Option(
            ("solver", "name"),
            str,
            f"a mirror-step solver (default: {DEFAULT_SOLVER} for language models): {mirror}; on tables also {others}",
        )
    }
    texts = {
        "step": f"the solver's step size (default: {DEFAULT_STEP} for language models)",
        "tau": "the solver's pull to the reference, where it has one",
    }
    owners: dict[str, list[str]] = {}
    for kind in SOLVERS:
        hints = get_type_hints(kind)
        for name in (field.name for field in dataclasses.fields(kind)):
            hint = hints[name]
            kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            scalar = next((t for t in (bool, int, float, str) if t in kinds), None)
            if scalar is None:  # nothing that can be typed
                continue
            owners.setdefault(name, []).append(kind.__name__)
            flag = name.replace("_", "-")
            flag = f"solver-{flag}" if flag in {**MODELS, **RUN, **OUT} else flag
            found[flag] = Option(("solver", name), scalar, texts.get(name, f"of {', '.join(owners[name])}"))
    return found


SOLVER = _of_solvers()
ALL = {**OUT, **MODELS, **SOLVER, **RUN}
FIRST = {"run": OUT, "models": MODELS, "solver": SOLVER}
GROUPS = {title: {**FIRST.get(title, {}), **group} for title, group in RUN_GROUPS.items()}


def add(parser: argparse._ActionsContainer, options: dict[str, Option], required: bool = False) -> None:
    """Declare options; what is not given stays out of the namespace."""
    for name, option in options.items():
        settings: dict[str, Any] = {"help": option.text, "required": required, "default": argparse.SUPPRESS}
        if option.kind is bool:
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, **settings)
        else:
            word = {int: "N", float: "X", list: "TABLES"}.get(option.kind, name.rpartition("-")[2].upper())
            words = "{" + ",".join(option.choices) + "}" if option.choices else word
            parser.add_argument(f"--{name}", type=option.parse, metavar=words, **settings)


def add_groups(parser: argparse.ArgumentParser, names: Iterable[str]) -> dict[str, argparse._ArgumentGroup]:
    """Declare options of a run in their groups."""
    chosen, found = set(names), {}
    for title, group in GROUPS.items():
        if own := {name: option for name, option in group.items() if name in chosen}:
            found[title] = parser.add_argument_group(title)
            add(found[title], own)
    return found


def add_run(
    parser: argparse.ArgumentParser, models: Sequence[str], names: Sequence[str] | None = None
) -> argparse._ArgumentGroup:
    """The options of a run: these models, and of the other settings the named ones, or all; returns the first group."""
    parser.usage = f"{parser.prog} [OPTION ...]"
    run = add_groups(parser, (*OUT, *models, *((*SOLVER, *RUN) if names is None else names)))["run"]
    run.add_argument("--config", type=path, metavar="FILE", help="settings in TOML; flags win over them")
    run.add_argument("--preset", choices=sorted(presets()), help="settings as published; a file and flags win")
    return run


def presets() -> dict[str, Any]:
    """The shipped recipes by name: TOML files as a user writes them."""
    files = importlib.resources.files("nashward.configs").iterdir()
    return {file.name.removesuffix(".toml"): file for file in files if file.name.endswith(".toml")}
