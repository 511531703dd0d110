"""Which layers a new adapter changes, by the words of a user and by the names of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from nashward import llm
from nashward.errors import NashwardError
from nashward.llm.policy.base.targets import lora_targets

SHAPE: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
# by the architecture: the linear layers of a block of transformer that are attention's, and the others
LAYERS = {
    "Llama": ({"q_proj", "k_proj", "v_proj", "o_proj"}, {"gate_proj", "up_proj", "down_proj"}),
    "GPT2": ({"attn.c_attn", "attn.c_proj"}, {"mlp.c_fc", "mlp.c_proj"}),
    "GPTNeoX": (
        {"attention.query_key_value", "attention.dense"},
        {"mlp.dense_h_to_4h", "mlp.dense_4h_to_h"},
    ),
    "OPT": ({"q_proj", "k_proj", "v_proj", "out_proj"}, {"fc1", "fc2"}),
}
OWN = {"GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2}, "OPT": {"word_embed_proj_dim": 16, "ffn_dim": 32}}


def _model(kind: str) -> Any:
    config = getattr(transformers, f"{kind}Config")(**SHAPE, **OWN.get(kind, {}))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _adapted(base: Any, targets: str) -> set[str]:
    """The full names of the layers that PEFT gives an adapter, without PEFT's own prefix."""
    found = lora_targets(base, targets)
    network = get_peft_model(base, LoraConfig(r=2, target_modules=found, task_type="CAUSAL_LM"), low_cpu_mem_usage=True)
    names = {name for name, module in network.named_modules() if isinstance(module, LoraLayer)}
    return {name.removeprefix("base_model.model.") for name in names}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_attention_and_mlp_are_the_linear_layers_of_each_architecture(kind: str) -> None:
    attention, mlp = LAYERS[kind]
    found = {word: _adapted(_model(kind), word) for word in ("attention", "mlp", "all")}
    for word, ends in (("attention", attention), ("mlp", mlp)):
        assert len(found[word]) == 2 * len(ends)
        assert all(any(f".{name}".endswith(f".{end}") for end in ends) for name in found[word])
    assert found["attention"] | found["mlp"] == found["all"]


def test_names_are_ends_of_names_of_layers() -> None:
    assert _adapted(_model("Llama"), "q_proj, v_proj") == {
        f"model.layers.{i}.self_attn.{name}" for i in range(2) for name in ("q_proj", "v_proj")
    }
    assert _adapted(_model("Llama"), "1.mlp.up_proj") == {"model.layers.1.mlp.up_proj"}
    assert lora_targets(_model("Llama"), "layers.1.mlp.up_proj") == ["1.mlp.up_proj"]


def test_a_name_that_is_no_layer_is_refused_with_those_that_are() -> None:
    with pytest.raises(NashwardError, match=r"w_proj.*down_proj.*v_proj"):
        lora_targets(_model("Llama"), "q_proj,w_proj")
    with pytest.raises(NashwardError, match="lm_head"):  # the head never has an adapter
        lora_targets(_model("Llama"), "lm_head")
    with pytest.raises(NashwardError, match="targets"):
        llm.Lora(targets="q_proj,,v_proj")


def test_of_a_mixture_of_experts_there_is_attention_alone() -> None:
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(transformers.MixtralConfig(**SHAPE, num_local_experts=2))
    assert lora_targets(base) == lora_targets(base, "attention") == ["k_proj", "o_proj", "q_proj", "v_proj"]
    with pytest.raises(NashwardError, match="mlp"):
        lora_targets(base, "mlp")


def test_a_policy_trains_the_layers_that_were_named(tiny_folder: Path) -> None:
    model = llm.LanguageModel.from_pretrained(tiny_folder, lora=llm.Lora(rank=2, targets="mlp"), quantise=False)
    names = {name for name, weight in model.network.named_parameters() if weight.requires_grad}
    assert names
    assert all(".mlp." in name for name in names)


HEADS = {**SHAPE, "num_key_value_heads": 2}
SPACE = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
MAMBA: dict[str, dict[str, Any]] = {
    "FalconH1": {**HEADS, **SPACE, "mamba_d_ssm": 32},
    "Bamba": {**HEADS, **SPACE, "attn_layer_indices": [1]},
    "Jamba": {
        **HEADS, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "num_experts_per_tok": 1,
        "mamba_d_state": 8, "use_mamba_kernels": False,
    },
    "Mamba2": {
        "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 8,
        "n_groups": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", MAMBA)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_of_a_mixer_of_mamba_the_layer_is_adapted_that_is_called_as_a_layer(kind: str) -> None:
    """PEFT refuses its other layers in some families; in others they take no part in training."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**MAMBA[kind]))
    lora = LoraConfig(r=2, target_modules=lora_targets(base), init_lora_weights=False)
    network = get_peft_model(base, lora)
    network(input_ids=torch.arange(8)[None]).logits.logsumexp(-1).sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if ".lora_" in name}
    assert any(".in_proj." in name for name in gradients)
    assert not any(f".{name}." in adapted for name in ("out_proj", "dt_proj", "x_proj") for adapted in gradients)
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())
    with pytest.raises(NashwardError, match="no linear layer out_proj that an adapter can change"):
        lora_targets(base, "out_proj")
