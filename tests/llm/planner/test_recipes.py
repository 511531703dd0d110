"""Each recipe of ``configs`` fits on the cards that it names, by shape."""

from __future__ import annotations

import pytest

from nashward.cli import configuration as settings
from nashward.cli import options
from nashward.llm.config import Demand
from nashward.llm.planner.plan import GIB, plan

from .published_shapes import SHAPES, configuration

CARDS = (6, 8, 12, 24, 80)


def test_every_model_has_a_recipe() -> None:
    assert {name for name in options.presets() if "policy" in settings.preset(name)} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_says_what_was_not_measured(name: str) -> None:
    text = options.presets()[name].read_text()
    assert "easured" in text
    assert f"--preset {name}" in text


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_fits_on_its_cards(name: str, card: int) -> None:
    found = plan(configuration(name), card * GIB, Demand())
    assert found.fits
    for phase in found.phases.values():
        assert phase.total <= card * GIB - found.reserved
