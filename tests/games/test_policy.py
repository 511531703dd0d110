"""Blend arithmetic and the Step's own checks."""

from __future__ import annotations

import pytest
import torch

from nashward import games
from nashward.games import Policy, Step


def test_arithmetic_merges_members_and_drops_nothing_that_counts() -> None:
    x, y = Policy(1, "x"), Policy(2, "y")
    assert (2 * x - y + x / 2).members() == {x: 2.5, y: -1.0}
    assert (x - x + y).members() == {y: 1.0}
    assert repr(2 * x - y) == "2 x - 1 y"


def test_equal_values_are_not_equal_policies() -> None:
    assert len((Policy(1) + Policy(1)).members()) == 2


def test_a_growing_history_stays_finite() -> None:
    history: games.policy.Blend | Policy = Policy(0)
    for t in range(2000):
        history = 0.9 * history + 0.1 * Policy(t)
    assert len(history.members()) < 250
    assert sum(Step(history).anchor.members().values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x: Step(2 * x, x, 1.0), "weights of a Step's anchor must sum to 1, got 2"),
        (lambda x: Step(x, 0.5 * x, 1.0), "opponent must sum to 1"),
        (lambda x: Step(x, x, 0.0), "size 0.0 and opponent"),
        (lambda x: Step(x, None, 1.0), "no opponent"),
        (lambda x: Step(x, x, float("nan")), "must be a finite number"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Policy(0, "x"))  # type: ignore[operator]


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(TypeError, match="anchor must be a policy"):
        Step(torch.ones(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Policy(0) + 1  # type: ignore[operator]


def test_counts_defaults_to_the_opponent_and_none_means_none() -> None:
    x, y = Policy(0, "x"), Policy(1, "y")
    assert Step(x, y, 1.0).averaged.members() == {y: 1.0}  # type: ignore[union-attr]
    assert Step(x, y, 1.0, averaged=None).averaged is None


def test_a_solver_without_play_is_refused() -> None:
    for kind in (games.MWU, games.RegretMatching):
        with pytest.raises(TypeError, match=rf"{kind.__name__}\(\) in place of {kind.__name__}"):
            games.solve(games.zoo.rock_paper_scissors(), kind)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="play\\(x, reference\\)"):
        games.solve(games.zoo.rock_paper_scissors(), "MWU")  # type: ignore[arg-type]
