"""Common sets of prompts by name, which are datasets on the hub."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptSet:
    """A dataset whose prompts are known by a short name.

    Attributes:
        dataset: its id on the hub.
        splits: those that are read; of several, each is for its own iteration (``Prompt.iteration``).
        fields: those of its rows that hold the prompt.
    """

    dataset: str
    splits: tuple[str, ...]
    fields: tuple[str, ...] = ("prompt",)


PROMPT_SETS = {
    # the thirds of UltraFeedback that SPPO, arXiv 2405.00675, played on: 19,766, 19,958 and 19,996 prompts
    "ultrafeedback-sppo": PromptSet(
        "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset", ("train_iteration_1", "train_iteration_2", "train_iteration_3")
    ),
    "ultrafeedback": PromptSet("HuggingFaceH4/ultrafeedback_binarized", ("train_prefs",)),
    "no-robots": PromptSet("HuggingFaceH4/no_robots", ("train",)),
    "dolly": PromptSet("databricks/databricks-dolly-15k", ("train",), ("instruction", "context")),
}
