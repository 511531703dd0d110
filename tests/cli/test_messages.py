"""The one line that bad input gives: what was typed, the exit code, what the line names. Nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nashward.cli.main import main
from nashward.games.solvers import MIRROR_STEPS, TABLES_ONLY
from nashward.llm import pocket

from . import absent
from .message_files import fill
from .solve_messages import SOLVE

POLICY, ORACLE = ["--policy", str(pocket.POLICY)], ["--oracle", str(pocket.PAIRRM)]
PROMPTS, OUT = ["--prompts", "prompts.jsonl"], ["--out", "new"]
ALIGN = ["align", *POLICY, *ORACLE, *PROMPTS, *OUT]
FIT = ["fit-oracle", "--pairs", "votes.jsonl", "--base", str(pocket.PAIRRM), "--kind", "pairrm", *OUT]
BOARD = ["leaderboard", "answers", *PROMPTS, "--oracle", "nashward.llm.oracles:Length"]
PLAN = ["plan", *POLICY, "--memory", "6GiB"]
# of a line what its reader needs, by " | ": the entry, the file, the option, the value; <help>: where the help is
LONG = "x" * 300
NASHWARD: list[tuple[list[str], str]] = [
    (["--version="], "--version | --help"),
    (["--nope"], "a command is needed | --help"),
    (["algin"], "'algin' | align | --help"),
    (["slove"], "'slove' | solve | --help"),
    (["Solve"], "'Solve' | solve | --help"),
    (["fit_oracle"], "'fit_oracle' | fit-oracle | --help"),
    (["eval"], "'eval' | evaluate | --help"),
    (["leader-board"], "'leader-board' | leaderboard | --help"),
    (["align", "--model", "x"], "--model | --policy | nashward align --help"),
    (["plan", "--model", "x", "--memory", "6GiB"], "--model | --policy | nashward plan --help"),
    (["export", "run", "--to", "gguf", *OUT], "gguf | --to merged | docs/serve.md | nashward export --help"),
    (["exploit", "run", "--device", "cpu"], "--device | nashward plan, fit-oracle | nashward exploit --help"),
    (["align", "--memory", "8GB"], "--memory | nashward plan has it | nashward align --help"),
    (["fit-oracle", "--model", "x"], "--model | --base | nashward fit-oracle --help"),
    (["fit-oracle", "--lr", "1"], "--lr | --learning-rate | nashward fit-oracle --help"),
    (["judge", "--reward-model", "x"], "--reward-model | --oracle | nashward judge --help"),
    ([*ALIGN, "--solver", "own:HalfWay"], "own:HalfWay | No module named 'own' | module:name"),
    ([*ALIGN, "--solver", "json:dumps"], "json:dumps | dataclass | docs/new-solver.md"),
    ([*ALIGN, "--solver", "nashward.games:MWU:step=2"], "'nashward.games:MWU:step=2' | module:Class | as --step"),
    ([*ALIGN, "--solver", "MWU:step=2"], "'MWU:step=2' | as --step"),
    ([*ALIGN, "--people-votes", "9"], "--people-votes | --oracle people:FOLDER"),
    (["best-of-n", "--objective", "a=b"], "--objective | one oracle | --combine"),
    (["mix", "a", *OUT, *ORACLE], "--oracle | --weights nash"),
    (["mix", "a", *OUT, "--temperature", "0.5", "--weights", "linear"], "--temperature | --weights nash"),
]
DEMO = [
    (["--out", "prompts.jsonl"], "prompts.jsonl is a file | --out"),
    (["--out", "answers"], "answers is not empty | --out"),
    (["--out", ""], "--out | got nothing | <help>"),
    ([*OUT, "--iterations", "0"], "iterations | got 0"),
    ([*OUT, "--seed", "x"], "--seed | 'x' | <help>"),
    (["--proof", "--seed", "1"], "--proof | --seed"),
]
FLAGS = [  # of align, and of the stages that have them
    (["--lerning-rate", "1"], "--lerning-rate | --learning-rate | <help>"),
    (["--lr", "1e-4"], "--lr | --learning-rate | <help>"),
    (["--LR=1e-4"], "--LR | --learning-rate | <help>"),
    (["--learning_rate", "1e-4"], "--learning_rate | --learning-rate | <help>"),
    (["--eta", "1"], "--eta | --step | eta = 1 / beta | <help>"),
    (["--beta=0.1"], "--beta | --step = 1 / beta | --tau | <help>"),
    (["--loss", "online-dpo"], "online-dpo | the nearest is dpo; | <help>"),
    (["--preset", "sppo"], "sppo | the nearest is sppo-paper; | <help>"),
    (["--lora-r", "8"], "--lora-r | --rank | <help>"),
    (["--lora_alpha", "8"], "--lora_alpha | --alpha | <help>"),
    (["--batch-size", "8"], "--batch-size | --batch | <help>"),
    (["--num-train-epochs", "8"], "--num-train-epochs | --epochs | <help>"),
    (["--output-dir", "x"], "--output-dir | --out | <help>"),
    (["--num_generations", "8"], "--num_generations | --responses | <help>"),
    (["--max-completion-length", "8"], "--max-completion-length | --max-new-tokens | <help>"),
    (["--load_in_4bit"], "--load_in_4bit | --quantise | <help>"),
    (["--dataset", "x"], "--dataset | --prompts | <help>"),
    (["-lr", "1"], "-lr | --learning-rate | <help>"),
    (["--oracle", "votes.jsonl"], "votes.jsonl | prompts | nashward fit-oracle --pairs votes.jsonl"),
    (["--learning-rate=--"], "--learning-rate | got -- | --help"),
    (["--learning-rate", "nan"], "--learning-rate | nan | <help>"),
    (["--learning-rate", "inf"], "learning_rate | got inf"),
    (["--learning-rate=-1"], "learning_rate | got -1.0"),
    (["--epochs", "1.5"], "--epochs | '1.5' | <help>"),
    (["--epochs", "0"], "epochs | got 0"),
    (["--batch", "9" * 30], f"--batch | {'9' * 30} | <help>"),
    (["--held-out", "1"], "held_out | 1 | below 1"),
    (["--optimiser", "lbfgs"], "lbfgs | max_grad_norm"),
    (["--selection", "some"], "--selection | 'some' | <help>"),
    (["--selection", "best-worst"], "--selection | plug-in | best-worst | centred"),
    (["--temperature", "inf"], "temperature | got inf"),
    (["--top-p", "0"], "top_p | got 0.0"),
    (["--max-new-tokens", "0"], "max_new_tokens | got 0"),
    (["--rank", "0"], "--rank | got 0"),
    (["--alpha", "inf"], "--alpha | got inf"),
    (["--mlp-tokens", "some"], "--mlp-tokens | 'some' | <help>"),
    (["--mlp-tokens", "0"], "mlp_tokens | got 0"),
    (["--adapters", "float16"], "--adapters | float32 | 'float16' | <help>"),
    (["--responses", "1"], "responses | got 1"),
    (["--iterations", "0"], "iterations | got 0"),
    (["--drop-similar", "0"], "drop_similar | above 0 | got 0"),
    (["--drop-similar", "2"], "drop_similar | at most 1 | got 2"),
    (["--augment", "me"], "augment | 'me' | policy | openai:MODEL"),
    (["--augment-url", "http://localhost:1/v1"], "augment_url | openai:MODEL"),
    (["--prompts-per-iteration", "0"], "prompts_per_iteration | got 0"),
    (["--prompt-selection", "informative"], "prompts_per_iteration | informative"),
    (["--prompt-selection", "coverage"], "prompts_per_iteration | coverage"),
    (["--prompt-encoder", "real:minilm"], "prompt_encoder | coverage"),
    (["--prompt-floor", "0"], "prompt_floor | above 0 | got 0"),
    (["--prompt-floor", "1.5"], "prompt_floor | at most 1 | got 1.5"),
    (["--max-prompt-tokens", "0"], "6 prompts read | 0 kept | 6 longer than 0 tokens"),
    (["--solver", "sgd"], "solver | 'sgd' | OptimisticMWU"),
    (["--solver", "mwu", "--tau", "1"], "MWU | tau"),
    (["--preset", "paper"], "--preset | 'paper' | <help>"),
    (["--config", "none.toml"], "configuration file | none.toml"),
    (["--config", "answers"], "answers is a folder | configuration file"),
    (["--config", "latin.csv"], "latin.csv | UTF-8"),
    (["--prompts", "none.jsonl"], "prompts file | none.jsonl"),
    (["--prompts", "answers"], "answers | prompts | .jsonl"),
    (["--prompts", "nobody/none"], "nobody/none | .jsonl | --repo-type"),
    (["--prompts", "blank.jsonl"], "blank.jsonl | no prompts | 0 rows read"),
    (["--prompts", "half.jsonl"], "half.jsonl | no prompts | not Unicode"),
    (["--prompts", "latin.txt"], "latin.txt | cannot be read"),
    (["--prompts", "deep.jsonl"], "deep.jsonl | JSONL"),
    (["--prompts", "number.json"], "number.json | row 2"),
    (["--prompts", "object.json"], "object.json | list of prompts | dict"),
    (["--phases", "2:1"], "--phases | array of tables | '2:1' | <help>"),
    (["--phases", "[{iterations = 0}]"], "iterations | got 0"),
    (["--sft", "none.jsonl"], "responses file | none.jsonl"),
    (["--sft", "prompts.jsonl"], "prompts.jsonl | row 1 | response"),
    (["--sft", "mute.jsonl"], "mute.jsonl | row 1 | empty"),
    (["--sft", "gpt.jsonl"], "gpt.jsonl | 1 response | 2 at least"),
    (["--sft", "number.json"], "number.json | row 1 | str"),
    (["--sft", "work.jsonl", "--max-new-tokens", "1", "--max-prompt-tokens", "1"],
     "SFT | --max-prompt-tokens | --max-new-tokens"),
    (["--sft-weight=-1"], "sft_weight | got -1.0"),
    (["--sft-limit", "0.1"], "SFT | --sft"),
    (["--sft-limit", "x"], "--sft-limit | 'x' | <help>"),
    (["--sft-limit=-1"], "--sft-limit | got -1.0"),
    (["--win-rate-floor", "2"], "win_rate | [0, 1] | got 2.0"),
    (["--win-rate-floor", "0.5", "--loss", "gpo"], "gpo | win rate"),
    (["--limit-factor", "1"], "--limit-factor | got 1.0"),
    (["--limit-lowers", "both"], "--limit-lowers | 'both' | <help>"),
    (["--mixtures", "both"], "--mixtures | 'both' | <help>"),
    (["--opponents", "none.jsonl"], "responses | none.jsonl"),
    (["--opponents", "twins"], "twins | a.json and a.jsonl"),
    (["--opponents", "answers"], "answers/a.json | row 1"),
    (["--opponents", "prompts.jsonl"], "prompts.jsonl | row 1 | response"),
    (["--opponents", "object.json"], "object.json | list of responses | dict"),
    (["--opponents", "mute.jsonl"], "mute.jsonl | row 1 | empty"),
    (["--opponents", "gpt.jsonl"], "gpt | 5 of 6 prompts | 'Tell me about bread 1.'"),
    (["--opponents", "gpt.jsonl", "--opponent-shares", "2"], "opponents | got {'gpt': 2.0}"),
    (["--opponents", "gpt.jsonl", "--opponent-shares", "some"], "some | gpt=0.2,claude=0.1"),
    (["--opponents", "gpt.jsonl", "--opponent-shares", "claude=0.2"], "shares claude=0.2 | claude has no responses"),
    (["--opponent-shares", "0.2"], "shares 0.2 | --opponents"),
    (["--opponent-shares", "gpt=0.2"], "new | responses of gpt"),
    (["--opponents", "gpt.jsonl", "--solver", "regret-matching"], "RegretMatching | games.solve | MWU"),
    (["--prompt-field", "text"], "prompts.jsonl | row 1 | no text | it has prompt"),
    (["--prompts", LONG], f"{LONG} | too long"),
    (["--chat-template", "none.jinja"], "chat template | none.jinja"),
    (["--chat-template", "prompts.jsonl"], "prompts.jsonl | {{ | {%"),
    (["--chat-template", "{% x %}"], "chat template | Jinja"),
    (["--chat-template", "{{ 1 / 0 }}"], "chat template | ZeroDivisionError"),
    (["--adapter", "none"], "none | adapter | hf download none"),
    (["--adapter", "answers"], "answers | adapter_config.json"),
    (["--cache", "answers"], "answers is a folder | judgements"),
    (["--cache", "prompts.jsonl"], "prompts.jsonl | cache of judgements"),
    (["--cache", "prompts.jsonl/c"], "judgements | prompts.jsonl/c | prompts.jsonl is a file"),
    (["--out", "prompts.jsonl"], "prompts.jsonl is a file | --out"),
    (["--out", "prompts.jsonl/x"], "prompts.jsonl/x | prompts.jsonl is a file"),
    (["--out", "answers"], "answers is not empty | a.json"),
    (["--out", ""], "--out | got nothing | <help>"),
    (["--out", "run", "--seed", "3", "--solver", "mwu"],
     "run | solver.name | 'OptimisticMWU' | 'MWU' | seed 0 there, 3 now"),
    (["--out", "torn"], "torn/run.json | JSON"),
    (["--out", "deep"], "deep/run.json | JSON"),
    (["--out", "foreign"], "foreign/run.json | nashward run"),
    (["--out", "altered"], "altered/run.json | not as it was written"),
    (["--policy", "answers"], "answers | config.json"),
    (["--policy", "./none"], "model folder | ./none"),
    (["--policy", "./answesr"], "./answesr | the nearest is answers"),
    (["--policy", "nobody/none"], "nobody/none | hf download nobody/none"),
    (["--policy", "my model"], "my model | hub | owner/name"),
    (["--policy", "owner--name"], "owner--name | hub | owner/name"),
    (["--adapter", "my adapter"], "my adapter | adapter | owner/name"),
    (["--policy", "none.gguf"], "GGUF file | none.gguf"),
    (["--policy", "text.gguf"], "text.gguf | GGUF"),
    (["--policy", "real:none"], "real:none | real:smollm2-135m | real:minilm"),
    (["--policy", "pocket:none"], "pocket:none | pocket:policy"),
    (["--policy", "pocket:pairrm"], "pocket:pairrm | PairRM | --policy | --oracle"),
    (["--policy", "pocket:prompts"], "prompts.txt"),
    (["--prompts", "pocket:none"], "pocket:none | pocket:prompts"),
    (["--prompts", "pocket:policy"], "policy is a folder | prompts"),
    (["--oracle", "pocket:none"], "pocket:none | pocket:pairrm"),
    (["--oracle", "pocket:policy"], "LlamaForCausalLM | PairRM | --policy | --oracle"),
    (["--oracle", "pocket:prompts"], "pocket:prompts is a file | votes | pocket:pairrm"),
    (["--policy", "broken"], "configuration of broken | hidden_size"),
    (["--policy", "deep"], "deep/config.json | JSON"),
    (["--policy", "plain"], "plain | chat template | --chat-template"),
    (["--policy", "endless"], "endless | tokenizer | eos_token"),
    (["--policy", ORACLE[1]], f"{ORACLE[1]} | PairRM | --policy | --oracle"),
    (["--oracle", POLICY[1]], f"{POLICY[1]} | LlamaForCausalLM | PairRM | --policy | --oracle"),
    (["--oracle", "none"], "oracle | none | owner/name"),
    (["--oracle", "none.jsonl"], "file of votes | none.jsonl"),
    (["--oracle", "nobody/none"], "nobody/none | hf download nobody/none"),
    (["--oracle", f"nobody/{'x' * 97}"], f"nobody/{'x' * 97} | folder | hub"),
    (["--oracle", "deep"], "deep/config.json | JSON"),
    (["--oracle", "nowhere:Mine"], "nowhere:Mine | 'nowhere' | module:name"),
    (["--oracle", "mine.py"], "mine.py | mine:NAME"),
    (["--oracle", "mine.py:Mine"], "mine.py:Mine | mine:Mine"),
    (["--oracle", "../mine.py:Mine"], "../mine.py:Mine | module:name | .py"),
    (["--oracle", "json:JSONEncoder"], "json.encoder.JSONEncoder | no oracle | module:name"),
]  # fmt: skip
RUNS = [
    (["align"], "--out FOLDER | --config"),
    (["align", *OUT], "a policy is needed | hub id"),
    (["align", *OUT, *POLICY], "an oracle is needed | PairRM | module:name"),
    (["align", *OUT, *POLICY, *ORACLE], "new | no prompts"),
    (["align", *OUT, *POLICY, *PROMPTS, "--oracle", "people:"], "people:FOLDER"),
    (["sample", *OUT, *POLICY], "new | no prompts"),
    (["judge", *OUT, *ORACLE], "new | no run | nashward sample"),
    (["train", *OUT], "new | no run | nashward sample"),
    (["sample", *OUT, *POLICY, "--prompts", "Why is it?"], "'Why is it?' | .jsonl | dataset"),
    (["train", "--out", "run"], "not judged yet | oracle | module:name"),
    (["judge", "--out", "run"], "not judged yet | oracle | module:name"),
    (["judge", "--out", "run", "--oracle", "nowhere:Mine"], "nowhere:Mine"),
    (["config", "--out", "altered"], "altered/run.json | not as it was written"),
    (["config", "--learning-rate", "inf"], "learning_rate | got inf"),
    (["config", "--responses", "1"], "responses | got 1"),
    (["status", "none"], "none | no run"),
    (["status", "altered"], "altered/run.json | not as it was written"),
    (["align", *OUT, "--from", "end"], "--from | 'end' | <help>"),
    (["report", "none"], "none | run.json"),
    (["report"], "required: FOLDER | <help>"),
    (["report", "none", "answers"], "none | run.json"),
    (["report", "none", "./none"], "comparison | two or more run folders"),
    (["report", "none", "--out", "answers"], "answers | --out"),
]
OTHERS = [
    (["plan"], "required: --policy | <help>"),
    ([*PLAN, "--memory", "x"], "'x' | 6GiB | 8GB | 12000MiB"),
    ([*PLAN, "--memory", "12"], "'12' | unit | 12GiB"),
    ([*PLAN, "--memory", "12288"], "'12288' | unit | MiB"),
    ([*PLAN, "--memory", "7.5"], "'7.5' | unit | 7.5GiB"),
    ([*PLAN[:3], "--budget", "12, 10h"], "'12' | unit | 12GiB"),
    ([*PLAN, "--memory", "-6GiB"], "--memory: expected a value | <help>"),
    ([*PLAN, "--memory", "1MiB"], "does not fit | training | 1024 tokens"),
    ([*PLAN, "--policy", "nobody/none"], "folder nobody/none | model nobody/none | config.json | --policy FOLDER"),
    (["plan", "--preset", "quick"], "--policy | --preset | <help>"),
    ([*PLAN, "--rank", "0"], "rank is 0"),
    ([*PLAN, "--iterations", "0"], "iterations is 0"),
    ([*PLAN, "--tflops", "0"], "tflops is 0.0"),
    ([*PLAN, "--policy", "broken"], "configuration of broken | hidden_size"),
    (["fit-oracle"], "required: --base, --out | <help>"),
    ([*FIT, "--kind", "elo"], "--kind | 'elo' | <help>"),
    ([*FIT, "--pairs", "none.jsonl"], "votes file | none.jsonl"),
    ([*FIT, "--pairs", "prompts.jsonl"], "prompts.jsonl | row 1 | wins, p, winner, chosen"),
    ([*FIT, "--pairs", "wins.jsonl"], "wins.jsonl | row 1"),
    ([*FIT, "--base", "none"], "none | llm-blender/PairRM"),
    ([*FIT, "--base", "deep"], "deep/config.json | JSON"),
    ([*FIT, "--out", "answers"], "answers | folder"),
    ([*FIT, "--folds", "1"], "folds is 1"),
    ([*FIT, "--train", "some"], "--train | 'some' | <help>"),
    ([*FIT, "--device", "quantum"], "device | 'quantum' | cuda:1"),
    (["leaderboard"], "required: responses | <help>"),
    (["leaderboard", "answers"], "judged | --prompts and --oracle"),
    (["leaderboard", "wins.jsonl", "--seed", "-1"], "--seed | got -1"),
    (["leaderboard", "wins.jsonl", "--json", "answers"], "--json | answers/nash.json"),
    (["leaderboard", "wins.jsonl", "--json", "wins.jsonl"], "--json wins.jsonl | responses wins.jsonl"),
    ([*BOARD, "--json", "answers/board.json"], "--json answers/board.json | a model's answers"),
    ([*BOARD, "--json", "prompts.jsonl"], "--json prompts.jsonl | --prompts prompts.jsonl"),
    (["evaluate", "run", "--prompt-field", "text"], "--prompt-field text | --prompts"),
    (["answer", *POLICY, *PROMPTS, "--prompt-field", "text", *OUT], "prompts.jsonl | row 1 | no text | it has prompt"),
    (["answer", *POLICY, *PROMPTS, "--prompt-field", "text", "--format", "mt-bench", *OUT], "--prompt-field text"),
    (["answer", *POLICY, *PROMPTS, "--out", "prompts.jsonl"], "--out prompts.jsonl | --prompts prompts.jsonl"),
    (["diagnose", "--oracle", "votes.jsonl", "--report", "votes.jsonl"], "--report votes.jsonl | --oracle votes.jsonl"),
    (["vote", "--import", "votes.jsonl", "--export", "votes.jsonl"], "--export votes.jsonl | --import votes.jsonl"),
    (["leaderboard", "wins.jsonl", "--save", "good.csv/x.csv"], "good.csv/x.csv | good.csv is a file"),
    (["leaderboard", "good.csv"], "good.csv | win probabilities | nashward solve"),
    ([*BOARD, "--without-annotator", "len"], "--without-annotator | answers | file of battles"),
    ([*BOARD, "--without-model", "len"], "--without-model | answers | file of battles"),
    ([*BOARD, "--category", "math"], "--category | answers | file of battles"),
    (["leaderboard", "wins.jsonl", *PROMPTS], "wins.jsonl | --prompts"),
    (["leaderboard", "wins.jsonl", "--prompt-field", "q"], "wins.jsonl | --prompt-field"),
    ([*BOARD, "--limit", "0"], "--limit is 0"),
    ([*BOARD, "--save", "t.txt"], "--save | t.txt | .csv"),
    ([*BOARD, "--oracle", "none"], "oracle | none | owner/name"),
    (["leaderboard", "none", *BOARD[2:]], "battles | responses none"),
    (["leaderboard", "twins", *BOARD[2:]], "two files for a"),
    ([*BOARD, "--prompts", "none.txt"], "prompts | none.txt"),
]  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the rows speak of, the start of a run among it."""
    here = tmp_path_factory.mktemp("here")
    fill(here)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        sample = ["sample", *POLICY, *PROMPTS, "--out", "run", "--iterations", "1"]
        assert main([*sample, "--responses", "2", "--max-new-tokens", "4", "--quiet"]) == 0
    held = json.loads((here / "run" / "run.json").read_text())
    held["config"]["fit"]["epochs"] = "two"
    (here / "altered").mkdir()
    (here / "altered" / "run.json").write_text(json.dumps(held))
    return here


def _content(folder: Path) -> dict[Path, bytes | None]:
    return {file: file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


def _check(
    here: Path, arguments: list[str], expected: str, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patch.chdir(here)
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = _content(here)
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("nashward: ")
    assert absent(line.removeprefix("nashward: "), expected) == [], line
    assert "Traceback" not in out
    assert _content(here) == before


def _rows(*tables: tuple[list[str], list[tuple[list[str], str]]]) -> list[Any]:
    return [
        pytest.param(
            arguments := [*before, *more],
            line.replace("<help>", f"nashward {arguments[0]} --help") if arguments else line,
            id=" ".join([*before[:1], *more])[-60:],
        )
        for before, rows in tables
        for more, line in rows
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    _rows(([], NASHWARD), (["solve"], SOLVE), (["demo"], DEMO), (ALIGN, FLAGS), ([], RUNS), ([], OTHERS)),
)
def test_bad_arguments_give_one_line_and_write_nothing(
    here: Path, arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _check(here, arguments, line, monkeypatch, capsys)


def test_the_nearest_name_of_a_flag_is_that_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("sample", "train", "config"):
        assert main([command, "--lerning-rate", "1"]) == 2
        assert f"the nearest is --learning-rate; see nashward {command} --help" in capsys.readouterr().err
    assert main(["judge", "--lerning-rate", "1"]) == 2
    assert "nearest" not in capsys.readouterr().err


def test_a_misspelt_solver_lists_those_that_the_command_plays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = [kind.__name__ for kind in TABLES_ONLY]
    assert main([*ALIGN, "--solver", "replicato"]) == 2
    said = capsys.readouterr().err
    assert all(kind.__name__ in said for kind in MIRROR_STEPS)
    assert not any(name in said for name in only)
    assert main(["solve", "rock_paper_scissors", "--solver", "unheard"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in only)
