"""The longest text of which a network is one policy: its table of positions, and where its rotations change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TABLES = {"wpe", "embed_positions", "position_embeddings", "position_embedding", "embed_pos"}


@dataclass(frozen=True)
class TextLimit:
    """The longest text that a network can be trained on, a prompt and its response.

    Attributes:
        tokens: of that text.
        reason: why none longer, as the continuation of the network's name.

    Example:
        >>> TextLimit(1024, "has positions for 1024 tokens").tokens
        1024
    """

    tokens: int
    reason: str


def text_limit(network: Any) -> TextLimit | None:
    """The limit of a causal language model; None where it has none."""
    learned, rotary = learned_positions(network), rotary_limit(network.config)
    limits = [] if learned is None else [TextLimit(learned, f"has positions for {learned} tokens")]
    limits += [] if rotary is None else [rotary]
    return min(limits, key=lambda limit: limit.tokens, default=None)


def learned_positions(network: Any) -> int | None:
    """The longest text in tokens of a network that looks positions up in a table; None where it computes them."""
    named = [*network.named_modules(), *network.named_buffers()]
    if not any(name.rpartition(".")[2] in TABLES for name, _ in named):
        return None
    return getattr(network.config.get_text_config(), "max_position_embeddings", None)


def rotary_limit(config: Any) -> TextLimit | None:
    """The longest text whose rotary frequencies are those of every shorter one; None where they never change.

    With "longrope" (Phi-3 128k) and "dynamic" frequencies, all tokens of a text of more than n tokens are rotated
    otherwise than in a shorter text, also the first ones. A response is sampled token by token, the first ones in a
    short text, and scored as a whole: its log-probability would be that of another policy, by nats.

    Args:
        config: of the model.

    Example:
        >>> from transformers import LlamaConfig
        >>> rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        >>> rotary_limit(LlamaConfig(max_position_embeddings=64, rope_parameters=rope)).tokens
        64
    """
    found = [
        TextLimit(
            tokens,
            f"rotates positions by other frequencies ({kind}) in texts of more than {tokens} tokens, in which the "
            "tokens sampled before would have other log-probabilities",
        )
        for kind, tokens in _changes(config.get_text_config())
    ]
    return min(found, key=lambda limit: limit.tokens, default=None)


def _changes(config: Any) -> Iterator[tuple[str, int]]:
    """The kinds of frequencies that change with the text's length, and after how many tokens."""
    stated = getattr(config, "rope_parameters", None) or {}
    several = [one for one in stated.values() if isinstance(one, Mapping)]  # of each kind of layer
    for rope in several or [stated]:
        kind, most = rope.get("rope_type"), getattr(config, "max_position_embeddings", None)
        if kind == "longrope" and rope.get("short_factor") != rope.get("long_factor"):
            original = getattr(config, "original_max_position_embeddings", None)
            most = rope.get("original_max_position_embeddings") or original or most
        elif kind != "dynamic":
            continue
        if most:
            yield kind, int(most)
