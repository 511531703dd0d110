"""The players of an evaluation: the policies of a run, whose responses are sampled and stored, and other models."""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nashward.errors import CorruptFileError, NashwardError

from ..config.sampling import Sampling
from ..data.prompts import Prompt
from ..data.rollouts import Response
from ..policy import mixture
from ..policy.adapters.lora import slots_for
from ..policy.adapters.peft_format import WEIGHTS
from ..policy.control_tokens import text_ids
from ..policy.mixture import Mixture
from ..policy.model import LanguageModel
from ..policy.sampling import ResponseSource, seed_of
from ..processes import processes
from ..run.inputs.opponents import StoredOpponents
from ..run.remaining import Remaining
from ..run.selfplay import SelfPlay
from ..run.stages.shards import wait_for_shards
from ..store.files import CHECKSUMS, read_shard, shards, verify_checksums, write_shard
from ..store.fingerprints import fingerprint
from ..store.run_folder import RunFolder

START, MIXTURE = "start", "mixture"
TRAINING = "training"  # the run's own oracle, among those that judge
EVALUATION = "evaluation.json"
FOLDER = "evaluation"  # in the run folder: responses and judgements of evaluations
SHARD_PROMPTS = 256  # prompts whose responses are sampled and stored together: the most that a kill loses


def policies(home: RunFolder) -> dict[str, Mixture]:
    """The policies of a run: the start, the finished iterates in order, and the mixture if it has several members.

    Args:
        home: the run folder.

    Returns:
        the policies by name, pure ones as mixtures of one member.

    Raises:
        ValueError: the run has no start adapter yet, or an adapter fails its checksums.
    """
    if not (home / START / "adapter").exists():
        raise NashwardError(f"{home.path} has no policy yet: its run has not begun")
    pure = {}
    for folder in mixture.adapter_folders([home.path]):
        verify_checksums(folder)
        pure[folder.parent.name] = Mixture(((folder, 1.0),))
    if (home / "mixture.json").exists():
        average = Mixture.load(home / "mixture.json")
        if len(average.members) > 1:
            return {**pure, MIXTURE: average}
    return pure


def compared_policies(home: RunFolder) -> dict[str, Mixture]:
    """``policies`` of a run with something to compare with its start.

    Raises:
        ValueError: as ``policies``, or the run has no finished iterate.
    """
    players = policies(home)
    if len(players) < 2:
        raise NashwardError(f"{home.path} has finished no iterate yet: there is nothing to compare with its start")
    return players


def is_start(home: RunFolder, adapter: Path) -> bool:
    """Whether an adapter of a run is its start's, as after fits that gained nothing; False where one cannot be read."""
    start, own = home / START / "adapter" / WEIGHTS, adapter / WEIGHTS
    return start.is_file() and own.is_file() and filecmp.cmp(start, own, shallow=False)


def sample_responses(
    home: RunFolder,
    players: Mapping[str, Mixture],
    model: Callable[[], LanguageModel],
    prompts: Sequence[Prompt],
    count: int,
    source: ResponseSource | Sampling,
    seed: int,
    progress: Callable[[str], object] = lambda message: None,
    remaining: Remaining | None = None,
    common: bool = False,
) -> dict[str, list[list[Response]]]:
    """``count`` responses of each player to each prompt; stored responses are read, not sampled again.

    Stored responses are identified by the checksums of the adapters, the prompts, the sampler and the seed. Players
    draw independently of each other, as a win rate needs: with random numbers in common the responses of like policies
    go together. Equal policies draw the same, so that neither wins. Where only means are compared, random numbers in
    common (``common``) make the errors of their differences smaller. Several processes divide the shards of all
    players.

    Args:
        home: the run folder.
        players: the policies by name.
        model: returns the model; called only when responses are sampled.
        prompts: N prompts.
        count: K, the responses to each prompt.
        source: the sampler or its settings.
        seed: of the sampler for the first player; those of the others follow from it and from their names.
        progress: called with a message before responses are sampled, which says the time left once that is known.
        remaining: of more calls than this one, in responses; None: of this call.
        common: whether all players have random numbers in common; what judges pairs is then biased.

    Returns:
        for each player N rows of K responses.

    See also:
        ``stored_responses``: of other models.
    """
    folder = home / FOLDER / "responses"
    seeds = dict.fromkeys(players, seed) if common else _seeds(home, players, seed)
    labels = {name: f"{name}-{digest(player, prompts, count, source, seeds[name])}" for name, player in players.items()}
    starts = range(0, len(prompts), SHARD_PROMPTS)

    def lacking() -> list[tuple[str, int]]:
        numbers = [(name, number) for name in labels for number in range(len(starts))]
        return [(name, number) for name, number in numbers if _stored_rows(folder, labels[name], number) is None]

    missing = processes.decided(lacking)
    every = count * len(prompts) * len(labels)
    remaining = Remaining(every) if remaining is None else remaining
    remaining.skip(every - sum(count * len(prompts[starts[number] :][:SHARD_PROMPTS]) for _, number in missing))
    for name, number in processes.share(missing):
        part = prompts[starts[number] : starts[number] + SHARD_PROMPTS]
        left = f"; sampling: {remaining.text}" if remaining.text else ""
        progress(f"sampling {name}: {len(part)} x {count}{left}")
        shard_seed = seeds[name] if number == 0 else seed_of(seeds[name], "part", number)
        loaded = model()
        with remaining.timed(count * len(part)):
            rows = _sampled_rows(players[name], loaded, part, count, source, shard_seed)
        write_shard(folder, labels[name], number, rows)
    processes.gather(None)
    found: dict[str, list[list[Response]]] = {}
    for name, label in labels.items():
        wait_for_shards(folder, label, range(len(starts)))
        rows = [row for file in shards(folder, label) for row in read_shard(file)]
        flat = [Response(row["ids"], row["finished"], row["text"]) for row in rows]
        found[name] = [flat[k : k + count] for k in range(0, len(flat), count)]
    return found


def digest(player: Mixture, prompts: Sequence[Prompt], count: int, source: ResponseSource | Sampling, seed: int) -> str:
    """The identity of sampled responses: a hash of the policy, the prompts, the count, the sampler and the seed."""
    key = json.dumps([_members(player), [prompt.id for prompt in prompts], count, repr(source), seed])
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def stored_responses(
    home: RunFolder, sources: Mapping[str, Any], tokenizer: Any, prompts: Sequence[Prompt], column: str | None = None
) -> dict[str, list[Response]]:
    """The first stored response of each model to each prompt, looked up by prompt (see ``StoredOpponents``).

    The token ids are of the tokenizer of the run's policy, followed by its stop token as in a finished response.

    Args:
        home: the run folder.
        sources: for each model a file, a dataset id or rows.
        tokenizer: that of the run's policy.
        prompts: N prompts.
        column: the column of the prompts; None: the default one.

    Returns:
        for each model N responses.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a source cannot be read, or a model lacks a response to one of the prompts.

    See also:
        ``sample_responses``: of the policies of a run.
    """
    stop = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def response(text: str) -> Response:
        return Response([*text_ids(tokenizer, text), *stop], True, text)

    members = StoredOpponents(sources, column).members(home, prompts)
    return {name: [response(member.texts[prompt.id][0]) for prompt in prompts] for name, member in members.items()}


def with_room(run: SelfPlay, players: Mapping[str, Mixture], others: Mapping[str, Mixture]) -> SelfPlay:
    """The run with the LoRA rank and layers that hold all adapters; raises for adapters that the model cannot load."""
    if not others:
        return run
    loaded = run.policy if isinstance(run.policy, LanguageModel) else None
    for player in others.values():
        player.check(str(run.policy) if loaded is None else loaded.name)
    adapters = [folder for player in [*players.values(), *others.values()] for folder, _ in player.members]
    if loaded is None:
        return dataclasses.replace(run, adapter=None, config=dataclasses.replace(run.config, lora=slots_for(adapters)))
    for adapter in adapters:
        loaded.check_room(adapter)
    return run


def _sampled_rows(
    player: Mixture,
    model: LanguageModel,
    prompts: Sequence[Prompt],
    count: int,
    source: ResponseSource | Sampling,
    seed: int,
) -> list[dict[str, Any]]:
    """The rows of a shard."""
    sampled = player.sample(model, [model.encode(prompt) for prompt in prompts], count, source, seed)
    return [
        {"prompt": prompt.id, "ids": response.ids, "finished": response.finished, "text": response.text}
        for prompt, row in zip(prompts, sampled, strict=True)
        for response in row
    ]


def identity(player: Mixture) -> str:
    """What tells a policy from another one of the same name: a hash of its adapters and weights."""
    return hashlib.sha256(json.dumps(_members(player)).encode()).hexdigest()[:12]


def remade(home: RunFolder, measured: Mapping[str, str]) -> list[str]:
    """The policies of a run that are others now than those of that name and identity, which something was measured of:
    a step was made again, the mixture has more members, or there is none that can be read. Weights are not read."""

    def now(name: str) -> str | None:
        adapter = home / name / "adapter"
        try:
            return identity(Mixture.load(home / "mixture.json") if name == MIXTURE else Mixture(((adapter, 1.0),)))
        except (OSError, ValueError):
            return None

    return [name for name, before in measured.items() if now(name) != before]


def _seeds(home: RunFolder, players: Mapping[str, Mixture], seed: int) -> dict[str, int]:
    """The sampler's seed of each player, which equal policies share."""
    first: dict[frozenset[tuple[str, float]], int] = {}
    seeds: dict[str, int] = {}
    for name, player in players.items():
        weights: dict[str, float] = {}
        for adapter, weight in player.members:
            key = START if is_start(home, adapter) else _adapter_identity(adapter)
            weights[key] = weights.get(key, 0.0) + weight
        own = seed_of(seed, "player", name) if seeds else seed
        seeds[name] = first.setdefault(frozenset(weights.items()), own)
    return seeds


def _members(player: Mixture) -> list[list[Any]]:
    return [[_adapter_identity(folder), weight] for folder, weight in player.members]


def _adapter_identity(adapter: Path) -> str:
    """The checksums of an adapter; the fingerprint of its files where a run did not write it."""
    checksums = adapter / CHECKSUMS
    return checksums.read_text(encoding="utf-8") if checksums.exists() else fingerprint(adapter)


def _stored_rows(folder: Path, label: str, number: int) -> list[dict[str, Any]] | None:
    """The rows of a shard; None where it is missing, or damaged and then deleted: sampling gives the same again."""
    for file in shards(folder, label, number):
        try:
            return read_shard(file)
        except CorruptFileError:
            file.unlink()
    return None
