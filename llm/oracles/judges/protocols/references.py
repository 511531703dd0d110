"""Answers that are known to be right, for a judge that compares responses with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nashward.errors import NashwardError
from nashward.shortened import quoted

from ....data.conversations import fields_of_prompt
from ....data.prompts import row_prompt
from ....data.rows import numbered_rows, read_rows

COLUMN = "reference"


def read_references(path: str | Path) -> dict[str, str]:
    """The reference answers of a file by their prompts' texts.

    Args:
        path: rows of a prompt, as those of ``read_prompts``, with a column ``reference``; where it is null or empty
            the prompt has none.

    Raises:
        FileNotFoundError: no such file.
        NashwardError: no row has a reference, one is no text, or a prompt has two.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of references {path}")
    references: dict[str, str] = {}

    def add(row: Any) -> None:
        prompt = row_prompt(row).text
        reference = row.get(COLUMN) if isinstance(row, dict) else None
        if reference is None or reference == "":
            return
        if not isinstance(reference, str):
            raise NashwardError(f"has a reference that is no text: {quoted(reference, 40)}")
        if references.setdefault(prompt, reference) != reference:
            raise NashwardError(f"has another reference for the prompt {quoted(prompt, 60)}; give one")

    for _ in numbered_rows(
        read_rows(str(file), "references"), str(file), add, lambda row: fields_of_prompt(row) | {COLUMN}
    ):
        pass
    if not references:
        raise NashwardError(f"{file} has no references: expected a column {COLUMN} beside the prompts")
    return references
