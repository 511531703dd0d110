"""The panel of the prompts that a run has written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..run.inputs.augmented_prompts import augmented, played_prompts
from ..store.run_folder import RunFolder
from .content import Content, Paragraph, Table

EXAMPLES = 3
LONGEST = 240  # characters that are shown of a text


def augmented_prompts(folder: Path) -> list[Content]:
    """How many variants of prompts were written for each iteration, and the first of them; empty without any."""
    home = RunFolder(folder)
    written = augmented(home)
    if not written:
        return []
    texts = {prompt.id: prompt.text for prompt in played_prompts(home)}
    counts = Counter((step, prompt.kind) for step, prompt in written)
    rows = [(step, kind, count) for (step, kind), count in counts.items()]
    first = [prompt for _, prompt in written]
    spread = [first[k * len(first) // EXAMPLES] for k in range(EXAMPLES)] if len(first) > EXAMPLES else first
    examples = [(texts.get(prompt.parent or "", "")[:LONGEST], prompt.kind, prompt.text[:LONGEST]) for prompt in spread]
    note = (
        f"{len(written)} prompts were written from the most informative ones and played on beside the others. None is "
        "derived from a held-out prompt, and none is held out."
    )
    return [
        Paragraph(note),
        Table(("step", "kind", "prompts"), rows),
        Table(("parent", "kind", "prompt"), examples, text=True),
    ]
