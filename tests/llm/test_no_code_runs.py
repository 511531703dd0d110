"""No Python that lies beside weights is run, whatever a folder's files say and whoever answers yes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import llm
from nashward.cli.main import main
from nashward.llm import pocket
from nashward.llm.oracles.fitting.init import init_from_base
from nashward.llm.policy.base.checks import check_policy

from ..conftest import ROOT
from . import tiny_pairrm, tiny_reward

CLASSES = (
    "AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModelForMaskedLM",
    "AutoProcessor", "AutoImageProcessor", "AutoFeatureExtractor", "AutoVideoProcessor",
)  # fmt: skip
JSONS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json",
    "added_tokens.json", "processor_config.json", "preprocessor_config.json",
)  # fmt: skip

STRICT = JSONS[3:6]  # damaged by another key: only in what is to be refused anyway


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where planted code leaves a trace; every question is answered with yes."""
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    return tmp_path / "trace"


def plant(folder: Path, trace: Path, model_type: str | None = None) -> Path:
    """Code in a folder, and every JSON file in it that names this code; of a kind that only the code would know."""
    code = f"open({str(trace)!r}, 'a').write(__name__)\nclass Planted: pass\nclass PlantedTokenizer: pass\n"
    for place in ("planted.py", "custom_generate/generate.py", "modeling_planted.py"):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text(code)
    names: dict[str, Any] = dict.fromkeys(CLASSES, "planted.Planted")
    names["AutoTokenizer"] = ["planted.PlantedTokenizer", "planted.PlantedTokenizer"]
    for name in JSONS:
        file = folder / name
        if name in STRICT and model_type is None:
            continue
        content = json.loads(file.read_text()) if file.exists() else {}
        content["auto_map"] = names
        if name == "config.json" and model_type is not None:
            content["model_type"] = model_type
        if name == "tokenizer_config.json" and model_type is not None:
            content["tokenizer_class"] = "PlantedTokenizer"
        if name != "tokenizer.json" or file.exists():
            file.write_text(json.dumps(content))
    return folder


POLICIES: dict[str, Callable[[str], Any]] = {
    "check_policy": check_policy,
    "LanguageModel": lambda source: llm.LanguageModel.from_pretrained(source, lora=llm.Lora(rank=2)),
    "plan": lambda source: main(["plan", "--policy", source, "--memory", "6GiB", "--traceback"]),
}


@pytest.mark.parametrize("read", POLICIES.values(), ids=POLICIES)
def test_a_policy_that_names_code_is_read_without_it(read: Callable[[str], Any], tmp_path: Path, trace: Path) -> None:
    folder = plant(shutil.copytree(pocket.POLICY, tmp_path / "policy"), trace)
    read(str(folder))
    assert not trace.exists()


@pytest.mark.parametrize("read", POLICIES.values(), ids=POLICIES)
def test_a_policy_that_only_code_could_read_is_refused(read: Callable[[str], Any], tmp_path: Path, trace: Path) -> None:
    folder = plant(shutil.copytree(pocket.POLICY, tmp_path / "policy"), trace, "planted")
    with pytest.raises(ValueError, match=r"planted"):
        read(str(folder))
    assert not trace.exists()


class _Touch:
    """What a pickle calls when it is opened: ``touch`` of a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_policy_whose_weights_are_a_pickle_that_calls_is_refused_in_one_line(
    zipped: bool, tmp_path: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(pocket.POLICY, tmp_path / "policy")
    (folder / "model.safetensors").unlink()
    weights = {"lm_head.weight": _Touch(trace), "rest": torch.zeros(10**6)}  # as many bytes as the configuration says
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    (tmp_path / "prompts.txt").write_text("Hi\n")
    out = tmp_path / "out.jsonl"
    command = ["answer", "--policy", str(folder), "--prompts", str(tmp_path / "prompts.txt"), "--out", str(out)]
    assert main([*command, "--quiet"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nashward:")]
    assert str(folder) in line
    assert "safetensors" in line
    assert not trace.exists()


ORACLES: dict[str, Callable[[Path], Path]] = {
    "pairrm": lambda folder: tiny_pairrm.ranker_layout(folder),
    "pairrm-hf": lambda folder: tiny_pairrm.hf_layout(folder),
    "gpm": lambda folder: tiny_reward.gpm(folder, 4),
    "reward model of llama": lambda folder: tiny_reward.reward_model(folder, "llama"),
    "reward model of bert": lambda folder: tiny_reward.reward_model(folder, "bert"),
}


@pytest.mark.parametrize("make", ORACLES.values(), ids=ORACLES)
def test_an_oracle_that_names_code_is_read_without_it(
    make: Callable[[Path], Path], tmp_path: Path, trace: Path
) -> None:
    make(tmp_path / "oracle")
    source = str(tmp_path / "oracle")
    expected = llm.oracles.as_oracle(source).raw_logits(["a"], [["b", "c d"]], [[(0, 1)]])[0]
    for config in list((tmp_path / "oracle").rglob("config.json")):
        plant(config.parent, trace)
    found = llm.oracles.as_oracle(source).raw_logits(["a"], [["b", "c d"]], [[(0, 1)]])[0]
    assert found == pytest.approx(expected)
    assert not trace.exists()


@pytest.mark.parametrize("make", ORACLES.values(), ids=ORACLES)
def test_an_oracle_that_only_code_could_read_is_refused(
    make: Callable[[Path], Path], tmp_path: Path, trace: Path
) -> None:
    make(tmp_path / "oracle")
    for config in list((tmp_path / "oracle").rglob("config.json")):
        plant(config.parent, trace, "planted")
    with pytest.raises((ValueError, OSError)) as error:
        llm.oracles.as_oracle(str(tmp_path / "oracle"))
    assert "\n" not in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("make", [tiny_pairrm.ranker_layout, tiny_pairrm.hf_layout])
def test_llm_blender_reads_no_base_that_names_code(make: Callable[[Path], Path], tmp_path: Path, trace: Path) -> None:
    """It trusts the code of what has "phi" in its path, and asks on standard input for all others."""
    make(tmp_path / "delphi" / "oracle")
    for config in list((tmp_path / "delphi").rglob("config.json")):
        plant(config.parent, trace)
    with pytest.raises(ValueError, match="auto_map"):
        llm.oracles.LLMBlenderOracle.from_pretrained(tmp_path / "delphi" / "oracle")
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")  # of peft, about auto_map
def test_an_adapter_that_names_code_is_refused_unread(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = llm.LanguageModel.from_pretrained(pocket.POLICY, lora=llm.Lora(rank=2))
    model.write_start_adapter(tmp_path / "adapter", None)
    config = tmp_path / "adapter" / "adapter_config.json"
    mapping = {"base_model_class": "Planted", "parent_library": "planted"}
    more = {"auto_mapping": mapping, "auto_map": {"AutoConfig": "planted.Planted"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | more))
    plant(tmp_path / "adapter", trace)
    monkeypatch.syspath_prepend(tmp_path / "adapter")
    with pytest.raises(ValueError, match="auto_map"):
        llm.LanguageModel.from_pretrained(pocket.POLICY, tmp_path / "adapter")
    assert not trace.exists()


BASES = [("pairrm", "reward model of bert"), ("gpm", "gpm"), ("bt", "pairrm-hf")]


@pytest.mark.parametrize("model_type", [None, "planted"])
@pytest.mark.parametrize(("kind", "base"), BASES)
def test_a_base_to_fit_an_oracle_on_is_read_without_code(
    kind: Any, base: str, model_type: str | None, tmp_path: Path, trace: Path
) -> None:
    folder = plant(ORACLES[base](tmp_path / "base"), trace, model_type)
    with contextlib.suppress(ValueError, OSError):  # that it is no base is another matter
        init_from_base(kind, folder, 4, 0, "cpu")
    assert not trace.exists()


@pytest.mark.slow
def test_yes_on_standard_input_runs_nothing(tmp_path: Path) -> None:
    """As a shell has it: ``yes | nashward ...``, with a policy and an oracle that only code could read."""
    trace = tmp_path / "trace"
    policy = plant(shutil.copytree(pocket.POLICY, tmp_path / "policy"), trace, "planted")
    known = plant(shutil.copytree(pocket.POLICY, tmp_path / "known"), trace)
    oracle = plant(tiny_reward.reward_model(tmp_path / "oracle", "llama"), trace, "planted")
    (tmp_path / "prompts.txt").write_text("One?\nTwo?\n")
    script = "\n".join(
        f"print(main({[*command, '--prompts', 'prompts.txt', '--quiet']!r}))"
        for command in (
            ["align", "--policy", str(policy), "--oracle", "nashward.llm.oracles:Length", "--out", "run"],
            ["align", "--policy", str(known), "--oracle", str(oracle), "--out", "run"],
            ["answer", "--policy", str(known), "--out", "out.jsonl", "--max-new-tokens", "2"],
        )
    )
    result = subprocess.run(
        [sys.executable, "-c", f"from nashward.cli.main import main\n{script}"],
        input="y\n" * 1000, cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )  # fmt: skip
    codes = [line for line in result.stdout.splitlines() if line.isdigit()]
    assert codes == ["2", "2", "0"], result.stdout + result.stderr
    assert not trace.exists()
    assert not list((tmp_path / "modules").rglob("*.py")) or "planted" not in str(
        list((tmp_path / "modules").rglob("*"))
    )
    assert "[y/N]" not in result.stdout + result.stderr


def test_the_help_says_that_a_module_of_the_current_folder_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("align", "best-of-n", "leaderboard", "judge", "mix"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        assert "imported" in told, command
        assert (
            "current folder" in told.partition(" --oracle ORACLE ")[2].partition("a PairRM")[2].partition(" --")[0]
        ), command
