"""How the policies of a run, or of several, changed over the iterations: the measures, and their figure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nashward.games.plots import COLOURS, MARKS, as_label

from ..run.selfplay import iterates, metrics

TOKENS = "tokens of a response\n(samples reweighted)"
REWEIGHTED = "wins over the policy before\n(samples reweighted, held-out prompts)"
MEASURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    TOKENS: lambda row: row["after"]["tokens"],
    "KL to the start (nats per response)": lambda row: row["after"]["kl_to_reference"],
    "entropy (nats per token)": lambda row: row["after"]["entropy_per_token"],
    "share of the target reached": lambda row: row["train"]["share"],
    "R² on held-out prompts": lambda row: row["held_out"].get("r2"),
    REWEIGHTED: lambda row: row.get("win_rate"),
    "SFT texts, nats per token (held out)": lambda row: (row.get("sft") or {}).get("after"),
}
ERRORS: dict[str, Callable[[dict[str, Any]], Any]] = {  # the measures' standard errors over prompts, where there is one
    "KL to the start (nats per response)": lambda row: row["after"].get("kl_to_reference_error"),
    "R² on held-out prompts": lambda row: row["held_out"].get("r2_error"),
    REWEIGHTED: lambda row: row.get("win_rate_error"),
}
LEAST_SPANS = {TOKENS: 10.0}  # least height of an axis, below which a difference would look like a collapse
LEAST_SPAN = 0.1  # that of the other measures
COLUMNS = 3  # pictures in a row
NO_LABEL = "none"  # the name in the metrics for responses without a label


def label_styles(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A colour and a mark for each label, in alphabetical order and so the same in every picture; black without a
    label.

    Example:
        >>> label_styles(["steps", "none", "direct"])["steps"] == (COLOURS[1], MARKS[1])
        True
    """
    named = sorted(set(labels) - {NO_LABEL})
    colours = [colour for colour in COLOURS if colour != "#000000"]
    styles = {label: (colours[k % len(colours)], MARKS[k % len(MARKS)]) for k, label in enumerate(named)}
    return {**styles, NO_LABEL: ("#000000", "x")}


def label_shares(folder: Path) -> dict[int, tuple[dict[str, float], int]]:
    """The shares of the labels among the responses of a run's policies, with the number of prompts.

    An iteration's metrics describe the policy that it sampled, which an earlier one had made: 0 is the start, and t the
    iterate of iteration t. Responses of half steps and of mixtures belong to no iterate and are left out; so is the
    last iterate, which no iteration sampled.
    """
    shares = {}
    for row in metrics(folder):
        number = _iterate_number(sampled_policy(row))
        if row.get("labels") is not None and number is not None:
            shares[number] = (row["labels"], row["prompts"])
    return dict(sorted(shares.items()))


def sampled_policy(row: Mapping[str, Any]) -> str:
    """The policy whose responses an iteration's metrics describe: its first opponent that is not stored, else what it
    started from.

    Example:
        >>> sampled_policy({"anchor": {"iteration-01": 1.0}, "opponent": {"iteration-01": 2.0, "start": -1.0}})
        'iteration-01'
    """
    fixed = row.get("opponent_win_rates") or {}
    return next((name for name in row["opponent"] if name not in fixed), next(iter(row["anchor"])))


def _iterate_number(policy: str) -> int | None:
    """0 for the start, t for ``iteration-t``; None: it is no iterate."""
    if policy == "start":
        return 0
    iterate = re.fullmatch(r"iteration-(\d+)", policy)
    return None if iterate is None else int(iterate[1])


def training_curves(folders: Mapping[str, Path]) -> Any:
    """Each measure of the iterates against the iteration, one line per run, with standard errors where they are known.

    Args:
        folders: the run folders, by the names in the legend; each run has an iterate.

    Returns:
        A matplotlib figure. For a single run whose responses have labels it also shows the labels' shares.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    runs = {name: iterates(folder) for name, folder in folders.items()}
    measured = [
        title
        for title, measure in MEASURES.items()
        if any(measure(row) is not None for rows in runs.values() for row in rows)
    ]
    shares = label_shares(next(iter(folders.values()))) if len(folders) == 1 else {}
    count = len(measured) + bool(shares)
    figure = Figure(figsize=(10, 2.5 * -(-count // COLUMNS)), layout="constrained")
    for place, title in enumerate(measured, 1):
        axes = figure.add_subplot(-(-count // COLUMNS), COLUMNS, place)
        for k, (name, rows) in enumerate(runs.items()):
            colour, mark = COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]
            label = as_label(name) or None
            times, values = range(1, len(rows) + 1), [_number(MEASURES[title](row)) for row in rows]
            axes.plot(times, values, f"{mark}-", color=colour, label=label)
            if title in ERRORS:
                errors = [_number(ERRORS[title](row)) for row in rows]
                axes.errorbar(times, values, errors, fmt="none", ecolor=colour, capsize=2)
        axes.set_title(title, fontsize=9)
        low, high = axes.get_ylim()
        if (missing := LEAST_SPANS.get(title, LEAST_SPAN) - (high - low)) > 0:
            axes.set_ylim(low - missing / 2, high + missing / 2)
    if shares:
        _plot_shares(figure.add_subplot(-(-count // COLUMNS), COLUMNS, count), shares)
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("iteration", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    if len(runs) > 1:
        figure.axes[0].legend(fontsize=8)
    return figure


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _plot_shares(axes: Any, shares: Mapping[int, tuple[Mapping[str, float], int]]) -> None:
    """The share of each label among the responses, with an upper bound on its standard error over prompts: the square
    of the bound is p (1 - p) / prompts, which is exact where the responses to each prompt are all alike."""
    labels = sorted({label for own, _ in shares.values() for label in own})
    styles = label_styles(labels)
    for label in labels:
        colour, mark = styles[label]
        values = [own.get(label, 0.0) for own, _ in shares.values()]
        most = [(p * (1 - p) / prompts) ** 0.5 for p, (_, prompts) in zip(values, shares.values(), strict=True)]
        axes.plot(list(shares), values, f"{mark}-", color=colour, label=as_label(label))
        axes.errorbar(list(shares), values, most, fmt="none", ecolor=colour, capsize=2)
    axes.set_title("share of the responses (0: the start)", fontsize=9)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=3)  # below: it would lie on the lines
