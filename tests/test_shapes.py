"""Annotated shapes are checked while the tests run, and cost a user nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any, get_type_hints

import jaxtyping
import pytest
import torch

from nashward import games
from nashward.games import measures, shapes
from nashward.games.equilibria import selection
from nashward.games.forms.skew import skew

from .conftest import ROOT
from .shapes import CALLS, MOST


def test_a_wrong_shape_into_a_function_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="the parameters of"):
        selection.solve_batch(torch.zeros(5, 3, 4))


def test_axes_of_one_name_agree() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="variation_of"):
        measures.variation_of(torch.full((3,), 1 / 3), torch.full((4,), 1 / 4))


def test_an_alias_is_checked_as_what_it_stands_for() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="gap_of"):
        measures.gap_of(games.zoo.comal_cycle(), (torch.tensor([1, 0, 0]),))  # whole numbers, no probabilities


def test_modules_that_do_not_import_torch_are_checked_too() -> None:
    payoffs: Any = lambda x: ([0.5],)  # noqa: E731  a list, no tensor
    iterates = games.RegretMatching().iterate((torch.full((3,), 1 / 3),), payoffs)
    with pytest.raises(jaxtyping.TypeCheckError, match="_regrets"):
        next(iterates)


def test_a_wrong_result_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = games.zoo.comal_cycle()
    monkeypatch.setattr(broken, "P", torch.zeros(2, 3))
    with pytest.raises(jaxtyping.TypeCheckError, match=r"return value of nashward.games.forms.skew.skew"):
        skew(broken)


def test_fields_of_a_dataclass_are_checked() -> None:
    face = games.face(games.zoo.cloned_rock())
    with pytest.raises(jaxtyping.TypeCheckError, match="interior"):
        replace(face, interior=face.interior[:2])


def test_the_first_calls_of_each_test_are_checked() -> None:
    assert not CALLS
    for _ in range(MOST):
        measures.variation_of(torch.ones(1), torch.ones(1))
    assert measures.variation_of(torch.ones(1), torch.ones(2)).tolist() == 0.0  # not looked at any more


def test_to_a_user_a_shape_is_the_tensor_and_needs_no_package() -> None:
    code = (
        "import sys, typing, torch, nashward.games, nashward.theory\n"
        "print([name for name in ('jaxtyping', 'beartype') if name in sys.modules])\n"
        "print(typing.get_type_hints(nashward.games.measures.variation_of)['p'] is torch.Tensor)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["[]", "True"]


def test_every_name_of_a_shape_is_checked_here() -> None:
    for name in shapes.__all__:
        assert getattr(shapes, name) is getattr(jaxtyping, name)
    assert get_type_hints(measures.variation_of)["p"] is not torch.Tensor
