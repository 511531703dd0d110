"""Oracles to be fitted: a base model under a new head, or one that has its head already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification
from transformers.utils import logging

from .checkpoint import read_config, read_tokenizer, resolve, tensor_names
from .gpm import GPM, VALUE_HEAD, GPMModel
from .network import NetworkOracle, freeze, target_device
from .pairrm import MARKERS, PairRM, PairRMModel
from .reward_model import RewardModel, RewardNetwork


def fresh(
    kind: str, base: str | Path, dimensions: int, seed: int, device: str | torch.device | None = None
) -> NetworkOracle:
    """The oracle of that kind on a base model, in float32; a base that is an oracle of the kind keeps its head.

    Args:
        kind: "pairrm", "gpm" or "bt".
        base: a folder or hub id.
        dimensions: of a new preference embedding.
        seed: of the new head and of the markers' embeddings.
    """
    folder = resolve(base)
    target = target_device(device)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        torch.manual_seed(seed)
        if kind == "pairrm":
            return _pairrm(base, folder, target)
        if kind == "gpm":
            return _gpm(base, folder, dimensions, target)
        return _reward_model(base, folder, target)


def _pairrm(base: str | Path, folder: Path, target: torch.device) -> PairRM:
    settings = read_config(folder, "an encoder or a PairRM")
    if "source_prefix_id" in settings or settings.get("ranker_type") == "pairranker":
        return PairRM.from_pretrained(base, device=target, dtype=torch.float32, ensemble=False)
    tokenizer = read_tokenizer(folder, str(base))
    if tokenizer.cls_token is None or tokenizer.sep_token is None:
        raise ValueError(
            f"the tokenizer of {base} has no [CLS] and [SEP]: a PairRM is made from an encoder such as "
            "microsoft/deberta-v3-large; for a causal language model fit --kind gpm or bt"
        )
    encoder = _loaded(AutoModel, base, folder)
    tokenizer.add_tokens(list(MARKERS))
    if len(tokenizer) > encoder.get_input_embeddings().num_embeddings:
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        # a marker begins as a [CLS], whose state sums up what is around it, and a little apart from the others
        table = encoder.get_input_embeddings().weight
        ids = tokenizer.convert_tokens_to_ids(list(MARKERS))
        first = table[tokenizer.cls_token_id]
        table[ids] = first + 0.1 * first.std() * torch.randn(len(ids), table.shape[1])
    config = encoder.config
    config.vocab_size = encoder.get_input_embeddings().num_embeddings
    model = PairRMModel(encoder, config.hidden_size)
    longest = min(getattr(config, "max_position_embeddings", 2048), 2048)
    # as the published model divides its 2048 tokens: 1224 for the prompt, 412 for each response
    limits: dict[str, Any] = {"source_maxlength": longest * 1224 // 2048, "candidate_maxlength": longest * 412 // 2048}
    if config.type_vocab_size == 0 and not getattr(config, "position_biased_input", True):
        limits = {}  # relative positions alone: no length is too long, the published limits hold
    return PairRM(freeze(model.to(target)), tokenizer, name=str(base), **limits)


def _gpm(base: str | Path, folder: Path, dimensions: int, target: torch.device) -> GPM:
    if VALUE_HEAD in tensor_names(folder):
        return GPM.from_pretrained(base, device=target, dtype=torch.float32, ensemble=False)
    # Free lengths, as in the published training code: what says nothing can be given length 0, and a small start
    # prefers nothing. At length 1 the start is sure of itself at random, which few votes do not undo.
    model = GPMModel(_loaded(AutoModel, base, folder), dimensions, normalise=False)
    _start(model.value_head)
    return GPM(freeze(model.to(target)), read_tokenizer(folder, str(base)), name=str(base))


def _reward_model(base: str | Path, folder: Path, target: torch.device) -> RewardModel:
    architectures = read_config(folder, "a language model, an encoder or a reward model").get("architectures") or []
    if any(str(name).endswith("ForSequenceClassification") for name in architectures):
        return RewardModel.from_pretrained(base, device=target, dtype=torch.float32, ensemble=False)
    model = RewardNetwork(_loaded(AutoModelForSequenceClassification, base, folder, num_labels=1))
    _start(model.head)
    return RewardModel(freeze(model.to(target)), read_tokenizer(folder, str(base)), name=str(base))


def _start(head: nn.Linear) -> None:
    """Small, as the published training code of GPM starts its heads: nothing is preferred yet."""
    nn.init.normal_(head.weight, std=1 / (head.in_features + 1))


def _loaded(kind: Any, base: str | Path, folder: Path, **options: Any) -> Any:
    """The base model in float32; the part of its checkpoint that is not the base model's is left away."""
    told = logging.get_verbosity()
    logging.set_verbosity_error()  # transformers reports the head that is left away and the one that is new
    try:
        return kind.from_pretrained(str(folder), dtype=torch.float32, **options)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{base} cannot be loaded as a base model: {str(error).splitlines()[0]}") from None
    finally:
        logging.set_verbosity(told)
