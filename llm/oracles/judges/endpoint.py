"""A language model behind a server as a judge."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np

from nashward.counted import counted
from nashward.errors import EndpointError, NashwardError

from ...clients.chat import Chat, Completion
from ...clients.client import Client
from ...clients.paid import Budget, PaidOutputs, Spent
from ...config.endpoint import Endpoint, JudgeSettings, server_url
from ...processes import processes
from ..cache import Cache
from ..models.chat import replace_surrogates
from ..protocol import Pairs, PreferenceOracle
from .protocols.answers import token_log_odds, vote_log_odds
from .protocols.protocol_of_judge import Turns
from .protocols.references import read_references
from .protocols.user_template import named_protocol, read_rubric

PREFIX = "openai:"
THOUGHTS = 2048  # tokens for a judge that reasons, beside its verdict: models that think take more than they show
PROBE: Turns = [{"role": "user", "content": "Write the letter A."}]
PROBE_TOKENS = 16
BYTES = 4  # of a token, in the estimate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    """One vote on one order of a pair."""

    key: bytes
    messages: Turns
    seed: int

    @property
    def size(self) -> int:
        return sum(len(turn["content"].encode(errors="replace")) for turn in self.messages)


class EndpointJudge(PreferenceOracle):
    """A language model behind a server that speaks OpenAI's protocol, as an oracle.

    The judge reads the prompt and both responses by a protocol (``protocols``) and writes a verdict. Where the server
    gives log-probabilities, the protocol's answers differ in their first token and there is one vote,

    .. math::  P = \\frac{\\sum_v p_v w_v}{\\sum_v p_v (w_v + l_v)}

    with p_v the probability of answer v's tokens, else P is the mean of a Beta posterior of n votes
    (``vote_log_odds``). Both orders of a pair are judged, and averaged in log-odds as those of every oracle.

    A verdict that cannot be read is no vote; a pair without any is missing, and logged. With a cache every output is
    kept beside it when it arrives (``judgements.verdicts.sqlite``): it is never paid twice, and counts in the budget.
    The first call, which has none of the texts in it, finds out which model answers and whether it gives
    log-probabilities.

    Args:
        model: its name on the server.
        settings: how it judges.
        endpoint: how the server is called.

    Raises:
        ValueError, OSError: a protocol, a rubric or references that cannot be read; a URL with credentials.
        EndpointError: from judging: the server does not answer, or gives no log-probabilities where they are needed.
        BudgetError: from judging: the budget is spent.

    Source: MT-Bench (arXiv 2306.05685), Arena-Hard (arXiv 2406.11939), AlpacaEval (arXiv 2404.04475).

    Example:
        >>> from nashward.llm import JudgeSettings
        >>> judge = EndpointJudge("qwen3", JudgeSettings("http://localhost:8000/v1", "letter"))
        >>> judge.name, judge.symmetric
        ('qwen3 (letter)', False)
    """

    def __init__(self, model: str, settings: JudgeSettings | None = None, endpoint: Endpoint | None = None) -> None:
        if not model.strip():
            raise NashwardError(f"{PREFIX} lacks the name of a model: {PREFIX}MODEL, as the server calls it")
        self.settings = settings or JudgeSettings()
        protocol = named_protocol(self.settings.protocol)
        self.protocol = protocol if self.settings.reasoning else replace(protocol, explains=False)
        self.rubric = None if self.settings.rubric is None else read_rubric(self.settings.rubric)
        self.references = {} if self.settings.references is None else read_references(self.settings.references)
        self.client = Client(server_url(self.settings.base_url), endpoint)
        self.chat = Chat(self.client, model)
        self.model, self.name = model, f"{model} ({self.protocol.name})"
        self._pairs: int | None = None
        self._draw = 0  # how often verdicts were to be drawn anew
        self.budget = Budget(self.settings.limits, self.settings.prices, f"budget of {model}, {self.settings}")
        self._first_call = processes.once(f"first call of {model}, {self.settings}")
        self._open(None)

    def cache_key(self) -> str | None:
        """The model that the server reports, the protocol, and what else changes its verdicts."""
        return self._key

    @cached_property
    def _key(self) -> str:
        texts = (self.rubric, sorted(self.references.items()))
        return (
            f"endpoint 1, {self._served.model}, {self.protocol.fingerprint}, {_hash(repr(texts)).hex()}, temperature "
            f"{float(self.temperature)!r}, {self._longest} tokens, "
            + ("token probabilities" if self._by_probability else f"{counted(self.settings.votes, 'vote')}")
        )

    @property
    def temperature(self) -> float:
        """Of the judge: as set, else 0 for one vote and 1 for several."""
        given = self.settings.temperature
        return (0.0 if self.settings.votes == 1 else 1.0) if given is None else given

    def attach_cache(self, cache: Cache) -> None:
        path = cache.path.with_name(f"{cache.path.stem}.verdicts.sqlite")
        if self._paid.path != path:
            self._open(path)

    def expect(self, pairs: int) -> None:
        self._pairs = pairs

    def redraw(self) -> None:
        self._draw += 1

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        requests = [
            [self._requests(prompt, texts[i], texts[j]) for i, j in prompt_pairs]
            for prompt, texts, prompt_pairs in zip(prompts, candidates, pairs, strict=True)
        ]
        every = {request.key: request for rows in requests for votes in rows for request in votes}
        outputs = {key: output for key in every if (output := self._paid.get(key)) is not None}
        missing = [request for key, request in every.items() if key not in outputs]
        if missing:
            self._announce(missing)
            for number, output in self.client.as_completed(self._output, missing):
                if output is not None:
                    outputs[missing[number].key] = output
        logits = [
            np.array([self._log_odds([outputs.get(request.key) for request in votes]) for votes in rows])
            for rows in requests
        ]
        unread = sum(self._is_unread(outputs.get(key)) for key in every)
        if unread:
            logger.warning("%s: %d of %d verdicts cannot be read and count as missing", self.name, unread, len(every))
        return logits

    @property
    def _longest(self) -> int:
        """Tokens of an output."""
        if self.settings.max_tokens is not None:
            return self.settings.max_tokens
        return THOUGHTS if self.protocol.reasons or not self._by_probability else self.protocol.longest

    @cached_property
    def _served(self) -> Completion:
        """The answer of the first call, which no budget counts: until it is known who judges, nothing is known paid."""
        ask = self.settings.votes == 1 and self.protocol.by_token
        served = self.chat.complete(PROBE, PROBE_TOKENS, self.temperature, None, ask)
        if self.protocol.longest == 1 and self.settings.votes == 1 and served.tokens is None:
            raise EndpointError(
                f"{self.client.server.place} gives no log-probabilities, from which {self.protocol.name} reads its one "
                "vote: take --judge-protocol pair, or several --judge-votes"
            )
        return served

    @property
    def _by_probability(self) -> bool:
        return self.settings.votes == 1 and self.protocol.by_token and self._served.tokens is not None

    def _open(self, path: Path | None) -> None:
        """Keep outputs at that path, and count in the budget what is there."""
        before, self._paid = getattr(self, "_paid", None), PaidOutputs(path)
        if path is not None:
            self.budget.count(path, self._paid.spent(self.model))
        if before is not None:
            for key, judge, output in before.items() if before.path is None else []:  # before there was a file
                self._paid.put(key, judge, output)
            before.close()

    def _requests(self, prompt: str, first: str, second: str) -> list[_Request]:
        reference = self.references.get(prompt)
        shown, one, other = (replace_surrogates(text) for text in (prompt, first, second))
        messages = self.protocol.messages(shown, one, other, self.rubric, reference)
        votes = range(self._draw * self.settings.votes, (self._draw + 1) * self.settings.votes)
        hashes = [_hash(repr((self._key, prompt, first, second, vote))) for vote in votes]
        return [_Request(hashed, messages, int.from_bytes(hashed[:8], "big")) for hashed in hashes]

    def _output(self, request: _Request) -> Completion | None:
        """What the judge writes, kept; None where the texts are too long for it."""
        size = request.size
        reserved, spent = self.budget.reserve(size, self._longest), None
        try:
            output = self.chat.complete(
                request.messages, self._longest, self.temperature, request.seed, self._by_probability
            )
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
        if output.model != self._served.model:
            raise EndpointError(
                f"{self.client.server.place} answers as {output.model or 'no model'} now, and before as "
                f"{self._served.model or 'no model'}: verdicts of two models are not mixed"
            )
        return output

    def _log_odds(self, votes: Sequence[Completion | None]) -> float:
        if not self._by_probability:
            return vote_log_odds([None if vote is None else self.protocol.read(vote.text) for vote in votes])
        (output,) = votes
        if output is None or output.tokens is None:
            return math.nan
        if not self.protocol.reasons and not self.protocol.lead:
            place = 0
        else:
            text = "".join(token.text for token in output.tokens)
            found = self.protocol.found(text)
            if found is None:
                return math.nan
            place, end = 0, len(output.tokens[0].text)
            while end <= found[1]:
                place += 1
                end += len(output.tokens[place].text)
        return token_log_odds(self.protocol.answers, output.tokens[place].likeliest, self.protocol.frame)

    def _is_unread(self, output: Completion | None) -> bool:
        if output is None:
            return True
        return math.isnan(self._log_odds([output])) if self._by_probability else self.protocol.read(output.text) is None

    def _announce(self, missing: Sequence[_Request]) -> None:
        """Say once, before the first text is sent, what is sent where, and about what it will cost."""
        if not self._first_call():
            return
        votes, calls = self.settings.votes, len(missing)
        ahead = max(calls, (self._pairs or 0) * votes)
        read = sum(request.size for request in missing) / calls / BYTES * ahead
        written = ahead * (self._served.written if self.protocol.longest == 1 else min(self._longest, 200))
        cost = Spent(ahead, round(read), round(written)).amounts(self.settings.prices)
        about = f"about {ahead} calls and {cost['tokens']:.2g} tokens"
        if "usd" in cost:
            about += f", ${cost['usd']:.2f}"
        spent = self.budget.spent.calls
        paid = f"; {spent} calls are paid already" if spent > 0 else ""
        limits = ", ".join(f"{limit:g} {unit}" for unit, limit in self.budget.limits.items()) or "none"
        self.client.announce(
            f"prompts and responses{', the rubric' * (self.rubric is not None)}"
            f"{', the references' * bool(self.references)}, for {self.model} as a judge, {about} (budget: {limits})"
            f"{paid}"
        )
        if self._paid.path is None:
            logger.warning("the verdicts are kept in memory alone: name a file with --cache, and none is paid twice")


def _is_too_long(message: str) -> bool:
    message = message.lower()
    return any(word in message for word in ("context", "too long", "maximum length", "too many tokens"))


def _hash(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
