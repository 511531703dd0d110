"""A protocol of a language model as judge: the messages that it reads, and the answer in what it writes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeAlias

from ....clients.chat import END_OF_THOUGHT
from .answers import Answer

Turns: TypeAlias = list[dict[str, str]]  # messages of a chat: role and content

RULE = "=" * 5


@dataclass(frozen=True)
class JudgeProtocol:
    """What a judge reads about two responses, and how its answer is read.

    The messages begin with what is the same for all pairs (the instruction and the rubric), then the prompt and its
    reference, then the two responses: a server or a cache computes what pairs share once. The texts stand between
    lines of "=" that are longer than any in them, so that no response can end its part. Only what the judge writes is
    ever searched for an answer.

    Attributes:
        name: shown in reports.
        answers: those that the judge may give.
        pattern: a regular expression whose group is an answer's text; the last match counts.
        instruction: for the judge, without the way to answer.
        explained: how to answer after a few sentences of reasoning; "": this judge never reasons.
        at_once: how to answer with nothing else.
        lead: what the judge writes before the answer: behind it the next token begins the answer.
        frame: characters around an answer that may share a token with it.
        explains: whether the judge is to reason first.

    Example:
        >>> from nashward.llm.oracles.judges.protocols.published import PAIR
        >>> [turn["role"] for turn in PAIR.messages("Name a river.", "The Rhine.", "A tree.")]
        ['system', 'user']
        >>> PAIR.read("The first names a river: [[A]]").wins
        1.0
    """

    name: str
    answers: tuple[Answer, ...]
    pattern: str
    instruction: str = field(repr=False)
    explained: str = field(repr=False)
    at_once: str = field(repr=False)
    lead: str = ""
    frame: str = ""
    explains: bool = True

    @property
    def by_token(self) -> bool:
        """Whether the first token of an answer tells which it is: then token probabilities give the win probability."""
        return len({answer.text[0] for answer in self.answers}) == len(self.answers)

    @property
    def reasons(self) -> bool:
        """Whether the judge writes something before its answer."""
        return self.explains and bool(self.explained)

    @property
    def longest(self) -> int:
        """Tokens that the output has at most, without a model's thoughts; with reasoning that is a guess."""
        return 512 if self.reasons else 1 if not self.lead else 8

    @property
    def fingerprint(self) -> str:
        """Changes with everything that a judge reads besides the texts, and with how it is read."""
        parts = (self.messages("\0p", "\0a", "\0b", "\0r", "\0c"), self.pattern, self.answers, self.lead, self.frame)
        return f"{self.name} {_hash(repr(parts))}"

    def messages(
        self, prompt: str, first: str, second: str, rubric: str | None = None, reference: str | None = None
    ) -> Turns:
        """The messages for the judge.

        Args:
            prompt: the instruction that was answered.
            first, second: the responses, in the order shown.
            rubric: what counts, in the user's words.
            reference: an answer that is known to be right.
        """
        rule = rule_around(prompt, first, second, reference or "")
        system = [self.instruction, *([] if rubric is None else [f"What counts:\n{rubric.strip()}"])]
        system.append(self.explained if self.reasons else self.at_once)
        parts = [("Prompt", prompt), ("Reference answer", reference), ("Response A", first), ("Response B", second)]
        shown = [f"{rule} {title} {rule}\n{text}" for title, text in parts if text is not None]
        user = "\n".join([*shown, f"{rule} End {rule}"])
        return [{"role": "system", "content": "\n\n".join(system)}, {"role": "user", "content": user}]

    def read(self, output: str) -> Answer | None:
        """The answer in what a judge wrote; None where there is none."""
        found = self.found(output)
        return None if found is None else found[0]

    def found(self, output: str) -> tuple[Answer, int] | None:
        """The answer, and where in the output it begins: the last match behind the thoughts of a model that thinks."""
        start = end_of_thoughts(output)
        if start is None:
            return None
        by_text = {answer.text: answer for answer in self.answers}
        found = None
        for match in re.finditer(self.pattern, output[start:]):
            answer = by_text.get((match[1] or "").strip())
            if answer is not None:
                found = answer, start + match.start(1)
        return found


def end_of_thoughts(output: str) -> int | None:
    """Where the thoughts of a model that thinks end in its output, 0 without any; None where they were cut before.

    Example:
        >>> end_of_thoughts("<think>so</think>[[A]]"), end_of_thoughts("[[A]]"), end_of_thoughts("<think>so")
        (17, 0, None)
    """
    if END_OF_THOUGHT in output:
        return output.rfind(END_OF_THOUGHT) + len(END_OF_THOUGHT)
    return None if output.lstrip().startswith("<think>") else 0


def rule_around(*texts: str) -> str:
    """A line of "=" that is longer than any in the texts, so that none can end its part."""
    longest = max((len(run) for text in texts for run in re.findall(r"=+", text)), default=0)
    return "=" * max(len(RULE), longest + 1)


def _hash(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
