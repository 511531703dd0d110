"""How fast a game turns around its equilibrium, and a warning for steps that are too large for that."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from .equilibrium import nash
from .game import ConstantSumGame, Game


class StepWarning(UserWarning):
    """A step beyond a threshold: proven (nothing is known beyond it) or exact (beyond it the iterates leave)."""


def frequency(game: Game, policy: Any) -> Tensor:
    """lam, the angular frequency of small turns around ``policy``, per unit of step: [...].

    .. math::  \\lambda = \\rho(S^{1/2} A S^{1/2}), \\quad A = P - 1/2, \\quad S = diag(\\pi) - \\pi \\pi^\\top

    the spectral radius on the support of pi; at an interior Nash that of diag(pi) A. It decides stability: optimistic
    multiplicative weights are stable exactly for steps below 1 / (sqrt(3) lam), extragradient below 1 / lam. In a
    preference game it is below 1 / (2 sqrt(2)).

    Args:
        game: a game or a batch of games.
        policy: [..., n] probabilities (of an ``n x m`` game a pair), for example the Nash or a regularised one.

    Example:
        >>> from nashward import games
        >>> game = games.zoo.rock_paper_scissors()
        >>> games.frequency(game, games.nash(game).policy)
        tensor(0.2887, dtype=torch.float64)
    """
    players = game.players(policy)
    roots = [_root(p) for p in players]
    # Column k of A S^(1/2) is the payoff of column k of S^(1/2): a difference of policies, centred by itself.
    if len(players) == 1:
        (root,) = roots
        turn = root @ torch.stack([game.payoffs((c,))[0] for c in root.unbind(-1)], -1)
        return torch.linalg.svdvals(turn)[..., 0]
    assert isinstance(game, ConstantSumGame)
    return torch.linalg.svdvals(roots[0] @ game.payoff @ roots[1])[..., 0]


def _root(p: Tensor) -> Tensor:
    """The symmetric square root of diag(p) - p p^T, [..., n, n]."""
    values, vectors = torch.linalg.eigh(torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2))
    return (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)) @ vectors.mT


def warn_of_step(game: Game, solver: Any) -> None:
    """Warn of a constant step beyond the solver's ``limit`` on this game.

    A limit that depends on lam is first taken for the largest lam that a game of this size of payoffs can have, so that
    the equilibrium is only solved for where a step is large; in a batch it is not solved for.

    Warns:
        StepWarning: one line that names the threshold.
    """
    step = getattr(solver, "step", None)
    if not (hasattr(solver, "limit") and isinstance(step, int | float)):
        return
    symmetric = not isinstance(game, ConstantSumGame)
    L = 0.5 if symmetric else float((game.payoff.amax() - game.payoff.amin()) / 2)  # type: ignore[union-attr]
    lam = L / math.sqrt(2) if symmetric else L
    limit = solver.limit(L, max(lam, 1e-300))
    if step <= limit.step * (1 + 1e-9):
        return
    if "lam" in limit.formula:
        if game.batch_shape:
            return
        equilibrium = nash(game)
        if not bool(equilibrium.unique):
            return
        limit = solver.limit(L, max(float(frequency(game, equilibrium.policy)), 1e-300))
        if step <= limit.step * (1 + 1e-9):
            return
    warnings.warn(
        f"the step {step:g} of {type(solver).__name__} is above {limit.step:.6g} = {limit.formula}: {limit.means}",
        StepWarning,
        stacklevel=3,
    )
