"""Each recipe of ``configs`` fits on the cards that it names, by shape; a table at its head is what the plan gives."""

from __future__ import annotations

import re

import pytest

from nashward.cli import options
from nashward.llm.config import Demand
from nashward.llm.planner.plan import GIB, plan

from .published_shapes import SHAPES, configuration

ROW = re.compile(r"^# +(\d+) GiB +([\d.]+) +([\d.]+) +(\d+) +(\d+) +(card|host)$", re.MULTILINE)
CARDS = (6, 8, 12, 24, 80)


def _rows(name: str) -> dict[int, tuple[float, float, int, int, str]]:
    text = options.presets()[name].read_text()
    return {
        int(card): (float(sampling), float(training), int(batch), int(tokens), layers)
        for card, sampling, training, batch, tokens, layers in ROW.findall(text)
    }


def test_every_model_has_a_recipe_and_a_table_has_every_card() -> None:
    assert {name for name in options.presets() if name != "sppo-paper"} == set(SHAPES)
    for name in SHAPES:
        assert tuple(_rows(name)) in ((), CARDS)


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_says_what_was_not_measured(name: str) -> None:
    text = options.presets()[name].read_text()
    assert "easured" in text
    assert f"--preset {name}" in text


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_fits_and_its_table_is_the_plan(name: str, card: int) -> None:
    found = plan(configuration(name), card * GIB, Demand())
    assert found.fits
    for phase in found.phases.values():
        assert phase.total <= card * GIB - found.reserved
    if card not in (rows := _rows(name)):
        return
    sampling, training, batch, tokens, layers = rows[card]
    assert found.phases["sampling"].total / GIB == pytest.approx(sampling, abs=0.006)
    assert found.phases["training"].total / GIB == pytest.approx(training, abs=0.006)
    assert (found.sampling_batch, found.tokens) == (batch, tokens)
    assert ("host" if found.placement.layers == "host" else "card") == layers
