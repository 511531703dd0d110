"""The page on a judge: what is wrong with it, what that costs, and the pairs that look most wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nashward.counted import counted

from ..oracles.diagnosis.diagnose import Diagnosis
from ..oracles.diagnosis.finding import Finding
from ..store.files import atomic_write
from .content import Alert, Content, Details, Download, Headline, Paragraph, Section, Table, with_error
from .page import render

MEANING = {
    "order": "log-odds that being shown first adds; 0 is none",
    "flips": "share of pairs with another winner when the order changes",
    "length": "log-odds that a standard deviation of length adds",
    "headers": "the same of headers",
    "lists": "the same of lists",
    "bold": "the same of bold text",
    "favour": "win probability of an author beyond that of the labels, after recalibration",
    "accuracy": "share of labels that it agrees with; a coin has 0.5",
    "calibration": "its log-odds over those that fit the labels: above 1 too large, below 1 too small; 20 at most",
    "agreement": "accuracy by the agreement with other judges",
    "cycles": "cycles of three authors that the prompts confirm",
    "repeat": "mean change of a win probability when judged again",
    "missing": "share of pairs without a judgement",
    "truncated": "share of texts that it does not read to their end",
}
TITLE = "The judge"  # what the title of each page begins with
LONG = 600  # characters of a response that stand in the table


def write_diagnosis(
    diagnosis: Diagnosis, file: str | Path, bound: float | None = None, notes: Sequence[str] = ()
) -> Path:
    """Write the page.

    Args:
        diagnosis: the judge's.
        file: the page.
        bound: on the duality gap that the judge's noise costs (``theory.OracleError``); None: not known.
        notes: what else is to be known of the figures, below the summary.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nashward.llm.oracles import Length
        >>> from nashward.llm.oracles.diagnosis.diagnose import diagnose
        >>> from nashward.llm.oracles.diagnosis.probe import Pair
        >>> with TemporaryDirectory() as folder:
        ...     page = write_diagnosis(diagnose(Length(), [Pair("?", "Yes.", "No, no.")]), folder + "/judge.html")
        ...     "The judge length" in page.read_text(encoding="utf-8")
        True
    """
    sections = [
        Section("In short", [*_summary(diagnosis), *map(Paragraph, notes)]),
        Section("All that was measured", _measures(diagnosis)),
        Section("What it costs", _cost(diagnosis, bound)),
        Section("The pairs that look most wrong", _doubtful(diagnosis)),
    ]
    with atomic_write(Path(file)) as unfinished:
        unfinished.write_text(render(f"{TITLE} {diagnosis.oracle}", sections), encoding="utf-8")
    return Path(file)


def may_replace(file: Path) -> bool:
    """Whether a page may be written there: of files only an empty one and the page of an earlier call are replaced."""
    if not file.is_file():
        return not file.is_dir()
    with file.open("rb") as opened:
        begun = opened.read(500)
    return not begun or f"<title>{TITLE} ".encode() in begun


def _summary(diagnosis: Diagnosis) -> list[Content]:
    problems = len(diagnosis.named)
    figure = "No problem" if not problems else counted(problems, "problem")
    on = f"{counted(diagnosis.pairs, 'pair')} of responses to {counted(diagnosis.prompts, 'prompt')}"
    labelled = f", {diagnosis.labelled} of them labelled" if diagnosis.labelled else ", none of them labelled"
    return [
        Headline(figure, f"found on {on}{labelled}."),
        *(Alert(f"It {finding.text}. What to do: {finding.advice}.") for finding in diagnosis.named),
        *(Paragraph(f"It {one.text}.") for one in diagnosis.findings if one.kind == "accuracy" and not one.named),
        *(Alert(f"Undecided: it {one.text}.") for one in diagnosis.not_measured if one.text),
        *(
            Paragraph(f"Not measured: {', '.join(kinds)}; that needs {needs}.")
            for needs, kinds in diagnosis.lacking.items()
        ),
        Paragraph(
            "A policy that is trained under a judge learns its errors as well as its taste. An error is named here "
            "where it is both beyond chance, given all that was tested, and large enough to matter."
        ),
    ]


def _measures(diagnosis: Diagnosis) -> list[Content]:
    rows = [
        (
            finding.kind,
            _value(finding),
            MEANING[finding.kind],
            "; ".join(filter(None, ("problem" * finding.named, finding.note))),
        )
        for finding in diagnosis.findings
    ]
    rows += [
        (one.kind, "not measured", MEANING[one.kind], f"needs {one.needs}")
        for one in diagnosis.not_measured
        if one.kind in MEANING
    ]
    return [
        Table(("measure", "value ± standard error", "what it is", ""), rows, text=True),
        Details("The numbers", [Download(diagnosis.as_dict(), "all numbers", "diagnosis.json")]),
    ]


def _value(finding: Finding) -> str:
    error = finding.standard_error
    return str(with_error(finding.estimate, None if math.isnan(error) else error, 3))


def _cost(diagnosis: Diagnosis, bound: float | None) -> list[Content]:
    cost = diagnosis.cost
    needs = {one.kind: one.needs for one in diagnosis.not_measured}
    if "cost" in needs:
        return [Paragraph(f"Not measured: that needs {needs['cost']}.")]
    if cost is None:
        orders = "; what its orders differ in is not known" if "order" in needs else " in both orders"
        return [Paragraph(f"No noise was measured: a pair that is judged again gets the same judgement{orders}.")]
    text = (
        f"A judgement that is averaged over both orders is off by {cost.noise:.2f} in log-odds (standard deviation). "
        f"Among {cost.responses:.1f} responses to a prompt the largest error of a win probability is {cost.error:.3f} "
        f"on average. The Nash of such a table has a duality gap of {cost.gap:.3f} in the table without the noise"
    )
    limit = "" if bound is None else f"; it can be no more than {bound:.3f} (twice the largest error)"
    return [Paragraph(f"{text}{limit}. Errors that all judgements share are not in it: those are the biases above.")]


def _doubtful(diagnosis: Diagnosis) -> list[Content]:
    if not diagnosis.doubtful:
        return [Paragraph("No pair stands out.")]
    rows = [_row(pair.prompt, pair.a, pair.b, p, pair, why) for pair, p, why in diagnosis.doubtful]
    return [Table(("prompt", "a", "b", "P(a beats b)", "label", "why"), rows, text=True)]


def _row(prompt: str, a: str, b: str, p: float, pair: Any, why: str) -> tuple[str, ...]:
    texts = [text if len(text) <= LONG else f"{text[:LONG]} ..." for text in (prompt, a, b)]
    return (*texts, f"{p:.3f}", f"{pair.wins:g} of {pair.n:g}" if pair.n else "–", why)
