"""The manifest of a run: its settings, the fingerprints of its models and its prompts, and the record of the machine,
as ``run.json`` holds them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nashward.errors import NashwardError
from nashward.games import Solver

from ..config.placement import Placement
from ..config.run import RunConfig
from ..data.packaged import packaged
from ..data.prompts import Prompt, Prompts
from ..oracles import CorrectedSource, EnsembleSource, as_oracle
from ..oracles.corrections.correction import base_sources
from ..oracles.fingerprint import oracle_fingerprint
from ..oracles.source_names import is_id, is_language_model
from ..policy.adapters.lora import slot_config
from ..policy.adapters.peft_format import read_config
from ..policy.local.names import local_model
from ..store.fingerprints import fingerprint

PACKAGES = ("nashward", "torch", "transformers", "peft", "bitsandbytes")


def sources(policy: Any, adapter: Any, oracle: Any, load: Callable[[], Any]) -> dict[str, Any]:
    """Policy, adapter and oracle by their ids or their paths on this disk.

    Args:
        policy, adapter, oracle: as ``SelfPlay`` has them.
        load: returns the oracle as an object, which has a name; called where it is neither an id nor a path.
    """

    if isinstance(oracle, CorrectedSource):
        inner = sources(policy, adapter, oracle.source, partial(as_oracle, oracle.source))
        return {**inner, "correct": [*inner.get("correct", ()), oracle.correct]}
    if isinstance(oracle, EnsembleSource):
        names = [sources(None, None, member, partial(as_oracle, member))["oracle"] for member in oracle.members]
        found = {**sources(policy, adapter, None, load), "combine": oracle.combine}
        if oracle.names:
            return {
                **found,
                "oracle": None,
                "objective": [f"{name}={of}" for name, of in zip(oracle.names, names, strict=True)],
            }
        return {**found, "oracle": names}

    def name(model: Any) -> str | None:
        if model is None or isinstance(model, str | Path):
            return None if model is None else str(Path(model).resolve()) if Path(model).exists() else str(model)
        return str(model.name)

    stored = oracle is None or isinstance(oracle, str | Path)
    return {"policy": name(policy), "adapter": name(adapter), "oracle": name(oracle if stored else load())}


def fingerprints(policy: Any, adapter: Any, oracle: Any, load: Callable[[], Any]) -> dict[str, str | None]:
    """The fingerprints of policy, adapter and oracle: they follow the model's content, not its path. Arguments as
    those of ``sources``."""

    def content(model: Any) -> str | None:
        if not isinstance(model, str | Path):
            return None
        try:
            path = Path(local_model(model)).expanduser()
        except (NashwardError, OSError):  # the stages that need the model say so; judging needs none
            return None
        return fingerprint(path) if path.is_dir() else None

    judge = None
    if oracle is not None:
        path = Path(packaged(oracle)).expanduser() if isinstance(oracle, str | Path) else None
        known = path is not None and (path.is_file() or path.is_dir() or is_id(oracle))
        known = known or isinstance(oracle, EnsembleSource | CorrectedSource)
        known = known and not any(map(is_language_model, base_sources(oracle)))  # whose settings the object knows
        judge = oracle_fingerprint(oracle if known else load())
    return {
        "policy_content": content(policy),
        "adapter_content": content(adapter),
        "oracle_content": judge,
    }


def settings(config: RunConfig, solver: Solver, sampling: Any, prompts: Prompts | None) -> dict[str, Any]:
    """All settings, and the fingerprint of the prompts; ``sampling`` is a source or the settings of one."""
    text = "\n".join(map(_prompt_key, prompts.kept)) if prompts is not None else None
    placement = config.placement
    return {
        "prompts": hashlib.sha256(text.encode()).hexdigest()[:16] if text is not None else None,
        "solver": _json_value(solver),
        "iterations": config.iterations,
        "responses": config.responses,
        "self_comparison": config.self_comparison,
        "mixtures": config.mixtures,
        "phases": [dataclasses.asdict(phase) for phase in config.phases] or None,
        "limits": dataclasses.asdict(config.limits),
        "prompts_per_iteration": config.prompts_per_iteration,
        "prompt_selection": config.prompt_selection,
        "prompt_floor": config.prompt_floor,
        "prompt_encoder": config.prompt_encoder,
        "seed": config.seed,
        "judge": dataclasses.asdict(config.judge),
        "endpoint": dataclasses.asdict(config.endpoint),
        "fit": dataclasses.asdict(config.fit),
        "sampling": {"source": type(sampling).__name__, **_fields(sampling)},
        "engine": config.engine,
        "engine_model": config.engine_model,
        "engine_python": config.engine_python,
        "engine_options": config.engine_options,
        "lora": dataclasses.asdict(config.lora),
        "drop_similar": config.drop_similar,
        "augment": config.augment,
        "augment_url": config.augment_url,
        "max_prompt_tokens": config.max_prompt_tokens,
        "column": config.column,
        "chat_template": config.chat_template,
        "quantise": config.quantise,
        "quantise_head": config.quantise_head,
        "plan": config.plan,
        "cache": None if config.cache is None else str(Path(config.cache).absolute()),
        "placement": dataclasses.asdict(placement)
        if isinstance(placement, Placement)
        else placement and dict(placement),
    }


def as_played(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run with the LoRA that its adapters have: that of the adapter it began from, where a user gave
    one or a loaded model has its own. The settings of the section ``lora`` are of a fresh adapter, and then unused.

    Args:
        folder: of the run.
        config: the settings that its ``run.json`` has.

    Example:
        >>> as_played(Path("no-run"), {"adapter": None, "lora": {"rank": 16}})
        {'adapter': None, 'lora': {'rank': 16}}
    """
    given, fresh = config.get("adapter"), config["lora"]
    for adapter in (folder / "start" / "adapter", *([] if given is None else [Path(given)])):
        try:
            found = slot_config(read_config(adapter))
        except (NashwardError, OSError):  # before the run has begun, or damaged
            continue
        alpha = 2 * fresh["rank"] if fresh.get("alpha") is None else fresh["alpha"]
        if given is None and (found.r, found.lora_alpha) == (fresh["rank"], alpha):
            break
        layers = found.target_modules or "all"
        targets = layers if isinstance(layers, str) else ",".join(sorted(layers))
        return {**config, "lora": {"rank": found.r, "alpha": found.lora_alpha, "targets": targets}}
    else:
        if given is not None:  # on the hub, or gone
            return {**config, "lora": dict.fromkeys(fresh, f"that of {given}")}
    return dict(config)


def environment() -> dict[str, Any]:
    """Versions, hardware and commit, for the record."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    commit = None
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine(),
        "commit": commit,
    }


def _prompt_key(prompt: Prompt) -> str:
    """A prompt's content, and its weight and its iteration where it has them."""
    weight = "" if prompt.weight == 1 else f" {prompt.weight!r}"
    return prompt.id + weight + ("" if prompt.iteration is None else f" in iteration {prompt.iteration}")


def _json_value(value: Any) -> Any:
    """A setting as JSON holds it: a solver by its name, which of a user's own is module:Class, and its settings, a
    schedule by its first values, anything else that JSON lacks by its repr."""
    if callable(getattr(value, "play", None)):
        kind = type(value)
        own = not kind.__module__.startswith("nashward.")
        return {"name": f"{kind.__module__}:{kind.__qualname__}" if own else kind.__name__, **_fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _json_value(part) for key, part in value.items()}
    if callable(value):
        return [float(value(t)) for t in range(1, 9)]
    return value if isinstance(value, str | int | float | None) else repr(value)


def _fields(settings: Any) -> dict[str, Any]:
    return {key: _json_value(value) for key, value in vars(settings).items() if not key.startswith("_")}
