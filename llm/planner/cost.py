"""How long a run takes, phase by phase and with its basis, and what of it fits into so many hours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

from nashward.errors import NashwardError

from ..config.plan import MOST, Demand, Rates
from .plan import Plan, read_size

FOUR_BITS = 0.516  # bytes of a number in 4 bits, with its share of the scales
FEWEST = 200  # prompts of an iteration: with fewer, K is lowered rather
LESS: dict[str, tuple[int, ...]] = {
    "responses": (5, 4, 3),
    "new_tokens": (512, 384, 256, 128),
    "iterations": (3, 2, 1),
}  # in the order given up


def seconds(plan: Plan, rates: Rates | None = None) -> dict[str, float]:
    """Of each phase of an iteration, with the longest texts.

    A pass is 2 operations for each parameter and token. Sampling reads the weights and the keys and values once a
    token and batch; scoring is two passes (anchor and reference); training is three an epoch, forward, again for the
    checkpoints, and back to the inputs (the base is frozen), with tiled MLPs nearly four. Streamed layers are moved
    once a token and batch, and twice a micro-batch.
    """
    rates = rates or Rates()
    demand, (parameters, judge) = plan.demand, plan.parameters
    rows = demand.prompts * demand.responses
    length = demand.prompt_tokens + demand.new_tokens
    speed = rates.tflops * 1e12
    streamed = parameters * FOUR_BITS if plan.placement.layers == "host" else 0.0

    batches = math.ceil(rows / max(1, plan.sampling_batch))
    sampled = plan.phases["sampling"]
    read = (parameters * FOUR_BITS + sampled.cache / 2) / (rates.bandwidth * 1e9)
    token = max(rates.step, read, streamed / (rates.transfer * 1e9)) + 2 * parameters * plan.sampling_batch / speed
    found = {"sampling": batches * demand.new_tokens * token + 2 * parameters * rows * demand.prompt_tokens / speed}
    if plan.oracle is not None:
        tokens = plan.oracle.rows(demand.responses) * plan.oracle.row(demand.prompt_tokens, demand.new_tokens)
        found["judging"] = 2 * judge * demand.prompts * tokens / speed
    micro_batches = math.ceil(rows * length / max(1, plan.tokens))
    moved = micro_batches * streamed / (rates.transfer * 1e9)
    once = 2 * parameters * rows * length / speed
    found["scoring"] = 2 * max(once, moved)
    each = 3.8 if plan.placement.mlp_tokens else 3.0
    found["training"] = demand.epochs * max(each * once, 2 * moved)
    return found


def hours(plan: Plan, rates: Rates | None = None) -> float:
    """Of the whole run."""
    return plan.demand.iterations * sum(seconds(plan, rates).values()) / 3600


def within(
    limit: float, make: Callable[[Demand], Plan], demand: Demand | None = None, rates: Rates | None = None
) -> tuple[Plan, list[str]]:
    """The run that is nearest to what is asked and takes at most ``limit`` hours.

    First there are fewer prompts, down to 200; then K falls to 3, then the length of the responses, then the number of
    iterations, each followed by as many prompts as there is time for. Where the card's memory is what is short, the
    length alone falls before all that.

    Args:
        limit: hours.
        make: plans a demand.
        demand: what is asked; None: the defaults.

    Returns:
        the plan, and what is lost, a line each.

    Raises:
        ValueError: no such run fits.
    """
    asked = demand or Demand()
    known: dict[int, Plan] = {}

    def planned(option: Demand) -> Plan:
        if option.new_tokens not in known:  # memory depends on no other of what may be lowered
            known[option.new_tokens] = make(option)
        return replace(known[option.new_tokens], demand=option)

    shorter = [replace(asked, new_tokens=value) for value in LESS["new_tokens"] if value < asked.new_tokens]
    first = next((option for option in (asked, *shorter) if planned(option).fits), None)
    if first is None:
        raise NashwardError("it does not fit: " + "; ".join(planned((asked, *shorter)[-1]).advice))
    options = [first]
    for name, values in LESS.items():
        smaller = [value for value in values if value < getattr(options[-1], name)]
        options += [replace(options[-1], **{name: value}) for value in smaller]  # type: ignore[arg-type]
    for option in options:
        found = planned(option)

        def takes(prompts: int, found: Plan = found, option: Demand = option) -> float:
            return hours(replace(found, demand=replace(option, prompts=prompts)), rates)

        prompts = min(option.prompts, int(limit / takes(1000) * 1000))
        while prompts and takes(prompts) > limit:  # the last batch may not be full
            prompts -= 1
        if prompts >= min(FEWEST, asked.prompts) or (option == options[-1] and prompts >= 1):
            chosen = replace(found, demand=replace(option, prompts=prompts))
            return chosen, lost(asked, chosen.demand)
    raise NashwardError(f"{limit:g} hours are too few for one prompt; raise the budget or take a smaller model")


def lost(asked: Demand, chosen: Demand) -> list[str]:
    """What a smaller run does not know, or does not do.

    A win rate that is the mean of n comparisons with probabilities in [0, 1] has a standard error of at most
    1/(2 sqrt(n)).
    """
    told = []
    if chosen.prompts < asked.prompts:
        before, after = (0.5 / math.sqrt(d.prompts) for d in (asked, chosen))
        told.append(
            f"{chosen.prompts} prompts an iteration in place of {asked.prompts}: the policy's mean win rate is known "
            f"to {after:.3f} (standard error, at most), not {before:.3f}"
        )
    if chosen.responses < asked.responses:
        before, after = (0.5 / math.sqrt(d.responses - 1) for d in (asked, chosen))
        told.append(
            f"K = {chosen.responses} in place of {asked.responses}: a response's win rate, the mean over the "
            f"{chosen.responses - 1} others, has a standard error of at most {after:.2f}, not {before:.2f}"
        )
    if chosen.new_tokens < asked.new_tokens:
        told.append(f"responses are cut at {chosen.new_tokens} tokens in place of {asked.new_tokens}")
    if chosen.iterations < asked.iterations:
        told.append(f"{chosen.iterations} iterations in place of {asked.iterations}: the policy moves less far")
    return told


def read_budget(text: str) -> tuple[int | None, float]:
    """Bytes and hours of "8GiB, 10h"; None for the card's own where there are hours alone.

    Raises:
        ValueError: if it reads otherwise.
    """
    parts = [part.strip() for part in text.split(",")]
    time = re.fullmatch(r"(\d+(?:\.\d+)?)\s*h(?:ours?)?", parts[-1])
    if time is None or len(parts) > 2 or not 0 < float(time[1]) <= MOST:
        raise NashwardError(f"{text!r} is no budget; expected for example '8GiB, 10h' or '10h'")
    return (read_size(parts[0]) if len(parts) == 2 else None), float(time[1])
