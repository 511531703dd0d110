"""PairRM against llm-blender itself, on tiny random checkpoints, and what only ours promises."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig

from nashward.llm.oracles import PairRM, preference_matrices
from nashward.llm.oracles.models.llm_blender import LLMBlenderOracle
from nashward.llm.oracles.models.pairrm import CONVERSATION, MARKERS
from nashward.llm.policy.control_tokens import control_tokens
from tests.llm import tiny_pairrm

PROMPTS = [
    "What is the capital of France?",
    "Write a poem.\n\nIt should be   about the sea, ünd 你好 <b>bold</b>.",
    "The old sailor loved the river. " * 30,  # cut at 96 tokens
    "x",
]
LONG = "I am sorry, but I cannot help with that. " * 12  # cut
CANDIDATES = [
    ["The capital is Paris.", "I cannot help with that request.", "Lyon?", LONG],
    ["The sea, the sea.", "", "def add(a, b): return a + b", "poem poem poem"],
    ["Please ask me something else.", LONG, "river", "old"],
    ["a", "b c", LONG + "!", "1 2 3"],
]
# prompt and candidates: 2 to 5 of them, empty, equal, cut, with line breaks and signs of many scripts; none has a
# control token, which llm-blender reads as a blank
HARD = [
    ("Grüße aus Köln, où est la gare?\t你好 <|>", ["", "你好 \u200b😀 e\u0301 é ﬁ"]),
    ("", ["Paris.", "Paris.", " Paris.\n"]),
    ("The old sailor (SEP) loved " * 40, [LONG, "", LONG + "river", "[SEP"]),
    ("Write\r\na poem. ", ["x", LONG, "x", "ÀÉÎ " * 40, "def add(a, b):\n\treturn a + b"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pairrm.ranker_layout(tmp_path_factory.mktemp("ranker"))


@pytest.fixture(scope="module")
def oracle(folder):
    return PairRM.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def blender(folder):
    """llm-blender with the same checkpoint."""
    return LLMBlenderOracle.from_pretrained(folder).blender


def blender_logits(blender, prompt, candidates):
    batch = blender.ranker_collator([{"source": prompt, "candidates": candidates}])
    with torch.no_grad():
        return batch, blender.ranker._full_predict(**{k: v for k, v in batch.items() if v is not None})["logits"][0]


def test_token_ids_equal_llm_blender(oracle, blender):
    for prompt, candidates in [*zip(PROMPTS, CANDIDATES, strict=True), *HARD]:
        batch, _ = blender_logits(blender, prompt, candidates)
        (source, responses), _ = oracle.encode(prompt, candidates)
        ids, masks = batch["candidate_ids"][0], batch["candidate_attention_mask"][0].bool()
        assert source == batch["source_ids"][0].tolist()
        assert responses == [row[mask].tolist() for row, mask in zip(ids, masks, strict=True)]


def test_logits_and_rank_scores_equal_llm_blender(oracle, blender):
    results = preference_matrices(oracle, PROMPTS, CANDIDATES)
    scores = blender.rank(PROMPTS, CANDIDATES, return_scores=True, batch_size=1, disable_tqdm=True)
    for prompt, candidates, result, score in zip(PROMPTS, CANDIDATES, results, scores, strict=True):
        _, logits = blender_logits(blender, prompt, candidates)
        assert np.ptp(result.logits) > 0.1  # else equality would say little
        np.testing.assert_allclose(result.logits, logits.numpy(), atol=1e-5)
        np.testing.assert_allclose((result.logits - result.logits.T).mean(axis=1), score, atol=1e-5)


def test_conversation_format_equals_compare_conversations(folder, blender):
    oracle = PairRM.from_pretrained(folder, device="cpu", prompt_format="conversation")
    user = {"role": "USER", "content": "hello {x}"}
    first, second = ([user, {"role": "ASSISTANT", "content": text}] for text in ("hi", "no"))
    theirs = blender.compare_conversations([first], [second], mode="[A,B]", return_logits=True, batch_size=1)
    ours = oracle.raw_logits(["hello {x}"], [["hi", "no"]], [[(0, 1)]])
    np.testing.assert_allclose(ours[0], np.asarray(theirs), atol=1e-5)
    assert "coversation" in CONVERSATION


@pytest.mark.parametrize("half", [False, True])
def test_both_layouts_and_both_file_formats_agree(tmp_path, oracle, half):
    if half:  # stored in half precision, computed in float32 on a CPU
        one = PairRM.from_pretrained(tiny_pairrm.ranker_layout(tmp_path / "a", half=True), device="cpu")
        two = PairRM.from_pretrained(tiny_pairrm.ranker_layout(tmp_path / "b", half=True, binary=True), device="cpu")
        assert {p.dtype for p in one.model.parameters()} == {torch.float32}
    else:
        one, two = oracle, PairRM.from_pretrained(tiny_pairrm.hf_layout(tmp_path / "hf"), device="cpu")
    pairs = [[(0, 1), (1, 0), (2, 3)]] * 4
    for a, b in zip(*(judge.raw_logits(PROMPTS, CANDIDATES, pairs) for judge in (one, two)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_base_folder_may_be_named_relative_to_the_checkpoint(folder, oracle, tmp_path):
    moved = tiny_pairrm.ranker_layout(tmp_path / "moved")
    settings = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**settings, "model_name": "base"}))
    (moved / "base" / "model.safetensors").unlink()  # the base's weights are never read
    again = PairRM.from_pretrained(str(moved), device="cpu")
    assert again.encode(PROMPTS[0], CANDIDATES[0]) == oracle.encode(PROMPTS[0], CANDIDATES[0])


def test_logits_are_the_mean_over_tasks(tmp_path):
    oracle = PairRM.from_pretrained(tiny_pairrm.ranker_layout(tmp_path, n_tasks=3), device="cpu")
    head = oracle.model.head_layer[4]
    head.weight.data[:], head.bias.data[:] = head.weight.data[:1].clone(), head.bias.data[:1].clone()
    three = oracle.raw_logits(["x"], [["a", "b"]], [[(0, 1)]])[0]
    head.weight.data, head.bias.data = head.weight.data[:1], head.bias.data[:1]
    one = oracle.raw_logits(["x"], [["a", "b"]], [[(0, 1)]])[0]
    np.testing.assert_allclose(three, one, rtol=1e-5)  # tasks that agree say what each says
    assert abs(one[0]) > 1e-3


def test_each_input_has_three_cls_and_three_sep_and_markers_where_said(oracle):
    tok = oracle.tokenizer
    for prompt, candidates in zip(PROMPTS, CANDIDATES, strict=True):
        ids, positions = oracle.row(oracle.encode(prompt, candidates)[0], (0, 3))
        assert ids.count(tok.cls_token_id) == ids.count(tok.sep_token_id) == 3
        assert [tok.convert_ids_to_tokens(ids[p]) for p in positions] == list(MARKERS[:3])
        assert len(ids) <= tiny_pairrm.SOURCE_MAXLENGTH + 2 * tiny_pairrm.CANDIDATE_MAXLENGTH


def control_ids(oracle):
    """The ids of markers and special tokens, without the one of what is unknown."""
    tok = oracle.tokenizer
    return {*tok.convert_tokens_to_ids(list(MARKERS)), *tok.all_special_ids} - {tok.unk_token_id}


@pytest.mark.parametrize(
    "token", [*MARKERS, "[SEP]", "[CLS]", "[PAD]", "[MASK]", "[UNK]", "<|cand<|source|>idate|>", "[SEP][SEP]"]
)
def test_control_tokens_in_a_text_are_text(oracle, token):
    texts = [f"one {token} two", token, f"three{token}{token} four"]
    (source, responses), _ = oracle.encode(texts[0], texts)
    assert source == [source[0], source[1], *responses[0][2:]]
    for text, ids in zip(texts, responses, strict=True):
        assert ids[0] == oracle.tokenizer.cls_token_id
        assert ids[-1] == oracle.tokenizer.sep_token_id
        assert control_ids(oracle).isdisjoint(ids[2:-1])
        pieces = oracle.tokenizer.convert_ids_to_tokens(ids[2:-1])
        known = [sign for sign in text.replace(" ", "\u2581") if sign in oracle.tokenizer.get_vocab()]
        assert [sign for piece in pieces if piece != "[UNK]" for sign in piece][-len(known) :] == known
    blank = oracle.encode(texts[0].replace(token, " "), ["five"])[0]
    assert blank.source != source


@pytest.mark.parametrize("text", ["one \uff3bSEP\uff3d two", "\uff1c|source|\uff1e", "<|candidate\uff11|> x"])
def test_a_token_that_the_normaliser_makes_is_text(folder, text):
    oracle = PairRM.from_pretrained(folder, device="cpu")
    content = json.loads(oracle.tokenizer.backend_tokenizer.to_str())
    for token in content["added_tokens"]:
        token["normalized"] = True
    content["normalizer"] = {"type": "NFKC"}
    oracle.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    assert not control_ids(oracle).isdisjoint(oracle.tokenizer(text)["input_ids"][1:-1])
    (source, responses), _ = oracle.encode(text, ["river", text])
    for ids in (source, responses[1]):
        assert control_ids(oracle).isdisjoint(ids[2:-1])
        assert len(ids) > 8


def test_a_text_beside_one_with_control_tokens_keeps_its_ids(oracle):
    for prompt, candidates in zip(PROMPTS, CANDIDATES, strict=True):
        (source, responses), cut = oracle.encode(prompt, candidates)
        beside, cut_beside = oracle.encode(prompt, [*candidates, "[SEP] <|candidate|>"])
        assert (beside.source, beside.responses[:-1], cut_beside) == (source, responses, cut)
        # a second route to the same ids: the tokenizer with other names
        control = control_tokens(oracle.tokenizer, MARKERS)
        tokenizer, names = control.renamed("".join([prompt, *candidates]))
        tokenizer.no_truncation()
        for text, ids in zip(candidates, responses, strict=True):
            assert tokenizer.encode(names["<|candidate|>"] + text).ids[: len(ids) - 1] == ids[:-1]


def test_a_long_text_with_control_tokens_is_truncated_where_others_are(oracle):
    text = "river [SEP] " * 60
    (source, responses), cut = oracle.encode(text, [text, "river"])
    assert cut == 2
    assert len(source) == tiny_pairrm.SOURCE_MAXLENGTH
    assert len(responses[0]) == tiny_pairrm.CANDIDATE_MAXLENGTH
    assert source[-1] == responses[0][-1] == oracle.tokenizer.sep_token_id
    assert control_ids(oracle).isdisjoint(source[2:-1])


def test_a_prompt_alone_equals_the_prompt_in_a_batch(folder, oracle):
    together = preference_matrices(oracle, PROMPTS, CANDIDATES)
    small = PairRM.from_pretrained(folder, device="cpu", token_budget=1)  # each pair in a forward of its own
    for n in range(len(PROMPTS)):
        for judge in (oracle, small):
            alone = preference_matrices(judge, PROMPTS[n : n + 1], CANDIDATES[n : n + 1])[0]
            np.testing.assert_allclose(alone.logits, together[n].logits, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(alone.P, together[n].P, atol=1e-6)


def test_truncation_is_reported(oracle):
    results = preference_matrices(oracle, PROMPTS, CANDIDATES)
    # the short prompts leave room for the long response to be longer, but not for all of it
    assert [result.meta["truncated"] for result in results] == [1, 0, 2, 1]


def test_against_opponents_equals_the_block_of_the_square_table(oracle):
    square = preference_matrices(oracle, PROMPTS, CANDIDATES)
    blocks = preference_matrices(oracle, PROMPTS, [c[:2] for c in CANDIDATES], [c[2:] for c in CANDIDATES])
    for whole, block in zip(square, blocks, strict=True):
        np.testing.assert_allclose(block.P, whole.P[:2, 2:], atol=1e-6)
        np.testing.assert_allclose(block.logits[0], whole.logits[:2, 2:], atol=1e-5)
        np.testing.assert_allclose(block.logits[1], whole.logits[2:, :2].T, atol=1e-5)


def test_what_is_not_a_pairrm_is_told_in_one_line(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        PairRM.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no folder"):
        PairRM.from_pretrained("./nowhere/at/all")
    with pytest.raises(OSError, match="hf download nobody/no-such-pairrm"):
        PairRM.from_pretrained("nobody/no-such-pairrm")
    LlamaConfig(architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path / "llama")
    with pytest.raises(ValueError, match=r"LlamaForCausalLM.*--policy and --oracle may be swapped"):
        PairRM.from_pretrained(tmp_path / "llama")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no config\.json"):
        PairRM.from_pretrained(tmp_path / "empty")
    with pytest.raises(ValueError, match="expected one of raw, conversation"):
        PairRM.from_pretrained(folder, prompt_format="sppo")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda state: state.pop("head_layer.4.bias"), r"missing: head_layer\.4\.bias"),
        (lambda state: state.update(stranger=torch.zeros(1)), "unexpected: stranger"),
        (lambda state: state.update({"head_layer.4.bias": torch.zeros(2)}), "of another shape: head_layer"),
        (lambda state: state.pop("pretrained_model.embeddings.word_embeddings.weight"), "not a PairRM's"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, edit, message):
    folder = tiny_pairrm.ranker_layout(tmp_path, binary=True)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    edit(state)
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message):
        PairRM.from_pretrained(folder, device="cpu")


def test_ids_of_the_markers_must_be_the_tokenizers(tmp_path):
    folder = tiny_pairrm.hf_layout(tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "cand1_prefix_id": 7}))
    with pytest.raises(ValueError, match=r"cand1_prefix_id 7 but its tokenizer gives <\|candidate1\|>"):
        PairRM.from_pretrained(folder, device="cpu")


def test_an_index_of_positions_in_an_old_checkpoint_is_ignored(tmp_path, oracle):
    folder = tiny_pairrm.ranker_layout(tmp_path, binary=True)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    state["pretrained_model.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(state, folder / "pytorch_model.bin")
    again = PairRM.from_pretrained(folder, device="cpu")
    one, two = (judge.raw_logits(["x"], [["a", "b"]], [[(0, 1)]])[0] for judge in (oracle, again))
    np.testing.assert_array_equal(one, two)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("published", ["llm-blender/PairRM", "llm-blender/PairRM-hf"])
def test_published_logits_of_the_real_model(published):
    oracle = PairRM.from_pretrained(published, device="cpu")
    cases = [("hello!", "hi!", "f**k off!", 1.9003), ("I love you!", "I hate you!", "I love you, too!", -1.2547)]
    for prompt, first, second, expected in cases:
        logit = oracle.raw_logits([prompt], [[first, second]], [[(0, 1)]])[0]
        np.testing.assert_allclose(logit, expected, atol=5e-3)
