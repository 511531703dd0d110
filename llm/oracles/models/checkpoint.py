"""The files of an oracle's checkpoint: finding them, reading them without running code that lies in them, hashing."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer

from nashward.errors import NashwardError

from ...data.library_errors import translated_errors
from ...policy.local.hub import fetch
from ...policy.local.names import local_model
from ..source_names import is_id

SAFE, BINARY = "model.safetensors", "pytorch_model.bin"
MEMBERS = "members"
# What a member of an ensemble holds: for a parameter that differs its own value, or a change of low rank, up @ down.
Member = dict[str, torch.Tensor]
Problems = dict[str, list[str]]  # the names of tensors, by what is wrong with them
UP, DOWN = ".up", ".down"
_VOCABULARIES = (
    "tokenizer.json", "tokenizer.model", "spm.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt",
    "vocab.json", "tekken.json",
)  # fmt: skip
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}  # as safetensors names them; others count as float32
_SMALL = ["*.json", "*.model", "*.txt", "*.jinja"]


def fetch_hint(model_id: str) -> str:
    """The end of an error message about a model that is not in the local cache."""
    return f"Fetch it on a machine with network (hf download {model_id}) or pass a local folder."


def resolve(id_or_folder: str | Path) -> Path:
    """The folder of a checkpoint.

    Args:
        id_or_folder: a folder, a hub id, or what else ``local_model`` takes; from the hub its small files and weights
            are fetched, safetensors first.

    Returns:
        The folder itself, or the snapshot of the hub id in the local cache.

    Raises:
        FileNotFoundError: neither a folder nor a model on the hub.
    """
    path = Path(local_model(id_or_folder)).expanduser()
    if path.is_dir():
        return path
    name = str(id_or_folder)
    if not is_id(id_or_folder):
        raise FileNotFoundError(f"no folder {name}; expected the folder of a model or a hub id as llm-blender/PairRM")
    folder = fetch(name, "config.json", [*_SMALL, "*.safetensors"])
    return folder if any(folder.glob("*.safetensors")) else fetch(name, "config.json", [*_SMALL, "pytorch_model*.bin"])


def read_config(folder: Path, expected: str) -> dict[str, Any]:
    """The content of config.json.

    Args:
        folder: of the checkpoint.
        expected: what kind of checkpoint is expected, for errors.

    Raises:
        ValueError: the file is missing or cannot be read; the message has what the folder holds and ``expected``.
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
    """The tokenizer of a checkpoint.

    Args:
        source: a folder or a hub id.
        name: what errors call the checkpoint.

    Raises:
        OSError: the tokenizer is missing or cannot be read.
    """
    folder = Path(source)
    if folder.is_dir() and not any((folder / file).exists() for file in _VOCABULARIES):
        # transformers would invent a tokenizer of special tokens alone
        raise OSError(f"{name} has no tokenizer in {folder}; expected tokenizer.json beside its weights")

    def unreadable(error: BaseException) -> OSError:
        return OSError(
            f"{name} has no tokenizer that can be read in {source} ({type(error).__name__}); expected tokenizer.json "
            "and tokenizer_config.json beside its weights"
        )

    with translated_errors(unreadable):
        return AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors, from safetensors (one file or shards with their index) or pytorch_model.bin.

    Raises:
        FileNotFoundError: no such file in the folder.
        ValueError: a file is truncated, is no checkpoint, or is a pickle that holds more than tensors.
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
    """The names of a checkpoint's tensors from its safetensors' headers; empty where there are no safetensors."""
    for index in folder.glob("*.index.json"):
        try:
            return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return set()  # read_weights raises the error
    if not (folder / SAFE).exists():
        return set()
    try:
        with safe_open(folder / SAFE, framework="pt") as file:
            return set(file.keys())
    except SafetensorError:
        return set()


def tensor_shape(folder: Path, name: str) -> list[int] | None:
    """The shape of a tensor of a checkpoint from its safetensors' headers; None where it is not among them."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                if name in file.keys():  # noqa: SIM118
                    return list(file.get_slice(name).get_shape())
        except SafetensorError as error:
            raise NashwardError(f"{path} cannot be read: {error}") from None
    return None


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of most of a checkpoint's weights, from its safetensors' headers; float32 without safetensors.

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
    """The tensors of one file. Unpickling is limited to tensors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read, or holds something else than tensors.
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
            warnings.simplefilter("ignore")  # about the protocol of the pickle
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise NashwardError(
            f"{file} is a pickle that holds more than tensors, or is damaged; it is not opened, as that could run code "
            "that lies in it. Convert it to safetensors where you trust it"
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        raise NashwardError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NashwardError(f"{file} holds {type(state).__name__}; expected a dictionary of tensors")
    return state


def read_members(folder: Path, model: nn.Module) -> list[Member]:
    """The members of an ensemble, ``members/*.safetensors``; empty for a single model.

    Raises:
        ValueError: a file cannot be read, or does not belong to the model.
    """
    parameters = dict(model.named_parameters())
    members = []
    for file in sorted((folder / MEMBERS).glob("*.safetensors")):
        tensors = read_tensors(file)
        wrong = [key for key in tensors if key.removesuffix(UP).removesuffix(DOWN) not in parameters]
        wrong += [key for key, value in tensors.items() if key in parameters and parameters[key].shape != value.shape]
        if wrong:
            raise NashwardError(f"{file} does not belong to the model in {folder}: {first_names(wrong)}")
        dtypes = {key: parameters[key.removesuffix(UP).removesuffix(DOWN)].dtype for key in tensors}
        members.append({key: value.to(dtypes[key]) for key, value in tensors.items()})
    return members


def members_size(folder: Path) -> int:
    """Bytes of the members of an ensemble, 0 for a single model."""
    return sum(file.stat().st_size for file in (folder / MEMBERS).glob("*.safetensors"))


def load_state(model: nn.Module, state: dict[str, torch.Tensor], name: str, expected: str) -> None:
    """``load_state_dict``, strict, with one line that names the tensors that do not fit.

    Args:
        model: the network.
        state: the tensors of the checkpoint.
        name: what errors call the checkpoint.
        expected: what the network is, for errors.

    Raises:
        ValueError: tensors are missing, unexpected, of another shape, or of whole numbers.
    """
    parameters = model.state_dict()
    check_tensors(
        {
            "missing": [key for key in parameters if key not in state],
            "unexpected": [key for key in state if key not in parameters],
            "of another shape": [
                key for key in parameters if key in state and parameters[key].shape != state[key].shape
            ],
            "of whole numbers": [
                key
                for key in parameters
                if key in state and parameters[key].is_floating_point() and not state[key].is_floating_point()
            ],
        },
        name,
        expected,
    )
    model.load_state_dict(state)


def load_network(classes: Any, config: Any, state: dict[str, torch.Tensor], **options: Any) -> tuple[Any, Problems]:
    """A network of transformers with the tensors of a checkpoint.

    Args:
        classes: the class of transformers.
        config: its configuration.
        state: the tensors.
        options: more arguments of transformers' ``from_pretrained``.

    Returns:
        The network, and the names of its tensors that transformers had to initialise at random, by the reason. The
        caller raises, see ``check_tensors``: of a base model under a new head some may be missing.
    """
    network, report = classes.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    mismatched = {key for key, *_ in report["mismatched_keys"]}
    whole = [key for key, value in state.items() if not value.is_floating_point()]
    floating = {key for key, value in network.state_dict().items() if value.is_floating_point()}
    return network, {
        "missing": sorted(report["missing_keys"]),
        "of another shape": sorted(mismatched),
        "of whole numbers": sorted(floating.intersection(whole)),
    }


def check_tensors(problems: Problems, name: str, expected: str, consequence: str = "") -> None:
    """Raise where tensors of a checkpoint do not fit the network.

    Args:
        problems: the names of tensors by what is wrong with them.
        name: what errors call the checkpoint.
        expected: what the network is.
        consequence: the end of the message.

    Raises:
        ValueError: some are wrong.
    """
    wrong = "; ".join(f"{problem}: {first_names(keys)}" for problem, keys in problems.items() if keys)
    if wrong:
        raise NashwardError(f"the tensors of {name} are not those of {expected}: {wrong}{consequence}")


def first_names(keys: Iterable[str]) -> str:
    """The first three names, and how many more there are."""
    keys = list(keys)
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def fingerprint(tensors: Iterable[tuple[str, torch.Tensor]], tokenizer: Any, settings: dict[str, Any]) -> str:
    """A hash of weights, tokenizer and settings: equal where the judgements are."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(content.numpy().data)
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:  # without the truncation and padding of its last call
        digest.update(json.dumps(json.loads(fast.to_str()) | {"truncation": None, "padding": None}).encode())
    else:
        digest.update(repr(tokenizer).encode())
    digest.update(str(getattr(tokenizer, "chat_template", None)).encode())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


def member_parameters(model: nn.Module, member: Member) -> dict[str, torch.Tensor]:
    """The parameters in which a member of an ensemble differs from the model, with the values that they have there."""
    changed = {}
    for name, parameter in model.named_parameters():
        if name in member:
            changed[name] = member[name]
        elif name + UP in member:
            changed[name] = parameter.data + member[name + UP] @ member[name + DOWN]
    return changed


@contextmanager
def use_member(model: nn.Module, member: Member) -> Iterator[None]:
    """The model with a member's parameters in place of its own, inside of the block."""
    parameters, changed = dict(model.named_parameters()), member_parameters(model, member)
    original = {name: parameters[name].data for name in changed}
    try:
        for name, value in changed.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in original.items():
            parameters[name].data = value
