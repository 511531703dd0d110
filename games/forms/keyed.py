"""Values by key: mappings, and pandas Series by their index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.shortened import quoted


def is_series(values: Any) -> bool:
    """Whether an object is a labelled column: a pandas Series, or one that acts like it. pandas is not imported.

    Args:
        values: anything.

    Example:
        >>> is_series([1.0, 2.0])
        False
    """
    return all(hasattr(values, name) for name in ("index", "items", "to_numpy")) and getattr(values, "ndim", 0) == 1


def counts_rows(series: Any) -> bool:
    """Whether a Series has pandas' default index 0, 1, ..., which names nothing.

    Args:
        series: a column that ``is_series`` accepts.

    Example:
        >>> import pandas as pd
        >>> counts_rows(pd.Series([5.0, 6.0])), counts_rows(pd.Series([5.0, 6.0], index=["x", "y"]))
        (True, False)
    """
    index = series.index
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def by_key(name: str, values: Any) -> Mapping[Any, Any]:
    """A mapping or a Series as a mapping from key to value.

    Args:
        name: what the values are called in the error.
        values: a mapping, or a Series.

    Raises:
        ValueError: a key occurs twice, or is missing.

    Example:
        >>> import pandas as pd
        >>> by_key("length", pd.Series([5, 6], index=["x", "y"]))["y"]
        6
    """
    if isinstance(values, Mapping):
        return values
    found: dict[Any, Any] = {}
    for key, value in values.items():
        if key is None or key != key:
            raise NashwardError(f"{name} has a row without a key (its index holds {key}); each row needs one")
        if key in found:
            raise NashwardError(f"{name} has {quoted(key, 60)} twice in its index; each row needs a key of its own")
        found[key] = value
    return found


def in_order(name: str, values: Any, keys: tuple[str, ...], what: str) -> Any:
    """A mapping or a Series as a list in the order of the keys; anything else unchanged.

    Args:
        name: what the values are called in the error.
        values: values by key, or in order.
        keys: the keys of all values.
        what: what a key is called in the error.

    Raises:
        ValueError: a key is missing, or one is not among ``keys``.

    Example:
        >>> in_order("policy", {"b": 0.25, "a": 0.75}, ("a", "b"), "action")
        [0.75, 0.25]
    """
    if not isinstance(values, Mapping) and not (is_series(values) and not counts_rows(values)):
        return np.array(values.to_numpy()) if is_series(values) else values  # a copy, so that torch may write to it
    found = {str(key): value for key, value in by_key(name, values).items()}
    if unknown := [key for key in found if key not in keys]:  # first: what lacks may have been meant
        known = ", ".join(map(repr, keys))
        raise NashwardError(f"the {name} names {quoted(unknown[0], 60)}, which is no {what}; there are: {known}")
    if lacking := [key for key in keys if key not in found]:
        raise NashwardError(
            f"the {name} has nothing for the {what} {quoted(lacking[0], 60)}; it is by {what}: give all"
        )
    return [found[key] for key in keys]
