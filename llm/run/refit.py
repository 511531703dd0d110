"""The fit of one step under control: repeated where the loss rose, drawn back where the policy went too far."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nashward.errors import DivergedError

from ..policy.model import LanguageModel
from ..store.run_folder import RunFolder
from ..training.batches import MicroBatch
from ..training.checkpoint import Checkpoints
from ..training.diagnostics import divergence, experience, loss, loss_mismatch, mean_under, rose
from ..training.experience import Experience, scored
from ..training.optimize import Fit, fit, order
from ..training.sft import SFTTerm
from .progress import Progress, with_tokens

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitScores:
    """The responses that are fitted, and the held-out ones (None: there are none)."""

    train: Experience
    held_out: Experience | None
    sft_nll: float | None = None  # of the held-out SFT texts, nats a token

    @property
    def validation(self) -> Experience:
        """The responses that decide on a refit: the held-out ones where there are any."""
        return self.train if self.held_out is None else self.held_out

    @property
    def loss(self) -> float:
        """On these prompts."""
        return loss(self.validation)

    @property
    def win_rate(self) -> float:
        """On these prompts, see ``Limits.win_rate``."""
        batch = self.validation
        old, new = (mean_under(policy, batch.payoffs, batch) for policy in (scored(batch.start, "start"), batch.now))
        return 0.5 + new - old


@dataclass(frozen=True)
class FitResult:
    """The fit that a step's adapter is from.

    Attributes:
        scores: of the adapter.
        records: one an optimiser step.
        expected: the loss of the first of them, computed before.
        line_fraction: how far the adapter is on the straight line from the start to where the fit went.
        refits: the learning rates and the losses of the fits before it, which were dropped.
    """

    scores: FitScores
    records: list[dict[str, float]]
    expected: float
    line_fraction: float
    refits: list[dict[str, float]]

    def warnings(self, before: float, target_kl: float | None) -> list[str]:
        """Sentences on what went wrong; ``before`` is the loss at the start on the prompts of ``scores.loss``."""
        mismatch = loss_mismatch(self.records[0]["loss"], self.expected)
        lines = [] if mismatch is None else [mismatch]
        if rose(self.scores.loss, before):
            prompts = "trained" if self.scores.held_out is None else "held-out"
            lines.append(
                f"The loss on {prompts} prompts rose from {before:.4g} to {self.scores.loss:.4g} nats^2: "
                "take a lower learning_rate, fewer epochs or more prompts, or allow refits (--learning-rate, --epochs, "
                "--refits)."
            )
        if self.line_fraction < 1:
            lines.append(
                f"The adapter goes {self.line_fraction:.2g} of the way that the fit went: all of it moves the policy "
                f"by more than {target_kl:g} nats."
            )
        return lines


@dataclass
class StepFit:
    """The fits of one step.

    Args:
        step: the step's folder.
        size: of the Step.
        settings: of the fit.
        seed: of its order.
        training, testing: with their log-probabilities; the latter are held out.
        sft: the texts of an SFT term; None: there is none.
    """

    folder: RunFolder
    progress: Progress
    model: LanguageModel
    step: Path
    size: float
    settings: Fit
    seed: int
    training: list[MicroBatch]
    testing: list[MicroBatch]
    sft: SFTTerm | None = None

    def scores(self, now: Sequence[torch.Tensor] | None = None) -> FitScores:
        """``now``: the training's and the testing's log-probabilities under the fitted policy; None: the start's."""
        baseline, cut = self.settings.baseline, len(self.training)
        train = experience(self.training, self.size, baseline, None if now is None else now[:cut])
        if not self.testing:
            return FitScores(train, None)
        return FitScores(train, experience(self.testing, self.size, baseline, None if now is None else now[cut:]))

    def run(self, parameters: list[torch.nn.Parameter], start: list[torch.Tensor]) -> FitResult:
        """Train the parameters, whose values are those of ``start``.

        A fit after which the loss is higher than before is repeated from the start at half the learning rate, as
        often as the settings allow; the run's plan has what was tried, so that a restart goes on from there.

        Raises:
            DivergedError: the last fit that is allowed diverged.
        """
        before = self.scores().loss
        refits: list[dict[str, float]] = list(self.folder.step_values(self.step.name).get("refits") or [])
        while True:
            settings = replace(self.settings, learning_rate=self.settings.learning_rate / 2 ** len(refits))
            last = len(refits) == settings.refits
            try:
                result = self._fit(parameters, start, settings, refits)
                if last or not rose(result.scores.loss, before):
                    return result
                after = result.scores.loss
            except DivergedError:
                if last:
                    raise
                after = math.inf
            refits.append({"learning_rate": settings.learning_rate, "loss": after})
            self.folder.update_step(self.step.name, {"refits": refits})
            self.progress.on_event({"refit": refits[-1], "at": f"{self.step.name}: training"})
            logger.warning(
                f"{self.step.name}: the loss rose from {before:.4g} to {after:.4g} nats^2 at a learning rate of "
                f"{settings.learning_rate:g}; the fit is repeated at half of it"
            )
            _set(parameters, start)

    def _fit(
        self,
        parameters: list[torch.nn.Parameter],
        start: list[torch.Tensor],
        settings: Fit,
        refits: list[dict[str, float]],
    ) -> FitResult:
        """One fit, measured, and drawn back to where it moves the policy by no more than ``target_kl``."""
        model, progress = self.model, self.progress
        total = settings.epochs * sum(len(batch.rollouts) for batch in self.training)
        checkpoints = Checkpoints(self.folder, self.step / "training", settings.checkpoint_seconds)
        first = experience(order(self.training, settings, self.seed)[0], self.size, settings.baseline)
        with progress.phase(self.step.name, "training", "", total) as tick:
            records = fit(
                model.network, parameters, self.training, self.size, settings, model.pad_id, self.seed,
                with_tokens(tick, settings.epochs * sum(batch.tokens for batch in self.training) / total),
                model.on_event, checkpoints, progress.stop.is_set, model.dtype == torch.float16,
                () if self.sft is None else self.sft.training,
            )  # fmt: skip
            progress.raise_if_stopped()
        fraction, end = 1.0, [parameter.detach().cpu().clone() for parameter in parameters]
        while True:
            scores = self._measure()
            if not math.isfinite(scores.loss):
                raise DivergedError(
                    f"the fit diverged: the loss after its last step is {scores.loss}; take a learning_rate below "
                    f"{settings.learning_rate:g}, or a solver's step that is smaller"
                )
            kl = divergence(scored(scores.train.start, "start"), scores.train.now, scores.train)
            if settings.target_kl is None or kl <= settings.target_kl:
                return FitResult(scores, records, loss(first), fraction, list(refits))
            fraction *= min(0.9, math.sqrt(settings.target_kl / kl))  # KL grows as the square of the fraction
            _set(parameters, [torch.lerp(a, b, fraction) for a, b in zip(start, end, strict=True)])

    def _measure(self) -> FitScores:
        """The scores of the adapter as it is now."""
        batches = [*self.training, *self.testing]
        now: list[torch.Tensor] = []
        total = sum(len(batch.rollouts) for batch in batches)
        with self.progress.phase(self.step.name, "measuring", "", total) as tick:
            for batch in batches:
                now.append(batch.logprobs(self.model.network, self.model.pad_id, self.model.on_event))
                tick(len(batch.rollouts), tokens=batch.tokens)
                self.progress.raise_if_stopped()
            scores = self.scores(now)
            if self.sft is None:
                return scores
            nll = self.sft.held_out_nll(self.model.network, self.model.pad_id, self.model.on_event)
            return replace(scores, sft_nll=nll)


def _set(parameters: Sequence[torch.nn.Parameter], values: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
