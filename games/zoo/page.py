"""A page of pictures of the zoo: each game's table, who beats whom, and its Nash, in one HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..forms.game import PreferenceGame
from ..measures import shown_unique
from ..plots.appearance import COLOURS, as_label, save
from ..plots.payoffs import cycle_graph
from ..shapes import Float
from .registry import GAMES, Entry, definitions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMED = 12  # actions whose names find room beside a table
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 0.2rem; }
p { margin: 0.2rem 0; } .source { color: #595959; } nav { columns: 13rem; }
.wide { overflow-x: auto; } img { display: block; width: 880px; }
.property { background: #eef3f8; border-radius: 4px; padding: 0 0.4em; margin-right: 0.3em; }
@media (prefers-color-scheme: dark) {
  body { background: #181a1d; color: #ddd; } a { color: #8bb8e8; } .property { background: #2a3440; }
  .source { color: #a8a8a8; } img { background: white; }
}
"""


def page(names: Sequence[str], progress: Callable[[str], object] = lambda name: None) -> str:
    """The page of these games, as HTML without a link to another file.

    Args:
        names: of games of the zoo, in the order of the page.
        progress: called with each name before its picture is drawn.

    Raises:
        KeyError: a name that is not in the zoo.

    Example:
        >>> text = page(["comal_cycle"])
        >>> text.count("<img "), "<code>games.zoo.comal_cycle()</code>" in text
        (1, True)
    """
    parts = []
    for name in names:
        progress(name)
        parts.append(_part(name, GAMES[name]))
    meanings = "".join(
        f'<p><span class="property">{html.escape(one)}</span> {html.escape(meaning)}</p>\n'
        for one, meaning in definitions(names).items()
    )
    links = "\n".join(f'<a href="#{name}">{name}</a><br>' for name in names)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>The zoo of preference games</title>\n<style>{_STYLE}</style>\n<h1>The zoo of preference games</h1>\n"
        "<p>Left the table, P(row beats column): blue where the row wins, red where it loses. In the middle an arrow "
        "from each winner to the loser, dashed against the order of the mean win rates. Right the Nash equilibrium "
        "of the text below: of several the exact one that is given there.</p>\n"
        f"{meanings}<nav>\n{links}\n</nav>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _part(name: str, entry: Entry) -> str:
    game = entry.make()
    told = (entry.make.__doc__ or "").strip().splitlines()
    about = told[0] if told else ""
    properties = "".join(f'<span class="property">{html.escape(one)}</span>' for one in sorted(entry.properties))
    exact = ""
    if entry.nash:  # by name: the picture has another order
        weights = [(as_label(label), weight) for label, weight in zip(game.labels, entry.nash, strict=True)]
        exact = "; exact: " + ", ".join(f"{label}: {weight}" for label, weight in weights if weight)
    equilibrium = entry.equilibrium()
    buffer = io.BytesIO()
    save(picture(game, equilibrium.policy), buffer, format="png", dpi=80)
    image = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<h2 id="{name}">{name}</h2>\n<p>{html.escape(about)} {properties}</p>\n'
        f'<p class="source">{game.sizes[0]} actions; {html.escape(entry.source)}; '
        f"<code>games.zoo.{name}()</code></p>\n"
        f'<div class="wide"><img alt="table, graph and Nash of {name}" src="data:image/png;base64,{image}"></div>\n'
        f"<p>Nash equilibrium ({shown_unique(equilibrium.unique)}){html.escape(exact)}</p>"
    )


def picture(game: PreferenceGame, equilibrium: Float[Tensor, " n"]) -> Figure:
    """Table, graph and Nash of a game beside each other, the best mean win rate first in all three.

    Args:
        game: a single game.
        equilibrium: [n] probabilities, for example ``Entry.equilibrium().policy``.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    order = game.P.mean(-1).argsort(descending=True, stable=True).cpu()
    names = [as_label(game.labels[i], longest=14) for i in order.tolist()]
    n = len(names)
    figure = Figure(figsize=(11.0, 3.4))
    table, graph, bars = figure.subplots(1, 3, width_ratios=[1.0, 1.15, 0.8])
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.16, top=0.97, wspace=0.28)
    table.imshow(game.P.cpu()[order][:, order].numpy(), cmap="RdBu", vmin=0.0, vmax=1.0)
    shown = range(n) if n <= _MOST_NAMED else range(0)
    table.set_xticks(shown, [names[i] for i in shown], rotation=60, ha="right", fontsize=8)
    table.set_yticks(shown, [names[i] for i in shown], fontsize=8)
    cycle_graph(game, axes=graph, order=order.tolist())
    bars.barh(range(n), equilibrium.cpu()[order].numpy(), color=COLOURS[0])
    bars.set(xlabel="probability", xlim=(0, 1), ylim=(n - 0.5, -0.5))
    bars.set_yticks(shown, [names[i] for i in shown], fontsize=8)
    return figure
