"""What layout adds by itself: a judge between a response and the same one without its headers, lists or bold text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nashward.errors import BudgetError, EndpointError
from nashward.games.analysis.contextual import ContextualBradleyTerry, contextual_bradley_terry
from nashward.games.analysis.style import STYLE, style_differences, without_marks

from ..cache import Cache
from ..protocol import PreferenceOracle
from .probe import Pair, judge_pairs
from .style_fit import FEW_PAIRS

logger = logging.getLogger(__name__)

MOST = 60  # responses of each mark


def unmarked(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """For each mark of layout responses that have it (a), each beside itself without it (b).

    Args:
        pairs: whose responses they are; of each mark the first 60 are taken, one side of all pairs before the other.

    Example:
        >>> [(pair.a, pair.b) for pair in unmarked([Pair("?", "- Yes.", "No.")])["lists"]]
        [('- Yes.', '  Yes.')]
    """
    texts = dict.fromkeys((pair.prompt, getattr(pair, side)) for side in "ab" for pair in pairs)
    found = {}
    for kind in STYLE[1:]:
        each = ((prompt, text, without_marks(text, kind)) for prompt, text in texts)
        found[kind] = [Pair(prompt, text, plain) for prompt, text, plain in each if plain != text][:MOST]
    return found


def effects_of_marks(
    oracle: PreferenceOracle, changed: dict[str, list[Pair]], cache: Cache | str | Path | None = None
) -> dict[str, ContextualBradleyTerry]:
    """What each mark adds to the log-odds of a response against itself without it, in the unit of ``STYLE``'s feature.

    No author and no content goes with it. A mark of fewer than ten responses that could be judged is left out.

    Args:
        oracle: the judge.
        changed: as of ``unmarked``.
        cache: of judgements.

    Raises:
        BudgetError, EndpointError: of a judge behind a server, which says nothing of what it judges.
    """
    every = [(kind, pair) for kind, own in changed.items() for pair in own]
    if not every:
        return {}
    try:
        judged = judge_pairs(oracle, [pair for _, pair in every], cache)
    except (BudgetError, EndpointError):  # says nothing of the judge
        raise
    except (LookupError, ValueError) as error:  # as of an oracle that knows the scores of some texts alone
        logger.warning(
            "%s does not judge responses without their marks of layout (%s: %.200s): what layout adds is seen across "
            "responses alone, with all that goes with it", oracle.name, type(error).__name__, error,
        )  # fmt: skip
        return {}
    found = {}
    for kind in changed:
        at = np.array([one == kind for one, _ in every]) & ~np.isnan(judged.log_odds)
        if at.sum() >= FEW_PAIRS:
            own = [pair for (_, pair), is_own in zip(every, at, strict=True) if is_own]
            x = style_differences([pair.a for pair in own], [pair.b for pair in own])[:, [STYLE.index(kind)]]
            found[kind] = contextual_bradley_terry(
                judged.log_odds[at], x, clusters=judged.clusters[at], scale="log-odds"
            )
    return found
