"""``nashward best-of-n``: of n responses to each prompt the one that an oracle prefers, and how far that can be from
the policy that they were drawn from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nashward.cli import configuration, options, outputs
from nashward.cli.command import Command
from nashward.cli.options import Option
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import quoted

CHUNK = 32  # prompts that one of several processes samples together
RULES = ("mean-win-rate", "copeland", "knock-out")
SAMPLING: dict[str, Option] = {
    name: option for name, option in options.RUN.items() if option.path[0] in ("sampling", "chat_template", "quantise")
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add(parser, options.select(options.INPUTS, ("oracle",)), required=True)
    options.add(parser, options.select(options.INPUTS, ("combine", "correct")))
    parser.add_argument(
        "--out", required=True, type=options.path, metavar="FILE",
        help="a .jsonl file to write, over one that this command wrote before: rows of prompt, response, chosen (its "
        "place among the responses, from 0) and n (how many they are)",
    )  # fmt: skip
    parser.add_argument(
        "--responses",
        metavar="FILE",
        help="ready responses, one row per prompt: prompt, and responses, a list of texts",
    )
    parser.add_argument("--policy", help="in place of --responses: " + options.INPUTS["policy"].text)
    parser.add_argument("--adapter", help="an adapter of the policy: a LoRA folder or id, or the mixture.json of a run")
    parser.add_argument("--prompts", help="for the policy: " + options.INPUTS["prompts"].text)
    options.add(parser, options.PROMPT_FIELD)
    parser.add_argument("--n", type=options.whole, default=16, help="responses per prompt (default: 16)")
    parser.add_argument(
        "--rule", choices=RULES, default="mean-win-rate",
        help="who is the best: mean-win-rate against the other responses (default; PairRM's ranking is of its kind), "
        "copeland (most others beaten), knock-out (n - 1 comparisons)",
    )  # fmt: skip
    parser.add_argument(
        "--opponents", metavar="FILE", help="beat these responses (rows as for --responses) in place of each other"
    )
    parser.add_argument("--cache", type=options.path, help="keep judgements in this file, and look them up")
    parser.add_argument("--seed", type=options.whole, default=0, help="seed of the sampler (default: 0)")
    options.add_groups(parser, {**SAMPLING, **options.JUDGE})


def run(args: argparse.Namespace) -> int:
    from nashward.llm import oracles
    from nashward.llm.evaluation.best_of_n import kl_bound
    from nashward.llm.oracles.corrections.correction import base_sources
    from nashward.llm.processes import processes
    from nashward.llm.store.files import write_jsonl

    _check(args)
    column = getattr(args, "prompt_field", None)  # of ready responses as well
    opponents = None if args.opponents is None else _read(args.opponents, column)
    baseline: list[str] | None = None
    given = configuration.oracle_of(args)
    judging = configuration.judge(args, base_sources(given))
    if args.responses is not None:
        candidates = _read(args.responses, column)
        source = oracles.check_source(given, **judging)
    else:
        source = oracles.check_source(given, **judging)
        candidates, baseline = _drawn(args)
    if opponents is not None and (missing := [prompt for prompt in candidates if prompt not in opponents]):
        raise NashwardError(
            f"{args.opponents} has no responses to {counted(len(missing), 'prompt')}, the first "
            f"{quoted(missing[0], 60)}"
        )
    oracle, prompts = oracles.as_oracle(source, cache=args.cache), list(candidates)
    against = None if opponents is None else [opponents[prompt] for prompt in prompts]
    indices = oracles.select_best(oracle, prompts, list(candidates.values()), args.rule, args.cache, against)
    rows = [
        {"prompt": prompt, "response": responses[k], "chosen": k, "n": len(responses)}
        for (prompt, responses), k in zip(candidates.items(), indices, strict=True)
    ]
    processes.decided(lambda: write_jsonl(args.out, rows))
    sizes = sorted({len(responses) for responses in candidates.values()})
    n = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    print(f"best of {n} by {oracle.name} ({_described(args)}) for {counted(len(prompts), 'prompt')}: {args.out}")
    if baseline is not None:
        from nashward.llm.evaluation import win_rate

        best = [[row["response"]] for row in rows]
        others = [[text] for text in baseline]
        rate = processes.decided(lambda: win_rate(oracle, prompts, best, others))  # type: ignore[arg-type]
        print(f"win rate against another response of the policy: {rate}")
    drawn_by = "the sampler" if args.responses is None else "whoever drew the responses"
    print(
        f"KL from {drawn_by}: at most {kl_bound(sizes[-1]):.3f} nats per response (log n - (n - 1) / n: an upper bound "
        "for every rule, reached by a reward without ties)"
    )
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be found wrong before anything is read."""
    outputs.check_file("--out", args.out, "best.jsonl", (".jsonl",))
    outputs.check_replaced(args.out, ("prompt", "response", "chosen", "n"))
    if args.n < 1:
        raise NashwardError(f"--n is {args.n}; expected at least 1")
    if args.opponents is not None and args.rule != "mean-win-rate":
        raise NashwardError(f"--rule {args.rule} compares the responses with each other: leave out --opponents")
    if args.responses is not None:
        given = vars(args)
        sampler = ["policy", "adapter", "prompts", *SAMPLING]
        if unused := [name for name in sampler if given.get(name.replace("-", "_")) is not None]:
            raise NashwardError(
                f"--{unused[0]} is for sampling, and --responses are drawn already: leave one of them out"
            )
    elif missing := [f"--{name}" for name in ("policy", "prompts") if getattr(args, name) is None]:
        raise NashwardError(
            f"responses are needed: give --responses, or a policy to draw them ({' and '.join(missing)})"
        )


def _described(args: argparse.Namespace) -> str:
    return args.rule if args.opponents is None else "mean win rate against the opponents"


def _read(file: str, column: str | None) -> dict[str, list[str]]:
    """The responses of a file by their prompt."""
    from nashward.llm.data.conversations import fields_of_prompt
    from nashward.llm.data.prompts import row_prompt
    from nashward.llm.data.rows import numbered_rows, read_rows

    if Path(file).is_dir():
        raise NashwardError(f"{file} is a folder; expected one file, each line with a prompt and its responses")
    if not Path(file).is_file():
        raise FileNotFoundError(f"there is no file of responses {file}")
    by_prompt: dict[str, list[str]] = {}

    def add(row: Any) -> None:
        prompt = row_prompt(row, column).text
        responses = row.get("responses") if isinstance(row, dict) else None
        if not isinstance(responses, list) or not responses or not all(isinstance(text, str) for text in responses):
            raise NashwardError("has no responses; expected a list of texts")
        if prompt in by_prompt:
            raise NashwardError(f"repeats the prompt {quoted(prompt, 60)}; give its responses in one row")
        by_prompt[prompt] = responses

    def used(row: Any) -> set[str]:
        return fields_of_prompt(row, column) | {"responses"}

    for _ in numbered_rows(read_rows(file, "responses"), file, add, used):
        pass
    if not by_prompt:
        raise NashwardError(f"{file} holds no responses")
    return by_prompt


def _drawn(args: argparse.Namespace) -> tuple[dict[str, list[str]], list[str]]:
    """n responses of the policy to each prompt, and one more, which is not among those to choose from."""
    from nashward.llm import LanguageModel, Sampling, read_prompts
    from nashward.llm.policy.adapters.adapter_config import adapter_config, local_adapter
    from nashward.llm.policy.base.checks import check_policy
    from nashward.llm.policy.chat_template import drop_refused
    from nashward.llm.policy.mixture import Mixture

    settings = options.values(args, SAMPLING)
    template = settings.pop("chat_template", None)
    template = None if template is None else configuration.template(template)
    quantise = settings.pop("quantise", None)
    sampling = Sampling(**settings)
    prompts = read_prompts(args.prompts, options.prompt_field(args))
    ids = drop_refused(check_policy(args.policy, template), prompts)
    if prompts.dropped:
        print(prompts)
    mixture = None
    if args.adapter:
        stored = Path(args.adapter).suffix == ".json"
        mixture = Mixture.load(args.adapter) if stored else Mixture(((local_adapter(args.adapter), 1.0),))
        mixture.check(args.policy)
        for folder, _ in mixture.members:
            adapter_config(folder, args.policy)
    model = LanguageModel.from_pretrained(
        args.policy, lora=None if mixture is None else mixture.slots, quantise=quantise, chat_template=template,
        seed=args.seed,
    )  # fmt: skip
    drawn = _sampled(model, mixture, ids, args.n + 1, sampling, args.seed)
    texts = {prompt.text: [answer.text for answer in row] for prompt, row in zip(prompts.kept, drawn, strict=True)}
    model.offload()
    baseline = [responses[-1] for responses in texts.values()]
    return {prompt: responses[:-1] for prompt, responses in texts.items()}, baseline


def _sampled(
    model: Any, mixture: Any, ids: Sequence[list[int]], count: int, sampling: Any, seed: int
) -> list[list[Any]]:
    """The responses to each prompt; several processes divide the prompts."""
    import tempfile

    from nashward.llm.policy.mixture import Mixture
    from nashward.llm.processes import processes

    chunk = len(ids) if processes.count == 1 else CHUNK
    with tempfile.TemporaryDirectory() as place:
        if mixture is None:  # an adapter is a folder, also the one that changes nothing
            model.write_start_adapter(Path(place) / "adapter", None)
            mixture = Mixture(((Path(place) / "adapter", 1.0),))
        parts = processes.map(
            lambda first: mixture.sample(model, ids[first : first + chunk], count, sampling, seed, first),
            range(0, len(ids), chunk),
        )
    return [row for part in parts for row in part]


COMMAND = Command(
    "nashward best-of-n --responses ready.jsonl --oracle oracles/mine --out best.jsonl",
    add_arguments,
    run,
    divides=True,
    writes=("out",),
)
