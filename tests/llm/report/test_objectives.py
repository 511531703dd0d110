"""What the report says of floors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nashward.llm.report import objectives
from nashward.llm.report.content import Paragraph, Table
from nashward.llm.report.objectives import _floor_sentence, most_exact, objective_sentences
from nashward.llm.store.run_folder import RunFolder


@pytest.mark.parametrize(
    ("rate", "multiplier", "state"),
    [
        (0.40, 2.0, "is missed"),
        (0.44, 2.0, "binds"),
        (0.47, 2.0, "binds"),
        (0.47, 0.0, "is kept with room"),
        (0.44, 0.0, "is missed within noise"),
        (0.60, 2.0, "is kept with room"),
    ],
)
def test_a_floor_is_missed_binds_or_is_kept_beyond_two_standard_errors(
    rate: float, multiplier: float, state: str
) -> None:
    newest: dict[str, Any] = {
        "policy": "iteration-02",
        "win_rates": {"plain": rate},
        "standard_errors": {"plain": 0.02},
        "multipliers": {"plain": multiplier},
    }
    assert f"0.45, {state}" in _floor_sentence("plain", 0.45, newest)


def test_of_a_single_step_the_start_is_not_measured_against_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    even = {"long": 0.5, "plain": 0.5}
    found = {"policy": "start", "win_rates": even, "standard_errors": even, "multipliers": {"plain": 0.5}}
    row = {"iteration": "iteration-01", "objectives": found}
    monkeypatch.setattr(objectives, "iterates", lambda folder: [row])
    (said,) = objectives.objectives(tmp_path)
    assert isinstance(said, Paragraph)
    assert "`nashward frontier" in said.text


def test_of_two_measures_of_a_floor_the_more_exact_one_is_told(tmp_path: Path) -> None:
    """Of the same policy alone: another one of that name has nothing to do with it."""
    rate = {"win_rate": 52.6, "standard_error": 2.7, "kept": True}
    objectives = {"plain": {"floor": 45.0, "against_start": {"new": rate, "other": rate, "sure": rate}}}
    results = {"objectives": objectives, "policies": {"new": "a", "other": "b", "sure": "c"}}
    identities, close = {"new": "a", "other": "was", "sure": "c"}, {"value": 0.466, "standard_error": 0.012}
    rates = {"new": {"plain": close}, "other": {"plain": close}, "sure": {"plain": {**close, "standard_error": 0.03}}}
    measured = {"prompts": 160, "responses": 4, "policies": rates, "identities": identities}
    (tmp_path / "frontier.json").write_text(json.dumps(measured))
    exact = most_exact(results, tmp_path)
    (new,), (other,), (sure,) = (objective_sentences(player, exact) for player in ("new", "other", "sure"))
    assert "46.6 ± 1.2%" in new
    assert "nashward frontier" in new
    assert "within noise" in new
    for kept in (other, sure):
        assert "52.6 ± 2.7%" in kept
        assert "nashward evaluate" in kept
        assert "kept beyond noise" in kept


@pytest.mark.parametrize(("combine", "named"), [("worst-case", "adversary"), ("floors:plain=0.4", "multiplier")])
def test_the_course_says_what_its_weights_are_and_which_policy_is_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, combine: str, named: str
) -> None:
    """A fit that gained nothing leaves the start, whose win rate over itself is luck."""
    rates = {"long": 0.44, "plain": 0.49}
    found = {"win_rates": rates, "standard_errors": rates, "multipliers": {"plain": 0.5}}
    rows = [{"iteration": f"iteration-0{k}", "objectives": {**found, "policy": name}}
            for k, name in enumerate(("start", "iteration-01", "iteration-02"), 1)]  # fmt: skip
    monkeypatch.setattr(objectives, "iterates", lambda folder: rows)
    monkeypatch.setattr(objectives, "is_start", lambda home, adapter: adapter.parent.name == "iteration-01")
    monkeypatch.setattr(objectives, "_floors", lambda folder: {})
    monkeypatch.setattr(RunFolder, "read", lambda self: {"config": {"combine": combine}})
    said, table, _ = objectives.objectives(tmp_path)
    assert isinstance(said, Paragraph)
    assert isinstance(table, Table)
    assert named in table.head[-1]
    (told,) = [line for line in said.text.split(". ") if "luck" in line]
    assert "iteration-01" in told
    assert "iteration-02" not in told
