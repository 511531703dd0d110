"""The metrics of a run in an experiment tracker, through accelerate: TensorBoard, Weights & Biases, MLflow, Trackio."""

from __future__ import annotations

import io
import json
import os
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nashward.errors import MissingPackageError
from nashward.games.shapes import Float

from ..report import panels, run_name
from ..report.content import Details, Picture
from ..run.manifest import as_played
from ..store.files import read_jsonl, sha256, to_jsonl, write_json
from ..store.run_folder import METRICS, RunFolder, flatten

ReportTo = Literal["tensorboard", "wandb", "mlflow", "trackio"]
FOLDER, JOURNAL = "tracking", "journal.json"  # in the run folder
NAME = re.compile(r"[^\w\-. /]")  # what MLflow takes in no name


@dataclass
class _Journal:
    """What was logged.

    Attributes:
        steps: by the name of each Step a hash of its metrics.
        last: the largest number at which something was logged.
        offset: by how much numbers are above those of the optimiser steps, since Steps were made again.
    """

    steps: dict[str, str] = field(default_factory=dict)
    last: int = 0
    offset: int = 0


class RunTracker:
    """Logs what is new in a run folder: each line of each ``metrics.jsonl``, and the report's pictures.

    A line of an optimiser step is logged as ``fit/...`` at its number, counted over the run; the summary of a Step as
    ``step/...`` at the number of the last optimiser step before its end. A run that is continued goes on where its
    journal ends, so that nothing is logged twice. A Step that was made again is logged again, at the same numbers.

    Args:
        folder: of the run.
        kind: the tracker.

    Raises:
        MissingPackageError: its package is not installed.

    Example:
        >>> RunTracker(Path("runs/first"), "tensorboard").update()  # doctest: +SKIP
    """

    def __init__(self, folder: Path, kind: ReportTo):
        if find_spec(kind) is None:
            raise MissingPackageError(f'--report-to {kind} needs the package {kind}: pip install "nashward[track]"')
        self.run, self.kind = RunFolder(folder), kind
        self.place = Path(folder).resolve() / FOLDER / kind
        self._tracker: Any = None

    @property
    def tracker(self) -> Any:
        """The tracker of accelerate, started when it is first needed, with the run's settings."""
        if self._tracker is None:
            self.place.mkdir(parents=True, exist_ok=True)
            self._tracker = START[self.kind](run_name(self.run.path), self.place)
            self._tracker.start()
            if not self._journal().steps:
                self._store_settings()
        return self._tracker

    def _store_settings(self) -> None:
        config = flatten(as_played(self.run.path, self.run.read()["config"]))
        known = {name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
                 for name, value in config.items() if value is not None}  # fmt: skip
        if self.kind == "tensorboard":  # which would write a run of its own for them
            text = json.dumps(known, indent=2)
            self.tracker.log({"settings": f"```\n{text}\n```"}, step=0)
        else:
            self._tracker.store_init_configuration(known)

    def update(self) -> None:
        """Log the Steps that are finished and not logged yet."""
        journal = self._journal()
        logged, done = journal.steps, journal.offset
        for step in self.run.steps():
            rows = read_jsonl(step / METRICS)
            fits = [row for row in rows if "step" in row]
            content = sha256(to_jsonl(rows))[:16]
            if logged.get(step.name) != content and len(fits) < len(rows):  # the summary is its last line
                if step.name in logged:  # trackers take no number below the last one
                    journal.offset, done = journal.offset + journal.last - done, journal.last
                for row in fits:
                    self.tracker.log(numbers(row, "fit", ("step",)), step=done + int(row["step"]))
                for row in rows[len(fits) :]:
                    self.tracker.log(numbers(row, "step", ("iteration",)), step=done + len(fits))
                logged[step.name], journal.last = content, done + len(fits)
                write_json(self.place / JOURNAL, asdict(journal))
            done += len(fits)

    def finish(self) -> None:
        """Log the report's pictures, and close the tracker."""
        self.update()
        last = self._journal().last
        for name, picture in pictures(self.run.path).items():
            LOG_PICTURE[self.kind](self.tracker, f"report/{name}", picture, last)
        if self._tracker is not None:
            self._tracker.finish()
            self._tracker = None

    def _journal(self) -> _Journal:
        file = self.place / JOURNAL
        return _Journal(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else _Journal()


def numbers(row: Mapping[str, Any], prefix: str, without: tuple[str, ...] = ()) -> dict[str, float]:
    """The numbers of a line of metrics by their names in a tracker; true is 1.

    Example:
        >>> numbers({"step": 3, "train": {"r2": 0.5}, "crossed": False, "warning": None}, "step", ("step",))
        {'step/train/r2': 0.5, 'step/crossed': 0.0}
    """
    return {
        NAME.sub("_", f"{prefix}/{name.replace('.', '/')}"): float(value)
        for name, value in _flat(row).items()
        if name not in without and isinstance(value, bool | int | float)
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line with its lists by number: refits."""
    flat: dict[str, Any] = {}
    for name, value in flatten(dict(row)).items():
        parts = enumerate(value) if isinstance(value, list) else ()
        flat |= {f"{name}.{k}.{inner}": v for k, part in parts if isinstance(part, dict) for inner, v in part.items()}
        flat[name] = value
    return flat


def pictures(folder: Path) -> dict[str, Float[np.ndarray, "height width 3"]]:
    """The pictures of a run's report by section and number, in RGB from 0 to 1, ``[height, width, 3]``."""
    found = {}
    for section in panels(folder):
        for k, picture in enumerate(_pictures(section.content), 1):
            found[NAME.sub("_", f"{section.title} {k}")] = rgb(picture)
    return found


def _pictures(content: Any) -> list[Picture]:
    nested: list[Picture] = []
    for part in content:
        if isinstance(part, Picture):
            nested.append(part)
        elif isinstance(part, Details):
            nested += _pictures(part.content)
    return nested


def rgb(picture: Picture) -> Float[np.ndarray, "height width 3"]:
    """A picture as the report shows it, ``[height, width, 3]`` from 0 to 1."""
    from matplotlib.image import imread

    return np.asarray(imread(io.BytesIO(b64decode(picture.png))), dtype=np.float32)[..., :3]


def _tensorboard(name: str, place: Path) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker("", str(place))


def _wandb(name: str, place: Path) -> Any:
    from accelerate.tracking import WandBTracker

    journalled = (place / JOURNAL).is_file()
    return WandBTracker(
        "nashward", name=name, dir=str(place), id=_identity(place), resume="allow" if journalled else None
    )


def _mlflow(name: str, place: Path) -> Any:
    import mlflow
    from accelerate.tracking import MLflowTracker

    artefacts = None
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # which it sets: the next run would take it for the user's
        artefacts = (place / "artifacts").as_uri()
    file = place / "run-id"
    known = file.read_text(encoding="utf-8") if file.is_file() else None
    tracker = MLflowTracker("nashward", artefacts, run_id=known, run_name=name)
    if known is None:
        start = tracker.start

        def start_and_keep() -> None:
            start()
            file.write_text(tracker.active_run.info.run_id, encoding="utf-8")

        tracker.start = start_and_keep
    return tracker


def _trackio(name: str, place: Path) -> Any:
    os.environ.setdefault("TRACKIO_DIR", str(place))  # read when the package is imported
    from accelerate.tracking import TrackioTracker

    return TrackioTracker("nashward", name=name, resume="allow")


def _identity(place: Path) -> str:
    """An id of a run's own, the same when it is continued."""
    file = place / "run-id"
    if not file.is_file():
        file.write_text(os.urandom(8).hex(), encoding="utf-8")
    return file.read_text(encoding="utf-8")


def _tensorboard_picture(tracker: Any, name: str, picture: np.ndarray, step: int) -> None:
    tracker.log_images({name: picture[None]}, step=step, dataformats="NHWC")


def _wandb_picture(tracker: Any, name: str, picture: np.ndarray, step: int) -> None:
    tracker.log_images({name: [_bytes(picture)]}, step=step)


def _mlflow_picture(tracker: Any, name: str, picture: np.ndarray, step: int) -> None:
    import mlflow

    mlflow.log_image(_bytes(picture), artifact_file=f"{name}.png")


def _trackio_picture(tracker: Any, name: str, picture: np.ndarray, step: int) -> None:
    import trackio

    tracker.log({name: trackio.Image(_bytes(picture))}, step=step)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (255 * picture).round().astype(np.uint8)


START: dict[ReportTo, Callable[[str, Path], Any]] = {
    "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio,
}  # fmt: skip
LOG_PICTURE: dict[ReportTo, Callable[[Any, str, np.ndarray, int], None]] = {
    "tensorboard": _tensorboard_picture, "wandb": _wandb_picture, "mlflow": _mlflow_picture,
    "trackio": _trackio_picture,
}  # fmt: skip
