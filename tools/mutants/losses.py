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
        ("sign", "return (size * gains - constant)", "return (size * gains + constant)"),
        ("sign", "if drift is None else size * gains + drift", "if drift is None else size * gains - drift"),
        ("factor", "return (size * gains - constant)", "return (2 * size * gains - constant)"),
        ("factor", "torch.full_like(gains[..., :1], size / 2)", "torch.full_like(gains[..., :1], size)"),
        ("other", "size * gains if drift is None else size * gains + drift", "size * gains"),
        ("factor", "scatter(-1, best, 0.5).scatter", "scatter(-1, best, 1.0).scatter"),
        ("other", "return chosen * spread", "return chosen"),
        ("other", "weights[..., rows, itself[rows]] = 0.0", "pass"),
        ("other", "difference = difference - _mean(difference, weights)", "pass"),
    ], {"llm/training/losses.py": [("anchor", "return self.now - self.anchor", "return self.now")]}),
    Method("`sppo`", "llm/training/losses.py", VALUES, [
        ("sign", "return (ratio - size * (wins - 0.5)).square()", "return (ratio + size * (wins - 0.5)).square()"),
        ("factor", "return (ratio - size * (wins - 0.5)).square()",
         "return (ratio - 2 * size * (wins - 0.5)).square()"),
        ("anchor", "sppo(judged.ratio, judged.gains", "sppo(judged.now, judged.gains"),
        ("other", "return (ratio - size * (wins - 0.5)).square()", "return (ratio - size * wins).square()"),
    ]),
    Method("`sppo-single`, `sppo-hard`", "llm/training/losses.py", VALUES, [
        ("sign", "(rejected + target).square()", "(rejected - target).square()"),
        ("factor", "target = size * (wins - 0.5)", "target = 2 * size * (wins - 0.5)"),
        ("anchor", "sppo_pair(*pair(judged.ratio), judged.P", "sppo_pair(*pair(judged.now), judged.P"),
        ("anchor", "sppo_pair(*pair(judged.ratio), 1.0", "sppo_pair(*pair(judged.now), 1.0"),
        ("other", "sppo_pair(*pair(judged.ratio), 1.0", "sppo_pair(*pair(judged.ratio), 0.5"),
    ]),
    Method("`dpo`", "llm/training/losses.py", VALUES, [
        ("sign", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid((rejected - chosen) / size)"),
        ("factor", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid(2 * (chosen - rejected) / size)"),
        ("anchor", "dpo(*pair(judged.ratio)", "dpo(*pair(judged.now)"),
        ("other", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid((chosen - rejected) * size)"),
    ]),
    Method("`ipo`", "llm/training/losses.py", VALUES, [
        ("sign", "(chosen - rejected - size / 2).square()", "(chosen - rejected + size / 2).square()"),
        ("factor", "(chosen - rejected - size / 2).square()", "(chosen - rejected - size).square()"),
        ("anchor", "judged.pairs(ipo(*pair(judged.ratio)", "judged.pairs(ipo(*pair(judged.now)"),
    ]),
    Method("`kto`", "llm/training/losses.py", VALUES, [
        ("sign", "desirable * (-margin).sigmoid()", "desirable * margin.sigmoid()"),
        ("factor", "(ratio - divergence.detach()) / size", "2 * (ratio - divergence.detach()) / size"),
        ("sign", "(ratio + (-ratio).expm1())", "(ratio - (-ratio).expm1())"),
        ("anchor", "kto(judged.ratio, desirable", "kto(judged.now, desirable"),
        ("anchor", "(ratio - divergence.detach()) / size", "ratio / size"),
        ("other", "(ratio - divergence.detach()) / size", "(ratio - divergence) / size"),
    ]),
    Method("`simpo`", "llm/training/losses.py", VALUES, [
        ("sign", "(chosen - rejected - margin) / size", "(chosen - rejected + margin) / size"),
        ("factor", "(chosen - rejected - margin) / size", "2 * (chosen - rejected - margin) / size"),
        ("other", "judged.now / judged.lengths.to(judged.now).clamp_min(1)", "judged.now"),
    ], lacks={"anchor": "it has none: that is its point"}),
    Method("`rebel`", "llm/training/losses.py", VALUES, [
        ("sign", "(first - second - size * (gain - other))", "(first - second + size * (gain - other))"),
        ("factor", "(first - second - size * (gain - other))", "(first - second - 2 * size * (gain - other))"),
        ("anchor", "rebel(*pair(judged.ratio)", "rebel(*pair(judged.now)"),
    ]),
    Method("`online-ipo`", "llm/training/losses.py", VALUES, [
        ("sign", "first.nan_to_num(), second.nan_to_num(), judged.size",
         "second.nan_to_num(), first.nan_to_num(), judged.size"),
        ("factor", "first.nan_to_num(), second.nan_to_num(), judged.size",
         "first.nan_to_num(), second.nan_to_num(), 2 * judged.size"),
        ("anchor", "P, ratio = judged.P, judged.ratio", "P, ratio = judged.P, judged.now"),
        ("other", "own[:, None, :] | own[None, :, :]", "own[:, None, :]"),
    ]),
    Method("`dno`", "llm/training/losses.py", VALUES, [
        ("sign", "(gain - other).sigmoid(), (first", "(other - gain).sigmoid(), (first"),
        ("factor", "(gain - other).sigmoid(), (first - second) / size",
         "(gain - other).sigmoid(), 2 * (first - second) / size"),
        ("anchor", "dno(*pair(judged.ratio)", "dno(*pair(judged.now)"),
    ]),
    Method("`gpo`", "llm/training/losses.py", VALUES, [
        ("sign", "(ratio - size * score).square()", "(ratio + size * score).square()"),
        ("factor", "(ratio - size * score).square()", "(ratio - 2 * size * score).square()"),
        ("anchor", "gpo(judged.ratio, judged.gains", "gpo(judged.now, judged.gains"),
        ("other", "(ratio - size * score).square()", "(ratio - size * (score - 0.5)).square()"),
    ]),
]  # fmt: skip
