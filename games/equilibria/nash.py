"""``nash``: an exact equilibrium of any form of game, with its gap recomputed from the answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nashward.errors import NashwardError

from ..compiled.accelerator import ACCELERATED
from ..forms.contextual import ContextualGame
from ..forms.game import ConstantSumGame, PreferenceGame, Profile, check_game, check_table
from ..forms.implicit import ImplicitGame
from ..forms.low_rank import LowRankGame
from ..forms.symmetrize import join, split, symmetrised
from ..shapes import Float, Int
from ..solvers.schedule import check_whole
from . import selection
from .certificates.decision import PROVED, Decision, decide, from_guess
from .certificates.enclosure import UNIT, proved_unique
from .double_oracle import double_oracle
from .face import Face, approximate_face, certified, face_of_margins
from .polish import GAP, GOOD
from .rational import Rational, as_typed, certify, fractions, typed_margins
from .selection import solve_margins, solve_one
from .two_players.pairs import Pair, exact_pair, exact_pairs, polish_pair

SURVEYED = 400  # the most actions for which an interior point surveys the equilibria, where nothing else decides
COMPUTED = 2.0**-46  # rounding of payoffs in a game without a table, relative to the largest
Point = Callable[[Face], Float[np.ndarray, " n"]]  # vertex, centre or maximum_entropy of games.equilibria


class Equilibrium:
    """A Nash equilibrium (of a symmetric game: the maximal lottery, or von Neumann winner).

    Args:
        policy: tensors as in the attribute, or float64 arrays for a single game; a pair for an ``n x m`` game.
        decisions: called once, when ``unique`` is first read: a ``Decision`` for each game of the batch.
        span: [...], the span of the payoffs.

    Attributes:
        policy: [..., n] probabilities; a ``Profile`` (row, column) for an ``n x m`` game.
        value: [...], the row player's payoff at equilibrium; 1/2 in a preference game.
        gap: [...], the duality gap, recomputed from the policy.
        support: bool, shaped as ``policy``: the actions that are played.

    Example:
        >>> from nashward import games
        >>> equilibrium = games.nash(games.zoo.comal_cycle())
        >>> float(equilibrium.value), equilibrium.support.tolist(), bool(equilibrium.gap <= 1e-12)
        (0.5, [True, True, True], True)
    """

    def __init__(self, policy: Any, value: Any, gap: Any, decisions: Callable[[], list[Decision]], span: Any = 1.0):
        # arrays and numbers become tensors on access: for small games that takes longer than the solution
        self._policy = policy
        self._value = value
        self._gap = gap
        self._span = span
        self._decisions = decisions

    def __getstate__(self) -> dict[str, Any]:
        decided = self.decisions  # ``_decisions`` is a function of the game's table, which pickle does not take
        return {**self.__dict__, "decisions": decided, "_decisions": None}

    @property
    def policy(self) -> Any:
        held = self._policy
        if type(held) is np.ndarray:
            self._policy = held = torch.from_numpy(held)
        elif type(held) is tuple:
            self._policy = held = Profile(torch.from_numpy(held[0]), torch.from_numpy(held[1]))
        return held

    def numpy(self) -> Any:
        """``policy`` as a float64 array [..., n] on the host; for an ``n x m`` game a pair (row, column) of arrays.

        As with ``Tensor.numpy``, an array shares its memory with the tensor on the host. For a small game this is the
        quickest way to the numbers.

        Example:
            >>> from nashward import games
            >>> games.nash(games.zoo.rock_paper_scissors()).numpy()
            array([0.33333333, 0.33333333, 0.33333333])
        """
        held = self._policy
        if type(held) is tuple or type(held) is np.ndarray:
            return held
        return tuple(map(_numpy, held)) if isinstance(held, Profile) else _numpy(held)

    @property
    def value(self) -> Float[Tensor, "*batch"]:
        return _tensor(self._value)

    @property
    def gap(self) -> Float[Tensor, "*batch"]:
        return _tensor(self._gap)

    @property
    def status(self) -> str:
        """``ok`` where the gap is at most 1e-12 of the payoffs' span, else what was reached; for a batch the worst."""
        worst = float((self.gap / _tensor(self._span).clamp_min(1e-300)).max())
        if worst <= GAP:
            return "ok"
        return f"reached a gap of {worst:.1e} of the payoffs' span, expected at most {GAP:.0e}"

    @property
    def support(self) -> Any:
        if isinstance(self.policy, Profile):
            return Profile(self.policy.row > 0, self.policy.column > 0)
        return self.policy > 0

    @cached_property
    def decisions(self) -> list[Decision]:
        """What is known about other equilibria, for each game of the batch."""
        return self._decisions()

    @property
    def unique(self) -> Any:
        """bool [...], whether there is no other equilibrium: True is proved, False has another one in ``other``.

        None where double precision cannot tell (``uniqueness`` says why); for a batch with such a game an array of
        True, False and None. True holds for every table that rounds to this one, False for this table without rounding.
        """
        found = [decision.unique for decision in self.decisions]
        if None not in found:
            return torch.tensor(found).reshape(self.gap.shape)
        return self._shaped(found)

    @property
    def uniqueness(self) -> Any:
        """How ``unique`` is known, or why not, in words; for a batch an array [...]."""
        return self._shaped([decision.reason for decision in self.decisions])

    @property
    def other(self) -> Any:
        """Another equilibrium, in the form of ``policy``, if ``unique`` is False, else None; for a batch an array."""
        found: list[Any] = []
        for decision in self.decisions:
            if decision.other is None:
                found.append(None)
            else:
                row, column = map(torch.from_numpy, decision.other)
                found.append(Profile(row, column) if isinstance(self.policy, Profile) else column)
        return self._shaped(found)

    def _shaped(self, found: list[Any]) -> Any:
        if not self.gap.shape:
            return found[0]
        array = np.empty(len(found), dtype=object)
        array[:] = found
        return array.reshape(self.gap.shape)

    def __repr__(self) -> str:
        if self.gap.numel() > 1:
            shapes = [list(p.shape) for p in (self.policy if isinstance(self.policy, Profile) else (self.policy,))]
            policies = " and ".join(map(str, shapes))
            return (
                f"Equilibrium(batch {list(self.gap.shape)}, policy {policies}, largest gap {float(self.gap.max()):.3g})"
            )
        return f"Equilibrium(policy={self.policy}, value={self.value}, gap={self.gap}, support={self.support})"


def nash(
    game: PreferenceGame | ConstantSumGame | LowRankGame | ImplicitGame | ContextualGame, point: Point | None = None
) -> Equilibrium:
    """An equilibrium with a duality gap of at most 1e-12 of the payoffs' span, or a ``status`` that says what it has.

    .. math::  x \\ge 0, \\quad 1^\\top x = 1, \\quad (P - 1/2) x \\le 0

    The method depends on the form and size of the game (``games/equilibria/selection.py``): a closed form, principal
    pivoting, a double oracle, an interior point, and HiGHS where those give up. An ``n x m`` game is solved by the
    simplex method, or where that gives up, as a symmetric one (``games.forms.symmetrize.symmetrised``).

    Args:
        game: a game, or a batch of games. A float32 table is taken as exact, and solved in float64.
        point: which equilibrium, where there are several: ``games.equilibria.vertex``, ``games.equilibria.centre`` or
            ``games.equilibria.maximum_entropy``. None: the first one found. Needs a table.

    Raises:
        ValueError: a ``point`` for a game that has no table.
        TypeError: not a game, or a point that is no function.

    See also:
        ``nash_fractions`` for small tables in exact arithmetic, ``face`` for all equilibria, ``regularised_nash`` for
        the KL-regularised game.

    Source: von Neumann's minimax theorem; the files of ``games/equilibria`` name theirs.

    Example:
        >>> from nashward import games
        >>> equilibrium = games.nash(games.zoo.comal_cycle())
        >>> equilibrium.policy * 11, equilibrium.unique
        (tensor([4.0000, 3.0000, 4.0000], dtype=torch.float64), tensor(True))
    """
    table: Any
    if not (point is None or callable(point)):
        raise TypeError(f"a point is a function, as games.equilibria.centre, got {point!r}")
    if isinstance(game, PreferenceGame):
        table = game.single_table
        if table is not None and point is None:
            lottery, _, reached = solve_one(table, 0.5)
            return Equilibrium(lottery, 0.5, reached, lambda: _decide(table[None], lottery[None]))
    elif isinstance(game, ConstantSumGame):
        table = game.single_table
        if table is not None and point is None and (found := exact_pair(table, solve_one)) is not None:
            policies, paid, reached, span = found
            return Equilibrium(policies, paid, reached, lambda: _decide_two(game, policies), span)
        return _two_players(game, point)
    elif isinstance(game, (LowRankGame, ImplicitGame)):
        return _implicit(game, point)
    check_game(game)
    sizes = game.responses if isinstance(game, ContextualGame) else None
    P, shape = (game.game if isinstance(game, ContextualGame) else game).P.detach(), game.batch_shape
    tables = P.reshape(-1, *P.shape[-2:])
    x, _, gap = selection.solve_batch(tables, 0.5, sizes)
    vertex = x
    if point is not None:
        x = _chosen(tables, x, point, sizes)
        gap = 2 * ((tables.to(torch.float64) @ x[..., None])[..., 0] - 0.5).amax(-1)
    value = torch.full(shape, 0.5, dtype=torch.float64, device=P.device)
    policy = x.reshape(*shape, -1)
    return Equilibrium(policy, value, gap.reshape(shape), lambda: _decide(_numpy(tables), _numpy(vertex)))


def face(game: PreferenceGame | ConstantSumGame) -> Face:
    """The set of all equilibria of one game: the actions played in some of them, its dimension, and points on it.

    Payoffs that round fractions with small denominators, such as tenths, are read as these.

    Args:
        game: a single game; for an ``n x m`` one the face is that of ``symmetrised(game)``.

    Raises:
        ValueError: a batch of games.
        TypeError: not a game, or a game without a table.

    Source: Gale, Kuhn & Tucker 1950; Goldman & Tucker 1956.

    Example:
        >>> from nashward import games
        >>> twice = np.kron(games.zoo.rock_paper_scissors().P, np.ones((2, 2)))  # every action has a twin
        >>> games.face(games.PreferenceGame(twice)).dimension
        3
    """
    check_table(game)
    if game.batch_shape:
        raise NashwardError(f"the face is of one game, got a batch of shape {tuple(game.batch_shape)}")
    if not isinstance(game, ConstantSumGame):
        return face_of_margins(_typed_margins(game.P))
    whole = as_typed(_numpy(game.payoff))
    game = game if whole is None else ConstantSumGame(whole, 0.0)
    near = approximate_face(_margins(symmetrised(game).P))
    decision = _decide_two(game, split(game, torch.from_numpy(near.interior)))[0]
    if decision.dimension is None:  # a vertex may show what the middle does not
        decision = _decide_two(game, nash(game).policy)[0]
    if decision.face is None:
        return certified(near, decision.dimension, decision.reason, None, [])
    both = np.r_[decision.face.rows, decision.face.columns, True]
    points = [join(game, *map(torch.from_numpy, pair)).numpy() for pair in decision.face.points]
    return certified(near, decision.dimension, decision.reason, both, points)


def nash_fractions(game: PreferenceGame, denominator: int = 1000) -> Rational:
    """The equilibrium of a small game as fractions, with a gap of exactly 0; the payoffs must be fractions.

    The vertex that ``nash`` finds is solved again without rounding, and checked against every action.

    Args:
        game: a single preference game.
        denominator: the largest denominator that the payoffs may have.

    Raises:
        ValueError: a batch of games, a payoff that is no such fraction (the entry is named), a denominator below 1.
        TypeError: not a preference game.
        ArithmeticError: the vertex in fractions is no equilibrium.

    Source: the project's own: Gauss-Jordan elimination in fractions.

    Example:
        >>> from nashward import games
        >>> [str(p) for p in games.nash_fractions(games.zoo.comal_cycle()).policy]
        ['4/11', '3/11', '4/11']
    """
    check_table(game)
    if not isinstance(game, PreferenceGame):
        raise TypeError(
            f"fractions are of a PreferenceGame, got {type(game).__name__}; of an n x m game nashward solve prints them"
        )
    if game.batch_shape:
        raise NashwardError(f"fractions are of one game, got a batch of shape {tuple(game.batch_shape)}")
    check_whole("denominator", denominator)
    P = game.P.detach().cpu().numpy().astype(np.float64)
    table = fractions(P, int(denominator))
    clean = np.array([[float(p) for p in row] for row in table]) - 0.5
    return certify(table, solve_margins((clean - clean.T) / 2)[0])


def _two_players(game: ConstantSumGame, point: Point | None) -> Equilibrium:
    if point is None and game.payoff.device.type == "cpu" and ACCELERATED:
        many = exact_pairs(np.ascontiguousarray(_numpy(game.payoff).reshape(-1, *game.sizes)), solve_one)
        if None not in many:
            return _of_pairs(game, [each for each in many if each is not None])
    symmetric = nash(symmetrised(game), point)
    pair = split(game, symmetric.policy)
    U = game.payoff.detach().to(torch.float64)
    span = U.amax((-2, -1)) - U.amin((-2, -1))
    rough = (_gap_of(U, pair) > GOOD * span).reshape(-1)
    for k in rough.nonzero()[:, 0].tolist():
        one = U.reshape(-1, *game.sizes)[k].cpu().numpy()
        for policies, better in zip(
            pair, polish_pair(one, *(p.reshape(len(rough), -1)[k].cpu().numpy() for p in pair)), strict=True
        ):
            policies.reshape(len(rough), -1)[k] = torch.from_numpy(better)
    row = (U @ pair.column[..., None])[..., 0]
    vertices = pair if point is None else split(game, nash(symmetrised(game)).policy)
    return Equilibrium(pair, (pair.row * row).sum(-1), _gap_of(U, pair), lambda: _decide_two(game, vertices), span)


def _of_pairs(game: ConstantSumGame, found: list[Pair]) -> Equilibrium:
    """The equilibrium of a batch of games from the pairs of each game."""
    policies, *numbers = zip(*found, strict=True)
    row, column = (torch.from_numpy(np.array(side)) for side in zip(*policies, strict=True))
    value, gap, span = (torch.from_numpy(np.array(each)).reshape(game.batch_shape) for each in numbers)
    pair = Profile(row.reshape(*game.batch_shape, -1), column.reshape(*game.batch_shape, -1))
    return Equilibrium(pair, value, gap, lambda: _decide_two(game, pair), span)


def _gap_of(U: Float[Tensor, "*batch n m"], pair: Profile) -> Float[Tensor, "*batch"]:
    row = (U @ pair.column[..., None])[..., 0]
    return row.amax(-1) - (pair.row[..., None, :] @ U)[..., 0, :].amin(-1)


def _decide(P: Float[np.ndarray, "games n n"], x: Float[np.ndarray, "games n"]) -> list[Decision]:
    """What is known about equilibria of preference games other than x."""
    A = P - 0.5
    decisions = decide(A, x, x, skew=True)
    for k, decision in enumerate(decisions):
        if decision.unique is None and decision.dimension is None and A.shape[-1] <= SURVEYED:
            near = _middle(A[k])
            if near is not None:
                decisions[k] = from_guess(A[k], (x[k], x[k]), (near, near), skew=True) or decision
    return decisions


def _decide_two(game: ConstantSumGame, pair: tuple[Any, Any]) -> list[Decision]:
    """What is known about equilibria of ``n x m`` games other than the pair (tensors or arrays)."""
    U = _numpy(game.payoff).reshape(-1, *game.sizes)
    row, column = (_numpy(torch.as_tensor(side)).reshape(len(U), -1) for side in pair)
    decisions = decide(U, row, column)
    for k, decision in enumerate(decisions):
        if decision.unique is None and decision.dimension is None and sum(game.sizes) <= SURVEYED:
            one = ConstantSumGame(U[k], game.total)
            near = _middle(_margins(symmetrised(one).P))
            if near is not None:
                middle = split(one, torch.from_numpy(near))
                others = middle.row.numpy(), middle.column.numpy()
                decisions[k] = from_guess(U[k], (row[k], column[k]), others, skew=False) or decision
    return decisions


def _middle(A: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"] | None:
    """A point in the middle of the face, as double precision finds it; None where it finds none."""
    try:
        return approximate_face(A).interior
    except ArithmeticError:
        return None


def _implicit(game: LowRankGame | ImplicitGame, point: Point | None) -> Equilibrium:
    if game.batch_shape:
        raise NashwardError(f"a game without a table is solved alone, got a batch of shape {tuple(game.batch_shape)}")
    if point is not None:
        raise NashwardError(f"{game!r} has no table, so its equilibria cannot be surveyed: leave point out")
    device, n = game.device, game.sizes[0]
    tolerance = max(GOOD / 4, game.precision)

    def on_device(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device)

    restricted = double_oracle(
        margins=lambda actions, weights: game.margins(on_device(actions), on_device(weights)).cpu().numpy(),
        rows=lambda actions, columns: game.rows(on_device(actions), on_device(columns)).cpu().numpy(),
        solve=solve_margins,
        tolerance=tolerance,
        most=n,
    )
    policy = torch.zeros(n, dtype=torch.float64, device=device)
    policy[on_device(restricted.actions)] = on_device(restricted.weights)
    gap = 2 * float(restricted.margins.max())
    half, gap_ = torch.tensor([0.5, gap], dtype=torch.float64, device=device)
    return Equilibrium(policy, half, gap_, lambda: [_without_table(game, restricted.actions, restricted.weights)])


def _without_table(
    game: LowRankGame | ImplicitGame, actions: Int[np.ndarray, " k"], weights: Float[np.ndarray, " k"]
) -> Decision:
    """Whether a game without a table has only this equilibrium; computes the rows of the actions that it plays."""
    played = torch.from_numpy(actions[weights > 0]).to(game.device)
    others = torch.ones(game.sizes[0], dtype=torch.bool, device=game.device)
    others[played] = False
    order = torch.cat([played, others.nonzero()[:, 0]])
    U = -_numpy(game.rows(played, order).mT[None])  # the columns of what is played, by skewness
    rows = (np.arange(len(order)) < len(played))[None]
    error = np.abs(U).max((-2, -1)) * COMPUTED
    if bool(proved_unique(U, rows, np.ones((1, len(played)), dtype=bool), error)[0]):
        return PROVED
    return Decision(None, None, "double precision cannot tell, and without a table no other equilibrium is sought")


def _chosen(
    tables: Float[Tensor, "games n n"],
    x: Float[Tensor, "games n"],
    point: Point,
    sizes: Int[Tensor, " games"] | None,
) -> Float[Tensor, "games n"]:
    x = x.clone()
    played = _numpy(x) > 0
    proved = proved_unique(_numpy(tables) - 0.5, played, played, np.full(len(x), UNIT / 2), skew=True)
    for game in np.flatnonzero(~proved).tolist():
        n = tables.shape[-1] if sizes is None else int(sizes[game])
        chosen = point(face_of_margins(_typed_margins(tables[game, :n, :n])))
        x[game, :n] = torch.from_numpy(chosen).to(x)
    return x


def _numpy(values: Float[Tensor, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return values.detach().cpu().numpy().astype(np.float64, copy=False)


def _margins(table: Float[Tensor, "n n"]) -> Float[np.ndarray, "n n"]:
    return table.detach().cpu().numpy().astype(np.float64) - 0.5


def _typed_margins(table: Float[Tensor, "n n"]) -> Float[np.ndarray, "n n"]:
    """The margins, up to scale, of the fractions that the probabilities round."""
    whole = typed_margins(_numpy(table))
    return _margins(table) if whole is None else whole


def _tensor(values: Any) -> Float[Tensor, "..."]:
    return torch.as_tensor(values, dtype=torch.float64)
