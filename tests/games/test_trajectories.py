"""Paths of policies, on the simplex and in a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.text import Annotation

from nashward import games


def test_simplex_corners_are_pure_policies() -> None:
    figure = games.plots.simplex({"corners": np.eye(3)}, equilibrium=[1 / 3, 1 / 3, 1 / 3])
    path = figure.axes[0].lines[0].get_xydata()
    np.testing.assert_allclose(np.linalg.norm(np.diff(path, axis=0), axis=1), 1.0)
    with pytest.raises(ValueError, match=r"\[records, 3\]"):
        games.plots.simplex({"wrong": np.eye(4)})


def _principal(paths: dict[str, Any], **options: Any) -> tuple[Any, dict[str, np.ndarray]]:
    axes = games.plots.trajectories(paths, **options).axes[0]
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}
    return axes, lines


def test_trajectories_of_many_actions_keep_their_distances_in_a_plane_that_holds_them() -> None:
    """Points of a plane in ten dimensions: the picture is that plane, undistorted, with the Nash at 0."""
    rng = np.random.default_rng(3)
    nash = rng.dirichlet(np.ones(10))
    basis = rng.normal(size=(2, 10)) * 1e-3
    basis -= basis.mean(1, keepdims=True)
    flat = rng.normal(size=(2, 30, 2)) * [3.0, 1.0]
    paths = {name: nash + one @ basis for name, one in zip("ab", flat, strict=True)}
    axes, lines = _principal(paths, equilibrium=nash)
    for name, path in paths.items():
        drawn = lines[name]
        np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(path - nash, axis=1), rtol=1e-9)
        np.testing.assert_allclose(
            np.linalg.norm(drawn[:, None] - drawn, axis=-1), np.linalg.norm(path[:, None] - path, axis=-1), atol=1e-12
        )
    assert lines["Nash"].tolist() == [[0.0, 0.0]]
    shares = [int(label[label.index("(") + 1 : label.index("%")]) for label in (axes.get_xlabel(), axes.get_ylabel())]
    assert shares[0] >= shares[1] > 0
    assert 99 <= sum(shares) <= 101
    again = _principal({name: path.copy() for name, path in paths.items()}, equilibrium=nash)[1]
    np.testing.assert_array_equal(again["a"], lines["a"])


def test_the_arrows_are_those_of_the_actions_that_move() -> None:
    path = np.full((20, 6), 0.1)
    path[:, 2], path[:, 4] = np.linspace(0.1, 0.5, 20), np.linspace(0.5, 0.1, 20)
    axes, lines = _principal({"mwu": path}, labels=list("uvwxyz"))
    shown = [text for text in axes.texts if text.get_text()]
    assert {text.get_text() for text in shown[:2]} == {"w", "y"}
    place = {text.get_text(): text.xy for text in shown if isinstance(text, Annotation)}
    assert place["w"][0] * place["y"][0] < 0
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert all(left < x < right and low < y < high for x, y in place.values())
    moved = lines["mwu"][-1] - lines["mwu"][0]
    assert moved[0] * place["w"][0] > 0  # towards the action that gained
    assert abs(moved[1]) < 1e-12
    assert any("action" in label for label in lines)  # of the arrows, in the legend


def test_no_line_strikes_the_name_of_an_arrow_through() -> None:
    """A name stands beyond its arrow's tip, on white above all lines."""
    t = np.linspace(0, 20, 400)
    path = np.full((400, 4), 0.25)
    for action, wave in enumerate((np.cos(t), np.sin(t), -np.cos(t) - np.sin(t))):
        path[:, action] += 0.01 * t * wave / 2
    axes, _ = _principal({"mwu": path}, labels=["a long name", "b", "c", "d"])
    figure = axes.get_figure()
    figure.canvas.draw()
    named = [text for text in axes.texts if text.get_text() and isinstance(text, Annotation)]
    assert len(named) == 3
    for text in named:
        patch = text.get_bbox_patch()
        assert patch is not None
        assert tuple(patch.get_facecolor()) == (1, 1, 1, 1)
        assert text.get_zorder() > max(line.get_zorder() for line in axes.lines)
        box, tip = text.get_window_extent(), axes.transData.transform(text.xy)
        assert not (box.x0 < tip[0] < box.x1 and box.y0 < tip[1] < box.y1)


def test_two_chosen_actions_are_the_axes() -> None:
    solution = games.solve(games.zoo.mujoco_soccer(), games.MWU(0.5), 50, keep_policies=True)
    nash, path = games.nash(games.zoo.mujoco_soccer()).policy, solution.policies["last"]
    labels = games.zoo.mujoco_soccer().labels
    axes, lines = _principal({"MWU": path}, equilibrium=nash, labels=labels, actions=[8, 1])
    np.testing.assert_array_equal(lines["MWU"], path[:, [8, 1]])
    np.testing.assert_array_equal(lines["Nash"], nash[None, [8, 1]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == (f"P({labels[8]})", f"P({labels[1]})")


def test_three_actions_are_on_the_simplex_and_what_has_no_plane_is_refused() -> None:
    start = [0.6, 0.3, 0.1]
    solution = games.solve(games.zoo.comal_cycle(), games.MWU(0.5), 50, start, keep_policies=True)
    path = {"MWU": solution.policies["last"]}
    drawn = _principal(path)[1]["MWU"]
    expected = np.asarray(games.plots.simplex(path).axes[0].lines[0].get_xydata())
    np.testing.assert_array_equal(drawn, expected)
    still = _principal({"still": np.full((3, 5), 0.2)})[1]["still"]
    np.testing.assert_allclose(still, 0, atol=1e-15)
    for wrong, says in (
        ({}, r"got \[\]"),
        ({"a": np.eye(4), "b": np.eye(5)}, r"got \[4, 5\]"),
        ({"a": np.eye(2)}, r"at least 3; got \[2\]"),
        ({"a": np.zeros((2, 2, 4))}, r"\[records, n\], a has \(2, 2, 4\)"),
    ):
        with pytest.raises(ValueError, match=says):
            games.plots.trajectories(wrong)
    for picture in (games.plots.simplex, games.plots.trajectories):
        with pytest.raises(TypeError, match="by name"):
            picture(solution.policies["last"])
        with pytest.raises(ValueError, match=r"MWU has \(3,\); .*keep_policies"):
            picture({"MWU": solution.last})
    for actions in ([0], [0, 0], [0, 4], [-1, 2], [0, 1, 2]):
        with pytest.raises(ValueError, match="two of the actions 0 to 3 make a plane"):
            games.plots.trajectories({"a": np.eye(4)}, actions=actions)


@pytest.mark.parametrize("picture", [games.plots.simplex, games.plots.trajectories])
def test_solutions_and_equilibria_are_drawn_as_their_arrays_are(picture: Any) -> None:
    game = games.zoo.comal_cycle()
    solution = games.solve(game, games.MWU(0.5), 50, [0.6, 0.3, 0.1], keep_policies=True)
    exact = games.nash(game)
    drawn, expected = (
        [line.get_xydata() for line in picture({"MWU": path}, star).axes[0].lines]
        for path, star in ((solution, exact), (solution.policies["last"], exact.policy))
    )
    for line, wanted in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(line, wanted)
    picture({"INPO": solution}, games.regularised_nash(game, 0.1))
    pay = games.ConstantSumGame(np.arange(12).reshape(3, 4) % 5, total=0.0)
    two = games.solve(pay, games.MWU(0.1), 5, keep_policies=True)
    for paths, options, says in (
        ({"MWU": games.solve(game, games.MWU(0.5), 5)}, {}, "MWU has kept no policies.*keep_policies=True"),
        ({"MWU": two}, {}, "MWU has two, of an n x m game"),
        ({"MWU": two.policies["last"]}, {}, "MWU has two, of an n x m game"),
        ({"MWU": solution}, {"equilibrium": games.nash(pay)}, "the equilibrium has two"),
        ({"MWU": solution}, {"equilibrium": [0.5, 0.5]}, r"equilibrium .* shape \[3\], got \(2,\)"),
        ({"MWU": solution}, {"labels": ("a", "b")}, "3 actions, got 2 labels: a, b"),
    ):
        with pytest.raises(ValueError, match=says):
            picture(paths, **options)
    picture({"row": two.policies["last"].row}, games.nash(pay).policy.row)


@pytest.mark.parametrize("actions", [None, [2, 0]])
@pytest.mark.parametrize("game", [games.zoo.comal_cycle(), games.zoo.mujoco_soccer()], ids=["three", "ten"])
def test_all_paths_go_from_the_start_that_is_marked(game: games.PreferenceGame, actions: Any) -> None:
    n = game.sizes[0]
    start = np.arange(1, n + 1) / (n * (n + 1) / 2)
    paths = {}
    for solver in (games.MWU(0.5), games.GDA(0.3)):
        solution = games.solve(game, solver, 30, start, keep_policies=True)
        paths[type(solver).__name__] = solution.policies["last"]
    _, lines = _principal(paths, start=start, actions=actions)
    (mark,) = lines["start"]
    for name in paths:
        assert len(lines[name]) == 31
        np.testing.assert_allclose(lines[name][0], mark, atol=1e-12)
    if actions is not None:
        np.testing.assert_allclose(mark, start[actions])
    assert "start" not in _principal(paths, actions=actions)[1]
    with pytest.raises(ValueError, match=rf"shape \[{n}\]"):
        games.plots.trajectories(paths, actions=actions, start=start[1:])


def test_of_several_equilibria_the_one_nearest_to_a_run_is_drawn() -> None:
    """Optimistic MWU goes to an equilibrium that is no vertex; the first one found is far from it."""
    game = games.zoo.two_rings()
    start = np.array([0.3, 0.1, 0.1, 0.2, 0.2, 0.1])
    solution = games.solve(game, games.OptimisticMWU(0.5), 3000, start, keep_policies=True)
    assert float(solution.gaps["last"][-1]) < 1e-3
    figure = games.plots.trajectories({"run": solution}, games.face(game), actions=[0, 1])
    (star,) = [line for line in figure.axes[0].lines if "several" in str(line.get_label())]
    np.testing.assert_allclose(np.asarray(star.get_xydata())[0], solution.last[:2], atol=1e-3)
    vertex = games.nash(game)
    assert float((vertex.policy[:2] - solution.last[:2]).abs().max()) > 0.05
    figure = games.plots.trajectories({"run": solution}, vertex)
    assert [str(line.get_label()) for line in figure.axes[0].lines if "several" in str(line.get_label())]


def test_the_nearest_equilibrium_is_that_of_a_quadratic_program() -> None:
    from scipy.optimize import minimize

    from nashward.games.equilibria.face import nearest

    generator = np.random.default_rng(0)
    for game in (games.zoo.two_rings(), games.zoo.cloned_rock(), games.zoo.comal_cycle()):
        face = games.face(game)
        for policy in generator.dirichlet(np.ones(game.sizes[0]), size=5):
            found = nearest(face, policy)
            assert float(games.duality_gap(game, found)) < 1e-10
            sums = {"type": "eq", "fun": lambda x: x.sum() - 1}
            loses = {"type": "ineq", "fun": lambda x, face=face: -face.margins @ x}
            other = minimize(
                lambda x, policy=policy: ((x - policy) ** 2).sum(), face.interior, bounds=[(0, 1)] * len(policy),
                constraints=[sums, loses],
            )  # fmt: skip
            np.testing.assert_allclose(found, other.x, atol=1e-5)
