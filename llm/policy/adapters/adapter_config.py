"""Checks of an adapter that a user names, before any weights of the base are read."""

from __future__ import annotations

import copy
from pathlib import Path

from peft import LoraConfig

from nashward.errors import NashwardError

from ..base.checks import skeleton
from ..local.hub import fetch
from .lora import LoraShape, slot_config
from .peft_format import CONFIG, check_fit, read_config, tensor_shapes


def adapter_config(adapter: str | Path, policy: str | Path | None = None) -> LoraConfig:
    """The LoRA configuration of the slots for an adapter folder or hub id; only the shapes of its weights are read.

    Args:
        adapter: a folder or a hub id.
        policy: the base, a folder or a hub id, for which PEFT has to find the adapter's layers; None: not checked.

    Raises:
        FileNotFoundError: there is no adapter.
        ValueError: as ``peft_format``: no LoRA, or one that does more than add B A to linear layers (whole layers,
            embeddings, the head, experts); weights of another rank than the configuration's, or of another base.
    """
    folder = local_adapter(adapter)
    try:
        config = read_config(folder)
        shapes = tensor_shapes(folder)
        LoraShape.of_config(config).check_ranks(shapes)
        if policy is not None:
            check_fit(copy.deepcopy(config), shapes, skeleton(policy))
    except NashwardError as error:
        raise NashwardError(f"{adapter} cannot be read as an adapter: {error}") from None
    return slot_config(config)


def local_adapter(adapter: str | Path) -> Path:
    """The folder of an adapter; a hub id is fetched into the cache first.

    Raises:
        FileNotFoundError: there is no such folder, and as ``local.hub.fetch`` no such adapter on the hub.
    """
    # where something here has this name, the hub is not asked for a repository of the same name
    return Path(adapter) if Path(adapter).exists() else fetch(str(adapter), CONFIG, ["adapter_model.*"], "adapter")
