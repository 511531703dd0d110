"""Which of a step's prompts are trained on, which decide how far a fit goes, and which are held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...config.fit import Fit
from ...data.prompts import Prompt
from ...policy.sampling import seed_of


def divide(
    numbers: Iterable[int], prompts: Sequence[Prompt], fit: Fit, seed: int
) -> tuple[list[int], list[int], list[int]]:
    """The parts of a step's prompts, by their numbers: trained on, validation, held out.

    A prompt's place depends on its content and the seed alone. Variants of prompts are trained on, and left out where
    their parent is in another part: what is held out has no variant that is trained on.

    Args:
        numbers: those of the step's prompts.
        prompts: all of the run.
        fit: the shares.
        seed: the run's seed.

    Example:
        >>> prompts = [Prompt(({"role": "user", "content": str(k)},)) for k in range(4)]
        >>> divide(range(4), prompts, Fit(held_out=0.5, validation=0.0), seed=0)
        ([0, 2], [], [3, 1])
    """
    own, variants = list[int](), list[int]()
    for number in numbers:
        (own if prompts[number].parent is None else variants).append(number)
    own.sort(key=lambda number: seed_of(seed, "held out", prompts[number].id))
    _, validation, held_out = fit.parts(len(own)) if own else (0, 0, 0)
    apart = {prompts[number].id for number in own[: held_out + validation]}
    trained = own[held_out + validation :] + [number for number in variants if prompts[number].parent not in apart]
    return trained, own[held_out : held_out + validation], own[:held_out]
