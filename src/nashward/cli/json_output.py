"""What a command writes for a machine to read (``--json``)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def write(path: Path, content: Any) -> None:
    """Write what ``text`` returns, and a line's end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(content) + "\n", encoding="utf-8")


def text(content: Any) -> str:
    """JSON: tensors and arrays become lists, a ``Profile`` an object, and what is not finite null."""
    return json.dumps(_plain(content), allow_nan=False)


def _plain(value: Any) -> Any:
    import numpy as np
    import torch

    from nashward.games.forms.game import Profile

    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Profile):
        return {"row": _plain(value.row), "column": _plain(value.column)}
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items()}
    return [_plain(held) for held in value] if isinstance(value, list | tuple) else value
