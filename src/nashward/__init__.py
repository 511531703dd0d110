"""nashward, from reward to Nash: the policy that no other policy beats.

Three rooms, one import name:

- ``nashward.games``: constant-sum games, Steps and solvers, exact equilibria, measures, the zoo, plots;
- ``nashward.theory``: theorems as objects (bounds that the tests and the plots hold against the solvers);
- ``nashward.llm``: language models as players (needs the ``llm`` extra: ``pip install "nashward[llm]"``).

The rooms are loaded when they are first used: neither ``import nashward`` nor ``import nashward.games`` imports
transformers.
"""

from typing import TYPE_CHECKING

from .lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from . import games as games
    from . import llm as llm
    from . import theory as theory

__version__ = "0.1.0"
__all__ = ["__version__", "games", "llm", "theory"]

if not TYPE_CHECKING:  # to a type checker an unknown name stays an error
    __getattr__, __dir__ = _lazy_names(__name__, {name: f".{name}" for name in ("games", "llm", "theory")})
