# %% [markdown]
# # Which answer is best, if A beats B, B beats C and C beats A?
#
# None of them. Whichever you pick, another one beats it. But there is a *mixture* of the three that no answer and no
# other mixture beats: the Nash equilibrium of the preference game. The picture below shows such a table on the left
# and its Nash on the right. The rest of this notebook says why a reward cannot replace the table, and how
# multiplicative weights (from which SPPO is derived) and optimistic multiplicative weights get to the Nash.
#
# Nothing here is drawn at random: every run gives the same pictures. It takes about two minutes on one core,
# most of it in the last section, which needs the `llm` extra.

# %%
# %matplotlib inline
from fractions import Fraction

import matplotlib as mpl
import numpy as np
from scipy.optimize import minimize

from nashward import games, theory

mpl.rcParams["figure.dpi"] = 80  # small pictures

game = games.zoo.comal_cycle()
nash = games.nash(game)
games.plots.payoff_table(game, nash, title="P(row beats column)")

# %% [markdown]
# Read the table by rows: `P[i, j]` is the probability that answer `i` is preferred to answer `j`, and
# `P[i, j] + P[j, i] = 1`. No answer beats all others, so there is no *Condorcet winner*.

# %%
for i, winner in enumerate(game.labels):
    for j, loser in enumerate(game.labels):
        if game.P[i, j] > 0.5:
            print(f"{winner} beats {loser} with probability {game.P[i, j]:.1f}")

# %% [markdown]
# ## Why no reward can hold this table
#
# A reward gives each answer one number. The Bradley-Terry model, on which reward models are trained, then says
#
# $$P(i \succ j) = \frac{1}{1 + e^{-(r_i - r_j)}},$$
#
# so the answer with the larger reward wins. Rewards are ordered along a line, and a cycle is not: whatever the rewards
# are, at least one pair of a cycle has its winner wrong.
#
# The best that a reward can do is the fit of maximum likelihood. Its gradient is the difference of the row sums of the
# fitted and of the true table: the fit keeps how often each answer wins *on average*, and loses whom it beats.


# %%
def bradley_terry(P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rewards of maximum likelihood, with mean 0, and the table that they give."""

    def table(r: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(r[None, :] - r[:, None]))

    fit = minimize(
        lambda r: -(P * np.log(table(r))).sum(),
        np.zeros(len(P)),
        jac=lambda r: (table(r) - P).sum(1),
    )
    r = fit.x - fit.x.mean()
    return r, table(r)


P = game.P.numpy()
reward, fitted = bradley_terry(P)
print("rewards:", ", ".join(f"{name} {r:+.3f}" for name, r in zip(game.labels, reward, strict=True)))
print("\npair           true  fitted  fitted - true")
for i, j in ((1, 0), (2, 1), (0, 2)):
    numbers = f"{P[i, j]:.3f}   {fitted[i, j]:.3f}         {fitted[i, j] - P[i, j]:+.3f}"
    print(f"{game.labels[i]} beats {game.labels[j]}   {numbers}", "  the wrong winner" if fitted[i, j] < 0.5 else "")
best = int(reward.argmax())
print(f"\nthe answer with the largest reward is {game.labels[best]};", end=" ")
print(f"{game.labels[int(P[:, best].argmax())]} beats it with probability {P[:, best].max():.1f}")

# %% [markdown]
# ## What "best" means instead
#
# Let two players each choose an answer, or a mixture of answers, and ask how much they could gain by a better choice:
#
# $$\mathrm{gap}(\pi) = 2 \left( \max_y P(y \succ \pi) - \tfrac{1}{2} \right).$$
#
# This *duality gap* is 0 exactly for a mixture that nothing beats, the Nash equilibrium. `games.nash` finds it exactly
# (by linear programming); in this table it is unique.

# %%
exact = [Fraction(float(p)).limit_denominator(100) for p in nash.policy]
print("Nash:", ", ".join(f"{name} {p}" for name, p in zip(game.labels, exact, strict=True)), f"(unique: {nash.unique})")
print("P(answer beats Nash):", ", ".join(f"{p:.3f}" for p in game.win_rate(nash.policy)))
print()
candidates = {f"{name} alone": np.eye(3)[i] for i, name in enumerate(game.labels)}
candidates |= {"each with 1/3": np.full(3, 1 / 3), "Nash": nash.policy}
for name, policy in candidates.items():
    print(f"duality gap of {name:<13}  {float(games.duality_gap(game, policy)):.3f}")

# %% [markdown]
# ## Multiplicative weights: the average converges, the last iterate circles
#
# Linear programming needs the whole table. A learner raises what wins against its present self:
#
# $$\pi_{t+1}(y) \propto \pi_t(y) \, e^{\text{step} \cdot P(y \succ \pi_t)}.$$
#
# `theory.MWUAverage` is the theorem: the *average* of $\pi_1, \dots, \pi_T$ has a duality gap of at most
# $\text{step} / 4 + 2 C / (\text{step} \cdot T)$, with $C = \max_y -\log \pi_1(y)$. It says nothing of the last
# iterate. We take the step that makes the bound smallest after all iterations.

# %%
T = 2000
start = np.array([0.665, 0.245, 0.090])
theorem = theory.MWUAverage.best(T, theory.complexity(start))
mwu = games.solve(
    game, games.MWU(step=theorem.step), iterations=T, start=start, record=range(1, T + 1), keep_policies=True
)
print(f"step {theorem.step:.4f}, duality gap after {T} iterations:")
print(f"  last iterate  {mwu.gaps['last'][-1]:.4f}   (the start has {games.duality_gap(game, start):.4f})")
print(f"  average       {mwu.gaps['average'][-1]:.4f}   bound {theorem.bound(T):.4f}")
share = float((mwu.gaps["average"].numpy() / theorem.bound(mwu.iterations)).max())
print(f"largest gap of the average, as a share of its bound, over all iterations: {share:.2f}")
first, last = (float(games.kl_divergence(nash.policy, policy)) for policy in (start, mwu.last))
print(f"KL(Nash || iterate): start {first:.3f}, last iterate {last:.3f}")
games.plots.gap_curves({"MWU": mwu}, {"bound for the average": theorem.bound}, title="multiplicative weights")

# %% [markdown]
# On the simplex of mixtures each corner is one answer alone. Circles mark the first point of a path, squares the last.
# The last iterate goes around the Nash and slowly away from it (the divergence above);
# the average goes in.

# %%
games.plots.simplex(
    {"last iterate": mwu.policies["last"], "average": mwu.policies["average"]},
    nash.policy,
    game.labels,
    title=f"multiplicative weights, {T} iterations",
)

# %% [markdown]
# ## Optimism: the last iterate converges
#
# Multiplicative weights answer the opponent of this step, who has moved on by the next. Optimistic multiplicative
# weights expect the next payoff to change as the last one did and use $2 P \pi_t - P \pi_{t-1}$ for $P \pi_t$. With a
# constant step that is not too large the last iterate then converges to a unique Nash that plays every answer. That is
# what one wants of a language model: one set of weights, not a mixture of all that were trained. Here are both methods
# with the same step.

# %%
STEP = 1.0
solvers = {"MWU": games.MWU(STEP), "optimistic MWU": games.OptimisticMWU(STEP)}
cycle = {
    name: games.solve(game, solver, iterations=T, start=start, record=range(1, T + 1), keep_policies=True)
    for name, solver in solvers.items()
}
print(f"step {STEP}, duality gap of the last iterate:")
for name, solution in cycle.items():
    gaps = {t: float(solution.gaps["last"][t - 1]) for t in (100, 500, T)}
    print(f"  {name:<15}", "   ".join(f"t = {t}: {gap:.1e}" for t, gap in gaps.items()))
print("last iterate of optimistic MWU, times 11:", ", ".join(f"{11 * p:.6f}" for p in cycle["optimistic MWU"].last))
games.plots.gap_curves(cycle, title=f"both with step {STEP}")

# %%
games.plots.simplex(
    {name: solution.policies["last"][:200] for name, solution in cycle.items()},
    nash.policy,
    game.labels,
    title=f"last iterates, step {STEP}, first 200 iterations",
)

# %% [markdown]
# ## The same on real data
#
# Ten agents that play MuJoCo soccer, and how often each wins against each (from OpenSpiel). Nobody planted a cycle
# here.

# %%
soccer = games.zoo.mujoco_soccer()
nash = games.nash(soccer)
games.plots.payoff_table(soccer, nash, title="P(row beats column)")

# %%
P, names = soccer.P.numpy(), soccer.labels
for j, name in enumerate(names):
    print(f"{name} is beaten by", ", ".join(names[i] for i in np.flatnonzero(P[:, j] > 0.5)) or "nobody")
played = nash.policy.argsort(descending=True)[: int(nash.support.sum())].tolist()
print(f"\nNash (unique: {bool(nash.unique)}):", ", ".join(f"{names[i]} {nash.policy[i]:.3f}" for i in played))
for i, j in zip(played, played[1:] + played[:1], strict=True):
    print(f"  {names[i]} beats {names[j]} with probability {P[i, j]:.3f}")

reward, fitted = bradley_terry(P)
best = int(reward.argmax())
pairs = np.triu_indices(len(P), 1)
wrong = int(((P[pairs] - 0.5) * (fitted[pairs] - 0.5) < 0).sum())
print(
    f"\nBradley-Terry: {wrong} of {len(pairs[0])} pairs with the wrong winner, off by up to {abs(P - fitted).max():.3f}"
)
print(f"largest reward: {names[best]}, beaten by {names[int(P[:, best].argmax())]} with {P[:, best].max():.3f}")
print(f"duality gap: {names[best]} alone {games.duality_gap(soccer, np.eye(10)[best]):.3f}, Nash {nash.gap:.0e}")

# %% [markdown]
# Every agent is beaten by some other, so there is no Condorcet winner here either, and the three agents of the Nash
# form a cycle. The agent with the largest reward does lose to another one.
#
# Now the solvers, from a uniform start. Margins are smaller than in the first table, so optimism may take a larger
# step. The Nash leaves most agents out; the theorem on the last iterate speaks of a Nash that plays all, and yet the
# last iterate converges here.

# %%
T = 4000
theorem = theory.MWUAverage.best(T, np.log(len(P)))
solutions = {
    "MWU": games.solve(soccer, games.MWU(theorem.step), iterations=T),
    "optimistic MWU": games.solve(soccer, games.OptimisticMWU(4.0), iterations=T),
}
for name, solution in solutions.items():
    print(f"{name:<15} gap: last {solution.gaps['last'][-1]:.1e}, average {solution.gaps['average'][-1]:.1e}")
print(f"bound for the average of MWU (step {theorem.step:.3f}): {theorem.bound(T):.1e}")
print(
    "last iterate of optimistic MWU:",
    ", ".join(f"{names[i]} {solutions['optimistic MWU'].last[i]:.3f}" for i in played),
)
games.plots.gap_curves(solutions, {"bound for MWU's average": theorem.bound}, title="MuJoCo soccer")

# %% [markdown]
# ## The same on a language model
#
# A policy need not be a row of numbers. Here it is a language model (a small one that the project ships, its weights
# in 4 bits, a LoRA adapter trained at each step) that may answer in one of three ways, and the same table says which
# answer beats which. The three answers can be enumerated, so each step is fitted on exact expectations, by L-BFGS. The
# solver objects are those from above: `llm.SelfPlay` plays what `games.solve` plays.

# %%
import contextlib
import io
import math
import os
import tempfile
import warnings
from pathlib import Path

import torch

warnings.filterwarnings("ignore", message="IProgress")  # no widgets are needed here
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
from nashward import llm
from nashward.llm.folder import read_shard

torch.set_num_threads(1)
ANSWERS = (
    "In short, bread is cheap.",
    "1. Find the bread. 2. Check it.",
    "Great question! I love bread. What do you think?",
)


class Table(llm.oracles.PreferenceOracle):
    """Which answer beats which, read off the table."""

    name, symmetric = "table", True

    def raw_logits(self, prompts, candidates, pairs):
        rows = [[ANSWERS.index(text) for text in texts] for texts in candidates]
        return [
            np.array([float(game.P[r[i], r[j]].logit()) for i, j in asked])
            for r, asked in zip(rows, pairs, strict=True)
        ]


model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY, lora=llm.Lora(rank=2))
ids = model.tokenizer([answer + model.tokenizer.eos_token for answer in ANSWERS], add_special_tokens=False)["input_ids"]
exact = llm.Fit(
    optimiser="lbfgs",
    learning_rate=1.0,
    schedule="constant",
    warmup=0.0,
    epochs=1,
    held_out=0.0,
    max_grad_norm=math.inf,
)
ITERATIONS, BIG = 36, 2.0


def play(solver):
    """The mix of the three answers at every iterate, read from the run's folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run = llm.SelfPlay(
            policy=model,
            oracle=Table(),
            solver=solver,
            prompts=["Tell me about bread."],
            folder=Path(folder) / "run",
            iterations=ITERATIONS,
            sampling=llm.Enumerated(tuple(map(tuple, ids))),
            fit=exact,
        ).run()
        files = sorted(run.folder.glob("iteration-*/responses/*.parquet"))
        return np.array([[row["weight"] for row in read_shard(file)] for file in files])


both = {"MWU": games.MWU(BIG), "optimistic MWU": games.OptimisticMWU(BIG)}
written = {name: play(solver) for name, solver in both.items()}
theorem = theory.MWUAverage.best(ITERATIONS - 1, theory.complexity(written["MWU"][0]))
both["MWU, best step"] = games.MWU(theorem.step)
written["MWU, best step"] = play(both["MWU, best step"])
expected = {
    name: games.solve(
        game, solver, iterations=ITERATIONS - 1, start=written[name][0], record=range(1, ITERATIONS), keep_policies=True
    )
    for name, solver in both.items()
}
for name, mixes in written.items():
    distance = games.total_variation(torch.tensor(mixes[1:]), expected[name].policies["last"]).max()
    print(f"{name}: language model and table differ by at most {distance:.0e} in total variation")

# %% [markdown]
# Lines are the table, marks the language model, in the same axes: the last iterate of multiplicative weights circles
# and moves out, that of optimistic multiplicative weights comes in. The mixture of the iterates of multiplicative
# weights (dashed) stays below the theorem's bound (dotted), which with the best step for $T$ iterations ends at
# $\sqrt{2 C / T}$.

# %%
from matplotlib.figure import Figure

picture = Figure(figsize=(7, 4.2), layout="constrained")
axes = picture.subplots()
drawn = {"MWU": "last", "optimistic MWU": "last", "MWU, best step": "average"}
for (name, which), colour in zip(drawn.items(), games.plots.COLOURS, strict=False):
    mixes, solution = written[name], expected[name]
    played = np.cumsum(mixes, 0) / np.arange(1, len(mixes) + 1)[:, None]
    points, style = (mixes[1:], "-") if which == "last" else (played[:-1], "--")
    gaps = games.duality_gap(games.PreferenceGame(game.P.expand(len(points), 3, 3)), points)
    axes.plot(solution.iterations, solution.gaps[which], style, color=colour, label=f"table: {name}, {which}")
    axes.plot(solution.iterations, gaps, "o", color=colour, markersize=3.5, label="language model")
bound = theorem.bound(solution.iterations)
axes.plot(solution.iterations, bound, ":", color="black", label="the theorem's bound for it")
axes.set(xlabel="iterations", ylabel="duality gap", yscale="log", title=f"one solver, two executors (step {BIG:g})")
axes.legend(fontsize=7, ncols=2)
picture

# %% [markdown]
# ## Next
#
# - Your own table: `nashward solve table.csv --solver optimistic-mwu --step 0.5 --plot table.png`
# - The same solvers on a small language model: `nashward demo`
