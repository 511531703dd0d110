"""Oracles on pooled states of a frozen encoder or language model, under a linear head.

A head on the state of one token learns little where the network was not trained to sum texts up there. Means over all
tokens of a response have what the network knows of it, and a linear head on them is a small convex problem.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

import torch
from torch import Tensor, nn
from transformers import AutoModel

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int
from nashward.shortened import quoted

from ...config.oracle_fit import Kind
from ...policy.packing import PackedRows
from .chat import check_vocabulary
from .checkpoint import Member, load_state, read_weights, stored_dtype
from .network import Key, Row, RowCount, RowLength, placement
from .pretrained import Pretrained, PretrainedOracle
from .segments import Segment, Segments, fitted

FORM = "nashward_pooled"  # the key of config.json
EXPECTED = f"an oracle on pooled states, as fit-oracle writes it (its config.json has {FORM})"


@dataclass(frozen=True)
class PooledForm:
    """What a pooled oracle reads and computes.

    Attributes:
        kind: "bt": each response has a reward; "gpm": each is embedded, and skew products of the embeddings are added;
            "hrc": the same two parts, a score and a cyclic one, each with a ridge of its own;
            "pairrm": both are read in one row, in both orders.
        layers: whose states are pooled, counted from 0, the embeddings.
        components: q, the principal components that are multiplied.
        length: whether the length in characters counts; else it was taken out.
        max_length: tokens of a row.

    Raises:
        ValueError: an unknown kind, no layers, or a number that is no whole one.
    """

    kind: Kind
    layers: tuple[int, ...]
    components: int
    length: bool
    max_length: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise NashwardError(f"{FORM} has kind {self.kind!r}; expected one of {', '.join(get_args(Kind))}")
        whole = [self.components, self.max_length, *self.layers]
        if not self.layers or not all(isinstance(number, int) and number >= 0 for number in whole):
            raise NashwardError(f"{FORM} has {asdict(self)}; expected whole numbers, and at least one layer")

    @classmethod
    def read(cls, settings: dict[str, Any]) -> Self:
        """From a config.json.

        Raises:
            ValueError: its entry is of another form.
        """
        values = settings.get(FORM)
        if not isinstance(values, dict) or set(values) != set(cls.__dataclass_fields__):
            raise NashwardError(
                f"config.json has {FORM} {quoted(values, 80)}; expected {', '.join(cls.__dataclass_fields__)}"
            )
        layers = values["layers"]
        return cls(**{**values, "layers": tuple(layers) if isinstance(layers, list) else ()})

    @property
    def texts(self) -> int:
        """How many responses are in a row."""
        return 2 if self.kind == "pairrm" else 1


class PooledNetwork(nn.Module):
    r"""An encoder, the pool of its states, and a linear head on what two responses differ in.

    .. math::  L_{ab} = w \cdot \phi(x_a, x_b), \qquad \phi(x_b, x_a) = - \phi(x_a, x_b)

    The features x in R^F of a response are log(1 + characters), the mean of the last states over the prompt's tokens,
    and the means of some layers' states over its own. z is x with mean 0 and standard deviation 1 over the responses of
    the fit, where length is taken out without its regression on the log of the characters; u are the first q principal
    components of a response's z, s those of its prompt's. phi has

    - the lead in log characters, l_a - l_b;
    - z_a - z_b;
    - s_a[k] u_a[l] - s_b[k] u_b[l] of all k and l: what counts depends on the prompt;
    - unless the kind is "bt", u_a[k] u_b[l] - u_a[l] u_b[k] of all k < l: the entries of the general skew form, whose
      low-rank case is a preference embedding.

    All but the last are differences of a score of each response (in a row of its own): the transitive part of L. The
    last is the cyclic part.

    Args:
        encoder: a model of transformers without a head.
        form: see ``PooledForm``.
    """

    head_names = ("head.",)
    mean: Tensor
    scale: Tensor
    slope: Tensor
    prompt_axes: Tensor
    response_axes: Tensor

    def __init__(self, encoder: Any, form: PooledForm) -> None:
        super().__init__()
        self.encoder, self.form = encoder, form
        self.size = int(encoder.config.get_text_config().hidden_size)
        self.reads = 2 + 3 * form.texts
        responses, q = self.size * len(form.layers), form.components
        features = 1 + self.size + responses
        for name, start in (("mean", torch.zeros), ("scale", torch.ones), ("slope", torch.zeros)):
            self.register_buffer(name, start(features))
        self.register_buffer("prompt_axes", torch.zeros(q, self.size))
        self.register_buffer("response_axes", torch.zeros(q, responses))
        skew = 0 if form.kind == "bt" else q * (q - 1) // 2
        self.parts = (1, responses, q * q, skew)  # the entries of phi
        self.head = nn.Linear(sum(self.parts), 1, bias=False)
        nn.init.zeros_(self.head.weight)

    @property
    def backbone(self) -> Any:
        """The encoder."""
        return self.encoder

    @property
    def decoder(self) -> Any:
        """The encoder, which packs rows where it is a language model's."""
        return self.encoder

    def states(
        self, input_ids: Int[Tensor, "R T"], attention_mask: Int[Tensor, "R T"], positions: Int[Tensor, "R S"]
    ) -> Float[Tensor, "R texts F"]:
        """The features of the responses of each row, in float32.

        Args:
            input_ids, attention_mask: ``[R, T]``.
            positions: ``[R, 2 + 3 texts]``: begin and end of the prompt, then of each response, and its characters.
        """
        packed = PackedRows.shared(self.encoder, input_ids, attention_mask)
        given = {"input_ids": input_ids, "attention_mask": attention_mask} if packed is None else packed.inputs
        layers = self.encoder(**given, output_hidden_states=True).hidden_states
        last = len(layers) - 1
        # the states of one row a text, of the layers that are pooled
        hidden = {k: layers[k] if packed is None else packed.states(layers[k]) for k in {last, *self.form.layers}}
        index = torch.arange(input_ids.shape[1], device=input_ids.device)

        def pooled(layer: int, start: int) -> Tensor:
            begin, end = positions[:, start, None], positions[:, start + 1, None]
            inside = ((index >= begin) & (index < end)).float()
            total = torch.einsum("rt,rth->rh", inside, hidden[layer].float())
            return total / inside.sum(1, keepdim=True).clamp(min=1.0)

        prompt = pooled(last, 0)
        found = []
        for start in range(2, positions.shape[1], 3):
            length = positions[:, start + 2, None].float().log1p()
            found.append(torch.cat([length, prompt, *(pooled(layer, start) for layer in self.form.layers)], dim=1))
        return torch.stack(found, dim=1)

    def compare(self, states: Float[Tensor, "B 2 texts F"]) -> Float[Tensor, " B"]:
        """Log-odds ``[B]`` that the first response is better, from the states ``[B, 2, texts, F]``."""
        return (self.differences(states) @ self.head.weight.float().T)[:, 0]

    def differences(self, states: Float[Tensor, "B 2 texts F"]) -> Float[Tensor, "B D"]:
        """phi of pairs, ``[B, D]``."""
        one, two = self._responses(states.float())
        lead = one[:, :1] - two[:, :1]
        (s_one, z_one, u_one), (s_two, z_two, u_two) = self._components(one), self._components(two)
        products = s_one[:, :, None] * u_one[:, None] - s_two[:, :, None] * u_two[:, None]
        parts = [lead, z_one - z_two, products.flatten(1)]
        if self.form.kind != "bt":
            first, second = torch.triu_indices(u_one.shape[1], u_one.shape[1], 1, device=u_one.device)
            parts.append(u_one[:, first] * u_two[:, second] - u_one[:, second] * u_two[:, first])
        return torch.cat(parts, dim=1)

    def _responses(self, states: Float[Tensor, "B 2 texts F"]) -> tuple[Tensor, Tensor]:
        """The features of the first and of the second response ``[B, F]``: where both rows have both, their mean."""
        if self.form.texts == 1:
            return states[:, 0, 0], states[:, 1, 0]
        return (states[:, 0, 0] + states[:, 1, 1]) / 2, (states[:, 0, 1] + states[:, 1, 0]) / 2

    def _components(self, features: Float[Tensor, "N F"]) -> tuple[Tensor, Tensor, Tensor]:
        """s, z and u of responses."""
        centred = features - self.mean.float()
        z = (centred - centred[:, :1] * self.slope.float()) / self.scale.float()
        prompt, response = z[:, 1 : 1 + self.size], z[:, 1 + self.size :]
        return prompt @ self.prompt_axes.float().T, response, response @ self.response_axes.float().T

    @property
    def cyclic(self) -> slice:
        """The entries of phi that are no difference of scores."""
        return slice(sum(self.parts[:-1]), sum(self.parts))

    @torch.no_grad()
    def standardise(self, states: Float[Tensor, "N F"]) -> None:
        """Set mean, scale and axes by the features of the responses of a fit; the head goes back to 0.

        Args:
            states: ``[N, F]``, one row per response.
        """
        x = states.double()
        centred = x - x.mean(0)
        self.mean.copy_(x.mean(0))
        slope = torch.zeros(x.shape[1], dtype=torch.float64)
        if not self.form.length:
            length = centred[:, 0]
            slope = centred.T @ length / (length @ length).clamp(min=1e-12)
            slope[0] = 0.0
            centred = centred - length[:, None] * slope
        self.slope.copy_(slope)
        deviation = centred.square().mean(0).sqrt()
        # what does not vary tells nothing, and rounding would be blown up
        least = 1e-4 * x.square().mean().sqrt()
        self.scale.copy_(torch.where(deviation > least, deviation, torch.inf))
        z = centred / self.scale.cpu().double()
        split = 1 + self.size
        self.prompt_axes.copy_(_axes(z[:, 1:split], len(self.prompt_axes)))
        self.response_axes.copy_(_axes(z[:, split:], len(self.response_axes)))
        nn.init.zeros_(self.head.weight)


class Encoded(NamedTuple):
    """The segments of a prompt and of its responses, and the characters of each response."""

    prompt: Segment
    responses: list[Segment]
    characters: list[int]


class PooledOracle(PretrainedOracle):
    """An oracle on the pooled states of an encoder or a causal language model, as ``fit_oracle`` makes it.

    .. math::  P(y_a \\succ y_b | x) = \\sigma(w \\cdot \\phi(x_a, x_b))

    See ``PooledNetwork`` for phi, which is skew: one order is judged. Kinds "bt", "gpm" and "hrc" read each response
    once, K rows of tokens for a table of K x K; "pairrm" reads each pair in both orders, K (K - 1) rows. A text that is
    too long for its row keeps both of its ends.

    Args:
        model: the network, in evaluation mode, on its device.
        tokenizer: its fast tokenizer.
        name, token_budget, members: see ``NetworkOracle``.

    Raises:
        ValueError: a token budget below 1.

    Example:
        >>> oracle = PooledOracle.from_pretrained("oracles/mine")  # doctest: +SKIP
        >>> preference_matrices(oracle, ["2 + 2?"], [["4", "5"]])[0].P  # doctest: +SKIP
    """

    symmetric = True
    expected = EXPECTED

    def __init__(
        self,
        model: PooledNetwork,
        tokenizer: Any,
        *,
        name: str,
        token_budget: int | None = None,
        members: Sequence[Member] = (),
    ) -> None:
        super().__init__(model, tokenizer, name=name, token_budget=token_budget, members=members)
        self.form = model.form
        self.transitive = model.form.kind == "bt"
        self._segments = Segments(tokenizer, name)

    @classmethod
    def from_pretrained(
        cls,
        id_or_folder: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        token_budget: int | None = None,
        ensemble: bool = True,
    ) -> Self:
        """Load an oracle from a folder or from the model hub.

        Args:
            id_or_folder: as ``fit_oracle`` wrote it.
            device: None: "cuda" where there is one, else "cpu".
            dtype: of the encoder; None: the checkpoint's own on a GPU, float32 on a CPU. What is behind it is float32.
            token_budget: see the class.
            ensemble: with the models of the folds.

        Raises:
            OSError: the checkpoint cannot be found (FileNotFoundError for a folder), or has no tokenizer.
            ValueError: it is another one, or tensors are missing, unexpected or of another shape.
        """
        source = cls.read_pretrained(id_or_folder)
        state = read_weights(source.folder)
        target, kind = placement(device, dtype, stored_dtype(source.folder))
        network = PooledNetwork(
            AutoModel.from_config(source.config, dtype=kind, trust_remote_code=False),
            PooledForm.read(source.settings),
        )
        load_state(network, state, source.name, "an oracle on pooled states of its base model")
        return cls.from_network(source, network.to(target), ensemble=ensemble, token_budget=token_budget)

    @classmethod
    def _check_settings(cls, settings: dict[str, Any], folder: Path, name: str) -> None:
        if FORM not in settings:
            raise NashwardError(f"{name} has no {FORM} in its config.json; expected {EXPECTED}")
        PooledForm.read(settings)

    @classmethod
    def _meta_network(cls, source: Pretrained, dtype: torch.dtype) -> PooledNetwork:
        encoder = AutoModel.from_config(source.config, dtype=dtype, trust_remote_code=False)
        return PooledNetwork(encoder, PooledForm.read(source.settings))

    @classmethod
    def _check_rows(cls, source: Pretrained, network: Any) -> None:
        oracle = cls(network, source.tokenizer, name=source.name)
        check_vocabulary(oracle, network.encoder.get_input_embeddings().num_embeddings)

    @classmethod
    def _row_lengths(cls, source: Pretrained, network: Any) -> tuple[RowLength, RowCount]:
        form = network.form
        prompt, (response,) = Segments(source.tokenizer, source.name).of("a", ["a"])
        format_tokens = len(prompt.ids) + form.texts * len(response.ids)

        def row(prompt_tokens: int, response_tokens: int) -> int:
            return min(form.max_length, prompt_tokens + form.texts * response_tokens + format_tokens)

        return row, lambda responses: responses * (responses - 1) if form.texts == 2 else responses

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder's configuration with the form in it, the tokenizer and all weights, in safetensors."""
        folder = Path(folder)
        self.model.encoder.config.save_pretrained(folder)
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings["architectures"] = [type(self).__name__]
        settings[FORM] = asdict(self.form)
        self._save(folder, settings)

    @property
    def settings(self) -> dict[str, Any]:
        return {**asdict(self.form), "layers": list(self.form.layers)}

    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[Encoded, int]:
        """Tokenise a prompt and its responses.

        Returns:
            The segments, and how many of the prompt and the responses are cut in some row.
        """
        first, responses = self._segments.of(prompt, candidates)
        encoded = Encoded(first, responses, [len(text) for text in candidates])
        cut_prompt, cut = False, set()
        for key in self._all_keys(len(responses)):
            kept, segments = fitted(first, [responses[k] for k in key], self.form.max_length)
            cut_prompt |= len(kept.ids) < len(first.ids)
            cut |= {k for k, segment in zip(key, segments, strict=True) if len(segment.ids) < len(responses[k].ids)}
        return encoded, cut_prompt + len(cut)

    def _all_keys(self, count: int) -> list[Key]:
        if self.form.texts == 1:
            return [(k,) for k in range(count)]
        return [(i, j) for i in range(count) for j in range(i)]

    def keys(self, i: int, j: int) -> tuple[Key, ...]:  # type: ignore[override]
        return ((i,), (j,)) if self.form.texts == 1 else ((i, j), (j, i))

    def row(self, encoded: Encoded, key: Key) -> Row:
        """The ids of one row, and where its texts begin and end."""
        prompt, responses = fitted(encoded.prompt, [encoded.responses[k] for k in key], self.form.max_length)
        ids, positions = list(prompt.ids), [prompt.start, prompt.stop]
        for k, segment in zip(key, responses, strict=True):
            positions += [len(ids) + segment.start, len(ids) + segment.stop, encoded.characters[k]]
            ids += segment.ids
        return ids, positions


def pooled_layers(encoder: Any) -> tuple[int, ...]:
    """The layers that a new oracle pools: the embeddings, two in between and the last one."""
    count = int(encoder.config.get_text_config().num_hidden_layers)
    return tuple(sorted({0, round(count / 3), round(2 * count / 3), count}))


def _axes(z: Float[Tensor, "N F"], count: int) -> Float[Tensor, "count F"]:
    """Projections on the principal components of z, with variance 1; rows of zeros where there are fewer."""
    covariance = z.T @ z / max(1, len(z))
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    # the sign of an eigenvector is arbitrary: its largest entry is positive
    largest = vectors.abs().argmax(0)
    vectors = vectors * vectors.gather(0, largest[None]).sign()
    kept = values > 1e-6 * values[:1].clamp(min=1e-12)
    axes = torch.where(kept, vectors / values.clamp(min=1e-12).sqrt(), 0.0).T
    return torch.cat([axes, axes.new_zeros(count - len(axes), axes.shape[1])])
