"""What judges a run, as ``run.json`` has it: one oracle, or the oracles of several objectives, never both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ONE, SEVERAL = "oracle", "objective"
JUDGED = (ONE, SEVERAL, "combine", "correct")
JUDGED_KEYS = (*JUDGED, "oracle_content")


def judges(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a configuration that say what judges, without those that are None; empty where nothing judges.

    Example:
        >>> judges({"oracle": None, "objective": ["a=x", "b=y"], "combine": "weights", "seed": 0})
        {'objective': ['a=x', 'b=y'], 'combine': 'weights'}
    """
    found = {name: config[name] for name in JUDGED if config.get(name) is not None}
    return found if ONE in found or SEVERAL in found else {}


def another_kind(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What is there and what is given, where one configuration has one oracle and the other several objectives; None
    where both have the same kind, or one leaves it open.

    Example:
        >>> another_kind({"objective": ["a=x", "b=y"], "combine": "weights"}, {"oracle": "x"})
        'objective a=x, objective b=y, combine weights there, oracle x now'
    """
    there, given = judges(before), judges(now)
    if not there or not given or (SEVERAL in there) == (SEVERAL in given):
        return None
    return f"{_listed(there)} there, {_listed(given)} now"


def _listed(found: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {one}" for name, value in found.items() for one in (value if isinstance(value, list) else [value])
    )
