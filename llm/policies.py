"""What the executor works with: its settings, and what its policy handles hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from ..games import Blend
from .choice import check_choice
from .fit import Fit
from .limits import Limits
from .phases import Phase
from .prompts import Prompt
from .sampling import Sampling, Source

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
            raise ValueError(
                f"each prompt needs at least 2 responses to be compared with each other, got {self.responses}"
            )
        if self.prompts_per_iteration is not None and self.prompts_per_iteration < 1:
            raise ValueError(f"prompts_per_iteration must be at least 1, got {self.prompts_per_iteration}")


@dataclass(frozen=True)
class Adapter:
    """What a policy handle holds here: a name, unique in the run, and the folder of the adapter."""

    label: str
    folder: Path


@dataclass(frozen=True, eq=False)
class Responses:
    """What the handle on a member of the cast holds: what another model answered. It can be played against, no more.

    Attributes:
        label: a name, unique in the run, that file names can hold.
        texts: its responses, at least one, by the prompt's id.
    """

    label: str
    texts: Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class TokenMixture:
    """What the handle on a geometric mixture holds that is blended token by token while it is sampled from.

    Attributes:
        label: a name, unique in the run.
        blend: of two policies with adapters. As a part of an anchor it stands for itself, with no approximation.
    """

    label: str
    blend: Blend


Sampled: TypeAlias = Adapter | TokenMixture
