"""Language models as players of preference games. Needs the ``llm`` extra: ``pip install "nashward[llm]"``.

``SelfPlay`` plays any mirror-step solver of ``nashward.games``; ``oracles`` turns responses into tables of win
probabilities; ``pocket`` holds two tiny models, so that all of it runs with no network and no GPU. A name is imported
when it is first used: ``nashward.llm.config`` needs neither torch nor transformers.
"""

if __name__ == "llm":
    raise ImportError("import nashward.llm, not llm: this folder is a part of the package (pip install -e .)")

import logging as _logging
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING
from typing import Any as _Any

from nashward.errors import MissingPackageError as _MissingPackageError
from nashward.lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from . import evaluation as evaluation
    from . import oracles as oracles
    from . import people as people
    from . import pocket as pocket
    from .config.endpoint import Endpoint as Endpoint
    from .config.endpoint import JudgeSettings as JudgeSettings
    from .config.fit import Fit as Fit
    from .config.limits import Limits as Limits
    from .config.lora import Lora as Lora
    from .config.phase import Phase as Phase
    from .config.placement import Placement as Placement
    from .config.run import RunConfig as RunConfig
    from .config.sampling import Sampling as Sampling
    from .data.prompts import Prompt as Prompt
    from .data.prompts import read_prompts as read_prompts
    from .policy.mixture import Mixture as Mixture
    from .policy.model import LanguageModel as LanguageModel
    from .policy.sampling import Enumerated as Enumerated
    from .policy.sampling import GenerateSource as GenerateSource
    from .run.selfplay import Run as Run
    from .run.selfplay import SelfPlay as SelfPlay

PACKAGES = ("transformers", "peft", "accelerate", "safetensors", "pyarrow")

_MODULES = {
    "Endpoint": ".config.endpoint",
    "Enumerated": ".policy.sampling",
    "Fit": ".config.fit",
    "GenerateSource": ".policy.sampling",
    "JudgeSettings": ".config.endpoint",
    "LanguageModel": ".policy.model",
    "Limits": ".config.limits",
    "Lora": ".config.lora",
    "Mixture": ".policy.mixture",
    "Phase": ".config.phase",
    "Placement": ".config.placement",
    "Prompt": ".data.prompts",
    "Run": ".run.selfplay",
    "RunConfig": ".config.run",
    "Sampling": ".config.sampling",
    "SelfPlay": ".run.selfplay",
    "evaluation": ".evaluation",
    "oracles": ".oracles",
    "people": ".people",
    "pocket": ".pocket",
    "read_prompts": ".data.prompts",
}
__all__ = [*_MODULES]

# On a CPU bitsandbytes advises at every start to install kernels that have no gradient; see ``keep_gradients``.
_logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(_logging.ERROR)


def missing(package: str | None) -> str:
    """What to do where a package of the extra is not installed."""
    return f'nashward.llm needs {package}: pip install "nashward[llm]"'


if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    _get, __dir__ = _lazy_names(__name__, _MODULES)

    def __getattr__(name: str) -> _Any:
        if name in _MODULES:
            for package in PACKAGES:
                if _find_spec(package) is None:
                    raise _MissingPackageError(missing(package))
        return _get(name)
