"""A run that people vote for: it waits, stops, goes on, and its report says who voted and what that changed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_people import people, style

from nashward import games, llm
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import report
from nashward.llm.config import Asking, People
from nashward.llm.oracles import as_oracle
from nashward.llm.people import PeopleOracle, VoteStore
from nashward.llm.people import inbox as people_inbox
from nashward.llm.people import oracle as people_oracle
from nashward.llm.people.formats import write_votes
from nashward.llm.people.records import CastVote
from nashward.llm.pocket import POLICY, styles
from nashward.llm.report.content import Table
from nashward.llm.report.people import people as report_of_people
from nashward.llm.store.files import read_shard, shards

from .annotators import voting


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_oracle, "POLL", 0.02)
    monkeypatch.setattr(people_inbox, "STILL", 0.0)


def self_play(home: Path, prompts: int, config: llm.RunConfig, team: str = "team") -> llm.SelfPlay:
    return llm.SelfPlay(
        policy=POLICY,
        oracle=PeopleOracle(home / team, config.people),
        solver=games.OptimisticMWU(step=2.5),
        prompts=styles.plain_prompts(prompts),
        folder=home / "run",
        config=config,
    )


def gap(step: Path) -> float:
    """In the planted game, of the mix of styles that the step has sampled."""
    files = shards(step / "responses", "*")
    kinds = [style(row["text"]) for file in files for row in read_shard(file, ["text"])]
    mix = np.bincount(kinds, minlength=len(styles.STYLES) + 1) / len(kinds)
    return 2 * (float((styles.judged_table() @ mix).max()) - 0.5)


def test_three_rounds_of_votes_bring_the_policy_towards_the_planted_nash(tmp_path: Path) -> None:
    config = llm.RunConfig(
        iterations=3, responses=4, sampling=llm.Sampling(max_new_tokens=24), people=People(votes=150, base=str(POLICY))
    )
    with voting(tmp_path / "team", people(8, seed=1), Asking(random_share=0.25, seed=0)) as wrong:
        run = self_play(tmp_path, 48, config).run(progress=False)
    assert wrong == []
    assert len(run.metrics) == 3
    self_play(tmp_path, 48, dataclasses.replace(config, iterations=4)).run("sample", progress=False)
    gaps = [gap(tmp_path / "run" / f"iteration-{k:02d}") for k in (1, 2, 3, 4)]
    assert gaps[3] < gaps[0] - 0.1, gaps
    assert all(after < before + 0.02 for before, after in pairwise(gaps)), gaps
    records = [
        json.loads((tmp_path / "run" / f"iteration-{k:02d}" / "oracle" / "people.json").read_text()) for k in (1, 2, 3)
    ]
    assert [record["votes"] for record in records] == [150, 300, 450]
    assert [record["new"] for record in records] == [150] * 3
    assert records[2]["held_out"]["log_loss"] < np.log(2)
    assert records[0]["changed"] is None
    assert 0 < records[1]["changed"]["win_probability"] < 0.5
    assert set(records[2]["people"]) == {f"person {k:02d}" for k in range(8)}
    assert records[2]["agreement"]["alpha"] is not None
    page = report.write(run.folder).read_text(encoding="utf-8")
    for told in ("Votes of people", "person 07", "Krippendorff", "450 votes of 8 people"):
        assert told in page


SMALL = llm.RunConfig(
    iterations=1, responses=2, sampling=llm.Sampling(max_new_tokens=6), people=People(votes=6, base=str(POLICY))
)


def cast(texts: list[str], prompt: str, number: int, name: str = "ann") -> CastVote:
    return CastVote(prompt, texts[0], texts[1], "ab"[number % 2], name, 2.0, "a", id=f"v{number}")


def sampled(store: VoteStore) -> list[tuple[str, str, str]]:
    return list(store.texts(row.id for row in store.pairs()).values())


def drop(team: Path, count: int, first: int = 0, name: str = "votes.jsonl") -> None:
    """Votes on what the run has put up, in a file in the inbox."""
    with VoteStore(team) as store:
        texts = sampled(store)
    votes = [cast(list(texts[k % len(texts)][1:]), texts[k % len(texts)][0], first + k) for k in range(count)]
    (team / "inbox").mkdir(exist_ok=True)
    write_votes(team / "inbox" / name, votes)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped while it waited for votes."""
    home, stop = tmp_path_factory.mktemp("waiting"), threading.Event()
    threading.Timer(2.0, stop.set).start()
    run = self_play(home, 4, SMALL).run(stop=stop, progress=False)
    assert run.interrupted
    assert list((home / "run" / "iteration-01" / "responses").iterdir())
    assert not (home / "run" / "iteration-01" / "oracle").exists()
    return home


@pytest.fixture
def home(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "home")


def test_a_stopped_wait_is_continued_with_the_votes_of_meanwhile(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drop(home / "team", 5)
    said: list[str] = []

    def more(self: Any, seconds: float) -> None:
        said.append(caplog.text)
        drop(home / "team", 1, 5, "later.jsonl")

    monkeypatch.setattr("nashward.llm.run.progress.Progress.pause", more)
    run = self_play(home, 4, SMALL).run(progress=False)
    assert run.metrics[0]["iteration"] == "iteration-01"
    assert len(said) == 1
    assert "5 of 6" in said[0]
    assert f"nashward vote {home / 'team'}" in said[0]
    record = json.loads((home / "run" / "iteration-01" / "oracle" / "people.json").read_text())
    assert (record["votes"], record["new"]) == (6, 6)
    assert as_oracle(home / "run" / "iteration-01" / "oracle").raw_logits(["p"], [["x", "y"]], [[(0, 1)]])


def test_a_wait_says_how_many_votes_are_on_the_runs_own_responses(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Votes on other texts count as well, and may be all that there are."""
    other = [CastVote(f"p{k % 2}", "x", f"y{k}", "a", "bot", id=f"other {k}") for k in range(3)]
    with VoteStore(home / "team") as store:
        prompt, a, b = sampled(store)[0]
        store.add_votes([*other, CastVote(prompt, a, "of another model", "a", "bot", id="half")])
    drop(home / "team", 1)
    said: list[str] = []

    def more(self: Any, seconds: float) -> None:
        said.append(caplog.text)
        write_votes(home / "more.jsonl", [CastVote(prompt, a, b, "a", "bo", id="more")])
        main(["vote", str(home / "team"), "--import", str(home / "more.jsonl")])

    monkeypatch.setattr("nashward.llm.run.progress.Progress.pause", more)
    self_play(home, 4, SMALL).run(until="judge", progress=False)
    assert len(said) == 1
    assert re.search(r"5 of 6 .*\b1 of them on .* this run", said[0])
    assert re.search(r"6 new votes: 6 .*\b2 of them on its responses", capsys.readouterr().out)
    record = json.loads((home / "run" / "iteration-01" / "oracle" / "people.json").read_text())
    assert (record["new"], record["on_run"]) == (6, 2)
    table = next(part for part in report_of_people(home / "run") if isinstance(part, Table))
    assert table.rows[0][table.head.index("on the run's responses")] == 2
    page = report.write(home / "run").read_text(encoding="utf-8")
    assert "under the oracle people:team" in page  # as it is typed


def test_responses_of_all_steps_of_a_run_are_its_own(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, iterations=2)
    with voting(tmp_path / "team", people(2, seed=1), Asking(random_share=0.5, seed=0)) as wrong:
        self_play(tmp_path, 4, config).run(progress=False)
    assert wrong == []
    with VoteStore(tmp_path / "team") as store:
        assert store.target() == (6, 6)  # of the second step
        assert store.count(drawn=True) == store.count() == 12


def test_a_step_is_judged_by_its_own_oracle_whatever_comes_later(home: Path) -> None:
    drop(home / "team", 6)
    self_play(home, 4, SMALL).run(until="judge", progress=False)
    place = home / "run" / "iteration-01" / "oracle"
    before = {file.name: file.stat().st_mtime_ns for file in place.iterdir()}
    drop(home / "team", 4, 6, "later.jsonl")
    self_play(home, 4, SMALL).run(progress=False)
    assert {file.name: file.stat().st_mtime_ns for file in place.iterdir()} == before
    self_play(home, 4, SMALL).run(redo="judge", progress=False)  # from all votes, the later ones too
    assert json.loads((place / "people.json").read_text())["votes"] == 10


def test_a_fit_that_was_killed_leaves_no_oracle(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(home / "team", 6)

    class Killed(BaseException):
        pass

    def dies(*given: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(people_oracle, "record", dies)
        with pytest.raises(Killed):
            self_play(home, 4, SMALL).run(progress=False)
    assert not (home / "run" / "iteration-01" / "oracle").exists()
    assert self_play(home, 4, SMALL).run(progress=False).metrics


def test_the_votes_of_another_team_are_another_run(home: Path) -> None:
    with pytest.raises(NashwardError, match=r"holds another run \(oracle .people:.*other. now"):
        self_play(home, 4, SMALL, team="other").check()
    moved = shutil.move(home / "team", home / "elsewhere")
    assert moved
    self_play(home, 4, SMALL, team="elsewhere").check()  # the same votes at another place
    fewer = dataclasses.replace(SMALL, people=dataclasses.replace(SMALL.people, votes=3))
    self_play(home, 4, fewer, team="elsewhere").check()  # people may tire
    other = dataclasses.replace(SMALL, people=dataclasses.replace(SMALL.people, kind="bt"))
    with pytest.raises(NashwardError, match=r"people\.kind"):
        self_play(home, 4, other, team="elsewhere").check()


def test_votes_on_one_prompt_are_not_enough(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit holds prompts out."""
    with VoteStore(home / "team") as store:
        prompt, a, b = sampled(store)[0]
        store.add_votes([cast([a, b], prompt, k) for k in range(6)])
        other, c, d = next(texts for texts in sampled(store) if texts[0] != prompt)
    waited: list[float] = []

    def more(self: Any, seconds: float) -> None:
        waited.append(seconds)
        with VoteStore(home / "team") as store:
            store.add_votes([cast([c, d], other, 6)])

    monkeypatch.setattr("nashward.llm.run.progress.Progress.pause", more)
    self_play(home, 4, SMALL).run(until="judge", progress=False)
    assert len(waited) == 1


def test_a_wrong_file_in_the_inbox_is_named(home: Path) -> None:
    (home / "team" / "inbox").mkdir(exist_ok=True)
    (home / "team" / "inbox" / "bad.jsonl").write_text('{"prompt": "p"}\n')
    with pytest.raises(NashwardError, match=r"bad\.jsonl: row 1"):
        self_play(home, 4, SMALL).run(progress=False)


def test_without_an_oracle_that_is_fitted_there_is_none_to_call(home: Path) -> None:
    oracle = PeopleOracle(home / "team", SMALL.people)
    assert oracle.cache_key() is None
    with pytest.raises(NashwardError, match="no oracle is fitted"):
        oracle.raw_logits(["p"], [["x", "y"]], [[(0, 1)]])


def test_a_base_that_is_not_there_is_found_first(tmp_path: Path) -> None:
    with pytest.raises(NashwardError, match=r"--people-base .*nowhere.* real:minilm or .* pocket:policy"):
        PeopleOracle(tmp_path / "team", People(base=str(tmp_path / "nowhere")))
    assert not (tmp_path / "team").exists()


def test_a_file_in_the_inbox_is_read_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while it is copied, and again when more votes were added to it."""
    (tmp_path / "inbox").mkdir()
    file = tmp_path / "inbox" / "votes.jsonl"
    row = {"prompt": "p", "a": "x", "b": "y", "winner": "a"}
    with VoteStore(tmp_path) as store:
        inbox = people_inbox.Inbox(store)
        file.write_text(json.dumps(row) + '\n{"prompt": "p", "a')
        monkeypatch.setattr(people_inbox, "STILL", 60.0)
        assert inbox.read() == 0
        monkeypatch.setattr(people_inbox, "STILL", 0.0)
        with pytest.raises(NashwardError, match="line 2"):
            inbox.read()
        assert inbox.read() == 0  # said once
        file.write_text(json.dumps(row) + "\n" + json.dumps({**row, "winner": "b"}) + "\n")
        assert [inbox.read(), inbox.read()] == [2, 0]
        (tmp_path / "inbox" / "notes.txt").write_text("not votes")
        assert people_inbox.Inbox(store).read() == 0


def test_elsewhere_people_are_no_oracle_and_the_line_says_what_is() -> None:
    with pytest.raises(NashwardError, match="iteration-01/oracle"):
        as_oracle("people:team")


def test_the_inbox_reads_files_of_a_clock_ahead_and_leaves_an_editors_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_inbox, "STILL", 1.0)
    with VoteStore(tmp_path) as store:
        inbox = people_inbox.Inbox(store)
        (inbox.folder / ".#votes.jsonl").symlink_to("ann@desk.4711")
        vote = {"id": "1", "prompt": "p", "a": "x", "b": "y", "winner": "a", "annotator": "ann"}
        file = inbox.folder / "votes.jsonl"
        file.write_text(json.dumps(vote) + "\n")
        os.utime(file, (time.time() + 7200,) * 2)
        assert inbox.read() == 1
