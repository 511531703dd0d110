"""An ensemble by the names of its members and of its rule, as a command and a file of settings give it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nashward.errors import NashwardError

from ..cache import AnyCache
from ..diagnosis.probe import probe_pairs
from ..fitting.fit import warn_of_fitted
from ..fitting.votes import Vote, read_votes
from ..protocol import PreferenceOracle
from ..spec import number, numbers, parsed
from .ensemble import Ensemble
from .objectives import OWN, Combination, Objectives, rules_of
from .weights import accuracy_weights, unlabelled_accuracies

logger = logging.getLogger(__name__)

SETTINGS = {  # of each rule
    "log-odds": ("weights", "pessimism"),
    "probability": ("weights", "pessimism"),
    "majority": ("pessimism",),
    "accuracy": ("pairs", "pessimism"),
    "dawid-skene": ("pairs", "pessimism"),
}
LEAST = 30  # pairs that accuracies are measured on without a warning


@dataclass(frozen=True)
class EnsembleSource:
    """Several sources of oracles, and how they are combined.

    Attributes:
        members: each as ``as_oracle`` takes it.
        combine: a rule with its settings, each behind a colon:

            - ``log-odds``, ``probability``, ``majority``: those of ``Ensemble``; the first two may have
              ``weights=2,1,1``;
            - ``accuracy:pairs=FILE``: a weighted majority by the accuracies on labelled pairs (``read_votes``) that no
              member was trained on;
            - ``dawid-skene:pairs=FILE``: the same, by the accuracies that the members' agreement on these pairs shows;
              it takes three members, and reads no label;
            - ``pessimism=K`` behind any of them.

            Of objectives it is one of the rules of ``Combination``: ``weights:NAME=2``, ``worst-case:tau=0.1``,
            ``floors:NAME=0.45``, ``lexicographic:epsilon=0.1``, ``majority``.
        names: of the objectives, one a member; none: the members judge the same.

    Raises:
        ValueError: no member, an unknown rule or setting, a value that is no number, or a file that is not given.

    Example:
        >>> EnsembleSource(("judge-a", "judge-b"), "log-odds:weights=2,1").rule
        'log-odds'
        >>> EnsembleSource(("judge-a", "judge-b"), "median")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: combine 'median': there is no rule median; ...
    """

    members: tuple[Any, ...]
    combine: str = "log-odds"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.members:
            raise NashwardError("an ensemble has at least one member, got none")
        rule = self.combine.partition(":")[0]
        if not self.names and rule in OWN and rule not in SETTINGS:
            raise NashwardError(
                f"combine {self.combine!r}: {rule} combines the objectives of a run: give nashward align each as "
                "--objective NAME=ORACLE, in place of --oracle; several oracles are one by log-odds, probability or "
                "majority, as log-odds:weights=2,1"
            )
        if self.names:
            _ = self.combination  # its own checks
            return
        settings = self.settings
        if "pairs" in SETTINGS[self.rule] and not settings.get("pairs"):
            raise NashwardError(
                f"combine {self.combine!r}: {self.rule} needs pairs to measure accuracies on: {self.rule}:pairs=FILE"
            )
        number(settings, "pessimism")
        numbers(settings, "weights")

    @property
    def combination(self) -> Combination | None:
        """How objectives are combined; None of members that judge the same."""
        return Combination.read(self.names, self.combine) if self.names else None

    @property
    def rule(self) -> str:
        """The rule without its settings."""
        return parsed(self.combine, "combine", self._rules, self.names)[0]

    @property
    def settings(self) -> dict[str, str]:
        """The settings of the rule, as they are written."""
        return parsed(self.combine, "combine", self._rules, self.names)[1]

    @property
    def _rules(self) -> Mapping[str, Sequence[str]]:
        return rules_of(self.names) if self.names else SETTINGS

    def load(self, load: Callable[[Any], PreferenceOracle], cache: AnyCache = None) -> Ensemble:
        """The ensemble; its members are loaded by the function, and judge pairs of labels with the cache.

        Raises:
            ValueError, OSError: of a member, of the file of pairs, of weights that do not fit.
        """
        members = [load(source) for source in self.members]
        if self.combination is not None:
            return Objectives(members, self.combination)
        weights, pessimism = numbers(self.settings, "weights"), number(self.settings, "pessimism") or 0.0
        if self.rule not in ("accuracy", "dawid-skene"):
            return Ensemble(members, self.rule, weights, pessimism=pessimism)  # type: ignore[arg-type]
        votes = read_votes(Path(self.settings["pairs"]).expanduser())
        if (pairs := len(probe_pairs(votes))) < LEAST:
            logger.warning("the accuracies of %d oracles are measured on %d pairs alone", len(members), pairs)
        weights = self._measured(members, votes, cache)
        for member, weight in zip(members, weights, strict=True):
            accuracy = 1 / (1 + np.exp(-weight))
            logger.info("%s: accuracy %.3f", member.name, accuracy)
            if weight < 0:  # as Nitzan & Paroush have it: who is wrong more often than right tells by it who is better
                logger.warning(
                    "%s counts inverted, with weight %.2f: by an accuracy of %.3f it is wrong more often than right, "
                    "so that what it rejects gains; leave it out where that is not meant",
                    member.name, weight, accuracy,
                )  # fmt: skip
        name = f"{self.rule} of {', '.join(member.name for member in members)}"
        return Ensemble(members, "weighted-majority", weights, pessimism=pessimism, name=name)

    def _measured(self, members: Sequence[PreferenceOracle], votes: Sequence[Vote], cache: AnyCache) -> list[float]:
        if self.rule == "accuracy":
            warn_of_fitted(self.members, votes, self.settings["pairs"])
            return accuracy_weights(members, votes, cache)
        fit = unlabelled_accuracies(members, votes, cache)
        for member, suspect, accuracy in zip(members, fit.suspect, fit.accuracy, strict=True):
            if suspect and accuracy >= 0.5:  # below that it counts inverted, which is said where it is counted
                logger.warning(
                    "%s looks no better than half as accurate as the others (accuracy %.2f by Dawid-Skene)",
                    member.name,
                    accuracy,
                )
        return [float(weight) for weight in fit.weights]
