"""Pairwise judges as oracles: plain functions, and objects with a ``judge`` method."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float
from nashward.shortened import quoted

from ..protocol import Pairs, PreferenceOracle, as_number, one_each
from ..users_code import naming_pairs


class Function(PreferenceOracle):
    """A plain function as an oracle.

    Args:
        function: ``(prompt, first, second) -> P(first beats second)`` in [0, 1], or None for no verdict. Where all that
            it is asked at first is without one a warning says so: a ``return`` may be missing.
        symmetric: promise that f(p, a, b) == 1 - f(p, b, a); then one order is judged.
        transitive, name, fingerprint: see ``PreferenceOracle``.

    Raises:
        ValueError: in ``raw_logits``, a value that is neither a probability nor None.

    Example:
        >>> from nashward.llm.oracles import Function, preference_matrices
        >>> polite = Function(lambda prompt, a, b: 0.5 + 0.4 * (("please" in a) - ("please" in b)), symmetric=True)
        >>> preference_matrices(polite, ["Ask me."], [["Sit.", "Sit, please."]])[0].P.round(2).tolist()
        [[0.5, 0.1], [0.9, 0.5]]
    """

    def __init__(
        self,
        function: Callable[[str, str, str], float | None],
        *,
        symmetric: bool = False,
        transitive: bool = False,
        name: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.function, self.symmetric, self.transitive = function, symmetric, transitive
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.fingerprint = fingerprint
        self.pairs_per_call = 1  # a plain function has no batches: each prompt's logits are cached at once

    @property
    def _proven(self) -> bool:
        return False  # the function is the user's

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        logits = []
        for prompt, texts, prompt_pairs in zip(prompts, candidates, pairs, strict=True):
            values = []
            for i, j in prompt_pairs:
                with naming_pairs(self.name, [prompt], [texts], [[(i, j)]]):
                    values.append(as_number(self.function(prompt, texts[i], texts[j])))
            for p in values:
                if not isinstance(p, Real | None):
                    raise NashwardError(f"{self.name} gave {quoted(p, 60)}; expected a probability in [0, 1], or None")
            logits.append(log_odds([float("nan") if p is None else float(p) for p in values], self.name))
        return logits


class Judge(PreferenceOracle):
    """An object with ``judge(prompts, pairs)``, as TRL's pairwise judges had it, as an oracle.

    ``pairs`` are lists of two texts. A verdict that is an integer (or a bool) is the index of the winner: 0, the first,
    or 1; -1 or another number is no verdict, as None is, and the judgement is missing. A float is P(first beats
    second). Tensors and arrays are read by their type in the same way. Both orders are judged: an argument
    ``shuffle_order`` of the method is set to False.

    Args:
        judge: the object.
        name, fingerprint: see ``PreferenceOracle``.
        pairs_per_call: about how many pairs are passed to one call of ``judge``.

    Raises:
        ValueError: in ``raw_logits``, more or fewer verdicts than pairs, or a value that is no verdict.

    Example:
        >>> class Shortest:
        ...     def judge(self, prompts, pairs):
        ...         return [0 if len(first) <= len(second) else 1 for first, second in pairs]
        >>> Judge(Shortest()).raw_logits(["Say hello."], [["Hello!", "Hi."]], [[(0, 1), (1, 0)]])
        [array([-inf,  inf])]
    """

    def __init__(
        self, judge: Any, *, name: str | None = None, fingerprint: str | None = None, pairs_per_call: int = 64
    ) -> None:
        self.wrapped = judge
        self.name = name or str(getattr(judge, "name", type(judge).__name__))
        self.fingerprint, self.pairs_per_call = fingerprint, pairs_per_call
        parameters = inspect.signature(judge.judge).parameters
        self._options = {"shuffle_order": False} if "shuffle_order" in parameters else {}

    @property
    def is_users_code(self) -> bool:
        return True

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        texts_shown = [
            (prompt, [texts[i], texts[j]])
            for prompt, texts, prompt_pairs in zip(prompts, candidates, pairs, strict=True)
            for i, j in prompt_pairs
        ]
        returned = self.wrapped.judge(
            [prompt for prompt, _ in texts_shown], [pair for _, pair in texts_shown], **self._options
        )
        verdicts = one_each(returned, len(texts_shown), f"{self.name} gave verdicts", "pairs")
        logits = log_odds([_probability(verdict, self.name) for verdict in verdicts], self.name)
        return np.split(logits, np.cumsum([len(prompt_pairs) for prompt_pairs in pairs])[:-1])


def _probability(verdict: Any, name: str) -> float:
    """P(first beats second) by one verdict of a judge; NaN for none."""
    verdict = as_number(verdict)
    if verdict is None:
        return float("nan")
    if isinstance(verdict, Integral):
        return {0: 1.0, 1: 0.0}.get(int(verdict), float("nan"))
    if isinstance(verdict, Real):
        return float(verdict)
    raise NashwardError(
        f"{name} gave the verdict {quoted(verdict, 60)}; expected 0 or 1, which of the two texts wins, or a float, the "
        "probability that the first does, or None"
    )


def log_odds(probabilities: Sequence[float], name: str) -> Float[np.ndarray, " N"]:
    """log p - log(1 - p), ``[N]``; infinite at 0 and 1, NaN where p is.

    Raises:
        ValueError: a number outside of [0, 1].

    Example:
        >>> log_odds([0.5, 1.0, float("nan")], "the judge")
        array([ 0., inf, nan])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    wrong = (p < 0) | (p > 1)
    if wrong.any():
        raise NashwardError(
            f"{name} gave {p[wrong][0]:.6g}; expected a probability in [0, 1]: of log-odds return 1 / (1 + exp(-logit))"
        )
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)
