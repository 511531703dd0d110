"""Judges on a decoder compute what rows of a prompt begin with once: the same log-odds, and how many tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from nashward.llm.oracles import GPM, FitSettings, LocalJudge, RewardModel
from nashward.llm.oracles.fitting.init import pooled_from_base
from nashward.llm.oracles.models.network import NetworkOracle, by_beginning
from nashward.llm.policy import packing

from ... import tiny, tiny_reward

PROMPTS = ["Name a long river, please.", "Why is it so wet there, and where does it go?"]
TEXTS = [
    ["The Rhine.", "A tree, I think.", "I do not know.", "The Rhone."],
    ["Rain falls on it.", "To the sea it goes."],
]
PAIRS = [[(i, j) for i in range(len(texts)) for j in range(len(texts)) if i != j] for texts in TEXTS]


def _pooled(kind: Any) -> Callable[[Path], NetworkOracle]:
    def make(folder: Path) -> NetworkOracle:
        oracle = pooled_from_base(kind, tiny.policy(folder), FitSettings(components=2), "cpu")
        torch.manual_seed(1)
        torch.nn.init.normal_(oracle.model.head.weight)
        oracle.model.response_axes.normal_()
        return oracle

    return make


def _judge(folder: Path) -> NetworkOracle:
    home = tiny.policy(folder)
    config = json.loads((home / "config.json").read_text())
    (home / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    return LocalJudge.from_pretrained(home, device="cpu")


MAKERS: dict[str, Callable[[Path], NetworkOracle]] = {
    "local judge": _judge,
    "reward model, llama": lambda folder: RewardModel.from_pretrained(
        tiny_reward.reward_model(folder, "llama"), device="cpu"
    ),
    "reward model, qwen2": lambda folder: RewardModel.from_pretrained(
        tiny_reward.reward_model(folder, "qwen2"), device="cpu"
    ),
    "GPM": lambda folder: GPM.from_pretrained(tiny_reward.gpm(folder, 4), device="cpu"),
    "pooled bt": _pooled("bt"),
    "pooled pairrm": _pooled("pairrm"),
}


def _tokens(oracle: NetworkOracle) -> list[int]:
    """The tokens of each pass, from here on, padding included."""
    seen: list[int] = []
    base = oracle.model.decoder.base_model
    base.layers[0].mlp.register_forward_hook(lambda module, given, output: seen.append(given[0].shape[:-1].numel()))
    return seen


def _rows(oracle: NetworkOracle, n: int) -> list[list[int]]:
    encoded = oracle.encode(PROMPTS[n], TEXTS[n])[0]
    keys = dict.fromkeys(key for pair in PAIRS[n] for key in oracle.keys(*pair))
    return [list(oracle.row(encoded, key)[0]) for key in keys]


@pytest.mark.parametrize("name", MAKERS)
def test_log_odds_are_those_of_padded_rows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = MAKERS[name](tmp_path)
    assert packing.packs(oracle.model.decoder, 64)
    seen = _tokens(oracle)
    shared = oracle.raw_logits(PROMPTS, TEXTS, PAIRS)
    once = sum(seen)
    seen.clear()
    monkeypatch.setattr("nashward.llm.policy.packing.packs", lambda *given: False)
    monkeypatch.setattr("nashward.llm.oracles.models.network.packs", lambda *given: False)
    alone = oracle.raw_logits(PROMPTS, TEXTS, PAIRS)
    np.testing.assert_allclose(np.concatenate(shared), np.concatenate(alone), atol=1e-4)
    assert np.ptp(np.concatenate(alone)) > 0.01  # there is something to be equal
    assert once < sum(len(row) for n in (0, 1) for row in _rows(oracle, n)) <= sum(seen)


def test_a_prompt_and_each_first_response_are_computed_once(tmp_path: Path) -> None:
    """Of K responses: the instructions and the prompt, K responses shown first, and for each its K - 1 partners."""
    judge = _judge(tmp_path)
    judge.raw_logits(PROMPTS[:1], TEXTS[:1], PAIRS[:1])  # whether it packs is compared once
    seen = _tokens(judge)
    texts = [letter * 24 for letter in "abcd"]  # as many tokens, which begin differently
    judge.raw_logits(PROMPTS[:1], [texts], PAIRS[:1])
    rows = [judge.row(judge.encode(PROMPTS[0], texts)[0], pair)[0] for pair in PAIRS[0]]
    prompt = min(packing.common_beginning(rows[0], row) for row in rows)
    first = packing.common_beginning(rows[0], rows[1]) - prompt
    second = len(rows[0]) - prompt - first
    assert first >= 24
    assert sum(seen) == prompt + 4 * first + 12 * second
    assert len(seen) == 1
    judge.token_budget = prompt + first + 3 * second
    seen.clear()
    judge.raw_logits(PROMPTS[:1], [texts], PAIRS[:1])
    assert len(seen) == 4
    assert seen == [judge.token_budget] * 4  # a response and its partners fit, a second one does not


@pytest.mark.parametrize("name", ["reward model, llama", "GPM"])
def test_the_rows_of_a_reward_share_the_prompt(name: str, tmp_path: Path) -> None:
    oracle = MAKERS[name](tmp_path)
    oracle.raw_logits(PROMPTS, TEXTS, PAIRS)
    seen = _tokens(oracle)
    texts = [letter * 24 for letter in "abcd"]
    oracle.raw_logits(PROMPTS[:1], [texts], PAIRS[:1])
    encoded = oracle.encode(PROMPTS[0], texts)[0]
    rows = [oracle.row(encoded, (k,))[0] for k in range(4)]
    prompt = packing.common_beginning(rows[0], rows[1])
    assert prompt >= len(PROMPTS[0])
    assert sum(seen) == prompt + sum(len(row) - prompt for row in rows)


@pytest.mark.parametrize("kind", ["window", "cap", "encoder"])
def test_what_cannot_share_is_padded(kind: str, tmp_path: Path) -> None:
    """A sliding window that is shorter than the rows, scores that are capped, an encoder."""
    if kind == "encoder":
        oracle: NetworkOracle = RewardModel.from_pretrained(tiny_reward.reward_model(tmp_path, "bert"), device="cpu")
    else:
        words = tiny.tokenizer()
        shape: dict[str, Any] = {"vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48}
        shape |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
        shape |= {"max_position_embeddings": 4096, "sliding_window": 64, "initializer_range": 0.2}
        torch.manual_seed(0)
        network: Any = (
            MistralForCausalLM(MistralConfig(**shape)) if kind == "window" else Gemma2ForCausalLM(Gemma2Config(**shape))
        )
        network.save_pretrained(tmp_path)
        words.save_pretrained(tmp_path)
        oracle = LocalJudge.from_pretrained(tmp_path, device="cpu")
    together = oracle.raw_logits(PROMPTS, TEXTS, PAIRS)
    one = [np.concatenate([oracle.raw_logits([p], [t], [[pair]])[0] for pair in own])
           for p, t, own in zip(PROMPTS, TEXTS, PAIRS, strict=True)]  # fmt: skip
    np.testing.assert_allclose(np.concatenate(together), np.concatenate(one), atol=1e-4)


def test_batches_keep_a_group_together_and_the_budget() -> None:
    random = np.random.default_rng(0)
    rows = [
        (g, k, [g] * 30 + random.integers(0, 9, random.integers(1, 40)).tolist()) for g in range(6) for k in range(5)
    ]
    order = random.permutation(len(rows))
    items = [rows[k] for k in order]
    batches = list(by_beginning(items, lambda row: row[0], lambda row: row[2], 400))
    assert sorted(row[:2] for batch in batches for row in batch) == [row[:2] for row in rows]
    for batch in batches:
        assert packing.PackedRows.of([row[2] for row in batch]).ids.shape[1] <= 400
    groups = [row[0] for batch in batches for row in batch]
    assert sum(a != b for a, b in pairwise(groups)) == 5
    assert len(batches) < 6
