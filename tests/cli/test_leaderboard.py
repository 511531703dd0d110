"""``nashward leaderboard``: what it prints."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nashward.cli.commands.evaluation.leaderboard import _fit_of
from nashward.cli.main import main
from nashward.llm.oracles.fitting.fit import prompt_digest


def test_many_models_that_never_met_have_errors_and_short_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"model_a": f"a{k}\n{'long ' * 30}", "model_b": f"b{k}", "winner": winner, "prompt": "p"}
        for k in range(30) for winner in ("a", "a", "b")
    ]  # fmt: skip
    path = tmp_path / "battles.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["leaderboard", str(path)]) == 0  # warnings are errors here
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "never met" in line]
    assert line.startswith("1740 pairs ")
    assert line.count(" and ") == 3
    assert len(line) < 320


def test_pairs_that_never_met_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names without blanks keep both ends; what differs in their middle alone is shown whole."""
    names = [
        f"{'organisation' * 3}/{middle}-of-some-size-{version}"
        for middle, version in (("a", "v1"), ("a", "v2"), ("b", "v1"))
    ]
    rows = [{"model_a": name, "model_b": "hub", "winner": "tie"} for name in names]
    path = tmp_path / "battles.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["leaderboard", str(path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "never met" in line]
    first, second, third = line.partition("): ")[2].split(", ")
    assert [end[-2:] for end in first.split(" and ")] == ["v1", "v2"]
    assert max(map(len, first.split(" and "))) <= 40
    assert second == f"{names[0]} and {names[2]}"
    assert [end[-2:] for end in third.split(" and ")] == ["v2", "v1"]


def test_a_row_that_is_no_battle_is_refused_without_torch(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"model_a": "x", "model_b": "y", "winner": "neither of them"}')
    code = (
        "import sys; from nashward.cli.main import main\n"
        "print(main(['leaderboard', 'b.jsonl']), 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout == "2 False\n"
    assert "row 1 has the winner 'neither of them'" in found.stderr


def test_the_winner_of_few_prompts_is_not_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "answers").mkdir()
    for model, text in {"long": "a long answer", "short": "no"}.items():
        (tmp_path / "answers" / f"{model}.json").write_text(json.dumps([text] * 12))
    (tmp_path / "p.txt").write_text("".join(f"prompt {k}\n" for k in range(12)))
    board = ["leaderboard", str(tmp_path / "answers"), "--prompts", str(tmp_path / "p.txt")]
    said, out = [], tmp_path / "b.json"
    for count in (9, 12):
        limit = ["--limit", str(count), "--json", str(out)]
        assert main([*board, "--oracle", "nashward.llm.oracles:Length", *limit]) == 0
        assert (json.loads(out.read_text())["condorcet_p_value"] is None) == (count == 9)
        printed = capsys.readouterr().out
        assert "olicy" not in printed
        (line,) = [line for line in printed.splitlines() if "long" in line and "short" in line]
        said.append(line)
    assert "not tested" in said[0]
    assert "not told apart" not in said[0]
    assert "long met short on 9 prompts only, 10 prompts are needed" in said[0]
    assert "p = " not in said[0]
    assert said[1].startswith("long beats short beyond noise (p = ")


def test_a_few_battles_in_a_circle_are_not_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "b.jsonl", tmp_path / "b.json"
    rows = [{"model_a": a, "model_b": b, "winner": a} for a, b in ("rs", "rs", "sp", "pr", "pr", "pr")]
    for times, said in ((1, "is not tested: the pairs met too rarely"), (9, "scores do not explain the battles (p ")):
        path.write_text("\n".join(map(json.dumps, rows * times)))
        assert main(["leaderboard", str(path), "--json", str(out)]) == 0
        assert said in capsys.readouterr().out
        assert (json.loads(out.read_text())["misfit_p_value"] is None) == (times == 1)
    path.write_text("\n".join(map(json.dumps, rows[:3])))  # no pair to spare
    assert main(["leaderboard", str(path)]) == 0
    assert "explain the battles" not in capsys.readouterr().out


def test_what_a_fit_has_seen_and_lacks_is_said(tmp_path: Path) -> None:
    cycle = {"names": ["x", "y", "z"], "prompt": None, "p_value": 0.01, "errors": [0.1] * 3, "prompts": [20] * 3}
    held = {**cycle, "leads": [0.9, 0.9, 0.9]}
    for cycles, lacks in (([held], False), ([held, {**cycle, "leads": [0.9, 0.9, -0.9]}], True)):
        report = {"seen": [prompt_digest("one")], "cycles": cycles}
        (tmp_path / "fit.json").write_text(json.dumps(report))
        line = _fit_of(str(tmp_path), ["one", "two"])
        assert "1 of these 2 prompts" in line
        assert ("x beats y beats z beats x" in line) == lacks
    assert _fit_of("nashward.llm.oracles:Length", ["one"]) == ""


@pytest.mark.parametrize(("own", "said"), [(30, True), (4, False)])
def test_style_that_the_models_explain_in_most_part_is_named_with_the_share(
    own: int, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"model_a": "x", "model_b": "y", "winner": "ab"[k % 3 % 2], "prompt": f"p{k}",
         "response_a": "w" * (100 + own + 7 * (k % 5)), "response_b": "w" * (100 + 7 * (k % 3))}
        for k in range(60)
    ]  # fmt: skip
    path = tmp_path / "battles.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["leaderboard", str(path), "--style-control"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "% of length" in line]
    assert bool(lines) == said
    assert not said or 75 < int(lines[0].split("explains ")[1].split("%")[0]) < 95


def test_models_of_few_battles_that_change_the_nash_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"model_a": "old", "model_b": "worse", "winner": "tie"}
    rows = [{**row, "winner": "old"}] * 30 + [{**row, "winner": "worse"}] * 10
    rows += [{**row, "model_a": "new", "model_b": beaten, "winner": "new"} for beaten in ("old", "worse")]
    path, out = tmp_path / "b.jsonl", tmp_path / "b.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["leaderboard", str(path), "--json", str(out)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "few battles" in line]
    assert "new fought 2, at most 1 with one model" in line
    assert "old 1.000 (--without-model new)" in line
    content = json.loads(out.read_text())
    assert {one["model"]: one["battles"] for one in content["models"]} == {"new": 2, "old": 41, "worse": 41}
    assert content["leans_on"]["nash_without"] == {"new": 0, "old": 1, "worse": 0}
    assert main(["leaderboard", str(path), "--without-model", "new", "--json", str(out)]) == 0
    assert "few battles" not in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert [one["model"] for one in content["models"]] == ["old", "worse"]
    assert content["leans_on"] is None
    assert main(["leaderboard", str(path), "--without-model", "newer"]) == 2
    assert "nearest is new" in capsys.readouterr().err


@pytest.mark.parametrize("overlap", [False, True])
def test_at_equal_style_no_verdict_is_on_models_whose_lengths_hardly_overlap(
    overlap: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What length adds between them is the guess of a form that has no data there."""
    random, least = np.random.default_rng(0), {"long": 5 if overlap else 60, "one": 5, "two": 5}
    (tmp_path / "answers").mkdir()
    for model, words in least.items():
        texts = ["w" * int(random.integers(words, words + 45)) + model for _ in range(40)]
        (tmp_path / "answers" / f"{model}.json").write_text(json.dumps(texts))
    (tmp_path / "p.txt").write_text("".join(f"prompt {k}\n" for k in range(40)))
    board = ["leaderboard", str(tmp_path / "answers"), "--prompts", str(tmp_path / "p.txt"), "--style-control"]
    out = tmp_path / "b.json"
    assert main([*board, "--oracle", "nashward.llm.oracles:Length", "--json", str(out)]) == 0
    said, content = capsys.readouterr().out, json.loads(out.read_text())
    assert content["lengths_apart"] == ([] if overlap else [["long", "one"], ["long", "two"]])
    assert ("lengths hardly overlap of long and one" in said) == (not overlap)
    assert content["style"]["length"]["coefficient"] > 5 * content["style"]["length"]["error"] > 0
    assert "adds to the log-odds: length +" in said
    assert {name for name, fit in content["style"].items() if fit is None} == {"headers", "lists", "bold"}
    assert "headers +" not in said
    assert "headers, lists, bold" in said
    if not overlap:
        assert content["condorcet_p_value"] is None
        assert "beyond noise (p" not in said
    assert content["hollow"]
    assert content["style_left"] < 0.2
    if overlap:  # what is left of a judge of length alone is no verdict
        assert content["condorcet_winner"] is None or (content["condorcet_p_value"] is None and "style)" in said)


def test_battles_at_equal_style_have_pairs_whose_lengths_hardly_overlap(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = {"x": 30, "y": 32, "z": 80}
    rows = [
        {"model_a": a, "model_b": b, "winner": "ab"[int(random.random() < 0.4)],
         "response_a": "w" * (lengths[a] + int(random.integers(-20, 20))),
         "response_b": "w" * (lengths[b] + int(random.integers(-20, 20)))}
        for a, b in ("xy", "xz", "zy") * 40
    ]  # fmt: skip
    path, out = tmp_path / "b.jsonl", tmp_path / "b.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    for options, pairs in (([], []), (["--style-control"], [["x", "z"], ["y", "z"]])):
        assert main(["leaderboard", str(path), *options, "--json", str(out)]) == 0
        assert json.loads(out.read_text())["lengths_apart"] == pairs


def test_what_a_correction_is_fitted_to_is_shown_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, pairs, out = tmp_path / "prompts.jsonl", tmp_path / "pairs.jsonl", tmp_path / "board.json"
    prompts.write_text("".join(json.dumps({"prompt": f"p{k}"}) + "\n" for k in range(5)))
    (tmp_path / "answers").mkdir()
    for name in ("one", "other"):
        rows = "".join(json.dumps({"prompt": f"p{k}", "response": name * (k + 1)}) + "\n" for k in range(5))
        (tmp_path / "answers" / f"{name}.jsonl").write_text(rows)
    labels = [{"prompt": f"q{k}", "a": "x" * 9, "b": "y" * 3, "winner": "ab"[k % 4 == 0]} for k in range(40)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in labels))
    board = ["leaderboard", str(tmp_path / "answers"), "--prompts", str(prompts), "--json", str(out)]
    judge = ["--oracle", "nashward.llm.oracles:Length", "--correct", f"temperature:pairs={pairs}"]
    assert main([*board, *judge, "--correct", "ties:by=0.5"]) == 0
    temperature, margin = json.loads(out.read_text())["corrections"]
    assert temperature["values"]["temperature"] == pytest.approx(np.log(10 / 4) / np.log(3), rel=0.01)
    assert margin == {"oracle": "length, calibrated", "correction": "with ties", "values": {"margin": 0.5}}
    printed = capsys.readouterr().out
    assert f"length is corrected (calibrated): temperature {temperature['values']['temperature']:.3g}\n" in printed


def test_all_models_of_few_battles_are_in_the_advice_to_leave_them_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Nash that is shown is without all of them; the advice named the first alone."""
    row = {"model_a": "old", "model_b": "worse", "winner": "tie"}
    rows = [{**row, "winner": "old"}] * 30 + [{**row, "winner": "worse"}] * 10
    for name in ("new", "a newer", "it's new", "newest"):
        rows += [{**row, "model_a": name, "model_b": beaten, "winner": name} for beaten in ("old", "worse")]
    path = tmp_path / "b.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["leaderboard", str(path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "leans on few battles" in line]
    options = shlex.split(line.rpartition("(")[2].removesuffix(")"))
    assert sorted(options[1::2]) == ["a newer", "it's new", "new", "newest"]
    assert main(["leaderboard", str(path), *options]) == 0
    assert "few battles" not in capsys.readouterr().out
