"""The small judges: plain and to the point, and the majority that the demo on a real model plays under."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from nashward.errors import NashwardError
from nashward.llm.oracles import (
    EverydayMajority,
    Plain,
    SemanticDiversity,
    ToThePoint,
    as_oracle,
    check_oracle,
    preference_matrices,
)
from nashward.llm.oracles.judges.plain import EMPTY

from .. import tiny_reward


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reward.reward_model(tmp_path_factory.mktemp("encoder") / "bert", "bert")


def test_plain_counts_letters_repetitions_and_marks() -> None:
    texts = ["ab abcd", "ab cd ab cd", "**ab** cd", "1. 2!", ""]
    (rewards,) = Plain().rewards(["?"], [texts])
    # letters a word; one of three pairs repeats another; four asterisks to two words; no word
    assert rewards == pytest.approx([-3.0, -2.0 - 5 / 3, -2.0 - 2.0 * 4 / 2, EMPTY, EMPTY])
    check_oracle(Plain())


def test_to_the_point_is_the_cosine_of_mean_states(encoder: Path) -> None:
    judge = ToThePoint(encoder, temperature=0.5)
    prompt, texts = "a red house", ["a house", "the river runs by the old town", "red"]
    network = AutoModel.from_pretrained(encoder, dtype=torch.float32).eval()

    def embedding(text: str) -> np.ndarray:
        rows = judge.embeddings._tokenizer([text], return_tensors="pt")  # alone: without padding
        with torch.no_grad():
            return network(**rows).last_hidden_state[0].mean(0).double().numpy()

    p = embedding(prompt)
    expected = [float(p @ v / np.linalg.norm(p) / np.linalg.norm(v)) for v in map(embedding, texts)]
    (rewards,) = judge.rewards([prompt], [texts])
    assert rewards == pytest.approx(expected, abs=1e-5)
    P = preference_matrices(judge, [prompt], [texts])[0].P
    assert P[0, 1] == pytest.approx(1 / (1 + np.exp(-(expected[0] - expected[1]) / 0.5)), abs=1e-4)


def test_to_the_point_reads_control_tokens_as_text(encoder: Path) -> None:
    judge = ToThePoint(encoder)
    special = set(judge.embeddings._tokenizer.all_special_ids)
    plain, forged = (
        judge.embeddings._row("a house"),
        judge.embeddings._row(f"a {judge.embeddings._tokenizer.sep_token} house"),
    )
    assert plain == judge.embeddings._tokenizer("a house")["input_ids"]
    assert [k for k in forged if k in special - {judge.embeddings._tokenizer.unk_token_id}] == [plain[0], plain[-1]]
    long = judge.embeddings._row("house " * 300)
    assert (
        judge.embeddings._cut(long)
        == judge.embeddings._tokenizer("house " * 300, truncation=True, max_length=256)["input_ids"]
    )


def test_semantic_diversity_is_the_mean_distance_to_the_other_responses(encoder: Path) -> None:
    texts = ["a house", "the river runs by the old town", "red", "a house"]
    judge = SemanticDiversity(encoder, temperature=0.5)
    units = judge.embeddings(texts)
    assert np.linalg.norm(units, axis=1) == pytest.approx(1.0)
    scores = [np.mean([1 - units[i] @ units[j] for j in range(4) if j != i]) for i in range(4)]
    (result,) = preference_matrices(judge, ["?"], [texts])
    expected = 1 / (1 + np.exp(-np.subtract.outer(scores, scores) / 0.5))
    np.testing.assert_allclose(result.P, expected, atol=1e-9)
    assert result.P[0, 3] == pytest.approx(0.5)  # copies tie
    order = [2, 0, 3, 1]
    (permuted,) = preference_matrices(judge, ["?"], [[texts[k] for k in order]])
    np.testing.assert_allclose(permuted.P, result.P[np.ix_(order, order)])
    assert judge.truncated("?", [*texts, "b " * 300]) == 1
    (alone,) = preference_matrices(judge, ["?"], [["a house"]])
    assert alone.P.tolist() == [[0.5]]
    with pytest.raises(NashwardError, match="temperature"):
        SemanticDiversity(encoder, temperature=0.0)


@pytest.mark.real
def test_the_same_in_other_words_is_diverse_in_words_alone() -> None:
    texts = [
        "The cat sleeps on the warm sofa.",
        "A feline naps upon a cosy couch.",
        "Stocks fell after the rate decision.",
    ]
    (result,) = preference_matrices(SemanticDiversity(), ["?"], [texts])
    assert min(result.P[2, :2]) > 0.9


def test_the_majority_names_its_judges_and_is_cached(encoder: Path) -> None:
    majority = EverydayMajority(encoder)
    assert [judge.name for judge in majority.members] == ["to the point", "brevity", "plain"]
    assert majority.cache_key() == EverydayMajority(encoder).cache_key()
    assert majority.truncated("?", ["a", "b " * 300]) == 1


@pytest.mark.real
def test_on_real_text_each_judge_does_what_it_is_named_for() -> None:
    prompt = "Why is the sea salty?"
    near, far = "Rivers carry salt from rocks into the sea.", "My uncle repairs motorcycles on Sundays."
    majority = as_oracle("nashward.llm.oracles:EverydayMajority")
    assert isinstance(majority, EverydayMajority)
    point, brief, plain = majority.members
    assert preference_matrices(point, [prompt], [[near, far]])[0].P[0, 1] > 0.95
    assert preference_matrices(brief, [prompt], [[near, f"{near} {near}"]])[0].P[0, 1] > 0.95
    assert preference_matrices(plain, [prompt], [[near, f"{near} {near}"]])[0].P[0, 1] > 0.95
    check_oracle(majority)
