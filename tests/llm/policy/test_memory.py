"""Out of memory is survived in every phase, reported in the journal, and changes nothing but the order of sums."""

import json
import math
import random
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nashward import games, llm
from nashward.llm.data.rollouts import Rollout
from nashward.llm.oracles.models.pairrm import PairRMModel
from nashward.llm.policy.continuous_batching import ContinuousBatch
from nashward.llm.policy.memory import ignore_event, run_in_parts
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.training import batches
from nashward.llm.training.batches import MicroBatch, micro_batches
from nashward.llm.training.optimize import Fit, fit

from .. import tiny
from ..tiny_run import self_play

FIRST = 30  # calls of every phase that fail once


@pytest.mark.slow
def test_halves_are_tried_until_they_fit():
    events: list[dict[str, Any]] = []
    tried = []

    def work(items):
        tried.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [10 * item for item in items]

    assert run_in_parts(work, list(range(10)), "thing", events.append) == [10 * k for k in range(10)]
    assert tried == [10, 5, 2, 3, 5, 2, 3]
    assert [event["at_once"] for event in events] == [10, 5, 5]

    def never(items):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match=r"single thing.*--max-new-tokens"):
        run_in_parts(never, [1, 2], "thing", events.append)
    with pytest.raises(ZeroDivisionError):  # another failure is not survived
        run_in_parts(lambda items: [1 // 0 for _ in items], [1, 2], "thing", events.append)


def test_host_memory_that_cannot_be_allocated_halves_a_batch_too(monkeypatch):
    """The CPU's allocator raises a RuntimeError; the attempt's tensors are freed before the halves are tried."""
    held: list[weakref.ref[Any]] = []
    events: list[dict[str, Any]] = []

    def work(items):
        assert not any(tensor() is not None for tensor in held)
        if len(items) > 2:
            attempt = torch.zeros(4)
            held.append(weakref.ref(attempt))
            torch.empty(2**48)  # 2^50 bytes
        return [10 * item for item in items]

    assert run_in_parts(work, [1, 2, 3, 4], "thing", events.append) == [10, 20, 30, 40]
    assert events == [{"out_of_memory": "thing", "at_once": 4}]
    real = batches.sequence_logprobs

    def small(network, prompts, *given):
        return torch.empty(2**48) if len(prompts) > 1 else real(network, prompts, *given)

    model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY, device="cpu", quantise=False)
    batch = MicroBatch([tiny.rollout("0", [1, 2], [[3, 4, 5], [6]], torch.zeros(2))])
    whole = batch.logprobs(model.network, model.pad_id)
    monkeypatch.setattr(batches, "sequence_logprobs", small)
    torch.testing.assert_close(batch.logprobs(model.network, model.pad_id, events.append), whole)
    assert batch.passes == [[0], [1]]
    batch.passes, batch.anchor, batch.sampler = [[0, 1]], whole, whole
    with pytest.raises(torch.OutOfMemoryError):  # the fit takes the step again
        batch.backward(model.network, model.pad_id, 1.0, "plug-in", 1.0, events.append)
    assert batch.passes == [[0], [1]]


class Sometimes:
    """Wraps a function of a batch: each of the first calls of a phase with more than one item fails."""

    def __init__(self, whole, size):
        self.whole, self.size = whole, size
        self.calls: Counter[bool] = Counter()
        self.failed: Counter[bool] = Counter()

    def __call__(self, *given, **named):
        training = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        self.calls[training] += 1
        if self.calls[training] <= FIRST and self.size(*given, **named) > 1:
            self.failed[training] += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.whole(*given, **named)


def play(folder: Path, baseline: Any, tokens: int = 4096) -> Path:
    prompts = [f"Tell me about tea {k}." for k in range(10, 34)]  # of one length: no padding to change
    run = self_play(
        policy=llm.pocket.POLICY, oracle=llm.pocket.PAIRRM, solver=games.MWU(2.0), prompts=prompts, folder=folder,
        iterations=1, responses=3, sampling=llm.Sampling(max_new_tokens=12, batch=36), lora=llm.Lora(rank=4),
        quantise=False,
        fit=Fit(epochs=2, batch=4, learning_rate=2e-3, tokens=tokens, baseline=baseline, held_out=0.1, validation=0.0),
    ).run()  # fmt: skip
    return run.last


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["plug-in", "centred"])
def test_out_of_memory_in_every_phase_changes_nothing(tmp_path, monkeypatch, baseline):
    expected = load_file(play(tmp_path / "undisturbed", baseline) / WEIGHTS)
    network = Sometimes(batches.sequence_logprobs, lambda network, prompts, responses, pad: len(prompts))
    drawing = Sometimes(ContinuousBatch._step, lambda batch: len(batch.rows))
    judging = Sometimes(PairRMModel.states, lambda model, input_ids, **named: len(input_ids))
    monkeypatch.setattr(batches, "sequence_logprobs", network)
    monkeypatch.setattr(ContinuousBatch, "_step", lambda batch: drawing(batch))
    monkeypatch.setattr(PairRMModel, "states", lambda model, **named: judging(model, **named))
    found = load_file(play(tmp_path / "disturbed", baseline) / WEIGHTS)
    assert min(network.failed[False], network.failed[True], drawing.failed[False], judging.failed[False]) >= 5
    moved = 0.0
    for name, weight in expected.items():
        assert float((found[name] - weight).abs().max()) <= 1e-4, name
        moved = max(moved, float(weight.abs().max()))
    assert moved > 1e-2
    events = [json.loads(line) for line in (tmp_path / "disturbed" / "events.jsonl").read_text().splitlines()]
    phases = Counter(event["at"].split(": ")[1].split(" ")[0] for event in events)
    assert set(phases) == {"sampling", "judging", "scoring", "training"}
    assert sum(phases.values()) == sum((network.failed + drawing.failed + judging.failed).values())
    assert all(event["at_once"] > 1 for event in events)
    assert not (tmp_path / "undisturbed" / "events.jsonl").exists()


@pytest.mark.parametrize("baseline", ["plug-in", "centred", "constant"])
def test_one_response_at_a_time_gives_the_gradient_of_all(baseline):
    model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY, device="cpu", quantise=False)
    generator = torch.Generator().manual_seed(0)

    def rollout(k: int) -> Rollout:
        responses = [torch.randint(300, 700, (n,), generator=generator).tolist() for n in (3 + k, 9, 5, 2)]
        payoffs = torch.rand(4, generator=generator).double()
        return tiny.rollout(str(k), [1, 5 + k, 9], responses, payoffs)

    rollouts = [rollout(k) for k in range(5)]
    found = []
    for tokens in (1, 40, 100_000):
        made = micro_batches(rollouts, tokens, 5)
        if tokens == 1:
            assert all(len(part) == 1 for batch in made for part in batch.passes)
            lengths = [len(made[0].rollouts[0].responses[part[0]].ids) for part in made[0].passes]
            assert lengths == sorted(lengths, reverse=True)  # the longest first: memory runs out at once
        model.network.set_adapter("trained")
        weights = [p for n, p in model.network.named_parameters() if "lora_" in n and ".trained." in n]
        for number, weight in enumerate(weights):
            weight.requires_grad_(True)
            weight.grad = None
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(number))
        model.network.train()
        loss = 0.0
        for batch in made:
            batch.anchor = torch.full_like(batch.weights, -20.0)
            batch.sampler = batch.anchor
            loss += batch.backward(model.network, model.pad_id, 2.0, baseline, 1 / 5, lambda event: None)
        found.append((loss, torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])))
    for loss, gradient in found[:2]:
        assert loss == pytest.approx(found[2][0], rel=1e-5)
        assert float((gradient - found[2][1]).norm()) <= 1e-5 * float(found[2][1].norm())
    assert float(found[2][1].norm()) > 1.0


def test_a_single_response_that_does_not_fit_is_events(monkeypatch):
    def never(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(batches, "sequence_logprobs", never)
    batch = MicroBatch([tiny.rollout("0", [1, 2], [[3, 4, 5], [6]], torch.zeros(2))])
    batch.anchor = batch.sampler = torch.zeros(1, 2)
    weight = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(MemoryError, match="single response of up to 5 tokens"):
        fit(None, [weight], [batch], 1.0, Fit(learning_rate=2e-4, epochs=1, warmup=0.0), 0, 0)


def test_nobody_listens_after_the_run(tmp_path):
    model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY, device="cpu")
    self_play(
        policy=model, oracle=llm.oracles.Length(), solver=games.MWU(2.0), prompts=["a", "b"], folder=tmp_path / "run",
        iterations=1, responses=2, sampling=llm.Sampling(max_new_tokens=8), fit=Fit(epochs=1),
    ).run()  # fmt: skip
    assert model.on_event is ignore_event


def test_the_heaviest_step_is_the_first(monkeypatch):
    from nashward.llm.training.optimize import _epoch

    rollouts = [tiny.rollout(str(k), [1], [[2] * (k + 1), [3]], torch.zeros(2)) for k in range(12)]
    made = micro_batches(rollouts, 1, 1)
    for seed in range(5):
        steps = list(_epoch(made, 4, random.Random(seed), heaviest_first=True))
        assert steps[0][0] is made[0]
        assert made[0].rollouts[0].prompt == "11"
        assert sorted(batch.rollouts[0].prompt for step in steps for batch in step) == sorted(
            r.prompt for r in rollouts
        )


def test_float16_is_trained_with_a_scaled_loss(tmp_path):
    """A gradient of 1e-9 is nothing in float16; scaled it is that of float32. Where the scale overflows it falls."""
    folder = tiny.policy(tmp_path / "policy")
    moved = {}
    for kind in ("float32", "float16", "unscaled", "overflowing"):
        dtype = torch.float32 if kind == "float32" else torch.float16
        model = llm.LanguageModel.from_pretrained(folder, lora=llm.Lora(rank=2), quantise=False, dtype=dtype)
        model.write_start_adapter(tmp_path / kind, None)
        # targets that differ by 2e-8 nats: gradients far below the smallest number of float16
        far = 1e3 if kind == "overflowing" else 1e-8
        ids = [[40, 41, 6], [50, 51, 6]]
        batch = MicroBatch([tiny.rollout("a", [0, 50, 60], ids, torch.tensor([far, -far]))])
        with model.training(tmp_path / kind) as parameters:
            batch.anchor = batch.sampler = batch.start = batch.logprobs(model.network, model.pad_id)
            before = [p.detach().clone() for p in parameters]
            settings = Fit(epochs=1, optimiser="rmsprop", learning_rate=1e-3, schedule="constant", warmup=0.0,
                           baseline="centred", max_grad_norm=math.inf)  # fmt: skip
            records = fit(model.network, parameters, [batch], 1.0, settings, model.pad_id, 0,
                          half=kind in ("float16", "overflowing"))  # fmt: skip
            moved[kind] = torch.cat([(p.detach() - b).flatten() for p, b in zip(parameters, before, strict=True)])
        if kind == "overflowing":
            assert records[0]["loss_scale"] < 2.0**16
            assert math.isfinite(records[0]["gradient_norm"])
    assert model.dtype == torch.float16
    assert float(moved["unscaled"].abs().max()) == 0.0
    assert float(moved["overflowing"].abs().max()) > 0.0
    signs = moved["float32"].abs() > 0.5 * moved["float32"].abs().max()
    assert (moved["float16"][signs].sign() == moved["float32"][signs].sign()).float().mean() > 0.95
