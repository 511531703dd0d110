"""TRL's online DPO on the base, prompts and judge of ``real_policy.py``, for the same tokens or the same time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from nashward.llm.config import Lora
from nashward.llm.oracles import preference_matrices


class StopAfter(TrainerCallback):  # type: ignore[misc]
    """Ends a training after some CPU seconds of the process."""

    def __init__(self, seconds: float) -> None:
        self.until = time.process_time() + seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **other: Any) -> Any:
        control.should_training_stop |= time.process_time() > self.until
        return control


@dataclass(frozen=True)
class OnlineDPO:
    """TRL's trainer with its own defaults but for what the comparison fixes.

    It draws two responses to a prompt, where nashward draws K: it passes over the prompts K/2 times an iteration. Its
    rewards are scalars; a response's is its win probability over the other one, so the preferred one is chosen.

    Attributes:
        learning_rate: None: TRL's default, 5e-7, which is meant for full training.
        tokens: of a response at most.
        epochs: passes over the prompts.
        seconds: of CPU time, after which it ends; None: no limit.
        batch: prompts of an optimiser's step.
        at_once: prompts of a forward pass: at 16 its float32 logits take more than 22 GB on AlpacaEval's prompts.
    """

    learning_rate: float | None
    tokens: int
    epochs: int
    seconds: float | None = None
    batch: int = 16
    at_once: int = 4

    def train(self, base: Path, oracle: Any, prompts: list[str], folder: Path) -> Path:
        """Train a new adapter on the base.

        Args:
            base: a model's folder, trained in float32.
            oracle: the judge.
            prompts: of one turn each.
            folder: receives the adapter; where it has one that is returned as it is.

        Returns:
            The adapter's folder, in PEFT's format.
        """
        from datasets import Dataset
        from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

        adapter = folder / "adapter"
        if adapter.is_dir():
            return adapter
        lora = Lora()
        rate = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        trainer = OnlineDPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(base, padding_side="left"),
            reward_funcs=self._rewards(oracle),
            train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in prompts]),
            peft_config=LoraConfig(r=lora.rank, lora_alpha=2 * lora.rank, target_modules="all-linear"),
            args=OnlineDPOConfig(
                str(folder), max_new_tokens=self.tokens, max_length=2048, temperature=1.0, num_train_epochs=self.epochs,
                per_device_train_batch_size=self.at_once, gradient_accumulation_steps=self.batch // self.at_once,
                save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                gradient_checkpointing=False, logging_steps=8, seed=0, **rate,
            ),
            callbacks=[] if self.seconds is None else [StopAfter(self.seconds)],
        )  # fmt: skip
        trainer.train()
        print(f"online DPO: {trainer.state.global_step} steps of {self.batch} prompts, epoch {trainer.state.epoch:.2f}")
        trainer.save_model(str(adapter))
        return adapter

    def _rewards(self, oracle: Any) -> Any:
        def win_probability(prompts: list[Any], completions: list[Any], **other: Any) -> list[float]:
            half = len(prompts) // 2  # the second response of each prompt lies behind all the first ones
            texts = [prompt[-1]["content"] for prompt in prompts[:half]]
            pairs = [[completions[k + part][0]["content"] for part in (0, half)] for k in range(half)]
            first = [float(table.P[0, 1]) for table in preference_matrices(oracle, texts, pairs)]
            return first + [1 - p for p in first]

        return win_probability
