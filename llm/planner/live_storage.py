"""Live bytes of tensors, counted at each operation: on a CPU, a GPU or the meta device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CONTAINERS = (list, tuple)


class LiveStorage(TorchDispatchMode):
    """Counts the storages that operations allocate while it is active, until each is freed.

    A storage first seen as an input existed before (weights, data) and counts 0; for these see ``resident_bytes``.
    Views and in-place operations add nothing. Not counted are the allocator's rounding and the workspace of an
    operation, unless it is in ``workspaces``.

    Args:
        workspaces: by operation (``torch.ops.aten.mm.default``), the bytes of its workspace from its arguments.

    Attributes:
        live, peak: current and maximal bytes since entry.

    Example:
        >>> with LiveStorage() as storage:
        ...     kept = torch.ones(256) + torch.ones(256)
        >>> storage.live, storage.peak
        (1024, 3072)
    """

    def __init__(self, workspaces: Mapping[Any, Callable[..., int]] | None = None) -> None:
        super().__init__()
        self.workspaces = workspaces or {}
        self.live = self.peak = 0
        self._counted: set[int] = set()

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            self._count(storage, 0)
        result = function(*args, **kwargs)
        for storage in _storages(result):
            self._count(storage, storage.nbytes())
        workspace = self.workspaces[function](*args, **kwargs) if function in self.workspaces else 0
        self.peak = max(self.peak, self.live + workspace)
        return result

    def _count(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key not in self._counted:
            self._counted.add(key)
            self.live += size
            weakref.finalize(storage, self._free, key, size).atexit = False

    def _free(self, key: int, size: int) -> None:
        self._counted.discard(key)
        self.live -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    """Of the tensors in lists, tuples and dictionaries; torch's own flattening takes twice as long."""
    if isinstance(tree, Tensor):
        return [tree.untyped_storage()]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, CONTAINERS):
        return []
    return [storage for part in tree for storage in _storages(part)]


def unique_bytes(tensors: Sequence[Tensor]) -> int:
    """The bytes of the tensors' storages, each storage counted once."""
    return sum({(storage := t.untyped_storage())._cdata: storage.nbytes() for t in tensors}.values())


def resident_bytes(network: torch.nn.Module) -> int:
    """The bytes of a network's parameters and buffers, with the scales of its 4-bit weights."""
    tensors = [*network.parameters(), *network.buffers()]
    for weight in network.parameters():
        state = getattr(weight, "quant_state", None)
        while state is not None:
            tensors += [part for part in (state.absmax, state.code, state.offset) if part is not None]
            state = state.state2
    return unique_bytes(tensors)
