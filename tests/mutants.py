"""Mutants: a sign flipped, a factor doubled, an anchor dropped, in each solver in turn. Some test must notice each.

    python -m tests.mutants            # all, a quarter of an hour; writes docs/mutants.md
    python -m tests.mutants nash_md    # those of the files with this in their name

Each change is made in a temporary copy, where the tests of the table side run until one fails.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import peft  # noqa: F401  loaded once, for all forks
import pytest
import scipy.optimize  # noqa: F401
import torch  # noqa: F401

ROOT = Path(__file__).parents[1]
LIST = ROOT / "docs" / "mutants.md"
HEAD = """# Mutants
A sign flipped, a factor doubled, an anchor dropped: each change of a method, and the first test that noticed it.
Written by `make mutants`.

| file | change | killed by |
| --- | --- | --- |
"""
S = "games/solvers"
STEPS = ["tests/games/test_mirror_steps.py", "tests/games/test_solve.py", "tests/games/test_thresholds.py"]
TESTS = {
    f"{S}/regret_matching.py": ["tests/games/test_table_solvers.py"],
    f"{S}/fictitious_play.py": ["tests/games/test_table_solvers.py"],
    f"{S}/replicator.py": ["tests/games/test_table_solvers.py"],
    f"{S}/against_cast.py": ["tests/games/test_against_cast.py"],
    "games/feedback.py": ["tests/games/test_feedback.py"],
    "games/thresholds.py": ["tests/games/test_thresholds.py"],
    "games/duels.py": ["tests/games/test_duels.py"],
    "theory/stability.py": ["tests/games/test_thresholds.py"],
    "llm/losses.py": ["tests/llm/test_losses.py"],
    "llm/regression.py": ["tests/llm/test_regression.py"],
    "llm/evaluation/best_of_n.py": ["tests/llm/test_exploit.py"],
    "llm/evaluation/diversity.py": ["tests/llm/test_over_optimisation.py"],
    "llm/mixture.py": ["tests/llm/test_mixture.py"],
    "theory/mwu_average.py": ["tests/theory/test_mwu_average.py"],
    "games/embedding.py": ["tests/games/test_equilibria.py"],
}
PULLED = "(1 - pull) * x + pull * reference"
MUTANTS = [
    (f"{S}/mwu.py", "size=at(self.step, t)", "size=2 * at(self.step, t)"),
    (f"{S}/mwu.py", "size=at(self.step, t)", "size=-at(self.step, t)"),
    (f"{S}/mwu.py", "anchor=x,", "anchor=reference,"),
    (f"{S}/optimistic_mwu.py", "opponent=2 * x - previous", "opponent=x"),
    (f"{S}/optimistic_mwu.py", "opponent=2 * x - previous", "opponent=2 * previous - x"),
    (f"{S}/optimistic_mwu.py", "opponent=2 * x - previous", "opponent=3 * x - 2 * previous"),
    (f"{S}/optimistic_mwu.py", "size=at(self.step, t), counts=x", "size=2 * at(self.step, t), counts=x"),
    (f"{S}/optimistic_mwu.py", "counts=x)", "counts=previous)"),
    (f"{S}/optimistic_mwu.py", "Step(anchor=base, opponent=x, size=size, last=False)",
     "Step(anchor=x, opponent=x, size=size, last=False)"),
    (f"{S}/optimistic_mwu.py", "x = yield Step(anchor=base,", "x = yield Step(anchor=x,"),
    (f"{S}/optimistic_mwu.py", "size=size, counts=None", "size=2 * size, counts=None"),
    (f"{S}/optimistic_mwu.py", "1 / (math.sqrt(3) * lam)", "1 / lam"),
    (f"{S}/extragradient.py", "anchor, opponent=half, size=size", "anchor, opponent=x, size=size"),
    (f"{S}/extragradient.py", "anchor, opponent=half, size=size", "half, opponent=half, size=size"),
    (f"{S}/extragradient.py", "anchor, opponent=half, size=size", "anchor, opponent=half, size=-size"),
    (f"{S}/extragradient.py", "anchor, opponent=x, size=size", "anchor, opponent=x, size=2 * size"),
    (f"{S}/extragradient.py", "anchor, opponent=x, size=size", "x, opponent=x, size=size"),
    (f"{S}/extragradient.py", "1 / (L + self.tau)", "1 / (L - self.tau)"),
    (f"{S}/pull.py", PULLED, "x + 0.0 * reference"),
    (f"{S}/pull.py", PULLED, "(1 + pull) * x - pull * reference"),
    (f"{S}/pull.py", PULLED, "(1 - pull / 2) * x + pull / 2 * reference"),
    (f"{S}/pull.py", PULLED, "pull * x + (1 - pull) * reference"),
    (f"{S}/pull.py", "size / (1 + size * tau)", "size"),
    (f"{S}/pull.py", "size / (1 + size * tau)", "size / (1 - size * tau)"),
    (f"{S}/limit.py", "tau / L**2", "2 * tau / L**2"),
    (f"{S}/magnetic_mirror_descent.py", "opponent=x, size=size", "opponent=x, size=-size"),
    (f"{S}/magnetic_mirror_descent.py", "opponent=x, size=size", "opponent=x, size=2 * size"),
    (f"{S}/magnetic_mirror_descent.py", "pulled(x, reference", "pulled(reference, x"),
    (f"{S}/inpo.py", "opponent=x, size=size", "opponent=x, size=-size"),
    (f"{S}/inpo.py", "opponent=x, size=size", "opponent=reference, size=size"),
    (f"{S}/inpo.py", "pulled(x, reference, size, self.tau)", "x"),
    (f"{S}/nash_md.py", "Step(anchor=mix, opponent=mix", "Step(anchor=x, opponent=mix"),
    (f"{S}/nash_md.py", "Step(anchor=mix, opponent=mix", "Step(anchor=mix, opponent=x"),
    (f"{S}/nash_md.py", "opponent=mix, size=size", "opponent=mix, size=-size"),
    (f"{S}/nash_md.py", "opponent=mix, size=size, counts=x", "opponent=mix, size=size"),
    (f"{S}/nash_md.py", "opponent=average", "opponent=x"),
    (f"{S}/nash_md.py", "self.decay * average + (1 - self.decay) * x", "(1 - self.decay) * average + self.decay * x"),
    (f"{S}/nash_md.py", "opponent=average, size=size", "opponent=average, size=2 * size"),
    (f"{S}/momentum.py", "(1 + self.momentum) * x - self.momentum * previous",
     "(1 - self.momentum) * x + self.momentum * previous"),
    (f"{S}/momentum.py", "(1 + self.momentum) * x - self.momentum * previous",
     "(1 + 2 * self.momentum) * x - 2 * self.momentum * previous"),
    (f"{S}/momentum.py", "ahead if self.nesterov else x", "x"),
    (f"{S}/momentum.py", "ahead if self.nesterov else x", "ahead"),
    (f"{S}/momentum.py", "Step(ahead, opponent", "Step(x, opponent"),
    (f"{S}/proximal_point.py", "magnet, size = x, at", "magnet, size = reference, at"),
    (f"{S}/proximal_point.py", "anchor = pulled(x, magnet, size, self.tau)", "anchor = x"),
    (f"{S}/proximal_point.py", "opponent=x, size=size, last", "opponent=x, size=-size, last"),
    (f"{S}/proximal_point.py", "opponent=x, size=size, last", "opponent=magnet, size=size, last"),
    (f"{S}/proximal_point.py", "range(1, self.inner + 1)", "range(0, self.inner + 1)"),
    (f"{S}/proximal_point.py", "magnet if k == 1 else None", "x"),
    (f"{S}/proximal_point.py", "t % self.every == 0", "False"),
    (f"{S}/proximal_point.py", "t % self.every == 0", "t % (2 * self.every) == 0"),
    (f"{S}/proximal_point.py", "magnet = reference", "magnet = x"),
    (f"{S}/proximal_point.py", "self.tau), opponent=x, size=size)", "self.tau), opponent=x, size=-size)"),
    (f"{S}/history_mixture.py", "opponent=mix, size=size", "opponent=latest[0], size=size"),
    (f"{S}/history_mixture.py", "opponent=mix, size=size", "opponent=mix, size=-size"),
    (f"{S}/history_mixture.py", "pulled(mix, reference", "pulled(latest[0], reference"),
    (f"{S}/history_mixture.py", "[x, *latest[:-1]]", "[*latest[1:], x]"),
    (f"{S}/schedule.py", "bisect_left(ends, t)", "bisect_left(ends, t + 1)"),
    (f"{S}/against_cast.py", "own * step.opponent + others", "step.opponent"),
    (f"{S}/against_cast.py", "share * member(name)", "sum(self.cast.values()) / len(self.cast) * member(name)"),
    (f"{S}/against_cast.py", "opponent=own * step.opponent + others", "opponent=others / (1 - own)"),
    (f"{S}/schedule.py", "math.sqrt(8 * C / iterations)", "math.sqrt(4 * C / iterations)"),
    (f"{S}/schedule.py", "t.bit_length() - 1", "t.bit_length()"),
    (f"{S}/schedule.py", "scale / math.sqrt(t)", "scale / t"),
    (f"{S}/schedule.py", "2 / (tau * (t + 2))", "1 / (tau * (t + 2))"),
    (f"{S}/regret_matching.py", "g - (p * g).sum(-1, keepdim=True)", "g"),
    (f"{S}/regret_matching.py", "g - (p * g).sum(-1, keepdim=True)", "(p * g).sum(-1, keepdim=True) - g"),
    (f"{S}/regret_matching.py", "regrets = _sum(regrets, _regrets(x, payoffs(x)))",
     "regrets = _floored(_sum(regrets, _regrets(x, payoffs(x))))"),
    (f"{S}/regret_matching.py", "regrets = _floored(_sum(regrets, _regrets(x, payoffs(x))))",
     "regrets = _sum(regrets, _regrets(x, payoffs(x)))"),
    (f"{S}/regret_matching.py", "_matched(_sum(regrets, last))", "_matched(regrets)"),
    (f"{S}/regret_matching.py", "regrets = _floored(_sum(regrets, last))", "regrets = _sum(regrets, last)"),
    (f"{S}/fictitious_play.py", "values >= values.amax", "values <= values.amin"),
    (f"{S}/fictitious_play.py", "total + gain", "gain"),
    (f"{S}/replicator.py", "(p * g).sum(-1, keepdim=True)", "0.5"),
    (f"{S}/replicator.py", "2 * b + 2 * c", "b + c"),
    (f"{S}/replicator.py", "moved(k1, h / 2)", "moved(k1, h)"),
    ("games/feedback.py", "exact(game, [(weight, tuple", "exact(game, [(1.0, tuple"),
    ("games/feedback.py", "(1 - share) / 2", "(1 - share)"),
    ("games/feedback.py", "self.k - self.self_comparison", "self.k"),
    ("games/feedback.py", "- 0.5) / (2 * q", "- 0.5) / (q"),
    ("games/feedback.py", "-value * rho.gather(-1, i)", "value * rho.gather(-1, i)"),
    ("games/feedback.py", "< wins)", "> wins)"),
    ("games/feedback.py", "counter=[0, 0, 0, round]", "counter=[0, 0, 0, 0]"),
    ("games/thresholds.py", "if bool(equilibrium.unique)", "if True"),
    ("games/thresholds.py", "lam=L / math.sqrt(2)", "lam=L / 8"),
    ("games/thresholds.py", "- p.unsqueeze(-1) * p.unsqueeze(-2)", ""),
    ("theory/stability.py", "1j * lam * step.size", "2j * lam * step.size"),
    ("games/duels.py", "won = np.asarray(duel(pairs), dtype=np.float64)", "won = 1.0 - np.asarray(duel(pairs))"),
    ("games/duels.py", "int(wins.argmax())", "int(wins.argmin())"),
    ("llm/losses.py", "return (ratio - size * (wins - 0.5)).square()", "return (ratio + size * (wins - 0.5)).square()"),
    ("llm/losses.py", "return (ratio - size * (wins - 0.5)).square()", "return (ratio - size * wins).square()"),
    ("llm/losses.py", "(rejected + target).square()", "(rejected - target).square()"),
    ("llm/losses.py", "target = size * (wins - 0.5)", "target = 2 * size * (wins - 0.5)"),
    ("llm/losses.py", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid((rejected - chosen) / size)"),
    ("llm/losses.py", "-logsigmoid((chosen - rejected) / size)", "-logsigmoid((chosen - rejected) * size)"),
    ("llm/losses.py", "(chosen - rejected - size / 2).square()", "(chosen - rejected - size).square()"),
    ("llm/losses.py", "(chosen - rejected - size / 2).square()", "(chosen - rejected + size / 2).square()"),
    ("llm/losses.py", "(ratio - divergence.detach()) / size", "ratio / size"),
    ("llm/losses.py", "(ratio - divergence.detach()) / size", "(ratio - divergence) / size"),
    ("llm/losses.py", "desirable * (-margin).sigmoid()", "desirable * margin.sigmoid()"),
    ("llm/losses.py", "(chosen - rejected - margin) / size", "(chosen - rejected + margin) / size"),
    ("llm/losses.py", "(first - second - size * (gain - other))", "(first - second + size * (gain - other))"),
    ("llm/losses.py", "(first - second - size * (gain - other))", "(first - second - 2 * size * (gain - other))"),
    ("llm/losses.py", "(gain - other).sigmoid(), (first", "(other - gain).sigmoid(), (first"),
    ("llm/losses.py", "(ratio - size * score).square()", "(ratio - size * (score - 0.5)).square()"),
    ("llm/losses.py", "return self.now - self.anchor", "return self.now"),
    ("llm/regression.py", "size * gains if drift is None else size * gains + drift", "size * gains"),
    ("llm/regression.py", "size * gains if drift is None else size * gains + drift",
     "size * gains if drift is None else size * gains - drift"),
    ("llm/regression.py", "torch.full_like(gains[..., :1], size / 2)", "torch.full_like(gains[..., :1], size)"),
    ("llm/regression.py", "return (size * gains - constant)", "return (size * gains + constant)"),
    ("llm/regression.py", "weights[..., rows, itself[rows]] = 0.0", "pass"),
    ("llm/regression.py", "difference = log_ratio - target", "difference = log_ratio + target"),
    ("llm/regression.py", "difference = difference - _mean(difference, weights)", "pass"),
    ("llm/evaluation/best_of_n.py", "math.log(n) - (n - 1) / n", "math.log(n) - 1 / n"),
    ("llm/evaluation/best_of_n.py", "(below + mass) ** n - below**n", "(below + mass) ** n - below ** (n - 1)"),
    ("llm/mixture.py", "2 * t / (count * (count + 1))", "1 / count"),
]  # fmt: skip


def killer(file: str, old: str, new: str) -> str | None:
    """The first test that fails in a copy of the project with this change; None where all pass."""
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("configs", "games", "llm", "theory", "src", "tests", "pyproject.toml"):
            source = ROOT / part
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
                shutil.copytree(source, copy / part, symlinks=True, ignore=ignored)
            else:
                shutil.copy(source, copy / part)
        text = (copy / file).read_text(encoding="utf-8")
        if old not in text:
            raise ValueError(f"{file} holds no {old!r}: the table of mutants is out of date")
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")
        report = copy / "report.txt"
        run = multiprocessing.get_context("fork").Process(target=_test, args=(copy, TESTS.get(file, STEPS), report))
        run.start()
        run.join()
        said = report.read_text(encoding="utf-8")
    if run.exitcode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    if found is None:  # no test failed: nothing is known
        raise RuntimeError(f"{file}: the tests did not run: {said[-500:]}")
    return found.group(1)


def _test(copy: Path, tests: list[str], report: Path) -> None:
    """In a fork, which need not load torch and pytest again: the tests of the copy, with the copy's code."""
    os.chdir(copy)
    sys.path[:0] = [str(copy / "src"), str(copy)]
    for name in [name for name in sys.modules if name.split(".")[0] in ("nashward", "tests")]:
        del sys.modules[name]
    with report.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        early = "ignore::pytest.PytestAssertRewriteWarning"  # what is loaded before the fork
        code = pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-W", early, *tests])
    os._exit(int(code))


def main() -> int:
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or any(word in mutant[0] for word in sys.argv[1:])]
    rows = []
    for file, old, new in chosen:
        name = killer(file, old, new)
        change = f"`{' '.join(old.split())}` -> `{' '.join(new.split())}`"
        rows.append((file, change, name))
        print(f"{'killed' if name else 'SURVIVED'}  {file}  {change}  {name or ''}", flush=True)
    survivors = sum(name is None for *_, name in rows)
    print(f"{len(chosen)} mutants, {survivors} survived")
    if len(chosen) == len(MUTANTS):
        LIST.write_text(HEAD + "".join(f"| {f} | {c} | {n or 'SURVIVED'} |\n" for f, c, n in rows), encoding="utf-8")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
