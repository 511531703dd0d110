"""The command lines of lm_eval, and its results before beside after."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import pocket
from nashward.llm.delivery.benchmarks.leaderboard_tasks import (
    Score,
    changes,
    check_results,
    command,
    holm,
    read_scores,
    table,
)

RESULTS: dict[str, dict[str, Any]] = {
    "arc_challenge": {"alias": "arc", "acc,none": 0.6, "acc_stderr,none": 0.01, "acc_norm,none": 0.6365,
                      "acc_norm_stderr,none": 0.0141},
    "gsm8k": {"exact_match,strict-match": 0.4193, "exact_match_stderr,strict-match": 0.0136,
              "exact_match,flexible-extract": 0.43, "exact_match_stderr,flexible-extract": 0.0136},
    "mmlu": {"acc,none": 0.5915, "acc_stderr,none": 0.0039},
    "mmlu_anatomy": {"acc,none": 0.5, "acc_stderr,none": 0.04},
    "openllm": {" ": " "},
}  # fmt: skip


def _results(folder: Path, results: dict[str, dict[str, Any]]) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "results_2026-01-01.json").write_text(json.dumps({"results": results}))
    return folder


def test_the_measures_are_those_of_the_leaderboard(tmp_path: Path) -> None:
    found = read_scores(_results(tmp_path / "before", RESULTS))
    assert found == {
        "arc_challenge": Score(0.6365, 0.0141), "gsm8k": Score(0.4193, 0.0136), "mmlu": Score(0.5915, 0.0039),
        "mmlu_anatomy": Score(0.5, 0.04),
    }  # fmt: skip


def test_changes_beyond_noise_by_holm(tmp_path: Path) -> None:
    after = json.loads(json.dumps(RESULTS))
    after["arc_challenge"]["acc_norm,none"] = 0.6536  # 1.7 points, of an error of 2
    after["gsm8k"]["exact_match,strict-match"] = 0.4993  # 8 points
    found = changes(read_scores(_results(tmp_path / "a", RESULTS)), read_scores(_results(tmp_path / "b", after)))
    assert [(change.task, change.beyond_noise) for change in found] == [
        ("arc_challenge", False), ("gsm8k", True), ("mmlu", False)
    ]  # fmt: skip
    z = 0.08 / math.hypot(0.0136, 0.0136)
    assert found[1].p == pytest.approx(3 * math.erfc(z / math.sqrt(2)), rel=1e-6)
    lines = table(found)
    assert "+8.00  yes" in lines[2]
    assert "63.65 ± 1.41" in lines[1]


def test_holm_is_that_of_the_paper() -> None:
    assert holm([0.01, 0.02, 0.03, 0.005]) == [0.03, 0.04, 0.04, 0.02]
    assert holm([0.5, math.nan])[0] == 0.5
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_an_error_that_is_not_known_gives_no_verdict() -> None:
    (found,) = changes({"x": Score(0.1, math.nan)}, {"x": Score(0.9, 0.01)})
    assert not found.beyond_noise
    assert "not known" in table([found])[1]


def test_a_comma_in_a_name_would_be_another_argument() -> None:
    with pytest.raises(NashwardError, match="comma"):
        command("models/a,b", Path("out"))


def test_mmlu_pro_is_no_subject_of_mmlu() -> None:
    one = Score(0.3, 0.01)
    assert [change.task for change in changes({"mmlu_pro": one}, {"mmlu_pro": one})] == ["mmlu_pro"]
    both = {"mmlu": one, "mmlu_stem": one, "mmlu_pro": one}
    assert [change.task for change in changes(both, both)] == ["mmlu", "mmlu_pro"]
    assert [change.task for change in changes({"mmlu_stem": one}, both)] == ["mmlu_stem"]


@pytest.mark.parametrize("as_text", [True, False])
def test_results_of_another_model_or_of_fewer_questions_are_refused(tmp_path: Path, as_text: bool) -> None:
    """A trial with --limit, or the adapter of another step, is not taken for what is asked for now."""
    base, adapter = tmp_path / "base", tmp_path / "lora"
    for folder in (base, adapter):
        folder.mkdir()
        (folder / "weights").write_bytes(b"1")
    model: Any = {"pretrained": str(base), "dtype": "bfloat16", "peft": str(adapter)}
    config = {"model_args": ",".join(f"{k}={v}" for k, v in model.items()) if as_text else model, "limit": 5.0}
    file = tmp_path / "out" / "results_1.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"results": RESULTS, "config": config}))
    os.utime(file, ns=(2**61, 2**61))
    check_results(file.parent, str(base), adapter, 5)
    for wrong in ((str(base), adapter, None), (str(base), None, 5), ("a/b", adapter, 5), (str(base), base, 5)):
        with pytest.raises(NashwardError, match="another --out"):
            check_results(file.parent, *wrong)
    os.utime(file, (0, 0))  # the step was made again since
    with pytest.raises(NashwardError, match="written since"):
        check_results(file.parent, str(base), adapter, 5)
    file.write_text(json.dumps({"results": RESULTS}))  # which say nothing
    check_results(file.parent, "a/b")


@pytest.mark.parametrize("content", ["[]", '{"results": 3}', "{"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(NashwardError, match=r"results\.json"):
        read_scores(tmp_path)


def test_the_lines_are_printed_and_then_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    line = ["benchmark", "--policy", "a/b", "--adapter", str(tmp_path / "lora"), "--out", str(tmp_path / "out")]
    assert main([*line, "--limit", "5"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == (
        f"lm_eval run --model hf --model_args pretrained=a/b,dtype=bfloat16 --tasks openllm --output_path "
        f"{tmp_path / 'out' / 'before'} --limit 5"
    )
    assert f"pretrained=a/b,dtype=bfloat16,peft={tmp_path / 'lora'}" in told[1]
    for name in ("before", "after"):
        _results(tmp_path / "out" / name, RESULTS)
    assert main(line) == 0
    assert "gsm8k" in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--adapter", "lora", "--merged", "lora"]])
def test_one_of_both_is_after(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--policy", "a/b", "--out", "x", *more]) == 2
    assert "--merged" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "told"), [("--adapter", "adapter_config.json"), ("--merged", "config.json")])
def test_a_folder_without_a_model_is_refused(
    tmp_path: Path, option: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "--policy", "a/b", option, str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_lm_eval_runs_a_local_task_with_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of 12 local questions in place of the leaderboard's, whose data need the hub."""
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    rows = [{"q": f"Is {k} even?", "choices": ["yes", "no"], "gold": k % 2} for k in range(12)]
    (tmp_path / "even.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "even.yaml").write_text(
        f"task: even\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path / 'even.jsonl'}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: choices\n"
        "doc_to_target: gold\nmetric_list:\n  - metric: acc\n"
    )
    from nashward.llm import LanguageModel

    LanguageModel.from_pretrained(pocket.POLICY).write_start_adapter(tmp_path / "lora", None)
    line = ["benchmark", "--policy", str(pocket.POLICY), "--adapter", str(tmp_path / "lora"), "--dtype", "float32"]
    assert main([*line, "--out", str(tmp_path / "out"), "--tasks", str(tmp_path / "even.yaml"), "--run"]) == 0
    before, after = (read_scores(tmp_path / "out" / name) for name in ("before", "after"))
    assert before == after  # B = 0: the adapter changes nothing
    assert 0 <= before["even"].value <= 1
