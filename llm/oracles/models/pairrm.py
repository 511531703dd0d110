"""PairRM (Jiang, Ren and Lin 2023, LLM-Blender) as a preference oracle, without llm-blender.

Reads both published layouts of a checkpoint: `llm-blender/PairRM`, whose config.json names a base model for the
architecture and the tokenizer, and `llm-blender/PairRM-hf`, which carries them itself.

One input holds the prompt and both responses: [CLS] <|source|> .. [SEP] [CLS] <|candidate1|> .. [SEP] [CLS]
<|candidate2|> .. [SEP]. Lengths are set per prompt; llm-blender sets them per batch, so that it agrees at batch size 1
and can differ above. A marker or another control token that a text spells out, as [SEP], is read as text: there
llm-blender reads a blank, or raises.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int
from nashward.shortened import cut

from ...data.library_errors import first_line, in_one_line, translated_errors
from ...policy.control_tokens import control_tokens
from ..protocol import Aggregation
from .chat import replace_surrogates
from .checkpoint import Member, fetch_hint, first_names, load_state, read_weights, tensor_shape
from .network import Key, RowCount, RowLength, placement
from .pretrained import Pretrained, PretrainedOracle

MARKERS = ("<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>")
SOURCE, CANDIDATE_1, CANDIDATE_2, CANDIDATE = MARKERS
# where PairRM-hf's config.json has their ids
PREFIX_KEYS = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id")
PROMPT_FORMATS = ("raw", "conversation")
EXPECTED = 'a PairRM (its config.json has ranker_type "pairranker" or source_prefix_id)'
# of the published model; a checkpoint's own config.json has precedence
SOURCE_MAXLENGTH, CANDIDATE_MAXLENGTH = 1224, 412
# the words of llm-blender's compare_conversations; the misspelling is part of the format
CONVERSATION = (
    "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
    "USER: {prompt}\nAssistant: <Response 1>"
)


class PairRMModel(nn.Module):
    """An encoder and the pair head; the parameters' names are those of the published checkpoints."""

    head_names = ("head_layer.",)
    reads = 3

    def __init__(self, encoder: nn.Module, hidden_size: int, n_tasks: int = 1, dropout: float = 0.05) -> None:
        super().__init__()
        self.pretrained_model = encoder
        self.head_layer = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * hidden_size, hidden_size),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, n_tasks),
        )

    def states(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"], positions: Int[Tensor, "B 3"]
    ) -> Float[Tensor, "B 3 H"]:
        """The last hidden states ``[B, 3, H]`` at <|source|>, <|candidate1|> and <|candidate2|>.

        Args:
            input_ids, attention_mask: ``[B, T]``.
            positions: ``[B, 3]``, of the three markers.
        """
        hidden = self.pretrained_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden[torch.arange(len(hidden), device=hidden.device)[:, None], positions]

    def compare(self, states: Float[Tensor, "B 1 3 H"]) -> Float[Tensor, " B"]:
        """Log-odds ``[B]`` that the first response shown is better, from the states ``[B, 1, 3, H]``."""
        source, first, second = states[:, 0].unbind(1)
        left = self.head_layer(torch.cat([source, first], dim=-1))
        right = self.head_layer(torch.cat([source, second], dim=-1))
        return (left - right).mean(dim=-1)


class Encoded(NamedTuple):
    """Token ids of a prompt and of each of its responses, each [CLS] marker .. [SEP]."""

    source: list[int]
    responses: list[list[int]]


class PairRM(PretrainedOracle):
    """The PairRM oracle: an encoder that reads the prompt and two responses together.

    .. math::  L_{ij} = f(h_x, h_i) - f(h_x, h_j), \\qquad P(y_i \\succ y_j | x) = \\sigma(L_{ij})

    with h the encoder's states at the markers of the prompt x, the first response y_i and the second y_j, and f a head
    of two linear layers with a tanh between. The order shown matters: L_ij and -L_ji differ, and both are judged. K
    responses take K (K - 1) passes.

    Args:
        model: encoder and head, in evaluation mode, on its device.
        tokenizer: a fast tokenizer with the four markers that writes [CLS] .. [SEP] around a text.
        name, token_budget, members: see ``NetworkOracle``.
        source_maxlength, candidate_maxlength: tokens of the prompt and of a response, markers included. A response may
            also use one half of what the prompt leaves.
        prompt_format: "raw", the instruction as it is, or "conversation", the template that RewardBench's published
            numbers used.
        aggregation: how logits become win probabilities; see ``preference_matrices``.

    Raises:
        ValueError: an unknown format of the prompt, a token budget below 1, or a tokenizer of another format.

    Source: Jiang, Ren & Lin 2023, arXiv 2306.02561.

    Example:
        >>> from nashward.llm.oracles import preference_matrices
        >>> from nashward.llm.pocket import PAIRRM
        >>> oracle = PairRM.from_pretrained(PAIRRM)
        >>> (result,) = preference_matrices(oracle, ["Name a river."], [["The Rhine.", "No.", "I cannot help."]])
        >>> result.P.shape, result.meta["calls"], bool((result.P + result.P.T == 1).all())
        ((3, 3), 6, True)
    """

    expected = EXPECTED

    def __init__(
        self,
        model: PairRMModel,
        tokenizer: Any,
        *,
        name: str = "PairRM",
        source_maxlength: int = SOURCE_MAXLENGTH,
        candidate_maxlength: int = CANDIDATE_MAXLENGTH,
        token_budget: int | None = None,
        prompt_format: str = "raw",
        aggregation: Aggregation = "calibrated",
        members: Sequence[Member] = (),
    ) -> None:
        if prompt_format not in PROMPT_FORMATS:
            raise NashwardError(f"prompt_format is {prompt_format!r}; expected one of {', '.join(PROMPT_FORMATS)}")
        super().__init__(model, tokenizer, name=name, token_budget=token_budget, members=members)
        self.source_maxlength, self.candidate_maxlength = source_maxlength, candidate_maxlength
        self.prompt_format, self.aggregation = prompt_format, aggregation
        self.tokenizer.truncation_side = "right"
        self._marker_ids = dict(zip(MARKERS, tokenizer.convert_tokens_to_ids(list(MARKERS)), strict=True))
        ids = tokenizer(SOURCE + "a")["input_ids"]
        if ids[:2] != [tokenizer.cls_token_id, self._marker_ids[SOURCE]] or ids[-1] != tokenizer.sep_token_id:
            raise NashwardError(
                f"the tokenizer of {name} turns {SOURCE + 'a'!r} into {ids}; expected [CLS], the marker, .., [SEP]: "
                "it is no tokenizer of a PairRM"
            )

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        token_budget: int | None = None,
        prompt_format: str = "raw",
        aggregation: Aggregation = "calibrated",
        ensemble: bool = True,
    ) -> Self:
        """Load a checkpoint from the model hub or from a folder, in either layout, safetensors or pytorch_model.bin.

        Args:
            id_or_folder: for example "llm-blender/PairRM", or a folder.
            device: None: "cuda" where there is one, else "cpu".
            dtype: None: the checkpoint's own on a GPU, float32 on a CPU.
            token_budget, prompt_format, aggregation: see the class.
            ensemble: with the models of the folds, where ``fit-oracle`` saved them.

        Raises:
            OSError: the checkpoint, or its base model's tokenizer, cannot be found (FileNotFoundError for a folder).
            ValueError: it is not a PairRM, or tensors are missing, unexpected or of another shape.
        """
        source = cls.read_pretrained(id_or_folder)
        settings = source.settings
        _add_markers(source)
        state, name = read_weights(source.folder), f"pretrained_model.{_embeddings(source)}"
        if name not in state:
            raise NashwardError(
                f"the weights in {source.folder} lack {name}; found {first_names(state)}: they are not a PairRM's"
            )
        embeddings = state[name]
        _check_tokens(source, len(embeddings))
        source.config.vocab_size = len(embeddings)
        target, kind = placement(device, dtype, embeddings.dtype)
        network = PairRMModel(
            AutoModel.from_config(source.config, dtype=kind, trust_remote_code=False),
            source.config.hidden_size,
            n_tasks=settings.get("n_tasks", 1),
            dropout=settings.get("drop_out", 0.05),
        ).to(kind)
        load_state(network, state, source.name, "a PairRM on its base model")
        prompt_limit, response_limit = _limits(settings)
        return cls.from_network(
            source,
            network.to(target),
            ensemble=ensemble,
            source_maxlength=prompt_limit,
            candidate_maxlength=response_limit,
            token_budget=token_budget,
            prompt_format=prompt_format,
            aggregation=aggregation,
        )

    @classmethod
    def _check_rows(cls, source: Pretrained, network: Any) -> None:
        _add_markers(source)
        shape = tensor_shape(source.folder, f"pretrained_model.{_embeddings(source)}")
        if shape is not None:  # else they are known when the weights are read
            _check_tokens(source, shape[0])

    @classmethod
    def _check_settings(cls, settings: dict[str, Any], folder: Path, name: str) -> None:
        if _names_base(settings) or PREFIX_KEYS[0] in settings:
            return
        architectures = ", ".join(settings.get("architectures") or [settings.get("model_type") or "no model"])
        if "CausalLM" in architectures:
            raise NashwardError(
                f"{folder} is a causal language model ({architectures}), not a PairRM: --policy and --oracle may be "
                "swapped"
            )
        raise NashwardError(f"{folder} is {architectures}; expected {EXPECTED}")

    @classmethod
    def _base(cls, settings: dict[str, Any], folder: Path) -> str:
        if not _names_base(settings):
            return str(folder)
        inside = folder / settings["model_name"]
        return str(inside) if inside.is_dir() else str(settings["model_name"])

    @staticmethod
    def _unreadable(error: BaseException, base: str, folder: Path, name: str) -> Exception:
        if base == str(folder):
            return NashwardError(f"{folder / 'config.json'} cannot be read: {cut(in_one_line(error), 200)}")
        return OSError(
            f"{name} takes architecture and tokenizer from {base}, where they could not be read "
            f"({type(error).__name__}). {fetch_hint(base)}"
        )

    @classmethod
    def _meta_network(cls, source: Pretrained, dtype: torch.dtype) -> PairRMModel:
        config = source.config
        config.vocab_size = max(config.vocab_size, len(source.tokenizer) + len(MARKERS))
        return PairRMModel(AutoModel.from_config(config, dtype=dtype, trust_remote_code=False), config.hidden_size).to(
            dtype
        )

    @classmethod
    def _row_lengths(cls, source: Pretrained, network: Any) -> tuple[RowLength, RowCount]:
        prompt_limit, response_limit = _limits(source.settings)

        def row(prompt: int, response: int) -> int:
            room = response_limit + (prompt_limit - min(prompt_limit, prompt)) // 2
            return min(prompt_limit, prompt) + 2 * min(room, response)

        return row, lambda responses: responses * (responses - 1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model in PairRM-hf's layout: safetensors, configuration and tokenizer, markers included."""
        folder = Path(folder)
        self.model.pretrained_model.config.save_pretrained(folder)
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings |= dict(zip(PREFIX_KEYS, self._marker_ids.values(), strict=True))
        head = self.model.head_layer
        settings |= {"n_tasks": head[4].out_features, "drop_out": head[0].p, "architectures": ["DebertaV2PairRM"]}
        settings |= {"source_maxlength": self.source_maxlength, "candidate_maxlength": self.candidate_maxlength}
        settings["sep_token_id"] = self.tokenizer.sep_token_id  # llm-blender's own class reads it
        self._save(folder, settings)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "source_maxlength": self.source_maxlength,
            "candidate_maxlength": self.candidate_maxlength,
            "prompt_format": self.prompt_format,
        }

    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[Encoded, int]:
        """Tokenise a prompt and its responses.

        Returns:
            The token ids, and how many of the prompt and the responses were truncated.
        """
        if self.prompt_format == "conversation":
            prompt = CONVERSATION.format(prompt=prompt)
            candidates = [f"<Response 1>: {text}" for text in candidates]
        (source,), cut = self._tokenize(SOURCE, [prompt], self.source_maxlength)
        room = self.candidate_maxlength + (self.source_maxlength - len(source)) // 2
        responses, cut_responses = self._tokenize(CANDIDATE, candidates, room)
        return Encoded(source, responses), cut + cut_responses

    @staticmethod
    def keys(i: int, j: int) -> tuple[Key, ...]:
        return ((i, j),)

    def row(self, encoded: Encoded, key: Key) -> tuple[list[int], tuple[int, int, int]]:
        """The ids of one input and the positions of its three markers."""
        source, first, second = encoded.source, encoded.responses[key[0]], encoded.responses[key[1]]
        ids = [*source, first[0], self._marker_ids[CANDIDATE_1], *first[2:]]
        ids += [second[0], self._marker_ids[CANDIDATE_2], *second[2:]]
        return ids, (1, len(source) + 1, len(source) + len(first) + 1)

    def _tokenize(self, marker: str, texts: Sequence[str], limit: int) -> tuple[list[list[int]], int]:
        """The token ids of texts behind a marker, [CLS] marker .. [SEP], and how many texts were truncated."""
        # One token above the limit shows whether a text is too long.
        texts = [replace_surrogates(text) for text in texts]
        encoded = list(
            self.tokenizer([marker + text for text in texts], truncation=True, max_length=limit + 1)["input_ids"]
        )
        control = control_tokens(self.tokenizer, MARKERS)
        for k, text in enumerate(texts):
            # the pattern, and what a normaliser makes a token of
            if control.pattern.search(text) or control.found_among(encoded[k][2:-1]):
                tokenizer, names = control.renamed(text)
                tokenizer.enable_truncation(limit + 1)
                encoded[k] = tokenizer.encode(names[marker] + text).ids
        cut = sum(len(ids) > limit for ids in encoded)
        return [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in encoded], cut


def is_pairrm(settings: dict[str, Any]) -> bool:
    """Whether a config.json is a PairRM's, in either layout."""
    return settings.get("ranker_type") == "pairranker" or PREFIX_KEYS[0] in settings


def _names_base(settings: dict[str, Any]) -> bool:
    """Whether config.json is a RankerConfig of llm-blender, which names a base model: a folder inside, or a hub id."""
    return settings.get("ranker_type") == "pairranker" and bool(settings.get("model_name"))


def _limits(settings: dict[str, Any]) -> tuple[int, int]:
    """Tokens of the prompt and of a response."""
    return (
        settings.get("source_maxlength") or SOURCE_MAXLENGTH,
        settings.get("candidate_maxlength") or CANDIDATE_MAXLENGTH,
    )


def _add_markers(source: Pretrained) -> None:
    """Add the markers that the tokenizer lacks.

    Raises:
        ValueError: config.json has other ids for them.
    """
    source.tokenizer.add_tokens(list(MARKERS))  # in this order, which gives the published ids
    for key, marker in zip(PREFIX_KEYS, MARKERS, strict=True):
        marker_id = source.tokenizer.convert_tokens_to_ids(marker)
        if source.settings.get(key, marker_id) != marker_id:
            raise NashwardError(
                f"{source.folder}: config.json has {key} {source.settings[key]} but its tokenizer gives {marker} the "
                f"id {marker_id}; they are not of one checkpoint"
            )


def _check_tokens(source: Pretrained, rows: int) -> None:
    """Check that text and markers have one of the ``rows`` embeddings; a pad token without one is removed.

    Raises:
        ValueError: another token has none.
    """
    tokenizer, padding = source.tokenizer, set()
    pad = tokenizer.pad_token_id
    if pad is not None and pad >= rows:
        tokenizer.pad_token = None  # padding is masked, so any other token will do
        padding = {pad}
    beyond = sorted(number for number in tokenizer.get_vocab().values() if number >= rows and number not in padding)
    if beyond:
        raise NashwardError(
            f"{source.name} embeds {rows} tokens but its tokenizer from {source.base} has {len(beyond)} beyond them, "
            f"as {tokenizer.convert_ids_to_tokens(beyond[0])!r}, markers included: checkpoint and tokenizer do not "
            "belong together"
        )


def _embeddings(source: Pretrained) -> str:
    """The name of the encoder's table of token embeddings, which depends on the architecture."""
    file = source.folder / "config.json"
    with (
        translated_errors(lambda error: NashwardError(f"{file} cannot be read as an encoder's: {first_line(error)}")),
        torch.device("meta"),
    ):
        encoder = AutoModel.from_config(source.config, trust_remote_code=False)
    table = encoder.get_input_embeddings().weight
    return next(name for name, parameter in encoder.named_parameters() if parameter is table)
