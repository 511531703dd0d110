"""The list of mutants: of each method of docs/papers.md a sign flipped, a factor doubled, what anchors it dropped."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

ROOT = Path(__file__).parents[1]
Kind = Literal["sign", "factor", "anchor", "other"]
Change: TypeAlias = tuple[Kind, str, str]
"""What it is, the text, which stands once in its file, and what stands there instead."""


class Mutant(NamedTuple):
    """One change of a method's file, and the tests that may notice it, in the order in which they are asked."""

    method: str
    kind: Kind
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}  {' '.join(self.old.split())} -> {' '.join(self.new.split())}"

    def text(self) -> str:
        """The changed file.

        Raises:
            ValueError: the text to change does not stand there exactly once.
        """
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {text.count(self.old)} times {self.old!r}; expected once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Method:
    """The changes of a method.

    Attributes:
        name: how its row in docs/papers.md begins, up to the colon; of a method without a row, what it is.
        file: where it is.
        tests: files of tests; the test of its row comes before them.
        changes: of that file.
        elsewhere: of other files.
        lacks: a kind of change that it does not have, and why.
    """

    name: str
    file: str
    tests: Sequence[str]
    changes: Sequence[Change]
    elsewhere: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    lacks: Mapping[Kind, str] = field(default_factory=dict)


def rows() -> dict[str, str]:
    """The methods of the index of papers, each with its test."""
    lines = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").splitlines()
    cells = [line.split("|")[1:-1] for line in lines if line.startswith("| ") and "`" in line]
    return {method.split(": ")[0].strip(): test.strip(" `") for method, _, _, _, test in cells}


def mutants() -> list[Mutant]:
    """All of them, in the order of the list."""
    own = rows()
    return [
        Mutant(method.name, kind, file, old, new, (*([own[method.name]] if method.name in own else ()), *method.tests))
        for method in METHODS
        for file, changes in {method.file: method.changes, **method.elsewhere}.items()
        for kind, old, new in changes
    ]


def same(first: str, second: str) -> bool:
    """Whether two texts are one program, but for comments, layout and docstrings."""
    return _program(first) == _program(second)


def _program(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.dump(tree)


S, E, V = "games/solvers", "games/equilibria", "llm/evaluation"
MIRROR, LIMITS = "tests/games/test_mirror_steps.py", "tests/games/test_thresholds.py"
STEPS = [
    f"{MIRROR}::test_iterates_are_those_of_the_update_written_out",
    f"{MIRROR}::test_the_iterates_from_the_start_on_enter_the_average",
    f"{LIMITS}::test_a_step_beyond_its_threshold_is_told",
    MIRROR,
    "tests/games/test_solve.py",
    LIMITS,
]
TABLES = ["tests/games/test_table_solvers.py"]
LOSSES = ["tests/llm/test_losses.py::test_values_are_those_of_plain_loops", "tests/llm/test_losses.py"]
REGRESSION = ["tests/llm/test_regression.py"]
THEORY = ["tests/theory/test_formulas.py", "tests/theory/test_checks.py"]
EXACT = ["tests/games/test_equilibria.py", "tests/games/test_forms.py", "tests/games/test_equilibrium.py"]
CHOICE = ["tests/games/test_social_choice.py"]
JUDGED = ["tests/llm/test_oracles.py", "tests/llm/test_conformance.py"]
LENGTH = ["tests/llm/test_length_control.py"]
PULL = "pulled(x, reference, size, self.tau)"
MEAN = "g - (p * g).sum(-1, keepdim=True)"
NO_SCALE = "the policy is in proportion to the regrets: a factor on all of them changes nothing"

METHODS = [
    # solvers
    Method("`MWU`", f"{S}/mwu.py", STEPS, [
        ("sign", "size=at(self.step, t)", "size=-at(self.step, t)"),
        ("factor", "size=at(self.step, t)", "size=2 * at(self.step, t)"),
        ("anchor", "anchor=x,", "anchor=reference,"),
    ]),
    Method("`OptimisticMWU`", f"{S}/optimistic_mwu.py", STEPS, [
        ("sign", "size=at(self.step, t), counts=x", "size=-at(self.step, t), counts=x"),
        ("sign", "opponent=2 * x - previous", "opponent=2 * previous - x"),
        ("factor", "size=at(self.step, t), counts=x", "size=2 * at(self.step, t), counts=x"),
        ("factor", "opponent=2 * x - previous", "opponent=3 * x - 2 * previous"),
        ("factor", "1 / (math.sqrt(3) * lam), ", "1 / lam, "),
        ("anchor", "Step(anchor=x, opponent=2", "Step(anchor=previous, opponent=2"),
        ("other", "opponent=2 * x - previous", "opponent=x"),
        ("other", "counts=x)", "counts=previous)"),
    ]),
    Method("`OptimisticMWU(two_sequences=True)`", f"{S}/optimistic_mwu.py", STEPS, [
        ("sign", "opponent=x, size=size, last=False", "opponent=x, size=-size, last=False"),
        ("sign", "opponent=x, size=size, counts=None", "opponent=x, size=-size, counts=None"),
        ("factor", "opponent=x, size=size, last=False", "opponent=x, size=2 * size, last=False"),
        ("factor", "opponent=x, size=size, counts=None", "opponent=x, size=2 * size, counts=None"),
        ("anchor", "base = yield Step(anchor=base,", "base = yield Step(anchor=x,"),
        ("anchor", "x = yield Step(anchor=base, opponent=x, size=size, counts", "x = yield Step(anchor=x, opponent=x, size=size, counts"),
    ]),
    Method("`ExtraGradient`", f"{S}/extragradient.py", STEPS, [
        ("sign", "anchor, opponent=half, size=size", "anchor, opponent=half, size=-size"),
        ("factor", "anchor, opponent=half, size=size", "anchor, opponent=half, size=2 * size"),
        ("anchor", "anchor, opponent=half, size=size", "half, opponent=half, size=size"),
        ("other", "anchor, opponent=half, size=size", "anchor, opponent=x, size=size"),
        ("factor", "return Limit(1 / lam,", "return Limit(2 / lam,"),
    ]),
    Method("`ExtraGradient(tau=...)`", f"{S}/extragradient.py", STEPS, [
        ("sign", "anchor, opponent=x, size=size", "anchor, opponent=x, size=-size"),
        ("sign", "1 / (L + self.tau), ", "1 / (L - self.tau), "),
        ("factor", "anchor, opponent=x, size=size", "anchor, opponent=x, size=2 * size"),
        ("factor", PULL, "pulled(x, reference, 2 * size, self.tau)"),
        ("anchor", PULL, "x"),
        ("anchor", "anchor, opponent=x, size=size", "x, opponent=x, size=size"),
    ]),
    Method("`MagneticMirrorDescent`", f"{S}/magnetic_mirror_descent.py", STEPS, [
        ("sign", "opponent=x, size=size", "opponent=x, size=-size"),
        ("factor", "opponent=x, size=size", "opponent=x, size=2 * size"),
        ("anchor", PULL, "x"),
        ("anchor", PULL, "pulled(reference, x, size, self.tau)"),
        ("other", "implicit(at(self.step, t), self.tau)", "at(self.step, t)"),
        ("other", PULL, "pulled(x, x, size, self.tau)"),
    ]),
    Method("`INPO`, online IPO", f"{S}/inpo.py", STEPS, [
        ("sign", "opponent=x, size=size", "opponent=x, size=-size"),
        ("factor", "opponent=x, size=size", "opponent=x, size=2 * size"),
        ("anchor", PULL, "x"),
        ("other", "opponent=x, size=size", "opponent=reference, size=size"),
        ("other", "implicit(contraction(self.tau, L), self.tau) if", "contraction(self.tau, L) if"),
    ]),
    Method("`NashMD`", f"{S}/nash_md.py", STEPS, [
        ("sign", "opponent=mix, size=size", "opponent=mix, size=-size"),
        ("factor", "opponent=mix, size=size", "opponent=mix, size=2 * size"),
        ("anchor", "yield Step(pulled(x, reference, size, self.tau), last=False)", "yield Step(x, last=False)"),
        ("anchor", "Step(anchor=mix, opponent=mix", "Step(anchor=x, opponent=mix"),
        ("other", "Step(anchor=mix, opponent=mix", "Step(anchor=mix, opponent=x"),
        ("other", "opponent=mix, size=size, counts=x", "opponent=mix, size=size"),
    ]),
    Method("`NashEMA`", f"{S}/nash_md.py", STEPS, [
        ("sign", "opponent=average, size=size", "opponent=average, size=-size"),
        ("factor", "opponent=average, size=size", "opponent=average, size=2 * size"),
        ("anchor", "pulled(x, reference, size, self.tau), opponent=average", "x, opponent=average"),
        ("other", "opponent=average", "opponent=x"),
        ("other", "self.decay * average + (1 - self.decay) * x", "(1 - self.decay) * average + self.decay * x"),
    ]),
    Method("`Momentum`; APO with `nesterov=True`", f"{S}/momentum.py", STEPS, [
        ("sign", "size=at(self.step, t), counts=x", "size=-at(self.step, t), counts=x"),
        ("sign", "(1 + self.momentum) * x - self.momentum * previous", "(1 - self.momentum) * x + self.momentum * previous"),
        ("factor", "size=at(self.step, t), counts=x", "size=2 * at(self.step, t), counts=x"),
        ("factor", "(1 + self.momentum) * x - self.momentum * previous", "(1 + 2 * self.momentum) * x - 2 * self.momentum * previous"),
        ("anchor", "Step(ahead, opponent", "Step(x, opponent"),
        ("other", "ahead if self.nesterov else x", "x"),
        ("other", "ahead if self.nesterov else x", "ahead"),
    ]),
    Method("`ProximalPoint`", f"{S}/proximal_point.py", STEPS, [
        ("sign", "opponent=x, size=size, last", "opponent=x, size=-size, last"),
        ("factor", "opponent=x, size=size, last", "opponent=x, size=2 * size, last"),
        ("anchor", "anchor = pulled(x, magnet, size, self.tau)", "anchor = x"),
        ("anchor", "magnet, size = x, at", "magnet, size = reference, at"),
        ("other", "opponent=x, size=size, last", "opponent=magnet, size=size, last"),
        ("other", "range(1, self.inner + 1)", "range(0, self.inner + 1)"),
        ("other", "magnet if k == 1 else None", "x"),
    ]),
    Method("`MagnetReset`", f"{S}/proximal_point.py", STEPS, [
        ("sign", "self.tau), opponent=x, size=size)", "self.tau), opponent=x, size=-size)"),
        ("factor", "self.tau), opponent=x, size=size)", "self.tau), opponent=x, size=2 * size)"),
        ("factor", "t % self.every == 0", "t % (2 * self.every) == 0"),
        ("anchor", "Step(pulled(x, magnet, size, self.tau), opponent", "Step(x, opponent"),
        ("anchor", "t % self.every == 0", "False"),
        ("other", "magnet = reference", "magnet = x"),
        ("other", "implicit(at(self.step, t), self.tau)", "at(self.step, t)"),
    ]),
    Method("`HistoryMixture`", f"{S}/history_mixture.py", STEPS, [
        ("sign", "opponent=mix, size=size", "opponent=mix, size=-size"),
        ("factor", "opponent=mix, size=size", "opponent=mix, size=2 * size"),
        ("anchor", "pulled(mix, reference, size, self.tau)", "mix"),
        ("anchor", "pulled(mix, reference", "pulled(latest[0], reference"),
        ("other", "opponent=mix, size=size", "opponent=latest[0], size=size"),
        ("other", "[x, *latest[:-1]]", "[*latest[1:], x]"),
    ]),
    Method("`RegretMatching`", f"{S}/regret_matching.py", TABLES, [
        ("sign", MEAN, "(p * g).sum(-1, keepdim=True) - g"),
        ("sign", "positive = [r.clamp_min(0)", "positive = [(-r).clamp_min(0)"),
        ("anchor", "regrets = _sum(regrets, _regrets(x, payoffs(x)))", "regrets = _regrets(x, payoffs(x))"),
        ("other", MEAN, "g"),
        ("other", "regrets = _sum(regrets, _regrets(x, payoffs(x)))", "regrets = _floored(_sum(regrets, _regrets(x, payoffs(x))))"),
    ], lacks={"factor": NO_SCALE}),
    Method("`RegretMatchingPlus`", f"{S}/regret_matching.py", TABLES, [
        ("sign", "return tuple(r.clamp_min(0) for r in regrets)", "return tuple((-r).clamp_min(0) for r in regrets)"),
        ("anchor", "regrets = _floored(_sum(regrets, _regrets(x, payoffs(x))))", "regrets = _floored(_regrets(x, payoffs(x)))"),
        ("other", "regrets = _floored(_sum(regrets, _regrets(x, payoffs(x))))", "regrets = _sum(regrets, _regrets(x, payoffs(x)))"),
    ], lacks={"factor": NO_SCALE}),
    Method("`PredictiveRegretMatchingPlus`", f"{S}/regret_matching.py", TABLES, [
        ("sign", "_matched(_sum(regrets, last))", "_matched(_sum(regrets, tuple(-r for r in last)))"),
        ("factor", "_matched(_sum(regrets, last))", "_matched(_sum(regrets, _sum(last, last)))"),
        ("anchor", "regrets = _floored(_sum(regrets, last))", "regrets = _floored(last)"),
        ("other", "_matched(_sum(regrets, last))", "_matched(regrets)"),
        ("other", "regrets = _floored(_sum(regrets, last))", "regrets = _sum(regrets, last)"),
    ]),
    Method("`FictitiousPlay`", f"{S}/fictitious_play.py", TABLES, [
        ("sign", "values >= values.amax", "values <= values.amin"),
        ("anchor", "total + gain", "gain"),
    ], lacks={"factor": "the best action stays the best: a factor on all payoffs changes nothing"}),
    Method("`Replicator`", f"{S}/replicator.py", TABLES, [
        ("sign", "_runge_kutta(x, slope, at(self.step, t))", "_runge_kutta(x, slope, -at(self.step, t))"),
        ("factor", "_runge_kutta(x, slope, at(self.step, t))", "_runge_kutta(x, slope, 2 * at(self.step, t))"),
        ("factor", "2 * b + 2 * c", "b + c"),
        ("factor", "moved(k1, h / 2)", "moved(k1, h)"),
        ("anchor", f"({MEAN})", "g"),
        ("anchor", "(p * g).sum(-1, keepdim=True)", "0.5"),
    ]),
    # losses
    Method("`mirror`", "llm/regression.py", REGRESSION, [
        ("sign", "difference = log_ratio - target", "difference = log_ratio + target"),
        ("sign", "return (size * gains - constant)", "return (size * gains + constant)"),
        ("sign", "if drift is None else size * gains + drift", "if drift is None else size * gains - drift"),
        ("factor", "return (size * gains - constant)", "return (2 * size * gains - constant)"),
        ("factor", "torch.full_like(gains[..., :1], size / 2)", "torch.full_like(gains[..., :1], size)"),
        ("other", "size * gains if drift is None else size * gains + drift", "size * gains"),
        ("other", "weights[..., rows, itself[rows]] = 0.0", "pass"),
        ("other", "difference = difference - _mean(difference, weights)", "pass"),
    ], {"llm/losses.py": [("anchor", "return self.now - self.anchor", "return self.now")]}),
    Method("`sppo`", "llm/losses.py", LOSSES, [
        ("sign", "return (ratio - size * (wins - 0.5)).square()", "return (ratio + size * (wins - 0.5)).square()"),
        ("factor", "return (ratio - size * (wins - 0.5)).square()", "return (ratio - 2 * size * (wins - 0.5)).square()"),
        ("anchor", "sppo(judged.ratio, judged.gains", "sppo(judged.now, judged.gains"),
        ("other", "return (ratio - size * (wins - 0.5)).square()", "return (ratio - size * wins).square()"),
    ]),
    Method("`sppo-single`, `sppo-hard`", "llm/losses.py", LOSSES, [
        ("sign", "(rejected + target).square()", "(rejected - target).square()"),
        ("factor", "target = size * (wins - 0.5)", "target = 2 * size * (wins - 0.5)"),
        ("anchor", "sppo_pair(*pair(judged.ratio), judged.P", "sppo_pair(*pair(judged.now), judged.P"),
        ("anchor", "sppo_pair(*pair(judged.ratio), 1.0", "sppo_pair(*pair(judged.now), 1.0"),
        ("other", "sppo_pair(*pair(judged.ratio), 1.0", "sppo_pair(*pair(judged.ratio), 0.5"),
    ]),
    Method("`dpo`", "llm/losses.py", LOSSES, [
        ("sign", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid((rejected - chosen) / size)"),
        ("factor", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid(2 * (chosen - rejected) / size)"),
        ("anchor", "dpo(*pair(judged.ratio)", "dpo(*pair(judged.now)"),
        ("other", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid((chosen - rejected) * size)"),
    ]),
    Method("`ipo`", "llm/losses.py", LOSSES, [
        ("sign", "(chosen - rejected - size / 2).square()", "(chosen - rejected + size / 2).square()"),
        ("factor", "(chosen - rejected - size / 2).square()", "(chosen - rejected - size).square()"),
        ("anchor", "judged.pairs(ipo(*pair(judged.ratio)", "judged.pairs(ipo(*pair(judged.now)"),
    ]),
    Method("`kto`", "llm/losses.py", LOSSES, [
        ("sign", "desirable * (-margin).sigmoid()", "desirable * margin.sigmoid()"),
        ("factor", "(ratio - divergence.detach()) / size", "2 * (ratio - divergence.detach()) / size"),
        ("anchor", "kto(judged.ratio, desirable", "kto(judged.now, desirable"),
        ("anchor", "(ratio - divergence.detach()) / size", "ratio / size"),
        ("other", "(ratio - divergence.detach()) / size", "(ratio - divergence) / size"),
    ]),
    Method("`simpo`", "llm/losses.py", LOSSES, [
        ("sign", "(chosen - rejected - margin) / size", "(chosen - rejected + margin) / size"),
        ("factor", "(chosen - rejected - margin) / size", "2 * (chosen - rejected - margin) / size"),
        ("other", "judged.now / judged.lengths.to(judged.now).clamp_min(1)", "judged.now"),
    ], lacks={"anchor": "it has none: that is its point"}),
    Method("`rebel`", "llm/losses.py", LOSSES, [
        ("sign", "(first - second - size * (gain - other))", "(first - second + size * (gain - other))"),
        ("factor", "(first - second - size * (gain - other))", "(first - second - 2 * size * (gain - other))"),
        ("anchor", "rebel(*pair(judged.ratio)", "rebel(*pair(judged.now)"),
    ]),
    Method("`online-ipo`", "llm/losses.py", LOSSES, [
        ("sign", "first.nan_to_num(), second.nan_to_num(), judged.size", "second.nan_to_num(), first.nan_to_num(), judged.size"),
        ("factor", "first.nan_to_num(), second.nan_to_num(), judged.size", "first.nan_to_num(), second.nan_to_num(), 2 * judged.size"),
        ("anchor", "P, ratio = judged.P, judged.ratio", "P, ratio = judged.P, judged.now"),
        ("other", "own[:, None, :] | own[None, :, :]", "own[:, None, :]"),
    ]),
    Method("`dno`", "llm/losses.py", LOSSES, [
        ("sign", "(gain - other).sigmoid(), (first", "(other - gain).sigmoid(), (first"),
        ("factor", "(gain - other).sigmoid(), (first - second) / size", "(gain - other).sigmoid(), 2 * (first - second) / size"),
        ("anchor", "dno(*pair(judged.ratio)", "dno(*pair(judged.now)"),
    ]),
    Method("`gpo`", "llm/losses.py", LOSSES, [
        ("sign", "(ratio - size * score).square()", "(ratio + size * score).square()"),
        ("factor", "(ratio - size * score).square()", "(ratio - 2 * size * score).square()"),
        ("anchor", "gpo(judged.ratio, judged.gains", "gpo(judged.now, judged.gains"),
        ("other", "(ratio - size * score).square()", "(ratio - size * (score - 0.5)).square()"),
    ]),
    # theorems
    Method("`MWUAverage`", "theory/mwu_average.py", THEORY, [
        ("sign", "return self.step / 4 + 2", "return self.step / 4 - 2"),
        ("sign", "float(-torch.as_tensor(start, dtype=torch.float64).log().min())", "float(torch.as_tensor(start, dtype=torch.float64).log().min())"),
        ("factor", "return self.step / 4 + 2", "return self.step / 2 + 2"),
        ("factor", "return self.step / 4 + 2", "return self.step / 4 + 4"),
        ("factor", "math.sqrt(8 * C / iterations)", "math.sqrt(16 * C / iterations)"),
        ("anchor", "return self.step / 4 + 2", "return self.step / 4 + 0"),
    ]),
    Method("`SPPOTheorem`", "theory/mwu_average.py", THEORY, [
        ("sign", "return self.step / 2 + 2", "return self.step / 2 - 2"),
        ("factor", "return self.step / 2 + 2", "return self.step + 2"),
        ("factor", "cls(2 * math.sqrt(C / iterations), C)", "cls(math.sqrt(C / iterations), C)"),
        ("anchor", "return self.step / 2 + 2", "return self.step / 2 + 0"),
    ]),
    Method("`MWULeaves`", "theory/mwu_average.py", THEORY, [
        ("sign", "self.value(kl[1:]), kl[:-1]", "self.value(kl[:-1]), kl[1:]"),
        ("factor", "        return distance", "        return 2 * distance"),
    ], lacks={"anchor": "it holds from any start"}),
    Method("`OptimisticAverage`, `PublishedRootFails`", "theory/optimistic.py", THEORY, [
        ("sign", "return 4 * math.log(self.n)", "return -4 * math.log(self.n)"),
        ("sign", "Check.of([iterations], gap, self.value([iterations]))", "Check.of([iterations], self.value([iterations]), gap)"),
        ("factor", "return 4 * math.log(self.n)", "return 8 * math.log(self.n)"),
        ("factor", "return 4 * math.sqrt(math.log(self.n))", "return 8 * math.sqrt(math.log(self.n))"),
    ], lacks={"anchor": "they are stated for the uniform start, whose share is the log n"}),
    Method("`LocalThreshold`", "theory/threshold.py", THEORY, [
        ("sign", "2 * tau / (lam**2 - tau**2) if", "2 * tau / (lam**2 + tau**2) if"),
        ("sign", "return Check.of([T[1]], early, late", "return Check.of([T[1]], late, early"),
        ("factor", "lambda lam: 1 / (math.sqrt(3) * lam)", "lambda lam: 2 / (math.sqrt(3) * lam)"),
        ("factor", "lambda lam: 1 / lam", "lambda lam: 2 / lam"),
        ("factor", "2 * tau / (lam**2 - tau**2) if", "tau / (lam**2 - tau**2) if"),
        ("anchor", "2 * tau / (lam**2 - tau**2) if", "2 * tau / lam**2 if"),
    ]),
    Method("`Contraction`", "theory/regularised.py", THEORY, [
        ("sign", "1 / (1 + step * tau), tau", "1 / (1 - step * tau), tau"),
        ("sign", "1 - step * tau, 1 / (HALF", "1 + step * tau, 1 / (HALF"),
        ("factor", "1 / (1 + step * tau), tau", "1 / (1 + 2 * step * tau), tau"),
        ("factor", "1 - step * tau, tau /", "1 - 2 * step * tau, tau /"),
        ("factor", "1 - step * tau, 1 / (HALF", "1 - step * tau, 2 / (HALF"),
        ("anchor", "tau / (HALF**2 + tau**2)", "tau / HALF**2"),
        ("anchor", "1 / (HALF + tau)", "1 / HALF"),
    ]),
    Method("`NashMDRate`", "theory/regularised.py", THEORY, [
        ("sign", "* kl[:-1] + 2 * s**2", "* kl[:-1] - 2 * s**2"),
        ("factor", "return 8 / (self.tau**2", "return 16 / (self.tau**2"),
        ("factor", "* kl[:-1] + 2 * s**2", "* kl[:-1] + 4 * s**2"),
        ("anchor", "return 8 / (self.tau**2 *", "return 8 / (1 *"),
        ("anchor", "(1 - s * self.tau) * kl[:-1]", "kl[:-1]"),
    ]),
    Method("`PairLoss`", "theory/likelihood.py", THEORY, [
        ("sign", "rows[torch.arange(n * n), j] -= 1", "rows[torch.arange(n * n), j] += 1"),
        ("factor", "torch.where(i == j, 0.0, self.step / 2)", "torch.where(i == j, 0.0, self.step)"),
        ("anchor", "(pi.log() + log_ratio[:, 0]).softmax(-1)", "log_ratio[:, 0].softmax(-1)"),
    ]),
    Method("`KSamples`", "theory/estimators.py", THEORY, [
        ("sign", "return self.k - self.self_comparison", "return self.k + self.self_comparison"),
        ("factor", "return 0.5 + self.share * (r - 0.5), self.samples * spread", "return 0.5 + self.share * (r - 0.5), 2 * self.samples * spread"),
        ("factor", "return 0.5 + self.share * (r - 0.5)", "return 0.5 + 2 * self.share * (r - 0.5)"),
        ("anchor", "return 0.5 + self.share * (r - 0.5)", "return self.share * r"),
    ]),
    # equilibria, oracles, evaluation
    Method("Exact equilibria by pivoting", f"{E}/pivoting.py", EXACT, [
        ("sign", "K[:, :n, n], K[:, n, :n] = -1.0, 1.0", "K[:, :n, n], K[:, n, :n] = 1.0, -1.0"),
        ("sign", "torch.nn.functional.pad(-A, (0, 1, 0, 1))", "torch.nn.functional.pad(A, (0, 1, 0, 1))"),
        ("factor", "v[at, i], v[at, j] = vj / p, -vi / p", "v[at, i], v[at, j] = 2 * vj / p, -vi / p"),
        ("anchor", "q[:, n] = -1.0", "q[:, n] = 0.0"),
    ], {f"{E}/compiled_pivoting.py": [
        ("sign", "q[i], q[j], d[i], d[j] = qj, -qi, dj, -di", "q[i], q[j], d[i], d[j] = qj, qi, dj, di"),
        ("factor", "K[i, k], K[j, k] = -b[k] / p, a[k] / p", "K[i, k], K[j, k] = -2 * b[k] / p, a[k] / p"),
        ("anchor", "K[n, n], q[n], d[n] = 0.0, -1.0, 0.0", "K[n, n], q[n], d[n] = 0.0, 0.0, 0.0"),
    ]}),
    Method("Games of two players as symmetric ones", "games/embedding.py", EXACT, [
        ("sign", "0.5 + A - A.mT", "0.5 - A + A.mT"),
        ("factor", "_BORDER = 3 / 8", "_BORDER = 6 / 8"),
        ("anchor", "= V, -_BORDER, _BORDER", "= V, 0.0, 0.0"),
    ]),
    Method("Double oracle", f"{E}/double_oracle.py", EXACT, [
        ("sign", "np.flatnonzero(y > tolerance)", "np.flatnonzero(y < -tolerance)"),
        ("sign", "[table, -across.T]", "[table, across.T]"),
        ("sign", "np.argsort(-y[new], kind=", "np.argsort(y[new], kind="),
        ("anchor", "new = new[np.argsort(-y[new], kind=\"stable\")[:ANSWERS]]", "pass"),
    ], lacks={"factor": "who answers best is a matter of order: a factor on all margins changes nothing"}),
    Method("Hodge parts", "games/social_choice.py", CHOICE, [
        ("sign", "score[..., :, None] - score[..., None, :]", "score[..., None, :] - score[..., :, None]"),
        ("factor", "score = table.mean(-1)", "score = 2 * table.mean(-1)"),
        ("anchor", "return gradient, table - gradient", "return gradient, table"),
    ]),
    Method("Bradley-Terry", "games/ratings.py", CHOICE, [
        ("sign", "(wins - met * p).sum(-1)", "(met * p - wins).sum(-1)"),
        ("factor", "ELO = 400 / math.log(10)", "ELO = 800 / math.log(10)"),
        ("factor", "deviance = 2 * float(", "deviance = 4 * float("),
        ("factor", "w = w + smoothing / 2 * (1", "w = w + smoothing * (1"),
        ("anchor", "return r - r.mean(-1, keepdim=True)", "return r - r[..., :1]"),
        ("anchor", "torch.where(met > 0, share - p, 0.0)", "torch.where(met > 0, share, 0.0)"),
    ]),
    Method("`PairRM`", "llm/oracles/pairrm.py", ["tests/llm/test_pairrm.py"], [
        ("sign", "return (left - right).mean(dim=-1)", "return (right - left).mean(dim=-1)"),
        ("factor", "return (left - right).mean(dim=-1)", "return 2 * (left - right).mean(dim=-1)"),
        ("anchor", "torch.cat([source, second], dim=-1)", "torch.cat([second, second], dim=-1)"),
        ("other", "return (left - right).mean(dim=-1)", "return (left - right).sum(dim=-1)"),
    ]),
    Method("`GPM`", "llm/oracles/gpm.py", ["tests/llm/test_gpm.py"], [
        ("factor", "return score / self.temperature", "return 2 * score / self.temperature"),
        ("anchor", "first = first * weights.repeat_interleave(2, dim=-1)", "pass"),
        ("other", "v = normalize(v, dim=-1)", "pass"),
    ], {"llm/oracles/embedding.py": [
        ("sign", "v[..., 0::2] * w[..., 1::2] - v[..., 1::2]", "v[..., 0::2] * w[..., 1::2] + v[..., 1::2]"),
        ("sign", "(v[..., 0::2] * w[..., 1::2] - v[..., 1::2] * w[..., 0::2])", "(v[..., 1::2] * w[..., 0::2] - v[..., 0::2] * w[..., 1::2])"),
    ]}),
    Method("`RewardModel`", "llm/oracles/reward_model.py", ["tests/llm/test_reward_model.py"], [
        ("sign", "(rewards[:, 0] - rewards[:, 1]) / self", "(rewards[:, 1] - rewards[:, 0]) / self"),
        ("factor", "(rewards[:, 0] - rewards[:, 1]) / self", "2 * (rewards[:, 0] - rewards[:, 1]) / self"),
        ("anchor", "(rewards[:, 0] - rewards[:, 1]) / self", "rewards[:, 0] / self"),
    ]),
    Method("`length_controlled_win_rate`", f"{V}/length_control.py", LENGTH, [
        ("sign", "rows[\"baseline_length\"] - rows[\"output_length\"]", "rows[\"output_length\"] - rows[\"baseline_length\"]"),
        ("sign", "expit(w.model - v.model +", "expit(v.model - w.model +"),
        ("factor", "np.tanh(apart / spread)", "np.tanh(2 * apart / spread)"),
        ("factor", "np.full(len(others), GAMED)", "np.full(len(others), 2 * GAMED)"),
        ("anchor", "moments = moments + GAMED * np.append(sums, 0.0)", "pass"),
        ("anchor", "(w.difficulty - v.difficulty) * d)", "w.difficulty * d)"),
    ], {f"{V}/logistic.py": [
        ("sign", "slope = x @ share - moments", "slope = x @ share + moments"),
        ("factor", "- moments @ w + penalty * np.abs(w).sum()", "- moments @ w + 2 * penalty * np.abs(w).sum()"),
    ]}),
    Method("Low-rank adapters on a base in 4 bits", "llm/lora.py", ["tests/llm/test_mixture.py", "tests/llm/test_model.py"], [
        ("sign", "found[name] = wide * (own.scale / slot.scale)", "found[name] = -wide * (own.scale / slot.scale)"),
        ("sign", "weight * shape.scale * own", "-weight * shape.scale * own"),
        ("factor", "found[name] = wide * (own.scale / slot.scale)", "found[name] = 2 * wide * (own.scale / slot.scale)"),
        ("factor", "weight * shape.scale * own", "2 * weight * shape.scale * own"),
        ("factor", "return alpha / (", "return 2 * alpha / ("),
        ("other", "return alpha / (math.sqrt(rank) if rooted else rank)", "return alpha / rank"),
    ], {"llm/model.py": [
        ("factor", "else 2 * shape.rank", "else 4 * shape.rank"),
        ("anchor", "self._put(slot, {**left, **state})", "self._put(slot, state)"),
    ]}),
    # what has no row of its own there, though methods stand on it
    Method("A Step on a table", "games/tables.py", ["tests/games/test_traced.py", *STEPS], [
        ("sign", "x + step.size * gain", "x - step.size * gain"),
        ("factor", "x + step.size * gain", "x + 2 * step.size * gain"),
        ("anchor", "logits = tuple(x + step.size * gain for", "logits = tuple(step.size * gain for"),
        ("other", "sum(w * x.masked_fill(excluded, 0.0)", "sum(x.masked_fill(excluded, 0.0)"),
    ], {"games/compiled_steps.py": [
        ("sign", "before = size * payoff[against, r, i]", "before = -size * payoff[against, r, i]"),
        ("factor", "before = size * payoff[against, r, i]", "before = 2 * size * payoff[against, r, i]"),
        ("anchor", "else before + w * member", "else before"),
        ("factor", "return 2 * total if len(edge) == 2 else total", "return total"),
    ]}),
    Method("A Step of a language model", "llm/training.py", ["tests/llm/test_enumerable.py"], [
        ("sign", "gain += weight * regression.win_rates(P", "gain -= weight * regression.win_rates(P"),
        ("factor", "gain += weight * regression.win_rates(P", "gain += 2 * weight * regression.win_rates(P"),
        ("anchor", "scored * anchor.get(policy, 0.0) + batch.anchor", "batch.anchor"),
    ]),
    Method("The pull to the reference", f"{S}/pull.py", STEPS, [
        ("sign", "(1 - pull) * x + pull * reference", "(1 + pull) * x - pull * reference"),
        ("sign", "return size / (1 + size * tau)", "return size / (1 - size * tau)"),
        ("factor", "(1 - pull) * x + pull * reference", "(1 - pull / 2) * x + pull / 2 * reference"),
        ("anchor", "(1 - pull) * x + pull * reference", "x + 0.0 * reference"),
        ("anchor", "(1 - pull) * x + pull * reference", "pull * x + (1 - pull) * reference"),
        ("anchor", "return size / (1 + size * tau)", "return size"),
    ]),
    Method("The steps that theorems allow", f"{S}/limit.py", [STEPS[2], LIMITS, MIRROR], [
        ("factor", "return tau / L**2", "return 2 * tau / L**2"),
    ], {f"{S}/schedule.py": [
        ("factor", "math.sqrt(8 * C / iterations)", "math.sqrt(4 * C / iterations)"),
        ("factor", "2 / (tau * (t + 2))", "1 / (tau * (t + 2))"),
        ("other", "scale / math.sqrt(t)", "scale / t"),
        ("other", "t.bit_length() - 1", "t.bit_length()"),
        ("other", "bisect_left(ends, t)", "bisect_left(ends, t + 1)"),
    ]}),
    Method("Opponents of a cast", f"{S}/against_cast.py", ["tests/games/test_against_cast.py"], [
        ("sign", "own * step.opponent + others", "own * step.opponent - others"),
        ("anchor", "own * step.opponent + others", "step.opponent"),
        ("other", "share * member(name)", "sum(self.cast.values()) / len(self.cast) * member(name)"),
        ("other", "opponent=own * step.opponent + others", "opponent=others / (1 - own)"),
    ]),
    Method("What a step sees: samples and duels", "games/feedback.py", ["tests/games/test_feedback.py"], [
        ("sign", "-value * rho.gather(-1, i)", "value * rho.gather(-1, i)"),
        ("sign", "< wins)", "> wins)"),
        ("factor", "(1 - share) / 2", "(1 - share)"),
        ("factor", "- 0.5) / (2 * q", "- 0.5) / (q"),
        ("other", "exact(game, [(weight, tuple", "exact(game, [(1.0, tuple"),
        ("other", "self.k - self.self_comparison", "self.k"),
        ("other", "counter=[0, 0, 0, round]", "counter=[0, 0, 0, 0]"),
    ]),
    Method("Frequencies, and steps beyond their threshold", "games/thresholds.py", ["tests/games/test_thresholds.py"], [
        ("factor", "lam=L / math.sqrt(2)", "lam=L / 8"),
        ("anchor", "- p.unsqueeze(-1) * p.unsqueeze(-2)", ""),
        ("other", "if bool(equilibrium.unique)", "if True"),
    ], {"theory/stability.py": [
        ("sign", "value += 1j * lam * step.size", "value -= lam * step.size"),
        ("factor", "1j * lam * step.size", "2j * lam * step.size"),
    ]}),
    Method("The winner of noisy duels", "games/duels.py", ["tests/games/test_duels.py"], [
        ("sign", "won = np.asarray(duel(pairs), dtype=np.float64)", "won = 1.0 - np.asarray(duel(pairs))"),
        ("sign", "int(wins.argmax())", "int(wins.argmin())"),
        ("factor", "(self.wins + 1) / (self.wins + self.wins.T + 2)", "(self.wins + 2) / (self.wins + self.wins.T + 4)"),
    ]),
    Method("Measures of a policy", "games/measures.py", ["tests/games/test_game.py", "tests/games/test_forms.py", "tests/games/test_solve.py"], [
        ("sign", "(game.payoffs(players)[0] - game.total / 2).amax(-1)", "(game.total / 2 - game.payoffs(players)[0]).amax(-1)"),
        ("sign", "torch.special.xlogy(p, p) - torch.special", "torch.special.xlogy(p, p) + torch.special"),
        ("factor", "return 2 * (game.payoffs", "return 4 * (game.payoffs"),
        ("factor", "return duality_gap(game, policy) / 2", "return duality_gap(game, policy)"),
        ("factor", ".abs().sum(-1) / 2", ".abs().sum(-1)"),
        ("anchor", "return best[0] + best[1] - game.total", "return best[0] + best[1]"),
        ("anchor", "(torch.special.xlogy(p, p) - torch.special.xlogy(p, q))", "-torch.special.xlogy(p, q)"),
    ], {"games/averaging.py": [("factor", "return float(t)", "return float(t * t)")]}),
    Method("Equilibria regularised by KL", "games/regularised.py", ["tests/games/test_regularised.py"], [
        ("sign", "u_ref + theta * (A @ x[..., None])[..., 0] - u", "u_ref - theta * (A @ x[..., None])[..., 0] - u"),
        ("factor", "u_ref + theta * (A @ x[..., None])[..., 0] - u", "u_ref + 2 * theta * (A @ x[..., None])[..., 0] - u"),
        ("factor", "return gap * (2 if len(players) == 1 else 1)", "return gap"),
        ("factor", "gap = gap + tau * terms.sum(-1)", "gap = gap + 2 * tau * terms.sum(-1)"),
        ("anchor", "return tuple((log + payoff / tau).log_softmax(-1) for", "return tuple((payoff / tau).log_softmax(-1) for"),
        ("anchor", "answer = (log + payoff / tau).log_softmax(-1)", "answer = (payoff / tau).log_softmax(-1)"),
        ("anchor", "game.payoff.to(torch.float64) - game.total / 2", "game.payoff.to(torch.float64)"),
    ]),
    Method("Equilibria in closed form", f"{E}/closed_form.py", EXACT, [
        ("sign", "torch.stack([A[:, 1, 2], A[:, 2, 0], A[:, 0, 1]], -1)", "torch.stack([A[:, 1, 2], A[:, 0, 2], A[:, 0, 1]], -1)"),
        ("sign", "if least >= 0.0:", "if least <= 0.0:"),
        ("factor", "x[0], x[1], x[2] = P[1, 2] - half,", "x[0], x[1], x[2] = 2 * (P[1, 2] - half),"),
    ]),
    Method("Games of low rank", "games/low_rank.py", ["tests/games/test_forms.py"], [
        ("sign", "@ mu) - self.right @", "@ mu) + self.right @"),
        ("sign", "@ right[columns].T - right[actions]", "@ right[columns].T + right[actions]"),
        ("factor", "(mu.sum(-2) / 2) +", "mu.sum(-2) +"),
        ("factor", "return left @ (right[actions].T @ weights) -", "return 2 * left @ (right[actions].T @ weights) -"),
    ]),
    Method("Winners of tournaments", "games/social_choice.py", CHOICE, [
        ("sign", "wins.sum(-1) - wins.sum(-2)", "wins.sum(-2) - wins.sum(-1)"),
        ("sign", "reach = ~_beats(table).mT", "reach = ~_beats(table)"),
        ("factor", ".round().to(torch.int64) // 3", ".round().to(torch.int64)"),
        ("factor", "(table.sum(-1) - own) / max(n - 1, 1)", "2 * (table.sum(-1) - own) / max(n - 1, 1)"),
        ("anchor", "(table.sum(-1) - own) / max(n - 1, 1)", "table.sum(-1) / max(n - 1, 1)"),
    ]),
    Method("Plackett-Luce", "games/ratings.py", CHOICE, [
        ("factor", "waits = 2 * smoothing / (strength + 1)", "waits = smoothing / (strength + 1)"),
        ("anchor", "return strength.log() - strength.log().mean()", "return strength.log()"),
        ("other", "chosen[list(ranking[:-1])] += 1", "chosen[list(ranking)] += 1"),
    ]),
    Method("Other statements on likelihoods", "theory/likelihood.py", ["tests/theory/test_formulas.py", "tests/theory/test_likelihood.py", "tests/theory/test_checks.py"], [
        ("sign", "return size * (torch.as_tensor(wins) - 0.5) - torch.as_tensor(ratios)", "return size * (torch.as_tensor(wins) - 0.5) + torch.as_tensor(ratios)"),
        ("sign", "(-_margin(ratios) / size).sigmoid() / size", "(_margin(ratios) / size).sigmoid() / size"),
        ("sign", "self.step + math.log(-math.expm1(-self.step)) - math.log(self.step)", "self.step + math.log(-math.expm1(-self.step)) + math.log(self.step)"),
        ("sign", "return 1 - pi[..., chosen] + pi[..., rejected]", "return 1 + pi[..., chosen] - pi[..., rejected]"),
        ("factor", "return size * (torch.as_tensor(wins) - 0.5) - torch", "return 2 * size * (torch.as_tensor(wins) - 0.5) - torch"),
        ("factor", "_opposite(2 * (size / 2 -", "_opposite(4 * (size / 2 -"),
        ("factor", "((r - 0.5) ** 2 * pi).sum(-1) / 2", "((r - 0.5) ** 2 * pi).sum(-1)"),
        ("anchor", "return self.step / 2 + self.step**2", "return self.step**2"),
        ("anchor", "return shared + torch.eye(pi.shape[-1], dtype=pi.dtype)", "return shared"),
        ("other", "        return 0.5", "        return 0.4"),
    ]),
    Method("Other statements on regularised games", "theory/regularised.py", THEORY, [
        ("sign", "return step / (1 + step * self.tau)", "return step / (1 - step * self.tau)"),
        ("sign", "self.tau * torch.eye(len(pi)).double() - A @ S", "self.tau * torch.eye(len(pi)).double() + A @ S"),
        ("sign", "-pull.log().amin(-1) - games.kl", "-pull.log().amin(-1) + games.kl"),
        ("factor", "return 2 * self.tau * (-pull", "return 4 * self.tau * (-pull"),
        ("factor", "return float(u @ S @ u) / 2", "return float(u @ S @ u)"),
        ("factor", "        return distance", "        return 0.5 * distance"),
        ("anchor", "-pull.log().amin(-1) - games.kl_divergence(policy, pull)", "-pull.log().amin(-1)"),
        ("anchor", "games.regularised_nash(self.game, self.tau, x[0])", "games.regularised_nash(self.game, self.tau)"),
        ("anchor", "games.regularised_nash(game, self.tau, reference).gap", "games.regularised_nash(game, self.tau).gap"),
    ]),
    Method("Statements on solvers of tables only", "theory/tables_only.py", THEORY, [
        ("sign", "return 2 * np.sqrt((self.n - 1)", "return 2 * np.sqrt((self.n + 1)"),
        ("factor", "return 2 * np.sqrt((self.n - 1)", "return 4 * np.sqrt((self.n - 1)"),
        ("factor", "return self.constant / np.sqrt", "return 2 * self.constant / np.sqrt"),
        ("factor", "torch.as_tensor(start).double().log() @ self.nash", "2 * torch.as_tensor(start).double().log() @ self.nash"),
    ]),
    Method("Statements on oracles", "theory/estimators.py", THEORY, [
        ("sign", "return gap + 2 * self.error", "return gap - 2 * self.error"),
        ("sign", "score[:, None] - score)) - 0.5", "score - score[:, None])) - 0.5"),
        ("factor", "return gap + 2 * self.error", "return gap + 4 * self.error"),
        ("factor", "torch.sigmoid(self.temperature *", "torch.sigmoid(2 * self.temperature *"),
        ("anchor", "score[:, None] - score)) - 0.5", "score[:, None] - score))"),
    ]),
    Method("From logits to a table", "llm/oracles/matrices.py", JUDGED, [
        ("sign", "A[:, j, i] = -A[:, i, j]", "A[:, j, i] = A[:, i, j]"),
        ("sign", "np.where(A >= 0, larger, 1.0 - larger)", "np.where(A <= 0, larger, 1.0 - larger)"),
        ("sign", "return score[:, None] - score", "return score - score[:, None]"),
        ("factor", "np.where(contradict, 0.0, backward)) / 2", "np.where(contradict, 0.0, backward))"),
        ("factor", "(2.0 if aggregation == \"sppo-official\" else 1.0)", "1.0"),
        ("factor", "+ np.where(agree, 0.0, backward)) / 2", "+ np.where(agree, 0.0, backward))"),
        ("anchor", "(np.where(contradict, 0.0, forward) - np.where(contradict, 0.0, backward)) / 2", "np.where(contradict, 0.0, forward)"),
    ], {"llm/oracles/scalar.py": [
        ("sign", "rewards[..., at[:, 0]] - rewards[..., at[:, 1]]", "rewards[..., at[:, 1]] - rewards[..., at[:, 0]]"),
        ("factor", "- rewards[..., at[:, 1]]) / self.temperature", "- rewards[..., at[:, 1]]) * 2 / self.temperature"),
    ]}),
    Method("Best of n", f"{V}/best_of_n.py", ["tests/llm/test_exploit.py", "tests/llm/test_best_of_n.py"], [
        ("sign", "math.log(n) - (n - 1) / n", "math.log(n) + (n - 1) / n"),
        ("factor", "return math.log(n) - (n - 1) / n", "return 2 * math.log(n) - (n - 1) / n"),
        ("anchor", "(below + mass) ** n - below**n", "(below + mass) ** n"),
        ("other", "math.log(n) - (n - 1) / n", "math.log(n) - 1 / n"),
        ("other", "(below + mass) ** n - below**n", "(below + mass) ** n - below ** (n - 1)"),
    ], {f"{V}/exploit.py": [
        ("factor", "return 2 * self.wins.value - 1", "return 4 * self.wins.value - 2"),
        ("anchor", "return 2 * self.wins.value - 1", "return 2 * self.wins.value"),
        ("sign", "int(means.argmax())", "int((-means).argmax())"),
    ]}),
    Method("Mixtures", "llm/mixture.py", ["tests/llm/test_mixture.py"], [
        ("factor", "2 * t / (count * (count + 1))", "1 / count"),
    ], {"llm/token_mixture.py": [
        ("sign", "total = total + weight * own.float()", "total = total - weight * own.float()"),
        ("factor", "blend = sum(weight * part for", "blend = sum(2 * weight * part for"),
        ("anchor", "total = total + weight * own.float()", "total = weight * own.float()"),
    ]}),
    Method("Over-optimisation", f"{V}/over_optimisation.py", ["tests/llm/test_over_optimisation.py"], [
        ("sign", "beyond = value - thresholds.errors * error", "beyond = value + thresholds.errors * error"),
        ("factor", "(x - ratio * y) / y.mean()", "2 * (x - ratio * y) / y.mean()"),
        ("anchor", "repetition(own) - repetition(other)", "repetition(own)"),
        ("anchor", "_mean(\"refusals lost\", before - own,", "_mean(\"refusals lost\", before,"),
    ], {f"{V}/diversity.py": [
        ("sign", "return 1 - len(set(grams)) / len(grams) if grams else 0.0", "return len(set(grams)) / len(grams) if grams else 0.0"),
        ("factor", "return len(set(grams)) / len(grams) if grams else float", "return 2 * len(set(grams)) / len(grams) if grams else float"),
    ]}),
]  # fmt: skip
