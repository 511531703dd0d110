"""Checks of a policy's and an adapter's files, before any weights are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from nashward.errors import NashwardError

from ..data.library_errors import first_line, translated_errors
from .local.names import local_model
from .lora import CONFIG, WEIGHTS


def check_policy(source: str | Path, chat_template: str | None = None) -> Any:
    """Check that a model is a causal language model with a chat template; no weights are read.

    Args:
        source: a folder, a hub id, or what else ``local_model`` takes.
        chat_template: a Jinja template to use in place of the tokenizer's.

    Returns:
        its tokenizer.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: not a causal language model (for a PairRM the message says so), no chat template, no end-of-text
            token; or what ``local_model`` finds.
    """
    check_causal(source)
    folder = local_model(source)
    with translated_errors(
        lambda error: NashwardError(f"{source} has no tokenizer that can be read: {first_line(error)}")
    ):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
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
        ValueError: another kind of model (for a PairRM the message says so), no configuration, or what ``local_model``
            finds.
    """
    config = _config(local_model(source))
    model_type = config.get("model_type", "")
    if "ranker_type" in config or "cand1_prefix_id" in config:
        raise NashwardError(f"{source} is a PairRM, not a policy: are --policy and --oracle swapped?")
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        code = ", and the code that its repository brings is never run" if config.get("auto_map") else ""
        raise NashwardError(f"{source} is a {model_type or 'model of unknown type'}, not a causal language model{code}")
    architectures = config.get("architectures") or []
    if architectures and not any(
        "CausalLM" in name or "LMHead" in name or "ConditionalGeneration" in name for name in architectures
    ):
        raise NashwardError(f"{source} is a {architectures[0]}, not a causal language model")


def adapter_config(adapter: str | Path) -> LoraConfig:
    """The LoRA configuration of an adapter folder or hub id; of the weights only the shapes are read.

    Raises:
        FileNotFoundError: there is no adapter.
        ValueError: not a LoRA, one that also trains whole layers, the embeddings or the head, or weights of another
            rank than the configuration's.
    """
    not_found = f"{adapter} is no adapter: it has no {CONFIG} that can be read"
    if Path(adapter).is_dir() and not (Path(adapter) / CONFIG).is_file():
        raise FileNotFoundError(not_found)  # peft would ask the hub for a repository of this name
    try:
        config = PeftConfig.from_pretrained(str(adapter))
    except (OSError, ValueError) as error:
        if Path(adapter).exists():
            raise FileNotFoundError(not_found) from None
        raise FileNotFoundError(
            f"{adapter} is neither an adapter folder nor an adapter in the cache ({first_line(error)}); if it is a "
            f"hub id, run on a machine with network: hf download {adapter}"
        ) from None
    if not isinstance(config, LoraConfig):
        raise NashwardError(f"{adapter} is a {config.peft_type} adapter, expected LoRA")
    targets = config.target_modules if isinstance(config.target_modules, list | set) else []
    if config.modules_to_save or "lm_head" in targets or "embed_tokens" in targets:
        raise NashwardError(
            f"{adapter} changes the embeddings or the head, which stay frozen here; train it without them"
        )
    weights = local_adapter(adapter) / WEIGHTS
    try:
        with safe_open(weights, framework="pt") as tensors:
            ranks = {tensors.get_slice(k).get_shape()[0] for k in tensors.keys() if "lora_A" in k}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise NashwardError(f"{adapter} holds no weights that can be read ({WEIGHTS}): {first_line(error)}") from None
    if not ranks <= {config.r, *(config.rank_pattern or {}).values()}:
        raise NashwardError(f"{adapter} says rank {config.r} and holds weights of rank {sorted(ranks)}")
    return config


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
