"""Continuous batching draws what `generate` draws, computes each prompt once, and no row that is finished."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from nashward import llm
from nashward.llm import LanguageModel, Sampling
from nashward.llm.policy import sampling
from nashward.llm.policy.decoding import Decoder, rows_attention, supported
from nashward.llm.policy.sampling import sample

PROMPTS = [[0, *range(20, 20 + n)] for n in (3, 17, 1, 9, 30, 5, 2)] + [[7]]
SEEDS = [[100 * i + k for k in range(3)] for i in range(len(PROMPTS))]


@pytest.fixture
def exact(tiny_folder: Path) -> LanguageModel:
    return LanguageModel.from_pretrained(tiny_folder, quantise=False, device="cpu")


def _by_generate(monkeypatch: pytest.MonkeyPatch, model: LanguageModel, settings: Sampling) -> Any:
    with monkeypatch.context() as patched:
        patched.setattr(sampling, "supported", lambda network: False)
        return sample(model, PROMPTS, SEEDS, settings)


@pytest.mark.parametrize(
    "settings",
    [Sampling(max_new_tokens=40, batch=5), Sampling(temperature=0.7, top_p=0.8, max_new_tokens=12, batch=64)],
    ids=["refilled", "warped"],
)
def test_it_draws_what_generate_draws(
    exact: LanguageModel, monkeypatch: pytest.MonkeyPatch, settings: Sampling
) -> None:
    done: list[int] = []
    drawn = sample(exact, PROMPTS, SEEDS, settings, done.append)
    assert drawn == _by_generate(monkeypatch, exact, settings)
    assert sum(done) == len(PROMPTS)
    lengths = {len(response.ids) for row in drawn for response in row}
    assert len(lengths) >= 4  # rows finish at different times
    assert drawn == sample(exact, PROMPTS, SEEDS, settings)


def test_each_prompt_is_computed_once_and_no_finished_row(exact: LanguageModel) -> None:
    computed: Counter[str] = Counter()

    def count(module: Any, given: Any, named: dict[str, Any]) -> None:
        if named.get("input_ids") is not None:
            computed["prompts"] += len(named["input_ids"])
        else:
            computed["rows"] += len(named["inputs_embeds"])

    supported(exact.network)  # its check computes two texts
    base: Any = exact.network.get_base_model()
    hook = base.model.register_forward_pre_hook(count, with_kwargs=True)
    drawn = sample(exact, PROMPTS, SEEDS, Sampling(max_new_tokens=40, batch=5))
    hook.remove()
    assert computed["prompts"] == sum(len(prompt) > 1 for prompt in PROMPTS)  # a prompt's last token is a row's first
    assert computed["rows"] == sum(len(response.ids) for row in drawn for response in row)


def test_heads_that_share_a_key_are_not_copied_and_give_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, heads, n, 8, generator=generator) for heads, n in ((6, 1), (2, 11), (2, 11)))
    mask = (torch.arange(11) <= torch.tensor([[10], [4], [0]]))[:, None, None]
    states, _ = rows_attention(None, query, key, value, mask, scaling=0.3)
    keys, values = (x.repeat_interleave(3, 1) for x in (key, value))
    expected = torch.nn.functional.scaled_dot_product_attention(query, keys, values, mask, scale=0.3)
    torch.testing.assert_close(states, expected.transpose(1, 2))
    with pytest.raises(NotImplementedError, match="mask and a scale"):
        rows_attention(None, query, key, value, mask, softcap=20.0)


def test_a_row_that_moves_or_outgrows_the_cache_keeps_its_logits(exact: LanguageModel) -> None:
    texts = [list(range(30, 30 + n)) for n in (40, 3, 21)]
    with torch.no_grad():
        decoder = Decoder(exact.network, 3, 60)
        for row, (text, prefix) in enumerate(zip(texts, decoder.prefixes(texts), strict=True)):
            decoder.insert(row, text[-1], prefix)
        assert decoder.cache.length < 60
        before = decoder.logits(3, 40)
        decoder.move([2], [0], 40)
        after = decoder.logits(2, 60)
        whole = [exact.network(input_ids=torch.tensor([text])).logits[0, -1] for text in texts]
    torch.testing.assert_close(before, torch.stack(whole), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after, torch.stack([whole[2], whole[1]]), atol=1e-4, rtol=1e-4)


def test_out_of_memory_halves_the_rows_and_begins_again(exact: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Decoder.logits
    events: list[dict[str, Any]] = []

    def limited(decoder: Decoder, count: int, length: int) -> Any:
        if decoder.cache.rows > 3 and length > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(decoder, count, length)

    expected = sample(exact, PROMPTS, SEEDS, Sampling(max_new_tokens=20, batch=3))
    monkeypatch.setattr(Decoder, "logits", limited)
    exact.on_event = events.append
    assert sample(exact, PROMPTS, SEEDS, Sampling(max_new_tokens=20, batch=12)) == expected
    assert events == [{"out_of_memory": "response", "at_once": rows} for rows in (12, 6)]


def _small(kind: Any, network: Any, **settings: Any) -> Any:
    config = kind(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(network(config), lora).eval()


def test_what_has_another_cache_or_attention_is_left_to_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert supported(_small(LlamaConfig, LlamaForCausalLM))
    assert not supported(_small(MistralConfig, MistralForCausalLM, sliding_window=8))
    assert supported(_small(MistralConfig, MistralForCausalLM, sliding_window=None))
    assert not supported(object())
    monkeypatch.setattr("nashward.llm.policy.decoding._attention", lambda causal: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a fault of ours is not taken for an unsupported model
        supported(_small(LlamaConfig, LlamaForCausalLM))


def test_a_model_whose_logits_differ_is_left_to_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    def louder(*given: Any, **named: Any) -> Any:
        states, weights = rows_attention(*given, **named)
        return 1.05 * states, weights

    from transformers import AttentionInterface

    monkeypatch.setitem(AttentionInterface._global_mapping, "nashward_rows", louder)
    assert not supported(_small(LlamaConfig, LlamaForCausalLM, initializer_range=0.3))


def test_a_response_does_not_depend_on_the_others_in_its_batch() -> None:
    model = LanguageModel.from_pretrained(llm.pocket.POLICY, quantise=False, device="cpu")
    prompts = [
        model.encode(llm.Prompt(({"role": "user", "content": text},))) for text in ("Name a river.", "Hi", "Tea")
    ]
    settings = Sampling(max_new_tokens=16)
    together = sample(model, prompts, [[1, 2], [3, 4], [5, 6]], settings)
    alone = [
        sample(model, [prompt], [seeds], settings)[0]
        for prompt, seeds in zip(prompts, [[1, 2], [3, 4], [5, 6]], strict=True)
    ]
    assert together == alone
