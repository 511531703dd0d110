"""How a step is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nashward.errors import NashwardError

from .fields import check_choice, setting

Loss = Literal[
    "mirror", "sppo", "sppo-single", "sppo-hard", "dpo", "ipo", "kto", "simpo", "rebel", "online-ipo", "dno", "gpo"
]
Selection = Literal["all", "best-worst"]
Baseline = Literal["plug-in", "centred", "constant"]
Optimiser = Literal["adamw", "rmsprop", "adamw8bit", "rmsprop8bit", "paged-adamw", "paged-adamw8bit", "lbfgs"]
Schedule = Literal["linear", "cosine", "constant"]


TOKENS = {"cuda": 4096, "cpu": 512}  # of a pass, by device
FEWEST = 4  # validation prompts: of fewer, and of fewer than four times as many prompts, the verdict is chance


@dataclass(frozen=True)
class Fit:
    """How a step is fitted: by gradient descent on a loss of the log-ratio l(y) = log pi_theta(y) - log anchor(y).

    Attributes:
        loss: the mirror step's regression, or one of the field's on the same log-probabilities, see ``losses``; the
            Step's anchor is its reference, its size 1 / beta. The mirror step's fit is measured as well.
        margin: gamma / beta of simpo, in nats per token.
        selection: all responses of a prompt, or the best and the worst of them (as SPPO's code does, which moves the
            fixed point away from the Nash).
        baseline: the constant of the regression, see ``regression.targets``; plug-in needs all responses.
        optimiser, schedule, warmup: warmup is the share of the steps over which the rate rises. With lbfgs a step is a
            run of up to 60 evaluations on one batch: make the batch all prompts, max_grad_norm infinite.
        learning_rate: None: from the size of the target, see ``trial_step.learning_rate``.
        epochs: passes over the responses of a step.
        batch: about how many prompts one optimiser step has.
        tokens: how many one forward pass takes, a prompt counted once for its responses (padded ones where a model
            cannot share them, see ``policy.packing``); a single longer response passes alone. None: ``TOKENS`` of the
            device.
        max_grad_norm: the gradient is scaled down to this norm.
        validation: the share of prompts kept from training that decide how far the adapter goes on the straight line
            from where it started: to the least loss on them (of other losses than the mirror step's: to one below that
            before), and nowhere where nothing is gained beyond its error. At least 4; none with fewer than 16 prompts.
            0: the adapter goes all the way.
        held_out: the share of prompts kept from training and from that decision, on which the fit is measured.
        checkpoint_seconds: a training that is killed repeats at most so many seconds; 0: one optimiser step.
        target_kl: the most that a step may move the policy, KL(before || after) in nats per response, as measured on
            the responses that were fitted. An adapter that went further is drawn back on the straight line to where it
            started until it is within: to first order the same mirror step with a smaller size. None: no limit.
        refits: how often a fit that gained nothing on validation prompts (held-out ones where there are none, else the
            others) is repeated from the start, each time at half the learning rate. An SFT term is not in it.
        sft_weight: w of a run's SFT term, see ``training.sft``; 0: it is measured, and the fit is as without it. The
            default is that of arXiv 2404.19733, whose likelihood is a mean over tokens too.
        spread_weights: the more the judges of an ensemble differ about a response, the less it counts, in the loss and
            in what is measured of the fit, see ``regression.precisions``. With one oracle all count alike.

    Raises:
        ValueError: an unknown name, a number out of its range, or settings that do not go together (plug-in
            with best-worst, online-ipo with best-worst, lbfgs with a bounded gradient).

    See also:
        ``training.losses.loss_settings``, what a fit with these settings minimises.

    Example:
        >>> Fit(loss="dpo", selection="best-worst", learning_rate=5e-6).optimiser
        'adamw'
    """

    loss: Loss = setting("mirror", "what a fit lowers, with beta = 1 / step", "loss")
    margin: float = setting(0.5, "gamma / beta of simpo, nats per token", "loss")
    selection: Selection = setting("all", "responses that are fitted", "loss")
    baseline: Baseline = setting("plug-in", "", "loss")
    optimiser: Optimiser = setting("adamw", "default: {default}; 8-bit and paged ones take less", "training")
    learning_rate: float | None = setting(None, "default: auto, from the size of the target", "training", none="auto")
    schedule: Schedule = setting("linear", "the course of the learning rate", "training")
    warmup: float = setting(0.1, "share of the optimiser steps", "training")
    epochs: int = setting(2, "passes over the responses of a step", "training")
    batch: int = setting(16, "prompts in an optimiser step", "training")
    tokens: int | None = setting(
        None,
        f"tokens in a forward pass of training, a prompt once for its responses (default: {TOKENS['cuda']} on a card, "
        f"{TOKENS['cpu']} on a CPU, where more are no faster and take memory)",
        "training", none="auto",
    )  # fmt: skip
    max_grad_norm: float = setting(1.0, "", "training")
    validation: float = setting(
        0.1, "share of prompts that choose how far the adapter goes; 0: all the way", "training"
    )
    held_out: float = setting(0.1, "share of prompts kept to measure the fit", "training")
    checkpoint_seconds: float = setting(
        300.0, "seconds between checkpoints of training; 0: after each step", "training"
    )
    target_kl: float | None = setting(None, "the most nats per response that a step may move", "training", none="none")
    refits: int = setting(0, "fits again at half the rate where nothing was gained", "training")
    sft_weight: float = setting(
        1.0, "weight of the SFT texts' NLL, nats per token, in the loss; 0: measured alone", "SFT and limits"
    )
    spread_weights: bool = setting(False, "responses on which several judges differ count less in the fit", "training")

    def pass_tokens(self, device: str) -> int:
        """The tokens of a pass on a device, "cuda" or "cpu"."""
        return self.tokens or TOKENS[device]

    def parts(self, prompts: int) -> tuple[int, int, int]:
        """Of so many prompts, how many are trained on, decide how far the adapter goes, and are held out.

        Example:
            >>> Fit(held_out=0.1, validation=0.1).parts(160), Fit(held_out=0.25).parts(4)
            ((128, 16, 16), (3, 0, 1))
        """
        held_out = min(round(self.held_out * prompts), prompts - 1)
        enough = self.validation > 0 and prompts >= 4 * FEWEST
        validation = max(round(self.validation * prompts), FEWEST) if enough else 0
        validation = min(validation, prompts - held_out - 1)  # one is left to train on
        return prompts - held_out - validation, validation, held_out

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, Loss)
        check_choice("selection", self.selection, Selection)
        check_choice("baseline", self.baseline, Baseline)
        check_choice("optimiser", self.optimiser, Optimiser)
        check_choice("schedule", self.schedule, Schedule)
        if self.selection == "best-worst" and self.loss == "online-ipo":
            raise NashwardError("online-ipo compares two responses with a third: take selection all")
        if self.selection == "best-worst" and self.baseline == "plug-in" and self.loss == "mirror":
            raise NashwardError("the plug-in baseline needs all responses; with best-worst take centred or constant")
        for name in ("learning_rate", "epochs", "batch", "tokens", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise NashwardError(f"{name} must be positive, got {value}")
        if not math.isfinite(self.margin):
            raise NashwardError(f"margin must be a finite number, got {self.margin}")
        if self.learning_rate is not None and not math.isfinite(self.learning_rate):
            raise NashwardError(f"learning_rate must be a finite number, got {self.learning_rate}")
        if self.optimiser == "lbfgs" and math.isfinite(self.max_grad_norm):
            raise NashwardError("lbfgs searches along lines and needs the gradient as it is: set max_grad_norm to inf")
        if not 0 <= self.checkpoint_seconds < math.inf:
            raise NashwardError(
                f"checkpoint_seconds must be 0 or a finite number above it, got {self.checkpoint_seconds}"
            )
        if self.target_kl is not None and not self.target_kl > 0:
            raise NashwardError(f"target_kl must be positive, got {self.target_kl}")
        if self.refits < 0:
            raise NashwardError(f"refits must be at least 0, got {self.refits}")
        if not 0 <= self.sft_weight < math.inf:
            raise NashwardError(f"sft_weight must be a finite number, at least 0, got {self.sft_weight}")
        for name, of in (("held_out", "prompts"), ("warmup", "optimiser steps")):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise NashwardError(f"{name} is {share:g}; expected a share of the {of}, at least 0 and below 1")
        if not 0 <= self.validation < 1 - self.held_out:
            raise NashwardError(
                f"validation is {self.validation:g}; expected a share of the prompts, at least 0 and below "
                f"{1 - self.held_out:g}, which held_out = {self.held_out:g} leaves"
            )
