"""Tiny random chat models for the session, and one loaded in 4 bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashward.llm import LanguageModel, Lora
from nashward.llm.planner import rounding

from . import tiny


@pytest.fixture(scope="session")
def one_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.policy(tmp_path_factory.mktemp("one_layer"), layers=1)


@pytest.fixture(scope="session")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.policy(tmp_path_factory.mktemp("two_layers"))


@pytest.fixture(scope="session")
def tiny_folder(one_layer: Path) -> Path:
    """Of one layer: what a run does is not about depth, and most of a short run's time goes into layers."""
    return one_layer


@pytest.fixture(scope="session")
def steep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_policy(tmp_path_factory.mktemp("steep"), spread=0.3)


@pytest.fixture
def model(tiny_folder: Path) -> LanguageModel:
    return LanguageModel.from_pretrained(tiny_folder, lora=Lora(rank=4))


@pytest.fixture(autouse=True)
def short_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """What 4 bits change of a base is measured over a few tokens: a tenth of a short run's time went there."""
    monkeypatch.setattr(rounding, "PROMPTS", 1)
    monkeypatch.setattr(rounding, "TOKENS", 2)
