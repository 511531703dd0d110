"""What the name of an oracle says before anything is loaded: its form, and whether there can be such a thing."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from nashward.errors import NashwardError
from nashward.python_object import python_object, split_settings

from ..config.inputs import ENDPOINT, LOCAL_JUDGE, PEOPLE
from ..data.near_path import near_path
from ..data.packaged import REAL, packaged
from ..data.rows import FILE_TYPES

VOTES = tuple(kind for kind in FILE_TYPES if kind != ".txt")
ACCEPTED = (
    f"the folder or hub id of a PairRM, a GPM or a reward model, pocket:pairrm, a file of votes ({', '.join(VOTES)}), "
    "openai:MODEL or judge:MODEL (a language model behind a server, or here), module:name or "
    "module:Class:setting=value, a PreferenceOracle, an object with judge(prompts, pairs), or reward functions "
    "(prompts, completions) -> numbers"
)

Form = Literal["votes", "python", "checkpoint"]


def is_id(name: str | Path) -> bool:
    """Whether the name has the form of a hub id, ``owner/name``."""
    return not isinstance(name, Path) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None


def is_endpoint(source: Any) -> bool:
    """Whether a source is a language model behind a server, ``openai:MODEL``.

    Example:
        >>> is_endpoint("openai:qwen3"), is_endpoint("open:AI")
        (True, False)
    """
    return isinstance(source, str) and source.startswith(ENDPOINT)


def is_local_judge(source: Any) -> bool:
    """Whether a source is a language model on this machine as a judge, ``judge:FOLDER_OR_ID``.

    Example:
        >>> is_local_judge("judge:real:smollm2-135m"), is_local_judge("judges:Mine")
        (True, False)
    """
    return isinstance(source, str) and source.startswith(LOCAL_JUDGE)


def is_language_model(source: Any) -> bool:
    """Whether a source is a language model as a judge, here or behind a server.

    Example:
        >>> is_language_model("judge:models/chat"), is_language_model("openai:qwen3"), is_language_model("models/chat")
        (True, True, False)
    """
    return is_endpoint(source) or is_local_judge(source)


def form_of(source: str | Path) -> Form:
    """Whether a name is that of a file of votes, of something in Python, or of a checkpoint.

    Raises:
        ValueError, OSError: it can be none of these.

    Example:
        >>> form_of("llm-blender/PairRM"), form_of("mine:Judge")
        ('checkpoint', 'python')
    """
    if str(source).startswith(REAL):
        raise NashwardError(
            f"{source} is a model of a package and no oracle by itself: a chat model judges as judge:{source}, an "
            f"encoder once an oracle is fitted on it (nashward fit-oracle --base {source})"
        )
    name, source = source, packaged(source)
    path = Path(source).expanduser()
    if path.name.removesuffix(".gz").endswith(VOTES) and not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"there is no file of votes {source}{near_path(path)}")
        return "votes"
    drive = re.match(r"[A-Za-z]:[\\/]", str(source))  # a path of Windows
    if not path.is_dir() and ":" in str(source) and not isinstance(source, Path) and not drive:
        return "python"
    if path.suffix == ".py" and not path.is_dir():
        raise NashwardError(
            f"{name} is a file of Python: write {path.stem}:NAME, NAME what judges in it (from the file's "
            "folder, or with the module installed)"
        )
    if path.is_file():
        raise NashwardError(f"{name} is a file, and none of votes ({', '.join(VOTES)}); expected {ACCEPTED}")
    if not path.is_dir() and not is_id(source):
        raise FileNotFoundError(
            f"no oracle {source}: there is no such folder{near_path(path)}, and a hub id reads owner/name"
        )
    return "checkpoint"


def check_name(source: str) -> None:
    """Refuse what cannot be an oracle by its spelling, and by what lies on the disk and on the hub.

    No package that is slow to load is needed for that.

    Raises:
        ValueError, OSError: as ``as_oracle``.

    Example:
        >>> check_name("pocket:pairm")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: there is no pocket:pairm; there are pocket:policy, pocket:pairrm, ...
    """
    if is_local_judge(source):
        packaged(source.removeprefix(LOCAL_JUDGE))
        return
    if is_endpoint(source) or source.startswith(PEOPLE):
        return
    form = form_of(source)
    if form == "checkpoint" and not Path(packaged(source)).expanduser().is_dir():
        from ..policy.local.hub import check_on_hub  # here, as nothing else asks the hub before there is work to do

        check_on_hub(source, "config.json")
    if form != "python":
        return
    module = source.partition(":")[0].partition(".")[0]
    if not module.isidentifier() or (module not in sys.modules and find_spec(module) is None):
        python_object(split_settings(source)[0])  # raises
