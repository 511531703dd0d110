"""A geometric mixture of two policies taken token by token, sampled and scored without a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from peft import PeftModel
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from nashward.games.shapes import Float, Int

from ..handles import Adapter, Sampled
from ..model import LanguageModel


class MixedNetwork:
    """A causal language model whose next-token distribution is the mixture's; it has what sampling and scoring use.

    .. math::
        \\pi(y) = \\prod_h \\frac{\\prod_k \\pi_k(y_h | y_{<h})^{w_k}}{Z(y_{<h})}, \\qquad
        Z(y_{<h}) = \\sum_v \\prod_k \\pi_k(v | y_{<h})^{w_k}

    This is *not* the geometric mixture of the distributions of responses, prod_k pi_k(y)^(w_k) / Z, from which no
    sampler can draw token by token: log pi differs from it by -sum_h log Z(y_<h) and a constant. With positive weights
    Z <= 1, and Z is smaller where the members differ more after y_<h: responses on which they disagree are drawn more
    often.

    Args:
        network: with the members' adapters in its slots, on the device.
        weights: w_k of the slots; they sum to 1.
    """

    base_model_prefix = "states"

    def __init__(self, network: PeftModel, weights: Mapping[str, float]):
        self.network, self.weights = network, dict(weights)
        self.causal: Any = network.get_base_model()
        self.config, self.device = self.causal.config, self.causal.device

    def parameters(self) -> Iterator[Any]:
        return self.network.parameters()

    def get_output_embeddings(self) -> Any:
        return self.causal.get_output_embeddings()

    def states(self, **inputs: Any) -> Any:
        """The blend of the members' last hidden states.

        A linear head, shared by the members, maps it to the blend of their logits; with a cap on the logits it does
        not. ``logprobs.tiles_agree`` checks which.
        """
        network = getattr(self.causal, self.causal.base_model_prefix)
        return SimpleNamespace(last_hidden_state=self._blended(lambda: network(**inputs).last_hidden_state))

    def __call__(self, **inputs: Any) -> Any:
        return SimpleNamespace(logits=self._blended(lambda: self.causal(**inputs).logits))

    def _blended(self, forward: Callable[[], Any]) -> Float[Tensor, "B T width"]:
        total: Any = 0.0
        for slot, weight in self.weights.items():
            self.network.set_adapter(slot)
            output = forward()
            total = total + weight * output.float()
        return total.to(output.dtype)

    def generate(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"], logits_processor: Any, **settings: Any
    ) -> Int[Tensor, "B longer"]:
        """Generate from the mixture: the batch holds each row once for each member, and all copies get the same token.

        Args:
            input_ids, attention_mask: ``[B, T]``, padded on the left.
            logits_processor: is called with the blend ``[B, V]`` of the members' logits, and draws.
            settings: the other arguments of ``generate``.

        Returns:
            ``[B, T + new]``.
        """
        rows, members = len(input_ids), len(self.weights)
        blending = _BlendedProcessor(list(self.weights.values()), logits_processor)
        output: Any = self.network.generate(
            input_ids=input_ids.repeat(members, 1),
            attention_mask=attention_mask.repeat(members, 1),
            adapter_names=[slot for slot in self.weights for _ in range(rows)],
            logits_processor=LogitsProcessorList([blending]),
            **settings,
        )
        return output[:rows]


class _BlendedProcessor(LogitsProcessor):
    """Applies a logits processor to the blend of the logits of a row's copies."""

    def __init__(self, weights: list[float], inner: Any):
        self.weights, self.inner = weights, inner

    def __call__(self, input_ids: Int[Tensor, "rows T"], scores: Float[Tensor, "rows V"]) -> Float[Tensor, "rows V"]:
        members = len(self.weights)
        parts = scores.float().chunk(members)
        blend = sum(weight * part for weight, part in zip(self.weights, parts, strict=True))
        return self.inner(input_ids[: len(parts[0])], blend).repeat(members, 1)


@contextmanager
def use_policy(model: LanguageModel, policy: Sampled) -> Iterator[Any]:
    """The network with a policy's adapters, in eval mode and without gradients.

    Yields:
        the PEFT model, or a ``MixedNetwork`` of it for a ``TokenMixture``.
    """
    if isinstance(policy, Adapter):
        with model.use_adapter(policy.folder) as network:
            yield network
        return
    members = {member.value.folder: weight for member, weight in policy.blend}
    with model.use_adapters(list(members)) as slots:
        yield MixedNetwork(model.network, dict(zip(slots, members.values(), strict=True)))
