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
        ("sign", "residuals", "log_ratio - target", "log_ratio + target"),
        ("sign", "targets", "size * gains - constant", "size * gains + constant"),
        ("sign", "targets", "size * gains + drift", "size * gains - drift"),
        ("factor", "targets", "size * gains - constant", "2 * size * gains - constant"),
        ("factor", "targets", "size / 2", "size"),
        ("other", "targets", "size * gains if drift is None else size * gains + drift", "size * gains"),
        ("factor", "select",
         "torch.zeros_like(weights).scatter(-1, best, 0.5)",
         "torch.zeros_like(weights).scatter(-1, best, 1.0)"),
        ("other", "select", "chosen * spread", "chosen"),
        ("other", "win_rates", "weights[..., rows, itself[rows]] = 0.0", "pass"),
        ("other", "residuals", "difference = difference - _mean(difference, weights)", "pass"),
    ], {"llm/training/losses.py": [("anchor", "Judged.ratio", "self.now - self.anchor", "self.now")]}),
    Method("`sppo`", "llm/training/losses.py", VALUES, [
        ("sign", "sppo", "ratio - size * (wins - 0.5)", "ratio + size * (wins - 0.5)"),
        ("factor", "sppo", "size * (wins - 0.5)", "2 * size * (wins - 0.5)"),
        ("anchor", "_sppo",
         "sppo(judged.ratio, judged.gains, judged.size)",
         "sppo(judged.now, judged.gains, judged.size)"),
        ("other", "sppo", "wins - 0.5", "wins"),
    ]),
    Method("`sppo-single`, `sppo-hard`", "llm/training/losses.py", VALUES, [
        ("sign", "sppo_pair", "rejected + target", "rejected - target"),
        ("factor", "sppo_pair", "size * (wins - 0.5)", "2 * size * (wins - 0.5)"),
        ("anchor", "_sppo_single", "pair(judged.ratio)", "pair(judged.now)"),
        ("anchor", "_sppo_hard", "pair(judged.ratio)", "pair(judged.now)"),
        ("other", "_sppo_hard",
         "sppo_pair(*pair(judged.ratio), 1.0, judged.size)",
         "sppo_pair(*pair(judged.ratio), 0.5, judged.size)"),
    ]),
    Method("`dpo`", "llm/training/losses.py", VALUES, [
        ("sign", "dpo", "chosen - rejected", "rejected - chosen"),
        ("factor", "dpo", "chosen - rejected", "2 * (chosen - rejected)"),
        ("anchor", "_dpo", "pair(judged.ratio)", "pair(judged.now)"),
        ("other", "dpo", "(chosen - rejected) / size", "(chosen - rejected) * size"),
    ]),
    Method("`ipo`", "llm/training/losses.py", VALUES, [
        ("sign", "ipo", "chosen - rejected - size / 2", "chosen - rejected + size / 2"),
        ("factor", "ipo", "size / 2", "size"),
        ("anchor", "_ipo", "pair(judged.ratio)", "pair(judged.now)"),
    ]),
    Method("`kto`", "llm/training/losses.py", VALUES, [
        ("sign", "kto", "-margin", "margin"),
        ("factor", "kto", "ratio - divergence.detach()", "2 * (ratio - divergence.detach())"),
        ("sign", "_kto", "ratio + (-ratio).expm1()", "ratio - (-ratio).expm1()"),
        ("anchor", "_kto",
         "kto(judged.ratio, desirable, divergence, judged.size)",
         "kto(judged.now, desirable, divergence, judged.size)"),
        ("anchor", "kto", "ratio - divergence.detach()", "ratio"),
        ("other", "kto", "divergence.detach()", "divergence"),
    ]),
    Method("`simpo`", "llm/training/losses.py", VALUES, [
        ("sign", "simpo", "chosen - rejected - margin", "chosen - rejected + margin"),
        ("factor", "simpo", "chosen - rejected - margin", "2 * (chosen - rejected - margin)"),
        ("other", "_simpo", "judged.now / judged.lengths.to(judged.now).clamp_min(1)", "judged.now"),
    ], lacks={"anchor": "it has none: that is its point"}),
    Method("`rebel`", "llm/training/losses.py", VALUES, [
        ("sign", "rebel", "first - second - size * (gain - other)", "first - second + size * (gain - other)"),
        ("factor", "rebel", "size * (gain - other)", "2 * size * (gain - other)"),
        ("anchor", "_rebel", "pair(judged.ratio)", "pair(judged.now)"),
    ]),
    Method("`online-ipo`", "llm/training/losses.py", VALUES, [
        ("sign", "_online_ipo",
         "rebel(ratio[:, :, None, None], ratio[:, None, :, None], first.nan_to_num(), second.nan_to_num(), "
         "judged.size)",
         "rebel(ratio[:, :, None, None], ratio[:, None, :, None], second.nan_to_num(), first.nan_to_num(), "
         "judged.size)"),
        ("factor", "_online_ipo",
         "rebel(ratio[:, :, None, None], ratio[:, None, :, None], first.nan_to_num(), second.nan_to_num(), "
         "judged.size)",
         "rebel(ratio[:, :, None, None], ratio[:, None, :, None], first.nan_to_num(), second.nan_to_num(), 2 * "
         "judged.size)"),
        ("anchor", "_online_ipo", "(judged.P, judged.ratio)", "(judged.P, judged.now)"),
        ("other", "_online_ipo", "own[:, None, :] | own[None, :, :]", "own[:, None, :]"),
    ]),
    Method("`dno`", "llm/training/losses.py", VALUES, [
        ("sign", "dno", "gain - other", "other - gain"),
        ("factor", "dno", "first - second", "2 * (first - second)"),
        ("anchor", "_dno", "pair(judged.ratio)", "pair(judged.now)"),
    ]),
    Method("`gpo`", "llm/training/losses.py", VALUES, [
        ("sign", "gpo", "ratio - size * score", "ratio + size * score"),
        ("factor", "gpo", "size * score", "2 * size * score"),
        ("anchor", "_gpo",
         "gpo(judged.ratio, judged.gains, judged.size)",
         "gpo(judged.now, judged.gains, judged.size)"),
        ("other", "gpo", "size * score", "size * (score - 0.5)"),
    ]),
]  # fmt: skip
