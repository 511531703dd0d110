"""A run that is killed and damaged again and again: ``python -m tools.faults --kills 50 --damages 20``.

Each process of the run is a fork of this one, which has loaded the model. It is killed (SIGKILL) at a random moment of
a phase, or inside a rename; or its newest file is cut, deleted or altered. Every file but the logs is compared bit for
bit with that of an undisturbed run. Counted: prompts sampled and pairs judged although they were finished. After every
kill each file is verified: none may be incomplete. With ``--processes 3`` runs of two and three processes are killed by
one of them, see ``ranks``. With ``--combine floors:short=0.5:limit=2`` or ``--combine worst-case`` the run has two
objectives, "bytes" and "short", whose multipliers have to be the same too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from . import ranks
from .harness import Harness


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--damages", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="runs of 2 to N processes, of which one dies"
    )
    parser.add_argument("--combine", metavar="RULE", help="play for two objectives, as nashward align --combine")
    options = parser.parse_args()
    if options.combine and options.processes > 1:
        parser.error("--combine goes with one process")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if options.processes > 1:
            return ranks.main(Path(folder), options.kills, options.prompts, options.seed, options.processes)
        harness = Harness(Path(folder), options.seed, options.prompts, options.combine)
        harness.undisturbed()
        harness.inject(options.kills, options.damages)
        for problem in harness.problems:
            print(problem)
        print(
            f"{harness.kills} kills ({harness.renames} in a rename), {harness.damages} damages, "
            f"{harness.repeated} prompts and pairs made twice, {len(harness.problems)} problems, "
            f"{time.monotonic() - began:.0f} s"
        )
        return 1 if harness.problems else 0


if __name__ == "__main__":
    sys.exit(main())
