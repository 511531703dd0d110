"""What a run says to a person beside its bars."""

from __future__ import annotations

import sys

from tqdm import tqdm


def warn(line: str) -> None:
    """One line on stderr: what there is to know also of a run that is to be quiet."""
    tqdm.write(line, file=sys.stderr)
