"""``SelfPlay``: any mirror-step solver of ``nashward.games``, played by a language model against itself."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nashward.console import console_log
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games import Policy, Solver, Step
from nashward.games.driver import drive
from nashward.games.policy import Blend

from ..config.run import RunConfig
from ..config.sampling import Sampling
from ..data.prompts import Prompt, Prompts
from ..oracles import Cache, PreferenceOracle, as_oracle, check_source
from ..oracles.ensembles.objectives import Combination, combination_of
from ..oracles.fitting.vote_table import VoteTable
from ..oracles.load import ACCEPTED, base_sources
from ..oracles.models.network import networks
from ..oracles.protocol import StepwiseOracle
from ..planner.device import device_plan
from ..planner.plan import Plan
from ..planner.rounding import MUCH, rounding
from ..policy.adapters.adapter_config import adapter_config
from ..policy.base.checks import check_policy
from ..policy.base.weights import default_device, in_4_bits
from ..policy.engines.vllm import VLLM
from ..policy.mixture import Mixture
from ..policy.model import LanguageModel
from ..policy.sampling import ResponseSource
from ..processes import Interrupted, processes
from ..store.files import read_jsonl, write_json
from ..store.run_folder import RunFolder, Stage
from . import manifest
from .checks import check_settings
from .executor import AdapterExecutor
from .inputs.opponents import StoredOpponents
from .inputs.prompts import RunPrompts
from .inputs.sft import SFTFile
from .progress import Progress, Stopped
from .signals import stop_at_once
from .stages.judge import advice
from .stages.sample import source_of, vllm_program
from .step_control import controlled

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run, finished or stopped after a stage.

    Attributes:
        folder: the run folder.
        last: the folder of the last iterate's adapter (the start's, where no iterate is finished).
        average: the mixture of the policies that were played, in the weights of their average.
        metrics: one summary an iterate or half step, as in its ``metrics.jsonl``.
        prompts: what was read, kept and dropped; None where a later stage read them from the folder.
        stopped: the stage after which the run stopped; None where it went on to its end.
        interrupted: whether ``stop`` was set while it played.
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
    win probabilities from the oracle, and a regression of an adapter onto the Step (see ``AdapterExecutor``).
    Everything is written into a run folder; the same settings on the same folder continue it.

    Args:
        policy: a folder or hub id of a chat model, what else ``local_model`` takes, or a loaded ``LanguageModel``.
        oracle: any ``PreferenceOracle``, a folder or hub id of one, or what else ``oracles.as_oracle`` takes, as
            reward functions and judges are; None while no stage needs it.
        solver: an object with ``play(start, reference)`` that yields Steps.
        prompts: a file, a dataset id, or rows; see ``read_prompts``. None: those in the folder.
        folder: the run folder.
        opponents: the stored responses of other models, by the names that the solver plays against
            (``games.FixedOpponents`` plays any solver against some); each a file, a dataset id or rows, see
            ``StoredOpponents``. None in place of one: those in the folder.
        sft: prompts with responses whose likelihood is kept up beside (``Fit.sft_weight``) and measured; a file, a
            dataset id or rows, see ``SFTFile``. None: those in the folder, if any.
        adapter: a LoRA folder or id to start from and to regress against.
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

    policy: str | Path | LanguageModel | None
    oracle: Any
    solver: Solver
    prompts: str | Path | Iterable[Any] | None
    folder: str | Path
    opponents: Mapping[str, Any] = field(default_factory=dict)
    sft: str | Path | Iterable[Any] | None = None
    adapter: str | Path | None = None
    source: ResponseSource | None = None
    label: Callable[[str], str | None] | None = None
    config: RunConfig = field(default_factory=RunConfig)
    _texts: list[tuple[Prompt, str]] = field(default_factory=list, init=False, repr=False, compare=False)

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
        with console_log(quiet=not progress, silent=not processes.main), home.lock():
            processes.decided(lambda: self._begin(home, prompts, redo))
            return self._play(home, prompts, until, stop, progress, on_step)

    def _begin(self, home: RunFolder, prompts: Prompts, redo: Stage | None) -> None:
        # first what is made again, then the settings: a kill in between leaves no adapter under others than its own
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
        executor = AdapterExecutor(
            home, prompts.kept, [self._prompts.length(prompt) for prompt in prompts.kept],
            config, source, lambda: self.model, lambda: self.judge,
            Progress(home, config.iterations, stop, quiet=not progress), until, config.cache, self.label, self._texts,
            self.combination,
        )  # fmt: skip
        fresh = processes.decided(lambda: not home.started)
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
            opponents = {
                name: Policy(member, name) for name, member in self._opponents.members(home, prompts.kept).items()
            }
            solver = controlled(self.solver, config, home)
            drive(solver, start, start, executor.execute, record, config.iterations, opponents)
        except (Stopped, Interrupted) as stage:
            stopped, interrupted = str(stage), isinstance(stage, Interrupted)
        finally:
            executor.detach()
            if processes.count == 1:  # of several each can be stopped until it has left: the others may be dead
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

    @property
    def combination(self) -> Combination | None:
        """How several objectives are combined; None where there is one oracle."""
        return combination_of(self.oracle)

    @property
    def sampling(self) -> ResponseSource | Sampling:
        """Where responses come from: the source, or the settings of transformers' ``generate``."""
        return self.config.sampling if self.source is None else self.source

    @property
    def planned_config(self) -> RunConfig:
        """The configuration, with the batches that fit."""
        config, plan = self.config, self.planned
        if plan is None:
            return config
        sampling = dataclasses.replace(config.sampling, batch=plan.sampling_batch)
        return dataclasses.replace(config, sampling=sampling, fit=dataclasses.replace(config.fit, tokens=plan.tokens))

    def check_settings(self) -> None:
        """What can be found wrong with the settings alone.

        Raises:
            ValueError: a solver that yields no Steps or plays against an opponent that is not given, a loss that cannot
                apply it, phases or limits without a step to change.
        """
        check_settings(self.config, self.solver, list(self.opponents), self.combination, RunFolder(self.folder))

    def check(self, until: Stage | None = None, redo: Stage | None = None) -> Prompts:
        """Everything that can be found wrong before a weight is loaded or a byte is written; the prompts to play on.

        Args:
            until, redo: see ``run``.

        Raises:
            FileNotFoundError: a policy, an oracle, an adapter, prompts, opponents or SFT texts that are not there.
            ValueError: what ``check_settings`` finds; a source of these that is wrong; a folder that another run has
                begun; no prompt left; a policy or an oracle that is missing, or does not fit the device.
        """
        self.check_settings()
        home = RunFolder(self.folder)
        home.check(self.manifest(), redo)
        done = sum((stage / "adapter").is_dir() for stage in home.steps() if "half" not in stage.name)
        if done > self.config.iterations:
            raise NashwardError(
                f"{home.path} holds {counted(done, 'iteration')} already, {self.config.iterations} were requested"
            )
        if until != "judge" and self.policy is None:
            raise NashwardError("a policy is needed: a folder or hub id of a chat model")
        if self.oracle is None and until is None:
            raise NashwardError(f"an oracle is needed: {ACCEPTED}")
        if isinstance(self.oracle, StepwiseOracle) and until in (None, "judge") and processes.count > 1:
            raise NashwardError(
                f"{self.oracle.name} is another oracle at each step, which one process makes, and "
                f"{processes.count} were started: start one alone"
            )
        tokenizer = self._tokenizer(until)
        if self.config.limits.sft is not None and not self._sft.texts:
            raise NashwardError("a limit on the likelihood of the SFT texts needs the texts: give --sft")
        floor = None if self.combination is None else self.combination.sft
        if floor is not None and not (self._sft.texts and self.config.fit.sft_weight > 0):
            raise NashwardError("a floor of sft is of the SFT texts' likelihood: give --sft, and a weight above 0")
        if tokenizer is not None:
            self._texts = self._short_sft(tokenizer)
        if self.adapter is not None and until != "judge":
            adapter_config(self.adapter, None if isinstance(self.policy, LanguageModel) else self.policy)
        if self.oracle is not None and until in (None, "judge"):
            _ = self._oracle_source  # its own checks
            if self.config.cache is not None:
                Cache.check(self.config.cache)
        if until != "judge":
            _ = self.planned
        if until in (None, "sample"):
            _ = self._vllm
        prompts = self._prompts.load(tokenizer)
        self._opponents.members(home, prompts.kept)
        judge = self._oracle_source if self.oracle is not None and until in (None, "judge") else None
        for votes in base_sources(judge):
            if isinstance(votes, VoteTable) and not any(votes.knows(prompt.text) for prompt in prompts.kept):
                raise NashwardError(f"{votes.name} has no vote on any of the prompts{advice(votes)}")
        return prompts

    def _tokenizer(self, until: Stage | None) -> Any:
        """The policy's, checked with it; None for a stage that needs none."""
        if isinstance(self.policy, LanguageModel):
            if self.config.chat_template is not None:
                raise NashwardError("a loaded model has its chat template already; set it on its tokenizer")
            return self.policy.tokenizer
        if self.policy is None or until == "judge":
            return None
        longest = self.config.max_prompt_tokens + self.config.sampling.max_new_tokens
        return check_policy(self.policy, self.config.chat_template, longest if self.source is None else None)

    @cached_property
    def _prompts(self) -> RunPrompts:
        config = self.config
        return RunPrompts(
            self.prompts, RunFolder(self.folder), config.column, config.max_prompt_tokens, config.drop_similar
        )

    @cached_property
    def _opponents(self) -> StoredOpponents:
        return StoredOpponents(self.opponents, self.config.column, self.config.endpoint)

    @property
    def has_sft(self) -> bool:
        """Whether the run has SFT texts."""
        return bool(self._sft.texts)

    @property
    def sft_texts(self) -> list[tuple[Prompt, str]]:
        """The SFT texts that the fits of this run train on and hold out; empty where it has none."""
        return self._short_sft(self.model.tokenizer) if self.has_sft else []

    def _short_sft(self, tokenizer: Any) -> list[tuple[Prompt, str]]:
        longest = self.config.max_prompt_tokens + self.config.sampling.max_new_tokens
        return self._sft.within(tokenizer, longest if self.source is None else None)

    @cached_property
    def _sft(self) -> SFTFile:
        return SFTFile(self.sft, RunFolder(self.folder), self.config.column)

    def manifest(self) -> dict[str, Any]:
        """The settings and fingerprints of the run: a run folder that was written with others is refused."""
        prompts = self._prompts.parsed  # first: what follows may load the oracle
        models = {
            "opponents": self._opponents.fingerprint,
            "drawn_opponents": self._opponents.drawn,
            "sft": self._sft.fingerprint,
        }
        names = manifest.sources(self.policy, self.adapter, self.oracle, lambda: self.judge)
        config = dataclasses.replace(self.config, quantise=self.quantise)
        settings = manifest.settings(config, self.solver, self.sampling, prompts)
        people = dataclasses.asdict(self.config.people) if isinstance(self.oracle, StepwiseOracle) else None
        return {**names, **self._fingerprints, **models, **settings, "people": people}

    @cached_property
    def _fingerprints(self) -> dict[str, str | None]:
        return manifest.fingerprints(self.policy, self.adapter, self.oracle, lambda: self.judge)

    def write(self, home: RunFolder, prompts: Prompts, redo: Stage | None = None) -> None:
        """Write ``run.json``, and the prompts as they are played, of which it has the fingerprint.

        Raises:
            ValueError: the folder's prompts are damaged, and those given are others; or it is another run's.
            OSError: the folder cannot be written.
        """
        record = {**self._prompts.record(prompts), **manifest.environment()}
        home.write(home.check(self.manifest(), redo), record)
        self._opponents.save(home)
        self._sft.save()
        self._prompts.save(prompts)

    @property
    def quantise(self) -> bool | None:
        """Whether the base is in 4 bits: as the settings say, else as the run began, else as suits this machine.

        None of a model that is loaded, and where no stage needs one.
        """
        if self.config.quantise is not None or not isinstance(self.policy, str | Path):
            return self.config.quantise
        begun = RunFolder(self.folder).read().get("config", {}).get("quantise")
        if begun is not None:
            return begun
        try:
            return in_4_bits(self.policy, default_device(), self.config.quantise_head)
        except (NashwardError, OSError):  # the stages that need the model say so
            return None

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
        config, planned = self.config, self.planned
        with stop_at_once():
            return LanguageModel.from_pretrained(
                self.policy, self.adapter, lora=config.lora, quantise=self.quantise,
                quantise_head=config.quantise_head, chat_template=config.chat_template, seed=config.seed,
                placement=config.placement if planned is None else planned.placement,
            )  # fmt: skip

    @cached_property
    def judge(self) -> PreferenceOracle:
        """The oracle, loaded when it is first needed.

        Raises:
            ValueError: there is no oracle, or what ``as_oracle`` finds.
        """
        if self.oracle is None:
            raise NashwardError(f"the responses are not judged yet, which needs an oracle: {ACCEPTED}")
        with stop_at_once():
            oracle = as_oracle(self._oracle_source)
        own = networks(oracle)  # first: a plan takes seconds
        if own and self.planned is not None and self.planned.judging_tokens:
            for network in own:
                network.token_budget = min(network.token_budget, self.planned.judging_tokens)
        return oracle

    @cached_property
    def planned(self) -> Plan | None:
        """The batches and the placement that fit the device; None where none is needed, see ``device_plan``."""
        config = dataclasses.replace(self.config, quantise=self.quantise)
        return None if self.source is not None else device_plan(config, self.policy, self.adapter, self.oracle)

    @cached_property
    def _vllm(self) -> VLLM | None:
        """vLLM as it draws for the run; None where another engine does, or none."""
        return vllm_program(self.config, self.policy, self.adapter) if self.source is None else None

    @cached_property
    def _oracle_source(self) -> Any:
        """What the oracle is made from, checked: votes are read and objects made once."""
        return check_source(self.oracle, judge=self.config.judge, endpoint=self.config.endpoint)


def metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of a run's iterates and half steps, in order."""
    steps = RunFolder(folder).steps()
    return [row for step in steps for row in read_jsonl(step / "metrics.jsonl") if "iteration" in row]


def iterates(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of a run's iterates, without the half steps."""
    return [row for row in metrics(folder) if "half" not in row["iteration"]]
