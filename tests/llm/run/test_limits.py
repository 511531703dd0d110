"""Limits: the verdict of an iteration, what it lowers afterwards, and that a run which goes on steps as it did."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import games, llm
from nashward.games import Policy
from nashward.llm import Limits
from nashward.llm.run.stages.fit_result import FitScores
from nashward.llm.run.step_control import with_factor
from nashward.llm.store.files import read_jsonl
from nashward.llm.training.experience import Experience

from ..tiny_run import files, quick_run

SFT = [{"prompt": f"Do {k}", "output": "ab" * (1 + k % 3)} for k in range(6)]
WILD = llm.Fit(
    learning_rate=2e-2, schedule="constant", warmup=0.0, epochs=1, batch=4, held_out=0.2, validation=0.0, sft_weight=0.0
)
SHARES = [1.0, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("around", [False, True])
def test_the_steps_of_a_table_are_those_of_the_shares(around: bool) -> None:
    game, opponents = games.zoo.comal_cycle(), {"one": [1.0, 0.0, 0.0]}

    def join(solver: games.Solver) -> games.Solver:
        return games.FixedOpponents(solver, {"one": 0.25}) if around else solver

    def step(t: int) -> float:
        return 0.4 * t

    start: Any = [0.5, 0.3, 0.2]
    solver = with_factor(join(games.MWU(step)), lambda t: SHARES[t - 1])
    found = games.solve(game, solver, 4, start=start, opponents=opponents).last
    for t, share in enumerate(SHARES, 1):
        start = games.solve(game, join(games.MWU(share * step(t))), 1, start=start, opponents=opponents).last
    assert games.total_variation(found, start) < 1e-14


def test_the_verdict_is_of_either_side() -> None:
    limits = Limits(sft=0.1, win_rate=0.5)
    assert limits.crossed(0.1, 0.5) == []
    assert limits.crossed(None, 0.5) == []
    assert limits.crossed(0.2, 0.5) == ["the held-out SFT NLL is 0.2 nats per token above the start's (limit 0.1)"]
    assert limits.crossed(-3.0, 0.4) == ["the win rate on held-out prompts is 0.4 (floor 0.5)"]
    assert len(limits.crossed(float("nan"), float("nan"))) == 2
    assert Limits().crossed(9.0, 0.0) == []


def test_the_win_rate_is_that_over_the_policy_before() -> None:
    """Against the table: of all actions weighted by who was sampled, P(new beats old) where old is played against."""
    P = games.zoo.comal_cycle().P
    old, new = (torch.tensor(p, dtype=torch.float64) for p in ([0.5, 0.3, 0.2], [0.2, 0.7, 0.1]))
    old_log, new_log = old.log()[None], new.log()[None]

    def scored(now: torch.Tensor) -> Experience:
        zero, one = torch.zeros(1, 3), torch.ones(1, 3)
        return Experience(
            now,
            old_log,
            old_log,
            (P @ old)[None],
            old[None],
            one,
            zero,
            "plug-in",
            1.0,
            start=old_log,
            reference=old_log,
        )

    for scores in (FitScores(scored(new_log), None), FitScores(scored(old_log), scored(new_log))):
        assert scores.win_rate == pytest.approx(float(new @ P @ old), abs=1e-12)
    for step in (0.1, 2.0, 30.0):
        mirror = ((P @ old) * step + old.log()).log_softmax(-1)[None]
        assert (FitScores(scored(mirror), None).win_rate or 0) > 0.5


def _steps(run: llm.Run) -> list[tuple[float, float]]:
    """Step size and learning rate of each step."""
    return [
        (row["size"], read_jsonl(run.folder / row["iteration"] / "metrics.jsonl")[0]["learning_rate"])
        for row in run.metrics
    ]


@pytest.mark.slow
def test_beyond_a_limit_the_steps_fall_and_a_cut_run_takes_the_same(
    two_layers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {
        "sft": SFT, "fit": WILD, "iterations": 3, "solver": games.ExtraGradient(2.0), "limits": Limits(sft=0.0),
    }  # fmt: skip
    run = quick_run(two_layers, tmp_path / "whole", **settings).run(progress=False)
    ends = [row for row in run.metrics if "half" not in row["iteration"]]
    beyond = [row["crossed"] for row in ends]
    assert beyond == [row["sft"]["after"] > row["sft"]["start"] for row in ends]
    assert beyond[0]
    assert not any(row["crossed"] for row in run.metrics if "half" in row["iteration"])
    sizes = [2.0 * 0.5 ** sum(beyond[:k]) for k in range(3)]
    assert _steps(run) == [(size, 2e-2) for size in sizes for _ in range(2)]  # the half step and the iterate
    told = [line for line in caplog.messages if "Beyond its limits" in line]
    assert len(told) == sum(beyond)
    assert told[0].startswith("iteration-01: Beyond its limits: the held-out SFT NLL is ")
    assert told[0].endswith(" (limit 0); the step of later iterations is multiplied by 0.5.")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for stage in ("iteration-03-half-1", "iteration-03"):
        shutil.rmtree(tmp_path / "cut" / stage)
    quick_run(two_layers, tmp_path / "cut", **settings).run(progress=False)
    whole, cut = files(tmp_path / "whole"), files(tmp_path / "cut")
    assert {name for name in whole if whole[name] != cut.get(name)} <= {"judgements.sqlite"}


def test_the_learning_rate_may_fall_in_place_of_the_step(tiny_folder: Path, tmp_path: Path) -> None:
    limits = Limits(win_rate=1.0, factor=0.1, lowers="learning-rate")
    run = quick_run(tiny_folder, tmp_path / "run", solver=games.MWU(2.0), fit=WILD, iterations=2, limits=limits).run()
    assert [row["crossed"] for row in run.metrics] == [True, True]
    assert _steps(run) == [(2.0, 2e-2), (2.0, pytest.approx(2e-3, rel=1e-12))]
    within = Limits(win_rate=0.0)
    free = quick_run(tiny_folder, tmp_path / "free", solver=games.MWU(2.0), fit=WILD, iterations=2, limits=within).run()
    assert _steps(free) == [(2.0, 2e-2)] * 2
    with pytest.raises(ValueError, match=r"holds another run \(limits.win_rate 0.0 there, 0.5 now\)"):
        quick_run(tiny_folder, tmp_path / "free", solver=games.MWU(2.0), fit=WILD, limits=Limits(win_rate=0.5)).run()


class Bare:
    """A solver without a step."""

    def play(self, x: Policy, reference: Policy) -> Any:
        while True:
            x = yield games.Step(anchor=x, opponent=x, size=1.0)


def test_what_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for settings, line in (
        ({"solver": Bare(), "limits": Limits(win_rate=0.5)}, "^Bare has no step that a limit could lower; let it"),
        ({"limits": Limits(win_rate=0.5), "fit": llm.Fit(loss="gpo")}, "^gpo plays for scores, not for win rates"),
    ):
        with pytest.raises(ValueError, match=line):
            quick_run(tmp_path / "nowhere", tmp_path / "run", **settings).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"sft": -0.1}, "sft must be a number of nats per token, at least 0, got -0.1"),
        ({"win_rate": 1.1}, r"win_rate must be in \[0, 1\], got 1.1"),
        ({"factor": 1.0}, "factor must be between 0 and 1, got 1.0"),
        ({"lowers": "both"}, "lowers is 'both'; expected one of step, learning-rate"),
    ],
)
def test_bad_limits_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        Limits(**settings)
