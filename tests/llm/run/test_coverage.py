"""Prompts that cover the others: the greedy order against one that looks at all, and runs that select by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward.llm.run.inputs.coverage import coverage, covering, features
from nashward.llm.store.files import read_jsonl
from nashward.llm.store.run_folder import PROMPT_SELECTION

from ..tiny_run import quick_run, selected_prompts

COVERAGE: dict[str, Any] = {"prompt_selection": "coverage", "prompts_per_iteration": 4}


def _plain(vectors: np.ndarray, count: int) -> list[int]:
    """The greedy order, by looking at every candidate each time."""
    similar = np.maximum(vectors @ vectors.T, 0)
    chosen: list[int] = []
    for _ in range(count):
        gains = [-1.0 if k in chosen else similar[:, [*chosen, k]].max(1).sum() for k in range(len(vectors))]
        chosen.append(int(np.argmax(gains)))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_with_all_as_candidates_it_is_the_greedy_order(seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(300, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert covering(vectors, 40, size=1, seed=seed) == _plain(vectors, 40)
    assert sorted(covering(vectors, 300, size=30, seed=seed)) == list(range(300))
    first = covering(vectors, 20, size=20, seed=seed)
    assert covering(vectors, 50, size=20, seed=seed)[:20] == first  # a later iteration begins with the same
    best = coverage(vectors, _plain(vectors, 20)).sum()
    assert coverage(vectors, first).sum() > 0.9 * best


def test_the_first_ones_are_one_of_each_kind() -> None:
    kinds = ["Name a river in {}", "Write code that sorts {} numbers", "Why do people like the colour {} so much"]
    texts = [kinds[k % 3].format(word) for k, word in enumerate(f"w{n}" for n in range(60))]
    vectors = features(texts, [5, 6, 9] * 20)
    chosen = covering(vectors, 3, size=3, seed=0)
    assert {k % 3 for k in chosen} == {0, 1, 2}
    at_random = [
        coverage(vectors, list(np.random.default_rng(s).choice(60, 3, replace=False))).mean() for s in range(30)
    ]
    assert coverage(vectors, chosen).mean() > np.mean(at_random)


def test_length_counts_apart_from_words() -> None:
    vectors = features(["a b c", "a b c", "a b c"], [8, 8, 64])
    assert (vectors @ vectors.T)[0] == pytest.approx([1, 1, 0.75], abs=1e-6)
    assert np.linalg.norm(features(["", "x"], [0, 10**9]), axis=1) == pytest.approx([0.5, 1.0])


def test_a_run_goes_through_the_order_and_goes_on_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    run = quick_run(tiny_folder, tmp_path / "run", iterations=3, **COVERAGE).run(progress=False)
    steps = [selected_prompts(run.folder / f"iteration-0{k}") for k in (1, 2, 3)]
    assert [len(step) for step in steps] == [4, 4, 4]
    assert not set(steps[0]) & set(steps[1])
    assert len({*steps[0], *steps[1], *steps[2]}) == 10  # of 10: the order began anew
    rows = read_jsonl(run.folder / "iteration-01" / PROMPT_SELECTION)
    assert all(row["coverage"] == pytest.approx(1, abs=1e-5) for row in rows if row["selected"])
    assert [row["prompts"] for row in run.metrics] == [4, 4, 4]
    cut = tmp_path / "cut"
    quick_run(tiny_folder, cut, iterations=2, **COVERAGE).run("sample", progress=False)
    file = cut / "iteration-01" / PROMPT_SELECTION
    file.unlink()
    quick_run(tiny_folder, cut, iterations=2, **COVERAGE).run("judge", progress=False)
    assert file.read_bytes() == (run.folder / "iteration-01" / PROMPT_SELECTION).read_bytes()
    other = quick_run(tiny_folder, tmp_path / "other", iterations=1, seed=1, **COVERAGE).run("sample", progress=False)
    assert len(selected_prompts(other.folder / "iteration-01")) == 4


@pytest.mark.real
def test_an_encoder_says_what_is_alike() -> None:
    texts = ["Name a river in France.", "Which streams flow through Paris?", "Sort a list of numbers in Python."]
    vectors = features(texts, [6, 6, 6], "real:minilm")
    similar = vectors @ vectors.T
    assert similar[0, 1] > similar[0, 2] + 0.1
