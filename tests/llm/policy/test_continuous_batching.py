"""Continuous batching draws what `generate` draws, computes each prompt once, and no row that is finished."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AttentionInterface, AutoModelForCausalLM, GPTJConfig, GPTJForCausalLM

from nashward import llm
from nashward.llm import LanguageModel, Sampling
from nashward.llm.policy import sampling
from nashward.llm.policy.decoding import WINDOW, Decoder, rows_attention, supported
from nashward.llm.policy.sampling import sample

from .. import tiny

PROMPTS = [[0, *range(20, 20 + n)] for n in (3, 17, 1, 9, 30, 5, 2)] + [[7]]
SEEDS = [[100 * i + k for k in range(3)] for i in range(len(PROMPTS))]


@pytest.fixture
def exact(tiny_folder: Path) -> LanguageModel:
    return LanguageModel.from_pretrained(tiny_folder, quantise=False, device="cpu")


def _by_generate(monkeypatch: pytest.MonkeyPatch, model: LanguageModel, settings: Sampling, prompts: int = 99) -> Any:
    with monkeypatch.context() as patched:
        patched.setattr(sampling, "supported", lambda network: False)
        return sample(model, PROMPTS[:prompts], SEEDS[:prompts], settings)


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


class Replayed:
    """Stands in for a CUDA graph: computes what was captured again, into the tensor that it gave."""

    def __init__(self, decoder: Decoder, count: int, window: int):
        self.decoder, self.count, self.window = decoder, count, window
        self.logits = self._forward()

    def _forward(self) -> Any:
        assert self.decoder._embedded is not None
        return self.decoder._forward(self.decoder._embedded[: self.count], self.window)

    def replay(self) -> None:
        self.logits.copy_(self._forward())


def test_graphs_of_a_few_sizes_serve_any_number_of_rows(exact: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Sampling(max_new_tokens=40, batch=7)
    expected = sample(exact, PROMPTS, SEEDS, settings)
    made = []

    def capture(decoder: Decoder, count: int, window: int) -> Any:
        made.append((count, window))
        graph = Replayed(decoder, count, window)
        decoder._captured[count, window] = captured = graph, graph.logits  # type: ignore[assignment]
        return captured

    def with_graphs(network: Any, rows: int, length: int, graphs: bool) -> Decoder:
        return Decoder(network, rows, length, True)

    monkeypatch.setattr(sampling, "Decoder", with_graphs)
    monkeypatch.setattr(Decoder, "_capture", capture)
    assert sample(exact, PROMPTS, SEEDS, settings) == expected
    assert len(made) == len(set(made))  # each is captured once
    assert {count for count, _ in made} == {2, 4, 6, 7}


def test_where_no_graph_can_be_captured_sampling_goes_on(
    exact: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Sampling(max_new_tokens=12, batch=7)
    expected = sample(exact, PROMPTS, SEEDS, settings)

    def refuse(decoder: Decoder, count: int, window: int) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(sampling, "Decoder", lambda network, rows, length, graphs: Decoder(network, rows, length, True))
    monkeypatch.setattr(Decoder, "_capture", refuse)
    assert sample(exact, PROMPTS, SEEDS, settings) == expected
    assert len([record for record in caplog.records if "without CUDA graphs" in record.message]) == 1


def _small(kind: Any, **settings: Any) -> Any:
    shape = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    config = kind(**shape | settings, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(0)
    turned = kind is transformers.GPT2Config  # its layers keep their matrices transposed
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=turned)
    return get_peft_model(AutoModelForCausalLM.from_config(config), lora).eval()


EIGHT = {"head_dim": 8}  # Gemma's heads are not hidden_size / heads wide


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (transformers.GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
        (transformers.GPTNeoXConfig, {}),
        (transformers.OPTConfig, {"ffn_dim": 48, "word_embed_proj_dim": 32}),
        (transformers.GemmaConfig, EIGHT),
        (transformers.Phi3Config, {}),
        (transformers.Qwen3Config, EIGHT),
        (transformers.GraniteConfig, {"attention_multiplier": 0.3, "logits_scaling": 3.0}),
        (transformers.CohereConfig, {"logit_scale": 0.2}),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_families_draw_what_generate_draws(
    exact: LanguageModel, monkeypatch: pytest.MonkeyPatch, kind: Any, settings: dict[str, Any]
) -> None:
    model = copy.copy(exact)
    model.network, model.stop_ids = _small(kind, **settings), [2, 30]
    assert supported(model.network)
    each = Sampling(max_new_tokens=20, batch=4)
    with torch.no_grad():
        assert sample(model, PROMPTS[:4], SEEDS[:4], each) == _by_generate(monkeypatch, model, each, 4)


def test_what_has_another_cache_or_attention_is_left_to_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    sliding = {"sliding_window": 8}
    assert supported(_small(transformers.MistralConfig, sliding_window=None))
    assert not supported(_small(transformers.MistralConfig, **sliding))
    assert not supported(_small(transformers.Gemma2Config, **EIGHT, **sliding, query_pre_attn_scalar=8))
    assert not supported(_small(transformers.GptOssConfig, **EIGHT, **sliding, num_local_experts=2))  # sinks
    assert not supported(_small(transformers.FalconConfig, alibi=True))
    assert not supported(object())
    monkeypatch.setattr("nashward.llm.policy.decoding._attention", lambda causal: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a fault of ours is not taken for an unsupported model
        supported(_small(transformers.LlamaConfig))


def test_a_model_whose_logits_differ_is_left_to_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    def louder(*given: Any, **named: Any) -> Any:
        states, weights = rows_attention(*given, **named)
        return 1.05 * states, weights

    monkeypatch.setitem(AttentionInterface._global_mapping, "nashward_rows", louder)
    assert not supported(_small(transformers.LlamaConfig, initializer_range=0.3))


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


def test_a_shift_of_all_logits_hides_no_difference(tmp_path: Path) -> None:
    """GPT-J's own attention does not read the mask of the rows: its logits differ, whatever they have in common."""
    words = tiny.tokenizer()
    sizes: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "initializer_range": 0.15}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = GPTJForCausalLM(GPTJConfig(vocab_size=len(words), n_positions=64, eos_token_id=1, **sizes))
    base.lm_head.bias.data -= 30.0
    base.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    model = LanguageModel.from_pretrained(tmp_path, lora=llm.Lora(rank=2), dtype=torch.bfloat16)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(WINDOW, "cpu", WINDOW["cuda"])  # as on a card, which computes in 16 bits
        assert not supported(model.network)
