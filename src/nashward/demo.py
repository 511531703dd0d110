"""``nashward demo``: solvers on a small zoo against the theorem's bound, then the same solver on pocket models."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nashward import games, theory
from nashward.games import plots

SOLVERS = (
    games.MWU(step=0.1),
    games.OptimisticMWU(step=0.5),
    games.ExtraGradient(step=1.0),
    games.MagneticMirrorDescent(step=0.4, tau=0.1),
)
ZOO = ("comal_cycle", "biased_rock_paper_scissors", "mujoco_soccer")
START = (0.665, 0.245, 0.090)  # softmax of (1, 0, -1): away from the centre
STEP = 3.0
PROMPTS, LONGEST = 100, 90  # characters


def demo(out: Path, iterations: int = 6, seed: int = 0) -> Path:
    """Write ``report.html`` into ``out`` and say where it is.

    Raises:
        ValueError: the folder holds something else; iterations < 1.
        ImportError: the ``llm`` extra is missing.
    """
    began = time.monotonic()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the run's own bars say enough
    from nashward.llm import report

    torch.set_num_threads(1)  # the pocket models are too small to share among threads
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    if out.exists() and not (out / "run" / "run.json").exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no demo; choose another folder with --out")
    play = self_play(out / "run", iterations, seed)
    play.check()
    print("1. Tables: each solver from the same start, and the theorem's bound")
    sections = tables()
    print("\n2. A language model: the same solver on pocket models (made by this project; no network, no GPU)")
    run, more = language_model(play, iterations, seed)
    file = report.write(run.folder, [*sections, *more], "nashward: from reward to Nash", out / "report.html")
    print(f"\n{time.monotonic() - began:.0f} seconds. The report: {file}")
    print("Next:")
    print("  nashward solve rock_paper_scissors --solver mwu --step 0.1 --plot nash.png")
    print("  nashward align --policy ID_OR_FOLDER --oracle llm-blender/PairRM --prompts prompts.jsonl --out runs/first")
    return file


def tables() -> list[tuple[str, str]]:
    """Sections on tables: gap curves over the bound, trajectories on the simplex."""
    from nashward.llm import report

    rows, curves = [], []
    for name in ZOO:
        game = games.zoo.get(name)
        start = START if game.sizes[0] == 3 else None
        solutions = {
            type(s).__name__: games.solve(game, s, iterations=2000, start=start, keep_policies=True) for s in SOLVERS
        }
        mwu = SOLVERS[0]
        theorem = theory.MWUAverage(float(mwu.step), theory.complexity(start or [1 / game.sizes[0]] * game.sizes[0]))  # type: ignore[arg-type]
        bound = float(theorem.bound(2000))
        for solver, solution in solutions.items():
            last, average = (float(solution.gaps[which][-1]) for which in ("last", "average"))
            limit = f"{bound:.4f}" if solver == "MWU" else ""
            rows.append((name, solver, f"{last:.2e}", f"{average:.2e}", limit))
            print(
                f"  {name:<28} {solver:<22} gap: last {last:.1e}, average {average:.1e}"
                + (f" (bound {limit})" if limit else "")
            )
        if name == ZOO[0]:
            figure = plots.gap_curves(solutions, {"bound for MWU's average": theorem.bound}, title=name)
            curves.append(
                report.picture(figure, "Duality gap after t iterations; MWU's average stays below its bound.")
            )
            paths = {solver: solution.policies["last"] for solver, solution in solutions.items()}
            exact = games.nash(game).policy
            curves.append(
                report.picture(
                    plots.simplex(paths, exact, game.labels, title=f"last iterates on {name}"),
                    "Multiplicative weights circle the Nash; optimism and extragradient reach it, the magnet stops.",
                )
            )
    head = ("game", "solver", "gap of the last", "gap of the average", "bound for the average")
    note = "<p>2000 iterations from the same start. The theorem speaks of MWU's average, not of its last iterate.</p>"
    return [("Solvers on tables", note + report.table(head, rows) + "".join(curves))]


def self_play(out: Path, iterations: int, seed: int) -> Any:
    """The run of the demo: optimistic MWU on the pocket models."""
    from nashward import llm
    from nashward.llm.pocket import styles

    prompts = [p for p in styles.held_out_prompts(20 * PROMPTS) if len(p) <= LONGEST][:PROMPTS]
    return llm.SelfPlay(
        policy=llm.pocket.POLICY,
        oracle=llm.pocket.PAIRRM,
        solver=games.OptimisticMWU(step=STEP),
        prompts=prompts,
        folder=out,
        iterations=iterations,
        sampling=llm.Sampling(max_new_tokens=48, batch=256),
        fit=llm.Fit(learning_rate=3e-3, epochs=3, batch=4, tokens=1500),
        lora=llm.Lora(rank=8),
        seed=seed,
    )


def language_model(play: Any, iterations: int, seed: int) -> tuple[Any, list[tuple[str, str]]]:
    """Self-play on the pocket models, and what it did to the style of the responses."""
    from nashward import llm
    from nashward.llm import report
    from nashward.llm.evaluation import win_rate
    from nashward.llm.pocket import styles

    out = Path(play.folder)
    run = play.run()
    assert run.prompts is not None
    texts = [prompt.text for prompt in run.prompts.kept]
    answers = {name: sets for name, sets in _stored(out, run.prompts.kept)}
    encoded = [play.model.encode(prompt) for prompt in run.prompts.kept]
    print("  evaluating the last iterate and the mixture")
    final = llm.Mixture(((run.last, 1.0),))
    for name, policy in ((f"iteration-{iterations:02d}", final), ("mixture", run.average)):
        drawn = policy.sample(play.model, encoded, play.responses, play.sampling, seed + 1)
        answers[name] = [[answer.text for answer in row] for row in drawn]
    mixture = answers.pop("mixture")
    names = list(answers)
    shares = np.array([_shares(answers[name], len(styles.STYLES)) for name in names])
    wins = {
        name: win_rate(play.judge, texts, answers[name], [row[:2] for row in answers["start"]]) for name in names[1:]
    }
    wins["mixture"] = win_rate(play.judge, texts, mixture, [row[:2] for row in answers["start"]])
    print(f"  win rate against the base: last iterate {wins[names[-1]]}, mixture {wins['mixture']}")

    learned = _style_table(out, len(styles.STYLES), styles.style_of)
    planted = games.PreferenceGame(styles.PLANTED, labels=styles.STYLES)
    game = games.PreferenceGame(learned, labels=styles.STYLES)
    theirs, exact = games.nash(planted), games.nash(game)
    for title, table, equilibrium in (("planted", planted, theirs), ("learned by the oracle", game, exact)):
        mix = ", ".join(f"{s} {float(p):.2f}" for s, p in zip(table.labels, equilibrium.policy, strict=True))
        print(f"  Nash of the style table {title}: {mix}")
    known = shares[:, :-1] / shares[:, :-1].sum(1, keepdims=True)
    played = np.cumsum(known[:-1], 0) / np.arange(1, len(known))[:, None]
    model = {"last": known[1:], "average": played}
    gaps = {which: games.duality_gap(_batched(game, len(mixes)), mixes).tolist() for which, mixes in model.items()}
    theory_run = games.solve(game, games.OptimisticMWU(step=STEP), iterations=iterations, start=known[0])
    base = float(games.duality_gap(game, known[0]))
    print(
        f"  gap of the style mixture: base {base:.2f}, last iterate {gaps['last'][-1]:.2f}, "
        f"mixture {gaps['average'][-1]:.2f}"
    )

    figure = _style_figure(shares, exact.policy, (*styles.STYLES, "no style"), base, gaps, theory_run)
    rows = [
        (
            name,
            *(f"{100 * share:.0f}%" for share in row),
            str(wins.get(name, "")),
            f"{base:.3f}" if i == 0 else f"{gaps['last'][i - 1]:.3f}",
        )
        for i, (name, row) in enumerate(zip(names, shares, strict=True))
    ]
    mixed = _shares(mixture, len(styles.STYLES))
    rows.append(("mixture", *(f"{100 * s:.0f}%" for s in mixed), str(wins["mixture"]), f"{gaps['average'][-1]:.3f}"))
    text = (
        f"<p>{len(texts)} prompts, {play.responses} responses each. Optimistic MWU with step {STEP:g} was played by "
        "the language model: responses were sampled, judged by the pocket PairRM, and an adapter was fitted to each "
        "step. The lines without marks are the table executor with the same solver on the style table that the oracle "
        "learned, from the base's own mix. Why the last iterate need not be near the Nash: six steps of this size are "
        "few, and on a cycle the last iterate goes around before it closes in; what the theorem bounds is the mixture "
        "of the iterates. More and smaller steps bring both closer.</p>"
    )
    head = ("policy", *styles.STYLES, "no style", "win rate against the base", "gap in the style game")
    tables_of = report.table(
        ("P(row beats column), learned (planted)", *styles.STYLES, "Nash, learned (planted)"),
        [
            (style, *(f"{learned[i, j]:.2f} ({styles.PLANTED[i, j]:.2f})" for j in range(len(styles.STYLES))),
             f"{float(exact.policy[i]):.2f} ({float(theirs.policy[i]):.2f})")
            for i, style in enumerate(styles.STYLES)
        ],
    )  # fmt: skip
    caption = (
        "Left: what the model writes, with the Nash of the learned style table at the right edge. Right: duality gaps."
    )
    return run, [
        (
            "A language model under the same solver",
            text + report.picture(figure, caption) + report.table(head, rows) + tables_of,
        )
    ]


def _stored(out: Path, prompts: Sequence[Any]) -> Any:
    """The stored responses of each policy that was played, in order: the start, then the iterates."""
    from nashward.llm.folder import read_shard

    order = {prompt.id: i for i, prompt in enumerate(prompts)}
    for stage in sorted(out.glob("iteration-*/responses")):
        number = int(stage.parent.name.split("-")[1])
        label = "start" if number == 1 else f"iteration-{number - 1:02d}"
        sets: list[list[str]] = [[] for _ in prompts]
        for file in sorted(stage.glob(f"{label}.*.parquet")):
            for row in read_shard(file):
                sets[order[row["prompt"]]].append(row["text"])
        yield label, sets


def _shares(answers: Sequence[Sequence[str]], count: int) -> np.ndarray:
    """The share of each style, and last of no style."""
    from nashward.llm.pocket.styles import style_of

    found = [style_of(text) for row in answers for text in row]
    return np.bincount([count if style is None else style for style in found], minlength=count + 1) / len(found)


def _style_table(out: Path, count: int, style_of: Any) -> np.ndarray:
    """The mean win probability of each pair of styles, over all stored judgements of a policy against itself."""
    from nashward.llm.folder import read_shard

    total, weight = np.zeros((count, count)), np.zeros((count, count))
    for stage in sorted(out.glob("iteration-*")):
        for file in sorted((stage / "judgements").glob("*.parquet")):
            if "~" in file.name:
                continue
            texts: dict[str, list[str]] = {}
            for row in read_shard(stage / "responses" / file.name):
                texts.setdefault(row["prompt"], []).append(row["text"])
            for row in read_shard(file):
                found = [style_of(text) for text in texts[row["prompt"]]]
                for i, a in enumerate(found):
                    for j, b in enumerate(found):
                        if a is not None and b is not None and i != j:
                            total[a, b] += row["P"][i][j]
                            weight[a, b] += 1
    return np.where(weight > 0, total / np.maximum(weight, 1), 0.5)


def _batched(game: games.PreferenceGame, count: int) -> games.PreferenceGame:
    return games.PreferenceGame(game.P.expand(count, -1, -1), game.labels)


def _style_figure(
    shares: np.ndarray,
    nash: Any,
    labels: Sequence[str],
    base: float,
    gaps: dict[str, list[float]],
    table: games.Solution,
) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    times = np.arange(len(shares))
    for i, label in enumerate(labels):
        left.plot(times, shares[:, i], "o-", color=plots.COLOURS[i], label=label)
        if i < len(nash):
            left.plot(times[-1] + 0.35, float(nash[i]), "*", color=plots.COLOURS[i], markersize=12)
    left.set(xlabel="iteration", ylabel="share of the responses", title="style (star: Nash)", ylim=(-0.02, 1))
    left.legend(fontsize=8)
    for (which, values), colour in zip(gaps.items(), plots.COLOURS, strict=False):
        name = {"last": "last iterate", "average": "mixture"}[which]
        right.plot(times, [base, *values], "o-", color=colour, label=f"language model, {name}")
        right.plot(times, [base, *table.gaps[which].tolist()], "--", color=colour, label=f"table, {name}")
    right.set(xlabel="iteration", ylabel="duality gap", title="in the style game", ylim=(0, None))
    right.legend(fontsize=8)
    return figure
