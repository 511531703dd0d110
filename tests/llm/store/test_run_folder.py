"""The run folder: damage, two processes, a stage made again, and batches that do not depend on who makes them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nashward import llm
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import pocket
from nashward.llm.oracles.models.pairrm import PairRMModel
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.policy.sampling import Sampling
from nashward.llm.run.executor import AdapterExecutor
from nashward.llm.run.stages.shards import ShardedStage, plan_shards
from nashward.llm.run.status import status
from nashward.llm.store.files import read_jsonl, shards
from nashward.llm.store.run_folder import FORMAT, RunFolder, Stage

from ..tiny_run import PROMPTS, quick_run


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def _result(home: Path) -> dict[str, bytes]:
    return {str(file.relative_to(home)): file.read_bytes() for file in home.glob("iteration-*/**/*") if file.is_file()}


def test_a_damaged_run_json_comes_back_from_its_copy(tiny_folder: Path, tmp_path: Path) -> None:
    quick_run(tiny_folder, tmp_path / "run", iterations=1).run("judge")
    whole, file = RunFolder(tmp_path / "run").read(), tmp_path / "run" / "run.json"
    assert {"config", "versions", "data", "steps", "format", "checksum"} <= whole.keys()
    for content in (None, "{", file.read_text().replace('"seed": 0', '"seed": 1')):
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        assert RunFolder(tmp_path / "run").read() == whole
        quick_run(tiny_folder, tmp_path / "run", iterations=1).run("judge")
        assert json.loads(file.read_text()) == whole
    file.write_text("{")
    (tmp_path / "run" / ".run.json").write_text("")
    with pytest.raises(ValueError, match=r"run\.json is not valid JSON .*choose another folder"):
        quick_run(tiny_folder, tmp_path / "run").run()


def _as_format_1(folder: Path) -> None:
    """Rewrite ``run.json`` and its copy as a version without a format number wrote them."""
    for name in ("run.json", ".run.json"):
        record = json.loads((folder / name).read_text())
        for key in ("format", "checksum"):
            del record[key]
        record["config"]["cast"], record["plans"] = record["config"].pop("opponents"), record.pop("steps")
        record["versions"]["nashward"] = "0.4.0"
        content = json.dumps(record, sort_keys=True).encode()
        record["checksum"] = hashlib.sha256(content).hexdigest()[:16]
        (folder / name).write_text(json.dumps(record))


def test_a_folder_of_an_older_format_is_refused_in_one_line(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "run"
    quick_run(tiny_folder, home, iterations=1).run("sample")
    assert RunFolder(home).read()["format"] == FORMAT
    _as_format_1(home)
    before = {file: file.read_bytes() for file in home.rglob("*") if file.is_file()}
    with pytest.raises(NashwardError) as refused:
        quick_run(tiny_folder, home, iterations=1).run()
    for part in (str(home), "format 1", "nashward 0.4.0", "the version that began it", "choose another folder"):
        assert part in str(refused.value)
    capsys.readouterr()
    for command in (["status", str(home)], ["report", str(home)], ["align", "--out", str(home)]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{home} holds a run of format 1, begun by nashward 0.4.0" in line
    assert {file: file.read_bytes() for file in home.rglob("*") if file.is_file()} == before


def test_a_newer_format_and_a_run_json_without_a_checksum_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write({"solver": {"name": "MWU"}}, {})
    record = folder.read()
    for file in (folder / "run.json", folder / ".run.json"):
        file.write_text(json.dumps({key: record[key] for key in ("config",)}))
    with pytest.raises(NashwardError, match=r"format 1, begun by nashward unknown"):
        folder.read()
    newer = {"config": record["config"], "format": FORMAT + 1}
    newer["checksum"] = hashlib.sha256(json.dumps(newer, sort_keys=True).encode()).hexdigest()[:16]
    for file in (folder / "run.json", folder / ".run.json"):
        file.write_text(json.dumps(newer))
    with pytest.raises(NashwardError, match=f"format {FORMAT + 1}, .*format {FORMAT}:"):
        folder.read()


def test_what_is_pinned_of_a_step_adds_up_until_it_is_forgotten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write({"solver": {"name": "MWU"}}, {})
    folder.update_step("iteration-01", {"tokens": 5})
    folder.update_step("iteration-01", {"refits": []})
    folder.update_step("iteration-02", {"tokens": 6})
    assert folder.step_values("iteration-01") == {"tokens": 5, "refits": []}
    folder.clear_step("iteration-01")
    assert (folder.step_values("iteration-01"), folder.step_values("iteration-02")) == ({}, {"tokens": 6})


def test_damaged_prompts_are_made_again_from_the_same_source_alone(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quick_run(tiny_folder, tmp_path / "run", iterations=1).run("sample")
    file = tmp_path / "run" / "prompts.jsonl"
    content = file.read_bytes()
    for damage in (content[:50], None):
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage)
        with pytest.raises(ValueError, match=r"another run .*prompts"):
            quick_run(tiny_folder, tmp_path / "run", iterations=1, prompts=["another"]).run()
        quick_run(tiny_folder, tmp_path / "run", iterations=1).run("sample")
        assert file.read_bytes() == content
    assert "prompts.jsonl was altered or cut; it is set aside in" in caplog.text
    file.unlink()
    with pytest.raises(ValueError, match="give a file or a dataset id"):
        quick_run(tiny_folder, tmp_path / "run", iterations=1, prompts=None).run()


def test_a_run_that_was_stopped_before_its_first_file_goes_on_and_keeps_its_settings(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> Any:
        raise Killed

    home = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(AdapterExecutor, "start", killed)
        with pytest.raises(Killed):
            quick_run(tiny_folder, home, iterations=1).run()
    assert (home / "run.json").exists()
    assert not RunFolder(home).computed
    quick_run(tiny_folder, home, iterations=1, prompts=None).run("sample")
    quick_run(tiny_folder, tmp_path / "whole", iterations=1).run("sample")
    assert _result(home) == _result(tmp_path / "whole") != {}


def test_inputs_may_be_corrected_while_nothing_is_computed(tiny_folder: Path, tmp_path: Path) -> None:
    home, whole = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole")
    texts = [{"prompt": f"Say {k}", "output": f"{k}"} for k in range(4)]
    rival = [{"prompt": text, "output": "Yes."} for text in PROMPTS]

    def begun(folder: RunFolder, prompts: list[str] | None, **settings: Any) -> list[str]:
        """The prompts of a run that ends before its first adapter."""
        run = quick_run(tiny_folder, folder.path, prompts=prompts, **settings)
        kept = run.check()
        run.write(folder, kept)
        assert [prompt.id for prompt in llm.read_prompts(folder / "prompts.jsonl").kept] == [p.id for p in kept.kept]
        return [prompt.text for prompt in kept.kept]

    def inputs(folder: RunFolder) -> dict[str, bytes]:
        return {name: (folder / f"{name}.jsonl").read_bytes() for name in ("prompts", "sft", "opponents")}

    begun(home, PROMPTS, sft=texts[:2], opponents={"rival": [{**row, "output": "No."} for row in rival]})
    assert begun(home, None) == PROMPTS
    last: dict[str, Any] = {"sft": texts, "opponents": {"rival": rival}, "responses": 4}
    for folder in (home, whole):
        assert begun(folder, PROMPTS[:4], **last) == PROMPTS[:4]
    assert inputs(home) == inputs(whole)
    assert home.read()["config"] == whole.read()["config"]
    assert home.read()["data"] == whole.read()["data"]
    assert not (home / "set-aside").exists()  # nothing was damaged
    longest = max(row["tokens"] for row in read_jsonl(home / "prompts.jsonl"))
    assert begun(home, None, max_prompt_tokens=longest - 1) == PROMPTS[:3]  # the fourth has most exclamation marks
    assert home.read()["prompts"] == "rows"
    (home / "start" / "adapter").mkdir(parents=True)
    with pytest.raises(NashwardError, match=r"prompts .*there, .*now"):
        begun(home, PROMPTS)


def test_what_tells_a_model_is_not_kept_for_another_one(tmp_path: Path) -> None:
    home = RunFolder(tmp_path)
    home.write({"solver": {"name": "MWU"}, "policy": "/models/a", "policy_content": "1", "oracle_content": "2"}, {})
    first = home.read()["config"]
    assert home.check({"solver": {"name": "MWU"}, "policy": None, "policy_content": None}) == first
    assert home.check({"solver": {"name": "MWU"}, "policy": "of/hub", "policy_content": None}) == {
        **first, "policy": "of/hub", "policy_content": None,
    }  # fmt: skip


def test_old_files_that_a_later_step_needs_are_made_again(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Optimism plays the start's responses again in the second step: they, and the adapters, are as they were."""
    home = tmp_path / "run"
    quick_run(tiny_folder, home).run()
    before = _result(home)
    for pattern in ("iteration-02/adapter", "iteration-01/responses/*", "iteration-01/adapter/*.safetensors"):
        (found,) = home.glob(pattern)
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.write_bytes(found.read_bytes()[:-1])
    caplog.clear()
    quick_run(tiny_folder, home).run()
    assert _result(home) == before
    assert len([line for line in caplog.messages if "set aside" in line]) == 2
    assert status(home).events == {"set aside": 2}


def test_metrics_follow_the_adapter_and_come_back_from_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two costs nothing: no training is done again."""
    home = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("nashward.llm.run.stages.train.publish_metrics", lambda stage: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            quick_run(tiny_folder, home, iterations=1).run()
    assert (home / "iteration-01" / "adapter").is_dir()
    assert (home / "iteration-01" / "training").is_dir()
    assert not (home / "iteration-01" / "metrics.jsonl").exists()
    monkeypatch.setattr("nashward.llm.run.stages.refit.fit", lambda *given: pytest.fail("it was trained again"))
    (row,) = quick_run(tiny_folder, home, iterations=1).run().metrics
    assert row["iteration"] == "iteration-01"
    assert not (home / "iteration-01" / "training").exists()
    metrics = (home / "iteration-01" / "metrics.jsonl").read_bytes()
    (home / "iteration-01" / "metrics.jsonl").write_bytes(metrics[:20])
    quick_run(tiny_folder, home, iterations=1).run()
    assert (home / "iteration-01" / "metrics.jsonl").read_bytes() == metrics


def test_a_second_process_is_refused_and_a_dead_one_is_not_in_the_way(tiny_folder: Path, tmp_path: Path) -> None:
    home = RunFolder(tmp_path / "run")
    quick_run(tiny_folder, home.path, iterations=1).run("sample")
    hold = (
        "import sys, time; from nashward.llm.store.run_folder import RunFolder\n"
        "with RunFolder(sys.argv[1]).lock(): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(home.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        (home / ".last.json.1.unfinished").write_text("of the other")
        with pytest.raises(ValueError, match=r"another process"):
            quick_run(tiny_folder, home.path, iterations=1).run()
        assert (home / ".last.json.1.unfinished").exists()
        assert status(home.path).playing
        other.kill()
    assert not status(home.path).playing
    quick_run(tiny_folder, home.path, iterations=1).run("judge")
    assert not (home / ".last.json.1.unfinished").exists()


def test_redo_sets_the_newest_step_aside_from_a_stage_on(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "run"
    quick_run(tiny_folder, home).run()
    before = _result(home)
    kept: dict[Stage, set[str]] = {
        "train": {"responses", "judgements", "targets"},
        "judge": {"responses"},
        "sample": set(),
    }
    stages: tuple[Stage, ...] = ("train", "judge", "sample")
    for stage in stages:
        caplog.clear()
        quick_run(tiny_folder, home).run(redo=stage, stop=_set())
        there = {path.name for path in (home / "iteration-02").iterdir()}
        assert there - {"shards.json"} == kept[stage]
        assert {name: data for name, data in _result(home).items() if name.startswith("iteration-01")} == {
            name: data for name, data in before.items() if name.startswith("iteration-01")
        }
        (warning,) = [line for line in caplog.messages if "iteration-02 is redone" in line]
        assert f"from {stage} on" in warning
        caplog.clear()
        quick_run(tiny_folder, home).run(redo=stage)  # the same command continues, and sets nothing aside
        assert "is redone" not in caplog.text
        assert _result(home) == before
    assert (home / "set-aside" / "iteration-02" / "adapter.3" / WEIGHTS).exists()


def test_steps_are_in_the_order_in_which_they_were_played(tmp_path: Path) -> None:
    names = ["iteration-02-half-1", "iteration-02-half-2", "iteration-02-half-10", "iteration-02", "iteration-100"]
    for name in reversed(names):
        (tmp_path / name).mkdir()
    assert [step.name for step in RunFolder(tmp_path).steps()] == names


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_like_lengths_make_a_batch_and_the_longest_come_first() -> None:
    lengths = [5, 9, 7, 6, 9, 1]
    assert plan_shards(range(6), lengths, 2) == [[[1, 4], [2, 3], [0, 5]]]
    many = plan_shards(range(200), [k % 10 for k in range(200)], 7)
    assert [sum(map(len, shard)) for shard in many] == [64, 64, 64, 8]
    assert sorted(number for shard in many for batch in shard for number in batch) == list(range(200))
    sizes = [k % 10 for shard in many for batch in shard for k in batch]
    assert sizes == sorted(sizes, reverse=True)


def test_a_step_keeps_its_batches_and_the_next_one_takes_the_new_size(tiny_folder: Path, tmp_path: Path) -> None:
    quick_run(tiny_folder, tmp_path / "whole").run()
    quick_run(tiny_folder, tmp_path / "cut").run("sample")
    (tmp_path / "cut" / "iteration-01" / "shards.json").unlink()  # it is made again, as run.json has it
    other = {"sampling": Sampling(max_new_tokens=6, batch=6)}
    quick_run(tiny_folder, tmp_path / "cut", **other).run("train")
    name = f"iteration-01/adapter/{WEIGHTS}"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    run = quick_run(tiny_folder, tmp_path / "cut", **other).run("sample")
    steps = [json.loads((run.folder / f"iteration-0{k}" / "shards.json").read_text()) for k in (1, 2)]
    assert [[len(batch) for shard in step for batch in shard] for step in steps] == [[10], [2] * 5]
    assert RunFolder(run.folder).step_values("iteration-02")["batch_prompts"] == 2


def test_shards_are_the_same_whoever_makes_them_in_whatever_order(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What processes that take whole batches would do: here each shard has a model of its own, the last comes first."""
    many = {"prompts": [f"Say {i} things{'!' * (i % 9)}" for i in range(150)], "iterations": 1}
    quick_run(tiny_folder, tmp_path / "one", **many).run("sample")
    real = ShardedStage.missing

    def last(self: Any, *given: Any) -> Any:
        return dict(list(real(self, *given).items())[-1:])

    with monkeypatch.context() as patch:
        patch.setattr(ShardedStage, "missing", last)
        for _ in range(3):
            quick_run(tiny_folder, tmp_path / "many", **many).run("sample")
    assert _result(tmp_path / "many") == _result(tmp_path / "one")
    assert len(shards(tmp_path / "many" / "iteration-01" / "responses", "start")) == 3


def test_a_judging_that_dies_leaves_the_batches_of_a_network_as_they_were(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding moves logits: pairs are judged beside the same others, and none of a finished call again."""
    settings = {"oracle": pocket.PAIRRM, "prompts": [f"Say {i} things{'!' * i}" for i in range(40)], "iterations": 1}
    quick_run(tiny_folder, tmp_path / "whole", **settings).run("judge")
    rows, calls, real = 0, 0, PairRMModel.states

    def states(self: Any, **named: Any) -> Any:
        nonlocal rows, calls
        calls += 1
        if calls == 9:
            raise Killed
        rows += len(named["input_ids"])
        return real(self, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PairRMModel, "states", states)
        with pytest.raises(Killed):
            quick_run(tiny_folder, tmp_path / "cut", **settings).run("judge")
        cut = rows
        quick_run(tiny_folder, tmp_path / "cut", **settings).run("judge")
    assert _result(tmp_path / "cut") == _result(tmp_path / "whole")
    with llm.oracles.Cache(tmp_path / "cut" / "judgements.sqlite") as cache:
        pairs = len(cache) - 40  # and for each prompt how many of its texts are cut
    assert 0 < cut < pairs
    assert rows - pairs < 16 * 6  # at most the pairs of the call that died


@pytest.mark.slow
def test_an_adapter_is_the_same_bytes_in_every_process(tiny_folder: Path, tmp_path: Path) -> None:
    """PEFT holds the names of its layers in a set: each process has another order of it."""
    write = (
        "import sys; from pathlib import Path; from nashward.llm import LanguageModel\n"
        "LanguageModel.from_pretrained(sys.argv[1]).write_start_adapter(Path(sys.argv[2]), None)"
    )
    subprocess.run([sys.executable, "-c", write, tiny_folder, tmp_path / "other"], check=True, capture_output=True,
                   env={**os.environ, "PYTHONHASHSEED": "1"})  # fmt: skip
    llm.LanguageModel.from_pretrained(tiny_folder).write_start_adapter(tmp_path / "here", None)
    here, other = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("here", "other"))
    assert here == other
    assert {"adapter_config.json", WEIGHTS} <= here.keys()
    targets = json.loads(here["adapter_config.json"])["target_modules"]
    assert targets == sorted(targets)  # also where both processes happen to have one order


def test_a_file_of_the_user_is_not_taken_for_a_run(tiny_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "mine"
    home.mkdir()
    own = home / "prompts.jsonl"
    own.write_text('{"prompt": "tea", "note": "keep me"}\n')
    with pytest.raises(ValueError, match=r"is not empty and holds no run \(prompts.jsonl, ...\)"):
        quick_run(tiny_folder, home, prompts=own).run()
    assert own.read_text() == '{"prompt": "tea", "note": "keep me"}\n'


def test_a_redo_that_is_killed_leaves_a_step_to_finish(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever move is the last: the step is not taken for finished, and what is left is timed as not yet done."""
    quick_run(tiny_folder, tmp_path / "whole", iterations=1).run()
    expected = (tmp_path / "whole" / "iteration-01" / "adapter" / WEIGHTS).read_bytes()
    rename = Path.rename
    for last in (1, 2, 3):
        home = tmp_path / f"run{last}"
        shutil.copytree(tmp_path / "whole", home)
        moves: list[Path] = []

        def dies(self: Path, target: Path, moves: list[Path] = moves, last: int = last) -> Path:
            if "set-aside" in str(target):
                moves.append(self)
                if len(moves) > last:
                    raise Killed
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", dies)
        with pytest.raises(Killed):
            quick_run(tiny_folder, home, iterations=1).run(redo="sample")
        monkeypatch.setattr(Path, "rename", rename)
        assert moves[0].name == "adapter"
        assert status(home).finished == 0
        quick_run(tiny_folder, home, iterations=1).run(redo="sample")
        assert (home / "iteration-01" / "adapter" / WEIGHTS).read_bytes() == expected
        assert len(list((home / "set-aside" / "iteration-01").glob("responses*"))) == 1


def test_there_must_be_a_step_to_make_again(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--from"):
        quick_run(tiny_folder, tmp_path / "run").run(redo="train")


def test_a_step_keeps_the_tokens_it_began_with(tiny_folder: Path, tmp_path: Path) -> None:
    """Sampled under one setting and trained under another: the passes are those of the first."""
    found = []
    for tokens in (4096, 60):
        home = tmp_path / str(tokens)
        quick_run(tiny_folder, home, iterations=1).run("sample")
        fit = llm.Fit(learning_rate=2e-3, epochs=1, batch=4, held_out=0.2, validation=0.0, tokens=tokens)
        quick_run(tiny_folder, home, iterations=1, fit=fit).run()
        found.append((home / "iteration-01" / "adapter" / WEIGHTS).read_bytes())
    assert found[0] == found[1]
