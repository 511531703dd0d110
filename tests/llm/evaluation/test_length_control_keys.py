"""Rows of the length-controlled win rate that belong together are matched by their prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nashward.llm.evaluation import NotComparable, Weights, length_controlled_win_rate, predict
from nashward.llm.evaluation.win_rates.keyed_columns import aligned

from .length_rows import gamed, random_rows

controlled: Any = length_controlled_win_rate  # called with data frames' columns, as nobody checks them


def test_any_order_of_the_prompts_is_the_same() -> None:
    rows = random_rows(1)
    names = [f"p{k}" for k in range(len(rows["y"]))]
    columns = [dict(zip(names, rows[name], strict=True)) for name in ("y", "length", "baseline", "d")]
    found = length_controlled_win_rate(*columns, gamed(rows))  # type: ignore[call-arg, arg-type]
    shuffled = [{name: own[name] for name in sorted(own, key=lambda n: n[::-1])} for own in columns[:3]]
    again = length_controlled_win_rate(*shuffled, columns[3], gamed(rows))  # type: ignore[call-arg, arg-type]
    assert again.value == pytest.approx(found.value, abs=1e-9)
    plain = length_controlled_win_rate(rows["y"], rows["length"], rows["baseline"], rows["d"], gamed(rows))
    assert plain == found


def test_a_series_is_by_the_prompts_of_its_index() -> None:
    import pandas as pd

    rows = random_rows(9)
    names = [f"p{k}" for k in range(300)]
    frame = pd.DataFrame({name: rows[name] for name in ("y", "length", "baseline", "d")}, index=names)
    shuffled = frame.sample(frac=1, random_state=0)
    own = {**gamed(rows), "gamed_difficulty": np.tile(rows["d"], 2)}
    plain = controlled(rows["y"], rows["length"], rows["baseline"], rows["d"], own)
    found = controlled(frame["y"], shuffled["length"], frame["baseline"], shuffled["d"], own)
    assert found == plain
    by_row = frame.reset_index(drop=True)  # the index that pandas gives counts the rows
    assert controlled(by_row["y"], by_row["length"], rows["baseline"], by_row["d"], own) == plain
    moved = by_row.sample(frac=1, random_state=1)  # and names them where one of the columns was moved
    assert controlled(by_row["y"], moved["length"], by_row["baseline"], moved["d"], own) == plain
    with pytest.raises(ValueError, match="give prompts"):
        controlled(frame["y"], rows["length"], rows["baseline"], rows["d"], own)
    named = controlled(shuffled["y"], rows["length"], by_row["baseline"], frame["d"], own, prompts=names)
    assert named == plain
    kept = by_row[by_row.index % 7 != 3]  # rows were dropped: prompts is by the same index
    prompts = pd.Series(names)[kept.index]
    dropped = controlled(
        kept["y"],
        moved.loc[kept.index[::-1], "length"],
        kept["baseline"],
        frame["d"],
        own,
        prompts=prompts,
    )
    some = kept.index.to_numpy()
    there = [rows[name][some] for name in ("y", "length", "baseline", "d")]
    assert dropped == controlled(*there, gamed=own)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"output_length": lambda s: s.rename(index={"p3": "other"})}, "output_length has nothing for 1 prompt.*p3"),
        ({"output_length": lambda s: s.rename(index={"p3": "p4"})}, "output_length has 'p4' twice"),
        ({"preference": lambda s: s.rename(index={"p3": None})}, "preference has a row without a key"),
        ({"preference": lambda s: s.astype(object).where(s.index != "p3", "yes")}, "preference holds something"),
        ({"baseline_length": lambda s: s.to_frame()}, "baseline_length is a DataFrame"),
        ({"difficulty": lambda s: s.reset_index(drop=True)}, "difficulty has nothing for 300 prompts, the first 'p0'"),
    ],
)  # fmt: skip
def test_series_whose_keys_disagree_are_refused(change: dict[str, Any], line: str) -> None:
    import pandas as pd

    rows, names = random_rows(9), [f"p{k}" for k in range(300)]
    columns = {
        "preference": pd.Series(rows["y"], names), "output_length": pd.Series(rows["length"], names),
        "baseline_length": pd.Series(rows["baseline"], names), "difficulty": pd.Series(rows["d"], names),
    }  # fmt: skip
    for name, apply in change.items():
        columns[name] = apply(columns[name])
    with pytest.raises(ValueError, match=line):
        controlled(**columns, gamed={**gamed(rows), "gamed_difficulty": np.tile(rows["d"], 2)})


def test_missing_values_of_pandas_are_prompts_that_were_not_judged() -> None:
    import pandas as pd

    rows = random_rows(9, n=40)
    y = pd.Series(rows["y"], dtype="Float64")
    y[3] = pd.NA
    missing = np.where(np.arange(40) == 3, np.nan, rows["y"])
    with pytest.warns(NotComparable):
        found = controlled(y, rows["length"], rows["baseline"])
    with pytest.warns(NotComparable):
        own = controlled(missing, rows["length"], rows["baseline"])
    assert found == own
    assert found.prompts == 39


def test_the_rows_of_the_gamed_baseline_are_matched_by_prompt_too() -> None:
    import pandas as pd

    rows, names = random_rows(10, n=60), [f"p{k}" for k in range(60)]
    d, twice = pd.Series(rows["d"], names), [*names, *names]
    order = np.random.default_rng(0).permutation(120)
    table = pd.DataFrame(gamed(rows), index=twice).iloc[order]
    columns = (rows["y"], rows["length"], rows["baseline"])
    found = controlled(*columns, d, dict(table), prompts=names)
    plain = controlled(*columns, rows["d"], gamed(rows))
    assert found.value == pytest.approx(plain.value, abs=1e-7)
    other = {**dict(table), "gamed_preference": table["gamed_preference"].iloc[::-1]}
    with pytest.raises(ValueError, match="gamed_preference and gamed_tanh_length are of other prompts"):
        controlled(*columns, d, other, prompts=names)
    with pytest.raises(ValueError, match="by prompt and difficulty is not"):
        controlled(*columns, rows["d"], dict(table))
    with pytest.raises(ValueError, match="difficulty has nothing for 'p0"):
        controlled(
            *(own[10:] for own in columns),
            d.iloc[10:],
            dict(table.sort_index()),
            prompts=names[10:],
        )


def test_weights_by_name() -> None:
    import pandas as pd

    own, d = Weights(length=-0.9, difficulty=0.7, model=-1.3), [0.0, 1.0, 2.0]
    row = pd.Series(
        {"not_gamed_baseline.astype(float)": -1.3, "instruction_difficulty": 0.7, "np.tanh(std_delta_len)": -0.9}
    )
    for named in (row, {"model": -1.3, "length": -0.9, "difficulty": 0.7}):
        assert predict(named, d) == predict(own, d)
    with pytest.raises(ValueError, match="the weights are named model; expected length, difficulty, model"):
        predict({"model": 1.0}, d)


def test_columns_by_prompt_are_aligned_and_more_prompts_are_left_out() -> None:
    found = aligned({"a": {"x": 1, "y": 2}, "b": [10, 20]}, prompts=["y", "x"])
    assert {name: own.tolist() for name, own in found.items()} == {"a": [2.0, 1.0], "b": [10.0, 20.0]}


@pytest.mark.parametrize("name", ["output_length", "baseline_length"])
def test_a_negative_length_is_refused(name: str) -> None:
    columns: dict[str, Any] = {
        "preference": [0.9, 0.2, 0.6],
        "output_length": [10, 20, 30],
        "baseline_length": [20, 10, 25],
    }
    columns[name][1] = -7
    with pytest.raises(ValueError, match=f"{name} holds -7; expected a number of characters, 0 or more"):
        length_controlled_win_rate(**columns)
