"""The tables of docs/ that are made from the code: ``python -m docs.tables`` writes them into their pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nashward.cli.options import INPUTS, OPPONENTS, RUN
from nashward.llm.training.metrics import FIELDS, STEP_FIELDS

PAGES = Path(__file__).parent
BEGIN, END = "<!-- {}: python -m docs.tables writes this table -->", "<!-- end of {} -->"


def settings() -> str:
    """One row a setting: its key, its option, its values, what it does."""
    rows = ["| key | option | value | what it does |", "|---|---|---|---|"]
    for name, option in {**INPUTS, **OPPONENTS, **RUN}.items():
        *section, key = option.path
        where = f"`[{section[0]}] {key}`" if section else f"`{key}`"
        values = ", ".join(f"`{choice}`" for choice in option.choices or ())
        text = option.text.replace("|", "\\|")
        rows.append(f"| {where} | `--{name}` | {values or option.kind.__name__} | {text} |")
    return "\n".join(rows)


def metrics(fields: Mapping[str, str]) -> str:
    """One row a meaning: the fields that have it."""
    names: dict[str, list[str]] = {}
    for name, meaning in fields.items():
        names.setdefault(meaning.replace("|", "\\|"), []).append(f"`{name}`")
    rows = [f"| {', '.join(row)} | {meaning} |" for meaning, row in names.items()]
    return "\n".join(["| field | meaning |", "| --- | --- |", *rows])


def pages() -> dict[Path, str]:
    """Each page with its tables as the code has them now."""
    tables = {
        "configuration.md": {"settings": settings()},
        "metrics.md": {"fields of a Step": metrics(FIELDS), "fields of an optimiser step": metrics(STEP_FIELDS)},
    }
    texts = {}
    for page, parts in tables.items():
        text = (PAGES / page).read_text(encoding="utf-8")
        for what, table in parts.items():
            begin, end = BEGIN.format(what), END.format(what)
            head, _, rest = text.partition(begin)
            text = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
        texts[PAGES / page] = text
    return texts


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
