"""What evaluations and best responses add to the page of a run."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward import llm
from nashward.console import printable
from nashward.llm import report
from nashward.llm.evaluation.evaluate import evaluate
from nashward.llm.evaluation.over_optimisation import Thresholds
from nashward.llm.evaluation.players import identity, policies, remade
from nashward.llm.evaluation.tables import TournamentTables
from nashward.llm.evaluation.win_rates.win_rate import WinRate
from nashward.llm.report.responses import drawn_responses
from nashward.llm.report.results import (
    evaluation,
    evaluation_alerts,
    exploit_sentence,
    game_sentences,
    win_sentence,
    winner_sentence,
)
from nashward.llm.report.stored_results import exploited, read_evaluation
from nashward.llm.report.summary import gap_among, summary
from nashward.llm.store.files import read_jsonl, write_json, write_jsonl
from nashward.llm.store.run_folder import RunFolder

from ..tiny_run import PROMPTS, short_run
from .section import section


def test_a_policy_that_loses_under_its_own_oracle_has_not_gamed_it(runs: dict[str, Path], tmp_path: Path) -> None:
    home = shutil.copytree(runs["whole"], tmp_path / "run")
    beyond = [{"measure": "length", "value": 1.7, "standard_error": 0.1, "threshold": 1.3, "exceeded": True}]
    verdicts = {"iteration-01": "beats", "iteration-02": "loses to", "mixture": "is not told apart from"}
    rates = {name: {"verdict": verdict} for name, verdict in verdicts.items()}
    write_json(home / "evaluation.json", {
        "policies": {name: identity(player) for name, player in policies(RunFolder(home)).items()},
        "against_start": {"training": rates}, "over_optimisation": dict.fromkeys(rates, beyond),
    })  # fmt: skip
    worse, gamed, level = (alert.text for alert in evaluation_alerts(home))
    assert "iteration-02 loses to the start" in worse
    assert "gamed" not in worse
    assert "iteration-01 1.700" in gamed
    assert "may be gamed" in gamed
    assert "mixture 1.700" in level
    assert "gamed" not in level
    assert "iteration-02" not in gamed + level


def test_what_was_evaluated_is_on_the_page(runs: dict[str, Path], tiny_folder: Path, tmp_path: Path) -> None:
    home = shutil.copytree(runs["half"], tmp_path / "run")
    asked = [llm.Prompt(({"role": "user", "content": text},)) for text in PROMPTS[:4]]
    found = evaluate(short_run(tiny_folder, home, iterations=2), asked, thresholds=Thresholds(refusals=-1.0))
    page = report.write(home).read_text()
    warned = section(page, "Evaluation")
    exceeded = [(one, name) for name, own in found["over_optimisation"].items() for one in own if one["exceeded"]]
    assert exceeded
    assert warned.count("Beyond its threshold") == len({one["measure"] for one, _ in exceeded})
    for one, name in exceeded:
        assert f"{name} {one['value']:.3f} ± {one['standard_error']:.3f}" in warned
    links = [json.loads(base64.b64decode(link)) for link in re.findall(r'json;base64,([^"]+)"', page)]
    assert json.loads((home / "evaluation.json").read_text()) in links
    rate, game = found["against_start"]["training"]["iteration-01"], found["games"]["training"]
    head = section(page, "In short")
    assert f"<strong>{rate['win_rate']:.1f} ± {rate['standard_error']:.1f}%</strong>" in head
    assert f"iteration-01 {rate['verdict']} the start" in head
    low, high = (game["lottery_band"][end]["iteration-01"] for end in ("low", "high"))
    assert f"{game['lottery']['iteration-01']:.2f} ({low:.2f} to {high:.2f})" in warned
    assert "(the oracle it was trained on)" in page
    assert "refuses these prompts" in warned
    assert "refusals gained (threshold 0.05)" in warned
    assert "4 prompts, which are the run&#39;s own" in head
    assert found["prompts_of_run"] == 4
    drawn = read_jsonl(home / "evaluation" / "drawn.jsonl")
    assert [row["prompt"] for row in drawn] == PROMPTS[:4]
    beats = [row["beats_start"]["iteration-01"] for row in drawn]
    assert 100 * np.mean(beats) == pytest.approx(rate["win_rate"])
    responses_shown = html.unescape(section(page, "Responses"))
    for row, p in zip(drawn, beats, strict=True):
        texts = [printable(row["responses"][name]) for name in ("start", "iteration-01")]
        assert '</td><td class="text">'.join((row["prompt"], *texts, f"{100 * p:.0f}%")) in responses_shown
    assert "has not responded yet" not in responses_shown
    assert "nashward exploit" in head
    assert "Who beats start" not in page
    record = RunFolder(home).read()
    floors = {"oracle": None, "objective": ["long=my:Long", "plain=my:Plain"], "combine": "floors:plain=0.4"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "read", lambda self: {**record, "config": {**record["config"], **floors}})
        parts = summary(home)
    assert any("duality gap" in str(part) for part in parts)
    assert not any("nashward exploit" in str(part) for part in parts)  # which refuses floors
    write_json(home / "evaluation" / "exploit-start.json", {
        "of": "start", "theorem": ["no theorem bounds it"], "train": 3,
        "adversaries": [{"name": "best of 2", "wins": {"value": 0.75, "standard_error": 0.125}, "gap": 0.5,
                         "lower_bound": 0.25},
                        {"name": "trained adversary", "wins": {"value": 0.6, "standard_error": 0.1}, "gap": 0.2,
                         "lower_bound": 0.0}],
    })  # fmt: skip
    page = report.write(home).read_text()
    assert "Who beats start" in page
    head = html.unescape(section(page, "In short"))
    assert "a best response trained for 3 steps wins 60.0 ± 10.0%" in head
    assert "the strongest, best of 2, wins 75.0 ± 12.5%" in head
    assert "the duality gap of start is 0.25 or more" in head
    assert "0.750 ± 0.125" in page
    (home / "evaluation.json").write_text("{bad")
    assert "evaluation.json cannot be read" in report.write(home).read_text()


def test_what_was_measured_of_an_adapter_is_not_said_of_another(
    runs: dict[str, Path], tiny_folder: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(runs["whole"], tmp_path / "run")
    asked = [llm.Prompt(({"role": "user", "content": text},)) for text in PROMPTS[:4]]
    evaluate(short_run(tiny_folder, home), asked)
    best = {"name": "best of 2", "wins": {"value": 0.5, "standard_error": 0.1}, "gap": 0.0, "lower_bound": 0.0}
    players = {name: identity(player) for name, player in policies(RunFolder(home)).items()}
    assert players.keys() == {"start", "iteration-01", "iteration-02", "mixture"}
    for of in ("start", "mixture"):
        found = {"of": of, "policies": {of: players[of]}, "theorem": [], "adversaries": [best]}
        write_json(home / "evaluation" / f"exploit-{of}.json", found)
    assert [one["of"] for one in exploited(home)] == ["mixture", "start"]
    assert not any("made a step again" in alert.text for alert in evaluation_alerts(home))
    assert drawn_responses(home, "iteration-01")
    results = read_evaluation(home)
    assert results == json.loads((home / "evaluation.json").read_text())
    for file in (runs["other"] / "iteration-01" / "adapter").iterdir():
        shutil.copy(file, home / "iteration-01" / "adapter")
    assert [one["of"] for one in exploited(home)] == ["start"]  # it is a member of the mixture
    measured, tried = [alert.text for alert in evaluation_alerts(home) if "made a step again" in alert.text]
    assert "iteration-01 and mixture" in measured
    assert "iteration-02" not in measured
    assert "exploit-mixture.json" in tried
    assert f"nashward exploit {home} --of mixture" in tried
    assert not drawn_responses(home, "iteration-01")
    assert drawn_responses(home, "iteration-02")
    game = read_evaluation(home)["games"]["training"]
    assert game["P"] == results["games"]["training"]["P"]
    before = ["start", "old iteration-01", "iteration-02", "old mixture"]
    assert game["players"] == before
    (table,) = [part for part in evaluation(home) if isinstance(part, report.Table) and "in the Nash" in str(part.head)]
    assert [row[0] for row in table.rows] == before
    assert "of the duels against the start are won by iteration-02" in report.write(home).read_text()
    (home / "iteration-02" / "adapter" / "SHA256SUMS").write_bytes(b"\xff")  # no UTF-8
    (home / "mixture.json").write_text("{")
    assert remade(RunFolder(home), players) == ["iteration-01", "iteration-02", "mixture"]
    head = section(report.write(home).read_text(), "In short")
    assert "of the duels" not in head
    assert f"nashward evaluate {home}" in head
    shutil.rmtree(home / "start")
    assert {*read_evaluation(home)["policies"]} == {f"old {name}" for name in players}


def test_what_was_drawn_is_shown_only_of_policies_that_are_known(runs: dict[str, Path], tmp_path: Path) -> None:
    home = shutil.copytree(runs["half"], tmp_path / "run")
    row = {"prompt": "?", "responses": {"start": "No.", "iteration-01": "Yes."}, "beats_start": {"iteration-01": 0.9}}
    write_jsonl(home / "evaluation" / "drawn.jsonl", [row])
    known = {name: identity(player) for name, player in policies(RunFolder(home)).items()}
    for content in (None, "{bad", json.dumps({"policies": {"start": known["start"]}})):
        (home / "evaluation.json").unlink(missing_ok=True)
        if content is not None:
            (home / "evaluation.json").write_text(content)
        assert drawn_responses(home, "iteration-01") == []
    write_json(home / "evaluation.json", {"policies": known})
    assert drawn_responses(home, "iteration-01") == [row]


def test_no_gap_within_noise_is_not_called_one() -> None:
    best = {"name": "best of 2", "wins": {"value": 0.5, "standard_error": 0.1}, "gap": 0.0, "lower_bound": 0.0}
    assert "no gap is shown" in exploit_sentence({"of": "mixture", "adversaries": [best], "train": 0}, Path("run"))


def test_nothing_is_said_to_beat_within_noise() -> None:
    """52.3 +- 3.7 is level; 60 +- 2.1 beats."""

    def results(value: float, error: float, prompts: int) -> dict[str, Any]:
        rate = WinRate(value, error, prompts)
        own = {"win_rate": 100 * value, "interval": [100 * end for end in rate.interval], "verdict": rate.verdict}
        return {"oracles": {"training": "length"}, "against_start": {"training": {"last": own}}}

    assert "last is not told apart from the start" in win_sentence("last", "training", results(0.523, 0.037, 48))
    assert "last beats the start" in win_sentence("last", "training", results(0.6, 0.021, 100))
    assert "last loses to the start" in win_sentence("last", "training", results(0.4, 0.021, 100))
    level = np.full((60, 2, 2), 0.5)
    level[:, 0, 1] = np.random.default_rng(0).normal(0.523, 0.037 * 60**0.5, 60)
    level[:, 1, 0] = 1 - level[:, 0, 1]
    game = TournamentTables(("last", "start"), level).summary()
    assert game["condorcet_winner"] == "last"
    assert winner_sentence(game).startswith("last and start are not told apart")
    clear = np.where(np.eye(2), 0.5, np.array([[0.5, 0.6], [0.4, 0.5]])) + 0 * level
    assert winner_sentence(TournamentTables(("last", "start"), clear).summary()).startswith("last beats start")
    few = np.array([[0.5, 0.54], [0.46, 0.5]]) + 0 * level[:20]  # no resample of them says otherwise
    (said,) = game_sentences(TournamentTables(("last", "start"), few).summary())
    assert "are not told apart" in said
    assert "0% of resamples" in said
    assert "corrected for 2 policies" in said
    many = {"players": list("abcdefghijk"), "condorcet_winner": "a", "lottery_band": {"whole": {"a": 0.95}}}
    of_many = winner_sentence({**many, "condorcet_p_value": 0.55}, "model")  # eleven times the largest of a's pairs
    assert "p = 0.55, corrected for 11 models" in of_many
    assert "5% of resamples, without that correction" in of_many
    assert "correct" not in winner_sentence({**many, "condorcet_p_value": None}, "model")
    assert "one more prompt" in said
    assert "one more prompt" not in game_sentences(game)[0]
    duel = {"players": ["a", "b"], "P": [[0.5, 0.6], [0.4, 0.5]], "standard_errors": [[0.0, 0.02], [0.02, 0.0]]}
    assert gap_among(duel, "b") == (0.2, "a", 0.04)
