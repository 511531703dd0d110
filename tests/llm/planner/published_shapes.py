"""The configurations of published models, by the name of their recipe: shapes alone, as their config.json has them."""

from __future__ import annotations

from typing import Any

from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, PretrainedConfig, Qwen3Config

SHAPES: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "mistral-7b": (MistralConfig, {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": None,
    }),
    "llama-3.1-8b": (LlamaConfig, {
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    }),
    "qwen3-8b": (Qwen3Config, {
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False,
    }),
    "qwen3-4b": (Qwen3Config, {
        "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
    }),
    "gemma-3-4b": (Gemma3TextConfig, {
        "vocab_size": 262208, "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 1024,
    }),
    "smollm2-1.7b": (LlamaConfig, {
        "vocab_size": 49152, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": True,
    }),
    "smollm2-135m": (LlamaConfig, {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    }),
}  # fmt: skip


def configuration(name: str) -> PretrainedConfig:
    """A new configuration: planning changes it."""
    kind, shape = SHAPES[name]
    return kind(**shape)
