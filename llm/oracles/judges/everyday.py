"""The majority of three small judges, whose verdicts cycle though each of the three ranks."""

from __future__ import annotations

from pathlib import Path

from ..ensembles.ensemble import Ensemble
from ..scalar import Length
from .plain import Plain
from .to_the_point import ToThePoint

BREVITY = -10.0  # of the rule on lengths: a response that is a tenth shorter wins 74% of its duels


class EverydayMajority(Ensemble):
    """To the point, brief, plain: a response is better that two of three judges prefer.

    Each judge is transitive, and no score explains what their majority prefers: where one response is nearer to the
    prompt, another shorter, a third plainer, it goes in a circle. It is an oracle without votes for trying things out:
    ``--oracle nashward.llm.oracles:EverydayMajority``.

    Args:
        encoder: of ``ToThePoint``.

    Raises:
        MissingPackageError: the package of the encoder is not installed (the extra ``real``).

    Source: Condorcet 1785 (the majority and its cycles); the judges are the project's own.

    Example:
        >>> [judge.name for judge in EverydayMajority("/no/encoder").members]
        ['to the point', 'brevity', 'plain']
    """

    def __init__(self, encoder: str | Path = "real:minilm") -> None:
        judges = (ToThePoint(encoder), Length(BREVITY), Plain())
        super().__init__(judges, "majority", name="majority of to the point, brief and plain")
