"""Checkpoints of a fit: a process killed in training goes on from the last one, to the same adapter."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..store.files import atomic_folder, write_checksums
from ..store.run_folder import CHECKPOINT, RunFolder

WEIGHTS, REST = "weights.safetensors", "rest.pt"


@dataclass
class State:
    """All that a fit's next optimiser step depends on, and what the steps so far recorded.

    Attributes:
        weights: those of the adapter.
        optimiser, scheduler: their ``state_dict``.
        passes: those of each micro-batch, which were halved where memory ran out.
        records: one per optimiser step; their number is the position in the data, whose order the seed fixes.
    """

    weights: list[torch.Tensor]
    optimiser: dict[str, Any]
    scheduler: dict[str, Any]
    passes: list[list[list[int]]]
    records: list[dict[str, float]]


class Checkpoints:
    """Two folders that are written in turn, each whole and sealed: a damaged newest one leaves the one before.

    Args:
        home: the run folder, which sets a damaged one aside.
        folder: the one that holds both.
        seconds: the time between two; 0: after each optimiser step.
    """

    def __init__(self, home: RunFolder, folder: Path, seconds: float):
        self.home, self.folder, self.seconds = home, folder, seconds
        self._last, self._turn = time.monotonic(), 0

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= self.seconds

    def save(self, fit: str, state: State, steps: int) -> None:
        """Write a state; ``fit`` identifies the fit, ``steps`` is how many optimiser steps it takes in all."""
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        rest = io.BytesIO()
        torch.save(
            {"optimiser": state.optimiser, "scheduler": state.scheduler, "passes": state.passes,
             "records": state.records, "random": random},
            rest,
        )  # fmt: skip
        weights = {str(k): weight.detach().cpu().contiguous() for k, weight in enumerate(state.weights)}
        with atomic_folder(self.folder / str(self._turn)) as unfinished:
            (unfinished / WEIGHTS).write_bytes(safetensors.torch.save(weights))
            (unfinished / REST).write_bytes(rest.getbuffer())
            (unfinished / CHECKPOINT).write_text(json.dumps({"fit": fit, "done": len(state.records), "steps": steps}))
            write_checksums(unfinished)
        self._turn = 1 - self._turn
        self._last = time.monotonic()

    def load(self, fit: str) -> State | None:
        """The newest state of this fit, with the random number generators set to it; None where there is none."""
        candidates: list[tuple[int, int]] = []
        for turn in (0, 1):
            if self.home.verified(self.folder / str(turn)):
                about = json.loads((self.folder / str(turn) / CHECKPOINT).read_text())
                if about["fit"] == fit:
                    candidates.append((about["done"], turn))
        if not candidates:
            return None
        turn = max(candidates)[1]
        self._turn = 1 - turn
        content = safetensors.torch.load((self.folder / str(turn) / WEIGHTS).read_bytes())
        rest = torch.load(self.folder / str(turn) / REST, map_location="cpu", weights_only=True)
        torch.set_rng_state(rest["random"]["cpu"])
        if torch.cuda.is_available() and "cuda" in rest["random"]:
            torch.cuda.set_rng_state(rest["random"]["cuda"])
        weights = [content[str(k)] for k in range(len(content))]
        return State(weights, rest["optimiser"], rest["scheduler"], rest["passes"], rest["records"])
