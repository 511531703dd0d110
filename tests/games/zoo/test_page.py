"""The page of the zoo has every game, each with a picture of what it is."""

from __future__ import annotations

import base64
import html.parser
import re

import numpy as np
import pytest
from matplotlib.text import Annotation

from nashward import games
from nashward.games import zoo
from nashward.games.zoo.page import page, picture


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.headings: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.images.append(str(values["src"]))
        if tag == "h2":
            self.headings.append(str(values["id"]))
        if tag == "a":
            self.links.append(str(values["href"]))
        if tag not in ("img", "br", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_each_game_has_its_picture_and_its_facts_and_nothing_is_loaded_from_elsewhere() -> None:
    names, seen = ["comal_cycle", "two_rings", "embedded_slow"], list[str]()
    text = page(names, seen.append)
    reader = _Reader()
    reader.feed(text)
    assert reader.headings == seen == names
    assert reader.links == [f"#{name}" for name in names]
    assert len(reader.images) == 3
    for image in reader.images:
        kind, _, data = image.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data)[:4] == b"\x89PNG"
    assert not re.search(r"https?://", text)
    assert "Nash equilibrium (unique); exact: a: 4/11, b: 3/11, c: 4/11" in text
    assert "Nash equilibrium (one of several)" in text
    for prop in zoo.GAMES["embedded_slow"].properties:
        assert f">{prop}</span>" in text
    assert page(names[:1]) == page(names[:1])  # the same bytes


@pytest.mark.parametrize("name", ["mujoco_soccer", "indifference", "colonel_blotto"])
def test_the_picture_is_of_the_game(name: str) -> None:
    game = zoo.get(name)
    equilibrium = games.nash(game)
    table, graph, bars = picture(game, equilibrium).axes
    order = game.P.mean(-1).argsort(descending=True, stable=True)
    np.testing.assert_array_equal(np.asarray(table.images[0].get_array()), game.P[order][:, order])
    widths = [bar.get_width() for bar in bars.patches]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(widths, equilibrium.policy[order])
    arrows = [text for text in graph.texts if isinstance(text, Annotation)]
    assert len(arrows) == int((game.P > 0.5).sum())
