"""A chat model of a few thousand parameters, random, in the format of the real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nashward.llm import LanguageModel, Lora
from nashward.llm.data.rollouts import Response, Rollout
from nashward.llm.oracles import PreferenceOracle
from nashward.llm.policy.placement import Placement

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]


def tokenizer(chat: bool = True, pad: bool = True, eos: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level, no merges; the template closes a turn with <|end|>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(SPECIAL + alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    result = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>" if eos else None,
        pad_token="<pad>" if pad else None,
        additional_special_tokens=SPECIAL[3:],
    )
    if chat:
        result.chat_template = TEMPLATE
    return result


def policy(folder: Path, seed: int = 0, layers: int = 2, **options: bool) -> Path:
    """Write the model with its tokenizer into a folder; two stop ids, as Llama 3 has."""
    words = tokenizer(**options)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=[1, 6],
        pad_token_id=None,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LlamaForCausalLM(config)
    network.generation_config.eos_token_id = [1, 6]
    network.generation_config.repetition_penalty = 1.3  # as some checkpoints have: it must not leak into our sampling
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def random_policy(folder: Path, spread: float) -> Path:
    """A random model whose head is steep enough to represent the targets."""
    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=1, initializer_range=spread,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def truncate_weights(folder: Path) -> None:
    """Cut a checkpoint's weights, as an interrupted download leaves them."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def stirred(folder: Path, placement: Placement, **options: Any) -> LanguageModel:
    """The model in a placement, its adapters with weights that change something."""
    model = LanguageModel.from_pretrained(folder, lora=Lora(rank=4), placement=placement, **options)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.network.named_parameters():
        if "lora_" in name:
            weight.data = (0.1 * torch.randn(weight.shape, generator=generator)).to(weight.device)
    return model


class ScoreOracle(PreferenceOracle):
    """Win probabilities from the score of a text: transitive, deterministic, no weights."""

    symmetric = True
    transitive = True

    def __init__(self, name: str, score: Callable[[str], float]):
        self.name, self.score = name, score

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Sequence[tuple[int, int]]]
    ) -> list[np.ndarray]:
        scores = [[self.score(text) for text in texts] for texts in candidates]
        return [np.array([own[i] - own[j] for i, j in asked]) for own, asked in zip(scores, pairs, strict=True)]


def high_bytes() -> ScoreOracle:
    return ScoreOracle("bytes above m", lambda text: 4.0 * sum(c > "m" for c in text) / max(len(text), 1))


def brevity() -> ScoreOracle:
    return ScoreOracle("brevity", lambda text: -0.5 * len(text))


def noise() -> ScoreOracle:
    """A coin for each text: nothing of it carries over to other texts."""
    return ScoreOracle("noise", lambda text: 3.0 * (hashlib.sha256(text.encode()).digest()[0] / 255 - 0.5))


def one_prompt(model: LanguageModel) -> LanguageModel:
    """The model, asked "?" whatever the prompt is: all prompts have the same distribution of responses."""
    ids = [model.tokenizer.bos_token_id, *model.tokenizer("?")["input_ids"]]
    model.encode = lambda prompt: ids  # type: ignore[method-assign]
    return model


def rollout(prompt: str, prompt_ids: Sequence[int], ids: Sequence[Sequence[int]], payoffs: torch.Tensor) -> Rollout:
    """Judged responses that weigh the same."""
    return Rollout(prompt, prompt_ids, [Response(row, weight=1 / len(ids)) for row in ids], payoffs)
