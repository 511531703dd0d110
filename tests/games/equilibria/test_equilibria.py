"""The methods behind ``nash``: mixed games by the thousand, a second route, limits and fallbacks, the face."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from nashward import games
from nashward.errors import NashwardError
from nashward.games.compiled import accelerator
from nashward.games.equilibria import centre, maximum_entropy, selection, vertex
from nashward.games.equilibria.closed_form import closed_form, closed_form_one
from nashward.games.equilibria.crossover import crossover, in_doubt
from nashward.games.equilibria.double_oracle import double_oracle
from nashward.games.equilibria.interior_point import central_path
from nashward.games.equilibria.linear_program import extent, linear_program
from nashward.games.equilibria.pivoting import pivot, pivot_limit
from nashward.games.equilibria.polish import gap, polish
from nashward.games.equilibria.rational import in_fractions
from nashward.games.forms.symmetrize import margins, symmetrised

from .. import mixed


def _highs_value(payoff: np.ndarray) -> float:
    """The value of a matrix game by scipy alone."""
    n, m = payoff.shape
    result = linprog(
        np.r_[np.zeros(n), -1.0],
        A_ub=np.c_[-payoff.T, np.ones(m)],
        b_ub=np.zeros(m),
        A_eq=np.r_[np.ones(n), 0.0][None],
        b_eq=[1.0],
        bounds=[*((0, None) for _ in range(n)), (None, None)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return float(result.x[-1])


def _checked(seed: int) -> None:
    A = mixed.margins(seed)
    equilibrium = games.nash(games.PreferenceGame(0.5 + A))
    x = equilibrium.policy.numpy()
    kind = mixed.KINDS[seed % len(mixed.KINDS)].__name__
    assert equilibrium.gap <= 1e-12, (seed, kind, len(A))
    assert 2 * (A @ x).max() <= 1e-12
    assert x.min() >= 0
    assert x.sum() == pytest.approx(1, abs=1e-12)
    assert np.array_equal(equilibrium.support.numpy(), x > 0)


def test_the_closed_form_of_one_game_is_that_of_a_batch() -> None:
    for seed in range(400):
        n = 1 + seed % 3
        kind = mixed.KINDS[seed % len(mixed.KINDS)]
        A = kind(np.random.default_rng(seed), n)
        x = np.zeros(n)
        least = closed_form_one(0.5 + A, 0.5, x)
        many, leasts = closed_form(torch.from_numpy(A)[None])
        np.testing.assert_allclose(x, many[0], atol=1e-9)
        assert least == pytest.approx(float(leasts[0]), abs=1e-9)


def test_mixed_games() -> None:
    for seed in range(600):
        _checked(seed)


@pytest.mark.slow
def test_three_thousand_mixed_games() -> None:
    for seed in range(3000):
        _checked(seed)


def test_mixed_games_agree_with_highs_in_value() -> None:
    for seed in range(0, 400, 7):
        A = mixed.margins(seed)
        value = games.nash(games.PreferenceGame(0.5 + A)).value
        assert float(value) - 0.5 == pytest.approx(_highs_value(A), abs=1e-10)


@pytest.mark.parametrize("seed", range(20))
def test_every_route_solves_the_same_game(seed: int) -> None:
    A = selection.solve_margins(mixed.uniform(np.random.default_rng(seed), 9))[0]  # an answer of the right shape
    assert A.shape == (9,)
    A = mixed.margins(seed)
    A = A / max(2 * np.abs(A).max(), 1e-12)
    for route in (selection.by_pivoting, selection.by_interior_point, selection.by_linear_program):
        vertex = route(A)
        assert vertex is not None, route.__name__
        x = polish(A, vertex[0], vertex[0] > 1e-9)
        assert gap(A, x) <= 1e-9 if "linear" in route.__name__ else gap(A, x) <= 1e-12, route.__name__


def test_the_pivot_limit_gives_up_and_another_route_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    A = torch.from_numpy(np.stack([mixed.uniform(np.random.default_rng(seed), 12) for seed in range(5)]))
    x, least = pivot(A, pivots=2)
    assert least.isnan().all()
    assert torch.equal(x.nan_to_num(), torch.zeros(5, 12, dtype=torch.float64))  # no invented answer
    monkeypatch.setattr(selection, "pivot_limit", lambda n: 2)
    assert selection.by_pivoting(A[0].numpy()) is None
    equilibrium = games.nash(games.PreferenceGame(0.5 + A))
    assert (equilibrium.gap <= 1e-12).all()
    assert (equilibrium.policy.sum(-1) - 1).abs().max() <= 1e-12


def test_a_ray_is_reported_as_unknown() -> None:
    A = torch.full((1, 5, 5), torch.nan, dtype=torch.float64)  # no pivot is admissible
    _, least = pivot(A, pivot_limit(5))
    assert least.isnan().all()


def test_what_no_route_solves_is_answered_with_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "routes", lambda n: (lambda A: None,))
    monkeypatch.setattr(selection, "pivot_limit", lambda n: 0)
    game = games.zoo.random_preferences(12, seed=1)
    equilibrium = games.nash(game)
    gap = float(games.duality_gap(game, equilibrium.policy))
    assert float(equilibrium.gap) == pytest.approx(gap)
    assert gap > 0.01
    assert f"{gap:.1e}" in equilibrium.status


@pytest.mark.parametrize(("n", "most"), [(200, 5), (300, 5), pytest.param(1000, 1, marks=pytest.mark.slow)])
def test_large_games_of_whole_numbers_keep_the_promise(n: int, most: int) -> None:
    for seed in range(2):
        U = np.random.default_rng(seed).integers(-most, most + 1, (n, n)).astype(float)
        equilibrium = games.nash(games.ConstantSumGame(U, total=0.0))
        row, column = (p.numpy() for p in equilibrium.policy)
        assert (U @ column).max() - (row @ U).min() <= 1e-12 * 2 * most
        assert equilibrium.status == "ok"
        assert equilibrium.unique


def test_the_promise_is_of_the_span_of_the_payoffs() -> None:
    U = np.random.default_rng(0).normal(size=(30, 20))
    for scale in (1e-200, 1e-6, 1.0, 1e9, 1e200):
        equilibrium = games.nash(games.ConstantSumGame(scale * U, total=0.0))
        assert equilibrium.gap <= 1e-12 * scale * (U.max() - U.min())
        assert equilibrium.status == "ok"
    far = games.nash(games.ConstantSumGame(1e12 + np.round(U, 3), total=0.0))  # the payoffs have lost their digits
    assert (far.status == "ok") == bool(far.gap <= 1e-12 * (U.max() - U.min()))


def test_closed_form_against_pivoting() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 3):
        A = torch.from_numpy(np.stack([mixed.integers(rng, n) for _ in range(200)]))
        x, least = closed_form(A)
        assert float((A @ x[..., None]).max()) <= 1e-15
        y, other = pivot(A, pivot_limit(n))
        unique = least > 1e-9
        assert torch.equal(unique, other > 1e-9)
        torch.testing.assert_close(x[unique], y[unique], atol=1e-14, rtol=0)


@pytest.mark.parametrize("kind", [mixed.uniform, mixed.tournament_with_ties, mixed.strengths_and_cycles])
def test_large_games_by_the_interior_point_and_by_the_double_oracle(kind) -> None:
    A = kind(np.random.default_rng(5), 320)
    inner = selection.by_interior_point(A)
    assert inner is not None
    assert gap(A, inner[0] / inner[0].sum()) <= 1e-12
    outer = selection.by_double_oracle(A, 0.0)
    if kind is mixed.strengths_and_cycles:  # a small support
        assert outer is not None
        np.testing.assert_allclose(outer[0], inner[0] / inner[0].sum(), atol=1e-11)
    else:
        assert outer is None  # most of the game would be needed


def test_the_central_path_ends_in_the_middle_and_tells_who_is_played() -> None:
    twice = np.kron(games.zoo.rock_paper_scissors().P.numpy() - 0.5, np.ones((2, 2)))
    loser = np.pad(twice, (0, 1), constant_values=0.0)
    loser[:6, 6], loser[6, :6] = 0.25, -0.25
    *_, (x, s) = central_path(torch.from_numpy(loser)[None])
    assert ((x > s)[0].numpy() == np.r_[np.ones(6), 0].astype(bool)).all()
    assert 1 / 8 < float(x[0, :6].min()) < float(x[0, :6].max()) < 1 / 4


def test_crossover_settles_the_actions_in_doubt() -> None:
    A = mixed.uniform(np.random.default_rng(3), 120)
    exact = selection.solve_margins(A)[0]
    settled = []
    for x, s in central_path(torch.from_numpy(A)[None]):
        y, slack = x[0].numpy(), s[0].numpy()
        vertex = crossover(A, y, slack) if y @ slack < 1e-2 else None
        if vertex is not None and gap(A, vertex[0] / vertex[0].sum()) <= 1e-12:
            np.testing.assert_allclose(vertex[0] / vertex[0].sum(), exact, atol=1e-12)
            settled.append(in_doubt(y, slack))
    assert max(settled) > 10  # far from the end of the path
    assert min(settled) == 0


def test_the_double_oracle_looks_at_few_rows() -> None:
    A = mixed.strengths_and_cycles(np.random.default_rng(1), 2000)
    looked: set[int] = set()

    def rows(actions: np.ndarray, columns: np.ndarray) -> np.ndarray:
        looked.update(actions.tolist())
        return A[np.ix_(actions, columns)]

    found = double_oracle(lambda i, w: A[:, i] @ w, rows, selection.solve_margins, tolerance=1e-14, most=2000)
    assert found.settled
    assert 2 * found.margins.max() <= 1e-12
    assert len(looked) < 200


def test_linear_programs_find_the_same_equilibrium() -> None:
    A = mixed.uniform(np.random.default_rng(2), 15)
    np.testing.assert_allclose(linear_program(A), selection.solve_margins(A)[0], atol=1e-10)


def test_the_face_of_a_game_with_twins() -> None:
    twice = games.PreferenceGame(np.kron(games.zoo.comal_cycle().P.numpy(), np.ones((2, 2))))
    face = games.face(twice)
    assert face.dimension == 3  # each of three pairs may share its weight in any way
    assert face.support.all()
    pairs = np.array([4, 3, 4]) / 11
    for point in (vertex, centre, maximum_entropy):
        x = point(face)
        np.testing.assert_allclose(x.reshape(3, 2).sum(-1), pairs, atol=1e-12)
    np.testing.assert_allclose(centre(face), np.repeat(pairs, 2) / 2, atol=1e-10)
    np.testing.assert_allclose(maximum_entropy(face), np.repeat(pairs, 2) / 2, atol=1e-10)
    assert (vertex(face) > 0).sum() == 3


def test_centre_and_maximum_entropy_differ_where_the_face_is_not_symmetric() -> None:
    tie = np.zeros((4, 4))
    tie[3, 0] = tie[3, 1] = -0.1  # the fourth action loses to two of three that tie
    tie[0, 3] = tie[1, 3] = 0.1
    face = games.face(games.PreferenceGame(0.5 + tie))
    assert face.dimension == 2
    assert face.support.tolist() == [True, True, True, False]
    np.testing.assert_allclose(maximum_entropy(face), [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-9)
    skew = np.zeros((5, 5))
    skew[0, 4], skew[4, 0], skew[1, 4], skew[4, 1] = 0.1, -0.1, -0.2, 0.2  # the fifth caps the second at half the first
    cut = games.face(games.PreferenceGame(0.5 + skew))
    chosen = [games.nash(games.PreferenceGame(0.5 + skew), p).policy for p in (centre, maximum_entropy)]
    for policy in chosen:
        assert games.duality_gap(games.PreferenceGame(0.5 + skew), policy) <= 1e-12
    entropies = [-float(torch.special.xlogy(p, p).sum()) for p in chosen]
    assert entropies[1] >= entropies[0] - 1e-12
    steps = np.random.default_rng(0).normal(size=(cut.directions.shape[1], 2000)) * 0.1
    others = cut.interior[:, None] + cut.directions @ steps
    within = others[:, (others >= 0).all(0) & ((skew @ others) <= 1e-15).all(0)]
    assert within.shape[1] > 20
    assert -np.sum(within * np.log(np.maximum(within, 1e-300)), 0).max() <= entropies[1] + 1e-9


def test_the_extent_of_the_equilibria_is_none_where_there_is_one() -> None:
    alone, tied = games.zoo.comal_cycle().P.numpy() - 0.5, np.zeros((3, 3))
    assert abs(extent(alone, np.array([4, 3, 4]) / 11)) < 1e-9
    assert extent(tied, np.full(3, 1 / 3)) > 0.1


def test_nash_takes_the_chosen_point() -> None:
    twice = games.PreferenceGame(np.kron(games.zoo.rock_paper_scissors().P.numpy(), np.ones((2, 2))))
    uniform = games.nash(games.PreferenceGame(torch.stack([twice.P, twice.P])), maximum_entropy)
    torch.testing.assert_close(uniform.policy, torch.full((2, 6), 1 / 6, dtype=torch.float64), atol=1e-12, rtol=0)
    assert not uniform.unique.any()
    assert int(games.nash(twice, vertex).support.sum()) == 3


def test_uniqueness_of_small_integer_games_against_fractions_by_hand() -> None:
    # Two actions that tie, a third that loses to both: a segment. With the tie broken: a point.
    segment = [[0.5, 0.5, 0.7], [0.5, 0.5, 0.7], [0.3, 0.3, 0.5]]
    assert not bool(games.nash(games.PreferenceGame(segment)).unique)
    segment[0][1], segment[1][0] = 0.6, 0.4
    assert bool(games.nash(games.PreferenceGame(segment)).unique)
    assert games.face(games.PreferenceGame(segment)).dimension == 0


def test_fractions() -> None:
    exact = games.nash_fractions(games.zoo.biased_rock_paper_scissors())
    assert exact.policy == (Fraction(1, 16), Fraction(10, 16), Fraction(5, 16))
    assert (exact.value, exact.gap) == (Fraction(1, 2), 0)
    for seed in range(40):  # integer payoffs with ties: the gap is 0 without rounding
        A = mixed.integers(np.random.default_rng(seed), 9)
        result = games.nash_fractions(games.PreferenceGame(0.5 + A))
        assert result.gap == 0
        assert sum(result.policy) == 1
    dice = games.nash_fractions(games.zoo.intransitive_dice())
    assert all(p.denominator < 100 for p in dice.policy)
    decimals = games.PreferenceGame([[0.5, 0.5594, 0.47], [0.4406, 0.5, 0.61], [0.53, 0.39, 0.5]])
    with pytest.raises(NashwardError, match=r"P\[0, 1\] = 0\.5594 .* at most 1000; give denominator=10000$"):
        games.nash_fractions(decimals)
    assert games.nash_fractions(decimals, denominator=10000).gap == 0
    with pytest.raises(NashwardError, match=r"at most 1000$"):  # no decimals
        games.nash_fractions(games.zoo.generators.from_scores([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"P\[0, 1\] = .* at most 1000"):
        games.nash_fractions(games.zoo.random_preferences(4))
    with pytest.raises(ValueError, match=r"one game, got a batch of shape \(2,\)"):
        games.nash_fractions(games.PreferenceGame(np.full((2, 3, 3), 0.5)))
    with pytest.raises(TypeError, match="PreferenceGame, got ConstantSumGame"):
        games.nash_fractions(games.ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], 0.0))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"games\.equilibria\.centre, got 'centre'"):
        games.nash(games.zoo.cloned_rock(), "centre")  # type: ignore[arg-type]


def test_a_batch_of_equilibria_is_shown_in_one_line() -> None:
    shown = repr(games.nash(games.PreferenceGame(np.full((50, 40, 40), 0.5))))
    assert "[50]" in shown
    assert "[50, 40]" in shown
    assert len(shown) < 120


def test_payoffs_are_fractions_within_a_rounding_of_their_own_size() -> None:
    payoff, thirds, even = np.array([[3.0, -1.0], [-1.0, 1.0]]), np.array([1, 2]) / 3, np.array([0.5, 0.5])
    exact = [Fraction(1, 3), Fraction(2, 3)]
    for scale in (1.0, 1e-3, 1e6 + 0.1):
        assert in_fractions(scale * payoff, thirds, thirds) == (exact, exact, True)
    assert in_fractions(payoff, even, even) is None
    assert in_fractions(1e-17 * payoff, even, even) is None  # no zeros: against them all policies would be equilibria
    assert in_fractions(payoff + 1e-12, thirds, thirds) is None
    margin = np.array([[0.0, -0.49], [0.49, 0.0]])  # 0.5 - 0.49 is 0.010000000000000009
    assert games.nash_fractions(games.PreferenceGame(0.5 + margin)).policy == (0, 1)


def test_batches_of_many_sizes_equal_the_games_alone() -> None:
    tables = [0.5 + mixed.margins(seed) for seed in range(0, 120, 3) if len(mixed.margins(seed)) <= 16]
    together = games.nash(games.ContextualGame(tables))
    assert (together.gap <= 1e-12).all()
    for k, table in enumerate(tables):
        alone = games.nash(games.PreferenceGame(table))
        if bool(alone.unique):
            torch.testing.assert_close(together.policy[k, : len(table)], alone.policy, atol=1e-8, rtol=0)
        assert together.policy[k, len(table) :].sum() == 0


@pytest.mark.skipif(not accelerator.ACCELERATED, reason="needs numba")
def test_the_compiled_loop_gives_what_the_plain_path_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [games.PreferenceGame(0.5 + mixed.margins(seed)) for seed in range(200)]
    fast = [games.nash(game) for game in tables]
    monkeypatch.setattr(selection, "ACCELERATED", False)
    for seed, (game, compiled) in enumerate(zip(tables, fast, strict=True)):
        plain = games.nash(game)
        assert plain.gap <= 1e-12
        if bool(compiled.unique) and mixed.KINDS[seed % len(mixed.KINDS)] is not mixed.nearly_duplicated_actions:
            torch.testing.assert_close(plain.policy, compiled.policy, atol=1e-9, rtol=0)


@pytest.mark.gpu
def test_batches_on_the_gpu_equal_those_on_the_cpu() -> None:
    P = torch.from_numpy(0.5 + np.stack([mixed.uniform(np.random.default_rng(seed), 9) for seed in range(50)]))
    there = games.nash(games.PreferenceGame(P.cuda()))
    assert there.policy.is_cuda
    torch.testing.assert_close(there.policy.cpu(), games.nash(games.PreferenceGame(P)).policy, atol=1e-12, rtol=0)


TWO = {
    "normal": lambda rng, n, m: rng.normal(size=(n, m)),
    "whole numbers": lambda rng, n, m: rng.integers(-3, 4, size=(n, m)).astype(float),
    "constant": lambda rng, n, m: np.full((n, m), 2.5),
    "tiny": lambda rng, n, m: 1e-9 * rng.normal(size=(n, m)) + 1e3,
    "huge": lambda rng, n, m: 1e200 * rng.normal(size=(n, m)),
}


@pytest.mark.parametrize("kind", TWO)
@pytest.mark.parametrize("accelerated", [False, True] if accelerator.ACCELERATED else [False])
def test_a_single_game_of_two_players_in_each_way(
    kind: str, accelerated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled, by numpy, and within a batch: pairs with the promised gap, and with HiGHS's value."""
    monkeypatch.setattr("nashward.games.equilibria.nash.ACCELERATED", accelerated)
    monkeypatch.setattr("nashward.games.equilibria.two_players.pairs.ACCELERATED", accelerated)
    rng = np.random.default_rng(7)
    for n, m in ((1, 1), (1, 4), (2, 2), (3, 5), (8, 2), (12, 9), (20, 31)):
        U = TWO[kind](rng, n, m)
        game = games.ConstantSumGame(U, 0.0)
        found = games.nash(game)
        row, column = found.policy.row.numpy(), found.policy.column.numpy()
        span = np.ptp(U)
        for policy in (row, column):
            assert policy.min() >= 0
            assert policy.sum() == pytest.approx(1, abs=1e-12)
        gap = float((U @ column).max() - (row @ U).min())
        assert gap <= 1e-12 * span + 1e-15 * np.abs(U).max()
        assert float(found.gap) == pytest.approx(gap, abs=1e-13 * span + 1e-15 * np.abs(U).max())
        batch = games.nash(games.ConstantSumGame(np.stack([U, U]), 0.0))
        assert float(found.value) == pytest.approx(float(batch.value[0]), abs=1e-12 * span + 1e-15 * np.abs(U).max())
        if kind in ("normal", "whole numbers"):
            solved = linprog(
                np.r_[np.zeros(n), -1.0], A_ub=np.c_[-U.T, np.ones(m)], b_ub=np.zeros(m),
                A_eq=np.r_[np.ones(n), 0.0][None], b_eq=[1.0], bounds=[(0, None)] * n + [(None, None)],
            )  # fmt: skip
            assert float(found.value) == pytest.approx(-solved.fun, abs=1e-9)
        np.testing.assert_allclose(margins(U), symmetrised(game).P.numpy() - 0.5, rtol=0, atol=1e-15)


def test_one_action_of_each_kind_is_solved_for_and_the_others_earn_the_same() -> None:
    """Beyond the size for pivoting: 400 actions of 90 kinds, whose equilibrium is that of the 90."""
    rng = np.random.default_rng(5)
    upper = np.triu(rng.uniform(-0.5, 0.5, (90, 90)), 1)
    few = upper - upper.T
    kinds = np.r_[np.arange(90), rng.integers(0, 90, 310)]
    order = rng.permutation(400)
    A = few[np.ix_(kinds, kinds)][np.ix_(order, order)]
    A[A == 0] = rng.choice([0.0, -0.0], size=int((A == 0).sum()))
    kept = selection.one_of_each(A)
    assert len(kept) == 90
    assert (np.diff(kept) > 0).all()
    assert [int(k) for k in kept] == [int(np.flatnonzero(kinds[order] == kind)[0]) for kind in kinds[order][kept]]
    game = games.PreferenceGame(0.5 + A)
    found = games.nash(game)
    assert float(found.gap) <= 1e-12
    assert set(np.flatnonzero(found.policy.numpy())) <= set(kept.tolist())
    alone = games.nash(games.PreferenceGame(0.5 + few)).policy.numpy()
    np.testing.assert_allclose(np.bincount(kinds[order], found.policy.numpy(), 90), alone, atol=1e-10)
    assert found.unique is None or not bool(found.unique)


def test_games_of_every_kind_are_solved_through_one_action_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "PIVOTING", 3)
    merged = 0
    for seed in range(60):
        A = mixed.margins(seed)
        merged += len(A) > 3 and len(selection.one_of_each(A)) < len(A)
        x, least = selection.solve_margins(A)
        assert (A @ x).max() <= 1e-13 * max(1.0, np.abs(A).max())
        assert x.sum() == pytest.approx(1, abs=1e-12)
        assert len(selection.one_of_each(A)) == len(A) or len(A) <= 3 or np.isnan(least)
    assert merged > 5
