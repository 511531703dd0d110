"""A correction by its name, as a command and a file of settings give it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError

from ..cache import AnyCache
from ..ensembles.source import EnsembleSource
from ..fitting.fit import warn_of_fitted
from ..fitting.votes import read_votes
from ..protocol import PreferenceOracle
from ..spec import number, parsed
from .corrected import Calibrated, Corrected, StyleControl, Unflipped, WithTies

RULES = {"style": ("pairs",), "temperature": ("pairs", "by"), "flips": ("pairs", "by"), "ties": ("pairs", "by")}
KINDS: dict[str, Any] = {"style": StyleControl, "temperature": Calibrated, "flips": Unflipped, "ties": WithTies}


@dataclass(frozen=True)
class CorrectedSource:
    """A source of an oracle, and how the oracle is corrected.

    Attributes:
        source: as ``as_oracle`` takes it.
        correct: ``style:pairs=FILE``, ``temperature:pairs=FILE``, ``flips:pairs=FILE`` or ``ties:pairs=FILE``, by
            these pairs (``read_votes``; of style the labels are not read); or all but style with ``by=NUMBER``.

    Raises:
        ValueError: an unknown correction or setting, or neither pairs nor a number, or both.

    Example:
        >>> CorrectedSource("judge-a", "temperature:by=2").correct
        'temperature:by=2'
    """

    source: Any
    correct: str

    def __post_init__(self) -> None:
        rule, settings = parsed(self.correct, "correct", RULES)
        number(settings, "by")
        if len(settings) != 1:
            one = f"{rule}:pairs=FILE" + (f" or {rule}:by=NUMBER" if "by" in RULES[rule] else "")
            raise NashwardError(f"correct {self.correct!r}: expected {one}")

    @property
    def rule(self) -> str:
        """The correction without its setting."""
        return parsed(self.correct, "correct", RULES)[0]

    @property
    def settings(self) -> dict[str, str]:
        """Its setting, as it is written."""
        return parsed(self.correct, "correct", RULES)[1]

    @property
    def members(self) -> tuple[Any, ...]:
        """The source, as a tuple of one."""
        return (self.source,)

    def load(self, load: Callable[[Any], PreferenceOracle], cache: AnyCache = None) -> Corrected:
        """The corrected oracle; the one within is loaded by the function, and judges the pairs with the cache.

        Raises:
            ValueError, OSError: of the oracle, of the file, of a fit.
        """
        oracle, kind = load(self.source), KINDS[self.rule]
        by = number(self.settings, "by")
        if by is not None:
            corrected: Corrected = kind(oracle, by)
        else:
            file = Path(self.settings["pairs"]).expanduser()
            votes = read_votes(file)
            if kind.by_labels:
                warn_of_fitted(base_sources(self.source), votes, str(file))
            corrected = kind.fitted(oracle, votes, cache)
        return corrected


def files_of_pairs(source: Any) -> dict[str, str]:
    """The files of pairs that corrections and rules of ensembles are fitted to, by their specs.

    Example:
        >>> files_of_pairs(CorrectedSource("judge-a", "temperature:by=2"))  # fitted to nothing
        {}
    """
    if not isinstance(source, EnsembleSource | CorrectedSource):
        return {}
    spec = source.combine if isinstance(source, EnsembleSource) else source.correct
    own = {spec: source.settings["pairs"]} if "pairs" in source.settings else {}
    return own | {spec: file for member in source.members for spec, file in files_of_pairs(member).items()}


def base_sources(source: Any) -> list[Any]:
    """The sources of the oracles that an ensemble or a correction consults, or the source itself.

    Example:
        >>> base_sources(EnsembleSource(("a", "b"))), base_sources("c")
        (['a', 'b'], ['c'])
    """
    if isinstance(source, EnsembleSource | CorrectedSource):
        return [base for member in source.members for base in base_sources(member)]
    return [source]
