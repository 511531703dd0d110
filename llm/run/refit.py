"""The fit of one step under control: made again where it made things worse, drawn back where it went too far."""

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
from ..training.diagnostics import Scored, divergence, loss, mean_under, off_band, worse
from ..training.optimize import Fit, fit, order
from ..training.regression import Baseline
from ..training.sft import TaskTerm
from .progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """The responses that are fitted, and those held out (None: none are)."""

    train: Scored
    held_out: Scored | None
    baseline: Baseline
    task: float | None = None  # NLL of the task texts that are held out, nats a token

    @property
    def judged(self) -> str:
        """The prompts that a fit is judged by."""
        return "trained" if self.held_out is None else "held-out"

    @property
    def loss(self) -> float:
        """On these prompts."""
        return loss(self._judging, self.baseline)

    @property
    def win_rate(self) -> float:
        """On these prompts, see ``Limits.win_rate``."""
        judging = self._judging
        old, new = (mean_under(policy, judging.gains, judging) for policy in (judging.start, judging.now))
        return 0.5 + new - old

    @property
    def _judging(self) -> Scored:
        return self.train if self.held_out is None else self.held_out


@dataclass(frozen=True)
class Fitted:
    """A fit that is kept.

    Attributes:
        scores: of the adapter that it made.
        records: one an optimiser step.
        expected: the loss of the first of them, known before.
        kept: the share of the way from the start that the adapter kept.
        refits: the learning rates and the losses of those before it that were not kept.
    """

    scores: Scores
    records: list[dict[str, float]]
    expected: float
    kept: float
    refits: list[dict[str, float]]

    def said(self, before: float, target_kl: float | None) -> list[str]:
        """What there is to say of it, each a plain sentence; ``before`` is the loss that it is judged by."""
        found = [off_band(self.records[0]["loss"], self.expected)]
        if worse(self.scores.loss, before):
            found.append(
                f"The loss on {self.scores.judged} prompts rose from {before:.4g} to {self.scores.loss:.4g} nats^2: "
                "take a lower learning_rate, fewer epochs or more prompts, or allow refits (--learning-rate, --epochs, "
                "--refits)."
            )
        if self.kept < 1:
            found.append(
                f"The adapter keeps {self.kept:.2g} of the way that the fit went: all of it moves the policy by more "
                f"than {target_kl:g} nats."
            )
        return [line for line in found if line]


@dataclass
class Fitting:
    """The fits of one step.

    Args:
        stage: the step's folder.
        size: of the Step.
        settings: of the fit.
        seed: of its order.
        training, testing: with their log-probabilities; the latter are held out.
        task: the texts of a task term; None: there is none.
    """

    folder: RunFolder
    progress: Progress
    model: LanguageModel
    stage: Path
    size: float
    settings: Fit
    seed: int
    training: list[MicroBatch]
    testing: list[MicroBatch]
    task: TaskTerm | None = None

    def scored(self, now: Sequence[torch.Tensor] | None = None) -> Scores:
        """``now``: what a fit made of the training and the testing micro-batches; None: before any."""
        baseline, cut = self.settings.baseline, len(self.training)
        train = Scored.of(self.training, self.size, baseline, None if now is None else now[:cut])
        if not self.testing:
            return Scores(train, None, baseline)
        held_out = Scored.of(self.testing, self.size, baseline, None if now is None else now[cut:])
        return Scores(train, held_out, baseline)

    def run(self, parameters: list[torch.nn.Parameter], start: list[torch.Tensor]) -> Fitted:
        """Train the parameters, whose values are those of ``start``; the fit that is kept.

        A fit that left the loss higher than it was is made again from the start at half the learning rate, as often as
        the settings allow; the run's plan has what was tried, so that a restart goes on from there.

        Raises:
            DivergedError: the last fit that is allowed diverged.
        """
        before = self.scored().loss
        refits: list[dict[str, float]] = list(self.folder.pinned_step(self.stage.name).get("refits") or [])
        while True:
            settings = replace(self.settings, learning_rate=self.settings.learning_rate / 2 ** len(refits))
            last = len(refits) == settings.refits
            try:
                made = self._fit(parameters, start, settings, refits)
                if last or not worse(made.scores.loss, before):
                    return made
                after = made.scores.loss
            except DivergedError:
                if last:
                    raise
                after = math.inf
            refits.append({"learning_rate": settings.learning_rate, "loss": after})
            self.folder.pin_step(self.stage.name, {"refits": refits})
            self.progress.on_event({"refit": refits[-1], "at": f"{self.stage.name}: training"})
            logger.warning(
                f"{self.stage.name}: the loss rose from {before:.4g} to {after:.4g} nats^2 at a learning rate of "
                f"{settings.learning_rate:g}; the fit is made again at half of it"
            )
            _set(parameters, start)

    def _fit(
        self,
        parameters: list[torch.nn.Parameter],
        start: list[torch.Tensor],
        settings: Fit,
        refits: list[dict[str, float]],
    ) -> Fitted:
        """One fit, measured, and drawn back to where it moves the policy no further than it may."""
        model, progress = self.model, self.progress
        total = settings.epochs * sum(len(batch.groups) for batch in self.training)
        checkpoints = Checkpoints(self.folder, self.stage / "training", settings.checkpoint_seconds)
        first = Scored.of(order(self.training, settings, self.seed)[0], self.size, settings.baseline)
        with progress.phase(self.stage.name, "training", "", total) as tick:
            records = fit(
                model.network, parameters, self.training, self.size, settings, model.pad_id, self.seed, tick,
                model.on_event, checkpoints, progress.stop.is_set, model.dtype == torch.float16,
                () if self.task is None else self.task.training,
            )  # fmt: skip
            progress.raise_if_stopped()
        kept, end = 1.0, [parameter.detach().cpu().clone() for parameter in parameters]
        while True:
            found = self._measured()
            if not math.isfinite(found.loss):
                raise DivergedError(
                    f"the fit diverged: the loss after its last step is {found.loss}; take a learning_rate below "
                    f"{settings.learning_rate:g}, or a solver's step that is smaller"
                )
            gone = divergence(found.train.start, found.train.now, found.train)
            if settings.target_kl is None or gone <= settings.target_kl:
                return Fitted(found, records, loss(first, settings.baseline), kept, list(refits))
            kept *= min(0.9, math.sqrt(settings.target_kl / gone))  # KL grows as the square of the way
            _set(parameters, [torch.lerp(a, b, kept) for a, b in zip(start, end, strict=True)])

    def _measured(self) -> Scores:
        """The scores of the adapter as it is now."""
        batches = [*self.training, *self.testing]
        now: list[torch.Tensor] = []
        total = sum(len(batch.groups) for batch in batches)
        with self.progress.phase(self.stage.name, "measuring", "", total) as tick:
            for batch in batches:
                now.append(batch.logprobs(self.model.network, self.model.pad_id, self.model.on_event))
                tick(len(batch.groups))
                self.progress.raise_if_stopped()
            found = self.scored(now)
            if self.task is None:
                return found
            return replace(found, task=self.task.held_out(self.model.network, self.model.pad_id, self.model.on_event))


def _set(parameters: Sequence[torch.nn.Parameter], values: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
