"""The settings of a run: the tree of a TOML file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .endpoint import Endpoint, JudgeSettings, check_url
from .fields import check_choice, setting
from .fit import Fit
from .inputs import ENDPOINT
from .limits import Limits
from .lora import Lora
from .people import People
from .phase import Phase
from .placement import Placement
from .sampling import Sampling

Mixtures = Literal["fitted", "token-level"]
PromptSelection = Literal["uniform", "informative", "coverage"]

OWN_ENGINE = "vllm"
# a key would be on a command line and in run.json; the others would lead to another server, or another model
ENGINE_OWN = ("--api-key", "--host", "--port", "--uds", "--root-path", "--model", "--served-model-name")


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run, but for its solver and what it reads.

    Attributes:
        iterations: how many iterates to make.
        seed: the seed of everything that is drawn.
        lora: the shape of a new adapter.
        chat_template: a Jinja template in place of the tokenizer's.
        quantise: keep the base in 4 bits; None: on a card, and on a CPU where it is large, see ``policy.base.weights``.
        quantise_head: its head too, see ``LanguageModel.from_pretrained``.
        column: the field that holds the prompt, where it is not one of the usual ones.
        drop_similar: prompts that are at least this similar to an earlier one are dropped, and counted; None: they
            are kept. See ``data.near_duplicates``.
        prompts_per_iteration: each iteration takes so many prompts (None: all of them each time).
        prompt_selection: which: "uniform", the next ones of an order that is shuffled for each epoch, or "informative",
            drawn with probabilities that grow with the spread of the win rates of a prompt's responses, or "coverage",
            the next ones of an order in which the first ones are like as many of all prompts as possible.
        prompt_encoder: for coverage: a folder or "real:minilm", whose embeddings say which prompts are alike; None:
            words and pairs of words do.
        prompt_floor: for informative selection: the least probability of a prompt, as a share of the uniform one.
        augment: who writes paraphrases and harder variants of the most informative fifth of the prompts, which later
            iterations are played on beside the others: "policy", the run's own, or "openai:MODEL". With
            ``prompts_per_iteration`` they are among these. See ``run.inputs.augmentation``.
        augment_url: the URL of that model's server; None: the variable OPENAI_BASE_URL, else OpenAI's own.
        max_prompt_tokens: longer prompts are dropped, and counted.
        phases: iterations with a step and a learning rate of their own.
        mixtures: what a geometric mixture that a Step samples from is: "fitted" to an adapter of its own, or
            "token-level", blended while it is drawn, which costs no fit and is an approximation (``MixedNetwork``).
        responses: K, the responses per prompt from each policy; at least 2.
        sampling: how they are drawn.
        engine: what draws the responses in place of transformers: "vllm", which is started for the drawing and stopped
            after it, or the URL of a serving engine; see ``policy.engines``.
        engine_model: what that server calls the base.
        engine_python: the Python of an environment with vLLM; None: this one.
        engine_options: more options of vLLM, as its command line has them: "--tensor-parallel-size 2".
        self_comparison: whether a response is compared with itself (1/2) in its win rate.
        cache: the file of judgements; None: ``judgements.sqlite`` in the run folder. Only an oracle that has a
            fingerprint is cached.
        judge: how a language model behind a server judges (``openai:MODEL`` as the oracle).
        endpoint: how servers are called.
        fit: how a step is fitted.
        limits: how far the likelihood of the SFT texts may fall, and how rarely an iterate may win.
        people: how a run waits for the votes of people, where they are the oracle.
        plan: on a GPU, and on a CPU whose memory is short, find out first, from the configurations alone, which batches
            and which placement fit, and take these unless less is requested; refuse what does not fit. See
            ``nashward.llm.planner.plan``.
        placement: what of the policy lives on the device; None: what costs little time, see ``default_placement``; a
            mapping: that, but for these of its attributes.

    Raises:
        ValueError: fewer than 2 responses, no iteration, no prompt per iteration, a similarity outside its range, an
            unknown selection, augmentation or mixtures, selection among all prompts, an encoder without coverage, a
            floor that is no share, or a placement that ``Placement`` refuses.

    Example:
        >>> RunConfig(iterations=1, fit=Fit(epochs=1)).fit.batch
        16
    """

    iterations: int = setting(3, "iterates to make", "run")
    seed: int = setting(0, "seed of everything that is drawn", "run")
    lora: Lora = setting(default_factory=Lora)
    chat_template: str | None = setting(
        None, "a Jinja file (or the template itself) in place of the tokenizer's chat template", "models"
    )
    quantise: bool | None = setting(
        None,
        "keep the base in 4 bits (default: on a card, and on a CPU where 32 bits take over half of its memory)",
        "models",
    )
    quantise_head: bool = setting(False, "the head in 4 bits too: another policy, in less memory", "models")
    column: str | None = setting(
        None, "the field with the prompt (default: prompt, messages, ...)", "prompts", option="prompt-field"
    )
    drop_similar: float | None = setting(
        None,
        "drop a prompt that is at least this similar to an earlier one, such as 0.8 (the share of runs of 3 words that "
        "both have)",
        "prompts",
        none="nothing",
    )
    prompts_per_iteration: int | None = setting(None, "prompts of an iteration", "prompts", none="all")
    prompt_selection: PromptSelection = setting(
        "uniform",
        "which prompts an iteration takes: the next ones of a shuffled order, by informativeness, which is how far "
        "the win rates of a prompt's responses are apart, or by coverage: those that are like as many as possible",
        "prompts",
    )
    prompt_encoder: str | None = setting(
        None,
        "with coverage, the encoder (folder or real:minilm) that says which prompts are alike (default: words do)",
        "prompts",
    )
    prompt_floor: float = setting(
        0.2, "with informative selection, the least probability of a prompt, as a share of the uniform one", "prompts"
    )
    augment: str | None = setting(
        None,
        "write paraphrases and harder variants of the fifth of the prompts whose responses' win rates are the furthest "
        "apart, and play on them too: policy (the run's own writes), or openai:MODEL (default: none)",
        "prompts",
    )
    augment_url: str | None = setting(
        None, "URL of the server of --augment openai:MODEL (default: $OPENAI_BASE_URL, else OpenAI's own)", "prompts"
    )
    max_prompt_tokens: int = setting(512, "longer prompts are dropped", "prompts")
    phases: Sequence[Phase] = setting(
        (),
        "iterations with a step and a learning rate of their own, as in TOML: [{iterations = 2, step = 2.5}, "
        "{iterations = 2, learning_rate = 1e-4}]",
        "solver",
    )
    mixtures: Mixtures = setting(
        "fitted",
        "a solver's geometric mixture is fitted to an adapter, or token-level: no fit, an approximation",
        "solver",
    )
    responses: int = setting(5, "K, responses per prompt", "sampling")
    sampling: Sampling = setting(default_factory=Sampling)
    engine: str | None = setting(
        None,
        "what draws the responses: vllm, which is started for that and stopped before training, or the URL of a "
        "server, as http://localhost:8000/v1 (default: transformers)",
        "sampling",
    )
    engine_model: str | None = setting(None, "the base's name on that server (default: the only one)", "sampling")
    engine_python: str | None = setting(
        None, "with --engine vllm: the Python of an environment that has vLLM (default: this one)", "sampling"
    )
    engine_options: str | None = setting(
        None, 'with --engine vllm: more of its options, as "--tensor-parallel-size 2" (default: none)', "sampling"
    )
    self_comparison: bool = setting(False, "compare a response with itself too (1/2), as SPPO does", "judging")
    cache: str | Path | None = setting(
        None, "keep judgements in this file (default: judgements.sqlite in the run folder)", "judging"
    )
    judge: JudgeSettings = setting(default_factory=JudgeSettings)
    endpoint: Endpoint = setting(default_factory=Endpoint)
    fit: Fit = setting(default_factory=Fit)
    limits: Limits = setting(default_factory=Limits)
    people: People = setting(default_factory=People)
    plan: bool = setting(
        True,
        "on a GPU, and on a CPU whose memory is short, find batches and a placement that fit; refuse what does not "
        "(default)",
        "memory",
    )
    placement: Placement | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_choice("mixtures", self.mixtures, Mixtures)
        if self.responses < 2:
            raise NashwardError(
                f"each prompt needs at least 2 responses to be compared with each other, got {self.responses}"
            )
        if self.prompts_per_iteration is not None and self.prompts_per_iteration < 1:
            raise NashwardError(f"prompts_per_iteration must be at least 1, got {self.prompts_per_iteration}")
        if self.drop_similar is not None and not 0 < self.drop_similar <= 1:
            raise NashwardError(f"drop_similar must be a similarity above 0 and at most 1, got {self.drop_similar}")
        check_choice("prompt_selection", self.prompt_selection, PromptSelection)
        if not 0 < self.prompt_floor <= 1:
            raise NashwardError(f"prompt_floor must be above 0 and at most 1, got {self.prompt_floor}")
        if self.prompt_selection != "uniform" and self.prompts_per_iteration is None:
            raise NashwardError(
                "an iteration that takes all prompts has none to choose: give prompts_per_iteration with "
                f"prompt_selection {self.prompt_selection}"
            )
        if self.prompt_encoder is not None and self.prompt_selection != "coverage":
            raise NashwardError("prompt_encoder belongs to coverage: give prompt_selection coverage, or leave it out")
        if self.augment is not None and self.augment != "policy" and not re.fullmatch(rf"{ENDPOINT}\S.*", self.augment):
            raise NashwardError(f"augment is {quoted(self.augment, 80)}; expected policy or openai:MODEL")
        if self.augment_url is not None:
            if self.augment in (None, "policy"):
                raise NashwardError("augment_url belongs to a model behind a server: give augment openai:MODEL")
            url = check_url(self.augment_url, "the URL of the server that augments")
            object.__setattr__(self, "augment_url", url)  # as it is recorded
        self._check_engine()
        if self.engine is not None and self.mixtures == "token-level":
            raise NashwardError("no engine draws token-level mixtures: take mixtures fitted")
        if self.engine is not None and self.sampling.kv_cache != "full":
            raise NashwardError(
                f"kv_cache {self.sampling.kv_cache} is of the sampler of this process, and an engine has a cache of "
                "its own: leave kv_cache out, or engine"
            )
        if self.iterations < 1:
            raise NashwardError(f"iterations must be at least 1, got {self.iterations}")
        if isinstance(self.placement, Mapping):
            Placement().but(self.placement)  # its own checks

    def _check_engine(self) -> None:
        if self.engine not in (None, OWN_ENGINE):
            if not {":", "@"} & set(str(self.engine)):  # what may be a URL, and hold a key, is not shown
                raise NashwardError(
                    f"engine is {quoted(self.engine, 80)}; expected {OWN_ENGINE}, or the URL of an engine as "
                    "http://localhost:8000/v1"
                )
            check_url(str(self.engine), f"engine is no {OWN_ENGINE}, and the URL of the engine")
        if self.engine_model is not None and self.engine in (None, OWN_ENGINE):
            raise NashwardError("engine_model names a model of an engine: give its URL with engine")
        for name, given in (("engine_python", self.engine_python), ("engine_options", self.engine_options)):
            if given is not None and self.engine != OWN_ENGINE:
                raise NashwardError(f"{name} belongs to {OWN_ENGINE}: give engine {OWN_ENGINE}, or leave it out")
        _ = self.engine_words

    @property
    def engine_words(self) -> list[str]:
        """The options of vLLM, word by word.

        Raises:
            NashwardError: a quotation without an end, or an option that the run itself decides.
        """
        try:
            words = shlex.split(self.engine_options or "")
        except ValueError as error:
            raise NashwardError(f"engine_options {quoted(self.engine_options, 200)} cannot be read: {error}") from None
        for word in words:
            name = word.partition("=")[0].replace("_", "-")
            if name in ENGINE_OWN:
                raise NashwardError(f"engine_options has {name}, which the run itself decides; leave it out")
        return words
