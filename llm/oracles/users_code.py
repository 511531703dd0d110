"""What is said of a user's code as an oracle: at which pair an exception was raised, and that nothing is judged."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import quoted

logger = logging.getLogger(__name__)

RAISED = "raised while "  # how a note begins: the innermost call, which knows the pair best, has the only one
SHOWN = 40  # characters of a text


@contextmanager
def naming_pairs(
    name: str, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Sequence[tuple[int, int]]]
) -> Iterator[None]:
    """Within the block an exception gets a note of what was judged; it stays the same object, with its traceback.

    Args:
        name: of the oracle.
        prompts, candidates, pairs: see ``PreferenceOracle.raw_logits``.

    Example:
        >>> try:
        ...     with naming_pairs("the judge", ["Why?"], [["So.", "No."]], [[(0, 1)]]):
        ...         raise ZeroDivisionError
        ... except ZeroDivisionError as error:
        ...     print(error.__notes__)
        ["raised while the judge judged the pair 'So.', 'No.' of prompt 'Why?'"]
    """
    try:
        yield
    except NashwardError:
        raise  # says itself what is wrong
    except Exception as error:
        if not any(note.startswith(RAISED) for note in getattr(error, "__notes__", ())):
            error.add_note(f"{RAISED}{name} judged {_listed(prompts, candidates, pairs)}")
        raise


def _listed(
    prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Sequence[tuple[int, int]]]
) -> str:
    asked = [(n, i, j) for n, own in enumerate(pairs) for i, j in own]
    if not asked:
        return "no pair"
    n, i, j = asked[0]
    first = f"the pair {quoted(candidates[n][i], SHOWN)}, {quoted(candidates[n][j], SHOWN)} of prompt "
    first += quoted(prompts[n], SHOWN)
    rest = len(asked) - 1
    return first if not rest else f"{first} and {counted(rest, 'more pair')}, of {counted(len(prompts), 'prompt')}"


def warn_of_silence(name: str, pairs: int) -> None:
    """Warn that an oracle gave no judgement at all at its first use: None is how one abstains, and what a Python
    function returns that lacks its ``return``.

    Args:
        name: of the oracle.
        pairs: how many it was asked for.
    """
    logger.warning(
        "%s gave no judgement of the %s that it was asked for first. An oracle may abstain by None or NaN; where it "
        "should not, look for a missing return in its code", name, counted(pairs, "pair"),
    )  # fmt: skip
