"""Chat policies of any shape with random weights, as folders that transformers loads: in 4 bits or in 16.

A 4-bit layer is quantised on the device as it is made, so that a 7B model takes seconds and 4 GB of disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, MistralConfig, PreTrainedTokenizerFast

PAD, BOS, EOS = 0, 1, 2
WORDS = range(3, 1000)  # the ids that the texts of the benchmarks are made of
TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
SHAPES: dict[str, dict[str, Any]] = {
    "toy": {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    | {"num_attention_heads": 2, "num_key_value_heads": 1},
    "tiny": {"vocab_size": 128_256, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
    | {"num_attention_heads": 4, "num_key_value_heads": 2},
    "deep": {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 32}
    | {"num_attention_heads": 2, "num_key_value_heads": 1},  # a 7B's depth and hardly any arithmetic
    "llama-1b": {"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True},
    "mistral-7b": {"vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32}
    | {"num_attention_heads": 32, "num_key_value_heads": 8},
    "llama-3-8b": {"vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32}
    | {"num_attention_heads": 32, "num_key_value_heads": 8},
}
NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)


def configuration(shape: str, vocabulary: int | None = None) -> LlamaConfig | MistralConfig:
    """The configuration of a shape, with another number of words if one is given."""
    settings: dict[str, Any] = {"tie_word_embeddings": False, "max_position_embeddings": 8192, **SHAPES[shape]}
    settings |= {"vocab_size": vocabulary} if vocabulary else {}
    ids: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    if shape.startswith("mistral"):
        return MistralConfig(**settings, **ids, sliding_window=None)
    return LlamaConfig(**settings, **ids)


def policy_folder(work: Path, shape: str, device: str, *, quantised: bool = True) -> Path:
    """The folder of a policy of this shape; it is made where it is not there."""
    folder = work / f"{shape}-{'nf4' if quantised else 'bf16'}"
    finished = folder / "model.safetensors.index.json"
    if not finished.exists():
        folder.mkdir(parents=True, exist_ok=True)
        config = configuration(shape)
        if quantised:
            config.quantization_config = NF4.to_dict()
        config.dtype = torch.bfloat16
        config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
        config.save_pretrained(folder)
        tokenizer(config.vocab_size).save_pretrained(folder)
        places: dict[str, str] = {}
        total = 0
        for number, state in enumerate(_weights(config, device, quantised)):
            name = f"model-{number:05d}.safetensors"
            save_file(state, folder / name, metadata={"format": "pt"})
            places |= dict.fromkeys(state, name)
            total += sum(weight.nbytes for weight in state.values())
        finished.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    return folder


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One word an id: a text of n words has n tokens."""
    words = {"<pad>": PAD, "<s>": BOS, "</s>": EOS, **{f"w{i}": i for i in range(WORDS.start, vocabulary)}}
    raw = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    made.chat_template = TEMPLATE
    return made


def texts(number: int, words: int, seed: int = 0) -> list[str]:
    """Random texts of so many words each."""
    ids = torch.randint(WORDS.start, WORDS.stop, (number, words), generator=torch.Generator().manual_seed(seed))
    return [" ".join(f"w{i}" for i in row) for row in ids.tolist()]


def _weights(config: Any, device: str, quantised: bool) -> Iterator[dict[str, Tensor]]:
    """The weights, a few hundred megabytes at a time."""
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    generator = torch.Generator(device).manual_seed(0)
    head, tied = network.get_output_embeddings(), config.tie_word_embeddings
    state: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        for part, weight in module.named_parameters(recurse=False):
            if tied and module is head:
                continue
            if weight.ndim == 1:
                state[f"{name}.{part}"] = torch.ones(weight.shape, dtype=torch.bfloat16)
                continue
            values = torch.randn(weight.shape, generator=generator, device=device).mul_(0.02).to(torch.bfloat16)
            if quantised and isinstance(module, torch.nn.Linear) and module is not head:
                state |= _quantised(name, values)
            else:
                state[f"{name}.{part}"] = values.cpu()
        if sum(value.nbytes for value in state.values()) > 2**28:
            yield state
            state = {}
    if state:
        yield state


def _quantised(name: str, values: Tensor) -> dict[str, Tensor]:
    layer = bitsandbytes.nn.Linear4bit(
        values.shape[1], values.shape[0], bias=False, compute_dtype=values.dtype, quant_type="nf4", device="meta"
    )
    weight = bitsandbytes.nn.Params4bit(values, requires_grad=False, quant_type="nf4", compress_statistics=True)
    layer.weight = weight._quantize(values.device)
    return {f"{name}.{part}": value.cpu().clone() for part, value in layer.state_dict().items()}
