"""A file that a command writes is none that it reads, and replaces none but one of its own kind."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward.cli import configuration
from nashward.errors import NashwardError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READ_WHOLE = ("responses", "answers")  # folders of which every file with one of these endings is a model's answers
ANSWERS = (".json", ".jsonl")
RUN = "run.json"
FOR_READERS = (".txt", ".html", ".md", ".csv", ".png", ".svg", ".pdf")  # which a run keeps in none of its folders
# of a model, an oracle, an adapter or a run; what else lies beside them a command may have written for its user before
PARTS = (
    "*config.json", "tokenizer*", "vocab.*", "merges.txt", "*_tokens*.json", "chat_template.*", "*.safetensors",
    "*.bin", "*.model", "*.sqlite*", "fit.json", f"*{RUN}", "prompts.jsonl", "sft.jsonl", "opponents.jsonl",
    "events.jsonl", "timings.jsonl", "metrics.jsonl", "last.json", "mixture.json", "evaluation.json", "frontier.json",
)  # fmt: skip


def check(args: argparse.Namespace, parser: argparse.ArgumentParser, written: Sequence[str]) -> None:
    """Refuse, before anything is read, to write over what the command reads, or two results to one file.

    Args:
        args: of the command.
        parser: that they are of, for the names of its options.
        written: the names in ``args`` of the files that the command writes; out/FILE is one in the folder ``out``.

    Raises:
        ValueError: one of them is the file that another argument names, also through a link, or a part of the model or
            run that it names, or lies where it would be read as a model's answers.
    """
    names = {
        action.dest: action.option_strings[-1] if action.option_strings else action.dest for action in parser._actions
    }
    for one in written:
        name, _, file = one.partition("/")
        place = getattr(args, name, None)
        if not isinstance(place, Path) or os.path.isdir(out := place / file) or is_device(out):
            continue  # a folder the command refuses itself, and nothing takes the place of a device
        for other, option in names.items():
            for given in () if other == name else _named(getattr(args, other, None)):
                if _same(out, given):
                    lost = "one would replace the other" if other in written else "which would be lost"
                    raise NashwardError(
                        f"{names[name]} {out} is the same file as {option} {given}, {lost}; name another"
                    )
                if other in READ_WHOLE and _same(out.parent, given) and out.name.removesuffix(".gz").endswith(ANSWERS):
                    raise NashwardError(
                        f"{names[name]} {out} would be read as a model's answers, as all of {given}; name a file "
                        "elsewhere"
                    )
                if _is_part(out, given):
                    raise NashwardError(
                        f"{names[name]} {out} is a part of {option} {given}, which would be lost; name another file"
                    )


def check_file(option: str, file: Path | None, example: str, endings: Sequence[str] = ()) -> None:
    """Refuse, before anything is computed, a file that could not be written.

    Args:
        option: that names it.
        file: what will be written; a device or a pipe (``/dev/null``, ``/dev/stdout``) may be called as it likes.
        example: a name for it.
        endings: of its name, of which it has one; none: any.

    Raises:
        ValueError: a name that no file can have, a folder, another ending, or a file stands where a folder should.
    """
    if file is None:
        return
    try:
        os.fsencode(file)
    except UnicodeEncodeError:
        raise NashwardError(f"{option} {file}: no file can have that name; name one as {example}") from None
    if file.is_dir():
        raise NashwardError(f"{file} is a folder; {option} names a file, for example {file / example}")
    if endings and file.suffix.lower() not in endings and not is_device(file):
        raise NashwardError(f"{option} {file}: expected a name that ends in {', '.join(endings)}, got {file.suffix!r}")
    configuration.check_place(file)


def check_picture(option: str, file: Path | None, example: str) -> None:
    """As ``check_file``, of a picture, which is none where the result is printed."""
    if file is not None:
        if _is_stdout(file):
            raise NashwardError(f"{option} {file}: the result is printed there; name a file, for example {example}")
        from matplotlib.backend_bases import FigureCanvasBase

        kinds = sorted(FigureCanvasBase.get_supported_filetypes())
        check_file(option, file, example, [f".{kind}" for kind in kinds])


def kind_of_picture(file: Path) -> str:
    """The format by the ending of a file's name; of a device PNG."""
    return "png" if is_device(file) else file.suffix[1:].lower()


def write_picture(figure: Figure, file: Path) -> list[str]:
    """Write a picture, also to a pipe, in which no format's writer can go back.

    Returns:
        as ``games.plots.save``.
    """
    from nashward.games import plots

    picture = io.BytesIO()
    lacking = plots.save(figure, picture, dpi=150, format=kind_of_picture(file))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(picture.getvalue())
    return lacking


def _is_stdout(file: Path) -> bool:
    try:
        out, given = os.fstat(1), os.stat(file)
    except (OSError, ValueError):  # closed, or not there
        return False
    return os.path.samestat(out, given) and not os.path.samestat(out, os.stat(os.devnull))


@contextmanager
def read_by_none(closed: list[BrokenPipeError]) -> Iterator[None]:
    """Within the block, keep the error of a reader of the output that has gone, as ``head``: a command that writes
    files writes them nevertheless, and raises it then."""
    try:
        yield
    except BrokenPipeError as error:
        closed.append(error)


def is_device(file: Path) -> bool:
    """Whether it is there and neither a file nor a folder, as ``/dev/null``."""
    return file.exists() and not file.is_file() and not file.is_dir()


def check_replaced(out: Path, fields: Sequence[str]) -> None:
    """Refuse to replace a file that is of another kind than the command writes: it may be somebody's work.

    Args:
        out: what will be written; nothing, an empty file, or one of rows with these fields may be there.
        fields: that each of its rows has, or the object that it holds.

    Raises:
        ValueError: something else is there.
    """
    if not out.is_file() or not out.stat().st_size:
        return
    try:
        with out.open(encoding="utf-8") as handle:
            held = json.loads(handle.readline() if out.suffix == ".jsonl" else handle.read())
    except (ValueError, RecursionError):  # no JSON, or no text
        held = None
    if isinstance(held, list):
        held = next(iter(held), None)
    if not isinstance(held, dict) or (missing := [name for name in fields if name not in held]):
        lacks = "it is no JSON" if not isinstance(held, dict) else f"it has no {missing[0]}"
        raise NashwardError(
            f"--out {out} is there already, not written by this command ({lacks}): remove it, or name another file"
        )


def _named(value: Any) -> Iterator[str | Path]:
    """The files and folders that an argument may name, also in a text as style:pairs=FILE, or by module:name."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str):
        words = [word for word in re.split("[,:=]", value) if word]
        yield from (value, *words, *(value[sign.end() :] for sign in re.finditer("[,:=](?=.)", value)))
        yield from (word.replace(".", "/") + ".py" for word in words)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _named(one)


def _same(out: Path, given: str | Path) -> bool:
    at = os.path.expanduser(given)
    if os.path.exists(out) and os.path.exists(at):
        return os.path.samefile(out, at)
    return isinstance(given, Path) and os.path.realpath(out) == os.path.realpath(at)  # another word is no file


def _is_part(out: Path, given: str | Path) -> bool:
    """Whether a file is there already and belongs to the model or the run in that folder."""
    folder = os.path.realpath(os.path.expanduser(given))
    if not (given and os.path.isfile(out) and os.path.isdir(folder)):
        return False
    if not (file := out.resolve()).is_relative_to(folder):
        return False
    inside = file.relative_to(folder)
    below = len(inside.parts) > 1 and inside.suffix not in FOR_READERS and Path(folder, RUN).is_file()
    return below or any(inside.match(part) for part in PARTS)
