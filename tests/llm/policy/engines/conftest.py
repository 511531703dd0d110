"""What an engine draws is asked of any model."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_folder(one_layer: Path) -> Path:
    return one_layer
