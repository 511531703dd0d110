"""Corrections: what was planted is taken out, tables stay complementary, parameters are found on labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm.oracles import (
    Calibrated,
    CorrectedSource,
    Diversity,
    EnsembleSource,
    Function,
    Length,
    Plain,
    PreferenceOracle,
    StyleControl,
    Unflipped,
    WithTies,
    as_oracle,
    check_oracle,
    preference_matrices,
)
from nashward.llm.oracles.diagnosis.diagnose import diagnose
from nashward.llm.oracles.diagnosis.probe import probe_pairs
from nashward.llm.oracles.fingerprint import oracle_fingerprint
from nashward.llm.oracles.fitting.fit import prompt_digest
from nashward.llm.oracles.fitting.votes import Vote
from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder

from ..diagnosis.planted import STYLE, Simulated, World

LENGTH = "nashward.llm.oracles:Length"
CORRECTIONS = [
    StyleControl(Length(), [0.5, 0.1, -2.0, 0.3]),
    Calibrated(Length(), 3.0),
    Unflipped(Length(), 0.2),
    WithTies(Length(), 0.7),
    Calibrated(StyleControl(Plain(), [1.0, 0.0, 0.0, 0.0]), 0.5),
]


@pytest.mark.parametrize("oracle", CORRECTIONS, ids=lambda oracle: oracle.name)
def test_a_corrected_oracle_conforms(oracle: PreferenceOracle) -> None:
    check_oracle(oracle)


@pytest.mark.parametrize("make", [lambda o: StyleControl(o, [1, 2, 3, 4]), lambda o: Calibrated(o, 2.0),
                                  lambda o: Unflipped(o, 0.3), lambda o: WithTies(o, 1.0)])  # fmt: skip
def test_tables_stay_complementary_exactly(make) -> None:
    random = np.random.default_rng(0)
    texts = ["a", "- b\n- c", "# d", "**e** e e", "f" * 30]
    table = {(a, b): random.normal(0, 3) for a in texts for b in texts}
    table["a", "# d"], table["# d", "a"] = np.inf, -np.inf
    oracle = make(Function(lambda prompt, a, b: float(expit(table[a, b]))))
    P = preference_matrices(oracle, ["?"], [texts])[0].P
    assert (P + P.T == 1).all()
    assert P[0, 2] > 0.5


@pytest.mark.parametrize("kind", STYLE)
def test_style_control_takes_out_what_was_planted(kind: str) -> None:
    world = World(4)
    pairs = probe_pairs((), world.prompts, world.answers)
    votes = [Vote(pair.prompt, pair.a, pair.b, 0, 1) for pair in pairs]
    controlled = StyleControl.fitted(Simulated(world, kind, 4, size=0.8), votes)
    (finding,) = (finding for finding in diagnose(controlled, pairs).findings if finding.kind == kind)
    assert abs(finding.estimate) < 0.1
    assert not finding.named


def _labels(A: np.ndarray, ties: float = 0.0, seed: int = 0) -> tuple[list[Vote], dict[str, float]]:
    """Votes with P(a wins) = sigmoid(A - ties), and P(b wins) = sigmoid(-A - ties)."""
    random = np.random.default_rng(seed)
    u = random.random(len(A))
    wins = np.where(u < expit(A - ties), 1.0, np.where(u > 1 - expit(-A - ties), 0.0, 0.5))
    votes = [Vote(f"p{k}", "a", "b", wins=w, n=1) for k, w in enumerate(wins)]
    return votes, {vote.prompt: float(odds) for vote, odds in zip(votes, A, strict=True)}


def _judge(table: dict[str, float]) -> PreferenceOracle:
    return Function(lambda prompt, a, b: float(expit(table.get(prompt, 1.0) * (1 if a < b else -1))), symmetric=True)


def test_a_temperature_is_found() -> None:
    A = np.random.default_rng(1).normal(0, 1.5, 4000)
    votes, true = _labels(A)
    found = Calibrated.fitted(_judge({prompt: 2.5 * odds for prompt, odds in true.items()}), votes)
    assert found.temperature == pytest.approx(2.5, rel=0.08)
    P = preference_matrices(found, ["p0"], [["a", "b"]])[0].P[0, 1]
    assert pytest.approx(expit(2.5 * true["p0"] / found.temperature)) == P
    with pytest.raises(NashwardError, match="contradict"):
        Calibrated.fitted(_judge({prompt: -odds for prompt, odds in true.items()}), votes)


def test_a_temperature_counts_each_vote_on_a_pair() -> None:
    votes, true = _labels(np.random.default_rng(5).normal(0, 1.5, 60))
    judge = _judge(true | {f"{prompt}, copy {k}": odds for prompt, odds in true.items() for k in range(8)})
    often = [replace(vote, wins=9 * vote.wins, n=9) if k < 20 else vote for k, vote in enumerate(votes)]
    copies = [replace(vote, prompt=f"{vote.prompt}, copy {k}") for vote in votes[:20] for k in range(8)]
    found = [Calibrated.fitted(judge, own).temperature for own in (often, [*votes, *copies])]
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_flips_are_taken_out() -> None:
    random = np.random.default_rng(2)
    true = np.where(random.random(3000) < 0.5, 1.0, 0.0)
    shares = random.binomial(20, np.where(true > 0, 0.85, 0.15)) / 20  # of 20 hard verdicts, 15% of them flipped
    table = {f"p{k}": float(logit(np.clip(share, 1e-9, 1 - 1e-9))) for k, share in enumerate(shares)}
    votes = [Vote(f"p{k}", "a", "b", wins=float(first), n=1) for k, first in enumerate(true)]
    found = Unflipped.fitted(_judge(table), votes)
    assert found.flips == pytest.approx(0.15, abs=0.01)
    P = [preference_matrices(found, [f"p{k}"], [["a", "b"]])[0].P[0, 1] for k in range(300)]
    expected = np.clip((shares[:300] - found.flips) / (1 - 2 * found.flips), 0, 1)
    assert pytest.approx(expected, abs=1e-6) == P
    with pytest.raises(NashwardError, match="no flips"):
        Unflipped.fitted(_judge({prompt: -odds for prompt, odds in table.items()}), votes)


@pytest.mark.parametrize("e", [0.0, 0.1, 0.2])
def test_the_noise_of_labels_is_no_flip(e: float) -> None:
    """Labels drawn from P, of which the judge gives e + (1 - 2 e) P; and labels that are certain."""
    votes, true = _labels(np.random.default_rng(4).normal(0, 1.5, 4000))
    flipped = {prompt: float(logit(e + (1 - 2 * e) * expit(odds))) for prompt, odds in true.items()}
    assert Unflipped.fitted(_judge(flipped), votes).flips == pytest.approx(e, abs=0.03)
    side = {vote.prompt: np.inf * (1 if vote.wins else -1) for vote in votes}  # without flips certain, and right
    flipped = {prompt: float(logit(e + (1 - 2 * e) * (odds > 0))) for prompt, odds in side.items()}
    assert Unflipped.fitted(_judge(flipped), votes).flips == pytest.approx(e, abs=0.005)
    hard = {  # of one verdict a pair only the bound is known
        prompt: odds * (-1 if k % 10 < 10 * e else 1) for k, (prompt, odds) in enumerate(side.items())
    }
    assert Unflipped.fitted(_judge(hard), votes).flips == pytest.approx(e, abs=0.02)


@pytest.mark.parametrize("counted", [10, None])
def test_flips_that_the_noise_of_few_votes_hides_are_warned_of(
    caplog: pytest.LogCaptureFixture, counted: int | None
) -> None:
    """Labels drawn from P; the judge gives shares of ten votes with a fifth flipped, or their probability."""
    rng, e = np.random.default_rng(4), 0.2
    votes, true = _labels(rng.normal(0, 1.5, 2000))
    p = {prompt: e + (1 - 2 * e) * float(expit(odds)) for prompt, odds in true.items()}
    if counted is not None:
        p = {prompt: float(rng.binomial(counted, one)) / counted for prompt, one in p.items()}
    with np.errstate(divide="ignore"), caplog.at_level("WARNING"):
        found = Unflipped.fitted(_judge({prompt: float(logit(one)) for prompt, one in p.items()}), votes).flips
    assert (found < 0.15) == (counted is not None)
    assert ("flips:by=" in caplog.text) == (counted is not None)


@pytest.mark.parametrize("votes", [1, 3])
@pytest.mark.parametrize("clean", [1.0, 0.8, 0.5])
def test_the_mean_of_unclipped_targets_is_the_clean_probability(clean: float, votes: int) -> None:
    """Hard verdicts, each flipped with probability 0.2, of a pair whose first response wins with probability P."""
    random, count, e = np.random.default_rng(7), 4000, 0.2
    wins = random.random((count, votes)) < clean
    flipped = random.random((count, votes)) < e
    share = dict(zip([f"p{k}" for k in range(count)], (wins ^ flipped).mean(1).tolist(), strict=True))
    noisy = Function(lambda prompt, a, b: share[prompt] if a < b else 1 - share[prompt], symmetric=True)
    results = preference_matrices(Unflipped(noisy, e), list(share), [["a", "b"]] * count)
    assert all(result.targets is not None for result in results)
    targets = np.array([result.targets for result in results])
    np.testing.assert_allclose(targets + targets.transpose(0, 2, 1), 1.0, atol=1e-12)
    assert (targets[:, [0, 1], [0, 1]] == 0.5).all()
    raw = np.array(list(share.values()))
    np.testing.assert_allclose(targets[:, 0, 1], (raw - e) / (1 - 2 * e), atol=1e-12)
    error = targets[:, 0, 1].std() / np.sqrt(count)
    assert abs(targets[:, 0, 1].mean() - clean) < 4 * error
    clipped = np.array([result.P[0, 1] for result in results])
    np.testing.assert_allclose(clipped, np.clip(targets[:, 0, 1], 0, 1), atol=1e-12)
    if clean != 0.5:  # where both ends are cut alike
        assert clipped.mean() < clean - 0.05


def test_unclipped_targets_are_kept_in_the_cache_and_of_pairs_that_are_missing_unknown(tmp_path: Path) -> None:
    noisy = Function(lambda p, a, b: None if "c" in (a, b) else 0.9 if a < b else 0.2, name="n", fingerprint="n 1")
    texts, opponents = [["a", "b", "c"]], [["b", "d"]]
    made = [preference_matrices(Unflipped(noisy, 0.3), ["p"], texts, cache=tmp_path / "c")[0] for _ in "ab"]
    assert made[1].meta["calls"] == 2  # those that are missing: the rest is in the cache
    assert made[0].targets is not None
    assert made[1].targets is not None
    np.testing.assert_array_equal(made[0].targets, made[1].targets)
    p = float(expit((logit(0.9) - logit(0.2)) / 2))  # both orders averaged in log-odds
    assert made[0].targets[0, 1] == pytest.approx((p - 0.3) / 0.4)
    assert np.isnan(made[0].targets[0, 2])
    (block,) = preference_matrices(Unflipped(noisy, 0.3), ["p"], texts, opponents)
    assert block.targets is not None
    assert block.targets[0].tolist() == pytest.approx([(p - 0.3) / 0.4] * 2)
    assert block.targets[1, 0] == 0.5
    assert preference_matrices(Length(), ["p"], texts)[0].targets is None
    assert preference_matrices(Calibrated(Unflipped(noisy, 0.3), 1.0), ["p"], texts)[0].targets is None


def test_a_margin_of_ties_is_found() -> None:
    votes, true = _labels(np.random.default_rng(3).normal(0, 1.5, 4000), ties=0.6)
    found = WithTies.fitted(_judge(true), votes)
    assert found.margin == pytest.approx(0.6, abs=0.05)
    P = preference_matrices(found, ["p0"], [["a", "b"]])[0].P[0, 1]
    A, t = true["p0"], found.margin
    win, lose = expit(A - t), expit(-A - t)
    assert pytest.approx(win + (1 - win - lose) / 2, abs=1e-12) == P
    decided = [vote for vote in votes if vote.wins != 0.5]
    assert WithTies.fitted(_judge(true), decided).margin == 0.0


def test_votes_for_both_sides_of_a_pair_are_no_ties() -> None:
    votes, true = _labels(np.random.default_rng(3).normal(0, 1.5, 400), ties=0.6)
    margin = WithTies.fitted(_judge(true), votes).margin
    divided = [replace(vote, prompt=f"{vote.prompt}, divided", wins=wins) for vote in votes for wins in (0.0, 1.0)]
    judge = _judge(true | {f"{prompt}, divided": 0.0 for prompt in true})
    together = [replace(vote, wins=1, n=2) for vote in divided[::2]]
    assert [WithTies.fitted(judge, own).margin for own in (divided, together)] == [0.0, 0.0]
    assert WithTies.fitted(judge, [*votes, *divided]).margin < margin
    assert WithTies.fitted(judge, [replace(vote, a="b", b="a", wins=1 - vote.wins) for vote in votes]).margin == (
        pytest.approx(margin)
    )


def test_labels_that_are_all_ties_are_refused_as_that() -> None:
    votes, true = _labels(np.ones(40))
    ties = [replace(vote, wins=0.5) for vote in votes]
    for kind, said in ((Calibrated, "how right"), (Unflipped, "how right"), (WithTies, "a larger margin is always")):
        with pytest.raises(NashwardError, match=f"all 40 .*ties, .*{said}.* give pairs with winners"):
            kind.fitted(_judge(true), ties)


def test_too_few_labels_and_wrong_parameters_are_refused() -> None:
    votes, true = _labels(np.ones(29))
    for kind in (StyleControl, Calibrated, Unflipped, WithTies):
        with pytest.raises(NashwardError, match="29"):
            kind.fitted(_judge(true), votes)
    for make in (lambda: Calibrated(Length(), 0), lambda: Unflipped(Length(), 0.5), lambda: WithTies(Length(), -1),
                 lambda: StyleControl(Length(), [1.0])):  # fmt: skip
        with pytest.raises(NashwardError):
            make()
    hodge = Length()
    hodge.aggregation = "hodge"
    with pytest.raises(NashwardError, match="hodge"):
        Calibrated(hodge, 2.0)


def test_a_correction_by_name(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        {"prompt": f"p{k}", "a": "x" * int(random.integers(1, 90)), "b": "y" * 20, "winner": "ab"[k % 2]}
        for k in range(60)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    source = CorrectedSource(EnsembleSource((LENGTH, LENGTH)), f"style:pairs={file}")
    oracle = as_oracle(CorrectedSource(source, "temperature:by=2"))
    assert oracle.name.endswith("style controlled, calibrated")
    assert isinstance(oracle, Calibrated)
    assert oracle.temperature == 2.0
    found = {oracle_fingerprint(one) for one in (source, source.source, CorrectedSource(source, "temperature:by=2"))}
    assert len(found) == 3
    refused = {
        "style": "pairs=FILE", "style:by=1": "by", "ties:by=x": "'x'", "ties:by=1,2": "'1,2'", "mean": "mean",
        "flips:pairs=none.jsonl": "none.jsonl",
    }  # fmt: skip
    for wrong, named in refused.items():
        with pytest.raises((NashwardError, FileNotFoundError), match=named):
            CorrectedSource(LENGTH, wrong)


def test_pairs_that_an_oracle_was_fitted_to_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    votes = [
        Vote(f"p{k}", "x" * (k % 7 + 1), "y" * 4, float(rng.random() < 0.5 + 0.05 * (k % 7 - 3)), 1) for k in range(60)
    ]
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": v.prompt, "a": v.a, "b": v.b, "wins": v.wins, "n": 1} for v in votes]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fitted = tmp_path / "fitted"
    fitted.mkdir()
    (fitted / "fit.json").write_text(json.dumps({"seen": [prompt_digest(f"p{k}") for k in range(10)]}))
    both = EnsembleSource((str(fitted), LENGTH))
    for correct, told in (("temperature", True), ("flips", True), ("ties", True), ("style", False)):
        caplog.clear()
        CorrectedSource(both, f"{correct}:pairs={file}").load(lambda source: Length())
        assert (f"{fitted} was fitted to votes on 10 of 60 prompts" in caplog.text) == told
        assert ("in-sample" in caplog.text) == told
    caplog.clear()
    CorrectedSource(LENGTH, f"temperature:pairs={file}").load(lambda source: Length())
    EnsembleSource((LENGTH, LENGTH), f"accuracy:pairs={file}").load(lambda source: Length())
    assert "in-sample" not in caplog.text
    EnsembleSource((LENGTH, str(fitted)), f"accuracy:pairs={file}").load(lambda source: Length())
    assert "in-sample" in caplog.text


def test_a_leaderboard_with_style_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Path("answers").mkdir()
    for name, size in (("short", 20), ("long", 30)):
        texts = ["w" * int(random.integers(5, 2 * size)) for _ in range(60)]
        Path("answers", f"{name}.json").write_text(json.dumps(texts))
    Path("p.txt").write_text("".join(f"prompt {k}\n" for k in range(60)))
    board = ["leaderboard", "answers", "--prompts", "p.txt", "--oracle", LENGTH, "--json", "board.json"]
    leads = []
    for options in ([], ["--style-control"]):
        assert main([*board, *options]) == 0
        leads.append(abs(json.loads(Path("board.json").read_text())["P"][0][1] - 0.5))
    assert "style controlled" in capsys.readouterr().out
    assert leads[1] < leads[0] / 3  # length is all that there is


def test_a_run_is_played_under_a_corrected_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from nashward.llm import pocket

    Path("p.txt").write_text("one\ntwo\nthree\nfour\n")
    small = ["--responses", "2", "--max-new-tokens", "6", "--iterations", "1", "--quiet", "--prompts", "p.txt"]
    correct = ["--correct", "temperature:by=2", "--correct", "ties:by=0.1"]
    align = ["align", "--policy", str(pocket.POLICY), "--oracle", LENGTH, *correct, "--out", "run", *small]
    assert main(align) == 0
    config = RunFolder("run").read()["config"]
    assert (config["oracle"], config["correct"]) == (LENGTH, ["temperature:by=2", "ties:by=0.1"])
    assert main(["align", "--out", "run", "--quiet", "--iterations", "1"]) == 0


@pytest.mark.parametrize(("loss", "unclipped"), [("mirror", True), ("rebel", True), ("kto", False)])
def test_a_regression_fits_the_unclipped_targets(
    loss: str, unclipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from nashward.llm import pocket

    Path("p.txt").write_text("one\ntwo\nthree\nfour\n")
    small = ["--responses", "3", "--max-new-tokens", "8", "--iterations", "1", "--quiet", "--prompts", "p.txt"]
    judging = ["--oracle", LENGTH, "--correct", "flips:by=0.49", "--loss", loss, *small]
    assert main(["align", "--policy", str(pocket.POLICY), *judging, "--out", "run"]) == 0
    step = Path("run", "iteration-01")
    (file,) = shards(step / "judgements", "start")
    rows = read_shard(file)
    P, targets = (np.array([row[name] for row in rows]) for name in ("P", "targets"))
    assert targets.max() > 1.0 >= P.max()
    np.testing.assert_allclose(np.clip(targets, 0, 1), P, atol=1e-12)
    fitted = [row for file in shards(step / "targets", "anchor") for row in read_shard(file)]
    payoffs = np.concatenate([np.ravel(row["payoffs"]) for row in fitted])
    table = targets if unclipped else P
    others = ~np.eye(3, dtype=bool)  # a response is not compared with itself
    expected = [np.mean(of_prompt[k][others[k]]) for of_prompt in table for k in range(3)]
    assert sorted(payoffs) == pytest.approx(sorted(expected), abs=1e-6)
    assert (payoffs.max() > 1) == unclipped


def test_what_a_corrected_oracle_sees_is_what_the_oracle_sees() -> None:
    prompts, texts = ["Say it."], [["a b c", "a b c", "x y z", "a b d"]]  # of which copies count
    plain, corrected = (
        preference_matrices(oracle, prompts, texts)[0].P for oracle in (Diversity(), Calibrated(Diversity(), 1.0))
    )
    assert corrected == pytest.approx(plain)
