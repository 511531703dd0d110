"""The length-controlled win rate: the leaderboard's own figures where its data is there, a second route where not."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from nashward.llm.evaluation import NotComparable, Weights, length_controlled_win_rate, predict
from nashward.llm.evaluation.win_rates.cross_validation import PENALTIES

from .length_rows import gamed, random_rows


class Published:
    """The leaderboard's rows and annotations, by model."""

    def __init__(self, folder: Path):
        with np.load(folder / "annotations.npz") as archive:
            self.held = dict(archive)
        with (folder / "leaderboard.csv").open(encoding="utf-8") as file:
            self.rows = {row["model"]: row for row in csv.DictReader(file)}
        self.d, self.baseline = self.held["instruction_difficulty"], self.held["baseline_length"]
        self.models = [str(name) for name in self.held["models"]]

    def columns(self, model: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        k = self.models.index(model)
        return self.held["preference"][:, k], self.held["output_length"][:, k], self.baseline

    def weights(self, model: str) -> Weights:
        return Weights(*(float(self.rows[model][name]) for name in ("w_length", "w_difficulty", "w_model")))

    def lc(self, model: str) -> float:
        return float(self.rows[model]["length_controlled_winrate"])

    def regularisation(self, model: str) -> float:
        """1 / C of the published fit, which its optimality condition shows: |sum (p - y)|."""
        y, length, baseline = self.columns(model)
        apart = baseline - length
        w = self.weights(model)
        p = expit(w.length * np.tanh(apart / apart.std(ddof=1)) + w.difficulty * self.d + w.model)
        return float(abs((p - y).sum()))

    @property
    def complete(self) -> list[str]:
        return [name for name in self.models if not np.isnan(self.columns(name)[0]).any()]


@pytest.fixture
def published(data: Path) -> Published:
    return Published(data / "alpacaeval")


def test_published_weights_give_the_leaderboard(published: Published) -> None:
    assert len(published.complete) == 24
    for model in published.complete:
        assert abs(predict(published.weights(model), published.d).value - published.lc(model)) < 1e-6, model
    # of the one that lacks a prompt the public tool averages the difficulties of the first 804 rows
    weights = published.weights("minotaur-13b")
    assert abs(predict(weights, published.d[:804]).value - published.lc("minotaur-13b")) < 1e-6


def test_refits_are_the_leaderboard(published: Published) -> None:
    for model in published.complete:
        columns, theirs = published.columns(model), published.rows[model]
        default = length_controlled_win_rate(*columns, published.d, published.held)
        assert default.name == "LC"
        assert abs(default.win_rate - float(theirs["win_rate"])) < 1e-9, model
        assert abs(default.value - published.lc(model)) < 0.10, model
        if model == "gpt4_1106_preview":  # the baseline itself: nothing is fitted
            assert (default.value, default.weights) == (50.0, Weights(0, 0, 0))
            continue
        own = length_controlled_win_rate(*columns, published.d, published.held, published.regularisation(model))
        assert abs(own.value - published.lc(model)) < 0.02, model


def test_a_missing_row_is_aligned_by_prompt_where_the_public_tool_takes_the_row_number(published: Published) -> None:
    y, length, baseline = published.columns("minotaur-13b")
    there = ~np.isnan(y)
    prompts = [f"prompt {k}" for k in range(805)]
    by_prompt = [dict(zip(prompts, column.tolist(), strict=True)) for column in (y, length, baseline, published.d)]
    regularisation = 0.3594  # the C = 2.78 of its published fit
    # the tool: difficulties of the first 804 rows, whichever row is missing
    rows = {**published.held, "gamed_difficulty": np.tile(published.d, 2)}
    tool = length_controlled_win_rate(y[there], length[there], baseline[there], published.d[:804], rows, regularisation)
    assert abs(tool.value - published.lc("minotaur-13b")) < 0.02  # 11.465: the leaderboard's figure is the defect's
    right = length_controlled_win_rate(y, length, baseline, published.d, published.held, regularisation)
    assert right.value == pytest.approx(9.10, abs=0.01)
    assert right.prompts == 804
    lacking = [
        {name: value for name, value in own.items() if not np.isnan(by_prompt[0][name])} for own in by_prompt[:3]
    ]
    keyed = length_controlled_win_rate(*lacking, by_prompt[3], published.held, regularisation)  # type: ignore[call-arg, arg-type]
    assert keyed == right
    named = length_controlled_win_rate(
        y[there], length[there], baseline[there], by_prompt[3], published.held, regularisation,
        [prompt for prompt, own in zip(prompts, there, strict=True) if own],
    )  # fmt: skip
    assert named == right
    with pytest.raises(ValueError, match="preference has 804 rows and difficulty 805"):
        length_controlled_win_rate(y[there], length[there], baseline[there], published.d, published.held)


def test_without_gamed_rows_it_is_minimal_and_warns(published: Published) -> None:
    errors = []
    for model in published.complete:
        with pytest.warns(NotComparable, match="not comparable with the AlpacaEval leaderboard"):
            found = length_controlled_win_rate(*published.columns(model))
        assert str(found).startswith("minimal ")
        assert "LC" not in str(found)
        errors.append(abs(found.value - published.lc(model)))
    assert max(errors) > 5  # why it has another name


def test_a_row_that_is_not_judged_changes_nothing() -> None:
    rows = random_rows(0)
    full = {**gamed(rows), "gamed_difficulty": np.tile(rows["d"], 2)}
    found = length_controlled_win_rate(rows["y"], rows["length"], rows["baseline"], rows["d"], full)
    more = [np.append(rows[name], value) for name, value in (("y", np.nan), ("length", 7), ("baseline", 9), ("d", 3))]
    assert length_controlled_win_rate(more[0], more[1], more[2], more[3], full) == found


def test_labels_and_their_sums_make_one_fit() -> None:
    rows = random_rows(2)
    sums = {
        "gamed_tanh_length": rows["gamed_tanh_length"],
        "gamed_s1": rows["gamed_preference"] @ rows["gamed_tanh_length"],
        "gamed_s2": rows["gamed_preference"] @ np.tile(rows["d"], 2),
    }
    columns = (rows["y"], rows["length"], rows["baseline"], rows["d"])
    assert length_controlled_win_rate(*columns, sums).value == pytest.approx(
        length_controlled_win_rate(*columns, gamed(rows)).value, abs=1e-7
    )


def test_cross_validation_in_a_win_rate_and_refused_without_labels() -> None:
    rows = random_rows(5)
    columns = (rows["y"], rows["length"], rows["baseline"], rows["d"])
    found = length_controlled_win_rate(*columns, gamed(rows), "cross-validation")
    assert found.regularisation in PENALTIES
    assert found == length_controlled_win_rate(*columns, gamed(rows), found.regularisation)
    sums = {"gamed_tanh_length": rows["gamed_tanh_length"], "gamed_s1": 1.0, "gamed_s2": 1.0}
    for without in (sums, None):
        with pytest.raises(ValueError, match="gamed_pref"):
            length_controlled_win_rate(*columns, without, "cross-validation")


def test_model_against_model() -> None:
    d = np.random.default_rng(0).normal(size=100)
    a, b = Weights(-2.0, 0.9, -1.0), (-1.5, 0.4, 0.3)
    assert predict(a, d, b).value + predict(b, d, a).value == pytest.approx(100, abs=1e-12)
    assert predict(a, d, a).value == 50
    assert predict(a, d, b).value < predict(a, d).value  # b beats the baseline, mostly
    assert predict(a, dict(zip("xyz", d[:3], strict=True))) == predict(a, d[:3])
    assert predict(a, d, b).value == pytest.approx(100 * expit(-1.3 + 0.5 * d).mean())


def test_rates_by_hand() -> None:
    with pytest.warns(NotComparable):
        found = length_controlled_win_rate([1.0, 0.5, 0.2, 0.6], [4, 3, 2, 1], [2, 2, 2, 2])
    assert (found.win_rate, found.discrete_win_rate, found.prompts) == (pytest.approx(57.5), 62.5, 4)
    assert found.win_rate_error == pytest.approx(100 * np.std([1, 0.5, 0.2, 0.6], ddof=1) / 2)
    assert found.alpaca_eval_standard_error == 0  # without difficulties every prompt is alike
    assert found.standard_error > 5  # of four judgements
    with pytest.warns(NotComparable):  # lengths that differ alike say nothing
        assert length_controlled_win_rate([0.9, 0.8], [5, 6], [2, 3]).weights.length == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_nothing_is_identified_where_one_is_always_longer(sign: int) -> None:
    """The win rate at equal lengths is beyond all data: value and error would be the penalty's."""
    y, longer = np.linspace(0.7, 0.9, 60), sign * np.linspace(200, 270, 60)
    baseline = np.linspace(400, 430, 60)
    with pytest.warns(NotComparable, match="longer" if sign > 0 else "shorter"):
        found = length_controlled_win_rate(y, baseline + longer, baseline)
    assert not found.identified
    assert np.isnan(found.standard_error)
    assert found.win_rate == pytest.approx(80)
    longer[7] = 0  # one of the same length
    with pytest.warns(NotComparable):
        found = length_controlled_win_rate(y, baseline + longer, baseline)
    assert found.identified
    rows = random_rows(1)
    length = rows["baseline"] + 500
    assert length_controlled_win_rate(rows["y"], length, rows["baseline"], rows["d"], gamed(rows)).standard_error > 0


def test_a_judge_that_only_likes_length_is_seen_through() -> None:
    rows = random_rows(6)
    longer = rows["length"] + 700
    apart = rows["baseline"] - longer
    liked = expit(-2.0 * np.tanh(apart / apart.std(ddof=1)))
    with pytest.warns(NotComparable):
        found = length_controlled_win_rate(liked, longer, rows["baseline"])
    assert found.win_rate > 65
    assert found.value == pytest.approx(50, abs=1)


ROWS = random_rows(7, n=4)


ONE = dict(zip("wxyz", ROWS["y"], strict=True))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"preference": [1.2, 0.5, 0.5, 0.5]}, r"preference holds 1.2; expected probabilities"),
    ({"preference": [np.nan] * 3 + [0.5]}, "1 of 4 prompts judged"),
    ({"preference": [[0.5]] * 4}, r"preference has shape \(4, 1\)"),
    ({"output_length": [1, 2, 3]}, "preference has 4 rows and output_length 3"),
    ({"output_length": [1, 2, 3, np.inf]}, "output_length holds inf"),
    ({"preference": ONE}, "preference is by prompt and output_length is not: give prompts"),
    ({"preference": ONE, "prompts": ["w", "x", "y", "other"]}, "nothing for 1 prompt, the first 'other'"),
    ({"prompts": ["w", "w", "x", "y"]}, "the prompt 'w' is there twice"),
    ({"prompts": ["w"]}, "preference has 4 rows for 1 prompt"),
    ({"regularisation": 0}, "regularisation is 0; expected 1 / C, a positive number"),
    ({"regularisation": "cv"}, "regularisation is 'cv'; expected"),
    ({"difficulty": None}, "the gamed baseline's rows need difficulty"),
    ({"gamed": {"gamed_tanh_length": [0.5]}}, "gamed holds gamed_tanh_length; expected gamed_tanh_length, and"),
    ({"gamed": {"gamed_preferences": [0.5]}}, "gamed holds gamed_preferences; expected of"),
    ({"gamed": {"gamed_tanh_length": [2.0] * 8, "gamed_s1": 0, "gamed_s2": 0}}, "numbers from -1 to 1"),
    ({"gamed": {"gamed_tanh_length": [0.2] * 7, "gamed_s1": 0, "gamed_s2": 0}}, "7 rows, no multiple of the 4"),
    ({"gamed": {**gamed(ROWS), "gamed_difficulty": [1.0]}}, r"gamed_difficulty has shape \(1,\)"),
    ({"gamed": {**gamed(ROWS), "gamed_preference": [1.0]}}, r"gamed_preference has shape \(1,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "line"), REFUSED)
def test_what_is_refused(change: dict[str, Any], line: str) -> None:
    good: dict[str, Any] = {
        "preference": ROWS["y"], "output_length": ROWS["length"], "baseline_length": ROWS["baseline"],
        "difficulty": ROWS["d"], "gamed": gamed(ROWS),
    }  # fmt: skip
    with pytest.raises(ValueError, match=line) as caught:
        length_controlled_win_rate(**{**good, **change})
    assert "\n" not in str(caught.value)


def test_predict_refuses_no_difficulties() -> None:
    with pytest.raises(ValueError, match=r"difficulty has shape \(0,\)"):
        predict((0, 0, 0), [])
