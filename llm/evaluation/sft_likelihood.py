"""The likelihood that a run's policies give to its held-out SFT texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nashward.games.shapes import Float

from ..policy.mixture import Mixture
from ..policy.sampling import seed_of
from ..processes import processes
from ..run.selfplay import SelfPlay
from ..training.sft import SFTBatch, held_out


def sft_likelihoods(run: SelfPlay, players: Mapping[str, Mixture]) -> dict[str, dict[str, Any]]:
    """The mean log-likelihood of the held-out SFT texts of a run under each policy, nats per token.

    .. math::
        L(\\pi) = \\frac{\\sum_i \\log \\pi(y_i | x_i)}{\\sum_i |y_i|}, \\qquad
        \\log \\pi(y | x) = \\log \\sum_k w_k \\pi_k(y | x)

    for a mixture, which draws one of its members for a whole response. The error is that of a ratio of means over the
    n texts, :math:`\\sqrt{n / (n - 1) \\sum_i (\\log \\pi(y_i | x_i) - L |y_i|)^2} / \\sum_i |y_i|`.

    Args:
        run: a run with its folder and policy.
        players: the policies by name.

    Returns:
        for each policy ``value`` and ``standard_error`` (None of a single text); empty where the run has no SFT texts.
    """
    texts = run.sft_texts
    if not texts:
        return {}
    model, fit = run.model, run.config.fit
    sizes = fit.pass_tokens(model.device.type), fit.batch
    seed = seed_of(run.config.seed, "task")
    batches = held_out(texts, model.tokenizer, model.stop_ids, fit.held_out, seed, sizes)
    tokens = torch.tensor([float(len(response)) for batch in batches for _, response in batch.texts])
    known: dict[Path, Float[torch.Tensor, " texts"]] = {}
    for folder in dict.fromkeys(folder for player in players.values() for folder, _ in player.members):
        with model.use_adapter(folder) as network:

            def logprobs(batch: SFTBatch, network: Any = network) -> Float[torch.Tensor, " texts"]:
                return batch.logprobs(network, model.pad_id, model.on_event).double().cpu()

            known[folder] = torch.cat(processes.map(logprobs, batches))
    return {name: _mean(player, known, tokens.double()) for name, player in players.items()}


def _mean(player: Mixture, known: Mapping[Path, torch.Tensor], tokens: torch.Tensor) -> dict[str, Any]:
    """The mean log-likelihood per token of a policy, with its error over texts."""
    weighted = [known[folder] + math.log(weight) for folder, weight in player.members if weight > 0]
    logprobs = torch.logsumexp(torch.stack(weighted), 0)
    count, value = len(tokens), float(logprobs.sum() / tokens.sum())
    spread = float((logprobs - value * tokens).square().sum()) / max(1, count - 1) * count
    return {"value": value, "standard_error": math.sqrt(spread) / float(tokens.sum()) if count > 1 else None}
