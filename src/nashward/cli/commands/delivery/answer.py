"""``nashward answer``: answer prompts with a policy: a base, an adapter or a mixture of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nashward.cli import configuration, options
from nashward.cli.command import Command
from nashward.errors import NashwardError

if TYPE_CHECKING:
    from nashward.llm import LanguageModel, Mixture, Prompt, Sampling

SAMPLING = ("temperature", "top-p", "max-new-tokens", "sampling-batch", "quantise", "chat-template", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add(parser, options.select(options.INPUTS, ("policy", "prompts")), required=True)
    parser.add_argument("--adapter", type=options.path, help="an adapter's folder or a mixture.json (default: none)")
    parser.add_argument("--out", type=options.path, required=True, help="JSONL file of the answers, one a prompt")
    options.add_groups(parser, options.select(options.RUN, SAMPLING))


def run(given: argparse.Namespace) -> int:
    from nashward.llm.data.responses import read_prompts_in_order
    from nashward.llm.store.files import atomic_write, to_jsonl

    check_out(given.out, folder=False)
    prompts = read_prompts_in_order(given.prompts)
    mixture = _policy(given.adapter)
    model, sampling, seed = loaded(given, mixture)
    with TemporaryDirectory() as folder:
        texts = answers_of(model, mixture or _base(model, Path(folder)), prompts, sampling, seed)
    rows = [{"prompt": prompt.text, "output": text} for prompt, text in zip(prompts, texts, strict=True)]
    with atomic_write(given.out) as unfinished:
        unfinished.write_bytes(to_jsonl(rows))
    print(f"{len(rows)} answers: {given.out}")
    return 0


def _policy(adapter: Path | None) -> Mixture | None:
    """What answers: a mixture as it is stored, or one adapter; None: the base."""
    from nashward.llm import Mixture

    if adapter is None:
        return None
    if adapter.is_dir():
        return Mixture(((adapter, 1.0),))
    return Mixture.load(adapter)


def _base(model: LanguageModel, folder: Path) -> Mixture:
    from nashward.llm import Mixture

    model.write_start_adapter(folder / "none", None)
    return Mixture(((folder / "none", 1.0),))


def loaded(given: argparse.Namespace, mixture: Mixture | None) -> tuple[LanguageModel, Sampling, int]:
    """The model, in the shape of the largest adapter, and how to sample from it."""
    from nashward.llm import LanguageModel, Sampling
    from nashward.llm.policy.loading import adapter_config

    if mixture is not None:
        mixture.check(given.policy)
        for folder, _ in mixture.members:
            adapter_config(folder, given.policy)
    chosen = options.values(given, options.select(options.RUN, SAMPLING))
    seed, template = chosen.pop("seed", 0), chosen.pop("chat_template", None)
    quantise = chosen.pop("quantise", True)
    sampling = Sampling(**chosen)
    model = LanguageModel.from_pretrained(
        given.policy, None if mixture is None else mixture.largest, quantise=quantise, seed=seed,
        chat_template=None if template is None else configuration.template(template),
    )  # fmt: skip
    return model, sampling, seed


def answers_of(
    model: LanguageModel, mixture: Mixture, prompts: Sequence[Prompt], sampling: Sampling, seed: int
) -> list[str]:
    """One answer to each prompt."""
    ids = [model.encode(prompt) for prompt in prompts]
    return [row[0].text for row in mixture.sample(model, ids, 1, sampling, seed)]


def check_out(path: Path, folder: bool) -> None:
    if path.is_dir() and not folder:
        raise NashwardError(f"{path} is a folder; --out names a file")
    if folder and path.exists():
        raise NashwardError(f"{path} exists already; --out names a new folder for the adapter")
    configuration.check_place(path)


COMMAND = Command(
    "nashward answer --policy mistralai/Mistral-7B-Instruct-v0.2 --adapter runs/first/mixture.json "
    "--prompts prompts.jsonl --out answers/it.jsonl",
    add_arguments,
    run,
)
