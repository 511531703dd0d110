"""General preference models as oracles: an embedding for each response, preferences that may cycle.

Zhang et al. 2024, "General Preference Modeling with Preference Representations for Aligning Language Models", arXiv
2410.02197. Reads the published checkpoints: the configuration and the base model's tensors of a causal language model,
``value_head.weight`` and, in some, ``prompt_head.weight``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from torch.nn.functional import linear, normalize
from transformers import AutoModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int

from ...policy.packing import PackedRows
from ..embedding import skew_product
from .chat import ChatOracle
from .checkpoint import load_state, read_weights, tensor_names
from .network import Key, Row, placement
from .pretrained import Pretrained

VALUE_HEAD, PROMPT_HEAD = "value_head.weight", "prompt_head.weight"
EXPECTED = f"a GPM, a causal language model with {VALUE_HEAD} in place of its head"
TEMPERATURE = 0.1  # of the published training and inference
_UNUSED = ("lm_head.", "embed_out.")  # the head of the language model that it was


class GPMModel(nn.Module):
    """A base model and two heads without bias; the parameters' names are those of the published checkpoints.

    Args:
        backbone: the base model of a causal language model, as ``AutoModel`` gives it.
        dimensions: d of the embedding, even.
        prompt_head: whether the prompt gives weights to the d/2 planes.
        temperature: of the score.
        normalise: embeddings of length 1.

    Raises:
        ValueError: d is odd or below 2, or the temperature is not positive.
    """

    head_names = ("value_head", "prompt_head")
    reads = 2

    def __init__(
        self,
        backbone: Any,
        dimensions: int,
        *,
        prompt_head: bool = False,
        temperature: float = TEMPERATURE,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if dimensions < 2 or dimensions % 2:
            raise NashwardError(f"the embedding has {dimensions} dimensions; expected an even number, 2 at least")
        if not temperature > 0:
            raise NashwardError(f"temperature is {temperature}; expected a positive number")
        self.temperature, self.normalise = temperature, normalise
        self._prefix = str(backbone.base_model_prefix)  # "model" in most architectures
        self.add_module(self._prefix, backbone)
        size = backbone.config.hidden_size
        self.value_head = nn.Linear(size, dimensions, bias=False)
        self.prompt_head = nn.Linear(size, dimensions // 2, bias=False) if prompt_head else None

    @property
    def backbone(self) -> Any:
        """The base model."""
        return self.get_submodule(self._prefix)

    @property
    def decoder(self) -> Any:
        """The base model, which packs rows."""
        return self.backbone

    def states(
        self, input_ids: Int[Tensor, "R T"], attention_mask: Int[Tensor, "R T"], positions: Int[Tensor, "R 2"]
    ) -> Float[Tensor, "R 2 H"]:
        """The last hidden states ``[R, 2, H]`` at the end of the prompt and at the last token.

        Args:
            input_ids, attention_mask: ``[R, T]``, padded on the right.
            positions: ``[R, 2]``.
        """
        packed = PackedRows.shared(self.backbone, input_ids, attention_mask)
        if packed is not None:
            return packed.states(self.backbone(**packed.inputs, use_cache=False).last_hidden_state, positions)
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        hidden = output.last_hidden_state
        return hidden[torch.arange(len(hidden), device=hidden.device)[:, None], positions]

    def compare(self, states: Float[Tensor, "B 2 2 H"]) -> Float[Tensor, " B"]:
        """Log-odds ``[B]`` that the first response is better, from the states ``[B, 2, 2, H]``.

        The weights of the planes are the mean over both rows. The prompt's tokens are nearly always the same in both,
        and the mean is then either row's; where a tokenizer lets them differ, the score is still skew.
        """
        dtype = torch.promote_types(self.value_head.weight.dtype, torch.float32)
        v: Any = linear(states[:, :, 1].to(dtype), self.value_head.weight.to(dtype))
        if self.normalise:
            v = normalize(v, dim=-1)
        first, second = v[:, 0], v[:, 1]
        if self.prompt_head is not None:
            weights = linear(states[:, :, 0].to(dtype), self.prompt_head.weight.to(dtype)).softmax(-1).mean(1)
            first = first * weights.repeat_interleave(2, dim=-1)
        score: Any = skew_product(first, second)
        return score / self.temperature


class Encoded(NamedTuple):
    """The number of tokens of a prompt alone, and the tokens of each row."""

    prompt: int
    rows: list[list[int]]


class GPM(ChatOracle):
    """A general preference model: logit(i, j) = sum_k lambda_k (v_i[2k] v_j[2k+1] - v_i[2k+1] v_j[2k]) / temperature.

    v in R^d is ``value_head`` of the state at the last token, at length 1; lambda = softmax of ``prompt_head`` of the
    state at the end of the prompt, or ones where a checkpoint has no such head. The score is skew, and with d = 2
    already able to hold a cycle (Zhang et al. 2024, arXiv 2410.02197). K passes give the table of K x K.

    Rows are those of the published inference code, which the published models need: the chat template of [user,
    assistant], tokenised with the tokenizer's special tokens (so with two BOS where the template writes one too),
    truncated on the right, the last token overwritten by EOS. Control tokens that texts spell out, as "</s>", are text.

    Args:
        model: base model and heads, in evaluation mode, on its device.
        tokenizer: its fast tokenizer, with a chat template and an EOS token.
        name, token_budget, members: see ``NetworkOracle``.
        max_length: tokens of a row. None: the least of the tokenizer's limit, the network's positions and 4096, that of
            the published inference.

    Raises:
        ValueError: a tokenizer without a chat template or an EOS token, or a token budget below 1.

    Source: arXiv 2410.02197, and its published inference.

    Example:
        >>> oracle = GPM.from_pretrained("general-preference/GPM-Gemma-2B")  # doctest: +SKIP
        >>> preference_matrices(oracle, ["2 + 2?"], [["4", "5", "four"]])[0].P  # doctest: +SKIP
    """

    name = "GPM"
    symmetric = True
    expected = EXPECTED

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        token_budget: int | None = None,
        temperature: float | None = None,
        normalise: bool | None = None,
        max_length: int | None = None,
        ensemble: bool = True,
    ) -> Self:
        """Load a checkpoint from the model hub or from a folder, one file or shards.

        Args:
            id_or_folder: for example "general-preference/GPM-Gemma-2B", or a folder.
            device: None: "cuda" where there is one, else "cpu".
            dtype: of the base model; None: the checkpoint's own on a GPU, float32 on a CPU. The heads are float32 in
                any case when they are computed.
            token_budget, max_length: see the class.
            temperature: of the logits; None: ``gpm_temperature`` of config.json, else 0.1.
            normalise: embeddings of length 1; None: ``gpm_normalise`` of config.json, else True.
            ensemble: with the models of the folds, where ``fit-oracle`` saved them.

        Raises:
            OSError: the checkpoint cannot be found (FileNotFoundError for a folder), or has no tokenizer.
            ValueError: it is no GPM, or tensors are missing, unexpected or of another shape.
        """
        source = cls.read_pretrained(id_or_folder)
        state = {key: value for key, value in read_weights(source.folder).items() if not key.startswith(_UNUSED)}
        if VALUE_HEAD not in state:
            raise NashwardError(f"the weights of {source.name} lack {VALUE_HEAD}; expected {EXPECTED}")
        config, (target, kind) = source.config, placement(device, dtype, state[VALUE_HEAD].dtype)
        with target:  # a large model is never in host memory and on a GPU at once
            network = GPMModel(
                AutoModel.from_config(config, dtype=kind, trust_remote_code=False),
                len(state[VALUE_HEAD]),
                prompt_head=PROMPT_HEAD in state,
                temperature=getattr(config, "gpm_temperature", TEMPERATURE) if temperature is None else temperature,
                normalise=getattr(config, "gpm_normalise", True) if normalise is None else normalise,
            ).to(kind)
        load_state(network, state, source.name, "a GPM on its base model")
        return cls.from_network(source, network, ensemble=ensemble, token_budget=token_budget, max_length=max_length)

    @classmethod
    def _check_settings(cls, settings: dict[str, Any], folder: Path, name: str) -> None:
        architectures = ", ".join(settings.get("architectures") or [settings.get("model_type") or "no model"])
        causal = settings.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if not causal or "SequenceClassification" in architectures:
            raise NashwardError(f"{name} is {architectures}; expected {EXPECTED}")
        stored = tensor_names(folder)
        if stored and VALUE_HEAD not in stored:
            raise NashwardError(
                f"{name} is {architectures} without {VALUE_HEAD}; expected {EXPECTED}: --policy and --oracle may be "
                "swapped"
            )

    @staticmethod
    def _check_tokenizer(tokenizer: Any, name: str) -> None:
        if not tokenizer.chat_template:
            raise NashwardError(
                f"the tokenizer of {name} has no chat template; a GPM reads its conversations through one"
            )
        if tokenizer.eos_token_id is None:
            raise NashwardError(f"the tokenizer of {name} has no EOS token; a GPM's embedding is read there")

    @classmethod
    def _meta_network(cls, source: Pretrained, dtype: torch.dtype) -> GPMModel:
        return GPMModel(AutoModel.from_config(source.config, dtype=dtype, trust_remote_code=False), 2)

    def save_pretrained(self, folder: str | Path, *, max_shard_size: str = "5GB") -> None:
        """Write the model in the published format, temperature and normalisation in config.json; without members."""
        folder = Path(folder)
        self.model.backbone.config.save_pretrained(folder)
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings["architectures"] = ["CustomRewardModel"]  # the class of the published code
        settings["dtype"] = str(self.model.value_head.weight.dtype).removeprefix("torch.")
        settings |= {"gpm_temperature": self.model.temperature, "gpm_normalise": self.model.normalise}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        self.tokenizer.save_pretrained(folder)
        save_torch_state_dict(self.model.state_dict(), folder, max_shard_size=max_shard_size)

    @property
    def settings(self) -> dict[str, Any]:
        network = {"temperature": self.model.temperature, "normalise": self.model.normalise}
        return {"max_length": self.max_length, **network}

    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[Encoded, int]:
        """Tokenise a prompt and its responses.

        Returns:
            The tokens, and how many of the prompt and the rows of the responses were truncated.
        """
        alone_text = self._chat.conversation(prompt)
        texts = [alone_text, *(self._chat.conversation(prompt, response) for response in candidates)]
        alone, *conversations = self._chat.tokens(texts, add_special_tokens=True)
        rows = [[*tokens.ids[:-1], self.tokenizer.eos_token_id] for tokens in conversations]
        return Encoded(len(alone.ids), rows), alone.cut + sum(tokens.cut for tokens in conversations)

    def row(self, encoded: Encoded, key: Key) -> Row:
        """The ids of one response's row, and the positions of the prompt's end and of its own."""
        ids = encoded.rows[key[0]]
        return ids, (min(encoded.prompt, len(ids)) - 1, len(ids) - 1)
