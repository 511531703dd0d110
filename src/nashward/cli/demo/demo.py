"""``nashward demo``: solvers on a small zoo against the theorem's bound, then the same solver on pocket models."""

from __future__ import annotations

import os
import shlex
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nashward import games, theory
from nashward.counted import counted
from nashward.games import plots
from nashward.games.measures import shown_gap

from .one_thread import one_thread

if TYPE_CHECKING:
    from nashward.llm.report import Content, Picture, Section

    from .style_game import StyleGame

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
PROMPTS = 100
SURE = 2.0  # standard errors beyond which a difference is no noise
MEANING = (
    "The duality gap says how far a policy is from the Nash equilibrium: twice the margin above 1/2 by which its best "
    "opponent beats it, 0 where nobody does."
)


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

    from .stored import check_demo

    check_demo(out, iterations)
    play = self_play(out / "run", iterations, seed)
    play.check()
    say: Say = print if progress else _nothing
    say("1. Tables of win probabilities: four solvers from the same start")
    say(textwrap.fill(MEANING, 112, initial_indent="   ", subsequent_indent="   "))
    on_tables = tables(say)
    say("\n2. A language model under one of these solvers: pocket models (made by this project; no network, no GPU)")
    say(f'   {PROMPTS} requests such as "{play.prompts[0]}", from the word lists of llm/pocket/styles.py; answers')
    say("   in four styles: the oracle prefers direct to steps, steps to friendly, friendly to direct, all to evasive")
    run, summary, first, more = language_model(play, out, seed, say)
    title = "nashward: from reward to Nash"
    file = report.write(run.folder, first, title, out / "report.html", summary, [*more, *on_tables])
    say(f"\n{time.monotonic() - began:.0f} seconds")
    print(f"report: {file}")
    say("Next:")
    say("  nashward solve rock_paper_scissors --solver mwu --step 0.1 --plot nash.png")
    say(f"  nashward evaluate {shlex.quote(str(out / 'run'))}")
    say("  nashward align --policy ID_OR_FOLDER --oracle llm-blender/PairRM --prompts prompts.jsonl --out runs/first")
    return file


def _nothing(text: str) -> None:
    pass


def tables(say: Say) -> list[Section]:
    """Sections of the report on tables: gap curves over the bound, trajectories on the simplex."""
    from nashward.llm import report

    rows, curves = [], []
    say(f"   {'game':<28} {'solver':<22} {'gap of the last':>16} {'of the average':>16}")
    for name in ZOO:
        game = games.zoo.get(name)
        start = START if game.sizes[0] == 3 else None
        solutions = {
            type(s).__name__: games.solve(
                game, s, iterations=2000, start=start, record=range(1, 2001), keep_policies=True
            )
            for s in SOLVERS
        }
        mwu = SOLVERS[0]
        theorem = theory.MWUAverage(float(mwu.step), theory.complexity(start or [1 / game.sizes[0]] * game.sizes[0]))  # type: ignore[arg-type]
        bound = float(theorem.bound(2000))
        for solver, solution in solutions.items():
            last, average = (shown_gap(solution.gaps[which][-1]) for which in ("last", "average"))
            limit = f"{bound:.4f}" if solver == "MWU" else ""
            rows.append((name, solver, last, average, limit))
            say(
                f"   {name:<28} {solver:<22} {last:>16} {average:>16}"
                + (f"  (the theorem: at most {limit})" if limit else "")
            )
        if name == ZOO[0]:
            figure = plots.gap_curves(solutions, {"bound for MWU's average": theorem.bound}, title=name)
            curves.append(
                report.Picture(
                    figure, "Duality gap of the last iterate and of the average; MWU's average stays below its bound."
                )
            )
            paths = {solver: solution.policies["last"] for solver, solution in solutions.items()}
            exact = games.nash(game).policy
            curves.append(
                report.Picture(
                    plots.simplex(paths, exact, game.labels, title=f"last iterates on {name}", start=start),
                    "MWU circles the Nash equilibrium, OptimisticMWU and ExtraGradient reach it, and "
                    "MagneticMirrorDescent, which is drawn to a fixed policy, stops beside it.",
                )
            )
    head = ("game", "solver", "gap of the last", "gap of the average", "bound for the average")
    note = (
        "Four solvers without a language model: 2000 iterations from the same start on three tables of win "
        "probabilities. The theorem speaks of the average of multiplicative weights (MWU), not of its last iterate."
    )
    return [report.Section("Solvers on tables", [report.Paragraph(note), *curves, report.Table(head, rows)])]


def self_play(out: Path, iterations: int, seed: int) -> Any:
    """The run of the demo: optimistic MWU on the pocket models."""
    from nashward import llm
    from nashward.llm.pocket import styles

    return llm.SelfPlay(
        policy=llm.pocket.POLICY,
        oracle=llm.pocket.PAIRRM,
        solver=games.OptimisticMWU(step=STEP),
        prompts=styles.plain_prompts(PROMPTS),
        folder=out,
        label=lambda text: None if (style := styles.style_of(text)) is None else styles.STYLES[style],
        config=llm.RunConfig(
            iterations=iterations,
            sampling=llm.Sampling(max_new_tokens=48, batch=256),
            fit=llm.Fit(epochs=3, batch=4, tokens=1500),
            lora=llm.Lora(rank=8),
            quantise=True,  # as on a card
            seed=seed,
        ),
    )


def language_model(
    play: Any, out: Path, seed: int, say: Say
) -> tuple[Any, list[Content], list[Section], list[Section]]:
    """Self-play on the pocket models, and what it did to the style of the responses: the run, the head of the report,
    and its sections before and after the responses."""
    from nashward.llm import report
    from nashward.llm.store.files import write_json

    from . import style_game

    run = play.run(progress=say is print)
    say("   evaluating the last iterate, the mixture and the tournament")
    style = style_game.measure(play, run, seed)
    write_json(out / "demo.json", style.numbers())
    picture = report.Picture(
        style_game.figure(style),
        "Left: the duality gap of the language model's mix of styles, dashed that of the same solver on the table; "
        "right: the share of each style in what it writes, stars the Nash equilibrium. Bars are standard errors over "
        f"prompts, those of the stars a {100 * style_game.SHARE:.0f}% band.",
    )
    _print_results(style, say)
    summary = [*_summary(style, play, len(play.prompts)), *report.pointers(run.folder)]
    return run, summary, [_same_solver(style, play, picture)], [_style_table(style), _tournament(style)]


def _print_results(style: StyleGame, say: Say) -> None:
    """The results in lines."""
    from nashward.llm.pocket.styles import PLANTED, STYLES

    last = style.names[-2]
    rates = (f"{name} {rate} ({rate.verdict} it)" for name, rate in _wins(style, last))
    say("  win rate against the start: " + ", ".join(rates))
    planted = games.nash(games.PreferenceGame(PLANTED)).policy
    say(
        "  Nash of the styles as planted: "
        + ", ".join(f"{s} {float(p):.2f}" for s, p in zip(STYLES, planted, strict=True))
    )
    bands = (
        f"{name} {p:.2f} ({low:.2f} to {high:.2f})"
        for name, p, low, high in zip(STYLES, style.nash, style.nash_low, style.nash_high, strict=True)
    )
    say("  as the oracle learned them, with 90% bands: " + ", ".join(bands))
    say("  gap of the style mixture: " + ", ".join(f"{name} {gap}" for name, gap in _gaps(style).items()))


def _wins(style: StyleGame, last: str) -> list[tuple[str, Any]]:
    return [("last iterate", style.wins[last]), ("mixture", style.wins["mixture"])]


def _gaps(style: StyleGame) -> dict[str, str]:
    gaps, errors = style.gaps, style.errors
    places = (("start", "last", 0), ("last iterate", "last", -1), ("mixture", "average", -1))
    return {name: f"{gaps[which][t]:.2f} ± {errors[which][t]:.2f}" for name, which, t in places}


def _summary(style: StyleGame, play: Any, prompts: int) -> list[Content]:
    """What the page is, what came out, and what the duality gap is."""
    from nashward.llm import report

    gaps, errors, table = style.gaps["average"], style.errors["average"], _gaps(style)
    less, error = gaps[0] - gaps[-1], float(np.hypot(errors[0], errors[-1]))
    fell = "fell from" if less > SURE * error else "rose from" if less < -SURE * error else "is, within noise, the"
    wins = " and ".join(
        f"the {name} {rate.verdict} the start ({rate}, 95%: {rate.interval[0]:.2f} to {rate.interval[1]:.2f})"
        for name, rate in _wins(style, style.names[-2])
    )
    return [
        report.Paragraph(
            "This page shows one experiment on a small language model that was made for it, and on a judge of its "
            f"answers, the oracle. The model answers {prompts} requests in one of four styles. The oracle's verdicts "
            "go round in a circle: it prefers direct answers to lists of steps, steps to friendly chat, and friendly "
            "chat to direct answers; evasive answers, which the model gives most, lose to all three. So no style is "
            "best. What exists is a mix of styles that no other mix beats, the Nash equilibrium, and self-play looks "
            f"for it in {counted(play.config.iterations, 'iteration')}: the model answers, the oracle compares the "
            "answers in pairs, and the model is trained towards what wins (optimistic multiplicative weights)."
        ),
        report.Headline(
            table["mixture"],
            f"is the duality gap of the mixture of all that was played: it {fell} {table['start']} at the start.",
        ),
        report.Paragraph(report.DUALITY_GAP + " Here opponents are mixes of the four styles."),
        report.Paragraph(
            f"The newest policy alone, the last iterate, has a gap of {table['last iterate']}. Under the oracle "
            f"{wins}. Standard errors (±) are over prompts."
        ),
    ]


def _same_solver(style: StyleGame, play: Any, picture: Picture) -> Section:
    """The language model's curves on those of the table."""
    from nashward.llm import report
    from nashward.llm.pocket.styles import STYLES

    rows = []
    for i, (name, shares, errors) in enumerate(zip(style.names, style.shares, style.share_errors, strict=True)):
        which, t = ("average", -1) if name == "mixture" else ("last", i)
        gap = f"{style.gaps[which][t]:.3f} ± {style.errors[which][t]:.3f}"
        written = (f"{100 * share:.0f} ± {100 * error:.0f}%" for share, error in zip(shares, errors, strict=True))
        rows.append((name, *written, str(style.wins.get(name, "")), gap))
    method = (
        f"{style.responses} responses of each policy, {play.config.responses} per prompt. The language model played "
        f"optimistic multiplicative weights with step {STEP:g}: responses were sampled and judged, and an adapter was "
        "fitted to each step. The dashed lines are the same solver on the table of styles below, from the same start, "
        "without a language model. The requests are made from the word lists of llm/pocket/styles.py, as the texts are "
        "that the models were trained on."
    )
    reading = (
        "Why the last iterate need not be near the Nash: on a cycle it goes around before it closes in, and a few "
        "steps of this size are a part of one turn. What a theorem bounds after every number of steps is the mixture "
        "of the iterates. More iterations bring the mixture closer, and a smaller step with more of them the last "
        "iterate. Where the language model lags behind the table, the share of the step that its fit achieved says "
        "how much (below)."
    )
    head = ("policy", *STYLES, "no style", "win rate against the start", "gap in the style game")
    content = [picture, report.Paragraph(method), report.Table(head, rows), report.Paragraph(reading)]
    return report.Section("The language model on the table's curves", content)


def _style_table(style: StyleGame) -> Section:
    """What the oracle makes of the styles, and the Nash of it."""
    from nashward.llm import report
    from nashward.llm.pocket.styles import PLANTED, STYLES

    planted = games.nash(games.PreferenceGame(PLANTED)).policy
    head = ("P(row beats column), learned (planted)", *STYLES, "Nash, learned (90% band)", "planted")
    rows = [
        (name, *(f"{style.learned[i, j]:.2f} ({PLANTED[i, j]:.2f})" for j in range(len(STYLES))),
         f"{style.nash[i]:.2f} ({style.nash_low[i]:.2f} to {style.nash_high[i]:.2f})", f"{float(planted[i]):.2f}")
        for i, name in enumerate(STYLES)
    ]  # fmt: skip
    note = (
        "How often each style beats each other one: as the oracle, a network, judged the responses of this run, and in "
        "brackets as it was planted in the votes that the oracle was trained on."
    )
    return report.Section("The table of styles", [report.Paragraph(note), report.Table(head, rows)])


def _tournament(style: StyleGame) -> Section:
    """Each policy against each, with errors."""
    from nashward.llm import report

    rows = [
        (name, *("–" if i == j else f"{p:.2f} ± {error:.2f}" for j, (p, error) in enumerate(zip(*row, strict=True))))
        for i, (name, row) in enumerate(
            zip(style.names, zip(style.tournament, style.tournament_errors, strict=True), strict=True)
        )
    ]
    note = "One response of each to each prompt. A win rate within two errors of .5 says nothing of which is better."
    head = ("P(row beats column)", *style.names)
    return report.Section("Each policy against each", [report.Paragraph(note), report.Table(head, rows)])
