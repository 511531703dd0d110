"""Tables of payoffs: as a heat map beside the equilibrium, and as a graph of who beats whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nashward.errors import NashwardError

from ..equilibria.nash import Equilibrium
from ..forms.game import ConstantSumGame, PreferenceGame, Profile
from ..measures import most_played_first, shown_gap, shown_unique
from ..shapes import Float
from .appearance import COLOURS, as_label, drawn_on, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


NAMED = 30  # actions of a table: the names of more would lie over each other


def cycle_graph(
    game: PreferenceGame, *, title: str = "", axes: Axes | None = None, order: Sequence[int] | None = None
) -> Figure:
    """Who beats whom: an arrow from each winner to the loser, the wider the larger the margin; ties have none.

    Actions stand in a ring clockwise from the top, by default in the order of their mean win rate, the best first.
    Arrows against that order (upsets, without which there is no cycle) are in the second colour and dashed, with a
    legend where there are any.

    Args:
        game: a single game.
        order: the numbers of the actions in another order; ``payoff_table`` takes the same.
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: a batch of games, an order that does not list each action once.
        TypeError: not a preference game.
    """
    if not isinstance(game, PreferenceGame):
        raise TypeError(
            f"who beats whom is drawn for a PreferenceGame, got {type(game).__name__}; for an n x m game take "
            "games.plots.payoff_table"
        )
    if game.batch_shape:
        raise NashwardError(f"the picture shows one game, got a batch of shape {tuple(game.batch_shape)}")
    figure, axes = drawn_on(axes, 5.2, 5.0)
    P, n = game.P.cpu(), game.sizes[0]
    with_order: dict[str, Any] = {"color": COLOURS[0], "linestyle": "-"}
    against: dict[str, Any] = {"color": COLOURS[1], "linestyle": "--"}
    upsets = False
    told = "clockwise from the top" + ", by mean win rate" * (order is None)
    order = _ordered(order, P.mean(-1).argsort(descending=True, stable=True).tolist())
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    place = {action: np.array([np.cos(t), np.sin(t)]) for action, t in zip(order, angle, strict=True)}
    for rank, i in enumerate(order):
        for other, j in enumerate(order):
            margin = float(P[i, j]) - 0.5
            if margin > 0:
                upsets |= rank > other
                style = against if rank > other else with_order
                arrow = {"arrowstyle": "-|>", "linewidth": 0.5 + 4 * margin, "shrinkA": 14, "shrinkB": 14, **style}
                axes.annotate("", xy=tuple(place[j]), xytext=tuple(place[i]), arrowprops=arrow)
        x, y = place[i]
        axes.text(x, y, as_label(game.labels[i]), ha="center", va="center", fontsize=9,
                  bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "black"})  # fmt: skip
    axes.set(title=title, aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.25, 1.25))
    axes.axis("off")
    if upsets:
        from matplotlib.lines import Line2D

        kinds = (("beats a later one", with_order), ("upset: beats an earlier one", against))
        lines = [Line2D([], [], label=label, **style) for label, style in kinds]
        axes.legend(
            handles=lines,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.02),
            ncols=2,
            fontsize=8,
            title=told,
            title_fontsize=8,
        )
    return figure


def _heat(
    axes: Axes, table: Float[np.ndarray, "n m"], names: Sequence[Sequence[str]], figure: Figure, form: str, total: float
) -> None:
    """A heat map, white at half of the total; for probabilities the range is 0 to 1."""
    middle = total / 2
    reach = 0.5 if form == ".2f" else float(np.abs(table - middle).max()) or 1.0
    image = axes.imshow(table, cmap="RdBu", vmin=middle - reach, vmax=middle + reach)
    _ticks(axes, *names)
    if max(table.shape) <= 12:
        for i, row in enumerate(table):
            for j, value in enumerate(row):
                dark = abs(value - middle) > 0.66 * reach
                axes.text(j, i, f"{value:{form}}", ha="center", va="center", fontsize=7, color="w" if dark else "k")
    figure.colorbar(image, ax=axes, shrink=0.7)


def _ordered(order: Sequence[int] | None, usual: list[int]) -> list[int]:
    if order is None:
        return usual
    if sorted(order) != list(range(len(usual))):
        raise NashwardError(f"an order has each of the actions 0 to {len(usual) - 1} once, got {list(order)}")
    return list(order)


def _check_equilibrium(equilibrium: Equilibrium, game: PreferenceGame | ConstantSumGame) -> None:
    if not isinstance(equilibrium, Equilibrium):
        raise TypeError(f"expected the equilibrium that games.nash(game) gives, got {type(equilibrium).__name__}")
    policy = equilibrium.policy
    shapes = [tuple(own.shape) for own in (policy if isinstance(policy, Profile) else (policy,))]
    expected = [(n,) for n in (game.sizes[:1] if isinstance(game, PreferenceGame) else game.sizes)]
    if shapes != expected:
        raise NashwardError(
            f"the equilibrium is of another game: its probabilities have the shapes {shapes}, those of this game's are "
            f"{expected}; give games.nash(game)"
        )


def payoff_table(
    game: PreferenceGame | ConstantSumGame,
    equilibrium: Equilibrium,
    *,
    title: str = "",
    order: Sequence[int] | None = None,
) -> Figure:
    """The table as a heat map, and beside it the equilibrium's probabilities; by default most played first.

    Args:
        game: a single game; for an ``n x m`` one the row player's payoffs and both players' probabilities are shown.
        equilibrium: the game's equilibrium, as ``games.nash`` gives it.
        title: above the picture.
        order: the numbers of a preference game's actions in another order; ``cycle_graph`` takes the same.

    Raises:
        ValueError: a batch of games, an equilibrium of another game, an order that has not every action once, an order
            of an ``n x m`` game.
        TypeError: a game without a table, or no ``Equilibrium``.
    """
    if not isinstance(game, PreferenceGame | ConstantSumGame):
        raise TypeError(f"expected a game with a table of payoffs, got {type(game).__name__}")
    if game.batch_shape:
        raise NashwardError(f"the picture shows one game, got a batch of shape {tuple(game.batch_shape)}")
    _check_equilibrium(equilibrium, game)
    if isinstance(game, PreferenceGame):
        what, form, table = "P(row beats column)", ".2f", game.P
        sides = [("Nash", game.labels, equilibrium.policy)] * 2
    else:
        what, form, table = "payoff of the row player", ".3g", game.payoff
        pair = equilibrium.policy
        sides = [("row player", game.row_labels, pair.row), ("column player", game.column_labels, pair.column)]
    if order is not None and isinstance(game, ConstantSumGame):
        raise NashwardError("an order is for the actions of a preference game; an n x m game has two sets of actions")
    orders = [_ordered(order, most_played_first(policy)) for _, _, policy in sides]
    names = [[as_label(labels[i]) for i in own] for (_, labels, _), own in zip(sides, orders, strict=True)]
    unique = equilibrium.unique
    several = f" ({shown_unique(unique)})" if unique is not None and not unique else ""
    shown = sides[:1] if isinstance(game, PreferenceGame) else sides
    n, m = len(names[0]), len(names[1])
    width, height = min(4.0 + 0.7 * max(n, m), 12) + 2.4 * (len(shown) - 1), min(2.2 + 0.32 * max(n, m), 9)
    figure, (left, *rights) = new_figure(width, height, 1 + len(shown))
    _heat(left, table.cpu()[orders[0]][:, orders[1]].numpy(), names, figure, form, game.total)
    left.set_title(title or what, fontsize=10, wrap=True)
    for right, (player, _, policy), own_order, own in zip(rights, shown, orders, names, strict=False):
        right.barh(range(len(own)), policy.cpu()[own_order].numpy(), color=COLOURS[0])
        right.set_title(f"{player}{several}\ngap {shown_gap(equilibrium.gap)}", fontsize=10)
        right.set(xlabel="probability")
        _named(right.yaxis, own)
        right.invert_yaxis()
    return figure


def _ticks(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    _named(axes.xaxis, columns, rotation=60, ha="right", fontsize=8)
    _named(axes.yaxis, rows, fontsize=8)


def _named(axis: Axis, names: Sequence[str], **style: Any) -> None:
    """The names at their places, of many every k-th one."""
    every = -(-len(names) // NAMED)
    axis.set_ticks(range(0, len(names), every), names[::every], **style)
