"""Of judges behind a server no verdict is paid twice, none is lost, and no budget is overdrawn."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward.errors import BudgetError, EndpointError
from nashward.llm.config import JudgeSettings
from nashward.llm.oracles import Cache, as_oracle, preference_matrices
from nashward.llm.oracles.corrections.corrected import Calibrated
from nashward.llm.oracles.corrections.correction import CorrectedSource
from nashward.llm.oracles.diagnosis.diagnose import diagnose
from nashward.llm.oracles.diagnosis.probe import Pair
from nashward.llm.oracles.ensembles.source import EnsembleSource

from ...clients.scripted import Script, serve, shorter
from .judging import PAIRS, PROMPTS, RESPONSES, judge_of, letters


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_judge_that_is_diagnosed_is_called_again(script: Script, tmp_path: Path, wrapped: bool) -> None:
    """Its verdicts are drawn by their seed: the second judging has seeds of its own, and is not paid twice either."""
    script.write = lambda body: ("[[A]]" if body.get("seed", 0) % 2 else "[[B]]", None)
    pairs = [Pair(f"Prompt {k}.", f"one {k}", f"other {k}") for k in range(12)]
    for _ in range(2):
        judge = judge_of(script, temperature=1.0)
        oracle = Calibrated(judge, 1.0) if wrapped else judge
        found = {one.kind: one for one in diagnose(oracle, pairs, cache=tmp_path / "j.sqlite").findings}
        assert found["repeat"].estimate > 0.1
        assert len(script.verdicts) == 2 * 2 * len(pairs)


def test_what_cannot_be_read_is_missing_counted_and_not_paid_twice(
    script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script.write = lambda body: ("I cannot say." if "Elm" in str(body) else shorter(body)[0], None)
    for times in (1, 2):
        judge = judge_of(script)
        results = preference_matrices(judge, PROMPTS, RESPONSES, cache=tmp_path / "j.sqlite")
        assert not np.isnan(results[0].P).any()
        assert np.isnan(results[1].P[0, 1])
        assert results[1].meta["missing"] == 2
        assert sum("2 of" in message for message in caplog.messages) == times
        assert len(script.verdicts) == PAIRS


def test_a_judge_without_any_verdict_is_called_no_more(tmp_path: Path) -> None:
    """Ten answers, and those that were on their way; the next start pays for none."""
    responses = [[f"response {k}" for k in range(12)]]
    with serve(Script(lambda body: (f"I like both{' very' * 50} much.\x1b", None))) as script:
        for _ in range(2):
            with pytest.raises(EndpointError, match=r"\(pair\).* 10 .*A, B, C.* very much\.\\x1b'") as raised:
                preference_matrices(
                    judge_of(script, concurrency=2), PROMPTS[:1], responses, cache=tmp_path / "j.sqlite"
                )
            assert len(str(raised.value)) < 600
            assert 10 <= len(script.verdicts) <= 14
        script.write = shorter  # one that is read is enough
        script.verdicts.clear()
        judge = judge_of(script, concurrency=2)
        preference_matrices(judge, PROMPTS[:1], RESPONSES[:1])
        script.write = lambda body: ("I like both.", None)
        (result,) = preference_matrices(judge, PROMPTS[:1], responses)
    assert result.meta["missing"] == 12 * 11


def test_a_judge_without_any_verdict_stays_refused(script: Script) -> None:
    script.write = lambda body: ("I like both.", None)
    judge = judge_of(script, concurrency=1)
    for responses in ([f"response {k}" for k in range(12)], ["one", "two"]):
        with pytest.raises(EndpointError, match="none of its first 10"):
            preference_matrices(judge, PROMPTS[:1], [responses])
        paid = len(script.verdicts)
        assert 10 <= paid <= 12
    with pytest.raises(EndpointError, match="none of its first 10"):
        preference_matrices(judge, PROMPTS[:1], [["three", "four"]])
    assert len(script.verdicts) == paid


def test_an_output_without_a_verdict_counts_once(script: Script) -> None:
    script.write = lambda body: ("I like both.", None)
    judge = judge_of(script)
    for _ in range(3):
        (result,) = preference_matrices(judge, PROMPTS[:1], RESPONSES[:1])
        assert result.meta["missing"] == len(script.verdicts) == 6


def test_a_verdict_among_those_that_are_kept_is_enough(script: Script, tmp_path: Path) -> None:
    """They come in another order than that in which they were written."""
    script.write = lambda body: (shorter(body)[0] if "clear" in str(body) else "I like both.", None)
    responses, pairs = [*(f"response {k}" for k in range(4)), "clear"], list(permutations(range(5), 2))
    for last in (False, True):
        judge = judge_of(script, concurrency=1)
        judge.attach_cache(Cache(tmp_path / "j.sqlite"))
        ordered = sorted(pairs, key=lambda pair: (4 in pair) == last)
        (result,) = judge.raw_logits(PROMPTS[:1], [responses], [ordered])
        assert np.isnan(result).sum() == 4 * 3
    assert len(script.verdicts) == len(pairs)


def test_a_judge_of_which_verdicts_are_kept_is_repeated(script: Script, tmp_path: Path) -> None:
    """Pairs with a verdict are looked up in the cache; the twelve without are no first answers of a judge."""
    script.write = lambda body: (shorter(body)[0] if "clear" in str(body) else "I like both.", None)
    responses = [[*(f"response {k}" for k in range(4)), "clear"]]
    first, second = (
        preference_matrices(judge_of(script), PROMPTS[:1], responses, cache=tmp_path / "j.sqlite")[0] for _ in range(2)
    )
    assert len(script.verdicts) == 5 * 4
    assert second.meta["missing"] == first.meta["missing"] == 4 * 3
    np.testing.assert_array_equal(second.P, first.P)


def test_what_a_correction_is_fitted_to_is_paid_once(script: Script, tmp_path: Path) -> None:
    script.write = letters
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"p{k}", "a": "x" * (k + 1), "b": "y" * (40 - k), "winner": "a"} for k in range(31)]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    settings, calls = JudgeSettings(base_url=script.url, protocol="letter"), []
    for source in (CorrectedSource("openai:judge", f"style:pairs={pairs}"), *[
        EnsembleSource(("openai:judge",), f"accuracy:pairs={pairs}")
    ] * 2):  # fmt: skip
        as_oracle(source, judge=settings, cache=tmp_path / "j.sqlite")
        calls.append(len(script.verdicts))
    assert calls == [62, 62, 62]


def test_a_failure_loses_no_paid_verdict(tmp_path: Path) -> None:
    cache = tmp_path / "judgements.sqlite"
    with serve(Script(shorter)) as script:
        script.fault = lambda body, before: "400" if len(script.verdicts) >= 5 else ""
        with pytest.raises(EndpointError):
            preference_matrices(judge_of(script, concurrency=1), PROMPTS, RESPONSES, cache=cache)
        assert len(script.verdicts) == 5
        with Cache(cache) as opened:
            assert len(opened) == 0  # the call of raw_logits has not returned
        with sqlite3.connect(tmp_path / "judgements.verdicts.sqlite") as file:
            assert file.execute("SELECT COUNT(*) FROM output WHERE text LIKE '%[[%'").fetchone() == (5,)
        script.fault = lambda body, before: ""
        results = preference_matrices(judge_of(script), PROMPTS, RESPONSES, cache=cache)
        assert len(script.verdicts) == PAIRS
        assert not any(np.isnan(result.P).any() for result in results)


JUDGE = """
import sys
from nashward.llm import Endpoint, JudgeSettings
from nashward.llm.oracles import EndpointJudge, preference_matrices
judge = EndpointJudge("judge", JudgeSettings(base_url=sys.argv[1]), Endpoint(concurrency=4))
texts = ["x" * k for k in range(1, 9)]
print(preference_matrices(judge, ["Say x."], [texts], cache=sys.argv[2])[0].P.tolist())
"""


@pytest.mark.slow
def test_a_kill_loses_no_paid_verdict(tmp_path: Path) -> None:
    with serve(Script(shorter, delay=0.05)) as script:
        command = [sys.executable, "-c", JUDGE, script.url, str(tmp_path / "judgements.sqlite")]
        killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(1200):
            if len(script.verdicts) >= 20:
                break
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert 20 <= len(script.verdicts) < 56
        again = subprocess.run(command, capture_output=True, text=True, check=True)
        whole = preference_matrices(judge_of(script), ["Say x."], [["x" * k for k in range(1, 9)]])[0].P.tolist()
        assert json.loads(again.stdout) == whole
    twice = len(script.verdicts) - 2 * 56  # what was on its way when the process died
    assert 0 <= twice <= 4


def test_the_budget_counts_earlier_starts(tmp_path: Path) -> None:
    cache = tmp_path / "judgements.sqlite"
    with serve(Script(shorter)) as script:
        for _ in range(3):
            with pytest.raises(BudgetError, match=r"5 calls is spent \(5 sent, [0-5] answered") as spent:
                preference_matrices(judge_of(script, budget="5 calls"), PROMPTS, RESPONSES, cache=cache)
            assert len(script.verdicts) == 5
            assert "--cache" not in str(spent.value)
        with pytest.raises(BudgetError, match="--cache") as spent:  # in memory alone nothing is continued
            preference_matrices(judge_of(script, budget="5 calls"), PROMPTS, RESPONSES)
        assert "continues" not in str(spent.value)
        assert len(script.verdicts) == 10
        preference_matrices(judge_of(script, budget="100 calls"), PROMPTS, RESPONSES, cache=cache)
        assert len(script.verdicts) == PAIRS + 5


@pytest.mark.parametrize(("fault", "patience"), [("503", "0"), ("429", "9999"), ("401", "0"), ("death", "0")])
def test_a_server_that_dies_says_what_is_paid_again(tmp_path: Path, fault: str, patience: str) -> None:
    """From the fifth verdict on it fails: what came before is in the cache, or lost, and the line says which."""
    with serve(Script(shorter, patience=patience)) as script:
        script.fault = lambda body, before: fault if len(script.verdicts) >= 4 else ""
        few: dict[str, Any] = {"retries": 1, "concurrency": 1}
        with pytest.raises(EndpointError, match="--cache") as failed:
            preference_matrices(judge_of(script, **few), PROMPTS, RESPONSES)
        assert "continues" not in str(failed.value)
        script.bodies.clear()
        with pytest.raises(EndpointError) as failed:
            preference_matrices(judge_of(script, **few), PROMPTS, RESPONSES, cache=tmp_path / "j.sqlite")
        assert "--cache" not in str(failed.value)
        assert len(script.verdicts) == 4
        script.fault = lambda body, before: ""
        preference_matrices(judge_of(script), PROMPTS, RESPONSES, cache=tmp_path / "j.sqlite")
        assert len(script.verdicts) == PAIRS
        script.fault, script.patience = lambda body, before: fault, patience
        with pytest.raises(EndpointError) as failed:  # nothing is paid yet
            preference_matrices(judge_of(script, **few), PROMPTS, RESPONSES)
        assert "--cache" not in str(failed.value)


@pytest.mark.parametrize("limit", ["4000 tokens", "0.01 USD"])
def test_no_call_goes_beyond_the_budget(limit: str) -> None:
    with serve(Script(shorter)) as script:
        judge = judge_of(script, budget=limit, price="2/8", max_tokens=50)
        with pytest.raises(BudgetError):
            preference_matrices(judge, ["p"], [[f"response {k}" for k in range(20)]])
        spent = judge.budget.spent.amounts(judge.settings.prices)
    assert 0 < spent["calls"] < 20 * 19
    assert spent["tokens"] <= 4000 or spent["usd"] <= 0.01
