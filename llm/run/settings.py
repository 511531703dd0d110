"""What the executor needs besides the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nashward.errors import NashwardError

from ..config.choices import check_choice
from ..data.prompts import Prompt
from ..policy.sampling import Sampling, Source
from ..training.optimize import Fit
from .limits import Limits
from .phases import Phase

Mixtures = Literal["fitted", "token-level"]


@dataclass(frozen=True)
class Settings:
    """What the executor needs besides the models; see ``SelfPlay`` for the meaning.

    Raises:
        ValueError: fewer than two responses, no prompt an iteration, or mixtures of an unknown kind.
    """

    responses: int = 5
    sampling: Source = field(default_factory=Sampling)
    fit: Fit = field(default_factory=Fit)
    self_comparison: bool = False
    prompts_per_iteration: int | None = None
    seed: int = 0
    label: Callable[[str], str | None] | None = None
    mixtures: Mixtures = "fitted"
    phases: Sequence[Phase] = ()
    limits: Limits = field(default_factory=Limits)
    task: Sequence[tuple[Prompt, str]] = ()

    def __post_init__(self) -> None:
        check_choice("mixtures", self.mixtures, Mixtures)
        if self.responses < 2:
            raise NashwardError(
                f"each prompt needs at least 2 responses to be compared with each other, got {self.responses}"
            )
        if self.prompts_per_iteration is not None and self.prompts_per_iteration < 1:
            raise NashwardError(f"prompts_per_iteration must be at least 1, got {self.prompts_per_iteration}")
