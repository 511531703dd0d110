"""What the exact methods for several objectives return: a policy with a certificate that it is best."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..shapes import Float

GOOD = 1e-10  # of a certificate, in units of win probability: gap and violation at most this


@dataclass(frozen=True)
class Compromise:
    """A policy for several objectives, with a primal and a dual value, both recomputed from the policy.

    The policy guarantees ``value``, and the multipliers show that none guarantees more than ``bound``.

    Attributes:
        policy: [n] probabilities.
        value: the win probability that the policy guarantees.
        bound: the value that no policy exceeds.
        violation: by how much the policy is below a floor, or outside of what earlier objectives leave; 0 for methods
            that have neither.
        multipliers: for each objective its weight, or what lowering its floor would gain the first objective.

    Example:
        >>> from nashward import games
        >>> P = games.zoo.rock_paper_scissors().P
        >>> found = games.objectives.weights(games.MultiObjectiveGame([P.tolist(), P.tolist()]), [1, 3])
        >>> found.status, round(found.value, 12), found.multipliers
        ('ok', 0.5, {'0': 0.25, '1': 0.75})
    """

    policy: Float[Tensor, " n"]
    value: float
    bound: float
    violation: float
    multipliers: dict[str, float]

    @property
    def gap(self) -> float:
        """``bound - value``: 0 at the best policy."""
        return self.bound - self.value

    @property
    def status(self) -> str:
        """``ok`` where gap and violation are at most 1e-10, else what was reached."""
        if max(self.gap, self.violation) <= GOOD:
            return "ok"
        return f"reached a gap of {self.gap:.1e} and a violation of {self.violation:.1e}, expected at most {GOOD:.0e}"
