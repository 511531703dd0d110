"""Tables of win probabilities made exact: by numba, by numpy and by torch to the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games.compiled import accelerator
from nashward.games.forms import exact_sums


def _tables(n: int) -> torch.Tensor:
    """Random tables, some with entries at 0, 1 and 1/2, off by less than the tolerance."""
    rng = np.random.default_rng(n)
    kinds = [
        rng.uniform(size=(5, n, n)),
        rng.integers(0, 3, size=(5, n, n)) / 2,
        10.0 ** -rng.uniform(0, 18, (5, n, n)),
    ]
    P = np.triu(np.concatenate(kinds), 1)
    P += np.tril(1 - P.transpose(0, 2, 1), -1) + np.eye(n) / 2
    return torch.tensor((P + rng.normal(size=P.shape) * 1e-9).clip(0, 1))


def _by_torch(table: torch.Tensor, tolerance: float = 1e-6) -> torch.Tensor:
    upper, lower = table, table.mT.contiguous()
    half = (upper - lower) / 2
    return torch.where(half < 0, 1 - (0.5 - half), 0.5 + half)


WAYS = ["numpy", "numba"] if accelerator.ACCELERATED else ["numpy"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numba":
        import numba  # noqa: F401
    else:
        monkeypatch.delitem(exact_sums.sys.modules, "numba", raising=False)
    name: str = request.param
    return name


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 64])
def test_all_ways_give_the_same_bits(n: int, way: str) -> None:
    tables = _tables(n)
    found = exact_sums.exact_sums(tables, 1e-6)
    assert found is not None
    assert torch.equal(found, _by_torch(tables))
    A = found - 0.5
    assert torch.equal(A, -A.mT)  # skew to the last bit
    single = exact_sums.exact_sums(tables[0].mT.contiguous().mT, 1e-6)  # not contiguous
    assert single is not None
    assert torch.equal(single, found[0])
    assert torch.equal(games.PreferenceGame(tables.numpy()).P, found)
    assert torch.equal(tables, _tables(n))  # the input is unchanged


def test_large_tables_and_others_are_left_to_the_caller(way: str) -> None:
    assert exact_sums.exact_sums(torch.full((65, 65), 0.5, dtype=torch.float64), 1e-6) is None
    assert exact_sums.exact_sums(torch.full((3, 3), 0.5), 1e-6) is None  # float32
    assert exact_sums.exact_sums(torch.full((3, 3), 0.5, dtype=torch.float64, requires_grad=True), 1e-6) is None


@pytest.mark.parametrize(
    ("entry", "value", "says"),
    [
        ((0, 1), 1.25, r"entry \[a, b\] .* not a probability in \[0, 1\]: 1\.25"),
        ((2, 1), -1e-9, r"entry \[c, b\] .* -1e-09"),
        ((1, 2), 0.9, r"P\[b, c\] = 0\.9 and P\[c, b\] = 0\.7"),
        ((1, 1), 0.7, r"P\[b, b\] = 0\.7"),
        ((0, 2), float("nan"), "not a finite number"),
    ],
)
def test_what_is_wrong_is_named_in_every_way(entry: tuple[int, int], value: float, says: str, way: str) -> None:
    P = np.array([[0.5, 0.2, 0.9], [0.8, 0.5, 0.3], [0.1, 0.7, 0.5]])
    P[entry] = value
    with pytest.raises(ValueError, match=says):
        games.PreferenceGame(P, labels=["a", "b", "c"])
    assert exact_sums.exact_sums(torch.tensor(P), 1e-6) is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 2), (2, 4, 3), (65, 3)])
def test_payoffs_of_an_array_are_those_of_its_list_and_the_games_own(shape: tuple[int, ...], way: str) -> None:
    U = np.random.default_rng(3).normal(size=shape)
    game = games.ConstantSumGame(U, 0.0)
    listed = games.ConstantSumGame(U.tolist(), 0.0)
    assert torch.equal(game.payoff, listed.payoff)
    assert (game.row_labels, game.column_labels) == (listed.row_labels, listed.column_labels)
    assert len(game.row_labels) == shape[-2]
    assert (game.single_table is None) == (len(shape) > 2)
    if game.single_table is not None:
        assert np.shares_memory(game.single_table, game.payoff.numpy())
    of_tensor = games.ConstantSumGame(torch.from_numpy(U), 0.0)
    U[..., 0, 0] = 7.0  # who fills an array again does not change the game that was made of it
    for one in (game, of_tensor):
        assert torch.equal(one.payoff, listed.payoff)
        assert one.single_table is None or one.single_table[0, 0] == listed.payoff[0, 0]


def test_games_hold_copies_through_which_gradients_flow() -> None:
    U = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64, requires_grad=True)
    x, y = torch.tensor([0.25, 0.75]).double(), torch.tensor([0.5, 0.5]).double()
    (x @ games.ConstantSumGame(U, 0.0).payoffs((x, y))[0]).backward()
    torch.testing.assert_close(U.grad, torch.outer(x, y))
    left, right = torch.tensor([[0.1], [0.2]]).double().requires_grad_(), np.array([[0.3], [0.1]])
    low = games.LowRankGame(left, right)
    before = low.win_rate([1.0, 0.0])
    before.sum().backward()
    assert left.grad is not None
    assert left.grad.abs().sum() > 0
    right[:] = 0.0
    assert torch.equal(low.win_rate([1.0, 0.0]), before)
    weights = np.array([0.25, 0.75])
    many = games.ContextualGame([U.detach().new_full((2, 2), 0.5)] * 2, weights=weights)
    weights[:] = 0.5
    assert many.weights.tolist() == [0.25, 0.75]


def test_a_preference_game_holds_its_table_once(way: str) -> None:
    P = _tables(5)[0].numpy()
    game = games.PreferenceGame(P)
    assert game.single_table is not None
    assert np.shares_memory(game.single_table, game.P.numpy())
    assert not np.shares_memory(game.single_table, P)  # rounding is removed from a copy
    assert games.PreferenceGame(np.stack([P, P])).single_table is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([[1.0, float("nan")], [0.0, 2.0]], r"\[0, 1\].*not a finite number"),
        ([[1.0, 0.0], [-float("inf"), 2.0]], r"\[1, 0\].*not a finite number.*-inf"),
        ([[float("inf"), float("nan")]], r"\[0, 0\].*not a finite number"),
        ([[1e308, 1.0], [0.0, -1.0]], r"1e\+308.*double precision"),
    ],
)
def test_payoffs_that_are_no_numbers_are_named_in_every_way(given: list[list[float]], says: str, way: str) -> None:
    for payoff in (given, np.array(given), torch.tensor(given, dtype=torch.float64)):
        with pytest.raises(ValueError, match=says):
            games.ConstantSumGame(payoff, 0.0)


def test_arrays_of_another_kind_are_read_as_before(way: str) -> None:
    U = np.arange(12.0).reshape(3, 4)
    locked = U.copy()
    locked.flags.writeable = False
    for other in (U.astype(">f8"), np.asfortranarray(U), U[::-1][::-1], locked, U.astype(int), np.ma.array(U)):
        assert games.ConstantSumGame(other, 0.0).payoff.tolist() == U.tolist()
    for empty in (np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((0, 2, 2))):
        with pytest.raises(ValueError, match="shape"):
            games.ConstantSumGame(empty, 0.0)


def test_the_tolerance_is_the_callers(way: str) -> None:
    P = torch.tensor([[0.5, 0.6], [0.41, 0.5]], dtype=torch.float64)
    assert exact_sums.exact_sums(P, 1e-6) is None
    found = exact_sums.exact_sums(P, 0.02)
    assert found is not None
    assert found[0, 1] == pytest.approx(0.595)
    low = torch.tensor([[0.5, 0.59], [0.40, 0.5]], dtype=torch.float64)
    assert exact_sums.exact_sums(low, 1e-6) is None
    assert exact_sums.exact_sums(low, 0.02) is not None
