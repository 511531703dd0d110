"""Tiny PairRM checkpoints with random weights, in both published layouts."""

import collections
import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import DebertaV2Config, DebertaV2Model, DebertaV2Tokenizer

from nashward.llm.oracles.models.pairrm import MARKERS, PREFIX_KEYS, PairRMModel

SOURCE_MAXLENGTH, CANDIDATE_MAXLENGTH = 96, 32
SPECIALS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
CORPUS = [
    "What is the capital of France? The capital of France is Paris, a city on the river Seine.",
    "Write a short poem about the sea and the old sailor who loved it.",
    "def add(a, b): return a + b  # adds two numbers 0 1 2 3 4 5 6 7 8 9",
    "Grüße aus Köln, où est la gare? 你好 <|>[]SEPCLS!?.,:;'\"-_()",
    "I am sorry, but I cannot help with that request today; please ask me something else.",
]
RANKER = {
    "ranker_type": "pairranker",
    "model_type": "deberta",
    "source_maxlength": SOURCE_MAXLENGTH,
    "candidate_maxlength": CANDIDATE_MAXLENGTH,
    "n_tasks": 1,
    "drop_out": 0.05,
    "fp16": False,
}


def _vocabulary(size: int = 180) -> list[tuple[str, float]]:
    """The letters of `CORPUS` and its most frequent pieces, by log frequency; a trainer breaks ties by chance."""
    counts: collections.Counter[str] = collections.Counter()
    for word in " ".join(CORPUS).split():
        marked = f"▁{unicodedata.normalize('NFC', word)}"
        counts.update(marked[i:j] for i in range(len(marked)) for j in range(i + 1, min(i + 9, len(marked)) + 1))
    letters = sorted(piece for piece in counts if len(piece) == 1)
    longer = sorted(
        (piece for piece in counts if len(piece) > 1), key=lambda piece: (-counts[piece] * len(piece), piece)
    )
    pieces = (letters + longer)[: size - len(SPECIALS)]
    total = sum(counts[piece] for piece in pieces)
    return [*((special, 0.0) for special in SPECIALS), *((piece, math.log(counts[piece] / total)) for piece in pieces)]


def tokenizer() -> DebertaV2Tokenizer:
    """DeBERTa's own tokenizer class over a small Unigram vocabulary of `CORPUS`."""
    return DebertaV2Tokenizer(vocab=_vocabulary(), unk_id=3)


def weights(vocabulary: int, seed: int = 0, n_tasks: int = 1) -> tuple[DebertaV2Config, dict[str, torch.Tensor]]:
    """A configuration and random tensors, large enough that logits differ from 0 by about 1."""
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape["intermediate_size"] = 48
    shape |= {"relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}
    shape |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0, "pad_token_id": 0}
    config = DebertaV2Config(vocab_size=vocabulary, **shape)
    torch.manual_seed(seed)
    model = PairRMModel(DebertaV2Model(config), config.hidden_size, n_tasks)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.3)
    return config, {key: value.clone() for key, value in model.state_dict().items()}


def ranker_layout(folder: Path, *, binary: bool = False, half: bool = False, n_tasks: int = 1) -> Path:
    """llm-blender/PairRM: config.json names the base model, which is a folder here; `folder/base` holds it whole."""
    tok = tokenizer()
    base = folder / "base"
    size = len(tok)
    config, state = weights(size + len(MARKERS), n_tasks=n_tasks)
    config.vocab_size = size
    DebertaV2Model(config).save_pretrained(base)  # llm-blender loads the base's weights too, and discards them
    tok.save_pretrained(base)
    # llm-blender resolves the name against the working directory, ours against the checkpoint
    (folder / "config.json").write_text(json.dumps({**RANKER, "model_name": str(base), "n_tasks": n_tasks}))
    if half:
        state = {key: value.half() for key, value in state.items()}
    if binary:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors")
    return folder


def hf_layout(folder: Path) -> Path:
    """llm-blender/PairRM-hf: one folder with the encoder's config, the tokenizer with its markers and the weights."""
    tok = tokenizer()
    tok.add_tokens(list(MARKERS))
    config, state = weights(len(tok))
    extra = {key: tok.convert_tokens_to_ids(marker) for key, marker in zip(PREFIX_KEYS, MARKERS, strict=True)}
    settings = {**config.to_dict(), **extra, "n_tasks": 1, "drop_out": 0.05, "architectures": ["DebertaV2PairRM"]}
    settings |= {"source_maxlength": SOURCE_MAXLENGTH, "candidate_maxlength": CANDIDATE_MAXLENGTH}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    tok.save_pretrained(folder)
    save_file(state, folder / "model.safetensors")
    return folder
