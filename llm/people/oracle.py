"""The oracle of a run that people vote for: at each step it waits for votes and is fitted to all that there are."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nashward.errors import NashwardError

from ..config.inputs import PEOPLE
from ..config.oracle_fit import FitSettings
from ..config.people import People
from ..oracles.fitting.examples import StatesOfRows
from ..oracles.fitting.fit import fit_oracle
from ..oracles.fitting.init import find_base, layout_of
from ..oracles.load import as_oracle
from ..oracles.matrices import preference_matrices
from ..oracles.protocol import Pairs, PreferenceOracle, SampledTexts, StepwiseOracle
from ..report.people import RECORD
from ..store.files import atomic_folder, write_json
from ..store.run_folder import RunFolder, step_order
from .inbox import Inbox
from .questions import drawn_by
from .step_record import record, what_changed
from .store import VoteStore

logger = logging.getLogger(__name__)

NEWEST = "newest.json"
POLL = 1.0  # seconds between two looks at the votes
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
        find_base(self.settings.base, "--people-base")
        layout_of(self.settings.kind, self.settings.base, None)  # its own checks of the base
        self.folder, self.device, self.seed = Path(folder).expanduser().absolute(), device, seed
        with VoteStore(self.folder) as store:
            self._id = store.fact("id")
        self.name = f"{PEOPLE}{self.folder}"
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
        self, folder: Path, responses: Callable[[], SampledTexts], pause: Callable[[float], None]
    ) -> PreferenceOracle:
        place = folder / "oracle"
        if not place.is_dir():
            with VoteStore(self.folder) as store:
                self._collect_and_fit(store, folder, place, responses(), pause)
        write_json(self.folder / NEWEST, {"oracle": str(place.resolve())})
        return self._loaded(place)

    def _collect_and_fit(
        self,
        store: VoteStore,
        folder: Path,
        place: Path,
        sampled: SampledTexts,
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
            update_beliefs(store, previous, {prompt: list(sources) for prompt, sources in texts.items()}, used)
        drawn = drawn_by(RunFolder(folder.parent)) | {(prompt, text) for prompt, own in texts.items() for text in own}
        store.set_target(self.settings.votes, used, drawn)
        self._wait(store, folder, used, pause)
        votes = store.votes()
        with atomic_folder(place) as unfinished:
            fit = fit_oracle(
                [vote.as_vote() for vote in votes], self.settings.base, self.settings.kind, unfinished,
                FitSettings(length=self.settings.length, weigh_annotators=self.settings.weigh, seed=self.seed),
                device=self.device, progress=False, known=self._states,
            )  # fmt: skip
            fitted = as_oracle(unfinished, device=self.device)
            changed = what_changed(previous, fitted, [(prompt, list(own)) for prompt, own in texts.items()])
            facts = record(votes, used, fit, changed, drawn)
            write_json(unfinished / RECORD, facts)
        logger.info(
            "%s: fitted to %d votes (%d new%s) by %d people: held-out log-loss %.3f ± %.3f nats, a coin %.3f",
            folder.name, len(votes), facts["new"], _on_run(facts["on_run"], facts["new"]),
            len({vote.annotator for vote in votes}), fit.log_loss, fit.standard_error, fit.chance,
        )  # fmt: skip

    def _before(self, folder: Path) -> tuple[Path | None, int]:
        """The oracle of the step before, and the number of the newest vote that it was fitted to."""
        steps = RunFolder(folder.parent).steps()
        earlier = [step for step in steps if step_order(step) < step_order(folder)]
        oracles = [step / "oracle" for step in earlier if (step / "oracle" / RECORD).is_file()]
        if not oracles:
            return None, 0
        newest = oracles[-1]
        return newest, int(json.loads((newest / RECORD).read_text(encoding="utf-8"))["newest"])

    def _wait(self, store: VoteStore, folder: Path, used: int, pause: Callable[[float], None]) -> None:
        """Return when there are enough votes; what is missing is logged once, and again as it comes in."""
        target, inbox = self.settings.votes, Inbox(store)
        logged: int | None = None
        while True:
            inbox.read()
            have, own = store.count(after=used), store.count(after=used, drawn=True)
            if have >= target and len({vote.prompt for vote in store.votes()}) >= 2:  # a fit holds prompts out
                return
            if logged is None:
                more = "" if have < target else ", on at least 2 prompts"
                logger.warning(
                    "%s waits for votes: %d of %d are there%s%s. Open the page with: nashward vote %s  (Ctrl-C stops "
                    "the run, and the same command continues it)",
                    folder.name, have, target, _on_run(own, have), more, self.folder,
                )  # fmt: skip
            elif have != logged:
                logger.info("%s: %d of %d votes%s", folder.name, have, target, _on_run(own, have))
            logged = have
            pause(POLL)


def _on_run(own: int, new: int) -> str:
    """How many of the new votes are on the run's responses, where not all are."""
    return "" if own == new else f", {own} of them on responses of this run"


def update_beliefs(
    store: VoteStore, oracle: PreferenceOracle, texts: Mapping[str, Sequence[str]], fitted: int = 0
) -> None:
    """Keep what an oracle says of the pairs of these responses, for the choice of the questions.

    The spread of an ensemble becomes a standard error by its ``error_factor``; log-odds have it by the delta method.

    Args:
        store: has the responses.
        oracle: judges them.
        texts: the responses to each prompt.
        fitted: the number of the newest of the store's votes that the oracle was fitted to.

    Source: Shao and Tu 1995, "The Jackknife and Bootstrap", for the jackknife.
    """
    prompts = list(texts)
    results = preference_matrices(oracle, prompts, [list(texts[prompt]) for prompt in prompts])
    tables = dict(zip(prompts, results, strict=True))
    places = {prompt: {text: k for k, text in enumerate(texts[prompt])} for prompt in prompts}
    beliefs = []
    for pair, (prompt, a, b) in store.texts(row.id for row in store.pairs()).items():
        if prompt not in tables or a not in places[prompt] or b not in places[prompt]:
            continue
        i, j = places[prompt][a], places[prompt][b]
        p = float(np.clip(tables[prompt].P[i, j], 1e-6, 1 - 1e-6))
        if np.isnan(p):
            continue
        error, std, members = 1.0, tables[prompt].std, tables[prompt].members
        if std is not None and members is not None:
            error = oracle.error_factor(len(members)) * float(std[i, j]) / (p * (1 - p))
        beliefs.append((pair, float(np.log(p / (1 - p))), max(LEAST_ERROR, error)))
    store.set_beliefs(beliefs, fitted)
