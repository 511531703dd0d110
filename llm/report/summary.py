"""The head of a run's report: what the page is, what came out in one figure with its error, what its terms mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nashward.counted import counted

from ..config.fit import Fit
from ..evaluation.evaluate import GAIN, same_as_start
from ..evaluation.players import is_start
from ..oracles.ensembles.objectives import plays_against_the_start
from ..run.inputs.prompts import few_prompts
from ..run.selfplay import iterates
from ..store.run_folder import RunFolder
from ..training.diagnostics import went_too_far
from .alerts import ALERTS, alerts
from .content import Alert, Content, Headline, Paragraph, Pointer, with_error
from .objectives import most_exact, objective_sentences
from .results import (
    TRAINING,
    command,
    exploit_sentence,
    oracle_of_run,
    prompts_in_words,
    short_source,
    win_sentence,
)
from .stored_results import exploited, read_evaluation

PARTS = ("validation", "held_out")  # the settings of a fit that divide its prompts

DUALITY_GAP = (
    "The duality gap of a policy says how far it is from the Nash equilibrium, the policy that no other one beats. It "
    "is twice the margin above 50% by which its best opponent beats it: 0 means that nobody does, and 0.1 that "
    "somebody wins 55% of the duels against it."
)


def run_name(folder: str | Path) -> str:
    """The name of a run: its folder's, with the folder around it where it is just called run.

    Example:
        >>> run_name("runs/first"), run_name("demo/run")
        ('first', 'demo/run')
    """
    place = Path(folder).resolve()
    return f"{place.parent.name}/{place.name}" if place.name == "run" else place.name


def summary(folder: Path) -> list[Content]:
    """What this page is and what came out, for a reader who sees both first."""
    run = RunFolder(folder).read()
    if not run:
        return [Paragraph("The run has not started.")]
    rows = iterates(folder)
    content: list[Content] = [Paragraph(_what_it_is(folder, run, len(rows)))]
    if not rows:
        return [*content, Paragraph("No step is finished yet.")]
    evaluation = read_evaluation(folder)
    newest = rows[-1]
    tried = {result["of"]: result for result in exploited(folder)}
    content += _few(run)
    far = [(row["iteration"], went_too_far(row["after"], row["train"]["kl"])) for row in rows]
    content += [Alert(f"{name}: {sentence}") for name, sentence in far if sentence][-1:]
    if is_start(RunFolder(folder), folder / newest["iteration"] / "adapter"):
        content += [
            Headline("No change", f"{same_as_start([newest['iteration']])}: there is nothing to compare."),
            Paragraph(GAIN),
        ]
    elif newest["iteration"] in evaluation.get("against_start", {}).get(TRAINING, {}):
        rule = str(run["config"].get("combine")).partition(":")[0]
        looked = newest["iteration"] in tried or plays_against_the_start(rule)  # which exploit does not judge
        content += _evaluated(folder, newest["iteration"], evaluation, looked)
    else:
        moved = with_error(newest["after"]["kl_to_reference"], newest["after"].get("kl_to_reference_error"), 2)
        of = f"per response: how far {newest['iteration']} is from"
        content += [
            Headline(f"{moved} nats", f"{of} the start (KL divergence).")
            if moved
            else Headline(f"{newest['train']['kl']:.0f} nats", f"{of} the policy that its step began with: too far."),
            Paragraph(
                f"Whether that made it better is not measured yet: `{command('evaluate', folder)}` lets the "
                "policies of this run play against each other."
            ),
        ]
    content += [Paragraph(exploit_sentence(result, folder)) for result in tried.values()]
    return [*content, *pointers(folder)]


def _few(run: Mapping[str, Any]) -> list[Content]:
    """The warning that a run has few prompts; empty where it has enough."""
    fit = {name: value for name, value in run["config"]["fit"].items() if name in PARTS}
    prompts = run.get("data", {}).get("prompts")
    few = None if prompts is None else few_prompts(prompts, Fit(**fit))
    return [Alert(f"This run has {few}.")] if few else []


def pointers(folder: Path) -> list[Content]:
    """Where the warnings are: each stands in the section that it is about, and those of this section are above."""
    counts = {name: len(alerts(folder, name)) for name in ALERTS if name != "In short"}
    return [Pointer(f"{counted(count, 'warning')}, with what to do: ", name) for name, count in counts.items() if count]


def _what_it_is(folder: Path, run: Mapping[str, Any], finished: int) -> str:
    config = run["config"]
    policy, oracle = short_source(config["policy"] or "(not given yet)"), oracle_of_run(config)
    return (
        f"This page is the report of the run {run_name(folder)}. The language model {policy} played against itself "
        f"under the oracle {oracle}, a judge that says which of two responses to a prompt is better. "
        f"{finished} of {counted(config['iterations'], 'iteration')} of the solver {config['solver']['name']} are "
        f"finished. In each the model gives {counted(config['responses'], 'response')} to each prompt, the oracle "
        "compares them in pairs, and an adapter (LoRA) is trained to make the winners likelier."
    )


def _evaluated(folder: Path, newest: str, results: Mapping[str, Any], looked: bool) -> list[Content]:
    """The win rate of the newest iterate over the start, with its verdict, and its duality gap among the players.

    Args:
        looked: whether ``nashward exploit`` has looked for opponents that beat it, or cannot.
    """
    rate = results["against_start"][TRAINING][newest]
    figure = with_error(rate["win_rate"], rate["standard_error"])
    judged = f" under what is played for ({results['payoff']})" if "payoff" in results else ""
    content: list[Content] = [
        Headline(
            f"{figure}%",
            f"of the duels against the start are won by {newest}{judged}: a response of each, drawn by nashward "
            f"evaluate, to {prompts_in_words(results)}.",
        )
    ]
    verdicts = [win_sentence(newest, oracle, results) for oracle in results["against_start"]]
    content.append(Paragraph(" ".join([*verdicts, *objective_sentences(newest, most_exact(results, folder))])))
    game = results["games"].get(TRAINING)
    if game is None:  # of the worst case
        return content
    gap, opponent, error = gap_among(game, newest)
    among = (
        f" That of {newest} among the policies that were compared here is {with_error(gap, error, 2)}"
        + (f" (its best opponent is {opponent})." if gap > 0 else ".")
        + ("" if looked else f" Others were not tried: `{command('exploit', folder, '--of', newest)}` looks for them.")
    )
    return [*content, Paragraph(DUALITY_GAP + among)]


def gap_among(game: Mapping[str, Any], player: str) -> tuple[float, str, float | None]:
    """A player's duality gap among those of a game of ``evaluation.json``, the best opponent, and the standard error of
    the duel with it; None: not known.

    Example:
        >>> gap_among({"players": ["a", "b"], "P": [[0.5, 0.4], [0.6, 0.5]]}, "a")
        (0.2, 'b', None)
    """
    names, column = game["players"], game["players"].index(player)
    best = max(range(len(names)), key=lambda i: game["P"][i][column])
    errors = game.get("standard_errors")
    error = None if errors is None or best == column else errors[best][column]
    return round(2 * (game["P"][best][column] - 0.5), 12), names[best], None if error is None else 2 * error
