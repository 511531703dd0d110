# %% [markdown]
# # One small card: does it fit, and what did the run achieve?
#
# A run has three parts: `nashward plan` says whether it fits, before anything is loaded; `nashward align` plays; and
# the report shows the result. The first picture answers the first question for a model of 7 billion parameters. The
# last picture answers the second question for a run that is played here from beginning to end. That run is small: the
# *pocket models* that come with the project (0.95 million parameters in 4 bits, and a PairRM of 0.23 million), 32
# prompts, four iterations. The same code loads Mistral-7B and PairRM.
#
# The seed is fixed. It takes about a minute on a CPU.

# %%
# %matplotlib inline
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

warnings.filterwarnings("ignore", message="IProgress")  # no widgets are needed here
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")  # of PEFT with transformers 5.23
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
from transformers import MistralConfig

from nashward import games, llm
from nashward.cli.main import main
from nashward.llm.pocket import styles
from nashward.llm.store.files import read_shard

mpl.rcParams["figure.dpi"] = 80  # small pictures
torch.set_num_threads(1)


def nashward(line: str) -> str:
    """The command `nashward` as a shell has it, without starting one; what it prints is returned."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(shlex.split(line)) == 0, line
    return printed.getvalue()


# %% [markdown]
# ## Plan
#
# A plan reads only the configuration of a model, so a folder with that file is enough. This is Mistral-7B's.

# %%
MistralConfig().save_pretrained("mistral-7b")
plan = nashward("plan --policy mistral-7b --memory 6GiB")
print(plan[: plan.index("about")])

# %% [markdown]
# Sampling and training never share the card with the oracle; the base is in 4 bits, and training never holds the logits
# of a whole text. The size of the card decides how much is done at once and, below 6 GiB, where the layers are kept.
# Each row took up to half a minute, so the rows are stored here; the row for 6 GiB is compared with the plan above.

# %%
# for GIB in 2 4 6 8 12 24: nashward plan --policy mistral-7b --memory ${GIB}GiB
#       card: peaks of sampling, scoring, training in GiB; responses sampled at once, tokens trained at once, layers
STORED = {
    2: (1.23, 0.79, 1.34, 4, 1024, "streamed from the host"),
    4: (3.14, 1.18, 2.12, 18, 4096, "streamed from the host"),
    6: (5.02, 4.18, 5.03, 9, 3072, "on the card"),
    8: (6.99, 4.32, 5.26, 23, 4096, "on the card"),
    12: (10.79, 4.32, 5.26, 50, 4096, "on the card"),
    24: (12.76, 4.32, 5.26, 64, 4096, "on the card"),
}
peaks = tuple(
    float(line.split()[-1]) for line in plan.splitlines() if line.startswith(("sampling", "scoring", "train"))
)
assert peaks == STORED[6][:3]
assert f"--sampling-batch {STORED[6][3]} --tokens {STORED[6][4]}" in plan

picture = Figure(figsize=(7.5, 3.8), layout="constrained")
axes = picture.subplots()
for k, phase in enumerate(("sampling", "scoring", "training")):
    heights = [row[k] for row in STORED.values()]
    axes.bar(np.arange(len(STORED)) + 0.25 * (k - 1), heights, 0.23, color=games.plots.COLOURS[k], label=phase)
for x, (card, row) in enumerate(STORED.items()):
    assert max(row[:3]) < card
    axes.plot([x - 0.4, x + 0.4], [card, card], color="black", linewidth=1.5, label="the card" if x == 0 else None)
    axes.text(x, min(card, 14) + 0.3, f"{row[3]} at once", ha="center", fontsize=8)
labels = [
    f"{card} GiB\nlayers {row[5]}".replace(" from", "\nfrom").replace(" on", "\non") for card, row in STORED.items()
]
axes.set_xticks(range(len(STORED)), labels, fontsize=8)
axes.set(ylabel="peak, GiB", ylim=(0, 16), title="Mistral-7B: peaks by phase, and responses sampled at once")
axes.legend(fontsize=8, loc="upper left")
picture

# %% [markdown]
# The figures come from shapes: the real modelling code is run on tensors without data. The CUDA context and the
# allocator's rounding are estimated, and reserved on the card (0.80 GiB of 6).
#
# ## Run
#
# A run is one command. It is given here in two parts, to show that a run continues where it stopped: the first part
# stops after sampling, the second is the full command. The same happens after Ctrl-C, a power cut or a full disk.

# %%
shutil.copytree(llm.pocket.POLICY, "policy")
shutil.copytree(llm.pocket.PAIRRM, "pairrm")
short = [prompt for prompt in styles.held_out_prompts(400) if prompt.strip() and len(prompt) <= 90]
prompts = list(dict.fromkeys(short))[:32]
Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))

SAMPLER = "--prompts prompts.jsonl --out run --policy policy --iterations 4 --max-new-tokens 48 --rank 8"
FIT = "--learning-rate 3e-3 --epochs 3 --batch 4 --held-out 0.125"
print(nashward(f"sample {SAMPLER} {FIT} --quiet"))
before = {file: file.read_bytes() for file in Path("run").rglob("*.parquet")}
print(nashward(f"align {SAMPLER} {FIT} --oracle pairrm --quiet"))
assert before
assert all(file.read_bytes() == content for file, content in before.items())  # what was sampled was not sampled again

# %% [markdown]
# The folder holds the whole run: what was sampled, judged and fitted, each part written whole or not at all. (Names are
# shown without their numbers and checksums.)

# %%
for path in sorted(Path("run").glob("*/*")):
    if path.is_dir() and "start" not in path.parts:
        names = {re.sub(r"\.\d{5}\.[0-9a-f]{16}", "", file.name) for file in path.iterdir()}
        print(f"{path}/  {', '.join(sorted(names))}")

# %% [markdown]
# `adapter/` is a LoRA in PEFT's format. It loads without nashward:

# %%
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("policy")
alone = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("policy"), "run/iteration-04/adapter")
chat = [{"role": "user", "content": "Tell me about bread."}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = alone.generate(**inputs, max_new_tokens=48, do_sample=False, pad_token_id=tokenizer.eos_token_id)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

# %% [markdown]
# ## Report
#
# `run/report.html` is one self-contained page: warnings first, then the settings, the course, what each fit achieved,
# and responses with the oracle's verdicts. This is its picture of the course, and below it are its figures on the fits.

# %%
from nashward.llm.report.curves import training_curves

assert Path("run/report.html").stat().st_size > 10_000
training_curves({"": Path("run")})

# %%
from nashward.llm.run.selfplay import metrics

assert len(metrics(Path("run"))) == 4
print("step            target   share train   R² train   R² held out   KL to the start")
for row in metrics(Path("run")):
    fit, held, moved = row["train"], row["held_out"], row["after"]["kl_to_reference"]
    print(
        f"{row['iteration']}   {fit['target_rms']:>6.2f} {fit['share']:>13.2f} {fit['r2']:>10.2f} {held['r2']:>13.2f} "
        f"{moved:>17.2f}"
    )
assert all(0.3 < row["train"]["share"] < 1.2 for row in metrics(Path("run")))

# %% [markdown]
# Read the fits first. The target is what the Step requires of each response, in nats (root mean square); the share is
# how much of it was met. R² on the held-out prompts is far below R² on the trained ones: 28 prompts with five responses
# each are few, and much of the target is sampling noise. The next section measures what carries over.
#
# ## What was achieved
#
# The pocket policy answers in one of four styles. Half of its answers are evasive, and these lose to all others; the
# other three styles beat each other in a cycle. The folder has what each policy wrote during the run. Now the last
# policy is sampled, on the same prompts and on 32 that were never trained on, and judged against the start.

# %%
model = llm.LanguageModel.from_pretrained("policy", lora=llm.Lora(rank=8))
oracle = llm.oracles.PairRM.from_pretrained("pairrm", device="cpu")
source = llm.Sampling(max_new_tokens=48, batch=256)
policies = {name: llm.Mixture(((Path("run") / name / "adapter", 1.0),)) for name in ("start", "iteration-04")}
policies["mixture"] = llm.Mixture.load("run/mixture.json")


def answers(policy: llm.Mixture, texts: list[str], seed: int) -> list[list[str]]:
    """Five responses of a policy to each prompt."""
    ids = [model.encode(llm.Prompt(({"role": "user", "content": text},))) for text in texts]
    return [[one.text for one in row] for row in policy.sample(model, ids, 5, source, seed)]


new = list(dict.fromkeys(short))[32:64]
rates = {}
for title, texts in (("trained prompts", prompts), ("new prompts", new)):
    drawn = {name: answers(policy, texts, seed=k + 1) for k, (name, policy) in enumerate(policies.items())}
    for name in ("iteration-04", "mixture"):
        rates[title, name] = rate = llm.evaluation.win_rate(oracle, texts, drawn[name], drawn["start"])
        print(f"{title:<16} {name:<13} against the start: {rate}")
better = rates["new prompts", "iteration-04"]
assert better.value - 2 * better.standard_error > 0.5

# %%
wrote = {}
for t in range(1, 5):
    file = max(Path(f"run/iteration-{t:02d}/responses").glob("*.parquet"))
    wrote[f"iteration-{t - 1:02d}" if t > 1 else "start"] = [row["text"] for row in read_shard(file)]
wrote["iteration-04, on new prompts"] = [text for row in drawn["iteration-04"] for text in row]
shares = np.array([[len(of_style) / len(texts) for of_style in styles.by_style(texts)] for texts in wrote.values()])
nash = games.nash(games.PreferenceGame(styles.PLANTED, labels=styles.STYLES)).policy

picture = Figure(figsize=(6.4, 4), layout="constrained")
axes = picture.subplots()
for k, style in enumerate((*styles.STYLES, "no style")):
    colour = games.plots.COLOURS[k]
    axes.plot(range(5), shares[:, k], marker=games.plots.MARKS[k], color=colour, label=style)
    if k < len(nash):
        axes.plot(4.3, float(nash[k]), "*", color=colour, markersize=13)
axes.set(xlabel="iteration", ylabel="share of the responses", xticks=range(5), ylim=(-0.02, 0.75))
axes.set_title("what the model writes (stars: Nash of the planted game)")
axes.legend(fontsize=8)
assert shares[-1, 3] < shares[0, 3] - 0.1  # evasive answers become fewer
picture

# %% [markdown]
# The evasive style disappears first, since it loses to everything. The cycle of the other three takes longer, as a few
# steps are only part of one turn. `nashward demo` plays the same game with 100 prompts and six iterations.
#
# Next: [the same with a judge of your own](06_your_own_payoff_model.ipynb).
