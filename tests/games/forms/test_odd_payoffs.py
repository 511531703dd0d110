"""Payoffs that cannot make a table are refused, and the error says what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from nashward import games


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (scipy.sparse.csr_array(np.array([[0.5, 0.9], [0.1, 0.5]])), r"got csr_array; give its toarray\(\)"),
        ({"a": {"a": 0.5}}, "got dict"),
        ("0.5 0.9; 0.1 0.5", "got str"),
        (object(), "got object"),
    ],
    ids=["sparse", "dict", "text", "object"],
)
def test_what_is_no_table_is_named(values: Any, named: str) -> None:
    for form in (games.PreferenceGame, games.ConstantSumGame):
        with pytest.raises(ValueError, match=named):
            form(values)


@pytest.mark.parametrize(("payoff", "total"), [([[1e308, -1e308]], 0.0), ([[1e308, 0.0]], 0.0), ([[5e307]], 1.5e308)])
def test_payoffs_whose_differences_are_beyond_double_precision_are_refused(payoff: Any, total: float) -> None:
    with pytest.raises(ValueError, match="beyond the numbers of double precision"):
        games.ConstantSumGame(payoff, total)


def test_the_largest_payoffs_that_are_read_have_their_equilibrium() -> None:
    game = games.ConstantSumGame([[8e307, -8e307], [-8e307, 8e307]], 0.0)
    equilibrium = games.nash(game)
    np.testing.assert_allclose(equilibrium.policy.row, 0.5)
    assert abs(float(equilibrium.value)) < 1e-12 * 8e307
