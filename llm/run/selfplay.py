"""``SelfPlay``: any mirror-step solver of ``nashward.games``, played by a language model against itself."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError
from nashward.games import Policy, Solver, Step
from nashward.games.driver import check_solver, drive
from nashward.games.opponents import resolve
from nashward.games.policy import Blend

from ..data.prompts import Prompt, Prompts
from ..oracles import Cache, PreferenceOracle, as_oracle, check_source
from ..oracles.load import ACCEPTED
from ..oracles.models.network import NetworkOracle
from ..planner.plan import Plan
from ..policy.handles import Adapter
from ..policy.loading import adapter_config, check_policy
from ..policy.mixture import Mixture
from ..policy.model import LanguageModel, Lora
from ..policy.placement import Placement
from ..policy.sampling import Sampling, Source
from ..store.files import read_lines, write_json
from ..store.run_folder import RunFolder, Stage, order
from ..store.say import warn
from ..training import losses
from ..training.optimize import Fit
from .environment import environment
from .executor import AdapterExecutor
from .inputs.opponents import StoredOpponents
from .inputs.prompts import RunPrompts
from .inputs.sft import TaskFile
from .limits import Limits, lowered
from .manifest import contents, named, settings
from .phases import Phase, stepped
from .planned import planned
from .progress import Interrupted, Progress, Stopped
from .settings import Mixtures, Settings


@dataclass(frozen=True)
class Run:
    """A run, finished or stopped after a stage.

    Attributes:
        folder: where it lies.
        last: the folder of the last iterate's adapter (the start's, where no iterate is finished).
        average: the mixture of the policies that were played, in the weights of their average.
        metrics: one summary an iterate or half step, as in its ``metrics.jsonl``.
        prompts: what was read, kept and dropped; None where a later stage read them from the folder.
        stopped: what the run stopped after, where it was asked to.
        interrupted: whether it was asked while it played.
    """

    folder: Path
    last: Path
    average: Mixture
    metrics: list[dict[str, Any]]
    prompts: Prompts | None = None
    stopped: str | None = None
    interrupted: bool = False


@dataclass
class SelfPlay:
    """Self-play of a language model under a preference oracle.

    .. math::  \\log \\pi_{t+1}(y | x) = \\sum_k w_k \\log \\pi_k(y | x) + s \\sum_j c_j P(y \\succ \\rho_j | x) + c(x)

    Each Step (w, c, s) of the solver becomes: K responses a prompt from each opponent rho_j, their tables ``[K, K]`` of
    win probabilities from the oracle, and a regression of an adapter onto the Step (see ``AdapterExecutor``). Everything is
    kept in a run folder; the same settings on the same folder continue where it stands.

    Args:
        policy: a folder or hub id of a chat model, or a loaded ``LanguageModel``.
        oracle: any ``PreferenceOracle``, a folder or hub id of one, or what else ``oracles.as_oracle`` takes, as
            reward functions and judges are; None while no stage needs it.
        solver: an object with ``play(start, reference)`` that yields Steps.
        prompts: a file, a dataset id, or rows; see ``read_prompts``. None: those that the folder holds.
        folder: the run folder.
        opponents: the stored responses of other models, by the names that the solver plays against (``games.FixedOpponents``
            plays any solver against some); each a file, a dataset id or rows, see ``StoredOpponents``. None in place of
            one: what the folder holds.
        adapter: a LoRA folder or id to start from and to regress against.
        iterations: how many iterates to make.
        responses: K, the responses a prompt from each policy; at least 2.
        sampling: where responses come from: ``Sampling``, or any ``Source``.
        fit, lora: settings of the parts.
        self_comparison: whether a response is compared with itself (1/2) in its win rate.
        mixtures: how a geometric mixture is made that a Step samples from: "fitted" to an adapter of its own, or
            "token-level", blended while it is drawn, which costs no fit and is an approximation (``MixedNetwork``).
        phases: iterations with a step and a learning rate of their own.
        task: prompts with responses whose likelihood is kept up beside (``Fit.task_weight``) and measured; a file, a
            dataset id or rows, see ``TaskFile``. None: what the folder holds, if anything.
        limits: how far the task's likelihood may fall, and how rarely an iterate may win; see ``Limits``.
        prompts_per_iteration: each iteration takes the next so many prompts (None: all of them each time).
        max_prompt_tokens: longer prompts are dropped, and counted.
        column: the field that holds the prompt, where it is not one of the usual ones.
        chat_template: a Jinja template in place of the tokenizer's.
        quantise: keep the base in 4 bits.
        quantise_head: its head too, see ``LanguageModel.from_pretrained``.
        plan: on a GPU find out first, from the configurations alone, which batches and which placement fit, and take
            these where less was not asked for; refuse what does not fit. See ``nashward.llm.planner.plan``.
        placement: what of the policy lives on the device; None: what costs little time, see ``Placement.default``; a
            mapping: that, but for these of its attributes.
        seed: of everything.
        cache: the file of judgements; None: ``judgements.sqlite`` in the run folder. Only an oracle that has a
            fingerprint is cached.
        label: tells what kind of response a text is (None: of no kind); the shares of the kinds enter the metrics.

    Raises:
        ValueError, FileNotFoundError: from ``check``, before anything is written.

    Source: with plain multiplicative weights and the loss "sppo" it is SPPO, arXiv 2405.00675, algorithm 1.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nashward import games, llm
        >>> with TemporaryDirectory() as folder:
        ...     run = llm.SelfPlay(
        ...         policy=llm.pocket.POLICY, oracle=llm.pocket.PAIRRM, solver=games.solvers.SOLVERS[0](), folder=folder,
        ...         prompts=["Name a river.", "Name a tree."], iterations=1, responses=2,
        ...         sampling=llm.Sampling(max_new_tokens=8),
        ...     ).run(progress=False)
        >>> run.metrics[-1]["iteration"], str(run.prompts)
        ('iteration-01', '2 prompts read, 2 kept, 0 dropped')
    """

    policy: str | Path | LanguageModel | None
    oracle: Any
    solver: Solver
    prompts: str | Path | Iterable[Any] | None
    folder: str | Path
    opponents: Mapping[str, Any] = field(default_factory=dict)
    adapter: str | Path | None = None
    iterations: int = 3
    responses: int = 5
    sampling: Source = field(default_factory=Sampling)
    fit: Fit = field(default_factory=Fit)
    lora: Lora = field(default_factory=Lora)
    self_comparison: bool = False
    mixtures: Mixtures = "fitted"
    phases: list[Phase] = field(default_factory=list)
    task: str | Path | Iterable[Any] | None = None
    limits: Limits = field(default_factory=Limits)
    prompts_per_iteration: int | None = None
    max_prompt_tokens: int = 512
    column: str | None = None
    chat_template: str | None = None
    quantise: bool = True
    quantise_head: bool = False
    plan: bool = True
    placement: Placement | Mapping[str, Any] | None = None
    seed: int = 0
    cache: str | Path | None = None
    label: Callable[[str], str | None] | None = None
    _texts: list[tuple[Prompt, str]] = field(default_factory=list, init=False, repr=False, compare=False)

    def run(
        self,
        until: Stage | None = None,
        redo: Stage | None = None,
        stop: threading.Event | None = None,
        progress: bool = True,
    ) -> Run:
        """Play.

        Args:
            until: the stage of the first unfinished Step after which to stop: "sample", "judge" or "train".
            redo: make the newest Step again from this stage on; what it has is set aside, earlier ones stay. Judgements
                that are cached are not asked for again.
            stop: when it is set, from another thread or by a signal, the run stops as soon as it can go on from there:
                after a shard, or in training after an optimiser step.
            progress: False: no bars, and nothing is said but warnings.

        Raises:
            ValueError: what ``check`` finds, or another process is playing in the folder.
            OSError: the folder cannot be written, or the disk is full; what is there already can be continued.
        """
        home = RunFolder(self.folder)
        prompts = self.check(until)
        if left := len(self._task.texts) - len(self._texts) if self._texts else 0:
            warn(f"{left} of {left + len(self._texts)} task texts are longer than the run's longest and are left out")
        with home.held():
            self.write(home, prompts)
            if redo is not None and home.redo(redo) is None:
                raise NashwardError(f"{home.path} holds no step yet that could be made again; leave --from out")
            return self._play(home, prompts, until, stop, progress)

    def _play(
        self, home: RunFolder, prompts: Prompts, until: Stage | None, stop: threading.Event | None, progress: bool
    ) -> Run:
        executor = AdapterExecutor(
            home, prompts.kept, [self._prompts.length(prompt) for prompt in prompts.kept],
            self.settings, lambda: self.model, lambda: self.judge,
            Progress(home, self.iterations, stop, quiet=not progress), until, self.cache,
        )  # fmt: skip
        start = executor.start(self.adapter)
        played: list[Blend] = []
        made: list[Policy] = [start]

        def record(step: Step, policy: Policy) -> bool:
            if isinstance(step.averaged, Blend):
                played.append(step.averaged)
            if step.is_iterate:
                made.append(policy)
            return executor.stopped is not None

        stopped, interrupted = None, False
        try:
            opponents = {
                name: Policy(member, name) for name, member in self._opponents.members(home, prompts.kept).items()
            }
            drive(self._stepped(home), start, start, executor.execute, record, self.iterations, opponents)
        except Stopped as stage:
            stopped, interrupted = str(stage), isinstance(stage, Interrupted)
        finally:
            executor.detach()
        stopped = stopped or executor.stopped
        average = sum(played[1:], played[0]) / len(played) if played else Blend({start: 1.0})
        mixture = Mixture(tuple((policy.value.folder, weight) for policy, weight in average))
        mixture.save(home / "mixture.json")
        write_json(
            home / "last.json",
            {"adapter": str(made[-1].value.folder.relative_to(home.path)), "iterates": len(made) - 1},
        )
        return Run(home.path, made[-1].value.folder, mixture, metrics(home.path), prompts, stopped, interrupted)

    @property
    def settings(self) -> Settings:
        """The settings of the parts as they are played: what was asked for, in the batches that fit."""
        sampling, fit, found = self.sampling, self.fit, self.planned
        if found is not None and isinstance(sampling, Sampling):
            sampling = dataclasses.replace(sampling, batch=found.sampling_batch)
            fit = dataclasses.replace(fit, tokens=found.tokens)
        return Settings(
            self.responses, sampling, fit, self.self_comparison, self.prompts_per_iteration, self.seed, self.label,
            self.mixtures, self.phases, self.limits, self._texts,
        )  # fmt: skip

    def _stepped(self, home: RunFolder) -> Solver:
        """The solver with the steps of the phases, lowered where an iteration of the folder was beyond a limit."""
        solver = stepped(self.solver, self.phases)
        if not self.limits.stated or self.limits.lowers != "step":
            return solver
        return lowered(solver, lambda t: self.limits.share(home, t))

    def check_settings(self) -> None:
        """What can be found wrong with the settings alone.

        Raises:
            ValueError: a solver that yields no Steps or plays against somebody who is not among the opponents, a loss that
                cannot do what it asks, phases or limits without a step to change, a number out of its range.
        """
        check_solver(self.solver)
        start = Policy(Adapter("start", RunFolder(self.folder) / "start" / "adapter"), "start")
        first = next(self._stepped(RunFolder(self.folder)).play(start, start))
        resolve(first, {name: Policy(None, name) for name in self.opponents})
        losses.check(self.fit.loss, self.fit.selection, self.solver, self.responses)
        if self.limits.win_rate is not None and self.fit.loss == "gpo":
            raise NashwardError("gpo plays for scores, not for win rates: take the floor on the win rate out")
        if self.iterations < 1:
            raise NashwardError(f"iterations must be at least 1, got {self.iterations}")
        _ = Settings(self.responses, prompts_per_iteration=self.prompts_per_iteration, mixtures=self.mixtures)
        if isinstance(self.placement, Mapping):
            Placement().but(self.placement)  # its own checks

    def check(self, until: Stage | None = None) -> Prompts:
        """Everything that can be found wrong before a weight is loaded or a byte is written; the prompts to play on.

        Raises:
            FileNotFoundError: a policy, an oracle, an adapter, prompts, opponents or a task that is not there.
            ValueError: what ``check_settings`` finds; a source of these that is wrong; a folder that another run has
                begun; no prompt left; a policy or an oracle that is missing, or does not fit the device.
        """
        self.check_settings()
        home = RunFolder(self.folder)
        home.check(self.config())
        done = sum((stage / "adapter").is_dir() for stage in home.path.glob("iteration-*") if "half" not in stage.name)
        if done > self.iterations:
            raise NashwardError(f"{home.path} holds {done} iterations already, {self.iterations} were asked for")
        if until != "judge" and self.policy is None:
            raise NashwardError("a policy is needed: a folder or hub id of a chat model")
        if self.oracle is None and until is None:
            raise NashwardError(f"an oracle is needed: {ACCEPTED}")
        tokenizer = self._tokenizer(until)
        if self.limits.task is not None and not self._task.texts:
            raise NashwardError("a limit on the task's likelihood needs the task: give its texts (--task)")
        if tokenizer is not None:
            most = self.sampling.max_new_tokens if isinstance(self.sampling, Sampling) else None
            self._texts = self._task.kept(tokenizer, None if most is None else self.max_prompt_tokens + most)
        if self.adapter is not None and until != "judge":
            adapter_config(self.adapter)
        if self.oracle is not None and until in (None, "judge"):
            _ = self._source  # its own checks
            if self.cache is not None:
                Cache.check(self.cache)
        if until != "judge":
            _ = self.planned
        prompts = self._prompts.played(tokenizer)
        self._opponents.members(home, prompts.kept)
        return prompts

    def _tokenizer(self, until: Stage | None) -> Any:
        """The policy's, checked with it; None for a stage that needs none."""
        if isinstance(self.policy, LanguageModel):
            if self.chat_template is not None:
                raise NashwardError("a loaded model has its chat template already; set it on its tokenizer")
            return self.policy.tokenizer
        return None if self.policy is None or until == "judge" else check_policy(self.policy, self.chat_template)

    @cached_property
    def _prompts(self) -> RunPrompts:
        return RunPrompts(self.prompts, RunFolder(self.folder), self.column, self.max_prompt_tokens)

    @cached_property
    def _opponents(self) -> StoredOpponents:
        return StoredOpponents(self.opponents, self.column)

    @cached_property
    def _task(self) -> TaskFile:
        return TaskFile(self.task, RunFolder(self.folder), self.column)

    def config(self) -> dict[str, Any]:
        """What pins the run: a run folder that was written with other values is refused."""
        prompts = self._prompts.told  # first: what follows may load the oracle
        models = {**self._contents, "opponents": self._opponents.fingerprint, "task": self._task.fingerprint}
        return {**named(self), **models, **settings(self, prompts)}

    @cached_property
    def _contents(self) -> dict[str, str | None]:
        return contents(self)

    def write(self, home: RunFolder, prompts: Prompts) -> None:
        """Pin the run: ``run.json``, and the prompts as they are played, of which it has the fingerprint.

        Raises:
            ValueError: the folder's prompts are damaged, and those given are others; or it is another run's.
            OSError: the folder cannot be written.
        """
        record = {**self._prompts.record(prompts), **environment()}
        home.write(home.check(self.config()), record)
        self._opponents.keep(home)
        self._task.keep()
        self._prompts.keep(prompts)

    @cached_property
    def model(self) -> LanguageModel:
        """The policy's network, loaded when it is first needed.

        Raises:
            ValueError: there is no policy, or what ``LanguageModel.from_pretrained`` finds.
        """
        if isinstance(self.policy, LanguageModel):
            return self.policy
        if self.policy is None:
            raise NashwardError("this stage needs a policy: a folder or hub id of a chat model")
        return LanguageModel.from_pretrained(
            self.policy, self.adapter, lora=self.lora, quantise=self.quantise, quantise_head=self.quantise_head,
            chat_template=self.chat_template, seed=self.seed,
            placement=self.placement if self.planned is None else self.planned.placement,
        )  # fmt: skip

    @cached_property
    def judge(self) -> PreferenceOracle:
        """The oracle, loaded when it is first needed.

        Raises:
            ValueError: there is no oracle, or what ``as_oracle`` finds.
        """
        if self.oracle is None:
            raise NashwardError(f"the responses are not judged yet, which needs an oracle: {ACCEPTED}")
        oracle = as_oracle(self._source)
        if self.planned is not None and self.planned.judging_tokens and isinstance(oracle, NetworkOracle):
            oracle.token_budget = min(oracle.token_budget, self.planned.judging_tokens)
        return oracle

    @cached_property
    def planned(self) -> Plan | None:
        """What fits on the GPU; None without one, and where nothing can be planned. See ``planned.planned``."""
        return planned(self)

    @cached_property
    def _source(self) -> Any:
        """What the oracle is made from, checked: votes are read and objects made once."""
        return check_source(self.oracle)


def metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of a run's iterates and half steps, in order."""
    files = sorted(Path(folder).glob("iteration-*/metrics.jsonl"), key=lambda file: order(file.parent))
    return [row for file in files for row in read_lines(file) if "iteration" in row]


def iterates(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of a run's iterates, without the half steps."""
    return [row for row in metrics(folder) if "half" not in row["iteration"]]
