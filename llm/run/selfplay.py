"""``SelfPlay``: any mirror-step solver of ``nashward.games``, played by a language model against itself."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nashward.console import console_log
from nashward.errors import NashwardError
from nashward.games import Policy, Step
from nashward.games.driver import drive
from nashward.games.policy import Blend

from ..data.prompts import Prompts
from ..planner.rounding import MUCH, rounding
from ..policy.mixture import Mixture
from ..policy.model import LanguageModel
from ..processes import Interrupted, processes
from ..store.files import read_jsonl, write_json
from ..store.run_folder import METRICS, RunFolder, Stage, is_half
from .executor import AdapterExecutor
from .progress import Progress, Stopped
from .run_setup import RunSetup
from .stages.sample import source_of
from .step_control import controlled
from .step_tables import TablesAhead

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run, finished or stopped after a stage.

    Attributes:
        folder: the run folder.
        last: the folder of the last iterate's adapter (the start's, where no iterate is finished).
        average: the mixture of the policies that were played, in the weights of their average.
        metrics: one summary per iterate or half step, as in its ``metrics.jsonl``.
        prompts: what was read, kept and dropped.
        stopped: the stage after which the run stopped; None where it went on to its end.
        interrupted: whether ``stop`` was set while it played.
    """

    folder: Path
    last: Path
    average: Mixture
    metrics: list[dict[str, Any]]
    prompts: Prompts
    stopped: str | None = None
    interrupted: bool = False


class SelfPlay(RunSetup):
    """Self-play of a language model under a preference oracle.

    .. math::  \\log \\pi_{t+1}(y | x) = \\sum_k w_k \\log \\pi_k(y | x) + s \\sum_j c_j P(y \\succ \\rho_j | x) + c(x)

    Each Step (w, c, s) of the solver becomes: K responses per prompt from each opponent rho_j, their tables ``[K, K]``
    of win probabilities from the oracle, and a regression of an adapter onto the Step (see ``AdapterExecutor``).
    Everything is written into a run folder; the same settings on the same folder continue it.

    Args:
        policy: a folder or hub id of a chat model, what else ``local_model`` takes, or a loaded ``LanguageModel``; None
            while no stage needs it.
        oracle: any ``PreferenceOracle``, a folder or hub id of one, or what else ``oracles.as_oracle`` takes, as
            reward functions and judges are; None while no stage needs it.
        solver: an object with ``play(x, reference)`` that yields Steps.
        prompts: a file, a dataset id, or rows; see ``read_prompts``. None: those in the folder.
        folder: the run folder.
        opponents: the stored responses of other models, by the names that the solver plays against
            (``games.FixedOpponents`` plays any solver against some); each a file, a dataset id, rows, or a model behind
            a server (``EndpointResponses``), see ``StoredOpponents``. None in place of a source: those in the folder.
        sft: prompts with responses whose likelihood is kept up beside (``Fit.sft_weight``) and measured; a file, a
            dataset id or rows, see ``SFTFile``. None: those in the folder, if any.
        adapter: a LoRA folder or id that the run starts from and stays near.
        source: where responses come from; None: transformers' ``generate`` with ``config.sampling``.
        label: returns the kind of a response's text (None: no kind); the shares of the kinds enter the metrics.
        config: all other settings.

    Raises:
        ValueError, FileNotFoundError: from ``check``, before anything is written.

    Source: with plain multiplicative weights and the loss "sppo" it is SPPO, arXiv 2405.00675, algorithm 1.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nashward import games, llm
        >>> config = llm.RunConfig(iterations=1, responses=2, sampling=llm.Sampling(max_new_tokens=8))
        >>> with TemporaryDirectory() as folder:
        ...     run = llm.SelfPlay(
        ...         policy=llm.pocket.POLICY, oracle=llm.pocket.PAIRRM, solver=games.solvers.SOLVERS[0](),
        ...         prompts=["Name a river.", "Name a tree."], folder=folder, config=config,
        ...     ).run(progress=False)
        >>> run.metrics[-1]["iteration"], str(run.prompts)
        ('iteration-01', '2 prompts read, 2 kept, 0 dropped')
    """

    def run(
        self,
        until: Stage | None = None,
        redo: Stage | None = None,
        stop: threading.Event | None = None,
        progress: bool = True,
        on_step: Callable[[], object] = lambda: None,
    ) -> Run:
        """Play.

        Args:
            until: the stage of the first unfinished Step after which to stop: "sample", "judge" or "train".
            redo: repeat the newest Step from this stage on; its files are set aside, earlier Steps stay. Judgements
                that are cached are taken from the cache. From "train" on, the settings of the fit may be others than
                those that the run was begun with: another learning rate on the same judged responses.
            stop: when it is set, from another thread or by a signal, the run stops as soon as it can be continued:
                after a shard, or in training after an optimiser step.
            progress: False: no bars, and nothing is printed but warnings.
            on_step: called after each Step, once its adapter and its metrics are in the folder.

        Raises:
            ValueError: what ``check`` finds, or another process is playing in the folder.
            OSError: the folder cannot be written, or the disk is full; the run can be continued.
        """
        home = RunFolder(self.folder)
        prompts = self.check(until, redo)
        if left := len(self._sft.texts) - len(self._texts) if self._texts else 0:
            logger.warning(
                "%d of %d SFT texts are longer than the run's longest and are left out", left, left + len(self._texts)
            )
        if until in (None, "sample") and (beyond := self.beyond_context(prompts)):
            logger.warning(beyond)
        with console_log(quiet=not progress, silent=not processes.main), home.lock():
            processes.decided(lambda: self._begin(home, prompts, redo))
            return self._play(home, prompts, until, stop, progress, on_step)

    def _begin(self, home: RunFolder, prompts: Prompts, redo: Stage | None) -> None:
        # first what is made again, then the settings: so no kill leaves an adapter with settings that are not its own
        if redo is not None and home.redo(redo, dataclasses.asdict(self.config.fit)) is None:
            raise NashwardError(f"{home.path} holds no step yet that could be redone; leave --from out")
        self.write(home, prompts, redo)

    def _play(
        self,
        home: RunFolder,
        prompts: Prompts,
        until: Stage | None,
        stop: threading.Event | None,
        progress: bool,
        on_step: Callable[[], object],
    ) -> Run:
        config = self.planned_config
        source = self.source or source_of(self.config, config.sampling, home.path, self._vllm)
        opponents = {name: Policy(member, name) for name, member in self._opponents.members(home, prompts.kept).items()}
        executor = AdapterExecutor(
            home, prompts.kept, [self._prompts.length(prompt) for prompt in prompts.kept],
            config, source, lambda: self.model, lambda: self.judge,
            Progress(home, config.iterations, stop, quiet=not progress), until, self.label, self._texts,
            self.combination, TablesAhead(home, self.solver, config, opponents, self.combination is not None),
        )  # fmt: skip
        fresh = processes.decided(lambda: not home.computed)
        start = executor.start(self.adapter)
        if fresh and self.quantise and not isinstance(self.policy, LanguageModel):
            self._measure_rounding(executor, prompts)
        played: list[Blend] = []
        iterates: list[Policy] = [start]

        def record(step: Step, policy: Policy) -> bool:
            if isinstance(step.averaged, Blend):
                played.append(step.averaged)
            if step.is_iterate:
                iterates.append(policy)
            on_step()
            return executor.stopped is not None

        stopped, interrupted = None, False
        try:
            solver = controlled(self.solver, config, home)
            drive(solver, start, start, executor.execute, record, config.iterations, opponents)
        except (Stopped, Interrupted) as stage:
            stopped, interrupted = str(stage), isinstance(stage, Interrupted)
        finally:
            executor.detach()
            if processes.count == 1:  # several can each be stopped until they have left: the others may be dead
                processes.stop = None
        stopped = stopped or executor.stopped
        average = sum(played[1:], played[0]) / len(played) if played else Blend({start: 1.0})
        mixture = Mixture(tuple((policy.value.folder, weight) for policy, weight in average))
        if processes.main:  # not decided: one that is interrupted waits for nobody
            mixture.save(home / "mixture.json")
            write_json(
                home / "last.json",
                {"adapter": str(iterates[-1].value.folder.relative_to(home.path)), "iterates": len(iterates) - 1},
            )
        return Run(home.path, iterates[-1].value.folder, mixture, metrics(home.path), prompts, stopped, interrupted)

    def _measure_rounding(self, executor: AdapterExecutor, prompts: Prompts) -> None:
        """Say, and record, what 4 bits change of the base."""
        assert isinstance(self.policy, str | Path)
        policy, prompt_ids = self.policy, map(self.model.encode, prompts.kept)
        found = processes.decided(lambda: rounding(self.model, policy, prompt_ids, self.config.seed))
        if found is None or not processes.main:
            return
        executor.progress.on_event({"rounding": dataclasses.asdict(found), "at": "start"})
        if found.kl > MUCH:
            logger.warning(f"{found}: more than a step moves a response; take --no-quantise where memory allows")
        else:
            executor.progress.info(str(found))


def metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of a run's iterates and half steps, in order."""
    steps = RunFolder(folder).steps()
    return [row for step in steps for row in read_jsonl(step / METRICS) if "iteration" in row]


def kl_to_start(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float | None, float | None]]:
    """KL(policy || policy that the run started from) of iterates and half steps, in nats per response, with its
    standard
    error: as its own fit estimated it, or, where it went too far for that, the next one that drew its responses.

    Args:
        rows: those of ``metrics``.

    Returns:
        by the name of the policy; None: not known.
    """
    found = {}
    for k, row in enumerate(rows):
        began = ((max(later["anchor"], key=later["anchor"].get), later["before"]) for later in rows[k + 1 :])
        estimates = [row["after"], *(before for name, before in began if name == row["iteration"])]
        known: Mapping[str, Any] = next((one for one in estimates if one["kl_to_reference"] is not None), {})
        found[row["iteration"]] = (known.get("kl_to_reference"), known.get("kl_to_reference_error"))
    return found


def iterates(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of a run's iterates, without the half steps."""
    return [row for row in metrics(folder) if not is_half(row["iteration"])]
