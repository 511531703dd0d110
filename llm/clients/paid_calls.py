"""Calls of a judge behind a server: each is paid once, kept when it arrives, and within a budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

from nashward.errors import EndpointError, NashwardError

from ..config.endpoint import OPENAI, Endpoint, JudgeSettings, server_url
from ..config.inputs import ENDPOINT
from ..processes import processes
from .chat import Chat, Completion, is_same_model
from .client import Client
from .paid import Budget, PaidOutputs, Spent

PROBE = [{"role": "user", "content": "Write the letter A."}]
PROBE_TOKENS = 16
BYTES = 4  # of a token, in the estimate
WRITTEN = 200  # tokens of an output that reasons, in the estimate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PaidRequest:
    """One output that a judge is to write.

    Attributes:
        key: of what is requested: it has another one where anything that changes the output is another.
        messages: role and content.

    Example:
        >>> PaidRequest(b"0123456789abcdef", [{"role": "user", "content": "Good?"}]).size
        5
    """

    key: bytes
    messages: list[dict[str, str]]

    @property
    def seed(self) -> int:
        """Of the sampler."""
        return int.from_bytes(self.key[:8], "big")

    @property
    def size(self) -> int:
        """Bytes of its texts."""
        return sum(len(turn["content"].encode(errors="replace")) for turn in self.messages)


class PaidCalls:
    """A language model behind a server as a judge, whatever it judges.

    The first call, which has none of the texts in it, finds out which model answers and whether it gives
    log-probabilities. What is kept beside ``path`` is never paid twice, and counts in the budget.

    Args:
        model: its name on the server.
        settings: where the server is, the budget and the prices.
        endpoint: how the server is called.
        logprobs: whether log-probabilities are of use.

    Raises:
        ValueError: no name, a URL with credentials.

    Example:
        >>> PaidCalls("judge", JudgeSettings("http://localhost:8000/v1")).budget.limits
        {}
    """

    def __init__(
        self, model: str, settings: JudgeSettings, endpoint: Endpoint | None = None, logprobs: bool = False
    ) -> None:
        if not model.strip():
            raise NashwardError(f"{ENDPOINT} lacks the name of a model: {ENDPOINT}MODEL, as the server calls it")
        self.model, self.settings, self.logprobs = model, settings, logprobs
        self.client = Client(server_url(settings.base_url), endpoint, lost=self._lost)
        self.chat = Chat(self.client, model)
        self.budget = Budget(settings.limits, settings.prices, f"budget of {model}, {settings}")
        self._first_call = processes.once(f"first call of {model}, {settings}")
        self.open(None)

    @property
    def temperature(self) -> float:
        """Of the judge: as set, else 0 for one vote and 1 for several."""
        given = self.settings.temperature
        return (0.0 if self.settings.votes == 1 else 1.0) if given is None else given

    @cached_property
    def served(self) -> Completion:
        """The answer of the first call, which no budget counts: until it is known who judges, nothing is known paid."""
        server = self.client.server
        if server_url(self.settings.base_url) == OPENAI and server.key() is None:
            without = "" if self.settings.base_url else " without --judge-url"
            raise EndpointError(
                f"{ENDPOINT}{self.model}{without} is a model at {OPENAI}, and the variable {server.key_variable} holds "
                "no key: set it, or give the URL of the server that is meant, as --judge-url http://localhost:8000/v1"
            )
        return self.chat.complete(PROBE, PROBE_TOKENS, self.temperature, None, self.logprobs)

    def open(self, path: Path | None) -> None:
        """Keep outputs at that path, and count in the budget what is there; None: in memory alone."""
        before = getattr(self, "_paid", None)
        if before is not None and path is not None and before.path == path:
            return
        self._paid = PaidOutputs(path)
        self.budget.in_memory = path is None
        if path is not None:
            self.budget.count(path, self._paid.spent(self.model))
        if before is not None:
            for key, judge, output in before.items() if before.path is None else []:  # before there was a file
                self._paid.put(key, judge, output)
            before.close()

    def _lost(self) -> str:
        """What an error of the server ends with where outputs that are paid are kept in no file."""
        if self._paid.path is not None or self._paid.spent(self.model).calls == 0:
            return ""
        return (
            "the verdicts paid so far were in memory alone, and the same command pays for them again: name a file with "
            "--cache, and none is paid twice"
        )

    def stored_outputs(self) -> list[Completion]:
        """All outputs of the model that are kept, of this command and of earlier ones."""
        every = (output for _, judge, output in self._paid.items() if judge == self.model)
        return [output for output in every if output.model == self.served.model]

    def outputs(
        self,
        requests: Sequence[PaidRequest],
        longest: int,
        sent: str,
        expected: int = 0,
        written: int = WRITTEN,
        logprobs: bool = False,
        check: Callable[[Mapping[bytes, Completion]], object] = lambda outputs: None,
    ) -> dict[bytes, Completion]:
        """What the judge writes, by the keys; those whose texts are too long for it are not there.

        Args:
            requests: those of one key are one.
            longest: output, in tokens.
            sent: what the texts are, for the line before the first call.
            expected: calls that are ahead, where they are more than these.
            written: tokens of an output about, for that line.
            logprobs: whether to request those of the tokens.
            check: is called with the outputs that are kept, and with each new one, by the keys; what it raises ends the
                calls, and what came stays kept.

        Raises:
            EndpointError: the server does not answer, or as another model than before.
            BudgetError: the budget is spent.
            OSError: an output cannot be kept.
        """
        every = {request.key: request for request in requests}
        found = {key: output for key in every if (output := self._paid.get(key)) is not None}
        check(found)
        missing = [request for key, request in every.items() if key not in found]
        if missing:
            self._announce(missing, sent, max(len(missing), expected), min(longest, written))

            def draw(request: PaidRequest) -> Completion | None:
                return self._draw(request, longest, logprobs)

            for number, output in self.client.as_completed(draw, missing):
                if output is not None:
                    key = missing[number].key
                    found[key] = output
                    check({key: output})
        return found

    def _draw(self, request: PaidRequest, longest: int, logprobs: bool) -> Completion | None:
        """What the judge writes, kept; None where the texts are too long for it."""
        size = request.size
        reserved, spent = self.budget.reserve(size, longest), None
        try:
            output = self.chat.complete(request.messages, longest, self.temperature, request.seed, logprobs)
            spent = Spent(1, output.read or size // BYTES, output.written or len(output.text.encode()) // BYTES + 1)
            output = replace(output, read=spent.read, written=spent.written)
            # before the budget, which is the other processes' too and may fail
            self._paid.put(request.key, self.model, output)
        except EndpointError as error:
            if error.status in (400, 413, 422) and _is_too_long(str(error)):
                return None
            raise
        finally:
            self.budget.settle(reserved, spent)
        if output.model != self.served.model:
            raise EndpointError(
                f"{self.client.server.place} answers as {output.model or 'no model'} now, and before as "
                f"{self.served.model or 'no model'}: verdicts of two models are not mixed"
            )
        return output

    def _announce(self, missing: Sequence[PaidRequest], sent: str, ahead: int, written: int) -> None:
        """Say once, before the first text is sent, what is sent where, and about what it will cost."""
        if not self._first_call():
            return
        read = sum(request.size for request in missing) / len(missing) / BYTES * ahead
        cost = Spent(ahead, round(read), round(ahead * written)).amounts(self.settings.prices)
        about = f"about {ahead} calls and {float(format(cost['tokens'], '.2g')):,.0f} tokens"
        if "usd" in cost:
            about += f", ${cost['usd']:.2f}"
        spent = self.budget.spent.calls
        paid = f"; {spent} calls are paid already" if spent > 0 else ""
        limits = ", ".join(f"{limit:g} {unit}" for unit, limit in self.budget.limits.items()) or "none"
        self.client.announce(f"{sent}, for {self.model} as a judge, {about} (budget: {limits}){paid}")
        answering = self.served.model
        if answering and not is_same_model(self.model, answering):
            logger.warning(
                "%s was asked for %s and answers as %s: the verdicts are that model's, and kept under its name",
                self.client.server.place, self.model, answering,
            )  # fmt: skip
        if self._paid.path is None:
            logger.warning("the verdicts are kept in memory alone: name a file with --cache, and none is paid twice")


def request_key(*parts: object) -> bytes:
    """The key of a request: a hash of all that changes its output.

    Example:
        >>> len(request_key("judge", "a prompt", 0))
        16
    """
    return blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=16).digest()


def _is_too_long(message: str) -> bool:
    message = message.lower()
    return any(word in message for word in ("context", "too long", "maximum length", "too many tokens"))
