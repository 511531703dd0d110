"""A page that needs nothing beside itself: headed sections, tables, pictures with the numbers that they show."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..store.files import finite

# A wide table scrolls within its own box, on a phone a picture too. In the dark a picture is inverted and its hues
# turned back.
STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --paper: #fff; --faint: #595959; --line: #d0d0d0; --box: #f4f4f4;
  --warning: #fff3d6; --link: #0b57a4 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --paper: #1a1a1a; --faint: #a8a8a8; --line: #484848; --box: #282828; --warning: #3a2f10;
    --link: #8ab8f0 }
  figure img { filter: invert(.9) hue-rotate(180deg) }
}
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: var(--text);
  background: var(--paper); overflow-wrap: break-word }
h1 { font-size: 1.7rem } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
a { color: var(--link) } summary { cursor: pointer }
figure { margin: 1rem 0 } img { display: block; max-width: 100%; height: auto }
figcaption { color: var(--faint); font-size: .9rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right } th { border-bottom: 1px solid var(--faint) }
td:first-child, th:first-child, table.text th { text-align: left } td.number { white-space: nowrap }
table:not(.text) td:not(.number) { min-width: 6.5rem; max-width: 20rem; overflow-wrap: anywhere }
td.text { text-align: left; white-space: pre-wrap; vertical-align: top; min-width: 9rem; max-width: 24rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
.warning { background: var(--warning); padding: .4rem .8rem; border-left: 4px solid #d08700; margin: .5rem 0 }
@media (max-width: 40rem) { figure img { max-width: 40rem } th, td { padding: .25rem .45rem } }
code, pre { background: var(--box); padding: 0 .2rem } pre { overflow-x: auto; padding: .6rem }
"""
ALONE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing can be fetched


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A page from headed sections of HTML; an empty one is left out. Heads and title are escaped, sections are not.

    Example:
        >>> page("P & Q", [("Here", "<p>x</p>"), ("Nothing", "")])[-79:]
        '<body><h1>P &amp; Q</h1><section><h2>Here</h2><p>x</p></section></body></html>\\n'
    """
    body = "".join(f"<section><h2>{html.escape(head)}</h2>{text}</section>" for head, text in sections if text)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{ALONE}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )


def picture(figure: Any, caption: str = "") -> str:
    """A matplotlib figure as an inline image, and what it shows as numbers to download.

    Example:
        >>> from matplotlib.figure import Figure
        >>> picture(Figure(figsize=(1, 1)), "Nothing yet.")[:69]
        '<figure><div class="wide"><img alt="Nothing yet." src="data:image/png'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return (
        f'<figure><div class="wide"><img alt="{html.escape(caption)}" '
        f'src="data:image/png;base64,{_base64(buffer.getvalue())}"></div>'
        f"<figcaption>{html.escape(caption)} {download(shown(figure), 'numbers')}</figcaption></figure>"
    )


def shown(figure: Any) -> list[dict[str, Any]]:
    """What a figure draws, for each of its axes: titles, points of lines, images, bars.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure = Figure()
        >>> _ = figure.subplots().plot([0, 1], [2, 3], label="gap")
        >>> shown(figure)
        [{'lines': [{'label': 'gap', 'x': [0.0, 1.0], 'y': [2.0, 3.0]}]}]
    """
    found = []
    for axes in figure.axes:
        bars = [bar for group in axes.containers for bar in getattr(group, "patches", ())]
        parts = {
            "lines": [
                {"label": _label(line), "x": _numbers(line.get_xdata()), "y": _numbers(line.get_ydata())}
                for line in axes.get_lines()
            ],
            "images": [_numbers(image.get_array()) for image in axes.get_images()],
            "bars": [_numbers([bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()]) for bar in bars],
            "texts": [text.get_text() for text in axes.texts],
        }
        words = {"title": axes.get_title(), "x": axes.get_xlabel(), "y": axes.get_ylabel()}
        found.append({name: part for name, part in {**words, **parts}.items() if part})
    return found


def download(value: Any, words: str, name: str = "numbers.json") -> str:
    """A link that saves a value as JSON."""
    data = _base64(json.dumps(finite(value), ensure_ascii=False).encode(errors="backslashreplace"))
    return f'<a download="{name}" href="data:application/json;base64,{data}">{html.escape(words)} (JSON)</a>'


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], text: bool = False) -> str:
    """A table; with ``text`` the cells hold prose and are set left. Numbers have three digits, None is a dash.

    Example:
        >>> table(["win rate"], [[0.61803]])
        '<div class="wide"><table><tr><th>win rate</th></tr><tr><td class="number">0.618</td></tr></table></div>'
    """
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    kind = ' class="text"' if text else ""
    body = "".join(
        f"<tr>{''.join(f'<td{kind or _number(cell)}>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="wide"><table{kind}><tr>{top}</tr>{body}</table></div>'


def with_error(value: float | None, error: float | None, digits: int = 1) -> str | None:
    """A number for a cell with its standard error, where that is known."""
    if value is None:
        return None
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def warning(text: str) -> str:
    return f'<p class="warning">{html.escape(text)}</p>'


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _label(line: Any) -> str | None:
    label = str(line.get_label())
    return None if label.startswith("_") else label  # matplotlib's word for none


def _numbers(values: Any) -> Any:
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).tolist()


def _number(value: Any) -> str:
    """A number stays on one line, with its error; words may take several."""
    return "" if isinstance(value, str) and value[:1].isalpha() else ' class="number"'


def _cell(value: Any) -> str:
    if value is None:  # not defined for this row
        return "–"
    return html.escape(f"{value:.3g}" if isinstance(value, float) else str(value))
