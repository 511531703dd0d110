"""A GGUF file that the test writes is read as the policy that it was written from, once, and nothing beside it."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from nashward import games
from nashward.errors import MissingPackageError, NashwardError
from nashward.llm import LanguageModel, Lora, RunConfig, Sampling, SelfPlay
from nashward.llm.data.prompts import Prompt
from nashward.llm.oracles import Length
from nashward.llm.policy.base.checks import check_policy
from nashward.llm.policy.local import gguf as reading
from nashward.llm.policy.local.gguf import gguf_folder
from nashward.llm.store.fingerprints import fingerprint

from ... import tiny
from . import tiny_gguf

PROMPT = Prompt(({"role": "user", "content": "Name a river then."},))
needs_gguf = pytest.mark.skipif(not reading.find_spec("gguf"), reason="needs the package gguf")


@pytest.fixture
def file(tmp_path: Path, cache: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tiny_gguf.write(tmp_path / "models" / "tiny.gguf", tiny_gguf.network())


def _logits(folder: str | Path, ids: list[int], **options: Any) -> torch.Tensor:
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    with torch.no_grad():
        return network(torch.tensor([ids])).logits


@needs_gguf
@pytest.mark.parametrize("tied", [True, False])
def test_the_folder_is_the_model_that_was_written(tmp_path: Path, cache: Path, tied: bool) -> None:
    network = tiny_gguf.network(tied=tied)
    folder = gguf_folder(tiny_gguf.write(tmp_path / "tiny.gguf", network))
    assert folder.parent == cache
    ids = [0, 4, *range(20, 60), 6]
    with torch.no_grad():
        expected = network(torch.tensor([ids])).logits
    assert torch.equal(_logits(folder, ids), expected)  # its weights are exact in bfloat16
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


@needs_gguf
def test_quantised_weights_are_those_that_transformers_reads(tmp_path: Path, cache: Path) -> None:
    network = tiny_gguf.network()
    file = tiny_gguf.write(tmp_path / "tiny.gguf", network, q8=True)
    ids = [0, 4, *range(20, 60), 6]
    theirs = _logits(tmp_path, ids, gguf_file=file.name)
    ours = _logits(gguf_folder(file), ids)
    with torch.no_grad():
        exact = network(torch.tensor([ids])).logits
    assert (theirs - exact).abs().max() > 0  # 8 bits are not exact
    # bfloat16 rounds each weight by 2^-9 at most, and 64 to 128 of them enter a sum
    assert (ours - theirs).abs().max() < 2**-5 * theirs.abs().max()


@needs_gguf
def test_the_policy_has_its_tokenizer_its_template_and_both_stop_tokens(file: Path) -> None:
    model = LanguageModel.from_pretrained(file, lora=Lora(rank=2), quantise=False)
    words = tiny_gguf.vocabulary()
    ids = model.encode(PROMPT)
    assert [words[i] for i in ids[:2]] == ["<s>", "<|user|>"]
    assert [words[i] for i in ids[-2:]] == ["<|end|>", "<|assistant|>"]
    assert words.index(tiny_gguf.MERGED) in ids
    assert model.decode(ids) == PROMPT.text
    assert model.stop_ids == [tiny_gguf.EOS, tiny_gguf.EOT]  # transformers alone reads the first


@needs_gguf
def test_a_file_is_read_once_and_a_copy_is_the_same_model(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gguf_folder(file)
    copied = shutil.copy(file, file.with_name("copy.gguf"))
    reading._content_hash.cache_clear()  # as in a new process
    with monkeypatch.context() as patched:
        patched.setattr(reading, "_write", lambda *_: pytest.fail("the file was read again"))
        assert gguf_folder(file) == gguf_folder(str(copied)) == folder
    tiny_gguf.write(file, tiny_gguf.network(seed=1))  # another model at the same place
    other = gguf_folder(file)
    assert other != folder
    assert fingerprint(other) != fingerprint(folder)
    assert {entry.name for entry in cache.iterdir() if entry.is_dir()} == {folder.name, other.name}


@needs_gguf
def test_a_folder_that_was_deleted_is_written_again_with_the_same_fingerprint(file: Path) -> None:
    folder = gguf_folder(file)
    before = fingerprint(folder)
    shutil.rmtree(folder)
    assert gguf_folder(file) == folder
    assert fingerprint(folder) == before


@needs_gguf
def test_a_write_that_fails_leaves_nothing(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(reading, "_without_version", full)
        with pytest.raises(OSError, match="disk is full"):
            gguf_folder(file)
    assert not any(entry.is_dir() for entry in cache.iterdir())
    assert gguf_folder(file).is_dir()


@needs_gguf
def test_nothing_beside_the_file_is_read(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = gguf_folder(file)
    tiny.policy(file.parent, seed=5)  # config.json, tokenizer, generation_config.json of another model
    (file.parent / "adapter_config.json").write_text("{}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    again = gguf_folder(file)
    assert again != alone
    assert fingerprint(again) == fingerprint(alone)


@needs_gguf
def test_a_run_on_a_gguf_file_continues_and_its_adapter_names_the_folder(file: Path, tmp_path: Path) -> None:
    def play(policy: str, iterations: int) -> SelfPlay:
        config = RunConfig(
            iterations=iterations, responses=2, quantise=False, lora=Lora(rank=2),
            sampling=Sampling(max_new_tokens=4),
        )  # fmt: skip
        prompts = ["Name a river.", "Name a tree."]
        return SelfPlay(policy, Length(), games.OptimisticMWU(step=1.0), prompts, tmp_path / "run", config=config)

    first = play(str(file), 1).run(progress=False)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert settings["policy"] == str(file)
    assert settings["policy_content"] == fingerprint(gguf_folder(file))
    adapter = json.loads((first.last / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(gguf_folder(file))
    moved = file.rename(tmp_path / "moved.gguf")
    second = play(str(moved), 2).run(progress=False)
    assert [row["iteration"] for row in second.metrics] == ["iteration-01", "iteration-02"]
    second.average.check(str(moved))  # adapters of this base
    with pytest.raises(NashwardError, match="another run"):
        play(str(tiny_gguf.write(tmp_path / "other.gguf", tiny_gguf.network(seed=1))), 2).check()


@needs_gguf
def test_what_transformers_does_not_read_is_reported(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = tiny_gguf.network()
    with caplog.at_level(logging.WARNING, "nashward"):
        gguf_folder(tiny_gguf.write(tmp_path / "plain.gguf", network))
        assert not caplog.records
        scaled = {"rope_freqs.weight": np.full(8, 4.0, np.float32)}
        gguf_folder(tiny_gguf.write(tmp_path / "scaled.gguf", network, extra=scaled))
    (record,) = caplog.records
    assert "scaled.gguf" in record.getMessage()
    assert "8 numbers" in record.getMessage()


@needs_gguf
def test_files_that_hold_no_policy_are_refused_in_one_line(tmp_path: Path, cache: Path) -> None:
    network = tiny_gguf.network()
    whole = tiny_gguf.write(tmp_path / "whole.gguf", network).read_bytes()
    part = tiny_gguf.write(tmp_path / "part.gguf", network, without=("blk.1.ffn_up", "blk.1.ffn_down"))
    unknown = tiny_gguf.write(tmp_path / "unknown.gguf", network, architecture="clip")
    wrong = {part: "model.layers.1.mlp", unknown: "clip"}
    for share in (0.0001, 0.001, 0.02, 0.5, 0.99):
        cut = tmp_path / f"cut-{share}.gguf"
        cut.write_bytes(whole[: max(5, int(share * len(whole)))])
        wrong[cut] = cut.name
    for file, fact in wrong.items():
        with pytest.raises(NashwardError) as raised:
            gguf_folder(file)
        assert fact in str(raised.value)
        assert file.name in str(raised.value)
        assert "\n" not in str(raised.value)
    assert not any(entry.is_dir() for entry in cache.iterdir())


@needs_gguf
def test_a_base_model_has_no_chat_template_and_one_may_be_given(tmp_path: Path, cache: Path) -> None:
    file = tiny_gguf.write(tmp_path / "base.gguf", tiny_gguf.network(), chat=False)
    with pytest.raises(NashwardError, match=r"base\.gguf.*--chat-template"):
        check_policy(file)
    assert check_policy(file, tiny.TEMPLATE).chat_template == tiny.TEMPLATE


def test_a_file_that_is_not_there_or_no_gguf(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.gguf"):
        check_policy(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("a text")
    with pytest.raises(NashwardError, match=r"text\.gguf is no GGUF file"):
        check_policy(tmp_path / "text.gguf")


def test_without_the_package_the_line_says_what_to_install(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some.gguf").write_bytes(b"GGUF and more")
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"some\.gguf.*pip install \"nashward\[real\]\""):
        check_policy(tmp_path / "some.gguf")


def test_a_policy_that_is_not_there_is_missed_only_where_it_is_needed(tmp_path: Path, cache: Path) -> None:
    gone = str(tmp_path / "gone.gguf")
    play = SelfPlay(gone, Length(), games.OptimisticMWU(step=1.0), ["Name a river."], tmp_path / "run")
    assert play.manifest()["policy_content"] is None
    play.check(until="judge")
    with pytest.raises(FileNotFoundError, match=r"gone\.gguf"):
        play.check()
