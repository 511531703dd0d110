"""A solution as a data frame, and in a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games.averaging import linear
from nashward.games.forms.game import Profile

pandas = pytest.importorskip("pandas")
COMAL = games.zoo.comal_cycle()
UNEVEN = games.ConstantSumGame([[0.4, -0.3, 0.1], [-0.2, 0.5, 0.0]], 0.0)
BATCH = games.PreferenceGame(torch.stack([games.zoo.random_preferences(4, seed).P for seed in range(2)]))
STARTS = (2 * torch.eye(4, dtype=torch.float64)).softmax(-1)[:3, None].expand(3, 2, 4)


def _solution(game: Any, start: Any = None, **options: Any) -> games.Solution:
    return games.solve(game, games.MWU(0.2), 30, start, averages={"linear": linear}, record=[10, 20], **options)


def test_a_row_of_the_frame_is_a_record() -> None:
    solution = _solution(COMAL)
    frame = solution.to_frame()
    assert frame.index.name == "iterations"
    assert frame.index.tolist() == [10, 20, 30]
    assert list(frame) == ["last", "average", "linear"]
    for name in frame:
        assert frame[name].tolist() == solution.gaps[name].tolist()


def test_each_game_and_each_start_has_its_rows() -> None:
    solution = _solution(BATCH, STARTS, keep_policies=True)
    frame = solution.to_frame()
    assert list(frame.index.names) == ["iterations", "axis 0", "axis 1"]
    assert len(frame) == 3 * 3 * 2
    policies = solution.to_frame("average", labels=["a", "b", "c", "d"])
    for (record, at), start, game in (
        (row, s, g) for row in enumerate([10, 20, 30]) for s in range(3) for g in range(2)
    ):
        assert frame.loc[(at, start, game), "last"] == solution.gaps["last"][record, start, game]
        expected = solution.policies["average"][record, start, game]
        assert policies.loc[(at, start, game), ["a", "b", "c", "d"]].tolist() == expected.tolist()


def test_seeds_of_a_sweep_are_a_level_of_the_frame_before_the_other_axes(tmp_path: Path) -> None:
    duels = games.feedback.DuelingFeedback()
    (solution,) = games.sweep(BATCH, games.MWU(), 20, step=[0.1], seeds=[7, 3, 5], feedback=duels, record=[10]).values()
    frame = solution.to_frame()
    assert list(frame.index.names) == ["iterations", "seed", "axis 1"]
    assert frame.loc[(20, 3, 1), "last"] == solution.gaps["last"][1, 1, 1]
    solution.save(tmp_path / "mwu.npz")
    assert games.Solution.load(tmp_path / "mwu.npz").to_frame().equals(frame)


def test_policies_of_two_players_have_a_column_for_each_action_of_each() -> None:
    solution = _solution(UNEVEN, keep_policies=True)
    frame = solution.to_frame("last")
    assert list(frame) == [("row", 0), ("row", 1), ("column", 0), ("column", 1), ("column", 2)]
    np.testing.assert_array_equal(frame["row"].to_numpy(), solution.policies["last"].row)
    np.testing.assert_array_equal(frame["column"].to_numpy(), solution.policies["last"].column)


def test_what_no_frame_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'last': none were kept.*keep_policies=True"):
        _solution(COMAL).to_frame("last")
    kept = _solution(COMAL, keep_policies=True)
    with pytest.raises(ValueError, match="'lsat': kept are those of last and average and linear"):
        kept.to_frame("lsat")
    with pytest.raises(ValueError, match="expected 3 labels of actions, got 2"):
        kept.to_frame("last", labels=["a", "b"])


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("case", ["one", "two players", "batch", "single precision"])
def test_a_file_gives_the_solution_back_bit_by_bit(tmp_path: Path, case: str, keep: bool) -> None:
    given: dict[str, tuple[Any, Any]] = {
        "one": (COMAL, None),
        "two players": (UNEVEN, None),
        "batch": (BATCH, STARTS),
        "single precision": (games.PreferenceGame(COMAL.P.float()), None),
    }
    solution = _solution(*given[case], keep_policies=keep)
    file = tmp_path / "run"  # exactly this name
    solution.save(file)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    again = games.Solution.load(file)
    assert again.status is solution.status
    assert list(again.gaps) == list(solution.gaps)
    assert list(again.policies) == list(solution.policies)
    for one, other in [
        (again.last, solution.last),
        (again.average, solution.average),
        (again.iterations, solution.iterations),
        *((again.gaps[name], solution.gaps[name]) for name in solution.gaps),
        *((again.policies[name], solution.policies[name]) for name in solution.policies),
    ]:
        assert isinstance(one, type(other))
        for x, y in zip(one, other, strict=True) if isinstance(other, Profile) else [(one, other)]:
            assert x.dtype == y.dtype
            assert torch.equal(x, y)
    again.save(file)  # overwrites its own file
    assert torch.equal(games.Solution.load(file).iterations, solution.iterations)


def test_a_missing_folder_is_made_and_a_folder_is_no_file(tmp_path: Path) -> None:
    solution = games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 2)
    solution.save(tmp_path / "new" / "folder" / "x.npz")
    assert torch.equal(games.Solution.load(tmp_path / "new" / "folder" / "x.npz").last, solution.last)
    with pytest.raises(IsADirectoryError, match="expected the name of a file"):
        solution.save(tmp_path / "new")


def test_names_of_averages_may_hold_anything(tmp_path: Path) -> None:
    odd = {"a/b": linear, "policies/last": linear, "\u00e9 \n": linear}
    solution = games.solve(COMAL, games.MWU(), 5, averages=odd, keep_policies=True)
    solution.save(tmp_path / "odd.npz")
    again = games.Solution.load(tmp_path / "odd.npz")
    assert list(again.gaps) == list(again.policies) == ["last", "average", *odd]


def test_a_run_that_was_not_finite_is_kept_as_it_is(tmp_path: Path) -> None:
    game = games.ConstantSumGame([[30.0, -10.0], [-10.0, 10.0]], 0.0)
    solution = games.solve(game, games.MWU(1e308), 3, ([0.9, 0.1], [0.5, 0.5]), record=[3])
    solution.save(tmp_path / "x.npz")
    again = games.Solution.load(tmp_path / "x.npz")
    assert again.status is games.Status.NOT_FINITE
    assert again.gaps["last"].shape == (0,)
    assert again.to_frame().shape == (0, 2)


@pytest.mark.parametrize("what", ["text", "empty", "table", "cut", "damaged", "pickle", "array"])
def test_a_file_that_is_no_solution_is_named(tmp_path: Path, what: str) -> None:
    file = tmp_path / "it.npz"
    _solution(COMAL).save(file)
    good = file.read_bytes()
    if what == "table":
        np.savez(file, P=COMAL.P)
    elif what == "array":
        with file.open("wb") as opened:
            np.save(opened, COMAL.P)
    elif what == "pickle":
        np.savez(file, solution=np.array([object()], dtype=object))
    else:
        middle = len(good) // 2
        damaged = good[:middle] + bytes(255 - byte for byte in good[middle : middle + 60]) + good[middle + 60 :]
        file.write_bytes({"text": b"hello", "empty": b"", "cut": good[:middle], "damaged": damaged}[what])
    with pytest.raises(ValueError, match=r"it\.npz is no solution that Solution\.save wrote") as no:
        games.Solution.load(file)
    assert "\n" not in str(no.value)


def test_a_missing_file_and_a_later_format(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        games.Solution.load(tmp_path / "none.npz")
    file = tmp_path / "later.npz"
    _solution(COMAL).save(file)
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored}
    np.savez(file, **{**arrays, "solution": np.array(99)})
    with pytest.raises(ValueError, match="later version"):
        games.Solution.load(file)


def test_the_fields_that_are_saved_are_all_there_are() -> None:
    """A new field of Solution needs its place in the file."""
    named = [field.name for field in dataclasses.fields(games.Solution)]
    assert named == ["last", "average", "gaps", "iterations", "status", "policies", "axes"]
