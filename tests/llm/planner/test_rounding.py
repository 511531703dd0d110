"""What 4 bits change of a base is measured, and whether it is quantised is decided by the device and its memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import llm
from nashward.cli.main import main
from nashward.llm import LanguageModel, Prompt
from nashward.llm.planner import rounding as module
from nashward.llm.planner.rounding import rounding
from nashward.llm.policy.base import weights
from nashward.llm.policy.sampling import sample
from nashward.llm.store.files import read_jsonl

from ..tiny_run import changed, short_run

WORDS = ("Hello there", "Say three things", "Why?")


@pytest.fixture(autouse=True)
def short_rounding() -> None:
    """Here it is measured in full."""


@pytest.fixture(scope="module")
def policies() -> list[LanguageModel]:
    return [LanguageModel.from_pretrained(llm.pocket.POLICY, device="cpu", quantise=bits) for bits in (True, False)]


def _prompts(model: LanguageModel) -> list[list[int]]:
    return [model.encode(Prompt(({"role": "user", "content": text},))) for text in WORDS]


def test_it_is_the_divergence_of_next_tokens_on_what_the_rounded_base_says(policies: list[LanguageModel]) -> None:
    rounded, exact = policies
    prompts = _prompts(rounded)
    found = rounding(rounded, llm.pocket.POLICY, prompts, seed=3)
    assert found is not None
    rounded.activate("frozen")
    with torch.no_grad():
        drawn = sample(rounded, prompts, [[3], [4], [5]], llm.Sampling(max_new_tokens=32))
        divergences, same = [], []
        for prompt, (response,) in zip(prompts, drawn, strict=True):
            for end in range(len(response.ids)):
                ids = torch.tensor([[*prompt, *response.ids[:end]]])
                one, other = (m.network(input_ids=ids).logits[0, -1].log_softmax(-1) for m in (exact, rounded))
                divergences.append(torch.nn.functional.kl_div(other, one, log_target=True, reduction="sum"))
                same.append(bool(one.argmax() == other.argmax()))
    assert found.tokens == len(divergences)
    assert found.kl == pytest.approx(float(torch.stack(divergences).mean()), rel=1e-3)
    assert found.agreement == pytest.approx(sum(same) / len(same))
    assert found.kl > 1e-5


def test_of_a_base_that_is_not_rounded_it_is_nothing(policies: list[LanguageModel]) -> None:
    found = rounding(policies[1], llm.pocket.POLICY, _prompts(policies[1]), seed=0)
    assert found is not None
    assert found.kl == pytest.approx(0, abs=1e-9)
    assert found.agreement == 1


def test_its_own_weights_are_not_read_where_memory_is_short(
    policies: list[LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "host_memory", lambda free: 10**6)
    assert rounding(policies[0], llm.pocket.POLICY, _prompts(policies[0]), seed=0) is None


@pytest.mark.parametrize(("memory", "quantised"), [(10**9, False), (7 * 10**6, True)])
def test_on_a_cpu_a_base_is_in_4_bits_where_it_takes_over_half_of_the_memory(
    memory: int, quantised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "host_memory", lambda: memory)
    model = LanguageModel.from_pretrained(llm.pocket.POLICY, device="cpu")
    base: Any = model.network.get_base_model()
    assert base.model.layers[0].mlp.up_proj.weight.dtype == (torch.uint8 if quantised else torch.float32)


def test_a_run_says_it_once_and_keeps_its_precision(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another machine would choose another precision: the run goes on in its own."""
    monkeypatch.setattr(module, "MUCH", 0.0)
    folder = tmp_path / "run"
    play = short_run(tiny_folder, folder, iterations=1, quantise=True)
    play.run(progress=False)
    changed(play, iterations=2, quantise=None).run(progress=False)
    events = [event["rounding"] for event in read_jsonl(folder / "events.jsonl") if "rounding" in event]
    assert len(events) == 1
    assert events[0]["kl"] > 0
    assert sum("--no-quantise" in record.getMessage() for record in caplog.records) == 1
    assert json.loads((folder / "run.json").read_text())["config"]["quantise"] is True
    with pytest.raises(ValueError, match="quantise True there, False now"):
        changed(play, iterations=3, quantise=False).run(progress=False)


def test_a_run_on_a_cpu_is_not_in_4_bits_by_itself(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Hello\nHi\n")
    assert main([
        "align", "--policy", str(tiny_folder), "--oracle", "nashward.llm.oracles:Length", "--prompts",
        str(tmp_path / "p.txt"), "--out", str(tmp_path / "run"), "--iterations", "1", "--responses", "2",
        "--max-new-tokens", "4", "--quiet",
    ]) == 0  # fmt: skip
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["quantise"] is torch.cuda.is_available()
