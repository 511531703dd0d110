"""A language model behind a server as the oracle of every command that judges."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from nashward import games, llm
from nashward.cli.main import main
from nashward.errors import EndpointError
from nashward.llm.clients import client as client_module
from nashward.llm.store.files import read_shard, shards

from ..llm.clients.scripted import Script, faults, serve, shorter
from . import absent

KEY = "sk-test-do-not-show-0123456789"
PROMPTS = ["Name a river.", "Name a tree.", "Say hello.", "Why?"]
RUN = ["--iterations", "1", "--responses", "3", "--max-new-tokens", "8", "--rank", "2", "--epochs", "1", "--quiet"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.002)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    rows = [{"prompt": p, "responses": ["It is so.", "No", f"Well, {p}"]} for p in PROMPTS]
    (tmp_path / "ready.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def script() -> Iterator[Script]:
    with serve(Script(shorter, key=KEY)) as script:
        yield script


def align(script: Script, folder: str, *more: str) -> int:
    run = ["align", "--policy", str(llm.pocket.POLICY), "--prompts", "prompts.txt", "--out", folder, *RUN]
    return main([*run, "--oracle", "openai:judge", "--judge-url", script.url, *more])


def tables(folder: str) -> list[object]:
    step = Path(folder) / "iteration-01" / "judgements"
    return [row["P"] for file in shards(step, "start") for row in read_shard(file, ["P"])]


def test_align_and_evaluate(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert align(script, "run", "--judge-votes", "2", "--judge-budget", "500 calls") == 0
    said = capsys.readouterr()
    assert (
        absent(said.err, f"openai:judge | {script.url.removesuffix('/v1')} | 500 calls".removeprefix("openai:")) == []
    )
    paid = len(script.bodies)
    assert align(script, "run", "--judge-votes", "2", "--judge-budget", "500 calls") == 0
    assert len(script.bodies) == paid + 1  # which model it is
    record = json.loads(Path("run/run.json").read_text())["config"]
    assert record["oracle"] == "openai:judge"
    assert record["judge"]["votes"] == 2
    with sqlite3.connect("run/judgements.verdicts.sqlite") as file:
        assert file.execute("SELECT COUNT(*) FROM output").fetchone() == (len(script.verdicts),)
    held_out = ["--held-out", "openai:other", "--judge-url", script.url, "--judge-protocol", "five-point"]
    script.write = lambda body: ("[[A=B]]" if "A>>B" in str(body) else shorter(body)[0], None)
    assert main(["evaluate", "run", *held_out, "--quiet"]) == 0
    assert absent(capsys.readouterr().out, "other (five-point) | judge (pair)") == []
    for written in Path("run").rglob("*"):
        if written.is_file():
            assert KEY.encode() not in written.read_bytes(), written


def test_what_a_correction_is_fitted_to_is_paid_once_whatever_stops_the_run(script: Script) -> None:
    shorter_wins = [(k < 20) != (k % 5 == 0) for k in range(31)]  # mostly, as the judge says
    rows = [
        {"prompt": f"p{k}", "a": "x" * (k + 1), "b": "y" * (40 - k), "winner": "a" if a else "b"}
        for k, a in enumerate(shorter_wins)
    ]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = llm.JudgeSettings(base_url=script.url)
    config = llm.RunConfig(judge=settings, endpoint=llm.Endpoint(retries=0, concurrency=1))

    def check(folder: str) -> None:
        source = llm.oracles.CorrectedSource("openai:judge", "temperature:pairs=pairs.jsonl")
        llm.SelfPlay(llm.pocket.POLICY, source, games.MWU(step=1.0), PROMPTS, Path(folder), config=config).check()

    script.fault = lambda body, before: "death" if len(script.verdicts) >= 9 else ""
    with pytest.raises(EndpointError):
        check("run")  # the server fails before there is a run
    script.fault = lambda body, before: ""
    for _ in range(2):
        check("run")
        assert len(script.verdicts) == 2 * len(rows)
    Path("other").mkdir()
    Path("other/mine.txt").write_text("what somebody has there")
    with pytest.raises(ValueError, match="other is not empty and holds no run"):
        check("other")
    assert [file.name for file in Path("other").iterdir()] == ["mine.txt"]


def test_thirty_percent_of_failures_end_in_the_same_run() -> None:
    for share in (0.0, 0.3):
        with serve(Script(shorter, faults(share, ("429", "500", "cut", "nonsense", "death")), key=KEY)) as script:
            assert align(script, f"run-{share}") == 0
    assert sum(script.faults.values()) > 3
    assert tables("run-0.0") == tables("run-0.3")
    weights = [Path(f"run-{share}/iteration-01/adapter/adapter_model.safetensors") for share in (0.0, 0.3)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_that_is_out_of_budget_goes_on_with_more(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert align(script, "run", "--judge-budget", "6 calls") == 2
    assert absent(capsys.readouterr().err, "6 calls | --judge-budget") == []
    paid = len(script.verdicts)
    assert 0 < paid <= 6
    assert align(script, "run", "--judge-budget", "600 calls") == 0
    pairs = {json.dumps(body["messages"]) for body in script.verdicts}
    assert len(script.verdicts) == len(pairs)  # none was paid twice
    assert align(script, "other") == 0
    assert tables("run") == tables("other")


def test_judge_alone_and_another_judge(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    sample = ["sample", "--policy", str(llm.pocket.POLICY), "--prompts", "prompts.txt", "--out", "run", *RUN]
    assert main(sample) == 0
    judge = ["judge", "--oracle", "openai:judge", "--judge-url", script.url, "--out", "run", "--quiet"]
    assert main([*judge, "--judge-protocol", "letter"]) == 2
    assert absent(capsys.readouterr().err, "letter | log-probabilities | --judge-protocol") == []
    assert main(judge) == 0
    script.model = "a newer one"
    assert main(judge) == 2  # what is judged already is not by this model
    assert absent(capsys.readouterr().err, "oracle_content") == []
    other = ["judge", "--out", "run", "--oracle", "nashward.llm.oracles:Length", "--quiet"]
    assert main(other) == 2  # the URL is the folder's, not the user's
    refusal = capsys.readouterr().err
    assert absent(refusal, "run holds another run | 'openai:judge' there | Length' now") == []
    assert "--judge-url" not in refusal
    assert "oracle_content" not in refusal  # another oracle has other content
    assert main([*other, "--judge-url", script.url]) == 2
    assert "--judge-url" in capsys.readouterr().err


def test_best_of_n(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["best-of-n", "--responses", "ready.jsonl", "--out", "best.jsonl", "--oracle", "openai:judge"]
    assert main([*command, "--judge-url", script.url, "--cache", "j.sqlite"]) == 0
    best = [json.loads(line)["response"] for line in Path("best.jsonl").read_text().splitlines()]
    assert best == ["No"] * len(PROMPTS)
    assert Path("j.verdicts.sqlite").is_file()


def test_leaderboard(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    Path("answers").mkdir()
    for name, text in (("brief", "Yes"), ("long", "It may well be so."), ("middle", "It is so")):
        rows = [{"instruction": prompt, "output": f"{text} {k}"} for k, prompt in enumerate(PROMPTS)]
        Path(f"answers/{name}.json").write_text(json.dumps(rows))
    command = ["leaderboard", "answers", "--prompts", "prompts.txt", "--oracle", "openai:judge"]
    assert main([*command, "--judge-url", script.url, "--judge-price", "1/2"]) == 0
    said = capsys.readouterr()
    assert absent(said.out, "Condorcet winner: brief | not tested: brief met long on") == []
    assert "beyond noise" not in said.out
    assert absent(said.err, "$0.01") == []


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["--judge-url", "http://me:secret@host/v1"], "credentials"),
        (["--judge-protocol", "none.jinja"], "none.jinja | pair"),
        (["--rubric", "none.md"], "none.md"),
        (["--judge-budget", "much"], "much | calls"),
        (["--judge-budget", "1 USD"], "0.15/0.60"),
        (["--judge-votes", "3", "--judge-temperature", "0"], "temperature | 3"),
        (["--oracle", "openai:"], "openai:MODEL"),
        (["--oracle", "nashward.llm.oracles:Length", "--judge-votes", "3"], "--judge-votes | openai:MODEL"),
        (["--key-variable", "sk-1"], "variable"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    script: Script, options: list[str], facts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["best-of-n", "--responses", "ready.jsonl", "--out", "best.jsonl"]
    oracle = [] if "--oracle" in options else ["--oracle", "openai:judge"]
    assert main([*command, *oracle, *options]) == 2
    line = capsys.readouterr().err
    assert absent(line, facts) == []
    assert "secret" not in line
    assert script.headers == []


def test_a_wrong_key_is_not_shown(
    script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    command = ["best-of-n", "--responses", "ready.jsonl", "--out", "best.jsonl", "--oracle", "openai:judge"]
    assert main([*command, "--judge-url", script.url]) == 2
    said = capsys.readouterr()
    assert absent(said.err, "401 | OPENAI_API_KEY") == []
    assert "sk-wrong" not in said.out + said.err
