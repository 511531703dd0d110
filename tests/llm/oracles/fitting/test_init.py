"""Oracles to be fitted: what a base model gives them, and bases that would silently leave them random."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
    RobertaConfig,
)

from nashward.llm.config.oracle_fit import Kind
from nashward.llm.oracles import GPM, FitSettings, PairRM, RewardModel, Vote, as_oracle, fit_oracle
from nashward.llm.oracles.fitting.init import check_kind, init_from_base
from nashward.llm.pocket import PAIRRM
from tests.llm import tiny, tiny_pairrm, tiny_reward

KINDS: tuple[Kind, ...] = ("pairrm", "gpm", "bt")
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 130,
}  # fmt: skip
ENCODERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (BertConfig, SHAPE),
    "roberta": (RobertaConfig, SHAPE),
    "electra": (ElectraConfig, SHAPE | {"embedding_size": 16}),
    "modernbert": (ModernBertConfig, SHAPE | {"global_attn_every_n_layers": 1}),
    "distilbert": (
        DistilBertConfig,
        {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 130},
    ),
}
LONG = "a " * 400
TEXTS = ["b " * 400, "c d"]


def encoder(folder: Path, kind: str) -> Path:
    """A masked language model, which has no pooler, with its tokenizer."""
    words = tiny_reward.encoder_tokenizer("roberta" if kind == "roberta" else "bert")
    made, shape = ENCODERS[kind]
    tokens = {
        "pad_token_id": words.pad_token_id,
        "cls_token_id": words.cls_token_id,
        "sep_token_id": words.sep_token_id,
    }
    if kind == "modernbert":
        tokens |= {"bos_token_id": words.cls_token_id, "eos_token_id": words.sep_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(made(vocab_size=len(words), **shape, **tokens))
        tiny_reward.enlarge(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def causal(folder: Path, positions: int = 64) -> Path:
    """A GPT-2 of few positions, with a chat template."""
    words = tiny_reward.with_bos(tiny.tokenizer(pad=False))
    config = GPT2Config(vocab_size=len(words), n_embd=32, n_layer=1, n_head=2, n_positions=positions, eos_token_id=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def base(folder: Path, kind: str) -> Path:
    return causal(folder) if kind == "gpm" else encoder(folder, "bert")


def refused(kind: str, folder: Path, error: Any, match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        init_from_base(kind, folder, 2, 0, "cpu")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_any_kind_becomes_a_pairrm_that_is_read_back(tmp_path, name):
    source = encoder(tmp_path / "base", name)
    oracle = init_from_base("pairrm", source, 2, 0, "cpu")
    assert isinstance(oracle, PairRM)
    state, own = load_file(source / "model.safetensors"), dict(oracle.model.pretrained_model.named_parameters())
    prefix = f"{oracle.model.pretrained_model.base_model_prefix}."
    held = {key.removeprefix(prefix): value for key, value in state.items() if key.removeprefix(prefix) in own}
    assert len(held) > 10
    for key, value in held.items():  # not random: the checkpoint's, and the markers' rows behind the others
        torch.testing.assert_close(own[key][: len(value)].data, value, rtol=0, atol=0)
    oracle.save_pretrained(tmp_path / "again")
    again = as_oracle(tmp_path / "again", device="cpu")
    # no row has more tokens than the network has positions
    one, two = (o.raw_logits([LONG, "x"], [TEXTS] * 2, [[(0, 1), (1, 0)]] * 2) for o in (oracle, again))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert np.abs(one).max() > 1e-3  # else equality would say little
    assert oracle.truncated(LONG, TEXTS) == 2


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_a_masked_language_model_becomes_a_reward_model_though_it_has_no_pooler(tmp_path, name):
    oracle = init_from_base("bt", encoder(tmp_path / "base", name), 2, 0, "cpu")
    oracle.save_pretrained(tmp_path / "again")
    settings = json.loads((tmp_path / "again" / "config.json").read_text())
    assert "source_prefix_id" not in settings
    again = as_oracle(tmp_path / "again", device="cpu")
    assert isinstance(again, RewardModel)
    one, two = (o.raw_logits(["a"], [TEXTS], [[(0, 1)]])[0] for o in (oracle, again))
    np.testing.assert_allclose(one, two, atol=1e-7)
    assert np.abs(one).min() > 1e-4


def test_a_gpm_reads_no_more_tokens_than_its_base_has_positions(tmp_path):
    oracle = init_from_base("gpm", causal(tmp_path / "base", 64), 2, 0, "cpu")
    assert isinstance(oracle, GPM)
    assert oracle.max_length == 64
    assert np.isfinite(oracle.raw_logits(["a" * 100], [TEXTS], [[(0, 1)]])[0]).all()
    oracle.save_pretrained(tmp_path / "again")
    again = GPM.from_pretrained(tmp_path / "again", device="cpu")
    assert (again.max_length, again.fingerprint) == (64, oracle.fingerprint)
    oracle.tokenizer.model_max_length = 40
    assert GPM(oracle.model, oracle.tokenizer).max_length == 40
    assert GPM(oracle.model, oracle.tokenizer, max_length=50).max_length == 50


@pytest.mark.parametrize("kind", ["gpm", "bt"])
@pytest.mark.parametrize("layout", [tiny_pairrm.hf_layout, tiny_pairrm.ranker_layout, lambda folder: PAIRRM])
def test_a_pairrm_is_no_base_of_another_kind(tmp_path, kind, layout):
    refused(kind, layout(tmp_path), ValueError, f"is a PairRM; kind '{kind}' is made from .*fit it with kind 'pairrm'")


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_the_base_model_that_are_not_there_are_named(tmp_path, kind):
    file = base(tmp_path, kind) / "model.safetensors"
    state = load_file(file)
    lost = next(key for key in state if key.endswith("0.mlp.c_fc.weight" if kind == "gpm" else "0.output.dense.weight"))
    save_file({k: v for k, v in state.items() if k != lost}, file, metadata={"format": "pt"})
    refused(kind, tmp_path, ValueError, r"are not those of .*: missing: .*0\.(output|mlp).*; they would be random")
    save_file({**state, lost: torch.zeros(3, 3)}, file, metadata={"format": "pt"})
    refused(kind, tmp_path, ValueError, r"of another shape: .*0\.(output|mlp).*; they would be random")
    save_file({f"stranger.{k}": v for k, v in state.items()}, file, metadata={"format": "pt"})
    refused(kind, tmp_path, ValueError, r"missing: .* and \d+ more; they would be random")


class Code:
    def __reduce__(self):
        return os.mkdir, (os.environ["NASHWARD_TEST_TRACE"],)


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Code()}, folder / "pytorch_model.bin")


def _not_a_number(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state[next(key for key in state if key.endswith("bias") and ".0." in key)][3] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (tiny.truncate_weights, "cannot be read"),
        (_pickled, "is a pickle that holds more than tensors"),
        (_not_a_number, "has NaN in its weights .*they are damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has neither model.safetensors nor"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not valid JSON"),
        (lambda folder: [file.unlink() for file in folder.glob("tokenizer*")], "has no tokenizer in"),
    ],
)
def test_damaged_bases_are_told_in_one_line(tmp_path, monkeypatch, kind, damage, message):
    monkeypatch.setenv("NASHWARD_TEST_TRACE", str(tmp_path / "trace"))
    damage(base(tmp_path, kind))
    refused(kind, tmp_path, (ValueError, OSError), message)
    assert not (tmp_path / "trace").exists()  # no code in a pickle is run


def test_nan_in_an_oracle_that_is_fitted_further_is_told(tmp_path):
    folder = Path(shutil.copytree(PAIRRM, tmp_path / "copy"))
    state = load_file(folder / "model.safetensors")
    next(value for key, value in state.items() if "head_layer" in key)[:] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    refused("pairrm", folder, ValueError, r"has NaN in its weights \(head_layer")


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_a_gpm_is_not_made_from_an_encoder(tmp_path, name):
    folder = encoder(tmp_path, name)
    refused("gpm", folder, ValueError, f"is {name}, not a causal language model, which a GPM is made from")
    votes = [Vote(prompt, "x", "y", 1.0, 1.0) for prompt in ("p", "q")]
    settings = FitSettings(folds=2, layout="published")
    with pytest.raises(ValueError, match="not a causal language model"):
        fit_oracle(votes, folder, "gpm", tmp_path / "out", settings, device="cpu", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_loaded_oracle_is_fitted_as_what_it_is(tmp_path):
    pairrm = PairRM.from_pretrained(PAIRRM, device="cpu")
    gpm = GPM.from_pretrained(tiny_reward.gpm(tmp_path / "gpm", 2), device="cpu")
    reward = RewardModel.from_pretrained(tiny_reward.reward_model(tmp_path / "bt", "llama"), device="cpu")
    judges: tuple[tuple[Any, Kind], ...] = ((pairrm, "pairrm"), (gpm, "gpm"), (reward, "bt"))
    for oracle, own in judges:
        check_kind(oracle, own)
        for kind in set(KINDS) - {own}:
            with pytest.raises(ValueError, match=f"is a {type(oracle).__name__}; kind '{kind}' expects a ") as caught:
                check_kind(oracle, kind)
            assert "\n" not in str(caught.value)
