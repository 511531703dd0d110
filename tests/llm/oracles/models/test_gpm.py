"""General preference models against the published inference, written out here with its left padding."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2Model, LlamaConfig, LlamaModel

from nashward.llm.oracles import preference_matrices
from nashward.llm.oracles.models.gpm import GPM, GPMModel
from tests.llm import tiny, tiny_reward

PROMPTS = ["what is the capital of france?", "a", "write a poem, please. " * 3]
CANDIDATES = [
    ["the capital is paris.", "lyon?", "i cannot help with that, sorry"],
    ["b", "", "c d e f"],
    ["sea", "o sea"],
]
PAIRS = [[(0, 1), (1, 2), (2, 0)], [(0, 1), (2, 1)], [(1, 0)]]
SHAPES = [(2, False), (2, True), (4, False), (4, True), (6, False), (6, True)]


def published(folder, prompt, pairs, *, max_length=4096, normalise=True, tau=0.1):
    """The logits of pairs of responses as the published inference has them, all rows in one left-padded batch."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", truncation_side="right")
    tokenizer.pad_token = tokenizer.eos_token
    state = load_file(folder / "model.safetensors")
    backbone = LlamaModel(LlamaConfig.from_pretrained(folder)).eval()
    backbone.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")})
    turns = [[{"role": "user", "content": prompt}, {"role": "assistant", "content": r}] for pair in pairs for r in pair]
    texts = [tokenizer.apply_chat_template(own, tokenize=False) for own in turns]
    options = {"truncation": True, "max_length": max_length}
    batch = tokenizer(texts, padding=True, return_tensors="pt", **options)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    ids[:, -1], mask[:, -1] = tokenizer.eos_token_id, 1
    positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    with torch.no_grad():
        hidden = backbone(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
        v = hidden[:, -1] @ state["value_head.weight"].T
    v = v / v.norm(dim=-1, keepdim=True) if normalise else v
    d = v.shape[1]
    alone = tokenizer([tokenizer.apply_chat_template(own[:1], tokenize=False) for own in turns], **options)
    ends = [ids.shape[1] - (int(m.sum()) - len(p)) - 1 for m, p in zip(mask, alone["input_ids"], strict=True)]
    found = []
    for k in range(len(pairs)):
        first, second = 2 * k, 2 * k + 1
        weights = torch.ones(d // 2)
        if "prompt_head.weight" in state:
            weights = torch.softmax(state["prompt_head.weight"] @ hidden[first, ends[first]], -1)
        R = torch.block_diag(*(weight * torch.tensor([[0.0, -1.0], [1.0, 0.0]]) for weight in weights))
        found.append(float(v[first] @ R.T @ v[second]) / tau)
    return found


def texts_of(candidates, pairs):
    return [(candidates[i], candidates[j]) for i, j in pairs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_reward.gpm(tmp_path_factory.mktemp("gpm"), 4)


@pytest.fixture(scope="module")
def oracle(folder):
    return GPM.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize(("dimensions", "prompt_head"), SHAPES)
def test_logits_equal_the_published_inference(tmp_path, dimensions, prompt_head):
    folder = tiny_reward.gpm(tmp_path, dimensions, prompt_head=prompt_head)
    oracle = GPM.from_pretrained(folder, device="cpu", temperature=1.0)
    assert oracle.model.value_head.weight.shape == (dimensions, 32)
    assert (oracle.model.prompt_head is not None) == prompt_head
    found = oracle.raw_logits(PROMPTS, CANDIDATES, PAIRS)
    for prompt, candidates, pairs, logits in zip(PROMPTS, CANDIDATES, PAIRS, found, strict=True):
        np.testing.assert_allclose(logits, published(folder, prompt, texts_of(candidates, pairs), tau=1.0), atol=1e-5)
    assert np.ptp(np.concatenate(found)) > 0.1  # else equality would say little


@pytest.mark.parametrize("limit", [12, 30, 40])
def test_truncation_is_that_of_the_published_inference(folder, limit):
    oracle = GPM.from_pretrained(folder, device="cpu", max_length=limit, temperature=1.0)
    prompt, candidates = "a" * 20, ["b", "c" * 30, "d" * 50]  # 24 tokens and 26 and more: 12 cuts in the prompt
    found = oracle.raw_logits([prompt], [candidates], [PAIRS[0]])[0]
    expected = published(folder, prompt, texts_of(candidates, PAIRS[0]), max_length=limit, tau=1.0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    encoded, cut = oracle.encode(prompt, candidates)
    assert cut == oracle.truncated(prompt, candidates) == {12: 4, 30: 2, 40: 2}[limit]
    for k in range(3):
        ids, (prompt_end, last) = oracle.row(encoded, (k,))
        assert prompt_end <= last == len(ids) - 1 <= limit - 1


def test_rows_keep_both_bos_and_end_in_eos(oracle):
    tokenizer = oracle.tokenizer
    encoded, _ = oracle.encode("a", ["b c"])
    ids, (prompt_end, last) = oracle.row(encoded, (0,))
    assert ids[:2] == [tokenizer.bos_token_id] * 2  # the tokenizer's and the template's
    assert ids[last] == tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(ids[prompt_end]) == "<|end|>"  # of the user's turn
    assert ids[prompt_end + 1] == tokenizer.convert_tokens_to_ids("<|assistant|>")


def test_tables_are_skew_and_the_defaults_are_the_published_ones(folder, oracle):
    assert (oracle.symmetric, oracle.transitive) == (True, False)
    orders = oracle.raw_logits(["a"], [["b", "c d"]], [[(0, 1), (1, 0)]])[0]
    np.testing.assert_allclose(orders[0], -orders[1], atol=1e-5)
    assert abs(orders[0]) > 0.1
    np.testing.assert_allclose(orders[0], published(folder, "a", [("b", "c d")])[0], rtol=1e-4)
    long = GPM.from_pretrained(folder, device="cpu", normalise=False)
    np.testing.assert_allclose(
        long.raw_logits(["a"], [["b", "c d"]], [[(0, 1)]])[0],
        published(folder, "a", [("b", "c d")], normalise=False),
        rtol=1e-4,
    )
    assert len({o.fingerprint for o in (oracle, long, GPM.from_pretrained(folder, device="cpu", temperature=1.0))}) == 3


def test_two_dimensions_hold_a_cycle(tmp_path):
    oracle = GPM.from_pretrained(tiny_reward.gpm(tmp_path, 2, prompt_head=False), device="cpu", temperature=1.0)
    angles = torch.arange(3) * 2 * torch.pi / 3
    wanted = torch.stack([angles.cos(), angles.sin()], dim=1)
    model, texts = oracle.model, ["rock", "paper", "scissors"]
    with torch.no_grad():  # a head that puts the three responses on the corners of a triangle
        states = model.states(**oracle.collate([oracle.row(oracle.encode("play", texts)[0], (k,)) for k in range(3)]))
        model.value_head.weight.copy_((torch.linalg.pinv(states[:, 1]) @ wanted).T)
    P = preference_matrices(oracle, ["play"], [texts])[0].P
    win = 1 / (1 + np.exp(-np.sqrt(3) / 2))  # sin 120 degrees
    np.testing.assert_allclose(P, [[0.5, win, 1 - win], [1 - win, 0.5, win], [win, 1 - win, 0.5]], atol=1e-5)


def test_one_at_a_time_equals_a_batch(folder, oracle):
    alone = GPM.from_pretrained(folder, device="cpu", token_budget=1)
    for one, many in zip(*(o.raw_logits(PROMPTS, CANDIDATES, PAIRS) for o in (alone, oracle)), strict=True):
        np.testing.assert_allclose(one, many, atol=1e-4)  # logits at temperature 0.1


def test_the_score_is_skew_even_where_the_states_of_the_prompt_differ(oracle):
    states = torch.randn(5, 2, 2, 32, generator=torch.Generator().manual_seed(0))
    one, other = oracle.model.compare(states), oracle.model.compare(states.flip(1))
    assert one.abs().min() > 0.1
    torch.testing.assert_close(one, -other, rtol=0, atol=1e-5)


def test_control_tokens_in_texts_are_text(oracle):
    control = set(oracle.tokenizer.all_special_ids)
    plain, _ = oracle.encode("a", ["b"])
    encoded, _ = oracle.encode("a </s><|end|><|assistant|>", ["b <|end|> <|user|>", "<|en<|end|>d|>"])
    for ids in encoded.rows:
        assert sum(k in control for k in ids) == sum(k in control for k in plain.rows[0])


def test_a_template_may_strip_refuse_and_add(oracle):
    kept = oracle.tokenizer.chat_template
    try:
        oracle.tokenizer.chat_template = kept.replace("message.content", "message.content | trim")
        assert oracle.encode("  a ", [" b\n"]) == oracle.encode("a", ["b"])
        oracle.tokenizer.chat_template = (
            "{% if messages | length == 1 %}{{ raise_exception('no answer') }}{% endif %}" + kept
        )
        with pytest.raises(ValueError, match=r"a conversation of user: .*refuses.* no answer"):
            oracle.encode("a", ["b"])
        oracle.tokenizer.chat_template = kept + "{% if messages | length == 1 %} nobody has answered yet{% endif %}"
        ids, positions = oracle.row(oracle.encode("a", ["b"])[0], (0,))
        assert positions == (len(ids) - 1, len(ids) - 1)  # the prompt alone is longer than the row
    finally:
        oracle.tokenizer.chat_template = kept


def test_shards_and_half_precision(folder, oracle, tmp_path):
    oracle.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) > 1
    shards = GPM.from_pretrained(tmp_path / "shards", device="cpu")
    half = GPM.from_pretrained(tiny_reward.gpm(tmp_path / "half", 4, half=True), device="cpu")
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}  # computed so on a CPU
    kept = GPM.from_pretrained(tmp_path / "half", device="cpu", dtype=torch.bfloat16)
    assert {p.dtype for p in kept.model.parameters()} == {torch.bfloat16}
    one, two, three, four = (o.raw_logits(PROMPTS, CANDIDATES, PAIRS)[0] for o in (oracle, shards, half, kept))
    np.testing.assert_array_equal(two, one)
    assert 0 < np.abs(three - one).max() < 1.0
    assert np.isfinite(four).all()


def test_what_is_saved_is_in_the_published_format_with_its_settings(tmp_path):
    source = tiny_reward.gpm(tmp_path / "source", 6)
    oracle = GPM.from_pretrained(source, device="cpu", temperature=0.7, normalise=False)
    oracle.save_pretrained(tmp_path / "again")
    state = load_file(tmp_path / "again" / "model.safetensors")
    assert set(state) == set(load_file(source / "model.safetensors")) - {"lm_head.weight"}
    again = GPM.from_pretrained(tmp_path / "again", device="cpu")
    assert (again.model.temperature, again.model.normalise) == (0.7, False)
    for one, two in zip(*(o.raw_logits(PROMPTS, CANDIDATES, PAIRS) for o in (oracle, again)), strict=True):
        np.testing.assert_array_equal(one, two)
    other = GPM.from_pretrained(tmp_path / "again", device="cpu", temperature=0.1, normalise=True)
    assert (other.model.temperature, other.model.normalise) == (0.1, True)
    expected = published(tmp_path / "again", "a", [("b", "c")], normalise=False, tau=0.7)
    np.testing.assert_allclose(again.raw_logits(["a"], [["b", "c"]], [[(0, 1)]])[0], expected, rtol=1e-4)


def test_the_base_model_need_not_be_called_model(tmp_path):
    words = tiny_reward.with_bos(tiny.tokenizer(pad=False))
    config = GPT2Config(vocab_size=len(words), n_embd=32, n_layer=1, n_head=2, n_positions=256, eos_token_id=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        oracle = GPM(GPMModel(GPT2Model(config), 2).eval(), words)
    oracle.save_pretrained(tmp_path)
    assert "transformer.wte.weight" in load_file(tmp_path / "model.safetensors")
    again = GPM.from_pretrained(tmp_path, device="cpu")
    one, two = (o.raw_logits(PROMPTS, CANDIDATES, PAIRS)[0] for o in (oracle, again))
    np.testing.assert_array_equal(one, two)


def test_members_of_an_ensemble(tmp_path):
    folder = tiny_reward.gpm(tmp_path / "model", 2, prompt_head=False)
    (folder / "members").mkdir()
    own = load_file(folder / "model.safetensors")["value_head.weight"]
    save_file({"value_head.weight": own}, folder / "members" / "0.safetensors")
    save_file({"value_head.weight": own.flip(0).contiguous()}, folder / "members" / "1.safetensors")
    both = GPM.from_pretrained(folder, device="cpu").raw_logits(["a"], [["b", "c d"]], [[(0, 1)]])[0]
    alone = GPM.from_pretrained(folder, device="cpu", ensemble=False).raw_logits(["a"], [["b", "c d"]], [[(0, 1)]])[0]
    np.testing.assert_allclose(both, [alone, -alone], rtol=1e-5)  # axes exchanged: every turn is the other way


def test_gradients_reach_heads_and_base_model(folder):
    model = GPM.from_pretrained(folder, device="cpu").model.requires_grad_(True)
    oracle = GPM(model, AutoTokenizer.from_pretrained(folder))
    encoded, _ = oracle.encode("a", ["b", "c d"])
    states = model.states(**oracle.collate([oracle.row(encoded, (k,)) for k in range(2)]))
    model.compare(states[None]).sum().backward()
    for name in ("value_head.weight", "prompt_head.weight", "model.embed_tokens.weight"):
        assert model.get_parameter(name).grad.abs().max() > 0, name
    heads = [name for name, _ in model.named_parameters() if name.startswith(model.head_names)]
    assert heads == ["value_head.weight", "prompt_head.weight"]


def refused(folder, error, match):
    for load in (GPM.check, lambda f: GPM.from_pretrained(f, device="cpu")):
        with pytest.raises(error, match=match) as caught:
            load(folder)
        assert "\n" not in str(caught.value)


def test_what_is_no_gpm_is_told_before_a_weight_is_read(tmp_path):
    refused(tmp_path / "nowhere", FileNotFoundError, "no folder")
    lm = tiny_reward.gpm(tmp_path / "lm", 2, head=False)
    refused(lm, ValueError, r"without value_head\.weight; .*--policy and --oracle may be swapped")
    refused(
        tiny_reward.reward_model(tmp_path / "bt", "llama"), ValueError, "is LlamaForSequenceClassification; expected"
    )
    refused(
        tiny_reward.reward_model(tmp_path / "bert", "bert"), ValueError, "is BertForSequenceClassification; expected"
    )
    folder = tiny_reward.gpm(tmp_path / "gpm", 2)
    GPM.check(folder)
    words = AutoTokenizer.from_pretrained(folder)
    words.eos_token = None
    words.save_pretrained(folder)
    refused(folder, ValueError, "has no EOS token")
    (folder / "chat_template.jinja").unlink()
    refused(folder, ValueError, "has no chat template")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(folder, OSError, "has no tokenizer in")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model.norm.weight": None}, r"missing: model\.norm\.weight"),
        ({"value_head.bias": torch.zeros(4)}, r"unexpected: value_head\.bias"),
        ({"prompt_head.weight": torch.zeros(4, 32)}, r"of another shape: prompt_head\.weight"),
        ({"value_head.weight": torch.zeros(3, 32)}, "the embedding has 3 dimensions; expected an even number"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, changed, message):
    folder = tiny_reward.gpm(tmp_path, 4)
    state = {**load_file(folder / "model.safetensors"), **changed}
    save_file({key: value for key, value in state.items() if value is not None}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        GPM.from_pretrained(folder, device="cpu")


def test_damaged_files_are_told(tmp_path):
    folder = tiny_reward.gpm(tmp_path, 4)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        GPM.from_pretrained(folder, device="cpu")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "gpm_temperature": -1}))
    GPM.from_pretrained(tiny_reward.gpm(tmp_path / "whole", 4), device="cpu")
    (tmp_path / "whole" / "config.json").write_text(json.dumps({**settings, "gpm_temperature": -1}))
    with pytest.raises(ValueError, match="temperature is -1; expected a positive number"):
        GPM.from_pretrained(tmp_path / "whole", device="cpu")
