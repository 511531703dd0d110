"""Self-play from end to end on the tiny model and on the pocket models: resuming, the fit, the adapter."""

from __future__ import annotations

import html
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nashward import games, llm
from nashward.console import printable
from nashward.games import Step
from nashward.llm import report
from nashward.llm.evaluation import win_rate
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.run.selfplay import kl_to_start
from nashward.llm.store.files import atomic_folder, atomic_write, read_shard, shards

from .. import tiny
from ..tiny_run import PROMPTS, files, self_play, short_run


@pytest.mark.parametrize(
    "solver",
    [
        games.MWU(1.0),
        games.OptimisticMWU(1.0),
        games.ExtraGradient(1.0, tau=0.2),
        *(
            pytest.param(s, marks=pytest.mark.slow)
            for s in (games.ExtraGradient(1.0), games.MagneticMirrorDescent(1.0, 0.2))
        ),
    ],
    ids=repr,
)
def test_every_mirror_step_solver_plays(solver: Any, tiny_folder: Path, tmp_path: Path) -> None:
    run = short_run(tiny_folder, tmp_path / "run", solver).run()
    halves = isinstance(solver, games.ExtraGradient)
    assert len(run.metrics) == (4 if halves else 2)
    assert run.last == tmp_path / "run" / "iteration-02" / "adapter"
    # What was played: the start and the first iterate, or the half points of extragradient.
    played = ["iteration-01-half-1", "iteration-02-half-1"] if halves else ["start", "iteration-01"]
    assert [(folder.parent.name, weight) for folder, weight in run.average.members] == [(name, 0.5) for name in played]
    for row in run.metrics:
        # Where the anchor is one policy the first log-ratio is exactly 0, not nearly.
        if len(row["anchor"]) == 1:
            assert row["at_start"]["log_ratio_rms"] == 0.0
        assert row["changed_fraction"] > 0.99
        assert np.isfinite(row["held_out"]["r2"])


@pytest.mark.slow
def test_the_fit_learns_the_step_and_the_policy_wins(two_layers: Path, tmp_path: Path) -> None:
    prompts = [f"Say {i} things" for i in range(60)]
    play = self_play(
        policy=two_layers,
        oracle=tiny.brevity(),
        solver=games.MWU(6.0),
        prompts=prompts,
        folder=tmp_path / "run",
        iterations=1,
        responses=16,
        sampling=llm.Sampling(max_new_tokens=12, batch=256),
        fit=llm.Fit(learning_rate=5e-3, epochs=4, batch=2, tokens=3000, validation=0.0),
        lora=llm.Lora(rank=8),
    )
    run = play.run()
    assert run.metrics[0]["train"]["share"] > 0.7
    ids = [play.model.encode(prompt) for prompt in run.prompts.kept]

    def texts(folder: Path, seed: int) -> list[list[str]]:
        drawn = llm.Mixture(((folder, 1.0),)).sample(play.model, ids, 20, play.sampling, seed)
        return [[answer.text for answer in row] for row in drawn]

    found = win_rate(play.judge, prompts, texts(run.last, 9), texts(run.folder / "start" / "adapter", 8))
    assert found.value > 0.5 + 2 * found.standard_error


def test_the_adapter_loads_with_plain_peft_and_differs_from_the_start(tiny_folder: Path, tmp_path: Path) -> None:
    run = short_run(tiny_folder, tmp_path / "run", iterations=1).run()
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    plain = peft.PeftModel.from_pretrained(base, str(run.last))
    ids = torch.tensor([[0, 4, 50, 5]])
    with torch.no_grad():
        trained = plain(ids).logits
        with plain.disable_adapter():
            assert not torch.equal(plain(ids).logits, trained)


def test_targets_are_those_of_the_step(tiny_folder: Path, tmp_path: Path) -> None:
    """The stored gains against the stored judgements by a plain loop, for the second optimistic step."""
    short_run(tiny_folder, tmp_path / "run").run()
    stage = tmp_path / "run" / "iteration-02"

    def table(name: str, stage: Path = stage) -> np.ndarray:
        return np.array([row["P"] for file in shards(stage / "judgements", name) for row in read_shard(file)])

    now, cross = table("iteration-01"), table("iteration-01~start")
    before = table("start", tmp_path / "run" / "iteration-01")
    expected = []
    for i in range(len(PROMPTS)):
        for P, Q, flip in ((now[i], cross[i], False), (1 - cross[i].T, before[i], True)):
            for k in range(3):
                own = [j for j in range(3) if j != k]
                against_now = P[k].mean() if flip else P[k, own].mean()
                against_before = Q[k, own].mean() if flip else Q[k].mean()
                expected.append(2 * against_now - against_before)
    (file,) = shards(stage / "targets", "anchor")
    rows = read_shard(file)
    stored = [gain for row in rows for group in row["payoffs"] for gain in group]
    np.testing.assert_allclose(sorted(stored), sorted(expected), atol=1e-6)


def test_how_far_a_policy_went_is_known_at_the_latest_from_its_own_responses() -> None:
    """One that went too far for its fit to tell has been drawn by a later step, but for the last one."""
    far, near = {"kl_to_reference": None, "kl_to_reference_error": None}, {"kl_to_reference": 0.3}
    rows = [
        {"iteration": "iteration-01", "anchor": {"start": 1.0}, "before": {"kl_to_reference": 0.0}, "after": near},
        {"iteration": "iteration-02", "anchor": {"iteration-01": 1.0}, "before": near, "after": far},
        {"iteration": "iteration-03", "anchor": {"start": 0.1, "iteration-02": 0.9}, "after": far,
         "before": {"kl_to_reference": 548.0, "kl_to_reference_error": 2.0}},
    ]  # fmt: skip
    assert kl_to_start(rows) == {
        "iteration-01": (0.3, None), "iteration-02": (548.0, 2.0), "iteration-03": (None, None),
    }  # fmt: skip


def test_what_r2_can_be_is_known_where_a_policy_plays_itself_alone(tiny_folder: Path, tmp_path: Path) -> None:
    run = short_run(tiny_folder, tmp_path / "run").run()
    (file,) = shards(run.folder / "iteration-01" / "judgements", "start")
    P = np.array([row["P"] for row in read_shard(file)])
    others = P[:, ~np.eye(3, dtype=bool)].reshape(len(P), 3, 2)
    spread = ((others.mean(2) - 0.5) ** 2).mean()
    first, second = run.metrics  # the second one plays a blend of two policies
    assert first["r2_ceiling"] == pytest.approx(1 - (others.var(2, ddof=1) / 2).mean() / spread)
    assert second["r2_ceiling"] is None
    assert second["promised_win_rate"] is None
    two = short_run(tiny_folder, tmp_path / "two", iterations=1, responses=2).run()
    assert two.metrics[0]["r2_ceiling"] is None
    assert two.metrics[0]["promised_win_rate"] > 0.5


def test_cyclic_prompts_are_those_whose_responses_all_lose(tiny_folder: Path, tmp_path: Path) -> None:
    run = short_run(tiny_folder, tmp_path / "run", responses=4, iterations=1).run()
    (file,) = shards(run.folder / "iteration-01" / "judgements", "start")
    found = [row["P"] for row in read_shard(file)]
    expected = np.mean([all(any(p < 0.5 for p in row) for row in P) for P in found])
    assert run.metrics[0]["cyclic_prompts"] == expected
    two = short_run(tiny_folder, tmp_path / "two", iterations=1, responses=2).run()
    assert two.metrics[0]["cyclic_prompts"] is None


def test_a_second_start_changes_nothing_and_a_cut_run_ends_the_same(tiny_folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    short_run(tiny_folder, whole).run()
    before = files(whole)
    short_run(tiny_folder, whole).run()
    assert files(whole) == before
    cut = tmp_path / "cut"
    for until in ("sample", "judge", "train", "sample", None):
        stopped = short_run(tiny_folder, cut).run(until).stopped
        assert (stopped is None) == (until is None)
    after = files(cut)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == []


def test_more_iterations_continue_a_run(tiny_folder: Path, tmp_path: Path) -> None:
    short_run(tiny_folder, tmp_path / "a", iterations=1).run()
    first = (tmp_path / "a" / "iteration-01" / "adapter" / WEIGHTS).read_bytes()
    run = short_run(tiny_folder, tmp_path / "a", iterations=2).run()
    assert run.last.parent.name == "iteration-02"
    assert (tmp_path / "a" / "iteration-01" / "adapter" / WEIGHTS).read_bytes() == first


def test_prompts_that_are_too_long_are_dropped_and_counted(tiny_folder: Path, tmp_path: Path) -> None:
    play = short_run(tiny_folder, tmp_path / "run", max_prompt_tokens=16)
    assert str(play.check()) == "10 prompts read, 3 kept, 7 dropped (7 longer than 16 tokens)"
    with pytest.raises(ValueError, match="no prompt is left"):
        short_run(tiny_folder, tmp_path / "run", max_prompt_tokens=3).check()
    assert not (tmp_path / "run").exists()


def test_an_iteration_takes_the_next_prompts_of_a_shuffled_order(tiny_folder: Path, tmp_path: Path) -> None:
    run = short_run(tiny_folder, tmp_path / "run", games.MWU(1.0), iterations=3, prompts_per_iteration=5).run()
    seen = [
        {row["prompt"] for file in (run.folder / f"iteration-0{i}" / "responses").glob("*") for row in read_shard(file)}
        for i in (1, 2, 3)
    ]
    assert [len(chosen) for chosen in seen] == [5, 5, 5]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == {prompt.id for prompt in run.prompts.kept}


def test_best_and_worst_with_the_constant(tiny_folder: Path, tmp_path: Path) -> None:
    fit = llm.Fit(
        selection="best-worst",
        baseline="constant",
        optimiser="rmsprop",
        learning_rate=1e-4,
        epochs=1,
        held_out=0,
        validation=0.0,
    )
    run = short_run(tiny_folder, tmp_path / "run", games.MWU(1000.0), iterations=1, fit=fit, self_comparison=True).run()
    (file,) = shards(run.folder / "iteration-01" / "targets", "anchor")
    rows = read_shard(file)
    for row in rows:
        for gains, targets in zip(row["payoffs"], row["targets"], strict=True):
            assert len(gains) == 2
            np.testing.assert_allclose(targets, 1000 * (np.array(gains) - 0.5), rtol=1e-4, atol=1e-3)
    (row,) = run.metrics
    gains = np.array([group for shard in rows for group in shard["payoffs"]])
    assert row["at_start"]["target_rms"] > 20
    assert row["at_start"]["loss"] == pytest.approx(1e6 * ((gains - 0.5) ** 2).mean(), rel=1e-4)
    assert row["at_start"]["loss_paper"] == pytest.approx(((gains - 0.5) ** 2).mean(), rel=1e-4)
    assert "policy gradient" in row["warning"]


@pytest.mark.slow
def test_a_step_without_opponent_is_fitted_as_a_geometric_mixture(tiny_folder: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Halfway:
        def play(self, x: Any, reference: Any) -> Any:
            x = yield Step(x, x, 4.0)
            while True:
                x = yield Step(0.5 * x + 0.5 * reference)

    fit = llm.Fit(learning_rate=2e-3, epochs=20, batch=4, held_out=0, validation=0.0)
    run = short_run(tiny_folder, tmp_path / "run", Halfway(), fit=fit, responses=6).run()
    assert run.metrics[1]["opponent"] == {}
    # What the fit had to go is the way from the policy before to the blend of its members.
    assert run.metrics[1]["at_start"]["target_rms"] > 0.1
    assert run.metrics[1]["train"]["r2"] > 0.95


def test_a_users_adapter_is_the_start_and_the_anchor(tiny_folder: Path, tmp_path: Path) -> None:
    first = short_run(tiny_folder, tmp_path / "first", iterations=1).run()
    play = short_run(tiny_folder, tmp_path / "second", iterations=1, adapter=first.last)
    run = play.run()
    mine, start = (load_file(f / WEIGHTS) for f in (first.last, tmp_path / "second" / "start" / "adapter"))
    assert all(torch.equal(mine[name], start[name]) for name in mine)
    assert run.metrics[0]["at_start"]["log_ratio_rms"] == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"responses": 1}, "at least 2 responses"),
        ({"iterations": 0}, "iterations"),
        ({"prompts_per_iteration": 0}, "prompts_per"),
    ],
)
def test_bad_settings_write_nothing(settings: dict[str, Any], message: str, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        short_run(tiny_folder, tmp_path / "run", **settings).run()
    assert not (tmp_path / "run").exists()


def test_policy_and_oracle_swapped(tmp_path: Path) -> None:
    play = self_play(llm.pocket.PAIRRM, llm.pocket.POLICY, games.MWU(), PROMPTS, tmp_path / "run")
    with pytest.raises(ValueError, match="swapped"):
        play.run()
    play = self_play(llm.pocket.POLICY, llm.pocket.POLICY, games.MWU(), PROMPTS, tmp_path / "run")
    with pytest.raises(ValueError, match="not a PairRM: --policy and --oracle"):
        play.run()
    assert not (tmp_path / "run").exists()


def test_a_policy_that_is_nowhere_is_refused_before_transformers_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked: list[str] = []

    def ask(source: str, **_: Any) -> None:
        asked.append(source)
        raise OSError(source)

    monkeypatch.setattr("nashward.llm.policy.base.checks.AutoConfig", SimpleNamespace(from_pretrained=ask))
    play = self_play("nobody/none", llm.pocket.PAIRRM, games.MWU(), PROMPTS, tmp_path / "run", quantise=None)
    with pytest.raises(FileNotFoundError, match="hf download nobody/none"):
        play.run()
    assert asked == []


def test_files_and_folders_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    for make, name in ((atomic_write, "file"), (atomic_folder, "folder")):
        with pytest.raises(RuntimeError), make(tmp_path / name) as unfinished:  # noqa: PT012
            (unfinished if name == "file" else unfinished / "a").write_text("half")
            raise RuntimeError
        assert list(tmp_path.iterdir()) == []


def test_a_mixture_draws_its_members_in_their_weights_and_can_be_moved(tiny_folder: Path, tmp_path: Path) -> None:
    run = short_run(tiny_folder, tmp_path / "run").run()
    loaded = llm.Mixture.load(run.folder / "mixture.json")
    assert [(f.resolve(), w) for f, w in run.average.members] == list(loaded.members)
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert all(folder.is_dir() for folder, _ in llm.Mixture.load(moved / "mixture.json").members)
    with pytest.raises(ValueError, match="sum to 1"):
        llm.Mixture(((run.last, 0.5),))


def test_report_of_an_unfinished_and_of_a_finished_run(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert "has not started" in report.write(tmp_path / "run").read_text()
    (tmp_path / "run" / "report.html").unlink()
    short_run(tiny_folder, tmp_path / "run").run("judge")
    assert "No step is finished yet" in report.write(tmp_path / "run").read_text()
    short_run(tiny_folder, tmp_path / "run").run()
    page = report.write(tmp_path / "run").read_text()
    assert "iteration-02" in page
    first, last = (read_shard(file) for file in sorted((tmp_path / "run").glob("iteration-0*/responses/*.parquet")))
    for rows in (first, last):
        assert html.escape(printable(rows[0]["text"])) in page
    assert "<script" not in page


def test_labels_of_responses_enter_the_metrics(tiny_folder: Path, tmp_path: Path) -> None:
    label = lambda text: "long" if len(text) > 4 else "short" if text else None  # noqa: E731
    (row,) = short_run(tiny_folder, tmp_path / "run", iterations=1, label=label).run().metrics
    (file,) = shards(tmp_path / "run" / "iteration-01" / "responses", "start")
    stored = read_shard(file)
    assert row["labels"]["long"] == pytest.approx(np.mean([len(r["text"]) > 4 for r in stored]))
    assert sum(row["labels"].values()) == pytest.approx(1)
    assert "no label" in report.write(tmp_path / "run").read_text()


def test_after_the_training_stage_the_last_iterate_is_the_new_one(tiny_folder: Path, tmp_path: Path) -> None:
    run = short_run(tiny_folder, tmp_path / "run").run("train")
    assert run.last == tmp_path / "run" / "iteration-01" / "adapter"
    assert run.stopped == "iteration-01: the adapter is trained"
    assert json.loads((tmp_path / "run" / "last.json").read_text())["iterates"] == 1


def test_a_loaded_model_starts_every_run_from_its_base(tiny_folder: Path, tmp_path: Path) -> None:
    model = llm.LanguageModel.from_pretrained(tiny_folder, lora=llm.Lora(rank=2))
    for name in ("first", "second"):
        short_run(tiny_folder, tmp_path / name, policy=model, iterations=1).run()
    first, second = ((tmp_path / name / "start" / "adapter" / WEIGHTS).read_bytes() for name in ("first", "second"))
    assert first == second
    state = load_file(tmp_path / "second" / "start" / "adapter" / WEIGHTS)
    assert all(not weight.any() for name, weight in state.items() if "lora_B" in name)


def test_a_stage_needs_only_its_own_model(tiny_folder: Path, tmp_path: Path) -> None:
    policy = shutil.copytree(tiny_folder, tmp_path / "policy")
    short_run(policy, tmp_path / "run", iterations=1).run("sample")
    shutil.rmtree(policy)
    assert (
        short_run(policy, tmp_path / "run", iterations=1).run("judge").stopped
        == "iteration-01: the responses are judged"
    )


def test_prompts_that_the_chat_template_refuses_are_dropped_and_counted(tiny_folder: Path, tmp_path: Path) -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}" + tiny.TEMPLATE
    )
    rows = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "Hello"]
    play = short_run(tiny_folder, tmp_path / "run", prompts=[{"messages": rows[0]}, rows[1]], chat_template=template)
    assert str(play.check()) == "2 prompts read, 1 kept, 1 dropped (1 refused by the chat template)"
    with pytest.raises(ValueError, match="not valid Jinja"):
        short_run(tiny_folder, tmp_path / "run", chat_template="{% if %}").check()


def test_adapters_that_do_not_fit_are_refused_before_anything_is_written(tiny_folder: Path, tmp_path: Path) -> None:
    good = short_run(tiny_folder, tmp_path / "first", iterations=1).run().last
    bad = shutil.copytree(good, tmp_path / "bad")
    config = json.loads((bad / "adapter_config.json").read_text())
    (bad / "adapter_config.json").write_text(json.dumps({**config, "r": 7}))
    with pytest.raises(ValueError, match=r"says rank 7 and holds weights of rank 2"):
        short_run(tiny_folder, tmp_path / "run", adapter=bad).run()
    (bad / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match="holds no weights that can be read"):
        short_run(tiny_folder, tmp_path / "run", adapter=bad).run()
    assert not (tmp_path / "run").exists()


def test_an_optimiser_step_takes_as_many_prompts_as_asked(tiny_folder: Path, tmp_path: Path) -> None:
    for tokens in (200, 100_000):
        fit = llm.Fit(epochs=1, batch=2, tokens=tokens, held_out=0, validation=0.0)
        short_run(tiny_folder, tmp_path / str(tokens), iterations=1, fit=fit).run()
        lines = (tmp_path / str(tokens) / "iteration-01" / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == 5 + 1  # ten prompts, two a step, and the summary


def test_functions_and_judges_are_oracles_as_they_are(tiny_folder: Path, tmp_path: Path) -> None:
    def short(prompts: list[str], completions: list[str]) -> list[float]:
        return [-float(sum(text.encode(errors="replace"))) / 100 for text in completions]

    class Later:
        def judge(self, prompts: list[str], pairs: list[list[str]], shuffle_order: bool = True) -> list[int]:
            return [int(b > a) for a, b in pairs]

    for number, oracle in enumerate((short, [short, short], Later())):
        run = self_play(
            policy=tiny_folder, oracle=oracle, solver=games.MWU(1.0), prompts=["a", "b"], iterations=1, responses=3,
            folder=tmp_path / str(number), sampling=llm.Sampling(max_new_tokens=4), lora=llm.Lora(rank=2),
        ).run()  # fmt: skip
        assert run.metrics[0]["train"]["target_rms"] > 0
