"""The weights of a base: read, by default in NF4, and held against its configuration."""

from __future__ import annotations

import copy
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PretrainedConfig

from nashward.errors import NashwardError
from nashward.shortened import cut

from ...data.library_errors import LIBRARY_ERRORS, first_line
from ..memory import host_memory, release_memory
from .checks import network_config, skeleton
from .experts import Experts

logger = logging.getLogger(__name__)


def load_base(source: str | Path, device: str, dtype: torch.dtype, *, quantise: bool, quantise_head: bool) -> Any:
    """A causal language model with its weights, which stay frozen.

    Args:
        source: a folder or a hub id.
        device: where the weights are read to; host memory where they cannot be quantised there.
        dtype: that of the computation, and of the weights that are not quantised.
        quantise, quantise_head: see ``LanguageModel.from_pretrained``.

    Raises:
        ValueError: the weights cannot be read or are not those of the configuration; ``quantise_head`` without
            ``quantise`` or with a head that is the table of embeddings.
    """
    config = network_config(source)
    options: dict[str, Any] = {"config": config, "dtype": dtype, "device_map": {"": device}}
    if quantise and getattr(config, "quantization_config", None) is None:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=[] if quantise_head else None,
        )
    elif quantise_head:
        raise NashwardError("quantise_head needs quantise, and a base that is not quantised already; leave it out")
    base = _read(source, options)
    if quantise_head and getattr(base.get_output_embeddings().weight, "quant_state", None) is None:
        raise NashwardError(f"the head of {source} is its table of embeddings (tied); leave quantise_head out")
    keep_gradients(base)
    if quantise and (experts := Experts.of(base).size):
        logger.warning(
            f"{source} holds its experts as tensors, which are not quantised: {experts / 2**30:.3g} GiB of them "
            f"stay in {str(dtype).removeprefix('torch.')}"
        )
    return base


def default_device() -> str:
    """ "cuda" where there is a card, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def in_4_bits(
    source: str | Path | PretrainedConfig, device: str, quantise_head: bool = False, memory: int | None = None
) -> bool:
    """Whether a base is quantised by default: on a card, where its head is to be, and on a CPU if it would take over
    half of the memory.

    On a CPU 4 bits are slower than 32, and they change a small model by more than a step does.

    Args:
        source: the base's name or folder, or its configuration.
        device: "cuda" or "cpu".
        quantise_head: whether the head is to be in 4 bits.
        memory: bytes of the host; None: those of this machine.

    Raises:
        FileNotFoundError, ValueError: as ``skeleton``.
    """
    if quantise_head or not device.startswith("cpu"):
        return True
    return base_size(source, quantise=False) > (host_memory() if memory is None else memory) / 2


def base_size(source: str | Path | PretrainedConfig, quantise: bool | None) -> int:
    """Bytes of a base on a CPU, in float32 or about those in 4 bits, from its configuration.

    Raises:
        FileNotFoundError, ValueError: as ``skeleton``.
    """
    network = skeleton(source)
    heads = {id(part.weight) for part in (network.get_input_embeddings(), network.get_output_embeddings()) if part}
    return sum(
        weight.numel() // 2 if quantise and weight.ndim == 2 and id(weight) not in heads else 4 * weight.numel()
        for weight in network.parameters()
    )


def compute_dtype(device: str) -> torch.dtype:
    """The default dtype: bfloat16 on CUDA, float16 on a card without bfloat16, float32 on a CPU."""
    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _read(source: str | Path, options: dict[str, Any]) -> Any:
    """Read the weights; where that fails on the device, quantise in host memory.

    transformers raises the same RuntimeError when memory runs out while a tensor is quantised as for other failures, so
    every failure is tried again on the host, where the others are raised again.
    """
    copied = {**options, "config": copy.deepcopy(options["config"])}  # loading changes it, even where it fails
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, trust_remote_code=False, output_loading_info=True, **copied
            )
    except pickle.UnpicklingError:
        raise NashwardError(
            f"the weights of {source} are a pickle that holds more than tensors, or is damaged; it is not opened, as "
            "that could run code that lies in it. Convert it to safetensors where you trust it"
        ) from None
    except RuntimeError as error:
        if "size mismatch" in str(error) or "ignore_mismatched_sizes" in str(error):
            raise NashwardError(
                f"the weights of {source} are not those of its configuration: {cut(first_line(error), 200)}"
            ) from None
        if options["device_map"] == {"": "cpu"}:
            raise
    except (*LIBRARY_ERRORS, SafetensorError, zipfile.BadZipFile) as error:  # ImportError: a quantiser's package
        raise NashwardError(f"the weights of {source} cannot be read: {first_line(error)}") from None
    else:
        base, report = loaded
        _check_complete(source, base, report)
        return base
    release_memory()
    return _read(source, {**options, "device_map": {"": "cpu"}})


def _check_complete(source: str | Path, base: Any, report: Mapping[str, Any]) -> None:
    """Check that the weights are those of the network: transformers fills what is missing with random numbers.

    Raises:
        ValueError: some are missing, have another shape, or belong to layers beyond those of the configuration.
    """
    missing = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise NashwardError(
            f"the weights of {source} lack {missing[0]}{more}, which its configuration needs; fetch the model again"
        )
    layers = getattr(base.config.get_text_config(), "num_hidden_layers", None)
    for key in sorted(report["unexpected_keys"]):
        number = re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", f".{key}")
        if layers is not None and number is not None and int(number[1]) >= layers:
            raise NashwardError(f"the weights of {source} hold {key}, and its configuration has {layers} layers")
    if report["unexpected_keys"]:
        first = min(report["unexpected_keys"])
        logger.warning(f"{source} holds weights that its network does not use, as {first}")


def check_output(network: Any, tokens: list[int], device: torch.device, name: str) -> None:
    """Check that the logits of a text are finite: otherwise damaged weights would be sampled from without an error.

    torch's attention on a CPU turns NaN into numbers in texts below 16 tokens.

    Raises:
        ValueError: one is not finite.
    """
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([tokens], device=device), use_cache=False).logits
    if not bool(logits.isfinite().all()):
        raise NashwardError(
            f"the logits of {name} are not finite: its weights are damaged, its configuration is wrong, or "
            f"{str(logits.dtype).removeprefix('torch.')} overflows; fetch the model again"
        )


def keep_gradients(network: Any) -> None:
    """Make 4-bit layers use the kernel that supports autograd.

    On a CPU with avx512_bf16, bitsandbytes repacks the weights in the first pass without gradients and then uses a
    kernel without autograd: no error is raised, and the gradients are wrong. On other devices this has no effect.
    """
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
