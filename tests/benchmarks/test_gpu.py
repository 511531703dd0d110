"""`make gpu`, rehearsed on a CPU at the smallest sizes: every part gives results, and one that fails stops no other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gpu
import pytest
import torch
from gpu_parts import card, equilibria, memory, sampling
from gpu_parts.random_policy import policy_folder, texts
from gpu_parts.results import RESULT
from transformers import AutoModelForCausalLM, AutoTokenizer

from nashward.llm.planner.live_storage import resident_bytes


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def _results(output: str) -> list[dict[str, Any]]:
    results = [json.loads(line[len(RESULT) :]) for line in output.splitlines() if line.startswith(RESULT)]
    assert results
    assert not [result for result in results if result.get("failed")]
    return results


@pytest.mark.parametrize("part", [card, memory, sampling, equilibria], ids=lambda part: part.__name__.split(".")[-1])
def test_a_part_gives_results(part: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part.main(["--device", "cpu", "--toy", "--work", str(tmp_path)])
    results = _results(capsys.readouterr().out)
    assert all(result["value"] > 0 for result in results if result["value"] is not None)
    if part is equilibria:
        exact = {result["what"]: result for result in results if "largest_gap" in result}
        assert len(exact) == 3
        assert max(result["largest_gap"] for result in exact.values()) <= 1e-12
        assert [what for what in exact if "3 x 5" in what]
        assert [what for what in exact if "ties" in what]
    if part is sampling:
        assert {result["unit"] for result in results} == {"ms", "tokens/s"}


def test_a_policy_of_random_weights_loads_in_4_bits_and_in_16(tmp_path: Path) -> None:
    sizes = {}
    for quantised in (True, False):
        folder = policy_folder(tmp_path, "toy", "cpu", quantised=quantised)
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        sizes[quantised] = resident_bytes(network)
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([[1, 5, 9]])).logits
        assert bool(logits.isfinite().all())
        assert float(logits.float().std()) > 0
    assert sizes[True] < sizes[False]
    words = AutoTokenizer.from_pretrained(folder)
    (text,) = texts(1, 12)
    assert len(words(text).input_ids) == 12
    assert texts(1, 12) == [text]


def test_a_part_that_fails_or_hangs_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = {
        "fails": "raise SystemExit('it broke')",
        "hangs": 'import time; print(\'RESULT {"what": "before", "value": 1}\', flush=True); time.sleep(60)',
        "works": 'print(\'RESULT {"what": "a figure", "value": 2.5, "unit": "s"}\')',
    }
    for name, code in scripts.items():
        (tmp_path / f"{name}.py").write_text(code)
    parts = {name: gpu.Part(name, f"{name}.py", 2) for name in scripts}
    parts["absent"] = gpu.Part("absent", "works.py", 2, needs=("no_such_package",))
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    out = tmp_path / "gpu.json"
    exit_code = gpu.main(
        ["--device", "cpu", "--toy", "--work", str(tmp_path / "work"), "--out", str(out), "--parts", *parts]
    )
    assert exit_code == 1
    written = json.loads(out.read_text())["parts"]
    assert "it broke" in written["fails"]["status"]
    assert "2 s" in written["hangs"]["status"]
    assert written["hangs"]["results"] == [{"what": "before", "value": 1}]
    assert (written["works"]["status"], written["works"]["results"][0]["value"]) == ("ok", 2.5)
    assert "no_such_package" in written["absent"]["status"]
    assert "a figure: 2.5 s" in capsys.readouterr().out


def test_a_part_for_which_no_time_is_left_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "works.py").write_text('print(\'RESULT {"what": "a figure", "value": 2.5}\')')
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    scripts = {"works": "works.py", "hangs": "hangs.py", "late": "works.py"}
    parts = {name: gpu.Part(name, script, 30) for name, script in scripts.items()}
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 2.0)
    out = tmp_path / "gpu.json"
    given = ["--device", "cpu", "--toy", "--work", str(tmp_path / "work"), "--out", str(out), "--parts", *parts]
    assert gpu.main([*given, "--minutes", "0.1"]) == 1
    written = json.loads(out.read_text())["parts"]
    assert written["works"]["status"] == "ok"
    assert written["hangs"]["status"].startswith("ended")
    assert written["late"]["status"].startswith("not measured")
    assert written["late"]["results"] == []


def test_what_a_part_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child, mark = tmp_path / "child.py", tmp_path / "mark"
    child.write_text(f"import time, pathlib; time.sleep(2); pathlib.Path({str(mark)!r}).touch()")
    (tmp_path / "starts.py").write_text(f"import subprocess, sys; subprocess.run([sys.executable, {str(child)!r}])")
    monkeypatch.setattr(gpu, "PARTS", {"starts": gpu.Part("", "starts.py", 1)})
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    gpu.main(["--device", "cpu", "--toy", "--work", str(tmp_path / "work"), "--parts", "starts"])
    time.sleep(2.0)
    assert not mark.exists()


@pytest.mark.slow
def test_all_parts_in_their_own_processes(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    given = ["--device", "cpu", "--toy", "--work", str(tmp_path / "work"), "--out", str(out)]
    assert gpu.main([*given, "--minutes", "30"]) == 0
    parts = json.loads(out.read_text())["parts"]
    assert list(parts) == list(gpu.PARTS)
    killed = next(result for result in parts["resume"]["results"] if "killed" in result["what"])
    assert killed["value"] == 0
