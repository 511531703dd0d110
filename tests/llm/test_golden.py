"""What runs, oracles and tables come to, recorded with where: ``python -m tests.llm.test_golden`` records it anew.

In the environment of the record weights are met bit by bit and all other numbers to nine decimals, by hashes; elsewhere
a few numbers are, within a tolerance: other processors and libraries sum in another order. Commands are given as users
type them, and hashes know no names of keys, so that the record stays when the code is rearranged.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import games, llm
from nashward.__main__ import main

from . import tiny

RECORD = Path(__file__).with_name("golden.json")
DECIMALS = 9  # of numbers in a hash: compiled loops sum in another order at their first call than from the disk
TOLERANCE = 1e-2  # relative, elsewhere: without vector instructions the same processor is 1.1e-3 away

# Names that files of a run have for what is held elsewhere; a file of another form changes these, not the record.
METRICS = (("train", "loss"), ("train", "share"), ("after", "entropy"), ("after", "kl_to_reference"))
TABLE = ("games", "training", "P")  # of evaluation.json
FITTED = ("log_loss",)  # of an oracle's fit.json

PROMPTS = ("Why is the sky blue?", "How do I boil an egg?", "What is a prime number?", "Name a river in France.")
SMALL = (
    "--quantise --iterations 2 --responses 3 --max-new-tokens 20 --learning-rate 3e-3 --rank 2 --epochs 1 --batch 2 "
    "--quiet --held-out 0.25"
)
STEPS = {
    "optimistic: an opponent that is a blend": "--solver OptimisticMWU --step 2 --no-quantise",
    "extragradient: half steps": "--solver ExtraGradient --step 2 --no-quantise",
    "a geometric anchor": "--solver MagneticMirrorDescent --step 2 --tau 0.1 --no-quantise",
    "a geometric mixture, fitted": "--solver NashMD --step 2 --tau 0.1 --mixtures fitted --no-quantise",
    "a geometric mixture, token by token": "--solver NashMD --step 2 --tau 0.1 --mixtures token-level --no-quantise",
    "stored opponents": "--solver MWU --step 2 --opponent-shares a=0.2,b=0.1 --no-quantise",
}
MORE_STEPS = {
    "a pairwise loss": "--solver MWU --step 2 --loss dpo",
    "the paper's loss on the best and the worst": "--solver MWU --step 2 --loss sppo --selection best-worst",
    "two sequences": "--solver OptimisticMWU --step 2 --two-sequences",
    "a mixture of the history": "--solver HistoryMixture --step 2",
    "inner steps": "--solver ProximalPoint --step 2 --inner 2",
    "some prompts an iteration": "--solver OptimisticMWU --step 2 --prompts-per-iteration 3 --held-out 0.34",
}
TABLES = (
    "zoo:comal_cycle --solver MWU,OptimisticMWU:step=1,ExtraGradient --step 0.5 --start 0.6,0.3,0.1",
    "zoo:mujoco_soccer --solver MagneticMirrorDescent,INPO,NashMD --step 0.3 --tau 0.1",
    "zoo:sppo_pairrm --solver NashEMA,Momentum:nesterov=true,ProximalPoint,MagnetReset,HistoryMixture --step 0.3",
    "zoo:random_preferences:n=7:seed=2 --solver RegretMatching,PredictiveRegretMatchingPlus,Replicator:step=0.1",
    "zoo:comal_cycle --solver MWU,ExtraGradient --step 0.2 --feedback samples:k=3 --seed 7",
    "zoo:biased_rock_paper_scissors --solver OptimisticMWU --step 0.2 --feedback duels:duels=10 --seed 2",
)
KERNELS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")  # they limit instructions
THEOREMS = "1 2 3 3b 5 6"  # all that are played in a second


def environment() -> dict[str, str]:
    """What the last bits may depend on."""
    cpu = Path("/proc/cpuinfo")
    about = dict(line.split("\t", 1) for line in cpu.read_text().splitlines() if "\t" in line) if cpu.exists() else {}
    named = [about[key].split(": ")[1] for key in ("model name", "cpu family", "model") if key in about]
    limits = {name: os.environ.get(name, "").upper() for name in KERNELS}
    packages = ("torch", "transformers", "peft", "bitsandbytes", "numpy", "scipy", "numba")
    return {
        **{name: found.version for name in packages for found in importlib.metadata.distributions(name=name)},
        "processor": ", ".join(named) or platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **{name: value for name, value in limits.items() if value not in ("", "ALL", "DEFAULT")},
    }


def command(words: str, *more: str | Path) -> str:
    """What a command prints."""
    typed = ["nashward", *words.split(), *map(str, more)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as told:
        patch.setattr(sys, "argv", typed)
        assert main() == 0, typed
    return told.getvalue()


def part(content: Any, held: Sequence[float | None], *files: Path) -> dict[str, Any]:
    """A hash of files and of all numbers in a content, and those that are held elsewhere, to six digits."""
    digest = hashlib.sha256(json.dumps(_numbers(content)).encode())
    for file in files:
        digest.update(file.read_bytes())
    kept = [float(f"{number:.6g}") for number in held if number is not None]  # None: not defined for this loss
    return {"hash": digest.hexdigest()[:16], "numbers": kept}


def _numbers(content: Any) -> list[float]:
    """All numbers in a content, rounded and sorted: under which keys they are is not told."""
    if isinstance(content, dict | list):
        inside = content.values() if isinstance(content, dict) else content
        return sorted(number for item in inside for number in _numbers(item))
    if isinstance(content, bool) or not isinstance(content, int | float):
        return []
    return [round(float(content), DECIMALS) + 0.0]  # not -0.0, whose place among zeros is not settled


def _at(content: Any, names: Sequence[str]) -> Any:
    for name in names:
        content = content[name]
    return content


def _run(folder: Path) -> dict[str, Any]:
    """The steps of a run: the adapter of each, and what was measured."""
    found = {}
    for step in sorted(folder.glob("iteration-*")):
        rows = [json.loads(line) for line in (step / "metrics.jsonl").read_text().splitlines()]
        weights = step / "adapter" / "adapter_model.safetensors"
        found[step.name] = part(rows, [_at(rows[-1], names) for names in METRICS], weights)
    return found


def _align(home: Path, words: str) -> Path:
    """A run of pocket models, which have four ways to answer and a cycle of preferences among three of them."""
    (home / "prompts.txt").write_text("\n".join(PROMPTS))
    rivals = home / "rivals"
    rivals.mkdir()
    for name, text in (("a", "In short, tea is warm."), ("b", "1. Boil the water. 2. Pour it.")):
        rows = [{"prompt": prompt, "responses": [text] * (1 + k % 2)} for k, prompt in enumerate(PROMPTS)]
        (rivals / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = ("--policy", llm.pocket.POLICY, "--oracle", llm.pocket.PAIRRM)
    files = ("--prompts", home / "prompts.txt", "--out", home / "run")
    against = ("--opponents", rivals) if "--opponent-shares" in words else ()
    command(f"align {SMALL} {words}", *models, *files, *against)
    return home / "run"


def tiny_run(home: Path) -> dict[str, Any]:
    """Optimism in float32 under an oracle in Python, through the public names."""
    config = llm.RunConfig(
        iterations=2, responses=3, sampling=llm.Sampling(max_new_tokens=6), lora=llm.Lora(rank=2), quantise=False,
        fit=llm.Fit(learning_rate=2e-3, epochs=2, batch=4, held_out=0.2),
    )  # fmt: skip
    llm.SelfPlay(
        policy=tiny.policy(home / "policy"), oracle=tiny.high_bytes(), solver=games.OptimisticMWU(2.0),
        prompts=[f"Say {i} things{'!' * (i % 4)}" for i in range(20)], folder=home / "run", config=config,
    ).run()  # fmt: skip
    return _run(home / "run")


def plain_steps(home: Path) -> dict[str, Any]:
    """A run in 4 bits, the tournament of its iterates, and what beats their mixture."""
    run = _align(home, "--solver MWU --step 2")
    command("evaluate --quiet", run)
    evaluation = json.loads((run / "evaluation.json").read_text())
    command("exploit --of mixture --n 3 --against 3 --quiet", run)
    (file,) = run.glob("evaluation/exploit-*.json")
    exploited = json.loads(file.read_text())
    return {
        **_run(run),
        "evaluate": part(evaluation, [p for row in _at(evaluation, TABLE) for p in row]),
        "exploit": part(exploited, _numbers(exploited)),
    }


def trained_adversary(home: Path) -> dict[str, Any]:
    """An adapter that is fitted against the last iterate of a run."""
    run = _align(home, "--solver MWU --step 2 --no-quantise --iterations 1")
    command("exploit --n 3 --against 3 --train 2 --quiet", run)
    (file,) = run.glob("evaluation/exploit-*.json")
    exploited = json.loads(file.read_text())
    adapters = sorted(run.glob("evaluation/*/iteration-*/adapter/adapter_model.safetensors"))
    return {"exploit": part(exploited, _numbers(exploited), *adapters)}


def fitted_oracles(home: Path, kinds: str = "pairrm") -> dict[str, Any]:
    """Oracles of votes that go round."""
    ways = ("In short, {} is warm.", "1. Sort the {}. 2. Draw it.", "Oh, nice! I love {}. What do you think?")
    rows = []
    for k, topic in enumerate(("tea", "bread", "chess", "snow", "soup", "jazz", "rice", "poetry") * 3):
        texts = {name: ways[(k + i) % 3].format(topic) for i, name in enumerate("ab")}
        rows.append({"prompt": f"Tell me {k}.", **texts, "wins": 3 + k % 2, "n": 4, "voter": ("ann", "bob")[k % 2]})
    (home / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for kind in kinds.split():
        base = llm.pocket.PAIRRM if kind == "pairrm" else llm.pocket.POLICY
        settings = f"--kind {kind} --layout published --folds 2 --epochs 2 --batch 8 --half --quiet"
        command(f"fit-oracle {settings}", "--pairs", home / "votes.jsonl", "--base", base, "--out", home / kind)
        fit = json.loads((home / kind / "fit.json").read_text())
        weights = sorted((home / kind).rglob("*.safetensors"))
        found[kind] = part(fit, [_at(fit, FITTED)], *weights)
    return found


def tables(home: Path) -> dict[str, Any]:
    """Solvers on tables: all gaps on the way; held elsewhere are the equilibrium and the last iterates."""
    found = {}
    for table in TABLES:
        command(f"solve {table} --iterations 60 --json", home / "found.json")
        content = json.loads((home / "found.json").read_text())
        policies = [content["nash"]["policy"], *(one["last"] for one in content["solvers"])]
        found[table] = part(content, [p for policy in policies for p in policy])
    return found


def theorems(home: Path, numbers: str = THEOREMS) -> dict[str, Any]:
    """What each theorem allows and what was measured, as printed: four digits."""
    lines = re.findall(
        r"^ +\d+ +(\S+) +(\S+) +[^±\s]+  (?:holds|exceeds)\b", command(f"theory --quick {numbers}"), re.MULTILINE
    )
    rows = [[float(cell) for cell in line] for line in lines]
    return {f"{len(rows)} checks": part(rows, [row[1] for row in rows])}


def _step(words: str) -> Callable[[Path], dict[str, Any]]:
    return lambda home: _run(_align(home, words))


QUICK: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tiny run": tiny_run,
    "plain steps, evaluated and exploited": plain_steps,
    **{name: _step(words) for name, words in STEPS.items()},
    "an oracle of votes": fitted_oracles,
    "tables": tables,
    "theorems": theorems,
}
SLOW: dict[str, Callable[[Path], dict[str, Any]]] = {
    **{name: _step(words) for name, words in MORE_STEPS.items()},
    "a trained adversary": trained_adversary,
    "more oracles of votes": lambda home: fitted_oracles(home, "bt gpm"),
    "all theorems": lambda home: theorems(home, ""),
}
BOTH = {**QUICK, **SLOW}


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_numbers_are_those_of_the_record(name: str, tmp_path: Path) -> None:
    record = json.loads(RECORD.read_text())
    found, expected = BOTH[name](tmp_path), record["numbers"][name]
    if environment() == record["environment"]:
        assert found == expected
        return
    assert found.keys() == expected.keys()
    for which, recorded in expected.items():
        assert found[which]["numbers"] == pytest.approx(recorded["numbers"], rel=TOLERANCE, abs=1e-3), which


def _recorded(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return BOTH[name](Path(folder))


if __name__ == "__main__":
    torch.set_num_threads(1)
    made = {"environment": environment(), "numbers": {name: _recorded(name) for name in BOTH}}
    one_line_each = re.sub(r"\{[^{}]*\}", lambda found: " ".join(found[0].split()), json.dumps(made, indent=1))
    RECORD.write_text(one_line_each + "\n")
