"""Packed texts against the same texts alone: values, gradients, what is computed once, and which models fall back."""

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    RecurrentGemmaConfig,
)

from nashward import llm
from nashward.llm.planner.live_storage import LiveStorage
from nashward.llm.policy import packing
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.packing import PackedRows, Packing, packed_tokens, packs
from nashward.llm.policy.placement import checkpoint_layers

SHAPE: dict[str, Any] = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SHAPE |= {"initializer_range": 0.3}
PACKED: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "gemma": GemmaConfig(**{**SHAPE, "num_key_value_heads": 1}, head_dim=8),
    "mistral": MistralConfig(**SHAPE, sliding_window=16),
    "gpt2": GPT2Config(
        vocab_size=97,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.3,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    ),
}
GENERATOR = torch.Generator().manual_seed(0)
PROMPTS = [[1, 5, 6, 9], [1, 7], [1, 5, 6, 9], [1, 5, 6, 9], [1, 7]]
RESPONSES = [torch.randint(3, 97, (n,), generator=GENERATOR).tolist() for n in (4, 1, 9, 2, 6)]
LONGEST = 13


def _policy(config: PretrainedConfig, checkpoints: bool = False) -> Any:
    torch.manual_seed(0)
    network = get_peft_model(
        AutoModelForCausalLM.from_config(config), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    if checkpoints:
        checkpoint_layers(network.get_base_model(), partial(checkpoint, use_reentrant=False))
    return network.train()


def _alone(network: Any) -> torch.Tensor:
    return torch.cat([sequence_logprobs(network, [p], [r], 0) for p, r in zip(PROMPTS, RESPONSES, strict=True)])


def _compare(network: Any, tolerance: float = 1e-5) -> None:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    factors = torch.tensor([0.3, -1.0, 2.0, 0.7, -0.4])
    found, expected = sequence_logprobs(network, PROMPTS, RESPONSES, 0), _alone(network)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    ours, theirs = (torch.autograd.grad((values * factors).sum(), weights) for values in (found, expected))
    difference = sum(float((a - b).square().sum()) for a, b in zip(ours, theirs, strict=True))
    assert difference**0.5 <= 1e-4 * sum(float(b.square().sum()) for b in theirs) ** 0.5
    with torch.no_grad():  # the number that is stored and the one that is trained are the same
        assert torch.equal(sequence_logprobs(network, PROMPTS, RESPONSES, 0), found)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set")  # GPT-2's Conv1D
@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("name", PACKED)
def test_packed_texts_are_as_if_alone(name: str, checkpoints: bool) -> None:
    network = _policy(PACKED[name], checkpoints)
    assert packs(network, LONGEST)
    _compare(network)


@pytest.mark.parametrize("quantise", [False, True])
def test_the_pocket_policy_packs(quantise: bool) -> None:
    model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY, device="cpu", quantise=quantise)
    model.network.set_adapter("trained")
    for number, (name, weight) in enumerate(model.network.named_parameters()):
        if ".trained." in name:
            weight.requires_grad_(True)
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(number))
    assert packs(model.network, LONGEST)
    _compare(model.network)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4), "eager"),
        (Gemma2Config(**SHAPE, head_dim=8), "eager"),
        (FalconConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True), "Error"),
        (RecurrentGemmaConfig(**SHAPE, lru_width=32, attention_window_size=8, block_types=["recurrent"]), ""),
    ],
)
def test_other_models_fall_back_and_say_why(
    config: PretrainedConfig, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=packing.__name__)
    network = AutoModelForCausalLM.from_config(config).eval()
    before = network.config._attn_implementation
    with torch.no_grad():
        found, expected = sequence_logprobs(network, PROMPTS, RESPONSES, 0), _alone(network)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert not packs(network, LONGEST)
    assert network.config._attn_implementation == before
    assert "padded" in caplog.text
    assert reason in caplog.text


def test_a_model_whose_packed_states_differ_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Responses that attend to each other, as a row without a layout would have them."""
    monkeypatch.setattr(packing, "_of_text", lambda states, span, axis: states)
    assert not packs(_policy(PACKED["llama"]), LONGEST)


def test_texts_beyond_a_sliding_window_are_padded() -> None:
    network = _policy(MistralConfig(**SHAPE, sliding_window=8))
    assert packs(network, 8)
    assert not packs(network, LONGEST)
    _compare(network)


def test_a_prompt_is_computed_once_and_no_padding() -> None:
    network = _policy(PACKED["llama"])
    assert packs(network, LONGEST)
    seen: list[int] = []
    layer: Any = network.get_base_model().model.layers[0].mlp
    layer.register_forward_hook(lambda module, given, output: seen.append(given[0].shape[:-1].numel()))
    sequence_logprobs(network, PROMPTS, RESPONSES, 0)
    # of each response the last token predicts nothing
    assert seen[-1:] == [4 + 2 + sum(len(response) - 1 for response in RESPONSES)]
    assert packed_tokens(PROMPTS, RESPONSES) == 4 + 2 + sum(map(len, RESPONSES))


def test_the_memory_is_that_of_the_tokens_however_they_are_shared() -> None:
    network = _policy(LlamaConfig(**{**SHAPE, "hidden_size": 64, "intermediate_size": 128}), checkpoints=True)
    assert packs(network, 300)
    peaks = []
    for prompts, responses in (
        ([[1] * 100] * 5, [[5] * 40] * 5),
        ([[k] * 60 for k in range(3)], [[5] * 40] * 3),
        ([[1] * 240] * 5, [[5] * 12] * 5),
    ):
        assert packed_tokens(prompts, responses) == 300
        with LiveStorage() as storage:
            sequence_logprobs(network, prompts, responses, 0).sum().backward()
        peaks.append(storage.peak)
    assert max(peaks) <= 1.05 * min(peaks)


def test_an_empty_response_has_probability_one() -> None:
    network = _policy(PACKED["llama"])
    values = sequence_logprobs(network, [[1, 5], [1, 5]], [[], [7]], 0)
    assert float(values[0].detach()) == 0.0
    torch.testing.assert_close(values[1:], sequence_logprobs(network, [[1, 5]], [[7]], 0))


def test_positions_begin_again_behind_the_prompt() -> None:
    found = Packing.of([[7, 8], [9], [7, 8]], [[1, 2], [3], [4, 5, 6]])
    assert found.ids.tolist() == [[7, 8, 1, 4, 5, 9]]
    assert found.positions.tolist() == [[0, 1, 2, 2, 3, 0]]
    assert found.layout[0, 0].tolist() == [[0, 2, 2, 1], [5, 1, 6, 0], [0, 2, 3, 2]]
    assert found.texts.tolist() == [0, 0, 2, 2, 2, 1]


def _tree(seed: int, depth: int = 3) -> list[list[int]]:
    """Rows of tokens that share beginnings of 5 to 40 tokens, equal ones and beginnings of others among them."""
    random = np.random.default_rng(seed)
    rows: list[list[int]] = [[]]
    for _ in range(depth):
        rows = [row + random.integers(3, 97, random.integers(5, 40)).tolist() for row in rows for _ in range(2)]
        rows = [(rows[k - 1][:20] + row[20:] if k % 2 and random.random() < 0.7 else row) for k, row in enumerate(rows)]
    rows += [rows[0], rows[1][:-3], rows[2][:20]]
    return [rows[k] for k in random.permutation(len(rows))]


@pytest.mark.parametrize("name", PACKED)
def test_rows_that_share_beginnings_are_as_if_alone(name: str) -> None:
    config = copy.deepcopy(PACKED[name])
    if name == "mistral":
        config.sliding_window = 256
    config.update({"n_positions": 256} if name == "gpt2" else {"max_position_embeddings": 256})
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    for seed in range(4):
        rows = _tree(seed)
        longest = max(map(len, rows))
        ids, mask = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in "im")
        for k, row in enumerate(rows):
            ids[k, : len(row)], mask[k, : len(row)] = torch.tensor(row), 1
        with torch.no_grad():
            packed = PackedRows.shared(network, ids, mask)
            assert packed is not None
            found = packed.states(network(**packed.inputs, use_cache=False).logits)
            for k, row in enumerate(rows):
                alone = network(torch.tensor([row])).logits[0]
                torch.testing.assert_close(found[k, : len(row)], alone, rtol=1e-4, atol=1e-4)
        read = [packed.ids[0, packed.places[k, : len(row)]].tolist() for k, row in enumerate(rows)]
        assert read == rows
        assert packed.ids.shape[1] < sum(map(len, rows))


def test_a_beginning_is_a_part_of_the_row_from_16_tokens_on() -> None:
    for common, once in ((15, False), (16, True)):
        packed = PackedRows.of([[1] * common + [2], [1] * common + [3, 4]])
        assert packed.ids.shape[1] == (common if once else 2 * common) + 3
    same = PackedRows.of([[5] * 20] * 3)
    assert same.ids.shape[1] == 20
    assert same.places.tolist() == [list(range(20))] * 3


def test_rows_are_packed_without_gradients_and_where_they_share() -> None:
    network = AutoModelForCausalLM.from_config(PACKED["llama"]).eval()
    ids, mask = torch.arange(40).repeat(2, 1), torch.ones(2, 40, dtype=torch.long)
    assert PackedRows.shared(network, ids, mask) is None
    with torch.no_grad():
        assert PackedRows.shared(network, ids, mask) is not None
        assert PackedRows.shared(network, ids[:1], mask[:1]) is None
        assert PackedRows.shared(network, torch.stack([ids[0], ids[0].flip(0)]), mask) is None
    encoder = BertModel(
        BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    ).eval()
    with torch.no_grad():
        assert PackedRows.shared(encoder, ids, mask) is None
    assert encoder.config._attn_implementation == "sdpa"
