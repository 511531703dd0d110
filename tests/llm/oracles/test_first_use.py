"""Promises of a user's oracle that are broken are noticed when it is first used, and what that costs."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm.oracles import (
    Cache,
    Ensemble,
    Function,
    Judge,
    PreferenceOracle,
    RewardFunction,
    ScalarOracle,
    Unflipped,
    VoteTable,
    preference_matrices,
)

PROMPTS = ["first", "second", "third"]
TEXTS = [["a", "bb", "cccc", "dddddd"]] * 3


class Rule(PreferenceOracle):
    """The longer, the better: log-odds, or what ``shown`` makes of them; it keeps the pairs that it judged."""

    name, symmetric, fingerprint = "the rule", True, "the rule 1"

    def __init__(self, first: float = 0.0) -> None:
        self.first, self.judged = first, list[tuple[str, str, str]]()

    def shown(self, logit: float) -> float:
        return logit + self.first

    def raw_logits(self, prompts: Any, candidates: Any, pairs: Any) -> list[np.ndarray]:
        found = []
        for prompt, texts, own in zip(prompts, candidates, pairs, strict=True):
            self.judged += [(prompt, texts[i], texts[j]) for i, j in own]
            found.append(np.array([self.shown(0.3 * (len(texts[i]) - len(texts[j]))) for i, j in own]))
        return found


class Probabilities(Rule):
    name = "the rule's probabilities"

    def shown(self, logit: float) -> float:
        return 1 / (1 + math.exp(-logit))


class BothOrders(Probabilities):
    symmetric = False


def test_a_cut_text_keeps_its_quotes_in_the_message() -> None:
    texts = [f"About topic {k}, " + "blah " * 20 for k in range(2)]
    with pytest.raises(NashwardError) as error:
        preference_matrices(Rule(first=0.4), ["a prompt " * 20], [texts])
    cut = re.findall(r"'[^']*…'", str(error.value))
    assert [len(text) for text in cut] == [42] * 3  # two responses and the prompt, 40 characters of each


def test_an_order_that_matters_is_refused_before_the_second_prompt_is_judged(tmp_path: Path) -> None:
    rule, file = Rule(first=0.4), tmp_path / "judgements.sqlite"
    with pytest.raises(NashwardError) as error:
        preference_matrices(rule, PROMPTS, TEXTS, cache=file)
    message = str(error.value)
    assert message.startswith("the rule ")
    assert "symmetric = False" in message
    assert "\n" not in message
    assert "'a', 'bb' of prompt 'first'" in message
    assert "0.1 " in message
    assert "0.7 " in message
    assert "-0.1 " in message
    assert len(rule.judged) == 6 + 3
    assert {prompt for prompt, *_ in rule.judged} == {"first"}
    with Cache(file) as cache:
        assert len(cache) == 0
    with pytest.raises(NashwardError, match="symmetric = False"):  # also the second time
        preference_matrices(rule, PROMPTS, TEXTS)
    rule.symmetric = False
    assert preference_matrices(rule, PROMPTS, TEXTS)[0].meta["order_gap"] == pytest.approx(0.4)


def test_a_promise_that_holds_costs_three_pairs_a_start(tmp_path: Path) -> None:
    rule, file = Rule(), tmp_path / "judgements.sqlite"
    results = preference_matrices(rule, PROMPTS, TEXTS, cache=file)
    assert len(rule.judged) == 3 * 6 + 3
    assert [result.meta["calls"] for result in results] == [6, 6, 6]
    preference_matrices(rule, ["fourth"], TEXTS[:1], cache=file)
    assert len(rule.judged) == 3 * 6 + 3 + 6
    again = Rule()
    preference_matrices(again, [*PROMPTS, "fourth"], TEXTS * 1 + TEXTS[:1], cache=file)
    assert again.judged == []  # what the cache has is not judged for a look at promises
    preference_matrices(again, ["fifth"], [["a", "bb"]], cache=file)
    assert [texts for _, *texts in again.judged] == [["a", "bb"], ["bb", "a"]]


@pytest.mark.parametrize("kind", [Probabilities, BothOrders])
def test_probabilities_in_place_of_log_odds_are_refused(kind: type[Rule]) -> None:
    oracle = kind()
    with pytest.raises(NashwardError) as error:
        preference_matrices(oracle, PROMPTS, TEXTS)
    message = str(error.value)
    assert "look like probabilities" in message
    assert "log(p / (1 - p))" in message
    # of the pairs that were compared the one that differs most, of a symmetric oracle among the first three
    numbers = ("0.1824 ", "0.8176 ")  # of log-odds -1.5 and 1.5
    assert all(number in message for number in numbers)
    assert len(oracle.judged) == (9 if oracle.symmetric else 36)


def test_log_odds_between_0_and_1_are_taken() -> None:
    class Small(Rule):
        symmetric = False

        def shown(self, logit: float) -> float:
            return 0.5 + logit / 10  # a leaning to the first, and their sum is 1 by chance

    class Ties(Rule):
        symmetric = False

        def shown(self, logit: float) -> float:
            return 0.5  # as log-odds or as probabilities: a tie

    class Leaning(Small):
        def shown(self, logit: float) -> float:
            return 0.45 + logit / 10

    assert preference_matrices(Leaning(), PROMPTS, TEXTS)[0].meta["order_gap"] == pytest.approx(0.45)
    assert (preference_matrices(Ties(), PROMPTS, TEXTS)[0].P == 0.5).all()
    with pytest.raises(NashwardError, match="look like probabilities"):
        preference_matrices(Small(), PROMPTS, TEXTS)


def test_members_of_ensembles_corrections_and_functions_are_looked_at() -> None:
    for oracle in (Ensemble([Rule(), Rule(first=0.4)]), Unflipped(Rule(first=0.4), 0.1)):
        with pytest.raises(NashwardError, match="symmetric = False"):
            preference_matrices(oracle, PROMPTS, TEXTS)
    calls = []

    def first(prompt: str, a: str, b: str) -> float:
        calls.append((a, b))
        return 0.7

    with pytest.raises(NashwardError, match=r"first .* symmetric = False"):
        preference_matrices(Function(first, symmetric=True), PROMPTS, TEXTS)
    assert len(calls) == 9
    assert (preference_matrices(Function(first), PROMPTS, TEXTS)[0].P == 0.5).all()


def test_what_is_symmetric_by_construction_costs_nothing() -> None:
    seen: list[str] = []

    class Long(ScalarOracle):
        def rewards(self, prompts: Any, candidates: Any) -> list[np.ndarray]:
            seen.extend(prompts)
            return [np.array([float(len(text)) for text in texts]) for texts in candidates]

    preference_matrices(Long(), PROMPTS, TEXTS)
    assert seen == PROMPTS


def test_certain_missing_and_rounded_judgements() -> None:
    class Certain(Rule):
        def shown(self, logit: float) -> float:
            return math.copysign(math.inf, logit)

    class Missing(Rule):
        def shown(self, logit: float) -> float:
            return math.nan

    class Half(Rule):
        def shown(self, logit: float) -> float:
            return float(np.float16(logit)) + 1e-3

    class First(Rule):
        def shown(self, logit: float) -> float:
            return math.inf

    assert set(preference_matrices(Certain(), PROMPTS, TEXTS)[0].P.ravel()) == {0.0, 0.5, 1.0}
    missing = Missing()
    preference_matrices(missing, PROMPTS, TEXTS)
    assert len(missing.judged) == 3 * 6 + 3
    preference_matrices(Half(), PROMPTS, TEXTS)
    with pytest.raises(NashwardError, match="returned inf"):
        preference_matrices(First(), PROMPTS, TEXTS)


def forgot(prompt: str, first: str, second: str) -> Any:
    0.5 + 0.4 * (len(first) > len(second))


class SilentJudge:
    def judge(self, prompts: Any, pairs: Any) -> Any:
        return [None for _ in pairs]


class SilentRewards(ScalarOracle):
    name = "the rewards"

    def rewards(self, prompts: Any, candidates: Any) -> Any:
        return [[None] * len(texts) for texts in candidates]


@pytest.mark.parametrize(
    "oracle",
    [Function(forgot), Judge(SilentJudge()), RewardFunction(lambda completions: [None] * len(completions)),
     SilentRewards()],
)  # fmt: skip
def test_code_that_never_gives_a_judgement_is_told_once(oracle: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert np.isnan(preference_matrices(oracle, PROMPTS[:1], TEXTS[:1])[0].P[0, 1])  # it may abstain
    (told,) = caplog.messages
    assert oracle.name in told
    assert "return" in told


def test_a_judge_that_abstains_now_and_then_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    some = Function(lambda prompt, first, second: None if prompt == "first" else 0.6, name="some")
    preference_matrices(some, PROMPTS, TEXTS)
    preference_matrices(some, PROMPTS[:1], TEXTS[:1])
    votes = VoteTable([{"prompt": "another", "a": "x", "b": "y", "winner": "a"}])
    preference_matrices(votes, PROMPTS, TEXTS)  # knows none of the texts, by no fault of its code
    assert caplog.messages == []


class Fails(PreferenceOracle):
    name = "the failing one"

    def raw_logits(self, prompts: Any, candidates: Any, pairs: Any) -> Any:
        raise KeyError("score")


def fails_at_four(prompt: str, first: str, second: str) -> float:
    if len(first) == 4:
        raise ZeroDivisionError("of my own")
    return 0.5


@pytest.mark.parametrize(
    ("oracle", "kind", "named"),
    [
        (Function(fails_at_four), ZeroDivisionError, ("fails_at_four", "'cccc'", "'first'")),
        (Ensemble([Function(fails_at_four)]), ZeroDivisionError, ("fails_at_four", "'cccc'", "'first'")),
        (Fails(), KeyError, ("the failing one", "'a'", "'bb'", "'first'", "3 prompts")),
    ],
)
def test_an_exception_of_an_oracle_names_the_pair(oracle: Any, kind: type[Exception], named: Any) -> None:
    with pytest.raises(kind) as raised:
        preference_matrices(oracle, PROMPTS, TEXTS)
    assert raised.type is kind  # the user's own, with its traceback
    assert raised.traceback[-1].name in ("fails_at_four", "raw_logits")
    (note,) = raised.value.__notes__
    for part in named:
        assert part in note


def test_the_line_of_a_command_has_the_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pair_judge.py").write_text(
        "from nashward.llm.oracles import Function\n"
        "def judge(prompt, first, second):\n"
        "    raise KeyError('score')\n"
        "mine = Function(judge)\n"
    )
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Why?", "responses": ["So.", "No."]}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["best-of-n", "--responses", "rows.jsonl", "--oracle", "pair_judge:mine", "--out", "best.jsonl"]) == 2
    told = capsys.readouterr().err
    assert "pair_judge.py, line 3" in told
    assert "'So.', 'No.' of prompt 'Why?'" in told
