"""What every public docstring tells: its parameters, what is raised, shapes, an example, where it is from."""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
import textwrap
from typing import Any

import torch

from docs import public
from nashward import games, llm, theory
from nashward.games import measures
from nashward.games.shapes import Float
from nashward.llm.training import losses

ROOMS = ("games", "theory", "llm")  # those whose docstrings are held to this
TEXTS = ("as_label", "some_of", "looks")  # of plots, that are no pictures
NO_EXAMPLE = {  # why a name shows nothing
    **{f"nashward.games.zoo.{name}": "tests/games/zoo/test_zoo.py plays it" for name in games.zoo.GAMES},
    **{
        f"nashward.games.plots.{name}": "a picture"
        for name in public.modules()["nashward.games.plots"]
        if name not in TEXTS and not name.isupper()  # data
    },
    "nashward.games.analysis.leaderboard.read_battles": "reads a file",
    "nashward.llm.Run": "what SelfPlay returns, whose example has one",
    "nashward.llm.oracles.OracleFit": "what fit_oracle returns, whose example has one",
}
TENSOR = r"\b(Tensor|ndarray|Players|Profile|ArrayLike)\b"
SOURCE = r"Source:\s.*(arXiv|\b1[5-9]\d\d\b|\b20\d\d\b|[Dd]erived|P \+ P|transitivity|OpenSpiel|the project's own)"

PUBLIC: dict[str, Any] = {
    f"{module}.{name}": value
    for module, names in public.modules().items()
    if module.split(".")[1] in ROOMS
    for name in names
    if inspect.isroutine(value := getattr(sys.modules[module], name)) or inspect.isclass(value)
}
PLAIN: dict[str, Any] = {  # protocols are made by others, and errors say what they have to say when they are raised
    name: value
    for name, value in PUBLIC.items()
    if not (inspect.isclass(value) and (getattr(value, "_is_protocol", False) or issubclass(value, BaseException)))
}
METHODS = [
    *games.solvers.SOLVERS,
    *(value for value in vars(theory).values() if inspect.isclass(value) and hasattr(value, "statement")),
    *(
        getattr(games, name)
        for name in public.modules()["nashward.games"]
        if public.home("nashward.games", name) == measures.__name__
    ),
    *(
        getattr(games.analysis.social_choice, name)
        for name in public.modules()["nashward.games.analysis.social_choice"]
    ),
    *(getattr(losses, name) for name in ("sppo", "sppo_pair", "dpo", "ipo", "kto", "simpo", "rebel", "dno", "gpo")),
    *(getattr(llm.oracles, name) for name in ("EmbeddingOracle", "GPM", "PairRM", "RewardModel", "ScalarOracle")),
    llm.evaluation.length_controlled_win_rate,
]


def _code(value: Any) -> list[Any]:
    """The functions whose arguments and errors a docstring speaks of."""
    if not inspect.isclass(value):
        return [value]
    return [vars(value)[name] for name in ("__init__", "__post_init__") if inspect.isfunction(vars(value).get(name))]


def _told(value: Any, parameter: str) -> bool:
    return re.search(rf"^ +(\w+, )*{parameter}(, \w+)*: ", value.__doc__, re.MULTILINE) is not None


def _raises(function: Any) -> bool:
    function = inspect.unwrap(function)
    if function.__code__.co_filename == "<string>":  # written by dataclasses
        return False
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def _needs_shape(function: Any) -> bool:
    """Whether an annotation names a tensor without its axes."""
    told = [str(hint) for hint in function.__annotations__.values()]
    return any(re.search(TENSOR, re.sub(r"\w+\[[\w.]+, '.*?'\]", "", hint)) for hint in told)


def test_each_parameter_is_told_of() -> None:
    found = {
        name: [parameter for parameter in inspect.signature(value).parameters if not _told(value, parameter)]
        for name, value in PLAIN.items()
        if not (inspect.isclass(value) and issubclass(value, enum.Enum))
    }
    assert {name: missing for name, missing in found.items() if missing} == {}


def test_what_is_raised_is_told() -> None:
    raising = {name: value.__doc__ for name, value in PLAIN.items() if any(map(_raises, _code(value)))}
    assert [name for name, doc in raising.items() if not re.search(r"^ +Raises:\n", doc, re.MULTILINE)] == []


def test_tensors_have_a_shape() -> None:
    silent = [
        name
        for name, value in PLAIN.items()
        if any(map(_needs_shape, _code(value))) and not re.search(r"\[(\.\.\.|[a-z]+)[],]", value.__doc__)
    ]
    assert silent == []


def test_there_is_an_example() -> None:
    assert {name for name, value in PLAIN.items() if ">>> " not in value.__doc__} == NO_EXAMPLE.keys()


def test_methods_name_their_source() -> None:
    assert [value.__name__ for value in METHODS if not re.search(SOURCE, value.__doc__, re.DOTALL)] == []


def test_the_checks_see_what_is_missing() -> None:
    def silent(values: Any) -> None:
        """Says nothing.

        Args:
            value: not the parameter.
        """
        raise ValueError(values)

    def bare(x: torch.Tensor) -> Float[torch.Tensor, " n"]:
        return x

    assert not _told(silent, "values")
    assert _raises(silent)
    assert _needs_shape(bare)
    del bare.__annotations__["x"]
    assert not _needs_shape(bare)
