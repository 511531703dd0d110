"""Every loss and every mirror-step solver on a language model whose responses can be enumerated: which reach the Nash?

    python benchmarks/losses.py

COMAL's cycle, whose only Nash is mixed (4, 3, 4) / 11, from random starts; a random transformer with LoRA, exact
expectations, each fit by L-BFGS to convergence, every row with the same number of fits. Prints, as mean and standard
deviation over the seeds, the duality gap of the last iterate and of the uniform mixture of what was played, KL(last ||
start) in nats, and from how many starts each reached the Nash: a gap of at most 0.1. A fsync for each file of a run
takes half of the time on a disk: ``TMPDIR=/dev/shm`` saves it on Linux. With ``--logits`` the policy is three logits in
place of the transformer, fitted to the same losses: the second route to the same figures, in a minute.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor

from nashward import games
from nashward.cli.demo import proof
from nashward.games.policy import Blend
from nashward.llm.training import losses, regression
from nashward.llm.training.experience import Experience
from nashward.llm.training.losses import Loss

FITS, STEP, REACHED = 30, 2.0, 0.1


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        each: fits of an iteration.
        fits: in all; fewer than ``FITS`` for what is offline.
    """

    name: str
    solver: games.Solver
    loss: Loss = "mirror"
    each: int = 1
    fits: int = FITS


SOLVERS = (
    Row("MWU", games.MWU(STEP)),
    Row("optimistic MWU", games.OptimisticMWU(STEP)),
    Row("optimistic MWU, two sequences", games.OptimisticMWU(STEP, two_sequences=True), each=2),
    Row("extragradient", games.ExtraGradient(STEP), each=2),
    Row("extragradient, tau 0.1", games.ExtraGradient(STEP, tau=0.1), each=2),
    Row("MMD, tau 0.1", games.MagneticMirrorDescent(1.0, 0.1)),
    Row("INPO, tau 0.1", games.INPO(1.0, 0.1)),
    Row("Nash-MD, tau 0.1", games.NashMD(1.0, 0.1), each=2),
    Row("Nash-EMA, tau 0.1", games.NashEMA(1.0, 0.1, decay=0.5)),
    Row("momentum 0.3", games.Momentum(0.5, 0.3)),
    Row("proximal point, tau 0.3", games.ProximalPoint(1.0, 0.3, inner=3), each=3),
    Row("magnet reset, tau 0.3", games.MagnetReset(1.0, 0.3, every=3)),
    Row("history mixture, tau 0.1", games.HistoryMixture(1.0, 0.1, weights=(0.5, 0.3, 0.2))),
)
# P - 1/2 is about a quarter of logit P: what learns logits, or sees labels through a sigmoid, has a quarter of the step
QUARTER = ("dpo", "kto", "simpo", "gpo")
LOSSES = tuple(
    Row(f"{name}, moving reference", games.MWU(STEP / 4 if name in QUARTER else STEP), name)
    for name in get_args(Loss) if name != "mirror"
)  # fmt: skip
REFERENCES = (
    Row("dpo, fixed reference", games.INPO(2.5, 0.4), "dpo"),
    Row("ipo, fixed reference", games.INPO(10.0, 0.1), "ipo"),
    Row("dpo, offline", games.MWU(2.5), "dpo", fits=1),
    Row("ipo, offline", games.MWU(10.0), "ipo", fits=1),
)
ROWS = {row.name: row for row in (*SOLVERS, *LOSSES, *REFERENCES)}


def measured(task: tuple[str, int, bool]) -> tuple[float, float, float]:
    """The gap of the last iterate and of the mixture, and KL(last || start), of a row, a seed and a kind of policy."""
    torch.set_num_threads(1)
    name, seed, plain = task
    row, game = ROWS[name], games.zoo.comal_cycle()
    logits = np.random.default_rng(seed).normal(size=3).tolist()
    if plain:
        start, last, mixture = on_logits(row, game.P, torch.tensor(logits, dtype=torch.float64).log_softmax(-1))
    else:
        with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
            policy = proof.enumerable(Path(folder) / "policy", logits)
            curve = proof.played(game, row.solver, policy, Path(folder) / "run", row.fits // row.each, logits, row.loss)
        start, last, mixture = curve.model[0], curve.model[-1], curve.mixture
    return (
        float(games.duality_gap(game, last)),
        float(games.duality_gap(game, mixture)),
        float(games.kl_divergence(last, start)),
    )


def on_logits(row: Row, P: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The start, the last iterate and the mixture of what was played, as probabilities."""
    played: list[Tensor] = []

    def record(step: games.Step, policy: games.Policy) -> bool:
        if isinstance(step.averaged, Blend):
            played.append(_blended(step.averaged, torch.exp))
        return False

    def execute(step: games.Step) -> games.Policy:
        return games.Policy(fitted(row.loss, step, P))

    first = games.Policy(start)
    last = games.driver.drive(row.solver, first, first, execute, record, row.fits // row.each)
    return start.exp(), last.value.exp(), torch.stack(played).mean(0)


def fitted(loss: Loss, step: games.Step, P: Tensor) -> Tensor:
    """The log-probabilities at the minimum of a loss, on every response of each of the Step's opponents."""
    anchor = _blended(step.anchor, lambda x: x)
    opponents = step.opponent.members() if step.opponent is not None else {games.Policy(anchor): 1.0}
    sampler = torch.stack([policy.value.exp() for policy in opponents]).mean(0)
    payoff = losses.LOSSES[loss].payoff(P)
    payoffs = sum(weight * (payoff @ policy.value.exp()) for policy, weight in opponents.items())[None]
    drift = (anchor - sampler.log())[None]
    target = regression.targets(payoffs, step.size, sampler[None], "plug-in", drift)
    theta = anchor.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [theta], max_iter=200, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        now, ones = theta.log_softmax(-1)[None], torch.full((1, len(P)), float(proof.TOKENS), dtype=P.dtype)
        batch = Experience(
            now, anchor[None], sampler.log()[None], payoffs, sampler[None], ones, target, "plug-in", step.size, P[None],
            self_comparison=True,
        )  # fmt: skip
        value = losses.LOSSES[loss if step.opponent is not None else "mirror"].of(batch)
        value.backward()
        return value

    optimiser.step(closure)
    return theta.detach().log_softmax(-1)


def _blended(blend: games.Policy | Blend, of: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([weight * of(policy.value) for policy, weight in blend.members().items()]).sum(0)


def line(rows: np.ndarray) -> str:
    """A row's figures, from [seeds, 3]."""
    mean, spread = rows.mean(0), rows.std(0, ddof=1) if len(rows) > 1 else np.zeros(3)
    last, mixture = (rows[:, :2] <= REACHED).sum(0)
    figures = "".join(f"{f'{m:.3f} ± {s:.3f}':>18}" for m, s in zip(mean, spread, strict=True))
    return f"{figures}{last:>7} of {len(rows)}{mixture:>10} of {len(rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="only these")
    parser.add_argument("--logits", action="store_true", help="three logits in place of the language model")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--json", type=Path, help="write all figures into this file too")
    given = parser.parse_args()
    began = time.monotonic()
    tasks = [(name, seed, given.logits) for name in given.rows for seed in range(given.seeds)]
    results = {}
    print(f"{datetime.date.today()}; {FITS} fits, {given.seeds} seeds: mean and standard deviation")
    heads = "".join(f"{head:>18}" for head in ("gap, last", "gap, mixture", "KL"))
    print(f"{'':<34}{heads}   last there   mixture there")
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        figures = pool.imap(measured, tasks)
        for name in given.rows:
            results[name] = [next(figures) for _ in range(given.seeds)]
            print(f"{name:<34}{line(np.array(results[name]))}", flush=True)
    print(f"{time.monotonic() - began:.0f} seconds")
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
