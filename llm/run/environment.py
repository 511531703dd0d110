"""Versions, hardware and commit, for the record of a run."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """Versions, hardware and commit, for the record."""
    packages = ("nashward", "torch", "transformers", "peft", "bitsandbytes")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    commit = None
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / ".git").exists() and shutil.which("git"):
        asked = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine(),
        "commit": commit,
    }
