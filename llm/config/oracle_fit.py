"""How an oracle is fitted."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from nashward.errors import NashwardError

from .fields import check_choice, setting, written

Kind = Literal["pairrm", "gpm", "bt", "hrc"]
Train = Literal["head", "lora", "all"]
Layout = Literal["pooled", "published"]
LengthEffect = Literal["keep", "remove"]
RATES: dict[str, float] = {"head": 1e-3, "lora": 2e-4, "all": 2e-5}
# pairs added to the votes of a published head, as shares; a pooled head that is solved takes the votes as they are
ADDED: dict[str, float] = {"near_duplicates": 0.1, "length_matched": 0.1, "style_swapped": 0.05}


def _pooled(name: str) -> str:
    return f"(default: {written(ADDED[name])}, for a pooled head 0)"


@dataclass(frozen=True)
class FitSettings:
    """How an oracle is fitted.

    Attributes:
        train: "head": the head alone, on states of the frozen encoder that are computed once; "lora": a LoRA on all its
            linear layers as well; "all": everything.
        layout: "pooled": a linear head on the means of the states over the tokens of a response, which is solved;
            "published": a head on single states, as PairRM, GPM and sequence classifiers have it, which other tools
            load. None: "published" where the base has such a head already, else "pooled".
        length: "keep": the length of the responses counts like everything else that the votes go by; "remove": it is a
            covariate of the fit that is taken out, so that the oracle judges as if both responses were of one length.
        components: principal components of the responses and of the prompt, whose products a pooled head weighs.
        folds: those of the cross-validation, by prompt.
        epochs, patience: the most epochs; training stops earlier when ``patience`` of them bring no better
            held-out loss.
        learning_rate: None: 1e-3 for a head, 2e-4 for a LoRA, 2e-5 for all. A cosine over ``epochs`` after a warm-up.
        weight_decay: AdamW's.
        batch: pairs in an optimiser step.
        warmup: the share of the optimiser steps over which the rate rises.
        near_duplicates, length_matched, style_swapped: pairs added, as shares of the labelled ones: a response against
            its near copy (a tie), labelled pairs of like length once more, the winner in plain text against the loser
            in lists and bold. None: 0.1, 0.1 and 0.05, and 0 for a pooled head.
        weigh_annotators: fit twice, the second time with the votes of each annotator weighed by how far they are
            right beyond chance, by the annotators' agreement where that is known (``annotator_weights``).
        rank: the LoRA's.
        dimensions: d of a new preference embedding.
        ensemble: keep the folds' models beside the one that was trained on everything.
        half: store the weights in float16.
        seed: the seed of everything that is drawn.

    Raises:
        ValueError: a number out of its range, an odd dimension, or an unknown part to train.

    Example:
        >>> FitSettings(dimensions=3)
        Traceback (most recent call last):
        nashward.errors.NashwardError: dimensions is 3; expected an even number
    """

    train: Train = setting("head", "what is trained", "training")
    layout: Layout | None = setting(
        None,
        "pooled: a linear head on mean states, which is solved; published: that of PairRM, GPM or a classifier "
        "(default: published where the base has such a head, else pooled)",
        "training",
    )
    length: LengthEffect = setting("keep", "keep the effect of the responses' length, or remove it", "training")
    components: int = setting(16, "principal components whose products a pooled head weighs", "training")
    folds: int = setting(5, "folds of the cross-validation by prompt", "training")
    epochs: int = setting(20, "epochs at most", "training")
    patience: int = setting(3, "epochs without a better held-out loss before training stops", "training")
    learning_rate: float | None = setting(
        None,
        f"default: {written(RATES['head'])} for a head, {written(RATES['lora'])} for a LoRA, {written(RATES['all'])} "
        "for all",
        "training",
    )
    weight_decay: float = setting(0.01, "weight decay of AdamW", "training")
    batch: int = setting(32, "pairs in an optimiser step", "training")
    warmup: float = setting(0.05, "share of the optimiser steps", "training")
    near_duplicates: float | None = setting(
        None,
        f"added ties of a response with its near copy, as a share {_pooled('near_duplicates')}",
        "training",
    )
    length_matched: float | None = setting(
        None, f"labelled pairs of like length once more, as a share {_pooled('length_matched')}", "training"
    )
    style_swapped: float | None = setting(
        None, f"winners in plain text, losers in lists and bold, as a share {_pooled('style_swapped')}", "training"
    )
    weigh_annotators: bool = setting(
        False, "fit again with each annotator weighed by their agreement with the others", "training"
    )
    rank: int = setting(16, "rank of the LoRA", "training")
    dimensions: int = setting(8, "dimensions of a new preference embedding", "training")
    ensemble: bool = setting(True, "keep the folds' models for a standard error (default)", "training")
    half: bool = setting(False, "store the weights in float16", "training")
    seed: int = setting(0, "seed of everything that is drawn", "training")

    def __post_init__(self) -> None:
        check_choice("train", self.train, Train)
        if self.layout is not None:
            check_choice("layout", self.layout, Layout)
        check_choice("length", self.length, LengthEffect)
        if self.length == "remove" and (self.train != "head" or self.layout == "published"):
            raise NashwardError("length 'remove' needs a pooled head alone: train 'head' and layout 'pooled'")
        least = {
            "folds": 2,
            "epochs": 1,
            "patience": 1,
            "batch": 1,
            "rank": 1,
            "dimensions": 2,
            "seed": 0,
            "components": 0,
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < bound:
                raise NashwardError(f"{name} is {value}; expected a whole number, at least {bound}")
        for name in ("weight_decay", "warmup", *ADDED):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise NashwardError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise NashwardError(f"learning_rate is {self.learning_rate}; expected a positive number")
        if self.dimensions % 2:
            raise NashwardError(f"dimensions is {self.dimensions}; expected an even number")

    def resolved(self, layout: Layout) -> FitSettings:
        """The settings for a layout, with what depends on it.

        Example:
            >>> FitSettings().resolved("pooled").near_duplicates, FitSettings().resolved("published").near_duplicates
            (0.0, 0.1)
        """
        added = {
            name: (value if layout == "published" else 0.0)
            for name, value in ADDED.items()
            if getattr(self, name) is None
        }
        return dataclasses.replace(self, layout=layout, **added)  # type: ignore[arg-type]
