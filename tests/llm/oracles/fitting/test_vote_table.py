"""A table of votes: counts and prior exactly, and what each fill may and may not say where there are none."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from nashward.llm.oracles import Cache, preference_matrices
from nashward.llm.oracles.fitting.vote_table import RIDGE, Fill, VoteTable
from nashward.llm.oracles.fitting.votes import Vote

TEXTS = list("abcdef")


def _random_votes(seed: int, count: int = 40) -> list[Vote]:
    rng = np.random.default_rng(seed)
    votes = []
    for _ in range(count):
        i, j = rng.choice(6, 2, replace=False)
        n = float(rng.integers(1, 6))
        votes.append(Vote("p", TEXTS[i], TEXTS[j], n * rng.random(), n, weight=rng.random() + 0.1))
    return votes


def _planted(logits: np.ndarray, hidden: list[tuple[int, int]], n: float = 1e8) -> list[Vote]:
    """So many votes that their shares are those of the logits, but for the pairs that are hidden."""
    shares = 1 / (1 + np.exp(-logits))
    pairs = [pair for pair in itertools.combinations(range(len(logits)), 2) if pair not in hidden]
    return [Vote("p", TEXTS[i], TEXTS[j], n * shares[i, j], n) for i, j in pairs]


def _logits(table: VoteTable, texts: list[str] = TEXTS, prompt: str = "p") -> np.ndarray:
    return preference_matrices(table, [prompt], [texts])[0].logits


@pytest.mark.parametrize("prior", [0.5, 1.0, 3.25])
def test_the_mean_of_the_posterior(prior: float) -> None:
    votes = [Vote("p", "a", "b", 3, 4), Vote("p", "b", "a", 2, 2, "ann"), Vote("p", "a", "b", 0.5, 1, "bob", 2.0)]
    (result,) = preference_matrices(VoteTable(votes, prior), ["p"], [["a", "b"]])
    assert result.P[0, 1] == pytest.approx((prior + 3 + 0 + 1) / (2 * prior + 4 + 2 + 2), abs=1e-15)
    assert (result.P + result.P.T == 1.0).all()
    assert result.meta["calls"] == 1


def test_rows_are_votes_as_in_a_file() -> None:
    rows = [{"prompt": "p", "a": "a", "b": "b", "wins": 3, "n": 4}, Vote("p", "b", "a", 2, 2)]
    votes = [Vote("p", "a", "b", 3, 4), Vote("p", "b", "a", 2, 2)]
    assert VoteTable(rows).fingerprint == VoteTable(iter(rows)).fingerprint == VoteTable(votes).fingerprint
    assert np.isnan(_logits(VoteTable([]), ["a", "b"])[0, 1])
    with pytest.raises(ValueError, match="row 2 has no result"):
        VoteTable([*votes[:1], {"prompt": "p", "a": "x", "b": "y"}])


def test_without_a_prior_shares_are_raw_and_may_be_sure() -> None:
    table = VoteTable([Vote("p", "a", "b", 3, 3), Vote("p", "a", "c", 1, 4)], prior=0)
    (result,) = preference_matrices(table, ["p"], [["a", "b", "c"]])
    assert result.logits[0, 1] == -result.logits[1, 0] == np.inf
    assert (result.P[0, 1], result.P[1, 0]) == (1.0, 0.0)
    assert result.P[0, 2] == pytest.approx(0.25, abs=1e-15)


@pytest.mark.parametrize("fill", ["missing", "half", "bradley-terry", "low-rank"])
def test_neither_the_order_of_the_votes_nor_how_a_pair_is_written_changes_a_bit(fill: Fill) -> None:
    votes = _random_votes(0)
    rng = np.random.default_rng(1)
    shuffled = [votes[k] for k in rng.permutation(len(votes))]
    turned = [
        vote if rng.random() < 0.5 else replace(vote, a=vote.b, b=vote.a, wins=vote.n - vote.wins) for vote in votes
    ]
    one, two, three = (VoteTable(own, fill=fill) for own in (votes, shuffled, turned))
    np.testing.assert_array_equal(_logits(two), _logits(one))
    np.testing.assert_allclose(_logits(three), _logits(one), atol=1e-9)  # n - (n - wins) is rounded
    assert two.fingerprint == one.fingerprint
    P = preference_matrices(one, ["p"], [TEXTS])[0].P
    np.testing.assert_array_equal(P + P.T, np.where(np.isnan(P), np.nan, 1.0))


def test_votes_of_a_pair_add_up() -> None:
    votes = [Vote("p", "a", "b", wins, 1, annotator) for wins, annotator in ((1, "x"), (0.5, "y"), (1, None), (0, "x"))]
    weighed = [Vote("p", "a", "b", 1.25, 2, weight=2.0)]
    together = [Vote("p", "a", "b", 2.5, 4)]
    assert VoteTable(votes).fingerprint == VoteTable(together).fingerprint == VoteTable(weighed).fingerprint
    np.testing.assert_array_equal(_logits(VoteTable(votes), ["a", "b"]), _logits(VoteTable(together), ["a", "b"]))


def test_unknown_texts_and_prompts_are_missing_or_half() -> None:
    votes = [Vote("p", "a", "b", 1, 1), Vote("p", "c", "c", 1, 1), Vote("p", "a", "d", 1, 1, weight=0.0)]
    for texts, prompt in (
        (["a", "c"], "p"),
        (["a", "d"], "p"),
        (["a", "A"], "p"),
        (["a", "a "], "p"),
        (["a", "b"], "q"),
    ):
        for fill in ("missing", "bradley-terry", "low-rank"):
            assert np.isnan(_logits(VoteTable(votes, fill=fill), texts, prompt)[0, 1])
        (result,) = preference_matrices(VoteTable(votes, fill="half"), [prompt], [texts])
        assert (result.P == 0.5).all()
        assert result.meta["missing"] == 0


def test_fills_leave_pairs_with_votes_alone() -> None:
    votes = _random_votes(2, count=12)
    plain = _logits(VoteTable(votes))
    counted = np.isfinite(plain)
    assert 6 < counted.sum() < 36
    for fill in ("half", "bradley-terry", "low-rank"):
        np.testing.assert_array_equal(_logits(VoteTable(votes, fill=fill))[counted], plain[counted])


def test_bradley_terry_fills_in_a_planted_table() -> None:
    score = np.array([0.0, 1.5, -2.0, 0.3, 3.0, -0.7])
    planted = score[:, None] - score
    hidden = [(0, 4), (1, 2), (3, 5), (2, 4)]
    table = VoteTable(_planted(planted, hidden), prior=1e-3, fill="bradley-terry")
    np.testing.assert_allclose(_logits(table), planted, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_bradley_terry_is_at_the_maximum_that_its_docstring_says(seed: int) -> None:
    votes, prior = _random_votes(seed, count=8), 0.5
    logits = _logits(VoteTable(votes, prior, fill="bradley-terry"))
    won = np.zeros((6, 6))
    for vote in votes:
        i, j = TEXTS.index(vote.a), TEXTS.index(vote.b)
        won[i, j] += vote.weight * vote.wins
        won[j, i] += vote.weight * (vote.n - vote.wins)
    counted = (won + won.T) > 0
    won = np.where(counted, won + prior, 0.0)
    filled = np.isfinite(logits) & ~counted & ~np.eye(6, dtype=bool)
    assert filled.any()

    def loss(s: np.ndarray) -> float:
        return float(np.sum(won * np.logaddexp(0.0, s - s[:, None])))

    s = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(logits[filled], (s[:, None] - s)[filled], atol=1e-5)


def test_sure_votes_keep_finite_scores() -> None:
    votes = [Vote("p", "a", "b", 1e6, 1e6), Vote("p", "b", "c", 1e6, 1e6), Vote("p", "c", "d", 0, 1)]
    logits = _logits(VoteTable(votes, fill="bradley-terry"), list("abcd"))
    # on a path the fit is exact: the differences add up
    assert logits[0, 2] == pytest.approx(logits[0, 1] + logits[1, 2], rel=1e-9)
    assert logits[0, 3] == pytest.approx(logits[0, 2] + logits[2, 3], rel=1e-9)


def test_what_votes_do_not_connect_stays_missing() -> None:
    triangles = [Vote("p", pair[0], pair[1], 1, 2) for pair in ("ab", "bc", "ca", "de", "ef", "fd")]
    for fill in ("bradley-terry", "low-rank"):
        logits = _logits(VoteTable(triangles, fill=fill))
        block = np.kron(np.eye(2), np.ones((3, 3))) > 0
        np.testing.assert_array_equal(np.isfinite(logits), block)


CIRCLE = np.sin(np.subtract.outer(np.arange(5), np.arange(5)) * -2 * np.pi / 5) * 3  # text i beats i + 1 and i + 2


@pytest.mark.parametrize("hidden", list(itertools.combinations(range(5), 2)))
def test_low_rank_keeps_a_planted_cycle(hidden: tuple[int, int]) -> None:
    votes = _planted(CIRCLE, [hidden])
    found = _logits(VoteTable(votes, fill="low-rank"), TEXTS[:5])
    np.testing.assert_allclose(found, CIRCLE, atol=1e-4)
    with_score = _logits(VoteTable(votes, fill="bradley-terry"), TEXTS[:5])
    assert abs(with_score[hidden] - CIRCLE[hidden]) > 1.0  # no score per text can tell


def test_low_rank_is_a_stationary_point_of_what_its_docstring_says() -> None:
    """From a few votes a pair, against a minimiser that knows nothing of gradients or of the start."""
    rng = np.random.default_rng(5)
    pairs = [pair for pair in itertools.combinations(range(5), 2) if pair != (1, 3)]
    votes = [Vote("p", TEXTS[i], TEXTS[j], float(rng.integers(0, 4)), 3.0) for i, j in pairs]
    i, j = np.array(pairs).T
    wins = np.array([vote.wins for vote in votes])
    p = (0.5 + wins) / 4

    def loss(flat: np.ndarray) -> float:
        v = flat.reshape(5, 2)
        fit = v[i, 0] * v[j, 1] - v[i, 1] * v[j, 0]
        return float(np.sum(4 * p * (1 - p) * (np.log(p / (1 - p)) - fit) ** 2) + RIDGE * np.sum(v**2))

    runs = [minimize(loss, rng.normal(size=10), options={"gtol": 1e-7}) for _ in range(8)]
    v = min(runs, key=lambda run: run.fun).x.reshape(5, 2)
    found = _logits(VoteTable(votes, fill="low-rank"), TEXTS[:5])[1, 3]
    assert abs(found) > 0.05
    assert found == pytest.approx(v[1, 0] * v[3, 1] - v[1, 1] * v[3, 0], abs=1e-3)


def test_low_rank_leaves_a_sign_that_nothing_determines() -> None:
    """Votes between {a, c, e} and {b, d} alone: the mirror image of one half fits them as well."""
    votes = [Vote("p", a, b, 3, 4) for a in "ace" for b in "bd" if a + b != "eb"]
    logits = _logits(VoteTable(votes, fill="low-rank"), TEXTS[:5])
    odd = np.equal.outer(np.arange(5) % 2, np.arange(5) % 2)
    np.testing.assert_array_equal(np.isnan(logits), odd & ~np.eye(5, dtype=bool))
    assert logits[4, 1] > 0.5  # e against b, three votes away


def test_tables_that_may_differ_share_no_judgements(tmp_path: Path) -> None:
    votes = _random_votes(3)
    tables = [VoteTable(votes, prior, fill) for prior in (0.5, 1.0) for fill in ("missing", "half", "bradley-terry")]
    tables += [VoteTable(votes[1:]), VoteTable([replace(votes[0], prompt="q"), *votes[1:]])]
    assert len({table.fingerprint for table in tables}) == len(tables)
    with Cache(tmp_path / "cache.sqlite") as cache:
        for table in tables:
            (fresh,) = preference_matrices(table, ["p"], [TEXTS], cache=cache)
            (again,) = preference_matrices(table, ["p"], [TEXTS], cache=cache)
            assert fresh.meta["cached"] == 0
            assert again.meta["calls"] == again.meta["missing"]  # what was missing is asked again
            np.testing.assert_array_equal(again.P, fresh.P)


def test_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    file.write_text(json.dumps({"prompt": "p", "a": "x", "b": "y", "winner": "a"}))
    table = VoteTable.from_file(file, prior=1.0)
    assert table.name == "people.jsonl"
    assert preference_matrices(table, ["p"], [["x", "y"]])[0].P[0, 1] == pytest.approx(2 / 3, abs=1e-15)
    with pytest.raises(FileNotFoundError, match="no votes file"):
        VoteTable.from_file(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("prior", "fill", "message"),
    [
        (-1.0, "missing", r"prior is -1\.0; expected a number of at least 0"),
        (float("nan"), "half", "prior is nan"),
        (0.0, "bradley-terry", r"prior is 0\.0; expected a number above 0"),
        (0.0, "low-rank", "expected a number above 0"),
        (0.5, "mean", "fill is 'mean'; expected one of missing, half, bradley-terry, low-rank"),
    ],
)
def test_bad_settings_are_named(prior: float, fill: Fill, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VoteTable([Vote("p", "a", "b", 1, 1)], prior, fill)
