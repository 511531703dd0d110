"""The prompts that a run has written, as its folder holds them, beside those that it began with."""

from __future__ import annotations

from typing import Any

from ...data.prompts import Prompt, read_prompts
from ...store.files import read_jsonl
from ...store.run_folder import AUGMENTED, PROMPTS, RunFolder


def augmented(home: RunFolder) -> list[tuple[str, Prompt]]:
    """The variants that a run has written, each with the name of the step that plays on it first."""
    return [(step.name, prompt_of(row)) for step in home.steps() for row in read_jsonl(step / AUGMENTED)]


def played_prompts(home: RunFolder) -> list[Prompt]:
    """All prompts of a run: those that it began with, and the variants that it has written."""
    own = read_prompts(home / PROMPTS).kept if (home / PROMPTS).exists() else []
    return [*own, *(prompt for _, prompt in augmented(home))]


def row_of(prompt: Prompt) -> dict[str, Any]:
    """A variant as it is written."""
    return {"messages": list(prompt.messages), "id": prompt.id, "parent": prompt.parent, "kind": prompt.kind,
            "weight": prompt.weight}  # fmt: skip


def prompt_of(row: dict[str, Any]) -> Prompt:
    """A variant as it was written."""
    return Prompt(tuple(row["messages"]), row["weight"], parent=row["parent"], kind=row["kind"])
