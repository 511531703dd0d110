"""Adapters as matrices: a layer's weight W becomes W + scale B A. Padding to a larger rank, and sums of adapters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nashward.errors import NashwardError

from ..store.files import atomic_folder

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PLAIN_SETTINGS = {"use_dora": False, "bias": "none", "rank_pattern": {}, "alpha_pattern": {}}


@dataclass(frozen=True)
class LoraShape:
    """Rank and scale of an adapter's matrices, and the base that they belong to.

    Attributes:
        rank: rows of A, columns of B.
        scale: the factor of B A, see ``scale_of``.
        base: the name of the base model; None where the configuration has none.
        more: the setting that makes it more than one product B A of this rank and scale a layer; None: there is none.

    Example:
        >>> LoraShape(8, 2.0, more="use_dora").plain()
        Traceback (most recent call last):
        nashward.errors.NashwardError: it is no plain LoRA, use_dora is set; train it without
    """

    rank: int
    scale: float
    base: str | None = None
    more: str | None = None

    @classmethod
    def of(cls, folder: Path) -> LoraShape:
        """The shape of the adapter in a folder.

        Raises:
            FileNotFoundError: there is no adapter.
            ValueError: its configuration cannot be read.
        """
        file = folder / CONFIG
        if not file.is_file():
            raise FileNotFoundError(f"{folder} is no adapter folder: it has no {CONFIG}")
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            rank, scale = int(config["r"]), _scale(config["r"], config["lora_alpha"], config.get("use_rslora", False))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NashwardError(f"{file} is no LoRA configuration that can be read: {error}") from None
        more = next((key for key, value in PLAIN_SETTINGS.items() if config.get(key) not in (value, None)), None)
        return cls(rank, scale, config.get("base_model_name_or_path"), more)

    def plain(self) -> LoraShape:
        """Check that the adapter is one product B A of this rank and scale a layer.

        Returns:
            the shape itself.

        Raises:
            ValueError: it is not.
        """
        if self.more is not None:
            raise NashwardError(f"it is no plain LoRA, {self.more} is set; train it without")
        return self


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
        ValueError: the slot's rank is smaller, or the adapter is no plain LoRA.

    Example:
        >>> state = {"lora_A": torch.ones(1, 3), "lora_B": torch.ones(2, 1)}
        >>> wide = fitted_to_slot(state, LoraShape(rank=1, scale=2.0), LoraShape(rank=2, scale=1.0))
        >>> wide["lora_B"]
        tensor([[2., 0.],
                [2., 0.]])
        >>> bool((1.0 * wide["lora_B"] @ wide["lora_A"] == 2.0 * state["lora_B"] @ state["lora_A"]).all())
        True
    """
    if (adapter.rank, adapter.scale) == (slot.rank, slot.scale):
        return dict(state)
    if adapter.plain().rank > slot.rank:
        raise NashwardError(
            f"its rank is {adapter.rank}, the model was loaded for {slot.rank}; load it with that adapter"
        )
    padding = slot.rank - adapter.rank
    fitted = {}
    for name, matrix in state.items():
        if "lora_A" in name:
            fitted[name] = torch.cat([matrix, matrix.new_zeros(padding, matrix.shape[1])])
        else:
            padded = torch.cat([matrix, matrix.new_zeros(matrix.shape[0], padding)], 1)
            fitted[name] = padded * (adapter.scale / slot.scale)
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
        >>> from nashward.llm.policy.lora import interpolate
        >>> interpolate([(start, 0.5), (last, 0.5)], Path("half"))  # doctest: +SKIP
    """
    if not members:
        raise NashwardError("there are no adapters to interpolate; give at least one")
    common_base([member for member, _ in members])
    rows: dict[str, list[Tensor]] = {}
    rank, adapters = 0, []
    for member, weight in members:
        try:
            adapters.append((LoraShape.of(member).plain(), weights_of(member), weight))
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
    config = json.loads((members[0][0] / CONFIG).read_text(encoding="utf-8"))
    targets = [json.loads((member / CONFIG).read_text(encoding="utf-8")).get("target_modules") for member, _ in members]
    lists = [names for names in targets if isinstance(names, list)]
    config |= {"r": rank, "lora_alpha": rank, "use_rslora": False}
    if len(lists) == len(targets):
        config["target_modules"] = sorted(set().union(*lists))
    with atomic_folder(folder) as unfinished:
        stacked = {name: torch.cat(parts, 0 if "lora_A" in name else 1) for name, parts in rows.items()}
        save_file({name: matrix.contiguous() for name, matrix in stacked.items()}, unfinished / WEIGHTS)
        (unfinished / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def weights_of(folder: Path) -> dict[str, Tensor]:
    """The matrices of an adapter folder by name, A ``[r, n]`` and B ``[m, r]`` of each layer.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        return load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise NashwardError(f"it holds no weights that can be read ({WEIGHTS}): {error}") from None


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
    """Whether two names may mean one model. A folder that no longer exists may be any.

    Example:
        >>> is_same_base("mistralai/Mistral-7B", "meta-llama/Llama-3-8B"), is_same_base("a/b", "/gone/b")
        (False, True)
    """
    if a == b:
        return True
    first, second = Path(a), Path(b)
    if first.is_dir() and second.is_dir():
        return first.resolve() == second.resolve()
    return any(path.is_absolute() and not path.exists() for path in (first, second))
