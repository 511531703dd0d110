"""``nashward vote``: people compare responses on a page; their votes come in and go out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nashward.cli import options, outputs
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.llm.config import Asking
from nashward.llm.config.inputs import PEOPLE
from nashward.llm.config.people import VoteFormat
from nashward.winners import SKIP

if TYPE_CHECKING:
    from nashward.llm.people.questions import Responses
    from nashward.llm.people.records import CastVote
    from nashward.llm.people.store import VoteStore

SETTINGS = options.options_of(Asking)
_NOTHING = (
    "{} has nothing to compare yet: give --pairs FILE, --answers FOLDER with --prompts FILE, or a run folder; align "
    "--oracle people:FOLDER adds the responses of its run"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=options.path, default=Path("people"), metavar="FOLDER",
        help="the folder of the votes, as in align --oracle people:FOLDER (default: people, created where it is "
        "missing), or a run folder, whose newest responses are compared",
    )  # fmt: skip
    asked = parser.add_argument_group("what is compared")
    asked.add_argument("--pairs", type=options.path, metavar="FILE", help="rows with prompt, a and b")
    asked.add_argument("--answers", type=options.path, metavar="FOLDER", help="one file of responses per model")
    asked.add_argument("--prompts", type=options.path, metavar="FILE", help="the prompts that --answers are to")
    options.add(asked, options.PROMPT_FIELD)
    asked.add_argument(
        "--oracle", metavar="ID_OR_FOLDER", help="what is believed of the pairs so far; it decides what is asked next"
    )
    options.add(parser.add_argument_group("questions"), SETTINGS)
    page = parser.add_argument_group("page")
    page.add_argument("--rubric", type=options.path, metavar="FILE", help="Markdown that stands beside the responses")
    page.add_argument("--host", default="127.0.0.1", help="beyond this machine a token is printed (default: 127.0.0.1)")
    page.add_argument("--port", type=options.whole, default=8765, metavar="N", help="0: any (default: 8765)")
    data = parser.add_argument_group("votes in and out, in place of the page")
    data.add_argument("--import", dest="read", type=options.path, metavar="FILE", help="add the votes of a file")
    data.add_argument("--export", type=options.path, metavar="FILE", help="write the votes (.jsonl or .json)")
    data.add_argument(
        "--format", choices=get_args(VoteFormat), default="jsonl", help="format of that file (default: jsonl)"
    )
    data.add_argument("--forget", metavar="NAME", help="delete a person's name and votes")


def run(args: argparse.Namespace) -> int:
    from nashward.cli.configuration import read_text
    from nashward.llm import oracles
    from nashward.llm.people import formats
    from nashward.llm.people.server import check_address
    from nashward.llm.people.store import VoteStore
    from nashward.llm.people.vote_file import FILE

    asking = Asking(**options.values(args, SETTINGS))
    folder, run = _places(args.folder)
    moves = [name for name in ("read", "export", "forget") if getattr(args, name) is not None]
    sources = [name for name in ("pairs", "answers") if getattr(args, name) is not None]
    if len(moves) + len(sources) > 1:
        named = " and ".join(f"--{'import' if name == 'read' else name}" for name in [*sources, *moves])
        raise NashwardError(f"{named} do not go together; give one of them")
    if (args.answers is None) != (args.prompts is None):
        raise NashwardError("--answers and --prompts go together: the responses of models, and what they respond to")
    column = options.prompt_field(args)
    groups = [] if moves else _groups(args, run, column)
    if not (groups or moves or (folder / FILE).exists()):  # the folder is not made: its name may be mistyped
        raise NashwardError(_NOTHING.format(folder))
    found = [] if args.read is None else formats.read_cast_votes(args.read, args.format)
    rubric = None if args.rubric is None else read_text(args.rubric, "rubric")
    source = None if args.oracle is None or moves else oracles.check_source(args.oracle)
    if args.export is not None:
        outputs.check_file("--export", args.export, "votes.jsonl", formats.TYPES)
    elif not moves:
        check_address(args.host, args.port)
    with VoteStore(folder, create=args.export is None and args.forget is None) as store:
        if args.forget is not None:
            count = store.forget(args.forget)
            print(f"{args.forget}: the name and {counted(count, 'vote')} are deleted from {folder}")
            for file in _files_with_name(folder, args.forget):
                print(f"warning: {file} still has the name; what you exported elsewhere may have it too")
            print("oracles that were fitted before keep what they learned; fit them anew if that matters")
        elif args.export is not None:
            votes = store.votes(skipped=True)
            formats.write_votes(args.export, votes, args.format)
            skips = sum(vote.winner == SKIP for vote in votes)
            beside = f" and {counted(skips, 'skip')}" if skips and args.format == "jsonl" else ""
            print(f"{args.export}: {counted(store.count(), 'vote')}{beside} of {folder}")
            nameless = sum(not all(vote.sources) for vote in votes if vote.winner != SKIP)
            if nameless and args.format == "battles":
                print(
                    f"warning: {counted(nameless, 'vote')} without model_a or model_b, as it is not known whose the "
                    "responses are; a leaderboard needs both: --pairs takes them from rows with these columns"
                )
        elif args.read is not None:
            added = store.add_votes(found)
            print(f"{args.read}: {counted(len(found), 'vote')}, {added} of them new in {folder}")
            now = store.progress()
            before = (now["all"] or 0) - added
            if now["wanted"] is not None and before < now["wanted"]:  # a run that has gone on waits no more
                there = f"{now['all']} are there, {now['on_run']} of them on its responses"
                print(f"a run waits for {now['wanted']} new votes: {there}")
        else:
            _add(args, store, groups, source)
            _serve(args, store, asking, rubric)
    return 0


def _places(given: Path) -> tuple[Path, Path | None]:
    """The folder of the votes, and the run whose responses are compared, where a run's folder is given."""
    from nashward.llm.store.run_folder import RUN, RunFolder

    if not (given / RUN).is_file():
        return given, None
    oracle = str(RunFolder(given).read()["config"].get("oracle") or "")
    if oracle.startswith(PEOPLE):
        return Path(oracle.removeprefix(PEOPLE)), given
    return given / "people", given


def _files_with_name(folder: Path, name: str) -> list[Path]:
    """The files in the folder that still have a name."""
    from nashward.llm.people.inbox import INBOX

    plain, escaped = name.encode(), json.dumps(name)[1:-1].encode()
    files = sorted(file for file in (folder / INBOX).glob("*") if file.is_file())
    return [file for file in files if plain in (content := file.read_bytes()) or escaped in content]


def _groups(args: argparse.Namespace, run: Path | None, column: str | None) -> list[Responses]:
    """What is to be compared, of a file, of models' answers or of a run; nothing where none of these is given."""
    from nashward.llm.people import questions

    if args.pairs is not None:
        groups, source = questions.of_pairs(args.pairs), args.pairs
    elif args.answers is not None:
        groups, source = questions.of_answers(args.answers, args.prompts, column), args.answers
    else:
        return [] if run is None else questions.of_run(run)
    if not any(len(set(group.texts)) > 1 for group in groups):
        raise NashwardError(f"{source} holds no two responses to a prompt that differ, so there is nothing to compare")
    return groups


def _add(args: argparse.Namespace, store: VoteStore, groups: list[Responses], source: Any) -> None:
    """Add what is to be compared, and what an oracle believes of it."""
    added = sum(store.add_responses(group.prompt, group.texts, group.sources) for group in groups)
    if groups and not args.quiet:
        print(f"{counted(added, 'new pair')} on {counted(len({group.prompt for group in groups}), 'prompt')}")
    if source is not None:
        from nashward.llm import oracles
        from nashward.llm.people.oracle import update_beliefs

        texts: dict[str, list[str]] = {}
        for prompt, a, b in store.texts(row.id for row in store.pairs()).values():
            texts.setdefault(prompt, []).extend((a, b))
        update_beliefs(store, oracles.as_oracle(source), {p: list(dict.fromkeys(own)) for p, own in texts.items()})
    if not store.pairs():
        raise NashwardError(_NOTHING.format(store.folder))


def _serve(args: argparse.Namespace, store: VoteStore, asking: Asking, rubric: str | None) -> None:
    from nashward.llm.people.asking import Asker
    from nashward.llm.people.inbox import Inbox
    from nashward.llm.people.server import VotingPage, serving
    from nashward.llm.run.signals import stop_on_signals

    page, inbox = VotingPage(store, Asker(store, asking), rubric), Inbox(store)
    before = store.count()
    with stop_on_signals("stopping the page") as stop, serving(page, args.host, args.port) as server:
        print(f"the page: {server.address}  (Ctrl-C ends it; every vote is on the disk at once)", flush=True)
        if server.guard.token is not None:
            print(
                "warning: what passes is not encrypted: whoever is on the way can read the token, the responses and "
                "the votes. Give the address to your people alone, or let them come through ssh -L",
                flush=True,
            )
        if not args.quiet:
            print(f"programs: POST {server.address.partition('?')[0]}api/votes, a vote a line of JSON, with the header")
            print(f"  Authorization: Bearer {server.guard.key}")
            print(f"files: those in {inbox.folder} are read", flush=True)
        while not stop.event.wait(1.0):
            try:
                inbox.read()
            except ValueError as error:  # people go on; a run that waits for these votes refuses them as well
                print(f"warning: {error}", file=sys.stderr, flush=True)

    print(f"{store.count() - before} new votes, {store.count()} in all, in {store.folder}")
    if not args.quiet:
        for line in _reliability(store.votes()):
            print(line)


def _reliability(votes: Sequence[CastVote]) -> Iterator[str]:
    """Of each person how far they agree with themselves, and of all how far they agree with each other."""
    from nashward.llm.people.agreement import agreement, by_annotator

    for name, own in by_annotator(votes).items():
        again = "no question asked twice"
        if own["consistency"] is not None:
            again = (
                f"{own['consistency']:.0%} the same again, of {counted(own['repeated'] or 0, 'question')} asked twice"
            )
        first = "" if own["shown_first"] is None else f", the first response won {own['shown_first']:.0%}"
        yield f"  {name}: {counted(own['votes'] or 0, 'vote')}, {again}{first}"
    found = agreement(votes)
    if found.raw is not None:
        alpha = "" if found.alpha is None else f" (Krippendorff's alpha {found.alpha:.2f}, where 0 is chance)"
        yield f"  {found.raw:.0%} agree, on {counted(found.pairs, 'pair')} with votes of several people{alpha}"


COMMAND = Command(
    "nashward vote people --pairs pairs.jsonl",
    add_arguments,
    run,
    continues=True,
    writes=("export",),
)
