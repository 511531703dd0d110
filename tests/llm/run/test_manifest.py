"""What a run folder pins: another run on the same folder is refused, and what makes it another."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nashward import games, llm
from nashward.cli.configuration import from_folder
from nashward.llm.oracles import RewardFunction
from nashward.llm.oracles.fingerprint import oracle_fingerprint
from nashward.llm.run.selfplay import metrics
from nashward.llm.store.fingerprints import fingerprint
from nashward.llm.store.run_folder import RunFolder

from .. import tiny
from ..tiny_run import QUICK, files, self_play, short_run


def test_a_folder_with_another_run_is_refused_and_left_alone(tiny_folder: Path, tmp_path: Path) -> None:
    short_run(tiny_folder, tmp_path / "run", iterations=1).run()
    before = files(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds another run \(solver.step 2.0 there, 1.0 now; responses 3 there, 4 now\)"
    ):
        short_run(tiny_folder, tmp_path / "run", games.OptimisticMWU(1.0), responses=4).run()
    with pytest.raises(ValueError, match=r"solver\.name 'OptimisticMWU' there, 'MWU' now"):
        short_run(tiny_folder, tmp_path / "run", games.MWU(2.0)).run()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"is not empty and holds no run \(thesis.tex"):
        short_run(tiny_folder, tmp_path / "mine").run()
    assert {name: data for name, data in files(tmp_path).items() if name != "mine/thesis.tex"} == before


def test_another_oracle_may_judge_responses_that_none_has_judged(tiny_folder: Path, tmp_path: Path) -> None:
    def broken(completions: list[str]) -> list[float]:
        raise TypeError("not yet")

    def ready(completions: list[str]) -> list[float]:
        return [float(len(set(text))) for text in completions]

    with pytest.raises(TypeError, match="not yet"):
        short_run(tiny_folder, tmp_path / "run", iterations=1, oracle=RewardFunction(broken)).run()
    sampled = files(tmp_path / "run" / "iteration-01" / "responses")
    assert sampled
    short_run(tiny_folder, tmp_path / "run", iterations=1, oracle=RewardFunction(ready)).run()
    assert files(tmp_path / "run" / "iteration-01" / "responses") == sampled
    once = short_run(tiny_folder, tmp_path / "once", iterations=1, oracle=RewardFunction(ready)).run()
    assert files(once.last) == files(tmp_path / "run" / "iteration-01" / "adapter")
    with pytest.raises(ValueError, match=r"holds another run \(oracle 'ready' there, 'broken' now\)"):
        short_run(tiny_folder, tmp_path / "run", iterations=1, oracle=RewardFunction(broken)).run()


def test_run_json_tells_what_ran(tiny_folder: Path, tmp_path: Path) -> None:
    short_run(tiny_folder, tmp_path / "run", iterations=1).run()
    held = json.loads((tmp_path / "run" / "run.json").read_text())
    assert held["config"]["solver"] == {"name": "OptimisticMWU", "step": 2.0, "two_sequences": False}
    assert held["config"]["seed"] == 0
    assert {"torch", "transformers", "peft", "bitsandbytes"} <= held["versions"].keys()
    assert RunFolder(tmp_path / "run").read() == held
    assert [row["iteration"] for row in metrics(tmp_path / "run")] == ["iteration-01"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lora": llm.Lora(rank=2, alpha=400.0)}, "lora.alpha None there, 400.0 now"),
        ({"prompts_per_iteration": 3}, "prompts_per_iteration all there, 3 now"),
        ({"fit": llm.Fit(learning_rate=None)}, "fit.learning_rate 0.002 there, auto now"),
        ({"fit": llm.Fit(max_grad_norm=math.inf)}, "fit.max_grad_norm 1.0 there, inf now"),
        ({"chat_template": tiny.TEMPLATE}, "chat_template None there"),
        ({"prompts": ["other"]}, r"prompts '[0-9a-f]+' \(of rows\) there"),
        ({"max_prompt_tokens": 100}, "max_prompt_tokens 512 there, 100 now"),
        ({"solver": games.OptimisticMWU(lambda t: 2.0)}, r"solver.step 2.0 there, \[2.0"),
    ],
)
def test_every_setting_is_pinned_also_against_none(
    settings: dict[str, Any], words: str, tiny_folder: Path, tmp_path: Path
) -> None:
    short_run(tiny_folder, tmp_path / "run", iterations=1).run("sample")
    with pytest.raises(ValueError, match=words):
        short_run(tiny_folder, tmp_path / "run", iterations=2, **settings).check()


def test_other_settings_of_the_fit_alone_name_the_stage_to_go_on_from(tiny_folder: Path, tmp_path: Path) -> None:
    short_run(tiny_folder, tmp_path / "run", iterations=1).run()
    fit = dataclasses.replace(QUICK["fit"], learning_rate=1e-3)
    other = short_run(tiny_folder, tmp_path / "run", iterations=1, fit=fit)
    with pytest.raises(ValueError, match="--from train"):
        other.run()
    with pytest.raises(ValueError, match="there, 4 now") as refused:
        short_run(tiny_folder, tmp_path / "run", iterations=1, fit=fit, responses=4).run()
    assert "--from" not in str(refused.value)
    assert other.run(redo="train").metrics[-1]["learning_rate"] == 1e-3


def test_memory_settings_may_change_and_a_schedule_resumes(tiny_folder: Path, tmp_path: Path) -> None:
    solver = games.MWU(lambda t: 2.0 / t)
    short_run(tiny_folder, tmp_path / "run", solver, iterations=1).run("judge")
    fit = llm.Fit(learning_rate=2e-3, epochs=1, batch=4, tokens=300, held_out=0.2, validation=0.0)
    sampling = llm.Sampling(max_new_tokens=6, batch=4)
    again = games.MWU(lambda t: 2.0 / t)
    run = short_run(tiny_folder, tmp_path / "run", again, iterations=2, fit=fit, sampling=sampling).run()
    assert [row["size"] for row in run.metrics] == [2.0, 1.0]


def test_a_setup_that_failed_before_it_did_anything_may_be_corrected(tiny_folder: Path, tmp_path: Path) -> None:
    play = short_run(tiny_folder, tmp_path / "run", iterations=1, seed=1)
    play.write(RunFolder(tmp_path / "run"), play.check())  # as far as a model that cannot be loaded gets
    run = short_run(tiny_folder, tmp_path / "run", iterations=1, seed=2).run()
    assert RunFolder(run.folder).read()["config"]["seed"] == 2


def test_a_selection_of_prompts_is_read_from_the_folder(tiny_folder: Path, tmp_path: Path) -> None:
    settings = {"prompts_per_iteration": 3, "prompt_selection": "informative", "prompt_floor": 0.3}
    play = short_run(tiny_folder, tmp_path / "run", **settings)
    play.write(RunFolder(tmp_path / "run"), play.check())
    found = from_folder(tmp_path / "run")
    assert {name: found[name.replace("_", "-")].value for name in settings} == settings


def test_fewer_iterations_than_there_are_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    short_run(tiny_folder, tmp_path / "run", iterations=2).run()
    with pytest.raises(ValueError, match="holds 2 iterations already"):
        short_run(tiny_folder, tmp_path / "run", iterations=1).run()


def test_a_run_starts_where_there_is_no_git(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    short_run(tiny_folder, tmp_path / "run", iterations=1).run("sample")
    assert RunFolder(tmp_path / "run").read()["commit"] is None


@pytest.mark.parametrize("content", ["{", "[1]", '{"x": 1}', '{"config": {}}'])
def test_a_run_json_of_something_else_is_refused(content: str, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run\.json is not"):
        short_run(tiny_folder, tmp_path / "run").check()


def test_an_oracle_that_changed_is_another_run(tiny_folder: Path, tmp_path: Path) -> None:
    def judged_by(oracle: Any, folder: str) -> Any:
        return self_play(
            policy=tiny_folder, oracle=oracle, solver=games.MWU(1.0), prompts=["a", "b"], folder=tmp_path / folder,
            iterations=1, responses=2, sampling=llm.Sampling(max_new_tokens=4), lora=llm.Lora(rank=2),
        )  # fmt: skip

    judged_by(lambda completions, **more: [float(len(text)) for text in completions], "one").run()
    judged_by(lambda completions, **more: [float(len(text)) for text in completions], "one").run()  # the same code
    with pytest.raises(ValueError, match=r"holds another run .*oracle_content"):
        judged_by(lambda completions, **more: [-float(len(text)) for text in completions], "one").run()

    votes = tmp_path / "votes.jsonl"
    votes.write_text('{"prompt": "a", "a": "x", "b": "y", "wins": 1, "n": 1}\n')
    judged_by(llm.oracles.VoteTable.from_file(votes, fill="half"), "two").run()
    with pytest.raises(ValueError, match="oracle_content"):
        judged_by(llm.oracles.VoteTable.from_file(votes, fill="half", prior=2.0), "two").run()

    folder = Path(shutil.copytree(llm.pocket.PAIRRM, tmp_path / "pairrm"))
    judged_by(folder, "three").run()
    judged_by(folder, "three").run()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "candidate_maxlength": 64}))
    with pytest.raises(ValueError, match="oracle_content"):
        judged_by(folder, "three").run()


@pytest.mark.slow
def test_a_function_is_known_by_its_name_and_its_source_text(tmp_path: Path) -> None:
    def module(folder: str, source: str) -> Path:
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "judges.py"
        path.write_text(source)
        return path

    def of_module(path: Path) -> str | None:
        spec = importlib.util.spec_from_file_location("judges", path)
        assert spec is not None
        assert spec.loader is not None
        judges = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(judges)
        return oracle_fingerprint(llm.oracles.RewardFunction(judges.words))

    def in_a_process_of_another_hash_seed(path: Path) -> str:
        program = (
            "import judges\nfrom nashward.llm.oracles import RewardFunction\n"
            "from nashward.llm.oracles.fingerprint import oracle_fingerprint\n"
            "print(oracle_fingerprint(RewardFunction(judges.words)))"
        )
        paths = os.pathsep.join([str(path.parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONHASHSEED": "2", "PYTHONPATH": paths}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()

    source = "def words(completions, **k):\n    return [float(c in {'a', 'the', 'of'}) for c in completions]\n"
    first = of_module(module("first", source))
    commented = module("commented", source.replace("return [", "# a comment\n    return ["))
    assert in_a_process_of_another_hash_seed(commented) == first
    assert of_module(module("changed", source.replace("'of'", "'on'"))) != first

    def words(completions: list[str]) -> list[float]:
        return [float(len(text.split())) for text in completions]

    def lines(completions: list[str]) -> list[float]:
        return [float(len(text.splitlines())) for text in completions]

    lines.__name__, lines.__qualname__ = words.__name__, words.__qualname__
    assert oracle_fingerprint(llm.oracles.as_oracle(words)) != oracle_fingerprint(llm.oracles.as_oracle(lines))

    def counter(size: int) -> Callable[..., list[float]]:
        return lambda completions: [float(size) for _ in completions]

    assert len({oracle_fingerprint(llm.oracles.as_oracle(counter(size))) for size in (1, 2, 2)}) == 2


def test_a_model_that_changed_in_place_is_another_run_and_a_copy_elsewhere_the_same(
    tiny_folder: Path, tmp_path: Path
) -> None:
    policy = Path(shutil.copytree(tiny_folder, tmp_path / "policy"))
    short_run(policy, tmp_path / "run", iterations=1).run()
    moved = policy.rename(tmp_path / "moved")
    made = short_run(moved, tmp_path / "run", iterations=2).run()
    assert len(made.metrics) == 2
    assert RunFolder(tmp_path / "run").read()["config"]["policy"] == str(moved)

    weights = moved / "model.safetensors"
    tensors = load_file(weights)
    name = max(tensors, key=lambda name: tensors[name].numel())
    save_file({**tensors, name: tensors[name] + 1}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"holds another run \(policy_content"):
        short_run(moved, tmp_path / "run", iterations=2).run()


def test_a_fingerprint_sees_every_tensor_of_a_large_file_and_no_other_file(tmp_path: Path) -> None:
    tensors = {f"layer.{k}": torch.full((300, 300), float(k)) for k in range(8)}  # 2.9 MB: too large to be read whole
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")

    def saved(changed: dict[str, torch.Tensor], binary: bool = False) -> str:
        for file in model.glob("model.*"):
            file.unlink()
        if binary:
            torch.save({**tensors, **changed}, model / "model.bin")
        else:
            save_file({**tensors, **changed}, model / "model.safetensors")
        return fingerprint(model)

    for binary in (False, True):
        first = saved({}, binary)
        (model / "notes.md").write_text("read me")
        assert saved({}, binary) == first
        assert fingerprint(shutil.copytree(model, tmp_path / f"copy-{binary}")) == first
        changed = {name: tensor + 1 for name, tensor in tensors.items()}
        others = {saved({name: changed[name]}, binary) for name in changed}
        assert first not in others
        assert len(others) == len(tensors)
