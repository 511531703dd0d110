"""What the judged benchmarks have in common: a judge whose outputs are kept, means with errors, before beside after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float
from nashward.shortened import quoted

from ...clients.paid_calls import PaidCalls, PaidRequest, request_key
from ...config.endpoint import Endpoint, JudgeSettings
from ...config.inputs import ENDPOINT

LONGEST = 2048  # tokens of an output, as MT-Bench has it


class BenchmarkJudge:
    """A language model behind a server that judges the answers to a benchmark.

    Args:
        source: openai:MODEL.
        settings: of the judge: its server, temperature, longest output, budget.
        endpoint: how the server is called.
        file: where its outputs are kept; none is paid twice.

    Raises:
        NashwardError: another source, or settings that a benchmark's protocol does not have.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     BenchmarkJudge("openai:gpt-4.1", JudgeSettings(), Endpoint(), Path(folder) / "verdicts.sqlite").model
        'gpt-4.1'
    """

    def __init__(self, source: str, settings: JudgeSettings, endpoint: Endpoint, file: Path) -> None:
        if not source.startswith(ENDPOINT):
            raise NashwardError(
                f"--judge {quoted(source, 80)}: expected {ENDPOINT}MODEL, a language model behind a server"
            )
        self.model = source.removeprefix(ENDPOINT)
        self.calls = PaidCalls(self.model, settings, endpoint)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.calls.open(file)

    def write(self, conversations: Sequence[list[dict[str, str]]]) -> list[str | None]:
        """What the judge writes about each; None where the texts are too long for it.

        Raises:
            EndpointError, BudgetError, OSError: see ``PaidCalls.outputs``.
        """
        longest = self.calls.settings.max_tokens or LONGEST
        about = ("benchmark 1", self.calls.served.model, float(self.calls.temperature), longest)
        requests = [PaidRequest(request_key(*about, messages), messages) for messages in conversations]
        found = self.calls.outputs(requests, longest, "questions and answers")
        outputs = [found.get(request.key) for request in requests]
        return [None if output is None else output.text for output in outputs]


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error over clusters; both NaN where nothing is known.

    Attributes:
        value, standard_error: in the unit of what was averaged.
        count: values in it.
    """

    value: float
    standard_error: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float] | Float[np.ndarray, " n"], clusters: Sequence[object]) -> Mean:
        """The mean of values that are independent between clusters, as those of one question are not within it.

        Example:
            >>> Mean.of([1.0, 1.0, 3.0, 3.0], ["a", "a", "b", "b"])
            Mean(value=2.0, standard_error=1.0, count=4)
        """
        x = np.asarray(values, dtype=np.float64)
        if not len(x):
            return cls(math.nan, math.nan, 0)
        mean = float(x.mean())
        sums: dict[object, float] = {}
        for cluster, apart in zip(clusters, x - mean, strict=True):
            sums[cluster] = sums.get(cluster, 0.0) + float(apart)
        n = len(sums)
        error = math.sqrt(sum(s * s for s in sums.values()) * n / (n - 1)) / len(x) if n > 1 else math.nan
        return cls(mean, error, len(x))


def table(columns: Mapping[str, Mapping[str, str]], change: Mapping[str, str] | None = None) -> list[str]:
    """Rows by name under a column for each model, and where there are two what changed from the first to the second.

    Example:
        >>> for line in table({"base": {"all": "5.1"}, "mine": {"all": "5.4"}}, {"all": "+0.3"}):
        ...     print(line)
             base  mine  change
        all  5.1   5.4   +0.3
    """
    shown = {**columns, **({} if change is None else {"change": change})}
    rows = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [["", *shown], *([row, *(column.get(row, "") for column in shown.values())] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(shown) + 1)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
