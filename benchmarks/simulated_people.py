"""Simulated people: they vote by the planted preferences of the pocket styles, each with a reliability of their own."""

from __future__ import annotations

import numpy as np

from nashward.llm.pocket import styles


def style(text: str) -> int:
    """The row of a text in ``styles.judged_table``: its style, or the last one for none."""
    found = styles.style_of(text)
    return len(styles.STYLES) if found is None else found


class Annotator:
    """Votes by the planted table with probability ``reliability``, else by a coin; of one style both are equal.

    Args:
        name: of the person.
        reliability: see above.
        seed: of the votes.
    """

    def __init__(self, name: str, reliability: float, seed: int) -> None:
        self.name, self.reliability = name, reliability
        self._table, self._random = styles.judged_table(), np.random.default_rng(seed)

    def choice(self, first: str, second: str) -> str:
        """What they say of two responses: "first", "second" or "tie"."""
        if self._random.random() >= self.reliability:
            return ("first", "second")[int(self._random.integers(2))]
        i, j = style(first), style(second)
        if i == j:
            return "tie"
        return "first" if self._random.random() < self._table[i, j] else "second"


def people(count: int, seed: int, least: float = 0.7) -> list[Annotator]:
    """So many people, whose reliabilities are drawn from ``least`` to 1."""
    drawn = np.random.default_rng([seed, 1]).uniform(least, 1.0, count)
    return [Annotator(f"person {k:02d}", float(r), 1000 * seed + k) for k, r in enumerate(drawn)]
