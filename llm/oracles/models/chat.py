"""A prompt and a response as one row of tokens, for oracles that read each response by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from nashward.errors import NashwardError
from nashward.llm.data.library_errors import first_line

from .checkpoint import members_size
from .network import NetworkOracle, OracleShape

MAX_LENGTH = 4096  # tokens of a row, where neither the tokenizer nor the configuration says less


class Tokens(NamedTuple):
    """One text in tokens.

    Attributes:
        ids: the token ids.
        segments: 0 for the first text of a pair and 1 for the second, where the tokenizer tells them apart; else None.
        cut: whether the text was longer.
    """

    ids: list[int]
    segments: list[int] | None
    cut: bool


class Chat:
    """One tokenizer's way to write and to cut a conversation.

    Args:
        tokenizer: a fast tokenizer; it is set to cut on the right.
        name: what errors call it.
        max_length: tokens of a row; more are cut.

    Raises:
        ValueError: if ``max_length`` is below 1.
    """

    def __init__(self, tokenizer: Any, *, name: str, max_length: int) -> None:
        if max_length < 1:
            raise NashwardError(f"max_length is {max_length}; expected the tokens of a row, at least 1")
        self.tokenizer, self.name, self.max_length = tokenizer, name, max_length
        tokenizer.truncation_side = "right"
        added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
        control = sorted({*tokenizer.all_special_tokens, *added} - {""}, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, control)) or r"(?!)")

    def plain(self, text: str) -> str:
        """The text with a blank in place of each control token: a user who writes "<|im_end|>" ends no turn."""
        return self._control.sub(" ", sound(text))

    def text(self, prompt: str, response: str | None = None) -> str:
        """The chat template of the user's turn and, if there is a response, the assistant's; no generation prompt.

        Raises:
            ValueError: if the template refuses these turns.
        """
        turns = [{"role": "user", "content": self.plain(prompt)}]
        if response is not None:
            turns.append({"role": "assistant", "content": self.plain(response)})
        try:
            return self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
        except TemplateError as error:
            roles = " and ".join(turn["role"] for turn in turns)
            raise NashwardError(
                f"the chat template of {self.name} refuses a conversation of {roles}: {first_line(error)}"
            ) from None

    def tokens(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, add_special_tokens: bool
    ) -> list[Tokens]:
        """The texts, or pairs of texts, in tokens."""

        def call(chosen: Sequence[int], limit: int) -> Any:
            second = None if pairs is None else [pairs[k] for k in chosen]
            options = {"truncation": True, "max_length": limit, "add_special_tokens": add_special_tokens}
            return self.tokenizer([texts[k] for k in chosen], second, **options)

        # One token more than allowed shows which are cut; those are cut anew, as a tokenizer may keep its last token.
        found = call(range(len(texts)), self.max_length + 1)
        long = [k for k, ids in enumerate(found["input_ids"]) if len(ids) > self.max_length]
        ids, segments = list(found["input_ids"]), list(found.get("token_type_ids") or [None] * len(texts))
        if long:
            again = call(long, self.max_length)
            for place, k in enumerate(long):
                ids[k] = again["input_ids"][place]
                segments[k] = again["token_type_ids"][place] if segments[k] is not None else None
        return [Tokens(ids[k], segments[k], k in set(long)) for k in range(len(texts))]


def sound(text: str) -> str:
    """The text with a "?" for each half of a surrogate pair, as broken JSON has it: tokenizers refuse those."""
    return text.encode("utf-8", "replace").decode()


def shape_alone(network: Any, tokenizer: Any, name: str, most: int, folder: Path) -> OracleShape:
    """What a plan needs of an oracle that reads each response by itself, in rows of at most so many tokens."""
    own = _frame(tokenizer, name, most)
    return OracleShape(
        network, lambda prompt, response: min(most, prompt + response + own), lambda count: count, members_size(folder)
    )


def _frame(tokenizer: Any, name: str, most: int) -> int:
    """Tokens that a row has besides those of its prompt and response, at most."""
    chat = Chat(tokenizer, name=name, max_length=most)
    if tokenizer.chat_template:
        return len(chat.tokens([chat.text("a", "a")], add_special_tokens=True)[0].ids)
    return len(chat.tokens(["a"], ["a"], add_special_tokens=True)[0].ids)


def longest(network: Any, tokenizer: Any) -> int:
    """The tokens that a row may have: the least of what the tokenizer says, the network's positions and 4096."""
    positions = getattr(network.config.get_text_config(), "max_position_embeddings", None) or 0
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1  # RoBERTa and its kin count from behind the pad token
    return min(limit for limit in (tokenizer.model_max_length, positions, MAX_LENGTH) if limit > 0)


def check_vocabulary(oracle: NetworkOracle, rows: int) -> None:
    """Whether what the tokenizer writes has an embedding among ``rows``; a pad token without one is dropped.

    Raises:
        ValueError: if a piece of text, or a token of the format, has none.
    """
    tokenizer = oracle.tokenizer
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = None  # added with no row of its own; padding is masked in any case
    ids, _ = oracle.row(oracle.encode("a", ["b"])[0], (0,))
    added = tokenizer.added_tokens_decoder
    pieces = {k for k in tokenizer.get_vocab().values() if k not in added}
    beyond = tokenizer.convert_ids_to_tokens(sorted(k for k in pieces.union(ids) if k >= rows))
    if beyond:
        raise NashwardError(
            f"{oracle.name} embeds {rows} tokens but its tokenizer has {len(beyond)} beyond them, as {beyond[0]!r}: "
            "checkpoint and tokenizer do not belong together"
        )
