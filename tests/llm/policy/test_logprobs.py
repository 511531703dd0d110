"""Tiled log-probabilities against the plain ones, and the traps of sums over padded tokens."""

from typing import Any

import bitsandbytes
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

from nashward.llm.policy import logprobs
from nashward.llm.policy.logprobs import Head, sequence_logprobs, token_logprobs

SHAPE: dict[str, Any] = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, initializer_range=0.3)),
    "tied qwen": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True, initializer_range=0.3)),
    "capped gemma": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=3.0, initializer_range=0.3)
    ),
    "scaled cohere": lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.25, initializer_range=0.3)),
    "scaled granite": lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=4.0, initializer_range=0.3)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3)
    ),
}
PROMPTS = [[1, 5, 6], [1, 7], [1, 8, 9, 10, 11]]
RESPONSES = [[12, 13, 14, 2], [15, 2], [16]]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(logprobs, "TOKEN_TILE", 3)
    monkeypatch.setattr(logprobs, "WORD_TILE", 20)


def plain(model, prompt, response):
    """One text alone, all of its logits, in float64 from the logits on."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None]).sum()


@pytest.mark.parametrize("name", MODELS)
def test_values_and_gradients_equal_the_plain_ones(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    head = model.get_output_embeddings().weight
    trained = [p for p in model.parameters() if p is not head]  # tied: no gradient through the embeddings either
    coefficients = torch.tensor([0.3, -1.0, 2.0])
    tiled = sequence_logprobs(model, PROMPTS, RESPONSES, 0)
    assert tiled.dtype == torch.float32
    expected = torch.stack([plain(model, *both) for both in zip(PROMPTS, RESPONSES, strict=True)])
    torch.testing.assert_close(tiled.double(), expected, rtol=1e-6, atol=1e-5)
    if name == "tied qwen":
        head.requires_grad_(False)
        tiled = sequence_logprobs(model, PROMPTS, RESPONSES, 0)
        expected = torch.stack([plain(model, *both) for both in zip(PROMPTS, RESPONSES, strict=True)])
    ours = torch.autograd.grad((tiled * coefficients).sum(), trained)
    theirs = torch.autograd.grad((expected * coefficients).sum(), trained)
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).norm()) <= 1e-5 * float(b.norm()) + 1e-7


@pytest.mark.parametrize(("biased", "scale", "cap"), [(False, 1.0, None), (True, 0.5, 4.0)])
def test_the_gradient_by_finite_differences_in_float64(biased, scale, cap):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(7, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(53, (7,), generator=generator)
    weight = torch.randn(53, 6, generator=generator, dtype=torch.float64)
    head = Head(weight, torch.randn(53, generator=generator, dtype=torch.float64) if biased else None, scale, cap)
    assert torch.autograd.gradcheck(lambda own: token_logprobs(own, head, targets), states)


def test_a_large_vocabulary_in_bfloat16_against_float64(monkeypatch):
    monkeypatch.setattr(logprobs, "TOKEN_TILE", 128)
    monkeypatch.setattr(logprobs, "WORD_TILE", 4096)
    generator = torch.Generator().manual_seed(1)
    states = (torch.randn(300, 64, generator=generator) * 2).bfloat16().requires_grad_(True)
    weight = (torch.randn(128_256, 64, generator=generator) * 0.2).bfloat16()
    targets = torch.randint(128_256, (300,), generator=generator)
    total = token_logprobs(states, Head(weight), targets).sum()
    exact = states.detach().double().requires_grad_(True)
    reference = (exact @ weight.double().T).log_softmax(-1).gather(1, targets[:, None]).sum()
    # the logits are rounded to bfloat16, as the network's own are; the sums are not
    assert abs(float(total.detach() - reference.detach())) < 2.0
    assert float(reference.detach()) < -3000
    (ours,) = torch.autograd.grad(total, states)
    (theirs,) = torch.autograd.grad(reference, exact)
    assert float((ours.double() - theirs).norm() / theirs.norm()) < 1e-2


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_padding_batch_and_order_change_nothing(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        alone = torch.cat([sequence_logprobs(model, [p], [r], 0) for p, r in zip(PROMPTS, RESPONSES, strict=True)])
        for order in ([0, 1, 2], [2, 0, 1], [1, 1, 0, 2]):
            found = sequence_logprobs(model, [PROMPTS[k] for k in order], [RESPONSES[k] for k in order], 2)
            torch.testing.assert_close(found, alone[order], rtol=1e-5, atol=1e-5)


def test_no_tile_is_larger_than_it_says(monkeypatch):
    torch.manual_seed(0)
    model = MODELS["llama"]().eval()
    assert logprobs.tiles_agree(model)  # which tries it once on a short text
    seen = []
    whole = Head.logits

    def spy(self, states, matrix, words):
        made = whole(self, states, matrix, words)
        seen.append(tuple(made.shape))
        return made

    monkeypatch.setattr(Head, "logits", spy)
    sequence_logprobs(model, PROMPTS, RESPONSES, 0).sum().backward()
    assert max(n for n, _ in seen) == 3
    assert max(v for _, v in seen) == 20
    assert len(seen) == 3 * 5  # 7 tokens in 3 tiles, 97 words in 5, once for the value and its gradient


def test_the_gradient_of_a_likely_word_is_exact_in_bfloat16_too():
    """Where p is near 1 the gradient is near 0: a difference of two rounded numbers would be noise."""
    generator = torch.Generator().manual_seed(2)
    weight = (torch.randn(60, 16, generator=generator)).bfloat16()
    targets = torch.arange(20)
    states = (weight[targets].float() * 0.7).bfloat16().requires_grad_(True)  # each state points to its target
    (ours,) = torch.autograd.grad(token_logprobs(states, Head(weight), targets).sum(), states)
    exact = states.detach().double().requires_grad_(True)
    # the logits as the network has them, rounded to bfloat16; the rest in float64
    logits = exact @ weight.double().T
    logits = logits + ((states.detach() @ weight.T).double() - logits).detach()
    chosen = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (theirs,) = torch.autograd.grad(chosen.sum(), exact)
    assert float(chosen.detach().exp().median()) > 0.95
    error = (ours.double() - theirs).norm(dim=1) / theirs.norm(dim=1)
    assert float(error.max()) < 2e-2


def test_words_that_are_ruled_out_do_no_harm():
    weight = torch.zeros(97, 4)
    bias = torch.full((97,), -torch.inf)
    bias[40:] = torch.linspace(-1, 1, 57)
    states = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([41, 50, 60, 70, 96])
    found = token_logprobs(states, Head(weight, bias), targets)
    torch.testing.assert_close(found, bias.log_softmax(-1)[targets])
    (gradient,) = torch.autograd.grad(found.sum(), states)
    assert torch.isfinite(gradient).all()


def test_a_head_that_tiles_do_not_know_is_used_as_it_is():
    """A dense layer before the decoder, a scale of another name: the network's own logits are held instead."""
    torch.manual_seed(0)
    shape = {**SHAPE, "num_key_value_heads": 1}
    config = RecurrentGemmaConfig(**shape, logits_soft_cap=2.0, block_types=["attention"], lru_width=32)
    for model in (RecurrentGemmaForCausalLM(config).eval(), MODELS["llama"]().eval()):
        tiled = logprobs.tiles_agree(model)
        assert tiled is (type(model) is LlamaForCausalLM)
        with torch.no_grad():
            found = sequence_logprobs(model, PROMPTS[:1], RESPONSES[:1], 0)[0]
            torch.testing.assert_close(found.double(), plain(model, PROMPTS[0], RESPONSES[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("words", [97, 20_000])
def test_a_head_in_four_bits_is_its_unpacked_matrix(words, nested):
    """Tile by tile, the last one not full; value and gradient are those of a plain head of the same numbers."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(words, 64, generator=generator)
    layer = bitsandbytes.nn.Linear4bit(64, words, bias=False, quant_type="nf4", compress_statistics=nested)
    layer.weight = bitsandbytes.nn.Params4bit(dense, quant_type="nf4", compress_statistics=nested)
    packed: Any = layer.to("cpu").weight
    head, plain_head = Head(packed), Head(dequantize_4bit(packed.data, packed.quant_state))
    assert head.size == words
    assert (plain_head.weight - dense).abs().mean() > 0.01
    states = torch.randn(9, 64, generator=generator, requires_grad=True)
    targets = torch.randint(0, words, (9,), generator=generator)
    for own in (slice(0, words), slice(0, 8), slice(3, 90), slice(words - 5, words), slice(words // 2, words)):
        torch.testing.assert_close(head.matrix(own, torch.float32), plain_head.weight[own], rtol=0, atol=0)
    found = [token_logprobs(states, one, targets) for one in (head, plain_head)]
    assert torch.equal(*found)
    gradients = [torch.autograd.grad(value.sum(), states)[0] for value in found]
    assert torch.equal(*gradients)
    logits = states.double() @ plain_head.weight.double().T
    torch.testing.assert_close(found[0].double(), logits.log_softmax(-1)[range(9), targets], rtol=1e-6, atol=1e-5)


def test_no_texts_and_an_empty_prompt():
    model = MODELS["llama"]().eval()
    assert sequence_logprobs(model, [], [], 0).shape == (0,)
    with pytest.raises(ValueError, match="1 prompt and 1 response"):
        sequence_logprobs(model, [[]], [[3]], 0)
