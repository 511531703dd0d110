"""``SelfPlay``: any mirror-step solver of ``nashward.games``, played by a language model against itself."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..games import Blend, Policy, Solver, Step, drive
from .adapters import Adapters, Settings, Stage, StageDone
from .fit import Fit
from .folder import RunFolder, read_lines, write_json, write_lines
from .mixture import Mixture
from .model import LanguageModel, Lora, adapter_config, check_policy, encode
from .oracles import PairRM, PreferenceOracle
from .prompts import Prompts, read_prompts
from .sampling import Sampling, Source

PROMPTS = "prompts.jsonl"


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
    """

    folder: Path
    last: Path
    average: Mixture
    metrics: list[dict[str, Any]]
    prompts: Prompts | None = None
    stopped: str | None = None


@dataclass
class SelfPlay:
    """Self-play of a language model under a preference oracle.

    Each Step of the solver becomes: K responses a prompt from each opponent, their tables of win probabilities from
    the oracle, and a regression of an adapter onto the Step (see ``Adapters``). Everything is kept in a run folder;
    the same settings on the same folder continue where it stands.

    Args:
        policy: a folder or hub id of a chat model, or a loaded ``LanguageModel``.
        oracle: a folder or hub id of a PairRM, or any ``PreferenceOracle``; None while no stage needs it.
        solver: an object with ``play(start, reference)`` that yields Steps.
        prompts: a file, a dataset id, or rows; see ``read_prompts``. None: those that the folder holds.
        folder: the run folder.
        adapter: a LoRA folder or id to start from and to regress against.
        iterations: how many iterates to make.
        responses: K, the responses a prompt from each policy; at least 2.
        sampling: where responses come from: ``Sampling``, or any ``Source``.
        fit, lora: settings of the parts.
        self_comparison: whether a response is compared with itself (1/2) in its win rate.
        prompts_per_iteration: each iteration takes the next so many prompts (None: all of them each time).
        max_prompt_tokens: longer prompts are dropped, and counted.
        column: the field that holds the prompt, where it is not one of the usual ones.
        chat_template: a Jinja template in place of the tokenizer's.
        quantise: keep the base in 4 bits.
        seed: of everything.

    Raises:
        ValueError, FileNotFoundError: from ``check``, before anything is written.

    Example:
        >>> from nashward import llm
        >>> run = llm.SelfPlay(
        ...     policy=llm.pocket.POLICY, oracle=llm.pocket.PAIRRM, solver=solver, prompts="prompts.jsonl",
        ...     folder="runs/first", iterations=1,
        ... ).run()  # doctest: +SKIP
    """

    policy: str | Path | LanguageModel | None
    oracle: str | Path | PreferenceOracle | None
    solver: Solver
    prompts: str | Path | Iterable[Any] | None
    folder: str | Path
    adapter: str | Path | None = None
    iterations: int = 3
    responses: int = 5
    sampling: Source = field(default_factory=Sampling)
    fit: Fit = field(default_factory=Fit)
    lora: Lora = field(default_factory=Lora)
    self_comparison: bool = False
    prompts_per_iteration: int | None = None
    max_prompt_tokens: int = 512
    column: str | None = None
    chat_template: str | None = None
    quantise: bool = True
    seed: int = 0

    def run(self, until: Stage | None = None) -> Run:
        """Play. With ``until`` stop after that stage of the first unfinished Step: "sample", "judge" or "train"."""
        home = RunFolder(self.folder)
        prompts = self.check(until)
        self.write(home, prompts)
        executor = Adapters(home, prompts.kept, self.settings, lambda: self.model, lambda: self.judge, until)
        start = executor.start(self.adapter)
        played: list[Blend] = []
        made: list[Policy] = [start]

        def record(step: Step, policy: Policy) -> bool:
            if isinstance(step.counts, Blend):
                played.append(step.counts)
            if step.last:
                made.append(policy)
            return False

        stopped = None
        try:
            drive(self.solver, start, start, executor.execute, record, self.iterations)
        except StageDone as stage:
            stopped = str(stage)
        average = sum(played[1:], played[0]) / len(played) if played else Blend({start: 1.0})
        mixture = Mixture(tuple((policy.value.folder, weight) for policy, weight in average))
        mixture.save(home / "mixture.json")
        write_json(
            home / "last.json",
            {"adapter": str(made[-1].value.folder.relative_to(home.path)), "iterates": len(made) - 1},
        )
        return Run(home.path, made[-1].value.folder, mixture, metrics(home.path), prompts, stopped)

    @property
    def settings(self) -> Settings:
        return Settings(
            self.responses, self.sampling, self.fit, self.self_comparison, self.prompts_per_iteration, self.seed
        )

    def check(self, until: Stage | None = None) -> Prompts:
        """Everything that can be found wrong before a weight is loaded or a byte is written; the prompts to play on."""
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        assert self.settings  # its own checks
        home = RunFolder(self.folder)
        held = home.read()
        home.check(self.config())
        needs_policy = until != "judge"
        if needs_policy and self.policy is None:
            raise ValueError("a policy is needed: a folder or hub id of a chat model")
        if self.oracle is None and until is None:
            raise ValueError("an oracle is needed: a folder or hub id of a PairRM, or a PreferenceOracle")
        tokenizer = None
        if isinstance(self.policy, LanguageModel):
            tokenizer = self.policy.tokenizer
        elif self.policy is not None:
            tokenizer = check_policy(self.policy, self.chat_template)
        if self.adapter is not None:
            adapter_config(self.adapter)
        if isinstance(self.oracle, str | Path):
            PairRM.check(self.oracle)
        if held and (home / PROMPTS).exists():
            return read_prompts(home / PROMPTS)
        if self.prompts is None:
            raise ValueError(f"{home.path} holds no prompts yet; give a file or a dataset id")
        prompts = read_prompts(self.prompts, self.column)
        if tokenizer is not None:
            short = [len(encode(tokenizer, prompt)) <= self.max_prompt_tokens for prompt in prompts.kept]
            prompts.drop(short, f"longer than {self.max_prompt_tokens} tokens")
        if not prompts.kept:
            raise ValueError(f"no prompt is left: {prompts}")
        return prompts

    def config(self) -> dict[str, Any]:
        """What pins the run: a run folder that was written with other values is refused."""

        def name(model: Any) -> str | None:
            if model is None or isinstance(model, str | Path):
                return None if model is None else str(Path(model).resolve()) if Path(model).exists() else str(model)
            return str(model.name)

        solver: Any = self.solver
        fields = (
            {f.name: getattr(solver, f.name) for f in dataclasses.fields(solver)}
            if dataclasses.is_dataclass(solver)
            else {}
        )
        source = self.prompts if isinstance(self.prompts, str | Path) else None
        return {
            "policy": name(self.policy),
            "adapter": name(self.adapter),
            "oracle": name(self.oracle),
            "prompts": name(source),
            "solver": {
                "name": type(solver).__name__,
                **_plain(fields),
            },
            "iterations": self.iterations,
            "responses": self.responses,
            "self_comparison": self.self_comparison,
            "prompts_per_iteration": self.prompts_per_iteration,
            "seed": self.seed,
            "fit": dataclasses.asdict(self.fit),
            "sampling": {"source": type(self.sampling).__name__, **_plain(vars(self.sampling))},
            "lora": dataclasses.asdict(self.lora),
            "max_prompt_tokens": self.max_prompt_tokens,
            "column": self.column,
            "chat_template": self.chat_template,
            "quantise": self.quantise,
        }

    def write(self, home: RunFolder, prompts: Prompts) -> None:
        home.write(home.check(self.config()), environment())
        if not (home / PROMPTS).exists():
            write_lines(
                home / PROMPTS, [{"messages": list(prompt.messages), "id": prompt.id} for prompt in prompts.kept]
            )

    @cached_property
    def model(self) -> LanguageModel:
        """The policy's network, loaded when it is first needed."""
        if isinstance(self.policy, LanguageModel):
            return self.policy
        if self.policy is None:
            raise ValueError("this stage needs a policy: a folder or hub id of a chat model")
        return LanguageModel.from_pretrained(
            self.policy,
            self.adapter,
            lora=self.lora,
            quantise=self.quantise,
            chat_template=self.chat_template,
            seed=self.seed,
        )

    @cached_property
    def judge(self) -> PreferenceOracle:
        """The oracle, loaded when it is first needed."""
        if isinstance(self.oracle, PreferenceOracle):
            return self.oracle
        if self.oracle is None:
            raise ValueError("the responses are not judged yet, which needs an oracle: a folder or hub id of a PairRM")
        return PairRM.from_pretrained(self.oracle)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON holds them; what it cannot hold by its repr."""
    return {key: v if isinstance(v, str | int | float | None) else repr(v) for key, v in settings.items()}


def metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The summaries of a run's iterates and half steps, in order."""
    files = sorted(
        Path(folder).glob("iteration-*/metrics.jsonl"),
        key=lambda file: (file.parent.name[:12], "half" not in file.parent.name),
    )
    return [row for file in files for row in read_lines(file) if "iteration" in row]


def environment() -> dict[str, Any]:
    """Versions, hardware and commit, for the record."""
    packages = ("nashward", "torch", "transformers", "peft", "bitsandbytes")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "versions": versions,
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine(),
        "commit": commit.stdout.strip() or None,
    }
