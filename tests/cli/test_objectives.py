"""Several objectives on the command line: a run, what its folder holds, its report, the frontier, what is refused."""

from __future__ import annotations

import html
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from nashward import llm
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import pocket
from nashward.llm.evaluation.objectives.pareto import ParetoPoint, pareto_front
from nashward.llm.run.selfplay import metrics
from nashward.llm.run.stages.refit import StepFit
from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder

LONG, PLAIN = "long=nashward.llm.oracles:Length", "plain=nashward.llm.oracles:Plain"
BOTH = ["--objective", LONG, "--objective", PLAIN]
FIGURE = "nashward.llm.evaluation.objectives.frontier.figure"
SMALL = ["--solver", "mwu", "--responses", "3", "--max-new-tokens", "8", "--epochs", "1", "--rank", "2", "--quiet"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two iterations under a floor, with SFT texts."""
    here = tmp_path_factory.mktemp("objectives")
    (here / "p.txt").write_text("one\ntwo\nthree\nfour\n")
    rows = [{"prompt": f"number {k}", "response": f"it is {k}"} for k in range(8)]
    (here / "sft.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        given = ["--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "run", "--sft", "sft.jsonl"]
        assert (
            main(["align", *given, *BOTH, "--combine", "floors:plain=0.45:limit=2", "--iterations", "2", *SMALL]) == 0
        )
    return here


@pytest.fixture(autouse=True)
def _there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def test_the_folder_holds_the_objectives_and_each_one_s_judgements(capsys: pytest.CaptureFixture[str]) -> None:
    config = RunFolder("run").read()["config"]
    assert config["objective"] == [LONG, PLAIN]
    assert config["combine"] == "floors:plain=0.45:limit=2"
    files = sorted(Path("run").glob("iteration-0?/judgements/*.parquet"))
    assert {file.name.split(".")[0] for file in files} == {"start", "iteration-01", "iteration-01~start"}
    for file in files:
        for row in read_shard(file):
            tables = np.array([row["objectives"][name] for name in ("long", "plain")])
            assert np.array(row["P"]) == pytest.approx(tables.mean(0))
            assert not np.array_equal(tables[0], tables[1])
    rows = [row["objectives"] for row in metrics("run")]
    assert [row["policy"] for row in rows] == ["start", "iteration-01"]
    assert (rows[0]["win_rates"]["plain"], rows[0]["standard_errors"]["plain"]) == (0.5, None)
    assert rows[1]["multipliers"]["plain"] == pytest.approx(
        2 * rows[0]["shares"]["plain"]
    )  # sealed with the first adapter
    assert main(["align", "--out", "run", "--quiet", "--iterations", "2"]) == 0  # goes on by what the folder holds


def test_one_oracle_for_a_run_of_objectives_is_another_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not typed is not to be left out."""
    single = "nashward.llm.oracles:Length"
    for given in (["align", "--out", "run", "--oracle", single], ["judge", "--out", "run", "--oracle", single]):
        assert main(given) == 2
        told = capsys.readouterr().err
        for part in ("run holds another run", LONG, PLAIN, "floors:plain=0.45:limit=2", f"oracle {single} now"):
            assert part in told, told
        assert "leave" not in told
    assert main(["exploit", "run", "--oracle", single]) == 2
    told = capsys.readouterr().err
    assert LONG in told
    assert "leave it out" in told
    assert main(["align", "--out", "run", "--correct", "temperature:2"]) == 2
    assert "--objective" not in capsys.readouterr().err
    folder = RunFolder("run")
    config = folder.read()["config"]
    with pytest.raises(NashwardError, match=f"oracle {single} now") as refused:  # from Python
        folder.check(config | {"oracle": single, "objective": None, "combine": None, "oracle_content": "0" * 16})
    assert "oracle_content" not in str(refused.value)


def test_objectives_for_a_run_of_one_oracle_are_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    single = "nashward.llm.oracles:Length"
    given = ["--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "single", "--iterations", "1", *SMALL]
    assert main(["align", *given, "--oracle", single]) == 0
    capsys.readouterr()
    assert main(["align", "--out", "single", *BOTH]) == 2
    told = capsys.readouterr().err
    assert "single holds another run" in told
    assert f"oracle {single} there, objective {LONG}" in told


def test_before_anything_is_computed_one_oracle_may_take_the_place_of_objectives(tmp_path: Path) -> None:
    for file in ("run.json", ".run.json"):
        shutil.copy(Path("run") / file, tmp_path / file)
    folder = RunFolder(tmp_path)
    now = folder.check(folder.read()["config"] | {"oracle": "x", "objective": None, "combine": None})
    assert (now["oracle"], now["objective"], now["combine"]) == ("x", None, None)


@pytest.mark.parametrize(("combine", "first"), [("floors:plain=0.45", "2"), ("floors:plain=0.45:limit=2", None)])
def test_a_floor_that_outweighs_the_objective_at_first_is_noted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, combine: str, first: str | None
) -> None:
    def stop(*given: Any, **settings: Any) -> None:
        raise NashwardError("not played")

    monkeypatch.setattr(llm.SelfPlay, "run", stop)
    given = ["--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "unplayed", *BOTH, "--combine", combine]
    assert main(["align", *given]) == 2
    noted = [line for line in capsys.readouterr().out.splitlines() if "multiplier" in line]
    assert ("long" in noted[0] and f"starts at {first}" in noted[0]) if first else not noted


def test_what_is_exported_is_preferred_by_the_last_step_s_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not by the objectives' even mean, which a run under floors does not play for."""
    multiplier = metrics("run")[-1]["objectives"]["multipliers"]["plain"]
    share = 1 / (1 + multiplier)
    assert 0 < multiplier < 0.95
    assert main(["export", "run", "--to", "preferences", "--out", str(tmp_path / "out")]) == 0
    assert f"long (weight {share:.3g}) and plain (weight {1 - share:.3g})" in capsys.readouterr().out
    exported = [json.loads(line)["P"] for line in (tmp_path / "out" / "responses.jsonl").read_text().splitlines()]
    expected = [
        share * np.array(row["objectives"]["long"]) + (1 - share) * np.array(row["objectives"]["plain"])
        for step in ("iteration-01", "iteration-02")
        for file in shards(Path("run") / step / "judgements", "*")
        for row in read_shard(file)
    ]
    for P, table in zip(exported, expected, strict=True):
        np.testing.assert_allclose(P, table, atol=1e-12)


@pytest.mark.slow
def test_stage_by_stage_it_is_the_same_run(here: Path) -> None:
    """Each stage is a command of its own, which knows the objectives from its options or from the folder."""
    sampling = [*SMALL[:6], "--rank", "2", "--epochs", "1"]
    given = ["--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "stages", "--sft", "sft.jsonl", "--quiet"]
    assert main(["sample", *given, *sampling]) == 0
    assert main(["judge", "--out", "stages", *BOTH, "--combine", "floors:plain=0.45:limit=2", "--quiet"]) == 0
    assert main(["train", "--out", "stages", "--quiet"]) == 0
    for stage in ("sample", "judge", "train"):
        assert main([stage, "--out", "stages", "--quiet"]) == 0
    for step in ("iteration-01", "iteration-02"):
        weights = [Path(run, step, "adapter", "adapter_model.safetensors").read_bytes() for run in ("run", "stages")]
        assert weights[0] == weights[1]


def test_the_report_has_each_objective_and_its_floor() -> None:
    assert main(["report", "run"]) == 0
    page = Path("run/report.html").read_text()
    assert "wins, long" in page
    assert "The floor of plain, 0.45" in page


def test_a_frontier_has_each_policy_and_greys_what_is_dominated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["frontier", "run", "--objective", "diverse=nashward.llm.oracles:Diversity", "--responses", "3"]) == 0
    out = capsys.readouterr().out
    found = json.loads(Path("run/frontier.json").read_text())
    assert found["objectives"] == ["long", "plain", "diverse"]
    names = ["start", "iteration-01", "iteration-02", "mixture"]
    names += [f"{share} of iteration-02" for share in (0.25, 0.5, 0.75)]
    assert list(found["policies"]) == names
    for rates in found["policies"].values():
        assert {"long", "plain", "diverse"} <= rates.keys()
        assert rates["long"]["standard_error"] >= 0
    sft = {name: rates["sft"] for name, rates in found["policies"].items()}
    for row in metrics("run"):  # what each fit measured itself
        assert sft["start"]["value"] == pytest.approx(-row["sft"]["start"], abs=1e-5)
        assert sft[row["iteration"]]["value"] == pytest.approx(-row["sft"]["after"], abs=1e-5)
    assert min(sft[name]["value"] for name in names[:3]) <= sft["mixture"]["value"]
    assert {rate["standard_error"] for rate in sft.values()} == {None}  # a single text is held out
    assert found["policies"]["start"]["long"]["value"] == 0.5
    for pair, front in found["fronts"].items():
        a, b = pair.split(", ")
        points = [
            ParetoPoint(name, rates[a]["value"], rates[b]["value"])
            for name, rates in found["policies"].items()
            if b in rates
        ]
        assert front == [point.name for point in pareto_front(points)]
        assert f"{pair}: {', '.join(front)}" in out
    assert Path("run/frontier.png").stat().st_size > 10_000
    assert "What a win rate costs" in Path("run/report.html").read_text()
    before = Path("run/frontier.json").read_bytes()
    monkeypatch.setattr(FIGURE, lambda found: Figure())  # the pictures are drawn
    monkeypatch.setattr("nashward.llm.report.write", lambda folder: folder)
    again = ["frontier", "run", "--objective", "diverse=nashward.llm.oracles:Diversity", "--responses", "3", "--quiet"]
    assert main(again) == 0
    assert Path("run/frontier.json").read_bytes() == before  # stored responses are read


def test_the_likelihood_of_sft_texts_can_have_a_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its multiplier moves by what the sealed NLL lacks, and is what the texts weigh in the next step's loss."""
    weights: list[float] = []
    real = StepFit.run

    def run(self: StepFit, *arguments: Any) -> Any:
        weights.append(self.settings.sft_weight)
        return real(self, *arguments)

    monkeypatch.setattr(StepFit, "run", run)
    given = ["--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "task", "--sft", "sft.jsonl", "--step", "2"]
    floors = "floors:plain=0.3:sft=0.001:limit=3"
    assert main(["align", *given, *BOTH, "--combine", floors, "--iterations", "3", "--sft-weight", "0.5", *SMALL]) == 0
    rows = metrics("task")
    shares = np.full(3, 1 / 3)  # of plain, of sft and of none
    for weight, row, before in zip(weights, rows, [None, *rows], strict=False):
        assert weight == pytest.approx(0.5 * 3 * shares[1])
        assert row["objectives"]["multipliers"] == pytest.approx({"plain": 3 * shares[0], "sft": 3 * shares[1]})
        rise = 0.0 if before is None else before["sft"]["after"] - before["sft"]["start"]
        lacking = np.array([0.3 - row["objectives"]["win_rates"]["plain"], rise - 0.001, 0.0])
        shares = shares * np.exp(2 * 3 * lacking)
        shares /= shares.sum()
        assert [*row["objectives"]["shares"].values()] == pytest.approx(shares.tolist())
    assert len(set(weights)) == len(rows) == 3


def test_evaluate_says_what_is_played_for_and_each_objective(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FIGURE, lambda found: Figure())  # the report draws it above
    Path("run/frontier.json").unlink(missing_ok=True)  # the page would take whichever is the more exact
    assert main(["evaluate", "run"]) == 0
    out = capsys.readouterr().out
    found = json.loads(Path("run/evaluation.json").read_text())
    assert found["oracles"]["training"].startswith("floors of long")
    assert found["games"]["training"]["players"][:2] == ["start", "iteration-01"]
    assert found["payoff"] == "long, subject to the floors"
    long, plain = (found["objectives"][name] for name in ("long", "plain"))
    assert "floor" not in long
    assert plain["floor"] == 45
    drawn = [json.loads(line) for line in Path("run/evaluation/drawn.jsonl").read_text().splitlines()]
    for player, rate in found["against_start"]["training"].items():
        prompts = [row["prompt"] for row in drawn]
        own, other = ([[row["responses"][name]] for row in drawn] for name in (player, "start"))
        by = [
            llm.evaluation.win_rate(judge, prompts, own, other) for judge in (llm.oracles.Length(), llm.oracles.Plain())
        ]
        assert rate["win_rate"] == pytest.approx(100 * by[0].value)
        assert long["against_start"][player]["win_rate"] == rate["win_rate"]
        assert plain["against_start"][player]["win_rate"] == pytest.approx(100 * by[1].value)
        low, high = plain["against_start"][player]["interval"]
        kept = {(True, True): True, (False, False): False}.get((low > 45, high >= 45))
        assert plain["against_start"][player]["kept"] is kept
    assert "plain, floor 45%" in out
    head = html.unescape(Path("run/report.html").read_text())
    rate = found["against_start"]["training"]["iteration-02"]
    assert f"<strong>{rate['win_rate']:.1f} ± {rate['standard_error']:.1f}%</strong>" in head
    assert f"Under plain iteration-02 wins {plain['against_start']['iteration-02']['win_rate']:.1f}" in head


def test_in_a_file_as_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", *BOTH, "--combine", "worst-case:tau=0.2"]) == 0
    text = capsys.readouterr().out
    settings = tomllib.loads(text)
    assert (settings["objective"], settings["combine"]) == ([LONG, PLAIN], "worst-case:tau=0.2")
    Path("mine.toml").write_text(text)
    assert main(["config", "--config", "mine.toml"]) == 0
    assert tomllib.loads(capsys.readouterr().out) == settings


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (BOTH[:2], ["two or more", "long"]),
        ([*BOTH, "--oracle", "nashward.llm.oracles:Length"], ["--objective", "--oracle"]),
        ([*BOTH, "--correct", "flips:by=0.1"], ["--correct"]),
        (["--objective", "long", "--objective", PLAIN], ["NAME=ORACLE"]),
        ([*BOTH[:2], *BOTH[:2]], ["long", "twice"]),
        (["--objective", "tau=nashward.llm.oracles:Length", *BOTH, "--combine", "worst-case"], ["tau"]),
        ([*BOTH, "--combine", "median"], ["median", "worst-case", "floors"]),
        (["--oracle", "nashward.llm.oracles:Length", "--combine", "floors:plain=0.45"], ["floors", "--objective NAME"]),
        ([*BOTH, "--combine", "log-odds"], ["log-odds", "weights"]),
        ([*BOTH, "--combine", "floors"], ["floors:plain=0.45"]),
        ([*BOTH, "--combine", "floors:long=0.4"], ["long", "first"]),
        ([*BOTH, "--combine", "floors:plain=1.4"], ["plain", "1.4"]),
        ([*BOTH, "--combine", "floors:kind=0.4"], ["no objective 'kind'", "long, plain", "limit, sft"]),
        ([*BOTH, "--combine", "worst-case:kind=0.4"], ["no setting 'kind'", "tau"]),
        ([*BOTH, "--combine", "floors:plain=much"], ["much"]),
        ([*BOTH, "--combine", "worst-case:tau=0"], ["tau"]),
        ([*BOTH, "--combine", "weights:long=0:plain=0"], ["weights"]),
        ([*BOTH, "--combine", "worst-case", "--loss", "dpo", "--solver", "mwu"], ["mirror", "dpo"]),
        ([*BOTH, "--combine", "worst-case", "--baseline", "constant"], ["plug-in"]),
        ([*BOTH, "--combine", "floors:sft=0.1"], ["--sft"]),
        ([*BOTH, "--combine", "floors:plain=0.4", "--mixtures", "token-level"], ["fitted"]),
        ([*BOTH, "--combine", "floors:plain=0.4", "--win-rate-floor", "0.5"], ["win rate"]),
    ],
)
def test_what_is_refused(arguments: list[str], named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    align = ["align", "--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "other"]
    assert main([*align, *arguments]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in named), error
    assert error.count("\n") == 1
    assert not Path("other").exists()


def test_floors_that_cannot_be_met_are_refused_before_anything_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    align = ["align", "--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "beyond", *SMALL]
    assert main([*align, *BOTH, "--combine", "floors:plain=0.99"]) == 2
    error = capsys.readouterr().err
    assert "plain=0.99" in error
    largest = float(error.strip().rpartition("=")[2])
    assert 0.5 <= largest < 0.99
    assert not list(Path("beyond").glob("iteration-*/adapter"))
    given = ["--combine", f"floors:plain={largest}", "--iterations", "1"]
    assert main([*align[: -len(SMALL) - 1], "within", *SMALL, *BOTH, *given]) == 0  # the largest that was named is met


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frontier", "none"], ["none"]),
        (["frontier", "run", "--objective", "long=nashward.llm.oracles:Length"], ["long"]),
        (["frontier", "run", "--objective", "x"], ["NAME=ORACLE"]),
        (["frontier", "run", "--responses", "0"], ["response"]),
        (["frontier", "run", "--limit", "1"], ["2 prompts"]),
    ],
)
def test_what_a_frontier_refuses(arguments: list[str], named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in named), error
    assert error.count("\n") == 1
