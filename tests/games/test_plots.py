"""Pictures hold what they say they hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Annotation

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


def test_lines_are_told_apart_without_colour() -> None:
    found = _solutions(games.zoo.comal_cycle()) | {
        str(step): games.solve(games.zoo.comal_cycle(), games.MWU(step), 20) for step in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    }
    for figure in (games.plots.gap_curves(dict(list(found.items())[:7])), games.plots.race(found)):
        lines = figure.axes[0].lines
        assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(lines)


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


def test_payoff_table_of_two_players_shows_both() -> None:
    game = games.ConstantSumGame([[3.0, -1.0, 5.0], [-1.0, 1.0, 9.0]], 0.0, ["up", "down"], ["l", "m", "r"])
    equilibrium = games.nash(game)
    table, row, column = games.plots.payoff_table(game, equilibrium).axes[:3]
    assert [tick.get_text() for tick in table.get_yticklabels()] == ["down", "up"]
    assert sorted(tick.get_text() for tick in table.get_xticklabels()) == ["l", "m", "r"]
    assert table.get_xticklabels()[2].get_text() == "r"  # which is never played
    assert sorted(text.get_text() for text in table.texts) == sorted(["3", "-1", "5", "-1", "1", "9"])
    assert [bar.get_width() for bar in row.patches] == pytest.approx([2 / 3, 1 / 3])  # type: ignore[attr-defined]
    assert [bar.get_width() for bar in column.patches] == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-12)  # type: ignore[attr-defined]


def _solutions(game: games.PreferenceGame, T: int = 200) -> dict[str, games.Solution]:
    solvers: dict[str, games.Solver] = {"eg": games.ExtraGradient(2.0), "omwu": games.OptimisticMWU(0.5)}
    return {name: games.solve(game, s, T, keep_policies=True) for name, s in solvers.items()}


def _saved(figure: Figure) -> None:
    figure.savefig(io.BytesIO(), format="png")


def test_every_picture_draws_on_the_axes_that_it_is_given() -> None:
    game = games.zoo.comal_cycle()
    solutions = _solutions(game)
    batch = _solutions(games.PreferenceGame(torch.stack([game.P, games.zoo.biased_rock_paper_scissors().P])))
    paths = {name: s.policies["last"] for name, s in solutions.items()}
    figure = Figure()
    axes = figure.subplots(1, 6)
    pictures = (
        lambda axis: games.plots.gap_curves(solutions, axes=axis),
        lambda axis: games.plots.simplex(paths, axes=axis),
        lambda axis: games.plots.cycle_graph(game, axes=axis),
        lambda axis: games.plots.race(solutions, axes=axis),
        lambda axis: games.plots.quantiles(batch, axes=axis),
        lambda axis: games.plots.stability_map([0.1, 0.2], [1.0, 2.0], np.eye(2) + 0.5, axes=axis),
    )
    for axis, picture in zip(axes, pictures, strict=True):
        assert picture(axis) is figure
        assert axis.has_data() or axis.texts
    _saved(figure)


def test_the_race_ends_where_the_gap_last_was_above_the_level() -> None:
    game = games.zoo.comal_cycle()
    solution = games.solve(game, games.OptimisticMWU(0.5), 4000, start=[0.665, 0.245, 0.090])
    line = games.plots.race({"omwu": solution}).axes[0].lines[0]
    T, level = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    gaps, at = solution.gaps["last"].numpy(), solution.iterations.numpy()
    for t, low in list(zip(T, level, strict=True))[:-1:9]:
        assert (gaps[at >= t] <= low).all()
        assert t == at[0] or gaps[at < t][-1] > low
    assert (T[-1], level[-1]) == (4000, level[-2])
    stuck = games.plots.race({"mwu": games.solve(game, games.MWU(0.5), 1000)}).axes[0].lines[0]
    assert np.asarray(stuck.get_xdata()).tolist() == [1, 1, 1000]  # seen, although it never gets far
    with pytest.raises(ValueError, match="of one game, omwu holds a batch"):
        games.plots.race({"omwu": games.solve(games.PreferenceGame(game.P.expand(2, 3, 3)), games.MWU(), 2)})


def test_quantiles_shade_the_middle_of_a_batch() -> None:
    game = games.PreferenceGame(torch.stack([games.zoo.random_preferences(5, seed).P for seed in range(9)]))
    solutions = _solutions(game, 50)
    axes = games.plots.quantiles(solutions).axes[0]
    median = solutions["eg"].gaps["last"].quantile(0.5, dim=1).clamp_min(games.plots.FLOOR)
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata()), median.numpy())
    assert len(axes.collections) == 4
    assert [line.get_label() for line in axes.lines] == ["eg", "omwu"]
    with pytest.raises(ValueError, match="one holds a single game"):
        games.plots.quantiles({"one": _solutions(games.zoo.comal_cycle())["eg"]})


def test_the_cycle_graph_points_from_winner_to_loser_and_marks_upsets() -> None:
    axes = games.plots.cycle_graph(games.zoo.comal_cycle()).axes[0]  # c, b, a by rank; a beats c
    place = {text.get_text(): text.get_position() for text in axes.texts if text.get_text()}
    at = {position: name for name, position in place.items()}
    drawn = [(text, text.arrow_patch) for text in axes.texts if isinstance(text, Annotation)]
    arrows = {(at[text.xyann], at[text.xy]): arrow.get_linestyle() for text, arrow in drawn if arrow is not None}
    assert arrows == {("b", "a"): "-", ("c", "b"): "-", ("a", "c"): "--"}
    assert place["c"][1] == pytest.approx(1.0)
    tied = games.plots.cycle_graph(games.zoo.indifference()).axes[0]
    assert not [a for a in tied.texts if isinstance(a, Annotation)]


def test_the_stability_map_holds_the_factors_and_the_threshold() -> None:
    lam, steps = [0.1, 0.2, 0.3], [1.0, 2.0, 4.0, 8.0]
    factors = [[theory.local_factor(games.ExtraGradient(s), x, 20) for x in lam] for s in steps]
    theorem = theory.LocalThreshold.extragradient()
    axes = games.plots.stability_map(lam, steps, factors, theorem.value).axes[0]
    shown = np.asarray(axes.collections[0].get_array()).reshape(4, 3)
    below = np.array(steps)[:, None] < [theorem.value(x) for x in lam]
    np.testing.assert_array_equal(shown < 0, below)
    curve = next(line for line in axes.lines if line.get_label() == "exact threshold")
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), 1 / np.asarray(curve.get_xdata()))
    assert axes.get_ylim() == (1.0, 8.0)
    with pytest.raises(ValueError, match=r"\[4, 3\].* got \(3, 4\)"):
        games.plots.stability_map(lam, steps, np.ones((3, 4)))


ODD = {  # what is drawn of what
    "a\x1b[31mred": "a?[31mred",
    "_hidden": " _hidden",
    r"$\frac$": r"$\frac$",
    "costs $5 or $6": "costs $5 or $6",
    "two\nlines\tand tabs": "two lines and tabs",
    "x" * 500: "x" * 31 + "\u2026",
    "nul\x00\x85": "nul?",
    "e^{x_1}": "e^{x_1}",
}


def _legend(figure: Figure) -> list[Any]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return list(legend.get_texts())


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_labels_are_drawn_as_they_are_in_one_line(kind: str) -> None:
    """Control characters, dollar signs, long names: no error, no warning (they are errors here) and no formula."""
    game = games.PreferenceGame(games.zoo.random_preferences(8, seed=1).P, labels=list(ODD))
    other = games.ConstantSumGame(game.P[:, :3], 1.0, list(ODD), list(ODD)[:3])
    solutions = {name: games.solve(game, games.MWU(0.1), 20) for name in ODD}
    three = games.plots.simplex({"_hidden": np.eye(3)}, labels=tuple(ODD)[2:5])
    figures = [
        games.plots.payoff_table(game, games.nash(game)),
        games.plots.payoff_table(other, games.nash(other)),
        games.plots.cycle_graph(game),
        games.plots.race(solutions),
        games.plots.gap_curves(solutions, {"_hidden": lambda t: 1 / t}),
        three,
    ]
    for figure in figures:
        assert games.plots.save(figure, io.BytesIO(), format=kind) == []
    texts: list[list[str]] = [
        [tick.get_text() for tick in figures[0].axes[0].get_yticklabels()],
        [text.get_text() for text in figures[2].axes[0].texts],
        [text.get_text() for text in _legend(figures[3])],
    ]
    for found in texts:
        assert sorted(text.replace(r"\$", "$") for text in found if text) == sorted(ODD.values())
    assert len(_legend(figures[4])) == 2 * len(ODD) + 1
    assert [text.get_text() for text in _legend(three)] == [" _hidden"]


def test_signs_that_the_font_lacks_are_named_once() -> None:
    game = games.PreferenceGame(games.zoo.rock_paper_scissors().P, labels=["\u4f60", "\u597d\u4f60", "c"])
    figure = games.plots.payoff_table(game, games.nash(game))
    assert games.plots.save(figure, io.BytesIO()) == ["CJK UNIFIED IDEOGRAPH-4F60", "CJK UNIFIED IDEOGRAPH-597D"]


def test_another_warning_of_a_picture_is_kept() -> None:
    figure = Figure(figsize=(1, 1), layout="constrained")
    figure.subplots(1, 40)
    with pytest.warns(UserWarning, match="constrained_layout not applied"):
        games.plots.save(figure, io.BytesIO())


def test_a_game_without_a_table_is_refused() -> None:
    game: Any = games.LowRankGame(np.eye(2), np.zeros((2, 2)))
    with pytest.raises(TypeError, match="table of payoffs, got LowRankGame"):
        games.plots.payoff_table(game, games.nash(game))
