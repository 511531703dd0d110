"""A page of pictures of the zoo: each game's table, who beats whom, and its Nash, in one HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from nashward.pages import document

from ..forms.game import PreferenceGame
from ..measures import shown_unique
from ..plots.appearance import COLOURS, as_label, save
from ..plots.payoffs import cycle_graph
from ..shapes import Float
from .registry import GAMES, Entry, definitions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMED = 12  # up to so many actions their names fit beside a table
_SIDE = 3.8  # inches of each of the three parts of a picture, which a phone shows below each other


def page(names: Sequence[str], progress: Callable[[str], object] = lambda name: None) -> str:
    """The page of these games, as HTML that needs no other file.

    Args:
        names: names of games of the zoo, in the order of the page.
        progress: called with each name before its picture is drawn.

    Raises:
        KeyError: a name that is not in the zoo.

    Example:
        >>> text = page(["comal_cycle"])
        >>> text.count("<img "), "<code>games.zoo.comal_cycle()</code>" in text
        (3, True)
    """
    parts = []
    for name in names:
        progress(name)
        parts.append(_part(name, GAMES[name]))
    meanings = "".join(
        f'<p><span class="property">{html.escape(one)}</span> {html.escape(meaning)}</p>\n'
        for one, meaning in definitions(names).items()
    )
    links = "\n".join(f'<a href="#{name}">{name}</a>' for name in names)
    return document(
        "The zoo of preference games",
        "<p>Each game has three pictures. The first is its table, P(row beats column): blue where the row wins, red "
        "where it loses, darker for larger margins. The second has an arrow from each winner to the loser, wider for "
        "larger margins, and dashed where the loser has the higher mean win rate. The third is the Nash equilibrium, "
        "the probability of each action; the line below says whether it is the only one, and gives it exactly where "
        "that is known. Actions are in the order of their mean win rate, the best first.</p>\n"
        f'{meanings}<nav class="links">\n{links}\n</nav>\n' + "\n".join(parts) + "\n",
    )


def _part(name: str, entry: Entry) -> str:
    game = entry.make()
    told = (entry.make.__doc__ or "").strip().splitlines()
    about = told[0] if told else ""
    properties = "".join(f'<span class="property">{html.escape(one)}</span>' for one in sorted(entry.properties))
    exact = ""
    if entry.nash:  # with names: the picture has another order
        weights = [(as_label(label), weight) for label, weight in zip(game.labels, entry.nash, strict=True)]
        exact = "; exact: " + ", ".join(f"{label}: {weight}" for label, weight in weights if weight)
    equilibrium = entry.equilibrium()
    images = "".join(
        f'<img alt="{part} of {name}" width="{_SIDE * 80:.0f}" src="data:image/png;base64,{image}">\n'
        for part, image in zip(("table", "graph", "Nash"), _parts(picture(game, equilibrium.policy)), strict=True)
    )
    return (
        f'<h2 id="{name}">{name}</h2>\n<p>{html.escape(about)} {properties}</p>\n'
        f"<p>{game.sizes[0]} actions; {html.escape(entry.source)}; <code>games.zoo.{name}()</code></p>\n"
        f'<div class="row">\n{images}</div>\n'
        f"<p>Nash equilibrium ({shown_unique(equilibrium.unique)}){html.escape(exact)}</p>"
    )


def _parts(figure: Figure) -> list[str]:
    """The three parts of a picture, from left to right, as PNG in base64."""
    from PIL import Image

    buffer = io.BytesIO()
    save(figure, buffer, format="png", dpi=120)
    whole = Image.open(buffer).convert("RGB").quantize(128)
    width, parts = whole.width // 3, []
    for k in range(3):
        part = io.BytesIO()
        whole.crop((k * width, 0, (k + 1) * width, whole.height)).save(part, "PNG")
        parts.append(base64.b64encode(part.getvalue()).decode())
    return parts


def picture(game: PreferenceGame, equilibrium: Float[Tensor, " n"]) -> Figure:
    """Table, graph and Nash of a game side by side, the best mean win rate first in all three.

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
    figure = Figure(figsize=(3 * _SIDE, 3.6))
    places = [(0.28, 0.2, 0.7, 0.74), (0.03, 0.14, 0.94, 0.84), (0.28, 0.2, 0.66, 0.74)]
    table, graph, bars = (figure.add_axes(((k + x) / 3, y, w / 3, h)) for k, (x, y, w, h) in enumerate(places))
    table.imshow(game.P.cpu()[order][:, order].numpy(), cmap="RdBu", vmin=0.0, vmax=1.0)
    shown = range(n) if n <= _MOST_NAMED else range(0)
    table.set_xticks(shown, [names[i] for i in shown], rotation=60, ha="right", fontsize=9)
    table.set_yticks(shown, [names[i] for i in shown], fontsize=9)
    cycle_graph(game, axes=graph, order=order.tolist())
    bars.barh(range(n), equilibrium.cpu()[order].numpy(), color=COLOURS[0])
    bars.set(xlabel="probability", xlim=(0, 1), ylim=(n - 0.5, -0.5))
    bars.set_yticks(shown, [names[i] for i in shown], fontsize=9)
    return figure
