"""What several objectives play for, over the start: each rule's payoff and whether floors are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nashward.llm.evaluation.objectives import last_weights as recorded
from nashward.llm.evaluation.objectives.by_objective import ObjectiveTables
from nashward.llm.evaluation.players import START
from nashward.llm.evaluation.tables import TournamentTables
from nashward.llm.evaluation.tournament import tournament
from nashward.llm.evaluation.win_rates.win_rate import win_rate
from nashward.llm.oracles import Length, Objectives, Plain, select_best
from nashward.llm.oracles.ensembles.objectives import Combination
from nashward.llm.store.run_folder import RunFolder

PLAYERS = (START, "left", "right")


def _tables(left: float, right: float, prompts: int = 40) -> TournamentTables:
    """Win rates over the start, with a spread over prompts of 0.1."""
    noise = 0.1 * np.random.default_rng(0).choice([-1.0, 1.0], prompts)
    tables = np.full((prompts, 3, 3), 0.5)
    for place, mean in ((1, left), (2, right)):
        tables[:, place, 0] = mean + noise - noise.mean()
        tables[:, 0, place] = 1 - tables[:, place, 0]
    return TournamentTables(PLAYERS, tables)


def _found(combine: str) -> ObjectiveTables:
    combination = Combination.read(("a", "b"), combine)
    return ObjectiveTables(combination, {"a": _tables(0.55, 0.8), "b": _tables(0.7, 0.3)})


@pytest.mark.parametrize(
    ("combine", "left", "right"),
    [
        ("floors:b=0.45", 0.55, 0.8),
        ("worst-case", 0.55, 0.3),  # each player's own smallest
        ("weights:a=3:b=1", 0.5875, 0.675),
        ("lexicographic:epsilon=0.25", 0.58, 0.7),
    ],
)
def test_what_is_played_for(combine: str, left: float, right: float) -> None:
    found = _found(combine)
    means = {player: wins.mean() for player, wins in found.over_start().items()}
    assert means == pytest.approx({"left": left, "right": right})
    if combine == "worst-case":
        assert found.game is None
        assert (found.least("left"), found.least("right")) == ("a", "b")
    else:
        assert found.game is not None
        assert found.game.rate("left", START).value == pytest.approx(left)


def test_a_majority_of_two_is_decided_by_a_coin_where_they_differ() -> None:
    found = _found("majority")
    a, b = (found.tables[name].over(START)["right"] for name in "ab")
    assert found.over_start()["right"] == pytest.approx(a * b + (a * (1 - b) + b * (1 - a)) / 2)


def test_floors_are_kept_or_missed_beyond_noise() -> None:
    of = {floor: _found(f"floors:b={floor}").summary()["objectives"] for floor in (0.45, 0.7)}
    assert {player: rate["kept"] for player, rate in of[0.45]["b"]["against_start"].items()} == {
        "left": True,
        "right": False,
    }
    assert of[0.7]["b"]["against_start"]["left"]["kept"] is None  # its win rate is the floor
    assert of[0.45]["b"]["floor"] == 45
    assert "kept" not in of[0.45]["a"]["against_start"]["left"]
    assert of[0.45]["a"]["against_start"]["right"]["win_rate"] == pytest.approx(80)


@pytest.mark.parametrize(
    ("config", "multipliers", "weights"),
    [
        ({"objective": ["a=x:A", "b=x:B"], "combine": "floors:b=0.4:limit=3"}, {"b": 3.0}, {"a": 0.25, "b": 0.75}),
        ({"oracle": "floors of a (x), b (y)"}, {"b": 0.25, "sft": 2.0}, {"a": 0.8, "b": 0.2}),
        ({"oracle": "worst-case of a (x), b (y)"}, {"a": 0.3, "b": 0.7}, {"a": 0.3, "b": 0.7}),
        ({"objective": ["a=x:A", "b=x:B"], "combine": "majority"}, {"a": 0.5, "b": 0.5}, None),
        ({"oracle": ["models/floors", "models/other"], "combine": "log-odds"}, {}, None),
    ],
)
def test_the_weights_of_the_last_step(
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    multipliers: dict[str, float],
    weights: dict[str, float] | None,
) -> None:
    monkeypatch.setattr(RunFolder, "read", lambda home: {"config": config})
    wins = {"a": 0.5, "b": 0.5}
    rows = [{"objectives": {"win_rates": wins, "multipliers": m}} for m in ({"a": 9.0, "b": 9.0}, multipliers)]
    monkeypatch.setattr(recorded, "iterates", lambda folder: rows)
    assert recorded.last_weights("run") == (weights if weights is None else pytest.approx(weights))
    monkeypatch.setattr(recorded, "iterates", lambda folder: [])
    assert recorded.last_weights("run") == (None if weights is None else {})


def test_what_judges_pairs_refuses_objectives_that_are_measured_against_a_start() -> None:
    """Their one table is an even mean, which nothing plays for."""
    members, texts = [Length(), Plain()], [["a", "ab"]]
    for combination in (
        Combination(("long", "plain"), "worst-case"), Combination(("long", "plain"), "floors", floors={"plain": 0.4}),
    ):  # fmt: skip
        oracle = Objectives(members, combination)
        for judge in (
            lambda oracle=oracle: select_best(oracle, ["?"], texts),
            lambda oracle=oracle: win_rate(oracle, ["?"], texts, texts),
            lambda oracle=oracle: tournament(oracle, ["?"], {"one": ["a"], "other": ["ab"]}),
        ):
            with pytest.raises(ValueError, match="no win probability of a pair"):
                judge()
    assert select_best(Objectives(members, Combination(("long", "plain"), weights={"plain": 0})), ["?"], texts) == [1]
