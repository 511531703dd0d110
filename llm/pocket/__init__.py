"""Pocket models: a chat policy and a PairRM small enough to ship, so that all runs with no network and no GPU.

`POLICY` and `PAIRRM` are folders that load as Mistral-7B and PairRM do:
`AutoModelForCausalLM.from_pretrained(POLICY)` and `PairRM.from_pretrained(PAIRRM)`. `PROMPTS` is a file of prompts for
first runs, on which neither was trained. `make` is the script that trained
them, `styles` the text, the judgements and the classifier that it used. This module imports no torch.
"""

from pathlib import Path

POLICY = Path(__file__).parent / "policy"
"""The folder of the chat model."""
PAIRRM = Path(__file__).parent / "pairrm"
"""The folder of the oracle."""
PROMPTS = Path(__file__).parent / "prompts.txt"
"""A file of 160 everyday questions and small tasks, one a line."""

__all__ = ["PAIRRM", "POLICY", "PROMPTS"]
