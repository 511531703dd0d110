"""The language-model executor: it carries a Step out as sampling, judging and training. It reads nothing but Steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TypeVar

from nashward.games import Policy, Step

from ..config.run import RunConfig
from ..data.prompts import Prompt
from ..oracles import PreferenceOracle
from ..oracles.ensembles.objectives import Combination
from ..oracles.models.network import NetworkOracle, networks
from ..oracles.protocol import SampledTexts, StepwiseOracle
from ..policy.base.weights import default_device
from ..policy.engines.engine import EngineSource
from ..policy.handles import Adapter, Sampled
from ..policy.memory import ignore_event
from ..policy.model import LanguageModel
from ..policy.sampling import ResponseSource
from ..processes import processes
from ..store.run_folder import RunFolder, Stage, step_name
from .inputs.augmentation import Augmenter, EndpointWriter, PolicyWriter, Writer
from .inputs.prompt_selection import PromptSelector
from .payoffs.objectives import StepObjectives
from .progress import Progress, Stopped
from .rollouts import PromptNumbers, RolloutStore
from .stages.judge import JudgeStage
from .stages.sample import SampleStage
from .stages.seal import publish_metrics, wait_for_adapter, write_adapter
from .stages.train import TrainStage
from .step_control import limit_factor, phase_of
from .step_tables import (
    TablesAhead,
    expand_mixtures,
    is_token_mixture,
    samplers_and_fixed,
    step_tables,
    token_mixture,
)

Part = TypeVar("Part", bound="LanguageModel | PreferenceOracle")


class AdapterExecutor:
    """Carries Steps out on a language model.

    For each member of the Step's opponent it draws K responses per prompt, queries the oracle for the tables of win
    probabilities over all of them, scores them under the anchor's members, and fits

        log pi_theta(y) - sum_k w_k log pi_k(y)  =  size * sum_j c_j P(y beats rho_j) + constant

    on the union of the response sets that were sampled. A fixed opponent only gives win probabilities over
    its stored responses: it is neither sampled nor fitted. Each part is written to the run folder in shards that
    appear whole or not at all, and is read from there if it is already complete: the same Steps on the same folder
    continue a run.

    Args:
        home: the run folder.
        prompts: all prompts of the run.
        lengths: how long each is, in tokens: like lengths are sampled together.
        config: sizes and seeds.
        source: where responses come from.
        model, oracle: called when the model or the oracle is first needed, so that a stage loads only its own.
        progress: shows how far the run is, and where it is to stop.
        until: the stage of the first unfinished Step after which to stop (None: go on).
        label, sft_texts: see ``TrainStage``.
        combination: how several objectives are combined; None: there is one oracle.
        ahead: the tables of the Steps to come.
    """

    def __init__(
        self,
        home: RunFolder,
        prompts: Sequence[Prompt],
        lengths: Sequence[int],
        config: RunConfig,
        source: ResponseSource,
        model: Callable[[], LanguageModel],
        oracle: Callable[[], PreferenceOracle],
        progress: Progress,
        until: Stage | None,
        label: Callable[[str], str | None] | None,
        sft_texts: Sequence[tuple[Prompt, str]],
        combination: Combination | None,
        ahead: TablesAhead,
    ):
        self.home, self.prompts, self.config = home, list(prompts), config
        self.enumerates, self.label, self.sft_texts = source.enumerates, label, sft_texts
        self.progress, self.until, self.combination, self._ahead = progress, until, combination, ahead
        self.reference = Adapter("start", home / "start" / "adapter")
        self.rollouts = RolloutStore(prompts)
        self._load_model, self._source = model, source
        lengths = list(lengths)
        stage = (home, self.prompts, lengths, config, source, progress, self.rollouts)
        self._sample = SampleStage(*stage, self._model)
        self._judge = JudgeStage(
            *stage, lambda: self._on_device(self._at_step(oracle())), home.judgements(config.cache)
        )
        self._selection = PromptSelector(home, self.prompts, lengths, config, self.rollouts, progress.info)
        if config.augment is not None:
            self._selection.augmenter = Augmenter(
                home, self.prompts, lengths, config, self.rollouts, self._selection.spread,
                lambda prompt: self._model().encode(prompt), self._writer, progress.info,
            )  # fmt: skip
        self._judged: tuple[Path, list[Sampled], PromptNumbers] = (home.path, [], ())  # the step, for its oracle
        self.stopped: str | None = None  # why it stopped after a training
        self._attached: list[LanguageModel | NetworkOracle] = []
        self.iterates = 0
        self.half_steps = 0  # since the last iterate

    def start(self, adapter: str | Path | None) -> Policy:
        """The policy that the run starts from: the base, or the user's adapter."""
        folder = self.reference.folder
        if not processes.decided(lambda: self.home.verified(folder)):
            model = self._attached_model()  # by all processes at once, which need it next
            processes.decided(
                lambda: write_adapter(folder, lambda unfinished: model.write_start_adapter(unfinished, adapter))
            )
        wait_for_adapter(folder)
        return Policy(self.reference, "start")

    def execute(self, step: Step) -> Policy:
        """The policy that a Step makes.

        Raises:
            Stopped: at the stage after which the run was to stop.
        """
        name = step_name(self.iterates + 1, None if step.is_iterate else self.half_steps + 1)
        if is_token_mixture(step, self.config):
            self.half_steps += 1
            return token_mixture(name, step.anchor)
        step = expand_mixtures(step)
        folder = self.home / name
        with self._drawing():
            numbers = self._selection.numbers(self.iterates, folder)
            finished = processes.decided(lambda: self.home.verified(folder / "adapter"))
            damaged = processes.decided(lambda: self._damaged(folder)) if finished else set()
            config = self.config if finished else processes.decided(lambda: self._step_config(name))
            samplers, _ = samplers_and_fixed(step)
            beside = [self.reference] if self.combination is not None and self.reference not in samplers else []
            for policy in (*samplers, *beside):
                at = self.rollouts.responses_at(policy.label, numbers, folder)
                if not finished or "responses" in damaged:
                    self._sample.run(at, policy, numbers)
        if self.until == "sample" and not finished:
            raise Stopped(f"{name}: the responses are sampled")
        self._judged = (folder, samplers, numbers)
        compared = self.reference if self.combination is not None else None
        tables = step_tables(step, compared, lambda a, b: self.rollouts.has_tables(a, b, numbers))
        new = [(a, b) for a, b in tables if not self.rollouts.has_tables(a.label, b.label, numbers)]
        judges = not finished or "judgements" in damaged
        later = self._ahead.after(name, len(numbers) == len(self.prompts)) if judges and self.until is None else []
        for rows, columns in tables:
            at = self.rollouts.tables_at(rows.label, columns.label, numbers, folder)
            new = [table for table in new if table != (rows, columns)]
            if judges:
                self._judge.run(at, rows, columns, numbers, [*new, *later])
        objectives = None
        if self.combination is not None:
            objectives = StepObjectives(
                self.combination, self.rollouts, self.prompts, numbers, self.reference,
                self_comparison=config.self_comparison or self.enumerates,
            )  # fmt: skip
            if not finished and samplers == [self.reference]:
                processes.decided(objectives.check_floors)
        if self.until == "judge" and not finished:
            raise Stopped(f"{name}: the responses are judged")
        if finished:
            processes.decided(lambda: publish_metrics(folder))
        else:
            TrainStage(
                home=self.home, prompts=self.prompts, config=config, progress=self.progress,
                rollouts=self.rollouts, model=self._model(), step_folder=folder, step=step, samplers=samplers,
                numbers=numbers, reference=self.reference, enumerates=self.enumerates, label=self.label,
                sft_texts=self.sft_texts, rate_factor=self._rate_factor(), objectives=objectives,
            ).run()  # fmt: skip
        if self.until == "train" and not finished:
            self.stopped = f"{name}: the adapter is trained"
        self.iterates, self.half_steps = (
            (self.iterates + 1, 0) if step.is_iterate else (self.iterates, self.half_steps + 1)
        )
        return Policy(Adapter(name, folder / "adapter"), name)

    def _drawing(self) -> AbstractContextManager[object]:
        """A block that draws responses: after it our own engine is stopped, since judging and training need its
        memory."""
        return closing(self._source) if isinstance(self._source, EngineSource) else nullcontext()

    def _damaged(self, step: Path) -> set[str]:
        """Which of a finished step's outputs were damaged, of those that this stage can make again; they are set aside.

        Shards that are missing are not made again: nothing needs those of a finished step.
        """
        outputs = {"sample": ["responses"], "judge": ["judgements"], "train": []}
        kinds = ["responses", "judgements"] if self.until is None else outputs[self.until]
        damaged = {kind for kind in kinds if not self.home.intact(step / kind)}
        return damaged | {"responses"} if "judgements" in damaged else damaged  # which are read

    def detach(self) -> None:
        """Leave model and oracle as they were: their events go nowhere."""
        for part in self._attached:
            part.on_event = ignore_event

    def _step_config(self, step: str) -> RunConfig:
        """The configuration of a step: the learning rate of its phase, lowered where limits lower it, and the padded
        tokens of a pass that it began with: other passes give other last bits."""
        fit, phase = self.config.fit, phase_of(self.config.phases, self.iterates + 1)
        tokens = self.home.step_values(step).get("tokens")
        if tokens is None:
            tokens = fit.pass_tokens(default_device())
            self.home.update_step(step, {"tokens": tokens})
        rate = fit.learning_rate if phase is None or phase.learning_rate is None else phase.learning_rate
        return dataclasses.replace(self.config, fit=dataclasses.replace(fit, tokens=tokens, learning_rate=rate))

    def _rate_factor(self) -> float:
        """What the next iterate's learning rate is multiplied by, where limits lower it."""
        limits = self.config.limits
        if limits.lowers != "learning-rate":
            return 1.0
        return processes.decided(lambda: limit_factor(limits, self.home, self.iterates + 1))

    def _at_step(self, oracle: PreferenceOracle) -> PreferenceOracle:
        """The oracle for the step that is judged, where each step has its own."""
        if not isinstance(oracle, StepwiseOracle):
            return oracle
        for part in self._attached:
            part.offload()  # a fit needs the memory
        step, samplers, numbers = self._judged
        # that of the step before is not needed again
        self._attached = [part for part in self._attached if isinstance(part, LanguageModel)]
        return oracle.at_step(step, lambda: self._sampled(samplers, numbers), self.progress.pause)

    def _sampled(self, samplers: Sequence[Sampled], numbers: PromptNumbers) -> SampledTexts:
        """The responses of a step."""
        for policy in samplers:
            for number, texts in self.rollouts.all_texts(policy.label, numbers).items():
                yield self.prompts[number].text, policy.label, texts

    def _writer(self, iteration: int) -> Writer:
        """Who writes the variants of an iteration: the model behind the server, or the newest iterate."""
        if self.config.augment != "policy":
            return EndpointWriter(self.config, self.home)
        name = step_name(iteration)
        return PolicyWriter(self._model, Adapter(name, self.home / name / "adapter"), self._source)

    def _model(self) -> LanguageModel:
        return self._on_device(self._load_model())

    def _on_device(self, part: Part) -> Part:
        """A model or an oracle, attached. The policy's network and those of the oracle take turns on the device."""
        parts = self._attach(part)
        for other in self._attached if parts else []:
            if not any(other is own for own in parts):
                other.offload()
        return part

    def _attached_model(self) -> LanguageModel:
        model = self._load_model()
        self._attach(model)
        return model

    def _attach(self, part: LanguageModel | PreferenceOracle) -> Sequence[LanguageModel | NetworkOracle]:
        """The networks of a model or an oracle; their out-of-memory events go to the journal."""
        parts = [part] if isinstance(part, LanguageModel) else networks(part)
        for own in parts:
            if not any(own is known for known in self._attached):
                own.on_event = self.progress.on_event
                self._attached.append(own)
                if isinstance(own, LanguageModel):
                    own.invalidate()
        return parts
