"""``nashward export``: a policy of a run for other programs, its preference data, its model card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward.cli import configuration, options, outputs
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError

if TYPE_CHECKING:
    from nashward.llm.policy.mixture import Mixture

KINDS = ("merged", "adapter", "preferences", "model-card")
GGUF = ("gguf", "llama.cpp", "llama-cpp", "ollama")  # which llama.cpp's own converter writes
INTO = ("16-bit", "4-bit")
EXISTING = {"merged": ("config.json",), "adapter": ("adapter_config.json", "mixture.json")}  # the file it is known by
LIMIT = 1.5
# the options of --to merged and adapter, with their defaults; of a model card those of CARD
POLICY_OPTIONS: dict[str, Any] = {
    "of": None, "merge_into": INTO[0], "interpolate": False, "verify": True, "existing": False, "responses": 200,
    "limit": LIMIT, "base_name": None, "seed": 0,
}  # fmt: skip
CARD = ("of", "base_name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=options.path, help="the run folder; the run need not be finished")
    parser.add_argument(
        "--to", type=_kind, choices=KINDS, required=True,
        help="merged: the base with the adapter in its weights; adapter: for PEFT and vLLM; preferences: the judged "
        "responses, in TRL's formats and whole; model-card: a README.md. GGUF: docs/serve.md",
    )  # fmt: skip
    parser.add_argument("--out", type=options.path, required=True, help="a new folder (model-card: a file)")
    parser.add_argument(
        "--of", metavar="POLICY", help="start, iteration-03, ... or mixture (default: the last iterate)"
    )
    parser.add_argument(
        "--merge-into", choices=INTO,
        help="for a run on a 4-bit base: the weights as they are stored, or these rounded to 4 bits as in the run, "
        "both written in 16 bits (default: 16-bit; the verification says which is nearer)",
    )  # fmt: skip
    parser.add_argument(
        "--interpolate", action="store_true", help="for a mixture: one adapter with the members' averaged weights"
    )
    parser.add_argument(
        "--verify", action=argparse.BooleanOptionalAction,
        help="replay stored responses through what was written, and end with 1 where it is another policy (default: "
        "yes)",
    )  # fmt: skip
    parser.add_argument(
        "--existing", action="store_true", help="write nothing: verify what lies at --out, whoever wrote it"
    )
    parser.add_argument("--responses", type=options.whole, help="stored responses to replay, at most (default: 200)")
    parser.add_argument(
        "--limit", type=float,
        help=f"the most that it may drift, as a multiple of the base's own rounding (default: {LIMIT:g})",
    )  # fmt: skip
    parser.add_argument(
        "--base-name", metavar="ID", help="what the base is called in adapter and card (default: as in the run)"
    )
    parser.add_argument("--policy", default=argparse.SUPPRESS, help="where the run's base is now, if it was moved")
    parser.add_argument("--oracle", default=argparse.SUPPRESS, help="where the run's oracle is now, if it was moved")
    parser.add_argument("--seed", type=options.whole, help="seed of the draw of responses (default: 0)")
    parser.set_defaults(**POLICY_OPTIONS)


def _kind(text: str) -> str:
    """What is written, as it was typed."""
    if text.lower() in GGUF:
        raise argparse.ArgumentTypeError(
            f"{text} is not written here: llama.cpp's converter makes a GGUF file of what --to merged writes, for "
            "Ollama too (docs/serve.md has the lines)"
        )
    return text


def run(args: argparse.Namespace) -> int:
    _check(args)
    if args.to == "preferences":
        return _preferences(args)
    play = _run_of(args)
    if args.to == "model-card":
        return _model_card(args, play)
    return _policy(args, play)


def _check(args: argparse.Namespace) -> None:
    if args.to not in EXISTING:
        for name, default in POLICY_OPTIONS.items():
            if getattr(args, name) != default and not (args.to == "model-card" and name in CARD):
                option = "no-verify" if name == "verify" else name.replace("_", "-")
                raise NashwardError(f"--{option} is of a policy, not of --to {args.to}; leave it out")
    if args.to == "adapter" and args.merge_into != INTO[0]:
        raise NashwardError("--merge-into is of --to merged; an adapter stays apart from its base")
    if args.existing and not args.verify:
        raise NashwardError("--existing verifies, and --no-verify does not: leave one of them out")
    if args.responses < 1:
        raise NashwardError(f"--responses is {args.responses}; expected at least 1")
    if not args.limit > 0:
        raise NashwardError(f"--limit is {args.limit:g}; expected a number above 0")
    if args.seed < 0:
        raise NashwardError(f"--seed is a whole number >= 0, got {args.seed}")
    if not (args.folder / "run.json").exists():
        raise FileNotFoundError(f"{args.folder} holds no run (it has no run.json)")
    if args.existing:
        if not args.out.is_dir():
            raise FileNotFoundError(f"there is no folder {args.out} to verify")
        names = EXISTING[args.to]
        if not any((args.out / name).is_file() for name in names):
            raise NashwardError(
                f"{args.out} is no folder of --to {args.to} (it has no {' or '.join(names)}); name one, or leave out "
                "--existing to write a new one"
            )
        return
    if args.to == "model-card":
        outputs.check_file("--out", args.out, "README.md")
    elif args.out.exists():
        raise NashwardError(f"{args.out} exists already; --out names a new folder, --existing verifies what is there")
    configuration.check_place(args.out)


def _run_of(args: argparse.Namespace) -> Any:
    play = configuration.run_of(args)
    if play.policy is None and args.to != "model-card":
        raise NashwardError("the run does not know its policy yet; give its base with --policy")
    return play


def _named(args: argparse.Namespace) -> tuple[str, Mixture]:
    """The policy that is exported, with its name."""
    from nashward.llm.evaluation.players import MIXTURE, policies
    from nashward.llm.store.run_folder import RunFolder

    players = policies(RunFolder(args.folder))
    name = args.of if args.of is not None else [player for player in players if player != MIXTURE][-1]
    if name not in players:
        raise NashwardError(f"the run has no policy {name}; it has {', '.join(players)}")
    return name, players[name]


def _policy(args: argparse.Namespace, play: Any) -> int:
    from nashward.llm.delivery.artefacts import Artefact
    from nashward.llm.policy.base.checks import check_policy

    name, policy = _named(args)
    if args.interpolate and len(policy.members) == 1:
        raise NashwardError(f"{name} is one adapter, nothing to interpolate; give --of mixture")
    if args.merge_into == "4-bit" and play.config.quantise is False:
        raise NashwardError("--merge-into 4-bit: the run had its base in its own precision; leave it out")
    check_policy(str(play.policy), play.config.chat_template)
    artefact = Artefact(
        play, name, policy, args.merge_into if args.to == "merged" else None, args.interpolate, args.base_name
    )
    progress: Any = (lambda message: None) if args.quiet else print
    reference = None
    if args.verify:
        progress(f"replaying stored responses through the run's own {name}")
        reference, cost = artefact.reference(args.responses, args.seed)
        if cost is not None:
            print(cost)
    if not args.existing:
        progress(f"writing {args.out}")
        artefact.write(args.out, reference.quantised if reference is not None else None)
        print(f"{args.to} of {name}: {args.out}")
        if args.to == "adapter" and (place := artefact.local_base) is not None:
            inside = " in a Python environment" if place.is_relative_to(sys.prefix) else ""
            print(
                f"note: it names its base by a folder of this machine{inside}, {place}, which PEFT does not find "
                "elsewhere; --base-name ID writes the name that the base has there"
            )
    if reference is None:
        print("not verified (--no-verify)")
        return 0
    verdict = artefact.verify(args.out, reference, args.limit, progress)
    print("\n".join(verdict.lines))
    print("verified" if verdict.passed else f"{args.out} is not the policy of the run")
    return 0 if verdict.passed else 1


def _preferences(args: argparse.Namespace) -> int:
    from nashward.llm.delivery.preferences import preferences, write_preferences
    from nashward.llm.oracles.ensembles.objectives import in_words
    from nashward.llm.store.run_folder import RunFolder

    found = preferences(RunFolder(args.folder))
    write_preferences(found, args.out)
    for name, rows in found.rows.items():
        print(f"{counted(len(rows), 'row')}: {args.out / name}.jsonl and .parquet")
    if found.weights:
        print(f"preferred by {in_words(found.weights)}, the weights of the objectives in the run's last step")
    if found.left_out:
        print(
            "left out of pairs and labels: "
            + ", ".join(f"{n} {reason}" for reason, n in sorted(found.left_out.items()))
        )
    return 0


def _model_card(args: argparse.Namespace, play: Any) -> int:
    from nashward.llm.delivery.model_card import model_card
    from nashward.llm.store.files import atomic_write

    name, _ = _named(args)
    with atomic_write(Path(args.out)) as unfinished:
        unfinished.write_text(model_card(play, name, args.base_name), encoding="utf-8")
    print(f"model card: {args.out}")
    return 0


COMMAND = Command(
    "nashward export runs/first --to merged --out served/first",
    add_arguments,
    run,
    writes=("out",),
)
