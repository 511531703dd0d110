"""The folder of a demo: whether it may be written, and what its run has stored: prompts, texts and tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nashward.errors import NashwardError
from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder
from nashward.llm.store.step_shards import texts_by_prompt


def check_demo(out: Path, iterations: int) -> None:
    """Check what a demo is given before anything is played.

    Raises:
        ValueError: the folder holds something else; iterations < 1.
    """
    if iterations < 1:
        raise NashwardError(f"iterations must be at least 1, got {iterations}")
    if out.is_file():
        raise NashwardError(f"{out} is a file; --out names a folder for the demo")
    if out.exists() and not (out / "run" / "run.json").exists() and any(out.iterdir()):
        raise NashwardError(f"{out} is not empty and holds no demo; choose another folder with --out")


def judged(folder: Path) -> Iterator[tuple[str, list[str], list[list[float]]]]:
    """The id of a prompt, the responses of a policy to it and their table of win probabilities [K, K], over all
    judgements of a policy against itself."""
    for stage in RunFolder(folder).steps():
        for file in sorted((stage / "judgements").glob("*.parquet")):
            if "~" in file.name:  # of two policies
                continue
            policy, number, *_ = file.name.split(".")
            texts = texts_by_prompt(shards(stage / "responses", policy, int(number)))
            for row in read_shard(file):
                yield row["prompt"], texts[row["prompt"]], row["P"]
