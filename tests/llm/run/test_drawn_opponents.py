"""Opponents that a server draws while a run is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nashward import games, llm
from nashward.cli.opponents import joined
from nashward.errors import EndpointError, NashwardError
from nashward.llm.clients import client as client_module
from nashward.llm.config import Opponents
from nashward.llm.config.inputs import EndpointResponses
from nashward.llm.store.files import read_shard, shards

from ..clients.scripted import Script, faults, serve
from ..tiny_run import PROMPTS, quick_run

SOLVER = games.FixedOpponents(games.MWU(2.0), {"gpt": 0.25})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.002)


def write(body: dict[str, Any]) -> tuple[str, None]:
    return f"<think>so</think> {body['messages'][-1]['content']} zzz {body['seed'] % 7}", None


def run(folder: Path, source: Any, tiny: Path, **settings: Any) -> llm.SelfPlay:
    return quick_run(tiny, folder, solver=SOLVER, opponents={"gpt": source}, **settings)


def tables(folder: Path) -> list[Any]:
    return [
        row["P"]
        for step in ("iteration-01", "iteration-02")
        for file in shards(folder / step / "judgements", "*~opponent-1")
        for row in read_shard(file, ["P"])
    ]


def test_they_are_drawn_once_and_kept(tiny_folder: Path, tmp_path: Path) -> None:
    with serve(Script(write)) as script:
        source = EndpointResponses("gpt-5", script.url, count=2)
        result = run(tmp_path / "run", source, tiny_folder).run(progress=False)
        assert len(script.bodies) == 2 * len(PROMPTS)  # in two iterations
        assert {body["messages"][0]["content"] for body in script.bodies} == set(PROMPTS)
        assert len({body["seed"] for body in script.bodies}) == 2 * len(PROMPTS)
        assert all(len(table[0]) == 2 for table in tables(tmp_path / "run"))
        assert result.metrics[0]["opponent"] == {"start": 0.75, "gpt": 0.25}
        with pytest.raises(NashwardError, match="drawn_opponents"):
            run(tmp_path / "run", EndpointResponses("gpt-6", script.url), tiny_folder).check()
    # the server is gone, and the run plays on by what is kept
    run(tmp_path / "run", None, tiny_folder, iterations=3).run(progress=False)


def test_a_kill_loses_none_and_failures_change_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    found = []
    for name, share in (("plain", 0.0), ("failing", 0.3)):
        with serve(Script(write, faults(share, ("500", "cut", "death")))) as script:
            source = EndpointResponses("gpt-5", script.url)
            if share:
                well, script.fault = script.fault, lambda body, n: "400" if len(script.bodies) >= 4 else ""
                one = llm.Endpoint(concurrency=1)
                with pytest.raises(EndpointError):
                    run(tmp_path / name, source, tiny_folder, endpoint=one).run(progress=False)
                script.fault = well
            run(tmp_path / name, source, tiny_folder).run(progress=False)
            assert len({str(body) for body in script.bodies}) == len(PROMPTS)
            paid = sum(script.faults[kind] for kind in ("cut",))
            assert len(script.bodies) == len(PROMPTS) + paid
        found.append(tables(tmp_path / name))
    assert found[0] == found[1]


def test_a_model_that_writes_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    with (
        serve(Script(lambda body: ("<think>hm</think>", None))) as script,
        pytest.raises(EndpointError, match="--opponent-max-tokens"),
    ):
        run(tmp_path / "run", EndpointResponses("gpt-5", script.url), tiny_folder).run(progress=False)


def test_from_the_command_line() -> None:
    solver, sources = joined(Opponents("openai:gpt-5", "0.1", "http://127.0.0.1:1/v1", 3), games.MWU(1.0))
    assert sources == {"gpt-5": EndpointResponses("gpt-5", "http://127.0.0.1:1/v1", 3)}
    assert solver.opponents == {"gpt-5": 0.1}  # type: ignore[attr-defined]
    for wrong in (Opponents("openai:"), Opponents("openai:a,b"), Opponents("openai:a", None, "http://me:x@h/v1")):
        with pytest.raises(NashwardError):
            joined(wrong, games.MWU(1.0))
    with pytest.raises(NashwardError, match="--opponents-url"):
        joined(Opponents("answers.jsonl", None, "http://h/v1"), games.MWU(1.0))
