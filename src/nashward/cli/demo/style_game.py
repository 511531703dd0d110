"""What the demo's run did to the styles of the responses: shares, duality gaps with errors, win rates, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nashward import games
from nashward.llm import Mixture
from nashward.llm.evaluation import WinRate, win_rate
from nashward.llm.pocket.styles import PLANTED, STYLES, style_of
from nashward.llm.report.curves import NO_LABEL, label_styles
from nashward.llm.run.selfplay import Run, SelfPlay
from nashward.llm.store.files import shards
from nashward.llm.store.run_folder import step_name
from nashward.llm.store.step_shards import texts_by_prompt

from .stored import judged

RESAMPLES = 400
WHICH = ("last", "average")
SHARE = 0.9  # of the bootstrap draws that a band holds
POLICY_COLOURS = ("#E69F00", "#56B4E9")  # of the last iterate and of the mixture: no style has them


@dataclass(frozen=True)
class StyleGame:
    """The style game of a run of T iterations. Policies are the start, the T iterates, and the mixture.

    All errors are of a bootstrap over prompts, which draws responses and judgements of a prompt together.

    Attributes:
        names: of the policies, [T + 2].
        shares, share_errors: of each style, and at the end of no style, [T + 2, styles + 1].
        responses: how many there are of each policy.
        learned: win probabilities of the styles as the oracle judged them, [styles, styles].
        nash, nash_low, nash_high: the Nash of that table with the band that holds ``SHARE`` of the draws, [styles].
        gaps, errors: duality gaps of the last iterate and of the mixture after t = 0 .. T iterations, [T + 1], and
            their standard errors, in the learned table.
        table: the same gaps of the same solver on that table, from the start's own mix.
        wins: each policy but the start against the start.
        tournament, tournament_errors: each policy against each, one response per prompt, [T + 2, T + 2].
    """

    names: list[str]
    shares: np.ndarray
    share_errors: np.ndarray
    responses: int
    learned: np.ndarray
    nash: np.ndarray
    nash_low: np.ndarray
    nash_high: np.ndarray
    gaps: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    table: dict[str, np.ndarray]
    wins: dict[str, WinRate]
    tournament: np.ndarray
    tournament_errors: np.ndarray

    def numbers(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        arrays = ("shares", "share_errors", "learned", "nash", "nash_low", "nash_high", "tournament",
                  "tournament_errors")  # fmt: skip
        return {
            "names": self.names,
            "styles": [*STYLES, "no style"],
            "responses": self.responses,
            "planted": PLANTED.tolist(),
            **{key: getattr(self, key).tolist() for key in arrays},
            **{key: {k: v.tolist() for k, v in getattr(self, key).items()} for key in ("gaps", "errors", "table")},
            "wins": {name: asdict(rate) for name, rate in self.wins.items()},
        }


def measure(play: SelfPlay, run: Run, seed: int) -> StyleGame:
    """Sample the last iterate and the mixture, read what is stored of the others, and measure all of them."""
    texts, prompts = zip(*((prompt.text, prompt.id) for prompt in run.prompts.kept), strict=True)
    answers = _stored(run.folder, prompts, play.config.iterations)
    ids = [play.model.encode(prompt) for prompt in run.prompts.kept]
    for name, policy in ((_name(play.config.iterations), Mixture(((run.last, 1.0),))), ("mixture", run.average)):
        drawn = policy.sample(play.model, ids, play.config.responses, play.sampling, seed + 1)
        answers[name] = [[answer.text for answer in row] for row in drawn]
    counts = np.stack([_counts(rows) for rows in answers.values()])  # [policies, prompts, styles + 1]
    duels = _style_duels(run.folder, prompts)
    learned = _style_table(duels)
    gaps = _gaps(learned, counts[:-1])
    rng = np.random.default_rng(seed)
    drawn_prompts = [rng.integers(len(texts), size=len(texts)) for _ in range(RESAMPLES)]
    tables = [_style_table(duels[:, drawn]) for drawn in drawn_prompts]
    redrawn = [_gaps(table, counts[:-1, drawn]) for table, drawn in zip(tables, drawn_prompts, strict=True)]
    lotteries = games.nash(games.PreferenceGame(np.stack(tables))).numpy()
    nash = games.nash(games.PreferenceGame(learned)).numpy()
    low, high = np.quantile(lotteries, [(1 - SHARE) / 2, (1 + SHARE) / 2], axis=0)
    solution = games.solve(
        games.PreferenceGame(learned), play.solver, iterations=play.config.iterations, start=_mix(counts[:1])[0],
        record=range(1, play.config.iterations + 1),
    )  # fmt: skip
    names = list(answers)
    tournament, errors = np.full((len(names), len(names)), 0.5), np.zeros((len(names), len(names)))
    for i, a in enumerate(names):
        for j, b in enumerate(names[:i]):
            rate = win_rate(play.judge, texts, [row[:1] for row in answers[a]], [row[1:2] for row in answers[b]])
            tournament[i, j], tournament[j, i] = rate.value, 1 - rate.value
            errors[i, j] = errors[j, i] = rate.standard_error
    base = [row[:2] for row in answers["start"]]
    return StyleGame(
        names=names,
        shares=_shares(counts),
        share_errors=np.std([_shares(counts[:, drawn]) for drawn in drawn_prompts], axis=0, ddof=1),
        responses=int(counts[0].sum()),
        learned=learned,
        nash=nash,
        nash_low=np.minimum(low, nash),
        nash_high=np.maximum(high, nash),
        gaps=gaps,
        errors={which: np.std([g[which] for g in redrawn], axis=0, ddof=1) for which in WHICH},
        table={which: np.r_[gaps[which][0], solution.gaps[which].numpy()] for which in WHICH},
        wins={name: win_rate(play.judge, texts, answers[name], base) for name in names[1:]},
        tournament=tournament,
        tournament_errors=errors,
    )


def figure(style: StyleGame) -> Any:
    """Left the gaps over the table's curves, right the shares of the styles."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    page = Figure(figsize=(10.5, 4), layout="constrained")
    left, right = page.subplots(1, 2)
    times = np.arange(len(style.names) - 1)
    for which, colour, name in zip(WHICH, POLICY_COLOURS, ("last iterate", "mixture"), strict=True):
        label = f"language model, {name}"
        left.errorbar(times, style.gaps[which], style.errors[which], fmt="o-", color=colour, label=label, capsize=2)
        left.plot(times, style.table[which], "--", color=colour, label=f"table, {name}")
    left.set(xlabel="iteration", ylabel="duality gap", title="distance from the Nash, in the style game")
    left.set_ylim(0, None)
    left.legend(fontsize=8)
    looks = label_styles(STYLES)
    for i, label in enumerate((*STYLES, "no style")):
        colour, mark = looks.get(label, looks[NO_LABEL])
        values, errors = style.shares[:-1, i], style.share_errors[:-1, i]
        right.errorbar(times, values, errors, fmt=f"{mark}-", color=colour, label=label, capsize=2)
        if i < len(style.nash):
            at, band = style.nash[i], [[style.nash[i] - style.nash_low[i]], [style.nash_high[i] - style.nash[i]]]
            right.errorbar(times[-1] + 0.35, at, band, fmt="*", color=colour, markersize=12, capsize=2)
    right.set(xlabel="iteration", ylabel="share of the responses", title="what the model writes (star: Nash)")
    right.set_ylim(-0.02, 1)
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return page


def _name(iteration: int) -> str:
    return step_name(iteration) if iteration else "start"


def _stored(folder: Path, prompts: Sequence[str], iterations: int) -> dict[str, list[list[str]]]:
    """The stored responses of the start and of every iterate but the last, for each prompt."""
    responses = {}
    for t in range(iterations):
        texts = texts_by_prompt(shards(folder / _name(t + 1) / "responses", _name(t)))
        responses[_name(t)] = [texts[name] for name in prompts]
    return responses


def _counts(answers: Sequence[Sequence[str]]) -> np.ndarray:
    """How many responses of each prompt have each style, and at the end none, [prompts, styles + 1]."""
    styles = [[style_of(text) for text in row] for row in answers]
    numbers = [[len(STYLES) if style is None else style for style in row] for row in styles]
    return np.stack([np.bincount(row, minlength=len(STYLES) + 1) for row in numbers])


def _mix(counts: np.ndarray) -> np.ndarray:
    """The mix of the styles among the responses that have one, [policies, styles]."""
    styled = counts.sum(1)[:, :-1]
    return styled / styled.sum(1, keepdims=True)


def _gaps(learned: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    mixes = _mix(counts)
    played = np.cumsum(mixes[:-1], 0) / np.arange(1, len(mixes))[:, None]
    centred = learned - 0.5

    def gap(policies: np.ndarray) -> np.ndarray:
        return 2 * (policies @ centred.T).max(1)

    return {"last": gap(mixes), "average": gap(np.concatenate([mixes[:1], played]))}


def _style_duels(folder: Path, prompts: Sequence[str]) -> np.ndarray:
    """Over all stored judgements of a policy against itself, for each prompt and pair of styles the sum of the win
    probabilities and how many there are, [2, prompts, styles, styles]."""
    places = {prompt: n for n, prompt in enumerate(prompts)}
    duels = np.zeros((2, len(prompts), len(STYLES), len(STYLES)))
    for prompt, texts, P in judged(folder):
        styles = [style_of(text) for text in texts]
        for i, a in enumerate(styles):
            for j, b in enumerate(styles):
                if a is not None and b is not None and i != j:
                    duels[:, places[prompt], a, b] += P[i][j], 1
    return duels


def _style_table(duels: np.ndarray) -> np.ndarray:
    """The mean win probability of each pair of styles, [styles, styles]; 1/2 for a pair that never met."""
    total, met = duels.sum(1)
    return np.where(met > 0, total / np.maximum(met, 1), 0.5)


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts.sum(1) / counts.sum((1, 2))[:, None]
