"""An ensemble by names: its rules, measured weights, pessimism, fingerprints, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nashward.errors import NashwardError
from nashward.llm import pocket
from nashward.llm.oracles import (
    Ensemble,
    EnsembleSource,
    Function,
    Length,
    PreferenceOracle,
    Vote,
    as_oracle,
    check_oracle,
    check_source,
    preference_matrices,
    read_votes,
)
from nashward.llm.oracles.ensembles.weights import accuracy_weights, unlabelled_accuracies
from nashward.llm.oracles.fingerprint import oracle_fingerprint
from nashward.llm.oracles.fitting.annotators import (
    Reliability,
    annotator_accuracies,
    annotator_weights,
    weighted_annotators,
)
from nashward.llm.oracles.models.network import networks

LENGTH = "nashward.llm.oracles:Length"


def _noisy(accuracy: float, seed: int) -> PreferenceOracle:
    """Prefers the text of the larger number, wrongly on a share of the pairs."""
    random = np.random.default_rng(seed)
    wrong: dict[frozenset[str], bool] = {}

    def judge(prompt: str, a: str, b: str) -> float:
        flip = wrong.setdefault(frozenset((prompt, a, b)), bool(random.random() > accuracy))
        return 0.9 if (int(a) > int(b)) != flip else 0.1

    return Function(judge, name=f"accuracy {accuracy}", symmetric=True)


def _pairs(count: int = 200) -> list[dict[str, object]]:
    return [{"prompt": f"p{k}", "a": str(2 * k), "b": str(2 * k + 1), "winner": "b"} for k in range(count)]


def test_accuracies_are_measured_with_labels_and_without() -> None:
    members = [_noisy(accuracy, seed) for seed, accuracy in enumerate((0.9, 0.8, 0.75, 0.5))]
    votes = read_votes(_pairs())
    with_labels = 1 / (1 + np.exp(-np.array(accuracy_weights(members, votes))))
    assert with_labels == pytest.approx([0.9, 0.8, 0.75, 0.5], abs=0.08)
    fit = unlabelled_accuracies(members, votes)
    assert fit.accuracy == pytest.approx(with_labels, abs=0.1)
    assert fit.suspect.tolist() == [False, False, False, True]


def test_a_weighted_majority_adds_the_log_odds_of_the_verdicts() -> None:
    members = [Length(), Length(-3.0), Length(2.0)]
    oracle = Ensemble(members, "weighted-majority", [0.5, 2.0, 0.25])
    P = preference_matrices(oracle, ["?"], [["a", "bbb"]])[0].P
    assert P[1, 0] == pytest.approx(1 / (1 + np.exp(-(0.5 - 2.0 + 0.25))))
    check_oracle(oracle)
    with pytest.raises(NashwardError, match="weighted majority"):
        Ensemble(members, "weighted-majority")


@pytest.mark.parametrize("k", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("rule", ["log-odds", "probability", "majority"])
def test_pessimism_draws_to_one_half_by_the_spread(rule, k: float) -> None:
    members = [Length(), Length(3.0), Length(0.2)]
    plain = preference_matrices(Ensemble(members, rule), ["?"], [["a", "bb", "cccc"]])[0]
    shy = preference_matrices(Ensemble(members, rule, pessimism=k), ["?"], [["a", "bb", "cccc"]])[0]
    assert plain.std is not None
    sd = np.std([preference_matrices(m, ["?"], [["a", "bb", "cccc"]])[0].P for m in members], axis=0, ddof=1)
    np.testing.assert_allclose(plain.std, sd, atol=1e-14)
    np.testing.assert_allclose(shy.P, 0.5 + (plain.P - 0.5) * np.maximum(0, 1 - k * sd), atol=1e-12)
    assert (shy.P + shy.P.T == 1).all()
    check_oracle(Ensemble(members, rule, pessimism=k))


def test_a_source_is_loaded_with_its_members(tmp_path: Path) -> None:
    source = EnsembleSource((LENGTH, pocket.PAIRRM), "probability:weights=3,1:pessimism=0.5")
    checked = check_source(source)
    oracle = as_oracle(checked)
    assert isinstance(oracle, Ensemble)
    assert (oracle.rule, oracle.weights.tolist(), oracle.pessimism) == ("probability", [0.75, 0.25], 0.5)
    assert networks(oracle) == [oracle.members[1]]
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": "?", "a": "x" * (k + 2), "b": "x", "winner": "a"}) + "\n" for k in range(9))
    )
    measured = as_oracle(EnsembleSource((LENGTH,), f"accuracy:pairs={file}"))
    assert isinstance(measured, Ensemble)
    assert measured.weights == pytest.approx([np.log(9.5 / 0.5)])


@pytest.mark.parametrize("rule", ["accuracy", "dawid-skene"])
def test_a_judge_that_counts_inverted_is_named(rule: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in _pairs()))
    members = [_noisy(accuracy, seed) for seed, accuracy in enumerate((0.9, 0.85, 0.1))]
    oracle = as_oracle(EnsembleSource(tuple(members), f"{rule}:pairs={file}"))
    assert isinstance(oracle, Ensemble)
    assert [weight < 0 for weight in oracle.weights] == [False, False, True]
    inverted = [record.getMessage() for record in caplog.records if "inverted" in record.getMessage()]
    assert [message.split(" counts")[0] for message in inverted] == ["accuracy 0.1"]
    assert not [record for record in caplog.records if "half as accurate" in record.getMessage()]


def test_a_fingerprint_is_of_members_rule_and_pairs(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(_pairs(1)[0]))
    sources = [
        EnsembleSource((LENGTH, pocket.PAIRRM)),
        EnsembleSource((pocket.PAIRRM, LENGTH)),
        EnsembleSource((LENGTH, pocket.PAIRRM), "majority"),
        EnsembleSource((LENGTH, pocket.PAIRRM), "log-odds:pessimism=1"),
        EnsembleSource((LENGTH, pocket.PAIRRM), f"accuracy:pairs={file}"),
    ]
    found = [oracle_fingerprint(source) for source in sources]
    file.write_text(json.dumps(_pairs(2)[1]))
    found.append(oracle_fingerprint(sources[-1]))
    assert len(set(found)) == len(found)
    assert oracle_fingerprint(sources[0]) == found[0]


@pytest.mark.parametrize(
    ("combine", "named"),
    [
        ("median", "median"),
        ("majority:weights=1,2", "weights"),
        ("accuracy", "pairs=FILE"),
        ("dawid-skene:pairs=none.jsonl", "none.jsonl"),
        ("log-odds:weights=a", "'a'"),
        ("log-odds:pessimism=1,2", "'1,2'"),
        ("log-odds:pessimism", "'pessimism'"),
        ("log-odds:pessimism=1:pessimism=2", "pessimism=2"),
    ],
)
def test_what_is_wrong_is_named(combine: str, named: str) -> None:
    with pytest.raises((NashwardError, FileNotFoundError), match=named):
        EnsembleSource((LENGTH, LENGTH), combine)


def test_annotators_are_weighed_and_a_bad_one_is_found() -> None:
    random = np.random.default_rng(0)
    rows = [
        {"prompt": f"p{k}", "a": "x", "b": "y", "winner": "a" if random.random() < accuracy else "b", "voter": name}
        for k in range(150)
        for name, accuracy in (("ann", 0.9), ("bob", 0.8), ("eve", 0.5))
    ]
    # written the other way round, a pair is the same
    rows += [{**row, "a": row["b"], "b": row["a"], "winner": "b" if row["winner"] == "a" else "a"} for row in rows[:30]]
    votes = read_votes(rows)
    found = annotator_accuracies(votes)
    assert [name for name, accuracy in found.items() if accuracy.suspect] == ["eve"]
    few = [{**row, "voter": f"new {k % 3}", "winner": "a" if k < 6 else "b"} for k, row in enumerate(rows[:36:3])]
    with_few = annotator_accuracies([*votes, *read_votes(few)])  # four votes each say little, also of the others
    assert [name for name, accuracy in with_few.items() if accuracy.suspect] == ["eve"]
    for name, share in (("ann", 0.9), ("bob", 0.8), ("eve", 0.5)):
        assert found[name].interval[0] < share < found[name].interval[1]
    assert annotator_accuracies([vote for vote in votes if vote.annotator != "bob"]) == {}  # two cannot be told apart
    # a fit that knows the length alone predicts best who judges by it
    weights = annotator_weights(
        votes, {name: Reliability(150, 0.9, 4.0 if name == "eve" else 0.6, 0.1) for name in found}
    )
    assert weights["eve"] < 0.3 < 0.5 < min(weights["ann"], weights["bob"])
    assert annotator_weights([], {"eve": Reliability(150, 0.9, 4.0, 0.1)}) == {"eve": 1.0}
    weighed = weighted_annotators(votes, {"ann": 3.0, "eve": 0.0})
    assert {vote.annotator: vote.weight for vote in weighed} == {"ann": 3.0, "bob": 1.0, "eve": 0.0}
    with pytest.raises(NashwardError, match="joe gave no vote"):
        weighted_annotators(votes, {"joe": 1.0})


def test_a_pair_with_several_votes_tells_of_judges_once() -> None:
    members, votes = [_noisy(0.8, seed) for seed in range(3)], read_votes(_pairs(60))
    turned = [Vote(vote.prompt, vote.b, vote.a, 1, 1) for vote in votes]
    once, often = (unlabelled_accuracies(members, given) for given in (votes, [*votes, *turned, *votes]))
    assert often.standard_error == pytest.approx(once.standard_error)
    # labels are votes, and each counts
    assert accuracy_weights(members, [*votes, *votes])[0] > accuracy_weights(members, votes)[0]
