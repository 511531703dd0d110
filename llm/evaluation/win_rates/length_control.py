"""The length-controlled win rate of AlpacaEval 2: the predicted win rate at the lengths of the baseline."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import expit

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.analysis.confidence import least_error
from nashward.games.forms.keyed import by_key, counts_rows, is_series
from nashward.games.shapes import Float
from nashward.shortened import quoted

from .cross_validation import chosen_penalty
from .keyed_columns import Column, aligned
from .logistic import fit
from .sampling_error import Fitted, standard_error

GAMED = 0.1  # the weight of a row of the gamed baseline: lambda = 0.2 over its two models, verbose and concise
CROSS_VALIDATION = "cross-validation"
GAMED_SUMS, GAMED_LABELS = ("gamed_s1", "gamed_s2"), "gamed_preference"
PUBLISHED = {
    "np.tanh(std_delta_len)": "length",
    "instruction_difficulty": "difficulty",
    "not_gamed_baseline.astype(float)": "model",
}
GAMED_COLUMNS = ("gamed_tanh_length", *GAMED_SUMS, GAMED_LABELS, "gamed_difficulty")


class NotComparable(UserWarning):
    """Warns that a length-controlled win rate is not comparable with the AlpacaEval leaderboard."""


class Weights(NamedTuple):
    """The coefficients of the logistic model: of tanh(length difference), of the prompt difficulty, and of the model.

    Attributes:
        length: w_L, without effect on a win rate at equal lengths.
        difficulty: w_d.
        model: w_m.

    Example:
        >>> predict(Weights(length=-0.9, difficulty=0.0, model=0.0), [0.0, 1.0]).value  # w_L has no effect
        50.0
    """

    length: float
    difficulty: float
    model: float


class Prediction(NamedTuple):
    """A win rate in percent from given weights.

    Attributes:
        value: the mean over prompts.
        alpaca_eval_standard_error: as AlpacaEval has it, from the spread of the predictions over prompts; the weights
            are taken as exact, so that it is no error of a rate that was fitted. NaN with a single prompt.
    """

    value: float
    alpaca_eval_standard_error: float


@dataclass(frozen=True)
class LengthControlled:
    """A length-controlled win rate; all rates in percent.

    Attributes:
        value, standard_error: of the win rate at equal lengths; the standard error is the sampling error over prompts
            and their judgements, that of the fitted weights included. Of few prompts that are alike, as where all are
            won, it is no less than ``games.analysis.confidence.least_error``.
        alpaca_eval_standard_error: the figure that AlpacaEval publishes, the spread of the predictions over prompts for
            fixed weights: 0 without difficulties, and several times too small with them.
        win_rate, win_rate_error: the mean preference, uncontrolled.
        discrete_win_rate: the same with each preference rounded to a win, a draw or a loss.
        weights: the fitted coefficients.
        regularisation: 1 / C of the fit, as given or as chosen by cross-validation.
        prompts: the number of judged prompts.
        minimal: whether the fit had no rows of the gamed baseline, and is not comparable with the leaderboard.
        identified: whether the data tell the model from its lengths. Not where all outputs are longer than the
            baseline's, or all shorter, and no gamed rows say what length does: the value is then what the penalty
            leaves, and its standard error NaN.

    Example:
        >>> result = LengthControlled(52.1, 1.2, 0.4, 60.3, 1.5, 61.0, Weights(0.0, 0.0, 0.08), 0.15, 805, minimal=True)
        >>> print(result)
        minimal 52.10 ± 1.20
    """

    value: float
    standard_error: float
    alpaca_eval_standard_error: float
    win_rate: float
    win_rate_error: float
    discrete_win_rate: float
    weights: Weights
    regularisation: float
    prompts: int
    minimal: bool
    identified: bool = True

    @property
    def name(self) -> str:
        """LC, or minimal where the value is not comparable with the leaderboard."""
        return "minimal" if self.minimal else "LC"

    def __str__(self) -> str:
        return f"{self.name} {self.value:.2f} ± {self.standard_error:.2f}"


def length_controlled_win_rate(
    preference: Column,
    output_length: Column,
    baseline_length: Column,
    difficulty: Column | None = None,
    gamed: Mapping[str, Any] | None = None,
    regularisation: float | Literal["cross-validation"] = 0.15,
    prompts: Sequence[str] | None = None,
) -> LengthControlled:
    """The length-controlled win rate of a model against a baseline.

    .. math::
        \\text{logit} P(y_i = 1) = w_L \\tanh \\frac{b_i - l_i}{\\text{sd}_j(b_j - l_j)} + w_d d_i + w_m,
        \\qquad \\text{LC} = \\frac{100}{N} \\sum_i \\sigma(w_m + w_d d_i)

    with the lengths l of the outputs and b of the baseline outputs in characters and the difficulty d of each prompt,
    fitted by cross-entropy with the penalty ``(1 / C) |w|_1``. The rows of the gamed baseline (its verbose and its
    concise version against itself, weight 0.1 each, without w_m) regularise w_L and w_d; of their labels y only
    S1 = sum y tanh(..) and S2 = sum y d enter. Without these rows the result is ``minimal``, with a warning: on
    published annotations it differs by up to 13 points, and nothing identifies it where all outputs are longer than the
    baseline's, or all shorter (``identified``). A model with the outputs of the baseline has 50.

    Every column is a mapping by prompt (or a pandas Series by its index), or an array in the same order as the others;
    mappings and arrays together need ``prompts``. Rows are never looked up by number, which in alpaca_eval 0.6.6 gives
    wrong difficulties to all rows after a missing one (2.4 points for minotaur-13b).

    Args:
        preference: [N] in [0, 1], P(the model's output is preferred); NaN: not judged (the row is left out).
        output_length, baseline_length: [N], in characters.
        difficulty: [N], AlpacaEval's ``instruction_difficulty``; None leaves out w_d. As a mapping it may hold
            further prompts, in whose order the rows of ``gamed`` then are.
        gamed: ``gamed_tanh_length`` [M] with either ``gamed_s1`` and ``gamed_s2``, or the labels of the rows
            ``gamed_preference`` [M]; and ``gamed_difficulty`` [M], or ``difficulty`` repeated M / N times.
        regularisation: 1 / C, in the published fits at least 0.0001; "cross-validation" chooses it as AlpacaEval does,
            and needs ``gamed_preference``.
        prompts: the prompts of the rows of arrays; of mappings, the prompts to use.

    Returns:
        the length-controlled win rate with the plain one, the weights and the regularisation.

    Raises:
        ValueError: columns that cannot be aligned (see ``aligned``), preferences outside [0, 1], a negative length,
            fewer than two judged prompts, incomplete gamed rows, or cross-validation without their labels.

    Source: Dubois et al. 2024, arXiv 2404.04475; ``length_controlled_v1`` of alpaca_eval 0.6.6.

    See also:
        ``predict``: from known weights.
        ``win_rate``: without length control.

    Example:
        >>> y, d = [0.9, 0.8, 0.2, 0.7, 0.3, 0.6], [0.0, 1.0, 0.5, 1.0, 0.0, 0.5]
        >>> rows = {"gamed_tanh_length": [0.6, 0.4, 0.1, -0.5, -0.7, 0.2], "gamed_s1": -0.4, "gamed_s2": 0.8}
        >>> print(length_controlled_win_rate(y, [500, 200, 350, 250, 150, 400], [300] * 6, d, rows))
        LC 55.78 ± 28.37
    """
    columns = {"preference": preference, "output_length": output_length, "baseline_length": baseline_length}
    if difficulty is not None:
        columns["difficulty"] = difficulty
    rows = aligned(columns, prompts)
    for name in [name for name in rows if name != "preference"]:
        if not np.isfinite(rows[name]).all():
            raise NashwardError(f"{name} holds {rows[name][~np.isfinite(rows[name])][0]}; expected a number a prompt")
    judged = ~np.isnan(rows["preference"])
    for name in ("output_length", "baseline_length"):
        if len(negative := rows[name][judged & (rows[name] < 0)]):
            raise NashwardError(f"{name} holds {negative[0]:g}; expected a number of characters, 0 or more")
    y, d = rows["preference"][judged], rows["difficulty"][judged] if difficulty is not None else None
    if len(y) < 2:
        raise NashwardError(f"{len(y)} of {counted(len(judged), 'prompt')} judged; a fit needs at least 2")
    if len(outside := y[(y < 0) | (y > 1)]):
        raise NashwardError(f"preference holds {outside[0]:g}; expected probabilities (AlpacaEval's 1 to 2, minus 1)")
    _check_regularisation(regularisation, gamed)

    length_difference = (rows["baseline_length"] - rows["output_length"])[judged]
    penalty: float = 0.0 if isinstance(regularisation, str) else regularisation
    error = 0.0
    identified = gamed is not None or length_difference.min() <= 0 <= length_difference.max()
    same = not length_difference.any() and bool((y == 0.5).all())  # the outputs of the baseline
    if same:
        weights = Weights(0.0, 0.0, 0.0)
    else:
        spread = length_difference.std(ddof=1)
        # equal differences carry no information on length
        tanh = np.tanh(length_difference / spread) if spread else np.zeros(len(length_difference))
        judged_features = np.stack([tanh, *([] if d is None else [d]), np.ones(len(y))], 1)
        features, row_weights, gamed_moments = judged_features, np.ones(len(y)), np.zeros(judged_features.shape[1])
        gamed_features = judged_features[:0]
        if gamed is not None:
            if difficulty is None:
                raise NashwardError("the gamed baseline's rows need difficulty: it is one of their two features")
            gamed_features, sums, labels = _gamed_rows(gamed, difficulty)
            features = np.concatenate([gamed_features, judged_features])
            row_weights = np.concatenate([np.full(len(gamed_features), GAMED), row_weights])
            gamed_moments = GAMED * np.append(sums, 0.0)
            if labels is not None and isinstance(regularisation, str):
                penalty = chosen_penalty(features, row_weights, np.concatenate([labels, y]))
        coefficients = fit(features, row_weights, y @ judged_features + gamed_moments, penalty)
        fitted = (coefficients, judged_features, y, length_difference, gamed_features, GAMED, gamed_moments, penalty)
        error = 100 * standard_error(Fitted(*fitted)) if identified else np.nan
        weights = Weights(float(coefficients[0]), 0.0 if d is None else float(coefficients[1]), float(coefficients[-1]))
    value, alpaca_error = predict(weights, np.zeros(len(y)) if d is None else d)
    if not same:
        error = max(error, 100 * float(least_error(value / 100, len(y))))  # NaN stays
    if gamed is None:
        _warn_not_comparable(value, length_difference, identified=bool(identified))
    discrete = np.where(y == 0.5, 0.5, y > 0.5)
    return LengthControlled(
        value, error, alpaca_error,
        100 * float(y.mean()), 100 * float(y.std(ddof=1)) / len(y) ** 0.5, 100 * float(discrete.mean()),
        weights, penalty, len(y), gamed is None, bool(identified),
    )  # fmt: skip


def _check_regularisation(regularisation: float | str, gamed: Mapping[str, Any] | None) -> None:
    if isinstance(regularisation, str):
        if regularisation != CROSS_VALIDATION:
            raise NashwardError(
                f"regularisation is {regularisation!r}; expected 1 / C, a positive number, or {CROSS_VALIDATION!r}"
            )
        if gamed is None or GAMED_LABELS not in gamed:
            raise NashwardError(
                f"{CROSS_VALIDATION} needs the labels of the gamed baseline's rows, {GAMED_LABELS}, of which only "
                "the sums are public; give regularisation a number (0.15 is within 0.1 points of every published fit)"
            )
    elif not 0 < regularisation < np.inf:
        raise NashwardError(
            f"regularisation is {regularisation}; expected 1 / C, a positive number, or {CROSS_VALIDATION!r}"
        )


def _warn_not_comparable(value: float, length_difference: Float[np.ndarray, " N"], *, identified: bool) -> None:
    """Say that a win rate without the gamed baseline's rows is minimal, or that it is not identified at all."""
    if identified:
        told = (
            "a minimal length-controlled win rate, without the gamed baseline's rows: it is not comparable with the "
            "AlpacaEval leaderboard (up to 13 points off)"
        )
    else:
        told = (
            f"all outputs are {'longer' if length_difference[0] < 0 else 'shorter'} than the baseline's: no win rate "
            f"at equal lengths is identified, and {value:.1f} is what the penalty leaves; give the gamed baseline's "
            "rows, or outputs of like length"
        )
    warnings.warn(told, NotComparable, stacklevel=3)


def predict(
    weights: Sequence[float] | Mapping[str, float],
    difficulty: Any,
    against: Sequence[float] | Mapping[str, float] = (0.0, 0.0, 0.0),
) -> Prediction:
    """The win rate at equal lengths from known weights, against the baseline or another model.

    .. math::  \\frac{100}{N} \\sum_i \\sigma(w_m - v_m + (w_d - v_d) d_i)

    so that the win rates of two models against each other sum to 100.

    Args:
        weights: w, in the order of ``Weights`` (and of the columns of AlpacaEval's published weights), or a mapping
            or Series with the names of either.
        difficulty: d, [N], or a mapping by prompt.
        against: v, the weights of the other model; zeros for the baseline.

    Returns:
        the win rate in percent, and AlpacaEval's standard error.

    Raises:
        ValueError: difficulties that are not finite, or none; weights with other names.
        TypeError: not three weights each.

    Example:
        >>> predict((-2.2068, 0.9859, -3.6907), [-1.0, 0.0, 1.0]).value < predict((0, 0, 0), [0.0]).value
        True
    """
    w, v = _weights(weights), _weights(against)
    d = np.asarray(list(difficulty.values() if isinstance(difficulty, Mapping) else difficulty), dtype=np.float64)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise NashwardError(f"difficulty has shape {d.shape}; expected one finite number a prompt")
    p = expit(w.model - v.model + (w.difficulty - v.difficulty) * d)
    error = p.std(ddof=1) / len(p) ** 0.5 if len(p) > 1 else np.nan
    return Prediction(100 * float(p.mean()), 100 * float(error))


def _weights(given: Any) -> Weights:
    """Three weights in order, or by name: those of ``Weights``, or AlpacaEval's columns."""
    if isinstance(given, Mapping) or (is_series(given) and not counts_rows(given)):
        own = {PUBLISHED.get(str(name), str(name)): value for name, value in by_key("weights", given).items()}
        if set(own) != set(Weights._fields):
            raise NashwardError(
                f"the weights are named {', '.join(map(str, own))}; expected {', '.join(Weights._fields)}, or "
                f"AlpacaEval's {', '.join(PUBLISHED)}"
            )
        given = [own[name] for name in Weights._fields]
    return Weights(*map(float, given))


def _gamed_rows(
    gamed: Mapping[str, Any], difficulty: Any
) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, " 2"], Float[np.ndarray, " M"] | None]:
    """The rows of the gamed baseline: features [M, 3], sums of label times feature [2], and labels [M] if given."""
    if unknown := [name for name in gamed if name.startswith("gamed") and name not in GAMED_COLUMNS]:
        raise NashwardError(f"gamed holds {unknown[0]}; expected of {', '.join(GAMED_COLUMNS)}")
    if "gamed_tanh_length" not in gamed or not (GAMED_LABELS in gamed or all(name in gamed for name in GAMED_SUMS)):
        raise NashwardError(
            f"gamed holds {', '.join(gamed)}; expected gamed_tanh_length, and {' with '.join(GAMED_SUMS)} or "
            f"{GAMED_LABELS}"
        )
    keys: list[Any] | None = None
    own: dict[str, Any] = {}
    for name in ("gamed_tanh_length", GAMED_LABELS, "gamed_difficulty"):
        if name in gamed:
            named, own[name] = _rows(gamed[name])
            if named is not None and keys is not None and named != keys:
                raise NashwardError(f"{name} and gamed_tanh_length are of other prompts, or in another order")
            keys = keys if named is None else named
    tanh = own["gamed_tanh_length"]
    if tanh.ndim != 1 or not len(tanh) or not (np.abs(tanh) <= 1).all():
        raise NashwardError("gamed_tanh_length holds something else than numbers from -1 to 1, one a row")
    prompts, numbers = _rows(difficulty)
    if "gamed_difficulty" in own:
        d = own["gamed_difficulty"]
    elif keys is not None:
        if prompts is None:
            raise NashwardError("the gamed baseline's rows are by prompt and difficulty is not: give it by prompt too")
        by_prompt = dict(zip(prompts, numbers, strict=True))
        if missing := [key for key in keys if key not in by_prompt]:
            raise NashwardError(f"difficulty has nothing for {quoted(missing[0], 60)} of the gamed baseline's rows")
        d = np.array([by_prompt[key] for key in keys])
    elif len(tanh) % len(numbers) == 0:
        d = np.tile(numbers, len(tanh) // len(numbers))
    else:
        raise NashwardError(
            f"gamed_tanh_length has {len(tanh)} rows, no multiple of the {len(numbers)} difficulties: give the "
            "difficulty of all prompts by prompt (a mapping), or gamed_difficulty"
        )
    if d.shape != tanh.shape:
        raise NashwardError(f"gamed_difficulty has shape {d.shape}; expected {tanh.shape}, as gamed_tanh_length")
    features = np.stack([tanh, d, np.zeros(len(d))], 1)
    if GAMED_LABELS not in own:
        return features, np.array([float(gamed[name]) for name in GAMED_SUMS]), None
    labels = own[GAMED_LABELS]
    if labels.shape != tanh.shape or not ((labels >= 0) & (labels <= 1)).all():
        raise NashwardError(f"{GAMED_LABELS} has shape {labels.shape}; expected {tanh.shape} of probabilities")
    return features, labels @ features[:, :2], labels


def _rows(column: Any) -> tuple[list[Any] | None, Float[np.ndarray, " rows"]]:
    """The prompts of a column that names them, which may occur in several rows, else None; and its numbers."""
    if isinstance(column, Mapping):
        return list(column), np.asarray(list(column.values()), dtype=np.float64)
    named = is_series(column) and not counts_rows(column)
    return list(column.index) if named else None, np.asarray(column, dtype=np.float64)
