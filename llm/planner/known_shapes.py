"""The shapes of published models that recipes name, to plan for them where neither a hub nor its cache has them.

They are what each model's ``config.json`` on the hub says of its network; no file of theirs is here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    DebertaV2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen3Config,
)

from ..oracles.models.network import OracleShape
from ..oracles.models.pairrm import PairRM
from ..oracles.models.pretrained import Pretrained

# by hub id
POLICIES: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "mistralai/Mistral-7B-Instruct-v0.2": (MistralConfig, {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": None,
    }),
    "meta-llama/Llama-3.1-8B-Instruct": (LlamaConfig, {
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    }),
    "Qwen/Qwen3-8B": (Qwen3Config, {
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False,
    }),
    "Qwen/Qwen3-4B-Instruct-2507": (Qwen3Config, {
        "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
    }),
    # its language model, without the part that sees pictures
    "google/gemma-3-4b-it": (Gemma3TextConfig, {
        "vocab_size": 262208, "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 1024,
    }),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": (LlamaConfig, {
        "vocab_size": 49152, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": True,
    }),
    "HuggingFaceTB/SmolLM2-135M-Instruct": (LlamaConfig, {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    }),
}  # fmt: skip
PAIRRM = "llm-blender/PairRM"
DEBERTA_V3_LARGE: dict[str, Any] = {
    "vocab_size": 128100, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "position_buckets": 256, "relative_attention": True, "norm_rel_ebd": "layer_norm",
    "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip


def known_policy(source: str | Path) -> PretrainedConfig | None:
    """A policy's configuration by its hub id; None of one that is not known.

    Returns:
        a new one: planning changes it.

    Example:
        >>> known_policy("Qwen/Qwen3-8B").num_hidden_layers, known_policy("Qwen/Qwen4-8B")
        (36, None)
    """
    if str(source) not in POLICIES:
        return None
    kind, shape = POLICIES[str(source)]
    return kind(**shape)


def known_oracle(source: Any) -> OracleShape | None:
    """An oracle's network by its hub id, in float32, as its weights are; None of one that is not known.

    Example:
        >>> f"{known_oracle('llm-blender/PairRM').parameters:.2e}", known_oracle("llm-blender/PairRM-2")
        ('4.36e+08', None)
    """
    if source != PAIRRM:
        return None
    # without a tokenizer: its tokens and the four markers have room in DeBERTa's vocabulary
    checkpoint = Pretrained(PAIRRM, Path(), {}, PAIRRM, DebertaV2Config(**DEBERTA_V3_LARGE), tokenizer=())
    return PairRM.shape_of(checkpoint, torch.float32)
