"""The rounding of a merge: its expectation is the value, and small updates are not lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nashward.llm import LanguageModel, Lora
from nashward.llm.delivery.merge import merged, stochastically_rounded, stored_base

from .. import tiny


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [1.0 + 2**-13, -1.0 - 3 * 2**-13, 0.1, -0.1, 3e-5, -3.1e-5, 1 - 2**-13, 0.9999])
def test_the_mean_of_roundings_is_the_value(value: float, dtype: torch.dtype) -> None:
    values = torch.full((40_000,), value)
    rounded = stochastically_rounded(values, dtype, torch.Generator().manual_seed(1)).float()
    found = sorted(set(rounded.tolist()))
    assert len(found) == 2
    assert found[0] < values[0] < found[1]
    assert torch.tensor(found).to(dtype).float().tolist() == found
    middle = torch.tensor(sum(found) / 2)
    assert middle.to(dtype).float().item() in found  # nothing of the type lies between them
    spread = found[1] - found[0]
    assert abs(float((rounded.double() - values.double()).mean())) < 4 * spread / (2 * 40_000**0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_the_type_holds_is_unchanged(dtype: torch.dtype) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(2)).to(dtype).float()
    values = torch.cat([values, torch.tensor([0.0, -0.0])])
    assert torch.equal(stochastically_rounded(values, dtype, torch.Generator()).float(), values)


@pytest.mark.parametrize("value", [1e-10, -1e-10])
def test_next_to_zero_lies_the_smallest_of_its_sign(value: float) -> None:
    rounded = stochastically_rounded(torch.full((200_000,), value), torch.float16, torch.Generator().manual_seed(3))
    smallest = 2**-24 if value > 0 else -(2**-24)
    assert set(rounded.tolist()) == {0.0, smallest}
    assert float(rounded.double().mean()) == pytest.approx(value, rel=0.3)


def test_an_update_below_the_last_digit_is_kept(tiny_folder: Path, tmp_path: Path) -> None:
    """In bfloat16, to which PEFT's own merge rounds to the nearest: there most of it is lost."""
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.bfloat16)
    base.save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    model = LanguageModel.from_pretrained(tmp_path / "base", lora=Lora(rank=2), quantise=False)
    for name, weight in model.network.named_parameters():
        if ".trained." in name and "lora_B" in name:
            weight.data.fill_(2e-4)
    model.save(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    ours = merged(tmp_path / "base", tmp_path / "adapter", "16-bit")
    plain = stored_base(tmp_path / "base")
    weights, moved, wanted = dict(plain.named_parameters()), [], []
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for name, weight in ours.named_parameters():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_B.weight" in adapter:
            A, B = (adapter[f"{stem}.lora_{factor}.weight"] for factor in "AB")
            wanted.append((config["lora_alpha"] / config["r"] * B @ A).flatten())
            moved.append((weight.float() - weights[name].float()).flatten())
    want, got = torch.cat(wanted).detach(), torch.cat(moved).detach()
    assert float((want @ got) / (want @ want)) == pytest.approx(1, abs=0.1)
    before = torch.cat([weights[name].float().flatten() for name, _ in ours.named_parameters()
                        if f"base_model.model.{name.removesuffix('.weight')}.lora_B.weight" in adapter])  # fmt: skip
    before = before.detach()
    nearest = (before + want).to(torch.bfloat16).float() - before
    assert float((want @ nearest) / (want @ want)) < 0.5
