"""``nashward answer``: answer prompts with a policy: a base, an adapter or a mixture of them."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nashward.cli import configuration, options, outputs
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError, RefusedPromptError
from nashward.llm.config import Sampling
from nashward.llm.delivery.benchmarks.answer_files import FORMATS, GREEDY

if TYPE_CHECKING:
    from nashward.llm import LanguageModel, Mixture, Prompt
    from nashward.llm.delivery.benchmarks.answer_files import Question

SAMPLER = ("temperature", "top-p", "max-new-tokens", "sampling-batch")
SAMPLING = (*SAMPLER, "quantise", "chat-template", "seed")
WRITTEN: dict[str | None, tuple[str, ...]] = {  # by format: what a row has that this command wrote
    None: ("output",), "alpaca-eval": ("output", "generator"), "mt-bench": ("answer_id",), "arena-hard": ("ans_id",),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add(parser, options.select(options.INPUTS, ("policy", "prompts")), required=True)
    parser.add_argument("--adapter", type=options.path, help="an adapter's folder or a mixture.json (default: none)")
    parser.add_argument("--out", type=options.path, required=True, help="JSONL file of the responses, one per prompt")
    parser.add_argument(
        "--format", choices=FORMATS,
        help="the format of a public benchmark, whose questions --prompts then are, as its repository has them: the "
        "set of AlpacaEval, the question.jsonl of MT-Bench (both turns, at the temperatures of its categories) or "
        "that of Arena-Hard v2",
    )  # fmt: skip
    parser.add_argument("--name", help="name of the model, with --format (default: the name of --out)")
    options.add_groups(parser, {**options.PROMPT_FIELD, **options.select(options.RUN, SAMPLING)})


def run(args: argparse.Namespace) -> int:
    check_out(args.out, folder=False)
    outputs.check_replaced(args.out, WRITTEN[args.format])
    sampling_of(args)  # a setting out of range is refused before anything is loaded

    from nashward.llm import Mixture
    from nashward.llm.data.responses import read_prompts_in_order
    from nashward.llm.policy.chat_template import prompt_ids
    from nashward.llm.store.files import write_jsonl

    column = options.prompt_field(args)
    if args.format is not None:
        if column is not None:
            raise NashwardError(f"--prompt-field {column}: --format reads the fields of its benchmark; leave one out")
        return _benchmark(args)
    if args.name is not None:
        raise NashwardError("--name is the model's in the file of a benchmark; give --format, or leave it out")
    prompts = read_prompts_in_order(args.prompts, column)
    mixture = None if args.adapter is None else Mixture.at(args.adapter)
    model, sampling, seed = loaded(args, mixture)
    found: list[list[int] | RefusedPromptError] = [
        one if prompt.text.strip() else RefusedPromptError("it is empty", "empty")
        for prompt, one in zip(prompts, prompt_ids(model.tokenizer, prompts), strict=True)
    ]
    ids = [one for one in found if isinstance(one, list)]
    refused = Counter(one.reason for one in found if not isinstance(one, list))
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
    if not ids:
        raise NashwardError(f"no prompt can be answered: {counted(len(prompts), 'prompt')} read, {reasons or 'none'}")
    with TemporaryDirectory() as folder:
        texts = iter(answers_of(model, mixture or _base(model, Path(folder)), ids, sampling, seed))
    rows = [
        {**_prompt_fields(prompt), "output": next(texts) if isinstance(one, list) else None}
        for prompt, one in zip(prompts, found, strict=True)
    ]
    write_jsonl(args.out, rows)
    print(f"{len(ids)} answers: {args.out}" + (f"; prompts without an answer (null): {reasons}" if refused else ""))
    return 0


def _benchmark(args: argparse.Namespace) -> int:
    """Answer the questions of a public benchmark, turn by turn, and write the file that its programs read."""
    from nashward.llm import Mixture
    from nashward.llm.delivery.benchmarks.answer_files import answer_rows, read_questions, token_counter
    from nashward.llm.store.files import write_json, write_jsonl

    questions = read_questions(args.prompts, args.format)
    tokens = token_counter() if args.format == "arena-hard" else len
    mixture = None if args.adapter is None else Mixture.at(args.adapter)
    model, sampling, seed = loaded(args, mixture)
    if "temperature" in vars(args):  # given: it counts more than the benchmark's own
        questions = [dataclasses.replace(question, temperature=None) for question in questions]
    with TemporaryDirectory() as folder:
        answers = _turn_by_turn(model, mixture or _base(model, Path(folder)), questions, sampling, seed)
    name = args.name or args.out.name.split(".")[0]
    rows = answer_rows(args.format, questions, answers, name, time.time(), tokens)
    as_list = args.format == "alpaca-eval" and args.out.suffix == ".json"
    if as_list:
        write_json(args.out, rows)
    else:
        write_jsonl(args.out, rows)
    print(f"{len(rows)} answers of {name}, {args.format}: {args.out}")
    return 0


def _turn_by_turn(
    model: LanguageModel, mixture: Mixture, questions: Sequence[Question], sampling: Sampling, seed: int
) -> list[list[str]]:
    """The answers to the turns of each question, each turn after the answers to those before."""
    from nashward.llm import Prompt

    answers: list[list[str]] = [[] for _ in questions]
    for turn in range(max(len(question.turns) for question in questions)):
        places = [k for k, question in enumerate(questions) if turn < len(question.turns)]
        for temperature in sorted({questions[k].temperature or sampling.temperature for k in places}):
            own = [k for k in places if (questions[k].temperature or sampling.temperature) == temperature]
            ids = []
            for k in own:
                history = [
                    {"role": role, "content": text}
                    for exchange in zip(questions[k].turns, answers[k], strict=False)
                    for role, text in zip(("user", "assistant"), exchange, strict=True)
                ]
                ids.append(model.encode(Prompt((*history, {"role": "user", "content": questions[k].turns[turn]}))))
            at = dataclasses.replace(sampling, temperature=temperature)
            for k, text in zip(own, answers_of(model, mixture, ids, at, seed + turn), strict=True):
                answers[k].append(text)
    return answers


def _prompt_fields(prompt: Prompt) -> dict[str, Any]:
    """A prompt as every reader of answers finds it again."""
    return {"prompt": prompt.text} if len(prompt.messages) == 1 else {"messages": list(prompt.messages)}


def _base(model: LanguageModel, folder: Path) -> Mixture:
    from nashward.llm import Mixture

    model.write_start_adapter(folder / "none", None)
    return Mixture(((folder / "none", 1.0),))


def loaded(args: argparse.Namespace, mixture: Mixture | None) -> tuple[LanguageModel, Sampling, int]:
    """The model, with room for each adapter, and how to sample from it."""
    from nashward.llm import LanguageModel
    from nashward.llm.policy.adapters.adapter_config import adapter_config

    chosen = options.values(args, options.select(options.RUN, SAMPLING))
    seed, template = chosen.get("seed", 0), chosen.get("chat_template")
    if mixture is not None:
        mixture.check(args.policy)
        for folder, _ in mixture.members:
            adapter_config(folder, args.policy)
    model = LanguageModel.from_pretrained(
        args.policy, lora=None if mixture is None else mixture.slots, quantise=chosen.get("quantise"), seed=seed,
        chat_template=None if template is None else configuration.template(template),
    )  # fmt: skip
    return model, sampling_of(args), seed


def sampling_of(args: argparse.Namespace) -> Sampling:
    """How to sample; a temperature of 0 is greedy."""
    chosen = options.values(args, options.select(options.RUN, SAMPLER))
    if chosen.get("temperature") == 0:
        chosen["temperature"] = GREEDY
    return Sampling(**chosen)


def answers_of(
    model: LanguageModel, mixture: Mixture, ids: Sequence[Sequence[int]], sampling: Sampling, seed: int
) -> list[str]:
    """One answer to each prompt, which are token ids."""
    return [row[0].text for row in mixture.sample(model, ids, 1, sampling, seed)]


def check_out(path: Path, folder: bool) -> None:
    if not folder:
        outputs.check_file("--out", path, "it.jsonl")
    elif path.exists():
        raise NashwardError(f"{path} exists already; --out names a new folder for the adapter")
    configuration.check_place(path)


COMMAND = Command(
    "nashward answer --policy mistralai/Mistral-7B-Instruct-v0.2 --adapter runs/first/mixture.json "
    "--prompts prompts.jsonl --out answers/it.jsonl",
    add_arguments,
    run,
    writes=("out",),
)
