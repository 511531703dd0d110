"""Live bytes, and a 7B and an 8B policy on the meta device: what training and sampling take on a card, without one."""

from __future__ import annotations

from typing import Any

import bitsandbytes
import pytest
import torch
from transformers import AutoModel, DebertaV2Config, LlamaConfig, MistralConfig, PretrainedConfig

from nashward.llm.oracles.models.network import OracleShape
from nashward.llm.oracles.models.pairrm import PairRMModel
from nashward.llm.planner import dry_run
from nashward.llm.planner.live_storage import LiveStorage, resident_bytes
from nashward.llm.policy.placement import Placement

GIB = 2**30
TRUNK: dict[str, Any] = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "tie_word_embeddings": False,
}  # fmt: skip
PROMPT, RESPONSE = 512, 1536


def slow(*values: Any) -> Any:
    """A case that only ``--slow`` runs."""
    return pytest.param(*values, marks=pytest.mark.slow)


def _config(size: str) -> PretrainedConfig:
    if size == "7B":
        return MistralConfig(vocab_size=32000, sliding_window=None, **TRUNK)
    return LlamaConfig(vocab_size=128256, **TRUNK)


def _adamw_8bit(weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return bitsandbytes.optim.AdamW8bit(weights, lr=1e-4, weight_decay=0.0)


def _train(size: str, placement: Placement, head: bool = False) -> dry_run.Footprint:
    network = dry_run.policy(_config(size), 16, placement, quantise_head=head)
    footprint = dry_run.training(network, dry_run.texts(PROMPT, RESPONSE, 1), _adamw_8bit)
    print(size, placement, "head in 4 bits" if head else "", footprint, f"total {footprint.total / GIB:.4f} GiB")
    return footprint


def test_storages_count_from_birth_to_death_and_once() -> None:
    before = torch.ones(1024)
    with LiveStorage() as storage:
        kept = before + 1
        assert (storage.live, storage.peak) == (4096, 4096)
        views = [kept.view(32, 32).t(), kept[3:], before.view(-1, 2)]
        kept.add_(1)
        assert storage.live == 4096
        gone = kept * 2
        assert storage.live == 8192
        del gone
        assert (storage.live, storage.peak) == (4096, 8192)
        del views, kept
        assert (storage.live, storage.peak) == (0, 8192)


def test_storages_of_a_backward_pass() -> None:
    weight = torch.ones(256, 256, requires_grad=True)
    with LiveStorage() as storage:
        value = (weight.exp() * 2).sum()
        assert storage.live == 256 * 256 * 4 + 4  # exp is kept for its gradient, its double is not
        value.backward()
    assert weight.grad is not None
    assert storage.live == 256 * 256 * 4 + 4  # the gradient and the value


def test_a_workspace_counts_while_its_operation_runs() -> None:
    inside = {torch.ops.aten.mm.default: lambda left, right: left.nbytes}
    with LiveStorage(inside) as storage:
        result = torch.ones(8, 8, device="meta") @ torch.ones(8, 8, device="meta")
    assert result.is_meta
    assert (storage.live, storage.peak) == (256, 4 * 256)


def test_weights_have_the_bytes_of_the_real_layout() -> None:
    """NF4 with double quantisation: 4 bits, one byte for 64 weights, four for 64 * 256, and two tables a layer."""
    network = dry_run.policy(_config("8B"), 16, Placement())
    four_bit = 6_979_321_856
    layers = four_bit // 2 + four_bit // 64 + 4 * four_bit // (64 * 256)
    head, norms, adapter = 128256 * 4096 * 2, 65 * 4096 * 2, 41_943_040 * 4
    rest = resident_bytes(network) - layers - head - norms - adapter
    assert 0 < rest <= 224 * 1092 + 1024  # the tables, and the frequencies of the rotary embedding
    on_device = resident_bytes(dry_run.policy(_config("8B"), 16, Placement(embeddings="device")))
    assert on_device - resident_bytes(network) == head  # the embeddings are as large as the head


def test_four_bit_bytes_on_the_meta_device_are_those_on_a_cpu_which_still_quantises() -> None:
    """bitsandbytes keeps a table for the whole process: a dry run must not leave one without values."""
    shape = LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    network = dry_run.policy(shape, 4, Placement("none", "device")).get_base_model()
    planned = network.model.layers[0].mlp.down_proj.base_layer
    real = bitsandbytes.nn.Linear4bit(64, 64, bias=False, quant_type="nf4").to("cpu")
    assert real.weight.dtype == torch.uint8
    assert resident_bytes(planned) == resident_bytes(real)


# The aim is 4.5 and 5.2 GiB. It holds with MLPs in tiles of 1024 tokens (which cost part of a further pass through
# them); without tiles the peak lies 0.04 and 0.07 GiB above it. With streamed layers the aim is 2.0 and 2.5.
@pytest.mark.parametrize(
    ("size", "placement", "head", "at_most"),
    [
        slow("7B", Placement(mlp_tokens=1024), False, 4.40),
        slow("8B", Placement(mlp_tokens=1024), False, 5.14),
        slow("8B", Placement(adapters="float32", mlp_tokens=512), False, 5.20),
        ("7B", Placement(), False, 4.54),
        slow("8B", Placement(), False, 5.28),
        slow("7B", Placement(), True, 4.36),
        slow("8B", Placement(), True, 4.55),
        slow("7B", Placement(layers="host"), True, 1.22),
        slow("8B", Placement(layers="host"), True, 1.41),
        ("7B", Placement(layers="host"), False, 1.40),
        slow("8B", Placement(layers="host"), False, 2.14),
        slow("8B", Placement(layers="host", mlp_tokens=512), False, 1.94),
    ],
)
def test_training_at_2048_tokens(size: str, placement: Placement, head: bool, at_most: float) -> None:
    footprint = _train(size, placement, head)
    assert at_most - 0.02 < footprint.total / GIB <= at_most
    assert footprint.gradients == 41_943_040 * 4
    assert footprint.optimiser == pytest.approx(2.031 * 41_943_040, rel=0.002)  # two bytes, and eight for 256


@pytest.mark.slow
def test_a_head_in_four_bits_saves_what_it_should() -> None:
    """Of the head's 16 bits 4.127 are left: 0.726 GiB less at 128256 words, and no more in activations."""
    plain, packed = (_train("8B", Placement(), head) for head in (False, True))
    assert plain.weights - packed.weights == pytest.approx(0.726 * GIB, rel=0.001)
    assert packed.activations <= plain.activations
    assert packed.total / GIB < 4.55


@pytest.mark.slow
def test_what_each_part_of_the_placement_saves() -> None:
    """Measured at the 8B shape with a quarter of its layers."""
    layers, states = 8, 2048 * 4096 * 2
    config = _config("8B")
    config.num_hidden_layers = layers

    def total(placement: Placement) -> int:
        return dry_run.training(
            dry_run.policy(config, 16, placement), dry_run.texts(PROMPT, RESPONSE, 1), _adamw_8bit
        ).total

    placed = total(Placement())
    assert total(Placement(embeddings="device")) - placed == 128256 * 4096 * 2
    # All but the input of the layer that is being made again, which is on the device then.
    assert (layers - 2) * states <= total(Placement(checkpoints="device")) - placed <= layers * states
    assert total(Placement(adapters="float32")) - placed > 0.2 * GIB
    assert placed - total(Placement(mlp_tokens=512)) > 0.19 * GIB


# The aim for five responses is 4.7 and 5.4 GiB. In 16 bits keys and values alone are 1.56 GiB, so that all five at
# once take 0.73 and 0.76 GiB more; two at a time (2 + 2 + 1) stay below it, and so do five at once in 8 bits. With
# streamed layers three at a time stay below 2.0 and 2.5.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "rows", "layers", "kv_cache", "at_most"),
    [
        slow("7B", 5, "device", "full", 5.44),
        slow("8B", 5, "device", "full", 6.17),
        ("7B", 2, "device", "full", 4.50),
        slow("8B", 2, "device", "full", 5.23),
        ("7B", 5, "device", "int8", 4.67),
        slow("8B", 5, "device", "int8", 5.40),
        slow("7B", 3, "host", "full", 1.67),
        ("8B", 3, "host", "full", 2.40),
    ],
)
def test_sampling_2048_tokens_after_512(size: str, rows: int, layers: Any, kv_cache: Any, at_most: float) -> None:
    network = dry_run.policy(_config(size), 16, Placement(layers=layers))
    footprint = dry_run.sampling(network, 512, 2048, rows, padded=False, kv_cache=kv_cache)
    print(size, rows, kv_cache, footprint, f"total {footprint.total / GIB:.4f} GiB")
    numbers = rows * 2560 * 65_536
    assert footprint.cache == (2 * numbers if kv_cache == "full" else numbers + 2 * numbers // 128)
    assert at_most - 0.02 < footprint.total / GIB <= at_most


def test_a_padded_batch_takes_more_than_one_prompts_responses() -> None:
    """transformers repeats grouped keys and values where there is a mask: four times here, of one layer at a time."""
    network = dry_run.policy(_config("7B"), 16, Placement())
    alone, padded = (dry_run.sampling(network, 512, 2048, 5, padded=p).total / GIB for p in (False, True))
    print(f"five rows of one prompt {alone:.2f} GiB, of several {padded:.2f} GiB")
    assert padded - alone == pytest.approx(0.08, abs=0.005)


@pytest.mark.parametrize(("rows", "takes"), [(1, 3.2), (4, 7.7)])
def test_judging_by_the_shape_of_pairrm(rows: int, takes: float) -> None:
    """DeBERTa-v3-large in float32: attention scores, not weights, are most of it."""
    settings: dict[str, Any] = dict(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, vocab_size=128_104,
        relative_attention=True, position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True,
        pos_att_type=["p2c", "c2p"], max_relative_positions=-1, position_biased_input=False,
        max_position_embeddings=512, type_vocab_size=0,
    )  # fmt: skip
    config = DebertaV2Config(**settings)
    with torch.device("meta"):
        network = PairRMModel(AutoModel.from_config(config, dtype=torch.float32), config.hidden_size)
    shape = OracleShape(network, lambda prompt, response: 2048, lambda count: count * (count - 1))
    footprint = dry_run.judging(shape, rows, 2048)
    print(rows, footprint, f"total {footprint.total / GIB:.4f} GiB")
    assert footprint.total / GIB == pytest.approx(takes, abs=0.05)
    assert footprint.weights / GIB < 1.65
