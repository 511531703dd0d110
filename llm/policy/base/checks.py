"""Checks of a base's files, before any weights are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import cached_file

from nashward.errors import NashwardError
from nashward.shortened import cut, quoted

from ...data.library_errors import LIBRARY_ERRORS, first_line, in_one_line, translated_errors
from ...data.near_path import near_path
from ...data.prompts import Prompt
from ..chat_template import encode
from ..local.hub import check_on_hub
from ..local.names import local_model
from .text_limit import text_limit

GENERATION = "generation_config.json"
FLOATING = ("F", "BF")  # names of dtypes in safetensors
# the largest sizes: beyond them a configuration is damaged, and building its network would not end
MOST = {"vocab_size": 10**8, "hidden_size": 10**6, "num_hidden_layers": 10**4}


def check_policy(source: str | Path, chat_template: str | None = None, longest: int | None = None) -> Any:
    """Check that a model is a causal language model with a chat template; no weights are read.

    Args:
        source: a folder, a hub id, or what else ``local_model`` takes.
        chat_template: a Jinja template to use in place of the tokenizer's.
        longest: the most tokens of a prompt and its response; None: the network's limit is not checked.

    Returns:
        its tokenizer.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: not a causal language model (for a PairRM the message says so), a configuration of no network, no
            chat template, no end-of-text token, tokens without an embedding, or a ``text_limit`` below ``longest``; or
            what ``local_model`` finds.
    """
    check_causal(source)
    network, folder = skeleton(source), local_model(source)
    check_weight_files(folder, network)
    check_weight_shapes(folder, network)
    tokenizer = policy_tokenizer(source, chat_template)
    if tokenizer.eos_token_id is None and tokenizer.pad_token_id is None:
        raise NashwardError(
            f"{source}'s tokenizer has neither an end-of-text token nor a pad token; set eos_token in it"
        )
    check_tokens(tokenizer, network.get_input_embeddings().num_embeddings, stored_stops(folder), source)
    limit = text_limit(network)
    if longest is not None and limit is not None and longest > limit.tokens:
        raise NashwardError(
            f"{source} {limit.reason}, and a prompt with its response takes up to {longest}; lower --max-prompt-tokens "
            "or --max-new-tokens"
        )
    return tokenizer


def policy_tokenizer(source: str | Path, chat_template: str | None = None) -> Any:
    """The tokenizer of a policy, with its chat template or the one given.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: no tokenizer, no chat template, or what ``local_model`` finds.
    """
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


def configuration_errors(name: str | Path | PretrainedConfig) -> AbstractContextManager[None]:
    """A block in which an error of a library says that this configuration describes no network."""
    return translated_errors(
        lambda error: NashwardError(f"the configuration of {name} describes no network: {cut(in_one_line(error), 200)}")
    )


def network_config(source: str | Path | PretrainedConfig) -> Any:
    """A policy's configuration in transformers, without a pad token that has no embedding: padding is masked here.

    One that is given is returned itself.

    Raises:
        ValueError: it cannot be read, or its sizes are those of no network.
    """
    if isinstance(source, PretrainedConfig):
        return source
    with configuration_errors(source):
        config = AutoConfig.from_pretrained(local_model(source), trust_remote_code=False)
        shape = config.get_text_config()
    check_sizes(config, source)
    with configuration_errors(source):
        pad = getattr(shape, "pad_token_id", None)
        if pad is not None and not 0 <= pad < shape.vocab_size:
            shape.pad_token_id = None
    return config


def check_sizes(config: Any, name: str | Path) -> None:
    """Check that a configuration's vocabulary, width and depth are those of a network that can be built.

    Raises:
        ValueError: one is no whole number, below 1, or larger than any network's.
    """
    shape = config.get_text_config()
    for key, most in MOST.items():
        size = getattr(shape, key, 1)
        if not (type(size) is int and 1 <= size <= most):
            raise NashwardError(
                f"the configuration of {name} describes no network: {key} is {quoted(size, 40)}, expected 1 to {most}"
            )


def skeleton(source: str | Path | PretrainedConfig) -> Any:
    """A policy's network without its weights, on the meta device.

    Raises:
        ValueError: its configuration describes no network.
    """
    config = network_config(source)
    with configuration_errors(source), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def check_weight_files(source: str | Path, network: Any) -> None:
    """Check that a folder's files of weights are as large as its network needs, at half a byte per parameter or more.

    Raises:
        ValueError: they are not, or there are no files.
    """
    if not Path(source).is_dir():
        return
    files = [file for suffix in ("safetensors", "bin") for file in Path(source).glob(f"*.{suffix}")]
    files = [file for file in files if file.name not in ("training_args.bin", "optimizer.bin", "scheduler.bin")]
    if not files:
        raise NashwardError(f"{source} holds no weights (model.safetensors); fetch the model again")
    size, parameters = sum(file.stat().st_size for file in files), sum(p.numel() for p in network.parameters())
    if size < parameters // 2:
        raise NashwardError(
            f"the configuration of {source} describes {parameters} parameters, and its files of weights hold {size} "
            "bytes; they do not belong together, or a file is missing"
        )


def check_weight_shapes(source: str | Path, network: Any) -> None:
    """Check the shapes in a folder's safetensors: a matrix in 4 bits would take any shape when it is loaded.

    Raises:
        ValueError: a header cannot be read, or a tensor has another shape than that of its name in the network.
    """
    if getattr(network.config, "quantization_config", None) is not None:  # stored packed
        return
    state = network.state_dict()
    expected = {name: list(tensor.shape) for name, tensor in state.items()}
    for file in sorted(Path(source).glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
                shapes = {name: stored.get_shape() for name, stored in slices.items()}
                whole = [name for name, stored in slices.items() if not stored.get_dtype().startswith(FLOATING)]
        except (OSError, SafetensorError) as error:
            raise NashwardError(f"the weights of {source} cannot be read ({file.name}): {first_line(error)}") from None
        for name in whole:
            if name in state and state[name].is_floating_point():
                raise NashwardError(f"the weights of {source} hold {name} as whole numbers without how to scale them")
        for name, shape in shapes.items():
            if name in expected and shape != expected[name]:
                raise NashwardError(
                    f"the weights of {source} are not those of its configuration: {name} is {shape}, expected "
                    f"{expected[name]}"
                )


def check_tokens(tokenizer: Any, rows: int, stop_ids: Iterable[int], name: str | Path) -> None:
    """Check that every token that a prompt or a response may hold has one of the ``rows`` embeddings.

    A pad token without one is masked. A special token without one is accepted where neither the chat template nor a
    stop needs it, such as the image token in text models of a family with vision.

    Raises:
        ValueError: a token of ordinary text, of the chat template, or that ends a response has none.
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    needed = {number for number in tokenizer.get_vocab().values() if number not in special} | {*stop_ids}
    if tokenizer.eos_token_id is not None:
        needed.add(tokenizer.eos_token_id)
    turn = {"role": "user", "content": "a"}
    for turns in ([turn], [turn, {"role": "assistant", "content": "b"}, turn]):
        with suppress(TemplateError, *LIBRARY_ERRORS):
            needed |= set(encode(tokenizer, Prompt(tuple(turns))))  # refusals and failures are reported elsewhere
    if beyond := sorted(number for number in needed if not 0 <= number < rows):
        token = tokenizer.convert_ids_to_tokens(beyond[0]) if beyond[0] >= 0 else beyond[0]
        raise NashwardError(
            f"{name} embeds {rows} tokens, and {len(beyond)} that its tokenizer, its chat template or its stop tokens "
            f"need are beyond them, as {token!r} ({beyond[0]}): model and tokenizer do not belong together, or the "
            "embeddings were not resized"
        )


def trained_context(source: str | Path | PretrainedConfig) -> int | None:
    """The longest text in tokens that a model was made for, by its config.json; None where that does not say.

    Args:
        source: a folder, a hub id or what else ``local_model`` takes; or the configuration of a loaded model.

    Raises:
        FileNotFoundError, ValueError: as ``check_causal``.
    """
    config = source.to_dict() if isinstance(source, PretrainedConfig) else _config(local_model(source))
    stated = config.get("text_config")
    longest = (stated if isinstance(stated, dict) else config).get("max_position_embeddings")
    return longest if isinstance(longest, int) and longest > 0 else None


def stored_stops(source: str | Path) -> list[int]:
    """The stop tokens of a checkpoint's generation settings; those of its configuration where it has none."""
    file = Path(source) / GENERATION
    found = file.is_file() if Path(source).is_dir() else cached_file(
        str(source), GENERATION, _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    if not found:  # most have the file, some do not
        return []
    with translated_errors(
        lambda error: NashwardError(f"{source}/{GENERATION} holds no settings of generation: {first_line(error)}")
    ):
        stored = GenerationConfig.from_pretrained(source).eos_token_id
    stops = stored if isinstance(stored, list) else [] if stored is None else [stored]
    if not all(type(stop) is int for stop in stops):
        raise NashwardError(f"{source}/{GENERATION}: eos_token_id is {quoted(stored, 80)}, expected numbers of tokens")
    return stops


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
        raise FileNotFoundError(f"there is no model folder {source}{near_path(path)}")
    check_on_hub(str(source), "config.json")
    return json.loads(Path(str(cached_file(str(source), "config.json"))).read_text())
