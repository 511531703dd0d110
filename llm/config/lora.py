"""The shape of a new adapter."""

from __future__ import annotations

from dataclasses import dataclass

from nashward.errors import NashwardError

from .fields import setting


@dataclass(frozen=True)
class Lora:
    """The shape of a new adapter: float32, on linear layers, never on the head.

    .. math::  W \\to W + \\frac{\\alpha}{r} B A, \\qquad B \\in R^{m \\times r}, \\; A \\in R^{r \\times n}

    for each layer's weight W, with B = 0 at first: a new adapter changes nothing.

    Attributes:
        rank: r.
        alpha: the numerator of the scale alpha / r; twice the rank when None.
        targets: the layers: "all" linear ones, those of the "attention" or of the "mlp" alone, or names with commas, as
            "q_proj,v_proj" (PEFT's ``target_modules``). See ``policy.base.targets``.

    Raises:
        ValueError: a rank below 1, an alpha that is no positive number, or no layers.

    Source: arXiv 2106.09685.

    Example:
        >>> Lora(rank=8, alpha=16.0)
        Lora(rank=8, alpha=16.0, targets='all')
    """

    rank: int = setting(16, "the rank of a fresh adapter", "models")
    alpha: float | None = setting(None, "a fresh adapter is scaled by alpha / rank (default: twice the rank)", "models")
    targets: str = setting(
        "all",
        "layers of a fresh adapter: all, attention or mlp (every linear layer, those of the attention, those of the "
        "MLPs), or names, as q_proj,v_proj",
        "models",
        option="lora-targets",
    )

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise NashwardError(f"the LoRA rank must be at least 1, got {self.rank}")
        if self.alpha is not None and not 0 < self.alpha < float("inf"):
            raise NashwardError(f"the LoRA alpha must be a positive number, got {self.alpha}")
        if not all(name.strip() for name in self.targets.split(",")):
            raise NashwardError(
                f"the LoRA targets must be all, attention, mlp or names of layers with commas, got {self.targets!r}"
            )
