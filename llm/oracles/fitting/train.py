"""Training on votes: a head alone or with its network, fits to the votes of some folds, predictions for the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int

from ...processes import processes
from ..models import checkpoint
from ..models.network import NetworkOracle, by_length
from ..models.pooled import PooledNetwork
from .annotators import Reliability, reliabilities
from .examples import StatesOfRows, VoteExamples, cross_entropy
from .heads import Heads
from .progress import shown
from .settings import RATES, FitSettings, warmed_cosine
from .summary import (
    VoteCycle,
    by_length_alone,
    by_majority,
    error_over_prompts,
    leads_over,
    score,
    vote_cycles,
)
from .votes import Vote


@dataclass(frozen=True)
class Trained:
    """The result of training on some folds.

    Attributes:
        member: what the model differs in, at its best.
        best: the epoch of the lowest held-out loss, 0 for the solved head that it began from; or a penalty's place.
        held_out: indices of votes.
        history: their predicted log-odds for each penalty, or after each epoch; before the first one too, where
            training began from a solved head.
    """

    member: checkpoint.Member
    best: int
    held_out: Int[np.ndarray, " held"]
    history: list[np.ndarray]

    def to(self, device: torch.device | str) -> Trained:
        """The same with the member's tensors on a device."""
        return replace(self, member={name: value.to(device) for name, value in self.member.items()})


class VoteTraining:
    """Training on the votes of some folds, with predictions for those of another.

    A linear head on pooled states is solved, see ``Heads``; any other is trained by AdamW. What is trained besides such
    a head begins from it.
    """

    def __init__(
        self,
        oracle: NetworkOracle,
        votes: Sequence[Vote],
        settings: FitSettings,
        progress: bool,
        known: StatesOfRows | None = None,
    ) -> None:
        self.oracle, self.model, self.votes, self.settings = oracle, oracle.model, list(votes), settings
        self.progress = progress
        self.rate = settings.learning_rate or RATES[settings.train]
        self.data = VoteExamples(oracle, votes, settings)
        self.pairs = self.data.pairs
        linear = isinstance(self.model, PooledNetwork)
        states = self.data.states(progress, known) if linear or settings.train == "head" else None
        self.cyclic: float | None = None
        self.heads = Heads(self.model, self.data, states) if linear and states is not None else None
        self.cached = states if settings.train == "head" else None
        self.start = {name: value.detach().clone() for name, value in self._trained().items()}

    @property
    def solved(self) -> bool:
        """Whether the head alone is trained, and has a solution."""
        return self.heads is not None and self.settings.train == "head"

    def _trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained in place: the head, or all; without those of a LoRA."""
        everything = self.settings.train == "all"
        return {n: p for n, p in self.model.named_parameters() if everything or n.startswith(self.model.head_names)}

    def _logits(self, places: Sequence[int]) -> Float[Tensor, " examples"]:
        """The model's log-odds ``[len(places)]`` of examples, differentiable."""
        rows = torch.tensor([self.data.examples[k].rows for k in places])
        if self.cached is not None:
            return self.model.compare(self.cached[rows].to(self.oracle.device)).float()
        used, index = rows.unique(return_inverse=True)
        states = self.model.states(**self.oracle.collate([self.data.rows[k] for k in used.tolist()]))
        return self.model.compare(states[index.to(states.device)]).float()

    def _batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Examples that fit into one forward pass together."""
        if self.cached is not None:
            yield list(places)
            return
        yield from by_length(places, self.data.lengths.__getitem__, self.oracle.padded_budget)

    def weigh(self, weights: dict[str, float]) -> None:
        """Set the weights of the annotators' votes."""
        self.data.annotator_weights = weights

    def usable(self, chosen: Sequence[int]) -> Int[np.ndarray, " usable"]:
        """Those of some examples that have a weight.

        Raises:
            ValueError: none has.
        """
        weights = self.data.weights(chosen)
        if not (weights > 0).any():
            raise NashwardError("every vote that could be trained on has weight 0")
        return np.array(list(chosen))[weights > 0]

    def train(
        self, chosen: Sequence[int], held_out: Sequence[int], epochs: int | None, name: str, penalty: int | None = None
    ) -> Trained:
        """Train on some examples.

        Args:
            chosen: indices of examples.
            held_out: indices of votes, whose loss stops the training early; may be empty.
            epochs: None: those of the settings.
            name: of the fold, for the progress bar.
            penalty: of the linear head that training begins from, where the model has one.
        """
        settings = self.settings
        torch.manual_seed(settings.seed)  # inside fork_rng: dropout, a new LoRA
        rng = np.random.default_rng([settings.seed, 2])
        usable = self.usable(chosen)
        mean = self.data.weights(usable.tolist()).mean()
        epochs = settings.epochs if epochs is None else epochs
        steps = math.ceil(len(usable) / settings.batch) * settings.epochs
        with torch.no_grad():
            for key, parameter in self._trained().items():
                parameter.copy_(self.start[key])
            if self.heads is not None and penalty is not None:
                self.heads.use(self.heads.path(usable.tolist(), penalty + 1)[penalty])
        # votes of a fold that weigh nothing, as of annotators who are no better than a coin, stop nothing
        decides = bool((self.data.weights([k for vote in held_out for k in self.data.of_vote[vote]]) > 0).any())
        best: tuple[float, int, checkpoint.Member] | None = None
        history: list[np.ndarray] = []
        with self._tuned() as (parameters, member), shown(name, epochs, "epochs", self.progress) as advance:
            optimiser = torch.optim.AdamW(parameters, lr=self.rate, weight_decay=settings.weight_decay)
            done = 0
            # epoch 0 is the start: a solved head, else one that knows nothing of these votes and is no candidate
            first = 0 if penalty is not None else 1
            for epoch in range(first, epochs + 1):
                if epoch:
                    self.model.train()
                    order = rng.permutation(usable)
                    for start in range(0, len(order), settings.batch):
                        for group in optimiser.param_groups:
                            group["lr"] = self.rate * warmed_cosine(done, steps, settings.warmup * steps)
                        self._step(order[start : start + settings.batch].tolist(), mean, optimiser, parameters)
                        done += 1
                if not held_out:
                    advance(1 if epoch else 0)
                    continue
                history.append(self._predict(held_out))
                if not decides:
                    advance(1 if epoch else 0)
                    continue
                loss = self.data.loss(held_out, history[-1])
                if not math.isfinite(loss):
                    raise NashwardError(
                        f"the held-out log-loss is {loss} after epoch {epoch}: the base's weights are damaged, the "
                        f"learning rate of {self.rate:g} is too high, or a vote counts too much (n is at most "
                        f"{max(vote.n for vote in self.votes):g})"
                    )
                advance(1 if epoch else 0, f"log-loss {loss:.4f}")
                if best is None or loss < best[0]:
                    best = (loss, epoch, {key: value.clone() for key, value in member().items()})
                elif epoch - best[1] >= settings.patience:
                    break
            if best is None:
                best = (math.nan, epochs, {k: v.clone() for k, v in member().items()})
        return Trained(best[2], best[1], np.array(held_out, dtype=int), history)

    def _step(
        self, batch: list[int], mean: float, optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor]
    ) -> None:
        optimiser.zero_grad()
        for part in self._batches(batch):
            examples = [self.data.examples[k] for k in part]
            target = torch.tensor([example.target for example in examples], device=self.oracle.device)
            weight = torch.tensor([self.data.weight(example) for example in examples], device=self.oracle.device)
            logits = self._logits(part)
            loss = binary_cross_entropy_with_logits(logits, target, weight / mean, reduction="sum") / len(batch)
            loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    @contextmanager
    def _tuned(self) -> Iterator[tuple[list[nn.Parameter], Callable[[], checkpoint.Member]]]:
        """The trained parameters, and a function for their current values; a LoRA is removed at the end."""
        self.model.requires_grad_(False)
        in_place = self._trained()
        lora = None
        if self.settings.train == "lora":
            from peft import LoraConfig
            from peft.tuners.lora import LoraModel

            linear = [
                name
                for name, module in self.model.named_modules()
                if isinstance(module, nn.Linear) and not name.startswith(self.model.head_names)
            ]
            config = LoraConfig(r=self.settings.rank, lora_alpha=2 * self.settings.rank, target_modules=linear)
            lora = LoraModel(self.model, config, "fit")
        parameters = [*in_place.values(), *(p for n, p in self.model.named_parameters() if ".lora_" in n)]
        for parameter in parameters:
            parameter.requires_grad_(True)

        def member() -> checkpoint.Member:
            tensors = {key: parameter.detach() for key, parameter in in_place.items()}
            for name, module in self.model.named_modules():
                if lora is not None and hasattr(module, "lora_A") and "fit" in module.lora_A:
                    tensors[f"{name}.weight{checkpoint.DOWN}"] = module.lora_A["fit"].weight.detach()
                    tensors[f"{name}.weight{checkpoint.UP}"] = (
                        module.lora_B["fit"].weight.detach() * module.scaling["fit"]
                    )
            return tensors

        try:
            yield parameters, member
        finally:
            if lora is not None:
                lora.unload()
            self.model.requires_grad_(False).eval()

    @torch.inference_mode()
    def _predict(self, votes: Sequence[int]) -> Float[np.ndarray, " votes"]:
        """The log-odds ``[len(votes)]`` that a beats b, both orders averaged."""
        self.model.eval()
        examples = [place for vote in votes for place in self.data.of_vote[vote]]
        logits = np.zeros(len(self.data.examples))
        for part in _by_count(examples, 4096):
            for batch in self._batches(part):
                logits[batch] = self._logits(batch).double().cpu().numpy()
        return self.data.average(votes, logits)

    def _folds(self) -> Iterator[tuple[str, list[int], list[int]]]:
        """Of each fold its name, the examples of the others and its own votes."""
        fold = self.data.fold
        for number in range(fold.max() + 1):
            chosen = np.flatnonzero(fold != number).tolist()
            own = sorted({self.data.examples[k].vote for k in np.flatnonzero(fold == number)} - {-1})
            yield f"fold {number + 1} of {fold.max() + 1}", chosen, own

    def cross_validate(self) -> list[Trained]:
        """Train one model a fold, each on the other folds; several processes divide the folds, and all have the
        models."""
        if self.heads is None:
            return self._divided(lambda k, name, chosen, own: self.train(chosen, own, None, name))
        solved = self._solved_folds()
        if self.solved:
            return solved
        return self._divided(
            lambda k, name, chosen, own: self.train(chosen, own, None, name, penalty=self._best_of_others(k))
        )

    def _divided(self, train: Callable[[int, str, list[int], list[int]], Trained]) -> list[Trained]:
        def on_host(fold: tuple[int, tuple[str, list[int], list[int]]]) -> Trained:
            trained = train(fold[0], *fold[1])
            return trained if processes.count == 1 else trained.to("cpu")

        found = processes.map(on_host, list(enumerate(self._folds())))
        return found if processes.count == 1 else [trained.to(self.oracle.device) for trained in found]

    def _solved_folds(self) -> list[Trained]:
        """The linear head of each fold at the penalty that is best for all, with the predictions at each penalty."""
        assert self.heads is not None
        heads, data, paths, losses = self.heads, self.data, [], []
        folds = list(self._folds())
        with shown("heads", len(folds), "folds", self.progress) as advance:
            for _, chosen, own in folds:
                paths.append(heads.path(self.usable(chosen).tolist()))
                losses.append([data.loss(own, heads.predict(own, head)) for head in paths[-1]])
                advance(1)
        # a fold whose votes weigh nothing has no loss and no say
        self.losses = np.nan_to_num(np.array(losses), posinf=0.0)
        best = int(np.argmin(self.losses.sum(0)))
        return [
            Trained(
                heads.member(path[best]),
                best,
                np.array(own, dtype=int),
                [heads.predict(own, heads.deployed(head)) for head in path],
            )
            for path, (_, _, own) in zip(paths, folds, strict=True)
        ]

    def _best_of_others(self, own: int) -> int:
        """The penalty that is best for all folds but one; where there are two, that is the other one's."""
        return int(np.argmin(np.delete(self.losses, own, axis=0).sum(0)))

    def final(self, results: Sequence[Trained]) -> checkpoint.Member:
        """One more model, trained on everything: by the folds' penalty, or for their median number of epochs."""
        everything = range(len(self.data.examples))
        if self.solved:
            assert self.heads is not None
            best = results[0].best
            head = self.heads.path(self.usable(everything).tolist(), best + 1)[best]
            if self.heads.model.form.kind != "bt":
                self.cyclic = self.heads.cyclic_share(head)
            return self.heads.member(head)
        penalty = None if self.heads is None else int(np.argmin(self.losses.sum(0)))
        epochs = round(float(np.median([fold.best for fold in results])))
        return self.train(everything, (), epochs, "all folds", penalty).member

    def held_out(self, results: Sequence[Trained]) -> Float[np.ndarray, " votes"]:
        """The held-out log-odds of all votes, ``[votes]``.

        A fold's are those at the penalty that is best for the other folds, or of the median best epoch of these: at its
        own best the loss would be lower than on new prompts, as that was chosen on the fold's votes.
        """
        predicted = np.zeros(len(self.votes))
        for k, result in enumerate(results):
            if self.solved:
                place = self._best_of_others(k)
            else:
                epoch = round(float(np.median([other.best for i, other in enumerate(results) if i != k])))
                place = epoch - (1 if self.heads is None else 0)
            predicted[result.held_out] = result.history[min(place, len(result.history) - 1)]
        return predicted

    def annotators(self, results: Sequence[Trained]) -> dict[str, Reliability]:
        """Each annotator's reliability, from the held-out predictions; also of those whose votes weigh nothing."""
        names = [vote.annotator for vote in self.votes]
        return reliabilities(names, self.held_out(results), *self.data.counts(weighed=False))

    def cycles(self, results: Sequence[Trained]) -> list[VoteCycle]:
        """The cycles that the votes confirm, with the held-out predictions of their pairs."""
        return vote_cycles(self.votes, self.held_out(results))

    def summary(self, results: Sequence[Trained]) -> dict[str, Any]:
        """The fields of ``OracleFit`` that are numbers, each vote weighed as in the fit."""
        wins, n = self.data.counts(weighed=True)
        predicted = self.held_out(results)
        folds = [result.held_out for result in results]
        length, majority = by_length_alone(self.votes, folds, wins, n), by_majority(folds, wins, n)
        own, short = score(predicted, wins, n), score(length, wins, n)
        frequent = None if majority is None else score(majority, wins, n)
        lead, right = leads_over(self.votes, predicted, length, wins, n)
        return {
            "log_loss": own.log_loss,
            "standard_error": error_over_prompts(self.votes, cross_entropy(predicted, wins, n), n),
            "accuracy": own.accuracy,
            "chance": math.log(2),
            "length": short.log_loss,
            "length_accuracy": short.accuracy,
            "majority": None if frequent is None else frequent.log_loss,
            "majority_accuracy": None if frequent is None else frequent.accuracy,
            "gain": lead.value,
            "gain_error": lead.standard_error,
            "accuracy_gain": right.value,
            "accuracy_gain_error": right.standard_error,
            "epochs": [] if self.solved else [result.best for result in results],
            "penalty": self.heads.grid[results[0].best][0] if self.heads is not None and self.solved else None,
            "pairs": self.pairs,
            "texts": self.data.texts,
            "cut": self.data.cut,
        }


def _by_count(places: Sequence[int], count: int) -> Iterator[list[int]]:
    for start in range(0, len(places), count):
        yield list(places[start : start + count])
