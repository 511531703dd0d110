"""A person at a real browser: a whole session by keyboard, then an oracle of the votes, then a judged iteration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nashward.cli.main import main
from nashward.llm.config import Asking
from nashward.llm.people.asking import Asker
from nashward.llm.people.server import VotingPage, VotingServer, serving
from nashward.llm.people.store import VoteStore
from nashward.llm.pocket import POLICY

from ...browser import Browser, opened

HOSTILE = (
    "<script>window.hacked = 1</script></textarea><img src=x onerror='window.hacked=1'> ![x](https://evil.example/x) "
    "[link](javascript:window.hacked=1) <style>body{display:none}</style> \u202eright to left"
)
CONTRAST = """(() => {
  const channel = (v) => (v /= 255, v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  const light = (rgb) => { const [r, g, b] = rgb.match(/[\\d.]+/g).map(Number).map(channel);
    return .2126 * r + .7152 * g + .0722 * b; };
  const paper = (node) => { for (let n = node; n; n = n.parentElement) { const c = getComputedStyle(n).backgroundColor;
    if (!/, 0\\)$/.test(c) && c !== 'transparent') return c; } return 'rgb(255,255,255)'; };
  const found = [];
  for (const node of document.querySelectorAll('h1, h2, p, button:not(:disabled), .text, footer')) {
    if (!node.offsetParent) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(paper(node))].sort((x, y) => y - x);
    found.push((a + .05) / (b + .05));
  }
  return Math.min(...found);
})()"""
QUESTION = "!busy && question !== null && question.id"

pytestmark = pytest.mark.browser


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VoteStore]:
    with VoteStore(tmp_path / "team") as store:
        for k in range(6):
            store.add_responses(f"Prompt {k}: name a river.", [f"The Rhine, {k}.", f"I cannot help with that, {k}."])
        store.add_responses("A hostile one.", [HOSTILE, "x" * 1_000_000])
        yield store


@pytest.fixture
def server(store: VoteStore) -> Iterator[VotingServer]:
    store.set_target(14, 0)
    page = VotingPage(store, Asker(store, Asking(repeats=0.0, seed=1)), "Prefer what *helps*.")
    with serving(page) as server:
        yield server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with opened(tmp_path / "profile") as browser:
        yield browser


def join(browser: Browser, server: VotingServer, name: str = "Ann") -> None:
    browser.go(server.address)
    browser.wait("form && !document.getElementById('join').hidden")
    assert browser.value("document.activeElement.id") == "name"
    browser.type(name)
    browser.press("Enter")
    browser.wait(QUESTION)


def press(browser: Browser, key: str) -> None:
    """Press a key, and wait for what it does."""
    before = browser.value("question && question.id + question.attempt")
    browser.press(key)
    browser.wait(f"!busy && (question === null ? 'done' : question.id + question.attempt) !== {json.dumps(before)}")


def test_a_session_by_keyboard_then_an_oracle_then_a_judged_iteration(
    browser: Browser, server: VotingServer, store: VoteStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    browser.window(1280, 800)
    join(browser, server)
    for key in ("1", "2", "0", "b", "s"):
        press(browser, key)
    assert [vote.winner for vote in store.votes(skipped=True)][2:] == ["tie", "both_bad", "skip"]
    assert [vote.winner == vote.shown_first for vote in store.votes()[:2]] == [True, False]
    assert all(vote.seconds is not None and vote.seconds > 0 for vote in store.votes())
    press(browser, "u")
    assert len(store.votes(skipped=True)) == 4
    assert "Taken back" in browser.value("document.getElementById('status').textContent")
    while browser.value("question !== null"):
        press(browser, "1")
    assert browser.value("!document.getElementById('done').hidden")
    assert store.count("Ann") == 7
    assert "7 by you" in browser.value("document.getElementById('progress').textContent")
    assert browser.complaints() == []
    assert all(url.startswith(server.address) for url in browser.fetched() if url != "about:blank")

    votes, oracle = tmp_path / "votes.jsonl", tmp_path / "oracle"
    assert main(["vote", str(store.folder), "--export", str(votes)]) == 0
    short = [line for line in votes.read_text().splitlines() if "hostile" not in line]
    votes.write_text("\n".join(short) + "\n")
    assert main(["fit-oracle", str(votes), "--base", str(POLICY), "--out", str(oracle), "--quiet"]) == 0
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Name a river.\nName a tree.\n")
    align = ["align", "--policy", str(POLICY), "--oracle", str(oracle), "--prompts", str(prompts), "--iterations", "1",
             "--responses", "2", "--max-new-tokens", "6", "--out", str(tmp_path / "run"), "--quiet"]  # fmt: skip
    assert main(align) == 0
    assert "report:" in capsys.readouterr().out


def test_a_hostile_response_shows_as_text(browser: Browser, server: VotingServer) -> None:
    browser.window(1280, 800)
    join(browser, server)
    while "hostile" not in browser.value("document.getElementById('prompt').textContent"):
        press(browser, "s")
    sides = [browser.value(f"document.getElementById('{side}').textContent") for side in ("first", "second")]
    text, long = sorted(sides, key=len)
    assert "<script>window.hacked = 1</script></textarea><img src=x onerror='window.hacked=1'>" in text
    assert len(long.strip()) == 1_000_000
    assert browser.value("window.hacked") is None
    assert browser.value("document.querySelectorAll('main img, main a, main script, main style').length") == 0
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    assert browser.value("getComputedStyle(document.getElementById('choices')).direction") == "ltr"
    assert browser.complaints() == []
    assert not [url for url in browser.fetched() if "evil" in url]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_it_can_be_read_and_reached_at_any_width(
    browser: Browser, server: VotingServer, width: int, height: int, dark: bool
) -> None:
    browser.window(width, height, dark)
    join(browser, server)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(CONTRAST) >= 4.5  # WCAG 2, level AA
    assert browser.value("getComputedStyle(document.body).backgroundColor") == (
        "rgb(26, 26, 26)" if dark else "rgb(255, 255, 255)"
    )
    # every button is in the window, has a name, and is reached by Tab
    assert browser.value(
        "[...document.querySelectorAll('#choices button')].every((b) => { const r = b.getBoundingClientRect();"
        "return r.top >= 0 && r.bottom <= innerHeight && r.height >= 44 && b.textContent.trim(); })"
    )
    reached = set()
    for _ in range(16):
        browser.press("Tab")
        reached.add(browser.value("document.activeElement.id || document.activeElement.dataset.choice"))
    assert {"prompt", "first", "second", "rubric", "tie", "both_bad", "skip"} <= reached
    for side in ("prompt", "first", "second", "rubric"):  # named for a screen reader
        name = browser.value(f"document.getElementById('{side}').getAttribute('aria-labelledby')")
        assert browser.value(f"document.getElementById('{name}').textContent.length > 0")


def test_double_presses_and_going_back_count_once(browser: Browser, server: VotingServer, store: VoteStore) -> None:
    browser.window(1280, 800)
    join(browser, server)
    browser.value("document.querySelector('[data-choice=first]').click(), "
                  "document.querySelector('[data-choice=first]').click()")  # fmt: skip
    browser.wait("!busy")
    assert store.count() == 1
    browser.value("location.reload(), 1")
    browser.wait("document.readyState === 'complete' && form")
    browser.wait(QUESTION)  # the name is known, and the next question is there
    assert store.count() == 1


def test_a_server_that_is_away_is_said_and_the_vote_is_sent_again(
    browser: Browser, server: VotingServer, store: VoteStore
) -> None:
    browser.window(1280, 800)
    join(browser, server)
    away = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.send("Network.emulateNetworkConditions", offline=True, **away)
    browser.press("1")
    browser.wait("!busy && !document.getElementById('message').hidden")
    assert store.count() == 0
    browser.send("Network.emulateNetworkConditions", offline=False, **away)
    press(browser, "1")
    assert browser.value("document.getElementById('message').hidden")
    assert store.count() == 1
