"""The bytes of a policy's weights that a pass moves: read from the device's memory, and copied from the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from .live_storage import resident_bytes, unique_bytes


@dataclass(frozen=True)
class Traffic:
    """What the weights of a policy cost in bandwidth, each part in the precision that it has in memory.

    Attributes:
        read: bytes that one pass reads however few tokens it has: linear layers (4-bit ones packed, with their scales),
            head, norms and one adapter. Of tables of embeddings a token reads one row, which is left out, unless the
            table is the head too. Experts are left out, see ``Experts.read``.
        streamed: those that one pass copies from host memory first; 0 where all layers stay on the device.

    Example:
        >>> Traffic(read=3 * 2**30).streamed
        0
    """

    read: int
    streamed: int = 0

    @classmethod
    def of(cls, network: Any, experts: int) -> Traffic:
        """Those of a PEFT model of a causal language model, on any device, under a placement.

        Args:
            network: from ``dry_run.policy``.
            experts: bytes of the experts that are tensors, which are not read by every token.
        """
        base = network.get_base_model()
        head = base.get_output_embeddings()
        tables = [
            module.weight
            for module in base.modules()
            if isinstance(module, nn.Embedding) and (head is None or module.weight is not head.weight)
        ]
        read = resident_bytes(network) - unique_bytes(tables) - experts
        stream = getattr(base, "layer_stream", None)
        if stream is None:
            return cls(read)
        streamed = sum(layer.size for layer in stream.layers)
        return cls(read - unique_bytes(list(stream.buffers())) + streamed, streamed)
