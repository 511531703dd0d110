"""Oracles with a reward for each response: their preferences are transitive."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from nashward.errors import NashwardError

from .protocol import Pairs, PreferenceOracle, as_floats, one_each, texts_in_pairs


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
