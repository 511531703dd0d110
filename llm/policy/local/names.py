"""The folder of a model that has a name (``pocket:NAME``, ``real:NAME``), or that a GGUF file holds."""

from __future__ import annotations

from pathlib import Path

from ...data.packaged import packaged
from .gguf import SUFFIX, gguf_folder


def local_model(source: str | Path) -> str | Path:
    """The folder of a model that is named otherwise; a folder or a hub id is returned as it is.

    Args:
        source: ``pocket:policy`` or ``real:smollm2-135m``, a model of a package, see ``packaged``; a GGUF file
            (``.gguf``) of a causal language model; or anything else.

    Returns:
        The folder in the package, or the one that ``gguf_folder`` wrote; else ``source``.

    Raises:
        MissingPackageError: the package is not installed.
        FileNotFoundError: there is no such file.
        ValueError: there is no model of this name, or what ``gguf_folder`` finds.

    See also:
        ``adapters.adapter_config.local_adapter``, the same of an adapter.

    Example:
        >>> local_model("mistralai/Mistral-7B-Instruct-v0.2")
        'mistralai/Mistral-7B-Instruct-v0.2'
        >>> local_model("pocket:policy").name
        'policy'
    """
    source = packaged(source)
    path = Path(source)
    return gguf_folder(path) if path.suffix.lower() == SUFFIX and not path.is_dir() else source
