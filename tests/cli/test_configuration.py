"""Settings from flags, files, presets and the run folder: which wins, what is refused, what ``config`` prints."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import games
from nashward.cli import configuration, options
from nashward.cli.main import build_parser, main
from nashward.errors import NashwardError
from nashward.llm import Limits, Phase, pocket
from nashward.llm.oracles.judges.protocols.user_template import read_rubric
from nashward.llm.store.run_folder import RunFolder

from . import absent

POCKET = ["--policy", str(pocket.POLICY), "--oracle", str(pocket.PAIRRM)]
TOML = [
    ("a = = 3", "mine.toml | TOML"),
    ("a = " + "[" * 5000, "mine.toml | TOML"),
    ("[fit]\nlearning_rat = 1", "mine.toml | 'fit.learning_rat' | learning_rate in [fit]"),
    ("learning-rate = 1", "mine.toml | 'learning-rate' | learning_rate in [fit]"),
    ("[fit]\nrank = 1", "mine.toml | 'fit.rank' | rank in [lora]"),
    ("out = 'runs'", "mine.toml | 'out' | folder"),
    ("[lora]\nzzz = 1", "mine.toml | 'lora.zzz' | rank, alpha"),
    ("[fitt]\nepochs = 1", "mine.toml | '[fitt]' | [fit]"),
    ("[zzz]\nepochs = 1", "mine.toml | '[zzz]' | [solver] | [opponents] | [lora]"),
    ("fit = 3", "mine.toml | [fit]"),
    ("[[fit]]\nepochs = 1", "mine.toml | [fit]"),
    ("[policy]\nname = 'x'", "mine.toml | policy | a table"),
    ("phases = 3", "mine.toml | phases | array of tables | integer 3"),
    ("[[phases]]\nstep = 1.0", "phase | iterations | this one has step"),
    ("policy = ['x']", "mine.toml | policy | an array"),
    ("policy = ''", "mine.toml | policy | got nothing"),
    ('policy = "a\\u0000b"', "mine.toml | policy | 'a\\x00b'"),
    ("seed = 1979-05-27", "mine.toml | seed | whole number | date"),
    ("[fit]\nepochs = 2.0", "mine.toml | fit.epochs | 2.0"),
    ("[fit]\nepochs = true", "mine.toml | fit.epochs | got true"),
    ("[fit]\nlearning_rate = '1e-3'", "mine.toml | fit.learning_rate | '1e-3'"),
    ("[fit]\nlearning_rate = nan", "mine.toml | fit.learning_rate | nan"),
    ("[fit]\nselection = 'some'", "mine.toml | fit.selection | 'some'"),
    ("quantise = 1", "mine.toml | quantise | true or false | 1"),
    ("prompts_per_iteration = 'some'", "mine.toml | prompts_per_iteration | 'some'"),
    ("[solver]\nname = 'mwu'\ntau = 1", "MWU has no tau"),
    ("[solver]\nname = 3", "mine.toml | solver.name | integer 3"),
    ("[placement]\nmlp_tokens = 0", "mlp_tokens | got 0"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"Tell me about bread {i}.\n" for i in range(4)))


def _settings(*arguments: str) -> configuration.Settings:
    return configuration.settings(build_parser().parse_args(["config", *arguments]))


def _told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that ends well."""
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[solver]\nstep = -1", "solver.step"),
        ("[solver]\nname = 'inpo'\ntau = -1", "solver.tau"),
        ("responses = 1", "responses"),
        ("drop_similar = 2.0", "drop_similar"),
        ("[fit]\nepochs = 0\nbatch = 3", "fit.epochs"),
        ("[fit]\nepochs = 0\nbatch = 0", "fit.epochs"),  # two errors, one after the other
        ("[fit]\nselection = 'best-worst'\nloss = 'online-ipo'", "fit.selection"),
        ("[sampling]\ntemperature = 0", "sampling.temperature"),
        ("[lora]\nrank = 0", "lora.rank"),
        ("[limits]\nsft = -1", "limits.sft"),
        ("[people]\nvotes = 0", "people.votes"),
        ("oracle = 'openai:m'\n[judge]\nvotes = 0", "judge.votes"),
        ("oracle = 'openai:m'\n[endpoint]\nretries = -1", "endpoint.retries"),
        ("[placement]\nmlp_tokens = 0", "placement.mlp_tokens"),
        ("[placement]\nlayers = 'host'\ncheckpoints = 'none'", "placement.layers and placement.checkpoints"),
        ("[opponents]\nresponses = 'openai:m'\ncount = 0", "opponents.count"),
        ("phases = [{iterations = 0}]", "phases"),
        ("oracle = ['pocket:pairrm', 'mine:Shorter']\ncombine = 'median'", "combine"),
        ("oracle = 'pocket:pairrm'\ncorrect = 'nothing'", "correct"),
        ("objective = ['a', 'b=pocket:pairrm']", "objective"),
    ],
)
def test_a_value_that_a_part_refuses_is_named_with_its_file_and_key(
    text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.toml").write_text(text)
    assert main(["align", "--config", "mine.toml", "--out", "new"]) == 2
    assert f"nashward: mine.toml: {named}: " in capsys.readouterr().err
    assert not Path("new").exists()


def test_of_a_file_and_an_option_the_one_that_is_refused_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text("[fit]\nepochs = 3\n[placement]\nlayers = 'host'\n[solver]\nstep = 1\n")
    assert main(["align", "--config", "mine.toml", "--out", "new", "--epochs", "0"]) == 2
    told = capsys.readouterr().err
    assert "--epochs: " in told
    assert "mine.toml" not in told
    assert main(["align", "--config", "mine.toml", "--out", "new", "--checkpoints", "none"]) == 2
    told = capsys.readouterr().err
    assert "--checkpoints" in told
    assert "mine.toml: placement.layers" in told
    assert main(["solve", "zoo:rock_paper_scissors", "--solver", "mwu,mwu:step=-1", "--step", "0.5"]) == 2
    told = capsys.readouterr().err
    assert "mwu:step=-1: " in told
    assert "--step" not in told


@pytest.mark.parametrize(("text", "line"), TOML, ids=[text[:30] for text, _ in TOML])
@pytest.mark.parametrize("command", ["config", "align", "train"])
def test_a_bad_file_gives_one_line(command: str, text: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(text)
    Path("run").mkdir()
    assert main([command, "--config", "mine.toml", "--out", "new"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("nashward: ")
    assert absent(told, line) == [], told
    assert not Path("new").exists()


def test_the_highest_that_says_who_judges_replaces_the_oracles_below() -> None:
    Path("mine.toml").write_text('objective = ["a=pocket:pairrm", "b=mine:Shorter"]\ncombine = "minimum"\n')
    Path("judge.toml").write_text('oracle = "pocket:pairrm"\ncorrect = "length"\n')
    typed = ["--objective", "a=pocket:pairrm", "--objective", "b=mine:Shorter", "--out", "new"]
    for below in (["--preset", "mistral-7b"], ["--config", "judge.toml"]):
        chosen = _settings(*typed, *below)
        assert chosen["objective"].source == "flag"
        assert not {"oracle", "correct"} & chosen.keys()
    chosen = _settings("--oracle", "pocket:pairrm", "--config", "mine.toml", "--preset", "mistral-7b", "--out", "new")
    assert chosen["oracle"] == configuration.Setting("pocket:pairrm", "flag")
    assert not {"objective", "combine"} & chosen.keys()
    chosen = _settings("--config", "mine.toml", "--preset", "mistral-7b", "--out", "new")
    assert "oracle" not in chosen
    assert chosen["combine"].value == "minimum"


def test_a_flag_wins_over_a_file_over_a_preset_over_the_folder_over_the_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sample = ["sample", *POCKET[:2], "--prompts", "prompts.txt", "--out", "run", "--quiet"]
    assert main([*sample, "--responses", "2", "--epochs", "7", "--max-new-tokens", "4", "--rank", "3"]) == 0
    Path("mine.toml").write_text("responses = 4\n[fit]\nlearning_rate = 0.125\nbatch = 5\n[sampling]\ntop_p = 0.5\n")
    chosen = _settings(
        "--out", "run", "--preset", "sppo-paper", "--config", "mine.toml", "--learning-rate", "0.25", "--top-p", "0.75"
    )
    assert {name: (chosen[name].value, chosen[name].source) for name in chosen} == {
        "out": (Path("run"), "flag"),
        "learning-rate": (0.25, "flag"),
        "top-p": (0.75, "flag"),
        "responses": (4, "file mine.toml"),
        "batch": (5, "file mine.toml"),
        **{
            name: (value, "preset sppo-paper")
            for name, value in {
                "solver": "MWU", "step": 1000.0, "iterations": 3, "prompts": "ultrafeedback-sppo",
                "prompts-per-iteration": 20_000,
                "self-comparison": True, "max-prompt-tokens": 512, "temperature": 1.0, "max-new-tokens": 512,
                "selection": "best-worst", "baseline": "constant", "optimiser": "rmsprop", "schedule": "linear",
                "warmup": 0.1, "epochs": 1, "held-out": 0.02, "validation": 0.0,
            }.items()
        },
        **{
            name: (value, "folder")
            for name, value in {
                "policy": str(pocket.POLICY.resolve()), "sampling-batch": 64, "kv-cache": "full", "max-grad-norm": 1.0,
                "rank": 3, "lora-targets": "all", "spread-weights": False, "prompt-selection": "uniform",
                "prompt-floor": 0.2, "quantise": torch.cuda.is_available(), "quantise-head": False,
                "checkpoint-seconds": 300.0, "seed": 0,
                "plan": True, "refits": 0, "loss": "mirror", "margin": 0.5, "mixtures": "fitted",
                "sft-weight": 1.0, "limit-factor": 0.5, "limit-lowers": "step",
                "concurrency": 16, "timeout": 300.0, "retries": 8, "key-variable": "OPENAI_API_KEY",
                "judge-protocol": "pair", "judge-votes": 1, "judge-reasoning": True, "judge-quantise": False,
            }.items()
        },
    }  # fmt: skip
    out = _told(capsys, "config", "--responses", "6", "--config", "mine.toml", "--preset", "sppo-paper")
    for line in (
        "responses = 6  # flag", "top_p = 0.5  # file mine.toml", "epochs = 1  # preset sppo-paper",
        "rank = 16  # default",
    ):  # fmt: skip
        assert line in out.splitlines()


def test_of_several_presets_a_later_one_wins_and_the_others_stay() -> None:
    def sources(*names: str) -> dict[str, str]:
        chosen = _settings("--out", "run", *(word for name in names for word in ("--preset", name)))
        return {name: chosen[name].source for name in ("policy", "iterations", "responses") if name in chosen}

    model, quick = "preset smollm2-135m", "preset quick"
    assert sources("smollm2-135m", "quick") == {"policy": model, "iterations": quick, "responses": quick}
    assert sources("quick", "smollm2-135m") == {"policy": model, "iterations": model, "responses": quick}
    assert sources("quick") == {"iterations": quick, "responses": quick}


OWN_SOLVER = """
from dataclasses import dataclass
from nashward import games

@dataclass(frozen=True)
class Pulled:
    step: float = 0.7
    tau: float = 0.1

    def __post_init__(self):
        if self.tau < 0:
            raise ValueError(f"tau is {self.tau}")

    def play(self, x, reference):
        while True:
            pulled = (1 - self.step * self.tau) * x + self.step * self.tau * reference
            x = yield games.Step(pulled, opponent=x, size=self.step)
"""


def test_a_solver_of_ones_own_is_known_to_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pulled_here.py").write_text(OWN_SOLVER)
    Path("prompts.txt").write_text("Name a river.\nWhy is the sky blue?\n")
    sample = ["sample", *POCKET[:2], "--prompts", "prompts.txt", "--out", "run", "--responses", "2"]
    own = ["--solver", "pulled_here:Pulled"]
    assert main([*sample, *own, "--tau", "-1"]) == 2
    assert "pulled_here:Pulled: ValueError: tau is -1.0" in capsys.readouterr().err
    assert main([*sample, *own, "--decay", "0.5"]) == 2
    assert re.search(r"decay.*step, tau", capsys.readouterr().err)
    assert main([*sample, *own, "--tau", "0.02", "--max-new-tokens", "4", "--quiet"]) == 0
    known = json.loads(Path("run/run.json").read_text())["config"]["solver"]
    assert known == {"name": "pulled_here:Pulled", "step": 0.7, "tau": 0.02}
    assert main(["sample", "--out", "run", "--quiet"]) == 0  # it goes on with the class and the settings that it had
    assert main(["sample", "--out", "run", "--tau", "0.3"]) == 2
    assert "solver.tau 0.02 there, 0.3 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    "solver",
    [
        {"name": "no_such_module:Solver", "k": 2, "step": 0.7},
        {"name": "Nested", "step": 0.7},
        {"name": "MWU", "step": [1.0, 0.5]},
    ],
)
def test_what_is_trained_is_evaluated_without_its_solver(
    tmp_path: Path, solver: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "read", lambda self: {"config": {"solver": solver}})
    known = configuration.from_folder(tmp_path, plays=False)
    assert configuration.solver(known) == games.OptimisticMWU(step=0.7 if solver["step"] == 0.7 else 2.5)
    with pytest.raises(NashwardError):
        configuration.solver(configuration.from_folder(tmp_path))


def test_the_settings_of_a_solver_go_with_it() -> None:
    def found(*arguments: str) -> games.Solver:
        return configuration.solver(_settings(*arguments))

    assert found() == games.OptimisticMWU(step=2.5)
    assert found("--solver", "mwu") == games.MWU(step=2.5)
    assert found("--preset", "sppo-paper") == games.MWU(step=1000.0)
    assert found("--preset", "sppo-paper", "--step", "3") == games.MWU(step=3.0)
    assert found("--preset", "sppo-paper", "--solver", "MWU") == games.MWU(step=1000.0)
    assert found("--preset", "sppo-paper", "--solver", "extra-gradient") == games.ExtraGradient(step=2.5)
    Path("mine.toml").write_text("[solver]\nname = 'ExtraGradient'\ntau = 0.25")
    assert found("--config", "mine.toml", "--preset", "sppo-paper") == games.ExtraGradient(step=2.5, tau=0.25)


NAMES = 'wo"rds/\u263a \\ end\x7f'
ROUND = [
    "",
    "--preset sppo-paper --step 3",
    "--solver extragradient --tau 0.1 --learning-rate 3e-7 --alpha 12 --no-quantise --self-comparison --seed -4",
    "--optimiser lbfgs --max-grad-norm inf --learning-rate 1 --prompts-per-iteration 7 --mlp-tokens 16",
    "--checkpoints device --embeddings device --adapters float32 --mlp-tokens all --temperature 0.1",
    shlex.join(["--policy", NAMES, "--oracle", "mine:Judge", "--cache", NAMES, "--out", NAMES, "--adapter", NAMES]),
    shlex.join(["--chat-template", "{% for m in messages %}{{ m.content }}\n\t{% endfor %}", "--prompts", "a\nb"]),
]


@pytest.mark.parametrize("arguments", ROUND)
def test_what_config_prints_can_be_given_back(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = shlex.split(arguments)
    first = _told(capsys, "config", *given)
    Path("again.toml").write_text(first)
    second = _told(capsys, "config", "--config", "again.toml")
    assert tomllib.loads(second) == tomllib.loads(first)
    assert re.sub("# (flag|default|preset .*)$", "# file again.toml", first, flags=re.MULTILINE) == second
    here = [] if "--out" in given else ["--out", "run"]
    plays = [configuration.self_play(_settings(*some, *here)) for some in (given, ["--config", "again.toml"])]
    assert plays[0] == plays[1]


def test_config_tells_what_is_missing_and_checks_what_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(*given: Any, **named: Any) -> Any:
        raise AssertionError("a weight was loaded")

    monkeypatch.setattr("nashward.llm.policy.model.LanguageModel.from_pretrained", loading)
    monkeypatch.setattr("nashward.llm.run.run_setup.as_oracle", loading)
    assert _told(capsys, "config", *POCKET).startswith("# align needs besides: --out, --prompts\n")
    whole = ["config", *POCKET, "--prompts", "prompts.txt", "--out", "run"]
    assert "needs" not in _told(capsys, *whole)
    assert main([*whole, "--policy", "nowhere/./x"]) == 2
    assert main([*whole, "--prompts", "none.txt"]) == 2
    assert not Path("run").exists()


def test_a_file_may_name_everything_and_its_paths_are_those_of_the_working_directory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("recipes").mkdir()
    Path("recipes/mine.toml").write_text(
        f"folder = 'runs/first'\npolicy = '{pocket.POLICY}'\nprompts = 'prompts.txt'\nresponses = 2\n"
        "[sampling]\nmax_new_tokens = 4\n"
    )
    out = _told(capsys, "sample", "--config", "recipes/mine.toml")
    assert "Next: nashward judge --oracle ID_OR_FOLDER --out runs/first" in out
    assert json.loads(Path("runs/first/run.json").read_text())["config"]["sampling"]["max_new_tokens"] == 4


def test_a_file_may_begin_with_a_byte_order_mark() -> None:
    """As editors on Windows write it."""
    mark = "\ufeff"
    Path("mine.toml").write_text(mark + "responses = 3\n[fit]\nepochs = 7\n", encoding="utf-8")
    Path("template.jinja").write_text(mark + "{{ messages }}", encoding="utf-8")
    Path("rubric.md").write_text(mark + "Brief is good.\n", encoding="utf-8")
    chosen = _settings("--config", "mine.toml", "--out", "run")
    assert (chosen["responses"].value, chosen["epochs"].value) == (3, 7)
    assert configuration.template("template.jinja") == "{{ messages }}"
    assert read_rubric("rubric.md") == "Brief is good."


def test_home_in_a_file_is_that_of_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "mine.toml").write_text("folder = '~/runs/first'\npolicy = '~/model'\ncolumn = '~'\n")
    found = configuration.from_toml((tmp_path / "mine.toml").read_text(), "mine.toml", "file")
    assert {name: setting.value for name, setting in found.items()} == {
        "out": tmp_path / "runs" / "first",
        "policy": str(tmp_path / "model"),
        "prompt-field": "~",
    }


def test_what_is_not_said_again_is_kept_in_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """Placement, which may change from one start to the next, and a number that JSON cannot hold."""
    saving = ["--checkpoints", "host", "--embeddings", "host", "--adapters", "float32", "--mlp-tokens", "16"]
    small = ["--responses", "2", "--max-new-tokens", "4", "--max-grad-norm", "inf"]
    sample = ["sample", *POCKET[:2], "--prompts", "prompts.txt", "--out", "run", *small]
    assert main([*sample, *saving]) == 0

    def placed() -> dict[str, Any]:
        config: dict[str, Any] = json.loads(Path("run/run.json").read_text())["config"]
        return config["placement"]

    everything = {"checkpoints": "host", "embeddings": "host", "adapters": "float32", "mlp_tokens": 16}
    assert placed() == everything
    assert main(["judge", *POCKET[2:], "--out", "run"]) == 0
    assert placed() == everything
    assert _settings("--out", "run")["max-grad-norm"] == configuration.Setting(float("inf"), "folder")
    assert main(["sample", "--out", "run", "--mlp-tokens", "all"]) == 0
    assert placed() == {**everything, "mlp_tokens": None}


@pytest.mark.slow
def test_quiet_says_the_result_alone(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["align", *POCKET, "--prompts", "prompts.txt", "--iterations", "1", "--responses", "2", "--held-out", "0.25"]
    run += ["--max-new-tokens", "24", "--epochs", "1"]
    loud = _told(capsys, *run, "--out", "loud")
    for once in ("prompts: ", "loss before training", "nats rms"):
        assert loud.count(once) == 1
    quiet = _told(capsys, *run, "--out", "quiet", "--quiet")
    assert quiet == (
        "adapter: quiet/iteration-01/adapter\nmixture of what was played (start): quiet/mixture.json\n"
        "report: quiet/report.html\n"
    )
    assert quiet.replace("quiet", "loud") in loud
    assert loud.endswith("nashward evaluate loud\n")
    assert main([*run, "--out", "warned", "--quiet", "--preset", "sppo-paper"]) == 0
    assert "policy gradient" in capsys.readouterr().err
    assert "policy gradient" in _told(capsys, *run, "--out", "warned", "--preset", "sppo-paper")


def test_opponents_are_played_against_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("answers").mkdir()
    for name in ("gpt-4.1", "claude"):
        rows = [{"instruction": f"Tell me about bread {i}.", "output": f"{name} {i}"} for i in range(4)]
        Path(f"answers/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    here = ["--out", "run", "--quiet"]
    sample = ["sample", *POCKET[:2], "--prompts", "prompts.txt", "--responses", "2", "--max-new-tokens", "4"]
    assert main([*sample, "--solver", "mwu", "--opponents", "answers", *here]) == 0
    chosen = _settings("--out", "run")
    assert chosen["opponent-shares"] == configuration.Setting("claude=0.125,gpt-4.1=0.125", "folder")
    play = configuration.self_play(chosen)
    assert play.solver == games.FixedOpponents(games.MWU(2.5), {"claude": 0.125, "gpt-4.1": 0.125})
    assert play.opponents == {"claude": None, "gpt-4.1": None}
    shutil.rmtree("answers")  # the run folder has them
    _told(capsys, "judge", *POCKET[2:], *here)
    judged = {file.name.split(".")[0] for file in Path("run/iteration-01/judgements").glob("*")}
    assert judged == {"start", "start~opponent-1", "start~opponent-2"}
    _told(capsys, "train", "--opponent-shares", "gpt-4.1=0.125,claude=0.125", *here)
    assert main(["train", "--opponent-shares", "gpt-4.1=0.25,claude=0.125", *here]) == 2
    assert "solver.opponents.gpt-4.1 0.125 there, 0.25 now" in capsys.readouterr().err


def test_phases_are_read_kept_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(
        "responses = 2\n[[phases]]\niterations = 2\nstep = 2.0\n[[phases]]\niterations = 1\nlearning_rate = 1e-4\n"
    )
    as_flag = "[{iterations = 2, step = 2.0}, {iterations = 1, learning_rate = 1e-4}]"
    here = ["--out", "run", "--quiet", "--max-new-tokens", "4", "--solver", "mwu"]
    assert main(["sample", *POCKET[:2], "--prompts", "prompts.txt", "--config", "mine.toml", *here]) == 0
    expected = (Phase(2, step=2.0), Phase(1, learning_rate=1e-4))
    for arguments in (
        ["--config", "mine.toml", "--out", "new"],
        ["--phases", as_flag, "--out", "new"],
        ["--out", "run"],
    ):
        assert configuration.self_play(_settings(*arguments)).config.phases == expected
    printed = _told(capsys, "config", "--out", "run")
    line = "phases = [{ iterations = 2, step = 2.0 }, { iterations = 1, learning_rate = 0.0001 }]  # folder"
    assert line in printed.splitlines()
    assert main(["train", "--phases", "[{iterations = 1}]", *here[:3]]) == 2
    assert "run holds another run (phases" in capsys.readouterr().err


def test_a_flag_that_phases_override_is_refused_or_told(caplog: pytest.LogCaptureFixture) -> None:
    """One that no phase takes has no effect; one that some take is told."""
    Path("mine.toml").write_text(
        "[[phases]]\niterations = 2\nstep = 2.0\nlearning_rate = 1e-4\n[[phases]]\niterations = 1\nstep = 0.5\n"
    )
    given = ["--config", "mine.toml", "--out", "new"]
    configuration.self_play(_settings(*given))
    assert not caplog.messages
    with pytest.raises(ValueError, match=r"--step .*\(2 in phase 1, 0\.5 in phase 2"):
        configuration.self_play(_settings(*given, "--step", "4"))
    assert configuration.self_play(_settings(*given, "--learning-rate", "3e-5")).config.fit.learning_rate == 3e-5
    (told,) = caplog.messages
    assert "0.0001 in phase 1" in told


def test_sft_texts_and_limits_are_kept_in_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    rows = "prompt,output\nName a river.,The Rhine.\nName a lake.,Lake Constance.\nName a sea.,The North Sea.\n"
    Path("work.csv").write_text(rows)
    Path("mine.toml").write_text("sft = 'work.csv'\n[fit]\nsft_weight = 0.5\n[limits]\nsft = 0.25\nwin_rate = 0.5\n")
    here = ["--out", "run", "--quiet"]
    small = ["--responses", "2", "--max-new-tokens", "24", "--epochs", "1", "--held-out", "0.25", "--iterations", "1"]
    sample = ["sample", *POCKET[:2], "--prompts", "prompts.txt", "--config", "mine.toml"]
    assert main([*sample, *small, "--limit-factor", "0.25", *here]) == 0
    Path("work.csv").unlink()
    chosen = _settings("--out", "run")
    assert "sft" not in chosen
    play = configuration.self_play(chosen)
    assert (play.sft, play.config.fit.sft_weight) == (None, 0.5)
    assert play.config.limits == Limits(0.25, 0.5, 0.25)
    _told(capsys, "judge", *POCKET[2:], *here)
    assert re.search(r"SFT texts [\d.]+ to [\d.]+ nats per token$", _told(capsys, "train", *here[:2]), re.MULTILINE)
    (row,) = [json.loads(line) for line in Path("run/iteration-01/metrics.jsonl").read_text().splitlines()][-1:]
    assert set(row["sft"]) == {"start", "before", "after"}
    Path("work.csv").write_text(rows.replace("Rhine", "Danube"))
    assert main(["train", "--sft", "work.csv", *here]) == 2
    assert "run holds another run (sft " in capsys.readouterr().err


@pytest.mark.parametrize("name", options.presets())
def test_presets_are_files_as_a_user_writes_them(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(options.presets()[name].read_text())
    as_file, as_preset = _told(capsys, "config", "--config", "mine.toml"), _told(capsys, "config", "--preset", name)
    assert as_file == as_preset.replace(f"# preset {name}", "# file mine.toml")
