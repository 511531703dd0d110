"""One mirror step, which every solver yields and every executor executes."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

from nashward.errors import NashwardError, WrongKindError
from nashward.shortened import quoted

from .policy import Blend, Policy, affine

_OPPONENT: Any = object()


def is_finite(value: object) -> bool:
    """Whether a value is a finite real number (a scalar of numpy or torch is, a text is not).

    Example:
        >>> is_finite(0.5), is_finite("0.5"), is_finite(math.inf)
        (True, False, False)
    """
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return False


@dataclass(frozen=True)
class Step:
    """One mirror step.

    .. math::  \\log next(y) = \\sum_k w_k \\log \\pi_k(y) + size \\sum_j c_j P(y \\succ \\rho_j) + constant

    Attributes:
        anchor: the geometric blend of policies ``sum_k w_k log pi_k``; its weights sum to 1.
        opponent: the linear blend ``sum_j c_j rho_j`` that the payoff is taken against; its weights sum to 1
            and may be negative (optimism). None: no payoff, the step is a geometric mixture.
        size: the step size, in nats per unit of win probability; 0 exactly when there is no opponent.
        is_iterate: the new policy is an iterate that may be returned (False: a half step).
        averaged: the policy that was played in this step and enters the average; the opponent by default, None if
            no policy was played.

    Raises:
        ValueError: weights that do not sum to 1, a size that is not finite, a size without an opponent.

    Source: the project's own form; docs/solvers.md writes each method in it.

    Example:
        >>> x, previous = Policy(None, "x"), Policy(None, "previous")
        >>> step = Step(anchor=x, opponent=2 * x - previous, size=0.5, averaged=x)
        >>> step.opponent, step.averaged, step.is_iterate
        (2 x - 1 previous, 1 x, True)
    """

    anchor: Policy | Blend
    opponent: Policy | Blend | None = None
    size: float = 0.0
    is_iterate: bool = True
    averaged: Policy | Blend | None = _OPPONENT

    def __post_init__(self) -> None:
        def fix(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if not is_finite(self.size):
            raise NashwardError(f"a Step's size must be a finite number, got {quoted(self.size, 80)}")
        if (self.opponent is None) != (self.size == 0):
            given = "no opponent" if self.opponent is None else f"opponent {self.opponent!r}"
            raise NashwardError(
                f"a Step has an opponent exactly when its size is not 0, got size {self.size} and {given}"
            )
        if self.averaged is _OPPONENT:
            fix("averaged", self.opponent)
        for name in ("anchor", "opponent", "averaged"):
            if getattr(self, name) is not None:
                fix(name, affine(getattr(self, name), f"a Step's {name}"))
        if isinstance(self.averaged, Blend) and any(weight < 0 for _, weight in self.averaged):
            raise NashwardError(
                f"averaged is a policy that was played, so its weights cannot be negative, got {self.averaged!r}"
            )


class Solver(Protocol):
    """A frozen dataclass of hyperparameters with one method.

    ``play`` is a generator: it yields Steps and is sent the policy that each Step results in. It must be deterministic:
    a run is resumed by replaying it with the stored policies.
    """

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        """Yield Steps from the start x; each ``yield`` returns the policy that the Step results in."""
        ...


def steps_of(solver: Solver, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
    """A solver's Steps, as its ``play`` yields them, checked; everything that plays a solver takes them from here.

    Args:
        solver: any mirror-step solver.
        x, reference: the start and the reference.

    Returns:
        A generator that is sent the policy that each Step results in.

    Raises:
        ValueError: ``play`` ends.
        WrongKindError: ``play`` is no generator, or yields something other than a Step.

    Example:
        >>> from nashward import games
        >>> x = Policy(None, "x")
        >>> next(steps_of(games.MWU(0.5), x, x)).size
        0.5
    """
    play, name, made = solver.play(x, reference), type(solver).__name__, 0
    if not hasattr(play, "send"):
        raise WrongKindError(
            f"{name}: play is a generator of Steps (while True: policy = yield Step(...)), got one that returns "
            f"{quoted(play, 80)}"
        )
    policy: Any = None
    while True:
        try:
            step = play.send(policy)
        except StopIteration:
            raise NashwardError(
                f"{name}: play ended after {made} {'Step' if made == 1 else 'Steps'}; expected one that yields "
                "for ever (while True: policy = yield Step(...)) and is stopped from outside"
            ) from None
        if not isinstance(step, Step):
            raise WrongKindError(f"{name}: play yields Steps (policy = yield Step(...)), got {quoted(step, 80)}")
        made += 1
        policy = yield step
