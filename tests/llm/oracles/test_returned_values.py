"""What functions, judges and oracles of one's own return: read as what it is, or told in one line."""

import functools
from typing import Any

import numpy as np
import pytest
import torch

from nashward.errors import NashwardError
from nashward.llm.oracles import (
    Cache,
    EmbeddingOracle,
    Function,
    Judge,
    Length,
    PreferenceOracle,
    RewardFunction,
    ScalarOracle,
    as_oracle,
    check_oracle,
    check_source,
    preference_matrices,
)
from nashward.llm.oracles.fingerprint import oracle_fingerprint

TEXTS = ["a", "bb", "ccc"]
PAIRS = [[(0, 1), (1, 2), (2, 0)]]


def judge(returned: Any) -> Judge:
    return Judge(type("Canned", (), {"judge": lambda self, prompts, pairs: returned})())


def logits(oracle: PreferenceOracle) -> np.ndarray:
    """By the way that every oracle's answers take."""
    ((_, found),) = oracle.judge(["p"], [TEXTS], PAIRS)
    return found


FIRST, SECOND, NONE = np.inf, -np.inf, np.nan


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ([0, 1, -1], [FIRST, SECOND, NONE]),
        ([False, True, None], [FIRST, SECOND, NONE]),
        (torch.tensor([0, 1, -1]), [FIRST, SECOND, NONE]),
        ([torch.tensor(0), torch.tensor(1), torch.tensor(7)], [FIRST, SECOND, NONE]),
        (torch.tensor([False, True, False]), [FIRST, SECOND, FIRST]),
        (np.array([0, 1, -1], dtype=np.int8), [FIRST, SECOND, NONE]),
        ([np.array(0), np.int64(1), np.bool_(False)], [FIRST, SECOND, FIRST]),
        ([1.0, 0.0, 0.5], [FIRST, SECOND, 0.0]),
        (torch.tensor([1.0, 0.0, 0.5], requires_grad=True), [FIRST, SECOND, 0.0]),
        (torch.tensor([1.0, 0.0, 0.5], dtype=torch.bfloat16), [FIRST, SECOND, 0.0]),
        (np.array([1.0, np.nan, 0.5], dtype=np.float32), [FIRST, NONE, 0.0]),
        (iter([0, 1.0, None]), [FIRST, FIRST, NONE]),
    ],
)
def test_verdicts_are_indices_or_probabilities_by_their_type(returned, expected):
    np.testing.assert_array_equal(logits(judge(returned)), expected)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (["A", "B", "A"], r"Canned gave the verdict 'A'; expected 0 or 1, .*or None"),
        ([[0], [1], [0]], r"Canned gave the verdict \[0\]; expected"),
        (torch.zeros(3, 2), r"Canned gave the verdict \[0\.0, 0\.0\]; expected"),
        ([0.5, 1.5, 0.5], r"Canned gave .*1\.5.*expected a probability"),
        ([0, 1], "Canned gave verdicts for 2 pairs; expected 3"),
        (None, "Canned gave verdicts of type NoneType; expected a list, one for each of 3 pairs"),
    ],
)
def test_what_is_no_verdict_is_told(returned, message):
    with pytest.raises(ValueError, match=message) as caught:
        logits(judge(returned))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("returned", [[1.0, 2.0, None], torch.tensor([1.0, 2.0, torch.nan], requires_grad=True)])
@pytest.mark.parametrize("listed", [False, True])
def test_rewards_may_be_tensors_and_may_be_missing(returned, listed):
    found = logits(RewardFunction(lambda completions: list(returned) if listed else returned))
    np.testing.assert_array_equal(found, [-1.0, np.nan, np.nan])


class Rewards(ScalarOracle):
    name = "own"

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def rewards(self, prompts, candidates):
        return self.returned


class Embeddings(EmbeddingOracle):
    name = "own"

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def embed(self, prompts, candidates):
        return self.returned


class Logits(PreferenceOracle):
    name = "own"

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def raw_logits(self, prompts, candidates, pairs):
        return self.returned


def worded(prompt: str, first: str, second: str) -> Any:
    return "a"


def own_function(returned: Any) -> RewardFunction:
    return RewardFunction(lambda completions: returned, name="own")


@pytest.mark.parametrize(
    ("oracle", "message"),
    [
        (own_function(None), r"returned rewards None for 3 completions; expected a list of numbers"),
        (own_function(3), r"returned rewards of shape \(\) for 3 completions"),
        (own_function([1.0, 2.0]), r"returned rewards of shape \(2,\) for 3 completions"),
        (own_function(["a", "b", "c"]), "returned rewards of type list that are no numbers for 3 completions"),
        (Function(worded, name="own"), "own gave 'a'; expected a probability"),
        *(
            (kind(returned), message)
            for kind, what in ((Rewards, "rewards"), (Embeddings, "embeddings"), (Logits, "logits"))
            for returned, message in (
                (None, f"own returned {what} of type NoneType; expected a list, one for each of 1 prompts"),
                ([], f"own returned {what} for 0 prompts; expected 1"),
                ([None], f"own returned {what} None for prompt 0; expected"),
                (["a"], f"own returned {what} of type str that are no numbers for prompt 0; expected"),
                ([np.zeros((2, 2, 2, 2))], rf"own returned {what} of shape \(2, 2, 2, 2\) for prompt 0; expected"),
            )
        ),
    ],
)
def test_what_is_no_answer_is_told_in_one_line(oracle, message):
    with pytest.raises(ValueError, match=message) as caught:
        logits(oracle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_tensors_with_a_gradient_are_read(dtype):
    values = torch.tensor([1.0, 2.0, 4.0], dtype=dtype, requires_grad=True)
    np.testing.assert_array_equal(logits(Logits([values])), [1.0, 2.0, 4.0])
    np.testing.assert_array_equal(logits(Logits([list(values)])), [1.0, 2.0, 4.0])
    np.testing.assert_array_equal(logits(Rewards([values])), [-1.0, -2.0, 3.0])
    plane = torch.stack([values, torch.ones(3, dtype=dtype)], 1)
    np.testing.assert_array_equal(logits(Embeddings([plane])), [-1.0, -2.0, 3.0])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"temperature": 0.0}, "temperature"), ({"temperature": -1.0}, "temperature"), ({"weights": [np.nan]}, "weights")],
)
def test_reward_functions_with_settings_that_mean_nothing_are_refused(wrong, named):
    with pytest.raises(NashwardError, match=named):
        RewardFunction(lambda completions: [0.0] * len(completions), **wrong)


def test_what_infinities_leave_undefined_is_missing():
    np.testing.assert_array_equal(logits(Rewards([[np.inf, np.inf, 0.0]])), [np.nan, np.inf, -np.inf])
    both = RewardFunction([lambda completions: [np.inf, 0.0, 1.0], lambda completions: [-np.inf, 0.0, 0.0]])
    np.testing.assert_array_equal(logits(both), [np.nan, -1.0, np.nan])
    plane = [[np.inf, np.inf], [1.0, 1.0], [1.0, 2.0]]
    assert np.isnan(logits(Embeddings([plane]))).tolist() == [True, False, True]
    result = preference_matrices(Rewards([[np.inf, np.inf, 0.0]]), ["p"], [TEXTS])[0]
    assert np.isnan(result.P[0, 1])
    assert result.P[0, 2] == 1.0


def grounded(completions, ground_truth, **kwargs):
    return [0.0 for _ in completions]


def positional(completions, /):
    return [0.0 for _ in completions]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (grounded, "grounded needs ground_truth, .*functools.partial"),
        ([grounded], "grounded needs ground_truth"),
        (positional, "positional needs completions by position"),
        (torch.nn.Linear(2, 1), "Linear is a network, which reads no texts; .*the folder or hub id"),
        (int, "0 is no oracle; expected"),
        (dict.get, r"get\(self, key, default\) takes no completions"),
    ],
)
def test_what_is_no_reward_function_is_told_before_it_is_called(function, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_source(function)
    assert "\n" not in str(caught.value)


def test_what_a_reward_function_needs_may_be_bound_to_it():
    bound = functools.partial(grounded, ground_truth=["x"])
    np.testing.assert_array_equal(logits(as_oracle(bound)), np.zeros(3))
    optional = as_oracle(lambda completions, scale=2.0, *, flip=False: [scale * len(text) for text in completions])
    np.testing.assert_array_equal(logits(optional), [-2.0, -2.0, 4.0])


def correct(completions, answer, **kwargs):
    return [float(a in text) for text, a in zip(completions, answer, strict=True)]


ANSWERS = [{"prompt": "2 + 2?", "answer": "4"}, {"prompt": "Capital of France?", "answer": "Paris"}]


def test_columns_of_the_dataset_are_passed_by_prompt(caplog: pytest.LogCaptureFixture):
    pandas = pytest.importorskip("pandas")
    for dataset in (ANSWERS, pandas.DataFrame(ANSWERS), [*ANSWERS, {**ANSWERS[0]}]):
        oracle = RewardFunction(correct, dataset=dataset)
        found = oracle.rewards([ANSWERS[1]["prompt"], "2 + 2?"], [["Paris.", "4", "Lyon"], ["It is 4.", "Paris"]])
        assert [values.tolist() for values in found] == [[1.0, 0.0, 0.0], [1.0, 0.0]]
    assert not caplog.records
    for _ in range(2):
        found = oracle.rewards(["3 + 3?", "2 + 2?"], [["6", "7"], ["4", "5"]])
        np.testing.assert_array_equal(found, [[np.nan, np.nan], [1.0, 0.0]])
    (said,) = caplog.records
    assert "no row for the prompt '3 + 3?'" in said.getMessage()
    assert np.isnan(oracle.rewards(["3 + 3?"], [["6"]])[0]).all()
    prompts = [row["prompt"] for row in ANSWERS]
    assert "odd texts" in " ".join(check_oracle(oracle, prompts, [["4", "Paris", "It is 4, or Paris"]] * 2))
    with pytest.raises(NashwardError, match=r"correct needs answer, .*dataset=rows"):
        RewardFunction(correct, dataset=[{"prompt": "2 + 2?", "solution": "4"}])


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([*ANSWERS, {"prompt": "2 + 2?", "answer": "5"}], "row 3 has other values"),
        ([*ANSWERS, {"prompt": "Why?", "solution": "."}], "row 3 has the columns"),
        ([{"answer": "4"}], "row 1 has no prompt"),
        (["2 + 2?"], "needs answer"),
    ],
)
def test_a_dataset_that_no_column_can_be_told_from_is_refused(rows, named):
    with pytest.raises(NashwardError, match=named):
        RewardFunction(correct, dataset=rows)


def test_functions_of_messages_are_passed_messages_or_told_how_to_get_them():
    def brevity(prompts, completions):
        return [
            -len(turns[0]["content"]) / len(asked[0]["content"])
            for asked, turns in zip(prompts, completions, strict=True)
        ]

    found = RewardFunction(brevity, conversational=True).rewards(["Why"], [["Because.", "So"]])
    np.testing.assert_allclose(found[0], [-8 / 3, -2 / 3])
    with pytest.raises(TypeError) as caught:
        RewardFunction(brevity).rewards(["Why"], [["Because.", "So"]])
    assert any("conversational=True" in note for note in caught.value.__notes__)


def test_another_dataset_is_another_oracle():
    other = [{**ANSWERS[0], "answer": "5"}, ANSWERS[1]]
    oracles = [RewardFunction(correct, dataset=rows) for rows in (ANSWERS, list(ANSWERS), other)]
    first, again, changed = map(oracle_fingerprint, oracles)
    assert first == again != changed
    brevity = [RewardFunction(lambda completions: completions, conversational=on) for on in (False, True)]
    assert oracle_fingerprint(brevity[0]) != oracle_fingerprint(brevity[1])


def warm(oracle: Any, temperature: float) -> Any:
    oracle.temperature = temperature
    return oracle


class Vowels(ScalarOracle):
    name, fingerprint = "vowels", "vowels 1"

    def rewards(self, prompts, candidates):
        return [np.array([float(sum(c in "aeiou" for c in text)) for text in texts]) for texts in candidates]


class Turns(EmbeddingOracle):
    name, fingerprint = "turns", "turns 1"

    def embed(self, prompts, candidates):
        return [np.array([[1.0, float(len(text))] for text in texts]) for texts in candidates]


def rewarded(**options: Any) -> RewardFunction:
    return RewardFunction([lambda completions: [1.0] * len(completions)] * 2, fingerprint="v1", **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: [Vowels(), warm(Vowels(), 2.0)],
        lambda: [Turns(), warm(Turns(), 2.0)],
        lambda: [Length(), warm(Length(), 2.0), Length(2.0), Length(-1.0)],
        lambda: [rewarded(), rewarded(temperature=2.0), rewarded(weights=[1.0, 2.0]), rewarded(weights=[2.0, 1.0])],
    ],
)
def test_oracles_of_other_temperatures_and_weights_are_cached_apart(make):
    keys = [oracle.cache_key() for oracle in make()]
    assert keys == [oracle.cache_key() for oracle in make()]
    found = [Cache.keys(key, "p", ["x", "y"], [(0, 1)])[0] for key in keys]
    assert len(set(found)) == len(found)


def test_an_oracle_without_a_fingerprint_has_no_cache_key():
    assert Rewards([]).cache_key() is None
    assert Embeddings([]).cache_key() is None
    assert RewardFunction(lambda completions: [], temperature=2.0).cache_key() is None
    assert Function(lambda prompt, a, b: 0.5, fingerprint="f").cache_key() == "f"
