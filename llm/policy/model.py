"""The policy's network: a frozen base, by default in NF4, with two LoRA adapters in float32."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import GenerationConfig

from nashward.errors import NashwardError

from ..config.lora import Lora
from ..config.placement import Placement
from ..data.library_errors import first_line
from ..data.prompts import Prompt
from ..store.files import atomic_folder
from .adapters.adapter_config import adapter_config, local_adapter
from .adapters.lora import LoraShape, fitted_to_slot, is_same_base, scale_of
from .adapters.peft_format import WEIGHTS as WEIGHTS
from .adapters.peft_format import layer_of, tensor_shapes, weights_of
from .base.checks import check_policy
from .base.targets import lora_targets
from .base.text_limit import text_limit
from .base.weights import check_output, compute_dtype, default_device, in_4_bits, load_base
from .chat_template import encode
from .experimental.streaming import LayerStream
from .local.names import local_model
from .memory import OnEvent, ignore_event
from .placement import apply_placement, begin_training, default_placement

SLOTS = ("trained", "frozen")  # PEFT's names of the two adapters in memory; all others are folders on disk

GIVEN = "give the policy as a folder or hub id, which is loaded with room for it"


class LanguageModel:
    """A frozen causal language model with adapters that can be switched, trained, saved and loaded.

    Each adapter is a policy pi(y | x) = prod_h pi(y_h | x, y_<h), x the prompt in the chat template, y with its stop
    token. An adapter is stored as a folder in PEFT's format. The network has two slots for adapters, ``trained`` and
    ``frozen``; ``load`` reads a folder into one of them.

    Args:
        network: the base with an adapter in each slot, on the device of the computation.
        tokenizer: its tokenizer, with a chat template.
        name: the base's name.
        stream: the layers' transfers from host memory; None where all layers stay on the device.

    Attributes:
        stop_ids: the tokens that end a response.
        pad_id: the padding token, which is masked.
        limit: the longest text; None where the network sets no limit, see ``text_limit``.
        dtype: what it computes in.

    Source: adapters arXiv 2106.09685; on a base in 4 bits arXiv 2305.14314.

    Example:
        >>> from nashward import llm
        >>> model = LanguageModel.from_pretrained(llm.pocket.POLICY, lora=Lora(rank=4))
        >>> ids = model.encode(Prompt(({"role": "user", "content": "Name a river."},)))
        >>> len(ids), model.decode(ids)
        (9, 'Name a river.')
    """

    def __init__(self, network: PeftModel, tokenizer: Any, name: str, stream: LayerStream | None = None):
        self.network, self.tokenizer, self.name, self.stream = network, tokenizer, name, stream
        stops = network.generation_config.eos_token_id
        stop_ids = {*(stops if isinstance(stops, list | tuple) else [stops]), tokenizer.eos_token_id} - {None}
        self.stop_ids = sorted(stop_ids)
        base: Any = network.get_base_model()
        pad, rows = tokenizer.pad_token_id, base.get_input_embeddings().weight.shape[0]
        # one without an embedding is no use: padding is masked, so any token that has one will do
        self.pad_id = pad if pad is not None and 0 <= pad < rows else (self.stop_ids or [0])[0]
        self._rows = rows
        self.limit = text_limit(base)
        # The sampler sets every option: the checkpoint's generation settings must not change the distribution.
        base.generation_config = GenerationConfig(eos_token_id=self.stop_ids, pad_token_id=self.pad_id)
        self.on_event: OnEvent = ignore_event  # is called where memory ran out
        self._loaded: dict[str, Path | None] = dict.fromkeys(SLOTS)
        self._device = next(network.parameters()).device
        floating = (p for name, p in network.named_parameters() if p.is_floating_point() and "lora_" not in name)
        self.dtype = next(floating).dtype
        fresh = get_peft_model_state_dict(network, adapter_name=SLOTS[0])
        self._initial = {name: weight.detach().cpu().clone() for name, weight in fresh.items()}

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        adapter: str | Path | None = None,
        *,
        lora: Lora | None = None,
        quantise: bool | None = None,
        quantise_head: bool = False,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        chat_template: str | None = None,
        placement: Placement | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> LanguageModel:
        """Load a base and add new adapters: with B = 0, the policy is the base's.

        Args:
            source: a folder, a hub id, or what else ``local_model`` takes: a GGUF file, a model of a package.
            adapter: a LoRA folder or hub id with the configuration of the slots; None: as ``lora``.
            lora: rank, alpha and layers of the slots; None: the defaults.
            quantise: 4-bit NormalFloat with double quantisation, on CUDA and on a CPU; all linear layers but the head.
                None: see ``in_4_bits``.
            quantise_head: the head too. This changes the policy (equally in sampling, scoring and training), and saves
                0.73 GiB with Llama 3's vocabulary.
            device: "cuda" or "cpu"; None: CUDA where available.
            dtype: what it computes in; None: see ``compute_dtype``. Adapters are in float32 always.
            chat_template: a Jinja template to use in place of the tokenizer's.
            placement: what stays on the device; None: ``default_placement`` for the device and the dtype; a mapping
                replaces attributes of that one.
            seed: the seed of the new adapters.

        Raises:
            FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
            ValueError: as ``check_policy``, ``adapter_config`` and ``apply_placement``: no causal language model, no
                chat template, no LoRA; ``quantise_head`` without ``quantise`` or of a head that is the table of
                embeddings; weights that cannot be read.
        """
        source = local_model(source)
        if Path(source).is_dir():  # adapters store the path, and may be read from another working directory
            source = os.path.abspath(source)
        tokenizer = check_policy(source, chat_template)
        config = adapter_config(adapter, source) if adapter is not None else None
        device = device or default_device()
        dtype = dtype or compute_dtype(device)
        quantise = in_4_bits(source, device, quantise_head) if quantise is None else quantise
        requested = placement if isinstance(placement, Placement) else Placement().but(placement or {})
        # a base whose layers are streamed may not fit the device, so it is quantised in host memory
        base = load_base(
            source, "cpu" if requested.layers == "host" else device, dtype, quantise=quantise,
            quantise_head=quantise_head,
        )  # fmt: skip
        config = config or _lora_config(base, lora or Lora())
        config.inference_mode = False
        if config.base_model_name_or_path and is_same_base(config.base_model_name_or_path, str(source)):
            config.base_model_name_or_path = str(source)  # the current path of the same model
        network = _with_adapters(base, config, seed)
        if not isinstance(placement, Placement):
            placement = default_placement(base, device, dtype).but(placement or {})
        stream = apply_placement(network, placement, torch.device(device))
        model = cls(network, tokenizer, str(source), stream)
        model.activate(SLOTS[0])
        check_output(
            network, [model.pad_id] * min(32, model.limit.tokens if model.limit else 32), model.device, model.name
        )
        return model

    @property
    def device(self) -> torch.device:
        """The device of the computation."""
        return self._device

    @property
    def shape(self) -> LoraShape:
        """Rank and scale of the slots: adapters of at most this rank can be loaded."""
        config: Any = self.network.peft_config[SLOTS[0]]
        return LoraShape(config.r, scale_of(config))

    def offload(self) -> None:
        """Move the weights to host memory; the next use of the policy moves them back."""
        if self.stream is not None:
            self.stream.offload()
        self.network.to("cpu")

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids in the chat template, with the generation prompt; at most one BOS, no padding.

        Raises:
            RefusedPromptError: the template refuses the prompt's turns, or leaves out what they say.
        """
        ids = encode(self.tokenizer, prompt)
        if beyond := [number for number in ids if number >= self._rows]:
            token = self.tokenizer.convert_ids_to_tokens(beyond[0])
            raise NashwardError(f"a prompt holds {token!r}, for which {self.name} has no embedding; take it out")
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def invalidate(self) -> None:
        """Forget which folders are loaded, so that each is read again: its weights may have changed."""
        self._loaded = dict.fromkeys(SLOTS)

    def load(self, slot: str, folder: Path) -> None:
        """Read the adapter of a folder into a slot, unless it is loaded there already.

        Its scale may differ from the slot's, its rank may be smaller, and it may lack layers, whose update is then 0.

        Args:
            slot: "trained" or "frozen".
            folder: the adapter's.

        Raises:
            ValueError: its weights cannot be read, have a larger rank than the slot, or belong to other layers.
        """
        if self._loaded[slot] == folder:
            return
        self._loaded[slot] = None  # where anything below fails, the slot holds no adapter's weights for sure
        shape = LoraShape.of(folder)
        try:
            state = weights_of(folder, str(self.device))
            shape.check_ranks({name: matrix.shape for name, matrix in state.items()})
            state = fitted_to_slot(state, shape, self.shape)
            zeros = {name: torch.zeros_like(weight) for name, weight in self._initial.items() if name not in state}
            self._set_weights(slot, {**zeros, **state})
        except (SafetensorError, RuntimeError, OSError, ValueError) as error:
            raise NashwardError(f"{folder} holds no weights that fit this adapter: {first_line(error)}") from None
        self._loaded[slot] = folder

    def check_room(self, folder: Path) -> None:
        """Check that the slots have room for the adapter of a folder; no weights are read.

        Raises:
            FileNotFoundError: the folder holds no adapter.
            ValueError: its rank is larger than theirs, or it changes other layers.
        """
        rank, room = LoraShape.of(folder).rank, self.shape.rank
        if rank > room:
            raise NashwardError(f"{folder} has rank {rank}, the model was loaded for {room}; {GIVEN}")
        if other := [name for name in tensor_shapes(folder) if name not in self._initial]:
            raise NashwardError(
                f"{folder} changes {layer_of(other[0])}, and the model was loaded for adapters of other layers; {GIVEN}"
            )

    def _set_weights(self, slot: str, state: dict[str, torch.Tensor]) -> None:
        for name, matrix in state.items():
            if name not in self._initial:
                raise NashwardError(f"this model has no place for {name}; load it with that adapter")
            if matrix.shape != (place := self._initial[name].shape):
                raise NashwardError(f"{name} is {list(matrix.shape)}, expected {list(place)}")
        set_peft_model_state_dict(self.network, state, adapter_name=slot)

    def activate(self, slot: str) -> None:
        """Bring the network to the device with the adapter of a slot; the other slot's weights go to host memory."""
        other = [p for name, p in self.network.named_parameters() if "lora_" in name and f".{slot}." not in name]
        waiting = [parameter.data.to("cpu") for parameter in other]
        for parameter in other:
            parameter.data = parameter.data.new_empty(0)
        try:
            self.network.to(self.device)
        finally:  # the device may be full
            for parameter, data in zip(other, waiting, strict=True):
                parameter.data = data
        if self.stream is not None:
            self.stream.onload()
        self.network.set_adapter(slot)

    @contextmanager
    def use_adapter(self, folder: Path) -> Iterator[PeftModel]:
        """The network with the adapter of a folder, in eval mode and without gradients.

        Raises:
            ValueError: as ``load``.

        Example:
            >>> with model.use_adapter(folder) as network:  # doctest: +SKIP
            ...     scores = sequence_logprobs(network, [prompt], [response], model.pad_id)
        """
        self.load("frozen", folder)
        self.activate("frozen")
        self.network.eval()
        with torch.no_grad():
            yield self.network

    @contextmanager
    def use_adapters(self, folders: Sequence[Path]) -> Iterator[tuple[str, ...]]:
        """The adapters of at most two folders on the device at once, in eval mode and without gradients.

        Yields:
            their slots, PEFT's ``adapter_names``: each row of a batch may be computed under another adapter.

        Raises:
            ValueError: as ``load``.
        """
        slots = SLOTS[: len(folders)]
        for slot, folder in zip(slots, folders, strict=True):
            self.load(slot, folder)
        self.activate(slots[0])
        self.network.to(self.device)
        self.network.eval()
        with torch.no_grad():
            yield slots

    @contextmanager
    def training(self, folder: Path) -> Iterator[list[torch.nn.Parameter]]:
        """The network with the adapter of a folder in the slot ``trained``, ready to be trained: without dropout.

        Yields:
            the adapter's weights; the folder does not change when they do.

        Raises:
            ValueError: as ``load``.
        """
        self._loaded["trained"] = None
        self.load("trained", folder)
        self._loaded["trained"] = None  # its weights are about to change
        self.activate("trained")
        begin_training(self.network)  # both sides of the log-ratio to the anchor must be deterministic functions
        weights = [p for name, p in self.network.named_parameters() if "lora_" in name and ".trained." in name]
        for weight in weights:
            weight.requires_grad_(True)
        try:
            yield weights
        finally:
            for weight in weights:
                weight.grad = None  # gradients would stay on the device
            self.network.eval()

    def save(self, folder: Path, slot: str = "trained") -> None:
        """Write a slot's adapter as a PEFT folder that ``PeftModel.from_pretrained(base, folder)`` reads.

        Raises:
            OSError: the folder cannot be written.
        """
        state = get_peft_model_state_dict(self.network, adapter_name=slot)
        config: Any = self.network.peft_config[slot]
        with atomic_folder(folder) as unfinished:
            save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, unfinished / WEIGHTS)
            inference = config.inference_mode
            config.inference_mode = True
            config.save_pretrained(str(unfinished))
            config.inference_mode = inference
            file = unfinished / "adapter_config.json"
            written = json.loads(file.read_text(encoding="utf-8"))
            # PEFT keeps names in sets, whose order differs between processes
            ordered = {k: sorted(v) if isinstance(getattr(config, k, None), set) else v for k, v in written.items()}
            file.write_text(json.dumps(ordered, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def write_start_adapter(self, folder: Path, adapter: str | Path | None) -> None:
        """Write the adapter that a run starts from: a copy of ``adapter``, or a new one (B = 0) where it is None.

        Raises:
            FileNotFoundError: there is no such adapter.
            ValueError: its weights do not fit the slot.
            OSError: the folder cannot be written.
        """
        self.invalidate()
        if adapter is not None:
            self.load("trained", local_adapter(adapter))
            self._loaded["trained"] = None
        else:
            self._set_weights("trained", self._initial)
        self.save(folder)


def _lora_config(base: Any, lora: Lora) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha if lora.alpha is not None else 2 * lora.rank,  # type: ignore[arg-type]
        target_modules=lora_targets(base, lora.targets),
        task_type="CAUSAL_LM",
    )


def _with_adapters(base: Any, config: LoraConfig, seed: int) -> PeftModel:
    """The base under a new float32 adapter for each slot."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft asks transformers for a name that transformers 5.23 has renamed
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set", category=UserWarning)  # GPT-2's Conv1D
        torch.manual_seed(seed)
        network: Any = get_peft_model(base, config, adapter_name=SLOTS[0])
        network.add_adapter(SLOTS[1], config)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return network
