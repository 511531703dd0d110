"""On public verdicts an oracle on a frozen encoder beats the length of the responses: every fourth prompt of them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import fit_oracle
import pytest

DATA = Path(os.environ.get("NASHWARD_DATA", ""))


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(
    not (DATA / "alpacaeval" / "verdicts.jsonl.gz").is_file(), reason="needs NASHWARD_DATA with alpacaeval"
)
def test_it_beats_the_length(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["fit_oracle.py", "--kinds", "bt", "--every", "4"])
    fit_oracle.main()
    out = capsys.readouterr().out

    def figures(name: str) -> list[float]:
        (line,) = re.findall(rf"^{name} +(.*)$", out, re.MULTILINE)
        return [float(word) for word in re.findall(r"-?\d+\.\d+", line)]

    length, kept, removed = (figures(name) for name in ("the length", "bt, length kept", "bt, length removed"))
    assert length[0] < figures("the majority")[0] < figures("a coin")[0]
    assert kept[0] < length[0] - 0.01  # in nats; 0.04 on all prompts
    assert kept[2] > kept[3]  # by more than the standard error of the lead
    assert removed[0] > length[0]  # these votes go by length: without it less is known
