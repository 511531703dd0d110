# %% [markdown]
# # Does a leaderboard need an equilibrium? AlpacaEval read as a game
#
# AlpacaEval lets every model play one opponent, the baseline, and ranks by the win rate against it. A preference game
# lets every model play every other one, and asks for the mixture that no model beats. Do the two readings disagree, and
# are there enough prompts to tell? The picture below shows both for one table.
#
# **Which data is shown.** AlpacaEval's annotations may not be shipped with this project (CC BY-NC 4.0), and the stored
# outputs contain nothing made from them. Without them the notebook reads a published table: eleven models under PairRM,
# from Figure 3 of the SPPO paper (arXiv 2405.00675), with the baseline that they started from. A table has no prompts,
# so 805 prompts are drawn from it. If you have the annotations on disk, set `NASHWARD_DATA` and run the notebook again:
#
# ```bash
# NASHWARD_DATA=folder jupyter lab notebooks/07_alpacaeval_as_a_game.ipynb    # reads folder/alpacaeval/annotations.npz
# ```
#
# `annotations.npz` holds `models` [M] and `preference` [805, M], the probability that the annotator prefers the model's
# answer to the baseline's (NaN: not judged), as AlpacaEval's `annotations.json` of each model gives it.

# %%
# %matplotlib inline
import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from nashward import games
from nashward.games.analysis import leaderboard, social_choice

mpl.rcParams["figure.dpi"] = 80  # small pictures
PROMPTS = 805


def of_annotations(file: Path) -> tuple[leaderboard.Battles, str, str]:
    """Battles among the models of AlpacaEval and the baseline, prompt by prompt.

    Two models never met: on a prompt the one whose answer the annotator liked more against the baseline's is taken as
    the winner. That is a rule of ours and no judgement of the pair.
    """
    data = np.load(file)
    known = data["preference"]
    scores = np.column_stack([known, np.where(np.isnan(known).all(1), np.nan, 0.5)])  # the baseline against itself
    wins = np.where(
        scores[:, :, None] > scores[:, None], 1.0, np.where(scores[:, :, None] == scores[:, None], 0.5, 0.0)
    )
    wins[:, range(wins.shape[1]), range(wins.shape[1])] = 0.0
    return (
        leaderboard.Battles.of_tables((*map(str, data["models"]), "baseline"), wins),
        "baseline",
        f"AlpacaEval's annotations, {file.name}",
    )


def of_figure(game: games.PreferenceGame, baseline: str) -> tuple[leaderboard.Battles, str, str]:
    """Battles drawn from a table, each pair once a prompt, independently."""
    n, random = len(game.labels), np.random.default_rng(0)
    upper = np.triu(random.random((PROMPTS, n, n)) < game.P.numpy(), 1).astype(float)
    lower = np.tril(np.ones((n, n)), -1) * (1 - upper.swapaxes(1, 2))
    return (
        leaderboard.Battles.of_tables(game.labels, upper + lower),
        baseline,
        f"SPPO paper, Figure 3; {PROMPTS} prompts drawn from it",
    )


found = Path(os.environ.get("NASHWARD_DATA", ".")) / "alpacaeval" / "annotations.npz"
if found.is_file():
    battles, baseline, source = of_annotations(found)
else:
    battles, baseline, source = of_figure(games.zoo.sppo_pairrm(), "Mistral-7B-Instruct-v0.2")
game, labels = battles.game, battles.labels
print("shown:", source)
print(f"{len(labels)} models, {battles.prompts} prompts, baseline {baseline}")

# %% [markdown]
# On the left is the table, with models in the order of their win rate against all; blue means that the row wins. On the
# right are the win rate against the baseline alone (the leaderboard's reading) and the Nash (the game's reading). The
# bands hold 90% of what other prompts would have given (the prompts resampled with replacement).

# %%
at = labels.index(baseline)
P = game.P
against_baseline = P[:, at]
bands = battles.bands(draws=400)
order = social_choice.borda(P).argsort(descending=True, stable=True).tolist()
shown = order[:12]

picture = Figure(figsize=(11, 4.8), layout="constrained")
table, rates, lottery = picture.subplots(1, 3, width_ratios=(1.5, 1, 1))
image = table.imshow(P[order][:, order], cmap="RdBu", vmin=0, vmax=1)
table.set(title="P(row beats column)", xticks=[], yticks=range(len(order)))
table.set_yticklabels([labels[i] for i in order], fontsize=7)
picture.colorbar(image, ax=table, shrink=0.6)
y = range(len(shown))
rates.barh(y, against_baseline[shown], color=games.plots.COLOURS[5])
rates.set(title="win rate against the baseline", xlim=(0, 1))
middle = bands.lottery[shown].numpy()
error = np.stack([middle - bands.low[shown].numpy(), bands.high[shown].numpy() - middle]).clip(0)
lottery.barh(y, middle, color=games.plots.COLOURS[0])
lottery.errorbar(middle, y, xerr=error, fmt="none", color="black", capsize=2)
lottery.set(title="Nash, 90% band", xlim=(0, 1.02))
for axes in (rates, lottery):
    axes.set_yticks(y, [""] * len(shown) if axes is lottery else [labels[i] for i in shown], fontsize=7)
    axes.invert_yaxis()
picture

# %%
equilibrium = games.nash(game)
assert equilibrium.gap < 1e-12
winner = int(social_choice.condorcet_winner(P))
print("beats every other:", labels[winner] if winner >= 0 else "none")
print("Smith set:", ", ".join(labels[i] for i in np.flatnonzero(social_choice.smith_set(P))))
triples = len(labels) * (len(labels) - 1) * (len(labels) - 2) // 6
print(f"rings of three: {int(social_choice.cyclic_triples(P))} of {triples}")
print(f"share of the margins that no score explains: {float(social_choice.curl_fraction(P - 0.5)):.4f}")
fit = battles.ratings
print(f"largest miss of a Bradley-Terry fit: {float(fit.residual.abs().max()):.3f}")
print("\nmodel                               against the baseline   against all    Nash   90% band")
for i in shown:
    mean = float(social_choice.borda(P)[i])
    band = f"{float(bands.low[i]):.2f} to {float(bands.high[i]):.2f}"
    print(f"{labels[i]:<35} {float(against_baseline[i]):>20.3f} {mean:>13.3f} {float(bands.lottery[i]):>7.3f}   {band}")
if winner >= 0:  # then the Nash is that model, and nothing else
    assert equilibrium.policy[winner] > 1 - 1e-12

# %% [markdown]
# If one model beats every other one, the Nash is that model alone, and the two readings agree on the winner. The
# published table is of this kind: eleven models from one line of training, compared by one judge, nearly ordered by a
# score. For *such* a leaderboard an equilibrium only confirms that nothing was missed.
#
# What the game does add is the band: if it leaves room for a second model, the prompts do not tell the best two apart,
# whatever the ranks say.
#
# ## Would one have seen a cycle?
#
# A table may also look transitive because there are too few prompts. Plant a cycle among the first three models of the
# ranking, so that each beats the next with probability $\tfrac12 + m$, and draw prompts. Does the cycle show in the
# drawn table, and does the test of scores against cycles (`Ratings.misfit_p_value`) reject scores?

# %%
DRAWS = 100
random = np.random.default_rng(1)
sizes, margins = (50, 200, 805, 3200), (0.01, 0.03, 0.06)
rings, rejected = np.zeros((2, len(margins), len(sizes)))
for a, m in enumerate(margins):
    for b, size in enumerate(sizes):
        won = random.binomial(size, 0.5 + m, size=(DRAWS, 3))  # first beats second, second third, third first
        rings[a, b] = (won > size / 2).all(1).mean()
        for x, y, z in won:
            wins = np.array([[0, x, size - z], [size - x, 0, y], [z, size - y, 0]])
            rejected[a, b] += games.analysis.ratings.bradley_terry(wins, smoothing=1.0).misfit_p_value < 0.05
rejected /= DRAWS
for title, shares in (("the ring shows", rings), ("scores are rejected at 5%", rejected)):
    print(f"{title}, share of {DRAWS} draws")
    print("  prompts    " + "".join(f"{size:>8}" for size in sizes))
    for m, row in zip(margins, shares, strict=True):
        print(f"  m = {m:.2f}   " + "".join(f"{share:>8.2f}" for share in row))
assert rejected[-1, sizes.index(805)] > 0.95  # a ring of 56 to 44 is seen with AlpacaEval's number of prompts
assert rejected[0, sizes.index(805)] < 0.5  # one of 51 to 49 is not

# %%
picture = Figure(figsize=(6.4, 3.4), layout="constrained")
axes = picture.subplots()
for m, row, colour, mark in zip(margins, rejected, games.plots.COLOURS, games.plots.MARKS, strict=False):
    axes.plot(sizes, row, "-", marker=mark, color=colour, label=f"each beats the next with {0.5 + m:.2f}")
axes.axvline(PROMPTS, color="black", linestyle=":", linewidth=1)
axes.axhline(0.05, color="black", linewidth=0.8)
axes.set(
    xscale="log", xlabel="prompts (dotted: AlpacaEval's 805)", ylabel="how often the cycle is found", ylim=(0, 1.03)
)
axes.grid(alpha=0.25)
axes.legend(fontsize=8)
picture

# %% [markdown]
# With 805 prompts a cycle of 56 to 44 is found and one of 51 to 49 is not. So "no cycles" means "none larger than
# that".
#
# ## What one baseline cannot show
#
# A leaderboard against one baseline is one column of the table. It holds no pair of challengers, so no statistic of it
# can show a cycle: two tables with the same column can have different equilibria. Here the three pairs among the first
# three models are turned into a cycle (the ring), and the leaderboard does not change.

# %%
first, second, third = [i for i in order if i != at][:3]
twisted = P.clone()
for i, j in ((first, second), (second, third), (third, first)):
    twisted[i, j], twisted[j, i] = 0.6, 0.4
ring = games.PreferenceGame(twisted, labels=labels)
other = games.nash(ring)
assert torch.equal(ring.P[:, at], P[:, at])
assert int(social_choice.condorcet_winner(ring.P)) == -1
print("win rates against the baseline: the same for every model")
for name, found in (("the table", equilibrium), ("the ring", other)):
    mix = ", ".join(f"{labels[i]} {float(found.policy[i]):.2f}" for i in np.flatnonzero(found.support))
    print(f"Nash of {name}: {mix}")
top = int(against_baseline.argmax())
alone = torch.eye(len(labels), dtype=torch.float64)[top]
print(f"duality gap of the leaderboard's first, {labels[top]}:", end=" ")
print(
    f"{float(games.duality_gap(game, alone)):.3f} in the table, {float(games.duality_gap(ring, alone)):.3f} in the ring"
)

# %% [markdown]
# So judge the pairs, and then look for cycles. `nashward leaderboard answers/ --prompts prompts.jsonl --oracle ...`
# does both.
