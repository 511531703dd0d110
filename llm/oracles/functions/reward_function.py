"""Reward functions of TRL's signature as an oracle, with the columns of the dataset that they read."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
from torch import nn

from nashward.errors import NashwardError
from nashward.shortened import quoted

from ...data.prompts import row_prompt
from ...data.rows import numbered_rows
from ..protocol import as_floats
from ..scalar import ScalarOracle

RewardFunc = Callable[..., Sequence[float | None]]
logger = logging.getLogger(__name__)

TEXTS = ("prompts", "completions")  # the keywords that a reward function is called with


class RewardFunction(ScalarOracle):
    """Reward functions of TRL's signature as one oracle: their weighted sum is the reward.

    A function is called as TRL's trainers call it, with the keywords ``prompts`` and ``completions``, two lists of one
    length, and with a list of that length for each column of ``dataset`` (those that are among its parameters, all for
    ``**kwargs``). It returns a number for each completion, or None: the judgement is then missing. Other parameters
    have to be bound before, for example by ``functools.partial``.

    Args:
        functions: one, or several.
        weights: one a function; None: 1 each.
        dataset: rows with a prompt, in a form that ``llm.read_prompts`` reads, and the columns that the functions need,
            as a list, a data frame or a ``datasets.Dataset``. Responses to a prompt that is not among them are not
            judged (NaN), which is warned of once.
        conversational: prompts and completions are lists of messages, as TRL passes them for chat datasets, each
            completion ``[{"role": "assistant", "content": text}]``; False: they are texts.
        name: None: the functions' names.
        fingerprint: identifies the functions and the columns that they read; weights, temperature and
            ``conversational`` are added to it. None: judgements are not cached.
        temperature: see ``ScalarOracle``.

    Raises:
        ValueError: another number of weights than of functions or one that is not finite, a temperature that is not
            above 0, or a function that takes no ``completions``, needs
            other parameters, or is a network; a row of the dataset that has no prompt, or two of one prompt that
            differ; in ``rewards``, one that does not return a number for each completion.

    Example:
        >>> def correct(completions, answer, **kwargs):
        ...     return [float(a in text) for text, a in zip(completions, answer)]
        >>> oracle = RewardFunction(correct, dataset=[{"prompt": "2 + 2?", "answer": "4"}])
        >>> oracle.rewards(["2 + 2?"], [["It is 4.", "Five."]])
        [array([1., 0.])]
    """

    def __init__(
        self,
        functions: RewardFunc | Sequence[RewardFunc],
        weights: Sequence[float] | None = None,
        *,
        dataset: Iterable[Mapping[str, Any]] | None = None,
        conversational: bool = False,
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
        self.columns = {} if dataset is None else _columns(dataset)
        self._has_dataset, self.conversational, self._warned = dataset is not None, conversational, False
        names = next(iter(self.columns.values()), {}).keys()
        self._keywords = [_keywords(function, [*TEXTS, *names]) for function in self.functions]
        self.name = name or " + ".join(_name(function) for function in self.functions)
        self.fingerprint, self.temperature = fingerprint, temperature

    @property
    def is_users_code(self) -> bool:
        return True

    def cache_key(self) -> str | None:
        key = super().cache_key()
        return key and f"{key}, weights {self.weights}" + ", conversational" * self.conversational

    def rewards(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        known = [not self._has_dataset or prompt in self.columns for prompt in prompts]
        if not all(known):
            self._warn_of_absent([prompt for prompt, there in zip(prompts, known, strict=True) if not there])
            judged = iter(self.rewards(list(compress(prompts, known)), list(compress(candidates, known))))
            return [
                next(judged) if there else np.full(len(texts), np.nan)
                for there, texts in zip(known, candidates, strict=True)
            ]
        if not prompts:
            return []
        flat = self._arguments(prompts, candidates)
        total = np.zeros(len(flat["completions"]))
        for function, weight, keywords in zip(self.functions, self.weights, self._keywords, strict=True):
            values, actual = as_floats(self._call(function, {key: flat[key] for key in keywords}))
            if values.shape != total.shape:
                raise NashwardError(
                    f"{_name(function)} returned rewards {actual} for {len(total)} completions; expected a list of "
                    "numbers, one each"
                )
            with np.errstate(invalid="ignore"):  # the sum of opposite infinities is missing
                total += weight * values
        return np.split(total, np.cumsum([len(texts) for texts in candidates])[:-1])

    def _arguments(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
        """The keywords of a call, each a list with an item for each completion."""
        repeated = [prompt for prompt, texts in zip(prompts, candidates, strict=True) for _ in texts]
        completions: list[Any] = [text for texts in candidates for text in texts]
        asked: list[Any] = repeated
        if self.conversational:
            asked = [[{"role": "user", "content": prompt}] for prompt in repeated]
            completions = [[{"role": "assistant", "content": text}] for text in completions]
        arguments = {"prompts": asked, "completions": completions}
        if self._has_dataset:
            rows = [self.columns[prompt] for prompt in repeated]
            arguments |= {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
        return arguments

    def _warn_of_absent(self, absent: Sequence[str]) -> None:
        """Say once that prompts are not in the dataset."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "the dataset of the reward function %s has no row for the prompt %s: responses to it are not judged; "
                "give it the rows of all prompts that are played", self.name, quoted(absent[0], 60),
            )  # fmt: skip

    def _call(self, function: RewardFunc, arguments: Mapping[str, list[Any]]) -> Any:
        try:
            return function(**arguments)
        except TypeError as error:
            if self.conversational or "string indices" not in str(error):
                raise
            error.add_note(
                f"{_name(function)} may read messages, as in TRL's chat datasets; prompts and completions are texts "
                f"here: RewardFunction({_name(function)}, conversational=True) passes messages"
            )
            raise


def _columns(dataset: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The columns of each prompt, by its text."""
    found: dict[str, dict[str, Any]] = {}

    def add(row: Any) -> None:
        prompt = row_prompt(row).text
        columns = {str(name): value for name, value in row.items()} if isinstance(row, Mapping) else {}
        columns = {name: value for name, value in columns.items() if name not in TEXTS}
        if found.setdefault(prompt, columns) != columns:
            raise NashwardError(f"has other values than a row before it of the prompt {quoted(prompt, 60)}")
        if columns.keys() != (expected := next(iter(found.values())).keys()):
            raise NashwardError(f"has the columns {', '.join(columns)}; the first row has {', '.join(expected)}")

    for _ in numbered_rows(dataset, "the dataset", add, lambda row: row):
        pass
    return found


def _keywords(function: Any, passed: Sequence[str]) -> tuple[str, ...]:
    """The keywords, of those that are passed, that a function is called with."""
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
        if needed and (by_position or parameter.name not in passed):
            raise NashwardError(
                f"{name} needs {parameter.name}{' by position' if by_position else ''}, which is not passed; "
                f"{expected}. A column of the dataset is passed by RewardFunction({name}, dataset=rows), whose rows "
                f"have a prompt and {parameter.name}; bind what is the same for all with functools.partial"
            )
    return tuple(passed) if any_keyword else tuple(key for key in passed if key in parameters)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
