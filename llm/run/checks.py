"""What can be found wrong with the settings of a run alone, before a file is read."""

from __future__ import annotations

from collections.abc import Collection

from nashward.errors import NashwardError
from nashward.games import Policy, Solver
from nashward.games.driver import require_steps
from nashward.games.opponents import resolve
from nashward.games.step import steps_of

from ..config.run import RunConfig
from ..oracles.ensembles.objectives import Combination
from ..policy.handles import Adapter
from ..processes import processes
from ..store.run_folder import RunFolder, iteration_of
from ..training import losses
from .step_control import controlled, phase_of


def check_settings(
    config: RunConfig, solver: Solver, opponents: Collection[str], combination: Combination | None, home: RunFolder
) -> None:
    """Whether the settings fit together.

    Args:
        config, solver: those of the run.
        opponents: the names of the stored responses that are given.
        combination: how several objectives are combined; None: there is one oracle.
        home: the run folder.

    Raises:
        ValueError: they do not, see ``SelfPlay.check_settings``.
    """
    require_steps(solver)
    start = Policy(Adapter("start", home / "start" / "adapter"), "start")
    first = next(steps_of(controlled(solver, config, home), start, start))
    resolve(first, {name: Policy(None, name) for name in opponents})
    fit = config.fit
    losses.check_spread_weights(fit)
    losses.check_loss(fit.loss, fit.selection, solver, config.responses)
    if combination is not None and combination.plays_against_the_start:
        _check_objectives(config, combination, opponents)
    if config.augment is not None:
        if opponents:
            raise NashwardError(
                "augment writes prompts that stored opponents have no response to: leave one of the two out"
            )
        if processes.count > 1:
            raise NashwardError(f"augment runs in one process, and {processes.count} were started: start one")
    if config.limits.win_rate is not None and fit.loss == "gpo":
        raise NashwardError("gpo plays for scores, not for win rates: take the floor on the win rate out")


def check_rate(home: RunFolder, config: RunConfig) -> None:
    """Whether a step that is made again can have another learning rate than the run was begun with.

    Raises:
        NashwardError: the rate is another one, and that of the step is its phase's.
    """
    steps, before = home.steps(), home.read().get("config", {}).get("fit", {}).get("learning_rate")
    phase = phase_of(config.phases, iteration_of(steps[-1].name)) if steps else None
    if phase is not None and phase.learning_rate is not None and config.fit.learning_rate != before:
        raise NashwardError(
            f"{steps[-1].name} is fitted at the learning rate of its phase, {phase.learning_rate:g}, which stays; "
            f"leave the rate of {config.fit.learning_rate or 'auto'} out"
        )


def _check_objectives(config: RunConfig, combination: Combination, opponents: Collection[str]) -> None:
    """What objectives cannot be combined with when they are measured against the start."""
    fit, rule = config.fit, combination.rule
    for unfit, what in (
        (fit.loss != "mirror", f"the mirror loss, got {fit.loss}: their payoff is no win probability of a pair"),
        (fit.baseline == "constant", "the baseline plug-in or centred: 1/2 is not the mean of their payoff"),
        (bool(opponents), "no opponents: the start's responses are what it is played against"),
        (config.mixtures == "token-level", "fitted mixtures: multipliers belong to an adapter"),
        (config.limits.win_rate is not None, "no limit on the win rate: give a floor of an objective"),
    ):
        if unfit:
            raise NashwardError(f"--combine {rule} needs {what}")
