"""Traps of preference optimisation at low memory that cost others a day: docs/traps.md lists them all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nashward import games, llm
from nashward.llm import LanguageModel, Lora, Sampling
from nashward.llm.data.prompts import Prompt
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.sampling import sample
from nashward.llm.store.files import read_shard
from tests.conftest import ROOT

from .. import tiny
from ..tiny_run import self_play


def _ask(text: str) -> Prompt:
    return Prompt(({"role": "user", "content": text},))


def _initial(folder: Path, tmp_path: Path, placement: dict[str, str] | None = None) -> LanguageModel:
    model = LanguageModel.from_pretrained(folder, lora=Lora(rank=4), device="cpu", quantise=True, placement=placement)
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.network.named_parameters():
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    model.save(tmp_path / "adapter")
    return model


def test_a_cut_response_gets_no_stop_token_and_a_finished_one_holds_one(tiny_folder: Path, tmp_path: Path) -> None:
    model = _initial(tiny_folder, tmp_path)
    with model.use_adapter(tmp_path / "adapter"):
        cut = sample(model, [model.encode(_ask("a"))], [list(range(8))], Sampling(max_new_tokens=1))[0]
        longer = sample(model, [model.encode(_ask("a"))], [list(range(60))], Sampling(max_new_tokens=40))[0]
    for response in [*cut, *longer]:
        stops = sum(token in model.stop_ids for token in response.ids)
        assert stops == (1 if response.finished else 0)
        assert not response.finished or response.ids[-1] in model.stop_ids
    assert not all(response.finished for response in cut)
    assert any(response.finished for response in longer)


def test_no_string_in_a_prompt_changes_it_and_blanks_of_a_response_survive(tiny_folder: Path, tmp_path: Path) -> None:
    model = _initial(tiny_folder, tmp_path)
    text = "Nothing, None and [/INST] None."
    assert text in model.tokenizer.decode(model.encode(_ask(text)))
    run = self_play(
        policy=tiny_folder, oracle=tiny.high_bytes(), solver=games.MWU(1.0), prompts=[text, "None"], iterations=1,
        folder=tmp_path / "run", responses=2, sampling=Sampling(max_new_tokens=6), lora=Lora(rank=2),
    ).run()  # fmt: skip
    (file,) = (run.folder / "iteration-01" / "responses").glob("*.parquet")
    rows = read_shard(file)
    assert {row["prompt"] for row in rows} == {_ask(text).id, _ask("None").id}
    # what was sampled is what is stored: text is made from the ids, never ids from the text
    for row in rows:
        ids = [token for token in row["ids"] if token not in model.stop_ids]
        assert row["text"] == model.decode(ids)
        assert row["prompt_ids"] == model.encode(_ask(text if row["prompt"] == _ask(text).id else "None"))


def test_tokens_that_would_merge_at_the_boundary_are_trained_as_they_were_sampled(tmp_path: Path) -> None:
    """The prompt ends with "a" and the response begins with "b"; encoded together they would be one token "ab"."""
    folder = tiny.policy(tmp_path / "model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*tiny.SPECIAL, *alphabet[:-1], "ab"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    words = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        chat_template="{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
    )  # fmt: skip
    words.save_pretrained(folder)
    model = LanguageModel.from_pretrained(folder, lora=Lora(rank=2), device="cpu", quantise=False)
    prompt, response = model.encode(_ask("a")), [vocabulary["b"]]
    assert words("ab", add_special_tokens=False)["input_ids"] == [vocabulary["ab"]]
    logits = model.network(torch.tensor([[*prompt, *response]])).logits[0, -2]
    expected = logits.log_softmax(-1)[vocabulary["b"]]
    torch.testing.assert_close(sequence_logprobs(model.network, [prompt], [response], 0)[0], expected)


def test_what_is_sampled_from_is_what_is_trained(tiny_folder: Path, tmp_path: Path) -> None:
    """One 4-bit model for both: each token's log-probability while it was drawn equals the one in training."""
    model = _initial(tiny_folder, tmp_path)
    assert any("4bit" in type(module).__name__ for module in model.network.modules())
    prompt = model.encode(_ask("Name a river."))
    with model.use_adapter(tmp_path / "adapter") as network:
        options = {"max_new_tokens": 12, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
        ids = torch.tensor([prompt])
        drawn = network.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    response = drawn.sequences[0, len(prompt) :].tolist()
    steps = torch.stack(drawn.logits)[:, 0].log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]
    with model.training(tmp_path / "adapter"):
        total = sequence_logprobs(model.network, [prompt], [response], model.pad_id).detach()[0]
    assert abs(float(total - steps.sum())) <= 1e-4 * len(response)


def test_gradient_checkpointing_changes_no_gradient(tiny_folder: Path, tmp_path: Path) -> None:
    found = []
    for checkpointing in (False, True):
        model = _initial(tiny_folder, tmp_path, {"checkpoints": "device" if checkpointing else "none"})
        with model.training(tmp_path / "adapter") as weights:
            base: Any = model.network.get_base_model()
            assert base.model.layers[0].gradient_checkpointing is checkpointing
            responses = [[40, 41, 42, 6], [50, 51]]
            sequence_logprobs(model.network, [model.encode(_ask("a"))] * 2, responses, model.pad_id).sum().backward()
            gradients = [weight.grad for weight in weights]
        assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
        found.append(torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]))
        with model.use_adapter(tmp_path / "adapter"):  # the cache works again afterwards
            assert sample(model, [model.encode(_ask("a"))], [[1]], Sampling(max_new_tokens=3))[0][0].ids
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-7)


def test_adapters_move_at_a_small_rate_which_bfloat16_ones_would_not(tiny_folder: Path, tmp_path: Path) -> None:
    """At 5e-7 a bfloat16 master keeps nearly all of its entries; ours are float32, and the metric shows their move."""
    run = self_play(
        policy=tiny_folder, oracle=tiny.high_bytes(), solver=games.MWU(1.0), prompts=[f"p{k}" for k in range(4)],
        folder=tmp_path / "run", iterations=1, responses=3, sampling=Sampling(max_new_tokens=6), lora=Lora(rank=2),
        fit=llm.Fit(
            learning_rate=5e-7, schedule="constant", warmup=0.0, epochs=20, batch=2, held_out=0.0, validation=0.0
        ),
    ).run()  # fmt: skip
    assert run.metrics[0]["changed_fraction"] > 0.95
    generator = torch.Generator().manual_seed(0)
    weight = (torch.rand(16, 4096, generator=generator) * 2 - 1) / 64  # as PEFT starts lora_A
    half = weight.bfloat16()
    for _ in range(40):
        half = half - 5e-7
    assert float((half != weight.bfloat16()).float().mean()) < 0.05


def test_the_list_of_traps_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "traps.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) >= 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
    assert {int(n) for n in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == set(range(25))
