"""A check of preference oracles, for the tests of new ones."""

from __future__ import annotations

from collections.abc import Sequence

from nashward.errors import NashwardError

from ...data.library_errors import LIBRARY_ERRORS
from ..matrices import check_texts
from ..protocol import PreferenceOracle, check_is_oracle
from .conformance_checks import CHECKS, Case, Failed, NoList, raised

PROMPTS = ("What is the capital of France?", "Write one line about the sea.", "Why is the sky blue?")
CANDIDATES = (
    ("Paris.", "The capital of France is Paris, on the Seine.", "I cannot help with that.", "Lyon, I think?"),
    ("The sea, the sea.", "Grey waves return what they took, one shell at a time.", "No.", "Water is wet\nand salty."),
    ("Because.", "Air scatters blue light more than red light.", "It is not; it is green!", "Rayleigh: 1/λ⁴."),
)


class ConformanceError(AssertionError):
    """An oracle that breaks the protocol: which checks failed, by what result, and how to fix it."""


def check_oracle(
    oracle: PreferenceOracle,
    prompts: Sequence[str] | None = None,
    candidates: Sequence[Sequence[str]] | None = None,
    cache: bool = True,
    tolerance: float = 1e-4,
) -> list[str]:
    """Check that an oracle follows the protocol, see ``PreferenceOracle``.

    Args:
        oracle: the oracle. It judges some hundred pairs; two of the texts have 20,000 words.
        prompts: None: three prompts for any oracle. An oracle of a fixed set of texts needs some of these here.
        candidates: for each prompt some responses, of one prompt at least three that differ.
        cache: whether judgements are written to a temporary file and read again.
        tolerance: of logits that a batch may round differently, absolute and relative; for a network in half precision
            take 1e-2.

    Returns:
        The names of the checks that passed, with what was skipped or missing in brackets.

    Raises:
        ConformanceError: a check failed; the message names all that failed, one a line.
        ValueError: the oracle is no ``PreferenceOracle``, or there are too few texts.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> check_oracle(Length())[:3]
        ['one logit a pair', 'tables', 'symmetric as declared']
    """
    check_is_oracle(oracle)
    case = Case(oracle, *_texts(prompts, candidates), cache, tolerance)
    passed: list[str] = []
    failed: dict[str, list[str]] = {}
    oracle._seen, before = True, oracle._seen  # each check says what is wrong by itself
    for name, run in CHECKS.items():
        try:
            note = run(case)
        except NoList as failure:
            oracle._seen = before
            raise ConformanceError(f"{oracle.name} fails every check: {failure}") from None
        except Failed as failure:
            failed.setdefault(str(failure), []).append(name)
        except LIBRARY_ERRORS as error:
            failed.setdefault(raised(error), []).append(name)
        else:
            passed.append(f"{name} ({note})" if note else name)
    if failed:
        oracle._seen = before
        raise ConformanceError(
            f"{oracle.name} fails {sum(map(len, failed.values()))} of {len(CHECKS)} checks:\n"
            + "\n".join(f"- {', '.join(names)}: {failure}" for failure, names in failed.items())
        )
    return passed


def _texts(
    prompts: Sequence[str] | None, candidates: Sequence[Sequence[str]] | None
) -> tuple[list[str], list[list[str]]]:
    if prompts is None or candidates is None:
        if prompts is not candidates:
            raise NashwardError("prompts and candidates belong together; give both or neither")
        prompts, candidates = PROMPTS, CANDIDATES
    check_texts(prompts, candidates, "candidates")
    distinct = [(prompt, list(dict.fromkeys(texts))) for prompt, texts in zip(prompts, candidates, strict=True)]
    several = [(prompt, texts) for prompt, texts in distinct if len(texts) > 1]
    if max((len(texts) for _, texts in several), default=0) < 3:
        raise NashwardError("no prompt has three candidates that differ; the checks need at least one that has")
    return [prompt for prompt, _ in several], [texts for _, texts in several]
