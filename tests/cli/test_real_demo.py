"""``nashward demo --real``: what it measures, on figures made by hand; and, with the packages, a small run of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from nashward.cli.demo import judge_game, real
from nashward.cli.demo.judge_game import MAJORITY, JudgeGame, Ring
from nashward.cli.demo.real import PROMPTS
from nashward.cli.main import main
from nashward.llm import report
from nashward.llm.data.rollouts import Response
from nashward.llm.evaluation.tables import TournamentTables
from nashward.llm.evaluation.win_rates.win_rate import WinRate

NAMES = ("start", "iteration-01", "mixture")


def test_the_prompts_are_many_and_different() -> None:
    assert len(PROMPTS) == len(set(PROMPTS)) >= 150
    assert all(10 < len(prompt) < 90 and prompt == prompt.strip() for prompt in PROMPTS)
    assert all(prompt[-1] in ".?" and prompt.isascii() for prompt in PROMPTS)


def _table(margins: dict[tuple[int, int], float], size: int) -> list[list[float]]:
    P = np.full((size, size), 0.5)
    for (i, j), margin in margins.items():
        P[i, j], P[j, i] = 0.5 + margin, 0.5 - margin
    return P.tolist()


def test_cycles_are_counted_over_triples_of_different_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = {(0, 1): 0.2, (1, 2): 0.1, (2, 0): 0.3}
    stored = [
        ("p", ["a", "b", "c", "d"], _table({**ring, (0, 3): 0.4, (1, 3): 0.4, (2, 3): 0.4}, 4)),  # one of four
        ("q", ["a", "b", "b"], _table(ring, 3)),  # no triple: two are the same text
        ("r", ["a", "b", "c"], _table({(1, 0): 0.05, (2, 1): 0.05, (0, 2): 0.05}, 3)),  # the other way around
        ("r", ["a", "b", "c"], _table({(0, 1): 0.2, (1, 2): 0.2, (0, 2): 0.2}, 3)),
        ("s", ["a", "b", "c"], _table({(0, 1): 0.2, (1, 2): 0.2}, 3)),  # a tie is no cycle
    ]
    monkeypatch.setattr(judge_game, "judged", lambda folder: iter(stored))
    share, triples, clearest = judge_game._cycles(Path("run"))
    each = np.array([0.25, 0.5, 0.0])  # by prompt
    assert (share.value, share.prompts, triples) == (each.mean(), 3, 7)
    assert share.standard_error == pytest.approx(0.75 / math.sqrt(3 * 4))  # of three prompts no less
    assert clearest == Ring("p", ("a", "b", "c"), (0.7, 0.6, 0.8))


def test_nothing_judged_has_no_share_of_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_game, "judged", lambda folder: iter([("q", ["a", "a"], _table({}, 2))]))
    share, triples, clearest = judge_game._cycles(Path("run"))
    assert (triples, clearest) == (0, None)
    assert math.isnan(share.value)


def _game(margin: float, ring: Ring | None = None) -> JudgeGame:
    """Twenty prompts, on which the iterate wins about ``margin`` above 1/2 under the majority, and loses when brief."""
    noise = np.random.default_rng(0).normal(0, 0.1, 20)

    def tables(shift: float) -> TournamentTables:
        P = np.full((20, 3, 3), 0.5)
        P[:, 1, 0] = 0.5 + shift + noise - noise.mean()
        P[:, 2, 0], P[:, 1, 2] = 0.5 + shift / 2, 0.5 + shift
        upper = np.triu_indices(3, 1)
        for i, j in zip(*upper, strict=True):
            if (P[:, j, i] != 0.5).any():
                P[:, i, j] = 1 - P[:, j, i]
            else:
                P[:, j, i] = 1 - P[:, i, j]
        return TournamentTables(NAMES, P)

    answers = {name: [[Response([1] * (4 + (n + k) % 2), True, f"{name} says {n}") for k in range(2)]
                      for n in range(20)] for name in NAMES}  # fmt: skip
    judged = {MAJORITY: tables(margin), "to the point": tables(margin), "brief": tables(-0.2), "plain": tables(0.0)}
    prompts = [f"Question {n}?{real.ENDING}" for n in range(20)]
    return JudgeGame(prompts, answers, judged, WinRate(0.03, 0.01, 20), 400, ring, (0.5, 0.05))


@pytest.mark.parametrize(("margin", "verdict"), [(0.2, "beats"), (0.01, "is not told apart from"), (-0.2, "loses to")])
def test_verdicts_are_said_beyond_noise(margin: float, verdict: str) -> None:
    game = _game(margin)
    assert game.rate(MAJORITY, "iteration-01").value == pytest.approx(0.5 + margin)
    lines = real._lines(game)
    assert f"majority: {game.rate(MAJORITY, 'iteration-01')}" in lines[0]
    assert f"it {verdict} the start" in lines[0]
    assert any("3.0 ± 1.0% of 400 triples" in line for line in lines)
    sections = [real._before_and_after(game), real._judges(game), real._nash(game), real._given_up(game)]
    page = report.render("A try", sections)
    assert "start says 0" in page
    assert "iteration-01 says 0" in page
    assert "lost under " + ("majority, to the point, brief" if margin < 0 else "brief") in page
    assert ("iteration-01 beats every other one beyond noise" in page) == (margin > 0.1)
    numbers = json.loads(json.dumps(game.numbers()))
    assert numbers["against_start"][MAJORITY]["iteration-01"][0] == pytest.approx(0.5 + margin)
    assert numbers["tokens"]["start"][0] == 4.5


def test_a_folder_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    for arguments, said in (
        (["--out", str(tmp_path)], "is not empty"),
        (["--out", str(tmp_path / "thesis.txt")], "is a file"),
        (["--out", str(tmp_path / "new"), "--iterations", "0"], "iterations must be at least 1"),
    ):
        assert main(["demo", "--real", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


@pytest.mark.slow
@pytest.mark.real
def test_a_small_run_ends_in_a_report_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = real.Size(prompts=8, responses=3, max_new_tokens=8)
    page = real.real(tmp_path / "demo", iterations=1, size=size).read_text()
    first = capsys.readouterr().out
    heads = ["In short", "Before and after", "Under each judge", "The Nash of the policies", "What was given up"]
    assert [page.index(f"<h2>{head}</h2>") for head in heads] == sorted(
        page.index(f"<h2>{head}</h2>") for head in heads
    )
    assert "sampling iteration-01: 2 x 3" in first
    numbers = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert list(numbers["games"]) == [MAJORITY, *real.JUDGES]
    assert numbers["games"][MAJORITY]["players"] == ["start", "iteration-01"]
    assert numbers["prompts"] == 2
    monkeypatch.setattr(
        "nashward.llm.policy.model.LanguageModel.from_pretrained", lambda *_, **__: pytest.fail("loaded")
    )
    real.real(tmp_path / "demo", iterations=1, size=size)
    assert "sampling" not in capsys.readouterr().out
    assert json.loads((tmp_path / "demo" / "demo.json").read_text()) == numbers
