"""What a store of votes holds: votes, questions that are open, and pairs with what is believed of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nashward.errors import NashwardError

from ..oracles.fitting.votes import WINS, Vote

WINNERS = ("a", "b", "tie", "both_bad")
OTHER = {"a": "b", "b": "a"}


@dataclass(frozen=True)
class CastVote:
    """One person's vote on two responses to a prompt.

    Attributes:
        prompt, a, b: the texts.
        winner: "a", "b", "tie", "both_bad", or "skip" for a question that was left out.
        annotator: the name that was given.
        seconds: how long the question was looked at; None: not known.
        shown_first: "a" or "b", the one on the left or above; "": not known, as of a file that does not say.
        why: what the question was chosen for: "change" of the equilibrium, "random", a "repeat", or an "import".
        number: votes are numbered as they arrive, from 1.
        id: of the question.
        sources: of a and b, whose responses these are.

    Example:
        >>> CastVote("Name a river.", "The Rhine.", "No.", "both_bad", "ann", 4.0, "b").as_vote()
        Vote(prompt='Name a river.', a='The Rhine.', b='No.', wins=0.5, n=1.0, annotator='ann', weight=1.0)
    """

    prompt: str
    a: str
    b: str
    winner: str
    annotator: str
    seconds: float | None = None
    shown_first: str = "a"
    why: str = "import"
    number: int = 0
    id: str = ""
    sources: tuple[str, str] = ("", "")

    def as_vote(self) -> Vote:
        """The vote as ``fit_oracle`` takes it; a tie and "both_bad" are half a win each.

        Raises:
            ValueError: a question that was skipped.
        """
        if self.winner not in WINNERS:
            raise NashwardError(f"has winner {self.winner!r}, expected one of {', '.join(WINNERS)}")
        return Vote(self.prompt, self.a, self.b, WINS[self.winner], 1.0, self.annotator, models=self.sources)

    def swapped(self) -> CastVote:
        """The same vote with a and b exchanged.

        Example:
            >>> CastVote("Name a river.", "No.", "The Rhine.", "b", "ann", shown_first="a").swapped().winner
            'a'
        """
        return replace(
            self, a=self.b, b=self.a, sources=self.sources[::-1], winner=OTHER.get(self.winner, self.winner),
            shown_first=OTHER.get(self.shown_first, self.shown_first),
        )  # fmt: skip


@dataclass(frozen=True)
class Question:
    """Two responses that one person is to compare.

    Attributes:
        id: of the question; a vote names it, so that one that arrives twice counts once.
        attempt: how often it was undone; a vote of an earlier attempt that arrives late does not count.
        pair: the number of the pair.
        prompt, first, second: the texts, as they are shown.
    """

    id: str
    attempt: int
    pair: int
    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class PairRow:
    """A pair of responses that may be compared, with what is believed of it.

    Attributes:
        id, prompt, a, b: numbers of the pair, of its prompt and of its two responses.
        logit, error: the log-odds that a beats b by an oracle, and their standard error; None: no oracle was asked.
        votes: the winners of the votes on it, as they arrived; without skips, and without those that the oracle was
            fitted to.
    """

    id: int
    prompt: int
    a: int
    b: int
    logit: float | None
    error: float | None
    votes: tuple[str, ...] = ()
