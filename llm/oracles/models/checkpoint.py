"""Checkpoints of oracles: found, read without running anybody's code, and told apart."""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer

from nashward.errors import NashwardError
from nashward.llm.data.library_errors import translated_errors

SAFE, BINARY = "model.safetensors", "pytorch_model.bin"
MEMBERS = "members"
# What a member of an ensemble holds: for a parameter that differs its own value, or a change of low rank, up @ down.
Member = dict[str, torch.Tensor]
UP, DOWN = ".up", ".down"
_VOCABULARIES = (
    "tokenizer.json", "tokenizer.model", "spm.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt",
    "vocab.json", "tekken.json",
)  # fmt: skip
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}  # as safetensors names them; others count as float32
_SMALL = ["*.json", "*.model", "*.txt", "*.jinja"]


def fetch_hint(model_id: str) -> str:
    return f"Fetch it on a machine with network (hf download {model_id}) or pass a local folder."


def is_id(name: str | Path) -> bool:
    """Whether it reads as a hub id, ``owner/name``."""
    return not isinstance(name, Path) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None


def resolve(id_or_folder: str | Path) -> Path:
    """The folder itself, or the hub's snapshot of that id.

    Raises:
        OSError: if it cannot be found (FileNotFoundError for a folder).
    """
    path = Path(id_or_folder).expanduser()
    if path.is_dir():
        return path
    name = str(id_or_folder)
    if not is_id(id_or_folder):
        raise FileNotFoundError(f"no folder {name}; expected the folder of a model or a hub id as llm-blender/PairRM")
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*_SMALL, "*.safetensors"]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*_SMALL, "pytorch_model*.bin"]))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise OSError(
            f"{name} is neither a folder nor in the local cache, and the hub did not give it. {fetch_hint(name)}"
        ) from error
    return folder


def read_config(folder: Path, expected: str) -> dict[str, Any]:
    """config.json.

    Raises:
        ValueError: there is none, or it cannot be read; says what the folder holds, and what was ``expected``.
    """
    if (folder / "adapter_config.json").exists():
        raise NashwardError(f"{folder} holds a PEFT adapter, not an oracle: --policy and --oracle may be swapped")
    if not (folder / "config.json").exists():
        raise NashwardError(f"{folder} has no config.json; expected {expected}")
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise NashwardError(f"{folder / 'config.json'} is not valid JSON: {error}") from None
    if not isinstance(settings, dict):
        raise NashwardError(f"{folder / 'config.json'} holds {type(settings).__name__}; expected {expected}")
    return settings


def read_tokenizer(source: str | Path, name: str) -> Any:
    """The tokenizer of a checkpoint in a folder, or of a hub id.

    Raises:
        OSError: if there is none, or it cannot be read.
    """
    folder = Path(source)
    if folder.is_dir() and not any((folder / file).exists() for file in _VOCABULARIES):
        # transformers would make one up, of special tokens alone
        raise OSError(f"{name} has no tokenizer in {folder}; expected tokenizer.json beside its weights")
    told, expected = f"{name} has no tokenizer that can be read in {source}", "tokenizer.json and tokenizer_config.json"
    with translated_errors(
        lambda error: OSError(f"{told} ({type(error).__name__}); expected {expected} beside its weights")
    ):
        return AutoTokenizer.from_pretrained(str(source))


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors, from safetensors (one file or shards with their index) or pytorch_model.bin.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if a file is truncated, no checkpoint, or a pickle with more than tensors in it.
    """
    index = next(
        (folder / f"{name}.index.json" for name in (SAFE, BINARY) if (folder / f"{name}.index.json").exists()), None
    )
    if (folder / SAFE).exists():
        files = [folder / SAFE]
    elif index is not None:
        try:
            files = sorted(
                {folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
            )
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise NashwardError(f"{index} is no index of shards ({type(error).__name__})") from None
    elif (folder / BINARY).exists():
        files = [folder / BINARY]
    else:
        raise FileNotFoundError(f"{folder} has neither {SAFE} nor {BINARY}")
    state: dict[str, torch.Tensor] = {}
    for file in files:
        state.update(read_tensors(file))
    # an index that old releases of transformers saved
    return {key: value for key, value in state.items() if not key.endswith("position_ids")}


def tensor_names(folder: Path) -> set[str]:
    """The names of the tensors of a checkpoint in safetensors, without reading one; empty where there is none."""
    for index in folder.glob("*.index.json"):
        try:
            return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return set()  # whoever reads the weights says what is wrong
    if not (folder / SAFE).exists():
        return set()
    try:
        with safe_open(folder / SAFE, framework="pt") as file:
            return set(file.keys())
    except SafetensorError:
        return set()


def stored_dtype(folder: Path) -> torch.dtype:
    """That of most of a checkpoint's weights, from the headers of its safetensors; float32 where there are none.

    Raises:
        ValueError: a header cannot be read.
    """
    sizes: Counter[torch.dtype] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    tensor = file.get_slice(name)
                    sizes[_DTYPES.get(tensor.get_dtype(), torch.float32)] += math.prod(tensor.get_shape())
        except SafetensorError as error:
            raise NashwardError(f"{path} cannot be read: {error}") from None
    return sizes.most_common(1)[0][0] if sizes else torch.float32


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file; of a pickle nothing but tensors is ever made.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or holds something else than tensors.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing; fetch the checkpoint again")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise NashwardError(f"{file} cannot be read: {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise NashwardError(
            f"{file} is a pickle that holds more than tensors, or is damaged; it is not opened, as that could run "
            "somebody's code. Convert it to safetensors where you trust it"
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise NashwardError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NashwardError(f"{file} holds {type(state).__name__}; expected a dictionary of tensors")
    return state


def read_members(folder: Path, model: nn.Module) -> list[Member]:
    """The members of an ensemble, ``members/*.safetensors``; empty where there are none.

    Raises:
        ValueError: a file cannot be read, or does not belong to the model.
    """
    own = dict(model.named_parameters())
    members = []
    for file in sorted((folder / MEMBERS).glob("*.safetensors")):
        tensors = read_tensors(file)
        wrong = [key for key in tensors if key.removesuffix(UP).removesuffix(DOWN) not in own]
        wrong += [key for key, value in tensors.items() if key in own and own[key].shape != value.shape]
        if wrong:
            raise NashwardError(f"{file} does not belong to the model in {folder}: {names(wrong)}")
        members.append(
            {key: value.to(own[key.removesuffix(UP).removesuffix(DOWN)].dtype) for key, value in tensors.items()}
        )
    return members


def members_size(folder: Path) -> int:
    """Bytes of the members of an ensemble."""
    return sum(file.stat().st_size for file in (folder / MEMBERS).glob("*.safetensors"))


def load_state(model: nn.Module, state: dict[str, torch.Tensor], name: str, what: str) -> None:
    """``load_state_dict`` that names what does not fit in one line.

    Raises:
        ValueError: tensors are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [key for key in own if key in state and own[key].shape != state[key].shape],
    }
    told = "; ".join(f"{problem}: {names(keys)}" for problem, keys in problems.items() if keys)
    if told:
        raise NashwardError(f"the tensors of {name} are not those of {what}: {told}")
    model.load_state_dict(state)


def names(keys: Iterable[str]) -> str:
    """The first three, and how many more."""
    keys = list(keys)
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def fingerprint(tensors: Iterable[tuple[str, torch.Tensor]], tokenizer: Any, settings: dict[str, Any]) -> str:
    """A hash of weights, tokenizer and settings: equal where the answers are."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(content.numpy().data)
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None:  # without the truncation and padding of whatever it was called with last
        digest.update(json.dumps(json.loads(core.to_str()) | {"truncation": None, "padding": None}).encode())
    else:
        digest.update(repr(tokenizer).encode())
    digest.update(str(getattr(tokenizer, "chat_template", None)).encode())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


def changed(model: nn.Module, member: Member) -> dict[str, torch.Tensor]:
    """The parameters of the model that are others in a member, as they are there."""
    others = {}
    for name, parameter in model.named_parameters():
        if name in member:
            others[name] = member[name]
        elif name + UP in member:
            others[name] = parameter.data + member[name + UP] @ member[name + DOWN]
    return others


@contextmanager
def swapped(model: nn.Module, member: Member) -> Iterator[None]:
    """The model with a member's parameters in place of its own."""
    own, others = dict(model.named_parameters()), changed(model, member)
    kept = {name: own[name].data for name in others}
    try:
        for name, value in others.items():
            own[name].data = value
        yield
    finally:
        for name, value in kept.items():
            own[name].data = value
