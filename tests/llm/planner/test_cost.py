"""Hours by phase, and the run that is nearest to what is asked and fits into a budget."""

from __future__ import annotations

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
RATES = Rates(tflops=0.001, bandwidth=1.0, transfer=1.0, step=0.02)


@cache
def _make(demand: Demand) -> Plan:
    return plan(SMALL, 8 * GIB, demand)


def test_seconds_are_those_of_a_sum_by_hand() -> None:
    demand = Demand(prompts=10, responses=4, prompt_tokens=100, new_tokens=50, epochs=3, sampling_batch=16, tokens=600)
    memory_plan = _make(demand)
    # four layers of q, o [256, 256], k, v [256, 128], three of [256, 512], and the head
    parameters = 4 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512) + 2048 * 256
    assert memory_plan.parameters == parameters
    pass_of = 2 * parameters / (RATES.tflops * 1e12)  # seconds a token
    took = seconds(memory_plan, RATES)
    assert took["training"] == pytest.approx(3 * 3 * pass_of * 10 * (100 + 4 * 50))  # a prompt once for its responses
    assert took["scoring"] == pytest.approx(2 * pass_of * 10 * (100 + 4 * 50))
    token = 0.02 + 16 * pass_of  # three batches, each token at least 0.02 s
    assert took["sampling"] == pytest.approx(3 * 50 * token + pass_of * 40 * 100)
    assert hours(memory_plan, RATES) == pytest.approx(3 * sum(took.values()) / 3600)
    streamed = dataclasses.replace(memory_plan, placement=memory_plan.placement.but({"layers": "host"}))
    slow = dataclasses.replace(RATES, transfer=1e-6)
    moved = 0.516 * parameters / 1e3  # seconds to move the model once
    assert seconds(streamed, slow)["training"] == pytest.approx(3 * 2 * 5 * moved)  # five micro-batches of 600 tokens


@pytest.mark.parametrize("tokens", [(1000, 200), (200, 1000)])
def test_each_token_reads_the_keys_and_values_before_it(tokens: tuple[int, int]) -> None:
    """Those of the prompt too, and whether the prefill or the last token takes the most memory."""
    prompt, new = tokens
    memory_plan = _make(Demand(prompts=10, responses=5, prompt_tokens=prompt, new_tokens=new))
    rows, parameters = memory_plan.sampling_batch, memory_plan.parameters
    each = 2 * 4 * 2 * 64 * 2 * rows  # bytes of a token of each row: keys and values of 4 layers with 2 heads of 64
    slow = Rates(tflops=1e6, bandwidth=1e-3, step=1e-9)
    read = sum(0.516 * parameters + each * (prompt + t) for t in range(new))
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
    assert "within 5 hours: --prompts-per-iteration" in out
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
