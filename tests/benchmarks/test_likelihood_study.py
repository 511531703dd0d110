"""The likelihood study: its pairs, its measurements, the sign test, the script and its files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from likelihood_fits import Study, TrainingCurve, claims, paired
from likelihood_study import CURVES, LOSSES, PICTURE, main

from nashward import llm
from nashward.llm.data.rollouts import Response
from nashward.llm.training.losses import Loss

from ..llm import tiny

PROMPTS = llm.read_prompts([f"Say {i} things" for i in range(10)]).kept
QUICK = Study(
    {"sppo": 4.0, "dpo": 4.0, "ipo": 4.0},
    temperatures=(0.5, 2.0),
    responses=3,
    points=3,
    sampling=llm.Sampling(max_new_tokens=5),
    fit=llm.Fit(learning_rate=5e-3, epochs=4, batch=2, tokens=800, warmup=0.0),
)


def _curve(loss: Loss, chosen: float, rejected: float, seed: int = 0) -> TrainingCurve:
    return TrainingCurve(
        loss, 1.0, seed, [0, 9], [-5.0, -5.0 + chosen], [-6.0, -6.0 + rejected], [0.5, 0.6], [3.0, 4.0]
    )


def test_a_pair_is_the_best_and_the_worst_by_mean_win_rate() -> None:
    P = torch.full((2, 3, 3), 0.5, dtype=torch.float64)
    P[0] = torch.tensor([[0.5, 0.2, 0.4], [0.8, 0.5, 0.9], [0.6, 0.1, 0.5]])
    drawn = [[Response([k, 6], True, "") for k in (40, 41, 42)] for _ in range(2)]
    (group,) = paired(PROMPTS[:2], [[0], [0]], drawn, P)  # of the second prompt all tie
    assert [response.ids[0] for response in group.responses] == [41, 40]
    assert group.payoffs is not None
    assert group.payoffs.tolist() == pytest.approx([0.85, 0.3])
    assert group.table is not None
    assert group.table.tolist() == pytest.approx(np.array([[0.5, 0.8], [0.2, 0.5]]))
    with pytest.raises(ValueError, match="nothing to learn from"):
        paired(PROMPTS[:1], [[0]], drawn[:1], P[1:])


@pytest.mark.slow
def test_every_loss_starts_at_one_place_and_does_what_it_is_for(model: llm.LanguageModel) -> None:
    reported: list[TrainingCurve] = []
    curves = QUICK.run(model, tiny.high_bytes(), PROMPTS, 3, reported.append)
    assert reported == curves
    assert [(curve.loss, curve.temperature) for curve in curves] == [(n, T) for T in (0.5, 2.0) for n in QUICK.sizes]
    for curve in curves:
        assert curve.steps == [0, 10, 20]
        assert (curve.chosen[0], curve.rejected[0]) == (curves[0].chosen[0], curves[0].rejected[0])
        assert curve.margin[-1] > curve.margin[0] + 0.1
        assert curve.wins[0] == curves[0].wins[0]
    again = dataclasses.replace(QUICK, temperatures=(2.0,)).run(model, tiny.high_bytes(), PROMPTS, 3)
    for first, second in zip(curves[3:], again, strict=True):  # whatever was trained before
        assert second.chosen == pytest.approx(first.chosen, rel=1e-4)


def test_the_gram_is_of_the_score_functions(model: llm.LanguageModel) -> None:
    """Symmetric, no eigenvalue below 0, and no diagonal entry 0."""
    gram = QUICK.gram(model, tiny.high_bytes(), PROMPTS[:3], 0)
    assert gram.shape[1:] == (2, 2)
    torch.testing.assert_close(gram, gram.mT)
    assert bool((torch.linalg.eigvalsh(gram) >= -1e-6).all())
    assert bool((gram[:, 0, 0] > 0).all())


@pytest.mark.parametrize(
    ("ups", "verdict", "p"), [(5, "reproduced", 1 / 32), (4, "undecided", 6 / 32), (0, "contradicted", 1.0)]
)
def test_the_sign_test_by_hand(ups: int, verdict: str, p: float) -> None:
    curves = [_curve("sppo", 0.5 if k < ups else -0.5, -1.0, k) for k in range(5)]
    curves += [_curve("dpo", 0.1, -2.0, 4 - k) for k in range(5)]
    curves += [_curve("ipo", -0.9, -2.0, 4 - k) for k in range(5)]
    chosen, rejected, dpo, over_dpo, ipo, over_ipo = claims(curves)
    assert (chosen.agree, chosen.seeds, chosen.verdict) == (ups, 5, verdict)
    assert chosen.p == pytest.approx(p)
    assert (rejected.statement, rejected.agree, rejected.mean) == ("sppo: rejected falls", 5, -1.0)
    assert (dpo.statement, dpo.agree, dpo.verdict) == ("dpo: chosen does not rise", 0, "contradicted")
    assert (ipo.agree, ipo.verdict, over_ipo.agree) == (5, "reproduced", 5)
    assert over_dpo.agree == ups
    with pytest.raises(ValueError, match="5 seeds of sppo and 4 of dpo"):
        claims([curve for curve in curves if (curve.loss, curve.seed) != ("dpo", 2)])


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"points and responses .* got 1 and 5"):
        Study({"dpo": 1.0}, points=1)
    with pytest.raises(ValueError, match="temperatures must be positive"):
        Study({"dpo": 1.0}, temperatures=(1.0, 0.0))


def test_the_script_continues_a_study_and_refuses_another(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"Say {i}\n" for i in range(6)))
    arguments = ["--policy", str(tiny_folder), "--oracle", "nashward.llm.oracles:Length", "--prompts", "prompts.txt",
                 "--temperatures", "1", "--epochs", "1", "--max-new-tokens", "5", "--responses", "3", "--points", "2",
                 "--rank", "2"]  # fmt: skip
    main([*arguments, "--seeds", "1"])
    assert "sppo: chosen rises" in capsys.readouterr().out
    first = Path("likelihoods", CURVES).read_text().splitlines()
    assert len(first) == 1 + len(LOSSES)
    assert Path("likelihoods", PICTURE).stat().st_size > 10_000
    main([*arguments, "--seeds", "2", "--quiet"])
    second = Path("likelihoods", CURVES).read_text().splitlines()
    assert second[: len(first)] == first  # the first seed is not trained again
    assert {json.loads(line)["seed"] for line in second[1:]} == {0, 1}
    capsys.readouterr()
    for more, words in (
        (["--seeds", "2", "--size", "3"], ["another size", "--out"]),
        (["--temperatures", "hot"], ["--temperatures", "'hot'"]),
        (["--seeds", "0"], ["--seeds", "at least 1"]),
        (["--size", "0"], ["--size", "positive"]),
        (["--optimiser", "sgdd"], ["--optimiser", "adamw"]),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*arguments, *more])
        error = capsys.readouterr().err
        assert all(word in error for word in words), error
