"""The ridge on gradients: its closed forms against fits by hand, and its sketch against whole vectors."""

from __future__ import annotations

import pytest
import torch
from gradient_ridge import PENALTIES, CountSketch, Ridge

EACH = 3


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(8 * EACH, 5, generator=draw, dtype=torch.float64)
    target = features @ torch.tensor([1.0, -0.5, 0.0, 0.0, 0.2]).double()
    return features, target + 0.7 * torch.randn(8 * EACH, generator=draw, dtype=torch.float64)


def test_prompts_that_are_left_out_are_predicted_as_by_fits_without_them() -> None:
    features, target = _data()
    found = Ridge.of(features @ features.T, target, EACH)
    mean = float(features.square().sum(1).mean())
    errors = {}
    for penalty in PENALTIES:
        left_out = torch.empty_like(target)
        for first in range(0, len(target), EACH):
            own = torch.arange(first, first + EACH)
            rest = torch.tensor([k for k in range(len(target)) if k not in own])
            K = features[rest] @ features[rest].T
            a = torch.linalg.solve(K + penalty * mean * torch.eye(len(rest)), target[rest])
            left_out[own] = features[own] @ features[rest].T @ a
        errors[penalty] = float((left_out - target).square().sum())
    best = min(errors, key=lambda penalty: errors[penalty])
    assert found.penalty == best
    assert found.r2 == pytest.approx(1 - errors[best] / float(target.square().sum()), abs=1e-9)
    K = features @ features.T
    torch.testing.assert_close((K + best * mean * torch.eye(len(K))) @ found.a, target, atol=1e-9, rtol=0)


def test_a_sketch_keeps_inner_products_and_does_not_depend_on_how_often_it_is_used() -> None:
    draw = torch.Generator().manual_seed(1)
    rows = [[torch.randn(300, 4, generator=draw), torch.randn(800, generator=draw)] for _ in range(12)]
    rows[1] = [part + 2 * other for part, other in zip(rows[0], rows[1], strict=True)]
    whole = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in rows])
    sketch = CountSketch(width=8192, seed=0)
    short = torch.stack([sketch(parts) for parts in rows])
    torch.testing.assert_close(sketch(rows[3]), short[3], atol=0, rtol=0)
    norms = whole.norm(dim=1)
    off = (short @ short.T - whole @ whole.T) / (norms[:, None] * norms)
    assert float(off.abs().max()) < 4 * (2 / 8192) ** 0.5
