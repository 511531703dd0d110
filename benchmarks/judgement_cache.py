"""The cache of judgements at size: microseconds a hit, bytes a pair.

    python benchmarks/judgement_cache.py [--pairs 1000000]

Texts are of real lengths; a hit includes hashing them. The floor is a look-up of the same keys in a dictionary that
holds them all, measured in the same run.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from nashward.llm.oracles import Cache

K = 5  # responses per prompt: 20 pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--characters", type=int, default=1500, help="of a response (default: 1500)")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    pairs = [(i, j) for i in range(K) for j in range(K) if i != j]
    prompts = -(-given.pairs // len(pairs))
    filler = "the quick brown fox jumps over the lazy dog " * (given.characters // 44 + 1)

    def keys(n: int) -> list[bytes]:
        texts = [f"{n} {k} {filler}"[: given.characters] for k in range(K)]
        return Cache.keys("a model", f"prompt {n}", texts, pairs)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "judgements.sqlite"
        floor: dict[bytes, float] = {}
        with Cache(file) as cache:
            began = time.perf_counter()
            for start in range(0, prompts, 50):
                part = {key: rng.normal(size=1) for n in range(start, min(start + 50, prompts)) for key in keys(n)}
                floor.update({key: float(value[0]) for key, value in part.items()})
                cache.put(part)
            written = time.perf_counter() - began
            count = len(cache)
        size = file.stat().st_size
        order = rng.permutation(prompts)
        with Cache(file) as cache:
            began = time.perf_counter()
            hits = sum(len(cache.get(keys(int(n)))) for n in order)
            hit = (time.perf_counter() - began) / count
        began = time.perf_counter()
        floor_hits = sum(key in floor for n in order for key in keys(int(n)))
        least = (time.perf_counter() - began) / count
    if not hits == floor_hits == count:
        raise SystemExit(f"{count} pairs were written, {hits} found")
    print(f"{count} pairs, responses of {given.characters} characters, {K} a prompt")
    print(f"write  {written / count * 1e6:6.2f} microseconds a pair")
    print(f"hit    {hit * 1e6:6.2f} microseconds a pair, {hit / least:.1f} times a dictionary in memory")
    print(f"size   {size / count:6.1f} bytes a pair")
    if hit > 20e-6 or size > 200 * count:
        raise SystemExit("a hit is to take 20 microseconds at most, and a pair 200 bytes")


if __name__ == "__main__":
    main()
