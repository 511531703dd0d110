"""Hours by phase, and the run that is nearest to what is asked and fits into a budget."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from nashward.cli.main import main
from nashward.llm.planner.cost import MIN_PROMPTS, Rates, hours, plan_within_budget, read_budget, reductions, seconds
from nashward.llm.planner.plan import GIB, Demand, Plan, plan

SMALL = LlamaConfig(
    vocab_size=2048, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, architectures=["LlamaForCausalLM"],
)  # fmt: skip
# parameters: four layers of q, o [256, 256], k, v [256, 128], three of [256, 512]
LAYERS, HEAD = 4 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512), 2048 * 256
BITS_4 = 1 / 2 + 1 / 64 + 4 / (64 * 256)  # bytes: a byte of scale for 64 weights, a float32 for 256 scales
RATES = Rates(tflops=0.001, bandwidth=1.0, transfer=1.0, step=0.02)


@cache
def _make(demand: Demand) -> Plan:
    return plan(SMALL, 8 * GIB, demand)


def test_seconds_are_those_of_a_sum_by_hand() -> None:
    demand = Demand(prompts=10, responses=4, prompt_tokens=100, new_tokens=50, epochs=3, sampling_batch=16, tokens=600)
    memory_plan = _make(demand)
    parameters = LAYERS + HEAD
    assert memory_plan.parameters == parameters
    pass_of = 2 * parameters / (RATES.tflops * 1e12)  # seconds a token
    took = seconds(memory_plan, RATES)
    assert took["training"] == pytest.approx(3 * 3 * pass_of * 10 * (100 + 4 * 50))  # a prompt once for its responses
    assert took["scoring"] == pytest.approx(2 * pass_of * 10 * (100 + 4 * 50))
    token = 0.02 + 16 * pass_of  # three batches, each token at least 0.02 s
    assert took["sampling"] == pytest.approx(3 * 50 * token + pass_of * 40 * 100)
    assert hours(memory_plan, RATES) == pytest.approx(3 * sum(took.values()) / 3600)
    streamed = plan(SMALL, 8 * GIB, demand, placement={"layers": "host"})
    slow = dataclasses.replace(RATES, transfer=1e-6)
    moved = BITS_4 * LAYERS / 1e3  # seconds to move the layers once; the head stays on the card
    took = seconds(streamed, slow)
    assert took["training"] == pytest.approx(3 * 2 * 5 * moved, rel=0.01)  # five micro-batches of 600 tokens
    assert took["sampling"] == pytest.approx(3 * 50 * moved, rel=0.01)


@pytest.mark.parametrize(
    ("tied", "settings", "layer", "head", "rest"),
    [  # bytes of a parameter of the layers, of the head, and of what else is in the precision of the computation
        (False, {}, BITS_4, 2, 2),
        (True, {}, BITS_4, 2, 2),
        (False, {"quantise_head": True}, BITS_4, BITS_4, 2),
        (False, {"placement": {"layers": "host"}}, BITS_4, 2, 2),
        (False, {"quantise": False}, 2, 2, 2),
        (False, {"quantise": False, "placement": {"layers": "host"}}, 2, 2, 2),
        (False, {"quantise": False, "device": "cpu"}, 4, 4, 4),
        (True, {"quantise": False, "device": "cpu"}, 4, 4, 4),
        (False, {"device": "cpu"}, BITS_4, 4, 4),
    ],
)
def test_a_token_reads_each_weight_in_its_own_precision(
    tied: bool, settings: dict[str, Any], layer: float, head: float, rest: int
) -> None:
    """Bytes by hand: layers, head, norms, a float32 adapter of rank 8; nothing of the table of embeddings."""
    options = {name: settings[name] for name in ("placement", "device") if name in settings}
    asked = {name: value for name, value in settings.items() if name not in options}
    config = copy.deepcopy(SMALL)
    config.tie_word_embeddings = tied
    demand = Demand(
        prompts=1, responses=2, prompt_tokens=1, new_tokens=100, sampling_batch=2, tokens=300, rank=8, **asked
    )
    memory_plan = plan(config, 8 * GIB, demand, **options)
    sides = 4 * (2 * (256 + 256) + 2 * (256 + 128) + 3 * (256 + 512))  # in and out of each linear layer
    norms = (2 * 4 + 1) * 256
    read = layer * LAYERS + head * HEAD + 4 * 8 * sides + rest * norms
    in_4_bits = 28 * (layer == BITS_4) + (head == BITS_4)
    small = (
        in_4_bits * 4 * (16 + 256 + 1) + 2 * 4 * 32
    )  # two tables and an offset of each; frequencies of the rotations
    assert memory_plan.traffic.read == pytest.approx(read + small, rel=2e-4)
    keys = 2 * 4 * 2 * 64 * rest  # of a token: 4 layers with 2 heads of 64
    slow = Rates(tflops=1e6, bandwidth=1e-3, transfer=1e9, step=1e-9)
    by_hand = 100 * (read + small) + sum(2 * keys * (1 + t) for t in range(100))
    assert seconds(memory_plan, slow)["sampling"] == pytest.approx(by_hand / 1e6, rel=0.005)


@pytest.mark.parametrize("tokens", [(1000, 200), (200, 1000)])
def test_each_token_reads_the_keys_and_values_before_it(tokens: tuple[int, int]) -> None:
    """Those of the prompt too, and whether the prefill or the last token takes the most memory."""
    prompt, new = tokens
    memory_plan = _make(Demand(prompts=10, responses=5, prompt_tokens=prompt, new_tokens=new))
    rows = memory_plan.sampling_batch
    each = 2 * 4 * 2 * 64 * 2 * rows  # bytes of a token of each row: keys and values of 4 layers with 2 heads of 64
    slow = Rates(tflops=1e6, bandwidth=1e-3, step=1e-9)
    read = sum(memory_plan.traffic.read + each * (prompt + t) for t in range(new))
    batches = -(-10 * 5 // rows)
    assert seconds(memory_plan, slow)["sampling"] == pytest.approx(batches * read / 1e6, rel=0.01)


@pytest.mark.slow
def test_the_budget_gives_up_prompts_first_then_responses_then_length_then_iterations() -> None:
    whole = hours(_make(Demand()), RATES)
    same, unreduced = plan_within_budget(2 * whole, _make, rates=RATES)
    assert (same.demand, unreduced) == (Demand(), [])
    fewer, lines = plan_within_budget(whole / 3, _make, rates=RATES)
    assert dataclasses.replace(fewer.demand, prompts=1000) == Demand()
    assert MIN_PROMPTS <= fewer.demand.prompts < 1000
    assert whole / 3 * 0.98 < hours(fewer, RATES) <= whole / 3
    assert lines == [
        f"{fewer.demand.prompts} prompts per iteration in place of 1000: the policy's mean win rate is known to "
        f"{0.5 / math.sqrt(fewer.demand.prompts):.3f} (standard error, at most), not 0.016"
    ]
    taken = [plan_within_budget(whole / cut, _make, rates=RATES)[0] for cut in (6, 10, 30, 100, 1000)]
    for one in taken:
        assert one.demand.prompts >= MIN_PROMPTS or one.demand.iterations == 1  # the last that is given up
    assert [one.demand.responses for one in taken] == sorted((one.demand.responses for one in taken), reverse=True)
    assert taken[1].demand.responses == 3
    assert (taken[-1].demand.responses, taken[-1].demand.new_tokens, taken[-1].demand.iterations) == (3, 128, 1)
    assert len(reductions(Demand(), taken[-1].demand)) == 4
    with pytest.raises(ValueError, match="hours are too few for one prompt"):
        plan_within_budget(1e-9, _make, rates=RATES)
    with pytest.raises(ValueError, match=r"it does not fit: .*GiB too much"):
        plan_within_budget(1.0, lambda demand: plan(SMALL, GIB // 2, demand), rates=RATES)


@pytest.mark.parametrize(
    ("text", "read"), [("8GiB, 10h", (8 * GIB, 10.0)), ("10 h", (None, 10.0)), ("6 GB,1.5hours", (6 * GIB, 1.5))]
)
def test_budgets_are_read(text: str, read: Any) -> None:
    assert read_budget(text) == read


@pytest.mark.parametrize("text", ["", "8GiB", "10h, 8GiB", "8GiB, 0h", "8GiB, 10h, 3"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no budget"):
        read_budget(text)


@pytest.mark.slow
def test_the_command_says_what_is_lost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    SMALL.save_pretrained(tmp_path)
    command = ["plan", "--policy", str(tmp_path), "--tflops", "0.001", "--budget"]
    assert main([*command, "8GiB, 5h"]) == 0
    out = capsys.readouterr().out
    assert "within 5 h: --prompts-per-iteration" in out
    assert re.search(r"^at most \d+\.\d hours .* 0.05 s per token in a batch; a model this small takes less", out, re.M)
    assert "the policy's mean win rate is known to" in out
    assert main([*command, "8GiB, 5h", "--memory", "6GiB"]) == 2
    assert "the memory is given twice" in capsys.readouterr().err
    assert main([*command, "soon"]) == 2
    assert main([*command, "8GiB, 5h", "--bandwidth", "0"]) == 2
    assert "bandwidth is 0.0; expected a positive number" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_divide_shards_of_prompts_and_the_prompts_of_an_optimiser_step() -> None:
    alone = seconds(_make(Demand(prompts=1280)), RATES)  # 20 shards
    two, three = (seconds(_make(Demand(prompts=1280, processes=count)), RATES) for count in (2, 3))
    for phase in alone:
        assert two[phase] == pytest.approx(alone[phase] / 2, rel=2e-3)
    assert three["scoring"] == pytest.approx(alone["scoring"] * 7 / 20)  # one has 7 shards
    assert three["training"] == pytest.approx(alone["training"] * 6 / 16)  # and 6 of an optimiser step's 16 prompts
    assert Demand(prompts=3, processes=8).sampled_each == 3
