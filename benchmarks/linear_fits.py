"""Fits of a stored iteration where a new adapter begins, from the gradients of its responses alone: nothing is trained.

There the log-ratio is linear in the adapter (see ``gradient_ridge.py``), so that a fit is a ridge regression and costs
nothing once the gradients are there: many splits of the prompts and many ways to fit are compared with each other.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gradient_ridge import Ridge
from stored_iteration import StoredIteration
from torch import Tensor

from nashward.llm.training.regression import targets, win_rate_variances, win_rates

HELD_OUT = 0.25  # of the prompts
FURTHEST = 2.0  # times the fit, where left-out prompts choose its scale
Fitted = Callable[["Responses", Tensor, Tensor], Tensor]


class Responses:
    """What the linear fits see of a stored iteration: N prompts with K responses, flattened ``[N K]``.

    Attributes:
        target: in nats.
        prompt: the number of each one's prompt.
        grams: inner products of the gradients by the attention's and by the MLP's weights, by name.
        plain: simple features of the text, ``[N K, 2]``, less the prompt's mean.
        variance: of the target, for the opponents that happened to be drawn.
    """

    def __init__(self, iteration: StoredIteration, sketches: Mapping[str, Tensor]):
        self.iteration = iteration
        count = len(iteration.rollouts[0].responses)
        self.target = iteration.targets().flatten()
        self.prompt = torch.arange(len(iteration.rollouts)).repeat_interleave(count)
        self.grams = {name: (rows := values.double()) @ rows.mT for name, values in sketches.items()}
        plain = [[simple_features(response.ids) for response in rollout.responses] for rollout in iteration.rollouts]
        each = torch.tensor(plain, dtype=torch.float64)
        self.plain = (each - each.mean(1, keepdim=True)).flatten(0, 1)
        tables = torch.stack([rollout.table for rollout in iteration.rollouts if rollout.table is not None])
        self.tables, own = tables, torch.arange(count)
        self.variance = (iteration.size**2 * win_rate_variances(tables, torch.ones(count), own)).flatten()

    def each(self, rows: Tensor) -> int:
        """How many of these rows a prompt has."""
        return len(rows) // len(self.prompt[rows].unique())

    def with_target(self, target: Tensor) -> Responses:
        """The same responses with another target."""
        other = copy.copy(self)
        other.target = target
        return other

    def targets_of(self, responses: int) -> Tensor:
        """Of the first ``responses`` of each prompt, from their judgements against each other; NaN of the others."""
        table, even = self.tables[:, :responses, :responses], torch.ones(len(self.tables), responses).double()
        payoffs = win_rates(table, even, torch.arange(responses))
        found = targets(payoffs, self.iteration.size, even / responses, self.iteration.fit.baseline)
        missing = torch.full((len(found), self.tables.shape[1] - responses), torch.nan, dtype=found.dtype)
        return torch.cat([found, missing], 1).flatten()


def simple_features(ids: Sequence[int]) -> list[float]:
    """The length of a response in tokens, and the share of its pairs of neighbouring tokens that repeat another."""
    pairs = Counter(pairwise(ids))
    total = sum(pairs.values())
    return [float(len(ids)), 1 - len(pairs) / total if total else 0.0]


def ridge(
    parts: Sequence[str] = ("attention", "MLP"), centred: bool = False, weighted: bool = False, even: bool = False
) -> Fitted:
    """Ridge on the gradients by some weights.

    Args:
        parts: the kinds of layers whose weights.
        centred: gradients and targets less the prompt's mean.
        weighted: a response counts by one over its variance, that of its own target and a common one.
        even: each kind of layers has gradients of the same mean square.
    """

    def fitted(of: Responses, train: Tensor, test: Tensor) -> Tensor:
        grams = [of.grams[name] / (of.grams[name].diagonal().mean() if even else 1.0) for name in parts]
        K, target = sum(grams, torch.zeros(())), of.target
        inner, across = K[train][:, train], K[test][:, train]
        if centred:
            less = _less_mean(of.prompt[train])
            inner, across, aim = less @ inner @ less.mT, across @ less.mT, less @ target[train]
        else:
            aim = target[train]
        weight = torch.ones_like(aim)
        if weighted:
            weight = (1 / (aim.square().mean() + of.variance[train])).sqrt()
            weight = weight / weight.square().mean().sqrt()
        found = Ridge.of(weight[:, None] * inner * weight, weight * aim, of.each(train))
        return min(max(found.scale, 0.0), FURTHEST) * (across * weight) @ found.a

    return fitted


def simple(of: Responses, train: Tensor, test: Tensor) -> Tensor:
    """Ridge on length and repetition alone."""
    rows = of.plain / of.plain[train].std(0).clamp_min(1e-9)
    found = Ridge.of(rows[train] @ rows[train].mT, of.target[train], of.each(train))
    return min(max(found.scale, 0.0), FURTHEST) * (rows[test] @ rows[train].mT) @ found.a


def beyond_simple(of: Responses, train: Tensor, test: Tensor) -> Tensor:
    """Length and repetition, and ridge on the gradients for what they leave of the target."""
    first = simple(of, train, torch.cat([train, test]))
    left = of.target.clone()
    left[train] -= first[: len(train)]
    return first[len(train) :] + ridge()(of.with_target(left), train, test)


def smoothed(of: Responses, train: Tensor, test: Tensor) -> Tensor:
    """Ridge on the gradients for what length and repetition explain of the target: without most of its errors."""
    pooled = of.target.clone()
    pooled[train] = simple(of, train, train)
    return ridge()(of.with_target(pooled), train, test)


METHODS: dict[str, Fitted] = {
    "ridge on gradients": ridge(),
    "of the MLPs alone": ridge(["MLP"]),
    "of the attention alone": ridge(["attention"]),
    "both, of the same mean square": ridge(even=True),
    "centred within prompts": ridge(centred=True),
    "weighted by the variance of targets": ridge(weighted=True),
    "length and repetition alone": simple,
    "ridge on gradients, for what these two explain": smoothed,
    "length and repetition, and the ridge on what they leave": beyond_simple,
}


def study(of: Responses, splits: int) -> list[dict[str, Any]]:
    """Held-out R^2 of each method over random splits of the prompts, at the scale that left-out prompts choose; and of
    the ridge on fewer prompts, and on fewer responses to them."""
    prompts = int(of.prompt.max()) + 1
    count, rows = len(of.prompt) // prompts, []
    for split in range(splits):
        test_prompts, train_prompts = divided(prompts, split)
        train, test = (_rows(part, count) for part in (train_prompts, test_prompts))
        for name, method in METHODS.items():
            rows.append({"method": name, "split": split, "r2": _r2(method(of, train, test), of.target[test])})
        exact = of.with_target(of.plain[:, 0])
        rows.append({"method": "ridge on gradients, of the length itself", "split": split,
                     "r2": _r2(ridge()(exact, train, test), exact.target[test])})  # fmt: skip
        for share in (0.25, 0.5):
            fewer = _rows(train_prompts[: round(share * len(train_prompts))], count)
            rows.append({"method": f"{share:.0%} of the prompts", "split": split,
                         "r2": _r2(ridge()(of, fewer, test), of.target[test])})  # fmt: skip
        for responses in range(3, count):
            fewer = of.with_target(of.targets_of(responses))
            predicted = ridge()(fewer, train[fewer.target[train].isfinite()], test)
            rows.append({"method": f"{responses} responses per prompt", "split": split,
                         "r2": _r2(predicted, of.target[test])})  # fmt: skip
    return rows


def divided(prompts: int, split: int) -> tuple[list[int], list[int]]:
    """The numbers of the held-out prompts, and of the others."""
    order = np.random.default_rng(split).permutation(prompts).tolist()
    held_out = round(HELD_OUT * prompts)
    return order[:held_out], order[held_out:]


def _rows(prompts: Sequence[int], count: int) -> Tensor:
    return (torch.tensor(sorted(prompts))[:, None] * count + torch.arange(count)).flatten()


def _less_mean(prompt: Tensor) -> Tensor:
    """The matrix that takes the mean of each prompt's rows away."""
    same = (prompt[:, None] == prompt).double()
    return torch.eye(len(prompt), dtype=torch.float64) - same / same.sum(1, keepdim=True)


def _r2(predicted: Tensor, target: Tensor) -> float:
    return 1 - float((target - predicted).square().sum() / target.square().sum())
