"""``nashward fit-oracle``: an oracle of one's own."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nashward.cli import options
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.llm.config import FitSettings
from nashward.llm.config.oracle_fit import Kind
from nashward.p_text import p_text
from nashward.shortened import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nashward.llm.oracles.fitting.annotators import AnnotatorAccuracy
    from nashward.llm.oracles.fitting.fit import OracleFit
    from nashward.llm.oracles.fitting.summary import VoteCycle
    from nashward.llm.oracles.fitting.votes import Vote

SHOWN = 3  # cycles
UNSURE = 0.3  # width of an accuracy's interval: from a coin to a fair annotator

KINDS: dict[Kind, str] = {
    "pairrm": "reads both responses together",
    "gpm": "embeds each response, so that cycles can be held",
    "bt": "gives each response a reward",
    "hrc": "a reward and a cyclic part, each with a penalty of its own",
}
SETTINGS = options.options_of(FitSettings)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("votes", nargs="?", metavar="FILE", help="votes, judgements or chosen/rejected pairs")
    given.add_argument("--pairs", metavar="FILE", help="the same, as an option")
    parser.add_argument(
        "--base", required=True, metavar="ID_OR_FOLDER",
        help="the model under the head; without a hub real:minilm, an encoder from a package, or pocket:policy, which "
        "is tiny and comes along",
    )  # fmt: skip
    kinds = "; ".join(f"{name}: {text}" for name, text in KINDS.items())
    parser.add_argument(
        "--kind", choices=tuple(KINDS), help=f"{kinds} (default: that of a base that is an oracle, else gpm)"
    )
    parser.add_argument("--out", required=True, type=options.path, metavar="FOLDER", help="a new folder for the oracle")
    parser.add_argument(
        "--annotator-weights", metavar="NAME=W,...",
        help="how much a vote of each of these annotators counts, more for experts (default: 1)",
    )  # fmt: skip
    parser.add_argument("--device", help="default: cuda where there is one")
    options.add(parser.add_argument_group("training"), SETTINGS)


def run(args: argparse.Namespace) -> int:
    from nashward.llm import oracles
    from nashward.llm.oracles.fitting.annotators import weighted_annotators
    from nashward.llm.oracles.fitting.init import find_base

    settings = FitSettings(**options.values(args, SETTINGS))
    votes = oracles.read_votes(args.pairs or args.votes)
    if args.annotator_weights is not None:
        votes = weighted_annotators(votes, _weights(args.annotator_weights))
    find_base(args.base, "--base")
    fit = oracles.fit_oracle(
        votes, args.base, args.kind, args.out, settings, device=args.device, progress=not args.quiet
    )
    weighted = [vote for vote in votes if vote.weight > 0]
    used = [vote for vote in weighted if vote.a != vote.b]
    advice = "more votes, another base or --train lora may help"
    if settings.train != "head":
        advice = "more votes or another base may help"
    _print_votes(used, fit, len(weighted) - len(used))
    counted_votes = [vote for vote in used if fit.weights.get(vote.annotator or "", 1.0) > 0]
    _print_held_out(counted_votes, fit)
    _print_worth(counted_votes, fit, settings, advice)
    _print_cycles(fit, advice)
    _print_annotators(used, fit, settings)
    print(f"oracle: {fit.folder}")
    return 0


def _print_votes(used: list[Vote], fit: OracleFit, equal: int) -> None:
    annotators = {vote.annotator for vote in used if vote.annotator}
    by = f" by {counted(len(annotators), 'annotator')}"
    if not annotators:
        by = "; by whom is not known (no annotator or voter in the rows)"
    print(f"{counted(len(used), 'vote')} on {_prompts(used)}{by}")
    print("trained on " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in fit.pairs.items() if count))
    if equal:
        print(f"left out: {counted(equal, 'vote')} between equal texts, which tell nothing")


def _print_held_out(used: list[Vote], fit: OracleFit) -> None:
    """What the fit predicts of votes on prompts that it did not see, beside what knows nothing of the texts."""
    ties = sum(vote.wins == vote.n / 2 for vote in used)
    print(
        f"held-out log-loss {fit.log_loss:.4f} ± {fit.standard_error:.4f} nats; a coin {fit.chance:.4f}, the length "
        f"alone {fit.length:.4f}"
        + ("" if fit.majority is None else f", the side that wins more often {fit.majority:.4f}")
    )
    print(
        f"on the right side {fit.accuracy:.1%}; the length alone {fit.length_accuracy:.1%}"
        + ("" if fit.majority_accuracy is None else f", the side that wins more often {fit.majority_accuracy:.1%}")
        + (f"; {counted(ties, 'tie')}, each half right" if ties else "")
    )
    if fit.cyclic is not None:
        print(f"of the log-odds (mean square) {fit.cyclic:.1%} go round, which no score holds; a score holds the rest")
    if fit.cut:
        print(f"cut in the middle: {fit.cut} of {fit.texts} prompts and responses ({fit.cut / fit.texts:.0%})")


def _print_worth(used: list[Vote], fit: OracleFit, settings: FitSettings, advice: str) -> None:
    """Whether the oracle is better than a coin, and than the length of the responses alone."""
    from nashward.games.analysis.confidence import side_of_zero

    prompts = len({vote.prompt for vote in used})
    if side_of_zero(fit.accuracy_gain, fit.accuracy_gain_error, prompts) < 0:
        less = f"{-fit.accuracy_gain:.1%} ± {fit.accuracy_gain_error:.1%}"
        print(f"warning: it is on the right side less often than the length of the responses alone, by {less}")
    over = f"{fit.gain:+.4f} ± {fit.gain_error:.4f} nats over the length alone"
    told = fit.chance - fit.log_loss
    side = side_of_zero(told, fit.standard_error, prompts)
    if side <= 0:
        verdict = "worse than a coin" if side < 0 else "not told apart from a coin"
        by = f"by {counted(len(used), 'vote')} on {_prompts(used)}"
        better = "better" if told > 0 else "worse"
        print(f"warning: {verdict} {by} ({abs(told):.4f} ± {fit.standard_error:.4f} nats {better}); {advice}")
    elif settings.length == "remove":
        print("the length is taken out: of the figures above those of the oracle are without it")
    elif side_of_zero(fit.gain, fit.gain_error, prompts) <= 0:
        print(f"warning: these votes show no more than the length of the responses ({over}); {advice}")
    else:
        print(f"{over}, which tells {max(fit.length_share, 0):.0%} of what the oracle tells")


def _print_cycles(fit: OracleFit, advice: str) -> None:
    helps = f"try --kind hrc first; else {advice}"
    helps = {"bt": "a reward cannot, try --kind hrc, gpm or pairrm", "hrc": advice}.get(fit.kind, helps)
    for cycle in fit.cycles[:SHOWN]:
        print(_cycle(cycle))
        if min(cycle.sides) < 1:
            print(f"warning: the oracle does not hold this cycle; {helps}")
    if len(fit.cycles) > SHOWN:
        print(f"and {counted(len(fit.cycles) - SHOWN, 'more cycle')} (fit.json)")


def _print_annotators(votes: list[Vote], fit: OracleFit, settings: FitSettings) -> None:
    """How far each annotator can be trusted, and what each one's votes weigh."""
    from nashward.llm.oracles.fitting.annotators import annotator_accuracies
    from nashward.llm.oracles.fitting.summary import length_habits

    accuracies = annotator_accuracies(votes)
    less = "these votes count less" if fit.weights else "--weigh-annotators counts these votes less"
    against = {name for name, own in fit.annotators.items() if own.against}
    against |= {name for name, own in accuracies.items() if own.interval[1] < 0.5}
    by_length = {
        name: habit for name, habit in length_habits(votes).items()
        # of who votes against the others what these like is disliked, length too
        if name in fit.annotators and name not in against and habit.followed >= fit.annotators[name].agreement
    }  # fmt: skip
    named = {*fit.annotators, *accuracies}
    if named:
        print(
            "slope of an annotator: 1 follows what the fit predicts as all votes do, 0 is a coin, below 0 against it"
            + "; right: by the agreement of all annotators on pairs of texts" * bool(accuracies)
        )
    for name in _least_right_first(fit, accuracies):
        parts, verdicts = [], []
        if (annotator := fit.annotators.get(name)) is not None:
            parts += [
                counted(annotator.votes, "vote"), f"{annotator.agreement:.0%} as predicted",
                f"slope {annotator.slope:.2f} ± {annotator.standard_error:.2f}",
            ]  # fmt: skip
            verdicts += [annotator.verdict] * annotator.suspect
        if (accuracy := accuracies.get(name)) is not None:
            low, high = accuracy.interval
            parts.append(f"right in {accuracy.value:.0%} ({low:.0%} to {high:.0%})")
            verdicts += ["far below the others"] * accuracy.suspect
        line = f"annotator {name}: {', '.join(parts)}" + f": {' and '.join(verdicts)}" * bool(verdicts)
        # where agreement tells, it decides
        line += f"; {less}" * (bool(verdicts) and (accuracy is None or accuracy.suspect))
        if (habit := by_length.get(name)) is not None:
            others = habit.others if habit.side == "longer" else 1 - habit.others
            line += (
                f"; goes by length: the {habit.side} response in {habit.followed:.0%} ± {habit.standard_error:.0%}, "
                f"for the others in {others:.0%} ± {habit.others_error:.0%} (--annotator-weights {name}=0 leaves "
                f"these votes out{', --length remove the length' * (settings.length == 'keep')})"
            )
        print(line)
    if len(named) > 1:
        print(_whom_to_look_at(fit, accuracies))
    if fit.weights:
        by = "how far an annotator is right beyond chance, by agreement" if accuracies else "the slope, at most 1"
        print(f"weights ({by}): " + ", ".join(f"{name} {weight:.2f}" for name, weight in fit.weights.items()))
        if unsure := [name for name, own in accuracies.items() if own.interval[1] - own.interval[0] > UNSURE]:
            print(
                f"warning: too few pairs have several annotators: the weights of {', '.join(unsure)} are uncertain "
                "(the intervals above); more votes on the same pairs tell annotators apart"
            )


def _least_right_first(fit: OracleFit, accuracies: Mapping[str, AnnotatorAccuracy]) -> list[str]:
    """The annotators by the share that is right by agreement; of whom that says nothing, by the share as predicted."""
    shares = {name: own.agreement for name, own in fit.annotators.items()}
    shares |= {name: own.value for name, own in accuracies.items()}
    return sorted(shares, key=lambda name: (shares[name], name))


def _whom_to_look_at(fit: OracleFit, accuracies: Mapping[str, AnnotatorAccuracy]) -> str:
    """Which annotator's votes to read first, by agreement where it tells of them, else by the fit's predictions."""
    ranked = _least_right_first(fit, accuracies)
    by_fit = {name for name, own in fit.annotators.items() if own.suspect and name not in accuracies}
    suspects = [name for name in ranked if name in by_fit or (name in accuracies and accuracies[name].suspect)]
    if suspects:
        return f"look at the votes of {', '.join(suspects)} first: they stand apart from the others' at 95%"
    first = ranked[0]
    why = "no annotator is far below the others at 95%"
    own = accuracies.get(first)
    if own is not None and own.interval[1] - own.interval[0] > UNSURE:
        return f"{why}; {first} is lowest, but of few pairs: more votes on pairs that others voted on tell"
    return why


def _prompts(votes: list[Vote]) -> str:
    return counted(len({vote.prompt for vote in votes}), "prompt")


def _cycle(cycle: VoteCycle) -> str:
    """A cycle of the votes, and what the oracle has of each of its pairs."""
    from nashward.llm.oracles.fitting.summary import LONGEST, ring

    where = "" if cycle.prompt is None else f" among responses to {shortened([cycle.prompt], LONGEST)[0]!r}"
    return (
        f"cycle of the votes beyond noise{where} ({p_text(cycle.p_value, cycle.floor)}): {ring(cycle.names)}; the "
        f"oracle's held-out log-odds: {cycle.leads_in_words}"
    )


def _weights(text: str) -> dict[str, float]:
    """The weights of annotators, by name."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, sign, number = part.rpartition("=")
        name = name.strip()  # as votes name annotators
        if not sign or not name or name in weights:
            raise NashwardError(
                f"--annotator-weights {text}: expected NAME=WEIGHT,... with each name once, got {part!r}"
            )
        try:
            weights[name] = options.number(number)
        except argparse.ArgumentTypeError as error:
            raise NashwardError(f"--annotator-weights {text}: {error}") from None
    return weights


COMMAND = Command(
    "nashward fit-oracle votes.jsonl --base real:minilm --out oracles/mine",
    add_arguments,
    run,
    first=("pairs", "base", "kind", "train", "out", "length", "annotator-weights", "device"),
    divides=True,
)
