"""Mutants of the theorems: of what a bound says, and of how it is held against a run."""

from __future__ import annotations

from .method import Method

THEORY = ["tests/theory/test_formulas.py", "tests/theory/test_checks.py"]
LIKELIHOOD = [THEORY[0], "tests/theory/test_likelihood.py", THEORY[1]]

THEOREMS = [
    Method("`MWUAverage`", "theory/mwu_average.py", THEORY, [
        ("sign", "return self.step / 4 + 2", "return self.step / 4 - 2"),
        ("sign", "float(-torch.as_tensor(start, dtype=torch.float64).log().min())",
         "float(torch.as_tensor(start, dtype=torch.float64).log().min())"),
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
        ("sign", "Check.of([iterations], gap, self.value([iterations]))",
         "Check.of([iterations], self.value([iterations]), gap)"),
        ("factor", "return 4 * math.log(self.n)", "return 8 * math.log(self.n)"),
        ("factor", "return 4 * math.sqrt(math.log(self.n))", "return 8 * math.sqrt(math.log(self.n))"),
    ], lacks={"anchor": "they are stated for the uniform start, whose share is the log n"}),
    Method("`LocalThreshold`", "theory/step_threshold.py", THEORY, [
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
        ("factor", "return 0.5 + self.share * (r - 0.5), self.samples * spread",
         "return 0.5 + self.share * (r - 0.5), 2 * self.samples * spread"),
        ("factor", "return 0.5 + self.share * (r - 0.5)", "return 0.5 + 2 * self.share * (r - 0.5)"),
        ("anchor", "return 0.5 + self.share * (r - 0.5)", "return self.share * r"),
    ]),
    Method("`MagneticIsINPO`", "theory/regularised.py", THEORY, [
        ("sign", "return step / (1 + step * self.tau)", "return step / (1 - step * self.tau)"),
        ("factor", "return step / (1 + step * self.tau)", "return 2 * step / (1 + step * self.tau)"),
        ("anchor", "return step / (1 + step * self.tau)", "return step"),
    ]),
    Method("`NashMDBias`", "theory/regularised.py", [THEORY[1]], [
        ("factor", "u = step * torch.linalg.solve", "u = 2 * step * torch.linalg.solve"),
        ("factor", "return float(u @ S @ u) / 2", "return float(u @ S @ u)"),
        ("anchor", "pi = games.regularised_nash(game, self.tau, reference).policy",
         "pi = games.regularised_nash(game, self.tau).policy"),
    ], lacks={"sign": "it is a squared length, and A S only turns: no sign in u changes it"}),
    Method("`ProximalMonotone`", "theory/regularised.py", THEORY, [
        ("sign", "self.value(kl[:-1]), kl[1:]", "self.value(kl[1:]), kl[:-1]"),
        ("factor", "        return distance", "        return 0.5 * distance"),
        ("anchor", "games.regularised_nash(self.game, self.tau, x[0])", "games.regularised_nash(self.game, self.tau)"),
    ]),
    Method("`FixedMagnet`, `MovingMagnet`", "theory/regularised.py", [THEORY[1]], [
        ("sign", "return np.full(np.shape(iterations), self.gap)", "return np.full(np.shape(iterations), -self.gap)"),
        ("factor", "games.regularised_nash(game, self.tau, reference).gap",
         "2 * games.regularised_nash(game, self.tau, reference).gap"),
        ("anchor", "games.regularised_nash(game, self.tau, reference).gap",
         "games.regularised_nash(game, self.tau).gap"),
    ]),
    Method("`RegularisedGap`", "theory/regularised.py", THEORY, [
        ("sign", "-pull.log().amin(-1) - games.kl", "-pull.log().amin(-1) + games.kl"),
        ("factor", "return 2 * self.tau * (-pull", "return 4 * self.tau * (-pull"),
        ("anchor", "-pull.log().amin(-1) - games.kl_divergence(p, pull)", "-pull.log().amin(-1)"),
    ]),
    Method("`RegretMatchingAverage`", "theory/table_solvers.py", THEORY, [
        ("sign", "return 2 * np.sqrt((self.n - 1)", "return 2 * np.sqrt((self.n + 1)"),
        ("factor", "return 2 * np.sqrt((self.n - 1)", "return 4 * np.sqrt((self.n - 1)"),
    ], lacks={"anchor": "it holds from any start"}),
    Method("`FictitiousPlayRate`", "theory/table_solvers.py", THEORY, [
        ("sign", "return self.constant / np.sqrt", "return -self.constant / np.sqrt"),
        ("factor", "return self.constant / np.sqrt", "return 2 * self.constant / np.sqrt"),
    ], lacks={"anchor": "it is measured from the first action alone"}),
    Method("`ReplicatorInvariant`", "theory/table_solvers.py", THEORY, [
        ("sign", "float(torch.as_tensor(start, dtype=torch.float64).log() @ self.nash)",
         "-float(torch.as_tensor(start, dtype=torch.float64).log() @ self.nash)"),
        ("factor", "float(torch.as_tensor(start, dtype=torch.float64).log() @ self.nash)",
         "2 * float(torch.as_tensor(start, dtype=torch.float64).log() @ self.nash)"),
    ], lacks={"anchor": "the start is all that it is of"}),
    Method("`LogPartition`", "theory/likelihood.py", THEORY, [
        ("sign", "return self.step / 2 + self.step**2", "return self.step / 2 - self.step**2"),
        ("factor", "((r - 0.5) ** 2 * pi).sum(-1) / 2", "((r - 0.5) ** 2 * pi).sum(-1)"),
        ("anchor", "return self.step / 2 + self.step**2", "return self.step**2"),
    ]),
    Method("`OrderedLogPartition`", "theory/likelihood.py", THEORY, [
        ("sign", "self.step + math.log(-math.expm1(-self.step)) - math.log(self.step)",
         "self.step + math.log(-math.expm1(-self.step)) + math.log(self.step)"),
        ("factor", "self.step + math.log(-math.expm1(-self.step)) - math.log(self.step)",
         "2 * self.step + math.log(-math.expm1(-self.step)) - math.log(self.step)"),
    ], lacks={"anchor": "it is of the uniform policy"}),
    Method("`TablesRaiseTheChosen`", "theory/likelihood.py", THEORY, [
        ("sign", "return 1 - pi[..., chosen] + pi[..., rejected]", "return 1 + pi[..., chosen] - pi[..., rejected]"),
        ("factor", "return 1 - pi[..., chosen] + pi", "return 1 - 2 * pi[..., chosen] + pi"),
        ("anchor", "return shared + torch.eye(pi.shape[-1], dtype=pi.dtype)", "return shared"),
    ]),
    Method("`MeanWinRate`", "theory/likelihood.py", THEORY, [
        ("sign", "        return 0.5", "        return -0.5"),
        ("factor", "        return 0.5", "        return 1.0"),
    ], lacks={"anchor": "it holds for every policy"}),
    Method("`ScoresLoseCycles`, `OracleError`", "theory/estimators.py", THEORY, [
        ("sign", "return gap + 2 * self.error", "return gap - 2 * self.error"),
        ("sign", "score[:, None] - score)) - 0.5", "score - score[:, None])) - 0.5"),
        ("factor", "return gap + 2 * self.error", "return gap + 4 * self.error"),
        ("factor", "torch.sigmoid(self.temperature *", "torch.sigmoid(2 * self.temperature *"),
        ("anchor", "return gap + 2 * self.error", "return 2 * self.error"),
        ("anchor", "score[:, None] - score)) - 0.5", "score[:, None] - score))"),
    ]),
    Method("What a step on a pair does to its likelihoods", "theory/likelihood.py", LIKELIHOOD, [
        ("sign", "return size * (torch.as_tensor(wins) - 0.5) - torch.as_tensor(ratios)",
         "return size * (torch.as_tensor(wins) - 0.5) + torch.as_tensor(ratios)"),
        ("sign", "(-_margin(ratios) / size).sigmoid() / size", "(_margin(ratios) / size).sigmoid() / size"),
        ("factor", "return size * (torch.as_tensor(wins)", "return 2 * size * (torch.as_tensor(wins)"),
        ("factor", "_opposite(2 * (size / 2 -", "_opposite(4 * (size / 2 -"),
    ]),
]  # fmt: skip
