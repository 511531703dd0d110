"""Training on votes: their rows of tokens, fits to the votes of some folds, predictions for the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int, Num

from ..models import checkpoint
from ..models.network import NetworkOracle, Row, by_length
from . import augment
from .annotators import Reliability, reliabilities, slope
from .settings import RATES, FitSettings, fold_key, folds, warmed_cosine
from .votes import Vote


@dataclass(frozen=True)
class _Example:
    """One order of one pair: its rows of tokens, the target P(first beats second), the index of its vote or -1."""

    rows: tuple[int, ...]
    target: float
    weight: float
    vote: int
    prompt: str
    annotator: str | None


@dataclass(frozen=True)
class _Trained:
    member: checkpoint.Member
    epoch: int
    held_out: Int[np.ndarray, " held"]  # indices of votes
    history: list[np.ndarray]  # their predicted log-odds after each epoch


class VoteTraining:
    """The votes as rows of tokens, with training on some folds and predictions for another."""

    def __init__(self, oracle: NetworkOracle, votes: Sequence[Vote], settings: FitSettings, progress: bool) -> None:
        self.oracle, self.model, self.votes, self.settings = oracle, oracle.model, list(votes), settings
        self.progress = progress
        self.rate = settings.learning_rate or RATES[settings.train]
        self.annotator_weights: dict[str, float] = {}
        rng = np.random.default_rng([settings.seed, 1])
        added = [
            (name, make(votes, round(getattr(settings, name) * len(votes)), rng))
            for name, make in (
                ("near_duplicates", augment.near_duplicates),
                ("length_matched", augment.length_matched),
                ("style_swapped", augment.style_swapped),
            )
        ]
        self.pairs = {"labelled": len(votes), **{name: len(extra) for name, extra in added}}
        self.rows: list[Row] = []
        self._places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        self.examples: list[_Example] = []
        for number, vote in enumerate(votes):
            self._add(vote, number)
        for _, extra in added:
            for vote in extra:
                self._add(vote, -1)
        self.lengths = [sum(len(self.rows[row][0]) for row in example.rows) for example in self.examples]
        self.of_vote: dict[int, list[int]] = {}
        for place, example in enumerate(self.examples):
            if example.vote >= 0:
                self.of_vote.setdefault(example.vote, []).append(place)
        self.fold = folds([example.prompt for example in self.examples], settings.folds, settings.seed)
        self.start = {name: value.detach().clone() for name, value in self._trained().items()}
        self.cached: Tensor | None = self._all_states() if settings.train == "head" else None

    def _add(self, vote: Vote, number: int) -> None:
        encoded, _ = self.oracle.encode(vote.prompt, [vote.a, vote.b])
        p, weight = vote.wins / vote.n, vote.n * vote.weight
        orders = [((0, 1), p)] if self.oracle.symmetric else [((0, 1), p), ((1, 0), 1 - p)]
        for (i, j), target in orders:
            places = []
            for key in self.oracle.keys(i, j):
                ids, positions = self.oracle.row(encoded, key)
                row = (tuple(ids), tuple(positions))
                if row not in self._places:
                    self._places[row] = len(self.rows)
                    self.rows.append(row)
                places.append(self._places[row])
            self.examples.append(
                _Example(tuple(places), target, weight / len(orders), number, vote.prompt, vote.annotator)
            )

    def _trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained in place: the head, or all; without those of a LoRA."""
        everything = self.settings.train == "all"
        return {n: p for n, p in self.model.named_parameters() if everything or n.startswith(self.model.head_names)}

    @torch.inference_mode()
    def _all_states(self) -> Tensor:
        """The frozen encoder's states of every row ``[rows, S, H]``, on the host."""
        self.model.eval()
        states: list[Tensor | None] = [None] * len(self.rows)
        with tqdm(total=len(self.rows), desc="encoding", unit="row", disable=None if self.progress else True) as bar:
            for batch in by_length(range(len(self.rows)), lambda k: len(self.rows[k][0]), self.oracle.token_budget):
                batch_states = self.model.states(**self.oracle.collate([self.rows[k] for k in batch])).cpu()
                for place, row_states in zip(batch, batch_states, strict=True):
                    states[place] = row_states
                bar.update(len(batch))
        return torch.stack([row_states for row_states in states if row_states is not None])

    def _logits(self, places: Sequence[int]) -> Float[Tensor, " examples"]:
        """The model's log-odds ``[len(places)]`` of examples, differentiable."""
        rows = torch.tensor([self.examples[k].rows for k in places])
        if self.cached is not None:
            return self.model.compare(self.cached[rows].to(self.oracle.device)).float()
        used, index = rows.unique(return_inverse=True)
        states = self.model.states(**self.oracle.collate([self.rows[k] for k in used.tolist()]))
        return self.model.compare(states[index.to(states.device)]).float()

    def _batches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Examples that fit into one forward pass together."""
        if self.cached is not None:
            yield list(places)
            return
        yield from by_length(places, self.lengths.__getitem__, self.oracle.token_budget)

    def _weight(self, example: _Example) -> float:
        return example.weight * self.annotator_weights.get(example.annotator or "", 1.0)

    def weigh(self, weights: dict[str, float]) -> None:
        """Set the weights of the annotators' votes."""
        self.annotator_weights = weights

    def train(self, chosen: Sequence[int], held_out: Sequence[int], epochs: int | None, name: str) -> _Trained:
        """Train on some examples.

        Args:
            chosen: indices of examples.
            held_out: indices of votes, whose loss stops the training early; may be empty.
            epochs: None: those of the settings.
            name: of the fold, for the progress bar.
        """
        settings = self.settings
        torch.manual_seed(settings.seed)  # inside fork_rng: dropout, a new LoRA
        rng = np.random.default_rng([settings.seed, 2])
        with torch.no_grad():
            for key, parameter in self._trained().items():
                parameter.copy_(self.start[key])
        weights = np.array([self._weight(self.examples[k]) for k in chosen])
        usable = np.array(list(chosen))[weights > 0]
        mean = weights[weights > 0].mean() if len(usable) else 1.0
        if not len(usable):
            raise NashwardError("every vote that could be trained on has weight 0")
        steps = math.ceil(len(usable) / settings.batch) * settings.epochs
        best: tuple[float, int, checkpoint.Member] | None = None
        history: list[np.ndarray] = []
        with (
            self._tuned() as (parameters, member),
            tqdm(
                total=epochs or settings.epochs,
                desc=f"fold {name}",
                unit="epoch",
                disable=None if self.progress else True,
            ) as bar,
        ):
            optimiser = torch.optim.AdamW(parameters, lr=self.rate, weight_decay=settings.weight_decay)
            done = 0
            for epoch in range(1, (epochs or settings.epochs) + 1):
                self.model.train()
                order = rng.permutation(usable)
                for start in range(0, len(order), settings.batch):
                    for group in optimiser.param_groups:
                        group["lr"] = self.rate * warmed_cosine(done, steps, settings.warmup * steps)
                    self._step(order[start : start + settings.batch].tolist(), mean, optimiser, parameters)
                    done += 1
                bar.update()
                if not held_out:
                    continue
                history.append(self._predict(held_out))
                loss = self._loss(held_out, history[-1])
                if not math.isfinite(loss):
                    raise NashwardError(
                        f"the held-out log-loss is {loss} after epoch {epoch}: the base's weights are damaged, the "
                        f"learning rate of {self.rate:g} is too high, or a vote counts too much (n is at most "
                        f"{max(vote.n for vote in self.votes):g})"
                    )
                bar.set_postfix(log_loss=f"{loss:.4f}")
                if best is None or loss < best[0]:
                    best = (loss, epoch, {key: value.clone() for key, value in member().items()})
                elif epoch - best[1] >= settings.patience:
                    break
            if best is None:
                best = (math.nan, epochs or settings.epochs, {k: v.clone() for k, v in member().items()})
        return _Trained(best[2], best[1], np.array(held_out, dtype=int), history)

    def _step(
        self, batch: list[int], mean: float, optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor]
    ) -> None:
        optimiser.zero_grad()
        for part in self._batches(batch):
            examples = [self.examples[k] for k in part]
            target = torch.tensor([example.target for example in examples], device=self.oracle.device)
            weight = torch.tensor([self._weight(example) for example in examples], device=self.oracle.device)
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
        examples = [place for vote in votes for place in self.of_vote[vote]]
        logits = np.zeros(len(self.examples))
        for part in _by_count(examples, 4096):
            for batch in self._batches(part):
                logits[batch] = self._logits(batch).double().cpu().numpy()
        signs = (1.0, -1.0)
        return np.array(
            [np.mean([s * logits[k] for s, k in zip(signs, self.of_vote[vote], strict=False)]) for vote in votes]
        )

    def _loss(self, votes: Sequence[int], predicted: Float[np.ndarray, " votes"]) -> float:
        chosen = [self.votes[vote] for vote in votes]
        wins, n = np.array([v.wins for v in chosen]), np.array([v.n for v in chosen])
        weight = np.array([v.weight * self.annotator_weights.get(v.annotator or "", 1.0) for v in chosen])
        total = float((weight * n).sum())
        return float((weight * _cross_entropy(predicted, wins, n)).sum()) / total if total else math.inf

    def cross_validate(self) -> list[_Trained]:
        """Train one model a fold, each on the other folds."""
        results = []
        for fold in range(self.fold.max() + 1):
            chosen = np.flatnonzero(self.fold != fold).tolist()
            held_out = sorted({self.examples[k].vote for k in np.flatnonzero(self.fold == fold)} - {-1})
            results.append(self.train(chosen, held_out, None, f"{fold + 1} of {self.fold.max() + 1}"))
        return results

    def held_out(self, results: Sequence[_Trained]) -> Float[np.ndarray, " votes"]:
        """The held-out log-odds of all votes, ``[votes]``.

        A fold's are those of the median best epoch of the other folds: at its own best epoch the loss would be lower
        than on new prompts, as that epoch was chosen on the fold's votes.
        """
        predicted = np.zeros(len(self.votes))
        for k, result in enumerate(results):
            epoch = round(float(np.median([other.epoch for i, other in enumerate(results) if i != k])))
            predicted[result.held_out] = result.history[min(epoch, len(result.history)) - 1]
        return predicted

    def counts(self) -> tuple[Num[np.ndarray, " votes"], Num[np.ndarray, " votes"]]:
        """Wins and comparisons of each vote, times its weight, ``[votes]``."""
        weight = np.array([vote.weight for vote in self.votes])
        wins, n = (np.array([getattr(vote, name) for vote in self.votes]) for name in ("wins", "n"))
        return weight * wins, weight * n

    def annotators(self, results: Sequence[_Trained]) -> dict[str, Reliability]:
        """Each annotator's reliability, from the held-out predictions."""
        return reliabilities([vote.annotator for vote in self.votes], self.held_out(results), *self.counts())

    def summary(self, results: Sequence[_Trained]) -> dict[str, Any]:
        """The fields of ``OracleFit`` that are numbers."""
        wins, n = self.counts()
        predicted = self.held_out(results)
        each = _cross_entropy(predicted, wins, n)
        mean = float(each.sum() / n.sum())
        # prompts are independent, votes on one prompt are not: the error of a ratio of sums over prompts
        keys = [fold_key(vote.prompt) for vote in self.votes]
        spread = dict.fromkeys(keys, 0.0)
        for key, excess in zip(keys, each - mean * n, strict=True):
            spread[key] += float(excess)
        correct = np.where(predicted > 0, wins, np.where(predicted < 0, n - wins, n / 2))
        return {
            "log_loss": mean,
            "standard_error": math.sqrt(sum(value**2 for value in spread.values())) / float(n.sum()),
            "chance": math.log(2),
            "length": self._length_baseline(results, wins, n),
            "accuracy": float(correct.sum() / n.sum()),
            "epochs": [result.epoch for result in results],
            "pairs": self.pairs,
        }

    def _length_baseline(
        self, results: Sequence[_Trained], wins: Num[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]
    ) -> float:
        """Held-out log-loss of P = sigmoid(b (log length of a - log length of b)), b from the other folds."""
        lead = np.array([math.log1p(len(vote.a)) - math.log1p(len(vote.b)) for vote in self.votes])
        total = 0.0
        for result in results:
            held_out, training = result.held_out, np.ones(len(lead), dtype=bool)
            training[held_out] = False
            b, _ = slope(lead[training], wins[training], n[training])
            total += float(_cross_entropy(b * lead[held_out], wins[held_out], n[held_out]).sum())
        return total / float(n.sum())


def _cross_entropy(
    logits: Float[np.ndarray, " votes"], wins: Num[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]
) -> Float[np.ndarray, " votes"]:
    """- wins log sigmoid(logit) - (n - wins) log sigmoid(-logit), nats, ``[votes]``."""
    with np.errstate(invalid="ignore", over="ignore"):  # the caller checks for a fit that diverged
        return wins * np.logaddexp(0.0, -logits) + (n - wins) * np.logaddexp(0.0, logits)


def _by_count(places: Sequence[int], count: int) -> Iterator[list[int]]:
    for start in range(0, len(places), count):
        yield list(places[start : start + count])
