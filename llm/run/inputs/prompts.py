"""The prompts of a run: those given, those that it plays on, and those that its folder keeps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import NashwardError

from ...config.fit import Fit
from ...data.near_duplicates import drop_near_duplicates
from ...data.prompts import Prompt, Prompts, read_prompts
from ...policy.chat_template import drop_refused
from ...store.files import read_jsonl, sha256, to_jsonl
from ...store.run_folder import PROMPTS, RunFolder
from ...store.saved_inputs import SavedInput

FEW = 100  # prompts, with which the standard error of a win rate can be 0.05


def few_prompts(prompts: int, fit: Fit) -> str | None:
    """What a fit can learn from so few prompts, and how well its win rate is known; None of 100 or more.

    A mean of n values in [0, 1] has a standard error of at most 1/(2 sqrt(n)).

    Example:
        >>> few_prompts(160, Fit()) is None
        True
    """
    if prompts >= FEW:
        return None
    trained, validation, held_out = fit.parts(prompts)
    measured = f"{held_out} held out to measure it" if held_out else "none held out to measure it"
    decided = f", {validation or 'none'} to decide how far it goes"
    return (
        f"{counted(prompts, 'prompt')}, few to learn from: a fit trains on {trained}, with {measured}{decided}, and a "
        f"win rate has a standard error of up to {0.5 / math.sqrt(prompts):.2f}. A few hundred show an effect on other "
        "prompts (docs/recipe.md, How many prompts?)"
    )


@dataclass
class RunPrompts:
    """The prompts of a run, from their source or from the run folder.

    Attributes:
        source: a file, a dataset id, or rows; see ``read_prompts``. None: those that the folder holds.
        home: the run folder.
        column: the field that holds the prompt, where it is not one of the usual ones.
        max_tokens: longer prompts are dropped, and counted.
        drop_similar: prompts that are at least this similar to an earlier one are dropped too; None: they are kept.
    """

    source: str | Path | Iterable[Any] | None
    home: RunFolder
    column: str | None
    max_tokens: int
    drop_similar: float | None = None
    _lengths: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def parsed(self) -> Prompts | None:
        """The prompts in the source, before any is dropped for its length; None where no source is given.

        Raises:
            FileNotFoundError, NashwardError: see ``read_prompts``.
        """
        return None if self.source is None else read_prompts(self.source, self.column)

    def load(self, tokenizer: Any | None) -> Prompts:
        """The prompts to play on: the folder's once the run has computed something, else those of the source (of none:
        the folder's) that the chat template takes and that are short enough (without a tokenizer: all of them).

        Raises:
            NashwardError: no source is given and the folder holds no prompts; no prompt is left.
        """
        parsed = self.parsed
        if self._is_saved and (parsed is None or self.home.computed):
            self._lengths = {row["id"]: row["tokens"] for row in read_jsonl(self.home / PROMPTS)}
            parsed = read_prompts(self.home / PROMPTS)
            if self.home.computed:
                return parsed
        if parsed is None:
            raise NashwardError(f"{self.home.path} holds no prompts yet; give a file or a dataset id")
        prompts = Prompts(list(parsed.kept), parsed.read, Counter(parsed.dropped), answered=parsed.answered)
        if self.drop_similar is not None:
            drop_near_duplicates(prompts, self.drop_similar)
        if tokenizer is not None:
            ids = drop_refused(tokenizer, prompts, self.max_tokens)
            self._lengths = {prompt.id: len(own) for prompt, own in zip(prompts.kept, ids, strict=True)}
        return prompts

    def length(self, prompt: Prompt) -> int:
        """The tokens of a prompt that is played on; its characters where it was loaded without a tokenizer."""
        return self._lengths.get(prompt.id, len(prompt.text))

    def record(self, prompts: Prompts) -> dict[str, Any]:
        """What ``run.json`` holds of the prompts that are played on.

        Raises:
            NashwardError: the folder's own are damaged, and these are others.
        """
        data = {"prompts": len(prompts.kept), "sha256": sha256(self._content(prompts))}
        if self.home.computed and not self._is_saved and self.home.read()["data"] != data:
            raise NashwardError(
                f"{self.home / PROMPTS} is damaged and the prompts given now make others; restore it, or give the "
                "prompts that the run began with"
            )
        if self.source is None:  # the folder's, whose name it has
            return {"data": data}
        return {"prompts": str(self.source) if isinstance(self.source, str | Path) else "rows", "data": data}

    def save(self, prompts: Prompts) -> None:
        """Write the prompts into the run folder, whose ``run.json`` has their hash, unless they are there already.

        Raises:
            OSError: they cannot be written.
        """
        self._saved.save(self._content(prompts))

    @property
    def _saved(self) -> SavedInput:
        return SavedInput(self.home, PROMPTS, ("data", "sha256"))

    @property
    def _is_saved(self) -> bool:
        """Whether the folder's prompts are those whose hash ``run.json`` has."""
        return self._saved.load() is not None

    def _content(self, prompts: Prompts) -> bytes:
        rows = [
            {
                "messages": list(prompt.messages),
                "id": prompt.id,
                "tokens": self.length(prompt),
                **({} if prompt.weight == 1 else {"weight": prompt.weight}),
                **({} if prompt.iteration is None else {"iteration": prompt.iteration}),
            }
            for prompt in prompts.kept
        ]
        return to_jsonl(rows)
