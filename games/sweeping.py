"""``sweep``: one solver with many settings and many seeds on a game, in one call."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .executor import TableExecutor
from .feedback import DuelingFeedback, Feedback, SampledFeedback, exact
from .forms.game import Game, Players
from .solution import Solution, Status
from .solvers.solver_label import solver_label
from .solvers.tables_only.base import TableSolver
from .solvers.together import ApartError, Together
from .solving import solve
from .stability import warn_step_size
from .step import Solver

_OF_SOLVE = frozenset(inspect.signature(solve).parameters) - {"game", "solver"}


def sweep(
    game: Game,
    solver: Solver | TableSolver,
    iterations: int = 1000,
    *,
    seeds: Sequence[int] | None = None,
    start: Any = None,
    feedback: Feedback = exact,
    **options: Any,
) -> dict[str, Solution]:
    """Play a solver with each of several settings, and each of several seeds.

    A setting that is given as an array is swept; several of them make a grid. A mirror-step solver is played with all
    settings at once, with one product per iteration, where payoffs are exact, no tolerance can end a run early, and the
    settings change only the weights and sizes of its Steps; else one setting is played after another. All seeds of
    sampled payoffs are played at once. Each solution is that of ``solve`` with this setting and this seed, within
    1e-12.

    Args:
        game: a game or a batch of games.
        solver: for example ``games.MWU()``; a dataclass.
        iterations: how many each run makes.
        seeds: the seeds of ``feedback``'s draws; each solution then has an axis [seeds] in front of its other ones.
        start: as in ``solve``.
        feedback: as in ``solve``; its own seed is not used where seeds are given.
        options: settings of the solver by name, each a value or several (a list, an array, a range); and further
            options of ``solve``.

    Returns:
        The solutions by name, in the order of the settings: what ``games.plots.gap_curves`` draws, or
        ``games.plots.quantiles`` with seeds.

    Raises:
        ValueError: a setting with no values or with repeated ones, seeds for exact payoffs, a single number as seeds;
            as ``solve``.
        TypeError: not a dataclass; an option that neither the solver nor ``solve`` has.

    Warns:
        StepWarning: as ``solve``, for each setting.
        SupportWarning: as ``solve``.

    See also:
        ``solve``, for one setting; ``theory.stable_below``, for the largest step.

    Example:
        >>> from nashward import games
        >>> game = games.zoo.comal_cycle()
        >>> found = games.sweep(game, games.OptimisticMWU(), 1000, step=[0.1, 0.5, 2.0], start=[0.6, 0.3, 0.1])
        >>> for name, solution in found.items(): print(f"{name}  {float(solution.gaps['last'][-1]):.5f}")
        OptimisticMWU(step=0.1)  0.36986
        OptimisticMWU(step=0.5)  0.00121
        OptimisticMWU(step=2.0)  0.00000
        >>> duels = games.feedback.DuelingFeedback()
        >>> noisy = games.sweep(game, games.MWU(), 500, step=[0.01, 0.02], seeds=range(8), feedback=duels)
        >>> noisy["MWU(step=0.01)"].gaps["average"].shape[1:]
        torch.Size([8])
    """
    solvers, options = _settings(solver, options)
    if seeds is not None:
        start, feedback = _seeded(game, start, feedback, seeds)
    one_by_one = {"start": start, "feedback": feedback, **options}
    together = len(solvers) > 1 and feedback is exact and options.get("tolerance") is None
    if together and callable(getattr(solver, "play", None)) and not options.get("opponents"):
        try:
            both: Any = Together(tuple(solvers.values()))
            solution = solve(game, both, iterations, **one_by_one)
        except ApartError:
            pass
        else:
            if solution.status is not Status.NOT_FINITE:  # else each is played alone, up to its own end
                for each in solvers.values():
                    warn_step_size(game, each)
                return {name: _part(solution, k) for k, name in enumerate(solvers)}
    played = {name: solve(game, each, iterations, **one_by_one) for name, each in solvers.items()}
    if seeds is None:
        return played
    axes = {"seed": tuple(int(seed) for seed in _values("seeds", seeds))}
    return {name: dataclasses.replace(solution, axes=axes) for name, solution in played.items()}


def _settings(solver: Any, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The solvers by name, and the options that are left for ``solve``."""
    if isinstance(solver, type) or not dataclasses.is_dataclass(solver):
        what = f"{solver.__name__}, a class" if isinstance(solver, type) else type(solver).__name__
        raise TypeError(f"sweep needs a solver that is a dataclass, for example games.MWU(), got {what}")
    chosen: Any = solver
    names = {field.name for field in dataclasses.fields(chosen)}
    if unknown := next((name for name in options if name not in names | _OF_SOLVE), None):
        near = difflib.get_close_matches(unknown, sorted(names | _OF_SOLVE), 1)
        nearest = f"the nearest is {near[0]}; " if near else ""
        kind, has = type(solver).__name__, ", ".join(field.name for field in dataclasses.fields(chosen)) or "none"
        raise TypeError(f"sweep: {kind} has no setting {unknown!r}, nor has solve; {nearest}settings of {kind}: {has}")
    swept = {name: _values(name, value) for name, value in options.items() if name in names}
    solvers: dict[str, Any] = {}
    for values in itertools.product(*swept.values()):
        each = dataclasses.replace(chosen, **dict(zip(swept, values, strict=True)))
        name = solver_label(each, [*swept])
        again = sum(other == name or other.startswith(f"{name} #") for other in solvers)
        solvers[f"{name} #{again + 1}" if again else name] = each  # two functions may have one name
    return solvers, {name: value for name, value in options.items() if name not in names}


def _values(name: str, given: Any) -> list[Any]:
    listed = given.tolist() if hasattr(given, "tolist") else given
    several = not isinstance(listed, str) and not callable(listed) and hasattr(listed, "__iter__")
    values = list(listed) if several else [listed]
    if not values:
        raise NashwardError(f"{name} has no values; give at least one")
    if repeated := next((value for k, value in enumerate(values) if value in values[:k]), None):
        raise NashwardError(f"{name} has the value {quoted(repeated, 80)} twice")
    return values


def _seeded(game: Game, start: Any, feedback: Feedback, seeds: Sequence[int]) -> tuple[Any, Feedback]:
    """The start for each seed, and the feedback with all of them."""
    if not isinstance(feedback, SampledFeedback | DuelingFeedback):
        raise NashwardError(
            "seeds are for sampled payoffs: also give feedback=games.feedback.SampledFeedback(k) or DuelingFeedback()"
        )
    if isinstance(seeds, str) or np.ndim(seeds) == 0:
        raise NashwardError(f"seeds is {quoted(seeds, 60)}; expected several, as seeds=range(5)")
    listed = tuple(int(seed) for seed in _values("seeds", seeds))
    tables = TableExecutor(game)
    players: Players = tables.probabilities(tables.policy(start))
    spread = tuple(p.expand(len(listed), *p.shape) for p in players)
    return (spread[0] if len(spread) == 1 else spread), dataclasses.replace(feedback, seed=listed)


def _part(solution: Solution, k: int) -> Solution:
    """The solution of the k-th of the solvers that were played together."""

    def one(policy: Any, at: tuple[Any, ...]) -> Any:
        if isinstance(policy, torch.Tensor):
            return policy[at].clone()
        return type(policy)(*(side[at].clone() for side in policy))

    rows = (slice(None), k)
    return Solution(
        last=one(solution.last, (k,)),
        average=one(solution.average, (k,)),
        gaps={name: gaps[rows].clone() for name, gaps in solution.gaps.items()},
        iterations=solution.iterations.clone(),
        status=solution.status,
        policies={name: one(policies, rows) for name, policies in solution.policies.items()},
    )
