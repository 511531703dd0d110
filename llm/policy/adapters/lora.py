"""Adapters as matrices: a layer's weight W becomes W + scale B A. Padding to a larger rank, and sums of adapters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors.torch import save_file
from torch import Tensor

from nashward.errors import NashwardError

from ...config.lora import Lora
from ...store.files import atomic_folder
from ...store.fingerprints import fingerprint
from .peft_format import CONFIG, WEIGHTS, layer_of, read_config, tensor_shapes, weights_of

# which layers an adapter changes, besides which the configuration names
SELECTION = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")


@dataclass(frozen=True)
class LoraShape:
    """Rank and scale of an adapter's matrices, and the base that they belong to.

        Attributes:
            rank: rows of A, columns of B, in the layer that has the most.
            scale: the factor of B A, see ``scale_of``.
            base: the name of the base model; None where the configuration has none.
            config: the configuration of the layers whose rank or alpha differs (``rank_pattern``, ``alpha_pattern``);
                None:
    none does.

        Example:
            >>> config = LoraConfig(r=4, lora_alpha=8, rank_pattern={"q_proj": 8})
            >>> shape = LoraShape(8, 2.0, config=config)
            >>> [(shape.layer(name).rank, shape.layer(name).scale) for name in ("layers.0.q_proj", "layers.0.v_proj")]
            [(8, 1.0), (4, 2.0)]
    """

    rank: int
    scale: float
    base: str | None = None
    config: LoraConfig | None = None

    @classmethod
    def of(cls, folder: Path) -> LoraShape:
        """The shape of the adapter in a folder.

        Raises:
            FileNotFoundError: there is no adapter.
            ValueError: as ``peft_format.read_config``: its configuration cannot be read, or it is no plain LoRA.
        """
        try:
            return cls.of_config(read_config(folder))
        except NashwardError as error:
            raise NashwardError(f"{folder} cannot be read as an adapter: {error}") from None

    @classmethod
    def of_config(cls, config: LoraConfig) -> LoraShape:
        """The shape of adapters of a configuration."""
        patterns = {**(config.rank_pattern or {})}, {**(config.alpha_pattern or {})}
        rank = max(config.r, *patterns[0].values(), 0)
        return cls(rank, scale_of(config), config.base_model_name_or_path, config if any(patterns) else None)

    def layer(self, name: str) -> LoraShape:
        """Rank and scale of one layer, by its name in the base or that of its matrix."""
        if self.config is None:
            return self
        name = layer_of(name)
        ranks, alphas = self.config.rank_pattern or {}, self.config.alpha_pattern or {}
        rank = ranks.get(get_pattern_key(list(ranks), name), self.config.r)
        alpha = alphas.get(get_pattern_key(list(alphas), name), self.config.lora_alpha)
        return LoraShape(rank, _scale(rank, alpha, self.config.use_rslora), self.base)

    def check_ranks(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check that matrices A ``[r, n]`` and B ``[m, r]`` have the ranks r that the configuration says.

        Raises:
            ValueError: one has another.
        """
        for name, sizes in shapes.items():
            rank = sizes[0 if "lora_A" in name else -1] if len(sizes) == 2 else None
            if rank != (expected := self.layer(name).rank):
                raise NashwardError(f"it says rank {expected} and holds weights of rank {rank} ({name})")


def slot_config(config: LoraConfig) -> LoraConfig:
    """The configuration of a slot that holds adapters of a configuration: every layer has the largest rank.

    See also:
        ``fitted_to_slot``, which pads the other layers.
    """
    shape = LoraShape.of_config(config)
    if shape.config is None:
        return config
    alpha: Any = shape.scale * shape.rank
    return replace(config, r=shape.rank, lora_alpha=alpha, use_rslora=False, rank_pattern={}, alpha_pattern={})


def slots_for(adapters: Sequence[Path]) -> Lora:
    """The shape of slots in which each of several adapters has room: the largest rank, and the layers of all.

    Args:
        adapters: their folders; at least one.

    Raises:
        FileNotFoundError: a folder holds no adapter.
        ValueError: one cannot be read, or is no plain LoRA.

    See also:
        ``LanguageModel.load``, which fills the rest of an adapter's slot with zeros.
    """
    largest = max(map(LoraShape.of, adapters), key=lambda shape: shape.rank)
    layers: set[str] = set()
    for adapter in adapters:
        try:
            layers |= {*map(layer_of, tensor_shapes(adapter))}
        except NashwardError as error:
            raise NashwardError(f"{adapter} cannot be read as an adapter: {error}") from None
    alpha = largest.scale * largest.rank
    return Lora(largest.rank, alpha if alpha > 0 else None, ",".join(sorted(layers)))


def scale_of(config: LoraConfig) -> float:
    """The scale that PEFT gives an adapter of this configuration: alpha / r, or alpha / sqrt(r) with ``use_rslora``.

    Example:
        >>> scale_of(LoraConfig(r=4, lora_alpha=8)), scale_of(LoraConfig(r=4, lora_alpha=8, use_rslora=True))
        (2.0, 4.0)
    """
    return _scale(config.r, config.lora_alpha, config.use_rslora)


def _scale(rank: int, alpha: float, rooted: bool) -> float:
    return alpha / (math.sqrt(rank) if rooted else rank)


def fitted_to_slot(state: Mapping[str, Tensor], adapter: LoraShape, slot: LoraShape) -> dict[str, Tensor]:
    """The same update in a slot of at least its rank: A and B padded with zeros, and B rescaled.

    .. math::  B' = (s / s') (B \\; 0), \\quad A' = (A; 0), \\qquad s' B' A' = s B A

    Args:
        state: the matrices by name, A ``[r, n]`` (``lora_A`` in the name) and B ``[m, r]``.
        adapter: its rank r and scale s.
        slot: the slot's rank and scale s'.

    Returns:
        the padded matrices by name.

    Raises:
        ValueError: the slot's rank is smaller.

    Example:
        >>> state = {"lora_A": torch.ones(1, 3), "lora_B": torch.ones(2, 1)}
        >>> wide = fitted_to_slot(state, LoraShape(rank=1, scale=2.0), LoraShape(rank=2, scale=1.0))
        >>> wide["lora_B"]
        tensor([[2., 0.],
                [2., 0.]])
        >>> bool((1.0 * wide["lora_B"] @ wide["lora_A"] == 2.0 * state["lora_B"] @ state["lora_A"]).all())
        True
    """
    fitted = {}
    for name, matrix in state.items():
        layer = adapter.layer(name)
        if (layer.rank, layer.scale) == (slot.rank, slot.scale):
            fitted[name] = matrix
            continue
        if layer.rank > slot.rank:
            raise NashwardError(
                f"its rank is {layer.rank}, the model was loaded for {slot.rank}; load it with that adapter"
            )
        padding, matrix = slot.rank - layer.rank, matrix.float()
        if "lora_A" in name:
            fitted[name] = torch.cat([matrix, matrix.new_zeros(padding, matrix.shape[1])])
        else:
            padded = torch.cat([matrix, matrix.new_zeros(matrix.shape[0], padding)], 1)
            fitted[name] = padded * (layer.scale / slot.scale)
    return fitted


def interpolate(members: Sequence[tuple[Path, float]], folder: Path) -> None:
    """Write the adapter whose update is exactly the weighted sum of the members': A stacked by rows, B by columns.

    .. math::  \\sum_k w_k s_k B_k A_k = (w_1 s_1 B_1 \\; w_2 s_2 B_2 \\; \\dots) (A_1; A_2; \\dots)

    The rank is the sum of the members' ranks, so no approximation is needed. The weights w may be of any sign and sum;
    s are the scales.

    See also:
        ``mixture.Mixture``, a mixture of the policies; this is one network whose weights are averaged.

    Args:
        members: adapters' folders of one base, and their weights.
        folder: where the new adapter is written.

    Raises:
        FileNotFoundError: a member is no adapter folder.
        ValueError: no members, or one that cannot be read, is no plain LoRA or is for another base.
        OSError: the folder cannot be written.

    Example:
        >>> from nashward.llm.policy.adapters.lora import interpolate
        >>> interpolate([(start, 0.5), (last, 0.5)], Path("half"))  # doctest: +SKIP
    """
    if not members:
        raise NashwardError("there are no adapters to interpolate; give at least one")
    common_base([member for member, _ in members])
    rows: dict[str, list[Tensor]] = {}
    rank, adapters = 0, []
    for member, weight in members:
        shape = LoraShape.of(member)
        try:
            state = weights_of(member)
            shape.check_ranks({name: matrix.shape for name, matrix in state.items()})
            even = LoraShape(shape.rank, shape.scale)  # every layer with the rank and the scale of the others
            adapters.append((even, fitted_to_slot(state, shape, even), weight))
        except ValueError as error:
            raise NashwardError(f"{member} cannot be interpolated: {error}") from None
    names = sorted(set().union(*(state for _, state, _ in adapters)))
    sizes = {name: state[name].shape for _, state, _ in adapters for name in state}
    for shape, state, weight in adapters:
        rank += shape.rank
        for name in names:
            if "lora_A" in name:  # a layer that this adapter does not change has zeros
                rows.setdefault(name, []).append(state.get(name, torch.zeros(shape.rank, sizes[name][1])).float())
            else:
                matrix = state.get(name, torch.zeros(sizes[name][0], shape.rank)).float()
                rows.setdefault(name, []).append(weight * shape.scale * matrix)
    configs = [json.loads((member / CONFIG).read_text(encoding="utf-8")) for member, _ in members]
    config = configs[0] | {"r": rank, "lora_alpha": rank, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
    chosen = [{key: other.get(key) for key in SELECTION} for other in configs]
    if all(isinstance(own["target_modules"], list) and not any([*own.values()][1:]) for own in chosen):
        config["target_modules"] = sorted(set().union(*(own["target_modules"] for own in chosen)))
    else:  # patterns have no union: the layers by name
        config |= dict.fromkeys(SELECTION) | {"target_modules": sorted({*map(layer_of, names)})}
    with atomic_folder(folder) as unfinished:
        stacked = {name: torch.cat(parts, 0 if "lora_A" in name else 1) for name, parts in rows.items()}
        save_file({name: matrix.contiguous() for name, matrix in stacked.items()}, unfinished / WEIGHTS)
        (unfinished / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def common_base(folders: Sequence[Path]) -> str | None:
    """The base model that the adapters share.

    Returns:
        its name; None where no adapter names a base.

    Raises:
        ValueError: the adapters are for different bases.
        FileNotFoundError: a folder holds no adapter.
    """
    named = [(folder, base) for folder in folders if (base := LoraShape.of(folder).base) is not None]
    for folder, base in named[1:]:
        if not is_same_base(base, named[0][1]):
            raise NashwardError(
                f"{named[0][0]} is for {named[0][1]}, {folder} for {base}; adapters of one base can be mixed"
            )
    return named[0][1] if named else None


def is_same_base(a: str, b: str) -> bool:
    """Whether two names may mean one model: of two folders the content says so, wherever they lie, as that of
    ``pocket:policy`` in two installations. A folder that no longer exists may be any.

    Example:
        >>> is_same_base("mistralai/Mistral-7B", "meta-llama/Llama-3-8B"), is_same_base("a/b", "/gone/b")
        (False, True)
    """
    if a == b:
        return True
    first, second = Path(a), Path(b)
    if first.is_dir() and second.is_dir():
        return first.resolve() == second.resolve() or _content(first.resolve()) == _content(second.resolve())
    return any(path.is_absolute() and not path.exists() for path in (first, second))


@cache
def _content(folder: Path) -> str:
    return fingerprint(folder)
