"""A run's objectives one by one over the start, and the payoff that their combination plays for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nashward.games.objectives.multi_objective import most_of
from nashward.games.shapes import Float

from ...oracles import Cache
from ...oracles.ensembles.objectives import Combination, Objectives
from ..players import START
from ..tables import TournamentTables, tournament_tables
from ..win_rates.win_rate import WinRate


@dataclass(frozen=True)
class ObjectiveTables:
    """The win probabilities of the same players under each objective of a run.

    Attributes:
        combination: of the objectives.
        tables: by the name of the objective.

    Example:
        >>> def of(wins): return TournamentTables(("start", "new"), np.array([[[0.5, 1 - p], [p, 0.5]] for p in wins]))
        >>> floors = Combination(("long", "plain"), "floors", floors={"plain": 0.3})
        >>> found = ObjectiveTables(floors, {"long": of([0.6, 0.6]), "plain": of([0.8, 1.0])})
        >>> found.over_start()["new"].tolist()
        [0.6, 0.6]
    """

    combination: Combination
    tables: Mapping[str, TournamentTables]

    @classmethod
    def judged(
        cls,
        oracle: Objectives,
        prompts: Sequence[str],
        texts: Mapping[str, Sequence[str]],
        cache: Cache | str | Path | None = None,
    ) -> ObjectiveTables:
        """By each objective's own oracle; the arguments are those of ``tournament_tables``."""
        named = zip(oracle.combination.names, oracle.members, strict=True)
        tables = {name: tournament_tables(member, prompts, texts, cache) for name, member in named}
        return cls(oracle.combination, tables)

    @cached_property
    def game(self) -> TournamentTables | None:
        """What is played for, as a preference game of two players: under floors that of the first objective.

        None for the worst case: the smallest win rate of one is not 1 less the other's.
        """
        rule, (first, *_) = self.combination.rule, self.combination.names
        if rule == "worst-case":
            return None
        if rule == "floors":
            return self.tables[first]
        P = np.stack([self.tables[name].tables for name in self.combination.names])
        combined = most_of(P, 1 - P) if rule == "majority" else np.tensordot(self.combination.member_weights, P, 1)
        return TournamentTables(self.tables[first].players, combined)

    def least(self, player: str) -> str:
        """The objective under which a player wins least over the start."""
        return min(self.tables, key=lambda name: self.tables[name].rate(player, START).value)

    def over_start(self) -> dict[str, Float[np.ndarray, " N"]]:
        """What is played for, over the start and by prompt: that of the worst case is of each player's ``least``."""
        if self.game is not None:
            return self.game.over(START)
        (first, *_) = self.tables.values()
        return {name: self.tables[self.least(name)].over(START)[name] for name in first.players if name != START}

    def summary(self) -> dict[str, Any]:
        """In JSON values: ``payoff`` in words, and of each of ``objectives`` the win rates over the start, in percent.

        Of an objective with a floor ``kept`` says by the 95% interval whether a player keeps it (None: not known).
        """
        found: dict[str, Any] = {}
        for name, table in self.tables.items():
            floor = self.combination.floors.get(name)
            rates = {player: table.rate(player, START) for player in table.players if player != START}
            found[name] = {
                **({} if floor is None else {"floor": 100 * floor}),
                "against_start": {player: over_start(rate, floor) for player, rate in rates.items()},
            }
        return {"payoff": self.combination.payoff, "objectives": found}


def over_start(rate: WinRate, floor: float | None = None) -> dict[str, Any]:
    """A win rate over the start in percent, as ``evaluation.json`` has it; with a floor also whether it is ``kept``."""
    known = rate.prompts > 1
    return {
        "win_rate": 100 * rate.value,
        "standard_error": 100 * rate.standard_error if known else None,
        "interval": [100 * end for end in rate.interval] if known else None,
        "verdict": rate.verdict if known else None,
        **({} if floor is None else {"kept": _floor_met(rate, floor)}),
    }


def _floor_met(rate: WinRate, floor: float) -> bool | None:
    """Whether a win rate is above a floor, or below it; None where its 95% interval holds the floor."""
    if rate.prompts < 2:
        return None
    low, high = rate.interval
    return True if low > floor else False if high < floor else None
