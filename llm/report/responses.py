"""The responses of a run with their judgements, and the panel that shows those before the run beside those after it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import CorruptFileError

from ..evaluation.evaluate import DRAWN
from ..evaluation.objectives.last_weights import last_weights, table_of
from ..evaluation.players import FOLDER as EVALUATION
from ..evaluation.players import START
from ..oracles.ensembles.objectives import in_words
from ..run.inputs.augmented_prompts import augmented, played_prompts
from ..run.rollouts import table_name
from ..run.selfplay import iterates
from ..store.files import read_jsonl, read_shard, shards
from ..store.run_folder import RunFolder, step_order
from ..store.step_shards import shard_names, texts_by_prompt
from .content import Alert, Content, Heading, Paragraph, Table
from .results import command
from .stored_results import read_evaluation

LONGEST = 240  # characters that are shown of a text
EXAMPLES = 3  # of prompts that the run wrote


@dataclass(frozen=True)
class JudgedResponses:
    """The responses of one policy to a prompt, in their order.

    Attributes:
        prompt: its text.
        texts: [K], the responses' texts.
        P: [K, K], the probability that the row's response beats the column's; None: not judged.

    Example:
        >>> judged = JudgedResponses("A river?", ["The Rhine.", "No."], [[0.5, 0.9], [0.1, 0.5]])
        >>> judged.win_rate(0), judged.extremes
        (0.9, (0, 1))
    """

    prompt: str
    texts: list[str]
    P: list[list[float]] | None

    def win_rate(self, k: int) -> float | None:
        """The win rate of a response against those of the policy's others that it was judged against; None: none."""
        judged = [] if self.P is None else [p for j, p in enumerate(self.P[k]) if j != k and not math.isnan(p)]
        return sum(judged) / len(judged) if judged else None

    @property
    def extremes(self) -> tuple[int, int] | None:
        """The responses with the highest and with the lowest win rate of those that have one; None where no two have,
        or all are equal."""
        rates = [self.win_rate(k) for k in range(len(self.texts))]
        known = [rate for rate in rates if rate is not None]
        if not known or max(known) == min(known):
            return None
        return rates.index(max(known)), rates.index(min(known))


def judged_responses(step: Path, prompts: Mapping[str, str], count: int) -> list[JudgedResponses]:
    """The first responses that a step sampled from its newest policy, with their judgements.

    Args:
        step: its folder.
        prompts: the prompts' texts by their ids; others are left out.
        count: the most prompts.

    Raises:
        CorruptFileError: a shard is not as it was written.
    """
    responses, newest = step / "responses", newest_sampled(step)
    texts, weights = texts_by_prompt(shards(responses, newest)[:1]), last_weights(step.parent)
    tables = {
        row["prompt"]: table_of(row, weights).tolist()
        for file in shards(step / "judgements", table_name(newest, newest))[:1]
        for row in read_shard(file, ["prompt", "P"], ["objectives"])
    }
    return [
        JudgedResponses(prompts[prompt], answers, tables.get(prompt))
        for prompt, answers in list(texts.items())[:count]
        if prompt in prompts
    ]


def newest_sampled(step: Path) -> str:
    """The newest policy that a step sampled: in ``iteration-05`` it is iteration-04, which the step before had made."""
    return max({*shard_names(step / "responses")} - {START}, key=lambda name: step_order(Path(name)), default=START)


def sampled_steps(folder: Path) -> list[Path]:
    """The folders of the steps that have sampled responses, in the order of the run."""
    return [step for step in RunFolder(folder).steps() if any((step / "responses").glob("*.parquet"))]


def prompt_texts(folder: Path) -> dict[str, str]:
    """The texts of a run's prompts by their ids."""
    return {prompt.id: prompt.text for prompt in played_prompts(RunFolder(folder))}


def responses(folder: Path, count: int = 8) -> list[Content]:
    """Responses of the start and of the newest iterate side by side where ``nashward evaluate`` has drawn them, else of
    the first and of the newest policy that the run sampled, with the policies' names; then what the oracle preferred.
    """
    steps, prompts = sampled_steps(folder), prompt_texts(folder)
    if not steps:
        return [Paragraph("Nothing is sampled yet.")]
    ends = list(dict.fromkeys((steps[0], steps[-1])))
    try:
        policies = [judged_responses(step, prompts, 10 * count) for step in ends]
    except CorruptFileError as error:
        return [Alert(f"{error}.")]
    names = [newest_sampled(step) for step in ends]
    newest = newest_iterate(folder)
    drawn = drawn_responses(folder, newest)
    content = _drawn(newest, drawn, count) if drawn else _sampled(folder, names, policies, count)
    compared = _spread([row for judged in policies[-1] if (row := _extremes(judged)) is not None], count)
    if compared:
        columns = ("prompt", "preferred", "least preferred", "P(the first beats the second)")
        whose = f"{names[-1]}, the newest policy that the run itself sampled"
        weights = last_weights(folder)
        by = [Paragraph(f"By {in_words(weights)}, as in the last step.")] if weights else []
        heading = Heading(f"What the oracle prefers: responses of {whose}")
        content += [heading, *by, Table(columns, compared, text=True)]
    return content


def newest_iterate(folder: Path) -> str:
    """The name of the last iterate that is finished; the start's before there is one."""
    rows = iterates(folder)
    return rows[-1]["iteration"] if rows else START


def drawn_responses(folder: Path, policy: str) -> list[dict[str, Any]]:
    """What ``nashward evaluate`` drew, one row per prompt; empty where it has drawn nothing from that policy as it is
    now."""
    if not {START, policy} <= read_evaluation(folder).get("policies", {}).keys():
        return []
    rows = read_jsonl(folder / EVALUATION / DRAWN)
    return [row for row in rows if {START, policy} <= row["responses"].keys() and policy in row["beats_start"]]


def _drawn(newest: str, drawn: Sequence[Mapping[str, Any]], count: int) -> list[Content]:
    """The responses that ``nashward evaluate`` drew of the start and of the newest iterate."""
    rows = [
        (
            _shortened(row["prompt"]),
            _shortened(row["responses"][START]),
            _shortened(row["responses"][newest]),
            None if (p := row["beats_start"][newest]) is None else f"{100 * p:.0f}%",
        )
        for row in _spread(drawn, count)
    ]
    note = (
        f"Drawn by `nashward evaluate`: a response of the start and one of {newest}, the last iterate, to the same "
        f"prompts, and how probably the second beats the first under the oracle; {len(rows)} of "
        f"{counted(len(drawn), 'prompt')}, evenly spread. All are in `{EVALUATION}/{DRAWN}`."
    )
    head = ("prompt", START, f"{newest} (the last iterate)", "P(it beats the start's)")
    return [Paragraph(note), Table(head, rows, text=True)]


def _sampled(
    folder: Path, names: Sequence[str], policies: Sequence[list[JudgedResponses]], count: int
) -> list[Content]:
    """The responses that the run itself sampled from its first and its newest policy, with the policies' names."""
    newest = newest_iterate(folder)
    note = (
        "The first response of each policy to the same prompts, with the share of its duels against the policy's other "
        "responses that it wins under the oracle."
    )
    if newest not in names:
        note += (
            f" They are of {' and '.join(names)}: an iteration samples from the policy that the one before it made. "
            f"{newest}, the last iterate, has not responded yet: `{command('evaluate', folder)}` draws its responses, "
            "and this page then shows them."
        )
    heads = [names[0], *(f"{name} (the newest that was sampled)" for name in names[1:])]
    by_prompt = [{judged.prompt: judged for judged in policy} for policy in policies]
    shared = _spread([one.prompt for one in policies[0] if all(one.prompt in policy for policy in by_prompt)], count)
    content: list[Content] = [Paragraph(note)]
    if len(policies) == 1 or shared:
        rows = [(_shortened(prompt), *(_with_win_rate(policy[prompt], 0) for policy in by_prompt)) for prompt in shared]
        content.append(Table(("prompt", *heads), rows, text=True))
    else:  # each iteration had prompts of its own
        for head, policy in zip(heads, policies, strict=True):
            rows = [(_shortened(judged.prompt), _with_win_rate(judged, 0)) for judged in _spread(policy, count)]
            content.append(Table(("prompt", head), rows, text=True))
    return content


def _spread(values: Sequence[Any], count: int) -> list[Any]:
    """At most so many of the values, evenly spread: a shard begins with its longest prompts."""
    return [values[k * len(values) // count] for k in range(count)] if len(values) > count else list(values)


def _extremes(judged: JudgedResponses) -> tuple[str, str, str, str] | None:
    """A row of the table of preferences: the best response, the worst one, the probability that it wins."""
    if judged.P is None or (pair := judged.extremes) is None:
        return None
    best, worst = pair
    p = judged.P[best][worst]
    probability = "not judged" if math.isnan(p) else f"{100 * p:.0f}%"
    return _shortened(judged.prompt), _with_win_rate(judged, best), _with_win_rate(judged, worst), probability


def _with_win_rate(judged: JudgedResponses, k: int) -> str:
    rate = judged.win_rate(k)
    return _shortened(judged.texts[k]) + ("" if rate is None else f"\n[wins {100 * rate:.0f}% of its duels]")


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def augmented_prompts(folder: Path) -> list[Content]:
    """How many variants of prompts were written for each iteration, and the first of them; empty without any."""
    home = RunFolder(folder)
    written = augmented(home)
    if not written:
        return []
    texts = {prompt.id: prompt.text for prompt in played_prompts(home)}
    counts = Counter((step, prompt.kind) for step, prompt in written)
    rows = [(step, kind, count) for (step, kind), count in counts.items()]
    first = [prompt for _, prompt in written]
    spread = [first[k * len(first) // EXAMPLES] for k in range(EXAMPLES)] if len(first) > EXAMPLES else first
    examples = [(texts.get(prompt.parent or "", "")[:LONGEST], prompt.kind, prompt.text[:LONGEST]) for prompt in spread]
    note = (
        f"{len(written)} prompts were written from the most informative ones and played on beside the others. None is "
        "derived from a held-out prompt, and none is held out."
    )
    return [
        Paragraph(note),
        Table(("step", "kind", "prompts"), rows),
        Table(("parent", "kind", "prompt"), examples, text=True),
    ]
