"""Whatever is typed or lies in a file: one line and exit code 2, or a run; nothing outside of the run folder."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nashward import games
from nashward.cli import options
from nashward.cli.main import build_parser, main
from nashward.cli.solver_options import ALL
from nashward.llm import pocket
from nashward.llm.policy.base.checks import check_policy

FEW = settings(
    max_examples=80, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
MANY = settings(FEW, max_examples=10_000, derandomize=False, print_blob=True)
EFFORT = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]

TRICKS = [
    "..", "../x", "../../x", "/", "~", "~/x", "a/../../x", "./../x", "x/./y", "-", "--", "-rf", "*", "$(touch x)",
    "; touch x", "| touch x", "file:///x", "http://x/y", "a b", "a\nb", "\u202ex", "\x1b[2J", "x\x7f", "\ud800", "\0",
    "CON", "C:\\x", "a:b", "a:b:c", "x" * 300, "{{", "{{ 1 / 0 }}", "{% raw %}", "None", "nan", "inf", "1e999", "0x10",
    "１２", "",
]  # fmt: skip
REAL = ["prompts.jsonl", "good.csv", "run", "answers", "nashward.llm.oracles:Length", str(pocket.POLICY), "rows.json"]
NUMBERS = [-1, 0, 1, 2, 3, 64, 10**18, -(10**30), 10**400, 0.0, -0.5, 0.5, 1e-300, 1e308, float("inf"), float("nan")]

texts = st.sampled_from(TRICKS) | st.text(max_size=8)
numbers = st.sampled_from(NUMBERS) | st.integers() | st.floats()
anything = st.recursive(
    texts | numbers | st.booleans() | st.just(datetime.date(1979, 5, 27)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)


def _likely(option: options.Option) -> st.SearchStrategy[Any]:
    """Values of the option's own type, so that more is found wrong than types."""
    if option.choices:
        return st.sampled_from(option.choices)
    sizes = st.sampled_from([1, 2, 3, 16])
    kinds: dict[type, st.SearchStrategy[Any]] = {
        int: sizes, float: st.sampled_from([0.1, 0.5, 1.0]), bool: st.booleans()
    }  # fmt: skip
    return kinds.get(option.kind, st.sampled_from(REAL) | texts)


@st.composite
def _tomls(draw: st.DrawFn) -> str:
    """Settings, many of them right; keys and sections that there are, that there nearly are, and that there are not."""
    found: dict[str, dict[str, Any]] = {"": {}}
    for name in draw(st.lists(st.sampled_from(sorted(ALL)), max_size=4, unique=True)):
        if name != "out":
            option = ALL[name]
            *section, key = option.path
            odd = draw(st.integers(0, 9)) == 0
            where = draw(st.sampled_from(["", "fit", "lora", "fitt"])) if odd else "".join(section)
            found.setdefault(where, {})[key[: -1 if odd else None]] = draw(st.one_of(*[_likely(option)] * 6, anything))
    return "\n".join(
        line
        for section, held in found.items()
        for line in [*([f"[{section}]"] if section else []), *(f"{_key(k)} = {_toml(v)}" for k, v in held.items())]
    )


def _key(key: str) -> str:
    return json.dumps(key)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f").replace("\ud800", "?")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(held)}" for key, held in value.items()) + "}"
    return str(value)


def _tokens() -> st.SearchStrategy[list[str]]:
    """A command, and flags of it or of others with values; what starts a long computation is not among them."""
    commands = ["solve", "demo", "align", "sample", "judge", "train", "config", "plan", "fit-oracle", "leaderboard"]
    commands += [
        "mix",
        "answer",
        "evaluate",
        "exploit",
        "best-of-n",
        "export",
        "diagnose",
        "benchmark",
        "zoo",
        "frontier",
    ]
    others = [
        "--no-quantise", "--total", "--plot", "--save", "--memory", "--pairs", "--base", "--kind", "--folds",
        "--device", "--limit", "--quiet", "--config", "--start", "--feedback", "--tolerance", "--held-out", "--of",
        "--train", "--n", "--responses", "--opponents",
    ]  # fmt: skip
    flags = [*others, *(f"--{name}" for name in sorted(ALL))]
    plain = st.sampled_from([*REAL, *TRICKS, "mwu", "pairrm", "vllm", "6GiB", "-1", "0", "1", "3", "0.5", "x.toml"])
    pair = st.tuples(st.sampled_from(flags), plain).map(list)
    joined = st.tuples(st.sampled_from(flags), plain).map(lambda words: ["=".join(words)])
    return st.tuples(
        st.sampled_from([*commands, "report", "status", "none"]),
        st.lists(pair | joined | plain.map(lambda x: [x]), max_size=5),
    ).map(lambda drawn: [drawn[0], *(word for words in drawn[1] for word in words)])


class Loaded(OSError):
    """In place of a weight's loading, and of what takes long."""


def _loaded(*given: Any, **named: Any) -> Any:
    raise Loaded("a weight would be loaded now")


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory, deep in a folder of which all is known; nothing is loaded, and nothing is fetched."""
    base = tmp_path_factory.mktemp("outside")
    inside = base / "a" / "b"
    (inside / "answers").mkdir(parents=True)
    for name, text in {
        "prompts.jsonl": '{"prompt": "One?"}\n{"prompt": "Two?"}\n', "good.csv": ",a,b\na,.5,.4\nb,.6,.5\n",
        "rows.json": "[1]", "x.toml": "[fit]\nepochs = 1\n", "answers/a.json": '["x", "y"]',
        "answers/b.json": '["y", "z"]',
    }.items():  # fmt: skip
        (inside / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inside)
        patch.setenv("HOME", str(base / "home"))
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        for place in ("llm.policy.model.LanguageModel.from_pretrained", "llm.run.run_setup.as_oracle",
                      "cli.demo.demo.tables", "llm.oracles.fitting.fit.VoteTraining", "llm.data.rows._dataset",
                      "llm.planner.plan.plan"):  # fmt: skip
            patch.setattr(f"nashward.{place}", _loaded)
        yield inside


def _content(base: Path, but: Path) -> dict[Path, bytes | None]:
    return {
        file: file.read_bytes() if file.is_file() else None
        for file in base.rglob("*")
        if file != but and but not in file.parents
    }


def _ends_well(arguments: list[str], inside: Path, out: str = "run") -> int:
    """Run a command; it ends with 0, or with 2 and one line, and leaves all but the run folder as it was."""
    base, run = inside.parents[1], inside / out
    shutil.rmtree(run, ignore_errors=True)
    before = _content(base, run)
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        code = main(arguments)
    assert code in (0, 2)
    if code == 2:
        *warnings, error, end = told.getvalue().split("\n")
        assert error.startswith("nashward: ")
        assert all("fields that are not read: " in line for line in warnings)
        assert end == ""
        assert "".join((*warnings, error)).isprintable()
    assert _content(base, run) == before
    return code


@pytest.mark.parametrize("effort", EFFORT)
def test_files_of_settings(effort: settings, inside: Path) -> None:
    reached = {0: 0, 2: 0}

    @effort
    @given(_tomls(), st.sampled_from(["config", "config", "config", "align", "sample"]), st.integers(0, 4))
    def fuzz(text: str, command: str, known: int) -> None:
        (inside / "mine.toml").write_bytes(text.encode(errors="replace"))
        right = [f"--policy={pocket.POLICY}", "--oracle=nashward.llm.oracles:Length", "--prompts=prompts.jsonl"]
        code = _ends_well([command, "--config", "mine.toml", "--out", "run", *right[:known]], inside)
        reached[code] += 1

    fuzz()
    assert min(reached.values()) > 0.02 * effort.max_examples  # both ends are reached


@pytest.mark.parametrize("effort", EFFORT)
def test_bytes_as_settings(effort: settings, inside: Path) -> None:
    @effort
    @given(st.binary(max_size=40) | st.text(alphabet="[]{}='\"\\\n.,#xu0-9_ fit", max_size=40).map(str.encode))
    def fuzz(content: bytes) -> None:
        (inside / "mine.toml").write_bytes(content)
        _ends_well(["config", "--config", "mine.toml"], inside)

    fuzz()


@pytest.mark.parametrize("effort", EFFORT)
def test_arguments(effort: settings, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(games.plots, "payoff_table", _loaded)  # pictures, which may go anywhere
    monkeypatch.setattr(games.plots, "gap_curves", _loaded)
    monkeypatch.setattr(games.plots, "race", _loaded)
    monkeypatch.setattr(games.plots, "trajectories", _loaded)

    @effort
    @given(_tokens())
    def fuzz(arguments: list[str]) -> None:
        if arguments[0] == "leaderboard":
            arguments = [word for word in arguments if not word.startswith("--save")]  # a table, likewise
        # the last --out wins: what is written is written there
        reads = ("solve", "plan", "leaderboard", "report", "status", "evaluate", "exploit", "frontier", "zoo", "none")
        place = "run/best.jsonl" if arguments[0] == "best-of-n" else "run"
        out = [] if arguments[0] in reads else ["--out", place]
        _ends_well([*arguments, *out], inside)

    fuzz()


rows = st.dictionaries(
    st.sampled_from(["prompt", "messages", "id", "instruction", "label", "x"]),
    texts | anything | st.lists(st.dictionaries(st.sampled_from(["role", "content"]), texts | st.just("user"))),
    max_size=3,
)


@pytest.mark.parametrize("effort", EFFORT)
def test_files_of_prompts(effort: settings, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = check_policy(pocket.POLICY)
    monkeypatch.setattr("nashward.llm.run.run_setup.check_policy", lambda *given: tokenizer)
    reached = {0: 0, 2: 0}

    def written(row: Any) -> str:
        return json.dumps(row, default=str)

    lines = st.lists((rows | anything).map(written), max_size=4).map("\n".join).map(str.encode)
    lists = st.lists(rows | texts, max_size=4).map(written).map(str.encode)
    good = st.lists(st.fixed_dictionaries({"prompt": st.text(min_size=1, max_size=20), "id": texts}), max_size=3)
    content = lines | lists | st.binary(max_size=60) | good.map(lambda rows: "\n".join(map(json.dumps, rows)).encode())

    @effort
    @given(content, st.sampled_from([".jsonl", ".json", ".csv", ".parquet", ".txt", ".jsonl.gz", ".doc"]))
    def fuzz(content: bytes, suffix: str) -> None:
        (inside / f"fuzzed{suffix}").write_bytes(content)
        right = ["--policy", str(pocket.POLICY), "--oracle", "nashward.llm.oracles:Length"]
        reached[_ends_well(["align", *right, "--prompts", f"fuzzed{suffix}", "--out", "run"], inside)] += 1
        assert not (inside / "run").exists() or {f.name for f in (inside / "run").iterdir()} <= WRITTEN

    fuzz()


WRITTEN = {"run.json", "prompts.jsonl"}


@pytest.mark.parametrize("effort", EFFORT)
def test_names_of_players_and_of_actions(effort: settings, inside: Path) -> None:
    """Labels end in tables, columns and reports, never in a path."""

    @effort
    @given(st.lists(texts, min_size=2, max_size=3))
    def fuzz(labels: list[str]) -> None:
        quoted = ['"' + label.replace('"', '""') + '"' for label in labels]
        table = [["", *quoted], *([name, *(["0.5"] * len(labels))] for name in quoted)]
        (inside / "named.csv").write_bytes("\n".join(map(",".join, table)).encode(errors="replace"))
        _ends_well(["solve", "named.csv", "--solver", "mwu", "--iterations", "2"], inside)

    fuzz()


def test_the_commands_are_all_fuzzed() -> None:
    action = next(a for a in build_parser()._actions if a.metavar == "COMMAND")
    assert set(action.choices or ()) <= {
        "solve", "demo", "align", "sample", "judge", "train", "config", "plan", "fit-oracle", "leaderboard", "report",
        "status", "theory", "mix", "answer", "evaluate", "exploit", "best-of-n", "export", "diagnose", "benchmark",
        "zoo", "frontier",
        "vote",  # which writes where its first argument says, and serves
    }  # fmt: skip
