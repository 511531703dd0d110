"""A user's own protocol: a Jinja file that declares the answers and the pattern that finds one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from nashward.errors import NashwardError

from .answers import Answer
from .protocol_of_judge import JudgeProtocol, Turns
from .published import PUBLISHED

VARIABLES = ("prompt", "response_a", "response_b", "rubric", "reference")
DECLARED = "{% set answer = 'Winner: (\\w+)' %}{% set first, second, tie = '1', '2', '0' %}"


@dataclass(frozen=True)
class UserProtocol(JudgeProtocol):
    """The protocol of a Jinja file.

    The file declares, as Jinja's variables, ``answer``: a regular expression whose group is the verdict, of which the
    last match in the judge's output counts; ``first`` and ``second``: the verdicts for the two responses; and where
    there is one ``tie``. ``system``, where it is set, is the system message; ``lead`` is what the judge writes before
    the verdict where it writes nothing else (none: the verdict is its first token). The rest is the user message, of
    ``prompt``, ``response_a``, ``response_b``, and ``rubric`` and ``reference``, which may be none.

    Example:
        >>> text = "{% set answer = 'Winner: (1|2)' %}{% set first, second = '1', '2' %}"
        >>> protocol = protocol_of(text + "{{ prompt }} | 1: {{ response_a }} | 2: {{ response_b }} | Winner:", "own")
        >>> protocol.messages("2+2?", "4", "5")[-1]["content"]
        '2+2? | 1: 4 | 2: 5 | Winner:'
        >>> protocol.read("Winner: 1").wins
        1.0
    """

    source: str = ""

    @property
    def reasons(self) -> bool:
        return True  # what it writes before its answer is the file's

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {blake2b(self.source.encode(), digest_size=8).hexdigest()}"

    def messages(
        self, prompt: str, first: str, second: str, rubric: str | None = None, reference: str | None = None
    ) -> Turns:
        values = dict(zip(VARIABLES, (prompt, first, second, rubric, reference), strict=True))
        module: Any = self._template.make_module(values)
        system = getattr(module, "system", None)
        turns = [] if system is None else [{"role": "system", "content": str(system)}]
        return [*turns, {"role": "user", "content": str(module).strip()}]

    @cached_property
    def _template(self) -> Any:
        return _environment().from_string(self.source)


def named_protocol(name: str | Path) -> JudgeProtocol:
    """The protocol of that name, or of a user's file.

    Args:
        name: "pair", "five-point", "letter", or the path of a Jinja file.

    Raises:
        FileNotFoundError: no such file.
        NashwardError: what ``protocol_of`` finds, or a file that is not UTF-8.

    Example:
        >>> named_protocol("letter").by_token
        True
    """
    if (published := PUBLISHED.get(str(name))) is not None:
        return published
    path = Path(name).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no protocol {name}: expected {', '.join(PUBLISHED)}, or a Jinja file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NashwardError(f"{path} is no Jinja file: it is not UTF-8 ({error.reason})") from None
    return protocol_of(text, path.name)


def protocol_of(source: str, name: str) -> UserProtocol:
    """The protocol of a Jinja text.

    Args:
        source: the text.
        name: of the protocol, for reports and errors.

    Raises:
        NashwardError: no Jinja, unknown or unused variables, no declared answers, a pattern without a group.

    Example:
        >>> protocol_of("{{ prompt }} {{ response_a }} {{ response_b }}", "own.jinja")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: own.jinja declares no answer: ...
    """
    try:
        used = meta.find_undeclared_variables(_environment().parse(source))
        module: Any = _environment().from_string(source).make_module(dict.fromkeys(VARIABLES, "x"))
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise NashwardError(f"{name} is no Jinja template for a judge: {error}") from None
    if unknown := sorted(used - set(VARIABLES)):
        raise NashwardError(f"{name} uses {unknown[0]}; there are {', '.join(VARIABLES)}")
    if lacking := [needed for needed in VARIABLES[:3] if needed not in used]:
        raise NashwardError(f"{name} does not show {lacking[0]}: write {{{{ {lacking[0]} }}}} where it is to stand")
    declared = {key: getattr(module, key, None) for key in ("answer", "first", "second", "tie")}
    for key in ("answer", "first", "second"):
        if declared[key] is None or not str(declared[key]).strip():
            raise NashwardError(f"{name} declares no {key}: begin it with {DECLARED}")
    answers: tuple[Answer, ...] = (
        Answer(str(declared["first"]).strip(), 1.0, 0.0),
        Answer(str(declared["second"]).strip(), 0.0, 1.0),
    )
    if declared["tie"] is not None and str(declared["tie"]).strip():
        answers = (*answers, Answer(str(declared["tie"]).strip(), 0.5, 0.5))
    if len({answer.text for answer in answers}) < len(answers):
        raise NashwardError(f"{name} declares two verdicts of one text: {', '.join(a.text for a in answers)}")
    pattern = str(declared["answer"])
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise NashwardError(f"{name}: {pattern!r} is no regular expression ({error})") from None
    if groups != 1:
        raise NashwardError(f"{name}: {pattern!r} has {groups} groups; expected one, around the verdict")
    lead = str(getattr(module, "lead", ""))
    # letters would be taken off an answer; sorted, as the order of a set is another one in each process
    own = "".join(answer.text for answer in answers)
    frame = "".join(sorted(c for c in set(lead) if not (c.isalnum() or c.isspace() or c in own)))
    return UserProtocol(name, answers, pattern, "", "", "", lead, frame, source=source)


def read_rubric(path: str | Path) -> str:
    """The text of a rubric's file.

    Raises:
        FileNotFoundError: no such file.
        NashwardError: it is empty, or not UTF-8.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no rubric {path}")
    try:
        text = file.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise NashwardError(f"{file} is no rubric: it is not UTF-8 ({error.reason})") from None
    if not text:
        raise NashwardError(f"the rubric {file} is empty")
    return text


def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False, trim_blocks=True)
