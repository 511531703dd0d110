"""A solver that also plays against fixed opponents."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

from nashward.errors import NashwardError
from nashward.games.driver import require_steps
from nashward.games.opponents import opponent
from nashward.games.policy import Blend, Policy
from nashward.games.step import Solver, Step, is_finite, steps_of


@dataclass(frozen=True)
class FixedOpponents:
    """A solver whose every opponent is mixed with fixed opponents.

    .. math::  \\rho_t \\to (1 - c) \\, \\rho_t + \\sum_k c_k \\, q_k, \\qquad c = \\sum_k c_k

    where rho_t is the solver's opponent and q_k the k-th fixed opponent. In self-play this is the same solver
    on the symmetric game in which the margin over the fixed opponents also counts,

    .. math::  A'(y, y') = (1 - c) A(y, y') + \\sum_k c_k (P(y \\succ q_k) - P(y' \\succ q_k)), \\quad A = P - 1/2,

    whose Nash equals that of P only if no fixed opponent can be exploited: with c = 1 it is a best response to the
    fixed opponents. The average is over what the solver itself played.

    The executor holds the opponents: ``games.solve(..., opponents={"rival": probabilities})`` on a table, and
    ``llm.SelfPlay(..., opponents={"rival": "answers.jsonl"})`` with stored responses for a language model.

    Args:
        solver: a mirror-step solver.
        opponents: the weight c_k of each fixed opponent, by name; each above 0, together at most 1.

    Raises:
        ValueError: no opponents, a weight that is not positive, weights that sum to more than 1, a solver of tables
            only.

    See also:
        ``games.opponents.opponent``, a handle on a fixed opponent for a solver of your own.

    Example:
        >>> from nashward import games
        >>> solver = games.FixedOpponents(games.OptimisticMWU(0.5), {"rock": 0.2})
        >>> games.solve(games.zoo.rock_paper_scissors(), solver, 4000, opponents={"rock": [1, 0, 0]}).last * 12
        tensor([2.0000, 5.0000, 5.0000], dtype=torch.float64)
    """

    solver: Solver
    opponents: Mapping[str, float]

    def __post_init__(self) -> None:
        require_steps(self.solver)
        weights = list(self.opponents.values())
        if not weights or not all(is_finite(w) and w > 0 for w in weights) or sum(weights) > 1 + 1e-9:
            raise NashwardError(
                f"the weights of the opponents must each be above 0 and together at most 1, got {dict(self.opponents)}"
            )

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        fixed = sum((weight * opponent(name) for name, weight in self.opponents.items()), Blend({}))
        remaining = 1 - sum(self.opponents.values())
        play = steps_of(self.solver, x, reference)
        step = next(play)
        while True:
            if step.opponent is not None:
                step = replace(step, opponent=remaining * step.opponent + fixed)
            step = play.send((yield step))
