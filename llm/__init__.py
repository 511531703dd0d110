"""Language models as players of preference games. Needs the ``llm`` extra: ``pip install "nashward[llm]"``.

``SelfPlay`` plays any mirror-step solver of ``nashward.games``; ``oracles`` turns responses into tables of win
probabilities; ``pocket`` holds two tiny models, so that all of it runs with no network and no GPU.
"""

if __name__ == "llm":
    raise ImportError("import nashward.llm, not llm: this folder is a part of the package (pip install -e .)")

import logging as _logging
from importlib.util import find_spec as _find_spec

from nashward.errors import MissingPackageError

for _package in ("transformers", "peft", "accelerate", "safetensors", "pyarrow"):
    if _find_spec(_package) is None:
        raise MissingPackageError(f'nashward.llm needs {_package}: pip install "nashward[llm]"')

# On a CPU bitsandbytes advises at every start to install kernels that have no gradient; see model.keep_gradients.
_logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(_logging.ERROR)

from . import evaluation as evaluation
from . import oracles as oracles
from . import pocket as pocket
from .data.prompts import Prompt as Prompt
from .data.prompts import read_prompts as read_prompts
from .policy.mixture import Mixture as Mixture
from .policy.model import LanguageModel as LanguageModel
from .policy.model import Lora as Lora
from .policy.sampling import Enumerated as Enumerated
from .policy.sampling import Sampling as Sampling
from .run.limits import Limits as Limits
from .run.phases import Phase as Phase
from .run.selfplay import Run as Run
from .run.selfplay import SelfPlay as SelfPlay
from .training.optimize import Fit as Fit
