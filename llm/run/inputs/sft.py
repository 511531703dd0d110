"""Task texts from a file: what is read, what of it can be trained on, and what the run folder keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from nashward.errors import NashwardError
from nashward.llm.data.prompts import Prompt
from nashward.llm.data.responses import read_prompts_with_responses
from nashward.llm.store.files import lines
from nashward.llm.store.run_folder import RunFolder
from nashward.llm.store.saved_inputs import keep, kept, pinned, sum_of
from nashward.llm.training.sft import encode

FILE, KEY = "task.jsonl", "task"  # in the run folder, and in its ``run.json``


@dataclass
class TaskFile:
    """The prompts and responses of a task, as they were given or as the run folder keeps them.

    Attributes:
        given: a file (.jsonl, .json, .csv, .parquet, each also gzipped), the id of a dataset, or rows; a row has a
            prompt as those of ``read_prompts`` do, and the response as ``output``, ``response`` or ``text``, or several
            as ``responses``. None: what the folder holds.
        home: the run folder.
        column: the field that holds the prompt where there is one of this name, in place of the usual ones.
    """

    given: str | Path | Iterable[Any] | None
    home: RunFolder
    column: str | None = None

    @cached_property
    def texts(self) -> list[tuple[Prompt, str]]:
        """Each prompt with a response; empty where the run has no task.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a row without a prompt or a response; fewer than two; the folder lost its own.
        """
        if self.given is None and pinned(self.home, KEY) is None:
            return []
        if self.given is None and kept(self.home, FILE, KEY) is None:
            raise NashwardError(f"{self.home / FILE} was altered or lost; give the task texts that the run began with")
        source = self.home / FILE if self.given is None else self.given
        found = [
            (prompt, text)
            for prompt, own in read_prompts_with_responses(source, "the task", self.column)
            for text in own
        ]
        if len(found) < 2:
            where = source if isinstance(source, str | Path) else "the task"
            raise NashwardError(
                f"{where} holds {len(found)} responses; expected 2 at least, to train on and to hold out"
            )
        return found

    @property
    def fingerprint(self) -> str | None:
        """Tells one task from another; None where there is none."""
        return sum_of(self._content) if self.texts else None

    def keep(self) -> None:
        """Write the texts into the run folder, whose ``run.json`` has their fingerprint, if they are not there."""
        if self.texts:
            keep(self.home, FILE, KEY, self._content)

    def kept(self, tokenizer: Any, longest: int | None) -> list[tuple[Prompt, str]]:
        """Those that are at most so many tokens long with their prompt: a pass of them takes no more memory than one
        of the run's own responses (None: all).

        Raises:
            ValueError: the chat template refuses a prompt; fewer than two are left.
        """
        found = []
        for prompt, response in self.texts:
            try:
                asked, answer = encode(tokenizer, prompt, response)
            except TemplateError as error:
                raise NashwardError(f"the chat template refuses {prompt.text!r:.60} of the task ({error})") from None
            if longest is None or len(asked) + len(answer) <= longest:
                found.append((prompt, response))
        if self.texts and len(found) < 2:
            raise NashwardError(
                f"{len(found)} of {len(self.texts)} task texts are at most {longest} tokens long (--max-prompt-tokens "
                "and --max-new-tokens together); expected 2 at least"
            )
        return found

    @cached_property
    def _content(self) -> bytes:
        return lines([{"messages": list(prompt.messages), "response": text} for prompt, text in self.texts])
