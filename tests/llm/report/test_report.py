"""The page of a run."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nashward.llm import report
from nashward.llm.report.panels import fits
from nashward.llm.report.responses import JudgedResponses, judged_responses, newest_sampled, responses
from nashward.llm.report.summary import run_name
from nashward.llm.store.files import read_shard, write_json, write_shard

from .section import section


def test_responses_stand_under_the_policy_that_wrote_them(runs: dict[str, Path]) -> None:
    assert [newest_sampled(runs["whole"] / f"iteration-0{t}") for t in (1, 2)] == ["start", "iteration-01"]
    heads = [part.head for part in responses(runs["whole"]) if isinstance(part, report.Table)]
    assert [head.split()[0] for head in heads[0]] == ["prompt", "start", "iteration-01"]


def test_the_hundredth_policy_is_newer_than_the_one_before(tmp_path: Path) -> None:
    for name in ("start", "iteration-99", "iteration-100", "iteration-100-half-1"):
        write_shard(tmp_path / "responses", name, 0, [{"prompt": "p", "text": "x"}])
    assert newest_sampled(tmp_path) == "iteration-100"


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


def test_an_unfinished_run_says_so_first(runs: dict[str, Path]) -> None:
    pages = {name: report.write(folder).read_text() for name, folder in runs.items()}
    for name in ("half", "sampled"):
        assert "The run is not finished" in section(pages[name], "In short")
    assert "1 of 2 iterations" in pages["half"]
    assert "The run is not finished" not in pages["whole"]
    assert "What the oracle prefers" in pages["whole"]
    assert "What the oracle prefers" not in pages["sampled"]


def test_it_is_said_whose_responses_are_shown(runs: dict[str, Path]) -> None:
    """The last iterate of a run has no samples in it; nor has one that went no further."""
    whole = section(report.write(runs["whole"]).read_text(), "Responses")
    assert "of start and iteration-01" in whole
    assert "iteration-02, the last iterate, has not responded yet" in whole
    assert f"nashward evaluate {runs['whole']}" in whole
    half = section(report.write(runs["half"]).read_text(), "Responses")  # its second iteration sampled the first's
    assert "iteration-01 (the newest that was sampled)" in half
    assert "has not responded yet" not in half


def test_few_prompts_are_said_first(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    head = section(report.write(runs["whole"]).read_text(), "In short")
    assert 'class="warning">This run has 10 prompts' in head
    assert "a fit trains on 8" in head  # of 10, held_out = 0.2
    monkeypatch.setattr("nashward.llm.run.inputs.prompts.FEW", 10)
    assert "few to learn from" not in section(report.write(runs["whole"]).read_text(), "In short")


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


def test_shares_and_r2_say_on_which_prompts_and_how_few(runs: dict[str, Path], tmp_path: Path) -> None:
    home = shutil.copytree(runs["whole"], tmp_path / "second")
    file = home / "iteration-02" / "metrics.jsonl"
    *steps, last = [json.loads(line) for line in file.read_text().splitlines()]
    held = {**last["held_out"], "share": 0.37, "r2": 0.4, "r2_error": None, "prompts": 2}
    changed = {**last, "train": {**last["train"], "share": 0.88}, "held_out": held}
    file.write_text("".join(json.dumps(row) + "\n" for row in (*steps, changed)))
    (table,) = [part for part in fits(home) if isinstance(part, report.Table) and "best scale" in part.head]
    row = dict(zip(table.head, table.rows[-1], strict=True))
    assert (row["share train"], row["share held out"], row["R² held out"]) == (0.88, 0.37, "0.40 (2 prompts)")


def test_a_warning_stands_in_its_section_and_the_head_leads_there(runs: dict[str, Path], tmp_path: Path) -> None:
    home = shutil.copytree(runs["whole"], tmp_path / "second")
    file = home / "iteration-02" / "metrics.jsonl"
    *steps, last = [json.loads(line) for line in file.read_text().splitlines()]
    changed = {**last, "warning": "The loss rose: take a lower rate.", "finished": 0.5}
    file.write_text("".join(json.dumps(row) + "\n" for row in (*steps, changed)))
    (home / "events.jsonl").write_text('{"out_of_memory": true, "at_once": 4, "at": "iteration-01: training"}\n')
    page = report.write(home).read_text()
    assert "<title>The run second</title>" in page
    assert "iteration-02: The loss rose" in section(page, "What the fits achieved")
    assert "50% of the responses that it sampled" in section(page, "Responses")
    assert "out of memory" in section(page, "The run")
    links = re.findall(r'<a href="#([\w-]+)">', section(page, "In short"))
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
    head = section(page, "In short")
    assert "iteration-02: The policy went too far: 139 nats" in head
    assert "<strong>139 nats</strong>" in head
    assert "None" not in head


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
