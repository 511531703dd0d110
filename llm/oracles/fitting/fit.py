"""Preference oracles from votes: a head, a LoRA or a whole network fitted to labelled pairs."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.shapes import Float

from ...config.fields import check_choice
from ...config.oracle_fit import Kind
from ...processes import processes
from ...store.files import atomic_folder, write_json
from ..models import checkpoint
from ..models.network import NetworkOracle
from .annotators import Reliability, annotator_weights
from .examples import StatesOfRows
from .init import check_kind, init_from_base, kind_of, layout_of, pooled_from_base
from .settings import FitSettings, fold_key
from .summary import VoteCycle
from .train import Trained, VoteTraining
from .votes import Vote, only_of_two_texts, read_votes

REPORT = "fit.json"
SEEN = "seen"  # in it: digests of the prompts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OracleFit:
    """The result of a fit.

    Attributes:
        folder: of the oracle; ``as_oracle`` loads it, with the models of the folds.
        log_loss: of the held-out votes, nats a comparison, each from the model of the fold that did not see its prompt;
            votes count here and below with their weights in the fit, those of annotators too.
        standard_error: of ``log_loss``, from the spread over prompts.
        accuracy: the share of held-out comparisons on the predicted side.
        chance: the log-loss of a coin, log 2.
        length, length_accuracy: of a logistic fit on the difference of log lengths, held out as well.
        majority, majority_accuracy: of the share that the first-named response won, held out as well; None where one
            side won everything, as in files that name the winner first.
        gain, gain_error: by how much ``log_loss`` is below ``length``, and the standard error of that difference.
        accuracy_gain, accuracy_gain_error: by how much ``accuracy`` is above ``length_accuracy``, in the same way.
        epochs: the best epoch of each fold, 0 for the start; empty where the head alone was solved.
        penalty: of the solved head's ridge.
        cyclic: the share of the log-odds' mean square that no score explains, of a solved head of another kind than
            "bt"; None of any other head.
        kind: of the oracle: "pairrm", "gpm", "bt" or "hrc".
        cycles: that the votes confirm, with what the held-out predictions have of them (``vote_cycles``).
        annotators: each annotator's reliability; none where one annotator gave all votes.
        weights: of the annotators' votes, beside those in the votes; empty where they were not weighed.
        pairs: the number of training pairs of each origin.
        texts, cut: how many prompts and responses the votes have, and how many of them were cut.
        held_out: ``[votes]``, the predicted log-odds that a beats b, each from a model that did not see the prompt.
    """

    folder: Path
    log_loss: float
    standard_error: float
    accuracy: float
    chance: float
    length: float
    length_accuracy: float
    majority: float | None
    majority_accuracy: float | None
    gain: float
    gain_error: float
    accuracy_gain: float
    accuracy_gain_error: float
    epochs: list[int]
    penalty: float | None
    cyclic: float | None
    kind: Kind
    cycles: list[VoteCycle]
    annotators: dict[str, Reliability]
    weights: dict[str, float]
    pairs: dict[str, int]
    texts: int
    cut: int
    held_out: Float[np.ndarray, " votes"]

    @property
    def length_share(self) -> float:
        """How much of what the oracle tells, nats below a coin, the length alone tells; NaN where it tells nothing."""
        told = self.chance - self.log_loss
        return (self.chance - self.length) / told if told > 0 else math.nan


def fit_oracle(
    votes: Sequence[Vote],
    base: str | Path | NetworkOracle,
    kind: Kind | None,
    out: str | Path,
    settings: FitSettings | None = None,
    *,
    device: str | torch.device | None = None,
    progress: bool = True,
    known: StatesOfRows | None = None,
) -> OracleFit:
    """Fit a preference oracle to votes and write it to a folder.

    .. math::
        \\min_\\theta - \\sum_v w_v \\left[ k_v \\log P_\\theta(a_v \\succ b_v)
        + (n_v - k_v) \\log (1 - P_\\theta(a_v \\succ b_v)) \\right]

    with k wins of a out of n comparisons and weight w, over both orders of each pair. The votes are split into folds by
    prompt. Each fold's model is trained on the other folds, with early stopping on its own; they form an ensemble,
    whose spread is the oracle's standard error. One more model is trained on all votes, for the folds' median number of
    epochs. Several processes divide the reading of a frozen base, and the folds.

    Args:
        votes: see ``read_votes``; those between equal texts have no weight.
        base: a folder, a hub id or a name as "real:minilm": an encoder, a causal language model, or an oracle that is
            fitted further; or an oracle that is already loaded.
        kind: "gpm" embeds each response (preferences may cycle); "bt" gives each a reward; "hrc" has a reward and a
            cyclic part, each with a penalty of its own; "pairrm" reads both responses together. None: that of the base,
            where it is an oracle, else "gpm".
        out: a new or an empty folder. If it is filled during the fit, the oracle is written beside it: see
            ``OracleFit.folder``.
        settings: None: ``FitSettings()``.
        device: None: "cuda" where there is one, else "cpu".
        progress: show bars, on a terminal, or lines.
        known: an empty dict for several fits on one frozen base: each adds the states of what it read, and reads only
            what is not there. "bt" and "gpm" on pooled states read the same rows.

    Raises:
        OSError: the base cannot be found, or the folder cannot be written.
        ValueError: no votes, fewer than two prompts, a folder that is not empty, an unknown kind, or a base of another
            kind.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nashward.llm.pocket import PAIRRM
        >>> votes = [Vote(f"Prompt {k}", "Yes." * k, "No.", wins=1, n=1) for k in range(1, 7)]
        >>> settings = FitSettings(folds=2, epochs=1)
        >>> with TemporaryDirectory() as home:
        ...     fit = fit_oracle(votes, PAIRRM, "pairrm", home + "/judge", settings, progress=False)
        >>> fit.folder.name, fit.held_out.shape, round(fit.chance, 3)
        ('judge', (6,), 0.693)
    """
    settings = settings or FitSettings()
    votes = list(votes)
    votes = only_of_two_texts(read_votes(votes) if votes else votes)
    place = check_fit(votes, kind, out)
    kind = kind_of(base) if kind is None else kind
    layout = layout_of(kind, base, settings.layout)
    settings = settings.resolved(layout) if layout == "pooled" or settings.length == "keep" else settings
    if layout == "pooled":
        oracle: NetworkOracle = pooled_from_base(kind, base, settings, device)
    elif settings.length == "remove":
        raise NashwardError(f"{base} keeps its own head, and length 'remove' needs a pooled one: layout 'pooled'")
    elif isinstance(base, NetworkOracle):
        check_kind(base, kind)
        oracle = copy.copy(base)
        oracle.model = copy.deepcopy(base.model)
    else:
        oracle = init_from_base(kind, base, settings.dimensions, settings.seed, device)
    oracle.members = []
    with torch.random.fork_rng(devices=[oracle.device] if oracle.device.type == "cuda" else []):
        training = VoteTraining(oracle, votes, settings, progress, known)
        results = training.cross_validate()
        weights = annotator_weights(votes, training.annotators(results)) if settings.weigh_annotators else {}
        # without an annotator whose votes differ from chance there are no weights
        if any(weights.values()):
            training.weigh(weights)
            results = training.cross_validate()
        summary, cycles = training.summary(results), training.cycles(results)
        written, cyclic = processes.decided(
            partial(_write, oracle, training, results, summary, cycles, kind, base, settings, place)
        )
    return OracleFit(
        written,
        cyclic=cyclic,
        kind=kind,
        cycles=cycles,
        annotators=training.annotators(results),
        weights=training.data.annotator_weights,
        held_out=training.held_out(results),
        **summary,
    )


def _write(
    oracle: NetworkOracle,
    training: VoteTraining,
    results: Sequence[Trained],
    summary: dict[str, Any],
    cycles: Sequence[VoteCycle],
    kind: Kind,
    base: str | Path | NetworkOracle,
    settings: FitSettings,
    out: Path,
) -> tuple[Path, float | None]:
    """Train the model on all votes and write the oracle; returns its folder, and see ``OracleFit.cyclic``."""
    member = training.final(results)
    members = [fold.member for fold in results]
    for name, value in checkpoint.member_parameters(oracle.model, member).items():
        oracle.model.get_parameter(name).data = value
    if any(name.endswith(checkpoint.UP) for name in member):
        # the folds' low-rank changes are relative to the initial model, and the model has changed
        members = [_rebased(member, fold) for fold in members]
    out = free_folder(out)
    if settings.half:
        oracle.model.half()
        members = [{name: value.half() for name, value in tensors.items()} for tensors in members]
    with atomic_folder(out) as unfinished:
        oracle.save_pretrained(unfinished)
        if settings.ensemble:
            (unfinished / checkpoint.MEMBERS).mkdir()
        for k, tensors in enumerate(members if settings.ensemble else ()):
            tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
            save_file(tensors, unfinished / checkpoint.MEMBERS / f"fold-{k}.safetensors")
        annotators = training.annotators(results)
        used = [vote for vote in training.votes if vote.weight > 0]
        write_json(
            unfinished / REPORT,
            {
                "kind": kind,
                "base": base.name if isinstance(base, NetworkOracle) else str(base),
                "votes": len(used),
                "prompts": len({vote.prompt for vote in used}),
                **summary,
                "cyclic": training.cyclic,
                "cycles": [dataclasses.asdict(cycle) for cycle in cycles],
                "annotators": {name: {**vars(value), "suspect": value.suspect} for name, value in annotators.items()},
                SEEN: sorted({prompt_digest(vote.prompt) for vote in used}),
                "weights": training.data.annotator_weights,
                "settings": dataclasses.asdict(settings),
                "versions": {name: importlib.metadata.version(name) for name in ("nashward", "torch", "transformers")},
            },
        )
    return out, training.cyclic


def check_fit(votes: Sequence[Vote], kind: str | None, out: str | Path) -> Path:
    """Check the arguments of a fit before weights are read.

    Returns:
        The folder, whose parent exists.

    Raises:
        ValueError: an unknown kind, a folder that is not empty, or fewer than two prompts.
        OSError: the folder cannot be created.
    """
    if kind is not None:
        check_choice("kind", kind, Kind)
    out = Path(out).expanduser()
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise NashwardError(f"{out} holds something already; name a new folder for the oracle")
    used = [vote for vote in votes if vote.weight > 0]
    prompts = {fold_key(vote.prompt) for vote in used}
    if len(prompts) < 2:
        equal = sum(vote.a == vote.b for vote in votes)
        without = f" ({counted(equal, 'vote')} between equal texts, which tell nothing, left out)" if equal else ""
        raise NashwardError(
            f"{counted(len(used), 'vote')} on {counted(len(prompts), 'prompt')} with a weight above 0{without}; a fit "
            "needs at least 2 prompts, to hold some out"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def fitted_to(oracle: Any, prompts: Iterable[str]) -> set[str]:
    """Those of some prompts that an oracle was fitted to votes on, by what its fit has written; none of another one.

    Example:
        >>> fitted_to("somewhere/else", ["Name a river."])
        set()
    """
    seen = set(_report(oracle).get(SEEN, ()))
    return {prompt for prompt in prompts if prompt_digest(prompt) in seen}


def cycles_not_held(oracle: Any) -> list[VoteCycle]:
    """The cycles of the votes that an oracle was fitted to and does not hold, by its report; none of another one.

    Example:
        >>> cycles_not_held("somewhere/else")
        []
    """
    rows = _report(oracle).get("cycles", ())
    # NaN is null in the file
    cycles = [VoteCycle(**row | {"errors": [math.nan if e is None else e for e in row["errors"]]}) for row in rows]
    return [cycle for cycle in cycles if min(cycle.sides) < 1]


def _report(oracle: Any) -> dict[str, Any]:
    """What a fit has written beside its oracle; nothing of another one."""
    file = Path(oracle).expanduser() / REPORT if isinstance(oracle, str | Path) else None
    return json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}


def warn_of_fitted(oracles: Iterable[Any], votes: Sequence[Vote], file: str) -> None:
    """Warn of oracles that were fitted to the prompts of votes by whose labels they are now to be corrected or weighed.

    Args:
        oracles: their sources.
        votes: of the file.
        file: for the warning.
    """
    prompts = {vote.prompt for vote in votes}
    for oracle in oracles:
        if seen := fitted_to(oracle, prompts):
            logger.warning(
                "in-sample: %s was fitted to votes on %d of %s of %s, where it is right more often than elsewhere: "
                "give pairs on other prompts",
                oracle, len(seen), counted(len(prompts), "prompt"), file,
            )  # fmt: skip


def prompt_digest(prompt: str) -> str:
    """What the file of a fit has of a prompt in ``SEEN``.

    Example:
        >>> prompt_digest("Why?") == prompt_digest(" why? ")
        True
    """
    return blake2b(fold_key(prompt).encode(errors="surrogatepass"), digest_size=6).hexdigest()


def free_folder(folder: Path) -> Path:
    """The folder, or one beside it if it is not empty."""
    chosen, number = folder, 2
    while chosen.exists() and (chosen.is_file() or any(chosen.iterdir())):
        chosen, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return chosen


def _rebased(final: checkpoint.Member, member: checkpoint.Member) -> checkpoint.Member:
    """A member's low-rank changes relative to the final model: its own minus those of the final model."""
    rebased = dict(member)
    for name in final:
        if name.endswith(checkpoint.UP):
            down = name.removesuffix(checkpoint.UP) + checkpoint.DOWN
            rebased[name] = torch.cat([member[name], -final[name]], dim=1)
            rebased[down] = torch.cat([member[down], final[down]], dim=0)
    return rebased
