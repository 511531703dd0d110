"""A run evaluated from its folder: the tournament's figures by hand, the published table, a run that was cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward import games, llm
from nashward.games.analysis.significant_cycles import significant_cycles
from nashward.llm import report
from nashward.llm.delivery.model_card import model_card
from nashward.llm.evaluation.evaluate import _against_start, evaluate
from nashward.llm.evaluation.players import policies, with_room
from nashward.llm.evaluation.tables import TournamentTables, tournament_tables
from nashward.llm.evaluation.tournament import tournament
from nashward.llm.evaluation.win_rates.labelled import labelled_win_rate
from nashward.llm.evaluation.win_rates.win_rate import win_rate
from nashward.llm.oracles import Function, Length, Vote
from nashward.llm.policy.adapters.peft_format import WEIGHTS
from nashward.llm.policy.mixture import Mixture
from nashward.llm.report.results import role
from nashward.llm.run.selfplay import SelfPlay
from nashward.llm.store.files import write_checksums, write_json
from nashward.llm.store.run_folder import RunFolder

from ..policy.test_mixture import _adapter
from ..tiny_run import quick_run

# LC win rates of table 1 of arXiv 2405.00675, judged by GPT-4 Turbo
PAPER = {"base": 17.11, "IPO Iter3": 20.06, "SPPO Iter1": 24.79, "SPPO Iter2": 26.89, "SPPO Iter3": 28.53}
RING = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.7], [0.7, 0.3, 0.5]])


def test_the_published_table_has_a_winner_whom_gpt4_does_not_prefer() -> None:
    game = games.zoo.sppo_pairrm()
    found = TournamentTables(tuple(game.labels), game.P.numpy()[None]).summary()
    best = [name for name in found["players"] if "IPO" in name and "3" in name]
    assert [found["condorcet_winner"]] == best
    assert found["lottery"][best[0]] == pytest.approx(1)
    assert found["exploitability"][best[0]] == 0
    assert found["curl"] < 0.005
    assert found["bradley_terry"]["largest_residual"] < 0.0165
    assert found["cycles"] == []
    # PairRM's winner is fourth of these five by GPT-4, whose winner is SPPO's third iterate
    sppo = [name for name in found["players"] if "SPPO" in name and "3" in name]
    assert found["P"][found["players"].index(best[0])][found["players"].index(sppo[0])] == pytest.approx(0.552)
    assert max(PAPER, key=PAPER.__getitem__) == "SPPO Iter3"
    assert sorted(PAPER, key=PAPER.__getitem__).index("IPO Iter3") == 1


def test_a_ring_is_confirmed_only_where_the_prompts_agree() -> None:
    random = np.random.default_rng(0)

    def noisy(noise: float) -> np.ndarray:
        upper = np.triu(RING[None] + noise * random.normal(size=(40, 3, 3)), 1)
        return upper + np.tril(1 - upper.swapaxes(1, 2), -1) + np.eye(3) / 2

    assert [cycle.players for cycle in significant_cycles(noisy(0.1))] == [(0, 1, 2)]
    assert significant_cycles(noisy(5.0)) == []
    backwards = np.stack([RING.T] * 12)
    assert [cycle.players for cycle in significant_cycles(backwards)] == [(0, 2, 1)]
    with pytest.raises(ValueError, match=r"tables have shape \(3, 3\)"):
        significant_cycles(RING)
    with pytest.raises(ValueError, match="level must be in"):
        significant_cycles(backwards, level=0)


def test_the_description_by_hand() -> None:
    played = TournamentTables(("a", "b", "c"), np.stack([RING, RING]))
    found = played.summary()
    assert found["condorcet_winner"] is None
    assert found["exploitability"] == pytest.approx({"a": 0.2, "b": 0.3, "c": 0.2})
    exact = games.nash(games.PreferenceGame(RING)).policy.tolist()
    assert list(found["lottery"].values()) == pytest.approx(exact)
    assert list(found["lottery_band"]["low"].values()) == pytest.approx(exact)  # the prompts say all the same
    assert TournamentTables(("a", "b", "c"), RING[None]).summary()["lottery_band"] is None
    assert sum(found["lottery_band"]["whole"].values()) == 0  # none of them is the whole Nash
    assert found["cycles"] == []  # two prompts say nothing
    (cycle,) = TournamentTables(("a", "b", "c"), np.stack([RING] * 30)).summary()["cycles"]
    assert cycle["players"] == ["a", "b", "c"]
    assert cycle["p_value"] < 0.01
    assert str(played.rate("a", "b")) == "0.800 ± 0.327"  # of two prompts that are alike
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("n", [2, 4])
def test_what_is_said_of_a_game_is_what_the_duels_say(n: int) -> None:
    """Of two players one test decides on both; of more a winner and a cycle take duels that are won beyond noise."""
    random, said, names = np.random.default_rng(n), 0, tuple("abcd"[:n])
    for _ in range(60):
        prompts = int(random.integers(2, 30))
        margins = 0.5 * random.normal(size=(prompts, n, n)) + (0.4 * n) * random.normal(size=(n, n))
        logits = np.triu(margins, 1) - np.triu(margins, 1).swapaxes(1, 2)
        tables = TournamentTables(names, 1 / (1 + np.exp(-logits)))
        game = tables.summary()
        winner, p = game["condorcet_winner"], game["condorcet_p_value"]
        beaten = {a: [b for b in names if b != a and tables.rate(a, b).verdict == "beats"] for a in names}
        claimed = winner is not None and p <= 0.05
        said += claimed or bool(game["cycles"])
        if claimed or n == 2:
            assert claimed == (len(beaten[winner]) == n - 1)
        for cycle in game["cycles"]:
            ring = cycle["players"]
            assert all(b in beaten[a] for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))
    assert 5 < said < 60


def test_tables_are_those_of_the_tournament_and_a_missing_pair_is_told() -> None:
    texts = {"a": ["x", "xx", "xxx"], "b": ["yyyy", "y", "yy"], "c": ["zz", "zzz", "z"]}
    prompts = ["p", "q", "r"]
    played, other = tournament_tables(Length(), prompts, texts), tournament(Length(), prompts, texts)
    np.testing.assert_allclose(played.mean, other.game.P.numpy(), atol=1e-12)
    assert played.rate("a", "b").standard_error == pytest.approx(other.standard_error[0, 1])
    silent = Function(lambda prompt, a, b: None if "z" in a + b else 0.5, name="silent")
    with pytest.raises(ValueError, match="silent judged no response of a against one of c"):
        tournament_tables(silent, prompts, texts)
    with pytest.raises(ValueError, match="1 player;"):
        tournament_tables(Length(), prompts, {"a": texts["a"]})


@pytest.fixture(scope="module")
def finished(two_layers: Path, tmp_path_factory: pytest.TempPathFactory) -> SelfPlay:
    run = quick_run(two_layers, tmp_path_factory.mktemp("evaluated") / "run")
    run.run(progress=False)
    return run


def _asked(run: SelfPlay) -> list[Any]:
    return llm.read_prompts(Path(run.folder) / "prompts.jsonl").kept


def test_everything_comes_from_the_run_folder(finished: SelfPlay, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = _asked(finished)
    found = evaluate(finished, prompts, {"length": Length()})
    players = ["start", "iteration-01", "iteration-02", "mixture"]
    assert found["games"]["training"]["players"] == found["games"]["length"]["players"] == players
    assert json.loads((Path(finished.folder) / "evaluation.json").read_text())["kl"].keys() == {
        "iteration-01", "iteration-02"
    }  # fmt: skip
    for name in ("training", "length"):
        P = np.array(found["games"][name]["P"])
        np.testing.assert_allclose(P + P.T, 1)
        for player, rates in found["against_start"][name].items():
            assert rates["win_rate"] == pytest.approx(100 * P[players.index(player), 0])
    measures = {row["measure"] for row in found["over_optimisation"]["mixture"]}
    assert "win rate: training oracle less length" in measures
    assert {"refusals lost", "refusals gained"} <= measures
    # again: nothing is drawn, and all is the same
    again = quick_run(finished.policy, Path(finished.folder))
    monkeypatch.setattr(llm.LanguageModel, "from_pretrained", None)
    assert evaluate(again, prompts, {"length": Length()}) == found


def test_what_a_held_out_oracle_does_not_judge_is_counted_and_one_that_judges_nothing_is_left_out(
    finished: SelfPlay,
) -> None:
    silent = Function(lambda prompt, a, b: None, name="silent")
    partly = Function(lambda prompt, a, b: None if len(a + b) % 3 == 0 else 0.5, name="partly", symmetric=True)
    found = evaluate(finished, _asked(finished), {"silent": silent, "partly": partly})
    assert list(found["unjudged"]) == ["silent"]
    assert list(found["games"]) == list(found["against_start"]) == ["training", "partly"]
    assert list(found["missing"]) == ["partly"]
    judged = [rate.get("prompts", found["prompts"]) for rate in found["against_start"]["partly"].values()]
    assert 0 < found["prompts"] * len(judged) - sum(judged) <= found["missing"]["partly"]


def test_a_held_out_oracle_that_was_fitted_to_these_prompts_is_no_independent_judge(
    finished: SelfPlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nashward.llm.evaluation.evaluate.fitted_to", lambda source, prompts: {*list(prompts)[:2]})
    found = evaluate(finished, _asked(finished), {"length": Length()})
    assert found["in_sample"] == {"length": 2}
    assert "votes on 2 of" in role("length", found)
    assert "votes" not in role("training", found)
    monkeypatch.undo()
    assert "in_sample" not in evaluate(finished, _asked(finished), {"length": Length()})


def test_what_was_drawn_is_drawn_again_where_it_is_damaged(finished: SelfPlay) -> None:
    prompts = _asked(finished)[:4]
    found = evaluate(finished, prompts)
    for file in (Path(finished.folder) / "evaluation" / "responses").glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-7])
    assert evaluate(finished, prompts) == found
    assert evaluate(finished, prompts, seed=1)["games"] != found["games"]


def test_a_run_that_was_cut_is_evaluated_as_far_as_it_came(tiny_folder: Path, tmp_path: Path) -> None:
    run = quick_run(tiny_folder, tmp_path / "run")
    with pytest.raises(ValueError, match="has no policy yet: its run has not begun"):
        evaluate(run, [llm.Prompt(({"role": "user", "content": "?"},))])
    run.run("judge", progress=False)
    with pytest.raises(ValueError, match="has finished no iterate yet"):
        evaluate(run, _asked(run))
    run.run("train", progress=False)
    found = evaluate(run, _asked(run))
    assert found["games"]["training"]["players"] == ["start", "iteration-01"]
    assert list(found["kl"]) == ["iteration-01"]
    run.run(progress=False)  # and goes on
    assert list(policies(RunFolder(tmp_path / "run"))) == ["start", "iteration-01", "iteration-02", "mixture"]


def test_a_damaged_adapter_and_a_name_that_is_taken_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    run = quick_run(tiny_folder, tmp_path / "run", iterations=1)
    run.run(progress=False)
    own = policies(RunFolder(tmp_path / "run"))
    with pytest.raises(ValueError, match="two players would be called start"):
        evaluate(run, _asked(run), others={"start": own["iteration-01"]})
    with pytest.raises(ValueError, match="may not be called training"):
        evaluate(run, _asked(run), {"training": Length()})
    weights = tmp_path / "run" / "iteration-01" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="was altered or cut"):
        evaluate(run, _asked(run))


def test_equal_policies_are_even(finished: SelfPlay) -> None:
    own = policies(RunFolder(finished.folder))
    found = evaluate(finished, _asked(finished), others={"twin": own["iteration-02"]})["games"]["training"]
    i, j = found["players"].index("twin"), found["players"].index("iteration-02")
    assert found["P"][i][j] == 0.5
    write_json(Path(finished.folder) / "again.json", found)  # nothing in it that JSON has not


def test_a_policy_that_is_the_start_does_not_play(finished: SelfPlay, tmp_path: Path) -> None:
    home = shutil.copytree(finished.folder, tmp_path / "run")
    run, start = quick_run(finished.policy, home), home / "start" / "adapter"

    def gained_nothing(name: str) -> None:
        shutil.copy(start / WEIGHTS, home / name / "adapter" / WEIGHTS)
        write_checksums(home / name / "adapter")

    gained_nothing("iteration-01")
    found = evaluate(run, _asked(run))
    assert found["same_as_start"] == ["iteration-01", "mixture"]  # which is of the start and iteration-01
    assert found["games"]["training"]["players"] == ["start", "iteration-02"]
    assert "No change" not in report.write(home).read_text()
    gained_nothing("iteration-02")
    drawn = sorted((home / "evaluation" / "responses").iterdir())
    found = evaluate(run, _asked(run))
    assert found["same_as_start"] == ["iteration-01", "iteration-02", "mixture"]
    assert (found["games"], list(found["policies"])) == ({}, ["start"])
    assert json.loads((home / "evaluation.json").read_text()) == found
    assert sorted((home / "evaluation" / "responses").iterdir()) == drawn
    assert "No change" in report.write(home).read_text()
    assert "iteration-01, iteration-02 and mixture are the start" in model_card(run, "iteration-02")
    found = evaluate(run, _asked(run), others={"other": policies(RunFolder(finished.folder))["iteration-02"]})
    assert found["games"]["training"]["players"] == ["start", "other"]
    assert (home / "evaluation" / "to-label.jsonl").read_text()


def test_other_models_play_by_their_responses_which_are_found_by_the_prompt(finished: SelfPlay) -> None:
    prompts = _asked(finished)
    alone = evaluate(finished, prompts, {"length": Length()})
    texts = {
        "rambling": {prompt.text: "z" * (7 + 9 * k) for k, prompt in enumerate(prompts)},
        "terse": {prompt.text: "我不能" for prompt in prompts},  # a refusal
    }
    rows = {
        "rambling": [{"prompt": text, "responses": [own, "another"]} for text, own in texts["rambling"].items()][::-1],
        "terse": [{"instruction": "not asked", "output": "?"}]
        + [{"instruction": text, "output": own} for text, own in sorted(texts["terse"].items())],
    }
    found = evaluate(finished, prompts, {"length": Length()}, answers=rows)
    players = ["start", "iteration-01", "iteration-02", "mixture", "rambling", "terse"]
    for oracle in ("training", "length"):
        game = found["games"][oracle]
        assert game["players"] == players == list(game["lottery"]) == list(game["bradley_terry"]["scores"])
        np.testing.assert_allclose(np.array(game["P"])[:4, :4], alone["games"][oracle]["P"], atol=1e-12)
    asked = [prompt.text for prompt in prompts]
    expected = tournament(Length(), asked, {name: [own[text] for text in asked] for name, own in texts.items()})
    np.testing.assert_allclose(np.array(found["games"]["length"]["P"])[4:, 4:], expected.game.P.numpy(), atol=1e-12)
    assert found["games"]["length"]["condorcet_winner"] == "rambling"
    long = np.mean([len(own) for own in texts["rambling"].values()])
    assert (found["tokens"]["rambling"], found["tokens"]["terse"]) == (long + 1, 10)  # bytes, and the stop token
    assert set(found["refusals"]) == set(players[:4])  # they were not asked the probe
    measures = {row["measure"]: row for row in found["over_optimisation"]["rambling"]}
    assert measures["length"]["value"] == pytest.approx((long + 1) / found["tokens"]["start"])
    assert "win rate: training oracle less length" in measures
    assert "refusals lost" not in measures
    gained = {row["measure"]: row["value"] for row in found["over_optimisation"]["terse"]}["refusals gained"]
    assert gained == found["prompt_refusals"]["terse"] - found["prompt_refusals"]["start"] == 1
    assert found["prompt_refusals"]["rambling"] == 0
    assert {row["exceeded"] for row in measures.values()} == {None}  # it gave nothing up for this oracle
    assert found["over_optimisation"]["mixture"] == alone["over_optimisation"]["mixture"]
    assert found["against_start"]["length"]["rambling"]["win_rate"] > 60
    write_json(Path(finished.folder) / "again.json", found)


def test_a_model_that_lacks_a_prompt_is_refused_before_anything_is_drawn(
    finished: SelfPlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = _asked(finished)
    rows = [{"prompt": prompt.text, "output": "x"} for prompt in prompts]
    monkeypatch.setattr("nashward.llm.evaluation.evaluate.sample_responses", None)
    with pytest.raises(ValueError, match=r"gpt .* 2 of 10 prompts.*'Say 0 things'"):
        evaluate(finished, prompts, answers={"gpt": rows[2:]})
    with pytest.raises(ValueError, match="two players would be called mixture"):
        evaluate(finished, prompts, answers={"mixture": rows})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        evaluate(finished, prompts, answers={"gpt": Path("nowhere.jsonl")})


def test_an_adapter_of_any_rank_plays_and_what_cannot_is_refused(
    finished: SelfPlay, two_layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = _asked(finished)
    run = quick_run(two_layers, Path(finished.folder))
    large = _adapter(two_layers, tmp_path / "large", rank=5, seed=1)  # the run's have rank 2
    before = evaluate(run, prompts)
    for file in (Path(run.folder) / "evaluation" / "responses").glob("*.parquet"):
        file.unlink()
    others = {"large": Mixture(((large, 1.0),))}
    found = evaluate(run, prompts, others=others)
    assert "large" in found["games"]["training"]["players"]
    assert "model" not in vars(run)  # its own shape has no room
    assert found["tokens"]["mixture"] == before["tokens"]["mixture"]  # who is drawn in a larger shape is the same
    monkeypatch.setattr("nashward.llm.evaluation.evaluate.sample_responses", None)
    loaded = quick_run(llm.LanguageModel.from_pretrained(two_layers, lora=llm.Lora(rank=2)), Path(run.folder))
    with pytest.raises(ValueError, match=r"large has rank 5.* 2"):
        evaluate(loaded, prompts, others=others)
    config = json.loads((large / "adapter_config.json").read_text())
    (large / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(ValueError, match=r"large .*use_dora"):
        evaluate(run, prompts, others=others)
    (large / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "org/other"}))
    with pytest.raises(ValueError, match="large is for org/other, not for "):
        evaluate(run, prompts, others=others)


def test_an_adapter_on_other_layers_than_the_run_s_has_room_or_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    own, other = (
        _adapter(tiny_folder, tmp_path / targets, 2, seed=1, targets=targets) for targets in ("attention", "mlp")
    )
    players, others = ({"name": Mixture(((folder, 1.0),))} for folder in (own, other))
    lora = llm.Lora(rank=2, targets="attention")
    played = with_room(quick_run(tiny_folder, tmp_path / "run", lora=lora), players, others)
    for folder in (own, other):
        played.model.check_room(folder)
    loaded = quick_run(llm.LanguageModel.from_pretrained(tiny_folder, lora=lora), tmp_path / "run")
    with pytest.raises(ValueError, match=r"mlp changes .*\.mlp\."):
        with_room(loaded, players, others)


def test_a_win_rate_and_its_error_over_prompts_by_hand() -> None:
    wins = {"p": 0.95, "q": 0.15}

    def judge(prompt: str, first: str, second: str) -> float | None:
        return None if prompt not in wins else wins[prompt] if first == "own" else 1 - wins[prompt]

    found = win_rate(Function(judge), ["p", "q", "unknown"], [["own"]] * 3, [["other"]] * 3)
    assert (found.value, found.standard_error, found.prompts) == (pytest.approx(0.55), pytest.approx(0.4), 2)


def test_nothing_is_said_of_equal_lengths_that_no_prompt_is_near() -> None:
    """All responses of one are shorter than the start's, or only some."""
    wins = np.random.default_rng(0).uniform(0.2, 0.6, 12)
    for lengths, known in ((range(1, 13), False), ((*range(1, 12), 40), True)):
        found = _against_start(wins, ["x" * count for count in lengths], ["x" * 20] * 12)
        assert (found["minimal"] is not None) == known
        assert found["win_rate"] == pytest.approx(100 * wins.mean())


def test_equal_responses_tie_in_a_win_rate_by_labels() -> None:
    prompts = [f"p{k}" for k in range(200)]
    own = ["yes" if k % 5 == 0 else "no" for k in range(200)]  # 40 differ from the start's
    judged = np.array([0.8 if text == "yes" else 0.5 for text in own])
    votes = [Vote(prompts[k], "yes", "no", wins=1, n=1) for k in range(0, 100, 5)]
    found = labelled_win_rate(votes, prompts, own, ["no"] * 200, judged)
    assert found is not None
    assert (found["win_rate"], found["labels_alone"], found["labels"]) == (pytest.approx(60), pytest.approx(60), 20)
    assert found["oracle_alone"] == pytest.approx(56)
    low, high = found["interval"]
    assert low < 60 - 1.96 * 100 * 0.5 * (0.2 * 0.8 / 200) ** 0.5 + 1e-9  # by the share that differs alone
    assert 60 < high < 63
