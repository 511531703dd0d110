"""The fields of a run's metrics: ``metrics.jsonl`` has a line for each optimiser step, then one for the whole Step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

STEP_FIELDS = {
    "step": "number of the optimiser step, from 1",
    "loss": "mean loss over its prompts, before the step; nats^2 (squares) or nats (logarithms)",
    "gradient_norm": "norm of the gradient in the adapter's weights, before clipping",
    "learning_rate": "learning rate of the step",
    "sft_nll": "with `--sft`: negative log-likelihood of its SFT texts, nats per token",
    "loss_scale": "in float16: the factor on the loss in the backward pass",
}

_FIT = {
    "prompts": "how many they are",
    "loss": "what the fit minimises, a mean over prompts",
    "log_ratio_rms": "root mean square of the log-ratio log pi - log anchor, nats; of a geometric mixture (a Step "
    "without an opponent) it is log pi - log pi before, and its target what the policy before lacks of the mixture",
    "target_rms": "root mean square of the log-ratio that the exact mirror step has, nats",
    "r2": "R^2 of the log-ratio as a prediction of its target; 1 for the exact mirror step; responses count in it, in "
    "`loss`, `share` and `best_scale` as in the fit (`--spread-weights`)",
    "r2_error": "standard error of `r2` over prompts; null for fewer than 8, from which it is not known",
    "share": "slope of the regression of the log-ratio on its target: 1 is the whole step, 0 none of it; that of a "
    "calibrated fit of noisy targets is near its R^2",
    "best_scale": "what the log-ratio would have to be multiplied by for the least loss; 1 for a calibrated fit",
    "kl": "KL(policy before || policy after), nats per response",
    "kl_per_token": "the same per token: divided by the mean length under the policy before",
}
_POLICY = {
    "tokens": "mean length of a response",
    "entropy": "-E log pi, nats per response",
    "entropy_per_token": "`entropy` divided by `tokens`",
    "kl_to_reference": "KL(policy || policy that the run started from), nats per response",
    "kl_to_reference_error": "standard error of `kl_to_reference` over prompts; null for fewer than 8",
    "kl_to_reference_per_token": "`kl_to_reference` divided by `tokens`",
    "relative_ess": "effective sample size of these estimates as a share of the responses; 1 where they are the "
    "policy's own samples; below 2% they are not known: null",
}


def _under(prefixes: Sequence[str], fields: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}.{name}": text for prefix in prefixes for name, text in fields.items()}


FIELDS = {
    "iteration": "name of the Step's folder",
    "size": "size of the Step, nats per unit of win probability",
    "anchor.NAME": "weight of a policy in the anchor, a geometric blend",
    "opponent.NAME": "weight of a policy in the opponent, a linear blend; none for a geometric mixture",
    "opponent_win_rates.NAME": "how often the first sampled policy beats a fixed opponent (`--opponents`)",
    "prompts": "of the iteration",
    "prompts_without_pair": "prompts whose responses the oracle does not tell apart; not fitted",
    "missing": "the fraction of the pairs of responses that the oracle did not judge; only where there are some",
    "cyclic_prompts": "fraction of the prompts on which each response loses to another one (no Condorcet winner): the "
    "more there are, the smaller a step has to be for the last iterate to stay near the Nash; null where the responses "
    "were not judged against each other",
    "response_tokens": "mean length of the sampled responses, with the stop token",
    "finished": "fraction of the sampled responses that end with a stop token, not at `--max-new-tokens`",
    "labels.NAME": "fraction of the first sampled policy's responses with a label (`SelfPlay(label=...)`), or null",
    **_under(["at_start"], {name: _FIT[name] for name in ("loss", "log_ratio_rms", "target_rms")}),
    "at_start.loss_paper": "`at_start.loss` divided by size^2, the unit in which SPPO's code reports it",
    "first_loss.observed": "loss of the first optimiser step, in training",
    "first_loss.expected": "the same, computed before training from the scored log-probabilities",
    **_under(["train", "validation", "held_out"], _FIT),
    **_under(["before", "after"], _POLICY),
    "win_rate": "win rate of the fitted policy over the one before, on held-out prompts: 1/2 + E_after G - E_before G; "
    "null with the loss gpo, for a geometric mixture, and where its effective sample size is too small",
    "win_rate_error": "standard error of `win_rate` over these prompts; null for fewer than 8",
    "learning_rate": "largest learning rate of the fit; null where there was nothing to fit: a mixture that is the "
    "policy before",
    "error_share": "with several judges: the share of the target's variance that is their error, if their errors are "
    "independent, by how far they differ",
    "promised_win_rate": "win rate of the exact mirror step over the policy before, on the fitted responses: what the "
    "oracle's spread and the step would give a fit that met its target everywhere, less what is error in it "
    "(`r2_ceiling`, where that is known); too small at a large step, since better responses than the sampled ones may "
    "exist; null with the loss gpo",
    "r2_ceiling": "the most that `held_out.r2` can be: the part of the target that is no error of payoffs estimated "
    "from few opponents; null where it is not known: where a policy plays others than itself, with two responses per "
    "prompt",
    "line_fraction": "how far the adapter is on the straight line to where the fit went: to the least loss on "
    "validation prompts, which may lie beyond it, 2 at most, and no further than `--target-kl` allows; 0 where the fit "
    "gained nothing and was dropped. Prompts that were trained on have no part in it: see `train.loss`",
    "refits.learning_rate": "learning rate of a fit that was dropped because it gained nothing (`--refits`)",
    "refits.loss": "loss after that fit; null where it diverged",
    "clip_fraction": "fraction of the optimiser steps whose gradient was clipped to `--max-grad-norm`",
    "changed_fraction": "fraction of the adapter's entries that the fit changed",
    "sft.start": "with `--sft`: negative log-likelihood of the held-out SFT texts under the start, nats per token",
    "sft.before": "the same, where the fit started",
    "sft.after": "the same, under the fitted policy",
    "crossed": "whether the iterate exceeds a limit (`--sft-limit`, `--win-rate-floor`)",
    "objectives.policy": "with several objectives: the policy that the step was played against first",
    "objectives.win_rates.NAME": "how often that policy beats the run's start under an objective",
    "objectives.standard_errors.NAME": "standard errors of the same over prompts; null for the start itself",
    "objectives.multipliers.NAME": "the weight of an objective in this step, or the multiplier of its floor",
    "objectives.shares.NAME": "how the new policy divides the multipliers' limit among the floors and none",
    "warning": "what went wrong, in sentences; null where nothing did",
}
