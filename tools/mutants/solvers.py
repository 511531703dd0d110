"""Mutants of the solvers and of what they share."""

from __future__ import annotations

from .method import Method

S = "games/solvers"
MIRROR, LIMITS = "tests/games/solvers/test_mirror_steps.py", "tests/games/test_stability.py"
STEPS = [
    f"{MIRROR}::test_iterates_are_those_of_the_update_written_out",
    f"{MIRROR}::test_the_iterates_from_the_start_on_enter_the_average",
    f"{LIMITS}::test_a_step_beyond_its_threshold_is_told",
    MIRROR,
    "tests/games/test_solve.py",
    LIMITS,
]
TABLES = ["tests/games/solvers/test_tables_only.py"]
PULL = "regularised_anchor(x, reference, size, self.tau)"
MEAN = "g - (p * g).sum(-1, keepdim=True)"
NO_SCALE = "the policy is in proportion to the regrets: a factor on all of them changes nothing"

SOLVERS = [
    Method("`MWU`", f"{S}/mirror_steps/mwu.py", STEPS, [
        ("sign", "size=at(self.step, t)", "size=-at(self.step, t)"),
        ("factor", "size=at(self.step, t)", "size=2 * at(self.step, t)"),
        ("anchor", "anchor=x,", "anchor=reference,"),
    ]),
    Method("`OptimisticMWU`", f"{S}/mirror_steps/optimistic_mwu.py", STEPS, [
        ("sign", "size=at(self.step, t), averaged=x", "size=-at(self.step, t), averaged=x"),
        ("sign", "opponent=2 * x - previous", "opponent=2 * previous - x"),
        ("factor", "size=at(self.step, t), averaged=x", "size=2 * at(self.step, t), averaged=x"),
        ("factor", "opponent=2 * x - previous", "opponent=3 * x - 2 * previous"),
        ("factor", "1 / (math.sqrt(3) * lam), ", "1 / lam, "),
        ("anchor", "Step(anchor=x, opponent=2", "Step(anchor=previous, opponent=2"),
        ("other", "opponent=2 * x - previous", "opponent=x"),
        ("other", "averaged=x)", "averaged=previous)"),
    ]),
    Method("`OptimisticMWU(two_sequences=True)`", f"{S}/mirror_steps/optimistic_mwu.py", STEPS, [
        ("sign", "opponent=x, size=size, is_iterate=False", "opponent=x, size=-size, is_iterate=False"),
        ("sign", "opponent=x, size=size, averaged=None", "opponent=x, size=-size, averaged=None"),
        ("factor", "opponent=x, size=size, is_iterate=False", "opponent=x, size=2 * size, is_iterate=False"),
        ("factor", "opponent=x, size=size, averaged=None", "opponent=x, size=2 * size, averaged=None"),
        ("anchor", "base = yield Step(anchor=base,", "base = yield Step(anchor=x,"),
        ("anchor", "x = yield Step(anchor=base, opponent=x, size=size, averaged",
         "x = yield Step(anchor=x, opponent=x, size=size, averaged"),
    ]),
    Method("`ExtraGradient`", f"{S}/mirror_steps/extragradient.py", STEPS, [
        ("sign", "anchor, opponent=half, size=size", "anchor, opponent=half, size=-size"),
        ("factor", "anchor, opponent=half, size=size", "anchor, opponent=half, size=2 * size"),
        ("anchor", "anchor, opponent=half, size=size", "half, opponent=half, size=size"),
        ("other", "anchor, opponent=half, size=size", "anchor, opponent=x, size=size"),
        ("factor", "return StepLimit(1 / lam,", "return StepLimit(2 / lam,"),
    ]),
    Method("`ExtraGradient(tau=...)`", f"{S}/mirror_steps/extragradient.py", STEPS, [
        ("sign", "anchor, opponent=x, size=size", "anchor, opponent=x, size=-size"),
        ("sign", "1 / (L + self.tau), ", "1 / (L - self.tau), "),
        ("factor", "anchor, opponent=x, size=size", "anchor, opponent=x, size=2 * size"),
        ("factor", PULL, "regularised_anchor(x, reference, 2 * size, self.tau)"),
        ("anchor", PULL, "x"),
        ("anchor", "anchor, opponent=x, size=size", "x, opponent=x, size=size"),
    ]),
    Method("`MagneticMirrorDescent`", f"{S}/mirror_steps/magnetic_mirror_descent.py", STEPS, [
        ("sign", "opponent=x, size=size", "opponent=x, size=-size"),
        ("factor", "opponent=x, size=size", "opponent=x, size=2 * size"),
        ("anchor", PULL, "x"),
        ("anchor", PULL, "regularised_anchor(reference, x, size, self.tau)"),
        ("other", "explicit_step(at(self.step, t), self.tau)", "at(self.step, t)"),
        ("other", PULL, "regularised_anchor(x, x, size, self.tau)"),
    ]),
    Method("`INPO`, online IPO", f"{S}/mirror_steps/inpo.py", STEPS, [
        ("sign", "opponent=x, size=size", "opponent=x, size=-size"),
        ("factor", "opponent=x, size=size", "opponent=x, size=2 * size"),
        ("anchor", PULL, "x"),
        ("other", "opponent=x, size=size", "opponent=reference, size=size"),
        ("other", "explicit_step(contraction_limit(self.tau, L), self.tau) if", "contraction_limit(self.tau, L) if"),
    ]),
    Method("`NashMD`", f"{S}/mirror_steps/nash_md.py", STEPS, [
        ("sign", "opponent=mix, size=size", "opponent=mix, size=-size"),
        ("factor", "opponent=mix, size=size", "opponent=mix, size=2 * size"),
        ("anchor", "yield Step(regularised_anchor(x, reference, size, self.tau), is_iterate=False)", "yield Step(x, is_iterate=False)"),
        ("anchor", "Step(anchor=mix, opponent=mix", "Step(anchor=x, opponent=mix"),
        ("other", "Step(anchor=mix, opponent=mix", "Step(anchor=mix, opponent=x"),
        ("other", "opponent=mix, size=size, averaged=x", "opponent=mix, size=size"),
    ]),
    Method("`NashEMA`", f"{S}/mirror_steps/nash_md.py", STEPS, [
        ("sign", "opponent=average, size=size", "opponent=average, size=-size"),
        ("factor", "opponent=average, size=size", "opponent=average, size=2 * size"),
        ("anchor", "regularised_anchor(x, reference, size, self.tau), opponent=average", "x, opponent=average"),
        ("other", "opponent=average", "opponent=x"),
        ("other", "self.decay * average + (1 - self.decay) * x", "(1 - self.decay) * average + self.decay * x"),
    ]),
    Method("`Momentum`; APO with `nesterov=True`", f"{S}/mirror_steps/momentum.py", STEPS, [
        ("sign", "size=at(self.step, t), averaged=x", "size=-at(self.step, t), averaged=x"),
        ("sign", "(1 + self.momentum) * x - self.momentum * previous",
         "(1 - self.momentum) * x + self.momentum * previous"),
        ("factor", "size=at(self.step, t), averaged=x", "size=2 * at(self.step, t), averaged=x"),
        ("factor", "(1 + self.momentum) * x - self.momentum * previous",
         "(1 + 2 * self.momentum) * x - 2 * self.momentum * previous"),
        ("anchor", "Step(ahead, opponent", "Step(x, opponent"),
        ("other", "ahead if self.nesterov else x", "x"),
        ("other", "ahead if self.nesterov else x", "ahead"),
    ]),
    Method("`ProximalPoint`", f"{S}/mirror_steps/proximal_point.py", STEPS, [
        ("sign", "opponent=x, size=size, is_iterate", "opponent=x, size=-size, is_iterate"),
        ("factor", "opponent=x, size=size, is_iterate", "opponent=x, size=2 * size, is_iterate"),
        ("anchor", "anchor = regularised_anchor(x, magnet, size, self.tau)", "anchor = x"),
        ("anchor", "magnet, size = x, at", "magnet, size = reference, at"),
        ("other", "opponent=x, size=size, is_iterate", "opponent=magnet, size=size, is_iterate"),
        ("other", "range(1, self.inner + 1)", "range(0, self.inner + 1)"),
        ("other", "magnet if k == 1 else None", "x"),
    ]),
    Method("`MagnetReset`", f"{S}/mirror_steps/proximal_point.py", STEPS, [
        ("sign", "self.tau), opponent=x, size=size)", "self.tau), opponent=x, size=-size)"),
        ("factor", "self.tau), opponent=x, size=size)", "self.tau), opponent=x, size=2 * size)"),
        ("factor", "t % self.every == 0", "t % (2 * self.every) == 0"),
        ("anchor", "Step(regularised_anchor(x, magnet, size, self.tau), opponent", "Step(x, opponent"),
        ("anchor", "t % self.every == 0", "False"),
        ("other", "magnet = reference", "magnet = x"),
        ("other", "explicit_step(at(self.step, t), self.tau)", "at(self.step, t)"),
    ]),
    Method("`HistoryMixture`", f"{S}/mirror_steps/history_mixture.py", STEPS, [
        ("sign", "opponent=mix, size=size", "opponent=mix, size=-size"),
        ("factor", "opponent=mix, size=size", "opponent=mix, size=2 * size"),
        ("anchor", "regularised_anchor(mix, reference, size, self.tau)", "mix"),
        ("anchor", "regularised_anchor(mix, reference", "regularised_anchor(latest[0], reference"),
        ("other", "opponent=mix, size=size", "opponent=latest[0], size=size"),
        ("other", "[x, *latest[:-1]]", "[*latest[1:], x]"),
    ]),
    Method("`RegretMatching`", f"{S}/tables_only/regret_matching.py", TABLES, [
        ("sign", MEAN, "(p * g).sum(-1, keepdim=True) - g"),
        ("sign", "positive = [r.clamp_min(0)", "positive = [(-r).clamp_min(0)"),
        ("anchor", "regrets = _sum(regrets, _regrets(x, payoffs(x)))", "regrets = _regrets(x, payoffs(x))"),
        ("other", MEAN, "g"),
        ("other", "regrets = _sum(regrets, _regrets(x, payoffs(x)))",
         "regrets = _floored(_sum(regrets, _regrets(x, payoffs(x))))"),
    ], lacks={"factor": NO_SCALE}),
    Method("`RegretMatchingPlus`", f"{S}/tables_only/regret_matching.py", TABLES, [
        ("sign", "return tuple(r.clamp_min(0) for r in regrets)", "return tuple((-r).clamp_min(0) for r in regrets)"),
        ("anchor", "regrets = _floored(_sum(regrets, _regrets(x, payoffs(x))))",
         "regrets = _floored(_regrets(x, payoffs(x)))"),
        ("other", "regrets = _floored(_sum(regrets, _regrets(x, payoffs(x))))",
         "regrets = _sum(regrets, _regrets(x, payoffs(x)))"),
    ], lacks={"factor": NO_SCALE}),
    Method("`PredictiveRegretMatchingPlus`", f"{S}/tables_only/regret_matching.py", TABLES, [
        ("sign", "_matched(_sum(regrets, last))", "_matched(_sum(regrets, tuple(-r for r in last)))"),
        ("factor", "_matched(_sum(regrets, last))", "_matched(_sum(regrets, _sum(last, last)))"),
        ("anchor", "regrets = _floored(_sum(regrets, last))", "regrets = _floored(last)"),
        ("other", "_matched(_sum(regrets, last))", "_matched(regrets)"),
        ("other", "regrets = _floored(_sum(regrets, last))", "regrets = _sum(regrets, last)"),
    ]),
    Method("`FictitiousPlay`", f"{S}/tables_only/fictitious_play.py", TABLES, [
        ("sign", "values >= values.amax", "values <= values.amin"),
        ("anchor", "total + gain", "gain"),
    ], lacks={"factor": "the best action stays the best: a factor on all payoffs changes nothing"}),
    Method("`Replicator`", f"{S}/tables_only/replicator.py", TABLES, [
        ("sign", "_runge_kutta(x, slope, at(self.step, t))", "_runge_kutta(x, slope, -at(self.step, t))"),
        ("factor", "_runge_kutta(x, slope, at(self.step, t))", "_runge_kutta(x, slope, 2 * at(self.step, t))"),
        ("factor", "2 * b + 2 * c", "b + c"),
        ("factor", "moved(k1, h / 2)", "moved(k1, h)"),
        ("anchor", f"({MEAN})", "g"),
        ("anchor", "(p * g).sum(-1, keepdim=True)", "0.5"),
    ]),
    Method("The pull to the reference", f"{S}/mirror_steps/anchoring.py", STEPS, [
        ("sign", "(1 - weight) * x + weight * reference", "(1 + weight) * x - weight * reference"),
        ("sign", "return size / (1 + size * tau)", "return size / (1 - size * tau)"),
        ("factor", "(1 - weight) * x + weight * reference", "(1 - weight / 2) * x + weight / 2 * reference"),
        ("anchor", "(1 - weight) * x + weight * reference", "x + 0.0 * reference"),
        ("anchor", "(1 - weight) * x + weight * reference", "weight * x + (1 - weight) * reference"),
        ("anchor", "return size / (1 + size * tau)", "return size"),
    ]),
    Method("The steps that theorems allow", f"{S}/mirror_steps/step_limit.py", [STEPS[2], LIMITS, MIRROR], [
        ("factor", "return tau / L**2", "return 2 * tau / L**2"),
    ], {f"{S}/schedule.py": [
        ("factor", "math.sqrt(8 * C / iterations)", "math.sqrt(4 * C / iterations)"),
        ("factor", "2 / (tau * (t + 2))", "1 / (tau * (t + 2))"),
        ("other", "scale / math.sqrt(t)", "scale / t"),
        ("other", "t.bit_length() - 1", "t.bit_length()"),
        ("other", "bisect_left(ends, t)", "bisect_left(ends, t + 1)"),
    ]}),
    Method("Fixed opponents", f"{S}/mirror_steps/fixed_opponents.py", ["tests/games/solvers/test_fixed_opponents.py"], [
        ("sign", "own * step.opponent + others", "own * step.opponent - others"),
        ("anchor", "own * step.opponent + others", "step.opponent"),
        ("other", "share * opponent(name)", "sum(self.opponents.values()) / len(self.opponents) * opponent(name)"),
        ("other", "opponent=own * step.opponent + others", "opponent=others / (1 - own)"),
    ]),
]  # fmt: skip
