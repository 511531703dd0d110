"""Who beats whom prompt by prompt, and what the mean of these tables is as a preference game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...games.battles import Battles
from ...games.social_choice import condorcet_winner, curl_fraction
from ...games.sure_cycles import sure_cycles
from ..oracles import Cache, PreferenceOracle, preference_matrices
from .win_rate import WinRate

CHUNK = 64  # prompts judged at once
FINITE = 1e-9  # wins added to each pair, so that a score stays finite where somebody always won
FLAT = 1e-6  # of the log-odds: a probability of 0 or 1 has none


@dataclass(frozen=True)
class Played:
    """A tournament of n players on N prompts.

    Attributes:
        players: their names.
        tables: [N, n, n], P(i's response beats j's) to each prompt; NaN where it was not judged.
    """

    players: tuple[str, ...]
    tables: np.ndarray

    def rate(self, player: str, opponent: str) -> WinRate:
        """The win rate of one player against another, with its error over prompts."""
        return _rate(self.tables[:, self.players.index(player), self.players.index(opponent)])

    @property
    def mean(self) -> np.ndarray:
        """[n, n], over the prompts that were judged."""
        return np.nanmean(self.tables, axis=0)

    def described(self, share: float = 0.9, seed: int = 0) -> dict[str, Any]:
        """The game of the mean table, as JSON holds it.

        ``lottery`` is the maximal lottery with its band over ``share`` of the prompts drawn again; ``exploitability``
        of each player is max_j P(j beats it) - 1/2, half its duality gap; ``bradley_terry`` the scores in nats and the
        largest win rate that they miss; ``curl`` the share of the log-odds that goes round; ``cycles`` the rings of
        three that the bootstrap confirms.
        """
        wins = np.nan_to_num(self.tables)
        battles = Battles(self.players, wins, FINITE)
        bands, ratings, mean = battles.bands(share, seed=seed), battles.ratings, self.mean
        winner = int(condorcet_winner(mean))
        odds = np.log(np.clip(mean, FLAT, 1 - FLAT)) - np.log(np.clip(1 - mean, FLAT, 1 - FLAT))
        return {
            "players": list(self.players),
            "prompts": len(self.tables),
            "P": mean.tolist(),
            "lottery": dict(zip(self.players, bands.lottery.tolist(), strict=True)),
            "lottery_band": {
                "share": share,
                **{name: [low, high] for name, low, high in
                   zip(self.players, bands.low.tolist(), bands.high.tolist(), strict=True)},
            },
            "condorcet_winner": self.players[winner] if winner >= 0 else None,
            "exploitability": dict(zip(self.players, (mean.max(0) - 0.5).tolist(), strict=True)),
            "bradley_terry": {
                "scores": dict(zip(self.players, ratings.scores.tolist(), strict=True)),
                "largest_residual": float(ratings.residual.abs().max()),
            },
            "curl": float(curl_fraction(odds)),
            "cycles": [
                {"players": [self.players[i] for i in cycle.players], "share": cycle.share}
                for cycle in sure_cycles(self.tables, seed=seed)
            ],
        }  # fmt: skip


def play(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    cache: Cache | str | Path | None = None,
) -> Played:
    """Every player's response to each prompt against every other's.

    Raises:
        ValueError: fewer than two players, or a pair that was never judged.
    """
    players = tuple(texts)
    if len(players) < 2:
        raise ValueError(f"{len(players)} players; a tournament needs at least 2")
    tables = []
    for start in range(0, len(prompts), CHUNK):
        part = slice(start, start + CHUNK)
        candidates = [list(own) for own in zip(*(texts[name][part] for name in players), strict=True)]
        results = preference_matrices(oracle, prompts[part], candidates, cache=cache)
        tables += [result.P for result in results]
    found = Played(players, np.stack(tables))
    silent = np.argwhere(np.isnan(found.tables).all(0))
    if len(silent):
        a, b = silent[0]
        raise ValueError(f"{oracle.name} judged no response of {players[a]} against one of {players[b]}")
    return found


def _rate(values: np.ndarray) -> WinRate:
    known = values[~np.isnan(values)]
    error = float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else float("nan")
    return WinRate(float(known.mean()), error, len(known))
