"""Rows of counts: what is read of them, and what is refused since it is no count or has another name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward.errors import NashwardError
from nashward.games.analysis.leaderboard import from_battles, read_battles

PAIRS = (("x", "y"), ("x", "z"), ("y", "z"))


def _rows(*counts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"model_a": a, "model_b": b, **one} for (a, b), one in zip(PAIRS, counts, strict=False)]


@pytest.mark.parametrize(
    ("counts", "renamed"),
    [
        ({"wins": 7, "losses": 57, "ties": 10}, ("wins to wins_a", "losses to wins_b")),
        ({"losses": 57, "wins": 7, "ties": 10}, ("wins to wins_a", "losses to wins_b")),
        ({"win_b": "7", "win_a": "57", "draws": "10"}, ("win_a to wins_a", "win_b to wins_b")),
        ({"wins": 7, "losses": 57}, ("wins to wins_a", "losses to wins_b")),
        ({"wins_a": 7, "losses_a": 57, "ties": 10}, ("losses_a to wins_b",)),
        ({"n": 74, "ties": 10}, ()),
        ({"wins_a": "", "wins_b": None, "ties": 10}, ()),
    ],
)
def test_ties_beside_counts_of_other_names_are_not_all_battles(
    counts: dict[str, Any], renamed: tuple[str, ...], tmp_path: Path
) -> None:
    """The ties alone were counted: every model had the same Nash."""
    import pyarrow
    import pyarrow.parquet

    rows = _rows(counts)
    table, file = pyarrow.Table.from_pylist(rows), tmp_path / "b.parquet"
    pyarrow.parquet.write_table(table, file)
    for read in (lambda: from_battles(rows), lambda: read_battles(file)):
        with pytest.raises(NashwardError, match="row 1 has") as refused:
            read()
        assert all(f"rename {one}" in str(refused.value) or f"and {one}" in str(refused.value) for one in renamed)


@pytest.mark.parametrize("name", ["tie", "draw", "n_ties", "tied", "tie_count"])
def test_ties_of_another_name_are_not_dropped(name: str) -> None:
    with pytest.raises(NashwardError, match=f"row 1 has {name} beside counts"):
        from_battles(_rows({"wins_a": 7, "wins_b": 5, name: 3}))
    assert from_battles(_rows({"wins_a": 7, "wins_b": 5, "ties": 3, name: 3})).met[0, 1] == 15


def test_win_rates_are_no_numbers_of_battles() -> None:
    for counts, said in (
        ([(0.439, 0.561), (0.695, 0.305), (0.5, 0.5)], "win probabilities.* nashward solve"),
        ([(0.439, 0.461, 0.1), (0.6, 0.3, 0.1)], "win probabilities"),
        ([(0.0946, 0.8495), (0.4394, 0.6677)], r"shares.*0\.0946.*multiply"),
        ([(43.9, 56.1), (50.0, 50.0)], "percents"),
    ):
        rows = _rows(*(dict(zip(("wins_a", "wins_b", "ties"), row, strict=False)) for row in counts))
        with pytest.raises(NashwardError, match=said):
            from_battles(rows)
    with pytest.raises(NashwardError, match=r"win_rate, .*win rates.*nashward solve"):
        from_battles([{"model_a": "x", "model_b": "y"} | {"win": None, "win_rate": 0.4}])


def test_halves_and_battles_of_an_uncertain_winner_are_counts(caplog: pytest.LogCaptureFixture) -> None:
    halves = from_battles(_rows({"wins_a": 0.5, "wins_b": 0.5}, {"wins_a": 1, "wins_b": 0}, {"wins_a": 0, "wins_b": 1}))
    assert halves.met.sum() == 6
    judged = {"wins_a": 0.7, "wins_b": 0.3}
    assert from_battles(_rows(judged) * 3).met[0, 1] == pytest.approx(3)  # one by one
    assert from_battles(_rows(judged | {"prompt": "p"}, judged | {"prompt": "q"})).met[0, 1] == 1
    assert not caplog.messages
    assert from_battles(_rows({"wins_a": 12.25, "wins_b": 3.1})).met[0, 1] == pytest.approx(15.35)  # weights


@pytest.mark.parametrize("ties", [0, 90])
def test_counts_with_ties_say_what_the_same_battles_say_row_by_row(ties: int) -> None:
    """With ties outcomes vary less, which counts know as well: their bands were twice as wide, p = 0.03 was 1e-10."""
    won = {("x", "y"): (11, 9), ("z", "x"): (15, 6), ("y", "z"): (14, 10)}
    counts: list[dict[str, Any]] = [
        {"model_a": a, "model_b": b, "wins_a": wins, "wins_b": losses, "ties": ties}
        for (a, b), (wins, losses) in won.items()
    ]
    rows = [
        {"model_a": row["model_a"], "model_b": row["model_b"], "winner": winner}
        for row in counts
        for winner, times in (("a", row["wins_a"]), ("b", row["wins_b"]), ("tie", row["ties"]))
        for _ in range(times)
    ]
    several, single = from_battles(counts), from_battles(rows)
    assert several.misfit_p_value == pytest.approx(single.misfit_p_value)
    np.testing.assert_allclose(several._p_values(20_000, 0), single._p_values(20_000, 0))
    np.testing.assert_allclose(several.scores(prior=True).score_errors, single.scores(prior=True).score_errors)
    bands, known = (battles.bands(draws=6000) for battles in (several, single))
    np.testing.assert_allclose(bands.elo_high - bands.elo_low, known.elo_high - known.elo_low, rtol=0.05)
    np.testing.assert_allclose(bands.high, known.high, atol=0.05)
    twice = from_battles([*counts, *counts])  # a pair may have several rows
    np.testing.assert_allclose(twice._p_values(20_000, 0), from_battles(rows * 2)._p_values(20_000, 0))


def test_counts_without_ties_have_the_bands_of_wins_and_losses() -> None:
    """Half wins of a square table are ties that are not known: all vary as wins do."""
    half = from_battles(_rows({"wins_a": 30.5, "wins_b": 20.5}))
    assert half.winner_p_value(0) == from_battles(_rows({"wins_a": 30, "wins_b": 20})).winner_p_value(0)
    known = from_battles(_rows({"wins_a": 10, "wins_b": 0, "ties": 41}))
    width, narrow = (float(b.elo_high[0] - b.elo_low[0]) for b in (half.bands(), known.bands()))
    assert narrow < 0.6 * width


def test_counts_in_both_directions_are_said_to_count_twice(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"model_a": a, "model_b": b, "wins_a": 7, "wins_b": wins, "ties": 2}
        for a, b, wins in (("x", "y", 3), ("x", "z", 5), ("y", "z", 8))
    ]
    mirrored = [
        {**row, "model_a": row["model_b"], "model_b": row["model_a"], "wins_a": row["wins_b"], "wins_b": 7}
        for row in rows
    ]
    once = from_battles(rows)
    assert not caplog.records
    twice = from_battles(rows + mirrored)
    assert twice.met.sum() == 2 * once.met.sum()
    assert "counts twice" in caplog.text
    caplog.clear()
    mirrored[0]["ties"] = 3  # other battles
    from_battles(rows + mirrored)
    assert not caplog.records


def test_an_empty_cell_of_ties_is_refused_as_one_of_wins_is() -> None:
    row = {"model_a": "x", "model_b": "y", "wins_a": 7, "wins_b": 3, "ties": None}
    with pytest.raises(NashwardError, match="row 1 has no number as ties"):
        from_battles([row])
    del row["ties"]
    assert from_battles([row]).met.sum() == 20
