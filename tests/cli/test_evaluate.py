"""``evaluate``, ``exploit`` and ``best-of-n`` as a user types them: what is printed, written and refused."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from nashward import games, llm
from nashward.cli import outputs
from nashward.cli.commands.evaluation.best_of_n import RULES
from nashward.cli.commands.evaluation.exploit import upper_bound
from nashward.cli.main import main
from nashward.llm import pocket
from nashward.llm.evaluation.objectives.frontier import FILE as FRONTIER
from nashward.llm.evaluation.players import EVALUATION
from nashward.llm.oracles.best_of_n import Rule
from nashward.llm.run.inputs.augmentation import OUTPUTS
from nashward.llm.run.inputs.drawn_opponents import FILE as OPPONENTS
from nashward.llm.store import files
from nashward.llm.store.run_folder import EVENTS

from ..llm.tiny_run import self_play, short_run
from . import absent

LENGTH = ["--oracle", "nashward.llm.oracles:Length"]
POLICY = ["--policy", str(pocket.POLICY)]
SMALL = shlex.split(
    "--solver mwu --step 2 --iterations 2 --responses 2 --max-new-tokens 12 --epochs 1 --batch 4 --rank 2 --quiet"
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two iterations whose oracle likes length, prompts, and ready responses."""
    here = tmp_path_factory.mktemp("evaluate")
    rows = [{"prompt": f"Tell me about bread {i}."} for i in range(6)]
    (here / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ready = [{**row, "responses": ["a", "aaa", "aa"]} for row in rows]
    (here / "ready.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ready))
    (here / "few.jsonl").write_text(json.dumps(ready[0]) + "\n")
    (here / "twice.jsonl").write_text(2 * (json.dumps(ready[0]) + "\n"))
    said = [{"prompt": row["prompt"], "output": "It is baked, which takes an hour and flour."} for row in rows]
    (here / "answers").mkdir()
    for name in ("gpt", "claude"):
        (here / "answers" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(said)))
    (here / "gpt.jsonl").write_text(json.dumps(said[1]) + "\n")
    (here / "none.jsonl").write_text('{"prompt": "x", "responses": []}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        assert main(["align", *POLICY, *LENGTH, "--prompts", "prompts.jsonl", "--out", "run", *SMALL]) == 0
    shutil.copytree(here / "run" / "iteration-01" / "adapter", here / "other")
    config = json.loads((here / "other" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "org/base"
    (here / "other" / "adapter_config.json").write_text(json.dumps(config))
    return here


def test_no_file_of_a_run_is_written_over(here: Path, tmp_path: Path) -> None:
    home = shutil.copytree(here / "run", tmp_path / "run")
    for name in (EVENTS, EVALUATION, FRONTIER, OUTPUTS, OPPONENTS):  # of runs and commands that are not played here
        (home / name).touch()
    kept = [file for file in home.rglob("*") if file.is_file() and file.name not in (".lock", "report.html")]
    assert len(kept) > 25
    assert [file for file in kept if not outputs._is_part(file, home)] == []


def test_after_a_fit_that_gained_nothing_there_is_nothing_to_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("same.py").write_text("def same(prompts, completions):\n    return [0.0] * len(prompts)\n")
    Path("prompts.txt").write_text("".join(f"Tell me about bread {i}.\n" for i in range(16)))
    loud = [word for word in SMALL if word != "--quiet"]
    run = ["align", *POLICY, "--oracle", "same:same", "--prompts", "prompts.txt", "--out", "run", *loud]
    assert main([*run, "--iterations", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "nashward evaluate" not in last
    assert "take another one" in last  # the oracle tells nothing apart: more prompts would not help
    assert main(["evaluate", "run"]) == 0
    out = capsys.readouterr().out
    assert "iteration-01 is the start" in out
    assert "run/evaluation.json" in out
    assert not Path("run/evaluation").exists()  # nothing was sampled
    assert main(["report", "run"]) == 0


def test_a_run_whose_oracle_is_not_here_is_refused_before_anything_is_sampled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = llm.oracles.Length()
    own.name = "my own taste"  # an object in Python is recorded by its name
    short_run(pocket.POLICY, tmp_path / "run", games.MWU(2.0), oracle=own, iterations=1).run()
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    for command in ("evaluate", "exploit"):
        assert main([command, str(tmp_path / "run"), "--quiet"]) == 2
        assert "my own taste" in (said := capsys.readouterr().err)
        assert "--oracle" in said
        assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_a_judge_is_told_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short_run(pocket.POLICY, tmp_path / "run", games.MWU(2.0), oracle=None, iterations=1).run("sample")
    before = sorted(tmp_path.rglob("*"))
    assert main(["exploit", str(tmp_path / "run"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "--oracle" in said
    assert f"nashward judge --oracle ID_OR_FOLDER --out {tmp_path / 'run'}" in said
    assert "None" not in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_labels_give_win_rates_that_do_not_rest_on_the_oracle(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(here / "run", "run")
    prompts = [f"Tell me about {k} loaves." for k in range(24)]
    Path("prompts.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    said = [{"prompt": prompt, "output": "It is baked. " * (k % 9 + 1)} for k, prompt in enumerate(prompts)]
    Path("gpt.jsonl").write_text("\n".join(map(json.dumps, said)))
    evaluate = ["evaluate", "run", "--prompts", "prompts.txt", "--answers", "gpt.jsonl", "--quiet"]
    assert main(evaluate) == 0
    assert "run/evaluation/to-label.jsonl (then --labels)" in capsys.readouterr().out
    pairs = [row for row in files.read_jsonl(Path("run/evaluation/to-label.jsonl")) if "baked." in row["a"] + row["b"]]
    assert len(pairs) == 24
    assert 0 < sum("baked." in pair["a"] for pair in pairs) < 24  # the order tells nothing
    shorter = ["a" if len(pair["a"]) < len(pair["b"]) else "b" for pair in pairs[:14]]  # people, unlike the oracle
    rows = [{**pair, "winner": winner} for pair, winner in zip(pairs[:14], shorter, strict=True)]
    Path("labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main([*evaluate, "--labels", "labels.jsonl"]) == 0
    out = capsys.readouterr().out
    found = json.loads(Path("run/evaluation.json").read_text())["labelled"]["training"]["gpt"]
    assert found["labels"] == 14
    assert found["interval"][0] <= found["win_rate"] <= found["interval"][1]
    assert found["weight"] == 0.0  # the oracle's judgements contradict the labels
    assert "gpt: " in out
    Path("labels.jsonl").write_text(json.dumps({"prompt": "x", "a": "y", "b": "z", "winner": "a"}))
    assert main([*evaluate, "--labels", "labels.jsonl"]) == 2
    assert "labels" in capsys.readouterr().err


def test_evaluate_says_who_beats_whom_and_what_was_given_up(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    capsys.readouterr()
    adapter = ["--adapter", "run/iteration-01/adapter"]
    assert main(["evaluate", "run", "--limit", "4", "--held-out", str(pocket.PAIRRM), *adapter, "--quiet"]) == 0
    out = capsys.readouterr().out
    found = json.loads((here / "run" / "evaluation.json").read_text())
    players = ["start", "iteration-01", "iteration-02", "mixture", "run/iteration-01"]
    assert out.startswith("run: 4 prompts, one response each\n\njudged by length (training)\n")
    for name in players:
        share = found["games"]["training"]["lottery"][name]
        assert re.search(rf"^{name} .* {share:.3f} .* {found['tokens'][name]:.1f}$", out, re.MULTILINE), name
    twins = [players.index("iteration-01"), players.index("run/iteration-01")]
    assert found["games"]["training"]["P"][twins[0]][twins[1]] == 0.5
    assert "minimal" in out
    assert "LC" not in out
    assert "(held out)" in out
    assert re.search(r"KL from the start, nats per response: iteration-01 \d+\.\d\d", out)
    for name in players:
        shares = (f"{100 * found[of][name]:.0f}%" for of in ("prompt_refusals", "refusals"))
        assert "{} {} ({})".format(name, *shares) in out


def test_other_models_play_by_the_files_of_their_responses(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    capsys.readouterr()
    mixture = ["--adapter", "run/mixture.json"]
    assert main(["evaluate", "run", "--limit", "4", "--answers", "answers", *mixture, "--quiet"]) == 0
    out = capsys.readouterr().out
    found = json.loads((here / "run" / "evaluation.json").read_text())
    assert found["games"]["training"]["players"][-2:] == ["claude", "gpt"]
    assert found["games"]["training"]["P"][-1][-2] == 0.5  # they said the same
    own, read = (found["games"]["training"]["players"].index(name) for name in ("mixture", "run/mixture"))
    assert found["games"]["training"]["P"][own][read] == 0.5
    for name in ("claude", "gpt"):
        assert re.search(rf"^{name} .* {found['tokens'][name]:.1f}$", out, re.MULTILINE), name
        assert f"EXCEEDED {name}" not in out
    page = (here / "run" / "report.html").read_text()
    assert "<td>claude</td>" in page
    assert "claude, gpt are there for scale" in page


@pytest.mark.slow
def test_exploit_finds_a_bound_beside_the_theorems(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    capsys.readouterr()
    assert (
        main(["exploit", "run", "--n", "4", "--against", "4", "--train", "1", "--of", "iteration-02", "--quiet"]) == 0
    )
    out = capsys.readouterr().out
    assert out.startswith("run, iteration-02: 6 prompts, judged by length")
    assert "no theorem bounds it" in out
    held = json.loads((here / "run" / "evaluation" / "exploit-iteration-02.json").read_text())
    gaps = {row["name"]: row["gap"] for row in held["adversaries"]}
    assert set(gaps) == {
        "best of 4 of iteration-02", "best of 4 of start", "best of 4 of trained adversary",
        "best of 12 of iteration-02 and start and trained adversary", "trained adversary",
    }  # fmt: skip
    assert gaps["best of 4 of iteration-02"] > 0  # under length the longest of four is longer than most
    # of the mixture, which is the default, too
    assert main(["exploit", "run", "--n", "4", "--against", "4", "--train", "1", "--quiet"]) == 0
    mixture = capsys.readouterr().out
    assert mixture.startswith("run, mixture: 6 prompts, judged by length")
    assert "best of 4 of trained adversary" in mixture
    # what was drawn and trained is there: a second start needs no model
    monkeypatch.setattr(llm.LanguageModel, "from_pretrained", None)
    assert main(["exploit", "run", "--n", "4", "--against", "4", "--train", "1", "--quiet"]) == 0
    assert capsys.readouterr().out == mixture
    bound = 2 / 4 + 2 * (math.log(4) - 3 / 4) / (2 * 2)
    assert f"the theorem allows the best of 4 of the start a gap of {bound:.3f}" in mixture


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", ["exploit-mixture.json", "report"])
def test_exploit_that_was_killed_before_its_last_file_gives_the_same(
    killed_at: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Killed(BaseException):
        pass

    def killed(*given: Any, **named: Any) -> Any:
        raise Killed

    real = files.write_json

    def last(path: Path, value: Any) -> Any:
        return (killed if path.name == killed_at else real)(path, value)

    train, found = ["--train", "1"] if killed_at != "report" else [], {}
    for name in ("whole", "cut"):
        monkeypatch.chdir(here)  # as the run was begun
        folder = shutil.copytree(here / "run", tmp_path / name)
        command = ["exploit", str(folder), "--n", "2", "--against", "2", *train, "--quiet"]
        if name == "cut":
            place = "nashward.llm.report.write" if killed_at == "report" else "nashward.llm.store.files.write_json"
            with monkeypatch.context() as patch:
                patch.setattr(place, killed if killed_at == "report" else last)
                with pytest.raises(Killed):
                    main(command)
            assert main(["status", str(folder)]) == 0
            assert main(["report", str(folder)]) == 0
        assert main(command) == 0
        found[name] = json.loads((folder / "evaluation" / "exploit-mixture.json").read_text())
        assert ("trained adversary" if train else "Who beats mixture") in (folder / "report.html").read_text(
            encoding="utf-8"
        )
    assert found["cut"] == found["whole"]


@pytest.mark.slow
def test_a_run_is_evaluated_from_anywhere_and_its_adversary_has_no_phases_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(pocket.POLICY, home / "base")
    (home / "prompts.txt").write_text("One?\nTwo?\nThree?\n")
    monkeypatch.chdir(home)
    small = shlex.split(
        "--policy base --prompts prompts.txt --iterations 1 --responses 2 --max-new-tokens 6 --epochs 1 --quiet"
    )
    limits = ["--solver", "mwu", "--win-rate-floor", "0.5", "--held-out", "0.4"]
    assert main(["align", *small, *LENGTH, *limits, "--out", "run"]) == 0
    monkeypatch.chdir(tmp_path)
    few = ["--limit", "2", "--quiet"]
    assert main(["evaluate", "home/run", *few]) == 0
    trained = ["--of", "iteration-01", "--n", "2", "--against", "2", "--train", "1"]
    assert main(["exploit", "home/run", *trained, *few]) == 0
    assert "trained adversary" in capsys.readouterr().out
    (home / "base").rename(home / "moved")
    assert main(["evaluate", "home/run", "--policy", "home/moved", *few]) == 0


def test_the_theorem_speaks_of_a_mixture_of_one_solver_only() -> None:
    def said(solver: Any, of: str) -> str:
        return upper_bound(self_play(None, None, solver, None, "nowhere"), of, 16)[0]

    for solver, of in ((games.OptimisticMWU(2.0), "mixture"), (games.MWU(2.0), "iteration-01")):
        assert said(solver, of).startswith("no theorem bounds it")


def test_best_of_n_of_ready_responses(here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "best.jsonl"
    for more in ([], ["--rule", "knock-out"], ["--opponents", str(here / "ready.jsonl")]):
        assert main(["best-of-n", *LENGTH, "--responses", str(here / "ready.jsonl"), "--out", str(file), *more]) == 0
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert rows[0] == {"prompt": "Tell me about bread 0.", "response": "aaa", "chosen": 1, "n": 3}
        assert len(rows) == 6
    out = capsys.readouterr().out
    assert "best of 3 by length (mean win rate against the opponents) for 6 prompts" in out
    assert f"at most {math.log(3) - 2 / 3:.3f} nats per response" in out


@pytest.mark.parametrize("adapter", [[], ["--adapter", "run/iteration-02/adapter"], ["--adapter", "run/mixture.json"]])
def test_best_of_n_of_any_policy(
    here: Path, adapter: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(here)
    sampler = ["--prompts", "prompts.jsonl", "--n", "6", "--max-new-tokens", "12", *adapter]
    assert main(["best-of-n", *LENGTH, *POLICY, *sampler, "--out", str(tmp_path / "best.jsonl")]) == 0
    out = capsys.readouterr().out
    (rate,) = re.findall(r"win rate against another response of the policy: (0\.\d+) ± ", out)
    assert float(rate) > 0.5
    assert len((tmp_path / "best.jsonl").read_text().splitlines()) == 6


def test_the_rules_are_those_of_the_oracles() -> None:
    assert get_args(Rule) == RULES


BEST, OUT = ["best-of-n", *LENGTH], ["--out", "new.jsonl"]
REFUSED: list[tuple[list[str], str]] = [
    (["evaluate", "nowhere"], "nowhere | run.json"),
    (["evaluate", "prompts.jsonl"], "prompts.jsonl is a file"),
    (["evaluate", "run", "--limit", "0"], "--limit is 0"),
    (["evaluate", "run", "--seed", "-1"], "--seed | got -1"),
    (["evaluate", "run", *2 * ["--adapter", "run/iteration-01/adapter"]], "two adapters | run/iteration-01"),
    (["mix", *2 * ["run/iteration-01/adapter"], *["--out", "new.json"]], "an adapter is given twice"),
    (["leaderboard", "nowhere"], "battles | nowhere"),
    (["evaluate", "run", "--held-out", "none"], "oracle none"),
    (["evaluate", "run", "--adapter", "nowhere"], "nowhere"),
    (["evaluate", "run", "--adapter", "other"], "other | org/base"),
    (["evaluate", "run", "--answers", "nowhere"], "responses nowhere"),
    (["evaluate", "run", "--answers", "gpt.jsonl"], "gpt | 5 of 6 prompts"),
    (["evaluate", "run", "--answers", "answers", "--answers", "gpt.jsonl"], "--answers has two files for gpt"),
    (["evaluate", "run", "--answers", "prompts.jsonl"], "prompts.jsonl | row 1 | response"),
    (["evaluate", "run", "--prompts", "none.txt"], "prompts file none.txt"),
    (["exploit", "nowhere"], "nowhere | run.json"),
    (["exploit", "run", "--of", "iteration-09"], "run | iteration-09 | iteration-01"),
    (["exploit", "run", "--train", "-1"], "adversary | at least 1 step | got -1"),
    (["exploit", "run", "--n", "0"], "n must | at least 1 | got 0 and 16"),
    ([*BEST, *OUT], "--responses | --policy | --prompts"),
    ([*BEST, *OUT, "--responses", "ready.jsonl", "--top-p", "0.9"], "--top-p | --responses"),
    ([*BEST, "--out", "new.txt", "--responses", "ready.jsonl"], "--out new.txt | .jsonl"),
    ([*BEST, *OUT, "--responses", "nowhere"], "file of responses nowhere"),
    (["evaluate", "\ud800"], "? holds no run"),
    ([*BEST, *OUT, "--responses", "none.jsonl"], "none.jsonl | row 1 | responses"),
    ([*BEST, *OUT, "--responses", "twice.jsonl"], "twice.jsonl | row 2"),
    ([*BEST, *OUT, "--responses", "prompts.jsonl"], "prompts.jsonl | row 1 | responses"),
    ([*BEST, *OUT, "--responses", "ready.jsonl", "--opponents", "few.jsonl"], "few.jsonl | no responses to 5 prompts"),
    ([*BEST, *OUT, "--responses", "ready.jsonl", "--opponents", "few.jsonl", "--rule", "copeland"], "--rule copeland"),
    ([*BEST, *OUT, "--policy", "nowhere", "--prompts", "prompts.jsonl"], "nowhere"),
    ([*BEST, *OUT, *POLICY, "--prompts", "prompts.jsonl", "--adapter", "other"], "other | org/base"),
    ([*BEST, *OUT, *POLICY, "--prompts", "prompts.jsonl", "--n", "0"], "--n is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "line"), REFUSED)
def test_bad_input_gives_one_line_and_writes_nothing(
    here: Path, arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = {file for file in here.rglob("*") if file.name != ".lock"}
    capsys.readouterr()
    assert main(arguments) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("nashward: ")
    assert absent(told, line) == [], told
    assert {file for file in here.rglob("*") if file.name != ".lock"} == before


def test_a_run_that_has_only_begun_is_told(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(here / "run", tmp_path / "run")
    for name in ("iteration-01", "iteration-02"):
        shutil.rmtree(tmp_path / "run" / name / "adapter")
    (tmp_path / "run" / "mixture.json").unlink()
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "has finished no iterate yet" in capsys.readouterr().err


def test_a_changed_learning_rate_of_a_run_is_said(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(here / "run", tmp_path / "run")
    again = ["align", "--out", str(tmp_path / "run"), "--from", "train"]
    assert main([*again, "--learning-rate", "1e-3"]) == 0
    line = "where it was auto; later iterations keep it; --from train --learning-rate auto takes it back"
    assert line in capsys.readouterr().out
    assert main(again) == 0
    assert "later iterations keep it" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["evaluate", "frontier"])
def test_a_run_that_was_only_sampled_is_told_before_its_oracle_is_missed(
    here: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--prompts", str(here / "prompts.jsonl"), "--out", str(tmp_path / "run"), "--max-new-tokens", "4"]
    assert main(["sample", *POLICY, *few]) == 0
    assert main([command, str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "has finished no iterate yet" in error
    assert "oracle" not in error
