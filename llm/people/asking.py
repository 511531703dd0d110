"""Which pair of responses a person compares next: the one whose vote is expected to change the equilibrium most."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from nashward.games import PreferenceGame, nash
from nashward.games.analysis.dueling import expected_change
from nashward.games.shapes import Float

from ..config.people import Asking
from ..oracles.fitting.votes import WINS
from .records import PairRow, Question
from .store import VoteStore, Why

PRIOR = 1.5  # the standard error of the log-odds of a pair of which nothing is known
SETTLED = 1.96  # standard errors from even: a vote on such a pair would only repeat what is known
DRAWS = 32  # tables a prompt
PROMPTS = 64  # that are looked at for one list of questions
LISTED = 24  # questions of a list, after which the votes since then are counted in
DECAY = 0.5  # what the next pair of the same prompt is worth: the first one may settle it as well
APART = 5  # answers between a question and its repetition, at least


def belief(row: PairRow) -> tuple[float, float]:
    """The log-odds that a beats b and their standard error, from the oracle's and the votes since.

    A normal belief; each vote y in {0, 1/2, 1} moves it by one step of Laplace's approximation,
    ``1/s'^2 = 1/s^2 + p (1 - p)`` and ``L' = L + s'^2 (y - p)`` with ``p = sigmoid(L)``.

    Args:
        row: of the pair.

    Example:
        >>> [round(value, 2) for value in belief(PairRow(1, 1, 1, 2, None, None, ("a", "a", "b")))]
        [0.4, 0.95]
    """
    logit, error = (row.logit, row.error) if row.logit is not None and row.error is not None else (0.0, PRIOR)
    for winner in row.votes:
        p = 1.0 / (1.0 + np.exp(-logit))
        error = (error**-2 + p * (1 - p)) ** -0.5 if error > 0 else 0.0
        logit += error**2 * (WINS[winner] - p)
    return float(logit), float(error)


def settled(row: PairRow) -> bool:
    """Whether the winner of a pair is known at 95%.

    Example:
        >>> [settled(PairRow(1, 1, 1, 2, 2.0, error)) for error in (0.5, 2.0)]
        [True, False]
    """
    logit, error = belief(row)
    return abs(logit) > SETTLED * error


def values(rows: Sequence[PairRow], random: np.random.Generator, draws: int = DRAWS) -> Float[np.ndarray, " pairs"]:
    """By how much a vote on each pair is expected to change the equilibrium of its prompt, ``[pairs]``.

    Tables are drawn from the beliefs of the prompt's pairs, with an exact equilibrium each; the value of a pair is
    ``expected_change`` over them.

    Args:
        rows: pairs; those of one prompt make a game.
        random: the generator of the draws.
        draws: tables a prompt.

    Source: the project's own; see ``games.analysis.dueling.expected_change``.
    """
    found = np.zeros(len(rows))
    of_prompt: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        of_prompt.setdefault(row.prompt, []).append(place)
    games: dict[int, list[tuple[list[int], np.ndarray, np.ndarray]]] = {}
    for places in of_prompt.values():
        names = {name: k for k, name in enumerate(sorted({n for p in places for n in (rows[p].a, rows[p].b)}))}
        ends = np.array([[names[rows[p].a], names[rows[p].b]] for p in places])
        logits = random.normal(0.0, PRIOR, (draws, len(names), len(names)))  # also of pairs that are not asked
        for (i, j), place in zip(ends.tolist(), places, strict=True):
            logit, error = belief(rows[place])
            logits[:, i, j] = logit + error * random.normal(size=draws)
            logits[:, j, i] = -logits[:, i, j]
        upper = np.triu(np.ones(logits.shape[1:], bool), 1)
        logits = np.where(upper, logits, -logits.swapaxes(1, 2))
        logits[:, np.eye(len(names), dtype=bool)] = 0.0
        games.setdefault(len(names), []).append((places, ends, 1 / (1 + np.exp(-logits))))
    for size, members in games.items():
        tables = np.stack([table for _, _, table in members])  # [prompts, draws, n, n]
        policies = nash(PreferenceGame(tables.reshape(-1, size, size))).numpy()
        for (places, ends, table), policy in zip(members, policies.reshape(len(members), draws, size), strict=True):
            found[places] = expected_change(table, policy)[ends[:, 0], ends[:, 1]]
    return found


class Asker:
    """Chooses the questions of all annotators of a store.

    Args:
        store: of the questions and the votes.
        settings: shares and the seed.

    See also: ``values``, which says what a pair is worth.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home, VoteStore(home) as store:
        ...     _ = store.add_responses("Name a river.", ["The Rhine.", "No."])
        ...     asker = Asker(store, Asking(seed=1))
        ...     question = asker.next("ann")
        ...     _ = store.vote(question.id, "ann", "tie")
        ...     print(question.prompt, asker.next("ann"))
        Name a river. None
    """

    def __init__(self, store: VoteStore, settings: Asking) -> None:
        self.store, self.settings = store, settings
        self._random = np.random.default_rng(settings.seed)
        self._lock = threading.Lock()
        self._rows: list[PairRow] = []
        self._listed: list[int] = []  # pairs worth most, the best one last
        self._left = 0  # questions until the votes are counted in

    def next(self, annotator: str) -> Question | None:
        """The question that is open to a person, or a new one; None where all pairs are answered."""
        with self._lock:
            waiting = self.store.waiting(annotator)
            if waiting is not None:
                return waiting
            if self._left <= 0:
                self.refresh()
            answered = self.store.answered_pairs(annotator)
            found = self._choose(answered)
            if found is None:
                self.refresh()  # there may be new responses
                found = self._choose(answered)
            if found is None:
                return None
            self._left -= 1
            pair, why = found
            return self.store.open_question(annotator, pair, why, "ab"[int(self._random.integers(2))])

    def refresh(self) -> None:
        """Count in the votes and the responses that are new, and list the pairs that are worth most."""
        self._rows = self.store.pairs()
        self._left = LISTED
        self._listed = []
        if self.settings.random:
            return
        open_rows = [row for row in self._rows if not settled(row)]
        prompts = list(dict.fromkeys(row.prompt for row in open_rows))
        if len(prompts) > PROMPTS:
            chosen = set(self._random.choice(prompts, PROMPTS, replace=False).tolist())
        else:
            chosen = set(prompts)
        rows = sorted((row for row in self._rows if row.prompt in chosen), key=lambda row: row.prompt)
        worth = values(rows, self._random)
        ranked: list[tuple[float, int]] = []
        for _, group in groupby(zip(rows, worth, strict=True), key=lambda pair: pair[0].prompt):
            best = sorted(((float(v), row.id) for row, v in group if not settled(row)), reverse=True)
            ranked += [(value * DECAY**place, pair) for place, (value, pair) in enumerate(best)]
        self._listed = [pair for _, pair in sorted(ranked)]

    def _choose(self, answered: Sequence[int]) -> tuple[int, Why] | None:
        """A pair, and what it was chosen for; None where there is none left."""
        seen, draw = set(answered), float(self._random.random())
        if draw < self.settings.repeats and (pair := self._repeat(answered)) is not None:
            return pair, "repeat"
        at_random = self.settings.random or draw < self.settings.repeats + self.settings.random_share
        taken = seen | self.store.open_pairs()
        ways: list[Callable[[], tuple[int, Why] | None]] = [
            lambda: self._of_most_worth(taken),
            lambda: self._at_random(taken | self.store.voted_pairs()),
            lambda: self._at_random(seen),
        ]
        for way in ways[1:] + ways[:1] if at_random else ways:
            if (found := way()) is not None:
                return found
        return None

    def _of_most_worth(self, taken: set[int]) -> tuple[int, Why] | None:
        while self._listed:
            pair = self._listed.pop()
            if pair not in taken:
                return pair, "change"
        return None

    def _at_random(self, taken: set[int]) -> tuple[int, Why] | None:
        free = [row.id for row in self._rows if row.id not in taken]
        return (free[int(self._random.integers(len(free)))], "random") if free else None

    def _repeat(self, answered: Sequence[int]) -> int | None:
        """A pair that this person answered once, some answers ago, or one that only others did."""
        times = Counter(answered)
        once = [pair for pair in answered[:-APART] if times[pair] == 1]
        others = sorted(self.store.voted_pairs() - set(answered))
        kinds = [kind for kind in (once, others) if kind]
        if not kinds:
            return None
        kind = kinds[int(self._random.integers(len(kinds)))]
        return kind[int(self._random.integers(len(kind)))]
