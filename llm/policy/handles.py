"""The values of policy handles on a language model: an adapter, a token-level mixture, stored responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from nashward.games.policy import Blend


@dataclass(frozen=True)
class Adapter:
    """A trained policy.

    Attributes:
        label: a name, unique in the run.
        folder: of the adapter.
    """

    label: str
    folder: Path


@dataclass(frozen=True, eq=False)
class StoredResponses:
    """A fixed opponent: another model's responses. It can be played against, but neither sampled nor fitted.

    Attributes:
        label: a name, unique in the run, that file names can hold.
        texts: its responses, at least one, by the prompt's id.
    """

    label: str
    texts: Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class TokenMixture:
    """A geometric mixture whose members are blended token by token while it is sampled from.

    Attributes:
        label: a name, unique in the run.
        blend: of two policies with adapters. In an anchor its members are scored, with no approximation.
    """

    label: str
    blend: Blend


Sampled: TypeAlias = Adapter | TokenMixture
