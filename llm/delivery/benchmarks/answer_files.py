"""Answer files of public benchmarks, as their own programs read them: AlpacaEval, MT-Bench, Arena-Hard v2."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from nashward.errors import NashwardError
from nashward.shortened import quoted

from ...data.rows import read_rows

Format = Literal["alpaca-eval", "mt-bench", "arena-hard"]
FORMATS: tuple[Format, ...] = get_args(Format)
GREEDY = 1e-4  # in place of the temperature 0, at which no distribution is left to sample from
# of FastChat's temperature_config
TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "extraction": GREEDY, "math": GREEDY, "coding": GREEDY, "reasoning": GREEDY,
    "stem": 0.1, "humanities": 0.1,
}  # fmt: skip
STYLE = ("token_len", "header_count", "list_count", "bold_count")  # Arena-Hard's counts of an answer
CODE = re.compile(r"```[^`]*```")
ENCODING = "o200k_base"  # gpt-4o's, in tiktoken


@dataclass(frozen=True)
class Question:
    """One question of a benchmark.

    Attributes:
        key: by which the benchmark knows it.
        turns: what the user says; each after the answer to the one before.
        temperature: to answer at; None: the benchmark has none of its own.
        dataset: the part of the benchmark that it is of.
    """

    key: Any
    turns: tuple[str, ...]
    temperature: float | None = None
    dataset: str | None = None


def read_questions(source: str | Path, form: Format) -> list[Question]:
    """The questions of a benchmark from its own file, in its order.

    Args:
        source: AlpacaEval's evaluation set (JSON with ``instruction`` and ``dataset``), MT-Bench's ``question.jsonl``
            (``question_id``, ``category``, ``turns``), Arena-Hard's ``question.jsonl`` (``uid``, ``prompt``).
        form: of the benchmark.

    Raises:
        FileNotFoundError: there is no such file.
        NashwardError: a row is not one of this benchmark (it is numbered), a key occurs twice, or there is no row.
    """
    questions = []
    for number, row in enumerate(read_rows(source, "questions"), 1):
        try:
            questions.append(READERS[form](_fields(row)))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise NashwardError(
                f"{source}: row {number} is no question of {form}: {reason}; give the file from its repository"
            ) from None
    if not questions:
        raise NashwardError(f"{source} holds no questions")
    keys = [question.key for question in questions]
    if form != "alpaca-eval" and len(set(keys)) < len(keys):
        twice = next(key for k, key in enumerate(keys) if key in keys[:k])
        raise NashwardError(f"{source} has the question {twice!r} twice; give the file from its repository")
    return questions


def _alpaca_eval(row: Mapping[str, Any]) -> Question:
    text = _text(row["instruction"], "instruction")
    return Question(text, (text,), dataset=row.get("dataset"))


def _mt_bench(row: Mapping[str, Any]) -> Question:
    category, turns = row["category"], row["turns"]
    if category not in TEMPERATURES:
        raise NashwardError(f"the category {category!r} has no temperature; expected one of {', '.join(TEMPERATURES)}")
    if not isinstance(turns, list) or not turns:
        raise NashwardError(f"turns is {quoted(turns, 40)}, expected a list of texts")
    texts = tuple(_text(turn, "turns") for turn in turns)
    return Question(int(row["question_id"]), texts, TEMPERATURES[category], category)


def _arena_hard(row: Mapping[str, Any]) -> Question:
    return Question(_text(row["uid"], "uid"), (_text(row["prompt"], "prompt"),), dataset=row.get("category"))


def _fields(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TypeError(f"expected an object, got {quoted(row, 60)}")
    return row


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise NashwardError(f"{name} is {quoted(value, 40)}, expected a text")
    return value


READERS: dict[Format, Callable[[Mapping[str, Any]], Question]] = {
    "alpaca-eval": _alpaca_eval, "mt-bench": _mt_bench, "arena-hard": _arena_hard,
}  # fmt: skip


def answer_rows(
    form: Format, questions: Sequence[Question], answers: Sequence[Sequence[str]], name: str, time: float,
    tokens: Callable[[str], int],
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of an answer file.

    Args:
        form: of the benchmark.
        questions: in their order.
        answers: to the turns of each.
        name: of the model.
        time: seconds since 1970.
        tokens: counts those of a text, for Arena-Hard.

    Example:
        >>> (row,) = answer_rows("alpaca-eval", [Question("Hi", ("Hi",))], [["Hello."]], "mine", 0.0, len)
        >>> row
        {'instruction': 'Hi', 'output': 'Hello.', 'generator': 'mine', 'dataset': None}
    """
    rows: list[dict[str, Any]] = []
    for question, texts in zip(questions, answers, strict=True):
        identity = hashlib.sha256(f"{name}\n{question.key}\n{texts}".encode(errors="replace")).hexdigest()[:22]
        row: dict[str, Any]
        if form == "alpaca-eval":
            row = {
                "instruction": question.turns[0], "output": texts[0], "generator": name, "dataset": question.dataset,
            }  # fmt: skip
        elif form == "mt-bench":
            choices = [{"index": 0, "turns": list(texts)}]
            row = {
                "question_id": question.key, "answer_id": identity, "model_id": name, "choices": choices,
                "tstamp": time,
            }  # fmt: skip
        else:
            messages = [
                {"role": "user", "content": question.turns[0]},
                {"role": "assistant", "content": {"answer": texts[0]}},
            ]
            row = {
                "uid": question.key, "ans_id": identity, "model": name, "messages": messages, "tstamp": time,
                "metadata": {"token_len": tokens(texts[0]), **style(texts[0])},
            }  # fmt: skip
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Answers:
    """The answers of one model to a benchmark's questions.

    Attributes:
        name: of the model.
        turns: its answers to the turns of each question, by the question's key.
        style: Arena-Hard's counts of each answer, by the question's key: tokens, headers, items of lists, bold parts.
    """

    name: str
    turns: Mapping[Any, tuple[str, ...]]
    style: Mapping[Any, tuple[int, ...]]

    def check(self, questions: Sequence[Question], path: Path) -> None:
        """NashwardError where a question, or a turn of it, has no answer."""
        for question in questions:
            found = len(self.turns.get(question.key, ()))
            if found < len(question.turns):
                raise NashwardError(
                    f"{path} has {found} of {len(question.turns)} answers to the question {question.key!r}; answer all "
                    "with nashward answer --format, or judge the first questions alone with --limit"
                )


def read_answers(path: Path, form: Literal["mt-bench", "arena-hard"]) -> Answers:
    """The answers in a benchmark's own file, as ``answer_rows`` writes it.

    Args:
        path: JSONL of MT-Bench (``question_id``, ``choices``) or of Arena-Hard v2 (``uid``, ``messages``).
        form: of the benchmark.

    Raises:
        FileNotFoundError: there is no such file.
        NashwardError: a row is not one of this benchmark (it is numbered), a key occurs twice, two models, or no row.
    """
    turns: dict[Any, tuple[str, ...]] = {}
    counts: dict[Any, tuple[int, ...]] = {}
    names = set()
    for number, row in enumerate(read_rows(path, "answers"), 1):
        try:
            own = _fields(row)
            if form == "mt-bench":
                key, name, texts = int(own["question_id"]), own["model_id"], own["choices"][0]["turns"]
            else:
                content = own["messages"][-1]["content"]
                key, name = own["uid"], own["model"]
                texts = [content["answer"] if isinstance(content, Mapping) else content]
                if isinstance(metadata := own.get("metadata"), Mapping):
                    named = [metadata[name] for name in STYLE if name in metadata]
                    counts[key] = tuple(int(n if isinstance(n, int) else sum(n.values())) for n in named)
            if not all(isinstance(text, str) for text in texts):
                raise TypeError(f"an answer is no text: {quoted(texts, 60)}")  # noqa: TRY301
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"lacks {error}" if isinstance(error, LookupError) else str(error)
            raise NashwardError(f"{path}: row {number} is no answer of {form}: {reason}") from None
        if key in turns:
            raise NashwardError(f"{path} answers the question {key!r} twice; give one answer")
        turns[key] = tuple(texts)
        names.add(str(name))
    if len(names) != 1:
        raise NashwardError(f"{path} has the answers of {len(names)} models; expected those of one")
    return Answers(names.pop(), turns, counts)


def style(text: str) -> dict[str, dict[str, int]]:
    """Arena-Hard's counts of Markdown, outside of code blocks.

    By its own patterns, which its leaderboard compares with; those of ``games.analysis.style`` take more for headers
    and items of lists.

    Example:
        >>> counts = style("# A\\n- **b**\\n1. c\\n```\\n# code\\n```")
        >>> counts["header_count"]["h1"], counts["list_count"], counts["bold_count"]
        (1, {'ordered': 1, 'unordered': 1}, {'**': 1, '__': 0})
    """
    text = CODE.sub("", text)

    def count(pattern: str) -> int:
        return len(re.findall(pattern, text, re.MULTILINE))

    return {
        "header_count": {f"h{level}": count(rf"^#{{{level}}}\s") for level in range(1, 7)},
        "list_count": {"ordered": count(r"^\s*\d+\.\s"), "unordered": count(r"^\s*[-*+]\s")},
        "bold_count": {"**": count(r"\*\*[^*\n]+\*\*"), "__": count(r"__[^_\n]+__")},
    }


def token_counter() -> Callable[[str], int]:
    """Counts the tokens of a text in gpt-4o's encoding, as Arena-Hard does.

    Raises:
        NashwardError: tiktoken is not installed, or its encoding is not on this machine and cannot be fetched.
    """
    how = "pip install tiktoken, and load its encoding o200k_base once on a machine with network (TIKTOKEN_CACHE_DIR)"
    if find_spec("tiktoken") is None:
        raise NashwardError(f"Arena-Hard counts tokens by tiktoken: {how}")
    import tiktoken  # type: ignore[import-not-found,unused-ignore]

    try:
        encoding = tiktoken.get_encoding(ENCODING)
    except Exception as error:  # noqa: BLE001 of requests, whatever the network does
        raise NashwardError(f"tiktoken has no {ENCODING} ({type(error).__name__}): {how}") from None
    return lambda text: len(encoding.encode(text, disallowed_special=()))
