"""What ``nashward evaluate`` and ``nashward exploit`` found of a run, as a panel of its report."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .page import download, picture, table, warning, with_error

LONGEST = 16  # characters of a name in a picture


def called_out(folder: Path) -> str:
    """The verdicts that are beyond their thresholds, as warnings."""
    found, told = _read(folder / "evaluation.json"), ""
    for file in (folder / "evaluation.json", *(folder / "evaluation").glob("exploit-*.json")):
        if file.is_file() and not _read(file):
            told += warning(f"{file} cannot be read; the command that wrote it writes it again")
    return told + "".join(
        warning(
            f"{player}: {one['measure']} {one['value']:.3f} ± {one['standard_error']:.3f} is beyond its threshold "
            f"{one['threshold']:g}: the oracle may be gamed"
        )
        for player, own in found.get("over_optimisation", {}).items()
        for one in own
        if one["called_out"]
    )


def evaluated(folder: Path) -> str:
    """The tournament under each oracle, what was given up for it, and who beats the run's policies."""
    found = _read(folder / "evaluation.json")
    parts = [_tournament(name, found) for name in found.get("games", {})]
    if found:
        parts += [_given_up(found), f"<p>{download(found, 'evaluation', 'evaluation.json')}</p>"]
    parts += [_exploited(_read(file)) for file in sorted((folder / "evaluation").glob("exploit-*.json"))]
    return "".join(parts)


def _tournament(oracle: str, found: dict[str, Any]) -> str:
    from nashward.games import PreferenceGame, nash
    from nashward.games.plots import payoff_table

    game, rates = found["games"][oracle], found["against_start"][oracle]
    rows = []
    for name in game["players"]:
        rate = rates.get(name, {})
        rows.append((name, with_error(rate.get("win_rate"), rate.get("standard_error")), rate.get("minimal"),
                     game["lottery"][name], game["exploitability"][name], found["tokens"][name],
                     f"{100 * found['refusals'][name]:.0f}%" if name in found["refusals"] else None))  # fmt: skip
    head = ("policy", "wins over the start, %", "the same at equal lengths (minimal), %", "in the Nash",
            "exploitability", "tokens", "refuses the probe")  # fmt: skip
    rings = [" > ".join([*cycle["players"], cycle["players"][0]]) for cycle in game["cycles"]]
    said = (
        f"Beats every other: {game['condorcet_winner'] or 'nobody'}. Scores (Bradley-Terry) miss a win rate by up to "
        f"{game['bradley_terry']['largest_residual']:.3f}; {100 * game['curl']:.1f}% of the log-odds go round. Cycles "
        f"beyond noise: {'; '.join(rings) or 'none'}."
    )
    kind = "the oracle it was trained on" if oracle == "training" else "held out"
    text = f"<h3>{html.escape(found['oracles'][oracle])} ({kind})</h3>" + table(head, rows)
    drawn = PreferenceGame(game["P"], labels=_short(game["players"]))
    return text + f"<p>{html.escape(said)}</p>" + picture(payoff_table(drawn, nash(drawn)), "P(row beats column).")


def _short(names: Sequence[str]) -> list[str]:
    """Names that fit beside a picture, where they still tell the players apart."""
    cut = [name if len(name) <= LONGEST else f"{name[: LONGEST - 6]}…{name[-5:]}" for name in names]
    return cut if len(set(cut)) == len(cut) else list(names)


def _given_up(found: dict[str, Any]) -> str:
    told = {player: {one["measure"]: one for one in own} for player, own in found["over_optimisation"].items()}
    if not told:
        return ""
    limits = {one["measure"]: one["threshold"] for own in told.values() for one in own.values()}
    head = ("policy", *(f"{measure} (threshold {limit:g})" for measure, limit in limits.items()))
    rows = [(player, *(_measured(own.get(measure)) for measure in limits)) for player, own in told.items()]
    scale = [player for player, own in told.items() if any(one["called_out"] is None for one in own.values())]
    said = "is there for scale: it was given by its responses, and gave nothing up for this oracle"
    if len(scale) > 1:
        said = "are there for scale: they were given by their responses, and gave nothing up for this oracle"
    note = f"<p>{html.escape(', '.join(scale))} {said}.</p>" if scale else ""
    return "<h3>What was given up for the oracle</h3>" + table(head, rows) + note


def _measured(one: dict[str, Any] | None) -> str | None:
    """A measure with its error, and whether it is beyond the threshold."""
    if one is None:
        return None
    return f"{with_error(one['value'], one['standard_error'], 3) or '?'}{' beyond' if one['called_out'] else ''}"


def _exploited(found: dict[str, Any]) -> str:
    if not found:
        return ""
    rows = [
        (
            one["name"],
            with_error(one["wins"]["value"], one["wins"]["standard_error"], 3),
            one["gap"],
            one["lower_bound"],
        )
        for one in found["adversaries"]
    ]
    head = ("adversary", "beats it", "duality gap at least", "95% sure of")
    said = " ".join(found["theorem"])
    return f"<h3>Who beats {html.escape(found['of'])}</h3>" + table(head, rows) + f"<p>{html.escape(said)}</p>"


def _read(file: Path) -> dict[str, Any]:
    """The numbers of a command; none where it was not run, or what it wrote is damaged."""
    try:
        found = json.loads(file.read_bytes()) if file.is_file() else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
