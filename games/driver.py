"""The driver: it plays any solver on any executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .opponents import resolve
from .policy import Policy
from .step import Solver, Step, steps_of


def require_steps(solver: Any) -> None:
    """Raise for an object that yields no Steps, before any work is done.

    Args:
        solver: the object to be played.

    Raises:
        ValueError: a solver of tables only; names the nearest mirror step, where it has one.
        TypeError: not a solver.

    Example:
        >>> from nashward import games
        >>> try: require_steps(games.Replicator())
        ... except ValueError as error: print(str(error)[-40:])
        age model the nearest mirror step is MWU
    """
    if isinstance(solver, type):
        raise TypeError(f"a solver is an object with its settings: {solver.__name__}() in place of {solver.__name__}")
    if callable(getattr(solver, "play", None)):
        return
    name = type(solver).__name__
    if callable(getattr(solver, "iterate", None)):
        nearest = getattr(solver, "nearest", None)
        advice = f"; for a language model the nearest mirror step is {nearest.__name__}" if nearest else ""
        raise NashwardError(f"{name} makes no mirror steps, so only games.solve can play it, on a table{advice}")
    raise TypeError(
        "a solver needs a method play(x, reference) that yields Steps, or for tables only iterate(x, payoffs) that "
        f"yields policies; got {quoted(solver, 80)}"
    )


def drive(
    solver: Solver,
    start: Policy,
    reference: Policy,
    execute: Callable[[Step], Policy],
    record: Callable[[Step, Policy], bool],
    iterations: int,
    opponents: Mapping[str, Policy] | None = None,
) -> Policy:
    """Play ``solver`` for ``iterations`` iterations.

    Args:
        solver: any object with ``play(x, reference)``, see :class:`Solver`.
        start, reference: handles made by the executor.
        execute: carries out one Step and returns a handle on the resulting policy.
        record: called with every Step and its policy; returns True to stop.
        iterations: how many Steps with ``is_iterate`` to make; half steps do not count.
        opponents: the executor's handles on the fixed opponents, by name.

    Returns:
        The last policy.

    Raises:
        ValueError, TypeError: from ``require_steps`` and ``steps_of``; a Step with an unknown fixed opponent.

    See also:
        ``games.solve``, which drives the table executor and records gaps.

    Example:
        >>> from nashward import games
        >>> tables = games.executor.TableExecutor(games.zoo.rock_paper_scissors())
        >>> x = tables.policy([0.5, 0.25, 0.25])
        >>> last = drive(games.MWU(0.1), x, x, tables.execute, lambda step, policy: False, iterations=2)
        >>> tables.probabilities(last)
        (tensor([0.4998, 0.2563, 0.2438], dtype=torch.float64),)
    """
    require_steps(solver)
    play = steps_of(solver, start, reference)
    policy, done = start, 0
    step = next(play)
    while done < iterations:
        step = resolve(step, opponents or {})
        policy = execute(step)
        done += step.is_iterate
        if record(step, policy) or done == iterations:
            break
        step = play.send(policy)
    return policy
