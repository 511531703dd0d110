# %% [markdown]
# # Ten methods from ten papers. What is the difference, and which step size does each bear?
#
# Self-play methods (SPPO, INPO, Nash-MD, ONPO, COMAL, MPO, ...) look different in their papers. Each is a rule that
# picks an anchor, an opponent and a size for the same *mirror step*. The picture shows what that choice decides. On one
# cycle, from one start, some never converge, some converge to a point beside the Nash, and some reach the Nash to the
# last digit. The rest shows the rules, adds a new one in six lines, and finds the largest step for each, by eye and by
# formula.
#
# Nothing here is drawn at random. It takes about twenty seconds.

# %%
# %matplotlib inline
import dataclasses
from itertools import count

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from nashward import games, theory

mpl.rcParams["figure.dpi"] = 80  # small pictures

game = games.zoo.comal_cycle()
nash = games.nash(game)
start = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).softmax(-1)
SOLVERS = {
    "MWU (SPPO)": games.MWU(0.5),
    "momentum (APO)": games.Momentum(0.5, 0.3, nesterov=True),
    "INPO": games.INPO(0.38, 0.1),
    "Nash-MD": games.NashMD(0.38, 0.1),
    "magnet (MMD)": games.MagneticMirrorDescent(0.4, 0.1),
    "moving magnet (MPO)": games.MagnetReset(0.4, 0.1, every=30),
    "proximal point (COMAL)": games.ProximalPoint(0.38, 0.1, inner=20),
    "optimistic MWU": games.OptimisticMWU(2.0),
    "two sequences (ONPO)": games.OptimisticMWU(2.0, two_sequences=True),
    "extragradient (EGPO)": games.ExtraGradient(3.0),
}
BUDGET = 1200  # evaluations of payoffs


def payoffs(solver) -> int:
    """How many payoffs one iterate takes: the opponents that the solver's Steps name, each counted once."""
    handle = games.Policy(None)
    play = solver.play(handle, handle)
    step = next(play)
    opponents = {frozenset(step.opponent or ())}
    while not step.is_iterate:
        step = play.send(games.Policy(None))
        opponents.add(frozenset(step.opponent or ()))
    return len(opponents - {frozenset()})


gaps = {}
picture = Figure(figsize=(7.2, 4.4), layout="constrained")
axes = picture.subplots()
for k, (name, solver) in enumerate(SOLVERS.items()):
    each = payoffs(solver)
    solution = games.solve(game, solver, iterations=BUDGET // each, start=start, record=range(1, BUDGET // each + 1))
    gaps[name] = solution.gaps["last"].numpy()
    worst = np.maximum.accumulate(gaps[name][::-1])[::-1].clip(1e-12)  # from here on: circling makes lines jagged
    style, colour = "-" if worst[-1] < 0.01 else "--", games.plots.COLOURS[k % len(games.plots.COLOURS)]
    axes.plot(solution.iterations * each, worst, style, color=colour, label=name, linewidth=1.5)
axes.set(
    xscale="log", yscale="log", xlabel="evaluations of payoffs", ylabel="largest gap of the last iterate from here on"
)
SHOWN = 0.9 * BUDGET  # behind it few iterates are left, and lines that circle fall to where they happen to end
axes.set(xlim=(10, SHOWN), title="ten methods on one cycle (dashed: do not reach the Nash)")
axes.grid(alpha=0.25)
axes.legend(fontsize=7, loc="lower left")
picture

# %% [markdown]
# The horizontal axis counts what costs samples and judgements when a language model plays. There are three kinds of
# methods.

# %%
regularised = games.regularised_nash(game, 0.1, start).policy
cost = float(games.duality_gap(game, regularised))
print("solver                  step    payoffs an iterate    gap at the end")
for name, solver in SOLVERS.items():
    gap = float(gaps[name][-1])
    shown = f"{gap:.4f}" if gap > 1e-4 else "below 1e-4" if gap > 1e-9 else "below 1e-9"
    print(f"{name:<23} {solver.step:>4}    {payoffs(solver):>18}    {shown}")
print(f"\ngap of the Nash of the game with the price tau = 0.1 on leaving the start: {cost:.4f}")
for name in ("INPO", "magnet (MMD)"):
    assert abs(float(gaps[name][-1]) - cost) < 1e-6
for name in ("optimistic MWU", "two sequences (ONPO)", "extragradient (EGPO)"):
    assert gaps[name][-1] < 1e-9
for name in ("MWU (SPPO)", "momentum (APO)"):
    assert gaps[name][-1] > 0.1

# %% [markdown]
# - *Never arrives*: multiplicative weights, with or without momentum. Their average arrives ([notebook
#   2](02_average_and_last_iterate.ipynb)).
# - *Arrives beside the Nash*: methods with a pull to a fixed reference. INPO and the magnet end at the Nash of the game
#   with a price $\tau$ on leaving the reference, here with a gap of 0.15; Nash-MD with a constant step ends near it.
# - *Reaches the Nash*: optimism and extragradient quickly, a moving reference (COMAL, MPO) more slowly.
#
# ## One step
#
# Every Step is
#
# $$\log \text{next}(y) = \sum_k w_k \log \pi_k(y) + \text{size} \cdot \sum_j c_j P(y \succ \rho_j) + \text{constant}.$$
#
# A solver is a generator that yields Steps and receives the policy that each Step made. It never looks inside a policy,
# so we can give it names instead and read what it asks for:


# %%
def show_steps(solver, steps: int) -> None:
    """Print the Steps that a solver yields when it is handed policies that are mere names."""
    play = solver.play(games.Policy(None, "x1"), games.Policy(None, "ref"))
    step, made = next(play), 1
    for _ in range(steps):
        name = f"x{made + 1}" if step.is_iterate else f"h{made}"
        opponent = f"{step.size:g} P({step.opponent!r})" if step.opponent is not None else "0"
        print(f"  log {name} = log[{step.anchor!r}] + {opponent}")
        made += step.is_iterate
        step = play.send(games.Policy(None, name))


for name in ("MWU (SPPO)", "INPO", "Nash-MD", "optimistic MWU", "two sequences (ONPO)", "extragradient (EGPO)"):
    print(f"{name}, {SOLVERS[name]!r}")
    show_steps(SOLVERS[name], 3 if name != "Nash-MD" else 4)

# %% [markdown]
# ## A method of your own
#
# Say we want more foresight than optimism has, or less: a factor $f$ on the change of the last step. $f = 0$ is
# multiplicative weights, $f = 1$ optimistic multiplicative weights. This is the whole solver, for tables and for
# language models:


# %%
@dataclasses.dataclass(frozen=True)
class Foresight:
    step: float
    f: float

    def play(self, x, reference):
        previous = x
        for _ in count():
            previous, x = x, (yield games.Step(x, x + self.f * (x - previous), self.step, averaged=x))


show_steps(Foresight(2.0, 0.5), 3)
mine = games.solve(game, Foresight(2.0, 1.0), iterations=100, start=start)
theirs = games.solve(game, games.OptimisticMWU(2.0), iterations=100, start=start)
torch.testing.assert_close(mine.last, theirs.last, rtol=0.0, atol=1e-12)
print("Foresight(2, f=1) is OptimisticMWU(2): after 100 iterations they differ by less than 1e-12")

# %% [markdown]
# ## Which step does a method bear? By eye
#
# Start near the Nash, play 30 iterations, and read the factor by which the distance to the Nash changes per iteration.
# Below 1 the last iterate approaches the Nash, above 1 it leaves. Marks show what was played on the table.

# %%
FAMILY = {
    "MWU": games.MWU,
    "Foresight, f = 1/2": lambda step: Foresight(step, 0.5),
    "optimistic MWU": games.OptimisticMWU,
    "extragradient": games.ExtraGradient,
}
import warnings

warnings.simplefilter("ignore", games.StepWarning)  # steps beyond the threshold are what we are here for
lam = float(games.rotation_frequency(game, nash.policy))
beside = (nash.policy.log() + 1e-10 * torch.tensor([1.0, 0.0, -1.0])).softmax(-1)
steps = np.arange(0.25, 5.01, 0.25)


def distances(policies) -> torch.Tensor:
    """The deviation of log-probabilities from the Nash's, as a standard deviation under the Nash: sqrt(2 KL)."""
    deviation = policies.log() - nash.policy.log()
    mean = (nash.policy * deviation).sum(-1, keepdim=True)
    return (nash.policy * (deviation - mean) ** 2).sum(-1).sqrt()


def played(solver) -> float:
    """The factor an iteration by which a small deviation from the Nash grows, on the table."""
    path = games.solve(game, solver, iterations=30, start=beside, record=[15, 30], keep_policies=True)
    early, late = distances(path.policies["last"])
    return float(late / early) ** (1 / 15)


picture = Figure(figsize=(6.4, 4), layout="constrained")
axes = picture.subplots()
for (name, make), colour in zip(FAMILY.items(), games.plots.COLOURS, strict=False):
    by_eye = [played(make(float(step))) for step in steps]
    by_theory = [theory.local_factor(make(float(step)), lam) for step in steps]
    np.testing.assert_allclose(by_eye, by_theory, rtol=0.01)
    axes.plot(steps, by_eye, "o", color=colour, markersize=3.5)
    axes.plot(steps, by_theory, "-", color=colour, label=name, linewidth=1.2)
axes.axhline(1.0, color="black", linewidth=0.8)
for threshold in (1 / (np.sqrt(3) * lam), 1 / lam):
    axes.axvline(threshold, color="black", linestyle=":", linewidth=1)
axes.set(xlabel="step", ylabel="factor an iteration", ylim=(0.8, 1.3))
axes.set_title("marks: played; lines: one complex number; dotted: formulas")
axes.legend(fontsize=8)
picture

# %% [markdown]
# ## By formula
#
# Near the Nash a game is a rotation with one frequency $\lambda$ (`games.rotation_frequency`), so the question reduces
# to a single complex number. `theory.local_factor` plays the solver on this number (the lines above; they agree with
# the table within 1%). For two solvers the threshold has a closed form: $1 / (\sqrt 3 \lambda)$ for optimistic MWU and
# $1 / \lambda$ for extragradient. For any other solver, including ours, `theory.stable_below` finds it by bisection.

# %%
formulas = {"optimistic MWU": 1 / (np.sqrt(3) * lam), "extragradient": 1 / lam}
print(f"frequency {lam:.4f}\n                     found     formula")
for name, make in FAMILY.items():
    threshold = theory.stable_below(make, lam)
    print(f"{name:<20} {threshold:.4f}    {formulas[name]:.4f}" if name in formulas else f"{name:<20} {threshold:.4f}")
    if name in formulas:
        assert abs(threshold - formulas[name]) < 1e-6
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    games.solve(game, games.OptimisticMWU(3.0), iterations=1)
assert len(caught) == 1
print("\ngames.solve warns of OptimisticMWU(3):", caught[0].message)

# %% [markdown]
# Half of the foresight is not enough: with $f = 1/2$ no step is stable, as with multiplicative weights. How much is
# needed? The plot shows, for each $f$, the largest stable step times $\lambda$, which depends on the method alone. With
# more foresight than optimism, and also with much less, the largest stable step is smaller; with a little less it is
# slightly larger.

# %%
factors = np.round(np.arange(0.5, 3.01, 0.125), 3)
borne = np.array([theory.stable_below(lambda step, f=f: Foresight(step, float(f)), 1.0) for f in factors])
for f, step in zip(factors[:6], borne, strict=False):
    print(f"f = {f:.3f}: {step:.4f} / lambda")
assert 0.5 < factors[borne.argmax()] < 1
assert borne[factors <= 0.5].max() == 0
assert abs(borne[factors == 1.0][0] - 1 / np.sqrt(3)) < 1e-6
picture = Figure(figsize=(6.4, 3.2), layout="constrained")
axes = picture.subplots()
axes.plot(factors, borne, "o-", color=games.plots.COLOURS[0])
axes.plot(1.0, 1 / np.sqrt(3), "*", color="black", markersize=13, label="optimistic MWU")
axes.set(xlabel="foresight f", ylabel="largest stable step, times frequency", ylim=(0, None))
axes.grid(alpha=0.25)
axes.legend(fontsize=8)
picture

# %% [markdown]
# This is the same map for all games at once. Only a game's frequency matters, and in a preference game it is below $1 /
# (2 \sqrt 2) = 0.354$. So a step below 1.63 is safe for optimistic MWU near the Nash of *every* preference game.

# %%
frequencies = np.linspace(0.05, 0.35, 25)
grid = np.linspace(0.2, 8, 27)
table = [
    [theory.local_factor(games.OptimisticMWU(float(s)), float(f), iterations=60) for f in frequencies] for s in grid
]
assert 1 / (np.sqrt(3) / (2 * np.sqrt(2))) > 1.63
games.plots.stability_map(
    frequencies, grid, table, lambda lam: 1 / (np.sqrt(3) * lam), title="optimistic MWU: closes in (blue), leaves (red)"
)

# %% [markdown]
# Next: [the same solvers play a language model](04_from_a_table_to_a_language_model.ipynb).
