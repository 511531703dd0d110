"""One algebra: a language model over responses that can be enumerated follows the table's iterates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games, llm
from nashward.games import Step
from nashward.llm.run.executor import AdapterExecutor
from nashward.llm.run.stages.score import ScoreStage
from nashward.llm.store.files import read_shard
from nashward.llm.training import regression

from . import tiny
from .tiny_run import self_play

STEPS = 10
EXACT = llm.Fit(
    optimiser="lbfgs", learning_rate=1.0, schedule="constant", warmup=0.0, epochs=2, batch=10, held_out=0.0,
    validation=0.0, max_grad_norm=math.inf,
)  # fmt: skip


class Table(llm.oracles.PreferenceOracle):
    """The win probabilities of a table, told by the text of the response."""

    name, symmetric = "table", True

    def __init__(self, P: torch.Tensor, texts: Sequence[str]):
        self.P, self.index = P.numpy(), {text: i for i, text in enumerate(texts)}

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Sequence[tuple[int, int]]]
    ) -> list[np.ndarray]:
        found = []
        for texts, asked in zip(candidates, pairs, strict=True):
            p = np.array([self.P[self.index[texts[i]], self.index[texts[j]]] for i, j in asked])
            with np.errstate(divide="ignore"):
                found.append(np.log(p) - np.log1p(-p))
        return found


def _source(n: int) -> tuple[llm.Enumerated, list[str]]:
    """n responses of two tokens that share first tokens: 'ad', 'ae', 'bd', ..."""
    words = tiny.tokenizer()
    texts = [first + second for first in "abc" for second in "de"][:n] if n > 3 else ["ad", "ae", "bd"]
    return llm.Enumerated(tuple(tuple(words(text)["input_ids"]) for text in texts)), texts


RIVALS = {"one": ["ad", "ae", "ae", "bd"], "two": ["bd"]}  # what they answer, as often as they do


def _told(name: str) -> list[dict[str, Any]]:
    """Stored responses: several in a row, and one; and one to a prompt that the run has not."""
    first, *others = RIVALS[name]
    return [{"prompt": "?", "responses": others}, {"prompt": "?", "output": first}, {"prompt": "!", "text": "b"}]


def _distance(
    game: games.PreferenceGame,
    solver: Any,
    source: Path,
    folder: Path,
    steps: int = STEPS,
    rivals: Sequence[str] = (),
    **more: Any,
) -> float:
    """The largest total variation between the language model's iterates and the table's, from the same start."""
    responses, texts = _source(game.sizes[0])
    play = self_play(
        oracle=Table(game.P, texts), solver=solver, prompts=["?"], folder=folder, iterations=steps,
        sampling=responses, opponents={name: _told(name) for name in rivals},
        **{"policy": source, "fit": EXACT, "lora": llm.Lora(rank=4), **more},
    )  # fmt: skip
    run = play.run()
    ids = [play.model.encode(prompt) for prompt in run.prompts.kept]

    def mix(adapter: Path) -> torch.Tensor:
        with play.model.use_adapter(adapter):
            return torch.tensor([answer.weight for answer in responses.draw(play.model, ids, [])[0]]).double()

    start = mix(folder / "start" / "adapter")
    opponents = {name: [RIVALS[name].count(text) / len(RIVALS[name]) for text in texts] for name in rivals}
    table = games.solve(
        game, solver, iterations=steps, start=start, opponents=opponents, keep_policies=True, record=range(1, steps + 1)
    )
    assert games.total_variation(table.last, start) > 0.02  # the iterates go somewhere
    found = torch.stack([mix(folder / f"iteration-{t:02d}" / "adapter") for t in range(1, steps + 1)])
    return float(games.total_variation(found, table.policies["last"]).max())


GAMES = {
    "comal": games.zoo.comal_cycle(),
    "biased": games.zoo.biased_rock_paper_scissors(),
    "random": games.zoo.random_preferences(6, seed=2),
}
QUICK = [games.MWU(0.7), games.OptimisticMWU(0.7), games.NashMD(0.7, 0.2)]
SLOW = [
    games.OptimisticMWU(0.7, two_sequences=True),
    games.ExtraGradient(0.7),
    games.ExtraGradient(0.7, tau=0.2),
    games.MagneticMirrorDescent(0.7, 0.2),
    games.INPO(0.6, 0.2),
    games.NashEMA(0.6, 0.2, decay=0.5),
    games.Momentum(0.5, 0.3),
    games.Momentum(0.5, 0.3, nesterov=True),
    games.ProximalPoint(0.6, 0.2, inner=3),
    games.MagnetReset(0.7, 0.2, every=3),
    games.HistoryMixture(0.6, 0.2, weights=(0.5, 0.3, 0.2)),
]
CASES = [pytest.param("comal", solver, id=f"comal-{solver!r}") for solver in QUICK] + [
    pytest.param(game, solver, id=f"{game}-{solver!r}", marks=pytest.mark.slow)
    for game in GAMES
    for solver in (SLOW if game == "comal" else QUICK + SLOW)
]


@pytest.mark.parametrize(("game", "solver"), CASES)
@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")  # few inner steps: each is a fit
def test_a_language_model_follows_the_table(game: str, solver: Any, steep: Path, tmp_path: Path) -> None:
    assert _distance(GAMES[game], solver, steep, tmp_path / "run") < 1e-3


@pytest.mark.parametrize(
    "solver",
    [
        games.FixedOpponents(games.OptimisticMWU(0.7), {"one": 0.2, "two": 0.15}),
        games.FixedOpponents(
            games.MWU(0.7), {"one": 0.6, "two": 0.4}
        ),  # the fixed opponents alone: the anchor is sampled
        pytest.param(games.FixedOpponents(games.NashMD(0.7, 0.2), {"two": 0.3}), marks=pytest.mark.slow),
        pytest.param(games.FixedOpponents(games.ExtraGradient(0.7), {"one": 0.3}), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_stored_responses_are_played_against_as_a_table_s_fixed_policies(
    solver: games.FixedOpponents, steep: Path, tmp_path: Path
) -> None:
    assert _distance(GAMES["comal"], solver, steep, tmp_path / "run", 5, list(solver.opponents)) < 1e-3


def test_every_mirror_step_is_among_the_cases() -> None:
    assert {type(solver) for solver in QUICK + SLOW} == set(games.solvers.MIRROR_STEPS)


@pytest.mark.parametrize("kind", games.solvers.TABLES_ONLY)
def test_what_is_no_mirror_step_is_refused_before_anything_is_written(kind: Any, tmp_path: Path) -> None:
    play = self_play(policy=tmp_path / "nowhere", oracle=None, solver=kind(), prompts=["?"], folder=tmp_path / "run")
    with pytest.raises(
        ValueError, match=f"{kind.__name__} makes no .* nearest mirror step is {kind.nearest.__name__}$"
    ):
        play.run()
    assert not (tmp_path / "run").exists()


def test_with_the_centred_loss_too(steep: Path, tmp_path: Path) -> None:
    fit = dataclasses.replace(EXACT, baseline="centred")
    assert _distance(GAMES["comal"], games.OptimisticMWU(0.7), steep, tmp_path / "run", 4, fit=fit) < 1e-3


def test_prompts_count_in_the_loss_by_their_weights(steep: Path, tmp_path: Path) -> None:
    """Two prompts with one distribution and opposite tables, 3 to 1: half of the step that the first would make."""
    P = games.zoo.comal_cycle().P
    responses, texts = _source(3)

    class Opposite(Table):
        def raw_logits(self, prompts: Sequence[str], *given: Any) -> list[np.ndarray]:
            found = super().raw_logits(prompts, *given)
            return [own if prompt == "this" else -own for prompt, own in zip(prompts, found, strict=True)]

    model = tiny.one_prompt(llm.LanguageModel.from_pretrained(steep, lora=llm.Lora(rank=4)))

    def after(name: str, step: float, *prompts: Any) -> torch.Tensor:
        play = self_play(
            policy=model, oracle=Opposite(P, texts), solver=games.MWU(step), prompts=prompts, folder=tmp_path / name,
            iterations=1, sampling=responses, fit=dataclasses.replace(EXACT, baseline="centred"),
        )  # fmt: skip
        run = play.run()
        ids = play.model.encode(run.prompts.kept[0])
        with play.model.use_adapter(run.last):
            return torch.tensor([answer.weight for answer in responses.draw(play.model, [ids], [])[0]]).double()

    half = after("half", 1.0, "this")
    weighted = after("weighted", 2.0, {"prompt": "this", "weight": 3}, "that")
    assert float(games.total_variation(weighted, half)) < 1e-3
    assert float(games.total_variation(after("even", 2.0, "this", "that"), half)) > 0.02
    with pytest.raises(ValueError, match="holds another run"):
        after("weighted", 2.0, {"prompt": "this", "weight": 2}, "that")


def _flipped(step: Step, reference: Any) -> Step:
    return dataclasses.replace(step, size=-step.size)


def _doubled(step: Step, reference: Any) -> Step:
    return dataclasses.replace(step, size=2 * step.size)


def _no_anchor(step: Step, reference: Any) -> Step:
    return dataclasses.replace(step, anchor=reference)


@pytest.mark.slow
def test_in_bfloat16_within_its_precision(tmp_path: Path) -> None:
    """Line searches stumble over the steps of bfloat16, so AdamW; smaller logits, so finer steps.

    A logit z is rounded by up to u |z|, u = eps / 2, on any processor; a response has two tokens, so its
    log-probability is read with an error of e = 2 u max |z|, which moves a softmax by at most tanh(e / 2) in total
    variation.
    """
    folder = tiny.random_policy(tmp_path / "model", spread=0.15)
    model = llm.LanguageModel.from_pretrained(folder, lora=llm.Lora(rank=4), dtype=torch.bfloat16)
    fit = dataclasses.replace(EXACT, optimiser="adamw", learning_rate=1e-2, schedule="linear", epochs=80)
    distance = _distance(GAMES["comal"], games.OptimisticMWU(0.7), folder, tmp_path / "run", policy=model, fit=fit)
    responses, _ = _source(3)
    with model.use_adapter(tmp_path / "run" / f"iteration-{STEPS}" / "adapter") as network:
        prompt = tiny.tokenizer()("?")["input_ids"]
        largest = max(float(network(torch.tensor([[*prompt, *ids]])).logits.abs().max()) for ids in responses.responses)
    allowed = math.tanh(torch.finfo(torch.bfloat16).eps * largest / 2)
    assert distance < allowed < 0.03


@pytest.mark.parametrize("change", [_flipped, _doubled, _no_anchor])
def test_mutants_of_the_step_are_seen(
    change: Any, steep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = games.MWU(0.7)
    real = AdapterExecutor.execute
    starts: list[Any] = []

    def execute(self: AdapterExecutor, step: Step) -> Any:
        starts.append(next(iter(step.anchor.members())))  # the first Step's anchor is the start
        return real(self, change(step, starts[0]))

    monkeypatch.setattr(AdapterExecutor, "execute", execute)
    assert _distance(GAMES["comal"], solver, steep, tmp_path / "run", 3) > 1e-2


def test_training_from_the_wrong_adapter_is_seen(steep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The anchor's log-probabilities are taken under the start in place of the previous iterate."""
    real = llm.LanguageModel.use_adapter
    scoring: list[bool] = [False]

    def use_adapter(self: llm.LanguageModel, folder: Path) -> Any:
        return real(self, folder.parents[1] / "start" / "adapter" if scoring[0] else folder)

    score = ScoreStage.run

    def wrong(self: ScoreStage, *arguments: Any) -> None:
        scoring[0] = True
        score(self, *arguments)
        scoring[0] = False

    monkeypatch.setattr(llm.LanguageModel, "use_adapter", use_adapter)
    monkeypatch.setattr(ScoreStage, "run", wrong)
    assert _distance(GAMES["comal"], games.MWU(0.7), steep, tmp_path / "run", 3) > 1e-2


@pytest.mark.slow
def test_with_samples_the_deviation_falls_as_one_over_the_root_of_k(steep: Path, tmp_path: Path) -> None:
    """The estimated win rates of K samples against the exact ones: standard error sqrt(Var / (K - 1))."""
    game, (responses, texts) = GAMES["random"], _source(6)
    errors = {}
    for K in (4, 16, 64):
        play = self_play(
            policy=steep, oracle=Table(game.P, texts), solver=games.MWU(0.7), prompts=[f"{i}?" for i in range(120)],
            folder=tmp_path / str(K), iterations=1, responses=K, sampling=Restricted(responses), fit=EXACT,
        )  # fmt: skip
        play.run("judge")
        stage = tmp_path / str(K) / "iteration-01"
        deviations, predicted = [], []
        with play.model.use_adapter(tmp_path / str(K) / "start" / "adapter"):
            judged = [row for file in sorted((stage / "judgements").glob("*")) for row in read_shard(file)]
            stored = [row for file in sorted((stage / "responses").glob("*")) for row in read_shard(file)]
            for row in judged:
                answers = [r for r in stored if r["prompt"] == row["prompt"]]
                exact = responses.draw(play.model, [answers[0]["prompt_ids"]], [])[0]
                mix = torch.tensor([answer.weight for answer in exact]).double()
                own = torch.tensor([texts.index(answer["text"]) for answer in answers])
                found = regression.win_rates(torch.tensor(row["P"]), torch.ones(K).double(), torch.arange(K))
                wins = game.P[own]
                deviations.append(((found - game.win_rate(mix)[own]) ** 2).mean())
                spread = (wins**2) @ mix - (wins @ mix) ** 2
                predicted.append(spread.mean() / (K - 1))
        errors[K] = float(torch.stack(deviations).mean().sqrt())
        assert errors[K] == pytest.approx(float(torch.stack(predicted).mean().sqrt()), rel=0.2)
    slope = math.log(errors[64] / errors[4]) / math.log(63 / 3)
    assert slope == pytest.approx(-0.5, abs=0.08)


@dataclasses.dataclass(frozen=True)
class Restricted:
    """Samples of the enumerated set, in the policy's own proportions."""

    inner: llm.Enumerated
    enumerates = False

    def draw(self, model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]]) -> Any:
        drawn = []
        for row, own in zip(self.inner.draw(model, prompts, seeds), seeds, strict=True):
            picks = np.random.default_rng(own[0]).choice(len(row), size=len(own), p=[a.weight for a in row])
            drawn.append([dataclasses.replace(row[k], weight=1 / len(own)) for k in picks])
        return drawn
