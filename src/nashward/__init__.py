"""nashward, from reward to Nash: the policy that no other policy beats.

Three rooms, one import name:

- ``nashward.games``: constant-sum games, Steps and solvers, exact equilibria, measures, the zoo, plots;
- ``nashward.theory``: theorems as objects (bounds that the tests and the plots hold against the solvers);
- ``nashward.llm``: language models as players (needs the ``llm`` extra: ``pip install "nashward[llm]"``).

The rooms are loaded when they are first used: neither ``import nashward`` nor ``import nashward.games`` imports
transformers.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"
__all__ = ["__version__", "games", "llm", "theory"]


def __getattr__(name: str) -> ModuleType:
    if name in ("games", "llm", "theory"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
