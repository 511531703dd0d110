"""The shape of a new adapter."""

from __future__ import annotations

from dataclasses import dataclass

from nashward.errors import NashwardError

from .fields import setting


@dataclass(frozen=True)
class Lora:
    """The shape of a new adapter: float32, on every linear layer but the head.

    .. math::  W \\to W + \\frac{\\alpha}{r} B A, \\qquad B \\in R^{m \\times r}, \\; A \\in R^{r \\times n}

    for each layer's weight W, with B = 0 at first: a new adapter changes nothing.

    Attributes:
        rank: r.
        alpha: of the scale alpha / r; twice the rank when None.

    Raises:
        ValueError: a rank below 1, or an alpha that is no positive number.

    Source: arXiv 2106.09685.

    Example:
        >>> Lora(rank=8, alpha=16.0)
        Lora(rank=8, alpha=16.0)
    """

    rank: int = setting(16, "of a fresh adapter", "models")
    alpha: float | None = setting(None, "of a fresh adapter (default: twice the rank)", "models")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise NashwardError(f"the LoRA rank must be at least 1, got {self.rank}")
        if self.alpha is not None and not 0 < self.alpha < float("inf"):
            raise NashwardError(f"the LoRA alpha must be a positive number, got {self.alpha}")
