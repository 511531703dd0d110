"""The geometric mixture taken token by token: against explicit blending, and how far it is from that of responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nashward import games, llm
from nashward.games import Policy
from nashward.llm.policy.experimental.token_mixture import MixedNetwork, use_policy
from nashward.llm.policy.handles import Adapter, TokenMixture
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.store.files import read_shard, shards
from tests.llm.test_enumerable import EXACT, GAMES, Table, _source
from tests.llm.tiny_run import files, quick_run, self_play

WEIGHT = 0.6


def _members(source: Path, folder: Path, **options: Any) -> tuple[llm.LanguageModel, TokenMixture]:
    """A model, and the mixture of two adapters of it that differ."""
    model = llm.LanguageModel.from_pretrained(source, lora=llm.Lora(rank=4), **options)
    blend = games.policy.Blend({})
    for seed, (name, weight) in enumerate({"x": WEIGHT, "reference": 1 - WEIGHT}.items()):
        model.write_start_adapter(folder / name, None)
        state = load_file(folder / name / WEIGHTS)
        noise = torch.Generator().manual_seed(seed)
        save_file({k: 0.3 * torch.randn(v.shape, generator=noise) for k, v in state.items()}, folder / name / WEIGHTS)
        model.invalidate()
        blend = blend + weight * Policy(Adapter(name, folder / name), name)
    return model, TokenMixture("mix", blend)


def _next(model: llm.LanguageModel, policy: Adapter, ids: list[int]) -> Tensor:
    """log pi(v | ids) by the plain network, ``[V]``."""
    with model.use_adapter(policy.folder) as network:
        return network(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)


def _blended(model: llm.LanguageModel, mixture: TokenMixture, ids: list[int]) -> tuple[Tensor, Tensor]:
    """The mixture's log-probabilities of the next token, and log Z."""
    blend = sum(weight * _next(model, member.value, ids) for member, weight in mixture.blend)
    assert isinstance(blend, Tensor)
    return blend.log_softmax(-1), blend.logsumexp(-1)


@pytest.mark.parametrize("cap", [None, 1.5])
def test_it_scores_as_explicit_blending_does(cap: float | None, steep: Path, tmp_path: Path) -> None:
    """With a cap on the logits a blend of states is not one of logits: it is noticed."""
    model, mixture = _members(steep, tmp_path)
    prompt, responses = [0, 9, 8], [[12, 40], [7, 30, 1], [90]]
    if cap is not None:
        base: Any = model.network.get_base_model()
        base.get_output_embeddings().register_forward_hook(
            lambda module, inputs, logits: cap * torch.tanh(logits / cap)
        )
    expected = []
    for response in responses:
        steps = [_blended(model, mixture, [*prompt, *response[:h]])[0][token] for h, token in enumerate(response)]
        expected.append(float(torch.stack(steps).sum()))
    with use_policy(model, mixture) as network:
        found = sequence_logprobs(network, [prompt] * 3, responses, model.pad_id)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    for member, _ in mixture.blend:
        with model.use_adapter(member.value.folder) as network:
            alone = sequence_logprobs(network, [prompt] * 3, responses, model.pad_id)
        assert float((alone - found).abs().max()) > 0.1


@pytest.mark.parametrize("quantise", [False, True])
def test_it_draws_as_explicit_blending_does(quantise: bool, tiny_folder: Path, tmp_path: Path) -> None:
    """Token for token, from the same uniform numbers; a sampler of one member draws others."""
    model, mixture = _members(tiny_folder, tmp_path, quantise=quantise)
    prompts, seeds = [[0, 9, 8, 7], [0, 5]], [[1, 2], [3, 4]]
    source = llm.GenerateSource(llm.Sampling(max_new_tokens=6, batch=3, temperature=0.8))
    with use_policy(model, mixture) as network:
        assert isinstance(network, MixedNetwork)
        model.network, plain = network, model.network  # type: ignore[assignment]
        found = source.draw(model, prompts, seeds)
        model.network = plain
    for prompt, own, row in zip(prompts, seeds, found, strict=True):
        for seed, response in zip(own, row, strict=True):
            uniforms = torch.rand(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            drawn: list[int] = []
            while len(drawn) < 6 and not (drawn and drawn[-1] in model.stop_ids):
                blend = _blended(model, mixture, [*prompt, *drawn])[0]
                cumulative = (blend / 0.8).softmax(-1).cumsum(-1)
                drawn.append(int(torch.searchsorted(cumulative, uniforms[len(drawn)] * cumulative[-1], right=True)))
            assert response.ids == drawn
    with model.use_adapter(tmp_path / "x"):
        alone = source.draw(model, prompts, seeds)
    assert [r.ids for row in alone for r in row] != [r.ids for row in found for r in row]


def test_how_far_it_is_from_the_mixture_of_responses(steep: Path, tmp_path: Path) -> None:
    """log pi - sum_k w_k log pi_k = -sum_h log Z(y_<h), which is no constant: 0.007 of total variation here."""
    model, mixture = _members(steep, tmp_path, quantise=True)
    responses, _ = _source(6)
    prompt = [0, 9]
    ids = [list(response) for response in responses.responses]

    def scores(policy: Adapter | TokenMixture) -> Tensor:
        with use_policy(model, policy) as network:
            return sequence_logprobs(network, [prompt] * len(ids), ids, model.pad_id).double()

    blend = torch.stack([weight * scores(member.value) for member, weight in mixture.blend]).sum(0)
    log_Z = [sum(float(_blended(model, mixture, [*prompt, *y[:h]])[1]) for h in range(len(y))) for y in ids]
    token_level = scores(mixture)
    assert (token_level - blend).tolist() == pytest.approx([-z for z in log_Z], abs=1e-4)
    assert max(log_Z) < 0
    distance = float(games.total_variation(token_level.softmax(-1), blend.softmax(-1)))
    assert distance == pytest.approx(0.0069, rel=0.1)


def test_self_play_against_it_is_the_step_against_explicit_blending(steep: Path, tmp_path: Path) -> None:
    """x' = x^(1 - s tau) ref^(s tau) exp(s P mix), the anchor exact and mix token by token, for three iterations."""
    game, size, tau = GAMES["comal"], 0.7, 0.5
    responses, texts = _source(3)
    play = self_play(
        policy=steep, oracle=Table(game.P, texts), solver=games.NashMD(size, tau), prompts=["?"],
        folder=tmp_path / "run", iterations=3, sampling=responses, fit=EXACT, lora=llm.Lora(rank=4),
        mixtures="token-level",
    )  # fmt: skip
    run = play.run()
    assert [row["iteration"] for row in run.metrics] == ["iteration-01", "iteration-02", "iteration-03"]  # no half step
    prompt = play.model.encode(run.prompts.kept[0])
    ids = [list(response) for response in responses.responses]
    policies = {name: Adapter(name, run.folder / name / "adapter") for name in ("start", "iteration-01",
                "iteration-02", "iteration-03")}  # fmt: skip

    def explicit(mixture: TokenMixture) -> Tensor:
        scores = [sum(_blended(play.model, mixture, [*prompt, *y[:h]])[0][v] for h, v in enumerate(y)) for y in ids]
        return torch.stack([torch.as_tensor(score) for score in scores]).softmax(-1)

    def mix(name: str) -> Tensor:
        return explicit(TokenMixture(name, games.policy.Blend({Policy(policies[name]): 1.0})))

    for before, after in (
        ("start", "iteration-01"),
        ("iteration-01", "iteration-02"),
        ("iteration-02", "iteration-03"),
    ):
        x, start = Policy(policies[before]), Policy(policies["start"])
        pull = size * tau
        opponent = explicit(TokenMixture("mix", (1 - pull) * x + pull * start))
        logits = (1 - pull) * mix(before).log() + pull * mix("start").log() + size * game.win_rate(opponent)
        assert games.total_variation(mix(after), logits.softmax(-1)) < 1e-3
    assert games.total_variation(mix("iteration-03"), mix("start")) > 0.02


def test_a_run_that_samples_from_it_continues(tiny_folder: Path, tmp_path: Path) -> None:
    def play(name: str) -> llm.SelfPlay:
        solver = games.NashMD(2.0, 0.2)
        return quick_run(tiny_folder, tmp_path / name, solver=solver, mixtures="token-level", lora=llm.Lora(rank=2))

    play("whole").run()
    for until in ("sample", "judge", "train", "sample", None):
        play("cut").run(until)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    stage = tmp_path / "whole" / "iteration-02"
    (file,) = shards(stage / "responses", "iteration-02-half-1")
    assert {row["policy"] for row in read_shard(file)} == {"iteration-02-half-1"}
    with pytest.raises(ValueError, match=r"mixtures 'token-level' there, 'fitted' now"):
        quick_run(tiny_folder, tmp_path / "cut", solver=games.NashMD(2.0, 0.2)).run()


def test_more_than_two_members_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    class Three:
        def play(self, x: Policy, reference: Policy) -> Any:
            first = yield games.Step(x, x, 1.0)
            second = yield games.Step(first, first, 1.0)
            mix = yield games.Step((x + first + second) / 3, is_iterate=False)
            yield games.Step(mix, mix, 1.0)

    play = quick_run(tiny_folder, tmp_path / "run", solver=Three(), iterations=3, mixtures="token-level")
    with pytest.raises(ValueError, match=r"^iteration-03-half-1 blends 3 policies, .*'fitted'$"):
        play.run()
    with pytest.raises(ValueError, match=r"^mixtures is 'both'; expected one of fitted, token-level$"):
        quick_run(tiny_folder, tmp_path / "run", mixtures="both").run()
