"""The forces of the losses against autograd, their effect on the likelihoods, and where they differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nashward import theory
from nashward.llm.training import losses

SIZE = 3.0
WINS = torch.tensor([0.8, 0.35], dtype=torch.float64)
FORCES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sppo": (lambda at: theory.sppo_forces(at, WINS, SIZE), lambda at: losses.sppo(at, WINS, SIZE).sum() / 2),
    "dpo": (lambda at: theory.dpo_forces(at, SIZE), lambda at: losses.dpo(at[0], at[1], SIZE)),
    "ipo": (lambda at: theory.ipo_forces(at, SIZE), lambda at: losses.ipo(at[0], at[1], SIZE)),
}


@pytest.mark.parametrize("name", FORCES)
def test_forces_are_minus_the_gradient(name: str) -> None:
    forces, loss = FORCES[name]
    for ratios in ([0.0, 0.0], [1.3, -0.4], [-2.0, 5.0]):
        at = torch.tensor(ratios, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(at), at)
        torch.testing.assert_close(forces(at.detach()), -slope, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("name", FORCES)
def test_a_small_step_on_shared_weights_changes_the_likelihoods_as_said(name: str) -> None:
    """A softmax whose logits are linear in 3 weights, so that its 5 responses share them."""
    forces, loss = FORCES[name]
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    theta = torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)
    start = (features @ theta).log_softmax(-1).detach()

    def ratios(weights: torch.Tensor) -> torch.Tensor:
        return ((features @ weights).log_softmax(-1) - start)[[1, 4]]

    scores = torch.autograd.functional.jacobian(ratios, theta.detach())
    (slope,) = torch.autograd.grad(loss(ratios(theta)), theta)
    rate = 1e-6
    moved = ratios((theta - rate * slope).detach()) / rate
    said = theory.likelihood_change(scores @ scores.mT, forces(torch.zeros(2, dtype=torch.float64)))
    torch.testing.assert_close(moved, said, atol=1e-4, rtol=1e-4)


def test_where_the_two_share_more_than_the_chosen_has_a_loss_of_the_margin_lowers_it() -> None:
    shared = torch.tensor([[2.0, 3.0], [3.0, 8.0]], dtype=torch.float64)
    for forces in (theory.dpo_forces([0.0, 0.0], SIZE), theory.ipo_forces([0.0, 0.0], SIZE)):
        assert float(theory.likelihood_change(shared, forces.double())[0]) < 0
    apart = torch.tensor([[3.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    change = theory.likelihood_change(apart, theory.ipo_forces([0.0, 0.0], SIZE).double())
    assert change[0] > 0 > change[1]


def test_at_the_start_all_three_go_one_way_where_the_win_rates_are_symmetric() -> None:
    zero = [0.0, 0.0]
    found = [theory.sppo_forces(zero, [0.7, 0.3], SIZE), theory.dpo_forces(zero, SIZE), theory.ipo_forces(zero, SIZE)]
    for force in found:
        torch.testing.assert_close(force / force[0], torch.tensor([1.0, -1.0]).to(force))
    # later: with the margin reached and the level lost, SPPO alone pulls the chosen back up
    late = [SIZE / 2 - 4.0, -4.0]
    assert float(theory.sppo_forces(late, [1.0, 0.0], SIZE)[0]) > 0
    assert float(theory.ipo_forces(late, SIZE).abs().max()) == 0


def test_in_a_table_the_chosen_rises() -> None:
    for seed in range(5):
        policy = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)
        check = theory.TablesRaiseTheChosen().check(policy)
        assert check.holds
        assert float(min(check.bound)) > 0
        gram = theory.TablesRaiseTheChosen().gram(policy)
        torch.testing.assert_close(
            gram[1, 1] - gram[1, 2], theory.TablesRaiseTheChosen().value(policy, 1, 2), atol=1e-14, rtol=0
        )
