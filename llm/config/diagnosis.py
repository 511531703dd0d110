"""From what size on an error of a judge is named."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nashward.errors import NashwardError

from .fields import setting


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

    order: float = setting(0.1, "log-odds that being shown first adds", "limits", option="most-order")
    flips: float = setting(0.2, "share of pairs whose winner changes with the order", "limits", option="most-flips")
    style: float = setting(
        0.1, "log-odds that a standard deviation of length, headers, lists or bold adds", "limits", option="most-style"
    )
    favour: float = setting(
        0.05, "win probability given to an author beyond the labels'", "limits", option="most-favour"
    )
    calibration: float = setting(
        1.5, "factor by which log-odds are too large or too small", "limits", option="most-miscalibration"
    )
    repeat: float = setting(
        0.02, "mean change of a win probability when a pair is judged again", "limits", option="most-change"
    )
    truncated: float = setting(0.05, "share of texts that are truncated", "limits", option="most-truncated")
    missing: float = setting(0.05, "share of pairs without a judgement", "limits", option="most-missing")
    level: float = setting(0.02, "chance that a judge without error is accused of one", "limits")

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
