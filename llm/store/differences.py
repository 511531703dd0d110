"""Where the configuration of a run differs from that of its folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..config.fields import spelled
from ..config.run import RunConfig


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    free: Collection[str],
    optional: Collection[str],
    movable: Collection[str],
    prompts: str | None = None,
) -> dict[str, str]:
    """The settings that differ, each with what is there and what is given.

    Args:
        before, now: by their names with dots, of the folder and of the run that is to go on.
        free: names, or sections, that may differ.
        optional: those that may be left out on either side.
        movable: those that may differ where their content (``NAME_content``) is the same.
        prompts: how the prompts of the folder are counted, for the message.

    Example:
        >>> differences({"seed": 0, "responses": 5}, {"seed": 1, "responses": 4}, ("seed",), (), ())
        {'responses': 'responses 5 there, 4 now'}
    """
    found: dict[str, str] = {}
    other_solver = before.get("solver.name") != now.get("solver.name")  # whose settings have other meanings
    for key in dict.fromkeys((*now, *before)):
        section = key.partition(".")[0]
        if (
            not {key, section}.isdisjoint(free)
            or (other_solver and key.startswith("solver.") and key != "solver.name")
            or (section in optional and None in (before.get(key), now.get(key)))
            or key.removesuffix("_content") in found  # another name has other content
        ):
            continue
        content = f"{key}_content"
        moved = key in movable and before.get(content) == now.get(content) is not None
        if before.get(key) != now.get(key) and not moved:
            of = f" (of {prompts})" if key == "prompts" and prompts else ""
            there, given = (spelled(RunConfig, key, values.get(key)) for values in (before, now))
            found[key] = f"{key} {there}{of} there, {given} now"
    return found
