"""What ``nashward leaderboard`` prints of its rankings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nashward.counted import counted
from nashward.p_text import p_text
from nashward.shortened import shortened

if TYPE_CHECKING:
    from nashward.games.analysis.leaderboard import Battles

SHOWN = 10  # cycles, categories and models to leave out
EXAMPLES, WIDTH = 3, 40  # models of few battles, and characters of a name among them


def print_board(content: Mapping[str, Any], battles: Battles) -> None:
    """Every ranking and what is known of it.

    Args:
        content: as ``--json`` has it.
        battles: who beat whom how often.
    """
    rows = content["models"]
    width, judged = max(len(row["model"]) for row in rows), "win_rate" in rows[0]
    band = f"{content['share_of_draws']:.0%} band"
    print("\n".join(content["about"]))
    print(
        f"{'':<{width}}" + ("         win rate" if judged else "  battles")
        + f"   Nash  {band:<14}   Elo  {band:<13} deviation"
        "  averaging  Copeland" + "  worst category" * bool(content["categories"])
    )  # fmt: skip
    for row in rows:
        rate = f"  {row['battles']:7g}"
        if judged:
            error = row["win_rate_error"]
            rate = f"  {row['win_rate']:6.3f} ± " + (
                f"{error:<6.3f}" if error == error else "?     "
            )  # NaN: of one prompt
        nash, elo, averaging = row["nash_band"], row["elo_band"], row["nash_averaging"]
        worst = row["worst_category"]
        print(
            f"{row['model']:<{width}}{rate}  {row['nash']:5.3f}  {nash[0]:.3f} to {nash[1]:.3f}  {row['elo']:4.0f}  "
            f"{elo[0]:4.0f} to {elo[1]:4.0f}     {row['deviation']:z6.3f}  "
            + (f"{round(averaging) + 0:9d}" if averaging is not None else f"{'-':>9}")
            + f"  {row['copeland']:+8d}"
            + (f"  {worst['name']} {worst['elo']:.0f} ± {worst['elo_error']:.0f}" if worst is not None else "")
        )
    if judged and any(row["win_rate_error"] != row["win_rate_error"] for row in rows):
        print("±  ?: an error takes two prompts on which a model met each other one")
    for clones in content["clones"]:
        print(f"the same win probabilities: {', '.join(clones)}; the Nash divides one weight equally among them")
    if not content["nash_unique"]:
        known = "is not" if content["nash_unique"] is False else "may not be"
        print(f"the Nash {known} the only one: a band covers the weights that a model has in any of them")
    if not content["nash_unique_over_classes"]:
        print("shown is the Nash of the largest entropy")
    if content["leans_on"] is not None:
        print(_few(content["leans_on"]))
    print(f"Condorcet winner: {content['condorcet_winner'] or 'none'}; Smith set: {', '.join(content['smith_set'])}")
    if content["condorcet_winner"] is not None:
        print(_winner(content, battles))
    print(f"share of the margins that no score explains (Hodge): {content['curl']:.3f}")
    curl = content["logits_curl"]
    if curl is not None and curl == curl:  # not NaN
        print(f"share of a prompt's logits that no score explains, mean: {curl:.3f}")
    p = content["misfit_p_value"]
    if p is not None and p != p:  # NaN
        if (battles.met > 0).sum() >= 2 * len(rows):  # pairs beyond those that scores need
            new = _new(battles) if content["leans_on"] is None else ""
            few = "or they or the prompts are too few" if battles.by_prompt else "or are too few"
            print(f"whether scores explain the battles is not tested: the pairs met too rarely, {few}{new}")
    elif p is not None:
        within = "what scores leave unexplained is within noise, which proves no absence of cycles"
        verdict = within if p > 0.05 else "scores do not explain the battles"
        print(f"{verdict} ({p_text(p)}, Pearson's chi-squared over all pairs)")
    _print_cycles(content["cycles"])
    if content["style"] is not None:
        _print_style(content["style"])
    _print_categories(content["categories"])


def correction_line(correction: Mapping[str, Any]) -> str:
    """What was fitted of a correction of the oracle, one of ``corrections_of``."""
    values = ", ".join(f"{name} {value:.3g}" for name, value in correction["values"].items())
    return f"{correction['oracle']} is corrected ({correction['correction']}): {values}"


def _new(battles: Battles) -> str:
    """Whose few battles are in the way of the others', and what leaves them out."""
    from nashward.games.analysis.battles import settled

    few = [label for label, often in zip(battles.labels, settled(battles.met), strict=True) if not often]
    names = shortened(few, WIDTH)[:EXAMPLES]
    more = ", ..." * (len(few) > EXAMPLES)
    return f" ({', '.join(names)}{more} fought few battles: {_left_out(names)}{more})" if few else ""


def _left_out(names: Sequence[str]) -> str:
    """The options that leave models out."""
    return " ".join(f"--without-model {shlex.quote(name)}" for name in names)


def _print_style(style: Mapping[str, Any]) -> None:
    """What a standard deviation of each feature adds, and which were not measured."""
    added = ", ".join(
        f"{name} {fit['coefficient']:+z.3f}" + (f" ± {fit['error']:.3f}" if fit["error"] == fit["error"] else "")
        for name, fit in style.items() if fit is not None
    )  # fmt: skip
    if added:
        print(f"a standard deviation of style adds to the log-odds: {added}")
    if unknown := [name for name, fit in style.items() if fit is None]:
        print(f"not measured (nothing has them, or writer or length decides them): {', '.join(unknown)}")


def _few(leans_on: Mapping[str, Any]) -> str:
    """That the Nash leans on models of few battles, and what it is without them."""
    few, without = leans_on["models"], leans_on["nash_without"]
    if without is None:
        return "the Nash leans on few battles: most models met each other one at most twice, on average; see its bands"
    names = shortened([one["model"] for one in few], WIDTH)
    shown = [
        f"{name} fought {one['battles']:g}, at most {one['most_with_one']:g} with one model"
        for name, one in list(zip(names, few, strict=True))[:EXAMPLES]
    ]
    shown += [f"{len(few) - EXAMPLES} more fought few"] if len(few) > EXAMPLES else []
    best = sorted(without.items(), key=lambda one: -one[1])[:EXAMPLES]
    rest = ", ".join(f"{name} {weight:.3f}" for name, weight in best if weight > 0)
    return (
        f"the Nash leans on few battles: {'; '.join(shown)}; without {'it' if len(few) == 1 else 'them'} it is {rest} "
        f"({_left_out(names[:SHOWN])}{', ...' * (len(few) > SHOWN)})"
    )


def _winner(content: Mapping[str, Any], battles: Battles) -> str:
    """Whether the Condorcet winner is one beyond noise."""
    from nashward.games.analysis.pair_tests import DRAWS, MIN_PROMPTS
    from nashward.llm.report.results import winner_sentence

    winner = battles.labels.index(content["condorcet_winner"])
    other = battles.fewest_with(winner)
    fewest = int(battles.compared[winner, other])
    whole = {row["model"]: row["nash_alone"] for row in content["models"]}
    game = {**content, "players": battles.labels, "lottery_band": {"whole": whole}}
    if content["hollow"]:
        return winner_sentence(game, "model", f"not tested: but for {content['style_left']:.0%} its verdicts are style")
    if any(content["condorcet_winner"] in pair for pair in content["lengths_apart"]):
        return winner_sentence(game, "model", "not tested, its length and others' hardly overlap")
    what = "prompt" if battles.by_prompt else "battle"
    met = f"{'on' if battles.by_prompt else 'in'} {counted(fewest, what)}"
    pair = shortened((battles.labels[winner], battles.labels[other]), WIDTH)
    met = f"{pair[0]} met {pair[1]} {met} only" if fewest else f"{pair[0]} never met {pair[1]}"
    floor = len(battles.labels) / (DRAWS + 1)
    return winner_sentence(game, "model", f"not tested: {met}, {counted(MIN_PROMPTS, what)} are needed", floor)


def _print_cycles(cycles: list[dict[str, Any]]) -> None:
    for cycle in cycles[:SHOWN]:
        pairs = "; ".join(
            f"{pair['winner']} beats {pair['loser']} {pair['win_rate']:.3f} ({pair['battles']:g})"
            for pair in cycle["pairs"]
        )
        print(f"cycle beyond noise ({p_text(cycle['p_value'], cycle['floor'])}): {pairs}")
    if len(cycles) > SHOWN:
        print(f"and {len(cycles) - SHOWN} more cycles (--json)")


def _print_categories(categories: list[dict[str, Any]]) -> None:
    if not categories:
        return
    width = max(len("category"), *(len(category["name"]) for category in categories[:SHOWN]))
    print(f"{'category':<{width}}  battles  beats the Nash of all most, worst first")
    for category in categories[:SHOWN]:
        best = category["beats_nash_most"]
        found = "nobody"
        if best is not None:
            rate, error = category["rate_against_nash"][best], category["rate_against_nash_error"][best]
            found = f"{best} {rate:.3f} ± {error:.3f}" + ", within noise" * (not category["beyond_noise"])
        print(f"{category['name']:<{width}}  {category['battles']:7g}  {found}")
    if len(categories) > SHOWN:
        print(f"and {len(categories) - SHOWN} more categories (--json)")
