"""The language-model executor: it carries a Step out as sampling, judging and a fit. It reads nothing but Steps."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from tqdm import tqdm

from ..games import Policy, Step
from . import regression
from .batches import Group, MicroBatch, micro_batches
from .fit import Fit, drift, fit, measure, outlook, warning
from .folder import RunFolder, read_shard, write_lines, write_shard
from .memory import quiet
from .model import WEIGHTS, LanguageModel
from .oracles import PreferenceOracle, preference_matrices
from .oracles.network import NetworkOracle
from .prompts import Prompt
from .sampling import Response, Sampling, Source, seed_of

Stage = Literal["sample", "judge", "train"]
Heard = TypeVar("Heard")
SHARD = 64  # prompts in one file


class StageDone(Exception):
    """Raised when the executor was asked to go no further than a stage, and that stage is finished."""


@dataclass(frozen=True)
class Settings:
    """What the executor needs besides the models; see ``SelfPlay`` for the meaning."""

    responses: int = 5
    sampling: Source = field(default_factory=Sampling)
    fit: Fit = field(default_factory=Fit)
    self_comparison: bool = False
    prompts_per_iteration: int | None = None
    seed: int = 0
    label: Callable[[str], str | None] | None = None

    def __post_init__(self) -> None:
        if self.responses < 2:
            raise ValueError(
                f"each prompt needs at least 2 responses to be compared with each other, got {self.responses}"
            )
        if self.prompts_per_iteration is not None and self.prompts_per_iteration < 1:
            raise ValueError(f"prompts_per_iteration must be at least 1, got {self.prompts_per_iteration}")


@dataclass(frozen=True)
class Adapter:
    """What a policy handle holds here: a name, unique in the run, and the folder of the adapter."""

    label: str
    folder: Path


class Adapters:
    """Carries Steps out on a language model.

    For each member of the Step's opponent it draws K responses a prompt, asks the oracle for the tables of win
    probabilities over all of them, scores them under the anchor's members, and fits

        log pi_theta(y) - sum_k w_k log pi_k(y)  =  size * sum_j c_j P(y beats rho_j) + constant

    on the union of the response sets. Each part is written to the run folder in shards that appear whole or not at
    all, and is read from there if it is already complete: the same Steps on the same folder continue a run.

    Args:
        folder: the run folder.
        prompts: all prompts of the run.
        settings: sizes and seeds.
        model, oracle: called when the model or the oracle is first needed, so that a stage loads only its own.
        until: the stage of the first unfinished Step after which to stop (None: go on).
        cache: the file of judgements; None: one in the run folder.
    """

    def __init__(
        self,
        folder: RunFolder,
        prompts: Sequence[Prompt],
        settings: Settings,
        model: Callable[[], LanguageModel],
        oracle: Callable[[], PreferenceOracle],
        until: Stage | None = None,
        cache: str | Path | None = None,
        progress: bool = True,
    ):
        self.silent = None if progress else True  # tqdm's word for: where there is a terminal
        self.folder, self.prompts, self.settings = folder, list(prompts), settings
        self.until = until
        self.model, self.oracle = lambda: self._heard(model()), lambda: self._heard(oracle())
        self.cache = folder / "judgements.sqlite" if cache is None else Path(cache)
        self.reference = Adapter("start", folder / "start" / "adapter")
        self.stopped: str | None = None  # set after the training that was asked for
        self.phase = "start"
        self._listened: list[LanguageModel | NetworkOracle] = []
        self.done = 0  # iterates made
        self.half = 0  # half steps since
        self.drawn: dict[tuple[str, tuple[int, ...]], Path] = {}  # where a policy's responses to some prompts are
        self.judged: dict[tuple[str, str, tuple[int, ...]], Path] = {}

    def start(self, adapter: str | Path | None) -> Policy:
        """The policy that the run starts from: the base, or the user's adapter."""
        if not self.reference.folder.is_dir():
            self.model().start(self.reference.folder, adapter)
        return Policy(self.reference, "start")

    def execute(self, step: Step) -> Policy:
        name = f"iteration-{self.done + 1:02d}" + ("" if step.last else f"-half-{self.half + 1}")
        stage = self.folder / name
        chosen = self._portion(self.done)
        finished = (stage / "adapter" / WEIGHTS).exists()
        opponents = [member.value for member in (step.opponent or step.anchor).members()]
        for opponent in opponents:
            self._draw(stage, opponent, chosen, skip=finished)
        if self.until == "sample" and not finished:
            raise StageDone(f"{name}: the responses are sampled")
        for a, b in itertools.combinations_with_replacement(opponents, 2):
            self._judge(stage, a, b, chosen, skip=finished)
        if self.until == "judge" and not finished:
            raise StageDone(f"{name}: the responses are judged")
        if not finished:
            self._train(stage, step, opponents, chosen)
        self.done, self.half = (self.done + 1, 0) if step.last else (self.done, self.half + 1)
        if self.until == "train" and not finished:
            self.stopped = f"{name}: the adapter is trained"
        return Policy(Adapter(name, stage / "adapter"), name)

    def _heard(self, part: Heard) -> Heard:
        """The model or the oracle, where it runs out of memory telling the journal."""
        if isinstance(part, LanguageModel | NetworkOracle) and not any(part is own for own in self._listened):
            part.tell = self._tell
            self._listened.append(part)
        return part

    def leave(self) -> None:
        """Stop listening: model and oracle may be used for something else now."""
        for part in self._listened:
            part.tell = quiet

    def _tell(self, event: dict[str, Any]) -> None:
        try:
            self.folder.journal({"at": self.phase, **event})
        except OSError as error:  # the run is worth more than the line
            tqdm.write(f"the journal cannot be written: {error}")
        tqdm.write(f"{self.phase}: out of memory with {event['at_once']} at once; the half is tried")

    def _portion(self, iteration: int) -> tuple[int, ...]:
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

    def _shards(
        self, stage: Path, kind: str, name: str, chosen: tuple[int, ...], what: str
    ) -> Iterator[tuple[Path, range]]:
        """The files that are still to be written, each with the places of its prompts; under a progress bar."""
        parts = [range(i, min(i + SHARD, len(chosen))) for i in range(0, len(chosen), SHARD)]
        files = [(stage / kind / f"{name}.{i:05d}.parquet", part) for i, part in enumerate(parts)]
        missing = [(file, part) for file, part in files if not file.exists()]
        if not missing:
            return
        self.phase = f"{stage.name}: {what}"
        with tqdm(total=len(chosen), desc=f"{stage.name}: {what}", unit="prompt", disable=self.silent) as bar:
            bar.update(len(chosen) - sum(len(part) for _, part in missing))
            for file, part in missing:
                yield file, part
                bar.update(len(part))

    def _draw(self, stage: Path, policy: Adapter, chosen: tuple[int, ...], skip: bool) -> None:
        if (policy.label, chosen) in self.drawn:
            return
        self.drawn[policy.label, chosen] = stage / "responses" / policy.label
        if skip:
            return
        count, seed = self.settings.responses, self.settings.seed
        for file, part in self._shards(stage, "responses", policy.label, chosen, f"sampling {policy.label}"):
            model = self.model()
            prompts = [self.prompts[chosen[i]] for i in part]
            ids = [model.encode(prompt) for prompt in prompts]
            seeds = [[seed_of(seed, stage.name, policy.label, p.id, k) for k in range(count)] for p in prompts]
            with model.acting(policy.folder):
                answers = self.settings.sampling.draw(model, ids, seeds)
            write_shard(
                file,
                [
                    {"prompt": prompt.id, "policy": policy.label, "response": k, "seed": s,
                     "weight": answer.weight, "prompt_ids": prompt_ids, "ids": answer.ids,
                     "finished": answer.finished, "text": answer.text}
                    for prompt, prompt_ids, row, own in zip(prompts, ids, answers, seeds, strict=True)
                    for k, (answer, s) in enumerate(zip_longest(row, own[: len(row)]))
                ],
            )  # fmt: skip

    def responses(self, policy: Adapter, chosen: tuple[int, ...]) -> tuple[list[list[int]], list[list[Response]]]:
        """The stored prompt ids and responses of a policy, for each chosen prompt."""
        base = self.drawn[policy.label, chosen]
        rows = [row for file in sorted(base.parent.glob(f"{base.name}.*.parquet")) for row in read_shard(file)]
        grouped = [list(group) for _, group in groupby(rows, key=lambda row: row["prompt"])]
        answers = [[Response(r["ids"], r["finished"], r["text"], r["weight"]) for r in group] for group in grouped]
        return [group[0]["prompt_ids"] for group in grouped], answers

    def _judge(self, stage: Path, a: Adapter, b: Adapter, chosen: tuple[int, ...], skip: bool) -> None:
        if (a.label, b.label, chosen) in self.judged or (b.label, a.label, chosen) in self.judged:
            return
        name = a.label if a == b else f"{a.label}~{b.label}"
        self.judged[a.label, b.label, chosen] = stage / "judgements" / name
        if skip:
            return
        first: list[list[Response]] = []
        for file, part in self._shards(stage, "judgements", name, chosen, f"judging {name}"):
            if not first:
                first = self.responses(a, chosen)[1]
                second = first if a == b else self.responses(b, chosen)[1]
            prompts, oracle = [self.prompts[chosen[i]] for i in part], self.oracle()
            results = preference_matrices(
                oracle,
                [prompt.text for prompt in prompts],
                [[answer.text for answer in first[i]] for i in part],
                None if a == b else [[answer.text for answer in second[i]] for i in part],
                cache=None if oracle.cache_key() is None else self.cache,
            )
            write_shard(
                file,
                [
                    {"prompt": prompt.id, "rows": a.label, "columns": b.label, "P": result.P.tolist(),
                     "logits": result.logits.tolist(), **{k: float(v) for k, v in result.meta.items()}}
                    for prompt, result in zip(prompts, results, strict=True)
                ],
            )  # fmt: skip

    def tables(self, a: Adapter, b: Adapter, chosen: tuple[int, ...]) -> torch.Tensor:
        """The stored win probabilities of a's responses against b's, [prompts, K, K]."""
        swap = (a.label, b.label, chosen) not in self.judged
        base = self.judged[(b.label, a.label, chosen) if swap else (a.label, b.label, chosen)]
        files = sorted(base.parent.glob(f"{base.name}.*.parquet"))
        P = torch.tensor([row["P"] for file in files for row in read_shard(file)], dtype=torch.float64)
        return 1 - P.mT if swap else P

    def _gains(
        self, step: Step, sets: dict[Adapter, list[list[Response]]], chosen: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """sum_j c_j P(y beats rho_j) for the responses of all sets, and their weights in the union, [prompts, R]."""
        weights = {
            p: torch.tensor([[a.weight for a in row] for row in answers]).double() for p, answers in sets.items()
        }
        total: list[torch.Tensor] = []
        for row in sets:
            gain = torch.zeros_like(weights[row])
            for member, weight in step.opponent.members().items() if step.opponent is not None else ():
                itself = None
                if not (self.settings.self_comparison or self.settings.sampling.enumerates):
                    count = gain.shape[1]
                    itself = torch.arange(count) if member.value == row else torch.full((count,), -1)
                P = self.tables(row, member.value, chosen)
                gain += weight * regression.win_rates(P, weights[member.value], itself)
            total.append(gain)
        return torch.cat(total, 1), torch.cat(list(weights.values()), 1) / len(sets)

    def _train(self, stage: Path, step: Step, opponents: Sequence[Adapter], chosen: tuple[int, ...]) -> None:
        model, settings = self.model(), self.settings.fit
        stored = {opponent: self.responses(opponent, chosen) for opponent in opponents}
        sets = {opponent: answers for opponent, (_, answers) in stored.items()}
        prompt_ids = stored[opponents[0]][0]
        gains, weights = self._gains(step, sets, chosen)
        weights = regression.select(gains, weights, settings.selection)
        groups = []
        for i, number in enumerate(chosen):
            union = [(answer.ids, policy.label) for policy, answers in sets.items() for answer in answers[i]]
            # Only the pair passes through the network where only the pair is fitted; else all, in one shape.
            kept = list(range(len(union))) if settings.selection == "all" else weights[i].nonzero().flatten().tolist()
            if weights[i].sum() > 0:
                ids, samplers = [union[k][0] for k in kept], [union[k][1] for k in kept]
                groups.append(
                    (
                        number,
                        Group(self.prompts[number].id, prompt_ids[i], ids, samplers, gains[i][kept], weights[i][kept]),
                    )
                )
        if not groups:
            raise ValueError(
                f"{stage.name}: no prompt has responses that the oracle tells apart; nothing to learn from"
            )
        held = set(self._held_out([number for number, _ in groups], settings.held_out))
        training = micro_batches([g for number, g in groups if number not in held], settings.tokens, settings.batch)
        testing = micro_batches([g for number, g in groups if number in held], settings.tokens, settings.batch)
        self.phase = f"{stage.name}: scoring"
        self._score(stage, step, opponents, training + testing)
        self.phase = f"{stage.name}: training"
        heaviest = max(step.anchor.members().items(), key=lambda item: item[1])[0]
        known = outlook(training, step.size, settings)
        if not self.silent:
            tqdm.write(
                f"{stage.name}: loss before training {known['loss']:.6g} nats^2 ({known['loss_paper']:.3g} in the "
                "paper's units)"
            )
        told = warning(known["target_rms"], step.size)
        if told:
            tqdm.write(f"{stage.name}: {told}")
        total = settings.epochs * sum(len(batch.groups) for batch in training)
        with (
            tqdm(total=total, desc=f"{stage.name}: training", unit="prompt", disable=self.silent) as bar,
            model.training(heaviest.value.folder) as parameters,
        ):
            before = [parameter.detach().cpu().clone() for parameter in parameters]
            seed = seed_of(self.settings.seed, stage.name, "fit")
            records = fit(
                model.network, parameters, training, step.size, settings, model.pad_id, seed, bar.update, model.tell
            )
            moved = sum(int((a != b.detach().cpu()).sum()) for a, b in zip(before, parameters, strict=True))
            start = heaviest.value.label

            def measured(batches: Sequence[MicroBatch]) -> dict[str, float]:
                return measure(model.network, batches, step.size, settings, model.pad_id, start, model.tell)

            summary = {
                "iteration": stage.name,
                "size": step.size,
                "anchor": {member.name: weight for member, weight in step.anchor.members().items()},
                "opponent": {m.name: w for m, w in step.opponent.members().items()} if step.opponent else {},
                "prompts": len(chosen),
                "prompts_without_pair": len(chosen) - len(groups),
                "at_start": known,
                "warning": told,
                "kl_to_reference": drift(training, start),
                "train": measured(training),
                "held_out": measured(testing),
                "moved": moved / sum(parameter.numel() for parameter in parameters),
                "response_tokens": _mean([len(a.ids) for answers in sets.values() for row in answers for a in row]),
                "labels": self._labels(sets[opponents[0]]),
                "finished": _mean([a.finished for answers in sets.values() for row in answers for a in row]),
            }
        write_lines(stage / "metrics.jsonl", [*({"step": i, **r} for i, r in enumerate(records, 1)), summary])
        model.save(stage / "adapter")

    def _labels(self, answers: list[list[Response]]) -> dict[str, float] | None:
        """The share of each label among the responses, "none" for those that have none."""
        if self.settings.label is None:
            return None
        found = Counter(self.settings.label(answer.text) or "none" for row in answers for answer in row)
        return {name: count / found.total() for name, count in sorted(found.items())}

    def _held_out(self, numbers: Sequence[int], share: float) -> list[int]:
        order = sorted(numbers, key=lambda i: seed_of(self.settings.seed, "held out", self.prompts[i].id))
        return order[: min(round(share * len(order)), len(order) - 1)]

    def _score(self, stage: Path, step: Step, samplers: Sequence[Adapter], batches: Sequence[MicroBatch]) -> None:
        """The anchor's and the samplers' log-probabilities, each micro-batch in the composition of the fit."""
        model, baseline = self.model(), self.settings.fit.baseline
        file = stage / "targets" / "anchor.parquet"
        if file.exists():
            rows = read_shard(file)
            if [[group.name for group in batch.groups] for batch in batches] == [row["prompts"] for row in rows]:
                for batch, row in zip(batches, rows, strict=True):
                    for name in ("anchor", "sampler", "start", "reference"):
                        setattr(batch, name, torch.tensor(row[name], dtype=torch.float32))
                return
        anchor = {member.value: weight for member, weight in step.anchor.members().items()}
        start, reference = max(anchor, key=lambda member: anchor[member]), self.reference
        needed = dict.fromkeys([*anchor, *samplers, reference])
        total = len(needed) * len(batches)
        with tqdm(total=total, desc=f"{stage.name}: scoring", unit="batch", disable=self.silent) as bar:
            for batch in batches:
                batch.anchor = torch.zeros_like(batch.weights)
                batch.sampler = torch.full_like(batch.weights, -torch.inf)
            for policy in needed:
                with model.acting(policy.folder) as network:
                    for batch in batches:
                        scored = batch.logprobs(network, model.pad_id, model.tell)
                        batch.anchor = scored * anchor.get(policy, 0.0) + batch.anchor  # type: ignore[operator]
                        if policy in samplers:
                            # The mean density of all samplers: far steadier than each response's own.
                            share = scored - math.log(len(samplers))
                            batch.sampler = torch.logaddexp(share, batch.sampler)  # type: ignore[arg-type]
                        batch.start = scored if policy == start else batch.start
                        batch.reference = scored if policy == reference else batch.reference
                        bar.update(1)
        write_shard(
            file,
            [
                {"prompts": [group.name for group in batch.groups], "anchor": _rows(batch.anchor),
                 "sampler": _rows(batch.sampler), "start": _rows(batch.start),
                 "reference": _rows(batch.reference), "gains": _rows(batch.gains), "weights": _rows(batch.weights),
                 "targets": _rows(batch.targets(step.size, baseline))}
                for batch in batches
            ],
        )  # fmt: skip


def _rows(tensor: torch.Tensor | None) -> list[list[float]]:
    return [] if tensor is None else tensor.tolist()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
