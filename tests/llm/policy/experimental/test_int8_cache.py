"""Keys and values in 8 bits: half the bytes, nearly the same policy; and a prompt's responses in parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from nashward.llm import LanguageModel, Sampling
from nashward.llm.policy import sampling as module
from nashward.llm.policy.experimental.int8_cache import QuantisedLayer, quantised_cache
from nashward.llm.policy.sampling import sample


def test_what_is_held_is_off_by_three_quarters_of_a_scale_at_most() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = QuantisedLayer()
    whole = [torch.randn(2, 3, n, 64, generator=generator) * torch.tensor([1e-3, 1.0, 50.0])[:, None, None]
             for n in (5, 1, 1)]  # fmt: skip
    for states in whole:
        keys, values = layer.update(states, 2 * states)
    for found, expected in ((keys, torch.cat(whole, -2)), (values, 2 * torch.cat(whole, -2))):
        scale = expected.abs().amax(-1, keepdim=True) / 127
        assert ((found - expected).abs() <= 0.76 * scale).all()
    assert layer.get_seq_length() == 7
    assert layer.keys is not None
    assert (layer.keys.dtype, layer.key_scales.dtype) == (torch.int8, torch.bfloat16)
    zeros, _ = QuantisedLayer().update(torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, 2, 8))
    assert torch.equal(zeros, torch.zeros(1, 1, 2, 8))


def test_the_next_token_is_nearly_as_likely(model: LanguageModel) -> None:
    """Token by token, as sampling goes: the whole distribution, against the full cache's."""
    base: Any = model.network.get_base_model().eval()
    ids = torch.randint(7, 200, (2, 30), generator=torch.Generator().manual_seed(0))
    logits = []
    with torch.no_grad():
        for cache in (DynamicCache(), quantised_cache()):
            found = [base(input_ids=ids[:, :10], past_key_values=cache).logits[:, -1]]
            found += [base(input_ids=ids[:, k : k + 1], past_key_values=cache).logits[:, -1] for k in range(10, 30)]
            logits.append(torch.stack(found).log_softmax(-1))
    full, rounded = logits
    kl = (full.exp() * (full - rounded)).sum(-1)
    assert 0 < kl.mean() < 1e-3


def test_sampling_with_it_ends_and_is_pinned(tiny_folder: Path) -> None:
    model = LanguageModel.from_pretrained(tiny_folder)
    prompts, seeds = [[0, 50, 60, 70], [0, 51]], [[1, 2, 3], [4, 5, 6]]
    settings = Sampling(max_new_tokens=6, kv_cache="int8")
    one, two = (sample(model, prompts, seeds, settings) for _ in range(2))
    assert one == two
    assert [len(row) for row in one] == [3, 3]
    with pytest.raises(ValueError, match="kv_cache is 'int4'; expected one of full, int8"):
        Sampling(kv_cache="int4")  # type: ignore[arg-type]


def test_a_batch_smaller_than_a_prompts_responses_is_kept_to(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanguageModel.from_pretrained(tiny_folder)
    whole, sizes = module._sample_batch, []

    def spy(model: Any, prompts: Any, seeds: Any, settings: Any) -> Any:
        sizes.append(len(prompts))
        return whole(model, prompts, seeds, settings)

    prompts, seeds = [[0, 50, 60, 70], [0, 51]], [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    settings = Sampling(max_new_tokens=6, kv_cache="int8")
    expected = sample(model, prompts[:1], seeds[:1], settings)
    monkeypatch.setattr(module, "_sample_batch", spy)
    found = sample(model, prompts, seeds, dataclasses.replace(settings, batch=2))
    assert sizes == [2, 2, 1, 2, 2, 1]
    assert found[0] == expected[0]
