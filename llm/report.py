"""The report of a run: one self-contained page, one panel a function of the run folder. Works on an unfinished run."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .folder import Damaged, read_lines, read_shard, shards, whole_file
from .journal import PROMPTS, RunFolder, order
from .prompts import Prompt
from .selfplay import metrics

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
h1 { font-size: 1.7rem } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
img { max-width: 100%; height: auto } figure { margin: 1rem 0 } figcaption { color: #555; font-size: .9rem }
table { border-collapse: collapse; font-size: .9rem } th, td { padding: .25rem .7rem; text-align: right }
th { border-bottom: 1px solid #999 } td:first-child, th:first-child { text-align: left }
table.text th { text-align: left }
td.text { text-align: left; white-space: pre-wrap; vertical-align: top; max-width: 24rem }
code { background: #f4f4f4; padding: 0 .2rem }
"""

Panel = Callable[[Path], str]


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A page from headed sections of HTML; it needs nothing beside itself."""
    body = "".join(f"<section><h2>{html.escape(head)}</h2>{text}</section>" for head, text in sections if text)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )


def picture(figure: Any, caption: str = "") -> str:
    """A matplotlib figure as an inline image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], text: bool = False) -> str:
    """A table; with ``text`` the cells hold prose and are set left."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    cells = [[f'<td class="text">{_cell(c)}</td>' if text else f"<td>{_cell(c)}</td>" for c in row] for row in rows]
    kind = ' class="text"' if text else ""
    return f"<table{kind}><tr>{top}</tr>" + "".join(f"<tr>{''.join(row)}</tr>" for row in cells) + "</table>"


def _cell(value: Any) -> str:
    if value is None:  # not defined for this row
        return "–"
    return html.escape(f"{value:.3g}" if isinstance(value, float) else str(value))


def settings(folder: Path) -> str:
    """What the run was asked for, and where it ran."""
    run = RunFolder(folder).read()
    if not run:
        return "<p>The run has not started.</p>"
    config = run["config"]
    solver = ", ".join(f"{key} {value}" for key, value in config["solver"].items() if key != "name")
    rows = [
        ("policy", config["policy"]),
        ("adapter to start from", config["adapter"] or "none"),
        ("oracle", config["oracle"] or "not given yet"),
        ("prompts", run["prompts"]),
        ("solver", f"{config['solver']['name']} ({solver})"),
        ("responses a prompt", config["responses"]),
        ("hardware", run["hardware"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
    ]
    return table(("setting", "value"), rows, text=True)


def fits(folder: Path) -> str:
    """What the fit of each step achieved."""
    rows = [
        (
            m["iteration"],
            m["prompts"],
            m["train"]["target_rms"],
            m["train"]["log_ratio_rms"],
            m["train"]["share"],
            m["train"]["r2"],
            m["held_out"].get("r2"),
            m["train"]["kl"],
            m["after"]["kl_to_reference"],
            m["after"]["entropy_per_token"],
            f"{100 * m['moved']:.0f}%",
            m["response_tokens"],
            f"{100 * m['finished']:.0f}%",
            None if m.get("labels") is None else f"{100 * m['labels'].get('none', 0):.0f}%",
        )
        for m in metrics(folder)
    ]
    if not rows:
        return "<p>No step is finished yet.</p>"
    head = (
        "step",
        "prompts",
        "target rms",
        "log-ratio rms",
        "share",
        "R² train",
        "R² held out",
        "KL of the step",
        "KL to the start",
        "entropy a token",
        "moved",
        "tokens",
        "finished",
        "no label",
    )
    note = (
        "<p>A step asks the log-ratio of the new policy to its anchor to meet a target (rms in nats). The share is how "
        "much of the target was met, R² how well; both are 1 for the exact mirror step. KL divergences are in "
        "nats a response, estimated: of the step, and of the new policy to the start; its entropy is a token's. Moved "
        "is the share of the adapter's entries that changed.</p>"
    )
    warnings = "".join(
        f"<p><b>{m['iteration']}:</b> {html.escape(m['warning'])}</p>" for m in metrics(folder) if m["warning"]
    )
    return note + table(head, rows) + warnings


def samples(folder: Path, count: int = 8) -> str:
    """The first responses of the first and of the last policy that were sampled, to the same prompts."""
    found = (path for path in Path(folder).glob("iteration-*/responses") if any(path.glob("*.parquet")))
    stages = sorted(found, key=lambda path: order(path.parent))
    if not stages:
        return "<p>Nothing is sampled yet.</p>"
    prompts = {row["id"]: Prompt(tuple(row["messages"])).text for row in read_lines(Path(folder) / PROMPTS)}
    answers = []
    for stage in dict.fromkeys((stages[0], stages[-1])):
        label = max({file.name.split(".")[0] for file in shards(stage, "*")} - {"start"}, default="start")
        try:
            stored = [row for file in shards(stage, label)[:1] for row in read_shard(file)]
        except Damaged as error:
            return f"<p>{html.escape(str(error))}.</p>"
        answers.append({row["prompt"]: row["text"] for row in stored if row["response"] == 0})
    if len(answers) == 1:
        only = [(_short(prompts[name]), _short(text)) for name, text in list(answers[0].items())[:count]]
        return table(("prompt", f"the policy ({stages[0].parent.name})"), only, text=True)
    shared = [name for name in answers[0] if name in answers[1]][:count]
    first, newest = f"first policy ({stages[0].parent.name})", f"newest sampled policy ({stages[-1].parent.name})"
    if shared:
        rows = [(_short(prompts[name]), _short(answers[0][name]), _short(answers[1][name])) for name in shared]
        return table(("prompt", first, newest), rows, text=True)
    return "".join(  # each iteration had prompts of its own
        table(("prompt", head), [(_short(prompts[k]), _short(v)) for k, v in list(own.items())[:count]], text=True)
        for head, own in ((first, answers[0]), (newest, answers[1]))
    )


def _short(text: str, length: int = 240) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


PANELS: tuple[tuple[str, Panel], ...] = (
    ("The run", settings),
    ("What the fits achieved", fits),
    ("Responses", samples),
)


def write(
    folder: str | Path,
    extra: Sequence[tuple[str, str]] = (),
    title: str = "Self-play",
    file: str | Path | None = None,
) -> Path:
    """Write the report of a run, ``report.html`` in its folder unless told; ``extra`` sections come first."""
    folder = Path(folder)
    sections = [*extra, *((head, panel(folder)) for head, panel in PANELS)]
    file = Path(file) if file is not None else folder / "report.html"
    with whole_file(file) as unfinished:
        unfinished.write_text(page(title, sections), encoding="utf-8")
    return file
