"""The tables of win probabilities that a Step is judged by, and those of the Steps to come."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from nashward.errors import NashwardError
from nashward.games import Policy, Solver, Step
from nashward.games.driver import drive
from nashward.games.policy import Blend

from ..config.run import RunConfig
from ..policy.handles import Adapter, Sampled, StoredResponses, TokenMixture
from ..store.run_folder import RunFolder, step_name
from .step_control import with_phases

Table: TypeAlias = tuple[Sampled, Sampled | StoredResponses]  # of the responses in its rows and in its columns


def step_tables(step: Step, start: Adapter | None, is_judged: Callable[[str, str], bool]) -> list[Table]:
    """Whose responses a Step has judged against whose, as an earlier Step has them.

    A geometric mixture needs none but for objectives: nothing is played, and log-probabilities alone are its target.

    Args:
        start: what several objectives compare each policy with; None: there are none.
        is_judged: whether there are tables of two policies, by their labels.
    """
    samplers, fixed = samplers_and_fixed(step)
    own: Iterable[Table] = [] if step.opponent is None else itertools.combinations_with_replacement(samplers, 2)
    beside = [start] if start is not None and (step.opponent is None or start not in samplers) else []
    others: list[Sampled | StoredResponses] = [*fixed, *beside]
    return [
        (b, a) if not isinstance(b, StoredResponses) and is_judged(b.label, a.label) else (a, b)
        for a, b in [*own, *itertools.product(samplers, others)]
    ]


@dataclass(frozen=True)
class TablesAhead:
    """The tables that the Steps of a run will have judged: its solver is played without a model.

    Args:
        home: the run folder.
        solver: of the run.
        config: its settings.
        opponents: the fixed ones, by name.
        objectives: whether several objectives compare each policy with the start.
    """

    home: RunFolder
    solver: Solver
    config: RunConfig
    opponents: Mapping[str, Policy]
    objectives: bool

    def after(self, step: str, same_prompts: bool) -> list[Table]:
        """Those of the Steps after that one, each once.

        Args:
            same_prompts: all iterations play on the same prompts, so that no table is judged twice.
        """
        found: dict[str, list[Table]] = {}
        judged: set[tuple[str, str]] = set()
        iterates = halves = 0
        start = Adapter("start", self.home / "start" / "adapter")

        def execute(step: Step) -> Policy:
            nonlocal iterates, halves
            name = step_name(iterates + 1, None if step.is_iterate else halves + 1)
            iterates, halves = (iterates + 1, 0) if step.is_iterate else (iterates, halves + 1)
            if is_token_mixture(step, self.config):
                return token_mixture(name, step.anchor)
            tables = step_tables(
                expand_mixtures(step), start if self.objectives else None, lambda a, b: (a, b) in judged
            )
            found[name] = [table for table in tables if (table[0].label, table[1].label) not in judged]
            judged.update((rows.label, columns.label) for rows, columns in tables)
            if step.is_iterate and not same_prompts:
                judged.clear()
            return Policy(Adapter(name, self.home / name / "adapter"), name)

        first = Policy(start, "start")
        solver = with_phases(self.solver, self.config.phases)
        drive(solver, first, first, execute, lambda step, policy: False, self.config.iterations, self.opponents)
        names = [*found]
        return [table for name in names[names.index(step) + 1 :] for table in found[name]]


def is_token_mixture(step: Step, config: RunConfig) -> bool:
    """Whether a Step is played as a mixture token by token, without a fit."""
    return config.mixtures == "token-level" and step.opponent is None and not step.is_iterate


def token_mixture(name: str, anchor: Policy | Blend) -> Policy:
    """A handle on the geometric blend of one or two adapters that needs no fit.

    Raises:
        ValueError: a blend of more.
    """
    blend = expand_mixtures(Step(anchor)).anchor
    members = list(blend.members())
    if len(members) == 1:
        return members[0]
    if len(members) > 2:
        raise NashwardError(
            f"{name} blends {len(members)} policies, and two adapters can be on the device: take mixtures = 'fitted'"
        )
    return Policy(TokenMixture(name, Blend(blend.members())), name)


def expand_mixtures(step: Step) -> Step:
    """The Step with each token-level mixture in its anchor replaced by its members, which are scored exactly."""
    members = step.anchor.members().items()
    if not any(isinstance(member.value, TokenMixture) for member, _ in members):
        return step
    parts = [(member.value.blend if isinstance(member.value, TokenMixture) else member, w) for member, w in members]
    return dataclasses.replace(step, anchor=sum((weight * part for part, weight in parts), Blend({})))


def samplers_and_fixed(step: Step) -> tuple[list[Sampled], list[StoredResponses]]:
    """The policies whose responses are sampled and fitted, and the fixed opponents that are played against as well.

    Where the opponent is the fixed opponents alone, the anchor's policies are sampled.

    Raises:
        ValueError: an anchor without an adapter, or a policy without one that counts in the average.
    """
    for role, blend in (("anchored at", step.anchor), ("averaged", step.averaged)):
        for member in blend.members() if blend is not None else ():
            if not isinstance(member.value, Adapter):
                raise NashwardError(f"{member.name} has no adapter: it can be played against, not {role}")
    anchors = [member.value for member in step.anchor.members()]
    opponents = [member.value for member in (step.opponent or step.anchor).members()]
    samplers = [policy for policy in opponents if not isinstance(policy, StoredResponses)] or anchors
    return samplers, [policy for policy in opponents if isinstance(policy, StoredResponses)]
