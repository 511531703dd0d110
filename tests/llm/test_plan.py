"""The plan of a run: peaks by shape alone, the largest batches that fit, and a refusal with advice."""

from typing import Any

import pytest
import torch
from transformers import FalconConfig, LlamaConfig, MistralConfig

from nashward import options
from nashward.cli import main
from nashward.llm import plan as module
from nashward.llm.dry_run import judging, policy, sampling, scoring, training
from nashward.llm.fit import OPTIMISERS
from nashward.llm.live_storage import resident_bytes
from nashward.llm.offload import Placement
from nashward.llm.oracles import GPM, PairRM, RewardModel
from nashward.llm.oracles.load import oracle_shape
from nashward.llm.plan import GIB, Demand, plan, read_size
from nashward.llm.pocket import PAIRRM

from . import tiny_reward

SHAPE: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
MISTRAL = MistralConfig(vocab_size=32_000, **SHAPE, num_key_value_heads=8, sliding_window=None)
SMALL = LlamaConfig(
    vocab_size=2048, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip


def test_mistral_fits_on_a_card_of_six_gib_and_not_on_one_of_four():
    found = plan(MISTRAL, 6 * GIB)
    assert found.fits
    assert found.sampling_batch >= 5
    assert found.tokens >= 1024
    for phase in found.phases.values():
        assert phase.total <= 6 * GIB - found.reserved
    assert found.placement == Placement()


def test_mistral_is_streamed_on_a_card_of_three_gib_and_told_why_not_on_one_of_one():
    found = plan(MISTRAL, 3 * GIB)
    assert found.fits
    assert found.placement == Placement(layers="host")
    small = plan(MISTRAL, GIB)
    assert not small.fits
    assert small.placement == Placement(layers="host", mlp_tokens=module.TILE)  # all was tried
    assert "an 8-bit optimiser saves about 0.23 GiB" in small.advice[-1]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("length", [64, 500])
@pytest.mark.parametrize("rank", [4, 16])
@pytest.mark.parametrize("vocabulary", [2048, 128_256])
def test_the_plan_is_the_dry_run_of_what_was_chosen(rows, length, rank, vocabulary):
    config = LlamaConfig(**{**SMALL.to_dict(), "vocab_size": vocabulary})
    demand = Demand(rank=rank, prompt_tokens=length, new_tokens=length, sampling_batch=rows, tokens=2 * rows * length)
    found = plan(config, 80 * GIB, demand)
    assert (found.sampling_batch, found.tokens) == (rows, 2 * rows * length)
    network = policy(LlamaConfig(**{**SMALL.to_dict(), "vocab_size": vocabulary}), rank, Placement())
    again = training(network, [length] * rows, [length] * rows, lambda weights: OPTIMISERS["adamw"](weights, 1e-4))
    assert found.phases["training"] == again
    assert found.phases["sampling"] == sampling(network, length, length, rows)
    assert found.phases["scoring"] == scoring(network, [length] * rows, [length] * rows)
    assert found.phases["scoring"].total < found.phases["training"].total


def test_the_largest_batch_is_the_largest():
    demand = Demand(sampling_batch=40, tokens=40 * 1024)
    room = plan(SMALL, 80 * GIB, demand)
    most = room.phases["sampling"].total
    card = int((most * 0.6 + module.CONTEXT * GIB) / (1 - module.FRAGMENTS))
    found = plan(SMALL, card, demand)
    assert 1 < found.sampling_batch < 40
    network = policy(LlamaConfig(**SMALL.to_dict()), 16, found.placement)
    for batch, fits in ((found.sampling_batch, True), (found.sampling_batch + 1, False)):
        assert (sampling(network, 512, 512, batch).total <= card - found.reserved) is fits


def test_windows_keeps_a_distance():
    one, two = (plan(SMALL, 8 * GIB, windows=windows) for windows in (False, True))
    assert two.reserved - one.reserved == GIB


@pytest.mark.parametrize(
    ("text", "size"),
    [("6GiB", 6 * 2**30), ("6 gb", 6 * 10**9), ("1500MiB", 1500 * 2**20), ("1000", 1000), ("0.5T", 5 * 10**11)],
)
def test_sizes_are_read(text, size):
    assert read_size(text) == size


def test_the_command_prints_the_plan_and_refuses_what_does_not_fit(capsys, tmp_path):
    SMALL.save_pretrained(tmp_path / "small")
    command = ["plan", "--policy", str(tmp_path / "small"), "--memory"]
    assert main([*command, "8GiB", "--prompts-per-iteration", "10"]) == 0
    out = capsys.readouterr().out
    assert "it fits with --sampling-batch 64 --tokens 4096" in out
    assert "hours for 3 iterations (sampling" in out
    assert "20 TFLOP/s, 250 GB/s (from host memory 10)" in out
    assert main([*command, "520MiB"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("nashward: it does not fit: training one response of 1024 tokens takes")
    assert main([*command, "much"]) == 2
    assert "'much' is no size; expected for example 6GiB" in capsys.readouterr().err
    with pytest.raises(ValueError, match="optimiser is 'sgd'; expected one of adamw, rmsprop"):
        Demand(optimiser="sgd")
    with pytest.raises(ValueError, match="responses is 0; expected at least 1"):
        Demand(responses=0)
    with pytest.raises(ValueError, match="memory is 0; expected at least 1"):
        plan(SMALL, 0)
    assert main(["plan", "--policy", str(tmp_path / "none"), "--memory", "8GiB"]) == 2


def test_what_cannot_be_planned_is_told_in_one_line(tmp_path, capsys):
    def refused(config, *more):
        config.save_pretrained(tmp_path / "model")
        assert main(["plan", "--policy", str(tmp_path / "model"), "--memory", "8GiB", *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    small = SMALL.to_dict()
    assert "is a LlamaForSequenceClassification, not a causal" in refused(
        LlamaConfig(**{**small, "architectures": ["LlamaForSequenceClassification"]})
    )
    stored = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    assert "a quantisation of its own" in refused(LlamaConfig(**{**small, "quantization_config": stored}))
    assert "optimiser is 'lbfgs'; expected one of adamw" in refused(SMALL, "--optimiser", "lbfgs")
    assert "epochs is -3" in refused(SMALL, "--epochs", "-3")
    assert "iterations is 0" in refused(SMALL, "--iterations", "0")
    assert "is no size" in refused(SMALL, "--memory", "6iB")
    assert "is no size" in refused(SMALL, "--memory", "9" * 400)
    assert "cannot be" in refused(FalconConfig(vocab_size=100, hidden_size=64, num_hidden_layers=1))


def test_the_commands_know_every_optimiser():
    assert tuple(OPTIMISERS) == options.OPTIMISERS


@pytest.mark.parametrize("optimiser", ["adamw8bit", "rmsprop8bit"])
def test_eight_bit_states_are_counted(optimiser):
    plain, small = (plan(SMALL, 80 * GIB, Demand(optimiser=o)).phases["training"] for o in ("adamw", optimiser))
    assert small.optimiser < 0.6 * plain.optimiser
    assert small.weights == plain.weights


@pytest.mark.parametrize("kind", ["pairrm", "gpm", "reward"])
def test_judging_is_a_phase_with_the_weights_of_the_oracle(kind, tmp_path):
    loaded: Any
    source: Any
    if kind == "pairrm":
        source, loaded = PAIRRM, PairRM.from_pretrained(PAIRRM, device="cpu", dtype=torch.float16)
    elif kind == "gpm":
        source = tiny_reward.gpm(tmp_path, 4)
        loaded = GPM.from_pretrained(source, device="cpu")
    else:
        source = tiny_reward.reward_model(tmp_path, "llama")
        loaded = RewardModel.from_pretrained(source, device="cpu")
    shape = oracle_shape(source)
    assert shape is not None
    found = plan(SMALL, 8 * GIB, Demand(prompt_tokens=30, new_tokens=40, responses=4), oracle=shape)
    heads = sum(p.nbytes for name, p in loaded.model.named_parameters() if name.startswith(loaded.model.head_names))
    weights = found.phases["judging"].weights
    assert weights == pytest.approx(resident_bytes(loaded.model), abs=heads + 64)
    assert found.judged == ((12, 110) if kind == "pairrm" else (4, 70))
    assert found.judging_tokens == 8192 // found.judged[1] * found.judged[1]
    assert found.phases["judging"] == judging(shape, 8192 // found.judged[1], found.judged[1])


def test_an_oracle_that_is_no_checkpoint_takes_nothing():
    assert oracle_shape("nashward.llm.oracles:Length") is None
    assert oracle_shape(object()) is None
