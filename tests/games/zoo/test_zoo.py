"""Every game of the zoo is what it claims: its Nash, its properties, and no duplicate under another name."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games import zoo
from nashward.games.analysis.social_choice import curl_fraction, cyclic_triples
from nashward.games.zoo import generators

SLOW, EDGE = 1e-3, 0.05


def _properties(game: games.PreferenceGame) -> set[str]:
    P, n = game.P, game.sizes[0]
    beats = P > 0.5
    reach = beats.clone()
    for k in range(n):
        reach |= reach[:, k : k + 1] & reach[k]
    ring, twice = bool(reach.diagonal().any()), (beats.double() @ beats.double()) > 0
    equilibrium = games.nash(game)
    unique = bool(equilibrium.unique)
    gap = games.solve(game, games.OptimisticMWU(0.5), 2000, record=[2000]).gaps["last"][-1]
    facts = {
        "cyclic": ring,
        "transitive": not ring and not bool((twice & ~beats).any()),
        "degenerate": bool(((P.amax(0) - P <= 1e-12).sum(0) > 1).any()),
        "near-boundary": unique and bool(equilibrium.policy[equilibrium.support].min() < EDGE),
        "slow": bool(gap > SLOW),
        "several equilibria": not unique,
        "Condorcet winner": bool((beats.sum(1) == n - 1).any()),
        "low rank": bool(torch.linalg.matrix_rank(P - 0.5, atol=1e-9) <= n / 2),
    }
    return {name for name, holds in facts.items() if holds}


@pytest.mark.parametrize("name", zoo.names())
def test_a_game_has_its_properties_and_no_others(name: str) -> None:
    assert _properties(zoo.get(name)) == zoo.GAMES[name].properties
    assert zoo.GAMES[name].source


@pytest.mark.parametrize("name", [name for name in zoo.names() if zoo.GAMES[name].nash])
def test_a_nash_in_fractions_is_one_exactly(name: str) -> None:
    """Against the table in fractions: no action earns more than exactly one half."""
    P, x = zoo.get(name).P.tolist(), zoo.GAMES[name].nash
    assert x is not None
    assert sum(x) == 1
    if name == "bradley_terry":  # no fractions: its best action alone
        assert x[int(zoo.get(name).P.sum(1).argmax())] == 1
        return
    table = [[Fraction(p).limit_denominator(10_000) for p in row] for row in P]
    assert (
        max(abs(float(p) - q) for row, own in zip(table, P, strict=True) for p, q in zip(row, own, strict=True)) < 1e-15
    )
    assert max(sum(p * q for p, q in zip(row, x, strict=True)) for row in table) == Fraction(1, 2)


@pytest.mark.parametrize("name", ["comal_cycle", "cloned_rock", "two_rings", "mujoco_soccer", "disc_rim"])
def test_the_equilibrium_that_is_shown(name: str) -> None:
    entry = zoo.GAMES[name]
    shown = entry.equilibrium()
    if entry.nash is not None:
        assert shown.policy.tolist() == [float(weight) for weight in entry.nash]
    assert float(games.duality_gap(entry.make(), shown.policy)) == float(shown.gap) < 1e-12
    assert bool(shown.unique) is ("several equilibria" not in entry.properties)  # disc_rim: not by arithmetic
    if shown.other is not None:
        assert float(games.duality_gap(entry.make(), shown.other)) < 1e-12
        assert float((shown.other - shown.policy).abs().max()) > 1e-3


def test_there_are_thirty_games_and_three_with_each_property() -> None:
    assert len(zoo.names()) >= 30
    for name in zoo.PROPERTIES:
        assert len(zoo.names(name)) >= 3, name
    with pytest.raises(ValueError, match="no property 'round'; there are: cyclic, "):
        zoo.names("round")  # type: ignore[arg-type]


def test_no_two_are_one_game_relabelled_or_rescaled() -> None:
    """An invariant under relabelling and scaling: the sorted rows of the scaled margins, themselves sorted."""
    seen: dict[tuple, str] = {}
    for name in zoo.names():
        A = zoo.get(name).P - 0.5
        A = A / A.abs().max().clamp_min(1e-300)
        key = tuple(sorted(tuple(row.sort().values.round(decimals=9).tolist()) for row in A))
        spectrum = tuple(torch.linalg.svdvals(A).round(decimals=7).tolist())
        rings = int(cyclic_triples(A / 2 + 0.5)), _fours(A)
        assert (key, spectrum, rings) not in seen, (name, seen[key, spectrum, rings])
        seen[key, spectrum, rings] = name


def _fours(A: torch.Tensor) -> tuple[int, ...]:
    """For every pair, how many actions beat both: this tells regular tournaments apart."""
    beats = (A > 0).double()
    return tuple(sorted((beats.T @ beats).int().flatten().tolist()))


def test_the_sppo_papers_table_is_near_to_bradley_terry() -> None:
    game, choice = zoo.sppo_pairrm(), games.analysis.social_choice
    at = {name: k for k, name in enumerate(game.labels)}
    for winner, loser, rate in (
        ("SPPO Iter3", "Mistral-7B-Instruct-v0.2", 0.781),
        ("SPPO Iter3", "SPPO Iter2", 0.577),
        ("SPPO Iter3", "SPPO Iter1", 0.676),
        ("IPO Iter3", "SPPO Iter3", 0.552),
    ):
        assert float(game.P[at[winner], at[loser]]) == pytest.approx(rate, abs=1e-12)
    assert game.labels[int(choice.condorcet_winner(game.P))] == "IPO Iter3"
    equilibrium = games.nash(game)
    assert equilibrium.policy.tolist() == [float(name == "IPO Iter3") for name in game.labels]
    assert bool(equilibrium.unique)
    logits = (game.P / (1 - game.P)).log()
    assert int(choice.cyclic_triples(game.P)) == 0
    assert 0 < float(choice.curl_fraction(logits)) < 0.0025
    assert 0 < float(choice.curl_fraction(game.P - 0.5)) < 0.005
    scores = choice.hodge(logits)[0]
    assert float((scores.sigmoid() - game.P).abs().max()) == pytest.approx(0.016, abs=5e-4)
    assert float(games.analysis.ratings.bradley_terry(game.P).residual.abs().max()) < 0.02


def test_generators_by_their_definitions() -> None:
    P = generators.blotto(2, 2).P  # layouts 0-2, 1-1, 2-0: everything ties
    assert P.tolist() == [[0.5] * 3] * 3
    assert generators.blotto(5, 3).sizes == (21,)
    assert Counter(generators.blotto(3, 2).labels) == Counter(["0-3", "1-2", "2-1", "3-0"])
    assert generators.dice({"a": (1, 4), "b": (2, 3)}).P[0, 1] == 0.5
    assert torch.linalg.matrix_rank(generators.disc(9, seed=1).P - 0.5) == 2
    assert (generators.disc(2).P == 0.5).all()  # opposite points span no area
    assert torch.allclose(generators.disc(8).P[0], 0.5 + torch.sin(torch.arange(8).double() * torch.pi / 4) / 2)
    assert torch.linalg.matrix_rank(generators.low_rank(9, 4).P - 0.5) == 4
    judges = generators.mixture_of_judges([[0.0, 1.0], [0.0, -1.0]], (3.0, 1.0))
    assert float(judges.P[1, 0]) == pytest.approx(0.75 / (1 + np.exp(-1)) + 0.25 / (1 + np.exp(1)))
    for cycles, share in ((0.0, 0.0), (1.0, 1.0)):
        table = generators.scores_and_cycles(6, cycles).P
        assert float(curl_fraction((table / (1 - table)).log())) == pytest.approx(share, abs=1e-12)
    votes = generators.from_rankings(["AB", "AB", "BA"])
    assert float(votes.P[0, 1]) == pytest.approx(2 / 3)


def test_the_embedding_holds_both_players_policies() -> None:
    """For [[3, -1], [-1, 1]]: p = q = (1/3, 2/3), value 1/3; with shift 2 the border weighs 7/3 to 2."""
    nash = games.nash(generators.embedded([[3, -1], [-1, 1]], shift=2.0)).policy
    value = 1 / 3 + 2
    expected = torch.tensor([1 / 3, 2 / 3, 1 / 3, 2 / 3, value]).double() / (2 + value)
    torch.testing.assert_close(nash, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: generators.embedded([[0.0]], 0.0), "must be positive, the least is 0"),
        (lambda: generators.low_rank(5, 3), "is even and at least 2, got 3"),
        (lambda: generators.scores_and_cycles(cycles=2), "cycles must be in \\[0, 1\\], got 2"),
        (lambda: generators.circulant([0.7]), "from -0.5 to 0.5, got \\[0.7\\]"),
        (lambda: generators.from_rankings(["AB", "AC"]), "must hold A, B, each once; got A, C"),
    ],
)
def test_bad_settings_are_refused_in_one_line(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
