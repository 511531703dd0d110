# %% [markdown]
# # A table has three rows. Does the same solver do the same to a language model?
#
# A policy need not be a row of numbers. Here it is a language model: a frozen base with its weights in 4 bits, under a
# LoRA adapter that is trained at every step. It may answer in one of three ways, and a table says which answer beats
# which. The picture draws the table's iterates as lines and the language model's as marks: for both solvers the marks
# lie on the lines. The rest explains what a step becomes, what the fit misses when it is cut short, and what sampling
# adds when answers can no longer be enumerated.
#
# No answer is drawn at random until the last section, and there the seed is fixed. It takes about a minute.

# %%
# %matplotlib inline
import contextlib
import io
import math
import os
import tempfile
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

warnings.filterwarnings("ignore", message="IProgress")  # no widgets are needed here
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
from nashward import games, llm
from nashward.llm.store.files import read_shard

mpl.rcParams["figure.dpi"] = 80  # small pictures
torch.set_num_threads(1)

game = games.zoo.comal_cycle()
ANSWERS = (
    "In short, bread is cheap.",
    "1. Find the bread. 2. Check it.",
    "Great question! I love bread. What do you think?",
)


def wins(prompt: str, first: str, second: str) -> float:
    """P(the first answer beats the second), read off the table."""
    return float(game.P[ANSWERS.index(first), ANSWERS.index(second)])


oracle = llm.oracles.Function(wins, symmetric=True, name="table")
model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY, lora=llm.Lora(rank=2))
ids = model.tokenizer([answer + model.tokenizer.eos_token for answer in ANSWERS], add_special_tokens=False)["input_ids"]
EXACT = llm.Fit(
    optimiser="lbfgs",
    learning_rate=1.0,
    schedule="constant",
    warmup=0.0,
    epochs=1,
    held_out=0.0,
    validation=0.0,
    max_grad_norm=math.inf,
)


def play(solver, iterations: int, fit: llm.Fit = EXACT) -> tuple[np.ndarray, list[dict]]:
    """The mix of the three answers at pi_1 .. pi_T, [T, 3], and what each of the T steps reports."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run = llm.SelfPlay(
            policy=model,
            oracle=oracle,
            solver=solver,
            prompts=["Tell me about bread."],
            folder=Path(folder) / "run",
            source=llm.Enumerated(tuple(map(tuple, ids))),
            config=llm.RunConfig(iterations=iterations, fit=fit),
        ).run(progress=False)
        files = [
            max((run.folder / f"iteration-{t:02d}" / "responses").glob("*.parquet")) for t in range(1, iterations + 1)
        ]
        return np.array([[row["weight"] for row in read_shard(file)] for file in files]), run.metrics


ITERATIONS = 16
solvers = {"MWU": games.MWU(2.0), "optimistic MWU": games.OptimisticMWU(2.0)}
written = {name: play(solver, ITERATIONS)[0] for name, solver in solvers.items()}
start = written["MWU"][0]
expected = {}
for name, solver in solvers.items():
    solution = games.solve(
        game, solver, iterations=ITERATIONS - 1, start=start, record=range(1, ITERATIONS), keep_policies=True
    )
    expected[name] = np.concatenate([start[None], solution.policies["last"].numpy()])


def both(lines: dict[str, np.ndarray], marks: dict[str, np.ndarray], title: str) -> Figure:
    """Iterates on the simplex and their gaps: lines of the table, marks of the language model."""
    figure = games.plots.simplex(lines, games.nash(game).policy, game.labels, title=title)
    figure.set_size_inches(10, 4.2)
    grid = figure.add_gridspec(1, 2)
    (triangle,) = figure.axes
    triangle.set_subplotspec(grid[0, 0])
    axes = figure.add_subplot(grid[0, 1])
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    for k, (name, path) in enumerate(lines.items()):
        colour = games.plots.COLOURS[k]
        axes.plot(range(1, len(path) + 1), games.duality_gap(game, path), "-", color=colour, label=name)
    for k, path in enumerate(marks.values()):
        colour, mark = games.plots.COLOURS[k], games.plots.MARKS[k]
        triangle.plot(*(path @ corners).T, mark, color=colour, markersize=4, fillstyle="none")
        gaps = games.duality_gap(game, path)
        axes.plot(range(1, len(path) + 1), gaps, mark, color=colour, markersize=4, fillstyle="none")
    axes.set(yscale="log", xlabel="policy", ylabel="duality gap")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


both(expected, written, "lines: table; marks: language model")

# %% [markdown]
# `llm.SelfPlay` takes the same solver objects as `games.solve`. A solver does not know which of the two plays it.

# %%
for name, mixes in written.items():
    assert len(mixes) == ITERATIONS
    distance = float(games.total_variation(torch.tensor(mixes), torch.tensor(expected[name])).max())
    assert distance < 1e-3
    gap = float(games.duality_gap(game, mixes[-1]))
    print(f"{name}: language model and table differ by less than 0.001 in total variation; gap of the last {gap:.3f}")

# %% [markdown]
# The tests check this for every solver of the family (`tests/llm/test_enumerable.py`); `nashward demo --proof` draws
# four of them.
#
# ## What a step becomes
#
# A solver asks for $\log \text{next} = \log \text{anchor} + \text{size} \cdot P(y \succ \text{opponent}) +
# \text{constant}$. On a table that is one line. For a language model it is a regression: the adapter is trained until
# $\log \pi_\theta(y) - \log \text{anchor}(y)$ equals size times win probability, up to the constant, on the stored
# answers. The run reports how large the target was (root mean square, in nats) and what share of it was met. Above,
# L-BFGS met all of it. Now cut the training short, with a few passes of AdamW.

# %%
SHORT, passes = 6, (3, 12, 48)
achieved = {}
for epochs in passes:
    adamw = llm.Fit(
        optimiser="adamw",
        learning_rate=3e-3,
        schedule="constant",
        warmup=0.0,
        epochs=epochs,
        held_out=0.0,
        validation=0.0,
    )
    mixes, metrics = play(solvers["optimistic MWU"], SHORT, adamw)
    fits = [row["train"] for row in metrics]
    share, r2 = (float(np.mean([fit[name] for fit in fits])) for name in ("share", "r2"))
    distance = float(games.total_variation(torch.tensor(mixes), torch.tensor(expected["optimistic MWU"][:SHORT])).max())
    achieved[epochs] = distance
    print(f"{epochs:>3} passes: share of the target {share:.2f}, R² {r2:.3f}, distance from the table {distance:.3f}")
assert achieved[48] < 0.02 < achieved[3]

# %% [markdown]
# The share says how much of the step was made, R² how well the targets were met; both are 1 for the exact step. If R²
# is low, the language model does not play what the solver asked for. A run prints both after every fit: look there
# first.
#
# ## What sampling adds
#
# Answers of a real model cannot be enumerated: K of them are sampled per prompt, and a win rate is a mean over K. On a
# table, `feedback=games.feedback.SampledFeedback(K)` does the same. Here are forty runs of optimistic multiplicative
# weights for each K, with the step that was exact above:

# %%
RUNS, T = 40, 400
many = games.PreferenceGame(game.P.expand(RUNS, 3, 3))
noisy = {}
for K in (4, 32, 256):
    noisy[f"K = {K}"] = games.solve(
        many,
        games.OptimisticMWU(2.0),
        iterations=T,
        start=torch.tensor(start),
        feedback=games.feedback.SampledFeedback(K, seed=1),
    )
ends = {which: [float(s.gaps[which][-1].median()) for s in noisy.values()] for which in ("last", "average")}
for name, last, average in zip(noisy, ends["last"], ends["average"], strict=True):
    print(f"{name:<8} median gap after {T} iterations: last {last:.3f}, average {average:.3f}")
for which in ends:
    assert sorted(ends[which], reverse=True) == ends[which]  # more samples, smaller gaps
assert all(average < last / 4 for last, average in zip(ends["last"], ends["average"], strict=True))
picture = games.plots.quantiles(noisy, title="last iterate, 40 runs: median, middle half and nine tenths")
picture.axes[0].set(ylim=(1e-2, 1), xlim=(1, T))
picture

# %% [markdown]
# With samples the last iterate no longer converges: it hovers around the Nash, nearer for more samples. A smaller step
# helps little, since both the pull towards the Nash and the noise are of second order in the step. The average is much
# nearer to the Nash than the last iterate. A language model also averages over its prompts: as far as one adapter
# serves them all, K times the number of prompts is what counts.
#
# Next: [a whole run, read end to end](05_a_low_memory_run.ipynb).
