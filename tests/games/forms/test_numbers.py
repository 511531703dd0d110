"""Payoffs from all kinds of numbers; what is not a number is named by its entry."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games

RPS = [[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]]


@pytest.mark.parametrize("tolerance", [math.nan, math.inf, -math.inf, -1e-9, 0.5, 2.0])
def test_a_tolerance_is_a_small_number(tolerance: float) -> None:
    for table in (RPS, [[0.5, 0.9], [0.9, 0.5]]):
        with pytest.raises(ValueError, match=r"tolerance is .*; expected"):
            games.PreferenceGame(table, tolerance=tolerance)
    if tolerance not in (0.5, 2.0):
        with pytest.raises(ValueError, match=r"tolerance is .*; expected a duality gap"):
            games.solve(games.PreferenceGame(RPS), games.MWU(0.1), 5, tolerance=tolerance)
    assert games.PreferenceGame([[0.5, 0.25], [0.75, 0.5]], tolerance=0.0).P[0, 1] == 0.25


@pytest.mark.parametrize(
    "table",
    [
        [[Fraction(1, 2), Fraction(1, 4)], [Fraction(3, 4), Fraction(1, 2)]],
        [["0.5", "0.25"], ["0.75", " 0.5 "]],
        np.array([["0.5", "0.25"], ["0.75", "0.5"]]),
        [[Decimal("0.5"), 0.25], [Fraction(3, 4), 0.5]],
        np.array([[0.5, 0.25], [0.75, 0.5]], dtype=np.longdouble),
        np.array([[0.5, 0.25], [0.75, 0.5]], dtype=np.float16),
        np.ma.masked_array([[0.5, 0.25], [0.75, 0.5]], mask=False),
    ],
)
def test_whatever_holds_numbers_is_read(table: Any) -> None:
    game = games.PreferenceGame(table)
    assert game.P.dtype == torch.float64
    assert game.P.tolist() == [[0.5, 0.25], [0.75, 0.5]]


def test_integers_of_any_size_are_payoffs() -> None:
    game = games.ConstantSumGame([[10**30, -(10**30)], [-(10**30), 10**30]], total=0)
    assert game.payoff[0, 0] == 1e30
    assert games.nash(game).policy.row.tolist() == pytest.approx([0.5, 0.5])
    assert games.ConstantSumGame(np.array([[2**63 + 2**62]], dtype=np.uint64)).payoff[0, 0] == 1.5 * 2.0**63


@pytest.mark.parametrize("kind", ["Float64", "float64[pyarrow]", "object", "string", "mixed"])
def test_columns_of_pandas(kind: str) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [0.5, 0.75], "b": [0.25, 0.5]}, index=["a", "b"])
    frame = frame.astype({"a": "Float64", "b": "object"}) if kind == "mixed" else frame.astype(kind)
    game = games.PreferenceGame(frame)
    assert (game.labels, game.P.tolist()) == (("a", "b"), [[0.5, 0.25], [0.75, 0.5]])
    if kind in ("Float64", "float64[pyarrow]", "mixed"):
        frame.iloc[1, 0] = pd.NA
        with pytest.raises(ValueError, match=r"entry \[b, a\] .* not a finite number"):
            games.PreferenceGame(frame)


def test_a_table_of_arrow() -> None:
    import pyarrow as arrow

    game = games.ConstantSumGame(arrow.table({"x": [1.0, 2.0], "y": [3.0, 4.0]}), total=0)
    assert game.payoff.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert game.column_labels == ("x", "y")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[0.5, "x"], [0.1, 0.5]], r"entry \[0, 1\] .* not a finite number: 'x'"),
        ([[0.5, None], [0.1, 0.5]], r"entry \[0, 1\] .* not a finite number: None"),
        ([[0.5, 10**400], [0.1, 0.5]], r"entry \[0, 1\] .* not a finite number: 1000"),
        ([[Fraction(1, 2), True], [0, Fraction(1, 2)]], r"entry \[0, 1\] .* not a finite number: True"),
        ([[0.5, 0.9], [0.5]], "rows of a payoff table have different lengths"),
        (
            np.ma.masked_array([[0.5, 0.9], [0.1, 0.5]], mask=[[False, True], [False, False]]),
            r"entry \[0, 1\] .* is masked",
        ),
        (np.array([["2024-01-01"]], dtype="datetime64[D]"), r"entry \[0, 0\]"),
        ([[0.5 + 0j]], "real numbers, got complex"),
        ([[True]], "real numbers, got truth values"),
        (None, r"nested lists|shape"),
        ("table.csv", r"nested lists|shape"),
    ],
)
def test_what_is_no_number_is_named(table: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        games.PreferenceGame(table)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["frame", "array", "tensor", "batch", "Float64", "None", "text", "float32"])
def test_an_empty_diagonal_is_one_half_as_in_a_file(form: str) -> None:
    """A file's empty diagonal was read, and the same table as a data frame or an array refused."""
    import pandas as pd

    frame = pd.DataFrame({"x": [math.nan, 0.75], "y": [0.25, math.nan]}, index=["x", "y"])
    array = frame.to_numpy()
    given: Any = {
        "frame": frame, "array": array, "tensor": torch.tensor(array), "batch": np.stack([array, array]),
        "Float64": frame.astype("Float64"), "None": [[None, 0.25], [0.75, None]], "text": [["", "0.25"], ["0.75", ""]],
        "float32": array.astype(np.float32),
    }[form]  # fmt: skip
    game = games.PreferenceGame(given)
    assert game.P.reshape(-1, 2, 2)[-1].tolist() == [[0.5, 0.25], [0.75, 0.5]]
    assert np.isnan(array).sum() == 2  # what was given stays as it is
    assert game.labels == (("x", "y") if form in ("frame", "Float64") else ("0", "1"))


def test_an_entry_that_is_no_number_is_named_by_the_labels() -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": [0.5, math.nan], "y": [0.25, 0.5]}, index=["x", "y"])
    for given, labels in ((frame, None), (frame.astype(object), None), (frame.to_numpy(), ["x", "y"])):
        with pytest.raises(ValueError, match=r"entry \[y, x\] .*not a finite number"):
            games.PreferenceGame(given, labels)
    with pytest.raises(ValueError, match=r"entry \[y, x\] .*not a finite number"):
        games.ConstantSumGame(frame)
    with pytest.raises(ValueError, match=r"entry \[1, 0\] .*not a finite number"):
        games.PreferenceGame(frame.to_numpy(), ["only one"])
    with pytest.raises(ValueError, match=r"entry \[1, 1\] .*not a finite number: inf"):
        games.PreferenceGame([[0.5, 0.2], [0.8, math.inf]])
