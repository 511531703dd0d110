"""The record of a step that people judged: who voted how, how the fit to it went, and what the new votes changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from nashward.games import PreferenceGame, nash
from nashward.games.shapes import Float

from ..oracles.fitting.fit import OracleFit
from ..oracles.fitting.summary import score
from ..oracles.matrices import preference_matrices
from ..oracles.protocol import PreferenceOracle
from .agreement import agreement, by_annotator
from .records import CastVote

COMPARED = 64  # prompts on which the oracles before and after are compared


def what_changed(
    previous: PreferenceOracle | None, fitted: PreferenceOracle, texts: Sequence[tuple[str, list[str]]]
) -> dict[str, float | int] | None:
    """What the new votes changed, on the step's responses: win probabilities, winners and equilibria.

    Args:
        previous: the oracle of the step before; None: there is none, and nothing to compare.
        fitted: that of this step.
        texts: prompts with their responses.
    """
    chosen = [(prompt, own) for prompt, own in texts if len(own) > 1][:COMPARED]
    if previous is None or not chosen:
        return None
    prompts, own = [prompt for prompt, _ in chosen], [texts for _, texts in chosen]
    before, after = (
        [result.P for result in preference_matrices(oracle, prompts, own)] for oracle in (previous, fitted)
    )
    moved = [np.abs(one - two)[np.triu_indices(len(one), 1)] for one, two in zip(before, after, strict=True)]
    turned = [
        ((one > 0.5) != (two > 0.5))[np.triu_indices(len(one), 1)] for one, two in zip(before, after, strict=True)
    ]
    policies = [[_nash(P) for P in tables] for tables in (before, after)]
    distance = [float(np.abs(one - two).sum()) / 2 for one, two in zip(*policies, strict=True)]
    return {
        "prompts": len(chosen),
        "pairs": sum(map(len, moved)),
        "win_probability": float(np.concatenate(moved).mean()),
        "winners": float(np.concatenate(turned).mean()),
        "equilibrium": float(np.mean(distance)),
    }


def _nash(P: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    return nash(PreferenceGame(P)).numpy()


def record(
    votes: Sequence[CastVote],
    used: int,
    fit: OracleFit,
    changed: Mapping[str, Any] | None,
    drawn: Set[tuple[str, str]],
) -> dict[str, Any]:
    """What the report shows of a step's votes and of the fit to them.

    Args:
        votes: all, in the order in which they arrived.
        used: the number of the newest vote that the step before had.
        fit: the oracle's.
        changed: what the new votes changed.
        drawn: the prompts and responses that the run has drawn.
    """
    people = {name: dict(facts) for name, facts in by_annotator(votes).items()}
    for name, reliability in fit.annotators.items():
        people[name] |= {
            "as_predicted": reliability.agreement,
            "slope": reliability.slope,
            "slope_error": reliability.standard_error,
            "suspect": reliability.suspect,
        }
    random = [k for k, vote in enumerate(votes) if vote.why == "random"]
    of_random = None
    if random:
        wins = np.array([votes[k].as_vote().wins for k in random])
        own = score(fit.held_out[random], wins, np.ones(len(random)))
        of_random = {"votes": len(random), "log_loss": own.log_loss, "accuracy": own.accuracy}
    new = [vote for vote in votes if vote.number > used]
    return {
        "votes": len(votes),
        "new": len(new),
        "on_run": sum({(vote.prompt, vote.a), (vote.prompt, vote.b)} <= drawn for vote in new),
        "newest": max(vote.number for vote in votes),
        "prompts": len({vote.prompt for vote in votes}),
        "held_out": {
            "log_loss": fit.log_loss,
            "error": fit.standard_error,
            "accuracy": fit.accuracy,
            "length": fit.length,
            "chance": fit.chance,
            "random": of_random,
        },
        "agreement": dataclasses.asdict(agreement(votes)),
        "people": people,
        "changed": changed,
    }
