"""The prompts of a run: what was given, what of it is played on, and what the run folder keeps."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError
from nashward.llm.data.prompts import Prompt, Prompts, read_prompts
from nashward.llm.policy.chat_template import prompt_length
from nashward.llm.store.files import atomic_write, lines, read_lines
from nashward.llm.store.run_folder import PROMPTS, RunFolder


@dataclass
class RunPrompts:
    """The prompts of a run, as they were given or as the run folder keeps them.

    Attributes:
        given: a file, a dataset id, or rows; see ``read_prompts``. None: those that the folder holds.
        home: the run folder.
        column: the field that holds the prompt, where it is not one of the usual ones.
        longest: in tokens; longer prompts are dropped, and counted.
    """

    given: str | Path | Iterable[Any] | None
    home: RunFolder
    column: str | None
    longest: int
    _tokens: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def told(self) -> Prompts | None:
        """What was given, before any is dropped for its length; None: nothing was. Raises as ``read_prompts`` does."""
        return None if self.given is None else read_prompts(self.given, self.column)

    def played(self, tokenizer: Any | None) -> Prompts:
        """The prompts to play on: the folder's, or of those given the ones that the chat template takes and that are
        short enough (None: that is not asked).

        Raises:
            ValueError: none were given and the folder holds none; none is left.
        """
        if self.home.started and self._whole:
            self._tokens = {row["id"]: row["tokens"] for row in read_lines(self.home / PROMPTS)}
            return read_prompts(self.home / PROMPTS)
        if self.told is None:
            raise NashwardError(f"{self.home.path} holds no prompts yet; give a file or a dataset id")
        prompts = Prompts(list(self.told.kept), self.told.read, Counter(self.told.dropped))
        if tokenizer is not None:
            lengths = [prompt_length(tokenizer, prompt) for prompt in prompts.kept]
            prompts.drop([length is not None for length in lengths], "refused by the chat template")
            kept = [length for length in lengths if length is not None]
            self._tokens = {prompt.id: length for prompt, length in zip(prompts.kept, kept, strict=True)}
            prompts.drop([n <= self.longest for n in kept], f"longer than {self.longest} tokens")
        if not prompts.kept:
            raise NashwardError(f"no prompt is left: {prompts}")
        return prompts

    def length(self, prompt: Prompt) -> int:
        """Of one of those that are played on: its tokens, or where no tokenizer was asked its characters."""
        return self._tokens.get(prompt.id, len(prompt.text))

    def record(self, prompts: Prompts) -> dict[str, Any]:
        """What ``run.json`` holds of the prompts that are played on.

        Raises:
            ValueError: the folder's own are damaged, and these are others.
        """
        content = self._content(prompts)
        data = {"prompts": len(prompts.kept), "sha256": hashlib.sha256(content).hexdigest()}
        if self.home.started and not self._whole and self.home.read()["data"] != data:
            raise NashwardError(
                f"{self.home / PROMPTS} is damaged and the prompts given now make others; restore it, or give the "
                "prompts that the run began with"
            )
        return {"prompts": str(self.given) if isinstance(self.given, str | Path) else "rows", "data": data}

    def keep(self, prompts: Prompts) -> None:
        """Write them into the run folder, whose ``run.json`` has their fingerprint, if they are not there."""
        if self._whole:
            return
        file = self.home / PROMPTS
        if self.home.started and file.exists():
            self.home.set_aside(file, f"{file} was altered or cut")
        with atomic_write(file) as unfinished:
            unfinished.write_bytes(self._content(prompts))

    @property
    def _whole(self) -> bool:
        """Whether the folder's prompts are those that ``run.json`` pins."""
        file, pinned = self.home / PROMPTS, self.home.read().get("data", {})
        return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == pinned.get("sha256")

    def _content(self, prompts: Prompts) -> bytes:
        rows = [
            {
                "messages": list(prompt.messages),
                "id": prompt.id,
                "tokens": self.length(prompt),
                **({} if prompt.weight == 1 else {"weight": prompt.weight}),
            }
            for prompt in prompts.kept
        ]
        return lines(rows)
