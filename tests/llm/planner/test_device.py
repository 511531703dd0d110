"""The start of a run on a card: what fits is chosen, what does not is refused, one network is there at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nashward import games, llm
from nashward.llm import LanguageModel
from nashward.llm.oracles import PairRM
from nashward.llm.planner import device
from nashward.llm.planner.plan import GIB

from .. import tiny
from ..tiny_run import self_play


def _play(folder: Path, policy: Any, **settings: Any) -> llm.SelfPlay:
    return self_play(
        policy=policy, oracle=llm.pocket.PAIRRM, solver=games.MWU(1.0), prompts=["tea", "milk", "a river"],
        folder=folder, iterations=1, responses=2, sampling=llm.Sampling(max_new_tokens=8), lora=llm.Lora(rank=2),
        max_prompt_tokens=40, fit=llm.Fit(epochs=1, held_out=0.0, validation=0.0), quantise=True,
        **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.policy(tmp_path_factory.mktemp("policy"))


def _card(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(device, "free_memory", lambda: size)


def test_without_a_card_nothing_is_planned(policy: Path, tmp_path: Path) -> None:
    play = _play(tmp_path, policy)
    assert play.planned is None
    assert play.planned_config == play.config


@pytest.mark.slow
def test_batches_and_placement_are_those_that_fit(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _card(monkeypatch, 8 * GIB)
    play = _play(tmp_path / "roomy", policy)
    assert play.planned is not None
    assert play.planned.sampling_batch == 64  # no more than was asked for
    assert play.planned.phases.keys() == {"sampling", "judging", "scoring", "training"}
    # a card that has room for half of the sampled responses, and for half of the oracle's rows
    needed = play.planned.phases
    room = needed["sampling"].weights + needed["sampling"].total // 2
    assert needed["judging"].total > needed["sampling"].total
    _card(monkeypatch, int((room + 0.5 * GIB) / 0.95) + 1)
    small = _play(tmp_path / "small", policy)
    assert small.planned is not None
    assert 1 <= small.planned_config.sampling.batch == small.planned.sampling_batch < 64
    assert small.planned_config.fit.tokens == small.planned.tokens < play.planned.tokens
    run = small.run()
    assert len(run.metrics) == 1
    assert small.judge.token_budget <= small.planned.judging_tokens  # type: ignore[attr-defined]
    # the placement is the plan's: its layers are checkpointed, which a CPU's usual ones are not
    assert any(getattr(layer, "gradient_checkpointing", False) for layer in small.model.network.modules())


def test_what_does_not_fit_is_refused_before_anything_is_written(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _card(monkeypatch, GIB // 2)
    play = _play(tmp_path / "run", policy)
    with pytest.raises(ValueError, match=r"does not fit: .*--no-plan"):
        play.run()
    assert not (tmp_path / "run").exists()
    assert _play(tmp_path / "run", policy, plan=False).planned is None


@pytest.mark.slow
def test_a_placement_that_is_given_is_planned_with(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _card(monkeypatch, 8 * GIB)
    play = _play(tmp_path, policy, placement={"layers": "host", "mlp_tokens": 64})
    assert play.planned is not None
    assert (play.planned.placement.layers, play.planned.placement.mlp_tokens) == ("host", 64)


def test_what_cannot_be_planned_is_said_and_tried(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _card(monkeypatch, 8 * GIB)

    def unknown(*given: Any, **named: Any) -> Any:
        raise ValueError("a Squid cannot be run by shape alone here")

    monkeypatch.setattr(device, "plan", unknown)
    assert _play(tmp_path, policy).planned is None
    assert "a Squid" in caplog.text


def test_policy_and_oracle_are_on_the_device_by_turns(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def spy(kind: Any, name: str, what: str) -> None:
        whole = getattr(kind, name)

        def spied(self: Any, *given: Any, **named: Any) -> Any:
            if not seen or seen[-1] != what:
                seen.append(what)
            return whole(self, *given, **named)

        monkeypatch.setattr(kind, name, spied)

    spy(LanguageModel, "offload", "policy rests")
    spy(LanguageModel, "activate", "policy")
    spy(PairRM, "offload", "oracle rests")
    spy(PairRM, "judge", "oracle")
    _play(tmp_path, policy, placement={"layers": "host"}).run()
    assert seen == ["policy", "policy rests", "oracle", "oracle rests", "policy"]
