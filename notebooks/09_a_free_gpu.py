# %% [markdown]
# # A free GPU that may be taken away: does a run survive it?
#
# A free session with a T4 lasts some hours, and may end without warning. This notebook plans a run for the available
# GPU, plays it in a folder that outlives the session, kills it in the middle as a lost session would, and continues it
# with the same command. The first picture shows what fits on a T4, the last one what the run achieved.
#
# On a GPU it plays SmolLM2-1.7B under PairRM. Without a GPU it says so and plays the *pocket models* that come with the
# package, in about half a minute on a CPU; the stored outputs are from such a run. The seed is fixed.

# %%
# %matplotlib inline
import contextlib
import importlib.util
import io
import os
import shlex
import subprocess
import sys
import time
import warnings
from pathlib import Path

if importlib.util.find_spec("nashward") is None:  # a new session; the name of a wheel that you uploaded does as well
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "nashward[llm]"], check=True)

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

warnings.filterwarnings("ignore", message="IProgress")  # no widgets are needed here
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")  # of PEFT with transformers 5.23
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
from nashward import games, llm
from nashward.cli.main import main
from nashward.llm.report.curves import training_curves
from nashward.llm.run.selfplay import metrics

mpl.rcParams["figure.dpi"] = 80  # small pictures


def nashward(line: str) -> str:
    """The command `nashward` as a shell has it, without starting one; what it prints is returned."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(shlex.split(line)) == 0, line
    return printed.getvalue()


# %% [markdown]
# ## What fits on a T4
#
# A plan reads the shape of a model and none of its weights. A T4 has 15 GiB, of which 14 are free, and no bfloat16.
# Planning takes a while, so the rows are stored, with the command above them.

# %%
# nashward plan --policy HuggingFaceTB/SmolLM2-1.7B-Instruct --memory 14GiB --float16 \
#     --max-prompt-tokens 256 --max-new-tokens 256
STORED = {  # GiB: weights, activations, gradients, optimiser, keys and values
    "sampling": (1.03, 0.13, 0.00, 0.00, 6.00),
    "scoring": (1.03, 0.47, 0.00, 0.00, 0.00),
    "training": (1.03, 0.83, 0.07, 0.13, 0.00),
}
PARTS = ("weights", "activations", "gradients", "optimiser", "keys and values")

picture = Figure(figsize=(6.4, 3), layout="constrained")
axes = picture.subplots()
for k, part in enumerate(PARTS):
    before = [sum(row[:k]) for row in STORED.values()]
    axes.barh(list(STORED), [row[k] for row in STORED.values()], left=before, color=games.plots.COLOURS[k], label=part)
axes.axvline(14, color="black", linewidth=1.5, label="free on a T4")
axes.set(xlabel="GiB", title="SmolLM2-1.7B in 4 bits with a LoRA: peak of each phase")
axes.invert_yaxis()
axes.legend(fontsize=8, loc="upper center", ncols=3, bbox_to_anchor=(0.5, -0.2))
assert all(sum(row) < 14 for row in STORED.values())
picture

# %% [markdown]
# ## What is here
#
# The run's folder is on a mounted drive if there is one, since all other files are lost with the session. In Colab the
# next cell asks to mount yours.

# %%
if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    from google.colab import drive  # type: ignore[import-not-found]

    drive.mount("/content/drive")
DRIVE = Path("/content/drive/MyDrive")
RUN = (DRIVE / "nashward" if DRIVE.is_dir() else Path("runs")) / "first"

if torch.cuda.is_available():
    POLICY, ORACLE, SIZE = "HuggingFaceTB/SmolLM2-1.7B-Instruct", "llm-blender/PairRM", "--max-new-tokens 256"
    print(f"{torch.cuda.get_device_name()}: a card; the run is {RUN}")
else:
    POLICY, ORACLE, SIZE = llm.pocket.POLICY, llm.pocket.PAIRRM, "--max-new-tokens 24 --rank 8"
    print(f"no GPU is here: the pocket models are played on the CPU; the run is {RUN}")
    torch.set_num_threads(1)
RUN.parent.mkdir(parents=True, exist_ok=True)
PROMPTS = RUN.parent / "prompts.txt"  # your own, one a line; or .jsonl, .csv, .parquet
few = llm.pocket.PROMPTS.read_text(encoding="utf-8").splitlines()[: None if torch.cuda.is_available() else 64]
PROMPTS.write_text("\n".join(few), encoding="utf-8")
plan = nashward(f"plan --policy {POLICY} --oracle {ORACLE} --responses 4 {SIZE}")
print("\n".join(line for line in plan.splitlines() if line.startswith(("judging: ", "it fits"))))

# %% [markdown]
# ## Play, and lose the session
#
# The command is one line, and runs beside the notebook. Here it is killed as soon as the first step is judged. As with
# a lost machine, it cannot save anything before it ends.

# %%
ALIGN = (
    f"align --policy {POLICY} --oracle {ORACLE} --prompts {PROMPTS} --out {RUN} {SIZE} --iterations 2 "
    "--responses 4 --seed 0 --quiet"
)
beside = subprocess.Popen([sys.executable, "-m", "nashward", *shlex.split(ALIGN)], stderr=subprocess.DEVNULL)
while beside.poll() is None and not list(RUN.glob("iteration-01/judgements/*.parquet")):
    time.sleep(0.1)
beside.kill()
beside.wait()
stored = {file: file.read_bytes() for file in RUN.rglob("iteration-01/*/*.parquet")}
print(nashward(f"status {RUN}").splitlines()[0])
assert stored

# %% [markdown]
# ## Go on
#
# In a new session, run the cells above again, except the one that kills, and then the same command. What was stored is
# read, not made again. (A machine that is lost while it writes a file leaves no half of it: each file appears whole or
# not at all.)

# %%
print(nashward(ALIGN))
assert all(file.read_bytes() == content for file, content in stored.items())

# %% [markdown]
# ## Report
#
# `report.html` in the run's folder is one page, on your drive like the rest. This is its picture of the course, and
# what the fits achieved:

# %%
training_curves({"": RUN})

# %%
print("step            target   share train   R² held out   KL to the start")
for row in metrics(RUN):
    fit, held, moved = row["train"], row["held_out"], row["after"]["kl_to_reference"]
    print(f"{row['iteration']} {fit['target_rms']:>8.2f} {fit['share']:>13.2f} {held['r2']:>13.2f} {moved:>17.2f}")

# %% [markdown]
# ## What was achieved
#
# Each policy gives one response to each prompt, and these are judged against each other. The table shows the win rate
# over the start with its standard error, and whether it is beyond noise.

# %%
print("\n".join(line[:55].rstrip() for line in nashward(f"evaluate {RUN} --quiet").splitlines()[3:8]))
assert "iteration-02" in (RUN / "evaluation.json").read_text()

# %% [markdown]
# `nashward export {RUN} --to adapter --out mine` writes the adapter for other programs. The last line of `plan` says
# how long a session has to be. [Go on with a run that stopped](../docs/resume.md) says where a run continues, and with
# which versions.
