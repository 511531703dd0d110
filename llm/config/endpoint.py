"""The settings of calls to a server, and those of a language model behind one that judges."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .fields import setting

OPENAI = "https://api.openai.com/v1"
SIZES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Endpoint:
    """How a server is called, whatever it is called for.

    Attributes:
        key_variable: the environment variable that holds the key. The key is read when a call is made and never
            written; None where a server wants none.
        concurrency: calls at once.
        timeout: seconds for one call, from its connection to its last byte.
        retries: how often a call is repeated after a failure that may pass: no connection, a timeout, a cut answer,
            429, 5xx.

    Raises:
        ValueError: a number out of its range, or a name that no variable has.

    Example:
        >>> Endpoint(concurrency=4).timeout
        300.0
    """

    key_variable: str = setting(
        "OPENAI_API_KEY", "the environment variable that holds the server's key", "servers", option="key-variable"
    )
    concurrency: int = setting(16, "calls to a server at once", "servers")
    timeout: float = setting(300.0, "seconds for one call", "servers")
    retries: int = setting(8, "repeats of a call after a failure that may pass", "servers")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_variable):  # perhaps the key itself: it is not repeated
            raise NashwardError(
                "key_variable is no name of an environment variable; put the key into one, and give its name"
            )
        if self.concurrency < 1 or self.retries < 0:
            raise NashwardError(
                f"concurrency must be at least 1 and retries at least 0, got {self.concurrency} and {self.retries}"
            )
        if not 0 < self.timeout < math.inf:
            raise NashwardError(f"timeout must be a positive number of seconds, got {self.timeout}")


@dataclass(frozen=True)
class JudgeSettings:
    """How a language model behind an endpoint judges.

    Attributes:
        base_url: the server's URL, without credentials; None: the variable OPENAI_BASE_URL, else OpenAI's own.
        protocol: see ``oracles.judges.protocols``.
        rubric: a file of what counts.
        references: prompts with a column ``reference``, an answer that is known to be right.
        reasoning: whether the judge writes down its reasons before its verdict.
        votes: n, the votes for each order of a pair; several need a temperature above 0.
        temperature: None: 0 for one vote, 1 for several.
        quantise: keep a local judge's weights in 4 bits.
        max_tokens: the longest output; None: as the protocol needs. Models that think need more.
        budget: the most that may be spent, over all starts: calls, tokens, dollars, or several of these.
        price: dollars per million tokens, read and written: "0.15/0.60".

    Raises:
        ValueError: a number out of its range, a base URL with credentials or a query, a budget or a price that cannot
            be read, or dollars without a price.

    Example:
        >>> JudgeSettings(budget="2000 calls, 3M tokens").limits
        {'calls': 2000.0, 'tokens': 3000000.0}
    """

    base_url: str | None = setting(
        None, f"URL of the server of --oracle openai:MODEL (default: $OPENAI_BASE_URL, else {OPENAI})", "judging",
        option="judge-url",
    )  # fmt: skip
    protocol: str = setting(
        "pair", "how a language model judges: pair, five-point, letter, or a Jinja file", "judging",
        option="judge-protocol",
    )  # fmt: skip
    rubric: str | None = setting(None, "a file that tells the judge what counts", "judging")
    references: str | None = setting(
        None, "prompts with a column reference: the right answer, for the judge", "judging"
    )
    reasoning: bool = setting(
        True, "the judge gives reasons before its verdict (default)", "judging", option="judge-reasoning"
    )
    votes: int = setting(1, "the judge's votes for each order of a pair", "judging", option="judge-votes")
    temperature: float | None = setting(
        None, "the judge's temperature (default: 0 for one vote, 1 for several)", "judging", option="judge-temperature"
    )
    quantise: bool = setting(False, "read the weights of a judge:MODEL in 4 bits", "judging", option="judge-quantise")
    max_tokens: int | None = setting(
        None, "the longest output of the judge (default: as its protocol needs)", "judging", option="judge-max-tokens"
    )
    budget: str | None = setting(
        None, 'the most that the judge may cost over all starts, as "2000 calls, 3M tokens, 5 USD"', "judging",
        option="judge-budget",
    )  # fmt: skip
    price: str | None = setting(
        None, 'dollars per million tokens read and written, as "0.15/0.60"', "judging", option="judge-price"
    )

    def __post_init__(self) -> None:
        if self.base_url is not None:
            check_url(self.base_url)
        if self.votes < 1:
            raise NashwardError(f"votes must be at least 1, got {self.votes}")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise NashwardError(f"the judge's temperature must be at least 0, got {self.temperature}")
        if self.votes > 1 and self.temperature == 0:
            raise NashwardError(
                f"{self.votes} votes at temperature 0 are one vote: take 1 vote, or a temperature above 0"
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise NashwardError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if "usd" in self.limits and self.price is None:
            raise NashwardError("a budget in USD needs the price of a million tokens, read and written: 0.15/0.60")
        _ = self.prices

    @property
    def limits(self) -> dict[str, float]:
        """The budget by its unit: "calls", "tokens", "usd"; empty where there is none."""
        limits: dict[str, float] = {}
        for part in [] if self.budget is None else self.budget.split(","):
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMG]?)\s*(calls?|tokens?|USD|usd)\s*", part)
            if match is None:
                raise NashwardError(
                    f'budget {quoted(self.budget, 80)}: expected calls, tokens or USD, as "2000 calls, 5 USD"'
                )
            unit = {"call": "calls", "token": "tokens"}.get(match[3].lower(), match[3].lower())
            if unit in limits:
                raise NashwardError(f"budget {quoted(self.budget, 80)} has {unit} twice")
            limits[unit] = float(match[1]) * SIZES[match[2]]
        return limits

    @property
    def prices(self) -> tuple[float, float] | None:
        """Dollars per token read, and per token written."""
        if self.price is None:
            return None
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*", self.price)
        if match is None:
            raise NashwardError(
                f'price {quoted(self.price, 40)}: expected dollars for a million tokens, as "0.15/0.60"'
            )
        return float(match[1]) / 1e6, float(match[2]) / 1e6


def server_url(given: str | None) -> str:
    """The URL of a server: as given, else that of the variable OPENAI_BASE_URL, else OpenAI's own; no slash ends it.

    Example:
        >>> server_url("http://localhost:8000/v1/")
        'http://localhost:8000/v1'
    """
    return (given or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI).rstrip("/")


def check_url(url: str, what: str = "the URL of the server") -> str:
    """The URL without the slashes at its end.

    Args:
        url: that of a server, as "http://localhost:8000/v1".
        what: what it is, for errors, which never show it.

    Raises:
        NashwardError: no http or https URL of a host, or one with credentials, a query or a fragment.

    Example:
        >>> check_url("http://localhost:8000/v1/")
        'http://localhost:8000/v1'
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise NashwardError(f"{what} cannot be read; expected http(s)://HOST[:PORT]/v1") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise NashwardError(
            f"{what} has credentials in it, which would be written to files; put the key into a variable"
        )
    if parts.query or parts.fragment:
        raise NashwardError(f"{what} has a query or a fragment; expected http(s)://HOST[:PORT]/v1 alone")
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f]", url):
        raise NashwardError(f"{what} cannot be read; expected http(s)://HOST[:PORT]/v1")
    return url.rstrip("/")
