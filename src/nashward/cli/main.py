"""The command line: ``nashward COMMAND --help``."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import NoReturn

from nashward.console import console_log
from nashward.errors import NashwardError

from .. import __version__
from .command import Entry
from .commands import COMMANDS

INTERNAL, BAD_INPUT, INTERRUPTED = 1, 2, 130


class Help(argparse.HelpFormatter):
    """Breaks no line within a word, so that the worked line can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Raises what is wrong with the arguments as one line, in place of a page of usage."""

    def error(self, message: str) -> NoReturn:
        if "required: COMMAND" in message:
            message = "a command is needed"
        message = message.removeprefix("argument ").replace("COMMAND: invalid choice:", "there is no command")
        message = message.replace("expected one argument", "expected a value (one that begins with - is joined by =)")
        raise NashwardError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for bad input (one line on stderr), 130 or 143 after a signal.

    An error of nashward itself is raised, which ends a process with its traceback and the exit code 1.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if "" not in sys.path:
        sys.path.append("")  # an oracle that is given as module:name may lie in the working directory
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label that the terminal's encoding lacks
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERNAL
    except KeyboardInterrupt:
        print("\nnashward: interrupted; the same command continues where it stopped", file=sys.stderr)
        return INTERRUPTED
    except (NashwardError, OSError, MemoryError, RuntimeError, ModuleNotFoundError) as error:
        message = _one_line(error)
        if message is None or "--traceback" in arguments:
            raise
        line = " ".join(message.split())
        print("nashward: " + "".join(sign if sign.isprintable() else "?" for sign in line), file=sys.stderr)
        return BAD_INPUT


def _run(arguments: Sequence[str]) -> int:
    args = _parse(arguments)
    if args.quiet or not sys.stderr.isatty():  # the bars of transformers and of the hub, read on their import
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with console_log(args.quiet, always=True):
        code = args.command(args)
    sys.stdout.flush()
    return code


def _one_line(error: Exception) -> str | None:
    """The line of an error that the user can act on; None where it is a defect of nashward.

    ``NashwardError`` is raised on purpose. What the machine lacks (a file, a permission, space, memory, a package of
    the llm extra) arrives as OSError, an error of memory or of an import from any library.
    """
    if isinstance(error, ModuleNotFoundError):
        from nashward import llm

        return llm.missing(error.name) if error.name in llm.PACKAGES else None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({(str(error) or 'on the host').splitlines()[0]}); see nashward plan --help"
    if isinstance(error, OSError):
        return (
            f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error.strerror or str(error)
        )
    return str(error) if isinstance(error, NashwardError) else None


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; the error of an unknown one names what it is called now, or the nearest."""
    from .options import renamed

    parser = build_parser([word for word in arguments if word in COMMANDS][:1])
    for word in arguments:
        if word.startswith("--") and word.endswith("=--"):  # Python 3.11's argparse makes an empty list of that value
            parser.error(f"{word[:-3]}: expected a value, got --")
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser = args.parser
        flag = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        known = [name for name in parser._option_string_actions if len(name) > 2]
        if (now := f"--{renamed(flag.removeprefix('--'))}") in known:
            parser.error(f"there is no argument {flag}; it is {now} now")
        near = difflib.get_close_matches(flag, known, 1)
        parser.error(f"there is no argument {flag}" + (f"; the nearest is {near[0]}" if near else ""))
    return args


def build_parser(names: Collection[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command line, with the arguments of the named commands; the others are in its help alone."""
    parser = Parser(
        prog="nashward",
        description="From reward to Nash: the policy that no other policy beats, for a table and for a language model.",
        allow_abbrev=False,  # a prefix that is clear today means something else once there is another option
    )
    parser.add_argument("--version", action="version", version=f"nashward {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, entry in COMMANDS.items():
        _add(commands, name, entry, declare=name in names)
    return parser


def _add(commands: argparse._SubParsersAction[Parser], name: str, entry: Entry, declare: bool) -> None:
    parser = commands.add_parser(
        name, help=entry.summary, description=entry.summary, allow_abbrev=False, formatter_class=Help
    )
    if not declare:
        return
    command = entry.load()
    parser.epilog = f"example: {command.example}"
    parser.set_defaults(command=command.run, parser=parser)
    parser.add_argument("--quiet", action="store_true", help="only the result and warnings, no progress")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    command.add_arguments(parser)


if __name__ == "__main__":
    sys.exit(main())
