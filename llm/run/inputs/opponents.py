"""The fixed opponents of a run: stored responses of other models, which are played against and never fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import quoted

from ...config.endpoint import Endpoint
from ...config.inputs import EndpointResponses
from ...data.prompts import Prompt
from ...data.responses import read_prompts_with_responses
from ...policy.handles import StoredResponses
from ...store.files import read_jsonl, to_jsonl
from ...store.fingerprints import fingerprint_content
from ...store.run_folder import RunFolder
from ...store.saved_inputs import SavedInput
from .drawn_opponents import FILE, DrawnTexts

OpponentSource: TypeAlias = str | Path | Iterable[Any] | EndpointResponses | None  # see ``StoredOpponents``
ResponsesByMember: TypeAlias = dict[str, dict[str, list[str]]]  # by the member's name and the prompt's id


@dataclass
class StoredOpponents:
    """The fixed opponents of a run, from their sources or from the run folder.

    Attributes:
        sources: for each member a file (.jsonl, .json, .csv, .parquet, each also gzipped), the id of a dataset, or
            rows. A row has a prompt as those of ``read_prompts`` do, and the response as ``output``, ``response`` or
            ``text``, or several as ``responses``; rows of one prompt add up, and a response that is null does not
            count. Or the responses by the ids of their prompts, which are taken as they are. ``EndpointResponses``: a
            model behind a server, which responds when its texts are looked up. None: what the folder holds.
        column: the field that holds the prompt where there is one of this name, in place of the usual ones.
        endpoint: how a server is called.

    Example:
        >>> row = {"prompt": "Name a river.", "responses": ["The Rhine.", "The Nile."]}
        >>> StoredOpponents({"rival": [row]}).responses["rival"]
        {'a5316a703e09fdf0': ['The Rhine.', 'The Nile.']}
    """

    sources: Mapping[str, OpponentSource]
    column: str | None = None
    endpoint: Endpoint = field(default_factory=Endpoint)

    @classmethod
    def of_run(cls, home: RunFolder) -> StoredOpponents:
        """The opponents that the run in a folder plays against, as the folder holds them."""
        drawn = home.read().get("config", {}).get("drawn_opponents") or ""
        return cls(dict.fromkeys([*_load(home), *(part.partition(": ")[0] for part in drawn.split("; ") if part)]))

    @cached_property
    def responses(self) -> ResponsesByMember | None:
        """The responses in the sources; None where there are no opponents, or those of the folder are to be taken.

        Raises:
            FileNotFoundError: no such file.
            NashwardError: a row without a prompt or a response, or with an empty one (it is numbered); no row at all.
        """
        stored = {name: source for name, source in self.sources.items() if not isinstance(source, EndpointResponses)}
        sources = {name: source for name, source in stored.items() if source is not None}
        if not sources or len(sources) < len(stored):
            return None
        return {
            name: {prompt: list(texts) for prompt, texts in source.items()}
            if isinstance(source, Mapping)
            else _read(source, name, self.column)
            for name, source in sources.items()
        }

    @property
    def fingerprint(self) -> str | None:
        """A fingerprint of the responses; None where no sources are given."""
        return None if self.responses is None else fingerprint_content(_content(self.responses))

    @property
    def drawn(self) -> str | None:
        """The models behind servers, and what their responses depend on; None where there are none."""
        parts = [
            f"{name}: {source.model}, {source.count} of at most {source.max_tokens} tokens"
            for name, source in sorted(self.sources.items())
            if isinstance(source, EndpointResponses)
        ]
        return "; ".join(parts) or None

    def members(self, home: RunFolder, prompts: Sequence[Prompt]) -> dict[str, StoredResponses]:
        """The opponents, by their names, on these prompts.

        Raises:
            NashwardError: a member without a response to a prompt; a member that is neither given nor in the folder.
        """
        responses = self.responses if self.responses is not None else _load(home)
        members = {}
        for k, name in enumerate(sorted(self.sources), 1):  # in one order, however they were given
            source = self.sources[name]
            kept = source is None and name not in responses and (home / FILE).is_file()
            if kept or isinstance(source, EndpointResponses):
                model = source if isinstance(source, EndpointResponses) else None
                texts = DrawnTexts(home / FILE, name, prompts, model, self.endpoint)
                members[name] = StoredResponses(f"opponent-{k}", texts)
                continue
            if name not in responses:
                raise NashwardError(f"{home.path} does not hold the responses of {name}; give the file that has them")
            lacking = [prompt for prompt in prompts if not responses[name].get(prompt.id)]
            if lacking:
                raise NashwardError(
                    f"{name} has no response to {len(lacking)} of {counted(len(prompts), 'prompt')}, the first of them "
                    f"{quoted(lacking[0].text, 60)}; give one to each, or leave these prompts out"
                )
            members[name] = StoredResponses(f"opponent-{k}", responses[name])
        return members

    def save(self, home: RunFolder) -> None:
        """Write the responses into the run folder, whose ``run.json`` has their hash, unless they are there already.

        Raises:
            OSError: they cannot be written.
        """
        if self.responses is not None:
            _saved(home).save(_content(self.responses))


def _saved(home: RunFolder) -> SavedInput:
    return SavedInput(home, "opponents.jsonl", ("config", "opponents"))


def _content(responses: ResponsesByMember) -> bytes:
    return to_jsonl(
        [
            {"member": name, "prompt": prompt, "responses": texts}
            for name, by_prompt in responses.items()
            for prompt, texts in by_prompt.items()
        ]
    )


def _load(home: RunFolder) -> ResponsesByMember:
    """The opponents in a run folder; empty where it holds none, or others than those whose hash ``run.json`` has."""
    saved = _saved(home)
    responses: ResponsesByMember = {}
    for row in read_jsonl(home / saved.file) if saved.load() is not None else []:
        responses.setdefault(row["member"], {})[row["prompt"]] = row["responses"]
    return responses


def _read(source: str | Path | Iterable[Any], name: str, column: str | None) -> dict[str, list[str]]:
    responses: dict[str, list[str]] = {}
    for prompt, texts in read_prompts_with_responses(source, name, column):
        responses.setdefault(prompt.id, []).extend(texts)
    if not any(responses.values()):
        raise NashwardError(f"{source if isinstance(source, str | Path) else name} holds no responses")
    return responses
