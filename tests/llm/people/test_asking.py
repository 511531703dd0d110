"""Which pair is asked next: what a vote is worth, the shares, and what is never asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nashward.errors import NashwardError
from nashward.games import PreferenceGame, nash
from nashward.games.analysis.dueling import expected_change
from nashward.llm.config import Asking
from nashward.llm.people.asking import Asker, belief, settled, values
from nashward.llm.people.records import PairRow
from nashward.llm.people.store import VoteStore


def test_the_expected_change_is_that_of_the_posterior_mean() -> None:
    """By a second route: weigh the draws by each outcome, and measure how far the mean equilibrium moves."""
    random = np.random.default_rng(0)
    upper = np.triu(random.random((50, 4, 4)), 1)
    tables = upper + np.tril(1 - upper.swapaxes(1, 2), -1) + np.eye(4) / 2
    policies = nash(PreferenceGame(tables)).policy.numpy()
    found = expected_change(tables, policies)
    for i, j in ((0, 1), (2, 3), (3, 0)):
        p, expected = tables[:, i, j], 0.0
        for likelihood in (p, 1 - p):
            after = (likelihood / likelihood.sum()) @ policies
            expected += likelihood.mean() * np.abs(after - policies.mean(0)).sum() / 2
        assert found[i, j] == pytest.approx(expected, abs=1e-12)
    assert np.allclose(found, found.T)
    assert np.diag(found).tolist() == [0.0] * 4


def test_a_belief_moves_towards_the_votes_and_narrows() -> None:
    before, after = (belief(PairRow(1, 1, 1, 2, 0.3, 0.8, votes)) for votes in ((), ("b", "b")))
    assert before == (0.3, 0.8)
    assert after[0] < before[0]
    assert after[1] < before[1]
    ties = belief(PairRow(1, 1, 1, 2, None, None, ("tie", "both_bad")))
    assert ties[0] == 0.0
    assert belief(PairRow(1, 1, 1, 2, 2.0, 0.0, ("b",))) == (2.0, 0.0)


def test_a_pair_between_contenders_is_worth_more() -> None:
    """1 and 2 are level, 3 loses to both for sure: only who wins of 1 and 2 changes the equilibrium."""
    rows = [PairRow(1, 1, 1, 2, 0.0, 1.0), PairRow(2, 1, 1, 3, 4.0, 0.5), PairRow(3, 1, 2, 3, 4.0, 0.5)]
    worth = values(rows, np.random.default_rng(0), draws=400)
    assert worth[0] > 10 * max(worth[1:])
    assert [settled(row) for row in rows] == [False, True, True]


def test_pairs_that_cannot_be_asked_count_all_the_same() -> None:
    """Of three responses two pairs are listed; the third one is unknown, not even."""
    rows = [PairRow(1, 1, 1, 2, 0.0, 1.0), PairRow(2, 1, 1, 3, 0.0, 1.0)]
    assert (values(rows, np.random.default_rng(0)) > 0).all()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VoteStore]:
    with VoteStore(tmp_path) as store:
        for k in range(20):
            store.add_responses(f"Prompt {k}", ["One.", "Two.", "Three.", "Four."])
        yield store


def session(store: VoteStore, asker: Asker, name: str, count: int) -> list[tuple[int, str]]:
    """Pairs and reasons of the next questions, all answered."""
    asked = []
    for _ in range(count):
        question = asker.next(name)
        assert question is not None
        store.vote(question.id, name, "first")
        ((why,),) = store._rows("SELECT why FROM question WHERE id = ?", (question.id,))
        asked.append((question.pair, why))
    return asked


def test_the_shares_are_kept(store: VoteStore) -> None:
    asker = Asker(store, Asking(random_share=0.3, repeats=0.2, seed=1))
    whys = [why for _, why in session(store, asker, "ann", 100)]
    assert 18 <= whys.count("random") <= 42
    assert 10 <= whys.count("repeat") <= 30
    assert whys.count("change") == 100 - whys.count("random") - whys.count("repeat")


def test_no_settled_pair_but_the_repeats(store: VoteStore) -> None:
    store.set_beliefs((row.id, 5.0, 0.5) for row in store.pairs() if row.prompt <= 15)
    asked = session(store, Asker(store, Asking(random_share=0.0, repeats=0.2, seed=2)), "ann", 30)
    change = {pair for pair, why in asked if why == "change"}
    assert all(row.prompt > 15 for row in store.pairs() if row.id in change)
    assert len(change) == sum(why == "change" for _, why in asked)  # none is asked twice for its worth


def test_a_repeat_is_of_a_pair_that_was_asked_once(store: VoteStore) -> None:
    asker = Asker(store, Asking(random_share=0.5, repeats=0.3, seed=3))
    asked = session(store, asker, "ann", 60)
    for place, (pair, why) in enumerate(asked):
        before = [earlier for earlier, _ in asked[:place]]
        assert before.count(pair) == (1 if why == "repeat" else 0)
        if why == "repeat":
            assert pair not in before[-5:]


def test_others_pairs_are_asked_again_for_agreement(store: VoteStore) -> None:
    asker = Asker(store, Asking(random_share=0.5, repeats=0.3, seed=4))
    session(store, asker, "ann", 40)
    anns = set(store.answered_pairs("ann"))
    repeats = [pair for pair, why in session(store, asker, "bob", 40) if why == "repeat"]
    assert set(repeats) & anns


def test_a_random_sample_is_plain(store: VoteStore) -> None:
    store.set_beliefs((row.id, 5.0, 0.1) for row in store.pairs() if row.prompt <= 10)
    asked = session(store, Asker(store, Asking(random=True, repeats=0.0, seed=5)), "ann", 80)
    assert {why for _, why in asked} == {"random"}
    assert len({pair for pair, _ in asked}) == 80
    of_known = sum(row.prompt <= 10 for row in store.pairs() if row.id in {pair for pair, _ in asked})
    assert 28 <= of_known <= 52  # of 80: what is believed plays no part


def test_everything_is_asked_and_then_nothing(store: VoteStore) -> None:
    asker = Asker(store, Asking(repeats=0.0))
    assert len({pair for pair, _ in session(store, asker, "ann", 120)}) == 120
    assert asker.next("ann") is None
    store.add_responses("Another", ["One.", "Two."])
    question = asker.next("ann")
    assert question is not None
    assert question.prompt == "Another"


def test_people_are_not_given_the_same_pair_at_once(store: VoteStore) -> None:
    asker = Asker(store, Asking(repeats=0.0, random_share=0.0))
    questions = [asker.next(f"person {k}") for k in range(20)]
    assert len({question.pair for question in questions if question}) == 20


def test_the_same_seed_asks_the_same(store: VoteStore, tmp_path: Path) -> None:
    with VoteStore(tmp_path / "other") as other:
        for k in range(20):
            other.add_responses(f"Prompt {k}", ["One.", "Two.", "Three.", "Four."])
        one, two = (session(own, Asker(own, Asking(seed=7)), "ann", 30) for own in (store, other))
    assert one == two


@pytest.mark.parametrize("settings", [{"random_share": 0.8, "repeats": 0.3}, {"repeats": -0.1}, {"seed": -1},
                                      {"random_share": float("nan")}])  # fmt: skip
def test_shares_that_are_none(settings: dict[str, float]) -> None:
    with pytest.raises(NashwardError, match="expected"):
        Asking(**settings)  # type: ignore[arg-type]


def test_who_has_answered_little_is_asked_nothing_again(store: VoteStore) -> None:
    for seed in range(4):
        asker = Asker(store, Asking(random_share=0.0, repeats=1.0, seed=seed))
        pairs = [pair for pair, _ in session(store, asker, f"ann {seed}", 6)]
        own = [pair for k, pair in enumerate(pairs) if pair in pairs[:k]]
        assert own == [], pairs


def test_votes_that_an_oracle_was_fitted_to_are_in_what_it_says(store: VoteStore) -> None:
    for name, choice in (("ann", "first"), ("bob", "first"), ("cyd", "second")):
        question = store.open_question(name, 1, "random", "a")
        store.vote(question.id, name, choice)
    store.set_beliefs([(1, 0.5, 0.8), (2, 0.5, 0.8)], fitted=2)
    assert [row.votes for row in store.pairs()[:2]] == [("b",), ()]
    store.set_beliefs([(1, 0.5, 0.8)])  # of an oracle that knows none of them
    assert store.pairs()[0].votes == ("a", "a", "b")
