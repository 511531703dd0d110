"""Oracles with a reward for each response: their preferences are transitive."""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from nashward.errors import NashwardError

from .protocol import Pairs, PreferenceOracle, as_floats, one_each, texts_in_pairs

RewardFunc = Callable[..., Sequence[float | None]]
TEXTS = ("prompts", "completions")  # the keywords that a reward function is called with


class ScalarOracle(PreferenceOracle):
    """Base of oracles with a reward r: P(i beats j) = sigmoid((r_i - r_j) / temperature) (Bradley and Terry 1952).

    A subclass writes ``rewards``. Its game has a pure equilibrium, the response of highest reward: no solver finds a
    mixture in it.

    Attributes:
        temperature: of the rewards; above 1 it moves the preferences towards 1/2.

    Source: Bradley & Terry 1952.

    Example:
        >>> class Questions(ScalarOracle):
        ...     def rewards(self, prompts, candidates):
        ...         return [np.array([float(text.count("?")) for text in texts]) for texts in candidates]
        >>> Questions().raw_logits(["Ask me."], [["Why?", "Sit.", "How? When?"]], [[(0, 1), (0, 2)]])
        [array([ 1., -1.])]
    """

    symmetric = True
    transitive = True
    temperature: float = 1.0

    def cache_key(self) -> str | None:
        return self.fingerprint and f"{self.fingerprint}, temperature {float(self.temperature)!r}"

    @abstractmethod
    def rewards(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """For each prompt the rewards ``[K]`` of its candidates; NaN where there is none (``[members, K]``: ensembles).

        The candidates of a prompt differ from each other, and all of them are needed.
        """

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        needed, indices = texts_in_pairs(candidates, pairs)
        returned = one_each(self.rewards(prompts, needed), len(prompts), f"{self.name} returned rewards", "prompts")
        logits = []
        for n, (values, texts, at) in enumerate(zip(returned, needed, indices, strict=True)):
            rewards, actual = as_floats(values)
            if rewards.ndim not in (1, 2) or rewards.shape[-1] != len(texts):
                raise NashwardError(
                    f"{self.name} returned rewards {actual} for prompt {n}; expected ({len(texts)},), "
                    "one reward a candidate"
                )
            with np.errstate(invalid="ignore"):  # the difference of two infinite rewards is missing
                logits.append((rewards[..., at[:, 0]] - rewards[..., at[:, 1]]) / self.temperature)
        return logits


class Length(ScalarOracle):
    """The rule "the longer, the better": r = log(1 + characters), the baseline for every judge.

    AlpacaEval's own "longest" baseline agrees with people in 62.2% of the pairs, people with each other in 65.7%.

    Args:
        weight: of the rule; with a negative weight the shorter response is better.

    Example:
        >>> Length().rewards(["Say hello."], [["Hi.", "Hello!"]])[0].round(2)
        array([1.39, 1.95])
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = float(weight)
        self.name = "length" if self.weight >= 0 else "brevity"
        self.fingerprint = f"length {self.weight!r}"

    def rewards(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [self.weight * np.log1p([len(text) for text in texts]) for texts in candidates]


class RewardFunction(ScalarOracle):
    """Reward functions of TRL's signature as one oracle: their weighted sum is the reward.

    A function is called as TRL's trainers call it, with the keywords ``prompts`` and ``completions``, two lists of
    texts of one length (those of the two that are among its parameters, both for ``**kwargs``), and returns a number
    for each completion, or None: the judgement is then missing. Other parameters have to be bound before, for example
    by ``functools.partial``.

    Args:
        functions: one, or several.
        weights: one a function; None: 1 each.
        name: None: the functions' names.
        fingerprint: identifies the functions; weights and temperature are added to it. None: judgements are not cached.
        temperature: see ``ScalarOracle``.

    Raises:
        ValueError: another number of weights than of functions or one that is not finite, a temperature that is not
            above 0, or a function that takes no ``completions``, needs
            other parameters, or is a network; in ``rewards``, one that does not return a number for each completion.

    Example:
        >>> def questions(completions):
        ...     return [float(text.count("?")) for text in completions]
        >>> RewardFunction(questions).rewards(["Ask me."], [["Why?", "Sit."]])
        [array([1., 0.])]
    """

    def __init__(
        self,
        functions: RewardFunc | Sequence[RewardFunc],
        weights: Sequence[float] | None = None,
        *,
        name: str | None = None,
        fingerprint: str | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.functions = [functions] if callable(functions) else list(functions)
        self.weights = [1.0] * len(self.functions) if weights is None else [float(weight) for weight in weights]
        if not self.functions or len(self.weights) != len(self.functions):
            raise NashwardError(
                f"{len(self.functions)} reward functions and {len(self.weights)} weights: expected as many"
            )
        if not np.isfinite(self.weights).all():
            raise NashwardError(f"the weights of reward functions are {self.weights}; expected finite numbers")
        if not 0 < temperature < math.inf:
            raise NashwardError(f"the temperature is {temperature!r:.40}; expected a number above 0")
        self._keywords = [_keywords(function) for function in self.functions]
        self.name = name or " + ".join(_name(function) for function in self.functions)
        self.fingerprint, self.temperature = fingerprint, temperature

    @property
    def _of_user(self) -> bool:
        return True

    def cache_key(self) -> str | None:
        key = super().cache_key()
        return key and f"{key}, weights {self.weights}"

    def rewards(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        flat = {
            "prompts": [prompt for prompt, texts in zip(prompts, candidates, strict=True) for _ in texts],
            "completions": [text for texts in candidates for text in texts],
        }
        total = np.zeros(len(flat["completions"]))
        for function, weight, keywords in zip(self.functions, self.weights, self._keywords, strict=True):
            values, actual = as_floats(function(**{key: flat[key] for key in keywords}))
            if values.shape != total.shape:
                raise NashwardError(
                    f"{_name(function)} returned rewards {actual} for {len(total)} completions; expected a list of "
                    "numbers, one each"
                )
            with np.errstate(invalid="ignore"):  # the sum of opposite infinities is missing
                total += weight * values
        return np.split(total, np.cumsum([len(texts) for texts in candidates])[:-1])


def _keywords(function: Any) -> tuple[str, ...]:
    """The keywords, of ``TEXTS``, that a function is called with."""
    name, expected = _name(function), "expected a reward function (prompts, completions) -> list of numbers"
    if isinstance(function, nn.Module):
        raise NashwardError(
            f"{name} is a network, which reads no texts; {expected}, or the folder or hub id of a network"
        )
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise NashwardError(f"the parameters of {name} are unknown; {expected}") from None
    any_keyword = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if not any_keyword and "completions" not in parameters:
        raise NashwardError(
            f"{name}({', '.join(parameters)}) takes no completions; {expected}. For a function of (prompt, first, "
            "second) use Function"
        )
    for parameter in parameters.values():
        by_position = parameter.kind is parameter.POSITIONAL_ONLY
        needed = parameter.default is parameter.empty and "VAR" not in parameter.kind.name
        if needed and (by_position or parameter.name not in TEXTS):
            raise NashwardError(
                f"{name} needs {parameter.name}{' by position' if by_position else ''}, which is not passed; "
                f"{expected}. Bind other parameters with functools.partial"
            )
    return TEXTS if any_keyword else tuple(key for key in TEXTS if key in parameters)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
