"""Tiny reward models and general preference models with random weights, in the format of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
)

from . import tiny, tiny_pairrm

DECODERS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForSequenceClassification),
    "qwen2": (Qwen2Config, Qwen2ForSequenceClassification),
}
ENCODERS: dict[str, tuple[Any, Any]] = {
    "bert": (BertConfig, BertForSequenceClassification),
    "deberta": (DebertaV2Config, DebertaV2ForSequenceClassification),
    "roberta": (RobertaConfig, RobertaForSequenceClassification),
}
_SHAPE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_DEBERTA: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}


def with_bos(words: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer, writing <s> before every text by itself, as Llama's and Gemma's do."""
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", words.bos_token_id)]
    )
    return words


def reward_model(folder: Path, kind: str, *, seed: int = 0, labels: int = 1, pad: bool = True) -> Path:
    """A sequence classifier of that kind with its tokenizer; weights so large that rewards differ by about 1."""
    if kind in DECODERS:
        words: Any = with_bos(tiny.tokenizer(pad=pad))
        config, network = DECODERS[kind]
        extra: dict[str, Any] = {"num_key_value_heads": 1, "max_position_embeddings": 512}
    else:
        words = encoder_tokenizer(kind)
        config, network = ENCODERS[kind]
        extra = {"max_position_embeddings": 130, **(_DEBERTA if kind == "deberta" else {})}
    settings = config(vocab_size=len(words), num_labels=labels, pad_token_id=words.pad_token_id, **_SHAPE, **extra)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(settings)
        enlarge(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def gpm(
    folder: Path, dimensions: int, *, prompt_head: bool = True, seed: int = 0, half: bool = False, head: bool = True
) -> Path:
    """A GPM on a tiny Llama: its tensors, the two heads and the language model's own, which nobody reads."""
    words = with_bos(tiny.tokenizer(pad=False))
    settings = LlamaConfig(vocab_size=len(words), num_key_value_heads=1, max_position_embeddings=512, **_SHAPE)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(settings)
        enlarge(model)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        if head:
            state["value_head.weight"] = torch.randn(dimensions, settings.hidden_size)
        if head and prompt_head:
            state["prompt_head.weight"] = 0.3 * torch.randn(dimensions // 2, settings.hidden_size)
    settings.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text()) | {"architectures": ["CustomRewardModel"]}
    (folder / "config.json").write_text(json.dumps(written))
    if half:
        state = {key: value.bfloat16() for key, value in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    words.save_pretrained(folder)
    return folder


def encoder_tokenizer(kind: str) -> Any:
    if kind == "deberta":
        return tiny_pairrm.tokenizer()
    if kind == "bert":
        letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?!+'"
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
        return BertTokenizer(vocab={piece: k for k, piece in enumerate(pieces)})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return RobertaTokenizer(vocab={piece: k for k, piece in enumerate(pieces)}, merges=[])


def enlarge(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.3)
