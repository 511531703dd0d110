"""What a run has stored of its policies playing themselves: prompts, texts and tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder


def judged(folder: Path) -> Iterator[tuple[str, list[str], list[list[float]]]]:
    """The id of a prompt, the responses of a policy to it and their table of win probabilities [K, K], over all
    judgements of a policy against itself."""
    for stage in RunFolder(folder).steps():
        for file in sorted((stage / "judgements").glob("*.parquet")):
            if "~" in file.name:  # of two policies
                continue
            texts: dict[str, list[str]] = {}
            policy, number, *_ = file.name.split(".")
            (shard,) = shards(stage / "responses", policy, int(number))
            for row in read_shard(shard):
                texts.setdefault(row["prompt"], []).append(row["text"])
            for row in read_shard(file):
                yield row["prompt"], texts[row["prompt"]], row["P"]
