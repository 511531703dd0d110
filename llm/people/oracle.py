"""The oracle of a run that people vote for: at each step it waits for votes and is fitted to all that there are."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.games import PreferenceGame, nash
from nashward.games.shapes import Float

from ..config.oracle_fit import FitSettings, People
from ..oracles.fitting.examples import StatesOfRows
from ..oracles.fitting.fit import OracleFit, fit_oracle
from ..oracles.fitting.init import layout_of
from ..oracles.fitting.summary import score
from ..oracles.load import as_oracle
from ..oracles.matrices import preference_matrices
from ..oracles.protocol import Pairs, PreferenceOracle, StepwiseOracle
from ..store.files import atomic_folder, write_json
from ..store.run_folder import step_order
from .agreement import agreement, by_annotator
from .formats import read_cast_votes
from .store import CastVote, VoteStore

logger = logging.getLogger(__name__)

PREFIX = "people:"
INBOX = "inbox"  # files of votes that are dropped here are read
NEWEST = "newest.json"
WANTED = "wanted.json"  # what a run waits for, for the page
RECORD = "people.json"
STILL = 1.0  # seconds since the last write to a file in the inbox, before it is read
POLL = 1.0  # seconds between two looks at the votes
COMPARED = 64  # prompts on which the oracles before and after are compared
LEAST_ERROR = 0.2  # of a log-odds: folds that agree by chance are not certain


class PeopleOracle(StepwiseOracle):
    """People as an oracle: their votes in a folder, and at each step of a run an oracle that is fitted to all of them.

    Once a step has sampled, its responses are put up for votes, and the run waits until there are
    ``settings.votes`` new ones since the step before. It may be stopped and continued meanwhile. Votes come from
    ``nashward vote FOLDER``, from files in ``FOLDER/inbox`` and from programs that post them. The oracle is fitted by
    ``fit_oracle`` and kept in the step's folder with a record of the votes.

    Args:
        folder: of the votes; created where it is missing.
        settings: how many votes, and what is fitted.
        device: of the fit; None: "cuda" where there is one, else "cpu".
        seed: of the fit.

    Raises:
        ValueError, OSError: the folder holds something else, or the base cannot be found.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nashward.llm.pocket import POLICY
        >>> with TemporaryDirectory() as home:
        ...     oracle = PeopleOracle(home + "/team", People(base=POLICY))
        ...     oracle.name == f"people:{home}/team"
        True
    """

    def __init__(
        self, folder: str | Path, settings: People | None = None, *, device: str | None = None, seed: int = 0
    ) -> None:
        self.settings = settings or People()
        layout_of(self.settings.kind, self.settings.base, None)  # its own checks of the base
        self.folder, self.device, self.seed = Path(folder).expanduser().absolute(), device, seed
        with VoteStore(self.folder) as store:
            self._id = store.fact("id")
        self.name = f"{PREFIX}{self.folder}"
        self._at: tuple[Path, PreferenceOracle] | None = None
        self._states: StatesOfRows = {}  # of what earlier fits have read

    @property
    def identity(self) -> str:
        return f"people {self._id}"

    def cache_key(self) -> str | None:
        return None if self._newest() is None else self._last().cache_key()

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        """Those of the newest oracle that was fitted to the votes."""
        return self._last().raw_logits(prompts, candidates, pairs)

    def _newest(self) -> Path | None:
        file = self.folder / NEWEST
        return Path(json.loads(file.read_text(encoding="utf-8"))["oracle"]) if file.is_file() else None

    def _last(self) -> PreferenceOracle:
        newest = self._newest()
        if newest is None or not newest.is_dir():
            raise NashwardError(
                f"no oracle is fitted to the votes of {self.folder} yet, or it was moved: nashward align --oracle "
                f"{self.name} fits one at each step"
            )
        return self._loaded(newest)

    def _loaded(self, folder: Path) -> PreferenceOracle:
        if self._at is None or self._at[0] != folder:
            self._at = (folder, as_oracle(folder, device=self.device))
        return self._at[1]

    def at_step(
        self,
        folder: Path,
        responses: Callable[[], Iterable[tuple[str, str, Sequence[str]]]],
        pause: Callable[[float], None],
    ) -> PreferenceOracle:
        place = folder / "oracle"
        if not place.is_dir():
            with VoteStore(self.folder) as store:
                self._ask_and_fit(store, folder, place, list(responses()), pause)
        write_json(self.folder / NEWEST, {"oracle": str(place.resolve())})
        return self._loaded(place)

    def _ask_and_fit(
        self,
        store: VoteStore,
        folder: Path,
        place: Path,
        sampled: Sequence[tuple[str, str, Sequence[str]]],
        pause: Callable[[float], None],
    ) -> None:
        before, used = self._before(folder)
        texts: dict[str, dict[str, str]] = {}
        for prompt, source, own in sampled:
            texts.setdefault(prompt, {}).update({text: f"{folder.parent.name}/{source}" for text in own})
        for prompt, sources in texts.items():
            store.add_responses(prompt, list(sources), list(sources.values()))
        previous = None if before is None else as_oracle(before, device=self.device)
        if previous is not None:
            believe(store, previous, {prompt: list(sources) for prompt, sources in texts.items()})
        self._wait(store, folder, used, pause)
        votes = store.votes()
        with atomic_folder(place) as unfinished:
            fit = fit_oracle(
                [vote.as_vote() for vote in votes], self.settings.base, self.settings.kind, unfinished / "new",
                FitSettings(length=self.settings.length, weigh_annotators=self.settings.weigh, seed=self.seed),
                device=self.device, progress=False, known=self._states,
            )  # fmt: skip
            for file in sorted(fit.folder.iterdir()):
                file.rename(unfinished / file.name)
            fit.folder.rmdir()
            fitted = as_oracle(unfinished, device=self.device)
            changed = _changed(previous, fitted, [(prompt, list(own)) for prompt, own in texts.items()])
            write_json(unfinished / RECORD, record(votes, used, fit, changed))
        share = sum(vote.number > used for vote in votes)
        logger.info(
            "%s: fitted to %d votes (%d new) by %d people: held-out log-loss %.3f ± %.3f nats, a coin %.3f",
            folder.name, len(votes), share, len({vote.annotator for vote in votes}), fit.log_loss, fit.standard_error,
            fit.chance,
        )  # fmt: skip

    def _before(self, folder: Path) -> tuple[Path | None, int]:
        """The oracle of the step before, and the number of the newest vote that it was fitted to."""
        steps = [step for step in folder.parent.glob("iteration-*") if (step / "oracle" / RECORD).is_file()]
        earlier = [step for step in steps if step_order(step) < step_order(folder)]
        if not earlier:
            return None, 0
        newest = max(earlier, key=step_order) / "oracle"
        return newest, int(json.loads((newest / RECORD).read_text(encoding="utf-8"))["newest"])

    def _wait(self, store: VoteStore, folder: Path, used: int, pause: Callable[[float], None]) -> None:
        """Return when there are enough votes; what is missing is said once, and again as it comes in."""
        wanted, said = self.settings.votes, -1
        inbox = Inbox(store)
        write_json(self.folder / WANTED, {"votes": wanted, "after": used, "step": folder.name})
        while True:
            inbox.read()
            have = store.count(after=used)
            prompts = len({vote.prompt for vote in store.votes()}) if have >= wanted else 2
            if have >= wanted and prompts >= 2:  # a fit holds prompts out
                return
            if said < 0:
                more = "" if have < wanted else ", on at least 2 prompts"
                logger.warning(
                    "%s waits for votes: %d of %d are there%s. Open the page with: nashward vote %s  (Ctrl-C stops the "
                    "run, and the same command continues it)", folder.name, have, wanted, more, self.folder,
                )  # fmt: skip
            elif have != said:
                logger.info("%s: %d of %d votes", folder.name, have, wanted)
            said = have
            pause(POLL)


class Inbox:
    """The files of votes that are dropped into a folder's ``inbox``: they stay there, and count once.

    Args:
        store: of the folder.
    """

    def __init__(self, store: VoteStore) -> None:
        self.store, self._read = store, dict[Path, tuple[int, int]]()

    def read(self) -> int:
        """Read the files that are new or have changed, once nobody has written to them for a moment.

        Returns:
            How many votes are new.

        Raises:
            ValueError: a row that is wrong; the file is named, and not read again before it changes.
        """
        added = 0
        for file in sorted((self.store.folder / INBOX).glob("*")):
            if file.suffix not in (".jsonl", ".json", ".csv", ".parquet"):
                continue
            state = file.stat()
            seen = (state.st_size, state.st_mtime_ns)
            if self._read.get(file) != seen and time.time() - state.st_mtime >= STILL:
                self._read[file] = seen
                added += self.store.add_votes(read_cast_votes(file))
        return added


def believe(store: VoteStore, oracle: PreferenceOracle, texts: Mapping[str, Sequence[str]]) -> None:
    """Keep what an oracle says of the pairs of these responses, for the choice of the questions.

    The spread of an ensemble's folds, each fitted without a part of the votes, becomes a standard error by the
    delete-a-group jackknife; log-odds have it by the delta method.

    Args:
        store: has the responses.
        oracle: judges them.
        texts: the responses to each prompt.

    Source: Shao and Tu 1995, "The Jackknife and Bootstrap", for the jackknife.
    """
    prompts = list(texts)
    results = preference_matrices(oracle, prompts, [list(texts[prompt]) for prompt in prompts])
    tables = dict(zip(prompts, results, strict=True))
    places = {prompt: {text: k for k, text in enumerate(texts[prompt])} for prompt in prompts}
    members = len(getattr(oracle, "members", ()))
    jackknife = (members - 1) / members**0.5 if members > 1 else 1.0
    beliefs = []
    for pair, (prompt, a, b) in store.texts(row.id for row in store.pairs()).items():
        if prompt not in tables or a not in places[prompt] or b not in places[prompt]:
            continue
        i, j = places[prompt][a], places[prompt][b]
        p = float(np.clip(tables[prompt].P[i, j], 1e-6, 1 - 1e-6))
        if np.isnan(p):
            continue
        std = tables[prompt].std
        error = 1.0 if std is None else jackknife * float(std[i, j]) / (p * (1 - p))
        beliefs.append((pair, float(np.log(p / (1 - p))), max(LEAST_ERROR, error)))
    store.set_beliefs(beliefs)


def _changed(
    previous: PreferenceOracle | None, fitted: PreferenceOracle, texts: Sequence[tuple[str, list[str]]]
) -> dict[str, float | int] | None:
    """What the new votes changed, on the step's responses: win probabilities, winners and equilibria."""
    chosen = [(prompt, own) for prompt, own in texts if len(own) > 1][:COMPARED]
    if previous is None or not chosen:
        return None
    prompts, own = [prompt for prompt, _ in chosen], [texts for _, texts in chosen]
    before, after = (
        [result.P for result in preference_matrices(oracle, prompts, own)] for oracle in (previous, fitted)
    )
    moved = [np.abs(one - two)[np.triu_indices(len(one), 1)] for one, two in zip(before, after, strict=True)]
    turned = [
        ((one > 0.5) != (two > 0.5))[np.triu_indices(len(one), 1)] for one, two in zip(before, after, strict=True)
    ]
    policies = [[_nash(P) for P in tables] for tables in (before, after)]
    distance = [float(np.abs(one - two).sum()) / 2 for one, two in zip(*policies, strict=True)]
    return {
        "prompts": len(chosen),
        "pairs": sum(map(len, moved)),
        "win_probability": float(np.concatenate(moved).mean()),
        "winners": float(np.concatenate(turned).mean()),
        "equilibrium": float(np.mean(distance)),
    }


def _nash(P: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    return nash(PreferenceGame(P)).policy.numpy()


def record(votes: Sequence[CastVote], used: int, fit: OracleFit, changed: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the report shows of a step's votes and of the fit to them.

    Args:
        votes: all, in the order in which they arrived.
        used: the number of the newest vote that the step before had.
        fit: the oracle's.
        changed: what the new votes changed.
    """
    people = {name: dict(facts) for name, facts in by_annotator(votes).items()}
    for name, reliability in fit.annotators.items():
        people[name] |= {
            "as_predicted": reliability.agreement,
            "slope": reliability.slope,
            "slope_error": reliability.standard_error,
            "suspect": reliability.suspect,
        }
    random = [k for k, vote in enumerate(votes) if vote.why == "random"]
    of_random = None
    if random:
        wins = np.array([votes[k].as_vote().wins for k in random])
        own = score(fit.held_out[random], wins, np.ones(len(random)))
        of_random = {"votes": len(random), "log_loss": own.log_loss, "accuracy": own.accuracy}
    return {
        "votes": len(votes),
        "new": sum(vote.number > used for vote in votes),
        "newest": max(vote.number for vote in votes),
        "prompts": len({vote.prompt for vote in votes}),
        "held_out": {
            "log_loss": fit.log_loss,
            "error": fit.standard_error,
            "accuracy": fit.accuracy,
            "length": fit.length,
            "chance": fit.chance,
            "random": of_random,
        },
        "agreement": dataclasses.asdict(agreement(votes)),
        "people": people,
        "changed": changed,
    }


def wanted(store: VoteStore) -> tuple[int, int] | None:
    """How many votes a run waits for, and from which number of a vote on; None: no run has said so."""
    file = store.folder / WANTED
    if not file.is_file():
        return None
    row = json.loads(file.read_text(encoding="utf-8"))
    return int(row["votes"]), int(row["after"])
