"""What 4 bits change: how far a quantised base is from its own weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from nashward.games.shapes import Float

from ..config.sampling import Sampling
from ..policy.base.checks import network_config
from ..policy.base.weights import base_size, load_base
from ..policy.local.names import local_model
from ..policy.memory import host_memory
from ..policy.model import SLOTS, LanguageModel
from ..policy.sampling import sample

MUCH = 0.1  # nats per token: in ten tokens it is more than a step of self-play moves a response
PROMPTS, TOKENS = 8, 32  # so many responses of so many tokens are drawn and compared


@dataclass(frozen=True)
class Rounding:
    """The distance of next tokens under a base in 4 bits from those under its own weights.

    Attributes:
        kl: KL(own weights || 4 bits) in nats per token, the mean over the tokens of responses.
        agreement: the share of tokens of which both find the same one likeliest.
        tokens: how many.
    """

    kl: float
    agreement: float
    tokens: int

    def __str__(self) -> str:
        return (
            f"in 4 bits the base is {self.kl:.2g} nats per token from its own weights, and the likeliest token is the "
            f"same in {self.agreement:.0%} (over {self.tokens} tokens of responses)"
        )


def rounding(model: LanguageModel, source: str | Path, prompts: Iterable[Sequence[int]], seed: int) -> Rounding | None:
    """Measure what 4 bits change of a base, with its own weights in the dtype of the computation beside it.

    .. math::  KL = \\frac{1}{T} \\sum_t \\sum_v p(v | y_{<t}) \\log \\frac{p(v | y_{<t})}{p_4(v | y_{<t})}

    Args:
        model: the quantised policy; its adapters do not count.
        source: what it was loaded from.
        prompts: token ids; of the first ``PROMPTS`` one response each is drawn from p_4, of ``TOKENS`` at most.
        seed: of the responses.

    Returns:
        None where its own weights would take more than half of the free host memory, or are not there: what is stored
        in 4 bits was rounded elsewhere.
    """
    if getattr(network_config(source), "quantization_config", None) is not None:
        return None
    if base_size(source, quantise=False) * model.dtype.itemsize / 4 > host_memory(free=True) / 2:
        return None
    own = load_base(local_model(source), "cpu", model.dtype, quantise=False, quantise_head=False)
    total, same, count = 0.0, 0, 0
    model.activate(SLOTS[0])
    with torch.no_grad(), model.network.disable_adapter():
        chosen = list(islice(prompts, PROMPTS))
        seeds = [[seed + number] for number in range(len(chosen))]
        drawn = sample(model, chosen, seeds, Sampling(max_new_tokens=TOKENS))
        for prompt, (response,) in zip(chosen, drawn, strict=True):
            exact = _next_tokens(own, prompt, response.ids, torch.device("cpu"))
            rounded = _next_tokens(model.network, prompt, response.ids, model.device)
            total += float((exact.exp() * (exact - rounded)).sum())
            same += int((exact.argmax(-1) == rounded.argmax(-1)).sum())
            count += len(response.ids)
    return Rounding(total / count, same / count, count)


def _next_tokens(
    network: torch.nn.Module, prompt: Sequence[int], response: Sequence[int], device: torch.device
) -> Float[Tensor, "T V"]:
    """log p(v | x, y_<t) of all tokens v at each token of a response."""
    ids = torch.tensor([[*prompt, *response]], device=device)
    logits = network(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return logits.cpu().double().log_softmax(-1)
