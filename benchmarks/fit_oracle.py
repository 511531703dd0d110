"""Oracles fitted to public verdicts on a frozen encoder, held against the length of the responses and the majority.

The votes are those of ``alpacaeval/verdicts.jsonl.gz`` in the folder that NASHWARD_DATA names: a judge's probability
that a model's response is better than a baseline's. The prompts are split in half; each half is fitted by
``fit_oracle`` at its defaults, and predicts the votes on the other one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from nashward.errors import NashwardError
from nashward.llm.config.oracle_fit import Kind, LengthEffect
from nashward.llm.oracles import FitSettings, Vote, as_oracle, fit_oracle
from nashward.llm.oracles.fitting.examples import StatesOfRows, VoteExamples
from nashward.llm.oracles.fitting.init import pooled_from_base
from nashward.llm.oracles.fitting.summary import by_length_alone, by_majority, leads_over, score
from nashward.llm.oracles.models.checkpoint import use_member
from nashward.llm.oracles.models.pooled import PooledOracle

KINDS: tuple[Kind, ...] = ("bt", "gpm", "pairrm")
LENGTHS: tuple[LengthEffect, ...] = ("keep", "remove")
PLAIN = FitSettings().resolved("pooled")


def verdicts(folder: Path) -> list[Vote]:
    """The votes on responses of several models against one baseline."""
    home = folder / "alpacaeval"

    def content(name: str) -> str:
        return gzip.decompress((home / name).read_bytes()).decode()

    prompts = [row["instruction"] for row in json.loads(content("prompts.json.gz"))]
    baseline = json.loads(content("outputs/gpt4_1106_preview.json.gz"))
    rows = [json.loads(line) for line in content("verdicts.jsonl.gz").splitlines()]
    return [Vote(prompts[row["i"]], row["response"], baseline[row["i"]], row["p"], 1.0) for row in rows]


def predictions(oracle: PooledOracle, votes: list[Vote], known: StatesOfRows) -> np.ndarray:
    """The log-odds of the oracle, the mean of its members."""
    data = VoteExamples(oracle, votes, PLAIN)
    states = data.states(True, known)
    rows = torch.tensor([example.rows for example in data.examples])
    found = []
    with torch.inference_mode():
        for member in oracle.members:
            with use_member(oracle.model, member):
                parts = [oracle.model.compare(states[part]).double() for part in rows.split(2048)]
                found.append(torch.cat(parts).numpy())
    return data.average(range(len(votes)), np.mean(found, axis=0))


def read(kind: Kind, base: str, votes: list[Vote], known: StatesOfRows, file: Path | None) -> None:
    """Add the encoder's states of all votes to those that are known; what a file keeps is not read a second time."""
    oracle = pooled_from_base(kind, base, FitSettings(), "cpu")
    for part in range(0, len(votes), 500):
        data = VoteExamples(oracle, votes[part : part + 500], PLAIN)
        before = len(known)
        data.states(True, known)
        if file is not None and len(known) > before:
            torch.save(known, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="real:minilm")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--every", type=int, default=1, help="take every so many-th prompt")
    parser.add_argument("--seed", type=int, default=0, help="of the split of the prompts")
    parser.add_argument("--states", type=Path, help="keep the encoder's states in this file, and take them from it")
    args = parser.parse_args()
    if "NASHWARD_DATA" not in os.environ:
        raise NashwardError("NASHWARD_DATA is not set; expected the folder with alpacaeval/verdicts.jsonl.gz")
    votes = verdicts(Path(os.environ["NASHWARD_DATA"]))
    prompts = sorted({vote.prompt for vote in votes})[:: args.every]
    chosen = np.random.default_rng(args.seed).permutation(len(prompts))[: len(prompts) // 2]
    first = {prompts[int(k)] for k in chosen}
    votes = [vote for vote in votes if vote.prompt in set(prompts)]
    halves = [[vote for vote in votes if (vote.prompt in first) == side] for side in (True, False)]
    ordered = halves[0] + halves[1]
    split = [np.arange(len(halves[0])), np.arange(len(halves[0]), len(ordered))]
    wins, n = np.array([vote.wins for vote in ordered]), np.ones(len(ordered))
    length, majority = by_length_alone(ordered, split, wins, n), by_majority(split, wins, n)
    print(f"{len(ordered)} votes on {len(prompts)} prompts, each half of the prompts predicted by a fit to the other")
    print(f"{'':24}  log-loss  accuracy     below length  CPU seconds  penalty")
    for name, predicted in (("a coin", np.zeros(len(ordered))), ("the majority", majority), ("the length", length)):
        if predicted is not None:
            found = score(predicted, wins, n)
            print(f"{name:24}  {found.log_loss:8.4f}  {found.accuracy:8.1%}", flush=True)
    known: StatesOfRows = torch.load(args.states) if args.states and args.states.exists() else {}
    for kind in args.kinds:
        read(kind, args.base, ordered, known, args.states)
        for effect in LENGTHS:
            predicted, seconds, penalties = np.zeros(len(ordered)), 0.0, []
            for side in (0, 1):
                settings = FitSettings(length=effect)
                with tempfile.TemporaryDirectory() as home:
                    began = time.process_time()
                    fit = fit_oracle(
                        halves[side], args.base, kind, Path(home) / "judge", settings, device="cpu", progress=False,
                        known=known,
                    )  # fmt: skip
                    seconds += time.process_time() - began
                    oracle = as_oracle(fit.folder, device="cpu")
                    assert isinstance(oracle, PooledOracle)
                    predicted[split[1 - side]] = predictions(oracle, halves[1 - side], known)
                    penalties.append(f"{fit.penalty:g}")
            found, (lead, _) = score(predicted, wins, n), leads_over(ordered, predicted, length, wins, n)
            name = f"{kind}, length {'kept' if effect == 'keep' else 'removed'}"
            figures = f"{found.log_loss:8.4f}  {found.accuracy:8.1%}  {lead.value:7.4f} ± {lead.standard_error:.4f}"
            print(f"{name:24}  {figures}  {seconds:11.0f}  {', '.join(penalties)}", flush=True)


if __name__ == "__main__":
    main()
