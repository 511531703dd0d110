"""Where a run stands and how long it will take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward.cli.main import main
from nashward.llm import Fit
from nashward.llm.run.progress import Progress
from nashward.llm.run.stages import refit, score
from nashward.llm.run.status import clock, read_timings, remaining, status, step_seconds, time_left
from nashward.llm.store.files import read_jsonl, write_jsonl
from nashward.llm.store.run_folder import CHECKPOINT, RunFolder

from ..tiny_run import quick_run


def test_status_of_runs_at_every_stage(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "run"
    assert main(["status", str(tmp_path)]) == 2
    assert "holds no run (it has no run.json)" in capsys.readouterr().err
    for until, shown in (
        ("sample", ["iteration-01: sampling start: 10 of 10 prompts"]),
        ("judge", ["iteration-01: sampling start: 10 of 10 prompts", "iteration-01: judging start: 10 of 10 prompts"]),
        ("train", ["iteration-01: finished", "left: about"]),
        (None, ["2 of 2 iterations finished", "iteration-01: finished", "iteration-02: finished"]),
    ):
        quick_run(tiny_folder, home).run(until)  # type: ignore[arg-type]
        before = {file: file.stat().st_mtime_ns for file in home.rglob("*") if file.name != ".lock"}
        capsys.readouterr()
        assert main(["status", str(home)]) == 0
        out = capsys.readouterr().out
        for line in shown:
            assert line in out
        assert {file: file.stat().st_mtime_ns for file in home.rglob("*") if file.name != ".lock"} == before
    assert status(home).remaining_seconds == 0.0
    assert main(["status", str(home), "--json"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed)
    assert (found["state"], found["finished"], found["iterations"], found["folder"]) == ("finished", 2, 2, "run")
    assert found["steps"] == [{"step": f"iteration-0{k}", "finished": True} for k in (1, 2)]
    assert found["versions"]["torch"] == torch.__version__
    assert found["config"]["iterations"] == 2
    assert main(["status", str(home), "--json", str(tmp_path / "of" / "status.json")]) == 0
    assert (tmp_path / "of" / "status.json").read_text() == printed
    assert main(["status", str(home), "--json", str(tmp_path)]) == 2
    # as if it were stopped in its last training
    shutil.rmtree(home / "iteration-02" / "adapter")
    write_jsonl(home / "iteration-02" / "training" / "0" / CHECKPOINT, [{"done": 4, "steps": 8}])
    (training,) = [phase for phase in status(home).phases if phase.phase == "training"]
    rows = [json.loads(line) for line in (home / "timings.jsonl").read_text().splitlines()]
    seconds = sum(row["seconds"] for row in rows if (row["step"], row["phase"]) == ("iteration-02", "training"))
    assert (training.done, training.total, training.rate) == (4, 8, pytest.approx(8 / seconds))


def test_the_estimate_is_what_an_iteration_took_less_what_is_done() -> None:
    def row(step: str, phase: str, what: str, done: int, of: int, seconds: float) -> dict[str, Any]:
        return {"step": step, "phase": phase, "what": what, "done": done, "of": of, "seconds": seconds}

    def left(rows: list[dict[str, Any]], iterations: int) -> tuple[Any, ...]:
        found = remaining(rows, iterations)
        assert found is not None
        return found.run, found.iteration, found.untimed

    def least(rows: list[dict[str, Any]], iterations: int) -> float:
        found = remaining(rows, iterations)
        assert found is not None
        return found.least

    first = [
        row("iteration-01", "sampling", "start", 60, 100, 6.0), row("iteration-01", "sampling", "start", 40, 100, 4.0),
        row("iteration-01", "judging", "start", 100, 100, 20.0), row("iteration-01", "scoring", "", 10, 10, 5.0),
        row("iteration-01", "training", "", 200, 200, 60.0),
    ]  # fmt: skip
    assert remaining([], 3) is None
    assert left(first[:1], 3) == (None, pytest.approx(4.0), ("judging", "scoring", "training", "measuring"))
    assert left(first, 3) == (None, 0.0, ("measuring",))
    # at least: what was timed, in the two later iterations too
    assert least(first[:1], 3) == pytest.approx(4.0 + 2 * 10.0)
    assert least(first[:3], 3) == pytest.approx(2 * 30.0)
    assert least(first, 3) == pytest.approx(2 * 95.0)
    assert least(first, 1) == 0.0
    first.append(row("iteration-01", "measuring", "", 100, 100, 5.0))
    assert left(first, 1) == (None, 0.0, ())  # there may be more to measure: "0 s left" is no estimate
    assert left(first, 3) == (pytest.approx(200.0), 0.0, ())
    assert least(first, 3) == pytest.approx(200.0)
    assert step_seconds(first[:-1]) is None
    half = row("iteration-01-half-1", "sampling", "start", 100, 100, 20.0)
    assert step_seconds(first) == 100.0
    assert step_seconds([*first, half, row("iteration-02", "sampling", "iteration-01", 1, 100, 1.0)]) == 60.0
    begun = [*first, row("iteration-02", "training", "", 0, 200, 0.0)]  # while its trial steps are made
    assert left(begun, 2) == (pytest.approx(100.0), pytest.approx(100.0), ())
    assert left([row("iteration-01", "training", "", 0, 200, 0.0)], 2) == (
        None, 0.0, ("sampling", "judging", "scoring", "training", "measuring"),
    )  # fmt: skip
    # sampling is twice as slow now, and half done: 10 s of it, 90 s of the rest, and a whole iteration of 110 s
    second = [*first, row("iteration-02", "sampling", "iteration-01", 50, 100, 10.0)]
    assert left(second, 3) == (pytest.approx(210.0), pytest.approx(100.0), ())
    # judging has two parts now, of which the first is done: more is left of it than the first iteration had
    second += [
        row("iteration-02", "sampling", "iteration-01", 50, 100, 10.0),
        row("iteration-02", "judging", "iteration-01", 100, 100, 20.0),
        row("iteration-02", "judging", "iteration-01~start", 50, 100, 10.0),
    ]
    assert left(second, 2) == (pytest.approx(80.0), pytest.approx(80.0), ())
    assert (time_left(89.6), time_left(0.4)) == ("about 1 min 30 s left", "less than 1 s left")
    assert (time_left(0), time_left(None)) == ("", "")
    assert (clock(0.4), clock(61), clock(7200), clock(90061)) == ("0 s", "1 min 1 s", "2 h", "1 d 1 h")


def test_a_training_is_shown_from_its_trial_steps_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "run"
    shown: list[tuple[int, int | None, float | None]] = []

    def trial(*given: Any) -> float:
        shown.extend(
            (phase.done, phase.total, phase.rate) for phase in status(home).phases if phase.phase == "training"
        )
        return 2e-3

    monkeypatch.setattr(refit, "learning_rate", trial)
    fit = Fit(epochs=2, batch=4, held_out=0.2, validation=0.0)
    quick_run(tiny_folder, home, fit=fit, iterations=1).run("train")
    assert shown == [(0, 16, None)]
    assert sum(row["done"] for row in read_timings(RunFolder(home)) if row["phase"] == "training") == 16


def test_scoring_is_counted_pass_by_pass(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of 64 prompts under several policies takes minutes on a CPU."""
    counted: dict[str, list[int]] = {}
    written: dict[str, int] = {}  # passes counted before the step's one part was written
    phase_of, write_shard = Progress.phase, score.write_shard

    @contextmanager
    def phase(self: Progress, step: str, kind: str, *given: Any, **named: Any) -> Iterator[Any]:
        with phase_of(self, step, kind, *given, **named) as advance:

            def counting(count: int, *more: Any, **tokens: Any) -> None:
                if kind == "scoring":
                    counted.setdefault(step, []).append(count)
                advance(count, *more, **tokens)

            yield counting

    def write(folder: Path, *given: Any) -> Any:
        written[folder.parent.name] = sum(counted[folder.parent.name])
        return write_shard(folder, *given)

    monkeypatch.setattr(Progress, "phase", phase)
    monkeypatch.setattr(score, "write_shard", write)
    quick_run(tiny_folder, tmp_path / "run").run()
    rows = [row for row in read_timings(RunFolder(tmp_path / "run")) if row["phase"] == "scoring"]
    for number, policies in ((1, 1), (2, 2)):  # of the second iteration: its sampler, and the start
        own = [row for row in rows if row["step"] == f"iteration-0{number}"]
        batches = len(counted[f"iteration-0{number}"]) // policies
        assert batches > 1
        assert counted[f"iteration-0{number}"] == [1] * policies * batches
        assert written[f"iteration-0{number}"] == sum(row["done"] for row in own) == own[0]["of"] == policies * batches


def test_a_first_phase_that_is_half_done_says_what_is_left(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "run"
    quick_run(tiny_folder, home).run("sample")
    (shard,) = (home / "iteration-01" / "responses").glob("start.*")
    shard.unlink()
    rows = read_jsonl(home / "timings.jsonl")
    write_jsonl(home / "timings.jsonl", [])
    assert main(["status", str(home)]) == 0
    assert "sampling: 0 of 10 prompts" in capsys.readouterr().out  # its first shard
    sampling = {**rows[0], "done": 4, "of": 10, "seconds": 120.0}
    judging = {**sampling, "phase": "judging", "seconds": 20.0}
    write_jsonl(home / "timings.jsonl", [sampling, judging])
    assert main(["status", str(home)]) == 0
    out = capsys.readouterr().out
    assert "left: at least 9 min 20 s" in out  # 210 s of this iteration, 350 s of the next one
    assert "not timed yet: scoring, training, measuring" in out
    assert main(["status", str(home), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["remaining_seconds"], found["iteration_seconds"]) == (None, pytest.approx(210.0))
    assert found["least_seconds"] == pytest.approx(560.0)
    assert found["untimed"] == ["scoring", "training", "measuring"]
    assert [phase["seconds_left"] for phase in found["phases"]] == pytest.approx([300.0, 50.0])  # no shard is there
    write_jsonl(home / "timings.jsonl", [{**sampling, "phase": "measuring", "what": "validation", "done": 20}])
    assert [(phase.phase, phase.done, phase.total) for phase in status(home).phases] == [
        ("sampling", 0, 10), ("measuring", 10, 10),
    ]  # fmt: skip
