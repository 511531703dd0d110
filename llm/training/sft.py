"""A task term: given responses whose likelihood a fit raises too, so that alignment does not cost what it is worth.

A fit with a task term lowers  L(theta) + w NLL(theta), L the loss of its step (a mean over prompts) and

    NLL(theta) = - sum_i log pi_theta(y_i | x_i) / sum_i |y_i|,    in nats a token,

over a micro-batch of given prompts x_i and responses y_i, another one in each optimiser step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nashward.games.shapes import Float

from ..data.prompts import Prompt
from ..policy.memory import OnEvent, ignore_event
from .batches import Text, backward, in_passes, score

MEASURED = 256  # texts that are held out, at most: they are passed three times in each step


def nll(logprobs: Float[Tensor, " texts"], tokens: float) -> Float[Tensor, ""]:
    """The mean negative log-likelihood a token: ``-sum_i log pi(y_i | x_i) / tokens``, from sums over tokens, [texts].

    Example:
        >>> nll(torch.tensor([-6.0, -3.0]), 4 + 2)
        tensor(1.5000)
    """
    return -logprobs.sum() / tokens


@dataclass
class TaskBatch:
    """Texts whose gradient is taken together.

    Attributes:
        texts: prompts and responses.
        parts: the texts of each pass, by their places; halved for good where memory runs out.
    """

    texts: list[Text]
    parts: list[list[int]]

    @property
    def tokens(self) -> int:
        """Those of the responses."""
        return sum(len(response) for _, response in self.texts)

    def logprobs(self, network: Any, pad_id: int, on_event: OnEvent = ignore_event) -> Float[Tensor, " texts"]:
        """log pi(y | x) of each, ``[texts]``, without a gradient."""
        return score(network, self.texts, self.parts, pad_id, torch.empty(len(self.texts)), on_event)

    def descend(self, network: Any, pad_id: int, scale: float, on_event: OnEvent) -> float:
        """Add the gradient of ``scale`` times NLL to the network's weights; returns it.

        Raises:
            torch.OutOfMemoryError: if a pass does not fit; it is then halved already, and the gradient is incomplete.
        """
        tokens = self.tokens
        return backward(
            network, self.texts, self.parts, pad_id, lambda part, found: scale * nll(found, tokens), on_event
        )


@dataclass
class TaskTerm:
    """What a step's fit sees of the task texts.

    Attributes:
        training: a micro-batch for each optimiser step, used in no other; none where the task is measured alone.
        testing: those that are never trained on, the same in each step of a run.
    """

    training: list[TaskBatch]
    testing: list[TaskBatch]

    def held_out(self, network: Any, pad_id: int, on_event: OnEvent = ignore_event) -> float:
        """NLL of the texts that are held out."""
        found = torch.cat([batch.logprobs(network, pad_id, on_event).double() for batch in self.testing])
        return float(nll(found, sum(batch.tokens for batch in self.testing)))


def divided(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of the texts to train on and of those held out: a share, but at least 1 and at most ``MEASURED``."""
    shuffled = list(range(count))
    random.Random(seed).shuffle(shuffled)
    cut = max(1, min(round(share * count), MEASURED, count - 1))
    return sorted(shuffled[cut:]), sorted(shuffled[:cut])


def ordered(numbers: Sequence[int], seed: int) -> Iterator[int]:
    """The numbers over and over, each time in another order."""
    shuffle = random.Random(seed)
    while True:
        again = list(numbers)
        shuffle.shuffle(again)
        yield from again


def packed(texts: Iterator[Text], tokens: int, most: int, batches: int | None = None) -> list[TaskBatch]:
    """Texts one after another in micro-batches of up to ``tokens`` padded tokens and ``most`` texts, or of one longer
    text; ``batches``: how many of an endless stream, None: all."""
    found: list[list[Text]] = []
    widest = 0
    for text in texts:
        width = len(text[0]) + len(text[1])
        room = bool(found) and len(found[-1]) < most and (len(found[-1]) + 1) * max(widest, width) <= tokens
        if room:
            found[-1].append(text)
            widest = max(widest, width)
        elif len(found) == batches:
            break
        else:
            found.append([text])
            widest = width
    return [TaskBatch(own, in_passes(own, tokens)) for own in found]


def encoded(tokenizer: Any, prompt: Prompt, response: str, stops: Sequence[int] = ()) -> Text:
    """A prompt as the policy is asked, and a response as the policy would give it: with the end of its turn.

    What follows the prompt is what the chat template makes of the answered conversation, up to the first of ``stops``;
    where a template writes the prompt otherwise once it is answered, the response and the tokenizer's end of text.
    """
    own = list(prompt.messages)
    asked = tokenizer.apply_chat_template(own, tokenize=False, add_generation_prompt=True)
    turn = {"role": "assistant", "content": response}
    whole = tokenizer.apply_chat_template([*own, turn], tokenize=False)
    told = whole[len(asked) :] if whole.startswith(asked) else response
    ids = tokenizer(told, add_special_tokens=False)["input_ids"]
    end = next((k for k, token in enumerate(ids) if token in stops), None)
    if end is not None:
        ids = ids[: end + 1]
    elif tokenizer.eos_token_id is not None:
        ids = [*ids, tokenizer.eos_token_id]
    return tokenizer(asked, add_special_tokens=False)["input_ids"], ids
