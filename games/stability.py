"""Local stability: the game's rotation frequency, and a warning about a step beyond the threshold that it sets."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from .equilibria.nash import nash
from .forms.game import ConstantSumGame, Game, PreferenceGame, check_game
from .shapes import Float
from .solvers.mirror_steps.step_limit import HasStepLimit, MovesReference

TINY = 1e-100  # in place of 0, for games without rotation or with constant payoffs


class StepWarning(UserWarning):
    """A step beyond a threshold, proven (nothing is known beyond it) or exact (the iterates leave the Nash); or too few
    steps between two moves of the reference."""


def rotation_frequency(game: Game, policy: Any) -> Float[Tensor, "..."]:
    """lam, the angular frequency of small rotations around ``policy``, per unit of step.

    .. math::  \\lambda = \\rho(S^{1/2} A S^{1/2}), \\quad A = P - 1/2, \\quad S = diag(\\pi) - \\pi \\pi^\\top

    the spectral radius on the support of pi, where C^T A C with C C^T = S has the same; at an interior Nash that of
    diag(pi) A. It decides stability: optimistic multiplicative weights are stable exactly for steps below
    1 / (sqrt(3) lam), extragradient below 1 / lam. In a preference game it is below 1 / (2 sqrt(2)).

    Args:
        game: a game or a batch of games.
        policy: [..., n] probabilities (a pair for an ``n x m`` game), for example the Nash or a regularised one.

    Returns:
        [...], at least 0.

    Raises:
        ValueError: a policy of another shape, or that is not a distribution.

    Source: derived: the step, linearised at the policy; see ``theory/stability.py``.

    Example:
        >>> from nashward import games
        >>> game = games.zoo.rock_paper_scissors()
        >>> games.rotation_frequency(game, games.nash(game).policy)
        tensor(0.2887, dtype=torch.float64)
    """
    check_game(game)
    players = game.players(policy)
    supports = [(p > 0).reshape(-1, p.shape[-1]).any(0).nonzero()[:, 0] for p in players]  # of all games of a batch
    factors = [_factor(p[..., support]) for p, support in zip(players, supports, strict=True)]
    if isinstance(game, PreferenceGame | ConstantSumGame):
        table = game.P if isinstance(game, PreferenceGame) else game.payoff
        payoffs = table[..., supports[0], :][..., supports[-1]].to(factors[0]) @ factors[-1]
    else:  # a column of C is a difference of policies, whose payoffs are centred by themselves
        (support,), (factor,), (p,) = supports, factors, players
        columns = torch.zeros(*p.shape, len(support), dtype=p.dtype, device=p.device)
        columns[..., support, :] = factor
        payoffs = torch.stack([game.payoffs((c,))[0][..., support] for c in columns.unbind(-1)], -1).to(factor)
    return torch.linalg.svdvals(factors[0].mT @ payoffs)[..., 0]


def _factor(p: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n n"]:
    """C with C C^T = diag(p) - p p^T, [..., n, n]: its columns sum to 0."""
    root = p.sqrt()
    return torch.diag_embed(root) - p.unsqueeze(-1) * root.unsqueeze(-2)


def warn_step_size(game: Game, solver: Any) -> None:
    """Warn about a constant step beyond the solver's ``step_limit`` on this game, or too few steps per reference.

    An exact limit is first computed for the largest frequency that payoffs of this size allow; the equilibrium is
    solved only for a step above it, and not for a batch.

    Warns:
        StepWarning: one line that names the threshold.
    """
    step = getattr(solver, "step", None)
    few = solver.too_few() if isinstance(solver, MovesReference) else None
    if few and (_frequency_at_nash(game) or 0.0) > TINY:
        warnings.warn(f"{type(solver).__name__}: {few}", StepWarning, stacklevel=3)
    if not (isinstance(solver, HasStepLimit) and isinstance(step, int | float)):
        return
    if isinstance(game, ConstantSumGame):
        L = max(float(game.payoff.amax() - game.payoff.amin()) / 2, TINY)
        limit = solver.step_limit(L, lam=L)
    else:
        L = 0.5
        limit = solver.step_limit(L, lam=L / math.sqrt(2))
    if limit.exact and step > limit.step:
        lam = _frequency_at_nash(game)
        if lam is None:
            return
        limit = solver.step_limit(L, lam)
    if step > limit.step * (1 + 1e-9):
        warnings.warn(
            f"the step {step:g} of {type(solver).__name__} is above {limit.step:.6g} = {limit.formula}: {limit.means}",
            StepWarning,
            stacklevel=3,
        )


def _frequency_at_nash(game: Game) -> float | None:
    """lam at the equilibrium; None for a batch, or if there are several equilibria."""
    if game.batch_shape or not isinstance(game, PreferenceGame | ConstantSumGame):
        return None
    equilibrium = nash(game)
    return max(float(rotation_frequency(game, equilibrium.policy)), TINY) if bool(equilibrium.unique) else None
