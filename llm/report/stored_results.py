"""What ``nashward evaluate`` and ``nashward exploit`` wrote of a run, and which of its policies are others now."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..evaluation.players import EVALUATION, FOLDER, START, remade
from ..store.run_folder import RunFolder


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What ``nashward evaluate`` wrote of a run; empty where it was not run, or where its file is damaged.

    A policy that was made again since, or a mixture that has more members now, is called old in it: what was
    measured does not describe the policy that has the name now.
    """
    results = read_results(folder / EVALUATION)
    return _renamed(results, {name: f"old {name}" for name in changed_since(folder, results)})


def current_evaluation(folder: Path) -> dict[str, Any]:
    """``read_evaluation`` without the policies that are others now, and without the games, in which they play; empty
    where the start is another one now, which all are compared with."""
    results = read_results(folder / EVALUATION)
    others = outdated(folder)
    if START in others:
        return {}
    return _without({name: found for name, found in results.items() if name != "games"}, set(others))


def outdated(folder: Path) -> list[str]:
    """The policies that ``nashward evaluate`` measured, and that are others now."""
    return changed_since(folder, read_results(folder / EVALUATION))


def changed_since(folder: Path, results: Mapping[str, Any]) -> list[str]:
    """The policies that have changed since they were measured; all of them where the start has: they were made from
    it."""
    measured = results.get("policies", {})
    others = remade(RunFolder(folder), measured)
    return list(measured) if START in others else others


def exploited(folder: Path) -> list[dict[str, Any]]:
    """What ``nashward exploit`` found, one entry per policy, without policies that were made again since and mixtures
    that have more members now."""
    found = map(read_results, exploit_files(folder))
    return [one for one in found if one and not changed_since(folder, one)]


def exploit_files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("exploit-*.json"))


def read_results(file: Path) -> dict[str, Any]:
    """The results that a command wrote; empty where it was not run, or where its file is damaged."""
    try:
        results = json.loads(file.read_bytes()) if file.is_file() else {}
    except (ValueError, RecursionError):
        return {}
    return results if isinstance(results, dict) else {}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Results with other names of policies, as keys or values."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _without(value: Any, names: Collection[str]) -> Any:
    """Results without some policies, as keys or in lists."""
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    if isinstance(value, list):
        return [_without(item, names) for item in value if not (isinstance(item, str) and item in names)]
    return value
