"""Every line that bad input gives: what was typed, the exit code, the line. What is refused writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward.cli.main import main
from nashward.llm import pocket

from ..llm import tiny

POLICY, ORACLE = ["--policy", str(pocket.POLICY)], ["--oracle", str(pocket.PAIRRM)]
PROMPTS, OUT = ["--prompts", "prompts.jsonl"], ["--out", "new"]
ALIGN = ["align", *POLICY, *ORACLE, *PROMPTS, *OUT]
FIT = ["fit-oracle", "--pairs", "votes.jsonl", "--base", str(pocket.PAIRRM), "--kind", "pairrm", *OUT]
BOARD = ["leaderboard", "answers", *PROMPTS, "--oracle", "nashward.llm.oracles:Length"]
PLAN = ["plan", *POLICY, "--memory", "6GiB"]
ANY = "<any>"  # in a line: words of another library, which its next version may change
# <help> at its end: where the command's help is

LONG = "x" * 300
ACCEPTED = (
    "the folder or hub id of a PairRM, a GPM or a reward model, a file of votes (.jsonl, .json, .csv, .parquet), "
    "module:name, a PreferenceOracle, an object with judge(prompts, pairs), or reward functions (prompts, completions) "
    "-> numbers"
)
PICTURES = "avif, eps, gif, jpeg, jpg, pdf, pgf, png, ps, raw, rgba, svg, svgz, tif, tiff, webp"
FILES = ".jsonl, .json, .csv, .parquet, .txt"

NASHWARD: list[tuple[list[str], str]] = [
    ([], "a command is needed; see nashward --help"),
    (["--nope"], "a command is needed; see nashward --help"),
    (["algin"], f"there is no command 'algin' (choose from {ANY}); see nashward --help"),
]
SOLVE = [
    ([], "the following arguments are required: table<help>"),
    (["none.csv"], "none.csv does not exist; expected a payoff table (.csv, .npz or .parquet)"),
    (["answers"], "answers is a folder, not a file; expected a payoff table (.csv, .npz or .parquet)"),
    (["votes.jsonl"], "votes.jsonl is of an unknown type '.jsonl'; expected .csv, .npz or .parquet"),
    (["empty.csv"], "empty.csv is empty; expected labels in the first row and column, and numbers"),
    (["ragged.csv"], "ragged.csv: row b has 1 numbers, expected 2"),
    (["semicolons.csv"], "semicolons.csv: cells are separated by ';'; expected commas, and points in numbers"),
    (["counts.csv"], "counts.csv: a preference game holds win probabilities, got numbers from 0 to 7; of counts take "
     "shares, and for payoffs give the total of the two players (0 where one wins what the other loses)"),
    (["words.csv"], "words.csv: entry [a, b] is not a number: 'x'"),
    (["sums.csv"], f"sums.csv: {ANY}P[a, b] = 0.9 and P[b, a] = 0.2 sum to 1.1{ANY}"),
    (["nan.csv"], f"nan.csv: entry {ANY} is not a finite number: nan"),
    (["twice.csv"], f"twice.csv: {ANY}repeated: a"),
    (["latin.csv"], f"latin.csv cannot be read as CSV in UTF-8: {ANY}"),
    (["broken.npz"], "broken.npz is no .npz archive of plain arrays; numpy.savez writes one"),
    (["words.npz"], "words.npz: the array P holds <U1, expected numbers"),
    (["labels.npz"], "labels.npz: expected 2 action labels, got 1"),
    (["two.npz"], "two.npz must hold an array P (and optionally labels), it holds A, B"),
    (["batch.npz"], "batch.npz holds a batch of games of shape (3,); give one game"),
    (["broken.parquet"], f"broken.parquet is no Parquet file: {ANY}"),
    (["good.csv", "extra"], "there is no argument extra<help>"),
    (["good.csv", "--iteration", "3"], "there is no argument --iteration; the nearest is --iterations<help>"),
    (["good.csv", "--iterations", "x"], "--iterations: expected a whole number, got the string 'x'<help>"),
    (["good.csv", "--solver", "mwu", "--iterations", "0"], "iterations must be a whole number >= 1, got 0"),
    (["good.csv", "--solver", "sgd"], f"no solver 'sgd'; there are MWU, OptimisticMWU, {ANY}"),
    (["good.csv", "--solver", ""], "--solver: expected a string, got nothing<help>"),
    (["good.csv", "--solver", "mwu", "--tau", "1"], "MWU has no tau; it has step"),
    (["good.csv", "--solver", "mwu", "--step", "x"], "--step: expected a number, got the string 'x'<help>"),
    (["good.csv", "--solver", "mwu", "--step", "nan"], "--step: expected a number, got the float nan<help>"),
    (["good.csv", "--solver", "mwu", "--step", "-1"], "the step of iteration 1 must be a positive number, got -1.0"),
    (["good.csv", "--solver", "mwu", "--step"],
     "--step: expected a value (one that begins with - is joined by =)<help>"),
    (["good.csv", "--step", "1"], "--step is a setting of a solver: give --solver as well"),
    (["good.csv", "--total", "inf"], "good.csv: the total of the payoffs must be a finite number, got inf"),
    (["wide.csv"], "wide.csv: a preference game needs a square table, got 1 x 2; for a game of two different players "
     "give the total of the payoffs"),
    (["wide.csv", "--total", "1", "--plot", "p.png"],
     "the picture of an n x m game shows a solver's gaps: give --solver as well"),
    (["comal_cicle"], "there is no file comal_cicle, nor a game 'comal_cicle'; the nearest is comal_cycle"),
    (["zoo:none"], f"there is no game 'none'; there are: biased_rock_paper_scissors, {ANY}"),
    (["zoo:comal_cycle:n=3"], "comal_cycle has no n; it has no settings"),
    (["zoo:indifference:n"], "indifference:n: expected NAME:setting=value, got 'n'"),
    (["zoo:indifference:n=3:n=4"], "indifference:n=3:n=4: n is given twice"),
    (["zoo:indifference:n=0"], "n must be a whole number >= 1, got 0"),
    (["zoo:indifference", "--total", "1"], "--total goes with a file; zoo:indifference is a preference game"),
    (["generator:none"], f"there is no generator 'none'; there are: tournament, {ANY}"),
    (["generator:tournament"], "tournament needs n, seed; for example tournament:n=5"),
    (["generator:tournament:n=5:seed=-1"], "a seed is a whole number >= 0, got -1"),
    (["generator:disc:n=x"], "disc: n: expected a whole number, got the string 'x'"),
    (["generator:blotto:troops=-3"], "troops must be a whole number >= 1, got -3"),
    (["good.csv", "--solver", "mwu,"], f"no solver ''; there are MWU, {ANY}"),
    (["good.csv", "--solver", "mwu,mwu"], "mwu: this solver is given twice; give another one, or other settings"),
    (["good.csv", "--solver", "mwu", "--solver", "mwu:step=x"],
     "mwu:step=x: step: expected a number, got the string 'x'"),
    (["good.csv", "--solver", "mwu:none=1"], f"mwu:none=1: no solver has a setting 'none'; there are: step, {ANY}"),
    (["good.csv", "--solver", "mwu:tau=1"], "MWU has no tau; it has step"),
    (["good.csv", "--solver", "momentum:nesterov=x"],
     "momentum:nesterov=x: nesterov: expected true or false, got the string 'x'"),
    (["good.csv", "--solver", "mwu,regret-matching", "--step", "1"], "RegretMatching has no step; it has no settings"),
    (["good.csv", "--seed", "1"], "--seed is a setting of a solver: give --solver as well"),
    (["good.csv", "--solver", "mwu", "--seed", "1"],
     "--seed is of the draws: give --feedback samples or --feedback duels as well"),
    (["good.csv", "--solver", "mwu", "--feedback", "none"],
     "there is no feedback 'none'; there are: exact, samples, duels"),
    (["good.csv", "--solver", "mwu", "--feedback", "samples"], "samples needs k; for example samples:k=5"),
    (["good.csv", "--solver", "mwu", "--feedback", "samples:k=0"], "k must be at least 1, got 0"),
    (["good.csv", "--solver", "mwu", "--feedback", "duels:seed=1"], "duels:seed=1: the seed is given by --seed"),
    (["good.csv", "--solver", "mwu", "--start", "x"], "--start: expected probabilities joined by commas, got 'x'"),
    (["good.csv", "--solver", "mwu", "--start", "1"], "the policy must have shape [..., 2], got [1]"),
    (["wide.csv", "--total", "1", "--solver", "mwu", "--start", "1"],
     "--start is one policy, of a preference game; an n x m game starts from uniform"),
    (["good.csv", "--solver", "mwu", "--tolerance", "-1"], "--tolerance is a duality gap, a number >= 0; got -1"),
    (["good.csv", "--json", "answers"], "answers is a folder; --json names a file, for example answers/nash.json"),
    (["good.csv", "--json", "good.csv/x.json"], "good.csv/x.json cannot be written: good.csv is a file"),
    (["good.csv", "--plot", "answers"], "answers is a folder; --plot names a picture, for example answers/nash.png"),
    (["good.csv", "--plot", "p.doc"], f"p.doc is of an unknown type '.doc'; a picture is one of {ANY}"),
    (["good.csv", "--plot", "good.csv/p.png"], "good.csv/p.png cannot be written: good.csv is a file"),
]  # fmt: skip
DEMO = [
    (["--out", "prompts.jsonl"], "prompts.jsonl is a file; --out names a folder for the demo"),
    (["--out", "answers"], "answers is not empty and holds no demo; choose another folder with --out"),
    (["--out", ""], "--out: expected a path, got nothing<help>"),
    ([*OUT, "--iterations", "0"], "iterations must be at least 1, got 0"),
    ([*OUT, "--seed", "x"], "--seed: expected a whole number, got the string 'x'<help>"),
    (["--proof", "--seed", "1"], "--proof draws nothing at random: leave --seed out"),
]
FLAGS = [  # of align, and of the stages that have them
    (["--lerning-rate", "1"], "there is no argument --lerning-rate; the nearest is --learning-rate<help>"),
    (["--learning-rate=--"], "--learning-rate: expected a value, got --; see nashward --help"),
    (["--learning-rate", "nan"], "--learning-rate: expected a number, got the float nan<help>"),
    (["--learning-rate", "inf"], "fit: learning_rate must be a finite number, got inf"),
    (["--learning-rate=-1"], "fit: learning_rate must be positive, got -1.0"),
    (["--epochs", "1.5"], "--epochs: expected a whole number, got the string '1.5'<help>"),
    (["--epochs", "0"], "fit: epochs must be positive, got 0"),
    (["--batch", "9" * 30], f"--batch: expected a whole number, got the integer {'9' * 30}<help>"),
    (["--held-out", "1"], "fit: held_out and warmup must be in [0, 1), got 1.0 and 0.1"),
    (["--optimiser", "lbfgs"],
     "fit: lbfgs searches along lines and needs the gradient as it is: set max_grad_norm to inf"),
    (["--selection", "some"], "--selection: expected one of all, best-worst, got the string 'some'<help>"),
    (["--selection", "best-worst"],
     "fit: the plug-in baseline needs all responses; with best-worst take centred or constant"),
    (["--temperature", "inf"], "sampling: the temperature must be a positive number, got inf"),
    (["--top-p", "0"], "sampling: top_p must be in (0, 1], got 0.0"),
    (["--max-new-tokens", "0"], "sampling: max_new_tokens and batch must be at least 1, got 0 and 64"),
    (["--rank", "0"], "lora: the LoRA rank must be at least 1, got 0"),
    (["--alpha", "inf"], "lora: the LoRA alpha must be a positive number, got inf"),
    (["--mlp-tokens", "some"], '--mlp-tokens: expected a whole number or "all", got the string \'some\'<help>'),
    (["--mlp-tokens", "0"], "mlp_tokens must be at least 1 (or None), got 0"),
    (["--adapters", "float16"], "--adapters: expected one of float32, input, got the string 'float16'<help>"),
    (["--responses", "1"], "each prompt needs at least 2 responses to be compared with each other, got 1"),
    (["--iterations", "0"], "iterations must be at least 1, got 0"),
    (["--prompts-per-iteration", "0"], "prompts_per_iteration must be at least 1, got 0"),
    (["--max-prompt-tokens", "0"], "no prompt is left: 6 prompts read, 0 kept, 6 dropped (6 longer than 0 tokens)"),
    (["--solver", "sgd"], f"no solver 'sgd'; there are MWU, OptimisticMWU, {ANY}"),
    (["--solver", "mwu", "--tau", "1"], "MWU has no tau; it has step"),
    (["--preset", "paper"], f"--preset: invalid choice: 'paper' (choose from {ANY})<help>"),
    (["--config", "none.toml"], "there is no configuration file none.toml"),
    (["--config", "answers"], "answers is a folder, not a configuration file"),
    (["--config", "latin.csv"], f"latin.csv is no configuration file: it is not UTF-8 ({ANY})"),
    (["--prompts", "none.jsonl"], "there is no prompts file none.jsonl"),
    (["--prompts", "answers"], f"answers is a folder; prompts are read from a file ({FILES}) or a dataset id"),
    (["--prompts", "nobody/none"],
     f"nobody/none is neither a file nor a dataset that can be reached ({ANY}); give a file ({FILES}), or fetch the "
     "dataset first on a machine with network: hf download --repo-type dataset nobody/none"),
    (["--prompts", "blank.jsonl"], "blank.jsonl holds no prompts: 0 prompts read, 0 kept, 0 dropped"),
    (["--prompts", "half.jsonl"], "half.jsonl holds no prompts: 1 prompts read, 0 kept, 1 dropped (1 not Unicode)"),
    (["--prompts", "latin.txt"], f"latin.txt cannot be read as text: {ANY}"),
    (["--prompts", "deep.jsonl"], f"deep.jsonl is not valid JSONL: {ANY}"),
    (["--prompts", "number.json"], "number.json: row 2 is int, expected a string or an object with a prompt"),
    (["--prompts", "object.json"], "object.json must hold a list of prompts, it holds dict"),
    (["--phases", "2:1"], "--phases: expected an array of tables, got the string '2:1'<help>"),
    (["--phases", "[{iterations = 0}]"], "a phase has a whole number of iterations, at least 1, got 0"),
    (["--task", "none.jsonl"], "there is no responses file none.jsonl"),
    (["--task", "prompts.jsonl"],
     "prompts.jsonl: row 1 has no answer; expected a text, or one as output, response or text"),
    (["--task", "mute.jsonl"], "mute.jsonl: row 1 has an empty response; leave it out, or give null in its place"),
    (["--task", "gpt.jsonl"], "gpt.jsonl holds 1 responses; expected 2 at least, to train on and to hold out"),
    (["--task", "number.json"], "number.json: row 1 is str, expected an object with a prompt and a response"),
    (["--task", "work.jsonl", "--max-new-tokens", "1", "--max-prompt-tokens", "1"],
     "0 of 2 task texts are at most 2 tokens long (--max-prompt-tokens and --max-new-tokens together); expected 2 at "
     "least"),
    (["--task-weight=-1"], "fit: task_weight must be a finite number, at least 0, got -1.0"),
    (["--task-limit", "0.1"], "a limit on the task's likelihood needs the task: give its texts (--task)"),
    (["--task-limit", "x"], "--task-limit: expected a number or \"none\", got the string 'x'<help>"),
    (["--task-limit=-1"], "limits: task must be a number of nats a token, at least 0, got -1.0"),
    (["--win-rate-floor", "2"], "limits: win_rate must be in [0, 1], got 2.0"),
    (["--win-rate-floor", "0.5", "--loss", "gpo"],
     "gpo plays for scores, not for win rates: take the floor on the win rate out"),
    (["--limit-factor", "1"], "limits: factor must be between 0 and 1, got 1.0"),
    (["--limit-lowers", "both"], "--limit-lowers: expected one of step, learning-rate, got the string 'both'<help>"),
    (["--mixtures", "both"], "--mixtures: expected one of fitted, token-level, got the string 'both'<help>"),
    (["--opponents", "none.jsonl"], "there is no file or folder of responses none.jsonl"),
    (["--opponents", "twins"], "twins holds a.json and a.jsonl: two files for a"),
    (["--opponents", "answers"], "answers/a.json: row 1 is str, expected an object with a prompt and a response"),
    (["--opponents", "prompts.jsonl"],
     "prompts.jsonl: row 1 has no answer; expected a text, or one as output, response or text"),
    (["--opponents", "object.json"], "object.json must hold a list of responses, it holds dict"),
    (["--opponents", "mute.jsonl"],
     "mute.jsonl: row 1 has an empty response; leave it out, or give null in its place"),
    (["--opponents", "gpt.jsonl"],
     "gpt has no response to 5 of 6 prompts, the first of them 'Tell me about bread 1.'; give one to each, or leave "
     "these prompts out"),
    (["--opponents", "gpt.jsonl", "--opponent-shares", "2"],
     "the weights of the opponents must each be above 0 and together at most 1, got {'gpt': 2.0}"),
    (["--opponents", "gpt.jsonl", "--opponent-shares", "some"],
     "shares some: expected a number, or a share for each as gpt=0.2,claude=0.1"),
    (["--opponents", "gpt.jsonl", "--opponent-shares", "claude=0.2"],
     "shares claude=0.2: claude has no responses; there are gpt"),
    (["--opponent-shares", "0.2"], "shares 0.2 are of no opponents: give their responses with --opponents"),
    (["--opponent-shares", "gpt=0.2"], "new does not hold the responses of gpt; give the file that has them"),
    (["--opponents", "gpt.jsonl", "--solver", "regret-matching"],
     "RegretMatching makes no mirror steps, so only games.solve can play it, on a table; for a language model the "
     "nearest mirror step is MWU"),
    (["--prompt-field", "text"], "prompts.jsonl: row 1 has no text; it has prompt"),
    (["--prompts", LONG], f"{LONG}: File name too long"),
    (["--chat-template", "none.jinja"], "there is no chat template none.jinja"),
    (["--chat-template", "prompts.jsonl"], "prompts.jsonl is no chat template: there is no {{ and no {% in it"),
    (["--chat-template", "{% x %}"], f"the chat template is not valid Jinja: {ANY}"),
    (["--chat-template", "{{ 1 / 0 }}"], "the chat template cannot be applied: ZeroDivisionError: division by zero"),
    (["--adapter", "none"],
     f"none is neither an adapter folder nor an adapter in the cache ({ANY}); if it is a hub id, run on a machine with "
     "network: hf download none"),
    (["--adapter", "answers"], "answers is no adapter: it has no adapter_config.json that can be read"),
    (["--cache", "answers"], "answers is a folder; name a file in it to keep judgements in"),
    (["--cache", "prompts.jsonl"], "prompts.jsonl is no cache of judgements (it is no database); name another file"),
    (["--cache", "prompts.jsonl/c"],
     "judgements cannot be kept in prompts.jsonl/c: no folder can be made there (prompts.jsonl is a file)"),
    (["--out", "prompts.jsonl"], "prompts.jsonl is a file; --out names a folder for the run"),
    (["--out", "prompts.jsonl/x"], "prompts.jsonl/x cannot be written: prompts.jsonl is a file"),
    (["--out", "answers"], "answers is not empty and holds no run (a.json, ...); choose another folder"),
    (["--out", ""], "--out: expected a path, got nothing<help>"),
    (["--out", "run", "--seed", "3", "--solver", "mwu"],
     "run holds another run (solver.name 'OptimisticMWU' there, 'MWU' now; seed 0 there, 3 now); choose another "
     "folder"),
    (["--out", "torn"], f"torn/run.json is not valid JSON ({ANY}); choose another folder"),
    (["--out", "deep"], f"deep/run.json is not valid JSON ({ANY}); choose another folder"),
    (["--out", "foreign"], "foreign/run.json is not that of a nashward run; choose another folder"),
    (["--out", "altered"], f"altered/run.json is not as it was written: {ANY}"),
    (["--policy", "answers"], "answers is a folder but no model: it has no config.json"),
    (["--policy", "./none"], "there is no model folder ./none"),
    (["--policy", "nobody/none"],
     "nobody/none is neither a folder here nor a model in the cache, and the hub cannot be reached or does not have it"
     "; on a machine with network run: hf download nobody/none"),
    (["--policy", "broken"], f"the configuration of broken describes no network: {ANY}hidden_size{ANY}"),
    (["--policy", "deep"], f"deep/config.json is not valid JSON: {ANY}"),
    (["--policy", "plain"], "plain has no chat template (is it a base model?); take its instruction-tuned version, or "
     "give one with --chat-template FILE"),
    (["--policy", "endless"],
     "endless's tokenizer has neither an end-of-text token nor a pad token; set eos_token in it"),
    (["--policy", ORACLE[1]], f"{ORACLE[1]} is a PairRM, not a policy: are --policy and --oracle swapped?"),
    (["--oracle", POLICY[1]], f"{POLICY[1]} is a causal language model (LlamaForCausalLM), not a PairRM: --policy and "
     "--oracle may be swapped"),
    (["--oracle", "none"], "no oracle none: there is no such folder, and a hub id reads owner/name"),
    (["--oracle", "none.jsonl"], "there is no file of votes none.jsonl"),
    (["--oracle", "nobody/none"],
     "nobody/none is neither a folder nor in the local cache, and the hub did not give it. Fetch it on a machine with "
     "network (hf download nobody/none) or pass a local folder."),
    (["--oracle", f"nobody/{'x' * 97}"], f"nobody/{'x' * 97} is neither a folder nor in the local cache{ANY}"),
    (["--oracle", "deep"], f"deep/config.json is not valid JSON: {ANY}"),
    (["--oracle", "nowhere:Mine"],
     "nowhere:Mine is no name in Python (No module named 'nowhere'); expected module:name, the module in the working "
     "directory or installed"),
    (["--oracle", "../mine.py:Mine"], "../mine.py:Mine: '../mine.py' is no name of a module; expected module:name, the "
     "module in the working directory or installed, without a path and without .py"),
    (["--oracle", "json:JSONEncoder"], f"<json.encoder.JSONEncoder object at {ANY}> is no oracle; expected {ACCEPTED}"),
]  # fmt: skip
RUNS = [
    (["align"], 'a run folder is needed: --out FOLDER, or folder = "FOLDER" in the file of --config'),
    (["align", *OUT], "a policy is needed: a folder or hub id of a chat model"),
    (["align", *OUT, *POLICY], f"an oracle is needed: {ACCEPTED}"),
    (["align", *OUT, *POLICY, *ORACLE], "new holds no prompts yet; give a file or a dataset id"),
    (["sample", *OUT, *POLICY], "new holds no prompts yet; give a file or a dataset id"),
    (["judge", *OUT, *ORACLE], "new holds no run; nashward sample starts one"),
    (["train", *OUT], "new holds no run; nashward sample starts one"),
    (["train", "--out", "run"], f"the responses are not judged yet, which needs an oracle: {ACCEPTED}"),
    (["judge", "--out", "run"], f"the responses are not judged yet, which needs an oracle: {ACCEPTED}"),
    (["judge", "--out", "run", "--oracle", "nowhere:Mine"], f"nowhere:Mine is no name in Python {ANY}"),
    (
        ["config", "--out", "altered"],
        f"altered/run.json is not as it was written: {ANY}",
    ),
    (["config", "--learning-rate", "inf"], "fit: learning_rate must be a finite number, got inf"),
    (["config", "--responses", "1"], "each prompt needs at least 2 responses to be compared with each other, got 1"),
    (["status", "none"], f"none holds no run{ANY}"),
    (["status", "altered"], f"altered/run.json is not as it was written{ANY}"),
    (["align", *OUT, "--from", "end"], f"--from: invalid choice: 'end' (choose from {ANY})<help>"),
    (["report", "none"], "none holds no run (it has no run.json)"),
    (["report"], "the following arguments are required: FOLDER<help>"),
    (["report", "none", "answers"], "none holds no run (it has no run.json)"),
    (["report", "none", "./none"], "a comparison is of two or more run folders, each once"),
    (["report", "none", "--out", "answers"], f"answers is a folder; --out names a page, for example {ANY}"),
]
OTHERS = [
    (["plan"], "the following arguments are required: --policy<help>"),
    ([*PLAN, "--memory", "x"], "'x' is no size; expected for example 6GiB, 8GB or 12000MiB"),
    ([*PLAN, "--memory", "-6GiB"], "--memory: expected a value (one that begins with - is joined by =)<help>"),
    ([*PLAN, "--memory", "1MiB"], f"it does not fit: training one response of 1024 tokens takes {ANY}"),
    ([*PLAN, "--rank", "0"], "rank is 0; expected 1 to 1000000000"),
    ([*PLAN, "--iterations", "0"], "iterations is 0; expected 1 to 1000000000"),
    ([*PLAN, "--tflops", "0"], "tflops is 0.0; expected a positive number"),
    ([*PLAN, "--policy", "broken"],
     f"the configuration of broken describes no network: {ANY}hidden_size{ANY}"),
    (["fit-oracle"], "the following arguments are required: --pairs, --base, --kind, --out<help>"),
    ([*FIT, "--kind", "elo"], f"--kind: invalid choice: 'elo' (choose from {ANY})<help>"),
    ([*FIT, "--pairs", "none.jsonl"], "there is no votes file none.jsonl"),
    ([*FIT, "--pairs", "prompts.jsonl"],
     "prompts.jsonl: row 1 has no result; expected one of wins, p, winner, chosen; it has prompt"),
    ([*FIT, "--pairs", "wins.jsonl"], f"wins.jsonl: row 1 {ANY}"),
    ([*FIT, "--base", "none"], "no folder none; expected the folder of a model or a hub id as llm-blender/PairRM"),
    ([*FIT, "--base", "deep"], f"deep/config.json is not valid JSON: {ANY}"),
    ([*FIT, "--out", "answers"], "answers holds something already; name a new folder for the oracle"),
    ([*FIT, "--folds", "1"], "folds is 1; expected a whole number, at least 2"),
    ([*FIT, "--train", "some"], "--train: expected one of head, lora, all, got the string 'some'<help>"),
    ([*FIT, "--device", "quantum"], "there is no device 'quantum'; expected for example cpu, cuda or cuda:1"),
    (["leaderboard"], "the following arguments are required: answers<help>"),
    (["leaderboard", "answers"], "a folder of answers has to be judged: give --prompts and --oracle as well"),
    (["leaderboard", "wins.jsonl", "--seed", "-1"], "--seed is a whole number >= 0, got -1"),
    (["leaderboard", "wins.jsonl", "--json", "answers"],
     "answers is a folder; --json names a file, for example answers/nash.json"),
    (["leaderboard", "wins.jsonl", "--save", "good.csv/x.csv"], "good.csv/x.csv cannot be written: good.csv is a file"),
    (["leaderboard", "good.csv"], "good.csv: row 1 has no model_a; it has , a, b"),
    (["leaderboard", "wins.jsonl", *PROMPTS],
     "wins.jsonl is a file of battles, which are judged already: leave out --prompts"),
    ([*BOARD, "--limit", "0"], "--limit is 0; expected at least 1"),
    ([*BOARD, "--save", "t.txt"], "--save t.txt: the table is written as CSV; name a .csv file"),
    ([*BOARD, "--oracle", "none"], "no oracle none: there is no such folder, and a hub id reads owner/name"),
    (["leaderboard", "none", *BOARD[2:]], "there is no file of battles and no folder of answers none"),
    (["leaderboard", "twins", *BOARD[2:]], f"{ANY}two files for a{ANY}"),
    ([*BOARD, "--prompts", "none.txt"], "there is no prompts file none.txt"),
]  # fmt: skip


def _fill(here: Path) -> None:
    """What the rows speak of."""
    for name, text in {
        "prompts.jsonl": "".join(json.dumps({"prompt": f"Tell me about bread {i}."}) + "\n" for i in range(6)),
        "blank.jsonl": "\n",
        "half.jsonl": '{"prompt": "\\ud800 x"}\n',
        "deep.jsonl": "[" * 100_000,
        "number.json": '["a", 3]',
        "object.json": "{}",
        "gpt.jsonl": json.dumps({"prompt": "Tell me about bread 0.", "output": "No."}) + "\n",
        "work.jsonl": '{"prompt": "a", "output": "b"}\n' * 2,
        "mute.jsonl": json.dumps({"prompt": "Tell me about bread 0.", "output": ""}) + "\n",
        "votes.jsonl": "".join(
            json.dumps({"prompt": p, "a": "x", "b": "y", "wins": 1, "n": 2}) + "\n" for p in "abcdef"
        ),
        "good.csv": ",a,b\na,.5,.4\nb,.6,.5\n",
        "empty.csv": "",
        "ragged.csv": ",a,b\na,.5,.4\nb,.6\n",
        "semicolons.csv": ";a;b\na;,5;,4\nb;,6;,5\n",
        "counts.csv": ",a,b\na,0,7\nb,3,0\n",
        "words.csv": ",a,b\na,.5,x\nb,.6,.5\n",
        "sums.csv": ",a,b\na,.5,.9\nb,.2,.5\n",
        "nan.csv": ",a,b\na,.5,nan\nb,.6,.5\n",
        "twice.csv": ",a,a\na,.5,.4\na,.6,.5\n",
        "wide.csv": ",a,b\na,.5,.4\n",
        "answers/a.json": json.dumps(["x"] * 6),
        "answers/b.json": json.dumps(["yy"] * 6),
        "twins/a.json": '["x"]',
        "twins/a.jsonl": '"x"\n',
        "wins.jsonl": '{"prompt": "p", "a": "x", "b": "y", "wins": 3, "n": 2}\n',
        "broken/config.json": '{"model_type": "llama", "hidden_size": "x"}',
        "deep/config.json": "[" * 100_000,
        "deep/run.json": "[" * 100_000,
        "torn/run.json": '{"config": {',
        "foreign/run.json": "[]",
    }.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(text)
    (here / "latin.csv").write_bytes(b",\xe9\n")
    (here / "latin.txt").write_bytes(b"\xe9\n")
    (here / "broken.npz").write_bytes(b"no")
    (here / "broken.parquet").write_bytes(b"no")
    np.savez(here / "words.npz", P=np.array([["a", "b"], ["c", "d"]]))
    np.savez(here / "labels.npz", P=np.full((2, 2), 0.5), labels=np.array("x"))
    np.savez(here / "two.npz", A=np.zeros(2), B=np.zeros(2))
    np.savez(here / "batch.npz", P=np.full((3, 2, 2), 0.5))
    tiny.policy(here / "plain", chat=False)
    tiny.policy(here / "endless", pad=False, eos=False)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the rows speak of, the start of a run among it."""
    here = tmp_path_factory.mktemp("here")
    _fill(here)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        sample = ["sample", *POLICY, *PROMPTS, "--out", "run", "--iterations", "1"]
        assert main([*sample, "--responses", "2", "--max-new-tokens", "4", "--quiet"]) == 0
    held = json.loads((here / "run" / "run.json").read_text())
    held["config"]["fit"]["epochs"] = "two"
    (here / "altered").mkdir()
    (here / "altered" / "run.json").write_text(json.dumps(held))
    return here


def _told(line: str, expected: str) -> bool:
    """Whether a line is the expected one, in which ``ANY`` stands for any words."""
    first, *rest = expected.split(ANY)
    if not line.startswith(first) or (not rest and line != first):
        return False
    at = len(first)
    for part in rest:
        at = line.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return not rest or rest[-1] == "" or line.endswith(rest[-1])


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
    assert _told(line, f"nashward: {expected}"), line
    assert "Traceback" not in out
    assert _content(here) == before


def _rows(*tables: tuple[list[str], list[tuple[list[str], str]]]) -> list[Any]:
    return [
        pytest.param(
            arguments := [*before, *more],
            line.replace("<help>", f"; see nashward {arguments[0]} --help") if arguments else line,
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
