"""Solvers against fixed opponents: the same as the solver alone on the game that also counts the margin over them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from nashward import games
from nashward.games import Policy, Step
from nashward.games.compiled.accelerator import ACCELERATED
from nashward.games.opponents import opponent

GAME = games.zoo.random_preferences(5, seed=4)
RIVALS = {"one": torch.tensor([0.1, 0.5, 0.2, 0.1, 0.1], dtype=torch.float64), "two": torch.eye(5).double()[3]}
SHARES = {"one": 0.25, "two": 0.15}


def _with_the_margin(game: games.PreferenceGame, shares: dict[str, float]) -> games.ConstantSumGame:
    """(1 - c) A + sum_k c_k (P q_k) 1' - 1 (P q_k)', a symmetric game."""
    margin = sum((share * game.win_rate(RIVALS[name]) for name, share in shares.items()), torch.zeros(5).double())
    payoff = (1 - sum(shares.values())) * (game.P - 0.5) + margin[:, None] - margin[None, :]
    return games.ConstantSumGame(payoff, total=0.0)


@pytest.mark.parametrize(
    "solver",
    [games.MWU(0.5), games.OptimisticMWU(0.8), games.ExtraGradient(0.7, 0.1), games.NashMD(0.3, 0.2)],
    ids=repr,
)
def test_it_is_the_solver_on_the_game_that_counts_the_margin(solver: Any) -> None:
    start = torch.tensor([0.3, 0.1, 0.2, 0.25, 0.15], dtype=torch.float64)
    found = games.solve(GAME, games.FixedOpponents(solver, SHARES), 40, start=start, opponents=RIVALS)
    with_the_margin = _with_the_margin(GAME, SHARES)
    expected = games.solve(with_the_margin, solver, 40, start=(start, start))
    assert games.total_variation(found.last, expected.last.row) < 1e-12
    assert games.total_variation(found.average, expected.average.row) < 1e-12  # what it played itself
    assert games.total_variation(found.last, games.solve(GAME, solver, 40, start=start).last) > 0.05


def test_the_whole_opponent_makes_a_best_response() -> None:
    solver = games.FixedOpponents(games.MWU(1.0), {"one": 1.0})
    solution = games.solve(GAME, solver, 500, opponents=RIVALS)
    assert solution.last.argmax() == GAME.win_rate(RIVALS["one"]).argmax()
    assert solution.last.max() > 0.999


def test_members_of_batches_and_of_games_of_two_players() -> None:
    solver = games.FixedOpponents(games.MWU(0.5), {"rival": 0.5})
    batch = games.PreferenceGame(torch.stack([GAME.P, 1 - GAME.P]))
    found = games.solve(batch, solver, 20, opponents={"rival": RIVALS["one"]}).last
    for k, P in enumerate(batch.P):
        alone = games.solve(games.PreferenceGame(P), solver, 20, opponents={"rival": RIVALS["one"]}).last
        assert games.total_variation(found[k], alone) < 1e-12
    wide = games.ConstantSumGame(GAME.P[:2])
    one = games.solve(wide, solver, 1, opponents={"rival": ([0.5, 0.5], RIVALS["two"])}).last
    uniform = torch.full((5,), 0.2, dtype=torch.float64)
    gain = 0.5 * wide.payoff @ (0.5 * uniform + 0.5 * RIVALS["two"])
    assert games.total_variation(one.row, gain.softmax(-1)) < 1e-12


@pytest.mark.parametrize(
    ("shares", "opponents", "line"),
    [
        (
            {"three": 0.5},
            RIVALS,
            "'three', which is not among the opponents: 'one', 'two'",
        ),
        ({"three": 0.5}, None, "'three', which is not among the opponents: none"),
        ({"one": 0.5}, {"one": [0.5, 0.6, 0, 0, 0]}, "the policy must hold probabilities that sum to 1"),
        ({}, {}, "together at most 1, got {}"),
        (
            {"one": 0.0},
            RIVALS,
            "together at most 1, got {'one': 0.0}",
        ),
        ({"one": 0.6, "two": 0.5}, RIVALS, "together at most 1, got {'one': 0.6, 'two': 0.5}"),
    ],
)
def test_what_is_refused(shares: dict[str, float], opponents: Any, line: str) -> None:
    with pytest.raises(ValueError, match=f"^[^\n]*{re.escape(line)}[^\n]*$"):
        games.solve(GAME, games.FixedOpponents(games.MWU(0.5), shares), 5, opponents=opponents)


def test_solvers_of_tables_only_are_refused() -> None:
    with pytest.raises(ValueError, match=r"RegretMatching makes no mirror steps"):
        games.FixedOpponents(games.RegretMatching(), {"one": 0.5})  # type: ignore[arg-type]


@pytest.mark.skipif(not ACCELERATED, reason="needs numba")
def test_a_traced_run_says_that_it_cannot() -> None:
    with pytest.raises(ValueError, match="fixed opponents"):
        games.solve(GAME, games.FixedOpponents(games.MWU(0.5), {"one": 0.5}), 5, traced=True)


def test_the_executor_puts_its_own_handles_in_place() -> None:
    x, rival = Policy(None, "x"), Policy(None, "rival")
    step = Step(anchor=x, opponent=0.5 * x + 0.5 * opponent("rival"), size=0.3)
    found = games.opponents.resolve(step, {"rival": rival})
    assert found.opponent is not None
    assert found.opponent.members() == {x: 0.5, rival: 0.5}
    assert (found.size, found.anchor.members()) == (0.3, {x: 1.0})
    plain = Step(anchor=x, opponent=x, size=0.3)
    assert games.opponents.resolve(plain, {}) is plain
