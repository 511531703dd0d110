"""``nashward demo --proof``, and solvers on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nashward.cli.demo import demo, proof
from nashward.cli.demo.one_thread import one_thread
from nashward.cli.main import main
from nashward.llm import pocket


@pytest.mark.slow
def test_the_language_model_lies_on_the_table_and_a_picture_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--proof", "--out", str(tmp_path), "--iterations", "2"]) == 0
    distances = re.findall(r"total variation at most (\S+);", capsys.readouterr().out)
    assert len(distances) == len(proof.SOLVERS)
    assert max(map(float, distances)) < 1e-5
    assert (tmp_path / "proof.png").stat().st_size > 10_000
    assert main(["demo", "--proof", "--quiet", "--out", str(tmp_path), "--iterations", "1"]) == 0
    assert capsys.readouterr().out == f"picture: {tmp_path / 'proof.png'}\n"


def test_each_response_has_two_tokens_and_two_share_the_first() -> None:
    _, responses = proof._ids(pocket.POLICY)
    assert [len(ids) for ids in responses] == [proof.TOKENS] * 3
    assert len({ids[0] for ids in responses}) == 2
    assert len({tuple(ids) for ids in responses}) == 3


def test_the_proof_refuses_no_iterations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--proof", "--out", str(tmp_path), "--iterations", "0"]) == 2
    assert "iterations must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize("made", [proof.proof, demo.demo])
def test_the_process_has_its_threads_back(made: Callable[..., Path], tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="iterations must be at least 1"):
            made(tmp_path, iterations=0)
        assert torch.get_num_threads() == 2
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_table_is_solved_by_a_solver_of_tables_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "comal_cycle", "--solver", "predictive-regret-matching-plus"]) == 0
    assert re.search(r"PredictiveRegretMatchingPlus\(\) +1000 ", capsys.readouterr().out)
    assert main(["solve", "comal_cycle", "--solver", "regret-matching", "--step", "1"]) == 2
    assert "RegretMatching has no step" in capsys.readouterr().err


def test_a_step_beyond_its_threshold_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "comal_cycle", "--solver", "extra-gradient", "--step", "5", "--iterations", "10"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the step 5 of ExtraGradient is above 4.78714 = 1 / lam")


def test_a_language_model_is_told_the_nearest_mirror_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a?\n")
    folder = tmp_path / "run"
    given = [
        "align",
        "--policy",
        "nowhere",
        "--oracle",
        "pocket:pairrm",
        "--prompts",
        str(prompts),
        "--out",
        str(folder),
    ]
    assert main([*given, "--solver", "fictitious-play"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("for a language model the nearest mirror step is NashEMA")
    assert not folder.exists()
