"""One tiny random chat model for the session, and it loaded in 4 bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashward.llm import LanguageModel, Lora

from . import tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.policy(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def steep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_policy(tmp_path_factory.mktemp("steep"), spread=0.3)


@pytest.fixture
def model(tiny_folder: Path) -> LanguageModel:
    return LanguageModel.from_pretrained(tiny_folder, lora=Lora(rank=4))
