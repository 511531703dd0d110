"""Opponents whose responses a server draws while a run is judged: each is kept in the run folder when it arrives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

from nashward.errors import EndpointError, NashwardError
from nashward.shortened import quoted

from ...clients.chat import END_OF_THOUGHT, Chat, Completion
from ...clients.client import Client
from ...clients.paid import PaidOutputs
from ...config.endpoint import Endpoint, server_url
from ...config.inputs import EndpointResponses
from ...data.prompts import Prompt
from ...processes import processes

FILE = "opponents.outputs.sqlite"


class DrawnTexts(Mapping[str, Sequence[str]]):
    """The responses of a model behind a server to prompts, by their ids; drawn when they are first looked up.

    Args:
        file: where they are kept.
        name: the opponent's name.
        prompts: those of the run.
        source: the model; None: what the file holds is all.
        endpoint: how the server is called.

    Raises:
        EndpointError: from a look-up: the server does not answer, or writes nothing.
        NashwardError: from a look-up: the file lacks a response, and there is no source.
    """

    def __init__(
        self,
        file: Path,
        name: str,
        prompts: Sequence[Prompt],
        source: EndpointResponses | None,
        endpoint: Endpoint,
    ) -> None:
        self.name, self.source, self._file = name, source, file
        self._prompts = {prompt.id: prompt for prompt in prompts}
        self._endpoint = endpoint
        self._texts: dict[str, list[str]] = {}
        self._first_call = processes.once(f"first call of {name} in {file}")

    def __getitem__(self, prompt: str) -> list[str]:
        if prompt not in self._prompts:
            raise KeyError(prompt)
        self.fetch([prompt])
        return self._texts[prompt]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prompts)

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def count(self) -> int:
        """Responses to a prompt."""
        return 1 if self.source is None else self.source.count

    def fetch(self, prompts: Sequence[str]) -> None:
        """Have the responses to these prompts, by their ids: from the file, or several drawn at once."""
        wanted = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        if not wanted:
            return
        if self.source is None:
            for prompt in wanted:
                kept = self._kept(prompt)
                if not kept:
                    raise NashwardError(
                        f"{self._file} has no response of {self.name} to {quoted(self._prompts[prompt].text, 60)}; "
                        "name the model again with --opponents openai:MODEL"
                    )
                self._texts[prompt] = kept
            return
        outputs = {(prompt, k): self._paid.get(self._key(prompt, k)) for prompt in wanted for k in range(self.count)}
        missing = [job for job, output in outputs.items() if output is None]
        if missing:
            self._announce(len(missing))
            for number, output in self._chat.client.as_completed(self._draw, missing):
                outputs[missing[number]] = output
        for prompt in wanted:
            self._texts[prompt] = [self._text(prompt, outputs[prompt, k]) for k in range(self.count)]

    @cached_property
    def _paid(self) -> PaidOutputs:
        return PaidOutputs(self._file)

    @cached_property
    def _chat(self) -> Chat:
        assert self.source is not None
        return Chat(Client(server_url(self.source.base_url), self._endpoint), self.source.model)

    def _announce(self, calls: int) -> None:
        if self._first_call():
            self._chat.client.announce(f"prompts, for {self.name} to respond to as an opponent, {calls} calls at first")

    def _draw(self, job: tuple[str, int]) -> Completion:
        assert self.source is not None
        key = self._key(*job)
        seed = int.from_bytes(key[:8], "big")
        messages = [{"role": turn["role"], "content": turn["content"]} for turn in self._prompts[job[0]].messages]
        output = self._chat.complete(messages, self.source.max_tokens, 1.0, seed)
        self._paid.put(key, self.name, output)
        return output

    def _kept(self, prompt: str) -> list[str]:
        """What the file holds."""
        if not self._file.is_file():
            return []
        texts: list[str] = []
        while (output := self._paid.get(self._key(prompt, len(texts)))) is not None:
            texts.append(self._text(prompt, output))
        return texts

    def _text(self, prompt: str, output: Completion | None) -> str:
        """The response, without the thoughts of a model that thinks."""
        text = "" if output is None else output.text.rpartition(END_OF_THOUGHT)[2].strip()
        if not text:
            raise EndpointError(
                f"{self.name} wrote nothing in response to {quoted(self._prompts[prompt].text, 60)}; leave the prompt "
                "out, or raise --opponent-max-tokens, which thoughts count towards"
            )
        return text

    def _key(self, prompt: str, number: int) -> bytes:
        return blake2b(repr((self.name, prompt, number)).encode(), digest_size=16).digest()
