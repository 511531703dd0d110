"""Oracles of one's own that are named with their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nashward.errors import NashwardError
from nashward.llm.oracles import as_oracle
from nashward.llm.oracles.source_names import check_name

SCALED = """
from nashward.llm.oracles import Length


class Scaled(Length):
    def __init__(self, scale, flip: bool = False):
        super().__init__(1 / scale)
        self.scale, self.flip, self.fingerprint = scale, flip, f"scaled {scale} {flip}"


class OfItsClass(Length):
    fingerprint = "of the class"

    def __init__(self, scale: float):
        super().__init__(scale)
        self.fingerprint = type(self).fingerprint
"""


def test_a_class_is_made_with_the_settings_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scaled_here.py").write_text(SCALED)
    monkeypatch.syspath_prepend(tmp_path)
    check_name("scaled_here:Scaled:scale=0.5")
    found: Any = as_oracle("scaled_here:Scaled:scale=0.5:flip=true")
    assert (found.scale, found.flip) == (0.5, True)
    assert found.cache_key() != as_oracle("scaled_here:Scaled:scale=0.25:flip=true").cache_key()
    for source, message in (
        ("scaled_here:Scaled:scal=0.5", "has no scal; the nearest is scale"),
        ("scaled_here:Scaled:flip=true", "needs scale; for example scaled_here:Scaled:flip=true:scale="),
        ("scaled_here:Scaled:scale=1:flip=perhaps", "flip: expected true or false, got the string 'perhaps'"),
        ("scaled_here:Scaled:scale=0", "cannot be made: ZeroDivisionError"),
        ("scaled_here:OfItsClass:scale=2", "fingerprint 'of the class' is that of the class.* scale"),
    ):
        with pytest.raises(NashwardError, match=message):
            as_oracle(source)
