"""Each recipe of ``configs`` fits on the cards that it names, by shape."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from nashward.cli import configuration as settings
from nashward.cli import options
from nashward.cli.main import main
from nashward.llm.config import Demand
from nashward.llm.oracles.models import checkpoint
from nashward.llm.planner.known_shapes import DEBERTA_V3_LARGE, POLICIES, known_oracle, known_policy
from nashward.llm.planner.plan import GIB, plan
from nashward.llm.policy.base import checks

CARDS = (6, 8, 12, 24, 80)
RECIPES = {
    name: str(recipe["policy"].value) for name in options.presets() if "policy" in (recipe := settings.preset(name))
}


def test_every_recipe_has_a_model_of_a_known_shape() -> None:
    assert sorted(RECIPES.values()) == sorted(POLICIES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_was_not_measured(name: str) -> None:
    text = options.presets()[name].read_text()
    assert "easured" in text
    assert f"--preset {name}" in text


def test_a_recipe_is_planned_without_a_hub(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def unreachable(name: str, *arguments: Any) -> Any:
        raise FileNotFoundError(f"there is no folder {name} here, and the hub cannot be reached")

    whole = known_oracle("llm-blender/PairRM")
    assert whole is not None
    assert whole.parameters == pytest.approx((304 + 131) * 1e6, rel=0.01)  # DeBERTa-v3-large: backbone, embeddings
    kind, shape = POLICIES[RECIPES["smollm2-135m"]]
    monkeypatch.setitem(POLICIES, RECIPES["smollm2-135m"], (kind, {**shape, "num_hidden_layers": 1}))  # in seconds
    monkeypatch.setitem(DEBERTA_V3_LARGE, "num_hidden_layers", 1)
    monkeypatch.setattr(checks, "check_on_hub", unreachable)
    monkeypatch.setattr(checkpoint, "fetch", unreachable)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    short = ["--memory", "6GiB", "--max-prompt-tokens", "32", "--max-new-tokens", "32"]
    assert main(["plan", "--preset", "smollm2-135m", *short]) == 0
    out, err = capsys.readouterr()
    policy, oracle, *_ = out.splitlines()
    assert (policy.split(": ")[0], oracle.split(": ")[0]) == (RECIPES["smollm2-135m"], "llm-blender/PairRM")
    assert "not read from the hub" in policy
    assert "not read from the hub" in oracle
    assert any(line.startswith("judging: 20 rows") for line in out.splitlines())
    assert err.startswith(RECIPES["smollm2-135m"])
    for unknown in (["--policy", "nobody/none"], ["--preset", "smollm2-135m", "--oracle", "nobody/none"]):
        assert main(["plan", *unknown, "--memory", "6GiB"]) == 2
        assert "nobody/none" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_on_its_cards(name: str, card: int) -> None:
    shape = known_policy(RECIPES[name])
    assert shape is not None
    found = plan(shape, card * GIB, Demand())
    assert found.fits
    for phase in found.phases.values():
        assert phase.total <= card * GIB - found.reserved
