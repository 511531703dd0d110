"""Reports: what is on the page, what is on the page of several runs, and how a browser draws them."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from nashward import llm
from nashward.cli.commands.evaluation.exploit import described
from nashward.cli.demo.demo import demo
from nashward.cli.main import main
from nashward.llm import report
from nashward.llm.evaluation.evaluate import evaluate
from nashward.llm.evaluation.exploit import exploit
from nashward.llm.evaluation.over_optimisation import Thresholds
from nashward.llm.report.content import plotted_numbers
from nashward.llm.report.curves import training_curves
from nashward.llm.report.responses import JudgedResponses, judged_responses
from nashward.llm.run.selfplay import iterates
from nashward.llm.run.train import TrainStage
from nashward.llm.store.files import read_shard, write_json

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
    (line,) = drawn["KL to the start (nats a response)"]
    assert line["y"] == [row["after"]["kl_to_reference"] for row in rows]
    assert {line["label"]: line["y"] for line in drawn["share of the responses"]} == {
        label: [row["labels"].get(label, 0.0) for row in rows]
        for label in sorted({name for row in rows for name in row["labels"]})
    }


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


def test_warnings_come_first_and_an_unfinished_run_says_so(runs: dict[str, Path]) -> None:
    pages = {name: report.write(folder).read_text() for name, folder in runs.items()}
    for name in ("half", "sampled"):
        assert pages[name].index("<h2>Warnings</h2>") < pages[name].index("<h2>The run</h2>")
        assert "The run is not finished" in pages[name]
    assert "1 of 2 iterations" in pages["half"]
    assert "The run is not finished" not in pages["whole"]
    assert "What the oracle prefers" in pages["whole"]
    assert "What the oracle prefers" not in pages["sampled"]


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
    assert {"The run", "Its course", "What the fits achieved", "Responses"} <= set(heads)


def test_what_was_evaluated_is_on_the_page(runs: dict[str, Path], tiny_folder: Path, tmp_path: Path) -> None:
    home = shutil.copytree(runs["half"], tmp_path / "run")
    asked = [llm.Prompt(({"role": "user", "content": text},)) for text in PROMPTS[:4]]
    found = evaluate(short_run(tiny_folder, home, iterations=2), asked, thresholds=Thresholds(refusals=-1.0))
    page = report.write(home).read_text()
    warned = page[page.index("<h2>Warnings</h2>") : page.index("<h2>The run</h2>")]
    assert warned.count("beyond its threshold") == sum(
        one["exceeded"] for own in found["over_optimisation"].values() for one in own
    )
    links = [json.loads(base64.b64decode(link)) for link in re.findall(r'json;base64,([^"]+)"', page)]
    assert json.loads((home / "evaluation.json").read_text()) in links
    assert "(the oracle it was trained on)" in page
    assert "Who beats start" not in page
    write_json(home / "evaluation" / "exploit-start.json", {
        "of": "start", "theorem": ["no theorem bounds it"],
        "adversaries": [{"name": "best of 2", "wins": {"value": 0.75, "standard_error": 0.125}, "gap": 0.5,
                         "lower_bound": 0.25}],
    })  # fmt: skip
    page = report.write(home).read_text()
    assert "Who beats start" in page
    assert "0.750 ± 0.125" in page
    (home / "evaluation.json").write_text("{bad")
    assert "evaluation.json cannot be read" in report.write(home).read_text()


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
    assert report.compare([runs["half"], runs["sampled"]], tmp_path / "unfinished.html").exists()
    odd = shutil.copytree(runs["whole"], tmp_path / r"x$\frac$ <b>")
    text = report.compare([odd, runs["half"]], tmp_path / "odd.html").read_text()
    assert "<b>" not in text


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
    of, found = exploit(run, llm.read_prompts(PROMPTS).kept, n=2, against=2, train=1)
    write_json(played / "evaluation" / f"exploit-{of}.json", described(found) | {"of": of, "theorem": ["no theorem"]})
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
