"""Log-probabilities of stored responses: sums over tokens, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def sequence_logprobs(
    network: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int
) -> Tensor:
    """log pi(y | x) = sum_h log pi(y_h | x, y_<h) of each response, [B] float32.

    Args:
        network: a causal language model; gradients flow as its mode says.
        prompts, responses: token ids as they were sampled. They are never decoded and encoded again.
        pad_id: filler on the right; masked by length, so it may equal a stop token.
    """
    device = next(network.parameters()).device
    starts = [len(prompt) for prompt in prompts]
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    width = max(lengths)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids[row, : lengths[row]] = torch.tensor([*prompt, *response], dtype=torch.long)
    positions = torch.arange(width)
    ends = torch.tensor(lengths)[:, None]
    mask = positions < ends
    scored = mask & (positions >= torch.tensor(starts)[:, None])
    first = min(starts) - 1  # the hidden state before the first scored token
    ids = ids.to(device)
    logits = network(
        input_ids=ids, attention_mask=mask.to(device), use_cache=False, logits_to_keep=width - first
    ).logits
    # The logits at position h predict token h + 1; float32, because a bfloat16 log-softmax is off by nats over a text.
    chosen = torch.gather(logits[:, :-1].float().log_softmax(-1), 2, ids[:, first + 1 :, None]).squeeze(-1)
    return chosen.masked_fill(~scored[:, first + 1 :].to(device), 0.0).sum(-1)
