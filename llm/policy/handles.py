"""What a policy's handle holds on a language model: an adapter, a mixture token by token, stored responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from nashward.games.policy import Blend


@dataclass(frozen=True)
class Adapter:
    """What a policy handle holds here: a name, unique in the run, and the folder of the adapter."""

    label: str
    folder: Path


@dataclass(frozen=True, eq=False)
class Responses:
    """What the handle on a fixed opponent holds: what another model answered. It can be played against, no more.

    Attributes:
        label: a name, unique in the run, that file names can hold.
        texts: its responses, at least one, by the prompt's id.
    """

    label: str
    texts: Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class TokenMixture:
    """What the handle on a geometric mixture holds that is blended token by token while it is sampled from.

    Attributes:
        label: a name, unique in the run.
        blend: of two policies with adapters. As a part of an anchor it stands for itself, with no approximation.
    """

    label: str
    blend: Blend


Sampled: TypeAlias = Adapter | TokenMixture
