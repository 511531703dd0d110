"""``solve``, ``zoo`` and ``theory`` as a user types them: what is printed, drawn and written."""

from __future__ import annotations

import importlib
import io
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from nashward import games
from nashward.cli.main import main

from ..conftest import ROOT


def test_solve_prints_the_equilibrium_with_labels_and_draws_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = ROOT / "games" / "zoo" / "tables" / "mujoco_soccer_10.csv"
    assert main(["solve", str(table), "--plot", str(tmp_path / "deep" / "nash.png")]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"(agent\d) +(\d\.\d+)", out) == [("agent1", "0.522"), ("agent8", "0.331"), ("agent9", "0.147")]
    assert "gap below 1e-12" in out
    assert (tmp_path / "deep" / "nash.png").read_bytes()[:4] == b"\x89PNG"


def test_the_first_line_names_labels_that_may_be_mistyped_payoffs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A row of which no cell is a number can be labels: who has lost an action sees it at once."""
    file = tmp_path / "t.csv"
    for text, size, read in (
        ("O.5,O.7\n0.3,0.5\n", "1 x 2", "columns O.5, O.7"),
        ("O.5,0.7\nO.3,0.5\n", "2 x 1", "rows O.5, O.3"),
        ("0.5,0.7\n0.3,0.5\n", "2 x 2", "labels: none"),
        (",u,v\nx,0.5,0.7\ny,0.3,0.5\n", "2 x 2", "rows x, y; columns u, v"),
    ):
        file.write_text(text)
        assert main(["solve", str(file), "--total", "1"]) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert size in first
        assert read in first


def test_solve_plays_a_solver_on_a_game_of_the_zoo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["solve", "comal_cycle", "--solver", "optimistic-mwu", "--step", "0.5", "--iterations", "50"]
    assert main([*command, "--plot", str(tmp_path / "gaps.png")]) == 0
    out = capsys.readouterr().out
    assert "comal_cycle: 3 actions; cyclic\nsource: arXiv 2410.23223 (COMAL)\n" in out
    assert "  a  0.364  4/11\n" in out
    solver, linear = games.OptimisticMWU(0.5), {"linear": games.averaging.linear}
    gaps = games.solve(games.zoo.comal_cycle(), solver, iterations=50, averages=linear).gaps
    row = "  ".join(f"{float(gaps[which][-1]):.3e}" for which in ("last", "average", "linear"))
    assert f"  OptimisticMWU(step=0.5)          50  {row}\n" in out
    assert (tmp_path / "gaps.png").exists()


def test_solve_says_what_a_solver_saw(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["solve", "comal_cycle", "--solver", "mwu", "--iterations", "5", "--feedback", "samples:k=5"]
    assert main([*command, "--seed", "3"]) == 0
    assert "from uniform, feedback samples:k=5, seed 3:" in capsys.readouterr().out
    assert main(command) == 0
    assert "samples:k=5, seed 0" in capsys.readouterr().out


def test_solve_says_where_iterations_are_not_equally_much(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["solve", "comal_cycle", "--iterations", "4", "--json", str(tmp_path / "s.json"), "--solver"]
    assert main([*command, "MWU,ProximalPoint:inner=7,ProximalPoint:inner=9,ExtraGradient,RegretMatching"]) == 0
    (said,) = re.findall(r".*products of table and vector.*", capsys.readouterr().out)
    assert re.search(r"9 products.* for ProximalPoint\(.*inner=9\), 7 for ProximalPoint\(.*inner=7\)", said)
    assert said.endswith("2 for ExtraGradient, 1 for MWU, RegretMatching")
    found = json.loads((tmp_path / "s.json").read_text())["solvers"]
    assert [one["products_per_iteration"] for one in found] == [1, 7, 9, 2, 1]
    assert main([*command, "MWU,INPO"]) == 0
    assert "products of" not in capsys.readouterr().out


def test_theory_shows_no_ratio_of_an_equation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["theory", "--quick", "1", "20"]) == 0
    lines = [
        words for line in capsys.readouterr().out.splitlines() if (words := line.split())[:1] and words[0].isdigit()
    ]
    lines = [words for words in lines if "holds" in words[3:5]]
    bounds, equations = ([line for line in lines if line[3].startswith("±") == of_equation] for of_equation in (0, 1))
    assert bounds
    assert equations
    assert all(0 < float(line[3]) <= 1 for line in bounds)


def test_solve_draws_the_gaps_of_several_solvers_and_writes_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[list[str], Any]] = []
    gap_curves = games.plots.gap_curves

    def seen(found: dict[str, games.Solution], **options: Any) -> Any:
        drawn.append((list(found), options["which"]))
        return gap_curves(found, **options)

    monkeypatch.setattr(games.plots, "gap_curves", seen)
    solvers = ["--solver", "mwu,optimistic-mwu:step=2", "--solver", "momentum:nesterov=true", "--step", "0.1"]
    settings = ["--start", "0.6,0.3,0.1", "--iterations", "30", "--tolerance", "0.25"]
    files = ["--plot", str(tmp_path / "race.png"), "--json", str(tmp_path / "deep" / "all.json")]
    assert main(["solve", "zoo:comal_cycle", *solvers, *settings, *files]) == 0
    told = capsys.readouterr()
    assert "source" in told.out
    labels = ["MWU(step=0.1)", "OptimisticMWU(step=2.0)", "Momentum(step=0.1, momentum=0.3, nesterov=True)"]
    assert drawn == [(labels, ["last"]), (labels, ["average"])]
    content = json.loads((tmp_path / "deep" / "all.json").read_text())
    game, start = games.zoo.comal_cycle(), [0.6, 0.3, 0.1]
    assert content["game"]["labels"] == ["a", "b", "c"]
    assert content["nash"]["fractions"] == ["4/11", "3/11", "4/11"]
    assert content["nash"]["policy"] == [4 / 11, 3 / 11, 4 / 11]
    assert content["nash"]["gap"] == 0
    asked: list[games.Solver] = [games.MWU(0.1), games.OptimisticMWU(2.0), games.Momentum(0.1, nesterov=True)]
    for one, solver in zip(content["solvers"], asked, strict=True):
        expected = games.solve(game, solver, 30, start, tolerance=0.25, averages={"linear": games.averaging.linear})
        assert one["solver"] == type(solver).__name__
        assert one["iterations"] == expected.iterations.tolist()
        assert one["gaps"] == {which: gaps.tolist() for which, gaps in expected.gaps.items()}
        assert one["last"] == expected.last.tolist()
        assert one["status"] == expected.status.name
        assert f"{int(expected.iterations[-1])}  {float(expected.gaps['last'][-1]):.3e}" in told.out
    assert (tmp_path / "race.png").read_bytes()[:4] == b"\x89PNG"


OWN = """
from dataclasses import dataclass
from nashward import games

@dataclass(frozen=True)
class Halving:
    step: float = 1.0
    odd: bool = False

    def iterate(self, x, payoffs):
        while True:
            best = tuple((g == g.amax(-1, keepdim=True)) * 1.0 for g in payoffs(x))
            x = tuple(p + self.step / 2 * (b / b.sum(-1, keepdim=True) - p) for p, b in zip(x, best))
            yield x

@dataclass(frozen=True)
class Mirror:
    step: float = 1.0

    def play(self, x, reference):
        while True:
            x = yield games.Step(x, opponent=x, size=self.step)

class Plain:
    def __init__(self, step=0.5):
        self.step = step

    play = Mirror.play

made = Mirror(0.25)

def make(rate: float):
    return Mirror(2 * rate)

number = 3
broken = Mirror

class Returns:
    def play(self, x, reference):
        return games.Step(x, opponent=x, size=1.0)

class Yields:
    def play(self, x, reference):
        yield None

class Refuses:
    def __init__(self):
        raise RuntimeError("no luck\\nat all")
"""


def test_solve_plays_a_solver_of_ones_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("own_solvers_of_mine.py").write_text(OWN.replace("\\\\n", "\\n"))
    mine = "own_solvers_of_mine"

    def last(solver: str, *more: str) -> list[float]:
        command = ["solve", "comal_cycle", "--solver", solver, "--start", "0.6,0.3,0.1", "--iterations", "20"]
        assert main([*command, "--json", "out.json", *more]) == 0, capsys.readouterr().err
        (one,) = json.loads(Path("out.json").read_text())["solvers"]
        found: list[float] = one["last"]
        return found

    def expected(step: float) -> list[float]:
        return games.solve(games.zoo.comal_cycle(), games.MWU(step), 20, [0.6, 0.3, 0.1]).last.tolist()

    for solver, step in (
        (f"{mine}:Mirror", 1.0), (f"{mine}:Mirror:step=0.5", 0.5), (f"{mine}:made", 0.25),
        (f"{mine}:make:rate=0.1", 0.2), (f"{mine}:Plain", 0.5), (f"{mine}:Plain:step=0.75", 0.75),
    ):  # fmt: skip
        assert last(solver) == pytest.approx(expected(step), abs=1e-12)
    assert last(f"{mine}:Mirror", "--step", "0.3") == pytest.approx(expected(0.3), abs=1e-12)
    tables = importlib.import_module(mine).Halving(0.5, odd=True)
    assert (
        last(f"{mine}:Halving:step=0.5:odd=true")
        == games.solve(games.zoo.comal_cycle(), tables, 20, [0.6, 0.3, 0.1]).last.tolist()
    )
    capsys.readouterr()
    assert main(["solve", "comal_cycle", "--solver", f"MWU,{mine}:Mirror:step=0.5", "--iterations", "5"]) == 0
    assert "  Mirror(step=0.5) " in capsys.readouterr().out
    for solver, says in (
        (f"{mine}:Nothing", f"{mine}:Nothing: .*has no attribute .?Nothing"),
        ("no_module_of_that_name:X", f"No module named .no_module_of_that_name. in {re.escape(str(Path.cwd()))}"),
        (f"{mine}.py/x:Mirror", "no name of a module"),
        (f"{mine}:number", r"method play\(x, reference\).*got 3"),
        (f"{mine}:Mirror:tau=1", f"{mine}:Mirror has no tau; it has step"),
        (f"{mine}:made:step=1", "give the class to set step"),
        (f"{mine}:make", "needs rate"),
        (f"{mine}:Refuses", f"{mine}:Refuses cannot be made: RuntimeError: no luck$"),
        (f"{mine}:Mirror,{mine}:Mirror", "given twice"),
        (f"{mine}:Returns", r"Returns: play is a generator of Steps .*got .*Step\("),
        (f"{mine}:Yields", "Yields: play yields Steps .*got None"),
    ):
        assert main(["solve", "comal_cycle", "--solver", solver]) == 2
        assert re.search(says, capsys.readouterr().err.strip()), says
    assert main(["solve", "comal_cycle", "--solver", f"{mine}:Halving", "--tau", "0.1"]) == 2
    assert "Halving has no tau; it has step, odd" in capsys.readouterr().err


@pytest.mark.parametrize("picture", ["table", "gaps", "race", "path"])
@pytest.mark.parametrize("solvers", [["mwu"], ["mwu", "gda"]])
def test_solve_draws_the_picture_that_is_named(
    picture: str, solvers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("payoff_table", "gap_curves", "race", "trajectories"):
        real = getattr(games.plots, name)

        def seen(*given: Any, name: str = name, real: Any = real, **more: Any) -> Any:
            calls.append(name)
            return real(*given, **more)

        monkeypatch.setattr(games.plots, name, seen)
    command = ["solve", "mujoco_soccer", "--solver", ",".join(solvers), "--iterations", "20"]
    assert main([*command, "--plot", str(tmp_path / "x.png"), "--picture", picture]) == 0
    drawn = {"table": "payoff_table", "gaps": "gap_curves", "race": "race", "path": "trajectories"}[picture]
    assert set(calls) == {drawn}
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


def test_a_path_in_the_plane_of_two_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = games.plots.trajectories

    def recorded(paths: Any, *given: Any, actions: Any, start: Any, **more: Any) -> Any:
        seen.append((list(paths), actions, start, {len(path) for path in paths.values()}))
        return real(paths, *given, actions=actions, start=start, **more)

    monkeypatch.setattr(games.plots, "trajectories", recorded)
    command = ["solve", "mujoco_soccer", "--solver", "mwu,gda", "--iterations", "300", "--picture", "path"]
    assert main([*command, "--plot", str(tmp_path / "p.svg"), "--actions", "agent8,agent1"]) == 0
    assert seen == [(["MWU(step=0.5)", "GDA(step=0.1)"], [8, 1], [0.1] * 10, {300})]  # every iteration is drawn
    start = [0.2, *[0.1] * 8, 0.0]
    given = ["--start", ",".join(map(str, start)), "--tolerance", "1e-9"]
    assert main([*command, "--plot", str(tmp_path / "p.svg"), *given]) == 0
    usual = len(games.solution.default_record(300))  # pictures do not change where a tolerance ends a run
    assert seen[1] == (["MWU(step=0.5)", "GDA(step=0.1)"], None, start, {usual})


@pytest.mark.parametrize("name", ["cloned_rock", "two_rings", "indifference", "ring_of_six", "comal_cycle"])
def test_text_json_and_zoo_have_the_same_equilibrium(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, zoo = tmp_path / "solve.json", tmp_path / "zoo.json"
    assert main(["solve", name, "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(["zoo", name, "--json", str(zoo)]) == 0
    content = json.loads(file.read_text())
    nash, labels = content["nash"], content["game"]["labels"]
    played = sum(p > 0 for p in nash["policy"])
    copies = [line for line in lines[3 + played : -1] if "copies" in line]
    assert len(copies) == len(lines) - 4 - played == {"cloned_rock": 1, "indifference": 1}.get(name, 0)
    shown = {label: (float(p), fraction) for label, p, fraction in map(str.split, lines[3 : 3 + played])}
    assert shown == {
        label: (pytest.approx(p, abs=5e-4), fraction)
        for label, p, fraction in zip(labels, nash["policy"], nash["fractions"], strict=True)
        if p
    }
    assert [float(Fraction(fraction)) for fraction in nash["fractions"]] == pytest.approx(nash["policy"], abs=1e-12)
    assert json.loads(zoo.read_text())[name]["nash"] == pytest.approx(nash["policy"], abs=1e-12)
    assert float(games.duality_gap(games.zoo.get(name), nash["policy"])) < 1e-12
    assert nash["unique"] is (name == "comal_cycle")
    assert ("one of several" in lines[2]) is not nash["unique"]


def test_the_zoo_lists_its_games_and_draws_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["game", "actions"]
    size = len(games.zoo.names())
    assert [line.split()[0] for line in lines[1 : size + 1]] == games.zoo.names()
    assert lines[size + 2 :] == [f"  {prop}: {games.zoo.DEFINITIONS[prop]}" for prop in games.zoo.PROPERTIES]
    page, file = tmp_path / "deep" / "zoo.html", tmp_path / "zoo.json"
    both = ["--property", "cyclic", "--property", "near-boundary"]
    assert main(["zoo", *both, "--page", str(page), "--json", str(file)]) == 0
    found = games.zoo.names("cyclic", "near-boundary")
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[1 : 1 + len(found)]] == found
    assert re.findall(r'<h2 id="(\w+)"', page.read_text()) == found
    content = json.loads(file.read_text())
    assert list(content) == found
    for name in found:
        assert content[name]["P"] == games.zoo.get(name).P.tolist()
        assert content[name]["nash"] == pytest.approx(games.nash(games.zoo.get(name)).policy.tolist(), abs=1e-12)
    assert main(["zoo", "two_rings", "comal_cycle"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:3]] == [
        ["game", "actions"],
        ["two_rings", "6"],
        ["comal_cycle", "3"],
    ]
    assert main(["zoo", "--property", "transitive", "--property", "cyclic"]) == 0
    assert "no game has all of transitive, cyclic" in capsys.readouterr().out
    for arguments, says in (
        (["comal"], "nearest is comal_cycle"),
        (["--property", "cycle"], "'cycle'.*cyclic"),
        (["two_rings", "--property", "slow"], "two_rings has not all of --property slow; it is cyclic"),
        (["--page", str(tmp_path)], "--page .*zoo.html"),
        (["--page", "zoo.png"], "--page zoo.png.* ends in .html"),
        (["--page", str(file / "zoo.html")], "zoo.json is a file"),
        (["--json", str(tmp_path)], "is a folder; --json"),
    ):
        assert main(["zoo", *arguments]) == 2
        assert re.search(says, capsys.readouterr().err), says


def test_solve_reads_generators_settings_and_feedback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for text, game in (
        ("generator:scores_and_cycles:n=5:cycles=0.5:seed=3", games.zoo.generators.scores_and_cycles(5, 0.5, 3)),
        ("zoo:random_preferences:n=4:seed=2", games.zoo.random_preferences(4, 2)),
    ):
        sampled = ["--solver", "mwu", "--iterations", "20", "--feedback", "samples:k=3", "--seed", "7"]
        assert main(["solve", text, *sampled, "--json", str(tmp_path / "all.json")]) == 0
        content = json.loads((tmp_path / "all.json").read_text())
        assert content["game"]["P"] == game.P.tolist()
        expected = games.solve(game, games.MWU(), 20, feedback=games.feedback.SampledFeedback(3, seed=7))
        assert content["solvers"][0]["last"] == expected.last.tolist()
    assert main(["solve", "comal_cycle", "--solver", "mwu", "--feedback", "duels", "--iterations", "5"]) == 0
    capsys.readouterr()


def test_solve_of_two_different_players(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",left,right\nup,3,-1\ndown,-1,1\n")
    assert main(["solve", str(tmp_path / "t.csv"), "--total", "0"]) == 0
    out = capsys.readouterr().out
    assert "value 0.333333 to the row player" in out
    assert "row down  0.667" in out
    assert "column left   0.333" in out
    duels = ["--solver", "mwu:step=0.02", "--iterations", "3000", "--feedback", "duels:duels=16", "--seed", "1"]
    found = tmp_path / "found.json"
    assert main(["solve", str(tmp_path / "t.csv"), "--total", "0", *duels, "--json", str(found)]) == 0
    average = json.loads(found.read_text())["solvers"][0]["average"]
    assert (average["row"][1], average["column"][0]) == (pytest.approx(2 / 3, abs=0.05), pytest.approx(1 / 3, abs=0.05))
    capsys.readouterr()


def test_a_files_table_has_its_nash_in_fractions_where_they_are_one_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cycle.csv").write_text(",a,b,c\na,.5,.1,.8\nb,.9,.5,.1\nc,.2,.9,.5\n")
    (tmp_path / "pay.csv").write_text(",l,r\nu,3,-1\nd,-1,1.5\n")
    (tmp_path / "digits.csv").write_text(",a,b,c\na,.5,.8917313,.2\nb,.1082687,.5,.9\nc,.8,.1,.5\n")
    for name, options, expected in (
        ("cycle", [], ["4/11", "3/11", "4/11"]),
        ("pay", ["--total", "0"], {"row": ["5/13", "8/13"], "column": ["5/13", "8/13"]}),
        ("digits", [], None),
    ):
        out = tmp_path / f"{name}.json"
        assert main(["solve", str(tmp_path / f"{name}.csv"), *options, "--json", str(out)]) == 0
        assert json.loads(out.read_text())["nash"]["fractions"] == expected
        assert ("/1" in capsys.readouterr().out.replace(str(tmp_path), "")) == (expected is not None)


def test_whether_the_nash_is_unique_is_said_of_the_fractions_that_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of these tenths (2/7, 0, 4/7, 1/7, 0, 0) and (8, 0, 16, 1, 6, 0) / 31 are a Nash, of their doubles the first."""
    rows = ["5,7,6,1,3,2", "3,5,2,5,7,3", "4,8,5,7,6,8", "9,5,3,5,5,5", "7,3,4,5,5,1", "8,7,2,5,9,5"]
    (tmp_path / "t.csv").write_text("\n".join("." + row.replace(",", ",.") for row in rows))
    assert main(["solve", str(tmp_path / "t.csv"), "--json", str(tmp_path / "t.json")]) == 0
    nash = json.loads((tmp_path / "t.json").read_text())["nash"]
    assert (nash["unique"], nash["gap"], nash["fractions"][0]) == (False, 0.0, "2/7")
    assert "one of several" in capsys.readouterr().out


def test_whether_a_last_iterate_is_at_the_regularised_nash_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Within the step's threshold it is; beyond it, and with Nash-MD's constant step, it is elsewhere."""
    solvers = "INPO:tau=0.1:step=0.2,INPO:tau=0.01:step=1,NashMD:tau=0.1:step=3"
    assert main(["solve", "comal_cycle", "--solver", solvers, "--start", "0.6,0.3,0.1", "--iterations", "2000"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "drawn to" in line]
    assert ["is there" in line for line in told] == [True, False, False]
    assert ["away" in line for line in told] == [False, True, True]


@pytest.mark.parametrize(
    ("game", "solver", "iterations", "tolerance", "advice"),
    [
        ("random_preferences", "MWU", 99, 1e-9, "OptimisticMWU, whose last iterate converges"),  # 4e7 times as many
        ("random_preferences", "MWU", 99, 1e-3, "more --iterations"),
        ("random_preferences", "OptimisticMWU", 99, 1e-9, "more --iterations"),  # its last iterate converges
        ("mujoco_soccer", "ExtraGradient", 1000, 1e-6, "more --iterations"),  # 6018 do
        ("random_preferences", "OptimisticMWU", 1, 1e-9, "more --iterations"),
        ("random_preferences", "INPO:tau=0.2", 9, 1e-9, "a smaller tau"),
        ("random_preferences", "NashEMA:tau=0.2", 9, 1e-9, "a smaller tau"),
        ("random_preferences", "INPO:tau=1e-7", 99, 1e-3, "more --iterations"),  # tau is in the way of no such gap
        ("random_preferences", "GDA:step=2", 999, 1e-9, "a smaller step"),
        ("higher_wins", "OptimisticMWU", 200, 0, "a larger --tolerance"),
    ],
)
def test_what_helps_a_solver_that_missed_the_tolerance(
    game: str, solver: str, iterations: int, tolerance: float, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By how this run went, not by the name of its solver."""
    command = ["solve", game, "--solver", solver, "--iterations", str(iterations), "--tolerance", str(tolerance)]
    assert main(command) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "not reached" in line]
    assert line.endswith(advice)


def test_files_are_written_though_the_reader_of_the_output_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    files = [tmp_path / "nash.png", tmp_path / "nash.json"]
    assert main(["solve", "comal_cycle", "--solver", "mwu", "--plot", str(files[0]), "--json", str(files[1])]) == 141
    assert all(file.stat().st_size for file in files)


def test_a_file_says_which_way_round_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(",x,y\nx,,0.75\ny,0.25,\n")
    assert main(["solve", str(tmp_path / "t.csv")]) == 0
    first, *_, played = capsys.readouterr().out.splitlines()
    assert "P(row beats column)" in first
    assert played.split()[:2] == ["x", "1.000"]
    assert main(["solve", str(tmp_path / "t.csv"), "--total", "1"]) == 0
    assert "P(row" not in capsys.readouterr().out
