"""Battles: the table, the bands around the lottery, what is missing, and what is said of bad rows."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from nashward import games
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.games.analysis.leaderboard import Battles, from_battles, read_battles


def _fought(game: games.PreferenceGame, battles: int, rng: np.random.Generator) -> Battles:
    upper = np.triu(rng.binomial(battles, game.P.numpy()), 1).astype(float)
    return Battles.of_tables(game.labels, (upper + np.triu(battles - upper, 1).T)[None])


def _coverage(name: str, battles: int, repeats: int) -> float:
    game, rng = games.zoo.get(name), np.random.default_rng(0)
    truth, inside = games.nash(game).policy, []
    for seed in range(repeats):
        bands = _fought(game, battles, rng).bands(draws=200, seed=seed)
        inside.append(((bands.low <= truth) & (truth <= bands.high)).double().mean())
    return float(torch.stack(inside).mean())


def test_the_true_lottery_lies_in_the_bands_as_often_as_they_say() -> None:
    assert _coverage("comal_cycle", 200, 200) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(("first", "second"), [("model_a", "model_b"), ("a", "b")])
def test_spellings_of_columns_and_winners(first: str, second: str, tmp_path: Path) -> None:
    said = ["model_a", "A", "a", "Model A", "x", "model_b", "B", "b", "model b", "y", "tie"]
    rows = [{first: "x", second: "y", "winner": winner} for winner in said]
    battles = from_battles(rows)
    assert battles.won.tolist() == [1.0] * 5 + [0.0] * 5 + [0.5]
    file = tmp_path / "battles.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read_battles(file).won.tolist() == battles.won.tolist()


def test_a_letter_that_may_be_a_name_is_refused() -> None:
    named = from_battles([{"model_a": "b", "model_b": "y", "winner": "b"}])
    assert named.game.P[0, 1] > 0.5  # the name comes first
    for said, a, b, first in (
        ("b", "B", "y", "second"),
        ("A", "b", "a", "first"),
        ("model_a", "x", "Model A", "first"),
        ("model_b", "model_b", "gpt", "second"),  # also to the letter: arenas write so which side won
        ("model_a", "gpt", "model_a", "first"),
        ("left", "gpt", "left", "first"),
    ):
        meant, other = (a, b) if first == "first" else (b, a)
        with pytest.raises(
            ValueError, match=rf"row 1 has the winner '{said}'.* {first} .*'{meant}'.* or .*'{other}'.*write"
        ):
            from_battles([{"model_a": a, "model_b": b, "winner": said}])
    assert from_battles([{"model_a": "a", "model_b": "b", "winner": "A"}]).won.tolist() == [1.0]  # both mean this one
    with pytest.raises(ValueError, match=r'has no model_a; it has left.*expected for example {"model_a": "x"'):
        from_battles([{"left": "x", "right": "y", "winner": "x"}])


def test_a_word_for_a_side_is_no_matter_where_its_model_is_that_side() -> None:
    rows = [{"model_a": "model_a", "model_b": "model_b", "winner": winner} for winner in ("model_a", "model_b")]
    assert from_battles(rows).won.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["nan", "NaN", " nan ", "<NA>", "None"])
def test_an_empty_cell_that_was_made_a_text_is_no_model(name: str) -> None:
    with pytest.raises(NashwardError, match=r"row 1 has ' ?(nan|NaN|<NA>|None) ?' as model_b.*empty cell"):
        from_battles([{"model_a": "x", "model_b": name, "winner": "a"}])
    assert from_battles([{"model_a": "Nan-7B", "model_b": "nano", "winner": "a"}]).labels == ("Nan-7B", "nano")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["condorcet_sixty", "mendelsohn", "biased_rock_paper_scissors"])
def test_the_bands_of_other_games(name: str) -> None:
    assert _coverage(name, 400, 200) == pytest.approx(0.9, abs=0.05)


def test_the_true_ratings_lie_in_the_bands_as_often_as_they_say() -> None:
    game, rng, inside = games.zoo.bradley_terry(), np.random.default_rng(0), []
    strengths = torch.tensor([-1.0, 0.0, 0.5, 1.5]).double()
    truth = 1500 + games.analysis.ratings.ELO * (strengths - strengths.mean())
    for seed in range(200):
        bands = _fought(game, 100, rng).bands(draws=200, seed=seed)
        inside.append(((bands.elo_low <= truth) & (truth <= bands.elo_high)).double().mean())
    assert float(torch.stack(inside).mean()) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("prompts", [pytest.param(2, marks=pytest.mark.slow), 3, 10])
def test_the_true_ratings_lie_in_the_bands_of_few_prompts(prompts: int) -> None:
    """One battle of each pair on each prompt; drawn with replacement, two and three prompts gave 0.75 to 0.85."""
    P, rng, inside = games.zoo.bradley_terry().P.numpy(), np.random.default_rng(1), []
    strengths = torch.tensor([-1.0, 0.0, 0.5, 1.5], dtype=torch.float64)
    truth = 1500 + games.analysis.ratings.ELO * (strengths - strengths.mean())
    for seed in range(200):
        upper = np.triu(rng.random((prompts, 4, 4)) < P, 1).astype(float)
        lower = np.tril(1 - upper.swapaxes(1, 2), -1)
        bands = Battles.of_tables(tuple("abcd"), upper + lower).bands(draws=200, seed=seed)
        inside.append(((bands.elo_low <= truth) & (truth <= bands.elo_high)).double().mean())
    assert float(torch.stack(inside).mean()) == pytest.approx(0.9, abs=0.04)


def test_a_pair_that_met_once_on_each_prompt_has_the_band_of_its_posterior() -> None:
    """As where the prompts are not given: Beta(wins + 1/2, losses + 1/2)."""
    wins = np.zeros((5, 2, 2))
    wins[:4, 0, 1] = wins[4:, 1, 0] = 1.0
    by_prompt, alone = (Battles.of_tables(("a", "b"), each).bands(draws=20_000) for each in (wins, wins.sum(0)[None]))
    low, high = scipy.stats.beta(4.5, 1.5).ppf([0.05, 0.95])
    for bands in (by_prompt, alone):
        ratings = torch.stack([bands.elo_low[0], bands.elo_high[0]]) - 1500  # half of the difference
        found = torch.sigmoid(2 * ratings / games.analysis.ratings.ELO).tolist()
        assert found == pytest.approx([low, high], abs=0.01)


def test_bands_of_ratings_are_quantiles_of_fits_one_by_one() -> None:
    rng, upper = np.random.default_rng(0), np.triu_indices(3, 1)
    battles = Battles.of_tables(("a", "b", "c"), rng.integers(0, 2, size=(40, 3, 3)).astype(float) * (1 - np.eye(3)))
    random = np.random.default_rng(5)
    weights = random.exponential(size=(30, 40))
    met = battles.wins + battles.wins.swapaxes(1, 2)
    prior = random.gamma(0.5, size=(30, 3, 3)) * met.sum(0) / np.maximum((met > 0).sum(0), 1)
    drawn = np.einsum("dp,pij->dij", weights, battles.wins) + prior
    fits = [games.analysis.ratings.bradley_terry(wins).elo for wins in drawn]
    low, high = np.quantile(np.stack(fits), (0.05, 0.95), axis=0)
    bands = battles.bands(draws=30, seed=5)
    np.testing.assert_allclose(bands.elo_low, low, atol=1e-6)
    np.testing.assert_allclose(bands.elo_high, high, atol=1e-6)
    assert (battles.met[upper] > 0).all()


def test_without_a_prior_the_table_is_as_counted() -> None:
    """Ratings and draws still have one: a player who never lost has a rating, and a pair that a draw left out 1/2."""
    wins = np.zeros((2, 2, 2))
    wins[0, 0, 1] = 1.0
    battles = Battles.of_tables(("a", "b"), wins, smoothing=0.0)
    assert battles.game.P.tolist() == [[0.5, 1.0], [0.0, 0.5]]
    assert float(battles.ratings.P[0, 1]) == pytest.approx(0.75)
    bands = battles.bands(draws=100, seed=0)
    assert 1500 < float(bands.elo_low[0]) < 1520  # of draws where the prompt on which they fought weighs little
    assert float(bands.elo_high[0]) > 1600
    alone = Battles.of_tables(("a", "b"), wins[:1], smoothing=0.0).bands()
    assert 1500 < float(alone.elo[0]) < float(alone.elo_high[0]) < 2500


def test_prompts_are_drawn_whole() -> None:
    """Each prompt decides all its battles: counted one by one the bands would be too narrow by about sqrt(10)."""
    rng = np.random.default_rng(1)
    rows = []
    for prompt in range(200):
        for i in range(3):
            winner = "model_a" if rng.random() < 0.7 else "model_b"
            row = {"model_a": str(i), "model_b": str((i + 1) % 3), "prompt": prompt, "winner": winner}
            rows += [row] * 10
    whole = from_battles(rows)
    alone = from_battles([{k: v for k, v in row.items() if k != "prompt"} for row in rows])
    assert (len(whole.wins), len(alone.wins)) == (200, 1)
    np.testing.assert_array_equal(whole.total, alone.total)
    wide, narrow = ((b.high - b.low).sum() for b in (whole.bands(), alone.bands()))
    assert 2.5 < wide / narrow < 4


CIRCLE = (("x", "y"), ("y", "z"), ("z", "x"))


def _rows(
    prompts: Iterable[Any], pairs: Iterable[tuple[str, str]], times: int = 1, winner: str = "model_a"
) -> list[Any]:
    return [
        {"model_a": a, "model_b": b, "winner": winner, "prompt": prompt}
        for prompt in prompts
        for a, b in pairs
        for _ in range(times)
    ]


def test_one_prompt_proves_no_cycle_however_often_it_is_fought_on() -> None:
    """40 battles a pair repeat what one prompt decides; without prompts, or on 40 of them, they prove it."""
    one = from_battles(_rows(["q"], CIRCLE, 40))
    assert one.by_prompt
    assert math.isnan(one.misfit_p_value)  # one prompt is no test
    bands = one.bands(seed=0)
    assert ((bands.low == 0) & (bands.high == 1)).all()
    assert from_battles(_rows(range(40), CIRCLE)).misfit_p_value < 1e-9
    unknown = from_battles(_rows([None], CIRCLE, 40))
    assert not unknown.by_prompt
    assert unknown.misfit_p_value < 1e-9


@pytest.mark.parametrize(("times", "tested"), [((2, 1, 3), False), ((1, 1, 13), False), ((5, 5, 5), True)])
def test_few_battles_of_three_models_are_not_tested(times: tuple[int, ...], tested: bool) -> None:
    """Of equal models the chi-squared of 2, 1 and 3 battles accused a quarter at 5%."""
    rows = [row for pair, count in zip(CIRCLE, times, strict=True) for row in _rows([None], [pair], count)]
    p = from_battles(rows).misfit_p_value
    assert p < 0.01 if tested else math.isnan(p)


def test_scores_that_explain_few_battles_are_not_accused() -> None:
    """Where one of two models nearly always wins, a chi-squared without the variance of few battles accuses 10%."""
    rng, accused, plain = np.random.default_rng(0), 0, 0
    i, j = np.triu_indices(20, 1)
    scores = rng.normal(0, 3, 20)
    p = 1 / (1 + np.exp(scores[j] - scores[i]))
    for _ in range(300):
        met = rng.poisson(3, len(i))
        wins = np.zeros((1, 20, 20))
        wins[0, i, j] = rng.binomial(met, p)
        wins[0, j, i] = met - wins[0, i, j]
        battles = Battles.of_tables(tuple(map(str, range(20))), wins)
        accused += battles.misfit_p_value < 0.05
        fit = battles.scores().scores
        fitted = 1 / (1 + np.exp(fit[j] - fit[i]))[met > 0]
        misfit = (wins[0, i, j][met > 0] - met[met > 0] * fitted) ** 2 / (met[met > 0] * fitted * (1 - fitted))
        plain += scipy.stats.chi2.sf(misfit.sum(), len(fitted) - 19) < 0.05
    assert accused <= 24  # of 300 at 5%, in 99% of such counts
    assert plain > 24


def test_few_prompts_with_cycles_of_their_own_prove_none() -> None:
    """Each prompt has one winner of each pair, drawn evenly, whom ten battles repeat: 5% of the tables are accused at
    most, and counted one by one nearly all would be."""
    rng, accused, one_by_one = np.random.default_rng(0), 0, 0
    for _ in range(200):
        rows = []
        for prompt in range(20):
            for pair in CIRCLE:
                rows += _rows([prompt], [pair if rng.random() < 0.5 else pair[::-1]], 10)
        battles = from_battles(rows)
        accused += battles.misfit_p_value < 0.05
        one_by_one += battles.ratings.misfit_p_value < 0.05
    assert accused <= 18  # of 200 at a true rate of 5 %, in 99 % of such counts
    assert one_by_one > 60


@pytest.mark.parametrize("prompts", [5, 20])
def test_prompts_that_all_go_one_way_leave_a_rating_its_spread(prompts: int) -> None:
    """As many as the posterior Beta(n + 1/2, 1/2) has, where each prompt has one battle."""
    swept = from_battles(_rows(range(prompts), [("x", "y")])).bands(draws=20_000, seed=1)
    share = scipy.stats.beta(prompts + 0.5, 0.5).ppf([0.05, 0.95])
    odds = np.log10(share / (1 - share)) * 400
    between = np.array([float(swept.elo_low[0]), float(swept.elo_high[0])]) * 2 - 3000
    np.testing.assert_allclose(10 ** (-between / 400), 10 ** (-odds / 400), rtol=0.25)
    assert float(swept.elo_low[0]) < float(swept.elo[0]) < float(swept.elo_high[0])


def test_bands_hold_every_equilibrium() -> None:
    """Ties alone leave any mixture; two winners that never met share the Nash in any way, and the losers have none."""
    ties = from_battles(_rows(range(20), [("x", "y")], winner="tie")).bands()
    assert (ties.low.tolist(), ties.high.tolist()) == ([0, 0], [1, 1])
    apart = from_battles(_rows(range(20), [("w", "y"), ("x", "z")])).bands()
    assert (apart.low[:2].tolist(), apart.high[:2].tolist()) == ([0, 0], [1, 1])
    assert float(apart.high[2:].max()) < 0.6


def test_ties_alone_say_nothing_of_cycles() -> None:
    for prompts in (range(30), [None] * 30):
        battles = from_battles(_rows(prompts, CIRCLE, winner="tie"))
        assert battles.misfit_p_value == 1.0
        assert battles.cycles() == []


def test_a_leaderboard_says_that_its_nash_is_one_of_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for winner, unique in (("tie", False), ("model_a", True)):
        (tmp_path / "b.json").write_text(json.dumps(_rows(["q"], [("x", "y")], winner=winner)))
        assert main(["leaderboard", str(tmp_path / "b.json"), "--json", str(tmp_path / "all.json")]) == 0
        said = capsys.readouterr().out
        assert ("not the only one" in said) is not unique
        assert "1 battle on 1 prompt\n" in said
        assert json.loads((tmp_path / "all.json").read_text())["nash_unique"] is unique


def test_models_that_differ_in_the_blanks_around_them_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'gpt-4' and 'gpt-4 '") as error:
        from_battles(_rows(range(2), [("gpt-4", "y"), ("gpt-4 ", "y")]))
    assert "\n" not in str(error.value)


def test_counts_winners_ties_and_the_prior() -> None:
    rows = [
        {"model_a": "x", "model_b": "y", "winner": "x"},
        {"model_a": "y", "model_b": "x", "winner": "model_b"},
        {"model_a": "x", "model_b": "y", "winner": "tie"},
        {"model_a": "y", "model_b": "z", "wins_a": 3, "wins_b": 1, "ties": 2},
    ]
    battles = from_battles(rows)
    assert battles.labels == ("x", "y", "z")
    assert battles.total.tolist() == [[0, 2.5, 0], [0.5, 0, 4], [0, 2, 0]]
    assert battles.missing == [("x", "z")]
    assert battles.game.P.tolist() == [[0.5, 0.75, 0.5], [0.25, 0.5, 4.5 / 7], [0.5, 1 - 4.5 / 7, 0.5]]
    assert int(battles.ratings.scores.argmax()) == 0
    first, again = battles.bands(seed=3), battles.bands(seed=3)
    assert torch.equal(first.low, again.low)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"model_b": "y", "winner": "tie"}, "row 1 has no model_a; it has model_b, winner"),
        ({"model_a": "x", "model_b": "x", "winner": "tie"}, "row 1 lets x play itself"),
        ({"model_a": "x", "model_b": "y", "winner": "z"}, "row 1 has the winner 'z'; expected model_a, model_b, x, y"),
        ({"model_a": "x", "model_b": "y"}, "row 1 has no winner and no counts"),
        ({"model_a": "x", "model_b": "y", "winer": "x"}, "no counts; it has model_a, model_b, winer, .*rename"),
        ({"model_a": "x", "model_b": "y", "wins_a": 0, "wins_b": 0}, "no winner and no counts; .*leave out"),
        ({"model_a": "x", "model_b": "y", "wins_a": -1}, "row 1 has wins_a -1"),
        ({"model_a": "x", "model_b": "y", "wins_a": "many"}, "row 1 has wins_a 'many'"),
        ({"model_a": "", "model_b": "y", "winner": "tie"}, "row 1 has no name as model_a"),
        ({"model_a": "x", "model_b": " \t", "winner": "tie"}, "row 1 has no name as model_b"),
        ({"model_a": "x", "model_b": ["y"], "winner": "tie"}, r"row 1 has \['y'\] as model_b"),
        (["x", "y"], "row 1 is of type list; expected a row with model_a"),
    ],
)
def test_bad_rows(row: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_battles([row])


def test_a_square_table_of_counts_is_read_as_its_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "square.csv").write_text("model,GPT-4,y,z\ny,2,,0\nGPT-4,-,3,7.5\nz,1.5,0,9\n")
    battles = read_battles(tmp_path / "square.csv")
    assert battles.labels == ("GPT-4", "y", "z")
    assert battles.total.tolist() == [[0, 3, 7.5], [2, 0, 0], [1.5, 0, 0]]
    assert battles.missing == [("y", "z")]
    (tmp_path / "once.csv").write_text(",x,y\nx,,1\ny,0,\n")
    assert read_battles(tmp_path / "once.csv").total.tolist() == [[0, 1], [0, 0]]
    halves, own = sorted(caplog.messages)  # of the 9 on the diagonal
    assert "of z" in own
    assert "half wins" in halves  # a square table cannot know its ties
    caplog.clear()
    (tmp_path / "hundred.csv").write_text(",x,y,z\nx,,70,20\ny,30,,60\nz,80,40,\n")  # counts, or percents
    assert read_battles(tmp_path / "hundred.csv").total.sum() == 300
    (said,) = caplog.messages
    assert "percents" in said
    for table, message in ((",x,y\nx,,3\ny,-1,", "has -1 where y beat x"), (",x,y\nx,,3\ny,,", "nothing where y beat"),
                           (",x,y\nx,.5,.7\ny,.3,.5", "nashward solve"),
                           (",x,y\nx,50,70.3\ny,29.7,50", "percents.* nashward solve")):  # fmt: skip
        (tmp_path / "bad.csv").write_text(table)
        with pytest.raises(ValueError, match=message):
            read_battles(tmp_path / "bad.csv")


def test_an_estimate_lies_in_its_own_band() -> None:
    """Of few prompts the draws may all lie on one side of the estimate."""
    random = np.random.default_rng(0)
    beyond = 0
    for trial in range(60):
        prompts, n = int(random.integers(1, 6)), int(random.integers(2, 6))
        rows = [
            {"model_a": str(i), "model_b": str(j), "winner": random.choice(["model_a", "model_b", "tie"]), "prompt": k}
            for k in range(prompts) for i in range(n) for j in range(i) if random.uniform() < 0.8
        ]  # fmt: skip
        if not rows:
            continue
        bands = from_battles(rows).bands(share=0.5, draws=20, seed=trial)
        assert ((bands.low <= bands.lottery) & (bands.lottery <= bands.high)).all()
        assert ((bands.elo_low <= bands.elo) & (bands.elo <= bands.elo_high)).all()
        beyond += int((bands.low == bands.lottery).any())
    assert beyond > 5


def test_bad_settings_and_files(tmp_path: Path) -> None:
    battles = from_battles([{"model_a": "x", "model_b": "y", "winner": "x"}])
    for build, message in (
        (lambda: from_battles([]), "there are no battles"),
        (lambda: from_battles(None), "battles are NoneType; expected rows"),
        (lambda: from_battles([], smoothing="x"), "smoothing .* got 'x'"),  # type: ignore[arg-type]
        (lambda: from_battles([], smoothing=math.inf), "smoothing .* got inf"),
        (lambda: from_battles([], smoothing=0), "above 0, got 0"),
        (lambda: battles.bands(share=1), "between 0 and 1, got 1"),
        (lambda: battles.bands(draws=1), "at least 2, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    with pytest.raises(FileNotFoundError, match="there is no file of battles"):
        read_battles(tmp_path / "none.csv")
    for name, text, message in (
        ("a.txt", "x", "unknown type '.txt'"),
        ("a.json", "{", "cannot be read as json"),
        ("b.json", "{}", "list of battles"),
        ("c.jsonl", "3\n", "c.jsonl: row 1 is of type int"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            read_battles(tmp_path / name)


def test_the_leaderboard_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    battles = _fought(games.zoo.comal_cycle(), 200, np.random.default_rng(0))
    rows = [
        {"model_a": a, "model_b": b, "wins_a": battles.total[i, j], "wins_b": battles.total[j, i]}
        for i, a in enumerate("abc")
        for j, b in enumerate("abc")
        if i < j
    ]
    rows.append({"model_a": "a", "model_b": "d", "wins_a": 3, "wins_b": 0})
    with (tmp_path / "battles.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["model_a", "model_b", "wins_a", "wins_b"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "battles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = []
    for name in ("battles.csv", "battles.jsonl"):
        files = ["--save", str(tmp_path / "table.csv"), "--json", str(tmp_path / "deep" / "all.json")]
        assert main(["leaderboard", str(tmp_path / name), *files, "--seed", "3"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "4 models, 603 battles\n2 pairs never met (taken as 1/2): b and d, c and d\n" in said[0]
    assert "scores do not explain the battles" in said[0]
    table = games.load(tmp_path / "table.csv")
    assert isinstance(table, games.PreferenceGame)
    torch.testing.assert_close(table.P, read_battles(tmp_path / "battles.csv").game.P, atol=0, rtol=0)
    content, known = (
        json.loads((tmp_path / "deep" / "all.json").read_text()),
        read_battles(tmp_path / name),
    )
    bands, P = known.bands(seed=3), known.game.P
    assert [row["model"] for row in content["models"]] == sorted("abcd", key=lambda x: -bands.lottery["abcd".index(x)])
    for row in content["models"]:
        i = known.labels.index(row["model"])
        assert row["nash_band"] == [float(bands.low[i]), float(bands.high[i])]
        assert row["elo"] == float(known.ratings.elo[i])
        assert row["elo_band"] == [float(bands.elo_low[i]), float(bands.elo_high[i])]
        assert row["copeland"] == int(games.analysis.social_choice.copeland(P)[i])
        assert row["smith"] == bool(games.analysis.social_choice.smith_set(P)[i])
        line = next(line for line in said[0].splitlines() if line.startswith(f"{row['model']} "))
        assert line.split()[-1] == f"{row['copeland']:+d}"
        assert f"  {row['elo']:4.0f}  {row['elo_band'][0]:4.0f} to {row['elo_band'][1]:4.0f} " in line
    assert content["condorcet_winner"] is None
    assert content["curl"] == pytest.approx(float(games.analysis.social_choice.curl_fraction(P - 0.5)))
    assert content["P"] == P.tolist()
    smith = [
        label
        for label, member in zip(known.labels, games.analysis.social_choice.smith_set(P).tolist(), strict=True)
        if member
    ]
    assert f"Condorcet winner: none; Smith set: {', '.join(smith)}\n" in said[0]
    assert f"(Hodge): {content['curl']:.3f}" in said[0]


@pytest.mark.parametrize("count", [-1, math.inf, math.nan, "-2", 10**400], ids=repr)
def test_counts_that_are_no_numbers_of_battles_are_named(count: Any) -> None:
    row = {"model_a": "x", "model_b": "y", "wins_a": count, "wins_b": 3}
    with pytest.raises(ValueError, match=r"row 1 has .*(wins_a (-1|inf|'-2'|10+)|no number as wins_a)"):
        from_battles([row])


def test_a_count_that_is_missing_is_not_0_and_draws_are_ties() -> None:
    models = {"model_a": "x", "model_b": "y"}
    for counts in ({"wins_a": 7}, {"wins_a": 7, "wins_b": ""}, {"wins_a": 7, "losses_a": 3}):
        with pytest.raises(ValueError, match=r"row 1 has no number as wins_b"):
            from_battles([models | counts])
    assert from_battles([models | {"wins_a": 7, "wins_b": 0, "draws": 2}]).total[0, 1] == 8
    assert from_battles([models | {"wins_a": 0, "wins_b": 0, "ties": 4}]).total[0, 1] == 2
