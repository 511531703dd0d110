"""The client of servers: what it repeats, what it refuses, what nobody sees."""

from __future__ import annotations

import email.utils
import logging
import math
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from nashward.errors import EndpointError, NashwardError
from nashward.llm.clients import client as client_module
from nashward.llm.clients.chat import Chat, _tokens
from nashward.llm.clients.client import Client
from nashward.llm.config import Endpoint, JudgeSettings
from nashward.llm.config.endpoint import check_url

from .scripted import Script, faults, serve, shorter

MESSAGES = [{"role": "user", "content": "Say A."}]
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.002)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def script() -> Iterator[Script]:
    with serve(Script(shorter)) as script:
        yield script


def once(*kinds: str) -> Any:
    """The first calls go wrong in these ways, and the next is answered."""
    return lambda body, before: kinds[before] if before < len(kinds) else ""


def complete(script: Script, **settings: Any) -> str:
    return Chat(Client(script.url, Endpoint(**settings)), "judge").complete(MESSAGES, 16).text


@pytest.mark.parametrize("kind", ["429", "500", "502", "503", "529", "cut", "nonsense", "death"])
def test_what_passes_is_repeated(script: Script, kind: str) -> None:
    script.fault = once(kind, kind, kind)
    assert complete(script, retries=3) == "A"
    assert script.faults[kind] == 3


@pytest.mark.parametrize("kind", ["429", "500", "cut", "nonsense", "death"])
def test_it_ends_with_an_error(script: Script, kind: str) -> None:
    script.fault = lambda body, before: kind
    with pytest.raises(EndpointError, match="3 times"):
        complete(script, retries=2)
    assert script.faults[kind] == 3


@pytest.mark.parametrize("kind", ["400", "401", "403", "404", "413", "501", "quota", "redirect", "other"])
def test_what_does_not_pass_is_not_repeated(script: Script, kind: str) -> None:
    script.fault = lambda body, before: kind
    with pytest.raises(EndpointError):
        complete(script, retries=3)
    assert script.faults[kind] == 1


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_an_answer_has_its_time(script: Script, kind: str) -> None:
    script.fault = once(kind)
    begin = time.monotonic()
    assert complete(script, timeout=1.0, retries=1) == "A"
    assert 1.0 <= time.monotonic() - begin < 5


def test_an_answer_has_its_size(script: Script) -> None:
    script.write = lambda body: ("long " * 1000, None)
    client = Client(script.url, Endpoint(retries=0), most_bytes=2000)
    with pytest.raises(EndpointError, match="2000"):
        client.post("/chat/completions", {"messages": MESSAGES})


def test_no_server() -> None:
    with serve(Script(shorter)) as script:
        pass
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1"):
        complete(script, retries=1)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for(script: Script, form: str) -> None:
    script.patience = "0.3" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    script.fault = once("429")
    begin = time.monotonic()
    assert complete(script) == "A"
    assert time.monotonic() - begin > (0.3 if form == "seconds" else 0.9)


def test_all_calls_wait_for_retry_after() -> None:
    begin, answered = time.monotonic(), []

    def write(body: dict[str, Any]) -> tuple[str, None]:
        answered.append(time.monotonic() - begin)
        return "A", None

    first = {"0": "429"}
    with serve(Script(write, lambda body, n: "" if n else first.get(body["messages"][0]["content"], ""))) as script:
        script.delay, script.patience = 0.02, "0.5"
        chat = Chat(Client(script.url, Endpoint(concurrency=2)), "judge")
        list(chat.client.as_completed(lambda n: chat.complete([{"role": "user", "content": str(n)}], 1), range(20)))
    assert len(answered) == 20
    assert sum(seconds < 0.4 for seconds in answered) <= 3  # those under way when the server said so


def test_a_server_that_wants_too_much_patience(script: Script) -> None:
    script.patience, script.fault = "86400", once("429")
    with pytest.raises(EndpointError, match="86400"):
        complete(script)


def test_redirects_are_not_followed_and_not_repeated_to_the_letter(script: Script) -> None:
    script.fault = lambda body, before: "redirect"
    with pytest.raises(EndpointError, match="redirects") as error:
        complete(script)
    assert "secret" not in str(error.value)


def test_a_limit_on_calls_at_once() -> None:
    with serve(Script(shorter, delay=0.02)) as script:
        client = Client(script.url, Endpoint(concurrency=3))
        chat = Chat(client, "judge")
        results = dict(
            client.as_completed(lambda n: chat.complete([{"role": "user", "content": str(n)}], 1).text, range(20))
        )
    assert results == dict.fromkeys(range(20), "A")
    assert script.most_at_once == 3


def test_where_one_fails_the_others_are_not_sent() -> None:
    with serve(Script(shorter, lambda body, before: "400" if body["messages"][0]["content"] == "3" else "")) as script:
        client = Client(script.url, Endpoint(concurrency=2))
        chat = Chat(client, "judge")
        with pytest.raises(EndpointError, match="400"):
            list(client.as_completed(lambda n: chat.complete([{"role": "user", "content": str(n)}], 1), range(500)))
        assert len(script.bodies) < 250  # of 500: how many are under way when the answer arrives is up to the threads
        assert chat.complete(MESSAGES, 1).text == "A"  # the client goes on


def test_the_key_reaches_the_server_and_nothing_else(
    script: Script, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script.key = KEY
    monkeypatch.setenv("MY_KEY", KEY)
    assert complete(script, key_variable="MY_KEY") == "A"
    assert script.headers[-1]["Authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("MY_KEY", KEY + "x")  # a wrong one, which the server repeats in its message
    with pytest.raises(EndpointError) as error:
        complete(script, key_variable="MY_KEY")
    shown = "".join(traceback.format_exception(error.value)) + caplog.text + repr(vars(Client(script.url)))
    assert "401" in shown
    assert "MY_KEY" in shown
    assert KEY not in shown


def test_a_server_without_a_key_gets_none(script: Script) -> None:
    assert complete(script) == "A"
    assert "Authorization" not in script.headers[-1]


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@host/v1", "https://secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret",
        "ftp://secret/v1", "secret", "http://", "http://[secret/v1", "http://host:secret/v1", "http://a secret/v1",
    ],
)  # fmt: skip
def test_urls_with_credentials_are_refused_and_not_shown(url: str) -> None:
    for make in (check_url, Client, JudgeSettings):
        with pytest.raises(NashwardError) as error:
            make(url)
        assert "secret" not in "".join(traceback.format_exception(error.value, chain=True)).replace(repr(url), "")


def test_the_key_in_place_of_its_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(NashwardError) as error:
        Endpoint(key_variable=KEY)
    assert KEY not in str(error.value)


def test_it_says_what_is_sent_and_warns_of_plain_http(caplog: pytest.LogCaptureFixture) -> None:
    Client("http://127.0.0.1:1/v1").announce("prompts")
    assert "http://127.0.0.1:1" in caplog.text
    assert "plain HTTP" not in caplog.text
    assert Client("http://127.judge.example/v1").server.in_the_clear  # a name, no address of this machine
    Client("http://judge.example/v1").announce("prompts")
    assert "plain HTTP" in caplog.text


@pytest.mark.parametrize("field", ["seed", "top_logprobs"])
def test_what_a_server_refuses_by_name_is_left_out(script: Script, field: str) -> None:
    script.refuses = (field,)
    chat = Chat(Client(script.url), "judge")
    for _ in range(2):
        assert chat.complete(MESSAGES, 16, 0.0, 5, logprobs=True).text == "A"
    assert all(field not in body for body in script.bodies)
    assert all(body["temperature"] == 0.0 for body in script.bodies)
    assert len(script.headers) == 3  # refused once


def test_the_limit_of_tokens_under_its_newer_name(script: Script) -> None:
    script.refuses, script.advice = ("max_tokens",), "Use 'max_completion_tokens' instead."
    assert complete(script) == "A"
    assert script.bodies[-1]["max_completion_tokens"] == 16


def test_thirty_percent_of_failures_end_within_eight_retries() -> None:
    kinds = ("429", "500", "cut", "nonsense", "death")
    with serve(Script(shorter, faults(0.3, kinds))) as script:
        client = Client(script.url, Endpoint())
        chat = Chat(client, "judge")
        results = dict(
            client.as_completed(lambda n: chat.complete([{"role": "user", "content": str(n)}], 1).text, range(200))
        )
    assert len(results) == 200
    assert set(script.faults) == set(kinds)
    assert sum(script.faults.values()) > 40  # each of them was sent again


def test_log_probabilities_that_servers_write_for_nothing() -> None:
    listed = [("A", -0.1), ("x", -9999.0), ("x", -9999.0), ("B", float("nan")), ("C", -2.0), ("C", -2.0)]
    content = [{"token": "A", "top_logprobs": [{"token": text, "logprob": value} for text, value in listed]}]
    found = _tokens({"content": content})
    assert found is not None
    assert found[0].likeliest.keys() == {"A", "x", "C"}
    assert found[0].likeliest["A"] == -0.1
    assert math.exp(found[0].likeliest["x"]) == 0
    assert math.exp(found[0].likeliest["C"]) == pytest.approx(2 * math.exp(-2))
