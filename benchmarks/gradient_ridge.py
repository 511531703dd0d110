"""Ridge regression on the gradients of single responses: the fit of a mirror step where an adapter begins.

A new adapter has B = 0. To first order in B the log-ratio of a response is then

    l(y) = <g(y), B>,    g(y) = the gradient by B of log pi(y) at B = 0,

so that the regression of l on its target t is a linear one. Its ridge solution is B = sum_y a(y) g(y) with
a = (K + c)^-1 t, K the inner products of the gradients, and has no learning rate. Two passes over the responses make
it: one takes their gradients, response by response, and keeps of each a sketch alone; the other one takes the gradient
of sum_y a(y) log pi(y), which is B.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nashward.games.shapes import Float
from nashward.llm.data.rollouts import Rollout
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.model import LanguageModel

PENALTIES = tuple(10 ** (k / 4) for k in range(-8, 13))  # times the mean of K's diagonal


@dataclass
class CountSketch:
    """Vectors of any length in ``width`` entries, so that inner products are kept on average: each entry goes to a
    random place with a random sign (Charikar, Chen and Farach-Colton 2002).

    The variance of an inner product of a and b is at most (|a|^2 |b|^2 + <a, b>^2) / width.

    Example:
        >>> sketch = CountSketch(width=4096, seed=0)
        >>> a = torch.ones(1000)
        >>> abs(float(sketch([a]) @ sketch([a])) / 1000 - 1) < 0.1
        True
    """

    width: int
    seed: int

    def __post_init__(self) -> None:
        self._places: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, parts: Sequence[Tensor]) -> Float[Tensor, " width"]:
        """The sketch of the vector whose parts these are, in their order."""
        sketch = torch.zeros(self.width)
        for number, part in enumerate(parts):
            if number not in self._places:
                draw = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
                place = torch.randint(self.width, (part.numel(),), generator=draw, dtype=torch.int64)
                sign = torch.randint(2, (part.numel(),), generator=draw, dtype=torch.int8) * 2 - 1
                self._places[number] = place, sign
            place, sign = self._places[number]
            sketch.index_add_(0, place, part.detach().flatten().float().cpu() * sign)
        return sketch


def response_gradients(
    model: LanguageModel, weights: Sequence[torch.nn.Parameter], rollouts: Sequence[Rollout]
) -> Iterator[tuple[Float[Tensor, ""], tuple[Tensor, ...]]]:
    """log pi(y | x) of each response, and its gradient by ``weights``, one response at a time."""
    for rollout in rollouts:
        for response in rollout.responses:
            value = sequence_logprobs(model.network, [rollout.prompt_ids], [response.ids], model.pad_id).sum()
            yield value.detach(), torch.autograd.grad(value, list(weights))


@dataclass(frozen=True)
class Ridge:
    """The ridge solution at the penalty that predicts prompts left out best.

    Attributes:
        a: ``[N]``, the coefficients of the training responses.
        penalty: c over the mean of K's diagonal.
        r2: of the prompts left out, each predicted from the others.
        scale: what these predictions would have to be multiplied by for the least error.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [2.0, 0.0], [-2.0, 0.1]])
        >>> ridge = Ridge.of(features @ features.T, torch.tensor([0.5, -0.5, 1.0, -1.0]), 2)
        >>> round(float(features[0] @ features.T @ ridge.a), 2), ridge.r2 > 0.9
        (0.5, True)
    """

    a: Float[Tensor, " N"]
    penalty: float
    r2: float
    scale: float

    @staticmethod
    def of(K: Float[Tensor, "N N"], target: Float[Tensor, " N"], each: int) -> Ridge:
        """
        Args:
            K: inner products of the responses' features.
            target: t.
            each: how many responses, which stand together, a prompt has.
        """
        K, target = K.double(), target.double()
        values, vectors = torch.linalg.eigh((K + K.mT) / 2)
        mean = float(K.diagonal().mean())
        best: tuple[float, float, Tensor] | None = None
        for penalty in PENALTIES:
            left_out = _left_out(values.clamp_min(0), vectors, target, each, penalty * mean)
            error = float((left_out - target).square().sum())
            if best is None or error < best[0]:
                best = error, penalty, left_out
        assert best is not None  # there are penalties
        error, penalty, left_out = best
        a = vectors @ ((vectors.mT @ target) / (values.clamp_min(0) + penalty * mean))
        scale = float((left_out * target).sum() / left_out.square().sum().clamp_min(1e-300))
        return Ridge(a, penalty, 1 - error / max(float(target.square().sum()), 1e-300), scale)


def _left_out(values: Tensor, vectors: Tensor, target: Tensor, each: int, c: float) -> Tensor:
    """The prediction of each prompt's responses from all others': t - (I - H)^-1 (t - H t) on the prompt's own rows,
    H = K (K + c)^-1."""
    share = values / (values + c)
    residual = (target - vectors @ (share * (vectors.mT @ target))).reshape(-1, each, 1)
    rows = vectors.reshape(-1, each, len(values))
    own = torch.eye(each, dtype=vectors.dtype) - (rows * share) @ rows.mT
    return target - torch.linalg.solve(own, residual).flatten()
