"""The results of ``nashward evaluate`` and ``nashward exploit``, as a panel of the run's report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.p_text import p_text
from nashward.shortened import shortened

from ..config.inputs import PEOPLE
from ..evaluation.exploit import TRAINED
from ..evaluation.players import EVALUATION, MIXTURE, TRAINING
from ..evaluation.tables import LEVEL, clear_in_resamples
from ..evaluation.win_rates.win_rate import COUNTS_A_LOSS, UNDECIDED
from .content import Alert, Content, Details, Download, Heading, Paragraph, Picture, Table, with_error
from .stored_results import (
    changed_since,
    current_evaluation,
    exploit_files,
    exploited,
    outdated,
    read_evaluation,
    read_results,
)

LONGEST = 16  # characters of a name in a picture


def evaluation_alerts(folder: Path, old: bool = True) -> list[Alert]:
    """A warning for each measure of over-optimisation beyond its threshold, for each damaged file of results, and, with
    ``old``, of and for results of policies that have changed since."""
    results = read_evaluation(folder) if old else current_evaluation(folder)
    since = "the run went on, or made a step again"
    stale = []
    if others := outdated(folder):
        stale.append(
            f"What `nashward evaluate` measured of {' and '.join(others)} is out of date, and is called old "
            f"here: {since}. `{command('evaluate', folder)}` measures it again."
        )
    for file in exploit_files(folder):
        for name in changed_since(folder, read_results(file)):
            stale.append(
                f"What `nashward exploit` found against {name}, in {file.relative_to(folder)}, is out of "
                f"date, and is left out: {since}. `{command('exploit', folder, '--of', name)}` looks again."
            )
    unusable = [
        Alert(f"{file} cannot be read; the command that wrote it writes it again")
        for file in (folder / EVALUATION, *exploit_files(folder))
        if file.is_file() and not read_results(file)
    ]
    rates = results.get("against_start", {}).get(TRAINING, {})
    lost = [name for name in results.get("policies", {}) if rates.get(name, {}).get("verdict") == "loses to"]
    worse = (
        f"{', '.join(lost)} {'loses' if len(lost) == 1 else 'lose'} to the start under the oracle that the run was "
        "trained on: what the fit promised was not reached, or the policy went too far. Take an earlier iterate, a "
        "smaller --step or more prompts."
    )
    beyond: dict[tuple[str, str], list[str]] = {}  # by the measure with its threshold, and what to do
    gamed = (
        f"The oracle may be gamed: read the responses, judge by another oracle (`{command('evaluate', folder)} "
        "--held-out ORACLE`), and where that agrees take an earlier iterate or a smaller --step."
    )
    level = (
        "Under the run's own oracle nothing was gained for it beyond noise: take an earlier iterate, a smaller --step."
    )
    for policy, measures in results.get("over_optimisation", {}).items():
        advice = level if rates.get(policy, {}).get("verdict") == UNDECIDED else gamed
        for measure in measures:
            if measure["exceeded"] and policy not in lost:
                found = f"{policy} {measure['value']:.3f} ± {measure['standard_error']:.3f}"
                name = f"{measure['measure']} (threshold {measure['threshold']:g})"
                beyond.setdefault((name, advice), []).append(found)
    return [
        *unusable,
        *map(Alert, [*(stale if old else []), *([worse] if lost else [])]),
        *(
            Alert(f"Beyond its threshold: {name}: {', '.join(policies)}. {advice}")
            for (name, advice), policies in beyond.items()
        ),
    ]


def short_source(source: str) -> str:
    """The end of a long path, which names a model; people by their folder, as ``--oracle`` names them; anything else as
    it is.

    Example:
        >>> short_source("/home/me/models/pairrm"), short_source("llm-blender/PairRM")
        ('models/pairrm', 'llm-blender/PairRM')
        >>> short_source("people:/home/me/my votes/team")
        'people:team'
    """
    if source.startswith(PEOPLE):
        return PEOPLE + Path(source.removeprefix(PEOPLE)).name
    return "/".join(Path(source).parts[-2:]) if source.count("/") > 1 and " " not in source else source


def oracle_of_run(config: Mapping[str, Any]) -> str:
    """What judged a run, by its configuration: also how several are combined, and by what their verdicts are corrected.

    Example:
        >>> oracle_of_run({"oracle": None, "objective": ["long=my:Long", "plain=my:Plain"], "combine": "majority"})
        'long (my:Long) and plain (my:Plain), combined by majority'
    """
    corrected = "".join(f", corrected by {one.partition(':')[0]}" for one in config.get("correct") or ())
    given = config["oracle"] or config.get("objective") or "(not given yet)"
    if isinstance(given, str):
        return short_source(given) + corrected
    named = [one.partition("=") for one in given] if config["oracle"] is None else [("", "", one) for one in given]
    listed = [f"{name} ({short_source(source)})" if name else short_source(source) for name, _, source in named]
    return f"{' and '.join(listed)}, combined by {config['combine']}{corrected}"


def command(name: str, *arguments: str | Path) -> str:
    """A command as it is typed.

    Example:
        >>> command("evaluate", Path("runs/my first"))
        "nashward evaluate 'runs/my first'"
    """
    return shlex.join(["nashward", name, *map(str, arguments)])


def prompts_in_words(results: Mapping[str, Any]) -> str:
    """The prompts of an evaluation, with how many of them are those that the run was played on.

    Example:
        >>> prompts_in_words({"prompts": 160, "prompts_of_run": 160})
        "160 prompts, which are the run's own"
        >>> prompts_in_words({"prompts": 9, "prompts_of_run": 0})
        '9 prompts, none of which is of the run'
    """
    every, own = results["prompts"], results["prompts_of_run"]
    text = counted(every, "prompt")
    if own == every:
        return f"{text}, which {'is' if every == 1 else 'are'} the run's own"
    return f"{text}, {own or 'none'} of which {'is' if own < 2 else 'are'} of the run"


def exploit_sentence(results: Mapping[str, Any], folder: Path) -> str:
    """What a trained best response wins against a policy, and the strongest adversary, with what that says of its gap.

    Example:
        >>> best = {"name": "best of 2", "wins": {"value": 0.6, "standard_error": 0.02}, "lower_bound": 0.15}
        >>> exploit_sentence({"of": "mixture", "adversaries": [best]}, Path("runs/first"))[:72]
        'What `nashward exploit` tried against mixture: the strongest, best of 2,'
    """
    strongest = results["adversaries"][0]
    trained = next((one for one in results["adversaries"] if one["name"] == TRAINED), None)
    steps = results.get("train")
    text = f"What `nashward exploit` tried against {results['of']}: "
    if trained is not None:
        length = "" if steps is None else f" for {counted(steps, 'step')}"
        text += f"a best response trained{length} wins {_percent(trained)} of the duels; "
    text += f"the strongest, {strongest['name']}, wins {_percent(strongest)}, so that "
    if strongest["lower_bound"] > 0:
        text += f"the duality gap of {results['of']} is {strongest['lower_bound']:.2f} or more (95% sure)."
    else:
        text += "no gap is shown beyond noise."
    train = command("exploit", folder, "--of", results["of"], "--train", "4")
    return text + (f" No best response was trained: `{train}` trains one." if steps == 0 else "")


def _percent(adversary: Mapping[str, Any]) -> str:
    value, error = adversary["wins"]["value"], adversary["wins"]["standard_error"]
    return f"{with_error(100 * value, None if error is None else 100 * error)}%"


def role(oracle: str, results: Mapping[str, Any]) -> str:
    """What an oracle of ``evaluation.json`` is to the run, in words; "training" is its own."""
    if oracle == TRAINING:
        return "the oracle it was trained on"
    if (seen := results.get("in_sample", {}).get(oracle)) is None:
        return "held out"
    return f"held out, but fitted to votes on {seen} of the {counted(results['prompts'], 'prompt')}: not independent"


def win_sentence(player: str, oracle: str, results: Mapping[str, Any]) -> str:
    """Whether a player beats the start under an oracle, which is said only beyond noise."""
    rate, name = results["against_start"][oracle][player], short_source(results["oracles"][oracle])
    judge = f"Under {name} ({role(oracle, results)})"
    if oracle == TRAINING and "payoff" in results:
        judge = f"By what is played for ({results['payoff']})"
    interval = rate.get("interval")
    if interval is None:
        return f"{judge} {player} wins {rate['win_rate']:.1f}% against the start, with no known error."
    few = f", over {counted(rate['prompts'], 'prompt')}" if "prompts" in rate else ""
    return (
        f"{judge} {player} {rate['verdict']} the start: {rate['win_rate']:.1f}%, 95% interval "
        f"{interval[0]:.1f}% to {interval[1]:.1f}%{few}."
    )


def winner_sentence(
    game: Mapping[str, Any], what: str = "policy", untested: str = "not tested", floor: float = 0.0
) -> str:
    """Which player beats every other one, which is said only beyond noise.

    The p-value is corrected for all players, any of which could have seemed to (``winner_p_value``). The share of
    resamples is of the one alone, so it may be far smaller; the sentence says so.

    Args:
        game: its ``players``, ``condorcet_winner`` and ``condorcet_p_value`` (None: not tested); where it has bands
            (``lottery_band``), who is not told apart has the share of their draws that another Nash came out of.
        what: a player is.
        untested: why it was not tested.
        floor: the least p-value that the draws of a test can give: the true one is at most that.

    Example:
        >>> game = {"players": ["new", "old", "start"], "condorcet_winner": "new", "condorcet_p_value": 0.2}
        >>> winner_sentence(game)
        'No policy beats every other one beyond noise: on average new does (p = 0.2, corrected for 3 policies).'
        >>> winner_sentence({**game, "players": ["new", "old"], "condorcet_p_value": 0.004})
        'new beats old beyond noise (p = 0.004, corrected for 2 policies).'
    """
    names, winner, p = game["players"], game["condorcet_winner"], game.get("condorcet_p_value")
    two = len(names) == 2
    if winner is None:
        return f"{' and '.join(names)} are even." if two else f"No {what} beats every other one (no Condorcet winner)."
    (beaten,) = (name for name in names if name != winner) if two else ("every other one",)
    all_of_them = counted(len(names), what, "policies" if what == "policy" else None)
    known = f"({untested})" if p is None else f"({p_text(p, floor)}, corrected for {all_of_them})"
    if p is not None and p <= LEVEL:
        return f"{winner} beats {beaten} beyond noise {known}."
    whole = (game.get("lottery_band") or {}).get("whole")
    if whole is not None:
        alone = "" if p is None else ", without that correction,"
        known += f"; in {1 - whole[winner]:.0%} of resamples{alone} the Nash is not {winner} alone"
    if p is None:
        return f"On average {winner} beats {beaten} {known}."
    if two:
        return f"{' and '.join(names)} are not told apart: on average {winner} wins {known}."
    return f"No {what} beats every other one beyond noise: on average {winner} does {known}."


def game_sentences(game: Mapping[str, Any]) -> list[str]:
    """Who beats whom in a game of ``evaluation.json``; with more than two players also what scores miss, and cycles.

    Example:
        >>> game_sentences({"players": ["new", "old"], "condorcet_winner": None, "prompts": 8})
        ['new and old are even.']
    """
    winner = winner_sentence(game, untested="one prompt is no test")
    if clear_in_resamples(game):
        winner += f" Resamples are of the {counted(game['prompts'], 'prompt')} alone; {COUNTS_A_LOSS}."
    if len(game["players"]) == 2:
        return [winner]
    cycles = "; ".join(" > ".join([*cycle["players"], cycle["players"][0]]) for cycle in game["cycles"])
    return [
        winner,
        f"Scores (Bradley-Terry) miss a win rate by up to {game['bradley_terry']['largest_residual']:.3f}; "
        f"{100 * game['curl']:.1f}% of the log-odds are cyclic.",
        f"Cycles beyond noise: {cycles or 'none'}.",
    ]


def missing_sentences(oracle: str, results: Mapping[str, Any]) -> list[str]:
    """What an oracle did not judge of an evaluation, and how many prompts each win rate then is of.

    Example:
        >>> rates = {"training": {"last": {"prompts": 9}}}
        >>> results = {"prompts": 10, "missing": {"training": 1}, "against_start": rates}
        >>> missing_sentences("training", {**results, "games": {"training": {"players": ["start", "last"]}}})
        ['1 of 10 pairs of responses were not judged; the win rates are of the others: last of 9 prompts.']
    """
    missing = results.get("missing", {}).get(oracle, 0)
    if not missing:
        return []
    n = len(results["games"][oracle]["players"])
    judged = ", ".join(
        f"{player} of {counted(rate.get('prompts', results['prompts']), 'prompt')}"
        for player, rate in results["against_start"][oracle].items()
    )
    return [
        f"{missing} of {counted(results['prompts'] * n * (n - 1) // 2, 'pair')} of responses were not judged; the win "
        f"rates are of the others: {judged}."
    ]


def unjudged_sentences(results: Mapping[str, Any]) -> list[str]:
    """The held-out oracles that an evaluation leaves out, and why."""
    return [f"{reason}: there is no win rate under it." for reason in results.get("unjudged", {}).values()]


def evaluation(folder: Path) -> list[Content]:
    """The tournament under each oracle, the measures of over-optimisation, and the adversaries of the policies."""
    results = read_evaluation(folder)
    content: list[Content] = []
    if results.get("games"):
        note = f"By `nashward evaluate`: a response of each policy to {prompts_in_words(results)}, drawn "
        mixed = " The mixture draws each response from one of the policies that were played."
        note += f"independently and judged against each other.{mixed if MIXTURE in results['tokens'] else ''}"
        if "payoff" in results:
            note += f" Under the oracle it was trained on that is what is played for: {results['payoff']}."
        content.append(Paragraph(note))
    content += [part for oracle in results.get("games", {}) for part in _tournament(oracle, results)]
    content += map(Alert, unjudged_sentences(results))
    if results:
        content += [*_over_optimisation(results), Download(results, "evaluation", EVALUATION)]
    for adversaries in exploited(folder):
        content += _adversaries(adversaries)
    return content


def _tournament(oracle: str, results: dict[str, Any]) -> list[Content]:
    from nashward.games import PreferenceGame, nash
    from nashward.games.plots import payoff_table

    game, rates = results["games"][oracle], results["against_start"][oracle]
    rows = []
    for name in game["players"]:
        rate = rates.get(name, {})
        refused = (_share(results.get(which, {}).get(name)) for which in ("refusals", "prompt_refusals"))
        rows.append((name, with_error(rate.get("win_rate"), rate.get("standard_error")), rate.get("verdict"),
                     rate.get("minimal"),
                     with_band(game, name), game["exploitability"][name], results["tokens"][name],
                     *refused))  # fmt: skip
    head = (
        "policy", "wins over the start, %", "against the start, beyond noise",
        "wins at equal lengths in characters (minimal), %", "in the Nash (90% band)",
        "exploitability (half the duality gap)", "tokens", "refuses the probe", "refuses these prompts",
    )  # fmt: skip
    labelled = PreferenceGame(game["P"], labels=shortened(game["players"], LONGEST))
    figure = payoff_table(labelled, nash(labelled))
    if (layout := figure.get_layout_engine()) is not None:
        layout.set(wspace=0.08)  # type: ignore[call-arg]  # else the names touch the colour bar's numbers
    return [
        Heading(f"{short_source(results['oracles'][oracle])} ({role(oracle, results)})"),
        Table(head, rows),
        Paragraph(" ".join([*game_sentences(game), *missing_sentences(oracle, results)])),
        Picture(figure, "P(row beats column)."),
        *_duels(game),
    ]


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.0f}%"


def with_band(game: Mapping[str, Any], name: str) -> str:
    """A player's weight in the Nash of a game, with its band where there is one.

    Example:
        >>> with_band({"lottery": {"a": 1.0}, "lottery_band": {"low": {"a": 0.25}, "high": {"a": 1.0}}}, "a")
        '1.00 (0.25 to 1.00)'
    """
    band = game["lottery_band"]
    known = "no band" if band is None else f"{band['low'][name]:.2f} to {band['high'][name]:.2f}"
    return f"{game['lottery'][name]:.2f} ({known})"


def _duels(game: Mapping[str, Any]) -> list[Content]:
    """Each policy against each with the standard errors, folded away; empty for results without errors."""
    errors = game.get("standard_errors")
    if errors is None:
        return []
    names = game["players"]
    rows = [
        (name, *(None if i == j else with_error(game["P"][i][j], errors[i][j], 2) for j in range(len(names))))
        for i, name in enumerate(names)
    ]
    return [Details("The same with standard errors", [Table(("P(row beats column)", *names), rows)])]


def _over_optimisation(results: dict[str, Any]) -> list[Content]:
    """The table of what was given up for the oracle; empty where nothing was measured."""
    measured = {
        policy: {measure["measure"]: measure for measure in measures}
        for policy, measures in results["over_optimisation"].items()
    }
    if not measured:
        return []
    thresholds = {
        measure["measure"]: measure["threshold"] for measures in measured.values() for measure in measures.values()
    }
    head = ("policy", *(f"{name} (threshold {threshold:g})" for name, threshold in thresholds.items()))
    rows = [(policy, *(_value(measures.get(name)) for name in thresholds)) for policy, measures in measured.items()]
    rule = "A figure above its threshold is marked only where it is so beyond noise (standard error, one-sided 5%)."
    if any("refusals lost" in own for own in measured.values()):
        rule += (
            " Refusals lost are counted on the probe's requests, which should be refused; below 0 the policy refuses "
            "more of them. Refusals gained are counted on the prompts of this comparison."
        )
    content: list[Content] = [Heading("What was given up for the oracle"), Table(head, rows), Paragraph(rule)]
    for_scale = [  # policies known only by their responses have no verdict
        policy
        for policy, measures in measured.items()
        if any(measure["exceeded"] is None for measure in measures.values())
    ]
    if for_scale:
        note = f"{'is' if len(for_scale) == 1 else 'are'} there for scale: known by responses alone, with no verdict"
        content.append(Paragraph(f"{', '.join(for_scale)} {note}."))
    return content


def _value(measure: dict[str, Any] | None) -> str | None:
    """A measure with its error, and whether it is beyond the threshold."""
    if measure is None:
        return None
    value = with_error(measure["value"], measure["standard_error"], 3) or "?"
    return f"{value}{' beyond' if measure['exceeded'] else ''}"


def _adversaries(results: dict[str, Any]) -> list[Content]:
    if not results:
        return []
    rows = [
        (
            adversary["name"],
            with_error(adversary["wins"]["value"], adversary["wins"]["standard_error"], 3),
            adversary["gap"],
            adversary["lower_bound"],
        )
        for adversary in results["adversaries"]
    ]
    head = ("adversary", "beats it", "duality gap at least", "95% sure of")
    said = "; ".join(results["theorem"])
    return [Heading(f"Who beats {results['of']}"), Table(head, rows), Paragraph(f"{said[:1].upper()}{said[1:]}.")]
