"""Policies as opaque handles, and plain arithmetic on them: ``2 * x - previous``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nashward.errors import NashwardError, WrongKindError

NEGLIGIBLE = (
    1e-9  # members with a smaller share of the largest weight are dropped, so that history mixtures stay finite
)


class _Arithmetic:
    """Sums and multiples of policies. Both a policy and a blend are one."""

    def members(self) -> dict[Policy, float]:
        """The policies of the sum, each with its weight."""
        raise TypeError(f"{type(self).__name__} is neither a policy nor a blend of policies")

    def __add__(self, other: _Arithmetic) -> Blend:
        if not isinstance(other, _Arithmetic):
            return NotImplemented
        total = self.members()
        for policy, weight in other.members().items():
            total[policy] = total.get(policy, 0.0) + weight
        return Blend(total)

    def __mul__(self, factor: float) -> Blend:
        if isinstance(factor, _Arithmetic):
            return NotImplemented
        return Blend({policy: factor * weight for policy, weight in self.members().items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Blend:
        return self * (1.0 / divisor)

    def __neg__(self) -> Blend:
        return self * -1.0

    def __sub__(self, other: _Arithmetic) -> Blend:
        return self + -other if isinstance(other, _Arithmetic) else NotImplemented


@dataclass(frozen=True, eq=False, repr=False)
class Policy(_Arithmetic):
    """An opaque handle on one policy. Only the executor that created it reads ``value``.

    To the table executor ``value`` holds log-probabilities, to the language-model executor an adapter.
    Two handles are equal when they are the same object. Solvers never read ``value``.

    Args:
        value: the executor's data.
        name: shown by ``repr``.

    Example:
        >>> x, previous = Policy(value=None, name="x"), Policy(value=None, name="previous")
        >>> 2 * x - previous
        2 x - 1 previous
    """

    value: Any
    name: str = "policy"

    def members(self) -> dict[Policy, float]:
        return {self: 1.0}

    def __repr__(self) -> str:
        return self.name


class Blend(_Arithmetic):
    """A weighted sum of policies: equal members merged, negligible ones dropped.

    The Step decides what the weights mean: an anchor is a geometric blend, an opponent a linear one.

    Args:
        members: the weight of each policy; any sign, any sum.

    Example:
        >>> x, y = Policy(None, "x"), Policy(None, "y")
        >>> blend = 0.75 * x + 0.5 * y - 0.25 * x
        >>> blend, len(blend), blend.members()[y]
        (0.5 x + 0.5 y, 2, 0.5)
    """

    def __init__(self, members: dict[Policy, float]):
        largest = max((abs(weight) for weight in members.values()), default=0.0)
        self._members = {p: float(w) for p, w in members.items() if abs(w) > NEGLIGIBLE * largest}

    def members(self) -> dict[Policy, float]:
        return dict(self._members)

    def __iter__(self) -> Iterator[tuple[Policy, float]]:
        return iter(self._members.items())

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        text = " + ".join(f"{weight:g} {policy!r}" for policy, weight in self)
        return text.replace("+ -", "- ") or "nothing"


def affine(policies: Policy | Blend, what: str) -> Blend:
    """``policies`` as a blend whose weights sum to 1 (the weight of dropped members is shared among the rest).

    Returns:
        The blend, divided by the sum of its weights.

    Raises:
        WrongKindError: not a policy or a blend.
        ValueError: the weights do not sum to 1 within 1e-6.
    """
    if isinstance(policies, Policy):
        return Blend(policies.members())
    if not isinstance(policies, _Arithmetic):
        raise WrongKindError(f"{what} must be a policy or a blend of policies, got {type(policies).__name__}")
    blend = Blend(policies.members())
    total = sum(weight for _, weight in blend)
    if not abs(total - 1.0) <= 1e-6:
        raise NashwardError(f"the weights of {what} must sum to 1, got {total:g} (weights and policies: {blend!r})")
    return blend / total
