"""The field's losses: values against plain loops, gradients, minimisers, passes in parts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from nashward import games, llm
from nashward.cli.main import main
from nashward.llm.data.rollouts import Response, Rollout
from nashward.llm.run.selfplay import metrics
from nashward.llm.training import losses, regression
from nashward.llm.training.batches import MicroBatch
from nashward.llm.training.experience import Experience
from nashward.llm.training.losses import LOSSES, Loss, LossSettings

from .. import tiny
from ..test_enumerable import EXACT, GAMES, _distance
from ..tiny_run import PROMPTS, short_run

SIZE, MARGIN = 2.5, 0.3
COMPARED = [name for name in get_args(Loss) if name != "mirror"]


def _batch(seed: int = 0, prompts: int = 3, count: int = 4, **given: Any) -> Experience:
    """Random responses; one pair of the second prompt is not batch, one response of the third has no weight."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    P = (normal(prompts, count, count) / 2).sigmoid().triu(1)
    P = P + (1 - P.mT).tril(-1) + 0.5 * torch.eye(count)
    P[1:2, 0, 1] = P[1:2, 1, 0] = math.nan
    weights = torch.full((prompts, count), 1 / count, dtype=torch.float64)
    weights[2:, 3:] = 0.0
    payoffs = regression.win_rates(P, torch.ones(prompts, count, dtype=torch.float64), torch.arange(count))
    lengths = torch.randint(1, 9, (prompts, count), generator=generator).double()
    target = regression.targets(payoffs, SIZE, weights, "centred")
    now, anchor, sampler = normal(prompts, count), normal(prompts, count), normal(prompts, count)
    fields = {"table": P, "margin": MARGIN, **given}
    return Experience(now, anchor, sampler, payoffs, weights, lengths, target, "centred", SIZE, **fields)


def _of(name: Loss, batch: Experience) -> Callable[[Tensor], Tensor]:
    """The loss as a function of the log-probabilities."""
    return lambda now: LOSSES[name].of(replace(batch, now=now))


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _plain_pair(name: str, row: dict[str, Any], i: int, j: int) -> float:
    """The loss of the pair (i chosen over j), from numbers."""
    a, b = row["ratio"][i], row["ratio"][j]
    g, h, P = row["payoffs"][i], row["payoffs"][j], row["P"][i][j]
    if name == "dpo":
        return -_log_sigmoid((a - b) / SIZE)
    if name == "ipo":
        return (a - b - SIZE / 2) ** 2
    if name == "simpo":
        mean = [row["now"][k] / row["lengths"][k] for k in (i, j)]
        return -_log_sigmoid((mean[0] - mean[1] - MARGIN) / SIZE)
    if name == "sppo-hard":
        return ((a - SIZE / 2) ** 2 + (b + SIZE / 2) ** 2) / 2
    if name == "sppo-single":
        return ((a - SIZE * (P - 0.5)) ** 2 + (b + SIZE * (P - 0.5)) ** 2) / 2
    if name == "rebel":
        return (a - b - SIZE * (g - h)) ** 2
    if name == "online-ipo":
        thirds = [k for k in range(len(row["P"])) if k not in (i, j) and row["weights"][k] > 0]
        known = [k for k in thirds if not math.isnan(row["P"][i][k] + row["P"][j][k])]
        return sum((a - b - SIZE * (row["P"][i][k] - row["P"][j][k])) ** 2 for k in known) / len(known)
    assert name == "dno"
    share, x = _sigmoid(g - h), (a - b) / SIZE
    return -(share * _log_sigmoid(x) + (1 - share) * _log_sigmoid(-x))


def _plain_response(name: str, row: dict[str, Any], i: int) -> float:
    a, g = row["ratio"][i], row["payoffs"][i]
    if name == "sppo":
        return (a - SIZE * (g - 0.5)) ** 2
    if name == "gpo":
        return (a - SIZE * g) ** 2
    assert name == "kto"
    u = [w * math.exp(n - s) for w, n, s in zip(row["weights"], row["now"], row["sampler"], strict=True)]
    divergence = sum(w * (r + math.exp(-r) - 1) for w, r in zip(u, row["ratio"], strict=True)) / sum(u)
    best = float(g == max(row["payoffs"])) if row["hard"] else g
    x = (a - divergence) / SIZE
    return best * (1 - _sigmoid(x)) + (1 - best) * (1 - _sigmoid(-x))


def _plain(name: str, batch: Experience) -> float:
    total = 0.0
    single = name in ("sppo", "gpo", "kto")
    for k in range(len(batch.now)):
        row: dict[str, Any] = {key: value[k].tolist() for key, value in vars(batch).items() if torch.is_tensor(value)}
        row |= {"ratio": (batch.now - batch.anchor)[k].tolist(), "P": row["table"], "hard": batch.hard}
        count, w = len(row["now"]), row["weights"]
        if single:
            total += sum(w[i] * _plain_response(name, row, i) for i in range(count))
            continue
        found = weight = 0.0
        for i, j in itertools.combinations([k for k in range(count) if w[k] > 0], 2):
            g, h, P = row["payoffs"][i], row["payoffs"][j], row["P"][i][j]
            chance = float(g > h) if batch.hard else P
            chance = 0.5 if name in ("rebel", "dno", "online-ipo") else chance
            if math.isnan(chance) or (name == "sppo-single" and math.isnan(P)):
                continue
            weight += w[i] * w[j]
            for a, b, share in ((i, j, chance), (j, i, 1 - chance)):
                if share:
                    found += w[i] * w[j] * share * _plain_pair(name, row, a, b)
        total += sum(w) * found / weight
    return total


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", COMPARED)
def test_values_are_those_of_plain_loops(name: Loss, hard: bool) -> None:
    for seed in range(3):
        batch = _batch(seed, hard=hard)
        assert float(LOSSES[name].of(batch)) == pytest.approx(_plain(name, batch), rel=1e-12)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", [name for name in get_args(Loss) if name != "kto"])
def test_gradients_are_those_of_finite_differences(name: Loss, hard: bool) -> None:
    batch = _batch(4, hard=hard)
    assert torch.autograd.gradcheck(_of(name, batch), batch.now.clone().requires_grad_())


def test_no_gradient_goes_through_the_divergence_of_kto() -> None:
    """The functions's gradient is that of finite differences where the divergence is held."""
    ratio, desirable, divergence = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    desirable = desirable.sigmoid()
    held = divergence.abs()
    assert torch.autograd.gradcheck(lambda r: losses.kto(r, desirable, held, SIZE), ratio.clone().requires_grad_())
    held = held.requires_grad_()
    losses.kto(ratio.requires_grad_(), desirable, held, SIZE).sum().backward()
    assert held.grad is None
    batch = _batch(1)
    now = batch.now.clone().requires_grad_()
    (slope,) = torch.autograd.grad(_of("kto", batch)(now), now)
    u = (batch.weights.log() + batch.now - batch.sampler).softmax(-1)
    ratio = batch.now - batch.anchor
    z = (ratio - (u * (ratio + (-ratio).exp() - 1)).sum(-1, keepdim=True)) / SIZE
    expected = batch.weights * (1 - 2 * batch.payoffs) * z.sigmoid() * (1 - z.sigmoid()) / SIZE
    torch.testing.assert_close(slope, expected, atol=1e-14, rtol=1e-12)


def test_two_responses_are_the_official_pair() -> None:
    """The best and the worst of K with weights 1/2: the published value of one pair."""
    batch = _batch(2, prompts=1, count=2, hard=True)
    P = torch.tensor([[[0.5, 0.7], [0.3, 0.5]]], dtype=torch.float64)
    batch = replace(batch, payoffs=torch.tensor([[0.8, 0.3]], dtype=torch.float64), table=P)
    (chosen, rejected) = (batch.now - batch.anchor)[0]
    h = chosen - rejected
    expected: dict[Loss, Tensor] = {
        "sppo": ((chosen - SIZE * 0.3) ** 2 + (rejected + SIZE * 0.2) ** 2) / 2,
        "sppo-single": ((chosen - SIZE * 0.2) ** 2 + (rejected + SIZE * 0.2) ** 2) / 2,
        "sppo-hard": ((chosen - SIZE / 2) ** 2 + (rejected + SIZE / 2) ** 2) / 2,
        "dpo": -(h / SIZE).sigmoid().log(),
        "ipo": (h - SIZE / 2) ** 2,
        "rebel": (h - SIZE * 0.5) ** 2,
    }
    for name, value in expected.items():
        assert float(LOSSES[name].of(batch)) == pytest.approx(float(value), rel=1e-12)


def test_ipo_is_of_sums_and_knows_no_length() -> None:
    """A known defect of public code: means a token make long responses count less."""
    batch = _batch(0)
    longer = replace(batch, lengths=batch.lengths * 7)
    assert float(LOSSES["ipo"].of(longer)) == float(LOSSES["ipo"].of(batch))
    assert float(LOSSES["simpo"].of(longer)) != float(LOSSES["simpo"].of(batch))


def _minimised(name: Loss, P: Tensor, pi: Tensor, size: float, payoffs: Tensor | None = None) -> Tensor:
    """The policy at the loss's minimum, where all responses are there, weighted by the policy pi that is the anchor."""
    start = pi.log()[None]
    wins = (LOSSES[name].payoff(P) @ pi)[None] if payoffs is None else payoffs
    theta = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [theta], max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )
    target = regression.targets(wins, size, pi[None], "plug-in")

    def closure() -> Tensor:
        optimiser.zero_grad()
        batch = Experience(
            theta.log_softmax(-1), start, start, wins, pi[None], torch.ones_like(start), target, "plug-in", size,
            table=P[None], self_comparison=True,
        )  # fmt: skip
        value = LOSSES[name].of(batch)
        value.backward()
        return value

    optimiser.step(closure)
    return theta.detach().softmax(-1)[0]


@pytest.mark.parametrize("name", ["mirror", "ipo", "rebel", "online-ipo", "dno"])
def test_the_minimiser_is_the_mirror_step(name: Loss) -> None:
    """Of the population's loss; DNO's cross-entropy too."""
    game = games.zoo.random_preferences(5, seed=4)
    pi = torch.tensor([0.1, 0.3, 0.15, 0.25, 0.2], dtype=torch.float64)
    expected = games.solve(game, games.MWU(0.8), iterations=1, start=pi).last
    assert float(games.total_variation(_minimised(name, game.P, pi, 0.8), expected)) < 1e-6


def test_sppos_constant_is_exact_to_the_second_order() -> None:
    game, pi = games.zoo.comal_cycle(), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    missed = [
        float(
            games.total_variation(
                _minimised("sppo", game.P, pi, size), games.solve(game, games.MWU(size), iterations=1, start=pi).last
            )
        )
        for size in (0.8, 0.4)
    ]
    assert 0 < missed[0] < 0.03
    assert missed[0] / missed[1] > 3.5


@pytest.mark.parametrize("name", ["sppo-single", "sppo-hard"])
def test_sppos_pairs_have_the_minimiser_of_its_win_rates(name: Loss) -> None:
    """In the mean over labels and opponents a pair's target is the response's own."""
    P, pi = games.zoo.comal_cycle().P, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    assert float(games.total_variation(_minimised(name, P, pi, 1.0), _minimised("sppo", P, pi, 1.0))) < 1e-6


def test_dpo_sees_the_bradley_terry_part_of_a_game_alone() -> None:
    """On a Bradley-Terry game its minimiser is anchor exp(size r); on a symmetric cycle it does not move at all."""
    reward = torch.tensor([0.9, -0.4, 0.1, -0.6], dtype=torch.float64)
    pi = torch.tensor([0.4, 0.2, 0.3, 0.1], dtype=torch.float64)
    P = (reward[:, None] - reward).sigmoid()
    expected = (pi.log() + 1.5 * reward).softmax(-1)
    assert float(games.total_variation(_minimised("dpo", P, pi, 1.5), expected)) < 1e-6
    uniform = torch.full((3,), 1 / 3, dtype=torch.float64)
    P = games.zoo.rock_paper_scissors().P
    assert float(games.total_variation(_minimised("dpo", P, uniform, 1.5), uniform)) < 1e-6


def test_gpo_moves_by_scores() -> None:
    P, pi = games.zoo.comal_cycle().P, torch.full((3,), 1 / 3, dtype=torch.float64)
    found = _minimised("gpo", P, pi, 0.05)
    expected = (pi.log() + 0.05 * (P.logit() @ pi)).softmax(-1)
    assert float(games.total_variation(found, expected)) < 1e-4


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", get_args(Loss))
def test_however_the_responses_pass_the_gradient_is_one(name: Loss, hard: bool, model: llm.LanguageModel) -> None:
    """The memory path of the mirror steps: one response at a time, two at a time, all together."""
    responses = [[40, 41, 6], [50, 6], [60, 61, 62, 6], [70, 71, 6]]
    known = _batch(3, prompts=1)
    weights = [p for n, p in model.network.named_parameters() if "lora_" in n and ".trained." in n]
    for number, weight in enumerate(weights):
        weight.requires_grad_(True)
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(number))
    model.network.train()
    found = []
    for passes in ([[0], [1], [2], [3]], [[2, 0], [3, 1]], [[0, 1, 2, 3]]):
        drawn = [Response(ids, weight=w) for ids, w in zip(responses, known.weights[0].tolist(), strict=True)]
        rollout = Rollout("x", [0, 50], drawn, known.payoffs[0], known.P[0])
        batch = MicroBatch([rollout], passes, LossSettings(name, hard, False, MARGIN))
        batch.anchor = batch.sampler = -20.0 + known.anchor.float()
        for weight in weights:
            weight.grad = None
        value = batch.backward(model.network, model.pad_id, 2.0, "plug-in", 0.5, lambda event: None)
        gradient = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
        assert value == pytest.approx(
            0.5 * float(batch.loss(batch.logprobs(model.network, model.pad_id), 2.0, "plug-in")), rel=1e-5
        )
        found.append(gradient)
    for gradient in found[:2]:
        assert float((gradient - found[2]).norm()) <= 1e-5 * float(found[2].norm())
    assert float(found[2].norm()) > 0


def test_a_loss_of_pairs_without_its_table_says_so() -> None:
    with pytest.raises(ValueError, match="needs the table of their judgements"):
        LOSSES["dpo"].of(_batch(table=None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "sft"}, "loss is 'sft'; expected one of mirror, sppo, "),
        ({"loss": "simpo", "margin": math.inf}, "margin must be a finite number"),
        ({"loss": "online-ipo", "selection": "best-worst"}, "online-ipo compares two responses with a third"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        llm.Fit(**settings)


@pytest.mark.parametrize(
    "name", ["ipo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rebel", "online-ipo", "dno"))]
)
def test_a_language_model_under_it_follows_the_table(name: Loss, tmp_path: Path) -> None:
    """Those whose minimiser is the mirror step, through ``SelfPlay`` as it is."""
    folder = tiny.random_policy(tmp_path / "policy", spread=0.3)
    fit = replace(EXACT, loss=name)
    assert _distance(GAMES["comal"], games.MWU(0.7), folder, tmp_path / "run", 4, fit=fit) < 1e-3


def test_dpo_does_not(tmp_path: Path) -> None:
    folder = tiny.random_policy(tmp_path / "policy", spread=0.3)
    fit = replace(EXACT, loss="dpo")
    assert _distance(GAMES["comal"], games.MWU(0.7), folder, tmp_path / "run", 2, fit=fit) > 0.02


def test_a_blend_of_opponents_is_refused_by_losses_of_labels(tiny_folder: Path, tmp_path: Path) -> None:
    for name in COMPARED:
        for selection in ("all", "best-worst"):
            if (name, selection) == ("online-ipo", "best-worst"):
                continue
            fit = llm.Fit(loss=name, selection=selection, baseline="centred")
            play = short_run(tiny_folder, tmp_path / "run", games.OptimisticMWU(2.0), fit=fit)
            if LOSSES[name].pairs and selection == "all":
                with pytest.raises(
                    ValueError, match=r"OptimisticMWU plays against others or blends of several; .* rebel, dno, gpo"
                ):
                    play.check()
            else:
                play.check()
            short_run(tiny_folder, tmp_path / "run", games.ExtraGradient(2.0), fit=fit).check()
    alone = games.FixedOpponents(games.MWU(2.0), {"rival": 1.0})  # one opponent, who is not whom labels compare
    opponents = {"rival": [{"prompt": prompt, "response": "no"} for prompt in PROMPTS]}
    play = short_run(tiny_folder, tmp_path / "run", alone, fit=llm.Fit(loss="dpo"), opponents=opponents)
    with pytest.raises(ValueError, match="FixedOpponents plays against others"):
        play.check()


def test_a_solver_that_ends_is_refused_by_name() -> None:
    class Ends:
        def play(self, start: games.Policy, reference: games.Policy) -> Generator[games.Step, games.Policy, None]:
            yield games.Step(anchor=start, opponent=start, size=0.5)

    with pytest.raises(ValueError, match="Ends: play ended after 1 Step"):
        losses.check_loss("ipo", "all", Ends(), 4)


def test_online_ipo_needs_a_third_response(tiny_folder: Path, tmp_path: Path) -> None:
    play = short_run(tiny_folder, tmp_path / "run", games.MWU(2.0), fit=llm.Fit(loss="online-ipo"), responses=2)
    with pytest.raises(ValueError, match="needs at least 3, got 2"):
        play.check()


def test_sppo_is_the_mirror_steps_regression_with_the_constant_baseline() -> None:
    batch = _batch(5)
    target = regression.targets(batch.payoffs, SIZE, batch.weights, "constant")
    mirror = LOSSES["mirror"].of(replace(batch, target=target, baseline="constant"))
    assert float(LOSSES["sppo"].of(batch)) == pytest.approx(float(mirror), rel=1e-12)


def test_a_run_takes_a_loss_and_tells_its_value(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DPO on the best and the worst of 3 from the start: log 2 before, less after, by the mirror step's figures too."""
    out = tmp_path / "run"
    (tmp_path / "prompts.txt").write_text("".join(f"Say {i}\n" for i in range(8)))
    command = ["align", "--policy", str(tiny_folder), "--oracle", "nashward.llm.oracles:Length", "--prompts",
               str(tmp_path / "prompts.txt"), "--out", str(out), "--loss", "dpo", "--selection", "best-worst",
               "--solver", "mwu", "--step", "5", "--iterations", "1", "--responses", "3", "--max-new-tokens", "6",
               "--learning-rate", "5e-3", "--epochs", "4", "--batch", "2", "--rank", "2"]  # fmt: skip
    assert main(command) == 0
    assert "0.693147 (dpo)" in capsys.readouterr().out
    (row,) = metrics(out)
    assert row["at_start"]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert row["train"]["loss"] < math.log(2)
    assert row["train"]["share"] > 0
    assert main([*command, "--loss", "ipo"]) == 2
    assert "holds another run (fit.loss 'dpo' there, 'ipo' now)" in capsys.readouterr().err
