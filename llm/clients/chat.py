"""Chat completions of a server that speaks OpenAI's protocol."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nashward.errors import EndpointError

from .client import Client

TOP_LOGPROBS = 20  # the most that OpenAI's protocol has
NEWEST = {"latest", "main"}  # words of a name that stand for its newest version
MOST_TOKENS = 1 << 53  # of a call: a larger count is none, and SQLite has no number for it
STAMP = 3  # digits that a date or a version begins with at least: gpt-4.1 is no version of gpt-4
END_OF_THOUGHT = "</think>"  # ends the thoughts of open models, which a server may leave in the output

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """A token of an output, and the likeliest ones in its place.

    Attributes:
        text: as the server writes it.
        likeliest: log-probabilities by text.
    """

    text: str
    likeliest: dict[str, float]


@dataclass(frozen=True)
class Completion:
    """What a model wrote.

    Attributes:
        text: its output, "" where there is none.
        model: the name that the server reports.
        read, written: tokens, as the server counts them; 0 where it does not.
        tokens: with log-probabilities; None where the server gives none.
        finished: whether the output came to its end before its limit.
    """

    text: str
    model: str
    read: int = 0
    written: int = 0
    tokens: tuple[Token, ...] | None = None
    finished: bool = True


class Chat:
    """A model behind a server.

    Args:
        client: of the server.
        model: its name there.

    Example:
        >>> Chat(Client("http://127.0.0.1:8000/v1"), "judge").model
        'judge'
    """

    def __init__(self, client: Client, model: str) -> None:
        self.client, self.model = client, model
        self._limit = "max_tokens"  # what the server calls the limit on an output
        self._unsupported: set[str] = set()  # what the server refuses to be given
        self._lock = threading.Lock()

    def complete(
        self,
        messages: Sequence[dict[str, str]],
        max_tokens: int,
        temperature: float = 1.0,
        seed: int | None = None,
        logprobs: bool = False,
    ) -> Completion:
        """One output. What a server refuses by name (a seed, say) is left out from then on.

        Args:
            messages: role and content.
            max_tokens: of the output.
            temperature: 1 is every server's default and is not sent.
            seed: of the sampler.
            logprobs: whether to ask for those of each token.

        Raises:
            EndpointError: from ``Client.post``.
        """
        wanted: dict[str, Any] = {} if temperature == 1.0 else {"temperature": temperature}
        if seed is not None:
            wanted["seed"] = seed & 0x7FFFFFFF
        if logprobs:
            wanted |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        while True:
            fields = {key: value for key, value in wanted.items() if key not in self._unsupported}
            limit = self._limit
            body = {"model": self.model, "messages": list(messages), **fields, limit: max_tokens}
            try:
                return _completion(self.client.post("/chat/completions", body), self.client.server.place)
            except EndpointError as error:
                if error.status not in (400, 422) or not self._adapts(str(error), fields, limit):
                    raise

    def _adapts(self, message: str, fields: dict[str, Any], limit: str) -> bool:
        """Whether the next body is another one: without a field that the message names."""
        with self._lock:
            if limit == "max_tokens" and "max_completion_tokens" in message:
                self._limit = "max_completion_tokens"
                return True
            refused = [key for key in ("top_logprobs", "logprobs", "seed") if key in fields and key in message]
            if not refused:
                return False
            names = {"top_logprobs", "logprobs"} if "logprobs" in refused[0] else {refused[0]}
            self._unsupported |= names
            logger.info("%s takes no %s", self.client.server.place, refused[0])
            return True


def is_same_model(asked: str, reported: str) -> bool:
    """Whether two names may be one model: of paths the ends count, and a date or a version may follow.

    Args:
        asked: the name that a server was asked for.
        reported: that which it says has answered.

    Example:
        >>> is_same_model("gpt-4o", "gpt-4o-2024-08-06"), is_same_model("org/Judge", "/models/judge.gguf")
        (True, True)
        >>> is_same_model("gpt-4o", "gpt-4o-mini"), is_same_model("gpt-4", "gpt-4.1")
        (False, False)
    """
    short, long = sorted((_words(asked), _words(reported)), key=len)
    rest = long[len(short) :]
    stamped = all(word.isdigit() for word in rest) and len(rest[0]) >= STAMP if rest else True
    return long[: len(short)] == short and stamped


def _words(name: str) -> list[str]:
    end = name.casefold().removesuffix(".gguf").rstrip("/").rpartition("/")[2]
    return [word for word in re.split(r"[\W_]+", end) if word and word not in NEWEST]


def _completion(answer: Any, place: str) -> Completion:
    """A completion from an answer's JSON.

    Raises:
        EndpointError: it has none.
    """
    try:
        choice = answer["choices"][0]
        text = choice["message"].get("content")
        model = answer.get("model") or ""
    except (LookupError, TypeError, AttributeError):
        raise EndpointError(
            f"{place} answers something else than a chat completion; is it the URL of its /v1?"
        ) from None
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Completion(
        _unicode(text) if isinstance(text, str) else "",
        _unicode(str(model)),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _tokens(choice.get("logprobs")),
        choice.get("finish_reason") != "length",
    )


def _tokens(logprobs: Any) -> tuple[Token, ...] | None:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return None
    try:
        return tuple(Token(str(entry["token"]), _likeliest(entry)) for entry in content)
    except (LookupError, TypeError, ValueError):
        return None


def _likeliest(entry: Any) -> dict[str, float]:
    """Log-probabilities by text; of one text that several tokens have, their sum's; without NaN, which is none."""
    found: dict[str, float] = {}
    for one in entry.get("top_logprobs") or [entry]:
        text, value = str(one["token"]), float(one["logprob"])
        if not math.isnan(value):
            found[text] = float(np.logaddexp(found.get(text, -math.inf), min(0.0, value)))
    return found


def _unicode(text: str) -> str:
    """A text without halves of surrogate pairs, as of an emoji that was cut: neither a file nor SQLite takes them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < MOST_TOKENS else 0
