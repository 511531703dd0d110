"""How a browser draws reports."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nashward import llm
from nashward.cli.demo.demo import demo
from nashward.llm import report
from nashward.llm.evaluation.evaluate import evaluate
from nashward.llm.evaluation.exploit import exploit
from nashward.llm.run.stages.train import TrainStage
from nashward.llm.store.files import write_json

from ..tiny_run import PROMPTS, short_run

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
