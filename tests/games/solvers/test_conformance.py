"""``check_solver``: all of the project's solvers pass, and each kind of mistake is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from nashward import games
from nashward.errors import NashwardError
from nashward.games.compiled.accelerator import ACCELERATED
from nashward.games.solvers import check_solver

ONE_OWN = [
    games.OptimisticMWU(two_sequences=True),
    games.ExtraGradient(0.5, tau=0.1),
    games.Momentum(nesterov=True),
    games.GDA(games.schedule.inverse_sqrt(0.3)),
]


@pytest.mark.parametrize(
    "solver", [*(kind() for kind in games.solvers.SOLVERS), *ONE_OWN], ids=lambda solver: type(solver).__name__
)
@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
def test_every_solver_of_the_project_conforms(solver: Any) -> None:
    check_solver(solver)


class _Own:
    """A step towards the best response; each subclass makes one mistake."""

    def next(self, p: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return (p + 0.1 * (g - (p * g).sum(-1, keepdim=True)) * p).clamp_min(0)

    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        while True:
            x = tuple(q / q.sum(-1, keepdim=True) for q in map(self.next, x, payoffs(x)))
            yield x


class Unnormalised(_Own):
    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        while True:
            x = tuple(p + g for p, g in zip(x, payoffs(x), strict=True))
            yield x


class LaterUnnormalised(_Own):
    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        for t in range(10**9):
            yield tuple(p * (1 + 1e-3 * (t >= 3)) for p in x)


class Negative(_Own):
    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        while True:
            x = tuple(p + 5 * (g - g.mean(-1, keepdim=True)) for p, g in zip(x, payoffs(x), strict=True))
            yield x


class OneTensor(_Own):
    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        while True:
            yield x[0]


class RowOnly(_Own):
    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        while True:
            yield x[:1]


class InPlace(_Own):
    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        while True:
            for p, g in zip(x, payoffs(x), strict=True):
                p.copy_((p * g.exp()) / (p * g.exp()).sum(-1, keepdim=True))
            yield x


class Remembers(_Own):
    def __init__(self) -> None:
        self.runs: list[int] = []

    def next(self, p: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        self.runs.append(1)
        return p * (g * len(self.runs) * 0.01).exp()


class Counts(_Own):
    def __init__(self) -> None:
        self.calls = 0

    def next(self, p: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().next(p, g)


class OverTheBatch(_Own):
    def next(self, p: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return p * (g - g.max()).exp() * (1 + (g == g.max()))  # the maximum of all starts, not of each


class ByNumber(_Own):
    def next(self, p: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return p * (g * torch.arange(1, g.shape[-1] + 1)).exp()


class Ends(_Own):
    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        yield x
        yield x


@dataclass(frozen=True)
class EndsAfterOneStep:
    step: float = 0.5

    def play(self, start: Any, reference: Any) -> Iterator[Any]:
        yield next(games.MWU(self.step).play(start, reference))


@dataclass(frozen=True)
class ForgetsWhatIsSent:
    step: float = 0.5

    def play(self, start: Any, reference: Any) -> Iterator[Any]:
        while True:
            yield games.Step(start, opponent=start, size=self.step)


class OnePlayerOnly(_Own):
    def iterate(self, x: Any, payoffs: Any) -> Iterator[Any]:
        (p,) = x
        while True:
            (g,) = payoffs((p,))
            p = (p.log() + 0.1 * g).softmax(-1)
            yield (p,)


class LooksInside:
    def play(self, x: Any, reference: Any) -> Iterator[Any]:
        while True:
            x = yield games.Step(x, opponent=x, size=float(x.max()))


WRONG: dict[type, str] = {
    OnePlayerOnly: r"iterate raised ValueError on a game of 2 x 3 actions: too many values",
    LooksInside: r"play raised AttributeError on a game of 4 actions: .*max",
    ForgetsWhatIsSent: r"none uses a policy that was sent",
    Unnormalised: r"iterate 1 of a game of 4 actions: a policy sums to 3",
    LaterUnnormalised: r"iterate 4 of a game of 4 actions: a policy sums to 1\.001",
    Negative: r"iterate 1 .* a policy has the probability -",
    OneTensor: r"iterate 1 .* shapes \[\(4,\)\], got Tensor",
    RowOnly: r"iterate 1 .* 2 x 3 actions: .*\[\(2,\), \(3,\)\], got \[\(2,\)\]",
    InPlace: r"iterate 1 .* changed the start in place",
    Remembers: r"the same run gave other iterates the second time",
    Counts: r"playing it changed its settings",
    OverTheBatch: r"is off by .* in one call with another start",
    ByNumber: r"is off by .* with its actions in another order",
    Ends: r"iterate ended after 2 policies",
    EndsAfterOneStep: r"play ended after 1 Step",
}


def test_the_one_without_a_mistake_conforms() -> None:
    check_solver(_Own())


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_each_mistake_is_named(kind: type) -> None:
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: .*{WRONG[kind]}") as no:
        check_solver(kind())
    assert "\n" not in str(no.value)


def test_what_is_no_solver_is_refused() -> None:
    with pytest.raises(TypeError, match=r"play\(x, reference\).*iterate\(x, payoffs\)"):
        check_solver(3)
    with pytest.raises(TypeError, match=r"GDA\(\) in place of GDA"):
        check_solver(games.GDA)


@pytest.mark.parametrize("kind", [Unnormalised, OneTensor, Ends])
def test_solve_does_not_normalise_in_silence(kind: type) -> None:
    with pytest.raises(ValueError, match=f"^{kind.__name__}: iterate"):
        games.solve(games.zoo.comal_cycle(), kind(), 20)


COMAL = games.zoo.comal_cycle()
ENDS: Any = EndsAfterOneStep()


@pytest.mark.parametrize(
    "play",
    [
        lambda: games.solve(COMAL, ENDS, 9),
        lambda: games.solve(COMAL, ENDS, 9, traced=ACCELERATED or None),
        lambda: games.sweep(COMAL, ENDS, 9, step=[0.1, 0.5]),
        lambda: games.solve(COMAL, games.FixedOpponents(ENDS, {"a": 0.5}), 9, opponents={"a": [1, 0, 0]}),
    ],
    ids=["driver", "compiled", "together", "fixed opponents"],
)
def test_a_play_that_ends_is_told_wherever_it_is_played(play: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"^EndsAfterOneStep: play ended after 1 Step;.*while True"):
        play()


class NoSteps:
    def play(self, start: Any, reference: Any) -> Iterator[Any]:
        while True:
            yield start


class Returns:
    def play(self, start: Any, reference: Any) -> Any:
        return games.Step(start, opponent=start, size=1.0)


class NamesNoPolicy:
    def play(self, start: Any, reference: Any) -> Iterator[Any]:
        while True:
            yield games.Step(start, opponent="x", size=1.0)  # type: ignore[arg-type]


NO_STEPS: dict[type, str] = {
    NoSteps: "^NoSteps: play yields Steps.*got start", Returns: "^Returns: play is a generator of Steps.*got .*Step",
    NamesNoPolicy: "opponent must be a policy.*got str",
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_STEPS, ids=lambda kind: kind.__name__)
def test_what_is_no_step_is_named(kind: type) -> None:
    """As an error on purpose, and as the TypeError that it is."""
    for error in (NashwardError, TypeError):
        with pytest.raises(error, match=NO_STEPS[kind]):
            check_solver(kind())


def test_a_solver_without_a_nearest_mirror_step_is_played_on_tables_alone() -> None:
    solution = games.solve(games.zoo.comal_cycle(), _Own(), 200, start=[0.6, 0.3, 0.1])
    assert float(solution.gaps["average"][-1]) < float(solution.gaps["average"][0])
    with pytest.raises(ValueError, match=r"_Own makes no mirror steps.*on a table$"):
        games.driver.require_steps(_Own())
