"""The speed of sampling on a CPU: continuous batching against transformers' batched `generate`, same seeds.

    python benchmarks/sampling_speed.py [--policy FOLDER] [--prompts 64] [--responses 5] [--tokens 96] [--threads 1]

Lengths are spread: besides the model's own stop tokens, tokens that make up about a 24th of its text end a response.
It prints CPU seconds, the positions that were computed for prompts and for rows against those that are needed, and how
many responses are equal; every other one must first differ where its draw lies within 1e-4 of a boundary.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from nashward import llm
from nashward.llm.policy import sampling
from nashward.llm.policy.decoding import supported
from nashward.llm.policy.model import LanguageModel
from nashward.llm.policy.sampling import Response, sample, seed_of

SEED = 0
BOUNDARY = 1e-4
WORDS = "why the old mill by the river turns and how stones are cut for bread in a long winter"
PROMPTS = ("Describe the sea.", "Name a river.", "Tell me about bread.", "How do I learn chess?", "What is a comet?")
STOPPING = 1 / 24  # of the tokens end a response


class Positions:
    """The positions that pass through the network: of prompts, and of rows that draw a token."""

    def __init__(self, network: Any):
        base = network.get_base_model()
        self.counts: Counter[str] = Counter()
        self.hook = getattr(base, base.base_model_prefix).register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, given: Any, named: dict[str, Any]) -> None:
        states = named.get("inputs_embeds") if named.get("input_ids") is None else named["input_ids"]
        rows, length = states.shape[:2]
        self.counts["prompts" if length > 1 else "rows"] += rows * length

    def __enter__(self) -> Counter[str]:
        return self.counts

    def __exit__(self, *error: Any) -> None:
        self.hook.remove()


def prompts_of(model: LanguageModel, number: int) -> list[list[int]]:
    """Prompts of 1 to 60 words more than a short question."""
    rng = random.Random(SEED)
    texts = [
        f"{rng.choice(PROMPTS)} {' '.join(rng.choices(WORDS.split(), k=rng.randint(1, 60)))}" for _ in range(number)
    ]
    return [model.encode(llm.Prompt(({"role": "user", "content": text},))) for text in texts]


def more_stops(model: LanguageModel, prompts: list[list[int]]) -> None:
    """Let some of the tokens that the model writes end a response."""
    drawn = sample(model, prompts[:8], [[1, 2]] * len(prompts[:8]), llm.Sampling(max_new_tokens=32))
    counts = Counter(token for row in drawn for response in row for token in response.ids)
    total, chosen = sum(counts.values()), 0
    for token, count in sorted(counts.items()):
        if chosen + count <= STOPPING * total and token not in model.stop_ids:
            model.stop_ids.append(token)
            chosen += count


def boundary_distance(
    network: Any, prompt: list[int], one: list[int], other: list[int], numbers: torch.Tensor
) -> float:
    """How far the draw of the first token that differs lies from a boundary of the cumulative distribution."""
    place = next(k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    logits = network(input_ids=torch.tensor([prompt + one[:place]])).logits[0, -1]
    cumulative = logits.double().softmax(-1).cumsum(-1)
    return float((cumulative - numbers[place] * cumulative[-1]).abs().min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default=str(llm.pocket.POLICY), help="default: the pocket policy")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--responses", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96, help="of the longest response")
    parser.add_argument("--rows", type=int, default=64, help="of a batch")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = LanguageModel.from_pretrained(given.policy, quantise=False, device="cpu")
    prompts = prompts_of(model, given.prompts)
    seeds = [[seed_of(SEED, i, k) for k in range(given.responses)] for i in range(len(prompts))]
    ways: dict[str, tuple[list[list[Response]], float, Counter[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "adapter")
        with model.use_adapter(Path(folder) / "adapter") as network:
            if not supported(network):
                sys.exit(f"{given.policy} is sampled by generate")
            more_stops(model, prompts)
            for name, half in (("generate", 1), ("generate, half the rows", 2), ("nashward", 1)):
                sampling.supported = lambda network, by=name: by == "nashward"  # type: ignore[assignment]
                each = llm.Sampling(max_new_tokens=given.tokens, batch=given.rows // half)
                with Positions(network) as counts:
                    began = time.process_time()
                    drawn = sample(model, prompts, seeds, each)
                    ways[name] = drawn, time.process_time() - began, counts
            sampling.supported = supported
            expected = ways["generate"][0]
            far, equal = 0, {}
            for name, (drawn, _, _) in ways.items():
                different = [
                    (i, k) for i, row in enumerate(drawn) for k, r in enumerate(row) if r.ids != expected[i][k].ids
                ]
                equal[name] = given.prompts * given.responses - len(different)
                for i, k in different:
                    numbers = torch.rand(
                        given.tokens, generator=torch.Generator().manual_seed(seeds[i][k]), dtype=torch.float64
                    )
                    ids = drawn[i][k].ids, expected[i][k].ids
                    far += boundary_distance(network, prompts[i], *ids, numbers) > BOUNDARY
    lengths = sorted(len(response.ids) for row in ways["nashward"][0] for response in row)
    needed = sum(map(len, prompts))
    print(f"{Path(given.policy).name}: {given.prompts} prompts of {needed} tokens, {given.responses} responses each")
    spread = f"{lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}"
    print(f"of {spread}; float32, {given.threads} thread(s); positions computed of prompts and of rows")
    print(f"{'':26}{'CPU s':>8}{'tokens/s':>10}{'speed':>8}{'prompts':>9}{'rows':>9}{'finished':>10}{'equal':>7}")
    for name, (drawn, taken, counts) in ways.items():
        tokens = sum(len(response.ids) for row in drawn for response in row)
        idle = 1 - tokens / (counts["rows"] + (given.prompts * given.responses if name != "nashward" else 0))
        print(f"{name:26}{taken:8.1f}{tokens / taken:10.1f}{ways['generate'][1] / taken:7.2f}x{counts['prompts']:9d}"
              f"{counts['rows']:9d}{idle:10.1%}{equal[name]:7d}")  # fmt: skip
    if far:
        sys.exit(f"{far} responses differ where the draw is not within {BOUNDARY} of a boundary")


if __name__ == "__main__":
    main()
