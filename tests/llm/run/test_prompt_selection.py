"""Informative prompts are drawn more often, no prompt below its floor, and a run that continues draws the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward import games
from nashward.errors import NashwardError
from nashward.llm import Prompt, RunConfig
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.run.inputs.prompt_selection import (
    PromptSelector,
    inclusion_probabilities,
    systematic_sample,
    win_rate_spread,
)
from nashward.llm.store.files import read_jsonl, read_shard, shards
from nashward.llm.store.run_folder import PROMPT_SELECTION, RunFolder

from ..tiny_run import files, quick_run, selected_prompts

INFORMATIVE: dict[str, Any] = {"prompt_selection": "informative", "prompts_per_iteration": 6, "iterations": 3}


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_sum_to_the_size_and_keep_the_floor(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 40))
    size, floor = int(generator.integers(1, n + 1)), float(generator.uniform(0.01, 1))
    spread = generator.exponential(size=n) ** 3 * (generator.random(n) < 0.7)
    spread[generator.random(n) < 0.2] = np.nan
    found = inclusion_probabilities(spread, size, floor)
    assert found.sum() == pytest.approx(size, rel=1e-12)
    assert (found >= floor * size / n - 1e-12).all()
    assert (found <= 1).all()
    known = ~np.isnan(spread)
    order = np.argsort(spread[known])
    assert (np.diff(found[known][order]) >= -1e-12).all()  # never less for a larger spread
    below = known & (found < 1 - 1e-12)
    if below.sum() > 1 and spread[known].mean() > 0:  # by c (f + (1 - f) s / mean) with one c
        share = floor + (1 - floor) * spread[below] / spread[known].mean()
        np.testing.assert_allclose(found[below] / share, found[below][0] / share[0], rtol=1e-9)


def test_probabilities_in_closed_form() -> None:
    spread = np.array([0.0, 0.1, 0.2, 0.1])
    np.testing.assert_allclose(inclusion_probabilities(spread, 2, 0.2), [0.1, 0.5, 0.9, 0.5])
    np.testing.assert_allclose(inclusion_probabilities(spread, 2, 1.0), 0.5)
    np.testing.assert_allclose(inclusion_probabilities(np.zeros(4), 1, 0.1), 0.25)  # nothing tells them apart
    np.testing.assert_allclose(inclusion_probabilities(np.full(4, np.nan), 3, 0.1), 0.75)
    # one has all the spread and is certain; the others, at the floor, share what is left
    np.testing.assert_allclose(inclusion_probabilities(np.array([9.0, 0.0, 0.0]), 2, 0.1), [1, 0.5, 0.5])


def test_each_element_is_in_the_sample_as_often_as_its_probability_says() -> None:
    probability = inclusion_probabilities(np.array([0.3, 0.0, 0.1, np.nan, 0.2, 0.05, 0.3]), 3, 0.2)
    starts = (np.arange(10000) + 0.5) / 10000
    drawn = np.array([systematic_sample(probability, start) for start in (0.0, *starts)])
    assert (drawn.sum(1) == 3).all()
    np.testing.assert_allclose(drawn[1:].mean(0), probability, atol=2e-4)
    halves = systematic_sample(np.full(8, 0.5), 0.7)  # one of each two neighbours
    assert (halves.reshape(4, 2).sum(1) == 1).all()


def test_the_spread_is_that_of_the_row_means() -> None:
    import torch

    P = torch.tensor([[0.5, 0.9, 0.7], [0.1, 0.5, 0.4], [0.3, 0.6, 0.5]])
    assert win_rate_spread(P, torch.arange(3)) == pytest.approx(np.std([0.8, 0.25, 0.45]), rel=1e-6)
    assert win_rate_spread(P, None) == pytest.approx(np.std([0.7, 1.0 / 3, 1.4 / 3]), rel=1e-6)
    P[2], P[:, 2] = torch.nan, torch.nan  # not judged
    assert win_rate_spread(P, torch.arange(3)) == pytest.approx(0.4)
    P[:] = torch.nan
    assert np.isnan(win_rate_spread(P, torch.arange(3)))


class _Judged:
    """In place of the tables of a run."""

    def __init__(self, spreads: dict[int, float]):
        self.known = spreads

    def spreads(self, spread: Any) -> dict[int, float]:
        return self.known


@pytest.mark.slow
def test_prompts_with_larger_spread_are_chosen_more_often_and_the_floor_holds(tmp_path: Path) -> None:
    prompts = [Prompt(({"role": "user", "content": str(k)},)) for k in range(12)]
    spreads = {k: 0.02 * k for k in range(11)}  # the last one was never judged
    lengths = [7 * k % 5 for k in range(12)]
    counts, seeds, size, floor = np.zeros(12), 600, 4, 0.3
    for seed in range(seeds):
        run = RunFolder(tmp_path / str(seed))
        run.write({"solver": {}}, {})
        config = RunConfig(prompts_per_iteration=size, prompt_selection="informative", prompt_floor=floor, seed=seed)
        selector = PromptSelector(run, prompts, lengths, config, _Judged(spreads), lambda line: None)  # type: ignore[arg-type]
        numbers = selector.numbers(1, run / "iteration-02")
        assert len(numbers) == size
        counts[list(numbers)] += 1
    known = np.array([*spreads.values(), np.nan])
    expected = inclusion_probabilities(known, size, floor)
    assert expected.min() >= floor * size / 12
    error = np.sqrt(expected * (1 - expected) / seeds)
    assert (abs(counts / seeds - expected) < 4 * error).all()
    assert counts[8:11].sum() > 2 * counts[:3].sum()


def test_a_run_selects_by_its_own_tables(tiny_folder: Path, tmp_path: Path) -> None:
    run = quick_run(tiny_folder, tmp_path / "run", solver=games.MWU(2.0), **INFORMATIVE).run()
    judged: dict[str, float] = {}
    for k in (1, 2, 3):
        step = run.folder / f"iteration-0{k}"
        rows = read_jsonl(step / PROMPT_SELECTION)
        assert len(rows) == 10
        assert {row["prompt"]: row["spread"] for row in rows if row["spread"] is not None} == pytest.approx(judged)
        expected = inclusion_probabilities(np.array([judged.get(row["prompt"], np.nan) for row in rows]), 6, 0.2)
        assert [row["probability"] for row in rows] == pytest.approx(list(expected))
        tables = [row for file in shards(step / "judgements", "*") for row in read_shard(file, ["prompt", "P"])]
        assert {row["prompt"] for row in tables} == set(selected_prompts(step))
        assert len(tables) == 6
        for row in tables:
            P = np.array(row["P"])
            np.fill_diagonal(P, 0)
            judged[row["prompt"]] = float(np.std(P.sum(1) / 2))  # each of 3 responses against the 2 others
    assert len(set(judged.values())) > 3


def test_the_steps_of_an_iteration_play_on_the_same_prompts(tiny_folder: Path, tmp_path: Path) -> None:
    settings = {**INFORMATIVE, "iterations": 2, "solver": games.ExtraGradient(1.0)}
    run = quick_run(tiny_folder, tmp_path / "run", **settings).run()
    for k in (1, 2):
        half, step = (run.folder / f"iteration-0{k}{name}" for name in ("-half-1", ""))
        assert not (step / PROMPT_SELECTION).exists()
        drawn = [
            {row["prompt"] for file in shards(folder / "responses", "*") for row in read_shard(file, ["prompt"])}
            for folder in (half, step)
        ]
        assert drawn[0] == drawn[1] == set(selected_prompts(half))


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    quick_run(tiny_folder, whole, **INFORMATIVE).run()
    quick_run(tiny_folder, cut, **{**INFORMATIVE, "iterations": 1}).run()
    quick_run(tiny_folder, cut, **INFORMATIVE).run("sample")
    selection = cut / "iteration-02" / PROMPT_SELECTION
    before = selection.read_bytes()
    selection.unlink()  # made again from the tables
    quick_run(tiny_folder, cut, **INFORMATIVE).run("sample")
    assert selection.read_bytes() == before
    shutil.rmtree(cut / "iteration-01" / "judgements")  # which a step that has begun no longer needs
    assert quick_run(tiny_folder, cut, **INFORMATIVE).run("judge").stopped
    (cut / "iteration-01" / "judgements").mkdir()
    for file in (whole / "iteration-01" / "judgements").iterdir():
        shutil.copy(file, cut / "iteration-01" / "judgements")
    quick_run(tiny_folder, cut, **INFORMATIVE).run()
    quick_run(tiny_folder, cut, **INFORMATIVE).run()  # finished: nothing changes
    for k in (1, 2, 3):
        for name in (PROMPT_SELECTION, "shards.json", f"adapter/{WEIGHTS}"):
            file = Path(f"iteration-0{k}") / name
            assert (cut / file).read_bytes() == (whole / file).read_bytes(), file
    assert {name for name in files(whole) if "shard" in name} == {name for name in files(cut) if "shard" in name}


def test_a_selection_that_is_lost_and_cannot_be_made_again_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "run"
    quick_run(tiny_folder, home, **{**INFORMATIVE, "iterations": 1}).run()
    quick_run(tiny_folder, home, **INFORMATIVE).run("sample")
    selection = home / "iteration-02" / PROMPT_SELECTION
    rows = read_jsonl(selection)
    selection.write_text("".join(json.dumps({**row, "selected": True}) + "\n" for row in rows))
    shutil.rmtree(home / "iteration-01" / "judgements")
    with pytest.raises(NashwardError, match=r"prompt-selection\.jsonl .*--from sample"):
        quick_run(tiny_folder, home, **INFORMATIVE).run("judge")
    assert (home / "set-aside" / "iteration-02" / PROMPT_SELECTION).exists()
    quick_run(tiny_folder, home, **INFORMATIVE).run("sample", redo="sample")
    rows = read_jsonl(selection)
    assert {row["probability"] for row in rows} == {0.6}  # no prompt's spread is known any more
    assert len(selected_prompts(home / "iteration-02")) == 6


def test_a_run_goes_on_under_the_selection_that_it_began_with(tiny_folder: Path, tmp_path: Path) -> None:
    quick_run(tiny_folder, tmp_path / "run", prompts_per_iteration=6).run("sample")
    with pytest.raises(NashwardError, match="prompt_selection"):
        quick_run(tiny_folder, tmp_path / "run", **INFORMATIVE).check()
    assert not (tmp_path / "run" / "iteration-01" / PROMPT_SELECTION).exists()
