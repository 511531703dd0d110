"""Rows that compare two responses, as people, arenas and tools to annotate write them: their fields, and who won."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

from nashward.errors import NashwardError
from nashward.shortened import quoted

MODELS = ("model_a", "model_b")  # whose responses are compared
GENERATORS = ("generator_1", "generator_2")  # the same in AlpacaEval's annotations
OUTPUTS = ("output_1", "output_2")  # and what is compared there
PREFERENCE = "preference"  # from 1, the first, to 2, the second
RESPONSES = (  # what is compared, the first that a row has
    ("a", "b"),
    ("response_a", "response_b"),
    ("answer_a", "answer_b"),
    ("left_response", "right_response"),
    ("response_left", "response_right"),
    OUTPUTS,
)
VOTERS = ("voter", "annotator")  # who compared them
SKIP = "skip"
NAMED = 10  # names in an error about another one
SHOWN = {"left": "a", "first": "a", "right": "b", "second": "b"}  # where a side stands
NOUNS = ("", "model", "response", "answer", "assistant")
TIES = {
    **dict.fromkeys(("tie", "draw", "both", "bothgood", "tiebothgood", "neither", "equal", "same"), "tie"),
    **dict.fromkeys(("bothbad", "tiebothbad"), "both_bad"),
}
PLACES = {place + noun: side for noun in NOUNS for place, side in SHOWN.items()}
WORDS = TIES | PLACES | {noun + side: side for noun in NOUNS for side in "ab"}


def response_fields(row: Mapping[Any, Any]) -> tuple[str, str]:
    """The fields with both responses of a row; ("a", "b") where it has none of them.

    Example:
        >>> response_fields({"prompt": "Why?", "left_response": "So.", "right_response": "No."})
        ('left_response', 'right_response')
    """
    return next((fields for fields in RESPONSES if any(field in row for field in fields)), RESPONSES[0])


def model_fields(row: Mapping[Any, Any]) -> tuple[str, str]:
    """The fields that say whose both responses of a row are; those of ``MODELS`` where it has none.

    Example:
        >>> model_fields({"generator_1": "gpt", "output_1": "Hi."})
        ('generator_1', 'generator_2')
    """
    return GENERATORS if any(field in row for field in GENERATORS) else MODELS


def first_wins(preference: Any) -> float:
    """The probability that the first response is better: 2 less AlpacaEval's preference, and 1/2 where that is 0.

    Raises:
        ValueError: it is no number from 1 to 2.

    Example:
        >>> first_wins(1.25), first_wins(2), first_wins(1.5), first_wins(0)
        (0.75, 0.0, 0.5, 0.5)
    """
    try:
        value = float(preference)
    except (TypeError, ValueError, OverflowError):
        value = -1.0
    if value == 0:
        return 0.5
    if not 1 <= value <= 2:
        raise NashwardError(
            f"has {PREFERENCE} {quoted(preference, 40)}, expected a number from 1 (the first response is better) to 2 "
            "(the second), as AlpacaEval has it"
        )
    return 2 - value


def voter_of(row: Any) -> str | None:
    """Who compared the two sides of a row, less the blanks around the name; None where it does not say.

    Example:
        >>> voter_of({"annotator": "ann", "winner": "a"}), voter_of({"voter": "", "winner": "a"})
        ('ann', None)
    """
    said = [row.get(field) for field in VOTERS] if isinstance(row, Mapping) else []
    names = (str(one).strip() for one in said if isinstance(one, str | Real) and one == one)
    return next(filter(None, names), None)


def check_left_out(without: Collection[str], known: Collection[str], others: bool, what: str = "annotator") -> None:
    """Refuse names to leave out that there are not, with the nearest, and that no row is left.

    Args:
        without: the names to leave out.
        known: those in all rows.
        others: whether rows are left.
        what: they are.

    Raises:
        ValueError: as said.
    """
    for name in without:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            advice = f"the nearest is {near[0]}" if near else f"there are: {', '.join(sorted(known)[:NAMED])}"
            advice = advice if known else "no row has an annotator or voter"
            raise NashwardError(f"there is no {what} {name!r} to leave out; {advice}")
    if without and not others:
        raise NashwardError(f"no battles are left without those of {', '.join(without)}")


def is_skip(said: Any, names: tuple[str, str] = ("", "")) -> bool:
    """Whether a word that should name a winner says that nobody chose; not where a side is called so.

    Example:
        >>> is_skip("Skip"), is_skip("skip", ("skip", "opt")), is_skip("tie")
        (True, False, False)
    """
    return isinstance(said, str) and said not in names and _letters(said) in (SKIP, "skipped")


def _letters(said: str) -> str:
    """A text without its case and what joins its words.

    Example:
        >>> _letters("Tie (both bad)"), _letters("Model_A")
        ('tiebothbad', 'modela')
    """
    return "".join(letter for letter in said.casefold() if letter.isalnum())


def winner_of(said: Any, names: tuple[str, str] = ("", ""), swapped: bool = False) -> str | None:
    """Which side a word names: "a", "b", "tie" or "both_bad"; None where it has no meaning or more than one.

    The name of a side comes first, also a letter. A longer word for a side that is the other side's name ("model_b",
    where model_a is called so) has two meanings, and a number too: sides are counted from 0 and from 1.

    Args:
        said: the word, of which the letters count: "model_a", "Response A", "left", "first" and "A" are all a.
        names: of both sides; "" where they have none.
        swapped: b was shown first, so that "left" and "first" may be either.

    Example:
        >>> winner_of("Left"), winner_of("gpt", ("opt", "gpt")), winner_of("tie (bothbad)"), winner_of("1")
        ('a', 'b', 'both_bad', None)
        >>> winner_of("model_b", ("model_b", "opt")), winner_of("b", ("b", "opt"))
        (None, 'a')
        >>> winner_of("="), winner_of("Equal"), winner_of("equal", ("equal", "opt"))
        ('tie', 'tie', 'a')
    """
    if not isinstance(said, str):
        return None
    for compared in filter(None, (said, said.strip())):
        if compared in names:
            side = "ab"[names.index(compared)]
            return None if names[0] == names[1] or _other_side(compared, side) else side
    word = "tie" if said.strip() == "=" else _letters(said)
    return None if meant_twice(said, names) is not None or (swapped and word in PLACES) else WORDS.get(word)


def _other_side(name: str, side: str) -> bool:
    """Whether a name is also a word, longer than a letter, for the side that it is not the name of."""
    word = _letters(name)
    return len(word) > 1 and WORDS.get(word) in ("a", "b") and WORDS[word] != side


def meant_twice(said: Any, names: tuple[str, str]) -> str | None:
    """The side, "a" or "b", that a word means which is also how the other side may be called; None of other words.

    Args:
        said: the word, of which ``winner_of`` does not know the side.
        names: of both sides.

    Example:
        >>> meant_twice("A", ("opt", "a")), meant_twice("A", ("a", "opt"))
        ('a', None)
    """
    side = WORDS.get(_letters(said)) if isinstance(said, str) else None
    return side if side in ("a", "b") and _letters(names["ab".index(side) - 1]) == _letters(said) else None


def two_meanings(said: Any, names: tuple[str, str]) -> str | None:
    """The end of an error on a word that means a side and may be the other side's name; None where it is none.

    Args:
        said: the word, of which ``winner_of`` does not know the side.
        names: of both sides.

    Example:
        >>> two_meanings("A", ("opt", "a"))
        "may mean A, the first model, 'opt', or the model 'a'; write opt or a as its column has it"
    """
    meant = meant_twice(said, names)
    if meant is None:
        return None
    first, second = names if meant == "a" else names[::-1]
    advice = f"write {first} or {second} as its column has it"
    if said.strip() == second:
        advice = f"call the model otherwise, or write {first} where that won" if first else "call the model otherwise"
    place = f"the {'first' if meant == 'a' else 'second'} model" + (f", {first!r}" if first else "")
    return f"may mean {meant.upper()}, {place}, or the model {second!r}; {advice}"
