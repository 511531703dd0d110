"""Prompts that are written while a run goes on: paraphrases and harder variants of those that teach the most."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from nashward.errors import NashwardError

from ...clients.chat import END_OF_THOUGHT, Chat
from ...clients.client import Client
from ...clients.paid import PaidOutputs
from ...clients.paid_calls import request_key
from ...config.endpoint import server_url
from ...config.inputs import ENDPOINT
from ...config.run import RunConfig
from ...data.near_duplicates import near_duplicates, words
from ...data.prompts import Prompt
from ...data.rows import is_unicode
from ...policy.engines.engine import EngineSource
from ...policy.handles import Adapter
from ...policy.model import LanguageModel
from ...policy.sampling import GenerateSource, ResponseSource, seed_of
from ...store.files import to_jsonl
from ...store.run_folder import AUGMENTED, RunFolder
from ...store.saved_inputs import saved_in_step
from ..rollouts import PromptNumbers, RolloutStore
from ..signals import stop_at_once
from .augmented_prompts import prompt_of, row_of
from .parts import divide

SHARE = 0.2  # of an iteration's prompts, the most informative ones, from which new ones are derived
TRIES = 4  # drafts of one variant at most
SIMILAR = 0.8  # a draft that is this similar to a prompt counts as a repetition of it
WORDY = 20  # words that a variant may have beyond twice its parent's
OUTPUTS = "augmentation.outputs.sqlite"
KINDS = {
    "paraphrase": "Say this request in other words, with the same meaning. Write the new request and nothing else.",
    "harder": "Write a request on the same subject as this one that is harder to answer well: more specific, or with "
    "one more condition. Write the new request and nothing else.",
}
_LABEL = re.compile(
    r"\A\W*(?:(?:new|harder|rewritten|rephrased|paraphrased)\s+)?(?:request|prompt|question)\s*:[\s*_]*", re.IGNORECASE
)


class Writer(Protocol):
    """Who writes drafts."""

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[str | None]:
        """One draft for each prompt; None where the draft was cut or the prompt is too long."""
        ...


@dataclass
class Augmenter:
    """Adds prompts to an iteration: a paraphrase and a harder variant of each of the most informative fifth.

    What counts is the spread of the win rates of a prompt's responses, as for informative selection, in the newest
    table that the run has of it. A prompt that is or was held out or used for validation is never a parent, and neither
    is a variant. A draft is left out where it is empty, cut, too long, or nearly repeats any prompt of the run; then
    another one is drawn, four at most. The first iteration has no tables and no variants.

    What was written stands in the folder of the iteration's first step, with its parent and its kind, so that a run
    that continues plays on the same.

    Args:
        home: the run folder.
        prompts, lengths: those of the run; variants are appended to both.
        config: the run's configuration.
        rollouts: where the tables are.
        spread: returns that of a table, see ``PromptSelector``.
        encode: the token ids of a prompt; ValueError where the chat template refuses it.
        writer: returns who writes, by the number of the iteration.
        info: called with a line about what was written.

    Source: evolving prompts by informativeness: arXiv 2411.00062 (eva); variants by a language model: Evol-Instruct,
        arXiv 2304.12244. The instructions are our own.
    """

    home: RunFolder
    prompts: list[Prompt]
    lengths: list[int]
    config: RunConfig
    rollouts: RolloutStore
    spread: Callable[[Any], float]
    encode: Callable[[Prompt], list[int]]
    writer: Callable[[int], Writer]
    info: Callable[[str], object]
    _apart: set[str] = field(default_factory=set, init=False, repr=False)  # prompts that were held out or validated

    def wanted(self, iteration: int, size: int) -> int:
        """How many variants an iteration of so many prompts has at most."""
        return 0 if iteration == 0 else len(KINDS) * round(SHARE * size)

    def add(self, iteration: int, step: Path, own: PromptNumbers, wanted: int) -> PromptNumbers:
        """The variants of an iteration, by their numbers; they are appended to the run's prompts.

        Args:
            iteration: from 0.
            step: the folder of its first step.
            own: the prompts of the iteration that are no variants.
            wanted: how many variants at most.
        """
        _, *apart = divide(own, self.prompts, self.config.fit, self.config.seed)
        self._apart |= {self.prompts[number].id for part in apart for number in part}
        if wanted == 0:
            return ()
        content = saved_in_step(
            self.home, step / AUGMENTED, "augmented_prompts", lambda: self._written(iteration, step, wanted)
        )
        numbers = []
        for row in map(json.loads, content.splitlines()):
            numbers.append(len(self.prompts))
            self.prompts.append(prompt_of(row))
            self.lengths.append(row["tokens"])
        self.rollouts.add(self.prompts[number] for number in numbers)
        return tuple(numbers)

    def _written(self, iteration: int, step: Path, wanted: int) -> bytes:
        judged = self.rollouts.spreads(self.spread)
        possible = [
            number
            for number, spread in judged.items()
            if spread == spread  # NaN: not known
            and self.prompts[number].parent is None
            and self.prompts[number].id not in self._apart
        ]
        key = (self.config.seed, "augmentation", step.name)
        possible.sort(key=lambda number: (-judged[number], seed_of(*key, self.prompts[number].id)))
        parents = possible[: wanted // len(KINDS)]
        missing = [(number, kind) for number in parents for kind in KINDS]
        written: dict[tuple[int, str], dict[str, Any]] = {}
        refused: Counter[str] = Counter()
        taken = list(self.prompts)
        write = self.writer(iteration) if missing else None
        for attempt in range(TRIES):
            if write is None or not missing:
                break
            requests = [request_for(self.prompts[number], kind) for number, kind in missing]
            seeds = [seed_of(*key, self.prompts[number].id, kind, attempt) for number, kind in missing]
            drafts: list[tuple[tuple[int, str], Prompt, int]] = []
            for job, text in zip(missing, write(requests, seeds), strict=True):
                draft = self._draft(self.prompts[job[0]], job[1], text)
                if isinstance(draft, str):
                    refused[draft] += 1
                else:
                    drafts.append((job, *draft))
            candidates = [prompt for _, prompt, _ in drafts]
            near = {one.number for one in near_duplicates([*taken, *candidates], self._similar, len(taken))}
            for place, (job, prompt, tokens) in enumerate(drafts, len(taken)):
                if place in near:
                    refused["nearly repeated"] += 1
                    continue
                written[job] = {**row_of(prompt), "tokens": tokens}
            taken += [prompt for place, prompt in enumerate(candidates, len(taken)) if place not in near]
            missing = [job for job in missing if job not in written]
        kinds = Counter(kind for _, kind in written)
        counts = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS)
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items())) or "none"
        self.info(
            f"{step.name}: {len(written)} prompts written ({counts}) from {len(parents)} of {len(possible)} possible "
            f"parents, {wanted} wanted; drafts left out: {reasons}"
        )
        return to_jsonl([written[job] for job in sorted(written)])

    @property
    def _similar(self) -> float:
        return SIMILAR if self.config.drop_similar is None else self.config.drop_similar

    def _draft(self, parent: Prompt, kind: str, text: str | None) -> tuple[Prompt, int] | str:
        """A draft as a prompt with its tokens; or why it cannot be one."""
        if text is None:
            return "unfinished"
        text = cleaned(text)
        if not text or not is_unicode(text):
            return "empty"
        last = parent.messages[-1]
        if len(words(text)) > 2 * len(words(last["content"])) + WORDY:
            return "too long"
        prompt = replace(
            parent, messages=(*parent.messages[:-1], {**last, "content": text}), parent=parent.id, kind=kind
        )
        try:
            tokens = len(self.encode(prompt))
        except NashwardError:
            return "refused by the chat template"
        return "too long" if tokens > self.config.max_prompt_tokens else (prompt, tokens)


@dataclass(frozen=True)
class PolicyWriter:
    """The run's own policy as the writer.

    Attributes:
        model: returns the policy's network, on the device.
        policy: the adapter that writes.
        source: how it is sampled.
    """

    model: Callable[[], LanguageModel]
    policy: Adapter
    source: ResponseSource

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[str | None]:
        model = self.model()
        texts: list[str | None] = [None] * len(prompts)
        ids = [model.encode(prompt) for prompt in prompts]
        source, batch = self.source, len(ids)
        longest: int | None = None
        if isinstance(source, EngineSource):
            with stop_at_once():
                source.start()
            source = source.of(self.policy)
        elif isinstance(source, GenerateSource):
            batch = source.batch
            longest = None if model.limit is None else model.limit.tokens - source.settings.max_new_tokens
        short = [k for k in range(len(ids)) if longest is None or len(ids[k]) <= longest]
        with model.use_adapter(self.policy.folder) as network:
            sampler = copy.copy(model)
            sampler.network = network
            for start in range(0, len(short), batch):
                part = short[start : start + batch]
                drawn = source.draw(sampler, [ids[k] for k in part], [[seeds[k]] for k in part])
                for k, (response,) in zip(part, drawn, strict=True):
                    texts[k] = response.text if response.finished else None
        return texts


class EndpointWriter:
    """A language model behind a server as the writer; each output is kept in the run folder when it arrives.

    Args:
        config: the run's configuration: the model, its URL, how servers are called.
        home: the run folder.
    """

    def __init__(self, config: RunConfig, home: RunFolder) -> None:
        assert config.augment is not None
        self.name, self.config = config.augment, config
        client = Client(server_url(config.augment_url), config.endpoint)
        self._chat = Chat(client, config.augment.removeprefix(ENDPOINT))
        self._paid = PaidOutputs(home / OUTPUTS)
        self._announced = False

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[str | None]:
        keys = [request_key(self.name, prompt.messages, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        outputs = {key: self._paid.get(key) for key in keys}
        missing = [k for k, key in enumerate(keys) if outputs[key] is None]
        if missing and not self._announced:
            self._announced = True
            self._chat.client.announce(f"prompts, for {self.name} to write variants of, {len(missing)} calls at first")

        def draw(k: int) -> Any:
            messages = [{"role": turn["role"], "content": turn["content"]} for turn in prompts[k].messages]
            output = self._chat.complete(messages, self.config.max_prompt_tokens, 1.0, seeds[k])
            self._paid.put(keys[k], self.name, output)
            return output

        for place, output in self._chat.client.as_completed(draw, missing):
            outputs[keys[missing[place]]] = output
        return [None if (one := outputs[key]) is None or not one.finished else one.text for key in keys]


def request_for(prompt: Prompt, kind: str) -> Prompt:
    """What the writer is sent for a variant of a prompt: only the last of several turns."""
    return Prompt(({"role": "user", "content": f"{KINDS[kind]}\n\nRequest: {prompt.messages[-1]['content']}"},))


def cleaned(text: str) -> str:
    """A draft without thoughts, a label before it, and quotation marks around it.

    Example:
        >>> cleaned('<think>So.</think> New request: "Name a river in Norway."')
        'Name a river in Norway.'
    """
    text = _LABEL.sub("", text.rpartition(END_OF_THOUGHT)[2].strip()).strip()
    for left, right in (('"', '"'), ("“", "”"), ("'", "'")):
        if len(text) > 1 and text[0] == left and text[-1] == right and not {left, right} & set(text[1:-1]):
            text = text[1:-1].strip()
    return text
