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
        folder: the adapter's files, in PEFT's format.
    """

    label: str
    folder: Path


@dataclass(frozen=True, eq=False)
class StoredResponses:
    """A fixed opponent: another model's responses. It can be played against, but neither sampled nor fitted.

    Attributes:
        label: a name, unique in the run, that file names can hold.
        texts: the responses to each prompt, at least one, by the prompt's id.
    """

    label: str
    texts: Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class TokenMixture:
    """A geometric mixture of two policies, sampled with the product of their next-token distributions.

    See also:
        ``experimental.token_mixture.MixedNetwork``, the distribution that this is, and how it differs from the mixture
        of whole responses.

    Attributes:
        label: a name, unique in the run.
        blend: two policies with adapters, with their weights. In an anchor the members are scored separately, which
            is exact.
    """

    label: str
    blend: Blend


Sampled: TypeAlias = Adapter | TokenMixture
