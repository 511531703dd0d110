"""Random rows of a length-controlled win rate, for its tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit


def random_rows(seed: int, n: int = 300) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    length, baseline = random.integers(100, 3000, n).astype(float), random.integers(100, 3000, n).astype(float)
    d, tanh = random.normal(size=n), np.tanh(random.normal(size=2 * n))
    y = expit(-1.5 * np.tanh((baseline - length) / 900) + 0.7 * d - 1 + random.normal(size=n))
    return {
        "y": y, "length": length, "baseline": baseline, "d": d, "gamed_tanh_length": tanh,
        "gamed_preference": expit(-2 * tanh + 0.5 * np.tile(d, 2) + random.normal(size=2 * n)),
    }  # fmt: skip


def gamed(rows: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: rows[name] for name in ("gamed_tanh_length", "gamed_preference")}
