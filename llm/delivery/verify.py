"""Whether what was exported is the policy of the run: stored responses replayed through it, and what that would win."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.shapes import Float

from ..config.sampling import Sampling
from ..policy.adapters.lora import LoraShape
from ..policy.memory import release_memory
from ..policy.mixture import Mixture
from ..run.selfplay import SelfPlay
from ..store.run_folder import RunFolder
from .merge import Arithmetic, on_device, quantised_layers
from .replay import Replay, mixed, replay
from .replay_sample import ReplaySample, replay_sample

LIMIT = 1.5  # times the base's own rounding: the most that an artefact may drift
FLOOR = 0.01  # nats per response, in which networks that compute the same in another order differ
SCALE_TOLERANCE = 0.25  # of the update: a scale off by more, beyond Z standard errors, is no rounding
Z = 3.0
MIN_EFFECTIVE = 0.1  # of the responses: with a smaller effective sample size nothing is said of the win rate
UNKNOWN_DENSITY = "the responses were sampled with top-p, or from a mixture, whose density is not known"


@dataclass(frozen=True)
class Drift:
    """How far two policies are apart on stored responses.

    Attributes:
        mean: of |log q(y) - log p(y)|, in nats per response.
        largest: of these.
        per_token: the sum of these over the sum of tokens.
        greedy: the share of places at which both have the same most likely token.
    """

    mean: float
    largest: float
    per_token: float
    greedy: float

    @classmethod
    def between(cls, p: Replay, q: Replay) -> Drift:
        """Of the same responses under p and q.

        Example:
            >>> one, two = (Replay(torch.tensor([-x]).double(), [torch.tensor([7, x])]) for x in (2, 3))
            >>> Drift.between(one, two)
            Drift(mean=1.0, largest=1.0, per_token=0.5, greedy=0.5)
        """
        apart = (q.logprobs - p.logprobs).abs()
        same = torch.cat([a == b for a, b in zip(p.greedy, q.greedy, strict=True)])
        per_token = float(apart.sum()) * p.members / len(same)
        return cls(float(apart.mean()), float(apart.max()), per_token, float(same.double().mean()))


@dataclass(frozen=True)
class WinRateChange:
    """By how much the win rate of one policy differs from another's, from responses of a third.

    Attributes:
        value: W(q) - W(p), against the opponent that the responses were judged against.
        standard_error: over prompts; NaN for one prompt.
        interval: of 95%.
        effective: the effective sample size of the responses as samples of p or of q, the smaller one.
        responses: how many there are.
    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    effective: float
    responses: int

    @classmethod
    def between(cls, p: Replay, q: Replay, sampler: Replay, responses: ReplaySample) -> WinRateChange:
        """By importance weights of the stored responses y, sampled from s.

        .. math::
            \\Delta_n = \\sum_k v_{nk} \\Big( \\frac{q(y_{nk})}{s(y_{nk})} - \\frac{p(y_{nk})}{s(y_{nk})} \\Big)
            \\big( G_{nk} - \\tfrac12 \\big), \\qquad
            \\text{ESS} = \\frac{(\\sum q / s)^2}{\\sum (q / s)^2}

        (of q or of p, the smaller one) with the weights v of a prompt's judged responses, which sum to 1, and their
        payoffs G.
        The weights q / s have the mean 1 under s, so that 1/2 may be taken off G, which makes the estimate steadier.

        Raises:
            NashwardError: no response was judged.

        Source: importance sampling and its effective sample size, Kong 1992.
        """
        to_q, to_p = ((one.logprobs - sampler.logprobs).exp() for one in (q, p))
        judged = ~responses.payoffs.isnan()
        if not judged.any():
            raise NashwardError("no response was judged: there is no win rate")
        gains = responses.weights * (to_q - to_p) * (responses.payoffs - 0.5)
        by_prompt: dict[str, tuple[float, float]] = {}  # gains and weights of what was judged
        rows = zip(responses.prompts, gains.tolist(), responses.weights.tolist(), judged.tolist(), strict=True)
        for prompt, gain, weight, known in rows:
            if known:
                before, sum_of_weights = by_prompt.get(prompt, (0.0, 0.0))
                by_prompt[prompt] = before + gain, sum_of_weights + weight
        values = np.array([gain / weight for gain, weight in by_prompt.values()])
        mean, count = float(values.mean()), len(values)
        error = float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
        half = float(student.ppf(0.975, count - 1)) * error if count > 1 else math.nan
        effective = min(float(ratios.sum() ** 2 / ratios.square().sum()) for ratios in (to_p, to_q))
        return cls(mean, error, (mean - half, mean + half), effective, len(to_q))

    def __str__(self) -> str:
        low, high = (100 * end for end in self.interval)
        if self.effective < MIN_EFFECTIVE * self.responses:
            return (
                "not known: the policy is far from the one that was sampled, effective sample size "
                f"{self.effective:.1f} of {self.responses}"
            )
        return (
            f"{100 * self.value:+.2f} points, 95% interval {low:+.2f} to {high:+.2f}; effective sample size "
            f"{self.effective:.0f} of {self.responses}"
        )


@dataclass(frozen=True)
class Verification:
    """An artefact held against the policy of its run.

    Attributes:
        responses, prompts: how many were replayed, and to how many prompts.
        sampler: the policy of the run that they were sampled from.
        drift: of the artefact from the run's policy.
        base: the base's own rounding: of the base as the artefact has it from the base of the run in 4 bits; where the
            run did not quantise it, of its 16-bit arithmetic from float32.
        update: the scale of the artefact's update in that of the run's adapter, which stands beside the same weights:
            1 where it is whole, 2 where it was added twice, 0 where it is lost; None where it changes nothing.
        update_error: its standard error, clustered by prompt.
        win_rate: the change of the win rate; None where it cannot be known from these responses.
        limit: the most that the drift may be, in times of the base's own rounding.
    """

    responses: int
    prompts: int
    sampler: str
    drift: Drift
    base: Drift
    update: float | None
    update_error: float | None
    win_rate: WinRateChange | None
    limit: float

    @property
    def max_drift(self) -> float:
        """The largest mean drift that passes, in nats per response."""
        return self.limit * self.base.mean + FLOOR

    @property
    def failures(self) -> list[str]:
        """Why the artefact is not the policy of the run; empty where it is."""
        found = []
        if not self.drift.mean <= self.max_drift:
            found.append(
                f"it drifts by {self.drift.mean:.3g} nats per response, above {self.limit:g} times the base's own "
                f"rounding ({self.base.mean:.3g}, limit {self.max_drift:.3g})"
            )
        if self.update is not None and self.update_error is not None:
            off = abs(self.update - 1)
            if not (off <= SCALE_TOLERANCE or off <= Z * self.update_error):
                found.append(
                    f"its update is {self.update:.2f} ± {self.update_error:.2f} of the run's, expected 1: "
                    + (
                        "the scale (alpha / rank) or the order of the factors is wrong, or the update is smaller than "
                        "the digits of 16-bit weights, whose rounding loses it; --to adapter keeps it"
                        if self.update < 1
                        else "look at the scale (alpha / rank), and whether it was merged once"
                    )
                )
        return found

    @property
    def notes(self) -> list[str]:
        """What these responses cannot tell."""
        if self.update is None:
            return ["the adapter changes nothing: there is no update to look for"]
        if self.update_error is not None and not Z * self.update_error < 1:
            return [
                "the update is too small beside the rounding to see whether the artefact has all of it "
                f"({self.update:.2f} ± {self.update_error:.2f} of it): replay more responses (--responses)"
            ]
        return []

    @property
    def lines(self) -> list[str]:
        """For a reader."""
        update = "" if self.update is None else f"{self.update:.3f} ± {self.update_error:.3f} of the run's"
        return [
            f"{counted(self.responses, 'response')} of {self.sampler} to {counted(self.prompts, 'prompt')}, replayed",
            f"  drift of log-probabilities  {_drift(self.drift)}",
            f"  the base's own rounding     {_drift(self.base)}",
            f"  greedy tokens that agree    {100 * self.drift.greedy:.2f}% (of the base {100 * self.base.greedy:.2f}%)",
            *([f"  update in the artefact      {update}"] if update else []),
            f"  change of the win rate      {self.win_rate or UNKNOWN_DENSITY}",
            *(f"  note: {note}" for note in self.notes),
            *(f"  FAILED: {failure}" for failure in self.failures),
        ]

    def as_json(self) -> dict[str, Any]:
        """As ``export.json`` holds it."""
        return {**dataclasses.asdict(self), "failures": self.failures, "notes": self.notes}


def _drift(drift: Drift) -> str:
    return f"{drift.mean:.4g} nats per response on average, {drift.largest:.4g} at most; {drift.per_token:.3g} a token"


@dataclass(frozen=True)
class Reference:
    """What the run itself says of stored responses.

    Attributes:
        stored: the responses.
        policy: the policy that is exported, in the run's arithmetic.
        base: the base without an adapter, in the same.
        sampler: what the responses were sampled from; None where its density is not known.
        quantised: the layers that the run has in 4 bits.
    """

    stored: ReplaySample
    policy: Replay
    base: Replay
    sampler: Replay | None
    quantised: list[str]

    def verification(
        self, artefact: Replay, base: Replay, unmerged: Replay, rounding: Drift, limit: float = LIMIT
    ) -> Verification:
        """Hold an artefact against the run.

        Args:
            artefact: the exported policy.
            base: the base as the artefact has it, without an update.
            unmerged: that base with the run's own adapters beside its weights.
            rounding: the base's own.
            limit: see ``Verification.limit``.
        """
        beside, inside = (one.logprobs - base.logprobs for one in (unmerged, artefact))
        scale, error = scale_of_update(self.policy.logprobs - self.base.logprobs, beside, inside, self.stored.prompts)
        return Verification(
            len(self.stored.texts), len(set(self.stored.prompts)), self.stored.label,
            Drift.between(self.policy, artefact), rounding, scale, error,
            self.change(artefact), limit,
        )  # fmt: skip

    def change(self, artefact: Replay) -> WinRateChange | None:
        """The change of the win rate from the run's policy to another; None where it cannot be known."""
        if self.sampler is None or self.stored.payoffs.isnan().all():
            return None
        return WinRateChange.between(self.policy, artefact, self.sampler, self.stored)


def reference(run: SelfPlay, policy: Mixture, count: int, seed: int = 0) -> Reference:
    """Replay stored responses through the run's own model.

    Args:
        run: a run with its folder and its policy.
        policy: what is exported: adapters with weights.
        count: of responses at most.
        seed: of the draw of prompts.

    Raises:
        NashwardError: the run has no judged responses.
    """
    home = RunFolder(run.folder)
    stored = replay_sample(home, count, seed)
    folders = [folder for folder, _ in policy.members]
    largest = max([*folders, stored.adapter], key=lambda folder: LoraShape.of(folder).rank)
    model = dataclasses.replace(run, adapter=largest).model
    source = run.sampling

    def under(folder: Path, temperature: float = 1.0) -> Replay:
        with model.use_adapter(folder) as network:
            return replay(network, stored.texts, model.device, temperature)

    replays = [under(folder) for folder in folders]
    with model.use_adapter(folders[0]) as network, network.disable_adapter():
        base = replay(network, stored.texts, model.device)
    sampler = None
    if not isinstance(source, Sampling):
        sampler = under(stored.adapter)
    elif source.top_p == 1:
        sampler = under(stored.adapter, source.temperature)
    found = Reference(
        stored, mixed(replays, [weight for _, weight in policy.members]), base, sampler, quantised_layers(model.network)
    )
    model.offload()
    return found


def replayed(
    networks: Sequence[Callable[[], Any]],
    stored: ReplaySample,
    weights: Sequence[float] = (1.0,),
    arithmetic: Arithmetic = "of the run",
) -> Replay:
    """Replay stored responses through an artefact.

    Args:
        networks: its members, each loaded when it is its turn.
        stored: the responses.
        weights: of the members.
        arithmetic: see ``on_device``.
    """
    replays = []
    for load in networks:
        network = on_device(load(), arithmetic)
        replays.append(replay(network, stored.texts, next(network.parameters()).device))
        del network
        release_memory()
    return mixed(replays, weights)


def scale_of_update(
    run: Float[Tensor, " N"], unmerged: Float[Tensor, " N"], artefact: Float[Tensor, " N"], prompts: Sequence[str]
) -> tuple[float | None, float | None]:
    """The factor c of log-ratios a to the base on those of the unmerged adapter, u, with its standard error.

    .. math::  c = \\frac{\\sum z a}{\\sum z u}

    Both have the noise of the arithmetic, which would draw a least-squares factor to 0; the run's own log-ratios z have
    another one, and serve as the instrument.

    Args:
        run, unmerged, artefact: z, u and a, ``[N]`` in nats.
        prompts: of each response; the error is clustered by them.

    Returns:
        c and its error; None where the update is below a thousandth of a nat.

    Source: instrumental variables, Durbin 1954.

    Example:
        >>> u = torch.tensor([1.0, -1.0, 2.0, 0.5]).double()
        >>> scale_of_update(u, u, 2 * u, ["a", "a", "b", "b"])
        (2.0, 0.0)
    """
    if float(run.square().mean()) < 1e-6:
        return None, None
    along = float((run * unmerged).sum())
    scale = float((run * artefact).sum()) / along
    errors: dict[str, float] = {}
    for prompt, part in zip(prompts, (run * (artefact - scale * unmerged)).tolist(), strict=True):
        errors[prompt] = errors.get(prompt, 0.0) + part
    correction = len(errors) / (len(errors) - 1) if len(errors) > 1 else math.nan
    return scale, math.sqrt(correction * sum(value**2 for value in errors.values())) / abs(along)
