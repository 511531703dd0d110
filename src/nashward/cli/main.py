"""The command line: ``nashward COMMAND --help``."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
import warnings
from collections.abc import Collection, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from pathlib import Path
from typing import NoReturn

from nashward.console import console_log, printable_output
from nashward.errors import NashwardError
from nashward.llm.processes import processes

from .. import __version__
from . import help_pages, hints, outputs
from .command import Entry
from .commands import COMMANDS
from .sigterm import sigterm_message

PROGRAM = "nashward"
BAD_INPUT, INTERRUPTED, CLOSED = 2, 130, 141


class Parser(argparse.ArgumentParser):
    """Raises what is wrong with the arguments as one line, in place of a page of usage."""

    def format_help(self) -> str:
        return help_pages.overview(COMMANDS) if self.prog == PROGRAM else super().format_help()

    def error(self, message: str) -> NoReturn:
        if "required: COMMAND" in message:
            message = "a command is needed"
        if message.startswith("argument COMMAND: invalid choice: "):
            name = message.removeprefix("argument COMMAND: invalid choice: ").partition(" (choose from")[0]
            message = f"there is no command {name}{hints.of_command(name.strip(chr(39)), COMMANDS)}"
        elif wrong := re.search(r": invalid choice: '(.*)' \(choose from (.*)\)$", message):
            message += hints.of_choice(wrong[1], re.findall(r"[^', ]+", wrong[2]))
        message = message.removeprefix("argument ")
        message = message.replace("expected one argument", "expected a value (one that begins with - is joined by =)")
        raise NashwardError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for bad input (one line on stderr), 130 or 143 after a signal, 141
    where the reader of the output has closed it.

    An error of nashward itself is raised, which ends a process with its traceback and the exit code 1.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if "" not in sys.path:
        sys.path.append("")  # an oracle that is given as module:name may lie in the working directory
    # before torch is loaded: threads of OpenMP sleep while they wait for each other. By default they spin, and where
    # another process has a core, that takes it from the thread that is waited for: a run takes several times as long
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with printable_output():
        return _code(arguments)


def _code(arguments: Sequence[str]) -> int:
    try:
        if not arguments:
            print(help_pages.overview(COMMANDS), flush=True)
            return BAD_INPUT
        return _run(arguments)
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # what is left in their buffers goes nowhere
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return CLOSED
    except KeyboardInterrupt:
        if processes.main:
            _print_error("\nnashward: interrupted before anything was begun")
        return INTERRUPTED
    except Exception as error:
        message = _one_line(error, next((word for word in arguments if word in COMMANDS), None))
        if message is None or "--traceback" in arguments:
            raise
        line = processes.prefix + " ".join(message.split())
        if processes.speaks:
            _print_error("nashward: " + "".join(sign if sign.isprintable() else "?" for sign in line))
        return BAD_INPUT


def _print_error(line: str) -> None:
    with suppress(BrokenPipeError):  # the code says it as well
        print(line, file=sys.stderr, flush=True)


def _run(arguments: Sequence[str]) -> int:
    try:
        args = _parse(arguments)
    except SystemExit:  # of --help and --version
        sys.stdout.flush()
        raise
    outputs.check(args, args.parser, args.writes)
    if args.loads:
        _check_oracles(args)
    if (
        args.quiet or not processes.main or not sys.stderr.isatty()
    ):  # the bars of transformers and of the hub, read on their import
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if processes.count > 1 and not args.divides:
        if not processes.main:
            return 0
        _print_error(f"{args.parser.prog}: one of the {processes.count} processes does it")
        processes.alone()
    try:
        with ExitStack() as inside:
            if not processes.main:  # the first one shows what all of them find
                inside.enter_context(redirect_stdout(inside.enter_context(open(os.devnull, "w"))))
                inside.enter_context(warnings.catch_warnings(action="ignore"))
            inside.enter_context(console_log(args.quiet, always=True, silent=not processes.main))
            inside.enter_context(processes.session())
            if args.continues and processes.count == 1:
                inside.enter_context(sigterm_message(f"\n{PROGRAM}: SIGTERM; {_after_stop(args)}\n"))
            code = args.command(args)
    except KeyboardInterrupt:
        if processes.main:
            _print_error(f"\n{PROGRAM}: interrupted; {_after_stop(args)}")
        return INTERRUPTED
    sys.stdout.flush()
    return code


def _check_oracles(args: argparse.Namespace) -> None:
    """Refuse oracles that cannot be any by their names, before the packages are imported that load them."""
    for name in ("oracle", "objective", "held_out", "beside"):
        given = getattr(args, name, None)
        for one in given if isinstance(given, list | tuple) else (given,):
            if isinstance(one, str):  # align's --held-out is a number
                from nashward.llm.oracles.source_names import check_name

                check_name(one.partition("=")[2] if name == "objective" else one)


def _after_stop(args: argparse.Namespace) -> str:
    """What is left of a command that was stopped."""
    if args.continues:
        return "the same command continues where it stopped"
    if getattr(args, "cache", None) is not None:
        return f"the judgements until then are kept in {args.cache}, and the same command reads them"
    return "nothing was kept"


def _one_line(error: Exception, command: str | None) -> str | None:
    """The line of an error that the user can act on; None where it is a defect of nashward.

    ``NashwardError`` is raised on purpose. What the machine lacks (a file, a permission, space, memory, a package of
    the llm extra) arrives as OSError, an error of memory or of an import from any library.
    """
    if isinstance(error, ModuleNotFoundError):
        from nashward import llm

        return llm.missing(error.name) if error.name in llm.PACKAGES else None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        of_tables = command is not None and COMMANDS[command].folder == "tables"  # plan is of language models
        advice = "give a game of fewer actions, or fewer iterations" if of_tables else "see nashward plan --help"
        return f"out of memory ({(str(error) or 'on the host').splitlines()[0]}); {advice}"
    if isinstance(error, OSError):
        return (
            f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error.strerror or str(error)
        )
    return str(error) if isinstance(error, NashwardError) else _of_users_code(error)


def _of_users_code(error: Exception) -> str | None:
    """The line of an error in a module of the working directory, as in an oracle of the user's; None of any other."""
    *_, last = traceback.extract_tb(error.__traceback__)
    file = Path(last.filename)
    ours, here = Path(__file__).parents[1], Path.cwd()
    own = file.is_file() and file.is_relative_to(here) and "site-packages" not in file.parts
    if not own or file.is_relative_to(ours):
        return None
    what = "; ".join([f"{type(error).__name__}: {error}".rstrip(": "), *getattr(error, "__notes__", ())])
    return f"{file.relative_to(here)}, line {last.lineno}, in {last.name}: {what}; --traceback shows how it came there"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; the error of an unknown one names what it is called now, or the nearest."""
    named = [word for word in arguments if word in COMMANDS][:1]
    parser = build_parser(named)
    for word in arguments:
        if word.startswith("--") and word.endswith("=--"):  # Python 3.11's argparse makes an empty list of that value
            parser.error(f"{word[:-3]}: expected a value, got --")
    if named and arguments[0] == named[0]:  # before argparse, which would name an option that is missing then
        command = _command(parser, named[0])
        if flag := hints.unknown_option(arguments[1:], command):
            _no_argument(command, flag)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        _no_argument(args.parser, next((word for word in unknown if word.startswith("-")), unknown[0]))
    return args


def _no_argument(parser: argparse.ArgumentParser, word: str) -> NoReturn:
    flag = word.partition("=")[0]
    known = [name for name in parser._option_string_actions if len(name) > 2]
    if not flag.startswith("-"):
        parser.error(f"there is no argument {flag}")
    parser.error(f"there is no argument {flag}{hints.of_option(flag, known, _with_option(flag))}")


def _with_option(flag: str) -> list[str]:
    """The commands that have this option."""
    every = build_parser()
    return [name for name in COMMANDS if flag in _command(every, name)._option_string_actions]


def _command(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices[name]


def build_parser(names: Collection[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command line, with the arguments of the named commands; the others are in its help alone."""
    parser = Parser(
        prog=PROGRAM,
        allow_abbrev=False,  # a prefix that is clear today means something else once there is another option
    )
    parser.add_argument("--version", action="version", version=f"nashward {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, entry in COMMANDS.items():
        _add(commands, name, entry, declare=name in names)
    return parser


def _add(commands: argparse._SubParsersAction[Parser], name: str, entry: Entry, declare: bool) -> None:
    parser = commands.add_parser(
        name, description=entry.summary, allow_abbrev=False, formatter_class=help_pages.Formatter, add_help=False
    )
    if not declare:
        return
    command = entry.load()
    parser.epilog = f"example: {command.example}"
    parser.set_defaults(
        command=command.run, parser=parser, divides=command.divides, continues=command.continues,
        writes=command.writes, loads=command.loads,
    )  # fmt: skip
    help_pages.add_help(parser, command.first)
    parser.add_argument("--quiet", action="store_true", help="only the result and warnings, no progress")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    command.add_arguments(parser)


if __name__ == "__main__":
    sys.exit(main())
