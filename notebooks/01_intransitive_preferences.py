# %% [markdown]
# # Which answer is best, if A beats B, B beats C and C beats A?
#
# None of them: whichever you pick, another one beats it. But there is a *mixture* of the three that no answer and no
# other mixture beats, the Nash equilibrium of the preference game. The picture shows such a table on the left and its
# Nash on the right. This notebook says why a reward cannot replace the table, what it costs to use one, and which
# models can replace the table.
#
# Nothing here is drawn at random: every run gives the same pictures, in a few seconds.

# %%
# %matplotlib inline
from fractions import Fraction
from itertools import permutations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from nashward import games

mpl.rcParams["figure.dpi"] = 80  # small pictures

game = games.zoo.comal_cycle()
nash = games.nash(game)
games.plots.payoff_table(game, nash, title="P(row beats column)", order=range(3))

# %% [markdown]
# Read the table by rows: `P[i, j]` is the probability that answer `i` is preferred to answer `j`, and `P[i, j] + P[j,
# i] = 1`. In the graph an arrow goes from each winner to the loser; the more likely the win, the wider the arrow.
# Whichever answer comes first, an arrow points back (dashed).

# %%
games.plots.cycle_graph(game, title="which answer beats which", order=range(3))

# %% [markdown]
# ## Why no reward can hold this table
#
# A reward gives each answer one number. The Bradley-Terry model, on which reward models are trained, then says
#
# $$P(i \succ j) = \frac{1}{1 + e^{-(r_i - r_j)}},$$
#
# so the answer with the larger reward wins. Rewards lie on a line, and a cycle does not. There are six orders of three
# rewards, and each gets the winner of at least one pair wrong:

# %%
P, names = game.P.numpy(), game.labels
for order in permutations(range(3)):  # from the largest reward to the smallest
    wrong = [(i, j) for k, i in enumerate(order) for j in order[k + 1 :] if P[i, j] < 0.5]
    assert wrong
    said = ", ".join(f"{names[i]} beats {names[j]}: no, {P[i, j]:.1f}" for i, j in wrong)
    print(" > ".join(names[i] for i in order), "   wrong:", said)

# %% [markdown]
# The best that a reward can do is the maximum-likelihood fit. It keeps how often each answer wins *on average* (the row
# sums of the two tables are equal), but not which answers it beats.

# %%
fit = games.analysis.ratings.bradley_terry(P)
fitted = fit.P.numpy()
np.testing.assert_allclose(fitted.sum(1), P.sum(1), atol=1e-9)
scores = fit.scores.round(decimals=6) + 0.0  # no -0.000
print("rewards:", ", ".join(f"{name} {r:+.3f}" for name, r in zip(names, scores, strict=True)))
print("\npair           true  fitted  fitted - true")
for i, j in ((1, 0), (2, 1), (0, 2)):
    numbers = f"{P[i, j]:.3f}   {fitted[i, j]:.3f}         {fitted[i, j] - P[i, j]:+.3f}"
    print(f"{names[i]} beats {names[j]}   {numbers}", "  the wrong winner" if fitted[i, j] < 0.5 else "")
best = int(fit.scores.argmax())
print(f"\nthe answer with the largest reward is {names[best]};", end=" ")
print(f"{names[int(P[:, best].argmax())]} beats it with probability {P[:, best].max():.1f}")

# %% [markdown]
# ## What "best" means instead
#
# Two players each choose an answer, or a mixture of answers. How much could one gain by a better choice?
#
# $$\mathrm{gap}(\pi) = 2 \left( \max_y P(y \succ \pi) - \tfrac{1}{2} \right).$$
#
# This *duality gap* is 0 exactly for a mixture that nothing beats, the Nash equilibrium. `games.nash` finds it exactly;
# in this table it is unique.

# %%
exact = [Fraction(float(p)).limit_denominator(100) for p in nash.policy]
print("Nash:", ", ".join(f"{name} {p}" for name, p in zip(names, exact, strict=True)), f"(unique: {bool(nash.unique)})")
print("P(answer beats Nash):", ", ".join(f"{p:.3f}" for p in game.win_rate(nash.policy)))
assert nash.gap < 1e-12
print()
candidates = {f"{name} alone": np.eye(3)[i] for i, name in enumerate(names)}
candidates |= {"each with 1/3": np.full(3, 1 / 3), "Nash": nash.policy}
for name, policy in candidates.items():
    print(f"duality gap of {name:<13}  {float(games.duality_gap(game, policy)):.3f}")

# %% [markdown]
# ## What the reward costs a policy
#
# A policy is trained to win without moving far from its reference; $\tau$ is the price of a nat of KL divergence. With
# a reward the best policy is $\pi \propto \mathrm{ref} \cdot e^{r / \tau}$. With the table it is the Nash of the game
# with that price, `games.regularised_nash`. Start from a reference that prefers the first answer, and let $\tau$ fall
# from 1 to 0.003. The reward's policy ends at one answer, which is beaten; the table's policy ends at the Nash. On its
# way the reward's policy passes by the Nash, but nothing in the reward stops it there.

# %%
reference = np.array([0.665, 0.245, 0.090])
prices = np.geomspace(1, 0.003, 60)
weights = reference * np.exp((fit.scores.numpy() - float(fit.scores.max())) / prices[:, None])
paths = {
    "trained on the reward": weights / weights.sum(1, keepdims=True),
    "trained on the table": np.stack(
        [solved.policy.numpy() for solved in games.equilibria.regularised_path(game, prices, reference)]
    ),
}
for name, path in paths.items():
    gaps = [float(games.duality_gap(game, policy)) for policy in path]
    print(f"{name:<22} gap {gaps[0]:.3f} at tau 1, {gaps[-1]:.3f} at tau {prices[-1]:g}, smallest {min(gaps):.3f}")
games.plots.simplex(paths, nash.policy, names, title="tau from 1 (hollow) to 0.003 (filled)")

# %% [markdown]
# ## What can hold a cycle
#
# Every table of margins $A = P - \tfrac12$ is the sum of a part that scores explain, $s_i - s_j$, and a cyclic part
# (the *Hodge* decomposition; the parts are orthogonal). Here the cyclic part is almost all of it.

# %%
margins = game.P - 0.5
parts = dict(zip(("P - 1/2", "scores", "cycle"), (margins, *games.analysis.social_choice.hodge(margins)), strict=True))
share = float(games.analysis.social_choice.curl_fraction(margins))
assert share > 0.9
print(f"share that no score explains: {share:.3f}")

figure = Figure(figsize=(7.5, 2.5), layout="constrained")
for axes, (title, part) in zip(figure.subplots(1, 3), parts.items(), strict=True):
    axes.imshow(part, cmap="RdBu", vmin=-0.5, vmax=0.5)
    for i, j in np.ndindex(3, 3):
        axes.text(j, i, f"{part[i, j] + 0.0:+.2f}", ha="center", va="center", fontsize=9)
    axes.set(title=title, xticks=range(3), yticks=range(3), xticklabels=names, yticklabels=names)
figure

# %% [markdown]
# One number per answer is too few, but two are enough: a skew-symmetric table of three answers is $A_{ij} = u_i v_j -
# v_i u_j$ for some $u$ and $v$. A preference *embedding* (`llm.oracles.GPM`) has this form, and a judge that reads both
# answers at once, such as PairRM, can represent it too.

# %%
A = margins.numpy()
left, right = A[:, 0] / A[0, 1], A[:, 1]  # u and v: two columns of the table, where it has rank 2
embedded = games.LowRankGame(left[:, None], right[:, None])
error = float(abs(embedded.win_rate(np.eye(3)).T - game.P).max())
assert error < 1e-12
for name, u, v in zip(names, left, right, strict=True):
    print(f"{name}: u {u + 0.0:+.3f}, v {v + 0.0:+.3f}")
print("largest error of the table that these numbers give: below 1e-12")

# %% [markdown]
# ## The same on real data
#
# The table says how often each of ten agents that play MuJoCo soccer wins against each other one (from OpenSpiel).
# Nobody planted the cycle in it.

# %%
soccer = games.zoo.mujoco_soccer()
nash = games.nash(soccer)
order = nash.policy.argsort(descending=True, stable=True).tolist()  # most played first, here and below
games.plots.payoff_table(soccer, nash, title="P(row beats column)", order=order)

# %%
P, names = soccer.P.numpy(), soccer.labels
for j in order:
    print(f"{names[j]} is beaten by", ", ".join(names[i] for i in order if P[i, j] > 0.5) or "none")
played = nash.policy.argsort(descending=True)[: int(nash.support.sum())].tolist()
print(f"\nNash (unique: {bool(nash.unique)}):", ", ".join(f"{names[i]} {nash.policy[i]:.3f}" for i in played))
for i, j in zip(played, played[1:] + played[:1], strict=True):
    print(f"  {names[i]} beats {names[j]} with probability {P[i, j]:.3f}")

fit = games.analysis.ratings.bradley_terry(P)
best = int(fit.scores.argmax())
pairs = np.triu_indices(len(P), 1)
wrong = int(((P[pairs] - 0.5) * (fit.P.numpy()[pairs] - 0.5) < 0).sum())
off = float(fit.residual.abs().max())
print(f"\nBradley-Terry: {wrong} of {len(pairs[0])} pairs with the wrong winner, off by up to {off:.3f}")
print(f"largest reward: {names[best]}, beaten by {names[int(P[:, best].argmax())]} with {P[:, best].max():.3f}")
alone = float(games.duality_gap(soccer, np.eye(10)[best]))
print(f"duality gap: {names[best]} alone {alone:.3f}, Nash below 1e-12")
assert int(games.analysis.social_choice.condorcet_winner(P)) == -1
assert nash.gap < 1e-12 < alone

# %% [markdown]
# Every agent is beaten by another one, so there is no *Condorcet winner* here either. The three agents of the Nash form
# a cycle, and the agent with the largest reward loses to another one.
#
# Next: [how self-play gets to the Nash](02_average_and_last_iterate.ipynb).
