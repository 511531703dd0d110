"""Pictures hold what they say they hold."""

from __future__ import annotations

import io

import numpy as np
import pytest

from nashward import games, theory


def test_gap_curves_draw_each_solver_and_the_bound() -> None:
    game = games.zoo.comal_cycle()
    solution = games.solve(game, games.MWU(0.1), iterations=300)
    theorem = theory.MWUAverage(0.1, np.log(3))
    figure = games.plots.gap_curves({"MWU": solution}, {"bound": theorem.bound}, title="comal")
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["MWU, last", "MWU, average", "bound"]
    np.testing.assert_allclose(np.asarray(lines["MWU, average"].get_ydata()), solution.gaps["average"].clamp_min(1e-16))
    assert axes.get_yscale() == "log"
    figure.savefig(io.BytesIO(), format="png")


def test_simplex_corners_are_pure_policies() -> None:
    figure = games.plots.simplex({"corners": np.eye(3)}, equilibrium=[1 / 3, 1 / 3, 1 / 3])
    path = figure.axes[0].lines[0].get_xydata()
    np.testing.assert_allclose(np.linalg.norm(np.diff(path, axis=0), axis=1), 1.0)
    with pytest.raises(ValueError, match=r"\[records, 3\]"):
        games.plots.simplex({"wrong": np.eye(4)})


def test_payoff_table_puts_the_most_played_first() -> None:
    game = games.zoo.mujoco_soccer()
    figure = games.plots.payoff_table(game, games.nash(game))
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][:3] == ["agent1", "agent8", "agent9"]
    batch = games.PreferenceGame(game.P.expand(2, 10, 10))
    with pytest.raises(ValueError, match="one game"):
        games.plots.payoff_table(batch, games.nash(batch))
