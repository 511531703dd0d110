"""From win probabilities to the regression that fits a mirror step: pure functions of tensors.

A step requires log pi(y) = sum_k w_k log pi_k(y) + size * G(y) + constant, where G(y) = sum_j c_j P(y beats rho_j).
With l(y) = log pi_theta(y) - sum_k w_k log pi_k(y), the *log-ratio to the anchor*, that is a regression of l on
size * G over responses to the same prompt. All tensors are ``[prompts, R]``, R the responses, unless said.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nashward.games.shapes import Float, Int

from ..config.fit import Baseline, Selection

HANDFUL = 8  # prompts: what fewer say of others, and their error, is chance
LEAST = 0.1  # least share of the payoffs' variance that is taken not to be the judges' error


def win_rates(
    P: Float[Tensor, "*batch R M"], weights: Float[Tensor, "*#batch M"], own_column: Int[Tensor, " R"] | None = None
) -> Float[Tensor, "*batch R"]:
    """P(y beats rho) for each row's response y, estimated from responses of rho.

    .. math::  \\hat P(y_i \\succ \\rho) = \\frac{\\sum_{j \\ne i} w_j P_{ij}}{\\sum_{j \\ne i} w_j}

    Args:
        P: ``[..., R, M]`` win probabilities of R responses against M responses of rho; NaN where not judged.
        weights: ``[..., M]``, how much each of rho's responses weighs.
        own_column: ``[R]``, the column that is the row's own sample, -1 for none: it is left out, which makes the
            estimate unbiased. None keeps the comparison of a response with itself, as the official SPPO code does; its
            1/2 shrinks the centred estimate by (M - 1) / M.

    Returns:
        ``[..., R]``; NaN where nothing is left to compare with.

    Example:
        >>> P = torch.tensor([[0.5, 0.9], [0.1, 0.5]])
        >>> win_rates(P, torch.ones(2)), win_rates(P, torch.ones(2), own_column=torch.arange(2))
        (tensor([0.7000, 0.3000]), tensor([0.9000, 0.1000]))
    """
    weights = _compared(P, weights, own_column)
    return (weights * P.nan_to_num()).sum(-1) / weights.sum(-1)  # 0 / 0 is NaN: not judged


def own_columns(count: int, same: bool, self_comparison: bool) -> Int[Tensor, " R"] | None:
    """The ``own_column`` of ``win_rates`` for ``count`` responses of one policy against another's.

    Args:
        count: the number of responses, R.
        same: whether both policies are one, so that each response stands among its opponents.
        self_comparison: whether a response is compared with itself too.
    """
    if self_comparison:
        return None
    return torch.arange(count) if same else torch.full((count,), -1)


def win_rate_variances(
    P: Float[Tensor, "*batch R M"], weights: Float[Tensor, "*#batch M"], own_column: Int[Tensor, " R"] | None = None
) -> Float[Tensor, "*batch R"]:
    """How much ``win_rates`` would vary over other draws of rho's responses: its squared standard error, unbiased.

    .. math::  \\widehat{\\mathrm{var}}_i = \\frac{\\sum_j w_j^2}{W^2} \\;
        \\frac{\\sum_j w_j (P_{ij} - \\hat P_i)^2}{W - \\sum_j w_j^2 / W}, \\qquad W = \\sum_j w_j, \\; j \\ne i

    With equal weights it is the row's variance over the number of its entries: given y_i, these are independent draws,
    whatever the preferences. An error of the judge that differs from pair to pair counts too.

    Args:
        P, weights, own_column: see ``win_rates``.

    Returns:
        ``[..., R]``; NaN where there are fewer than two to compare with.

    Example:
        >>> P = torch.tensor([[0.5, 0.9, 0.7], [0.1, 0.5, 0.5], [0.3, 0.5, 0.5]])
        >>> win_rate_variances(P, torch.ones(3), own_column=torch.arange(3))
        tensor([0.0100, 0.0400, 0.0100])
    """
    weights = _compared(P, weights, own_column)
    total, squares = weights.sum(-1), weights.square().sum(-1)
    mean = (weights * P.nan_to_num()).sum(-1) / total
    spread = (weights * (P.nan_to_num() - mean.unsqueeze(-1)).square()).sum(-1)
    free = total - squares / total
    return (squares / total.square() * spread / free).masked_fill(~(free > 1e-9 * total), torch.nan)


def select(
    payoffs: Float[Tensor, "prompts R"], weights: Float[Tensor, "prompts R"], selection: Selection
) -> Float[Tensor, "prompts R"]:
    """The weights of the responses that are fitted: all that were judged, or the best and the worst of each prompt.

    A prompt whose responses all have the same payoff has no best and worst and is left out of the latter.

    Args:
        payoffs: ``[prompts, R]``; NaN where not judged.
        weights: ``[prompts, R]``.
        selection: which.

    Returns:
        ``[prompts, R]``: 1/2 each for the best and the worst; for all, the weights as given; 0 elsewhere.

    Example:
        >>> select(torch.tensor([[0.2, 0.9, 0.5], [0.5, 0.5, 0.5]]), torch.ones(2, 3), "best-worst")
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    weights = weights.masked_fill(payoffs.isnan(), 0.0)
    if selection == "all":
        return weights
    judged = weights > 0
    best = payoffs.masked_fill(~judged, -torch.inf).argmax(-1, keepdim=True)
    worst = payoffs.masked_fill(~judged, torch.inf).argmin(-1, keepdim=True)
    chosen = torch.zeros_like(weights).scatter(-1, best, 0.5).scatter(-1, worst, 0.5)
    spread = payoffs.gather(-1, best) > payoffs.gather(-1, worst)
    return chosen * spread


def error_share(
    payoffs: Float[Tensor, "prompts R"], errors: Float[Tensor, "prompts R"], weights: Float[Tensor, "prompts R"]
) -> float:
    """The share of the targets' variance that is the judges' error: the mean of s^2 over the variance of G.

    Args:
        payoffs: G, ``[prompts, R]``.
        errors: s, their standard errors, ``[prompts, R]``.
        weights: ``[prompts, R]``; 0 where not judged.

    Returns:
        the share, above 1 where the judges differ by more than the payoffs; NaN where the payoffs of no prompt differ.
        G's variance is that within prompts, since a level that all responses of a prompt share is no target.

    Example:
        >>> payoffs, errors = torch.tensor([[0.7, 0.3]]), torch.tensor([[0.1, 0.1]])
        >>> round(error_share(payoffs, errors, torch.full((1, 2), 0.5)), 6)  # 0.1^2 / 0.2^2
        0.25
    """
    centred = (payoffs.nan_to_num() - _mean(payoffs.nan_to_num(), weights)).square()
    variance = float((weights * centred).sum())
    return float((weights * errors.nan_to_num().square()).sum()) / variance if variance > 0 else float("nan")


def precisions(
    payoffs: Float[Tensor, "prompts R"], errors: Float[Tensor, "prompts R"], weights: Float[Tensor, "prompts R"]
) -> Float[Tensor, "prompts R"]:
    """How much each target counts in a least-squares fit beside its weight: the inverse of its variance.

    .. math::
        v_i \\propto \\frac{1}{V + s_i^2}, \\qquad V = \\max\\Big(\\mathrm{Var}(G) - \\overline{s^2},
        \\tfrac{1}{10} \\mathrm{Var}(G)\\Big)

    scaled such that their weighted mean is 1. V is the part of the targets' variance that is not the judges' error, the
    most that a fit can leave unexplained: a sure response weighs 1 / V, one with an error as large as that half as
    much. The Step's size scales all of these alike and cancels.

    Args:
        payoffs: G, ``[prompts, R]``.
        errors: s, their standard errors, ``[prompts, R]``.
        weights: ``[prompts, R]``; 0 where not judged.

    Returns:
        ``[prompts, R]``, 1 where the weight is 0, and everywhere where the payoffs of no prompt or no errors differ.

    Source: weighted least squares, Aitken 1935; V as the variance between studies of DerSimonian & Laird 1986.

    Example:
        >>> payoffs, errors = torch.tensor([[0.7, 0.3], [0.7, 0.3]]), torch.tensor([[0.0, 0.0], [0.1, 0.3]])
        >>> precisions(payoffs, errors, torch.full((2, 2), 0.5)).round(decimals=3)  # V = 0.04 - 0.025
        tensor([[1.4580, 1.4580],
                [0.8750, 0.2080]])
    """
    share = error_share(payoffs, errors, weights)
    variance = float((weights * errors.nan_to_num().square()).sum() / weights.sum().clamp_min(1e-300))
    if not 0 < share < float("inf"):
        return torch.ones_like(weights)
    total = variance / share  # of the payoffs
    inverse = 1 / (max(total - variance, LEAST * total) + errors.nan_to_num().square().double())
    scale = (weights.double() * inverse).sum() / weights.double().sum()
    return (inverse / scale).masked_fill(weights == 0, 1.0).to(weights)


def targets(
    payoffs: Float[Tensor, "prompts R"],
    size: float,
    weights: Float[Tensor, "prompts R"],
    baseline: Baseline,
    drift: Float[Tensor, "prompts R"] | None = None,
) -> Float[Tensor, "prompts R"]:
    """The log-ratio of the exact step, in nats: ``size * G - constant``; 0 where the weight is 0.

    - ``plug-in``: the constant is the log of the normaliser Z = sum_y e^{B(y)} e^{size G(y)}, B the anchor's
      geometric blend, estimated from the prompt's own responses by Z = E_{y ~ rho} exp(size G(y) + B(y) - log rho(y)),
      rho the mean of the policies that were sampled. Right for every Step whose responses are drawn at
      temperature 1 from the whole support, and it fixes the level: what was not sampled gains no mass.
    - ``centred``: the mean over the prompt's responses, on both sides of the regression. Right for every Step, but
      blind to the level: mass may leak to responses that were not sampled.
    - ``constant``: size / 2 (arXiv 2405.00675, equation 4.7). Right to first order where the anchor, the opponent and
      the sampler are one policy, because E P(y beats pi) = 1/2 for y from pi; wrong for other Steps.

    Args:
        payoffs: G, ``[prompts, R]``; NaN where not judged.
        size: that of the Step, in nats per unit of win probability.
        weights: ``[prompts, R]``.
        baseline: which of the three.
        drift: B(y) - log rho(y), ``[prompts, R]``, see there; for ``plug-in`` only, 0 when None.

    Returns:
        ``[prompts, R]``.

    Example:
        >>> payoffs, even = torch.tensor([[0.9, 0.1]]), torch.full((1, 2), 0.5)
        >>> target = targets(payoffs, 1.0, even, "plug-in")
        >>> round(float((even * target.exp()).sum()), 6)  # the mean of next / anchor over what the anchor drew
        1.0
        >>> targets(payoffs, 1.0, even, "centred")
        tensor([[ 0.4000, -0.4000]])
    """
    payoffs = payoffs.nan_to_num()
    if baseline == "plug-in":
        mass = (weights / weights.sum(-1, keepdim=True).clamp_min(1e-300)).log()  # -inf where the weight is 0
        exponent = size * payoffs if drift is None else size * payoffs + drift
        constant = torch.logsumexp(mass + exponent, -1, keepdim=True)
        constant = constant.masked_fill(constant.isinf(), 0.0)  # no response has a weight
    elif baseline == "centred":
        constant = size * _mean(payoffs, weights)
    else:
        constant = torch.full_like(payoffs[..., :1], size / 2)
    return (size * payoffs - constant).masked_fill(weights == 0, 0.0)


def r2_ceiling(
    payoffs: Float[Tensor, "prompts R"], variances: Float[Tensor, "prompts R"], weights: Float[Tensor, "prompts R"]
) -> float:
    """The largest R^2 that a fit can have on prompts that it did not see: the share of the payoffs' spread that is no
    error.

    .. math::  1 - \\frac{\\sum w \\, \\mathrm{var}(\\hat G)}{\\sum w \\, (\\hat G - \\bar G)^2}

    Ĝ is estimated from few opponents, and no policy can know which these happen to be: its best log-ratio is the
    expected target of a response, which leaves the variance. This holds to first order in the size of the step, where
    the targets are the centred payoffs times the size; at a size of 10 it can be .1 off. The prompt's mean has no error
    of its own where a policy plays itself: leave-one-out win rates have the mean 1/2 in every table. As an estimate it
    may be off with few prompts, and it is about 0, or below, where nobody is better than anybody, as in a pure cycle.

    Args:
        payoffs: those of a policy's own responses against each other, NaN where not judged.
        variances: see ``win_rate_variances``.
        weights: 0 where not judged.

    Returns:
        at most 1; NaN where all payoffs are equal, or where a response has fewer than two others to be compared with.

    Example:
        >>> P = torch.tensor([[[0.5, 0.9, 0.7], [0.1, 0.5, 0.5], [0.3, 0.5, 0.5]]])
        >>> even, own = torch.full((1, 3), 1 / 3), torch.arange(3)
        >>> round(r2_ceiling(win_rates(P, even, own), win_rate_variances(P, even, own), even), 2)
        0.57
    """
    judged, payoffs = weights > 0, payoffs.nan_to_num()
    signal = (weights * (payoffs - _mean(payoffs, weights)).square()).sum()
    if not signal > 0:
        return float("nan")
    return 1 - float((weights * variances).masked_fill(~judged, 0.0).sum() / signal)


def residuals(
    log_ratio: Float[Tensor, "prompts R"],
    target: Float[Tensor, "prompts R"],
    weights: Float[Tensor, "prompts R"],
    baseline: Baseline,
) -> Float[Tensor, "prompts R"]:
    """How far the log-ratio is from its target, in nats.

    ``centred`` removes the mean over the prompt's responses, and with it the unknown constants of the step (log Z and
    the normaliser of a geometric anchor): the loss is then 1/2 of the mean squared difference over pairs, as in
    arXiv 2404.16767 and 2407.00617.

    Args:
        log_ratio, target, weights: ``[prompts, R]``.
        baseline: the one that the targets were made with.

    Returns:
        ``[prompts, R]``; 0 where the weight is 0.

    Example:
        >>> even = torch.full((1, 2), 0.5)
        >>> residuals(torch.tensor([[1.4, 0.6]]), torch.tensor([[0.4, -0.4]]), even, "constant")
        tensor([[1., 1.]])
        >>> residuals(torch.tensor([[1.5, 0.5]]), torch.tensor([[0.5, -0.5]]), even, "centred")
        tensor([[0., 0.]])
    """
    difference = log_ratio - target
    if baseline == "centred":
        difference = difference - _mean(difference, weights)
    return difference.masked_fill(weights == 0, 0.0)


def loss(
    log_ratio: Float[Tensor, "prompts R"],
    target: Float[Tensor, "prompts R"],
    weights: Float[Tensor, "prompts R"],
    baseline: Baseline,
) -> Float[Tensor, ""]:
    """Sum over prompts of the weighted mean squared residual (nats^2): arXiv 2405.00675, equation 4.6.

    A sum, so that micro-batches add up; divide by the number of prompts of the whole batch. The arguments are those of
    ``residuals``, the result is ``[]``.

    Example:
        >>> loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.full((1, 2), 0.5), "constant")
        tensor(0.5000)
    """
    return (weights * residuals(log_ratio, target, weights, baseline).square()).sum()


def fit_metrics(
    log_ratio: Float[Tensor, "prompts R"],
    target: Float[Tensor, "prompts R"],
    weights: Float[Tensor, "prompts R"],
    baseline: Baseline,
) -> dict[str, float]:
    """How well a fit meets its target: rms of the log-ratio and of its target (nats), R^2 with its standard error over
    prompts, and the share of the target.

    The error is NaN for fewer than ``HANDFUL`` prompts: from two of them it is as likely near 0 as not. The share is
    the slope of the regression of the log-ratio on the target: 1 is the whole step, 0 none of it. R^2 and
    the share are NaN where all targets are 0. The arguments are those of ``residuals``.

    See also:
        ``line_minimum``, the factor that the log-ratio would have to be multiplied by: where it is 1 the share is R^2,
        and with noisy targets a larger share is noise that was learned.

    Example:
        >>> even = torch.full((8, 2), 0.5)
        >>> target = torch.tensor([[1.0, -1.0]] * 8)
        >>> fit_metrics(target / 2, target, even, "constant")
        {'log_ratio_rms': 0.5, 'target_rms': 1.0, 'r2': 0.75, 'r2_error': 0.0, 'share': 0.5}
    """
    ratio, target, weights = log_ratio.double(), target.double(), weights.double()
    if baseline == "centred":
        ratio = (ratio - _mean(ratio, weights)).masked_fill(weights == 0, 0.0)
    total = weights.sum().clamp_min(1e-300)
    squares = (weights * target.square()).sum(-1)
    residual = (weights * residuals(ratio, target, weights, baseline).square()).sum(-1)
    unexplained, _ = _ratio(residual, squares)
    return {
        "log_ratio_rms": float(((weights * ratio.square()).sum() / total).sqrt()),
        "target_rms": float((squares.sum() / total).sqrt()),
        "r2": 1 - unexplained,
        "r2_error": _error_by_leaving_out(residual, squares),
        "share": _ratio((weights * ratio * target).sum(-1), squares)[0],
    }


def line_minimum(
    direction: Float[Tensor, "prompts R"],
    target: Float[Tensor, "prompts R"],
    weights: Float[Tensor, "prompts R"],
    baseline: Baseline,
) -> tuple[float, float]:
    """The factor s with the least loss of s times ``direction``, and its standard error over prompts.

    .. math::  s = \\frac{\\sum w \\, d \\, t}{\\sum w \\, d^2}

    Args:
        direction: d, ``[prompts, R]``, the log-ratio, or what a fit added to it.
        target: t, ``[prompts, R]``, what it was to add.
        weights, baseline: those of the regression.

    Returns:
        s and its error; both NaN where the direction is 0, the error for a single prompt.

    Example:
        >>> direction, target = torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> line_minimum(direction, target, torch.full((2, 2), 0.5), "centred")
        (0.75, 0.25)
    """
    direction, target, weights = direction.double(), target.double(), weights.double()
    if baseline == "centred":
        direction, target = (values - _mean(values, weights) for values in (direction, target))
    return _ratio((weights * direction * target).sum(-1), (weights * direction.square()).sum(-1))


def _compared(
    P: Float[Tensor, "*batch R M"], weights: Float[Tensor, "*#batch M"], own_column: Int[Tensor, " R"] | None
) -> Float[Tensor, "*batch R M"]:
    """How much each comparison weighs: 0 with the row's own sample, and where it was not judged."""
    weights = weights.unsqueeze(-2).expand_as(P).clone()
    if own_column is not None:
        rows = torch.nonzero(own_column >= 0).squeeze(-1)
        weights[..., rows, own_column[rows]] = 0.0
    return weights.masked_fill(P.isnan(), 0.0)


def _ratio(above: Float[Tensor, " prompts"], below: Float[Tensor, " prompts"]) -> tuple[float, float]:
    """The ratio of two sums over prompts, and its standard error (NaN for a single prompt); NaN where the lower sum is
    0."""
    total, n = float(below.sum()), len(below)
    if not total > 0:
        return float("nan"), float("nan")
    ratio = float(above.sum()) / total
    spread = float((above - ratio * below).square().sum())
    return ratio, (n / (n - 1) * spread) ** 0.5 / total if n > 1 else float("nan")


def _error_by_leaving_out(above: Float[Tensor, " prompts"], below: Float[Tensor, " prompts"]) -> float:
    """The standard error of the ratio of two sums over prompts, by leaving each out (Tukey 1958); NaN for a handful.

    A prompt that makes up much of the sum below pulls the ratio towards its own, and seems nearer to it than a new one
    would be: of few uneven prompts the error of ``_ratio`` is too small.
    """
    total, n = below.sum(), len(below)
    if n < HANDFUL or not float((total - below).min()) > 0:
        return float("nan")
    without = (above.sum() - above) / (total - below)
    return float((n - 1) / n * (without - without.mean()).square().sum()) ** 0.5


def _mean(values: Float[Tensor, "prompts R"], weights: Float[Tensor, "prompts R"]) -> Float[Tensor, "prompts 1"]:
    return (weights * values).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True).clamp_min(1e-300)
