"""The training of one Step: what is fitted, the anchor's log-probabilities, the fit, and what it achieved."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError

from nashward.errors import NashwardError
from nashward.games import Step
from nashward.games.shapes import Float

from ..data.prompts import Prompt
from ..policy.experimental.token_mixture import use_policy
from ..policy.handles import Adapter, Responses, Sampled
from ..policy.model import LanguageModel
from ..policy.sampling import seed_of
from ..store.files import atomic_folder, atomic_write, read_shard, to_jsonl, write_checksums, write_shard
from ..store.run_folder import RunFolder
from ..training import regression
from ..training.batches import Group, MicroBatch, Text, micro_batches
from ..training.diagnostics import changed_fraction, clipped, described, fit_metrics, initial_metrics, unreachable
from ..training.losses import LOSSES, objective
from ..training.optimize import order
from ..training.sft import TaskTerm, divided, encoded, ordered, packed
from .progress import Progress
from .refit import Fitting
from .rollouts import Answers, Chosen, Stored
from .settings import Settings

logger = logging.getLogger(__name__)

SCORED = 256  # prompts in a shard of log-probabilities: each costs a switch of adapters
METRICS = "metrics.jsonl"


@dataclass
class Training:
    """One Step's; ``run`` makes its adapter, from where an earlier process left it.

    Args:
        model: of the policy.
        stage: the step's folder.
        samplers: whose responses are fitted; the first one's are described in the metrics.
        reference: the policy that the run started from.
    """

    folder: RunFolder
    prompts: Sequence[Prompt]
    settings: Settings
    progress: Progress
    stored: Stored
    model: LanguageModel
    stage: Path
    step: Step
    samplers: Sequence[Sampled]
    chosen: Chosen
    reference: Adapter

    def run(self) -> None:
        settings, stage, step, model = self.settings.fit, self.stage, self.step, self.model
        sets = {p: self.stored.answers(p.label, self.chosen, self.settings.label) for p in self.samplers}
        groups = self._groups(sets)
        held = set(self._held_out([number for number, _ in groups], settings.held_out))
        if step.opponent is None:  # a geometric mixture: nothing is chosen over anything
            settings = replace(settings, loss="mirror")
        sizes = settings.tokens, settings.batch, objective(settings, self.settings.sampling.enumerates)
        training = micro_batches([g for number, g in groups if number not in held], *sizes)
        testing = micro_batches([g for number, g in groups if number in held], *sizes)
        self.score([*training, *testing])
        heaviest = max(step.anchor.members().items(), key=lambda item: item[1])[0].value
        seed = seed_of(self.settings.seed, stage.name, "fit")
        term = self._task(len(order(training, settings, seed)))
        before_task = {} if term is None else self._likelihoods(term, heaviest)
        fitting = Fitting(self.folder, self.progress, model, stage, step.size, settings, seed, training, testing, term)
        at_start = fitting.scored()
        known = initial_metrics(at_start.train, step.size, settings.baseline)
        mirror = f"{known['loss']:.6g} nats^2 ({known['loss_paper']:.3g} in the paper's units)"
        stated = mirror if settings.loss == "mirror" else f"{known['loss']:.6g} ({settings.loss})"
        self.progress.info(f"{stage.name}: loss before training {stated}")
        told = unreachable(known["target_rms"], step.size)
        if told:
            logger.warning("%s: %s", stage.name, told)
        with model.training(heaviest.folder) as parameters:
            before = [parameter.detach().cpu().clone() for parameter in parameters]
            made = fitting.run(parameters, before)
            task = {} if made.scores.task is None else {**before_task, "after": made.scores.task}
            win_rate = None if settings.loss == "gpo" else made.scores.win_rate  # its gains are scores
            crossed = self._crossed(task, win_rate)
            said = made.said(at_start.loss, settings.target_kl) + crossed
            for line in said:
                logger.warning("%s: %s", stage.name, line)
            train, held_out, baseline = made.scores.train, made.scores.held_out, settings.baseline
            lengths = [length for answers in sets.values() for length in answers.lengths]
            summary = {
                "iteration": stage.name,
                "size": step.size,
                "anchor": {member.name: weight for member, weight in step.anchor.members().items()},
                "opponent": {m.name: w for m, w in step.opponent.members().items()} if step.opponent else {},
                "wins": self._wins(sets[self.samplers[0]]),
                "prompts": len(self.chosen),
                "prompts_without_pair": len(self.chosen) - len(groups),
                "at_start": known,
                "first_loss": {"found": made.records[0]["loss"], "expected": made.expected},
                "warning": " ".join(filter(None, [told, *said])) or None,
                "train": fit_metrics(train, baseline),
                "held_out": {} if held_out is None else fit_metrics(held_out, baseline),
                "before": described(train.start, train),
                "after": described(train.now, train),
                "win_rate": win_rate,
                "task": task,
                "crossed": bool(crossed),
                "kept": made.kept,
                "refits": made.refits,
                "clipped": clipped([record["gradient_norm"] for record in made.records], settings.max_grad_norm),
                "moved": changed_fraction(before, [parameter.detach().cpu() for parameter in parameters]),
                "response_tokens": sum(lengths) / len(lengths),
                "labels": self._labels(sets[self.samplers[0]]),
                "finished": sum(answers.finished for answers in sets.values()) / len(lengths),
            }
        metrics = to_jsonl([*({"step": i, **r} for i, r in enumerate(made.records, 1)), summary])
        write_adapter(stage / "adapter", model.save, metrics)
        settle(stage)

    def _task(self, steps: int) -> TaskTerm | None:
        """The task's texts for a fit of so many optimiser steps; None where the run has no task, and for a geometric
        mixture, whose members have been fitted with it."""
        texts, fit, key = self.settings.task, self.settings.fit, (self.settings.seed, "task")
        if not texts or self.step.opponent is None:
            return None

        def text(number: int) -> Text:
            return encoded(self.model.tokenizer, *texts[number], self.model.stop_ids)

        training, testing = divided(len(texts), fit.held_out, seed_of(*key))
        stream = map(text, ordered(training, seed_of(*key, self.stage.name)))
        beside = packed(stream, fit.tokens, fit.batch, steps if fit.task_weight > 0 else 0)
        return TaskTerm(beside, packed(map(text, testing), fit.tokens, fit.batch))

    def _likelihoods(self, term: TaskTerm, heaviest: Adapter) -> dict[str, float]:
        """NLL of the task's held-out texts, nats a token, under the run's start and where the fit starts."""
        found = {}
        for policy in dict.fromkeys([self.reference, heaviest]):
            self.progress.raise_if_stopped()
            with use_policy(self.model, policy) as network:
                found[policy] = term.held_out(network, self.model.pad_id, self.model.on_event)
        return {"start": found[self.reference], "before": found[heaviest]}

    def _crossed(self, task: dict[str, float], win_rate: float | None) -> list[str]:
        """One sentence where the iterate is beyond a limit of the run; half steps are held against none."""
        limits = self.settings.limits
        rise = task["after"] - task["start"] if task else None
        found = limits.crossed(rise, win_rate) if self.step.is_iterate else []
        if not found:
            return []
        lowers = limits.lowers.replace("-", " ")
        return [
            f"Beyond its limits: {' and '.join(found)}; the {lowers} of later iterations is times {limits.factor:g}."
        ]

    def _groups(self, sets: dict[Sampled, Answers]) -> list[tuple[int, Group]]:
        """What is fitted together, by the number of its prompt; a prompt without a pair to learn from has nothing."""
        gains, weights = self._gains(sets)
        weights = regression.select(gains, weights, self.settings.fit.selection)
        prompts = sets[self.samplers[0]].prompts
        tables = self._tables(sets) if LOSSES[self.settings.fit.loss].pairs else None
        groups = []
        for i, number in enumerate(self.chosen):
            union = [ids for answers in sets.values() for ids in answers.ids[i]]
            # Only the pair passes through the network where only the pair is fitted; else all, in one shape.
            everything = self.settings.fit.selection == "all"
            kept = list(range(len(union))) if everything else weights[i].nonzero().flatten().tolist()
            if weights[i].sum() > 0:
                prompt, ids = self.prompts[number], [union[k] for k in kept]
                own = prompt.weight * weights[i][kept]
                table = None if tables is None else tables[i][kept][:, kept]
                groups.append((number, Group(prompt.id, prompts[i], ids, gains[i][kept], own, table)))
        if not groups:
            raise NashwardError(
                f"{self.stage.name}: no prompt has responses that the oracle tells apart; nothing to learn from"
            )
        return groups

    def _gains(
        self, sets: dict[Sampled, Answers]
    ) -> tuple[Float[torch.Tensor, "prompts R"], Float[torch.Tensor, "prompts R"]]:
        """sum_j c_j P(y beats rho_j) for the responses of all sets, and their weights in the union, [prompts, R]."""
        total: list[torch.Tensor] = []
        payoff = LOSSES[self.settings.fit.loss].payoff
        for row, answers in sets.items():
            gain = torch.zeros_like(answers.weights)
            for member, weight in self.step.opponent.members().items() if self.step.opponent is not None else ():
                itself = None
                if not (self.settings.self_comparison or self.settings.sampling.enumerates):
                    count = gain.shape[1]
                    itself = torch.arange(count) if member.value == row else torch.full((count,), -1)
                P = payoff(self.stored.tables(row.label, member.value.label, self.chosen))
                own = sets.get(member.value)  # None: of the fixed opponents, whose responses all weigh the same
                columns = P.new_ones(len(P), P.shape[-1]) if own is None else own.weights
                gain += weight * regression.win_rates(P, columns, itself)
            total.append(gain)
        return torch.cat(total, 1), torch.cat([answers.weights for answers in sets.values()], 1) / len(sets)

    def _tables(self, sets: dict[Sampled, Answers]) -> Float[torch.Tensor, "prompts R R"]:
        """The win probabilities of the responses of all sets against each other, [prompts, R, R]."""
        rows = [[self.stored.tables(a.label, b.label, self.chosen) for b in sets] for a in sets]
        return torch.cat([torch.cat(row, 2) for row in rows], 1)

    def _wins(self, answers: Answers) -> dict[str, float]:
        """How often the first sampler beats each fixed opponent, over the prompts that were judged."""
        found = {}
        for member in self.step.opponent.members() if self.step.opponent is not None else ():
            if isinstance(member.value, Responses):
                P = self.stored.tables(self.samplers[0].label, member.value.label, self.chosen)
                rates = regression.win_rates(P, P.new_ones(len(P), P.shape[-1]))
                found[member.name] = float((rates * answers.weights).sum(-1).nanmean())
        return found

    def _labels(self, answers: Answers) -> dict[str, float] | None:
        """The share of each label among the responses, "none" for those that have none."""
        if self.settings.label is None:
            return None
        total = sum(answers.labels.values())
        return {name: count / total for name, count in sorted(answers.labels.items())}

    def _held_out(self, numbers: Sequence[int], share: float) -> list[int]:
        mixed = sorted(numbers, key=lambda i: seed_of(self.settings.seed, "held out", self.prompts[i].id))
        return mixed[: min(round(share * len(mixed)), len(mixed) - 1)]

    def score(self, batches: Sequence[MicroBatch]) -> None:
        """The anchor's and the samplers' log-probabilities, each micro-batch in the composition of the fit."""
        targets, parts = self.stage / "targets", _parts(batches)
        missing = [(number, part) for number, part in enumerate(parts) if not self._scored(targets, number, part)]
        if not missing:
            return
        done = len(batches) - sum(len(part) for _, part in missing)
        with self.progress.phase(self.stage.name, "scoring", "", len(batches), done, "batches") as tick:
            for number, part in missing:
                self.progress.raise_if_stopped()
                self._score(part)
                rows = [
                    {"prompts": [group.name for group in batch.groups], "parts": batch.parts,
                     **{name: _rows(getattr(batch, name)) for name in SCORES},
                     "gains": _rows(batch.gains), "weights": _rows(batch.weights),
                     "targets": _rows(batch.targets(self.step.size, self.settings.fit.baseline))}
                    for batch in part
                ]  # fmt: skip
                write_shard(targets, "anchor", number, rows)
                tick(len(part))

    def _scored(self, folder: Path, number: int, batches: Sequence[MicroBatch]) -> bool:
        """Whether a shard has the scores of these micro-batches, which then have them too."""
        file = self.folder.shard(folder, "anchor", number)
        rows = [] if file is None else read_shard(file)
        if file is not None and [[group.name for group in batch.groups] for batch in batches] != [
            row["prompts"] for row in rows
        ]:
            self.folder.quarantine(file, f"{file} is of other micro-batches")
            return False
        for batch, row in zip(batches, rows, strict=False):
            batch.parts = row["parts"]
            for name in SCORES:
                setattr(batch, name, torch.tensor(row[name], dtype=torch.float32))
        return file is not None

    def _score(self, batches: Sequence[MicroBatch]) -> None:
        model, samplers = self.model, self.samplers
        anchor = {member.value: weight for member, weight in self.step.anchor.members().items()}
        start = max(anchor, key=lambda member: anchor[member])
        for batch in batches:
            batch.anchor = torch.zeros_like(batch.weights)
            batch.sampler = torch.full_like(batch.weights, -torch.inf)
        for policy in dict.fromkeys([*anchor, *samplers, self.reference]):
            with use_policy(model, policy) as network:
                for batch in batches:
                    scored = batch.logprobs(network, model.pad_id, model.on_event)
                    batch.anchor = scored * anchor.get(policy, 0.0) + batch.anchor  # type: ignore[operator]
                    if policy in samplers:
                        # The mean density of all samplers: far steadier than each response's own.
                        share = scored - math.log(len(samplers))
                        batch.sampler = torch.logaddexp(share, batch.sampler)  # type: ignore[arg-type]
                    batch.start = scored if policy == start else batch.start
                    batch.reference = scored if policy == self.reference else batch.reference


SCORES = ("anchor", "sampler", "start", "reference")


def write_adapter(folder: Path, save: Callable[[Path], None], metrics: bytes | None = None) -> None:
    """Write an adapter whole and sealed, with the metrics of its training.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    with atomic_folder(folder) as unfinished:
        try:
            save(unfinished)
        except SafetensorError as error:  # a full disk is not an OSError there
            raise OSError(f"{folder} cannot be written ({error}); make room, and the same command continues") from None
        if metrics is not None:
            (unfinished / METRICS).write_bytes(metrics)
        write_checksums(unfinished)


def settle(stage: Path) -> None:
    """What follows from a finished adapter: its metrics lie beside it too, and its checkpoints are gone."""
    metrics, beside = stage / "adapter" / METRICS, stage / METRICS
    if not beside.exists() or beside.read_bytes() != metrics.read_bytes():
        with atomic_write(beside) as unfinished:
            unfinished.write_bytes(metrics.read_bytes())
    if (stage / "training").exists():
        shutil.rmtree(stage / "training")


def _parts(batches: Sequence[MicroBatch]) -> list[Sequence[MicroBatch]]:
    """Micro-batches in shards of about ``SCORED`` prompts."""
    cuts, prompts = [0], 0
    for k, batch in enumerate(batches, 1):
        prompts += len(batch.groups)
        if prompts >= SCORED or k == len(batches):
            cuts.append(k)
            prompts = 0
    return [batches[a:b] for a, b in pairwise(cuts)]


def _rows(tensor: torch.Tensor | None) -> list[list[float]]:
    return [] if tensor is None else tensor.tolist()
