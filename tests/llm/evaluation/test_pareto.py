"""The price curve on cases made by hand, and against brute force."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from nashward.llm.evaluation.objectives.pareto import ParetoPoint, figure, mixture_front, pareto_front, score_cost

CASE = [
    ParetoPoint("base", 0.50, 0.80),
    ParetoPoint("twin of base", 0.50, 0.80),
    ParetoPoint("loses both", 0.45, 0.70),
    ParetoPoint("sagging", 0.60, 0.70),  # below the line from base to far
    ParetoPoint("dominated", 0.65, 0.60),
    ParetoPoint("far", 0.70, 0.72),
    ParetoPoint("end", 0.80, 0.40, 0.05),
    ParetoPoint("end, worse", 0.80, 0.30),
]


def _names(points: list[ParetoPoint]) -> list[str]:
    return [point.name for point in points]


def test_endpoints_and_envelope_of_a_case_by_hand() -> None:
    assert _names(pareto_front(CASE)) == ["base", "far", "end"]
    assert _names(pareto_front(CASE[:5])) == ["base", "sagging", "dominated"]
    assert _names(mixture_front(CASE)) == ["base", "far", "end"]
    assert pareto_front(CASE)[0].score == max(point.score for point in CASE)
    assert pareto_front(CASE)[-1].wins == max(point.wins for point in CASE)
    assert _names(pareto_front(CASE[:1])) == _names(mixture_front(CASE[:1])) == ["base"]


def test_rounding_decides_nothing() -> None:
    worse, better = ParetoPoint("worse", 0.51, 0.5029749771717023), ParetoPoint("better", 0.52, 0.5029749771717021)
    for points in ([worse, better], [better, worse]):
        assert _names(pareto_front(points)) == ["better"]
    mirrored = [ParetoPoint(p.name, p.score, p.wins) for p in (worse, better)]
    assert _names(pareto_front(mirrored)) == ["better"]
    assert score_cost([worse, better], 0.52) == 0


def test_prices_are_on_the_lines_between_corners() -> None:
    assert score_cost(CASE, 0.3) == score_cost(CASE, 0.5) == 0.0
    assert score_cost(CASE, 0.6) == pytest.approx(0.04)  # half way from base to far
    assert score_cost(CASE, 0.7) == pytest.approx(0.08)
    assert score_cost(CASE, 0.75) == pytest.approx(0.24)
    with pytest.raises(ValueError, match=r"no mixture wins 0\.9; the best one wins 0\.8"):
        score_cost(CASE, 0.9)


@pytest.mark.parametrize("seed", range(20))
def test_of_random_policies_the_envelope_is_monotone_and_nothing_lies_above(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [ParetoPoint(str(k), *rng.integers(0, 8, 2) / 7) for k in range(12)]
    kept = pareto_front(points)
    assert all(a.wins < b.wins and a.score > b.score for a, b in pairwise(kept))
    for point in points:
        assert any(other.wins >= point.wins and other.score >= point.score for other in kept)
        for other in kept:
            assert not (point.wins >= other.wins and point.score > other.score)
            assert not (point.wins > other.wins and point.score >= other.score)
    corners = mixture_front(points)
    for _ in range(50):  # no mixture is above the line through the corners
        weights = rng.dirichlet(np.full(len(points), 0.3))
        wins = float(weights @ [p.wins for p in points])
        score = float(weights @ [p.score for p in points])
        assert score <= corners[0].score - score_cost(points, wins) + 1e-12


@pytest.mark.parametrize("figures", [(1.1, 0.0), (math.nan, 0.0), (0.5, math.inf), (0.5, 0.0, -1.0)])
def test_what_is_no_point_is_refused(figures: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"x: expected a win rate in \[0, 1\]"):
        ParetoPoint("x", *figures)
    with pytest.raises(ValueError, match="at least one policy"):
        pareto_front([])


def test_the_picture_has_every_policy(tmp_path: Path) -> None:
    page = figure(CASE, "accuracy")
    (axes,) = page.axes
    assert {text.get_text() for text in axes.texts} == {point.name for point in CASE}
    steps, mixtures = (line.get_xydata() for line in axes.lines[-2:])
    assert np.asarray(mixtures).tolist() == [[p.wins, p.score] for p in mixture_front(CASE)]
    assert np.asarray(steps)[-1].tolist() == [0.8, 0.4]
    page.savefig(tmp_path / "prices.png")


def test_names_of_policies_that_are_close_do_not_cover_each_other() -> None:
    close = [ParetoPoint(f"{share} of iteration-02", 0.51 + share / 1e3, 0.503, 0.003) for share in (0.25, 0.5, 0.75)]
    page = figure([*close, ParetoPoint("start", 0.5, 0.5), ParetoPoint("iteration-02", 0.511, 0.503)])
    page.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in page.axes[0].texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_legend_names_lines_that_are_drawn() -> None:
    """A front of one policy has none."""
    (one,) = figure([ParetoPoint("start", 0.5, 0.5), ParetoPoint("new", 0.6, 0.6)]).axes
    assert one.get_legend() is None
    (two,) = figure([ParetoPoint("start", 0.5, 0.6), ParetoPoint("new", 0.6, 0.5)]).axes
    legend = two.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 2
