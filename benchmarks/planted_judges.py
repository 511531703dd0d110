"""How often `nashward diagnose` names an error that was planted in a judge, and accuses a judge that has none.

    python benchmarks/planted_judges.py             # 20 seeds of each, about three minutes

A simulated judge examines 200 prompts with four responses each; where an error takes labels there is one vote of a
person on each prompt. The table is that of docs/judges.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.llm.oracles.diagnosis.planted import PLANTED, examine

from nashward.games.analysis.style import STYLE

UNITS = {
    "order": "log-odds of the response shown first",
    "flips": "log-odds, standard deviation of what the order adds",
    **dict.fromkeys(STYLE, "log-odds a standard deviation"),
    "accuracy": "the share of quality in it: a coin",
    "calibration": "times too large log-odds",
    "favour": "log-odds of one of four authors",
    "cycles": "log-odds of each of three authors over the next",
    "agreement": "the share of quality in it, beside two good judges, without labels",
    "repeat": "log-odds, standard deviation from call to call",
    "truncated": "of the responses",
    "missing": "of the pairs",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = range(parser.parse_args().seeds)
    print(f"| planted | size | named in {len(seeds)} seeds |\n| --- | --- | --- |")
    for kind, size in PLANTED.items():
        named = sum(kind in [finding.kind for finding in examine(kind, seed).named] for seed in seeds)
        print(f"| {kind} | {size:g} {UNITS[kind]} | {named} |", flush=True)
    print(f"| nothing | | {sum(bool(examine('clean', seed).named) for seed in seeds)} |")


if __name__ == "__main__":
    main()
