"""The estimated time of a run, phase by phase, and the largest run within a budget of hours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

from nashward.counted import counted
from nashward.errors import NashwardError

from ..config.fit import Fit
from ..config.plan import MOST, Demand, Rates
from .plan import Plan, read_size

MIN_PROMPTS = 200  # of an iteration: K is lowered before the number of prompts falls below this
PRACTICAL = 168.0  # hours, a week: a run that takes longer is said not to be practical
REDUCED_SETTINGS: dict[str, tuple[int, ...]] = {
    "responses": (5, 4, 3),
    "new_tokens": (512, 384, 256, 128),
    "iterations": (3, 2, 1),
}  # in the order in which they are reduced


def seconds(plan: Plan, rates: Rates | None = None) -> dict[str, float]:
    """The seconds of each phase of an iteration that plays one policy, with texts of the maximal lengths.

    A forward pass takes 2 operations for each parameter and token; of experts those count that the token is sent to.
    Sampling reads the weights, each in the precision that it has (``Traffic``), and the keys and values so far, once
    for each token and batch. Scoring is two passes (anchor and reference). Training is three passes an epoch: forward,
    recomputed forward for the checkpoints, and backward to the inputs (the base is frozen); with tiled MLPs nearly
    four. Streamed layers are copied once for each token and batch in sampling, and twice for each micro-batch in
    training. Several processes divide the shards of prompts, and in training the prompts of each optimiser step; what
    they send each other and the fit's trial step, which one of them does, are not counted.

    Returns:
        seconds by phase: "sampling", "judging" (with an oracle), "scoring", "training".

    See also:
        ``hours``, of the whole run.
    """
    rates = rates or Rates()
    demand, parameters, experts = plan.demand, plan.parameters, plan.experts
    active = parameters + experts.share * experts.parameters  # those that a token passes through
    rows = demand.sampled_each * demand.responses
    speed = rates.tflops * 1e12
    copying = plan.traffic.streamed / (rates.transfer * 1e9)  # seconds of moving the streamed layers once

    batches = math.ceil(rows / max(1, plan.sampling_batch))
    mean = (demand.prompt_tokens + demand.new_tokens / 2) / (demand.prompt_tokens + demand.new_tokens)
    cache = mean * plan.phases["sampling"].last_cache  # it grows from the prompts' to the longest
    read = plan.traffic.read + experts.read(plan.sampling_batch) + cache
    token = max(rates.step, read / (rates.bandwidth * 1e9), copying) + 2 * active * plan.sampling_batch / speed
    phases = {"sampling": batches * demand.new_tokens * token + 2 * active * rows * demand.prompt_tokens / speed}
    if plan.oracle is not None:
        table = plan.oracle.operations(demand.prompt_tokens, demand.new_tokens, demand.responses)
        phases["judging"] = demand.sampled_each * table / speed
    passed = min(demand.responses, demand.rows_of(plan.tokens, plan.packed))  # of a prompt's responses at once

    def one_pass(prompts: float) -> tuple[float, float]:
        """Seconds of computing, and of moving streamed layers once for each micro-batch."""
        tokens = prompts * demand.responses / passed * demand.tokens_of(passed, plan.packed)
        micro_batches = math.ceil(tokens / max(1, plan.tokens))
        return 2 * active * tokens / speed, micro_batches * copying

    phases["scoring"] = 2 * max(one_pass(demand.sampled_each))
    computed, transfer = one_pass(demand.trained_each(Fit().batch))
    passes = 3.8 if plan.placement.mlp_tokens else 3.0
    phases["training"] = demand.epochs * max(passes * computed, 2 * transfer)
    return phases


def hours(plan: Plan, rates: Rates | None = None) -> float:
    """The hours of all iterations of a run."""
    return plan.demand.iterations * sum(seconds(plan, rates).values()) / 3600


def plan_within_budget(
    limit: float, make_plan: Callable[[Demand], Plan], demand: Demand | None = None, rates: Rates | None = None
) -> tuple[Plan, list[str]]:
    """The memory plan of the run nearest to a demand that takes at most ``limit`` hours.

    The number of prompts is reduced first, down to ``MIN_PROMPTS``; then K to 3, the length of the responses, and the
    number of iterations, each time with as many prompts as the time allows. If the demand does not fit the memory, the
    length of the responses is reduced before all of these.

    Args:
        limit: hours.
        make_plan: the memory plan of a demand, for example a partial ``plan.plan``.
        demand: the run that is wanted; None: the defaults.
        rates: of the card; None: the defaults.

    Returns:
        the plan, and a line for each reduction, see ``reductions``.

    Raises:
        ValueError: no such run fits.
    """
    requested = demand or Demand()
    plans: dict[int, Plan] = {}

    def plan_of(option: Demand) -> Plan:
        if option.new_tokens not in plans:  # of the reduced settings, memory depends on the length only
            plans[option.new_tokens] = make_plan(option)
        return replace(plans[option.new_tokens], demand=option)

    shorter = [
        replace(requested, new_tokens=value) for value in REDUCED_SETTINGS["new_tokens"] if value < requested.new_tokens
    ]
    first = next((option for option in (requested, *shorter) if plan_of(option).fits), None)
    if first is None:
        raise NashwardError("it does not fit: " + "; ".join(plan_of((requested, *shorter)[-1]).advice))
    options = [first]
    for name, values in REDUCED_SETTINGS.items():
        smaller = [value for value in values if value < getattr(options[-1], name)]
        options += [replace(options[-1], **{name: value}) for value in smaller]  # type: ignore[arg-type]
    for option in options:
        option_plan = plan_of(option)

        def hours_with(prompts: int, option_plan: Plan = option_plan, option: Demand = option) -> float:
            return hours(replace(option_plan, demand=replace(option, prompts=prompts)), rates)

        prompts = min(option.prompts, int(limit / hours_with(1000) * 1000))
        while prompts and hours_with(prompts) > limit:  # the last batch may not be full
            prompts -= 1
        if prompts >= min(MIN_PROMPTS, requested.prompts) or (option == options[-1] and prompts >= 1):
            chosen = replace(option_plan, demand=replace(option, prompts=prompts))
            return chosen, reductions(requested, chosen.demand)
    raise NashwardError(f"{limit:g} hours are too few for one prompt; raise the budget or take a smaller model")


def reductions(requested: Demand, chosen: Demand) -> list[str]:
    """How a smaller run differs from the requested one, and what that does to the standard errors.

    A win rate that is the mean of n comparisons with probabilities in [0, 1] has a standard error of at most
    1/(2 sqrt(n)).

    Returns:
        a line for each setting that was reduced.
    """
    lines = []
    if chosen.prompts < requested.prompts:
        before, after = (0.5 / math.sqrt(d.prompts) for d in (requested, chosen))
        lines.append(
            f"{counted(chosen.prompts, 'prompt')} per iteration in place of {requested.prompts}: the policy's "
            "mean win rate is "
            f"known to {after:.3f} (standard error, at most), not {before:.3f}"
        )
    if chosen.responses < requested.responses:
        before, after = (0.5 / math.sqrt(d.responses - 1) for d in (requested, chosen))
        lines.append(
            f"K = {chosen.responses} in place of {requested.responses}: a response's win rate, the mean over the "
            f"{chosen.responses - 1} others, has a standard error of at most {after:.2f}, not {before:.2f}"
        )
    if chosen.new_tokens < requested.new_tokens:
        lines.append(f"responses are cut at {chosen.new_tokens} tokens in place of {requested.new_tokens}")
    if chosen.iterations < requested.iterations:
        lines.append(
            f"{counted(chosen.iterations, 'iteration')} in place of {requested.iterations}: the policy moves less far"
        )
    return lines


def read_budget(text: str) -> tuple[int | None, float]:
    """Parse a budget, for example "8GiB, 10h" or "10h".

    Returns:
        bytes (None where only hours are given) and hours.

    Raises:
        ValueError: the text has another form.
    """
    parts = [part.strip() for part in text.split(",")]
    time = re.fullmatch(r"(\d+(?:\.\d+)?)\s*h(?:ours?)?", parts[-1])
    if time is None or len(parts) > 2 or not 0 < float(time[1]) <= MOST:
        raise NashwardError(f"{text!r} is no budget; expected for example '8GiB, 10h' or '10h'")
    return (read_size(parts[0]) if len(parts) == 2 else None), float(time[1])
