"""Responses from a serving engine: a server by a script that draws with a copy of the policy."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward.errors import EndpointError, NashwardError
from nashward.llm import LanguageModel, Lora, RunConfig, Sampling
from nashward.llm.clients import client as client_module
from nashward.llm.config import Endpoint
from nashward.llm.policy.engines.engine import EngineSource
from nashward.llm.policy.handles import Adapter
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.sampling import GenerateSource

from ...clients.scripted import Script, faults, serve, shorter
from ...tiny_run import files, quick_run

PROMPT = [0, 4, 40, 41, 6, 5]
SAMPLING = Sampling(max_new_tokens=60)
SEEDS = list(range(8))


class Engine:
    """A server's engine: the base, and the adapters that were loaded by their paths."""

    def __init__(self, folder: Path) -> None:
        self.model = LanguageModel.from_pretrained(folder, lora=Lora(rank=2), quantise=True)
        self.adapters: dict[str, Path] = {}
        self.lock = threading.Lock()
        self.change: Callable[[dict[str, Any]], dict[str, Any]] = lambda choice: choice
        self.loads = True
        self.lists = True

    def __call__(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/models":
            return 200, {"data": [{"id": name} for name in ("base", *(self.adapters if self.lists else ()))]}
        if path == "/load_lora_adapter":
            if not self.loads:
                return 404, {"detail": "Not Found"}
            self.adapters[body["lora_name"]] = Path(body["lora_path"])
            return 200, b"Success: added."
        assert path == "/completions"
        with self.lock, self.model.use_adapter(self.adapters[body["model"]]), torch.no_grad():
            settings = Sampling(body["temperature"], body["top_p"], body["max_tokens"])
            ((response,),) = GenerateSource(settings).draw(self.model, [body["prompt"]], [[body["seed"]]])
            ids = list(response.ids)
            before = [[*body["prompt"], *ids[:k]] for k in range(len(ids))]
            scores = sequence_logprobs(self.model.network, before, [[y] for y in ids], 2).tolist()
        words = self.model.tokenizer
        choice = {
            "text": words.decode(ids, skip_special_tokens=False),
            "token_ids": ids,
            "finish_reason": "stop" if response.finished else "length",
            "stop_reason": ids[-1] if response.finished else None,
            "logprobs": {"tokens": [words.decode([y]) for y in ids], "token_logprobs": scores},
        }
        return 200, {"model": body["model"], "choices": [self.change(choice)]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.002)


@pytest.fixture
def engine(tiny_folder: Path) -> Engine:
    return Engine(tiny_folder)


@pytest.fixture
def script(engine: Engine) -> Iterator[Script]:
    with serve(Script(shorter, route=engine)) as script:
        yield script


@pytest.fixture
def adapter(tiny_folder: Path, tmp_path: Path) -> tuple[LanguageModel, Adapter]:
    model = LanguageModel.from_pretrained(tiny_folder, lora=Lora(rank=2), quantise=True)
    folder = tmp_path / "adapter"
    model.write_start_adapter(folder, None)
    return model, Adapter("start", folder)


def draw(script: Script, adapter: tuple[LanguageModel, Adapter], **settings: Any) -> list[Any]:
    model, policy = adapter
    source = EngineSource(script.url, SAMPLING, Endpoint(retries=8), **settings).of(policy)
    with model.use_adapter(policy.folder):
        (responses,) = source.draw(model, [PROMPT], [SEEDS])
    return responses


def test_the_responses_are_those_that_the_engine_drew(
    script: Script, engine: Engine, adapter: tuple[LanguageModel, Adapter], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nashward")
    events: list[dict[str, Any]] = []
    adapter[0].on_event = events.append
    responses = draw(script, adapter)
    with adapter[0].use_adapter(adapter[1].folder):
        (own,) = GenerateSource(SAMPLING).draw(adapter[0], [PROMPT], [SEEDS])
    assert responses == own  # of the same seeds, and the same policy
    assert {response.finished for response in responses} == {True, False}
    assert list(engine.adapters.values()) == [adapter[1].folder]
    assert events[0]["logprob_difference"] < 1e-5
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)
    draw(script, adapter)
    assert len(engine.adapters) == 1  # by its content: it is loaded once


def test_an_engine_that_keeps_its_stop_token(
    script: Script, engine: Engine, adapter: tuple[LanguageModel, Adapter]
) -> None:
    whole = draw(script, adapter)

    def without(choice: dict[str, Any]) -> dict[str, Any]:
        if choice["finish_reason"] == "stop":
            choice["token_ids"] = choice["token_ids"][:-1]
        return choice

    engine.change = without
    assert draw(script, adapter) == whole


@pytest.mark.slow
def test_text_that_encodes_to_its_own_tokens(
    script: Script, engine: Engine, adapter: tuple[LanguageModel, Adapter]
) -> None:
    def text_alone(choice: dict[str, Any]) -> dict[str, Any]:
        del choice["token_ids"]
        return choice

    def other_tokens(choice: dict[str, Any]) -> dict[str, Any]:
        choice["logprobs"]["tokens"] = choice["logprobs"]["tokens"][1:]
        return text_alone(choice)

    whole = draw(script, adapter)
    engine.change = text_alone
    if all("\ufffd" not in response.text for response in whole):
        assert draw(script, adapter) == whole
    else:  # bytes that are no text do not come back from it
        with pytest.raises(EndpointError, match="token ids"):
            draw(script, adapter)
    engine.change = other_tokens
    with pytest.raises(EndpointError, match="token ids"):
        draw(script, adapter)


@pytest.mark.parametrize(("shift", "said"), [(-0.2, "warned"), (-3.0, "refused")])
def test_another_model_is_seen_by_its_log_probabilities(
    script: Script, engine: Engine, adapter: tuple[LanguageModel, Adapter], shift: float, said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def shifted(choice: dict[str, Any]) -> dict[str, Any]:
        choice["logprobs"]["token_logprobs"] = [x + shift for x in choice["logprobs"]["token_logprobs"]]
        return choice

    engine.change = shifted
    if said == "refused":
        with pytest.raises(EndpointError, match="another model"):
            draw(script, adapter)
    else:
        draw(script, adapter)
        assert any("0.2 nats" in record.getMessage() and record.levelname == "WARNING" for record in caplog.records)


def test_an_engine_without_log_probabilities_is_warned_about(
    script: Script, engine: Engine, adapter: tuple[LanguageModel, Adapter], caplog: pytest.LogCaptureFixture
) -> None:
    engine.change = lambda choice: {**choice, "logprobs": None}
    draw(script, adapter)
    assert "no log-probabilities" in caplog.text


@pytest.mark.parametrize("ids", [[10**6], [-1], ["a"], "abc", [6, 7]])
def test_wrong_token_ids(script: Script, engine: Engine, adapter: tuple[LanguageModel, Adapter], ids: Any) -> None:
    engine.change = lambda choice: {**choice, "token_ids": ids}
    with pytest.raises(EndpointError):
        draw(script, adapter)


def test_adapters_that_cannot_be_loaded(script: Script, engine: Engine, adapter: tuple[LanguageModel, Adapter]) -> None:
    engine.lists = False
    with pytest.raises(EndpointError, match="does not list"):
        draw(script, adapter)
    engine.loads = False
    with pytest.raises(EndpointError, match="--enable-lora") as error:
        draw(script, adapter)
    assert "visible" in str(error.value)
    with pytest.raises(EndpointError, match="serves no other"):
        draw(script, adapter, served="other")


def test_settings() -> None:
    with pytest.raises(NashwardError) as error:
        RunConfig(engine="http://me:secret@host/v1")
    assert "secret" not in str(error.value)
    with pytest.raises(NashwardError, match="engine"):
        RunConfig(engine_model="base")
    with pytest.raises(NashwardError, match="fitted"):
        RunConfig(engine="http://host/v1", mixtures="token-level")


@pytest.mark.slow
def test_a_run_with_an_engine_that_fails_is_the_run_with_one_that_does_not(
    tiny_folder: Path, engine: Engine, tmp_path: Path
) -> None:
    folders = []
    for share in (0.0, 0.3):
        with serve(Script(shorter, faults(share, ("500", "cut", "death")), route=engine)) as script:
            folder = tmp_path / f"run-{share}" / "run"
            quick_run(tiny_folder, folder, iterations=2, engine=script.url).run(progress=False)
            folders.append(folder)
            engine.adapters.clear()
    first, second = ({k: v for k, v in files(f).items() if "events" not in k} for f in folders)
    assert sum(script.faults.values()) > 5
    assert {k for k in first if first[k] != second.get(k)} <= {"report.html"}
    assert set(first) == set(second)
    record = json.loads((folders[0] / "run.json").read_text())
    assert record["config"]["engine"] is not None
