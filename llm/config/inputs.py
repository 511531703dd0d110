"""What a run reads and where it writes, as a file of settings or a command names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nashward.errors import NashwardError

from .endpoint import check_url
from .fields import setting

# what a source begins with that is none of files: a folder of votes, a model behind a server, one here that judges
PEOPLE, ENDPOINT, LOCAL_JUDGE = "people:", "openai:", "judge:"


@dataclass(frozen=True)
class Inputs:
    """The arguments of ``SelfPlay`` that are files, folders or hub ids.

    Attributes:
        folder: the run folder.
        policy: a chat model.
        oracle: what judges; several are one by ``combine``.
        objective: in place of oracle, several objectives, each ``NAME=ORACLE``.
        combine: see ``llm.oracles.EnsembleSource``.
        correct: see ``llm.oracles.CorrectedSource``.
        adapter: a LoRA to start from and to regress against.
        prompts: what the policy responds to.
        sft: prompts with responses whose likelihood is kept up.

    Example:
        >>> Inputs(policy="models/chat").oracle is None
        True
    """

    folder: Path | None = setting(None, "the run folder; the same command continues it", "run", option="out")
    policy: str | None = setting(
        None,
        "a chat model: folder, hub id, GGUF file, pocket:policy (a small one that is here already), or "
        "real:smollm2-135m from a package",
        "models",
    )
    oracle: str | tuple[str, ...] | None = setting(
        None,
        "a PairRM, GPM or reward model (folder, hub id, or pocket:pairrm, a small one that is here already), votes "
        "(.jsonl), openai:MODEL (a language model behind a server), people:FOLDER (people, who vote while the "
        "run goes on), module:name (a module that is imported, and so run, from the current folder or from what is "
        "installed; of a class with its settings module:Class:setting=value)",
        "models",
    )
    objective: str | tuple[str, ...] | None = setting(
        None,
        "NAME=ORACLE, an objective; given two times or more in place of --oracle. --combine is then weights:NAME=2 "
        "(default: weights), worst-case:tau=0.1, floors:NAME=0.45 (the least win rate over the start; sft=0.05: the "
        "most that the NLL of the SFT texts rises), lexicographic:epsilon=0.1, or majority",
        "models",
    )
    combine: str | None = setting(
        None,
        "how several oracles are one (--oracle given several times): log-odds, probability, majority, "
        "accuracy:pairs=FILE (labelled pairs), dawid-skene:pairs=FILE (three or more); each with :pessimism=K "
        "(default: log-odds)",
        "models",
    )
    correct: str | tuple[str, ...] | None = setting(
        None,
        "take an error out of the oracle: style:pairs=FILE, temperature:pairs=FILE, flips:pairs=FILE (of verdicts, at "
        "random), ties:pairs=FILE, fitted to these pairs (may be given several times, the first within)",
        "models",
    )
    adapter: str | None = setting(None, "LoRA folder or id to start from and to regress against", "models")
    prompts: str | None = setting(
        None,
        "JSONL, JSON, CSV, Parquet or text file, pocket:prompts (160 questions that are here already), a set "
        "(ultrafeedback, dolly, ...), or a dataset id (ID or ID:SPLIT)",
        "prompts",
    )
    sft: str | None = setting(
        None,
        "prompts with responses (prompt and output, response or text) whose likelihood is raised beside the step's "
        "loss, and measured",
        "SFT and limits",
    )


@dataclass(frozen=True)
class EndpointResponses:
    """A model behind a server whose responses a run is played against.

    Attributes:
        model: its name on the server.
        base_url: the server's URL, without credentials; None: the variable OPENAI_BASE_URL, else OpenAI's own.
        count: responses per prompt.
        max_tokens: the longest response.

    Raises:
        ValueError: no name, a URL with credentials, or a number below 1.

    Example:
        >>> EndpointResponses("gpt-5", count=2).max_tokens
        1024
    """

    model: str
    base_url: str | None = None
    count: int = 1
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise NashwardError(f"{ENDPOINT} lacks the name of a model: {ENDPOINT}MODEL, as the server calls it")
        if self.base_url is not None:
            check_url(self.base_url)
        if self.count < 1 or self.max_tokens < 1:
            raise NashwardError(f"opponents need at least 1 response of 1 token, got {self.count} of {self.max_tokens}")


@dataclass(frozen=True)
class Opponents:
    """The stored responses that a run is played against, and how much they count.

    Attributes:
        responses: a file of one model's responses, or a folder with one file per model; "openai:MODEL": a model behind
            a server that responds while the run is judged; None: those in the run folder.
        shares: the part of the opponent that all models are together, divided evenly, or each one's part:
            "gpt=0.2,claude=0.1".
        base_url, count, max_tokens: for a model behind a server, see ``EndpointResponses``.

    Example:
        >>> Opponents("gpt.jsonl", "0.1").shares
        '0.1'
    """

    responses: str | None = setting(
        None,
        "another model's responses to the prompts, a folder of one file per model, or openai:MODEL, a model behind a "
        "server that responds: opponents beside the policy's own",
        "solver",
        option="opponents",
    )
    shares: str | None = setting(
        None,
        "share of the opponents in what a step is played against: all together, or NAME=SHARE,... "
        "(default with --opponents: 0.25)",
        "solver",
        option="opponent-shares",
    )
    base_url: str | None = setting(
        None, "URL of the server of --opponents openai:MODEL (default: $OPENAI_BASE_URL, else OpenAI's own)", "solver",
        option="opponents-url",
    )  # fmt: skip
    count: int = setting(
        EndpointResponses.count, "responses of that model per prompt", "solver", option="opponent-responses"
    )
    max_tokens: int = setting(
        EndpointResponses.max_tokens, "tokens of the longest of these", "solver", option="opponent-max-tokens"
    )
