"""The pocket models that are shipped: loaded as real ones are, and measured against what was planted."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nashward.games import PreferenceGame, nash
from nashward.games.analysis.ratings import bradley_terry
from nashward.llm.oracles import PairRM, preference_matrices
from nashward.llm.pocket import PAIRRM, POLICY
from nashward.llm.pocket.make import _shared_prompt, _visible
from nashward.llm.pocket.measure import check, report
from nashward.llm.pocket.styles import (
    BASE_MIX,
    PLANTED,
    STYLES,
    TOPICS,
    garbled,
    held_out_prompts,
    plain_prompts,
    prompt,
    response,
    style_of,
)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(POLICY)


@pytest.fixture(scope="module")
def found():
    return check(prompts=held_out_prompts(300), seed=1, tables=80)


def test_both_models_are_small_and_stored_in_half_precision():
    files = [path for folder in (POLICY, PAIRRM) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4e6
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype="auto")
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    # what 4-bit layers need; the embeddings and the head are not quantised
    shapes = [m.weight.shape for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    assert shapes
    assert all(size % 64 == 0 for shape in shapes for size in shape)


def test_the_generator_and_the_classifier_agree():
    rng = np.random.default_rng(0)
    for style in range(len(STYLES)):
        for _ in range(200):
            text = response(style, None if rng.random() < 0.3 else TOPICS[int(rng.integers(len(TOPICS)))], rng)
            assert style_of(text) == style
            assert style_of(f" {text}\n") == style
            assert style_of(text[:-1]) is None
            assert style_of(text + " " + text) is None
            assert 10 <= len(text.encode()) <= 80
    assert all(style_of(garbled(rng)) is None for _ in range(2000))


@pytest.mark.parametrize("text", ["", " ", "In short,", "As an AI, I cannot In short, tea is old.", "Paris.", "1. 2."])
def test_other_text_has_no_style(text):
    assert style_of(text) is None


def test_prompts_are_varied():
    rng = np.random.default_rng(1)
    prompts = [prompt(rng)[0] for _ in range(1000)]
    lengths = np.array([len(text) for text in prompts])
    assert len(set(prompts)) > 950
    assert lengths.min() < 15
    assert lengths.max() > 1500
    assert any("\n" in text for text in prompts)
    assert any(not text.isascii() for text in prompts)


def test_the_planted_game_is_a_biased_cycle_and_a_loser():
    np.testing.assert_array_equal(PLANTED + PLANTED.T, 1.0)
    np.testing.assert_allclose(nash(PreferenceGame(PLANTED)).policy, [1 / 3, 4 / 15, 2 / 5, 0.0], atol=1e-9)
    assert bradley_terry(PLANTED).residual.abs().max() >= 0.15
    assert sum(BASE_MIX) == pytest.approx(1.0)


def test_one_bos_with_and_without_the_chat_template(tokenizer):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is tea?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    for ids in (
        tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"],
        tokenizer(text, add_special_tokens=False)["input_ids"],
        tokenizer("What is tea?")["input_ids"],
    ):
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1
    assert text.endswith("<|assistant|>")


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in ("naïve 你好 😀\t\x00\n\n  x", "".join(map(chr, range(1, 1000)))):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_model_knows_its_end(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(POLICY)
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.max_position_embeddings >= 4096


def test_responses_that_share_a_prompt_do_not_see_each_other(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32).eval()
    texts = ["<|user|>tea<|assistant|>", "one two</s>", "three</s>"]
    head, *answers = tokenizer(texts, add_special_tokens=False)["input_ids"]
    row = _shared_prompt(head, answers)
    with torch.no_grad():
        mask = _visible(row["segments"][None])
        together = model(row["ids"][None], position_ids=row["positions"][None], attention_mask=mask).logits[0]
        apart = [model(torch.tensor([head + answer])).logits[0, len(head) - 1 : -1] for answer in answers]
    torch.testing.assert_close(together[row["queries"]], torch.cat(apart), rtol=1e-4, atol=1e-4)
    assert row["targets"].tolist() == answers[0] + answers[1]


@pytest.mark.slow
def test_the_base_policy_mixes_the_styles_as_planned(found):
    assert np.abs(found["style_mix"] - BASE_MIX).max() <= 0.08, report(found)
    assert found["no_style"] <= 0.05
    assert found["tokens"] <= 48


@pytest.mark.slow
def test_the_learned_table_is_near_the_planted_one(found):
    learned = found["learned"]
    assert found["error"] <= 0.08, report(found)
    assert min(learned[0, 1], learned[1, 2], learned[2, 0]) > 0.6  # the cycle
    assert learned[:4, 4].min() > 0.6  # no style loses to all styles
    assert found["bradley_terry_misfit"] >= 0.15
    policy = found["nash_learned"]
    assert policy[:3].min() > 0.15
    assert policy[3] < 1e-9


def test_the_report_names_every_style(found):
    text = report(found)
    assert all(style in text for style in STYLES)
    assert "Nash learned" in text


def test_the_oracle_loads_and_judges_unusual_text():
    oracle = PairRM.from_pretrained(PAIRRM, device="cpu")
    long = "word " * 3000
    result = preference_matrices(oracle, [long], [["In short, tea is old.", "", long, "你好 😀"]])[0]
    assert np.isfinite(result.P).all()
    assert result.meta["truncated"] == 2


def test_plain_prompts_are_what_a_person_could_have_written() -> None:
    prompts = plain_prompts(100)
    assert len(set(prompts)) == 100
    assert prompts == plain_prompts(100)
    assert plain_prompts(100, seed=1) != prompts
    assert all(text.isascii() and text.isprintable() and len(text) < 60 for text in prompts)
    assert all(
        sum(topic in text.split() or f"{topic}." in text or f"{topic}?" in text for topic in TOPICS) for text in prompts
    )
    with pytest.raises(ValueError, match="10000 were requested"):
        plain_prompts(10_000)
