# %% [markdown]
# # Self-play circles the Nash. Must one average, or can the last model be kept?
#
# SPPO is derived from multiplicative weights, which raise the probability of what wins against the current policy. The
# theorem is about the *average* of all policies played; a practitioner wants the *last* one. The picture shows both:
# the average goes in, the last iterate goes around and slowly out. The rest says what the theorem promises, what it
# does not, what it says about SPPO as it is run, and how one change makes the last iterate converge.
#
# Nothing here is drawn at random. It takes about ten seconds.

# %%
# %matplotlib inline
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from nashward import games, theory

mpl.rcParams["figure.dpi"] = 80  # small pictures

T = 2000
game = games.zoo.comal_cycle()
nash = games.nash(game)
start = np.array([0.665, 0.245, 0.090])
theorem = theory.MWUAverage.best(T, theory.complexity(start))
every = {"start": start, "record": range(1, T + 1), "keep_policies": True}
mwu = games.solve(game, games.MWU(theorem.step), iterations=T, **every)
games.plots.simplex(
    {"last iterate": mwu.policies["last"], "average": mwu.policies["average"]},
    nash.policy,
    game.labels,
    title=f"multiplicative weights, {T} iterations",
    start=start,
)

# %% [markdown]
# Each corner is one answer alone. The ring marks the start of both paths; a filled mark shows where a path ends.
#
# ## The update, and the theorem
#
# $$\pi_{t+1}(y) \propto \pi_t(y) \, e^{\text{step} \cdot P(y \succ \pi_t)}$$
#
# `theory.MWUAverage`: the average of $\pi_1, \dots, \pi_T$ has a duality gap of at most
#
# $$\frac{\text{step}}{4} + \frac{2 C}{\text{step} \cdot T}, \qquad C = \max_y -\log \pi_1(y),$$
#
# in every symmetric game, for every step and every $T$. A small step makes the second term large, a large step the
# first. The step $\sqrt{8 C / T}$ balances them and gives the bound $\sqrt{2 C / T}$. The run above used that step.

# %%
print(f"C = {theorem.C:.3f} nats, best step for {T} iterations: {theorem.step:.4f}")
last, average, bound = mwu.gaps["last"].numpy(), mwu.gaps["average"].numpy(), theorem.bound(mwu.iterations)
assert (average <= bound).all()
print(f"duality gap after {T} iterations (the start has {games.duality_gap(game, start):.4f}):")
print(f"  last iterate  {last[-1]:.4f}")
print(f"  average       {average[-1]:.4f}   bound {bound[-1]:.4f}")
print(f"largest gap of the average as a share of its bound, over all iterations: {(average / bound).max():.2f}")
games.plots.gap_curves({"MWU": mwu}, {"bound for the average": theorem.bound}, title="multiplicative weights")

# %% [markdown]
# How tight is the bound? Play 500 iterations with each of many steps. The gap of the average stays below the bound
# everywhere. It is smallest near the step that minimises the bound, though far below the bound. The last iterate is
# near the Nash for no step.

# %%
HORIZON = 500
steps = np.geomspace(0.01, 3, 19)
ends = {"last": [], "average": []}
for step in steps:
    solution = games.solve(game, games.MWU(float(step)), iterations=HORIZON, start=start, record=[HORIZON])
    for which, values in ends.items():
        values.append(float(solution.gaps[which][-1]))
bounds = np.array([theory.MWUAverage(step, theorem.C).bound(HORIZON) for step in steps])
best = theory.MWUAverage.best(HORIZON, theorem.C)
assert (ends["average"] <= bounds).all()
assert min(ends["last"]) > 0.1
found = steps[int(np.argmin(ends["average"]))]
print(f"step with the smallest bound {best.step:.3f}; of those played the average is best at {found:.3f}")
print(f"smallest gap of the average {min(ends['average']):.4f} (bound {best.bound(HORIZON):.4f})", end=", ")
print(f"of the last iterate {min(ends['last']):.3f}")

picture = Figure(figsize=(6.4, 4), layout="constrained")
axes = picture.subplots()
axes.plot(steps, ends["last"], "o-", color=games.plots.COLOURS[0], label="last iterate")
axes.plot(steps, ends["average"], "s--", color=games.plots.COLOURS[1], label="average")
axes.plot(steps, bounds, ":", color="black", label="bound for the average")
axes.plot(best.step, best.bound(HORIZON), "*", color="black", markersize=12, label="its smallest value")
axes.set(xscale="log", yscale="log", xlabel="step", ylabel="duality gap", title=f"after {HORIZON} iterations")
axes.grid(alpha=0.25)
axes.legend(fontsize=8)
picture

# %% [markdown]
# ## The last iterate does leave
#
# This is a theorem too (`theory.MWULeaves`): if the Nash plays every answer, the divergence $\mathrm{KL}(\text{Nash}
# \,\|\, \pi_t)$ never falls, for a step of any size. Near the Nash a deviation grows by the factor $\sqrt{1 +
# \text{step}^2 \lambda^2}$ per iteration, where $\lambda$ is the frequency at which the game rotates.

# %%
kl = games.kl_divergence(nash.policy, mwu.policies["last"]).numpy()
assert (np.diff(kl) >= -1e-12).all()
lam = float(games.rotation_frequency(game, nash.policy))
near = (nash.policy.log() + 1e-4 * torch.tensor([1.0, 0.0, -1.0])).softmax(-1)  # beside the Nash
grown = games.solve(game, games.MWU(1.0), iterations=200, start=near, record=[100, 200], keep_policies=True)
early, late = games.kl_divergence(nash.policy, grown.policies["last"])
measured = float(late / early) ** (1 / 200)  # KL is of the second order: the root of the factor of 100 iterations
assert abs(measured - np.sqrt(1 + lam**2)) < 1e-4
print(f"KL(Nash || iterate): start {kl[0]:.3f}, after {T} iterations {kl[-1]:.3f}, never lower than before")
print(f"frequency {lam:.4f}; growth an iteration near the Nash, step 1: measured {measured:.5f}, ", end="")
print(f"formula {np.sqrt(1 + lam**2):.5f}")

# %% [markdown]
# ## What the theorem says of SPPO as it is run
#
# SPPO's paper proves the same kind of bound for its average, then runs three iterations with a step of 1000 and keeps
# the last model. `theory.explain_bound` says what is then left of the theorem. $C$ is $-\log \pi_1$ of a whole
# response, hundreds of nats; take 300.

# %%
for line in theory.explain_bound(step=1e3, iterations=3, C=300.0):
    print("-", line)
assert theory.SPPOTheorem(step=1e3, C=300.0).is_vacuous(iterations=3)
needed = int(np.ceil(2 * 300.0 / 0.1**2))
print(f"\niterations for a bound of 0.1 with the best step and C = 300: {needed}")

# %% [markdown]
# So the theorem is a reason to believe in self-play, but no guarantee for three large steps. What those achieve must be
# measured; the report of a run does so.
#
# ## Optimism: the last iterate converges
#
# Multiplicative weights respond to the opponent of this step, which has changed by the next. *Optimistic*
# multiplicative weights expect the next payoff to change as the last one did, and use $2 P \pi_t - P \pi_{t-1}$ instead
# of $P \pi_t$. With a constant step that is not too large, the last iterate converges to a Nash that plays every
# answer. For a language model this is what one wants: a single set of weights, not a mixture of all that were trained.

# %%
STEP = 1.0
solvers = {"MWU": games.MWU(STEP), "optimistic MWU": games.OptimisticMWU(STEP)}
cycle = {name: games.solve(game, solver, iterations=T, **every) for name, solver in solvers.items()}
print(f"step {STEP}, duality gap of the last iterate:")
for name, solution in cycle.items():
    gaps = {t: f"{float(solution.gaps['last'][t - 1]):.1e}" for t in (100, 200, 400)}
    print(f"  {name:<15}", "   ".join(f"t = {t}: {gap}" for t, gap in gaps.items()))
assert cycle["optimistic MWU"].gaps["last"][-1] < 1e-12 < 0.5 < cycle["MWU"].gaps["last"][-1]
print("last iterate of optimistic MWU, times 11:", ", ".join(f"{11 * p:.6f}" for p in cycle["optimistic MWU"].last))
games.plots.gap_curves(cycle, title=f"both with step {STEP}")

# %%
games.plots.simplex(
    {name: solution.policies["last"][:200] for name, solution in cycle.items()},
    nash.policy,
    game.labels,
    title=f"last iterates, step {STEP}, first 200 iterations",
    start=start,
)

# %% [markdown]
# ## The same on real data
#
# These are the ten MuJoCo soccer agents of the first notebook, from a uniform start. Margins are smaller, so optimism
# allows a larger step. The Nash leaves most agents out. The theorem on the last iterate assumes a Nash that plays all,
# but the last iterate converges here as well.

# %%
soccer, T = games.zoo.mujoco_soccer(), 4000
nash = games.nash(soccer)
theorem = theory.MWUAverage.best(T, np.log(10))
solutions = {
    "MWU": games.solve(soccer, games.MWU(theorem.step), iterations=T),
    "optimistic MWU": games.solve(soccer, games.OptimisticMWU(4.0), iterations=T),
}
for name, solution in solutions.items():
    last, average = (float(solution.gaps[which][-1]) for which in ("last", "average"))
    print(f"{name:<15} gap: last {f'{last:.4f}' if last > 1e-9 else 'below 1e-9'}, average {average:.4f}")
print(f"bound for the average of MWU (step {theorem.step:.3f}): {theorem.bound(T):.4f}")
assert solutions["MWU"].gaps["average"][-1] < theorem.bound(T)
assert solutions["optimistic MWU"].gaps["last"][-1] < 1e-9
assert games.total_variation(solutions["optimistic MWU"].last, nash.policy) < 1e-6
games.plots.gap_curves(solutions, {"bound for MWU's average": theorem.bound}, title="MuJoCo soccer")

# %% [markdown]
# So either use multiplicative weights and average, or optimistic multiplicative weights and keep the last iterate.
#
# Next: [what all these methods have in common](03_one_step_many_solvers.ipynb).
