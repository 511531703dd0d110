"""Every solver on every game of the zoo: the gaps of the last, the average and the linear-average iterate.

Each gap is compared with its bound: a theorem's where there is one, else ``TARGET``. ``every_pair.txt`` lists what is
above it, with one row per game, one column per solver and three signs for the three iterates; ``REASONS`` says why.
``python -m tests.games.solvers.test_every_pair`` prints the table again.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nashward import games, theory
from nashward.games import zoo
from nashward.games.averaging import linear, uniform

TABLE = Path(__file__).parent / "every_pair.txt"
ITERATES = ("last", "average", "linear")
SHORT, LONG = 500, 5000
TARGET = 0.05  # the bound where no theorem gives one; over the last quarter of the iterations
ROUNDING = 1e-12
TAU, EGPO = 0.1, 1 / (0.5 + 0.1)  # the pull, and EGPO's largest proven step under it

# the signs: within the bound in the short run and in the long one
SIGNS = {(True, True): ".", (False, True): "s", (True, False): "l", (False, False): "n"}


@dataclass(frozen=True)
class Batch:
    """The games of one size, all from the policy with logits from 1 to -1, which is hardly ever a Nash."""

    names: list[str]
    game: games.PreferenceGame

    @property
    def start(self) -> Tensor:
        return torch.linspace(1, -1, self.game.sizes[0]).double().softmax(0)

    @property
    def C(self) -> float:
        return theory.complexity(self.start)

    @property
    def D(self) -> float:
        """The squared distance from the start to the farthest action."""
        return float(1 + self.start.square().sum() - 2 * self.start.min())

    @property
    def left(self) -> Tensor:
        """The gap that the pull to the uniform policy leaves: that of the exact Nash of the regularised game."""
        uniform = torch.full_like(self.start, 1 / len(self.start))
        return games.duality_gap(self.game, games.regularised_nash(self.game, TAU, uniform).policy)


Bound = Callable[[Batch, Tensor], Tensor]  # of the batch and T [records, 1]: [records, games] or [records, 1]


def target(batch: Batch, T: Tensor) -> Tensor:
    return torch.full_like(T, TARGET)


def regularised(batch: Batch, T: Tensor) -> Tensor:
    """``target`` beside the gap that the pull leaves."""
    return batch.left + target(batch, T)


MEASURED = (target, regularised)  # no theorem's


def contracting(theorem: theory.Contraction, iterate: str = "last") -> Bound:
    """The gap that the pull leaves, plus what remains of the way there.

    KL(nash || pi_t) <= C factor^t, gaps of two policies differ by no more than their l1 distance, at most
    sqrt(2 KL), and the gap is convex, so that that of an average is at most the average gap.
    """
    root = math.sqrt(theorem.factor)

    def bound(batch: Batch, T: Tensor) -> Tensor:
        way = math.sqrt(2 * batch.C)
        rest = {
            "last": way * root**T,
            "average": way / (1 - root) / T,
            "linear": way / (1 - root) ** 2 * 2 / (T * (T + 1)),
        }
        return batch.left + rest[iterate]

    return bound


@dataclass(frozen=True)
class Row:
    """A solver with its settings, the bound of each of its iterates, and its iterations as a share of the usual."""

    name: str
    solver: Any
    last: Bound = target
    average: Bound = target
    linear: Bound = target
    share: float = 1.0


def _contracting(name: str, solver: Any, theorem: theory.Contraction) -> Row:
    last, average, linear = (contracting(theorem, iterate) for iterate in ITERATES)
    return Row(name, solver, last, average, linear)


def _regret(batch: Batch, T: Tensor) -> Tensor:
    return 2 * ((batch.game.sizes[0] - 1) / T).sqrt()


ROWS = (
    Row("MWU", games.MWU(0.1), average=lambda b, T: 0.1 / 4 + 2 * b.C / (0.1 * T)),
    # one sequence is two whose second begins one step back, at C + step / 2 + step^2 / 8 at most
    Row("optimistic", games.OptimisticMWU(0.5), average=lambda b, T: (4 * b.C + 1.125) / T),
    Row("onpo", games.OptimisticMWU(0.5, two_sequences=True), average=lambda b, T: 4 * b.C / T),
    Row("mirror-prox", games.ExtraGradient(2.0), average=lambda b, T: 2 * b.C / (2.0 * T)),
    Row("egpo", games.ExtraGradient(EGPO, TAU), contracting(theory.Contraction.extragradient(EGPO, TAU)),
        regularised, regularised),  # the average is over half points, which the theorem does not cover
    _contracting("mmd", games.MagneticMirrorDescent(4 * TAU, TAU), theory.Contraction.magnetic(4 * TAU, TAU)),
    _contracting("inpo", games.INPO(0.3, TAU), theory.Contraction.inpo(0.3, TAU)),
    Row("nash-md", games.NashMD(0.1, TAU), regularised, regularised, regularised),
    Row("nash-ema", games.NashEMA(0.1, TAU), regularised, regularised, regularised),
    Row("history", games.HistoryMixture(0.1, TAU), regularised, regularised, regularised),
    Row("momentum", games.Momentum(0.1, 0.3)),
    Row("apo", games.Momentum(0.1, 0.3, nesterov=True)),
    Row("comal", games.ProximalPoint(), share=0.04),
    Row("mpo", games.MagnetReset()),
    Row("RM", games.RegretMatching(), average=_regret),
    # the regrets since any round are at most those that are kept: those of the linear average are twice as large
    Row("RM+", games.RegretMatchingPlus(), average=_regret, linear=lambda b, T: 2 * _regret(b, T)),
    Row("PRM+", games.PredictiveRegretMatchingPlus()),
    Row("fictitious", games.FictitiousPlay()),
    Row("gda", games.GDA(0.1), average=lambda b, T: b.D / (0.1 * T) + 0.1 * b.game.sizes[0] / 4),
    # 0.1 is below 1 / (2 sqrt(2) |A|) of every game here
    Row("ogda", games.OptimisticGDA(0.1), average=lambda b, T: (b.D / 0.1 + 0.1 * b.game.sizes[0] / 2) / T),
    # in continuous time 2 C / t; a sum of points a step h apart is within h / 4 of the integral
    Row("replicator", games.Replicator(0.1), average=lambda b, T: 2 * b.C / (0.1 * T) + 0.1 / 4),
)  # fmt: skip


def batches() -> list[Batch]:
    names = defaultdict(list)
    for name in zoo.names():
        names[zoo.get(name).sizes[0]].append(name)
    return [Batch(some, games.PreferenceGame(torch.stack([zoo.get(n).P for n in some]))) for some in names.values()]


def worst(row: Row, batch: Batch, iterations: int) -> dict[str, tuple[float, ...]]:
    """For each game the largest gap of the last, the average and the linear-average iterate in units of its bound.

    Where a theorem bounds every T it is the largest of all records, else of those in the last quarter.
    """
    T = max(round(iterations * row.share), 20)
    record = range(max(1, T // 100), T + 1, max(1, T // 100))
    reference = torch.full_like(batch.start, 1 / len(batch.start))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", games.StepWarning)  # some steps are beyond what is proven for the last iterate
        found = games.solve(
            batch.game, row.solver, T, batch.start, reference, averaging=uniform, averages={"linear": linear},
            record=record,
        )  # fmt: skip
    at, ratios = found.iterations.double()[:, None], []
    for iterate in ITERATES:
        bound = getattr(row, iterate)
        ratio = (found.gaps[iterate] - ROUNDING) / bound(batch, at)
        ratios.append((ratio[3 * len(ratio) // 4 :] if bound in MEASURED else ratio).amax(0).tolist())
    return dict(zip(batch.names, zip(*ratios, strict=True), strict=True))


def within(row: Row, batch: Batch, iterations: int) -> dict[str, tuple[bool, ...]]:
    return {name: tuple(ratio <= 1 for ratio in of) for name, of in worst(row, batch, iterations).items()}


def signs(row: Row) -> dict[str, str]:
    """The three signs of every game."""
    found: dict[str, str] = {}
    for batch in batches():
        short, long = within(row, batch, SHORT), within(row, batch, LONG)
        found |= {name: "".join(SIGNS[pair] for pair in zip(short[name], long[name], strict=True)) for name in short}
    return found


def table() -> dict[str, dict[str, str]]:
    """The committed signs by solver and game."""
    head, *lines = (line.split() for line in TABLE.read_text().splitlines())
    return {name: {line[0]: line[k] for line in lines} for k, name in enumerate(head, 1)}


CIRCLES = "multiplicative steps circle an interior Nash or leave it"
LAST_FIRST = "the latest iterates, which still circle, weigh most"
FORGETS = "the start is forgotten as 1 / T only"
RATE = "converges, at a rate that depends on the game: the slower, the nearer the Nash is to the boundary"
REASONS: dict[str, dict[str, str]] = {
    "last": {
        "MWU momentum apo replicator": CIRCLES,
        "gda": "gradient steps circle an interior Nash, ever wider",
        "RM RM+ PRM+": "regret matching has no guarantee for the last iterate (arXiv 2311.00676)",
        "fictitious": "a best response is one action",
        "history": "no theorem; it settles more slowly than INPO, which it mixes with the past",
        "optimistic onpo mirror-prox comal mpo ogda": RATE,
    },
    "average": {
        "nash-md nash-ema history comal mpo": FORGETS,
        "momentum apo": "no theorem; as 1 / sqrt(T) at best",
        "fictitious": "as 1 / sqrt(T), with a constant that grows with the game",
    },
    "linear": {
        "MWU momentum apo replicator RM fictitious": LAST_FIRST,
        "optimistic onpo": RATE,
        "nash-md nash-ema history": FORGETS,
        "comal": RATE,
    },
}


def _reasons(iterate: str) -> list[str]:
    return [name for names in REASONS[iterate] for name in names.split()]


def test_the_table_has_every_pair() -> None:
    assert list(table()) == [row.name for row in ROWS]
    assert {type(row.solver) for row in ROWS} == set(games.solvers.SOLVERS)
    for column in table().values():
        assert list(column) == zoo.names()
        assert all(len(cell) == 3 and set(cell) <= set(SIGNS.values()) for cell in column.values())


@pytest.mark.parametrize(("k", "iterate"), list(enumerate(ITERATES)))
def test_what_is_beyond_its_bound_has_a_reason_and_no_theorem(k: int, iterate: str) -> None:
    beyond = [name for name, column in table().items() if any(cell[k] != "." for cell in column.values())]
    assert sorted(beyond) == sorted(_reasons(iterate))
    measured = {row.name for row in ROWS if getattr(row, iterate) in MEASURED}
    assert measured.issuperset(beyond)


def _check(row: Row, iterations: int, which: int) -> None:
    """Compare with the table: a listed pair that now holds fails, just as a new failure does."""
    committed, bits = table()[row.name], {sign: pair[which] for pair, sign in SIGNS.items()}
    for batch in batches():
        for name, held in within(row, batch, iterations).items():
            expected = dict(zip(ITERATES, (bits[sign] for sign in committed[name]), strict=True))
            assert dict(zip(ITERATES, held, strict=True)) == expected, (row.name, name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_solver_on_every_game(row: Row) -> None:
    _check(row, SHORT, 0)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_solver_on_every_game_for_ten_times_as_long(row: Row) -> None:
    _check(row, LONG, 1)


def _print_table() -> None:
    columns = {row.name: signs(row) for row in ROWS}
    width = max(map(len, zoo.names()))
    print(" " * width, *columns)
    for name in zoo.names():
        print(f"{name:<{width}}", *(f"{column[name]:<{len(head)}}" for head, column in columns.items()))


if __name__ == "__main__":
    _print_table()
