"""Parity with the llm-blender package and with the official pipeline of SPPO, on tiny random checkpoints."""

import json
import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from nashward.llm.oracles import PairRM, preference_matrices
from nashward.llm.oracles.models.llm_blender import LLMBlenderOracle, import_llm_blender
from nashward.llm.oracles.models.pairrm import MARKERS
from tests.llm import tiny_pairrm

from ..test_oracles import Letters
from .test_pairrm import CANDIDATES, HARD, LONG, PROMPTS

CASES = [*zip(PROMPTS, CANDIDATES, strict=True), *HARD]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pairrm.ranker_layout(tmp_path_factory.mktemp("ranker"))


@pytest.fixture(scope="module")
def ours(folder):
    return PairRM.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def theirs(folder):
    return LLMBlenderOracle.from_pretrained(folder)


def ordered_pairs(candidates):
    return [(i, j) for i in range(len(candidates)) for j in range(len(candidates)) if i != j]


def logits_of(oracle, prompt, candidates):
    return oracle.raw_logits([prompt], [candidates], [ordered_pairs(candidates)])[0]


def rank(theirs, prompt, candidates, **settings):
    return theirs.blender.rank([prompt], [candidates], batch_size=1, disable_tqdm=True, **settings)[0]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_cases_are_hard(ours):
    assert {len(candidates) for _, candidates in CASES} == {2, 3, 4, 5}
    assert sum(ours.truncated(prompt, candidates) for prompt, candidates in CASES) >= 5
    assert any(len(set(candidates)) < len(candidates) for _, candidates in CASES)
    assert any("" in candidates for _, candidates in CASES)


@pytest.mark.parametrize(("prompt", "candidates"), CASES)
def test_raw_logits_scores_and_ranks_are_llm_blenders(ours, theirs, prompt, candidates):
    raw = logits_of(ours, prompt, candidates)
    np.testing.assert_allclose(raw, logits_of(theirs, prompt, candidates), rtol=0, atol=1e-5)
    K = len(candidates)
    L = np.zeros((K, K))
    L[tuple(np.array(ordered_pairs(candidates)).T)] = raw
    np.testing.assert_allclose(
        (L - L.T).mean(axis=1), rank(theirs, prompt, candidates, return_scores=True), rtol=0, atol=1e-5
    )
    (result,) = preference_matrices(ours, [prompt], [candidates])
    score = (result.logits - result.logits.T).mean(axis=1)
    # equal scores share a rank; texts of the same tokens may differ by rounding, as they lie elsewhere in a batch
    ranks = 1 + (score[:, None] < score - 1e-6).sum(axis=1)
    np.testing.assert_array_equal(ranks, rank(theirs, prompt, candidates))
    same = len({text.strip() for text in candidates}) == 1
    assert (np.ptp(raw) < 1e-5) if same else (np.ptp(raw) > 0.1)  # else equality would say little


def test_both_oracles_cut_the_same_texts(ours, theirs):
    for prompt, candidates in CASES:
        assert ours.truncated(prompt, candidates) == theirs.truncated(prompt, candidates)


@pytest.mark.parametrize("name", ["ours", "theirs"])
@pytest.mark.parametrize(("prompt", "candidates"), CASES)
def test_sppo_official_is_what_the_official_pipeline_computes(request, theirs, name, prompt, candidates):
    score = rank(theirs, prompt, candidates, return_scores=True)
    prb = [[sigmoid(float(a) - float(b)) for b in score] for a in score]
    oracle = request.getfixturevalue(name)
    (result,) = preference_matrices(oracle, [prompt], [candidates], aggregation="sppo-official")
    np.testing.assert_allclose(result.P, prb, rtol=0, atol=1e-6)


def test_the_official_pipeline_erases_a_cycle():
    planted = np.zeros((6, 6))
    planted[[0, 1, 2], [1, 2, 0]] = 4.0
    planted -= planted.T
    import_llm_blender()
    from llm_blender.gpt_eval.utils import get_scores_from_cmps

    (score,) = get_scores_from_cmps(planted[None, :3, :3])
    np.testing.assert_array_equal(score, 0.0)
    oracle = Letters(planted + 0.7)  # a bias of the order shown, which the average removes
    (raw,) = preference_matrices(oracle, ["p"], [["a", "b", "c"]])
    (official,) = preference_matrices(oracle, ["p"], [["a", "b", "c"]], aggregation="sppo-official")
    np.testing.assert_allclose(official.P, 0.5, rtol=0, atol=1e-12)
    np.testing.assert_allclose(raw.P[[0, 1, 2], [1, 2, 0]], 0.98201379, atol=1e-8)
    np.testing.assert_allclose(raw.P[[1, 2, 0], [0, 1, 2]], 0.01798621, atol=1e-8)
    assert raw.meta["curl"] == official.meta["curl"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "layout",
    [
        "relative base",
        "binary",
        "half",
        "three tasks",
        "hf",
        pytest.param("hf without lengths", marks=pytest.mark.slow),
    ],
)
def test_every_layout_is_judged_alike(tmp_path, monkeypatch, layout):
    if layout.startswith("hf"):
        folder = tiny_pairrm.hf_layout(tmp_path)
    else:
        kinds: dict[str, Any] = {"binary": {"binary": True}, "half": {"half": True}, "three tasks": {"n_tasks": 3}}
        folder = tiny_pairrm.ranker_layout(tmp_path, **kinds.get(layout, {}))
    settings = json.loads((folder / "config.json").read_text())
    if layout == "relative base":
        settings["model_name"] = "base"
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
    if layout == "hf without lengths":
        del settings["source_maxlength"], settings["candidate_maxlength"]
    (folder / "config.json").write_text(json.dumps(settings))
    theirs, ours = LLMBlenderOracle.from_pretrained(folder), PairRM.from_pretrained(folder, device="cpu")
    for prompt, candidates in HARD:
        found = logits_of(ours, prompt, candidates)
        np.testing.assert_allclose(logits_of(theirs, prompt, candidates), found, rtol=0, atol=1e-5)
        assert ours.truncated(prompt, candidates) == theirs.truncated(prompt, candidates)


@pytest.mark.parametrize("token", [*MARKERS, "[CLS]", "[SEP]", "[UNK]"])
def test_a_control_token_in_a_text_stops_or_sways_llm_blender_but_not_the_oracle(ours, theirs, token):
    dirty = (f"one {token} two", [f"{token} three", "four", f"five {token}" * 20])
    try:
        score = rank(theirs, *dirty, return_scores=True)
    except (RuntimeError, IndexError):
        assert token in MARKERS
    else:  # a blank, or the token itself
        L = np.zeros((3, 3))
        L[tuple(np.array(ordered_pairs(dirty[1])).T)] = logits_of(theirs, *dirty)
        assert np.abs((L - L.T).mean(axis=1) - score).max() > 1e-3
    np.testing.assert_allclose(logits_of(theirs, *dirty), logits_of(ours, *dirty), rtol=0, atol=1e-5)
    assert ours.truncated(*dirty) == theirs.truncated(*dirty) == 1
    blank = (dirty[0].replace(token, " "), [text.replace(token, " ") for text in dirty[1]])
    assert np.abs(logits_of(theirs, *dirty) - logits_of(theirs, *blank)).max() > 1e-3


def test_only_what_is_asked_is_answered(theirs):
    pairs = [[(2, 0)], [], [(0, 1), (1, 0)]]
    answers = theirs.raw_logits(PROMPTS[:3], CANDIDATES[:3], pairs)
    assert [len(answer) for answer in answers] == [1, 0, 2]
    assert answers[0][0] == logits_of(theirs, PROMPTS[0], CANDIDATES[0])[ordered_pairs(CANDIDATES[0]).index((2, 0))]
    assert not theirs.symmetric
    assert not theirs.transitive


def test_its_judgements_are_cached_under_what_they_depend_on(tmp_path, theirs):
    first, again = (
        preference_matrices(theirs, ["x"], [["a", LONG]], cache=tmp_path / "judgements.sqlite")[0] for _ in range(2)
    )
    assert (first.meta["calls"], again.meta["calls"], again.meta["cached"]) == (2, 0, 2)
    np.testing.assert_array_equal(first.logits, again.logits)
    other = tiny_pairrm.ranker_layout(tmp_path / "other")  # the same weights; and this one has judged nothing yet
    assert LLMBlenderOracle.from_pretrained(other).fingerprint == theirs.fingerprint
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**settings, "source_maxlength": 20}))
    assert LLMBlenderOracle.from_pretrained(other).fingerprint != theirs.fingerprint


def test_a_network_that_gives_nan_is_told(tmp_path):
    oracle = LLMBlenderOracle.from_pretrained(tiny_pairrm.ranker_layout(tmp_path))
    with torch.no_grad():
        oracle.blender.ranker.head_layer[4].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="gave NaN for 2 of 2 pairs of prompt 'x'"):
        logits_of(oracle, "x", ["a", "b"])


@pytest.mark.parametrize("device", ["cuda:0", "CPU", torch.device("cpu"), None])
def test_the_device_is_one_that_llm_blender_knows(folder, device):
    with pytest.raises(ValueError, match="expected one of cpu, cuda"):
        LLMBlenderOracle.from_pretrained(folder, device=device)


def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        LLMBlenderOracle.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    with pytest.raises(ValueError, match="is a causal language model"):
        LLMBlenderOracle.from_pretrained(tmp_path)
    bare = tiny_pairrm.ranker_layout(tmp_path / "bare")
    (bare / "base" / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"base model .*PairRM\.from_pretrained"):
        LLMBlenderOracle.from_pretrained(bare)


def test_without_the_package_it_says_what_to_install(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "llm_blender", None)
    with pytest.raises(ImportError, match=r'needs llm-blender: pip install "nashward\[llm\]"'):
        LLMBlenderOracle.from_pretrained(folder)


def test_names_that_transformers_dropped_are_put_back(monkeypatch):
    from transformers import PreTrainedTokenizerBase

    hub: Any = import_module("transformers.utils.hub")
    monkeypatch.setattr(hub, "TRANSFORMERS_CACHE", None, raising=False)  # as another package may leave it
    monkeypatch.delattr(PreTrainedTokenizerBase, "batch_encode_plus", raising=False)
    import_llm_blender()
    assert hub.TRANSFORMERS_CACHE
    tokenizer = tiny_pairrm.tokenizer()
    assert tokenizer.batch_encode_plus(["a b"], truncation=True) == tokenizer(["a b"], truncation=True)
    kept = object()
    monkeypatch.setattr(hub, "TRANSFORMERS_CACHE", kept)
    import_llm_blender()
    assert hub.TRANSFORMERS_CACHE is kept
