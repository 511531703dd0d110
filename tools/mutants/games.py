"""Mutants of games, equilibria, measures and what a step on a table is."""

from __future__ import annotations

from .method import Method
from .solvers import STEPS

E = "games/equilibria"
REGULARIZED = ["tests/games/equilibria/test_regularized.py"]
EXACT = [
    "tests/games/equilibria/test_equilibria.py",
    "tests/games/forms/test_forms.py",
    "tests/games/equilibria/test_nash.py",
]
CHOICE = ["tests/games/analysis/test_social_choice.py"]
MEASURED = ["tests/games/forms/test_game.py", "tests/games/forms/test_forms.py", "tests/games/test_solve.py"]

GAMES = [
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
    Method("Games of two players as symmetric ones", "games/forms/symmetrize.py", EXACT, [
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
    Method("Hodge parts", "games/analysis/social_choice.py", CHOICE, [
        ("sign", "score[..., :, None] - score[..., None, :]", "score[..., None, :] - score[..., :, None]"),
        ("factor", "score = table.mean(-1)", "score = 2 * table.mean(-1)"),
        ("anchor", "return gradient, table - gradient", "return gradient, table"),
    ]),
    Method("Bradley-Terry", "games/analysis/ratings.py", CHOICE, [
        ("sign", "(wins - met * p).sum(-1)", "(met * p - wins).sum(-1)"),
        ("factor", "ELO = 400 / math.log(10)", "ELO = 800 / math.log(10)"),
        ("factor", "deviance = 2 * float(", "deviance = 4 * float("),
        ("factor", "w = w + smoothing / 2 * (1", "w = w + smoothing * (1"),
        ("anchor", "return r - r.mean(-1, keepdim=True)", "return r - r[..., :1]"),
        ("anchor", "torch.where(met > 0, share - p, 0.0)", "torch.where(met > 0, share, 0.0)"),
    ]),
    Method("A Step on a table", "games/executor.py", ["tests/games/compiled/test_trace.py", *STEPS], [
        ("sign", "x + step.size * payoff", "x - step.size * payoff"),
        ("factor", "x + step.size * payoff", "x + 2 * step.size * payoff"),
        ("anchor", "logits = tuple(x + step.size * payoff for", "logits = tuple(step.size * payoff for"),
        ("other", "sum(w * x.masked_fill(excluded, 0.0)", "sum(x.masked_fill(excluded, 0.0)"),
    ], {"games/compiled/loop.py": [
        ("sign", "before = size * payoff[against, r, i]", "before = -size * payoff[against, r, i]"),
        ("factor", "before = size * payoff[against, r, i]", "before = 2 * size * payoff[against, r, i]"),
        ("anchor", "else before + w * member", "else before"),
        ("factor", "return 2 * total if len(edge) == 2 else total", "return total"),
    ]}),
    Method("What a step sees: samples and duels", "games/feedback.py", ["tests/games/test_feedback.py"], [
        ("sign", "-value * rho.gather(-1, i)", "value * rho.gather(-1, i)"),
        ("sign", "< wins)", "> wins)"),
        ("factor", "(1 - share) / 2", "(1 - share)"),
        ("factor", "- 0.5) / (2 * q", "- 0.5) / (q"),
        ("other", "exact(game, [(weight, tuple", "exact(game, [(1.0, tuple"),
        ("other", "self.k - self.self_comparison", "self.k"),
        ("other", "counter=[0, 0, 0, round]", "counter=[0, 0, 0, 0]"),
    ]),
    Method("Frequencies, and steps beyond their threshold", "games/stability.py", ["tests/games/test_stability.py"], [
        ("factor", "lam=L / math.sqrt(2)", "lam=L / 8"),
        ("anchor", "- p.unsqueeze(-1) * p.unsqueeze(-2)", ""),
        ("other", "if bool(equilibrium.unique)", "if True"),
    ], {"theory/stability.py": [
        ("sign", "value += 1j * lam * step.size", "value -= lam * step.size"),
        ("factor", "1j * lam * step.size", "2j * lam * step.size"),
    ]}),
    Method("Duels until the winner is known", "games/analysis/dueling.py", ["tests/games/analysis/test_dueling.py"], [
        ("sign", "won = np.asarray(duel(pairs), dtype=np.float64)", "won = 1.0 - np.asarray(duel(pairs))"),
        ("sign", "int(wins.argmax())", "int(wins.argmin())"),
        ("factor", "(self.wins + 1) / (self.wins + self.wins.T + 2)",
         "(self.wins + 2) / (self.wins + self.wins.T + 4)"),
        ("anchor", "(self.wins + 1) / (self.wins + self.wins.T + 2)",
         "(self.wins + 1e-9) / (self.wins + self.wins.T + 2e-9)"),
    ]),
    Method("Measures of a policy", "games/measures.py", MEASURED, [
        ("sign", "(game.payoffs(players)[0] - game.total / 2).amax(-1)",
         "(game.total / 2 - game.payoffs(players)[0]).amax(-1)"),
        ("sign", "torch.special.xlogy(p, p) - torch.special", "torch.special.xlogy(p, p) + torch.special"),
        ("factor", "return 2 * (game.payoffs", "return 4 * (game.payoffs"),
        ("factor", "return duality_gap(game, policy) / 2", "return duality_gap(game, policy)"),
        ("factor", ".abs().sum(-1) / 2", ".abs().sum(-1)"),
        ("anchor", "return best[0] + best[1] - game.total", "return best[0] + best[1]"),
        ("anchor", "(torch.special.xlogy(p, p) - torch.special.xlogy(p, q))", "-torch.special.xlogy(p, q)"),
    ], {"games/averaging.py": [("factor", "return float(t)", "return float(t * t)")]}),
    Method("Equilibria regularised by KL", "games/equilibria/regularized.py", REGULARIZED, [
        ("sign", "u_ref + theta * (A @ x[..., None])[..., 0] - u", "u_ref - theta * (A @ x[..., None])[..., 0] - u"),
        ("factor", "u_ref + theta * (A @ x[..., None])[..., 0] - u",
         "u_ref + 2 * theta * (A @ x[..., None])[..., 0] - u"),
        ("factor", "return gap * (2 if len(players) == 1 else 1)", "return gap"),
        ("factor", "gap = gap + tau * terms.sum(-1)", "gap = gap + 2 * tau * terms.sum(-1)"),
        ("anchor", "return tuple((log + payoff / tau).log_softmax(-1) for",
         "return tuple((payoff / tau).log_softmax(-1) for"),
        ("anchor", "answer = (log + payoff / tau).log_softmax(-1)", "answer = (payoff / tau).log_softmax(-1)"),
        ("sign", "= U, -U.mT", "= U, U.mT"),
    ]),
    Method("Equilibria in closed form", f"{E}/closed_form.py", EXACT, [
        ("sign", "torch.stack([A[:, 1, 2], A[:, 2, 0], A[:, 0, 1]], -1)",
         "torch.stack([A[:, 1, 2], A[:, 0, 2], A[:, 0, 1]], -1)"),
        ("sign", "if least >= 0.0:", "if least <= 0.0:"),
        ("factor", "x[0], x[1], x[2] = P[1, 2] - half,", "x[0], x[1], x[2] = 2 * (P[1, 2] - half),"),
    ]),
    Method("Games of low rank", "games/forms/low_rank.py", ["tests/games/forms/test_forms.py"], [
        ("sign", "@ mu) - self.right @", "@ mu) + self.right @"),
        ("sign", "@ right[columns].T - right[actions]", "@ right[columns].T + right[actions]"),
        ("factor", "(mu.sum(-2) / 2) +", "mu.sum(-2) +"),
        ("factor", "return left @ (right[actions].T @ weights) -", "return 2 * left @ (right[actions].T @ weights) -"),
    ]),
    Method("Winners of tournaments", "games/analysis/social_choice.py", CHOICE, [
        ("sign", "wins.sum(-1) - wins.sum(-2)", "wins.sum(-2) - wins.sum(-1)"),
        ("sign", "reach = ~_beats(table).mT", "reach = ~_beats(table)"),
        ("factor", ".round().to(torch.int64) // 3", ".round().to(torch.int64)"),
        ("factor", "(table.sum(-1) - diagonal) / max(n - 1, 1)", "2 * (table.sum(-1) - diagonal) / max(n - 1, 1)"),
        ("anchor", "(table.sum(-1) - diagonal) / max(n - 1, 1)", "table.sum(-1) / max(n - 1, 1)"),
    ]),
    Method("Plackett-Luce", "games/analysis/ratings.py", CHOICE, [
        ("factor", "waits = 2 * smoothing / (strength + 1)", "waits = smoothing / (strength + 1)"),
        ("anchor", "return strength.log() - strength.log().mean()", "return strength.log()"),
        ("other", "chosen[list(ranking[:-1])] += 1", "chosen[list(ranking)] += 1"),
    ]),
    Method("Equilibria by linear programs, interior points and on a face", f"{E}/linear_program.py", EXACT, [
        ("sign", "A_ub=np.c_[A, -np.ones(n)]", "A_ub=np.c_[-A, -np.ones(n)]"),
        ("sign", "float(ends[1] - ends[0])", "float(ends[0] - ends[1])"),
    ], {f"{E}/interior_point.py": [
        ("sign", "z, g = solve(-s, ones)", "z, g = solve(s, ones)"),
    ], f"{E}/face.py": [
        ("sign", "- barrier * (weight * np.log(room)).sum()", "+ barrier * (weight * np.log(room)).sum()"),
        ("sign", "slope[:k] += np.log(x) + 1", "slope[:k] -= np.log(x) + 1"),
        ("anchor", "A_ub=-moves, b_ub=room", "A_ub=-moves, b_ub=0 * room"),
    ]}),
    Method("Fictitious play, compiled", "games/compiled/fictitious_play.py", ["tests/games/compiled/test_trace.py"], [
        ("sign", "edges[player] + np.argmax(", "edges[player] + np.argmin("),
        ("factor", "factor = 2.0 / players", "factor = 1.0 / players"),
        ("anchor", "np.max(payoff[low:high]) / (t + 1)", "np.max(payoff[low:high]) / t"),
    ]),
    Method("Blends of policies", "games/policy.py", ["tests/games/test_policy.py", *STEPS], [
        ("sign", "return self * -1.0", "return self * 1.0"),
        ("factor", "{policy: factor * weight for", "{policy: 2 * factor * weight for"),
        ("other", "total.get(policy, 0.0) + weight", "weight"),
    ]),
]  # fmt: skip
