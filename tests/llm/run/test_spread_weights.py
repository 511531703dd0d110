"""Judges who differ: their tables are kept, responses weigh by them in a fit, and one oracle changes nothing."""

from __future__ import annotations

import dataclasses
import html
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games, llm
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import report
from nashward.llm.oracles import Combination, Ensemble, Length, Objectives, PreferenceOracle, preference_matrices
from nashward.llm.store.files import read_shard, shards
from nashward.llm.training.batches import MicroBatch

from .. import tiny
from ..killed import Killed, dies_at
from ..tiny_run import PROMPTS, QUICK, changed, files, short_run

RIVAL = {"rival": [{"prompt": p, "response": f"no {k}"} for p in PROMPTS for k in range(1 + len(p) % 2)]}


def _fit(**fit: Any) -> llm.Fit:
    return dataclasses.replace(QUICK["fit"], **{"spread_weights": True, **fit})


def _judges() -> Ensemble:
    return Ensemble([tiny.high_bytes(), tiny.noise(), tiny.brevity()])


def _run(source: Any, folder: Path, solver: Any = None, oracle: Any = None, **settings: Any) -> Any:
    settings = {"fit": _fit(), "oracle": oracle or _judges(), **settings}
    return short_run(source, folder, solver, **settings)


def _texts(step: Path, policy: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in shards(step / "responses", policy):
        for row in read_shard(file):
            found.setdefault(row["prompt"], []).append(row["text"])
    return found


def _in_fit(step: Path, name: str) -> dict[float, float]:
    """A column of what was fitted, by the response's payoff."""
    rows = [row for file in shards(step / "targets", "anchor") for row in read_shard(file)]
    return {
        round(payoff, 5): value
        for row in rows
        for payoffs, values in zip(row["payoffs"], row[name], strict=True)
        for payoff, value in zip(payoffs, values, strict=True)
    }


def _payoffs(P: np.ndarray, own: bool) -> np.ndarray:
    """Mean win probabilities, without a response's own comparison with itself."""
    wins = np.array(P, dtype=float)
    if own:
        wins[..., np.arange(wins.shape[-2]), np.arange(wins.shape[-2])] = np.nan
    return np.nanmean(wins, axis=-1)


@pytest.mark.parametrize("kind", ["a blend", "fixed opponents"])
def test_precisions_are_those_of_the_members_payoffs(kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    """Written out: each judge's payoff of each response, their standard error, and the inverse variance."""
    solver = games.OptimisticMWU(2.0) if kind == "a blend" else games.FixedOpponents(games.MWU(2.0), {"rival": 0.25})
    opponents = {} if kind == "a blend" else {"opponents": RIVAL}
    play = _run(tiny_folder, tmp_path / "run", solver, **opponents)
    run = play.run(progress=False)
    step, first = run.folder / "iteration-02", run.folder / "iteration-01"
    texts = {prompt.id: prompt.text for prompt in run.prompts.kept}
    drawn = {"iteration-01": _texts(step, "iteration-01"), "start": _texts(first, "start")}
    rival = {p.id: [r["response"] for r in RIVAL["rival"] if r["prompt"] == p.text] for p in run.prompts.kept}
    samplers = ["iteration-01", "start"] if kind == "a blend" else ["iteration-01"]
    opposed = {"iteration-01": 2.0, "start": -1.0} if kind == "a blend" else {"iteration-01": 0.75, "rival": 0.25}
    ours, judged = [], []
    for prompt, text in texts.items():
        of_prompt, by_judge = [], []
        for policy in samplers:
            candidates = drawn[policy][prompt]
            pooled, each = np.zeros(len(candidates)), np.zeros((3, len(candidates)))
            for name, weight in opposed.items():
                against = None if name == policy else [{**drawn, "rival": rival}[name][prompt]]
                (table,) = preference_matrices(_judges(), [text], [candidates], against)
                members = np.broadcast_to(table.P, (3, *table.P.shape)) if table.members is None else table.members
                pooled += weight * _payoffs(table.P, against is None)
                each += weight * _payoffs(members, against is None)
            of_prompt.append(pooled)
            by_judge.append(each)
        ours.append(np.concatenate(of_prompt))
        judged.append(np.concatenate(by_judge, 1).std(0, ddof=1) / 3**0.5)
    G, s = np.array(ours), np.array(judged)
    variance = ((G - G.mean(1, keepdims=True)) ** 2).mean()
    rest = max(variance - (s**2).mean(), 0.1 * variance)
    precision = 1 / (rest + s**2)
    precision /= precision.mean()
    found = _in_fit(step, "precision")
    assert len(found) > 20
    expected = {round(g, 5): v for g, v in zip(G.flatten().tolist(), precision.flatten().tolist(), strict=True)}
    common = found.keys() & expected.keys()
    assert len(common) > 0.9 * len(found)  # but for the last digit of a key
    assert [found[key] for key in common] == pytest.approx([expected[key] for key in common], rel=1e-4)
    assert run.metrics[-1]["error_share"] == pytest.approx((s**2).mean() / variance, rel=1e-6)
    assert max(found.values()) > 1.2 * min(found.values())


class _Twice(PreferenceOracle):
    """One judge under two names: they do not differ."""

    symmetric = True
    name = "twice"

    def raw_logits(self, *given: Any) -> list[np.ndarray]:
        return [np.stack([own, own]) for own in tiny.high_bytes().raw_logits(*given)]


@pytest.mark.parametrize("which", ["one oracle", "judges who agree", "objectives"])
def test_without_a_spread_the_fit_is_the_same_bit_for_bit(which: str, tiny_folder: Path, tmp_path: Path) -> None:
    combination = Combination(("high", "long"))
    oracle: PreferenceOracle = {
        "one oracle": tiny.high_bytes(),
        "judges who agree": _Twice(),
        "objectives": Objectives([tiny.high_bytes(), Length(2.0)], combination),
    }[which]
    for name, weighed in (("on", True), ("off", False)):
        _run(tiny_folder, tmp_path / name, oracle=oracle, fit=_fit(spread_weights=weighed)).run(progress=False)
    on, off = (_sealed(tmp_path / name) for name in ("on", "off"))
    assert on == off
    columns = {
        key
        for file in (tmp_path / "on" / "iteration-01" / "judgements").iterdir()
        for row in read_shard(file)
        for key in row
    }
    assert ("members" in columns) == (which == "judges who agree")


def _sealed(folder: Path) -> dict[str, bytes]:
    """The adapters with their metrics."""
    return {name: content for name, content in files(folder).items() if "/adapter/" in name}


def test_the_weights_change_the_fit_and_are_in_what_is_measured(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    on = _run(tiny_folder, tmp_path / "on", games.MWU(2.0), iterations=1).run()
    assert "--spread-weights" not in caplog.text
    off = _run(tiny_folder, tmp_path / "off", games.MWU(2.0), iterations=1, fit=_fit(spread_weights=False))
    plain = off.run()
    assert _sealed(tmp_path / "on") != _sealed(tmp_path / "off")
    share = on.metrics[0]["error_share"]
    assert share == plain.metrics[0]["error_share"] > 0
    assert f"{share:.0%}" in caplog.text
    assert "--spread-weights" in caplog.text
    rows = [row for file in shards(tmp_path / "on" / "iteration-01" / "targets", "anchor") for row in read_shard(file)]
    assert all("precision" in row for row in rows)
    v = torch.tensor([x for row in rows for of in row["precision"] for x in of])
    w = torch.tensor([x for row in rows for of in row["weights"] for x in of])
    assert float((v * w).sum() / w.sum()) == pytest.approx(1, abs=1e-5)  # over all prompts, held-out ones too
    for part in ("train", "held_out"):
        assert on.metrics[0][part]["target_rms"] != plain.metrics[0][part]["target_rms"]


def test_a_killed_run_with_several_judges_ends_the_same(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = _fit(checkpoint_seconds=0.0, epochs=3)
    settings: dict[str, Any] = {"fit": fit, "solver": games.MWU(2.0), "iterations": 1}
    _run(tiny_folder, tmp_path / "whole", **settings).run(progress=False)
    for call, name in ((4, "backward"), (2, "logprobs")):
        play = _run(tiny_folder, tmp_path / "killed", **settings)
        with monkeypatch.context() as patch:
            dies_at(patch, call, name)
            with pytest.raises(Killed):
                play.run(progress=False)
    shutil.rmtree(tmp_path / "killed" / "iteration-01" / "judgements")  # lost: judged again, or from the cache
    _run(tiny_folder, tmp_path / "killed", **settings).run(progress=False)
    whole, killed = (files(tmp_path / name) for name in ("whole", "killed"))
    kept = [name for name in whole if "judgements/" in name or "targets/" in name or "/adapter/" in name]
    assert kept
    assert {name: killed.get(name) for name in kept} == {name: whole[name] for name in kept}


def test_a_run_is_fitted_again_with_the_weights_and_judges_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"solver": games.MWU(2.0), "iterations": 1}
    _run(tiny_folder, tmp_path / "on", **settings).run(progress=False)
    play = _run(tiny_folder, tmp_path / "again", **settings, fit=_fit(spread_weights=False))
    play.run(progress=False)
    assert _sealed(tmp_path / "again") != _sealed(tmp_path / "on")
    changed(play, fit=_fit()).run(redo="train", progress=False)
    kept = {name: content for name, content in _sealed(tmp_path / "again").items() if "set-aside" not in name}
    assert kept == _sealed(tmp_path / "on")
    with pytest.raises(NashwardError, match="spread_weights"):
        changed(play, iterations=2).run(progress=False)


def test_equal_texts_have_tables_of_all_members_too(tiny_folder: Path, tmp_path: Path) -> None:
    """Prompts of which no pair was judged stand in one shard with others: the rows have the same columns."""

    class OneWord(Ensemble):
        def raw_logits(self, prompts: Any, candidates: Sequence[Sequence[str]], pairs: Any) -> list[np.ndarray]:
            assert all(pairs)
            return super().raw_logits(prompts, candidates, pairs)

    play = _run(
        tiny_folder, tmp_path / "run", games.MWU(2.0), OneWord([tiny.high_bytes(), tiny.brevity()]), iterations=1,
        prompts=PROMPTS[:6], sampling=llm.Sampling(max_new_tokens=1), responses=2,
    )  # fmt: skip
    play.run(until="judge", progress=False)
    rows = [row for file in (tmp_path / "run/iteration-01/judgements").iterdir() for row in read_shard(file)]
    assert all(np.array(row["members"]).shape == (2, 2, 2) for row in rows)
    assert [row["error_factor"] for row in rows] == pytest.approx([2**-0.5] * len(rows))


def test_the_error_of_judges_falls_with_their_number_and_that_of_folds_is_the_jackknife() -> None:
    assert Ensemble([Length()] * 4).error_factor(4) == 0.5
    fitted = llm.oracles.PairRM.from_pretrained(llm.pocket.PAIRRM, device="cpu")
    assert fitted.error_factor(5) == pytest.approx(4 / 5**0.5)


def test_micro_batches_take_the_precisions_apart_from_the_sampling_weights() -> None:
    rollouts = [tiny.rollout(str(k), [0, 1], [[2], [3]], torch.tensor([0.7, 0.3])) for k in range(2)]
    sure = [torch.tensor([1.5, 0.5]), torch.tensor([0.75, 1.25])]
    weighed = [dataclasses.replace(one, precision=v) for one, v in zip(rollouts, sure, strict=True)]
    plain, batch = MicroBatch(rollouts), MicroBatch(weighed)
    assert plain.precision is None
    assert plain.fit_weights.tolist() == plain.weights.tolist() == batch.weights.tolist()
    assert batch.fit_weights.tolist() == [[0.75, 0.25], [0.375, 0.625]]
    for baseline in ("plug-in", "constant"):
        assert batch.targets(2.0, baseline).tolist() == plain.targets(2.0, baseline).tolist()
    centred = batch.targets(2.0, "centred")
    assert (batch.fit_weights * centred).sum(-1).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert batch.part([1]).fit_weights.tolist() == [[0.375, 0.625]]


@pytest.mark.parametrize("loss", ["sppo", "rebel"])
def test_other_regressions_weigh_too(loss: Any, tiny_folder: Path, tmp_path: Path) -> None:
    for name, weighed in (("on", True), ("off", False)):
        play = _run(tiny_folder, tmp_path / name, games.MWU(2.0), iterations=1, fit=_fit(loss=loss))
        changed(play, fit=_fit(loss=loss, spread_weights=weighed)).run(progress=False)
    on, off = (files(tmp_path / name)["iteration-01/adapter/adapter_model.safetensors"] for name in ("on", "off"))
    assert on != off


def test_a_loss_without_targets_of_win_rates_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NashwardError, match=r"spread_weights.*dpo.*mirror"):
        _run(tiny_folder, tmp_path / "run", games.MWU(2.0), fit=_fit(loss="dpo")).check_settings()


def test_the_command_and_the_report(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    judges = ["--oracle", "nashward.llm.oracles:Length", "--oracle", "nashward.llm.oracles:Plain"]
    out = tmp_path / "run"
    code = main(
        ["align", "--policy", str(tiny_folder), *judges, "--prompts", str(prompts), "--out", str(out), "--iterations",
         "1", "--responses", "3", "--max-new-tokens", "6", "--no-plan", "--spread-weights", "--validation", "0"]
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert code == 0
    rows = [row for file in (out / "iteration-01" / "targets").iterdir() for row in read_shard(file)]
    assert all("precision" in row for row in rows)
    assert "judges' error" in shown
    page = tmp_path / "report.html"
    report.write(out, file=page)
    assert "judges' error" in html.unescape(page.read_text())
