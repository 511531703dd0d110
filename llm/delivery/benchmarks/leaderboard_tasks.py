"""The tasks of the Open LLM Leaderboard through lm_eval: its command lines, and before beside after."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import norm

from nashward.errors import NashwardError

GROUP, VERSION = "openllm", "0.4.13"
LEVEL = 0.05
# the measure of the first leaderboard for each task
MEASURES = {
    "arc_challenge": "acc_norm", "hellaswag": "acc_norm", "truthfulqa_mc2": "acc", "mmlu": "acc", "winogrande": "acc",
    "gsm8k": "exact_match",
}  # fmt: skip


def command(
    base: str, out: Path, adapter: Path | None = None, tasks: str = GROUP, limit: int | None = None,
    dtype: str = "bfloat16",
) -> list[str]:  # fmt: skip
    """The command line of lm_eval for a base, a merged folder, or a base with an adapter.

    Args:
        base: a folder or a hub id.
        out: the folder of its results.
        adapter: in PEFT's format; None: none.
        tasks: a group or names with commas.
        limit: questions of each task at most, for a trial; None: all.
        dtype: of the weights.

    Example:
        >>> print(" ".join(command("a/b", Path("out"), Path("lora"))))
        lm_eval run --model hf --model_args pretrained=a/b,dtype=bfloat16,peft=lora --tasks openllm --output_path out
    """
    model = f"pretrained={base},dtype={dtype}" + ("" if adapter is None else f",peft={adapter}")
    for name, value in (("the base", base), ("the adapter", adapter)):
        if value is not None and "," in str(value):
            raise NashwardError(f"{name} {value} has a comma, which lm_eval takes for its next argument; rename it")
    line = ["lm_eval", "run", "--model", "hf", "--model_args", model, "--tasks", tasks, "--output_path", str(out)]
    return [*line, *([] if limit is None else ["--limit", str(limit)])]


@dataclass(frozen=True)
class Score:
    """Of one task.

    Attributes:
        value: the measure, from 0 to 1.
        standard_error: over its questions; NaN where lm_eval gives none.
    """

    value: float
    standard_error: float


def read_scores(folder: Path) -> dict[str, Score]:
    """The newest results of lm_eval in a folder, by task.

    Raises:
        FileNotFoundError: the folder holds none.
        NashwardError: the file is not one of lm_eval.
    """
    file = _newest(folder)
    try:
        results: Mapping[str, Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["results"]
        found = {task: _score(task, row) for task, row in results.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NashwardError(f"{file} holds no results of lm_eval ({error})") from None
    return {task: score for task, score in found.items() if score is not None}


def check_results(folder: Path, base: str, adapter: Path | None = None, limit: int | None = None) -> None:
    """Check that the newest results in a folder are those of ``command`` with these arguments, as far as they say.

    Raises:
        FileNotFoundError: the folder holds none.
        NashwardError: they are of another model, of another number of questions, or older than the model.
    """
    file = _newest(folder)
    try:
        config = dict(json.loads(file.read_text(encoding="utf-8")).get("config") or {})
    except (ValueError, TypeError, AttributeError) as error:
        raise NashwardError(f"{file} holds no results of lm_eval ({error})") from None
    other = f"; {folder} is not used for both: name another --out, or remove it"
    if "limit" in config and config["limit"] != limit:
        counts = ["all" if count is None else f"at most {count:g}" for count in (config["limit"], limit)]
        raise NashwardError(f"{file} has {counts[0]} questions of each task, {counts[1]} are wanted{other}")
    given: Any = config.get("model_args")
    if isinstance(given, str):
        given = dict(part.partition("=")[::2] for part in given.split(","))
    for name, wanted in (("pretrained", base), ("peft", None if adapter is None else str(adapter))):
        if isinstance(given, Mapping) and not _same_place(given.get(name), wanted):
            raise NashwardError(f"{file} is of {name}={given.get(name)}, {wanted} is wanted{other}")
    for model in (base, adapter):
        written = [part.stat().st_mtime for part in Path(model).glob("*")] if model and Path(model).is_dir() else []
        if written and max(written) > file.stat().st_mtime:
            raise NashwardError(f"{file} is older than {model}, which has been written since{other}")


def _newest(folder: Path) -> Path:
    files = sorted(folder.rglob("results*.json"), key=lambda file: (file.stat().st_mtime_ns, str(file)))
    if not files:
        raise FileNotFoundError(f"{folder} holds no results of lm_eval (results*.json)")
    return files[-1]


def _same_place(one: Any, other: str | None) -> bool:
    return one == other or bool(one and other and os.path.realpath(one) == os.path.realpath(other))


def _score(task: str, row: Mapping[str, Any]) -> Score | None:
    """The leaderboard's measure of a task, of any other the first that has a value; None for a group without one."""
    measures = [name for name in row if "," in name and "_stderr" not in name and isinstance(row[name], int | float)]
    wanted = MEASURES.get(task)
    named = [name for name in measures if name.split(",")[0] == wanted] or measures
    if not named:
        return None
    name = next((one for one in named if one.endswith("strict-match")), named[0])
    measure, _, of = name.partition(",")
    error = row.get(f"{measure}_stderr,{of}")
    return Score(float(row[name]), float(error) if isinstance(error, int | float) else math.nan)


@dataclass(frozen=True)
class Change:
    """Of a task from before to after.

    Attributes:
        task: its name.
        before, after: its scores.
        p: two-sided, of no change, the errors taken as independent (both answer the same questions, so that the true
            error of the difference is smaller), and by Holm for the number of tasks; NaN where an error is not known.
    """

    task: str
    before: Score
    after: Score
    p: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the change is more than chance would give in one table out of twenty."""
        return self.p < LEVEL


def changes(before: Mapping[str, Score], after: Mapping[str, Score]) -> list[Change]:
    """The tasks that both have, in their order; the subjects of MMLU are left out where its mean is there.

    Raises:
        NashwardError: they have no task in common.

    Source: Holm 1979.

    Example:
        >>> (found,) = changes({"gsm8k": Score(0.40, 0.01)}, {"gsm8k": Score(0.45, 0.01)})
        >>> found.beyond_noise, round(found.p, 4)
        (True, 0.0004)
    """
    tasks = [task for task in before if task in after]
    if "mmlu" in tasks:  # MMLU-Pro and its like are benchmarks of their own
        tasks = [task for task in tasks if not task.startswith("mmlu_") or task.startswith("mmlu_pro")]
    if not tasks:
        raise NashwardError("the two results have no task in common; evaluate both on the same tasks")
    raw = []
    for task in tasks:
        error = math.hypot(before[task].standard_error, after[task].standard_error)
        apart = after[task].value - before[task].value
        raw.append(float(2 * norm.sf(abs(apart) / error)) if error > 0 else math.nan)
    return [Change(task, before[task], after[task], p) for task, p in zip(tasks, holm(raw), strict=True)]


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of a family by Holm's step-down; those that are not known stay so.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    known = sorted((k for k in range(len(p)) if not math.isnan(p[k])), key=lambda k: p[k])
    adjusted, largest = list(p), 0.0
    for rank, k in enumerate(known):
        largest = max(largest, min(1.0, p[k] * (len(known) - rank)))
        adjusted[k] = round(largest, 12)
    return adjusted


def table(found: Sequence[Change]) -> list[str]:
    """Before beside after, in percent, and which change is beyond noise."""
    width = max(len(change.task) for change in found)
    lines = [f"{'':<{width}}  before         after          change  beyond noise"]
    for change in found:
        moved = 100 * (change.after.value - change.before.value)
        verdict = f"yes (p = {change.p:.2g})" if change.beyond_noise else f"no (p = {change.p:.2g})"
        lines.append(
            f"{change.task:<{width}}  {_percent(change.before):<13}  {_percent(change.after):<13}  {moved:+6.2f}  "
            + ("not known" if math.isnan(change.p) else verdict)
        )
    return lines


def _percent(score: Score) -> str:
    error = "?" if math.isnan(score.standard_error) else f"{100 * score.standard_error:.2f}"
    return f"{100 * score.value:.2f} ± {error}"
