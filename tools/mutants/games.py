"""Mutants of games, equilibria, measures and what a step on a table is."""

from __future__ import annotations

from .method import Method
from .solvers import STEPS

E = "games/equilibria"
REGULARISED = ["tests/games/equilibria/test_regularised.py"]
EXACT = [
    "tests/games/equilibria/test_equilibria.py",
    "tests/games/forms/test_forms.py",
    "tests/games/equilibria/test_nash.py",
]
TWO_PLAYERS = ["tests/games/equilibria/test_two_players.py"]
RATINGS = "games/analysis/game_ratings.py"
BY_EQUILIBRIA = ["tests/games/analysis/test_game_ratings.py"]
CHOICE = ["tests/games/analysis/test_social_choice.py"]
MEASURED = ["tests/games/forms/test_game.py", "tests/games/forms/test_forms.py", "tests/games/test_solve.py"]

SEVERAL = ["tests/games/objectives/test_exact.py"]
STEPPED = ["tests/games/objectives/test_mirror.py"]

GAMES = [
    Method("Exact equilibria by pivoting", f"{E}/pivoting.py", EXACT, [
        ("sign", "pivot", "(-1.0, 1.0)", "(1.0, -1.0)"),
        ("sign", "pivot", "-A", "A"),
        ("factor", "_exchange", "vj / p", "2 * vj / p"),
        ("anchor", "pivot", "q[:, n] = -1.0", "q[:, n] = 0.0"),
    ], {f"{E}/compiled_pivoting.py": [
        ("sign", "exchange", "(qj, -qi, dj, -di)", "(qj, qi, dj, di)"),
        ("factor", "exchange", "-b[k]", "-2 * b[k]"),
        ("anchor", "pivot_one", "(0.0, -1.0, 0.0)", "(0.0, 0.0, 0.0)"),
    ]}),
    Method("Games of two players as symmetric ones", "games/forms/symmetrize.py", EXACT, [
        ("sign", "symmetrised", "0.5 + A - A.mT", "0.5 - A + A.mT"),
        ("factor", "", "3 / 8", "6 / 8"),
        ("anchor", "symmetrised", "(V, -BORDER, BORDER)", "(V, 0.0, 0.0)"),
    ]),
    Method("Games of two players by the simplex method", f"{E}/two_players/simplex.py", TWO_PLAYERS, [
        ("sign", "pivot_table", "-cj / p", "cj / p"),
        ("sign", "scaled", "0.5 - factor * (U[j, i] - low)", "0.25 + factor * (U[j, i] - low)"),
        ("sign", "value_and_gap", "best - np.min(paid)", "best + np.min(paid)"),
        ("factor", "subtract_product", "c[h] - r * v", "c[h] - 2 * r * v"),
        ("factor", "value_and_gap", "value + p * earned", "value + 2 * p * earned"),
        ("anchor", "value_and_gap", "origin + value", "value"),
        ("anchor", "normalised", "policy[k] /= total", "pass"),
        ("anchor", "refine", "V[i, j] * x[i]", "V[i, j]"),
    ]),
    Method("Double oracle", f"{E}/double_oracle.py", EXACT, [
        ("sign", "double_oracle", "y > tolerance", "y < -tolerance"),
        ("sign", "double_oracle", "-across.T", "across.T"),
        ("sign", "double_oracle", "-y[new]", "y[new]"),
        ("anchor", "double_oracle", "new = new[np.argsort(-y[new], kind='stable')[:ANSWERS]]", "pass"),
    ], lacks={"factor": "who answers best is a matter of order: a factor on all margins changes nothing"}),
    Method("Worst case over objectives", "games/objectives/exact.py", SEVERAL, [
        ("sign", "worst_case", "float((row @ table.payoff).min())", "float((row @ table.payoff).max())"),
        ("anchor", "_symmetric", "table.win_rate(policy) - 0.5", "table.win_rate(policy)"),
    ], {"games/objectives/multi_objective.py": [
        ("sign", "MultiObjectiveGame.against_all", "self.P.movedim(0, 1)", "self.P.mT.movedim(0, 1)"),
        ("factor", "MultiObjectiveGame.against_all", "self.P.movedim(0, 1)", "(self.P / 2).movedim(0, 1)"),
    ]}),
    Method("Entropic worst case", "games/objectives/entropic.py", STEPPED, [
        ("sign", "adversary", "reference.log() - wins.nan_to_num() / tau", "reference.log() + wins.nan_to_num() / tau"),
        ("sign", "adversary", "(-value / tau).softmax(0)", "(value / tau).softmax(0)"),
        ("factor", "adversary", "wins.nan_to_num() / tau", "2 * wins.nan_to_num() / tau"),
        ("factor", "adversary", "math.log(len(wins))", "2 * math.log(len(wins))"),
        ("anchor", "adversary", "reference.log() - wins.nan_to_num() / tau", "-wins.nan_to_num() / tau"),
    ]),
    Method("Floors", "games/objectives/floors.py", [*STEPPED, *SEVERAL], [
        ("sign", "FloorsGame.payoffs", "-self.limit * (rho @ self.D.mT)", "self.limit * (rho @ self.D.mT)"),
        ("sign", "FloorsGame.payoffs",
         "rho @ self.game.P[0].mT + self.limit * (nu[..., :-1] @ self.D)",
         "rho @ self.game.P[0].mT - self.limit * (nu[..., :-1] @ self.D)"),
        ("sign", "floors", "[-D, np.zeros((k, k))]", "[D, np.zeros((k, k))]"),
        ("sign", "_by_linear_program", "[-A.T, D.T, np.ones((n, 1))]", "[-A.T, -D.T, np.ones((n, 1))]"),
        ("factor", "FloorsGame.payoffs", "-self.limit * (rho @ self.D.mT)", "-2 * self.limit * (rho @ self.D.mT)"),
        ("anchor", "FloorsGame.__init__", "game.P[chosen] @ mu - c[:, None]", "game.P[chosen] @ mu"),
        ("anchor", "floors", "game.P[chosen] @ mu - c[:, None]", "game.P[chosen] @ mu"),
    ], {"games/objectives/feasible.py": [
        ("sign", "largest_slack", "-gains.reshape(k, -1)", "gains.reshape(k, -1)"),
        ("factor", "largest_slack", "floors * prompts[played].sum()", "2 * floors * prompts[played].sum()"),
    ]}),
    Method("Lexicographic objectives", "games/objectives/lexicographic.py", SEVERAL, [
        ("sign", "_equilibria", "np.r_[g, np.zeros(e), -K.room]", "np.r_[-g, np.zeros(e), -K.room]"),
        ("sign", "_equilibria", "-H.T", "H.T"),
        ("factor", "_equilibria", "np.r_[g, np.zeros(e), -K.room]", "np.r_[2 * g, np.zeros(e), -K.room]"),
        ("anchor", "_equilibria", "K.interior + K.directions @ result.x[:d]", "K.interior"),
    ]),
    Method("Weights and majority of objectives", "games/objectives/multi_objective.py", SEVERAL, [
        ("sign", "most_of",
         "padded[k + 1] * lost + padded[k] * won",
         "padded[k + 1] * won + padded[k] * lost"),
        ("factor", "most_of", "votes[half] / 2", "votes[half]"),
        ("anchor", "MultiObjectiveGame.weighted", "w / w.sum()", "torch.full_like(w, 1 / len(w))"),
    ]),
    Method("Hodge parts", "games/analysis/social_choice.py", CHOICE, [
        ("sign", "hodge", "score[..., :, None] - score[..., None, :]", "score[..., None, :] - score[..., :, None]"),
        ("factor", "hodge", "table.mean(-1)", "2 * table.mean(-1)"),
        ("anchor", "hodge", "table - gradient", "table"),
    ]),
    Method("Nash averaging", RATINGS, BY_EQUILIBRIA, [
        ("sign", "nash_averaging", "np.log(table) - np.log1p(-table)", "np.log1p(-table) - np.log(table)"),
        ("factor", "nash_averaging", "odds @ class_lottery(0.5 + _in_proportion(table, odds)).policy",
         "2 * odds @ class_lottery(0.5 + _in_proportion(table, odds)).policy"),
        ("anchor", "nash_averaging", "class_lottery(0.5 + _in_proportion(table, odds)).policy",
         "class_lottery(table).policy"),
    ]),
    Method("Deviation ratings", RATINGS, BY_EQUILIBRIA, [
        ("sign", "deviation_ratings", "(table - 0.5) @ lottery.policy", "(0.5 - table) @ lottery.policy"),
        ("factor", "deviation_ratings", "np.where(held, rating, 0.0)", "np.where(held, 2 * rating, 0.0)"),
        ("anchor", "deviation_ratings", "np.where(held, rating, 0.0)", "np.zeros(n)"),
    ]),
    Method("Lotteries over classes of clones", RATINGS, BY_EQUILIBRIA, [
        ("anchor", "class_lottery", "table[np.ix_(first, first)]", "table"),
        ("factor", "class_lottery", "(weights / sizes)[classes]", "(2 * weights / sizes)[classes]"),
        ("other", "clone_classes", "(np.abs(table - table[i]) <= SAME).all(1) & (classes < 0)",
         "(np.abs(table - table[i]) <= SAME).any(1) & (classes < 0)"),
    ], lacks={"sign": "a class of clones has none; that of the game is in the methods for equilibria"}),
    Method("Bradley-Terry", "games/analysis/ratings.py", CHOICE, [
        ("sign", "_newton", "wins - met * p", "met * p - wins"),
        ("factor", "", "400 / math.log(10)", "800 / math.log(10)"),
        ("factor", "pearson_p_value", "(misfit**2 / variance).sum()", "2 * (misfit**2 / variance).sum()"),
        ("factor", "bradley_terry", "smoothing / 2", "smoothing"),
        ("anchor", "_newton", "r.mean(-1, keepdim=True)", "r[..., :1]"),
        ("anchor", "Ratings.of", "share - p", "share"),
    ]),
    Method("Whether scores explain battles of several pairs on one prompt",
           "games/analysis/battles/prompt_misfit.py", ["tests/games/analysis/test_prompt_misfit.py"], [
        ("sign", "_products", "(u @ u.T).toarray() - across - across.T", "(u @ u.T).toarray() + across + across.T"),
        ("factor", "prompt_misfit_p_value", "squares / mean", "2 * squares / mean"),
        ("factor", "prompt_misfit_p_value", "np.maximum(1 - leverage, 0.1)", "np.ones(len(leverage))"),
        ("anchor", "prompt_misfit_p_value", "_products(u, s, by_fit)", "_products(u, 0 * s, by_fit)"),
    ]),
    Method("A Step on a table", "games/executor.py", ["tests/games/compiled/test_trace.py", *STEPS], [
        ("sign", "TableExecutor.execute", "x + step.size * payoff", "x - step.size * payoff"),
        ("factor", "TableExecutor.execute", "step.size * payoff", "2 * step.size * payoff"),
        ("anchor", "TableExecutor.execute", "x + step.size * payoff", "step.size * payoff"),
        ("other", "_geometric", "w * x.masked_fill(excluded, 0.0)", "x.masked_fill(excluded, 0.0)"),
    ], {"games/compiled/loop.py": [
        ("sign", "add_to_anchor", "size * payoff[against, r, i]", "-size * payoff[against, r, i]"),
        ("factor", "add_to_anchor", "size * payoff[against, r, i]", "2 * size * payoff[against, r, i]"),
        ("anchor", "add_to_anchor", "before + w * member", "before"),
        ("factor", "gap", "2 * total if len(edge) == 2 else total", "total"),
    ]}),
    Method("What a step sees: samples and duels", "games/feedback.py", ["tests/games/test_feedback.py"], [
        ("sign", "DuelingFeedback.__call__", "-value", "value"),
        ("sign", "DuelingFeedback.__call__", "uniform[2] < wins", "uniform[2] > wins"),
        ("factor", "SampledFeedback.__call__", "(1 - share) / 2", "1 - share"),
        ("factor", "DuelingFeedback.__call__", "sides * q.gather(-1, i)", "q.gather(-1, i)"),
        ("anchor", "DuelingFeedback.__call__", "earned.squeeze(-1) - game.total + stake", "earned.squeeze(-1)"),
        ("other", "SampledFeedback.__call__",
         "(weight, tuple(map(drawn, players)))",
         "(1.0, tuple(map(drawn, players)))"),
        ("other", "SampledFeedback.__call__", "self.k - self.self_comparison", "self.k"),
        ("other", "_generator", "[0, 0, 0, round]", "[0, 0, 0, 0]"),
    ]),
    Method("Frequencies, and steps beyond their threshold", "games/stability.py", ["tests/games/test_stability.py"], [
        ("factor", "warn_step_size", "math.sqrt(2)", "8"),
        ("anchor", "_factor",
         "torch.diag_embed(root) - p.unsqueeze(-1) * root.unsqueeze(-2)",
         "torch.diag_embed(root)"),
        ("other", "_frequency_at_nash", "bool(equilibrium.unique)", "True"),
    ], {"theory/stability.py": [
        ("sign", "local_factor.execute",
         "value += 1j * lam * step.size * sum((c * p.value for p, c in step.opponent.members().items()))",
         "value -= lam * step.size * sum((c * p.value for p, c in step.opponent.members().items()))"),
        ("factor", "local_factor.execute", "1j * lam", "2j * lam"),
    ]}),
    Method("Duels until the winner is known", "games/analysis/dueling.py", ["tests/games/analysis/test_dueling.py"], [
        ("sign", "_learn", "np.asarray(duel(pairs), dtype=np.float64)", "1.0 - np.asarray(duel(pairs))"),
        ("sign", "_challengers_of_two", "(row @ table).argmin()", "(row @ table).argmax()"),
        ("other", "Tally.after", "np.add.at(losses, (pairs[:, 0], pairs[:, 1]), 1 - won)", "pass"),
        ("sign", "challengers", "wins.argmax()", "wins.argmin()"),
        ("factor", "Tally.mean",
         "(self.wins + 1) / (self.wins + losses + 2)",
         "(self.wins + 2) / (self.wins + losses + 4)"),
        ("anchor", "Tally.mean",
         "(self.wins + 1) / (self.wins + losses + 2)",
         "(self.wins + 1e-09) / (self.wins + losses + 2e-09)"),
    ]),
    Method("What a duel is worth", "games/analysis/dueling.py", ["tests/llm/people/test_asking.py"], [
        ("sign", "expected_change", "tables - tables.mean(0)", "tables + tables.mean(0)"),
        ("factor", "expected_change",
         "np.einsum('sij,sk->ijk', tables - tables.mean(0), policies) / len(tables)",
         "np.einsum('sij,sk->ijk', tables - tables.mean(0), policies)"),
        ("anchor", "expected_change", "tables - tables.mean(0)", "tables"),
    ], {"llm/people/asking.py": [
        ("sign", "belief", "WINS[winner] - p", "p - WINS[winner]"),
        ("anchor", "belief", "error ** -2 + p * (1 - p)", "p * (1 - p)"),
        ("other", "settled", "abs(logit) > SETTLED * error", "abs(logit) < SETTLED * error"),
    ]}),
    Method("Measures of a policy", "games/measures.py", MEASURED, [
        ("sign", "gap_of", "paid[0] - game.total / 2", "game.total / 2 - paid[0]"),
        ("sign", "kl_divergence",
         "torch.special.xlogy(p, p) - torch.special.xlogy(p, q)",
         "torch.special.xlogy(p, p) + torch.special.xlogy(p, q)"),
        ("factor", "gap_of",
         "2 * (paid[0] - game.total / 2).amax(-1)",
         "4 * (paid[0] - game.total / 2).amax(-1)"),
        ("factor", "exploitability", "duality_gap(game, policy) / 2", "duality_gap(game, policy)"),
        ("factor", "variation_of",
         "(p - q).abs().sum(-1) / 2",
         "(p - q).abs().sum(-1)"),
        ("anchor", "gap_of", "paid[0].amax(-1) + paid[1].amax(-1) - game.total", "paid[0].amax(-1) + paid[1].amax(-1)"),
        ("anchor", "kl_divergence",
         "(torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1)",
         "-torch.special.xlogy(p, q).sum(-1)"),
    ], {"games/averaging.py": [("factor", "linear", "float(t)", "float(t * t)")]}),
    Method("Equilibria regularised by KL", "games/equilibria/regularised.py", REGULARISED, [
        ("sign", "_newton", "u_ref + theta * (A @ x[..., None])[..., 0]", "u_ref - theta * (A @ x[..., None])[..., 0]"),
        ("factor", "_newton", "theta * (A @ x[..., None])[..., 0]", "2 * theta * (A @ x[..., None])[..., 0]"),
        ("factor", "regularised_gap", "gap * (2 if len(players) == 1 else 1)", "gap"),
        ("factor", "regularised_gap", "tau * terms.sum(-1).clamp_min(0)", "2 * tau * terms.sum(-1).clamp_min(0)"),
        ("anchor", "_answer", "log + payoff / tau", "payoff / tau"),
        ("anchor", "regularised_gap", "log + payoff / tau", "payoff / tau"),
    ], {"games/forms/skew.py": [("sign", "skew", "-U.mT", "U.mT")]}),
    Method("Equilibria in closed form", f"{E}/closed_form.py", EXACT, [
        ("sign", "closed_form", "A[:, 2, 0]", "A[:, 0, 2]"),
        ("sign", "closed_form_one", "least >= 0.0", "least <= 0.0"),
        ("factor", "closed_form_one", "P[1, 2] - half", "2 * (P[1, 2] - half)"),
    ]),
    Method("Games of low rank", "games/forms/low_rank.py", ["tests/games/forms/test_forms.py"], [
        ("sign", "LowRankGame.win_rate",
         "self.left @ (self.right.mT @ mu) - self.right @ (self.left.mT @ mu)",
         "self.left @ (self.right.mT @ mu) + self.right @ (self.left.mT @ mu)"),
        ("sign", "LowRankGame.rows",
         "left[actions] @ right[columns].T - right[actions] @ left[columns].T",
         "left[actions] @ right[columns].T + right[actions] @ left[columns].T"),
        ("factor", "LowRankGame.win_rate", "mu.sum(-2) / 2", "mu.sum(-2)"),
        ("factor", "LowRankGame.margins",
         "left @ (right[actions].T @ weights)",
         "2 * left @ (right[actions].T @ weights)"),
    ]),
    Method("Winners of tournaments", "games/analysis/social_choice.py", CHOICE, [
        ("sign", "copeland", "wins.sum(-1) - wins.sum(-2)", "wins.sum(-2) - wins.sum(-1)"),
        ("sign", "smith_set", "_beats(table).mT", "_beats(table)"),
        ("factor", "cyclic_triples",
         "torch.diagonal(wins @ wins @ wins, dim1=-2, dim2=-1).sum(-1).round().to(torch.int64) // 3",
         "torch.diagonal(wins @ wins @ wins, dim1=-2, dim2=-1).sum(-1).round().to(torch.int64)"),
        ("factor", "borda", "table.sum(-1) - diagonal", "2 * (table.sum(-1) - diagonal)"),
        ("anchor", "borda", "table.sum(-1) - diagonal", "table.sum(-1)"),
    ]),
    Method("Equilibria by linear programs, interior points and on a face", f"{E}/linear_program.py", EXACT, [
        ("sign", "_solved", "(A, -np.ones(n))", "(-A, -np.ones(n))"),
        ("sign", "extent", "ends[1] - ends[0]", "ends[0] - ends[1]"),
    ], {f"{E}/interior_point.py": [
        ("sign", "central_path", "-s", "s"),
    ], f"{E}/face.py": [
        ("sign", "_least.value",
         "(x * np.log(x)).sum() * entropy - barrier * (weight * np.log(room)).sum()",
         "(x * np.log(x)).sum() * entropy + barrier * (weight * np.log(room)).sum()"),
        ("sign", "_least", "slope[:k] += np.log(x) + 1", "slope[:k] -= np.log(x) + 1"),
        ("anchor", "vertex",
         "linprog(generic @ face.directions, A_ub=-moves, b_ub=room, bounds=(None, None), method='highs-ds')",
         "linprog(generic @ face.directions, A_ub=-moves, b_ub=0 * room, bounds=(None, None), method='highs-ds')"),
    ]}),
    Method("Fictitious play, compiled", "games/compiled/fictitious_play.py", ["tests/games/compiled/test_trace.py"], [
        ("sign", "play",
         "np.argmax(payoff[edges[player]:edges[player + 1]])",
         "np.argmin(payoff[edges[player]:edges[player + 1]])"),
        ("factor", "play", "2.0 / players", "1.0 / players"),
        ("anchor", "play", "t + 1", "t"),
    ]),
    Method("Blends of policies", "games/policy.py", ["tests/games/test_policy.py", *STEPS], [
        ("sign", "_Arithmetic.__neg__", "-1.0", "1.0"),
        ("factor", "_Arithmetic.__mul__", "factor * weight", "2 * factor * weight"),
        ("other", "_Arithmetic.__add__", "total.get(policy, 0.0) + weight", "weight"),
    ]),
]  # fmt: skip
