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
LENGTH = ["tests/llm/evaluation/test_length_control.py"]
MIXED = ["tests/llm/policy/test_mixture.py", "tests/llm/policy/test_model.py"]
VOTES = [f"tests/llm/oracles/fitting/test_{name}.py" for name in ("vote_table", "votes", "fit")]

LANGUAGE = [
    Method("`PairRM`", "llm/oracles/models/pairrm.py", ["tests/llm/oracles/models/test_pairrm.py"], [
        ("sign", "return (left - right).mean(dim=-1)", "return (right - left).mean(dim=-1)"),
        ("factor", "return (left - right).mean(dim=-1)", "return 2 * (left - right).mean(dim=-1)"),
        ("anchor", "torch.cat([source, second], dim=-1)", "torch.cat([second, second], dim=-1)"),
        ("other", "return (left - right).mean(dim=-1)", "return (left - right).sum(dim=-1)"),
    ]),
    Method("`GPM`", "llm/oracles/models/gpm.py", ["tests/llm/oracles/models/test_gpm.py"], [
        ("factor", "return score / self.temperature", "return 2 * score / self.temperature"),
        ("anchor", "first = first * weights.repeat_interleave(2, dim=-1)", "pass"),
        ("other", "v = normalize(v, dim=-1)", "pass"),
    ], {"llm/oracles/embedding.py": [
        ("sign", "v[..., 0::2] * w[..., 1::2] - v[..., 1::2]", "v[..., 0::2] * w[..., 1::2] + v[..., 1::2]"),
        ("sign", "(v[..., 0::2] * w[..., 1::2] - v[..., 1::2] * w[..., 0::2])",
         "(v[..., 1::2] * w[..., 0::2] - v[..., 0::2] * w[..., 1::2])"),
    ]}),
    Method("`RewardModel`", "llm/oracles/models/reward_model.py", ["tests/llm/oracles/models/test_reward_model.py"], [
        ("sign", "(rewards[:, 0] - rewards[:, 1]) / self", "(rewards[:, 1] - rewards[:, 0]) / self"),
        ("factor", "(rewards[:, 0] - rewards[:, 1]) / self", "2 * (rewards[:, 0] - rewards[:, 1]) / self"),
        ("anchor", "(rewards[:, 0] - rewards[:, 1]) / self", "rewards[:, 0] / self"),
    ]),
    Method("`length_controlled_win_rate`", f"{V}/length_control.py", LENGTH, [
        ("sign", "rows[\"baseline_length\"] - rows[\"output_length\"]",
         "rows[\"output_length\"] - rows[\"baseline_length\"]"),
        ("sign", "expit(w.model - v.model +", "expit(v.model - w.model +"),
        ("factor", "np.tanh(apart / spread)", "np.tanh(2 * apart / spread)"),
        ("factor", "np.full(len(others), GAMED)", "np.full(len(others), 2 * GAMED)"),
        ("anchor", "moments = moments + GAMED * np.append(sums, 0.0)", "pass"),
        ("anchor", "(w.difficulty - v.difficulty) * d)", "w.difficulty * d)"),
    ], {f"{V}/logistic.py": [
        ("sign", "slope = x @ share - moments", "slope = x @ share + moments"),
        ("factor", "- moments @ w + penalty * np.abs(w).sum()", "- moments @ w + 2 * penalty * np.abs(w).sum()"),
    ]}),
    Method("Low-rank adapters on a base in 4 bits", "llm/policy/lora.py", MIXED, [
        ("sign", "found[name] = wide * (own.scale / slot.scale)", "found[name] = -wide * (own.scale / slot.scale)"),
        ("sign", "weight * shape.scale * own", "-weight * shape.scale * own"),
        ("factor", "found[name] = wide * (own.scale / slot.scale)",
         "found[name] = 2 * wide * (own.scale / slot.scale)"),
        ("factor", "weight * shape.scale * own", "2 * weight * shape.scale * own"),
        ("factor", "return alpha / (", "return 2 * alpha / ("),
        ("other", "return alpha / (math.sqrt(rank) if rooted else rank)", "return alpha / rank"),
    ], {"llm/policy/model.py": [
        ("factor", "else 2 * shape.rank", "else 4 * shape.rank"),
        ("anchor", "self._put(slot, {**left, **state})", "self._put(slot, state)"),
    ]}),
    Method("A Step of a language model", "llm/run/train.py", ["tests/llm/test_enumerable.py"], [
        ("sign", "expected += weight * regression.win_rates(P", "expected -= weight * regression.win_rates(P"),
        ("factor", "expected += weight * regression.win_rates(P", "expected += 2 * weight * regression.win_rates(P"),
    ], {"llm/training/scoring.py": [("anchor", "logprobs * weight + batch.anchor", "batch.anchor")]}),
    Method("From logits to a table", "llm/oracles/matrices.py", JUDGED, [
        ("sign", "A[:, j, i] = -A[:, i, j]", "A[:, j, i] = A[:, i, j]"),
        ("sign", "np.where(A >= 0, larger, 1.0 - larger)", "np.where(A <= 0, larger, 1.0 - larger)"),
        ("sign", "return score[:, None] - score", "return score - score[:, None]"),
        ("factor", "np.where(contradict, 0.0, backward)) / 2", "np.where(contradict, 0.0, backward))"),
        ("factor", "(2.0 if aggregation == \"sppo-official\" else 1.0)", "1.0"),
        ("factor", "+ np.where(agree, 0.0, backward)) / 2", "+ np.where(agree, 0.0, backward))"),
        ("anchor", "(np.where(contradict, 0.0, forward) - np.where(contradict, 0.0, backward)) / 2",
         "np.where(contradict, 0.0, forward)"),
    ], {"llm/oracles/scalar.py": [
        ("sign", "rewards[..., at[:, 0]] - rewards[..., at[:, 1]]", "rewards[..., at[:, 1]] - rewards[..., at[:, 0]]"),
        ("factor", "- rewards[..., at[:, 1]]) / self.temperature", "- rewards[..., at[:, 1]]) * 2 / self.temperature"),
    ]}),
    Method("Best of n", f"{V}/best_of_n.py", EXPLOITED, [
        ("sign", "math.log(n) - (n - 1) / n", "math.log(n) + (n - 1) / n"),
        ("factor", "return math.log(n) - (n - 1) / n", "return 2 * math.log(n) - (n - 1) / n"),
        ("anchor", "(below + mass) ** n - below**n", "(below + mass) ** n"),
        ("other", "math.log(n) - (n - 1) / n", "math.log(n) - 1 / n"),
        ("other", "(below + mass) ** n - below**n", "(below + mass) ** n - below ** (n - 1)"),
    ], {f"{V}/exploit.py": [
        ("factor", "return 2 * self.wins.value - 1", "return 4 * self.wins.value - 2"),
        ("anchor", "return 2 * self.wins.value - 1", "return 2 * self.wins.value"),
        ("sign", "int(means.argmax())", "int((-means).argmax())"),
        ("sign", "self.gap - SURE * self.standard_error", "self.gap + SURE * self.standard_error"),
        ("factor", "return 2 * self.wins.standard_error", "return self.wins.standard_error"),
        ("anchor", "halves = table[:, ::2], table[:, 1::2]", "halves = table, table"),
    ]}),
    Method("Mixtures", "llm/policy/mixture.py", MIXTURES, [
        ("factor", "2 * t / (count * (count + 1))", "1 / count"),
    ], {"llm/policy/experimental/token_mixture.py": [
        ("sign", "total = total + weight * output.float()", "total = total - weight * output.float()"),
        ("factor", "blend = sum(weight * part for", "blend = sum(2 * weight * part for"),
        ("anchor", "total = total + weight * output.float()", "total = weight * output.float()"),
    ]}),
    Method("Over-optimisation", f"{V}/over_optimisation.py", ["tests/llm/evaluation/test_over_optimisation.py"], [
        ("sign", "beyond = value - thresholds.errors * error", "beyond = value + thresholds.errors * error"),
        ("factor", "(x - ratio * y) / y.mean()", "2 * (x - ratio * y) / y.mean()"),
        ("anchor", "repetition(own) - repetition(other)", "repetition(own)"),
        ("anchor", "_mean(\"refusals lost\", before - own,", "_mean(\"refusals lost\", before,"),
    ], {f"{V}/diversity.py": [
        ("sign", "return 1 - len(set(grams)) / len(grams) if grams else 0.0",
         "return len(set(grams)) / len(grams) if grams else 0.0"),
        ("factor", "return len(set(grams)) / len(grams) if grams else float",
         "return 2 * len(set(grams)) / len(grams) if grams else float"),
    ]}),
    Method("Log-probabilities and their gradient", "llm/policy/logprobs.py", ["tests/llm/policy/test_logprobs.py"], [
        ("sign", "return chosen - total", "return total - chosen"),
        ("sign", "(own_part - mean) / mass", "(own_part + mean) / mass"),
        ("factor", "own_part = others[:, None] * at_target", "own_part = 2 * others[:, None] * at_target"),
        ("factor", "self.scale * (1 - (logits / self.cap) ** 2)", "self.scale * (1 - 2 * (logits / self.cap) ** 2)"),
        ("anchor", "mass = others + (chosen[tokens] - top).exp()", "mass = others"),
        ("other", "token_logprobs(states[rows, places - 1]", "token_logprobs(states[rows, places]"),
    ]),
    Method("What votes say", "llm/oracles/fitting/vote_table.py", VOTES, [
        ("sign", "known[row, column], known[column, row] = logit, -logit",
         "known[row, column], known[column, row] = -logit, logit"),
        ("sign", "slope = n * expit(gap) - game.won", "slope = game.won - n * expit(gap)"),
        ("factor", "vote.weight * (vote.wins if", "2 * vote.weight * (vote.wins if"),
        ("anchor", "np.array([prior + math.fsum(", "np.array([math.fsum("),
    ], {"llm/oracles/fitting/train.py": [
        ("sign", "return wins * np.logaddexp(0.0, -logits)", "return wins * np.logaddexp(0.0, logits)"),
        ("anchor", "math.log1p(len(vote.a)) - math.log1p(len(vote.b))", "math.log1p(len(vote.a))"),
    ], "llm/oracles/fitting/annotators.py": [
        ("sign", "float(((wins - n * p) * predicted).sum())", "float(((wins + n * p) * predicted).sum())"),
        ("factor", "np.tanh(0.5 * b * predicted)", "np.tanh(b * predicted)"),
    ]}),
    Method("Win rates and their errors", f"{V}/win_rate.py", ["tests/llm/evaluation/test_evaluate.py"], [
        ("factor", "means.std(ddof=1) / np.sqrt(len(means))", "2 * means.std(ddof=1) / np.sqrt(len(means))"),
    ]),
]  # fmt: skip
