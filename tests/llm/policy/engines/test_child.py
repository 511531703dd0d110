"""vLLM as a child of the run: a stand-in for it that starts, dies, hangs and draws as the test's own server does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from nashward.cli.main import main
from nashward.errors import EndpointError, MissingPackageError, NashwardError
from nashward.llm import LanguageModel, Lora, RunConfig
from nashward.llm.clients.client import Client
from nashward.llm.config import Endpoint, Sampling
from nashward.llm.policy import memory
from nashward.llm.policy.engines import child, watchdog
from nashward.llm.policy.engines.child import KEY, ChildServer
from nashward.llm.policy.engines.vllm import VLLM, python_with_vllm, served_rank
from nashward.llm.run import executor
from nashward.llm.run.stages.sample import vllm_program
from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder

from ...clients.scripted import Script, serve, shorter
from ...run.test_ranks_served import align, by_ranks
from ...tiny_run import quick_run
from . import fake_vllm
from .test_engine import Engine

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="vLLM does not run on Windows")


class Fake:
    """The stand-in, and what it has noted of its starts."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = home / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{fake_vllm.__file__}" "$@"\n')
        self.python.chmod(0o755)

    @property
    def starts(self) -> list[dict[str, Any]]:
        file = self.home / "starts.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def alive(self, start: int = -1) -> list[int]:
        """Which of the processes of a start are there."""
        found = []
        for pid in self.starts[start]["pids"]:
            with suppress(psutil.NoSuchProcess):  # it may end between two looks
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    found.append(pid)
        return found

    def wait_for(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake(tmp_path / "fake")
    monkeypatch.setenv("FAKE_HOME", str(fake.home))
    for name in ("FAKE_VLLM", KEY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(child, "PAUSE", 0.02)
    yield fake
    for start in range(len(fake.starts)):
        assert fake.alive(start) == []


@pytest.fixture
def server(fake: Fake, tmp_path: Path) -> Iterator[ChildServer]:
    server = ChildServer(VLLM(str(fake.python), "model"), tmp_path / "vllm.log")
    yield server
    server.stop()


def test_it_starts_answers_and_stops(server: ChildServer, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    with serve(Script(shorter, route=lambda path, body: (200, {"data": [{"id": "base"}]}))) as script:
        monkeypatch.setenv("FAKE_DRAWS", script.url)
        client = server.client(Endpoint())
        assert client.get("/models")["data"][0]["id"] == "base"
        assert len(fake.alive()) == 2
        (start,) = fake.starts
        first = os.environ[KEY]
        assert start["environment"]["VLLM_API_KEY"] == first
        assert not any(first in word for word in start["words"])
        assert first not in server.log.read_text()
        assert (start["environment"]["RANK"], start["environment"]["PYTHONPATH"]) == (None, None)
        words = start["words"]
        assert words[words.index("--host") + 1] == "127.0.0.1"
        assert len(first) > 40
        with pytest.raises(EndpointError, match="401"):
            Client(server.url, Endpoint(key_variable="ANOTHER_KEY")).get("/models")
        server.stop()
        assert fake.alive() == []
        server.start()
        assert len(fake.starts) == 2
        assert server.client(Endpoint()).get("/models")


def test_one_that_ignores_the_signal_is_killed(
    server: ChildServer, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Path(watchdog.__file__).read_text().replace("GRACE = 10.0", "GRACE = 0.2")
    assert "GRACE = 0.2" in quick
    (fake.home / "watchdog.py").write_text(quick)
    monkeypatch.setattr(watchdog, "__file__", str(fake.home / "watchdog.py"))
    monkeypatch.setenv("FAKE_VLLM", "ignores SIGTERM")
    server.start()
    server.stop()
    assert fake.alive() == []


def test_one_that_dies_at_its_start(server: ChildServer, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "dies at start")
    with pytest.raises(EndpointError) as error:
        server.start()
    for part in (
        "code 3",
        "ValueError: the length is beyond the model's",
        "and more",
        "RuntimeError: see above",
        "vllm.log",
    ):
        assert part in str(error.value)
    assert "OSError" not in str(error.value)
    assert fake.alive() == []  # what it had started too


def test_one_that_never_answers(server: ChildServer, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LONGEST", 0.6)
    monkeypatch.setenv("FAKE_VLLM", "never healthy")
    with pytest.raises(EndpointError, match=r"vllm\.log"):
        server.start()
    assert fake.alive() == []


def test_one_that_dies_between_calls_fails_the_next_one_at_once(server: ChildServer, fake: Fake) -> None:
    client = server.client(Endpoint(retries=50))
    os.kill(fake.starts[0]["pids"][0], signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(EndpointError, match="code 137"):
        client.get("/models")
    assert time.monotonic() - began < 20  # 50 tries would take half an hour
    assert fake.alive() == []


PARENT = """
import sys
from pathlib import Path
from nashward.llm.policy.engines.child import ChildServer
from nashward.llm.policy.engines.vllm import VLLM

server = ChildServer(VLLM(sys.argv[1], "model"), Path(sys.argv[2]))
if sys.argv[3] == "answers":
    server.start()
print("started", flush=True)
if sys.argv[3] == "answers":
    sys.stdin.read()
else:
    server.start()
"""


@pytest.mark.parametrize("state", ["answers", pytest.param("starts", marks=pytest.mark.slow)])
def test_it_does_not_outlive_its_parent(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    if state == "starts":
        monkeypatch.setenv("FAKE_VLLM", "slow")
    words = [sys.executable, "-c", PARENT, str(fake.python), str(tmp_path / "vllm.log"), state]
    parent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    fake.wait_for(lambda: fake.starts)
    assert len(fake.alive()) == 2
    parent.kill()
    parent.wait()
    fake.wait_for(lambda: fake.alive() == [])
    parent.stdout.close()
    assert parent.stdin is not None
    parent.stdin.close()


def test_a_run_starts_one_for_each_drawing_and_trains_without_it(
    tiny_folder: Path, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_training: list[list[int]] = []
    train = executor.TrainStage.run

    def noted(self: Any) -> None:
        at_training.append([pid for start in range(len(fake.starts)) for pid in fake.alive(start)])
        train(self)

    monkeypatch.setattr(executor.TrainStage, "run", noted)
    settings = {"iterations": 2, "engine": "vllm", "engine_python": str(fake.python)}
    engine = Engine(tiny_folder)
    with serve(Script(shorter, route=engine)) as script:
        monkeypatch.setenv("FAKE_DRAWS", script.url)
        quick_run(tiny_folder, tmp_path / "run", **settings, engine_options="--seed 5").run(progress=False)
        by_url = quick_run(tiny_folder, tmp_path / "by-url", iterations=2, engine=script.url)
        by_url.run(progress=False)
    assert len(fake.starts) == 2
    assert at_training[:2] == [[], []]
    assert len(engine.adapters) == 2  # the start's, and the first iterate's
    words = fake.starts[0]["words"]
    given = {name: words[words.index(name) + 1] for name in ("--model", "--max-model-len", "--max-lora-rank", "--seed")}
    assert given == {
        "--model": str(tiny_folder.resolve()), "--max-model-len": "518", "--max-lora-rank": "8", "--seed": "5"
    }  # fmt: skip
    assert fake.starts[0]["environment"]["HF_HUB_OFFLINE"] == "1"
    key = fake.starts[0]["environment"]["VLLM_API_KEY"]
    written = [file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert not any(key.encode() in content for content in written)
    for step, policy in (("iteration-01", "start"), ("iteration-02", "iteration-01")):
        drawn, expected = (
            [row for file in shards(tmp_path / run / step / "responses", policy) for row in read_shard(file)]
            for run in ("run", "by-url")
        )
        assert drawn == expected


@pytest.mark.slow
def test_of_several_processes_each_starts_its_own(
    tiny_folder: Path, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Script(shorter, route=Engine(tiny_folder))) as script:
        monkeypatch.setenv("FAKE_DRAWS", script.url)
        words = align(tiny_folder, tmp_path, "nashward.llm.oracles:Length", "--engine", "vllm", "--engine-python",
                      fake.python, "--out", tmp_path / "run", "--sampling-batch", 2, prompts=66)  # fmt: skip
        ranks = by_ranks(2, words, tmp_path / "ranks")
    assert set(ranks.codes.values()) == {0}, ranks.output()
    assert len(fake.starts) == 2
    assert len({start["environment"]["VLLM_API_KEY"] for start in fake.starts}) == 2
    assert {start["environment"]["RANK"] for start in fake.starts} == {None}
    assert {file.name for file in (tmp_path / "run").glob("vllm*.log")} == {"vllm.log", "vllm-1.log"}
    assert len(shards(tmp_path / "run" / "iteration-01" / "responses", "start")) == 2


def test_one_that_dies_while_it_draws(
    tiny_folder: Path, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"iterations": 1, "engine": "vllm", "engine_python": str(fake.python)}
    with serve(Script(shorter, route=Engine(tiny_folder))) as script:
        monkeypatch.setenv("FAKE_DRAWS", script.url)
        monkeypatch.setenv("FAKE_VLLM", "dies while drawing")
        with pytest.raises(EndpointError, match="EngineDeadError: the card is gone"):
            quick_run(tiny_folder, tmp_path / "run", **settings).run(progress=False)
        assert fake.alive() == []
        monkeypatch.delenv("FAKE_VLLM")
        run = quick_run(tiny_folder, tmp_path / "run", **settings).run(progress=False)  # the same command goes on
    assert run.metrics[-1]["iteration"] == "iteration-01"


@pytest.mark.slow
def test_a_signal_while_it_starts_ends_it(
    tiny_folder: Path, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "slow")
    (tmp_path / "prompts.txt").write_text("One?\nTwo?\nThree?\n")
    words = ["align", "--policy", tiny_folder, "--oracle", "nashward.llm.oracles:Length", "--no-quantise",
             "--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "run", "--responses", 2, "--rank", 2,
             "--max-new-tokens", 4, "--engine", "vllm", "--engine-python", fake.python]  # fmt: skip
    program = [sys.executable, "-m", "nashward", *map(str, words)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True, preexec_fn=_interruptible)  # fmt: skip
    fake.wait_for(lambda: fake.starts, 60)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "vllm.log" in output
    assert fake.alive() == []


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_python_that_has_none(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert python_with_vllm(fake.python) == str(fake.python)
    with pytest.raises(MissingPackageError, match="--engine-python"):
        python_with_vllm(None)
    monkeypatch.setattr("nashward.llm.policy.engines.vllm.find_spec", lambda name: name)
    assert python_with_vllm(None) == sys.executable
    with pytest.raises(NashwardError, match="no program"):
        python_with_vllm(tmp_path / "nothing")
    with pytest.raises(NashwardError, match="as a Python"):
        python_with_vllm("/bin/echo")
    monkeypatch.setenv("FAKE_VLLM", "no vllm")
    with pytest.raises(MissingPackageError, match="pip install vllm"):
        python_with_vllm(fake.python)


def test_settings_of_it(tiny_folder: Path, fake: Fake) -> None:
    for wrong in (
        {"engine_python": "python"}, {"engine_options": "--seed 1"}, {"engine": "vllm", "engine_model": "x"},
        {"engine": "vllm", "engine_options": "--api-key=secret"}, {"engine": "vllm", "engine_options": "--port 1"},
        {"engine": "vllm", "engine_options": "'open"}, {"engine": "vLLM"},
        {"engine": "vllm", "mixtures": "token-level"},
    ):  # fmt: skip
        with pytest.raises(NashwardError, match="engine") as error:
            RunConfig(**wrong)  # type: ignore[arg-type]
        assert "secret" not in str(error.value)
    settings: dict[str, Any] = {"engine": "vllm", "engine_python": str(fake.python)}
    config = RunConfig(**settings, max_prompt_tokens=100, sampling=Sampling(max_new_tokens=28, batch=7))
    program = vllm_program(config, tiny_folder, None)
    assert program is not None
    assert (program.options["max-model-len"], program.options["max-num-seqs"]) == (128, 7)
    assert program.options["max-lora-rank"] == served_rank(config.lora.rank)
    model = LanguageModel.from_pretrained(tiny_folder, lora=Lora(rank=2), quantise=False)
    with pytest.raises(NashwardError, match="folder"):
        vllm_program(config, model, None)
    with pytest.raises(NashwardError, match="512"):
        vllm_program(RunConfig(**settings, lora=Lora(rank=600)), tiny_folder, None)


def test_its_share_of_a_card_is_what_is_free_of_the_one_that_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VLLM("python", "model", share=lambda: None).command(1).count("--gpu-memory-utilization") == 0
    words = VLLM("python", "model", share=lambda: 0.81234, more=["--gpu-memory-utilization", "0.5"]).command(1)
    assert [words[k + 1] for k, word in enumerate(words) if word == "--gpu-memory-utilization"] == ["0.812", "0.5"]
    monkeypatch.setattr(memory.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(memory.torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(memory.torch.cuda, "mem_get_info", lambda: (memory.OWN + (6 << 30), 24 << 30))
    assert memory.free_share() == 0.25
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "4,7"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(memory.torch.cuda, "current_device", lambda: 1)
    program = VLLM("python", "model")
    assert program.environment("key")["CUDA_VISIBLE_DEVICES"] == "7"  # this process's, of two
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert program.environment("key")["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_run_folder_from_elsewhere_starts_no_program_of_its_own(
    tiny_folder: Path, fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "run"
    by_name = quick_run(tiny_folder, home, iterations=1, oracle="nashward.llm.oracles:Length")
    by_name.run("sample", progress=False)
    trace, planted = tmp_path / "trace", tmp_path / "planted"
    planted.write_text(f"#!/bin/sh\necho vllm | tee {trace}\n")
    planted.chmod(0o755)
    received = RunFolder(home)
    named = {"engine": "vllm", "engine_python": str(planted), "engine_options": "--middleware planted"}
    received.write({**received.read()["config"], **named}, {})
    assert main(["sample", "--out", str(home), "--policy", str(tiny_folder)]) == 2
    assert "--engine-python" in capsys.readouterr().err
    assert not trace.exists()
