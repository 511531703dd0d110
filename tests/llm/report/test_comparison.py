"""The page of several runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from nashward import llm
from nashward.cli.main import main
from nashward.llm import report
from nashward.llm.policy.model import LanguageModel
from nashward.llm.run.selfplay import iterates

from ..tiny_run import short_run


def test_a_comparison_names_what_differs_and_shows_the_same_prompts(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "both.html"
    assert main(["report", str(runs["whole"]), str(runs["other"]), "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"
    text = page.read_text()
    assert "<title>whole against other</title>" in text
    settings = text[text.index("Where the settings differ") : text.index("The newest iterates")]
    differing = re.findall(r'<tr><td class="text">([\w.]+)</td>', settings)
    assert {"responses", "fit.epochs", "fit.learning_rate"} <= set(differing)
    assert "seed" not in differing
    assert text.count("iteration-02") >= 2
    after = iterates(runs["whole"])[-1]["after"]
    assert f"{after['kl_to_reference']:.3f} ± {after['kl_to_reference_error']:.3f}" in text
    assert "SFT texts" not in text  # a measure that no run has
    assert report.compare([runs["half"], runs["sampled"]], tmp_path / "unfinished.html").exists()
    odd = shutil.copytree(runs["whole"], tmp_path / r"x$\frac$ <b>")
    text = report.compare([odd, runs["half"]], tmp_path / "odd.html").read_text()
    assert "<b>" not in text


@pytest.mark.parametrize("given", ["adapter", "loaded", "gone", "none"])
def test_settings_have_the_lora_that_the_run_plays_with(
    tiny_folder: Path, runs: dict[str, Path], tmp_path: Path, given: str
) -> None:
    """That of the adapter that was given, also before the run has begun; that of a loaded model; else the setting."""
    model = LanguageModel.from_pretrained(
        str(tiny_folder), lora=llm.Lora(rank=5, alpha=7.0, targets="attention"), quantise=False
    )
    own, run = tmp_path / "own", tmp_path / "run"
    model.write_start_adapter(own, None)
    settings = {"adapter": str(own)} if given in ("adapter", "gone") else {}
    short_run(model if given == "loaded" else tiny_folder, run, quantise=False, **settings).run(
        "sample", progress=False
    )
    expected = {"rank": "2", "alpha": "–", "targets": "all"}
    if given != "none":
        expected = {"rank": "5", "alpha": "7", "targets": "k_proj,o_proj,q_proj,v_proj"}
    if given == "gone":
        shutil.rmtree(run / "start")
        shutil.rmtree(own)
        expected = dict.fromkeys(expected, f"that of {own}")
    for page in (report.write(run), report.compare([run, runs["whole"]], tmp_path / "both.html")):
        rows = dict(re.findall(r'<tr><td class="text">([\w.]+)</td><td class="text">([^<]*)</td>', page.read_text()))
        lora = {name: value for name, value in rows.items() if name.startswith("lora.")}
        found = {name.removeprefix("lora."): value.removesuffix(".0") for name, value in lora.items()}
        assert found.items() <= expected.items()
        assert found.keys() == expected.keys() or page.parent != run


def test_a_run_that_has_only_begun_hides_nothing_of_the_other(runs: dict[str, Path], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in ("run.json", ".run.json", "prompts.jsonl"):
        shutil.copy(runs["whole"] / name, begun)
    text = report.compare([runs["other"], begun], tmp_path / "both.html").read_text()
    responses = text[text.index("<h2>Responses") : text.index("<h2>The newest iterates")]
    assert "begun has not sampled yet." in responses
    assert responses.count("<tr>") > 1
    assert "begun has no iterate yet." in text[text.index("<h2>Their course") :]


def test_a_comparison_is_of_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two or more run folders, each once"):
        report.compare([runs["whole"], runs["whole"] / ".." / "whole"], tmp_path / "x.html")
    with pytest.raises(FileNotFoundError, match="holds no run"):
        report.compare([runs["whole"], tmp_path], tmp_path / "x.html")
