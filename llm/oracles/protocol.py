"""The protocol of preference oracles: one method to write, and the properties to declare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float
from nashward.shortened import quoted

from .cache import Cache
from .users_code import naming_pairs, warn_of_silence

Pairs = Sequence[tuple[int, int]]
# what a step has sampled: the prompt's text, the policy's label, the texts of the responses
SampledTexts = Iterable[tuple[str, str, Sequence[str]]]
Aggregation = Literal["calibrated", "hodge", "sppo-official"]
FURTHER = 3  # pairs that are judged in the other order too when an oracle is first used
SKEW = 1e-2  # of L_ij + L_ji, absolute and relative: half precision rounds the rows of a batch differently
COMPLEMENT = 1e-3  # of p_ij + p_ji - 1


class PreferenceOracle(ABC):
    """Base of all oracles. A new oracle writes ``raw_logits`` and, where it can, ``truncated``.

    .. math::  P(y_i \\succ y_j | x) = \\sigma\\left(\\frac{L_{ij} - L_{ji}}{2}\\right)

    with L_ij the log-odds that y_i beats y_j when y_i is shown first; ``preference_matrices`` computes P from them.

    Attributes:
        name: shown in reports.
        fingerprint: a text that identifies everything besides the texts that the logits depend on (weights, format,
            settings); oracles whose logits may differ need different ones. None: judgements are not cached.
        symmetric: True promises logit(i, j) == -logit(j, i); then one order is judged and the other is its negative.
            ``judge`` compares both orders of at most 3 pairs of the first prompt, where ``raw_logits`` is your own.
        transitive: True promises that the logits are differences of a score: the game has a pure equilibrium.
        aggregation: the default by which logits become win probabilities; see ``preference_matrices``.
        sees_copies: True: a judgement depends on all of the texts, so that equal ones are given as often as they occur.
        pairs_per_call: about how many pairs ``judge`` passes to one call of ``raw_logits``. The logits of a call are
            cached when it returns; a call that is interrupted is repeated.

    See also: ``Function``, ``Judge``, ``RewardFunction`` and ``VoteTable``, which need no class of your own;
        ``ScalarOracle`` and ``EmbeddingOracle``, the bases with a reward or an embedding for each response.

    Example:
        >>> from nashward.llm.oracles import preference_matrices
        >>> class Polite(PreferenceOracle):
        ...     def raw_logits(self, prompts, candidates, pairs):
        ...         scores = [[2.0 * ("please" in text) for text in texts] for texts in candidates]
        ...         return [np.array([s[i] - s[j] for i, j in prompt_pairs]) for s, prompt_pairs in zip(scores, pairs)]
        >>> preference_matrices(Polite(), ["Ask me."], [["Sit.", "Sit, please."]])[0].P.round(2).tolist()
        [[0.5, 0.12], [0.88, 0.5]]
    """

    name: str = "oracle"
    fingerprint: str | None = None
    symmetric: bool = False
    transitive: bool = False
    sees_copies: bool = False
    aggregation: Aggregation = "calibrated"
    pairs_per_call: int = 1024

    @property
    def consulted(self) -> tuple[PreferenceOracle, ...]:
        """The oracles that this one puts its questions to: the members of an ensemble, what a correction wraps."""
        return ()

    def cache_key(self) -> str | None:
        """The key of cached judgements: ``fingerprint``, and the settings of a base class that change the logits."""
        return self.fingerprint

    def attach_cache(self, cache: Cache) -> None:
        """Called with the open cache before pairs are judged: an oracle that pays for its verdicts keeps them beside.

        Args:
            cache: of the judgements.
        """
        for oracle in self.consulted:
            oracle.attach_cache(cache)

    def expect(self, pairs: int) -> None:
        """Called, where it is known, with how many pairs (each order is one) are going to be judged.

        Args:
            pairs: about how many, those in the cache counted too.
        """
        for oracle in self.consulted:
            oracle.expect(pairs)

    def redraw(self) -> None:
        """Called before pairs are judged again to measure how far judgements vary: kept verdicts are drawn anew."""
        for oracle in self.consulted:
            oracle.redraw()

    @abstractmethod
    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        """For each prompt one logit a pair: ``sigmoid(logit)`` = P(candidate i beats candidate j), i shown first.

        A missing judgement is NaN; a certain one may be infinite. An ensemble returns ``[members, pairs]``: ``pooled``
        makes one logit of them, and the spread of the members becomes ``PairwiseResult.std``.

        Args:
            prompts: N raw instructions.
            candidates: for each prompt its texts.
            pairs: for each prompt the pairs of indices (i, j) of its texts to judge.

        Returns:
            N arrays ``[pairs]`` or ``[members, pairs]``.
        """

    def pooled(self, logits: Float[np.ndarray, "members ..."]) -> Float[np.ndarray, "..."]:
        """The oracle's log-odds from those of its members ``[members, ...]``, by default their mean.

        It is odd, ``pooled(-logits) == -pooled(logits)``, so that tables stay complementary.
        """
        with np.errstate(invalid="ignore"):  # inf - inf, of members that are certain of opposite winners, is missing
            return logits.mean(0)

    def error_factor(self, members: int) -> float:
        """What the standard deviation over members is multiplied by to be the standard error of what they pool.

        For m judges whose errors are independent it is 1 / sqrt(m), by default.

        Args:
            members: m, at least 2.

        Example:
            >>> from nashward.llm.oracles import Ensemble, Length
            >>> Ensemble([Length(), Length(2.0), Length(), Length()]).error_factor(4)
            0.5
        """
        return 1 / members**0.5

    def unclipped(self, logits: Float[np.ndarray, "members ..."]) -> Float[np.ndarray, "..."] | None:
        """What a regression fits in place of P, from the members' log-odds, both orders averaged; None: P itself.

        It may lie outside of [0, 1], where its mean is then the probability and that of P is not.
        """
        return None

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        """How many of the texts (the prompt counts as one) are truncated before they are judged."""
        return 0

    def judge(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
        """All logits, a batch at a time.

        Yields:
            The indices of the pairs, each (which prompt, which of its pairs), and their logits ``[B]`` or
            ``[members, B]``. An oracle with batches of its own yields them; this method calls ``raw_logits`` on as many
            prompts as have about ``pairs_per_call`` pairs.

        Raises:
            ValueError: ``raw_logits`` returns something else than one logit a pair; at its first use, numbers that are
                not opposite in both orders though ``symmetric`` is True, or probabilities in place of log-odds.
        """
        start, silent = 0, 0  # pairs that were asked for, where none was judged
        while start < len(prompts):
            stop, count = start + 1, len(pairs[start])
            further = self._further(candidates[start], pairs[start])
            # where a promise may be broken one prompt is judged first: nothing of what is wrong is paid for or cached
            while not further and stop < len(prompts) and count + len(pairs[stop]) <= self.pairs_per_call:
                count += len(pairs[stop])
                stop += 1
            part = slice(start, stop)
            wanted = [[*pairs[start], *further]] if further else pairs[part]
            with naming_pairs(self.name, prompts[part], candidates[part], wanted):
                returned = self.raw_logits(prompts[part], candidates[part], wanted)
            logits = one_each(returned, stop - start, f"{self.name} returned logits", "prompts")
            for n, own, prompt_logits in zip(range(start, stop), wanted, logits, strict=True):
                values = self._checked(prompt_logits, len(own), n, len(further))
                if n == start:
                    self._check_promises(prompts[n], candidates[n], own, values)
                silent += values.shape[-1]
                self._has_judged = self._has_judged or not np.isnan(values).all()
                yield [(n, k) for k in range(len(pairs[n]))], values[..., : len(pairs[n])]
            start = stop
        if silent and self.is_users_code and not self._has_judged:
            self._has_judged = True  # said once
            warn_of_silence(self.name, silent)

    @property
    def is_users_code(self) -> bool:
        """Whether a user's code judges, which may lack a return; a table of votes is silent on other texts."""
        return not (self._proven and type(self).__module__.startswith("nashward."))

    @property
    def _has_judged(self) -> bool:
        """Whether it has judged anything yet, or was warned of."""
        return bool(self.__dict__.get("_any_judgement"))

    @_has_judged.setter
    def _has_judged(self, judged: bool) -> None:
        self.__dict__["_any_judgement"] = judged  # a frozen dataclass may be an oracle

    @property
    def _proven(self) -> bool:
        """Whether ``raw_logits`` is the project's: what it returns is by construction what it declares."""
        return str(getattr(self.raw_logits, "__module__", "")).startswith("nashward.")

    @property
    def _seen(self) -> bool:
        """Whether its promises need no look, or no further one."""
        return self._proven or bool(self.__dict__.get("_promises_seen"))

    @_seen.setter
    def _seen(self, seen: bool) -> None:
        self.__dict__["_promises_seen"] = seen  # a frozen dataclass may be an oracle

    def _further(self, texts: Sequence[str], pairs: Pairs) -> list[tuple[int, int]]:
        """The other order of the first pairs of one prompt, where it is declared to be known."""
        if self._seen or not self.symmetric:
            return []
        there = set(pairs)
        return [(j, i) for i, j in pairs if texts[i] != texts[j] and (j, i) not in there][:FURTHER]

    def _check_promises(
        self, prompt: str, texts: Sequence[str], pairs: Pairs, values: Float[np.ndarray, "*members pairs"]
    ) -> None:
        """Raise where both orders of pairs show that ``symmetric`` is wrong, or that these are no log-odds."""
        if self._seen:
            return
        place = {pair: k for k, pair in enumerate(pairs)}
        there = ((k, place.get((j, i), -1)) for k, (i, j) in enumerate(pairs) if texts[i] != texts[j])
        both = np.array([(k, other) for k, other in there if other > k], dtype=int).reshape(-1, 2)
        one, two = (np.atleast_2d(values)[:, both[:, side]] for side in (0, 1))
        known = ~np.isnan(one) & ~np.isnan(two)
        if not known.any():
            self._seen = self.symmetric and len(both) > 0  # no prompt after it is judged in both orders
            return
        skew = np.isclose(one, -two, rtol=SKEW, atol=SKEW) | ~known
        if self.symmetric and skew.all():
            self._seen = True
            return
        first, second = one[known], two[known]
        complements = are_probabilities(first, second, self.symmetric)
        if not complements and not self.symmetric:
            self._seen = True
            return
        worst = int((np.abs(first - second) if complements else ~skew[known]).argmax())
        i, j = pairs[both[np.nonzero(known)[1][worst], 0]]
        p, q = float(first[worst]), float(second[worst])
        shown = f"the pair {quoted(texts[i], 40)}, {quoted(texts[j], 40)} of prompt {quoted(prompt, 40)}"
        if complements:
            raise NashwardError(f"{self.name} returned {no_log_odds(shown, p, q)}")
        raise NashwardError(
            f"{self.name} declares symmetric = True, but returned {p:.4g} for {shown} and {q:.4g} for its other order, "
            f"where {-p:.4g} was expected: set symmetric = False, so that both orders are judged"
        )

    def _checked(self, returned: object, count: int, n: int, further: int = 0) -> Float[np.ndarray, "*members pairs"]:
        logits, actual = as_floats(returned)
        if logits.ndim not in (1, 2) or logits.shape[-1] != count or logits.shape[0] == 0:
            twice = (
                f": {count - further} of its texts, and {further} of these in the other order, by which symmetric is "
                "checked at first"
            )
            raise NashwardError(
                f"{self.name} returned logits {actual} for prompt {n}; expected ({count},), one logit a pair "
                f"(from an ensemble (members, {count})){twice if further else ''}"
            )
        return logits


def check_is_oracle(oracle: Any) -> None:
    """Raise, with what to do, where something else than an oracle was given.

    Raises:
        ValueError: it is no ``PreferenceOracle``.

    Example:
        >>> check_is_oracle(PreferenceOracle)
        Traceback (most recent call last):
        nashward.errors.NashwardError: PreferenceOracle is a class, expected an oracle: call it, PreferenceOracle(...)
    """
    if isinstance(oracle, PreferenceOracle):
        return
    if isinstance(oracle, type):
        own = issubclass(oracle, PreferenceOracle)
        does = f"call it, {oracle.__name__}(...)" if own else "derive it from PreferenceOracle and call it"
        raise NashwardError(f"{oracle.__name__} is a class, expected an oracle: {does}")
    kind = type(oracle).__name__
    if isinstance(oracle, str | Path):
        raise NashwardError(f"{quoted(str(oracle), 80)} is a {kind}, expected an oracle: load it with as_oracle")
    raise NashwardError(f"{kind} is no PreferenceOracle; derive from it or wrap a function in Function")


def are_probabilities(first: Float[np.ndarray, " pairs"], second: Float[np.ndarray, " pairs"], symmetric: bool) -> bool:
    """Whether what was returned as log-odds of pairs in both orders looks like probabilities, which add up to 1.

    Args:
        first, second: of the pairs, and of the same in the other order; none is NaN.
        symmetric: whether log-odds were declared to be opposite: 1/2 and 1/2 then are none, else they may be a tie.

    Example:
        >>> are_probabilities(np.array([0.9, 0.2]), np.array([0.1, 0.8]), symmetric=False)
        True
    """
    with np.errstate(invalid="ignore"):  # inf - inf
        inside = (np.minimum(first, second) >= 0) & (np.maximum(first, second) <= 1)
        complements = bool(len(first) and (inside & (np.abs(first + second - 1) <= COMPLEMENT)).all())
    return complements and (symmetric or bool((np.abs(first - second) > COMPLEMENT).any()))


def no_log_odds(pair: str, p: float, q: float) -> str:
    """What is wrong where ``are_probabilities``, by the two numbers of a pair.

    Example:
        >>> no_log_odds("the pair (0, 1)", 0.9, 0.1)[:58]
        '0.9 for the pair (0, 1) and 0.1 for its other order: these'
    """
    return (
        f"{p:.4g} for {pair} and {q:.4g} for its other order: these look like probabilities, which add up to 1, and "
        "raw_logits returns log-odds: return log(p / (1 - p))"
    )


class StepwiseOracle(PreferenceOracle):
    """An oracle that is another one at each step of a run, as one that is fitted while the run goes on."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What tells it from others and stays the same from step to step: a run is continued with the same one."""

    @abstractmethod
    def at_step(
        self, folder: Path, responses: Callable[[], SampledTexts], pause: Callable[[float], None]
    ) -> PreferenceOracle:
        """The oracle that judges a step, made where the step has none yet.

        Args:
            folder: of the step; what is made is kept in its ``oracle``, so that the step is judged by the same one
                whenever the run is continued.
            responses: returns those that were sampled for the step.
            pause: waits so many seconds, and raises where the run is to stop.
        """


def texts_in_pairs(
    candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
) -> tuple[list[list[str]], list[np.ndarray]]:
    """The candidates that some pair needs.

    Returns:
        For each prompt these texts, and its pairs ``[pairs, 2]`` as indices of them.
    """
    used = [sorted({k for pair in prompt_pairs for k in pair}) for prompt_pairs in pairs]
    needed = [[texts[k] for k in indices] for texts, indices in zip(candidates, used, strict=True)]
    arrays = [np.array(prompt_pairs, dtype=int).reshape(-1, 2) for prompt_pairs in pairs]
    return needed, [np.searchsorted(indices, array) for indices, array in zip(used, arrays, strict=True)]


def as_floats(returned: Any) -> tuple[Float[np.ndarray, "..."], str]:
    """What a user's code returned, as float64.

    Args:
        returned: numbers, arrays, tensors on any device and with any gradient, or lists of these; None is NaN.

    Returns:
        The array, a single NaN of shape () for anything else; and what was returned, for an error.
    """
    nothing = np.full((), np.nan)
    try:
        values = [as_number(value) for value in returned] if isinstance(returned, list | tuple) else as_number(returned)
        array = nothing if values is None else np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return nothing, f"of type {type(returned).__name__} that are no numbers"
    return array, "None" if values is None else f"of shape {array.shape}"


def as_number(value: Any) -> Any:
    """Python's own numbers in place of a tensor, on any device and with any gradient, or of an array."""
    return value.tolist() if hasattr(value, "tolist") else value


def one_each(returned: Any, count: int, what: str, of: str) -> list[Any]:
    """What a user's code returned, as a list of ``count`` entries.

    Args:
        returned: an iterable.
        count: the expected length.
        what, of: the beginning of an error, and what there is one entry for.

    Raises:
        ValueError: it is no iterable, or has another length.
    """
    try:
        listed = list(returned)
    except TypeError:
        raise NashwardError(
            f"{what} of type {type(returned).__name__}; expected a list, one for each of {count} {of}"
        ) from None
    if len(listed) != count:
        raise NashwardError(f"{what} for {len(listed)} {of}; expected {count}")
    return listed
