"""What a reader of a run's report has to know, each warning in the section that it is about, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from nashward.counted import counted

from ..run.selfplay import metrics
from ..run.status import status
from ..store.run_folder import RunFolder
from .content import Alert
from .objectives import floor_alerts
from .results import evaluation_alerts

CUT = 0.2  # a larger share of responses without an end is worth a warning
EVENTS = {  # what ``status`` counts: what it means, and what to do
    "out of memory": "Memory ran out, and the run went on with half as much at once. Nothing is lost; a smaller "
    "--sampling-batch or --tokens, or what `nashward plan` proposes, saves the time that this took.",
    "set aside": "A damaged file was set aside and made again. Nothing is lost; if you did not stop the run "
    "yourself, check the disk.",
}


def run_alerts(folder: Path) -> list[Alert]:
    """An unfinished run says so."""
    state = status(folder)
    if state.finished >= state.iterations:
        return []
    what = "It is being played." if state.playing else "The command that began it continues it."
    return [Alert(f"The run is not finished: {state.finished} of {counted(state.iterations, 'iteration')}. {what}")]


def fit_alerts(folder: Path) -> list[Alert]:
    """What went wrong in a fit, as the run has recorded it."""
    return [Alert(f"{row['iteration']}: {row['warning']}") for row in metrics(folder) if row["warning"]]


def response_alerts(folder: Path) -> list[Alert]:
    """Responses that were cut before they ended."""
    return [
        Alert(
            f"{row['iteration']}: {100 * cut:.0f}% of the responses that it sampled from the policy before did not end "
            "within --max-new-tokens, and the oracle judged them as they were cut. Raise it, or ask for shorter "
            "responses in the prompts."
        )
        for row in metrics(folder)
        if (cut := 1 - row["finished"]) > CUT
    ]


def event_alerts(folder: Path) -> list[Alert]:
    """What the run survived."""
    events = status(folder).events
    return [Alert(f"{count} x {event}. {EVENTS[event]}") for event, count in sorted(events.items())]


ALERTS: dict[str, Callable[[Path], list[Alert]]] = {  # by the section where they stand
    "In short": run_alerts,
    "Responses": response_alerts,
    "Evaluation": evaluation_alerts,
    "Objectives": floor_alerts,
    "What the fits achieved": fit_alerts,
    "The run": event_alerts,
}
CURRENT: dict[str, Callable[[Path], list[Alert]]] = {  # without policies that were measured, and are others now
    **ALERTS,
    "Evaluation": partial(evaluation_alerts, old=False),
    "Objectives": partial(floor_alerts, old=False),
}


def alerts(folder: Path, section: str, old: bool = True) -> list[Alert]:
    """The warnings of a section, with ``old`` also of measured policies that are others now; empty before the run has
    begun."""
    of_section = (ALERTS if old else CURRENT).get(section)
    return of_section(folder) if of_section is not None and RunFolder(folder).read() else []
