"""What the executor needs besides the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..config.fit import Fit
from ..config.limits import Limits
from ..config.phase import Phase
from ..config.run import Mixtures
from ..data.prompts import Prompt
from ..policy.sampling import GenerateSource, Source


@dataclass(frozen=True)
class Settings:
    """What the executor needs besides the models; see ``RunConfig`` for the meaning."""

    responses: int = 5
    sampling: Source = field(default_factory=GenerateSource)
    fit: Fit = field(default_factory=Fit)
    self_comparison: bool = False
    prompts_per_iteration: int | None = None
    seed: int = 0
    label: Callable[[str], str | None] | None = None
    mixtures: Mixtures = "fitted"
    phases: Sequence[Phase] = ()
    limits: Limits = field(default_factory=Limits)
    task: Sequence[tuple[Prompt, str]] = ()
