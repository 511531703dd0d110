"""PairRM (Jiang, Ren and Lin 2023, LLM-Blender) as a preference oracle, without llm-blender.

Reads both published layouts of a checkpoint: `llm-blender/PairRM`, whose config.json names a base model for the
architecture and the tokenizer, and `llm-blender/PairRM-hf`, which carries them itself.

One input holds the prompt and both responses: [CLS] <|source|> .. [SEP] [CLS] <|candidate1|> .. [SEP] [CLS]
<|candidate2|> .. [SEP]. Lengths are set per prompt; llm-blender sets them per batch, so that it agrees at batch size 1
and can differ above.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from .protocol import Pairs, PreferenceOracle

MARKERS = ("<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>")
SOURCE, CANDIDATE_1, CANDIDATE_2, CANDIDATE = MARKERS
# where PairRM-hf's config.json has their ids
PREFIX_KEYS = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id")
PROMPT_FORMATS = ("raw", "conversation")
# of the published model; a checkpoint's own config.json has precedence
SOURCE_MAXLENGTH, CANDIDATE_MAXLENGTH = 1224, 412
# the words of llm-blender's compare_conversations; the misspelling is part of the format
CONVERSATION = (
    "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
    "USER: {prompt}\nAssistant: <Response 1>"
)


class PairRMModel(nn.Module):
    """An encoder and the pair head; the parameters' names are those of the published checkpoints."""

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

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, prefixes: torch.Tensor) -> torch.Tensor:
        """Log-odds `[B]` that the first response shown is better.

        Args:
            input_ids, attention_mask: `[B, T]`.
            prefixes: `[B, 3]`, the positions of <|source|>, <|candidate1|> and <|candidate2|>.
        """
        return self.compare(self.marker_states(input_ids, attention_mask, prefixes))

    def marker_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, prefixes: torch.Tensor
    ) -> torch.Tensor:
        """The last hidden states `[B, 3, H]` at the three markers."""
        hidden = self.pretrained_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden[torch.arange(len(hidden), device=hidden.device)[:, None], prefixes]

    def compare(self, states: torch.Tensor) -> torch.Tensor:
        """Log-odds `[B]` from the states at the markers `[B, 3, H]`."""
        source, first, second = states.unbind(1)
        left = self.head_layer(torch.cat([source, first], dim=-1))
        right = self.head_layer(torch.cat([source, second], dim=-1))
        return (left - right).mean(dim=-1)


class PairRM(PreferenceOracle):
    """The PairRM oracle. `PairRM.from_pretrained` loads one.

    Args:
        model: encoder and head, in evaluation mode, on its device.
        tokenizer: a fast tokenizer that knows the four markers and writes [CLS] .. [SEP] around a text.
        name: what reports call it.
        source_maxlength, candidate_maxlength: tokens of the prompt and of a response, markers included. A response may
            also use one half of what the prompt leaves.
        token_budget: tokens of one forward pass, padding included. A single longer pair still runs, alone.
        prompt_format: "raw", the instruction as it is, or "conversation", the template that RewardBench's published
            numbers used.
    """

    def __init__(
        self,
        model: PairRMModel,
        tokenizer,
        *,
        name: str = "PairRM",
        source_maxlength: int = SOURCE_MAXLENGTH,
        candidate_maxlength: int = CANDIDATE_MAXLENGTH,
        token_budget: int = 8192,
        prompt_format: str = "raw",
    ) -> None:
        if prompt_format not in PROMPT_FORMATS:
            raise ValueError(f"prompt_format is {prompt_format!r}; expected one of {', '.join(PROMPT_FORMATS)}")
        if token_budget < 1:
            raise ValueError(f"token_budget is {token_budget}; expected the tokens of one forward pass, at least 1")
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.source_maxlength, self.candidate_maxlength = source_maxlength, candidate_maxlength
        self.token_budget, self.prompt_format = token_budget, prompt_format
        self.device = next(model.parameters()).device
        self.tokenizer.truncation_side = "right"
        self._marker_ids = dict(zip(MARKERS, tokenizer.convert_tokens_to_ids(list(MARKERS)), strict=True))
        self._forbidden = {*self._marker_ids.values(), tokenizer.sep_token_id}
        shape = tokenizer(SOURCE + "a")["input_ids"]
        if shape[:2] != [tokenizer.cls_token_id, self._marker_ids[SOURCE]] or shape[-1] != tokenizer.sep_token_id:
            raise ValueError(
                f"the tokenizer of {name} turns {SOURCE + 'a'!r} into {shape}; expected [CLS], the marker, .., [SEP]: "
                "it is no tokenizer of a PairRM"
            )

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        token_budget: int = 8192,
        prompt_format: str = "raw",
    ) -> "PairRM":
        """Load a checkpoint from the model hub or from a folder, in either layout, safetensors or pytorch_model.bin.

        Args:
            id_or_folder: for example "llm-blender/PairRM", or a folder.
            device: None: "cuda" where there is one, else "cpu".
            dtype: None: the checkpoint's own on a GPU, float32 on a CPU.
            token_budget, prompt_format: see the class.

        Raises:
            OSError: if it cannot be found (FileNotFoundError for a folder).
            ValueError: if it is not a PairRM, or tensors are missing, unexpected or of another shape.
        """
        folder = _resolve(id_or_folder)
        settings = _read_config(folder)
        config, tokenizer, base = _base(folder, settings, str(id_or_folder))
        tokenizer.add_tokens(list(MARKERS))  # in this order, which gives the published ids; adds none that is there
        for key, marker in zip(PREFIX_KEYS, MARKERS, strict=True):
            if settings.get(key, found := tokenizer.convert_tokens_to_ids(marker)) != found:
                raise ValueError(
                    f"{folder}: config.json has {key} {settings[key]} but its tokenizer gives {marker} the id {found}; "
                    "they are not of one checkpoint"
                )
        state = _read_weights(folder)

        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        rows = state["pretrained_model.embeddings.word_embeddings.weight"]
        if len(rows) < len(tokenizer):
            raise ValueError(
                f"{id_or_folder} embeds {len(rows)} tokens but its tokenizer from {base} has {len(tokenizer)}, markers "
                "included: checkpoint and tokenizer do not belong together"
            )
        config.vocab_size = len(rows)
        kind = dtype or (torch.float32 if target.type == "cpu" else rows.dtype)
        encoder = AutoModel.from_config(config, dtype=kind)
        model = PairRMModel(
            encoder, config.hidden_size, settings.get("n_tasks", 1), settings.get("drop_out", 0.05)
        ).to(kind)  # fmt: skip
        _load(model, state, str(id_or_folder))
        return cls(
            model.to(target).eval(),
            tokenizer,
            name=str(id_or_folder),
            source_maxlength=settings.get("source_maxlength") or SOURCE_MAXLENGTH,
            candidate_maxlength=settings.get("candidate_maxlength") or CANDIDATE_MAXLENGTH,
            token_budget=token_budget,
            prompt_format=prompt_format,
        )

    @staticmethod
    def check(id_or_folder: str | Path) -> None:
        """Whether it is there and is a PairRM, before any weight is read; raises what `from_pretrained` would."""
        folder = _resolve(id_or_folder)
        _base(folder, _read_config(folder), str(id_or_folder))

    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[list[int], list[list[int]], int]:
        """Token ids of the prompt and of each response, each [CLS] marker .. [SEP], and how many of them were cut."""
        if self.prompt_format == "conversation":
            prompt = CONVERSATION.format(prompt=prompt)
            candidates = [f"<Response 1>: {text}" for text in candidates]
        (source,), cut = self._tokenize(SOURCE, [prompt], self.source_maxlength)
        room = self.candidate_maxlength + (self.source_maxlength - len(source)) // 2
        responses, cut_responses = self._tokenize(CANDIDATE, candidates, room)
        return source, responses, cut + cut_responses

    def _tokenize(self, marker: str, texts: Sequence[str], limit: int) -> tuple[list[list[int]], int]:
        # One token more than allowed shows whether a text is cut.
        marked = [marker + self._neutralise(text) for text in texts]
        encoded = self.tokenizer(marked, truncation=True, max_length=limit + 1)["input_ids"]
        cut = sum(len(ids) > limit for ids in encoded)
        encoded = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in encoded]
        # A tokenizer's normaliser could turn other characters into a marker: none may stay inside.
        return [[*ids[:2], *(i for i in ids[2:-1] if i not in self._forbidden), ids[-1]] for ids in encoded], cut

    def _neutralise(self, text: str) -> str:
        """The text without [SEP], as in llm-blender, and without the markers, which make llm-blender fail."""
        for token in (self.tokenizer.sep_token, *MARKERS):
            text = text.replace(token, " ")
        return text

    def join(self, source: list[int], first: list[int], second: list[int]) -> tuple[list[int], tuple[int, int, int]]:
        """The ids of one input and the positions of its three markers, from what `encode` returned."""
        ids = [*source, first[0], self._marker_ids[CANDIDATE_1], *first[2:]]
        ids += [second[0], self._marker_ids[CANDIDATE_2], *second[2:]]
        return ids, (1, len(source) + 1, len(source) + len(first) + 1)

    def collate(self, inputs: Sequence[tuple[list[int], tuple[int, int, int]]]) -> dict[str, torch.Tensor]:
        """Inputs from `join`, padded at the end: what the model's forward takes, on its device."""
        longest = max(len(ids) for ids, _ in inputs)
        padded = torch.full((len(inputs), longest), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(padded)
        for row, (ids, _) in enumerate(inputs):
            padded[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
        batch = {"input_ids": padded, "attention_mask": mask, "prefixes": torch.tensor([p for _, p in inputs])}
        return {key: value.to(self.device) for key, value in batch.items()}

    @torch.inference_mode()
    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        """For each prompt one logit a pair (i, j), i shown first: `sigmoid(logit)` = P(i beats j)."""
        parts = []  # of each input; joined batch by batch, as all inputs at once would take K times the memory
        for prompt, texts, asked in zip(prompts, candidates, pairs, strict=True):
            source, responses, _ = self.encode(prompt, texts)
            parts += [(source, responses[i], responses[j]) for i, j in asked]
        lengths = [sum(map(len, part)) for part in parts]
        logits = np.empty(len(parts))
        # the longest first: if memory is short, it shows at once
        order = sorted(range(len(parts)), key=lambda k: -lengths[k])
        start = 0
        while start < len(order):
            size = max(1, self.token_budget // lengths[order[start]])
            batch = order[start : start + size]
            logits[batch] = self.model(**self.collate([self.join(*parts[k]) for k in batch])).double().cpu().numpy()
            start += size
        return np.split(logits, np.cumsum([len(asked) for asked in pairs])[:-1])

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        """How many of the prompt and the responses are cut before they are judged."""
        return self.encode(prompt, candidates)[2]


def _fetch_hint(model_id: str) -> str:
    return f"Fetch it on a machine with network (hf download {model_id}) or pass a local folder."


def _resolve(id_or_folder: str | Path) -> Path:
    """The folder itself, or the hub's snapshot of that id."""
    path = Path(id_or_folder).expanduser()
    if path.is_dir():
        return path
    name = str(id_or_folder)
    if isinstance(id_or_folder, Path) or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise FileNotFoundError(f"no folder {name}; expected the folder of a PairRM or a hub id as llm-blender/PairRM")
    small = ["*.json", "*.model", "*.txt"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*small, "model.safetensors"]))
        if not (folder / "model.safetensors").exists():
            folder = Path(snapshot_download(name, allow_patterns=[*small, "pytorch_model.bin"]))
    except (OSError, HfHubHTTPError) as error:
        raise OSError(
            f"{name} is neither a folder nor in the local cache, and the hub did not give it. {_fetch_hint(name)}"
        ) from error
    return folder


def _read_config(folder: Path) -> dict:
    """config.json of a PairRM in either layout; a ValueError says what the folder holds instead."""
    expected = 'expected a PairRM (its config.json has ranker_type "pairranker" or source_prefix_id)'
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"{folder} holds a PEFT adapter, not a PairRM: --policy and --oracle may be swapped")
    if not (folder / "config.json").exists():
        raise ValueError(f"{folder} has no config.json; {expected}")
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} is not valid JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{folder / 'config.json'} holds {type(settings).__name__}; {expected}")
    if settings.get("ranker_type") == "pairranker" and settings.get("model_name"):
        return settings
    if "source_prefix_id" in settings:
        settings.pop("model_name", None)
        return settings
    found = ", ".join(settings.get("architectures") or [settings.get("model_type") or "no model"])
    if "CausalLM" in found:
        raise ValueError(
            f"{folder} is a causal language model ({found}), not a PairRM: --policy and --oracle may be swapped"
        )
    raise ValueError(f"{folder} is {found}; {expected}")


def _base(folder: Path, settings: dict, name: str) -> tuple[Any, Any, str]:
    """Architecture, tokenizer and where they are from; a base model's weights are never read."""
    base = str(folder)
    if "model_name" in settings:  # a RankerConfig names its base: a folder inside, or a hub id
        local = folder / settings["model_name"]
        base = str(local) if local.is_dir() else settings["model_name"]
    try:
        return AutoConfig.from_pretrained(base), AutoTokenizer.from_pretrained(base), base
    except Exception as error:  # a broken file raises whatever its parser does
        raise OSError(
            f"{name} takes architecture and tokenizer from {base}, where they could not be read "
            f"({type(error).__name__}). {_fetch_hint(base)}"
        ) from error


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    if (folder / "model.safetensors").exists():
        try:
            state = load_file(folder / "model.safetensors")
        except SafetensorError as error:
            raise ValueError(f"{folder / 'model.safetensors'} cannot be read: {error}") from None
    elif (folder / "pytorch_model.bin").exists():
        state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    else:
        raise FileNotFoundError(f"{folder} has neither model.safetensors nor pytorch_model.bin")
    # an index that old releases of transformers saved
    state = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    if "pretrained_model.embeddings.word_embeddings.weight" not in state:
        raise ValueError(
            f"the weights in {folder} lack pretrained_model.embeddings.word_embeddings.weight; found {_names(state)}: "
            "they are not a PairRM's"
        )
    return state


def _names(keys) -> str:
    keys = list(keys)
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _load(model: nn.Module, state: dict[str, torch.Tensor], name: str) -> None:
    """`load_state_dict` that names what does not fit in one line."""
    own = model.state_dict()
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [key for key in own if key in state and own[key].shape != state[key].shape],
    }
    told = "; ".join(f"{what}: {_names(keys)}" for what, keys in problems.items() if keys)
    if told:
        raise ValueError(f"the tensors of {name} are not those of a PairRM on its base model: {told}")
    model.load_state_dict(state)
