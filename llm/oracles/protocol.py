"""What a preference oracle is: one method to write, and what it may declare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float

Pairs = Sequence[tuple[int, int]]
Aggregation = Literal["calibrated", "hodge", "sppo-official"]


class PreferenceOracle(ABC):
    """Base of all oracles. A new oracle writes ``raw_logits`` and, where it can, ``truncated``.

    .. math::  P(y_i \\succ y_j | x) = \\sigma\\left(\\frac{L_{ij} - L_{ji}}{2}\\right)

    with L_ij the log-odds that y_i beats y_j when y_i is shown first; ``preference_matrices`` makes P from them.

    Attributes:
        name: what reports call it.
        fingerprint: what its answers depend on besides the texts (weights, format, settings), as a text; two oracles
            that may answer differently need different ones. None: its answers are not cached.
        symmetric: True promises logit(i, j) == -logit(j, i); then one order is asked for and the other is its negative.
        transitive: True promises that the logits are differences of a score: the game has a pure equilibrium.
        aggregation: how logits become win probabilities where the caller does not say; see ``preference_matrices``.
        pairs_per_call: about how many pairs ``judge`` hands to one call of ``raw_logits``. An answer that was returned is
            kept whatever happens later; what one call was working on when the process died is asked again.

    Example:
        >>> from nashward.llm.oracles import preference_matrices
        >>> class Polite(PreferenceOracle):
        ...     def raw_logits(self, prompts, candidates, pairs):
        ...         given = zip(candidates, pairs)
        ...         return [np.array([2.0 * ("please" in own[i]) - 2.0 * ("please" in own[j]) for i, j in asked])
        ...                 for own, asked in given]
        >>> preference_matrices(Polite(), ["Ask me."], [["Sit.", "Sit, please."]])[0].P.round(2).tolist()
        [[0.5, 0.12], [0.88, 0.5]]
    """

    name: str = "oracle"
    fingerprint: str | None = None
    symmetric: bool = False
    transitive: bool = False
    aggregation: Aggregation = "calibrated"
    pairs_per_call: int = 1024

    def cache_key(self) -> str | None:
        """What judgements are kept under: ``fingerprint``, and what a base class knows to change them."""
        return self.fingerprint

    @abstractmethod
    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        """For each prompt one logit a pair: ``sigmoid(logit)`` = P(candidate i beats candidate j), i shown first.

        A judgement that could not be had is NaN; a sure one may be infinite. An ensemble returns ``[members, pairs]``:
        the mean is the logit, and the spread of the members becomes ``PairwiseResult.std``.

        Args:
            prompts: N raw instructions.
            candidates: for each prompt its texts.
            pairs: for each prompt the places (i, j) among its texts that are asked for.

        Returns:
            N arrays ``[pairs]`` or ``[members, pairs]``.
        """

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        """How many of the texts (the prompt counts as one) are cut before they are judged."""
        return 0

    def judge(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
        """All logits, some at a time, as they come.

        Yields:
            The places of the pairs, each (which prompt, which of its pairs), and their logits ``[B]`` or
            ``[members, B]``. An oracle that has its own batches yields them; this one calls ``raw_logits`` on as many
            prompts as have about ``pairs_per_call`` pairs.

        Raises:
            ValueError: if ``raw_logits`` returns something else than one logit a pair.
        """
        start = 0
        while start < len(prompts):
            stop, count = start + 1, len(pairs[start])
            while stop < len(prompts) and count + len(pairs[stop]) <= self.pairs_per_call:
                count += len(pairs[stop])
                stop += 1
            part = slice(start, stop)
            given = self.raw_logits(prompts[part], candidates[part], pairs[part])
            answers = one_each(given, stop - start, f"{self.name} returned logits", "prompts")
            for n, answer in zip(range(start, stop), answers, strict=True):
                yield [(n, k) for k in range(len(pairs[n]))], self._checked(answer, len(pairs[n]), n)
            start = stop

    def _checked(self, answer: object, count: int, n: int) -> Float[np.ndarray, "*members pairs"]:
        logits, found = numbers(answer)
        if logits.ndim not in (1, 2) or logits.shape[-1] != count or logits.shape[0] == 0:
            raise NashwardError(
                f"{self.name} returned logits {found} for prompt {n}; expected ({count},), one logit a pair "
                f"(from an ensemble (members, {count}))"
            )
        return logits


def distinct(candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]) -> tuple[list[list[str]], list[np.ndarray]]:
    """Of each prompt the candidates that some pair needs, and its pairs ``[pairs, 2]`` by their places among these."""
    used = [sorted({k for pair in asked for k in pair}) for asked in pairs]
    texts = [[own[k] for k in places] for own, places in zip(candidates, used, strict=True)]
    asked_at = [np.array(asked, dtype=int).reshape(-1, 2) for asked in pairs]
    return texts, [np.searchsorted(places, at) for places, at in zip(used, asked_at, strict=True)]


def numbers(answer: Any) -> tuple[Float[np.ndarray, "..."], str]:
    """What somebody's code returned, as float64, NaN where it is None; and what it was, for an error.

    Of tensors the values are taken, wherever they lie and whatever gradient they have. What are no numbers becomes a
    single NaN, of shape ().
    """
    nothing = np.full((), np.nan)
    try:
        values = [plain(value) for value in answer] if isinstance(answer, list | tuple) else plain(answer)
        found = nothing if values is None else np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return nothing, f"of type {type(answer).__name__} that are no numbers"
    return found, "None" if values is None else f"of shape {found.shape}"


def plain(value: Any) -> Any:
    """Python's own numbers in place of a tensor, on whatever device and with whatever gradient, or of an array."""
    return value.tolist() if hasattr(value, "tolist") else value


def one_each(answers: Any, count: int, what: str, of: str) -> list[Any]:
    """What somebody's code returned, as a list.

    Raises:
        ValueError: it is none, or there are not as many as were asked for.
    """
    try:
        listed = list(answers)
    except TypeError:
        raise NashwardError(
            f"{what} of type {type(answers).__name__}; expected a list, one for each of {count} {of}"
        ) from None
    if len(listed) != count:
        raise NashwardError(f"{what} for {len(listed)} {of}; expected {count}")
    return listed
