"""Checks of a policy's and an adapter's files, before any weights are read."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from nashward.errors import NashwardError

from ..data.library_errors import first_line, translated_errors
from .lora import LoraShape, slot_config
from .peft_format import CONFIG, check_fit, read_config, tensor_shapes


def check_policy(source: str | Path, chat_template: str | None = None) -> Any:
    """Check that a folder or hub id is a causal language model with a chat template; no weights are read.

    Args:
        source: a folder or a hub id.
        chat_template: a Jinja template to use in place of the tokenizer's.

    Returns:
        its tokenizer.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: not a causal language model (for a PairRM the message says so), no chat template, no end-of-text
            token.
    """
    check_causal(source)
    with translated_errors(
        lambda error: NashwardError(f"{source} has no tokenizer that can be read: {first_line(error)}")
    ):
        tokenizer = AutoTokenizer.from_pretrained(source)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if not tokenizer.chat_template:
        raise NashwardError(
            f"{source} has no chat template (is it a base model?); take its instruction-tuned version, or give one "
            "with --chat-template FILE"
        )
    if tokenizer.eos_token_id is None and tokenizer.pad_token_id is None:
        raise NashwardError(
            f"{source}'s tokenizer has neither an end-of-text token nor a pad token; set eos_token in it"
        )
    return tokenizer


def check_causal(source: str | Path) -> None:
    """Check by its config.json alone that a model is a causal language model.

    See also:
        ``check_policy``, which checks the tokenizer too.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: another kind of model (for a PairRM the message says so), or no configuration.
    """
    config = _config(source)
    model_type = config.get("model_type", "")
    if "ranker_type" in config or "cand1_prefix_id" in config:
        raise NashwardError(f"{source} is a PairRM, not a policy: are --policy and --oracle swapped?")
    has_remote_code = "AutoModelForCausalLM" in (config.get("auto_map") or {})
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not has_remote_code:
        raise NashwardError(f"{source} is a {model_type or 'model of unknown type'}, not a causal language model")
    architectures = config.get("architectures") or []
    if architectures and not any(
        "CausalLM" in name or "LMHead" in name or "ConditionalGeneration" in name for name in architectures
    ):
        raise NashwardError(f"{source} is a {architectures[0]}, not a causal language model")


def adapter_config(adapter: str | Path, policy: str | Path | None = None) -> LoraConfig:
    """The LoRA configuration of slots for an adapter folder or hub id; of the weights only the shapes are read.

    Args:
        adapter: a folder or a hub id.
        policy: the base, a folder or a hub id, for which PEFT has to find the adapter's layers; None: not checked.

    Raises:
        FileNotFoundError: there is no adapter.
        ValueError: as ``peft_format``: no LoRA, or one that does more than add B A to linear layers (whole layers,
            embeddings, the head, experts); weights of another rank than the configuration's, or of another base.
    """
    not_found = f"{adapter} is no adapter: it has no {CONFIG} that can be read"
    if Path(adapter).exists():  # else peft would ask the hub for a repository of this name
        file = Path(adapter) / CONFIG
        if not file.is_file():
            raise FileNotFoundError(not_found)
    else:
        from huggingface_hub import hf_hub_download

        try:
            file = Path(hf_hub_download(str(adapter), CONFIG))
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"{adapter} is neither an adapter folder nor an adapter in the cache ({first_line(error)}); if it is a "
                f"hub id, run on a machine with network: hf download {adapter}"
            ) from None
    try:
        config = read_config(file)
        shapes = tensor_shapes(local_adapter(adapter))
        LoraShape.of_config(config).check_ranks(shapes)
        if policy is not None:
            check_fit(copy.deepcopy(config), shapes, skeleton(policy))
    except NashwardError as error:
        raise NashwardError(f"{adapter} cannot be read as an adapter: {error}") from None
    return slot_config(config)


def skeleton(source: str | Path) -> Any:
    """A policy's network without its weights, on the meta device.

    Raises:
        ValueError: its configuration describes no network.
    """
    with (
        translated_errors(
            lambda error: NashwardError(f"the configuration of {source} describes no network: {first_line(error):.200}")
        ),
        torch.device("meta"),
    ):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def local_adapter(adapter: str | Path) -> Path:
    """The folder of an adapter; a hub id is downloaded to the cache first."""
    if Path(adapter).is_dir():
        return Path(adapter)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(adapter)))


def _config(source: str | Path) -> dict[str, Any]:
    """A model's config.json as written, without the defaults and checks of transformers."""
    path = Path(source)
    if path.is_dir():
        file = path / "config.json"
        if not file.is_file():
            hint = " (it is an adapter: give its base here and the folder as --adapter)"
            raise NashwardError(
                f"{source} is a folder but no model: it has no config.json"
                + (hint if (path / "adapter_config.json").exists() else "")
            )
        try:
            config = json.loads(file.read_text())
        except (ValueError, RecursionError) as error:
            raise NashwardError(f"{file} is not valid JSON: {error}") from None
        if not isinstance(config, dict):
            raise NashwardError(f"{file} holds {type(config).__name__}, expected the settings of a model")
        return config
    if path.is_absolute() or str(source).startswith(".") or str(source).count("/") > 1 or path.exists():
        raise FileNotFoundError(f"there is no model folder {source}")
    from transformers.utils import cached_file

    try:
        return json.loads(Path(str(cached_file(str(source), "config.json"))).read_text())
    except OSError:
        raise FileNotFoundError(
            f"{source} is neither a folder here nor a model in the cache, and the hub cannot be reached or does not "
            f"have it; on a machine with network run: hf download {source}"
        ) from None
