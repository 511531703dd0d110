"""The SFT term: its gradient, what it leaves alone, what a run keeps of it, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from nashward import games, llm
from nashward.llm import LanguageModel, Prompt
from nashward.llm.data.rollouts import Text
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.run.inputs.sft import SFTFile
from nashward.llm.store.files import read_jsonl
from nashward.llm.store.run_folder import RunFolder
from nashward.llm.training import batches
from nashward.llm.training.batches import micro_batches
from nashward.llm.training.optimize import fit
from nashward.llm.training.sft import SFTBatch, encode, epochs, pack, split

from .. import tiny
from ..tiny_run import short_run

SFT = [{"prompt": f"Do {k}", "output": "ab" * (1 + k % 3)} for k in range(9)]
FIT: dict[str, Any] = {
    "learning_rate": 2e-3,
    "epochs": 1,
    "batch": 4,
    "held_out": 0.2,
    "validation": 0.0,
    "checkpoint_seconds": 0.0,
}


def _play(source: Any, folder: Path, sft: Any = SFT, weight: float = 1.0, **settings: Any) -> llm.SelfPlay:
    settings = {"iterations": 1, "solver": games.MWU(2.0), "fit": llm.Fit(**FIT, sft_weight=weight), **settings}
    return short_run(source, folder, sft=sft, **settings)


def _adapter(folder: Path) -> bytes:
    return (folder / "iteration-01" / "adapter" / WEIGHTS).read_bytes()


def _texts(count: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    draw = random.Random(seed)
    return [
        ([0, *draw.choices(range(20, 90), k=2 + k)], [*draw.choices(range(20, 90), k=3 + k % 4), 6])
        for k in range(count)
    ]


def _explicit(network: Any, text: Text) -> torch.Tensor:
    """log pi(y | x) from all logits of one text."""
    prompt, response = text
    scores = network(input_ids=torch.tensor([[*prompt, *response]])).logits[0].float().log_softmax(-1)
    return torch.stack([scores[len(prompt) - 1 + h, token] for h, token in enumerate(response)]).sum()


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("tokens", "half"), [(1, False), (4096, False), (4096, True)])
def test_the_gradient_is_that_of_the_explicit_sum(weight: float, tokens: int, half: bool, tiny_folder: Path) -> None:
    model = LanguageModel.from_pretrained(tiny_folder, lora=llm.Lora(rank=2), quantise=False)
    drawn = _texts(4, seed=1)
    rollouts = [
        tiny.rollout(str(k), drawn[k][0], [drawn[k][1], drawn[k + 1][1]], torch.tensor([0.3, 0.7])) for k in range(3)
    ]
    made = micro_batches(rollouts, tokens, 4)
    for batch in made:
        batch.anchor = batch.sampler = torch.full_like(batch.weights, -20.0)
    beside = pack(iter(_texts(3)), 4096, 4)
    if tokens == 1:
        beside[0].passes = [[0], [2, 1]]
    model.network.set_adapter("trained")
    weights = [p for name, p in model.network.named_parameters() if ".trained." in name]
    for number, one in enumerate(weights):
        one.requires_grad_(True)
        torch.nn.init.normal_(one, std=0.05, generator=torch.Generator().manual_seed(number))
    values = [torch.stack([_explicit(model.network, text) for text in batch.texts]) for batch in made]
    lost = [b.loss(own.reshape(b.weights.shape), 2.0, "plug-in") for b, own in zip(made, values, strict=True)]
    mirror = torch.stack(lost).sum()
    likelihood = torch.stack([_explicit(model.network, text) for text in beside[0].texts]).sum()
    nll = -likelihood / sum(len(response) for _, response in beside[0].texts)
    expected = torch.autograd.grad(mirror / 3 + weight * nll, weights)
    settings = llm.Fit(epochs=1, max_grad_norm=math.inf, warmup=0.0, learning_rate=1e-3, sft_weight=weight)
    texts = beside if weight else []
    (record,) = fit(model.network, weights, made, 2.0, settings, model.pad_id, 0, half=half, sft=texts)
    for found, gradient in zip((w.grad for w in weights), expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
    assert record["loss"] == pytest.approx(float(mirror.detach()) / 3, rel=1e-5)
    assert record.get("sft_nll") == (pytest.approx(float(nll.detach()), rel=1e-5) if weight else None)


def test_memory_that_runs_out_halves_a_pass_for_good(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LanguageModel.from_pretrained(tiny_folder, lora=llm.Lora(rank=2), quantise=False)
    real = batches.sequence_logprobs
    events: list[dict[str, Any]] = []
    (batch,) = pack(iter(_texts(5)), 4096, 8)
    assert batch.passes == [[0, 1, 2, 3, 4]]
    whole = batch.logprobs(model.network, model.pad_id)

    def small(network: Any, prompts: Any, *given: Any) -> torch.Tensor:
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(network, prompts, *given)

    monkeypatch.setattr(batches, "sequence_logprobs", small)
    found = batch.logprobs(model.network, model.pad_id, events.append)
    torch.testing.assert_close(found, whole)
    assert batch.passes == [[0, 1], [2], [3, 4]]
    assert events == [{"out_of_memory": "response", "at_once": n} for n in (5, 3)]


def test_at_weight_0_the_run_is_that_without_an_sft_term(tiny_folder: Path, tmp_path: Path) -> None:
    without = _play(tiny_folder, tmp_path / "without", None).run().metrics[0]
    measured = _play(tiny_folder, tmp_path / "measured", weight=0.0).run().metrics[0]
    assert _adapter(tmp_path / "measured") == _adapter(tmp_path / "without")
    assert {**measured, "sft": {}} == without
    mixed = _play(tiny_folder, tmp_path / "mixed").run().metrics[0]
    assert measured["sft"]["start"] == measured["sft"]["before"] == mixed["sft"]["before"]
    assert mixed["sft"]["after"] < mixed["sft"]["before"] - 0.05
    records = [row for row in read_jsonl(tmp_path / "mixed/iteration-01/metrics.jsonl") if "step" in row]
    assert records[0]["sft_nll"] > 0
    assert records[0]["loss"] == pytest.approx(mixed["first_loss"]["expected"], rel=1e-6)


def test_each_optimiser_step_takes_the_next_texts(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SFTBatch.backward
    passed: list[str] = []

    def backward(self: SFTBatch, *given: Any) -> float:
        passed.extend(str(prompt) for prompt, _ in self.texts)
        return real(self, *given)

    monkeypatch.setattr(SFTBatch, "backward", backward)
    _play(tiny_folder, tmp_path / "run", fit=llm.Fit(**{**FIT, "epochs": 2})).run()
    assert len(passed) == 16  # 8 prompts, 4 in a step, twice
    assert len(set(passed[:7])) == len(set(passed)) == 7  # all but the 2 that are held out, before any comes again
    assert passed[:7] != passed[7:14]


@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("lbfgs", marks=pytest.mark.slow)])
def test_a_cut_run_ends_the_same_with_and_without_the_file(
    optimiser: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    settings: dict[str, Any] = {**FIT, "optimiser": optimiser, "epochs": 2}
    if optimiser == "lbfgs":
        settings |= {"learning_rate": 1.0, "batch": 100, "max_grad_norm": math.inf, "epochs": 3}
    file = tmp_path / "sft.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in SFT))
    _play(tiny_folder, tmp_path / "whole", file, fit=llm.Fit(**settings)).run()
    real, steps = SFTBatch.backward, 0

    def backward(self: SFTBatch, *given: Any) -> float:
        nonlocal steps
        steps += 1
        if len(list((tmp_path / "cut" / "iteration-01" / "training").glob("[01]"))) == 2:
            raise Killed
        return real(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(SFTBatch, "backward", backward)
        with pytest.raises(Killed):
            _play(tiny_folder, tmp_path / "cut", file, fit=llm.Fit(**settings)).run()
    assert steps >= 3
    _play(tiny_folder, tmp_path / "cut", None, fit=llm.Fit(**settings)).run()
    assert _adapter(tmp_path / "cut") == _adapter(tmp_path / "whole")
    whole, cut = ((tmp_path / run / "iteration-01" / "metrics.jsonl").read_bytes() for run in ("whole", "cut"))
    assert cut == whole


def test_another_set_of_texts_is_another_run_and_a_lost_copy_is_told(tiny_folder: Path, tmp_path: Path) -> None:
    _play(tiny_folder, tmp_path / "run").run(until="sample")
    with pytest.raises(ValueError, match=r"holds another run \(sft '[0-9a-f]{16}' there, '[0-9a-f]{16}' now\)"):
        _play(tiny_folder, tmp_path / "run", SFT[1:]).run()
    _play(tiny_folder, tmp_path / "none", None).run(until="sample")
    with pytest.raises(ValueError, match=r"holds another run \(sft None there, '[0-9a-f]{16}' now\)"):
        _play(tiny_folder, tmp_path / "none").run()
    copy = tmp_path / "run" / "sft.jsonl"
    content = copy.read_bytes()
    copy.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"sft.jsonl was altered or lost"):
        _play(tiny_folder, tmp_path / "run", None).run()
    _play(tiny_folder, tmp_path / "run").run(until="sample")
    assert copy.read_bytes() == content


def test_a_text_ends_its_turn_as_the_policy_does(tiny_folder: Path) -> None:
    words = tiny.tokenizer()
    prompt = Prompt(({"role": "user", "content": "Do it"},))
    asked, answer = encode(words, prompt, "Done.", [1, 6])
    assert words.decode(list(asked)) == "<s><|user|>Do it<|end|><|assistant|>"
    assert words.decode(list(answer)) == "Done.<|end|>"
    assert encode(words, prompt, "Done.") == (asked, [*answer, 1])  # where no stop is known, the end of text
    # a template that writes what was asked in another way once it is answered
    words.chat_template = "{% if add_generation_prompt %}Q: {{ messages[0].content }} A: {% else %}no{% endif %}"
    assert words.decode(list(encode(words, prompt, "Done.", [1, 6])[1])) == "Done.</s>"


@pytest.mark.parametrize("blank", [" ", "\n", ""])
def test_no_blank_is_put_between_prompt_and_response(blank: str) -> None:
    letters = "adehimnorstDI.: \n\u2581"
    vocabulary = {piece: k for k, piece in enumerate(["<unk>", "</s>", *letters, "\u2581D", "\u2581Do"])}
    model = models.BPE(vocab=vocabulary, merges=[("\u2581", "D"), ("\u2581D", "o")], unk_token="<unk>")
    backend = Tokenizer(model)  # as Llama 2 has it: a blank before each piece between control tokens
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    words = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    words.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}I: {{ m.content }} A:{% else %}BLANK{{ m.content }}</s>"
        "{% endif %}{% endfor %}"
    ).replace("BLANK", blank)
    turns = [{"role": "user", "content": "Do it"}, {"role": "assistant", "content": "Done."}]
    asked, answer = encode(words, Prompt(tuple(turns[:1])), "Done.", [1])
    whole = words.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert [*asked, *answer] == whole
    assert asked == words.apply_chat_template(turns[:1], tokenize=True, return_dict=False)


def test_texts_are_split_shuffled_and_packed() -> None:
    for count, share, held in ((2, 0.0, 1), (2, 0.9, 1), (10, 0.3, 3), (10_000, 0.1, 256)):
        training, testing = split([str(number) for number in range(count)], share, 0)
        assert len(testing) == held
        assert sorted([*training, *testing]) == list(range(count))
    shuffled = list(range(10))
    random.Random(4).shuffle(shuffled)
    assert split("abcdefghij", 0.3, 4)[1] == sorted(shuffled[:3])  # as before there were prompts with several texts
    first = list(itertools.islice(epochs(range(5), 3), 15))
    assert [sorted(first[k : k + 5]) for k in (0, 5, 10)] == [list(range(5))] * 3
    assert first[:5] != first[5:10]
    assert first == list(itertools.islice(epochs(range(5), 3), 15))
    texts = _texts(7)
    for tokens, most in ((1, 4), (30, 4), (4096, 2)):
        made = pack(iter(texts), tokens, most)
        assert [text for batch in made for text in batch.texts] == texts
        for batch in made:
            padded = len(batch.texts) * max(len(x) + len(y) for x, y in batch.texts)
            assert len(batch.texts) == 1 or (padded <= tokens and len(batch.texts) <= most)
    endless = (texts[k % 7] for k in itertools.count())
    assert len(pack(endless, 30, 4, 11)) == 11
    assert pack(iter(texts), 30, 4, 0) == []


def test_no_prompt_is_trained_on_and_held_out() -> None:
    for prompts in ([k // 3 for k in range(60)], [0] * 50 + list(range(1, 11)), [0, 0, 1]):
        for seed in range(5):
            training, testing = split([str(prompt) for prompt in prompts], 0.2, seed)
            assert training
            assert testing
            assert sorted([*training, *testing]) == list(range(len(prompts)))
            assert {prompts[k] for k in training}.isdisjoint(prompts[k] for k in testing)
    assert [len(part) for part in split(["a"] * 10, 0.2, 0)] == [8, 2]  # which cannot be told apart by prompt


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (["a text"], "sft: row 1 is str, expected an object with a prompt and a response"),
        ([{"prompt": "p"}], "sft: row 1 has no response"),
        ([SFT[0], {"output": "x"}], "sft: row 2 has no prompt or instruction or question or messages"),
        ([{"prompt": "p", "output": " "}], "sft: row 1 has an empty response"),
        ([], "sft holds 0 responses; expected 2 at least, to train on and to hold out"),
        (SFT[:1], "sft holds 1 response; expected 2 at least"),
        ("none.jsonl", "there is no responses file none.jsonl"),
    ],
)
def test_texts_that_are_refused(rows: Any, line: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{re.escape(line)}"):
        _ = SFTFile(rows, RunFolder(tmp_path / "run")).texts


def test_what_is_too_long_or_cannot_be_asked(tmp_path: Path) -> None:
    words, home = tiny.tokenizer(), RunFolder(tmp_path / "run")
    rows = [{"prompt": "p", "output": "x" * n} for n in (1, 2, 30)]
    assert [text for _, text in SFTFile(rows, home).within(words, 20)] == ["x", "xx"]
    assert len(SFTFile(rows, home).within(words, None)) == 3
    with pytest.raises(ValueError, match=r"^0 of 3 .* 3 tokens long .*--max-prompt-tokens"):
        SFTFile(rows, home).within(words, 3)
    words.chat_template = "{{ raise_exception('no system turn') }}"
    with pytest.raises(ValueError, match=r"'p' of the SFT texts .*refuses the turns: no system turn$"):
        SFTFile(rows, home).within(words, None)


def test_texts_that_are_left_out_are_counted(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = [{"prompt": "p", "output": "x" * 600}]
    _play(tiny_folder, tmp_path / "run", [*SFT, *long]).run(until="sample", progress=False)
    told = [line for line in caplog.messages if "SFT texts" in line]
    assert told == ["1 of 10 SFT texts are longer than the run's longest and are left out"]


def test_a_geometric_mixture_is_fitted_without_the_sft_term(tiny_folder: Path, tmp_path: Path) -> None:
    run = _play(tiny_folder, tmp_path / "run", solver=games.NashMD(2.0, tau=0.1)).run()
    half, whole = run.metrics
    assert (half["iteration"], half["opponent"], half["sft"]) == ("iteration-01-half-1", {}, {})
    assert set(whole["sft"]) == {"start", "before", "after"}


def test_a_weight_that_is_refused() -> None:
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"sft_weight must be a finite number, at least 0, got {weight}"):
            llm.Fit(sft_weight=weight)
