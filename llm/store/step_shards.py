"""What the shards of a step hold: responses and tables, by policy and by prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from .files import read_shard, shards


def shard_names(folder: Path) -> list[str]:
    """The names that a folder has shards of: the policies whose responses it holds, or the pairs of its tables."""
    return list(dict.fromkeys(file.name.split(".")[0] for file in shards(folder, "*")))


def by_prompt(
    files: Iterable[Path], columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The id of each prompt with its rows, file after file; see ``read_shard``."""
    for file in files:
        for prompt, rows in groupby(read_shard(file, columns, optional), key=lambda row: row["prompt"]):
            yield prompt, list(rows)


def texts_by_prompt(files: Iterable[Path]) -> dict[str, list[str]]:
    """The texts of a policy's responses by the ids of their prompts."""
    return {prompt: [row["text"] for row in rows] for prompt, rows in by_prompt(files, ["prompt", "text"])}
