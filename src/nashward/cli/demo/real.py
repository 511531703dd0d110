"""``nashward demo --real``: a real chat model plays itself under the majority of three small judges."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward import games
from nashward.llm import pocket

if TYPE_CHECKING:
    from nashward.llm.report import Content, Section

    from .judge_game import JudgeGame

POLICY = "real:smollm2-135m"
PROMPTS = tuple(pocket.PROMPTS.read_text(encoding="utf-8").splitlines())
STEP = 2.5
ENDING = " Answer in one short sentence."  # what a model of this size can do
JUDGES = ("to the point", "brief", "plain")  # of whom the majority decides
EVERY = 4  # each fourth prompt is not played on
Say = Callable[[str], object]


@dataclass(frozen=True)
class Size:
    """How much is played: prompts to play and to measure on, responses per prompt, tokens of a response."""

    prompts: int = len(PROMPTS)
    responses: int = 4
    max_new_tokens: int = 40


def real(
    out: Path = Path("demo-real"), iterations: int = 2, seed: int = 0, progress: bool = True, size: Size = Size()
) -> Path:
    """Write ``report.html`` into ``out``; the same call goes on where it was stopped.

    Raises:
        ValueError: the folder holds something else; iterations < 1.
        MissingPackageError: a package of the extra ``real`` is not installed.
    """
    began = time.monotonic()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from nashward import llm
    from nashward.llm import report
    from nashward.llm.oracles.judges.everyday import EverydayMajority
    from nashward.llm.store.files import write_json

    from .judge_game import MAJORITY, measure
    from .stored import check_demo

    check_demo(out, iterations)
    majority = EverydayMajority()
    chosen = [prompt + ENDING for prompt in PROMPTS[: size.prompts]]
    held_out = llm.read_prompts(chosen[EVERY - 1 :: EVERY]).kept
    play = llm.SelfPlay(
        policy=POLICY,
        oracle=majority,
        solver=games.OptimisticMWU(step=STEP),
        prompts=[prompt for k, prompt in enumerate(chosen) if k % EVERY != EVERY - 1],
        folder=out / "run",
        config=llm.RunConfig(
            iterations=iterations,
            responses=size.responses,
            sampling=llm.Sampling(max_new_tokens=size.max_new_tokens),
            fit=llm.Fit(tokens=1024),
            quantise=False,  # 4 bits change a model of this size more than a step does
            seed=seed,
        ),
    )
    play.check()
    say: Say = print if progress else lambda line: None
    judges = {MAJORITY: majority, **dict(zip(JUDGES, majority.members, strict=True))}
    say(f"SmolLM2, a chat model of 135 million parameters, plays itself on {len(chosen) - len(held_out)} prompts.")
    say("A response wins where most of three judges prefer it: to the point, brief, plain. About 20 minutes on two")
    say("cores; after Ctrl-C the same command goes on where it stopped.")
    run = play.run(progress=progress)
    say(f"   measuring on {len(held_out)} prompts that were not played on")
    game = measure(play, run, held_out, size.responses, judges, seed, say)
    write_json(out / "demo.json", game.numbers())
    for line in _lines(game):
        say(f"  {line}")
    prompts = {prompt.id: prompt.text for prompt in run.prompts.kept}
    sections = [_before_and_after(game), _judges(game), _cycle(game, prompts, judges), _nash(game), _given_up(game)]
    summary = [*_summary(game, play), *report.pointers(run.folder)]
    file = report.write(run.folder, sections, "nashward: a real model", out / "report.html", summary)
    say(f"\n{time.monotonic() - began:.0f} seconds")
    print(f"report: {file}")
    return file


def _wins(game: JudgeGame, judge: str, policy: str) -> str:
    """A win rate over the start in words, which beats it only beyond noise."""
    rate = game.rate(judge, policy)
    low, high = rate.interval
    return f"{rate} (95%: {low:.2f} to {high:.2f}), it {rate.verdict} the start"


def _lines(game: JudgeGame) -> list[str]:
    lines = [f"{game.last} against the start, {judge}: {_wins(game, judge, game.last)}" for judge in game.tables]
    nash = ", ".join(f"{name} {weight}" for name, weight in _lottery(game).items())
    return [*lines, f"Nash of the policies, with 90% bands: {nash}", _share_of_cycles(game)]


def _share_of_cycles(game: JudgeGame) -> str:
    share = f"{100 * game.cyclic.value:.1f} ± {100 * game.cyclic.standard_error:.1f}%"
    return f"{share} of {game.triples} triples of responses to a prompt go in a circle under the majority"


def _lottery(game: JudgeGame) -> dict[str, str]:
    from nashward.llm.report.results import with_band

    from .judge_game import MAJORITY

    summary = game.tables[MAJORITY].summary()
    return {name: with_band(summary, name) for name in summary["players"]}


def _summary(game: JudgeGame, play: Any) -> list[Content]:
    from nashward.llm import report

    from .judge_game import MAJORITY

    rate = game.rate(MAJORITY, game.last)
    low, high = rate.interval
    return [
        report.Paragraph(
            "This page shows a real language model, SmolLM2 with 135 million parameters, that played against itself "
            f"on everyday questions: in each of {play.config.iterations} iterations it gave {play.config.responses} "
            "answers to each, a judge compared them in pairs, and the model was trained towards those that win. The "
            "judge is the majority of three small ones: to the point (the answer is near to the question, by the "
            "embeddings of MiniLM), brief, and plain (short words, nothing twice, no marks). Each of the three ranks "
            "all answers; their majority does not, it can go in a circle, so there may be no best answer. All "
            f"figures are of {len(game.prompts)} prompts that were not played on; errors (±) are over prompts."
        ),
        report.Headline(
            f"{100 * rate.value:.1f} ± {100 * rate.standard_error:.1f}%",
            f"of the duels against the start are won by {game.last} under the majority: it {rate.verdict} the start "
            f"(95% interval: {100 * low:.0f}% to {100 * high:.0f}%).",
        ),
        report.Paragraph(report.DUALITY_GAP),
        report.Paragraph(_share_of_cycles(game) + "."),
    ]


def _before_and_after(game: JudgeGame, count: int = 8) -> Section:
    """What the start and the last iterate respond to the same prompts."""
    from nashward.llm import report
    from nashward.llm.evaluation.players import START

    from .judge_game import MAJORITY

    table = game.tables[MAJORITY]
    at = (slice(None), table.players.index(game.last), table.players.index(START))
    wins, step = table.tables[at], max(1, len(game.prompts) // count)
    rows = [
        (game.prompts[n].removesuffix(ENDING), game.answers[START][n][0].text, game.answers[game.last][n][0].text,
         f"{100 * wins[n]:.0f}%")
        for n in range(0, len(game.prompts), step)
    ]  # fmt: skip
    note = (
        f'The first response of each, to some of the prompts ("{ENDING.strip()}" was added to all). The last column '
        "is how many duels of all responses to the prompt the later policy wins."
    )
    head = ("prompt", "before (start)", f"after ({game.last})", "after wins")
    return report.Section("Before and after", [report.Paragraph(note), report.Table(head, rows[:count], text=True)])


def _judges(game: JudgeGame) -> Section:
    """Each policy against the start under each judge."""
    from nashward.llm import report
    from nashward.llm.evaluation.players import START

    rows = []
    for judge in game.tables:
        for policy in game.answers:
            if policy != START:
                rate = game.rate(judge, policy)
                low, high = rate.interval
                rows.append((judge, policy, str(rate), f"{low:.2f} to {high:.2f}", f"{rate.verdict} it"))
    note = "Only the majority was trained on: what one judge gains another may lose."
    head = ("judge", "policy", "wins over the start", "95% interval", "beyond noise")
    return report.Section("Under each judge", [report.Paragraph(note), report.Table(head, rows)])


def _cycle(game: JudgeGame, prompts: dict[str, str], judges: Any) -> Section:
    """The clearest cycle, with what each judge says of it."""
    from nashward.llm import report
    from nashward.llm.oracles import preference_matrices

    share = report.Paragraph(_share_of_cycles(game) + "; each judge alone has none, as it ranks.")
    ring = game.ring
    if ring is None:
        return report.Section("The circle", [share])
    prompt = prompts[ring.prompt]
    tables = {name: preference_matrices(judge, [prompt], [list(ring.texts)])[0].P for name, judge in judges.items()}
    texts = report.Table(("", "response"), list(zip("ABC", ring.texts, strict=True)), text=True)
    duels = [
        (f"{'ABC'[i]} beats {'ABC'[j]}", *(f"{100 * P[i, j]:.0f}%" for P in tables.values()))
        for i, j in ((0, 1), (1, 2), (2, 0))
    ]
    verdicts = report.Table(("how surely", *tables), duels)
    request = report.Paragraph(
        f"The clearest of them, of the responses that the run sampled to: {prompt.removesuffix(ENDING)}"
    )
    return report.Section("Three responses that go in a circle", [share, request, texts, verdicts])


def _nash(game: JudgeGame) -> Section:
    """The Nash of the policies, and each against each."""
    from nashward.llm import report
    from nashward.llm.report.results import winner_sentence
    from nashward.llm.report.summary import gap_among

    from .judge_game import MAJORITY

    summary, lottery = game.tables[MAJORITY].summary(), _lottery(game)
    names, rows = summary["players"], []
    for i, name in enumerate(names):
        gap, _, error = gap_among(summary, name)
        known = f"{gap:.2f}" + ("" if error is None else f" ± {error:.2f}")
        duels = (
            "–" if i == j else f"{summary['P'][i][j]:.2f} ± {summary['standard_errors'][i][j]:.2f}"
            for j in range(len(names))
        )  # fmt: skip
        rows.append((name, lottery[name], known, *duels))
    head = ("policy", "in the Nash (90% band)", "duality gap among these", *(f"against {name}" for name in names))
    return report.Section(
        "The Nash of the policies", [report.Table(head, rows), report.Paragraph(winner_sentence(summary))]
    )


def _given_up(game: JudgeGame) -> Section:
    """Length, divergence and the judges that a policy lost."""
    from nashward.llm import report
    from nashward.llm.evaluation.players import START
    from nashward.llm.report.content import with_error

    (before, error), (after, error_after) = game.tokens(START), game.tokens(game.last)
    lost = [judge for judge in game.tables if game.rate(judge, game.last).verdict == "loses to"]
    rows = [
        ("tokens of a response, start", with_error(before, error)),
        (f"tokens of a response, {game.last}", with_error(after, error_after)),
        (
            "KL divergence from the start, nats per response (on the prompts that were played)",
            with_error(*game.divergence, 2),
        ),
    ]
    verdict = (
        f"{game.last} lost under {', '.join(lost)}." if lost else f"{game.last} loses under no judge beyond noise."
    )
    return report.Section("What was given up", [report.Table(("", ""), rows), report.Paragraph(verdict)])
