"""Streamed layers: the numbers of a resident model, two layers at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nashward.llm import LanguageModel, Sampling
from nashward.llm.planner.live_storage import LiveStorage, resident_bytes
from nashward.llm.policy.experimental.streaming import decoder_layers, stream_layers
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.placement import Placement
from nashward.llm.policy.sampling import sample
from tests.llm import tiny

LAYERS = 5
PROMPTS = [[0, 50, 60, 70], [0, 51]]
RESPONSES = [[40, 41, 42, 6], [50, 51]]
RESIDENT = Placement("device", "device", "float32")


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with five layers."""
    folder = tiny.policy(tmp_path_factory.mktemp("deep"))
    config = LlamaConfig.from_pretrained(folder)
    config.num_hidden_layers = LAYERS
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = LlamaForCausalLM(config)
    network.generation_config.eos_token_id = [1, 6]
    network.save_pretrained(folder)
    return folder


def _step(model: LanguageModel, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    model.network.train()
    optimiser.zero_grad()
    values = sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id)
    ((values - torch.tensor([-10.0, -3.0])) ** 2).sum().backward()
    optimiser.step()
    return {name: p.detach().clone() for name, p in model.network.named_parameters() if "lora_" in name}


@pytest.mark.parametrize("quantise", [True, False])
@pytest.mark.parametrize(
    "but", [{}, {"mlp_tokens": 2}, {"checkpoints": "host", "embeddings": "host", "adapters": "input"}]
)
def test_streamed_steps_are_resident_steps_bit_for_bit(deep: Path, quantise: bool, but: dict[str, Any]) -> None:
    """Three optimiser steps, with a text sampled between them, in every combination that moves something else."""
    found = []
    for layers in ("device", "host"):
        model = tiny.stirred(deep, RESIDENT.but({**but, "layers": layers}), quantise=quantise)
        weights = [p for name, p in model.network.named_parameters() if ".trained." in name]
        optimiser = torch.optim.AdamW([w.requires_grad_() for w in weights], lr=1e-2)
        steps, texts = [], []
        for _ in range(3):
            steps.append(_step(model, optimiser))
            model.network.eval()
            texts.append(sample(model, PROMPTS, [[1, 2], [3, 4]], Sampling(max_new_tokens=6)))
        found.append((steps, texts))
    (resident, written), (streamed, drawn) = found
    assert not torch.equal(resident[0][next(iter(resident[0]))], resident[2][next(iter(resident[0]))])
    for one, other in zip(resident, streamed, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert written == drawn


@pytest.mark.parametrize("quantise", [True, False])
def test_gradients_are_right_where_no_layer_is_checkpointed(deep: Path, quantise: bool) -> None:
    """transformers checkpoints in training mode only: here the backward pass comes long after the weights are gone."""
    found = []
    for layers in ("device", "host"):
        model = tiny.stirred(deep, RESIDENT.but({"layers": layers}), quantise=quantise)
        model.network.eval()
        sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id).sum().backward()
        found.append({name: p.grad for name, p in model.network.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_never_more_than_two_layers_are_on_the_device(deep: Path) -> None:
    resident, streamed = tiny.stirred(deep, RESIDENT), tiny.stirred(deep, RESIDENT.but({"layers": "host"}))
    stream = streamed.stream
    assert stream is not None
    size = max(layer.size for layer in stream.layers)
    weights = resident_bytes(resident.network)
    # blocks are aligned, tensor by tensor, to 256 bytes: 14 in each layer
    assert weights - resident_bytes(streamed.network) == pytest.approx((LAYERS - 2) * size, abs=14 * 256 * LAYERS)
    peaks = []
    for model in (resident, streamed):
        model.network.train()
        _ = sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id)  # fetched, tried and cached
        with LiveStorage() as storage:
            sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id).sum().backward()
        peaks.append(storage.peak)
    assert peaks[1] <= peaks[0]
    on_device = [layer for layer in range(LAYERS) if all(part.tensor.numel() for part in stream.layers[layer].parts)]
    assert len(on_device) == 2


def test_each_layer_is_fetched_once_upwards_and_once_downwards(deep: Path) -> None:
    model = tiny.stirred(deep, RESIDENT.but({"layers": "host"}))
    stream = model.stream
    assert stream is not None
    model.network.train()
    sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id).sum().backward()
    stream.fetched = 0
    values = sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id)
    assert stream.fetched == LAYERS - 2  # the first two were left by the backward pass
    values.sum().backward()
    assert stream.fetched == 2 * (LAYERS - 2)
    with torch.no_grad():
        for _ in range(2):
            stream.fetched = 0
            sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id)
        assert stream.fetched == LAYERS  # the first of the next pass is fetched while the last is at work


def test_a_weight_that_nobody_asked_for_is_an_error_not_a_number(deep: Path) -> None:
    model = tiny.stirred(deep, RESIDENT.but({"layers": "host"}))
    base: Any = model.network.get_base_model()
    weight = base.model.layers[3].mlp.up_proj.base_layer.weight
    assert weight.numel() == 0
    with pytest.raises(RuntimeError):
        torch.nn.functional.linear(torch.ones(1, 64), weight)


def test_rest_gives_the_buffers_back_and_changes_no_number(deep: Path) -> None:
    model = tiny.stirred(deep, RESIDENT.but({"layers": "host"}))
    model.write_start_adapter(deep / "start", None)
    with model.use_adapter(deep / "start") as network:
        before = sequence_logprobs(network, PROMPTS, RESPONSES, model.pad_id)
    taken = resident_bytes(model.network)
    model.offload()
    stream = model.stream
    assert stream is not None
    assert taken - resident_bytes(model.network) >= 2 * max(layer.size for layer in stream.layers)
    with model.use_adapter(deep / "start") as network:
        assert torch.equal(sequence_logprobs(network, PROMPTS, RESPONSES, model.pad_id), before)
    assert resident_bytes(model.network) == taken


def test_streaming_brings_its_checkpoints_and_refuses_to_go_without(deep: Path) -> None:
    model = LanguageModel.from_pretrained(deep, placement={"layers": "host"})  # on a CPU the default has none
    model.network.train()
    assert all(layer.gradient_checkpointing for layer in decoder_layers(model.network))
    with pytest.raises(ValueError, match=r"layers = 'host' .*checkpoints = 'host'"):
        Placement("none", layers="host")
    with pytest.raises(ValueError, match=r"Linear .*layers = 'device'"):
        stream_layers(torch.nn.Linear(2, 2), torch.device("cpu"))


@pytest.mark.gpu
def test_on_a_gpu_streamed_is_resident_and_takes_less(deep: Path) -> None:
    found, peaks = [], []
    for layers in ("device", "host"):
        # not in 4 bits: what is streamed is quantised in host memory, which may round a weight the other way
        model = tiny.stirred(deep, Placement().but({"layers": layers}), device="cuda", quantise=False)
        weights = [p for name, p in model.network.named_parameters() if ".trained." in name]
        optimiser = torch.optim.AdamW([w.requires_grad_() for w in weights], lr=1e-2)
        torch.cuda.reset_peak_memory_stats()
        found.append([_step(model, optimiser) for _ in range(3)])
        peaks.append(torch.cuda.max_memory_allocated())
        del model, weights, optimiser
    for one, other in zip(*found, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert peaks[1] < peaks[0]
