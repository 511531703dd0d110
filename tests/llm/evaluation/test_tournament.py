"""Tournaments: tables of models under an oracle, and their Nash."""

import gzip
import json

import numpy as np
import pytest

from nashward import games
from nashward.llm.data.responses import read_prompt_texts, read_responses
from nashward.llm.evaluation.tournament import Unjudged, tournament
from nashward.llm.evaluation.win_rates.win_rate import win_rate
from nashward.llm.oracles import Function, Length, PairRM, preference_matrices
from nashward.llm.pocket import PAIRRM
from nashward.llm.pocket.styles import PLANTED, STYLES, held_out_prompts, response


def test_a_planted_game_between_models_is_found():
    rng = np.random.default_rng(0)
    prompts = held_out_prompts(60)
    answers = {style: [response(k, None, rng) for _ in prompts] for k, style in enumerate(STYLES)}
    result = tournament(PairRM.from_pretrained(PAIRRM, device="cpu"), prompts, answers)
    assert list(result.game.labels) == list(STYLES)
    np.testing.assert_allclose(result.game.P, PLANTED, atol=0.05)
    equilibrium = games.nash(result.game)
    np.testing.assert_allclose(equilibrium.policy, [1 / 3, 4 / 15, 2 / 5, 0.0], atol=0.05)
    assert float(equilibrium.gap) <= 1e-12
    assert (result.judged == 60).all()
    assert result.curl > 0.2


def test_the_table_is_the_mean_over_prompts_and_has_its_standard_error():
    tables = np.random.default_rng(1).random((70, 3, 3))
    oracle = Function(lambda prompt, a, b: float(tables[int(prompt), int(a), int(b)]), name="table")
    prompts = [str(n) for n in range(70)]
    seen: list[int] = []
    result = tournament(oracle, prompts, {name: [str(k)] * 70 for k, name in enumerate("abc")}, progress=seen.append)
    P = np.array([r.P for r in preference_matrices(oracle, prompts, [list("012")] * 70)])
    np.testing.assert_allclose(result.game.P, P.mean(0), atol=1e-12)
    np.testing.assert_allclose(result.standard_error, P.std(0, ddof=1) / np.sqrt(70), atol=1e-12)
    rates = (P.sum(2) - 0.5) / 2  # of each player on each prompt, over the two others
    np.testing.assert_allclose(result.win_rate, rates.mean(0), atol=1e-12)
    np.testing.assert_allclose(result.win_rate_error, rates.std(0, ddof=1) / np.sqrt(70), atol=1e-12)
    assert (np.asarray(result.game.P) + np.asarray(result.game.P).T == 1.0).all()
    assert sum(seen) == 70


def test_an_answer_that_is_not_there_is_nobodys_win():
    answers: dict[str, list[str | None]] = {"a": ["xx", "x", None], "b": ["x", "x", "xxx"], "c": ["x", None, None]}
    result = tournament(Length(), ["p", "q", "r"], answers)
    np.testing.assert_array_equal(result.judged, [[2, 2, 1], [2, 3, 1], [1, 1, 1]])
    first = 1 / (1 + np.exp(np.log(2) - np.log(3)))
    np.testing.assert_allclose(result.game.P[0], [0.5, (first + 0.5) / 2, first], atol=1e-12)
    np.testing.assert_allclose(result.battles.game.P, result.game.P, atol=1e-15)
    assert result.battles.met.tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]


def test_one_prompt_has_no_standard_error():
    answers: dict[str, list[str | None]] = {"a": ["xx", "x"], "b": ["x", "xx"], "c": ["xxx", None]}
    result = tournament(Length(), ["p", "q"], answers)
    assert np.isnan(result.standard_error[2]).all()
    assert np.isnan(result.standard_error[:, 2]).all()
    assert result.standard_error[0, 1] == pytest.approx(0.5 / np.sqrt(2 * 3), abs=1e-12)  # 0.6 and 0.4 spread less
    assert np.isnan(result.win_rate_error).all()  # each plays against c, on one prompt alone
    alone = tournament(Length(), ["p"], {name: texts[:1] for name, texts in answers.items()})
    assert np.isnan(alone.standard_error).all()


def test_the_error_of_a_win_rate_covers_its_spread():
    """Over tournaments drawn again, with answers that are missing: the figures spread as they say they do."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(200):
        drawn = {(f"p{k}", a, b): float(rng.random() < 0.6) for k in range(60) for a, b in ("ab", "ac", "bc")}
        known = {**drawn, **{(prompt, b, a): 1 - wins for (prompt, a, b), wins in drawn.items()}}
        oracle = Function(lambda prompt, a, b, of=known: of[prompt, a, b], name="noise", symmetric=True)  # type: ignore[misc]
        answers = {name: [name if rng.random() < 0.8 else None for _ in range(60)] for name in "abc"}
        result = tournament(oracle, [f"p{k}" for k in range(60)], answers)
        found.append((result.win_rate, result.win_rate_error))
    rates, errors = np.array(found).transpose(1, 0, 2)
    np.testing.assert_allclose(errors.mean(0), rates.std(0, ddof=1), rtol=0.2)


def test_two_different_answers_have_no_cycle_to_count():
    cycle = {("a", "b"), ("b", "c"), ("c", "a")}
    oracle = Function(lambda prompt, a, b: 0.9 if (a, b) in cycle else 0.1, name="cycle", symmetric=True)
    answers: dict[str, list[str | None]] = {"x": ["a", "a", "a"], "y": ["b", "b", "b"], "z": ["c", "b", None]}
    assert tournament(oracle, ["1", "2", "3"], answers).curl == pytest.approx(1.0)
    two = {name: texts[:2] for name, texts in answers.items() if name != "z"}
    assert np.isnan(tournament(oracle, ["1", "2"], two).curl)


def test_what_is_wrong_is_told(tmp_path):
    with pytest.raises(ValueError, match="1 player; a tournament needs at least 2"):
        tournament(Length(), ["p"], {"a": ["x"]})
    with pytest.raises(ValueError, match="b has 2 responses to 1 prompt"):
        tournament(Length(), ["p"], {"a": ["x"], "b": ["x", "y"]})
    with pytest.raises(ValueError, match="no prompts"):
        tournament(Length(), [], {"a": [], "b": []})
    with pytest.raises(Unjudged, match="a and b have no responses to the same prompt"):
        tournament(Length(), ["p", "q"], {"a": ["x", None], "b": [None, "y"]})
    with pytest.raises(Unjudged, match="b has no response"):
        tournament(Length(), ["p"], {"a": ["x"], "b": [None]})
    silent = Function(lambda prompt, a, b: None, name="silent")
    with pytest.raises(ValueError, match="silent judged no response of a against one of b"):
        tournament(silent, ["p"], {"a": ["x"], "b": ["y"]})
    with pytest.raises(ValueError, match=r"silent judged no two of these responses.* 3 players"):
        tournament(silent, ["p"], {"a": ["x"], "b": ["y"], "c": ["z"]})
    with pytest.raises(Unjudged, match=r"a against one of b \(1 pair not judged\)"):  # equal ones tie unjudged
        tournament(silent, ["p", "q"], {"a": ["x", "x"], "b": ["x", "y"]})
    with pytest.raises(ValueError, match="judged no pair"):
        win_rate(silent, ["p", "q"], [["x"], ["x"]], [["x"], ["y"]])
    same = {"a": ["x", "x"], "b": ["x", "x"]}
    assert tournament(silent, ["p", "q"], same).game.P.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    with pytest.raises(FileNotFoundError, match="holds no responses"):
        read_responses(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps([{"output": 3}]))
    with pytest.raises(ValueError, match=r"a\.json: row 1 has no response"):
        read_responses(tmp_path)
    (tmp_path / "a.json").write_text('["x"]')
    (tmp_path / "a.jsonl").write_text('"x"')
    with pytest.raises(ValueError, match=r"a\.json and a\.jsonl"):
        read_responses(tmp_path)


def test_answers_and_prompts_are_read_in_their_order(tmp_path):
    (tmp_path / "plain.json").write_text(json.dumps(["one", {"output": "two"}, None]))
    with gzip.open(tmp_path / "zipped.jsonl.gz", "wt") as file:
        file.write('{"response": "three"}\n"four"\n{"text": null}\n')
    assert read_responses(tmp_path) == {"plain": ["one", "two", None], "zipped": ["three", "four", None]}
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "same"}\n{"instruction": ""}\n{"prompt": "same"}\n')
    assert read_prompt_texts(prompts) == ["same", "", "same"]  # none is dropped: answers go with them


def test_real_answers_make_a_game_under_a_rule(data):
    prompts = read_prompt_texts(data / "alpacaeval" / "prompts.json.gz")[:50]
    answers = {name: texts[:50] for name, texts in read_responses(data / "alpacaeval" / "outputs").items()}
    result = tournament(Length(), prompts, answers)
    equilibrium = games.nash(result.game)
    assert len(result.game.labels) == 8
    assert float(equilibrium.gap) <= 1e-12
    P = np.asarray(result.game.P)
    ranked = [result.game.labels[i] for i in np.argsort(-P.mean(1))]
    # what is known of these models' lengths
    assert ranked.index("SPPO-Mistral7B-PairRM") < ranked.index("Mistral-7B-Instruct-v0.2") < ranked.index("alpaca-7b")


@pytest.mark.slow
def test_real_answers_make_a_game_under_the_pocket_pairrm(data, tmp_path):
    prompts = read_prompt_texts(data / "alpacaeval" / "prompts.json.gz")[:50]
    answers = {name: texts[:50] for name, texts in read_responses(data / "alpacaeval" / "outputs").items()}
    oracle = PairRM.from_pretrained(PAIRRM, device="cpu")
    result = tournament(oracle, prompts, answers, cache=tmp_path / "c.sqlite")
    assert float(games.nash(result.game).gap) <= 1e-12
    assert result.judged.min() >= 48  # one of the models has not answered two of the prompts at all
    again = tournament(oracle, prompts, answers, cache=tmp_path / "c.sqlite")
    np.testing.assert_array_equal(result.game.P, again.game.P)
