"""Users' text as text: a control token that it spells out, such as ``<|im_end|>``, ends no turn.

A chat template writes control tokens as text, among the texts of users, and a tokenizer finds them again wherever they
are. Where a user's text has one, that text is hidden behind characters that are in no text while the template is
rendered, the template's own control tokens are renamed, and a tokenizer that knows them only by their new names reads
the whole. All its other rules are those of the first one: a text is split as if it were the only text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any
from unicodedata import normalize

from tokenizers import Tokenizer

from nashward.errors import RefusedPromptError

from ..data.conversations import Message

PRIVATE = range(0xF0000, 0x10FFFE)  # characters that Unicode keeps free for private use
NAME = "qzxj{nonce}k{number}qzxj"  # letters and digits alone, which every normaliser keeps


class ControlTokens:
    """The control tokens of a tokenizer: its special tokens, and what its chat template marks turns with.

    Args:
        tokenizer: a tokenizer of transformers.
        marks: tokens that mark the parts of a format without a template, as PairRM's ``<|source|>``.

    Example:
        >>> from nashward import llm
        >>> from nashward.llm.policy.base.checks import check_policy
        >>> tokens = ControlTokens(check_policy(llm.pocket.POLICY))
        >>> [tokens.found_in([text]) for text in ("Name a river.", "Name a <|user|> river.")]
        [False, True]
    """

    def __init__(self, tokenizer: Any, marks: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        added = {str(token): token for token in tokenizer.added_tokens_decoder.values()}
        special = {*tokenizer.all_special_tokens, *(text for text in added if added[text].special)}
        # a single sign, such as the "!" that some pad with, is text too: a model needs it in its vocabulary
        self.special = {text for text in special if len(text) > 1 and text.strip()}
        # tokens that are not special but that the template writes: marks such as "<|user|>" and "[INST]", not words
        self.written = {text for text in added if text in marks or (text in template and _is_mark(text))} - self.special
        self._folded = any(added[text].normalized for text in (self.special | self.written) & added.keys())

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """A control token, the longest where one begins with another, as tokenizers find them."""
        return _alternatives(self.special | self.written)

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        """A special token."""
        return _alternatives(self.special)

    @cached_property
    def _ids(self) -> set[int]:
        ids = self.tokenizer.convert_tokens_to_ids(sorted(self.special | self.written))
        return {*ids} - {None, self.tokenizer.unk_token_id}

    def found_in(self, texts: Sequence[str]) -> bool:
        """Whether texts have a control token, each by itself or joined one after another."""
        joined = "".join(text.strip() for text in texts)
        if any(self.pattern.search(text) for text in (*texts, joined)):
            return True
        if not self._folded:
            return False
        # A token may be looked up in the normalised text: "<|END|>" or full-width signs may be one too.
        return any(self.found_among(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)

    def start_of(self, text: str) -> str:
        """What a text begins with that a token ends with: a template may write the rest of it before the text."""
        longest = min(len(text), self._longest)
        return next((text[:k] for k in range(longest, 0, -1) if text[:k] in self._endings), "")

    def end_of(self, text: str) -> str:
        """What a text ends with that a token begins with: a template may write the rest of it after the text."""
        longest = min(len(text), self._longest)
        return next((text[-k:] for k in range(longest, 0, -1) if text[-k:] in self._beginnings), "")

    def is_inside(self, text: str) -> bool:
        """Whether a text is in the middle of a token, as "user" in "<|user|>", and a template may write the rest."""
        return 0 < len(text) < self._longest and any(text in token[1:-1] for token in self.special | self.written)

    @cached_property
    def _beginnings(self) -> set[str]:
        return {token[:k] for token in self.special | self.written for k in range(1, len(token))}

    @cached_property
    def _endings(self) -> set[str]:
        return {token[k:] for token in self.special | self.written for k in range(1, len(token))}

    @cached_property
    def _longest(self) -> int:
        """Characters of a part of a token."""
        return max(map(len, self._beginnings), default=0)

    def found_among(self, ids: Iterable[int]) -> bool:
        """Whether the ids of a text have one of a control token; the id for unknown text is not one."""
        return not self._ids.isdisjoint(ids)

    def renamed(self, avoid: str) -> tuple[Tokenizer, dict[str, str]]:
        """The tokenizer with other names for its control tokens, and these names; none of them is in ``avoid``.

        Raises:
            RefusedPromptError: the tokenizer is not one of the tokenizers library.
        """
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise RefusedPromptError(
                "a text has a control token, and a tokenizer without a tokenizer.json cannot read it as text; take it "
                "out of the text",
                "with control tokens that the tokenizer cannot read as text",
            )
        avoid = normalize("NFKC", avoid).casefold()
        nonce = next(k for k in range(len(avoid) + 1) if NAME.partition("{")[0] + f"{k}k" not in avoid)
        names = {t: NAME.format(nonce=nonce, number=k) for k, t in enumerate(sorted(self.special | self.written))}
        if nonce not in self._renamed:
            self._renamed[nonce] = _rename(backend, names)
        return self._renamed[nonce], names

    @cached_property
    def _renamed(self) -> dict[int, Tokenizer]:
        return {}


class TurnsAsText:
    """Turns for a chat template, and the token ids of what it makes of them.

    Args:
        tokenizer: a tokenizer of transformers.
        turns: the messages, or any texts as messages.

    Attributes:
        turns: the messages to render; without control tokens they are those given.

    Example:
        >>> from nashward import llm
        >>> from nashward.llm.policy.base.checks import check_policy
        >>> tokenizer = check_policy(llm.pocket.POLICY)
        >>> hidden = TurnsAsText(tokenizer, [{"role": "user", "content": "a<|user|>"}])
        >>> ids = hidden.ids(hidden.turns[0]["content"])
        >>> tokenizer.decode(ids), tokenizer.convert_tokens_to_ids("<|user|>") in ids
        ('a<|user|>', False)
    """

    def __init__(self, tokenizer: Any, turns: Sequence[Message]) -> None:
        self.tokenizer, self.control = tokenizer, control_tokens(tokenizer)
        contents = [turn["content"] for turn in turns]
        self._found = self.control.found_in(contents)
        self._hidden: dict[str, str] = {}  # by the sign in its place
        self.turns = [dict(turn) for turn in turns]
        self.hides = self._found or any(map(self._may_complete, contents))
        if not self.hides:
            return
        self._free = _free_characters("".join(contents))
        self._border = next(self._free)
        for turn in self.turns:
            # A template may look for marks in past answers, such as those of reasoning, which are no forgery there.
            pattern = self.control.special_pattern if turn["role"] == "assistant" else self.control.pattern
            text = self._with_ends_hidden(pattern.sub(lambda match: self._hide(match[0]), turn["content"]))
            turn["content"] = self._bordered(text) if self._found else text

    def _may_complete(self, text: str) -> bool:
        """Whether a text begins or ends with a part of a control token, or is one; a template may write the rest."""
        body = text.strip()
        return bool(self.control.start_of(body) or self.control.end_of(body)) or self.control.is_inside(body)

    def _with_ends_hidden(self, text: str) -> str:
        lead, body = text[: len(text) - len(text.lstrip())], text.strip()
        tail = text[len(lead) + len(body) :]
        if self.control.is_inside(body):
            return lead + self._hide(body) + tail
        if start := self.control.start_of(body):
            body = self._hide(start) + body[len(start) :]
        if end := self.control.end_of(body):
            body = body[: -len(end)] + self._hide(end)
        return lead + body + tail

    def _hide(self, text: str) -> str:
        """The sign in place of a text."""
        known = next((sign for sign, hidden in self._hidden.items() if hidden == text), None)
        if known is None:
            known = next(self._free)
            self._hidden[known] = text
        return known

    def _bordered(self, text: str) -> str:
        """A text that makes no control token with the one before or after it, and begins and ends as ``text`` does."""
        lead, body = len(text) - len(text.lstrip()), text.strip()
        if not body:
            return text
        # not inside a mark that an assistant's turn keeps
        head = next((len(mark) for mark in self.control.written if body.startswith(mark)), 1)
        tail = len(body) - next((len(mark) for mark in self.control.written if body.endswith(mark)), 1)
        inside = (
            body[:head] + self._border + (body[head:tail] + self._border + body[tail:] if tail > head else body[head:])
        )
        return text[:lead] + inside + text[lead + len(body) :]

    def ids(self, rendered: str) -> list[int]:
        """The token ids of a rendered text, or of a part of it, without special tokens of the tokenizer's own."""
        plain = self.plain(rendered)
        if plain is not None:
            return self.tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]
        tokenizer, text = self.renamed(rendered)
        tokenizer.no_truncation()
        return tokenizer.encode(text, add_special_tokens=False).ids

    def plain(self, rendered: str) -> str | None:
        """A rendered text for the tokenizer as it is; None where it would find control tokens that users wrote."""
        if self._found:
            return None
        shown, pattern = self.shown(rendered), self.control.pattern
        if shown == rendered or pattern.findall(shown) == pattern.findall(rendered):
            return shown
        return None

    def renamed(self, rendered: str) -> tuple[Tokenizer, str]:
        """A rendered text with other names for the template's control tokens, and the tokenizer that knows these."""
        tokenizer, names = self.control.renamed(self.shown(rendered))
        text = self.control.pattern.sub(lambda match: names[match[0]], rendered)
        return tokenizer, self.shown(text)

    def shown(self, rendered: str) -> str:
        """A rendered text with the users' control tokens in it again."""
        if not self.hides:
            return rendered
        return rendered.translate({ord(self._border): None, **{ord(c): text for c, text in self._hidden.items()}})


def control_tokens(tokenizer: Any, marks: tuple[str, ...] = ()) -> ControlTokens:
    """The control tokens of a tokenizer, found once as long as its template and its vocabulary stay."""
    state = str(tokenizer.chat_template), len(tokenizer), tuple(tokenizer.all_special_tokens)
    return _control_tokens(tokenizer, marks, *state)


@lru_cache(maxsize=8)
def _control_tokens(tokenizer: Any, marks: tuple[str, ...], *state: Any) -> ControlTokens:
    return ControlTokens(tokenizer, marks)


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text as text, without special tokens.

    Example:
        >>> from nashward import llm
        >>> from nashward.llm.policy.base.checks import check_policy
        >>> tokenizer = check_policy(llm.pocket.POLICY)
        >>> tokenizer.convert_ids_to_tokens(text_ids(tokenizer, "<|user|>"))
        ['<', '|', 'u', 's', 'er', '|', '>']
    """
    turns = TurnsAsText(tokenizer, [{"role": "user", "content": text}])
    return turns.ids(turns.turns[0]["content"])


def _is_mark(text: str) -> bool:
    return not (text[:1].isalnum() or text[-1:].isalnum() or any(sign.isspace() for sign in text)) and len(text) > 2


def _alternatives(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


def _free_characters(text: str) -> Iterator[str]:
    taken = set(text)
    return (chr(code) for code in PRIVATE if chr(code) not in taken and code & 0xFFFE != 0xFFFE)


def _rename(backend: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A copy in which tokens have other names and the ids that they had."""
    content = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = content["model"]
    # in the vocabulary too: a model of whole words or of pieces would find the text there, and give it the same id
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(text, text): number for text, number in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if names.keys().isdisjoint(_merged(merge))]
    return Tokenizer.from_str(json.dumps(content))


def _merged(merge: str | Sequence[str]) -> tuple[str, str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right, left + right
