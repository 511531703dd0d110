"""Several tables of win probabilities over the same actions, one per objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.shortened import quoted

from ..forms.game import ConstantSumGame, PreferenceGame
from ..forms.keyed import in_order
from ..forms.payoff_numbers import numbers
from ..shapes import Float


class MultiObjectiveGame:
    """m preference games over the same n actions.

    .. math::  P_{m,ij} = \\Pr(i \\succ j \\text{ under objective } m), \\qquad P_m + P_m^\\top = 1

    It is not a game by itself: what is played depends on how the objectives are combined (``games.objectives``).

    Args:
        P: [m, n, n], each as ``games.PreferenceGame`` takes it.
        names: the objectives' names (default: "0", "1", ...).
        labels: the actions' names, as ``games.PreferenceGame`` takes them.

    Attributes:
        tables: a batch of m preference games.
        names: the objectives' names.

    Raises:
        ValueError: another shape, no objective, names that are repeated or not m, an entry that ``PreferenceGame``
            refuses (it is named by its objective's number).

    Source: vector-valued games, Blackwell 1956; several preferences, arXiv 2105.01850.

    Example:
        >>> from nashward import games
        >>> ladder = [[0.5, 0.9], [0.1, 0.5]]
        >>> game = MultiObjectiveGame([ladder, [[0.5, 0.2], [0.8, 0.5]]], names=["helpful", "short"])
        >>> game.win_rates([1.0, 0.0], [0.5, 0.5])
        {'helpful': 0.7, 'short': 0.35}
    """

    def __init__(self, P: Any, names: Sequence[str] | None = None, labels: Sequence[str] | None = None):
        table = P if isinstance(P, Tensor) else torch.as_tensor(numbers(P).copy())
        if table.ndim != 3 or not len(table):
            raise NashwardError(
                f"several objectives are tables [m, n, n] over the same actions, got shape {[*table.shape]}"
            )
        self.tables = PreferenceGame(table.to(torch.float64), labels)
        self.names = tuple(map(str, names)) if names is not None else tuple(map(str, range(len(table))))
        if len(self.names) != len(table) or len(set(self.names)) != len(table):
            raise NashwardError(f"expected {len(table)} distinct names of objectives, got {', '.join(self.names)}")

    @property
    def P(self) -> Float[Tensor, "m n n"]:
        return self.tables.P

    @property
    def labels(self) -> tuple[str, ...]:
        return self.tables.labels

    def win_rates(self, policy: Any, opponent: Any) -> dict[str, float]:
        """P_m(policy beats opponent) by objective; both [n] probabilities."""
        (p,), (q,) = self.tables.players(policy), self.tables.players(opponent)
        return dict(zip(self.names, (p @ (self.P @ q).mT).tolist(), strict=True))

    def weighted(self, weights: Any) -> PreferenceGame:
        """The game of the weighted sum, ``sum_m w_m P_m``.

        Args:
            weights: one per objective, in order or by name; not negative, divided by their sum.

        Raises:
            ValueError: weights that are negative, all 0, or not one per objective.
        """
        w = torch.as_tensor(in_order("weights", weights, self.names, "objective"), dtype=torch.float64)
        if w.shape != (len(self.names),) or not bool((w >= 0).all()) or not 0 < float(w.sum()) < torch.inf:
            raise NashwardError(
                f"weights {w.tolist()} of the objectives {', '.join(self.names)}: expected one each, at least 0, "
                "not all 0"
            )
        return PreferenceGame(torch.einsum("m,mij->ij", w / w.sum(), self.P), self.labels)

    def majority(self) -> PreferenceGame:
        """The game of the majority: each objective votes for i with probability P_m,ij; a coin decides ties."""
        return PreferenceGame(most_of(self.P, 1 - self.P), self.labels)

    def against_all(self) -> ConstantSumGame:
        """The game of a policy against an adversary that chooses an objective and a reply, [n, m n]."""
        m, n = len(self.names), self.P.shape[-1]
        replies = [f"{name}: {label}" for name in self.names for label in self.labels]
        return ConstantSumGame(self.P.movedim(0, 1).reshape(n, m * n), 1.0, self.labels, replies)

    def number(self, name: str) -> int:
        """The number of an objective.

        Raises:
            ValueError: no objective has that name.
        """
        if name not in self.names:
            raise NashwardError(f"there is no objective {quoted(name, 60)}; there are: {', '.join(self.names)}")
        return self.names.index(name)

    def bounds(self, floors: Mapping[str, float]) -> tuple[list[int], Float[Tensor, " k"]]:
        """The objectives that have a floor, by number, and their floors [k], checked.

        Raises:
            ValueError: no floor, a floor on the first objective, which is maximised, or one that is not a probability.
        """
        if not floors:
            raise NashwardError(f"expected a floor for one of the objectives {', '.join(self.names[1:])}; got none")
        for name, floor in floors.items():
            if self.number(name) == 0:
                raise NashwardError(f"{name} is the first objective, which is maximised: give floors for the others")
            if not 0 <= floor <= 1:
                raise NashwardError(f"the floor of {name} is {floor!r}; expected a win rate in [0, 1]")
        return [self.number(name) for name in floors], torch.tensor([*floors.values()], dtype=torch.float64)

    def __repr__(self) -> str:
        return f"MultiObjectiveGame({', '.join(self.names)}; {self.P.shape[-1]} actions)"


def most_of(win: Any, lose: Any) -> Any:
    """The probability that more than half of m independent votes are wins, plus half the probability of a tie.

    Args:
        win, lose: [m, ...], the probability of each vote, and 1 minus it; numpy or torch.

    Returns:
        [...], numpy or torch as given.

    Source: Condorcet 1785.

    Example:
        >>> win = torch.tensor([[0.9], [0.9], [0.1]])
        >>> most_of(win, 1 - win)
        tensor([0.8280])
    """
    votes = [0 * win[0] + 1]  # P(k wins among the votes counted so far), for each k
    for won, lost in zip(win, lose, strict=True):
        padded = [0 * won, *votes, 0 * won]
        votes = [padded[k + 1] * lost + padded[k] * won for k in range(len(votes) + 1)]
    half = len(win) // 2
    most = sum(votes[half + 1 :])
    return most + votes[half] / 2 if len(win) % 2 == 0 else most
