"""Who beats whom prompt by prompt, and what the mean of these tables is as a preference game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nashward.games.analysis.leaderboard import Battles
from nashward.games.analysis.significant_cycles import significant_cycles
from nashward.games.analysis.social_choice import condorcet_winner, curl_fraction
from nashward.games.equilibria.nash import nash
from nashward.games.shapes import Float

from ..oracles import Cache, PreferenceOracle
from .tournament import tournament
from .win_rates.win_rate import WinRate

FINITE = 1e-9  # wins added to each pair, so that a score stays finite where somebody always won
FLAT = 1e-6  # of the log-odds: a probability of 0 or 1 has none


@dataclass(frozen=True)
class Played:
    """A tournament of n players on N prompts.

    Attributes:
        players: their names.
        tables: ``[N, n, n]``, P(i's response beats j's) to each prompt; NaN where it was not judged.

    Example:
        >>> tables = np.array([[[0.5, 0.875], [0.125, 0.5]], [[0.5, 0.625], [0.375, 0.5]]])
        >>> played = Played(("new", "old"), tables)
        >>> print(played.rate("new", "old"))
        0.750 ± 0.125
        >>> played.described()["exploitability"]
        {'new': 0.0, 'old': 0.25}
    """

    players: tuple[str, ...]
    tables: Float[np.ndarray, "N n n"]

    def rate(self, player: str, opponent: str) -> WinRate:
        """The win rate of one player against another, with its error over prompts.

        Raises:
            ValueError: there is no such player.
        """
        return _rate(self.tables[:, self.players.index(player), self.players.index(opponent)])

    @property
    def mean(self) -> Float[np.ndarray, "n n"]:
        """The mean table ``[n, n]``, over the prompts that were judged."""
        return np.nanmean(self.tables, axis=0)

    def described(self, share: float = 0.9, seed: int = 0) -> dict[str, Any]:
        """The game of the mean table, as JSON holds it.

        ``lottery`` is the maximal lottery, with its band over ``share`` of the draws of the prompts where there are
        several; ``exploitability`` of each player is max_j P(j beats it) - 1/2, half its duality gap;
        ``bradley_terry`` the scores in nats and the largest win rate that they miss; ``curl`` the share of the log-odds
        that goes round; ``cycles`` the rings of three that the bootstrap confirms.
        """
        wins = np.nan_to_num(self.tables)
        battles = Battles(self.players, wins, FINITE)
        ratings, mean = battles.ratings, self.mean
        bands = battles.bands(share, seed=seed) if len(self.tables) > 1 else None
        winner = int(condorcet_winner(mean))
        odds = np.log(np.clip(mean, FLAT, 1 - FLAT)) - np.log(np.clip(1 - mean, FLAT, 1 - FLAT))
        return {
            "players": list(self.players),
            "prompts": len(self.tables),
            "P": mean.tolist(),
            "lottery": self._by_player(nash(battles.game).policy),
            "lottery_band": None
            if bands is None
            else {"share": share, "low": self._by_player(bands.low), "high": self._by_player(bands.high)},
            "condorcet_winner": self.players[winner] if winner >= 0 else None,
            "exploitability": self._by_player(mean.max(0) - 0.5),
            "bradley_terry": {
                "scores": self._by_player(ratings.scores),
                "largest_residual": float(ratings.residual.abs().max()),
            },
            "curl": float(curl_fraction(odds)),
            "cycles": [
                {"players": [self.players[i] for i in cycle.players], "share": cycle.share}
                for cycle in significant_cycles(self.tables, seed=seed)
            ],
        }  # fmt: skip

    def _by_player(self, values: Any) -> dict[str, float]:
        return dict(zip(self.players, values.tolist(), strict=True))


def play(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    cache: Cache | str | Path | None = None,
) -> Played:
    """Every player's response to each prompt against every other's; see ``tournament``.

    Args:
        oracle: the judge.
        prompts: N instructions.
        texts: for each of n players its N responses.
        cache: see ``preference_matrices``.

    Raises:
        ValueError: as ``tournament``.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> played = play(Length(), ["Say hello."], {"new": ["Hello!"], "old": ["Hi."]})
        >>> played.mean.round(2).tolist()
        [[0.5, 0.64], [0.36, 0.5]]
    """
    wins = tournament(oracle, prompts, texts, cache=cache).battles.wins
    tables = np.where(wins + wins.swapaxes(1, 2) > 0, wins, np.nan)  # nobody won: not judged
    own = np.arange(len(texts))
    tables[:, own, own] = 0.5
    return Played(tuple(texts), tables)


def _rate(values: Float[np.ndarray, " N"]) -> WinRate:
    known = values[~np.isnan(values)]
    error = float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else float("nan")
    return WinRate(float(known.mean()), error, len(known))
