"""How a step's prompts are divided: shards, which are written whole, and in them the batches that are sampled together.

Padding alone moves a logit, so what is sampled depends on the batch. Which prompts make one is therefore fixed before
the first is drawn, and kept: a shard is the same whoever makes it, and when.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from nashward.errors import NashwardError

from ..store.files import atomic_write
from ..store.run_folder import SHARDS, RunFolder

SHARD = 64  # prompts in one file

Division = list[list[list[int]]]  # shards of batches of prompts, by their numbers


def divide(chosen: Sequence[int], lengths: Sequence[int], at_once: int) -> Division:
    """Like lengths together, the longest first: memory runs out at once or not.

    Example:
        >>> divide([0, 1, 3], [5, 9, 7, 6], 2)
        [[[1, 3], [0]]]
    """
    order = sorted(chosen, key=lambda number: (-lengths[number], number))
    shards = [order[k : k + SHARD] for k in range(0, len(order), SHARD)]
    return [[shard[k : k + at_once] for k in range(0, len(shard), at_once)] for shard in shards]


def divided(run: RunFolder, step: Path, chosen: Sequence[int], lengths: Sequence[int], at_once: int) -> Division:
    """The division of a step, which ``run.json`` pins; made and pinned where there is none yet.

    Args:
        at_once: prompts in a batch, of a step that has no division yet.

    Raises:
        ValueError: it is lost, and what would take its place differs from it.
    """
    pinned, file = run.pinned_step(step.name), step / SHARDS
    if "division" in pinned and file.exists():
        content = file.read_bytes()
        if _hash(content) == pinned["division"]:
            return json.loads(content)
        run.quarantine(file, f"{file} was altered or cut")
    at_once = pinned.get("at_once", at_once)
    made = divide(chosen, lengths, at_once)
    content = json.dumps(made, separators=(",", ":")).encode() + b"\n"
    if pinned.get("division", _hash(content)) != _hash(content):
        raise NashwardError(f"{file} is lost and cannot be made again as it was; redo the step with --from sample")
    with atomic_write(file) as unfinished:
        unfinished.write_bytes(content)
    run.pin_step(step.name, {"division": _hash(content), "at_once": at_once})
    return made


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
