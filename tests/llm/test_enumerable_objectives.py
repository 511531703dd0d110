"""Several objectives on a language model whose responses can be enumerated: its iterates are those of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import games, llm
from nashward.games import objectives, zoo
from nashward.llm.run.payoffs.objectives import StepObjectives
from nashward.llm.run.selfplay import metrics
from nashward.llm.store.files import read_shard

from .test_enumerable import EXACT, Table, _source
from .tiny_run import self_play

NAMES = ("helpful", "short")
SEVERAL = games.MultiObjectiveGame(
    torch.stack([zoo.comal_cycle().P, zoo.biased_rock_paper_scissors().P.mT.contiguous()]), NAMES
)
FLOOR = 0.57  # above what the start wins over itself, so that it binds from the first step on


def _oracle(combine: str) -> llm.oracles.Objectives:
    texts = _source(3)[1]
    combination = llm.oracles.Combination.read(NAMES, combine)
    return llm.oracles.Objectives([Table(P, texts) for P in SEVERAL.P], combination)


def _play(combine: str, solver: Any, source: Path, folder: Path, steps: int) -> Any:
    return self_play(
        oracle=_oracle(combine), solver=solver, prompts=["?"], folder=folder, iterations=steps,
        sampling=_source(3)[0], policy=source, fit=EXACT, lora=llm.Lora(rank=4),
    )  # fmt: skip


def _iterates(play: Any, steps: int) -> torch.Tensor:
    """The start and the iterates, [steps + 1, n]."""
    responses, run = _source(3)[0], play.run()
    ids = [play.model.encode(prompt) for prompt in run.prompts.kept]

    def mix(adapter: Path) -> torch.Tensor:
        with play.model.use_adapter(adapter):
            return torch.tensor([answer.weight for answer in responses.draw(play.model, ids, [])[0]]).double()

    folders = ["start", *(f"iteration-{t:02d}" for t in range(1, steps + 1))]
    return torch.stack([mix(run.folder / name / "adapter") for name in folders])


def _game(combine: str, start: torch.Tensor) -> Any:
    """The game on a table that a run of this combination plays."""
    combination = llm.oracles.Combination.read(NAMES, combine)
    if combination.rule == "worst-case":
        return objectives.EntropicGame(SEVERAL, start, combination.tau)
    if combination.rule == "floors":
        return objectives.FloorsGame(SEVERAL, combination.floors, start, combination.limit)
    if combination.rule == "majority":
        return SEVERAL.majority()
    return SEVERAL.weighted(combination.member_weights)


def _summaries(folder: Path) -> list[dict[str, Any]]:
    return [row["objectives"] for row in metrics(folder)]


QUICK = [
    ("weights:helpful=2:short=1", games.OptimisticMWU(0.7)),
    ("worst-case:tau=0.1", games.MWU(0.4)),
    (f"floors:short={FLOOR}:limit=2", games.OptimisticMWU(0.7)),
]
SLOW = [
    ("lexicographic:epsilon=0.2", games.MWU(0.7)),
    ("majority", games.MWU(0.7)),
    ("worst-case:tau=0.3", games.OptimisticMWU(0.7)),
    ("worst-case:tau=0.2", games.NashMD(0.7, 0.2)),
    (f"floors:short={FLOOR}", games.ExtraGradient(0.7, tau=0.2)),
    (f"floors:short={FLOOR}", games.MagneticMirrorDescent(0.7, 0.2)),
    (f"floors:short={FLOOR}", games.NashMD(0.7, 0.2)),
    (f"floors:short={FLOOR}", games.OptimisticMWU(0.7, two_sequences=True)),
]
CASES = [pytest.param(*case, 6, id=f"{case[0]}-{case[1]!r}") for case in QUICK] + [
    pytest.param(*case, 6, id=f"{case[0]}-{case[1]!r}", marks=pytest.mark.slow) for case in SLOW
]


def _distance(combine: str, solver: Any, source: Path, folder: Path, steps: int) -> float:
    found = _iterates(_play(combine, solver, source, folder, steps), steps)
    game = _game(combine, found[0])
    table = games.solve(game, solver, steps, found[0], keep_policies=True, record=range(1, steps + 1))
    policies = table.policies["last"]
    policies = policies.policy if isinstance(game, objectives.FloorsGame) else policies
    assert games.total_variation(found[-1], found[0]) > 0.02  # the iterates go somewhere
    if isinstance(game, objectives.FloorsGame):
        shares = torch.tensor([[*row["shares"].values()] for row in _summaries(folder)[-1:]])
        torch.testing.assert_close(shares[-1].double(), table.last.shares, rtol=0, atol=1e-3)
        assert float((shares[-1] - 0.5).abs().max()) > 0.02  # and the multipliers too
    return float(games.total_variation(found[1:], policies).max())


@pytest.mark.parametrize(("combine", "solver", "steps"), CASES)
def test_a_language_model_follows_the_table(combine: str, solver: Any, steps: int, steep: Path, tmp_path: Path) -> None:
    assert _distance(combine, solver, steep, tmp_path / "run", steps) < 1e-3


def test_the_metrics_have_each_objective_s_win_rate_over_the_start(steep: Path, tmp_path: Path) -> None:
    solver, steps = games.MWU(0.4), 3
    found = _iterates(_play("worst-case:tau=0.1", solver, steep, tmp_path / "run", steps), steps)
    game = objectives.EntropicGame(SEVERAL, found[0], 0.1)
    for played, row in zip(found, _summaries(tmp_path / "run"), strict=False):
        exact = SEVERAL.win_rates(played, found[0])
        for name in NAMES:
            assert row["win_rates"][name] == pytest.approx(exact[name], abs=1e-4)
            assert row["multipliers"][name] == pytest.approx(game.weights(played)[name], abs=1e-3)


def test_a_run_under_floors_goes_on_bit_for_bit(steep: Path, tmp_path: Path) -> None:
    """Stopped after each stage, and begun again by another process's objects: the same adapters and multipliers."""
    combine, solver = f"floors:short={FLOOR}:limit=2", games.OptimisticMWU(0.7)
    whole = _play(combine, solver, steep, tmp_path / "whole", 3)
    whole.run()
    for until in ("sample", "judge", "train", "judge", "train", None):
        _play(combine, solver, steep, tmp_path / "parts", 3).run(until)
    for step in ("iteration-01", "iteration-02", "iteration-03"):
        weights = [
            (tmp_path / name / step / "adapter" / "adapter_model.safetensors").read_bytes()
            for name in ("whole", "parts")
        ]
        assert weights[0] == weights[1]
    assert _summaries(tmp_path / "whole") == _summaries(tmp_path / "parts")


def test_floors_that_cannot_be_met_stop_the_run_before_anything_is_trained(steep: Path, tmp_path: Path) -> None:
    game = games.MultiObjectiveGame(SEVERAL.P, NAMES)
    play = _play("floors:short=0.99", games.MWU(0.4), steep, tmp_path / "run", 2)
    with pytest.raises(ValueError, match=r"short=0\.99.*short=0\.[5-9]\d\d\d$") as refused:
        play.run()
    assert not (tmp_path / "run" / "iteration-01" / "adapter").exists()
    start = _iterates(_play("weights", games.MWU(0.4), steep, tmp_path / "other", 1), 1)[0]
    best = float((game.P[1] @ start).max())
    assert float(str(refused.value).rpartition("=")[2]) == pytest.approx(best, abs=2e-4)


def _flipped(self: StepObjectives, step: games.Step) -> list[float]:
    return [1 - share for share in _SHARES(self, step)]


def _without_floors(self: StepObjectives, policy: Any, opponents: Any) -> Any:
    return sum(c * self._wins(policy, rho.value, "helpful") for rho, c in opponents.items())


_SHARES = StepObjectives.shares


@pytest.mark.parametrize(("name", "wrong"), [("shares", _flipped), ("payoffs", _without_floors)])
def test_mutants_of_the_floors_are_seen(
    name: str, wrong: Any, steep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepObjectives, name, wrong)
    with pytest.raises(AssertionError):
        assert _distance(f"floors:short={FLOOR}:limit=2", games.MWU(0.7), steep, tmp_path / "run", 3) < 1e-3


def test_each_objective_s_judgements_are_kept(steep: Path, tmp_path: Path) -> None:
    play = _play("weights", games.MWU(0.4), steep, tmp_path / "run", 1)
    play.run("judge")
    (file,) = (tmp_path / "run" / "iteration-01" / "judgements").glob("start.*")
    (row,) = read_shard(file)
    for k, name in enumerate(NAMES):
        assert torch.tensor(row["objectives"][name], dtype=torch.float64).sub(SEVERAL.P[k]).abs().max() < 1e-12
    assert torch.tensor(row["P"], dtype=torch.float64).sub(SEVERAL.P.mean(0)).abs().max() < 1e-12
