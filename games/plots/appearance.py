"""How names, lines and files of pictures look."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from nashward.console import printable
from nashward.errors import NashwardError

from ..solution import Solution
from ..solvers import SOLVERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, safe for colour-blind readers."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "d", "*", "p", "H", "8", "x", "+", "1", "2", "3", "4", "|")
"""A mark for each colour of each round of colours, so that lines of one colour have different marks."""
STYLES = ("-", "--", ":")
"""Styles of lines: each allows one more round of colours, with marks of its own."""
_MOST_IN_LEGEND = 160  # the most letters of a name
_SHADED = 4  # from so many settings of one solver on, their colours are shades of one scale


class Look(NamedTuple):
    """How the lines of a name are drawn.

    Attributes:
        colour: the colour of line and mark.
        mark: matplotlib's name of the mark.
        line: the style of the line.
    """

    colour: str
    mark: str
    line: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each name: a solver looks the same in all pictures, and no two names of a picture look alike.

    A solver is known by its name, alone or before a bracket ("OptimisticMWU", "MWU(step=0.1)", "optimistic MWU").
    Any other name, and a second one of the same solver, gets the next free colour and mark, in the order given. Four
    or more settings of one solver are shades of a scale, from dark to light.

    Args:
        names: the names of a picture's lines, distinct.

    Example:
        >>> looks(["mine", "MWU"])["MWU"] == looks(["ExtraGradient", "MWU(step=0.1)"])["MWU(step=0.1)"]
        True
        >>> looks(["MWU", "OptimisticMWU"])["MWU"]
        Look(colour='#0072B2', mark='o', line='-')
    """
    kinds = [kind.__name__.lower() for kind in SOLVERS]
    of = {name: name.partition("(")[0].replace(" ", "").replace("-", "").lower() for name in names}
    known = [name for name in names if of[name] in kinds]
    first_of = {of[name]: name for name in reversed(known)}
    places: dict[str, int] = {}
    for name in dict.fromkeys([*(name for name in known if first_of[of[name]] == name), *known, *names]):
        wanted = kinds.index(of[name]) if name in known else 0
        first = wanted % len(COLOURS)
        taken = set(places.values())
        round_ = next(r for r in count() if not taken.issuperset(range(r * len(COLOURS), (r + 1) * len(COLOURS))))
        free = (round_ * len(COLOURS) + (first + k) % len(COLOURS) for k in count())
        places[name] = next(place for place in free if place not in taken)
    found = {
        name: Look(COLOURS[at % len(COLOURS)], MARKS[at % len(MARKS)], STYLES[at // len(COLOURS) % len(STYLES)])
        for name, at in ((name, places[name]) for name in names)
    }
    for kind in dict.fromkeys(of[name] for name in known):
        same = [name for name in known if of[name] == kind]
        if len(same) >= _SHADED:
            for k, name in enumerate(same):
                found[name] = found[name]._replace(colour=_shade(k / (len(same) - 1)))
    return found


def _shade(share: float) -> str:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["viridis"](0.9 * share))  # the end of the scale is too light on white


def as_label(text: object, longest: int = 32) -> str:
    """The name of an action, a model or a file, for matplotlib to draw as it is, in one line.

    A dollar sign begins no mathematics, an underscore at the beginning does not hide it from a legend, control
    characters are shown as "?", and a name of more than ``longest`` letters is cut: it would leave no room to draw.

    Args:
        text: the name.
        longest: the most letters.

    Example:
        >>> as_label("_cost: $5\\nor $6\\x1b[31m")
        ' _cost: \\\\$5 or \\\\$6?[31m'
    """
    line = printable(" ".join(str(text).splitlines()).replace("\t", " "))
    if len(line) > longest:
        line = line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return (" " if line.startswith("_") else "") + line.replace("$", r"\$")


def as_legend(text: object) -> str:
    """The name of a line for a legend: as ``as_label``, but in full, in lines of at most 40 letters.

    Names of solvers differ in their last settings, so a name of more than 160 letters loses its middle.

    Args:
        text: the name.

    Example:
        >>> print(as_legend("OptimisticMWU(step=0.5, tau=0.01, every=20), average"))
        OptimisticMWU(step=0.5, tau=0.01,
        every=20), average
    """
    line = printable(" ".join(str(text).splitlines()).replace("\t", " "))
    if len(line) > _MOST_IN_LEGEND:
        half = (_MOST_IN_LEGEND - 1) // 2
        line = line[:half] + "\N{HORIZONTAL ELLIPSIS}" + line[-half:]
    lines = textwrap.wrap(line, 40, break_on_hyphens=False) or [line]
    return "\n".join(as_label(one, longest=40) for one in lines)


def save(figure: Figure, file: Any, **options: Any) -> list[str]:
    """Save a figure; characters that its font lacks are drawn as boxes.

    Args:
        figure: a figure of matplotlib.
        file: a path, or a file opened in binary mode.
        options: options of ``Figure.savefig``.

    Returns:
        The Unicode names of the characters that the font lacks.
    """
    lacking = set()
    with warnings.catch_warnings(record=True) as caught:  # matplotlib warns each time it lays out a text
        warnings.simplefilter("always")
        figure.savefig(file, **options)
    for warning in caught:
        if sign := re.match(r"Glyph \d+ \((?:\\N\{)?(.*?)\}?\) missing", str(warning.message)):
            lacking.add(sign[1])
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return sorted(lacking)


def some_of(names: Sequence[str]) -> str:
    """The first three of the names, and how many more there are.

    Args:
        names: the names, in order.

    Example:
        >>> some_of(["a", "b", "c", "d", "e"]), some_of(["a", "b"])
        ('a, b, c and 2 more', 'a, b')
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def by_name(solutions: Mapping[str, Solution]) -> Mapping[str, Solution]:
    if not isinstance(solutions, Mapping):
        raise TypeError(f'expected solutions by name, as {{"MWU": solution}}, got {type(solutions).__name__}')
    if not solutions:
        raise NashwardError('there is no solution to draw; expected them by name, as {"MWU": solution}, got {}')
    return solutions


def drawn_on(axes: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """The axes given and their figure, or new ones of that size."""
    if axes is None:
        figure, (axes,) = new_figure(width, height)
        return figure, axes
    return axes.get_figure(root=True), axes  # type: ignore[return-value]
