"""Stored responses replayed through a network: the log-probability of each, and the most likely token at each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nashward.games.shapes import Float

from ..data.rollouts import Text

POSITIONS = 128  # whose logits are in float32 at once


@dataclass(frozen=True)
class Replay:
    """What a policy says of N stored responses.

    Attributes:
        logprobs: log pi(y | x) of each, ``[N]`` in nats, summed over tokens in float64.
        greedy: of each response the most likely token at each of its places, given the tokens before.
        members: of a mixture, whose tokens stand one after another in ``greedy``.
    """

    logprobs: Float[Tensor, " N"]
    greedy: list[Tensor]
    members: int = 1


def replay(network: Any, texts: Sequence[Text], device: torch.device | str, temperature: float = 1.0) -> Replay:
    """Pass each response once, alone and without padding, in the arithmetic of the network.

    Args:
        network: a causal language model of transformers, or a PEFT model of one.
        texts: prompts and responses as token ids.
        device: of its inputs.
        temperature: divides the logits, as in sampling.

    Example:
        >>> from nashward import llm
        >>> model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY)
        >>> replay(model.network, [([1, 4], [51, 2])], model.device).logprobs.shape
        torch.Size([1])
    """
    logprobs, greedy = [], []
    with torch.no_grad():
        for prompt, response in texts:
            ids = torch.tensor([[*prompt, *response]], device=device)
            count = len(response)
            # the logits at the last place are of the token after the response
            logits = network(input_ids=ids, logits_to_keep=count + 1, use_cache=False).logits[0, -count - 1 : -1]
            total, best = 0.0, []
            for first in range(0, count, POSITIONS):
                tile = logits[first : first + POSITIONS].float() / temperature
                targets = torch.tensor([*response[first : first + POSITIONS]], device=tile.device)
                scores = torch.log_softmax(tile, -1).gather(1, targets[:, None])
                total += float(scores.double().sum())
                best.append(tile.argmax(-1).cpu())
            logprobs.append(total)
            greedy.append(torch.cat(best))
    return Replay(torch.tensor(logprobs, dtype=torch.float64), greedy)


def mixed(replays: Sequence[Replay], weights: Sequence[float]) -> Replay:
    """The replay of a mixture: log sum_k w_k pi_k(y); its greedy tokens are those of the members, one after another.

    Example:
        >>> one, two = (Replay(torch.tensor([value]).double(), [torch.tensor([7])]) for value in (0.0, -torch.inf))
        >>> mixed([one, two], [0.5, 0.5]).logprobs.exp()
        tensor([0.5000], dtype=torch.float64)
    """
    shares = torch.tensor(list(weights), dtype=torch.float64).log()[:, None]
    logprobs = torch.logsumexp(torch.stack([one.logprobs for one in replays]) + shares, 0)
    greedy = [torch.cat(parts) for parts in zip(*(one.greedy for one in replays), strict=True)]
    return Replay(logprobs, greedy, len(replays))
