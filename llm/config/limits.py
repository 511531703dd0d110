"""Limits on what an iteration may cost, beyond which later ones go less far; and sizes from which a judge's errors are
named."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from nashward.errors import NashwardError

from .fields import check_choice, setting

Lowers = Literal["step", "learning-rate"]


@dataclass(frozen=True)
class Limits:
    """What each iteration is held against when its fit is measured; no oracle is called again.

    An iteration that ends beyond a limit stays as it is. Each later one has its step, or its learning rate, multiplied
    by ``factor`` once for every iteration before it that ended beyond: it keeps falling while that goes on, and never
    rises again. The verdict is a part of the iteration's sealed metrics, and what is lowered a function of those alone,
    so that a run that goes on from its folder, or is played again, steps as it did.

    A smaller step is the same mirror step on less, which the fit can meet in full; beside an SFT term it is the lower
    weight of the alignment. A lower learning rate leaves the target where it is and the fit short of it, which
    validation prompts do not make up for then: take it where the target is out of reach anyway (large steps, the recipe
    of SPPO), for there the step cancels.

    Attributes:
        sft: how much the NLL of held-out SFT texts, in nats per token, may be above that of the policy that the run
            started from. None: no limit.
        win_rate: the least win rate of the new iterate on held-out prompts (on the others, where none is held out):

                1/2 + E_{y ~ new} G(y) - E_{y ~ old} G(y),   G(y) = sum_j c_j P(y beats rho_j)

            the Step's gains, old the policy that the fit started from. Where the Step plays against old, as in plain
            multiplicative weights, it is P(new beats old). The exact mirror step from a single anchor never has less
            than 1/2. Estimated by importance weights from the responses that are fitted and the tables that there are.
            None: no limit.
        factor: what the step or the learning rate is multiplied by, in (0, 1).
        lowers: which of the two.

    Raises:
        ValueError: a number out of its range, or an unknown name.

    Example:
        >>> Limits(sft=0.05, win_rate=0.5).crossed(rise=0.08, win_rate=0.61)
        ["the held-out SFT NLL is 0.08 nats per token above the start's (limit 0.05)"]
    """

    sft: float | None = setting(
        None,
        "nats per token that the held-out SFT texts' NLL may rise over the start's before later iterations go less far",
        "SFT and limits",
        option="sft-limit",
        none="none",
    )
    win_rate: float | None = setting(
        None,
        "the same below this win rate of a new iterate on held-out prompts, 1/2 where nothing is gained",
        "SFT and limits",
        option="win-rate-floor",
        none="none",
    )
    factor: float = setting(
        0.5, "what is lowered beyond a limit is multiplied by", "SFT and limits", option="limit-factor"
    )
    lowers: Lowers = setting("step", "what is lowered beyond a limit", "SFT and limits", option="limit-lowers")

    def __post_init__(self) -> None:
        check_choice("lowers", self.lowers, Lowers)
        if self.sft is not None and not 0 <= self.sft < math.inf:
            raise NashwardError(f"sft must be a number of nats per token, at least 0, got {self.sft}")
        if self.win_rate is not None and not 0 <= self.win_rate <= 1:
            raise NashwardError(f"win_rate must be in [0, 1], got {self.win_rate}")
        if not 0 < self.factor < 1:
            raise NashwardError(f"factor must be between 0 and 1, got {self.factor}")

    @property
    def stated(self) -> bool:
        """Whether there is any."""
        return self.sft is not None or self.win_rate is not None

    def crossed(self, rise: float | None, win_rate: float | None) -> list[str]:
        """The limits that an iteration is beyond, each in words.

        Args:
            rise: how far the held-out SFT NLL is above the start's, in nats per token; None: not measured.
            win_rate: that of the new iterate, see the class; None: not measured.
        """
        crossed = []
        if self.sft is not None and rise is not None and not rise <= self.sft:
            crossed.append(f"the held-out SFT NLL is {rise:.4g} nats per token above the start's (limit {self.sft:g})")
        if self.win_rate is not None and win_rate is not None and not win_rate >= self.win_rate:
            crossed.append(f"the win rate on held-out prompts is {win_rate:.4g} (floor {self.win_rate:g})")
        return crossed


@dataclass(frozen=True)
class DiagnosisLimits:
    """Sizes from which on a judge's error is named, where it is beyond chance as well.

    Attributes:
        order: log-odds that the response shown first gains by it.
        flips: share of pairs whose winner changes with the order shown.
        style: log-odds that a standard deviation of length, headers, lists or bold adds.
        favour: win probability that an author is given beyond what the labels say.
        calibration: factor by which log-odds are too large or too small, above 1.
        repeat: mean change of a win probability when a pair is judged again.
        truncated, missing: share of texts that are truncated, of pairs without a judgement.
        level: the chance that a judge without any error is accused of one.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> DiagnosisLimits(calibration=0.5)
        Traceback (most recent call last):
        nashward.errors.NashwardError: calibration is 0.5; expected a factor above 1
    """

    order: float = setting(0.1, "log-odds that being shown first adds", "judging", option="most-order")
    flips: float = setting(0.2, "share of pairs whose winner changes with the order", "judging", option="most-flips")
    style: float = setting(
        0.1, "log-odds that a standard deviation of length, headers, lists or bold adds", "judging", option="most-style"
    )
    favour: float = setting(
        0.05, "win probability given to an author beyond the labels'", "judging", option="most-favour"
    )
    calibration: float = setting(
        1.5, "factor by which log-odds are too large or too small", "judging", option="most-miscalibration"
    )
    repeat: float = setting(
        0.02, "mean change of a win probability when a pair is judged again", "judging", option="most-change"
    )
    truncated: float = setting(0.05, "share of texts that are truncated", "judging", option="most-truncated")
    missing: float = setting(0.05, "share of pairs without a judgement", "judging", option="most-missing")
    level: float = setting(0.02, "chance that a judge without error is accused of one", "judging")

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "calibration":
                if not 1 < value < float("inf"):
                    raise NashwardError(f"calibration is {value!r}; expected a factor above 1")
            elif field.name == "level":
                if not 0 < value < 1:
                    raise NashwardError(f"level is {value!r}; expected a probability between 0 and 1")
            elif not 0 <= value < float("inf"):
                raise NashwardError(f"{field.name} is {value!r}; expected 0 or more")
