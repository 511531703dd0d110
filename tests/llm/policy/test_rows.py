"""Rows that are taken several times have the same gradient bits again, with several threads too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nashward.llm.policy.rows import take_rows


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_the_gradient_of_rows_is_the_same_to_the_bit_each_time() -> None:
    torch.manual_seed(0)
    states = torch.randn(600, 576, requires_grad=True)  # beyond the size from which torch shares work among threads
    index = torch.cat([torch.arange(100).repeat(5), torch.arange(100, 600)])
    gradient = torch.randn(len(index), 576)
    found = [torch.autograd.grad(take_rows(states, index), states, gradient)[0] for _ in range(20)]
    assert all(torch.equal(one, found[0]) for one in found)
    exact = torch.zeros(600, 576, dtype=torch.float64).index_add_(0, index, gradient.double())
    torch.testing.assert_close(found[0].double(), exact, rtol=1e-5, atol=1e-5)


def test_rows_have_the_shape_of_their_index() -> None:
    states, index = torch.arange(12.0).view(4, 3), torch.tensor([[3, 0], [1, 1]])
    assert torch.equal(take_rows(states, index), states[index])
    assert take_rows(states, index[:0]).shape == (0, 2, 3)
