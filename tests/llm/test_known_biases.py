"""What published shortcuts do to the game, shown on a language model whose responses can be enumerated."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import games, llm

from . import tiny
from .test_enumerable import EXACT, Restricted, Table
from .tiny_run import self_play

TEXTS = ["ke", "kg", "dm"]  # the model gives them 39, 24 and 37% of what it gives to all three
PROMPTS = 250


class Player:
    """Plays on one model over three responses, from samples or exactly; knows its distribution at every iterate."""

    def __init__(self, policy: Path):
        words = tiny.tokenizer()
        self.all = llm.Enumerated(tuple(tuple(words(text)["input_ids"]) for text in TEXTS))
        self.model = llm.LanguageModel.from_pretrained(policy, lora=llm.Lora(rank=4), quantise=True)
        tiny.one_prompt(self.model)  # every prompt has the same responses with the same probabilities

    def mix(self, adapter: Path) -> torch.Tensor:
        ids = self.model.encode(llm.read_prompts(["?"]).kept[0])
        with self.model.use_adapter(adapter):
            return torch.tensor([answer.weight for answer in self.all.draw(self.model, [ids], [])[0]]).double()

    def play(self, P: torch.Tensor, solver: Any, folder: Path, prompts: int = 1, **settings: Any) -> list[torch.Tensor]:
        """The distributions pi_1 .. pi_{T + 1}."""
        play = self_play(
            policy=self.model, oracle=Table(P, TEXTS), solver=solver, prompts=[f"{i}" for i in range(prompts)],
            folder=folder, **{"iterations": 1, "sampling": self.all, "fit": EXACT, **settings},
        )  # fmt: skip
        run = play.run()
        stages = [folder / "start", *(folder / row["iteration"] for row in run.metrics)]
        return [self.mix(stage / "adapter") for stage in stages]


@pytest.fixture(scope="module")
def player(steep: Path) -> Player:
    return Player(steep)


def _cycle_with_nash(policy: torch.Tensor) -> torch.Tensor:
    """a beats b by e_ab, b beats c by e_bc, c beats a by e_ca: the Nash is e_bc : e_ca : e_ab."""
    bc, ca, ab = (0.45 * policy / policy.max()).tolist()
    return 0.5 + torch.tensor([[0, ab, -ca], [-ab, 0, bc], [ca, -bc, 0]], dtype=torch.float64)


@dataclasses.dataclass(frozen=True)
class Stratified:
    """The multisets of 5 responses, each for as many prompts as is expected: a sample without noise."""

    inner: llm.Enumerated
    draws: Iterator[tuple[int, ...]]
    enumerates = False

    @classmethod
    def of(cls, inner: llm.Enumerated, mix: torch.Tensor, prompts: int) -> Stratified:
        sets = list(itertools.combinations_with_replacement(range(3), 5))
        ways = [math.factorial(5) / math.prod(math.factorial(s.count(k)) for k in range(3)) for s in sets]
        expected = [prompts * way * math.prod(float(mix[k]) for k in s) for s, way in zip(sets, ways, strict=True)]
        bounds = [0, *(round(total) for total in itertools.accumulate(expected))]
        return cls(inner, itertools.chain(*([s] * (b - a) for s, a, b in zip(sets, bounds, bounds[1:], strict=False))))

    def draw(self, model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]]) -> Any:
        (row,) = self.inner.draw(model, prompts[:1], [])
        return [[dataclasses.replace(row[k], weight=1 / 5) for k in next(self.draws)] for _ in prompts]


@pytest.mark.slow
def test_best_and_worst_of_k_leave_the_nash_and_all_of_them_stay(player: Player, tmp_path: Path) -> None:
    """At the Nash no response gains: the mirror step stays. The best and the worst of 5 samples say otherwise."""
    (nash, _) = player.play(_cycle_with_nash(torch.ones(3) / 3), games.MWU(1.0), tmp_path / "any")
    P = _cycle_with_nash(nash)
    assert float(games.duality_gap(games.PreferenceGame(P), nash)) < 1e-9
    moved = {}
    for selection in ("all", "best-worst"):
        fit = dataclasses.replace(EXACT, selection=selection, baseline="centred", batch=PROMPTS)
        start, end = player.play(
            P, games.MWU(2.0), tmp_path / selection, PROMPTS, responses=5,
            sampling=Stratified.of(player.all, nash, PROMPTS), fit=fit,
        )  # fmt: skip
        moved[selection] = float(games.total_variation(end, start))
    assert moved["best-worst"] > 5 * moved["all"]


def test_comparing_with_oneself_shrinks_the_step_by_k_less_one_over_k(player: Player, tmp_path: Path) -> None:
    """With K = 5 samples a step of 3 with the self-comparison is a step of 2.4 without it, and none of 3."""
    P = games.zoo.comal_cycle().P
    fit = dataclasses.replace(EXACT, batch=30)
    sampled: dict[str, Any] = {"responses": 5, "sampling": Restricted(player.all), "prompts": 30, "fit": fit}
    _, with_itself = player.play(P, games.MWU(3.0), tmp_path / "with", self_comparison=True, **sampled)
    _, shrunk = player.play(P, games.MWU(2.4), tmp_path / "shrunk", **sampled)
    _, whole = player.play(P, games.MWU(3.0), tmp_path / "whole", **sampled)
    assert float(games.total_variation(with_itself, shrunk)) < 1e-3
    assert float(games.total_variation(with_itself, whole)) > 5e-3


@pytest.mark.slow
def test_a_bradley_terry_projection_erases_the_cycle(player: Player, tmp_path: Path) -> None:
    """P(i beats j) = sigmoid(s_i - s_j) from mean logits: COMAL's cycle gets a winner, an even one none."""

    def projected(P: torch.Tensor) -> torch.Tensor:
        scores = P.logit().mean(1)
        return (scores[:, None] - scores[None, :]).sigmoid()

    comal = games.zoo.comal_cycle()
    assert games.nash(comal).support.sum() == 3
    assert games.nash(games.PreferenceGame(projected(comal.P))).policy.tolist() == [0, 0, 1]
    cyclic = player.play(comal.P, games.MWU(2.5), tmp_path / "cyclic", iterations=10)
    erased = player.play(projected(comal.P), games.MWU(2.5), tmp_path / "erased", iterations=10)
    third = [torch.stack(iterates)[:, 2].diff() for iterates in (cyclic, erased)]
    assert (third[1] > 0).all()
    assert (third[0] > 0).any()
    assert (third[0] < 0).any()
    assert float(erased[-1][2]) > 0.8
    even = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]], dtype=torch.float64)
    still = player.play(projected(even), games.MWU(1.5), tmp_path / "still")
    goes = player.play(even, games.MWU(1.5), tmp_path / "goes")
    assert float(games.total_variation(still[1], still[0])) < 1e-6
    assert float(games.total_variation(goes[1], goes[0])) > 0.02
