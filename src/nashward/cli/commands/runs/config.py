"""The command ``config``: the settings of a run as a TOML file, each with where it is from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from nashward.cli import solver_options
from nashward.cli.command import Command
from nashward.cli.configuration import PLACES, SECTIONS, Setting, Settings, run_folder, self_play, settings
from nashward.cli.solver_options import ALL
from nashward.errors import NashwardError

NEEDED = ("out", "policy", "oracle", "prompts")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    solver_options.add_run(parser, ("policy", "oracle"))


def run(args: argparse.Namespace) -> int:
    chosen = settings(args)
    here = {**chosen, "out": chosen.get("out", Setting(Path(), "default"))}  # where none is given none is looked at
    play = self_play(here)
    saved = ("prompts",) if run_folder(play.folder).started else ()
    present = {*chosen, *saved, *(["oracle"] if "objective" in chosen else [])}
    missing = [name for name in NEEDED if name not in present]
    if not missing:
        play.check()
    unset = {name: Setting(None, "default") for name in ("out", "oracle")}
    print(toml({**defaults(play), **unset, **chosen}, missing), end="")
    return 0


def defaults(play: Any) -> Settings:
    """The values of all settings, as the run has them."""
    values: Settings = {}
    for path, name in PLACES.items():
        value = play.config if hasattr(play.config, path[0]) else play
        for key in path:
            value = getattr(value, key, None)
        values[name] = Setting(None if value == () else value, "default")
    return values


def toml(chosen: Settings, missing: list[str]) -> str:
    """The settings as a TOML file that ``--config`` takes; what is not set stands in comments.

    Raises:
        ValueError: a name that is not Unicode, which TOML cannot hold.
    """
    lines = []
    if missing:
        lines += [f"# align needs besides: {', '.join('--' + name for name in missing)}", ""]
    for section in ("", *SECTIONS):
        lines += ["", f"[{section}]"] if section else []
        for path, name in PLACES.items():
            if "".join(path[:-1]) == section:
                value, source = chosen[name].value, chosen[name].source
                device = section == "placement" and source == "default"
                if value is None and not device:
                    value = ALL[name].none
                if value is None:
                    lines.append(f"# {path[-1]}: {'by the device' if device else 'not set'}")
                else:
                    lines.append(f"{path[-1]} = {_written(value)}  # {_printable(source)}")
    return "\n".join(lines) + "\n"


def _written(value: Any) -> str:
    if isinstance(value, str | Path):
        text = json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NashwardError(f"{str(value)!r} is not Unicode, which TOML cannot hold; rename it") from None
        return text
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, list):
        tables = [", ".join(f"{k} = {_written(v)}" for k, v in row.items() if v is not None) for row in value]
        return "[" + ", ".join(f"{{ {table} }}" for table in tables) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


COMMAND = Command(
    "nashward config --preset sppo-paper --config mine.toml --step 3",
    add_arguments,
    run,
    loads=False,
)
