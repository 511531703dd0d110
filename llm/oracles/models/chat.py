"""Oracles that read each response by itself: a prompt and a response as one row of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from tokenizers import Tokenizer

from nashward.errors import NashwardError, RefusedPromptError

from ...policy.chat_template import render
from ...policy.control_tokens import TurnsAsText, control_tokens
from .checkpoint import Member
from .network import Key, NetworkOracle, RowCount, RowLength
from .pretrained import Pretrained, PretrainedOracle

MAX_LENGTH = 4096  # tokens of a row, unless tokenizer or configuration have a smaller limit


class Tokens(NamedTuple):
    """One text in tokens.

    Attributes:
        ids: the token ids.
        segments: 0 for the first text of a pair and 1 for the second, from tokenizers with token types; else None.
        cut: whether the text was truncated.
    """

    ids: list[int]
    segments: list[int] | None
    cut: bool


class Conversation(NamedTuple):
    """A conversation in the chat template.

    Attributes:
        turns: that it was made of.
        text: what the template made of them.
    """

    turns: TurnsAsText
    text: str


class Chat:
    """Conversations as tokens: chat template, control tokens and truncation.

    A control token that a text spells out is read as text: "<|im_end|>" in a text ends no turn.

    Args:
        tokenizer: a fast tokenizer; it is set to truncate on the right.
        name: of the oracle, for errors.
        max_length: tokens of a row; longer ones are truncated.

    Raises:
        ValueError: ``max_length`` is below 1.
    """

    def __init__(self, tokenizer: Any, *, name: str, max_length: int) -> None:
        if max_length < 1:
            raise NashwardError(f"max_length is {max_length}; expected the tokens of a row, at least 1")
        self.tokenizer, self.name, self.max_length = tokenizer, name, max_length
        tokenizer.truncation_side = "right"

    def conversation(self, prompt: str, response: str | None = None) -> Conversation:
        """The chat template of the user's turn and, if there is a response, the assistant's; no generation prompt.

        Raises:
            ValueError: the template raises an error on these turns, or leaves out what they say.
        """
        messages = [{"role": "user", "content": replace_surrogates(prompt)}]
        if response is not None:
            messages.append({"role": "assistant", "content": replace_surrogates(response)})
        turns = TurnsAsText(self.tokenizer, messages)
        try:
            return Conversation(turns, render(self.tokenizer, turns.turns, add_generation_prompt=False))
        except RefusedPromptError as error:
            roles = " and ".join(message["role"] for message in messages)
            raise NashwardError(f"{self.name} cannot read a conversation of {roles}: {error}") from None

    def tokens(self, conversations: Sequence[Conversation], *, add_special_tokens: bool) -> list[Tokens]:
        """Tokenise conversations.

        Args:
            conversations: as ``conversation`` makes them.
            add_special_tokens: whether the tokenizer adds its own, as BOS.
        """
        texts = [one.turns.plain(one.text) for one in conversations]
        hidden = {k: one.turns.renamed(one.text) for k, one in enumerate(conversations) if texts[k] is None}

        def tokenise(chosen: Sequence[int], limit: int) -> Any:
            options = {"truncation": True, "max_length": limit, "add_special_tokens": add_special_tokens}
            return self.tokenizer([texts[k] for k in chosen], **options)

        plain = [k for k in range(len(conversations)) if k not in hidden]
        found = dict(zip(plain, self._within(plain, tokenise), strict=True))
        for k, (tokenizer, text) in hidden.items():
            found[k] = self._hidden(tokenizer, text, None, add_special_tokens)
        return [found[k] for k in range(len(conversations))]

    def pairs(self, prompt: str, responses: Sequence[str]) -> list[Tokens]:
        """Tokenise a prompt and each response as pairs of texts, with the special tokens of the tokenizer."""
        prompt, responses = replace_surrogates(prompt), [replace_surrogates(response) for response in responses]
        control = control_tokens(self.tokenizer)
        hidden = [k for k, response in enumerate(responses) if control.found_in([prompt, response])]

        def tokenise(chosen: Sequence[int], limit: int) -> Any:
            second = [responses[k] for k in chosen]
            return self.tokenizer([prompt] * len(second), second, truncation=True, max_length=limit)

        plain = [k for k in range(len(responses)) if k not in hidden]
        found = dict(zip(plain, self._within(plain, tokenise), strict=True))
        for k in hidden:
            tokenizer, _ = control.renamed(prompt + responses[k])
            found[k] = self._hidden(tokenizer, prompt, responses[k], True)
        return [found[k] for k in range(len(responses))]

    def _within(self, chosen: Sequence[int], tokenise: Callable[[Sequence[int], int], Any]) -> list[Tokens]:
        """The tokens of texts, the long ones truncated."""
        if not chosen:
            return []
        # One token above the limit shows which texts are too long. Those are tokenised again with the limit, because a
        # tokenizer may write a special token behind a truncated text.
        batch = tokenise(chosen, self.max_length + 1)
        long = [k for k, ids in enumerate(batch["input_ids"]) if len(ids) > self.max_length]
        ids, segments = list(batch["input_ids"]), list(batch.get("token_type_ids") or [None] * len(chosen))
        if long:
            truncated = tokenise([chosen[k] for k in long], self.max_length)
            for place, k in enumerate(long):
                ids[k] = truncated["input_ids"][place]
                segments[k] = truncated["token_type_ids"][place] if segments[k] is not None else None
        return [Tokens(ids[k], segments[k], k in set(long)) for k in range(len(chosen))]

    def _hidden(self, tokenizer: Tokenizer, text: str, pair: str | None, add_special_tokens: bool) -> Tokens:
        """The tokens of a text, or of two, whose control tokens have other names in this tokenizer."""
        for limit in (self.max_length + 1, self.max_length):
            tokenizer.enable_truncation(limit)
            encoding = tokenizer.encode(text, pair, add_special_tokens=add_special_tokens)
            if limit > self.max_length and len(encoding.ids) <= self.max_length:
                break
        segments = encoding.type_ids if "token_type_ids" in self.tokenizer.model_input_names else None
        return Tokens(encoding.ids, segments, limit == self.max_length)


class ChatOracle(PretrainedOracle):
    """Base of oracles that read each response by itself: K rows of tokens for a table of K x K.

    Args:
        model: the network, in evaluation mode, on its device; its ``backbone`` is a model of transformers.
        tokenizer: its fast tokenizer.
        name: shown in reports; None: that of the class.
        token_budget, members: see ``NetworkOracle``.
        max_length: tokens of a row, longer ones are truncated. None: see ``max_row_length``.

    Raises:
        ValueError: ``token_budget`` or ``max_length`` below 1, or a tokenizer that lacks what the class needs.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str | None = None,
        token_budget: int | None = None,
        max_length: int | None = None,
        members: Sequence[Member] = (),
    ) -> None:
        name = self.name if name is None else name
        self._check_tokenizer(tokenizer, name)
        super().__init__(model, tokenizer, name=name, token_budget=token_budget, members=members)
        self.max_length = max_row_length(model.backbone, tokenizer) if max_length is None else max_length
        self._chat = Chat(tokenizer, name=name, max_length=self.max_length)

    @classmethod
    def from_network(cls, source: Pretrained, network: Any, *, ensemble: bool, **options: Any) -> Self:
        """See ``PretrainedOracle.from_network``.

        Raises:
            ValueError: the tokenizer writes tokens that the network has no embedding for.
        """
        oracle = super().from_network(source, network, ensemble=ensemble, **options)
        check_vocabulary(oracle, network.backbone.get_input_embeddings().num_embeddings)
        return oracle

    @classmethod
    def _check_rows(cls, source: Pretrained, network: Any) -> None:
        oracle = cls(network, source.tokenizer, name=source.name)
        check_vocabulary(oracle, network.backbone.get_input_embeddings().num_embeddings)

    @classmethod
    def _row_lengths(cls, source: Pretrained, network: Any) -> tuple[RowLength, RowCount]:
        limit = max_row_length(network.backbone, source.tokenizer)
        template = _template_length(source.tokenizer, source.name, limit)
        return lambda prompt, response: min(limit, prompt + response + template), lambda responses: responses

    @staticmethod
    def keys(i: int, j: int) -> tuple[Key, ...]:
        return (i,), (j,)


def replace_surrogates(text: str) -> str:
    """The text with a "?" for each half of a surrogate pair, as broken JSON has it: tokenizers refuse those."""
    return text.encode("utf-8", "replace").decode()


def _template_length(tokenizer: Any, name: str, limit: int) -> int:
    """The tokens of a row besides those of its prompt and its response, at most."""
    chat = Chat(tokenizer, name=name, max_length=limit)
    if tokenizer.chat_template:
        return len(chat.tokens([chat.conversation("a", "a")], add_special_tokens=True)[0].ids)
    return len(chat.pairs("a", ["a"])[0].ids)


def max_row_length(network: Any, tokenizer: Any) -> int:
    """The largest number of tokens of a row: the least of the tokenizer's limit, the network's positions and 4096."""
    positions = getattr(network.config.get_text_config(), "max_position_embeddings", None) or 0
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1  # RoBERTa and its kin count from behind the pad token
    return min(limit for limit in (tokenizer.model_max_length, positions, MAX_LENGTH) if limit > 0)


def check_vocabulary(oracle: NetworkOracle, rows: int) -> None:
    """Check that every token of a row has one of the ``rows`` embeddings; a pad token without one is removed.

    Raises:
        ValueError: a token of text, or of the chat format, has no embedding.
    """
    tokenizer = oracle.tokenizer
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = None  # padding is masked, so any other token will do
    ids, _ = oracle.row(oracle.encode("a", ["b"])[0], (0,))
    special = {k for k, token in tokenizer.added_tokens_decoder.items() if token.special}
    pieces = {k for k in tokenizer.get_vocab().values() if k not in special}
    beyond = tokenizer.convert_ids_to_tokens(sorted(k for k in pieces.union(ids) if k >= rows))
    if beyond:
        raise NashwardError(
            f"{oracle.name} embeds {rows} tokens but its tokenizer has {len(beyond)} beyond them, as {beyond[0]!r}: "
            "checkpoint and tokenizer do not belong together"
        )
