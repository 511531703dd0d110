"""The model card of an exported policy: what it is made of, by which method, what was measured, and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.evaluate import same_as_start
from ..evaluation.players import TRAINING
from ..oracles.ensembles.objectives import Combination
from ..policy.local.names import local_model
from ..report.alerts import ALERTS, alerts
from ..report.content import held_out_r2
from ..report.objectives import most_exact, objective_sentences
from ..report.results import oracle_of_run, short_source, win_sentence
from ..report.stored_results import current_evaluation, outdated
from ..run.manifest import as_played
from ..run.selfplay import SelfPlay, iterates, kl_to_start
from ..store.run_folder import RunFolder

PAPER = "arXiv 2405.00675"
SAFETY = "Safety training of the base is not part of what the oracle sees, unless its verdicts say so."


@dataclass(frozen=True)
class Licence:
    """What is known of a family of bases.

    Attributes:
        pattern: of the base's name.
        licence: its name in a model card.
        rule: what the licence says of the name and the sharing of derived models; empty where it has no such rule.
    """

    pattern: str
    licence: str
    rule: str = ""


LICENCES = (  # as their publishers state them; a base that states its own is read first
    Licence(
        r"llama-?3\.[123]", "llama3.1",
        'the name of a model made from it begins with "Llama", "Built with Llama" is shown, and the licence goes '
        "with it",
    ),
    Licence(
        r"llama-?3(?![.\d])", "llama3",
        'the name of a model made from it begins with "Llama 3", "Built with Meta Llama 3" is shown, and the licence '
        "goes with it",
    ),
    Licence(r"gemma", "gemma", "the use restrictions and a copy of the Gemma Terms of Use go with it"),
    Licence(r"mi[sx]tral-(7b|8x7b|nemo)|smollm|qwen3", "apache-2.0"),
)  # fmt: skip


def model_card(run: SelfPlay, name: str, base_name: str | None = None) -> str:
    """The README.md of a policy, with the front matter that hubs read.

    Args:
        run: that made it.
        name: of the policy: start, iteration-03, mixture.
        base_name: what the base is called; None: as the run calls it.

    Example:
        >>> print(model_card(run, "iteration-03").splitlines()[1])  # doctest: +SKIP
        base_model: mistralai/Mistral-7B-Instruct-v0.2
    """
    folder = Path(run.folder)
    record, rows = RunFolder(folder).read(), iterates(folder)
    base = base_name or str(record["config"]["policy"])
    licence = licence_of(base, str(run.policy))
    front = ["---", f"base_model: {base}", "tags:", "- nashward", "- preference-optimization", "- self-play"]
    if licence.licence:
        front.insert(2, f"license: {licence.licence}")
    warned = [one.text for part in ALERTS for one in alerts(folder, part, old=False)]
    sections = {
        "Base": _base(base, licence),
        "Data": _data(record),
        "Oracle": _oracle(record),
        "Method": _method(record, rows, run.combination, as_played(folder, record["config"])["lora"]["rank"]),
        "Figures": _figures(folder, rows, name),
        "Limits": [_limit(run.combination), SAFETY, *warned],
        "Versions": [", ".join(f"{package} {version}" for package, version in record.get("versions", {}).items())],
    }
    head = [*front, "---", f"# {short_source(base)}, {name} of a self-play run", ""]
    body = [line for title, lines in sections.items() for line in (f"## {title}", *_paragraphs(lines))]
    return "\n".join([*head, *body]).rstrip() + "\n"


def licence_of(base: str, source: str | None = None) -> Licence:
    """The licence of a base: as the README.md beside its weights states it, else as its family's publisher does.

    Args:
        base: its name.
        source: where it is, a folder or a hub id; None: not looked for.

    Returns:
        the licence; empty where nothing is known.

    Example:
        >>> licence_of("mistralai/Mistral-7B-Instruct-v0.2").licence, licence_of("a/b").licence
        ('apache-2.0', '')
    """
    family = next((one for one in LICENCES if re.search(one.pattern, base.lower())), Licence("", ""))
    file = None if source is None else Path(local_model(source)) / "README.md"
    if file is not None and file.is_file():
        stated = re.search(r"^license:\s*(\S+)\s*$", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if stated is not None:
            return Licence("", stated[1], family.rule)
    return family


def _base(base: str, licence: Licence) -> list[str]:
    if not licence.licence:
        return [f"`{base}`. Its licence is not known here: look it up before you share this model."]
    rule = f" Its rule for models made from it: {licence.rule}." if licence.rule else ""
    return [f"`{base}`, licence {licence.licence}.{rule}"]


def _data(record: Mapping[str, Any]) -> list[str]:
    data = record.get("data", {})
    return [
        f"{data.get('prompts', '?')} prompts (`{record.get('prompts')}`, SHA-256 of their file "
        f"`{str(data.get('sha256', '?'))[:16]}`); no responses but the model's own were trained on"
        + (" beside the SFT texts." if record["config"].get("sft") else ".")
    ]


def _oracle(record: Mapping[str, Any]) -> list[str]:
    config = record["config"]
    content = f", content `{config['oracle_content']}`" if config.get("oracle_content") else ""
    return [f"`{oracle_of_run(config)}`{content}: P(y beats y'), of both orders of each pair."]


def _limit(combination: Combination | None) -> str:
    several = "" if combination is None else f"the preference oracles of {_listed(combination.names)}"
    under = several or "one preference oracle"
    return (
        f"It was trained to win comparisons under {under}. Where an oracle rewards style or length, so does it; a gain "
        "under that oracle is no gain under another, nor under people, until that is measured."
    )


def _method(
    record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], combination: Combination | None, rank: int
) -> list[str]:
    config = record["config"]
    solver = ", ".join(f"{key} {value}" for key, value in config["solver"].items() if key != "name")
    fit = config["fit"]
    weights = "4-bit NormalFloat" if config["quantise"] else "as they are stored"
    lines = [
        f"Self-play with {config['solver']['name']} ({solver}), after {PAPER}: in each step the policy gives "
        f"{config['responses']} responses to a prompt, the oracle compares them, and a LoRA adapter of rank "
        f"{rank} on the base's weights ({weights}) is fitted by regression (loss {fit['loss']}, "
        f"{fit['epochs']} epochs) to"
    ]
    if rows:
        which = "the only step" if len(rows) == 1 else f"the last of {len(rows)} steps"
        lines += ["```text\n" + equation(rows[-1], combination) + "\n```", f"which is {which}."]
        if combination is not None:
            lines.append(f"{_terms(rows[-1], combination)}.")
    return lines


def equation(row: Mapping[str, Any], combination: Combination | None = None) -> str:
    """The Step of a row of metrics.

    Args:
        row: of the Step.
        combination: of several objectives; None: there is one oracle.

    Example:
        >>> row = {"anchor": {"a": 1.0}, "opponent": {"a": 2.0, "b": -1.0}, "size": 2.5}
        >>> print(equation(row))
        log next(y) = log a(y) + 2.5 (2 P(y beats a) - P(y beats b)) + constant
        >>> print(equation({**row, "opponent": {"a": 1.0}}, Combination.read(("long", "plain"), "floors:plain=0.4")))
        log next(y) = log a(y) + 2.5 (P_long(y beats a) + m_plain P_plain(y beats start)) + constant
    """
    anchor = _sum({f"log {name}(y)": weight for name, weight in row["anchor"].items()})
    terms = _payoff(row, combination) if row["opponent"] else {}
    payoff = _sum(terms)
    payoff = f"({payoff})" if payoff.startswith("-") or len(terms) > 1 else payoff
    return f"log next(y) = {anchor}" + (f" + {row['size']:g} {payoff}" if payoff else "") + " + constant"


def _payoff(row: Mapping[str, Any], combination: Combination | None) -> dict[str, float]:
    """What a response is paid, a weight for each term; those of floors have multipliers, which are symbols."""
    rule = None if combination is None else combination.rule
    if combination is None or rule not in ("floors", "worst-case"):
        return {f"P(y beats {name})": weight for name, weight in row["opponent"].items()}
    if rule == "worst-case":
        return {f"{weight:.3g} P_{name}(y beats q)": 1.0 for name, weight in row["objectives"]["multipliers"].items()}
    first = {f"P_{combination.names[0]}(y beats {name})": weight for name, weight in row["opponent"].items()}
    return first | {f"m_{name} P_{name}(y beats start)": 1.0 for name in combination.floors}


def _terms(row: Mapping[str, Any], combination: Combination) -> str:
    """What the letters of the equation of several objectives are."""
    if combination.rule == "worst-case":
        return (
            "P_NAME is the win probability under the objective NAME, its weight the adversary's, and q the adversary's "
            "replies: the start's responses, the likelier the less the opponent wins against them"
        )
    if combination.rule != "floors":
        return f"P is {combination.payoff}"
    found = row["objectives"]
    at = _listed([f"{value:.3g} for {name}" for name, value in found["multipliers"].items()])
    sft = "; that of sft weighs the SFT texts in the loss" if combination.sft is not None else ""
    return (
        "P_NAME is the win probability under the objective NAME, and m_NAME the multiplier of its floor at the "
        f"opponents, weighted as they are: at {found['policy']} it was {at}{sft}"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]


def _sum(parts: Mapping[str, float]) -> str:
    text = " ".join(
        f"{'-' if weight < 0 else '+'} {'' if abs(weight) == 1 else f'{abs(weight):g} '}{term}"
        for term, weight in parts.items()
    )
    return text.removeprefix("+ ")


def _figures(folder: Path, rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    head = ("policy", "KL from the start, nats per response", "R2 on held-out prompts", "tokens (samples reweighted)")
    table = [f"| {' | '.join(head)} |", "|---|---|---|---|"]
    moved = kl_to_start(rows)
    for row in rows:
        cells = [
            row["iteration"],
            _pm(*moved[row["iteration"]], 3),
            held_out_r2(row) or "",
            _pm(row["after"]["tokens"], None, 1),
        ]
        table.append("| " + " | ".join(cells) + " |")
    evaluation, others = current_evaluation(folder), outdated(folder)
    lines = ["\n".join(table)] if rows else []
    rates = {oracle: players for oracle, players in evaluation.get("against_start", {}).items() if players}
    for oracle, players in rates.items():
        lines += [win_sentence(player, oracle, evaluation) for player in players]
    exact = most_exact(evaluation, folder)
    for player in rates.get(TRAINING, {}):
        lines += objective_sentences(player, exact)
    if evaluation.get("same_as_start"):
        lines.append(f"{same_as_start(evaluation['same_as_start'])}.")
    if others and (name in others or not (rates or evaluation.get("same_as_start"))):
        which = [name] if name in others else others
        has = "has" if len(which) == 1 else "have"
        since = "since the run went on, or made a step again"
        lines.append(f"{', '.join(which)} {has} not been evaluated {since}: `nashward evaluate` does.")
    elif not rates:
        lines.append("Win rates were not measured: `nashward evaluate` does.")
    return lines


def _pm(value: float | None, error: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _paragraphs(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in (line, "")]
