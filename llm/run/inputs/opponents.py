"""The fixed opponents of a run: stored responses of other models, which a step is played against and never fitted on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from nashward.errors import NashwardError
from nashward.llm.data.prompts import Prompt
from nashward.llm.data.responses import read_prompts_with_responses
from nashward.llm.policy.handles import StoredResponses
from nashward.llm.store.files import lines, read_lines
from nashward.llm.store.run_folder import RunFolder
from nashward.llm.store.saved_inputs import keep, kept, sum_of

FILE = "opponents.jsonl"  # in the run folder
Told: TypeAlias = dict[str, dict[str, list[str]]]  # the responses to each prompt, by its id, of each member


@dataclass
class StoredOpponents:
    """The fixed opponents of a run, as it was given and as the run folder keeps it.

    Attributes:
        given: for each member a file (.jsonl, .json, .csv, .parquet, each also gzipped), the id of a dataset, or rows.
            A row has a prompt as those of ``read_prompts`` do, and the response as ``output``, ``response`` or
            ``text``, or several as ``responses``; rows of one prompt add up, and a response that is null is none. Or
            the responses by the ids of their prompts, which are taken as they are. None: what the folder holds.
        column: the field that holds the prompt where there is one of this name, in place of the usual ones.

    Example:
        >>> opponents = StoredOpponents({"rival": [{"prompt": "Name a river.", "responses": ["The Rhine.", "The Nile."]}]})
        >>> opponents.told["rival"]
        {'a5316a703e09fdf0': ['The Rhine.', 'The Nile.']}
    """

    given: Mapping[str, str | Path | Iterable[Any] | None]
    column: str | None = None

    @cached_property
    def told(self) -> Told | None:
        """What was given, read: for each member, by the prompts' ids, its responses. None where there is no opponent, or
        the folder's is to be taken.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a row without a prompt or a response, or with an empty one (it is numbered); no row at all.
        """
        sources = {name: source for name, source in self.given.items() if source is not None}
        if not sources or len(sources) < len(self.given):
            return None
        return {
            name: {prompt: list(texts) for prompt, texts in source.items()}
            if isinstance(source, Mapping)
            else _read(source, name, self.column)
            for name, source in sources.items()
        }

    @property
    def fingerprint(self) -> str | None:
        """Tells one set of opponents from another; None where nothing was given."""
        return None if self.told is None else sum_of(_content(self.told))

    def members(self, home: RunFolder, prompts: Sequence[Prompt]) -> dict[str, StoredResponses]:
        """Who is played against on these prompts.

        Raises:
            ValueError: a prompt that a member has no response to; a member that was not given nor is in the folder.
        """
        told = self.told if self.told is not None else _kept(home)
        found = {}
        for k, name in enumerate(sorted(self.given), 1):  # whatever the order in which they were given
            if name not in told:
                raise NashwardError(f"{home.path} does not hold the responses of {name}; give the file that has them")
            lacking = [prompt for prompt in prompts if not told[name].get(prompt.id)]
            if lacking:
                raise NashwardError(
                    f"{name} has no response to {len(lacking)} of {len(prompts)} prompts, the first of them "
                    f"{lacking[0].text!r:.60}; give one to each, or leave these prompts out"
                )
            found[name] = StoredResponses(f"opponent-{k}", told[name])
        return found

    def keep(self, home: RunFolder) -> None:
        """Write what was given into the run folder, whose ``run.json`` has its fingerprint, if it is not there.

        Raises:
            OSError: it cannot be written.
        """
        if self.told is not None:
            keep(home, FILE, "opponents", _content(self.told))


def _content(told: Told) -> bytes:
    return lines([{"member": k, "prompt": p, "responses": r} for k, own in told.items() for p, r in own.items()])


def _kept(home: RunFolder) -> Told:
    """The opponents in a run folder; nobody where there is none, or another one than its ``run.json`` has pinned."""
    told: Told = {}
    for row in read_lines(home / FILE) if kept(home, FILE, "opponents") is not None else []:
        told.setdefault(row["member"], {})[row["prompt"]] = row["responses"]
    return told


def _read(source: str | Path | Iterable[Any], name: str, column: str | None) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for prompt, texts in read_prompts_with_responses(source, name, column):
        told.setdefault(prompt.id, []).extend(texts)
    if not any(told.values()):
        raise NashwardError(f"{source if isinstance(source, str | Path) else name} holds no responses")
    return told
