"""The policy's traps: wrong gradients after generate, dropout, BOS and EOS, adapters that do not load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import bitsandbytes
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    DebertaV2Config,
    GPTJConfig,
    GPTJForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from nashward.llm import LanguageModel, Lora, Sampling, pocket
from nashward.llm.data.prompts import Prompt
from nashward.llm.policy.adapters.adapter_config import adapter_config
from nashward.llm.policy.base.checks import check_policy
from nashward.llm.policy.logprobs import sequence_logprobs, tiles_agree
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.policy.sampling import sample

from .. import tiny

PROMPT = Prompt(({"role": "user", "content": "Name a river."},))


def _stir(model: LanguageModel, slot: str = "trained", seed: int = 1) -> None:
    """Give an adapter weights that change something."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.network.named_parameters():
        if "lora_" in name and f".{slot}." in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)


def _gradients(model: LanguageModel, start: Path) -> dict[str, torch.Tensor]:
    prompt = model.encode(PROMPT)
    with model.training(start) as weights:
        for weight in weights:
            weight.grad = None
        sequence_logprobs(model.network, [prompt], [[40, 41, 42, 6]], model.pad_id).sum().backward()
        names = {id(p): n for n, p in model.network.named_parameters()}
        return {names[id(w)]: w.grad.clone() for w in weights if w.grad is not None}


@pytest.mark.parametrize("source", ["tiny", "pocket"])
def test_gradients_are_the_same_before_and_after_generate(source: str, tiny_folder: Path, tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(
        tiny_folder if source == "tiny" else pocket.POLICY, lora=Lora(rank=4), quantise=True
    )
    assert any("4bit" in type(module).__name__ for module in model.network.modules())
    _stir(model)
    model.save(tmp_path / "adapter")
    before = _gradients(model, tmp_path / "adapter")
    assert len(before) == sum("lora_" in n and ".trained." in n for n, _ in model.network.named_parameters())
    assert all(gradient.abs().max() > 0 for gradient in before.values())
    with model.use_adapter(tmp_path / "adapter"):
        sample(model, [model.encode(PROMPT)], [[1, 2]], Sampling(max_new_tokens=8))
    after = _gradients(model, tmp_path / "adapter")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_logits_are_the_same_in_train_eval_and_no_grad_mode(model: LanguageModel, tmp_path: Path) -> None:
    _stir(model)
    model.save(tmp_path / "adapter")
    ids = torch.tensor([model.encode(PROMPT)])
    found = []
    with model.training(tmp_path / "adapter"):
        found.append(model.network(ids).logits.detach())
        model.network.eval()
        found.append(model.network(ids).logits.detach())
    with model.use_adapter(tmp_path / "adapter") as network:
        found.append(network(ids).logits)
        sample(model, [model.encode(PROMPT)], [[1]], Sampling(max_new_tokens=4))
        found.append(network(ids).logits)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_adapters_are_float32_and_the_base_is_frozen(model: LanguageModel) -> None:
    for name, parameter in model.network.named_parameters():
        if "lora_" in name:
            assert parameter.dtype == torch.float32
        else:
            assert not parameter.requires_grad, name


def test_the_saved_adapter_loads_with_plain_peft_as_it_lies(
    model: LanguageModel, tiny_folder: Path, tmp_path: Path
) -> None:
    _stir(model)
    model.save(tmp_path / "adapter")
    assert sorted(file.name for file in (tmp_path / "adapter").iterdir()) == ["adapter_config.json", WEIGHTS]
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    plain = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    weights = {n.replace(".default.", "."): p for n, p in plain.named_parameters() if "lora_" in n}
    saved = {n.replace(".trained.", "."): p for n, p in model.network.named_parameters() if ".trained." in n}
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], saved[name]) for name in weights)


def test_a_users_adapter_is_the_start_and_another_shape_is_taken_from_it(tiny_folder: Path, tmp_path: Path) -> None:
    first = LanguageModel.from_pretrained(tiny_folder, lora=Lora(rank=3))
    _stir(first)
    first.save(tmp_path / "mine")
    second = LanguageModel.from_pretrained(tiny_folder, adapter=tmp_path / "mine", lora=Lora(rank=8))
    second.write_start_adapter(tmp_path / "start", tmp_path / "mine")
    mine, start = load_file(tmp_path / "mine" / WEIGHTS), load_file(tmp_path / "start" / WEIGHTS)
    assert mine.keys() == start.keys()
    assert all(torch.equal(mine[name], start[name]) for name in mine)


def test_a_fresh_start_changes_nothing(model: LanguageModel, tmp_path: Path) -> None:
    model.write_start_adapter(tmp_path / "start", None)
    ids = torch.tensor([model.encode(PROMPT)])
    with model.use_adapter(tmp_path / "start") as network:
        with_adapter = network(ids).logits
        with network.disable_adapter():
            assert torch.equal(network(ids).logits, with_adapter)


def test_one_bos_and_the_template_ids(tiny_folder: Path) -> None:
    for folder in (tiny_folder, pocket.POLICY):
        model = LanguageModel.from_pretrained(folder)
        ids = model.encode(Prompt(({"role": "user", "content": "None of it. <s>None"},)))
        assert ids[0] == model.tokenizer.bos_token_id
        assert "None of it." in model.tokenizer.decode(ids)
    assert model.encode(PROMPT).count(model.tokenizer.bos_token_id) == 1


def test_every_stop_token_ends_a_response_and_only_finished_ones_hold_it(model: LanguageModel, tmp_path: Path) -> None:
    assert model.stop_ids == [1, 6]
    model.write_start_adapter(tmp_path / "start", None)
    with model.use_adapter(tmp_path / "start"):
        (answers,) = sample(model, [model.encode(PROMPT)], [list(range(300))], Sampling(max_new_tokens=40, batch=300))
    ends = {answer.ids[-1] for answer in answers if answer.finished}
    assert ends == {1, 6}
    for answer in answers:
        stops = [token for token in answer.ids if token in model.stop_ids]
        assert len(stops) == answer.finished
        assert answer.finished or len(answer.ids) == 40
        assert "<|end|>" not in answer.text
    with model.use_adapter(tmp_path / "start"):
        ((cut,),) = sample(model, [model.encode(PROMPT)], [[5]], Sampling(max_new_tokens=1))
    assert not cut.finished
    assert len(cut.ids) == 1


def test_sampling_draws_from_the_policys_own_distribution(model: LanguageModel, tmp_path: Path) -> None:
    """The first tokens of 4000 responses against the softmax, by a chi-square test; settings of the checkpoint
    (a repetition penalty) do not leak in."""
    model.write_start_adapter(tmp_path / "start", None)
    ids = model.encode(PROMPT)
    with model.use_adapter(tmp_path / "start") as network:
        expected = network(torch.tensor([ids])).logits[0, -1].softmax(-1).double()
        (answers,) = sample(model, [ids], [list(range(4000))], Sampling(max_new_tokens=1, batch=4000))
        (narrow,) = sample(model, [ids], [list(range(500))], Sampling(max_new_tokens=1, top_p=0.2, batch=500))
    counts = torch.bincount(torch.tensor([answer.ids[0] for answer in answers]), minlength=len(expected)).double()
    often = expected * 4000 >= 5
    statistic = ((counts - 4000 * expected)[often] ** 2 / (4000 * expected[often])).sum()
    degrees = int(often.sum())
    assert abs(float(statistic) - degrees) < 4 * (2 * degrees) ** 0.5
    kept = expected.sort(descending=True)
    nucleus = set(kept.indices[: int((kept.values.cumsum(0) < 0.2).sum()) + 1].tolist())
    assert {answer.ids[0] for answer in narrow} <= nucleus


def test_a_response_depends_on_its_own_seed_only(model: LanguageModel, tmp_path: Path) -> None:
    model.write_start_adapter(tmp_path / "start", None)
    ids = [model.encode(PROMPT), model.encode(Prompt(({"role": "user", "content": "Name a liver."},)))]
    with model.use_adapter(tmp_path / "start"):
        together = sample(model, ids, [[1, 2, 3], [4, 5, 6]], Sampling(max_new_tokens=12))
        alone = sample(model, ids[1:], [[5]], Sampling(max_new_tokens=12))
    assert together[1][1] == alone[0][0]
    assert len({tuple(answer.ids) for row in together for answer in row}) == 6


@pytest.mark.parametrize("pad", [0, 6])
def test_log_probabilities_alone_in_a_batch_and_by_a_plain_loop(model: LanguageModel, tmp_path: Path, pad: int) -> None:
    """Batches pad on the right; the filler may equal a stop token."""
    _stir(model)
    model.save(tmp_path / "adapter")
    prompts = [[0, 4, 50, 51, 5], [0, 4, 60, 5], [0, 4, 70, 71, 72, 73, 5]]
    responses = [[80, 81, 6], [90, 1], [100, 101, 102, 103, 6]]
    with model.use_adapter(tmp_path / "adapter") as network:
        batch = sequence_logprobs(network, prompts, responses, pad)
        for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            alone = sequence_logprobs(network, [prompt], [response], pad)
            logits = network(torch.tensor([prompt + response])).logits[0].double().log_softmax(-1)
            plain = sum(logits[len(prompt) - 1 + h, token] for h, token in enumerate(response))
            assert float(alone[0]) == pytest.approx(float(batch[i]), abs=2e-5)
            assert float(alone[0]) == pytest.approx(float(plain), abs=2e-5)


def test_dropout_of_a_users_adapter_is_silent(tiny_folder: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.5, task_type="CAUSAL_LM")
    peft.get_peft_model(base, config).save_pretrained(str(tmp_path / "mine"))
    state = load_file(tmp_path / "mine" / WEIGHTS)
    save_file({k: torch.full_like(v, 0.05) for k, v in state.items()}, tmp_path / "mine" / WEIGHTS)
    model = LanguageModel.from_pretrained(tiny_folder, adapter=tmp_path / "mine")
    ids = torch.tensor([model.encode(PROMPT)])
    with model.training(tmp_path / "mine"):
        trained = model.network(ids).logits.detach()
    with model.use_adapter(tmp_path / "mine") as network:
        assert torch.equal(network(ids).logits, trained)


@pytest.mark.parametrize("checkpoints", ["none", "device"])
@pytest.mark.parametrize("architecture", ["attention", "layers"])
def test_dropout_of_the_base_is_silent(architecture: str, checkpoints: str, tmp_path: Path) -> None:
    words = tiny.tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    base = (  # the one has dropout in its attention, the other in and between its layers
        GraniteForCausalLM(GraniteConfig(**sizes, intermediate_size=64, attention_dropout=0.3, eos_token_id=1))
        if architecture == "attention"
        else OPTForCausalLM(OPTConfig(**sizes, ffn_dim=64, word_embed_proj_dim=32, dropout=0.3, eos_token_id=1))
    )
    base.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    model = LanguageModel.from_pretrained(tmp_path, lora=Lora(rank=2), placement={"checkpoints": checkpoints})
    model.write_start_adapter(tmp_path / "start", None)
    passes: list[int] = []
    causal: Any = model.network.get_base_model()
    causal.get_decoder().layers[0].self_attn.register_forward_hook(lambda *_: passes.append(1))
    text = [model.encode(PROMPT)], [[40, 41, 42, 6]], model.pad_id
    with model.use_adapter(tmp_path / "start") as network:
        scored = sequence_logprobs(network, *text)
    del passes[:]
    with model.training(tmp_path / "start"):
        trained = sequence_logprobs(model.network, *text)
        trained.sum().backward()
    assert torch.equal(trained.detach(), scored)
    assert len(passes) == (2 if checkpoints == "device" else 1)  # the checkpointed layer is computed again


def test_what_is_no_policy_is_refused_before_weights_are_read(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a PairRM.*--policy and --oracle"):
        check_policy(pocket.PAIRRM)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no model: it has no config\.json"):
        check_policy(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no model folder"):
        check_policy(tmp_path / "none")
    DebertaV2Config().save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="is a deberta-v2, not a causal language model"):
        check_policy(tmp_path / "encoder")
    with pytest.raises(ValueError, match=r"no chat template .* --chat-template"):
        check_policy(tiny.policy(tmp_path / "plain", chat=False))
    assert check_policy(tmp_path / "plain", tiny.TEMPLATE).chat_template == tiny.TEMPLATE
    with pytest.raises(ValueError, match="neither an end-of-text token nor a pad token"):
        check_policy(tiny.policy(tmp_path / "endless", pad=False, eos=False))
    shutil.copytree(tiny_folder, tmp_path / "bad")
    (tmp_path / "bad" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        check_policy(tmp_path / "bad")


def test_a_folder_without_an_adapter_is_refused_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object, **__: object) -> None:
        raise AssertionError("asked for a repository of this name")

    monkeypatch.setattr(peft.PeftConfig, "from_pretrained", ask)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^runs/first .*adapter_config\.json"):
        adapter_config("runs/first")


def test_a_model_without_a_pad_token_takes_a_stop_token_as_filler(tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(tiny.policy(tmp_path / "no_pad", pad=False))
    assert model.pad_id in model.stop_ids
    model.write_start_adapter(tmp_path / "start", None)
    short, long = model.encode(PROMPT), model.encode(Prompt(({"role": "user", "content": "x" * 40},)))
    with model.use_adapter(tmp_path / "start"):
        together = sample(model, [short, long], [[1, 2], [3, 4]], Sampling(max_new_tokens=10))
    assert all(answer.finished == (answer.ids[-1] in model.stop_ids) for row in together for answer in row)


@pytest.mark.parametrize("setting", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"max_new_tokens": 0}])
def test_sampling_settings_are_checked(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Sampling(**setting)  # type: ignore[arg-type]


def test_a_head_in_four_bits_is_one_policy_in_sampling_scoring_and_training(tiny_folder: Path, tmp_path: Path) -> None:
    plain = LanguageModel.from_pretrained(tiny_folder, quantise=True)
    model = LanguageModel.from_pretrained(tiny_folder, quantise_head=True)
    base: Any = model.network.get_base_model()
    assert base.get_output_embeddings().weight.dtype == torch.uint8
    assert tiles_agree(base)
    prompt, texts = [0, 50, 60, 70], [[40, 41, 42, 6], [50, 51, 52, 53]]
    model.write_start_adapter(tmp_path / "start", None)
    with model.use_adapter(tmp_path / "start") as network:
        logits = network(torch.tensor([prompt + texts[0]])).logits[0, len(prompt) - 1 : -1].double()
        scored = sequence_logprobs(network, [prompt], [texts[0]], model.pad_id)
    by_hand = logits.log_softmax(-1)[range(4), texts[0]].sum()
    assert float(scored) == pytest.approx(float(by_hand), abs=1e-4)
    with model.training(tmp_path / "start"):
        again = sequence_logprobs(model.network, [prompt], [texts[0]], model.pad_id)
        again.sum().backward()
    assert torch.equal(again.detach(), scored)
    other = sequence_logprobs(plain.network.eval(), [prompt], [texts[0]], plain.pad_id)
    assert float((other.detach() - scored).abs()) > 1e-3  # another policy than the one with a plain head


def test_a_head_that_cannot_be_in_four_bits_says_why(tmp_path: Path) -> None:
    tiny.policy(tmp_path)
    with pytest.raises(ValueError, match="quantise_head needs quantise"):
        LanguageModel.from_pretrained(tmp_path, quantise=False, quantise_head=True)
    config = LlamaConfig.from_pretrained(tmp_path, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tied.*quantise_head"):
        LanguageModel.from_pretrained(tmp_path, quantise_head=True)


def test_a_device_that_is_too_small_to_load_on_is_loaded_by_way_of_the_host(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out while a tensor is quantised, of which transformers makes an error of its own."""
    whole, calls = bitsandbytes.functional.quantize_4bit, []

    def small(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*given, **named)

    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", small)
    model = LanguageModel.from_pretrained(tiny_folder, device="cpu:0", quantise=True)
    assert len(calls) > 14
    assert model.device.type == "cpu"
    calls.clear()
    with pytest.raises(RuntimeError):  # on the host itself nothing is left to try
        LanguageModel.from_pretrained(tiny_folder, device="cpu", quantise=True)


def test_a_training_leaves_no_gradient_behind(tiny_folder: Path, tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(tiny_folder)
    model.write_start_adapter(tmp_path / "start", None)
    with model.training(tmp_path / "start") as weights:
        sequence_logprobs(model.network, [[0, 50]], [[40, 6]], model.pad_id).sum().backward()
        assert any(weight.grad is not None for weight in weights)
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_a_model_whose_norms_have_another_name_loads(tmp_path: Path) -> None:
    """GPT-J's are called ln_1 and ln_f."""
    words = tiny.tokenizer()
    config = GPTJConfig(vocab_size=len(words), n_embd=64, n_layer=1, n_head=4, rotary_dim=8, n_positions=64)
    config.bos_token_id, config.eos_token_id = 0, 1
    GPTJForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        assert LanguageModel.from_pretrained(tmp_path, dtype=dtype).dtype == dtype
