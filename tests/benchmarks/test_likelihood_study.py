"""The likelihood study: its pairs, its measurements, the sign test, the command and what it leaves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.likelihood_fits import Course, Study, claims, paired
from benchmarks.likelihood_study import COURSES, LOSSES, PICTURE

from nashward import llm
from nashward.cli.main import main
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


def _course(loss: Loss, chosen: float, rejected: float, seed: int = 0) -> Course:
    return Course(loss, 1.0, seed, [0, 9], [-5.0, -5.0 + chosen], [-6.0, -6.0 + rejected], [0.5, 0.6], [3.0, 4.0])


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


def test_every_loss_starts_at_one_place_and_does_what_it_is_for(model: llm.LanguageModel) -> None:
    told: list[Course] = []
    found = QUICK.run(model, tiny.high_bytes(), PROMPTS, 3, told.append)
    assert told == found
    assert [(course.loss, course.temperature) for course in found] == [(n, T) for T in (0.5, 2.0) for n in QUICK.sizes]
    for course in found:
        assert course.steps == [0, 10, 20]
        assert (course.chosen[0], course.rejected[0]) == (found[0].chosen[0], found[0].rejected[0])
        assert course.margin[-1] > course.margin[0] + 0.1
        assert course.wins[0] == found[0].wins[0]
    again = dataclasses.replace(QUICK, temperatures=(2.0,)).run(model, tiny.high_bytes(), PROMPTS, 3)
    for first, second in zip(found[3:], again, strict=True):  # whatever was trained before
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
    courses = [_course("sppo", 0.5 if k < ups else -0.5, -1.0, k) for k in range(5)]
    courses += [_course("dpo", 0.1, -2.0, 4 - k) for k in range(5)]
    courses += [_course("ipo", -0.9, -2.0, 4 - k) for k in range(5)]
    chosen, rejected, dpo, over_dpo, ipo, over_ipo = claims(courses)
    assert (chosen.agree, chosen.seeds, chosen.verdict) == (ups, 5, verdict)
    assert chosen.p == pytest.approx(p)
    assert (rejected.says, rejected.agree, rejected.mean) == ("sppo: rejected falls", 5, -1.0)
    assert (dpo.says, dpo.agree, dpo.verdict) == ("dpo: chosen does not rise", 0, "contradicted")
    assert (ipo.agree, ipo.verdict, over_ipo.agree) == (5, "reproduced", 5)
    assert over_dpo.agree == ups
    with pytest.raises(ValueError, match="5 seeds of sppo and 4 of dpo; expected the same"):
        claims([course for course in courses if (course.loss, course.seed) != ("dpo", 2)])


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="points and responses must be at least 2, got 1 and 5"):
        Study({"dpo": 1.0}, points=1)
    with pytest.raises(ValueError, match="temperatures must be positive"):
        Study({"dpo": 1.0}, temperatures=(1.0, 0.0))


def test_the_command_goes_on_and_refuses_another_study(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"Say {i}\n" for i in range(6)))
    command = ["likelihood-study", "--policy", str(tiny_folder), "--oracle", "nashward.llm.oracles:Length",
               "--prompts", "prompts.txt", "--temperatures", "1", "--epochs", "1", "--max-new-tokens", "5",
               "--responses", "3", "--points", "2", "--rank", "2"]  # fmt: skip
    assert main([*command, "--seeds", "1"]) == 0
    assert "sppo: chosen rises" in capsys.readouterr().out
    first = Path("likelihoods", COURSES).read_text().splitlines()
    assert len(first) == 1 + len(LOSSES)
    assert Path("likelihoods", PICTURE).stat().st_size > 10_000
    assert main([*command, "--seeds", "2", "--quiet"]) == 0
    second = Path("likelihoods", COURSES).read_text().splitlines()
    assert second[: len(first)] == first  # what was there is not trained again
    assert {json.loads(line)["seed"] for line in second[1:]} == {0, 1}
    capsys.readouterr()
    assert main([*command, "--seeds", "2", "--size", "3"]) == 2
    assert "is of a study with another size; choose another folder" in capsys.readouterr().err
    for more, line in (
        (["--temperatures", "hot"], "--temperatures: expected numbers with commas, got 'hot'"),
        (["--seeds", "0"], "--seeds and --limit must be at least 1"),
        (["--size", "0"], "--size must be positive"),
    ):
        assert main([*command, *more]) == 2
        assert line in capsys.readouterr().err
