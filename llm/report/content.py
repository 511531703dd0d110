"""The content of a report: sections of tables, pictures, paragraphs and alerts, as data that the templates render."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nashward.counted import counted
from nashward.games import plots

from ..store.files import finite

logger = logging.getLogger(__name__)
ROUNDING = 1e-6  # of nats and of shares


class Content:
    """A part of a section, rendered by its own template."""

    template: ClassVar[str]


@dataclass(frozen=True)
class Section:
    """A headed section of a page.

    Attributes:
        title: its head, plain text.
        content: its parts, from top to bottom. A section without content is left out.
    """

    title: str
    content: Sequence[Content]

    @property
    def anchor(self) -> str:
        """What a link within the page leads to."""
        return anchor(self.title)


def anchor(title: str) -> str:
    """The anchor of the section of this title.

    Example:
        >>> anchor("What the fits achieved")
        'what-the-fits-achieved'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


@dataclass(frozen=True)
class Heading(Content):
    """A heading within a section."""

    template = "heading.html.j2"

    text: str


@dataclass(frozen=True)
class Paragraph(Content):
    """A paragraph of plain text, in which what stands between `backticks` is code, as in alerts and captions."""

    template = "paragraph.html.j2"

    text: str


@dataclass(frozen=True)
class Headline(Content):
    """The one figure that came out.

    Attributes:
        figure: the figure with its error and unit.
        text: what it is, as the continuation of the figure.
    """

    template = "headline.html.j2"

    figure: str
    text: str


@dataclass(frozen=True)
class Pointer(Content):
    """A line that ends in a link to a section of the page.

    Attributes:
        text: the text before the link.
        section: its title.
    """

    template = "pointer.html.j2"

    text: str
    section: str

    @property
    def anchor(self) -> str:
        """The anchor of the section."""
        return anchor(self.section)


@dataclass(frozen=True)
class Html(Content):
    """HTML of the caller's own. It is not escaped, so it must not contain text from models or files."""

    template = "html.html.j2"

    html: str


@dataclass(frozen=True)
class Alert(Content):
    """A warning, set off from the text."""

    template = "alert.html.j2"

    text: str


@dataclass(frozen=True)
class Details(Content):
    """Content that is folded away behind its summary."""

    template = "details.html.j2"

    summary: str
    content: Sequence[Content]


@dataclass(frozen=True)
class Download(Content):
    """A link that saves a value as JSON.

    Attributes:
        value: anything that JSON holds; numbers that are not finite become null.
        text: the link's text.
        file: the name to save under.

    Example:
        >>> Download({"gap": [0.5, float("nan")]}, "the gaps").base64
        'eyJnYXAiOiBbMC41LCBudWxsXX0='
    """

    template = "download.html.j2"

    value: Any
    text: str
    file: str = "numbers.json"

    @property
    def base64(self) -> str:
        """The value as JSON in UTF-8, in base64."""
        return _base64(json.dumps(finite(self.value), ensure_ascii=False).encode(errors="backslashreplace"))


@dataclass(frozen=True)
class Picture(Content):
    """A matplotlib figure as an inline image, with the plotted numbers to download.

    Attributes:
        figure: the figure.
        caption: the text below the image and for screen readers.
    """

    template = "picture.html.j2"

    figure: Any
    caption: str = ""

    @property
    def png(self) -> str:
        """The image in base64."""
        buffer = io.BytesIO()
        if lacking := plots.save(self.figure, buffer, format="png", dpi=130):
            logger.warning("a picture has boxes for characters that its font lacks: %s", plots.some_of(lacking))
        return _base64(buffer.getvalue())

    @property
    def numbers(self) -> Download:
        """The plotted numbers, see ``plotted_numbers``."""
        return Download(plotted_numbers(self.figure), "numbers")


class Cell(NamedTuple):
    """A cell of a table: its text, and its CSS class (None: a word)."""

    text: str
    style: str | None


@dataclass(frozen=True)
class Table(Content):
    """A table. Numbers have three significant digits, None is a dash.

    Attributes:
        head: the columns' heads.
        rows: each with one value per column.
        text: whether the cells hold prose and are aligned left.

    Example:
        >>> for row in Table(["policy", "win rate"], [["last", 0.61803], ["mixture", None]]).cells():
        ...     print([(cell.text, cell.style) for cell in row])
        [('last', None), ('0.618', 'number')]
        [('mixture', None), ('–', 'number')]
    """

    template = "table.html.j2"

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    text: bool = False

    def cells(self) -> Iterator[list[Cell]]:
        """The rows as text."""
        for row in self.rows:
            yield [Cell(_formatted(value), "text" if self.text else _style(value)) for value in row]


VALUE = r"(?: (?:[a-z-]+[:=][\w=:./-]*\w|[A-Z]{2,}\b))?"  # of an option, in a sentence


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """Pieces of a text, each with the code after it, which is empty after the last one.

    Code is what stands between backticks, and an option with its dashes, its settings or what stands for its value.

    Example:
        >>> list(pieces("Run `make` here, or lower --step."))
        [('Run ', 'make'), (' here, or lower ', '--step'), ('.', '')]
        >>> list(pieces("Give --correct style:pairs=FILE, or --held-out ORACLE as well."))
        [('Give ', '--correct style:pairs=FILE'), (', or ', '--held-out ORACLE'), (' as well.', '')]
    """
    end = 0
    for found in re.finditer(rf"`([^`]+)`|(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]{VALUE}", text):
        yield text[end : found.start()], found[1] or found[0]
        end = found.end()
    yield text[end:], ""


def with_error(value: float | None, error: float | None, digits: int = 1) -> str | None:
    """A number for a cell with its standard error, where that is known.

    Example:
        >>> with_error(51.25, 2.5), with_error(-0.01, None), with_error(None, None)
        ('51.2 ± 2.5', '0.0', None)
    """
    if value is None:
        return None
    return f"{value:z.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def held_out_r2(row: Mapping[str, Any]) -> str | None:
    """R2 on the held-out prompts of a Step's metrics with its error, or their number where they are too few for one.

    Example:
        >>> held_out_r2({"held_out": {"r2": 0.4, "r2_error": 0.1, "prompts": 9}})
        '0.40 ± 0.10'
        >>> held_out_r2({"held_out": {"r2": 0.4, "r2_error": None, "prompts": 2}})
        '0.40 (2 prompts)'
    """
    held = row["held_out"]
    text = with_error(held.get("r2"), held.get("r2_error"), 2)
    if text is None or held.get("r2_error") is not None or "prompts" not in held:
        return text
    return f"{text} ({counted(held['prompts'], 'prompt')})"


def without_rounding(value: float | None) -> float | None:
    """A measure of a fit; what is 0 but for rounding is 0.

    Example:
        >>> without_rounding(-4e-8), without_rounding(0.2), without_rounding(None)
        (0.0, 0.2, None)
    """
    return 0.0 if value is not None and abs(value) <= ROUNDING else value


def plotted_numbers(figure: Any) -> list[dict[str, Any]]:
    """What a matplotlib figure shows: titles, points of lines, images, bars and texts of each of its axes.

    Returns:
        A dictionary per axes; what the axes do not have is left out.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure = Figure()
        >>> _ = figure.subplots().plot([0, 1], [2, 3], label="gap")
        >>> plotted_numbers(figure)
        [{'lines': [{'label': 'gap', 'x': [0.0, 1.0], 'y': [2.0, 3.0]}]}]
    """
    numbers = []
    for axes in figure.axes:
        bars = [bar for group in axes.containers for bar in getattr(group, "patches", ())]
        parts = {
            "title": axes.get_title(),
            "x": axes.get_xlabel(),
            "y": axes.get_ylabel(),
            "lines": [
                {"label": _label(line), "x": _numbers(line.get_xdata()), "y": _numbers(line.get_ydata())}
                for line in axes.get_lines()
            ],
            "images": [_numbers(image.get_array()) for image in axes.get_images()],
            "bars": [_numbers([bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()]) for bar in bars],
            "texts": [text.get_text().replace(r"\$", "$") for text in axes.texts],
        }
        numbers.append({name: part for name, part in parts.items() if part})
    return numbers


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _label(line: Any) -> str | None:
    label = str(line.get_label())
    if label.startswith("_"):  # matplotlib's own labels begin so
        return None
    return label.replace(r"\$", "$").removeprefix(" ")  # undo ``plots.as_label``


def _numbers(values: Any) -> Any:
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).tolist()


def _style(value: Any) -> str | None:
    """The CSS class of a cell: a number stays on one line, with its error; words may take several."""
    return None if isinstance(value, str) and value[:1].isalpha() else "number"


def _formatted(value: Any) -> str:
    if value is None:  # not defined for this row
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
