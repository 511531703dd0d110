"""The win-probability table of each prompt, and the preference game of their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nashward.games.analysis.leaderboard import Battles
from nashward.games.analysis.pair_tests import winner_p_value
from nashward.games.analysis.significant_cycles import cycles_below
from nashward.games.analysis.social_choice import condorcet_winner, curl_fraction
from nashward.games.shapes import Float

from ..oracles import Cache, PreferenceOracle
from .tournament import tournament
from .win_rates.win_rate import WinRate

SMOOTHING = 1e-9  # wins added to each pair, so that scores stay finite where a player wins every comparison
LEVEL = 0.05  # of a test: what is as likely by chance is noise
CLIP = 1e-6  # of probabilities before the logit, which is infinite at 0 and 1


@dataclass(frozen=True)
class TournamentTables:
    """The win probabilities of n players against each other on each of N prompts.

    Attributes:
        players: the names of the players.
        tables: ``[N, n, n]``, P(the response of i beats that of j) for each prompt; NaN where the pair was not judged.

    Example:
        >>> tables = np.array([[[0.5, 0.875], [0.125, 0.5]], [[0.5, 0.625], [0.375, 0.5]]])
        >>> game = TournamentTables(("new", "old"), tables)
        >>> print(game.rate("new", "old"))
        0.750 ± 0.306
        >>> game.summary()["exploitability"]
        {'new': 0.0, 'old': 0.25}
    """

    players: tuple[str, ...]
    tables: Float[np.ndarray, "N n n"]

    def rate(self, player: str, opponent: str) -> WinRate:
        """The win rate of a player against an opponent, with its standard error over prompts.

        Raises:
            ValueError: there is no player of that name.
        """
        return _mean_win_rate(self.tables[:, self.players.index(player), self.players.index(opponent)])

    def over(self, opponent: str) -> dict[str, Float[np.ndarray, " N"]]:
        """P(the response of a player beats the opponent's) to each prompt, for each of the others."""
        place = self.players.index(opponent)
        return {name: self.tables[:, k, place] for k, name in enumerate(self.players) if k != place}

    @property
    def mean(self) -> Float[np.ndarray, "n n"]:
        """The mean over prompts ``[n, n]``, without judgements that are missing."""
        return np.nanmean(self.tables, axis=0)

    @property
    def missing(self) -> int:
        """The number of pairs of responses without a judgement."""
        return int(np.isnan(self.tables).sum()) // 2

    def summary(self, share: float = 0.9, seed: int = 0) -> dict[str, Any]:
        """The preference game of the mean table in values that JSON can hold.

        ``standard_errors`` are those of ``P`` over prompts; ``condorcet_winner`` is that of the mean table, and
        ``condorcet_p_value`` says how likely one as clear is a chance of the prompts (``winner_p_value``), None of one
        prompt;
        ``lottery`` is the maximal lottery, with the bootstrap band that covers ``share`` of the resampled prompts
        where there are several, and of each player the share of these draws that it is the whole lottery of;
        ``exploitability`` of each player is max_j P(j beats it) - 1/2, half its duality gap;
        ``bradley_terry`` has the scores in nats and the largest residual of a win rate; ``curl`` is the share of the
        log-odds that no score explains; ``cycles`` are the cycles of three players that are no chance of the prompts.
        Pairs are tested as ``WinRate.verdict`` does, for as many as there are: who beats every other one, and who
        beats the next in a cycle, has the verdict "beats".

        Args:
            share: of the bootstrap draws that the band covers.
            seed: of the bootstrap.

        See also:
            ``nashward.games.analysis.significant_cycles``, ``nashward.games.analysis.leaderboard``.
        """
        wins = np.nan_to_num(self.tables)
        battles = Battles.of_tables(self.players, wins, SMOOTHING)
        ratings, mean = battles.ratings, self.mean
        bands = battles.bands(share, seed=seed) if len(self.tables) > 1 else None
        condorcet, p = int(condorcet_winner(mean)), self._p_values()
        log_odds = np.log(np.clip(mean, CLIP, 1 - CLIP)) - np.log(np.clip(1 - mean, CLIP, 1 - CLIP))
        return {
            "players": list(self.players),
            "prompts": len(self.tables),
            "P": mean.tolist(),
            "standard_errors": [
                [0.0 if a == b else self.rate(a, b).standard_error for b in self.players] for a in self.players
            ],
            "lottery": self._by_player(battles.lottery.policy),
            "lottery_band": None
            if bands is None
            else {
                "share": share, "low": self._by_player(bands.low), "high": self._by_player(bands.high),
                "whole": self._by_player(bands.whole),
            },
            "condorcet_winner": self.players[condorcet] if condorcet >= 0 else None,
            "condorcet_p_value": winner_p_value(p, condorcet) if condorcet >= 0 and bands is not None else None,
            "exploitability": self._by_player(mean.max(0) - 0.5),
            "bradley_terry": {
                "scores": self._by_player(ratings.scores),
                "largest_residual": float(ratings.residual.abs().max()),
            },
            "curl": float(curl_fraction(log_odds)),
            "cycles": [
                {"players": [self.players[i] for i in cycle.players], "p_value": cycle.p_value}
                for cycle in cycles_below(p, LEVEL)
            ],
        }  # fmt: skip

    def _p_values(self) -> Float[np.ndarray, "n n"]:
        """[n, n], one-sided p-values of "i beats j on average"; 1 on the diagonal."""
        return np.array([[1.0 if a == b else self.rate(a, b).p_value for b in self.players] for a in self.players])

    def _by_player(self, values: Any) -> dict[str, float]:
        return dict(zip(self.players, values.tolist(), strict=True))


def clear_in_resamples(game: Mapping[str, Any]) -> bool:
    """Whether resamples of the prompts of a ``summary`` hardly doubt the winner that its test is not sure of.

    Example:
        >>> band = {"whole": {"new": 1.0, "old": 0.0}}
        >>> clear_in_resamples({"condorcet_winner": "new", "condorcet_p_value": 0.7, "lottery_band": band})
        True
    """
    winner, p = game["condorcet_winner"], game.get("condorcet_p_value")
    whole = (game.get("lottery_band") or {}).get("whole")
    return p is not None and whole is not None and p > LEVEL >= 1 - whole[winner]


def tournament_tables(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    cache: Cache | str | Path | None = None,
) -> TournamentTables:
    """Compare the responses of all players to each prompt.

    Args:
        oracle: the preference oracle.
        prompts: N instructions.
        texts: for each of n players its N responses.
        cache: see ``preference_matrices``.

    Returns:
        the table of each prompt, 1/2 on the diagonal.

    Raises:
        ValueError, Unjudged: as ``tournament``.

    See also:
        ``tournament``: the mean table alone, for players that may lack responses.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> game = tournament_tables(Length(), ["Say hello."], {"new": ["Hello!"], "old": ["Hi."]})
        >>> game.mean.round(2).tolist()
        [[0.5, 0.64], [0.36, 0.5]]
    """
    wins = tournament(oracle, prompts, texts, cache=cache).battles.wins
    tables = np.where(wins + wins.swapaxes(1, 2) > 0, wins, np.nan)  # both 0: not judged
    diagonal = np.arange(len(texts))
    tables[:, diagonal, diagonal] = 0.5
    return TournamentTables(tuple(texts), tables)


def _mean_win_rate(values: Float[np.ndarray, " N"]) -> WinRate:
    return WinRate.of(values[~np.isnan(values)])
