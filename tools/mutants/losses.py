"""Mutants of the losses."""

from __future__ import annotations

from .method import Method

VALUES = [
    "tests/llm/training/test_losses.py::test_values_are_those_of_plain_loops",
    "tests/llm/training/test_losses.py",
]
REGRESSION = ["tests/llm/training/test_regression.py"]
SPREAD = ["tests/llm/run/test_spread_weights.py"]

LOSSES = [
    Method("`mirror`", "llm/training/regression.py", [*REGRESSION, *VALUES], [
        ("sign", "residuals", "log_ratio - target", "log_ratio + target"),
        ("sign", "targets", "size * payoffs - constant", "size * payoffs + constant"),
        ("sign", "targets", "size * payoffs + drift", "size * payoffs - drift"),
        ("factor", "targets", "size * payoffs - constant", "2 * size * payoffs - constant"),
        ("factor", "targets", "size / 2", "size"),
        ("other", "targets", "size * payoffs if drift is None else size * payoffs + drift", "size * payoffs"),
        ("factor", "select",
         "torch.zeros_like(weights).scatter(-1, best, 0.5)",
         "torch.zeros_like(weights).scatter(-1, best, 1.0)"),
        ("other", "select", "chosen * spread", "chosen"),
        ("other", "_compared", "weights[..., rows, own_column[rows]] = 0.0", "pass"),
        ("other", "residuals", "difference = difference - _mean(difference, weights)", "pass"),
    ], {"llm/training/experience.py": [("anchor", "Experience.ratio", "self.now - self.anchor", "self.now")]}),
    Method("`precisions`", "llm/training/regression.py", [*REGRESSION, *SPREAD], [
        ("sign", "precisions", "total - variance", "total + variance"),
        ("sign", "precisions",
         "1 / (max(total - variance, LEAST * total) + errors.nan_to_num().square().double())",
         "max(total - variance, LEAST * total) + errors.nan_to_num().square().double()"),
        ("factor", "precisions", "errors.nan_to_num().square().double()", "4 * errors.nan_to_num().square().double()"),
        ("anchor", "error_share",
         "payoffs.nan_to_num() - _mean(payoffs.nan_to_num(), weights)",
         "payoffs.nan_to_num()"),
        ("other", "precisions", "inverse / scale", "inverse"),
    ], {
        "llm/run/payoffs/step_payoffs.py": [
            ("factor", "StepPayoffs._variance", "factor**2 * rates.var(1)", "rates.var(1)"),
            ("sign", "StepPayoffs._variance",
             "weight * self._win_rates(self.loss.payoff(judged), policy, member)",
             "abs(weight) * self._win_rates(self.loss.payoff(judged), policy, member)"),
        ],
        "llm/training/batches.py": [
            ("other", "MicroBatch.fit_weights", "self.weights * self.precision", "self.weights / self.precision"),
        ],
    }),
    Method("`sppo`", "llm/training/losses.py", VALUES, [
        ("sign", "sppo", "ratio - size * (wins - 0.5)", "ratio + size * (wins - 0.5)"),
        ("factor", "sppo", "size * (wins - 0.5)", "2 * size * (wins - 0.5)"),
        ("anchor", "_sppo",
         "sppo(batch.ratio, batch.payoffs, batch.size)",
         "sppo(batch.now, batch.payoffs, batch.size)"),
        ("other", "sppo", "wins - 0.5", "wins"),
    ]),
    Method("`sppo-single`, `sppo-hard`", "llm/training/losses.py", VALUES, [
        ("sign", "sppo_pair", "rejected + target", "rejected - target"),
        ("factor", "sppo_pair", "size * (wins - 0.5)", "2 * size * (wins - 0.5)"),
        ("anchor", "_sppo_single", "pair(batch.ratio)", "pair(batch.now)"),
        ("anchor", "_sppo_hard", "pair(batch.ratio)", "pair(batch.now)"),
        ("other", "_sppo_hard",
         "sppo_pair(*pair(batch.ratio), 1.0, batch.size)",
         "sppo_pair(*pair(batch.ratio), 0.5, batch.size)"),
    ]),
    Method("`dpo`", "llm/training/losses.py", VALUES, [
        ("sign", "dpo", "chosen - rejected", "rejected - chosen"),
        ("factor", "dpo", "chosen - rejected", "2 * (chosen - rejected)"),
        ("anchor", "_dpo", "pair(batch.ratio)", "pair(batch.now)"),
        ("other", "dpo", "(chosen - rejected) / size", "(chosen - rejected) * size"),
    ]),
    Method("`ipo`", "llm/training/losses.py", VALUES, [
        ("sign", "ipo", "chosen - rejected - size / 2", "chosen - rejected + size / 2"),
        ("factor", "ipo", "size / 2", "size"),
        ("anchor", "_ipo", "pair(batch.ratio)", "pair(batch.now)"),
    ]),
    Method("`kto`", "llm/training/losses.py", VALUES, [
        ("sign", "kto", "-margin", "margin"),
        ("factor", "kto", "ratio - divergence.detach()", "2 * (ratio - divergence.detach())"),
        ("sign", "_kto", "ratio + (-ratio).expm1()", "ratio - (-ratio).expm1()"),
        ("anchor", "_kto",
         "kto(batch.ratio, desirable, divergence, batch.size)",
         "kto(batch.now, desirable, divergence, batch.size)"),
        ("anchor", "kto", "ratio - divergence.detach()", "ratio"),
        ("other", "kto", "divergence.detach()", "divergence"),
    ]),
    Method("`simpo`", "llm/training/losses.py", VALUES, [
        ("sign", "simpo", "chosen - rejected - margin", "chosen - rejected + margin"),
        ("factor", "simpo", "chosen - rejected - margin", "2 * (chosen - rejected - margin)"),
        ("other", "_simpo", "batch.now / batch.lengths.to(batch.now).clamp_min(1)", "batch.now"),
    ], lacks={"anchor": "it has none: that is its point"}),
    Method("`rebel`", "llm/training/losses.py", VALUES, [
        ("sign", "rebel", "first - second - size * (payoff - other)", "first - second + size * (payoff - other)"),
        ("factor", "rebel", "size * (payoff - other)", "2 * size * (payoff - other)"),
        ("anchor", "_rebel", "pair(batch.ratio)", "pair(batch.now)"),
    ]),
    Method("`online-ipo`", "llm/training/losses.py", VALUES, [
        ("sign", "_online_ipo",
         "rebel(ratio[:, :, None, None], ratio[:, None, :, None], first.nan_to_num(), second.nan_to_num(), batch.size)",
         "rebel(ratio[:, :, None, None], ratio[:, None, :, None], second.nan_to_num(), "
         "first.nan_to_num(), batch.size)"),
        ("factor", "_online_ipo",
         "rebel(ratio[:, :, None, None], ratio[:, None, :, None], first.nan_to_num(), second.nan_to_num(), batch.size)",
         "rebel(ratio[:, :, None, None], ratio[:, None, :, None], first.nan_to_num(), "
         "second.nan_to_num(), 2 * batch.size)"),
        ("anchor", "_online_ipo", "(batch.P, batch.ratio)", "(batch.P, batch.now)"),
        ("other", "_online_ipo", "same[:, None, :] | same[None, :, :]", "same[:, None, :]"),
    ]),
    Method("`dno`", "llm/training/losses.py", VALUES, [
        ("sign", "dno", "payoff - other", "other - payoff"),
        ("factor", "dno", "first - second", "2 * (first - second)"),
        ("anchor", "_dno", "pair(batch.ratio)", "pair(batch.now)"),
    ]),
    Method("`gpo`", "llm/training/losses.py", VALUES, [
        ("sign", "gpo", "ratio - size * score", "ratio + size * score"),
        ("factor", "gpo", "size * score", "2 * size * score"),
        ("anchor", "_gpo", "gpo(batch.ratio, batch.payoffs, batch.size)", "gpo(batch.now, batch.payoffs, batch.size)"),
        ("other", "gpo", "size * score", "size * (score - 0.5)"),
    ]),
]  # fmt: skip
