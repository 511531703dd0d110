"""What a report shows of a run: each panel is a function of the run folder, and works on an unfinished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..run.larger_step import larger_step
from ..run.manifest import as_played
from ..run.selfplay import iterates, kl_to_start, metrics
from ..store.run_folder import RunFolder, flatten
from ..training.regression import HANDFUL
from .alerts import alerts
from .content import (
    Content,
    Details,
    Download,
    Paragraph,
    Picture,
    Section,
    Table,
    held_out_r2,
    with_error,
    without_rounding,
)
from .curves import MEASURES, REWEIGHTED, training_curves
from .objectives import objectives
from .people import people
from .responses import augmented_prompts, responses
from .results import evaluation, evaluation_alerts, oracle_of_run
from .summary import summary

Panel = Callable[[Path], list[Content]]
COURSE = (
    "The policies that the iterations made; shares are of the responses that were sampled from them, that of "
    "the target is on the prompts that were trained on. Bars are standard errors over prompts, for shares an upper "
    "bound; what has no bar was measured without one."
)
ESTIMATED = (
    " What an iterate wins over the policy before it is estimated without any response of the iterate: from the step's "
    "own samples on the prompts that its fit did not see, each weighted by how much likelier it became. `nashward "
    "evaluate` measures another number: both policies draw responses, which are judged against each other."
)
OF_FITS = (
    "A step sets a target for the log-ratio of the new policy to its anchor (rms in nats, on the prompts that were "
    "trained on). The share is how much of the target was met, R² how well, on these prompts (train) and on those "
    f"that the fit did not see (held out); both are 1 for the exact mirror step. Of fewer than {HANDFUL} held-out "
    "prompts, named with it, R² has no error. On held-out prompts R² can be as large as the column at most says: "
    "the rest of a target is the luck of which responses were compared. That is known where a policy plays itself, "
    "with three or more responses per prompt. For a half step, which is a mixture of two policies, the log-ratio is "
    "to the policy that the fit begins with, and its target what that one lacks. The best scale is what the "
    "log-ratio on held-out prompts would have to be multiplied by: 1 for a fit that goes neither too far nor not "
    "far enough, whose share there is then near its R² there. Changed is the share of the adapter's entries that "
    "the fit changed."
)
OF_POLICIES = (
    "KL divergences are estimates in nats per response: KL of the step is KL(policy before || new policy), and "
    "KL to the start is KL(new policy || start). Tokens, finished, cyclic and no label describe "
    "the responses that the step sampled. Cyclic is the share of the prompts on which each of them loses to "
    "another one. Where it is 0 a larger --step wins more, as far as the fits follow it; where it has risen "
    "towards a half the policy is near a mixed Nash, which large steps leave again."
)


def settings(folder: Path) -> list[Content]:
    """The settings of the run, and the hardware and the packages that it ran on."""
    run = RunFolder(folder).read()
    if not run:
        return [Paragraph("The run has not started.")]
    config = as_played(folder, run["config"])
    solver = ", ".join(f"{key} {value}" for key, value in config["solver"].items() if key != "name")
    rows = [
        ("policy", config["policy"]),
        ("adapter to start from", config["adapter"] or "none"),
        ("oracle", oracle_of_run(config)),
        ("prompts", run["prompts"]),
        ("solver", f"{config['solver']['name']} ({solver})"),
        ("responses per prompt", config["responses"]),
        ("hardware", run["hardware"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
    ]
    columns = ("setting", "value")
    everything = Table(columns, sorted(flatten(config).items()), text=True)
    return [
        Table(columns, rows, text=True),
        Details("All settings", [everything, Download(config, "all settings", "settings.json")]),
    ]


def curves(folder: Path) -> list[Content]:
    """How the policy changed over the iterations; empty before the second iterate."""
    rows = iterates(folder)
    if len(rows) < 2:
        return []
    estimated = ESTIMATED if any(MEASURES[REWEIGHTED](row) is not None for row in rows) else ""
    return [Picture(training_curves({"": folder}), COURSE + estimated)]


def fits(folder: Path) -> list[Content]:
    """What the fit of each step achieved, and the policy that came out."""
    rows = metrics(folder)
    if not rows:
        return [Paragraph("No step is finished yet.")]
    # nothing larger where an evaluation already found too much given up
    larger = None if evaluation_alerts(folder) else larger_step(iterates(folder), RunFolder(folder).read()["config"])
    return [
        Paragraph(OF_FITS),
        _fits_table(rows),
        Paragraph(OF_POLICIES),
        _policies_table(rows),
        *([] if larger is None else [Paragraph(larger)]),
        *_judges_error(folder, rows),
    ]


def _fits_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    head = (
        "step", "prompts", "target rms", "log-ratio rms", "share train", "R² train", "share held out", "R² held out",
        "at most", "best scale", "learning rate", "changed",
    )  # fmt: skip
    cells = [
        (
            row["iteration"],
            row["prompts"],
            *(without_rounding(row["train"][name]) for name in ("target_rms", "log_ratio_rms", "share", "r2")),
            without_rounding(row["held_out"].get("share")),
            held_out_r2(row),
            row.get("r2_ceiling"),
            row["held_out"].get("best_scale"),
            row.get("learning_rate"),
            f"{100 * row['changed_fraction']:.0f}%",
        )
        for row in rows
    ]
    return Table(head, cells)


def _policies_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    head = (
        "step", "KL of the step", "KL to the start", "entropy per token", "tokens", "finished", "cyclic", "no label",
    )  # fmt: skip
    to_start = kl_to_start(rows)
    cells = [
        (
            row["iteration"],
            without_rounding(row["train"]["kl"]),
            with_error(*to_start[row["iteration"]], 3),
            row["after"]["entropy_per_token"],
            row["response_tokens"],
            f"{100 * row['finished']:.0f}%",
            None if row.get("cyclic_prompts") is None else f"{100 * row['cyclic_prompts']:.0f}%",
            None if row.get("labels") is None else f"{100 * row['labels'].get('none', 0):.0f}%",
        )
        for row in rows
    ]
    return Table(head, cells)


def _judges_error(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[Content]:
    """How uncertain several judges left the targets of the steps; nothing with a single judge."""
    judged = [
        (row["iteration"], f"{min(row['error_share'], 1):.0%}") for row in rows if row.get("error_share") is not None
    ]
    if not judged:
        return []
    weighed = (
        "Responses on which they differ weighed less in the fit, and in R², share and best scale."
        if RunFolder(folder).read()["config"]["fit"]["spread_weights"]
        else "All responses weighed alike in the fit; --spread-weights lets those on which judges differ weigh less."
    )
    note = (
        "Several judges: the share of the target's variance that is the judges' error, as far as they differ in what a "
        f"response is worth and if their errors are independent. {weighed}"
    )
    return [Paragraph(note), Table(("step", "judges' error"), judged)]


PANELS: tuple[tuple[str, Panel], ...] = (
    ("In short", summary),
    ("Responses", responses),
    ("Evaluation", evaluation),
    ("Votes of people", people),
    ("Objectives", objectives),
    ("Prompts that were written", augmented_prompts),
    ("Its course", curves),
    ("What the fits achieved", fits),
    ("The run", settings),
)


def panels(folder: Path) -> list[Section]:
    """All panels of a run as sections, the warnings of each at its head."""
    return [Section(name, [*alerts(folder, name), *panel(folder)]) for name, panel in PANELS]
