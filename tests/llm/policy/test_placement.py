"""Offloaded checkpoints, embeddings on the host, adapters without float32 copies, tiled MLPs, 8-bit optimisers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import LlamaConfig, LlamaForCausalLM

from nashward.llm import LanguageModel, Sampling
from nashward.llm.config import Placement
from nashward.llm.planner.live_storage import LiveStorage
from nashward.llm.policy import placement as module
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.placement import HostEmbedding, default_placement, embeddings_to_host, tied
from nashward.llm.policy.sampling import sample

from .. import tiny

PROMPTS = [[0, 50, 60, 70], [0, 51]]
RESPONSES = [[40, 41, 42, 6], [50, 51]]
TOKENS = 7 + 3  # of both texts in one row, each without its last one
STATES = TOKENS * 64 * 4  # bytes of one layer's input, float32
PLAIN = Placement("none", "device", "float32")


def _gradients(model: LanguageModel) -> dict[str, torch.Tensor]:
    model.network.train()
    model.network.zero_grad()
    sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id).sum().backward()
    return {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}


class Away:
    """Host memory for a test on a CPU: numpy arrays, which ``LiveStorage`` does not see."""

    def __init__(self) -> None:
        self.moved: list[tuple[int, ...]] = []

    def hooks(self, device: torch.device) -> saved_tensors_hooks:
        def pack(tensor: torch.Tensor) -> Any:
            self.moved.append(tuple(tensor.shape))
            return tensor.detach().numpy().copy()

        return saved_tensors_hooks(pack, torch.from_numpy)


@pytest.mark.parametrize("quantise", [True, False])
def test_checkpoints_in_host_memory_change_no_bit_of_a_gradient(
    quantise: bool, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away()
    monkeypatch.setattr(module, "offload_saved_tensors", away.hooks)
    plain = _gradients(tiny.stirred(tiny_folder, PLAIN, quantise=quantise))
    kept = _gradients(tiny.stirred(tiny_folder, Placement("device", "device", "float32"), quantise=quantise))
    moved = _gradients(tiny.stirred(tiny_folder, Placement("host", "device", "float32"), quantise=quantise))
    assert len(plain) == 2 * 2 * 7  # A and B of seven linear layers in two decoder layers
    assert all(gradient.abs().max() > 0 for gradient in plain.values())
    for found in (kept, moved):
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert away.moved == [(1, TOKENS, 64), (1, TOKENS, 64)]  # the inputs of the two layers, nothing else


def test_no_layer_input_stays_on_the_device(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "offload_saved_tensors", Away().hooks)
    live = {}
    for where in ("none", "device", "host"):
        model = tiny.stirred(tiny_folder, Placement(where, "device", "float32"))
        model.network.train()
        with LiveStorage() as storage:
            values = sequence_logprobs(model.network, PROMPTS, RESPONSES, model.pad_id)
            live[where] = storage.live
        assert values.requires_grad
    assert live["device"] - live["host"] == 2 * STATES
    assert live["none"] > 4 * live["device"]


def test_checkpoints_work_in_generate_and_after_it(tiny_folder: Path) -> None:
    drawn = []
    for placement in (PLAIN, Placement(mlp_tokens=2)):
        model = tiny.stirred(tiny_folder, placement)
        before = _gradients(model)
        model.network.eval()
        drawn.append(sample(model, PROMPTS, [[1, 2], [3, 4]], Sampling(max_new_tokens=6)))
        after = _gradients(model)
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert drawn[0] == drawn[1]


def test_embeddings_in_host_memory_are_the_same_function(tiny_folder: Path) -> None:
    plain, moved = (tiny.stirred(tiny_folder, Placement("none", where, "float32")) for where in ("device", "host"))
    base: Any = moved.network.get_base_model()
    table = base.get_input_embeddings()
    assert isinstance(table, HostEmbedding)
    assert table.weight.shape == (len(moved.tokenizer), 64)
    assert not any(parameter is table.weight for parameter in moved.network.parameters())
    before, after = _gradients(plain), _gradients(moved)
    assert all(torch.equal(before[name], after[name]) for name in before)
    logits = []
    for model in (plain, moved):
        network: Any = model.network.eval()
        logits.append(network(torch.tensor(RESPONSES[:1])).logits)
    assert torch.equal(*logits)


def test_tied_embeddings_stay_and_say_why() -> None:
    shape: dict[str, Any] = {"vocab_size": 11, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    network = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, tie_word_embeddings=True))
    assert tied(network)
    with pytest.raises(ValueError, match=r"are its head too \(tied\).*embeddings = 'device'"):
        embeddings_to_host(network)
    assert default_placement(network, "cuda", torch.bfloat16) == Placement(embeddings="device")


def test_the_default_follows_the_device_and_the_dtype() -> None:
    network = LlamaForCausalLM(LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                           num_attention_heads=2, tie_word_embeddings=False))  # fmt: skip
    assert default_placement(network, "cuda", torch.bfloat16) == Placement()
    assert default_placement(network, "cuda:1", torch.float16) == Placement(adapters="float32")
    assert default_placement(network, "cpu", torch.float32) == PLAIN


@pytest.mark.parametrize(
    ("field", "value"), [("checkpoints", "disk"), ("embeddings", "cpu"), ("adapters", "bfloat16"), ("mlp_tokens", 0)]
)
def test_a_wrong_setting_is_refused_with_its_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} (is {value!r}; expected one of|must be at least 1)"):
        Placement(**{field: value})


def test_a_network_without_layers_to_checkpoint_or_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="take checkpoints = 'none'"):
        module.checkpoint_layers(torch.nn.Linear(1, 1), module.offloaded_checkpoint)
    with pytest.raises(ValueError, match="take mlp_tokens = None"):
        module.tile_mlps(torch.nn.Linear(1, 1), 4)


def test_adapters_in_the_inputs_dtype(tiny_folder: Path) -> None:
    """Exact where the input is float32; in bfloat16 rounded, with float32 weights and gradients and less memory."""
    plain, own = (
        tiny.stirred(tiny_folder, Placement("none", "device", kind), quantise=True) for kind in ("float32", "input")
    )
    before, after = _gradients(plain), _gradients(own)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    exact, peaks, errors = _flat(before), [], []
    for kind in ("float32", "input"):
        model = tiny.stirred(tiny_folder, Placement("none", "device", kind), dtype=torch.bfloat16, quantise=True)
        with LiveStorage() as storage:
            gradients = _gradients(model)
        assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
        peaks.append(storage.peak)
        errors.append(float((_flat(gradients) - exact).norm() / exact.norm()))
    assert peaks[1] < 0.9 * peaks[0]
    assert 0 < errors[1] < 1.05 * errors[0]  # nearly all of the error is the base's own rounding


def _flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def test_tiled_mlps(tiny_folder: Path) -> None:
    plain, tiles = (
        tiny.stirred(tiny_folder, PLAIN),
        tiny.stirred(tiny_folder, Placement("none", "device", "float32", mlp_tokens=3)),
    )
    before, after = _gradients(plain), _gradients(tiles)
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-5 * float(before[name].abs().max()))
    with_gradient = sequence_logprobs(tiles.network, PROMPTS, RESPONSES, tiles.pad_id)
    with torch.no_grad():  # the first log-ratio to the anchor is exactly 0
        assert torch.equal(sequence_logprobs(tiles.network, PROMPTS, RESPONSES, tiles.pad_id), with_gradient)


def test_all_placements_save_the_same_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    for name, placement in (("plain", PLAIN), ("placed", Placement(mlp_tokens=2))):
        tiny.stirred(tiny_folder, placement).save(tmp_path / name)
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("plain", "placed")]
    assert files[0] == files[1]


def test_a_full_device_takes_no_weight_of_the_adapter_that_rests(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.stirred(tiny_folder, PLAIN)
    model.save(tmp_path / "adapter")

    def full(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.network, "to", full)
    with pytest.raises(torch.OutOfMemoryError), model.use_adapter(tmp_path / "adapter"):
        pass
    monkeypatch.undo()
    model.save(tmp_path / "again")
    files = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("adapter", "again")]
    assert files[0] == files[1]


@pytest.mark.gpu
def test_on_a_gpu_the_table_the_checkpoints_and_the_resting_adapter_are_in_host_memory(
    tiny_folder: Path, tmp_path: Path
) -> None:
    found = []
    for placement in (Placement("none", "device"), Placement()):
        model = tiny.stirred(tiny_folder, placement, device="cuda", dtype=torch.float32)
        model.save(tmp_path / "adapter")
        found.append(_gradients(model))
    torch.testing.assert_close(_flat(found[1]), _flat(found[0]), rtol=1e-3, atol=1e-3)
    base: Any = model.network.get_base_model()
    table = base.get_input_embeddings()
    assert table.weight.device.type == "cpu"
    assert table(torch.tensor([[1]], device="cuda")).is_cuda
    with model.training(tmp_path / "adapter") as weights:
        assert all(weight.is_cuda for weight in weights)
        resting = [p for name, p in model.network.named_parameters() if ".frozen." in name]
        assert resting
        assert not any(weight.is_cuda for weight in resting)


Make = Callable[[list[torch.nn.Parameter], float], torch.optim.Optimizer]
PAIRS: dict[str, tuple[Make, Make]] = {
    "adamw": (
        lambda weights, lr: torch.optim.AdamW(weights, lr=lr, weight_decay=0.0),
        lambda weights, lr: bitsandbytes.optim.AdamW8bit(weights, lr=lr, weight_decay=0.0),
    ),
    "rmsprop": (
        lambda weights, lr: torch.optim.RMSprop(weights, lr=lr),
        lambda weights, lr: bitsandbytes.optim.RMSprop8bit(weights, lr=lr),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_8_bit_optimisers_stay_close_to_the_plain_ones_on_a_cpu(name: str) -> None:
    moves = []
    for make in PAIRS[name]:
        generator = torch.Generator().manual_seed(0)
        start = [torch.randn(16, 1024, generator=generator) / 64, torch.zeros(1024, 16)]
        weights = [torch.nn.Parameter(weight.clone()) for weight in start]
        optimiser = make(weights, 1e-3)
        drift = [torch.randn(weight.shape, generator=generator) for weight in start]
        for _ in range(10):
            for weight, mean in zip(weights, drift, strict=True):
                weight.grad = mean + torch.randn(weight.shape, generator=generator) / 2
            optimiser.step()
        moves.append([after.detach() - before for after, before in zip(weights, start, strict=True)])
    states = [value for values in optimiser.state.values() for key, value in values.items() if key.startswith("state")]
    assert {state.dtype for state in states} == {torch.uint8}
    for plain, small in zip(*moves, strict=True):
        assert 0 < float((small - plain).norm()) < 0.02 * float(plain.norm())
