"""Text of models as HTML that can do nothing: Markdown without HTML, links and pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

PLAIN = 40_000  # characters from which a text is shown as it is: Markdown of more takes seconds


def _renderer() -> MarkdownIt:
    renderer = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")
    renderer.add_render_rule("link_open", _link_open)
    renderer.add_render_rule("link_close", _link_close)
    return renderer


def _link_open(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    return '<span class="link">'


def _link_close(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
    """The end of a link, with its address as text where that is not what the link says."""
    opened, depth = place, 0
    while True:  # links do not nest, but what is in one has tokens of its own
        depth += {"link_close": 1, "link_open": -1}.get(tokens[opened].type, 0)
        if depth == 0:
            break
        opened -= 1
    address = str(tokens[opened].attrGet("href") or "")
    said = "".join(token.content for token in tokens[opened + 1 : place])
    return "</span>" if address == said else f"</span> ({html.escape(address)})"


_MARKDOWN = _renderer()


def safe_html(text: str) -> str:
    """Markdown as HTML in which nothing of the text is markup, is loaded or can be followed.

    HTML of the text is shown as text; a link is its words and its address, a picture the Markdown of one. Very long
    texts are shown as they are.

    Example:
        >>> safe_html("**Yes** <script>alert(1)</script>")
        '<p><strong>Yes</strong> &lt;script&gt;alert(1)&lt;/script&gt;</p>\\n'
        >>> safe_html("[here](https://example.org/)")
        '<p><span class="link">here</span> (https://example.org/)</p>\\n'
    """
    if len(text) > PLAIN:
        return f'<div class="plain">{html.escape(text)}</div>'
    return str(_MARKDOWN.render(text))
