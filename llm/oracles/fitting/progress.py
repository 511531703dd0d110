"""How far a fit is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

EVERY = 20.0  # seconds between two lines
Advance = Callable[..., None]  # (count, note="")


@contextmanager
def shown(what: str, total: int, units: str, progress: bool) -> Iterator[Advance]:
    """A bar where stderr is a terminal, else a line every ``EVERY`` seconds and one at the end, on stderr.

    Args:
        what: is done.
        total: of how many units.
        units: for example "rows".
        progress: False: nothing is shown.

    Returns:
        A function of how many more are done, and of a note to show beside.
    """
    began = last = time.monotonic()
    done, text = 0, ""
    with tqdm(total=total, desc=what, unit=f" {units}", disable=None if progress else True) as bar:

        def line() -> None:
            seconds = time.monotonic() - began
            print(f"{what}: {done} of {total} {units} in {seconds:.0f} s{text}", file=sys.stderr, flush=True)

        def advance(count: int, note: str = "") -> None:
            nonlocal done, last, text
            done, text = done + count, f", {note}" if note else text
            bar.update(count)
            bar.set_postfix_str(note)
            if progress and bar.disable and time.monotonic() - last > EVERY and done < total:
                last = time.monotonic()
                line()

        yield advance
        if progress and bar.disable:
            line()
