"""The fit of one step under control: its learning rate, how far its adapter goes, and fits that are repeated."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from nashward.counted import counted
from nashward.errors import DivergedError
from nashward.games.analysis.confidence import standard_errors

from ...policy.model import LanguageModel
from ...processes import processes
from ...store.run_folder import RunFolder
from ...training.batches import MicroBatch
from ...training.checkpoint import Checkpoints
from ...training.diagnostics import SURE, divergence, experience, loss, rose
from ...training.experience import Experience, scored
from ...training.gradient import HALF_SCALE, Gradient
from ...training.optimize import Fit, fit, order
from ...training.regression import line_minimum
from ...training.sft import SFTTerm
from ...training.trial_step import learning_rate
from ..progress import Progress, with_tokens
from .fit_result import SPREAD, FitResult, FitScores

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

LONGEST = 2.0  # how far along the straight line from the start through where the fit went: further was not measured
HALVINGS = 4
SCALES = (0.3, 3.0)  # best scales beyond these are worth a warning


@dataclass
class StepFit:
    """The fits of one step.

    Args:
        step_folder: where the Step is written.
        size: that of the Step.
        settings: how it is fitted.
        seed: the seed of the order of its batches.
        training, validation, testing: with their log-probabilities; see ``Fit`` for what the latter two are for.
        sft: the texts of an SFT term; None: there is none.
        factor: what limits multiply the learning rate by.
    """

    home: RunFolder
    progress: Progress
    model: LanguageModel
    step_folder: Path
    size: float
    settings: Fit
    seed: int
    training: list[MicroBatch]
    validation: list[MicroBatch]
    testing: list[MicroBatch]
    sft: SFTTerm | None
    factor: float

    def scores(self, now: Sequence[torch.Tensor] | None = None) -> FitScores:
        """``now``: the log-probabilities of all three under the fitted policy, one after another; None: the start's."""
        parts, done = [], 0
        for batches in (self.training, self.validation, self.testing):
            end = done + len(batches)
            policy = None if now is None else now[done:end]
            parts.append(experience(batches, self.size, self.settings.baseline, policy) if batches else None)
            done = end
        train, validation, held_out = parts
        assert train is not None  # there is a prompt to train on
        return FitScores(train, validation, held_out)

    @property
    def _term(self) -> SFTTerm | None:
        """The SFT term, where it is in the loss and not measured alone."""
        return self.sft if self.settings.sft_weight > 0 else None

    @property
    def _passes(self) -> int:
        """The prompts of all epochs."""
        return self.settings.epochs * sum(len(batch.rollouts) for batch in self.training)

    def learning_rate(self, parameters: list[torch.nn.Parameter]) -> float:
        """The settings' own, or that of a trial step, times ``factor``; the run's plan has what was found, so that a
        restart takes the same."""
        if self.settings.learning_rate is not None:
            return self.factor * self.settings.learning_rate
        name = self.step_folder.name
        known = processes.decided(lambda: self.home.step_values(name).get("learning_rate"))
        if known is None:
            self.progress.begin(name, "training", self._passes, "trial steps find the learning rate")
            known = processes.decided(lambda: self._found_rate(parameters))
        return known

    def _found_rate(self, parameters: list[torch.nn.Parameter]) -> float:
        """By a trial, which the first process makes; a run that is stopped within it makes it again."""
        half = HALF_SCALE if self.model.dtype == torch.float16 else 1.0
        gradient = Gradient(
            self.model.network, parameters, self.size, self.settings, self.model.pad_id, self.model.on_event, half
        )
        first = order(self.training, self.settings, self.seed)[0]
        found = self.factor * learning_rate(gradient, first, self.progress.raise_if_stopped)
        self.home.update_step(self.step_folder.name, {"learning_rate": found})
        return found

    def run(self, parameters: list[torch.nn.Parameter], start: list[torch.Tensor], rate: float) -> FitResult:
        """Train the parameters, whose values are those of ``start``, at a learning rate.

        A fit that gained nothing is repeated from the start at half the learning rate, as often as the settings allow;
        the run's plan has what was tried, so that a restart goes on from there.

        Raises:
            DivergedError: the last fit that is allowed diverged.
        """
        before = self.scores().loss
        known = processes.decided(lambda: self.home.step_values(self.step_folder.name).get("refits"))
        refits: list[dict[str, float]] = list(known or [])
        while True:
            settings = replace(self.settings, learning_rate=rate / 2 ** len(refits))
            last = len(refits) == settings.refits
            try:
                result = self._fit(parameters, start, settings, refits)
                moved, at_end = result.line_fraction > 0, result.scores.loss
                gained = _decided(moved if self.validation else not rose(at_end, before))
                if last or gained:
                    return result
                after = result.loss_at_end
            except DivergedError:
                if last:
                    raise
                after = math.inf
            refits.append({"learning_rate": rate / 2 ** len(refits), "loss": after})
            processes.decided(lambda: self._record(refits))
            logger.warning(
                f"{self.step_folder.name}: the fit at a learning rate of {refits[-1]['learning_rate']:.3g} gained "
                f"nothing (loss {before:.4g} before, {after:.4g} after); it is repeated at half of it"
            )
            _set(parameters, start)

    def _record(self, refits: list[dict[str, float]]) -> None:
        self.home.update_step(self.step_folder.name, {"refits": refits})
        self.progress.on_event({"refit": refits[-1], "at": f"{self.step_folder.name}: training"})

    def _fit(
        self,
        parameters: list[torch.nn.Parameter],
        start: list[torch.Tensor],
        settings: Fit,
        refits: list[dict[str, float]],
    ) -> FitResult:
        """One fit with its measures; the adapter goes to where validation prompts are fitted best, within
        ``target_kl``."""
        model, progress = self.model, self.progress
        total = self._passes
        checkpoints = Checkpoints(self.home, self.step_folder / "training", settings.checkpoint_seconds)
        first = experience(order(self.training, settings, self.seed)[0], self.size, settings.baseline)
        with progress.phase(self.step_folder.name, "training", "", total, epochs=settings.epochs) as tick:
            records = fit(
                model.network, parameters, self.training, self.size, settings, model.pad_id, self.seed,
                with_tokens(tick, settings.epochs * sum(batch.tokens for batch in self.training) / total),
                model.on_event, checkpoints, progress.stopping, model.dtype == torch.float16,
                () if self.sft is None else self.sft.training,
            )  # fmt: skip
            progress.raise_if_stopped()
        processes.copy_(parameters)
        end = [parameter.detach().cpu().clone() for parameter in parameters]
        notes: list[str] = []

        def go(fraction: float) -> None:
            _set(parameters, [torch.lerp(a, b, fraction) for a, b in zip(start, end, strict=True)])

        longest = 1.0 if refits or self.factor < 1 else LONGEST  # a lowered rate is not to be made up for
        fraction, at_end = self._line_search(go, longest, notes) if self.validation else (1.0, math.nan)
        bound = False
        while True:
            scores = self._measure(moved=fraction > 0)
            at_end = scores.loss if math.isnan(at_end) else at_end
            if not math.isfinite(scores.loss):
                raise DivergedError(
                    f"the fit diverged: the loss after its last step is {scores.loss}; take a learning_rate below "
                    f"{settings.learning_rate:g}, or a solver's step that is smaller"
                )
            kl = _decided(divergence(scored(scores.train.start, "start"), scores.train.now, scores.train))
            if settings.target_kl is None or kl <= settings.target_kl:
                break
            bound = True
            fraction *= min(0.9, math.sqrt(settings.target_kl / kl))  # KL grows as the square of the fraction
            go(fraction)
        if bound:
            notes.append(
                f"The adapter goes {fraction:.2g} of the way that the fit went: more of it moves the policy by more "
                f"than {settings.target_kl:g} nats."
            )
        assert settings.learning_rate is not None
        return FitResult(
            scores, records, loss(first), settings.learning_rate, fraction, at_end, list(refits), notes
        )  # fmt: skip

    def _line_search(self, go: Callable[[float], None], longest: float, notes: list[str]) -> tuple[float, float]:
        """How far the adapter goes, at most ``longest``, and the loss where the fit went (NaN: not finite).

        ``go`` has taken the adapter to that fraction then; it is 0 where nothing is gained.

        For the mirror step the least loss on validation prompts is at a quotient of two sums, as the log-ratio grows
        about linearly along the line. For other losses, and with an SFT term, 1, 1/2, ... are tried until the loss is
        below that at the start.
        """
        at_start, at_end = self.scores().deciding, self._validation()
        if not math.isfinite(loss(at_end)):
            return 1.0, math.nan  # diverged, which is found when all is measured
        values = {1.0: _decided(loss(at_end) + self._weighted_nll())}
        fraction = 1.0
        if at_end.loss_value is None:
            missing = at_start.target - at_start.ratio
            best, error = _decided(
                line_minimum(at_end.ratio - at_start.ratio, missing, at_end.fit_weights, self.settings.baseline)
            )
            prompts = counted(len(at_end.ratio), "validation prompt")
            if self._term is None and not best > (0.0 if math.isnan(error) else error):
                why, known = ("not above 0", "") if math.isnan(error) else ("not beyond its error", f" +- {error:.2g}")
                why = "the oracle prefers none of its responses" if best == error == 0 else why
                flat = bool(self.size and (missing.amax(-1) == missing.amin(-1)).all())
                cause = (
                    "the oracle tells no two responses apart: take another one"
                    if flat
                    else ("the learning rate is too low (--learning-rate)")
                )
                notes.append(
                    f"The fit did not move the policy: {cause}."
                    if math.isnan(best)
                    else f"The fit gained nothing on {prompts} ({why}: best scale {best:.2g}{known}), and the "
                    "policy stays as it was: take more prompts, more responses to each (--responses)"
                    f"{SPREAD if self.size else ''}."
                )
                go(0.0)
                return 0.0, values[1.0]
            sure = standard_errors(SURE, len(at_end.ratio)) * error  # NaN of a single prompt, which says nothing
            if best + sure < SCALES[0] or best - sure > SCALES[1]:
                notes.append(
                    f"The best scale of the fit is {best:.2g} +- {error:.2g} on {prompts}: a learning rate "
                    f"{'above' if best > 1 else 'below'} this one suits the target better (--learning-rate)."
                )
            fraction = min(best, longest) if best > 0 else 1.0
        go(0.0)
        before = _decided(loss(at_start) + self._weighted_nll())
        for _ in range(HALVINGS):
            if fraction not in values:
                go(fraction)
                values[fraction] = _decided(loss(self._validation()) + self._weighted_nll())
            if values[fraction] < before:
                break
            fraction /= 2
        least = min(values, key=lambda place: values[place])
        if not values[least] < before:
            notes.append(
                f"The loss on validation prompts rose from {before:.4g} to {values[1.0]:.4g}, and the policy stays "
                "as it was: take a lower learning rate, fewer epochs or more prompts (--learning-rate, --epochs)."
            )
            least = 0.0
        go(least)
        return least, values[1.0]

    def _weighted_nll(self) -> float:
        """The SFT term's part of the loss under the adapter as it is now, on held-out texts."""
        if self._term is None:
            return 0.0
        return self.settings.sft_weight * self._held_out_nll(self._term)

    def _held_out_nll(self, term: SFTTerm) -> float:
        model = self.model
        return term.held_out_nll(model.network, model.pad_id, model.on_event, self.progress.raise_if_stopped)

    def _validation(self) -> Experience:
        """The validation prompts under the adapter as it is now."""
        now = self._logprobs(self.validation, "validation")
        return experience(self.validation, self.size, self.settings.baseline, now)

    def _logprobs(self, batches: Sequence[MicroBatch], name: str = "") -> list[torch.Tensor]:
        total = sum(len(batch.rollouts) for batch in batches)
        with self.progress.phase(self.step_folder.name, "measuring", name, total, shared=True) as tick:

            def measured(batch: MicroBatch) -> torch.Tensor:
                now = batch.logprobs(self.model.network, self.model.pad_id, self.model.on_event)
                tick(len(batch.rollouts), tokens=batch.tokens)
                self.progress.raise_if_stopped()
                return now

            return processes.map(measured, batches)

    def _measure(self, moved: bool) -> FitScores:
        """The scores of the adapter as it is now; not ``moved``: it is that of the start, which is known."""
        batches = [*self.training, *self.validation, *self.testing]
        scores = self.scores(self._logprobs(batches) if moved else None)
        if self.sft is None:
            return scores
        return replace(scores, sft_nll=self._held_out_nll(self.sft))


def _decided(value: Value) -> Value:
    """The first process's value: other processors may round it differently, and all are to go the same way."""
    return processes.decided(lambda: value)


def _set(parameters: Sequence[torch.nn.Parameter], values: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
