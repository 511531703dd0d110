"""The third stage of a Step: an adapter is trained on the judged responses."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games import Policy, Step

from ...config.phase import Phase
from ...config.run import RunConfig
from ...data.prompts import Prompt
from ...data.rollouts import Rollout, Text
from ...policy.experimental.token_mixture import use_policy
from ...policy.handles import Adapter, Sampled
from ...policy.logprobs import computes_packed
from ...policy.model import LanguageModel
from ...policy.sampling import seed_of
from ...processes import processes
from ...store.files import to_jsonl
from ...store.run_folder import RunFolder, iteration_of
from ...training import sft
from ...training.batches import MicroBatch, micro_batches
from ...training.diagnostics import (
    changed_fraction,
    initial_metrics,
    promised_win_rate,
    unreachable_target,
    went_too_far,
)
from ...training.losses import LOSSES, loss_settings
from ...training.optimize import Fit, order
from ...training.scoring import heaviest
from ..inputs.parts import divide
from ..payoffs.objectives import StepObjectives
from ..payoffs.step_payoffs import StepPayoffs
from ..payoffs.union import ResponseUnion
from ..progress import Progress
from ..rollouts import PromptNumbers, RolloutStore
from ..step_control import phase_of
from .fit_result import FitResult, FitScores
from .refit import StepFit
from .score import ScoreStage
from .seal import publish_metrics, wait_for_adapter, write_adapter
from .summary import fit_summary, step_summary, unjudged_pairs

logger = logging.getLogger(__name__)

SAME = 1e-3  # nats rms: a mixture this near to the policy that its fit starts from is that policy, up to rounding


def of_phase(phase: Phase | None, warnings: Sequence[str]) -> list[str]:
    """Where the learning rate that warnings would change is, if a phase has it, where no flag changes it."""
    if phase is None or phase.learning_rate is None or "--learning-rate" not in " ".join(warnings):
        return []
    return ["Its learning rate is that of its phase: change it there, as learning_rate in phases."]


@dataclass(frozen=True)
class StepTarget:
    """What a fit is to reach.

    Attributes:
        initial: how far it is from the target at the start, see ``initial_metrics``.
        error_share: the share of the target's variance that is the error of several judges; None for one.
        r2_ceiling: R2 on held-out prompts can be this at most; None: it is not known.
        win_rate: over the policy before, of a fit that met the target on every response; None: it is not known.
    """

    initial: Mapping[str, float]
    error_share: float | None
    r2_ceiling: float | None = None
    win_rate: float | None = None


@dataclass
class TrainStage:
    """Trains the adapter of one Step, from where an earlier process left it.

    Args:
        model: the policy's model.
        step_folder: where the Step is written.
        samplers: the policies whose responses are fitted; the metrics describe those of the first.
        reference: the policy that the run started from.
        enumerates: the responses are all that there are, see ``ResponseSource``.
        label: returns the kind of a response's text.
        sft_texts: prompts with responses whose likelihood is kept up meanwhile; empty: none.
        rate_factor: what limits multiply the learning rate by.
        objectives: what several objectives make of the Step; None: there is one oracle.
    """

    home: RunFolder
    prompts: Sequence[Prompt]
    config: RunConfig
    progress: Progress
    rollouts: RolloutStore
    model: LanguageModel
    step_folder: Path
    step: Step
    samplers: Sequence[Sampled]
    numbers: PromptNumbers
    reference: Adapter
    enumerates: bool
    label: Callable[[str], str | None] | None
    sft_texts: Sequence[tuple[Prompt, str]]
    rate_factor: float
    objectives: StepObjectives | None

    def run(self) -> None:
        """Judged responses in, a sealed adapter with its metrics out."""
        settings, name, model, start = self._settings, self.step_folder.name, self.model, self._start
        sampled = {policy: self.rollouts.rollouts(policy.label, self.numbers) for policy in self.samplers}
        union = self._union(sampled)
        fitted, error_share = union.fitted()
        if not fitted:
            raise NashwardError(f"{name}: no prompt has responses that the oracle tells apart; nothing to learn from")
        training, validation, testing = self._micro_batches(fitted)
        self._score([*training, *validation, *testing])
        seed = seed_of(self.config.seed, name, "fit")
        steps = len(order(training, settings, seed))
        term = self._sft_term(steps)
        nll = {} if term is None else self._sft_nll(term)
        fit = StepFit(
            self.home, self.progress, model, self.step_folder, self.step.size, settings, seed, training, validation,
            testing, sft=term, factor=self.rate_factor,
        )  # fmt: skip
        before = fit.scores()
        target = self._target(before, union, error_share)
        described = step_summary(name, self.step, sampled, self.rollouts, self.numbers, len(fitted), self.label)
        nothing = self.step.opponent is None and target.initial["target_rms"] < SAME
        if nothing:
            self.progress.info(f"{name}: nothing to fit: the mixture is the policy {start.label} itself")
        else:
            self._announce(target, described["cyclic_prompts"])
        doubts = [unjudged_pairs(described), unreachable_target(target.initial["target_rms"], self.step.size)]
        for line in filter(None, doubts):
            logger.warning(f"{name}: {line}")
        with model.training(start.folder) as parameters:
            weights = [parameter.detach().cpu().clone() for parameter in parameters]
            if nothing:
                result = FitResult.without_fit(before)
            else:
                rate = fit.learning_rate(parameters)
                self.progress.info(
                    f"{name}: {counted(steps, 'optimiser step')} of about "
                    f"{counted(round(settings.epochs * sum(len(b.rollouts) for b in training) / steps), 'prompt')}, "
                    f"learning rate {rate:.3g}"
                )
                result = fit.run(parameters, weights, rate)
            if result.scores.sft_nll is not None:
                nll["after"] = result.scores.sft_nll
            win_rate = result.scores.win_rate if self._has_win_rate else None
            exceeded = self._limits_exceeded(nll, win_rate)
            fitted_to = fit_summary(result, settings.max_grad_norm)
            far = went_too_far(fitted_to["after"], fitted_to["train"]["kl"])
            warnings = [*result.warnings(before, steps // settings.epochs), *exceeded, *([far] if far else [])]
            warnings += of_phase(phase_of(self.config.phases, iteration_of(name)), warnings)
            for line in warnings:
                logger.warning(f"{name}: {line}")
            summary = {
                **described,
                "at_start": target.initial,
                "warning": " ".join(filter(None, [*doubts, *warnings])) or None,
                **fitted_to,
                **({} if error_share is None else {"error_share": error_share}),
                "promised_win_rate": target.win_rate,
                "r2_ceiling": target.r2_ceiling,
                "win_rate": win_rate,
                "win_rate_error": None if win_rate is None else result.scores.win_rate_error,
                "sft": nll,
                "crossed": bool(exceeded),
                **self._objectives_summary(),
                "changed_fraction": changed_fraction(weights, [p.detach().cpu() for p in parameters]),
            }
        self._seal([*({"step": i, **record} for i, record in enumerate(result.records, 1)), summary])

    @cached_property
    def _settings(self) -> Fit:
        """Those of the run, but for what the Step is."""
        fit = self.config.fit
        if self.step.opponent is None:  # a geometric mixture: no response is preferred to another
            return replace(fit, loss="mirror", selection="all")
        if self.objectives is not None:
            fit = replace(fit, sft_weight=fit.sft_weight * self.objectives.sft_factor(self._opponents()))
        return fit

    @property
    def _start(self) -> Adapter:
        """The policy that the fit begins from."""
        return heaviest({member.value: weight for member, weight in self.step.anchor.members().items()})

    def _opponents(self) -> dict[Policy, float]:
        return {} if self.step.opponent is None else self.step.opponent.members()

    @property
    def _against_start(self) -> bool:
        """Whether the payoffs are those of objectives that are played for against the run's start."""
        return self.objectives is not None and self.objectives.combination.plays_against_the_start

    @property
    def _plays_itself(self) -> bool:
        """Whether the only opponent is the policy that the fit starts from: the payoffs are win rates over it."""
        return [(member.value, weight) for member, weight in self._opponents().items()] == [(self._start, 1.0)]

    @property
    def _has_win_rate(self) -> bool:
        """Whether the payoffs tell the win rate over the policy before: a mixture has none, gpo's are scores, and those
        of some objectives are against the run's start."""
        return self._settings.loss != "gpo" and not self._against_start and self.step.opponent is not None

    def _union(self, sampled: Mapping[Sampled, Sequence[Rollout]]) -> ResponseUnion:
        judged = StepPayoffs(
            self.rollouts, self.numbers, self._opponents(), sampled, LOSSES[self.config.fit.loss],
            self.config.self_comparison or self.enumerates, self.objectives if self._against_start else None,
        )  # fmt: skip
        config = replace(self.config, fit=self._settings)
        return ResponseUnion(judged, self.prompts, config, self.enumerates)

    def _micro_batches(self, fitted: Mapping[int, Rollout]) -> list[list[MicroBatch]]:
        """What is trained on, what decides how far the adapter goes, and what is held out."""
        fit = self._settings
        parts = divide(fitted, self.prompts, fit, self.config.seed)
        longest = max(len(prompt) + len(ids) for rollout in fitted.values() for prompt, ids in rollout.texts)
        with self.model.use_adapter(self.reference.folder) as network:
            packed = computes_packed(network, longest)
        sizes = fit.pass_tokens(self.model.device.type), fit.batch, loss_settings(fit, self.enumerates), packed
        return [micro_batches([fitted[i] for i in sorted(part)], *sizes) for part in parts]

    def _score(self, batches: Sequence[MicroBatch]) -> None:
        ScoreStage(
            self.home, self.progress, self.model, self.step_folder, self.step, self.samplers, self.reference,
            self._settings.baseline,
        ).run(batches)  # fmt: skip

    def _target(self, before: FitScores, union: ResponseUnion, error_share: float | None) -> StepTarget:
        initial = initial_metrics(before.train)
        if self._settings.loss != "mirror" or self._against_start or not self._plays_itself:
            return StepTarget(initial, error_share)
        r2_ceiling = union.r2_ceiling()
        return StepTarget(initial, error_share, r2_ceiling, promised_win_rate(before.train, r2_ceiling))

    def _sft_term(self, steps: int) -> sft.SFTTerm | None:
        """The SFT texts of a fit of so many optimiser steps; None where the run has none, and for a geometric mixture,
        whose members have been fitted with them."""
        texts, fit, key = self.sft_texts, self._settings, (self.config.seed, "task")
        if not texts or self.step.opponent is None:
            return None

        def text(number: int) -> Text:
            return sft.encode(self.model.tokenizer, *texts[number], self.model.stop_ids)

        training, _ = sft.split([prompt.id for prompt, _ in texts], fit.held_out, seed_of(*key))
        stream = map(text, sft.epochs(training, seed_of(*key, self.step_folder.name)))
        sizes = fit.pass_tokens(self.model.device.type), fit.batch
        batches = sft.pack(stream, *sizes, steps if fit.sft_weight > 0 else 0)
        model = self.model
        testing = sft.held_out(texts, model.tokenizer, model.stop_ids, fit.held_out, seed_of(*key), sizes)
        return sft.SFTTerm(batches, testing)

    def _sft_nll(self, term: sft.SFTTerm) -> dict[str, float]:
        """NLL of the held-out SFT texts, nats per token, where the run started and where the fit starts."""
        nll, start, model, check = {}, self._start, self.model, self.progress.raise_if_stopped
        for policy in dict.fromkeys([self.reference, start]):
            check()
            with use_policy(model, policy) as network:
                nll[policy] = term.held_out_nll(network, model.pad_id, model.on_event, check)
        return {"start": nll[self.reference], "before": nll[start]}

    def _limits_exceeded(self, nll: Mapping[str, float], win_rate: float | None) -> list[str]:
        """One sentence where the iterate exceeds a limit of the run; half steps have no limits."""
        limits = self.config.limits
        rise = nll["after"] - nll["start"] if nll else None
        exceeded = limits.crossed(rise, win_rate) if self.step.is_iterate else []
        if not exceeded:
            return []
        lowers = limits.lowers.replace("-", " ")
        return [
            f"Beyond its limits: {' and '.join(exceeded)}; the {lowers} of later iterations is multiplied by "
            f"{limits.factor:g}."
        ]

    def _objectives_summary(self) -> dict[str, Any]:
        return {} if self.objectives is None else {"objectives": self.objectives.summary(self.step, self.samplers[0])}

    def _seal(self, metrics: Sequence[dict[str, Any]]) -> None:
        """Write the adapter and publish its metrics, in the first process; the others wait for it."""
        adapter, lines = self.step_folder / "adapter", to_jsonl(metrics)

        def seal() -> None:
            write_adapter(adapter, self.model.save, lines)
            publish_metrics(self.step_folder)

        processes.decided(seal)
        wait_for_adapter(adapter)

    def _announce(self, target: StepTarget, cyclic: float | None) -> None:
        name, settings = self.step_folder.name, self._settings
        initial, error_share = target.initial, target.error_share
        mirror = f"{initial['loss']:.6g} nats^2"
        if self.step.opponent is not None:
            mirror += f" ({initial['loss_paper']:.3g} in the paper's units)"
        value = mirror if settings.loss == "mirror" else f"{initial['loss']:.6g} ({settings.loss})"
        self.progress.info(
            f"{name}: loss before training {value}; the target is {initial['target_rms']:.3g} nats away (rms)"
        )
        if cyclic is not None:
            self.progress.info(f"{name}: on {cyclic:.0%} of the prompts each response loses to another one (cycles)")
        if error_share is not None and not math.isnan(error_share):
            weighed = "weigh less" if settings.spread_weights else "weigh as others (--spread-weights)"
            self.progress.info(
                f"{name}: the judges' error is {min(error_share, 1):.0%} of the target's variance, by "
                f"how far they differ; responses on which they differ {weighed}"
            )
        if target.win_rate is not None and unreachable_target(initial["target_rms"], self.step.size) is None:
            self.progress.info(
                f"{name}: a fit that met its target on every response would win about {target.win_rate:.1%} "
                "of its duels with the policy before; expect less, the part that carries over to other prompts"
            )
        if target.r2_ceiling is not None:
            self.progress.info(
                f"{name}: R2 on held-out prompts can be {target.r2_ceiling:.2f} at most: the rest of the "
                "target is the luck of which responses were compared, and falls as one over their number (--responses)"
            )
