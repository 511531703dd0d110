"""An oracle from a checkpoint, a file of votes, an object, or a name in Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from nashward.errors import NashwardError
from nashward.python_object import instantiate, python_object, split_settings
from nashward.shortened import quoted

from ..config.endpoint import Endpoint, JudgeSettings
from ..config.inputs import ENDPOINT, LOCAL_JUDGE
from ..data.library_errors import first_line, translated_errors
from ..data.packaged import packaged
from .cache import AnyCache
from .corrections.correction import CorrectedSource
from .ensembles.source import EnsembleSource
from .fitting.vote_table import VoteTable
from .functions.pairwise import Judge
from .functions.reward_function import RewardFunction
from .judges.endpoint import EndpointJudge
from .judges.local_judge import LocalJudge, check_local_judge
from .models.checkpoint import read_config, resolve, tensor_names
from .models.gpm import GPM
from .models.network import OracleShape
from .models.pairrm import PairRM
from .models.pooled import FORM, PooledOracle
from .models.reward_model import RewardModel
from .protocol import PreferenceOracle
from .source_names import ACCEPTED, form_of, is_endpoint, is_language_model, is_local_judge


def as_oracle(
    source: Any,
    *,
    device: str | torch.device | None = None,
    judge: JudgeSettings | None = None,
    endpoint: Endpoint | None = None,
    cache: AnyCache = None,
) -> PreferenceOracle:
    """An oracle from its source.

    Args:
        source: a ``PreferenceOracle``, which is returned as it is; a folder or hub id of a checkpoint, whose
            configuration decides its kind (PairRM, GPM, reward model); a file of votes, see ``read_votes``;
            ``"module:name"``, something in Python, of a class with its settings behind (``"module:Class:scale=0.1"``);
            an object with ``judge(prompts, pairs)``; a reward function ``(prompts, completions) -> numbers`` as TRL's
            trainers take it, or a list of them; a class of any of these that needs no arguments; an ``EnsembleSource``
            of several of these, a ``CorrectedSource`` of one.
            ``"openai:MODEL"`` is a language model behind a server, see ``EndpointJudge``, and ``"judge:MODEL"`` one on
            this machine, see ``LocalJudge``.
        device: for checkpoints; None: "cuda" where there is one, else "cpu".
        judge, endpoint: of a language model behind a server, how it judges and how it is called.
        cache: of judgements, for the pairs that an ensemble or a correction is fitted to.

    Raises:
        ValueError: the source is none of these, or importing the module, or creating the object, raises an error.
        OSError: a file or checkpoint cannot be found.

    See also: ``check_source``, which reads no weights.

    Example:
        >>> as_oracle("nashward.llm.oracles:Length").name
        'length'
        >>> as_oracle(lambda completions: [float(len(text)) for text in completions]).transitive
        True
    """
    if isinstance(source, EnsembleSource | CorrectedSource):
        settings: dict[str, Any] = {"device": device, "judge": judge, "endpoint": endpoint, "cache": cache}
        return source.load(lambda member: as_oracle(member, **settings), cache)
    if isinstance(source, str | Path):
        if is_endpoint(source):
            return EndpointJudge(str(source).removeprefix(ENDPOINT), judge, endpoint)
        if is_local_judge(source):
            return LocalJudge.from_pretrained(str(source).removeprefix(LOCAL_JUDGE), judge, device=device)
        kind = _kind(source)
        if kind is VoteTable:
            return VoteTable.from_file(source)
        if kind is None:
            return as_oracle(_import_object(str(source)), device=device)
        return kind.from_pretrained(source, device=device)
    if isinstance(source, type):
        return as_oracle(_instance(source), device=device)
    if isinstance(source, PreferenceOracle):
        return source
    if callable(getattr(source, "judge", None)):
        return Judge(source)
    several = isinstance(source, Sequence) and len(source) > 0 and all(callable(function) for function in source)
    if callable(source) or several:
        return RewardFunction(source)
    raise NashwardError(f"{quoted(source, 80)} is no oracle; expected {ACCEPTED}")


def check_source(source: Any, *, judge: JudgeSettings | None = None, endpoint: Endpoint | None = None) -> Any:
    """Check the source of an oracle before weights are read: votes are read, and Python objects are created.

    Args:
        source: as ``as_oracle`` takes it.
        judge, endpoint: as ``as_oracle`` takes them.

    Returns:
        The oracle, or of a checkpoint its folder or id: a source for ``as_oracle``, such that nothing is read or
        created twice.

    Raises:
        ValueError, OSError: as ``as_oracle``.

    Example:
        >>> from nashward.llm.pocket import PAIRRM, POLICY
        >>> check_source(PAIRRM) == PAIRRM
        True
        >>> check_source(POLICY)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: ...policy is a causal language model (LlamaForCausalLM), not a PairRM: ...
    """
    if isinstance(source, EnsembleSource):
        members = (check_source(member, judge=judge, endpoint=endpoint) for member in source.members)
        return dataclasses.replace(source, members=tuple(members))
    if isinstance(source, CorrectedSource):
        return dataclasses.replace(source, source=check_source(source.source, judge=judge, endpoint=endpoint))
    if isinstance(source, str | Path):
        if is_local_judge(source):
            check_local_judge(str(source).removeprefix(LOCAL_JUDGE), judge)
            return source
        kind = None if is_endpoint(source) else _kind(source)
        if kind is not None and kind is not VoteTable:
            kind.check(source)
            return source
    return as_oracle(source, judge=judge, endpoint=endpoint)


def oracle_shape(
    source: Any, otherwise: Callable[[Any], OracleShape | None] = lambda source: None
) -> OracleShape | None:
    """The network of an oracle that is a checkpoint, for a plan, without its weights; None for any other source.

    Of an ensemble, or of several objectives, the largest one, with the parameters of the others as those of its
    members, as all are on the device, and beside it the others.

    Args:
        source: as ``as_oracle`` takes it.
        otherwise: returns the shape of a checkpoint that is not there, or None of one that it does not know.

    Raises:
        ValueError, OSError: a checkpoint cannot be read, or is not there and not known.
    """
    if isinstance(source, EnsembleSource | CorrectedSource):
        shapes = [shape for member in source.members if (shape := oracle_shape(member, otherwise)) is not None]
        sizes = [shape.members + sum(p.nbytes for p in shape.network.parameters()) for shape in shapes]
        if not shapes:
            return None
        k = max(range(len(shapes)), key=sizes.__getitem__)
        others = sum(sizes) - sizes[k]
        beside = tuple(network for shape in (*shapes[:k], *shapes[k + 1 :]) for network in shape.networks)
        return dataclasses.replace(shapes[k], members=shapes[k].members + others, others=(*shapes[k].others, *beside))
    if not isinstance(source, str | Path) or is_language_model(source):
        return None
    try:
        kind = _kind(source)
        return None if kind is None or kind is VoteTable else kind.shape(source)
    except OSError:
        known = otherwise(source)
        if known is None:
            raise
        return known


def _kind(source: str | Path) -> Any:
    """The class that reads a source; None for a name in Python."""
    form = form_of(source)
    if form != "checkpoint":
        return VoteTable if form == "votes" else None
    folder = resolve(packaged(source))
    settings = read_config(folder, "an oracle: a PairRM, a GPM or a reward model")
    if FORM in settings:
        return PooledOracle
    architectures = settings.get("architectures") or []
    if any(str(name).endswith("ForSequenceClassification") for name in architectures):
        return RewardModel
    if "value_head.weight" in tensor_names(folder):
        return GPM
    return PairRM  # whose check raises the error for any other model


def _import_object(source: str) -> Any:
    """The object of ``module:name``, or what a class or function makes of the settings behind it."""
    module = source.partition(":")[0]
    if module == "people":
        raise NashwardError(
            f"{source}: people vote while nashward align goes on; elsewhere give an oracle that was fitted to their "
            "votes, as RUN/iteration-01/oracle"
        )
    name, settings = split_settings(source)
    if not settings:
        return python_object(name)
    made = instantiate(source)
    fingerprint = getattr(type(made), "fingerprint", None)
    if isinstance(fingerprint, str) and made.fingerprint == fingerprint:
        raise NashwardError(
            f"{source}: its fingerprint {quoted(fingerprint, 60)} is that of the class, whatever the settings are, so "
            "that judgements of other settings would be taken for its own: "
            f"set self.fingerprint from {', '.join(settings)}"
        )
    return made


def _instance(kind: type) -> Any:
    """An object of a class that needs no arguments."""
    if lacking := sorted(getattr(kind, "__abstractmethods__", ())):
        raise NashwardError(
            f"{kind.__name__} is abstract: it lacks {', '.join(lacking)}; write this in the class, or give one with it"
        )
    with translated_errors(
        lambda error: NashwardError(
            f"{kind.__name__} cannot be made without arguments: {first_line(error)}; give its settings behind it "
            "(module:Class:setting=value), create one in a module and name that, or pass the object"
        )
    ):
        return kind()
