"""Reward models (Bradley and Terry 1952) as preference oracles: sequence classifiers with one label."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import BitsAndBytesConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int

from ...data.library_errors import first_line, translated_errors
from ...policy.base.weights import keep_gradients
from ...policy.packing import PackedRows
from .chat import ChatOracle
from .checkpoint import check_tensors, load_network, read_weights, tensor_names
from .network import Key, Row, placement
from .pretrained import Pretrained

EXPECTED = "a reward model, a sequence classifier with one label (architectures: ...ForSequenceClassification)"


class RewardNetwork(nn.Module):
    """A sequence classifier of transformers, with its last linear layer as the head.

    Args:
        network: the classifier; one label.
        temperature: of the rewards.

    Raises:
        ValueError: the classifier has another number of labels, or the temperature is not positive.
    """

    reads = 1

    def __init__(self, network: Any, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise NashwardError(f"temperature is {temperature}; expected a positive number")
        self.network, self.temperature = network, temperature
        self._head = head_name(network)
        self.head_names = (f"network.{self._head}",)
        self._options = {"use_cache": False} if "use_cache" in inspect.signature(network.forward).parameters else {}

    @property
    def backbone(self) -> Any:
        """The classifier."""
        return self.network

    @property
    def decoder(self) -> Any:
        """The classifier, which packs rows where it is a decoder."""
        return self.network

    @property
    def head(self) -> Any:
        """The last linear layer."""
        return self.network.get_submodule(self._head)

    def states(
        self, input_ids: Int[Tensor, "R T"], attention_mask: Int[Tensor, "R T"], positions: Int[Tensor, "R S"]
    ) -> Float[Tensor, "R 1 H"]:
        """The input of the head ``[R, 1, H]``: the last token's state of a decoder, the pooled state of an encoder.

        Args:
            input_ids, attention_mask: ``[R, T]``.
            positions: ``[R, 1]``, of the last token; or ``[R, 2]``, also of the first token of the second text.
        """
        inputs: list[Tensor] = []
        options: dict[str, Any] = dict(self._options)
        if positions.shape[1] == 2:
            index = torch.arange(input_ids.shape[1], device=input_ids.device)
            options["token_type_ids"] = (index >= positions[:, 1:]).long() * attention_mask
        packed = PackedRows.shared(self.network, input_ids, attention_mask) if positions.shape[1] == 1 else None
        given = {"input_ids": input_ids, "attention_mask": attention_mask} if packed is None else packed.inputs
        hook = self.head.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
        try:
            with _any_pad_token(self.network.config.get_text_config()):
                self.network(**given, **options)
        finally:
            hook.remove()
        hidden = inputs[-1]
        if packed is not None:
            return packed.states(hidden, positions)
        if hidden.ndim == 3:  # a decoder's head reads every token; transformers finds the last one by the pad token
            hidden = hidden[torch.arange(len(hidden), device=hidden.device), positions[:, 0]]
        return hidden[:, None]

    def compare(self, states: Float[Tensor, "B 2 1 H"]) -> Float[Tensor, " B"]:
        """Log-odds ``[B]`` that the first response is better, (r_1 - r_2) / temperature, from ``[B, 2, 1, H]``.

        The head is computed in float32 at least: a reward of 20 in bfloat16 would be a multiple of 1/8.
        """
        dtype = torch.promote_types(self.head.weight.dtype, torch.float32)
        bias = None if self.head.bias is None else self.head.bias.to(dtype)
        rewards = linear(states[:, :, 0].to(dtype), self.head.weight.to(dtype), bias)[..., 0]
        return (rewards[:, 0] - rewards[:, 1]) / self.temperature


class RewardModel(ChatOracle):
    """A reward model r as an oracle: P(i beats j) = sigmoid((r_i - r_j) / temperature).

    A decoder reads its chat template of [user, assistant], which writes its own special tokens: none are added a second
    time. A tokenizer without a template reads the pair (prompt, response), as encoders do. Control tokens that texts
    spell out, as ``<|im_end|>``, are read as text. Each response is read once: K passes for a table of K x K, and the
    table is transitive, its equilibrium the response of highest reward.

    Args:
        model: the network, in evaluation mode, on its device.
        tokenizer: its fast tokenizer.
        name, token_budget, members: see ``NetworkOracle``.
        max_length: tokens of a row; longer ones are truncated on the right (of a pair, the longer text first). None:
            the least of the tokenizer's limit, the network's positions and 4096.

    Raises:
        ValueError: a token budget below 1.

    Source: Bradley & Terry 1952.

    Example:
        >>> oracle = RewardModel.from_pretrained("Skywork/Skywork-Reward-V2-Qwen3-0.6B")  # doctest: +SKIP
        >>> oracle.raw_logits(["2 + 2?"], [["4", "5"]], [[(0, 1)]])  # doctest: +SKIP
    """

    name = "reward model"
    symmetric = True
    transitive = True
    expected = EXPECTED

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        token_budget: int | None = None,
        max_length: int | None = None,
        temperature: float = 1.0,
        quantise: bool = False,
        ensemble: bool = True,
    ) -> Self:
        """Load a checkpoint from the model hub or from a folder; code that lies in it is never run.

        Args:
            id_or_folder: for example "Skywork/Skywork-Reward-V2-Qwen3-0.6B", or a folder.
            device: None: "cuda" where there is one, else "cpu".
            dtype: None: the checkpoint's own on a GPU (bfloat16 with ``quantise``), float32 on a CPU.
            token_budget, max_length: see the class.
            temperature: of the rewards.
            quantise: 4-bit NormalFloat with double quantisation, all but the head and the embeddings.
            ensemble: with the models of the folds, where ``fit-oracle`` saved them.

        Raises:
            OSError: the checkpoint cannot be found (FileNotFoundError for a folder), or has no tokenizer.
            ValueError: it is no reward model, has several labels, or lacks tensors.
        """
        source = cls.read_pretrained(id_or_folder)
        target, kind = placement(device, dtype, torch.bfloat16 if quantise else "auto")
        options: dict[str, Any] = {"dtype": kind, "device_map": {"": target}}
        if quantise and getattr(source.config, "quantization_config", None) is None:
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=kind,
                llm_int8_skip_modules=[_head_of(source.config)],
            )
        classifier = _classifier(source.config)
        network, problems = load_network(classifier, source.config, read_weights(source.folder), **options)
        check_tensors(problems, source.name, classifier.__name__)
        keep_gradients(network)
        return cls.from_network(
            source,
            RewardNetwork(network, temperature),
            ensemble=ensemble,
            token_budget=token_budget,
            max_length=max_length,
        )

    @classmethod
    def _check_settings(cls, settings: dict[str, Any], folder: Path, name: str) -> None:
        kind, architectures = settings.get("model_type") or "no model", settings.get("architectures") or []
        classifier = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.get(kind)
        if classifier is None or classifier not in architectures:
            actual = ", ".join(architectures) or kind
            if "CausalLM" in actual:
                actual += ", a causal language model whose head would be random: --policy and --oracle may be swapped"
            elif "auto_map" in settings:
                actual += ", which needs code from its repository; that is never run"
            raise NashwardError(f"{name} is {actual}; expected {EXPECTED}")

    @classmethod
    def _read_network_config(cls, base: str, folder: Path, name: str) -> Any:
        config = super()._read_network_config(base, folder, name)
        with translated_errors(lambda error: cls._unreadable(error, base, folder, name)):
            head = _head_of(config)
        stored = tensor_names(folder)
        if stored and f"{head}.weight" not in stored:
            raise NashwardError(f"the weights of {name} lack {head}.weight, the reward head; expected {EXPECTED}")
        return config

    @staticmethod
    def _unreadable(error: BaseException, base: str, folder: Path, name: str) -> Exception:
        return NashwardError(f"{name} cannot be built from its config.json: {first_line(error)}")

    @classmethod
    def _meta_network(cls, source: Pretrained, dtype: torch.dtype) -> RewardNetwork:
        return RewardNetwork(_classifier(source.config)(source.config).to(dtype))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model and tokenizer as transformers does, in safetensors; without members and temperature."""
        self.model.network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def settings(self) -> dict[str, Any]:
        return {"max_length": self.max_length, "temperature": self.model.temperature}

    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[list[Row], int]:
        """Tokenise a prompt and its responses.

        Returns:
            One row for each response, and how many of the rows were truncated.
        """
        if self.tokenizer.chat_template:
            texts = [self._chat.conversation(prompt, response) for response in candidates]
            conversations = self._chat.tokens(texts, add_special_tokens=False)
            rows: list[Row] = [(tokens.ids, (len(tokens.ids) - 1,)) for tokens in conversations]
        else:
            conversations = self._chat.pairs(prompt, candidates)
            rows = []
            for ids, segments, _ in conversations:
                second = () if segments is None else (segments.index(1) if 1 in segments else len(ids),)
                rows.append((ids, (len(ids) - 1, *second)))
        return rows, sum(tokens.cut for tokens in conversations)

    def row(self, encoded: list[Row], key: Key) -> Row:
        return encoded[key[0]]


def head_name(network: Any) -> str:
    """The name of a classifier's last layer, the one linear layer to a single number outside of its base model.

    Raises:
        ValueError: no such layer, or several.
    """
    if network.config.num_labels != 1:
        raise NashwardError(
            f"the classifier has num_labels {network.config.num_labels}; expected 1, the reward (its config.json has "
            "num_labels or id2label)"
        )
    inside = network.base_model_prefix + "."
    heads = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == 1 and not name.startswith(inside)
    ]
    if len(heads) != 1:
        raise NashwardError(
            f"{type(network).__name__} has {len(heads)} linear layers to one number outside of {inside}*; expected "
            "one, the head"
        )
    return heads[0]


def _head_of(config: Any) -> str:
    """The name of the head of the classifier of a configuration."""
    with torch.device("meta"):
        return head_name(_classifier(config)(config))


def _classifier(config: Any) -> Any:
    """The class of transformers of a configuration."""
    return getattr(transformers, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[config.model_type])


@contextmanager
def _any_pad_token(config: Any) -> Iterator[None]:
    """A configuration with a pad token: transformers refuses batches without one. -1 is the id of no token."""
    original = config.pad_token_id
    config.pad_token_id = -1 if original is None else original
    try:
        yield
    finally:
        config.pad_token_id = original
