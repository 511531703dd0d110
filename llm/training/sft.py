"""A term of supervised fine-tuning (SFT): given responses whose likelihood a fit raises along with its loss.

It keeps alignment from costing ability on a task. A fit with it minimises  L(theta) + w NLL(theta), L the loss of its
step (a mean over prompts) and

    NLL(theta) = - sum_i log pi_theta(y_i | x_i) / sum_i |y_i|,    in nats per token,

over a micro-batch of given prompts x_i and responses y_i, another one in each optimiser step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nashward.errors import RefusedPromptError
from nashward.games.shapes import Float

from ..data.prompts import Prompt
from ..data.rollouts import Text
from ..policy.chat_template import render
from ..policy.control_tokens import TurnsAsText
from ..policy.memory import OnEvent, ignore_event
from ..processes import processes
from .batches import Passes, backward_by_pass, logprobs_by_pass, passes_of, plan_passes

Sizes = tuple[int, int]
HELD_OUT = 256  # about the most texts that are held out: they are passed three times in each step


def nll(logprobs: Float[Tensor, " texts"], tokens: float) -> Float[Tensor, ""]:
    """The mean negative log-likelihood per token: ``-sum_i log pi(y_i | x_i) / tokens``, from sums over tokens,
    [texts].

    Example:
        >>> nll(torch.tensor([-6.0, -3.0]), 4 + 2)
        tensor(1.5000)
    """
    return -logprobs.sum() / tokens


@dataclass
class SFTBatch:
    """Texts whose gradient is taken together.

    Attributes:
        texts: prompts and responses.
        passes: the texts of each forward pass, by their places; halved for good where memory runs out.
        whole: where this is a part of a batch, the tokens of all of it, over which NLL is a mean.
    """

    texts: list[Text]
    passes: Passes
    whole: int | None = None

    @property
    def tokens(self) -> int:
        """The tokens of the responses."""
        return sum(len(response) for _, response in self.texts)

    def part(self, places: Sequence[int]) -> SFTBatch:
        """A part with some of the texts; the NLL of the parts adds up to that of the whole."""
        whole = self.tokens if self.whole is None else self.whole
        return SFTBatch([self.texts[k] for k in places], passes_of(self.passes, places), whole)

    def logprobs(self, network: Any, pad_id: int, on_event: OnEvent = ignore_event) -> Float[Tensor, " texts"]:
        """log pi(y | x) of each, ``[texts]``, without a gradient."""
        return logprobs_by_pass(network, self.texts, self.passes, pad_id, on_event)

    def backward(self, network: Any, pad_id: int, scale: float, on_event: OnEvent) -> float:
        """Add the gradient of ``scale`` times NLL to the network's weights; returns ``scale`` times NLL.

        Raises:
            torch.OutOfMemoryError: if a pass does not fit; it is then halved already, and the gradient is incomplete.
        """
        tokens = self.tokens if self.whole is None else self.whole
        return backward_by_pass(
            network, self.texts, self.passes, pad_id, lambda places, logprobs: scale * nll(logprobs, tokens), on_event
        )


@dataclass
class SFTTerm:
    """The SFT texts of one fit.

    Attributes:
        training: a micro-batch for each optimiser step, used in no other; none where the likelihood is only measured.
        testing: the held-out texts, never trained on, the same in each step of a run.
    """

    training: list[SFTBatch]
    testing: list[SFTBatch]

    def held_out_nll(
        self,
        network: Any,
        pad_id: int,
        on_event: OnEvent = ignore_event,
        before_pass: Callable[[], object] = lambda: None,
    ) -> float:
        """NLL of the held-out texts, nats per token. ``before_pass`` is called before each pass, and may raise."""

        def passed(batch: SFTBatch) -> torch.Tensor:
            before_pass()
            return batch.logprobs(network, pad_id, on_event).double()

        logprobs = torch.cat(processes.map(passed, self.testing))
        return float(nll(logprobs, sum(batch.tokens for batch in self.testing)))


def split(prompts: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of the training and of the held-out texts: a share, but at least 1 and about ``HELD_OUT`` at most.

    The texts of one prompt are on one side, so that none that is held out was trained on; where all are of one prompt
    they are divided.

    Args:
        prompts: the id of the prompt of each text.
        share: that of the held-out ones.
        seed: of the shuffle.

    Example:
        >>> split(["a", "b", "a", "c"], 0.25, seed=0)
        ([1, 3], [0, 2])
    """
    of_prompt: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        of_prompt.setdefault(prompt, []).append(number)
    count = len(prompts)
    left = [*of_prompt.values()] if len(of_prompt) > 1 else [[number] for number in range(count)]
    random.Random(seed).shuffle(left)
    cut = max(1, min(round(share * count), HELD_OUT, count - 1))
    testing: list[int] = []
    while len(testing) < cut and len(left) > 1:
        testing += left.pop(0)
    return sorted(number for own in left for number in own), sorted(testing)


def held_out(
    texts: Sequence[tuple[Prompt, str]], tokenizer: Any, stops: Sequence[int], share: float, seed: int, sizes: Sizes
) -> list[SFTBatch]:
    """The texts of a run that its fits hold out, see ``split``.

    Args:
        texts: all of the run's.
        stops: see ``encode``.
        share, seed: see ``split``.
        sizes: tokens and texts of a micro-batch, see ``pack``.
    """
    _, testing = split([prompt.id for prompt, _ in texts], share, seed)
    return pack((encode(tokenizer, *texts[number], stops) for number in testing), *sizes)


def epochs(numbers: Sequence[int], seed: int) -> Iterator[int]:
    """The numbers without end, one epoch after another, each shuffled anew."""
    shuffle = random.Random(seed)
    while True:
        epoch = list(numbers)
        shuffle.shuffle(epoch)
        yield from epoch


def pack(texts: Iterator[Text], tokens: int, most: int, batches: int | None = None) -> list[SFTBatch]:
    """Texts one after another in micro-batches of up to ``tokens`` padded tokens and ``most`` texts, or of one longer
    text; ``batches``: how many of an endless stream, None: all."""
    packs: list[list[Text]] = []
    widest = 0
    for text in texts:
        width = len(text[0]) + len(text[1])
        fits = bool(packs) and len(packs[-1]) < most and (len(packs[-1]) + 1) * max(widest, width) <= tokens
        if fits:
            packs[-1].append(text)
            widest = max(widest, width)
        elif len(packs) == batches:
            break
        else:
            packs.append([text])
            widest = width
    return [SFTBatch(texts, plan_passes(texts, tokens, packed=False)) for texts in packs]


def encode(tokenizer: Any, prompt: Prompt, response: str, stops: Sequence[int] = ()) -> Text:
    """Token ids of a prompt as the policy is prompted, and of a response as it would give it: with the end of its turn.

    What follows the prompt is what the chat template makes of the answered conversation, up to the first of ``stops``;
    where a template writes the prompt otherwise once it is answered, the response and the tokenizer's end of text. A
    stop token that the response spells out is text, and cuts nothing.

    Raises:
        RefusedPromptError: the template refuses the turns, or leaves out what they say.
    """
    answer = {"role": "assistant", "content": response}
    hidden = TurnsAsText(tokenizer, [*prompt.messages, answer])
    prefix = render(tokenizer, hidden.turns[:-1], add_generation_prompt=True)
    try:
        answered = render(tokenizer, hidden.turns, add_generation_prompt=False)
    except RefusedPromptError:  # of prompts alone
        answered = ""
    asked = hidden.ids(prefix)
    suffix = answered[len(prefix) :] if answered.startswith(prefix) else hidden.turns[-1]["content"]
    # in one text with the prompt: alone, a tokenizer of sentencepiece puts a blank before it
    whole = hidden.ids(prefix + suffix)
    ids = whole[len(asked) :] if whole[: len(asked)] == asked else hidden.ids(suffix)
    end = next((k for k, token in enumerate(ids) if token in stops), None)
    if end is not None:
        ids = ids[: end + 1]
    elif tokenizer.eos_token_id is not None:
        ids = [*ids, tokenizer.eos_token_id]
    return asked, ids
