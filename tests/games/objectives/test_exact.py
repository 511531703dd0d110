"""The exact methods: worked games in closed form, random games against linear programs written out a second time."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from nashward import games
from nashward.games import objectives, zoo

floors_module = importlib.import_module("nashward.games.objectives.floors")  # the module, which its function hides
LADDER = [[0.5, 0.9], [0.1, 0.5]]
OPPOSED = [[0.5, 0.1], [0.9, 0.5]]
EVEN3 = [1 / 3] * 3


def several(n: int, seed: int, m: int = 2) -> games.MultiObjectiveGame:
    return games.MultiObjectiveGame(torch.stack([zoo.random_preferences(n, 10 * seed + k).P for k in range(m)]))


def with_ties(n: int, seed: int) -> games.MultiObjectiveGame:
    """A first objective with several equilibria: it treats some actions, or all, alike."""
    game = several(n, seed)
    P = game.P.clone()
    twins = n if seed % 3 == 0 else 2
    P[0, :twins], P[0, :, :twins] = P[0, 0].clone(), P[0, :, :1].clone()
    P[0, :twins, :twins] = 0.5
    return games.MultiObjectiveGame(P)


# --- worked games


def test_two_tables_that_agree_are_one() -> None:
    """Each method gives the one equilibrium (4, 3, 4) / 11, which wins more than the floor."""
    P = zoo.comal_cycle().P
    game, nash = (
        games.MultiObjectiveGame(torch.stack([P, P]), ["a", "b"]),
        torch.tensor([4.0, 3.0, 4.0], dtype=torch.float64) / 11,
    )
    found = [
        objectives.weights(game, {"a": 1, "b": 4}), objectives.worst_case(game), objectives.lexicographic(game),
        objectives.floors(game, {"b": 0.3}, EVEN3),
    ]  # fmt: skip
    for compromise in found:
        torch.testing.assert_close(compromise.policy, nash, rtol=0, atol=1e-12)
        assert compromise.value == pytest.approx(0.5, abs=1e-12)
        assert compromise.status == "ok"
    assert found[-1].multipliers == {"b": pytest.approx(0.0, abs=1e-12)}


def test_two_opposed_ladders() -> None:
    """P(a beats b) is 0.9 under one objective and 0.1 under the other.

    A policy with p on a is worst against a pure reply: min(0.5 + 0.4 (p - 1), 0.5 - 0.4 p), the largest at p = 1/2,
    where it is 0.3. Any weights but even ones give the heavier objective all. Under the floor c on the second against
    the even reference 0.5 + 0.4 (1/2 - p) >= c holds up to p = (0.7 - c) / 0.4, where the first gains 0.4 a unit of p
    and the second loses 0.4: the multiplier is 1.
    """
    game = games.MultiObjectiveGame([LADDER, OPPOSED], ["helpful", "short"])
    worst = objectives.worst_case(game)
    assert worst.policy.tolist() == pytest.approx([0.5, 0.5], abs=1e-12)
    assert (worst.value, worst.bound) == (pytest.approx(0.3, abs=1e-12), pytest.approx(0.3, abs=1e-12))
    assert worst.multipliers == {"helpful": pytest.approx(0.5), "short": pytest.approx(0.5)}
    assert objectives.weights(game, [0.6, 0.4]).policy.tolist() == [1.0, 0.0]
    assert objectives.weights(game, [0.4, 0.6]).policy.tolist() == [0.0, 1.0]
    assert objectives.lexicographic(game).policy.tolist() == [1.0, 0.0]
    for c in (0.35, 0.4, 0.6):
        found = objectives.floors(game, {"short": c}, [0.5, 0.5])
        assert found.policy.tolist() == pytest.approx([(0.7 - c) / 0.4, 1 - (0.7 - c) / 0.4], abs=1e-12)
        assert found.multipliers["short"] == pytest.approx(1.0, abs=1e-9)
        assert found.status == "ok"


def test_a_cycle_against_a_ladder() -> None:
    """Rock-paper-scissors with margins of 1/2, and a ladder 0 > 1 > 2 with margins 0.2, 0.2 and 0.4.

    The weighted margins a (cycle) and b (ladder) have the equilibrium (a + 0.2 b, a - 0.4 b, a + 0.2 b) / 3 a in the
    order of the opposite pairs where all are positive. The floor 1/2 + 0.1 of the ladder against the even reference,
    where the actions win 1/2 + 0.2, 1/2 and 1/2 - 0.2, asks for 0.2 (x0 - x2) >= 0.1.
    """
    cycle = zoo.rock_paper_scissors().P
    steps = torch.tensor([[0.0, 0.2, 0.4], [-0.2, 0.0, 0.2], [-0.4, -0.2, 0.0]], dtype=torch.float64)
    game = games.MultiObjectiveGame(torch.stack([cycle, 0.5 + steps]), ["cycle", "ladder"])
    A = (cycle - 0.5) * 0.75 + steps * 0.25
    opposite = torch.stack([A[1, 2], A[2, 0], A[0, 1]])
    assert bool((opposite < 0).all()) or bool((opposite > 0).all())
    closed = opposite / opposite.sum()
    torch.testing.assert_close(objectives.weights(game, [3, 1]).policy, closed, rtol=0, atol=1e-12)
    assert objectives.lexicographic(game).policy.tolist() == pytest.approx(EVEN3, abs=1e-12)
    floored = objectives.floors(game, {"ladder": 0.6}, EVEN3)
    assert float(0.2 * (floored.policy[0] - floored.policy[2])) == pytest.approx(0.1, abs=1e-12)
    # with rock-paper-scissors' margins of 1/2 and x0 = x2 + 1/2: A x + lambda D = s on the support, by hand x2 = 0
    assert floored.status == "ok"
    assert objectives.worst_case(game).value < 0.5 - 1e-3  # the symmetric shortcut does not hold


def test_majority_of_three_orders_is_condorcets_cycle() -> None:
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    P = [[[0.5 if i == j else float(o.index(i) < o.index(j)) for j in range(3)] for i in range(3)] for o in orders]
    game = games.MultiObjectiveGame(P)
    assert game.majority().P.tolist() == [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    assert objectives.majority(game).policy.tolist() == pytest.approx(EVEN3)


def test_votes_are_counted_as_by_enumeration() -> None:
    P = several(3, 5, m=4).P
    counted = torch.zeros(3, 3, dtype=torch.float64)
    for votes in itertools.product((0, 1), repeat=4):
        chance = torch.stack([p if v else 1 - p for p, v in zip(P, votes, strict=True)]).prod(0)
        counted += chance * (1.0 if sum(votes) > 2 else 0.5 if sum(votes) == 2 else 0.0)
    torch.testing.assert_close(games.MultiObjectiveGame(P).majority().P, counted, rtol=0, atol=1e-12)


# --- random games against linear programs written out again


def _value_of_worst_case(P: np.ndarray) -> float:
    m, n, _ = P.shape
    rows = np.r_[[np.r_[-P[k, :, j], 1.0] for k in range(m) for j in range(n)]]
    sums = np.r_[np.ones(n), 0.0][None]
    found = linprog(np.r_[np.zeros(n), -1.0], rows, np.zeros(m * n), sums, [1.0], [(0, None)] * n + [(None, None)])
    return -float(found.fun)


def _best_reply(A: np.ndarray, x: np.ndarray, D: np.ndarray) -> float:
    """The most that a policy with D p >= 0 gains against x."""
    n = len(A)
    found = linprog(-(A @ x), -D, np.zeros(len(D)), np.ones((1, n)), [1.0], (0, None))
    return -float(found.fun)


@pytest.mark.parametrize("part", range(3))
def test_three_hundred_random_games_against_linear_programs(part: int) -> None:
    """The values of worst case and weighted sum; and no policy above the floors gains against that of ``floors``."""
    for seed in range(100 * part, 100 * (part + 1)):
        n, m = 2 + seed % 5, 2 + seed % 2
        game = several(n, seed, m)
        P, mu = game.P.numpy(), np.random.default_rng(seed).dirichlet(np.ones(n))
        worst = objectives.worst_case(game)
        assert worst.value == pytest.approx(_value_of_worst_case(P), abs=1e-10)
        assert worst.gap <= 1e-10
        slack, _ = objectives.largest_slack((P[1:] @ mu)[:, None], np.zeros(m - 1), np.ones(1))
        c = slack - (0.0 if seed % 4 == 0 else 0.03)  # in some games no policy exceeds the floors
        found = objectives.floors(game, {str(k): c for k in range(1, m)}, mu)
        x, D = found.policy.numpy(), P[1:] @ mu - c
        assert (D @ x).min() >= -1e-10
        assert _best_reply(P[0] - 0.5, x, D) <= 1e-10
        assert found.status == "ok", found.status
        weighted = objectives.weights(game, range(1, m + 1))
        w = np.arange(1, m + 1) / sum(range(1, m + 1))
        assert float((np.einsum("m,mij->ij", w, P) @ weighted.policy.numpy()).max()) <= 0.5 + 1e-10


def test_both_solvers_of_the_floors_find_an_equilibrium(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a policy exceeds all floors the skew game is solved without the linear program, which agrees."""
    by_linear_program = floors_module._by_linear_program

    def missing(*given: Any) -> Any:
        raise AssertionError("the skew game had no answer")

    for seed in range(30):
        game = several(2 + seed % 5, seed)
        P, mu = game.P.numpy(), np.random.default_rng(seed).dirichlet(np.ones(game.P.shape[-1]))
        slack, _ = objectives.largest_slack((P[1:] @ mu)[:, None], np.zeros(1), np.ones(1))
        D = P[1:] @ mu - (slack - 0.02)
        monkeypatch.setattr(floors_module, "_by_linear_program", missing)
        assert objectives.floors(game, {"1": slack - 0.02}, mu).status == "ok"
        x, multipliers = by_linear_program(P[0] - 0.5, D)
        assert ((P[0] - 0.5) @ x + D.T @ multipliers).max() <= 1e-10
        assert (D @ x).min() >= -1e-10


def _vertices(A: np.ndarray) -> np.ndarray:
    """The corners of {x on the simplex: A x <= 0}, by trying every set of n - 1 tight constraints."""
    n = len(A)
    constraints, found = np.r_[-A, np.eye(n)], []
    for tight in itertools.combinations(range(2 * n), n - 1):
        system = np.r_[constraints[list(tight)], np.ones((1, n))]
        if abs(np.linalg.det(system)) > 1e-9:
            x = np.linalg.solve(system, np.r_[np.zeros(n - 1), 1.0])
            if (constraints @ x).min() >= -1e-10:
                found.append(x)
    return np.array(found)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_second_objective_decides_on_the_face_of_the_first(n: int) -> None:
    """The second objective's game on the enumerated corners of the face is another route to the answer."""
    for seed in range(20):
        game = with_ties(n, seed)
        A, B = game.P.numpy() - 0.5
        found = objectives.lexicographic(game)
        x = found.policy.numpy()
        corners = _vertices(A)
        assert (A @ x).max() <= 1e-10
        assert (corners @ B @ x).max() <= 1e-10
        assert found.status == "ok"
        on_corners = games.nash(games.PreferenceGame(0.5 + corners @ B @ corners.T)).policy.numpy() @ corners
        assert (corners @ B @ on_corners).max() <= 1e-10  # both are equilibria of the second on the face


def test_a_third_objective_decides_what_two_leave_open() -> None:
    even = torch.full((4, 4), 0.5, dtype=torch.float64)
    halves = even.clone()  # the first two beat the last two
    halves[:2, 2:], halves[2:, :2] = 0.8, 0.2
    third = zoo.random_preferences(4, 3).P
    found = objectives.lexicographic(games.MultiObjectiveGame(torch.stack([even, halves, third])))
    best = 0 if float(third[0, 1]) > 0.5 else 1
    assert found.policy.tolist() == pytest.approx([float(k == best) for k in range(4)], abs=1e-9)
    assert found.multipliers == {"0": 1.0, "1": 1.0, "2": 1.0}
    assert found.status == "ok"


# --- what is refused


def _floors(**floors: float) -> Any:
    game = games.MultiObjectiveGame([LADDER, OPPOSED], ["helpful", "short"])
    return objectives.floors(game, floors, [0.5, 0.5])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: games.MultiObjectiveGame(LADDER), [r"\[2, 2\]"]),
        (lambda: games.MultiObjectiveGame([LADDER, OPPOSED], ["a", "a"]), ["distinct"]),
        (lambda: games.MultiObjectiveGame([LADDER, [[0.5, 2.0], [-1.0, 0.5]]]), ["1, 0, 1"]),
        (lambda: objectives.weights(games.MultiObjectiveGame([LADDER]), [-1.0]), ["at least 0"]),
        (lambda: objectives.weights(games.MultiObjectiveGame([LADDER]), {"b": 1.0}), ["'0'"]),
        (lambda: _floors(), ["short"]),
        (lambda: _floors(helpful=0.4), ["helpful", "first"]),
        (lambda: _floors(kind=0.4), ["kind", "short"]),
        (lambda: _floors(short=1.2), ["short", "1.2"]),
        (lambda: objectives.EntropicGame(games.MultiObjectiveGame([LADDER]), [1.0, 0.0]), ["probability 0"]),
        (lambda: objectives.EntropicGame(games.MultiObjectiveGame([LADDER]), tau=0.0), ["tau"]),
        (
            lambda: objectives.FloorsGame(games.MultiObjectiveGame([LADDER] * 2), {"1": 0.5}, [0.5, 0.5], limit=0.0),
            ["limit"],
        ),
    ],
)
def test_what_does_not_fit_is_named(call: Any, words: list[str]) -> None:
    with pytest.raises(ValueError, match=".*".join(words)):
        call()


def test_floors_that_cannot_all_be_met_are_refused_with_the_largest_that_can() -> None:
    """Two opposed floors of 0.6 against the even reference, where a policy wins 0.5 + 0.4 (p - 1/2) and its mirror
    image: they sum to 1, so that 0.5 each is the most."""
    game = games.MultiObjectiveGame([[[0.5, 0.5], [0.5, 0.5]], LADDER, OPPOSED], ["a", "b", "c"])
    for refuse in (objectives.floors, objectives.FloorsGame):
        with pytest.raises(ValueError, match=r"b=0\.6.*b=0\.5000, c=0\.5000$"):
            refuse(game, {"b": 0.6, "c": 0.6}, [0.5, 0.5])
    found = objectives.floors(game, {"b": 0.5, "c": 0.5}, [0.5, 0.5])
    assert found.policy.tolist() == pytest.approx([0.5, 0.5], abs=1e-9)
