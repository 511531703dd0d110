"""What pins a run: its settings, and what tells its models and its prompts from others, as ``run.json`` holds them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.prompts import Prompt, Prompts
from ..oracles.fingerprint import oracle_fingerprint
from ..oracles.models.checkpoint import is_id
from ..policy.placement import Placement
from ..store.fingerprints import fingerprint

if TYPE_CHECKING:
    from .selfplay import SelfPlay


def named(play: SelfPlay) -> dict[str, str | None]:
    """Policy, adapter and oracle by their ids or their places on this disk."""

    def name(model: Any) -> str | None:
        if model is None or isinstance(model, str | Path):
            return None if model is None else str(Path(model).resolve()) if Path(model).exists() else str(model)
        return str(model.name)

    oracle = play.oracle if play.oracle is None or isinstance(play.oracle, str | Path) else play.judge
    return {"policy": name(play.policy), "adapter": name(play.adapter), "oracle": name(oracle)}


def contents(play: SelfPlay) -> dict[str, str | None]:
    """What tells policy, adapter and oracle from others at the same place, and finds them again at another."""

    def content(model: Any) -> str | None:
        path = Path(model).expanduser() if isinstance(model, str | Path) else None
        return fingerprint(path) if path is not None and path.is_dir() else None

    oracle = None
    if play.oracle is not None:
        stored = isinstance(play.oracle, str | Path)
        known = stored and (Path(play.oracle).expanduser().exists() or is_id(play.oracle))
        oracle = oracle_fingerprint(play.oracle if known else play.judge)
    return {"policy_content": content(play.policy), "adapter_content": content(play.adapter), "oracle_content": oracle}


def settings(play: SelfPlay, prompts: Prompts | None) -> dict[str, Any]:
    """All that was asked for, and the fingerprint of the prompts."""
    source = "\n".join(map(_told_apart, prompts.kept)) if prompts is not None else None
    placement = play.placement
    return {
        "prompts": hashlib.sha256(source.encode()).hexdigest()[:16] if source is not None else None,
        "solver": _plain(play.solver),
        "iterations": play.iterations,
        "responses": play.responses,
        "self_comparison": play.self_comparison,
        "mixtures": play.mixtures,
        "phases": [dataclasses.asdict(phase) for phase in play.phases] or None,
        "limits": dataclasses.asdict(play.limits),
        "prompts_per_iteration": play.prompts_per_iteration,
        "seed": play.seed,
        "fit": dataclasses.asdict(play.fit),
        "sampling": {"source": type(play.sampling).__name__, **_fields(play.sampling)},
        "lora": dataclasses.asdict(play.lora),
        "max_prompt_tokens": play.max_prompt_tokens,
        "column": play.column,
        "chat_template": play.chat_template,
        "quantise": play.quantise,
        "quantise_head": play.quantise_head,
        "plan": play.plan,
        "cache": None if play.cache is None else str(Path(play.cache).absolute()),
        "placement": dataclasses.asdict(placement)
        if isinstance(placement, Placement)
        else placement and dict(placement),
    }


def _told_apart(prompt: Prompt) -> str:
    """A prompt's content, and its weight where it has one."""
    return prompt.id if prompt.weight == 1 else f"{prompt.id} {prompt.weight!r}"


def _plain(value: Any) -> Any:
    """A setting as JSON holds it: a solver by its name and its settings, a schedule by its first values, anything else
    that JSON lacks by its repr."""
    if callable(getattr(value, "play", None)):
        return {"name": type(value).__name__, **_fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if callable(value):
        return [float(value(t)) for t in range(1, 9)]
    return value if isinstance(value, str | int | float | None) else repr(value)


def _fields(settings: Any) -> dict[str, Any]:
    return {key: _plain(value) for key, value in vars(settings).items() if not key.startswith("_")}
