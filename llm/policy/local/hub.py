"""What a model's hub has, or why it gives nothing: found out with one request, without the hub client's retries."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from ...data.near_path import near_path


def fetch(name: str, file: str, patterns: Iterable[str] = (), kind: str = "model") -> Path:
    """The files of a model on the hub, or in the cache where the hub cannot be reached.

    Args:
        name: a hub id, or perhaps the path of a missing folder: ``owner/name`` can be either.
        file: one that the model has to have.
        patterns: those of the names of the other files that are wanted.
        kind: what it is, for errors.

    Returns:
        the folder of these files in the cache.

    Raises:
        FileNotFoundError: it is no hub id, or the hub has no such model, does not give it, or cannot be reached, or
            the model lacks the file; the message says which, and that there is no folder of this name.

    See also:
        ``check_on_hub``, which asks the hub only for what is not in the cache.
    """
    if Path(name).suffix == ".json":  # a mixture, or another file
        raise FileNotFoundError(f"there is no file {name} here{near_path(name)}")
    try:
        folder = Path(snapshot_download(name, allow_patterns=[file, *patterns]))
        if (folder / file).is_file():
            return folder
        why = f"and the {kind} {name} of the hub has no {file}"
    except GatedRepoError:
        why = f"and the hub gives {name} only to those who accepted its terms: do so on its page, then hf auth login"
    except HFValidationError:
        why = f"and it is not a name on the hub either; expected the folder of the {kind}, or its hub id as owner/name"
    except RepositoryNotFoundError:
        why = f"and the hub has no {kind} {name} (a private one needs hf auth login)"
    except OSError:
        why = (
            f"no {kind} {name} in the cache, and the hub cannot be reached; on a machine with network run: hf download "
            f"{name}"
        )
    raise FileNotFoundError(f"there is no folder {name} here{near_path(name)}, {why}")


def check_on_hub(name: str, file: str) -> None:
    """Raise at once where a model is neither in the cache nor on the hub: transformers would try for half a minute.

    Args:
        name: a hub id, or perhaps the path of a missing folder.
        file: one that the model needs.

    Raises:
        FileNotFoundError: as ``fetch``.
    """
    with suppress(HFValidationError):  # for a name that is no id; fetch says so
        if isinstance(try_to_load_from_cache(name, file), str):
            return
    fetch(name, file)
