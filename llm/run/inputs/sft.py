"""Texts of supervised fine-tuning beside a run: those given, those that are trained on, those that its folder keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import NashwardError, RefusedPromptError
from nashward.shortened import quoted

from ...data.prompts import Prompt
from ...data.responses import read_prompts_with_responses
from ...store.files import to_jsonl
from ...store.fingerprints import fingerprint_content
from ...store.run_folder import RunFolder
from ...store.saved_inputs import SavedInput
from ...training.sft import encode


@dataclass
class SFTFile:
    """Prompts with responses to fine-tune on beside the alignment, from their source or from the run folder.

    Attributes:
        source: a file (.jsonl, .json, .csv, .parquet, each also gzipped), the id of a dataset, or rows; a row has a
            prompt as those of ``read_prompts`` do, and the response as ``output``, ``response`` or ``text``, or several
            as ``responses``. None: what the folder holds.
        home: the run folder.
        column: the field that holds the prompt where there is one of this name, in place of the usual ones.
    """

    source: str | Path | Iterable[Any] | None
    home: RunFolder
    column: str | None = None

    @cached_property
    def texts(self) -> list[tuple[Prompt, str]]:
        """Each prompt with a response; empty where the run has none.

        Raises:
            FileNotFoundError: no such file.
            NashwardError: a row without a prompt or a response; fewer than two; the folder's file is damaged.
        """
        if self.source is None and self._saved.digest is None:
            return []
        path = self.home / self._saved.file
        if self.source is None and self._saved.load() is None:
            raise NashwardError(f"{path} was altered or lost; give the SFT texts that the run began with")
        source = path if self.source is None else self.source
        texts = [
            (prompt, text)
            for prompt, responses in read_prompts_with_responses(source, "sft", self.column)
            for text in responses
        ]
        if len(texts) < 2:
            where = source if isinstance(source, str | Path) else "sft"
            raise NashwardError(
                f"{where} holds {counted(len(texts), 'response')}; expected 2 at least, to train on and to hold out"
            )
        return texts

    @property
    def fingerprint(self) -> str | None:
        """A fingerprint of the texts; None where the run has none."""
        return fingerprint_content(self._content) if self.texts else None

    def save(self) -> None:
        """Write the texts into the run folder, whose ``run.json`` has their hash, unless they are there already.

        Raises:
            OSError: they cannot be written.
        """
        if self.texts:
            self._saved.save(self._content)

    def within(self, tokenizer: Any, max_tokens: int | None) -> list[tuple[Prompt, str]]:
        """The texts of at most ``max_tokens`` tokens with their prompt (None: all): a pass of them takes no more memory
        than one of the run's own responses.

        Raises:
            NashwardError: the chat template refuses a prompt; fewer than two are left.
        """
        short = []
        for prompt, response in self.texts:
            try:
                prompt_ids, response_ids = encode(tokenizer, prompt, response)
            except RefusedPromptError as error:
                raise NashwardError(f"{quoted(prompt.text, 60)} of the SFT texts cannot be used: {error}") from None
            if max_tokens is None or len(prompt_ids) + len(response_ids) <= max_tokens:
                short.append((prompt, response))
        if self.texts and len(short) < 2:
            raise NashwardError(
                f"{len(short)} of {len(self.texts)} SFT texts are at most {max_tokens} tokens long "
                "(--max-prompt-tokens and --max-new-tokens together); expected 2 at least"
            )
        return short

    @property
    def _saved(self) -> SavedInput:
        return SavedInput(self.home, "sft.jsonl", ("config", "sft"))

    @cached_property
    def _content(self) -> bytes:
        return to_jsonl([{"messages": list(prompt.messages), "response": text} for prompt, text in self.texts])
