"""Pages of HTML that are written or served: what a phone, a screen reader and a printer need of them."""

from __future__ import annotations

import html.parser
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nashward.games.zoo.page import page as zoo_page
from nashward.llm import report
from nashward.llm.people.markdown import safe_html
from nashward.pages import COLOURS

from .browser import opened

VOID = {"br", "img", "input", "link", "meta"}


class Page(html.parser.HTMLParser):
    """A page as it was read: its headings, images and tables, and what each table stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.metas: dict[str, str] = {}
        self.alts: list[str] = []
        self.boxes: list[set[str | None]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        if tag == "meta" and "name" in values:
            self.metas[str(values["name"])] = str(values["content"])
        if tag == "img":
            self.alts.append(values.get("alt") or "")
        if tag == "table":
            self.boxes.append({own.get("class") for _, own in self.open})
        if tag == "html":
            assert values.get("lang") == "en"
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "a" and str(values.get("href")).startswith("#"):
            self.links.append(str(values["href"])[1:])
        if tag not in VOID:
            self.open.append((tag, values))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag


def _report() -> str:
    figure = Figure()
    figure.subplots().plot([0, 1], [2, 3])
    wide = report.Table(["policy", *(f"iteration-{t:02d}" for t in range(12))], [["start", *["0.51 ± 0.02"] * 12]])
    words = report.Table(["prompt", "response"], [["a" * 200, "b" * 200]], text=True)
    return report.render("A run", [
        report.Section("In short", [report.Paragraph("Look at"), report.Pointer("Look at ", "Tables")]),
        report.Section("Tables", [wide, report.Heading("Words"), words, report.Details("more", [wide])]),
        report.Section("Pictures", [report.Picture(figure, "What it shows.")]),
    ])  # fmt: skip


def _voting() -> str:
    return resources.files("nashward.llm.people.page").joinpath("index.html").read_text(encoding="utf-8")


def _zoo() -> str:
    return zoo_page(["comal_cycle"])


@pytest.mark.parametrize("made", [_report, _zoo, _voting])
def test_a_page_fits_a_phone_and_can_be_read_aloud(made: Callable[[], str]) -> None:
    page = Page(made())
    assert "width=device-width" in page.metas["viewport"]
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert all(page.alts)
    assert all("wide" in around for around in page.boxes)  # what is too wide scrolls within its own box
    assert len(page.ids) == len(set(page.ids))
    assert set(page.links) <= set(page.ids)


@pytest.mark.browser
def test_a_wide_table_keeps_its_first_column_on_a_phone_and_all_columns_on_paper(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(_report(), encoding="utf-8")
    with opened(tmp_path / "profile") as browser:
        browser.window(360, 700)
        browser.go(file.as_uri())
        assert browser.value("document.documentElement.scrollWidth") <= 360
        left = "document.querySelector('.wide td').getBoundingClientRect().left"
        before = browser.value(left)
        assert browser.value("(document.querySelector('.wide').scrollLeft = 300)") == 300
        assert browser.value("document.querySelector('.wide').scrollLeft") == 300
        assert browser.value(left) == before
        browser.window(700, 1000)
        browser.send("Emulation.setEmulatedMedia", media="print")
        cut = "[...document.querySelectorAll('.wide')].filter((box) => box.scrollWidth > box.clientWidth + 1).length"
        assert browser.value(cut) == 0
        assert browser.value("document.documentElement.scrollWidth") <= 700


@pytest.mark.browser
def test_a_table_in_a_response_keeps_its_words_on_a_phone(tmp_path: Path) -> None:
    names = "|".join(["name"] * 8)
    table = safe_html(f"|{names}|\n|{'-|' * 8}\n|{names}|\n")
    style = COLOURS + resources.files("nashward.llm.people.page").joinpath("page.css").read_text(encoding="utf-8")
    file = tmp_path / "page.html"
    head = '<!doctype html><meta name="viewport" content="width=device-width">'
    file.write_text(f'{head}<style>{style}</style><div class="text">{table}</div>', encoding="utf-8")
    with opened(tmp_path / "profile") as browser:
        browser.window(360, 700)
        browser.go(file.as_uri())
        heights = browser.value("[...document.querySelectorAll('td')].map((cell) => cell.offsetHeight)")
        assert len(heights) == 8
        assert max(heights) < 40  # one line each
        assert browser.value("document.documentElement.scrollWidth") <= 360
