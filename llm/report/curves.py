"""How the policies of a run, or of several, changed over the iterations: the measures, and their figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..run.selfplay import iterates

MEASURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tokens of a response": lambda row: row["after"]["tokens"],
    "KL to the start (nats a response)": lambda row: row["after"]["kl_to_reference"],
    "entropy (nats a token)": lambda row: row["after"]["entropy_per_token"],
    "share of the target reached": lambda row: row["train"]["share"],
    "R² on held-out prompts": lambda row: row["held_out"].get("r2"),
    "wins over the policy before (held out)": lambda row: row.get("win_rate"),
    "SFT texts, nats a token (held out)": lambda row: (row.get("sft") or {}).get("after"),
}
COLUMNS = 3  # of pictures


def training_curves(folders: Mapping[str, Path]) -> Any:
    """Each measure of the iterates against the iteration, a line a run.

    Args:
        folders: of the runs, by the names in the legend; each run has an iterate.

    Returns:
        A matplotlib figure. Of a single run whose responses have labels it also shows the labels' shares.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from nashward.games.plots import COLOURS, MARKS, as_label

    runs = {name: iterates(folder) for name, folder in folders.items()}
    labels = sorted({label for rows in runs.values() for row in rows for label in row.get("labels") or ()})
    measured = [
        title
        for title, measure in MEASURES.items()
        if any(measure(row) is not None for rows in runs.values() for row in rows)
    ]
    with_shares = len(runs) == 1 and bool(labels)
    count = len(measured) + with_shares
    figure = Figure(figsize=(10, 2.5 * -(-count // COLUMNS)), layout="constrained")
    for place, title in enumerate(measured, 1):
        axes = figure.add_subplot(-(-count // COLUMNS), COLUMNS, place)
        for k, (name, rows) in enumerate(runs.items()):
            values = [float("nan") if (value := MEASURES[title](row)) is None else value for row in rows]
            colour, mark = COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]
            axes.plot(range(1, len(rows) + 1), values, f"{mark}-", color=colour, label=as_label(name) or None)
        axes.set_title(title, fontsize=9)
    if with_shares:
        (rows,) = runs.values()
        _plot_shares(figure.add_subplot(-(-count // COLUMNS), COLUMNS, count), rows, labels)
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("iteration", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    if len(runs) > 1:
        figure.axes[0].legend(fontsize=8)
    return figure


def _plot_shares(axes: Any, rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> None:
    """The share of each label among the responses."""
    from nashward.games.plots import COLOURS, MARKS, as_label

    for k, label in enumerate(labels):
        values = [(row.get("labels") or {}).get(label, 0.0) for row in rows]
        mark, colour = MARKS[k % len(MARKS)], COLOURS[k % len(COLOURS)]
        axes.plot(range(1, len(rows) + 1), values, f"{mark}-", color=colour, label=as_label(label))
    axes.set_title("share of the responses", fontsize=9)
    axes.legend(fontsize=7)
