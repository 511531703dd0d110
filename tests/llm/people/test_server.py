"""The voting page: who gets in, what is written, and what a hostile text or request can do."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nashward.errors import NashwardError
from nashward.llm.config import Asking
from nashward.llm.people.asking import Asker
from nashward.llm.people.markdown import PLAIN, safe_html
from nashward.llm.people.server import FORM_BYTES, VotingPage, VotingServer, serving
from nashward.llm.people.store import VoteStore

from .client import Client


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VoteStore]:
    with VoteStore(tmp_path / "votes") as store:
        for k in range(4):
            store.add_responses(f"Prompt {k}", [f"Yes {k}.", f"**No** {k}.", f"Maybe {k}."], ["secret-model"] * 3)
        yield store


def page_of(store: VoteStore, **settings: float) -> VotingPage:
    return VotingPage(store, Asker(store, Asking(**settings)))  # type: ignore[arg-type]


@pytest.fixture
def server(store: VoteStore) -> Iterator[VotingServer]:
    with serving(page_of(store, repeats=0.0)) as server:
        yield server


def test_a_session_is_written_vote_by_vote(server: VotingServer, store: VoteStore) -> None:
    ann = Client(server.guard.port)
    assert ann.session()["name"] is None
    assert ann.call("POST", "/api/next")["status"] == 403  # without a name
    assert ann.join("Ann")["name"] == "Ann"
    seen = set()
    while (question := ann.next()) is not None:
        state = ann.vote(question, "first", 2.5)
        assert state["new"]
        seen.add(question["id"])
        assert state["votes"] == len(seen) == store.count()
    assert len(seen) == 12
    assert {vote.seconds for vote in store.votes()} == {2.5}
    assert {vote.shown_first for vote in store.votes()} == {"a", "b"}  # sides are shuffled, and stored
    assert all(vote.winner == vote.shown_first for vote in store.votes())


def test_nothing_tells_whose_responses_they_are(server: VotingServer) -> None:
    ann = Client(server.guard.port)
    ann.join("Ann")
    assert "secret-model" not in json.dumps(ann.call("POST", "/api/next"))


def test_double_clicks_tabs_and_the_back_button(server: VotingServer, store: VoteStore) -> None:
    ann = Client(server.guard.port)
    ann.join("Ann")
    tab_one, tab_two = ann.next(), ann.next()
    assert tab_one is not None
    assert tab_one == tab_two
    assert ann.vote(tab_one, "first")["new"]
    assert not ann.vote(tab_one, "first")["new"]
    assert not ann.vote(tab_one, "second")["new"]  # as the page of before shows it
    assert store.count() == 1


def test_undo_is_of_ones_own_votes(server: VotingServer, store: VoteStore) -> None:
    ann, bob = Client(server.guard.port), Client(server.guard.port)
    ann.join("Ann")
    bob.join("Bob")
    question = ann.next()
    assert question is not None
    last = ann.vote(question, "first")["last"]
    assert last == question["id"]
    assert not bob.call("POST", "/api/undo", {"id": last})["undone"]
    assert "no such question" in bob.vote(question, "second")["error"]
    assert ann.call("POST", "/api/undo", {"id": last})["undone"]
    assert not ann.vote(question, "first")["new"]  # of before the undo
    again = ann.next()
    assert again is not None
    assert (again["id"], again["attempt"]) == (question["id"], 1)
    assert ann.vote(again, "tie")["new"]
    assert [vote.winner for vote in store.votes()] == ["tie"]


def test_a_name_is_one_browsers(server: VotingServer) -> None:
    ann, other = Client(server.guard.port), Client(server.guard.port)
    code = ann.join("Ann")["code"]
    assert other.join("Ann")["status"] == 409
    assert other.join("Ann", "zzzz")["status"] == 409
    assert other.join("Ann", code)["name"] == "Ann"
    assert ann.join("")["status"] == 400


def test_everything_goes_on_after_a_restart(store: VoteStore) -> None:
    with serving(page_of(store)) as server:
        ann = Client(server.guard.port)
        ann.join("Ann")
        question = ann.next()
        assert question is not None
        port = server.guard.port
    with pytest.raises(ConnectionRefusedError):
        ann.next()
    with VoteStore(store.folder) as again, serving(page_of(again), port=port):
        assert ann.session()["name"] == "Ann"
        assert ann.next() == question
        assert ann.vote(question, "both_bad")["new"]
        assert again.count("Ann") == 1


def test_twenty_people_at_once(store: VoteStore) -> None:
    for k in range(20):
        store.add_responses(f"More {k}", ["One.", "Two.", "Three."])
    wrong: list[object] = []
    with serving(page_of(store, random_share=0.5)) as server:

        def person(name: str) -> None:
            try:
                own = Client(server.guard.port)
                own.join(name)
                for k in range(6):
                    question = own.next()
                    assert question is not None
                    assert own.vote(question, ("first", "second", "tie")[k % 3])["new"]
            except BaseException as error:  # noqa: BLE001 - shown by the assertion
                wrong.append(error)

        threads = [threading.Thread(target=person, args=(f"person {k}",)) for k in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []
    assert {store.count(f"person {k}") for k in range(20)} == {6}
    assert len({vote.id for vote in store.votes()}) == 120


# what is refused


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:{port}"}, 421),  # a name that was pointed at this machine
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "192.168.0.7:{port}"}, 421),  # on loopback nothing else is answered to
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Nashward-Form": ""}, 403),
        ({"X-Nashward-Form": "0" * 32}, 403),
        ({"Cookie": ""}, 403),
    ],
)
def test_requests_of_others_write_nothing(
    server: VotingServer, store: VoteStore, headers: dict[str, str], status: int
) -> None:
    ann = Client(server.guard.port)
    ann.join("Ann")
    question = ann.next()
    assert question is not None
    body = json.dumps({"id": question["id"], "attempt": 0, "choice": "first"}).encode()
    sent = {name: value.format(port=server.guard.port) for name, value in headers.items()}
    if "Cookie" in sent:
        ann.cookies.clear()
    assert ann.request("POST", "/api/vote", body, sent)[0] == status
    assert store.count() == 0
    assert server.guard.host == "127.0.0.1"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_the_names_of_this_machine_are_answered(server: VotingServer, host: str) -> None:
    ann = Client(server.guard.port)
    assert ann.request("GET", "/", headers={"Host": f"{host}:{server.guard.port}"})[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/../store.py", "/..%2fstore.py", "/page/../../store.py", "//etc/passwd", "/page.js/../../votes.sqlite",
     "/votes.sqlite", "/api/../votes.sqlite", "/%2e%2e/%2e%2e/etc/passwd", "/index.html", "/api/votes"],
)  # fmt: skip
def test_no_path_leads_elsewhere(server: VotingServer, path: str) -> None:
    status, _, content = Client(server.guard.port).request("GET", path)
    assert status == 404
    assert json.loads(content).keys() == {"error"}


def test_bodies_have_a_limit(server: VotingServer) -> None:
    ann = Client(server.guard.port)
    ann.join("Ann")
    assert ann.request("POST", "/api/vote", b"x" * (FORM_BYTES + 1))[0] == 413
    assert ann.request("POST", "/api/vote", b"{", {"Transfer-Encoding": "chunked"})[0] == 411
    assert ann.request("POST", "/api/vote", b"[" * 10_000)[0] == 400
    assert ann.request("POST", "/api/vote", b"\xff")[0] == 400
    assert ann.request("POST", "/api/vote", b"[]")[0] == 400
    for form in ({"id": 3}, {"id": "x"}, {"id": "x", "attempt": 0, "choice": "a", "seconds": "x"},
                 {"id": "x", "attempt": 0, "choice": "a"},
                 {"id": "x", "attempt": 0, "choice": "tie", "seconds": 10**400}):  # fmt: skip
        assert ann.request("POST", "/api/vote", json.dumps(form).encode())[0] == 400
    with socket.create_connection(("127.0.0.1", server.guard.port)) as line:
        line.sendall(b"nonsense\r\n\r\n")
        assert b"400" in line.recv(1000)
    assert ann.session()["name"] == "Ann"  # it goes on


def test_every_answer_has_the_policy(server: VotingServer) -> None:
    ann = Client(server.guard.port)
    for path in ("/", "/page.js", "/page.css", "/api/session", "/nowhere"):
        headers = ann.request("GET", path)[1]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert headers["cache-control"] == "no-store"
    page = ann.request("GET", "/")[2].decode()
    assert "<script>" not in page
    assert "style=" not in page
    assert "//" not in page.replace("<!doctype", "")  # nothing from elsewhere


def test_beyond_loopback_a_token_is_needed_once(store: VoteStore) -> None:
    with serving(page_of(store), host="0.0.0.0") as server:
        token = server.guard.token
        assert token is not None
        assert f"?token={token}" in server.address
        port = server.guard.port
        stranger = http.client.HTTPConnection("127.0.0.1", port)
        for path in ("/", "/page.js", "/api/session", "/?token=guess"):
            stranger.request("GET", path, headers={"Host": f"127.0.0.1:{port}"})
            answer = stranger.getresponse()
            answer.read()
            assert answer.status == 401
        stranger.request("GET", f"/?token={token}", headers={"Host": f"127.0.0.1:{port}"})
        answer = stranger.getresponse()
        assert (answer.status, answer.getheader("Location")) == (303, "/")  # it leaves the address
        assert "HttpOnly" in str(answer.getheader("Set-Cookie"))
        answer.read()
        stranger.close()
        friend = Client(port, token)
        assert friend.join("Ann")["name"] == "Ann"
        assert friend.next() is not None
        assert friend.request("GET", "/", headers={"Host": f"192.168.0.7:{port}"})[0] == 200  # an address is no name
        assert friend.request("GET", "/", headers={"Host": f"evil.example:{port}"})[0] == 421


def test_cookies_are_not_for_scripts_or_other_sites(server: VotingServer) -> None:
    line = http.client.HTTPConnection("127.0.0.1", server.guard.port)
    line.request("GET", "/")
    cookie = str(line.getresponse().getheader("Set-Cookie"))
    line.close()
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert str(server.guard.port) in cookie


def test_programs_send_votes_with_the_key(server: VotingServer, store: VoteStore) -> None:
    row = {"prompt": "Name a river.", "a": "The Rhine.", "b": "No.", "winner": "b", "annotator": "bot", "id": "7"}
    body = (json.dumps(row) + "\n" + json.dumps({**row, "id": "8"})).encode()

    def send(key: str, content: bytes = body) -> tuple[int, dict[str, object]]:
        line = http.client.HTTPConnection("127.0.0.1", server.guard.port)
        line.request("POST", "/api/votes", content, {"Authorization": f"Bearer {key}"})
        answer = line.getresponse()
        value = json.loads(answer.read())
        line.close()
        return answer.status, value

    assert send("guess")[0] == 401
    assert store.count() == 0
    no_run = {"on_run": None, "wanted": None}
    assert send(server.guard.key) == (200, {"added": 2, "all": 2, **no_run})
    assert send(server.guard.key) == (200, {"added": 0, "all": 2, **no_run})
    store.set_target(5, 1, [("Name a river.", "The Rhine."), ("Name a river.", "No.")])
    elsewhere = json.dumps({**row, "b": "A river that no run has drawn.", "id": "9"}).encode()
    assert send(server.guard.key, elsewhere) == (200, {"added": 1, "all": 2, "on_run": 1, "wanted": 5})
    assert [vote.winner for vote in store.votes()] == ["b", "b", "b"]
    status, answer = send(server.guard.key, b'{"prompt": "p"}')
    assert status == 400
    assert "row 1" in str(answer["error"])


def test_a_port_that_is_taken_is_named(server: VotingServer, store: VoteStore) -> None:
    with pytest.raises(NashwardError, match=str(server.guard.port)), serving(page_of(store), port=server.guard.port):
        pass
    with pytest.raises(NashwardError, match="70000"), serving(page_of(store), port=70000):
        pass


def test_a_disk_that_is_full_is_said(server: VotingServer, store: VoteStore) -> None:
    ann = Client(server.guard.port)
    ann.join("Ann")
    question = ann.next()
    assert question is not None
    store._connection.execute("PRAGMA max_page_count = 1")
    store._connection.execute("PRAGMA query_only = ON")
    assert ann.vote(question, "first")["status"] == 503
    store._connection.execute("PRAGMA query_only = OFF")
    assert store.count() == 0
    assert ann.vote(question, "first")["new"]


# hostile texts

HOSTILE = [
    "<script>alert(1)</script>", "</textarea><img src=x onerror=alert(1)>", "<iframe src='//evil'></iframe>",
    "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x](data:text/html,<script>1</script>)",
    "![x](https://evil.example/x.png)", "![x](javascript:alert(1))", "<https://evil.example/>",
    "[x](https://evil.example/ \"onmouseover=alert(1)\")", "```html\n</code></pre><script>1</script>\n```",
    "`<b onclick=x>`", "# <svg onload=alert(1)>", "a\n\n<style>*{display:none}</style>", "&lt;script&gt;", "\x00<b>",
    "| a |\n|---|\n| <script> |", "\u202egnp.exe <b>", "<!-- --!> <x>", "[a]: javascript:alert(1)\n\n[a]",
    "[![i](x)](https://evil.example)", "```\n<script>\n```", "[<b>x</b>](https://e.example/<script>)",
]  # fmt: skip
ALLOWED = {"p", "strong", "em", "code", "pre", "h1", "span", "div", "table", "thead", "tbody", "tr", "th", "td"}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_shows_as_text(text: str) -> None:
    found = Tags()
    found.feed(safe_html(f"Before **bold**.\n\n{text}\n\nAfter."))
    assert {tag for tag, _ in found.tags} <= ALLOWED
    for _, attributes in found.tags:
        assert {name for name, _ in attributes} <= {"class", "start"}
    assert "Before" in found.text
    assert "After." in found.text
    for mark in ("script", "onerror", "evil", "onload"):
        assert found.text.count(mark) >= min(1, text.count(mark))  # it is shown, not taken out


def test_a_megabyte_is_shown_whole() -> None:
    text = "<b>" + "x*" * (PLAIN * 12) + "</b>"
    found = Tags()
    found.feed(safe_html(text))
    assert [tag for tag, _ in found.tags] == ["div"]
    assert found.text == text


def test_the_rubric_is_text_too(store: VoteStore) -> None:
    with serving(VotingPage(store, Asker(store, Asking()), rubric="Prefer *short*. <script>1</script>")) as server:
        rubric = Client(server.guard.port).session()["rubric"]
    assert "<em>short</em>" in rubric
    assert "<script>" not in rubric
    assert urlsplit(server.address).port == server.guard.port


@pytest.mark.parametrize("other", ['theme={"dark":true}', "name=a b", "é=1", 'open="', "="])
def test_cookies_of_other_programs_on_the_machine_keep_nobody_out(server: VotingServer, other: str) -> None:
    ann = Client(server.guard.port)
    name, _, value = other.partition("=")
    ann.cookies = {name: value, **ann.cookies}
    assert ann.request("GET", "/api/session")[0] == 200
