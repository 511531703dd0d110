"""What is no oracle, or answers nothing, is refused with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from nashward.llm.oracles import ConformanceError, Length, check_oracle, preference_matrices


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Length, r"Length is a class, expected an oracle: call it, Length\(\.\.\.\)"),
        (lambda prompt, a, b: 0.5, "function is no PreferenceOracle; derive from it or wrap a function in Function"),
        ("judge", "'judge' is a str, expected an oracle: load it with as_oracle"),
        (None, "NoneType is no PreferenceOracle"),
    ],
)
def test_what_is_no_oracle_is_refused_with_what_to_do(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        preference_matrices(given, ["p"], [["a", "b"]])
    with pytest.raises(ValueError, match=said):
        check_oracle(given)


def test_an_oracle_that_returns_nothing_fails_with_one_message() -> None:
    class Nothing(Length):
        def raw_logits(self, *asked: Any) -> Any:
            return None

    with pytest.raises(ConformanceError, match=r"^[^\n]* fails every check: raw_logits returned None; return a list"):
        check_oracle(Nothing())
