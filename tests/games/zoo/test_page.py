"""The page of the zoo has every game, each with a picture of what it is."""

from __future__ import annotations

import base64
import html.parser
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from torch import Tensor

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
    assert len(reader.images) == 9  # table, graph and Nash are separate images, which a phone shows below each other
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
    equilibrium = zoo.GAMES[name].equilibrium().policy
    table, graph, bars = picture(game, equilibrium).axes
    order = game.P.mean(-1).argsort(descending=True, stable=True)
    np.testing.assert_array_equal(np.asarray(table.images[0].get_array()), game.P[order][:, order])
    widths = [bar.get_width() for bar in bars.patches]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(widths, equilibrium[order])
    arrows = [text for text in graph.texts if isinstance(text, Annotation)]
    assert len(arrows) == int((game.P > 0.5).sum())


def test_the_bars_are_those_of_the_exact_equilibrium_that_the_text_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def recorded(game: games.PreferenceGame, equilibrium: Tensor) -> Figure:
        drawn.append(equilibrium)
        return picture(game, equilibrium)

    monkeypatch.setattr("nashward.games.zoo.page.picture", recorded)
    names = ["cloned_rock", "indifference", "comal_cycle"]
    text = page(names)
    assert "rock: 1/3, paper: 1/3, scissors: 1/3" in text
    for name, policy in zip(names, drawn, strict=True):
        exact = zoo.GAMES[name].nash
        assert exact is not None
        assert policy.tolist() == [float(weight) for weight in exact]
        assert float(games.duality_gap(zoo.get(name), policy)) < 1e-12


def test_every_game_shows_an_equilibrium_and_every_property_has_a_definition() -> None:
    assert tuple(zoo.DEFINITIONS) == zoo.PROPERTIES
    for name in ("cloned_rock", next(name for name in zoo.names() if zoo.GAMES[name].nash is None)):
        assert float(games.duality_gap(zoo.get(name), zoo.GAMES[name].equilibrium().policy)) < 1e-10
    text = page(["near_boundary_cycle"])
    assert zoo.DEFINITIONS["near-boundary"] in text
    assert zoo.DEFINITIONS["transitive"] not in text  # no game of this page has it
