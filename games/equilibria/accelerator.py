"""numba where it is installed (the ``accelerator`` extra): loops compiled at their first call and kept on disk."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

AVAILABLE = importlib.util.find_spec("numba") is not None


def compiled(function: Callable) -> Callable[..., Any]:
    """``function`` as machine code. Without numba it stays as it is: whoever calls it asks for ``AVAILABLE`` first."""
    if not AVAILABLE:
        return function
    import numba

    # Sums may be reassociated, so that they are vectorised; NaN and infinity keep their meaning.
    return numba.njit(cache=True, fastmath={"reassoc", "contract", "arcp", "nsz"}, error_model="numpy")(function)
