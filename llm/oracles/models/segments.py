"""A prompt and its responses as segments of tokens that keep both of their ends where they are too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...policy.control_tokens import text_ids
from ...policy.packing import common_beginning
from .chat import Chat, replace_surrogates

PROMPT_SHARE = 4  # a prompt that is too long keeps 1 / PROMPT_SHARE of a row, and more where responses leave room
_UNLIMITED = 2**31


class Segment(NamedTuple):
    """Tokens of one text, with those of the format around it.

    Attributes:
        ids: the token ids.
        start, stop: where the text's own tokens begin and end; the others belong to the format.
    """

    ids: list[int]
    start: int
    stop: int

    def shortened(self, room: int) -> Segment:
        """At most ``room`` tokens: the middle of the text is left out, and one half of what stays is from each end.

        Example:
            >>> Segment([1, 10, 11, 12, 13, 14, 2], 1, 6).shortened(5)
            Segment(ids=[1, 10, 11, 14, 2], start=1, stop=4)
        """
        if len(self.ids) <= room:
            return self
        kept = max(0, room - (len(self.ids) - (self.stop - self.start)))
        head, tail = self.start + (kept + 1) // 2, self.stop - kept // 2
        return Segment([*self.ids[:head], *self.ids[tail:]], self.start, self.start + kept)


class Segments:
    """Segments by a tokenizer's chat template or, without one, by the special tokens that it puts around two texts.

    Control tokens that texts spell out, as "<|im_end|>" or "[SEP]", are read as text.

    Args:
        tokenizer: a fast tokenizer.
        name: of the oracle, for errors.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.tokenizer = tokenizer
        self._chat = Chat(tokenizer, name=name, max_length=_UNLIMITED) if tokenizer.chat_template else None
        if self._chat is None:
            pair = tokenizer("a", "a", return_special_tokens_mask=True)
            ids, special = pair["input_ids"], [bool(mask) for mask in pair["special_tokens_mask"]]
            text = [k for k, mask in enumerate(special) if not mask]
            first, last = (text[0], text[-1]) if text else (len(ids), len(ids) - 1)
            between = [k for k in range(first, last) if special[k]]
            self._before, self._after = ids[:first], ids[last + 1 :]
            self._between = [ids[k] for k in between]

    def of(self, prompt: str, responses: Sequence[str]) -> tuple[Segment, list[Segment]]:
        """The segment of a prompt, and one of each response."""
        prompt, responses = replace_surrogates(prompt), [replace_surrogates(response) for response in responses]
        if self._chat is None:
            ids = text_ids(self.tokenizer, prompt)
            first = Segment([*self._before, *ids, *self._between], len(self._before), len(self._before) + len(ids))
            others = [text_ids(self.tokenizer, response) for response in responses]
            return first, [Segment([*ids, *self._after], 0, len(ids)) for ids in others]
        # where a response begins is seen on one that is always the same: no other response may move it
        alone, example = self._conversation(prompt), self._conversation(prompt, "a")
        common = common_beginning(alone, example)
        both = [self._conversation(prompt, response) for response in responses]
        rest = [ids[min(common, common_beginning(alone, ids)) :] for ids in both]
        return Segment(alone[:common], 0, common), [Segment(ids, 0, len(ids)) for ids in rest]

    def _conversation(self, prompt: str, response: str | None = None) -> list[int]:
        assert self._chat is not None
        conversation = self._chat.conversation(prompt, response)
        return conversation.turns.ids(conversation.text)


def fitted(prompt: Segment, responses: Sequence[Segment], limit: int) -> tuple[Segment, list[Segment]]:
    """The segments of one row, at most ``limit`` tokens together.

    The prompt keeps at least a quarter of the row and what the responses leave; these share the rest, and what a short
    one leaves goes to the other.

    Example:
        >>> long, short = Segment(list(range(9)), 0, 9), Segment([1], 0, 1)
        >>> prompt, (one, two) = fitted(long, [long, short], 8)
        >>> len(prompt.ids), len(one.ids), len(two.ids)
        (2, 5, 1)
    """
    total = sum(len(segment.ids) for segment in responses)
    prompt = prompt.shortened(max(limit // PROMPT_SHARE, limit - total))
    room, left = limit - len(prompt.ids), list(responses)
    shares: dict[int, int] = {}
    order = sorted(range(len(left)), key=lambda k: len(left[k].ids))
    for place, k in enumerate(order):
        shares[k] = min(len(left[k].ids), room // (len(order) - place))
        room -= shares[k]
    return prompt, [segment.shortened(shares[k]) for k, segment in enumerate(left)]
