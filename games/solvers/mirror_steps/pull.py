"""What the regularised solvers share: an anchor between the iterate and the reference."""

from __future__ import annotations

from nashward.errors import NashwardError
from nashward.games.policy import Blend, Policy

from ..schedule import Schedule, check


def pulled(x: Policy | Blend, reference: Policy, size: float, tau: float) -> Blend:
    """``(1 - size tau) log x + size tau log reference``: the anchor of a step of that size.

    Raises:
        ValueError: size * tau > 1, a step past the reference.
    """
    pull = _share(size, tau)
    return (1 - pull) * x + pull * reference


def check_pulled(step: Schedule, tau: float) -> None:
    """Refuse, before the first play, what ``pulled`` would, and what is not positive."""
    check(step, tau=tau)
    if not callable(step):
        _share(step, tau)


def _share(size: float, tau: float) -> float:
    if size * tau > 1 + 1e-12:
        raise NashwardError(f"step * tau must be at most 1, got {size:g} * {tau:g}")
    return size * tau


def implicit(size: float, tau: float) -> float:
    """``size / (1 + size tau)``, the explicit step that equals a magnetic (implicit) one of ``size``; below 1 / tau.

    Magnetic mirror descent regularises at the new policy, INPO at the old one:
    ``(x ref^(size tau) exp(size P x))^(1 / (1 + size tau))`` is ``pulled`` and a step of this size.
    """
    return size / (1 + size * tau)
