"""Fits of several losses to the same pairs from the same start, and the likelihoods of the pairs during each fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from nashward.errors import NashwardError
from nashward.games.shapes import Float
from nashward.llm.data.prompts import Prompt
from nashward.llm.data.rollouts import Response, Rollout
from nashward.llm.evaluation import win_rate
from nashward.llm.oracles import PreferenceOracle, preference_matrices
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.model import LanguageModel
from nashward.llm.policy.sampling import Sampling, as_source, seed_of
from nashward.llm.training import regression
from nashward.llm.training.batches import MicroBatch, micro_batches
from nashward.llm.training.losses import Loss, loss_settings
from nashward.llm.training.optimize import Fit, fit, order

LEVEL = 0.05  # of the sign test: five of five seeds meet it


@dataclass(frozen=True)
class TrainingCurve:
    """One training; lists are over the points at which it was measured, the first before it.

    Attributes:
        steps: optimiser steps done.
        chosen, rejected: mean log-probability of the prompts' chosen and rejected responses, in nats.
        wins: of one response a prompt against one of the start, by the oracle at temperature 1.
        tokens: their mean length.
        loss, temperature, seed: what was trained.

    Example:
        >>> curve = TrainingCurve("dpo", 1.0, 0, [0, 8], [-20.0, -21.5], [-19.0, -25.0], wins=[], tokens=[])
        >>> curve.change("chosen"), curve.margin
        (-1.5, [-1.0, 3.5])
    """

    loss: Loss
    temperature: float
    seed: int
    steps: list[int]
    chosen: list[float]
    rejected: list[float]
    wins: list[float]
    tokens: list[float]

    @property
    def margin(self) -> list[float]:
        """Chosen less rejected, in nats."""
        return [a - b for a, b in zip(self.chosen, self.rejected, strict=True)]

    def change(self, name: str) -> float:
        """Of a measure, from the start to the end."""
        values = getattr(self, name)
        return values[-1] - values[0]


@dataclass(frozen=True)
class Study:
    """How the trainings are made.

    Attributes:
        sizes: the losses, and each one's size (1 / beta, 1 / tau, eta).
        temperatures: of the oracle: its logits are divided by them before anything is computed from them.
        responses: K, of which the best and the worst by mean win rate are a prompt's pair.
        points: how often a training is measured, the start included.
        sampling, fit: how responses are drawn, how a loss is lowered (its loss and selection are the study's).

    Raises:
        ValueError: fewer than two points or responses, or a temperature that is not positive.

    Example:
        >>> Study({"sppo": 2.0, "dpo": 10.0}, points=1)
        Traceback (most recent call last):
        nashward.errors.NashwardError: points and responses must be at least 2, got 1 and 5
    """

    sizes: Mapping[Loss, float]
    temperatures: Sequence[float] = (0.5, 1.0, 2.0)
    responses: int = 5
    points: int = 4
    sampling: Sampling = field(default_factory=Sampling)
    fit: Fit = field(default_factory=Fit)

    def __post_init__(self) -> None:
        if self.points < 2 or self.responses < 2:
            raise NashwardError(f"points and responses must be at least 2, got {self.points} and {self.responses}")
        if not self.temperatures or not min(self.temperatures) > 0:
            raise NashwardError(f"the oracle's temperatures must be positive, got {list(self.temperatures)}")

    def run(
        self,
        model: LanguageModel,
        oracle: PreferenceOracle,
        prompts: Sequence[Prompt],
        seed: int,
        on_curve: Callable[[TrainingCurve], None] = lambda curve: None,
    ) -> list[TrainingCurve]:
        """Train with each loss at each temperature from the same start on the same responses.

        Args:
            model: the base; its adapters are overwritten.
            oracle: the judge.
            prompts: N.
            seed: of the responses, and of the order of the fits.
            on_curve: is called with each curve when it is complete.

        Returns:
            The curves, temperature after temperature.

        Raises:
            ValueError: the oracle tells no prompt's responses apart, or a fit diverges (``DivergedError``).
        """
        with TemporaryDirectory() as folder:
            start = Path(folder) / "start"
            model.write_start_adapter(start, None)
            ids, groups = self._groups(model, oracle, prompts, start, seed)
            with model.use_adapter(start):
                base = self.draw(model, ids, 1, ("study", seed, "base"))
            curves = []
            for temperature in self.temperatures:
                pairs = groups(temperature)
                for loss, size in self.sizes.items():
                    measure = _Measure(self, model, oracle, prompts, ids, base, seed)
                    curve = self._train(model, start, pairs, loss, size, temperature, seed, measure)
                    curves.append(curve)
                    on_curve(curve)
        return curves

    def _groups(
        self, model: LanguageModel, oracle: PreferenceOracle, prompts: Sequence[Prompt], start: Path, seed: int
    ) -> tuple[list[list[int]], Callable[[float], list[Rollout]]]:
        """The prompts' token ids, and the pairs of their sampled responses by the temperature of the oracle."""
        ids = [model.encode(prompt) for prompt in prompts]
        with model.use_adapter(start):
            drawn = self.draw(model, ids, self.responses, ("study", seed))
        texts = [[answer.text for answer in row] for row in drawn]
        judged = preference_matrices(oracle, [prompt.text for prompt in prompts], texts)
        logits = torch.stack([torch.as_tensor(result.P) for result in judged]).logit()
        return ids, lambda temperature: paired(prompts, ids, drawn, (logits / temperature).sigmoid())

    def draw(
        self, model: LanguageModel, ids: Sequence[Sequence[int]], count: int, key: tuple[str | int, ...]
    ) -> list[list[Response]]:
        """``count`` responses of the active adapter to each prompt's token ids; ``key`` makes their seeds."""
        seeds = [[seed_of(*key, i, k) for k in range(count)] for i in range(len(ids))]
        return as_source(self.sampling).draw(model, ids, seeds)

    def gram(
        self, model: LanguageModel, oracle: PreferenceOracle, prompts: Sequence[Prompt], seed: int
    ) -> Float[Tensor, "pairs 2 2"]:
        """Inner products of the score functions of each prompt's pair at the start, ``[pairs, 2, 2]``, chosen first.

        .. math::  G_{ab} = \\nabla_\\theta \\log \\pi_\\theta(a | x) \\cdot \\nabla_\\theta \\log \\pi_\\theta(b | x)

        over the adapter's weights: what a small step of gradient descent on the one does to the other, see
        ``theory.likelihood_change``. A prompt without a pair has no row.

        Raises:
            ValueError: the oracle tells no prompt's responses apart.
        """
        with TemporaryDirectory() as folder:
            start = Path(folder) / "start"
            model.write_start_adapter(start, None)
            groups = self._groups(model, oracle, prompts, start, seed)[1](1.0)
            products = []
            with model.training(start) as parameters:
                for group in groups:
                    scores = []
                    for response in group.responses:
                        value = sequence_logprobs(model.network, [group.prompt_ids], [response.ids], model.pad_id).sum()
                        slopes = torch.autograd.grad(value, parameters)
                        scores.append(torch.cat([slope.flatten() for slope in slopes]).double())
                    both = torch.stack(scores)
                    products.append(both @ both.mT)
        return torch.stack(products).cpu()

    def _train(
        self,
        model: LanguageModel,
        start: Path,
        groups: Sequence[Rollout],
        loss: Loss,
        size: float,
        temperature: float,
        seed: int,
        measure: _Measure,
    ) -> TrainingCurve:
        settings = replace(self.fit, loss=loss, selection="best-worst")
        batches = micro_batches(
            groups, settings.pass_tokens("cpu"), settings.batch, loss_settings(settings, self_comparison=False)
        )
        with model.use_adapter(start) as network:
            for batch in batches:
                batch.start = batch.anchor = batch.sampler = batch.logprobs(network, model.pad_id)
        total = len(order(batches, settings, seed))
        due = {round(k * total / (self.points - 1)) for k in range(self.points)}
        curve = TrainingCurve(loss, temperature, seed, [], [], [], [], [])
        done = 0

        def after(prompts: int, before: bool) -> None:
            nonlocal done
            done += 1
            if done in due:
                measure(curve, done, batches)

        with model.training(start) as parameters:
            measure(curve, 0, batches)
            fit(model.network, parameters, batches, size, settings, model.pad_id, seed, after)
        return curve


@dataclass(frozen=True)
class _Measure:
    """Adds a point to a curve, with the adapter as it is."""

    study: Study
    model: LanguageModel
    oracle: PreferenceOracle
    prompts: Sequence[Prompt]
    ids: Sequence[Sequence[int]]
    base: Sequence[Sequence[Response]]
    seed: int

    def __call__(self, curve: TrainingCurve, done: int, batches: Sequence[MicroBatch]) -> None:
        model = self.model
        model.network.eval()
        with torch.no_grad():
            scored = torch.cat([batch.logprobs(model.network, model.pad_id) for batch in batches])
            answers = self.study.draw(model, self.ids, 1, ("study", self.seed, "point"))
        model.network.train()
        rate = win_rate(
            self.oracle,
            [prompt.text for prompt in self.prompts],
            [[row[0].text] for row in answers],
            [[row[0].text] for row in self.base],
        )
        chosen, rejected = scored.double().mean(0).tolist()
        curve.steps.append(done)
        curve.chosen.append(chosen)
        curve.rejected.append(rejected)
        curve.wins.append(rate.value)
        curve.tokens.append(float(np.mean([len(row[0].ids) for row in answers])))


def paired(
    prompts: Sequence[Prompt],
    ids: Sequence[Sequence[int]],
    drawn: Sequence[Sequence[Response]],
    P: Float[Tensor, "prompts K K"],
) -> list[Rollout]:
    """The best and the worst response of each prompt by mean win rate over the others, in this order.

    Prompts whose responses the oracle does not tell apart have no pair.

    Args:
        prompts: N.
        ids: their token ids.
        drawn: the K responses to each.
        P: ``[N, K, K]``, the probability that the row's response beats the column's.

    Raises:
        ValueError: no prompt has a pair.

    Example:
        >>> drawn = [[Response([7], True, "No."), Response([8, 9], True, "The Rhine.")]]
        >>> prompt = Prompt(({"role": "user", "content": "Name a river."},))
        >>> (group,) = paired([prompt], [[1, 2]], drawn, torch.tensor([[[0.5, 0.1], [0.9, 0.5]]]))
        >>> [response.ids for response in group.responses], group.payoffs
        ([[8, 9], [7]], tensor([0.9000, 0.1000]))
    """
    count = P.shape[-1]
    payoffs = regression.win_rates(P, torch.ones(len(P), count, dtype=P.dtype), torch.arange(count))
    weights = regression.select(payoffs, torch.full_like(payoffs, 1 / count), "best-worst")
    groups = []
    for prompt, own, row, payoff, weight, table in zip(prompts, ids, drawn, payoffs, weights, P, strict=True):
        if weight.sum() > 0:
            two = sorted(weight.nonzero().flatten().tolist(), key=lambda k: -float(payoff[k]))
            responses = [replace(row[k], weight=float(weight[k])) for k in two]
            groups.append(Rollout(prompt.id, own, responses, payoff[two], table[two][:, two]))
    if not groups:
        raise NashwardError("no prompt has responses that the oracle tells apart; nothing to learn from")
    return groups


@dataclass(frozen=True)
class Claim:
    """A statement on the sign of a change, and the sign test on it.

    Attributes:
        statement: what is claimed.
        agree, seeds: in how many seeds it was so, of how many.
        mean: what is claimed to be positive or negative, over the seeds.

    Example:
        >>> claim = Claim("sppo: chosen rises", agree=5, seeds=5, mean=1.2)
        >>> claim.p, claim.verdict, Claim("sppo: chosen rises", agree=3, seeds=5, mean=0.1).verdict
        (0.03125, 'reproduced', 'undecided')
    """

    statement: str
    agree: int
    seeds: int
    mean: float

    @property
    def p(self) -> float:
        """The chance of so many or more agreements where both signs are equally likely: of n seeds in a agree,
        sum_{k >= a} C(n, k) / 2^n."""
        return _chance(self.agree, self.seeds)

    @property
    def verdict(self) -> str:
        """Reproduced or contradicted where the sign test is at 0.05 or below in one or the other direction, else
        undecided."""
        against = _chance(self.seeds - self.agree, self.seeds)
        return "reproduced" if self.p <= LEVEL else "contradicted" if against <= LEVEL else "undecided"


def claims(curves: Sequence[TrainingCurve]) -> list[Claim]:
    """Test the claims of the abstract of arXiv 2405.00675 on curves of one temperature: SPPO raises the chosen response
    and lowers the rejected one, DPO and IPO do not. And a weaker one: SPPO raises the chosen response by more.

    Args:
        curves: of "sppo", "dpo" and "ipo", one a seed.

    Returns:
        The claims, each with its sign test over the seeds.

    Raises:
        ValueError: the losses were not trained on the same seeds.

    Example:
        >>> up, down = [-20.0, -18.0], [-20.0, -25.0]
        >>> rows = [("sppo", up, down), ("dpo", down, down), ("ipo", up, down)]
        >>> curves = [TrainingCurve(loss, 1.0, 0, [0, 8], chosen, rejected, [], []) for loss, chosen, rejected in rows]
        >>> [claim.agree for claim in claims(curves)]
        [1, 1, 1, 1, 0, 0]
    """
    change = {
        (curve.loss, name): [c.change(name) for c in sorted(curves, key=lambda c: c.seed) if c.loss == curve.loss]
        for curve in curves
        for name in ("chosen", "rejected")
    }
    tested = [
        _claim("sppo: chosen rises", change["sppo", "chosen"], True),
        _claim("sppo: rejected falls", change["sppo", "rejected"], False),
    ]
    for other in ("dpo", "ipo"):
        chosen = change[other, "chosen"]
        if len(chosen) != len(change["sppo", "chosen"]):
            raise NashwardError(
                f"{len(change['sppo', 'chosen'])} seeds of sppo and {len(chosen)} of {other}; expected the same"
            )
        more = [a - b for a, b in zip(change["sppo", "chosen"], chosen, strict=True)]
        tested.append(_claim(f"{other}: chosen does not rise", chosen, False))
        tested.append(_claim(f"sppo raises the chosen more than {other}", more, True))
    return tested


def _claim(statement: str, values: Sequence[float], up: bool) -> Claim:
    return Claim(statement, sum((value > 0) == up for value in values), len(values), float(np.mean(values)))


def _chance(agree: int, seeds: int) -> float:
    return float(binomtest(agree, seeds, 0.5, alternative="greater").pvalue)
