"""A real server: ``transformers serve``, with the small chat model of the project as a judge."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nashward.errors import EndpointError
from nashward.llm import pocket
from nashward.llm.clients.chat import Chat
from nashward.llm.clients.client import Client
from nashward.llm.config import Endpoint, JudgeSettings
from nashward.llm.oracles import EndpointJudge, preference_matrices

NEEDED = ("fastapi", "uvicorn", "openai", "rich")  # transformers[serving]
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
ANY_WORD = """{% set answer = "(?i)\\b(a|i)\\b" %}{% set first, second = "a", "i" %}
{{ prompt }} {{ response_a }} {{ response_b }}"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"needs {', '.join(MISSING)}, which pip install transformers[serving] brings"
    ),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as file:
        server = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, "HF_HUB_OFFLINE": "1"}, start_new_session=True
        )
    try:
        for _ in range(600):
            if server.poll() is not None:
                pytest.fail(f"it ended before it served: {log.read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        else:
            pytest.fail(log.read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def test_it_writes_as_it_is_called(url: str) -> None:
    chat = Chat(Client(url, Endpoint(retries=1)), str(pocket.POLICY))
    outputs = [chat.complete([{"role": "user", "content": "Name a river."}], 8, 0.0, 1) for _ in range(2)]
    assert outputs[0].text
    assert outputs[0] == outputs[1]
    assert outputs[0].written <= 9
    assert outputs[0].tokens is None


def test_votes_in_text(url: str, tmp_path: Path) -> None:
    """It knows no n and no log-probabilities: n votes are n calls, and the letter protocol says so."""
    file = tmp_path / "word.jinja"
    file.write_text(ANY_WORD)
    endpoint = Endpoint(retries=1, concurrency=2)
    settings = JudgeSettings(base_url=url, protocol=str(file), votes=3, max_tokens=24)
    judge = EndpointJudge(str(pocket.POLICY), settings, endpoint)
    prompts = ["Name a river.", "Why is the sky blue?"]
    results = preference_matrices(judge, prompts, [["The Rhine.", "The Nile."]] * 2, cache=tmp_path / "j.sqlite")
    assert judge.budget.spent.calls == 2 * 2 * 3
    judged = [result.P[0, 1] for result in results]
    assert all(np.isnan(p) or 0 < p < 1 for p in judged)
    letter = EndpointJudge(str(pocket.POLICY), JudgeSettings(base_url=url, protocol="letter"), endpoint)
    with pytest.raises(EndpointError, match="log-probabilities"):
        preference_matrices(letter, prompts[:1], [["The Rhine.", "The Nile."]])
