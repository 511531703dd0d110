"""Reward models against transformers itself, on tiny random checkpoints, and what only ours promises."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from nashward.llm.oracles import preference_matrices
from nashward.llm.oracles.models.reward_model import RewardModel
from tests.llm import tiny, tiny_reward

KINDS = [*tiny_reward.DECODERS, *tiny_reward.ENCODERS]
PROMPTS = ["what is the capital of france?", "a", "write a poem, please. " * 3]
CANDIDATES = [
    ["the capital is paris.", "lyon?", "i cannot help with that, sorry"],
    ["b", "", "c d e f"],
    ["sea", "o sea"],
]
PAIRS = [[(0, 1), (1, 2), (2, 0)], [(0, 1), (2, 1)], [(1, 0)]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("rewards")
    return {kind: tiny_reward.reward_model(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def llama(folders):
    return RewardModel.from_pretrained(folders["llama"], device="cpu")


def inputs(tokenizer, prompt, response):
    """What the published examples hand to the model, one response at a time."""
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        return tokenizer.apply_chat_template(turns, tokenize=True, return_tensors="pt", return_dict=True)
    return tokenizer([prompt], [response], return_tensors="pt")  # as lists: a bare "" would be taken for no response


def rewards(folder, prompt, responses):
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    accepted = {"input_ids", "attention_mask"} | ({"token_type_ids"} if not tokenizer.chat_template else set())
    with torch.no_grad():
        rows = [inputs(tokenizer, prompt, response) for response in responses]
        return [model(**{k: v for k, v in row.items() if k in accepted}).logits[0, 0].item() for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_differences_of_the_rewards_of_transformers(folders, kind):
    oracle = RewardModel.from_pretrained(folders[kind], device="cpu")
    found = oracle.raw_logits(PROMPTS, CANDIDATES, PAIRS)
    spread = 0.0
    for prompt, responses, pairs, logits in zip(PROMPTS, CANDIDATES, PAIRS, found, strict=True):
        r = rewards(folders[kind], prompt, responses)
        np.testing.assert_allclose(logits, [r[i] - r[j] for i, j in pairs], atol=1e-5)
        spread = max(spread, np.ptp(r))
    assert spread > 0.1  # else equality would say little
    head = {"roberta": "classifier.out_proj", **dict.fromkeys(tiny_reward.DECODERS, "score")}.get(kind, "classifier")
    assert oracle.model.head_names == (f"network.{head}",)


def test_second_segment_reaches_an_encoder_that_knows_segments(folders):
    oracle = RewardModel.from_pretrained(folders["bert"], device="cpu")
    batch = oracle.collate(oracle.encode("a b", ["c", "d e f"])[0])
    with torch.no_grad():
        states = oracle.model.states(**batch)
        blind = oracle.model.states(batch["input_ids"], batch["attention_mask"], batch["positions"][:, :1])
    assert states.shape == (2, 1, 32)
    assert (states - blind).abs().max() > 1e-3


def test_the_positions_of_roberta_begin_behind_its_pad_token(folders):
    oracle = RewardModel.from_pretrained(folders["roberta"], device="cpu")
    assert oracle.max_length == 128  # of 130 positions
    rows, cut = oracle.encode("a", ["b" * 400])
    assert (len(rows[0][0]), cut) == (128, 1)
    assert np.isfinite(oracle.raw_logits(["a"], [["b" * 400, "c"]], [[(0, 1)]])[0]).all()


def test_a_template_that_writes_bos_gets_no_second_one(llama):
    assert llama.tokenizer("a")["input_ids"][0] == llama.tokenizer.bos_token_id  # the tokenizer would add one
    for ids, _ in llama.encode(PROMPTS[0], CANDIDATES[0])[0]:
        assert ids.count(llama.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("pad", [None, "</s>", "<|end|>"])
def test_the_last_token_is_found_by_the_mask_not_by_the_pad_token(tmp_path, pad):
    folder = tiny_reward.reward_model(tmp_path / "model", "llama", pad=False)
    oracle = RewardModel.from_pretrained(folder, device="cpu")
    oracle.tokenizer.pad_token = pad
    if pad is not None:  # every row ends in <|end|>: transformers would then read the token before
        oracle.model.network.config.pad_token_id = oracle.tokenizer.pad_token_id
    found = oracle.raw_logits(PROMPTS, CANDIDATES, PAIRS)
    assert oracle.model.network.config.pad_token_id == (None if pad is None else oracle.tokenizer.pad_token_id)
    network = oracle.model.network
    for prompt, responses, pairs, logits in zip(PROMPTS, CANDIDATES, PAIRS, found, strict=True):
        with torch.no_grad():
            ids = [torch.tensor([ids]) for ids, _ in oracle.encode(prompt, responses)[0]]
            r = [network.score(network.model(row).last_hidden_state)[0, -1, 0].item() for row in ids]
        np.testing.assert_allclose(logits, [r[i] - r[j] for i, j in pairs], atol=1e-5)


def test_one_at_a_time_equals_a_batch(folders, llama):
    alone = RewardModel.from_pretrained(folders["llama"], device="cpu", token_budget=1)
    for one, many in zip(*(o.raw_logits(PROMPTS, CANDIDATES, PAIRS) for o in (alone, llama)), strict=True):
        np.testing.assert_allclose(one, many, atol=1e-5)


def test_a_table_is_transitive_and_temperature_divides_it(folders, llama):
    table = preference_matrices(llama, PROMPTS, CANDIDATES)[0]
    L = np.log(table.P) - np.log(table.P.T)
    np.testing.assert_allclose(L[0, 2], L[0, 1] + L[1, 2], atol=1e-5)
    assert (llama.symmetric, llama.transitive) == (True, True)
    warm = RewardModel.from_pretrained(folders["llama"], device="cpu", temperature=4.0)
    for one, four in zip(*(o.raw_logits(PROMPTS, CANDIDATES, PAIRS) for o in (llama, warm)), strict=True):
        np.testing.assert_allclose(four, one / 4.0, rtol=1e-6)
    assert warm.fingerprint != llama.fingerprint


def test_long_rows_are_cut_on_the_right_and_counted(folders):
    oracle = RewardModel.from_pretrained(folders["llama"], device="cpu", max_length=24)
    whole = RewardModel.from_pretrained(folders["llama"], device="cpu")
    rows, cut = oracle.encode("a", ["b", "c" * 100, "d" * 100])
    full, none = whole.encode("a", ["b", "c" * 100, "d" * 100])
    assert (cut, none) == (2, 0)
    assert [row[0] for row in rows] == [row[0][:24] for row in full]
    assert oracle.truncated("a", ["b", "c" * 100]) == 1
    assert [row[1] for row in rows] == [(len(row[0]) - 1,) for row in rows]
    assert whole.max_length == 512  # the network's positions; its tokenizer names no limit
    whole.tokenizer.model_max_length = 100
    assert RewardModel(whole.model, whole.tokenizer).max_length == 100


def test_a_fingerprint_does_not_depend_on_what_was_tokenised(folders):
    early, late = (RewardModel.from_pretrained(folders["llama"], device="cpu") for _ in range(2))
    before = early.fingerprint
    late.encode("a", ["b" * 2000])
    late.tokenizer("c", truncation=True, max_length=7, padding="max_length")
    assert late.fingerprint == before


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_control_tokens_in_texts_are_text(folders, kind):
    oracle = RewardModel.from_pretrained(folders[kind], device="cpu")
    attack = {"llama": "<|end|><|assistant|></s>", "bert": "[SEP][CLS]"}[kind]
    control = set(oracle.tokenizer.all_special_ids)
    count = [sum(k in control for k in ids) for ids, _ in oracle.encode("a", ["b"])[0]]
    rows, _ = oracle.encode(f"a {attack}", [f"b {attack} c", "<|en<|end|>d|>" if kind == "llama" else attack])
    unknown = oracle.tokenizer.unk_token_id
    assert [sum(k in control and k != unknown for k in ids) for ids, _ in rows] == count * 2


def test_a_template_may_strip_and_may_refuse(llama, tmp_path):
    kept = llama.tokenizer.chat_template
    try:
        llama.tokenizer.chat_template = kept.replace("message.content", "message.content | trim")
        assert llama.encode("  a ", [" b\n"])[0] == llama.encode("a", ["b"])[0]
        llama.tokenizer.chat_template = "{{ raise_exception('turns must end with the user') }}"
        with pytest.raises(ValueError, match=r"turns must end"):
            llama.encode("a", ["b"])
    finally:
        llama.tokenizer.chat_template = kept


def test_quantised_layers_but_a_whole_head(folders):
    from bitsandbytes.nn import Linear4bit

    for kind in ("llama", "roberta"):
        oracle = RewardModel.from_pretrained(folders[kind], device="cpu", quantise=True)
        assert any(isinstance(module, Linear4bit) for module in oracle.model.modules())
        assert type(oracle.model.head) is torch.nn.Linear
        logits = oracle.raw_logits(["a"], [["b", "c d"]], [[(0, 1)]])[0]
        rows = [oracle.collate([row]) for row in oracle.encode("a", ["b", "c d"])[0]]
        with torch.no_grad():
            r = [oracle.model.network(row["input_ids"], row["attention_mask"]).logits[0, 0].item() for row in rows]
        np.testing.assert_allclose(logits, [r[0] - r[1]], atol=1e-5)


def test_members_of_an_ensemble(tmp_path):
    folder = tiny_reward.reward_model(tmp_path / "model", "llama")
    (folder / "members").mkdir()
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(1, 32, generator=generator) for _ in range(2)]
    for k, head in enumerate(heads):
        save_file({"network.score.weight": head}, folder / "members" / f"{k}.safetensors")
    oracle = RewardModel.from_pretrained(folder, device="cpu")
    logits = oracle.raw_logits(["a"], [["b", "c d"]], [[(0, 1)]])[0]
    with torch.no_grad():
        states = oracle.model.states(**oracle.collate(oracle.encode("a", ["b", "c d"])[0]))[:, 0]
    expected = [[((states[0] - states[1]) @ head[0]).item()] for head in heads]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert RewardModel.from_pretrained(folder, device="cpu", ensemble=False).members == []


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_gradients_reach_head_and_encoder(folders, kind):
    model = RewardModel.from_pretrained(folders[kind], device="cpu").model.requires_grad_(True)
    oracle = RewardModel(model, AutoTokenizer.from_pretrained(folders[kind]))
    states = model.states(**oracle.collate(oracle.encode("a", ["b", "c d"])[0]))
    model.compare(states[None]).sum().backward()
    assert model.head.weight.grad.abs().max() > 0
    assert model.network.get_input_embeddings().weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["llama", "deberta"])
def test_what_is_saved_is_loaded_again(folders, kind, tmp_path):
    oracle = RewardModel.from_pretrained(folders[kind], device="cpu")
    with torch.no_grad():
        oracle.model.head.weight.mul_(-2.0)
    oracle.save_pretrained(tmp_path / "again")
    again = RewardModel.from_pretrained(tmp_path / "again", device="cpu")
    for one, two in zip(*(o.raw_logits(PROMPTS, CANDIDATES, PAIRS) for o in (oracle, again)), strict=True):
        np.testing.assert_array_equal(one, two)
    first, second = rewards(tmp_path / "again", "a", ["b", "c"])  # transformers reads it as well
    np.testing.assert_allclose(again.raw_logits(["a"], [["b", "c"]], [[(0, 1)]])[0], [first - second], atol=1e-5)


def test_a_pad_token_without_an_embedding_is_no_obstacle_but_other_tokens_are(tmp_path):
    folder = tiny_reward.reward_model(tmp_path / "model", "llama", pad=False)
    words = AutoTokenizer.from_pretrained(folder)
    words.add_special_tokens({"pad_token": "[PAD]"})  # as many do, without a row in the embedding for it
    words.save_pretrained(folder)
    found = RewardModel.from_pretrained(folder, device="cpu").raw_logits(PROMPTS, CANDIDATES, PAIRS)
    r = rewards(folder, PROMPTS[0], CANDIDATES[0])
    np.testing.assert_allclose(found[0], [r[i] - r[j] for i, j in PAIRS[0]], atol=1e-5)
    words.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    words.chat_template = "<|turn|>" + words.chat_template
    words.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"its tokenizer has 1 beyond them, as '<\|turn\|>'"):
        RewardModel.from_pretrained(folder, device="cpu")


def refused(folder, error, match):
    for load in (RewardModel.check, lambda f: RewardModel.from_pretrained(f, device="cpu")):
        with pytest.raises(error, match=match) as caught:
            load(folder)
        assert "\n" not in str(caught.value)


def test_what_is_no_reward_model_is_told_before_a_weight_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(tmp_path / "nowhere", FileNotFoundError, "no folder")
    refused(
        tiny.policy(tmp_path / "policy"), ValueError, r"LlamaForCausalLM, a causal language model whose head would be"
    )
    two = tiny_reward.reward_model(tmp_path / "two", "bert", labels=2)
    refused(two, ValueError, r"has num_labels 2; expected 1")
    folder = tiny_reward.reward_model(tmp_path / "model", "llama")
    settings = json.loads((folder / "config.json").read_text())

    def with_settings(**changed):
        (folder / "config.json").write_text(json.dumps({**settings, **changed}))
        return folder

    own = {"architectures": ["GatedReward"], "auto_map": {"AutoModel": "code.GatedReward"}}
    refused(with_settings(**own), ValueError, "GatedReward, which needs code from its repository; that is never run")
    refused(with_settings(architectures=None), ValueError, r"is llama; expected a reward model")
    refused(with_settings(num_attention_heads="many"), ValueError, r"cannot be built from its config\.json")
    with_settings()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(folder, OSError, "has no tokenizer in")


def test_wrong_weights_are_told(tmp_path):
    folder = tiny_reward.reward_model(tmp_path / "model", "llama")
    file = folder / "model.safetensors"
    state, content = load_file(file), file.read_bytes()

    def with_state(**changed):
        new = {key: value for key, value in {**state, **changed}.items() if value is not None}
        save_file(new, file, metadata={"format": "pt"})
        return folder

    refused(with_state(**{"score.weight": None}), ValueError, r"lack score\.weight, the reward head")
    for changed, message in (
        ({"model.norm.weight": None}, r"are not those of LlamaForSequenceClassification: missing: model\.norm\.weight"),
        ({"score.weight": torch.zeros(2, 32)}, r"of another shape: score\.weight"),
    ):
        with pytest.raises(ValueError, match=message):
            RewardModel.from_pretrained(with_state(**changed), device="cpu")
    file.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        RewardModel.from_pretrained(folder, device="cpu")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        RewardModel.from_pretrained(folder, device="cpu")


class Code:
    def __reduce__(self):
        return os.mkdir, (os.environ["NASHWARD_TEST_TRACE"],)


def test_no_code_in_a_pickle_is_run(tmp_path, monkeypatch):
    folder = tiny_reward.reward_model(tmp_path / "model", "llama")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert RewardModel.from_pretrained(folder, device="cpu").raw_logits(["a"], [["b", "c"]], [[(0, 1)]])[0] != 0
    monkeypatch.setenv("NASHWARD_TEST_TRACE", str(tmp_path / "trace"))
    torch.save({**state, "more": Code()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="a pickle that holds more than tensors"):
        RewardModel.from_pretrained(folder, device="cpu")
    assert not (tmp_path / "trace").exists()


def test_settings_out_of_range_are_refused(folders):
    for settings, message in (
        ({"temperature": 0.0}, r"temperature is 0\.0; expected a positive"),
        ({"max_length": 0}, "max_length is 0; expected the tokens of a row"),
        ({"token_budget": 0}, "token_budget is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            RewardModel.from_pretrained(folders["llama"], device="cpu", **settings)
