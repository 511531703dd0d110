"""The model of a GGUF file as an ordinary folder, which is written once."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from nashward.errors import MissingPackageError, NashwardError
from nashward.shortened import cut

from ...data.library_errors import first_line, translated_errors
from ...store.files import atomic_folder

SUFFIX, MAGIC = ".gguf", b"GGUF"
STOPS = ("eos", "eot", "eom")  # tokens of a GGUF file that end a turn; transformers reads only the first

logger = logging.getLogger(__name__)


def gguf_folder(file: str | Path) -> Path:
    """The folder with the model of a GGUF file: configuration, weights in bfloat16, tokenizer and chat template.

    transformers reads the file, and the folder is written the first time that its content is met, into
    ``cache_folder()`` under a name that is a hash of that content: another file is another folder, a copy of the file
    is the same one. Nothing but the file is read, whatever lies beside it.

    Args:
        file: GGUF, of an architecture that transformers can read from it, in any of its quantisations.

    Returns:
        the folder.

    Raises:
        FileNotFoundError: there is no such file.
        MissingPackageError: the package ``gguf`` is not installed.
        ValueError: no GGUF file, a damaged one, a part of one, or no causal language model that transformers reads.
        OSError: the folder cannot be written.

    Source: the format, github.com/ggml-org/ggml/blob/master/docs/gguf.md.

    Example:
        >>> LanguageModel.from_pretrained(gguf_folder("SmolLM2-135M-Instruct.Q4_1.gguf"))  # doctest: +SKIP
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"there is no GGUF file {file}")
    status = path.stat()
    folder = cache_folder() / _content_hash(path.resolve(), status.st_size, status.st_mtime_ns)
    if folder.is_dir():
        return folder
    if find_spec("gguf") is None:
        raise MissingPackageError(f'{file} is read with the package gguf: pip install "nashward[real]"')
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):  # another process may be writing it
        if not folder.is_dir():
            logger.info(f"{file} is read once and written as a folder, {folder}")
            _write(path, folder)
    return folder


def cache_folder() -> Path:
    """Where the folders are kept: ``$XDG_CACHE_HOME/nashward/gguf``, or ``~/.cache/nashward/gguf``. All of it can be
    deleted; it is written again when it is needed.

    Example:
        >>> cache_folder().parts[-2:]
        ('nashward', 'gguf')
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nashward" / "gguf"


@lru_cache
def _content_hash(path: Path, size: int, changed: int) -> str:
    """The first 16 hexadecimal digits of the SHA-256; size and time of change tell when to compute it again."""
    with path.open("rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            raise NashwardError(f"{path} is no GGUF file: it does not begin with {MAGIC.decode()}")
        handle.seek(0)
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def _write(file: Path, folder: Path) -> None:
    expected = "expected a whole GGUF file of a causal language model, of an architecture that transformers reads"
    with TemporaryDirectory() as place:
        alone = _alone(file, Path(place))

        def unreadable(error: BaseException) -> NashwardError:
            reason = first_line(error).replace(str(alone), file.name)
            return NashwardError(f"{file} cannot be read ({cut(reason, 200)}); {expected}")

        with _quiet(), translated_errors(unreadable):
            try:
                tokenizer = AutoTokenizer.from_pretrained(alone.parent, gguf_file=alone.name, trust_remote_code=False)
                stops, numbers = _contents(alone)
                model, report = _read(alone)
            except struct.error as error:  # the file ends within its header
                raise NashwardError(str(error)) from None
        if lacking := sorted(report["missing_keys"]):
            raise NashwardError(
                f"{file} lacks {len(lacking)} of the model's tensors, the first {lacking[0]}: it may be a part of a "
                "model that is split into several files; merge them into one"
            )
        unread = numbers - sum(parameter.numel() for parameter in model.parameters())
        if unread:
            logger.warning(
                f"{file} holds {unread} numbers that transformers does not read; where they rescale the rotary "
                "embedding (rope_freqs), texts are read as by the model before its context was extended"
            )
        if stops:
            model.generation_config.eos_token_id = stops
        with atomic_folder(folder) as unfinished:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
            for name in ("config.json", "generation_config.json"):
                _without_version(unfinished / name)


def _alone(file: Path, place: Path) -> Path:
    """The file in a folder of its own: transformers would read an adapter, a tokenizer's settings or stop tokens that
    lie beside it, which the hash of the file does not cover."""
    alone = place / f"model{SUFFIX}"
    try:
        alone.symlink_to(file.resolve())
    except OSError:  # on Windows a link may need rights
        shutil.copyfile(file, alone)
    return alone


def _contents(file: Path) -> tuple[list[int], int]:
    """The tokens that end a turn, and how many numbers the tensors have."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    fields = [reader.get_field(f"tokenizer.ggml.{name}_token_id") for name in STOPS]
    stops = sorted({int(field.parts[-1][0]) for field in fields if field is not None})
    return stops, sum(math.prod(map(int, tensor.shape)) for tensor in reader.tensors)


def _read(file: Path) -> tuple[Any, dict[str, Any]]:
    """The model in bfloat16, as one that was never quantised, and what transformers says of its tensors."""
    options: dict[str, Any] = {}
    if (config := getattr(transformers, "GgufConfig", None)) is not None:  # else all weights are unpacked
        options["quantization_config"] = config(dequantize=True)
    loader: Any = AutoModelForCausalLM  # whose types know no report
    read, report = loader.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16, output_loading_info=True, trust_remote_code=False,
        **options,
    )  # fmt: skip
    # transformers saves no model that was read from GGUF, also not unpacked: its tensors go into a new one
    config = copy.deepcopy(read.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = type(read)(config)
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    return model, report


@contextmanager
def _quiet() -> Iterator[None]:
    """A block without transformers' log lines on packed weights, which are unpacked here."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def _without_version(file: Path) -> None:
    """Take out the version of transformers: the fingerprint of the folder is then the file's, not the machine's."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings.pop("transformers_version", None)
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
