"""How a step's prompts are sharded: shards, which are written whole, and in them the batches that are sampled together.

Padding alone moves a logit, so what is sampled depends on the batch. Which prompts make one is therefore fixed before
the first is drawn, and saved: a shard is the same whichever process makes it, and when.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ...config.plan import SHARD_PROMPTS as SHARD_PROMPTS
from ...config.run import RunConfig
from ...data.prompts import Prompt
from ...policy.sampling import GenerateSource, ResponseSource
from ...processes import processes
from ...store.files import shards
from ...store.run_folder import SHARDS, RunFolder
from ...store.saved_inputs import saved_in_step
from ..progress import Progress
from ..rollouts import PromptNumbers, RolloutStore

APPEAR = 120.0  # seconds in which a file of another machine appears in a shared folder

Shard: TypeAlias = list[list[int]]  # batches of prompts, by their numbers
ShardPlan: TypeAlias = list[Shard]


def plan_shards(numbers: Sequence[int], lengths: Sequence[int], batch_prompts: int) -> ShardPlan:
    """Like lengths together, the longest first: memory runs out at once or not.

    Args:
        numbers: the prompts of the step, by their numbers.
        lengths: those of all prompts of the run, in tokens.
        batch_prompts: how many are sampled together.

    Example:
        >>> plan_shards([0, 1, 3], [5, 9, 7, 6], 2)
        [[[1, 3], [0]]]
    """
    order = sorted(numbers, key=lambda number: (-lengths[number], number))
    shards = [order[k : k + SHARD_PROMPTS] for k in range(0, len(order), SHARD_PROMPTS)]
    return [[shard[k : k + batch_prompts] for k in range(0, len(shard), batch_prompts)] for shard in shards]


def saved_plan(
    home: RunFolder, step: Path, numbers: Sequence[int], lengths: Sequence[int], batch_prompts: int
) -> ShardPlan:
    """The plan of a step, whose hash ``run.json`` has; made and recorded where there is none yet.

    Args:
        batch_prompts: the prompts of a batch, for a step that has no plan yet.

    Raises:
        ValueError: it is lost, and what would take its place differs from it.
    """
    batch_prompts = home.step_values(step.name).get("batch_prompts", batch_prompts)

    def make() -> bytes:
        plan = plan_shards(numbers, lengths, batch_prompts)
        return json.dumps(plan, separators=(",", ":")).encode() + b"\n"

    return json.loads(saved_in_step(home, step / SHARDS, "shards", make, batch_prompts=batch_prompts))


@dataclass(frozen=True)
class ShardedStage:
    """A stage that writes its results shard by shard: those that are complete are not repeated.

    Attributes:
        home: the run folder.
        prompts: all prompts of the run.
        lengths: how long each is, in tokens.
        config: sizes and seeds.
        source: where responses come from.
        progress: shows how far the stage is; the run may stop before each shard.
        rollouts: where the responses and the tables are.
    """

    home: RunFolder
    prompts: Sequence[Prompt]
    lengths: Sequence[int]
    config: RunConfig
    source: ResponseSource
    progress: Progress
    rollouts: RolloutStore

    def plan(self, step: Path, numbers: PromptNumbers) -> ShardPlan:
        source = self.source
        rows = source.batch // self.config.responses if isinstance(source, GenerateSource) else SHARD_PROMPTS
        return processes.decided(lambda: saved_plan(self.home, step, numbers, self.lengths, max(1, rows)))

    def missing(self, plan: ShardPlan, folder: Path, name: str) -> dict[int, Shard]:
        """The shards that are still to be written, by their numbers."""
        lacking = processes.decided(lambda: missing_shards(self.home, folder, name, len(plan)))
        return {k: plan[k] for k in lacking}

    def each(
        self,
        step: Path,
        phase: str,
        name: str,
        plan: ShardPlan,
        missing: dict[int, Shard],
        numbers: PromptNumbers,
        policies: Iterable[str],
    ) -> Iterator[tuple[int, Shard]]:
        """The missing shards, one after another under a progress bar; of several processes each has its own of them,
        and goes on when all are written.

        Args:
            phase: "sampling" or "judging".
            policies: whose responses are in the shards.
        """
        total, left = (sum(len(batch) for shard in shards for batch in shard) for shards in (plan, missing.values()))
        with self.progress.phase(step.name, phase, name, total, total - left, shared=True) as tick:
            for number, shard in processes.share(list(missing.items())):
                self.progress.raise_if_stopped()
                yield number, shard
                tick(sum(map(len, shard)), tokens=self.rollouts.tokens(policies, numbers, number))
        wait_for_shards(step / {"sampling": "responses", "judging": "judgements"}[phase], name, missing)


def missing_shards(home: RunFolder, folder: Path, name: str, count: int) -> list[int]:
    """The numbers of the shards that are still to be written; damaged ones are quarantined."""
    return [number for number in range(count) if home.shard(folder, name, number) is None]


def wait_for_shards(folder: Path, name: str, numbers: Iterable[int]) -> None:
    """Return when the shards that several processes have written are seen by this one: a network's disk takes time.

    Raises:
        OSError: they are not after two minutes, as where the machines do not share the folder.
    """
    for number in numbers:
        wait_until_seen(lambda number=number: bool(shards(folder, name, number)), f"{folder}: shard {number} of {name}")  # type: ignore[misc]


def wait_until_seen(is_there: Callable[[], bool], what: str) -> None:
    """Return when this process sees what another one has written.

    Raises:
        OSError: see ``wait_for_shards``.
    """
    until = time.monotonic() + APPEAR
    while processes.count > 1 and not is_there():
        if time.monotonic() > until:
            raise OSError(
                f"{what} is not there, though another process has written it: the run folder has to be on a disk that "
                "all machines share"
            )
        time.sleep(0.05)
