"""Linear mixtures of adapters: each response is drawn from one member. The average of iterates of a language model."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games import PreferenceGame, nash

from ..config.lora import Lora
from ..config.sampling import Sampling
from ..data.rollouts import Response
from ..store.files import write_json
from ..store.run_folder import RunFolder, is_half
from .adapters.lora import common_base, is_same_base, slots_for
from .local.names import local_model
from .model import LanguageModel
from .sampling import ResponseSource, as_source, seed_of


@dataclass(frozen=True)
class Mixture:
    """A linear mixture of policies on one base: its win rates are the weighted means of its members'.

    .. math::  \\pi(y) = \\sum_k w_k \\pi_k(y), \\qquad P(\\pi \\succ \\rho) = \\sum_k w_k P(\\pi_k \\succ \\rho)

    The theorems on the average of iterates hold for this policy.

    See also:
        ``lora.interpolate``, which averages the weights of the networks: another policy, for which no theorem holds.

    Attributes:
        members: the adapters' folders and their weights w_k, which are not negative and sum to 1. They may be of
            different runs, ranks and layers.

    Raises:
        ValueError: no members, or weights that are no distribution.

    Example:
        >>> Mixture.of([Path("a"), Path("b"), Path("c")], linear(3)).members[2]
        (PosixPath('c'), 0.5)
    """

    members: tuple[tuple[Path, float], ...]

    def __post_init__(self) -> None:
        weights = [weight for _, weight in self.members]
        if not weights or not min(weights) >= 0 or not abs(sum(weights) - 1) <= 1e-6:
            raise NashwardError(f"the weights of a mixture must be at least 0 and sum to 1, got {weights}")

    @property
    def slots(self) -> Lora:
        """The shape in which a model is loaded that can hold every member, see ``slots_for``."""
        return slots_for([folder for folder, _ in self.members])

    @classmethod
    def of(cls, adapters: Sequence[Path], weights: Sequence[float] | None = None) -> Mixture:
        """A mixture of adapters; uniform where no weights are given. Members of weight 0 are left out.

        Raises:
            ValueError: as above, or the numbers of weights and adapters differ.

        Example:
            >>> Mixture.of([Path("a"), Path("b"), Path("c")], [0.5, 0.0, 0.5]).members
            ((PosixPath('a'), 0.5), (PosixPath('c'), 0.5))
        """
        weights = uniform(len(adapters)) if weights is None else weights
        if len(weights) != len(adapters):
            raise NashwardError(
                f"{counted(len(adapters), 'adapter')} and {counted(len(weights), 'weight')}; expected one each, in the "
                f"order {', '.join(map(str, adapters))} (a run's folder stands for its start and its iterates)"
            )
        return cls(tuple((a, float(w)) for a, w in zip(adapters, weights, strict=True) if w != 0))

    @classmethod
    def at(cls, path: Path) -> Mixture:
        """The policy that a path holds: a mixture that ``save`` wrote, or the folder of one adapter.

        Raises:
            FileNotFoundError, ValueError: as ``load`` for a file.

        Example:
            >>> Mixture.at(Path("some folder")).members
            ((PosixPath('some folder'), 1.0),)
        """
        return cls.load(path) if path.is_file() else cls(((path, 1.0),))

    def check(self, model: str | None = None) -> None:
        """Check that the members are adapters of one base, and of ``model`` if it is given; no weights are read.

        Raises:
            ValueError: the members have different bases, or another one than ``model``.
            FileNotFoundError: a member is no adapter folder.
        """
        base = common_base([folder for folder, _ in self.members])
        if model is not None and base is not None and not is_same_base(base, str(local_model(model))):
            raise NashwardError(f"{self.members[0][0]} is for {base}, not for {model}; give that one as --policy")

    def sample(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        count: int,
        source: ResponseSource | Sampling,
        seed: int,
        first: int = 0,
    ) -> list[list[Response]]:
        """Draw responses: for each a member with probability w_k, then a response of that member.

        The draws are grouped by member, so that each adapter is loaded once.

        Args:
            model: loaded for adapters of the members' ranks and layers, see ``slots``.
            prompts: token ids of each prompt.
            count: responses per prompt.
            source: how a member's responses are drawn: ``Sampling``, or any ``ResponseSource``.
            seed: the seed of the draws of members and of responses.
            first: the number of the first prompt among all, where these are a part: a part gets the same responses.

        Returns:
            For each prompt its ``count`` responses, each of weight 1 / count.

        Raises:
            ValueError, FileNotFoundError: as ``check``.
        """
        self.check(model.name)
        source = as_source(source)
        weights = [weight for _, weight in self.members]
        drawn = [
            random.Random(seed_of(seed, "member", first + i)).choices(range(len(self.members)), weights, k=count)
            for i in range(len(prompts))
        ]
        results: list[list[Response | None]] = [[None] * count for _ in prompts]
        for member, (folder, _) in enumerate(self.members):
            slots = {i: [k for k in range(count) if row[k] == member] for i, row in enumerate(drawn)}
            drawn_prompts = [i for i, numbers in slots.items() if numbers]
            seeds = [[seed_of(seed, "response", first + i, k) for k in slots[i]] for i in drawn_prompts]
            with model.use_adapter(folder):
                answers = source.draw(model, [prompts[i] for i in drawn_prompts], seeds)
            for i, row in zip(drawn_prompts, answers, strict=True):
                for k, answer in zip(slots[i], row, strict=True):
                    results[i][k] = replace(answer, weight=1 / count)
        return [[answer for answer in row if answer is not None] for row in results]

    def save(self, file: Path) -> None:
        """Write the mixture as JSON; folders are relative to the file, so that a run can be moved.

        Raises:
            OSError: the file cannot be written.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> with TemporaryDirectory() as home:
            ...     Mixture(((Path(home) / "start", 1.0),)).save(Path(home) / "mixture.json")
            ...     json.loads((Path(home) / "mixture.json").read_text())
            {'members': [{'adapter': 'start', 'weight': 1.0}]}
        """
        home = file.parent.resolve()
        members = [
            {"adapter": os.path.relpath(folder.resolve(), home), "weight": weight} for folder, weight in self.members
        ]
        write_json(file, {"members": members})

    @classmethod
    def load(cls, file: str | Path) -> Mixture:
        """Read a mixture that ``save`` wrote.

        Raises:
            FileNotFoundError: no such file, or a member is no adapter folder.
            ValueError: the file holds no mixture, or its adapters have different bases.
        """
        file = Path(file)
        if not file.is_file():
            raise FileNotFoundError(f"there is no mixture {file}")
        try:
            members = json.loads(file.read_text(encoding="utf-8"))["members"]
            weighted = tuple(((file.parent / m["adapter"]).resolve(), float(m["weight"])) for m in members)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise NashwardError(f"{file} holds no mixture ({error}); nashward mix writes one") from None
        mixture = cls(weighted)
        mixture.check()
        return mixture


def uniform(count: int) -> list[float]:
    """Equal weights: the average that the theorems on multiplicative weights bound.

    Example:
        >>> uniform(4)
        [0.25, 0.25, 0.25, 0.25]
    """
    return [1 / count] * count


def linear(count: int) -> list[float]:
    """Weights 1, 2, ..., count over their sum: later iterates count more.

    Example:
        >>> linear(4)
        [0.1, 0.2, 0.3, 0.4]
    """
    return [2 * t / (count * (count + 1)) for t in range(1, count + 1)]


def nash_weights(game: PreferenceGame) -> list[float]:
    """The maximal lottery of a tournament among the members: the mixture that no member beats.

    .. math::  w \\in \\arg\\max_{w \\in \\Delta} \\min_j \\sum_k w_k P_{kj}

    Args:
        game: P ``[n, n]`` of the n members against each other.

    Returns:
        w, ``n`` weights that sum to 1.

    See also:
        ``uniform`` and ``linear``, weights that need no tournament.

    Example:
        >>> from nashward import games
        >>> [round(weight, 3) for weight in nash_weights(games.zoo.comal_cycle())]
        [0.364, 0.273, 0.364]
    """
    return nash(game).policy.tolist()


def adapter_folders(paths: Sequence[Path]) -> list[Path]:
    """The adapter folders among paths, with each run's folder replaced by its start and its iterates in order.

    Raises:
        FileNotFoundError: a path is neither an adapter's folder nor a run's.
    """
    folders: list[Path] = []
    for path in paths:
        if (path / "adapter_config.json").is_file():
            folders.append(path)
            continue
        stages = [path / "start", *(step for step in RunFolder(path).steps() if not is_half(step.name))]
        iterates = [stage / "adapter" for stage in stages if (stage / "adapter").is_dir()]
        if not iterates:
            raise FileNotFoundError(f"{path} is neither an adapter's folder nor a run's")
        folders += iterates
    return folders
