"""A language model on this machine as a judge: the probabilities of its verdict's tokens, one pass a pair and order."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nashward.errors import NashwardError, RefusedPromptError
from nashward.games.shapes import Float, Int

from ...config.endpoint import JudgeSettings
from ...config.inputs import LOCAL_JUDGE
from ...data.prompts import Prompt
from ...policy.base.checks import check_policy
from ...policy.base.text_limit import learned_positions
from ...policy.base.weights import compute_dtype, load_base
from ...policy.chat_template import encode
from ...policy.control_tokens import text_ids
from ...policy.local.names import local_model
from ...policy.packing import PackedRows
from ..models.chat import replace_surrogates
from ..models.network import Key, NetworkOracle, Row, freeze, target_device
from ..protocol import Pairs
from .protocols.answers import Answer, begun_by
from .protocols.protocol_of_judge import JudgeProtocol
from .protocols.references import read_references
from .protocols.user_template import named_protocol, read_rubric

LONGEST = 8192  # tokens of a row, where the network has no table of positions
GAP = " [...] "  # in place of what is left out of a text that is too long


class VerdictNetwork(nn.Module):
    """A causal language model of which the next token's probabilities are read, summed over the tokens of answers.

    Args:
        causal: the language model of transformers, with its head.
        tokens: the ids of the tokens that begin an answer.
        games: ``[2, tokens]``, how many games each counts for the first response, and for the second.
    """

    head_names = ("no head of its own",)
    reads = 1
    games: Tensor

    def __init__(self, causal: Any, tokens: Sequence[int], games: Float[np.ndarray, "2 tokens"]) -> None:
        super().__init__()
        self.causal, self.tokens = causal, list(tokens)
        self.register_buffer("games", torch.as_tensor(games, dtype=torch.float64), persistent=False)
        self._keeps = "logits_to_keep" in inspect.signature(causal.forward).parameters

    def states(
        self, input_ids: Int[Tensor, "R T"], attention_mask: Int[Tensor, "R T"], positions: Int[Tensor, "R 1"]
    ) -> Float[Tensor, "R 1 2"]:
        """log sum_v p_v wins_v and log sum_v p_v losses_v of each row's next token, ``[R, 1, 2]``.

        What rows begin with alike is computed once, where the network packs.

        Args:
            input_ids, attention_mask: ``[R, T]``, padded on the right.
            positions: ``[R, 1]``, the last token of each row.
        """
        packed = PackedRows.shared(self.causal, input_ids, attention_mask)
        if packed is not None:
            chosen = self._run(packed.places.gather(1, positions)[:, 0], **packed.inputs)[0]
        else:
            last, place = torch.unique(positions[:, 0], return_inverse=True)
            logits = self._run(last, input_ids=input_ids, attention_mask=attention_mask)
            chosen = logits[torch.arange(len(place), device=place.device), place]
        logprobs = chosen.double().log_softmax(-1)[:, self.tokens]
        return torch.logsumexp(logprobs[:, None] + self.games.log(), -1)[:, None]

    def compare(self, states: Float[Tensor, "B 1 1 2"]) -> Float[Tensor, " B"]:
        """The log-odds ``[B]`` that the response shown first wins."""
        return states[:, 0, 0, 0] - states[:, 0, 0, 1]

    @property
    def decoder(self) -> Any:
        """The language model, which packs rows."""
        return self.causal

    def _run(self, keep: Int[Tensor, " places"], **inputs: Any) -> Float[Tensor, "R places V"]:
        """The logits at some places."""
        if self._keeps:
            logits: Tensor = self.causal(**inputs, use_cache=False, logits_to_keep=keep).logits
            return logits
        logits = self.causal(**inputs, use_cache=False).logits
        return logits[:, keep]


@dataclass
class _Encoded:
    """A prompt and its responses, shortened where they are too long, and the rows of tokens that were made of them."""

    prompt: str
    reference: str | None
    texts: list[str]
    rows: dict[Key, list[int]] = field(default_factory=dict)


class LocalJudge(NetworkOracle):
    r"""A causal language model as a judge of pairs, by the probabilities of its verdict's first token.

    .. math::  P = \frac{\sum_v p_v w_v}{\sum_v p_v (w_v + l_v)}

    with p_v the probability of the tokens that begin answer v and w_v, l_v the games that it counts for the response
    shown first and for the other. The protocol's prompt (``judges.protocols``) asks for a verdict alone; both orders of
    a pair are judged and averaged in log-odds, as those of every oracle. A row of tokens is an order of a pair; what
    rows of a prompt begin with alike is computed once: the instruction and the prompt for all of them, and each
    response that is shown first for its partners. A text that is too long for its third of the
    row keeps both of its ends.

    Args:
        causal: the model with its head, in evaluation mode, on its device.
        tokenizer: its tokenizer, with a chat template.
        settings: the protocol, and the files of a rubric and of references. Votes, budget and reasoning are of a judge
            behind a server.
        name, token_budget: see ``NetworkOracle``.
        longest: tokens of a row; None: the network's positions, at most 8192.

    Raises:
        ValueError: a protocol whose answers do not differ in their first token, or settings of a judge behind a server.
        OSError: a file that cannot be read.

    Source: AlpacaEval's weighted verdicts (arXiv 2404.04475), MT-Bench (arXiv 2306.05685) for the protocol "pair".

    Example:
        >>> from nashward.llm.oracles import preference_matrices
        >>> from nashward.llm.pocket import POLICY
        >>> judge = LocalJudge.from_pretrained(POLICY, JudgeSettings(protocol="pair"))
        >>> P = preference_matrices(judge, ["Name a river."], [["The Rhine.", "A tree."]])[0].P
        >>> P.shape, bool((P + P.T == 1).all())
        ((2, 2), True)
    """

    def __init__(
        self,
        causal: Any,
        tokenizer: Any,
        settings: JudgeSettings | None = None,
        *,
        name: str,
        token_budget: int | None = None,
        longest: int | None = None,
    ) -> None:
        settings = settings or JudgeSettings()
        check_settings(settings)
        protocol = replace(named_protocol(settings.protocol), explains=False)
        if not protocol.by_token:
            answers = ", ".join(answer.text for answer in protocol.answers)
            raise NashwardError(
                f"the answers of {protocol.name} ({answers}) begin alike, and a local judge is read by the first token "
                "of its verdict: take --judge-protocol pair or letter"
            )
        self.protocol: JudgeProtocol = protocol
        self.rubric = None if settings.rubric is None else read_rubric(settings.rubric)
        self.references = {} if settings.references is None else read_references(settings.references)
        ids, games = _answer_tokens(tokenizer, protocol)
        network = freeze(VerdictNetwork(causal, ids, games).to(next(causal.parameters()).device))
        super().__init__(network, tokenizer, name=f"{name} ({protocol.name})", token_budget=token_budget)
        self.longest = longest or min(learned_positions(causal) or LONGEST, LONGEST)
        self.name = f"{name} ({protocol.name})"

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        settings: JudgeSettings | None = None,
        *,
        device: str | torch.device | None = None,
        token_budget: int | None = None,
    ) -> LocalJudge:
        """Load a chat model from a folder, the model hub, a GGUF file or a package, see ``local_model``.

        Args:
            source: as ``LanguageModel.from_pretrained`` takes it.
            settings: with ``quantise`` the weights are read in 4 bits.
            device, token_budget: see ``NetworkOracle``.

        Raises:
            ValueError, OSError: as ``check_policy``, and as the class.
        """
        settings = settings or JudgeSettings()
        check_settings(settings)
        folder = local_model(source)
        tokenizer, target = check_policy(folder), target_device(device)
        causal = load_base(
            folder, str(target), compute_dtype(str(target)), quantise=settings.quantise, quantise_head=False
        )
        return cls(causal.eval(), tokenizer, settings, name=str(source), token_budget=token_budget)

    @property
    def settings(self) -> dict[str, Any]:
        texts = repr((self.rubric, sorted(self.references.items())))
        return {
            "protocol": self.protocol.fingerprint,
            "texts": blake2b(texts.encode(errors="surrogatepass"), digest_size=8).hexdigest(),
            "longest": self.longest,
        }

    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[_Encoded, int]:
        texts = [replace_surrogates(text) for text in (prompt, *candidates)]
        short = [self._shortened(text) for text in texts]
        cut = sum(text != whole for text, whole in zip(short, texts, strict=True))
        return _Encoded(short[0], self.references.get(prompt), short[1:]), cut

    @staticmethod
    def keys(i: int, j: int) -> tuple[Key, ...]:
        return ((i, j),)

    def row(self, encoded: _Encoded, key: Key) -> Row:
        if key not in encoded.rows:
            first, second = (encoded.texts[k] for k in key)
            encoded.rows[key] = self._ids(encoded.prompt, first, second, encoded.reference)
        ids = encoded.rows[key]
        return ids, [len(ids) - 1]

    def judge(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
        """All logits; the rows of a prompt with several pairs pass by themselves, so that they share the prompt."""
        alone = [n for n, own in enumerate(pairs) if len(own) > 2]
        together = [n for n in range(len(prompts)) if len(pairs[n]) <= 2]
        for part in [*([n] for n in alone), *([together] if together else [])]:
            found = super().judge([prompts[n] for n in part], [candidates[n] for n in part], [pairs[n] for n in part])
            for judged, logits in found:
                yield [(part[m], k) for m, k in judged], logits

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the language model and its tokenizer."""
        self.model.causal.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @cached_property
    def _room(self) -> int:
        """Tokens of the prompt and of each response: a third of what the protocol's own words leave of a row."""
        longest = max(self.references.values(), key=len, default=None)
        own = len(self._ids("", "", "", longest))
        room = (self.longest - own) // 3
        if room < 1:
            raise NashwardError(
                f"{self.name} reads {self.longest} tokens, and its instruction alone has {own}: take a shorter rubric, "
                "shorter references, or another model"
            )
        return room

    def _shortened(self, text: str) -> str:
        if len(text.encode(errors="replace")) <= self._room:  # a token has a byte at least
            return text
        ids = text_ids(self.tokenizer, text)
        if len(ids) <= self._room:
            return text
        side = max(1, (self._room - len(text_ids(self.tokenizer, GAP))) // 2)
        ends = (self.tokenizer.decode(part, skip_special_tokens=False) for part in (ids[:side], ids[-side:]))
        return GAP.join(ends)

    def _ids(self, prompt: str, first: str, second: str, reference: str | None) -> list[int]:
        turns = self.protocol.messages(prompt, first, second, rubric=self.rubric, reference=reference)
        try:
            ids = encode(self.tokenizer, Prompt(tuple(turns)))
        except RefusedPromptError:  # a chat template without a system turn
            content = "\n\n".join(turn["content"] for turn in turns)
            ids = encode(self.tokenizer, Prompt(({"role": "user", "content": content},)))
        return [*ids, *(text_ids(self.tokenizer, self.protocol.lead) if self.protocol.lead else ())]


def check_settings(settings: JudgeSettings) -> None:
    """Refuse what a judge behind a server alone has.

    Raises:
        ValueError: the setting is named.
    """
    served = {"votes": 1, "temperature": None, "max_tokens": None, "budget": None, "price": None, "base_url": None}
    for name, default in served.items():
        if getattr(settings, name) != default:
            raise NashwardError(
                f"{name} is of a judge behind a server (openai:MODEL); a local judge is read by the probabilities of "
                "its verdict, once"
            )


def check_local_judge(source: str, settings: JudgeSettings | None) -> None:
    """What can be found wrong before weights are read.

    Args:
        source: behind ``judge:``.
        settings: of the judge.

    Raises:
        ValueError, OSError: as ``LocalJudge.from_pretrained``.
    """
    check_settings(settings or JudgeSettings())
    if not source.strip():
        raise NashwardError(f"{LOCAL_JUDGE} lacks a model: {LOCAL_JUDGE}MODEL, a folder, a hub id or a GGUF file")
    try:
        check_policy(local_model(source))
    except FileNotFoundError as error:
        modules = [file.stem for file in Path.cwd().glob("*.py") if source.isidentifier()]
        meant = difflib.get_close_matches(LOCAL_JUDGE.rstrip(":"), modules, 1)
        if not meant:
            raise
        here = f"{LOCAL_JUDGE}MODEL is a language model; what {meant[0]}.py has is {meant[0]}:{source}"
        raise FileNotFoundError(f"{error}; {here}") from None


def _answer_tokens(tokenizer: Any, protocol: JudgeProtocol) -> tuple[list[int], Float[np.ndarray, "2 tokens"]]:
    """The ids of the tokens that begin an answer, and their games for either response.

    Raises:
        ValueError: a response has no such token.
    """
    special = set(tokenizer.all_special_ids)
    numbers = sorted(set(tokenizer.get_vocab().values()) - special)
    found: list[tuple[int, Answer]] = []
    for number, text in zip(numbers, tokenizer.batch_decode([[number] for number in numbers]), strict=True):
        answer = begun_by(text, protocol.answers, protocol.frame)
        if answer is not None:
            found.append((number, answer))
    games = np.array([[answer.wins for _, answer in found], [answer.losses for _, answer in found]])
    if not found or not (games.sum(1) > 0).all():
        raise NashwardError(
            f"the tokenizer has no token that begins an answer of {protocol.name}: take another protocol"
        )
    return [number for number, _ in found], games
