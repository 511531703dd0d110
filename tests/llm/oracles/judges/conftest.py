"""A server with a script, which is called again at once where it fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nashward.llm.clients import client as client_module

from ...clients.scripted import Script, serve, shorter


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.002)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def script() -> Iterator[Script]:
    with serve(Script(shorter)) as script:
        yield script
