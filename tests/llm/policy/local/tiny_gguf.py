"""The tiny chat model as a GGUF file, written by the package ``gguf``: tensors by that format's names and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ... import tiny

MERGED = "th"
EOS, EOT = tiny.SPECIAL.index("</s>"), tiny.SPECIAL.index("<|end|>")
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def vocabulary() -> list[str]:
    words = tiny.tokenizer().get_vocab()
    return [*sorted(words, key=words.__getitem__), MERGED]


def network(seed: int = 0, tied: bool = True) -> LlamaForCausalLM:
    """Random, with weights that bfloat16 holds exactly."""
    config = LlamaConfig(
        vocab_size=len(vocabulary()), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2,
        tie_word_embeddings=tied, rms_norm_eps=1e-5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    for weight in model.parameters():
        weight.data = weight.data.bfloat16().float()
    return model


def write(
    file: Path,
    model: LlamaForCausalLM,
    architecture: str = "llama",
    chat: bool = True,
    q8: bool = False,
    extra: dict[str, np.ndarray[Any, Any]] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """Write the file; ``q8``: linear layers in 8 bits; ``extra`` tensors are added, those in ``without`` left out."""
    import gguf

    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    words = vocabulary()
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([control if word in tiny.SPECIAL else normal for word in words])
    writer.add_token_merges([" ".join(MERGED)])
    writer.add_bos_token_id(tiny.SPECIAL.index("<s>"))
    writer.add_eos_token_id(EOS)
    writer.add_eot_token_id(EOT)
    writer.add_pad_token_id(tiny.SPECIAL.index("<pad>"))
    if chat:
        writer.add_chat_template(tiny.TEMPLATE)
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    if not config.tie_word_embeddings:
        names["output"] = "lm_head"
    for i in range(config.num_hidden_layers):
        names |= {f"blk.{i}.{name}": f"model.layers.{i}.{theirs}" for name, theirs in LAYER.items()}
    for name, theirs in names.items():
        weight = state[f"{theirs}.weight"].numpy()
        if name.endswith(("attn_q", "attn_k")):  # pairs of dimensions that rotate together lie side by side
            heads = config.num_attention_heads if name.endswith("q") else config.num_key_value_heads
            weight = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        if name in without:
            continue
        if q8 and weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", np.ascontiguousarray(weight))
    for name, tensor in (extra or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
