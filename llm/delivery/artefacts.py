"""A policy of a run as a folder that other programs load: merged weights, or adapters; and its verification."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, GenerationConfig

from nashward.counted import counted
from nashward.errors import NashwardError

from ..policy.adapters.lora import interpolate
from ..policy.adapters.peft_format import CONFIG, WEIGHTS
from ..policy.base.checks import network_config
from ..policy.local.hub import fetch
from ..policy.local.names import local_model
from ..policy.mixture import Mixture
from ..run.selfplay import SelfPlay
from ..store.files import atomic_folder, write_json
from .merge import Into, load_adapted, load_merged, merged, quantised_layers, round_to_4_bits, stored_base, with_adapter
from .model_card import model_card
from .replay import Replay
from .verify import LIMIT, Drift, Reference, Verification, WinRateChange, reference, replayed

BASE = "base_model_name_or_path"  # in the configuration of an adapter
SHARD = "5GB"  # of merged weights, at most
RECORD, CARD, MIXTURE = "export.json", "README.md", "mixture.json"
TOKENIZER = (  # copied as they are
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """What is exported of a run.

    Attributes:
        run: a run with its folder and its policy's base.
        name: of the policy: start, iteration-03, mixture.
        policy: its adapters with their weights.
        merge: the weights to merge into; None: the adapters are exported as they are.
        interpolated: the adapters' updates are averaged into one, see ``adapters.lora.interpolate``.
        base_name: what the base is called in what is written; None: as the run calls it.

    Raises:
        NashwardError: several adapters that are to be merged without being interpolated.
    """

    run: SelfPlay
    name: str
    policy: Mixture
    merge: Into | None = None
    interpolated: bool = False
    base_name: str | None = None

    def __post_init__(self) -> None:
        if self.merge is not None and len(self.policy.members) > 1 and not self.interpolated:
            raise NashwardError(
                f"{self.name} is a mixture of {len(self.policy.members)} adapters, which no one network is; export "
                "them with --to adapter, choose one with --of, or average their weights with --interpolate"
            )

    @property
    def base(self) -> str:
        """Where the base is."""
        return str(self.run.policy)

    def write(self, folder: Path, quantised: list[str] | None) -> None:
        """Write the folder, with a model card and a record of what it is.

        Args:
            folder: a new one.
            quantised: the layers that the run has in 4 bits; None: not known, and looked up where they are needed.

        Raises:
            NashwardError: what ``merged`` and ``interpolate`` find.
            OSError: the folder cannot be written.
        """
        with atomic_folder(folder) as unfinished, TemporaryDirectory() as place:
            adapter = self._adapter(Path(place)) if self.interpolated or len(self.policy.members) == 1 else None
            if quantised is None and self.merge == "4-bit":
                quantised = quantised_layers(self.run.model.network)
            if self.merge is not None and adapter is not None:
                self._write_merged(unfinished, adapter, quantised or [])
            elif adapter is not None:
                self._copy(adapter, unfinished)
            else:
                members = []
                for number, (member, weight) in enumerate(self.policy.members):
                    own = unfinished / f"{number:02}-{member.parent.name}"
                    own.mkdir()
                    self._copy(member, own)
                    members.append((own, weight))
                Mixture(tuple(members)).save(unfinished / MIXTURE)
            (unfinished / CARD).write_text(model_card(self.run, self.name, self.base_name), encoding="utf-8")
            write_json(unfinished / RECORD, self._record())

    def _record(self) -> dict[str, Any]:
        return {
            "run": str(self.run.folder), "policy": self.name, "base": self.base_name or self.base,
            "adapters": [[str(folder), weight] for folder, weight in self.policy.members],
            "interpolated": self.interpolated, "merged_into": self.merge, "verification": None,
        }  # fmt: skip

    def _adapter(self, place: Path) -> Path:
        """The one adapter's folder: a member's own, or the average, which is written into ``place``."""
        if not self.interpolated:
            return self.policy.members[0][0]
        interpolate(self.policy.members, place / "adapter")
        return place / "adapter"

    def _copy(self, adapter: Path, folder: Path) -> None:
        shutil.copyfile(adapter / WEIGHTS, folder / WEIGHTS)
        config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
        config[BASE] = self._base_of(config)
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _base_of(self, config: Mapping[str, Any]) -> str:
        """What the base is called in the configuration of an adapter."""
        return str(self.base_name or config.get(BASE) or self.base)

    @property
    def local_base(self) -> Path | None:
        """The folder by which a written adapter names its base; None where it is given a name, or has one."""
        if self.base_name is not None:
            return None
        first, _ = self.policy.members[0]
        named = Path(self._base_of(json.loads((first / CONFIG).read_text(encoding="utf-8"))))
        return named if named.is_dir() else None

    def _write_merged(self, folder: Path, adapter: Path, quantised: list[str]) -> None:
        network = merged(self.base, adapter, self.merge or "16-bit", quantised)
        network.generation_config = GenerationConfig()  # that of the base is copied: transformers would change it
        network.save_pretrained(folder, max_shard_size=SHARD)
        (folder / "generation_config.json").unlink(missing_ok=True)
        source = Path(local_model(self.base))
        source = source if source.is_dir() else fetch(self.base, "config.json", TOKENIZER)
        for name in TOKENIZER:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        tokenizer = AutoTokenizer.from_pretrained(local_model(self.base), trust_remote_code=False)
        template = self.run.config.chat_template or tokenizer.chat_template
        copy = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if copy.chat_template != template:
            copy.chat_template = template
            copy.save_pretrained(folder)

    def verify(
        self, folder: Path, known: Reference, limit: float = LIMIT, progress: Callable[[str], object] = print
    ) -> Verdict:
        """Replay stored responses through a folder that ``write`` wrote, or that another program wrote.

        Args:
            folder: the artefact.
            known: what the run says of the responses, see ``reference`` below.
            limit: the most that the artefact may drift, in times of the base's own rounding.
            progress: called with a message before each stage.

        Raises:
            NashwardError: the folder holds no such artefact.
            OSError: its record cannot be written.
        """
        progress(f"replaying {counted(len(known.stored.texts), 'response')} through {folder}")
        with TemporaryDirectory() as place:
            adapters = [folder for folder, _ in self.policy.members]
            adapters = [self._adapter(Path(place))] if self.interpolated else adapters
            try:
                replay = self._replayed(folder, known)
            except SafetensorError as error:
                raise NashwardError(f"the weights in {folder} were altered or cut ({error}); export it anew") from None
            found = self._verification(known, replay, self.merge, adapters, limit)
            other = None
            if self.merge is not None and known.quantised:
                into: Into = "4-bit" if self.merge == "16-bit" else "16-bit"
                progress(f"the same merged into the {into} base, to compare")
                network = replayed([lambda: merged(self.base, adapters[0], into, known.quantised)], known.stored)
                other = self._verification(known, network, into, adapters, limit)
        stored = None
        if not (known.quantised or torch.cuda.is_available()):
            dtype = network_config(local_model(self.base)).dtype  # older configurations have none
            stored = str(dtype or "the type of the base").removeprefix("torch.")
        verdict = Verdict(found, self.merge, other, stored)
        record = _read_record(folder) or self._record()
        write_json(folder / RECORD, {**record, "verification": verdict.as_json()})
        return verdict

    def _replayed(self, folder: Path, known: Reference) -> Replay:
        if self.merge is not None:
            return replayed([lambda: load_merged(folder)], known.stored)
        members = [(folder, 1.0)]
        if (folder / MIXTURE).is_file():
            members = list(Mixture.load(folder / MIXTURE).members)
        networks = [lambda member=member: load_adapted(self.base, member) for member, _ in members]
        return replayed(networks, known.stored, [weight for _, weight in members])

    def _verification(
        self, known: Reference, artefact: Replay, into: Into | None, adapters: Sequence[Path], limit: float
    ) -> Verification:
        def base() -> Any:
            """The base as the artefact has it."""
            network = stored_base(self.base)
            if into == "4-bit":
                round_to_4_bits(network, known.quantised)
            return network

        unmerged = [lambda adapter=adapter: with_adapter(base(), adapter) for adapter in adapters]
        weights = [weight for _, weight in self.policy.members] if len(adapters) > 1 else [1.0]
        plain = replayed([base], known.stored)
        if known.quantised:
            rounding = Drift.between(known.base, plain)
        else:
            stored, exact = replayed([base], known.stored, arithmetic="stored"), plain
            if torch.cuda.is_available():  # on a CPU the run's own arithmetic is float32
                exact = replayed([base], known.stored, arithmetic="float32")
            rounding = Drift.between(exact, stored)
        return known.verification(artefact, plain, replayed(unmerged, known.stored, weights), rounding, limit)

    def reference(self, count: int, seed: int = 0) -> tuple[Reference, InterpolationCost | None]:
        """What the run says of stored responses, and what it costs to average the adapters, where that is done.

        Args:
            count: of responses at most.
            seed: of the draw of their prompts.

        Raises:
            NashwardError: the run has no judged responses.
        """
        if not self.interpolated:
            return reference(self.run, self.policy, count, seed), None
        mixture = reference(self.run, self.policy, count, seed)
        with TemporaryDirectory() as place:
            averaged = reference(self.run, Mixture(((self._adapter(Path(place)), 1.0),)), count, seed)
        apart = (averaged.policy.logprobs - mixture.policy.logprobs).abs()
        return averaged, InterpolationCost(float(apart.mean()), float(apart.max()), mixture.change(averaged.policy))


@dataclass(frozen=True)
class InterpolationCost:
    """How far the network with averaged weights is from the mixture of the policies.

    Attributes:
        mean: of |log q(y) - log p(y)| over stored responses, in nats.
        largest: of these.
        win_rate: of the averaged network, less the mixture's; None where it cannot be known.
    """

    mean: float
    largest: float
    win_rate: WinRateChange | None

    def __str__(self) -> str:
        return (
            f"averaging the weights is another policy than the mixture: {self.mean:.3g} nats per response on average, "
            f"{self.largest:.3g} at most; win rate {self.win_rate or 'not known'}"
        )


@dataclass(frozen=True)
class Verdict:
    """What a verification found.

    Attributes:
        found: of the artefact.
        merge: the weights that it was merged into; None for adapters.
        other: of a merge into the other weights, where the run had a base in 4 bits.
        stored: the type of the base's weights, and of the artefact's, where run and replays computed in float32.
    """

    found: Verification
    merge: Into | None = None
    other: Verification | None = None
    stored: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the artefact is the policy of the run."""
        return not self.found.failures

    @property
    def lines(self) -> list[str]:
        """For a reader."""
        lines = list(self.found.lines)
        if self.stored is not None and self.found.base.mean > 0:
            lines.append(
                f"  the weights lie in {self.stored}; the run computed in float32, and so did this comparison: load "
                f'them with dtype="float32". dtype="auto" computes in {self.stored}, which moves a response by as much '
                f"as the base's own rounding, {self.found.base.mean:.3g} nats: greedy answers may differ"
            )
        if self.other is not None:
            into = "4-bit" if self.merge == "16-bit" else "16-bit"
            nearer = into if self.other.drift.mean < self.found.drift.mean else self.merge
            lines += [
                f"merged into the {into} base it would drift by {self.other.drift.mean:.4g} nats per response on "
                f"average (greedy tokens {100 * self.other.drift.greedy:.2f}%, win rate "
                f"{self.other.win_rate or 'not known'})",
                f"nearer to the policy that was trained: the merge into the {nearer} base"
                + (f" (--merge-into {nearer})" if nearer != self.merge else ""),
            ]
        return lines

    def as_json(self) -> dict[str, Any]:
        """As ``export.json`` holds it."""
        return {
            **self.found.as_json(), "other_merge": None if self.other is None else self.other.as_json()
        }  # fmt: skip


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
