"""Other models' responses: their files, and as opponents of a run the section ``[opponents]`` of its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError
from nashward.games import FixedOpponents, Solver

ENDINGS = (".gz", ".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Opponents:
    """Whose stored responses a run is played against, and how much they count.

    Attributes:
        answers: a file of one model's responses, or a folder with one file a model; None: those in the run folder.
        shares: of the opponent, that of all models together, divided evenly, or each one's: "gpt=0.2,claude=0.1".
    """

    answers: str | None = None
    shares: str | None = None

    def joined(self, solver: Solver) -> tuple[Solver, dict[str, Path | None]]:
        """The solver against these opponents, and where the responses of each are; as it was where there are none.

        Raises:
            FileNotFoundError: no such file, or a folder without one.
            ValueError: shares that are no numbers, of a model without a file, or without any file.
        """
        if self.answers is None:
            if self.shares is None:
                return solver, {}
            if "=" not in self.shares:
                raise NashwardError(f"shares {self.shares} are of no opponents: give their responses with --opponents")
            shares = self._shares(sorted({part.partition("=")[0] for part in self.shares.split(",")}))
            return FixedOpponents(solver, shares), dict.fromkeys(shares)
        files = files_of(Path(self.answers))
        return FixedOpponents(solver, self._shares(list(files))), dict(files)

    def _shares(self, names: Sequence[str]) -> dict[str, float]:
        text = "0.25" if self.shares is None else self.shares
        if "=" not in text:
            return dict.fromkeys(names, _number(text, text) / len(names))
        found = {name: _number(share, text) for name, _, share in (part.partition("=") for part in text.split(","))}
        if set(found) != set(names):
            odd = min(set(found) ^ set(names))
            what = "no responses" if odd in found else "no share"
            raise NashwardError(f"shares {text}: {odd} has {what}; there are {', '.join(names)}")
        return {name: found[name] for name in names}


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
        raise FileNotFoundError(f"{source} holds no responses; expected one file a model ({', '.join(ENDINGS[1:])})")
    found: dict[str, Path] = {}
    for file in files:
        name = file.name
        for ending in ENDINGS:
            name = name.removesuffix(ending)
        if not name or set(name) & set(",="):
            raise NashwardError(f"{file}: the name of a model has no comma and no =; rename the file")
        if name in found:
            raise NashwardError(f"{source} holds {found[name].name} and {file.name}: two files for {name}")
        found[name] = file
    return dict(sorted(found.items()))  # as a run folder has them


def _number(share: str, text: str) -> float:
    try:
        return float(share)
    except ValueError:
        raise NashwardError(f"shares {text}: expected a number, or a share for each as gpt=0.2,claude=0.1") from None
