"""Whether a larger step would win more, as far as a run's own figures tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nashward.games.analysis.confidence import standard_errors

from ..config.fit import Fit
from ..training.diagnostics import SURE
from ..training.regression import HANDFUL

CYCLIC = 0.1  # share of cyclic prompts: with more of them large steps circle around the Nash
NEAR = 0.5  # nats per response (KL) between two iterates: beyond it a larger step leaves what was sampled
FACTORS = {0.1: 4, NEAR: 2}  # of the step, where the KL is below that: it grows as the square of the step


def larger_step(rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str | None:
    """A hint to take a larger step; None where the newest iterate gives no reason for it.

    The reasons: what it learned carries over to prompts that it did not see, it moved the policy little, and the judge
    is hardly cyclic. A warning of its fit comes first. Measured in ``benchmarks/defaults.py`` and
    ``benchmarks/step_size.py``.

    Args:
        rows: the summaries of the run's iterates.
        config: the run's settings in ``run.json``.

    Example:
        >>> row = {"held_out": {"r2": 0.19, "r2_error": 0.04}, "train": {"kl": 0.01}, "cyclic_prompts": 0.0}
        >>> row |= {"prompts": 160, "prompts_without_pair": 0, "warning": None}
        >>> config = {"solver": {"step": 2.5}, "fit": {"held_out": 0.1, "validation": 0.1}}
        >>> larger_step([row], config)[-55:]
        'a larger step is likely to win more, such as --step 10.'
        >>> larger_step([{**row, "cyclic_prompts": 0.4}], config)
    """
    if not rows or rows[-1]["warning"] is not None:
        return None
    row, solver, fit = rows[-1], config["solver"], config["fit"]
    parts = Fit(held_out=fit["held_out"], validation=fit["validation"])
    held_out = parts.parts(row["prompts"] - row["prompts_without_pair"])[-1]
    if held_out < HANDFUL:
        return None
    cyclic, held, step = row.get("cyclic_prompts"), row.get("held_out", {}), solver.get("step")
    r2, error, kl = held.get("r2"), held.get("r2_error"), row.get("train", {}).get("kl")
    if cyclic is None or r2 is None or error is None or kl is None or not isinstance(step, int | float):
        return None
    factor = next((factor for limit, factor in FACTORS.items() if kl < limit), None)
    if cyclic > CYCLIC or r2 <= standard_errors(SURE, held_out) * error or factor is None:
        return None
    return (
        f"The last fit carries over to other prompts (R2 {r2:.2f} ± {error:.2f}), it moved the policy by {kl:.2g} nats "
        f"per response (KL), and the judge is cyclic on {cyclic:.0%} of the prompts. Check first that it wins under "
        "a judge that it was not trained on too (nashward evaluate, with --held-out ORACLE). Where it does, a larger "
        f"step is likely to win more, such as --step {factor * step:g}."
    )
