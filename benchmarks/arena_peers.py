"""What arena-rank and evalica make of battles: called by ``arena_leaderboard.py``, in an environment of its own.

python benchmarks/arena_peers.py BATTLES.npz OUT.npz
"""

from __future__ import annotations

import sys
import time
from typing import Any

import evalica  # type: ignore[import-not-found,unused-ignore]
import numpy as np
import pandas as pd
from arena_rank.models.bradley_terry import BradleyTerry  # type: ignore[import-not-found,unused-ignore]
from arena_rank.models.contextual_bradley_terry import (  # type: ignore[import-not-found,unused-ignore]
    ContextualBradleyTerry,
)
from arena_rank.utils.data_utils import ContextualPairDataset, PairDataset  # type: ignore[import-not-found,unused-ignore]

EXACT = {"hessian_reg": 1e-8, "ftol": 1e-16, "gtol": 1e-10}


def timed(call: Any) -> tuple[Any, float]:
    """The second of two calls: the first one compiles."""
    call()
    began = time.process_time()
    return call(), time.process_time() - began


def main(battles: str, out: str) -> None:
    given = np.load(battles)
    names = [[f"{k:04}" for k in given[side]] for side in ("first", "second")]
    won = given["won"]
    winner = np.where(won == 1, "model_a", np.where(won == 0, "model_b", "tie"))
    features = [f"feature_{k}" for k in range(given["style"].shape[1])]
    frame = pd.DataFrame({"model_a": names[0], "model_b": names[1], "winner": winner})
    frame[features] = given["style"]
    pairs = PairDataset.from_pandas(frame)
    style = ContextualPairDataset.from_pandas(frame, features, reweighted=False, normalize_features=False)
    n = len(pairs.competitors)
    (plain, plain_s) = timed(lambda: BradleyTerry(n, **EXACT).compute_ratings_and_cis(pairs))
    (contextual, style_s) = timed(
        lambda: ContextualBradleyTerry(n, len(features), reg=0.0, **EXACT).compute_ratings_and_cis(style)
    )
    codes = pd.Series(winner).map(
        {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    )
    counted, evalica_s = timed(
        lambda: evalica.bradley_terry(
            frame.model_a, frame.model_b, codes, tie_weight=0.5, tolerance=1e-14, limit=100_000
        )
    )
    points = 400 / np.log(10)
    centred = {
        name: np.asarray(result["ratings"]) / points - np.mean(result["ratings"]) / points
        for name, result in (("plain", plain), ("style", contextual))
    }
    logs = np.log(counted.scores.sort_index().to_numpy())
    np.savez(
        out, **centred, plain_error=np.sqrt(plain["variances"]) / points, plain_s=plain_s,
        style_error=np.sqrt(contextual["variances"]) / points, coefficients=contextual["coeffs"], style_s=style_s,
        evalica=logs - logs.mean(), evalica_s=evalica_s,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
