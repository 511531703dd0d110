"""Responses of a run's policy to prompts that the run did not see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nashward import llm
from nashward.llm.data.rollouts import Response
from nashward.llm.store.files import read_jsonl, write_jsonl


def drawn(play: llm.SelfPlay, adapter: Path, texts: Sequence[str], number: int, seed: int) -> list[list[Response]]:
    """``number`` responses to each prompt, as the run samples them; one that stands there twice has the same ones."""
    prompts = llm.read_prompts(list(texts)).kept
    ids = [play.model.encode(prompt) for prompt in prompts]
    rows = llm.Mixture(((adapter, 1.0),)).sample(play.model, ids, number, play.sampling, seed=seed)
    found = {prompt.text: row for prompt, row in zip(prompts, rows, strict=True)}
    return [found[text] for text in texts]


def drawn_once(
    file: Path, play: llm.SelfPlay, adapter: Path, texts: Sequence[str], number: int, seed: int
) -> list[list[Response]]:
    """As ``drawn``, in a file: read where it has these very draws, so that a run that was stopped goes on."""
    wanted = [{"prompt": text, "number": number, "seed": seed} for text in texts]
    rows = read_jsonl(file) if file.exists() else []
    if [{key: row.get(key) for key in ("prompt", "number", "seed")} for row in rows] != wanted:
        rows = [
            own | {"responses": [{"ids": list(r.ids), "finished": r.finished, "text": r.text} for r in row]}
            for own, row in zip(wanted, drawn(play, adapter, texts, number, seed), strict=True)
        ]
        write_jsonl(file, rows)
    return [[Response(**response) for response in row["responses"]] for row in rows]
