"""``nashward vote``: what is compared, votes in and out, the page until it is stopped; and its refusals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nashward.cli.main import main
from nashward.llm import pocket
from nashward.llm.people.formats import read_cast_votes
from nashward.llm.people.store import VoteStore

from ..conftest import ROOT
from ..llm.people.client import Client

PAIR = {"prompt": "Name a river.", "a": "The Rhine.", "b": "No.", "model_a": "m", "model_b": "n"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text(json.dumps(PAIR) + "\n" + json.dumps({**PAIR, "prompt": "Name a tree."}) + "\n")
    Path("votes.jsonl").write_text(json.dumps({**PAIR, "winner": "b", "annotator": "Ann", "id": "1"}) + "\n")
    return tmp_path


def _written(name: str, rows: list[dict[str, str]]) -> Path:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path(name)


class Page:
    """The command in a process of its own, on a free port."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nashward", "vote", *arguments, "--port", "0"], text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # a shell lets what runs in its background ignore Ctrl-C, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = ""
        while "Bearer" not in self.said and self.process.poll() is None:
            self.said += self.process.stdout.readline()
        found = re.search(r"http://[^ ]*:(\d+)/", self.said)
        assert found is not None, self.said + self.process.communicate()[1]
        self.port = int(found[1])

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        try:
            out, errors = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()
        assert "Traceback" not in errors
        return self.process.returncode, out


def test_a_page_for_pairs_of_a_file_until_it_is_stopped(here: Path) -> None:
    page = Page("team", "--pairs", "pairs.jsonl")
    ann = Client(page.port)
    ann.join("Ann")
    for _ in range(2):
        question = ann.next()
        assert question is not None
        assert {"The Rhine.", "No."} == {re.sub(r"<.*?>|\n", "", question[side]) for side in ("first", "second")}
        ann.vote(question, "both_bad")
    again = [{**PAIR, "winner": winner, "annotator": name, "id": name} for name, winner in (("Ann", "a"), ("Bob", "a"))]
    with VoteStore("team", create=False) as store:  # as a repeated question, and another person's vote
        store.add_votes(read_cast_votes(_written("again.jsonl", again), "jsonl"))
    code, out = page.stop()
    assert code == 0
    assert "4 new votes, 4 in all" in out
    assert "Ann: 3 votes, 0% the same again, of 1 question" in out
    assert "Bob: 1 vote, no question asked twice" in out
    assert "0% agree, on 1 pair" in out
    assert "2 new pairs on 2 prompts" in page.said
    assert Path("team/inbox").is_dir()
    with VoteStore("team", create=False) as store:
        assert {vote.sources for vote in store.votes()} == {("m", "n")}


@pytest.mark.slow
def test_the_responses_of_models_and_a_rubric(here: Path) -> None:
    Path("answers").mkdir()
    Path("prompts.jsonl").write_text('{"prompt": "Name a river."}\n{"prompt": "Name a tree."}\n')
    for model in ("one", "two", "three"):
        Path(f"answers/{model}.json").write_text(json.dumps([f"{model}.", None if model == "two" else f"{model}!"]))
    Path("rubric.md").write_text("Prefer *short*.")
    page = Page("team", "--answers", "answers", "--prompts", "prompts.jsonl", "--rubric", "rubric.md")
    assert "<em>short</em>" in Client(page.port).session()["rubric"]
    page.stop()
    with VoteStore("team", create=False) as store:
        assert len(store.pairs()) == 3 + 1


@pytest.mark.slow
def test_the_newest_responses_of_a_run(here: Path) -> None:
    Path("prompts.txt").write_text("Name a river.\nName a tree.\n")
    sample = ["sample", "--policy", str(pocket.POLICY), "--prompts", "prompts.txt", "--out", "run", "--responses", "3"]
    assert main([*sample, "--max-new-tokens", "6", "--quiet"]) == 0
    Page("run").stop()
    with VoteStore("run/people", create=False) as store:
        assert {text[0] for text in store.texts(row.id for row in store.pairs()).values()} == {
            "Name a river.", "Name a tree."
        }  # fmt: skip


def test_votes_go_in_and_out_and_a_name_is_deleted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vote", "team", "--import", "votes.jsonl"]) == 0
    assert main(["vote", "team", "--import", "votes.jsonl"]) == 0
    assert [re.search(r"(\d+) of them new", line)[1] for line in capsys.readouterr().out.splitlines()] == ["1", "0"]  # type: ignore[index]
    assert main(["vote", "team", "--export", "out.json", "--format", "label-studio"]) == 0
    assert json.loads(Path("out.json").read_text())[0]["annotations"][0]["completed_by"] == {"email": "Ann"}
    Path("team/inbox").mkdir()
    Path("team/inbox/mine.jsonl").write_text(Path("votes.jsonl").read_text())
    assert main(["vote", "team", "--forget", "Ann"]) == 0
    assert "mine.jsonl" in capsys.readouterr().out
    assert main(["vote", "team", "--export", "out.jsonl"]) == 0
    assert Path("out.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["team"], "team | --pairs | --answers"),
        (["team", "--pairs", "nope.jsonl"], "nope.jsonl"),
        (["team", "--pairs", "votes.jsonl", "--export", "x.jsonl"], "--pairs and --export"),
        (["team", "--import", "votes.jsonl", "--forget", "Ann"], "--import and --forget"),
        (["team", "--answers", "answers"], "--answers and --prompts"),
        (["nowhere", "--export", "x.jsonl"], "nowhere"),
        (["nowhere", "--forget", "Ann"], "nowhere"),
        (["nowhere"], "nowhere | --pairs | --answers"),
        (["nowhere", "--pairs", "none.jsonl"], "none.jsonl"),
        (["team", "--import", "nope.jsonl"], "nope.jsonl"),
        (["team", "--import", "pairs.jsonl"], "pairs.jsonl: row 1"),
        (["team", "--import", "votes.jsonl", "--format", "battles"], "votes.jsonl: row 1 | conversation_a"),
        (["votes.jsonl", "--pairs", "pairs.jsonl"], "votes.jsonl | folder"),
        (["team", "--pairs", "pairs.jsonl", "--random-share", "2"], "random_share 2"),
        (["team", "--pairs", "pairs.jsonl", "--port", "70000"], "70000"),
        (["team", "--pairs", "pairs.jsonl", "--rubric", "nope.md"], "nope.md"),
        (["team", "--pairs", "pairs.jsonl", "--host", "999.1.1.1"], "999.1.1.1 | --port"),
        (["team", "--pairs", "pairs.jsonl", "--oracle", "nope:nope"], "nope:nope"),
        (["team", "--format", "csv"], "csv"),
    ],
)
def test_refusals_name_what_is_wrong(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert main(["vote", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for part in named.split(" | "):
        assert part in line
    assert not Path(arguments[0]).exists() or arguments[0] == "votes.jsonl"  # nothing is stored before all is checked


def test_exported_battles_name_the_models_that_are_known(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vote", "team", "--import", "votes.jsonl"]) == 0
    for kind in ("battles", "jsonl"):
        assert main(["vote", "team", "--export", f"{kind}.jsonl", "--format", kind]) == 0
        row = json.loads(Path(f"{kind}.jsonl").read_text())
        assert (row["model_a"], row["model_b"]) == ("m", "n")
        assert main(["leaderboard", f"{kind}.jsonl"]) == 0
        assert "Condorcet winner: n" in capsys.readouterr().out
    nameless = {key: value for key, value in PAIR.items() if not key.startswith("model")} | {"winner": "a"}
    skipped = nameless | {"prompt": "Name a sea.", "winner": "skip"}
    Path("nameless.jsonl").write_text(json.dumps(nameless) + "\n" + json.dumps(skipped) + "\n")
    assert main(["vote", "other", "--import", "nameless.jsonl"]) == 0
    assert main(["vote", "other", "--export", "battles.jsonl", "--format", "battles"]) == 0
    assert "1 vote without model_a or model_b" in capsys.readouterr().out
    assert not {"model_a", "model_b"} & set(json.loads(Path("battles.jsonl").read_text()))
    assert main(["leaderboard", "battles.jsonl"]) == 2
    assert "model_a" in capsys.readouterr().err


def test_align_goes_on_with_the_votes_that_are_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**PAIR, "prompt": f"Name {k % 3}.", "winner": "ab"[k % 2], "annotator": "Ann"} for k in range(6)]
    Path("six.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["vote", "team", "--import", "six.jsonl"]) == 0
    Path("prompts.txt").write_text("Name a river.\nName a tree.\n")
    align = ["align", "--policy", str(pocket.POLICY), "--oracle", "people:team", "--prompts", "prompts.txt"]
    align += ["--out", "run", "--iterations", "1", "--responses", "2", "--max-new-tokens", "6"]
    align += ["--people-votes", "6", "--people-base", str(pocket.POLICY)]
    assert main([*align, "--quiet"]) == 0
    assert json.loads(Path("run/iteration-01/oracle/people.json").read_text())["votes"] == 6
    assert "Votes of people" in Path("run/report.html").read_text()
    assert main(["vote", "run", "--export", "again.jsonl"]) == 0  # the run knows where its votes are
    assert len(Path("again.jsonl").read_text().splitlines()) == 6
    capsys.readouterr()
