"""Self-play of a real chat model under an oracle fitted to public verdicts: does it win on prompts that nothing saw?

    NASHWARD_DATA=FOLDER python benchmarks/real_policy.py [--out build/real-policy] [--prompts 256] [--iterations 2]
        [--judge verdicts|everyday] [--length keep|remove] [--learner nashward|online-dpo]
        [--lora-targets all|attention|mlp]

Needs the extra ``real`` and a folder with AlpacaEval's prompts, the baseline's outputs and its public verdicts. Of the
805 prompts 205 are kept for the evaluation. The others are halved: an oracle is fitted to the verdicts on each half
(on states of MiniLM), and a third to the verdicts on the second half with the effect of length removed. SmolLM2-135M
plays itself under the first by multiplicative weights, on a base in float32; learning rate, epochs and batch are the
defaults, and a seventh of the prompts each validates and is held out. With ``--length remove`` the oracle of the run is
without the effect of length too. With ``--judge everyday`` it plays under a majority of three judges that need no
votes, and each of them is a column of its own. With ``--learner online-dpo`` TRL's online DPO plays in its place (see
``online_dpo.py``). Every part is kept in the folder, so that the same command goes on where it was stopped.

It prints the fit of each iteration, and the win rates of the iterates over the start on the 205 prompts, with errors by
prompt: under the oracle of the run, under the others, and what was lost (repetition, distinct-2, length).
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from responses import drawn_once

from nashward import games, llm
from nashward.cli.solver_options import DEFAULT_STEP
from nashward.llm.config import FitSettings
from nashward.llm.evaluation.over_optimisation import verdicts
from nashward.llm.evaluation.win_rates.win_rate import WinRate, win_rate
from nashward.llm.oracles import as_oracle, preference_matrices
from nashward.llm.oracles.fitting.fit import fit_oracle
from nashward.llm.oracles.fitting.votes import Vote
from nashward.llm.oracles.judges.everyday import EverydayMajority
from nashward.llm.policy.local.names import local_model
from nashward.llm.report.content import with_error
from nashward.llm.store.files import write_json

POLICY = "real:smollm2-135m"
EVALUATED = 205
ORACLES = {
    "keep": {"the run's oracle": ("first", "keep"), "held-out oracle": ("second", "keep"),
             "held-out oracle, length removed": ("second", "remove")},
    "remove": {"the run's oracle": ("first", "remove"), "held-out oracle, length removed": ("second", "remove"),
               "held-out oracle, length kept": ("second", "keep")},
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/real-policy"))
    parser.add_argument("--prompts", type=int, default=256, help="that the policy plays on")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--responses", type=int, default=4, help="to a prompt, in the run and in the evaluation")
    parser.add_argument("--tokens", type=int, default=48, help="of a response at most")
    parser.add_argument("--step", type=float, default=DEFAULT_STEP, help="of multiplicative weights")
    parser.add_argument("--kind", default="bt", choices=("bt", "gpm", "pairrm"), help="of the oracles")
    parser.add_argument("--judge", default="verdicts", choices=("verdicts", "everyday"), help="of the run")
    parser.add_argument("--length", default="keep", choices=list(ORACLES), help="its effect on the run's verdicts")
    parser.add_argument("--learner", default="nashward", choices=("nashward", "online-dpo"))
    parser.add_argument("--learning-rate", type=float, help="of online DPO; nashward's fits choose their own")
    parser.add_argument("--seconds", type=float, help="CPU seconds after which online DPO ends")
    parser.add_argument("--lora-targets", default="all", help="layers that the adapter changes: all, attention, mlp")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    data = os.environ.get("NASHWARD_DATA")
    if not data or not (Path(data) / "alpacaeval" / "verdicts.jsonl.gz").is_file():
        print("skipped: set NASHWARD_DATA to a folder with alpacaeval/verdicts.jsonl.gz")
        return 0
    torch.set_num_threads(args.threads)
    alpaca = Alpaca(Path(data) / "alpacaeval")
    args.out.mkdir(parents=True, exist_ok=True)
    seconds = Seconds()
    oracles: dict[str, Any] = {}
    if args.judge == "everyday":
        majority = EverydayMajority()
        oracles = {majority.name: majority} | {judge.name: judge for judge in majority.members}
    else:
        for name, (half, length) in ORACLES[args.length].items():
            oracles[name] = fitted(args.out, args.kind, half, length, alpaca)
            seconds.lap(f"oracle {half}, length {length}")
    oracle = next(iter(oracles.values()))
    solver = games.MWU(args.step)
    config = llm.RunConfig(
        iterations=args.iterations, responses=args.responses, quantise=False,
        sampling=llm.Sampling(max_new_tokens=args.tokens), fit=llm.Fit(tokens=1024, validation=0.15, held_out=0.15),
        lora=llm.Lora(targets=args.lora_targets),
    )  # fmt: skip
    play = llm.SelfPlay(
        policy=POLICY, oracle=oracle, solver=solver, folder=args.out / "run",
        prompts=[alpaca.prompts[i] for i in alpaca.training[: args.prompts]], config=config,
    )  # fmt: skip
    players, rows = dict[str, Path](), list[dict[str, Any]]()
    if args.learner == "online-dpo":
        from online_dpo import OnlineDPO

        players["start"] = args.out / "start"
        if not players["start"].is_dir():
            play.model.write_start_adapter(players["start"], None)
        learner = OnlineDPO(args.learning_rate, args.tokens, args.iterations * args.responses // 2, args.seconds)
        base, texts = Path(local_model(POLICY)), [alpaca.prompts[i] for i in alpaca.training[: args.prompts]]
        players["online DPO"] = learner.train(base, oracle, texts, args.out / "online-dpo")
    else:
        run = play.run()
        rows = [summary(row) for row in run.metrics]
        players["start"] = run.folder / "start" / "adapter"
        players |= {row["iteration"]: run.folder / row["iteration"] / "adapter" for row in run.metrics}
    seconds.lap("self-play")
    texts = alpaca.evaluated
    responses = {
        name: drawn_once(args.out / f"evaluation-{name}.jsonl", play, folder, texts, args.responses, seed)
        for seed, (name, folder) in enumerate(players.items(), 1)  # a win rate is of independent draws
    }
    seconds.lap("responses of the evaluation")
    results = {name: compared(responses[name], responses["start"], texts, oracles) for name in [*players][1:]}
    seconds.lap("judging of the evaluation")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report = {"settings": vars(args) | {"out": str(args.out)}, "fits": rows, "evaluation": results,
              "seconds": seconds.laps, "peak_gib": peak}  # fmt: skip
    write_json(args.out / "result.json", report)
    show(report, list(oracles))
    return 0


class Seconds:
    """Wall time between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self.last = now - self.last, now
        print(f"{name}: {self.laps[name]:.0f} s", file=sys.stderr)


class Alpaca:
    """AlpacaEval's prompts and public verdicts, in parts: half for each oracle, the rest for the evaluation alone.

    Attributes:
        training: numbers of prompts, those of both halves in turn.
        evaluated: the texts of the others.
    """

    def __init__(self, folder: Path):
        rows = json.loads(unpacked(folder / "prompts.json.gz"))
        self.prompts = [row if isinstance(row, str) else row["instruction"] for row in rows]
        baseline = json.loads(unpacked(folder / "outputs" / "gpt4_1106_preview.json.gz"))
        self.baseline = [row if isinstance(row, str) else row["output"] for row in baseline]
        self.verdicts = [json.loads(line) for line in unpacked(folder / "verdicts.jsonl.gz").splitlines()]
        order = list(range(len(self.prompts)))
        random.Random(0).shuffle(order)
        half = (len(order) - EVALUATED) // 2
        self.halves = {"first": order[EVALUATED : EVALUATED + half], "second": order[EVALUATED + half :]}
        pairs = itertools.zip_longest(*self.halves.values())
        self.training = [i for pair in pairs for i in pair if i is not None]
        self.evaluated = [self.prompts[i] for i in order[:EVALUATED]]

    def votes(self, half: str) -> list[Vote]:
        inside = set(self.halves[half])
        return [
            Vote(self.prompts[row["i"]], row["response"], self.baseline[row["i"]], wins=row["p"], n=1)
            for row in self.verdicts
            if row["i"] in inside
        ]


def unpacked(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes())


def fitted(out: Path, kind: Any, half: str, length: Any, alpaca: Alpaca) -> Any:
    """The oracle of a half of the verdicts, fitted where the folder has none yet."""
    folder = out / f"oracle-{kind}-{half}-{length}"
    if not folder.is_dir():
        fit = fit_oracle(alpaca.votes(half), "real:minilm", kind, folder, FitSettings(length=length))
        print(f"oracle {half}, length {length}: held-out log-loss {fit.log_loss:.3f}, length alone {fit.length:.3f}")
    return as_oracle(str(folder))


def compared(ours: Any, others: Any, texts: Sequence[str], oracles: dict[str, Any]) -> dict[str, Any]:
    """Win rates of a policy over the start under each oracle, and what was lost."""
    first, second = ([[response.text for response in row] for row in policy] for policy in (ours, others))
    rates = {name: win_rate(oracle, texts, first, second) for name, oracle in oracles.items()}
    pairs = [(a[0], b[0]) for a, b in zip(ours, others, strict=True)]
    judged = {
        name: [table.P[0, 1] for table in preference_matrices(oracle, texts, [[a.text, b.text] for a, b in pairs])]
        for name, oracle in oracles.items()
    }
    training, *held_out = judged
    lost = verdicts(
        [a.ids for a, _ in pairs],
        [b.ids for _, b in pairs],
        judged[training],
        {name: judged[name] for name in held_out},
    )
    return {
        "win_rates": {name: vars(rate) for name, rate in rates.items()},
        "verdicts": [str(verdict) for verdict in lost],
    }


def summary(row: dict[str, Any]) -> dict[str, Any]:
    held = row["held_out"]
    return {
        "iteration": row["iteration"], "target_rms": row["at_start"]["target_rms"],
        "learning_rate": row["learning_rate"], "line_fraction": row["line_fraction"], "r2": held["r2"],
        "r2_error": held["r2_error"], "share": held["share"], "best_scale": held["best_scale"], "kl": held["kl"],
        "promised_win_rate": row["promised_win_rate"], "win_rate": row["win_rate"], "warning": row["warning"],
        "cyclic_prompts": row["cyclic_prompts"],
    }  # fmt: skip


def figure(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def show(report: dict[str, Any], names: list[str]) -> None:
    print("| fit | target, nats | rate | fraction | held-out R2 | share | s* | KL | promised | win rate, first order |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in report["fits"]:
        print(
            f"| {row['iteration']} | {row['target_rms']:.2f} | {row['learning_rate']:.1e} | {row['line_fraction']:.2f} "
            f"| {with_error(row['r2'], row['r2_error'], 2)} | {row['share']:.2f} | {figure(row['best_scale'])} "
            f"| {row['kl']:.3f} | {row['promised_win_rate']:.3f} | {figure(row['win_rate'], '.3f')} |"
        )
    print(f"\n| win rate over the start on {EVALUATED} prompts | {' | '.join(names)} |")
    print("|---|" + "---|" * len(names))
    for policy, result in report["evaluation"].items():
        rates = [WinRate(**result["win_rates"][name]) for name in names]
        print(f"| {policy} | {' | '.join(map(str, rates))} |")
    for policy, result in report["evaluation"].items():
        print(f"\n{policy}: " + "; ".join(result["verdicts"]))
    for row in report["fits"]:
        if row["warning"]:
            print(f"{row['iteration']}: {row['warning']}")
    print("\nseconds: " + ", ".join(f"{name} {value:.0f}" for name, value in report["seconds"].items()))
    print(f"peak memory {report['peak_gib']:.2f} GiB")


if __name__ == "__main__":
    sys.exit(main())
