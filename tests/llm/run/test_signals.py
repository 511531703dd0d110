"""Signals, a full and a read-only disk: a clear last line, the exit code, and a run that goes on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nashward.cli.main import main
from nashward.llm.run import executor, signals
from nashward.llm.run.stages import refit
from nashward.llm.store import files
from nashward.llm.store.files import shards
from nashward.llm.store.run_folder import RunFolder
from nashward.llm.training.batches import MicroBatch
from nashward.llm.training.gradient import Gradient

PROMPTS = [f"Say {i} things{'!' * (i % 4)}" for i in range(10)]


def _result(home: Path) -> dict[str, bytes]:
    return {str(file.relative_to(home)): file.read_bytes() for file in home.glob("iteration-*/**/*") if file.is_file()}


@pytest.fixture(autouse=True)
def foreground() -> Iterator[None]:
    """SIGINT is handled: processes that a shell starts in the background ignore it, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    prompts = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    prompts.write_text("".join(f"Tell me {i}.\n" for i in range(70)))
    return [
        "align", "--policy", str(tiny_folder), "--no-quantise", "--oracle", "nashward.llm.oracles:Length",
        "--prompts", str(prompts), "--iterations", "1", "--responses", "2", "--max-new-tokens", "6", "--epochs", "1",
        "--batch", "8", "--rank", "2",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def expected(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run without interruption."""
    home = tmp_path_factory.mktemp("whole") / "run"
    assert main([*settings, "--out", str(home)]) == 0
    return _result(home)


@pytest.fixture
def command(settings: list[str], tmp_path: Path) -> list[str]:
    return [*settings, "--out", str(tmp_path / "run")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("phase", ["sampling start", "training"])
def test_a_signal_stops_after_the_shard_and_the_command_goes_on(
    number: signal.Signals, code: int, phase: str, command: list[str], expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    phase_of = executor.Progress.phase

    def signalled(self: Any, step: str, kind: str, what: str, *given: Any, **named: Any) -> Any:
        if f"{kind} {what}".rstrip() == phase:
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        return phase_of(self, step, kind, what, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(executor.Progress, "phase", signalled)
        assert main(command) == code
    error = capfd.readouterr().err
    assert f"{number.name}: stopping once the part under way is written; once more stops at once" in error
    assert (
        error.splitlines()[-1] == f"nashward: iteration-01: {phase}: stopped as requested; the same command continues"
    )
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    drawn = shards(tmp_path / "run" / "iteration-01" / "responses", "start")
    assert len(drawn) == (1 if phase == "sampling start" else 2)
    assert main(["status", str(tmp_path / "run")]) == 0
    assert "stopped, 0 of 1 iteration finished" in capfd.readouterr().out
    assert main(command) == 0
    assert _result(tmp_path / "run") == expected


def test_a_signal_ends_the_search_of_a_learning_rate_and_the_command_makes_it_again(
    command: list[str], expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """It ends before the next pass: a search takes minutes on a CPU."""
    home = RunFolder(tmp_path / "run")
    search, passes = refit.learning_rate, []

    class Counted(Gradient):
        def __call__(self, *given: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(*given)

    def counted(*given: Any) -> Any:
        passes.append(1)
        return logprobs(*given)

    def signalled(*given: Any) -> float:
        with monkeypatch.context() as patch:
            patch.setattr(MicroBatch, "logprobs", counted)
            return search(*given)

    logprobs = MicroBatch.logprobs
    with monkeypatch.context() as patch:
        patch.setattr(refit, "learning_rate", signalled)
        patch.setattr(refit, "Gradient", Counted)
        assert main(command) == 130
    assert "iteration-01: training: stopped as requested" in capfd.readouterr().err.splitlines()[-1]
    assert not passes
    assert "learning_rate" not in home.step_values("iteration-01")
    assert not (home / "iteration-01" / "training").exists()
    assert main(command) == 0
    assert home.step_values("iteration-01")["learning_rate"] > 0
    assert _result(tmp_path / "run") == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("when", ["policy", "oracle", "before"])
def test_the_first_signal_ends_the_loading_of_a_model(
    number: signal.Signals, code: int, when: str, command: list[str], expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Also one that came before the loading began. The same command goes on to the same result."""
    ended: list[str] = []

    def load(*given: Any, **named: Any) -> Any:
        ended.append("began")
        os.kill(os.getpid(), number)
        time.sleep(60)
        raise AssertionError("it went on loading")

    place = {
        "policy": "nashward.llm.policy.model.load_base", "oracle": "nashward.llm.run.run_setup.as_oracle",
        "before": "nashward.llm.policy.model.load_base",
    }[when]  # fmt: skip
    begun = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(place, load)
        if when == "before":
            check = executor.AdapterExecutor.start

            def start(self: Any, *given: Any) -> Any:
                os.kill(os.getpid(), number)
                return check(self, *given)

            patch.setattr(executor.AdapterExecutor, "start", start)
        try:
            found = main(command)
        except SystemExit as end:
            found = int(str(end.code))
    assert found == code
    assert time.monotonic() - begun < 30
    assert ended == ([] if when == "before" else ["began"])
    assert "the same command continues" in capfd.readouterr().err.splitlines()[-1]
    assert main(command) == 0
    assert _result(tmp_path / "run") == expected


def test_a_second_signal_stops_at_once_and_other_threads_do_not_listen() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals.stop_on_signals() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.event.wait(5)
        assert request.exit_code == 143
        with pytest.raises(SystemExit, match="143"):
            os.kill(os.getpid(), signal.SIGTERM)
    with signals.stop_on_signals() as request:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    handlers: list[Any] = []

    def elsewhere() -> None:
        with signals.stop_on_signals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [before]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_takes_no_more_at_any_write_costs_nothing(
    code: int, command: list[str], expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    real, left, stopped = files._sync, 0, 0

    def full(path: Path) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(code, os.strerror(code), str(path))
        real(path)

    monkeypatch.setattr(files, "_sync", full)
    for place in (2, 9, 15, 21, 40):
        capfd.readouterr()
        left = place
        if main(command) == 0:
            break
        stopped += 1
        last = capfd.readouterr().err.splitlines()[-1]
        assert last.startswith(f"nashward: {tmp_path / 'run'}")
        assert "and the same command continues" in last
        assert not list((tmp_path / "run").rglob("*.unfinished"))
    assert stopped >= 4
    monkeypatch.undo()
    assert main(command) == 0
    assert _result(tmp_path / "run") == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Mounts a file system of some KiB in memory; a function, which mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
        return place

    if shutil.which("mount") is None:
        pytest.skip("no mount command")
    yield mount
    while subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0:
        pass


def test_a_real_full_disk_and_a_real_read_only_one(
    small_disk: Callable[[str], Path], command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    run = small_disk("size=8k") / "run"
    command = [*command[:-1], str(run)]
    ends = []
    for size in (40, 120, 148, 230, 300, 460, 540, 20_000):
        small_disk(f"remount,size={size}k")
        capfd.readouterr()
        code = main(command)
        ends.append((code, capfd.readouterr().err.splitlines()[-1]))
        if code == 0:
            break
    assert len(ends) >= 4
    assert all("continues" in line for code, line in ends if code)
    assert ends[-1][0] == 0
    small_disk("remount,ro")
    capfd.readouterr()
    assert main(["status", str(run)]) == 0
    assert "finished, 1 of 1 iteration finished" in capfd.readouterr().out
    assert main(command) == 2
    assert "read-only" in capfd.readouterr().err.splitlines()[-1].lower()
