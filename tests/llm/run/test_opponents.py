"""Stored responses of other models as opponents: what is read, kept, judged and refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward import games, llm
from nashward.cli import opponents
from nashward.games import Policy, Solver, Step
from nashward.games.opponents import opponent
from nashward.llm.config import Opponents
from nashward.llm.run.inputs.opponents import StoredOpponents
from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder

from ..tiny_run import PROMPTS, files, quick_run

SOLVER = games.FixedOpponents(games.MWU(2.0), {"rival": 0.25})
ROWS = [{"prompt": p, "responses": [f"{p} zzz"] * (1 + k % 2)} for k, p in enumerate(PROMPTS)]


def _run(source: Any, folder: Path, opponents: Any = ROWS, solver: Any = SOLVER, **settings: Any) -> llm.SelfPlay:
    return quick_run(source, folder, solver=solver, opponents={"rival": opponents}, **settings)


def test_only_the_policy_is_sampled_and_fitted(tiny_folder: Path, tmp_path: Path) -> None:
    run = _run(tiny_folder, tmp_path / "run", iterations=1).run()
    stage = tmp_path / "run" / "iteration-01"
    assert {file.name.split(".")[0] for file in shards(stage / "responses", "*")} == {"start"}
    (file,) = shards(stage / "judgements", "start~opponent-1")
    P = {row["prompt"]: np.array(row["P"]) for row in read_shard(file)}
    ids = {prompt.text: prompt.id for prompt in run.prompts.kept}
    assert [P[ids[p]].shape for p in PROMPTS] == [(3, 1 + k % 2) for k in range(len(PROMPTS))]
    (own,) = shards(stage / "judgements", "start")
    expected = []
    for row in read_shard(own):
        table = np.array(row["P"])
        for k in range(3):
            against_itself = table[k, [j for j in range(3) if j != k]].mean()
            expected.append(0.75 * against_itself + 0.25 * P[row["prompt"]][k].mean())
    (targets,) = shards(stage / "targets", "anchor")
    found = [gain for row in read_shard(targets) for group in row["payoffs"] for gain in group]
    np.testing.assert_allclose(sorted(found), sorted(expected), atol=1e-6)
    assert run.metrics[0]["opponent"] == {"start": 0.75, "rival": 0.25}
    assert run.metrics[0]["opponent_win_rates"] == {
        "rival": pytest.approx(np.mean([table.mean() for table in P.values()]))
    }


def test_a_cut_run_ends_the_same_with_and_without_the_file(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rival.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    _run(tiny_folder, tmp_path / "whole", file).run()
    whole = files(tmp_path / "whole")
    for name, again in (("given", file), ("kept", None)):
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        cut = tmp_path / name / "iteration-02"
        shutil.rmtree(cut / "adapter")
        (cut / "metrics.jsonl").unlink()
        for judged in shards(cut / "judgements", "*"):
            judged.unlink()
        _run(tiny_folder, tmp_path / name, again).run()
        ended = files(tmp_path / name)
        assert {name for name in whole if whole[name] != ended.get(name)} <= {"judgements.sqlite"}


def test_members_keep_their_places_whatever_their_order(tiny_folder: Path, tmp_path: Path) -> None:
    """A folder of files, and run.json, sort names differently: "gpt-4.jsonl" is before "gpt.jsonl"."""
    answers = tmp_path / "answers"
    answers.mkdir()
    for name, text in (("gpt", "zzz"), ("gpt-4", "a")):
        rows = [json.dumps({"prompt": prompt, "response": f"{prompt} {text}"}) for prompt in PROMPTS]
        (answers / f"{name}.jsonl").write_text("\n".join(rows))
    solver, files = opponents.joined(Opponents(str(answers), "gpt=0.3,gpt-4=0.1"), games.MWU(2.0))
    first = quick_run(tiny_folder, tmp_path / "run", solver=solver, opponents=files, iterations=1).run().metrics[0]
    assert first["opponent"]["gpt"] == pytest.approx(0.3)
    described, shares = opponents.unwrapped(RunFolder(tmp_path / "run").read()["config"]["solver"])
    assert described["name"] == "MWU"
    solver, kept = opponents.joined(Opponents(None, shares), games.MWU(2.0))
    again = (
        quick_run(tiny_folder, tmp_path / "run", solver=solver, opponents=kept, iterations=1)
        .run(redo="train")
        .metrics[0]
    )
    assert again == first
    assert list(files) == list(kept) == ["gpt", "gpt-4"]


def test_other_responses_are_another_run_and_a_damaged_copy_is_made_again(tiny_folder: Path, tmp_path: Path) -> None:
    _run(tiny_folder, tmp_path / "run", iterations=1).run()
    other = [*ROWS[:-1], {**ROWS[-1], "responses": ["no"]}]
    with pytest.raises(ValueError, match=r"holds another run \(opponents '[0-9a-f]{16}' there, '[0-9a-f]{16}' now\)"):
        _run(tiny_folder, tmp_path / "run", other, iterations=1).run()
    other_share = games.FixedOpponents(games.MWU(2.0), {"rival": 0.5})
    with pytest.raises(ValueError, match=r"holds another run \(solver.opponents.rival 0.25 there, 0.5 now\)"):
        _run(tiny_folder, tmp_path / "run", solver=other_share, iterations=1).run()
    copy = tmp_path / "run" / "opponents.jsonl"
    content = copy.read_bytes()
    copy.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"responses of rival"):
        _run(tiny_folder, tmp_path / "run", None, iterations=1).run()
    _run(tiny_folder, tmp_path / "run", iterations=1).run()
    assert copy.read_bytes() == content


class Anchored:
    """Takes the fixed opponent for an anchor."""

    def play(self, x: Policy, reference: Policy) -> Any:
        while True:
            x = yield Step(anchor=0.5 * x + 0.5 * opponent("rival"), opponent=x, size=1.0)


class Counted:
    """Counts it in the average."""

    def play(self, x: Policy, reference: Policy) -> Any:
        while True:
            x = yield Step(anchor=x, opponent=opponent("rival"), size=1.0)


@pytest.mark.parametrize(("solver", "what"), [(Anchored(), "anchored at"), (Counted(), "averaged")])
def test_a_member_has_no_probabilities(solver: Solver, what: str, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^rival has no adapter: .* not {what}$"):
        _run(tiny_folder, tmp_path / "run", solver=solver).run()


def test_an_unknown_member_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    solver = games.FixedOpponents(games.MWU(2.0), {"nobody": 0.25})
    play = _run(tmp_path / "nowhere", tmp_path / "run", solver=solver)
    with pytest.raises(ValueError, match=r"'nobody'.* not among the opponents: 'rival'"):
        play.run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (["a text"], "rival: row 1 is str, expected an object with a prompt and a response"),
        ([{"prompt": "p"}], "rival: row 1 has no response"),
        ([{"output": "x"}], "rival: row 1 has no prompt or instruction or question or messages or "),
        ([{"prompt": "p", "responses": "x"}], "rival: row 1 has responses that are str, expected a list of texts"),
        ([{"prompt": "p", "output": " "}],
         "rival: row 1 has an empty response; leave it out, or give null in its place"),
        ([{"prompt": "p", "output": "\ud800"}], "rival: row 1 has a response that is not Unicode"),
        ([{"prompt": "p", "output": None}], "rival holds no responses"),
        ([], "rival holds no responses"),
        (ROWS[2:],
         "rival has no response to 2 of 10 prompts, the first of them 'Say 0 things'; give one to each, or leave these "
         "prompts out"),
    ],
)  # fmt: skip
def test_responses_that_are_refused(rows: list[Any], line: str, tmp_path: Path) -> None:
    prompts = llm.read_prompts(PROMPTS).kept
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        StoredOpponents({"rival": rows}).members(RunFolder(tmp_path / "run"), prompts)


def test_the_field_of_the_prompts_may_be_that_of_the_responses(tmp_path: Path) -> None:
    prompts = llm.read_prompts([{"ask": "p"}], "ask").kept
    for rows in ([{"ask": "p", "output": "x"}], [{"prompt": "p", "output": "x"}], [{"instruction": "p", "text": "x"}]):
        assert StoredOpponents({"rival": rows}, "ask").members(RunFolder(tmp_path), prompts)["rival"].texts[
            prompts[0].id
        ] == ["x"]
