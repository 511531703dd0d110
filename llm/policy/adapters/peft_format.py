"""Which part of PEFT's format is read: a product B A for each linear layer. What would be another policy is refused."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from nashward.errors import NashwardError
from nashward.shortened import cut

from ...data.library_errors import first_line, translated_errors

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MATRIX = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_[AB]\.weight")
INSTEAD = "train it without, or merge it into the base (merge_and_unload of peft) and give that as the policy"

_READ = {
    "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "fan_in_fan_out", "base_model_name_or_path", "task_type",
}  # fmt: skip
# these say how the weights were made or are trained, not which policy they are
_NO_EFFECT = {
    "peft_type", "init_lora_weights", "auto_mapping", "revision", "inference_mode", "lora_dropout", "megatron_core",
    "peft_version", "qalora_group_size", "runtime_config", "corda_config", "eva_config", "loftq_config",
    "lora_ga_config", "ensure_weight_tying",
}  # fmt: skip
_BASE_KEPT = (None, True, False, "gaussian", "eva", "orthogonal", "mica")  # the others subtract from the base's weights


def read_config(folder: Path) -> LoraConfig:
    """The configuration of an adapter, if its policy is the base's with W + s B A in place of W for some linear layers.

    Fields that have no effect on that are left at PEFT's defaults: a new adapter of this configuration has B = 0 and
    leaves the base's weights as they are, whatever ``init_lora_weights`` said.

    Raises:
        FileNotFoundError: the folder has none.
        ValueError: it cannot be read, is no LoRA, or sets a field that makes it another function of the weights.

    Example:
        >>> read_config(Path("my-lora")).r  # doctest: +SKIP
        16
    """
    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is no adapter folder: it has no {CONFIG}")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        kind = raw.get("peft_type") or "LORA"
    except (ValueError, OSError, AttributeError, RecursionError) as error:
        raise NashwardError(f"{file} is no LoRA configuration that can be read: {first_line(error)}") from None
    if kind != "LORA":
        raise NashwardError(f"it is a {kind} adapter, expected LoRA")
    if (task := raw.get("task_type")) not in (None, "CAUSAL_LM"):
        raise NashwardError(f"it is an adapter for {task}, expected CAUSAL_LM")
    more = {key: value for key, value in raw.items() if key not in _READ | _NO_EFFECT}
    if unread := next((key for key, value in more.items() if value and value != "none"), None):
        raise NashwardError(f"it is no plain LoRA, {unread} is set; {INSTEAD}")
    start = raw.get("init_lora_weights", True)
    if not any(start is kept or (isinstance(kept, str) and start == kept) for kept in _BASE_KEPT):
        raise NashwardError(
            f"its init_lora_weights {start!r} changes the base's weights; save it as a plain LoRA "
            "(save_pretrained of peft with path_initial_model_for_weight_conversion)"
        )
    _check_values(raw, file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return LoraConfig(**{key: raw[key] for key in sorted(_READ & raw.keys())})
    except (TypeError, ValueError) as error:
        raise NashwardError(f"{file} is no LoRA configuration that can be read: {first_line(error)}") from None


def _check_values(raw: Mapping[str, Any], file: Path) -> None:
    """Ranks are whole and at least 1, alphas finite and not 0, targets are names or regular expressions."""

    def wrong(key: str, expected: str) -> NashwardError:
        value = repr(raw.get(key))
        return NashwardError(f"{file} is no LoRA configuration that can be read: {key} is {cut(value, 80)}, {expected}")

    def numbers(key: str, pattern: str) -> list[Any]:
        named = raw.get(pattern) or {}
        if not isinstance(named, dict):
            raise wrong(pattern, "expected a value for each name of layers")
        return [raw.get(key, 8), *named.values()]

    if not all(type(rank) is int and rank >= 1 for rank in numbers("r", "rank_pattern")):
        raise wrong("rank_pattern" if _is_rank(raw.get("r", 8)) else "r", "expected a rank of at least 1")
    alphas = numbers("lora_alpha", "alpha_pattern")
    bad = [not isinstance(a, int | float) or isinstance(a, bool) or not math.isfinite(a) or a == 0 for a in alphas]
    if any(bad):
        raise wrong("lora_alpha" if bad[0] else "alpha_pattern", "expected a finite number other than 0")
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        names = raw.get(key)
        if not (names is None or isinstance(names, str) or _are(names, str)):
            raise wrong(key, "expected names of layers")
    layers = raw.get("layers_to_transform")
    if not (layers is None or type(layers) is int or _are(layers, int)):
        raise wrong("layers_to_transform", "expected the numbers of layers")
    for key in ("use_rslora", "fan_in_fan_out"):
        if raw.get(key) not in (None, True, False):
            raise wrong(key, "expected true or false")
    if not isinstance(raw.get("base_model_name_or_path"), str | None):
        raise wrong("base_model_name_or_path", "expected the name of a model")
    for key in ("target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"):
        expressions = raw.get(key) or ()
        for expression in [expressions] if isinstance(expressions, str) else expressions:
            try:
                re.compile(expression)
            except re.error as error:
                raise wrong(key, f"expected a regular expression ({error})") from None


def _is_rank(value: Any) -> bool:
    return type(value) is int and value >= 1


def _are(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(part) is kind for part in value)


def weights_of(folder: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The matrices of an adapter folder by name, A ``[r, n]`` and B ``[m, r]`` of each layer.

    Raises:
        ValueError: the file cannot be read, holds other tensors too, or numbers that are not finite.
    """
    try:
        state = load_file(folder / WEIGHTS, device=device)
    except (SafetensorError, OSError) as error:
        raise _unreadable(folder, error) from None
    check_names(list(state))
    if infinite := [name for name, matrix in state.items() if not bool(torch.isfinite(matrix.float()).all())]:
        raise NashwardError(f"{infinite[0]} holds numbers that are not finite; the training that wrote it diverged")
    return state


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of an adapter's matrices by name, from the header of the file.

    Raises:
        ValueError: as ``weights_of``.
    """
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unreadable(folder, error) from None
    check_names(list(shapes))
    return shapes


def _unreadable(folder: Path, error: BaseException) -> NashwardError:
    pickled = next((name for name in ("adapter_model.bin", "adapter_model.pt") if (folder / name).is_file()), None)
    if pickled is not None and not (folder / WEIGHTS).exists():
        return NashwardError(
            f"it holds pickled weights ({pickled}), which are not opened, as that could run code that lies in them; "
            f"where you trust it, save it as {WEIGHTS} (save_pretrained of peft)"
        )
    return NashwardError(f"it holds no weights that can be read ({WEIGHTS}): {first_line(error)}")


def layer_of(name: str) -> str:
    """The layer of a matrix, by its name in the base; any other name is a layer's already.

    Example:
        >>> layer_of("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight")
        'model.layers.0.mlp.up_proj'
    """
    matrix = MATRIX.fullmatch(name)
    return name if matrix is None else matrix["layer"]


def check_names(names: Sequence[str]) -> None:
    """Check that tensors are the matrices A and B of layers, both of each.

    PEFT reads weights of whole layers and vectors beside them into the base, where they change every other adapter's
    policy, and it skips names that it does not know.

    Raises:
        ValueError: another tensor, A without B, or none at all.
    """
    for name in names:
        if MATRIX.fullmatch(name) is None:
            what = "the embeddings or the head" if re.search("emb|head|wte|wpe", name) else "more than linear layers"
            raise NashwardError(
                f"it changes {what}, which stay frozen here: it holds {name}, expected only lora_A and lora_B; save it "
                "without (save_embedding_layers=False) or train it without"
            )
    both = set(names)
    single = [n for n in names if n.replace(".lora_A.", ".lora_B.") not in both]
    single += [n for n in names if n.replace(".lora_B.", ".lora_A.") not in both]
    if single:
        raise NashwardError(f"it holds {single[0]} without its other factor")
    if not names:
        raise NashwardError(f"it holds no weights ({WEIGHTS} is empty)")


def check_fit(config: LoraConfig, shapes: Mapping[str, tuple[int, ...]], base: Any) -> None:
    """Check that the matrices are those that PEFT makes for the configuration on a base, and of linear layers alone.

    Args:
        config: from ``read_config``.
        shapes: from ``tensor_shapes``.
        base: a network on the meta device, which is changed.

    Raises:
        ValueError: PEFT finds no such layers, the head, embeddings or experts are among them, or a matrix has no
            place or another shape.
    """
    head, table = base.get_output_embeddings(), base.get_input_embeddings()
    with (
        translated_errors(lambda error: NashwardError(f"peft cannot place it on this base: {first_line(error)}")),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        network = get_peft_model(base, config, low_cpu_mem_usage=True)
        places = {name: tuple(weight.shape) for name, weight in get_peft_model_state_dict(network).items()}
    for name, layer in network.get_base_model().named_modules():
        if isinstance(layer, ParamWrapper):
            raise NashwardError(
                f"it changes the experts or the router of {name}, which stay frozen here; train it on the layers of "
                f"attention, or {INSTEAD.partition(', or ')[2]}"
            )
        if isinstance(layer, LoraLayer) and layer.get_base_layer() in (head, table):
            raise NashwardError(
                f"it changes the embeddings or the head ({name}), which stay frozen here; train it without them"
            )
    for name, shape in shapes.items():
        if name not in places:
            raise NashwardError(f"it holds {name}, and peft gives this base no such layer by its target_modules")
        if shape != places[name]:
            raise NashwardError(
                f"it says rank {places[name][0 if 'lora_A' in name else 1]} and holds weights of another shape: {name} "
                f"is {list(shape)}, expected {list(places[name])}"
            )
