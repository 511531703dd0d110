"""What a fit on few prompts can learn: a stored iteration fitted again in many ways, and the most that any can reach.

    python benchmarks/fit_study.py --run FOLDER... [--out build/fit-study] [--methods adamw ridge ...] [--splits 2]
        [--linear 20] [--limit SECONDS]

Each FOLDER is that of a run whose first iteration is finished: its responses and judgements are read, and nothing is
sampled or judged. Of each random split of its prompts a quarter is held out. A method fits the same targets from the
same start on the rest, goes along the straight line to where it went as far as the prompts kept for it say (a sixth of
the rest; a ridge predicts each prompt from the others and keeps none), and is measured on the prompts held out:

- adamw: as the run was fitted; half, quarter: at a half and a quarter of its rate with 2 and 4 times the epochs;
- lbfgs: on all prompts at once, as many evaluations as ``--evaluations``;
- ridge: on the gradients of single responses, two passes and no learning rate (``gradient_ridge.py``);
- mlp, attention, ridge-mlp: on the adapters of these layers alone;
- centred: adamw on targets less their mean over the prompt, the control variate over the K responses.

``--linear`` compares more ways by the gradients alone, where the adapter begins and the log-ratio is linear in it
(``linear_fits.py``): nothing is trained, so that many splits cost nothing.

What is done is kept in the folder, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gradient_ridge import CountSketch, Ridge, response_gradients
from linear_fits import Responses, divided, study
from stored_iteration import StoredIteration
from torch import Tensor

from nashward.llm.config.fit import Fit
from nashward.llm.policy.model import LanguageModel
from nashward.llm.store.files import write_json
from nashward.llm.training.batches import MicroBatch, backward_by_pass
from nashward.llm.training.diagnostics import experience, fit_metrics
from nashward.llm.training.gradient import Gradient
from nashward.llm.training.optimize import fit, order
from nashward.llm.training.regression import line_minimum, r2_ceiling, win_rate_variances
from nashward.llm.training.trial_step import learning_rate

METHODS = ("adamw", "half", "quarter", "lbfgs", "ridge", "ridge-mlp", "mlp", "attention", "centred")
SLOWER = {"half": 2, "quarter": 4}
LAYERS = {"mlp": ["MLP"], "ridge-mlp": ["MLP"], "attention": ["attention"]}  # whose adapters alone are fitted
VALIDATION = 1 / 6  # of the prompts that are not held out
WIDTH = 2**16  # of a gradient's sketch
FURTHEST = 6.0  # along the line; in a run it is 2
SAVED = 16  # prompts between two savings of the gradients


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("build/fit-study"))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--linear", type=int, default=20, help="splits of the linear fits; 0: none")
    parser.add_argument("--evaluations", type=int, default=60, help="of the gradient by lbfgs, at most")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which nothing further begins")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    ends = time.monotonic() + args.limit
    iterations = {run: StoredIteration.read(run) for run in args.run}
    models = Models()
    for run, iteration in iterations.items():
        if not gradients_file(iteration, args.out).exists():
            write_gradients(iteration, models, args.out, ends)
        if time.monotonic() > ends:
            break
        if args.linear > 0 and known(args.out, run, "linear").get("splits") != args.linear:
            of = Responses(iteration, read_gradients(iteration, args.out)[1])
            write_json(file_of(args.out, run, "linear"), {"splits": args.linear, "rows": study(of, args.linear)})
        for method in args.methods:
            measure(run, iteration, models, method, args, ends)
    show(iterations, args)
    return 0


class Models:
    """The networks of the runs' policies, each read once."""

    def __init__(self) -> None:
        self._read: dict[str, LanguageModel] = {}

    def __getitem__(self, iteration: StoredIteration) -> LanguageModel:
        policy = iteration.config["policy"]
        if policy not in self._read:
            self._read = {policy: iteration.model()}
        return self._read[policy]


def file_of(out: Path, run: Path, name: str) -> Path:
    return out / "-".join([*run.resolve().parts[-3:], name]).__add__(".json")


def known(out: Path, run: Path, name: str) -> dict[str, Any]:
    file = file_of(out, run, name)
    return json.loads(file.read_text()) if file.exists() else {}


def gradients_file(iteration: StoredIteration, out: Path) -> Path:
    return out / f"gradients-{iteration.samples}.pt"


def read_gradients(iteration: StoredIteration, out: Path) -> tuple[Tensor, dict[str, Tensor], float]:
    """The responses' log-probabilities, ``[N, K]``, the sketches of their gradients by kind of layer, and the CPU
    seconds that a response took."""
    kept = torch.load(gradients_file(iteration, out))
    sketches = {name: torch.stack(rows) for name, rows in kept["sketches"].items()}
    values = torch.tensor(kept["logprobs"]).reshape(len(iteration.rollouts), -1)
    return values, sketches, kept["seconds"] / values.numel()


def write_gradients(iteration: StoredIteration, models: Models, out: Path, ends: float) -> None:
    """Sketch the gradient of each response by B, where B = 0; what is done by ``ends`` is kept."""
    file, count = gradients_file(iteration, out), len(iteration.rollouts[0].responses)
    part = file.with_suffix(".part")
    empty: dict[str, Any] = {"logprobs": [], "sketches": {"attention": [], "MLP": []}, "seconds": 0.0}
    kept = torch.load(part) if part.exists() else empty
    model, todo = models[iteration], iteration.rollouts[len(kept["logprobs"]) // count :]
    sketch = {name: CountSketch(WIDTH, seed) for seed, name in enumerate(kept["sketches"])}
    with model.training(iteration.start):
        layers = trained_layers(model)
        weights = [weight for name in sketch for weight in layers[name]]
        for begin in range(0, len(todo), SAVED):
            began = time.process_time()
            for value, gradients in response_gradients(model, weights, todo[begin : begin + SAVED]):
                kept["logprobs"].append(float(value))
                cut = len(layers["attention"])
                for name, slopes in (("attention", gradients[:cut]), ("MLP", gradients[cut:])):
                    kept["sketches"][name].append(sketch[name](slopes))
            kept["seconds"] += time.process_time() - began
            torch.save(kept, part)
            if time.monotonic() > ends:
                break
    if len(kept["logprobs"]) == count * len(iteration.rollouts):
        part.replace(file)


def trained_layers(model: LanguageModel) -> dict[str, list[torch.nn.Parameter]]:
    """B of the adapters in training, by the kind of their layer; A gets no gradient from here on: where B = 0 it has
    none."""
    layers: dict[str, list[torch.nn.Parameter]] = {"attention": [], "MLP": []}
    for name, weight in model.network.named_parameters():
        if "lora_A" in name:
            weight.requires_grad_(False)
        if "lora_B" in name and ".trained." in name:
            layers["attention" if "attn" in name else "MLP"].append(weight)
    return layers


def measure(
    run: Path, iteration: StoredIteration, models: Models, method: str, args: argparse.Namespace, ends: float
) -> None:
    """Fit and measure the splits that are not there yet."""
    rows = list(known(args.out, run, method).get("rows", []))
    if len(rows) >= args.splits or time.monotonic() > ends:
        return
    print(f"{run}: {method}", file=sys.stderr, flush=True)
    logprobs, sketches, seconds = read_gradients(iteration, args.out)
    layers = LAYERS.get(method, list(sketches))
    features = torch.cat([sketches[name] for name in layers], 1).double()
    gram, is_ridge = features @ features.mT, method.startswith("ridge")
    model, settings = models[iteration], iteration.fit
    for split in range(len(rows), args.splits):
        if time.monotonic() > ends:
            break
        held_out, others = divided(len(iteration.rollouts), split)
        kept = 0 if is_ridge else max(2, round(VALIDATION * len(others)))
        parts = [others[kept:], others[:kept], held_out]
        training, validation, testing = (iteration.batches(model, part, logprobs) for part in parts)
        with model.training(iteration.start) as weights:
            start = [weight.detach().clone() for weight in weights]
            forget_peak()
            began = time.process_time()
            if is_ridge:
                numbers = torch.tensor(sorted(parts[0]))
                found = fit_ridge(iteration, model, training, gram, numbers, layers)
                scale, about = found.scale, {"penalty": found.penalty, "r2_left_out": found.r2}
                spent = time.process_time() - began + seconds * sum(batch.weights.numel() for batch in training)
            else:
                about = descend(method, model, list(weights), training, iteration.size, settings, split, args)
                spent = time.process_time() - began
                scale = best_scale(model, validation, iteration.size, settings)
            scale = min(max(scale, 0.0), FURTHEST)
            peak = peak_gib()
            with torch.no_grad():
                for weight, begin in zip(weights, start, strict=True):
                    weight.copy_(torch.lerp(begin, weight, scale))
            model.network.eval()
            now = [batch.logprobs(model.network, model.pad_id) for batch in testing]
            figures = fit_metrics(experience(testing, iteration.size, settings.baseline, now))
        rows.append({"split": split, "scale": scale, "cpu_seconds": spent, "peak_gib": peak, **about, **figures})
        write_json(file_of(args.out, run, method), {"rows": rows})


def forget_peak() -> None:
    """Let the peak of the process's memory begin at what it holds now (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def fit_ridge(
    iteration: StoredIteration,
    model: LanguageModel,
    training: Sequence[MicroBatch],
    gram: Tensor,
    numbers: Tensor,
    names: Sequence[str],
) -> Ridge:
    """B = sum a(y) g(y) of the layers of these kinds, written into the adapter by one pass over the responses."""
    count = len(iteration.rollouts[0].responses)
    places = (numbers[:, None] * count + torch.arange(count)).flatten()
    target = iteration.targets().flatten()[places]
    found = Ridge.of(gram[places][:, places], target, count)
    coefficient = {
        iteration.rollouts[int(number)].prompt: row
        for number, row in zip(numbers, found.a.float().reshape(-1, count), strict=True)
    }
    layers = trained_layers(model)
    for batch in training:
        a = torch.cat([coefficient[rollout.prompt] for rollout in batch.rollouts])
        backward_by_pass(
            model.network, batch.texts, batch.passes, model.pad_id,
            lambda places, values, a=a: (a[places] * values).sum(), model.on_event,
        )  # fmt: skip
    with torch.no_grad():
        for name, weights in layers.items():
            for weight in weights:
                if name in names and weight.grad is not None:
                    weight.copy_(weight.grad)
                weight.grad = None
    return found


def descend(
    method: str,
    model: LanguageModel,
    weights: list[torch.nn.Parameter],
    training: Sequence[MicroBatch],
    size: float,
    settings: Fit,
    split: int,
    args: argparse.Namespace,
) -> dict[str, float]:
    """Fit by an optimiser."""
    if method == "centred":
        settings = replace(settings, baseline="centred")
    if method in LAYERS:
        named = model.network.named_parameters()
        kept = {id(weight) for name, weight in named if ("attn" in name) == (method == "attention")}
        for weight in weights:
            weight.requires_grad_(id(weight) in kept)
        weights = [weight for weight in weights if id(weight) in kept]
    if method == "lbfgs":
        settings = replace(settings, optimiser="lbfgs", max_grad_norm=math.inf)
        gradient = Gradient(model.network, weights, size, settings, model.pad_id, model.on_event, 1.0)
        optimiser = torch.optim.LBFGS(
            weights, max_iter=args.evaluations, max_eval=args.evaluations, line_search_fn="strong_wolfe"
        )
        optimiser.step(lambda: gradient(training, ())[0])
        return {"evaluations": args.evaluations}
    gradient = Gradient(model.network, weights, size, settings, model.pad_id, model.on_event, 1.0)
    slower = SLOWER.get(method, 1)
    rate = learning_rate(gradient, order(training, settings, split)[0]) / slower
    settings = replace(settings, learning_rate=rate, epochs=slower * settings.epochs)
    fit(model.network, weights, training, size, settings, model.pad_id, split)
    for weight in weights:
        weight.requires_grad_(True)
    return {"learning_rate": rate}


def best_scale(model: LanguageModel, validation: Sequence[MicroBatch], size: float, settings: Fit) -> float:
    """How far the adapter is to go, by the prompts kept for it."""
    model.network.eval()
    now = [batch.logprobs(model.network, model.pad_id) for batch in validation]
    of = experience(validation, size, settings.baseline, now)
    scale = line_minimum(of.ratio, of.target, of.weights, settings.baseline)[0]
    return 0.0 if math.isnan(scale) else scale


COLUMNS = {"r2": ("R2 held out", ".2f"), "share": ("share", ".2f"), "best_scale": ("s*", ".2f"), "kl": ("KL", ".3f"),
           "cpu_seconds": ("CPU s", ".0f"), "peak_gib": ("GiB", ".1f")}  # fmt: skip


def show(iterations: Mapping[Path, StoredIteration], args: argparse.Namespace) -> None:
    """A table for each model, judge and shape of the data: means over its runs, with their standard errors."""
    groups: dict[tuple[str, str, int, int], list[Path]] = {}
    for run, iteration in iterations.items():
        policy, oracle = (Path(str(iteration.config[name])).name for name in ("policy", "oracle"))
        shape = len(iteration.rollouts), len(iteration.rollouts[0].responses)
        groups.setdefault((policy, oracle, *shape), []).append(run)
    for (policy, oracle, prompts, responses), runs in groups.items():
        print(f"\n{policy} under {oracle}: {prompts} prompts, {responses} responses each; runs: {len(runs)}")
        print(f"the most that R2 on held-out prompts can be: {figure([ceiling(iterations[run]) for run in runs])}\n")
        show_methods({name: found_rows(args.out, runs, name) for name in METHODS})
        show_linear(found_rows(args.out, runs, "linear"))


def found_rows(out: Path, runs: Sequence[Path], name: str) -> dict[Path, list[dict[str, Any]]]:
    return {run: rows for run in runs if (rows := known(out, run, name).get("rows"))}


def show_methods(found: Mapping[str, Mapping[Path, list[dict[str, Any]]]]) -> None:
    print(f"| fit | runs x splits | {' | '.join(title for title, _ in COLUMNS.values())} | less adamw's R2 |")
    print("|" + "---|" * (3 + len(COLUMNS)))
    for name, runs in found.items():
        if runs:
            means = [figure([mean(rows, key) for rows in runs.values()], form) for key, (_, form) in COLUMNS.items()]
            pairs = [(rows, found["adamw"].get(run, [])) for run, rows in runs.items()]
            less = [mean(a[: len(b)], "r2") - mean(b[: len(a)], "r2") for a, b in pairs if b]
            shape = f"{len(runs)} x {min(map(len, runs.values()))}"
            print(f"| {name} | {shape} | {' | '.join(means)} | {'' if name == 'adamw' else figure(less)} |")


def show_linear(found: Mapping[Path, list[dict[str, Any]]]) -> None:
    if not found:
        return
    print("\n| where the adapter begins | R2 held out | less the first one's |\n|---|---|---|")
    names = list(dict.fromkeys(row["method"] for rows in found.values() for row in rows))
    own = {name: [mean([r for r in rows if r["method"] == name], "r2") for rows in found.values()] for name in names}
    for name, values in own.items():
        print(f"| {name} | {figure(values)} | {figure([a - b for a, b in zip(values, own[names[0]], strict=True)])} |")


def ceiling(iteration: StoredIteration) -> float:
    """See ``regression.r2_ceiling``."""
    tables = torch.stack([rollout.table for rollout in iteration.rollouts if rollout.table is not None])
    payoffs = torch.stack([rollout.payoffs for rollout in iteration.rollouts if rollout.payoffs is not None])
    count = tables.shape[-1]
    variances = win_rate_variances(tables, torch.ones(count), torch.arange(count))
    weights = torch.full_like(payoffs, 1 / count)
    return r2_ceiling(payoffs, variances, weights)


def mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """Of the splits; of the best scale the median, which is any number where a fit has hardly moved."""
    return float((np.median if key == "best_scale" else np.mean)([row[key] for row in rows]))


def figure(values: Sequence[float], form: str = ".2f") -> str:
    """A mean over runs, with its standard error where there are several."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "-"
    text = format(float(np.mean(known)), form)
    return text if len(known) == 1 else f"{text} ± {format(float(np.std(known, ddof=1) / len(known) ** 0.5), form)}"


if __name__ == "__main__":
    sys.exit(main())
