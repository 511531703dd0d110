"""The commands about finished adapters: ``mix`` several into one policy, ``answer`` prompts with a policy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from . import configuration, options

if TYPE_CHECKING:
    from nashward.llm import LanguageModel, Mixture, Prompt, Sampling

SAMPLING = ("temperature", "top-p", "max-new-tokens", "sampling-batch", "quantise", "chat-template", "seed")
RULES = ("uniform", "linear", "nash")


def add_mix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "adapters",
        nargs="+",
        type=options.path,
        metavar="ADAPTER",
        help="a folder of an adapter, or of a run: its iterates",
    )
    parser.add_argument("--out", type=options.path, required=True, help="the file of the mixture, or the merged folder")
    parser.add_argument(
        "--weights", default="uniform", metavar="RULE",
        help="uniform (default), linear (1, 2, 3, ...), nash (of their tournament), or numbers: 0.5,0.3,0.2",
    )  # fmt: skip
    parser.add_argument(
        "--interpolate",
        action="store_true",
        help="average the networks' weights into one adapter, in place of a mixture",
    )
    options.add_groups(parser, ("policy", "oracle", "prompts", *SAMPLING))


def add_answer(parser: argparse.ArgumentParser) -> None:
    options.add(parser, {"policy": options.MODELS["policy"], "prompts": options.RUN["prompts"]}, required=True)
    parser.add_argument("--adapter", type=options.path, help="an adapter's folder or a mixture.json (default: none)")
    parser.add_argument("--out", type=options.path, required=True, help="JSONL file of the answers, one a prompt")
    options.add_groups(parser, SAMPLING)


def mix(given: argparse.Namespace) -> int:
    from nashward.llm.lora import interpolate
    from nashward.llm.mixture import Mixture, linear, nash_weights, policies, uniform

    adapters = policies(given.adapters)
    if len({adapter.resolve() for adapter in adapters}) < len(adapters):
        raise ValueError("an adapter is given twice; name each once, with --weights for how much it counts")
    _check_out(given.out, folder=given.interpolate)
    Mixture.of(adapters).check(getattr(given, "policy", None))
    if given.weights == "nash":
        weights = nash_weights(_tournament(given, adapters))
    elif given.weights in RULES:
        weights = {"uniform": uniform, "linear": linear}[given.weights](len(adapters))
    else:
        weights = _numbers(given.weights)
    mixture = Mixture.of(adapters, weights)
    if given.interpolate:
        interpolate(mixture.members, given.out)
    else:
        mixture.save(given.out)
    if not given.quiet:
        for folder, weight in mixture.members:
            print(f"  {weight:.3f}  {folder}")
    print(f"{'adapter' if given.interpolate else 'mixture'}: {given.out}")
    return 0


def answer(given: argparse.Namespace) -> int:
    from nashward.llm.folder import lines, whole_file
    from nashward.llm.tournament import read_asked

    _check_out(given.out, folder=False)
    prompts = read_asked(given.prompts)
    mixture = _policy(given.adapter)
    model, sampling, seed = _loaded(given, mixture)
    with TemporaryDirectory() as folder:
        texts = _answers(model, mixture or _base(model, Path(folder)), prompts, sampling, seed)
    rows = [{"prompt": prompt.text, "output": text} for prompt, text in zip(prompts, texts, strict=True)]
    with whole_file(given.out) as unfinished:
        unfinished.write_bytes(lines(rows))
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

    model.start(folder / "none", None)
    return Mixture(((folder / "none", 1.0),))


def _loaded(given: argparse.Namespace, mixture: Mixture | None) -> tuple[LanguageModel, Sampling, int]:
    """The model, in the shape of the largest adapter, and how to sample from it."""
    from nashward.llm import LanguageModel, Sampling

    if mixture is not None:
        mixture.check(given.policy)
    chosen = {name: setting.value for name, setting in configuration.flags(given, SAMPLING).items()}
    seed, template = chosen.pop("seed", 0), chosen.pop("chat-template", None)
    quantise = chosen.pop("quantise", True)
    sampling = Sampling(**{options.RUN[name].path[1]: value for name, value in chosen.items()})
    model = LanguageModel.from_pretrained(
        given.policy, None if mixture is None else mixture.largest, quantise=quantise, seed=seed,
        chat_template=None if template is None else configuration.template(template),
    )  # fmt: skip
    return model, sampling, seed


def _answers(
    model: LanguageModel, mixture: Mixture, prompts: Sequence[Prompt], sampling: Sampling, seed: int
) -> list[str]:
    """One answer to each prompt."""
    ids = [model.encode(prompt) for prompt in prompts]
    return [row[0].text for row in mixture.sample(model, ids, 1, sampling, seed)]


def _tournament(given: argparse.Namespace, adapters: Sequence[Path]) -> Any:
    """The game of the adapters against each other, one answer a prompt each."""
    from nashward.llm import Mixture
    from nashward.llm.oracles import as_oracle
    from nashward.llm.tournament import read_asked, tournament

    missing = [name for name in ("policy", "oracle", "prompts") if getattr(given, name, None) is None]
    if missing:
        raise ValueError(f"--weights nash plays a tournament, which needs --{missing[0]}")
    prompts, oracle = read_asked(given.prompts), as_oracle(given.oracle)
    model, sampling, seed = _loaded(given, Mixture.of(adapters))
    answers = {str(a): _answers(model, Mixture(((a, 1.0),)), prompts, sampling, seed) for a in adapters}
    return tournament(oracle, [prompt.text for prompt in prompts], answers).game


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--weights: expected {', '.join(RULES)} or numbers with commas, got {text!r}") from None


def _check_out(path: Path, folder: bool) -> None:
    if path.is_dir() and not folder:
        raise ValueError(f"{path} is a folder; --out names a file")
    if folder and path.exists():
        raise ValueError(f"{path} exists already; --out names a new folder for the adapter")
    configuration.check_place(path)
