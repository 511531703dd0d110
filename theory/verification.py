"""A theorem checked against a run: the bound, the measured value and their ratio for each number of iterations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from nashward import games
from nashward.errors import NashwardError
from nashward.games.forms.game import check_game
from nashward.games.shapes import Float
from nashward.games.solvers.solver_label import solver_label
from nashward.games.step import is_finite
from nashward.shortened import quoted

_MOMENTS = (1, 2, 3, 10, 100)  # the iterations at which two schedules are compared


class Theorem(Protocol):
    """A statement with its source that can be checked against a run. Its constants are the fields of the dataclass.

    Each theorem also has ``value(...)``, the value of its formula, and ``check(game, solver, ...)``.
    """

    statement: ClassVar[str]
    source: ClassVar[str]
    check: Callable[..., Check]


class Settings:
    """The base of theorems whose constants are settings: ``check_settings`` of each, when one is made."""

    def __post_init__(self) -> None:
        check_settings(self)


def _number(holds: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: is_finite(value) and holds(value)


def _is_policy(value: Any) -> bool:
    """Whether it is a tensor [..., n] of probabilities, near enough for an equilibrium."""
    if not (isinstance(value, torch.Tensor) and value.ndim and value.is_floating_point() and value.isfinite().all()):
        return False
    return bool((value >= 0).all() and ((value.sum(-1) - 1).abs() < 1e-6).all())


def _is_solver(value: Any) -> bool:
    return isinstance(value, type) and any(callable(getattr(value, name, None)) for name in ("play", "iterate"))


_POSITIVE = ("a finite number > 0", _number(lambda value: value > 0))
_FROM_ZERO = ("a finite number >= 0", _number(lambda value: value >= 0))
_EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("step", "constant", "temperature", "epsilon"), _POSITIVE),
    "lam": ("a finite number >= 0, a rotation frequency", _FROM_ZERO[1]),
    "C": ("a finite number >= 0, max_y -log pi_1(y) of a start that plays every action", _FROM_ZERO[1]),
    **dict.fromkeys(("tau", "error", "limit", "gap", "within", "largest"), _FROM_ZERO),
    **dict.fromkeys(("n", "k"), ("a whole number >= 1", _number(lambda value: value >= 1 and value == int(value)))),
    "share": ("a share, a number above 0, up to 1", _number(lambda value: 0 < value <= 1)),
    "factor": ("a finite number, at most 1", _number(lambda value: value <= 1)),
    "self_comparison": ("True or False", lambda value: isinstance(value, bool)),
    "nash": ("an equilibrium, a tensor [..., n] of probabilities, as games.nash(game).policy", _is_policy),
    "game": ("a single game, a games.PreferenceGame of a table [n, n]",
             lambda value: isinstance(value, games.PreferenceGame) and not value.batch_shape),
    "kind": ("the class of a solver, as games.MWU", _is_solver),
    "formula": ("a function of lam", callable),
}  # fmt: skip


def check_settings(theorem: Any) -> None:
    """Refuse a step, a pull, an equilibrium, a game, ... for which a formula means nothing.

    Args:
        theorem: a dataclass; its fields are checked by their names.

    Raises:
        ValueError: such a setting; it is named.

    Example:
        >>> from nashward import theory
        >>> try: theory.KSamples(0)
        ... except ValueError as error: print(error)
        KSamples: k is 0; expected a whole number >= 1
    """
    for name in _EXPECTED:
        if name in theorem.__dataclass_fields__:
            check_setting(type(theorem), name, getattr(theorem, name))


def check_setting(kind: type[Any], name: str, value: Any) -> None:
    """Refuse a setting from which a theorem is to be computed, as ``check_settings`` does.

    Args:
        kind: the theorem.
        name: of the setting: step, tau, ...
        value: what was given.

    Raises:
        ValueError: a value that means nothing.

    Example:
        >>> from nashward import theory
        >>> try: check_setting(theory.Contraction, "tau", -1)
        ... except ValueError as error: print(error)
        Contraction: tau is -1; expected a finite number >= 0
    """
    expected, holds = _EXPECTED[name]
    if not holds(value):
        raise NashwardError(f"{kind.__name__}: {name} is {quoted(value, 40)}; expected {expected}")


def iteration_numbers(iterations: Any) -> Float[np.ndarray, "..."]:
    """Numbers of iterations, of a formula.

    Raises:
        ValueError: one below 0, or that is no number.

    Example:
        >>> iteration_numbers([1, 10]).tolist()
        [1.0, 10.0]
    """
    try:
        T = np.asarray(iterations, dtype=np.float64)
    except (TypeError, ValueError):
        T = np.array(np.nan)
    if not (T >= 0).all():
        raise NashwardError(f"iterations are {quoted(iterations, 40)}; expected numbers >= 0")
    return T


@dataclass(frozen=True)
class Check:
    """The bound of a theorem beside the values measured in a run.

    Attributes:
        iterations: [records], the T of each row (or whatever the statement runs over).
        bound: [records, ...], the value of the theorem's formula.
        measured: shaped as ``bound``, the value in the run.
        equal: the statement is an equation, measured = bound; else measured <= bound.
        exceeds: the statement is measured >= bound, for example that a published bound is broken.
        tolerance: relative to the bound; with ``exceeds`` relative to the measured value.
        rounding: the absolute tolerance; a number, or shaped as ``bound``.
        claimed: the theorem covers this step; else the values are shown without a verdict.
        limit: the statement is about the limit of a run: a miss only means that it is not reached by this T.

    Example:
        >>> check = Check.of([1, 2], bound=[1.0, 0.5], measured=[0.7, 0.4])
        >>> check.holds, check.worst, check.reversed().holds
        (True, (2.0, 0.5, 0.4, 0.8), False)
        >>> check
        Check(holds; nearest to failing at T = 2: bound 0.5, measured 0.4, ratio 0.8)
    """

    iterations: Float[np.ndarray, " records"]
    bound: Float[np.ndarray, " records *batch"]
    measured: Float[np.ndarray, " records *batch"]
    equal: bool = False
    tolerance: float = 1e-9
    rounding: Any = 1e-12
    exceeds: bool = False
    claimed: bool = True
    limit: bool = False

    def __repr__(self) -> str:
        """The verdict, and the row nearest to failing or the one that fails most."""
        T, bound, measured, ratio = self.worst
        where = "nearest to failing" if self.holds else "the worst"
        last = f"within {self.within:.2g}" if self.equal else f"ratio {ratio:.4g}"
        missed = "not reached by this T" if self.limit else "FAILS"
        verdict = "not claimed for this step" if not self.claimed else "holds" if self.holds else missed
        return f"Check({verdict}; {where} at T = {T:g}: bound {bound:.4g}, measured {measured:.4g}, {last})"

    @classmethod
    def of(
        cls, at: Any, bound: Any, measured: Any, *, equal: bool = False, tolerance: float = 1e-9, rounding: Any = 1e-12,
        exceeds: bool = False,
    ) -> Check:  # fmt: skip
        """A check of anything that numpy reads; a bound without batch dimensions is broadcast over the games.

        Raises:
            ValueError: nothing was recorded, so that the check could not fail.
        """
        T, values = np.atleast_1d(_array(at)), np.atleast_1d(_array(measured))
        limit = np.atleast_1d(_array(bound))
        if not values.size:
            raise NashwardError("nothing was measured; raise iterations")
        limit = limit.reshape(*limit.shape, *(1,) * (values.ndim - limit.ndim))
        return cls(T, np.broadcast_to(limit, values.shape), values, equal, tolerance, rounding, exceeds)

    @property
    def ratio(self) -> Float[np.ndarray, " records *batch"]:
        """measured / bound: at most 1 (equation: 1, ``exceeds``: at least 1) where the statement holds. 0 / 0 is 1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.measured == self.bound, 1.0, self.measured / self.bound)

    @property
    def excess(self) -> Float[np.ndarray, " records *batch"]:
        """By how much the statement is missed beyond rounding; at most 0 where it holds."""
        with np.errstate(invalid="ignore"):
            difference = self.bound - self.measured if self.exceeds else self.measured - self.bound
        return (np.abs(difference) if self.equal else difference) - self._allowed

    @property
    def _allowed(self) -> Float[np.ndarray, " records *batch"]:
        return self.tolerance * np.abs(self.measured if self.exceeds else self.bound) + self.rounding

    @property
    def holds(self) -> bool:
        """Whether every row satisfies the statement; a value that is not finite does not."""
        return bool((self.excess <= 0).all() and np.isfinite(self.measured).all())

    @property
    def worst(self) -> tuple[float, float, float, float]:
        """T, bound, measured and ratio of the row nearest to failing, or of the one that fails most."""
        row = self._worst_row
        T = self.iterations[row[0]]
        return float(T), float(self.bound[row]), float(self.measured[row]), float(self.ratio[row])

    @property
    def within(self) -> float:
        """By how much bound and measured value may differ in the row that ``worst`` shows."""
        return float(self._allowed[self._worst_row])

    @property
    def _worst_row(self) -> tuple[np.intp, ...]:
        comparable = np.isfinite(self.ratio) & (self.measured > self.rounding)  # two roundings have no ratio
        ratio = -self.ratio if self.exceeds else self.ratio
        score = self.excess if self.equal or not self.holds else np.where(comparable, ratio, -np.inf)
        return np.unravel_index(int(np.argmax(np.nan_to_num(score, nan=np.inf, neginf=-1e300))), self.measured.shape)

    def reversed(self) -> Check:
        """The opposite statement: measured >= bound for measured <= bound, or measured = -bound for an equation."""
        if self.equal:
            return replace(self, bound=-self.bound)
        return replace(self, exceeds=not self.exceeds)


def _array(values: Any) -> Float[np.ndarray, "..."]:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=np.float64)


def solve_quietly(game: Any, solver: Any, iterations: int, start: Any = None, **settings: Any) -> games.Solution:
    """``games.solve`` without its warning about steps beyond a threshold, which some checks take on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", games.StepWarning)
        return games.solve(game, solver, iterations, start, **settings)


def check_covered(game: Any, solver: Any, *kinds: type[Any], n: int | None = None, **settings: Any) -> None:
    """Refuse a run that a theorem does not cover: another kind of game, another solver, or another setting.

    A solver of your own is not refused: whether the theorem holds for it may be the point of the check.

    Args:
        game: the game of the run.
        solver: the solver of the run.
        kinds: the solvers that the theorem covers; none given: any solver.
        n: the number of actions that the theorem covers; None: any number.
        settings: the settings that the theorem covers, by name; a step may be a function of t.

    Raises:
        ValueError: an ``n x m`` game, which has two policies; another number of actions; a solver of
            ``games.solvers.SOLVERS`` that is not of these kinds, or has another setting.
        TypeError: not a game.
    """
    check_game(game)
    if isinstance(game, games.ConstantSumGame):
        raise NashwardError("the theorem covers games with one policy for both players, this n x m game has two")
    if n is not None and n != game.sizes[0]:
        raise NashwardError(
            f"the theorem covers n = {n} and this game has {game.sizes[0]} actions: make the theorem for this game"
        )
    if type(solver) not in games.solvers.SOLVERS:
        return
    name = solver_label(solver)
    if kinds and not isinstance(solver, kinds):
        raise NashwardError(f"the theorem covers {', '.join(kind.__name__ for kind in kinds)}, not {name}")
    for key, value in settings.items():
        own = getattr(solver, key)
        if not all(math.isclose(_at(own, t), _at(value, t), rel_tol=1e-9) for t in _MOMENTS):
            expected = f"another function of t as its {key}" if callable(value) else f"{key} = {value}"
            fixed = ", ".join(f"{one}={wanted}" for one, wanted in settings.items() if not callable(wanted))
            give = "" if callable(value) or len(kinds) > 1 else f"; give {kinds[0].__name__}({fixed})"
            raise NashwardError(f"the theorem covers {expected}, not {name}{give}")


def _at(setting: Any, t: int) -> float:
    return setting(t) if callable(setting) else setting


def constant_step(solver: Any) -> float:
    """The step of a solver, for a theorem whose formula has it.

    Raises:
        ValueError: the solver has no step, or one that is a function of t.
    """
    step = getattr(solver, "step", None)
    if not is_finite(step):
        raise NashwardError(f"the theorem needs a constant step, a number as ``step``; {solver_label(solver)} has none")
    return float(step)  # type: ignore[arg-type]


def check_average(
    value: Callable[[Any], Any], game: Any, solver: Any, iterations: int, start: Any = None,
    *, record: Sequence[int] | None = None, exceeds: bool = False,
) -> Check:  # fmt: skip
    """Check the duality gaps of a solver's uniform average against their bounds, ``value(iterations)``."""
    uniform = games.averaging.uniform
    solution = solve_quietly(game, solver, iterations, start, averaging=uniform, record=record)
    return Check.of(solution.iterations, value(solution.iterations), solution.gaps["average"], exceeds=exceeds)


def kl_to_target(
    game: Any,
    solver: Any,
    target: Float[torch.Tensor, "*batch n"],
    iterations: int,
    start: Any = None,
    reference: Any = None,
) -> Float[torch.Tensor, " {iterations}+1 *batch"]:
    """KL(target || pi_t) of a solver's iterates.

    Returns:
        [T + 1, ...], for t = 1 .. T + 1, the start first.

    Raises:
        ValueError: KL is infinite, at the start or where probabilities have underflowed to 0.
    """
    every = range(1, iterations + 1)
    path = solve_quietly(game, solver, iterations, start, reference=reference, record=every, keep_policies=True)
    first = (
        torch.full_like(target, 1 / target.shape[-1])
        if start is None
        else torch.as_tensor(start, dtype=target.dtype, device=target.device)
    )
    kl = torch.cat([games.kl_divergence(target, first.expand_as(target))[None],
                    games.kl_divergence(target, path.policies["last"])])  # fmt: skip
    infinite = kl.reshape(len(kl), -1).isinf().any(-1).tolist()
    if infinite[0]:
        raise NashwardError("the start gives the probability 0 to an action that the target plays: KL is infinite")
    if True in infinite:
        raise NashwardError(
            f"after {infinite.index(True)} of {iterations} iterations an action that the target plays has the "
            "probability 0, or one below 1e-323 that is held as 0, so that KL cannot be measured: give fewer "
            "iterations or a smaller step"
        )
    return kl
