"""The language-model executor: it carries a Step out as sampling, judging and a fit. It reads nothing but Steps."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nashward.errors import NashwardError
from nashward.games import Policy, Step
from nashward.games.policy import Blend

from ..data.prompts import Prompt
from ..oracles import Cache, PreferenceOracle, preference_matrices
from ..oracles.models.network import NetworkOracle
from ..policy.experimental.token_mixture import use_policy
from ..policy.handles import Adapter, Responses, Sampled, TokenMixture
from ..policy.memory import ignore_event
from ..policy.model import LanguageModel
from ..policy.sampling import GenerateSource, seed_of
from ..store.files import write_shard
from ..store.run_folder import RunFolder, Stage
from .progress import Progress, Stopped
from .rollouts import Chosen, Stored, versus
from .settings import Settings
from .shards import SHARD, Division, divided
from .step_control import limit_factor, phase_of
from .train import Training, settle, write_adapter

Heard = TypeVar("Heard")
Shards = list[tuple[int, list[list[int]]]]  # their numbers and batches
JUDGED = 16  # prompts whose pairs a network judges together


class AdapterExecutor:
    """Carries Steps out on a language model.

    For each member of the Step's opponent it draws K responses a prompt, asks the oracle for the tables of win
    probabilities over all of them, scores them under the anchor's members, and fits

        log pi_theta(y) - sum_k w_k log pi_k(y)  =  size * sum_j c_j P(y beats rho_j) + constant

    on the union of the response sets that were sampled. A fixed opponent is no policy: win probabilities over its
    stored responses are, but it is neither sampled nor fitted. Each part is written to the run folder in shards that
    appear whole or not at all, and is read from there if it is already complete: the same Steps on the same folder
    continue a run.

    Args:
        folder: the run folder.
        prompts: all prompts of the run.
        lengths: how long each is, in tokens: like lengths are sampled together.
        settings: sizes and seeds.
        model, oracle: called when the model or the oracle is first needed, so that a stage loads only its own.
        progress: shows how far the run is, and knows whether it is to stop.
        until: the stage of the first unfinished Step after which to stop (None: go on).
        cache: the file of judgements; None: one in the run folder.
    """

    def __init__(
        self,
        folder: RunFolder,
        prompts: Sequence[Prompt],
        lengths: Sequence[int],
        settings: Settings,
        model: Callable[[], LanguageModel],
        oracle: Callable[[], PreferenceOracle],
        progress: Progress,
        until: Stage | None = None,
        cache: str | Path | None = None,
    ):
        self.folder, self.prompts, self.lengths, self.settings = folder, list(prompts), lengths, settings
        self.progress, self.until = progress, until
        self.model, self.oracle = lambda: self._heard(model()), lambda: self._heard(oracle())
        self.cache = folder / "judgements.sqlite" if cache is None else Path(cache)
        self.reference = Adapter("start", folder / "start" / "adapter")
        self.stored = Stored(prompts)
        self.stopped: str | None = None  # set after the training that was asked for
        self._listened: list[LanguageModel | NetworkOracle] = []
        self.done = 0  # iterates made
        self.half = 0  # half steps since

    def start(self, adapter: str | Path | None) -> Policy:
        """The policy that the run starts from: the base, or the user's adapter."""
        if not self.folder.verified(self.reference.folder):
            write_adapter(self.reference.folder, lambda folder: self.model().write_start_adapter(folder, adapter))
        return Policy(self.reference, "start")

    def execute(self, step: Step) -> Policy:
        name = f"iteration-{self.done + 1:02d}" + ("" if step.is_iterate else f"-half-{self.half + 1}")
        if self.settings.mixtures == "token-level" and step.opponent is None and not step.is_iterate:
            self.half += 1
            return _token_mixture(name, step.anchor)
        step = _spread(step)
        stage = self.folder / name
        chosen = self._portion(self.done)
        finished = self.folder.verified(stage / "adapter")
        settings = self.settings if finished else self._pinned(name)
        samplers, others = _roles(step)
        for policy in samplers:
            self._draw(stage, policy, chosen, skip=finished)
        if self.until == "sample" and not finished:
            raise Stopped(f"{name}: the responses are sampled")
        pairs: list[tuple[Sampled, Sampled | Responses]] = [
            *itertools.combinations_with_replacement(samplers, 2),
            *itertools.product(samplers, others),
        ]
        for a, b in pairs:
            self._judge(stage, a, b, chosen, skip=finished)
        if self.until == "judge" and not finished:
            raise Stopped(f"{name}: the responses are judged")
        if finished:
            settle(stage)
        else:
            self._alone(self.model())
            Training(
                self.folder, self.prompts, settings, self.progress, self.stored, self.model(), stage, step,
                samplers, chosen, self.reference,
            ).run()  # fmt: skip
        self.done, self.half = (self.done + 1, 0) if step.is_iterate else (self.done, self.half + 1)
        if self.until == "train" and not finished:
            self.stopped = f"{name}: the adapter is trained"
        return Policy(Adapter(name, stage / "adapter"), name)

    def _heard(self, part: Heard) -> Heard:
        """The model or the oracle, where it runs out of memory telling the journal."""
        if isinstance(part, LanguageModel | NetworkOracle) and not any(part is own for own in self._listened):
            part.on_event = self.progress.on_event
            self._listened.append(part)
            if isinstance(part, LanguageModel):
                part.invalidate()
        return part

    def _alone(self, part: Any) -> None:
        """Policy and oracle are on the device by turns, where both are networks."""
        for other in self._listened if part in self._listened else []:
            if other is not part:
                other.offload()

    def leave(self) -> None:
        """Stop listening: model and oracle may be used for something else now."""
        for part in self._listened:
            part.on_event = ignore_event

    def _portion(self, iteration: int) -> Chosen:
        """The prompts of an iteration: all, or the next ones of an order that is shuffled for each pass."""
        n, size = len(self.prompts), self.settings.prompts_per_iteration
        if size is None or size >= n:
            return tuple(range(n))
        chosen: list[int] = []
        first = iteration * size
        while len(chosen) < size:
            turn, offset = divmod(first + len(chosen), n)
            order = list(range(n))
            random.Random(seed_of(self.settings.seed, "prompts", turn)).shuffle(order)
            chosen += order[offset : offset + size - len(chosen)]
        return tuple(sorted(set(chosen)))

    def _pinned(self, step: str) -> Settings:
        """The settings of a step: the learning rate of its phase, lowered where limits say so, and the padded tokens of
        a pass that it began with: other passes give other last bits."""
        fit, phase = self.settings.fit, phase_of(self.settings.phases, self.done + 1)
        tokens = self.folder.pinned_step(step).get("tokens")
        if tokens is None:
            tokens = fit.tokens
            self.folder.pin_step(step, {"tokens": tokens})
        rate = fit.learning_rate if phase is None or phase.learning_rate is None else phase.learning_rate
        if self.settings.limits.lowers == "learning-rate":
            rate *= limit_factor(self.settings.limits, self.folder, self.done + 1)
        return dataclasses.replace(self.settings, fit=dataclasses.replace(fit, tokens=tokens, learning_rate=rate))

    def _division(self, stage: Path, chosen: Chosen) -> Division:
        source, count = self.settings.sampling, self.settings.responses
        at_once = max(1, source.batch // count) if isinstance(source, GenerateSource) else SHARD
        return divided(self.folder, stage, chosen, self.lengths, at_once)

    def _missing(self, division: Division, folder: Path, name: str) -> Shards:
        """The shards that are still to be written."""
        return [(k, shard) for k, shard in enumerate(division) if self.folder.shard(folder, name, k) is None]

    def _over(
        self, stage: Path, phase: str, name: str, division: Division, missing: Shards
    ) -> Iterator[tuple[int, list[list[int]]]]:
        """The missing shards, one after another under a progress bar; the run may stop before each."""
        total = sum(len(batch) for shard in division for batch in shard)
        done = total - sum(len(batch) for _, shard in missing for batch in shard)
        with self.progress.phase(stage.name, phase, name, total, done) as tick:
            for number, shard in missing:
                self.progress.raise_if_stopped()
                yield number, shard
                tick(sum(map(len, shard)))

    def _draw(self, stage: Path, policy: Sampled, chosen: Chosen, skip: bool) -> None:
        """Have a policy's responses to the chosen prompts: drawn for the first step that needs them."""
        stage = self.stored.drawn.setdefault((policy.label, chosen), stage)
        if skip:
            return
        division = self._division(stage, chosen)
        missing = self._missing(division, stage / "responses", policy.label)
        if not missing:
            return
        source, model = self.settings.sampling, self.model()
        self._alone(model)
        if isinstance(source, GenerateSource) and source.batch >= self.settings.responses:
            source = source.with_batch(self.settings.responses * SHARD)  # the division says which
        for number, shard in self._over(stage, "sampling", policy.label, division, missing):
            rows: list[dict[str, Any]] = []
            for batch in shard:
                prompts = [self.prompts[i] for i in batch]
                ids = [model.encode(prompt) for prompt in prompts]
                key = (self.settings.seed, stage.name, policy.label)
                seeds = [[seed_of(*key, p.id, k) for k in range(self.settings.responses)] for p in prompts]
                with use_policy(model, policy) as network:
                    playing = copy.copy(model)
                    playing.network = network
                    answers = source.draw(playing, ids, seeds)
                rows += [
                    {"prompt": prompt.id, "policy": policy.label, "response": k, "seed": s,
                     "weight": answer.weight, "prompt_ids": prompt_ids, "ids": answer.ids,
                     "finished": answer.finished, "text": answer.text}
                    for prompt, prompt_ids, row, own in zip(prompts, ids, answers, seeds, strict=True)
                    for k, (answer, s) in enumerate(zip_longest(row, own[: len(row)]))
                ]  # fmt: skip
            write_shard(stage / "responses", policy.label, number, rows)

    def _judge(self, stage: Path, a: Sampled, b: Sampled | Responses, chosen: Chosen, skip: bool) -> None:
        """Have the tables of a's responses against b's: judged for the first step that needs them."""
        if not isinstance(b, Responses) and (b.label, a.label, chosen) in self.stored.judged:
            a, b = b, a
        stage = self.stored.judged.setdefault((a.label, b.label, chosen), stage)
        if skip:
            return
        name = versus(a.label, b.label)
        division = self._division(self.stored.drawn[a.label, chosen], chosen)
        missing = self._missing(division, stage / "judgements", name)
        if not missing:
            return
        oracle = self.oracle()
        self._alone(oracle)
        with self._cache(oracle) as cache:
            for number, shard in self._over(stage, "judging", name, division, missing):
                numbers = list(itertools.chain(*shard))
                first = self.stored.texts(a.label, chosen, number)
                if isinstance(b, Responses):
                    second = {i: list(b.texts[self.prompts[i].id]) for i in numbers}
                else:
                    second = first if a == b else self.stored.texts(b.label, chosen, number)
                rows = []
                for part in _together(numbers, oracle):
                    results = preference_matrices(
                        oracle,
                        [self.prompts[i].text for i in part],
                        [first[i] for i in part],
                        None if a == b else [second[i] for i in part],
                        cache=cache,
                    )
                    if isinstance(cache, _Whole):
                        cache.write()
                    rows += [
                        {"prompt": self.prompts[i].id, "rows": a.label, "columns": b.label, "P": result.P.tolist(),
                         "logits": result.logits.tolist(), **_meta(result.meta)}
                        for i, result in zip(part, results, strict=True)
                    ]  # fmt: skip
                write_shard(stage / "judgements", name, number, rows)

    @contextmanager
    def _cache(self, oracle: PreferenceOracle) -> Iterator[Cache | None]:
        """Where judgements are kept; one of the run's own that is damaged is set aside."""
        if oracle.cache_key() is None:
            yield None
            return
        own = self.cache.parent == self.folder.path and self.cache.exists()
        kind = _Whole if isinstance(oracle, NetworkOracle) else Cache
        try:
            if own and not _readable(self.cache):
                for file in sorted(self.cache.parent.glob(f"{self.cache.name}*")):  # its write-ahead log too
                    self.folder.quarantine(file, f"{file} is damaged: what it held is judged again where it is needed")
            with kind(self.cache) as cache:
                yield cache
        except sqlite3.Error as error:
            raise OSError(
                f"judgements cannot be kept in {self.cache} ({error}); make room there or repair it, and the same "
                "command continues"
            ) from error


class _Whole(Cache):
    """A cache that keeps what a call found all together or not at all.

    What a network says depends in its last bits on what else is in the batch: were a part of a call's pairs kept, the
    others would make other batches after a kill.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._found: dict[bytes, np.ndarray] = {}

    def put(self, logits: Mapping[bytes, np.ndarray]) -> None:
        self._found.update(logits)

    def write(self) -> None:
        super().put(self._found)
        self._found = {}


def _token_mixture(name: str, anchor: Policy | Blend) -> Policy:
    """A handle on the geometric blend of some adapters that needs no fit."""
    blend = _spread(Step(anchor)).anchor
    members = list(blend.members())
    if len(members) == 1:
        return members[0]
    if len(members) > 2:
        raise NashwardError(
            f"{name} blends {len(members)} policies, and two adapters can be on the device: take mixtures = 'fitted'"
        )
    return Policy(TokenMixture(name, Blend(blend.members())), name)


def _spread(step: Step) -> Step:
    """The Step with the members of token-level mixtures in its anchor in their place, which are known exactly."""
    members = step.anchor.members().items()
    if not any(isinstance(member.value, TokenMixture) for member, _ in members):
        return step
    parts = [(member.value.blend if isinstance(member.value, TokenMixture) else member, w) for member, w in members]
    return dataclasses.replace(step, anchor=sum((weight * part for part, weight in parts), Blend({})))


def _roles(step: Step) -> tuple[list[Sampled], list[Responses]]:
    """Whose responses are sampled and fitted, and the fixed opponents that are played against as well.

    Where the opponent is the fixed opponents alone, the anchor's policies are sampled.

    Raises:
        ValueError: an anchor without an adapter, or a policy without one that counts in the average.
    """
    for what, blend in (("anchored at", step.anchor), ("averaged", step.averaged)):
        for member in blend.members() if blend is not None else ():
            if not isinstance(member.value, Adapter):
                raise NashwardError(f"{member.name} has no adapter: it can be played against, not {what}")
    anchors = [member.value for member in step.anchor.members()]
    opponents = [member.value for member in (step.opponent or step.anchor).members()]
    samplers = [policy for policy in opponents if not isinstance(policy, Responses)] or anchors
    return samplers, [policy for policy in opponents if isinstance(policy, Responses)]


def _meta(meta: Mapping[str, Any]) -> dict[str, float]:
    """What is told of a table, but for how much of it was cached: a run that was killed had more."""
    return {key: float(value) for key, value in meta.items() if key not in ("calls", "cached")}


def _together(shard: list[int], oracle: PreferenceOracle) -> list[list[int]]:
    """The prompts that are judged in one call: few for a network, whose calls are kept whole."""
    size = JUDGED if isinstance(oracle, NetworkOracle) else len(shard)
    return [shard[k : k + size] for k in range(0, len(shard), size)]


def _readable(file: Path) -> bool:
    """Whether an SQLite file is whole."""
    try:
        connection = sqlite3.connect(file)
        try:
            return connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False
