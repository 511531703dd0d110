"""Fixed opponents: policies that a solver refers to by name, and the executor holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nashward.errors import NashwardError

from .policy import Blend, Policy
from .step import Step


@dataclass(frozen=True)
class OpponentName:
    """The value of a handle on a fixed opponent, until the executor's handle replaces it."""

    name: str


def opponent(name: str) -> Policy:
    """A handle on the fixed opponent with this name, for a solver's Steps.

    On a table it stands for a fixed policy; for a language model, for the stored responses of another model.

    Args:
        name: the opponent's name, as in ``games.solve(..., opponents={name: ...})``.

    Returns:
        The handle; ``resolve`` replaces it by the executor's.

    See also:
        ``games.FixedOpponents``, which adds fixed opponents to any solver.

    Example:
        >>> from nashward import games
        >>> 0.75 * games.Policy(None, "x") + 0.25 * opponent("rival")
        0.75 x + 0.25 rival
    """
    return Policy(OpponentName(name), name)


def resolve(step: Step, opponents: Mapping[str, Policy]) -> Step:
    """Replace the names in a Step by the executor's handles.

    Args:
        step: as the solver yielded it.
        opponents: the executor's handles, by name.

    Returns:
        A new Step, or ``step`` itself if it has no names.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> x, rival = Policy(None, "x"), Policy(None, "rival")
        >>> resolve(Step(x, opponent=0.5 * x + 0.5 * opponent("r"), size=0.1), {"r": rival}).opponent
        0.5 x + 0.5 rival
    """

    def with_handles(blend: Policy | Blend | None) -> Policy | Blend | None:
        if blend is None or not any(isinstance(policy.value, OpponentName) for policy in blend.members()):
            return blend
        return sum((weight * _handle(policy, opponents) for policy, weight in blend.members().items()), Blend({}))

    before = {name: getattr(step, name) for name in ("anchor", "opponent", "averaged")}
    after = {name: with_handles(blend) for name, blend in before.items()}
    return step if all(after[name] is before[name] for name in before) else replace(step, **after)  # type: ignore[arg-type]


def _handle(policy: Policy, opponents: Mapping[str, Policy]) -> Policy:
    if not isinstance(policy.value, OpponentName):
        return policy
    if policy.value.name not in opponents:
        known = ", ".join(map(repr, opponents)) or "none"
        raise NashwardError(
            f"the solver plays against {policy.value.name!r}, which is not among the opponents: {known}"
        )
    return opponents[policy.value.name]
