"""How a fit went: its losses before and after it, and what a user may want to change."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nashward.counted import counted
from nashward.games.analysis.confidence import standard_errors

from ...training.diagnostics import (
    LEAST_ESS,
    SURE,
    TOLERANCE,
    difference_error,
    loss,
    loss_mismatch,
    mean_under,
    relative_ess,
    rise,
    rose,
)
from ...training.experience import Experience, scored
from ...training.regression import HANDFUL

SPREAD = ", or an oracle with more spread"  # advice for a step that an oracle has a part in
NOTABLE = 1.1  # a mean loss in training of more than this many times that at the start is worth a warning


@dataclass(frozen=True)
class FitScores:
    """The scores on the responses that are fitted, on those that decide how far it goes, and on the held-out ones
    (None: there are none)."""

    train: Experience
    validation: Experience | None = None
    held_out: Experience | None = None
    sft_nll: float | None = None  # of the held-out SFT texts, nats per token

    @property
    def unseen(self) -> Experience:
        """The scores to go by: on held-out responses, else on validation ones, else on the fitted ones."""
        return self.held_out or self.validation or self.train

    @property
    def deciding(self) -> Experience:
        """The responses that decide on a refit: validation, else held-out, else the fitted ones."""
        return self.validation or self.held_out or self.train

    @property
    def prompts(self) -> str:
        """The name of the prompts of ``deciding``."""
        return "validation" if self.validation else "held-out" if self.held_out else "trained"

    @property
    def loss(self) -> float:
        """The loss on the prompts that decide."""
        return loss(self.deciding)

    @property
    def win_rate(self) -> float | None:
        """The win rate on prompts that training did not see, see ``Limits.win_rate``; None where it cannot be told."""
        batch = self.unseen
        if min(relative_ess(one.now, one) for one in (batch, self.train)) < LEAST_ESS:
            return None
        old, new = (mean_under(policy, batch.payoffs, batch) for policy in (scored(batch.start, "start"), batch.now))
        return 0.5 + new - old

    @property
    def win_rate_error(self) -> float:
        """The standard error of ``win_rate`` over the prompts; NaN for a handful of them."""
        batch = self.unseen
        return difference_error(batch.now, scored(batch.start, "start"), batch.payoffs, batch)


@dataclass(frozen=True)
class FitResult:
    """The fit that a step's adapter is from.

    Attributes:
        scores: those of the adapter.
        records: one per optimiser step; none where there was nothing to fit.
        expected: the loss of the first of them, computed before.
        learning_rate: the largest one.
        line_fraction: how far the adapter is on the straight line from the start to where the fit went.
        loss_at_end: the loss where the fit went, on the prompts that decide.
        refits: the learning rates and the losses of the fits before it, which were dropped.
        notes: sentences on how ``line_fraction`` was found, and what a user may want to change.
    """

    scores: FitScores
    records: list[dict[str, float]]
    expected: float
    learning_rate: float
    line_fraction: float
    loss_at_end: float
    refits: list[dict[str, float]]
    notes: list[str]

    @classmethod
    def without_fit(cls, scores: FitScores) -> FitResult:
        """Of a step whose policy is the one before, with these scores."""
        return cls(scores, [], math.nan, math.nan, 0.0, scores.loss, [], [])

    def warnings(self, before: FitScores, last_epoch: int) -> list[str]:
        """Sentences on what went wrong.

        Args:
            before: the scores at the start.
            last_epoch: the number of optimiser steps in it.
        """
        if not self.records:
            return self.notes
        mismatch = loss_mismatch(self.records[0]["loss"], self.expected)
        lines = [*([] if mismatch is None else [mismatch]), *self.notes]
        at_start, losses = loss(before.train), [record["loss"] for record in self.records[-last_epoch:]]
        kept = f"Validation prompts kept {self.line_fraction:.2g} of its way. " if self.scores.validation else ""
        gained = self.scores.validation is not None and self.line_fraction >= 0.5 and self.scores.loss < before.loss
        if not gained and "sft_nll" not in self.records[0] and rose(sum(losses) / len(losses), NOTABLE * at_start):
            lines.append(
                f"In training the loss rose from {at_start:.4g} to {sum(losses) / len(losses):.4g}: the learning rate "
                f"of {self.learning_rate:.2g} is too high for this target. {kept}--learning-rate "
                f"{self.learning_rate / 2:.1g} is worth a try."
            )
        elif self.scores.validation and self.line_fraction > 0 and rose(loss(self.scores.train), at_start):
            more, error = rise(self.scores.train)
            reach = standard_errors(SURE, len(self.scores.train.now))
            few = " (a few of them make it up: some of their responses went far)" if more < reach * error else ""
            lines.append(
                f"On the prompts that were trained on the loss rose from {at_start:.4g} to "
                f"{loss(self.scores.train):.4g}{few}; validation prompts, where it fell, took the adapter "
                f"{self.line_fraction:.2g} of the way that the fit went. Take no larger step until it falls: "
                "--target-kl holds the adapter back, and more prompts help too."
            )
        held = self.scores.held_out
        if self.line_fraction > 0 and rose(self.scores.loss, before.loss):
            advice = (
                ": take a lower learning_rate, fewer epochs or more prompts, or allow refits (--learning-rate, "
                "--epochs, --refits)."
            )
            if held is not None and len(held.now) < HANDFUL:
                advice = f"; {_by_chance(held)}."
            lines.append(
                f"The loss on {self.scores.prompts} prompts rose from {before.loss:.4g} to {self.scores.loss:.4g} "
                f"nats^2{advice}"
            )
        # where nothing validated, the held-out prompts decided, and the sentence above is about them
        if self.line_fraction > 0 and self.scores.validation and held is not None and held.loss_value is None:
            more, error = rise(held)
            if more > max(standard_errors(1.0, len(held.now)) * error, TOLERANCE * loss(held)):
                lines.append(
                    f"The loss on held-out prompts rose by {more:.3g}; {_by_chance(held)}."
                    if len(held.now) < HANDFUL
                    else f"The loss on held-out prompts rose by {more:.3g} +- {error:.2g}: what was learned does not "
                    f"carry over to other prompts; take more of them{'' if held.size == 0 else SPREAD}."
                )
        return lines


def _by_chance(held: Experience) -> str:
    """What to do where a handful of prompts was held out."""
    return f"{counted(len(held.now), 'prompt')} may do so by chance: hold out {HANDFUL} (--held-out)"
