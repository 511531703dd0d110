"""How many products of table and vector an iteration of a solver takes, by which iterations are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def products_of_an_iteration(game: Any, solver: Any, start: Any = None, iterations: int = 2) -> int:
    """How often an iteration of a solver looks at the payoffs, counted in its second one (in the first of one alone).

    Args:
        game: that it plays.
        solver: of tables only, or of mirror steps.
        start: as in ``games.solve``.
        iterations: that the run has.

    Example:
        >>> from nashward import games
        >>> game = games.zoo.comal_cycle()
        >>> [products_of_an_iteration(game, one()) for one in (games.MWU, games.ExtraGradient, games.ProximalPoint)]
        [1, 2, 50]
    """
    from nashward.games.driver import drive  # brings torch
    from nashward.games.executor import TableExecutor
    from nashward.games.solvers.tables_only.base import as_solver

    tables = TableExecutor(game)
    counts = [0]

    def count(step: Any, policy: Any) -> bool:
        counts.extend([tables.rounds] * step.is_iterate)
        return False

    policy = tables.policy(start)
    drive(as_solver(solver, tables), policy, policy, tables.execute, count, min(iterations, 2))
    return counts[-1] - counts[-2]


def unequal(products: Sequence[tuple[str, str, int]]) -> str | None:
    """What to say of solvers whose iterations are not equally much; None where they are.

    Args:
        products: of each solver its kind, its name with settings, which is used where one kind has several counts, and
            the products of an iteration.

    Example:
        >>> unequal([("MWU", "MWU(0.1)", 1), ("ProximalPoint", "ProximalPoint()", 50), ("MWU", "MWU(0.2)", 1)])
        'an iteration is 50 products of table and vector for ProximalPoint, 1 for MWU'
        >>> unequal([("MWU", "MWU(0.1)", 1), ("INPO", "INPO()", 1)])
    """
    counts: dict[str, set[int]] = {}
    for kind, _, count in products:
        counts.setdefault(kind, set()).add(count)
    of: dict[int, dict[str, None]] = {}
    for kind, name, count in products:
        of.setdefault(count, {})[kind if len(counts[kind]) == 1 else name] = None
    if len(of) < 2:
        return None
    (most, first), *others = ((count, ", ".join(of[count])) for count in sorted(of, reverse=True))
    rest = "".join(f", {count} for {names}" for count, names in others)
    return f"an iteration is {most} products of table and vector for {first}{rest}"
