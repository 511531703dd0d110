"""LMArena's files: what is read of them, and what was planted in generated ones is found and taken out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import arena_battles
import numpy as np
import pytest

from nashward.cli.main import main
from nashward.games.analysis.battles import by_category, without_models
from nashward.games.analysis.leaderboard import Battles, from_battles, read_battles
from nashward.games.analysis.ratings import ELO, bradley_terry
from nashward.games.analysis.style import style_differences

METADATA = {
    "sum_assistant_a_tokens": 100, "header_count_a": {"h1": 1, "h2": 4}, "list_count_a": {"ordered": 0, "unordered": 3},
    "bold_count_a": {"**": 2, "__": 0}, "sum_assistant_b_tokens": 50, "header_count_b": {"h1": 0},
    "list_count_b": {"ordered": 0}, "bold_count_b": {"**": 5}, "turns": 1,
}  # fmt: skip
TAGS = {"math_v0.1": {"math": True}, "if_v0.1": {"if": False, "score": 4}, "criteria_v0.1": {"specificity": True}}
EXPECTED = [50 / 150, 0.05 / 1.05, 0.03 / 1.03, -0.08 / 1.12]


def _says(text: str) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": text, "image": None, "mimeType": None}]
    return [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}, {"role": "assistant", "content": parts}]


def _row(**more: Any) -> dict[str, Any]:
    return {"id": "1", "model_a": "x", "model_b": "y", "winner": "both_bad", "language": "en", "is_code": True, **more}


def test_rows_as_lmarena_has_them(tmp_path: Path) -> None:
    """The same from JSON lines, JSON, a CSV file with JSON in its cells, a Parquet file and a data frame."""
    import pandas as pd

    rows = [
        _row(conv_metadata=METADATA, category_tag=TAGS, conversation_a=_says("a"), conversation_b=_says("b"))
        | {"winner": winner}
        for winner in ("model_a", "tie (bothbad)")
    ]
    cells = [
        {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in row.items()}
        for row in rows
    ]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    with (tmp_path / "b.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(cells[0]))
        writer.writeheader()
        writer.writerows(cells)
    pd.DataFrame(rows).to_parquet(tmp_path / "b.parquet")
    read = [read_battles(tmp_path / name, style=True) for name in ("b.jsonl", "b.json", "b.csv", "b.parquet")]
    for battles in [*read, from_battles(pd.read_parquet(tmp_path / "b.parquet"), style=True)]:
        assert battles.total.tolist() == [[0, 1.5], [0.5, 0]]
        assert sorted(battles.categories) == ["code", "language en", "math", "specificity"]
        assert battles.style is not None
        np.testing.assert_allclose(battles.style, [EXPECTED] * 2)
        assert (battles.prompts, battles.by_prompt) == (1, True)  # what the user said in both


def test_style_is_counted_in_responses_where_no_counts_are_given() -> None:
    texts = "# Title\n- one\n- **two**", "A sentence."
    plain = _row(response_a=texts[0], response_b=texts[1])
    conversation = _row(conversation_a=_says(texts[0]), conversation_b=_says(texts[1]))
    turns = _row(response_a=json.dumps([texts[0]]), response_b=json.dumps([texts[1]]))  # as Kaggle's file has it
    for row in (plain, conversation, turns):
        battles = from_battles([row], style=True)
        assert battles.style is not None
        np.testing.assert_allclose(battles.style, style_differences([texts[0]], [texts[1]]))


@pytest.mark.parametrize("tokens", [-1, "many", float("inf")])
def test_counts_of_style_that_are_none_are_named(tokens: Any) -> None:
    with pytest.raises(ValueError, match="row 1 has sum_assistant_a_tokens"):
        from_battles([_row(conv_metadata=METADATA | {"sum_assistant_a_tokens": tokens})], style=True)


def test_a_count_of_style_that_is_missing_beside_others_is_named() -> None:
    for field in ("bold_count_b", "sum_assistant_b_tokens"):
        counts = {name: value for name, value in METADATA.items() if name != field}
        with pytest.raises(ValueError, match=f"row 1 has no {field}"):
            from_battles([_row(conv_metadata=counts)], style=True)


def test_style_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 battles is not known"):
        from_battles([_row(conv_metadata=METADATA), _row()], style=True).style_controlled()
    with pytest.raises(ValueError, match="count several"):
        from_battles(
            [{"model_a": "x", "model_b": "y", "wins_a": 3, "wins_b": 1, "conv_metadata": METADATA}], style=True
        ).style_controlled()
    with pytest.raises(ValueError, match="style=True"):
        from_battles([_row(conv_metadata=METADATA)]).style_controlled()


def test_categories_are_battles_of_their_own() -> None:
    rows = [_row(winner="model_a"), _row(winner="model_b", language="pl", model_b="z", category_tag=["poem"])]
    battles = from_battles(rows)
    assert battles.of_category("language pl").total.sum() == 1
    assert battles.of_category("pl").total.sum() == 1  # no other category is called so
    assert battles.of_category("poem").without_idle().labels == ("x", "z")
    with pytest.raises(ValueError, match=r"'math'.*code"):
        battles.of_category("math")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Battles]:
    """50,000 battles, of which about 7700 are of the copy."""
    file = tmp_path_factory.mktemp("arena") / "battles.jsonl"
    arena_battles.write(file, arena_battles.planted(), 50_000, seed=3)
    return file, read_battles(file, style=True)


def _truth(battles: Battles) -> np.ndarray:
    truth = arena_battles.planted()
    order = [truth.names.index(label) for label in battles.labels]
    return truth.log_odds[np.ix_(order, order)]


def test_the_bias_of_style_is_taken_out_within_its_error(planted: tuple[Path, Battles]) -> None:
    battles = planted[1]
    controlled, fit = battles.style_controlled()
    assert (np.abs(fit.slopes - arena_battles.SLOPES) < 3 * fit.slope_errors).all()
    assert fit.coefficients[0] > 30 * fit.standard_error[0]
    truth, off = _truth(battles), ~np.eye(len(battles.labels), dtype=bool)
    odds = np.log(controlled.game.P.numpy() / (1 - controlled.game.P.numpy()))
    error = 1 / np.sqrt(battles.met * controlled.game.P.numpy() * (1 - controlled.game.P.numpy()) + off * 0 + 1e-9)
    specialist = battles.labels.index(arena_battles.SPECIALIST)  # better in mathematics than the table says
    rest = off & (np.arange(len(off)) != specialist)[:, None] & (np.arange(len(off)) != specialist)
    score = ((odds - truth) / error)[rest]
    assert 0.7 < (score**2).mean() < 1.4  # as far from the truth as the errors say, and no farther
    verbose = battles.labels.index(arena_battles.VERBOSE)
    biased = bradley_terry(battles.total).scores.numpy()
    fair = bradley_terry(1 / (1 + np.exp(-truth)) * battles.met).scores.numpy()
    assert biased[verbose] - fair[verbose] > 0.3
    assert abs(fit.scores[verbose] - fair[verbose]) < 3 * fit.score_errors[verbose]


def test_the_cycle_is_found_with_its_pairs(planted: tuple[Path, Battles]) -> None:
    battles = planted[1]
    for each in (battles, battles.style_controlled()[0]):
        cycles = each.cycles()
        found = {frozenset(each.labels[k] for k in cycle.players) for cycle in cycles}
        rest = arena_battles.CYCLE[1:]
        assert found == {frozenset(arena_battles.CYCLE), frozenset((arena_battles.COPY, *rest))}
        assert all(cycle.p_value < 1e-6 for cycle in cycles)
        for cycle in cycles:
            i, j, k = cycle.players
            assert min(each.game.P[i, j], each.game.P[j, k], each.game.P[k, i]) > 0.55


def test_a_copy_moves_nobody_beyond_noise_and_an_exact_one_not_at_all(planted: tuple[Path, Battles]) -> None:
    """The copy fought battles of its own; without them the others have the Nash that they have with them."""
    battles = planted[1].style_controlled()[0]
    copy = battles.labels.index(arena_battles.COPY)
    without = battles.of_records((battles.first != copy) & (battles.second != copy)).without_idle()
    rock = battles.labels.index("rock")
    bands, alone = battles.bands(), without.bands()
    for k, label in enumerate(battles.labels):
        if k == copy:
            continue
        at = without.labels.index(label)
        own = bands.lottery[k] + (bands.lottery[copy] if k == rock else 0.0)
        assert float(own) == pytest.approx(float(alone.lottery[at]), abs=0.06), label
        assert float(alone.low[at]) - 0.02 <= own <= float(alone.high[at]) + 0.02, label
    exact = [
        {"model_a": a.replace("rock", "copy"), "model_b": b.replace("rock", "copy"), "wins_a": w, "wins_b": v}
        for a, b, w, v in _counted(without)
        if "rock" in (a, b)
    ]
    rows = [{"model_a": a, "model_b": b, "wins_a": w, "wins_b": v} for a, b, w, v in _counted(without)]
    before, after = from_battles(rows), from_battles(rows + exact)
    for label in before.labels:
        if label != "rock":
            now = after.lottery.policy[after.labels.index(label)]
            assert now == pytest.approx(before.lottery.policy[before.labels.index(label)], abs=1e-9)
    assert [{after.labels[k] for k in players} for players in after.lottery.clones] == [{"rock", "copy"}]
    gaps = []
    for each in (before, after):
        elo = dict(zip(each.labels, (ELO * each.ratings.scores).tolist(), strict=True))
        gaps.append(elo["paper"] - elo["scissors"])  # who beats the copied one, and who loses to it
    assert gaps[1] - gaps[0] > 10


def _counted(battles: Battles) -> list[tuple[str, str, float, float]]:
    i, j = np.triu_indices(len(battles.labels), 1)
    return [
        (battles.labels[a], battles.labels[b], battles.total[a, b], battles.total[b, a])
        for a, b in zip(i, j, strict=True)
    ]


def test_the_command_says_all_of_it(
    planted: tuple[Path, Battles], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all.json"
    assert main(["leaderboard", str(planted[0]), "--style-control", "--json", str(out)]) == 0
    said, content = capsys.readouterr().out, json.loads(out.read_text())
    assert {frozenset(cycle["models"]) for cycle in content["cycles"]} == {
        frozenset(arena_battles.CYCLE), frozenset((arena_battles.COPY, *arena_battles.CYCLE[1:]))
    }  # fmt: skip
    assert said.count("cycle beyond noise") == 2
    assert all(0.55 < pair["win_rate"] < 0.8 for cycle in content["cycles"] for pair in cycle["pairs"])
    length = content["style"]["length"]
    assert abs(length["slope"] - arena_battles.SLOPES[0]) < 3 * length["slope_error"]
    assert f"length {length['coefficient']:+.3f}" in said
    math = next(category for category in content["categories"] if category["name"] == "math")
    assert (math["beats_nash_most"], math["beyond_noise"]) == (arena_battles.SPECIALIST, True)
    assert content["categories"][0] == math  # the worst one first
    lines = {line.split()[0]: line for line in said.splitlines() if line}
    for row in content["models"]:
        assert (row["nash"] > 0) <= (row["model"] in (*arena_battles.CYCLE, arena_battles.COPY))
        assert row["deviation"] <= 1e-9
        worst = row["worst_category"]
        known = {
            c["name"]: c["elo"][row["model"]] + 1.645 * c["elo_error"][row["model"]] for c in content["categories"]
        }
        assert worst["name"] == min(known, key=lambda name: known[name])
        assert f"  {worst['name']} {worst['elo']:.0f} ± " in lines[row["model"]]
    assert main(["leaderboard", str(planted[0]), "--category", "math", "--json", str(out)]) == 0
    of_math = json.loads(out.read_text())
    assert of_math["models"][0]["model"] == arena_battles.SPECIALIST
    assert f"{planted[1].categories['math'].sum()} battles of 50000: math" in capsys.readouterr().out
    few = tmp_path / "few.jsonl"
    few.write_text("".join(planted[0].read_text().splitlines(keepends=True)[:500]))
    assert main(["leaderboard", str(few), "--category", "maths"]) == 2
    assert "math" in capsys.readouterr().err


def test_scores_without_cycles_and_style_explain_the_battles() -> None:
    """Also where most pairs met once or twice, and where ties make outcomes less noisy than wins alone."""
    truth = arena_battles.planted(60)
    odds = np.zeros_like(truth.log_odds)
    odds[:] = (scores := np.linspace(1, -1, 60))[:, None] - scores
    plain = arena_battles.Planted(truth.names, odds)
    values = []
    for seed in range(5):
        battles = from_battles(arena_battles.rows(plain, 4000, seed=seed), style=True)
        values.append(battles.fit_p_value(style=True))
        assert battles.cycles() == []
    assert 0.1 < np.mean(values) < 0.9
    assert min(values) > 0.01


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("by_prompt", [False, True])
def test_a_few_battles_of_any_kind_have_a_leaderboard(counts: bool, by_prompt: bool) -> None:
    """Also where style explains all of them, where a model never lost, and where nobody met a third one."""
    random = np.random.default_rng(0)
    for _ in range(20):
        n, rows = int(random.integers(2, 6)), []
        for _ in range(int(random.integers(1, 40))):
            a, b = random.choice(n, 2, replace=False)
            metadata = {name: int(random.integers(0, 60)) for name in METADATA if name != "turns"}
            row = _row(model_a=str(a), model_b=str(b), winner=random.choice(["model_a", "model_b", "tie"]))
            row |= {"winner": None, "wins_a": int(random.integers(0, 5)), "wins_b": 1} if counts else {}
            rows.append(
                row | {"conv_metadata": metadata} | ({"prompt": int(random.integers(0, 5))} if by_prompt else {})
            )
        battles = from_battles(rows, style=True)
        every = [battles]
        if not counts:
            controlled, _ = battles.style_controlled()
            assert not battles.fit_p_value(style=True) < 1e-6
            every.append(controlled)
        for each in every:
            bands = each.bands(draws=10)
            assert bool(bands.elo.isfinite().all())
            assert float(bands.lottery.sum()) == pytest.approx(1)
            assert not battles.misfit_p_value < 1e-6
            assert each.cycles() == []


@pytest.mark.parametrize("length", [0.0, 0.3])
def test_a_model_that_won_its_few_battles_is_rated_alike_with_style_and_without(length: float) -> None:
    """The prior is the same: by maximum likelihood it would have no rating. It neither moves nor widens the others."""
    random, n = np.random.default_rng(0), 5
    pairs = np.array([random.permutation(n - 1)[:2] for _ in range(400)] + [[n - 1, k] for k in range(n - 1)])
    won = np.r_[random.integers(0, 2, 400) * 1.0, np.ones(n - 1)]
    style = np.zeros((len(pairs), 4))
    style[:, 0] = length * random.choice([-1.0, 1.0], len(pairs))
    none = np.zeros(len(pairs), dtype=int)
    battles = Battles(tuple("abcde"), pairs[:, 0], pairs[:, 1], won, 1 - won, none, 1, False, style=style)
    controlled, fit = battles.style_controlled()
    plain, fair = battles.bands(draws=200), controlled.bands(draws=200)
    near = 0.01 if length == 0 else 15.0
    np.testing.assert_allclose(fair.elo, 1500 + ELO * (fit.scores - fit.scores[:-1].mean()), atol=0.01)
    np.testing.assert_allclose(fair.elo, plain.elo, atol=near)
    for bands, given in ((plain, battles), (fair, controlled)):
        alone = without_models(given, ["e"]).bands(draws=200)
        np.testing.assert_allclose(bands.elo[:-1], alone.elo, atol=8.0)
        np.testing.assert_allclose((bands.elo_high - bands.elo_low)[:-1], alone.elo_high - alone.elo_low, rtol=0.3)
    width, own = (bands.elo_high - bands.elo_low for bands in (plain, fair))
    np.testing.assert_allclose(own, width, rtol=0.35)
    assert float(own[-1]) > 3 * float(own[0])


def test_ratings_in_a_category_are_on_the_scale_of_all() -> None:
    """The best model fought none of the category's battles: the others' ratings there have their mean of all."""
    random, n = np.random.default_rng(1), 4
    first, second = np.arange(1200) % n, (np.arange(1200) + 1 + np.arange(1200) // n % (n - 1)) % n
    lead = np.array([2.0, -0.2, -0.4, -1.4])
    won = (random.random(1200) < 1 / (1 + np.exp(lead[second] - lead[first]))) * 1.0
    without = (first > 0) & (second > 0) & (np.arange(1200) % 2 == 0)
    none = np.zeros(1200, dtype=int)
    battles = Battles(tuple("abcd"), first, second, won, 1 - won, none, 1, False, categories={"one": without})
    overall = battles.ratings.elo.numpy()
    (category,) = by_category(battles, battles.lottery.policy, overall)
    assert np.isnan(category.elo).tolist() == [True, False, False, False]
    assert category.elo[1:].mean() == pytest.approx(overall[1:].mean())
    assert overall[1:].mean() < 1450


@pytest.mark.parametrize("noise", [0.0, 0.05, 1.0])
def test_features_of_style_that_go_together_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, noise: float
) -> None:
    """Bold parts are as many as list items, but for noise: the sum of their effects is known, each is not."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(600):
        i, j = rng.choice(4, 2, replace=False)
        row: dict[str, Any] = {"model_a": f"m{i}", "model_b": f"m{j}", "winner": f"model_{'ab'[rng.integers(2)]}"}
        for side in "ab":
            items = int(rng.integers(0, 40))
            bold = max(0, round(items + noise * 20 * rng.normal()))
            row |= {f"sum_assistant_{side}_tokens": int(rng.integers(100, 900)), f"header_count_{side}": 0}
            row |= {f"list_count_{side}": items, f"bold_count_{side}": bold}
        rows.append(row)
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["leaderboard", str(tmp_path / "b.jsonl"), "--style-control"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "go together" in line]
    assert len(said) == (noise < 1)
    assert all("lists and bold" in line and "length" not in line for line in said)
