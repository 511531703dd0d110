"""The course of a run as curves, and the numbers of a picture."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from nashward.llm import report
from nashward.llm.report.content import plotted_numbers
from nashward.llm.report.curves import LEAST_SPAN, LEAST_SPANS, TOKENS, label_shares, label_styles, training_curves
from nashward.llm.run.selfplay import iterates


def test_every_number_of_a_picture_can_be_taken_from_the_page() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([1, 2, 3], [0.5, float("nan"), 0.25], label="gap")
    left.set(title="a", xlabel="t", ylabel="g")
    right.imshow([[0.1, 0.9], [0.4, 0.6]])
    right.bar([0, 1], [2.0, 3.0])
    text = report.render("Numbers", [report.Section("Here", [report.Picture(figure, "What <it> shows")])])
    assert "What &lt;it&gt; shows" in text
    (link,) = re.findall(r'href="data:application/json;base64,([^"]+)"', text)
    one, two = json.loads(base64.b64decode(link))
    assert one == {
        "title": "a", "x": "t", "y": "g",
        "lines": [{"label": "gap", "x": [1.0, 2.0, 3.0], "y": [0.5, None, 0.25]}],
    }  # fmt: skip
    assert two["images"] == [[[0.1, 0.9], [0.4, 0.6]]]
    assert [bar[3] for bar in two["bars"]] == [2.0, 3.0]


def test_the_course_is_that_of_the_metrics(runs: dict[str, Path]) -> None:
    figure = training_curves({"": runs["whole"]})
    drawn = {axes["title"]: axes["lines"] for axes in plotted_numbers(figure)}
    rows = iterates(runs["whole"])
    assert len(rows) == 2
    line, *errors = drawn["KL to the start (nats per response)"]
    assert line["y"] == [row["after"]["kl_to_reference"] for row in rows]
    bars = sorted(y for end in errors for y in end["y"])
    expected = [
        row["after"]["kl_to_reference"] + sign * row["after"]["kl_to_reference_error"]
        for row in rows
        for sign in (-1, 1)
    ]
    assert bars == pytest.approx(sorted(expected))
    shares = {line["label"]: line for line in drawn["share of the responses (0: the start)"] if "label" in line}
    assert {label: line["y"] for label, line in shares.items() if label} == {
        label: [row["labels"].get(label, 0.0) for row in rows]
        for label in sorted({name for row in rows for name in row["labels"]})
    }


def _run_by_hand(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A folder with the metrics of a run, a step a row."""
    for row in rows:
        (folder / row["iteration"]).mkdir(parents=True)
        (folder / row["iteration"] / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def _row(iteration: str, opponent: dict[str, float], labels: dict[str, float], **more: Any) -> dict[str, Any]:
    number = int(iteration.split("-")[1]) - 1
    anchor = f"iteration-{number:02d}" if number else "start"
    after = {"tokens": 5.0, "kl_to_reference": 0.1, "entropy_per_token": 1.0}
    return {"iteration": iteration, "anchor": {anchor: 1.0}, "opponent": opponent, "opponent_win_rates": {},
            "prompts": 100, "labels": labels, "after": after, "train": {"share": 1.0},
            "held_out": {}, **more}  # fmt: skip


def test_shares_stand_at_the_policy_that_wrote_the_responses(tmp_path: Path) -> None:
    """Iteration t samples what iteration t - 1 made: half of the start's responses are a, none of iteration 1's."""
    folder = _run_by_hand(tmp_path, [
        _row("iteration-01", {"start": 1.0}, {"a": 0.5, "b": 0.5}),
        _row("iteration-02", {"iteration-01": 2.0, "start": -1.0}, {"b": 0.9, "none": 0.1}),
    ])  # fmt: skip
    assert label_shares(folder) == {0: ({"a": 0.5, "b": 0.5}, 100), 1: ({"b": 0.9, "none": 0.1}, 100)}
    figure = training_curves({"": folder})
    (axes,) = [axes for axes in figure.axes if "share of the responses" in axes.get_title()]
    figure.draw_without_rendering()
    assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0  # not on the lines
    lines = {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}
    assert {name: (list(line.get_xdata()), list(line.get_ydata())) for name, line in lines.items()} == {
        "a": ([0, 1], [0.5, 0.0]), "b": ([0, 1], [0.5, 0.9]), "none": ([0, 1], [0.0, 0.1]),
    }  # fmt: skip
    colours = label_styles(["b", "a", "c"])
    assert [lines[name].get_color() for name in ("a", "b", "none")] == [colours[name][0] for name in ("a", "b", "none")]
    bars = [path.vertices[:, 1] for group in axes.collections for path in group.get_paths()]
    assert any(ends == pytest.approx([0.45, 0.55]) for ends in bars)  # (0.5 * 0.5 / 100) ** 0.5


def test_shares_of_half_steps_and_stored_responses_are_not_those_of_an_iterate(tmp_path: Path) -> None:
    half = _run_by_hand(tmp_path / "half", [
        _row("iteration-01-half-1", {"start": 1.0}, {"a": 0.5}),
        _row("iteration-01", {"iteration-01-half-1": 1.0}, {"a": 0.7}),
        _row("iteration-02-half-1", {"iteration-01": 1.0}, {"a": 0.9}),
    ])  # fmt: skip
    assert {t: own for t, (own, _) in label_shares(half).items()} == {0: {"a": 0.5}, 1: {"a": 0.9}}
    fixed = _run_by_hand(tmp_path / "fixed", [
        _row("iteration-01", {"gpt": 1.0}, {"a": 0.5}, opponent_win_rates={"gpt": 0.2}),
        _row("iteration-02", {"gpt": 1.0}, {"a": 0.6}, opponent_win_rates={"gpt": 0.3}),
    ])  # fmt: skip
    assert {t: own for t, (own, _) in label_shares(fixed).items()} == {0: {"a": 0.5}, 1: {"a": 0.6}}


def test_a_small_difference_does_not_fill_an_axis(runs: dict[str, Path]) -> None:
    figure = training_curves({"whole": runs["whole"]})
    spans = [high - low for low, high in (axes.get_ylim() for axes in figure.axes)]
    assert min(spans) >= LEAST_SPAN * 0.999
    tokens = next(axes for axes in figure.axes if axes.get_title() == TOKENS)
    assert np.ptp(tokens.get_ylim()) >= LEAST_SPANS[TOKENS] * 0.999
