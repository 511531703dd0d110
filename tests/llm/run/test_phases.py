"""Phases: the steps and the learning rates of a run change where they should, and nowhere else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nashward import games, llm
from nashward.llm import Phase
from nashward.llm.run.checks import check_rate
from nashward.llm.run.stages.train import of_phase
from nashward.llm.run.step_control import with_phases
from nashward.llm.store.files import read_jsonl
from nashward.llm.store.run_folder import RunFolder

from ..tiny_run import quick_run

PHASES = [Phase(2, step=1.0), Phase(1, learning_rate=1e-3), Phase(1, step=0.25, learning_rate=5e-4)]


@pytest.mark.parametrize("around", [False, True])
def test_the_steps_of_a_table_are_those_of_the_phases(around: bool) -> None:
    game, opponents = games.zoo.comal_cycle(), {"one": [1.0, 0.0, 0.0]}

    def join(solver: games.Solver) -> games.Solver:
        return games.FixedOpponents(solver, {"one": 0.25}) if around else solver

    start: Any = [0.5, 0.3, 0.2]
    found = games.solve(game, with_phases(join(games.MWU(0.5)), PHASES), 6, start=start, opponents=opponents).last
    for step in (1.0, 1.0, 0.5, 0.25, 0.25, 0.25):
        start = games.solve(game, join(games.MWU(step)), 1, start=start, opponents=opponents).last
    assert games.total_variation(found, start) < 1e-14


@pytest.mark.slow
def test_a_run_takes_the_phases_one_after_another(tiny_folder: Path, tmp_path: Path) -> None:
    fit = llm.Fit(learning_rate=2e-3, schedule="constant", warmup=0.0, epochs=1, batch=4, held_out=0.2, validation=0.0)
    play = quick_run(
        tiny_folder, tmp_path / "run", solver=games.ExtraGradient(0.5), phases=PHASES, iterations=5, fit=fit
    )
    run = play.run()
    sizes = {row["iteration"]: row["size"] for row in run.metrics}
    rates = {
        file.parent.name: {row["learning_rate"] for row in read_jsonl(file) if "step" in row}
        for file in run.folder.glob("iteration-*/metrics.jsonl")
    }
    for t, (size, rate) in enumerate([(1.0, 2e-3), (1.0, 2e-3), (0.5, 1e-3), (0.25, 5e-4), (0.25, 5e-4)], 1):
        for name in (f"iteration-{t:02d}-half-1", f"iteration-{t:02d}"):
            assert (sizes[name], rates[name]) == (size, {rate})
    with pytest.raises(ValueError, match=r"holds another run \(phases .* there, None now\)"):
        quick_run(tiny_folder, tmp_path / "run", solver=games.ExtraGradient(0.5), iterations=5, fit=fit).run()


def test_advice_on_a_rate_of_a_phase_names_the_phase() -> None:
    lower = ["--learning-rate 1e-4 is worth a try."]
    (said,) = of_phase(Phase(1, learning_rate=2e-4), lower)
    assert "phase" in said
    for phase, warnings in ((Phase(1, step=2.0), lower), (None, lower), (Phase(1, learning_rate=2e-4), [])):
        assert of_phase(phase, warnings) == []


def test_a_step_is_not_made_again_at_a_rate_that_its_phase_overrides(tmp_path: Path) -> None:
    """The phase's would be taken, and run.json would have the other one."""
    home, config = RunFolder(tmp_path), llm.RunConfig(phases=PHASES, fit=llm.Fit(learning_rate=2e-3))
    home.write({"solver": {}, "fit": {"learning_rate": 2e-3}}, {})
    for step, kept in (("iteration-02", True), ("iteration-03", False), ("iteration-03-half-1", False)):
        (tmp_path / step).mkdir()
        check_rate(home, config)
        other = dataclasses.replace(config, fit=llm.Fit(learning_rate=1e-2))
        if kept:
            check_rate(home, other)
        else:
            with pytest.raises(ValueError, match=r"iteration-03 .* 0\.001"):
                check_rate(home, other)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"iterations": 0}, "a phase has a whole number of iterations, at least 1, got 0"),
        ({"iterations": 1.5}, "a phase has a whole number of iterations, at least 1, got 1.5"),
        ({"iterations": 1, "step": 0}, "the step of a phase must be a positive number, got 0"),
        ({"iterations": 1, "learning_rate": "x"}, "the learning_rate of a phase must be a positive number, got 'x'"),
        ({"step": 1}, "a phase has iterations, and may have a step and a learning_rate; this one has step"),
        ({"iterations": 1, "tau": 1}, "may have a step and a learning_rate; this one has iterations, tau"),
        (3, "may have a step and a learning_rate; this one has 3"),
    ],
)
def test_phases_that_are_refused(row: Any, line: str) -> None:
    with pytest.raises(ValueError, match=f"{line}$"):
        Phase.read(row)


def test_a_step_that_the_solver_refuses_is_found_before_anything_is_written(tmp_path: Path) -> None:
    for solver, line in (
        (games.INPO(0.5, tau=0.5), r"^step \* tau must be at most 1, got 4 \* 0.5$"),
        (
            games.INPO(games.schedule.harmonic(0.5), tau=0.5),
            "^INPO has no constant step; leave step out of the phases$",
        ),
    ):
        play = quick_run(tmp_path / "nowhere", tmp_path / "run", solver=solver, phases=[Phase(1), Phase(1, step=4.0)])
        with pytest.raises(ValueError, match=line):
            play.run()
    assert not (tmp_path / "run").exists()
