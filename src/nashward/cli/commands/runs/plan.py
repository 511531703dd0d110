"""The command ``plan``: will it fit, with which batches, and for how long."""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
from typing import TYPE_CHECKING, Any, Literal

from nashward.cli import configuration, options, solver_options
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.llm.config import Demand, Rates
from nashward.llm.config.fit import TOKENS

if TYPE_CHECKING:
    from nashward.llm.planner.plan import Plan

Device = Literal["cuda", "cpu"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy", metavar="ID_OR_FOLDER", default=argparse.SUPPRESS,
        help="only its config.json is read, so that a folder with this file alone is enough; or a GGUF file, which is "
        "written as a folder first, pocket:policy, real:smollm2-135m",
    )  # fmt: skip
    solver_options.add_preset(parser)
    judges, device, run = map(parser.add_argument_group, ("judges", "device", "run"))
    options.add(judges, JUDGES)
    device.add_argument("--device", choices=("cuda", "cpu"), help="what computes (default: a card, where there is one "
                        "or --memory is given)")  # fmt: skip
    device.add_argument("--memory", metavar="SIZE", help="memory of the card, as 6GiB, or of the host (default: "
                        "what is free); GB and GiB are both 2^30 bytes, as cards are sold")  # fmt: skip
    run.add_argument("--budget", metavar="SIZE,HOURS", help="as '8GiB, 10h': reduce prompts, responses, tokens and "
                     "iterations until the run fits, and print the reductions")  # fmt: skip
    options.add(run, PROMPTS)
    options.add(run, {name: option for name, option in DEMAND.items() if option.kind is not bool})
    run.add_argument(
        "--quantise", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
        help=options.RUN["quantise"].text,
    )  # fmt: skip
    run.add_argument(
        "--quantise-head", action="store_true", default=argparse.SUPPRESS, help=DEMAND["quantise-head"].text
    )
    device.add_argument("--float16", action="store_true", help="the card has no bfloat16 (T4, V100)")
    options.add(device, RATES)


DEMAND, RATES = options.options_of(Demand), options.options_of(Rates)
JUDGES = {  # as for align
    name: dataclasses.replace(options.INPUTS[name], text=text)
    for name, text in {
        "oracle": "only its configuration is read; what is no checkpoint takes nothing (may be given several times)",
        "objective": "NAME=ORACLE, one of several objectives, in place of --oracle (given twice or more)",
        "combine": "as for align; it changes neither memory nor time",
        "correct": "as for align; it changes neither memory nor time",
    }.items()
}
PROMPTS = {
    "prompts": dataclasses.replace(options.INPUTS["prompts"], text="as for align: how many there are, and how many of "
                                   "the policy's tokens the longest has, in place of the two assumed below"),
    **options.PROMPT_FIELD,
}  # fmt: skip
LESS = {"cpu": "A card takes less (--memory 8GiB plans for one)", "cuda": "More cards take less (--processes)"}
CORE = {"tflops": 0.1, "bandwidth": 10.0}  # of a core of a CPU, assumed
KNOWN = "{0}: from the shape that nashward knows of it; not read from the hub"
PEAKS = "each row is at its phase's peak; where that is the reading of the prompts, keys+values are of these alone"
SMALLEST = 10**8  # parameters: the seconds per token are those of models of billions
UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}  # the largest that a time is one of


SHARED = ("policy", *JUDGES, *DEMAND, "quantise")  # what a preset says of a run that a plan depends on


def run(args: argparse.Namespace) -> int:
    _fill(args)
    if "policy" not in args:
        needed = "--policy, or a --preset that has one"
        raise NashwardError(f"the following arguments are required: {needed}; see nashward plan --help")
    import torch

    from nashward.llm.oracles.load import oracle_shape
    from nashward.llm.planner import cost
    from nashward.llm.planner.plan import plan

    device, memory, limit = _limits(args)
    policy = _policy(args.policy)
    demand = _demand(args, policy, device, memory)
    cores = {} if device == "cuda" else {name: rate * torch.get_num_threads() for name, rate in CORE.items()}
    rates = Rates(**{**cores, **options.values(args, RATES)})
    given = ("oracle", "combine", "correct", "objective")
    judges = configuration.oracle_source(*(getattr(args, name, None) for name in given))
    oracle = oracle_shape(judges, _known_oracle) if judges is not None else None

    if sys.stderr.isatty():  # who waits for it; what reads a program's errors needs no line of progress
        print(f"{args.policy}: playing each phase by shape, without weights, for the batches that fit", file=sys.stderr)

    def make(requested: Demand) -> Plan:
        return plan(
            policy, memory, requested, oracle=oracle, device=device, dtype=torch.float16 if args.float16 else None,
            windows=platform.system() == "Windows",
        )  # fmt: skip

    fitted, lost = (make(demand), []) if limit is None else cost.plan_within_budget(limit, make, demand, rates)
    hours = cost.hours(fitted, rates) if fitted.fits else 0.0
    if limit is None and hours > cost.PRACTICAL:
        print(
            f"it fits the memory, but takes about {hours:.0f} hours, more than a week: not practical. {LESS[device]}, "
            "or a smaller policy; --budget 24h finds the run that ends within a day"
        )
    if device == "cpu" and args.device is None:
        print("there is no GPU here: this is a plan for the CPU; with --memory SIZE it is one for a card of that size")
    bits = 4 if demand.quantise else 32 if device == "cpu" else 16
    print(f"{args.policy}: base in {bits} bits, LoRA of rank {demand.rank} in float32, {demand.optimiser}")
    _print_memory(fitted, device)
    if oracle is not None:
        passes = sum(one.rows(demand.responses) for one in oracle.networks)
        print(
            f"judging: {counted(passes, 'row')} for the {counted(demand.responses, 'response')} to a prompt, by "
            f"{counted(len(oracle.networks), 'network')}"
        )
    if not fitted.fits:
        raise NashwardError("it does not fit: " + "; ".join(fitted.advice))
    _print_options(fitted)
    if limit is not None:
        _print_reductions(fitted.demand, limit, lost)
    _print_time(fitted, rates, device, "prompts" in args)
    return 0


def _limits(args: argparse.Namespace) -> tuple[Device, int, float | None]:
    """What computes, the bytes of its memory, and the hours of --budget."""
    from nashward.llm.planner import cost
    from nashward.llm.planner.plan import free_memory, read_size
    from nashward.llm.policy.memory import host_memory

    memory, limit = cost.read_budget(args.budget) if args.budget is not None else (None, None)
    if memory is not None and args.memory is not None:
        raise NashwardError("the memory is given twice, in --memory and in --budget; give it once")
    if args.memory is not None:
        memory = read_size(args.memory)
    device: Device = args.device or ("cuda" if memory is not None or free_memory() is not None else "cpu")
    if memory is None:
        memory = host_memory(free=True) if device == "cpu" else free_memory()
    if memory is None:
        raise NashwardError("there is no GPU here whose memory could be read; give --memory, for example --memory 6GiB")
    return device, memory, limit


def _policy(source: str) -> Any:
    """The policy as it was named, or its configuration where nashward knows that by heart and the hub is out of
    reach."""
    from nashward.llm.planner.known_shapes import known_policy
    from nashward.llm.policy.base.checks import check_causal

    try:
        check_causal(source)
    except FileNotFoundError as error:
        policy = known_policy(source)
        if policy is None:
            raise FileNotFoundError(
                f"{error}. A plan reads its config.json alone: a folder with that file is enough (--policy FOLDER)"
            ) from None
        print(KNOWN.format(source))
        return policy
    return source


def _known_oracle(source: Any) -> Any:
    from nashward.llm.planner.known_shapes import known_oracle

    if (shape := known_oracle(source)) is not None:
        print(KNOWN.format(source))
    return shape


def _demand(args: argparse.Namespace, policy: Any, device: Device, memory: int) -> Demand:
    """The run that is wanted."""
    from nashward.llm.policy.base.weights import in_4_bits

    head = getattr(args, "quantise_head", False)
    quantise = getattr(args, "quantise", None)
    quantise = in_4_bits(policy, device, head, memory) if quantise is None else quantise
    if args.float16 and device == "cpu":
        raise NashwardError("--float16 is for a card without bfloat16; a CPU computes in float32")
    if head and not quantise:
        raise NashwardError("--quantise-head needs --quantise")
    chosen = {"tokens": TOKENS[device], "quantise": quantise, **options.values(args, DEMAND)}
    return Demand(**{**chosen, **_of_prompts(args, policy is args.policy)})


def _of_prompts(args: argparse.Namespace, at_hand: bool) -> dict[str, int]:
    """The prompts of an iteration and the tokens of the longest, by a file of prompts as ``align`` takes it; as many as
    there may be where the policy's tokenizer is not at hand."""
    from nashward.llm import read_prompts
    from nashward.llm.policy.base.checks import policy_tokenizer
    from nashward.llm.policy.chat_template import drop_refused

    column, given = options.prompt_field(args), options.values(args, DEMAND)
    if "prompts" not in args:
        return {}
    prompts, most = read_prompts(args.prompts, column), given.get("prompt_tokens", Demand.prompt_tokens)
    try:
        if not at_hand:
            raise FileNotFoundError("the policy's tokenizer is not here")
        tokenizer = policy_tokenizer(args.policy)
    except (NashwardError, OSError) as error:
        print(f"{args.prompts}: {prompts}; not measured, taken as {most} tokens each (--max-prompt-tokens): {error}")
    else:
        lengths = sorted(len(own) for own in drop_refused(tokenizer, prompts, most))
        mean, most = sum(lengths) / len(lengths), lengths[-1]
        print(f"{args.prompts}: {prompts}; of {lengths[0]} to {most} tokens, {mean:.0f} on average; planned is {most}")
    return {"prompts": min(len(prompts.kept), given.get("prompts", len(prompts.kept))), "prompt_tokens": most}


def _fill(args: argparse.Namespace) -> None:
    """Give the arguments that were not given the values of the presets."""
    for name, setting in configuration.merged(configuration.layers(args)).items():
        if name in SHARED:
            setattr(args, name.replace("-", "_"), setting.value)


def _print_memory(plan: Plan, device: Device) -> None:
    def gib(size: int) -> str:
        return f"{size / 2**30:.2f}"

    name, program = ("card", "the CUDA context") if device == "cuda" else ("host memory", "the program")
    print(f"{name}: {gib(plan.memory)} GiB, of which {gib(plan.reserved)} are left to {program} and to fragments")
    print("GiB        weights  activations  gradients  optimiser  keys+values   peak")
    for name, phase in plan.phases.items():
        row = (phase.weights, phase.activations, phase.gradients, phase.optimiser, phase.cache)
        cells = "".join(f"{gib(x):>{w}}" for x, w in zip(row, (9, 13, 11, 11, 13), strict=True))
        print(f"{name:<9}{cells}{gib(phase.total):>7}")
    print(PEAKS)
    if plan.experts.size:
        print(f"experts: {gib(plan.experts.size)} GiB of the weights, which are not quantised: no linear layers")
    place = plan.placement
    placed = ["layers streamed from host memory, two at a time"] if place.layers == "host" else []
    checkpoints = {"host": "checkpoints of the layers in host memory", "device": "checkpoints of the layers"}
    placed += [checkpoints.get(place.checkpoints, "all activations are kept")]
    placed += ["embeddings in host memory"] if place.embeddings == "host" and device == "cuda" else []
    placed += [f"MLPs {place.mlp_tokens} tokens at once"] if place.mlp_tokens else []
    where = "on the card by turns" if device == "cuda" else "in memory together"
    judge = f"; the oracle judges {plan.judging_tokens} tokens at once" if plan.judging_tokens else ""
    print(f"placement: {', '.join(placed)}{judge}. Policy and oracle are {where}")


def _print_options(plan: Plan) -> None:
    place, demand = plan.placement, plan.demand
    fitting = f"--sampling-batch {plan.sampling_batch} --tokens {plan.tokens}"
    fitting += f" --mlp-tokens {place.mlp_tokens}" if place.mlp_tokens else ""
    fitting += " --checkpoints device" if place.checkpoints == "device" else ""
    fitting += " --quantise-head" if demand.quantise_head else ""
    fitting += " --kv-cache int8" if demand.kv_cache == "int8" else ""
    fitting += " --layers host" if place.layers == "host" else ""
    print(f"it fits with {fitting} (options of nashward align)")


def _print_reductions(demand: Demand, limit: float, lost: list[str]) -> None:
    print(
        f"within {limit:g} h: --prompts-per-iteration {demand.prompts} --responses {demand.responses} "
        f"--max-new-tokens {demand.new_tokens} --iterations {demand.iterations}"
    )
    for line in lost or ["nothing is reduced"]:
        print(f"  {line}")


def _print_time(plan: Plan, rates: Rates, device: Device, measured: bool) -> None:
    """The hours; ``measured``: the length of the prompts is that of a file's longest."""
    from nashward.llm.planner import cost

    demand = plan.demand
    total = 3600 * cost.hours(plan, rates)
    unit, of_unit = next((name, size) for name, size in UNITS.items() if total >= size or name == "seconds")
    each = ", ".join(f"{name} {value / of_unit:.1f}" for name, value in cost.seconds(plan, rates).items())
    about, beyond = "about", ""
    if plan.parameters < SMALLEST:
        about, beyond = "at most", "; a model this small takes less per token, how much is not known"
    texts = "prompts are as long as the longest and all responses" if measured else "texts are"
    transfer = f" (from host memory {rates.transfer:g})" if device == "cuda" else ""
    cards = f", on {demand.processes} {'cards' if device == 'cuda' else 'processors'}" if demand.processes > 1 else ""
    print(
        f"{about} {total / of_unit:.1f} {unit} for {counted(demand.iterations, 'iteration')} of "
        f"{counted(demand.prompts, 'prompt')} of {demand.prompt_tokens} tokens, "
        f"{counted(demand.responses, 'response')} of {demand.new_tokens} to each{cards} "
        f"({each} per iteration{'' if plan.oracle is not None else '; judging is extra'}), if all {texts} as long as "
        f"they may be and {'each' if cards else 'the'} {'card' if device == 'cuda' else 'processor'} "
        f"reaches {rates.tflops:g} TFLOP/s, {rates.bandwidth:g} GB/s{transfer} and "
        f"{rates.step:g} s per token in a batch{beyond}"
    )


COMMAND = Command(
    "nashward plan --policy mistralai/Mistral-7B-Instruct-v0.2 --memory 6GiB",
    add_arguments,
    run,
    loads=False,
)
