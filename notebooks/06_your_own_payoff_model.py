# %% [markdown]
# # I have a judge of my own. How does a model learn to win before it?
#
# In four moves: *write* the judge as an oracle (one method), *check* it (one call), *fit* a model to its verdicts if it
# is too slow or too expensive to call during training (one call), and *align* with that model. The last picture shows
# the result: the table of the judge, what the fitted oracle learned of it, and where the policy went. At the end the
# judge itself, not its model, says whether the policy became better.
#
# Everything runs on the pocket models that come with the project. Seeds are fixed. It takes about a minute.

# %%
# %matplotlib inline
import contextlib
import io
import os
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

warnings.filterwarnings("ignore", message="IProgress")  # no widgets are needed here
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
from nashward import games, llm
from nashward.llm.pocket import styles

mpl.rcParams["figure.dpi"] = 80  # small pictures
torch.set_num_threads(1)

# %% [markdown]
# ## Write it
#
# Our judge looks at how a response is written. Answers in steps beat direct ones, direct ones beat friendly ones, and
# friendly ones beat steps; evasive and garbled answers lose. (The shipped PairRM has learned the opposite cycle.) The
# oracle needs one method: for each prompt and each given pair of candidates, it returns the log-odds that the first
# beats the second.

# %%
KINDS = (*styles.STYLES, "no style")
TABLE = np.full((5, 5), 0.5)
for first, second, p in (
    ("steps", "direct", 0.85), ("direct", "friendly", 0.70), ("friendly", "steps", 0.75),
    *((good, bad, 0.90) for good in KINDS[:3] for bad in KINDS[3:]),
):  # fmt: skip
    i, j = KINDS.index(first), KINDS.index(second)
    TABLE[i, j], TABLE[j, i] = p, 1 - p


def kind(text: str) -> int:
    style = styles.style_of(text)
    return KINDS.index("no style") if style is None else style


class Judge(llm.oracles.PreferenceOracle):
    name, fingerprint, symmetric = "how it is written", "how it is written, version 1", True

    def raw_logits(self, prompts, candidates, pairs):
        kinds = [[kind(text) for text in texts] for texts in candidates]
        log_odds = np.log(TABLE) - np.log(1 - TABLE)
        return [
            np.array([log_odds[row[i], row[j]] for i, j in wanted]) for row, wanted in zip(kinds, pairs, strict=True)
        ]


texts = ["In short, tea is cheap.", "1. Find the tea. 2. Check it.", "Oh, nice! I love tea. How about you?"]
(result,) = llm.oracles.preference_matrices(Judge(), ["Tell me about tea."], [texts])
print(result.P.round(2))
np.testing.assert_allclose(result.P, TABLE[:3, :3])

# %% [markdown]
# ## Check it
#
# `check` asks about a hundred pairs and verifies what the oracle promises. Use it in your tests. Our oracle passes; one
# that prefers whatever is shown first does not, and the check names the fault.

# %%
passed = llm.oracles.check_oracle(Judge())
print(f"{len(passed)} checks passed")


class FirstIsBetter(Judge):
    def raw_logits(self, prompts, candidates, pairs):
        return [logits + 0.1 for logits in super().raw_logits(prompts, candidates, pairs)]


try:
    llm.oracles.check_oracle(FirstIsBetter())
except llm.oracles.ConformanceError as error:
    print(error)
else:
    raise AssertionError("an oracle that breaks its promise passed")

# %% [markdown]
# ## Fit it
#
# Suppose that the judge is a person: we get only 800 pairs, one verdict each, and verdicts are noisy. We fit two models
# to them with the same call. One starts from the shipped PairRM and reads both responses together; the other starts
# from the policy and gives each response a reward (Bradley-Terry). Only a head is trained, on frozen states, which
# takes seconds.

# %%
random = np.random.default_rng(0)


def written(style: int) -> str:
    """A response, in one of twenty cases garbled."""
    topic = styles.TOPICS[int(random.integers(len(styles.TOPICS)))]
    return styles.garbled(random) if random.random() < 0.05 else styles.response(style, topic, random)


rows = []
for prompt in styles.held_out_prompts(800, seed=7):
    a, b = (written(int(style)) for style in random.choice(4, 2, replace=False))
    p = TABLE[kind(a), kind(b)]
    rows.append({"prompt": prompt[:90] or "?", "a": a, "b": b, "wins": int(random.random() < p), "n": 1})
votes = llm.oracles.read_votes(rows)
settings = llm.oracles.FitSettings(
    train="head", layout="published", folds=2, epochs=6, learning_rate=1e-2, near_duplicates=0, length_matched=0,
    style_swapped=0, ensemble=False,
)  # fmt: skip


def fitted(form: str, base: Path) -> llm.oracles.OracleFit:
    with contextlib.redirect_stderr(io.StringIO()):  # bars of libraries
        return llm.oracles.fit_oracle(votes, base, form, f"oracles/{form}", settings, device="cpu", progress=False)


both, reward = fitted("pairrm", llm.pocket.PAIRRM), fitted("bt", llm.pocket.POLICY)
true = np.array([TABLE[kind(vote.a), kind(vote.b)] for vote in votes])
least = float(-(true * np.log(true) + (1 - true) * np.log(1 - true)).mean())
print("held-out log-loss, nats a verdict")
print(f"  a coin                {both.chance:.3f}")
print(f"  the length alone      {both.length:.3f}")
print(f"  a reward              {reward.log_loss:.3f} ± {reward.standard_error:.3f}")
print(f"  both read together    {both.log_loss:.3f} ± {both.standard_error:.3f}")
print(f"  the judge's own table {least:.3f}   (on average no model does better: verdicts are uncertain)")
assert both.log_loss < reward.log_loss - 0.05 < both.chance

# %% [markdown]
# The reward model learns that evasive answers lose, but cannot represent the cycle; the model that reads both gets near
# the best possible. The shell command for this is `nashward fit-oracle --pairs votes.jsonl --base ... --kind pairrm
# --train head`.
#
# What did it learn? We compare four new responses to each of 20 new prompts with each other:

# %%
oracle = llm.oracles.PairRM.from_pretrained(both.folder, device="cpu")
checked = styles.held_out_prompts(20, seed=9)
answers = [[styles.response(style, "bread", random) for style in range(4)] for _ in checked]
learned = np.mean([result.P for result in llm.oracles.preference_matrices(oracle, checked, answers)], axis=0)
judges, models = (games.PreferenceGame(P, labels=styles.STYLES) for P in (TABLE[:4, :4], learned))
for title, game in (("the judge", judges), ("the fitted oracle", models)):
    nash = games.nash(game).policy
    print(f"Nash of {title}:", ", ".join(f"{name} {float(p):.2f}" for name, p in zip(game.labels, nash, strict=True)))
off = float(abs(learned - TABLE[:4, :4]).max())
lost = float(games.duality_gap(judges, games.nash(models).policy))
print(f"largest error of a win probability {off:.2f}; gap of the fitted Nash in the judge's own game {lost:.3f}")
assert lost <= 2 * off  # theory.OracleError: a gap moves by at most twice the largest error of the table

# %% [markdown]
# ## Align with it
#
# The fitted oracle is used like any other. We play three iterations on 32 prompts.

# %%
short = [prompt for prompt in styles.held_out_prompts(600) if prompt.strip() and len(prompt) <= 90]
prompts, new = (list(dict.fromkeys(short))[a : a + 32] for a in (0, 32))
play = llm.SelfPlay(
    policy=llm.pocket.POLICY,
    oracle=oracle,
    solver=games.OptimisticMWU(3.0),
    prompts=prompts,
    folder="run",
    config=llm.RunConfig(
        iterations=3,
        sampling=llm.Sampling(max_new_tokens=48, batch=256),
        fit=llm.Fit(learning_rate=3e-3, epochs=3, batch=4),
        lora=llm.Lora(rank=8),
    ),
)
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    run = play.run(progress=False)
print("share of the target met in training:", ", ".join(f"{row['train']['share']:.2f}" for row in run.metrics))

# %%
policies = [llm.Mixture(((folder, 1.0),)) for folder in (run.folder / "start" / "adapter", run.last)]
ids = [play.model.encode(llm.Prompt(({"role": "user", "content": text},))) for text in new]
drawn = [
    [[one.text for one in row] for row in policy.sample(play.model, ids, 5, play.config.sampling, seed=k)]
    for k, policy in enumerate(policies)
]
rates = {
    "the fitted oracle": llm.evaluation.win_rate(oracle, new, drawn[1], drawn[0]),
    "the judge": llm.evaluation.win_rate(Judge(), new, *drawn[::-1]),
}
for title, rate in rates.items():
    print(f"32 new prompts, the last iterate against the start, says {title}: {rate}")
assert rates["the judge"].value - 2 * rates["the judge"].standard_error > 0.5

# %%
shares = [np.bincount([kind(text) for row in texts for text in row], minlength=5) / (5 * len(new)) for texts in drawn]
nash = games.nash(judges).policy.numpy()
picture = Figure(figsize=(11, 3.6), layout="constrained")
left, middle, right = picture.subplots(1, 3, width_ratios=(1, 1, 1.4))
for axes, title, P in ((left, "the judge", TABLE[:4, :4]), (middle, "the fitted oracle", learned)):
    axes.imshow(P, cmap="RdBu", vmin=0, vmax=1)
    for i, j in np.ndindex(4, 4):
        axes.text(
            j,
            i,
            f"{P[i, j]:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="w" if abs(P[i, j] - 0.5) > 0.33 else "k",
        )
    axes.set(title=title, xticks=range(4), yticks=range(4))
    axes.set_xticklabels(styles.STYLES, rotation=40, fontsize=8)
    axes.set_yticklabels(styles.STYLES, fontsize=8)
series = (("start", shares[0]), ("last iterate", shares[1]), ("Nash of the judge", [*nash, 0.0]))
for k, (label, values) in enumerate(series):
    right.bar(np.arange(5) + 0.27 * (k - 1), values, 0.25, color=games.plots.COLOURS[k], label=label)
right.set(xticks=range(5), ylabel="share of the responses", title="what the policy writes, on new prompts")
right.set_xticklabels(KINDS, fontsize=8)
right.legend(fontsize=8)
picture

# %% [markdown]
# A gain under the fitted oracle but not under the judge would mean that the policy exploits the model. So ask the judge
# again, on prompts that were not trained on, before you believe a win rate. `docs/oracles.md` has the other ways to
# bring a judge: a function, a reward of TRL's trainers, an object with `judge`, a file of votes.
#
# Next: [a leaderboard as a game](07_alpacaeval_as_a_game.ipynb).
