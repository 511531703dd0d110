"""The conformance kit: good oracles pass, and each broken one is caught by the check that is there for it."""

from __future__ import annotations

import contextlib
import io
import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from nashward.llm.oracles import (
    EmbeddingOracle,
    Function,
    Judge,
    Length,
    PairRM,
    PreferenceOracle,
    RewardFunction,
    preference_matrices,
)
from nashward.llm.oracles.conformance.check_oracle import PROMPTS, ConformanceError, check_oracle
from nashward.llm.oracles.conformance.conformance_checks import ODD_TEXTS
from nashward.llm.oracles.fitting.vote_table import VoteTable
from nashward.llm.oracles.fitting.votes import Vote
from nashward.llm.oracles.protocol import Pairs
from nashward.llm.pocket import PAIRRM
from tests.conftest import ROOT


def logit(prompt: str, a: str, b: str) -> float:
    """In [-1, 1), of the texts alone, skew in no way."""
    return zlib.crc32("\0".join((prompt, a, b)).encode(errors="surrogatepass")) / 2**31 - 1


class Plain(PreferenceOracle):
    """A good oracle that the mutants spoil; it counts its calls."""

    name = "plain"
    fingerprint = "plain"
    calls = 0

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        self.calls += 1
        return [
            np.array([self.one(prompt, texts, asked, i, j) for i, j in asked]) + self.batch(prompts, candidates, pairs)
            for prompt, texts, asked in zip(prompts, candidates, pairs, strict=True)
        ]

    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        return logit(prompt, texts[i], texts[j])

    def batch(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]) -> float:
        return 0.0


class Circle(EmbeddingOracle):
    name = "circle"
    fingerprint = "circle"

    def embed(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        angles = [np.array([logit("", text, "") for text in texts]) for texts in candidates]
        return [np.stack([np.cos(4 * angle), np.sin(4 * angle)], 1) for angle in angles]


class Ensemble(Plain):
    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        return [np.stack([own, own / 2]) for own in super().raw_logits(prompts, candidates, pairs)]


class HardJudge:
    def judge(self, prompts: list[str], pairs: list[list[str]], shuffle_order: bool = True) -> list[int]:
        assert not shuffle_order
        return [int(len(a) < len(b)) for a, b in pairs]


VOTES = [Vote("p", a, b, 2, 3) for a, b in ("ab", "bc", "ca", "cd")]


@pytest.mark.parametrize(
    ("oracle", "skipped"),
    [
        (Plain(), ["symmetric as declared", "transitive as declared"]),
        (Ensemble(), ["symmetric as declared", "transitive as declared"]),
        (Circle(), ["transitive as declared"]),
        (Length(), []),
        (Length(-3.0), []),
        (
            Function(lambda prompt, a, b: (1 + len(a)) / (2 + len(a) + len(b)), symmetric=True, transitive=True),
            ["cache round trip"],
        ),
        (Judge(HardJudge()), ["symmetric as declared", "transitive as declared", "cache round trip"]),
        (RewardFunction(lambda completions: [text.count("e") for text in completions], fingerprint="e"), []),
        (VoteTable(VOTES, fill="half"), ["transitive as declared"]),
    ],
    ids=lambda value: value.name if isinstance(value, PreferenceOracle) else "",
)
def test_good_oracles_pass(oracle: PreferenceOracle, skipped: list[str]) -> None:
    passed = check_oracle(oracle)
    assert len(passed) == 18
    assert [name.split(" (")[0] for name in passed if "skipped" in name] == skipped
    assert not [name for name in passed if "missing" in name]


def test_the_pocket_pairrm_passes() -> None:
    passed = check_oracle(PairRM.from_pretrained(PAIRRM, device="cpu"))
    assert passed[-1] == "cache round trip"
    assert "odd texts" in passed


def test_an_oracle_that_knows_some_texts_alone_is_given_those() -> None:
    table = VoteTable(VOTES, fill="missing")
    passed = check_oracle(table, ["p", "p"], [["a", "b", "c", "d", "a"], ["a", "b"]])
    assert passed[0] == "one logit a pair (4 of 14 missing)"
    assert "odd texts (missing: " + ", ".join(ODD_TEXTS) + ")" in passed
    with pytest.raises(ConformanceError, match=r"all judgements are missing"):
        check_oracle(table)
    assert check_oracle(table, ["p"], [["a", "b", "c"]], cache=False)[-1] == "cache round trip (skipped: cache=False)"
    assert "a prompt alone (skipped: one prompt)" in check_oracle(table, ["p"], [["a", "b", "c"]])


# The mutants: each spoils one promise.


class Missing(Plain):
    def batch(self, *asked: Any) -> float:
        return float("nan")


class Probabilities(Plain):
    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        return float(expit(logit(prompt, texts[i], texts[j]) - logit(prompt, texts[j], texts[i])))


class LeavesOut(Plain):
    def judge(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
        yield from super().judge(prompts[:1], candidates[:1], pairs[:1])


class JudgesOtherwise(Plain):
    def judge(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
        for where, logits in super().judge(prompts, candidates, pairs):
            yield where, 1.01 * logits


class CountsTooMany(Plain):
    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        return 99


class NotSymmetric(Plain):
    symmetric = True


class NotTransitive(Circle):
    transitive = True


class FirstPrompt(Plain):
    def batch(self, prompts: Sequence[str], *asked: Any) -> float:
        return 0.01 * len(prompts[0])


class PairAlone(Plain):
    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        return logit(prompt, texts[i], texts[j]) + 0.01 * (len(asked) == 1)


class Normalises(Plain):
    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        return logit(prompt, texts[i], texts[j]) / len(texts)


class Places(Plain):
    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        return logit(prompt, texts[i], texts[j]) + 0.01 * i


class Repetition(Plain):
    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        return logit(prompt, texts[i], texts[j]) - (list(texts).count(texts[i]) > 1)


class WantsAllPairs(Plain):
    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        block = 1 < len(asked) < len(texts) * (len(texts) - 1)
        return logit(prompt, texts[i], texts[j]) + 0.1 * block


class Rectangular(Plain):
    def batch(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]) -> float:
        return 0.0 * np.array(candidates).size


class TwoTexts(Plain):
    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        return int(len(candidates[1]) > 10_000)


class NoEmptyText(Plain):
    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        return logit(prompt, texts[i], texts[j]) / len(texts[i])


class Overflows(Plain):
    def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
        return logit(prompt, texts[i], texts[j]) + (float("inf") if len(texts[i]) > 65_504 else 0.0)


class Drifts(Plain):
    def batch(self, *asked: Any) -> float:
        return 1e-9 * self.calls


def _moves(draw: Callable[[], object]) -> type[Plain]:
    class Moves(Plain):
        def batch(self, *asked: Any) -> float:
            draw()
            return 0.0

    return Moves


class FollowsTheSeed(Plain):
    def batch(self, *asked: Any) -> float:
        return 0.1 * (torch.initial_seed() % 3)


class Reorders(Plain):
    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        logits = super().raw_logits(prompts, candidates, pairs)
        pairs[0].reverse()  # type: ignore[attr-defined]
        return logits


def _says(**attributes: object) -> type[Plain]:
    return type("Says", (Plain,), attributes)


class ForgetsItsWeights(Plain):
    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return f"after {self.calls} calls"


MUTANTS: list[tuple[str, type[PreferenceOracle], str]] = [
    ("one logit a pair", Missing, "all judgements are missing"),
    ("one logit a pair", Probabilities, r"probabilities.*log\(p / \(1 - p\)\)"),
    ("tables", LeavesOut, "it raised NashwardError: plain left out 12 of the 12 pairs of prompt 1"),
    ("tables", CountsTooMany, "99 of 5 texts"),
    ("symmetric as declared", NotSymmetric, "set symmetric = False"),
    ("transitive as declared", NotTransitive, r"L_ij \+ L_jk and L_ik differ by"),
    ("a prompt alone", FirstPrompt, "where prompt 1 is judged by itself"),
    ("a pair alone", PairAlone, "where it is judged by itself"),
    ("other candidates", Normalises, "with the first 2 of 4 candidates"),
    ("order of candidates", Places, r"with the candidates in the order \[0, 3, 2, 1\]"),
    ("equal texts", Repetition, "where candidate 0 is there twice"),
    ("opponents", WantsAllPairs, "with the second half of the candidates as opponents"),
    ("ragged candidates", Rectangular, "it raised ValueError: setting an array element"),
    ("one candidate", TwoTexts, "it raised IndexError"),
    ("odd texts", NoEmptyText, "the empty text: it raised ZeroDivisionError"),
    ("odd texts", Overflows, "20,000 words: an infinite logit"),
    ("deterministic", Drifts, "where the same is judged again"),
    ("global random state", _moves(random.random), "moves the global generator of random;"),
    ("global random state", _moves(lambda: np.random.rand()), "moves the global generator of numpy;"),  # noqa: NPY002
    ("global random state", _moves(lambda: torch.rand(1)), "moves the global generator of torch;"),
    ("global random state", FollowsTheSeed, "with another global seed"),
    ("inputs unchanged", Reorders, "raw_logits changed the lists"),
    ("attributes", _says(name=""), "name is ''"),
    ("attributes", _says(fingerprint=""), "fingerprint is ''; expected a text"),
    ("attributes", _says(fingerprint=3), "fingerprint is 3"),
    ("attributes", _says(aggregation="mean"), "aggregation is 'mean'; expected one of calibrated"),
    ("cache round trip", ForgetsItsWeights, "12 of 12 judgements"),
]


def failures(oracle: PreferenceOracle) -> dict[str, str]:
    with pytest.raises(ConformanceError) as error:
        check_oracle(oracle)
    head, *lines = str(error.value).splitlines()
    assert all(line.startswith("- ") for line in lines)
    named = [line.removeprefix("- ").split(": ", 1) for line in lines]
    failed = {name: failure for names, failure in named for name in names.split(", ")}
    assert head == f"{oracle.name} fails {len(failed)} of 18 checks:"
    return failed


@pytest.mark.parametrize(("name", "mutant", "found"), MUTANTS)
def test_each_mutant_is_caught_by_its_check_alone(name: str, mutant: type[PreferenceOracle], found: str) -> None:
    failed = failures(mutant())
    assert list(failed) == [name]
    assert re.search(found, failed[name])


def test_probabilities_are_named_before_symmetry() -> None:
    """Declared as symmetric they are not, as log-odds would be; that is not what is wrong."""
    declared = type("Declared", (Probabilities,), {"symmetric": True})
    failed = failures(declared())
    assert list(failed) == ["one logit a pair"]
    assert "symmetric" not in failed["one logit a pair"]


def test_probabilities_of_one_prompt_alone_are_named() -> None:
    class LastPrompt(Probabilities):
        def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
            return super().one(prompt, texts, asked, i, j) if prompt == PROMPTS[-1] else float("nan")

    assert "of prompt 2 and 0." in failures(LastPrompt())["one logit a pair"]


def test_log_odds_in_place_of_probabilities_are_named_once() -> None:
    lead = Function(lambda prompt, a, b: 0.1 * (len(a) - len(b)), symmetric=True)
    with pytest.raises(ConformanceError) as error:
        check_oracle(lead)
    lines = [line for line in str(error.value).splitlines() if "probability in [0, 1]" in line]
    assert lines
    assert len(lines) == len(set(line.split(": ", 1)[1] for line in lines)) <= 2
    assert all("1 / (1 + exp(-logit))" in line for line in lines)


def test_every_check_has_a_mutant() -> None:
    assert {name for name, _, _ in MUTANTS} == {name.split(" (")[0] for name in check_oracle(Plain())}


def test_a_judge_that_answers_otherwise_is_told_of_it() -> None:
    assert "raw_logits" in failures(JudgesOtherwise())["tables"]


class WrongShape(Plain):
    def raw_logits(self, *asked: Any) -> list[np.ndarray]:
        return [own[:-1] for own in super().raw_logits(*asked)]


class Breaks(Plain):
    def raw_logits(self, *asked: Any) -> list[np.ndarray]:
        raise RuntimeError("out of memory\nand more lines")


@pytest.mark.parametrize(
    ("mutant", "found"),
    [
        (WrongShape, "returned logits of shape (11,) for prompt 0; expected (12,)"),
        (Breaks, "it raised RuntimeError: out of memory"),
    ],
)
def test_the_other_checks_run_where_one_raises(mutant: type[Plain], found: str) -> None:
    failed = failures(mutant())
    assert found in failed["one logit a pair"]
    assert "and more lines" not in "".join(failed.values())
    assert {"one logit a pair", "tables", "odd texts", "cache round trip"} <= set(failed)
    assert {"one candidate", "attributes"}.isdisjoint(failed)


def test_the_global_generators_are_as_before() -> None:
    def states() -> list[object]:
        numpy: Any = np.random.get_state()  # noqa: NPY002
        return [random.getstate(), numpy[1].tolist(), numpy[2], torch.get_rng_state().tolist()]

    before = states()
    check_oracle(Plain())
    assert states() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((lambda a, b: 0.5,), "function is no PreferenceOracle; derive from it or wrap a function"),
        ((Plain(), ["p"]), "prompts and candidates belong together"),
        ((Plain(), ["p"], [["a", "b", "a"]]), "no prompt has three candidates that differ"),
        ((Plain(), ["p"], ["abc"]), "candidates of prompt 0: expected a list"),
        ((Plain(), ["p", "q"], [["a", "b", "c"]]), "2 prompts but 1 list of candidates"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_oracle(*arguments)


# What docs/oracles.md shows is what happens.

PAGE = (ROOT / "docs" / "oracles.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def _shown(code: str) -> list[str]:
    """The output that comments show: behind a print, or in lines of their own below it."""
    shown = re.findall(r"^ *print\(.*\)((?:  # .*)?(?:\n *# .*)*)$", code, re.MULTILINE)
    assert all(shown)
    return [line.strip().removeprefix("# ") for text in shown for line in text.splitlines() if line]


def test_the_page_for_extenders_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    shown = 0
    for code in BLOCKS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "docs/oracles.md", "exec"), names)
        assert out.getvalue().splitlines() == _shown(code)
        shown += len(_shown(code))
    assert shown >= 8


def test_a_new_oracle_takes_twenty_lines() -> None:
    blocks = PAGE.split("## A new oracle\n")[1].split("```python\n")[1:3]  # the oracle, and how it is called
    code = "\n".join(block.split("```")[0] for block in blocks)
    for part in ("(llm.oracles.PreferenceOracle):", "llm.oracles.preference_matrices(", "llm.oracles.check_oracle("):
        assert part in code
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "docs/oracles.md", "exec"), {"__name__": "page"})  # it is complete
    assert out.getvalue().splitlines() == _shown(code)


def test_odd_texts_are_missing_where_they_are_and_not_the_pair_beside_them() -> None:
    class Picky(Plain):
        def one(self, prompt: str, texts: Sequence[str], asked: Pairs, i: int, j: int) -> float:
            first_two = {texts[i], texts[j]} == {"Paris.", "The capital of France is Paris, on the Seine."}
            return float("nan") if first_two or "NUL" in texts[i] + texts[j] or "\0" in texts[i] + texts[j] else 0.1

    assert "odd texts (missing: NUL)" in check_oracle(Picky())


def test_a_wrong_number_of_logits_is_told_with_the_pairs_that_are_asked_twice() -> None:
    class OneShort(Plain):
        symmetric = True

        def raw_logits(self, *asked: Any) -> list[np.ndarray]:
            return [logits[:-1] for logits in super().raw_logits(*asked)]

    with pytest.raises(ValueError, match=r"\(8,\) for prompt 0; expected \(9,\).*: 6 of its texts, and 3 of these"):
        preference_matrices(OneShort(), ["p"], [["a", "b", "c", "d"]])
