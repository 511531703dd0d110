"""A language model behind a server as a judge."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from nashward.errors import EndpointError

from ...clients.chat import Completion
from ...clients.paid import Budget
from ...clients.paid_calls import WRITTEN, PaidCalls, PaidRequest, request_key
from ...config.endpoint import Endpoint, JudgeSettings
from ..cache import Cache
from ..models.chat import replace_surrogates
from ..protocol import Pairs, PreferenceOracle
from .protocols.answers import token_log_odds, vote_log_odds
from .protocols.references import read_references
from .protocols.user_template import named_protocol, read_rubric

THOUGHTS = 2048  # tokens for a judge that reasons, beside its verdict: models that think take more than they show

UNREAD = 10  # outputs without one verdict among them, after which a judge is called no more
SHOWN = 160  # characters of an output that has none

logger = logging.getLogger(__name__)


class EndpointJudge(PreferenceOracle):
    """A language model behind a server that speaks OpenAI's protocol, as an oracle.

    The judge reads the prompt and both responses by a protocol (``protocols``) and writes a verdict. Where the server
    gives log-probabilities, the protocol's answers differ in their first token and there is one vote,

    .. math::  P = \\frac{\\sum_v p_v w_v}{\\sum_v p_v (w_v + l_v)}

    with p_v the probability of answer v's tokens, else P is the mean of a Beta posterior of n votes
    (``vote_log_odds``). Both orders of a pair are judged, and averaged in log-odds as those of every oracle.

    A verdict that cannot be read is no vote; a pair without any is missing, and logged. Where the first ten outputs
    hold none, no other call is made. With a cache every output is kept beside it when it arrives
    (``judgements.verdicts.sqlite``): it is never paid twice, and counts in the budget. The first call, which has none
    of the texts in it, finds out which model answers and whether it gives log-probabilities.

    Args:
        model: its name on the server.
        settings: how it judges.
        endpoint: how the server is called.

    Raises:
        ValueError, OSError: a protocol, a rubric or references that cannot be read; a URL with credentials.
        EndpointError: from judging: the server does not answer, gives no log-probabilities where they are needed, or
            the first ten outputs hold no verdict.
        BudgetError: from judging: the budget is spent.

    Source: MT-Bench (arXiv 2306.05685), Arena-Hard (arXiv 2406.11939), AlpacaEval (arXiv 2404.04475).

    Example:
        >>> from nashward.llm import JudgeSettings
        >>> judge = EndpointJudge("qwen3", JudgeSettings("http://localhost:8000/v1", "letter"))
        >>> judge.name, judge.symmetric
        ('qwen3 (letter)', False)
    """

    def __init__(self, model: str, settings: JudgeSettings | None = None, endpoint: Endpoint | None = None) -> None:
        self.settings = settings or JudgeSettings()
        protocol = named_protocol(self.settings.protocol)
        self.protocol = protocol if self.settings.reasoning else replace(protocol, explains=False)
        self.rubric = None if self.settings.rubric is None else read_rubric(self.settings.rubric)
        self.references = {} if self.settings.references is None else read_references(self.settings.references)
        self.calls = PaidCalls(model, self.settings, endpoint, self.settings.votes == 1 and self.protocol.by_token)
        self.model, self.name = model, f"{model} ({self.protocol.name})"
        self._pairs: int | None = None
        self._without: dict[bytes, Completion] | None = {}  # outputs by their keys, as long as none has a verdict
        self._draw = 0  # how often verdicts were to be drawn anew

    @property
    def budget(self) -> Budget:
        """What was spent, and the most that may be."""
        return self.calls.budget

    def cache_key(self) -> str | None:
        """The model that the server reports, the protocol, and what else changes its verdicts."""
        return self._key

    @cached_property
    def _key(self) -> str:
        texts = (self.rubric, sorted(self.references.items()))
        return (
            f"endpoint 1, {self._served.model}, {self.protocol.fingerprint}, {request_key(*texts).hex()}, temperature "
            f"{float(self.temperature)!r}, {self._longest} tokens, "
            + ("token probabilities" if self._by_probability else f"{self.settings.votes} votes")
        )

    @property
    def temperature(self) -> float:
        """Of the judge: as set, else 0 for one vote and 1 for several."""
        return self.calls.temperature

    def attach_cache(self, cache: Cache) -> None:
        self.calls.open(cache.path.with_name(f"{cache.path.stem}.verdicts.sqlite"))

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
        self._expect_verdict({})
        rubric, references = ", the rubric" * (self.rubric is not None), ", the references" * bool(self.references)
        outputs = self.calls.outputs(
            list(every.values()),
            self._longest,
            f"prompts and responses{rubric}{references}",
            expected=(self._pairs or 0) * self.settings.votes,
            written=self._served.written if self.protocol.longest == 1 else WRITTEN,
            logprobs=self._by_probability,
            check=self._expect_verdict,
        )
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

    @property
    def _served(self) -> Completion:
        """The answer of the first call."""
        served = self.calls.served
        if self.protocol.longest == 1 and self.settings.votes == 1 and served.tokens is None:
            raise EndpointError(
                f"{self.calls.client.server.place} gives no log-probabilities, from which {self.protocol.name} reads "
                "its one vote: take --judge-protocol pair, or several --judge-votes"
            )
        return served

    @property
    def _by_probability(self) -> bool:
        return self.settings.votes == 1 and self.protocol.by_token and self._served.tokens is not None

    def _requests(self, prompt: str, first: str, second: str) -> list[PaidRequest]:
        reference = self.references.get(prompt)
        shown, one, other = (replace_surrogates(text) for text in (prompt, first, second))
        messages = self.protocol.messages(shown, one, other, self.rubric, reference)
        votes = range(self._draw * self.settings.votes, (self._draw + 1) * self.settings.votes)
        return [PaidRequest(request_key(self._key, prompt, first, second, vote), messages) for vote in votes]

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

    def _expect_verdict(self, outputs: Mapping[bytes, Completion]) -> None:
        """Refuse a judge whose first outputs hold no verdict: all others would be paid for nothing.

        Raises:
            EndpointError: the first ``UNREAD`` outputs have none, and no other one that is kept of this model.
        """
        if self._without is None:
            return
        if not all(map(self._is_unread, outputs.values())):
            self._without = None
            return
        self._without |= outputs
        if len(self._without) >= UNREAD:
            # pairs with a verdict are in the cache of judgements, and those without alone are asked for again
            if not all(map(self._is_unread, self.calls.stored_outputs())):
                self._without = None
                return
            *_, last = self._without.values()
            answers = ", ".join(answer.text for answer in self.protocol.answers)
            cut = "" if last.finished else f", cut off at {self._longest} tokens (--judge-max-tokens)"
            kept = "" if self.calls.budget.in_memory else "What is paid stays kept. "
            raise EndpointError(
                f"{self.name}: none of its first {UNREAD} answers holds a verdict, and it is called no more; expected "
                f"is one of {answers} as the pattern {self.protocol.pattern} finds it, and the last answer is "
                f"{_shown(last.text)}{cut}. {kept}Take a model that writes verdicts, or "
                "another --judge-protocol"
            )

    def _is_unread(self, output: Completion | None) -> bool:
        if output is None:
            return True
        return math.isnan(self._log_odds([output])) if self._by_probability else self.protocol.read(output.text) is None


def _shown(text: str) -> str:
    """An output in one line: its end, where a verdict would stand."""
    text = " ".join(text.split())
    return repr(text if len(text) <= SHOWN else f"...{text[-SHOWN:]}")
