"""PairRM by the llm-blender package itself: the reference that ``PairRM`` is tested against, and far slower."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

from nashward.errors import MissingPackageError, NashwardError
from nashward.shortened import quoted

from ...policy.control_tokens import control_tokens
from ..protocol import Pairs, PreferenceOracle
from . import checkpoint
from .pairrm import CANDIDATE_MAXLENGTH, EXPECTED, MARKERS, SOURCE_MAXLENGTH, PairRM

DEVICES = ("cpu", "cuda")


class LLMBlenderOracle(PreferenceOracle):
    """llm-blender's ranker as an oracle, one prompt at a time. ``LLMBlenderOracle.from_pretrained`` loads one.

    The raw logits L_ij of both orders, i shown first, are those that llm-blender's ``rank`` computes at batch size 1,
    the setting of the official code of SPPO (arXiv 2405.00675). Above 1 the tokens that a response may have depend on
    the prompts of its batch, and so does the judgement. Use ``PairRM`` to judge, and this class to check it.

    Control tokens that texts spell out are read as text, as ``PairRM`` reads them, by llm-blender's collator with a
    tokenizer that knows them by other names. llm-blender itself replaces [SEP] by a blank, reads other special tokens
    as what they are, and raises where a text has a marker of the format, such as ``<|candidate|>``.

    Args:
        blender: a ``llm_blender.Blender`` with its ranker loaded.
        name: shown in reports.

    Raises:
        ValueError: in ``raw_logits``, a logit that is NaN.

    Source: arXiv 2306.02561, and its package llm-blender.

    Example:
        >>> oracle = LLMBlenderOracle.from_pretrained("llm-blender/PairRM")  # doctest: +SKIP
        >>> (result,) = preference_matrices(oracle, ["hello!"], [["hi!", "go away!"]])  # doctest: +SKIP
    """

    pairs_per_call = 1  # each prompt's logits are cached at once

    def __init__(self, blender: Any, *, name: str = "llm-blender") -> None:
        self.blender, self.name = blender, name

    @classmethod
    def from_pretrained(cls, id_or_folder: str | Path, *, device: str = "cpu") -> LLMBlenderOracle:
        """Load a PairRM, in either published layout, with ``Blender.loadranker``.

        The members of an ensemble that ``fit-oracle`` saved are not used. The base model's weights are needed (and
        discarded), except where the checkpoint is its own base, as PairRM-hf.

        Args:
            id_or_folder: for example "llm-blender/PairRM", or a folder.
            device: "cpu" (float32) or "cuda" (float16 if the checkpoint says so, as the published one does).

        Raises:
            ImportError: llm-blender is not installed.
            OSError: the checkpoint or its base cannot be found (FileNotFoundError for a folder).
            ValueError: the checkpoint is not a PairRM, or the device is neither.
        """
        if not isinstance(device, str) or device not in DEVICES:
            # llm-blender compares the name: with "cuda:0" or a torch.device it stays in float32 without a warning
            raise NashwardError(f"device is {device!r}; expected one of {', '.join(DEVICES)}, the two of llm-blender")
        llm_blender = import_llm_blender()
        PairRM.check(id_or_folder)
        folder = checkpoint.resolve(id_or_folder)
        overrides = _overrides(folder)
        _check_no_code(str(overrides["model_name"]), str(id_or_folder))
        blender = llm_blender.Blender(llm_blender.BlenderConfig(device=device, use_tqdm=False))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about empty fields of its configuration
                blender.loadranker(str(folder), device=device, **overrides)
        except OSError as error:
            raise OSError(
                f"{id_or_folder}: llm-blender cannot load the base model {overrides['model_name']}, whose weights it "
                "reads and discards; put them there, or use PairRM.from_pretrained, which needs none"
            ) from error
        return cls(blender, name=f"llm-blender {id_or_folder}")

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        collator, tokenizer = self.blender.ranker_collator, self.blender.ranker_tokenizer
        settings = {
            "kind": type(self).__name__,
            "llm-blender": version("llm-blender"),
            "source_maxlength": collator.source_maxlength,
            "candidate_maxlength": collator.candidate_maxlength,
        }
        return checkpoint.fingerprint(self.blender.ranker.state_dict().items(), tokenizer, settings)

    @torch.no_grad()
    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        """For each prompt one logit a pair (i, j), i shown first; all ordered pairs of the candidates are computed.

        Raises:
            ValueError: a logit is NaN: weights that are damaged, or half precision that overflows.
        """
        answers = []
        for prompt, texts, prompt_pairs in zip(prompts, candidates, pairs, strict=True):
            if not len(prompt_pairs):
                answers.append(np.zeros(0))
                continue
            batch = self._collator((prompt, *texts))([{"source": prompt, "candidates": list(texts)}])
            inputs = {
                key: value.to(self.blender.ranker_config.device) for key, value in batch.items() if key != "scores"
            }
            table = self.blender.ranker._full_predict(**inputs)["logits"][0].double().cpu().numpy()
            logits = table[tuple(np.array(prompt_pairs).T)]
            if np.isnan(logits).any():
                raise NashwardError(
                    f"{self.name} gave NaN for {int(np.isnan(logits).sum())} of {len(prompt_pairs)} pairs of prompt "
                    f"{quoted(prompt, 60)}: its weights are damaged, or half precision overflows (load it on the cpu)"
                )
            answers.append(logits)
        return answers

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        """How many of the prompt and the responses are truncated."""
        collator = self._collator((prompt, *candidates))
        texts = [collator.source_prefix + prompt, *(collator.candidate_prefix + text for text in candidates)]
        source, *responses = (len(ids) for ids in collator.tokenizer(texts)["input_ids"])
        room = collator.candidate_maxlength + max(0, collator.source_maxlength - source) // 2
        return (source > collator.source_maxlength) + sum(length > room for length in responses)

    def _collator(self, texts: Sequence[str]) -> Any:
        """llm-blender's collator; where texts have control tokens, a copy that knows them by other names."""
        collator = self.blender.ranker_collator
        control = control_tokens(self.blender.ranker_tokenizer, MARKERS)
        if not control.found_in(texts):
            return collator
        backend, names = control.renamed("".join(texts))
        backend.no_truncation()
        renamed = copy(collator)
        renamed.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token=names[self.blender.ranker_tokenizer.pad_token]
        )
        renamed.sep_token = names[collator.sep_token]
        for prefix in ("source_prefix", "candidate1_prefix", "candidate2_prefix", "candidate_prefix"):
            setattr(renamed, prefix, names[getattr(collator, prefix)])
        return renamed


def import_llm_blender() -> ModuleType:
    """The package ``llm_blender``. Two names of transformers 4 that it needs are put back where they are missing.

    They are ``transformers.utils.hub.TRANSFORMERS_CACHE``, which it imports, and
    ``PreTrainedTokenizerBase.batch_encode_plus``, which it calls; they remain.

    Raises:
        ImportError: it is not installed.
    """
    hub: Any = import_module("transformers.utils.hub")
    tokenizer: Any = PreTrainedTokenizerBase
    if getattr(hub, "TRANSFORMERS_CACHE", None) is None:
        hub.TRANSFORMERS_CACHE = HF_HUB_CACHE
    if not hasattr(tokenizer, "batch_encode_plus"):
        tokenizer.batch_encode_plus = _batch_encode_plus
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own dependencies
            import llm_blender
    except ModuleNotFoundError as error:
        if error.name != "llm_blender":
            raise
        raise MissingPackageError('LLMBlenderOracle needs llm-blender: pip install "nashward[llm]"') from None
    return llm_blender


def _batch_encode_plus(tokenizer: Any, texts: Sequence[str], **settings: Any) -> Any:
    return tokenizer(texts, **settings)


def _check_no_code(base: str, name: str) -> None:
    """Raise where a base names code of its own: llm-blender would run it, for some names without a question."""
    for file in ("config.json", "tokenizer_config.json"):
        path = cached_file(base, file, _raise_exceptions_for_missing_entries=False,
                           _raise_exceptions_for_connection_errors=False)  # fmt: skip
        if path is not None and "auto_map" in json.loads(Path(path).read_text(encoding="utf-8")):
            raise NashwardError(
                f"{name}: the {file} of its base {base} names code (auto_map), which llm-blender would run; read it "
                "with PairRM.from_pretrained, which runs none"
            )


def _overrides(folder: Path) -> dict[str, Any]:
    """The arguments of ``loadranker`` that override config.json."""
    settings = checkpoint.read_config(folder, EXPECTED)
    lengths = {"source_maxlength": SOURCE_MAXLENGTH, "candidate_maxlength": CANDIDATE_MAXLENGTH}
    limits = {key: settings.get(key) or default for key, default in lengths.items()}
    # the layout of PairRM-hf, which llm-blender takes for another model
    if settings.get("ranker_type") != "pairranker":
        return {**limits, "ranker_type": "pairranker", "model_type": "deberta", "model_name": str(folder)}
    # llm-blender looks for a base folder in the working directory, not in the checkpoint
    local = folder / settings["model_name"]
    return {**limits, "model_name": str(local if local.is_dir() else settings["model_name"])}
