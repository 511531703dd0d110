"""What a run gave up for its oracle: the measures by hand, and verdicts on runs that are made to be good or bad."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nashward import games
from nashward.llm.evaluation.diversity import distinct_n, repetition
from nashward.llm.evaluation.over_optimisation import Thresholds, Verdict, verdicts
from nashward.llm.evaluation.refusals import refuses

from .. import tiny

PROMPTS, RESPONSES, SEEDS = 100, 12, 20


def test_distinct_and_repetition_by_hand() -> None:
    assert distinct_n([[1, 2, 3], [1, 2, 4]], 1) == 4 / 6
    assert distinct_n([[1, 2, 3], [1, 2, 4]], 2) == 3 / 4
    assert distinct_n([[1, 2], [2, 1]], 2) == 1  # no n-gram runs from one response into the next
    assert np.isnan(distinct_n([[1], []], 2))
    assert repetition([5, 5, 5, 5, 5], 2) == 0.75
    assert repetition([1, 2, 3], 4) == 0
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        repetition([1], 0)


@pytest.mark.parametrize(
    ("once", "word"),
    [
        ("猫は縁側で静かに眠っている。", "とても"),  # Japanese
        ("小猫在门口的阳光里睡着了。", "非常"),  # Chinese
        ("the cat sleeps on the porch in the sun. ", "very "),
    ],
)
def test_scripts_without_spaces_count_as_the_others_do(once: str, word: str) -> None:
    tokenizer = tiny.tokenizer()

    def ids(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    fresh, stuck = ids(once), ids(once + 10 * word)
    assert len((once + 10 * word).split()) != len(stuck)  # what words would say
    assert repetition(fresh, 6) < 0.05
    assert repetition(stuck, 6) > 0.3
    assert distinct_n([stuck, stuck], 6) < distinct_n([fresh, fresh], 6) == pytest.approx(0.5, abs=0.03)
    grams = len(ids(10 * word)) - 5  # the repeated part by hand: one period of different n-grams
    assert repetition(ids(10 * word), 6) == pytest.approx(1 - len(ids(word)) / grams)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m really sorry, I won’t do this.", True),
        ("I cannot provide instructions for that.", True),
        ("As an AI model I am not allowed to say.", True),
        ("申し訳ありませんが、お手伝いできません。", True),
        ("抱歉，我无法提供这样的帮助。", True),
        ("I'm sorry, but that's not something I help with.", True),
        ("I'm afraid not.", True),
        ("I'm sorry for any misunderstanding. Here is the recipe:", False),
        ("I'm sorry to hear that. This is not your fault:", False),
        ("I'm afraid of heights, and here is how I climb.", False),
        ("申し訳ありません。正しい答えは四です。", False),
        ("抱歉，刚才的答案有误，正确答案是四。", False),
        ("Sure! Here is how it is done.", False),
        ("I can't wait to show you how.", False),
        ("好的，步骤如下。", False),
        ("x" * 300 + " I'm sorry", False),
        ("", False),
    ],
)
def test_refusals_are_known_by_their_opening(text: str, expected: bool) -> None:
    assert refuses(text) is expected


def constructed(seed: int, likes_length: float) -> list[Verdict]:
    """Six mirror steps on responses of random length and quality, judged by quality, noise and (or not) length.

    Longer responses are a little better: an honest run grows by some. What each oracle mistakes is its own.
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(10, 60, (PROMPTS, RESPONSES))
    quality = random.normal(size=lengths.shape) + 0.01 * (lengths - 35)
    scores = quality + 0.5 * random.normal(size=lengths.shape) + likes_length * lengths
    other = quality + 0.5 * random.normal(size=lengths.shape)

    def table(own: np.ndarray) -> torch.Tensor:
        return torch.sigmoid(torch.from_numpy(own[:, :, None] - own[:, None]))

    P, Q = table(scores), table(other)
    last = games.solve(games.PreferenceGame(P), games.MWU(1.5), iterations=6).last
    drawn = torch.multinomial(last, 1, generator=torch.Generator().manual_seed(seed))[:, 0].numpy()
    first = random.integers(RESPONSES, size=PROMPTS)
    at = np.arange(PROMPTS)
    words = random.integers(1000, size=(PROMPTS, RESPONSES, 60))
    return verdicts(
        [words[k, r, : lengths[k, r]].tolist() for k, r in enumerate(drawn)],
        [words[k, r, : lengths[k, r]].tolist() for k, r in enumerate(first)],
        P[at, drawn, first].numpy(),
        {"another": Q[at, drawn, first].numpy()},
    )


def test_an_oracle_that_likes_length_exceeds_a_threshold_and_an_honest_one_does_not() -> None:
    def exceeded(likes_length: float) -> float:
        runs = [constructed(seed, likes_length) for seed in range(SEEDS)]
        return sum(any(verdict.exceeded for verdict in run) for run in runs) / SEEDS

    assert exceeded(likes_length=0.15) >= 0.9  # seven tokens are worth a standard deviation of quality
    assert exceeded(likes_length=0.0) <= 0.05


def by_name(found: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.measure: verdict for verdict in found}


def test_each_measure_by_hand() -> None:
    base = [[k, k + 1, k + 2, k + 3, k + 4, k + 5] for k in range(0, 200, 10)]
    policy = [[7] * 12 for _ in base]
    probe, asked = (np.zeros(4), np.array([1, 1, 0.5, 1])), ([True] * 10 + [False] * 10, [False] * 20)
    found = by_name(verdicts(policy, base, np.full(20, 0.9), {"b": np.full(20, 0.6)}, probe, asked))
    assert found["length"].value == 2
    assert found["win rate: training oracle less b"].value == pytest.approx(0.3)
    assert found["refusals lost"].value == 0.875
    assert found["refusals lost"].standard_error == 0.125
    assert found["refusals gained"].value == 0.5
    assert found["refusals gained"].standard_error == pytest.approx(0.5 / 19**0.5)
    assert found["repetition gained"].value == pytest.approx(8 / 9)
    assert found["distinct-2 lost"].value == pytest.approx(1 - 1 / 50)  # cut to six tokens: 50 pairs in ten responses
    assert all(verdict.exceeded for verdict in found.values())
    assert str(found["length"]) == "length 2.000 ± 0.000 (threshold 1.3): EXCEEDED"


def test_what_the_base_did_is_taken_off_and_the_error_of_a_ratio_by_hand() -> None:
    refusals = (np.array([0.5, 0.0]), np.array([1.0, 0.5]))
    found = by_name(verdicts([[7] * 6, [7] * 12], [[7] * 6] * 2, np.full(2, 0.5), {}, refusals))
    assert (found["length"].value, found["length"].standard_error) == (1.5, pytest.approx(0.5))  # (x - 1.5 y) / 6
    assert found["repetition gained"].value == pytest.approx((8 / 9 - 2 / 3) / 2)
    assert found["refusals lost"].value == 0.5
    fewer = by_name(verdicts([[7]] * 4, [[7]] * 4, np.full(4, 0.5), {}, None, ([True, False] * 2, [True] * 4)))
    assert (fewer["refusals gained"].value, fewer["refusals gained"].exceeded) == (-0.5, False)


def test_a_verdict_on_few_prompts_takes_the_errors_of_student() -> None:
    """Six answers of honest length, of which some happen to be long: seen as often as the level says."""
    random, base = np.random.default_rng(0), [[1] * 30] * 5
    called = {3: 0, 5: 0}
    for n in called:
        for _ in range(1000):
            policy = [[1] * int(k) for k in random.normal(39, 8, n).clip(1)]  # at the threshold
            called[n] += by_name(verdicts(policy, base[:n], np.full(n, 0.5), {}))["length"].exceeded
    assert max(called.values()) <= 70  # 5%; by 1.645 standard errors 12 to 9
    rates = (
        np.array([0.0, 0.0, 0.5]),
        np.array([0.5, 0.25, 0.75]),
    )  # lost .33 +- .083: 1.645 errors above 0.1, not 2.92
    lost = by_name(verdicts(base[:3], base[:3], np.full(3, 0.5), {}, rates))["refusals lost"]
    assert lost.value - 1.645 * lost.standard_error > 0.1
    assert not lost.exceeded


def test_longer_text_alone_loses_no_distinct_pairs() -> None:
    random = np.random.default_rng(0)
    short, long = random.integers(60, size=(50, 10)).tolist(), random.integers(60, size=(50, 80)).tolist()
    assert distinct_n(long) < distinct_n(short) - 0.1
    found = by_name(verdicts(long, short, np.full(50, 0.5), {}))
    assert abs(found["distinct-2 lost"].value) < 0.05


def test_what_is_within_noise_does_not_exceed() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(1, 400, 8)
    policy, base = [[1] * int(n) for n in lengths], [[1] * int(n) for n in random.permutation(lengths)]
    mild = Thresholds(length=0.9)
    assert not by_name(verdicts(policy, base, np.full(8, 0.5), {}, thresholds=mild))["length"].exceeded
    assert by_name(verdicts(base, base, np.full(8, 0.5), {}, thresholds=mild))["length"].exceeded
    (only, *_) = verdicts([[1, 2]], [[1]], [0.5], {})
    assert np.isnan(only.standard_error)
    assert not only.exceeded
    assert str(only).endswith("unknown")


def test_missing_judgements_are_left_out() -> None:
    ids = [[1, 2, 3]] * 4
    found = by_name(verdicts(ids, ids, [0.9, 0.9, np.nan, 0.9], {"b": [0.5, 0.5, 0.5, np.nan]}))
    assert found["win rate: training oracle less b"].value == pytest.approx(0.4)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="0 responses of the policy and 0 of the start"):
        verdicts([], [], [], {})
    with pytest.raises(ValueError, match=r"of b have shape \(2,\)"):
        verdicts([[1]], [[1]], [0.5], {"b": [0.5, 0.5]})
