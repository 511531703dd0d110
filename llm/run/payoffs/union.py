"""The responses that a Step is fitted on: those of all samplers, each with its payoff and its weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from nashward.games.shapes import Float

from ...config.run import RunConfig
from ...data.prompts import Prompt
from ...data.rollouts import Rollout
from ...training import regression
from ...training.losses import LOSSES
from .step_payoffs import StepPayoffs


@dataclass(frozen=True)
class ResponseUnion:
    """The union of the responses that a Step's samplers gave to each prompt.

    Args:
        judged: their payoffs.
        prompts: all prompts of the run.
        config: the step's configuration.
        enumerates: the responses are all that there are, see ``ResponseSource``.
    """

    judged: StepPayoffs
    prompts: Sequence[Prompt]
    config: RunConfig
    enumerates: bool

    def fitted(self) -> tuple[dict[int, Rollout], float | None]:
        """The responses to each prompt, with their payoffs and weights in the fit, by the number of the prompt; a
        prompt without a pair to learn from is left out. Also the share of the targets' variance that is the error of
        several judges; None for one."""
        judged, fit = self.judged, self.config.fit
        payoffs, errors = judged.payoffs(), judged.standard_errors()
        weights = regression.select(payoffs, judged.weights(), fit.selection)
        share, precision = None, None
        if errors is not None:
            in_loss = payoffs, errors, self._prompt_weights(weights) * weights
            share = regression.error_share(*in_loss)
            precision = regression.precisions(*in_loss) if fit.spread_weights else None
        tables = self._tables() if LOSSES[fit.loss].pairs else None
        union: dict[int, Rollout] = {}
        for i, number in enumerate(judged.numbers):
            rollouts = [of_policy[i] for of_policy in judged.sampled.values()]
            responses = [response for rollout in rollouts for response in rollout.responses]
            # Only the pair passes through the network where only the pair is fitted; else all, in one shape.
            everything = fit.selection == "all"
            places = list(range(len(responses))) if everything else weights[i].nonzero().flatten().tolist()
            if weights[i].sum() > 0:
                in_fit = (self.prompts[number].weight * weights[i][places]).tolist()
                union[number] = replace(
                    rollouts[0],
                    responses=[replace(responses[k], weight=w) for k, w in zip(places, in_fit, strict=True)],
                    payoffs=payoffs[i][places],
                    table=None if tables is None else tables[i][places][:, places],
                    precision=None if precision is None else precision[i][places],
                )
        return union, share

    def r2_ceiling(self) -> float | None:
        """See ``regression.r2_ceiling``; None: it is not known, as with two responses per prompt, or with a selection
        of responses, which also picks by the errors."""
        if self.config.fit.selection != "all" or self.config.self_comparison:
            return None
        payoffs, weights = self.judged.payoffs(), self.judged.weights()
        weights = (weights * self._prompt_weights(weights)).masked_fill(payoffs.isnan(), 0.0)
        variances = torch.zeros_like(payoffs) if self.enumerates else self.judged.variances()
        ceiling = regression.r2_ceiling(payoffs, variances, weights)
        return None if math.isnan(ceiling) else max(ceiling, 0.0)  # below it the payoffs are told from no luck

    def _prompt_weights(self, like: torch.Tensor) -> Float[torch.Tensor, "prompts 1"]:
        return torch.tensor([[self.prompts[number].weight] for number in self.judged.numbers]).to(like)

    def _tables(self) -> Float[torch.Tensor, "prompts R R"]:
        """The win probabilities of the responses of all samplers against each other, ``[prompts, R, R]``."""
        judged = self.judged
        rows = [
            [judged.rollouts.tables(a.label, b.label, judged.numbers) for b in judged.sampled] for a in judged.sampled
        ]
        return torch.cat([torch.cat(row, 2) for row in rows], 1)
