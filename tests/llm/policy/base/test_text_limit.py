"""Rotary frequencies that depend on a text's length: what is sampled there has other log-probabilities when scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Phi3Config

from nashward.errors import NashwardError
from nashward.llm import Lora, Sampling
from nashward.llm.policy.base.checks import check_policy
from nashward.llm.policy.base.text_limit import rotary_limit
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.model import LanguageModel
from nashward.llm.policy.sampling import sample

from ... import tiny

TOKENS = 32  # of the longest text with the frequencies of short ones
SHAPE: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": TOKENS,
        "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
KINDS: dict[str, Callable[[], Any]] = {
    "longrope": lambda: Phi3Config(
        **SHAPE, max_position_embeddings=256, original_max_position_embeddings=TOKENS, rope_parameters=LONG,
        sliding_window=None,
    ),
    "dynamic": lambda: LlamaConfig(**SHAPE, max_position_embeddings=TOKENS, rope_parameters=DYNAMIC),
}  # fmt: skip


def _network(kind: str) -> Any:
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(KINDS[kind]()).eval()
    for weight in network.parameters():
        weight.data.mul_(4.0 if weight.ndim == 2 else 1.0)  # so that attention is not uniform
    return network


@torch.no_grad()
def _first_tokens(network: Any, length: int) -> torch.Tensor:
    """The log-probabilities of the first tokens of a text of this length."""
    ids = torch.arange(40, 40 + length)[None]
    logprobs = network(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    return logprobs[: TOKENS - 1].gather(1, torch.arange(41, 40 + TOKENS)[:length, None])


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_where_earlier_tokens_get_other_probabilities(kind: str) -> None:
    """transformers' own network is another one in a longer text, by a hundredth of a nat in a token and more."""
    network = _network(kind)
    limit = rotary_limit(network.config)
    assert limit is not None
    assert limit.tokens == TOKENS
    short = _first_tokens(network, TOKENS)
    torch.testing.assert_close(_first_tokens(network, TOKENS - 2), short[: TOKENS - 2])
    longer = _first_tokens(network, TOKENS + 1), _first_tokens(network, 4 * TOKENS)
    assert float((longer[0] - short).abs().max()) > 1e-3
    assert float((longer[1] - short).abs().max()) > 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_within_the_limit_what_is_sampled_is_what_is_scored_and_beyond_it_is_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    _network(kind).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    check_policy(folder, longest=TOKENS)
    with pytest.raises(NashwardError, match=rf"{kind}.*{TOKENS} tokens.* {TOKENS + 1}; .*--max-prompt-tokens"):
        check_policy(folder, longest=TOKENS + 1)
    model = LanguageModel.from_pretrained(folder, lora=Lora(rank=2), quantise=False)
    model.write_start_adapter(tmp_path / "start", None)
    prompt = list(range(40, 40 + TOKENS - 6))
    with model.use_adapter(tmp_path / "start") as network:
        (row,) = sample(model, [prompt], [[1, 2, 3]], Sampling(max_new_tokens=6))
        assert max(len(response.ids) for response in row) == 6
        for ids in (response.ids for response in row):
            whole = sequence_logprobs(network, [prompt], [ids], model.pad_id)
            one_by_one = sum(
                sequence_logprobs(network, [[*prompt, *ids[:k]]], [[token]], model.pad_id)
                for k, token in enumerate(ids)
            )
            torch.testing.assert_close(whole, one_by_one, rtol=1e-4, atol=1e-4)
        with pytest.raises(NashwardError, match=rf"{kind}.*{TOKENS} tokens.*has {TOKENS - 6}"):
            sample(model, [prompt], [[1]], Sampling(max_new_tokens=7))
        with pytest.raises(NashwardError, match=rf"{kind}.*{TOKENS} tokens.*has {TOKENS + 1}"):
            sequence_logprobs(network, [prompt, prompt], [[40], [40] * 7], model.pad_id)


def test_frequencies_that_do_not_change_set_no_limit() -> None:
    same = {**LONG, "long_factor": LONG["short_factor"]}
    assert rotary_limit(Phi3Config(**SHAPE, max_position_embeddings=256, rope_parameters=same)) is None
    assert rotary_limit(LlamaConfig(**SHAPE)) is None
    by_layer = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}}  # fmt: skip
    assert rotary_limit(Gemma3TextConfig(**SHAPE, rope_parameters=by_layer)) is None
    by_layer["full_attention"] = DYNAMIC
    found = rotary_limit(Gemma3TextConfig(**SHAPE, max_position_embeddings=TOKENS, rope_parameters=by_layer))
    assert found is not None
    assert found.tokens == TOKENS
