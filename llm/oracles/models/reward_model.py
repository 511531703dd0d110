"""Reward models (Bradley and Terry 1952) as preference oracles: sequence classifiers with one label."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AutoConfig, BitsAndBytesConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int
from nashward.llm.data.library_errors import first_line, translated_errors
from nashward.llm.policy.model import keep_gradients

from .chat import Chat, check_vocabulary, longest, shape_alone
from .checkpoint import (
    Member,
    names,
    read_config,
    read_members,
    read_tokenizer,
    read_weights,
    resolve,
    stored_dtype,
    tensor_names,
)
from .network import Key, NetworkOracle, OracleShape, Row, freeze, target_device

EXPECTED = "a reward model, a sequence classifier with one label (architectures: ...ForSequenceClassification)"


class RewardNetwork(nn.Module):
    """A sequence classifier of transformers, its last linear layer taken as the head.

    Args:
        network: the classifier; one label.
        temperature: of the rewards.

    Raises:
        ValueError: if the classifier has another number of labels, or the temperature is not positive.
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
    def head(self) -> Any:
        return self.network.get_submodule(self._head)

    def states(
        self, input_ids: Int[Tensor, "R T"], attention_mask: Int[Tensor, "R T"], positions: Int[Tensor, "R S"]
    ) -> Float[Tensor, "R 1 H"]:
        """What the head reads, ``[R, 1, H]``: of a decoder the last token's state, of an encoder its pooled one.

        Args:
            input_ids, attention_mask: ``[R, T]``.
            positions: ``[R, 1]``, of the last token; or ``[R, 2]``, where the second of two texts begins as well.
        """
        read: list[Tensor] = []
        options: dict[str, Any] = dict(self._options)
        if positions.shape[1] == 2:
            places = torch.arange(input_ids.shape[1], device=input_ids.device)
            options["token_type_ids"] = (places >= positions[:, 1:]).long() * attention_mask
        hook = self.head.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
        try:
            with _in_batches(self.network.config.get_text_config()):
                self.network(input_ids=input_ids, attention_mask=attention_mask, **options)
        finally:
            hook.remove()
        hidden = read[-1]
        if hidden.ndim == 3:  # a decoder's head reads every token; transformers would look for the last by its pad id
            hidden = hidden[torch.arange(len(hidden), device=hidden.device), positions[:, 0]]
        return hidden[:, None]

    def compare(self, states: Float[Tensor, "B 2 1 H"]) -> Float[Tensor, " B"]:
        """Log-odds ``[B]`` that the first response is better, (r_1 - r_2) / temperature, from ``[B, 2, 1, H]``.

        The head is computed in float32 at least: a reward of 20 in bfloat16 would be a multiple of 1/8.
        """
        kind = torch.promote_types(self.head.weight.dtype, torch.float32)
        bias = None if self.head.bias is None else self.head.bias.to(kind)
        rewards = linear(states[:, :, 0].to(kind), self.head.weight.to(kind), bias)[..., 0]
        return (rewards[:, 0] - rewards[:, 1]) / self.temperature


class RewardModel(NetworkOracle):
    """A reward model r as an oracle: P(i beats j) = sigmoid((r_i - r_j) / temperature).

    A decoder reads its chat template of [user, assistant], which writes its own special tokens: none are added a second
    time. A tokenizer without a template reads the pair (prompt, response), as encoders do. Control tokens in the texts,
    as ``<|im_end|>``, are replaced by blanks. Each response is read once: K passes for a table of K x K, and the table
    is transitive, its equilibrium the response of highest reward.

    Args:
        model: the network, in evaluation mode, on its device.
        tokenizer: its fast tokenizer.
        name, token_budget, members: see ``NetworkOracle``.
        max_length: tokens of a row; longer ones are cut on the right (of a pair, the longer text first). None: the
            least of what the tokenizer says, what the network has positions for and 4096.

    Raises:
        ValueError: a token budget below 1.

    Source: Bradley & Terry 1952.

    Example:
        >>> oracle = RewardModel.from_pretrained("Skywork/Skywork-Reward-V2-Qwen3-0.6B")  # doctest: +SKIP
        >>> oracle.raw_logits(["2 + 2?"], [["4", "5"]], [[(0, 1)]])  # doctest: +SKIP
    """

    symmetric = True
    transitive = True

    def __init__(
        self,
        model: RewardNetwork,
        tokenizer: Any,
        *,
        name: str = "reward model",
        token_budget: int | None = None,
        max_length: int | None = None,
        members: Sequence[Member] = (),
    ) -> None:
        super().__init__(model, tokenizer, name=name, token_budget=token_budget, members=members)
        self.max_length = longest(model.network, tokenizer) if max_length is None else max_length
        self._chat = Chat(tokenizer, name=name, max_length=self.max_length)

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
    ) -> RewardModel:
        """Load a checkpoint from the model hub or from a folder; code that lies in it is never run.

        Args:
            id_or_folder: for example "Skywork/Skywork-Reward-V2-Qwen3-0.6B", or a folder.
            device: None: "cuda" where there is one, else "cpu".
            dtype: None: the checkpoint's own on a GPU (bfloat16 with ``quantise``), float32 on a CPU.
            token_budget, max_length: see the class.
            temperature: of the rewards.
            quantise: 4-bit NormalFloat with double quantisation, all but the head and the embeddings.
            ensemble: where ``fit-oracle`` left the models of its folds, judge with all of them.

        Raises:
            OSError: if it cannot be found (FileNotFoundError for a folder), or has no tokenizer.
            ValueError: if it is no reward model, has several labels, or lacks tensors.
        """
        name, folder = str(id_or_folder), resolve(id_or_folder)
        config, tokenizer, head = _parts(folder, name)
        target = target_device(device)
        kind = dtype or (torch.float32 if target.type == "cpu" else torch.bfloat16 if quantise else "auto")
        options: dict[str, Any] = {"dtype": kind, "device_map": {"": target}}
        if quantise and getattr(config, "quantization_config", None) is None:
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=kind,
                llm_int8_skip_modules=[head],
            )
        network = _network(config, read_weights(folder), name, options)
        model = freeze(RewardNetwork(network, temperature))
        members = read_members(folder, model) if ensemble else ()
        oracle = cls(model, tokenizer, name=name, token_budget=token_budget, max_length=max_length, members=members)
        check_vocabulary(oracle, network.get_input_embeddings().num_embeddings)
        return oracle

    @staticmethod
    def check(id_or_folder: str | Path) -> None:
        """Whether it is there and is a reward model, before any weight is read; raises as ``from_pretrained``."""
        _parts(resolve(id_or_folder), str(id_or_folder))

    @staticmethod
    def shape(id_or_folder: str | Path) -> OracleShape:
        """What a plan needs to know of it; reads no weight, and raises as ``check`` does."""
        folder = resolve(id_or_folder)
        config, tokenizer, _ = _parts(folder, str(id_or_folder))
        dtype = stored_dtype(folder)
        with torch.device("meta"):
            network = RewardNetwork(_classifier(config)(config).to(dtype))
        return shape_alone(network, tokenizer, str(id_or_folder), longest(network.network, tokenizer), folder)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model and tokenizer as transformers does, in safetensors; without members and temperature."""
        self.model.network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def settings(self) -> dict[str, Any]:
        return {"max_length": self.max_length, "temperature": self.model.temperature}

    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[list[Row], int]:
        """One row for each response, and how many of them were cut."""
        if self.tokenizer.chat_template:
            texts = [self._chat.text(prompt, response) for response in candidates]
            found = self._chat.tokens(texts, add_special_tokens=False)
            rows: list[Row] = [(tokens.ids, (len(tokens.ids) - 1,)) for tokens in found]
        else:
            prompts = [self._chat.plain(prompt)] * len(candidates)
            responses = [self._chat.plain(response) for response in candidates]
            found = self._chat.tokens(prompts, responses, add_special_tokens=True)
            rows = []
            for ids, segments, _ in found:
                second = () if segments is None else (segments.index(1) if 1 in segments else len(ids),)
                rows.append((ids, (len(ids) - 1, *second)))
        return rows, sum(tokens.cut for tokens in found)

    @staticmethod
    def keys(i: int, j: int) -> tuple[Key, ...]:
        return (i,), (j,)

    def row(self, encoded: list[Row], key: Key) -> Row:
        return encoded[key[0]]


def head_name(network: Any) -> str:
    """The name of a classifier's last layer, the one linear layer to a single number outside of its base model.

    Raises:
        ValueError: if there is no such layer, or several.
    """
    if network.config.num_labels != 1:
        raise NashwardError(
            f"the classifier has num_labels {network.config.num_labels}; expected 1, the reward (its config.json says "
            "num_labels or id2label)"
        )
    inside = network.base_model_prefix + "."
    found = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == 1 and not name.startswith(inside)
    ]
    if len(found) != 1:
        raise NashwardError(
            f"{type(network).__name__} has {len(found)} linear layers to one number outside of {inside}*; expected "
            "one, the head"
        )
    return found[0]


@contextmanager
def _in_batches(config: Any) -> Iterator[None]:
    """transformers refuses a batch where no pad token is set; -1 is none's id, and is taken back."""
    kept = config.pad_token_id
    config.pad_token_id = -1 if kept is None else kept
    try:
        yield
    finally:
        config.pad_token_id = kept


def _parts(folder: Path, name: str) -> tuple[Any, Any, str]:
    """Configuration, tokenizer and head's name of a reward model; a ValueError says what the folder holds instead."""
    settings = read_config(folder, EXPECTED)
    kind, architectures = settings.get("model_type") or "no model", settings.get("architectures") or []
    known = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.get(kind)
    if known is None or known not in architectures:
        found = ", ".join(architectures) or kind
        if "CausalLM" in found:
            found += ", a causal language model whose head would be random: --policy and --oracle may be swapped"
        elif "auto_map" in settings:
            found += ", which needs code from its repository; that is never run"
        raise NashwardError(f"{name} is {found}; expected {EXPECTED}")
    with translated_errors(
        lambda error: NashwardError(f"{name} cannot be built from its config.json: {first_line(error)}")
    ):
        config = AutoConfig.from_pretrained(str(folder))
        with torch.device("meta"):
            head = head_name(_classifier(config)(config))
    held = tensor_names(folder)
    if held and f"{head}.weight" not in held:
        raise NashwardError(f"the weights of {name} lack {head}.weight, the reward head; expected {EXPECTED}")
    return config, read_tokenizer(folder, name), head


def _classifier(config: Any) -> Any:
    """transformers' class of a configuration that ``_parts`` found right."""
    return getattr(transformers, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[config.model_type])


def _network(config: Any, state: dict[str, Tensor], name: str, options: dict[str, Any]) -> Any:
    """The classifier with these tensors; refused where transformers would make up one that is not there."""
    classifier = _classifier(config)
    network, found = classifier.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    wrong = {"missing": found["missing_keys"], "of another shape": {key for key, *_ in found["mismatched_keys"]}}
    told = "; ".join(f"{problem}: {names(sorted(keys))}" for problem, keys in wrong.items() if keys)
    if told:
        raise NashwardError(f"the tensors of {name} are not those of {classifier.__name__}: {told}")
    keep_gradients(network)
    return network
