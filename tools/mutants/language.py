"""Mutants of oracles, of evaluation and of what a step of a language model is."""

from __future__ import annotations

from .method import Method

V = "llm/evaluation"
EXPLOITED = ["tests/llm/evaluation/test_exploit.py", "tests/llm/oracles/test_best_of_n.py"]
MIXTURES = [f"tests/llm/policy/{name}.py" for name in ("test_mixture", "experimental/test_token_mixture")]
JUDGED = [
    f"tests/llm/oracles/{name}.py"
    for name in ("test_oracles", "test_load", "models/test_llm_blender", "test_conformance")
]
LENGTH = [
    f"tests/llm/evaluation/test_{name}.py" for name in ("length_control", "logistic_fit", "length_control_errors")
]
BOARDS = [f"tests/llm/oracles/ensembles/test_{name}.py" for name in ("ensemble", "sources")]
DAWID_SKENE = ["tests/games/analysis/test_dawid_skene.py"]
ARENA = ["tests/games/analysis/test_arena.py"]
CONTEXTUAL = ["tests/games/analysis/test_contextual.py"]
POWERED = ["tests/games/analysis/test_prediction_powered.py"]
CORRECTED = ["tests/llm/oracles/corrections/test_corrections.py"]
ANSWERS = "llm/oracles/judges/protocols"
PROTOCOLS = ["tests/llm/oracles/judges/test_protocols.py"]
MIXED = ["tests/llm/policy/test_mixture.py", "tests/llm/policy/test_model.py"]
DIVIDED = ["tests/llm/training/test_division.py"]
SERVED = ["tests/llm/run/test_ranks_served.py::test_a_budget_is_that_of_all_processes"]
SEVERAL = ["tests/llm/test_enumerable_objectives.py", "tests/llm/oracles/ensembles/test_objectives.py"]
VOTES = [f"tests/llm/oracles/fitting/test_{name}.py" for name in ("vote_table", "votes", "fit")]

LANGUAGE = [
    Method("`PairRM`", "llm/oracles/models/pairrm.py", ["tests/llm/oracles/models/test_pairrm.py"], [
        ("sign", "PairRMModel.compare", "left - right", "right - left"),
        ("factor", "PairRMModel.compare", "(left - right).mean(dim=-1)", "2 * (left - right).mean(dim=-1)"),
        ("anchor", "PairRMModel.compare", "[source, second]", "[second, second]"),
        ("other", "PairRMModel.compare", "(left - right).mean", "(left - right).sum"),
    ]),
    Method("`GPM`", "llm/oracles/models/gpm.py", ["tests/llm/oracles/models/test_gpm.py"], [
        ("factor", "GPMModel.compare", "score / self.temperature", "2 * score / self.temperature"),
        ("anchor", "GPMModel.compare", "first = first * weights.repeat_interleave(2, dim=-1)", "pass"),
        ("other", "GPMModel.compare", "v = normalize(v, dim=-1)", "pass"),
    ], {"llm/oracles/embedding.py": [
        ("sign", "skew_product",
         "v[..., 0::2] * w[..., 1::2] - v[..., 1::2] * w[..., 0::2]",
         "v[..., 0::2] * w[..., 1::2] + v[..., 1::2] * w[..., 0::2]"),
        ("sign", "skew_product",
         "v[..., 0::2] * w[..., 1::2] - v[..., 1::2] * w[..., 0::2]",
         "v[..., 1::2] * w[..., 0::2] - v[..., 0::2] * w[..., 1::2]"),
    ]}),
    Method("`RewardModel`", "llm/oracles/models/reward_model.py", ["tests/llm/oracles/models/test_reward_model.py"], [
        ("sign", "RewardNetwork.compare", "rewards[:, 0] - rewards[:, 1]", "rewards[:, 1] - rewards[:, 0]"),
        ("factor", "RewardNetwork.compare", "rewards[:, 0] - rewards[:, 1]", "2 * (rewards[:, 0] - rewards[:, 1])"),
        ("anchor", "RewardNetwork.compare", "rewards[:, 0] - rewards[:, 1]", "rewards[:, 0]"),
    ]),
    Method("`length_controlled_win_rate`", f"{V}/win_rates/length_control.py", LENGTH, [
        ("sign", "length_controlled_win_rate",
         "rows['baseline_length'] - rows['output_length']",
         "rows['output_length'] - rows['baseline_length']"),
        ("sign", "predict", "w.model - v.model", "v.model - w.model"),
        ("factor", "length_controlled_win_rate", "length_difference / spread", "2 * length_difference / spread"),
        ("factor", "length_controlled_win_rate",
         "np.full(len(gamed_features), GAMED)",
         "np.full(len(gamed_features), 2 * GAMED)"),
        ("anchor", "length_controlled_win_rate", "gamed_moments = GAMED * np.append(sums, 0.0)", "pass"),
        ("anchor", "predict", "w.difficulty - v.difficulty", "w.difficulty"),
    ], {f"{V}/win_rates/logistic.py": [
        ("sign", "fit", "x @ share - moments", "x @ share + moments"),
        ("factor", "_objective", "penalty * np.abs(w).sum()", "2 * penalty * np.abs(w).sum()"),
    ]}),
    Method("Low-rank adapters on a base in 4 bits", "llm/policy/adapters/lora.py", MIXED, [
        ("sign", "fitted_to_slot", "padded * (layer.scale / slot.scale)", "-padded * (layer.scale / slot.scale)"),
        ("sign", "interpolate", "weight * shape.scale", "-weight * shape.scale"),
        ("factor", "fitted_to_slot",
         "padded * (layer.scale / slot.scale)",
         "2 * padded * (layer.scale / slot.scale)"),
        ("factor", "interpolate", "weight * shape.scale", "2 * weight * shape.scale"),
        ("factor", "_scale",
         "alpha / (math.sqrt(rank) if rooted else rank)",
         "2 * alpha / (math.sqrt(rank) if rooted else rank)"),
        ("other", "_scale", "math.sqrt(rank) if rooted else rank", "rank"),
    ], {"llm/policy/model.py": [
        ("factor", "_lora_config", "2 * lora.rank", "4 * lora.rank"),
        ("anchor", "LanguageModel.load", "{**zeros, **state}", "state"),
    ]}),
    Method("A Step of a language model", "llm/run/payoffs/step_payoffs.py", ["tests/llm/test_enumerable.py"], [
        ("sign", "StepPayoffs.payoffs",
         "expected += weight * self._win_rates(self._table(policy, member), policy, member)",
         "expected -= weight * self._win_rates(self._table(policy, member), policy, member)"),
        ("factor", "StepPayoffs.payoffs",
         "weight * self._win_rates(self._table(policy, member), policy, member)",
         "2 * weight * self._win_rates(self._table(policy, member), policy, member)"),
    ], {"llm/training/scoring.py": [("anchor", "score", "logprobs * weight + batch.anchor", "batch.anchor")]}),
    Method("From logits to a table", "llm/oracles/matrices.py", JUDGED, [
        ("sign", "_tables", "-A[:, i, j]", "A[:, i, j]"),
        ("sign", "_win_probability", "A >= 0", "A <= 0"),
        ("sign", "_gradient", "score[:, None] - score", "score - score[:, None]"),
        ("factor", "average_orders",
         "(np.where(contradict, 0.0, forward) - np.where(contradict, 0.0, backward)) / 2",
         "np.where(contradict, 0.0, forward) - np.where(contradict, 0.0, backward)"),
        ("factor", "_win_probability", "2.0 if aggregation == 'sppo-official' else 1.0", "1.0"),
        ("factor", "_order_gap",
         "np.abs(np.where(agree, 0.0, forward) + np.where(agree, 0.0, backward)) / 2",
         "np.abs(np.where(agree, 0.0, forward) + np.where(agree, 0.0, backward))"),
        ("anchor", "average_orders",
         "(np.where(contradict, 0.0, forward) - np.where(contradict, 0.0, backward)) / 2",
         "np.where(contradict, 0.0, forward)"),
    ], {"llm/oracles/scalar.py": [
        ("sign", "ScalarOracle.raw_logits",
         "rewards[..., at[:, 0]] - rewards[..., at[:, 1]]",
         "rewards[..., at[:, 1]] - rewards[..., at[:, 0]]"),
        ("factor", "ScalarOracle.raw_logits",
         "rewards[..., at[:, 0]] - rewards[..., at[:, 1]]",
         "(rewards[..., at[:, 0]] - rewards[..., at[:, 1]]) * 2"),
    ]}),
    Method("`Ensemble`", "llm/oracles/ensembles/ensemble.py", BOARDS, [
        ("sign", "Ensemble._combined", "log_ratio(win, lose)", "log_ratio(lose, win)"),
        ("sign", "Ensemble.raw_logits", "np.stack(of_prompt)", "-np.stack(of_prompt)"),
        ("factor", "Ensemble.pooled", "trust * np.tanh(values / 2) / 2", "trust * np.tanh(values) / 2"),
        ("factor", "_normalised", "np.full(count, 1 / count)", "np.ones(count)"),
    ], {"games/objectives/multi_objective.py": [
        ("anchor", "most_of", "padded[k + 1] * lost + padded[k] * won", "padded[k] * won"),
        ("other", "most_of", "half + 1", "half"),
    ]}),
    Method("Objectives of a Step of a language model", "llm/run/payoffs/objectives.py", SEVERAL, [
        ("sign", "StepObjectives._lacking",
         "floor - self.over_start(policy, name)[0]",
         "self.over_start(policy, name)[0] - floor"),
        ("sign", "StepObjectives._adversary", "1 - torch.as_tensor(lost)", "torch.as_tensor(lost)"),
        ("factor", "StepObjectives.payoffs",
         "self.combination.limit * charged * self._wins(policy, self.reference, name)",
         "2 * self.combination.limit * charged * self._wins(policy, self.reference, name)"),
        ("anchor", "StepObjectives.payoffs",
         "total + self.combination.limit * charged * self._wins(policy, self.reference, name)",
         "total"),
    ], {"llm/oracles/diversity.py": [
        ("sign", "Diversity.raw_logits", "scores[i] - scores[j]", "scores[j] - scores[i]"),
        ("factor", "Diversity.raw_logits", "(counts[g] - 1) / others", "2 * (counts[g] - 1) / others"),
    ]}),
    Method("Agreement of annotators", "llm/people/agreement.py", ("tests/llm/people/test_agreement.py",), [
        ("sign", "_alpha", "1 - (float(of_each.sum()) - 1) * observed / expected",
         "1 + (float(of_each.sum()) - 1) * observed / expected"),
        ("factor", "_alpha", "size - 1", "size"),
        ("anchor", "_alpha", "float(of_each.sum()) - 1", "float(of_each.sum())"),
        ("other", "agreement", "vote.a > vote.b", "False"),
    ]),
    Method("Verdicts in votes", f"{ANSWERS}/answers.py", PROTOCOLS, [
        ("sign", "vote_log_odds", "sum(vote.losses for vote in cast)", "-sum(vote.losses for vote in cast)"),
        ("factor", "vote_log_odds", "prior + sum(vote.wins for vote in cast)",
         "2 * prior + sum(vote.wins for vote in cast)"),
        ("anchor", "vote_log_odds", "prior + sum(vote.losses for vote in cast)",
         "1e-9 + sum(vote.losses for vote in cast)"),
    ], {f"{ANSWERS}/published.py": [
        ("factor", "", 'Answer("A>>B", 3.0, 0.0)', 'Answer("A>>B", 1.0, 0.0)'),
        ("sign", "", '(Answer("m", 1.0, 0.0), Answer("M", 0.0, 1.0))',
         '(Answer("m", 0.0, 1.0), Answer("M", 1.0, 0.0))'),
    ]}),
    Method("Verdicts in tokens", f"{ANSWERS}/answers.py", PROTOCOLS, [
        ("sign", "token_log_odds", "_log(wins or bound) - _log(losses or bound)",
         "_log(losses or bound) - _log(wins or bound)"),
        ("factor", "token_log_odds", "math.exp(logprob) * answer.wins", "math.exp(logprob) * answer.wins * 2"),
        ("anchor", "token_log_odds", "min(math.exp(min(logprobs.values())), left)", "left"),
        ("other", "token_log_odds", "_log(wins or bound)", "_log(wins)"),
    ]),
    Method("Accuracies without labels", "games/analysis/dawid_skene.py", DAWID_SKENE, [
        ("sign", "_Likelihood.hessian", "lost - np.diag(known)", "lost + np.diag(known)"),
        ("factor", "dawid_skene", "weights @ side", "2 * (weights @ side)"),
        ("anchor", "dawid_skene", "PRIOR + first @ q + second @ (1 - q)", "first @ q + second @ (1 - q)"),
        ("other", "_Likelihood.hessian", "self.count * q * (1 - q)", "self.count * q * q"),
        ("factor", "_Likelihood.profile_end", "self.value(best) - DROP", "self.value(best) - 2 * DROP"),
    ]),
    Method("Scores beside style", "games/analysis/contextual.py", CONTEXTUAL, [
        ("sign", "_Design._by_player", "gained - np.bincount(self.second, values, self.players)",
         "gained + np.bincount(self.second, values, self.players)"),
        ("factor", "contextual_bradley_terry", "x[:, known] / rms[known]", "2 * x[:, known] / rms[known]"),
        ("anchor", "contextual_bradley_terry", "design.sums(times * (y - mean))", "design.sums(times * y)"),
    ], {"games/analysis/style.py": [
        ("sign", "relative_differences", "(a - b) / np.where(total > 0, total, 1.0)",
         "(b - a) / np.where(total > 0, total, 1.0)"),
        ("factor", "relative_differences", "np.array([0.0, 1.0, 1.0, 1.0])", "np.array([1.0, 1.0, 1.0, 1.0])"),
    ]}),
    Method("Battles at equal style", "games/analysis/battles/style_control.py", ARENA, [
        ("sign", "at_equal_style", "np.where(first > second, -1.0, 1.0)", "np.where(first > second, 1.0, 1.0)"),
        ("factor", "at_equal_style", "style @ slopes", "2 * (style @ slopes)"),
        ("anchor", "at_equal_style", "won - p + expit(sign * log_odds[pair])", "won - p"),
    ]),
    Method("Win rates by few labels", "games/analysis/prediction_powered.py", POWERED, [
        ("sign", "prediction_powered", "rest.mean() - f.mean()", "f.mean() - rest.mean()"),
        ("factor", "prediction_powered", "(1 + n / len(rest)) * spread", "spread"),
        ("anchor", "prediction_powered", "alone + weight * float(rest.mean() - f.mean())", "float(rest.mean())"),
        ("other", "prediction_powered", "y - weight * f", "y"),
    ]),
    Method("Corrections of an oracle", "llm/oracles/corrections/corrected.py", CORRECTED, [
        ("sign", "StyleControl.corrected", "finite(logits) - style_differences(first, second) @ self.coefficients",
         "finite(logits) + style_differences(first, second) @ self.coefficients"),
        ("factor", "Unflipped._lead", "1 - 2 * self.flips", "1 - self.flips"),
        ("factor", "Calibrated.corrected", "finite(logits) / self.temperature", "finite(logits) * self.temperature"),
        ("anchor", "WithTies.corrected", "expit(size - self.margin) + expit(size + self.margin)",
         "2 * expit(size - self.margin)"),
    ]),
    Method("Best of n", f"{V}/best_of_n.py", EXPLOITED, [
        ("sign", "kl_bound", "math.log(n) - (n - 1) / n", "math.log(n) + (n - 1) / n"),
        ("factor", "kl_bound", "math.log(n)", "2 * math.log(n)"),
        ("anchor", "best_of_n_policy", "(below + mass) ** n - below ** n", "(below + mass) ** n"),
        ("other", "kl_bound", "n - 1", "1"),
        ("other", "best_of_n_policy", "below ** n", "below ** (n - 1)"),
    ], {f"{V}/exploit.py": [
        ("factor", "Adversary.gap", "2 * self.wins.value - 1", "4 * self.wins.value - 2"),
        ("anchor", "Adversary.gap", "2 * self.wins.value - 1", "2 * self.wins.value"),
        ("sign", "_held_out_win_rate", "means.argmax()", "(-means).argmax()"),
        ("sign", "Adversary.lower_bound",
         "2 * win_rate_at_least(self.wins.value, self.wins.standard_error, self.wins.prompts) - 1",
         "2 * self.wins.value - 1"),
        ("factor", "Adversary.standard_error", "2 * self.wins.standard_error", "self.wins.standard_error"),
        ("anchor", "best_of_n_win_rate", "(table[:, ::2], table[:, 1::2])", "(table, table)"),
    ]}),
    Method("Mixtures", "llm/policy/mixture.py", MIXTURES, [
        ("factor", "linear", "2 * t / (count * (count + 1))", "1 / count"),
    ], {"llm/policy/experimental/token_mixture.py": [
        ("sign", "MixedNetwork._blended", "total + weight * output.float()", "total - weight * output.float()"),
        ("factor", "_BlendedProcessor.__call__", "weight * part", "2 * weight * part"),
        ("anchor", "MixedNetwork._blended", "total + weight * output.float()", "weight * output.float()"),
    ]}),
    Method("Over-optimisation", f"{V}/over_optimisation.py", ["tests/llm/evaluation/test_over_optimisation.py"], [
        ("sign", "_verdict", "value - standard_errors(thresholds.errors, n) * error",
         "value + standard_errors(thresholds.errors, n) * error"),
        ("factor", "_ratio", "x - ratio * y", "2 * (x - ratio * y)"),
        ("anchor", "verdicts", "repetition(ids) - repetition(start_ids)", "repetition(ids)"),
        ("anchor", "verdicts", "start_refusals - policy_refusals", "start_refusals"),
        ("sign", "verdicts", "now - before", "before - now"),
    ], {f"{V}/diversity.py": [
        ("sign", "repetition", "1 - len(set(grams)) / len(grams)", "len(set(grams)) / len(grams)"),
        ("factor", "distinct_n", "len(set(grams))", "2 * len(set(grams))"),
    ]}),
    Method("Log-probabilities and their gradient", "llm/policy/logprobs.py", ["tests/llm/policy/test_logprobs.py"], [
        ("sign", "_Tiled.forward", "chosen - total", "total - chosen"),
        ("sign", "_Tiled.forward", "target_part - mean", "target_part + mean"),
        ("factor", "_Tiled.forward", "others[:, None]", "2 * others[:, None]"),
        ("factor", "Head.slope", "(logits / self.cap) ** 2", "2 * (logits / self.cap) ** 2"),
        ("anchor", "_Tiled.forward", "others + (chosen[tokens] - top).exp()", "others"),
        ("other", "sequence_logprobs", "rows * states.shape[1] + positions_scored - 1",
         "rows * states.shape[1] + positions_scored"),
    ]),
    Method("What votes say", "llm/oracles/fitting/vote_table.py", VOTES, [
        ("sign", "_Game.of", "(logit, -logit)", "(-logit, logit)"),
        ("sign", "_bradley_terry.loss", "n * expit(gap) - game.won", "game.won - n * expit(gap)"),
        ("factor", "_wins",
         "vote.weight * (vote.wins if vote.a == text else vote.n - vote.wins)",
         "2 * vote.weight * (vote.wins if vote.a == text else vote.n - vote.wins)"),
        ("anchor", "_Game.of",
         "prior + math.fsum((_wins(vote, pair[side]) for vote in votes[pair]))",
         "math.fsum((_wins(vote, pair[side]) for vote in votes[pair]))"),
    ], {"llm/oracles/fitting/convex.py": [
        ("sign", "logistic_ridge.loss", "logits.sigmoid() - target", "target - logits.sigmoid()"),
    ], "llm/oracles/fitting/summary.py": [
        ("anchor", "length_leads",
         "math.log1p(len(vote.a)) - math.log1p(len(vote.b))",
         "math.log1p(len(vote.a))"),
    ], "llm/oracles/fitting/annotators.py": [
        ("sign", "slope", "wins - n * p", "wins + n * p"),
        ("factor", "slope", "0.5 * b", "b"),
    ]}),
    Method("Win rates and their errors", "games/analysis/confidence.py", ["tests/llm/evaluation/test_evaluate.py"], [
        ("factor", "win_rate_error", "math.sqrt(n / (n - 1) * float(w**2 @ (v - mean) ** 2))",
         "2 * math.sqrt(n / (n - 1) * float(w**2 @ (v - mean) ** 2))"),
    ]),
    Method("The gradient of several processes", "llm/training/gradient.py", DIVIDED, [
        ("factor", "Gradient._backward",
         "sum(len(batch.rollouts) for batch in step)",
         "sum(len(batch.rollouts) for batch in self.division.own(step, texts)[0])"),
        ("other", "Gradient.__call__",
         "loss, weighted_nll = self._reduce(loss, weighted_nll)",
         "loss, weighted_nll = (torch.nn.utils.clip_grad_norm_(self.weights, self.settings.max_grad_norm), "
         "self._reduce(loss, weighted_nll))[1]"),
        ("other", "Gradient._reduce",
         "processes.sum_([weight.grad for weight in reduced if weight.grad is not None])",
         "pass"),
        ("other", "Gradient._reduce", "sum(losses)", "loss"),
    ], {"llm/training/division.py": [
        ("factor", "Division.own",
         "[self._part(batch, chosen) for batch, chosen in mine if chosen]",
         "[self._part(batch, chosen) for batch, chosen in [*mine, mine[0]] if chosen]"),
        ("factor", "Division.own",
         "[self._texts_part(batch, chosen) for batch, chosen in own_texts if chosen]",
         "[self._texts_part(batch, chosen) for batch, chosen in own_texts + own_texts if chosen]"),
        ("other", "Division.own",
         "[(batch, chosen[processes.rank]) for batch, chosen in zip(step, numbers, strict=True)]",
         "[(batch, chosen[0]) for batch, chosen in zip(step, numbers, strict=True)]"),
    ]}),
    Method("The budget of several processes", "llm/clients/paid.py", SERVED, [
        ("sign", "Budget.settle", "account.reserved + back", "account.reserved"),
        ("factor", "Budget.count", "if name in account.counted:\n    return account", "pass"),
        ("anchor", "Budget.reserve", "account.spent + account.reserved + most", "account.spent + most"),
    ], {"llm/processes/shared.py": [
        ("other", "Shared.change", "store is None", "True"),
        ("other", "Shared.change", "if found == new:\n    return self._value", "return self._value"),
    ]}),
]  # fmt: skip
