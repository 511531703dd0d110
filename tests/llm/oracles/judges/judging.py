"""What judges behind a server are given in these tests."""

from __future__ import annotations

import math
from typing import Any

from nashward.llm.config import Endpoint, JudgeSettings
from nashward.llm.oracles.judges.endpoint import EndpointJudge

from ...clients.scripted import Script, texts

PROMPTS = ["Name a river.", "Name a tree."]
RESPONSES = [["The Rhine.", "Nile", "It is the Amazon."], ["An oak.", "Elm"]]
PAIRS = 2 * (3 + 1)


def judge_of(script: Script, protocol: str = "pair", **settings: Any) -> EndpointJudge:
    endpoint = Endpoint(**{key: settings.pop(key) for key in ("retries", "timeout", "concurrency") if key in settings})
    return EndpointJudge("judge", JudgeSettings(base_url=script.url, protocol=protocol, **settings), endpoint)


def letters(body: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """Probabilities of m and M that are a function of the lengths, with the first shown preferred by .1 nats."""
    if len(body["messages"]) == 1:
        return "A", {"A": -0.1}
    _, first, second = texts(body)
    odds = max(-20.0, min(20.0, 0.2 * (len(second) - len(first)) + 0.1))
    p = 0.9 / (1 + math.exp(-odds))
    return "m" if odds > 0 else "M", {
        "m": math.log(0.75 * p), " m": math.log(0.25 * p), "M": math.log(0.9 - p), "I": math.log(0.05),
    }  # fmt: skip
