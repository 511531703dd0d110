"""Who plays: the policies of a run, whose responses are drawn once and kept beside it, and other models' responses."""

from __future__ import annotations

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
from ..policy.mixture import Mixture
from ..policy.model import LanguageModel
from ..policy.sampling import Source, seed_of
from ..run.inputs.opponents import StoredOpponents
from ..store.files import CHECKSUMS, read_shard, shards, verify_checksums, write_shard
from ..store.fingerprints import fingerprint
from ..store.run_folder import RunFolder

START, MIXTURE = "start", "mixture"
FOLDER = "evaluation"  # of all that is drawn and judged after a run
PART = 256  # prompts whose responses are drawn and kept together: what a kill costs at most


def policies(home: RunFolder) -> dict[str, Mixture]:
    """The start, the finished iterates in their order, and the mixture where the run has written one of several.

    Raises:
        ValueError: the start is not there yet, or an adapter is not as it was written.
    """
    if not (home / START / "adapter").exists():
        raise NashwardError(f"{home.path} has no policy yet: its run has not begun")
    found = {folder.parent.name: folder for folder in mixture.adapter_folders([home.path])}
    for folder in found.values():
        verify_checksums(folder)
    pure = {name: Mixture(((folder, 1.0),)) for name, folder in found.items()}
    if (home / "mixture.json").exists():
        several = Mixture.load(home / "mixture.json")
        if len(several.members) > 1:
            return {**pure, MIXTURE: several}
    return pure


def answers(
    home: RunFolder,
    players: Mapping[str, Mixture],
    model: Callable[[], LanguageModel],
    prompts: Sequence[Prompt],
    count: int,
    source: Source | Sampling,
    seed: int,
    progress: Callable[[str], object] = lambda what: None,
) -> dict[str, list[list[Response]]]:
    """``count`` responses of each player to each prompt; those that the folder has already are not drawn again.

    What was drawn is told from all else by the adapters' checksums, the prompts, the sampler and the seed. All players
    get the same random numbers: equal policies give equal responses, and their win rate is 1/2 exactly.
    """
    return {name: _of(home, name, player, model, prompts, count, source, seed, progress)
            for name, player in players.items()}  # fmt: skip


def digest(player: Mixture, prompts: Sequence[Prompt], count: int, source: Source | Sampling, seed: int) -> str:
    """What tells the responses from others that a policy of this name may have given."""
    members = [[_sums(folder), weight] for folder, weight in player.members]
    key = json.dumps([members, [prompt.id for prompt in prompts], count, repr(source), seed])
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def told(
    home: RunFolder, given: Mapping[str, Any], tokenizer: Any, prompts: Sequence[Prompt], column: str | None = None
) -> dict[str, list[Response]]:
    """The first response of each given model to each prompt, found by the prompt (``StoredOpponents`` reads them).

    Its tokens are those of the run's policy, with the stop token that a finished response of that one has.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read, or a model that lacks a prompt: all players answer the same ones.
    """
    stop = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def answer(text: str) -> Response:
        return Response([*tokenizer(text, add_special_tokens=False)["input_ids"], *stop], True, text)

    members = StoredOpponents(given, column).members(home, prompts)
    return {name: [answer(one.texts[prompt.id][0]) for prompt in prompts] for name, one in members.items()}


def _of(
    home: RunFolder,
    name: str,
    player: Mixture,
    model: Callable[[], LanguageModel],
    prompts: Sequence[Prompt],
    count: int,
    source: Source | Sampling,
    seed: int,
    progress: Callable[[str], object],
) -> list[list[Response]]:
    folder, label = home / FOLDER / "responses", f"{name}-{digest(player, prompts, count, source, seed)}"
    found: list[list[Response]] = []
    for number, start in enumerate(range(0, len(prompts), PART)):
        part = prompts[start : start + PART]
        rows = _kept(folder, label, number)
        if rows is None:
            progress(f"sampling {name}: {len(part)} x {count}")
            loaded = model()
            own = seed if number == 0 else seed_of(seed, "part", number)
            drawn = player.sample(loaded, [loaded.encode(prompt) for prompt in part], count, source, own)
            rows = [
                {"prompt": prompt.id, "ids": one.ids, "finished": one.finished, "text": one.text}
                for prompt, row in zip(part, drawn, strict=True)
                for one in row
            ]
            write_shard(folder, label, number, rows)
        flat = [Response(row["ids"], row["finished"], row["text"]) for row in rows]
        found += [flat[k : k + count] for k in range(0, len(flat), count)]
    return found


def _sums(adapter: Path) -> str:
    """What tells an adapter from others: its checksums, or what it holds where it was not made here."""
    sealed = adapter / CHECKSUMS
    return sealed.read_text(encoding="utf-8") if sealed.exists() else fingerprint(adapter)


def _kept(folder: Path, label: str, number: int) -> list[dict[str, Any]] | None:
    """The rows of a part; None where it is not there, or is damaged: it is drawn again, to the same responses."""
    for file in shards(folder, label, number):
        try:
            return read_shard(file)
        except CorruptFileError:
            file.unlink()
    return None
