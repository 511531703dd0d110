"""What a command reads is never written over, wherever in an argument it is named."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nashward.cli import options, outputs
from nashward.cli.main import main


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--solver", action="append", default=[])
    parser.add_argument("--oracle")
    parser.add_argument("--folder", type=options.path)
    parser.add_argument("--json", type=options.path)
    parser.add_argument("--out", type=options.path)
    return parser


def _check(*arguments: str) -> None:
    outputs.check(_parser().parse_args(arguments), _parser(), ("json", "out/scores.json"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = (
        "pairs,1.json", "mine.py", "own/inner.py", "run/run.json", "run/iteration-01/responses/0.jsonl.gz",
        "run/iteration-01/responses/start.00000.parquet",
        "run/iteration-01/adapter/adapter_config.json", "run/state.json", "run/report.html", "run/a/status.txt",
        "oracle/config.json", "oracle/diagnosis.json", "scores/scores.json", "runs/one.json",
    )  # fmt: skip
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("kept")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--oracle", "style:pairs=pairs,1.json", "--json", "./pairs,1.json"), "--json.*--oracle pairs,1.json"),
        (("--oracle", "a:p=runs/one.json:q=2", "--json", "runs/one.json"), "--json.*--oracle runs/one.json"),
        (("--solver", "MWU,mine:Mine:step=1", "--json", "mine.py"), "--json.*--solver mine.py"),
        (("--oracle", "own.inner:Judge", "--json", "own/inner.py"), "--json.*--oracle own/inner.py"),
        (("--oracle", "x=oracle", "--json", "oracle/config.json"), "--json.*--oracle oracle"),
        (("--folder", "run", "--json", "run/run.json"), "--json.*--folder run"),
        (("--folder", "run", "--json", "run/iteration-01/responses/start.00000.parquet"), "--json.*--folder run"),
        (("--folder", "run", "--json", "run/iteration-01/responses/0.jsonl.gz"), "--json.*--folder run"),
        (("--folder", "runs/../run", "--json", "run/iteration-01/adapter/adapter_config.json"), "--json.*--folder"),
        (("--oracle", "scores/scores.json", "--out", "scores"), "--out.*scores.json.*--oracle"),
    ],
)
def test_what_is_read_is_not_written_over(here: Path, arguments: tuple[str, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        _check(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--folder", "run", "--json", "run/state.json"),  # of the same command before
        ("--folder", "run", "--json", "run/report.html"),
        ("--folder", "run", "--json", "run/a/status.txt"),
        ("--oracle", "oracle", "--json", "oracle/diagnosis.json"),
        ("--folder", "run", "--json", "run/new/config.json"),  # nothing is lost
        ("--folder", "run", "--json", "oracle/config.json"),
        ("--oracle", "people:", "--json", "mine.py"),
        ("--folder", "run", "--json", "run"),  # an existing folder is refused by the command
        ("--solver", "x" * 5000, "--json", "new.json"),
    ],
)
def test_another_file_is_written(here: Path, arguments: tuple[str, ...]) -> None:
    _check(*arguments)


def test_only_a_file_of_its_own_kind_is_replaced(tmp_path: Path) -> None:
    fields = ("prompt", "chosen")
    kept = {
        "people.jsonl": '{"prompt": "p", "a": "x"}\n{"prompt": "p", "chosen": 1}\n', "notes.jsonl": "what I think\n",
        "list.json": '[{"prompt": "p"}]', "bytes.jsonl": "\udcff", "number.json": "7",
    }  # fmt: skip
    for name, text in kept.items():
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ValueError, match=rf"{name} is there already.*name another file"):
            outputs.check_replaced(tmp_path / name, fields)
    own = {"own.jsonl": '{"prompt": "p", "chosen": 0}\nbroken', "own.json": '[{"prompt": "p", "chosen": 0}]', "no": ""}
    for name, text in own.items():
        (tmp_path / name).write_text(text)
        outputs.check_replaced(tmp_path / name, fields)
    outputs.check_replaced(tmp_path / "new.jsonl", fields)


@pytest.mark.parametrize("endings", [(), (".html",)])
def test_a_device_takes_any_content_whatever_its_name(endings: tuple[str, ...], tmp_path: Path) -> None:
    outputs.check_file("--page", Path(os.devnull), "b.html", endings)
    outputs.check_file("--page", tmp_path / "a.html", "b.html", endings)
    _check("--json", os.devnull, "--oracle", os.devnull)
    assert outputs.kind_of_picture(Path(os.devnull)) == "png"
    for file in (tmp_path, tmp_path / "a.txt" if endings else tmp_path):
        with pytest.raises(ValueError, match="--page"):
            outputs.check_file("--page", file, "b.html", endings)


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs pipes by their names")
@pytest.mark.parametrize("picture", ["table", "gaps"])
def test_a_picture_is_written_to_a_pipe(picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer of PNG goes back in its file, which a pipe does not do."""
    monkeypatch.chdir(tmp_path)
    Path("good.csv").write_text(",a,b\na,.5,.4\nb,.6,.5\n")
    read, write = os.pipe()
    found: list[bytes] = []
    with open(read, "rb") as pipe:
        reader = threading.Thread(target=lambda: found.append(pipe.read()))
        reader.start()
        code = main(["solve", "good.csv", "--solver", "mwu", "--plot", f"/dev/fd/{write}", "--picture", picture])
        os.close(write)
        reader.join()
    assert code == 0
    assert found[0].startswith(b"\x89PNG")
    assert found[0].endswith(b"IEND\xaeB`\x82")


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="needs /dev/stdout")
def test_a_picture_is_not_mixed_with_the_result(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.csv").write_text(",a,b\na,.5,.4\nb,.6,.5\n")
    assert main(["solve", str(tmp_path / "good.csv"), "--plot", "/dev/stdout"]) == 2
    out, error = capfd.readouterr()
    assert error == ("nashward: --plot /dev/stdout: the result is printed there; name a file, for example nash.png\n")
    assert out == ""


@pytest.mark.parametrize("command", [["frontier", "\ud800"], ["solve", "zoo:comal_cycle", "--plot", "\ud800.png"]])
def test_a_name_that_no_file_can_have_is_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("nashward: ")


def test_a_board_is_written_though_its_reader_has_gone(tmp_path: Path) -> None:
    rows = [{"model_a": a, "model_b": b, "winner": "model_a"} for a, b in ("xy", "yz", "zx", "yx")]
    (tmp_path / "battles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read, write = os.pipe()
    os.close(read)
    words = ["leaderboard", "battles.jsonl", "--json", "board.json", "--save", "table.csv"]
    path = os.pathsep.join(filter(None, sys.path))
    ended = subprocess.run(
        [sys.executable, "-u", "-m", "nashward", *words], stdout=write, stderr=subprocess.PIPE, cwd=tmp_path,
        check=False, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")
    assert json.loads((tmp_path / "board.json").read_text())["models"]
    assert (tmp_path / "table.csv").read_text().startswith(",x,y,z")
