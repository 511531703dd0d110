"""What a run costs beside its engines: 20,000 prompts x 5 responses with sampling, judge and network that cost nothing.

    python benchmarks/run_overhead.py
    torchrun --standalone --nproc-per-node 8 benchmarks/run_overhead.py     # by several processes

Everything else is real: the plan, shards with checksums and fsync, the tables, the regression's targets, the fit's
order, optimiser and checkpoints, metrics. Prints the time and the memory of each phase, the share that it would be of
a run whose engines are as fast as given, and where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import dataclasses
import os
import pstats
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nashward import games, llm
from nashward.llm import pocket
from nashward.llm.data.rollouts import Response
from nashward.llm.processes import processes
from nashward.llm.run.progress import Progress
from nashward.llm.store.run_folder import RunFolder
from nashward.llm.training import batches

LENGTH = 200  # tokens of a response


@dataclasses.dataclass(frozen=True)
class Free:
    """Responses that cost nothing: random token ids, words as text."""

    enumerates = False

    def draw(
        self, model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]]
    ) -> list[list[Response]]:
        rows = []
        for row_seeds in seeds:
            ids = np.random.default_rng(row_seeds[0]).integers(300, 700, (len(row_seeds), LENGTH)).tolist()
            texts = [" ".join(map(str, row[:60])) for row in ids]
            rows.append([Response(row, True, text, 1 / len(row_seeds)) for row, text in zip(ids, texts, strict=True)])
        return rows


class Noughts(llm.oracles.PreferenceOracle):
    """A judge that costs nothing and finds nothing equal."""

    name, symmetric, fingerprint = "noughts", True, "noughts 1"

    def raw_logits(self, prompts: Any, candidates: Any, pairs: Any) -> list[np.ndarray]:
        scores = [[text.count("0") / 10 for text in texts] for texts in candidates]
        return [
            np.array([score[i] - score[j] for i, j in indices]) for score, indices in zip(scores, pairs, strict=True)
        ]


def free_logprobs(network: Any, prompts: Any, responses: Any, pad_id: int) -> torch.Tensor:
    """Log-probabilities that cost nothing and have a gradient."""
    weight = next(p for p in network.parameters() if p.requires_grad) if torch.is_grad_enabled() else torch.zeros(1)
    return weight.flatten()[:1].float() * 0.01 - torch.tensor([float(len(row)) for row in responses])


def memory() -> float:
    """MiB of this process that lie in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--responses", type=int, default=5)
    parser.add_argument("--sampled", type=float, default=2500.0, help="tokens a second (default: a 7B on a good card)")
    parser.add_argument("--judged", type=float, default=100.0, help="ordered pairs a second (default: PairRM on it)")
    parser.add_argument("--trained", type=float, default=4000.0, help="tokens a second, forward and backward")
    parser.add_argument("--profile", action="store_true", help="also print the functions that take the most")
    given = parser.parse_args()
    torch.set_num_threads(1)
    batches.sequence_logprobs = free_logprobs
    words = random.Random(0)
    prompts = [f"Tell me about {'bread ' * words.randrange(1, 20)}{k}." for k in range(given.prompts)]
    rows: list[tuple[str, float, float, float]] = []
    timed = Progress.phase

    @contextmanager
    def watched(self: Progress, step: str, phase: str, *more: Any, **named: Any) -> Iterator[Any]:
        began, at_start, middle = time.monotonic(), memory(), [0.0]
        with timed(self, step, phase, *more, **named) as tick:

            def watching(count: int, before: bool = False, tokens: float = 0) -> None:
                tick(count, before, tokens)
                middle.append(memory())

            yield watching
        rows.append((phase, time.monotonic() - began, at_start, max(middle)))

    Progress.phase = watched  # type: ignore[method-assign]
    model = llm.LanguageModel.from_pretrained(pocket.POLICY, quantise=False, lora=llm.Lora(rank=2))
    with processes.session(), tempfile.TemporaryDirectory() as own:
        folder = processes.decided(lambda: own)
        play = llm.SelfPlay(
            policy=model, oracle=Noughts(), solver=games.MWU(1.0), prompts=prompts, folder=Path(folder) / "run",
            source=Free(),
            config=llm.RunConfig(iterations=1, responses=given.responses, fit=llm.Fit(epochs=1, held_out=0.02)),
        )  # fmt: skip
        before, began, profile = memory(), time.monotonic(), cProfile.Profile()
        if given.profile:
            profile.enable()
        computed = time.process_time()
        play.run(progress=processes.main)
        profile.disable()
        total = time.monotonic() - began
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 2**20
        assert len(RunFolder(play.folder).steps()) == 1
        most_computed = max(processes.gather(time.process_time() - computed))  # the folder is the first one's
        count = processes.count
    if not processes.main:
        return
    print(f"{given.prompts} prompts x {given.responses} responses of {LENGTH} tokens; {size:.0f} MiB on disk")
    print(f"{'phase':<12}{'seconds':>9}{'MiB at its start':>18}{'most in it':>12}")
    for phase, seconds, first, most in rows:
        print(f"{phase:<12}{seconds:9.1f}{first:18.0f}{most:12.0f}")
    print(f"{'all':<12}{total:9.1f}{before:18.0f}{max(row[3] for row in rows):12.0f}")
    answers = given.prompts * given.responses
    engines = (
        answers * LENGTH / given.sampled
        + answers * (given.responses - 1) / given.judged
        + answers * (LENGTH + 60) / given.trained * (1 + 2 / 3)  # scored and measured without a backward pass
    )
    engines /= count
    by = f" in {count} processes" if count > 1 else ""
    print(
        f"engines of {given.sampled:g} tokens, {given.judged:g} pairs and {given.trained:g} trained tokens a second"
        f"{by} take {engines / 3600:.1f} h: all the rest is {100 * total / (engines + total):.2f}% of such a run"
    )
    if count > (os.cpu_count() or 1):
        share = 100 * most_computed / (engines + most_computed)
        print(
            f"{count} processes shared {os.cpu_count()} cores: of CPU time none took over {most_computed:.0f} s, which "
            f"is {share:.2f}% of such a run"
        )
    if given.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
