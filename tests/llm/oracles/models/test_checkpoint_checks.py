"""Oracles' checkpoints that cannot be: tokens without an embedding, configurations and files, before loading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from nashward.errors import NashwardError
from nashward.llm import oracles, pocket

from ... import tiny_reward


def _copy(kind: str, place: Path) -> Path:
    if kind == "pairrm":
        return Path(shutil.copytree(pocket.PAIRRM, place))
    return tiny_reward.reward_model(place, "llama")


def _edit(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def _add(folder: Path, *tokens: str, **named: str) -> None:
    words = AutoTokenizer.from_pretrained(folder)
    words.add_special_tokens({name: token for name, token in named.items()})
    words.add_tokens(list(tokens))
    words.save_pretrained(folder)


@pytest.fixture(params=["pairrm", "reward model"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return _copy(request.param, tmp_path / "oracle")


def _table(folder: Path) -> np.ndarray:
    oracle = oracles.as_oracle(folder, device="cpu")
    (result,) = oracles.preference_matrices(oracle, ["Say a word."], [["a", "another word, which is longer", "b c"]])
    return np.asarray(result.P)


def test_a_pad_token_without_an_embedding_is_masked(folder: Path) -> None:
    before = _table(folder)
    _add(folder, pad_token="<pad beyond>")
    oracles.check_source(folder)
    np.testing.assert_allclose(_table(folder), before, atol=1e-6)


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a word beyond": (lambda folder: _add(folder, "wordbeyond"), "wordbeyond"),
    "no hidden units": (lambda folder: _edit(folder, hidden_size=0), "hidden_size is 0"),
    "negative": (lambda folder: _edit(folder, hidden_size=-3), "oracle"),
    "a vocabulary of 10^12": (lambda folder: _edit(folder, vocab_size=10**12), "vocab_size"),
    "a vocabulary of 10^7": (lambda folder: _edit(folder, vocab_size=10**7), "do not belong together"),
    "a billion layers": (lambda folder: _edit(folder, num_hidden_layers=10**9), "num_hidden_layers"),
    "no heads": (lambda folder: _edit(folder, num_attention_heads=0), "oracle"),
    "text": (lambda folder: _edit(folder, hidden_size="x"), "oracle"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
    "a pointer of Git LFS": (
        lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs"),
        "oracle",
    ),
}


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES)
def test_what_cannot_be_an_oracle_is_refused_before_weights_are_read(
    change: Callable[[Path], Any], named: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*given: Any, **named: Any) -> None:
        raise AssertionError("weights are read")

    change(folder)
    monkeypatch.setattr("nashward.llm.oracles.models.pairrm.read_weights", load)
    monkeypatch.setattr("nashward.llm.oracles.models.reward_model.read_weights", load)
    with pytest.raises((NashwardError, OSError), match=named) as refusal:
        oracles.check_source(folder)
    assert "\n" not in str(refusal.value).strip()


def test_a_pickle_of_more_than_tensors_is_not_opened(folder: Path, tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "planted",)

    (folder / "model.safetensors").unlink()
    torch.save({"weight": Planted(), "much": torch.zeros(10**6)}, folder / "pytorch_model.bin")
    with pytest.raises(NashwardError, match="pickle"):
        oracles.as_oracle(folder)
    assert not (tmp_path / "planted").exists()
