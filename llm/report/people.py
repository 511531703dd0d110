"""The votes of people in a report: who voted how reliably, how far they agree, and what each step's votes changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nashward.counted import counted

from ..oracles.fitting.annotators import Reliability
from ..store.run_folder import RunFolder
from .content import Alert, Content, Heading, Paragraph, Table, with_error

RECORD = "people.json"  # the file in the oracle of a step


def people(folder: Path) -> list[Content]:
    """What each step's votes were and what they changed; empty where people are not the oracle."""
    steps = [(step.name, step / "oracle" / RECORD) for step in RunFolder(folder).steps()]
    records = [(name, json.loads(file.read_text(encoding="utf-8"))) for name, file in steps if file.is_file()]
    if not records:
        return []
    newest = records[-1][1]
    return [
        Paragraph(
            f"{counted(newest['votes'], 'vote')} of {counted(len(newest['people']), 'person', 'people')} on "
            f"{counted(newest['prompts'], 'prompt')} judged the "
            "newest step. At each step the oracle was fitted to all votes until then. The log-loss is that on prompts "
            "that a fit did not see, in nats per vote (a coin has 0.693); that on pairs drawn at random is the honest "
            "one, for the others were chosen because they are close. What the new votes changed is shown on the "
            "responses of the step: by how much the win probabilities moved, how many pairs have another winner, and "
            "how far the equilibrium of a prompt moved (total variation)."
        ),
        Table(
            ("step", "votes", "new", "on the run's responses", "log-loss", "accuracy", "log-loss, random pairs",
             "accuracy", "win probability moved", "winners turned", "equilibrium moved"),
            [_step(name, record) for name, record in records],
        ),
        Paragraph(_agreement(newest["agreement"])),
        Heading("Who voted"),
        Table(
            ("person", "votes", "seconds", "same answer again", "as predicted", "slope", "first one won"),
            [_person(name, person) for name, person in newest["people"].items()],
        ),
        Paragraph(
            "Votes as predicted are for the side that a model fitted to the other prompts expects. The slope says how "
            "consistent a person is with all together: 1 as they are, 0 as a coin, below 0 against them. First one won "
            "is the share of the decided votes that the response on the left got; sides are shuffled, so it should be "
            "near 50%."
        ),
        *(
            Alert(
                f"The votes of {name} are {_reliability(person).verdict} (slope "
                f"{with_error(person['slope'], person['slope_error'], 2)}). "
                "--people-weigh counts such votes less; nashward vote FOLDER --forget NAME deletes them."
            )
            for name, person in newest["people"].items()
            if person.get("suspect")
        ),
    ]  # fmt: skip


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.0f}%"


def _step(name: str, record: dict[str, Any]) -> tuple[Any, ...]:
    held_out, random = record["held_out"], record["held_out"]["random"] or {}
    changed = record["changed"] or {}
    return (
        name,
        record["votes"],
        record["new"],
        record.get("on_run"),  # not in records of earlier versions
        with_error(held_out["log_loss"], held_out["error"], 3),
        _percent(held_out["accuracy"]),
        random.get("log_loss"),
        _percent(random.get("accuracy")),
        changed.get("win_probability"),
        _percent(changed.get("winners")),
        changed.get("equilibrium"),
    )


def _agreement(found: dict[str, Any]) -> str:
    parts = []
    if found["raw"] is not None:
        parts.append(
            f"On {counted(found['pairs'], 'pair')} two or more people voted; {_percent(found['raw'])} of their "
            "votes agree"
        )
        if found["alpha"] is not None:
            interval = "" if found["low"] is None else f" (95%: {found['low']:.2f} to {found['high']:.2f})"
            parts.append(f"Krippendorff's alpha is {found['alpha']:.2f}{interval}, where 1 is perfect and 0 is chance")
    else:
        parts.append("No pair has the votes of two people, so that their agreement is not known")
    if found["repeated"]:
        parts.append(
            f"of {counted(found['repeated'], 'question')} that a person was asked twice "
            f"{_percent(found['consistency'])} got the "
            "same answer"
        )
    return "; ".join(parts) + "."


def _reliability(person: dict[str, Any]) -> Reliability:
    return Reliability(person["votes"], person["as_predicted"], person["slope"], person["slope_error"])


def _person(name: str, person: dict[str, Any]) -> tuple[Any, ...]:
    again = person["consistency"]
    return (
        name,
        person["votes"],
        person["seconds"],
        None if again is None else f"{_percent(again)} of {person['repeated']}",
        _percent(person.get("as_predicted")),
        with_error(person.get("slope"), person.get("slope_error"), 2),
        _percent(person["shown_first"]),
    )
