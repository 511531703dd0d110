"""Any oracle by what a user has: an object, a checkpoint, a file of votes, a name in Python."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nashward.errors import NashwardError

from ..data.library_errors import first_line, translated_errors
from ..data.prompts import FILE_TYPES
from .fitting.vote_table import VoteTable
from .models.checkpoint import is_id, read_config, resolve, tensor_names
from .models.gpm import GPM
from .models.network import OracleShape
from .models.pairrm import PairRM
from .models.reward_model import RewardModel
from .pairwise import Judge
from .protocol import PreferenceOracle
from .scalar import RewardFunction

VOTES = tuple(kind for kind in FILE_TYPES if kind != ".txt")
ACCEPTED = (
    f"the folder or hub id of a PairRM, a GPM or a reward model, a file of votes ({', '.join(VOTES)}), module:name, a "
    "PreferenceOracle, an object with judge(prompts, pairs), or reward functions (prompts, completions) -> numbers"
)


def as_oracle(source: Any, *, device: str | torch.device | None = None) -> PreferenceOracle:
    """An oracle from whatever can be one.

    Args:
        source: a ``PreferenceOracle``, as it is; a folder or hub id of a checkpoint, told by its configuration (PairRM,
            GPM, reward model); a file of votes, see ``read_votes``; ``"module:name"``, something in Python; an object
            with ``judge(prompts, pairs)``; a reward function ``(prompts, completions) -> numbers`` as TRL's trainers
            take it, or a list of them; a class of any of these that is made without arguments.
        device: for checkpoints; None: "cuda" where there is one, else "cpu".

    Raises:
        ValueError: if it is none of these, or a module or a class of one's own raises an error.
        OSError: if a file or checkpoint cannot be found.

    Example:
        >>> as_oracle("nashward.llm.oracles:Length").name
        'length'
        >>> as_oracle(lambda completions: [float(len(text)) for text in completions]).transitive
        True
    """
    if isinstance(source, str | Path):
        kind = _kind(source)
        if kind is VoteTable:
            return VoteTable.from_file(source)
        if kind is None:
            return as_oracle(_named(str(source)), device=device)
        return kind.from_pretrained(source, device=device)
    if isinstance(source, type):
        return as_oracle(_made(source), device=device)
    if isinstance(source, PreferenceOracle):
        return source
    if callable(getattr(source, "judge", None)):
        return Judge(source)
    several = isinstance(source, Sequence) and len(source) > 0 and all(callable(function) for function in source)
    if callable(source) or several:
        return RewardFunction(source)
    raise NashwardError(f"{source!r:.80} is no oracle; expected {ACCEPTED}")


def check_source(source: Any) -> Any:
    """What can be found wrong with it before a weight is read: votes are read, and objects of one's own are made.

    Args:
        source: as ``as_oracle`` takes it.

    Returns:
        What ``as_oracle`` then takes in place of the source, so that nothing is read or made twice: the oracle, or of a
        checkpoint its folder or id.

    Raises:
        ValueError, OSError: as ``as_oracle``.

    Example:
        >>> from nashward.llm.pocket import PAIRRM, POLICY
        >>> check_source(PAIRRM) == PAIRRM
        True
        >>> check_source(POLICY)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: ...policy is a causal language model (LlamaForCausalLM), not a PairRM: ...
    """
    if isinstance(source, str | Path):
        kind = _kind(source)
        if kind is not None and kind is not VoteTable:
            kind.check(source)
            return source
    return as_oracle(source)


def oracle_shape(source: Any) -> OracleShape | None:
    """What a plan needs to know of an oracle that is a checkpoint; None for anything else, and for what is loaded."""
    kind = _kind(source) if isinstance(source, str | Path) else None
    return None if kind is None or kind is VoteTable else kind.shape(source)


def _kind(source: str | Path) -> Any:
    """The class that reads it; None for a name in Python."""
    path = Path(source).expanduser()
    if path.name.removesuffix(".gz").endswith(VOTES) and not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"there is no file of votes {source}")
        return VoteTable
    drive = re.match(r"[A-Za-z]:[\\/]", str(source))  # of a path of Windows
    if not path.is_dir() and ":" in str(source) and not isinstance(source, Path) and not drive:
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
    expected = "expected module:name, the module in the working directory or installed"
    if not all(part.isidentifier() for part in module.split(".")):
        raise NashwardError(f"{source}: {module!r} is no name of a module; {expected}, without a path and without .py")

    def unread(error: BaseException) -> NashwardError:
        if isinstance(error, ImportError | AttributeError):
            return NashwardError(f"{source} is no name in Python ({first_line(error)}); {expected}")
        return NashwardError(f"{module} cannot be imported: {type(error).__name__}: {first_line(error)}")

    try:
        with translated_errors(unread):
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
    except SystemExit as error:  # a script that ends itself
        raise unread(error) from error
    return found


def _made(kind: type) -> Any:
    """An object of a class that needs nothing."""
    with translated_errors(
        lambda error: NashwardError(
            f"{kind.__name__} cannot be made without arguments: {first_line(error)}; make one in a module of your own "
            "and name that, or give the object"
        )
    ):
        return kind()
