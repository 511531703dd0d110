"""The oracle protocol, on oracles whose logits are known."""

import numpy as np
import pytest

from nashward.llm.oracles import PreferenceOracle, curl, preference_matrices


class Letters(PreferenceOracle):
    """Logits from a table over one-letter texts; it keeps what it was asked for."""

    name = "letters"

    def __init__(self, table):
        self.table = np.asarray(table, dtype=float)
        self.asked = []

    def raw_logits(self, prompts, candidates, pairs):
        asked_of = zip(prompts, candidates, pairs, strict=True)
        self.asked += [(p, c[i], c[j]) for p, c, asked in asked_of for i, j in asked]
        index = "abcdef".index
        return [
            np.array([self.table[index(c[i]), index(c[j])] for i, j in asked])
            for c, asked in zip(candidates, pairs, strict=True)
        ]

    def truncated(self, prompt, candidates):
        return len(candidates)


@pytest.fixture
def oracle():
    return Letters(np.random.default_rng(0).normal(0.0, 4.0, (6, 6)))


def test_both_orders_are_averaged(oracle):
    result = preference_matrices(oracle, ["p"], [["a", "b", "c"]])[0]
    L = oracle.table[:3, :3] * (1 - np.eye(3))
    np.testing.assert_array_equal(result.logits, L)
    np.testing.assert_allclose(result.P, 1 / (1 + np.exp(-(L - L.T) / 2)), atol=1e-15)
    assert result.P.dtype == np.float64
    upper = np.triu_indices(3, 1)
    assert result.meta["order_gap"] == pytest.approx(np.abs(L + L.T)[upper].mean() / 2)
    assert result.meta["calls"] == 6
    assert result.meta["truncated"] == 3


def test_square_tables_are_complementary_exactly(oracle):
    for seed in range(50):
        oracle.table = np.random.default_rng(seed).normal(0.0, 10.0, (6, 6))
        P = preference_matrices(oracle, ["p"], [list("abcdef")])[0].P
        assert (P + P.T == 1.0).all()
        assert (np.diag(P) == 0.5).all()


def test_a_permutation_of_the_candidates_permutes_the_table(oracle):
    texts = list("abcdef")
    table = preference_matrices(oracle, ["p"], [texts])[0].P
    order = np.random.default_rng(1).permutation(6)
    permuted = preference_matrices(oracle, ["p"], [[texts[i] for i in order]])[0].P
    np.testing.assert_array_equal(permuted, table[np.ix_(order, order)])


def test_equal_texts_are_judged_once_and_tie(oracle):
    result = preference_matrices(oracle, ["p"], [["a", "b", "a", "a"]])[0]
    assert sorted(oracle.asked) == [("p", "a", "b"), ("p", "b", "a")]
    assert (result.P[np.ix_([0, 2, 3], [0, 2, 3])] == 0.5).all()
    assert (result.P[[0, 2, 3], 1] == result.P[0, 1]).all()
    assert (result.logits[np.ix_([0, 2, 3], [0, 2, 3])] == 0.0).all()


def test_all_texts_equal_needs_no_judgement(oracle):
    result = preference_matrices(oracle, ["p"], [["a", "a"]])[0]
    assert oracle.asked == []
    assert (result.P == 0.5).all()
    assert result.meta == {"order_gap": 0.0, "calls": 0, "cached": 0, "missing": 0, "truncated": 1, "curl": 0.0}


def test_the_number_of_candidates_may_differ(oracle):
    results = preference_matrices(oracle, ["p", "q", "r"], [["a"], ["a", "b"], ["c", "d", "e"]])
    assert [result.P.shape for result in results] == [(1, 1), (2, 2), (3, 3)]
    np.testing.assert_array_equal(results[2].P, preference_matrices(oracle, ["r"], [["c", "d", "e"]])[0].P)


def test_against_opponents_is_a_block_of_the_square_table(oracle):
    square = preference_matrices(oracle, ["p"], [list("abcde")])[0]
    oracle.asked.clear()
    block = preference_matrices(oracle, ["p"], [["a", "b"]], [["c", "d", "e"]])[0]
    assert len(oracle.asked) == block.meta["calls"] == 12
    np.testing.assert_array_equal(block.P, square.P[:2, 2:])
    np.testing.assert_array_equal(block.logits, [square.logits[:2, 2:], square.logits[2:, :2].T])
    assert "curl" not in block.meta


def test_an_opponent_equal_to_a_candidate_ties(oracle):
    block = preference_matrices(oracle, ["p"], [["a", "b"]], [["b", "a", "c"]])[0]
    assert block.P[0, 1] == block.P[1, 0] == 0.5
    assert block.P[0, 0] + block.P[1, 1] == 1.0


def test_a_symmetric_oracle_is_asked_for_one_order(oracle):
    oracle.table = oracle.table - oracle.table.T
    both = preference_matrices(oracle, ["p"], [["a", "b", "c"]])[0]
    oracle.asked.clear()
    oracle.symmetric = True
    one = preference_matrices(oracle, ["p"], [["a", "b", "c"]])[0]
    assert len(oracle.asked) == 3
    np.testing.assert_array_equal(one.P, both.P)
    np.testing.assert_array_equal(one.logits, both.logits)
    assert one.meta["order_gap"] == 0.0


def test_a_missing_judgement_stays_missing(oracle):
    oracle.table[0, 1] = np.nan
    result = preference_matrices(oracle, ["p"], [["a", "b", "c"]])[0]
    missing = np.zeros((3, 3), dtype=bool)
    missing[0, 1] = missing[1, 0] = True
    np.testing.assert_array_equal(np.isnan(result.P), missing)
    assert np.isnan(result.meta["curl"])
    assert np.isfinite(result.meta["order_gap"])
    oracle.table[:] = np.nan
    assert np.isnan(preference_matrices(oracle, ["p"], [["a", "b"]])[0].meta["order_gap"])


def test_curl_is_zero_for_scores_and_one_for_a_cycle():
    score = np.array([0.3, -1.0, 2.0, 0.0])
    transitive = score[:, None] - score
    cycle = np.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    assert curl(transitive) == pytest.approx(0.0, abs=1e-15)
    assert curl(cycle) == pytest.approx(1.0)
    assert curl(cycle + 5.0) == pytest.approx(1.0)  # a bias of the order shown is no curl
    assert curl(np.zeros((2, 2))) == 0.0


@pytest.mark.parametrize(
    ("prompts", "candidates", "opponents", "message"),
    [
        (["p", "q"], [["a"]], None, "2 prompts but 1 list of candidates"),
        (["p"], [["a"]], [["b"], ["c"]], "1 prompt but 2 lists of opponents"),
        (["p"], [[]], None, "candidates of prompt 0: expected a list of at least one string"),
        (["p"], ["ab"], None, "candidates of prompt 0: expected a list"),
        ("p", [["a"]], None, "a single string was given"),
        (["p"], [["a", 3]], None, "candidates 1 of prompt 0 is of type int"),
        ([{"role": "user"}], [["a"]], None, "prompt 0 is of type dict"),
    ],
)
def test_errors_name_what_was_given(oracle, prompts, candidates, opponents, message):
    with pytest.raises(ValueError, match=message):
        preference_matrices(oracle, prompts, candidates, opponents)


def test_an_oracle_that_returns_too_few_logits_is_told(oracle):
    oracle.raw_logits = lambda prompts, candidates, pairs: [np.zeros(1)]
    with pytest.raises(ValueError, match=r"letters .*\(1,\) for prompt 0"):
        preference_matrices(oracle, ["p"], [["a", "b"]])
    oracle.raw_logits = lambda prompts, candidates, pairs: []
    with pytest.raises(ValueError, match=r"letters .* 0 prompts"):
        preference_matrices(oracle, ["p"], [["a", "b"]])


def test_an_oracle_without_raw_logits_cannot_be_made():
    empty = type("Empty", (PreferenceOracle,), {})
    with pytest.raises(TypeError, match="raw_logits"):
        empty()
