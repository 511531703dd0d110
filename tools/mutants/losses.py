"""Mutants of the losses."""

from __future__ import annotations

from .method import Method

VALUES = [
    "tests/llm/training/test_losses.py::test_values_are_those_of_plain_loops",
    "tests/llm/training/test_losses.py",
]
REGRESSION = ["tests/llm/training/test_regression.py"]

LOSSES = [
    Method("`mirror`", "llm/training/regression.py", [*REGRESSION, *VALUES], [
        ("sign", "difference = log_ratio - target", "difference = log_ratio + target"),
        ("sign", "return (size * payoffs - constant)", "return (size * payoffs + constant)"),
        ("sign", "if drift is None else size * payoffs + drift", "if drift is None else size * payoffs - drift"),
        ("factor", "return (size * payoffs - constant)", "return (2 * size * payoffs - constant)"),
        ("factor", "torch.full_like(payoffs[..., :1], size / 2)", "torch.full_like(payoffs[..., :1], size)"),
        ("other", "size * payoffs if drift is None else size * payoffs + drift", "size * payoffs"),
        ("factor", "scatter(-1, best, 0.5).scatter", "scatter(-1, best, 1.0).scatter"),
        ("other", "return chosen * spread", "return chosen"),
        ("other", "weights[..., rows, itself[rows]] = 0.0", "pass"),
        ("other", "difference = difference - _mean(difference, weights)", "pass"),
    ], {"llm/training/experience.py": [("anchor", "return self.now - self.anchor", "return self.now")]}),
    Method("`sppo`", "llm/training/losses.py", VALUES, [
        ("sign", "return (ratio - size * (wins - 0.5)).square()", "return (ratio + size * (wins - 0.5)).square()"),
        ("factor", "return (ratio - size * (wins - 0.5)).square()",
         "return (ratio - 2 * size * (wins - 0.5)).square()"),
        ("anchor", "sppo(batch.ratio, batch.payoffs", "sppo(batch.now, batch.payoffs"),
        ("other", "return (ratio - size * (wins - 0.5)).square()", "return (ratio - size * wins).square()"),
    ]),
    Method("`sppo-single`, `sppo-hard`", "llm/training/losses.py", VALUES, [
        ("sign", "(rejected + target).square()", "(rejected - target).square()"),
        ("factor", "target = size * (wins - 0.5)", "target = 2 * size * (wins - 0.5)"),
        ("anchor", "sppo_pair(*pair(batch.ratio), batch.P", "sppo_pair(*pair(batch.now), batch.P"),
        ("anchor", "sppo_pair(*pair(batch.ratio), 1.0", "sppo_pair(*pair(batch.now), 1.0"),
        ("other", "sppo_pair(*pair(batch.ratio), 1.0", "sppo_pair(*pair(batch.ratio), 0.5"),
    ]),
    Method("`dpo`", "llm/training/losses.py", VALUES, [
        ("sign", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid((rejected - chosen) / size)"),
        ("factor", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid(2 * (chosen - rejected) / size)"),
        ("anchor", "dpo(*pair(batch.ratio)", "dpo(*pair(batch.now)"),
        ("other", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid((chosen - rejected) * size)"),
    ]),
    Method("`ipo`", "llm/training/losses.py", VALUES, [
        ("sign", "(chosen - rejected - size / 2).square()", "(chosen - rejected + size / 2).square()"),
        ("factor", "(chosen - rejected - size / 2).square()", "(chosen - rejected - size).square()"),
        ("anchor", "batch.pairs(ipo(*pair(batch.ratio)", "batch.pairs(ipo(*pair(batch.now)"),
    ]),
    Method("`kto`", "llm/training/losses.py", VALUES, [
        ("sign", "desirable * (-margin).sigmoid()", "desirable * margin.sigmoid()"),
        ("factor", "(ratio - divergence.detach()) / size", "2 * (ratio - divergence.detach()) / size"),
        ("sign", "(ratio + (-ratio).expm1())", "(ratio - (-ratio).expm1())"),
        ("anchor", "kto(batch.ratio, desirable", "kto(batch.now, desirable"),
        ("anchor", "(ratio - divergence.detach()) / size", "ratio / size"),
        ("other", "(ratio - divergence.detach()) / size", "(ratio - divergence) / size"),
    ]),
    Method("`simpo`", "llm/training/losses.py", VALUES, [
        ("sign", "(chosen - rejected - margin) / size", "(chosen - rejected + margin) / size"),
        ("factor", "(chosen - rejected - margin) / size", "2 * (chosen - rejected - margin) / size"),
        ("other", "batch.now / batch.lengths.to(batch.now).clamp_min(1)", "batch.now"),
    ], lacks={"anchor": "it has none: that is its point"}),
    Method("`rebel`", "llm/training/losses.py", VALUES, [
        ("sign", "(first - second - size * (payoff - other))", "(first - second + size * (payoff - other))"),
        ("factor", "(first - second - size * (payoff - other))", "(first - second - 2 * size * (payoff - other))"),
        ("anchor", "rebel(*pair(batch.ratio)", "rebel(*pair(batch.now)"),
    ]),
    Method("`online-ipo`", "llm/training/losses.py", VALUES, [
        ("sign", "first.nan_to_num(), second.nan_to_num(), batch.size",
         "second.nan_to_num(), first.nan_to_num(), batch.size"),
        ("factor", "first.nan_to_num(), second.nan_to_num(), batch.size",
         "first.nan_to_num(), second.nan_to_num(), 2 * batch.size"),
        ("anchor", "P, ratio = batch.P, batch.ratio", "P, ratio = batch.P, batch.now"),
        ("other", "own[:, None, :] | own[None, :, :]", "own[:, None, :]"),
    ]),
    Method("`dno`", "llm/training/losses.py", VALUES, [
        ("sign", "(payoff - other).sigmoid(), (first", "(other - payoff).sigmoid(), (first"),
        ("factor", "(payoff - other).sigmoid(), (first - second) / size",
         "(payoff - other).sigmoid(), 2 * (first - second) / size"),
        ("anchor", "dno(*pair(batch.ratio)", "dno(*pair(batch.now)"),
    ]),
    Method("`gpo`", "llm/training/losses.py", VALUES, [
        ("sign", "(ratio - size * score).square()", "(ratio + size * score).square()"),
        ("factor", "(ratio - size * score).square()", "(ratio - 2 * size * score).square()"),
        ("anchor", "gpo(batch.ratio, batch.payoffs", "gpo(batch.now, batch.payoffs"),
        ("other", "(ratio - size * score).square()", "(ratio - size * (score - 0.5)).square()"),
    ]),
]  # fmt: skip
