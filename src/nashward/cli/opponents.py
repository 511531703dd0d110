"""Other models' responses: their files, and as opponents of a run the section ``[opponents]`` of its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError
from nashward.games import FixedOpponents, Solver
from nashward.llm.config import Opponents
from nashward.llm.config.inputs import ENDPOINT, EndpointResponses

ENDINGS = (".gz", ".jsonl", ".json", ".csv", ".parquet")


def joined(opponents: Opponents, solver: Solver) -> tuple[Solver, dict[str, Any]]:
    """The solver against these opponents, and the files of their responses; the solver as it was where there are none.

    Raises:
        FileNotFoundError: no such file, or a folder without one.
        ValueError: shares that are no numbers, of a model without a file, or without any file.
    """
    of_server = replace(opponents, responses=None, shares=None) != Opponents()
    if of_server and not str(opponents.responses).startswith(ENDPOINT):
        raise NashwardError(
            "--opponents-url, --opponent-responses and --opponent-max-tokens are of a model behind a server: give "
            "--opponents openai:MODEL"
        )
    if opponents.responses is None:
        text = opponents.shares
        if text is None:
            return solver, {}
        if "=" not in text:
            raise NashwardError(f"shares {text} are of no opponents: give their responses with --opponents")
        shares = _shares(text, sorted({part.partition("=")[0] for part in text.split(",")}))
        return FixedOpponents(solver, shares), dict.fromkeys(shares)
    if opponents.responses.startswith(ENDPOINT):
        model = opponents.responses.removeprefix(ENDPOINT)
        source = EndpointResponses(model, opponents.base_url, opponents.count, opponents.max_tokens)
        if set(model) & set(",="):
            raise NashwardError(f"{model}: the name of an opponent has no comma and no =")
        return FixedOpponents(solver, _shares(opponents.shares, [model])), {model: source}
    files = files_of(Path(opponents.responses))
    return FixedOpponents(solver, _shares(opponents.shares, list(files))), dict(files)


def _shares(text: str | None, names: Sequence[str]) -> dict[str, float]:
    text = "0.25" if text is None else text
    if "=" not in text:
        return dict.fromkeys(names, _number(text, text) / len(names))
    shares = {name: _number(share, text) for name, _, share in (part.partition("=") for part in text.split(","))}
    if set(shares) != set(names):
        odd = min(set(shares) ^ set(names))
        lacking = "no responses" if odd in shares else "no share"
        raise NashwardError(f"shares {text}: {odd} has {lacking}; there are {', '.join(names)}")
    return {name: shares[name] for name in names}


def unwrapped(solver: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """A solver as ``run.json`` describes it, without the opponents that it is played against, and their shares."""
    if solver.get("name") != FixedOpponents.__name__:
        return solver, None
    return solver["solver"], ",".join(f"{name}={share!r}" for name, share in solver["opponents"].items())


def files_of(source: Path) -> dict[str, Path]:
    """The files by the names of their models: one, or those of a folder.

    Raises:
        FileNotFoundError: no such file, or a folder without one.
        ValueError: two files of one name, or a name that shares could not be given to.
    """
    if not source.exists():
        raise FileNotFoundError(f"there is no file or folder of responses {source}")
    inside = sorted(source.iterdir()) if source.is_dir() else [source]
    files = [file for file in inside if file.is_file() and file.name.removesuffix(".gz").endswith(ENDINGS)]
    if not files:
        raise FileNotFoundError(f"{source} holds no responses; expected one file per model ({', '.join(ENDINGS[1:])})")
    models: dict[str, Path] = {}
    for file in files:
        name = file.name
        for ending in ENDINGS:
            name = name.removesuffix(ending)
        if not name or set(name) & set(",="):
            raise NashwardError(f"{file}: the name of a model has no comma and no =; rename the file")
        if name in models:
            raise NashwardError(f"{source} holds {models[name].name} and {file.name}: two files for {name}")
        models[name] = file
    return dict(sorted(models.items()))  # as a run folder has them


def _number(share: str, text: str) -> float:
    try:
        return float(share)
    except ValueError:
        raise NashwardError(f"shares {text}: expected a number, or a share for each as gpt=0.2,claude=0.1") from None
