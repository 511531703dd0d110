"""The command line: ``nashward COMMAND --help``."""

from __future__ import annotations

import argparse
import difflib
import io
import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from nashward.console import console_log
from nashward.errors import NashwardError

from .. import __version__
from .command import Command
from .commands.delivery import answer, mix
from .commands.evaluation import best_of_n, evaluate, exploit, leaderboard
from .commands.judges import fit_oracle
from .commands.runs import align, config, plan, report, status
from .commands.tables import demo, solve, theory

COMMANDS = (
    demo.COMMAND, solve.COMMAND, align.ALIGN, align.SAMPLE, align.JUDGE, align.TRAIN, config.COMMAND, status.COMMAND,
    plan.COMMAND, fit_oracle.COMMAND, leaderboard.COMMAND, mix.COMMAND, answer.COMMAND, evaluate.COMMAND,
    exploit.COMMAND, best_of_n.COMMAND, theory.COMMAND, report.COMMAND,
)  # fmt: skip
INTERNAL, BAD_INPUT, INTERRUPTED = 1, 2, 130


class Help(argparse.HelpFormatter):
    """Breaks no line within a word, so that the worked line can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, in place of a page of usage."""

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
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERNAL
    except KeyboardInterrupt:
        print("\nnashward: interrupted; the same command continues where it stopped", file=sys.stderr)
        return INTERRUPTED
    except (NashwardError, OSError, MemoryError, RuntimeError) as error:
        message = _one_line(error)
        if message is None or "--traceback" in arguments:
            raise
        line = " ".join(message.split())
        print("nashward: " + "".join(sign if sign.isprintable() else "?" for sign in line), file=sys.stderr)
        return BAD_INPUT


def _run(arguments: Sequence[str]) -> int:
    given = _parse(arguments)
    if given.quiet or not sys.stderr.isatty():  # the bars of transformers and of the hub, read on their import
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # a kernel that another package would bring, and that `keep_gradients` keeps away from: nothing to act on
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    with console_log(given.quiet, always=True):
        code = given.command(given)
    sys.stdout.flush()
    return code


def _one_line(error: Exception) -> str | None:
    """What an error says to the user; None where it is a defect of nashward.

    ``NashwardError`` is raised on purpose. What the machine lacks (a file, a permission, space, memory) arrives as
    OSError or an error of memory, whoever raises it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({(str(error) or 'on the host').splitlines()[0]}); see nashward plan --help"
    if isinstance(error, OSError):
        return (
            f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error.strerror or str(error)
        )
    return str(error) if isinstance(error, NashwardError) else None


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; of one that is not known the error names the nearest."""
    parser = build_parser()
    for word in arguments:
        if word.startswith("--") and word.endswith("=--"):  # Python 3.11's argparse makes an empty list of that value
            parser.error(f"{word[:-3]}: expected a value, got --")
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser = given.parser
        flag = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        near = difflib.get_close_matches(flag, [name for name in parser._option_string_actions if len(name) > 2], 1)
        parser.error(f"there is no argument {flag}" + (f"; the nearest is {near[0]}" if near else ""))
    return given


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="nashward",
        description="From reward to Nash: the policy that no other policy beats, for a table and for a language model.",
        allow_abbrev=False,  # a prefix that is clear today means something else once there is another option
    )
    parser.add_argument("--version", action="version", version=f"nashward {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for command in COMMANDS:
        _add(commands, command)
    return parser


def _add(commands: argparse._SubParsersAction[Parser], command: Command) -> None:
    parser = commands.add_parser(
        command.name, help=command.summary, description=command.summary, epilog=f"example: {command.example}",
        allow_abbrev=False, formatter_class=Help,
    )  # fmt: skip
    parser.set_defaults(command=command.run, parser=parser)
    parser.add_argument("--quiet", action="store_true", help="only the result and warnings, no progress")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    command.add_arguments(parser)


if __name__ == "__main__":
    sys.exit(main())
