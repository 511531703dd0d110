"""A run by several processes: the result is that of one, whichever dies, hangs or has no room."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from nashward import games, llm
from nashward.cli.main import main
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.processes import connection, processes
from nashward.llm.processes.place import WAIT
from nashward.llm.run.progress import Progress
from nashward.llm.run.signals import stop_on_signals
from nashward.llm.run.stages import refit, sample
from nashward.llm.run.stages import shards as shards_module
from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder

from ...conftest import ROOT
from .. import tiny
from ..ranks import Ranks
from ..tiny_run import short_run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks, which Windows has not")

SHARDS = ("responses", "judgements", "targets")
PROMPTS = [f"Say {i} things{'!' * (i % 7)}" for i in range(150)]
STAGES = ("sampling", "judging", "scoring", "training", "measuring")
FIT = llm.Fit(epochs=2, batch=16, tokens=800, held_out=0.1, checkpoint_seconds=0.0)


def written(folder: Path) -> dict[str, set[str]]:
    """The shards of each step, whose names hold the hashes of their contents."""
    return {
        f"{step.name}/{kind}": {file.name for file in (step / kind).iterdir()}
        for step in sorted(folder.glob("iteration-*"))
        for kind in SHARDS
        if (step / kind).exists()
    }


def distance(model: llm.LanguageModel, one: Path, other: Path) -> float:
    """The most that a stored response's log-probabilities under two runs' last adapters differ by, nats."""
    (file, *_) = shards(RunFolder(one).steps()[0] / "responses", "start")
    rows = read_shard(file)[:60]
    found = []
    for run in (one, other):
        last = max(run.glob("iteration-*/adapter"), key=lambda path: path.parent.name)
        model.invalidate()
        with model.use_adapter(last) as network:
            ids = [row["prompt_ids"] for row in rows], [row["ids"] for row in rows]
            found.append(sequence_logprobs(network, *ids, model.pad_id))
    assert float((found[0] - found[0].mean()).abs().max()) > 0.1  # of responses that differ
    return float((found[0] - found[1]).abs().max())


@pytest.fixture
def model(two_layers: Path) -> llm.LanguageModel:
    return llm.LanguageModel.from_pretrained(two_layers, lora=llm.Lora(rank=2), quantise=False)


SOLVERS = {
    "optimistic": games.OptimisticMWU(2.0),
    "a geometric anchor, half steps": games.ExtraGradient(2.0, tau=0.2),
    "a geometric mixture": games.NashMD(2.0, tau=0.1),
    "a mixture as opponent": games.HistoryMixture(2.0),
    "inner steps": games.ProximalPoint(2.0, inner=2),
    "worst case": games.MWU(2.0),
    "floors": games.OptimisticMWU(2.0),
    "several judges": games.OptimisticMWU(2.0),
}
COMBINED = {"worst case": "worst-case:tau=0.1", "floors": "floors:long=0.45"}  # of two objectives
LONG = [pytest.param(name, 3, marks=pytest.mark.slow) for name in SOLVERS]


@pytest.mark.parametrize(("name", "count"), [("optimistic", 2), *LONG])
def test_the_result_is_that_of_one_process(name: str, count: int, model: llm.LanguageModel, tmp_path: Path) -> None:
    def play(folder: str) -> Any:
        oracle: llm.oracles.PreferenceOracle = tiny.high_bytes()
        if rule := COMBINED.get(name):
            combination = llm.oracles.Combination.read(("high", "long"), rule)
            oracle = llm.oracles.Objectives([oracle, llm.oracles.Length(2.0)], combination)
        fit = FIT
        if name == "several judges":
            oracle, fit = llm.oracles.Ensemble([oracle, tiny.noise()]), replace(FIT, spread_weights=True)
        settings: dict[str, Any] = {"prompts": PROMPTS[:90], "fit": fit, "oracle": oracle}
        return short_run(model, tmp_path / folder, SOLVERS[name], **settings).run(progress=False)

    one = play("one")
    found = Ranks(count, lambda rank: play("several").metrics, tmp_path / "ranks").values()
    assert found == [found[0]] * count
    several, alone = written(tmp_path / "several"), written(tmp_path / "one")
    earliest = RunFolder(tmp_path / "one").steps()[0].name  # all later ones have a trained policy in their targets
    first = [key for key in alone if key.startswith(f"{earliest}/")]
    assert {key: several[key] for key in first} == {key: alone[key] for key in first}
    assert several.keys() == alone.keys()
    assert distance(model, tmp_path / "one", tmp_path / "several") < 1e-4
    rates = [[row["learning_rate"] or 0.0 for row in rows] for rows in (found[0], one.metrics)]  # None: nothing to fit
    assert rates[0] == pytest.approx(rates[1], rel=1e-4)  # found at policies that differ in their last bits
    assert len((tmp_path / "several" / "timings.jsonl").read_text().splitlines()) >= 10


@pytest.mark.parametrize("prompts", [1, 2, 5])
def test_more_processes_than_there_is_work(prompts: int, model: llm.LanguageModel, tmp_path: Path) -> None:
    def play(folder: str) -> Any:
        settings: dict[str, Any] = {"prompts": PROMPTS[:prompts], "oracle": tiny.high_bytes(), "iterations": 1}
        return short_run(model, tmp_path / folder, **settings).run(progress=False)

    play("one")
    Ranks(3, lambda rank: play("several").metrics, tmp_path / "ranks").values()
    assert written(tmp_path / "several") == written(tmp_path / "one")
    assert distance(model, tmp_path / "one", tmp_path / "several") < 1e-4


# Faults. Each process is the command, and where one dies the others get SIGTERM, as from torchrun.


@pytest.fixture(scope="module")
def command(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    prompts.write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    return [
        "align", "--policy", str(tiny_folder), "--no-quantise", "--oracle", "nashward.llm.oracles:Length",
        "--prompts", str(prompts), "--iterations", "1", "--responses", "3", "--max-new-tokens", "6", "--epochs", "1",
        "--batch", "16", "--rank", "2", "--step", "2", "--checkpoint-seconds", "0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def expected(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("whole") / "run"
    assert main([*command, "--quiet", "--out", str(home)]) == 0
    return home


def _at(stage: str, does: Any) -> None:
    """Let this process do something when it has counted a part of a stage, or leaves the stage without one."""
    phase_of = Progress.phase

    @contextmanager
    def phase(self: Progress, step: str, phase: str, *given: Any, **named: Any) -> Iterator[Any]:
        with phase_of(self, step, phase, *given, **named) as advance:

            def counting(*done: Any, **more: Any) -> None:
                advance(*done, **more)
                if phase == stage:
                    does()

            yield counting
            if phase == stage:
                does()

    Progress.phase = phase  # type: ignore[method-assign]  # of a fork


def _ranks(count: int, command: list[str], home: Path, at: Any = None, waits: str = "") -> Ranks:
    """The command by several processes.

    Args:
        at: a rank, a stage and what the rank does there.
        waits: the stage from which the first rank waits a second for the others.
    """

    def work(rank: int) -> int:
        connection.GRACE = 0.5
        if at is not None and rank == at[0]:
            _at(at[1], at[2])
        if waits and rank == 0:
            _at(waits, lambda: os.environ.update({WAIT: "1"}))
        return main(command)

    return Ranks(count, work, home)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("stage", "rank"),
    [("sampling", 1), ("training", 0), *(pytest.param(s, r, marks=pytest.mark.slow) for s in STAGES for r in (0, 1))],
)
def test_a_process_that_dies_loses_no_finished_shard(
    stage: str, rank: int, command: list[str], expected: Path, model: llm.LanguageModel, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [*command, "--quiet", "--out", str(run)]
    ranks = _ranks(3, words, tmp_path / "first", (rank, stage, _die))
    codes = ranks.wait(terminate=True)
    assert codes[rank] == -signal.SIGKILL
    assert 0 not in codes
    assert "Traceback" not in ranks.output()
    before = {file: file.stat().st_mtime_ns for kind in SHARDS for file in run.glob(f"iteration-01/{kind}/*.parquet")}
    if stage == "sampling":
        assert before
    assert _ranks(2, words, tmp_path / "second").wait() == [0, 0]
    assert {file: file.stat().st_mtime_ns for file in before} == before  # none was made again
    assert written(run) == written(expected)
    assert distance(model, expected, run) < 1e-4
    assert not list(run.rglob("*.unfinished"))


def test_one_that_dies_behind_the_run_holds_nobody(model: llm.LanguageModel, tmp_path: Path) -> None:
    def work(rank: int) -> int:
        connection.GRACE = 0.5
        settings: dict[str, Any] = {"prompts": PROMPTS[:8], "oracle": tiny.high_bytes(), "iterations": 1}
        with stop_on_signals() as received, processes.session():
            short_run(model, tmp_path / "run", **settings).run(stop=received.event, progress=False)
            if rank == 1:
                _die()
        return 0

    ranks = Ranks(2, work, tmp_path / "ranks")
    assert ranks.wait(60.0, terminate=True) == [0, -signal.SIGKILL]
    assert (tmp_path / "run" / "mixture.json").is_file()


def test_one_that_hangs_ends_the_run_with_its_name(command: list[str], tmp_path: Path) -> None:
    words = [*command, "--quiet", "--out", str(tmp_path / "run")]
    ranks = _ranks(2, words, tmp_path / "ranks", (1, "judging", lambda: time.sleep(1000)), waits="judging")
    assert ranks.wait_for(0) == 2
    ranks.kill(1)
    ranks.wait()
    (line,) = [line for line in ranks.output(0).splitlines() if line.startswith("nashward: ")]
    assert "rank 1 hangs (iteration-01: judging start)" in line
    assert "the same command continues" in line


def test_one_without_room_on_its_disk(
    command: list[str], expected: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = sample.write_shard

    def full(folder: Path, *given: Any) -> Any:
        if processes.rank == 1:
            raise OSError(errno.ENOSPC, f"{folder} cannot be written, the disk is full: make room")
        return write(folder, *given)

    words = [*command, "--quiet", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(sample, "write_shard", full)
        ranks = _ranks(3, words, tmp_path / "first")
        assert ranks.wait() == [2, 2, 2]
    lines = [line for line in ranks.output().splitlines() if line.startswith("nashward: ")]
    assert len(lines) == 1
    assert lines[0].startswith("nashward: rank 1 (iteration-01: sampling start): ")
    assert "the disk is full" in lines[0]
    assert _ranks(3, words, tmp_path / "second").wait() == [0, 0, 0]
    assert written(tmp_path / "run") == written(expected)


def test_a_folder_that_is_not_shared_is_named(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each process with a run folder of its own, as on machines whose --out is a local disk."""

    def work(rank: int) -> int:
        (tmp_path / f"machine-{rank}").mkdir()
        os.chdir(tmp_path / f"machine-{rank}")
        return main([*command, "--quiet", "--out", "run"])

    monkeypatch.setattr(shards_module, "APPEAR", 0.5)
    ranks = Ranks(2, work, tmp_path / "ranks")
    assert ranks.wait() == [2, 2]
    (line,) = [line for line in ranks.output().splitlines() if line.startswith("nashward: ")]
    assert "has to be on a disk that all machines share" in line


def test_two_commands_on_one_folder(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        ranks = _ranks(2, [*command, "--out", str(tmp_path / "run")], tmp_path / "ranks")
        assert ranks.wait() == [2, 2]
    (line,) = [line for line in ranks.output().splitlines() if line.startswith("nashward: ")]
    assert "another process is playing in" in line


def test_a_signal_to_one_stops_all_and_the_command_goes_on(command: list[str], expected: Path, tmp_path: Path) -> None:
    words = [*command, "--out", str(tmp_path / "run")]
    ranks = _ranks(3, words, tmp_path / "first", (1, "training", lambda: os.kill(os.getpid(), signal.SIGINT)))
    codes = ranks.wait()
    assert codes[1] == 130
    assert "iteration-01: training: stopped as requested; the same command continues" in ranks.output(0)
    assert ranks.output().count("stopped as requested") == 1
    assert (tmp_path / "run" / "iteration-01" / "training").is_dir()  # its checkpoint
    assert main([*words, "--quiet"]) == 0
    assert written(tmp_path / "run") == written(expected)


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_ends_the_search_of_a_learning_rate(
    signalled: int, command: list[str], expected: Path, tmp_path: Path
) -> None:
    """The first process makes it, the others wait for what it finds."""
    run, search = tmp_path / "run", refit.learning_rate
    words = [*command, "--out", str(run)]

    def stopped(*given: Any) -> float:
        os.kill(int((tmp_path / str(signalled)).read_text()), signal.SIGINT)
        time.sleep(0 if signalled == 0 else 2)  # the other one halts after its time of grace
        return search(*given)

    def work(rank: int) -> int:
        connection.GRACE = 0.5
        (tmp_path / str(rank)).write_text(str(os.getpid()))
        refit.learning_rate = stopped  # type: ignore[assignment]  # of a fork
        return main(words)

    ranks = Ranks(2, work, tmp_path / "ranks")
    assert ranks.wait()[signalled] == 130
    assert ranks.output().count("iteration-01: training: stopped as requested") == 1
    assert "learning_rate" not in RunFolder(run).step_values("iteration-01")
    assert main([*words, "--quiet"]) == 0
    assert written(run) == written(expected)
    assert RunFolder(run).step_values("iteration-01") == RunFolder(expected).step_values("iteration-01")


def test_what_is_wrong_is_said_once(command: list[str], tmp_path: Path) -> None:
    wrong = [*command, "--out", str(tmp_path / "run"), "--learning-rate", "-1"]
    ranks = _ranks(3, wrong, tmp_path / "ranks")
    assert ranks.wait() == [2, 2, 2]
    assert ranks.output().count("learning_rate must be positive") == 1


def test_a_command_that_is_not_divided_says_so(tmp_path: Path) -> None:
    ranks = _ranks(2, ["solve", "zoo:comal_cycle"], tmp_path / "ranks")
    assert ranks.wait() == [0, 0]
    assert "nashward solve: one of the 2 processes does it" in ranks.output(0)
    assert "Nash equilibrium" in ranks.output(0)
    assert ranks.printed(1) == ""


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [False, True])
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="its children are found in /proc")
def test_torchrun_starts_it(signalled: bool, command: list[str], expected: Path, tmp_path: Path) -> None:
    """With its store and its signals: where one process is killed torchrun stops the others."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*start, "-m", "nashward", *command, "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    if signalled:
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 120
        while not list(tmp_path.glob("run/iteration-01/responses/*.parquet")) and time.monotonic() < until:
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, errors = process.communicate(timeout=100)
        assert process.returncode != 0
        assert "SIGKILL" in errors or "Signal 9" in errors
        assert not [pid for pid in children if Path(f"/proc/{pid}/cmdline").exists()]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("adapter: ") == 1
    assert result.stdout.count("prompts: 150 prompts read, 150 kept, 0 dropped") == 1
    assert written(tmp_path / "run") == written(expected)
