"""Mixtures of experts: what a new adapter changes, what PEFT makes of it, and what the experts weigh in a plan."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, MixtralConfig, PretrainedConfig, Qwen3MoeConfig

from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import LanguageModel, Lora
from nashward.llm.config.plan import Demand
from nashward.llm.planner import cost
from nashward.llm.planner.plan import plan
from nashward.llm.policy.base.experts import Experts
from nashward.llm.policy.base.targets import lora_targets
from nashward.llm.policy.logprobs import sequence_logprobs

from ... import tiny
from ...tiny_run import short_run

PROMPT, RESPONSE = [0, 50, 60, 70], [40, 41, 42, 43, 6]
ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]
KINDS = ["qwen3", "mixtral"]


def _config(kind: str, **sizes: Any) -> PretrainedConfig:
    shape: dict[str, Any] = {
        "vocab_size": len(tiny.tokenizer()), "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 0,
        "eos_token_id": [1, 6], "pad_token_id": None, "initializer_range": 0.2, "num_experts_per_tok": 2, **sizes,
    }  # fmt: skip
    if kind == "mixtral":
        return MixtralConfig(**shape, num_local_experts=4)
    return Qwen3MoeConfig(**{**shape, "num_experts": 4, "moe_intermediate_size": 32, "head_dim": 16})


@pytest.fixture(scope="module", params=KINDS)
def mixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(_config(request.param)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def _stir(model: LanguageModel, folder: Path) -> Path:
    """Save the adapter as a training might have left it."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.network.named_parameters():
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    model.save(folder)
    return folder


def _ours(model: LanguageModel, folder: Path) -> float:
    with model.use_adapter(folder) as network:
        return float(sequence_logprobs(network, [PROMPT], [RESPONSE], model.pad_id))


def _of_peft(base: Any, folder: Path) -> float:
    with torch.no_grad():
        logits = PeftModel.from_pretrained(base, str(folder)).eval()(torch.tensor([PROMPT + RESPONSE])).logits
    chosen = logits[0, len(PROMPT) - 1 : -1].double().log_softmax(-1)
    return float(chosen[range(len(RESPONSE)), RESPONSE].sum())


@pytest.mark.parametrize("quantise", [False, True])
def test_an_own_adapter_loads_again_and_is_peft_s(mixture: Path, quantise: bool, tmp_path: Path) -> None:
    """In the model that made it, in slots of its shape, in larger ones, and in PEFT on the same base."""
    model = LanguageModel.from_pretrained(mixture, lora=Lora(rank=3), quantise=quantise)
    model.write_start_adapter(tmp_path / "start", None)
    folder = _stir(model, tmp_path / "own")
    expected = _ours(model, folder)
    assert abs(expected - _ours(model, tmp_path / "start")) > 0.1
    again = LanguageModel.from_pretrained(mixture, folder, quantise=quantise)
    assert _ours(again, folder) == expected
    large = LanguageModel.from_pretrained(mixture, lora=Lora(rank=5), quantise=quantise)
    assert _ours(large, folder) == pytest.approx(expected, abs=1e-5)
    base = LanguageModel.from_pretrained(mixture, quantise=True).network.unload() if quantise else None
    assert _of_peft(base or AutoModelForCausalLM.from_pretrained(mixture, dtype=torch.float32), folder) == (
        pytest.approx(expected, abs=1e-5)
    )
    with again.training(folder) as weights:
        sequence_logprobs(again.network, [PROMPT], [RESPONSE], again.pad_id).sum().backward()
        assert all(weight.grad is not None and bool(weight.grad.abs().max() > 0) for weight in weights)


def test_experts_and_router_get_no_adapter_and_stay_in_the_precision_that_is_said(
    mixture: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "nashward"):
        model = LanguageModel.from_pretrained(mixture, quantise=True)
    (message,) = [record.getMessage() for record in caplog.records if "experts" in record.getMessage()]
    size = Experts.of(model.network.get_base_model()).size
    assert f"{size / 2**30:.3g} GiB" in message
    assert "float32" in message
    adapted = {name for name, module in model.network.named_modules() if isinstance(module, LoraLayer)}
    assert {name.rpartition(".")[2] for name in adapted} == set(ATTENTION)
    weights = dict(model.network.get_base_model().named_parameters())
    experts = {name: weight for name, weight in weights.items() if ".experts." in name}
    assert size == sum(weight.nbytes for weight in experts.values()) > 0
    assert {weight.dtype for weight in experts.values()} == {torch.float32}
    assert {w.dtype for name, w in weights.items() if "self_attn" in name and "base_layer" in name and w.ndim == 2} == {
        torch.uint8
    }
    model.save(tmp_path / "own")
    config = json.loads((tmp_path / "own" / "adapter_config.json").read_text())
    assert config["target_modules"] == ATTENTION
    assert not config["target_parameters"]
    assert not config["rank_pattern"]
    caplog.clear()
    LanguageModel.from_pretrained(mixture, quantise=False)
    assert not [record for record in caplog.records if "experts" in record.getMessage()]


def test_a_run_trains_evaluates_and_answers(mixture: Path, tmp_path: Path) -> None:
    run = short_run(mixture, tmp_path / "run", iterations=1).run()
    prompts = tmp_path / "p.txt"
    prompts.write_text("Hello")
    for adapter in (run.last, tmp_path / "run" / "mixture.json"):
        out = tmp_path / f"{adapter.stem}.jsonl"
        files = ["--policy", str(mixture), "--adapter", str(adapter), "--prompts", str(prompts), "--out", str(out)]
        assert main(["answer", *files, "--max-new-tokens", "4"]) == 0
        assert len(out.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "targets",
    ["all-linear", ["q_proj", "gate"], r".*(q_proj|gate)", ["w1", "w2", "w3"], ["gate_proj", "up_proj", "down_proj"]],
    ids=str,
)
def test_an_adapter_of_experts_or_of_the_router_is_refused_before_weights_are_read(
    targets: Any, mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PEFT makes it of these targets; names of another family's experts PEFT does not find itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = AutoModelForCausalLM.from_pretrained(mixture, dtype=torch.float32)
        try:
            network = get_peft_model(base, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM"))
        except ValueError:
            return
        network.save_pretrained(str(tmp_path / "mine"))

    def load(*given: Any, **named: Any) -> None:
        raise AssertionError("weights are read")

    monkeypatch.setattr("nashward.llm.policy.model.load_base", load)
    with pytest.raises(NashwardError, match=r"mine .*(target_parameters|experts or the router|lora_A)"):
        LanguageModel.from_pretrained(mixture, tmp_path / "mine")


def test_an_adapter_of_attention_from_elsewhere_is_read_as_peft_reads_it(mixture: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(mixture, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 2})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = get_peft_model(base, config)
        for weight in (p for p in network.parameters() if p.requires_grad):
            weight.data += 0.05 * torch.randn(weight.shape)
    network.save_pretrained(str(tmp_path / "mine"))
    model = LanguageModel.from_pretrained(mixture, tmp_path / "mine", quantise=False)
    fresh = AutoModelForCausalLM.from_pretrained(mixture, dtype=torch.float32)
    assert _ours(model, tmp_path / "mine") == pytest.approx(_of_peft(fresh, tmp_path / "mine"), abs=1e-5)


def _small(kind: str) -> PretrainedConfig:
    shape: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": None, "eos_token_id": 1,
        "num_experts_per_tok": 2,
    }  # fmt: skip
    thin, heads = {"moe_intermediate_size": 16}, {"head_dim": 16}
    latent = {
        "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
        "n_group": 1, "topk_group": 1,
    }  # fmt: skip
    more: dict[str, Any] = {
        "Mixtral": {"num_local_experts": 4},
        "Qwen2Moe": {"num_experts": 4, "shared_expert_intermediate_size": 16, "mlp_only_layers": [0], **thin},
        "Qwen3Moe": {"num_experts": 4, **thin, **heads},
        "Olmoe": {"num_experts": 4},
        "DeepseekV3": {"n_routed_experts": 4, "first_k_dense_replace": 1, **thin, **latent},
        "GraniteMoe": {"num_local_experts": 4},
        "Phimoe": {"num_local_experts": 4},
        "Glm4Moe": {"n_routed_experts": 4, "first_k_dense_replace": 1, **thin, **heads},
        "Llama4Text": {"num_local_experts": 4, "intermediate_size_mlp": 32, "interleave_moe_layer_step": 1, **heads},
        "Llama": {},
    }
    return getattr(transformers, f"{kind}Config")(**shape, **more[kind])


@pytest.mark.parametrize(
    ("kind", "blocks"),
    [
        ("Mixtral", 2), ("Qwen2Moe", 1), ("Qwen3Moe", 2), ("Olmoe", 2), ("DeepseekV3", 1), ("GraniteMoe", 2),
        ("Phimoe", 2), ("Glm4Moe", 1), ("Llama4Text", 2),
    ],
)  # fmt: skip
def test_of_each_family_a_new_adapter_changes_attention_alone(kind: str, blocks: int) -> None:
    with torch.device("meta"):
        base: Any = AutoModelForCausalLM.from_config(_small(kind), dtype=torch.bfloat16)
    experts = Experts.of(base)
    assert experts.size == 2 * experts.parameters >= 2 * blocks * 4 * 3 * 32 * 16
    assert 0 < experts.share < 1
    network = get_peft_model(base, LoraConfig(r=2, target_modules=lora_targets(base)), low_cpu_mem_usage=True)
    adapted = [name for name, module in network.named_modules() if isinstance(module, LoraLayer)]
    assert len(adapted) >= 2 * 4
    assert all(".self_attn." in name for name in adapted)


def test_a_model_without_experts_keeps_all_its_linear_layers() -> None:
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(_small("Llama"))
    assert lora_targets(base) == "all-linear"
    assert Experts.of(base) == Experts()


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_runs_by_shape_and_counts_the_experts(kind: str) -> None:
    """As weights in 16 bits, against the loaded model's; in time by those that a token passes and a batch reads."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "vocab_size": 1024}
    demand = Demand(prompt_tokens=16, new_tokens=16, sampling_batch=1, tokens=32)
    found = plan(_config(kind, **sizes), 4 * 2**30, demand)
    with torch.device("meta"):
        base: Any = AutoModelForCausalLM.from_config(_config(kind, **sizes), dtype=torch.bfloat16)
    experts = sum(p.nbytes for name, p in base.named_parameters() if ".experts." in name)
    assert found.experts == Experts(experts, experts // 2, 0.5)
    assert found.fits
    assert found.phases["training"].weights > experts
    other = _config(kind, **sizes, num_experts_per_tok=4)
    assert cost.seconds(plan(other, 4 * 2**30, demand))["training"] > cost.seconds(found)["training"]
    assert found.experts.read(1) == experts / 2
    assert found.experts.read(100) == pytest.approx(experts)


def test_a_plan_that_does_not_fit_says_what_the_experts_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 32768, "num_hidden_layers": 1}
    _config("mixtral", **sizes).save_pretrained(tmp_path)
    experts = 4 * 3 * 1024 * 32768 * 2 / 2**30
    assert main(["plan", "--policy", str(tmp_path), "--memory", "1GiB", "--max-new-tokens", "8"]) == 2
    captured = capsys.readouterr()
    assert f"experts: {experts:.2f} GiB" in captured.out
    assert f"experts alone take {experts:.2f} GiB" in captured.err
