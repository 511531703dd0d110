"""Ensembles of oracles: each rule against its formula, P + P^T = 1, and cycles of transitive judges."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from nashward.errors import NashwardError
from nashward.games.analysis.social_choice import cyclic_triples
from nashward.llm.oracles import (
    Ensemble,
    Function,
    Length,
    PreferenceOracle,
    ScalarOracle,
    as_oracle,
    check_oracle,
    preference_matrices,
)
from nashward.llm.oracles.ensembles.ensemble import Rule

RULES: tuple[Rule, ...] = ("log-odds", "probability", "majority")
TEXTS = ["a", "b", "c", "d", "e"]


class Scores(ScalarOracle):
    """A transitive judge of one-letter texts."""

    def __init__(self, values: list[float], name: str = "scores") -> None:
        self.values, self.name, self.fingerprint = dict(zip(TEXTS, values, strict=False)), name, f"{values}"

    def rewards(self, prompts, candidates):
        return [np.array([self.values[text] for text in texts]) for texts in candidates]


class Order(PreferenceOracle):
    """A judge that the order shown sways."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def raw_logits(self, prompts, candidates, pairs):
        return [
            np.array([self.table[TEXTS.index(c[i]), TEXTS.index(c[j])] for i, j in own])
            for c, own in zip(candidates, pairs, strict=True)
        ]


def _P(oracle: PreferenceOracle, texts: list[str] = TEXTS) -> np.ndarray:
    return preference_matrices(oracle, ["?"], [texts])[0].P


def _orders(count: int) -> list[Order]:
    random = np.random.default_rng(7)
    return [Order(random.normal(0, 2, (5, 5))) for _ in range(count)]


def test_the_mean_of_log_odds_is_that_of_the_members() -> None:
    members = _orders(3)
    L = np.mean([np.log(P) - np.log(1 - P) for P in map(_P, members)], axis=0)
    np.testing.assert_allclose(_P(Ensemble(members, "log-odds")), 1 / (1 + np.exp(-L)), atol=1e-14)


def test_the_mean_of_probabilities_is_that_of_the_members() -> None:
    members = _orders(3)
    expected = np.average([_P(member) for member in members], axis=0, weights=[1, 2, 5])
    np.testing.assert_allclose(_P(Ensemble(members, "probability", [1, 2, 5])), expected, atol=1e-14)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_majority_counts_all_outcomes_of_the_votes(count: int) -> None:
    members = _orders(count)
    each = np.stack([_P(member) for member in members])
    expected = np.zeros((5, 5))
    for votes in product((0, 1), repeat=count):
        chance = np.prod([p if vote else 1 - p for p, vote in zip(each, votes, strict=True)], axis=0)
        expected += chance * (1.0 if 2 * sum(votes) > count else 0.5 if 2 * sum(votes) == count else 0.0)
    np.testing.assert_allclose(_P(Ensemble(members, "majority")), expected, atol=1e-14)
    if count == 3:
        p, q, r = each
        np.testing.assert_allclose(expected, p * q + p * r + q * r - 2 * p * q * r, atol=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_tables_are_complementary_exactly(rule) -> None:
    for scale in (0.1, 3.0, 60.0):
        P = _P(Ensemble([Order(scale * order.table) for order in _orders(4)], rule))
        assert (P + P.T == 1.0).all()
        assert (np.diag(P) == 0.5).all()


def test_the_majority_of_three_transitive_judges_cycles() -> None:
    judges = [Scores(values) for values in ([2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 2.0])]
    assert all(judge.transitive and int(cyclic_triples(_P(judge, TEXTS[:3]))) == 0 for judge in judges)
    majority = Ensemble(judges, "majority")
    P = _P(majority, TEXTS[:3])
    assert not majority.transitive
    assert int(cyclic_triples(P)) == 1
    near, far = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(2.0))  # two judges prefer a to b by 1, one b to a by 2
    assert P[0, 1] == pytest.approx(near * near + 2 * near * far - 2 * near * near * far, abs=1e-15)
    assert P[0, 1] == P[1, 2] == P[2, 0] > 0.5
    level = Ensemble(judges, "log-odds")
    assert level.transitive
    np.testing.assert_allclose(_P(level, TEXTS[:3]), 0.5, atol=1e-15)  # the scores cancel
    sharp = [Scores([100.0 * v for v in judge.values.values()]) for judge in judges]
    assert (
        int(cyclic_triples(_P(Ensemble(sharp, "probability"), TEXTS[:3]))) == 1
    )  # a mean of probabilities may as well


def test_certain_and_missing_judgements() -> None:
    sure = Function(lambda p, a, b: 1.0 if a < b else 0.0, symmetric=True)
    unsure = Function(lambda p, a, b: 0.25 if a < b else 0.75, symmetric=True)
    against = Function(lambda p, a, b: 0.0 if a < b else 1.0, symmetric=True)
    silent = Function(lambda p, a, b: None if {a, b} == {"a", "b"} else 0.5, symmetric=True)
    assert _P(Ensemble([sure, sure, unsure], "majority"), ["a", "b"])[0, 1] == 1.0
    assert _P(Ensemble([sure, against, unsure], "majority"), ["a", "b"])[0, 1] == pytest.approx(0.25)
    assert _P(Ensemble([sure, against], "majority"), ["a", "b"])[0, 1] == 0.5
    assert _P(Ensemble([sure, unsure], "probability"), ["a", "b"])[0, 1] == pytest.approx(0.625)
    assert _P(Ensemble([sure, unsure], "log-odds"), ["a", "b"])[0, 1] == 1.0
    assert _P(Ensemble([sure, against], "log-odds"), ["a", "b"])[0, 1] == 0.5
    assert _P(Ensemble([sure, unsure], "log-odds", [0, 1]), ["a", "b"])[0, 1] == pytest.approx(0.25)
    for rule in RULES:
        P = _P(Ensemble([sure, silent], rule), ["a", "b", "c"])
        assert np.isnan(P[[0, 1], [1, 0]]).all()
        assert not np.isnan(np.delete(P.ravel(), [1, 3])).any()


def test_unlikely_wins_keep_their_log_odds() -> None:
    """Far from 1/2 the log-odds are those of the probability itself, not of 1 minus a number near to it."""
    majority = Ensemble([Scores([0.0, 50.0])] * 3, "majority")
    (logits,) = majority.raw_logits(["?"], [["a", "b"]], [[(0, 1)]])
    p = np.exp(-50.0)
    assert majority.pooled(logits)[0] == pytest.approx(np.log(3 * p * p), rel=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_an_ensemble_conforms_and_is_cached_by_its_members(rule, tmp_path: Path) -> None:
    ensemble = Ensemble([Length(), Length(-0.5)], rule)
    check_oracle(ensemble)
    other = Ensemble([Length(), Length(-0.25)], rule)
    assert ensemble.cache_key() != other.cache_key() is not None
    assert Ensemble([Length(), _orders(1)[0]], rule).cache_key() is None
    cache = tmp_path / "judgements.sqlite"
    first, again = (preference_matrices(ensemble, ["?"], [["one", "three"]], cache=cache)[0] for _ in range(2))
    assert (first.meta["calls"], again.meta["calls"]) == (1, 0)
    assert (first.P == again.P).all()


def test_members_of_an_ensemble_of_networks_are_averaged_first() -> None:
    class Two(PreferenceOracle):
        symmetric = True

        def raw_logits(self, prompts, candidates, pairs):
            return [np.array([[1.0], [3.0]]) * [1.0 if i < j else -1.0 for i, j in own] for own in pairs]

    assert Ensemble([Two()], "log-odds").raw_logits(["?"], [["a", "b"]], [[(0, 1)]])[0].tolist() == [[2.0]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(NashwardError, match="at least one member"):
        Ensemble([])
    with pytest.raises(NashwardError, match="rule is 'median'; expected one of log-odds, probability, majority"):
        Ensemble([Length()], "median")  # type: ignore[arg-type]
    with pytest.raises(NashwardError, match="leave weights out"):
        Ensemble([Length()], "majority", [1.0])
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(NashwardError, match="for 2 members"):
            Ensemble([Length(), Length()], "log-odds", weights)
    with pytest.raises(NashwardError, match="as_oracle"):
        Ensemble([len])  # type: ignore[list-item]
    scored = Length()
    scored.aggregation = "hodge"
    with pytest.raises(NashwardError, match="length has the aggregation 'hodge'"):
        Ensemble([scored])


def test_an_ensemble_of_ones_own_is_named_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "board_of_judges.py").write_text(
        "from nashward.llm.oracles import Ensemble, Length, Plain\n"
        "BOARD = Ensemble([Length(), Length(-2.0), Plain()], 'majority')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    board = as_oracle("board_of_judges:BOARD")
    assert board.name == "majority of length, brevity, plain"
    pairs = list(combinations(range(3), 2))
    assert board.raw_logits(["?"], [["a", "bb", "ccc"]], [pairs])[0].shape == (3, 3)
