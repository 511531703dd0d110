"""The oracle that a fit starts from: a base model under a new head, or a checkpoint that has its head already."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging

from nashward.errors import NashwardError

from ...config.oracle_fit import FitSettings, Kind, Layout
from ...data.library_errors import first_line, translated_errors
from ..models.chat import check_vocabulary, max_row_length
from ..models.checkpoint import (
    check_tensors,
    first_names,
    load_network,
    read_config,
    read_tokenizer,
    read_weights,
    resolve,
    tensor_names,
)
from ..models.gpm import GPM, VALUE_HEAD, GPMModel
from ..models.network import NetworkOracle, freeze, target_device
from ..models.pairrm import CANDIDATE_MAXLENGTH, MARKERS, SOURCE_MAXLENGTH, PairRM, PairRMModel, is_pairrm
from ..models.pooled import FORM, PooledForm, PooledNetwork, PooledOracle, pooled_layers
from ..models.reward_model import RewardModel, RewardNetwork

CLASSES: dict[Kind, type[NetworkOracle]] = {"pairrm": PairRM, "gpm": GPM, "bt": RewardModel, "hrc": PooledOracle}
BASES = {
    "pairrm": "an encoder or a PairRM",
    "gpm": "a causal language model or a GPM",
    "bt": "a language model, an encoder or a reward model",
    "hrc": "an encoder or a language model",
}


def init_from_base(
    kind: str, base: str | Path, dimensions: int, seed: int, device: str | torch.device | None = None
) -> NetworkOracle:
    """The oracle of a kind on a base model, in float32; a base that is an oracle of the kind keeps its head.

    Args:
        kind: "pairrm", "gpm" or "bt".
        base: a folder, a hub id, or what else ``local_model`` takes.
        dimensions: of a new preference embedding.
        seed: of the new head and of the markers' embeddings.
        device: None: "cuda" where there is one, else "cpu".

    Raises:
        OSError: the base, its weights or its tokenizer cannot be found.
        ValueError: the base is of another kind of model, tensors of the base model are missing or of another shape, a
            file is damaged, or weights are NaN.
    """
    folder = resolve(base)
    settings = read_config(folder, BASES[kind])
    if kind != "pairrm" and is_pairrm(settings):
        raise NashwardError(f"{base} is a PairRM; kind {kind!r} is made from {BASES[kind]}: fit it with kind 'pairrm'")
    target = target_device(device)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        torch.manual_seed(seed)
        if kind == "pairrm":
            oracle: NetworkOracle = _pairrm(base, folder, settings, target)
        elif kind == "gpm":
            oracle = _gpm(base, folder, settings, dimensions, target)
        else:
            oracle = _reward_model(base, folder, settings, target)
    _check_numbers(str(base), oracle.model)
    return oracle


def _check_numbers(name: str, network: nn.Module) -> None:
    damaged = [key for key, parameter in network.named_parameters() if parameter.isnan().any()]
    if damaged:
        raise NashwardError(f"{name} has NaN in its weights ({first_names(damaged)}): they are damaged; fetch it again")


def _is_classifier(settings: dict[str, Any]) -> bool:
    return any(str(name).endswith("ForSequenceClassification") for name in settings.get("architectures") or [])


def kind_of(base: str | Path | NetworkOracle) -> Kind:
    """The kind of a base that is an oracle, else "gpm", which holds rewards and cycles.

    Raises:
        OSError, ValueError: the base cannot be found, or its config.json cannot be read.
    """
    if isinstance(base, PooledOracle):
        return base.form.kind
    if isinstance(base, NetworkOracle):
        return next((kind for kind, known in CLASSES.items() if isinstance(base, known)), "gpm")
    settings = read_config(resolve(base), "an encoder, a language model or an oracle")
    if FORM in settings:
        return PooledForm.read(settings).kind
    return "pairrm" if is_pairrm(settings) else "bt" if _is_classifier(settings) else "gpm"


def find_base(base: str | Path, option: str) -> None:
    """Find the folder of a base, before anything is computed.

    Args:
        base: a folder, a hub id, or what else ``local_model`` takes.
        option: of the command line, which names it.

    Raises:
        ValueError: it is not there; the message names the option and the bases that need no hub.

    Example:
        >>> find_base("none/there/x", "--base")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: --base none/there/x: no folder none/there/x; ... or --base pocket:policy
    """
    try:
        resolve(base)
    except (OSError, NashwardError) as error:
        told = str(error).rstrip(".")
        told = told if told.startswith(str(base)) else f"{base}: {told}"
        others = " or ".join(f"{option} {name}" for name in ("real:minilm", "pocket:policy") if name != str(base))
        raise NashwardError(f"{option} {told}; no hub is needed by {others}") from error


def layout_of(kind: str, base: str | Path | NetworkOracle, layout: Layout | None) -> Layout:
    """The layout of the oracle to be fitted: as it is chosen, else by whether the base has a head of that kind.

    Raises:
        OSError, ValueError: as ``init_from_base``.
    """
    if kind == "hrc" and layout == "published":
        raise NashwardError("kind 'hrc' is a pooled head: there is no published layout of it; leave --layout out")
    if layout is not None or kind == "hrc":
        return layout or "pooled"
    if isinstance(base, NetworkOracle):
        return "pooled" if isinstance(base, PooledOracle) else "published"
    folder = resolve(base)
    settings = read_config(folder, BASES[kind])
    if FORM in settings:
        return "pooled"
    has_head = is_pairrm(settings)  # of another kind it is no base, which is an error there
    has_head |= kind == "gpm" and VALUE_HEAD in tensor_names(folder)
    has_head |= kind == "bt" and _is_classifier(settings)
    return "published" if has_head else "pooled"


def pooled_from_base(
    kind: Kind,
    base: str | Path | NetworkOracle,
    settings: FitSettings,
    device: str | torch.device | None = None,
) -> PooledOracle:
    """A new oracle on the pooled states of a base model, in float32; of a pooled oracle its encoder.

    Args:
        kind: "pairrm", "gpm", "hrc" or "bt".
        base: a folder, a hub id, or what else ``local_model`` takes; or an oracle.
        settings: how it is to be fitted.
        device: None: "cuda" where there is one, else "cpu".

    Raises:
        OSError, ValueError: as ``init_from_base``.
    """
    if isinstance(base, NetworkOracle):
        if not isinstance(base, PooledOracle):
            raise NashwardError(
                f"the base {base.name} is a {type(base).__name__}, which has a head; fit it with layout 'published'"
            )
        encoder, tokenizer, name = copy.deepcopy(base.model.encoder), base.tokenizer, base.name
        target = base.device
    else:
        name, target, folder = str(base), target_device(device), resolve(base)
        found = read_config(folder, "an encoder or a language model")
        if FORM in found:
            inside = PooledOracle.from_pretrained(base, device=target, dtype=torch.float32, ensemble=False)
            encoder, tokenizer = inside.model.encoder, inside.tokenizer
        else:
            if is_pairrm(found):
                raise NashwardError(f"{base} is a PairRM, which has a head; fit it with layout 'published'")
            if found.get("is_encoder_decoder"):
                raise NashwardError(f"{base} is an encoder with a decoder; expected an encoder or a language model")
            tokenizer = read_tokenizer(folder, name)
            encoder = _base_network(MODEL_MAPPING, base, folder)
            _check_numbers(name, encoder)
    form = PooledForm(
        kind, pooled_layers(encoder), settings.components, settings.length == "keep", max_row_length(encoder, tokenizer)
    )
    oracle = PooledOracle(freeze(PooledNetwork(encoder, form).to(target)), tokenizer, name=name)
    check_vocabulary(oracle, encoder.get_input_embeddings().num_embeddings)
    return oracle


def check_kind(oracle: NetworkOracle, kind: Kind) -> None:
    """Check the kind of an oracle that is already loaded.

    Raises:
        ValueError: it is not of the kind to be fitted.
    """
    if not isinstance(oracle, CLASSES[kind]):
        raise NashwardError(
            f"the base {oracle.name} is a {type(oracle).__name__}; kind {kind!r} expects a {CLASSES[kind].__name__}, "
            f"or the folder or hub id of {BASES[kind]}"
        )


def _pairrm(base: str | Path, folder: Path, settings: dict[str, Any], target: torch.device) -> PairRM:
    if is_pairrm(settings):
        return PairRM.from_pretrained(base, device=target, dtype=torch.float32, ensemble=False)
    tokenizer = read_tokenizer(folder, str(base))
    if tokenizer.cls_token is None or tokenizer.sep_token is None:
        raise NashwardError(
            f"the tokenizer of {base} has no [CLS] and [SEP]: a PairRM is made from an encoder such as "
            "microsoft/deberta-v3-large; for a causal language model fit --kind gpm or bt"
        )
    encoder = _base_network(MODEL_MAPPING, base, folder)
    tokenizer.add_tokens(list(MARKERS))
    if len(tokenizer) > encoder.get_input_embeddings().num_embeddings:
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        # a marker starts near [CLS], whose state sums up the text around it, plus noise that separates the markers
        table = encoder.get_input_embeddings().weight
        ids = tokenizer.convert_tokens_to_ids(list(MARKERS))
        first = table[tokenizer.cls_token_id]
        table[ids] = first + 0.1 * first.std() * torch.randn(len(ids), table.shape[1])
    config = encoder.config
    config.vocab_size = encoder.get_input_embeddings().num_embeddings
    model = PairRMModel(encoder, config.hidden_size)
    # as the published model divides its 2048 tokens: 1224 for the prompt, 412 for each response
    published = SOURCE_MAXLENGTH + 2 * CANDIDATE_MAXLENGTH
    length = published
    if getattr(config, "position_biased_input", True):  # else positions are only relative: no length is too long
        length = min(max_row_length(encoder, tokenizer), published)
    return PairRM(
        freeze(model.to(target)),
        tokenizer,
        name=str(base),
        source_maxlength=length * SOURCE_MAXLENGTH // published,
        candidate_maxlength=length * CANDIDATE_MAXLENGTH // published,
    )


def _gpm(base: str | Path, folder: Path, settings: dict[str, Any], dimensions: int, target: torch.device) -> GPM:
    if VALUE_HEAD in tensor_names(folder):
        return GPM.from_pretrained(base, device=target, dtype=torch.float32, ensemble=False)
    kind = settings.get("model_type") or "no model"
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not settings.get("is_decoder")
    if encoder or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise NashwardError(
            f"{base} is {kind}, not a causal language model, which a GPM is made from; for an encoder fit --kind "
            "pairrm or bt"
        )
    tokenizer = read_tokenizer(folder, str(base))
    # Free lengths, as in the published training code: an uninformative response can have length 0, and small initial
    # weights prefer nothing. At length 1 the initial preferences are strong and random, which few votes do not undo.
    model = GPMModel(_base_network(MODEL_MAPPING, base, folder), dimensions, normalise=False)
    _init_head(model.value_head)
    return GPM(freeze(model.to(target)), tokenizer, name=str(base))


def _reward_model(base: str | Path, folder: Path, settings: dict[str, Any], target: torch.device) -> RewardModel:
    if _is_classifier(settings):
        return RewardModel.from_pretrained(base, device=target, dtype=torch.float32, ensemble=False)
    tokenizer = read_tokenizer(folder, str(base))
    model = RewardNetwork(_base_network(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, base, folder, num_labels=1))
    _init_head(model.head)
    return RewardModel(freeze(model.to(target)), tokenizer, name=str(base))


def _init_head(head: nn.Linear) -> None:
    """Small weights, as in the published training code of GPM: nothing is preferred yet."""
    nn.init.normal_(head.weight, std=1 / (head.in_features + 1))


def _base_network(classes: Any, base: str | Path, folder: Path, **options: Any) -> Any:
    """The model of transformers for a base model's configuration, in float32, without the head of its checkpoint.

    New is what lies outside of the base model, the head; and a pooler, which language models are published without:
    a classifier's is trained with it, an encoder's own is never read.
    """
    state = read_weights(folder)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # transformers reports the head that is left out and the one that is new
    prefix = f"{base} cannot be loaded as a base model"
    try:
        with translated_errors(lambda error: NashwardError(f"{prefix}: {first_line(error)}")):
            config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, **options)
            kind = classes.get(type(config), None)
            if kind is not None:
                network, problems = load_network(kind, config, state, dtype=torch.float32)
    finally:
        logging.set_verbosity(verbosity)
    if kind is None:
        raise NashwardError(f"{prefix}: transformers has no such model for {config.model_type}")
    inside = "" if network.base_model is network else f"{network.base_model_prefix}."
    wrong = {
        problem: [key for key in keys if key.startswith(inside) and "pooler" not in key.split(".")]
        for problem, keys in problems.items()
    }
    check_tensors(wrong, str(base), type(network).__name__, consequence="; they would be random")
    return network
