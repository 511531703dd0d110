"""Any oracle by what a user has: an object, a checkpoint, a file of votes, a name in Python."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .checkpoint import is_id, read_config, resolve, tensor_names
from .gpm import GPM
from .pairrm import PairRM
from .pairwise import Judge
from .protocol import PreferenceOracle
from .reward_model import RewardModel
from .scalar import RewardFunction
from .vote_table import VoteTable

ACCEPTED = (
    "the folder or hub id of a PairRM, a GPM or a reward model, a .jsonl file of votes, module:name, a "
    "PreferenceOracle, an object with judge(prompts, pairs), or reward functions (prompts, completions) -> numbers"
)


def as_oracle(source: Any, *, device: str | torch.device | None = None) -> PreferenceOracle:
    """An oracle from whatever can be one.

    Args:
        source: a ``PreferenceOracle``, as it is; a folder or hub id of a checkpoint, told by its configuration (PairRM,
            GPM, reward model); a ``.jsonl`` file of votes; ``"module:name"``, an object in Python or a class that is
            made without arguments; an object with ``judge(prompts, pairs)``; a reward function
            ``(prompts, completions) -> numbers`` as TRL's trainers take it, or a list of them.
        device: for checkpoints; None: "cuda" where there is one, else "cpu".

    Raises:
        ValueError: if it is none of these.
        OSError: if a file or checkpoint cannot be found.
    """
    if isinstance(source, str | Path):
        kind = _kind(source)
        if kind is VoteTable:
            return VoteTable.from_file(source)
        if kind is None:
            return as_oracle(_named(str(source)), device=device)
        return kind.from_pretrained(source, device=device)
    if isinstance(source, type) and issubclass(source, PreferenceOracle):
        return source()
    if isinstance(source, PreferenceOracle):
        return source
    if callable(getattr(source, "judge", None)):
        return Judge(source)
    several = isinstance(source, Sequence) and len(source) > 0 and all(callable(function) for function in source)
    if callable(source) or several:
        return RewardFunction(source)
    raise ValueError(f"{source!r:.80} is no oracle; expected {ACCEPTED}")


def check_source(source: Any) -> None:
    """What can be found wrong with it before a weight is read."""
    if not isinstance(source, str | Path):
        as_oracle(source)
        return
    kind = _kind(source)
    if kind is None:
        as_oracle(_named(str(source)))
    elif kind is not VoteTable:
        kind.check(source)


def _kind(source: str | Path) -> Any:
    """The class that reads it; None for a name in Python."""
    path = Path(source).expanduser()
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        if not path.is_file():
            raise FileNotFoundError(f"there is no file of votes {source}")
        return VoteTable
    if not path.is_dir() and ":" in str(source) and not isinstance(source, Path):
        return None
    if not path.is_dir() and not is_id(source):
        raise FileNotFoundError(f"no oracle {source}: there is no such folder, and a hub id reads owner/name")
    folder = resolve(source)
    settings = read_config(folder, "an oracle: a PairRM, a GPM or a reward model")
    architectures = settings.get("architectures") or []
    if any(str(name).endswith("ForSequenceClassification") for name in architectures):
        return RewardModel
    if "value_head.weight" in tensor_names(folder):
        return GPM
    return PairRM  # its own check says what it found instead


def _named(source: str) -> Any:
    """The object of ``module:name``."""
    module, _, name = source.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{source} is no name in Python ({error}); expected module:name, the module in the working directory or "
            "installed"
        ) from None
    return found
