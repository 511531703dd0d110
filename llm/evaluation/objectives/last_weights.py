"""The weights that a run's objectives had in its last step: those by which one response of a pair is the better one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nashward.games.shapes import Float

from ...oracles.ensembles.objectives import plays_against_the_start
from ...run.selfplay import iterates
from ...store.run_folder import RunFolder


def last_weights(folder: str | Path) -> dict[str, float] | None:
    """The weights of the objectives of a run that plays against its start, by its last step; they sum to 1.

    Of the worst case they are the adversary's. Under floors they are 1 of the first objective and the multipliers of
    those with a floor, over their sum: the gradient of the Lagrangian, in which each counts by what it wins.

    Returns:
        None of any other run, whose one table is what it plays for; no weight before a step is trained.
    """
    config = RunFolder(folder).read().get("config", {})
    described = config["combine"] if config.get("objective") else config.get("oracle")  # of an object its name
    rule = re.split(":| of ", str(described))[0]
    if not plays_against_the_start(rule):
        return None
    rows = [row["objectives"] for row in iterates(folder) if row.get("objectives")]
    if not rows:
        return {}
    names, multipliers = list(rows[-1]["win_rates"]), rows[-1]["multipliers"]
    weights = {name: multipliers.get(name, 0.0) for name in names}
    if rule == "floors":
        weights[names[0]] = 1.0
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def table_of(row: Mapping[str, Any], weights: Mapping[str, float] | None) -> Float[np.ndarray, "K M"]:
    """The one table of a row of a run's judgements: P, or the mean of the objectives' tables by ``last_weights``.

    Example:
        >>> row = {"P": [[0.5]], "objectives": {"long": [[0.9]], "plain": [[0.1]]}}
        >>> table_of(row, {"long": 0.75, "plain": 0.25}).round(6).tolist(), table_of(row, None).tolist()
        ([[0.7]], [[0.5]])
    """
    if not weights:
        return np.array(row["P"], dtype=np.float64)
    tables = [weight * np.array(row["objectives"][name], dtype=np.float64) for name, weight in weights.items()]
    return np.sum(tables, axis=0)
