"""Rows of a tensor, whose gradient is added in a fixed order."""

from __future__ import annotations

from torch import Tensor

from nashward.games.shapes import Float, Int


def take_rows(states: Float[Tensor, "N H"], index: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows H"]:
    """The rows ``states[index]``. The gradient of a row that is taken several times is a sum whose order is always the
    same, so that a training ends in the same bits again.

    Args:
        states: [N, H].
        index: [...], of rows; one may occur several times.

    Example:
        >>> import torch
        >>> take_rows(torch.eye(2), torch.tensor([1, 1])).tolist()
        [[0.0, 1.0], [0.0, 1.0]]
    """
    if states.device.type != "cpu":
        return states[index]
    # with several threads the gradient of states[index] is added in any order here, as that of index_select is on a GPU
    return states.index_select(0, index.flatten()).unflatten(0, index.shape)
