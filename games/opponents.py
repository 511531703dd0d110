"""fixed opponents: fixed opponents that a solver knows by name alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nashward.errors import NashwardError

from .policy import Blend, Policy
from .step import Step


@dataclass(frozen=True)
class OpponentName:
    """What the handle on a fixed opponent holds until the executor puts its own handle there."""

    name: str


def opponent(name: str) -> Policy:
    """A handle on the member of that name, for a solver's Steps: on a table a fixed policy, for a language model the
    stored responses of another one.

    Args:
        name: of the member, as in ``games.solve(..., opponents={name: ...})``.

    Example:
        >>> from nashward import games
        >>> 0.75 * games.Policy(None, "x") + 0.25 * opponent("rival")
        0.75 x + 0.25 rival
    """
    return Policy(OpponentName(name), name)


def resolve(step: Step, opponents: Mapping[str, Policy]) -> Step:
    """The Step with the executor's handles in the place of names.

    Args:
        step: as a solver yielded it.
        opponents: the executor's handles, by name.

    Raises:
        ValueError: a name that nobody among the opponents bears.

    Example:
        >>> x, rival = Policy(None, "x"), Policy(None, "rival")
        >>> resolve(Step(x, opponent=0.5 * x + 0.5 * opponent("r"), size=0.1), {"r": rival}).opponent
        0.5 x + 0.5 rival
    """

    def known(blend: Policy | Blend | None) -> Policy | Blend | None:
        if blend is None or not any(isinstance(policy.value, OpponentName) for policy in blend.members()):
            return blend
        return sum((weight * _who(policy, opponents) for policy, weight in blend.members().items()), Blend({}))

    parts = {name: getattr(step, name) for name in ("anchor", "opponent", "averaged")}
    found = {name: known(blend) for name, blend in parts.items()}
    return step if all(found[name] is parts[name] for name in parts) else replace(step, **found)  # type: ignore[arg-type]


def _who(policy: Policy, opponents: Mapping[str, Policy]) -> Policy:
    if not isinstance(policy.value, OpponentName):
        return policy
    if policy.value.name not in opponents:
        there = f"it has {', '.join(map(repr, opponents))}" if opponents else "there is none"
        raise NashwardError(f"the solver plays against {policy.value.name!r}, who is not among the opponents; {there}")
    return opponents[policy.value.name]
