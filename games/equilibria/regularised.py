"""Equilibria of KL-regularised games for any tau and any reference, and the path to the unregularised game."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.shortened import quoted

from ..forms.contextual import ContextualGame
from ..forms.game import ConstantSumGame, Players, PreferenceGame, check_table
from ..forms.skew import skew
from ..measures import duality_gap
from ..shapes import Bool, Float
from ..step import is_finite

Table = PreferenceGame | ConstantSumGame | ContextualGame

RESIDUAL = 1e-12  # guaranteed residual of the fixed point
_GOOD = 1e-13
_NEWTON = 12  # Newton steps for one tau; where they do not suffice the path is walked in smaller steps
_WALK = 2000


@dataclass(frozen=True)
class RegularisedEquilibrium:
    """The equilibrium of the game in which each player also pays ``tau KL(policy || reference)``.

    Attributes:
        policy: [..., n] probabilities; a ``Profile`` for an ``n x m`` game.
        gap: [...], the duality gap in the game itself, without regularisation: at most ``2 tau max(-log reference)``.
        regularised_gap: [...], the duality gap in the regularised game, in closed form.
        residual: [...], the largest difference between ``policy`` and the best response to it.
        tau: the strength of the regularisation.

    Example:
        >>> from nashward import games
        >>> equilibrium = games.regularised_nash(games.zoo.comal_cycle(), tau=1.0)
        >>> equilibrium.tau, bool(equilibrium.residual <= 1e-12), round(float(equilibrium.gap), 4)
        (1.0, True, 0.0701)
    """

    policy: Any
    gap: Float[Tensor, "*batch"]
    regularised_gap: Float[Tensor, "*batch"]
    residual: Float[Tensor, "*batch"]
    tau: float


def regularised_gap(game: Table, policy: Any, tau: float, reference: Any = None) -> Float[Tensor, "*batch"]:
    """The duality gap of the regularised game: what both players could gain together, net of the regularisation.

    .. math::
        gap_\\tau(\\pi)
        = 2 (\\tau \\log \\sum_y ref(y) \\, e^{P(y \\succ \\pi) / \\tau} + \\tau KL(\\pi || ref) - 1/2)
        = 2 \\tau KL(\\pi \\, || \\, BR(\\pi))

    and for an ``n x m`` game ``tau`` times the sum of both players' divergences. It is 0 at the equilibrium only.

    Args:
        game: a game with a table, or a batch of them.
        policy: [..., n] probabilities; a pair for an ``n x m`` game.
        tau: the strength of the regularisation, above 0.
        reference: as ``policy``; uniform when not given.

    Returns:
        [...], in units of the payoff.

    Raises:
        ValueError: tau is not positive, a policy or reference that is not a distribution over the actions.

    Source: derived from the regularised best response, which is in closed form.

    Example:
        >>> from nashward import games
        >>> game = games.zoo.comal_cycle()
        >>> float(regularised_gap(game, games.regularised_nash(game, tau=0.1).policy, tau=0.1)) < 1e-12
        True
    """
    check_table(game)
    _check_tau(tau)
    players, log_reference = _players(game, policy, "policy"), _log_reference(game, reference)
    gap = torch.zeros((), dtype=torch.float64, device=game.device)
    for p, payoff, log in zip(players, _payoffs(game, players), log_reference, strict=True):
        answer = (log + payoff / tau).log_softmax(-1)
        terms = torch.where(p > 0, p * (p.log() - answer), 0.0)
        gap = gap + tau * terms.sum(-1).clamp_min(0)  # a divergence is below 0 by rounding only
    return gap * (2 if len(players) == 1 else 1)


def regularised_nash(game: Table, tau: float, reference: Any = None) -> RegularisedEquilibrium:
    """The unique equilibrium of the KL-regularised game.

    .. math::  \\pi_\\tau(y) \\propto ref(y) \\exp(P(y \\succ \\pi_\\tau) / \\tau)

    found by Newton's method in log-probabilities u, along the path on which 1 / tau grows from 0, where the solution is
    the reference. The matrix ``1 - A diag(e^u) / tau`` is regular: it is a positive diagonal minus a skew matrix, with
    its columns scaled.

    Args:
        game: a game with a table, or a batch of them, solved together.
        tau: above 0. Below about 1e-5 of the payoffs' span, rounding in the payoffs divided by tau exceeds the
            guaranteed residual.
        reference: [..., n] probabilities (a pair for an ``n x m`` game); uniform when not given. Actions that it
            excludes stay excluded.

    Raises:
        ValueError: tau is not a positive number.
        ArithmeticError: the residual stayed above 1e-12 (above ``1e-16 span / tau`` where that is larger, span: twice
            the largest centred payoff, at least 1).

    Source: the fixed point of Nash-MD (arXiv 2312.00886) and of Sokota et al. 2023 (arXiv 2206.05825).

    Example:
        >>> from nashward import games
        >>> equilibrium = games.regularised_nash(games.zoo.comal_cycle(), tau=0.1, reference=[0.66, 0.25, 0.09])
        >>> equilibrium.policy, equilibrium.gap
        (tensor([0.3207, 0.4307, 0.2486], dtype=torch.float64), tensor(0.1521, dtype=torch.float64))
    """
    return regularised_path(game, [tau], reference)[0]


def regularised_path(game: Table, taus: Sequence[float], reference: Any = None) -> list[RegularisedEquilibrium]:
    """The regularised equilibria for falling ``taus``, each found from the one before: the path to a Nash of the game.

    As tau falls to 0 they tend to the equilibrium nearest to the reference in KL.

    Args:
        game: a game with a table, or a batch of them.
        taus: positive, in falling order.
        reference: [..., n] probabilities (a pair for an ``n x m`` game); uniform when not given.

    Returns:
        One equilibrium per tau, as ``regularised_nash`` gives it.

    Raises:
        ValueError: a tau that is not positive, or not below the one before.
        ArithmeticError: as ``regularised_nash``.

    Source: the project's own; Newton's method along the path.

    Example:
        >>> from nashward import games
        >>> path = regularised_path(games.zoo.comal_cycle(), [1.0, 0.1, 0.01])
        >>> [round(float(equilibrium.gap), 4) for equilibrium in path]
        [0.0701, 0.0245, 0.0017]
    """
    check_table(game)
    for tau in taus:
        _check_tau(tau)
    if any(later >= earlier for earlier, later in pairwise(taus)):
        raise NashwardError(f"the taus of a path must fall, got {list(taus)}")
    log_reference = _log_reference(game, reference)
    A, blocks = skew(game)
    u_ref = torch.cat([log.expand(*game.batch_shape, -1) for log in log_reference], -1)
    inside = ~u_ref.isneginf()
    u, theta, equilibria = u_ref, 0.0, []
    for tau in taus:
        u = _follow_path(A, blocks, inside, u, u_ref, theta, 1 / tau)
        theta = 1 / tau
        equilibria.append(_equilibrium(game, u, tau, log_reference))
    return equilibria


def _follow_path(
    A: Float[Tensor, "*batch n n"],
    blocks: Float[Tensor, "players n"],
    inside: Bool[Tensor, "*batch n"],
    u: Float[Tensor, "*batch n"],
    u_ref: Float[Tensor, "*batch n"],
    theta: float,
    goal: float,
) -> Float[Tensor, "*batch n"]:
    """The solution at ``1 / tau = goal``, from the one at ``theta``."""
    step = max(theta, 1.0)
    for _ in range(_WALK):
        following = min(goal, theta + step)
        ahead, good = _newton(A, blocks, inside, u, u_ref, following)
        if good:
            u, theta, step = ahead, following, 3 * step
            if theta >= goal:
                return u
        else:
            step /= 4
    raise ArithmeticError(f"the path to the regularised equilibrium stopped at tau = {1 / max(theta, 1e-300):.1e}")


def _newton(
    A: Float[Tensor, "*batch n n"],
    blocks: Float[Tensor, "players n"],
    inside: Bool[Tensor, "*batch n"],
    u: Float[Tensor, "*batch n"],
    u_ref: Float[Tensor, "*batch n"],
    theta: float,
) -> tuple[Float[Tensor, "*batch n"], bool]:
    """Solve ``u - u_ref - theta A e^u + B't = 0, B e^u = 1`` from ``u``; B [players, n] sums each player's actions."""
    eye = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
    zero = torch.zeros((), dtype=u.dtype, device=u.device)
    before = torch.inf
    for _ in range(_NEWTON):
        x = torch.where(inside, u.exp(), zero)
        right = torch.where(inside, u_ref + theta * (A @ x[..., None])[..., 0] - u, zero)
        matrix = eye - theta * A * x[..., None, :]
        sides = torch.cat([right[..., None], blocks.mT.expand(*u.shape, -1) * inside[..., None]], -1)
        solved, singular = torch.linalg.solve_ex(matrix, sides)
        if bool(singular.any()) or not bool(solved.isfinite().all()):
            return u, False
        z, G = solved[..., 0], solved[..., 1:]
        # B diag(x) (z - G t) = 1 - B x
        weighted = blocks * x[..., None, :]
        wanted = (weighted @ z[..., None])[..., 0] - (1 - (blocks @ x[..., None])[..., 0])
        t = torch.linalg.solve(weighted @ G, wanted)
        move = torch.where(inside, z - (G @ t[..., None])[..., 0], zero)
        u = torch.where(inside, u + move, u)
        size = float((move.abs() * torch.where(inside, u.exp(), zero).clamp_max(1.0)).amax())
        if size <= _GOOD and float(move.abs().amax()) < 1e-6:
            return u, True
        if not size < 1e3 or (size > before and size > 1e-9 and before < 0.1):
            return u, False
        if size >= before and size <= 1e-9:  # only rounding is left
            return u, True
        before = size
    return u, False


def _equilibrium(
    game: Table, u: Float[Tensor, "*batch n"], tau: float, log_reference: Players
) -> RegularisedEquilibrium:
    logs = u.split(list(game.sizes), -1)
    players = tuple(log.softmax(-1) for log in logs)
    answers = tuple(log.exp() for log in _answer(game, players, log_reference, tau))
    residual = torch.stack([(p - q).abs().amax(-1) for p, q in zip(players, answers, strict=True)]).amax(0)
    largest = float(skew(game)[0].abs().max())
    reachable = max(RESIDUAL, 1e-16 * max(1.0, 2 * largest) / tau)
    if not bool((residual <= reachable).all()):
        raise ArithmeticError(
            f"the regularised equilibrium for tau = {tau:g} has a residual of {residual.max():.1e}, "
            f"expected {reachable:.0e}: raise tau"
        )
    profile = game.profile(players)
    return RegularisedEquilibrium(
        profile,
        duality_gap(game, profile),
        regularised_gap(game, profile, tau, _profile(game, log_reference)),
        residual,
        tau,
    )


def _answer(game: Table, players: Players, log_reference: Players, tau: float) -> Players:
    payoffs = _payoffs(game, players)
    return tuple((log + payoff / tau).log_softmax(-1) for log, payoff in zip(log_reference, payoffs, strict=True))


def _payoffs(game: Table, players: Players) -> Players:
    """The payoffs, shifted to be near 0 at equilibrium, so that they keep their digits when divided by tau."""
    A, _ = skew(game)
    return (A @ torch.cat(players, -1)[..., None])[..., 0].split(list(game.sizes), -1)


def _log_reference(game: Table, reference: Any) -> Players:
    if reference is not None:
        return tuple(p.log() for p in _players(game, reference, "reference"))
    if isinstance(game, ContextualGame):
        return (game.uniform().log(),)
    return tuple(torch.full((n,), 1 / n, dtype=torch.float64, device=game.device).log() for n in game.sizes)


def _players(game: Table, policy: Any, what: str) -> Players:
    players = game.players(policy)
    shapes = [(*game.batch_shape, n) for n in game.sizes]
    for p, shape in zip(players, shapes, strict=True):
        if tuple(torch.broadcast_shapes(p.shape, shape)) != shape:
            raise NashwardError(f"the {what} must have shape {[*shape]} or fewer dimensions, got {[*p.shape]}")
    return tuple(p.to(torch.float64).expand(shape) for p, shape in zip(players, shapes, strict=True))


def _profile(game: Table, log_reference: Players) -> Any:
    return game.profile(tuple(log.exp() for log in log_reference))


def _check_tau(tau: float) -> None:
    if not (is_finite(tau) and tau > 0):
        raise NashwardError(f"tau must be a positive number, got {quoted(tau, 40)}")
