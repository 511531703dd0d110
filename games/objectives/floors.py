"""One objective is maximised while the others are kept above floors against a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from nashward.errors import NashwardError

from ..equilibria.linear_program import PRECISE
from ..equilibria.selection import solve_margins
from ..forms.game import Players, _policy
from ..forms.keyed import in_order
from ..shapes import Float
from .compromise import GOOD, Compromise
from .feasible import largest_slack
from .multi_objective import MultiObjectiveGame


class WithMultipliers(NamedTuple):
    """The strategy of a player of ``FloorsGame``.

    Attributes:
        policy: [..., n] probabilities.
        shares: [..., k + 1], how the multipliers' limit is divided among the k floors; the last share goes to no floor.

    Example:
        >>> WithMultipliers(torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75])).shares
        tensor([0.2500, 0.7500])
    """

    policy: Float[Tensor, "... n"]
    shares: Float[Tensor, "... floors"]


def floors(game: MultiObjectiveGame, floors: Mapping[str, float], reference: Any) -> Compromise:
    """The equilibrium of the first objective when both players keep the others above floors.

    .. math::
        \\max_{\\pi \\in K} \\min_{\\pi' \\in K} P_1(\\pi \\succ \\pi'), \\qquad
        K = \\{\\pi : P_m(\\pi \\succ \\mu) \\ge c_m\\}

    With D_{m,y} = P_m(y beats mu) - c_m and multipliers lambda >= 0 the equilibrium solves

    .. math::  A_1 \\pi + D^\\top \\lambda \\le 0, \\qquad D \\pi \\ge 0,

    which is an equilibrium of the skew game ((A_1, D'), (-D, 0)), in which each player also chooses which of the
    opponent's floors to charge: that game is solved like any other symmetric one, or by HiGHS where no policy exceeds
    all floors at once.

    Args:
        game: the objectives; the first is maximised.
        floors: c_m by the name of an objective, not the first.
        reference: [n] probabilities mu.

    Returns:
        The policy; the multipliers are lambda. ``bound - value`` is twice lambda's bound on what a policy in K could
        gain against it, and ``violation`` the most by which a floor is missed.

    Raises:
        ValueError: floors that cannot all be met (names the largest that can), or a single floor that is invalid; a
            reference that is not a distribution.

    Source: derived: Lagrangian duality of both players' constraints; Altman 1999 for constrained games.

    Example:
        >>> from nashward import games
        >>> ladder, opposed = [[0.5, 0.9], [0.1, 0.5]], [[0.5, 0.1], [0.9, 0.5]]
        >>> game = games.MultiObjectiveGame([ladder, opposed], ["helpful", "short"])
        >>> found = floors(game, {"short": 0.4}, [0.5, 0.5])
        >>> found.policy, round(found.multipliers['short'], 9), found.status
        (tensor([0.7500, 0.2500], dtype=torch.float64), 1.0, 'ok')
    """
    chosen, c = game.bounds(floors)
    (mu,) = game.tables.players(reference)
    D = ((game.P[chosen] @ mu) - c[:, None]).numpy()
    check_feasible(list(floors), (D + c.numpy()[:, None])[:, None], c.numpy(), np.ones(1))
    A = game.P[0].numpy() - 0.5
    n, k = len(A), len(D)
    z = solve_margins(np.block([[A, D.T], [-D, np.zeros((k, k))]]))[0]
    x, multipliers = (z[:n] / z[:n].sum(), z[n:] / z[:n].sum()) if z[:n].sum() > 1e-9 else (np.zeros(n), np.zeros(k))
    if _certificate(A, D, x, multipliers) > GOOD:
        x, multipliers = _by_linear_program(A, D)
    gain = float((A @ x + D.T @ multipliers).max())
    return Compromise(
        torch.from_numpy(x), 0.5 - gain, 0.5 + gain, max(0.0, float((-D @ x).max())),
        dict(zip(floors, multipliers.tolist(), strict=True)),
    )  # fmt: skip


def _certificate(
    A: Float[np.ndarray, "n n"], D: Float[np.ndarray, "k n"], x: Float[np.ndarray, " n"], y: Float[np.ndarray, " k"]
) -> float:
    """The larger of gap and violation; infinite for None."""
    return max(2 * float((A @ x + D.T @ y).max()), float((-D @ x).max())) if x.sum() > 0 else np.inf


def _by_linear_program(
    A: Float[np.ndarray, "n n"], D: Float[np.ndarray, "k n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " k"]]:
    """``floors`` by HiGHS: the largest s such that ``(x A)_j - s - (y D)_j >= 0`` for all j, over x in K and y >= 0."""
    n, k = len(A), len(D)
    result = linprog(
        np.r_[np.zeros(n + k), -1.0],
        A_ub=np.block([[-A.T, D.T, np.ones((n, 1))], [-D, np.zeros((k, k + 1))]]),
        b_ub=np.zeros(n + k),
        A_eq=np.r_[np.ones(n), np.zeros(k + 1)][None],
        b_eq=[1.0],
        bounds=[(0, None)] * (n + k) + [(None, None)],
        method="highs",
        options=PRECISE,
    )
    if result.x is None:
        raise ArithmeticError(f"HiGHS found no equilibrium above the floors: {result.message}")
    x = result.x[:n].clip(0)
    return x / x.sum(), result.x[n : n + k].clip(0)


def check_feasible(
    names: list[str],
    wins: Float[np.ndarray, "k prompts n"],
    floors: Float[np.ndarray, " k"],
    prompts: Float[np.ndarray, " prompts"],
) -> float:
    """Refuse floors that cannot all be met.

    Args:
        names: the objectives with a floor.
        wins, floors, prompts: see ``largest_slack``.

    Returns:
        The largest slack.

    Raises:
        ValueError: the slack is below 0; the largest feasible floors are given.
    """
    slack, _ = largest_slack(wins, floors, prompts)
    if slack < -1e-9:
        met = ", ".join(
            f"{name}={np.floor(1e4 * (c + slack)) / 1e4:.4f}" for name, c in zip(names, floors, strict=True)
        )
        given = ", ".join(f"{name}={c:g}" for name, c in zip(names, floors, strict=True))
        raise NashwardError(
            f"no policy meets the floors {given} together; lowered evenly, the largest that can be met are {met}"
        )
    return slack


class FloorsGame:
    """Floors as a game that mirror steps play: each player has a policy and charges the opponent for missed floors.

    A player (pi, nu), nu on the simplex of the k floors and "none", earns

    .. math::
        \\pi^\\top A_1 \\pi' + \\Lambda \\sum_m \\nu'_m D_m \\pi - \\Lambda \\sum_m \\nu_m D_m \\pi', \\qquad
        D_{m,y} = P_m(y \\succ \\mu) - c_m,

    which is symmetric with value 0, so any solver can play it against itself: the policy steps on the first objective
    and on Lambda nu D, the multipliers lambda = Lambda nu by multiplicative weights on what the floors lack.
    Its duality gap is the certificate of ``floors`` with these multipliers, plus Lambda times the largest violation;
    ``theory.FloorsAverage`` bounds it for the average of multiplicative weights. A Lambda above the multipliers of the
    equilibrium makes both small; where a policy exceeds all floors by s, they sum to at most 1 / (2 s).

    Args:
        game: the objectives; the first is maximised.
        floors: c_m by the name of an objective, not the first.
        reference: [n] probabilities mu.
        limit: Lambda, the most that the multipliers sum to.

    Raises:
        ValueError: as ``floors``, and a limit that is not positive.

    Source: derived; the multipliers by multiplicative weights as in Freund & Schapire 1999.

    Example:
        >>> from nashward import games
        >>> ladder, opposed = [[0.5, 0.9], [0.1, 0.5]], [[0.5, 0.1], [0.9, 0.5]]
        >>> game = games.MultiObjectiveGame([ladder, opposed], ["helpful", "short"])
        >>> found = games.solve(FloorsGame(game, {"short": 0.4}, [0.5, 0.5]), games.OptimisticMWU(0.2), 4000)
        >>> found.last.policy.round(decimals=4), found.last.shares * 4
        (tensor([0.7502, 0.2498], dtype=torch.float64), tensor([1.0007, 2.9993], dtype=torch.float64))
    """

    total = 0.5  # the sum of both sides: at equilibrium 1/2 for the policy and 0 for the multipliers

    def __init__(self, game: MultiObjectiveGame, floors: Mapping[str, float], reference: Any, limit: float = 4.0):
        if not 0 < limit < float("inf"):
            raise NashwardError(f"the limit of the multipliers is {limit!r}; expected a positive number")
        chosen, c = game.bounds(floors)
        (mu,) = game.tables.players(reference)
        self.game, self.limit = game, limit
        self.names = [*floors]
        self.D: Float[Tensor, "k n"] = (game.P[chosen] @ mu) - c[:, None]
        check_feasible(self.names, (self.D + c[:, None]).numpy()[:, None], c.numpy(), np.ones(1))

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.D.shape[1], len(self.D) + 1)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def device(self) -> torch.device:
        return self.D.device

    def payoffs(self, opponents: Players) -> Players:
        """What each action earns, and what charging each floor to the opponent earns."""
        rho, nu = opponents
        lacking = -self.limit * (rho @ self.D.mT)
        none = torch.zeros_like(lacking[..., :1])
        return rho @ self.game.P[0].mT + self.limit * (nu[..., :-1] @ self.D), torch.cat([lacking, none], -1)

    def players(self, policy: Any) -> Players:
        """``policy``: a pair of policy and shares, or the policy alone, with even shares."""
        if isinstance(policy, tuple | list) and len(policy) == 2 and not isinstance(policy[0], float | int):
            pi, nu = policy
        else:
            pi, nu = policy, torch.full((len(self.D) + 1,), 1 / (len(self.D) + 1), dtype=torch.float64)
        (row,) = self.game.tables.players(in_order("policy", pi, self.game.labels, "action"))
        return row, _policy(nu, len(self.D) + 1, self.device, "division of the multipliers")

    def profile(self, players: Players) -> WithMultipliers:
        return WithMultipliers(*players)

    def multipliers(self, shares: Float[Tensor, " floors"]) -> dict[str, float]:
        """lambda by name of the objective."""
        return dict(zip(self.names, (self.limit * shares[..., :-1]).tolist(), strict=True))

    def __repr__(self) -> str:
        return f"FloorsGame({self.game!r}, {', '.join(self.names)}, limit={self.limit:g})"
