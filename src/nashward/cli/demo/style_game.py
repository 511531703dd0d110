"""What the demo's run did to the styles of the responses: shares, duality gaps with errors, win rates, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nashward import games
from nashward.games import plots
from nashward.llm import Mixture
from nashward.llm.evaluation import WinRate, win_rate
from nashward.llm.pocket.styles import PLANTED, STYLES, style_of
from nashward.llm.run.selfplay import Run, SelfPlay
from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder

RESAMPLES = 400
WHICH = ("last", "average")


@dataclass(frozen=True)
class StyleGame:
    """The style game of a run of T iterations. Policies are the start, the T iterates, and the mixture.

    Attributes:
        names: of the policies, [T + 2].
        shares: of each style, and at the end of no style, [T + 2, styles + 1].
        responses: how many there are of each policy.
        learned: win probabilities of the styles as the oracle judged them, [styles, styles].
        gaps, errors: duality gaps of the last iterate and of the mixture after t = 0 .. T iterations, [T + 1], and
            their standard errors (bootstrap over prompts), in the learned table.
        table: the same gaps of the same solver on that table, from the start's own mix.
        wins: each policy but the start against the start.
        tournament: each policy against each, one response a prompt, [T + 2, T + 2].
    """

    names: list[str]
    shares: np.ndarray
    responses: int
    learned: np.ndarray
    gaps: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    table: dict[str, np.ndarray]
    wins: dict[str, WinRate]
    tournament: np.ndarray

    @property
    def game(self) -> games.PreferenceGame:
        return games.PreferenceGame(self.learned, labels=STYLES)

    def numbers(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {
            "names": self.names,
            "styles": [*STYLES, "no style"],
            "shares": self.shares.tolist(),
            "responses": self.responses,
            "learned": self.learned.tolist(),
            "planted": PLANTED.tolist(),
            **{key: {k: v.tolist() for k, v in getattr(self, key).items()} for key in ("gaps", "errors", "table")},
            "wins": {name: asdict(rate) for name, rate in self.wins.items()},
            "tournament": self.tournament.tolist(),
        }


def measure(play: SelfPlay, run: Run, seed: int) -> StyleGame:
    """Sample the last iterate and the mixture, read what is stored of the others, and measure all of them."""
    assert run.prompts is not None
    texts = [prompt.text for prompt in run.prompts.kept]
    answers = _stored(run.folder, [prompt.id for prompt in run.prompts.kept], play.config.iterations)
    ids = [play.model.encode(prompt) for prompt in run.prompts.kept]
    for name, policy in ((_name(play.config.iterations), Mixture(((run.last, 1.0),))), ("mixture", run.average)):
        drawn = policy.sample(play.model, ids, play.config.responses, play.sampling, seed + 1)
        answers[name] = [[answer.text for answer in row] for row in drawn]
    counts = np.stack([_counts(rows) for rows in answers.values()])  # [policies, prompts, styles + 1]
    learned = _style_table(run.folder)
    gaps = _gaps(learned, counts[:-1])
    rng = np.random.default_rng(seed)
    redrawn = [_gaps(learned, counts[:-1, rng.integers(len(texts), size=len(texts))]) for _ in range(RESAMPLES)]
    solution = games.solve(
        games.PreferenceGame(learned), play.solver, iterations=play.config.iterations, start=_mix(counts[:1])[0],
        record=range(1, play.config.iterations + 1),
    )  # fmt: skip
    names = list(answers)
    tournament = np.full((len(names), len(names)), 0.5)
    for i, a in enumerate(names):
        for j, b in enumerate(names[:i]):
            rate = win_rate(play.judge, texts, [row[:1] for row in answers[a]], [row[1:2] for row in answers[b]])
            tournament[i, j], tournament[j, i] = rate.value, 1 - rate.value
    base = [row[:2] for row in answers["start"]]
    return StyleGame(
        names=names,
        shares=counts.sum(1) / counts.sum((1, 2))[:, None],
        responses=int(counts[0].sum()),
        learned=learned,
        gaps=gaps,
        errors={which: np.std([g[which] for g in redrawn], axis=0, ddof=1) for which in WHICH},
        table={which: np.r_[gaps[which][0], solution.gaps[which].numpy()] for which in WHICH},
        wins={name: win_rate(play.judge, texts, answers[name], base) for name in names[1:]},
        tournament=tournament,
    )


def figure(style: StyleGame) -> Any:
    """Left the shares of the styles, right the gaps over the table's curves."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(10.5, 4), layout="constrained")
    left, right = page.subplots(1, 2)
    shares, nash = style.shares[:-1], games.nash(style.game).policy
    times = np.arange(len(shares))
    for i, label in enumerate((*STYLES, "no style")):
        left.plot(times, shares[:, i], "o-", color=plots.COLOURS[i], label=label)
        if i < len(nash):
            left.plot(times[-1] + 0.35, float(nash[i]), "*", color=plots.COLOURS[i], markersize=12)
    left.set(xlabel="iteration", ylabel="share of the responses", title="style (star: Nash)", ylim=(-0.02, 1))
    left.legend(fontsize=8)
    for which, colour, name in zip(WHICH, plots.COLOURS, ("last iterate", "mixture"), strict=False):
        label = f"language model, {name}"
        right.errorbar(times, style.gaps[which], style.errors[which], fmt="o-", color=colour, label=label, capsize=2)
        right.plot(times, style.table[which], "--", color=colour, label=f"table, {name}")
    right.set(
        xlabel="iteration", ylabel="duality gap (bars: standard error)", title="in the style game", ylim=(0, None)
    )
    right.legend(fontsize=8)
    return page


def _name(iteration: int) -> str:
    return f"iteration-{iteration:02d}" if iteration else "start"


def _stored(folder: Path, prompts: Sequence[str], iterations: int) -> dict[str, list[list[str]]]:
    """The stored responses of the start and of every iterate but the last, for each prompt."""
    responses = {}
    for t in range(iterations):
        sets: dict[str, list[str]] = {name: [] for name in prompts}
        for file in sorted((folder / _name(t + 1) / "responses").glob(f"{_name(t)}.*.parquet")):
            for row in read_shard(file):
                sets[row["prompt"]].append(row["text"])
        responses[_name(t)] = list(sets.values())
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


def _style_table(folder: Path) -> np.ndarray:
    """The mean win probability of each pair of styles, over all stored judgements of a policy against itself."""
    total, weight = np.zeros((len(STYLES),) * 2), np.zeros((len(STYLES),) * 2)
    for stage in RunFolder(folder).steps():
        for file in sorted((stage / "judgements").glob("*.parquet")):
            if "~" in file.name:
                continue
            texts: dict[str, list[str]] = {}
            policy, number, *_ = file.name.split(".")
            (shard,) = shards(stage / "responses", policy, int(number))
            for row in read_shard(shard):
                texts.setdefault(row["prompt"], []).append(row["text"])
            for row in read_shard(file):
                styles = [style_of(text) for text in texts[row["prompt"]]]
                for i, a in enumerate(styles):
                    for j, b in enumerate(styles):
                        if a is not None and b is not None and i != j:
                            total[a, b] += row["P"][i][j]
                            weight[a, b] += 1
    return np.where(weight > 0, total / np.maximum(weight, 1), 0.5)
