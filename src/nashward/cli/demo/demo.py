"""``nashward demo``: solvers on a small zoo against the theorem's bound, then the same solver on pocket models."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward import games, theory
from nashward.errors import NashwardError
from nashward.games import plots

from ..one_thread import one_thread

if TYPE_CHECKING:
    from nashward.llm.report import Section

SOLVERS = (
    games.MWU(step=0.1),
    games.OptimisticMWU(step=0.5),
    games.ExtraGradient(step=1.0),
    games.MagneticMirrorDescent(step=0.4, tau=0.1),
)
ZOO = ("comal_cycle", "biased_rock_paper_scissors", "mujoco_soccer")
START = (0.665, 0.245, 0.090)  # softmax of (1, 0, -1): away from the centre
STEP = 3.0
Say = Callable[[str], None]
PROMPTS, LONGEST = 100, 90  # characters


@one_thread()
def demo(out: Path = Path("demo"), iterations: int = 6, seed: int = 0, progress: bool = True) -> Path:
    """Write ``report.html`` into ``out`` and print where it is; with ``progress`` also all results on the way.

    Raises:
        ValueError: the folder holds something else; iterations < 1.
        ImportError: the ``llm`` extra is missing.
    """
    began = time.monotonic()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the run's own bars say enough
    from nashward.llm import report

    if iterations < 1:
        raise NashwardError(f"iterations must be at least 1, got {iterations}")
    if out.is_file():
        raise NashwardError(f"{out} is a file; --out names a folder for the demo")
    if out.exists() and not (out / "run" / "run.json").exists() and any(out.iterdir()):
        raise NashwardError(f"{out} is not empty and holds no demo; choose another folder with --out")
    play = self_play(out / "run", iterations, seed)
    play.check()
    say: Say = print if progress else _nothing
    say("1. Tables: each solver from the same start, and the theorem's bound")
    sections = tables(say)
    say("\n2. A language model: the same solver on pocket models (made by this project; no network, no GPU)")
    run, more = language_model(play, out, seed, say)
    file = report.write(run.folder, [*sections, *more], "nashward: from reward to Nash", out / "report.html")
    say(f"\n{time.monotonic() - began:.0f} seconds")
    print(f"report: {file}")
    say("Next:")
    say("  nashward solve rock_paper_scissors --solver mwu --step 0.1 --plot nash.png")
    say(f"  nashward evaluate {out / 'run'}")
    say("  nashward align --policy ID_OR_FOLDER --oracle llm-blender/PairRM --prompts prompts.jsonl --out runs/first")
    return file


def _nothing(text: str) -> None:
    pass


def tables(say: Say) -> list[Section]:
    """Sections of the report on tables: gap curves over the bound, trajectories on the simplex."""
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
            say(
                f"  {name:<28} {solver:<22} gap: last {last:.1e}, average {average:.1e}"
                + (f" (bound {limit})" if limit else "")
            )
        if name == ZOO[0]:
            figure = plots.gap_curves(solutions, {"bound for MWU's average": theorem.bound}, title=name)
            curves.append(
                report.Picture(figure, "Duality gap after t iterations; MWU's average stays below its bound.")
            )
            paths = {solver: solution.policies["last"] for solver, solution in solutions.items()}
            exact = games.nash(game).policy
            curves.append(
                report.Picture(
                    plots.simplex(paths, exact, game.labels, title=f"last iterates on {name}"),
                    "Multiplicative weights circle the Nash; optimism and extragradient reach it, the magnet stops.",
                )
            )
    head = ("game", "solver", "gap of the last", "gap of the average", "bound for the average")
    note = "2000 iterations from the same start. The theorem speaks of MWU's average, not of its last iterate."
    return [report.Section("Solvers on tables", [report.Paragraph(note), report.Table(head, rows), *curves])]


def self_play(out: Path, iterations: int, seed: int) -> Any:
    """The run of the demo: optimistic MWU on the pocket models."""
    from nashward import llm
    from nashward.llm.pocket import styles

    short = [p for p in styles.held_out_prompts(20 * PROMPTS) if p.strip() and len(p) <= LONGEST]
    prompts = list(dict.fromkeys(short))[:PROMPTS]
    return llm.SelfPlay(
        policy=llm.pocket.POLICY,
        oracle=llm.pocket.PAIRRM,
        solver=games.OptimisticMWU(step=STEP),
        prompts=prompts,
        folder=out,
        label=lambda text: None if (style := styles.style_of(text)) is None else styles.STYLES[style],
        config=llm.RunConfig(
            iterations=iterations,
            sampling=llm.Sampling(max_new_tokens=48, batch=256),
            fit=llm.Fit(learning_rate=3e-3, epochs=3, batch=4, tokens=1500),
            lora=llm.Lora(rank=8),
            seed=seed,
        ),
    )


def language_model(play: Any, out: Path, seed: int, say: Say) -> tuple[Any, list[Section]]:
    """Self-play on the pocket models, and what it did to the style of the responses."""
    from nashward.llm import report
    from nashward.llm.pocket.styles import PLANTED, STYLES
    from nashward.llm.store.files import write_json

    from . import style_game

    run = play.run(progress=say is print)
    say("  evaluating the last iterate, the mixture and the tournament")
    style = style_game.measure(play, run, seed)
    write_json(out / "demo.json", style.numbers())
    last = style.names[-2]
    say(f"  win rate against the base: last iterate {style.wins[last]}, mixture {style.wins['mixture']}")
    planted = games.PreferenceGame(PLANTED, labels=STYLES)
    theirs, exact = games.nash(planted), games.nash(style.game)
    for title, equilibrium in (("planted", theirs), ("learned by the oracle", exact)):
        mix = ", ".join(f"{name} {float(p):.2f}" for name, p in zip(STYLES, equilibrium.policy, strict=True))
        say(f"  Nash of the style table {title}: {mix}")
    gaps, errors = style.gaps, style.errors
    say(
        f"  gap of the style mixture: base {gaps['last'][0]:.2f}, last iterate {gaps['last'][-1]:.2f} ± "
        f"{errors['last'][-1]:.2f}, mixture {gaps['average'][-1]:.2f} ± {errors['average'][-1]:.2f}"
    )
    rows = []
    for i, (name, shares) in enumerate(zip(style.names, style.shares, strict=True)):
        which, t = ("average", -1) if name == "mixture" else ("last", i)
        gap = f"{gaps[which][t]:.3f} ± {errors[which][t]:.3f}"
        rows.append((name, *(f"{100 * share:.0f}%" for share in shares), str(style.wins.get(name, "")), gap))
    method = (
        f"{style.responses} responses of each policy, {play.config.responses} a prompt. Optimistic MWU with step "
        f"{STEP:g} was played by the language model: responses were sampled, judged by the pocket PairRM, and an "
        "adapter was fitted to each step. The dashed lines are the table executor with the same solver on the style "
        "table that the oracle learned, from the base's own mix."
    )
    reading = (
        "Why the last iterate need not be near the Nash: on a cycle it "
        "goes around before it closes in, and a few steps of this size are a part of one turn. What a theorem bounds "
        "after every number of steps is the mixture of the iterates. More iterations bring the mixture closer, and a "
        "smaller step with more of them the last iterate. Where the language model lags behind the table, the share "
        "of the step that its fit achieved says how much (below)."
    )
    head = ("policy", *STYLES, "no style", "win rate against the base", "gap in the style game")
    pairs = ("P(row beats column), learned (planted)", *STYLES, "Nash, learned (planted)")
    table = [
        (name, *(f"{style.learned[i, j]:.2f} ({PLANTED[i, j]:.2f})" for j in range(len(STYLES))),
         f"{float(exact.policy[i]):.2f} ({float(theirs.policy[i]):.2f})")
        for i, name in enumerate(STYLES)
    ]  # fmt: skip
    duels = [(name, *(f"{p:.2f}" for p in row)) for name, row in zip(style.names, style.tournament, strict=True)]
    caption = "Left: what the model writes; right: the gap of its style mix, over the table's."
    content = [
        report.Paragraph(method),
        report.Paragraph(reading),
        report.Picture(style_game.figure(style), caption),
        report.Table(head, rows),
    ]
    return run, [
        report.Section("A language model under the same solver", content),
        report.Section("The style table", [report.Table(pairs, table)]),
        report.Section("Each policy against each", [report.Table(("P(row beats column)", *style.names), duels)]),
    ]
