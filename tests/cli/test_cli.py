"""The command line as a user types it: what is printed and written. What is refused: test_messages.py."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
from transformers import AutoModelForCausalLM

from nashward import games
from nashward.cli.commands import COMMANDS
from nashward.cli.demo.demo import self_play
from nashward.cli.main import build_parser, main
from nashward.llm import Mixture, oracles, pocket
from nashward.llm.evaluation.tournament import tournament
from nashward.llm.pocket import styles
from nashward.llm.run.selfplay import metrics
from nashward.llm.store.files import read_shard

POCKET = ["--policy", str(pocket.POLICY), "--oracle", str(pocket.PAIRRM)]
SMALL = shlex.split(
    "--responses 2 --max-new-tokens 40 --learning-rate 3e-3 --epochs 1 --batch 4 --tokens 1500 --rank 4 --held-out 0.2"
)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Tell me about bread {i}."}) + "\n" for i in range(6)))
    return file


def test_help_and_status_are_made_without_torch() -> None:
    heavy = ("torch", "numpy", "scipy", "matplotlib", "transformers", "pyarrow")
    code = (
        f"import sys; from nashward.cli.main import build_parser; build_parser().format_help()\n"
        "import nashward.llm.run.status\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_can_be_no_oracle_by_its_name_is_refused_without_torch(tmp_path: Path) -> None:
    (tmp_path / "oracles" / "mine").mkdir(parents=True)
    names = ("pocket:pairm", "votes.jsonl", "mine", "no_such_module:Judge", "real:minilm", "judge:pocket:polcy",
             "oracles/mien", "./oracles/mien")  # fmt: skip
    code = (
        "import sys; from nashward.cli.main import main\n"
        "run = ['align', '--policy', 'pocket:policy', '--prompts', 'pocket:prompts', '--out', 'run']\n"
        f"print([main([*run, '--oracle', name]) for name in {names}],\n"
        "      main([*run, '--objective', 'a=pocket:pairm', '--objective', 'b=pocket:pairrm']),\n"
        "      main(['evaluate', 'run', '--held-out', 'pocket:pairm']),\n"
        "      'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
                           env={**os.environ, "HF_HUB_OFFLINE": "1"})  # fmt: skip
    assert found.stdout == f"{[2] * len(names)} 2 2 False False\n"
    said = found.stderr.splitlines()
    assert all(name.removeprefix("judge:") in line for name, line in zip(names, said, strict=False))
    assert ["(the nearest is oracles/mine)" in line for line in said[6:8]] == [True, True]
    assert len(said) == len(names) + 2


def test_align_leaves_an_adapter_that_plain_peft_loads(
    capsys: pytest.CaptureFixture[str], prompts: Path, tmp_path: Path
) -> None:
    prompts.write_text(prompts.read_text() + '{"prompt": ""}\n{"prompt": "Tell me about bread 0."}\n')
    out = tmp_path / "run"
    command = ["align", *POCKET, "--prompts", str(prompts), "--out", str(out), "--iterations", "2", *SMALL]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "prompts: 8 prompts read, 6 kept, 2 dropped (1 empty, 1 repeated)" in text
    assert "iteration-02: target" in text
    (adapter,) = re.findall(r"^adapter: (.+)$", text, re.MULTILINE)
    plain = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(pocket.POLICY), adapter)
    assert sum(p.abs().sum() for n, p in plain.named_parameters() if "lora_B" in n) > 0
    assert (out / "report.html").exists()
    before = (out / "iteration-02" / "adapter" / "adapter_model.safetensors").read_bytes()
    assert main(command) == 0  # finished: nothing is done again
    assert (out / "iteration-02" / "adapter" / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_names_are_names_wherever_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of prompts, folders and adapters that look like paths, patterns or commands lead nowhere."""
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    rows = [{"prompt": f"../../x{i}", "id": "../../evil", "policy": "/evil", "label": "../evil"} for i in range(6)]
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = ["align", *POCKET, "--prompts", "p.jsonl", *SMALL, "--iterations", "1"]
    adapter = Path("iteration-01", "adapter")
    strange = Path("r[u]n *?; $(touch evil)")
    assert main([*run, "--out", "plain"]) == 0
    assert main([*run, "--out", str(strange)]) == 0
    weights = [folder / adapter / "adapter_model.safetensors" for folder in (Path("plain"), strange)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    rank = run.index("--rank")  # an adapter has its own
    assert main([*run[:rank], *run[rank + 2 :], "--adapter", str(strange / adapter), "--out", "again"]) == 0
    assert {entry.name for entry in home.iterdir()} == {"p.jsonl", "plain", str(strange), "again"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_stages_alone_make_what_align_makes(prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--iterations", "1", "--solver", "mwu", "--step", "2", *SMALL]
    assert main(["align", *POCKET, "--prompts", str(prompts), "--out", str(tmp_path / "whole"), *settings]) == 0
    parts = str(tmp_path / "parts")
    assert main(["sample", *POCKET[:2], "--prompts", str(prompts), "--out", parts, *settings]) == 0
    assert "Next: nashward judge" in capsys.readouterr().out
    assert not (tmp_path / "parts" / "iteration-01" / "judgements").exists()
    assert main(["judge", *POCKET[2:], "--out", parts]) == 0
    assert not (tmp_path / "parts" / "iteration-01" / "adapter").exists()
    assert "Next: nashward train" in capsys.readouterr().out
    assert main(["train", "--out", parts]) == 0
    assert "Next:" not in capsys.readouterr().out  # all iterations are made
    name = Path("iteration-01") / "adapter" / "adapter_model.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_papers_preset_is_the_paper(prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = ["sample", *POCKET[:2], "--prompts", str(prompts), "--out", str(out), "--preset", "sppo-paper"]
    assert main([*command, "--max-new-tokens", "40"]) == 0
    config = json.loads((out / "run.json").read_text())["config"]
    assert config["solver"] == {"name": "MWU", "step": 1000.0}
    assert (config["responses"], config["iterations"], config["prompts_per_iteration"]) == (5, 3, 20_000)
    fit = config["fit"]
    assert (fit["selection"], fit["baseline"], fit["optimiser"]) == ("best-worst", "constant", "rmsprop")
    assert (fit["learning_rate"], fit["batch"]) == (5e-7, 64)
    assert config["self_comparison"] is True
    assert config["sampling"]["max_new_tokens"] == 40  # an option given beside the preset wins


def test_every_command_has_help_with_a_worked_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    page = capsys.readouterr().out
    assert main([]) == 2  # the same page, for a person; a script has made a mistake
    assert capsys.readouterr().out.strip() == page.strip()
    commands = re.findall(r"^  ([\w-]+) +\w", page, re.MULTILINE)
    assert [name for name in commands if name != "nashward"] == list(COMMANDS)
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        example = text[text.index("example: nashward ") + len("example: nashward ") :]
        example = re.split(r" \d+ more options: ", example)[0]
        build_parser().parse_args(shlex.split(example))  # the worked line is one that the parser takes


@pytest.mark.parametrize("width", [60, 80])
def test_help_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for line in (["--help"], ["align", "--help-all"], ["solve", "--help"], ["diagnose", "--help"]):
        with pytest.raises(SystemExit):
            main(line)
        page = capsys.readouterr().out
        assert [text for text in page.splitlines() if len(text) > width] == []
        if "--help-all" in line:
            assert "smollm2-135m" in page  # every choice is named


def _real_prompts(
    data: Path, tmp_path: Path, count: int | None, out: str, capsys: pytest.CaptureFixture[str], *more: str
) -> str:
    source = data / "alpacaeval" / "prompts.json.gz"
    if count is not None:
        import gzip

        rows = json.loads(gzip.decompress(source.read_bytes()))
        source = tmp_path / "prompts.json"
        source.write_text(json.dumps(rows[:: len(rows) // count][:count]))
    command = ["align", *POCKET, "--prompts", str(source), "--out", str(tmp_path / out), "--iterations", "2"]
    assert main([*command, *more]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_align_on_64_real_prompts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = _real_prompts(data, tmp_path, 64, "run", capsys, *SMALL, "--max-prompt-tokens", "200")
    read, kept, dropped = map(int, re.search(r"(\d+) prompts read, (\d+) kept, (\d+) dropped", text).groups())  # type: ignore[union-attr]
    assert read == 64 == kept + dropped
    assert f"({dropped} longer than 200 tokens)" in text
    rows = [row for file in (tmp_path / "run" / "iteration-02" / "responses").glob("*") for row in read_shard(file)]
    assert len(rows) == 2 * kept
    styled = [styles.style_of(row["text"]) is not None for row in rows]
    assert sum(styled) / len(styled) > 0.85


@pytest.mark.slow
def test_align_on_all_real_prompts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--learning-rate", "3e-3", "--rank", "8", "--tokens", "1500", "--batch", "4", "--sampling-batch", "256"]
    text = _real_prompts(data, tmp_path, None, "run", capsys, *more, "--max-new-tokens", "48")
    print(text)
    assert "805 prompts read" in text
    adapter = tmp_path / "run" / "iteration-02" / "adapter"
    peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(pocket.POLICY), str(adapter))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_demo_keeps_to_the_table(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--seed", str(seed)]) == 0
    text = capsys.readouterr().out
    numbers = json.loads((out / "demo.json").read_text())
    gaps, table = numbers["gaps"], numbers["table"]
    far = {which: max(abs(a - b) for a, b in zip(gaps[which], table[which], strict=True)) for which in gaps}
    fits = metrics(out / "run")
    mixture = numbers["wins"]["mixture"]
    with capsys.disabled():
        print(
            f"\nseed {seed}: farthest from the table {far}; gaps {gaps}; table {table}; mixture's win rate {mixture}; "
            f"R2 held out {[round(row['held_out']['r2'], 2) for row in fits]}"
        )
    assert numbers["responses"] >= 500
    assert max(far.values()) <= 0.10
    assert gaps["average"][-1] <= 0.5 * gaps["average"][0]
    assert mixture["value"] > 0.5 + 2 * mixture["standard_error"]
    assert fits[0]["held_out"]["r2"] > 0
    for fit in (row["held_out"] for row in fits if row["line_fraction"] > 0):
        assert fit["r2"] > -2 * fit["r2_error"]  # what it learned is not worse than nothing on other prompts
        assert fit["kl"] < 0.5
    assert gaps["last"][-1] < gaps["last"][0]
    assert max(shares[-1] for shares in numbers["shares"]) < 0.1  # responses of no style
    assert f"mixture {mixture['value']:.3f} ± {mixture['standard_error']:.3f}" in text
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "default-src 'none'" in page  # self-contained
    assert not re.search("https?://", re.sub(r'(src|href)="[^"]*"', "", page))
    # the mixture that lies in the run is uniform, and the one that was judged: drawn again it is the same responses
    mix, play = Mixture.load(out / "run" / "mixture.json"), self_play(out / "run", 6, seed)
    assert [weight for _, weight in mix.members] == pytest.approx([1 / 6] * 6)
    prompts = [play.model.encode(prompt) for prompt in play.check().kept]
    drawn = mix.sample(play.model, prompts, play.config.responses, play.sampling, seed + 1)
    found = [styles.style_of(answer.text) for row in drawn for answer in row]
    shares = [sum(style == which for style in found) / len(found) for which in (0, 1, 2, 3, None)]
    assert shares == pytest.approx(numbers["shares"][-1])


def test_the_papers_preset_is_told_to_be_out_of_reach(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its achieved share of the target, printed beside the default's."""
    share = {}
    for name, more in (("default", ["--learning-rate", "3e-3"]), ("sppo-paper", ["--preset", "sppo-paper"])):
        out = tmp_path / name
        command = ["align", *POCKET, "--prompts", str(prompts), "--out", str(out), "--iterations", "1"]
        assert main([*command, "--max-new-tokens", "40", *more]) == 0
        text = capsys.readouterr().err
        assert ("policy gradient" in text) == (name == "sppo-paper")
        share[name] = metrics(out)[0]["train"]["share"]
    with capsys.disabled():
        print(f"\nshare of the target achieved: {share}")
    assert share["sppo-paper"] < 1e-3
    assert share["default"] > 0.05


def _votes(file: Path, count: int = 60) -> Path:
    """Voters of two kinds on styles: direct wins against friendly, friendly against steps, steps against direct."""
    rng = np.random.default_rng(0)
    beats = {(0, 2), (2, 1), (1, 0)}
    rows = []
    for k in range(count):
        i, j = (int(style) for style in rng.choice(3, 2, replace=False))
        wins = 4 if (i, j) in beats else 1
        texts = {name: styles.response(style, "tea", rng) for name, style in (("a", i), ("b", j))}
        rows.append({"prompt": f"Tell me {k}.", **texts, "wins": wins, "n": 5, "voter": ("ann", "bob")[k % 2]})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_under_an_oracle_that_is_flat_the_next_step_is_another_oracle(
    capsys: pytest.CaptureFixture[str], prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flat.py").write_text(
        "from nashward.llm.oracles import Function\nflat = Function(lambda p, a, b: 0.5, symmetric=True)\n"
    )
    monkeypatch.chdir(tmp_path)
    run = ["align", "--policy", "pocket:policy", "--oracle", "flat:flat", "--prompts", str(prompts), "--out", "run"]
    assert main([*run, "--iterations", "1", "--responses", "2", "--max-new-tokens", "4"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: ")
    assert "take another one" in last
    assert "more prompts" not in last


@pytest.mark.parametrize(
    ("contradict", "verdict"), [(True, "worse than a coin"), (False, "not told apart from a coin")]
)
def test_a_fit_that_tells_nothing_is_worded_by_its_interval(
    contradict: bool, verdict: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Votes by chance, and two prompts whose votes contradict each other, of which a fold sees the other one alone."""
    rng = np.random.default_rng(0)
    rows = [{"prompt": f"Say {k}.", "a": "yes", "b": "no", "winner": "ab"[int(rng.integers(2))]} for k in range(24)]
    if contradict:
        rows = [{**row, "winner": "ab"[k % 2]} for k, row in enumerate(rows[:2])] * 40
    votes = tmp_path / "votes.jsonl"
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["fit-oracle", str(votes), "--base", "pocket:policy", "--out", str(tmp_path / "mine")]) == 0
    out = capsys.readouterr().out
    assert "nats worse)" in out or "nats better)" in out
    assert verdict in out


def test_fit_oracle_then_judge_a_leaderboard_with_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    votes = _votes(tmp_path / "votes.jsonl", 300)
    fit = ["fit-oracle", "--pairs", str(votes), "--base", str(pocket.PAIRRM), "--kind", "pairrm", "--folds", "3"]
    assert main([*fit, "--out", str(tmp_path / "mine"), "--epochs", "8", "--half"]) == 0
    out = capsys.readouterr().out
    assert "300 votes on 300 prompts by 2 annotators" in out
    assert "trained on 300 labelled, 30 near duplicates" in out
    found = re.search(r"held-out log-loss (\S+) ± (\S+) nats; a coin 0.6931", out)
    assert found is not None
    assert float(found[1]) < 0.66
    assert re.search(r"annotator ann: 750 votes, \d+% as predicted, slope", out)

    rng = np.random.default_rng(1)
    (tmp_path / "answers").mkdir()
    for style in range(3):
        texts = [styles.response(style, "tea", rng) for _ in range(12)]
        (tmp_path / "answers" / f"{styles.STYLES[style]}.json").write_text(json.dumps(texts))
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f"Say {k}.\n" for k in range(12)))
    board = ["leaderboard", str(tmp_path / "answers"), "--prompts", str(prompts), "--oracle", str(tmp_path / "mine")]
    kept = ["--cache", str(tmp_path / "c.sqlite"), "--save", str(tmp_path / "deep" / "table.csv")]
    assert main([*board, *kept]) == 0
    out = capsys.readouterr().out
    assert "3 models, 12 prompts" in out
    assert "Condorcet winner: none" in out  # a cycle, as planted
    game = games.load(tmp_path / "deep" / "table.csv")
    assert isinstance(game, games.PreferenceGame)
    P = dict(zip(game.labels, game.P.tolist(), strict=True))
    where = {name: k for k, name in enumerate(game.labels)}
    assert P["direct"][where["friendly"]] > 0.55
    assert P["friendly"][where["steps"]] > 0.55
    assert P["steps"][where["direct"]] > 0.55
    assert main([*board[:-2], "--limit", "5", "--oracle", "nashward.llm.oracles:Length"]) == 0
    assert "judged by length" in capsys.readouterr().out


def test_a_leaderboard_says_how_sure_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rule = ["--oracle", "nashward.llm.oracles:Length"]
    answers: dict[str, list[str | None]] = {"m1": ["a", "bbbb", "c"], "m2": ["aa", "b", "c"], "m3": ["aaa", None, "cc"]}
    (tmp_path / "answers").mkdir()
    for name, texts in answers.items():
        (tmp_path / "answers" / f"{name}.json").write_text(json.dumps(texts))
    (tmp_path / "p.txt").write_text("one\ntwo\nthree\n")
    board = ["leaderboard", str(tmp_path / "answers"), "--prompts", str(tmp_path / "p.txt"), *rule]
    assert main(board) == 0
    out = capsys.readouterr().out
    assert "at least 2 of 3 prompts" in out
    found = {name: re.search(rf"^{name} +(\S+) ± (\S+) +", out, re.MULTILINE) for name in answers}
    result = tournament(oracles.Length(), ["one", "two", "three"], answers)
    for k, name in enumerate(answers):
        match = found[name]
        assert match is not None
        assert float(match[1]) == pytest.approx(result.win_rate[k], abs=6e-4)
        assert float(match[2]) == pytest.approx(result.win_rate_error[k], abs=6e-4)
    assert main([*board, "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "judged on at least" not in out
    assert re.search(r"^m3 +0\.\d+ ± \? +1\.000 ", out, re.MULTILINE)  # one prompt has no spread


def test_align_under_votes_and_under_a_rule_in_python(
    capsys: pytest.CaptureFixture[str], prompts: Path, tmp_path: Path
) -> None:
    run = ["--prompts", str(prompts), "--iterations", "1", *SMALL]
    policy = ["--policy", str(pocket.POLICY)]
    rule = ["--oracle", "nashward.llm.oracles:Length", "--out", str(tmp_path / "run")]
    assert main(["align", *policy, *rule, *run]) == 0
    with oracles.Cache(tmp_path / "run" / "judgements.sqlite") as cache:
        kept = len(cache)
    assert kept > 0
    capsys.readouterr()
    shared = tmp_path / "shared.sqlite"
    judged = ["align", *policy, *rule[:2], "--out", str(tmp_path / "other"), *run, "--cache", str(shared)]
    assert main(judged) == 0
    with oracles.Cache(shared) as cache:
        assert len(cache) == kept
    votes = _votes(tmp_path / "votes.jsonl")
    assert main(["align", *policy, "--oracle", str(votes), "--out", str(tmp_path / "third"), *run]) == 2
    # the votes know none of these responses
    line = capsys.readouterr().err.splitlines()[-1]
    assert "votes.jsonl" in line
    assert "fit-oracle" in line


@pytest.mark.slow
def test_settings_of_memory_reach_the_run_and_may_change(prompts: Path, tmp_path: Path) -> None:
    run = ["align", *POCKET, "--prompts", str(prompts), "--out", str(tmp_path / "run"), *SMALL]
    saving = ["--optimiser", "adamw8bit", "--checkpoints", "host", "--embeddings", "host", "--mlp-tokens", "16"]
    assert main([*run, "--iterations", "1", *saving]) == 0
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    placed = {"checkpoints": "host", "embeddings": "host", "mlp_tokens": 16}
    assert config["placement"] == placed
    assert config["fit"]["optimiser"] == "adamw8bit"
    assert metrics(tmp_path / "run")[0]["train"]["share"] > 0
    assert main([*run, "--iterations", "2", "--optimiser", "adamw8bit", "--mlp-tokens", "32"]) == 0  # memory only
