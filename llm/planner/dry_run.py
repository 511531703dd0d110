"""Memory of a policy of any size by a dry run: the real code runs on the meta device, and live bytes are counted.

The modelling code is that of transformers; 4-bit layers, adapters and optimisers are those of bitsandbytes and PEFT;
and log-probabilities are computed by the tiles of ``logprobs``. Attention is the operation that a GPU uses: flash
attention for a single text, and memory-efficient attention with a mask for padded batches. The workspaces of attention
and of the 4-bit product are added from their shapes. Not counted: the CUDA context, the workspaces of other matrix
products, and the allocator's rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import bitsandbytes
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.fx.experimental import _config as shapes
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    PretrainedConfig,
)

from ..config.placement import Placement
from ..config.sampling import KVCache
from ..data.rollouts import Text
from ..oracles.models.network import OracleShape
from ..policy.base.targets import lora_targets
from ..policy.experimental.int8_cache import quantised_cache
from ..policy.logprobs import sequence_logprobs
from ..policy.packing import register
from ..policy.placement import apply_placement, begin_training
from ..policy.sampling import InverseTransformProcessor
from .live_storage import LiveStorage, resident_bytes, unique_bytes

META = torch.device("meta")
ATTENTION = "nashward_dry_run"


@dataclass(frozen=True)
class Footprint:
    """Bytes on the device at the peak of a phase.

    Attributes:
        weights: of the base, head, norms and one adapter, with the scales of the 4-bit layers.
        activations: all temporary tensors.
        gradients, optimiser: of the adapter.
        cache: keys and values.
        last_cache: of sampling, these when the last token is drawn; the peak may be that of the prefill.
    """

    weights: int
    activations: int
    gradients: int = 0
    optimiser: int = 0
    cache: int = 0
    last_cache: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.activations + self.gradients + self.optimiser + self.cache


def policy(
    config: PretrainedConfig,
    rank: int,
    placement: Placement,
    *,
    targets: str = "all",
    quantise: bool = True,
    quantise_head: bool = False,
    dtype: torch.dtype = torch.bfloat16,
) -> Any:
    """A model of this shape under one float32 adapter, all on the meta device, in NF4 with double quantisation or not.

    ``config`` is changed: its attention becomes that of the dry run.
    """
    config._attn_implementation = ATTENTION
    with META:
        base: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    for weight in base.parameters():
        weight.requires_grad_(False)
    if quantise:
        _quantise(base, quantise_head)
    lora = LoraConfig(r=rank, target_modules=lora_targets(base, targets), task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # peft asks transformers for a name that transformers 5.23 has renamed
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        warnings.filterwarnings(
            "ignore", message="fan_in_fan_out is set", category=UserWarning
        )  # GPT-2's Conv1D layers
        network = get_peft_model(base, lora, low_cpu_mem_usage=True)
    apply_placement(network, placement, META)
    return network


def texts(prompt: int, response: int, rows: int, group: int = 1) -> list[Text]:
    """``rows`` texts of these lengths, of which ``group`` in turn have the same prompt."""
    return [([row // group] * prompt, [0] * response) for row in range(rows)]


def training(
    network: Any, texts: list[Text], optimiser: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
) -> Footprint:
    """The peak of a forward and backward pass over one micro-batch, and of the optimiser's step.

    Gradients and optimiser state are allocated before, as they are from the second micro-batch on. With short texts and
    large ranks the peak is that of the optimiser's step (with gradient clipping), when the activations are freed.
    """
    begin_training(network)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    stepper = optimiser(weights)
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    stepper.step()
    state = [v for values in stepper.state.values() for v in values.values() if isinstance(v, Tensor) and v.is_meta]
    assumed = shapes.patch(meta_nonzero_assume_all_nonzero=True)  # type: ignore[attr-defined]
    with assumed, LiveStorage(WORKSPACES) as storage:
        values = sequence_logprobs(network, [prompt for prompt, _ in texts], [ids for _, ids in texts], 0)
        values.sum().backward()
        del values
    with LiveStorage() as stepping:
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        stepper.step()
    gradients = sum(weight.nbytes for weight in weights)
    peak = max(storage.peak, stepping.peak)
    return Footprint(resident_bytes(network), peak, gradients, unique_bytes(state))


def sampling(
    network: Any, prompt: int, response: int, rows: int, *, padded: bool = True, kv_cache: KVCache = "full"
) -> Footprint:
    """The larger peak of the prefill of ``rows`` prompts and of decoding the last token with the full cache.

    Args:
        network: from ``policy``.
        prompt, response: lengths in tokens.
        rows: the batch.
        padded: whether the prompts have different lengths; the rows of a single prompt do not.
        kv_cache: see ``Sampling``.
    """
    network.eval()
    causal = network.get_base_model()
    uniforms = torch.empty(rows, 1, dtype=torch.float64, device=META)
    weights, phases = resident_bytes(network), []
    for past, new in ((0, prompt), (prompt + response - 1, 1)):
        with torch.no_grad(), LiveStorage(WORKSPACES) as storage:
            cache = _filled_cache(DynamicCache() if kv_cache == "full" else quantised_cache(), causal, rows, past)
            storage.peak = storage.live  # the peak of filling the cache is not part of decoding
            ids = torch.empty(rows, new, dtype=torch.long, device=META)
            mask = torch.ones_like(ids) if padded else None
            output = causal(input_ids=ids, past_key_values=cache, attention_mask=mask, logits_to_keep=1)
            scores = output.logits[:, -1].to(torch.float32, copy=True)  # as `generate` does
            InverseTransformProcessor(uniforms, new)(ids, scores)
            del scores
            cache_bytes = sum(t.nbytes for layer in cache.layers for t in vars(layer).values() if isinstance(t, Tensor))
        phases.append(Footprint(weights, storage.peak - cache_bytes, cache=cache_bytes))
    return replace(max(phases, key=lambda phase: phase.total), last_cache=phases[-1].cache)


def scoring(network: Any, texts: list[Text]) -> Footprint:
    """The peak of computing the log-probabilities of a micro-batch without gradients."""
    network.eval()
    assumed = shapes.patch(meta_nonzero_assume_all_nonzero=True)  # type: ignore[attr-defined]
    with torch.no_grad(), assumed, LiveStorage(WORKSPACES) as storage:
        sequence_logprobs(network, [prompt for prompt, _ in texts], [ids for _, ids in texts], 0)
    return Footprint(resident_bytes(network), storage.peak)


def judging(oracle: OracleShape, rows: int, tokens: int) -> Footprint:
    """The peak of one forward pass of an oracle's encoder over ``rows`` rows of ``tokens`` tokens."""
    network = oracle.network.eval()
    for module in network.modules():
        if getattr(module, "config", None) is not None and getattr(module.config, "_attn_implementation", "") == "sdpa":
            module.config._attn_implementation = ATTENTION
    ids = torch.zeros(rows, tokens, dtype=torch.long, device=META)
    with torch.no_grad(), LiveStorage(WORKSPACES) as storage:
        network.states(ids, torch.ones_like(ids), torch.zeros(rows, network.reads, dtype=torch.long, device=META))
    return Footprint(resident_bytes(network) + oracle.members, storage.peak)


def _filled_cache(cache: Any, causal: Any, rows: int, tokens: int) -> Any:
    shape, head = causal.config.get_text_config(), causal.get_output_embeddings()
    dtype = head.weight.dtype if head.weight.dtype.is_floating_point else head.compute_dtype
    size = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    for layer in range(shape.num_hidden_layers if tokens else 0):
        key, value = (torch.empty(rows, heads, tokens, size, dtype=dtype, device=META) for _ in range(2))
        cache.update(key, value, layer)
    return cache


def _quantise(base: Any, quantise_head: bool) -> None:
    """Put layers of bitsandbytes in the place of the linear ones, of the head too where that is said."""
    head = base.get_output_embeddings()
    # bitsandbytes caches one table for the process on the device of its first use, which must not be meta
    bitsandbytes.functional.quantize_blockwise(torch.zeros(1))
    for name, layer in list(base.named_modules()):
        if isinstance(layer, torch.nn.Linear) and (quantise_head or layer is not head):
            base.set_submodule(name, _nf4_linear(layer))
    base.is_loaded_in_4bit = True  # PEFT chooses its layer classes by this


def _nf4_linear(layer: torch.nn.Linear) -> torch.nn.Module:
    quantised = bitsandbytes.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=layer.weight.dtype,
        quant_type="nf4",
        device=META,
    )
    weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
    quantised.weight, quantised.bias = weight._quantize(META), layer.bias
    return quantised


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **unused: Any
) -> tuple[Tensor, None]:
    """Flash attention; with a mask the memory-efficient one, for which transformers repeats grouped keys."""
    if mask is None:
        states = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, True, scale=scaling)[0]
        return states.transpose(1, 2).contiguous(), None
    if key.shape[1] != query.shape[1]:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    bias = torch.zeros_like(mask, dtype=query.dtype).expand(-1, query.shape[1], -1, -1)
    output = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, query.requires_grad, scale=scaling
    )
    return output[0].transpose(1, 2).contiguous(), None


def _mask(
    batch_size: int, q_length: int, kv_length: int, *given: Any, attention_mask: Tensor | None = None, **named: Any
) -> Tensor | None:
    """The shape of a padding mask; None for a single text, and where no mask is given."""
    if batch_size == 1 or attention_mask is None:
        return None
    return torch.empty(batch_size, 1, q_length, kv_length, dtype=torch.bool, device=META)


def _gemm_workspace(states: Tensor, packed: Tensor, shape: Any, *rest: Any, **named: Any) -> int:
    """Bytes of the dequantised weights in the dtype of the states, and of the float32 scales, one for 64 weights."""
    return shape[0] * shape[1] * states.element_size() + shape[0] * shape[1] // 64 * 4


def _attention_workspace(upstream: Tensor, query: Tensor, key: Tensor, *rest: Any, **named: Any) -> int:
    """Bytes of the float32 gradient of the queries and, with grouped keys, of keys and values for each query head."""
    grouped = key.shape[1] != query.shape[1]
    return 4 * query.numel() + (2 * query.nbytes if grouped else 0)


WORKSPACES: dict[Any, Callable[..., int]] = {
    torch.ops.bitsandbytes.gemm_4bit.default: _gemm_workspace,
    torch.ops.aten._scaled_dot_product_flash_attention_backward.default: _attention_workspace,
    torch.ops.aten._scaled_dot_product_efficient_attention_backward.default: _attention_workspace,
}
register(ATTENTION, _attention, _mask)
