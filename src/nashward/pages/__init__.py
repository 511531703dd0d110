"""The look of all pages of HTML that are written or served: one palette, one stylesheet, one frame."""

from __future__ import annotations

import html
from importlib import resources

COLOURS = resources.files(__name__).joinpath("colours.css").read_text(encoding="utf-8")
"""The colours by name, in the light and in the dark."""
_STYLE = COLOURS + resources.files(__name__).joinpath("page.css").read_text(encoding="utf-8")
_FRAME = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}</body>
</html>
"""


def document(title: str, body: str) -> str:
    """A page that is one file: nothing can be fetched from it.

    Args:
        title: of the page and its first heading; it is escaped here.
        body: HTML, images as data.

    Example:
        >>> print(document("P & Q", "<p>here</p>\\n").partition("<body>\\n")[2].partition("</body>")[0])
        <h1>P &amp; Q</h1>
        <p>here</p>
        <BLANKLINE>
    """
    return _FRAME.format(title=html.escape(title), style=_STYLE, body=body)
