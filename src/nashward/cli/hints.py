"""What the field calls an option, a solver or a command otherwise, and the nearest name of what was mistyped."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Iterable, Sequence

# by the option: other names of it, in the papers and the trainers of the field
OTHER_NAMES = {
    "policy": "model model-name model-name-or-path model-path model-id base-model pretrained-model actor",
    "base": "model model-name model-name-or-path model-path model-id base-model",
    "oracle": "judge judge-model reward reward-model rm preference-model pair-rm pairrm payoff-model",
    "prompts": "data dataset dataset-name dataset-path train-file data-path prompt prompt-file prompts-file input",
    "pairs": "data dataset dataset-name dataset-path train-file data-path votes preferences",
    "out": "output output-dir output-path output-file save-dir save-path run-dir folder o",
    "adapter": "lora lora-path peft adapter-path adapter-name-or-path",
    "learning-rate": "lr learningrate step-lr",
    "epochs": "num-train-epochs num-epochs n-epochs epoch",
    "batch": "batch-size train-batch-size per-device-train-batch-size mini-batch-size bs",
    "sampling-batch": "generation-batch-size gen-batch-size eval-batch-size",
    "rank": "lora-r r lora-rank lora-dim",
    "alpha": "lora-alpha",
    "lora-targets": "target-modules lora-target lora-target-modules",
    "optimiser": "optimizer optim",
    "schedule": "scheduler lr-scheduler lr-scheduler-type lr-schedule",
    "warmup": "warmup-ratio warmup-steps",
    "max-grad-norm": "grad-clip clip gradient-clipping clip-grad-norm max-norm",
    "weight-decay": "wd",
    "target-kl": "kl-target max-kl kl-limit",
    "tau": "kl-coef kl-coefficient kl-penalty regularisation regularization",
    "loss": "loss-type objective",
    "quantise": "quantize load-in-4bit 4bit qlora bits",
    "quantise-head": "quantize-head",
    "responses": "k num-responses n-responses num-generations num-return-sequences samples num-samples",
    "max-new-tokens": "max-tokens max-length max-completion-length max-response-length response-length",
    "max-prompt-tokens": "max-prompt-length prompt-length",
    "temperature": "temp",
    "top-p": "topp nucleus",
    "iterations": "num-iterations n-iterations iters max-iter max-iters rounds t steps max-steps",
    "solver": "algorithm algo method",
    "tolerance": "tol eps epsilon gap",
    "start": "init initial",
    "total": "sum constant-sum zero-sum",
    "seed": "random-state random-seed",
    "memory": "vram gpu-memory mem card",
    "config": "config-file yaml toml",
    "plot": "picture figure save-plot",
    "checkpoint-seconds": "save-steps save-every checkpoint-every",
    "sft-weight": "sft-coef rpo-alpha nll-weight",
    "against": "m",
    "processes": "cards gpus num-gpus n-gpus devices num-devices nproc nproc-per-node num-processes world-size",
    "held-out": "validation-split val-split test-size",
}
# names of the step size that stand in a relation to it
STEP = {
    "eta": "--step, SPPO's eta = 1 / beta (where a paper's update divides by its eta, as INPO's does, it is 1 / eta)",
    "beta": "--step = 1 / beta, which SPPO calls eta",
    "step-size": "--step",
    "stepsize": "--step",
    "steps": "--step, the solver's step size, or --iterations, how many",
}
# solvers as papers write them, without hyphens and in small letters
SOLVER_NAMES = {
    "omwu": "OptimisticMWU",
    "optimistichedge": "OptimisticMWU",
    "hedge": "MWU",
    "multiplicativeweights": "MWU",
    "sppo": "MWU",
    "eg": "ExtraGradient",
    "mmd": "MagneticMirrorDescent",
    "rm": "RegretMatching",
    "rm+": "RegretMatchingPlus",
    "regretmatching+": "RegretMatchingPlus",
    "prm+": "PredictiveRegretMatchingPlus",
    "predictiverm+": "PredictiveRegretMatchingPlus",
    "predictiveregretmatching+": "PredictiveRegretMatchingPlus",
    "fp": "FictitiousPlay",
    "pp": "ProximalPoint",
    "ppm": "ProximalPoint",
    "gradientdescentascent": "GDA",
    "projectedgradient": "GDA",
    "ogda": "OptimisticGDA",
    "optimisticgradient": "OptimisticGDA",
    "optimisticgradientdescentascent": "OptimisticGDA",
}
BETA = "TRL's beta of Nash-MD, the pull to the reference, is"
CHOICE_NAMES = {"online-dpo": "dpo"}  # the loss: every iteration draws anew here
COMMAND_NAMES = {
    "nash": "solve", "equilibrium": "solve", "game": "solve", "run": "align", "resume": "align", "sppo": "align",
    "selfplay": "align", "self-play": "align", "generate": "answer", "chat": "answer", "predict": "answer",
    "eval": "evaluate", "test": "evaluate", "elo": "leaderboard", "rank": "leaderboard", "arena": "leaderboard",
    "fit": "fit-oracle", "train-oracle": "fit-oracle", "train-reward-model": "fit-oracle", "merge": "mix",
    "exploitability": "exploit", "compare": "report", "settings": "config", "memory": "plan", "bon": "best-of-n",
    "sweep": "solve",
}  # fmt: skip


MOST_NAMED = 3  # commands
NEAR = 0.7  # the least ratio of difflib at which a name is worth suggesting, of 1 for an equal one


def of_option(flag: str, known: Collection[str], elsewhere: Sequence[str] = ()) -> str:
    """What to write in place of an option that a command lacks: "; it is --step = 1 / beta", or nothing.

    Args:
        flag: as it was typed, with its hyphens.
        known: the options of the command, with their hyphens.
        elsewhere: the commands that have this very option.

    Example:
        >>> of_option("--device", ["--judge-price"], ["plan"]), of_option("--device", ["--devices"])
        ('; nashward plan has it', '; the nearest is --devices')
        >>> of_option("--lr", ["--learning-rate", "--rank"]), of_option("--lora_r", ["--rank"])
        ('; it is --learning-rate', '; it is --rank')
    """
    name = plain_option(flag)
    if name in STEP and "--step" in known:
        return f"; it is {STEP[name]}" + (f"; {BETA} --tau" if name == "beta" and "--tau" in known else "")
    if f"--{name}" in known:
        return f"; it is --{name}"
    for option, others in OTHER_NAMES.items():
        if name in others.split() and f"--{option}" in known:
            return f"; it is --{option}"
    if name == "objective" and "--oracle" in known:
        return "; this command judges by one oracle: give one objective's as --oracle, or several with --combine"
    if near := difflib.get_close_matches(name, [option.lstrip("-") for option in known], 1, NEAR):
        return f"; the nearest is --{near[0]}"
    if not elsewhere:
        return ""
    named = elsewhere[:MOST_NAMED] if len(elsewhere) > MOST_NAMED + 1 else elsewhere
    others = f" and {len(elsewhere) - len(named)} more" if len(named) < len(elsewhere) else ""
    have = "has" if len(elsewhere) == 1 else "have"
    return f"; nashward {', '.join(named)}{others} {have} it"


def plain_option(flag: str) -> str:
    """The name in a flag, in small letters, with hyphens between its words.

    Example:
        >>> plain_option("--Learning_Rate=1"), plain_option("-lr")
        ('learning-rate', 'lr')
    """
    return flag.lstrip("-").partition("=")[0].replace("_", "-").lower()


def of_setting(key: str, known: Iterable[str]) -> str | None:
    """The key of a file of settings, or of a solver, that has this other name in the field; None where none has.

    Example:
        >>> of_setting("beta", ["step"]), of_setting("lr", ["learning_rate"]), of_setting("x", ["step"])
        ('step = 1 / beta, which SPPO calls eta', 'learning_rate', None)
    """
    name, names = plain_option(key), {key.replace("_", "-"): key for key in known}
    if name in STEP and "step" in names:
        return STEP[name].removeprefix("--") + (f"; {BETA} tau" if name == "beta" and "tau" in names else "")
    for option, others in OTHER_NAMES.items():
        if name in others.split() and option in names:
            return names[option]
    return None


def no_setting(solver: str, key: str, own: Collection[str]) -> str:
    """What to say of a setting that a solver lacks: the one that may be meant, and those that it has.

    Example:
        >>> no_setting("MWU", "stepp", ["step", "two_sequences"])
        'MWU has no stepp; the nearest is step; it has step, two_sequences'
    """
    near = difflib.get_close_matches(key, own, 1)
    meant = of_setting(key, own)
    advice = f"it is {meant}; " if meant else f"the nearest is {near[0]}; " if near else ""
    return f"{solver} has no {key}; {advice}it has {', '.join(own) or 'no settings'}"


def of_choice(value: str, choices: Collection[str]) -> str:
    """What may have been meant by a value that is none of the choices: "; the nearest is dpo", or nothing.

    Example:
        >>> of_choice("online-dpo", ["dpo", "online-ipo"]), of_choice("sppo", ["quick", "sppo-paper"])
        ('; the nearest is dpo', '; the nearest is sppo-paper')
    """
    typed = plain_option(value)
    other = CHOICE_NAMES.get(typed)
    near = [other] if other in choices else [one for one in choices if one.startswith(f"{typed}-")]
    near = near or difflib.get_close_matches(typed, choices, 1)
    return f"; the nearest is {near[0]}" if near else ""


def of_command(name: str, known: Collection[str]) -> str:
    """What may have been meant by a command that there is not.

    Example:
        >>> of_command("slove", ["solve", "align"]), of_command("Eval", ["evaluate"])
        ('; the nearest is solve', '; the nearest is evaluate')
    """
    typed = name.lower().replace("_", "-")
    near = [COMMAND_NAMES[typed]] if COMMAND_NAMES.get(typed) in known else difflib.get_close_matches(typed, known, 1)
    return f"; the nearest is {near[0]}" if near else f"; there are {', '.join(known)}"


def unknown_option(arguments: Iterable[str], parser: argparse.ArgumentParser) -> str | None:
    """The first long option that a command lacks; None where it has all, or where a bare -- ends them."""
    known = parser._option_string_actions
    for word in arguments:
        if word == "--":
            return None
        if word.startswith("--") and word.partition("=")[0] not in known:
            return word.partition("=")[0]
    return None
