"""What a run reads and where it writes, as a file of settings or a command names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .fields import setting


@dataclass(frozen=True)
class Inputs:
    """The arguments of ``SelfPlay`` that are files, folders or hub ids.

    Attributes:
        folder: the run folder.
        policy: a chat model.
        oracle: what judges.
        adapter: a LoRA to start from and to regress against.
        prompts: what the policy responds to.
        sft: prompts with responses whose likelihood is kept up.

    Example:
        >>> Inputs(policy="models/chat").oracle is None
        True
    """

    folder: Path | None = setting(None, "the run folder; the same command continues it", "run", option="out")
    policy: str | None = setting(
        None, "a chat model: folder, hub id, GGUF file, or real:smollm2-135m from a package", "models"
    )
    oracle: str | None = setting(
        None,
        "a PairRM, GPM or reward model (folder or hub id), votes (.jsonl), module:name (a module that is imported, and "
        "so run, from the current folder or from what is installed), or people:FOLDER, who vote while the run goes on",
        "models",
    )
    adapter: str | None = setting(None, "LoRA folder or id to start from and to regress against", "models")
    prompts: str | None = setting(
        None, "JSONL, JSON, CSV, Parquet or text file, or a dataset id (ID or ID:SPLIT)", "prompts"
    )
    sft: str | None = setting(
        None,
        "prompts with responses (prompt and output, response or text) whose likelihood is raised beside the step's "
        "loss, and measured",
        "SFT and limits",
        formerly=("task",),
    )


@dataclass(frozen=True)
class Opponents:
    """The stored responses that a run is played against, and how much they count.

    Attributes:
        responses: a file of one model's responses, or a folder with one file a model; None: those in the run folder.
        shares: of the opponent, that of all models together, divided evenly, or each one's: "gpt=0.2,claude=0.1".

    Example:
        >>> Opponents("gpt.jsonl", "0.1").shares
        '0.1'
    """

    responses: str | None = setting(
        None,
        "another model's responses to the prompts, or a folder of one file a model: opponents beside the policy's own",
        "solver",
        option="opponents",
        formerly=("answers",),
    )
    shares: str | None = setting(
        None,
        "of the opponents in what a step is played against: all together, or NAME=SHARE,... "
        "(default with --opponents: 0.25)",
        "solver",
        option="opponent-shares",
    )
