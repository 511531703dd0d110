"""Of how a policy is loaded, placed and computed, more than one layer tells."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_folder(two_layers: Path) -> Path:
    return two_layers
