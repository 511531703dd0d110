"""The table of the settings in docs/configuration.md, made from the fields: ``python -m docs.settings`` writes it."""

from __future__ import annotations

from pathlib import Path

from nashward.cli.options import INPUTS, OPPONENTS, RUN

PAGE = Path(__file__).parent / "configuration.md"
BEGIN, END = "<!-- settings: python -m docs.settings writes this table -->", "<!-- end of settings -->"


def table() -> str:
    """One row a setting: its key, its option, its values, what it does."""
    rows = ["| key | option | value | what it does |", "|---|---|---|---|"]
    for name, option in {**INPUTS, **OPPONENTS, **RUN}.items():
        *section, key = option.path
        where = f"`[{section[0]}] {key}`" if section else f"`{key}`"
        values = ", ".join(f"`{choice}`" for choice in option.choices or ())
        text = option.text.replace("|", "\\|")
        rows.append(f"| {where} | `--{name}` | {values or option.kind.__name__} | {text} |")
    return "\n".join(rows)


def write() -> None:
    """Replace the table in the page."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    write()
