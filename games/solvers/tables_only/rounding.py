"""What is rounding in differences and sums of payoffs: one share of their sizes for all solvers of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nashward.games.shapes import Float

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-12  # of a payoff and of sums of payoffs in float64, relative
_UNITS = 64  # of float32, whose payoffs are that much coarser


def share(payoffs: Float[Tensor, "..."]) -> float:
    """The share of the sizes of what is summed that is rounding, by the dtype of the payoffs.

    Args:
        payoffs: that are summed, in float64 or float32.

    Example:
        >>> import torch
        >>> share(torch.ones(1, dtype=torch.float64)), share(torch.ones(1)) < 1e-5
        (1e-12, True)
    """
    import torch  # the solvers' names and settings do not need it

    return ROUNDING if payoffs.dtype == torch.float64 else _UNITS * torch.finfo(payoffs.dtype).eps


def without_rounding(values: Float[Tensor, "..."], rounding: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The values, of which those that are rounding are 0.

    Args:
        values: [...], sums or differences.
        rounding: [...], ``share`` of the sums of the absolute values of what was summed.

    Example:
        >>> import torch
        >>> tenths = torch.tensor([0.3, 0.4], dtype=torch.float64)
        >>> without_rounding(tenths - 0.1 - 0.2, ROUNDING * (tenths + 0.3)).tolist()
        [0.0, 0.10000000000000003]
    """
    return values.where(values.abs() > rounding, 0.0)
