"""numba where it is installed (the ``accelerator`` extra): loops compiled at their first call and kept on disk."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

ACCELERATED = importlib.util.find_spec("numba") is not None
"""Whether numba is installed (the ``accelerator`` extra)."""


def compiled(function: Callable) -> Callable[..., Any]:
    """``function`` compiled by numba; unchanged without numba: callers check ``ACCELERATED`` first."""
    if not ACCELERATED:
        return function
    import numba

    # Sums may be reassociated, so that they vectorise; NaN and infinity keep their meaning.
    return numba.njit(cache=True, fastmath={"reassoc", "contract", "arcp", "nsz"}, error_model="numpy")(function)
