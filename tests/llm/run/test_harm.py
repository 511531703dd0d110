"""What people do to a run folder: copies beside its steps, a cache that is lost, damage in what is finished."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward import llm
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import pocket, report
from nashward.llm.oracles import Cache, as_oracle
from nashward.llm.policy.mixture import adapter_folders
from nashward.llm.run.selfplay import metrics
from nashward.llm.run.stages.judge import AtomicCache, judge_call
from nashward.llm.run.status import status
from nashward.llm.store.run_folder import RunFolder

from ..tiny_run import quick_run


def _result(home: Path) -> dict[str, bytes]:
    return {str(file.relative_to(home)): file.read_bytes() for file in home.glob("iteration-0?/**/*") if file.is_file()}


@pytest.fixture(scope="module")
def played(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("played") / "run"
    quick_run(tiny_folder, home).run(progress=False)
    return home


@pytest.fixture
def run(played: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(played, tmp_path / "run"))


COPIES = [
    "iteration-02.bak", "iteration-02 (1)", "iteration-02-copy", "iteration-02~", "iteration-2", "iteration-02-half",
    "iteration-02-half-x", "iteration-02-half-1.old", "iteration-\u0662\u0661", "iteration-x", "iteration-",
    "iteration-002", "iteration-00",
]  # fmt: skip


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_a_step_is_left_alone(
    name: str, run: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "iteration-02", run / name)
    before, told = _result(run), quick_run(tiny_folder, run).run(progress=False)
    assert told.last == run / "iteration-02" / "adapter"
    assert [row["iteration"] for row in metrics(run)] == ["iteration-01", "iteration-02"]
    assert [path.parent.name for path in adapter_folders([run])] == ["start", "iteration-01", "iteration-02"]
    assert main(["status", str(run)]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 iterations finished" in out
    assert name in out
    assert status(run).unread == (name,)
    assert report.write(run).exists()
    assert _result(run) == before
    assert (run / name / "adapter").is_dir()


def test_files_called_like_steps_and_copies_of_all_at_once(run: Path, tiny_folder: Path) -> None:
    for name in COPIES:
        shutil.copytree(run / "iteration-01", run / name)
    (run / "iteration-03").write_text("a note")
    assert [step.name for step in RunFolder(run).steps()] == ["iteration-01", "iteration-02"]
    assert quick_run(tiny_folder, run).run(progress=False).last == run / "iteration-02" / "adapter"
    assert "iteration-03" in status(run).unread


def test_a_folder_with_a_copy_alone_is_no_run(tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "run" / "iteration-01.bak").mkdir(parents=True)
    with pytest.raises(NashwardError, match=r"iteration-01\.bak"):
        quick_run(tiny_folder, tmp_path / "run").run(progress=False)


def test_a_network_judges_a_call_alike_whatever_the_cache_holds(tmp_path: Path) -> None:
    oracle, long = as_oracle(pocket.PAIRRM), "It is a long answer, with many words in it. " * 6
    texts = [["Yes.", "No.", "It depends."], ["Blue.", "Red, or green.", long]]
    prompts = ["Is it so?", "Which colour?"]
    # the same pair of the second prompt in the company of others
    company = [["Yes.", "No."], ["Blue.", "Red, or green."]]
    with AtomicCache(tmp_path / "empty") as cache:
        alone = judge_call(oracle, cache, prompts, texts, None)
        stored = len(cache)
        again = judge_call(oracle, cache, prompts, texts, None)
        assert len(cache) == stored
    with AtomicCache(tmp_path / "fuller") as cache:
        judge_call(oracle, cache, prompts, company, None)
        after = judge_call(oracle, cache, prompts, texts, None)
    for first, second, third in zip(alone, again, after, strict=True):
        assert np.array_equal(first.logits, second.logits)
        assert np.array_equal(first.logits, third.logits)
        assert (second.meta["calls"], second.meta["cached"]) == (0, 6)
        assert (third.meta["calls"], third.meta["cached"]) == (6, 0)


@pytest.mark.parametrize("harm", ["lost", "damaged", "of another run"])
def test_a_cache_that_is_lost_changes_no_bit(harm: str, tiny_folder: Path, tmp_path: Path) -> None:
    """The start's responses are played in both iterations, and many a text of four tokens is sampled again."""
    settings: dict[str, Any] = {"oracle": pocket.PAIRRM, "sampling": llm.Sampling(max_new_tokens=2)}
    quick_run(tiny_folder, tmp_path / "whole", **settings).run(progress=False)
    home = tmp_path / "harmed"
    quick_run(tiny_folder, home, **settings).run("train", progress=False)
    (cache,) = (file for file in home.glob("judgements.sqlite") if file.is_file())
    with Cache(cache) as stored:
        assert len(stored) > 0
    if harm == "damaged":
        cache.write_bytes(cache.read_bytes()[:5000])
    for part in home.glob("judgements.sqlite*") if harm != "damaged" else ():
        part.unlink()
    if harm == "of another run":
        shutil.copy(tmp_path / "whole" / "judgements.sqlite", cache)
    quick_run(tiny_folder, home, **settings).run(progress=False)
    assert _result(home) == _result(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["responses", "judgements"])
@pytest.mark.parametrize("harm", ["cut", "altered", "emptied"])
def test_damage_in_a_finished_step_is_noticed_and_undone(
    kind: str, harm: str, run: Path, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = _result(run)
    file = next((run / "iteration-02" / kind).glob("*.parquet"))
    content = file.read_bytes()
    file.write_bytes({"cut": content[:-1], "altered": content[:9] + b"?" + content[10:], "emptied": b""}[harm])
    quick_run(tiny_folder, run).run(progress=False)
    assert any(str(file) in line and "set-aside" in line for line in caplog.messages)
    assert _result(run) == before
    assert (run / "set-aside" / file.relative_to(run)).exists()
    caplog.clear()
    quick_run(tiny_folder, run).run(progress=False)
    assert not caplog.messages


def test_a_stage_alone_repairs_its_own_and_what_was_deleted_stays_so(run: Path, tiny_folder: Path) -> None:
    responses, judgements = (next((run / "iteration-02" / kind).glob("*")) for kind in ("responses", "judgements"))
    content = responses.read_bytes()
    responses.write_bytes(b"")
    judgements.write_bytes(b"")
    quick_run(tiny_folder, run, oracle=None).run("sample", progress=False)
    assert (responses.read_bytes(), judgements.read_bytes()) == (content, b"")
    for file in (responses, judgements):
        file.unlink()
    quick_run(tiny_folder, run).run(progress=False)
    assert not responses.exists()
    assert not judgements.exists()


@pytest.mark.parametrize("harm", ["folders deleted", "files deleted", "emptied"])
def test_judge_alone_samples_again_what_it_needs_to_repair_judgements(
    harm: str, tiny_folder: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"sampling": llm.Sampling(max_new_tokens=2)}
    home = tmp_path / "run"
    quick_run(tiny_folder, home, **settings).run(progress=False)
    before = _result(home)
    for step in ("iteration-01", "iteration-02"):
        for file in (home / step / "judgements").glob("*.parquet"):
            file.write_bytes(b"")
        for file in (home / step / "responses").glob("*.parquet"):
            file.write_bytes(b"") if harm == "emptied" else file.unlink()
        if harm == "folders deleted":
            (home / step / "responses").rmdir()
    quick_run(tiny_folder, home, **settings).run("judge", progress=False)
    assert _result(home) == before


def test_judge_alone_without_a_policy_says_that_it_needs_one(run: Path, tiny_folder: Path) -> None:
    for file in (run / "iteration-02").glob("*s/*.parquet"):
        file.write_bytes(b"")
    stage = quick_run(tiny_folder, run)
    stage.policy = None
    with pytest.raises(NashwardError, match="needs a policy"):
        stage.run("judge", progress=False)


def test_votes_that_judge_no_response_end_the_run_before_it_learns_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    votes.write_text('{"prompt": "Say 1 things!", "a": "x", "b": "y", "wins": 1, "n": 1}\n')
    for _ in range(2):  # nor does the same command again
        with pytest.raises(NashwardError, match=r"fit-oracle --pairs votes\.jsonl"):
            quick_run(tiny_folder, tmp_path / "run", oracle=votes).run(progress=False)
    votes.write_text('{"prompt": "Of no prompt.", "a": "x", "b": "y", "wins": 1, "n": 1}\n')
    with pytest.raises(NashwardError, match=r"prompts.*fit-oracle --pairs votes.jsonl"):
        quick_run(tiny_folder, tmp_path / "other", oracle=votes).run(progress=False)
    assert not (tmp_path / "other").exists()
