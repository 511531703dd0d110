"""Checkpoints of policies that cannot be: tokens without an embedding, positions, weights, configurations."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    OPTConfig,
)

from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import LanguageModel, Lora, Sampling
from nashward.llm.data.prompts import Prompt
from nashward.llm.policy import model as language_model
from nashward.llm.policy.base.checks import check_policy, skeleton
from nashward.llm.policy.base.text_limit import learned_positions
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.sampling import sample

from ... import tiny
from ...tiny_run import short_run

ROWS = len(tiny.tokenizer())


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "policy"))


def _edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def _with_tokens(folder: Path, *tokens: str, special: bool = True, **named: str) -> Any:
    """The folder's tokenizer with tokens beyond the embeddings, which are not resized."""
    words = AutoTokenizer.from_pretrained(folder)
    words.add_special_tokens({name: token for name, token in named.items()})
    words.add_tokens(list(tokens), special_tokens=special)
    words.save_pretrained(folder)
    return words


def _refused(folder: Path, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By the check and on the command line: one line, exit code 2, no weight read and nothing written."""

    def load(*given: Any, **options: Any) -> None:
        raise AssertionError("weights are read")

    monkeypatch.setattr(language_model, "load_base", load)
    capsys.readouterr()
    out = folder.parent / "run"
    for _ in range(2):
        code = main(_align(folder, out))
        error = capsys.readouterr().err.strip().splitlines()
        assert code == 2
        assert named in error[-1]
        assert len(error) == 1
        assert not out.exists()


def _align(folder: Path, out: Path) -> list[str]:
    (folder.parent / "p.txt").write_text("Hello\nHi\n")
    return [
        "align", "--policy", str(folder), "--oracle", "nashward.llm.oracles:Length", "--prompts",
        str(folder.parent / "p.txt"), "--out", str(out), "--iterations", "1", "--responses", "2", "--max-new-tokens",
        "4", "--max-prompt-tokens", "60", "--epochs", "1", "--held-out", "0", "--rank", "2", "--quiet",
    ]  # fmt: skip


@pytest.mark.parametrize("configured", [None, ROWS, -1, 10**6])
def test_a_pad_token_without_an_embedding_is_masked(
    configured: int | None, tiny_folder: Path, copied: Path, tmp_path: Path
) -> None:
    """Scores and samples are those of the model with a pad token that has one; and a run goes through."""
    words = _with_tokens(copied, pad_token="<pad beyond>")
    assert words.pad_token_id == ROWS
    _edit(copied / "config.json", pad_token_id=configured)
    results = []
    for folder in (tiny_folder, copied):
        model = LanguageModel.from_pretrained(folder, lora=Lora(rank=2), quantise=False)
        model.write_start_adapter(tmp_path / f"start-{folder.name}", None)
        texts = ["a", "a longer prompt than the other one"]
        prompts = [model.encode(Prompt(({"role": "user", "content": text},))) for text in texts]
        with model.use_adapter(tmp_path / f"start-{folder.name}") as network:
            scores = sequence_logprobs(network, prompts, [[40, 41, 42], [43]], model.pad_id)
            drawn = sample(model, prompts, [[1, 2], [3, 4]], Sampling(max_new_tokens=8))
        results.append((scores, [[response.ids for response in row] for row in drawn]))
    assert model.pad_id < ROWS
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=0)
    assert results[1][1] == results[0][1]
    short_run(copied, tmp_path / "run", iterations=1).run()


def _eos(folder: Path) -> None:
    _with_tokens(folder, eos_token="<end beyond>")


def _stop(folder: Path) -> None:
    _edit(folder / "generation_config.json", eos_token_id=[1, ROWS + 7])


def _negative_stop(folder: Path) -> None:
    _edit(folder / "generation_config.json", eos_token_id=[-2])


def _template(folder: Path) -> None:
    words = _with_tokens(folder, "<turn>")
    words.chat_template = "<turn>" + tiny.TEMPLATE
    words.save_pretrained(folder)


def _assistant_turn(folder: Path) -> None:
    words = _with_tokens(folder, "<past>")
    words.chat_template = tiny.TEMPLATE.replace("{{ message.content", "{% if message.role == 'assistant' %}<past>"
                                                "{% endif %}{{ message.content")  # fmt: skip
    words.save_pretrained(folder)


def _word(folder: Path) -> None:
    _with_tokens(folder, "word", special=False)


def _smaller_model(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    config.vocab_size = 200
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_eos, "<end beyond>"), (_stop, str(ROWS + 7)), (_negative_stop, "-2"), (_template, "<turn>"),
        (_assistant_turn, "<past>"), (_word, "word"), (_smaller_model, "embeds 200 tokens"),
    ],
)  # fmt: skip
def test_other_tokens_without_an_embedding_are_refused_before_loading(
    change: Callable[[Path], None],
    named: str,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(copied)
    _refused(copied, named, monkeypatch, capsys)


def test_a_special_token_that_nothing_needs_may_lack_an_embedding(copied: Path, tmp_path: Path) -> None:
    """As the token for an image in text models of a family that sees."""
    _with_tokens(copied, "<image>")
    short_run(copied, tmp_path / "run", iterations=1).run()
    model = LanguageModel.from_pretrained(copied, quantise=False)
    model.tokenizer.chat_template = "<image>" + tiny.TEMPLATE
    with pytest.raises(NashwardError, match="<image>"):
        model.encode(Prompt(({"role": "user", "content": "a"},)))


POSITIONS = 64
LEARNED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "GPT-2": lambda tokens: GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=POSITIONS, **tokens),
    "GPT-J": lambda tokens: GPTJConfig(n_embd=32, n_layer=1, n_head=2, rotary_dim=8, n_positions=POSITIONS, **tokens),
    "GPT-Neo": lambda tokens: GPTNeoConfig(
        hidden_size=32, num_layers=1, num_heads=2, attention_types=[[["global"], 1]], max_position_embeddings=POSITIONS,
        **tokens,
    ),
    "OPT": lambda tokens: OPTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32, word_embed_proj_dim=32,
        max_position_embeddings=POSITIONS, **tokens,
    ),
}  # fmt: skip


def _learned(kind: str, folder: Path) -> Path:
    tokens = {"vocab_size": ROWS, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    AutoModelForCausalLM.from_config(LEARNED[kind](tokens)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", LEARNED)
def test_a_text_may_be_as_long_as_the_positions_and_no_longer(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the limit it is sampled and scored; beyond it is refused before loading, or where the prompts show it."""
    folder = _learned(kind, tmp_path / "policy")
    check_policy(folder, longest=POSITIONS)
    with pytest.raises(NashwardError, match=rf"{POSITIONS} .*{POSITIONS + 1}.* --max-prompt-tokens"):
        check_policy(folder, longest=POSITIONS + 1)
    model = LanguageModel.from_pretrained(folder, lora=Lora(rank=2), quantise=False)
    model.write_start_adapter(tmp_path / "start", None)
    prompt = [50] * (POSITIONS - 5)
    with model.use_adapter(tmp_path / "start") as network:
        (row,) = sample(model, [prompt], [[1, 2, 3]], Sampling(max_new_tokens=5))
        assert max(len(response.ids) for response in row) == 5
        assert bool(sequence_logprobs(network, [prompt], [[40] * 5], model.pad_id).isfinite().all())
        with pytest.raises(NashwardError, match=f"{POSITIONS} tokens, and a prompt has {POSITIONS - 4}"):
            sample(model, [[50] * (POSITIONS - 4)], [[1]], Sampling(max_new_tokens=5))
    prompts = tmp_path / "long.txt"
    prompts.write_text("x" * 80)
    given = ["--policy", str(folder), "--prompts", str(prompts), "--max-new-tokens", "4", "--no-quantise"]
    for command in (["answer", *given, "--out", str(tmp_path / "o.jsonl")], ["best-of-n", *given, "--oracle",
                    "nashward.llm.oracles:Length", "--n", "2", "--out", str(tmp_path / "b.jsonl")]):  # fmt: skip
        assert main(command) == 2
        assert f"positions for {POSITIONS}" in capsys.readouterr().err.splitlines()[-1]
    assert main([*_align(folder, tmp_path / "fits"), "--no-quantise"]) == 0


def test_computed_positions_set_no_limit(tiny_folder: Path) -> None:
    assert learned_positions(skeleton(tiny_folder)) is None
    check_policy(tiny_folder, longest=5000)  # it has max_position_embeddings = 512


class _Planted:
    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


def _pickle(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


def test_pickled_tensors_are_read_and_a_pickle_of_more_is_not_opened(
    tiny_folder: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(copied / "model.safetensors")
    _pickle(copied, state)
    models = [LanguageModel.from_pretrained(folder, quantise=False) for folder in (tiny_folder, copied)]
    scores = [sequence_logprobs(m.network, [[0, 50]], [[40, 41, 6]], m.pad_id).detach() for m in models]
    assert torch.equal(*scores)
    size = (copied / "pytorch_model.bin").stat().st_size
    with (copied / "pytorch_model.bin").open("wb") as file:
        pickle.dump([_Planted(tmp_path / "planted"), b"x" * size], file)
    assert main(_align(copied, tmp_path / "run")) == 2
    assert "pickle" in capsys.readouterr().err.splitlines()[-1]
    torch.save({**state, "more": _Planted(tmp_path / "planted")}, copied / "pytorch_model.bin")
    assert main(_align(copied, tmp_path / "run")) == 2
    assert "pickle" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "planted").exists()


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", {"format": "pt"})

    return changed


FIRST = "model.layers.1.self_attn.q_proj.weight"


def _truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")


def _lost_shard(folder: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    network.save_pretrained(folder, max_shard_size="200KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()


def _indexed(file: str) -> Callable[[Path], None]:
    """All tensors in one file of an index."""

    def changed(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(state, file)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return changed


def _none(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


WEIGHTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a missing tensor": (_weights(lambda state: state.pop(FIRST)), FIRST),
    "a missing head": (_weights(lambda state: state.pop("lm_head.weight")), "lm_head"),
    "another shape": (_weights(lambda state: state.update({FIRST: torch.zeros(64, 32)})), "not those of"),
    "names of another library": (
        _weights(lambda state: [state.update({"x." + key: state.pop(key)}) for key in list(state)]),
        "lack",
    ),
    "fewer layers configured": (lambda folder: _edit(folder / "config.json", num_hidden_layers=1), "model.layers.1."),
    "more layers configured": (lambda folder: _edit(folder / "config.json", num_hidden_layers=3), "model.layers.2."),
    "other heads configured": (lambda folder: _edit(folder / "config.json", num_attention_heads=8, head_dim=16), "not"),
    "truncated": (_truncated, "cannot be read"),
    "a pointer of Git LFS": (_pointer, "files of weights hold 42 bytes"),
    "a lost shard": (_lost_shard, "model-00002"),
    "none": (_none, "holds no weights"),
    "whole numbers": (_weights(lambda state: state.update({FIRST: state[FIRST].int()})), FIRST),
    "not a number": (_weights(lambda state: state[FIRST].fill_(math.nan)), "not finite"),
    "a head with infinity": (_weights(lambda state: state["lm_head.weight"][0].fill_(math.inf)), "not finite"),
    "a negative epsilon": (lambda folder: _edit(folder / "config.json", rms_norm_eps=-1e4), "not finite"),
    "an index of a lost file": (_indexed("/none/such.safetensors"), "cannot be read"),
    "a quantiser that is not installed": (
        lambda folder: _edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("quantise", [True, False])
@pytest.mark.parametrize(("change", "named"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_not_those_of_the_configuration_are_refused(
    change: Callable[[Path], None], named: str, quantise: bool, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers fills what is missing with random numbers, and leaves out what is too much."""
    change(copied)
    extra = [] if quantise else ["--no-quantise"]
    assert main([*_align(copied, copied.parent / "run"), *extra]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("nashward: ")
    assert named in line
    assert str(copied) in line


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"eos_token_id": "</s>"}', '{"eos_token_id": [2, null]}', '{"eos_token_id": true}']
)
def test_settings_of_generation_without_stop_tokens_are_refused(
    content: str, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tokens that end a response come from there, and transformers passes a file over that it cannot read."""
    (copied / "generation_config.json").write_text(content)
    _refused(copied, "generation_config.json", monkeypatch, capsys)


def test_weights_that_the_network_does_not_use_are_named(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    _weights(lambda state: state.update({"vision.weight": torch.ones(2)}))(copied)
    LanguageModel.from_pretrained(copied, quantise=False)
    assert any("vision.weight" in record.getMessage() for record in caplog.records)


ABSURD: dict[str, dict[str, Any]] = {
    "no hidden units": {"hidden_size": 0}, "negative": {"hidden_size": -64}, "text": {"hidden_size": "large"},
    "null": {"hidden_size": None}, "a fraction": {"hidden_size": 64.5}, "a list": {"hidden_size": [64]},
    "no layers": {"num_hidden_layers": 0}, "a billion layers": {"num_hidden_layers": 10**9},
    "negative layers": {"num_hidden_layers": -1}, "no heads": {"num_attention_heads": 0},
    "no key heads": {"num_key_value_heads": 0}, "empty vocabulary": {"vocab_size": 0},
    "a vocabulary of 10^12": {"vocab_size": 10**12}, "a vocabulary of 10^7": {"vocab_size": 10**7},
    "hidden units of 10^30": {"hidden_size": 10**30}, "true": {"hidden_size": True},
    "an unknown activation": {"hidden_act": "none_such"}, "an unknown type": {"model_type": "none-such"},
    "no type": {"model_type": None}, "wide": {"intermediate_size": 10**8},
    "rotary": {"rope_parameters": {"rope_type": "none_such"}}, "dtype": {"dtype": "float99"},
}  # fmt: skip


@pytest.mark.parametrize("values", ABSURD.values(), ids=ABSURD)
def test_absurd_configurations_are_refused_in_one_line(
    values: dict[str, Any], copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _edit(copied / "config.json", **values)
    _refused(copied, str(copied), monkeypatch, capsys)
    if "intermediate_size" not in values and values.get("vocab_size") != 10**7:  # a plan needs no weights
        assert main(["plan", "--policy", str(copied), "--memory", "4GiB"]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert error[0].startswith("nashward: ")


@pytest.mark.parametrize("text", ["", "[]", "null", "3", '{"a": ', "\ufeff{}", "[" * 10**5, '"model"'])
def test_a_config_json_that_is_no_configuration_is_refused_in_one_line(
    text: str, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / "config.json").write_text(text, encoding="utf-8")
    _refused(copied, str(copied), monkeypatch, capsys)
