"""Several objectives: oracles with names, and how what they judge becomes the payoff of a step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import quoted

from ...config.fields import check_choice
from ..protocol import PreferenceOracle
from ..spec import number, parsed
from .ensemble import Ensemble

ObjectiveRule = Literal["weights", "worst-case", "floors", "lexicographic", "majority"]
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
OWN = {  # settings of each rule that are no objectives
    "weights": (),
    "worst-case": ("tau",),
    "floors": ("limit", "sft"),
    "lexicographic": ("epsilon",),
    "majority": (),
}


@dataclass(frozen=True)
class Combination:
    """How several objectives are combined.

    Attributes:
        names: of the objectives, two or more; the first is the one that floors play for, and the first of an order.
        rule: ``weights``, ``majority`` and ``lexicographic`` make one win probability of all; ``worst-case`` and
            ``floors`` make a payoff of them that depends on what the policy wins against the run's start, see
            ``games.objectives.EntropicGame`` and ``FloorsGame``.
        weights: by name, of weights; 1 where it is not given.
        floors: by name, the least win rate over the start.
        limit: of floors, the most that the multipliers sum to.
        sft: a floor of the SFT texts' likelihood: the most nats per token by which their NLL may rise over the start's.
        tau: of the worst case, the adversary's pull to the start's responses.
        epsilon: of an order, the weight of each objective over that of the one before, see
            ``theory.LexicographicWeights``.

    Raises:
        ValueError: fewer than two objectives, a name that is repeated, no word or a setting of the rule; no floor, one
            of the first objective or none in [0, 1]; another number that does not fit.

    Example:
        >>> Combination.read(("helpful", "short"), "floors:short=0.45:limit=2").floors
        {'short': 0.45}
        >>> Combination(("helpful", "short"), "lexicographic", epsilon=0.25).member_weights
        [0.8, 0.2]
    """

    names: tuple[str, ...]
    rule: ObjectiveRule = "weights"
    weights: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    limit: float = 4.0
    sft: float | None = None
    tau: float = 0.1
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_choice("combine", self.rule, ObjectiveRule)
        if len(self.names) < 2:
            raise NashwardError(f"objectives are two or more, got {', '.join(self.names) or 'none'}")
        for name in self.names:
            if not NAME.fullmatch(name) or name in OWN[self.rule] or self.names.count(name) > 1:
                raise NashwardError(
                    f"objective {quoted(name, 60)}: expected a name of letters, digits, - and _ that no other "
                    f"objective and no setting of {self.rule} has"
                )
        for name in (*self.weights, *self.floors):
            if name not in self.names:
                raise NashwardError(f"there is no objective {quoted(name, 60)}; there are: {', '.join(self.names)}")
        weights = self.member_weights
        if not all(0 <= w < float("inf") for w in weights) or sum(weights) <= 0:
            raise NashwardError(f"weights {dict(self.weights)}: expected numbers, at least 0, not all 0")
        if self.rule == "floors" and not self.charged:
            raise NashwardError(
                f"floors need one at least, of {', '.join(self.names[1:])}: floors:{self.names[1]}=0.45"
            )
        for name, floor in self.floors.items():
            if name == self.names[0]:
                raise NashwardError(f"{name} is the first objective, which is played for: a floor is of another one")
            if not 0 <= floor <= 1:
                raise NashwardError(f"the floor of {name} is {floor:g}; expected a win rate over the start in [0, 1]")
        if self.sft is not None and not 0 <= self.sft < float("inf"):
            raise NashwardError(f"sft is {self.sft!r}; expected nats per token that the NLL may rise by, at least 0")
        for name, value in {"limit": self.limit, "tau": self.tau, "epsilon": self.epsilon}.items():
            if not 0 < value < float("inf"):
                raise NashwardError(f"{name} is {value!r}; expected a positive number")

    @classmethod
    def read(cls, names: Sequence[str], combine: str) -> Combination:
        """From the text of ``--combine``: the rule, and its settings behind colons.

        Raises:
            ValueError: see the class; an unknown rule or setting, a value that is no number.
        """
        rule, settings = parsed(combine, "combine", rules_of(names), names)
        values = {name: number(settings, name) for name in settings}
        own = {name: value for name, value in values.items() if name in OWN[rule]}
        of_objectives = {name: value for name, value in values.items() if name not in own}
        placed = {"weights": of_objectives} if rule == "weights" else {"floors": of_objectives}
        return cls(tuple(names), rule, **placed, **own)  # type: ignore[arg-type]

    @property
    def charged(self) -> tuple[str, ...]:
        """What has a multiplier under floors: the objectives with one, and the SFT texts where they have one."""
        return (*self.floors, *(() if self.sft is None else ("sft",)))

    @property
    def first_multiplier(self) -> float:
        """Of each floor at the start of a run: all have equal shares of the limit, and so has no floor.

        Example:
            >>> Combination(("helpful", "short"), "floors", floors={"short": 0.45}).first_multiplier
            2.0
        """
        return self.limit / (len(self.charged) + 1)

    @property
    def payoff(self) -> str:
        """What a policy plays for, in words.

        Example:
            >>> Combination(("helpful", "short"), weights={"helpful": 3}).payoff
            'the mean of helpful (weight 0.75) and short (weight 0.25)'
        """
        listed = " and ".join(self.names) if len(self.names) == 2 else ", ".join(self.names)
        if self.rule == "floors":
            return f"{self.names[0]}, subject to the floors"
        if self.rule == "worst-case":
            return f"the smallest of {listed}"
        if self.rule == "majority":
            return f"the majority of {listed}"
        return f"the mean of {in_words(dict(zip(self.names, self.member_weights, strict=True)))}"

    @property
    def plays_against_the_start(self) -> bool:
        """Whether the payoff is no win probability of a pair, but depends on what wins against the run's start."""
        return plays_against_the_start(self.rule)

    @property
    def member_weights(self) -> list[float]:
        """The weights of the objectives in the one table that is made of them (not of a majority); they sum to 1."""
        if self.rule == "weights":
            raw = [float(self.weights.get(name, 1.0)) for name in self.names]
        else:
            raw = [self.epsilon**k if self.rule == "lexicographic" else 1.0 for k in range(len(self.names))]
        return [w / sum(raw) for w in raw] if 0 < sum(raw) < float("inf") else raw


def plays_against_the_start(rule: str) -> bool:
    """See ``Combination.plays_against_the_start``."""
    return rule in ("worst-case", "floors")


def in_words(weights: Mapping[str, float]) -> str:
    """Objectives with their weights, for a reader.

    Example:
        >>> in_words({"long": 0.75, "plain": 0.25})
        'long (weight 0.75) and plain (weight 0.25)'
    """
    return " and ".join(f"{name} (weight {weight:.3g})" for name, weight in weights.items())


def rules_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The settings of each rule, for objectives of these names.

    Example:
        >>> rules_of(("helpful", "short"))["floors"]
        ('limit', 'sft', 'helpful', 'short')
    """
    return {rule: (*own, *(names if rule in ("weights", "floors") else ())) for rule, own in OWN.items()}


def combination_of(source: Any) -> Combination | None:
    """How several objectives are combined, of an oracle or of the source of one; None where there is one oracle.

    Example:
        >>> combination_of("judge:models/chat") is None
        True
    """
    found = getattr(source, "combination", None)
    return found if isinstance(found, Combination) else None


def check_judges_pairs(oracle: Any) -> None:
    """Whether an oracle's win probabilities are what is played for.

    Raises:
        ValueError: they are the even mean of objectives that are played for otherwise, by what wins against the start
            of a run.
    """
    combination = combination_of(oracle)
    if combination is not None and combination.plays_against_the_start:
        raise NashwardError(
            f"{combination.payoff} is played for by what wins against the start of a run: that is no game of two "
            "policies, and no win probability of a pair; take one of the objectives, or weights of them; nashward "
            "evaluate and frontier measure each objective of a run"
        )


class Objectives(Ensemble):
    """Oracles with names, each an objective; as one oracle it is their weighted mean, or their majority.

    The tables of all of them are kept: a step of ``worst-case`` and ``floors`` is made of these, and then the one table
    is their even mean, for the choice of prompts and the share of cyclic ones alone.

    Args:
        members: the oracles, in the order of the names.
        combination: how they are combined.

    Raises:
        ValueError: as ``Ensemble``; another number of names.

    Source: ``games.objectives``.

    Example:
        >>> from nashward.llm.oracles import Length, Plain
        >>> oracle = Objectives([Length(), Plain()], Combination(("long", "plain"), "weights", {"long": 3, "plain": 1}))
        >>> oracle.weights.tolist(), oracle.name
        ([0.75, 0.25], 'weights of long (length), plain (plain)')
    """

    def __init__(self, members: Sequence[PreferenceOracle], combination: Combination) -> None:
        names = combination.names
        if len(members) != len(names):
            raise NashwardError(
                f"{counted(len(members), 'oracle')} for the objectives {', '.join(names)}: expected one each"
            )
        majority = combination.rule == "majority"
        listed = ", ".join(f"{name} ({member.name})" for name, member in zip(names, members, strict=True))
        super().__init__(
            members,
            "majority" if majority else "probability",
            None if majority else combination.member_weights,
            name=f"{combination.rule} of {listed}",
        )
        self.combination = combination
