"""A tiny causal language model that reads a bag of words: its last state tells which words came before."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

KINDS = ("crisp", "warm", "long", "dry")
FILLERS = tuple(f"w{k}" for k in range(20))
SIZE = 64


def base(folder: Path) -> Path:
    """One layer that attends to all tokens alike and passes their embeddings on; no other weight does anything."""
    words = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "[UNK]", *KINDS, *FILLERS]
    core = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="[UNK]",
        chat_template="{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} </s> {% endfor %}",
    )  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=SIZE, intermediate_size=SIZE, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, initializer_range=1.0, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    layer = model.model.layers[0]
    with torch.no_grad():
        for module in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.mlp.down_proj):
            module.weight.zero_()
        layer.self_attn.v_proj.weight.copy_(torch.eye(SIZE))
        layer.self_attn.o_proj.weight.copy_(20.0 * torch.eye(SIZE))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
