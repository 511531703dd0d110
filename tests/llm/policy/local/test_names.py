"""A name is a model wherever one is read, and the models are what transformers reads from their packages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nashward.cli.main import main
from nashward.errors import MissingPackageError, NashwardError
from nashward.llm import LanguageModel, pocket
from nashward.llm.data import packaged as packages
from nashward.llm.data.packaged import PACKAGED, PackagedPath
from nashward.llm.data.prompts import Prompt, read_prompts
from nashward.llm.oracles import EnsembleSource, as_oracle, check_source
from nashward.llm.oracles.corrections.correction import base_sources
from nashward.llm.oracles.fingerprint import oracle_fingerprint
from nashward.llm.oracles.fitting.init import init_from_base
from nashward.llm.planner.plan import plan
from nashward.llm.policy.base.checks import check_causal, check_policy
from nashward.llm.policy.local import gguf
from nashward.llm.policy.local.names import local_model

LENGTH = "nashward.llm.oracles:Length"
POLICY, ENCODER = "real:smollm2-135m", "real:minilm"
PROMPT = Prompt(({"role": "user", "content": "Why is the sky blue?"},))


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the chat model, in a cache of this module's."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield Path(local_model(POLICY))


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The pocket policy as a model of a package that is installed."""
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").write_text("raise RuntimeError('a package of weights is not imported')")
    shutil.copytree(pocket.POLICY, tmp_path / "a_package" / "model")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(PACKAGED, "real:pocket", PackagedPath("a-package", "a_package", "model"))
    return "real:pocket"


def test_a_name_is_a_model_wherever_one_is_read(packaged: str, tmp_path: Path) -> None:
    folder = tmp_path / "a_package" / "model"
    assert local_model(packaged) == folder
    assert len(check_policy(packaged)) == len(check_policy(folder))
    model = LanguageModel.from_pretrained(packaged, quantise=False)
    assert model.name == str(folder)
    assert plan(packaged, 2**33).parameters == plan(folder, 2**33).parameters
    assert init_from_base("bt", packaged, 8, seed=0).name == packaged
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("Name a river.\n")
    given = ["--policy", packaged, "--prompts", str(prompts), "--out", str(out), "--max-new-tokens", "4"]
    assert main(["answer", *given]) == 0
    assert out.read_text().count("\n") == 1


def test_what_comes_with_the_package_has_names_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_model("pocket:policy") == pocket.POLICY
    assert read_prompts("pocket:prompts").kept == read_prompts(pocket.PROMPTS).kept
    assert check_source("pocket:pairrm") == "pocket:pairrm"
    assert oracle_fingerprint("pocket:pairrm") == oracle_fingerprint(pocket.PAIRRM)
    both, paths = (EnsembleSource((str(one), LENGTH)) for one in ("pocket:pairrm", pocket.PAIRRM))
    assert oracle_fingerprint(both) == oracle_fingerprint(paths)
    oracles = [as_oracle(one) for one in ("pocket:pairrm", pocket.PAIRRM, both, paths)]
    keys = [oracle.cache_key() for oracle in oracles]
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    judged = EnsembleSource(("judge:pocket:policy", LENGTH))
    assert base_sources(check_source(judged))[0] == "judge:pocket:policy"
    fit = ["fit-oracle", "votes.jsonl", "--base", "pocket:pairrm", "--epochs", "1", "--folds", "2", "--quiet"]
    rows = [{"prompt": f"p{i % 9}", "a": f"yes {i}", "b": f"no {i}", "wins": i % 2, "n": 1} for i in range(40)]
    Path("votes.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert main([*fit, "--out", "mine", "--no-ensemble"]) == 0
    assert as_oracle("mine").cache_key() != keys[0]


def test_a_run_goes_on_under_either_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [str(pocket.POLICY), str(pocket.PAIRRM), str(pocket.PROMPTS)]
    given = [["pocket:policy", "pocket:pairrm", "pocket:prompts"], paths]
    small = ["--responses", "2", "--max-new-tokens", "2", "--rank", "2", "--quiet", "--prompts-per-iteration", "6"]
    for run, order in (("named", given), ("by-path", given[::-1])):
        for iterations, (policy, oracle, prompts) in zip("12", order, strict=True):
            line = ["align", "--policy", policy, "--oracle", oracle, "--prompts", prompts, "--out", run]
            assert main([*line, *small, "--iterations", iterations]) == 0
    last = "iteration-02/adapter/adapter_model.safetensors"
    weights = [load_file(tmp_path / run / last) for run in ("named", "by-path")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    records = [json.loads((tmp_path / run / "run.json").read_text())["config"] for run in ("named", "by-path")]
    assert records[0]["policy_content"] == records[1]["policy_content"] is not None
    assert records[0]["oracle_content"] == records[1]["oracle_content"] is not None


def test_folders_and_hub_ids_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    for source in ("mistralai/Mistral-7B-Instruct-v0.2", pocket.POLICY, tmp_path / "folder.gguf", "real/model"):
        assert local_model(source) is source


def test_an_unknown_name_and_a_package_that_lacks_its_file(packaged: str, tmp_path: Path) -> None:
    with pytest.raises(NashwardError, match=r"real:smollm3.*real:smollm2-135m.*real:minilm"):
        check_causal("real:smollm3")
    shutil.rmtree(tmp_path / "a_package" / "model")
    with pytest.raises(NashwardError, match=r"real:pocket.*a-package holds no model"):
        check_causal(packaged)


@pytest.mark.parametrize("name", [POLICY, ENCODER])
def test_without_its_package_the_line_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda package: None)
    with pytest.raises(MissingPackageError, match=rf"{name}.*pip install \"nashward\[real\]\""):
        local_model(name)
    assert main(["plan", "--policy", name, "--memory", "6GiB"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert 'pip install "nashward[real]"' in line


@pytest.mark.real
def test_the_chat_model_is_what_transformers_reads_from_its_file(smollm: Path) -> None:
    file = PACKAGED["real:smollm2-135m"].path()
    ids = torch.tensor([check_policy(smollm)(f"{PROMPT.text} Light is scattered by the air.").input_ids])
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ours = AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32)
    with torch.no_grad():
        exact, logits = theirs(ids).logits, ours(ids).logits
        for weight in theirs.parameters():
            weight.copy_(weight.bfloat16())
        rounded = theirs(ids).logits
    assert torch.equal(logits, rounded)
    kl = (exact.softmax(-1) * (exact.log_softmax(-1) - logits.log_softmax(-1))).sum(-1)
    assert 0 < kl.max() < 1e-3  # nats per token, what the rounding costs
    assert sum(tensor.numel() for tensor in load_file(smollm / "model.safetensors").values()) == 134_515_008


@pytest.mark.real
def test_the_chat_model_is_read_once(smollm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf._content_hash.cache_clear()  # as in a new process
    monkeypatch.setattr(gguf, "_write", lambda *_: pytest.fail("the file was read again"))
    assert local_model(POLICY) == smollm


@pytest.mark.real
def test_the_chat_model_renders_its_template_and_stops(smollm: Path) -> None:
    model = LanguageModel.from_pretrained(POLICY, quantise=False)
    ids = model.encode(PROMPT)
    text = model.tokenizer.decode(ids)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith(f"<|im_start|>user\n{PROMPT.text}<|im_end|>\n<|im_start|>assistant\n")
    assert [model.tokenizer.convert_ids_to_tokens(stop) for stop in model.stop_ids] == ["<|im_end|>"]


@pytest.mark.real
def test_the_chat_model_answers_and_is_planned_for(
    smollm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("What is the capital of France?\n")
    given = ["--policy", POLICY, "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "out.jsonl")]
    assert main(["answer", *given, "--max-new-tokens", "12", "--temperature", "0", "--no-quantise"]) == 0
    assert "Paris" in (tmp_path / "out.jsonl").read_text()
    assert main(["plan", "--policy", POLICY, "--memory", "6GiB"]) == 0
    assert "it fits" in capsys.readouterr().out


@pytest.mark.real
def test_the_encoder_is_the_base_of_an_oracle_and_no_policy() -> None:
    stored = load_file(PACKAGED["real:minilm"].path() / "model.safetensors")
    for kind in ("pairrm", "bt"):
        oracle = init_from_base(kind, ENCODER, 8, seed=0, device="cpu")
        state = oracle.model.state_dict()
        (weight,) = (state[name] for name in state if name.endswith("encoder.layer.5.output.dense.weight"))
        (theirs,) = (stored[name] for name in stored if name.endswith("encoder.layer.5.output.dense.weight"))
        assert torch.equal(weight, theirs.float())
    with pytest.raises(NashwardError, match="BertModel, not a causal language model"):
        check_policy(ENCODER)
