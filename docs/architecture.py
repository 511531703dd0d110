"""Draws docs/architecture.svg, the rooms and what passes through them: ``python -m docs.architecture``.

The rooms of ``llm`` and their order are those of the import contract in pyproject.toml.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
WALKS = {"table": "#1f77b4", "response": "#d95f02", "setting": "#4d9221"}
GAMES = {
    "zoo": ("named games, generators", ""),
    "analysis": ("ratings, social choice, duels", ""),
    "equilibria": ("the exact Nash", "table"),
    "compiled": ("traced loops", ""),
    "solvers": ("generators of Steps", "table"),
    "forms": ("the games: tables, low rank", "table"),
}
LLM = {
    "pocket": ("two small models", ""),
    "report": ("pages of a run", ""),
    "evaluation": ("tournaments, exploitability", ""),
    "run": ("stages: sample, judge, train", "response setting"),
    "planner": ("what fits on a card", "setting"),
    "training": ("losses, batches, the fit", "response setting"),
    "oracles": ("win probabilities of pairs", "response"),
    "policy": ("model, adapters, sampling", "response setting"),
    "clients": ("calls of servers", "response"),
    "store": ("the run folder on disk", "response"),
    "processes": ("several processes of one command", ""),
    "data": ("prompts and responses", "response"),
    "config": ("every setting, once", "setting"),
    "people": ("votes of people", ""),
    "delivery": ("export, trackers, benchmarks", ""),
}
STYLE = "text { font: 14px sans-serif; fill: #222 } .name { font-weight: bold } .small { font-size: 12px; fill: #555 }"


def rooms() -> list[str]:
    """Those of ``llm`` that are there, highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "rooms"]
    names = [name.strip(" ()") for layer in layers for name in layer.split("|")]
    return [name for name in names if (ROOT / "llm" / name).is_dir()]


def picture() -> str:
    """The text of the SVG."""
    llm = {name: LLM[name] for name in rooms()}
    height = 190 + 36 * len(llm)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{height}" viewBox="0 0 860 {height}">',
        f'<style>{STYLE}</style><rect width="860" height="{height}" fill="white"/>',
        *_box(10, 10, 840, 44, "cli", "one file a command; options made from llm/config", "setting"),
        *_box(10, 76, 400, 44, "theory", "theorems as objects, with their bounds", ""),
        *_frame(10, 142, 400, 82 + 36 * len(GAMES), "games", "no language model"),
        *_frame(450, 76, 400, height - 124, "llm", "a room imports those below it alone"),
    ]
    for number, (name, (text, walks)) in enumerate(GAMES.items()):
        lines += _box(26, 178 + 36 * number, 368, 30, name, text, walks)
    below = 178 + 36 * len(GAMES)
    lines += _box(26, below, 368, 30, "Step, driver, executor", "", "table response")
    for number, (name, (text, walks)) in enumerate(llm.items()):
        lines += _box(466, 112 + 36 * number, 368, 30, name, text, walks)
    for x, y, path in ((210, 54, "v22"), (650, 54, "v22"), (210, 120, "v22"), (450, below + 15, "h-40")):
        lines.append(f'<path d="M{x} {y} {path}" stroke="#222" stroke-width="2" marker-end="url(#tip)"/>')
    for number, (walk, colour) in enumerate(WALKS.items()):
        x = 20 + 190 * number
        lines += [
            f'<circle cx="{x}" cy="{height - 20}" r="6" fill="{colour}"/>',
            _text(x + 14, height - 15, _walk(walk)),
        ]
    arrow = 'orient="auto" markerWidth="8" markerHeight="8" refX="5" refY="3"'
    tip = f'<marker id="tip" {arrow}><path d="M0 0 6 3 0 6z"/></marker>'
    return "\n".join([*lines[:2], tip, *lines[2:], "</svg>", ""])


def _walk(name: str) -> str:
    return {"table": "a table's way", "response": "a response's way", "setting": "a setting's way"}[name]


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{text}</text>'


def _box(x: int, y: int, width: int, height: int, name: str, text: str, walks: str) -> list[str]:
    middle = y + height // 2 + 5
    dots = [
        f'<circle cx="{x + width - 16 - 18 * number}" cy="{y + height // 2}" r="6" fill="{WALKS[walk]}"/>'
        for number, walk in enumerate(walks.split())
    ]
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="#f4f4f4" stroke="#999"/>'
    return [frame, _text(x + 10, middle, name, "name"), _text(x + 116, middle, text, "small"), *dots]


def _frame(x: int, y: int, width: int, height: int, name: str, text: str) -> list[str]:
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="none" stroke="#222"/>'
    return [frame, _text(x + 16, y + 24, name, "name"), _text(x + 126, y + 24, text, "small")]


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
