"""Whether floors can be met together, and the largest floors that can."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import block_diag, csr_matrix, hstack, vstack

from ..equilibria.linear_program import PRECISE
from ..shapes import Float


def largest_slack(
    wins: Float[np.ndarray, "k prompts n"], floors: Float[np.ndarray, " k"], prompts: Float[np.ndarray, " prompts"]
) -> tuple[float, Float[np.ndarray, "prompts n"]]:
    """The most by which all floors can be exceeded at once, by a policy with one distribution per prompt.

    .. math::  \\max_\\pi \\min_k \\; E_x P_k(\\pi(\\cdot | x) \\succ \\mu | x) - c_k

    Below 0 the floors cannot all be met; lowered by its size they can.

    Args:
        wins: [k, prompts, n], P_k(y beats the reference) of each response; NaN where it is not known.
        floors: [k], c_k.
        prompts: [prompts], the prompts' weights, which sum to 1.

    Returns:
        The slack, and a policy [prompts, n] that attains it.

    Raises:
        ArithmeticError: HiGHS found no solution; its message is given.

    Source: the project's own linear program.

    Example:
        >>> wins = np.array([[[0.9, 0.5]], [[0.2, 0.5]]])
        >>> slack, policy = largest_slack(wins, np.array([0.6, 0.45]), np.ones(1))
        >>> round(slack, 6), policy.round(3).tolist()
        (-0.014286, [[0.214, 0.786]])
    """
    k, N, n = wins.shape
    unknown = np.isnan(wins).any(0)
    gains = np.where(unknown, 0.0, wins) * prompts[:, None]
    rows = hstack([csr_matrix(-gains.reshape(k, -1)), csr_matrix(np.ones((k, 1)))])
    sums = hstack([block_diag([np.ones((1, n))] * N), csr_matrix((N, 1))])
    played = ~unknown.all(-1)  # a prompt without judgements has no policy
    kept = np.flatnonzero(played)
    upper = np.where(unknown, 0.0, 1.0).reshape(-1)
    result = linprog(
        np.r_[np.zeros(N * n), -1.0],
        A_ub=rows,
        b_ub=-(floors * prompts[played].sum()),
        A_eq=vstack([sums.tocsr()[kept]]),
        b_eq=np.ones(len(kept)),
        bounds=[*((0, high) for high in upper), (None, None)],
        method="highs",
        options=PRECISE,
    )
    if result.x is None:
        raise ArithmeticError(f"HiGHS found no policy for the floors: {result.message}")
    return float(result.x[-1]) / float(prompts[played].sum()), result.x[:-1].reshape(N, n)
