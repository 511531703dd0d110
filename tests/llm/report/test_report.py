"""Reports: what is on the page, what is on the page of several runs, and how a browser draws them."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from nashward import llm
from nashward.cli.demo.demo import demo
from nashward.cli.main import main
from nashward.console import printable
from nashward.llm import report
from nashward.llm.evaluation.evaluate import evaluate
from nashward.llm.evaluation.exploit import exploit
from nashward.llm.evaluation.over_optimisation import Thresholds
from nashward.llm.evaluation.players import identity, policies, remade
from nashward.llm.evaluation.tables import TournamentTables
from nashward.llm.evaluation.win_rates.win_rate import WinRate
from nashward.llm.report.content import plotted_numbers
from nashward.llm.report.curves import LEAST_SPAN, LEAST_SPANS, TOKENS, label_shares, label_styles, training_curves
from nashward.llm.report.responses import JudgedResponses, drawn_responses, judged_responses, newest_sampled, responses
from nashward.llm.report.results import (
    evaluation,
    evaluation_alerts,
    exploit_sentence,
    exploited,
    read_evaluation,
    win_sentence,
    winner_sentence,
)
from nashward.llm.report.summary import gap_among, run_name
from nashward.llm.run.selfplay import iterates
from nashward.llm.run.stages.train import TrainStage
from nashward.llm.store.files import read_jsonl, read_shard, write_json, write_jsonl
from nashward.llm.store.run_folder import RunFolder

from ..tiny_run import PROMPTS, short_run


@pytest.fixture(scope="module")
def runs(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run, one that was stopped in its second iteration, one that has only sampled, and another finished."""
    home = tmp_path_factory.mktemp("runs")

    def label(text: str) -> str | None:
        return "short" if len(text) < 4 else "long"

    short_run(tiny_folder, home / "whole", label=label).run()
    short_run(tiny_folder, home / "half", iterations=1).run()
    short_run(tiny_folder, home / "half", iterations=2).run("sample")
    short_run(tiny_folder, home / "sampled").run("sample")
    short_run(tiny_folder, home / "other", responses=4, fit=llm.Fit(epochs=1, learning_rate=1e-3)).run()
    return {name: home / name for name in ("whole", "half", "sampled", "other")}


def test_every_number_of_a_picture_can_be_taken_from_the_page() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([1, 2, 3], [0.5, float("nan"), 0.25], label="gap")
    left.set(title="a", xlabel="t", ylabel="g")
    right.imshow([[0.1, 0.9], [0.4, 0.6]])
    right.bar([0, 1], [2.0, 3.0])
    text = report.render("Numbers", [report.Section("Here", [report.Picture(figure, "What <it> shows")])])
    assert "What &lt;it&gt; shows" in text
    (link,) = re.findall(r'href="data:application/json;base64,([^"]+)"', text)
    one, two = json.loads(base64.b64decode(link))
    assert one == {
        "title": "a", "x": "t", "y": "g",
        "lines": [{"label": "gap", "x": [1.0, 2.0, 3.0], "y": [0.5, None, 0.25]}],
    }  # fmt: skip
    assert two["images"] == [[[0.1, 0.9], [0.4, 0.6]]]
    assert [bar[3] for bar in two["bars"]] == [2.0, 3.0]


def test_the_course_is_that_of_the_metrics(runs: dict[str, Path]) -> None:
    figure = training_curves({"": runs["whole"]})
    drawn = {axes["title"]: axes["lines"] for axes in plotted_numbers(figure)}
    rows = iterates(runs["whole"])
    assert len(rows) == 2
    line, *errors = drawn["KL to the start (nats per response)"]
    assert line["y"] == [row["after"]["kl_to_reference"] for row in rows]
    bars = sorted(y for end in errors for y in end["y"])
    expected = [
        row["after"]["kl_to_reference"] + sign * row["after"]["kl_to_reference_error"]
        for row in rows
        for sign in (-1, 1)
    ]
    assert bars == pytest.approx(sorted(expected))
    shares = {line["label"]: line for line in drawn["share of the responses (0: the start)"] if "label" in line}
    assert {label: line["y"] for label, line in shares.items() if label} == {
        label: [row["labels"].get(label, 0.0) for row in rows]
        for label in sorted({name for row in rows for name in row["labels"]})
    }


def _run_by_hand(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A folder with the metrics of a run, a step a row."""
    for row in rows:
        (folder / row["iteration"]).mkdir(parents=True)
        (folder / row["iteration"] / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def _row(iteration: str, opponent: dict[str, float], labels: dict[str, float], **more: Any) -> dict[str, Any]:
    number = int(iteration.split("-")[1]) - 1
    anchor = f"iteration-{number:02d}" if number else "start"
    after = {"tokens": 5.0, "kl_to_reference": 0.1, "entropy_per_token": 1.0}
    return {"iteration": iteration, "anchor": {anchor: 1.0}, "opponent": opponent, "opponent_win_rates": {},
            "prompts": 100, "labels": labels, "after": after, "train": {"share": 1.0},
            "held_out": {}, **more}  # fmt: skip


def test_shares_stand_at_the_policy_that_wrote_the_responses(tmp_path: Path) -> None:
    """Iteration t samples what iteration t - 1 made: half of the start's responses are a, none of iteration 1's."""
    folder = _run_by_hand(tmp_path, [
        _row("iteration-01", {"start": 1.0}, {"a": 0.5, "b": 0.5}),
        _row("iteration-02", {"iteration-01": 2.0, "start": -1.0}, {"b": 0.9, "none": 0.1}),
    ])  # fmt: skip
    assert label_shares(folder) == {0: ({"a": 0.5, "b": 0.5}, 100), 1: ({"b": 0.9, "none": 0.1}, 100)}
    figure = training_curves({"": folder})
    (axes,) = [axes for axes in figure.axes if "share of the responses" in axes.get_title()]
    figure.draw_without_rendering()
    assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0  # not on the lines
    lines = {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}
    assert {name: (list(line.get_xdata()), list(line.get_ydata())) for name, line in lines.items()} == {
        "a": ([0, 1], [0.5, 0.0]), "b": ([0, 1], [0.5, 0.9]), "none": ([0, 1], [0.0, 0.1]),
    }  # fmt: skip
    colours = label_styles(["b", "a", "c"])
    assert [lines[name].get_color() for name in ("a", "b", "none")] == [colours[name][0] for name in ("a", "b", "none")]
    bars = [path.vertices[:, 1] for group in axes.collections for path in group.get_paths()]
    assert any(ends == pytest.approx([0.45, 0.55]) for ends in bars)  # (0.5 * 0.5 / 100) ** 0.5


def test_shares_of_half_steps_and_stored_responses_are_not_those_of_an_iterate(tmp_path: Path) -> None:
    half = _run_by_hand(tmp_path / "half", [
        _row("iteration-01-half-1", {"start": 1.0}, {"a": 0.5}),
        _row("iteration-01", {"iteration-01-half-1": 1.0}, {"a": 0.7}),
        _row("iteration-02-half-1", {"iteration-01": 1.0}, {"a": 0.9}),
    ])  # fmt: skip
    assert {t: own for t, (own, _) in label_shares(half).items()} == {0: {"a": 0.5}, 1: {"a": 0.9}}
    fixed = _run_by_hand(tmp_path / "fixed", [
        _row("iteration-01", {"gpt": 1.0}, {"a": 0.5}, opponent_win_rates={"gpt": 0.2}),
        _row("iteration-02", {"gpt": 1.0}, {"a": 0.6}, opponent_win_rates={"gpt": 0.3}),
    ])  # fmt: skip
    assert {t: own for t, (own, _) in label_shares(fixed).items()} == {0: {"a": 0.5}, 1: {"a": 0.6}}


def test_responses_stand_under_the_policy_that_wrote_them(runs: dict[str, Path]) -> None:
    assert [newest_sampled(runs["whole"] / f"iteration-0{t}") for t in (1, 2)] == ["start", "iteration-01"]
    heads = [part.head for part in responses(runs["whole"]) if isinstance(part, report.Table)]
    assert [head.split()[0] for head in heads[0]] == ["prompt", "start", "iteration-01"]


def test_verdicts_are_those_of_the_judgements(runs: dict[str, Path]) -> None:
    step = runs["whole"] / "iteration-01"
    rows = [row for file in sorted((step / "judgements").glob("start.*.parquet")) for row in read_shard(file)]
    found = judged_responses(step, {row["prompt"]: row["prompt"] for row in rows}, 100)
    assert {one.prompt for one in found} == {row["prompt"] for row in rows}
    tables = {row["prompt"]: row["P"] for row in rows}
    for one in found:
        P = tables[one.prompt]
        assert one.P == P
        rates = [(sum(P[k]) - P[k][k]) / (len(P) - 1) for k in range(len(P))]
        assert [one.win_rate(k) for k in range(len(P))] == pytest.approx(rates)
        if (pair := one.extremes) is not None:
            assert rates[pair[0]] == pytest.approx(max(rates))
            assert rates[pair[1]] == pytest.approx(min(rates))


def _section(page: str, title: str) -> str:
    """The HTML of a section."""
    return page[page.index(f"<h2>{title}</h2>") :].partition("</section>")[0]


def test_an_unfinished_run_says_so_first(runs: dict[str, Path]) -> None:
    pages = {name: report.write(folder).read_text() for name, folder in runs.items()}
    for name in ("half", "sampled"):
        assert "The run is not finished" in _section(pages[name], "In short")
    assert "1 of 2 iterations" in pages["half"]
    assert "The run is not finished" not in pages["whole"]
    assert "What the oracle prefers" in pages["whole"]
    assert "What the oracle prefers" not in pages["sampled"]


def test_it_is_said_whose_responses_are_shown(runs: dict[str, Path]) -> None:
    """The last iterate of a run has no samples in it; nor has one that went no further."""
    whole = _section(report.write(runs["whole"]).read_text(), "Responses")
    assert "of start and iteration-01" in whole
    assert "iteration-02, the last iterate, has not responded yet" in whole
    assert f"nashward evaluate {runs['whole']}" in whole
    half = _section(report.write(runs["half"]).read_text(), "Responses")  # its second iteration sampled the first's
    assert "iteration-01 (the newest that was sampled)" in half
    assert "has not responded yet" not in half


def test_few_prompts_are_said_first(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    head = _section(report.write(runs["whole"]).read_text(), "In short")
    assert 'class="warning">This run has 10 prompts' in head
    assert "a fit trains on 8" in head  # of 10, held_out = 0.2
    monkeypatch.setattr("nashward.llm.run.inputs.prompts.FEW", 10)
    assert "few to learn from" not in _section(report.write(runs["whole"]).read_text(), "In short")


def test_code_in_warnings_and_captions_is_set_as_code() -> None:
    figure = Figure()
    content = [report.Alert("Run `make <x>` again; or lower --step."), report.Picture(figure, "By `make`.")]
    page = report.render("Code", [report.Section("Here", content)])
    option = '<code class="option">--step</code>'
    assert f'<p class="warning">Run <code>make &lt;x&gt;</code> again; or lower {option}.</p>' in page.replace("\n", "")
    assert 'alt="By make."' in page
    assert "By <code>make</code>." in page


def test_text_of_models_and_files_is_escaped(runs: dict[str, Path], tmp_path: Path) -> None:
    """A response is untrusted: neither a script nor a tag of it reaches the page."""
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)> & \" '"
    home = shutil.copytree(runs["whole"], tmp_path / "run")
    config = json.loads((home / "run.json").read_text())
    config["config"]["oracle"] = attack
    (home / "run.json").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        judged = [JudgedResponses(attack, [attack, attack], [[0.5, 0.9], [0.1, 0.5]])]
        patch.setattr("nashward.llm.report.responses.judged_responses", lambda *given: judged)
        page = report.write(home, [report.Section(attack, [report.Paragraph(attack)])], attack).read_text()
    assert "<script" not in page
    assert "onerror" in page
    assert "<img src=x" not in page
    # title and heading, the extra section, the setting twice, the responses: each is there as text
    cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)]
    assert cells.count(attack) >= 2
    assert any(cell.startswith(f"{attack}\n[wins 90%") for cell in cells)
    assert html.unescape(page).count(f">{attack}<") >= 4


def test_each_panel_is_on_the_page_of_a_finished_run(runs: dict[str, Path]) -> None:
    page = report.write(runs["whole"]).read_text()
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == [name for name, panel in report.PANELS if panel(runs["whole"])]
    assert heads[:2] == ["In short", "Responses"]
    assert {"The run", "Its course", "What the fits achieved"} <= set(heads)


def test_a_warning_stands_in_its_section_and_the_head_leads_there(runs: dict[str, Path], tmp_path: Path) -> None:
    home = shutil.copytree(runs["whole"], tmp_path / "second")
    file = home / "iteration-02" / "metrics.jsonl"
    *steps, last = [json.loads(line) for line in file.read_text().splitlines()]
    changed = {**last, "warning": "The loss rose: take a lower rate.", "finished": 0.5}
    file.write_text("".join(json.dumps(row) + "\n" for row in (*steps, changed)))
    (home / "events.jsonl").write_text('{"out_of_memory": true, "at_once": 4, "at": "iteration-01: training"}\n')
    page = report.write(home).read_text()
    assert "<title>The run second</title>" in page
    assert "iteration-02: The loss rose" in _section(page, "What the fits achieved")
    assert "50% of the responses that it sampled" in _section(page, "Responses")
    assert "out of memory" in _section(page, "The run")
    links = re.findall(r'<a href="#([\w-]+)">', _section(page, "In short"))
    assert links == ["responses", "what-the-fits-achieved", "the-run"]
    assert all(page.count(f'<section id="{link}">') == 1 for link in links)
    assert run_name(tmp_path / "demo" / "run") == "demo/run"


def test_a_policy_that_went_too_far_is_called_so(runs: dict[str, Path], tmp_path: Path) -> None:
    home = shutil.copytree(runs["whole"], tmp_path / "far")
    assert "went too far" not in report.write(home).read_text()
    file = home / "iteration-02" / "metrics.jsonl"
    *steps, last = [json.loads(line) for line in file.read_text().splitlines()]
    unknown = dict.fromkeys(last["after"]) | {"relative_ess": 0.002}
    changed = {**last, "after": unknown, "train": {**last["train"], "kl": 138.6}, "win_rate": None}
    file.write_text("".join(json.dumps(row) + "\n" for row in (*steps, changed)))
    page = html.unescape(report.write(home).read_text())
    head = _section(page, "In short")
    assert "iteration-02: The policy went too far: 139 nats" in head
    assert "<strong>139 nats</strong>" in head
    assert "None" not in head


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
    warned = _section(page, "Evaluation")
    exceeded = [(one, name) for name, own in found["over_optimisation"].items() for one in own if one["exceeded"]]
    assert exceeded
    assert warned.count("Beyond its threshold") == len({one["measure"] for one, _ in exceeded})
    for one, name in exceeded:
        assert f"{name} {one['value']:.3f} ± {one['standard_error']:.3f}" in warned
    links = [json.loads(base64.b64decode(link)) for link in re.findall(r'json;base64,([^"]+)"', page)]
    assert json.loads((home / "evaluation.json").read_text()) in links
    rate, game = found["against_start"]["training"]["iteration-01"], found["games"]["training"]
    head = _section(page, "In short")
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
    responses_shown = html.unescape(_section(page, "Responses"))
    for row, p in zip(drawn, beats, strict=True):
        texts = [printable(row["responses"][name]) for name in ("start", "iteration-01")]
        assert '</td><td class="text">'.join((row["prompt"], *texts, f"{100 * p:.0f}%")) in responses_shown
    assert "has not responded yet" not in responses_shown
    assert "nashward exploit" in head
    assert "Who beats start" not in page
    write_json(home / "evaluation" / "exploit-start.json", {
        "of": "start", "theorem": ["no theorem bounds it"], "train": 3,
        "adversaries": [{"name": "best of 2", "wins": {"value": 0.75, "standard_error": 0.125}, "gap": 0.5,
                         "lower_bound": 0.25},
                        {"name": "trained adversary", "wins": {"value": 0.6, "standard_error": 0.1}, "gap": 0.2,
                         "lower_bound": 0.0}],
    })  # fmt: skip
    page = report.write(home).read_text()
    assert "Who beats start" in page
    head = html.unescape(_section(page, "In short"))
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
    head = _section(report.write(home).read_text(), "In short")
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


def test_commands_on_the_page_can_be_typed_as_they_stand(runs: dict[str, Path], tmp_path: Path) -> None:
    home = shutil.copytree(runs["whole"], tmp_path / "my run")
    best = {"name": "best of 2", "wins": {"value": 0.5, "standard_error": 0.1}, "gap": 0.0, "lower_bound": 0.0}
    found = {"of": "iteration-01", "adversaries": [best], "theorem": [], "train": 0}
    write_json(home / "evaluation" / "exploit-iteration-01.json", found)
    page = html.unescape(report.write(home).read_text())
    typed = [shlex.split(code) for code in re.findall(r"<code[^>]*>(nashward \w+ [^<]+)</code>", page)]
    assert ["nashward", "evaluate", str(home)] in typed
    assert ["nashward", "exploit", str(home), "--of", "iteration-01", "--train", "4"] in typed
    for _, name, *arguments in typed:
        assert arguments[0] == str(home), name


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
    duel = {"players": ["a", "b"], "P": [[0.5, 0.6], [0.4, 0.5]], "standard_errors": [[0.0, 0.02], [0.02, 0.0]]}
    assert gap_among(duel, "b") == (0.2, "a", 0.04)


def test_a_comparison_names_what_differs_and_shows_the_same_prompts(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "both.html"
    assert main(["report", str(runs["whole"]), str(runs["other"]), "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"
    text = page.read_text()
    assert "<title>whole against other</title>" in text
    settings = text[text.index("Where the settings differ") : text.index("The newest iterates")]
    differing = re.findall(r'<tr><td class="text">([\w.]+)</td>', settings)
    assert {"responses", "fit.epochs", "fit.learning_rate"} <= set(differing)
    assert "seed" not in differing
    assert text.count("iteration-02") >= 2
    after = iterates(runs["whole"])[-1]["after"]
    assert f"{after['kl_to_reference']:.3f} ± {after['kl_to_reference_error']:.3f}" in text
    assert "SFT texts" not in text  # a measure that no run has
    assert report.compare([runs["half"], runs["sampled"]], tmp_path / "unfinished.html").exists()
    odd = shutil.copytree(runs["whole"], tmp_path / r"x$\frac$ <b>")
    text = report.compare([odd, runs["half"]], tmp_path / "odd.html").read_text()
    assert "<b>" not in text


def test_a_run_that_has_only_begun_hides_nothing_of_the_other(runs: dict[str, Path], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in ("run.json", ".run.json", "prompts.jsonl"):
        shutil.copy(runs["whole"] / name, begun)
    text = report.compare([runs["other"], begun], tmp_path / "both.html").read_text()
    responses = text[text.index("<h2>Responses") : text.index("<h2>The newest iterates")]
    assert "begun has not sampled yet." in responses
    assert responses.count("<tr>") > 1
    assert "begun has no iterate yet." in text[text.index("<h2>Their course") :]


def test_a_small_difference_does_not_fill_an_axis(runs: dict[str, Path]) -> None:
    figure = training_curves({"whole": runs["whole"]})
    spans = [high - low for low, high in (axes.get_ylim() for axes in figure.axes)]
    assert min(spans) >= LEAST_SPAN * 0.999
    tokens = next(axes for axes in figure.axes if axes.get_title() == TOKENS)
    assert np.ptp(tokens.get_ylim()) >= LEAST_SPANS[TOKENS] * 0.999


def test_a_comparison_is_of_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two or more run folders, each once"):
        report.compare([runs["whole"], runs["whole"] / ".." / "whole"], tmp_path / "x.html")
    with pytest.raises(FileNotFoundError, match="holds no run"):
        report.compare([runs["whole"], tmp_path], tmp_path / "x.html")


PROBE = """
<script>
addEventListener("load", () => {
  const found = [];
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, images = [...page.images];
    found.push({
      width: page.documentElement.scrollWidth, viewport: page.documentElement.clientWidth,
      images: images.map((image) => image.naturalWidth),
      fetched: frame.contentWindow.performance.getEntriesByType("resource").map((entry) => entry.name),
      paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    });
  }
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
});
</script>
"""


def _drawn(page: Path, folder: Path, dark: bool) -> list[dict[str, Any]]:
    """What Chromium makes of a page in frames as wide as a desktop and as a phone."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser is not None
    frames = [
        f'<iframe width="{width}" height="900" srcdoc="{html.escape(page.read_text(encoding="utf-8"))}"></iframe>'
        for width in (1280, 390)
    ]
    probe = folder / "probe.html"
    probe.write_text(f"<!doctype html><meta charset=utf-8><body>{PROBE}{''.join(frames)}</body>", encoding="utf-8")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000",
                 f"--blink-settings=preferredColorScheme={0 if dark else 1}"]  # fmt: skip
    drawn = subprocess.run(
        [browser, *arguments, "--dump-dom", probe.as_uri()], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    text = re.search(r"FOUND(\[.*\])END", drawn)
    assert text is not None, drawn[:500]
    found: list[dict[str, Any]] = json.loads(html.unescape(text[1]))
    return found


@pytest.fixture(scope="module")
def killed(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose process ended in the training of its second iteration."""
    folder = tmp_path_factory.mktemp("dead") / "killed"
    train = TrainStage.run

    def cut(self: TrainStage) -> None:
        if self.step_folder.name == "iteration-02":
            raise KeyboardInterrupt
        train(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStage, "run", cut)
        with pytest.raises(KeyboardInterrupt):
            short_run(tiny_folder, folder).run()
    assert not (folder / "mixture.json").exists()
    return folder


@pytest.fixture(scope="module")
def pages(
    runs: dict[str, Path], killed: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """The demo's page, those of runs in any state, one with other models as players, a comparison."""
    home = tmp_path_factory.mktemp("pages")
    played = shutil.copytree(runs["whole"], home / "played")
    run = short_run(tiny_folder, played)
    answers = {
        "claude": [{"prompt": text, "output": "A long answer that wins."} for text in PROMPTS],
        "an-organisation_A-Model-With-A-Very-Long-Name-70B-Instruct-v0.3": [
            {"prompt": text, "output": f"{text}?"} for text in PROMPTS
        ],
    }
    evaluate(run, llm.read_prompts(PROMPTS).kept, {"length": llm.oracles.Length()}, answers=answers)
    found = exploit(run, llm.read_prompts(PROMPTS).kept, n=2, against=2, train=1)
    file = played / "evaluation" / f"exploit-{found.of}.json"
    write_json(file, {**found.as_dict(), "theorem": ["no theorem"]})
    return [
        demo(home / "demo", iterations=1, progress=False),
        *(report.write(folder) for folder in (runs["whole"], runs["half"], runs["sampled"], killed, played)),
        report.compare([runs["whole"], killed], home / "both.html"),
    ]


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_draws_reports_at_any_width(pages: list[Path], tmp_path: Path, dark: bool) -> None:
    """Nothing wider than the window, every picture decoded, nothing fetched, dark where the reader wants it dark."""
    pictures = []
    for page in pages:
        for found in _drawn(page, tmp_path, dark):
            assert found["width"] <= found["viewport"], page
            assert all(width > 100 for width in found["images"]), page
            assert found["fetched"] == []
            assert found["paper"] == ("rgb(26, 26, 26)" if dark else "rgb(255, 255, 255)")
        pictures.append(len(found["images"]))
        assert "default-src 'none'" in page.read_text()
    assert pictures[0] >= 3  # the demo's
    assert pictures[5] >= 3  # the course, and a table an oracle
