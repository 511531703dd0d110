"""``nashward solve``: the Nash of a game, exactly, and how one solver or several get there."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from nashward import games
from nashward.cli import configuration, json_output, options, outputs, specs
from nashward.cli.command import Command
from nashward.cli.commands.tables import pictures
from nashward.cli.commands.tables.products import products_of_an_iteration, unequal
from nashward.cli.solver_options import SOLVER
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.forms.labels_of_csv import LABELS
from nashward.games.solvers.solver_label import solver_label

SETTINGS = {name: option for name, option in SOLVER.items() if name != "solver"}
SETTINGS["step"] = dataclasses.replace(SETTINGS["step"], text="the solver's step size (default: its own)")
DRAWN = (  # to the reference, for good
    games.MagneticMirrorDescent, games.INPO, games.NashMD, games.NashEMA, games.HistoryMixture, games.ExtraGradient,
)  # fmt: skip
THERE = 1e-3  # total variation
ROUNDING = 1e-12  # of a gap
CIRCLE = (games.MWU, games.Momentum, games.GDA, games.Replicator, games.FictitiousPlay)  # the last iterate, in a cycle
FAR = 100  # times the iterations of a run, from which on an average is no way to a tolerance
AVERAGES = {"linear": games.averaging.linear}


@dataclass(frozen=True)
class Played:
    """A solver, what it found, what was warned of, and the regularised Nash that it is drawn to, if any.

    ``products`` are those of table and vector in an iteration; ``away`` is how far the last iterate is from that Nash,
    in total variation; of two players the larger.
    """

    solver: Any
    solution: games.Solution
    warnings: list[str]
    products: int
    drawn_to: games.equilibria.RegularisedEquilibrium | None
    away: float = 0.0

    @property
    def label(self) -> str:
        """The name, with the step and every other setting that is not the usual one."""
        return solver_label(self.solver)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "table",
        help="a .csv, .npy, .npz or .parquet file, a table of how often the action of a row beats that of a column, or "
        "a list of how often the first of two names beats the second; zoo:NAME, a game of the zoo; or generator:NAME "
        "with its settings, "
        f"as generator:blotto:troops=6:fields=3 (there are {', '.join(specs.GENERATORS)})",
    )
    parser.add_argument(
        "--total", type=options.number, help="read an n x m game whose payoffs sum to this, not a preference game"
    )
    parser.add_argument(
        "--labels", choices=LABELS,
        help="where the file has labels: in the first row and column (both), in one of them (columns: in the first "
        "row; rows: in the first column), or none (default: what is no number, or what fits the shape)",
    )  # fmt: skip
    parser.add_argument(
        "--rounding", type=options.number,
        help="how far two win probabilities of a pair, rounded to few digits, may sum from 1, as 0.01 (default: 1e-6)",
    )  # fmt: skip
    parser.add_argument(
        "--solver", action="append", default=[], type=SOLVER["solver"].parse, metavar="SOLVER",
        help="a solver, or several by commas or by giving this again, each with its own settings if need be, as "
        "MWU,OptimisticMWU:step=0.5; your own as module:Class "
        f"(there are {', '.join(kind.__name__ for kind in games.solvers.SOLVERS)})",
    )  # fmt: skip
    parser.add_argument(
        "--iterations", type=options.whole, default=1000, help="iterations of each solver (default: 1000)"
    )
    parser.add_argument(
        "--tolerance", type=options.number,
        help="stop at this gap of the last or of the average; where it is not reached a line says so, with exit code 0",
    )  # fmt: skip
    parser.add_argument(
        "--start", metavar="P,P,...",
        help="the policy to start from (default: uniform); for an n x m game the row's and the column's, as P,P/Q,Q,Q",
    )  # fmt: skip
    parser.add_argument(
        "--feedback", default="exact",
        help="what a step sees: exact (default); samples of the opponent, as samples:k=5; or duels, as duels:duels=10",
    )  # fmt: skip
    parser.add_argument("--seed", type=options.whole, help="seed of the samples or duels (default: 0)")
    parser.add_argument(
        "--plot", type=options.path, nargs="?", const=Path("nash.png"),
        help="write a picture (default: nash.png)",
    )  # fmt: skip
    parser.add_argument(
        "--picture", choices=pictures.PICTURES,
        help="what --plot draws: the table; gaps against iterations; the race, which is the largest gap from each "
        "iteration to the end; or the path of the last iterates (default: the table, with solvers the gaps)",
    )  # fmt: skip
    parser.add_argument(
        "--actions", metavar="A,B",
        help="the two actions whose probabilities are the axes of --picture path (default: the simplex of three "
        "actions; with more, the plane in which the iterates move most)",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=options.path, metavar="FILE", help="write everything as JSON, for a program to read"
    )
    options.add_groups(parser, SETTINGS)


def run(args: argparse.Namespace) -> int:
    game = specs.game(args.table, args.total, args.labels, args.rounding)
    if game.batch_shape:
        raise NashwardError(f"{args.table} holds a batch of games of shape {tuple(game.batch_shape)}; give one game")
    shared = configuration.flags(args, SETTINGS)
    solver_settings = [*shared, *(name for name in ("tolerance", "start", "seed") if getattr(args, name) is not None)]
    solver_settings += ["feedback"] * (args.feedback != "exact")
    if solver_settings and not args.solver:
        raise NashwardError(f"--{solver_settings[0]} is a setting of a solver: give --solver as well")
    if args.tolerance is not None and not args.tolerance >= 0:
        raise NashwardError(f"--tolerance is a duality gap, a number >= 0; got {args.tolerance:g}")
    solvers = specs.solvers(args.solver, shared)
    feedback = specs.feedback(args.feedback, args.seed)
    start = None if args.start is None else _start(args.start, game)
    picture, actions = pictures.chosen(args, game)
    outputs.check_picture("--plot", args.plot, "nash.png")
    outputs.check_file("--json", args.json, "nash.json")

    entry = specs.entry(args.table)
    equilibrium, fractions = _without_rounding(game, games.nash(game) if entry is None else entry.equilibrium(), entry)
    closed: list[BrokenPipeError] = []  # by head, say: the files are written nevertheless
    with outputs.read_by_none(closed):
        _print_nash(args.table, game, equilibrium, entry, fractions)
    settings = {
        "iterations": args.iterations, "start": start, "tolerance": args.tolerance, "feedback": feedback,
        "averages": AVERAGES, "keep_policies": picture == "path", "record": pictures.points(picture, args),
        "progress": sys.stderr.isatty(),
    }  # fmt: skip
    played = [_play(game, solver, settings) for solver in solvers]
    with outputs.read_by_none(closed):
        _print_played(args, played)
    if args.plot is not None:
        solutions = {one.label: one.solution for one in played}
        pictures.draw(args.plot, picture, Path(args.table).name, game, equilibrium, solutions, actions, start)
    if args.json is not None:
        content = {
            "table": args.table,
            "game": _described(game, entry),
            "nash": _nash_content(equilibrium, fractions),
            "iterations": args.iterations, "tolerance": args.tolerance, "start": start,
            "feedback": args.feedback, "seed": args.seed,
            "solvers": [_played_content(one) for one in played],
        }  # fmt: skip
        json_output.write(args.json, content)
    if closed:
        raise closed[0]
    for name in ("plot", "json"):
        if (file := getattr(args, name)) is not None:
            print(f"{'picture' if name == 'plot' else name}: {file}")
    return 0


def _play(game: Any, solver: Any, settings: dict[str, Any]) -> Played:
    """Play a solver, and print what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            solution = games.solve(game, solver, **settings)
        except NashwardError as error:
            raise NashwardError(f"{solver_label(solver)}: {error}") from error
    messages = [str(warning.message) for warning in caught]
    products = products_of_an_iteration(game, solver, settings["start"], settings["iterations"])
    played = Played(solver, solution, messages, products, *_drawn_to(game, solver, settings["start"], solution))
    for message in messages:
        print(f"warning: {message}", file=sys.stderr)
    return played


def _start(text: str, game: Any) -> Any:
    players = text.split("/")
    if len(players) != len(game.sizes):
        form = "a preference game is one policy, P,P,..."
        if len(game.sizes) > 1:
            form = "an n x m game is two policies, the row's and the column's: P,P/Q,Q"
        raise NashwardError(f"--start of {form}; got {text!r}")
    try:
        start = [[float(cell) for cell in one.split(",")] for one in players]
    except ValueError:
        raise NashwardError(f"--start: expected probabilities joined by commas, got {text!r}") from None
    policy = start[0] if len(start) == 1 else start
    sides = [game.labels] if len(players) == 1 else [game.row_labels, game.column_labels]
    for one, labels in zip(start, sides, strict=True):
        if len(one) != len(labels):
            raise NashwardError(
                f"--start: expected {counted(len(labels), 'probability', 'probabilities')} "
                f"({games.plots.some_of(labels)}), got {len(one)}"
            )
    try:
        game.players(policy)  # refuses what is no policy of this game
    except NashwardError as error:
        raise NashwardError(f"--start {text}: {error}") from None
    return policy


def _sides(game: Any, policy: Any) -> list[tuple[str, Sequence[str], Any]]:
    """For each player what stands before its labels, the labels and the policy."""
    if isinstance(game, games.PreferenceGame):
        return [("", game.labels, policy)]
    return [("row ", game.row_labels, policy.row), ("column ", game.column_labels, policy.column)]


def _print_nash(
    name: str, game: Any, equilibrium: games.equilibria.Equilibrium, entry: games.zoo.Entry | None,
    fractions: Sequence[Sequence[Fraction] | None],
) -> None:  # fmt: skip
    first, *second = game.sizes
    size = f"{first} x {second[0]} actions" if second else counted(first, "action")
    way = ", P(row beats column)" * Path(name).is_file()
    paid = way if isinstance(game, games.PreferenceGame) else f", payoffs sum to {game.total:g}"
    print(
        f"{name}: {size}{paid}{_labels_read(name, game)}"
        + (f"; {', '.join(sorted(entry.properties))}" if entry else "")
    )
    if entry:
        print(f"source: {entry.source}")
    from nashward.games.measures import most_played_first, shown_gap, shown_unique  # bring torch

    value = float(equilibrium.value)
    if second and abs(value) < 1e-14 * float(game.payoff.abs().max()):
        value = 0.0  # what is left is rounding
    gap = shown_gap(equilibrium.gap) if None in fractions else "0"
    of = " to the row player" * bool(second)
    print(f"Nash equilibrium ({shown_unique(equilibrium.unique)}), value {value:.6g}{of}, gap {gap}")
    if equilibrium.unique is None:
        print(f"  {equilibrium.uniqueness}")
    for (side, labels, policy), known in zip(_sides(game, equilibrium.policy), fractions, strict=True):
        width = max(map(len, labels))
        for i in most_played_first(policy):
            if policy[i] > 0:
                print(f"  {side}{labels[i]:<{width}}  {float(policy[i]):.3f}" + (f"  {known[i]}" if known else ""))
    if equilibrium.unique is not None and not bool(equilibrium.unique):
        _print_copies(game, equilibrium)


def _labels_read(name: str, game: Any) -> str:
    """The labels of both players in a file, where each has its own: a cell with a mistyped number may be among them."""
    if isinstance(game, games.PreferenceGame) or not Path(name).is_file():
        return ""
    sides = (("rows", game.row_labels), ("columns", game.column_labels))
    read = [
        f"{side} {games.plots.some_of(labels)}"
        for side, labels in sides
        if list(labels) != [str(k) for k in range(len(labels))]
    ]
    return f"; labels: {'; '.join(read) or 'none'}"


def _print_copies(game: Any, equilibrium: games.equilibria.Equilibrium) -> None:
    """Actions that are played and earn the same as others: the first reason for several equilibria."""
    from nashward.games.analysis.game_ratings import clone_classes

    tables = [game.P] if isinstance(game, games.PreferenceGame) else [game.payoff, game.payoff.mT]
    for (side, labels, policy), table in zip(_sides(game, equilibrium.policy), tables, strict=True):
        classes = clone_classes(table.cpu())
        for number in range(classes.max() + 1):
            alike = (classes == number).nonzero()[0].tolist()
            if len(alike) > 1 and any(policy[i] > 0 for i in alike):
                names = games.plots.some_of([labels[i] for i in alike])
                print(f"  {side}copies of each other: {names}; they may share their probability in any way")


def _without_rounding(
    game: Any, equilibrium: games.equilibria.Equilibrium, entry: games.zoo.Entry | None
) -> tuple[games.equilibria.Equilibrium, list[Sequence[Fraction] | None]]:
    """The equilibrium, and the probabilities of each player in fractions, where these are an equilibrium exactly.

    Of the table in fractions is then also what is said of its gap and of others beside it.
    """
    from nashward.games.equilibria.certificates.decision import Decision
    from nashward.games.equilibria.rational import in_fractions

    policies = [policy.cpu().numpy() for _, _, policy in _sides(game, equilibrium.policy)]
    payoff = game.P if isinstance(game, games.PreferenceGame) else game.payoff
    found = in_fractions(payoff.cpu().double().numpy(), policies[0], policies[-1])
    if found is None:
        return equilibrium, [None] * len(policies) if entry is None or entry.nash is None else [entry.nash]
    decision = Decision(found.unique, None, "decided in fractions, without rounding")
    exact = games.equilibria.Equilibrium(equilibrium.policy, equilibrium.value, 0.0, lambda: [decision])
    return exact, [*(found.row, found.column)[: len(policies)]]


def _print_played(args: argparse.Namespace, played: Sequence[Played]) -> None:
    if not played:
        return
    drawn = "" if args.feedback == "exact" else f", feedback {args.feedback}, seed {args.seed or 0}"
    _print_gaps(played, ("uniform" if args.start is None else args.start) + drawn)
    _print_drawn(played)
    for one in played:
        if one.solution.status is games.Status.NOT_CONVERGED:
            advice = _advice(one, args.tolerance, args.feedback == "exact")
            print(f"  a gap of {args.tolerance:g} was not reached by {one.label}: {advice}")


def _print_gaps(played: Sequence[Played], start: str) -> None:
    width = max(len(one.label) for one in played)
    columns = ("last", "average", *AVERAGES)
    print(f"duality gaps from {start}:\n  {'':<{width}}  iterations  " + "  ".join(f"{name:>9}" for name in columns))
    for one in played:
        solution = one.solution
        if solution.status is games.Status.NOT_FINITE:
            print(f"  {one.label:<{width}}  {solution.status.value}")
            continue
        gaps = "  ".join(f"{float(solution.gaps[name][-1]):9.3e}" for name in columns)
        print(f"  {one.label:<{width}}  {int(solution.iterations[-1]):>10}  {gaps}")
    if said := unequal([(type(one.solver).__name__, one.label, one.products) for one in played]):
        print(f"  {said}")


def _drawn_to(game: Any, solver: Any, start: Any, solution: games.Solution) -> tuple[Any, float]:
    """The regularised Nash that a solver is drawn to, where it is: not the Nash that is printed; and how far it is."""
    tau = getattr(solver, "tau", 0.0) if isinstance(solver, DRAWN) else 0.0
    if tau <= 0 or solution.status is games.Status.NOT_FINITE:
        return None, 0.0
    exact = games.regularised_nash(game, tau, start)
    both = zip(_sides(game, solution.last), _sides(game, exact.policy), strict=True)
    return exact, max(float(games.total_variation(last, there)) for (_, _, last), (_, _, there) in both)


def _print_drawn(played: Sequence[Played]) -> None:
    from nashward.games.measures import shown_gap

    for one in played:
        if one.drawn_to is not None:
            name, tau, gap = type(one.solver).__name__, one.solver.tau, shown_gap(one.drawn_to.gap)
            last = "is there" if one.away < THERE else f"is {one.away:.2g} away from it in total variation"
            print(
                f"  {name} is drawn to the start by tau = {tau:g}: the Nash regularised by it has a gap of {gap}; "
                f"the last iterate {last}"
            )


def _advice(one: Played, tolerance: float, exact: bool) -> str:
    """What may bring a run to the tolerance that it has not reached, by how its second half went."""
    if one.drawn_to is not None and float(one.drawn_to.gap) > tolerance:
        return "a smaller tau"
    iterations = one.solution.iterations
    gaps = [one.solution.gaps[name] for name in ("last", "average")]
    if min(float(gap[-1]) for gap in gaps) < ROUNDING:
        return f"it is below {ROUNDING:g}, where rounding begins: a larger --tolerance"
    later = iterations > iterations[-1] / 2
    before = (iterations > iterations[-1] / 4) & ~later  # largest gaps are compared: one that circles is near at times
    nearer = not before.any() or any(float(gap[later].max()) < 0.9 * float(gap[before].max()) for gap in gaps)
    last, average = (float(gap[-1]) for gap in gaps)
    times = average / max(tolerance, ROUNDING)
    if nearer and isinstance(one.solver, CIRCLE) and average < last and times >= FAR:
        other = ", or, where the Nash is unique, OptimisticMWU, whose last iterate converges" if exact else ""
        longer = f"about {times:.0e} times the --iterations{other}"
        return f"it was nearer with the average, whose gap falls as 1/T at best: {longer}"
    if nearer:
        return "more --iterations"
    other = "more --iterations with a smaller step" if hasattr(one.solver, "step") else "another solver"
    return f"neither last nor average came much nearer in the second half of the run: try {other}"


def _written(fractions: Sequence[Sequence[Fraction] | None]) -> Any:
    """Fractions for a machine: a list, of an n x m game one a player; None where there are none."""
    written = [None if known is None else [str(p) for p in known] for known in fractions]
    return written[0] if len(written) == 1 or None in written else {"row": written[0], "column": written[1]}


def _nash_content(
    equilibrium: games.equilibria.Equilibrium, fractions: Sequence[Sequence[Fraction] | None]
) -> dict[str, Any]:
    return {
        "policy": equilibrium.policy, "value": equilibrium.value,
        "gap": equilibrium.gap if None in fractions else 0.0,
        "unique": equilibrium.unique, "uniqueness": equilibrium.uniqueness,
        "status": equilibrium.status,
        "fractions": _written(fractions),
    }  # fmt: skip


def _played_content(one: Played) -> dict[str, Any]:
    solution = one.solution
    return {
        "solver": type(one.solver).__name__, "settings": _settings(one.solver),
        "status": solution.status.name, "warnings": one.warnings, "last": solution.last,
        "average": solution.average, "iterations": solution.iterations, "products_per_iteration": one.products,
        "gaps": solution.gaps,
    }  # fmt: skip


def _settings(solver: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(solver):
        return {}
    return {field.name: getattr(solver, field.name) for field in dataclasses.fields(solver)}


def _described(game: Any, entry: games.zoo.Entry | None) -> dict[str, Any]:
    known = {"source": entry.source, "properties": sorted(entry.properties)} if entry else {}
    if isinstance(game, games.PreferenceGame):
        return {"labels": game.labels, "P": game.P, **known}
    return {
        "row_labels": game.row_labels, "column_labels": game.column_labels, "payoff": game.payoff, "total": game.total
    }  # fmt: skip


COMMAND = Command(
    "nashward solve zoo:comal_cycle --solver MWU,OptimisticMWU:step=1,ExtraGradient --plot gaps.png",
    add_arguments,
    run,
    writes=("json", "plot"),
)
