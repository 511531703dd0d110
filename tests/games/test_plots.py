"""Pictures show what they claim to show."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from nashward import games, theory
from nashward.errors import NashwardError


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
        lines = _named(figure)
        assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(lines)


def test_payoff_table_puts_the_most_played_first() -> None:
    game = games.zoo.mujoco_soccer()
    figure = games.plots.payoff_table(game, games.nash(game))
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][:3] == ["agent1", "agent8", "agent9"]
    batch = games.PreferenceGame(game.P.expand(2, 10, 10))
    with pytest.raises(ValueError, match="one game"):
        games.plots.payoff_table(batch, games.nash(batch))


def test_ties_up_to_rounding_keep_the_order_of_the_game_and_titles_do_not_meet() -> None:
    game = games.ConstantSumGame([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], 0.0)
    thirds = torch.tensor([1 / 3, 1 / 3, 1 / 3]).double()
    equilibrium = games.nash(game)
    equilibrium._policy = equilibrium.policy._replace(
        row=thirds + torch.tensor([0.0, 1e-16, 2e-16]).double(), column=thirds
    )
    figure = games.plots.payoff_table(game, equilibrium)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["0", "1", "2"]
    _saved(figure)
    boxes = sorted((axes.title.get_window_extent() for axes in figure.axes if axes.get_title()), key=lambda box: box.x0)
    assert len(boxes) == 3
    assert all(first.x1 < second.x0 for first, second in pairwise(boxes))


def test_payoff_table_refuses_what_is_no_equilibrium_of_the_game() -> None:
    game, two = games.zoo.comal_cycle(), games.ConstantSumGame([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]], 3.0)
    batch = games.PreferenceGame(torch.stack([game.P, game.P]))
    others: list[games.PreferenceGame | games.ConstantSumGame] = [games.zoo.generators.tournament(5, 0), two, batch]
    for other in others:
        with pytest.raises(NashwardError, match=r"\(3,\).*games.nash"):
            games.plots.payoff_table(game, games.nash(other))
    with pytest.raises(NashwardError, match=r"\(2,\), \(3,\).*games.nash"):
        games.plots.payoff_table(two, games.nash(game))
    for what in (games.nash(game).policy, games.regularised_nash(game, 0.1)):
        with pytest.raises(TypeError, match=r"games\.nash"):
            games.plots.payoff_table(game, what)  # type: ignore[arg-type]


def test_payoff_table_of_two_players_shows_both() -> None:
    game = games.ConstantSumGame([[3.0, -1.0, 5.0], [-1.0, 1.0, 9.0]], 0.0, ["up", "down"], ["l", "m", "r"])
    equilibrium = games.nash(game)
    table, row, column = games.plots.payoff_table(game, equilibrium).axes[:3]
    assert [tick.get_text() for tick in table.get_yticklabels()] == ["down", "up"]
    assert sorted(tick.get_text() for tick in table.get_xticklabels()) == ["l", "m", "r"]
    assert table.get_xticklabels()[2].get_text() == "r"  # r is never played
    assert sorted(text.get_text() for text in table.texts) == sorted(["3", "-1", "5", "-1", "1", "9"])
    assert [bar.get_width() for bar in row.patches] == pytest.approx([2 / 3, 1 / 3])  # type: ignore[attr-defined]
    assert [bar.get_width() for bar in column.patches] == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-12)  # type: ignore[attr-defined]
    (heat,) = table.images
    white = np.asarray(heat.norm(np.zeros(1)))[0]  # of a zero-sum game 0, though -1 is nearer to it than 9
    assert white == pytest.approx(0.5)


def test_of_many_actions_every_k_th_is_named_at_its_place() -> None:
    game = games.zoo.random_preferences(100)
    table, bars = games.plots.payoff_table(game, games.nash(game), order=range(100)).axes[:2]
    for axis in (table.xaxis, table.yaxis, bars.yaxis):
        named = {
            round(place): tick.get_text()
            for place, tick in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        }
        assert named == {k: str(k) for k in range(0, 100, 4)}


def _named(figure: Figure) -> list[Any]:
    """The lines that the legend names: not the pale ends of a race."""
    return [line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")]


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
    axes = figure.subplots(1, 7)
    pictures = (
        lambda axis: games.plots.gap_curves(solutions, axes=axis),
        lambda axis: games.plots.simplex(paths, axes=axis),
        lambda axis: games.plots.trajectories({"pure": np.eye(5)}, axes=axis),
        lambda axis: games.plots.cycle_graph(game, axes=axis),
        lambda axis: games.plots.race(solutions, axes=axis),
        lambda axis: games.plots.quantiles(batch, axes=axis),
        lambda axis: games.plots.stability_map([0.1, 0.2], [1.0, 2.0], np.eye(2) + 0.5, axes=axis),
    )
    for axis, picture in zip(axes, pictures, strict=True):
        assert picture(axis) is figure
        assert axis.has_data() or axis.texts
    _saved(figure)


@pytest.mark.parametrize("solver", [games.OptimisticMWU(0.5), games.GDA(0.1), games.MWU(0.5)])
def test_the_race_is_the_largest_gap_of_all_later_records(solver: Any) -> None:
    game = games.zoo.comal_cycle()
    solution = games.solve(game, solver, 4000, start=[0.665, 0.245, 0.090])
    gaps, at = solution.gaps["last"].numpy(), solution.iterations.numpy()
    sure, pale = (np.asarray(line.get_xydata()) for line in games.plots.race({"one": solution}).axes[0].lines)
    for line in (sure, pale):
        for t, largest in line:
            assert largest == pytest.approx(max(gaps[at >= t].max(), 1e-12), rel=1e-12)
    assert np.union1d(sure[:, 0], pale[:, 0]).tolist() == at.tolist()
    # the named line leaves out what only few iterations confirm
    assert sure[-1, 0] == at[at <= 3600].max() == pale[0, 0]
    if not isinstance(solver, games.OptimisticMWU):  # these circle, wherever the run ends
        assert sure[:, 1].min() > 0.9 * gaps[at > 3000].max()


def test_a_run_that_is_not_finite_at_its_first_record_is_named_beside_the_others() -> None:
    game, start = games.zoo.comal_cycle(), [0.5, 0.3, 0.2]
    runs = games.sweep(game, games.Replicator(), 20, step=[0.1, 1e6], start=start)
    assert [len(run.iterations) for run in runs.values()] == [20, 0]
    for draw in (games.plots.gap_curves, games.plots.race):
        (axes,) = draw(runs).axes
        assert any("not finite" in " ".join(label.split()) for label in axes.get_legend_handles_labels()[1])
        with pytest.raises(ValueError, match="nothing to draw"):
            draw({name: run for name, run in runs.items() if not len(run.iterations)})


def test_a_race_of_one_iteration_and_of_a_batch() -> None:
    game = games.zoo.comal_cycle()
    (line,) = _named(games.plots.race({"mwu": games.solve(game, games.MWU(0.5), 1)}))
    assert np.asarray(line.get_xdata()).tolist() == [1]
    with pytest.raises(ValueError, match="shows one game, omwu holds a batch"):
        games.plots.race({"omwu": games.solve(games.PreferenceGame(game.P.expand(2, 3, 3)), games.MWU(), 2)})


def test_a_solver_that_stays_above_one_is_drawn_in_the_race_too() -> None:
    game = games.ConstantSumGame([[30.0, -10.0], [-10.0, 10.0]], 0.0)
    start = ([0.9, 0.1], [0.9, 0.1])
    solvers: dict[str, games.Solver] = {"MWU": games.MWU(0.2), "OptimisticMWU": games.OptimisticMWU(0.01)}
    found = {name: games.solve(game, solver, 40, start) for name, solver in solvers.items()}
    assert float(found["MWU"].gaps["last"].min()) > 1
    for line in _named(games.plots.race(found)):
        assert len(np.asarray(line.get_xdata())) > 1


def test_a_solver_has_its_look_in_every_picture() -> None:
    """Alone or among others, with settings or without, in whatever order."""
    usual = ["MWU", "OptimisticMWU", "ExtraGradient", "MagneticMirrorDescent", "RegretMatchingPlus"]
    of = games.plots.looks(usual)
    assert len({look.colour for look in of.values()}) == len({look.mark for look in of.values()}) == 5
    for name in usual:
        other = f"{name}(step=0.1)"
        assert games.plots.looks([other])[other] == games.plots.looks(["mine", name])[name] == of[name]
        assert games.plots.looks(usual[::-1])[name] == of[name]
    assert games.plots.looks(["optimistic MWU"])["optimistic MWU"] == of["OptimisticMWU"]
    solution = games.solve(games.zoo.comal_cycle(), games.ExtraGradient(), 20, keep_policies=True)
    for figure in (
        games.plots.gap_curves({"ExtraGradient": solution}),
        games.plots.race({"mine": solution, "ExtraGradient": solution}),
        games.plots.simplex({"ExtraGradient": solution.policies["last"]}),
    ):
        drawn = {str(line.get_label()).partition(",")[0]: line.get_color() for line in _named(figure)}
        assert drawn["ExtraGradient"] == of["ExtraGradient"].colour


def test_every_solver_of_a_picture_looks_different() -> None:
    names = [kind.__name__ for kind in games.solvers.SOLVERS]
    found = games.plots.looks([*names, "mine", "yours"])
    assert list(found) == [*names, "mine", "yours"]
    assert len(set(found.values())) == len(names) + 2
    solutions = {name: games.solve(games.zoo.comal_cycle(), kind(), 20) for name, kind in
                 zip(names, games.solvers.SOLVERS, strict=True)}  # fmt: skip
    for figure in (games.plots.race(solutions), games.plots.gap_curves(solutions, which=["average"])):
        assert [line.get_label() for line in _named(figure)] == names
        looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in _named(figure)]
        assert len(set(looks)) == len(names)


def test_many_steps_of_a_solver_are_shades_of_one_scale() -> None:
    names = [f"MWU(step={step})" for step in (0.1, 0.2, 0.5, 1.0, 2.0)]
    found = games.plots.looks([*names, "ExtraGradient(step=1)"])
    light = [sum(int(found[name].colour[k : k + 2], 16) for k in (1, 3, 5)) for name in names]
    assert light == sorted(light)
    assert len(set(light)) == 5
    assert len({look.mark for look in found.values()}) == 6
    assert found["ExtraGradient(step=1)"] == games.plots.looks(["ExtraGradient"])["ExtraGradient"]


def test_gap_curves_of_one_iterate_have_plain_names() -> None:
    solutions = _solutions(games.zoo.comal_cycle())
    lines = games.plots.gap_curves(solutions, which=["last"]).axes[0].lines
    assert [line.get_label() for line in lines] == list(solutions)
    with pytest.raises(ValueError, match="eg has no gaps of 'linear'; it has last, average"):
        games.plots.gap_curves(solutions, which=["linear"])


def test_table_and_graph_stand_in_the_order_that_is_given() -> None:
    game = games.zoo.comal_cycle()
    table = games.plots.payoff_table(game, games.nash(game), order=[2, 0, 1]).axes[0]
    assert [tick.get_text() for tick in table.get_yticklabels()] == ["c", "a", "b"]
    assert [tick.get_text() for tick in table.get_xticklabels()] == ["c", "a", "b"]
    assert [text.get_text() for text in table.texts] == [f"{p:.2f}" for p in game.P[[2, 0, 1]][:, [2, 0, 1]].flatten()]
    graph = games.plots.cycle_graph(game, order=[0, 1, 2]).axes[0]
    place = {text.get_text(): text.get_position() for text in graph.texts if text.get_text()}
    assert place["a"] == pytest.approx((0, 1))
    assert place["b"][0] > 0 > place["c"][0]  # clockwise
    for picture in (
        lambda o: games.plots.payoff_table(game, games.nash(game), order=o),
        lambda o: games.plots.cycle_graph(game, order=o),
    ):
        with pytest.raises(ValueError, match=r"actions 0 to 2 once, got \[0, 0, 1\]"):
            picture([0, 0, 1])
    two = games.ConstantSumGame([[1.0, 0.0], [0.0, 1.0]], 1.0)
    with pytest.raises(ValueError, match="preference game"):
        games.plots.payoff_table(two, games.nash(two), order=[0, 1])


def test_quantiles_shade_the_middle_of_a_batch() -> None:
    game = games.PreferenceGame(torch.stack([games.zoo.random_preferences(5, seed).P for seed in range(9)]))
    solutions = _solutions(game, 50)
    axes = games.plots.quantiles(solutions).axes[0]
    median = solutions["eg"].gaps["last"].quantile(0.5, dim=1).clamp_min(games.plots.FLOOR)
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata()), median.numpy())
    assert len(axes.collections) == 4
    assert [line.get_label() for line in axes.lines] == ["eg", "omwu"]
    assert "nine tenths" in axes.get_ylabel()  # the label names what is shaded
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
    legend = axes.get_legend()
    assert legend is not None
    assert [line.get_linestyle() for line in legend.get_lines()] == ["-", "--"]
    assert "win rate" in legend.get_title().get_text()
    assert games.plots.cycle_graph(games.zoo.bradley_terry()).axes[0].get_legend() is None
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


ODD = {  # a name, and how it is drawn
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
    in_full = {**ODD, "x" * 500: "\n".join(["x" * 40, "x" * 39 + "\u2026", "x" * 40, "x" * 39])}  # as a legend shows it
    for found, expected in zip(texts, (ODD, ODD, in_full), strict=True):
        assert sorted(text.replace(r"\$", "$") for text in found if text) == sorted(expected.values())
    assert len(_legend(figures[4])) == 2 * len(ODD) + 1
    assert [text.get_text() for text in _legend(three)] == [" _hidden"]


def test_long_names_that_differ_at_the_end_differ_in_the_legend() -> None:
    solution = games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 20, keep_policies=True)
    names = [f"PulledOptimism(step=2.0, tau=0.{tau}, reference=uniform, every=10)" for tau in ("01", "05")]
    found = dict.fromkeys(names, solution)
    figures = [
        games.plots.gap_curves(found), games.plots.race(found),
        games.plots.trajectories(dict.fromkeys(names, solution.policies["last"])),
    ]  # fmt: skip
    for figure in figures:
        shown = " ".join(text.get_text().replace("\n", " ") for text in _legend(figure))
        assert all(name in shown for name in names)
    long = "y" * 200
    ends = {
        text.get_text()[-5:] for text in _legend(games.plots.race({f"{long}tau=1": solution, f"{long}tau=2": solution}))
    }
    assert ends == {"tau=1", "tau=2"}


def test_what_no_curve_can_show_is_refused_by_name() -> None:
    solution = games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 20)
    duels = games.feedback.DuelingFeedback()
    noisy = games.sweep(games.zoo.comal_cycle(), games.MWU(), 20, step=[0.1], seeds=range(3), feedback=duels)
    for draw, found in ((games.plots.quantiles, noisy), (games.plots.race, {"MWU": solution})):
        with pytest.raises(ValueError, match=r"no gaps of 'avg'; it has last, average"):
            draw(found, "avg")
    bound: Any = 0.3
    with pytest.raises(TypeError, match="expected bounds by name"):
        games.plots.gap_curves({"MWU": solution}, bound)
    with pytest.raises(TypeError, match=r"bound 'b' is 0\.3"):
        games.plots.gap_curves({"a": solution}, {"b": bound})


def test_one_iterate_is_given_alone_and_nothing_is_not_drawn() -> None:
    found = {"a": games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 3)}
    assert len(games.plots.gap_curves(found, which="last").axes[0].lines) == 1
    for draw in (games.plots.gap_curves, games.plots.race, games.plots.quantiles):
        with pytest.raises(ValueError, match="no solution to draw"):
            draw({})
    game: Any = games.ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], 0.0)
    with pytest.raises(TypeError, match="PreferenceGame, got ConstantSumGame"):
        games.plots.cycle_graph(game)


def test_no_legend_lies_on_the_name_of_an_action() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    game = games.zoo.mujoco_soccer()
    solution = games.solve(game, games.MagnetReset(), 1000, keep_policies=True, record=range(1, 1001))
    name = "MagnetReset(step=0.4, tau=0.1, every=50)"
    figure = games.plots.trajectories({name: solution}, games.nash(game), game.labels)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    legend = axes.get_legend().get_window_extent()  # type: ignore[union-attr]
    assert len(axes.texts) > 3
    assert not any(legend.overlaps(text.get_window_extent()) for text in axes.texts if text.get_text())


def test_the_gap_above_the_bars_is_rounding_or_a_number() -> None:
    game = games.zoo.comal_cycle()
    assert games.plots.payoff_table(game, games.nash(game)).axes[1].get_title() == "Nash\ngap below 1e-12"
    twins = games.zoo.cloned_rock()
    assert "one of several" in games.plots.payoff_table(twins, games.nash(twins)).axes[1].get_title()


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


def test_a_bound_may_be_a_constant() -> None:
    solution = games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 50)
    figure = games.plots.gap_curves({"run": solution}, {"bound": lambda t: 0.1})
    drawn = next(line for line in figure.axes[0].lines if line.get_label() == "bound")
    assert np.unique(drawn.get_ydata()).tolist() == [0.1]


def test_all_solvers_of_a_picture_differ_in_colour_or_mark() -> None:
    """Of eight the last had the colour and the mark of another one, in another style of line alone."""
    names = [kind.__name__ for kind in games.solvers.SOLVERS]
    for some in (names, [*names[:6], "RegretMatchingPlus", "OptimisticGDA"], [*names, "my own", "MWU(step=0.1)"]):
        look = games.plots.looks(some)
        assert len({(one.colour, one.mark) for one in look.values()}) == len(some)


def test_that_a_gap_of_0_is_drawn_at_the_floor_is_said() -> None:
    for start, zero in ((None, True), ([0.6, 0.3, 0.1], False)):
        solution = games.solve(games.zoo.rock_paper_scissors(), games.MWU(0.1), 50, start=start)
        for figure, floor in (
            (games.plots.gap_curves({"MWU": solution}), "1e-16"), (games.plots.race({"MWU": solution}), "1e-12")
        ):  # fmt: skip
            assert (floor in figure.axes[0].get_ylabel()) == zero
