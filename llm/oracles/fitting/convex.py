"""Linear heads: the logistic regression with a ridge, solved to convergence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from nashward.games.shapes import Float

SMALL = 10_000_000  # entries of a design, below which threads cost more than they save
ITERATIONS = 500  # of L-BFGS, at most
TOLERANCE = 1e-5  # of the largest entry of the gradient, nats a comparison


def logistic_ridge(
    design: Float[Tensor, "N D"],
    target: Float[Tensor, " N"],
    weight: Float[Tensor, " N"],
    penalty: Float[np.ndarray, " D"],
    start: Float[np.ndarray, " D"] | None = None,
) -> Float[np.ndarray, " D"]:
    r"""The w that makes a weighted log-loss with a ridge smallest, by L-BFGS.

    .. math::
        - \frac{1}{\sum_n c_n} \sum_n c_n \left[ t_n \log \sigma(w \cdot x_n)
        + (1 - t_n) \log \sigma(- w \cdot x_n) \right] + \frac12 \sum_d p_d w_d^2

    It is convex, and strictly so where every penalty is above 0: there is one solution.

    Args:
        design: x, ``[N, D]``.
        target: t, ``[N]`` in [0, 1].
        weight: c, ``[N]``, at least 0 and somewhere above.
        penalty: p, ``[D]``.
        start: None: 0.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0]])
        >>> logistic_ridge(x, torch.tensor([0.75, 0.25]), torch.ones(2), np.array([0.0])).round(2)  # log 3
        array([1.1])
    """
    share = weight / weight.sum()

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        logits = design @ torch.as_tensor(w, dtype=design.dtype, device=design.device)
        each = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        gradient = (share * (logits.sigmoid() - target)) @ design
        value = float((share * each).sum().double()) + 0.5 * float(penalty @ (w * w))
        return value, gradient.double().cpu().numpy() + penalty * w

    start = np.zeros(design.shape[1]) if start is None else start
    options: dict[str, Any] = {"maxiter": ITERATIONS, "gtol": TOLERANCE, "ftol": 1e-9}
    with _threads(1 if design.numel() < SMALL else torch.get_num_threads()):
        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x)


def regularised_path(
    design: Float[Tensor, "N D"],
    target: Float[Tensor, " N"],
    weight: Float[Tensor, " N"],
    penalties: Sequence[Float[np.ndarray, " D"]],
) -> list[Float[np.ndarray, " D"]]:
    """The solutions for several penalties, each found from the one before: give the largest first."""
    found: list[np.ndarray] = []
    for penalty in penalties:
        found.append(logistic_ridge(design, target, weight, penalty, found[-1] if found else None))
    return found


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of torch inside of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
