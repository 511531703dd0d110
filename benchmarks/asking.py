"""How many votes it takes to know as much: pairs that are expected to change the equilibrium, or random ones.

Simulated people of known reliability vote on responses of the pocket model's styles, by the planted preferences. After
each block of votes the oracle is fitted by ``fit_oracle``, as a run does, and held against the planted preferences on
prompts that nobody voted on: its log-loss (cross-entropy to the planted probabilities), and the gap, in the planted
game, of the policy that is its equilibrium on each prompt. A level is the least median over seeds that random pairs
have had after so many votes; what counts is when the median first comes down to it, between blocks interpolated.

    python benchmarks/asking.py --seeds 10

    python benchmarks/asking.py --first 0 --seeds 2 --write part-0.json     # in parts, and
    python benchmarks/asking.py --read part-*.json                          # together
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from simulated_people import people, style

from nashward.games import PreferenceGame, nash
from nashward.llm.config import Asking
from nashward.llm.oracles import FitSettings, as_oracle, fit_oracle, preference_matrices
from nashward.llm.oracles.fitting.examples import StatesOfRows
from nashward.llm.people.asking import Asker
from nashward.llm.people.oracle import update_beliefs
from nashward.llm.people.store import VoteStore
from nashward.llm.pocket import POLICY, styles

ARMS = {"random": True, "change": False}
PROMPTS, HELD_OUT, RESPONSES, PEOPLE = 60, 60, 5, 50
MEASURES = {"log_loss": "held-out log-loss", "gap": "gap of the policy"}


def texts(count: int, seed: int) -> dict[str, list[str]]:
    """Prompts with responses of mixed styles, a tenth of them of none."""
    rng = np.random.default_rng([seed, 2])
    return {
        prompt: [
            styles.garbled(rng)
            if rng.random() < 0.1
            else styles.response(int(rng.integers(len(styles.STYLES))), str(rng.choice(styles.TOPICS)), rng)
            for _ in range(RESPONSES)
        ]
        for prompt in styles.plain_prompts(count, seed=10_000 + seed)
    }


def measured(oracle: Any, held_out: dict[str, list[str]]) -> dict[str, float]:
    """The cross-entropy to the planted probabilities, and the gap of the oracle's equilibria in the planted games."""
    table, losses, gaps = styles.judged_table(), [], []
    for result, own in zip(preference_matrices(oracle, list(held_out), list(held_out.values())), held_out.values(),
                           strict=True):  # fmt: skip
        kinds = [style(text) for text in own]
        truth = table[np.ix_(kinds, kinds)]
        upper = np.triu_indices(len(own), 1)
        p = np.clip(result.P[upper], 1e-9, 1 - 1e-9)
        losses.append(float(-(truth[upper] * np.log(p) + (1 - truth[upper]) * np.log(1 - p)).mean()))
        policy = nash(PreferenceGame(result.P)).numpy()
        gaps.append(2 * (float((truth @ policy).max()) - 0.5))
    return {"log_loss": float(np.mean(losses)), "gap": float(np.mean(gaps))}


def course(
    arm: str, seed: int, block: int, horizon: int, known: StatesOfRows, share: float = Asking.random_share
) -> list[dict[str, Any]]:
    """What is measured after each block of votes."""
    asked, held_out = texts(PROMPTS, seed), texts(HELD_OUT, seed + 500)
    voters, rows = people(PEOPLE, seed, least=0.6), []
    with tempfile.TemporaryDirectory() as home, VoteStore(home + "/votes") as store:
        for prompt, own in asked.items():
            store.add_responses(prompt, own)
        asker = Asker(store, Asking(random=ARMS[arm], random_share=share, seed=seed))
        for count in range(1, horizon + 1):
            voter = voters[count % len(voters)]
            question = asker.next(voter.name)
            assert question is not None
            store.vote(question.id, voter.name, voter.choice(question.first, question.second))
            if count % block == 0:
                fit = fit_oracle(
                    [vote.as_vote() for vote in store.votes()], POLICY, "gpm", f"{home}/{count}", FitSettings(),
                    device="cpu", progress=False, known=known,
                )  # fmt: skip
                oracle = as_oracle(fit.folder, device="cpu")
                if not ARMS[arm]:
                    update_beliefs(store, oracle, asked)
                    asker.refresh()
                rows.append({"arm": arm, "seed": seed, "votes": count, **measured(oracle, held_out)})
    return rows


def arrival(votes: np.ndarray, values: np.ndarray, level: float) -> float | None:
    """The number of votes at which the values first come down to the level, interpolated; None: they do not.

    Args:
        votes, values: ``[blocks]``.
        level: of the values.
    """
    below = np.flatnonzero(values <= level + 1e-12)
    if len(below) == 0:
        return None
    k = int(below[0])
    if k == 0:
        return float(votes[0])
    share = (values[k - 1] - level) / (values[k - 1] - values[k])
    return float(votes[k - 1] + share * (votes[k] - votes[k - 1]))


def report(rows: list[dict[str, Any]]) -> None:
    """The medians over seeds, and the ratio of votes."""
    votes = np.array(sorted({row["votes"] for row in rows}))
    print(f"{len({row['seed'] for row in rows})} seeds, {PROMPTS} prompts x {RESPONSES} responses, {PEOPLE} people")
    for name, title in MEASURES.items():
        medians = {
            arm: np.array([np.median([r[name] for r in rows if r["arm"] == arm and r["votes"] == n]) for n in votes])
            for arm in ARMS
        }
        print(f"\n{title}")
        for arm, values in medians.items():
            print(f"  {arm:<8}" + "".join(f"  {n}: {value:.3f}" for n, value in zip(votes, values, strict=True)))
        for level in np.unique(np.minimum.accumulate(medians["random"]))[::-1]:
            random, change = (arrival(votes, medians[arm], float(level)) for arm in ARMS)
            assert random is not None
            reached = "not reached" if change is None else f"{change:.0f}, ratio {change / random:.2f}"
            print(f"  to {level:.3f}: random {random:.0f} votes, change {reached}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--block", type=int, default=60, help="votes between two fits (default: 60)")
    parser.add_argument("--horizon", type=int, default=480, help="votes of a course (default: 480)")
    parser.add_argument("--random-share", type=float, default=Asking.random_share, help="of the arm change")
    parser.add_argument("--write", type=Path, help="write the rows, and report nothing")
    parser.add_argument("--read", type=Path, nargs="+", help="report what was written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for file in given.read or () for row in json.loads(file.read_text())]
    if not given.read:
        for seed in range(given.first, given.first + given.seeds):
            known: StatesOfRows = {}
            for arm in ARMS:
                rows += course(arm, seed, given.block, given.horizon, known, given.random_share)
    if given.write:
        given.write.write_text(json.dumps(rows))
    else:
        report(rows)


if __name__ == "__main__":
    main()
