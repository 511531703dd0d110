"""A table of votes as an oracle: counts with a prior, and a fill for the pairs without votes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int

from ...config.fields import check_choice
from ..embedding import skew_product
from ..protocol import Pairs, PreferenceOracle
from .votes import Vote, read_votes

Fill = Literal["missing", "half", "bradley-terry", "low-rank"]

RIDGE = 0.1  # of the low-rank fill


class VoteTable(PreferenceOracle):
    """Votes as an oracle: P(a beats b) = (prior + wins) / (2 prior + n).

    That is the mean of the posterior under a Beta(prior, prior); 1/2 is Jeffreys' prior, and 0 gives the raw shares,
    whose logits may be infinite. The votes of all annotators and of both orders of a pair are added, each times its
    weight. Texts have to be equal to the character.

    ``fill`` decides on a pair without votes:

    - "missing": NaN.
    - "half": 1/2, also where a text or the prompt is unknown.
    - "bradley-terry": sigmoid(s_i - s_j), with the prompt's scores s at the maximum of
      sum over pairs with votes of (prior + wins_ij) log sigmoid(s_i - s_j) + (prior + wins_ji) log sigmoid(s_j - s_i),
      a concave function (Bradley and Terry 1952). Only where votes connect the two texts; elsewhere missing.
    - "low-rank": sigmoid(<R v_i, v_j>) with v_i in R^2 and R the turn by a right angle, as in ``EmbeddingOracle``: the
      prompt's table of logits as a skew matrix of rank 2, which holds any score, v = (s, 1), and also a cycle. The
      v are at a minimum of ``sum w_ij (logit_ij - <R v_i, v_j>)^2 + RIDGE sum_i |v_i|^2`` over pairs with votes, with
      w_ij = (2 prior + n_ij) P_ij P_ji, the inverse of the logit's variance, found by L-BFGS from the two leading
      singular vectors of the table that has 0 where there are no votes. Only where a walk of an odd number of votes
      leads from one text to the other; elsewhere missing. (Where all walks are even, the mirror image of one half of
      the texts fits the votes as well, and turns the pair's sign around.)

    Args:
        votes: ``Vote``s, or rows as ``read_votes`` takes them; may be empty.
        prior: at least 0; the two fits need it above 0.
        fill: see above.
        name: shown in reports.

    Raises:
        ValueError: the prior is out of its range, the fill is unknown, or a row is wrong.

    Example:
        >>> from nashward.llm.oracles import preference_matrices
        >>> table = VoteTable([Vote("p", "x", "y", wins=3, n=4), Vote("p", "y", "x", wins=0, n=1)])
        >>> preference_matrices(table, ["p"], [["x", "y"]])[0].P.round(3).tolist()
        [[0.5, 0.75], [0.25, 0.5]]
    """

    symmetric = True

    def __init__(self, votes: Iterable[Any], prior: float = 0.5, fill: Fill = "missing", name: str = "votes") -> None:
        check_choice("fill", fill, Fill)
        fitted = fill in ("bradley-terry", "low-rank")
        if not math.isfinite(prior) or prior < 0 or (fitted and prior == 0):
            raise NashwardError(f"prior is {prior!r}; expected a number {'above' if fitted else 'of at least'} 0")
        self.prior, self.fill, self.name = float(prior), fill, name
        counts: dict[str, dict[tuple[str, str], list[Vote]]] = {}
        rows = list(votes)
        for vote in read_votes(rows) if rows else ():
            if vote.a != vote.b and vote.weight > 0:  # equal texts have 1/2 for every oracle
                pair = (vote.a, vote.b) if vote.a < vote.b else (vote.b, vote.a)
                counts.setdefault(vote.prompt, {}).setdefault(pair, []).append(vote)
        self._games = {prompt: _Game.of(votes_of, self.prior) for prompt, votes_of in counts.items()}
        self._filled: dict[str, np.ndarray] = {}

    @classmethod
    def from_file(cls, path: str | Path, prior: float = 0.5, fill: Fill = "missing") -> VoteTable:
        """The votes of a file, see ``read_votes``.

        Raises:
            FileNotFoundError, ValueError: as ``read_votes`` and the class.
        """
        return cls(read_votes(path), prior, fill, name=Path(path).name)

    def knows(self, prompt: str) -> bool:
        """Whether there are votes on responses to this prompt, or a fill of 1/2 in their place."""
        return self.fill == "half" or prompt in self._games

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        digest = blake2b(json.dumps(["votes", self.prior, self.fill, RIDGE]).encode(), digest_size=16)
        for prompt, game in sorted(self._games.items()):
            content = [
                prompt,
                list(game.texts),
                game.i.tolist(),
                game.j.tolist(),
                game.won.tolist(),
                game.lost.tolist(),
            ]
            digest.update(json.dumps(content).encode())
        return digest.hexdigest()

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        return [
            np.array([self._logit(prompt, texts[i], texts[j]) for i, j in prompt_pairs])
            for prompt, texts, prompt_pairs in zip(prompts, candidates, pairs, strict=True)
        ]

    def _logit(self, prompt: str, a: str, b: str) -> float:
        unknown = 0.0 if self.fill == "half" or a == b else float("nan")
        game = self._games.get(prompt)
        if game is None or a not in game.texts or b not in game.texts or a == b:
            return unknown
        i, j = game.texts[a], game.texts[b]
        if (i, j) in game.known:
            return game.known[i, j]
        if self.fill not in FITS:
            return unknown
        if prompt not in self._filled:
            self._filled[prompt] = FITS[self.fill](game)
        return float(self._filled[prompt][i, j])


@dataclass(frozen=True)
class _Game:
    """One prompt's votes: E pairs i < j of its texts, ``[E]`` each, with the prior counted in.

    The texts are sorted, so that the order of the votes changes no bit of a logit.
    """

    texts: dict[str, int]
    i: Int[np.ndarray, " E"]
    j: Int[np.ndarray, " E"]
    won: Float[np.ndarray, " E"]  # prior + wins of i over j
    lost: Float[np.ndarray, " E"]  # prior + wins of j over i
    known: dict[tuple[int, int], float]  # the logit of both orders of each pair

    @classmethod
    def of(cls, votes: dict[tuple[str, str], list[Vote]], prior: float) -> _Game:
        texts = {text: k for k, text in enumerate(sorted({text for pair in votes for text in pair}))}
        pairs = sorted(votes)
        # fsum rounds correctly, so its result does not depend on the order
        won, lost = (
            np.array([prior + math.fsum(_wins(vote, pair[side]) for vote in votes[pair]) for pair in pairs])
            for side in (0, 1)
        )
        i, j = (np.array([texts[pair[side]] for pair in pairs]) for side in (0, 1))
        with np.errstate(divide="ignore"):
            logits = np.log(won) - np.log(lost)
        known: dict[tuple[int, int], float] = {}
        for row, column, logit in zip(i.tolist(), j.tolist(), logits.tolist(), strict=True):
            known[row, column], known[column, row] = logit, -logit
        return cls(texts, i, j, won, lost, known)


def _wins(vote: Vote, text: str) -> float:
    return vote.weight * (vote.wins if vote.a == text else vote.n - vote.wins)


def _bradley_terry(game: _Game) -> Float[np.ndarray, "K K"]:
    """s_i - s_j ``[K, K]``; NaN between texts that no votes connect."""
    size = len(game.texts)
    edges = coo_array((np.ones(len(game.i)), (game.i, game.j)), shape=(size, size))
    part = connected_components(edges, directed=False)[1]
    together = part[:, None] == part
    n = game.won + game.lost

    def loss(s: np.ndarray) -> tuple[float, np.ndarray]:
        gap = s[game.i] - s[game.j]
        value = game.won @ np.logaddexp(0.0, -gap) + game.lost @ np.logaddexp(0.0, gap)
        slope = n * expit(gap) - game.won
        return value, np.bincount(game.i, slope, size) - np.bincount(game.j, slope, size)

    # Newton's steps, halved until they descend. The gradient sums to 0 over each connected part and the Hessian is
    # singular along its constant; ``together`` makes it regular and leaves the step as it is.
    s = np.zeros(size)
    value, gradient = loss(s)
    for _ in range(200):
        gap = s[game.i] - s[game.j]
        hessian = np.zeros((size, size))
        hessian[game.i, game.j] = hessian[game.j, game.i] = -n * expit(gap) * expit(-gap)
        hessian[np.diag_indices(size)] = -hessian.sum(1)
        step = np.linalg.solve(hessian + together, gradient)
        scale = 1.0
        while scale > 1e-10 and loss(s - scale * step)[0] > value - 1e-4 * scale * (gradient @ step):
            scale /= 2
        s = s - scale * step
        value, gradient = loss(s)
        if scale * np.abs(step).max() < 1e-12 or scale <= 1e-10:
            break
    return np.where(together, s[:, None] - s, np.nan)


def _low_rank(game: _Game) -> Float[np.ndarray, "K K"]:
    """<R v_i, v_j> ``[K, K]``; NaN between texts that no odd walk connects."""
    size = len(game.texts)
    logits = np.log(game.won) - np.log(game.lost)
    weights = game.won * game.lost / (game.won + game.lost)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        v = flat.reshape(size, 2)
        a, b = v[game.i], v[game.j]
        gap = skew_product(a, b) - logits
        slope = (2.0 * weights * gap)[:, None] * np.concatenate([b[:, 1:], -b[:, :1], -a[:, 1:], a[:, :1]], 1)
        gradient = 2.0 * RIDGE * v
        np.add.at(gradient, game.i, slope[:, :2])
        np.add.at(gradient, game.j, slope[:, 2:])
        return float(weights @ gap**2 + RIDGE * np.sum(v**2)), gradient.ravel()

    table = np.zeros((size, size))
    table[game.i, game.j], table[game.j, game.i] = logits, -logits
    # i table is Hermitian; with its leading eigenvector x + i y, the leading plane is 2 sigma (y_i x_j - x_i y_j)
    values, vectors = np.linalg.eigh(1j * table)
    start = np.sqrt(2.0 * values[-1]) * np.stack([vectors[:, -1].imag, vectors[:, -1].real], 1)
    fit = minimize(
        loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-10, "ftol": 0}
    )
    v = fit.x.reshape(size, 2)
    # the double cover: text i is there twice, and a vote leads from one copy to the other one's
    edges = coo_array(
        (np.ones(2 * len(game.i)), (np.r_[game.i, game.j], size + np.r_[game.j, game.i])), (2 * size,) * 2
    )
    part = connected_components(edges, directed=False)[1]
    return np.where(part[:size, None] == part[size:], skew_product(v[:, None], v[None]), np.nan)


FITS: dict[str, Callable[[_Game], np.ndarray]] = {"bradley-terry": _bradley_terry, "low-rank": _low_rank}
