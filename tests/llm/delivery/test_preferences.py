"""Preference data of a run: TRL's formats, and all responses with their probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset

from nashward import games
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import Prompt
from nashward.llm.config.inputs import EndpointResponses
from nashward.llm.delivery.preferences import SCHEMAS, Preferences, preferences
from nashward.llm.store.run_folder import RunFolder

from .. import tiny_run
from ..clients.scripted import Script, serve

PROMPT = Prompt(({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a river."}))
NAN = float("nan")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("preferences")
    rival = [{"prompt": prompt, "output": "zzz"} for prompt in tiny_run.PROMPTS]
    solver = games.FixedOpponents(games.MWU(2.0), {"rival": 0.25})
    play = tiny_run.quick_run(tiny_folder, home / "run", solver=solver, opponents={"rival": rival})
    play.run(progress=False)
    assert main(["export", str(home / "run"), "--to", "preferences", "--out", str(home / "out")]) == 0
    return home / "run", home / "out"


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_parquet_and_jsonl_hold_the_same_and_datasets_reads_both(exported: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = exported
    for name in SCHEMAS:
        rows = _rows(out, name)
        assert rows
        for kind, file in (("json", out / f"{name}.jsonl"), ("parquet", out / f"{name}.parquet")):
            read = load_dataset(kind, data_files=str(file), split="train", cache_dir=str(tmp_path / name))
            assert read.to_list() == rows


def test_pairs_are_the_best_and_the_worst_by_the_tables(exported: tuple[Path, Path]) -> None:
    _, out = exported
    tables = {}
    for row in _rows(out, "responses"):
        if row["policy"] == row["opponent"]:
            P = np.array(row["P"])
            means = (P.sum(1) - P.diagonal()) / (len(P) - 1)
            tables[json.dumps(row["prompt"]), row["responses"][means.argmax()]] = (row["responses"], means)
    pairs = _rows(out, "explicit-prompt")
    for row in pairs:
        texts, means = tables[json.dumps(row["prompt"]), row["chosen"][0]["content"]]
        assert means[texts.index(row["rejected"][0]["content"])] == means.min() < means.max()
    assert _rows(out, "implicit-prompt") == [
        {"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]} for row in pairs
    ]
    assert {row["label"] for row in _rows(out, "unpaired")} == {True, False}


def test_fixed_opponents_are_in_the_whole_tables_alone(exported: tuple[Path, Path]) -> None:
    _, out = exported
    against = [row for row in _rows(out, "responses") if row["opponent"].startswith("opponent")]
    assert against
    for row in against:
        assert row["opponent_responses"] == ["zzz"]
        assert np.array(row["P"]).shape == (3, 1)
    assert not any("zzz" in json.dumps(row) for row in _rows(out, "unpaired"))


def test_opponents_that_a_server_drew_are_in_the_tables(tiny_folder: Path, tmp_path: Path) -> None:
    """Beside stored ones, so that a label of the wrong opponent would show."""
    shares = {"drawn": 0.2, "a stored one": 0.1, "the stored one": 0.1}
    texts = {"a stored one": "aaa", "the stored one": "zzz"}
    rows = {name: [{"prompt": p, "output": text} for p in tiny_run.PROMPTS] for name, text in texts.items()}
    with serve(Script(lambda body: (f"drawn for {body['messages'][-1]['content']}", None))) as script:
        opponents = {**rows, "drawn": EndpointResponses("gpt-5", script.url)}
        solver = games.FixedOpponents(games.MWU(2.0), shares)
        play = tiny_run.quick_run(tiny_folder, tmp_path / "run", solver=solver, opponents=opponents, iterations=1)
        play.run(progress=False)
    tiny_run.changed(play, opponents=dict.fromkeys(opponents), iterations=2).run(progress=False)  # by what is kept
    found = preferences(RunFolder(tmp_path / "run"))
    against: dict[str, set[str]] = {}
    for row in found.rows["responses"]:
        if row["opponent"].startswith("opponent"):
            against.setdefault(row["opponent"], set()).update(row["opponent_responses"])
    drawn = {f"drawn for {prompt}" for prompt in tiny_run.PROMPTS}
    assert against == {"opponent-1": {"aaa"}, "opponent-2": drawn, "opponent-3": {"zzz"}}
    assert not any("opponents" in reason for reason in found.left_out)


def test_a_tie_is_no_preference() -> None:
    found = Preferences()
    found.add(PROMPT, "iteration-01", "start", ["A", "B"], np.full((2, 2), 0.5))
    assert [len(found.rows[name]) for name in SCHEMAS] == [0, 0, 0, 1]
    assert found.left_out.total() == 3


def test_what_was_not_judged_is_in_no_pair() -> None:
    found = Preferences()
    P = np.array([[0.5, NAN, 0.9], [NAN, 0.5, NAN], [0.1, NAN, 0.5]])
    found.add(PROMPT, "iteration-01", "start", ["A", "B", "C"], P)
    (pair,) = found.rows["explicit-prompt"]
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("A", "C")
    assert [row["label"] for row in found.rows["unpaired"]] == [True, False]
    assert found.left_out["responses without a judgement"] == 1
    assert pair["prompt"] == [dict(message) for message in PROMPT.messages]


def test_a_run_that_judged_nothing_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    play = tiny_run.quick_run(tiny_folder, tmp_path / "run")
    play.run(until="sample", progress=False)
    with pytest.raises(NashwardError, match="judged no responses"):
        preferences(RunFolder(tmp_path / "run"))


def test_trl_reads_each_format(exported: tuple[Path, Path]) -> None:
    utils = pytest.importorskip("trl.data_utils")
    _, out = exported
    explicit, implicit, unpaired = (_rows(out, name)[0] for name in list(SCHEMAS)[:3])
    for row in (explicit, implicit, unpaired):
        assert utils.is_conversational(row)
    assert utils.extract_prompt(implicit)["prompt"] == explicit["prompt"]
