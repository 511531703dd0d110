"""A Nash leaderboard from battles: the win table, the maximal lottery with bands, and Bradley-Terry ratings."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.text_rows import csv_rows, json_rows, jsonl_rows

from ..equilibria.linear_program import ranges
from ..equilibria.nash import nash
from ..forms.game import PreferenceGame
from ..shapes import Float
from .ratings import ELO, Ratings, bradley_terry, scores

JEFFREYS = 0.5  # a of Jeffreys' prior Beta(a, a)
FLOOR = 1e-9  # of wins that are drawn, so that scores stay finite
TIES = ("tie", "draw", "both", "bothbad", "bothgood", "tiebothbad", "tiebothgood", "neither")  # letters alone
ONE_HOT = ("winner_model_a", "winner_model_b", "winner_tie")


@dataclass(frozen=True)
class Bands:
    """The maximal lottery and Elo's ratings, with their uncertainty.

    Attributes:
        lottery: [n], of the smoothed table.
        low, high: [n], the quantiles of the lottery over the bootstrap, and what is beyond one of them: the lottery
            itself and, where it is not the only one, all others of the smoothed table.
        elo, elo_low, elo_high: [n], the ratings (``Ratings.elo``) and their quantiles, in the same way.
        share: of the draws that lie between them, for each model.

    Example:
        >>> battles = from_battles([{"model_a": "x", "model_b": "y", "wins_a": 30, "wins_b": 10}])
        >>> bands = battles.bands(share=0.9, seed=0)
        >>> bands.lottery.tolist(), bool((bands.elo_low < bands.elo).all()), bands.share
        ([1.0, 0.0], True, 0.9)
    """

    lottery: Float[Tensor, " n"]
    low: Float[Tensor, " n"]
    high: Float[Tensor, " n"]
    elo: Float[Tensor, " n"]
    elo_low: Float[Tensor, " n"]
    elo_high: Float[Tensor, " n"]
    share: float


@dataclass(frozen=True)
class Battles:
    """Counted battles between n models.

    Attributes:
        labels: of the models, sorted.
        wins: [prompts, n, n], how often i beat j, a tie as half a win of each; one table if the prompts are not given.
        smoothing: a of the prior Beta(a, a) on each win probability. With 0 the table is the observed frequencies;
            ratings and draws without prompts, which need a prior, then use Jeffreys' 1/2.
        one_prompt: the single table is that of one prompt that is given, not of battles whose prompts are not.

    Example:
        >>> battles = from_battles([{"model_a": "x", "model_b": "y", "wins_a": 2, "wins_b": 1, "ties": 1}])
        >>> battles.met.tolist(), battles.game.P[0].tolist(), battles.missing
        ([[0.0, 4.0], [4.0, 0.0]], [0.5, 0.6], [])
    """

    labels: tuple[str, ...]
    wins: Float[np.ndarray, "prompts n n"]
    smoothing: float = JEFFREYS
    one_prompt: bool = False

    @cached_property
    def total(self) -> Float[np.ndarray, "n n"]:
        """[n, n], the wins over all prompts."""
        return self.wins.sum(0)

    @cached_property
    def met(self) -> Float[np.ndarray, "n n"]:
        """[n, n], the number of battles of each pair."""
        return self.total + self.total.T

    @property
    def missing(self) -> list[tuple[str, str]]:
        """The pairs that never met; their probability is the prior's 1/2."""
        pairs = np.argwhere(np.triu(self.met == 0, 1))
        return [(self.labels[i], self.labels[j]) for i, j in pairs]

    @cached_property
    def game(self) -> PreferenceGame:
        """P_ij = (wins_ij + a) / (met_ij + 2 a), the mean of the posterior Beta."""
        return PreferenceGame(_table(self.total[None], self.smoothing)[0], self.labels)

    @cached_property
    def ratings(self) -> Ratings:
        """Bradley-Terry ratings, each pair smoothed by the same prior."""
        return bradley_terry(self.total, 2 * (self.smoothing or JEFFREYS))

    @property
    def by_prompt(self) -> bool:
        """Whether the prompts are given, so that what one of them decides can be told from what many do."""
        return self.one_prompt or len(self.wins) > 1

    @cached_property
    def cycle_p_value(self) -> float:
        """How likely battles so far from any scores are without cycles, see ``Ratings``; NaN without pairs to spare.

        Battles of a pair on the same prompt are one battle here, since they repeat each other: counted one by one, a
        single prompt on which the models go in a circle would prove a cycle over all prompts.
        """
        met = self.wins + self.wins.swapaxes(1, 2)
        wins = (self.wins / np.where(met > 0, met, 1.0)).sum(0) if self.by_prompt else self.total
        return bradley_terry(wins, 2 * (self.smoothing or JEFFREYS)).cycle_p_value

    def bands(self, share: float = 0.9, draws: int = 400, seed: int = 0) -> Bands:
        """The maximal lottery and Elo's ratings, with bands from the bootstrap.

        Each prompt has a weight from the exponential distribution (the Bayesian bootstrap), so that the battles of a
        prompt stay together; each draw has wins of the prior beside them, Gamma(a) prompts won and as many lost, since
        a pair whose prompts all went one way would have no spread otherwise. A pair that met once on each prompt has
        then the Beta posterior, as each pair has where the prompts are not given. Prompts that are drawn with
        replacement would make the bands too narrow where there are few.

        Returns:
            The bands that hold this share of the draws.

        Raises:
            ValueError: a share out of (0, 1), fewer than two draws.

        Source: Rubin 1981, "The Bayesian bootstrap".
        """
        if not 0 < share < 1:
            raise NashwardError(f"share must be between 0 and 1, got {share}")
        if draws < 2:
            raise NashwardError(f"draws must be at least 2, got {draws}")
        wins = self._drawn(draws, np.random.default_rng(seed))
        lotteries = nash(PreferenceGame(_table(wins, 0.0))).policy
        others = 1 - np.eye(len(self.labels))
        least = 0.0 if self.smoothing or not self.by_prompt else JEFFREYS  # ratings need a prior
        elo = 1500 + ELO * scores(torch.from_numpy(wins + least * others))
        at = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64)
        low, high = torch.quantile(lotteries, at, dim=0)
        elo_low, elo_high = torch.quantile(elo, at, dim=0)
        equilibrium, own = nash(self.game), self.ratings.elo
        lottery = equilibrium.policy
        if not bool(equilibrium.unique):
            margins = self.game.P.numpy() - 0.5
            least_of_all, most_of_all = map(torch.from_numpy, ranges(margins, lottery.numpy()))
            low, high = torch.minimum(low, least_of_all), torch.maximum(high, most_of_all)
        return Bands(
            lottery, torch.minimum(low, lottery), torch.maximum(high, lottery),
            own, torch.minimum(elo_low, own), torch.maximum(elo_high, own), share,
        )  # fmt: skip

    def _drawn(self, draws: int, random: np.random.Generator) -> Float[np.ndarray, "draws n n"]:
        """[draws, n, n], wins drawn from the bootstrap or the posterior, with the prior's unless it is 0."""
        if self.by_prompt:
            drawn = np.einsum("dp,pij->dij", random.exponential(size=(draws, len(self.wins))), self.wins)
            if not self.smoothing:
                return drawn
            prompts = ((self.wins + self.wins.swapaxes(1, 2)) > 0).sum(0)
            battles = self.met / np.maximum(prompts, 1) + (prompts == 0)  # of a pair on a prompt, on average
            prior = np.maximum(random.gamma(self.smoothing, size=drawn.shape), FLOOR)
            return drawn + battles * prior * (1 - np.eye(len(self.labels)))
        upper, prior = np.triu_indices(len(self.labels), 1), self.smoothing or JEFFREYS
        won, lost = self.total[upper] + prior, self.total.T[upper] + prior
        wins = np.zeros((draws, len(self.labels), len(self.labels)))
        wins[:, upper[0], upper[1]] = (won + lost) * random.beta(won, lost, size=(draws, len(won)))
        wins[:, upper[1], upper[0]] = won + lost - wins[:, upper[0], upper[1]]
        return wins


def _table(wins: Float[np.ndarray, "tables n n"], smoothing: float) -> Float[np.ndarray, "tables n n"]:
    met = wins + wins.swapaxes(-1, -2) + 2 * smoothing
    P = np.where(met > 0, (wins + smoothing) / np.where(met > 0, met, 1.0), 0.5)
    lower = np.tril_indices(wins.shape[-1], -1)
    P[..., lower[0], lower[1]] = 1 - P[..., lower[1], lower[0]]  # so that P + P^T = 1 holds after rounding
    return P


def from_battles(rows: Any, smoothing: float = JEFFREYS) -> Battles:
    """Count battles.

    Args:
        rows: mappings, or a data frame, with ``model_a``, ``model_b`` and one of ``winner`` ("model_a", "model_b", the
            name of either, or "tie", also "both_bad" and the like), ``wins_a`` with ``wins_b`` (and ``ties``), counts,
            and ``winner_model_a`` with ``winner_model_b`` (and ``winner_tie``), of which one is 1; optionally
            ``prompt``, text or a list of messages. Models may be numbers.
        smoothing: a > 0 of the prior Beta(a, a) on each win probability; 1/2 is Jeffreys'.

    Raises:
        ValueError: no rows, a row without a model or a winner (it is named), a model against itself, two models
            whose names differ in the blanks around them, smoothing <= 0.

    Example:
        >>> battles = from_battles([{"model_a": "x", "model_b": "y", "winner": "model_a"}] * 3, smoothing=1.0)
        >>> battles.labels, battles.game.P[0].tolist()
        (('x', 'y'), [0.5, 0.8])
    """
    if not smoothing > 0:
        raise NashwardError(f"smoothing must be above 0, got {smoothing}")
    records: Iterable[Any] = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    counted: dict[tuple[Hashable, str, str], np.ndarray] = {}
    for number, row in enumerate(records, 1):
        try:
            a, b, wins = _battle(row)
        except ValueError as error:
            raise NashwardError(f"row {number} {error}") from None
        key = (_prompt(row.get("prompt")), a, b)
        counted[key] = counted.get(key, np.zeros(2)) + wins
    if not counted:
        raise NashwardError("there are no battles; expected rows with model_a, model_b and winner")
    labels = sorted({name for _, a, b in counted for name in (a, b)})
    by_letters: dict[str, str] = {}
    for name in labels:
        if (other := by_letters.setdefault(name.strip(), name)) != name:
            raise NashwardError(
                f"there are models {other!r} and {name!r}, which differ in the blanks around them; name them alike"
            )
    place, prompts = {name: i for i, name in enumerate(labels)}, list(dict.fromkeys(key[0] for key in counted))
    at = {prompt: k for k, prompt in enumerate(prompts)}
    wins = np.zeros((len(prompts), len(labels), len(labels)))
    for (prompt, a, b), (won, lost) in counted.items():
        wins[at[prompt], place[a], place[b]] += won
        wins[at[prompt], place[b], place[a]] += lost
    return Battles(tuple(labels), wins, smoothing, one_prompt=len(prompts) == 1 and prompts[0] is not None)


def _battle(row: Any) -> tuple[str, str, np.ndarray]:
    """Both models and their wins.

    Raises:
        ValueError: the missing or wrong field of the row."""
    if not isinstance(row, Mapping):
        raise NashwardError(f"is of type {type(row).__name__}; expected a row with model_a, model_b and winner")
    if None in row:  # a row of a CSV file that is longer than the first one
        raise NashwardError(f"has {len(row[None])} cells more than there are columns")
    a, b = (_name(row, field) for field in ("model_a", "model_b"))
    if a == b:
        raise NashwardError(f"lets {a} play itself")
    result = row.get("winner")
    if not _missing(result):
        return a, b, np.array(_result(str(result) if isinstance(result, int | float) else result, a, b, row))
    if any(not _missing(row.get(name)) for name in ONE_HOT):
        hot = [_count(row, name) for name in ONE_HOT]
        if sorted(hot) != [0.0, 0.0, 1.0]:
            raise NashwardError(f"has {', '.join(ONE_HOT)} of {hot}; expected a single 1")
        return a, b, np.array([hot[0] + hot[2] / 2, hot[1] + hot[2] / 2])
    won, lost, ties = (_count(row, name) for name in ("wins_a", "wins_b", "ties"))
    if not (min(won, lost, ties) >= 0 and 0 < won + lost + ties < float("inf")):
        raise NashwardError("has no winner and no counts; expected winner, or wins_a and wins_b (and ties)")
    return a, b, np.array([won + ties / 2, lost + ties / 2])


def _missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN or what pandas has for it, or no text."""
    return value is None or value == "" or type(value).__name__ in ("NAType", "NaTType") or value != value


def _name(row: Mapping[Any, Any], field: str) -> str:
    name = row.get(field)
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, float) and name.is_integer():  # as a data frame with missing cells makes of whole numbers
        name = int(name)
    if _missing(name) or isinstance(name, bool) or not isinstance(name, str | int | float):
        raise NashwardError(f"has no {field}; it has {', '.join(map(str, row))}")
    return str(name)


def _result(result: Any, a: str, b: str, row: Mapping[Any, Any]) -> tuple[float, float]:
    """The wins of both models by the name of the winner, whose letters count, not their case and what joins them."""
    names = {a: (1.0, 0.0), b: (0.0, 1.0)}
    if result in names:
        return names[result]
    if isinstance(result, str):
        spoken = "".join(letter for letter in result.casefold() if letter.isalnum())
        if spoken in TIES:
            return 0.5, 0.5
        for field, wins in (("model_a", (1.0, 0.0)), ("model_b", (0.0, 1.0))):
            if result.strip().casefold() == field or result.strip() == str(row[field]):
                return wins
    raise NashwardError(f"has the winner {result!r}; expected model_a, model_b, {a}, {b} or tie")


def _count(row: Mapping[Any, Any], field: str) -> float:
    value = row.get(field)
    try:
        count = 0.0 if _missing(value) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise NashwardError("has counts that are no numbers; expected wins_a, wins_b and ties") from None
    if not 0 <= count < math.inf:
        raise NashwardError(f"has {field} {value}; expected a number of battles, 0 or more")
    return count


def _prompt(prompt: Any) -> Hashable:
    """What tells a prompt from others: its text, or that of a list of messages; None where it is missing."""
    if isinstance(prompt, np.ndarray):
        prompt = prompt.tolist()
    if isinstance(prompt, list | tuple | Mapping):
        return json.dumps(prompt, sort_keys=True, ensure_ascii=False, default=str)
    return None if _missing(prompt) else prompt


def read_battles(path: str | Path, smoothing: float = JEFFREYS) -> Battles:
    """``from_battles`` of a ``.csv``, ``.json`` or ``.jsonl`` file.

    Args:
        path: of the file; a ``.json`` one holds a list of rows, a ``.jsonl`` one a row a line.
        smoothing: a > 0 of the prior Beta(a, a) on each win probability.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file type, a file that cannot be read, or rows that are no battles.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of battles {file}; expected .csv, .json or .jsonl")
    if file.suffix.lower() not in (".csv", ".json", ".jsonl"):
        raise NashwardError(
            f"{file} is of an unknown type {file.suffix!r}; battles are read from .csv, .json or .jsonl"
        )
    kind = file.suffix.lower()
    try:
        with file.open(encoding="utf-8-sig", newline="" if kind == ".csv" else None) as handle:
            if kind == ".csv":
                rows: list[Any] = csv_rows(handle, file)
            else:
                rows = json_rows(handle.read(), file, "battles") if kind == ".json" else [*jsonl_rows(handle, file)]
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise NashwardError(f"{file} cannot be read as {kind[1:]} in UTF-8: {error}") from None
    try:
        return from_battles(rows, smoothing)
    except ValueError as error:
        raise NashwardError(f"{file}: {error}") from None
