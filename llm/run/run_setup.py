"""What a run of self-play is made of, each part read or loaded when it is first needed, and whether it can begin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games import Solver

from ..config.run import RunConfig
from ..config.sampling import Sampling
from ..data.prompts import Prompt, Prompts
from ..oracles import Cache, PreferenceOracle, as_oracle, check_source
from ..oracles.corrections.correction import base_sources
from ..oracles.ensembles.objectives import Combination, combination_of
from ..oracles.fitting.vote_table import VoteTable
from ..oracles.models.network import networks
from ..oracles.protocol import StepwiseOracle
from ..oracles.source_names import ACCEPTED
from ..planner.device import device_plan
from ..planner.plan import Plan
from ..policy.adapters.adapter_config import adapter_config
from ..policy.base.checks import check_causal, check_policy, trained_context
from ..policy.base.weights import default_device, in_4_bits
from ..policy.engines.vllm import VLLM
from ..policy.model import LanguageModel
from ..policy.sampling import ResponseSource
from ..processes import processes
from ..store.run_folder import RunFolder, Stage, is_half
from . import manifest
from .checks import check_rate, check_settings
from .inputs.opponents import OpponentSource, StoredOpponents
from .inputs.prompts import RunPrompts
from .inputs.sft import SFTFile
from .signals import stop_at_once
from .stages.judge import advice
from .stages.sample import vllm_program


@dataclass
class RunSetup:
    """A run that is not played: its settings, its inputs and its models.

    ``SelfPlay`` plays it, and describes the arguments, which are the same.
    """

    policy: str | Path | LanguageModel | None
    oracle: Any
    solver: Solver
    prompts: str | Path | Iterable[Any] | None
    folder: str | Path
    opponents: Mapping[str, OpponentSource] = field(default_factory=dict)
    sft: str | Path | Iterable[Any] | None = None
    adapter: str | Path | None = None
    source: ResponseSource | None = None
    label: Callable[[str], str | None] | None = None
    config: RunConfig = field(default_factory=RunConfig)
    _texts: list[tuple[Prompt, str]] = field(default_factory=list, init=False, repr=False, compare=False)

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
            TypeError: a configuration that is no ``RunConfig``.
        """
        if not isinstance(self.config, RunConfig):
            raise TypeError(
                f"config is a {type(self.config).__name__}; expected llm.RunConfig(...), as "
                "llm.RunConfig(iterations=2, responses=4)"
            )
        check_settings(self.config, self.solver, list(self.opponents), self.combination, RunFolder(self.folder))

    def check(self, until: Stage | None = None, redo: Stage | None = None) -> Prompts:
        """Everything that can be found wrong before a weight is loaded or a byte is written; the prompts to play on.

        Args:
            until, redo: see ``SelfPlay.run``.

        Raises:
            FileNotFoundError: a policy, an oracle, an adapter, prompts, opponents or SFT texts that are not there.
            ValueError: what ``check_settings`` finds; one of these that cannot be used; a folder that another run has
                begun; no prompt left; a policy or an oracle that is missing, or does not fit the device.
        """
        self.check_settings()
        home = RunFolder(self.folder)
        home.check(self.manifest(), redo)
        if redo is not None:
            check_rate(home, self.config)
        done = sum((stage / "adapter").is_dir() for stage in home.steps() if not is_half(stage.name))
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
                f"{self.oracle.name} makes another oracle at each step, in a single process, and "
                f"{processes.count} were started: start one"
            )
        tokenizer = self._tokenizer(until)
        if self.config.limits.sft is not None and not self._sft.texts:
            raise NashwardError("a limit on the likelihood of the SFT texts needs the texts: give --sft")
        floor = None if self.combination is None else self.combination.sft
        if floor is not None and not (self._sft.texts and self.config.fit.sft_weight > 0):
            raise NashwardError("a floor named sft limits the NLL of the SFT texts: give --sft, and a weight above 0")
        if tokenizer is not None:
            self._texts = self._short_sft(tokenizer)
        if self.adapter is not None and until != "judge":
            adapter_config(self.adapter, None if isinstance(self.policy, LanguageModel) else self.policy)
        if self.oracle is not None and until in (None, "judge"):
            _ = self.oracle_source  # its own checks
            if self.config.cache is not None:
                Cache.check(self.config.cache)
        if until != "judge":
            _ = self.planned
        if until in (None, "sample"):
            _ = self._vllm
        prompts = self._prompts.load(tokenizer)
        self._opponents.members(home, prompts.kept)
        judge = self.oracle_source if self.oracle is not None and until in (None, "judge") else None
        for votes in base_sources(judge):
            if isinstance(votes, VoteTable) and not any(votes.knows(prompt.text) for prompt in prompts.kept):
                raise NashwardError(f"{votes.name} has no vote on any of the prompts{advice(votes)}")
        return prompts

    def beyond_context(self, prompts: Prompts) -> str | None:
        """A warning where prompts with their responses may be longer than the policy was made for; None where not."""
        policy, new = self.policy, self.config.sampling.max_new_tokens
        if self.source is not None or policy is None:
            return None
        if isinstance(policy, LanguageModel):
            base: Any = policy.network.get_base_model()
            name, context = policy.name, trained_context(base.config)
        else:
            name, context = str(policy), trained_context(policy)
        longer = [n for n in map(self._prompts.length, prompts.kept) if context is not None and n + new > context]
        if not longer:
            return None
        return (
            f"{counted(len(longer), 'prompt')} of up to {max(longer)} tokens, each with a response of up to {new}, may "
            f"be longer than the {context} tokens that {name} was made for (max_position_embeddings), beyond "
            "which a model rarely writes sense: lower --max-prompt-tokens or --max-new-tokens"
        )

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
        """Whether the base is in 4 bits: as the settings say, else as the run began, else by this machine's memory.

        None for a model that is loaded, and where no stage needs one.
        """
        if self.config.quantise is not None or not isinstance(self.policy, str | Path):
            return self.config.quantise
        begun = RunFolder(self.folder).read().get("config", {}).get("quantise")
        if begun is not None:
            return begun
        try:
            check_causal(self.policy)  # first: transformers would try for half a minute where there is no such model
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
            raise NashwardError(
                "the responses are not judged yet, which needs an oracle (nashward judge --oracle ID_OR_FOLDER --out "
                f"{self.folder}): {ACCEPTED}"
            )
        home = RunFolder(Path(self.folder).expanduser())
        cache = processes.local(home.judgements(self.config.cache))
        # pairs of a correction may be paid before there is a run, and what is paid is kept at once
        keeps = self.config.cache is not None or home.started or not home.foreign
        with stop_at_once():
            oracle = as_oracle(self.oracle_source, cache=cache if keeps else None)
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
    def oracle_source(self) -> Any:
        """What the oracle is made from, checked: votes are read and objects made once."""
        return check_source(self.oracle, judge=self.config.judge, endpoint=self.config.endpoint)
