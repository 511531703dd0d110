"""A model card has the base, its licence, the data, the oracle, the equation, the figures and the limits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from nashward.cli.main import main
from nashward.llm import LanguageModel, Lora, Prompt
from nashward.llm.delivery.model_card import _method, _oracle, equation, licence_of, model_card
from nashward.llm.evaluation.evaluate import evaluate
from nashward.llm.oracles.ensembles.objectives import Combination
from nashward.llm.report.results import win_sentence
from nashward.llm.store.files import write_json

from .. import tiny_run


@pytest.mark.parametrize(
    ("base", "licence", "rule"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3.1", "Built with Llama"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3", "Built with Meta Llama 3"),
        ("google/gemma-3-4b-it", "gemma", "Terms"),
        ("Qwen/Qwen3-8B", "apache-2.0", ""),
        ("mistralai/Mistral-7B-Instruct-v0.2", "apache-2.0", ""),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0", ""),
        ("somebody/something", "", ""),
    ],
)
def test_licences(base: str, licence: str, rule: str) -> None:
    found = licence_of(base)
    assert found.licence == licence
    assert (rule in found.rule) == bool(found.rule or not rule)


def test_a_base_that_states_its_licence_is_read_first(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    assert licence_of("mistralai/Mistral-7B-Instruct-v0.2", str(tmp_path)).licence == "cc-by-4.0"


def test_the_equation_of_a_geometric_mixture_has_no_payoff() -> None:
    row = {"anchor": {"a": 0.75, "start": 0.25}, "opponent": None, "size": 0.0}
    assert equation(row) == "log next(y) = 0.75 log a(y) + 0.25 log start(y) + constant"


def test_the_oracle_of_a_card_is_all_that_judged() -> None:
    objectives = ["long=my:Long", "kind=my:Kind"]
    config = {"objective": objectives, "oracle": None, "combine": "floors", "correct": ["style:by=2"]}
    (line,) = _oracle({"config": config})
    for named in ("my:Long", "my:Kind", "floors", "corrected by style"):
        assert named in line
    assert "None" not in line


def test_a_card_of_a_run(tiny_folder: Path, tmp_path: Path) -> None:
    play = tiny_run.quick_run(tiny_folder, tmp_path / "run")
    play.run(progress=False)
    file = tmp_path / "README.md"
    command = ["export", str(tmp_path / "run"), "--to", "model-card", "--out", str(file)]
    assert main([*command, "--base-name", "meta-llama/Llama-3.1-8B-Instruct"]) == 0
    card = ModelCard.load(file)
    assert card.data.base_model == "meta-llama/Llama-3.1-8B-Instruct"
    assert card.data.license == "llama3.1"
    assert "Built with Llama" in card.content
    for told in ("10 prompts", "bytes above m", "P(y beats iteration-01)", "| iteration-02 |", "## Limits", "peft"):
        assert told in card.content
    row = play.run(progress=False).metrics[-1]
    assert f"{row['after']['kl_to_reference']:.3f} ± {row['after']['kl_to_reference_error']:.3f}" in card.content


def test_a_card_has_the_rank_of_the_adapter_that_the_run_began_from(tiny_folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    LanguageModel.from_pretrained(str(tiny_folder), lora=Lora(rank=3)).write_start_adapter(own, None)
    play = tiny_run.quick_run(tiny_folder, tmp_path / "run", iterations=1, adapter=str(own))
    play.run(progress=False)
    assert "a LoRA adapter of rank 3 " in model_card(play, "iteration-01")


def test_a_card_tells_nothing_of_a_policy_that_was_made_again(tiny_folder: Path, tmp_path: Path) -> None:
    play = tiny_run.quick_run(tiny_folder, tmp_path / "run")
    play.run(progress=False)
    evaluate(play, [Prompt(({"role": "user", "content": text},)) for text in tiny_run.PROMPTS[:4]])
    file = tmp_path / "run" / "evaluation.json"
    found = json.loads(file.read_text())
    lost = {"measure": "refusals lost", "threshold": 0.1, "value": 0.4, "standard_error": 0.01, "exceeded": True}
    write_json(file, {**found, "over_optimisation": {"iteration-02": [lost]}})
    measured = model_card(play, "iteration-02")
    assert win_sentence("iteration-02", "training", found) in measured
    assert "refusals lost" in measured
    faster = tiny_run.changed(play, fit=dataclasses.replace(play.config.fit, learning_rate=1e-2))
    faster.run(redo="train", progress=False)
    card = model_card(faster, "iteration-02")
    assert "old iteration-02" not in card
    assert "refusals lost" not in card
    assert "iteration-02 has not been evaluated since the run went on, or made a step again" in card
    assert win_sentence("iteration-01", "training", found) in card
    assert "not been evaluated" not in model_card(faster, "iteration-01")


def test_the_equation_of_several_objectives_has_the_terms_of_what_is_played_for() -> None:
    """Floors: those of the multipliers, against the start; the worst case: by the adversary's weights."""
    found = {"policy": "a", "multipliers": {"long": 0.75, "plain": 0.25}}
    row = {"anchor": {"a": 1.0}, "opponent": {"a": 2.0, "start": -1.0}, "size": 2.0, "objectives": found}
    names = ("long", "plain")
    floors = equation(row, Combination.read(names, "floors:plain=0.4"))
    assert "2 P_long(y beats a) - P_long(y beats start) + m_plain P_plain(y beats start)" in floors
    worst = equation(row, Combination.read(names, "worst-case"))
    assert "2 (0.75 P_long(y beats q) + 0.25 P_plain(y beats q))" in worst
    assert equation(row, Combination.read(names, "majority")) == equation(row)
    method = {"solver": {"name": "MWU"}, "fit": {"loss": "mirror", "epochs": 1}, "responses": 4}
    *_, said = _method({"config": {**method, "quantise": None}}, [row], Combination.read(names, "floors:plain=0.4"), 1)
    assert "0.25 for plain" in said
