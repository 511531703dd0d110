"""The anchor of regularised solvers: a geometric mixture of the iterate and the reference."""

from __future__ import annotations

from nashward.errors import NashwardError
from nashward.games.policy import Blend, Policy

from ..schedule import Schedule, check_step


def regularised_anchor(x: Policy | Blend, reference: Policy, size: float, tau: float) -> Blend:
    """``(1 - size tau) log x + size tau log reference``: the anchor of a step of that size.

    Returns:
        A geometric blend whose weights sum to 1.

    Raises:
        ValueError: size * tau > 1, which would give the iterate a negative weight.
    """
    weight = _reference_weight(size, tau)
    return (1 - weight) * x + weight * reference


def check_regularised(step: Schedule, tau: float) -> None:
    """Check the settings before the first step: a constant step above 0, tau >= 0, step * tau <= 1.

    Raises:
        ValueError: one of these does not hold.
    """
    check_step(step, tau=tau)
    if not callable(step):
        _reference_weight(step, tau)


def _reference_weight(size: float, tau: float) -> float:
    if size * tau > 1 + 1e-12:
        raise NashwardError(f"step * tau must be at most 1, got {size:g} * {tau:g}")
    return size * tau


def explicit_step(size: float, tau: float) -> float:
    """``size / (1 + size tau)``, the explicit step that equals a magnetic (implicit) one of ``size``; below 1 / tau.

    Magnetic mirror descent regularises at the new policy, INPO at the old one:
    ``(x ref^(size tau) exp(size P x))^(1 / (1 + size tau))`` is ``regularised_anchor`` and a step of this size.

    Returns:
        The size of the explicit step.
    """
    return size / (1 + size * tau)
