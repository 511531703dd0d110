"""Where the parts of a policy live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from nashward.errors import NashwardError

from .fields import check_choice, setting

Checkpoints = Literal["none", "device", "host"]
Embeddings = Literal["device", "host"]
AdapterDtype = Literal["float32", "input"]
Layers = Literal["device", "host"]


@dataclass(frozen=True)
class Placement:
    """Where the parts of a policy live, and in what they are computed, to save memory on the device.

    Attributes:
        checkpoints: only each layer's input is kept for the backward pass, on the device or in (pinned) host memory,
            and the rest is computed again; "none" keeps all activations.
        embeddings: the table of input embeddings; in host memory its rows are gathered there and [B, T, H] is moved.
        adapters: the dtype in which adapters are multiplied: float32, with a float32 copy of each layer's input, or
            that of the input, as under autocast. Their weights and gradients are float32 in either case.
        mlp_tokens: each layer's MLP takes this many tokens at once and computes each tile again in the backward pass;
            None: all tokens. It costs up to one more pass through the MLPs.
        layers: the frozen matrices of the decoder layers; in host memory two layers at a time pass through the device
            (see ``streaming``). It needs checkpoints, and time: each pass moves the whole model.

    Raises:
        ValueError: an unknown place, tiles without a token, or streamed layers without checkpoints.

    See also:
        ``policy.placement.default_placement``, which costs little time on a given device.

    Example:
        >>> Placement("none", "device", "float32").but({"layers": "host"}).checkpoints
        'host'
    """

    checkpoints: Checkpoints = setting(
        "host", "each layer's input, for the backward pass (default: host on a GPU)", "memory"
    )
    embeddings: Embeddings = setting("host", "the input embeddings (default: host on a GPU)", "memory")
    adapters: AdapterDtype = setting(
        "input",
        "what adapters are multiplied in (default: the input's dtype on a GPU with bfloat16, else float32)",
        "memory",
    )
    mlp_tokens: int | None = setting(
        None,
        "tokens that an MLP takes at once (default: {default}): fewer take less memory and more time",
        "memory",
        none="all",
    )
    layers: Layers = setting("device", "the layers' frozen matrices; host: streamed, two at a time", "memory")

    def __post_init__(self) -> None:
        kinds = {"checkpoints": Checkpoints, "embeddings": Embeddings, "adapters": AdapterDtype, "layers": Layers}
        for name, allowed in kinds.items():
            check_choice(name, getattr(self, name), allowed)
        if self.mlp_tokens is not None and self.mlp_tokens < 1:
            raise NashwardError(f"mlp_tokens must be at least 1 (or None), got {self.mlp_tokens}")
        if self.layers == "host" and self.checkpoints == "none":
            raise NashwardError(
                "layers = 'host' needs checkpoints: a backward pass without them holds every layer; take checkpoints = "
                "'host' or 'device'"
            )

    def but(self, given: Mapping[str, Any]) -> Placement:
        """This placement but for some attributes; streamed layers bring the checkpoints that they need."""
        if given.get("layers") == "host" and self.checkpoints == "none":
            given = {"checkpoints": "host", **given}
        return replace(self, **given)
