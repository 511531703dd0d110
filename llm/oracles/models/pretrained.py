"""How network oracles are read from their checkpoints: the same steps for PairRM, GPM and reward models."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from transformers import AutoConfig

from nashward.errors import NashwardError

from ...data.library_errors import first_line, translated_errors
from ...policy.base.checks import check_sizes, check_weight_files, configuration_errors
from . import checkpoint
from .network import NetworkOracle, OracleShape, RowCount, RowLength, freeze


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint of which everything but the weights has been read.

    Attributes:
        name: the folder or hub id, as it was given.
        folder: where the files are.
        settings: config.json.
        base: the folder or hub id that architecture and tokenizer are from.
        config: the configuration of transformers.
        tokenizer: the tokenizer.
    """

    name: str
    folder: Path
    settings: dict[str, Any]
    base: str
    config: Any
    tokenizer: Any


class PretrainedOracle(NetworkOracle):
    """Base of network oracles that are read from a checkpoint.

    ``read_pretrained`` reads all but the weights: config.json, which is refused where it is of another kind of model,
    the configuration of transformers, and the tokenizer. ``from_pretrained`` of each class then builds its network by
    that configuration, loads the weights, all of which have to fit, and ends with ``from_network``.

    Attributes:
        expected: what a checkpoint of this kind is, for errors.
    """

    expected: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_pretrained(cls, id_or_folder: str | Path, *, device: str | torch.device | None = None) -> Self:
        """Load a checkpoint from the model hub or from a folder."""

    @classmethod
    def read_pretrained(cls, id_or_folder: str | Path) -> Pretrained:
        """Everything of a checkpoint but its weights.

        Raises:
            OSError: the checkpoint cannot be found (FileNotFoundError for a folder), or has no tokenizer.
            ValueError: it is of another kind; the message has what the folder holds instead.
        """
        name, folder = str(id_or_folder), checkpoint.resolve(id_or_folder)
        settings = checkpoint.read_config(folder, cls.expected)
        cls._check_settings(settings, folder, name)
        base = cls._base(settings, folder)
        config = cls._read_network_config(base, folder, name)
        tokenizer = checkpoint.read_tokenizer(base, name)
        cls._check_tokenizer(tokenizer, name)
        return Pretrained(name, folder, settings, base, config, tokenizer)

    @classmethod
    def check(cls, id_or_folder: str | Path) -> None:
        """Raise what is wrong with a checkpoint and can be seen without its weights, see ``read_pretrained``.

        Raises:
            OSError, ValueError: as ``read_pretrained``; a configuration of no network, files of weights that are too
                small for it, or tokens of text that have no embedding.
        """
        source = cls.read_pretrained(id_or_folder)
        with configuration_errors(source.name), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on matrices without elements
            network = cls._meta_network(source, torch.float32)
        check_weight_files(source.folder, network)
        cls._check_rows(source, network)

    @classmethod
    def shape(cls, id_or_folder: str | Path) -> OracleShape:
        """What a plan needs to know of the oracle. No weight is read, and small heads may be left out.

        Raises:
            OSError, ValueError: as ``check``; a header of the weights cannot be read.
        """
        source = cls.read_pretrained(id_or_folder)
        return cls.shape_of(source, checkpoint.stored_dtype(source.folder), checkpoint.members_size(source.folder))

    @classmethod
    def shape_of(cls, source: Pretrained, dtype: torch.dtype, members: int = 0) -> OracleShape:
        """``shape`` of a checkpoint that has been read, or is known.

        Args:
            source: the checkpoint.
            dtype: of its weights.
            members: bytes of the members of an ensemble.
        """
        with torch.device("meta"):
            network = cls._meta_network(source, dtype)
        row, rows = cls._row_lengths(source, network)
        return OracleShape(network, row, rows, members)

    @classmethod
    def from_network(cls, source: Pretrained, network: Any, *, ensemble: bool, **options: Any) -> Self:
        """The oracle around a network that has a checkpoint's weights.

        Args:
            source: the checkpoint.
            network: on its device.
            ensemble: with the members of an ensemble, where the folder has some.
            options: of the class.
        """
        members = checkpoint.read_members(source.folder, network) if ensemble else ()
        return cls(freeze(network), source.tokenizer, name=source.name, members=members, **options)

    # What differs from one kind to the next.

    @classmethod
    @abstractmethod
    def _check_rows(cls, source: Pretrained, network: Any) -> None:
        """Raise a ValueError if a token of text has no embedding in the network, which is on the meta device."""

    @classmethod
    @abstractmethod
    def _check_settings(cls, settings: dict[str, Any], folder: Path, name: str) -> None:
        """Raise a ValueError if config.json, or the names of the weights, are of another kind of model."""

    @classmethod
    def _base(cls, settings: dict[str, Any], folder: Path) -> str:
        """The folder or hub id that architecture and tokenizer are from."""
        return str(folder)

    @classmethod
    def _read_network_config(cls, base: str, folder: Path, name: str) -> Any:
        """The configuration of transformers."""
        with translated_errors(lambda error: cls._unreadable(error, base, folder, name)):
            config = AutoConfig.from_pretrained(base, trust_remote_code=False)
        check_sizes(config, name)
        return config

    @staticmethod
    def _unreadable(error: BaseException, base: str, folder: Path, name: str) -> Exception:
        """The error to raise where transformers cannot read its configuration."""
        return NashwardError(f"{folder / 'config.json'} cannot be read: {first_line(error)}")

    @staticmethod
    def _check_tokenizer(tokenizer: Any, name: str) -> None:
        """Raise a ValueError if the tokenizer lacks something that the kind needs."""

    @classmethod
    @abstractmethod
    def _meta_network(cls, source: Pretrained, dtype: torch.dtype) -> Any:
        """The ``Network`` of a checkpoint; called with the meta device as the default."""

    @classmethod
    @abstractmethod
    def _row_lengths(cls, source: Pretrained, network: Any) -> tuple[RowLength, RowCount]:
        """``row`` and ``rows`` of the ``OracleShape``."""
